//! Jobs that are pushed.

use std::io::Write as _;

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::{Shown, is_false, json, queue_of};
use crate::base::id::JobId;
use crate::base::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::base::time::Timestamp;
use crate::http::problem::Problem;
use crate::http::queue_terms as terms;
use crate::http::reply::Reply;
use crate::http::request::Cx;
use crate::queue::job::State;
use crate::queue::push::{Call, PushedJob};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A job that was pushed, or the one that holds its unique key.
#[derive(Serialize, ToSchema)]
pub struct PushedOne {
    /// Its id.
    #[schema(value_type = String)]
    id: Shown<JobId>,
    /// Whether it was there before, and holds the unique key.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    duplicate: bool,
    /// In which queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    /// `waiting` or `delayed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// From when on it may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    run_at: Option<Shown<Timestamp>>,
}

/// Jobs that were pushed, in the order of the call.
#[derive(ToSchema)]
pub struct PushedJobs {
    /// Each of them: `id`, `state`, and `duplicate` or `run_at` where that says something.
    pub jobs: Vec<PushedOne>,
}

/// The call as it is recognised when it comes again.
fn call(cx: &Cx, path: &str) -> Result<Option<Call>, Problem> {
    let mut keys = cx.headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    let length = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len());
    if !length || !key.as_bytes().iter().all(|b| (b' '..=b'~').contains(b)) || keys.next().is_some()
    {
        let detail = format!(
            "Idempotency-Key is given once and has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} \
             characters of ASCII"
        );
        return Err(Problem::new("invalid_idempotency_key", detail));
    }
    let mut asked = Sha256::new();
    let mut part = |bytes: &[u8]| {
        // With its length, so that nothing can move from one part into the next.
        asked.update((bytes.len() as u64).to_be_bytes());
        asked.update(bytes);
    };
    part(b"POST");
    part(path.as_bytes());
    for (name, value) in cx.query.pairs() {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    part(&cx.body);
    let key = half(&Sha256::digest(key.as_bytes()));
    Ok(Some(Call { key, fingerprint: half(&asked.finalize()) }))
}

fn half(hash: &[u8]) -> [u8; 16] {
    hash.first_chunk().copied().expect("BUG: a hash has 32 bytes")
}

fn replayed(mut reply: Reply, again: bool) -> Reply {
    if again {
        reply.headers.push((IDEMPOTENT_REPLAYED, HeaderValue::from_static("true")));
    }
    reply
}

/// `POST /v1/queues/{q}/jobs`
pub(in crate::http) async fn one(cx: Cx) -> Result<Reply, Problem> {
    let queue = queue_of(&cx)?;
    let (content_type, now) = (cx.headers.get(CONTENT_TYPE), cx.now.wall);
    let spec = terms::raw_job(queue.clone(), &cx.query, content_type, &cx.body, now)?;
    let call = call(&cx, &format!("/v1/queues/{queue}/jobs"))?;
    let pushed = cx.app().queue_push(&cx.caller().tenant, vec![spec], call).await?;
    let PushedJob { id, duplicate, state, run_at } =
        *pushed.jobs.first().expect("BUG: one was pushed");
    let new = !duplicate;
    let told = PushedOne {
        id: Shown(id),
        duplicate,
        queue: new.then(|| queue.to_string()),
        state: new.then(|| state.as_str()),
        run_at: new.then_some(Shown(run_at)),
    };
    let reply = if new {
        Reply::created(&told).location(&format!("/v1/jobs/{id}"))
    } else {
        Reply::json(&told)
    };
    Ok(replayed(reply, pushed.replayed))
}

/// `POST /v1/jobs`
pub(in crate::http) async fn many(cx: Cx) -> Result<Reply, Problem> {
    let specs = terms::jobs(&cx.body, cx.now.wall)?;
    let call = call(&cx, "/v1/jobs")?;
    let pushed = cx.app().queue_push(&cx.caller().tenant, specs, call).await?;
    let reply = Reply { status: hyper::StatusCode::CREATED, ..json(told(&pushed.jobs)) };
    Ok(replayed(reply, pushed.replayed))
}

/// Written by hand: there may be a thousand of them, and many such calls.
fn told(jobs: &[PushedJob]) -> Vec<u8> {
    const EACH_BYTES: usize = 48;
    let mut out = Vec::with_capacity(16 + jobs.len() * EACH_BYTES);
    out.extend_from_slice(b"{\"jobs\":[");
    for (place, job) in jobs.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        let (id, state) = (job.id, job.state.as_str());
        let written = write!(out, "{comma}{{\"id\":\"{id}\",\"state\":\"{state}\"");
        written.expect("BUG: memory takes everything");
        if job.duplicate {
            out.extend_from_slice(b",\"duplicate\":true");
        } else if job.state == State::Delayed {
            let written = write!(out, ",\"run_at\":\"{}\"", job.run_at);
            written.expect("BUG: memory takes everything");
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out
}
