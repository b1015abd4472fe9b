//! Jobs over HTTP: `/v1/jobs`, `/v1/queues`, `/v1/lease`, `/v1/leases`, `/v1/report`, `/v1/workers`,
//! `/v1/failures`, `/v1/schedules`.
//!
//! What is said is read by [`super::queue_terms`]; what jobs carry goes out by [`super::splice`], as the text it was.
//!
//! **Invariant**: leased jobs leave with a receipt. An answer that does not get out undoes its leases.

pub mod failures;
pub mod jobs;
pub mod push;
pub mod queues;
pub mod schedules;
pub mod work;
pub mod workers;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::problem::Problem;
use super::queue_terms as terms;
use super::reply::Reply;
use super::request::Cx;
use crate::base::cursor::BadCursor;
use crate::base::limits::WAIT_MAX;
use crate::base::name::QueueName;
use crate::queue::workers::WorkerId;

/// Something that is shown as the text it writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<T>(pub(super) T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The place of a field that is JSON already and is written behind the others.
type Spliced = Option<()>;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_false(value: &bool) -> bool {
    !*value
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn queue_of(cx: &Cx) -> Result<QueueName, Problem> {
    Ok(QueueName::parse(cx.param("q"))?)
}

fn worker_of(text: &str) -> Result<WorkerId, Problem> {
    WorkerId::parse(text).map_err(|bad| Problem::new(WorkerId::CODE, bad.to_string()))
}

/// `wait` of the query.
fn wait_of(cx: &Cx) -> Result<Duration, Problem> {
    let wait = |text| terms::time_of("wait", text, Duration::ZERO, WAIT_MAX);
    cx.query.get("wait").map_or(Ok(Duration::ZERO), wait)
}

/// A text that a cursor carries.
fn text_of(key: Option<Vec<u8>>) -> Result<Option<String>, Problem> {
    Ok(key.map(String::from_utf8).transpose().map_err(|_| BadCursor)?)
}

/// JSON that was written by hand.
fn json(text: Vec<u8>) -> Reply {
    Reply::bytes("application/json", Bytes::from(text))
}

/// How many it were.
fn counted(word: &'static str, count: u64) -> Reply {
    json(format!("{{\"{word}\":{count}}}").into_bytes())
}
