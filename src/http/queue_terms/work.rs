//! What workers say: that they want jobs, how attempts ended, and that they are alive.

use std::time::Duration;

use super::{cut, figure, invalid, items, line, part, queue_names, text, time, too_large};
use super::{whole, whole_body, word};
use crate::base::limits::{
    CALL_ITEMS_MAX, ERROR_CLASS_BYTES_MAX, ERROR_MESSAGE_BYTES_MAX, ERROR_TRACE_BYTES_MAX,
    JOB_CHECKPOINT_BYTES_MAX, JOB_DELAY_MAX, JOB_LEASE_MAX, JOB_LEASE_MIN, JOB_RESULT_BYTES_MAX,
    LEASE_JOBS_MAX, LEASE_QUEUES_MAX, LEASE_TEXT_BYTES_MAX, RELEASE_REASON_BYTES_MAX, WAIT_MAX,
    WORKER_HOST_BYTES_MAX, WORKER_ID_BYTES_MAX,
};
use crate::base::name::QueueName;
use crate::http::problem::Problem;
use crate::http::spans::{self, Fault, given};
use crate::queue::job::{End, Failure, LeaseToken, Retry};

/// The fields of a call for jobs.
pub(crate) const LEASE_FIELDS: [&str; 5] = ["queues", "max", "wait", "lease", "worker"];
/// The fields of an attempt that went well.
pub(crate) const DONE_FIELDS: [&str; 1] = ["result"];
/// The fields of one that went wrong.
pub(crate) const FAIL_FIELDS: [&str; 2] = ["error", "retry"];
/// What went wrong.
pub(crate) const ERROR_FIELDS: [&str; 3] = ["class", "message", "trace"];
/// The fields of one that is given back.
pub(crate) const RELEASE_FIELDS: [&str; 2] = ["delay", "reason"];
/// The fields of one that goes on.
pub(crate) const EXTEND_FIELDS: [&str; 3] = ["by", "progress", "checkpoint"];
/// The fields of a report.
pub(crate) const REPORT_FIELDS: [&str; 4] = ["done", "fail", "release", "next"];
/// The fields of an end that went well, in a report.
pub(crate) const DONE_ENTRY_FIELDS: [&str; 2] = ["lease", "result"];
/// The fields of one that went wrong.
pub(crate) const FAIL_ENTRY_FIELDS: [&str; 3] = ["lease", "error", "retry"];
/// The fields of one that is given back.
pub(crate) const RELEASE_ENTRY_FIELDS: [&str; 3] = ["lease", "delay", "reason"];
/// The fields of what a worker is told.
pub(crate) const COMMAND_FIELDS: [&str; 1] = ["command"];
/// The fields of a beat.
pub(crate) const BEAT_FIELDS: [&str; 12] = [
    "pid",
    "host",
    "queues",
    "state",
    "rss_bytes",
    "peak_rss_bytes",
    "cpu_percent",
    "jobs_done",
    "idle_ms",
    "busy_ms",
    "leases",
    "extend",
];

/// A call for jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaseCall {
    /// Where to look, in this order; each once.
    pub(crate) queues: Vec<QueueName>,
    /// The most jobs.
    pub(crate) max: usize,
    /// How long to wait for the first.
    pub(crate) wait: Duration,
    /// How long the worker may be silent, if it says.
    pub(crate) lease: Option<Duration>,
    /// Who asks, if it says.
    pub(crate) worker: Option<String>,
}

/// That an attempt goes on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Extension {
    /// For how long, from now on; as long as the lease was without it.
    pub(crate) by: Option<Duration>,
    /// How far it is, from 0 to 1.
    pub(crate) progress: Option<f64>,
    /// What the next attempt shall know: JSON, as the text it is.
    pub(crate) checkpoint: Option<Vec<u8>>,
}

/// An attempt that ended, in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The lease as it was named, for the answer; not all of it when it is no lease.
    pub(crate) named: String,
    /// The lease; nothing when this was never one.
    pub(crate) lease: Option<LeaseToken>,
    /// How it ended.
    pub(crate) end: End,
}

/// Several ends, and a call for more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Those that are done, those that failed, those that were released; each in its order.
    pub(crate) ended: Vec<Ended>,
    /// What is wanted next.
    pub(crate) next: Option<LeaseCall>,
}

/// What a worker says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SaidState {
    /// It waits for a job.
    Idle,
    /// It has one.
    Busy,
    /// It takes none for now.
    Paused,
    /// It ends what it has and goes.
    Stopping,
}

/// That a worker is alive.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Beat {
    /// Its process.
    pub(crate) pid: Option<u32>,
    /// The machine it runs on.
    pub(crate) host: Option<String>,
    /// The queues it serves.
    pub(crate) queues: Option<Vec<QueueName>>,
    /// What it does.
    pub(crate) state: Option<SaidState>,
    /// The memory it has.
    pub(crate) rss_bytes: Option<u64>,
    /// The most that it had.
    pub(crate) peak_rss_bytes: Option<u64>,
    /// The processor's time it takes.
    pub(crate) cpu_percent: Option<f64>,
    /// Jobs it has done.
    pub(crate) jobs_done: Option<u64>,
    /// How long it was idle.
    pub(crate) idle_ms: Option<u64>,
    /// How long it was busy.
    pub(crate) busy_ms: Option<u64>,
    /// The leases it keeps; all of its leases without it. What is no lease is left out: a worker with
    /// one lost job must not lose the others for it.
    pub(crate) leases: Option<Vec<LeaseToken>>,
    /// For how long they are kept, from now on.
    pub(crate) extend: Option<Duration>,
}

/// What a worker is told with the answer to its next beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Go on.
    Run,
    /// End what you have, and go.
    Drain,
    /// The same, and come back.
    Restart,
}

impl Command {
    /// How it is spelled.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Command::Run => "run",
            Command::Drain => "drain",
            Command::Restart => "restart",
        }
    }
}

/// A lease in a path.
pub(crate) fn lease_token(text: &str) -> Result<LeaseToken, Problem> {
    // What is no lease is the lease of nothing.
    LeaseToken::parse(text).ok_or_else(|| {
        Problem::new("unknown_lease", "there is no such lease: it is 39 characters long")
    })
}

/// The id of a worker, in a path.
pub(crate) fn worker_id(text: &str) -> Result<&str, Problem> {
    line("worker", text, WORKER_ID_BYTES_MAX)?;
    Ok(text)
}

/// `POST /v1/lease`
pub(crate) fn lease(body: &[u8]) -> Result<LeaseCall, Problem> {
    lease_call(whole_body(spans::body(body)?, &LEASE_FIELDS)?)
}

fn lease_call(pieces: [Option<&str>; 5]) -> Result<LeaseCall, Problem> {
    let [queues, max, wait, lease, worker] = pieces.map(given);
    let queues = queues.ok_or_else(|| invalid("queues", "say which queues: [\"default\"]"))?;
    let queues = queue_names("queues", queues, LEASE_QUEUES_MAX)?;
    if queues.is_empty() {
        return Err(invalid("queues", "queues has at least one name"));
    }
    let max = max.map_or(Ok(1), |piece| whole("max", piece, 1, LEASE_JOBS_MAX as u64))?;
    let wait_time = |piece| time("wait", piece, Duration::ZERO, WAIT_MAX);
    let lease_time = |piece| time("lease", piece, JOB_LEASE_MIN, JOB_LEASE_MAX);
    let id = |piece| {
        let id = text("worker", piece)?;
        worker_id(&id).map(str::to_owned)
    };
    Ok(LeaseCall {
        queues,
        max: usize::try_from(max).expect("BUG: it is no more than LEASE_JOBS_MAX"),
        wait: wait.map_or(Ok(Duration::ZERO), wait_time)?,
        lease: lease.map(lease_time).transpose()?,
        worker: worker.map(id).transpose()?,
    })
}

/// JSON that is kept as it is.
fn kept(field: &'static str, piece: &str, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    if bytes_max < piece.len() {
        return Err(too_large(field, &format!("{field} has, in bytes,"), bytes_max));
    }
    let text = spans::value(piece).ok_or_else(|| invalid(field, format!("{field} is not JSON")))?;
    Ok(text.as_bytes().to_vec())
}

fn done_end([result]: [Option<&str>; 1]) -> Result<End, Problem> {
    let read = |piece| kept("result", piece, JOB_RESULT_BYTES_MAX);
    Ok(End::Done { result: result.map(read).transpose()? })
}

fn fail_end(pieces: [Option<&str>; 2]) -> Result<End, Problem> {
    const FIELD: &str = "error";
    let [error, retry] = pieces.map(given);
    let error = error.ok_or_else(|| invalid(FIELD, "error says what went wrong: {\"message\"}"))?;
    let [class, message, trace] = part(FIELD, error, &ERROR_FIELDS)?.map(given);
    let message = message.ok_or_else(|| invalid(FIELD, "error needs a message"))?;
    let short = |piece, most| text(FIELD, piece).map(|said| cut(said, most));
    let failure = Failure {
        class: class.map_or_else(|| Ok(String::new()), |p| short(p, ERROR_CLASS_BYTES_MAX))?,
        message: short(message, ERROR_MESSAGE_BYTES_MAX)?,
        trace: trace.map(|piece| short(piece, ERROR_TRACE_BYTES_MAX)).transpose()?,
    };
    let retry = match retry {
        None | Some("true") => Retry::ByPolicy,
        Some("false") => Retry::Never,
        Some(piece) => Retry::After(time("retry", piece, Duration::ZERO, JOB_DELAY_MAX)?),
    };
    Ok(End::Fail { failure, retry })
}

fn release_end(pieces: [Option<&str>; 2]) -> Result<End, Problem> {
    let [delay, reason] = pieces.map(given);
    let wait = |piece| time("delay", piece, Duration::ZERO, JOB_DELAY_MAX);
    let short = |piece| text("reason", piece).map(|said| cut(said, RELEASE_REASON_BYTES_MAX));
    Ok(End::Release {
        delay: delay.map_or(Ok(Duration::ZERO), wait)?,
        reason: reason.map(short).transpose()?,
    })
}

/// `POST /v1/leases/{lease}/done`
pub(crate) fn done(body: &[u8]) -> Result<End, Problem> {
    done_end(whole_body(spans::body_or_nothing(body)?, &DONE_FIELDS)?)
}

/// `POST /v1/leases/{lease}/fail`
pub(crate) fn fail(body: &[u8]) -> Result<End, Problem> {
    fail_end(whole_body(spans::body(body)?, &FAIL_FIELDS)?)
}

/// `POST /v1/leases/{lease}/release`
pub(crate) fn release(body: &[u8]) -> Result<End, Problem> {
    release_end(whole_body(spans::body_or_nothing(body)?, &RELEASE_FIELDS)?)
}

/// `POST /v1/leases/{lease}/extend`
pub(crate) fn extend(body: &[u8]) -> Result<Extension, Problem> {
    let [by, progress, checkpoint] = whole_body(spans::body_or_nothing(body)?, &EXTEND_FIELDS)?;
    let lease_time = |piece| time("by", piece, JOB_LEASE_MIN, JOB_LEASE_MAX);
    let part = |piece| {
        let part = spans::number(piece).filter(|part| (0.0..=1.0).contains(part));
        part.ok_or_else(|| invalid("progress", "progress is a number from 0 to 1"))
    };
    let kept = |piece| kept("checkpoint", piece, JOB_CHECKPOINT_BYTES_MAX);
    Ok(Extension {
        by: given(by).map(lease_time).transpose()?,
        progress: given(progress).map(part).transpose()?,
        checkpoint: checkpoint.map(kept).transpose()?,
    })
}

/// `POST /v1/report`
pub(crate) fn report(body: &[u8]) -> Result<Report, Problem> {
    let [done, fail, release, next] =
        whole_body(spans::body_or_nothing(body)?, &REPORT_FIELDS)?.map(given);
    let mut ended = Vec::new();
    let ends = &mut ended;
    entries(ends, "done", done, &DONE_ENTRY_FIELDS, |[result]| done_end([result]))?;
    entries(ends, "fail", fail, &FAIL_ENTRY_FIELDS, fail_end)?;
    entries(ends, "release", release, &RELEASE_ENTRY_FIELDS, release_end)?;
    let next = next.map(|piece| {
        let pieces = spans::object(piece, &LEASE_FIELDS).map_err(Fault::into_problem)?;
        lease_call(pieces)
    });
    Ok(Report { ended, next: next.transpose()? })
}

/// One list of a report. The lease comes first in `fields`.
fn entries<const N: usize, const M: usize>(
    ended: &mut Vec<Ended>,
    list: &'static str,
    piece: Option<&str>,
    fields: &[&'static str; N],
    read: fn([Option<&str>; M]) -> Result<End, Problem>,
) -> Result<(), Problem> {
    const { assert!(N == M + 1, "BUG: a lease, and how it ended") };
    let Some(piece) = piece else { return Ok(()) };
    let mut index = 0;
    spans::list(piece, |item| {
        if ended.len() == CALL_ITEMS_MAX {
            return Err(too_large(list, "a report has, in all its lists,", CALL_ITEMS_MAX));
        }
        let read = || {
            let found = spans::object(item, fields).map_err(Fault::into_problem)?;
            let named = given(found[0]).ok_or_else(|| invalid("lease", "an end needs a lease"))?;
            let named = text("lease", named)?;
            let lease = LeaseToken::parse(&named);
            let end = read(std::array::from_fn(|at| found[at + 1]))?;
            Ok(Ended { named: cut(named, LEASE_TEXT_BYTES_MAX), lease, end })
        };
        ended.push(read().map_err(|bad: Problem| bad.with("list", list).with("index", index))?);
        index += 1;
        Ok(())
    })
}

const STATES: [(&str, SaidState); 4] = [
    ("idle", SaidState::Idle),
    ("busy", SaidState::Busy),
    ("paused", SaidState::Paused),
    ("stopping", SaidState::Stopping),
];

/// `POST /v1/workers/{id}/beat`
pub(crate) fn beat(body: &[u8]) -> Result<Beat, Problem> {
    let [pid, host, queues, state, rss, peak_rss, cpu, done, idle, busy, leases, extend] =
        whole_body(spans::body_or_nothing(body)?, &BEAT_FIELDS)?.map(given);
    let figure = |field, piece: Option<_>| piece.map(|piece| figure(field, piece)).transpose();
    let percent = |piece| {
        let percent = spans::number(piece).filter(|percent| 0.0 <= *percent);
        percent.ok_or_else(|| invalid("cpu_percent", "cpu_percent is a number from 0"))
    };
    let keep = |piece| time("extend", piece, JOB_LEASE_MIN, JOB_LEASE_MAX);
    let queues = queues.map(|piece| queue_names("queues", piece, LEASE_QUEUES_MAX));
    Ok(Beat {
        pid: pid.map(process).transpose()?,
        host: host.map(host_name).transpose()?,
        queues: queues.transpose()?,
        state: state.map(|piece| word("state", piece, &STATES)).transpose()?,
        rss_bytes: figure("rss_bytes", rss)?,
        peak_rss_bytes: figure("peak_rss_bytes", peak_rss)?,
        cpu_percent: cpu.map(percent).transpose()?,
        jobs_done: figure("jobs_done", done)?,
        idle_ms: figure("idle_ms", idle)?,
        busy_ms: figure("busy_ms", busy)?,
        leases: leases.map(leases_of).transpose()?,
        extend: extend.map(keep).transpose()?,
    })
}

fn process(piece: &str) -> Result<u32, Problem> {
    let pid = whole("pid", piece, 1, i32::MAX.unsigned_abs().into())?;
    Ok(u32::try_from(pid).expect("BUG: it is no more than i32::MAX"))
}

fn host_name(piece: &str) -> Result<String, Problem> {
    let name = text("host", piece)?;
    line("host", &name, WORKER_HOST_BYTES_MAX)?;
    Ok(name.into_owned())
}

fn leases_of(piece: &str) -> Result<Vec<LeaseToken>, Problem> {
    let read = |item: &str| text("leases", item).map(|text| LeaseToken::parse(&text));
    Ok(items("leases", piece, CALL_ITEMS_MAX, read)?.into_iter().flatten().collect())
}

const COMMANDS: [(&str, Command); 3] = [
    (Command::Run.as_str(), Command::Run),
    (Command::Drain.as_str(), Command::Drain),
    (Command::Restart.as_str(), Command::Restart),
];

/// `POST /v1/workers/{id}/command`
pub(crate) fn command(body: &[u8]) -> Result<Command, Problem> {
    let [command] = whole_body(spans::body(body)?, &COMMAND_FIELDS)?.map(given);
    let command = command.unwrap_or("\"\"");
    word("command", command, &COMMANDS)
}
