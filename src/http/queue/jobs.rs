//! Jobs that are there, and jobs that are over, in one shape.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Shown, Spliced, is_false, json, millis, wait_of};
use crate::app::queue::Found;
use crate::base::cursor::{self, BadCursor};
use crate::base::human::parse_moment;
use crate::base::id::JobId;
use crate::base::limits::{
    HISTORY_TEXT_BYTES_MAX, JOB_TAG_BYTES_MAX, JOB_TYPE_BYTES_MAX, LEASE_BYTES_MAX, READ_DEADLINE,
};
use crate::base::name::QueueName;
use crate::base::time::Timestamp;
use crate::catalog::history::{self, Finish, FinishedJob};
use crate::http::problem::Problem;
use crate::http::queue_terms as terms;
use crate::http::reply::Reply;
use crate::http::request::Cx;
use crate::http::splice::Object;
use crate::queue::job::{Band, Payload, State};
use crate::queue::view::{self, LIVE, Reason};

const LIST: &str = "jobs";

/// A job.
#[derive(Serialize, ToSchema)]
pub struct JobReply<'j> {
    /// Its id.
    #[schema(value_type = String)]
    id: Shown<JobId>,
    /// In which queue it is, or was.
    queue: &'j str,
    /// Its type.
    r#type: &'j str,
    /// `delayed`, `waiting`, `running`, `done`, `failed` or `cancelled`.
    state: &'static str,
    /// How urgent it is.
    priority: &'static str,
    /// From when on it may run.
    #[schema(value_type = String)]
    run_at: Shown<Timestamp>,
    /// Starts.
    attempt: u32,
    /// Errors.
    errors: u32,
    /// Crashes.
    crashes: u32,
    /// Errors after which it is given up.
    max_tries: u32,
    /// How long an attempt may run.
    timeout_ms: u64,
    /// What it can be found by.
    tags: &'j [String],
    /// The key that it holds alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_key: Option<&'j str>,
    /// When it was pushed.
    #[schema(value_type = String)]
    created_at: Shown<Timestamp>,
    /// When its last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    started_at: Option<Shown<Timestamp>>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    finished_at: Option<Shown<Timestamp>>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<ErrorReply<'j>>,
    /// How far it has come, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<f64>,
    /// Why it was given back last.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'j str>,
    /// Who has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<&'j str>,
    /// Until when its worker has to be heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    lease_until: Option<Shown<Timestamp>>,
    /// Whether it runs and nobody wants it any more.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    cancel: bool,
    /// What came out of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::http::openapi::anything)]
    result: Spliced,
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
}

/// What went wrong with a job.
#[derive(Serialize, ToSchema)]
pub struct ErrorReply<'e> {
    /// What kind of error.
    class: &'e str,
    /// What it says.
    message: &'e str,
    /// Where it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'e str>,
    /// When.
    #[schema(value_type = String)]
    at: Shown<Timestamp>,
}

impl<'e> ErrorReply<'e> {
    fn live(error: &'e view::LastError) -> ErrorReply<'e> {
        let view::LastError { class, message, trace, at } = error;
        ErrorReply { class, message, trace: trace.as_deref(), at: Shown(*at) }
    }

    fn past(job: &'e FinishedJob) -> Option<ErrorReply<'e>> {
        let history::JobError { class, message, trace } = job.error.as_ref()?;
        Some(ErrorReply { class, message, trace: trace.as_deref(), at: Shown(job.finished_at) })
    }
}

fn write_live(out: &mut Vec<u8>, job: &view::Job, payload: bool) {
    let head = JobReply {
        id: Shown(job.id),
        queue: &job.queue,
        r#type: &job.job_type,
        state: job.state.as_str(),
        priority: job.band.as_str(),
        run_at: Shown(job.run_at),
        attempt: job.attempt,
        errors: job.errors,
        crashes: job.crashes,
        max_tries: job.max_tries,
        timeout_ms: millis(job.timeout),
        tags: &job.tags,
        unique_key: job.unique_key.as_deref(),
        created_at: Shown(job.created_at),
        started_at: job.started_at.map(Shown),
        finished_at: job.finished_at.map(Shown),
        last_error: job.last_error.as_ref().map(ErrorReply::live),
        progress: job.progress,
        reason: job.reason.as_deref(),
        worker: job.worker.as_deref(),
        lease_until: job.lease_until.map(Shown),
        cancel: job.cancel,
        result: None,
        payload: None,
        payload_base64: None,
        content_type: None,
    };
    let mut object = Object::begin(out, &head);
    if payload {
        object.payload(&job.payload);
    }
    object.end();
}

fn write_past(out: &mut Vec<u8>, job: &FinishedJob, payload: Option<&Payload>) {
    let band = Band::ALL.get(usize::from(job.priority)).copied().unwrap_or_default();
    let head = JobReply {
        id: Shown(job.id),
        queue: &job.queue,
        r#type: &job.job_type,
        state: State::of(job.state).as_str(),
        priority: band.as_str(),
        run_at: Shown(job.run_at),
        attempt: job.attempt,
        errors: job.errors,
        crashes: job.crashes,
        max_tries: job.max_tries,
        timeout_ms: job.timeout_ms,
        tags: &job.tags,
        unique_key: job.unique_key.as_deref(),
        created_at: Shown(job.created_at),
        started_at: job.started_at.map(Shown),
        finished_at: Some(Shown(job.finished_at)),
        last_error: ErrorReply::past(job),
        progress: job.progress,
        reason: None,
        worker: None,
        lease_until: None,
        cancel: false,
        result: None,
        payload: None,
        payload_base64: None,
        content_type: None,
    };
    let mut object = Object::begin(out, &head);
    if let Some(result) = &job.result {
        object.json("result", result);
    }
    if let Some(payload) = payload {
        object.payload(payload);
    }
    object.end();
}

/// What the history kept of what a job carried.
fn kept_payload(job: &FinishedJob) -> Option<Payload> {
    let (content_type, bytes) = job.payload.clone()?;
    Some(Payload { content_type, bytes })
}

fn id_of(cx: &Cx) -> Result<JobId, Problem> {
    Ok(JobId::parse(cx.param("id"))?)
}

/// `GET /v1/jobs/{id}`
pub(in crate::http) async fn show(cx: Cx) -> Result<Reply, Problem> {
    let (id, wait) = (id_of(&cx)?, wait_of(&cx)?);
    let tenant = &cx.caller().tenant;
    let found = if wait.is_zero() {
        cx.app().queue_job(tenant, id).await?
    } else {
        let stop = cx.edge().until_stopping();
        let (found, waited) = cx.app().queue_job_when_over(tenant, id, wait, stop).await?;
        cx.waited(waited);
        found
    };
    let mut out = Vec::new();
    match &found {
        Found::Live(job) => write_live(&mut out, job, true),
        Found::Past(job) => write_past(&mut out, job, kept_payload(job).as_ref()),
    }
    Ok(Reply { as_is: !wait.is_zero(), ..json(out) })
}

/// A job that somebody wanted to be gone.
#[derive(Serialize, ToSchema)]
pub struct CancelledJob {
    /// Its id.
    #[schema(value_type = String)]
    id: Shown<JobId>,
    /// `cancelled`, or `running` while its worker has it.
    state: &'static str,
}

/// `DELETE /v1/jobs/{id}`
pub(in crate::http) async fn cancel(cx: Cx) -> Result<Reply, Problem> {
    let id = id_of(&cx)?;
    let gone = cx.app().queue_cancel(&cx.caller().tenant, id).await?;
    let state = if gone { State::Cancelled } else { State::Running };
    let told = CancelledJob { id: Shown(id), state: state.as_str() };
    Ok(if gone { Reply::json(&told) } else { Reply::started(&told) })
}

/// Why a job does not run.
#[derive(Serialize, ToSchema)]
pub struct WhyReply {
    /// Its queue.
    queue: String,
    /// Whether the next worker that asks gets it.
    runnable: bool,
    /// Everything that is in its way, the nearest first.
    reasons: Vec<ReasonReply>,
    /// How long until it runs, if that can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    eta_ms: Option<u64>,
}

/// Something that is in a job's way, with what belongs to its code.
#[derive(Default, Serialize, ToSchema)]
pub struct ReasonReply {
    /// `delayed`, `queue_paused`, `rate_limited`, `concurrency`, `retry_throttled`, `ahead`, `no_worker`,
    /// `running` or `finished`.
    code: &'static str,
    /// When its moment comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    until: Option<Shown<Timestamp>>,
    /// Errors for which it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<u32>,
    /// The rate of its queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<String>,
    /// Jobs of its queue that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<u64>,
    /// How many may.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    /// Jobs that come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs: Option<u64>,
    /// Whether there are more than were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
    /// How long ago a worker asked; absent when none did since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_asked_ms: Option<u64>,
    /// Who has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    since: Option<Shown<Timestamp>>,
    /// Until when its worker has to be heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    lease_until: Option<Shown<Timestamp>>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl From<Reason> for ReasonReply {
    fn from(reason: Reason) -> ReasonReply {
        let with = |code| ReasonReply { code, ..ReasonReply::default() };
        match reason {
            Reason::Delayed { until, errors } => {
                let errors = Some(errors).filter(|errors| *errors != 0);
                ReasonReply { until: Some(Shown(until)), errors, ..with("delayed") }
            }
            Reason::QueuePaused => with("queue_paused"),
            Reason::RateLimited { rate } => {
                ReasonReply { rate: Some(rate), ..with("rate_limited") }
            }
            Reason::Concurrency { running, limit } => {
                let (running, limit) = (Some(running), Some(limit));
                ReasonReply { running, limit, ..with("concurrency") }
            }
            Reason::RetryThrottled => with("retry_throttled"),
            Reason::Ahead { jobs, more } => {
                let more = Some(more).filter(|more| *more);
                ReasonReply { jobs: Some(jobs), more, ..with("ahead") }
            }
            Reason::NoWorker { last_asked } => {
                ReasonReply { last_asked_ms: last_asked.map(millis), ..with("no_worker") }
            }
            Reason::Running { worker, since, lease_until } => {
                let (since, lease_until) = (since.map(Shown), lease_until.map(Shown));
                ReasonReply { worker, since, lease_until, ..with("running") }
            }
            Reason::Finished { state, error } => {
                let message = error.map(|error| error.message);
                ReasonReply { state: Some(state.as_str()), message, ..with("finished") }
            }
        }
    }
}

/// `GET /v1/jobs/{id}/why`
pub(in crate::http) async fn why(cx: Cx) -> Result<Reply, Problem> {
    let why = cx.app().queue_why(&cx.caller().tenant, id_of(&cx)?).await?;
    Ok(Reply::json(&WhyReply {
        queue: why.queue,
        runnable: why.runnable,
        reasons: why.reasons.into_iter().map(ReasonReply::from).collect(),
        eta_ms: why.eta.map(millis),
    }))
}

/// What is searched for, in the store and in the history.
struct Search {
    live: view::Filter,
    past: history::Filter,
    payload: bool,
    limit: usize,
}

/// Where a search goes on: the jobs that are there come first, then those that are over.
enum Place {
    Live(Option<view::Position>),
    Past(Option<history::Position>),
}

impl Place {
    fn key(&self) -> Vec<u8> {
        match self {
            Place::Live(None) => vec![0],
            Place::Live(Some(position)) => {
                let after = position.after.as_deref();
                let mark = if after.is_some() { 2 } else { 1 };
                [&[mark, position.state as u8], after.unwrap_or_default()].concat()
            }
            Place::Past(None) => vec![3],
            Place::Past(Some(position)) => {
                let at = position.finished_at.unix_ms().to_be_bytes();
                [&[4][..], &at, &position.id.raw().to_be_bytes()].concat()
            }
        }
    }

    fn read(key: &[u8]) -> Result<Place, BadCursor> {
        let state = |number: u8| {
            let state = LIVE.into_iter().find(|state| *state as u8 == number);
            state.ok_or(BadCursor)
        };
        match key {
            [0] => Ok(Place::Live(None)),
            [1, number] => {
                Ok(Place::Live(Some(view::Position { state: state(*number)?, after: None })))
            }
            [2, number, after @ ..] => {
                let after = Some(after.to_vec());
                Ok(Place::Live(Some(view::Position { state: state(*number)?, after })))
            }
            [3] => Ok(Place::Past(None)),
            [4, rest @ ..] => {
                let (at, id) = rest.split_first_chunk::<8>().ok_or(BadCursor)?;
                let finished_at =
                    Timestamp::from_unix_ms(i64::from_be_bytes(*at)).ok_or(BadCursor)?;
                let id = u64::from_be_bytes(id.try_into().map_err(|_| BadCursor)?);
                let id = JobId::from_raw(id);
                Ok(Place::Past(Some(history::Position { finished_at, id })))
            }
            _ => Err(BadCursor),
        }
    }
}

/// The states that are asked for; all of them when none is named.
fn states_of(cx: &Cx) -> Result<Vec<State>, Problem> {
    let Some(text) = cx.query.get("state") else {
        return Ok(State::ALL.to_vec());
    };
    let state = |word: &str| {
        State::parse(word).ok_or_else(|| {
            let all = State::ALL.map(State::as_str).join(", ");
            let detail = format!("state is one of {all}, or several with commas between");
            Problem::new("invalid_state", detail)
        })
    };
    text.split(',').map(state).collect()
}

/// A text of the query that has something in it, and not too much.
fn given<'c>(cx: &'c Cx, name: &'static str, bytes_max: usize) -> Result<Option<&'c str>, Problem> {
    let Some(text) = cx.query.get(name) else {
        return Ok(None);
    };
    terms::line(name, text, bytes_max)?;
    Ok(Some(text))
}

fn moment(cx: &Cx, name: &'static str) -> Result<Option<Timestamp>, Problem> {
    let read = |text| {
        let invalid = |bad: crate::base::human::BadMoment| {
            Problem::new(&format!("invalid_{name}"), bad.to_string())
        };
        parse_moment(text, cx.now.wall).map_err(invalid)
    };
    cx.query.get(name).map(read).transpose()
}

fn search_of(cx: &Cx, limit: usize) -> Result<Search, Problem> {
    let payload = match cx.query.get("fields") {
        None => false,
        Some("payload") => true,
        Some(_) => {
            let detail = "fields is payload: what the jobs carry, beside all the rest";
            return Err(Problem::new("invalid_fields", detail));
        }
    };
    let states = states_of(cx)?;
    let tenant = cx.caller().tenant.id;
    let queue = cx.query.get("queue").map(QueueName::parse).transpose()?;
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let job_type = owned(given(cx, "type", JOB_TYPE_BYTES_MAX)?);
    let tag = owned(given(cx, "tag", JOB_TAG_BYTES_MAX)?);
    let text = owned(given(cx, "q", HISTORY_TEXT_BYTES_MAX)?);
    let (from, to) = (moment(cx, "from")?, moment(cx, "to")?);
    let past = history::Filter {
        tenant,
        queue: queue.as_ref().map(|queue| queue.as_str().to_owned()),
        states: states.iter().copied().filter_map(State::finish).collect(),
        job_type: job_type.clone(),
        tag: tag.clone(),
        text: text.clone(),
        from,
        to,
        after: None,
        limit,
    };
    let states = LIVE.into_iter().filter(|state| states.contains(state)).collect();
    let live = view::Filter { tenant, queue, states, job_type, tag, text, from, to, payload };
    Ok(Search { live, past, payload, limit })
}

/// A page of jobs in the making.
struct Items {
    out: Vec<u8>,
    count: usize,
}

impl Items {
    fn next(&mut self) -> &mut Vec<u8> {
        if self.count != 0 {
            self.out.push(b',');
        }
        self.count += 1;
        &mut self.out
    }

    fn end(mut self, next: Option<&Place>) -> Reply {
        self.out.extend_from_slice(b"],\"next\":");
        let next = next.map(|place| cursor::write(LIST, &place.key()));
        serde_json::to_writer(&mut self.out, &next).expect("BUG: a cursor is plain JSON");
        self.out.push(b'}');
        json(self.out)
    }
}

/// `GET /v1/jobs`
pub(in crate::http) async fn search(cx: Cx) -> Result<Reply, Problem> {
    let paging = cx.paging(LIST)?;
    let search = search_of(&cx, paging.limit)?;
    let place = paging.after.as_deref().map(Place::read).transpose()?;
    let mut items = Items { out: b"{\"items\":[".to_vec(), count: 0 };
    let after = match place.unwrap_or(Place::Live(None)) {
        Place::Past(after) => after,
        Place::Live(after) => {
            if let Some(next) = add_live(&cx, &search, after, &mut items).await? {
                return Ok(items.end(Some(&next)));
            }
            None
        }
    };
    let wants_past = !search.past.states.is_empty();
    if !wants_past {
        return Ok(items.end(None));
    }
    if items.count == search.limit {
        return Ok(items.end(Some(&Place::Past(None))));
    }
    let next = add_past(&cx, &search, after, &mut items).await?;
    Ok(items.end(next.as_ref()))
}

/// Adds jobs of the store; where to go on there, if not all of them were looked at.
async fn add_live(
    cx: &Cx,
    search: &Search,
    after: Option<view::Position>,
    items: &mut Items,
) -> Result<Option<Place>, Problem> {
    if search.live.states.is_empty() {
        return Ok(None);
    }
    let (app, filter, limit) = (Arc::clone(cx.app()), search.live.clone(), search.limit);
    // It looks at thousands of rows, perhaps at all that they carry.
    let listed = cx.app().blocking(READ_DEADLINE, move || app.queue_list(&filter, after, limit));
    let (jobs, next) = listed.await??;
    for job in &jobs {
        write_live(items.next(), job, search.payload);
    }
    Ok(next.map(|position| Place::Live(Some(position))))
}

/// Adds jobs that are over; where to go on, if there may be more.
async fn add_past(
    cx: &Cx,
    search: &Search,
    after: Option<history::Position>,
    items: &mut Items,
) -> Result<Option<Place>, Problem> {
    let limit = search.limit - items.count;
    let filter = history::Filter { after, limit, ..search.past.clone() };
    let page = cx.app().past_search(filter).await?;
    let count = page.jobs.len();
    for (place, job) in page.jobs.iter().enumerate() {
        let payload = if search.payload { payload_of(cx, job).await? } else { None };
        write_past(items.next(), job, payload.as_ref());
        // What was found is not lost: the next page begins behind it.
        if LEASE_BYTES_MAX <= items.out.len() && place + 1 < count {
            let position = history::Position { finished_at: job.finished_at, id: job.id };
            return Ok(Some(Place::Past(Some(position))));
        }
    }
    Ok(page.next.map(|position| Place::Past(Some(position))))
}

/// What a job that is over carried: the history may have it, and of what failed the store.
async fn payload_of(cx: &Cx, job: &FinishedJob) -> Result<Option<Payload>, Problem> {
    if job.state != Finish::Failed || job.payload.is_some() {
        return Ok(kept_payload(job));
    }
    match cx.app().queue_job(&cx.caller().tenant, job.id).await {
        Ok(Found::Live(live)) => Ok(Some(live.payload)),
        Ok(Found::Past(_)) | Err(crate::app::Error::UnknownJob(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
