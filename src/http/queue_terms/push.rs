//! Jobs that are pushed.

use std::borrow::Cow;
use std::time::Duration;

use hyper::header::HeaderValue;

use super::{backoff, bounded, invalid, part, payload, queue_name, text, time, time_of};
use super::{timeout, too_large, tries, tries_of, word, word_of};
use crate::base::human::{BadMoment, parse_moment};
use crate::base::limits::{
    CALL_ITEMS_MAX, FOLLOWUP_PAYLOAD_BYTES_MAX, JOB_DELAY_MAX, JOB_RESULT_TTL_MAX,
    JOB_TAG_BYTES_MAX, JOB_TAGS_MAX, JOB_TIMEOUT_MAX, JOB_TIMEOUT_MIN, JOB_TYPE_BYTES_MAX,
    UNIQUE_KEY_BYTES_MAX,
};
use crate::base::name::QueueName;
use crate::base::time::Timestamp;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::spans::{self, Fault, given};
use crate::queue::job::{Band, DEFAULT_TYPE, Followup, Payload, Rules, Spec, Unique, Until, When};

/// The fields of a job.
pub(crate) const JOB_FIELDS: [&str; 17] = [
    "queue",
    "type",
    "payload",
    "payload_base64",
    "content_type",
    "delay",
    "run_at",
    "priority",
    "max_tries",
    "backoff",
    "timeout",
    "max_crashes",
    "unique",
    "tags",
    "result_ttl",
    "on_failed",
    "jobs",
];
/// The fields of a key that one job holds.
pub(crate) const UNIQUE_FIELDS: [&str; 3] = ["key", "until", "ttl"];
/// The fields of what is pushed when a job is given up.
pub(crate) const FOLLOWUP_FIELDS: [&str; 3] = ["queue", "type", "payload"];

/// What waits for no time is not worth keeping.
const TTL_MIN: Duration = Duration::from_millis(1);

/// The pieces of a job.
struct Pieces<'t> {
    queue: Option<&'t str>,
    job_type: Option<&'t str>,
    payload: Option<&'t str>,
    base64: Option<&'t str>,
    content_type: Option<&'t str>,
    delay: Option<&'t str>,
    run_at: Option<&'t str>,
    priority: Option<&'t str>,
    max_tries: Option<&'t str>,
    backoff: Option<&'t str>,
    timeout: Option<&'t str>,
    max_crashes: Option<&'t str>,
    unique: Option<&'t str>,
    tags: Option<&'t str>,
    result_ttl: Option<&'t str>,
    on_failed: Option<&'t str>,
    /// Of a call alone: it has several.
    jobs: Option<&'t str>,
}

impl<'t> Pieces<'t> {
    fn of(text: &'t str) -> Result<Pieces<'t>, Fault> {
        let found = spans::object(text, &JOB_FIELDS)?;
        // `null` is a payload like any other, and nothing anywhere else.
        let payload = found[2];
        let [
            queue,
            job_type,
            _,
            base64,
            content_type,
            delay,
            run_at,
            priority,
            max_tries,
            backoff,
            timeout,
            max_crashes,
            unique,
            tags,
            result_ttl,
            on_failed,
            jobs,
        ] = found.map(given);
        Ok(Pieces {
            queue,
            job_type,
            payload,
            base64,
            content_type,
            delay,
            run_at,
            priority,
            max_tries,
            backoff,
            timeout,
            max_crashes,
            unique,
            tags,
            result_ttl,
            on_failed,
            jobs,
        })
    }

    fn spec(self, now: Timestamp) -> Result<Spec, Problem> {
        let queue = self.queue.ok_or_else(|| invalid("queue", "a job needs a queue"))?;
        Ok(Spec {
            queue: queue_name("queue", queue)?,
            job_type: self.job_type.map_or_else(|| Ok(DEFAULT_TYPE.to_owned()), job_type)?,
            payload: self.payload()?,
            when: self.when(now)?,
            band: self.priority.map_or(Ok(Band::default()), band)?,
            rules: Rules {
                max_tries: self.max_tries.map(|piece| tries("max_tries", piece)).transpose()?,
                max_crashes: self
                    .max_crashes
                    .map(|piece| tries("max_crashes", piece))
                    .transpose()?,
                timeout: self.timeout.map(timeout).transpose()?,
                backoff: self.backoff.map(backoff).transpose()?,
            },
            unique: self.unique.map(unique).transpose()?,
            tags: self.tags.map_or_else(|| Ok(Vec::new()), tags)?,
            result_ttl: self.result_ttl.map(result_ttl).transpose()?,
            on_failed: self.on_failed.map(followup).transpose()?.map(Box::new),
        })
    }

    fn payload(&self) -> Result<Payload, Problem> {
        match (self.payload, self.base64) {
            (Some(_), None) if self.content_type.is_some() => {
                let why = "content_type goes with payload_base64; payload is JSON";
                Err(invalid("content_type", why))
            }
            (Some(json), None) => payload::json(json),
            (None, Some(base64)) => payload::base64(base64, self.content_type),
            (None, None) => Err(invalid("payload", "a job needs payload or payload_base64")),
            (Some(_), Some(_)) => {
                Err(invalid("payload", "a job has payload or payload_base64, not both"))
            }
        }
    }

    fn when(&self, now: Timestamp) -> Result<When, Problem> {
        match (self.delay, self.run_at) {
            (None, None) => Ok(When::Now),
            (Some(piece), None) => Ok(after(time("delay", piece, Duration::ZERO, JOB_DELAY_MAX)?)),
            (None, Some(piece)) => at(spans::moment(piece, now), now),
            (Some(_), Some(_)) => Err(either_delay_or_moment()),
        }
    }
}

fn either_delay_or_moment() -> Problem {
    invalid("run_at", "a job has delay or run_at, not both")
}

fn after(delay: Duration) -> When {
    if delay.is_zero() { When::Now } else { When::After(delay) }
}

fn at(moment: Result<Timestamp, BadMoment>, now: Timestamp) -> Result<When, Problem> {
    let moment = moment.map_err(|bad| invalid("run_at", bad.to_string()))?;
    bounded("run_at", moment.since(now), Duration::ZERO, JOB_DELAY_MAX).map_err(|_| {
        let days = JOB_DELAY_MAX.as_secs() / 86_400;
        invalid("run_at", format!("run_at is at most {days}d from now"))
    })?;
    Ok(When::At(moment))
}

const BANDS: [(&str, Band); 5] = {
    let mut words = [("", Band::Normal); 5];
    let mut at = 0;
    while at < words.len() {
        words[at] = (Band::ALL[at].as_str(), Band::ALL[at]);
        at += 1;
    }
    words
};

fn band(piece: &str) -> Result<Band, Problem> {
    word("priority", piece, &BANDS)
}

fn job_type(piece: &str) -> Result<String, Problem> {
    checked_type(text("type", piece)?)
}

fn checked_type(text: Cow<'_, str>) -> Result<String, Problem> {
    super::line("type", &text, JOB_TYPE_BYTES_MAX)?;
    Ok(text.into_owned())
}

fn tags(piece: &str) -> Result<Vec<String>, Problem> {
    let texts = super::items("tags", piece, JOB_TAGS_MAX, |item| text("tags", item))?;
    checked_tags(texts.into_iter())
}

/// Tags, each once.
fn checked_tags<'t>(texts: impl Iterator<Item = Cow<'t, str>>) -> Result<Vec<String>, Problem> {
    let mut tags: Vec<String> = Vec::new();
    for text in texts {
        super::line("tags", &text, JOB_TAG_BYTES_MAX)?;
        if tags.iter().any(|tag| *tag == text) {
            continue;
        }
        if tags.len() == JOB_TAGS_MAX {
            return Err(invalid("tags", format!("tags has at most {JOB_TAGS_MAX} items")));
        }
        tags.push(text.into_owned());
    }
    Ok(tags)
}

fn result_ttl(piece: &str) -> Result<Duration, Problem> {
    time("result_ttl", piece, Duration::ZERO, JOB_RESULT_TTL_MAX)
}

const UNTILS: [(&str, Until); 3] = [
    (Until::Started.as_str(), Until::Started),
    (Until::Done.as_str(), Until::Done),
    (Until::Ttl.as_str(), Until::Ttl),
];

fn unique(piece: &str) -> Result<Unique, Problem> {
    const FIELD: &str = "unique";
    let [key, until, ttl] = part(FIELD, piece, &UNIQUE_FIELDS)?.map(given);
    let key = key.ok_or_else(|| invalid(FIELD, "unique needs a key"))?;
    let known = |piece| word(FIELD, piece, &UNTILS);
    let until = until.map_or(Ok(Until::Done), known);
    let until = until.map_err(|_| invalid(FIELD, "until is one of started, done, ttl"))?;
    let ttl = ttl.map(|piece| time(FIELD, piece, TTL_MIN, JOB_DELAY_MAX)).transpose()?;
    if until == Until::Ttl && ttl.is_none() {
        return Err(invalid(FIELD, "until ttl needs a ttl"));
    }
    Ok(Unique { key: unique_key(text(FIELD, key)?)?, until, ttl })
}

fn unique_key(key: Cow<'_, str>) -> Result<String, Problem> {
    if (1..=UNIQUE_KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(key.into_owned());
    }
    Err(invalid("unique", format!("a unique key has 1 to {UNIQUE_KEY_BYTES_MAX} bytes")))
}

fn followup(piece: &str) -> Result<Followup, Problem> {
    const FIELD: &str = "on_failed";
    let [queue, job_type, payload] = part(FIELD, piece, &FOLLOWUP_FIELDS)?;
    let queue = given(queue).ok_or_else(|| invalid(FIELD, "on_failed needs a queue"))?;
    let job_type = match given(job_type) {
        None => DEFAULT_TYPE.to_owned(),
        Some(piece) => {
            let name = text(FIELD, piece)?;
            super::line(FIELD, &name, JOB_TYPE_BYTES_MAX)?;
            name.into_owned()
        }
    };
    let payload = payload.unwrap_or("null");
    if FOLLOWUP_PAYLOAD_BYTES_MAX < payload.len() {
        let what = "the payload of on_failed has, in bytes,";
        return Err(too_large(FIELD, what, FOLLOWUP_PAYLOAD_BYTES_MAX));
    }
    let payload = spans::value(payload).ok_or_else(|| invalid(FIELD, "its payload is not JSON"))?;
    Ok(Followup { queue: queue_name(FIELD, queue)?, job_type, payload: Payload::json(payload) })
}

/// One job, as it stands in another call.
pub(super) fn job(piece: &str, now: Timestamp) -> Result<Spec, Problem> {
    let pieces = Pieces::of(piece).map_err(Fault::into_problem)?;
    if pieces.jobs.is_some() {
        return Err(Fault::Unknown("jobs".to_owned()).into_problem());
    }
    pieces.spec(now)
}

/// `POST /v1/jobs`: one job, or `{"jobs":[...]}`; all of them are right, or the first that is not is told.
pub(crate) fn jobs(body: &[u8], now: Timestamp) -> Result<Vec<Spec>, Problem> {
    let text = spans::body(body)?;
    let pieces = Pieces::of(text).map_err(Fault::into_problem)?;
    let Some(list) = pieces.jobs else {
        return Ok(vec![pieces.spec(now)?]);
    };
    // Beside a list nothing else says anything.
    spans::object(text, &["jobs"]).map_err(|_| {
        let why = "a call has one job, or jobs and nothing beside it";
        Problem::malformed(why).with("field", "jobs")
    })?;
    let mut specs = Vec::new();
    spans::list(list, |item| {
        if specs.len() == CALL_ITEMS_MAX {
            return Err(too_large("jobs", "a call has, in jobs,", CALL_ITEMS_MAX));
        }
        specs.push(job(item, now).map_err(|problem| problem.with("index", specs.len()))?);
        Ok(())
    })?;
    Ok(specs)
}

/// What the query of the raw form may say of the job.
#[cfg(test)]
pub(crate) const RAW_PARAMETERS: [&str; 8] =
    ["type", "delay", "run_at", "priority", "max_tries", "timeout", "unique", "tags"];

/// `POST /v1/queues/{q}/jobs`: the body is the payload, and the query says the rest.
pub(in crate::http) fn raw_job(
    queue: QueueName,
    query: &Query,
    content_type: Option<&HeaderValue>,
    body: &[u8],
    now: Timestamp,
) -> Result<Spec, Problem> {
    let get = |name| query.get(name);
    let mut spec = Spec::new(queue, payload::raw(content_type, body)?);
    if let Some(text) = get("type") {
        spec.job_type = checked_type(Cow::Borrowed(text))?;
    }
    spec.when = match (get("delay"), get("run_at")) {
        (None, None) => When::Now,
        (Some(text), None) => after(time_of("delay", text, Duration::ZERO, JOB_DELAY_MAX)?),
        (None, Some(text)) => at(parse_moment(text, now), now)?,
        (Some(_), Some(_)) => return Err(either_delay_or_moment()),
    };
    if let Some(text) = get("priority") {
        spec.band = word_of("priority", text, &BANDS)?;
    }
    if let Some(text) = get("max_tries") {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        spec.rules.max_tries = Some(tries_of("max_tries", number)?);
    }
    if let Some(text) = get("timeout") {
        spec.rules.timeout = Some(time_of("timeout", text, JOB_TIMEOUT_MIN, JOB_TIMEOUT_MAX)?);
    }
    if let Some(text) = get("unique") {
        let key = unique_key(Cow::Borrowed(text))?;
        spec.unique = Some(Unique { key, until: Until::Done, ttl: None });
    }
    if let Some(text) = get("tags") {
        spec.tags = checked_tags(text.split(',').map(Cow::Borrowed))?;
    }
    Ok(spec)
}
