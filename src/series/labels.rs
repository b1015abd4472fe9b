//! What a series is called: a metric, and labels.
//!
//! Invariant of [`Labels`]: the metric is `[a-zA-Z_:][a-zA-Z0-9_:]*`, 1 to 128 bytes; at most 32 labels, sorted by name,
//! each name once, `[a-zA-Z_][a-zA-Z0-9_]*` up to 128 bytes and not `__name__`; values are 1 to 1,024 bytes of UTF-8
//! (a label with an empty value is the same as no label, and is left out).

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::base::limits::{LABEL_NAME_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX};

/// The label that stands for the metric in selectors.
pub(super) const METRIC_LABEL: &str = "__name__";
/// So much is told of a name that is too long.
const BEGIN_CHARS: usize = 32;

/// Why something is no metric or label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLabels {
    /// The metric's name.
    #[error("a metric is 1 to 128 of a-z A-Z 0-9 _ : and begins with no digit; {0:?} is not")]
    Metric(String),
    /// A label's name.
    #[error("a label is 1 to 128 of a-z A-Z 0-9 _ and begins with no digit; {0:?} is not")]
    Name(String),
    /// A name that is too long; it is not told whole, and what is told would look like a good one.
    #[error("the {what} that begins with {begin:?} has {bytes} bytes, the limit is 128")]
    TooLong {
        /// `metric` or `label`.
        what: &'static str,
        /// Its first characters.
        begin: String,
        /// How long it is.
        bytes: usize,
    },
    /// The name that the metric itself has.
    #[error("the label __name__ is the metric itself")]
    Reserved,
    /// A label twice.
    #[error("the label {0:?} is there twice")]
    Twice(String),
    /// A value that is too long.
    #[error("the value of label {name:?} has {bytes} bytes, the limit is 1024")]
    Value {
        /// Of which label.
        name: String,
        /// How long it is.
        bytes: usize,
    },
    /// Too many labels.
    #[error("a series has at most 32 labels")]
    TooMany,
}

/// Whether a byte may stand in the name of a label, after its first.
pub(super) const fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether a byte may stand in the name of a metric, after its first.
pub(super) const fn is_metric_byte(byte: u8) -> bool {
    is_label_byte(byte) || byte == b':'
}

/// Whether this is the name of a metric.
pub(super) fn is_metric(text: &str) -> bool {
    is_name(text, is_metric_byte)
}

/// Whether this is the name of a label; `__name__` is one here.
pub(super) fn is_label(text: &str) -> bool {
    is_name(text, is_label_byte)
}

fn is_name(text: &str, allowed: fn(u8) -> bool) -> bool {
    text.len() <= LABEL_NAME_BYTES_MAX
        && text.as_bytes().first().is_some_and(|first| !first.is_ascii_digit())
        && text.bytes().all(allowed)
}

/// Why this is no name, with no more of it than its beginning: no message is as long as a body.
fn bad_name(what: &'static str, name: &str, other: fn(String) -> BadLabels) -> BadLabels {
    if name.len() <= LABEL_NAME_BYTES_MAX {
        return other(name.to_owned());
    }
    let begin = name.chars().take(BEGIN_CHARS).collect();
    BadLabels::TooLong { what, begin, bytes: name.len() }
}

/// Writes a value as it stands between quotes.
pub(super) fn write_escaped(out: &mut impl fmt::Write, value: &str) -> fmt::Result {
    for piece in value.split_inclusive(['\\', '"', '\n']) {
        let (plain, last) = match piece.as_bytes().last() {
            Some(b'\\') => (&piece[..piece.len() - 1], "\\\\"),
            Some(b'"') => (&piece[..piece.len() - 1], "\\\""),
            Some(b'\n') => (&piece[..piece.len() - 1], "\\n"),
            _ => (piece, ""),
        };
        out.write_str(plain)?;
        out.write_str(last)?;
    }
    Ok(())
}

/// A metric with its labels, in one piece of memory; cheap to clone.
///
/// ```text
/// [length u16][metric] ([length u16][name] [length u16][value])*      lengths little-endian, labels sorted by name
/// ```
///
/// The same bytes stand in the file: they are part of the format.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[u8]>);

impl Labels {
    /// A metric with labels in any order.
    pub fn new<'l>(
        metric: &str,
        pairs: impl IntoIterator<Item = (&'l str, &'l str)>,
    ) -> Result<Labels, BadLabels> {
        if !is_metric(metric) {
            return Err(bad_name("metric", metric, BadLabels::Metric));
        }
        let mut all: Vec<(&str, &str)> = Vec::new();
        let mut present = 0;
        let mut bytes = 2 + metric.len();
        for (name, value) in pairs {
            check_pair(name, value)?;
            if !value.is_empty() {
                present += 1;
                bytes += 4 + name.len() + value.len();
            }
            // Those without a value are kept until here, so that a name is refused twice in any case.
            all.push((name, value));
            if LABELS_MAX < present {
                return Err(BadLabels::TooMany);
            }
        }
        all.sort_unstable();
        if let Some(twice) = all.windows(2).find(|two| two[0].0 == two[1].0) {
            return Err(BadLabels::Twice(twice[0].0.to_owned()));
        }
        let mut stored = Vec::with_capacity(bytes);
        put(&mut stored, metric);
        for (name, value) in all.into_iter().filter(|(_, value)| !value.is_empty()) {
            put(&mut stored, name);
            put(&mut stored, value);
        }
        Ok(Labels(stored.into()))
    }

    /// Reads what [`Labels::as_bytes`] gives; `None` if it is nothing of the kind.
    pub fn from_bytes(bytes: &[u8]) -> Option<Labels> {
        let (metric, mut rest) = split(bytes)?;
        if !is_metric(metric) {
            return None;
        }
        let mut before = "";
        let mut count = 0;
        while !rest.is_empty() {
            let (name, after_name) = split(rest)?;
            let (value, after_value) = split(after_name)?;
            // Every name is above the empty one, and no name is empty.
            if name <= before || value.is_empty() || check_pair(name, value).is_err() {
                return None;
            }
            count += 1;
            (before, rest) = (name, after_value);
        }
        (count <= LABELS_MAX).then(|| Labels(bytes.into()))
    }

    /// The stored form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The metric.
    pub fn metric(&self) -> &str {
        take(&self.0).0
    }

    /// The labels, sorted by name.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = take(&self.0).1;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (name, after_name) = take(rest);
            let (value, after_value) = take(after_name);
            rest = after_value;
            Some((name, value))
        })
    }

    /// The value of one; `__name__` is the metric.
    pub fn get(&self, name: &str) -> Option<&str> {
        if name == METRIC_LABEL {
            return Some(self.metric());
        }
        self.pairs().find(|(found, _)| *found == name).map(|(_, value)| value)
    }
}

fn check_pair(name: &str, value: &str) -> Result<(), BadLabels> {
    if !is_label(name) {
        return Err(bad_name("label", name, BadLabels::Name));
    }
    if name == METRIC_LABEL {
        return Err(BadLabels::Reserved);
    }
    if LABEL_VALUE_BYTES_MAX < value.len() {
        return Err(BadLabels::Value { name: name.to_owned(), bytes: value.len() });
    }
    Ok(())
}

fn put(stored: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("BUG: names and values are shorter than 64 KiB");
    stored.extend_from_slice(&length.to_le_bytes());
    stored.extend_from_slice(text.as_bytes());
}

/// The first text of what may be anything, and what follows it.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// The first text of what was checked.
fn take(bytes: &[u8]) -> (&str, &[u8]) {
    split(bytes).expect("BUG: labels were checked when they were made")
}

/// As selectors and expositions spell it: `metric{name="value"}`, with escapes.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric())?;
        let mut before = '{';
        for (name, value) in self.pairs() {
            f.write_char(before)?;
            write!(f, "{name}=\"")?;
            write_escaped(f, value)?;
            f.write_char('"')?;
            before = ',';
        }
        if before == ',' { f.write_char('}') } else { Ok(()) }
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::{BadLabels, Labels};
    use crate::base::limits::LABELS_MAX;
    use crate::base::rng::Rng;
    use crate::testing::seeds;

    #[test]
    fn labels_are_sorted_and_found_and_empty_ones_are_none() {
        let labels = Labels::new("cpu", [("z", "1"), ("host", "a"), ("none", ""), ("a", "\u{e9}")]);
        let labels = labels.unwrap();
        let pairs: Vec<_> = labels.pairs().collect();
        assert_eq!(pairs, [("a", "\u{e9}"), ("host", "a"), ("z", "1")]);
        assert_eq!((labels.metric(), labels.get("__name__")), ("cpu", Some("cpu")));
        assert_eq!(
            (labels.get("host"), labels.get("none"), labels.get("hos")),
            (Some("a"), None, None)
        );
        assert_eq!(
            labels,
            Labels::new("cpu", [("a", "\u{e9}"), ("host", "a"), ("z", "1")]).unwrap()
        );
    }

    #[test]
    fn they_are_written_as_expositions_write_them() {
        let shown = |metric, pairs: &[(&'static str, &'static str)]| {
            Labels::new(metric, pairs.iter().copied()).unwrap().to_string()
        };
        assert_eq!(shown("up", &[]), "up");
        assert_eq!(shown("a:b", &[("x", "1"), ("b", "2")]), r#"a:b{b="2",x="1"}"#);
        assert_eq!(shown("up", &[("p", "C:\\\"x\"\n\n")]), r#"up{p="C:\\\"x\"\n\n"}"#);
    }

    #[test]
    fn what_is_no_metric_or_label_is_refused_with_a_reason() {
        let refused = |metric: &str, pairs: &[(&str, &str)]| {
            Labels::new(metric, pairs.iter().copied()).unwrap_err()
        };
        let long = "x".repeat(129);
        for bad in ["", "1a", "a-b", "a b", "\u{e9}"] {
            assert_eq!(refused(bad, &[]), BadLabels::Metric(bad.to_owned()));
            assert_eq!(refused("m", &[(bad, "v")]), BadLabels::Name(bad.to_owned()));
        }
        let told = format!(" that begins with {:?} has 129 bytes, the limit is 128", &long[..32]);
        assert_eq!(refused(&long, &[]).to_string(), format!("the metric{told}"));
        assert_eq!(refused("m", &[(&long, "v")]).to_string(), format!("the label{told}"));
        assert!(Labels::new(&long[1..], [(&long[1..], "v")]).is_ok());
        assert_eq!(refused("m", &[("a:b", "")]), BadLabels::Name("a:b".to_owned()));
        assert_eq!(refused("m", &[("__name__", "m")]), BadLabels::Reserved);
        assert_eq!(refused("m", &[("a", ""), ("b", "1"), ("a", "")]), BadLabels::Twice("a".into()));
        let value = "v".repeat(1025);
        let wrong = BadLabels::Value { name: "a".to_owned(), bytes: 1025 };
        assert_eq!(refused("m", &[("a", &value)]), wrong);
        assert!(Labels::new("m", [("a", &value[1..])]).is_ok());
        let names: Vec<String> = (0..=LABELS_MAX).map(|at| format!("l{at}")).collect();
        let pairs = |count: usize| names[..count].iter().map(|name| (name.as_str(), "v"));
        assert!(Labels::new("m", pairs(LABELS_MAX)).is_ok());
        assert_eq!(Labels::new("m", pairs(LABELS_MAX + 1)), Err(BadLabels::TooMany));
    }

    #[test]
    fn stored_bytes_are_read_as_what_they_were_and_nothing_else_is() {
        let labels = Labels::new("cpu", [("host", "a"), ("mode", "user")]).unwrap();
        let bytes = labels.as_bytes().to_vec();
        assert_eq!(bytes, b"\x03\0cpu\x04\0host\x01\0a\x04\0mode\x04\0user", "part of the format");
        assert_eq!(Labels::from_bytes(&bytes), Some(labels));
        for end in (0..bytes.len()).filter(|end| *end != 5 && *end != 14) {
            assert_eq!(Labels::from_bytes(&bytes[..end]), None, "cut at {end}");
        }
        for bad in [
            &b"\x01\0m\x01\0b\x01\0v\x01\0a\x01\0v"[..],
            b"\x01\0m\x01\0a\x01\0v\x01\0a\x01\0v",
            b"\x01\0m\x01\0a\0\0",
            b"\x01\0m\x01\0a\x01\0\xff",
            b"\x01\x001",
            b"\x01\0m\x08\0__name__\x01\0m",
        ] {
            assert_eq!(Labels::from_bytes(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn any_damage_to_stored_bytes_gives_none_or_labels_with_these_bytes() {
        for seed in seeds(300) {
            let mut rng = Rng::from_seed(seed);
            let labels = Labels::new("cpu", [("host", "a"), ("mode", "user"), ("x", "y")]).unwrap();
            let mut bytes = labels.as_bytes().to_vec();
            for _ in 0..=rng.index(3) {
                let at = rng.index(bytes.len());
                bytes[at] = rng.bytes(1)[0];
            }
            if let Some(read) = Labels::from_bytes(&bytes) {
                assert_eq!(read.as_bytes(), bytes, "seed {seed}");
                let again = Labels::new(read.metric(), read.pairs());
                assert_eq!(again.as_ref(), Ok(&read), "seed {seed}");
            }
        }
    }
}
