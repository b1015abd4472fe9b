//! Errors as clients see them: RFC 9457 problem documents with a stable code.
//!
//! [`KINDS`] is the one list of codes. What is told is what the caller did and what to do next; what went
//! wrong inside is for the log.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;
use serde_json::{Map, Value};

use super::reply::Reply;
use crate::app::Error as AppError;
use crate::base::cursor::BadCursor;
use crate::base::human::BadDuration;
use crate::base::id::BadId;
use crate::base::limits::{
    IDEMPOTENCY_TTL, LOCKS_MAX, QUERY_POINTS_MAX, QUEUES_MAX, TENANT_SCHEDULES_MAX, UNDO_BYTES_MAX,
};
use crate::base::name::BadName;
use crate::base::quota::BadAllowance;
use crate::base::scope::BadScope;
use crate::cache::Error as CacheError;
use crate::cache::locks::Error as LockError;
use crate::exec;
use crate::queue::{Error as QueueError, RowError};
use crate::series::Error as SeriesError;
use crate::series::query::BadQuery;
use crate::store::Error as StoreError;

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A kind of problem.
#[derive(Debug)]
pub struct Kind {
    /// The stable word.
    pub code: &'static str,
    /// The status it is answered with.
    pub status: u16,
    /// What it is, in few words.
    pub title: &'static str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

const fn kind(code: &'static str, status: u16, title: &'static str, retryable: bool) -> Kind {
    Kind { code, status, title, retryable }
}

/// See [`Problem::for_now`]; the other one with this code is for what is free only when something is removed.
const QUOTA_FOR_NOW: Kind =
    kind("quota_exceeded", 429, "as much as the tenant may have, for now", true);

/// Every kind, by status.
pub const KINDS: &[Kind] = &[
    kind("malformed", 400, "the request cannot be understood", false),
    kind("unknown_field", 400, "the body has a field that nobody knows", false),
    kind("unknown_parameter", 400, "the query has a parameter that nobody knows", false),
    kind("invalid_around", 400, "not a number of workers", false),
    kind("invalid_backoff", 400, "not waits between tries", false),
    kind("invalid_busy_ms", 400, "not a figure", false),
    kind("invalid_by", 400, "not what by may say here: a number, a time or labels", false),
    kind("invalid_catch_up", 400, "not a rule for missed moments", false),
    kind("invalid_checkpoint", 400, "not a checkpoint", false),
    kind("invalid_command", 400, "not a command for a worker", false),
    kind("invalid_concurrency", 400, "not a number of jobs", false),
    kind("invalid_confirm", 400, "the confirmation does not match", false),
    kind("invalid_content_type", 400, "not the type of a value", false),
    kind("invalid_cpu_percent", 400, "not a figure", false),
    kind("invalid_cron", 400, "not a line of cron", false),
    kind("invalid_cursor", 400, "the cursor does not belong here", false),
    kind("invalid_delay", 400, "not a time to wait before a job runs", false),
    kind("invalid_durable", 400, "not true or false", false),
    kind("invalid_duration", 400, "not a length of time", false),
    kind("invalid_encoding", 400, "not an encoding of values", false),
    kind("invalid_error", 400, "not an error", false),
    kind("invalid_every", 400, "not a time between two jobs", false),
    kind("invalid_expires_in", 400, "not a time in which a token may expire", false),
    kind("invalid_extend", 400, "not a time for which leases are kept", false),
    kind("invalid_fields", 400, "not fields of a job", false),
    kind("invalid_fingerprint", 400, "not a kind of failure", false),
    kind("invalid_fn", 400, "not a function of samples", false),
    kind("invalid_from", 400, "not a moment", false),
    kind("invalid_history_payload", 400, "not true or false", false),
    kind("invalid_host", 400, "not the name of a machine", false),
    kind("invalid_id", 400, "not an id", false),
    kind("invalid_idempotency_key", 400, "not a key of a call", false),
    kind("invalid_idle_ms", 400, "not a figure", false),
    kind("invalid_ids", 400, "not ids", false),
    kind("invalid_if", 400, "not a condition", false),
    kind("invalid_interval", 400, "not an interval of a period", false),
    kind("invalid_jitter", 400, "not a part of a ttl", false),
    kind("invalid_job", 400, "not a job of a schedule", false),
    kind("invalid_jobs_done", 400, "not a figure", false),
    kind("invalid_key", 400, "not a key", false),
    kind("invalid_kind", 400, "not a kind of slow work", false),
    kind("invalid_lease", 400, "not a lease", false),
    kind("invalid_leases", 400, "not leases", false),
    kind("invalid_limit", 400, "not a number of items", false),
    kind("invalid_lock", 400, "not the name of a lock", false),
    kind("invalid_match", 400, "not a selector of series", false),
    kind("invalid_max", 400, "not a number of jobs", false),
    kind("invalid_max_crashes", 400, "not a number of crashes", false),
    kind("invalid_max_depth", 400, "not a number of jobs", false),
    kind("invalid_max_tries", 400, "not a number of tries", false),
    kind("invalid_name", 400, "not a name", false),
    kind("invalid_namespace", 400, "not the name of a namespace", false),
    kind("invalid_on_failed", 400, "not what is pushed when a job is given up", false),
    kind("invalid_overlap", 400, "not a rule for jobs that are not over", false),
    kind("invalid_pattern", 400, "not a pattern", false),
    kind("invalid_paused", 400, "not true or false", false),
    kind("invalid_payload", 400, "not a payload", false),
    kind("invalid_peak_rss_bytes", 400, "not a figure", false),
    kind("invalid_period", 400, "not a period of a trend", false),
    kind("invalid_points", 400, "not true or false", false),
    kind("invalid_pid", 400, "not a process", false),
    kind("invalid_prefix", 400, "not a prefix", false),
    kind("invalid_owner", 400, "not the owner of a lock", false),
    kind("invalid_priority", 400, "not a priority", false),
    kind("invalid_progress", 400, "not a part of a job", false),
    kind("invalid_q", 400, "not a text to look for", false),
    kind("invalid_queries", 400, "not queries", false),
    kind("invalid_queue", 400, "not the name of a queue", false),
    kind("invalid_queues", 400, "not names of queues", false),
    kind("invalid_quotas", 400, "not quotas", false),
    kind("invalid_range", 400, "not a range of time", false),
    kind("invalid_rate", 400, "not a rate", false),
    kind("invalid_reason", 400, "not a reason", false),
    kind("invalid_reduce", 400, "not a way to put series together", false),
    kind("invalid_result", 400, "not a result", false),
    kind("invalid_result_ttl", 400, "not a time for which a result is kept", false),
    kind("invalid_retention", 400, "not what is kept of jobs", false),
    kind("invalid_retry", 400, "not a time after which a job is tried again", false),
    kind("invalid_rss_bytes", 400, "not a figure", false),
    kind("invalid_run_at", 400, "not a moment at which a job may run", false),
    kind("invalid_schedule", 400, "not the name of a schedule", false),
    kind("invalid_scopes", 400, "not scopes", false),
    kind("invalid_select", 400, "not a selector of series", false),
    kind("invalid_stale", 400, "not a time after the ttl", false),
    kind("invalid_state", 400, "not a state", false),
    kind("invalid_states", 400, "not states", false),
    kind("invalid_step", 400, "not a step of time", false),
    kind("invalid_tag", 400, "not a tag", false),
    kind("invalid_tags", 400, "not tags", false),
    kind("invalid_target_wait", 400, "not a time to wait", false),
    kind("invalid_tenant", 400, "not the name of a tenant", false),
    kind("invalid_threshold", 400, "not a value that a series may reach", false),
    kind("invalid_tier", 400, "not a tier of the configuration", false),
    kind("invalid_time", 400, "not a moment", false),
    kind("invalid_timeout", 400, "not a time that this may take", false),
    kind("invalid_timezone", 400, "not a time zone", false),
    kind("invalid_to", 400, "not a moment", false),
    kind("invalid_ttl", 400, "not a time for which a key is fresh or a lock is held", false),
    kind("invalid_type", 400, "not a type of job", false),
    kind("invalid_unique", 400, "not a key that one job holds", false),
    kind("invalid_value", 400, "not a value", false),
    kind("invalid_wait", 400, "not a time to wait", false),
    kind("invalid_when", 400, "not a side of a threshold", false),
    kind("invalid_worker", 400, "not the id of a worker", false),
    kind("no_distribution", 400, "percentiles are not known for this range", false),
    kind("too_many_points", 400, "the answer would have too many points", false),
    kind("too_many_series", 400, "too many series are meant", false),
    kind("unauthenticated", 401, "a valid token is needed", false),
    kind("forbidden", 403, "the token may not do this", false),
    kind("quota_exceeded", 403, "there is as much as there may be", false),
    kind("cache_miss", 404, "the key is not there", false),
    kind("unknown_namespace", 404, "there is no such namespace", false),
    kind("unknown_job", 404, "there is no such job", false),
    kind("unknown_lease", 404, "there is no such lease", false),
    kind("unknown_lock", 404, "nobody holds this lock", false),
    kind("unknown_path", 404, "there is nothing at this path", false),
    kind("unknown_queue", 404, "there is no such queue", false),
    kind("unknown_schedule", 404, "there is no such schedule", false),
    kind("unknown_series", 404, "there are no such series", false),
    kind("unknown_tenant", 404, "there is no such tenant", false),
    kind("unknown_token", 404, "there is no such token", false),
    kind("unknown_worker", 404, "there is no such worker", false),
    kind("method_not_allowed", 405, "the path does not have this method", false),
    kind("request_timeout", 408, "the body did not come in time", true),
    kind("integer_overflow", 409, "the number would be too large", false),
    kind("key_exists", 409, "the key is there already", false),
    kind("key_missing", 409, "the key is not there", false),
    kind("lease_lost", 409, "the lease does not hold any more", false),
    kind("job_finished", 409, "the job is over", false),
    kind("not_an_integer", 409, "the value is not a whole number", false),
    kind("lock_held", 409, "somebody else holds the lock", true),
    kind("queue_not_empty", 409, "the queue has jobs", false),
    kind("tenant_protected", 409, "this tenant cannot be deleted", false),
    kind("too_large", 413, "the body is too large", false),
    kind("unsupported_media_type", 415, "the body is of a type that is not read here", false),
    kind("unknown_host", 421, "the request is for somebody else", false),
    kind("invalid_config", 422, "the configuration has problems; nothing was changed", false),
    kind("idempotency_key_reused", 422, "the key was used for another call", false),
    kind("queue_full", 429, "the queue is as long as it may be", true),
    kind("rate_limited", 429, "too often", true),
    kind("head_too_large", 431, "the head of the request is too large", false),
    kind("internal", 500, "a fault of the server", false),
    kind("overloaded", 503, "too much is waiting", true),
    kind("read_only", 503, "a store is being reopened", true),
    kind("outcome_unknown", 503, "it may or may not be stored", false),
    kind("not_read", 503, "the machine could not be read lately", true),
    kind("starting", 503, "the server is starting", true),
    kind("stopping", 503, "the server is stopping", true),
    kind("cache_full", 507, "there is no room for an entry that is kept", true),
    kind("disk_full", 507, "the disk is full", true),
];

/// Somebody's request that was not done.
#[derive(Debug)]
pub struct Problem {
    /// Which kind.
    pub kind: &'static Kind,
    /// What happened, why, and what to do.
    pub detail: String,
    /// Fields of the case.
    pub fields: Vec<(&'static str, Value)>,
    /// Headers of the case.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether the connection is of no use any more.
    pub close: bool,
}

#[derive(Serialize)]
struct Document<'d> {
    r#type: String,
    title: &'d str,
    status: u16,
    code: &'d str,
    detail: &'d str,
    retryable: bool,
    instance: String,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl Problem {
    /// A problem of the kind with this code.
    pub fn new(code: &str, detail: impl Into<String>) -> Problem {
        let kind = KINDS.iter().find(|kind| kind.code == code);
        let kind = kind.unwrap_or_else(|| unreachable!("BUG: the code {code:?} is not in KINDS"));
        let mut problem = Problem {
            kind,
            detail: detail.into(),
            fields: Vec::new(),
            headers: Vec::new(),
            close: false,
        };
        if kind.status == 401 {
            let bearer = HeaderValue::from_static("Bearer realm=\"holdfast\"");
            problem.headers.push((WWW_AUTHENTICATE, bearer));
        }
        if kind.status == 503 || kind.status == 507 {
            problem = problem.retry_after(Duration::from_secs(1));
        }
        problem
    }

    /// The request cannot be understood.
    pub fn malformed(detail: impl Into<String>) -> Problem {
        Problem::new("malformed", detail)
    }

    /// The head has too many bytes or headers.
    pub fn head_too_large() -> Problem {
        let detail = "the head of a request has at most 16 KiB and 64 headers";
        Problem::new("head_too_large", detail)
    }

    /// With a field of the case.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Problem {
        self.fields.push((name, value.into()));
        self
    }

    /// With the time after which it is worth trying again, in whole seconds, at least one.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Problem {
        let seconds = after.as_millis().div_ceil(1000).max(1);
        self.headers.retain(|(name, _)| name != RETRY_AFTER);
        let seconds = HeaderValue::from_str(&seconds.to_string());
        self.headers.push((RETRY_AFTER, seconds.expect("BUG: digits make a header")));
        self
    }

    /// The same code for a quota that is free again by itself: waiting helps.
    fn for_now(self) -> Problem {
        Problem { kind: &QUOTA_FOR_NOW, ..self }
    }

    /// With the methods that there are.
    #[must_use]
    pub fn allow(mut self, methods: &str) -> Problem {
        let methods = HeaderValue::from_str(methods).expect("BUG: methods make a header");
        self.headers.push((ALLOW, methods));
        self
    }

    /// And the connection ends with it.
    #[must_use]
    pub fn closing(mut self) -> Problem {
        self.close = true;
        self
    }

    /// The document, for the request with this id.
    pub fn document(&self, request_id: &str) -> Bytes {
        let document = Document {
            r#type: format!("urn:holdfast:error:{}", self.kind.code),
            title: self.kind.title,
            status: self.kind.status,
            code: self.kind.code,
            detail: &self.detail,
            retryable: self.kind.retryable,
            instance: format!("urn:holdfast:request:{request_id}"),
            fields: self.fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
        };
        let text = serde_json::to_vec(&document).expect("BUG: a problem is plain JSON");
        Bytes::from(text)
    }

    /// The answer, for the request with this id.
    pub fn into_reply(self, request_id: &str) -> Reply {
        let status = StatusCode::from_u16(self.kind.status);
        Reply {
            status: status.expect("BUG: KINDS holds statuses"),
            media_type: Some(MEDIA_TYPE),
            body: self.document(request_id),
            headers: self.headers,
            close: self.close,
            as_is: false,
            receipt: None,
        }
    }
}

impl From<AppError> for Problem {
    fn from(error: AppError) -> Problem {
        match &error {
            AppError::Catalog(cause) => {
                tracing::error!(code = cause.code(), cause = ?cause, "the catalog failed");
                match error.code() {
                    "outcome_unknown" => unknown_outcome(),
                    code => Problem::new(code, "the catalog failed; the server's log says why"),
                }
            }
            AppError::Exec(exec) => Problem::from(exec.clone()),
            AppError::QuotaExceeded { quota, limit, used, .. } => {
                let problem = Problem::new("quota_exceeded", error.to_string());
                problem.with("quota", quota.as_str()).with("limit", *limit).with("used", *used)
            }
            AppError::ServerFull { limit, .. } => {
                let problem = Problem::new("quota_exceeded", error.to_string());
                problem.with("limit", *limit).with("used", *limit)
            }
            AppError::Cache(refused) => cache_problem(refused, &error),
            AppError::Lock(refused) => lock_problem(refused, &error),
            AppError::Store(StoreError::OperationTooLarge) => {
                let detail =
                    "this replaces more at once than can be undone; make several calls of it";
                Problem::new("too_large", detail).with("limit", UNDO_BYTES_MAX)
            }
            AppError::Store(cause) => {
                tracing::error!(code = cause.code(), ?cause, "what is kept refused");
                Problem::new("internal", "a fault of the server; its log says more")
            }
            AppError::Throttled { retry_after } => {
                Problem::new("rate_limited", error.to_string()).retry_after(*retry_after)
            }
            AppError::Scope { needed, .. } => {
                Problem::new("forbidden", error.to_string()).with("scope", needed.as_str())
            }
            AppError::Queue(refused) => queue_problem(refused, &error),
            AppError::LeaseLost(state) | AppError::JobFinished(state) => {
                Problem::new(error.code(), error.to_string()).with("state", state.as_str())
            }
            AppError::Series(refused) => series_problem(refused, &error),
            AppError::SeriesFull => {
                Problem::new(error.code(), error.to_string()).retry_after(COME_BACK)
            }
            AppError::UnknownJob(_)
            | AppError::UnknownQueue(_)
            | AppError::UnknownSeries(_)
            | AppError::UnknownLease
            | AppError::UnknownWorker(_)
            | AppError::TooManyWorkers(_)
            | AppError::UnknownSchedule(_)
            | AppError::NoToken
            | AppError::BadToken(_)
            | AppError::NotAdmin
            | AppError::DefaultOnly
            | AppError::UnknownTenant(_)
            | AppError::UnknownToken(_)
            | AppError::TenantProtected
            | AppError::BadTier { .. }
            | AppError::BadTokenName
            | AppError::BadScopes(_)
            | AppError::BadExpiry => Problem::new(error.code(), error.to_string()),
        }
    }
}

fn cache_problem(refused: &CacheError, error: &AppError) -> Problem {
    match refused {
        CacheError::TooLarge { limit, .. } => {
            Problem::new("too_large", error.to_string()).with("limit", *limit)
        }
        CacheError::Full { limit, used } => {
            let problem = Problem::new("cache_full", error.to_string());
            problem.with("limit", *limit).with("used", *used)
        }
        CacheError::TooManyNamespaces { limit, .. } => {
            let problem = Problem::new("quota_exceeded", error.to_string());
            problem.with("limit", *limit).with("used", *limit)
        }
        CacheError::KeyExists
        | CacheError::KeyMissing
        | CacheError::LeaseLost
        | CacheError::NotAnInteger
        | CacheError::Overflow => Problem::new(error.code(), error.to_string()),
    }
}

fn lock_problem(refused: &LockError, error: &AppError) -> Problem {
    let problem = Problem::new(error.code(), error.to_string());
    match refused {
        LockError::Held { retry_after } => {
            let ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
            problem.with("retry_after_ms", ms.max(1)).retry_after(*retry_after)
        }
        LockError::TooMany => problem.with("limit", LOCKS_MAX).with("used", LOCKS_MAX),
        LockError::Unknown => problem,
        LockError::Damaged | LockError::Store(_) => {
            tracing::error!(?refused, "a lock was not judged");
            Problem::new("internal", "a fault of the server; its log says more")
        }
    }
}

/// Waiting helps: somebody else has to do something first.
const COME_BACK: Duration = Duration::from_secs(5);

fn queue_problem(refused: &QueueError, error: &AppError) -> Problem {
    let problem = Problem::new(error.code(), error.to_string());
    match refused {
        QueueError::QueueFull { queue, len, max } => problem
            .with("queue", queue.as_str())
            .with("length", *len)
            .with("limit", *max)
            .retry_after(COME_BACK),
        QueueError::Quota { quota, limit, used, retry_after } => {
            let problem =
                problem.with("quota", quota.as_str()).with("limit", *limit).with("used", *used);
            match retry_after {
                Some(after) => problem.for_now().retry_after(*after),
                None => problem,
            }
        }
        QueueError::TooManyQueues => problem.with("limit", QUEUES_MAX).with("used", QUEUES_MAX),
        QueueError::TooManySchedules => problem.with("limit", TENANT_SCHEDULES_MAX),
        QueueError::TooManyCalls => problem.retry_after(IDEMPOTENCY_TTL / 24),
        QueueError::QueueNotEmpty { jobs, .. } => problem.with("jobs", *jobs),
        QueueError::KeyReused => problem,
        QueueError::Row(RowError::Store(StoreError::OperationTooLarge)) => {
            problem.with("limit", UNDO_BYTES_MAX)
        }
        QueueError::Row(cause) => {
            tracing::error!(?cause, "a job was not judged");
            Problem::new("internal", "a fault of the server; its log says more")
        }
    }
}

fn series_problem(refused: &SeriesError, error: &AppError) -> Problem {
    let problem = Problem::new(error.code(), error.to_string());
    match refused {
        SeriesError::Selector(bad) => problem.with("at", bad.at),
        SeriesError::Query(bad) => match bad {
            BadQuery::TooManyPoints { points } => {
                problem.with("points", *points).with("limit", QUERY_POINTS_MAX)
            }
            BadQuery::TooMuch { points, series, limit } => {
                problem.with("points", *points).with("series", *series).with("limit", *limit)
            }
            BadQuery::TooManySeries { found, limit } => {
                problem.with("series", *found).with("limit", *limit)
            }
            BadQuery::Range
            | BadQuery::Step(_)
            | BadQuery::NoDistribution(_)
            | BadQuery::Reduce(_) => problem,
        },
        SeriesError::TooLate => problem,
        SeriesError::Row(cause) => {
            tracing::error!(?cause, "series were not read or written");
            Problem::new("internal", "a fault of the server; its log says more")
        }
    }
}

fn unknown_outcome() -> Problem {
    let detail = "the disk failed during the commit: it may or may not be stored; look before you \
                  try again";
    Problem::new("outcome_unknown", detail)
}

impl From<exec::Error> for Problem {
    fn from(error: exec::Error) -> Problem {
        match error {
            exec::Error::Overloaded { wait } => {
                Problem::new("overloaded", error.to_string()).retry_after(wait)
            }
            exec::Error::OutcomeUnknown => unknown_outcome(),
            exec::Error::Panicked => {
                let detail = "a fault of the server; nothing was changed, and its log says more";
                Problem::new("internal", detail)
            }
            exec::Error::DiskFull => {
                let detail =
                    "the disk is nearly full: only what frees space is accepted; see df -h";
                Problem::new("disk_full", detail)
            }
            exec::Error::ReadOnly | exec::Error::Stopping | exec::Error::TooLate => {
                Problem::new(error.code(), error.to_string())
            }
        }
    }
}

impl From<BadCursor> for Problem {
    fn from(error: BadCursor) -> Problem {
        Problem::new(BadCursor::CODE, error.to_string())
    }
}

impl From<BadId> for Problem {
    fn from(error: BadId) -> Problem {
        Problem::new("invalid_id", error.to_string())
    }
}

impl From<BadScope> for Problem {
    fn from(error: BadScope) -> Problem {
        Problem::new(BadScope::CODE, error.to_string())
    }
}

impl From<BadAllowance> for Problem {
    fn from(error: BadAllowance) -> Problem {
        Problem::new(BadAllowance::CODE, error.to_string())
    }
}

impl From<BadDuration> for Problem {
    fn from(error: BadDuration) -> Problem {
        Problem::new(BadDuration::CODE, error.to_string())
    }
}

impl From<BadName> for Problem {
    fn from(error: BadName) -> Problem {
        let code = format!("invalid_{}", error.what);
        Problem::new(&code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Problem;
    use crate::app::Error as AppError;
    use crate::series::Error as SeriesError;
    use crate::series::query::BadQuery;
    use crate::series::select::Selector;

    fn told(error: SeriesError) -> (u16, &'static str, Value) {
        let problem = Problem::from(AppError::Series(error));
        let fields = problem.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        (problem.kind.status, problem.kind.code, Value::Object(fields.collect()))
    }

    #[test]
    fn what_is_wrong_with_a_query_is_told_with_its_figures() {
        let bad = Selector::parse("cpu{").unwrap_err();
        assert_eq!(told(bad.into()), (400, "invalid_select", json!({ "at": 4 })));
        let query = |bad: BadQuery| told(bad.into());
        assert_eq!(query(BadQuery::Range), (400, "invalid_range", json!({})));
        assert_eq!(query(BadQuery::Step("x".into())), (400, "invalid_step", json!({})));
        assert_eq!(query(BadQuery::Reduce("x")), (400, "invalid_reduce", json!({})));
        assert_eq!(
            query(BadQuery::NoDistribution("x".into())),
            (400, "no_distribution", json!({}))
        );
        let fields = json!({ "points": 20_000, "limit": 11_000 });
        assert_eq!(
            query(BadQuery::TooManyPoints { points: 20_000 }),
            (400, "too_many_points", fields)
        );
        let fields = json!({ "points": 9, "series": 3, "limit": 8 });
        let much = BadQuery::TooMuch { points: 9, series: 3, limit: 8 };
        assert_eq!(query(much), (400, "too_many_points", fields));
        let many = BadQuery::TooManySeries { found: 9, limit: 8 };
        assert_eq!(query(many), (400, "too_many_series", json!({ "series": 9, "limit": 8 })));
        assert_eq!(told(SeriesError::TooLate).0, 503);
        let full = Problem::from(AppError::SeriesFull);
        assert_eq!((full.kind.code, full.kind.retryable), ("overloaded", true));
        assert!(full.headers.iter().any(|(name, _)| name == "retry-after"));
    }
}
