//! The table of settings. Add a row here and a field to the configuration; nothing else.

use std::fmt;
use std::time::Duration;

use super::environment::Environment;
use super::kind::{Context, Draft, Given, Kind};
use super::nearest::nearest;
use crate::base::limits::{
    CACHE_BUDGET_BYTES_MIN, CLASSES_MAX, CONFIG_NAMESPACES_MAX, CONNECTIONS_MAX, CONNECTIONS_MIN,
    DURATION_MAX, HISTORY_AGE_MAX, HISTORY_AGE_MIN, HISTORY_BYTES_MIN, JOB_TYPE_BYTES_MAX,
    QUEUE_TYPES_CONFIG_MAX, SERIES_BUDGET_BYTES_MIN, SERIES_RAW_AGE_MIN, TIERS_MAX,
};
use crate::base::name::{BadName, NameProblem, Namespace, TenantName};
use crate::base::quota::Quota;

/// A part of the file with a name.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// How it is spelled in brackets.
    pub name: &'static str,
    /// What is set in it, in lines of the shipped file.
    pub doc: &'static str,
}

/// A setting.
pub struct Key {
    /// The section that it stands in; `tier.<name>` stands for one section per tier, and so on.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// The variable that sets it, if one does.
    pub environment: Option<&'static str>,
    /// What counts if nobody says anything; spelled as in a variable.
    pub default: &'static str,
    /// Whether a reload applies a change while the server runs.
    pub live: bool,
    /// What it does, for people who run one server: lines of the shipped file.
    pub doc: &'static str,
    /// A value that makes sense; spelled as in a variable.
    pub example: &'static str,
    pub(super) kind: Kind,
}

/// Sections of which there is one per name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// What a tenant may have.
    Tier,
    /// A namespace of the cache.
    Namespace,
    /// How long values of the cache are served.
    Class,
    /// How often jobs of a type are tried, and for how long.
    JobType,
}

/// The tier that exists without being configured.
pub(super) const STANDARD: &str = "standard";

/// What stands for the name in the table.
const NAME: &str = "<name>";
const TIER: &str = "tier.<name>";
const NAMESPACE: &str = "cache.namespace.<name>";
const CLASS: &str = "cache.class.<name>";
const JOB_TYPE: &str = "queue.type.<name>";

/// The classes that exist without being configured: name, ttl, stale window.
pub(super) const CLASSES: [(&str, &str, &str); 10] = [
    ("dashboard", "1m", "4m"),
    ("uptime", "5m", "0s"),
    ("trend", "10m", "0s"),
    ("summary", "1h", "0s"),
    ("tier_limits", "1h", "0s"),
    ("packages", "15m", "0s"),
    ("gateways", "30m", "0s"),
    ("permissions", "1h", "0s"),
    ("device_status", "2m", "0s"),
    ("tenant", "10m", "0s"),
];

/// The types of jobs that exist without being configured: name, tries, timeout.
pub(super) const JOB_TYPES: [(&str, &str, &str); 5] = [
    ("mail", "3", "1m"),
    ("payment", "3", "2m"),
    ("report", "2", "5m"),
    ("sync", "3", "90s"),
    ("bulk", "3", "2m"),
];

impl Family {
    /// Every family.
    pub const ALL: [Family; 4] = [Family::Tier, Family::Namespace, Family::Class, Family::JobType];

    /// Its section in the table.
    pub(super) const fn section(self) -> &'static str {
        match self {
            Family::Tier => TIER,
            Family::Namespace => NAMESPACE,
            Family::Class => CLASS,
            Family::JobType => JOB_TYPE,
        }
    }

    /// What stands before the name, with the point between them.
    fn prefix(self) -> &'static str {
        self.section().strip_suffix(NAME).expect("BUG: a family's section ends with the name")
    }

    /// What there is one of per name.
    pub(super) const fn what(self) -> &'static str {
        match self {
            Family::Tier => "tier",
            Family::Namespace => "namespace",
            Family::Class => "class",
            Family::JobType => "job type",
        }
    }

    /// Several of them.
    pub(super) const fn plural(self) -> &'static str {
        match self {
            Family::Tier => "tiers",
            Family::Namespace => "namespaces",
            Family::Class => "classes",
            Family::JobType => "job types",
        }
    }

    /// So many there may be.
    pub(super) const fn most(self) -> usize {
        match self {
            Family::Tier => TIERS_MAX,
            Family::Namespace => CONFIG_NAMESPACES_MAX,
            Family::Class => CLASSES_MAX,
            Family::JobType => QUEUE_TYPES_CONFIG_MAX,
        }
    }

    /// A name that makes sense.
    pub(super) const fn example(self) -> &'static str {
        match self {
            Family::Tier => "small",
            Family::Namespace => "sessions",
            Family::Class => "menu",
            Family::JobType => "invoice",
        }
    }

    /// The names in the shipped file.
    pub(super) fn shipped(self) -> Vec<&'static str> {
        match self {
            Family::Tier => vec![STANDARD],
            Family::Namespace => vec![self.example()],
            Family::Class => CLASSES.iter().map(|(name, _, _)| *name).collect(),
            Family::JobType => JOB_TYPES.iter().map(|(name, _, _)| *name).collect(),
        }
    }

    /// Checks a name.
    pub(super) fn check(self, name: &str) -> Result<(), BadName> {
        let checked = match self {
            Family::Tier | Family::Class => TenantName::parse(name).map(drop),
            Family::Namespace => Namespace::parse(name).map(drop),
            Family::JobType => check_job_type(name),
        };
        checked.map_err(|bad| BadName { what: self.what(), ..bad })
    }

    /// Its section with this name.
    pub(super) fn named(self, name: &str) -> String {
        format!("{}{name}", self.prefix())
    }

    /// The family whose sections stand in the table `written`: `tier`, `cache.namespace`.
    pub(super) fn within(written: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.prefix().strip_suffix('.') == Some(written))
    }

    /// What `written` is if there are families in it and no keys: `queue`.
    pub(super) fn parent(written: &str) -> Option<&'static str> {
        let parents = Family::ALL.iter().filter_map(|family| family.prefix().split_once('.'));
        let mut parents = parents.filter(|(_, rest)| !rest.is_empty()).map(|(parent, _)| parent);
        let has_keys = SECTIONS.iter().any(|section| section.name == written);
        parents.find(|parent| !has_keys && *parent == written)
    }

    /// The family to which the section of the table belongs.
    pub(super) fn of(section: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.section() == section)
    }

    /// The family of which `written` is a section: `tier.small`.
    fn of_written(written: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| written.starts_with(family.prefix()))
    }
}

/// Types are named as the app names its classes: any line will do.
fn check_job_type(name: &str) -> Result<(), BadName> {
    let problem = match name.find(char::is_control) {
        _ if !(1..=JOB_TYPE_BYTES_MAX).contains(&name.len()) => NameProblem::Length(name.len()),
        Some(at) => NameProblem::Control { at },
        None => return Ok(()),
    };
    Err(BadName { what: "job type", problem })
}

/// Every section, in the order of the shipped file.
pub const SECTIONS: [Section; 11] = [
    Section { name: "server", doc: "How the server is reached, and where it keeps things." },
    Section {
        name: "tls",
        doc: "The certificate for encrypted connections: both files, or neither.\n\
              A reload reads them anew, to be done when they have been renewed.",
    },
    Section {
        name: TIER,
        doc: "What a tenant may have. Tenants are in the tier \"standard\" unless they are put into\n\
              another; [tier.small] makes one named small. -1 is unlimited.",
    },
    Section {
        name: "cache",
        doc: "The cache. What the process may use is the memory of the machine, or the limit that\n\
              systemd or a container gives it.",
    },
    Section {
        name: NAMESPACE,
        doc: "A namespace of the cache, of each tenant. All of them exist without being named here;\n\
              [cache.namespace.sessions] is for the one named sessions.",
    },
    Section {
        name: CLASS,
        doc: "How long values are served whose ttl is given as class:NAME. These are built in, and can\n\
              be changed; [cache.class.menu] makes another one named menu, which needs a ttl.",
    },
    Section {
        name: JOB_TYPE,
        doc: "How jobs of a type are tried, where neither the job nor its queue says. These are built\n\
              in, and can be changed; [queue.type.invoice] is for jobs of type invoice.",
    },
    Section {
        name: "history",
        doc: "Finished jobs that can be searched. What comes first, too many rows, too many bytes or\n\
              too old, lets go of the oldest.",
    },
    Section {
        name: "series",
        doc: "Time series: for how long samples are kept, and the points that are made of them. When there\n\
              is no room for all of it, the oldest of the finest goes first.",
    },
    Section {
        name: "host",
        doc: "This machine: what its health depends on beside processors, memory and disks.",
    },
    Section { name: "log", doc: "What is logged, and how." },
];

/// Every setting, in the order of the shipped file.
pub const KEYS: [Key; 41] = [
    Key {
        section: "server",
        name: "data_dir",
        environment: Some("HOLDFAST_DATA_DIR"),
        default: "holdfast-data",
        live: false,
        doc: "The folder that holds everything the server stores. It is made if it is missing.",
        example: "/var/lib/holdfast",
        kind: Kind::Folder(|d| &mut d.server.data_dir),
    },
    Key {
        section: "server",
        name: "listen",
        environment: Some("HOLDFAST_LISTEN"),
        default: "127.0.0.1:7070",
        live: false,
        doc: "The address and port for HTTP. 127.0.0.1 is reached from this machine alone, 0.0.0.0\n\
              from everywhere; that needs [tls] or behind_tls_proxy. Port 0 takes a free one.",
        example: "127.0.0.1:7070",
        kind: Kind::Listen(|d| &mut d.server.listen),
    },
    Key {
        section: "server",
        name: "socket",
        environment: Some("HOLDFAST_SOCKET"),
        default: "",
        live: false,
        doc: "A Unix socket for programs on this machine, which saves them the network. Empty: none.",
        example: "/run/holdfast/holdfast.sock",
        kind: Kind::Socket(|d| &mut d.server.socket),
    },
    Key {
        section: "server",
        name: "hosts",
        environment: Some("HOLDFAST_SERVER_HOSTS"),
        default: "",
        live: true,
        doc: "The names by which clients call this server, besides localhost and its addresses.\n\
              Requests for other names are refused, which keeps hostile web pages out.",
        example: "holdfast.example.com",
        kind: Kind::Hosts(|d| &mut d.server.hosts),
    },
    Key {
        section: "server",
        name: "behind_tls_proxy",
        environment: Some("HOLDFAST_SERVER_BEHIND_TLS_PROXY"),
        default: "false",
        live: false,
        doc: "Say true if a proxy in front (Caddy, nginx) encrypts, and only the proxy can reach the\n\
              port. Without it, or [tls], the server refuses to listen to other machines.",
        example: "true",
        kind: Kind::Truth(|d| &mut d.server.behind_tls_proxy),
    },
    Key {
        section: "server",
        name: "metrics_public",
        environment: Some("HOLDFAST_SERVER_METRICS_PUBLIC"),
        default: "false",
        live: true,
        doc: "Say true to let everybody who reaches the server read /metrics without a token.",
        example: "true",
        kind: Kind::Truth(|d| &mut d.server.metrics_public),
    },
    Key {
        section: "server",
        name: "max_connections",
        environment: Some("HOLDFAST_SERVER_MAX_CONNECTIONS"),
        default: "4096",
        live: false,
        doc: "The most connections at a time.",
        example: "1024",
        kind: Kind::Count {
            place: |d| &mut d.server.max_connections,
            least: CONNECTIONS_MIN,
            most: CONNECTIONS_MAX,
        },
    },
    Key {
        section: "server",
        name: "timezone",
        environment: Some("HOLDFAST_SERVER_TIMEZONE"),
        default: "UTC",
        live: false,
        doc: "The time zone of schedules that name none, as IANA calls it.",
        example: "Europe/Berlin",
        kind: Kind::Timezone(|d| &mut d.server.timezone),
    },
    Key {
        section: "tls",
        name: "cert_file",
        environment: Some("HOLDFAST_TLS_CERT_FILE"),
        default: "",
        live: false,
        doc: "The certificate and those that vouch for it, in PEM. Empty: no encryption.",
        example: "/etc/holdfast/fullchain.pem",
        kind: Kind::File(|d| &mut d.cert_file),
    },
    Key {
        section: "tls",
        name: "key_file",
        environment: Some("HOLDFAST_TLS_KEY_FILE"),
        default: "",
        live: false,
        doc: "Its private key, in PEM, readable for nobody else (chmod 600). credential:NAME takes\n\
              what systemd hands over by LoadCredential=NAME:FILE.",
        example: "/etc/holdfast/privkey.pem",
        kind: Kind::File(|d| &mut d.key_file),
    },
    quota(Quota::CacheBytes, "Bytes in the cache.", "104857600"),
    quota(Quota::Queues, "Queues.", "20"),
    quota(Quota::JobsWaiting, "Jobs that wait, in all queues together.", "100000"),
    quota(Quota::JobsPerDay, "Jobs pushed in a day of UTC.", "1000000"),
    quota(Quota::Series, "Time series.", "1000"),
    quota(Quota::Monitors, "Monitors.", "50"),
    quota(Quota::Tokens, "Tokens.", "20"),
    Key {
        section: "cache",
        name: "enabled",
        environment: Some("HOLDFAST_CACHE_ENABLED"),
        default: "true",
        live: true,
        doc: "Say false to cache nothing: every read misses, and who asks computes. Kept namespaces\n\
              and locks go on.",
        example: "false",
        kind: Kind::Truth(|d| &mut d.cache.enabled),
    },
    Key {
        section: "cache",
        name: "budget",
        environment: Some("HOLDFAST_CACHE_BUDGET"),
        default: "25%",
        live: true,
        doc: "The most memory for entries that may be evicted: bytes (64MiB, 2GiB), or a part of what\n\
              the process may use.",
        example: "256MiB",
        kind: Kind::Amount {
            place: |d| &mut d.cache.budget,
            least: CACHE_BUDGET_BYTES_MIN,
            why: "for no cache at all: cache.enabled = false",
        },
    },
    Key {
        section: "cache",
        name: "kept_budget",
        environment: Some("HOLDFAST_CACHE_KEPT_BUDGET"),
        default: "10%",
        live: true,
        doc: "The most memory for entries of kept namespaces, which are never evicted: what does not\n\
              fit is refused.",
        example: "128MiB",
        kind: Kind::Amount {
            place: |d| &mut d.cache.kept_budget,
            least: CACHE_BUDGET_BYTES_MIN,
            why: "what nobody keeps takes no memory",
        },
    },
    Key {
        section: "cache",
        name: "snapshot",
        environment: Some("HOLDFAST_CACHE_SNAPSHOT"),
        default: "false",
        live: true,
        doc: "Say true to store what may be evicted, too, when the server ends in order, and to load\n\
              it at the next start. Kept namespaces need no snapshot.",
        example: "true",
        kind: Kind::Truth(|d| &mut d.cache.snapshot),
    },
    Key {
        section: NAMESPACE,
        name: "keep",
        environment: None,
        default: "false",
        live: false,
        doc: "Say true to have each write on disk before it is answered, and nothing evicted: for\n\
              sessions and whatever else must not be forgotten.",
        example: "true",
        kind: Kind::NamespaceKeep,
    },
    Key {
        section: NAMESPACE,
        name: "share",
        environment: None,
        default: "100%",
        live: true,
        doc: "The most that it may hold for one tenant: bytes, or a part of the budget.",
        example: "20%",
        kind: Kind::NamespaceShare,
    },
    Key {
        section: CLASS,
        name: "ttl",
        environment: None,
        default: "",
        live: true,
        doc: "For so long a value is fresh.",
        example: "5m",
        kind: Kind::ClassTtl,
    },
    Key {
        section: CLASS,
        name: "stale",
        environment: None,
        default: "0s",
        live: true,
        doc: "For so long after that it is served as stale, while one of those who ask computes it anew.",
        example: "1h",
        kind: Kind::ClassStale,
    },
    Key {
        section: JOB_TYPE,
        name: "max_tries",
        environment: None,
        default: "",
        live: true,
        doc: "A job is given up after so many errors. Empty: as its queue says, or 10.",
        example: "5",
        kind: Kind::TypeTries,
    },
    Key {
        section: JOB_TYPE,
        name: "timeout",
        environment: None,
        default: "",
        live: true,
        doc: "One attempt may run for so long. Empty: as its queue says, or 1h.",
        example: "10m",
        kind: Kind::TypeTimeout,
    },
    Key {
        section: JOB_TYPE,
        name: "backoff",
        environment: None,
        default: "",
        live: true,
        doc: "The wait after an error: one (\"5s\") is doubled with each error, up to an hour; a list\n\
              ([\"10s\", \"1m\"]) is gone through, and its last one stays. Empty: as its queue says, or 5s.",
        example: "10s",
        kind: Kind::TypeBackoff,
    },
    Key {
        section: "history",
        name: "rows",
        environment: Some("HOLDFAST_HISTORY_ROWS"),
        default: "1000000",
        live: true,
        doc: "The most jobs in it.",
        example: "200000",
        kind: Kind::Rows(|d| &mut d.history.rows),
    },
    Key {
        section: "history",
        name: "bytes",
        environment: Some("HOLDFAST_HISTORY_BYTES"),
        default: "1GiB",
        live: true,
        doc: "The most space that it takes on the disk.",
        example: "256MiB",
        kind: Kind::Bytes { place: |d| &mut d.history.bytes, least: HISTORY_BYTES_MIN },
    },
    Key {
        section: "history",
        name: "age",
        environment: Some("HOLDFAST_HISTORY_AGE"),
        default: "7d",
        live: true,
        doc: "For so long a job is found after its end.",
        example: "24h",
        kind: Kind::Age {
            place: |d| &mut d.history.age,
            least: HISTORY_AGE_MIN,
            most: HISTORY_AGE_MAX,
        },
    },
    Key {
        section: "series",
        name: "budget",
        environment: Some("HOLDFAST_SERIES_BUDGET"),
        default: "1GiB",
        live: true,
        doc: "The most space that series take on the disk.",
        example: "256MiB",
        kind: Kind::Bytes { place: |d| &mut d.series.budget, least: SERIES_BUDGET_BYTES_MIN },
    },
    kept(
        ("raw", "HOLDFAST_SERIES_RAW", "14d", "7d"),
        "For so long samples are kept as they came; at least 2d, as late ones are taken for a day.",
        |d| &mut d.series.raw,
    ),
    kept(
        ("r5m", "HOLDFAST_SERIES_R5M", "90d", "30d"),
        "For so long points of five minutes are kept. Each of these is not shorter than the one before.",
        |d| &mut d.series.r5m,
    ),
    kept(
        ("r1h", "HOLDFAST_SERIES_R1H", "730d", "365d"),
        "For so long points of an hour are kept.",
        |d| &mut d.series.r1h,
    ),
    kept(
        ("r1d", "HOLDFAST_SERIES_R1D", "3650d", "1825d"),
        "For so long points of a day are kept.",
        |d| &mut d.series.r1d,
    ),
    Key {
        section: "series",
        name: "sketch",
        environment: Some("HOLDFAST_SERIES_SKETCH"),
        default: "",
        live: true,
        doc: "Metrics of single measurements, such as response times: percentiles of them are known for as\n\
              long as their points. A * stands for anything. Each costs some hundred bytes a point.",
        example: "*_latency_seconds",
        kind: Kind::Patterns(|d| &mut d.series.sketch),
    },
    Key {
        section: "host",
        name: "units",
        environment: Some("HOLDFAST_HOST_UNITS"),
        default: "",
        live: true,
        doc: "Units of systemd that should run: while one has failed, the server's health is a warning.",
        example: "nginx.service, php8.3-fpm.service",
        kind: Kind::Units(|d| &mut d.host.units),
    },
    Key {
        section: "host",
        name: "critical_units",
        environment: Some("HOLDFAST_HOST_CRITICAL_UNITS"),
        default: "",
        live: true,
        doc: "The same for those without which the shop is closed: critical while one has failed.",
        example: "mysql.service",
        kind: Kind::Units(|d| &mut d.host.critical_units),
    },
    Key {
        section: "log",
        name: "level",
        environment: Some("HOLDFAST_LOG_LEVEL"),
        default: "info",
        live: true,
        doc: "The least important messages that are written: error, warn, info, debug or trace.",
        example: "debug",
        kind: Kind::Level(|d| &mut d.log.level),
    },
    Key {
        section: "log",
        name: "format",
        environment: Some("HOLDFAST_LOG_FORMAT"),
        default: "text",
        live: false,
        doc: "text for people, json for programs that collect logs.",
        example: "json",
        kind: Kind::Format(|d| &mut d.log.format),
    },
];

/// For how long a resolution of the series is kept: name, variable, default, example.
const fn kept(
    (name, variable, default, example): (&'static str, &'static str, &'static str, &'static str),
    doc: &'static str,
    place: fn(&mut Draft) -> &mut Duration,
) -> Key {
    Key {
        section: "series",
        name,
        environment: Some(variable),
        default,
        live: true,
        doc,
        example,
        kind: Kind::Age { place, least: SERIES_RAW_AGE_MIN, most: DURATION_MAX },
    }
}

const fn quota(quota: Quota, doc: &'static str, example: &'static str) -> Key {
    Key {
        section: TIER,
        name: quota.as_str(),
        environment: None,
        default: "-1",
        live: true,
        doc,
        example,
        kind: Kind::Quota(quota),
    }
}

impl Key {
    /// What its value is, in words.
    pub fn expects(&self) -> String {
        self.kind.expects()
    }

    /// Its name with its section; of a family, that of the section named `name`.
    pub fn full(&self, name: &str) -> String {
        match self.family() {
            Some(family) => format!("{}.{}", family.named(name), self.name),
            None => format!("{}.{}", self.section, self.name),
        }
    }

    /// The family it belongs to: there is one of it per name, and it has no variable and no flag.
    pub fn family(&self) -> Option<Family> {
        Family::of(self.section)
    }

    /// What counts if nobody says anything, in the section named `name` if it belongs to a family.
    pub(super) fn default_in(&self, name: &str) -> &'static str {
        let class = CLASSES.iter().find(|(class, _, _)| self.section == CLASS && *class == name);
        let job_type =
            JOB_TYPES.iter().find(|(known, _, _)| self.section == JOB_TYPE && *known == name);
        match (class.or(job_type), &self.kind) {
            (Some((_, ttl, _)), Kind::ClassTtl) => ttl,
            (Some((_, _, stale)), Kind::ClassStale) => stale,
            (Some((_, tries, _)), Kind::TypeTries) => tries,
            (Some((_, _, timeout)), Kind::TypeTimeout) => timeout,
            _ => self.default,
        }
    }

    /// How the flag is written that sets it: the variable's name in small letters.
    pub fn flag(&self) -> String {
        let name = self.environment.and_then(|name| name.strip_prefix("HOLDFAST_"));
        format!("--{}", name.unwrap_or(self.name).to_ascii_lowercase().replace('_', "-"))
    }

    /// `text`, spelled as in a variable, in TOML. Relative paths stay as they are.
    pub(super) fn in_toml(&self, text: &str) -> String {
        let (mut draft, environment) = (Draft::blank(), Environment::default());
        let context = Context { name: STANDARD, folder: None, environment: &environment };
        let stored = self.kind.store(&mut draft, context, Given::Plain(text));
        stored.unwrap_or_else(|wrong| panic!("BUG: {} cannot be {text}: {wrong:?}", self.name));
        self.kind.show(&mut draft, STANDARD)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.section, self.name)
    }
}

/// The keys of a section.
pub(super) fn keys_of(section: &str) -> impl Iterator<Item = &'static Key> {
    // The table is a constant; this gives it one address.
    const ALL: &[Key] = &KEYS;
    ALL.iter().filter(move |key| key.section == section)
}

/// The key `name` of `section`.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    keys_of(section).find(|key| key.name == name)
}

/// Every section, for messages.
pub(super) fn sections() -> String {
    SECTIONS.map(|section| format!("[{}]", section.name)).join(", ")
}

/// The section of the table to which `written` belongs: `tier.<name>` for `tier.small`, and for `tier`.
pub(super) fn section_of(written: &str) -> &str {
    let family = Family::within(written).or_else(|| Family::of_written(written));
    family.map_or(written, |family| family.section())
}

/// The keys of the section in which `full`, that is no key, stands; for messages.
pub(super) fn neighbours(full: &str) -> String {
    let section = section_of(full.rsplit_once('.').map_or("", |(section, _)| section));
    let names: Vec<&str> = keys_of(section).map(|key| key.name).collect();
    if names.is_empty() {
        let within = |family: &Family| family.section().split('.').next() == Some(section);
        let families = Family::ALL.into_iter().filter(within).map(Family::section);
        let all: Vec<String> = families.map(|section| format!("[{section}]")).collect();
        return format!("the sections of {section} are {}", all.join(", "));
    }
    format!("the keys of [{section}] are {}", names.join(", "))
}

/// What may have been meant by the key `name` in `section`, which stands as `written` in the file: a key
/// of that section, else one of that name elsewhere.
pub(super) fn near_key(section: &str, written: &str, name: &str) -> Option<String> {
    if let Some(near) = nearest(name, keys_of(section).map(|key| key.name)) {
        return Some(format!("{written}.{near}"));
    }
    let within = |family: &Family| family.prefix().strip_prefix(written)?.strip_prefix('.');
    let words = Family::ALL.iter().filter_map(within).map(|word| word.trim_end_matches('.'));
    if let Some(near) = nearest(name, words) {
        return Some(format!("[{written}.{near}.{NAME}]"));
    }
    KEYS.iter().find(|key| key.name == name).map(|key| format!("{}.{name}", key.section))
}

/// What may have been meant by the section `name`: one of the sections, or a key that stands outside.
pub(super) fn near_section(name: &str) -> Option<String> {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return Some(format!("{name} in section [{}]", key.section));
    }
    let words = SECTIONS.iter().map(|section| section.name.split('.').next().unwrap_or(""));
    let near = nearest(name, words)?;
    let section = SECTIONS.iter().find(|section| section.name.starts_with(near))?;
    Some(format!("[{}]", section.name))
}
