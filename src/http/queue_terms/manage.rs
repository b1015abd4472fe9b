//! What those say who look after the queues: settings, clearing, failures, schedules.

use std::time::Duration;

use super::{backoff, figure, invalid, items, line, part, push, queue_name, text, time, timeout};
use super::{tries, truth, whole, whole_body, word};
use crate::base::amount::Amount;
use crate::base::id::JobId;
use crate::base::limits::{
    CALL_ITEMS_MAX, CRON_BYTES_MAX, FINGERPRINT_BYTES_MAX, HISTORY_AGE_MAX, JOB_DELAY_MAX,
    JOBS_RUNNING_MAX, JSON_NUMBER_END, SCHEDULE_EVERY_MIN, SCHEDULE_JITTER_MAX,
};
use crate::base::name::{QueueName, is_zone_name};
use crate::base::time::Timestamp;
use crate::http::problem::Problem;
use crate::http::spans::{self, given};
use crate::queue::job::{Backoff, Spec, State, When};
use crate::queue::rate::Rate;

/// The settings of a queue.
pub(crate) const SETTINGS_FIELDS: [&str; 10] = [
    "paused",
    "max_depth",
    "max_tries",
    "timeout",
    "backoff",
    "rate",
    "concurrency",
    "retention",
    "target_wait",
    "history_payload",
];
/// What a queue keeps of what is over.
pub(crate) const RETENTION_FIELDS: [&str; 4] = ["done", "rows", "bytes", "failed"];
/// The fields of a clearing.
pub(crate) const CLEAR_FIELDS: [&str; 2] = ["confirm", "states"];
/// The fields of a choice of failures.
pub(crate) const FAILURES_FIELDS: [&str; 4] = ["ids", "fingerprint", "queue", "rate"];
/// The fields of a schedule.
pub(crate) const SCHEDULE_FIELDS: [&str; 7] =
    ["cron", "every", "timezone", "overlap", "catch_up", "jitter", "job"];

/// What a patch says of one setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Patch<T> {
    /// Nothing: it stays as it is.
    #[default]
    Keep,
    /// `null`: as if nobody had ever set it.
    Default,
    /// This.
    Set(T),
}

impl<T> Patch<T> {
    fn read(
        piece: Option<&str>,
        read: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Result<Patch<T>, Problem> {
        match piece {
            None => Ok(Patch::Keep),
            Some("null") => Ok(Patch::Default),
            Some(piece) => read(piece).map(Patch::Set),
        }
    }

    /// What the queues call it: nothing where it stays, nothing in it where it is the default.
    #[expect(clippy::option_option, reason = "the queues' own patch is made of them")]
    pub(crate) fn change(self) -> Option<Option<T>> {
        match self {
            Patch::Keep => None,
            Patch::Default => Some(None),
            Patch::Set(value) => Some(Some(value)),
        }
    }
}

/// What changes in the settings of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SettingsPatch {
    /// Whether nothing of it is leased.
    pub(crate) paused: Patch<bool>,
    /// The most jobs that wait.
    pub(crate) max_depth: Patch<u64>,
    /// Errors after which a job is given up.
    pub(crate) max_tries: Patch<u32>,
    /// How long one attempt may run.
    pub(crate) timeout: Patch<Duration>,
    /// How long to wait after an error.
    pub(crate) backoff: Patch<Backoff>,
    /// How many are leased in how long.
    pub(crate) rate: Patch<Rate>,
    /// How many run at one moment.
    pub(crate) concurrency: Patch<u64>,
    /// What is kept of what is over; each part by itself.
    pub(crate) retention: RetentionPatch,
    /// How long a job should wait at most.
    pub(crate) target_wait: Patch<Duration>,
    /// Whether the history keeps payloads of what is done.
    pub(crate) history_payload: Patch<bool>,
}

/// What changes in what is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetentionPatch {
    /// How long what is done.
    pub(crate) done: Patch<Duration>,
    /// The most rows.
    pub(crate) rows: Patch<u64>,
    /// The most bytes.
    pub(crate) bytes: Patch<u64>,
    /// How long what failed.
    pub(crate) failed: Patch<Duration>,
}

/// `PATCH /v1/queues/{q}`
pub(crate) fn settings(body: &[u8]) -> Result<SettingsPatch, Problem> {
    let [
        paused,
        max_depth,
        max_tries,
        attempt,
        waits,
        limit,
        concurrency,
        kept,
        target_wait,
        history_payload,
    ] = whole_body(spans::body(body)?, &SETTINGS_FIELDS)?;
    let depth = |piece: &str| whole("max_depth", piece, 1, JSON_NUMBER_END - 1);
    let running = |piece: &str| whole("concurrency", piece, 1, JOBS_RUNNING_MAX as u64);
    let target = |piece: &str| time("target_wait", piece, Duration::from_millis(1), JOB_DELAY_MAX);
    Ok(SettingsPatch {
        paused: Patch::read(paused, |piece| truth("paused", piece))?,
        max_depth: Patch::read(max_depth, depth)?,
        max_tries: Patch::read(max_tries, |piece| tries("max_tries", piece))?,
        timeout: Patch::read(attempt, timeout)?,
        backoff: Patch::read(waits, backoff)?,
        rate: Patch::read(limit, rate)?,
        concurrency: Patch::read(concurrency, running)?,
        retention: retention(kept)?,
        target_wait: Patch::read(target_wait, target)?,
        history_payload: Patch::read(history_payload, |piece| truth("history_payload", piece))?,
    })
}

fn retention(piece: Option<&str>) -> Result<RetentionPatch, Problem> {
    const FIELD: &str = "retention";
    let [done, rows, bytes, failed] = match piece {
        None => [None; 4],
        Some("null") => [Some("null"); 4],
        Some(piece) => part(FIELD, piece, &RETENTION_FIELDS)?,
    };
    let age = |piece: &str| time(FIELD, piece, Duration::ZERO, HISTORY_AGE_MAX);
    Ok(RetentionPatch {
        done: Patch::read(done, age)?,
        rows: Patch::read(rows, rows_kept)?,
        bytes: Patch::read(bytes, amount)?,
        failed: Patch::read(failed, age)?,
    })
}

fn rows_kept(piece: &str) -> Result<u64, Problem> {
    figure("retention", piece)
        .map_err(|_| invalid("retention", "rows is a whole number that is not negative"))
}

/// So many bytes: a number, or a text such as `64MiB`.
fn amount(piece: &str) -> Result<u64, Problem> {
    const FIELD: &str = "retention";
    const BYTES: &str = "bytes is a number of bytes, or a text such as 64MiB";
    if !piece.starts_with('"') {
        return figure(FIELD, piece).map_err(|_| invalid(FIELD, BYTES));
    }
    match Amount::parse(&text(FIELD, piece)?) {
        Ok(Amount::Bytes(bytes)) if bytes < JSON_NUMBER_END => Ok(bytes),
        Ok(Amount::Bytes(_) | Amount::Percent(_)) | Err(_) => Err(invalid(FIELD, BYTES)),
    }
}

/// `100/s`, `100/m` or `100/h`.
fn rate(piece: &str) -> Result<Rate, Problem> {
    Rate::parse(&text("rate", piece)?).map_err(|bad| invalid("rate", bad.to_string()))
}

/// What can be cleared away. What runs is somebody's, and what is done or cancelled is over.
const CLEARED: [(&str, State); 3] = [
    (State::Waiting.as_str(), State::Waiting),
    (State::Delayed.as_str(), State::Delayed),
    (State::Failed.as_str(), State::Failed),
];

/// `POST /v1/queues/{q}/clear`: the states whose jobs go, each once; those that wait without a word.
pub(crate) fn clear(body: &[u8], queue: &QueueName) -> Result<Vec<State>, Problem> {
    let [confirm, states] = whole_body(spans::body(body)?, &CLEAR_FIELDS)?.map(given);
    let confirmed = confirm.and_then(spans::text).is_some_and(|name| name == queue.as_str());
    if !confirmed {
        let why = format!("confirm is the name of the queue again: {queue}");
        return Err(invalid("confirm", why));
    }
    let Some(piece) = states else { return Ok(vec![State::Waiting]) };
    let mut found: Vec<State> = Vec::new();
    for state in items("states", piece, State::ALL.len(), |item| word("states", item, &CLEARED))? {
        if !found.contains(&state) {
            found.push(state);
        }
    }
    if found.is_empty() {
        return Err(invalid("states", "states has at least one"));
    }
    Ok(found)
}

/// Which failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// These.
    Ids(Vec<JobId>),
    /// All of one kind.
    Fingerprint(String),
    /// All of one queue.
    Queue(QueueName),
}

/// `POST /v1/failures/retry` and `discard`: which, and at which pace.
pub(crate) fn failures(body: &[u8]) -> Result<(Chosen, Option<Rate>), Problem> {
    let pieces = whole_body(spans::body(body)?, &FAILURES_FIELDS)?.map(given);
    let chosen = match pieces {
        [Some(ids), None, None, _] => Chosen::Ids(items("ids", ids, CALL_ITEMS_MAX, job_id)?),
        [None, Some(kind), None, _] => {
            let kind = text("fingerprint", kind)?;
            line("fingerprint", &kind, FINGERPRINT_BYTES_MAX)?;
            Chosen::Fingerprint(kind.into_owned())
        }
        [None, None, Some(queue), _] => Chosen::Queue(queue_name("queue", queue)?),
        _ => {
            let why = "say which: exactly one of ids, fingerprint and queue";
            return Err(Problem::malformed(why));
        }
    };
    Ok((chosen, pieces[3].map(rate).transpose()?))
}

fn job_id(item: &str) -> Result<JobId, Problem> {
    JobId::parse(&text("ids", item)?).map_err(|bad| invalid("ids", bad.to_string()))
}

/// When a schedule pushes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// At the moments of this line; whether it is one is for those to say who have the calendar.
    Cron(String),
    /// Again and again after so long.
    Every(Duration),
}

/// What a schedule does while its last job is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overlap {
    /// It pushes none.
    Skip,
    /// It pushes another.
    Queue,
}

/// What a schedule does about moments that it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CatchUp {
    /// Nothing.
    None,
    /// It pushes one job for all of them.
    One,
    /// It pushes one for each.
    All,
}

/// A schedule that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedSchedule {
    /// When.
    pub(crate) due: Due,
    /// Where the clock hangs, if it says; a name that can be one.
    pub(crate) timezone: Option<String>,
    /// What about a job that is not over, if it says.
    pub(crate) overlap: Option<Overlap>,
    /// What about moments that were missed, if it says.
    pub(crate) catch_up: Option<CatchUp>,
    /// Later by so much at most, by chance.
    pub(crate) jitter: Duration,
    /// What it pushes.
    pub(crate) job: Spec,
}

const OVERLAPS: [(&str, Overlap); 2] = [("skip", Overlap::Skip), ("queue", Overlap::Queue)];
const CATCH_UPS: [(&str, CatchUp); 3] =
    [("none", CatchUp::None), ("one", CatchUp::One), ("all", CatchUp::All)];

/// `PUT /v1/schedules/{name}`
pub(crate) fn schedule(body: &[u8], now: Timestamp) -> Result<WantedSchedule, Problem> {
    let [cron, every, zone, overlap, catch_up, jitter, job] =
        whole_body(spans::body(body)?, &SCHEDULE_FIELDS)?.map(given);
    let due = match (cron, every) {
        (Some(piece), None) => {
            let cron = text("cron", piece)?;
            line("cron", &cron, CRON_BYTES_MAX)?;
            Due::Cron(cron.into_owned())
        }
        (None, Some(piece)) => Due::Every(time("every", piece, SCHEDULE_EVERY_MIN, JOB_DELAY_MAX)?),
        (None, None) => return Err(invalid("cron", "a schedule has cron or every")),
        (Some(_), Some(_)) => {
            return Err(invalid("cron", "a schedule has cron or every, not both"));
        }
    };
    let late = |piece| time("jitter", piece, Duration::ZERO, SCHEDULE_JITTER_MAX);
    let job = job.ok_or_else(|| invalid("job", "a schedule needs a job to push"))?;
    let job = push::job(job, now)?;
    if job.when != When::Now {
        return Err(invalid("job", "the schedule says when; its job has no delay and no run_at"));
    }
    Ok(WantedSchedule {
        due,
        timezone: zone.map(timezone).transpose()?,
        overlap: overlap.map(|piece| word("overlap", piece, &OVERLAPS)).transpose()?,
        catch_up: catch_up.map(|piece| word("catch_up", piece, &CATCH_UPS)).transpose()?,
        jitter: jitter.map_or(Ok(Duration::ZERO), late)?,
        job,
    })
}

fn timezone(piece: &str) -> Result<String, Problem> {
    let name = text("timezone", piece)?;
    if is_zone_name(&name) {
        return Ok(name.into_owned());
    }
    Err(invalid("timezone", "a time zone is called as by IANA: UTC, Europe/Berlin"))
}
