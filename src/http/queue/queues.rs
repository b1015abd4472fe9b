//! Queues: what they hold, what was counted, and their settings.

use serde::Serialize;
use utoipa::ToSchema;

use super::{counted, millis, queue_of, text_of};
use crate::app::queue::{QueueView, TypeView};
use crate::base::cursor;
use crate::base::name::QueueName;
use crate::base::time::Timestamp;
use crate::http::problem::Problem;
use crate::http::queue_terms as terms;
use crate::http::reply::{Page, Reply};
use crate::http::request::Cx;
use crate::queue::figures::{Percentiles, Told};
use crate::queue::job::Backoff;
use crate::queue::settings::{Patch, Settings};

const LIST: &str = "queues";

/// Times within which half, 95 and 99 of 100 stay; null when there were none.
#[derive(Serialize, ToSchema)]
pub struct Times {
    /// Half of them.
    p50: Option<u64>,
    /// 95 of 100.
    p95: Option<u64>,
    /// 99 of 100.
    p99: Option<u64>,
}

impl From<Percentiles> for Times {
    fn from(times: Percentiles) -> Times {
        Times { p50: times.p50, p95: times.p95, p99: times.p99 }
    }
}

/// A queue.
#[derive(Serialize, ToSchema)]
pub struct QueueReply {
    /// Its name.
    queue: String,
    /// Jobs that may run.
    waiting: u64,
    /// Jobs that wait for a moment.
    delayed: u64,
    /// Jobs that somebody has.
    running: u64,
    /// Jobs that were given up.
    failed: u64,
    /// Whether nothing is leased from it.
    paused: bool,
    /// For how long the one that waits longest waits; null when none waits.
    oldest_waiting_ms: Option<u64>,
    /// Jobs pushed in the last minute.
    pushed_per_minute: f64,
    /// Attempts that went well in the last minute.
    done_per_minute: f64,
    /// Attempts that failed in the last minute.
    failed_per_minute: f64,
    /// Failed attempts of those of the last 15 minutes, from 0 to 1; null when there were none.
    failure_rate: Option<f64>,
    /// How long jobs waited, in milliseconds.
    wait_ms: Times,
    /// How long attempts took, in milliseconds.
    run_ms: Times,
    /// Workers that serve it.
    workers: usize,
}

/// A queue with all that belongs to it.
#[derive(Serialize, ToSchema)]
pub struct QueuePage {
    /// The queue.
    #[serde(flatten)]
    queue: QueueReply,
    /// Counts since the start.
    totals: Totals,
    /// Its settings; null is what the server has.
    settings: SettingsReply,
    /// What was counted, by type of job.
    types: Vec<TypeReply>,
}

/// Counts since the start.
#[derive(Serialize, ToSchema)]
pub struct Totals {
    /// Jobs that were pushed.
    pushed: u64,
    /// Attempts that were started.
    started: u64,
    /// Attempts that went well.
    done: u64,
    /// Attempts that ended in an error.
    failed: u64,
    /// Attempts that ended without a word.
    crashed: u64,
    /// Attempts that were put back.
    released: u64,
    /// Attempts of jobs that were cancelled.
    cancelled: u64,
    /// Jobs that were given up.
    given_up: u64,
}

impl From<&Told> for Totals {
    fn from(told: &Told) -> Totals {
        let totals = &told.totals;
        Totals {
            pushed: totals.pushed,
            started: totals.started,
            done: totals.done,
            failed: totals.failed,
            crashed: totals.crashed,
            released: totals.released,
            cancelled: totals.cancelled,
            given_up: totals.given_up,
        }
    }
}

/// A type of jobs of a queue.
#[derive(Serialize, ToSchema)]
pub struct TypeReply {
    /// Its name.
    r#type: String,
    /// Jobs pushed in the last minute.
    pushed_per_minute: f64,
    /// Attempts that went well in the last minute.
    done_per_minute: f64,
    /// Attempts that failed in the last minute.
    failed_per_minute: f64,
    /// Failed attempts of those of the last 15 minutes, from 0 to 1; null when there were none.
    failure_rate: Option<f64>,
    /// Whether so many fail that they are tried one by one.
    throttled: bool,
    /// How long jobs waited, in milliseconds.
    wait_ms: Times,
    /// How long attempts took, in milliseconds.
    run_ms: Times,
    /// Counts since the start.
    totals: Totals,
}

impl From<TypeView> for TypeReply {
    fn from(view: TypeView) -> TypeReply {
        let told = &view.figures;
        TypeReply {
            pushed_per_minute: told.pushed_per_minute,
            done_per_minute: told.done_per_minute,
            failed_per_minute: told.failed_per_minute,
            failure_rate: told.failure_rate,
            throttled: view.throttled,
            wait_ms: told.wait_ms.into(),
            run_ms: told.run_ms.into(),
            totals: told.into(),
            r#type: view.name,
        }
    }
}

/// Settings of a queue; null is what the server has.
#[derive(Serialize, ToSchema)]
pub struct SettingsReply {
    /// Whether nothing is leased from it.
    paused: bool,
    /// The most jobs that wait.
    max_depth: Option<u64>,
    /// Errors after which a job is given up.
    max_tries: Option<u32>,
    /// How long one attempt may run.
    timeout_ms: Option<u64>,
    /// How long to wait after an error.
    backoff: Option<BackoffReply>,
    /// How many are leased in how long.
    rate: Option<String>,
    /// How many run at one moment.
    concurrency: Option<u32>,
    /// What is kept of what is over.
    retention: RetentionReply,
    /// How long a job should wait at most.
    target_wait_ms: Option<u64>,
    /// Whether the history keeps payloads of what is done.
    history_payload: bool,
}

/// What is kept of what is over; null is what the server has.
#[derive(Serialize, ToSchema)]
pub struct RetentionReply {
    /// How long what is done.
    done_ms: Option<u64>,
    /// The most rows.
    rows: Option<u64>,
    /// The most bytes.
    bytes: Option<u64>,
    /// How long what failed.
    failed_ms: Option<u64>,
}

/// How long to wait after an error.
#[derive(Default, Serialize, ToSchema)]
pub struct BackoffReply {
    /// `exponential`, `fixed` or `list`.
    kind: &'static str,
    /// The first wait, or the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    base_ms: Option<u64>,
    /// The longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    cap_ms: Option<u64>,
    /// The waits of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    list_ms: Option<Vec<u64>>,
}

impl From<&Backoff> for BackoffReply {
    fn from(backoff: &Backoff) -> BackoffReply {
        let nothing = BackoffReply::default();
        match backoff {
            Backoff::Exponential { base, cap } => {
                let (base_ms, cap_ms) = (Some(millis(*base)), Some(millis(*cap)));
                BackoffReply { kind: "exponential", base_ms, cap_ms, ..nothing }
            }
            Backoff::Fixed { base } => {
                BackoffReply { kind: "fixed", base_ms: Some(millis(*base)), ..nothing }
            }
            Backoff::List(waits) => {
                let list_ms = Some(waits.iter().copied().map(millis).collect());
                BackoffReply { kind: "list", list_ms, ..nothing }
            }
        }
    }
}

impl From<&Settings> for SettingsReply {
    fn from(settings: &Settings) -> SettingsReply {
        let keep = &settings.keep;
        SettingsReply {
            paused: settings.paused,
            max_depth: settings.max_depth,
            max_tries: settings.rules.max_tries,
            timeout_ms: settings.rules.timeout.map(millis),
            backoff: settings.rules.backoff.as_ref().map(BackoffReply::from),
            rate: settings.rate.map(|rate| rate.to_string()),
            concurrency: settings.concurrency,
            retention: RetentionReply {
                done_ms: keep.done.map(millis),
                rows: keep.rows,
                bytes: keep.bytes,
                failed_ms: keep.failed.map(millis),
            },
            target_wait_ms: settings.target_wait.map(millis),
            history_payload: settings.history_payload,
        }
    }
}

impl QueueReply {
    fn new(view: &QueueView, now: Timestamp) -> QueueReply {
        let told = &view.figures;
        QueueReply {
            queue: view.name.to_string(),
            waiting: view.waiting,
            delayed: view.delayed,
            running: view.running,
            failed: view.failed,
            paused: view.settings.paused,
            oldest_waiting_ms: view.oldest_waiting.map(|at| millis(now.since(at))),
            pushed_per_minute: told.pushed_per_minute,
            done_per_minute: told.done_per_minute,
            failed_per_minute: told.failed_per_minute,
            failure_rate: told.failure_rate,
            wait_ms: told.wait_ms.into(),
            run_ms: told.run_ms.into(),
            workers: view.workers,
        }
    }
}

/// `GET /v1/queues`
pub(in crate::http) fn list(cx: &Cx) -> Result<Reply, Problem> {
    let paging = cx.paging(LIST)?;
    let after = text_of(paging.after)?.map(|text| QueueName::parse(&text)).transpose();
    let after = after.map_err(|_| cursor::BadCursor)?;
    let tenant = &cx.caller().tenant;
    let mut found = cx.app().queue_views(tenant, after.as_ref(), paging.limit + 1)?;
    let more = paging.limit < found.len();
    found.truncate(paging.limit);
    let last = found.last().filter(|_| more);
    Ok(Reply::json(&Page {
        next: last.map(|view| cursor::write(LIST, view.name.as_str().as_bytes())),
        items: found.iter().map(|view| QueueReply::new(view, cx.now.wall)).collect(),
    }))
}

/// `GET /v1/queues/{q}`
pub(in crate::http) fn show(cx: &Cx) -> Result<Reply, Problem> {
    let view = cx.app().queue_view(&cx.caller().tenant, &queue_of(cx)?)?;
    Ok(Reply::json(&QueuePage {
        queue: QueueReply::new(&view, cx.now.wall),
        totals: Totals::from(&view.figures),
        settings: SettingsReply::from(&*view.settings),
        types: view.types.into_iter().map(TypeReply::from).collect(),
    }))
}

/// The settings of a queue.
#[derive(Serialize, ToSchema)]
pub struct QueueSettingsReply {
    /// Its name.
    queue: String,
    /// Its settings; null is what the server has.
    settings: SettingsReply,
}

async fn change(cx: &Cx, patch: Patch) -> Result<Reply, Problem> {
    let name = queue_of(cx)?;
    let queue = name.to_string();
    let settings = cx.app().queue_patch(&cx.caller().tenant, name, patch).await?;
    Ok(Reply::json(&QueueSettingsReply { queue, settings: SettingsReply::from(&settings) }))
}

fn patch_of(wanted: terms::SettingsPatch) -> Patch {
    let narrow = |limit: u64| u32::try_from(limit).expect("BUG: it is no more than may run");
    Patch {
        paused: wanted.paused.change(),
        max_depth: wanted.max_depth.change(),
        max_tries: wanted.max_tries.change(),
        timeout: wanted.timeout.change(),
        backoff: wanted.backoff.change(),
        rate: wanted.rate.change(),
        concurrency: wanted.concurrency.change().map(|change| change.map(narrow)),
        keep_done: wanted.retention.done.change(),
        keep_rows: wanted.retention.rows.change(),
        keep_bytes: wanted.retention.bytes.change(),
        keep_failed: wanted.retention.failed.change(),
        target_wait: wanted.target_wait.change(),
        history_payload: wanted.history_payload.change(),
    }
}

/// `PATCH /v1/queues/{q}`
pub(in crate::http) async fn patch(cx: Cx) -> Result<Reply, Problem> {
    let wanted = terms::settings(&cx.body)?;
    change(&cx, patch_of(wanted)).await
}

fn paused(paused: bool) -> Patch {
    Patch { paused: Some(Some(paused)), ..Patch::default() }
}

/// `POST /v1/queues/{q}/pause`
pub(in crate::http) async fn pause(cx: Cx) -> Result<Reply, Problem> {
    change(&cx, paused(true)).await
}

/// `POST /v1/queues/{q}/resume`
pub(in crate::http) async fn resume(cx: Cx) -> Result<Reply, Problem> {
    change(&cx, paused(false)).await
}

/// `DELETE /v1/queues/{q}`
pub(in crate::http) async fn forget(cx: Cx) -> Result<Reply, Problem> {
    let name = queue_of(&cx)?;
    cx.app().queue_forget(&cx.caller().tenant, name).await?;
    Ok(Reply::empty())
}

/// How many workers were told.
#[derive(ToSchema)]
pub struct Restarted {
    /// How many.
    pub restarted: u64,
}

/// `POST /v1/queues/{q}/restart`
pub(in crate::http) fn restart(cx: &Cx) -> Result<Reply, Problem> {
    let told = cx.app().queue_restart(&cx.caller().tenant, &queue_of(cx)?);
    Ok(counted("restarted", told as u64))
}

/// How many jobs were removed.
#[derive(ToSchema)]
pub struct Cleared {
    /// How many.
    pub cleared: u64,
}

/// `POST /v1/queues/{q}/clear`
pub(in crate::http) async fn clear(cx: Cx) -> Result<Reply, Problem> {
    let queue = queue_of(&cx)?;
    let states = terms::clear(&cx.body, &queue)?;
    let cleared = cx.app().queue_clear(&cx.caller().tenant, &queue, &states).await?;
    Ok(counted("cleared", cleared))
}
