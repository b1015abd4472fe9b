//! Workers: that they live, what they are told, and who they are.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Shown, text_of, worker_of};
use crate::base::cursor;
use crate::base::id::JobId;
use crate::base::time::Timestamp;
use crate::http::problem::Problem;
use crate::http::queue_terms as terms;
use crate::http::reply::{Page, Reply};
use crate::http::request::Cx;
use crate::queue::job::LeaseToken;
use crate::queue::workers::{Beat, Command, Told, WorkerId, WorkerState};

const LIST: &str = "workers";

/// What a worker is told.
#[derive(Serialize, ToSchema)]
pub struct BeatReply {
    /// `run`, `drain` or `restart`.
    command: &'static str,
    /// Jobs that nobody wants any more.
    #[schema(value_type = Vec<String>)]
    cancel: Vec<Shown<JobId>>,
    /// Leases that are none any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    lost: Vec<Shown<LeaseToken>>,
}

/// What a worker is told from now on.
#[derive(Serialize, ToSchema)]
pub struct CommandReply {
    /// `run`, `drain` or `restart`.
    command: &'static str,
}

/// A worker.
#[derive(Serialize, ToSchema)]
pub struct JobWorker {
    /// What it calls itself.
    id: String,
    /// `idle`, `busy`, `paused`, `stopping`, `stale` or `gone`.
    state: &'static str,
    /// The queues it serves.
    queues: Vec<String>,
    /// Jobs that it has.
    #[schema(value_type = Vec<String>)]
    jobs: Vec<Shown<JobId>>,
    /// What it is told with its next beat.
    command: &'static str,
    /// Its process.
    pid: Option<u32>,
    /// Its machine.
    host: Option<String>,
    /// Memory it takes.
    rss_bytes: Option<u64>,
    /// The most it took.
    peak_rss_bytes: Option<u64>,
    /// The part of one processor it takes.
    cpu_percent: Option<f64>,
    /// Jobs it has finished.
    jobs_done: Option<u64>,
    /// How long it waited.
    idle_ms: Option<u64>,
    /// How long it worked.
    busy_ms: Option<u64>,
    /// When it began, as far as it was seen.
    #[schema(value_type = String)]
    first_seen_at: Shown<Timestamp>,
    /// When it was last heard of.
    #[schema(value_type = String)]
    last_seen_at: Shown<Timestamp>,
    /// When it last sent a beat.
    #[schema(value_type = Option<String>)]
    last_beat_at: Option<Shown<Timestamp>>,
    /// How its process ended, if it is gone because of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    died: Option<String>,
}

impl JobWorker {
    fn new(told: Told, jobs: Vec<JobId>) -> JobWorker {
        let said = told.said;
        JobWorker {
            id: told.id.to_string(),
            state: told.standing.as_str(!jobs.is_empty()),
            queues: said.queues.iter().map(ToString::to_string).collect(),
            jobs: jobs.into_iter().map(Shown).collect(),
            command: told.command.as_str(),
            pid: said.pid,
            host: said.host,
            rss_bytes: said.rss_bytes,
            peak_rss_bytes: said.peak_rss_bytes,
            cpu_percent: said.cpu_percent,
            jobs_done: said.jobs_done,
            idle_ms: said.idle_ms,
            busy_ms: said.busy_ms,
            first_seen_at: Shown(told.first_seen_at),
            last_seen_at: Shown(told.last_seen_at),
            last_beat_at: told.last_beat_at.map(Shown),
            died: told.died,
        }
    }
}

fn id_of(cx: &Cx) -> Result<WorkerId, Problem> {
    worker_of(cx.param("id"))
}

fn state_of(state: terms::SaidState) -> WorkerState {
    match state {
        terms::SaidState::Idle => WorkerState::Idle,
        terms::SaidState::Busy => WorkerState::Busy,
        terms::SaidState::Paused => WorkerState::Paused,
        terms::SaidState::Stopping => WorkerState::Stopping,
    }
}

/// `POST /v1/workers/{id}/beat`
pub(in crate::http) async fn beat(cx: Cx) -> Result<Reply, Problem> {
    let id = id_of(&cx)?;
    let said = terms::beat(&cx.body)?;
    let beat = Beat {
        pid: said.pid,
        host: said.host,
        queues: said.queues.unwrap_or_default(),
        state: said.state.map(state_of),
        rss_bytes: said.rss_bytes,
        peak_rss_bytes: said.peak_rss_bytes,
        cpu_percent: said.cpu_percent,
        jobs_done: said.jobs_done,
        idle_ms: said.idle_ms,
        busy_ms: said.busy_ms,
    };
    let renewed = (said.leases, said.extend);
    let answer = cx.app().queue_beat(&cx.caller().tenant, &id, beat, renewed).await?;
    Ok(Reply::json(&BeatReply {
        command: answer.command.as_str(),
        cancel: answer.cancel.into_iter().map(Shown).collect(),
        lost: answer.lost.into_iter().map(Shown).collect(),
    }))
}

/// `DELETE /v1/workers/{id}`
pub(in crate::http) async fn goodbye(cx: Cx) -> Result<Reply, Problem> {
    let id = id_of(&cx)?;
    cx.app().queue_goodbye(&cx.caller().tenant, &id).await?;
    Ok(Reply::empty())
}

/// `POST /v1/workers/{id}/command`
pub(in crate::http) fn command(cx: &Cx) -> Result<Reply, Problem> {
    let id = id_of(cx)?;
    let command = match terms::command(&cx.body)? {
        terms::Command::Run => Command::Run,
        terms::Command::Drain => Command::Drain,
        terms::Command::Restart => Command::Restart,
    };
    cx.app().queue_command(&cx.caller().tenant, &id, command)?;
    Ok(Reply::json(&CommandReply { command: command.as_str() }))
}

/// `GET /v1/workers/{id}`
pub(in crate::http) fn show(cx: &Cx) -> Result<Reply, Problem> {
    let (told, jobs) = cx.app().queue_worker(&cx.caller().tenant, &id_of(cx)?)?;
    Ok(Reply::json(&JobWorker::new(told, jobs)))
}

/// `GET /v1/workers`
pub(in crate::http) fn list(cx: &Cx) -> Result<Reply, Problem> {
    let paging = cx.paging(LIST)?;
    let after = text_of(paging.after)?.map(|text| WorkerId::parse(&text)).transpose();
    let after = after.map_err(|_| cursor::BadCursor)?;
    let mut found = cx.app().queue_workers(&cx.caller().tenant, after.as_ref(), paging.limit + 1);
    let more = paging.limit < found.len();
    found.truncate(paging.limit);
    let last = found.last().filter(|_| more);
    let next = last.map(|(told, _)| cursor::write(LIST, told.id.as_str().as_bytes()));
    let items: Vec<JobWorker> =
        found.into_iter().map(|(told, jobs)| JobWorker::new(told, jobs)).collect();
    Ok(Reply::json(&Page { items, next }))
}
