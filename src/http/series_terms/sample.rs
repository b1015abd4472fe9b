//! Samples as they come in: JSON, or Prometheus' text.

use std::borrow::Cow;

use hyper::header::HeaderValue;

use crate::base::limits::{LABELS_MAX, WRITE_CHUNK_SAMPLES};
use crate::base::pieces::Pieces;
use crate::base::time::Timestamp;
use crate::http::problem::Problem;
use crate::http::spans::{self, Fault};
use crate::series::Kind;
use crate::series::labels::{BadLabels, Labels};
use crate::series::memory::{Incoming, Name, Refusal};
use crate::series::text;

/// How samples are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Format {
    /// `{"samples":[...]}`
    Json,
    /// Lines, as Prometheus reads them.
    Text,
}

impl Format {
    /// What the head says of the body; JSON if it says nothing.
    pub(in crate::http) fn of(content_type: Option<&HeaderValue>) -> Result<Format, Problem> {
        let Some(content_type) = content_type else {
            return Ok(Format::Json);
        };
        let text = content_type.to_str().unwrap_or("");
        let essence = text.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        match &*essence {
            "application/json" => Ok(Format::Json),
            "text/plain" => Ok(Format::Text),
            json if json.ends_with("+json") => Ok(Format::Json),
            "application/openmetrics-text" => {
                let detail = "OpenMetrics is not read here, its times are seconds; ask the exporter for the text format \
                              of Prometheus (Accept: text/plain; version=0.0.4) and send that as text/plain";
                Err(Problem::new("unsupported_media_type", detail))
            }
            other => {
                let said: String = other.chars().take(100).collect();
                let detail = format!(
                    "the body is said to be {said:?}; samples are application/json, or text/plain as Prometheus \
                     has it (curl: -H 'Content-Type: text/plain' --data-binary @file)"
                );
                Err(Problem::new("unsupported_media_type", detail))
            }
        }
    }
}

/// A sample that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) struct Rejected {
    /// Its index or its line.
    pub(in crate::http) place: u32,
    /// The stable word.
    pub(in crate::http) code: &'static str,
    /// What is wrong.
    pub(in crate::http) detail: String,
}

impl Rejected {
    /// The same in the words of the edge.
    pub(in crate::http) fn of(place: u32, refusal: &Refusal) -> Rejected {
        Rejected { place, code: refusal.code(), detail: refusal.to_string() }
    }
}

/// The fields of a body.
pub(in crate::http) const BODY_FIELDS: [&str; 1] = ["samples"];
/// The fields of a sample.
pub(in crate::http) const SAMPLE_FIELDS: [&str; 5] = ["metric", "labels", "value", "time", "kind"];

/// Why a sample alone is refused: code, and what is wrong.
type Wrong = (&'static str, String);

/// Collects samples, and hands them on some thousands at a time.
struct Chunks<'b, T> {
    samples: Vec<Incoming<'b>>,
    rejected: Vec<Rejected>,
    take: T,
}

impl<'b, T> Chunks<'b, T>
where
    T: FnMut(&[Incoming<'b>], &[Rejected]) -> Result<(), Problem>,
{
    fn add(&mut self, sample: Result<Incoming<'b>, Rejected>) -> Result<(), Problem> {
        match sample {
            Ok(sample) => self.samples.push(sample),
            Err(rejected) => self.rejected.push(rejected),
        }
        if WRITE_CHUNK_SAMPLES <= self.samples.len() + self.rejected.len() {
            self.hand_on()?;
        }
        Ok(())
    }

    fn hand_on(&mut self) -> Result<(), Problem> {
        (self.take)(&self.samples, &self.rejected)?;
        self.samples.clear();
        self.rejected.clear();
        Ok(())
    }
}

/// Reads a body, and hands on its samples and what is refused of it, in the order of the body, some thousands at a time.
/// What cannot be read at all is refused before anything is handed on.
pub(in crate::http) fn samples<'b>(
    format: Format,
    body: &'b [u8],
    now: Timestamp,
    take: impl FnMut(&[Incoming<'b>], &[Rejected]) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut chunks = Chunks { samples: Vec::new(), rejected: Vec::new(), take };
    match format {
        Format::Json => json(body, now, |sample| chunks.add(sample))?,
        Format::Text => exposition(body, |sample| chunks.add(sample))?,
    }
    chunks.hand_on()
}

fn exposition<'b>(
    body: &'b [u8],
    mut each: impl FnMut(Result<Incoming<'b>, Rejected>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let text = std::str::from_utf8(body).map_err(|bad| {
        let before = &body[..bad.valid_up_to()];
        let line = before.split(|byte| *byte == b'\n').count();
        Problem::malformed("the text is not UTF-8").with("line", line)
    })?;
    for line in text::lines(text) {
        each(match line {
            Ok(line) => Ok(Incoming {
                place: line.number,
                name: Name::Text { name: line.name, metric: line.metric },
                kind: line.kind,
                time_ms: line.time_ms,
                value: line.value,
            }),
            Err((number, bad)) => Err(Rejected::of(number, &Refusal::Line(bad))),
        })?;
    }
    Ok(())
}

fn json<'b>(
    body: &'b [u8],
    now: Timestamp,
    mut each: impl FnMut(Result<Incoming<'b>, Rejected>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let text = spans::body(body)?;
    if spans::value(text).is_none() {
        return Err(Problem::malformed("the body is not JSON"));
    }
    let [list] = spans::object(text, &BODY_FIELDS).map_err(Fault::into_problem)?;
    let list = list.ok_or_else(|| {
        Problem::malformed(
            "the body has a list of samples: {\"samples\":[{\"metric\":...,\"value\":...}]}",
        )
    })?;
    // All of it once, so that a body is taken or refused; then again, so that little of it is in memory.
    each_of(list, |_, piece| fields(piece).map(drop))?;
    each_of(list, |place, piece| {
        let sample = sample(fields(piece)?, place, now);
        each(sample.map_err(|(code, detail)| Rejected { place, code, detail }))
    })
}

fn each_of<'b>(
    list: &'b str,
    mut take: impl FnMut(u32, &'b str) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut place = 0;
    spans::list(list, |piece| {
        take(place, piece).map_err(|problem| problem.with("index", place))?;
        place += 1;
        Ok(())
    })
}

fn fields(piece: &str) -> Result<[Option<&str>; 5], Problem> {
    Ok(spans::object(piece, &SAMPLE_FIELDS).map_err(Fault::into_problem)?.map(spans::given))
}

fn sample(
    [metric, labels, value, time, kind]: [Option<&str>; 5],
    place: u32,
    now: Timestamp,
) -> Result<Incoming<'static>, Wrong> {
    let metric = metric.and_then(spans::text);
    let metric = metric.ok_or_else(|| wrong_labels("metric is a text, and a sample has one"))?;
    let pairs = labels.map_or_else(|| Ok(Vec::new()), pairs)?;
    let pairs = pairs.iter().map(|(name, value)| (&**name, &**value));
    let name = Labels::new(&metric, pairs).map_err(|bad| wrong_labels(bad.to_string()))?;
    let time = time.map(|piece| spans::moment(piece, now)).transpose();
    let time = time.map_err(|bad| ("invalid_time", bad.to_string()))?;
    Ok(Incoming {
        place,
        name: Name::Labels(name),
        kind: kind.map(kind_of).transpose()?,
        time_ms: time.map(Timestamp::unix_ms),
        value: value_of(value.unwrap_or(""))?,
    })
}

fn wrong_labels(why: impl Into<String>) -> Wrong {
    ("invalid_labels", why.into())
}

type Pair<'b> = (Cow<'b, str>, Cow<'b, str>);

/// The labels; a list with nothing in it has none.
fn pairs(piece: &str) -> Result<Vec<Pair<'_>>, Wrong> {
    const EXPECTED: &str = "labels are an object of texts: {\"host\":\"a\"}";
    let expected = || wrong_labels(EXPECTED);
    if Pieces::of_list(piece).and_then(|mut list| list.goes_on()) == Some(false) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let mut pieces = Pieces::of_object(piece).ok_or_else(expected)?;
    while pieces.goes_on().ok_or_else(expected)? {
        if found.len() == LABELS_MAX {
            return Err(wrong_labels(BadLabels::TooMany.to_string()));
        }
        let name = pieces.next_name().and_then(spans::text).ok_or_else(expected)?;
        let value = pieces.next_value().and_then(spans::text).ok_or_else(expected)?;
        found.push((name, value));
    }
    Ok(found)
}

fn kind_of(piece: &str) -> Result<Kind, Wrong> {
    let all = [Kind::Gauge, Kind::Counter, Kind::Distribution];
    let said = spans::text(piece);
    let found = all.into_iter().find(|kind| said.as_deref() == Some(kind.as_str()));
    found.ok_or_else(|| ("invalid_kind", "kind is gauge, counter or distribution".to_owned()))
}

/// A number, to the bit; or one of the three that JSON cannot write.
fn value_of(piece: &str) -> Result<f64, Wrong> {
    let wrong = |why: &str| ("invalid_value", why.to_owned());
    if piece.starts_with('"') {
        return match spans::text(piece).as_deref() {
            Some("NaN") => Ok(f64::NAN),
            Some("+Inf") => Ok(f64::INFINITY),
            Some("-Inf") => Ok(f64::NEG_INFINITY),
            _ => Err(wrong("value is a number, or \"NaN\", \"+Inf\" or \"-Inf\"")),
        };
    }
    // The body was found to be JSON: what begins so is a number. The reader of JSON is content with the last bit but one.
    let is_number = piece.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let value = piece.parse::<f64>().ok().filter(|_| is_number);
    let value =
        value.ok_or_else(|| wrong("value is a number, or \"NaN\", \"+Inf\" or \"-Inf\""))?;
    if value.is_infinite() {
        return Err(wrong("the number is too large; infinity is written \"+Inf\" or \"-Inf\""));
    }
    Ok(value)
}
