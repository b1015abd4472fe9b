//! Row 6: settings, from one table.
//!
//! ```text
//!   flags  >  environment  >  file  >  defaults            the first that says something counts
//! ```
//!
//! [`KEYS`] is the table. Names, environment names, defaults, the shipped file, the table of the README
//! and the words of an error all come from it; a setting that is not in it does not exist.
//!
//! Invariants:
//! - Reading is total. Any bytes give a [`Config`] or [`Problems`], never a panic, within bounded memory.
//! - All problems are told at once, each with where it is, why, and what to write instead. A wrong value
//!   is a problem even where a stronger source hides it.
//! - Nothing is guessed: an unknown section or key is refused, with the nearest one that exists.
//! - No key takes a secret. A key that ends in `_file` names the file that has one, or, as
//!   `credential:NAME`, what systemd hands over in `$CREDENTIALS_DIRECTORY`.
//! - A relative path in the file starts at the folder of the file; one of a flag, of a variable or of a
//!   default starts at the working directory.
//!
//! This module opens no file: `boot` reads them and implements [`Files`]. It is the only one that reads
//! the environment, once, into an [`Environment`].

mod address;
mod checks;
mod depth;
mod environment;
mod file;
mod keys;
mod kind;
mod load;
mod loaded;
mod nearest;
mod problem;
mod shipped;

pub use address::{BadListen, Listen};
pub use checks::check_secret_file;
pub use environment::Environment;
pub use keys::{Family, KEYS, Key, SECTIONS, Section};
pub use load::{FileText, Files, Permissions, Sources, find, load};
pub use loaded::{Change, Effective, Loaded, differences};
pub use problem::{Error, Origin, Problem, Problems};
pub use shipped::{markdown_table, shipped};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::amount::Amount;
use crate::base::limits::CACHE_BUDGETS_PERCENT_MAX;
use crate::base::name::Namespace;
use crate::base::quota::Quotas;
use crate::cache::entry::Life;
use crate::queue::calendar::Zone;
use crate::queue::job::{Backoff, Rules};

/// Every setting, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How the server is reached and where it keeps things.
    pub server: Server,
    /// The certificate, if the server encrypts by itself.
    pub tls: Option<Tls>,
    /// What tenants may have, by the name of their tier. There is always one named `standard`.
    pub tiers: BTreeMap<String, Quotas>,
    /// The cache.
    pub cache: Cache,
    /// How jobs of a type are tried: those that are built in, and others.
    pub queue_types: BTreeMap<String, JobTypeConfig>,
    /// Finished jobs that can be searched.
    pub history: HistoryConfig,
    /// Time series.
    pub series: SeriesConfig,
    /// This machine.
    pub host: HostConfig,
    /// What is logged, and how.
    pub log: Log,
}

/// How the server is reached and where it keeps things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Where it listens for TCP.
    pub listen: Listen,
    /// The Unix socket, if there is one.
    pub socket: Option<PathBuf>,
    /// Names and addresses, besides those of the machine itself, by which clients may call it. Names
    /// are in lower case, addresses in their canonical form without brackets.
    pub hosts: Vec<String>,
    /// Whether a proxy in front of it encrypts.
    pub behind_tls_proxy: bool,
    /// Whether `/metrics` asks for no token.
    pub metrics_public: bool,
    /// Connections at a time.
    pub max_connections: usize,
    /// The time zone of schedules that name none.
    pub timezone: Zone,
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The chain, in PEM.
    pub cert_file: PathBuf,
    /// The private key, in PEM. To be checked with [`check_secret_file`].
    pub key_file: PathBuf,
}

/// The cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Whether anything is cached; kept namespaces and locks do not depend on it.
    pub enabled: bool,
    /// For entries that may be evicted; a part is one of what the process may use.
    pub budget: Amount,
    /// For entries that are never evicted; a part is one of what the process may use.
    pub kept_budget: Amount,
    /// Whether what may be evicted is stored at an end in order.
    pub snapshot: bool,
    /// The namespaces about which something is said. The others are as the default of this.
    pub namespaces: BTreeMap<Namespace, NamespaceSettings>,
    /// How long values of a class are served: those that are built in, and others. Each has a ttl.
    pub classes: BTreeMap<String, Life>,
}

/// A namespace of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceSettings {
    /// Whether it is on disk and never evicted.
    pub keep: bool,
    /// The most that it may hold for one tenant; a part is one of the budget it belongs to.
    pub share: Amount,
}

impl Default for NamespaceSettings {
    fn default() -> NamespaceSettings {
        NamespaceSettings { keep: false, share: Amount::WHOLE }
    }
}

impl Cache {
    /// Keeps what `started` keeps, and nothing else: that changes with a restart only.
    pub fn keep_as(&mut self, started: &Cache) {
        for settings in self.namespaces.values_mut() {
            settings.keep = false;
        }
        for (name, _) in started.namespaces.iter().filter(|(_, settings)| settings.keep) {
            self.namespaces.entry(name.clone()).or_default().keep = true;
        }
    }

    /// What to say when the budgets leave too little of `memory` to everything else.
    pub fn warning(&self, memory: u64) -> Option<String> {
        let ordinary = if self.enabled { self.budget.of(memory) } else { 0 };
        let both = ordinary.saturating_add(self.kept_budget.of(memory));
        let most = u128::from(memory) * u128::from(CACHE_BUDGETS_PERCENT_MAX) / 100;
        let mib = |bytes: u64| bytes >> 20;
        (most < u128::from(both)).then(|| {
            format!(
                "cache.budget and cache.kept_budget are {} MiB together, more than \
                 {CACHE_BUDGETS_PERCENT_MAX} % of the {} MiB that the process may use: it may be \
                 ended for want of memory",
                mib(both),
                mib(memory)
            )
        })
    }
}

/// How jobs of a type are tried, where neither the job nor its queue says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobTypeConfig {
    /// Errors after which a job is given up.
    pub max_tries: Option<u32>,
    /// How long one attempt may run.
    pub timeout: Option<Duration>,
    /// How long to wait after an error.
    pub backoff: Option<BackoffConfig>,
}

impl JobTypeConfig {
    /// The same in the words of the queues.
    pub fn rules(&self) -> Rules {
        Rules {
            max_tries: self.max_tries,
            max_crashes: None,
            timeout: self.timeout,
            backoff: self.backoff.as_ref().map(BackoffConfig::backoff),
        }
    }
}

/// How long to wait after an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackoffConfig {
    /// So long after the first, and twice as long with each that follows.
    Base(Duration),
    /// One after the other; the last again and again.
    List(Vec<Duration>),
}

impl BackoffConfig {
    /// The same in the words of the queues.
    pub fn backoff(&self) -> Backoff {
        match self {
            BackoffConfig::Base(base) => Backoff::growing(*base),
            BackoffConfig::List(waits) => Backoff::List(waits.clone()),
        }
    }
}

/// Finished jobs that can be searched: what comes first lets go of the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryConfig {
    /// The most of them.
    pub rows: u64,
    /// The most space that they take.
    pub bytes: u64,
    /// How long each is kept.
    pub age: Duration,
}

/// Time series: for how long samples and points are kept, and in how much space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeriesConfig {
    /// The most space that all of it takes.
    pub budget: u64,
    /// How long samples are kept.
    pub raw: Duration,
    /// How long points of five minutes are.
    pub r5m: Duration,
    /// How long points of an hour are.
    pub r1h: Duration,
    /// How long points of a day are.
    pub r1d: Duration,
    /// Metrics of which percentiles are kept.
    pub sketch: Vec<String>,
}

/// What the health of this machine depends on beside itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostConfig {
    /// Units of systemd whose failure is a warning.
    pub units: Vec<String>,
    /// Units of systemd whose failure is critical.
    pub critical_units: Vec<String>,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important message that is written.
    pub level: Level,
    /// How it is written.
    pub format: Format,
}

/// How important a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A person must act.
    Error,
    /// Degraded, but healing.
    Warn,
    /// The life of the process and of its configuration.
    Info,
    /// What happens with each request.
    Debug,
    /// What happens within a request.
    Trace,
}

impl Level {
    /// Every level, the most important first.
    pub const ALL: [Level; 5] =
        [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

    /// How it is spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 2] = [Format::Text, Format::Json];

    /// How it is spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
        }
    }
}

#[cfg(test)]
mod tests;
