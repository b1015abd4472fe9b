//! `holdfast cache warm`: filling the cache from a file, or by having the app do it.
//!
//! The file is read line by line and sent in batches. A line that is wrong is skipped and told by its number,
//! whether we see it or the server does: a batch that is refused is sent again in halves.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IsTerminal as _, Read};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::ArgMatches;
use indicatif::{ProgressBar, ProgressStyle};

use super::commands::{cell, print_json, text};
use super::failure::{FAILURE, Failure, USAGE};
use super::session::Session;
use super::table::{bytes, shown};
use crate::base::amount::Amount;
use crate::base::human::{BadDuration, parse_duration};
use crate::base::limits::{
    CACHE_TAGS_MAX, CACHE_VALUE_BYTES_MAX, CALL_ITEMS_MAX, WARM_BATCH_BYTES, WARM_HELD_BYTES,
    WARM_LINE_BYTES_MAX, WARM_PAGES_AT_ONCE, WARM_TOLD_MAX,
};
use crate::base::name::Namespace;
use crate::base::time::Clock as _;
use crate::boot::clock::SystemClock;
use crate::cache::entry::{ContentType, Key, Life, Tag};
use crate::io::client::{Body, Error, Json, Page, Visited, encoded, object, visit};

/// `holdfast cache warm NAMESPACE FILE`, `holdfast cache warm --url URL...`
pub(super) fn warm(arguments: &ArgMatches) -> Result<(), Failure> {
    let list = |name: &str| -> Vec<String> {
        arguments.get_many::<String>(name).into_iter().flatten().cloned().collect()
    };
    let (what, mut urls) = (list("what"), list("url"));
    // No namespace looks like that.
    let is_url = |text: &String| text.starts_with("http://") || text.starts_with("https://");
    if !urls.is_empty() && what.iter().all(is_url) {
        urls.extend(what);
        return call_pages(arguments, &urls);
    }
    match what.as_slice() {
        [namespace, file] if urls.len() <= 1 => fill(arguments, namespace, file),
        _ => {
            let text = "give a namespace and a file, or pages of the app by --url URL";
            Err(Failure::new(USAGE, text))
        }
    }
}

/// Calls the pages.
fn call_pages(arguments: &ArgMatches, urls: &[String]) -> Result<(), Failure> {
    let usage = |text: String| Failure::new(USAGE, text);
    let pages = urls.iter().map(|url| Page::parse(url));
    let pages = pages.collect::<Result<Vec<Page>, _>>().map_err(|bad| usage(bad.to_string()))?;
    let within = parse_duration(text(arguments, "timeout")).ok().filter(|time| !time.is_zero());
    let within = within.ok_or_else(|| usage("--timeout is a time, such as 30s".to_owned()))?;
    let json = arguments.get_flag("json");
    let (mut failed, mut told) = (0_usize, Vec::new());
    visit(pages, WARM_PAGES_AT_ONCE, within, &mut |page, answer| {
        failed += usize::from(!went_well(&answer));
        if json {
            told.push(page_json(page, &answer));
        } else {
            println!("{}", page_line(page, &answer));
        }
    })?;
    if json {
        print_json(&Json::from(told));
    }
    match failed {
        0 => Ok(()),
        1 => Err(Failure::new(FAILURE, "one page failed")),
        _ => Err(Failure::new(FAILURE, format!("{failed} pages failed"))),
    }
}

/// One that sends us elsewhere has warmed nothing.
fn went_well(answer: &Result<Visited, Error>) -> bool {
    answer.as_ref().is_ok_and(|visited| (200..300).contains(&visited.status))
}

fn page_line(page: &Page, answer: &Result<Visited, Error>) -> String {
    let url = shown(page.url());
    match answer {
        Ok(Visited { status, location: Some(to), .. }) => {
            format!("{status}  {url}  (it sends us to {})", shown(to))
        }
        Ok(visited) => format!("{}  {url}  {}", visited.status, bytes(visited.bytes)),
        Err(error) => format!("---  {url}  {}", shown(&error.to_string())),
    }
}

fn page_json(page: &Page, answer: &Result<Visited, Error>) -> Json {
    let url = ("url", Json::from(page.url()));
    match answer {
        Ok(visited) => object([
            url,
            ("status", Json::from(visited.status)),
            ("bytes", Json::from(visited.bytes)),
            ("location", visited.location.as_deref().map_or(Json::Null, Json::from)),
        ]),
        Err(error) => object([url, ("error", Json::from(error.to_string()))]),
    }
}

/// Sends what stands in the file.
fn fill(arguments: &ArgMatches, namespace: &str, file: &str) -> Result<(), Failure> {
    let usual = Usual::of(arguments, namespace)?;
    let (input, length): (Box<dyn Read>, Option<u64>) = if file == "-" {
        (Box::new(std::io::stdin()), None)
    } else {
        let unreadable =
            |error| Failure::new(FAILURE, format!("{} cannot be read: {error}", shown(file)));
        let file = std::fs::File::open(file).map_err(unreadable)?;
        let found = file.metadata().map_err(unreadable)?;
        (Box::new(file), Some(found.len()).filter(|_| found.is_file()))
    };
    let clock = SystemClock::new();
    let began = clock.mono();
    let mut batches = Batches::new(sessions(arguments)?);
    let bar = bar(length);
    let sent = send_lines(&mut BufReader::new(input), &usual, &mut batches, &bar);
    bar.finish_and_clear();
    batches.done.tell(clock.mono().since(began), arguments.get_flag("json"));
    sent?;
    if batches.done.skipped == 0 { Ok(()) } else { Err(Failure::new(FAILURE, "")) }
}

/// For whom the entries are.
fn sessions(arguments: &ArgMatches) -> Result<Vec<Session>, Failure> {
    let session = Session::open(arguments)?;
    if !arguments.get_flag("all") {
        return Ok(vec![session]);
    }
    let tenants = session.all("/v1/tenants")?;
    let there = tenants.iter().filter(|tenant| tenant["state"] != "deleting");
    Ok(there.map(|tenant| session.for_tenant(&cell(&tenant["name"]))).collect())
}

/// On a terminal alone.
fn bar(length: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length {
        Some(length) => {
            (ProgressBar::new(length), "{bar:30} {bytes} of {total_bytes}, {msg}, {eta} left")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {msg}"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("BUG: the template is right"))
}

/// What counts for lines that do not say it.
struct Usual {
    namespace: String,
    ttl: Option<Json>,
    /// A part of the ttl, 0 to 1.
    jitter: Option<f64>,
}

impl Usual {
    fn of(arguments: &ArgMatches, namespace: &str) -> Result<Usual, Failure> {
        let usage = |text: String| Failure::new(USAGE, text);
        Namespace::parse(namespace).map_err(|bad| usage(bad.to_string()))?;
        let ttl = arguments.get_one::<String>("ttl").map(|text| Json::from(text.as_str()));
        if let Some(ttl) = &ttl {
            life(Some(ttl), None).map_err(|why| usage(format!("--ttl: {why}")))?;
        }
        let jitter = match arguments.get_one::<String>("jitter") {
            Some(text) => Some(part(text).ok_or_else(|| {
                usage(format!("--jitter {text:?} is not a percentage, such as 10%"))
            })?),
            None => None,
        };
        Ok(Usual { namespace: namespace.to_owned(), ttl, jitter })
    }
}

/// A percentage as a part of one.
fn part(text: &str) -> Option<f64> {
    match Amount::parse(text) {
        Ok(amount @ Amount::Percent(_)) => {
            let hundredths = u32::try_from(amount.of(10_000)).ok()?;
            Some(f64::from(hundredths) / 10_000.0)
        }
        Ok(Amount::Bytes(_)) | Err(_) => None,
    }
}

fn send_lines(
    input: &mut dyn BufRead,
    usual: &Usual,
    batches: &mut Batches,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let (mut line, mut number) = (Vec::new(), 0_u64);
    loop {
        number += 1;
        let (taken, fits) = next_line(input, &mut line)?;
        if taken == 0 {
            break;
        }
        bar.inc(taken);
        let read = if fits {
            read_line(&line, usual)
        } else {
            Err(format!("it is longer than {}", bytes(WARM_LINE_BYTES_MAX as u64)))
        };
        match read {
            Ok(Some((namespace, entry))) => {
                batches.add(namespace, Entry { line: number, ..entry })?;
                bar.set_message(format!("{} entries", batches.done.entries));
            }
            Ok(None) => {}
            Err(why) => batches.done.skip(number, why),
        }
    }
    batches.send_all()
}

/// Reads a line; how many bytes it took with its end, none at the end of all, and whether it is here whole.
fn next_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> std::io::Result<(u64, bool)> {
    line.clear();
    let most = WARM_LINE_BYTES_MAX as u64 + 1;
    let mut taken = (&mut *input).take(most).read_until(b'\n', line)? as u64;
    let fits = line.last() == Some(&b'\n') || taken < most;
    if !fits {
        taken += input.skip_until(b'\n')? as u64;
    }
    Ok((taken, fits))
}

/// An entry as it is sent.
#[derive(Debug, PartialEq)]
struct Entry {
    /// Where it stands in the file.
    line: u64,
    /// As JSON.
    text: String,
    /// The length of its value.
    value_bytes: u64,
}

const FIELDS: [&str; 8] =
    ["namespace", "key", "value", "encoding", "ttl", "stale", "tags", "content_type"];

/// The entry of a line, with its namespace; nothing for an empty line. Why it is none, otherwise.
fn read_line(line: &[u8], usual: &Usual) -> Result<Option<(String, Entry)>, String> {
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?.trim();
    if line.is_empty() {
        return Ok(None);
    }
    let wire: Json = line.parse().map_err(|error| format!("it is not JSON: {error}"))?;
    let members = wire.as_object().ok_or("it is no object")?;
    if let Some(unknown) = members.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(format!("it has an unknown field {}", shown(unknown)));
    }
    let field = |name: &str| members.get(name).filter(|value| !value.is_null());
    let word = |name: &str| match field(name) {
        Some(Json::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("{name} is no text")),
        None => Ok(None),
    };
    let namespace = word("namespace")?.unwrap_or(&usual.namespace);
    Namespace::parse(namespace).map_err(|bad| bad.to_string())?;
    Key::parse(word("key")?.ok_or("it has no key")?).map_err(|bad| bad.to_string())?;
    let value = word("value")?.ok_or("it has no value")?;
    let value_bytes = value_bytes(value, word("encoding")?)?;
    if word("content_type")?.is_some_and(|text| ContentType::parse(text).is_none()) {
        return Err("content_type cannot be one".to_owned());
    }
    check_tags(field("tags"))?;
    let ttl = field("ttl").or(usual.ttl.as_ref());
    life(ttl, field("stale"))?;
    // A class may have a ttl that we do not know.
    let jitter = usual.jitter.filter(|_| ttl.is_some());
    let given = ["key", "value", "encoding", "stale", "tags", "content_type"]
        .map(|name| (name, field(name).cloned().unwrap_or_default()));
    let ours = [
        ("ttl", ttl.cloned().unwrap_or_default()),
        ("jitter", jitter.map_or(Json::Null, Json::from)),
    ];
    let text = object(given.into_iter().chain(ours)).to_string();
    Ok(Some((namespace.to_owned(), Entry { line: 0, text, value_bytes })))
}

fn value_bytes(value: &str, encoding: Option<&str>) -> Result<u64, String> {
    let length = match encoding {
        None | Some("utf8") => value.len(),
        Some("base64") => {
            BASE64.decode(value).map_err(|error| format!("value is not base64: {error}"))?.len()
        }
        Some(_) => return Err("encoding is utf8 or base64".to_owned()),
    };
    if CACHE_VALUE_BYTES_MAX < length {
        return Err(format!("value has more than {}", bytes(CACHE_VALUE_BYTES_MAX as u64)));
    }
    Ok(length as u64)
}

fn check_tags(tags: Option<&Json>) -> Result<(), String> {
    let Some(tags) = tags else { return Ok(()) };
    let tags = tags.as_array().ok_or("tags is no list")?;
    if CACHE_TAGS_MAX < tags.len() {
        return Err(format!("it has more than {CACHE_TAGS_MAX} tags"));
    }
    for tag in tags {
        Tag::parse(tag.as_str().ok_or("a tag is no text")?).map_err(|bad| bad.to_string())?;
    }
    Ok(())
}

/// Whether there is such a life; what a class says, the server knows.
fn life(ttl: Option<&Json>, stale: Option<&Json>) -> Result<(), String> {
    let time = |value: &Json| -> Result<Duration, BadDuration> {
        match value {
            Json::String(text) => parse_duration(text),
            Json::Number(number) => parse_duration(&number.to_string()),
            _ => Err(BadDuration::Form),
        }
    };
    let stale_time = stale.map(time).transpose().map_err(|bad| format!("stale: {bad}"))?;
    if ttl.and_then(Json::as_str).is_some_and(|text| text.starts_with("class:")) {
        return Ok(());
    }
    let ttl = ttl.map(time).transpose().map_err(|bad| format!("ttl: {bad}"))?;
    Life::new(ttl, stale_time.unwrap_or_default()).map(drop).map_err(|bad| bad.to_string())
}

/// What came of it.
#[derive(Debug, Default)]
struct Done {
    entries: u64,
    value_bytes: u64,
    skipped: u64,
    /// The first of those that were skipped, and why.
    told: Vec<(u64, String)>,
}

impl Done {
    fn skip(&mut self, line: u64, why: impl Into<String>) {
        self.skipped += 1;
        if self.told.len() < WARM_TOLD_MAX {
            self.told.push((line, why.into()));
        }
    }

    fn tell(&self, took: Duration, json: bool) {
        let seconds = took.as_secs_f64();
        if json {
            let told = self.told.iter().map(|(line, why)| {
                object([("line", Json::from(*line)), ("why", Json::from(why.as_str()))])
            });
            print_json(&object([
                ("entries", Json::from(self.entries)),
                ("bytes", Json::from(self.value_bytes)),
                ("seconds", Json::from((seconds * 1000.0).round() / 1000.0)),
                ("skipped", Json::from(self.skipped)),
                ("lines", told.collect()),
            ]));
            return;
        }
        for (line, why) in &self.told {
            eprintln!("line {line}: {}", shown(why));
        }
        let untold = self.skipped - self.told.len() as u64;
        if 0 < untold {
            eprintln!("and {untold} more");
        }
        let (entries, size) = (self.entries, bytes(self.value_bytes));
        println!("{entries} entries, {size}, in {seconds:.1} s; {} lines skipped", self.skipped);
    }
}

/// Entries of one namespace that wait to be sent.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

/// Sends entries, many at once.
struct Batches {
    sessions: Vec<Session>,
    held: BTreeMap<String, Batch>,
    held_bytes: usize,
    done: Done,
}

impl Batches {
    fn new(sessions: Vec<Session>) -> Batches {
        Batches { sessions, held: BTreeMap::new(), held_bytes: 0, done: Done::default() }
    }

    fn add(&mut self, namespace: String, entry: Entry) -> Result<(), Failure> {
        let length = entry.text.len() + 1;
        let waiting = self.held.get(&namespace).map_or((0, 0), |b| (b.entries.len(), b.bytes));
        if 0 < waiting.0 && (CALL_ITEMS_MAX <= waiting.0 || WARM_BATCH_BYTES < waiting.1 + length) {
            self.send(&namespace)?;
        }
        let batch = self.held.entry(namespace).or_default();
        batch.entries.push(entry);
        batch.bytes += length;
        self.held_bytes += length;
        if WARM_HELD_BYTES < self.held_bytes { self.send_all() } else { Ok(()) }
    }

    fn send_all(&mut self) -> Result<(), Failure> {
        while let Some(namespace) = self.held.keys().next().cloned() {
            self.send(&namespace)?;
        }
        Ok(())
    }

    /// Sends what is held of the namespace, to every tenant.
    fn send(&mut self, namespace: &str) -> Result<(), Failure> {
        let Some(batch) = self.held.remove(namespace) else { return Ok(()) };
        self.held_bytes -= batch.bytes;
        let path = format!("/v1/cache/{}/put", encoded(namespace));
        for session in &self.sessions {
            put(session, &path, &batch.entries, &mut self.done)?;
        }
        Ok(())
    }
}

/// Sends these entries. What the server refuses is narrowed down to the entries that it means.
fn put(session: &Session, path: &str, entries: &[Entry], done: &mut Done) -> Result<(), Failure> {
    let mut parts = vec![entries];
    while let Some(part) = parts.pop() {
        let texts: Vec<&str> = part.iter().map(|entry| entry.text.as_str()).collect();
        let body = Body::json_text(format!("{{\"entries\":[{}]}}", texts.join(",")));
        let answer = session.send("POST", path, Some(body))?;
        match (answer.status, part) {
            (200..300, _) => {
                done.entries += part.len() as u64;
                done.value_bytes += part.iter().map(|entry| entry.value_bytes).sum::<u64>();
            }
            (400 | 413, [entry]) => {
                done.skip(entry.line, session.failure(answer).text);
            }
            (400 | 413, _) => {
                let (first, rest) = part.split_at(part.len() / 2);
                parts.extend([rest, first]);
            }
            _ => return Err(session.failure(answer)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Usual, next_line, part, read_line};
    use crate::base::limits::WARM_LINE_BYTES_MAX;
    use crate::io::client::Json;
    use std::io::BufReader;

    fn usual(ttl: Option<&str>, jitter: Option<f64>) -> Usual {
        Usual { namespace: "pages".to_owned(), ttl: ttl.map(Json::from), jitter }
    }

    fn read(line: &str, usual: &Usual) -> Result<Option<(String, String, u64)>, String> {
        let read = read_line(line.as_bytes(), usual)?;
        Ok(read.map(|(namespace, entry)| (namespace, entry.text, entry.value_bytes)))
    }

    #[test]
    fn a_line_becomes_an_entry() {
        let plain = usual(None, None);
        let one = |line: &str, usual: &Usual| read(line, usual).unwrap().unwrap();
        let (namespace, text, bytes) = one(r#"{"key":"k","value":"v\u00e4"}"#, &plain);
        assert_eq!((&*namespace, bytes), ("pages", 3));
        assert_eq!(text, "{\"key\":\"k\",\"value\":\"v\u{e4}\"}");
        let full = r#"{"namespace":"other","key":"k","value":"YWI=","encoding":"base64","ttl":"5m",
            "stale":60,"tags":["a","b"],"content_type":"text/css"}"#;
        let (namespace, text, bytes) = one(&full.replace('\n', ""), &plain);
        assert_eq!((&*namespace, bytes), ("other", 2));
        for part in ["\"ttl\":\"5m\"", "\"stale\":60", "\"tags\":[\"a\",\"b\"]", "text/css"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("namespace") && !text.contains("jitter"), "{text}");
        // What counts for all, where the line says nothing; jitter where there is a ttl.
        let with = usual(Some("class:trend"), Some(0.1));
        let (_, text, _) = one(r#"{"key":"k","value":"v","stale":null}"#, &with);
        assert!(text.contains("\"class:trend\"") && text.contains("\"jitter\":0.1"), "{text}");
        let (_, text, _) = one(r#"{"key":"k","value":"v","ttl":1.5}"#, &with);
        assert!(text.contains("\"ttl\":1.5") && !text.contains("class"), "{text}");
        let (_, text, _) = one(r#"{"key":"k","value":"v"}"#, &usual(None, Some(0.1)));
        assert!(!text.contains("jitter"), "{text}");
        assert_eq!(read(" \r\n", &plain), Ok(None));
    }

    #[test]
    fn a_line_that_is_no_entry_says_why() {
        for (line, why) in [
            ("nonsense", "it is not JSON"),
            ("[]", "it is no object"),
            ("{}", "it has no key"),
            (r#"{"key":"k"}"#, "it has no value"),
            (r#"{"key":"k","value":5}"#, "value is no text"),
            (r#"{"key":"","value":"v"}"#, "a key has 1 to"),
            (r#"{"key":"k","value":"v","tll":5}"#, "unknown field tll"),
            (r#"{"key":"k","value":"v","namespace":"a b"}"#, "namespace name has a character"),
            (r#"{"key":"k","value":"v","encoding":"hex"}"#, "encoding is utf8 or base64"),
            (r#"{"key":"k","value":"v!","encoding":"base64"}"#, "value is not base64"),
            (r#"{"key":"k","value":"v","ttl":0}"#, "a ttl is at least"),
            (r#"{"key":"k","value":"v","ttl":-5}"#, "ttl: a duration is not negative"),
            (r#"{"key":"k","value":"v","ttl":[]}"#, "ttl: a duration is a number"),
            (r#"{"key":"k","value":"v","stale":"1h"}"#, "stale counts after the ttl"),
            (r#"{"key":"k","value":"v","ttl":5,"stale":"x"}"#, "stale: a duration"),
            (r#"{"key":"k","value":"v","tags":"a"}"#, "tags is no list"),
            (r#"{"key":"k","value":"v","tags":[5]}"#, "a tag is no text"),
            (r#"{"key":"k","value":"v","tags":[""]}"#, "a tag has 1 to"),
            (r#"{"key":"k","value":"v","content_type":"a\nb"}"#, "content_type cannot be one"),
        ] {
            let told = read(line, &usual(None, None)).expect_err(line);
            assert!(told.contains(why), "{line}: {told}");
        }
        assert!(read_line(b"{\"key\":\"\xff\"}", &usual(None, None)).is_err());
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_is_read() {
        let long = "x".repeat(WARM_LINE_BYTES_MAX + 1);
        let fits = "y".repeat(WARM_LINE_BYTES_MAX);
        let text = format!("a\n{long}\n{fits}\n\nlast");
        let mut input = BufReader::new(text.as_bytes());
        let mut line = Vec::new();
        let mut lines = Vec::new();
        loop {
            let (taken, whole) = next_line(&mut input, &mut line).unwrap();
            if taken == 0 {
                break;
            }
            lines.push((taken, whole));
        }
        let most = WARM_LINE_BYTES_MAX as u64;
        assert_eq!(lines, [(2, true), (most + 2, false), (most + 1, true), (1, true), (4, true)]);
        assert_eq!(line, b"");
    }

    #[test]
    fn jitter_is_a_percentage() {
        assert_eq!((part("10%"), part("100%"), part("0.5%")), (Some(0.1), Some(1.0), Some(0.005)));
        for text in ["", "10", "0.1", "0%", "101%", "-5%", "x"] {
            assert_eq!(part(text), None, "{text:?}");
        }
    }
}
