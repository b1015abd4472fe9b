//! The bodies of the fuzz targets. Each takes any bytes and panics if a promise is broken; `cargo
//! test` replays the committed corpus through them.

use crate::base::codec::{self, Head, Record, SchemaRead, SchemaWrite};
use crate::base::human::{format_duration, parse_duration, parse_moment};
use crate::base::id::JobId;
use crate::base::key::{KeyReader, KeyWriter, prefix_end};
use crate::base::limits::NAME_BYTES_MAX;
use crate::base::name::QueueName;
use crate::base::time::Timestamp;

/// A fuzz target: its name, which is also its folder in `fuzz/corpus`, and its body.
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// The body.
    pub body: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 4] = [
    Target { name: "record_decode", body: record_decode },
    Target { name: "key_order", body: key_order },
    Target { name: "names", body: names },
    Target { name: "durations", body: durations },
];

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
enum Part {
    Nothing,
    Number(u64),
    Text { text: String, more: Vec<Option<u32>> },
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
struct Sample {
    id: u64,
    flag: bool,
    name: Option<String>,
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

impl Record for Sample {
    const HEAD: Head = Head { kind: 0x53, version: 1 };
}

/// Decoding any bytes gives an error or a value, and the value is written as it was read. The bytes
/// are also tried as the inside of a record whose checksum is right: that is where the length fields
/// are.
pub fn record_decode(data: &[u8]) {
    check_record(data);
    let mut framed = vec![Sample::HEAD.kind, Sample::HEAD.version];
    framed.extend_from_slice(data);
    let crc = crc32c::crc32c(&framed);
    framed.extend_from_slice(&crc.to_le_bytes());
    check_record(&framed);
}

fn check_record(bytes: &[u8]) {
    if let Ok(sample) = codec::decode::<Sample>(bytes) {
        assert_eq!(codec::head(bytes), Ok(Sample::HEAD));
        assert_eq!(codec::encode(&sample).as_deref(), Ok(bytes), "a record has one spelling");
    }
}

/// Two keys made of parts of the data sort like those parts, and are read as they were written.
pub fn key_order(data: &[u8]) {
    let (left, right) = data.split_at(data.len() / 2);
    let (a, b) = (KeyParts::from(left), KeyParts::from(right));
    assert_eq!(a.cmp(&b), a.encode().cmp(&b.encode()), "{a:?} {b:?}");
    assert_eq!(KeyParts::decode(&a.encode()).as_ref(), Some(&a));

    // Bytes that nobody wrote are read without a panic, and only as what they are.
    if let Some(parts) = KeyParts::decode(data) {
        assert_eq!(parts.encode(), data, "a key has one spelling");
    }
    let inside = left <= right && prefix_end(left).is_none_or(|end| right < end.as_slice());
    assert_eq!(inside, right.starts_with(left));
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct KeyParts {
    number: u16,
    name: String,
    bytes: Vec<u8>,
    big: u64,
    tail: Vec<u8>,
}

impl KeyParts {
    fn from(data: &[u8]) -> KeyParts {
        let cut = |at: usize, len: usize| &data[data.len().min(at)..data.len().min(at + len)];
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, &b| sum << 8 | u64::from(b));
        KeyParts {
            number: u16::try_from(number(cut(0, 2))).expect("two bytes make a u16"),
            name: cut(2, 3).iter().map(|b| char::from(b'a' + b % 3)).collect(),
            bytes: cut(5, 4).to_vec(),
            big: number(cut(9, 8)),
            tail: cut(17, 64).to_vec(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        KeyWriter::new()
            .u16(self.number)
            .name(&self.name)
            .bytes(&self.bytes)
            .u64(self.big)
            .tail(&self.tail)
    }

    fn decode(key: &[u8]) -> Option<KeyParts> {
        let mut read = KeyReader::new(key);
        Some(KeyParts {
            number: read.u16().ok()?,
            name: read.name().ok()?.to_owned(),
            bytes: read.bytes().ok()?,
            big: read.u64().ok()?,
            tail: read.tail().to_vec(),
        })
    }
}

/// A name is accepted exactly if it keeps the rule, and is kept as it was; an id has one spelling.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    let good = (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(allowed)
        && !matches!(text, "." | "..");
    match QueueName::parse(text) {
        Ok(name) => assert!(good && name.as_str() == text, "{text:?} was accepted as {name}"),
        Err(error) => assert!(!good, "{text:?} was refused: {error}"),
    }
    if let Ok(id) = JobId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
}

/// Any text is a duration or a moment or none, and what is accepted can be written and read again.
pub fn durations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(duration) = parse_duration(text) {
        let written = format_duration(duration);
        assert_eq!(parse_duration(&written), Ok(duration), "{text:?} -> {written}");
    }
    let now = Timestamp::from_unix_ms(1_763_640_000_000).expect("2025 is a year we keep");
    if let Ok(at) = parse_moment(text, now) {
        assert!(Timestamp::MIN <= at && at <= Timestamp::MAX);
        assert_eq!(parse_moment(&at.to_string(), now), Ok(at), "{text:?}");
    }
}
