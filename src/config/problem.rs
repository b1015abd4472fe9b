//! What is wrong with the settings: where, why, and what to do next.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::address::Listen;
use super::environment::{CONFIG, CREDENTIALS};
use super::keys::Family;
use crate::base::human::format_duration;
use crate::base::limits::{CONFIG_DEPTH_MAX, CONFIG_FILE_BYTES_MAX, PROBLEMS_MAX};
use crate::base::name::BadName;

/// Where a setting, or a problem with one, comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1; none if it is about the whole file.
        line: Option<usize>,
    },
    /// A variable.
    Environment {
        /// Its name.
        name: String,
    },
    /// The command line.
    Flag {
        /// As it is written there, with its hyphens.
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Origin::File { path, line: None } => write!(f, "{}", path.display()),
            Origin::Environment { name } => write!(f, "variable {name}"),
            Origin::Flag { name } => write!(f, "flag {name}"),
        }
    }
}

/// What is wrong. Texts in it that come from outside are short and without control characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not TOML.
    #[error("this is not TOML: {message}")]
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// Larger than a configuration is.
    #[error("the file is larger than {CONFIG_FILE_BYTES_MAX} bytes")]
    TooLarge,
    /// Nested deeper than a configuration is.
    #[error("the nesting is deeper than {CONFIG_DEPTH_MAX}")]
    TooDeep,
    /// The file cannot be read.
    #[error("the file cannot be read: {cause}")]
    Unreadable {
        /// What the system says.
        cause: String,
    },
    /// A variable whose value is not UTF-8.
    #[error("the value of {name} is not UTF-8")]
    NotText {
        /// The variable.
        name: String,
    },
    /// No such section.
    #[error("unknown section {name}{}", did_you_mean(near.as_deref()))]
    UnknownSection {
        /// As it was written.
        name: String,
        /// What may have been meant.
        near: Option<String>,
    },
    /// No such key.
    #[error("unknown key {name}{}", did_you_mean(near.as_deref()))]
    UnknownKey {
        /// As it was written, with its section.
        name: String,
        /// What may have been meant.
        near: Option<String>,
    },
    /// A value stands where a section belongs.
    #[error("{name} is a section, not {found}")]
    NotASection {
        /// The section.
        name: String,
        /// What stands there.
        found: &'static str,
    },
    /// A value of another type.
    #[error("{key} is {expected}, not {found}")]
    WrongType {
        /// The key.
        key: String,
        /// What it is.
        expected: String,
        /// What was given.
        found: &'static str,
        /// How to write it there.
        example: String,
    },
    /// A value of the right type that makes no sense.
    #[error("{key} cannot be {value}: {why}")]
    WrongValue {
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// What is wrong with it.
        why: String,
        /// How to write it there.
        example: String,
    },
    /// The name of a tier, a namespace or a class breaks the rules of names.
    #[error("{bad}")]
    BadName {
        /// What was to be named.
        family: Family,
        /// What is wrong.
        bad: BadName,
    },
    /// More sections of a family than there may be.
    #[error("there are more than {} {}", family.most(), family.plural())]
    TooMany {
        /// Of what.
        family: Family,
    },
    /// A class that is not built in says nothing of its ttl.
    #[error("the class {class} has no ttl")]
    ClassWithoutTtl {
        /// Its name.
        class: String,
    },
    /// Points are kept for a shorter time than what they are made of.
    #[error("{key} is {}, shorter than {finer}, which is {}", format_duration(*age), format_duration(*its))]
    TierShorter {
        /// The key.
        key: String,
        /// What it is.
        age: Duration,
        /// The key of what is finer.
        finer: String,
        /// What that is.
        its: Duration,
    },
    /// Others could connect, and nothing encrypts.
    #[error(
        "server.listen = \"{listen}\" lets other machines connect, and nothing encrypts: tokens and data would cross the network in plain text"
    )]
    ListenNeedsTls {
        /// The address.
        listen: Listen,
    },
    /// A certificate without its key, or the other way round.
    #[error("{given} is set and {missing} is not; TLS needs both")]
    HalfOfTls {
        /// The key that is set.
        given: &'static str,
        /// The other.
        missing: &'static str,
    },
    /// The files of TLS cannot be used.
    #[error("TLS cannot be used: {why}")]
    TlsUnusable {
        /// What is wrong with them.
        why: String,
    },
    /// A credential is named, and systemd gave none.
    #[error("{key} names the credential {name}, and {CREDENTIALS} is not set")]
    NoCredentials {
        /// The key.
        key: String,
        /// The credential.
        name: String,
    },
    /// Others than its owner can read a secret.
    #[error("{} holds a secret that others can read (mode {mode:03o})", path.display())]
    SecretExposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Who it has to belong to, if it does not.
        chown: Option<u32>,
    },
    /// A secret belongs to somebody else, who can read and replace it.
    #[error("{} holds a secret and belongs to the user with the id {owner}", path.display())]
    SecretOfAnother {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who it has to belong to.
        us: u32,
    },
}

fn did_you_mean(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}

impl Error {
    /// The stable word for it. Never renamed.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Syntax { .. } => "invalid_toml",
            Error::TooLarge => "config_too_large",
            Error::TooDeep => "config_too_deep",
            Error::Unreadable { .. } => "config_unreadable",
            Error::NotText { .. } => "variable_not_text",
            Error::UnknownSection { .. } => "unknown_section",
            Error::UnknownKey { .. } => "unknown_key",
            Error::NotASection { .. } => "not_a_section",
            Error::WrongType { .. } => "wrong_type",
            Error::WrongValue { .. } => "wrong_value",
            Error::BadName { family: Family::Tier, .. } => "invalid_tier",
            Error::BadName { family: Family::Namespace, .. } => "invalid_namespace",
            Error::BadName { family: Family::Class, .. } => "invalid_class",
            Error::BadName { family: Family::JobType, .. } => "invalid_job_type",
            Error::TooMany { family: Family::Tier } => "too_many_tiers",
            Error::TooMany { family: Family::Namespace } => "too_many_namespaces",
            Error::TooMany { family: Family::Class } => "too_many_classes",
            Error::TooMany { family: Family::JobType } => "too_many_job_types",
            Error::ClassWithoutTtl { .. } => "class_without_ttl",
            Error::TierShorter { .. } => "tier_shorter",
            Error::ListenNeedsTls { .. } => "listen_needs_tls",
            Error::HalfOfTls { .. } => "tls_incomplete",
            Error::TlsUnusable { .. } => "tls_unusable",
            Error::NoCredentials { .. } => "no_credentials",
            Error::SecretExposed { .. } => "secret_exposed",
            Error::SecretOfAnother { .. } => "secret_of_another",
        }
    }

    /// What to do about it; several lines if there are several ways.
    pub fn help(&self) -> String {
        match self {
            Error::TlsUnusable { .. } => {
                "tls.cert_file is a chain in PEM, the server's certificate first; tls.key_file is its \
                 private key in PEM"
                    .to_owned()
            }
            Error::Syntax { .. } => {
                "text stands in quotes: name = \"text\"; other settings are written name = 5, \
                                     name = true or name = [\"a\", \"b\"], a section [server]"
                    .to_owned()
            }
            Error::TooLarge => "keep in it only what differs from the defaults".to_owned(),
            Error::Unreadable { .. } => {
                format!("name a file that this user can read, by --config or {CONFIG}")
            }
            Error::NotText { name } => format!("unset {name}, or use another path"),
            Error::UnknownSection { .. } | Error::TooDeep => {
                format!("the sections are {}", super::keys::sections())
            }
            Error::UnknownKey { name, .. } => super::keys::neighbours(name),
            Error::NotASection { name, .. } => {
                format!("write [{name}] on a line of its own, and its settings below it")
            }
            Error::WrongType { example, .. } | Error::WrongValue { example, .. } => {
                format!("write: {example}")
            }
            Error::BadName { family, .. } => {
                format!("write for example: [{}]", family.named(family.example()))
            }
            Error::TooMany { family: Family::Tier } => {
                "give several tenants the same tier".to_owned()
            }
            Error::TooMany { family: Family::Namespace } => {
                "name those alone that are kept or have a share".to_owned()
            }
            Error::TooMany { family: Family::Class } => {
                "give several kinds of values the same class".to_owned()
            }
            Error::TooMany { family: Family::JobType } => {
                "let the other types follow their queues".to_owned()
            }
            Error::ClassWithoutTtl { class } => {
                format!("write below [{}]: ttl = \"5m\"", Family::Class.named(class))
            }
            Error::TierShorter { key, its, finer, .. } => {
                format!("set {key} to {} or more, or {finer} to less", format_duration(*its))
            }
            Error::ListenNeedsTls { listen } => ways_out(listen),
            Error::HalfOfTls { missing, given } => {
                format!("set {missing} as well, or remove {given}")
            }
            Error::NoCredentials { name, .. } => format!(
                "start it as a systemd service with LoadCredential={name}:/path/of/the/file, or name the file itself"
            ),
            Error::SecretExposed { path, chown, .. } => mend(path, *chown),
            Error::SecretOfAnother { path, us, .. } => mend(path, Some(*us)),
        }
    }
}

/// Every way to be safe, as there is no telling which one fits.
fn ways_out(listen: &Listen) -> String {
    let port = listen.port();
    format!(
        "choose one:\n\
         1. for this machine alone: server.listen = \"127.0.0.1:{port}\"\n\
         2. for a few people: as 1, and they come in by ssh -L {port}:127.0.0.1:{port} HOST\n\
         3. with a certificate: set tls.cert_file and tls.key_file\n\
         4. behind a proxy that encrypts (Caddy, nginx): server.behind_tls_proxy = true, and let \
         nobody but the proxy reach the port"
    )
}

/// The command that makes `path` readable for nobody else.
fn mend(path: &std::path::Path, chown: Option<u32>) -> String {
    let path = path.display().to_string();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+@:".contains(&b);
    let path =
        if path.bytes().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) };
    match chown {
        Some(us) => format!("run: chown {us} {path} && chmod 600 {path}"),
        None => format!("run: chmod 600 {path}"),
    }
}

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Problem {
    /// Where it is.
    pub origin: Origin,
    /// What it is.
    pub error: Error,
}

impl Problem {
    /// The stable word for it.
    pub fn code(&self) -> &'static str {
        self.error.code()
    }

    /// What to do about it.
    pub fn help(&self) -> String {
        self.error.help()
    }
}

/// Everything that is wrong, in the order of the file, then of the variables, then of the flags.
///
/// Invariant: there is at least one. `Display` is made for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    unlisted: usize,
}

impl Problems {
    /// One alone.
    pub fn one(problem: Problem) -> Problems {
        Problems { list: vec![problem], unlisted: 0 }
    }

    pub(super) fn none_yet() -> Problems {
        Problems { list: Vec::new(), unlisted: 0 }
    }

    /// Adds what `problem` makes. Past [`PROBLEMS_MAX`] it is only counted, so that a hostile file costs
    /// neither memory nor time.
    pub(super) fn push(&mut self, problem: impl FnOnce() -> Problem) {
        if self.list.len() < PROBLEMS_MAX {
            self.list.push(problem());
        } else {
            self.unlisted += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What stands earlier in a file comes earlier; the rest keeps its order, behind it.
    pub(super) fn sort(&mut self) {
        self.list.sort_by_key(|problem| match &problem.origin {
            Origin::File { line, .. } => (0, line.unwrap_or(0)),
            Origin::Default | Origin::Environment { .. } | Origin::Flag { .. } => (1, 0),
        });
    }

    /// The problems that are listed, [`PROBLEMS_MAX`] at most.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// How many more there are.
    pub fn unlisted(&self) -> usize {
        self.unlisted
    }

    /// Each problem in one line, for those who have no room for more.
    pub fn lines(&self) -> Vec<String> {
        let line = |problem: &Problem| format!("{}: {problem}", problem.origin);
        self.list.iter().map(line).collect()
    }

    /// The file that has to be changed, if it is one.
    fn file(&self) -> Option<&PathBuf> {
        self.list.iter().find_map(|problem| match (&problem.error, &problem.origin) {
            (Error::SecretExposed { .. } | Error::SecretOfAnother { .. }, _)
            | (_, Origin::Default | Origin::Environment { .. } | Origin::Flag { .. }) => None,
            (_, Origin::File { path, .. }) => Some(path),
        })
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            writeln!(f, "error[{}]: {problem}", problem.code())?;
            writeln!(f, "  where: {}", problem.origin)?;
            for (index, line) in problem.help().lines().enumerate() {
                writeln!(f, "  {} {line}", if index == 0 { "help: " } else { "      " })?;
            }
            writeln!(f)?;
        }
        if 0 < self.unlisted {
            writeln!(f, "and {} more\n", self.unlisted)?;
        }
        match self.file() {
            Some(path) => write!(f, "then run: holdfast config check --config {}", path.display()),
            None => write!(f, "then run: holdfast config check"),
        }
    }
}
