//! The table of settings. Add a row here and a field to the configuration; nothing else.

use std::fmt;

use super::environment::Environment;
use super::kind::{Context, Draft, Given, Kind};
use super::nearest::nearest;
use crate::base::limits::{CONNECTIONS_MAX, CONNECTIONS_MIN};
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
    /// The section that it stands in; `tier.<name>` stands for one section per tier.
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

/// The section that there is one of per tier.
pub(super) const TIER: &str = "tier.<name>";
/// The tier that exists without being configured.
pub(super) const STANDARD: &str = "standard";

/// Every section, in the order of the shipped file.
pub const SECTIONS: [Section; 4] = [
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
    Section { name: "log", doc: "What is logged, and how." },
];

/// Every setting, in the order of the shipped file.
pub const KEYS: [Key; 18] = [
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

    /// `section.name`, in the tier named `tier` if it stands in one.
    /// Its name with its section; of a tier, that of the tier named `tier`.
    pub fn full(&self, tier: &str) -> String {
        match self.section {
            TIER => format!("tier.{tier}.{}", self.name),
            section => format!("{section}.{}", self.name),
        }
    }

    /// Whether there is one of it per tier; it has no variable and no flag.
    pub fn is_tiers(&self) -> bool {
        self.section == TIER
    }

    /// How the flag is written that sets it: the variable's name in small letters.
    pub fn flag(&self) -> String {
        let name = self.environment.and_then(|name| name.strip_prefix("HOLDFAST_"));
        format!("--{}", name.unwrap_or(self.name).to_ascii_lowercase().replace('_', "-"))
    }

    /// `text`, spelled as in a variable, in TOML. Relative paths stay as they are.
    pub(super) fn in_toml(&self, text: &str) -> String {
        let (mut draft, environment) = (Draft::blank(), Environment::default());
        let context = Context { tier: STANDARD, folder: None, environment: &environment };
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

/// The keys of the section in which `full`, that is no key, stands; for messages.
pub(super) fn neighbours(full: &str) -> String {
    let section = match full.rsplit_once('.') {
        Some(("tier", _)) => TIER,
        Some((section, _)) if section.starts_with("tier.") => TIER,
        Some((section, _)) => section,
        None => "",
    };
    let names: Vec<&str> = keys_of(section).map(|key| key.name).collect();
    format!("the keys of [{section}] are {}", names.join(", "))
}

/// What may have been meant by the key `name` in `section`, which stands as `written` in the file: a key
/// of that section, else one of that name elsewhere.
pub(super) fn near_key(section: &str, written: &str, name: &str) -> Option<String> {
    if let Some(near) = nearest(name, keys_of(section).map(|key| key.name)) {
        return Some(format!("{written}.{near}"));
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
