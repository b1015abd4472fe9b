//! What workers do: they lease jobs, and end attempts.

use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Shown, Spliced, json, millis, worker_of};
use crate::app::jobs::{Handed, Receipt};
use crate::app::queue::Wish;
use crate::base::id::JobId;
use crate::base::time::Timestamp;
use crate::http::problem::Problem;
use crate::http::queue_terms as terms;
use crate::http::reply::Reply;
use crate::http::request::Cx;
use crate::http::splice::Object;
use crate::queue::finish::Report;
use crate::queue::job::{End, LeaseToken, Outcome, State};
use crate::queue::lease::{Extension, Leased};

/// A job that somebody has now.
#[derive(Serialize, ToSchema)]
pub struct LeasedJob<'j> {
    /// Its id.
    #[schema(value_type = String)]
    id: Shown<JobId>,
    /// The lease, for all that is said of this attempt.
    #[schema(value_type = String)]
    lease: Shown<LeaseToken>,
    /// Grows with every lease.
    fence: u64,
    /// Where it came from.
    queue: &'j str,
    /// Its type.
    r#type: &'j str,
    /// Starts, this one among them.
    attempt: u32,
    /// Errors so far.
    errors: u32,
    /// Crashes so far.
    crashes: u32,
    /// Errors after which it is given up.
    max_tries: u32,
    /// When the worker has to be heard of.
    #[schema(value_type = String)]
    lease_until: Shown<Timestamp>,
    /// When the attempt has to be over.
    #[schema(value_type = String)]
    deadline: Shown<Timestamp>,
    /// How long an attempt may run.
    timeout_ms: u64,
    /// What it can be found by.
    tags: &'j [String],
    /// What it carries, if that is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::http::openapi::anything)]
    payload: Spliced,
    /// What it carries, if that is anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    /// What these bytes are.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    /// What the attempt before noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::http::openapi::anything)]
    checkpoint: Spliced,
}

/// Jobs that somebody has now.
#[derive(ToSchema)]
pub struct LeasedJobs {
    /// The jobs; none when nothing came.
    pub jobs: Vec<LeasedJob<'static>>,
}

/// What became of an attempt.
#[derive(Serialize, ToSchema)]
pub struct EndedAttempt {
    /// Where the job stands.
    state: &'static str,
    /// When it runs again, if it is delayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    run_at: Option<Shown<Timestamp>>,
}

/// A lease that was extended.
#[derive(Serialize, ToSchema)]
pub struct ExtendedLease {
    /// When the worker has to be heard of next.
    #[schema(value_type = String)]
    lease_until: Shown<Timestamp>,
    /// Whether nobody wants the job any more.
    cancel: bool,
}

/// What became of the attempts of a report, and the next jobs.
#[derive(ToSchema)]
pub struct ReportAnswer {
    /// Of those that were done, those that failed, those that were released; each in its order.
    pub results: Vec<ReportedEnd<'static>>,
    /// The next jobs; none when nothing came or was asked for.
    pub jobs: Vec<LeasedJob<'static>>,
}

/// What became of one of them.
#[derive(Serialize, ToSchema)]
pub struct ReportedEnd<'e> {
    /// The lease, as it was named.
    lease: &'e str,
    /// `ok`, `repeat` or `lease_lost`.
    status: &'static str,
    /// Where the job stands, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

fn wish(cx: &Cx, call: terms::LeaseCall) -> Result<Wish, Problem> {
    let terms::LeaseCall { queues, max, wait, lease, worker } = call;
    let worker = worker.as_deref().map(worker_of).transpose()?;
    Ok(Wish { queues, max, lease, wait, worker, peer: cx.peer_pid() })
}

/// So much of a job is not payload, about.
const HEAD_BYTES: usize = 512;

fn write_job(out: &mut Vec<u8>, job: &Leased) {
    let head = LeasedJob {
        id: Shown(job.token.job),
        lease: Shown(job.token),
        fence: job.token.fence,
        queue: job.queue.as_str(),
        r#type: &job.job_type,
        attempt: job.attempt,
        errors: job.errors,
        crashes: job.crashes,
        max_tries: job.max_tries,
        lease_until: Shown(job.until),
        deadline: Shown(job.deadline),
        timeout_ms: millis(job.timeout),
        tags: &job.tags,
        payload: None,
        payload_base64: None,
        content_type: None,
        checkpoint: None,
    };
    let mut object = Object::begin(out, &head);
    object.payload(&job.payload);
    if let Some(checkpoint) = &job.checkpoint {
        object.json("checkpoint", checkpoint);
    }
    object.end();
}

/// Adds the jobs, and gives back what has to be kept until they have arrived.
fn write_jobs(out: &mut Vec<u8>, handed: Option<Handed>) -> Option<Receipt> {
    out.extend_from_slice(b"\"jobs\":[");
    let receipt = handed.map(|Handed { jobs, receipt }| {
        // What is not JSON is a third longer in base64.
        let bytes = |job: &Leased| HEAD_BYTES + job.payload.bytes.len().div_ceil(3) * 4;
        out.reserve(jobs.iter().map(bytes).sum());
        for (place, job) in jobs.iter().enumerate() {
            if place != 0 {
                out.push(b',');
            }
            write_job(out, job);
        }
        receipt
    });
    out.extend_from_slice(b"]}");
    receipt
}

/// `POST /v1/lease`
pub(in crate::http) async fn lease(cx: Cx) -> Result<Reply, Problem> {
    let wish = wish(&cx, terms::lease(&cx.body)?)?;
    let stop = cx.edge().until_stopping();
    let (handed, waited) = cx.app().queue_lease(&cx.caller().tenant, &wish, stop).await?;
    cx.waited(waited);
    let mut out = vec![b'{'];
    let receipt = write_jobs(&mut out, handed);
    Ok(Reply { as_is: true, receipt, ..json(out) })
}

async fn end(cx: &Cx, lease: LeaseToken, end: End) -> Result<Reply, Problem> {
    let Outcome { state, run_at } = cx.app().queue_end(&cx.caller().tenant, lease, end).await?;
    if state == State::Done {
        return Ok(Reply::bytes("application/json", Bytes::from_static(b"{\"state\":\"done\"}")));
    }
    Ok(Reply::json(&EndedAttempt { state: state.as_str(), run_at: run_at.map(Shown) }))
}

/// `POST /v1/leases/{lease}/done`
pub(in crate::http) async fn done(cx: Cx) -> Result<Reply, Problem> {
    let how = terms::done(&cx.body)?;
    end(&cx, terms::lease_token(cx.param("lease"))?, how).await
}

/// `POST /v1/leases/{lease}/fail`
pub(in crate::http) async fn fail(cx: Cx) -> Result<Reply, Problem> {
    let how = terms::fail(&cx.body)?;
    end(&cx, terms::lease_token(cx.param("lease"))?, how).await
}

/// `POST /v1/leases/{lease}/release`
pub(in crate::http) async fn release(cx: Cx) -> Result<Reply, Problem> {
    let how = terms::release(&cx.body)?;
    end(&cx, terms::lease_token(cx.param("lease"))?, how).await
}

/// `POST /v1/leases/{lease}/extend`
pub(in crate::http) async fn extend(cx: Cx) -> Result<Reply, Problem> {
    let terms::Extension { by, progress, checkpoint } = terms::extend(&cx.body)?;
    let lease = terms::lease_token(cx.param("lease"))?;
    let extension = Extension { by, progress, checkpoint };
    let extended = cx.app().queue_extend(&cx.caller().tenant, lease, extension).await?;
    let (lease_until, cancel) = (Shown(extended.until), extended.cancel);
    Ok(Reply::json(&ExtendedLease { lease_until, cancel }))
}

fn result_of(lease: &str, word: Report) -> ReportedEnd<'_> {
    let (status, state) = match word {
        Report::Ended(outcome) => ("ok", Some(outcome.state)),
        Report::Repeated(outcome) => ("repeat", Some(outcome.state)),
        Report::Lost(state) => ("lease_lost", Some(state)),
        Report::Unknown => ("lease_lost", None),
    };
    ReportedEnd { lease, status, state: state.map(State::as_str) }
}

/// `POST /v1/report`
pub(in crate::http) async fn report(cx: Cx) -> Result<Reply, Problem> {
    let terms::Report { ended, next } = terms::report(&cx.body)?;
    let next = next.map(|call| wish(&cx, call)).transpose()?;
    let (mut names, mut ends) = (Vec::with_capacity(ended.len()), Vec::with_capacity(ended.len()));
    for terms::Ended { named, lease, end } in ended {
        names.push((named, lease.is_some()));
        ends.extend(lease.map(|lease| (lease, end)));
    }
    let (tenant, stop) = (&cx.caller().tenant, cx.edge().until_stopping());
    let (words, handed, waited) = cx.app().queue_report(tenant, ends, next.as_ref(), stop).await?;
    cx.waited(waited);
    let mut words = words.into_iter();
    let results: Vec<ReportedEnd<'_>> = names
        .iter()
        .map(|(named, is_lease)| {
            let word = if *is_lease { words.next() } else { None };
            result_of(named, word.unwrap_or(Report::Unknown))
        })
        .collect();
    let mut out = b"{\"results\":".to_vec();
    serde_json::to_writer(&mut out, &results).expect("BUG: what we answer is plain JSON");
    out.push(b',');
    let receipt = write_jobs(&mut out, handed);
    Ok(Reply { as_is: next.is_some(), receipt, ..json(out) })
}
