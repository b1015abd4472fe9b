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
    QUERY_BATCH_MAX, SELECTOR_BYTES_MAX,
};
use crate::base::name::QueueName;
use crate::base::time::{Mono, Now, Timestamp};
use crate::base::token::{Kind, SECRET_BYTES, Token};
use crate::cache::glob::Glob;
use crate::cache::snapshot::{self, Reader, Writer};
use crate::config::{self, Environment, Loaded, Problems, Sources};
use crate::host::mounts;
use crate::host::names::{self, Teller};
use crate::host::parse::Counters;
use crate::host::raw::{Mounted, Own, Raw, Space, Texts};
use crate::host::reading::Reading;
use crate::http::queue_terms;
use crate::http::series_terms;
use crate::series::block::{self, Opened};
use crate::series::column;
use crate::series::labels::Labels;
use crate::series::memory::Memory;
use crate::series::point::{self, Common};
use crate::series::select::Selector;
use crate::series::sketch::Sketch;
use crate::series::text;
use crate::series::times as moments;
use crate::series::wal;

/// A fuzz target: its name, which is also its folder in `fuzz/corpus`, and its body.
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// The body.
    pub body: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 20] = [
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
    Target { name: "selectors", body: selectors },
    Target { name: "expositions", body: expositions },
    Target { name: "series_log", body: series_log },
    Target { name: "samples", body: samples },
    Target { name: "blocks", body: blocks },
    Target { name: "times", body: times },
    Target { name: "points", body: points },
    Target { name: "host", body: host },
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

/// The first line is a selector or none, and the rest is an exposition: a selector is written in one way, which
/// is read as the same, and series are meant by both or by none.
pub fn selectors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (selector, body) = text.split_once('\n').unwrap_or((text, ""));
    let selector = match Selector::parse(selector) {
        Ok(selector) => selector,
        Err(bad) => return assert!(bad.at <= selector.len() && !bad.what.is_empty(), "{bad}"),
    };
    let shown = selector.to_string();
    match Selector::parse(&shown) {
        Ok(again) => {
            assert_eq!(again.to_string(), shown);
            for labels in text::lines(body).flatten().flat_map(|line| text::labels(line.name)) {
                assert_eq!(selector.is_match(&labels), again.is_match(&labels), "{shown} {labels}");
            }
        }
        // Escapes may make it longer than one may be.
        Err(bad) => assert!(SELECTOR_BYTES_MAX < shown.len(), "{shown}: {bad}"),
    }
}

/// Any text is lines of samples or lines that are refused, in order; what a line calls its series is written in
/// one way, which is read as the same, and so are its value and its stored labels.
pub fn expositions(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut before = 0;
    for line in text::lines(text) {
        let number = line.as_ref().map_or_else(|(number, _)| *number, |line| line.number);
        assert!(before < number, "lines are told in order");
        before = number;
        let Ok(line) = line else {
            continue;
        };
        assert!(line.name.starts_with(line.metric) && text.contains(line.name));
        let Ok(labels) = text::labels(line.name) else {
            continue;
        };
        assert_eq!(Labels::from_bytes(labels.as_bytes()).as_ref(), Some(&labels));
        let time = line.time_ms.map(|time| format!(" {time}")).unwrap_or_default();
        let shown = format!("{labels} {}{time}", line.value);
        let again = text::lines(&shown).next().and_then(Result::ok);
        let again = again.unwrap_or_else(|| panic!("{shown:?} is not read"));
        let bits = (again.value.to_bits(), again.time_ms, text::labels(again.name));
        assert_eq!(bits, (line.value.to_bits(), line.time_ms, Ok(labels)));
    }
}

/// Any bytes are a log up to somewhere, or none; and what was read of it is written and read again. The bytes are also
/// tried as the inside of a frame whose checksum is right.
pub fn series_log(data: &[u8]) {
    check_log(data);
    let mut file = wal::MAGIC.to_vec();
    file.extend_from_slice(&u32::try_from(data.len()).expect("an input is short").to_le_bytes());
    file.extend_from_slice(&codec::checksum(data).to_le_bytes());
    file.extend_from_slice(data);
    check_log(&file);
}

fn check_log(bytes: &[u8]) {
    // A few bytes can stand for a row of 1,024 cells.
    let mut items = Vec::new();
    let mut cells = 0;
    let found = wal::read(bytes, &mut |item| {
        if let wal::Item::Row(row) = &item {
            assert!(row.cells.is_sorted_by(|a, b| a.0 < b.0), "columns ascend");
            cells += row.cells.len();
        }
        if cells < 1 << 20 {
            items.push(item);
        }
    });
    let Ok(found) = found else {
        return;
    };
    assert_eq!(found.bytes + found.torn, bytes.len() as u64, "all of it is one or the other");
    let mut again = wal::MAGIC.to_vec();
    wal::Encoder::default().frame(&items, &mut again);
    let mut read = Vec::new();
    let whole = wal::read(&again, &mut |item| read.push(item)).expect("it begins as a log does");
    assert_eq!(whole.torn, 0, "what is written is read");
    // Debug and not equality: NaN.
    assert_eq!(format!("{read:?}"), format!("{items:?}"));
    let mut memory = Memory::default();
    for item in read {
        memory.replay(item);
    }
    memory.everything();
}

/// Any bytes are samples in JSON, or are refused before one of them is handed on: what is taken is JSON to a parser that
/// knows nothing of samples, and each item of the list is told once, as taken or as refused. The same bytes are a batch
/// of queries, or none.
pub fn samples(data: &[u8]) {
    let now = Timestamp::from_unix_ms(1_763_640_000_000).expect("2025 is a year we keep");
    let json = serde_json::from_slice::<serde_json::Value>(data);
    match series_terms::json_samples(data, now) {
        Ok((taken, mut places)) => {
            assert!(taken <= places.len());
            let count = places.len();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), count, "each place once");
            // Numbers that no f64 holds are values to us, which are refused one by one.
            if let Ok(body) = &json {
                let items = body["samples"].as_array().map(Vec::len);
                assert!(items == Some(count) || body["samples"].is_null());
            }
        }
        Err(handed_on) => assert_eq!(handed_on, 0, "all of a body or nothing"),
    }
    if let Some(queries) = series_terms::batch_len(data, now) {
        assert!(
            queries <= QUERY_BATCH_MAX
                && serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok()
        );
    }
}

/// Any bytes are a part of a block of series or are refused; what is one can be written again, and is read
/// as the same. The bytes are also tried behind a right checksum, as the inside of a part, and as a column:
/// that is where the lengths are.
pub fn blocks(data: &[u8]) {
    check_part(data);
    for begin in [&[][..], &[1, 0]] {
        let mut framed = [begin, data].concat();
        framed.extend_from_slice(&codec::checksum(&framed).to_le_bytes());
        check_part(&framed);
    }
    check_column(data);
}

fn check_part(bytes: &[u8]) {
    let Ok(opened) = Opened::open(bytes) else {
        return;
    };
    let columns: Vec<(u16, Vec<u8>)> =
        opened.columns().map(|(column, bytes)| (column, bytes.to_vec())).collect();
    let mut again = Vec::new();
    for part in block::parts(&columns) {
        let opened = Opened::open(&part.bytes).expect("what is written is read");
        again.extend(opened.columns().map(|(column, bytes)| (column, bytes.to_vec())));
    }
    assert_eq!(again, columns);
    for (column, bytes) in &columns {
        assert_eq!(opened.column(*column), Some(&bytes[..]), "each column is found");
        check_column(bytes);
    }
}

fn check_column(bytes: &[u8]) {
    for rows in [0, 1, 7, 360, 1024] {
        let Ok(read) = column::decode(&mut &*bytes, rows) else {
            continue;
        };
        let cells: Vec<(u32, u64)> = read.cells().map(|(row, v)| (row, v.to_bits())).collect();
        assert_eq!(cells.len(), read.values.len());
        assert!(cells.is_sorted_by(|a, b| a.0 < b.0) && cells.iter().all(|cell| cell.0 < rows));
        let mut written = Vec::new();
        column::encode(&read, rows, &mut written);
        let again = column::decode(&mut &*written, rows).expect("what is written is read");
        assert_eq!(again.rows, read.rows);
        let same = again.cells().map(|(row, v)| (row, v.to_bits()));
        assert!(same.eq(cells), "values are the same to the bit");
    }
}

/// Any bytes are moments that ascend or are refused, and moments are read as they were written.
pub fn times(data: &[u8]) {
    if let Ok(read) = moments::decode(data) {
        assert!(!read.is_empty() && read.is_sorted_by(|a, b| a < b));
        let mut written = Vec::new();
        moments::encode(&read, &mut written);
        assert_eq!(moments::decode(&written), Ok(read));
    }
}

/// Any bytes are points of a series (with what they have in common, or with what a steady week has) or are refused; what is
/// read is written and read as the same, to the bit. The bytes are also tried as a sketch, which has one spelling.
pub fn points(data: &[u8]) {
    let (start_ms, step_ms) = (2_800 * 7 * 86_400_000, 3_600_000);
    let mut steady = Common { start_ms, step_ms, steps: Vec::new() };
    for (step, begin) in (0..168).zip((start_ms..).step_by(3_600_000)) {
        steady.steps.push((step, 360, begin + 3, begin + 3_590_003));
    }
    check_points(data, &steady);
    if let Some((&length, rest)) = data.split_first()
        && let Some((head, rest)) = rest.split_at_checked(usize::from(length))
        && let Ok(common) = Common::decode(head, start_ms, step_ms)
    {
        let mut written = Vec::new();
        common.encode(&mut written);
        assert_eq!(Common::decode(&written, start_ms, step_ms), Ok(common.clone()));
        check_points(rest, &common);
    }
    let mut rest = data;
    if let Ok(sketch) = Sketch::decode(&mut rest) {
        let mut written = Vec::new();
        sketch.encode(&mut written);
        assert_eq!(written, data[..data.len() - rest.len()], "a sketch has one spelling");
        let mut both = sketch.clone();
        both.merge(&sketch);
        assert!(sketch.count() <= both.count());
        assert_eq!(sketch.quantile(0.5).is_some(), 0 < sketch.count());
    }
}

fn check_points(bytes: &[u8], common: &Common) {
    let Ok(read) = point::decode(bytes, common) else {
        return;
    };
    assert!(read.is_sorted_by(|a, b| a.0 < b.0), "steps ascend");
    let mut written = Vec::new();
    point::encode(&read, common, &mut written);
    let again = point::decode(&written, common).expect("what is written is read");
    let mut rewritten = Vec::new();
    point::encode(&again, common, &mut rewritten);
    assert_eq!(rewritten, written, "points are the same to the bit");
}

/// Any bytes as the files of a machine, and as those of ten seconds later: shares are within 0 and 100, those of the
/// processors add up, nothing is below zero or no number, and what is told is told under names. A file is what stands
/// behind a line `== name`, or else everything.
pub fn host(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (first, second) = text.split_once("\n== later\n").unwrap_or((&text, &text));
    let before = Counters::of(&machine(first, 0));
    let after = Counters::of(&machine(second, 10));
    for reading in [Reading::between(None, &after), Reading::between(Some(&before), &after)] {
        check_reading(&reading);
        names::tell(&after, &reading, &mut Told::default());
    }
}

/// The machine of a text. Every other path is a folder, and file systems are of the size of their paths.
fn machine(text: &str, seconds: u64) -> Raw {
    let part = |name: &str| {
        let title = format!("== {name}\n");
        let mut lines = text.split_inclusive('\n').skip_while(|line| *line != title);
        let found: Option<String> =
            lines.next().map(|_| lines.take_while(|line| !line.starts_with("== ")).collect());
        Some(found.unwrap_or_else(|| text.to_owned()))
    };
    let mountinfo = part("mountinfo");
    let is_folder = |path: &str| path.len().is_multiple_of(2);
    let chosen = mounts::chosen(mountinfo.as_deref().unwrap_or(""), &is_folder);
    assert!(chosen.is_sorted_by(|a, b| a.path < b.path), "each path once");
    let mounted = |mount: mounts::Mount| {
        let total_bytes = mount.path.len() as u64 - 1;
        let space = Space { total_bytes, free_bytes: seconds, ..Space::default() };
        Mounted { mount, space: Some(space) }
    };
    Raw {
        now: Now { wall: Timestamp::MIN, mono: Mono::from_ns(seconds * 1_000_000_000) },
        mounted: chosen.into_iter().map(mounted).collect(),
        texts: Texts {
            stat: part("stat"),
            loadavg: part("loadavg"),
            meminfo: part("meminfo"),
            vmstat: part("vmstat"),
            diskstats: part("diskstats"),
            net_dev: part("net_dev"),
            mountinfo,
            pressure_cpu: part("pressure_cpu"),
            pressure_memory: part("pressure_memory"),
            pressure_io: part("pressure_io"),
            file_nr: part("file_nr"),
            uptime: part("uptime"),
        },
        own: Own::default(),
        page_bytes: 4096,
        quota_cores: None,
    }
}

fn check_reading(reading: &Reading) {
    let mut shares: Vec<f64> = Vec::new();
    let mut rates: Vec<f64> = Vec::new();
    if let Some(cpu) = &reading.cpu {
        let parts = [cpu.user, cpu.system, cpu.iowait, cpu.steal, cpu.idle];
        assert!((parts.iter().sum::<f64>() - 100.0).abs() < 1e-6, "{cpu:?}");
        shares.extend(parts);
    }
    shares.extend(reading.memory.iter().map(|memory| memory.usage));
    if let Some(swap) = &reading.swap {
        shares.extend(swap.usage);
        rates.extend(swap.read.iter().chain(&swap.written));
    }
    for disk in reading.disks.iter().flatten() {
        shares.extend([disk.usage, disk.inodes_usage, disk.busy].into_iter().flatten());
        rates.extend(disk.read.iter().chain(&disk.written));
    }
    for network in reading.network.iter().flatten() {
        let all = [network.bytes, network.packets, network.errors, network.drops];
        rates.extend(all.into_iter().flatten().flatten());
    }
    assert!(shares.iter().all(|share| (0.0..=100.0001).contains(share)), "{shares:?}");
    assert!(rates.iter().all(|rate| rate.is_finite() && 0.0 <= *rate), "{rates:?}");
}

/// Whoever is told, and looks at it.
#[derive(Default)]
struct Told {
    families: std::collections::BTreeSet<&'static str>,
}

impl Teller for Told {
    fn family(&mut self, name: &'static str, _: &'static str, _: &'static str) {
        assert!(self.families.insert(name), "{name} comes twice");
    }

    fn sample(&mut self, labels: &str, value: f64) {
        assert!(!self.families.is_empty(), "a family comes before its samples");
        assert!(value.is_finite() && !labels.contains('\n'), "{labels} {value}");
    }
}
