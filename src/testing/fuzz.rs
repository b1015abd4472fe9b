//! The bodies of the fuzz targets. Each takes any bytes and panics if a promise is broken; `cargo
//! test` replays the committed corpus through them.

use std::path::PathBuf;

use super::conversation;
use crate::base::codec::{self, Head, Record, SchemaRead, SchemaWrite};
use crate::base::cursor;
use crate::base::human::{format_duration, parse_duration, parse_moment};
use crate::base::id::{JobId, TokenId};
use crate::base::key::{KeyReader, KeyWriter, prefix_end};
use crate::base::limits::{
    CACHE_KEY_BYTES_MAX, CALL_ITEMS_MAX, GLOB_BYTES_MAX, JOB_PAYLOAD_BYTES_MAX, NAME_BYTES_MAX,
};
use crate::base::name::QueueName;
use crate::base::time::Timestamp;
use crate::base::token::{Kind, SECRET_BYTES, Token};
use crate::cache::glob::Glob;
use crate::cache::snapshot::{self, Reader, Writer};
use crate::config::{self, Environment, Loaded, Problems, Sources};
use crate::http::queue_terms;

/// A fuzz target: its name, which is also its folder in `fuzz/corpus`, and its body.
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// The body.
    pub body: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 12] = [
    Target { name: "record_decode", body: record_decode },
    Target { name: "key_order", body: key_order },
    Target { name: "names", body: names },
    Target { name: "durations", body: durations },
    Target { name: "tokens", body: tokens },
    Target { name: "cursors", body: cursors },
    Target { name: "config", body: config },
    Target { name: "patterns", body: patterns },
    Target { name: "http_bytes", body: http_bytes },
    Target { name: "requests", body: requests },
    Target { name: "snapshots", body: snapshots },
    Target { name: "jobs", body: jobs },
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

/// A text is a token only as tokens are written; what is written of any bytes is read as those bytes.
pub fn tokens(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(token) = Token::parse(text)
    {
        assert_eq!(token.to_text().expose(), text, "a token has one spelling");
    }
    let byte = |at: usize| data.get(at).copied().unwrap_or(0);
    let token = Token {
        kind: if byte(0) & 1 == 0 { Kind::App } else { Kind::Admin },
        id: TokenId::from_raw((1..9).fold(0, |id, at| id << 8 | u64::from(byte(at)))),
        secret: std::array::from_fn::<u8, SECRET_BYTES, _>(|at| byte(9 + at)),
    };
    let text = token.to_text();
    let read = Token::parse(text.expose()).expect("what is written is read");
    assert_eq!((read.kind, read.id, read.secret), (token.kind, token.id, token.secret));

    // One character is changed, by the bytes that are left: that is never a token.
    let mut changed = text.expose().as_bytes().to_vec();
    let at = usize::from(byte(41)) % changed.len();
    changed[at] = byte(42);
    if let Ok(changed) = std::str::from_utf8(&changed)
        && changed != text.expose()
    {
        assert!(Token::parse(changed).is_err(), "{changed:?} is taken for a token");
    }
}

/// A text is a cursor only as cursors are written, and of one list alone.
pub fn cursors(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(key) = cursor::read("tokens", text)
    {
        assert_eq!(cursor::write("tokens", &key), text, "a cursor has one spelling");
        assert!(cursor::read("audit", text).is_err(), "a cursor belongs to one list");
    }
    let key = &data[..data.len().min(cursor::CURSOR_KEY_BYTES_MAX)];
    let text = cursor::write("audit", key);
    assert_eq!(cursor::read("audit", &text).as_deref(), Ok(key));
    assert!(cursor::read("tokens", &text).is_err(), "a cursor belongs to one list");
}

fn load_config(text: &str, environment: &Environment) -> Result<Loaded, Problems> {
    let file = Some((PathBuf::from("/etc/holdfast/holdfast.toml"), text.to_owned()));
    config::load(&Sources { flags: Vec::new(), environment, file })
}

/// Any text is a configuration, or it is told what is wrong with it; the same each time.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let environment = Environment::default();
    match (load_config(&text, &environment), load_config(&text, &environment)) {
        (Ok(one), Ok(other)) => {
            assert_eq!((&one.config, &one.values), (&other.config, &other.values));
            assert!(config::differences(&one, &other).is_empty());
            assert!(one.config.tiers.contains_key("standard"));
        }
        (Err(one), Err(other)) => {
            let told = one.to_string();
            assert_eq!(told, other.to_string());
            assert!(!one.list().is_empty() && !told.is_empty());
            // What is repeated of the file must not reach a terminal as a command.
            let command = told.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(command, None, "{told:?}");
        }
        (one, other) => panic!("once {one:?}, once {other:?}"),
    }
}

/// Any text is a pattern or none; it matches what a slow and simple matcher says, and every key matches
/// itself when its characters are escaped. The first line is the pattern, the rest is the key.
pub fn patterns(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (pattern, key) = text.split_once('\n').unwrap_or((text, text));
    if CACHE_KEY_BYTES_MAX < key.len() {
        return;
    }
    if let Ok(glob) = Glob::parse(pattern) {
        let matched = glob.matches(key);
        assert!(!matched || key.starts_with(glob.prefix()), "{pattern:?} {key:?}");
        if !pattern.contains(['[', '\\']) {
            assert_eq!(matched, stars_match(pattern, key), "{pattern:?} {key:?}");
        }
    }
    let escaped: String = key.chars().flat_map(|c| ['\\', c]).collect();
    match Glob::parse(&escaped) {
        Ok(glob) => {
            assert_eq!((glob.matches(key), glob.prefix()), (true, key));
            assert!(!glob.matches(&format!("{key}x")) && !glob.matches(&format!("x{key}")));
        }
        Err(error) => assert!(GLOB_BYTES_MAX < escaped.len(), "{key:?} is refused: {error}"),
    }
}

/// Whether a pattern of stars, question marks and characters matches: step by step, all ways at once.
fn stars_match(pattern: &str, key: &str) -> bool {
    let key: Vec<char> = key.chars().collect();
    // How much of the key the pattern so far can have taken.
    let mut taken = vec![false; key.len() + 1];
    taken[0] = true;
    for part in pattern.chars() {
        if part == '*' {
            let first = taken.iter().position(|taken| *taken).unwrap_or(taken.len());
            taken[first..].fill(true);
            continue;
        }
        for at in (0..key.len()).rev() {
            taken[at + 1] = taken[at] && (part == '?' || part == key[at]);
        }
        taken[0] = false;
    }
    taken[key.len()]
}

/// Any bytes, sent by a stranger: every answer is whole, none is a fault of ours, none of them lets the
/// stranger in, and nothing is changed.
pub fn http_bytes(data: &[u8]) {
    drop(conversation::as_stranger(data));
}

/// Any target and body, sent by an administrator: there is one answer, and it is no fault of ours. The
/// first line is method and target, the rest is the body.
pub fn requests(data: &[u8]) {
    let _status = conversation::as_administrator(data);
}

/// Any bytes are a snapshot of the cache or none; one that is one can be written again, and is read as the
/// same. The bytes are also tried as the inside of a frame whose checksums are right: that is where the
/// lengths are.
pub fn snapshots(data: &[u8]) {
    check_snapshot(data);
    let saved_at = Timestamp::from_unix_ms(1_763_640_000_000).expect("2025 is a year we keep");
    let mut file = Vec::new();
    let writer = Writer::begin(&mut file, saved_at).expect("memory takes all");
    drop(writer);
    let mut record = vec![0x46, 1];
    record.extend_from_slice(data);
    record.extend_from_slice(&codec::checksum(&record).to_le_bytes());
    let length = u32::try_from(record.len()).expect("an input is short");
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&record);
    check_snapshot(&file);
}

fn check_snapshot(bytes: &[u8]) {
    let whole = snapshot::verify(&mut &*bytes);
    let mut input = bytes;
    let Ok(mut reader) = Reader::open(&mut input) else {
        assert!(whole.is_err(), "there is no snapshot without a beginning");
        return;
    };
    let mut again = Vec::new();
    let mut writer = Writer::begin(&mut again, reader.saved_at()).expect("memory takes all");
    let mut entries = 0;
    let ended = loop {
        match reader.next_frame() {
            Ok(Some(frame)) => {
                for entry in &frame.entries {
                    entries += 1;
                    let added = writer.add(frame.tenant, &frame.namespace, entry);
                    added.expect("what was read can be written");
                }
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    assert_eq!(ended, whole.is_ok(), "the same each time");
    writer.finish().expect("memory takes all");
    let counts = snapshot::verify(&mut &*again).expect("what is written is read");
    assert_eq!(counts.entries, entries);
}

/// Any bytes are jobs or are refused. What is taken is JSON to a parser that knows nothing of jobs, too,
/// and every payload of JSON stands in it as it is.
pub fn jobs(data: &[u8]) {
    let now = Timestamp::from_unix_ms(1_763_640_000_000).expect("2025 is a year we keep");
    let json = serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok();
    if let Ok(specs) = queue_terms::jobs(data, now) {
        assert!(json && specs.len() <= CALL_ITEMS_MAX);
        for payload in specs.iter().map(|spec| &spec.payload) {
            let length = payload.bytes.len();
            assert!(length <= JOB_PAYLOAD_BYTES_MAX);
            if payload.content_type.is_none() {
                let kept = data.windows(length).any(|part| part == payload.bytes);
                assert!(kept, "a payload is what it was");
            }
        }
    }
    // What workers and those who look after queues say is read by the same means.
    let blank = data.iter().all(u8::is_ascii_whitespace);
    for taken in [
        queue_terms::lease(data).is_ok(),
        queue_terms::done(data).is_ok(),
        queue_terms::fail(data).is_ok(),
        queue_terms::release(data).is_ok(),
        queue_terms::extend(data).is_ok(),
        queue_terms::report(data).is_ok(),
        queue_terms::beat(data).is_ok(),
        queue_terms::settings(data).is_ok(),
        queue_terms::failures(data).is_ok(),
        queue_terms::schedule(data, now).is_ok(),
    ] {
        assert!(json || blank || !taken);
    }
}
