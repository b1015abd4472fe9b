//! `/v1/slow`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::openapi;
use super::problem::Problem;
use super::reply::{Page, Reply};
use super::request::Cx;
use crate::app::slow::{Case, Entry, Kind, Position, QUERIES_MANY, SLOW_NAME_BYTES_MAX};
use crate::base::cursor;
use crate::base::human::parse_moment;
use crate::base::limits::{DURATION_MAX, LIST_MAX};
use crate::base::time::Timestamp;

/// What was slow, under one name.
#[derive(Debug, Serialize, ToSchema)]
pub struct Slow {
    /// `request`, `storage`, `external`, `job` or `app`.
    kind: &'static str,
    /// Which one.
    name: String,
    /// Times it was slow.
    count: u64,
    /// How long it took on average, those times.
    mean_ms: f64,
    /// How long it took at worst.
    worst_ms: f64,
    /// The first time.
    first_at: String,
    /// The last time.
    last_at: String,
    /// The most queries in one of them, where that was told.
    queries_max: Option<u64>,
    /// Whether those are more than 20: most often a query in a loop.
    many_queries: bool,
}

/// What was slow in an app.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Report {
    /// At most 1,000.
    entries: Vec<ReportEntry>,
}

/// One time that something was slow.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ReportEntry {
    /// `app`.
    kind: String,
    /// A route, a page, a command.
    #[schema(max_length = 256)]
    name: String,
    /// How long it took.
    duration_ms: f64,
    /// Queries it made.
    count: Option<u64>,
    /// When; now without it.
    #[schema(schema_with = openapi::moment)]
    at: Option<Value>,
}

/// What became of a report.
#[derive(Debug, Serialize, ToSchema)]
pub struct Noted {
    /// Entries that were noted.
    accepted: usize,
}

/// A page of the slow log.
pub(super) type SlowList = Page<Slow>;

const LIST: &str = "slow";

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

impl From<Entry> for Slow {
    fn from(entry: Entry) -> Slow {
        let count = u32::try_from(entry.count).unwrap_or(u32::MAX);
        Slow {
            kind: entry.kind.as_str(),
            mean_ms: ms(entry.total / count.max(1)),
            worst_ms: ms(entry.worst),
            name: entry.name,
            count: entry.count,
            first_at: entry.first_at.to_string(),
            last_at: entry.last_at.to_string(),
            many_queries: entry.queries_max.is_some_and(|n| QUERIES_MANY < n),
            queries_max: entry.queries_max,
        }
    }
}

fn kind_of(text: &str) -> Result<Kind, Problem> {
    Kind::parse(text).ok_or_else(|| {
        let known = Kind::ALL.map(Kind::as_str).join(", ");
        Problem::new("invalid_kind", format!("kind is one of: {known}"))
    })
}

fn position_of(key: &[u8]) -> Option<Position> {
    let (worst, rest) = key.split_first_chunk::<8>()?;
    let (kind, name) = rest.split_first()?;
    let kind = Kind::ALL.into_iter().find(|of| *of as u8 == *kind)?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    Some((Duration::from_nanos(u64::from_be_bytes(*worst)), kind, name))
}

fn key_of(entry: &Entry) -> Vec<u8> {
    let worst = u64::try_from(entry.worst.as_nanos()).unwrap_or(u64::MAX);
    let mut key = worst.to_be_bytes().to_vec();
    key.push(entry.kind as u8);
    key.extend_from_slice(entry.name.as_bytes());
    key
}

/// `GET /v1/slow`
pub(super) fn list(cx: &Cx) -> Result<Reply, Problem> {
    let paging = cx.paging(LIST)?;
    let kind = cx.query.get("kind").map(kind_of).transpose()?;
    let after = paging.after.as_deref().map(|key| position_of(key).ok_or(cursor::BadCursor));
    let after = after.transpose()?;
    let mut found = cx.app().slow().page(kind, after.as_ref(), paging.limit + 1);
    let more = paging.limit < found.len();
    found.truncate(paging.limit);
    let next = found.last().filter(|_| more).map(|last| cursor::write(LIST, &key_of(last)));
    Ok(Reply::json(&SlowList { items: found.into_iter().map(Slow::from).collect(), next }))
}

/// A reported case, checked.
struct Checked {
    kind: Kind,
    name: String,
    took: Duration,
    at: Timestamp,
    queries: Option<u64>,
}

fn checked(entry: ReportEntry, now: Timestamp) -> Result<Checked, Problem> {
    let kind = kind_of(&entry.kind)?;
    if kind != Kind::App {
        return Err(Problem::new("invalid_kind", "an app reports slow work of kind app"));
    }
    if entry.name.is_empty() || SLOW_NAME_BYTES_MAX < entry.name.len() {
        let detail = format!("a name has 1 to {SLOW_NAME_BYTES_MAX} bytes");
        return Err(Problem::new("invalid_name", detail));
    }
    let took = Duration::try_from_secs_f64(entry.duration_ms / 1000.0);
    let took = took.ok().filter(|took| *took <= DURATION_MAX).ok_or_else(|| {
        Problem::new("invalid_duration", "duration_ms is a number of milliseconds, not negative")
    })?;
    let at = match &entry.at {
        None | Some(Value::Null) => Ok(now),
        Some(Value::Number(number)) => parse_moment(&number.to_string(), now),
        Some(Value::String(text)) => parse_moment(text, now),
        Some(_) => parse_moment("", now),
    };
    let at = at.map_err(|error| Problem::new("invalid_time", error.to_string()))?;
    Ok(Checked { kind, name: entry.name, took, at, queries: entry.count })
}

/// `POST /v1/slow`
pub(super) fn report(cx: &Cx) -> Result<Reply, Problem> {
    let report: Report = cx.json()?;
    if LIST_MAX < report.entries.len() {
        let detail = format!("a report has at most {LIST_MAX} entries");
        return Err(Problem::new("too_large", detail).with("limit", LIST_MAX));
    }
    let now = cx.now.wall;
    let mut cases = Vec::with_capacity(report.entries.len());
    for (index, entry) in report.entries.into_iter().enumerate() {
        cases.push(checked(entry, now).map_err(|problem| problem.with("index", index))?);
    }
    for case in &cases {
        let Checked { kind, name, took, at, queries } = case;
        let case = Case { kind: *kind, name, took: *took, at: *at, queries: *queries };
        cx.app().slow().note(case);
    }
    Ok(Reply::json(&Noted { accepted: cases.len() }))
}
