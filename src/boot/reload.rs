//! Reading the settings again while the server runs: all of them or none.
//!
//! Everything that can fail is done before anything is changed. What cannot change without a restart is
//! told, as often as it is asked, until there is a restart.

use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use super::logs::LogLevel;
use super::settings;
use super::tls;
use crate::app::outside::{Reload, ReloadRefused, Reloaded, SettingChange};
use crate::app::{App, Settings};
use crate::config::{self, Change, Config, Loaded};
use crate::http::accept::Tls;
use crate::http::host::Hosts;
use crate::http::{self, Edge};

/// How a setting that is not there is told.
const NOTHING: &str = "(none)";
/// Tenants of a lost tier that are named.
const NAMED_MAX: usize = 5;

/// What a reload works on.
pub(super) struct Reloader {
    pub(super) origin: settings::Settings,
    pub(super) app: Arc<App>,
    pub(super) edge: OnceLock<Weak<Edge>>,
    pub(super) tls: Tls,
    pub(super) level: LogLevel,
    /// As the process was started: what needs a restart is compared with this.
    pub(super) started: Loaded,
    /// As it is in force.
    pub(super) current: Mutex<Loaded>,
}

/// The application's part of the settings.
pub(super) fn app_settings(config: &Config) -> Settings {
    Settings { tiers: config.tiers.clone() }
}

/// The interface's part of the settings.
pub(super) fn http_settings(config: &Config) -> http::Settings {
    let listen = std::iter::once(config.server.listen.host());
    let hosts = config.server.hosts.iter().map(String::as_str).chain(listen);
    http::Settings { hosts: Hosts::new(hosts), metrics_public: config.server.metrics_public }
}

fn told(changes: &[Change], live: bool) -> Vec<SettingChange> {
    let wanted = changes.iter().filter(|change| change.live == live);
    wanted
        .map(|change| SettingChange {
            key: change.key.clone(),
            from: change.from.clone().unwrap_or_else(|| NOTHING.to_owned()),
            to: change.to.clone().unwrap_or_else(|| NOTHING.to_owned()),
        })
        .collect()
}

impl Reloader {
    /// Tiers that tenants are in and the new settings do not have.
    fn lost_tiers(&self, config: &Config) -> Vec<String> {
        let known = |tier: &str| config.tiers.contains_key(tier);
        let lost = self.app.directory().tenants_without_tier(known, NAMED_MAX);
        // A tier that was missing before is no reason to refuse something else.
        let before = self.app.settings();
        let lost = lost.iter().filter(|tenant| before.tiers.contains_key(&*tenant.tier));
        lost.map(|tenant| {
            let (name, tier) = (&tenant.name, &tenant.tier);
            format!(
                "tenant {name} is of tier {tier}, which is gone from the configuration; keep \
                 [tier.{tier}], or first: holdfast tenant set {name} --tier standard"
            )
        })
        .collect()
    }
}

impl Reload for Reloader {
    fn reload(&self) -> Result<Reloaded, ReloadRefused> {
        // One at a time.
        let mut current = self.current.lock();
        let loaded = self.origin.load();
        let (new, _) = loaded.map_err(|problems| ReloadRefused(problems.lines()))?;
        let lost = self.lost_tiers(&new.config);
        if !lost.is_empty() {
            return Err(ReloadRefused(lost));
        }
        // The paths need a restart, what stands in the files does not.
        let acceptor = match &self.started.config.tls {
            Some(files) => {
                Some(tls::load(files).map_err(|error| ReloadRefused(vec![error.to_string()]))?)
            }
            None => None,
        };

        let changes = config::differences(&current, &new);
        let since_start = config::differences(&self.started, &new);
        *self.tls.write() = acceptor;
        self.app.set_settings(app_settings(&new.config));
        if let Some(edge) = self.edge.get().and_then(Weak::upgrade) {
            // The name we listen on is part of the hosts, and changes with a restart only.
            let mut config = new.config.clone();
            config.server.listen = self.started.config.server.listen.clone();
            edge.set_settings(http_settings(&config));
        }
        self.level.set(new.config.log.level);
        let done = Reloaded {
            changed: told(&changes, true),
            needs_restart: told(&since_start, false),
            warnings: new.warnings.clone(),
        };
        *current = new;
        for change in &done.changed {
            tracing::info!(key = change.key, from = change.from, to = change.to, "setting changed");
        }
        for change in &done.needs_restart {
            tracing::warn!(key = change.key, to = change.to, "setting needs a restart");
        }
        Ok(done)
    }
}
