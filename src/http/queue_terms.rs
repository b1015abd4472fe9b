//! The calls of the queues, from bytes to what they mean: each refusal has its code and names its field.
//!
//! ```text
//!  body --[spans]--> pieces of text --[here]--> queue::job::Spec, End, ...        payload: the piece itself
//! ```
//!
//! **Invariants**
//! - What a job, a result or a checkpoint carries is the text it was, byte for byte, and valid JSON.
//! - What is read is within its bounds; what is too much of a list is never kept.
//! - A refusal tells the code and the `field`; the `index` of the job or the end, when there are several;
//!   and the `item`, when the field is a list.

mod manage;
mod payload;
mod push;
mod work;

pub(super) use self::manage::{CatchUp, Chosen, Due, Overlap, SettingsPatch};
pub(crate) use self::manage::{clear, failures, schedule, settings};
pub(crate) use self::push::jobs;
pub(super) use self::push::raw_job;
pub(super) use self::work::{Command, Ended, Extension, LeaseCall, Report, SaidState, lease_token};
pub(crate) use self::work::{beat, command, done, extend, fail, lease, release, report};

use std::borrow::Cow;
use std::time::Duration;

use super::problem::Problem;
use super::spans::{self, Fault};
use crate::base::human::{format_duration, parse_duration};
use crate::base::limits::{
    BACKOFF_LIST_MAX, JOB_DELAY_MAX, JOB_TIMEOUT_MAX, JOB_TIMEOUT_MIN, JOB_TRIES_MAX,
    JSON_NUMBER_END,
};
use crate::base::name::QueueName;
use crate::queue::job::Backoff;

/// Refuses a field: the code is made of its name.
fn invalid(field: &'static str, why: impl Into<String>) -> Problem {
    Problem::new(&format!("invalid_{field}"), why).with("field", field)
}

/// Refuses more than there may be.
fn too_large(field: &'static str, what: &str, limit: usize) -> Problem {
    let detail = format!("{what} at most {limit}");
    Problem::new("too_large", detail).with("field", field).with("limit", limit)
}

/// The parts of a field that is an object.
fn part<'t, const N: usize>(
    field: &'static str,
    piece: &'t str,
    names: &[&'static str; N],
) -> Result<[Option<&'t str>; N], Problem> {
    spans::object(piece, names).map_err(|fault| match fault {
        Fault::Shape(_) => {
            let names = names.join(", ");
            invalid(field, format!("{field} is an object; its fields are {names}"))
        }
        Fault::Unknown(name) => Fault::Unknown(format!("{field}.{name}")).into_problem(),
        Fault::Twice(name) => invalid(field, format!("the field {name:?} is given twice")),
    })
}

/// A body that is an object.
fn whole_body<'t, const N: usize>(
    text: &'t str,
    names: &[&'static str; N],
) -> Result<[Option<&'t str>; N], Problem> {
    spans::object(text, names).map_err(Fault::into_problem)
}

/// Every item of a list, at most `most` of them; an item that is refused is told by its place.
fn items<'t, T>(
    field: &'static str,
    piece: &'t str,
    most: usize,
    mut read: impl FnMut(&'t str) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    if !piece.starts_with('[') {
        return Err(invalid(field, format!("{field} is a list")));
    }
    let mut found = Vec::new();
    spans::list(piece, |item| {
        if found.len() == most {
            return Err(invalid(field, format!("{field} has at most {most} items")));
        }
        found.push(read(item).map_err(|problem| problem.with("item", found.len()))?);
        Ok(())
    })?;
    Ok(found)
}

/// A text.
fn text<'t>(field: &'static str, piece: &'t str) -> Result<Cow<'t, str>, Problem> {
    spans::text(piece).ok_or_else(|| invalid(field, format!("{field} is a text")))
}

/// One line that is not empty.
pub(super) fn line(field: &'static str, text: &str, bytes_max: usize) -> Result<(), Problem> {
    let length = (1..=bytes_max).contains(&text.len());
    if length && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let why = format!("{field} has 1 to {bytes_max} bytes and no control characters");
    Err(invalid(field, why))
}

/// One of a few words.
fn word<T: Copy>(
    field: &'static str,
    piece: &str,
    words: &[(&'static str, T)],
) -> Result<T, Problem> {
    let said = text(field, piece)?;
    word_of(field, &said, words)
}

fn word_of<T: Copy>(
    field: &'static str,
    said: &str,
    words: &[(&'static str, T)],
) -> Result<T, Problem> {
    let found = words.iter().find(|(word, _)| *word == said).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        invalid(field, format!("{field} is one of {}", all.join(", ")))
    })
}

fn truth(field: &'static str, piece: &str) -> Result<bool, Problem> {
    spans::truth(piece).ok_or_else(|| invalid(field, format!("{field} is true or false")))
}

/// A whole number within its bounds.
fn whole(field: &'static str, piece: &str, least: u64, most: u64) -> Result<u64, Problem> {
    whole_of(field, spans::whole(piece), least, most)
}

fn whole_of(
    field: &'static str,
    number: Option<u64>,
    least: u64,
    most: u64,
) -> Result<u64, Problem> {
    let number = number.filter(|number| (least..=most).contains(number));
    number
        .ok_or_else(|| invalid(field, format!("{field} is a whole number from {least} to {most}")))
}

/// Some figure that JSON carries without loss.
fn figure(field: &'static str, piece: &str) -> Result<u64, Problem> {
    whole(field, piece, 0, JSON_NUMBER_END - 1)
}

/// A length of time within its bounds.
fn time(
    field: &'static str,
    piece: &str,
    least: Duration,
    most: Duration,
) -> Result<Duration, Problem> {
    let time = spans::duration(piece).map_err(|bad| invalid(field, bad.to_string()))?;
    bounded(field, time, least, most)
}

/// The same, from a query.
pub(super) fn time_of(
    field: &'static str,
    text: &str,
    least: Duration,
    most: Duration,
) -> Result<Duration, Problem> {
    let time = parse_duration(text).map_err(|bad| invalid(field, bad.to_string()))?;
    bounded(field, time, least, most)
}

fn bounded(
    field: &'static str,
    time: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, Problem> {
    if (least..=most).contains(&time) {
        return Ok(time);
    }
    let (least, most) = (format_duration(least), format_duration(most));
    Err(invalid(field, format!("{field} is {least} to {most}")))
}

fn queue_name(field: &'static str, piece: &str) -> Result<QueueName, Problem> {
    let name = text(field, piece)?;
    QueueName::parse(&name).map_err(|bad| invalid(field, bad.to_string()))
}

/// Names of queues, each once.
fn queue_names(field: &'static str, piece: &str, most: usize) -> Result<Vec<QueueName>, Problem> {
    let mut names: Vec<QueueName> = Vec::new();
    for name in items(field, piece, most, |item| queue_name(field, item))? {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Errors or crashes after which a job is given up.
fn tries(field: &'static str, piece: &str) -> Result<u32, Problem> {
    tries_of(field, spans::whole(piece))
}

fn tries_of(field: &'static str, number: Option<u64>) -> Result<u32, Problem> {
    let number = whole_of(field, number, 1, JOB_TRIES_MAX.into())?;
    Ok(u32::try_from(number).expect("BUG: it is no more than JOB_TRIES_MAX"))
}

/// How long one attempt may run.
fn timeout(piece: &str) -> Result<Duration, Problem> {
    time("timeout", piece, JOB_TIMEOUT_MIN, JOB_TIMEOUT_MAX)
}

/// The fields of a backoff.
pub(crate) const BACKOFF_FIELDS: [&str; 4] = ["kind", "base", "cap", "list"];

/// How long to wait after an error.
fn backoff(piece: &str) -> Result<Backoff, Problem> {
    const FIELD: &str = "backoff";
    let [kind, base, cap, list] = part(FIELD, piece, &BACKOFF_FIELDS)?.map(spans::given);
    let kind = kind.and_then(spans::text).unwrap_or_default();
    let wait = |piece: &str| time(FIELD, piece, Duration::ZERO, JOB_DELAY_MAX);
    let stranger = match &*kind {
        "exponential" => list.map(|_| "list goes with kind list"),
        "fixed" => list.or(cap).map(|_| "kind fixed has a base and nothing else"),
        "list" => base.or(cap).map(|_| "kind list has a list and nothing else"),
        _ => Some("kind is exponential, fixed or list"),
    };
    if let Some(why) = stranger {
        return Err(invalid(FIELD, why));
    }
    if &*kind == "list" {
        let list = list.ok_or_else(|| invalid(FIELD, "kind list needs a list of waits"))?;
        let waits = items(FIELD, list, BACKOFF_LIST_MAX, wait)?;
        return match waits.as_slice() {
            [] => Err(invalid(FIELD, "a list has at least one wait")),
            _ => Ok(Backoff::List(waits)),
        };
    }
    let needed = || invalid(FIELD, format!("kind {kind} needs a base, such as \"5s\""));
    let base = base.ok_or_else(needed).and_then(wait)?;
    if &*kind == "fixed" {
        return Ok(Backoff::Fixed { base });
    }
    let Some(cap) = cap.map(wait).transpose()? else {
        return Ok(Backoff::growing(base));
    };
    if cap < base {
        return Err(invalid(FIELD, "cap is not less than base"));
    }
    Ok(Backoff::Exponential { base, cap })
}

/// Cuts a text to so many bytes, between two characters.
fn cut(text: Cow<'_, str>, bytes_max: usize) -> String {
    let end = text.floor_char_boundary(bytes_max);
    match text {
        Cow::Borrowed(text) => text[..end].to_owned(),
        Cow::Owned(mut text) => {
            text.truncate(end);
            text
        }
    }
}

#[cfg(test)]
pub(super) use self::manage::{
    CLEAR_FIELDS, FAILURES_FIELDS, RETENTION_FIELDS, SCHEDULE_FIELDS, SETTINGS_FIELDS,
};
#[cfg(test)]
use self::manage::{Patch, RetentionPatch, WantedSchedule};
#[cfg(test)]
pub(super) use self::push::RAW_PARAMETERS;
#[cfg(test)]
pub(super) use self::push::{FOLLOWUP_FIELDS, JOB_FIELDS, UNIQUE_FIELDS};
#[cfg(test)]
pub(super) use self::work::{
    BEAT_FIELDS, COMMAND_FIELDS, DONE_ENTRY_FIELDS, DONE_FIELDS, ERROR_FIELDS, EXTEND_FIELDS,
    FAIL_ENTRY_FIELDS, FAIL_FIELDS, LEASE_FIELDS, RELEASE_ENTRY_FIELDS, RELEASE_FIELDS,
    REPORT_FIELDS,
};
#[cfg(test)]
use self::work::{Beat, worker_id};

#[cfg(test)]
mod tests;
