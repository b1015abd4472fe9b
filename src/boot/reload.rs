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
use crate::app::past::Keep;
use crate::app::series::SeriesSettings;
use crate::app::{App, CacheSettings, Settings};
use crate::base::amount::Amount;
use crate::base::limits::{CACHE_BUDGET_BYTES_MIN, CACHE_SHARE_BYTES_MIN};
use crate::config::{self, Change, Config, Loaded};
use crate::http::accept::Tls;
use crate::http::host::Hosts;
use crate::http::{self, Edge};
use crate::io::memory::Memory;
use crate::series::expire;

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
pub(super) fn app_settings(config: &Config, memory: Memory) -> Settings {
    Settings {
        tiers: config.tiers.clone(),
        cache: cache_settings(&config.cache, memory.bytes),
        job_types: config
            .queue_types
            .iter()
            .map(|(name, its)| (name.clone(), its.rules()))
            .collect(),
        history: history(&config.history),
        series: series(&config.series),
        units: [config.host.units.clone(), config.host.critical_units.clone()],
        timezone: config.server.timezone.clone(),
    }
}

fn history(config: &config::HistoryConfig) -> Keep {
    Keep { rows: config.rows, bytes: config.bytes, age: config.age }
}

fn series(config: &config::SeriesConfig) -> SeriesSettings {
    let keep = expire::Keep {
        raw: config.raw,
        r5m: config.r5m,
        r1h: config.r1h,
        r1d: config.r1d,
        budget: config.budget,
    };
    SeriesSettings { keep, sketch: config.sketch.clone() }
}

/// The cache's part: parts of `memory` become bytes, and parts of a budget, too.
fn cache_settings(cache: &config::Cache, memory: u64) -> CacheSettings {
    // A part of little is little; less than this is no cache.
    let budget = |amount: Amount| amount.of(memory).max(CACHE_BUDGET_BYTES_MIN);
    let (ordinary, kept) = (budget(cache.budget), budget(cache.kept_budget));
    let namespaces = cache.namespaces.iter();
    let caps = namespaces.clone().filter_map(|(name, settings)| {
        let whole = if settings.keep { kept } else { ordinary };
        let cap = settings.share.of(whole).max(CACHE_SHARE_BYTES_MIN);
        (cap < whole).then(|| (name.clone(), cap))
    });
    let kept_names = namespaces.clone().filter(|(_, settings)| settings.keep);
    CacheSettings {
        enabled: cache.enabled,
        budget: ordinary,
        kept_budget: kept,
        caps: caps.collect(),
        kept: kept_names.map(|(name, _)| name.clone()).collect(),
        classes: cache.classes.clone(),
        snapshot: cache.snapshot,
    }
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
        let mut config = new.config.clone();
        // What is kept, the time zone, and the name we listen on, which is part of the hosts, change with a
        // restart only.
        config.cache.keep_as(&self.started.config.cache);
        config.server.listen = self.started.config.server.listen.clone();
        config.server.timezone = self.started.config.server.timezone.clone();
        // Whoever changed the limit of the service wants the cache to follow.
        self.app.set_settings(app_settings(&config, Memory::of_process()));
        if let Some(edge) = self.edge.get().and_then(Weak::upgrade) {
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

#[cfg(test)]
mod tests {
    use super::{cache_settings, series};
    use crate::app::series::SeriesSettings;
    use crate::base::limits::{CACHE_BUDGET_BYTES_MIN, CACHE_SHARE_BYTES_MIN};
    use crate::base::name::Namespace;
    use crate::config::{Cache, Environment, Sources, load};
    use std::collections::BTreeSet;

    fn cache(text: &str) -> Cache {
        let environment = Environment::default();
        let file = Some(("/h.toml".into(), text.to_owned()));
        load(&Sources { flags: Vec::new(), environment: &environment, file }).unwrap().config.cache
    }

    fn name(text: &str) -> Namespace {
        Namespace::parse(text).unwrap()
    }

    #[test]
    fn parts_of_the_memory_become_bytes() {
        let settings = cache_settings(&cache(""), 1000 << 20);
        assert_eq!((settings.budget, settings.kept_budget), (250 << 20, 100 << 20));
        assert!(settings.enabled && !settings.snapshot && settings.classes.len() == 10);
        assert!(settings.caps.is_empty() && settings.kept.is_empty());
        let little = cache_settings(&cache(""), 0);
        assert_eq!(little.budget, CACHE_BUDGET_BYTES_MIN);
    }

    #[test]
    fn the_series_have_what_the_table_says() {
        let environment = Environment::default();
        let sources = Sources { flags: Vec::new(), environment: &environment, file: None };
        let config = load(&sources).unwrap().config;
        assert_eq!(series(&config.series), SeriesSettings::default());
    }

    #[test]
    fn a_share_is_one_of_the_budget_that_the_namespace_belongs_to() {
        let text = "[cache]\nbudget = '400MiB'\nkept_budget = '50MiB'\n\
                    [cache.namespace.a]\nshare = '10%'\n\
                    [cache.namespace.b]\nshare = '10%'\nkeep = true\n\
                    [cache.namespace.c]\nshare = '1GiB'\n\
                    [cache.namespace.d]\nshare = '0.01%'\nkeep = true\n";
        let settings = cache_settings(&cache(text), 1000 << 20);
        let caps = [
            (name("a"), 40 << 20),
            (name("b"), 5 << 20),
            // More than there is, is no cap; and less than this would hold nothing.
            (name("d"), CACHE_SHARE_BYTES_MIN),
        ];
        assert_eq!(settings.caps, caps.into());
        assert_eq!(settings.kept, BTreeSet::from([name("b"), name("d")]));
    }
}
