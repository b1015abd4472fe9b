//! The bodies of the queue's calls as the document shows them.
//!
//! They are read by `queue_terms`, piece by piece, because what jobs carry is never parsed into anything; so
//! nothing is ever made of the types here. A test holds their fields against those that are read.

use serde_json::json as value;
use utoipa::ToSchema;

use super::openapi::{self, Schemas};
use crate::base::limits::CALL_ITEMS_MAX;

/// A job that is wanted.
#[derive(ToSchema)]
pub struct NewJob {
    /// In which queue.
    #[schema(max_length = 128)]
    pub queue: String,
    /// What kind of work it is; `default` without it.
    #[schema(max_length = 128)]
    pub r#type: Option<String>,
    /// What it carries, as JSON: given back as the text it is. This or `payload_base64`.
    #[schema(schema_with = openapi::anything)]
    pub payload: Option<()>,
    /// What it carries, as bytes.
    pub payload_base64: Option<String>,
    /// What these bytes are; `application/octet-stream` without it.
    #[schema(max_length = 255)]
    pub content_type: Option<String>,
    /// How long it waits before it may run; not with `run_at`.
    #[schema(schema_with = openapi::duration)]
    pub delay: Option<()>,
    /// From when on it may run.
    #[schema(schema_with = openapi::moment)]
    pub run_at: Option<()>,
    /// `critical`, `high`, `normal`, `low` or `bulk`; `normal` without it.
    pub priority: Option<String>,
    /// Errors after which it is given up, 1 to 10000.
    pub max_tries: Option<u32>,
    /// How long to wait after an error.
    pub backoff: Option<JobBackoff>,
    /// How long one attempt may run, 1s to 7d.
    #[schema(schema_with = openapi::duration)]
    pub timeout: Option<()>,
    /// Crashes after which it is put aside, 1 to 10000.
    pub max_crashes: Option<u32>,
    /// A key that one job of the queue holds.
    pub unique: Option<JobUnique>,
    /// What it can be found by; at most 16.
    pub tags: Option<Vec<String>>,
    /// For how long its result is kept, at most 30d.
    #[schema(schema_with = openapi::duration)]
    pub result_ttl: Option<()>,
    /// What is pushed when it is given up.
    pub on_failed: Option<JobFollowup>,
}

/// One job, or several at once.
pub fn job_or_jobs(schemas: &mut Schemas) -> openapi::Bodies {
    let job = openapi::reference::<NewJob>(schemas);
    let jobs = value!({
        "type": "object",
        "required": ["jobs"],
        "properties": {
            "jobs": {
                "type": "array",
                "items": job,
                "maxItems": CALL_ITEMS_MAX,
                "description": "All of them or nothing.",
            },
        },
    });
    vec![("application/json", value!({ "oneOf": [job, jobs] }))]
}

/// How long to wait after an error.
#[derive(ToSchema)]
pub struct JobBackoff {
    /// `exponential`, `fixed` or `list`.
    pub kind: String,
    /// The first wait, doubled with each error; or the only one.
    #[schema(schema_with = openapi::duration)]
    pub base: Option<()>,
    /// The longest wait of an exponential one; 1h without it.
    #[schema(schema_with = openapi::duration)]
    pub cap: Option<()>,
    /// The waits of a list, each a length of time; the last again and again.
    #[schema(schema_with = openapi::durations)]
    pub list: Option<()>,
}

/// A key that one job of a queue holds.
#[derive(ToSchema)]
pub struct JobUnique {
    /// The key.
    #[schema(max_length = 512)]
    pub key: String,
    /// Until it is `started`, `done`, or the `ttl` is over; `done` without it.
    pub until: Option<String>,
    /// No longer than this.
    #[schema(schema_with = openapi::duration)]
    pub ttl: Option<()>,
}

/// What is pushed when a job is given up.
#[derive(ToSchema)]
pub struct JobFollowup {
    /// In which queue.
    #[schema(max_length = 128)]
    pub queue: String,
    /// What kind of work it is; `default` without it.
    #[schema(max_length = 128)]
    pub r#type: Option<String>,
    /// What it carries, as JSON, at most 64 KiB; `null` without it.
    #[schema(schema_with = openapi::anything)]
    pub payload: Option<()>,
}

/// A call for jobs.
#[derive(ToSchema)]
pub struct LeaseRequest {
    /// Where to look, in this order; at most 100.
    pub queues: Vec<String>,
    /// The most jobs, 1 to 100; one without it.
    pub max: Option<u32>,
    /// How long to wait for the first, at most 50s.
    #[schema(schema_with = openapi::duration)]
    pub wait: Option<()>,
    /// How long the worker may be silent, 1s to 24h.
    #[schema(schema_with = openapi::duration)]
    pub lease: Option<()>,
    /// Who asks.
    #[schema(max_length = 128)]
    pub worker: Option<String>,
}

/// That an attempt went well.
#[derive(ToSchema)]
pub struct DoneRequest {
    /// What came out of it, as JSON, at most 64 KiB: given back as the text it is.
    #[schema(schema_with = openapi::anything)]
    pub result: Option<()>,
}

/// That an attempt went wrong.
#[derive(ToSchema)]
pub struct FailRequest {
    /// What went wrong.
    pub error: JobError,
    /// `false`: never again; a length of time: after so long; without it, as the job's rules say.
    #[schema(schema_with = openapi::anything)]
    pub retry: Option<()>,
}

/// What went wrong. What is too long is cut.
#[derive(ToSchema)]
pub struct JobError {
    /// What kind of error.
    pub class: Option<String>,
    /// What it says.
    pub message: String,
    /// Where it happened.
    pub trace: Option<String>,
}

/// That an attempt is given back; nothing is counted.
#[derive(ToSchema)]
pub struct ReleaseRequest {
    /// Not before so long.
    #[schema(schema_with = openapi::duration)]
    pub delay: Option<()>,
    /// Why.
    pub reason: Option<String>,
}

/// That an attempt goes on.
#[derive(ToSchema)]
pub struct ExtendRequest {
    /// For so long, from now on, 1s to 24h; as long as the lease was without it.
    #[schema(schema_with = openapi::duration)]
    pub by: Option<()>,
    /// How far it is.
    #[schema(minimum = 0, maximum = 1)]
    pub progress: Option<f64>,
    /// What the next attempt shall know, as JSON, at most 16 KiB: given back as the text it is.
    #[schema(schema_with = openapi::anything)]
    pub checkpoint: Option<()>,
}

/// How attempts ended, at most 1000 of them, and what is wanted next.
#[derive(ToSchema)]
pub struct ReportRequest {
    /// Those that went well.
    pub done: Option<Vec<DoneEntry>>,
    /// Those that went wrong.
    pub fail: Option<Vec<FailEntry>>,
    /// Those that are given back.
    pub release: Option<Vec<ReleaseEntry>>,
    /// A call for jobs.
    pub next: Option<LeaseRequest>,
}

/// An attempt that went well.
#[derive(ToSchema)]
pub struct DoneEntry {
    /// Its lease.
    pub lease: String,
    /// What came out of it, as JSON.
    #[schema(schema_with = openapi::anything)]
    pub result: Option<()>,
}

/// An attempt that went wrong.
#[derive(ToSchema)]
pub struct FailEntry {
    /// Its lease.
    pub lease: String,
    /// What went wrong.
    pub error: JobError,
    /// As in a single call.
    #[schema(schema_with = openapi::anything)]
    pub retry: Option<()>,
}

/// An attempt that is given back.
#[derive(ToSchema)]
pub struct ReleaseEntry {
    /// Its lease.
    pub lease: String,
    /// Not before so long.
    #[schema(schema_with = openapi::duration)]
    pub delay: Option<()>,
    /// Why.
    pub reason: Option<String>,
}

/// That a worker is alive, and how it is.
#[derive(ToSchema)]
pub struct BeatRequest {
    /// Its process.
    pub pid: Option<u32>,
    /// The name of its machine.
    #[schema(max_length = 255)]
    pub host: Option<String>,
    /// The queues it serves.
    pub queues: Option<Vec<String>>,
    /// `idle`, `busy`, `paused` or `stopping`.
    pub state: Option<String>,
    /// The memory it has.
    pub rss_bytes: Option<u64>,
    /// The most that it had.
    pub peak_rss_bytes: Option<u64>,
    /// The processor's time it takes.
    pub cpu_percent: Option<f64>,
    /// Jobs it has done.
    pub jobs_done: Option<u64>,
    /// How long it was idle.
    pub idle_ms: Option<u64>,
    /// How long it was busy.
    pub busy_ms: Option<u64>,
    /// The leases it keeps; all of its leases without it.
    pub leases: Option<Vec<String>>,
    /// For how long they are kept, from now on, 1s to 24h.
    #[schema(schema_with = openapi::duration)]
    pub extend: Option<()>,
}

/// What a worker is told with its next beat.
#[derive(ToSchema)]
pub struct WorkerCommand {
    /// `run`, `drain` or `restart`.
    pub command: String,
}

/// Settings of a queue that change; what is absent stays, null is the default.
#[derive(ToSchema)]
pub struct QueueSettings {
    /// Whether nothing of it is leased.
    pub paused: Option<bool>,
    /// The most jobs that wait.
    pub max_depth: Option<u64>,
    /// Errors after which a job is given up, 1 to 10000.
    pub max_tries: Option<u32>,
    /// How long one attempt may run, 1s to 7d.
    #[schema(schema_with = openapi::duration)]
    pub timeout: Option<()>,
    /// How long to wait after an error.
    pub backoff: Option<JobBackoff>,
    /// How many are leased in how long: `100/s`, `100/m` or `100/h`.
    pub rate: Option<String>,
    /// How many run at one moment.
    pub concurrency: Option<u64>,
    /// What is kept of what is over.
    pub retention: Option<QueueRetention>,
    /// How long a job should wait at most.
    #[schema(schema_with = openapi::duration)]
    pub target_wait: Option<()>,
    /// Whether the history keeps payloads of what is done.
    pub history_payload: Option<bool>,
}

/// What is kept of what is over.
#[derive(ToSchema)]
pub struct QueueRetention {
    /// How long what is done.
    #[schema(schema_with = openapi::duration)]
    pub done: Option<()>,
    /// The most rows.
    pub rows: Option<u64>,
    /// The most bytes: a number, or a text such as `64MiB`.
    #[schema(schema_with = openapi::anything)]
    pub bytes: Option<()>,
    /// How long what failed.
    #[schema(schema_with = openapi::duration)]
    pub failed: Option<()>,
}

/// That jobs of a queue are removed.
#[derive(ToSchema)]
pub struct ClearRequest {
    /// The queue's name again.
    pub confirm: String,
    /// `waiting`, `delayed`, `failed`: those in these states; those that wait without it.
    pub states: Option<Vec<String>>,
}

/// Which failures: exactly one of `ids`, `fingerprint` and `queue`.
#[derive(ToSchema)]
pub struct FailuresRequest {
    /// These jobs, at most 1000.
    pub ids: Option<Vec<String>>,
    /// All of one kind.
    pub fingerprint: Option<String>,
    /// All of one queue.
    pub queue: Option<String>,
    /// At which pace: `20/s`.
    pub rate: Option<String>,
}

/// A schedule: `cron` or `every`, and what it pushes.
#[derive(ToSchema)]
pub struct ScheduleRequest {
    /// The moments, as cron writes them.
    #[schema(max_length = 256)]
    pub cron: Option<String>,
    /// Again and again after so long, at least 1s.
    #[schema(schema_with = openapi::duration)]
    pub every: Option<()>,
    /// The time zone of `cron`, as IANA calls it; that of the server without it.
    pub timezone: Option<String>,
    /// While the last job is not over: `skip`, or `queue` another.
    pub overlap: Option<String>,
    /// Of moments that were missed: `none`, `one` job for all, or `all`.
    pub catch_up: Option<String>,
    /// Later by so much at most, by chance; at most 24h.
    #[schema(schema_with = openapi::duration)]
    pub jitter: Option<()>,
    /// What it pushes: without `delay` and `run_at`.
    pub job: NewJob,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::openapi::Content;
    use crate::http::queue_terms as terms;

    #[track_caller]
    fn check(content: Content, read: &[&str]) {
        let mut schemas = Schemas::new();
        let (_, schema) = content(&mut schemas).remove(0);
        let name = schema["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        let shown = schemas[name]["properties"].as_object().unwrap();
        let shown: BTreeSet<&str> = shown.keys().map(String::as_str).collect();
        assert_eq!(shown, read.iter().copied().collect(), "{name}");
    }

    #[test]
    fn what_the_document_shows_is_what_is_read() {
        let (list, job) = terms::JOB_FIELDS.split_last().unwrap();
        assert_eq!(*list, "jobs");
        check(openapi::json::<NewJob>, job);
        let (_, either) = job_or_jobs(&mut Schemas::new()).remove(0);
        assert!(either["oneOf"][1]["properties"][list]["items"]["$ref"].is_string(), "{either}");
        check(openapi::json::<JobBackoff>, &terms::BACKOFF_FIELDS);
        check(openapi::json::<JobUnique>, &terms::UNIQUE_FIELDS);
        check(openapi::json::<JobFollowup>, &terms::FOLLOWUP_FIELDS);
        check(openapi::json::<LeaseRequest>, &terms::LEASE_FIELDS);
        check(openapi::json::<DoneRequest>, &terms::DONE_FIELDS);
        check(openapi::json::<FailRequest>, &terms::FAIL_FIELDS);
        check(openapi::json::<JobError>, &terms::ERROR_FIELDS);
        check(openapi::json::<ReleaseRequest>, &terms::RELEASE_FIELDS);
        check(openapi::json::<ExtendRequest>, &terms::EXTEND_FIELDS);
        check(openapi::json::<ReportRequest>, &terms::REPORT_FIELDS);
        check(openapi::json::<DoneEntry>, &terms::DONE_ENTRY_FIELDS);
        check(openapi::json::<FailEntry>, &terms::FAIL_ENTRY_FIELDS);
        check(openapi::json::<ReleaseEntry>, &terms::RELEASE_ENTRY_FIELDS);
        check(openapi::json::<BeatRequest>, &terms::BEAT_FIELDS);
        check(openapi::json::<WorkerCommand>, &terms::COMMAND_FIELDS);
        check(openapi::json::<QueueSettings>, &terms::SETTINGS_FIELDS);
        check(openapi::json::<QueueRetention>, &terms::RETENTION_FIELDS);
        check(openapi::json::<ClearRequest>, &terms::CLEAR_FIELDS);
        check(openapi::json::<FailuresRequest>, &terms::FAILURES_FIELDS);
        check(openapi::json::<ScheduleRequest>, &terms::SCHEDULE_FIELDS);
    }
}
