//! `holdfast series export`
//!
//! An answer has no more points than a server gives at once, so the range is asked for piece by piece: a piece that is too
//! large is halved, one that went well makes the next one twice as long. Pieces are whole milliseconds that touch, so no
//! sample is there twice and none is missing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use clap::ArgMatches;

use super::points::{Answer, Found, read, shown_moment};
use super::query::CSV_HEAD;
use super::{csv_field, list_path, name};
use crate::base::human::parse_moment;
use crate::base::limits::QUERY_DEADLINE_MAX;
use crate::base::time::{Clock as _, Timestamp};
use crate::boot::clock::SystemClock;
use crate::cli::commands::text;
use crate::cli::failure::{FAILURE, Failure, USAGE};
use crate::cli::session::Session;
use crate::io::client::{Json, RawAnswer, encoded};

/// The first piece of a range.
const PIECE_MS: i64 = 6 * 3_600_000;
/// The longest one.
const PIECE_MS_MAX: i64 = 7 * 24 * 3_600_000;

/// `holdfast series export SELECTOR`
pub(super) fn export(arguments: &ArgMatches) -> Result<(), Failure> {
    let now = SystemClock::new().now().wall;
    let moment = |name: &str| {
        let at = parse_moment(text(arguments, name), now);
        at.map(Timestamp::unix_ms).map_err(|bad| Failure::new(USAGE, format!("--{name}: {bad}")))
    };
    let mut pieces = Pieces::new(moment("from")?, moment("to")?)?;
    let session = Session::open(arguments)?;
    let select = text(arguments, "select");
    let listed = || session.all(&list_path(Some(select)));
    let mut form = Form::of(text(arguments, "format"), listed)?;
    let mut out = std::io::stdout().lock();
    out.write_all(form.head().as_bytes())?;
    while let Some((from_ms, to_ms)) = pieces.next() {
        let answer = session.send("GET", &path(select, from_ms, to_ms), None)?;
        if is_too_much(&answer) && pieces.halve() {
            continue;
        }
        if answer.status != 200 {
            return Err(session.failure(answer));
        }
        let body = read(&answer.body)
            .ok_or_else(|| Failure::new(FAILURE, "the server's answer is none to a query"))?;
        form.learn(&body, listed)?;
        out.write_all(form.written(&body).as_bytes())?;
        pieces.done();
    }
    out.write_all(form.end().as_bytes())?;
    Ok(out.flush()?)
}

fn path(select: &str, from_ms: i64, to_ms: i64) -> String {
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    let (select, within) = (encoded(select), QUERY_DEADLINE_MAX.as_secs());
    let (from, to) = (seconds(from_ms), seconds(to_ms));
    format!("/v1/series/query?select={select}&fn=raw&from={from}&to={to}&timeout={within}s")
}

fn is_too_much(answer: &RawAnswer) -> bool {
    let body = || std::str::from_utf8(&answer.body).ok()?.parse::<Json>().ok();
    answer.status == 400 && body().is_some_and(|body| body["code"] == "too_many_points")
}

/// The pieces of a range, in unix milliseconds.
#[derive(Debug)]
struct Pieces {
    from: i64,
    to: i64,
    length: i64,
}

impl Pieces {
    fn new(from: i64, to: i64) -> Result<Pieces, Failure> {
        if from < to {
            Ok(Pieces { from, to, length: PIECE_MS })
        } else {
            Err(Failure::new(USAGE, "--from lies behind --to, or both are the same"))
        }
    }

    /// What is asked for next; nothing at the end.
    fn next(&self) -> Option<(i64, i64)> {
        let end = self.from.saturating_add(self.length).min(self.to);
        (self.from < self.to).then_some((self.from, end))
    }

    /// It was too much; false if less cannot be asked for.
    fn halve(&mut self) -> bool {
        let length = self.next().map_or(0, |(from, end)| (end - from) / 2);
        self.length = length.max(1);
        0 < length
    }

    fn done(&mut self) {
        self.from = self.next().map_or(self.to, |(_, end)| end);
        self.length = (2 * self.length).min(PIECE_MS_MAX);
    }
}

/// How samples are written.
#[derive(Debug)]
enum Form {
    Csv,
    Json {
        /// Whether a sample was written.
        begun: bool,
        /// The kinds of series, by the name that selectors spell.
        kinds: BTreeMap<String, String>,
    },
    /// What is said of the metrics.
    Prometheus(String),
}

impl Form {
    fn of(
        format: &str,
        listed: impl FnOnce() -> Result<Vec<Json>, Failure>,
    ) -> Result<Form, Failure> {
        Ok(match format {
            "json" => Form::Json { begun: false, kinds: BTreeMap::new() },
            "prometheus" => Form::Prometheus(types(&listed()?)),
            _ => Form::Csv,
        })
    }

    /// Asks for the kinds of series if some are not known: they come into being while others are exported.
    fn learn(
        &mut self,
        answer: &Answer<'_>,
        listed: impl FnOnce() -> Result<Vec<Json>, Failure>,
    ) -> Result<(), Failure> {
        if let Form::Json { kinds, .. } = self
            && answer.series.iter().any(|series| !kinds.contains_key(&series.name()))
        {
            *kinds = listed()?.iter().filter_map(named_kind).collect();
        }
        Ok(())
    }

    fn head(&self) -> &str {
        match self {
            Form::Csv => CSV_HEAD,
            Form::Json { .. } => "{\"samples\":[",
            Form::Prometheus(types) => types,
        }
    }

    fn end(&self) -> &'static str {
        if matches!(self, Form::Json { .. }) { "\n]}\n" } else { "" }
    }

    fn written(&mut self, answer: &Answer<'_>) -> String {
        let mut out = String::new();
        for series in &answer.series {
            match self {
                Form::Csv => csv(&mut out, series),
                Form::Json { begun, kinds } => {
                    let kind = kinds.get(&series.name());
                    json(&mut out, series, (kind.map(String::as_str), begun));
                }
                Form::Prometheus(_) => exposition(&mut out, series),
            }
        }
        out
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("BUG: memory takes everything");
}

fn csv(out: &mut String, series: &Found<'_>) {
    let name = csv_field(&series.name());
    for (at, value) in &series.points {
        put(out, format_args!("{name},{},{}\n", shown_moment(*at), value.text()));
    }
}

/// A listed series as selectors spell it, and its kind.
fn named_kind(item: &Json) -> Option<(String, String)> {
    let labels = item["labels"].as_object()?.iter();
    let labels: Option<Vec<(String, String)>> =
        labels.map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    Some((name(item["metric"].as_str(), &labels?), item["kind"].as_str()?.to_owned()))
}

/// Samples as `POST /v1/series` takes them. A series that was deleted meanwhile has no kind.
fn json(out: &mut String, series: &Found<'_>, (kind, begun): (Option<&str>, &mut bool)) {
    let kind = kind.map_or(String::new(), |kind| format!("\"kind\":{},", Json::from(kind)));
    let labels = series.labels.iter().map(|(name, value)| (name.clone(), Json::from(&**value)));
    let labels = Json::Object(labels.collect());
    let metric = Json::from(series.metric.as_deref().unwrap_or(""));
    for (at, value) in series.points.iter().filter(|(_, value)| !value.text().is_empty()) {
        let comma = if std::mem::replace(begun, true) { "," } else { "" };
        let (value, at) = (value.json(), shown_moment(*at));
        put(
            out,
            format_args!(
                "{comma}\n{{\"metric\":{metric},\"labels\":{labels},{kind}\"value\":{value},\"time\":\"{at}\"}}"
            ),
        );
    }
}

fn exposition(out: &mut String, series: &Found<'_>) {
    let name = series.name();
    for (at, value) in series.points.iter().filter(|(_, value)| !value.text().is_empty()) {
        put(out, format_args!("{name} {} {at}\n", value.text()));
    }
}

/// A line for each metric whose series are of one kind. Prometheus has no word for distributions; `series write` takes ours.
fn types(items: &[Json]) -> String {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    for item in items {
        if let (Some(metric), Some(kind)) = (item["metric"].as_str(), item["kind"].as_str()) {
            kinds
                .entry(metric)
                .and_modify(|known| *known = if *known == kind { kind } else { "" })
                .or_insert(kind);
        }
    }
    let known = kinds.iter().filter(|(_, kind)| !kind.is_empty());
    let mut out = String::new();
    known.for_each(|(metric, kind)| put(&mut out, format_args!("# TYPE {metric} {kind}\n")));
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::points::read;
    use super::{Form, Pieces, is_too_much, path, types};
    use crate::base::rng::Rng;
    use crate::io::client::RawAnswer;
    use crate::series::text;
    use crate::testing::seeds;

    #[test]
    fn pieces_cover_the_range_once_however_often_they_are_halved() {
        for seed in seeds(100) {
            let mut rng = Rng::from_seed(seed);
            let (from, length) = (1_763_640_000_123, 1 + rng.below(60 * 86_400_000).cast_signed());
            let mut pieces = Pieces::new(from, from + length).unwrap();
            let (mut at, mut refused) = (from, 0);
            while let Some((begin, end)) = pieces.next() {
                assert!(begin == at && begin < end && end <= from + length, "seed {seed}");
                if rng.one_in(2) && refused < 200 {
                    refused += 1;
                    assert_eq!(pieces.halve(), 1 < end - begin, "seed {seed}");
                } else {
                    at = end;
                    pieces.done();
                }
            }
            assert_eq!(at, from + length, "seed {seed}");
        }
        assert_eq!(Pieces::new(5, 5).unwrap_err().code, 2);
    }

    #[test]
    fn a_piece_is_asked_for_to_the_millisecond() {
        let asked = path("cpu", 1_763_640_000_007, 1_763_640_001_000);
        assert_eq!(
            asked,
            "/v1/series/query?select=cpu&fn=raw&from=1763640000.007&to=1763640001.000&timeout=15s"
        );
        let answer = |status, body: &str| RawAnswer { status, body: body.to_owned().into() };
        assert!(is_too_much(&answer(400, r#"{"code":"too_many_points"}"#)));
        assert!(!is_too_much(&answer(400, r#"{"code":"invalid_select"}"#)));
        assert!(!is_too_much(&answer(200, r#"{"code":"too_many_points"}"#)));
    }

    const BODY: &str = r#"{"series":[
        {"metric":"cpu","labels":{"p":"a\"\\\n,"},"points":[[300007,0.1],[600000,"-Inf"]]},
        {"metric":"up","labels":{},"points":[[300000,null],[300001,-0.0]]}]}"#;

    #[test]
    fn samples_are_written_as_they_are_taken() {
        let answer = read(BODY.as_bytes()).unwrap();
        let mut form = Form::of("json", || Ok(Vec::new())).unwrap();
        let cpu = json!({ "metric": "cpu", "labels": { "p": "a\"\\\n," }, "kind": "distribution" });
        form.learn(&answer, || Ok(vec![cpu])).unwrap();
        let written =
            [form.head().to_owned(), form.written(&answer), form.written(&answer)].concat();
        let read: serde_json::Value = format!("{written}{}", form.end()).parse().unwrap();
        assert_eq!(read["samples"].as_array().unwrap().len(), 6);
        let first = json!({
            "metric": "cpu", "labels": { "p": "a\"\\\n," }, "kind": "distribution", "value": 0.1,
            "time": "1970-01-01T00:05:00.007Z"
        });
        assert_eq!(read["samples"][2]["kind"], json!(null));
        assert_eq!((&read["samples"][0], &read["samples"][3]), (&first, &first));

        let listed = [
            json!({ "metric": "cpu", "kind": "counter" }),
            json!({ "metric": "up", "kind": "gauge" }),
            json!({ "metric": "up", "kind": "counter" }),
            json!({ "metric": "wait", "kind": "distribution" }),
        ];
        let mut form = Form::Prometheus(types(&listed));
        let written = format!("{}{}", form.head().to_owned(), form.written(&answer));
        let expected = "\
# TYPE cpu counter
# TYPE wait distribution
cpu{p=\"a\\\"\\\\\\n,\"} 0.1 300007
cpu{p=\"a\\\"\\\\\\n,\"} -Inf 600000
up -0.0 300001
";
        assert_eq!(written, expected);
        let lines: Vec<_> = text::lines(&written).map(Result::unwrap).collect();
        let labels = text::labels(lines[0].name).unwrap();
        assert_eq!((lines.len(), labels.get("p")), (3, Some("a\"\\\n,")));

        let written = Form::Csv.written(&answer);
        assert_eq!(written.lines().last(), Some("up,1970-01-01T00:05:00.001Z,-0.0"));
        assert!(written.contains("up,1970-01-01T00:05:00.000Z,\n"), "{written}");
    }
}
