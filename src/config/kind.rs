//! The kinds of values: how each is read from text or TOML, where it goes, how it is written.
//!
//! A kind carries the place in the [`Draft`] that it fills, so that the table cannot pair a key with a
//! field of another type.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::address::{Listen, parse_host};
use super::environment::{CREDENTIALS, Environment};
use super::nearest::nearest;
use super::{BackoffConfig, Format, HistoryConfig, JobTypeConfig, Level, Log};
use super::{HostConfig, NamespaceSettings, SeriesConfig, Server};
use crate::base::amount::Amount;
use crate::base::human::{format_duration, parse_duration};
use crate::base::limits::{
    BACKOFF_LIST_MAX, CACHE_SHARE_BYTES_MIN, CACHE_TTL_MAX, HISTORY_ROWS_MAX, HISTORY_ROWS_MIN,
    HOST_UNITS_MAX, HOSTS_MAX, JOB_DELAY_MAX, JOB_TIMEOUT_MAX, JOB_TIMEOUT_MIN, JOB_TRIES_MAX,
    SKETCH_PATTERNS_MAX, SOCKET_PATH_BYTES_MAX, UNIT_BYTES_MAX,
};
use crate::base::name::is_zone_name;
use crate::base::quota::{ALLOWANCE_MAX, Allowance, Quota, Quotas};
use crate::cache::glob::Glob;
use crate::queue::calendar::Zone;

/// A configuration while it is being filled.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) server: Server,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) tiers: BTreeMap<String, Quotas>,
    pub(super) cache: CacheDraft,
    pub(super) queue_types: BTreeMap<String, JobTypeConfig>,
    pub(super) history: HistoryConfig,
    pub(super) series: SeriesConfig,
    pub(super) host: HostConfig,
    pub(super) log: Log,
}

/// The part of the cache.
#[derive(Debug)]
pub(super) struct CacheDraft {
    pub(super) enabled: bool,
    pub(super) budget: Amount,
    pub(super) kept_budget: Amount,
    pub(super) snapshot: bool,
    pub(super) namespaces: BTreeMap<String, NamespaceSettings>,
    pub(super) classes: BTreeMap<String, ClassDraft>,
}

/// A class, perhaps without its ttl.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClassDraft {
    pub(super) ttl: Option<Duration>,
    pub(super) stale: Duration,
}

impl Draft {
    /// With nothing in it that counts: every default comes from the table.
    pub(super) fn blank() -> Draft {
        Draft {
            server: Server {
                data_dir: PathBuf::new(),
                listen: Listen::parse("127.0.0.1:0").expect("BUG: this is an address"),
                socket: None,
                hosts: Vec::new(),
                behind_tls_proxy: false,
                metrics_public: false,
                max_connections: 0,
                timezone: Zone::UTC,
            },
            cert_file: None,
            key_file: None,
            tiers: BTreeMap::new(),
            cache: CacheDraft {
                enabled: false,
                budget: Amount::WHOLE,
                kept_budget: Amount::WHOLE,
                snapshot: false,
                namespaces: BTreeMap::new(),
                classes: BTreeMap::new(),
            },
            queue_types: BTreeMap::new(),
            history: HistoryConfig { rows: 0, bytes: 0, age: Duration::ZERO },
            series: SeriesConfig::default(),
            host: HostConfig::default(),
            log: Log { level: Level::Info, format: Format::Text },
        }
    }

    fn namespace(&mut self, name: &str) -> &mut NamespaceSettings {
        self.cache.namespaces.entry(name.to_owned()).or_default()
    }

    fn job_type(&mut self, name: &str) -> &mut JobTypeConfig {
        self.queue_types.entry(name.to_owned()).or_default()
    }

    fn class(&mut self, name: &str) -> &mut ClassDraft {
        self.cache.classes.entry(name.to_owned()).or_default()
    }
}

/// The place of a value in the draft.
type Place<T> = fn(&mut Draft) -> &mut T;

/// What a key's value is, and where it goes.
pub(super) enum Kind {
    Folder(Place<PathBuf>),
    File(Place<Option<PathBuf>>),
    Socket(Place<Option<PathBuf>>),
    Listen(Place<Listen>),
    Hosts(Place<Vec<String>>),
    Truth(Place<bool>),
    Count { place: Place<usize>, least: i64, most: i64 },
    Level(Place<Level>),
    Format(Place<Format>),
    Quota(Quota),
    Amount { place: Place<Amount>, least: u64, why: &'static str },
    NamespaceKeep,
    NamespaceShare,
    ClassTtl,
    ClassStale,
    TypeTries,
    TypeTimeout,
    TypeBackoff,
    Rows(Place<u64>),
    Bytes { place: Place<u64>, least: u64 },
    Age { place: Place<Duration>, least: Duration, most: Duration },
    Patterns(Place<Vec<String>>),
    Units(Place<Vec<String>>),
    Timezone(Place<Zone>),
}

/// A value as a source gives it.
#[derive(Clone, Copy)]
pub(super) enum Given<'g> {
    /// By a variable, a flag or the table.
    Plain(&'g str),
    /// By the file.
    Toml(&'g DeValue<'g>),
}

/// What a value depends on besides itself.
#[derive(Clone, Copy)]
pub(super) struct Context<'c> {
    /// The name of the tier, namespace, class or type that is being read, or nothing.
    pub(super) name: &'c str,
    /// Where relative paths start, if not at the working directory.
    pub(super) folder: Option<&'c Path>,
    pub(super) environment: &'c Environment,
}

/// Why a value was not taken.
#[derive(Debug)]
pub(super) enum Wrong {
    Type(&'static str),
    Value { value: String, why: String },
    NoCredentials { name: String },
}

fn wrong(value: &str, why: impl Into<String>) -> Wrong {
    Wrong::Value { value: quoted(value), why: why.into() }
}

impl Kind {
    /// What the value is, in words.
    pub(super) fn expects(&self) -> String {
        match self {
            Kind::Folder(_) => "the path of a folder".to_owned(),
            Kind::File(_) => "the path of a file".to_owned(),
            Kind::Socket(_) => "the path of a socket".to_owned(),
            Kind::Listen(_) => "an address with a port".to_owned(),
            Kind::Hosts(_) => "a list of host names".to_owned(),
            Kind::Truth(_) | Kind::NamespaceKeep => "true or false".to_owned(),
            Kind::Count { least, most, .. } => format!("a whole number from {least} to {most}"),
            Kind::Level(_) => format!("one of {}", Level::ALL.map(Level::as_str).join(", ")),
            Kind::Format(_) => format!("one of {}", Format::ALL.map(Format::as_str).join(", ")),
            Kind::Quota(_) => "a whole number, where -1 is unlimited".to_owned(),
            Kind::Amount { .. } | Kind::NamespaceShare => {
                "an amount of memory or a percentage".to_owned()
            }
            Kind::ClassTtl | Kind::ClassStale | Kind::TypeTimeout | Kind::Age { .. } => {
                "a length of time".to_owned()
            }
            Kind::TypeTries => format!("a whole number from 1 to {JOB_TRIES_MAX}"),
            Kind::TypeBackoff => "a length of time, or a list of them".to_owned(),
            Kind::Rows(_) => {
                format!("a whole number from {HISTORY_ROWS_MIN} to {HISTORY_ROWS_MAX}")
            }
            Kind::Bytes { .. } => "an amount of bytes".to_owned(),
            Kind::Patterns(_) => "a list of patterns".to_owned(),
            Kind::Units(_) => "a list of units of systemd".to_owned(),
            Kind::Timezone(_) => "the name of a time zone".to_owned(),
        }
    }

    /// Reads `given` and puts it in its place; a refused value leaves the draft as it was.
    pub(super) fn store(
        &self,
        d: &mut Draft,
        cx: Context<'_>,
        given: Given<'_>,
    ) -> Result<(), Wrong> {
        match self {
            Kind::Folder(place) => *place(d) = folder(cx, given)?,
            Kind::File(place) => *place(d) = file(cx, given)?,
            Kind::Socket(place) => *place(d) = socket(cx, given)?,
            Kind::Listen(place) => {
                let text = given.text()?;
                *place(d) = Listen::parse(text).map_err(|why| wrong(text, why.to_string()))?;
            }
            Kind::Hosts(place) => *place(d) = hosts(given)?,
            Kind::Truth(place) => *place(d) = given.truth()?,
            Kind::Count { place, least, most } => *place(d) = count(given, *least, *most)?,
            Kind::Level(place) => *place(d) = word(given, &Level::ALL.map(|l| (l.as_str(), l)))?,
            Kind::Format(place) => *place(d) = word(given, &Format::ALL.map(|f| (f.as_str(), f)))?,
            Kind::Quota(quota) => {
                let allowance = allowance(given)?;
                d.tiers.entry(cx.name.to_owned()).or_default().set(*quota, Some(allowance));
            }
            Kind::Amount { place, least, why } => *place(d) = amount(given, *least, why)?,
            Kind::NamespaceKeep => {
                let keep = given.truth()?;
                d.namespace(cx.name).keep = keep;
            }
            Kind::NamespaceShare => {
                let share = amount(given, CACHE_SHARE_BYTES_MIN, "less than that holds nothing")?;
                d.namespace(cx.name).share = share;
            }
            Kind::ClassTtl => {
                let ttl = ttl(given)?;
                d.class(cx.name).ttl = ttl;
            }
            Kind::ClassStale => {
                let stale = duration(given)?;
                d.class(cx.name).stale = stale;
            }
            Kind::TypeTries | Kind::TypeTimeout | Kind::TypeBackoff => {
                self.store_job_type(d, cx.name, given)?;
            }
            Kind::Rows(place) => *place(d) = rows(given)?,
            Kind::Bytes { place, least } => *place(d) = bytes(given, *least)?,
            Kind::Age { place, least, most } => *place(d) = within(given, *least, *most)?,
            Kind::Patterns(place) => *place(d) = patterns(given)?,
            Kind::Units(place) => *place(d) = units(given)?,
            Kind::Timezone(place) => *place(d) = timezone(given)?,
        }
        Ok(())
    }

    /// The part of a type of jobs: each of its settings may be empty.
    fn store_job_type(&self, d: &mut Draft, name: &str, given: Given<'_>) -> Result<(), Wrong> {
        let empty = matches!(given.text(), Ok(""));
        match self {
            Kind::TypeTries => {
                let tries = if empty { None } else { Some(tries(given)?) };
                d.job_type(name).max_tries = tries;
            }
            Kind::TypeTimeout => {
                let read = || within(given, JOB_TIMEOUT_MIN, JOB_TIMEOUT_MAX);
                let timeout = if empty { None } else { Some(read()?) };
                d.job_type(name).timeout = timeout;
            }
            _ => {
                let backoff = if empty { None } else { Some(backoff(given)?) };
                d.job_type(name).backoff = backoff;
            }
        }
        Ok(())
    }

    /// The value in the draft, as TOML.
    pub(super) fn show(&self, d: &mut Draft, name: &str) -> String {
        let path = |path: &Path| toml_text(&path.display().to_string());
        match self {
            Kind::Folder(place) => path(place(d)),
            Kind::File(place) | Kind::Socket(place) => {
                path(place(d).as_deref().unwrap_or(Path::new("")))
            }
            Kind::Listen(place) => toml_text(&place(d).to_string()),
            Kind::Hosts(place) | Kind::Patterns(place) | Kind::Units(place) => {
                let items: Vec<String> = place(d).iter().map(|item| toml_text(item)).collect();
                format!("[{}]", items.join(", "))
            }
            Kind::Truth(place) => place(d).to_string(),
            Kind::Count { place, .. } => place(d).to_string(),
            Kind::Level(place) => toml_text(place(d).as_str()),
            Kind::Format(place) => toml_text(place(d).as_str()),
            Kind::Quota(quota) => {
                let allowance = d.tiers.get(name).and_then(|quotas| quotas.get(*quota));
                allowance.unwrap_or(Allowance::Unlimited).number().to_string()
            }
            Kind::Amount { place, .. } => toml_text(&place(d).to_string()),
            Kind::NamespaceKeep => d.namespace(name).keep.to_string(),
            Kind::NamespaceShare => toml_text(&d.namespace(name).share.to_string()),
            Kind::ClassTtl => {
                let ttl = d.class(name).ttl.map(format_duration);
                toml_text(&ttl.unwrap_or_default())
            }
            Kind::ClassStale => toml_text(&format_duration(d.class(name).stale)),
            Kind::TypeTries => {
                let tries = d.job_type(name).max_tries.map(|tries| tries.to_string());
                tries.unwrap_or_else(|| toml_text(""))
            }
            Kind::TypeTimeout => {
                let timeout = d.job_type(name).timeout.map(format_duration);
                toml_text(&timeout.unwrap_or_default())
            }
            Kind::TypeBackoff => shown_backoff(d.job_type(name).backoff.as_ref()),
            Kind::Rows(place) => place(d).to_string(),
            Kind::Bytes { place, .. } => toml_text(&Amount::Bytes(*place(d)).to_string()),
            Kind::Age { place, .. } => toml_text(&format_duration(*place(d))),
            Kind::Timezone(place) => toml_text(place(d).name()),
        }
    }
}

impl<'g> Given<'g> {
    fn text(self) -> Result<&'g str, Wrong> {
        match self {
            Given::Plain(text) => Ok(text),
            Given::Toml(DeValue::String(text)) => Ok(text),
            Given::Toml(other) => Err(Wrong::Type(type_of(other))),
        }
    }

    /// A text, or a number as it is written.
    fn text_or_number(self) -> Result<&'g str, Wrong> {
        match self {
            Given::Toml(DeValue::Integer(number)) if number.radix() == 10 => Ok(number.as_str()),
            Given::Toml(DeValue::Float(number)) => Ok(number.as_str()),
            other => other.text(),
        }
    }

    fn truth(self) -> Result<bool, Wrong> {
        match self {
            Given::Plain("true") => Ok(true),
            Given::Plain("false") => Ok(false),
            Given::Plain(text) => Err(wrong(text, "it is true or false")),
            Given::Toml(DeValue::Boolean(truth)) => Ok(*truth),
            Given::Toml(other) => Err(Wrong::Type(type_of(other))),
        }
    }

    fn number(self) -> Result<i64, Wrong> {
        let (text, radix) = match self {
            Given::Plain(text) => (text, 10),
            Given::Toml(DeValue::Integer(number)) => (number.as_str(), number.radix()),
            Given::Toml(other) => return Err(Wrong::Type(type_of(other))),
        };
        i64::from_str_radix(text, radix).map_err(|_| wrong(text, "it is a whole number"))
    }

    /// A list, which is separated by commas where there is no TOML.
    fn list(self) -> Result<Vec<&'g str>, Wrong> {
        match self {
            Given::Plain(text) => {
                Ok(text.split(',').map(str::trim).filter(|t| !t.is_empty()).collect())
            }
            Given::Toml(DeValue::Array(items)) => {
                items.iter().map(|item| Given::Toml(item.get_ref()).text()).collect()
            }
            Given::Toml(other) => Err(Wrong::Type(type_of(other))),
        }
    }

    /// A path, from where it starts; nothing if it is empty. What it says is not repeated in errors: a
    /// text of several lines is likely to be the key that belongs into the file.
    fn path(self, cx: Context<'_>) -> Result<Option<PathBuf>, Wrong> {
        let text = self.text()?;
        if text.chars().any(char::is_control) {
            let why = "a path has one line; the file is named here, and what it holds stays in it";
            return Err(Wrong::Value {
                value: "a text of several lines".to_owned(),
                why: why.to_owned(),
            });
        }
        match cx.folder {
            _ if text.is_empty() => Ok(None),
            Some(folder) => Ok(Some(folder.join(text))),
            None => Ok(Some(PathBuf::from(text))),
        }
    }
}

fn folder(cx: Context<'_>, given: Given<'_>) -> Result<PathBuf, Wrong> {
    given.path(cx)?.ok_or_else(|| wrong("", "a folder is needed"))
}

fn socket(cx: Context<'_>, given: Given<'_>) -> Result<Option<PathBuf>, Wrong> {
    let Some(path) = given.path(cx)? else { return Ok(None) };
    let bytes = path.as_os_str().len();
    if SOCKET_PATH_BYTES_MAX < bytes {
        let why = format!(
            "the path of a socket has at most {SOCKET_PATH_BYTES_MAX} bytes, this one {bytes}"
        );
        return Err(wrong(&path.display().to_string(), why));
    }
    Ok(Some(path))
}

/// A file, or what systemd hands over under a name.
fn file(cx: Context<'_>, given: Given<'_>) -> Result<Option<PathBuf>, Wrong> {
    let Some(name) = given.text()?.strip_prefix("credential:") else { return given.path(cx) };
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || !name.bytes().all(good) || name.starts_with('.') {
        return Err(wrong(name, "a credential's name is made of letters, digits, dots, _ and -"));
    }
    match cx.environment.get(CREDENTIALS) {
        Some(folder) if !folder.is_empty() => Ok(Some(Path::new(folder).join(name))),
        _ => Err(Wrong::NoCredentials { name: name.chars().take(80).collect() }),
    }
}

fn hosts(given: Given<'_>) -> Result<Vec<String>, Wrong> {
    let list = given.list()?;
    if HOSTS_MAX < list.len() {
        let value = format!("a list of {}", list.len());
        return Err(Wrong::Value { value, why: format!("there are at most {HOSTS_MAX}") });
    }
    list.iter().map(|host| parse_host(host).map_err(|why| wrong(host, why))).collect()
}

fn count(given: Given<'_>, least: i64, most: i64) -> Result<usize, Wrong> {
    let number = given.number()?;
    let fits = usize::try_from(number).ok().filter(|_| (least..=most).contains(&number));
    fits.ok_or_else(|| Wrong::Value {
        value: number.to_string(),
        why: format!("it is a whole number from {least} to {most}"),
    })
}

fn allowance(given: Given<'_>) -> Result<Allowance, Wrong> {
    let number = given.number()?;
    Allowance::from_number(number).map_err(|_| Wrong::Value {
        value: number.to_string(),
        why: format!("a quota is a whole number from 0 to {ALLOWANCE_MAX}, or -1 for unlimited"),
    })
}

/// An amount that is not less than `least` bytes, or else `why`.
fn amount(given: Given<'_>, least: u64, why: &str) -> Result<Amount, Wrong> {
    let text = given.text_or_number()?;
    let amount = Amount::parse(text).map_err(|bad| wrong(text, bad.to_string()))?;
    match amount {
        Amount::Bytes(bytes @ 1..=100) => {
            Err(wrong(text, format!("these are {bytes} bytes; did you mean \"{bytes}%\"?")))
        }
        Amount::Bytes(bytes) if bytes < least => {
            let least = Amount::Bytes(least);
            Err(wrong(text, format!("it is at least {least}; {why}")))
        }
        Amount::Bytes(_) | Amount::Percent(_) => Ok(amount),
    }
}

fn duration(given: Given<'_>) -> Result<Duration, Wrong> {
    let text = given.text_or_number()?;
    let duration = parse_duration(text).map_err(|bad| wrong(text, bad.to_string()))?;
    if CACHE_TTL_MAX < duration {
        let most = format_duration(CACHE_TTL_MAX);
        return Err(wrong(text, format!("in the cache a duration is at most {most}")));
    }
    Ok(duration)
}

/// Nothing, or something above zero.
fn ttl(given: Given<'_>) -> Result<Option<Duration>, Wrong> {
    if let Ok("") = given.text() {
        return Ok(None);
    }
    let ttl = duration(given)?;
    if ttl.is_zero() {
        return Err(wrong("0", "a ttl is at least a millisecond"));
    }
    Ok(Some(ttl))
}

/// A length of time that is neither too short nor too long.
fn within(given: Given<'_>, least: Duration, most: Duration) -> Result<Duration, Wrong> {
    let text = given.text_or_number()?;
    let time = parse_duration(text).map_err(|bad| wrong(text, bad.to_string()))?;
    if (least..=most).contains(&time) {
        return Ok(time);
    }
    let (least, most) = (format_duration(least), format_duration(most));
    Err(wrong(text, format!("it is {least} to {most}")))
}

fn tries(given: Given<'_>) -> Result<u32, Wrong> {
    let number = count(given, 1, JOB_TRIES_MAX.into())?;
    Ok(u32::try_from(number).expect("BUG: it is no more than JOB_TRIES_MAX"))
}

/// One wait, or a list of them; a text with commas is a list where there is no TOML.
fn backoff(given: Given<'_>) -> Result<BackoffConfig, Wrong> {
    let one = |given| within(given, Duration::ZERO, JOB_DELAY_MAX);
    match given {
        Given::Toml(DeValue::Array(items)) => {
            if !(1..=BACKOFF_LIST_MAX).contains(&items.len()) {
                let value = format!("a list of {}", items.len());
                let why = format!("a list has 1 to {BACKOFF_LIST_MAX} waits");
                return Err(Wrong::Value { value, why });
            }
            let waits = items.iter().map(|item| one(Given::Toml(item.get_ref())));
            Ok(BackoffConfig::List(waits.collect::<Result<_, _>>()?))
        }
        other => Ok(BackoffConfig::Base(one(other)?)),
    }
}

fn shown_backoff(backoff: Option<&BackoffConfig>) -> String {
    let text = |wait: &Duration| toml_text(&format_duration(*wait));
    match backoff {
        None => toml_text(""),
        Some(BackoffConfig::Base(base)) => text(base),
        Some(BackoffConfig::List(waits)) => {
            format!("[{}]", waits.iter().map(text).collect::<Vec<_>>().join(", "))
        }
    }
}

fn rows(given: Given<'_>) -> Result<u64, Wrong> {
    let number = given.number()?;
    let fits = |rows: &u64| (HISTORY_ROWS_MIN..=HISTORY_ROWS_MAX).contains(rows);
    u64::try_from(number).ok().filter(fits).ok_or_else(|| Wrong::Value {
        value: number.to_string(),
        why: format!("it is a whole number from {HISTORY_ROWS_MIN} to {HISTORY_ROWS_MAX}"),
    })
}

fn bytes(given: Given<'_>, least: u64) -> Result<u64, Wrong> {
    let text = given.text_or_number()?;
    match Amount::parse(text).map_err(|bad| wrong(text, bad.to_string()))? {
        Amount::Bytes(bytes) if least <= bytes => Ok(bytes),
        Amount::Bytes(_) => {
            let least = Amount::Bytes(least);
            Err(wrong(text, format!("it is at least {least}")))
        }
        Amount::Percent(_) => Err(wrong(text, "it is a number of bytes, and no part of anything")),
    }
}

/// Patterns for names of metrics.
fn patterns(given: Given<'_>) -> Result<Vec<String>, Wrong> {
    let list = given.list()?;
    if SKETCH_PATTERNS_MAX < list.len() {
        let value = format!("a list of {}", list.len());
        return Err(Wrong::Value {
            value,
            why: format!("there are at most {SKETCH_PATTERNS_MAX}"),
        });
    }
    let read = |text: &&str| {
        Glob::parse(text).map_err(|bad| wrong(text, bad.to_string()))?;
        // A pattern that can match nothing is a mistake.
        let good = |c: char| c.is_ascii_alphanumeric() || "_:*?[]!^-".contains(c);
        if text.is_empty() || !text.chars().all(good) {
            return Err(wrong(
                text,
                "a metric has letters, digits, _ and :; a * stands for any of them",
            ));
        }
        Ok((*text).to_owned())
    };
    list.iter().map(read).collect()
}

/// How names of units end.
const UNIT_ENDINGS: [&str; 7] = ["service", "socket", "timer", "mount", "target", "path", "swap"];

/// Names of units, as systemd spells them; without an ending it is a service.
fn units(given: Given<'_>) -> Result<Vec<String>, Wrong> {
    let list = given.list()?;
    if HOST_UNITS_MAX < list.len() {
        let value = format!("a list of {}", list.len());
        return Err(Wrong::Value { value, why: format!("there are at most {HOST_UNITS_MAX}") });
    }
    let read = |text: &&str| {
        let good = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if text.is_empty() || UNIT_BYTES_MAX < text.len() || !text.chars().all(good) {
            let why =
                "a unit is called as by systemctl list-units: nginx.service, php8.3-fpm.service";
            return Err(wrong(text, why));
        }
        let ending = text.rsplit_once('.').map(|(_, ending)| ending);
        let whole = ending.is_some_and(|ending| UNIT_ENDINGS.contains(&ending));
        Ok(if whole { (*text).to_owned() } else { format!("{text}.service") })
    };
    list.iter().map(read).collect()
}

/// A time zone, as the list spells it.
fn timezone(given: Given<'_>) -> Result<Zone, Wrong> {
    let text = given.text()?;
    if !is_zone_name(text) {
        let why = "a time zone is called as by IANA: UTC, Europe/Berlin, America/New_York";
        return Err(wrong(text, why));
    }
    Zone::parse(text).map_err(|bad| wrong(text, bad.to_string()))
}

/// One of a few words.
fn word<T: Copy>(given: Given<'_>, words: &[(&'static str, T)]) -> Result<T, Wrong> {
    let text = given.text()?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let mut why = format!("it is one of {}", all.join(", "));
    if let Some(near) = nearest(text, all) {
        why.push_str("; did you mean ");
        why.push_str(near);
        why.push('?');
    }
    Err(wrong(text, why))
}

/// The type of a TOML value, in words.
pub(super) fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// The beginning of a text from outside, fit for a terminal.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        out.push_str("...");
    }
    out
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text))
}

/// A text as a TOML string.
pub(super) fn toml_text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("BUG: a String takes all");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::toml_text;
    use toml::de::DeTable;

    #[test]
    fn a_text_is_read_back_from_its_toml() {
        for text in ["", "a\"b\\c", "\u{0}\u{7}\u{7f}\u{85}\n", "\u{e4}\u{1f600}"] {
            let toml = format!("a = {}", toml_text(text));
            let table = DeTable::parse(&toml).unwrap();
            assert_eq!(table.get_ref().get("a").unwrap().get_ref().as_str(), Some(text));
        }
    }
}
