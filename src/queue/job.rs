//! A job, what is asked of it, and how one attempt at it ends: the words of the whole service.
//!
//! What is in hand here is valid: texts are within their bounds, times within theirs. The edge checks; what
//! comes from the file was checked when it was written.

use std::fmt;
use std::time::Duration;

use crate::base::id::JobId;
use crate::base::name::QueueName;
use crate::base::time::Timestamp;

/// How urgent a job is. It is served in the order of the moment by which it should have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Band {
    /// At once.
    Critical = 0,
    /// Within 10 s.
    High = 1,
    /// Within a minute.
    #[default]
    Normal = 2,
    /// Within 10 minutes.
    Low = 3,
    /// Within an hour.
    Bulk = 4,
}

impl Band {
    /// All of them, the most urgent first.
    pub const ALL: [Band; 5] = [Band::Critical, Band::High, Band::Normal, Band::Low, Band::Bulk];

    /// How it is spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Band::Critical => "critical",
            Band::High => "high",
            Band::Normal => "normal",
            Band::Low => "low",
            Band::Bulk => "bulk",
        }
    }

    /// Reads what [`Band::as_str`] writes.
    pub fn parse(text: &str) -> Option<Band> {
        Band::ALL.into_iter().find(|band| band.as_str() == text)
    }

    /// How long such a job may wait for others that became ready after it.
    pub const fn slack(self) -> Duration {
        match self {
            Band::Critical => Duration::ZERO,
            Band::High => Duration::from_secs(10),
            Band::Normal => Duration::from_mins(1),
            Band::Low => Duration::from_mins(10),
            Band::Bulk => Duration::from_hours(1),
        }
    }
}

/// Where a job stands, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waits for a moment.
    Delayed = 0,
    /// May run.
    Waiting = 1,
    /// Somebody has it.
    Running = 2,
    /// It went well.
    Done = 3,
    /// It was given up.
    Failed = 4,
    /// Nobody wants it any more.
    Cancelled = 5,
}

impl State {
    /// All of them.
    pub const ALL: [State; 6] = [
        State::Delayed,
        State::Waiting,
        State::Running,
        State::Done,
        State::Failed,
        State::Cancelled,
    ];

    /// How it is spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Delayed => "delayed",
            State::Waiting => "waiting",
            State::Running => "running",
            State::Done => "done",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }

    /// Reads what [`State::as_str`] writes.
    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether nothing more happens to it by itself.
    pub const fn is_finished(self) -> bool {
        matches!(self, State::Done | State::Failed | State::Cancelled)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How long to wait before the next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// `base`, doubled with each error, at most `cap`; half of it to one and a half, by chance.
    Exponential {
        /// After the first error.
        base: Duration,
        /// Never more.
        cap: Duration,
    },
    /// Always the same.
    Fixed {
        /// So long.
        base: Duration,
    },
    /// The first after the first error, and so on; the last again and again.
    List(Vec<Duration>),
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::growing(Duration::from_secs(5))
    }
}

impl Backoff {
    /// `base`, doubled with each error, up to an hour or to `base` itself when that is longer.
    pub fn growing(base: Duration) -> Backoff {
        Backoff::Exponential { base, cap: Duration::from_hours(1).max(base) }
    }

    /// The wait after so many errors (or crashes), at least one. `chance` is a number from 0 to 1.
    pub fn delay(&self, errors: u32, chance: f64) -> Duration {
        match self {
            Backoff::Exponential { base, cap } => {
                let doublings = errors.saturating_sub(1).min(40);
                let grown = base.saturating_mul(1_u32 << doublings.min(30)).min(*cap);
                grown.mul_f64(0.5 + chance).min(*cap)
            }
            Backoff::Fixed { base } => *base,
            Backoff::List(waits) => {
                let place = (errors.saturating_sub(1) as usize).min(waits.len().saturating_sub(1));
                waits.get(place).copied().unwrap_or_default()
            }
        }
    }
}

/// What a job carries: bytes and what they are. Given back byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The type of the bytes; nothing when they are JSON, which was checked.
    pub content_type: Option<String>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Payload {
    /// JSON, as the text it was.
    pub fn json(text: impl Into<Vec<u8>>) -> Payload {
        Payload { content_type: None, bytes: text.into() }
    }
}

/// When a job may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once.
    Now,
    /// After so long.
    After(Duration),
    /// From this moment on; at once when it is over.
    At(Timestamp),
}

/// Until when a unique key is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until somebody leases the job.
    Started,
    /// Until it is done, failed or cancelled.
    Done,
    /// For the ttl, whatever becomes of the job.
    Ttl,
}

impl Until {
    /// How it is spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Until::Started => "started",
            Until::Done => "done",
            Until::Ttl => "ttl",
        }
    }

    /// Reads what [`Until::as_str`] writes.
    pub fn parse(text: &str) -> Option<Until> {
        [Until::Started, Until::Done, Until::Ttl].into_iter().find(|until| until.as_str() == text)
    }
}

/// A key that only one job of a queue holds at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// The key: 1 to `UNIQUE_KEY_BYTES_MAX` bytes.
    pub key: String,
    /// Until when.
    pub until: Until,
    /// No longer than this; always there for [`Until::Ttl`].
    pub ttl: Option<Duration>,
}

/// What is pushed when a job is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followup {
    /// Where.
    pub queue: QueueName,
    /// Of which type.
    pub job_type: String,
    /// What it carries.
    pub payload: Payload,
}

/// The rules of an attempt, as far as somebody set them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Errors after which a job is given up.
    pub max_tries: Option<u32>,
    /// Crashes after which it is put aside.
    pub max_crashes: Option<u32>,
    /// How long one attempt may run.
    pub timeout: Option<Duration>,
    /// How long to wait after an error.
    pub backoff: Option<Backoff>,
}

impl Rules {
    /// These, and where they say nothing, the others.
    #[must_use]
    pub fn or(self, others: &Rules) -> Rules {
        Rules {
            max_tries: self.max_tries.or(others.max_tries),
            max_crashes: self.max_crashes.or(others.max_crashes),
            timeout: self.timeout.or(others.timeout),
            backoff: self.backoff.or_else(|| others.backoff.clone()),
        }
    }
}

/// A job that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// In which queue.
    pub queue: QueueName,
    /// What kind of work it is: 1 to `JOB_TYPE_BYTES_MAX` bytes without control characters.
    pub job_type: String,
    /// What it carries.
    pub payload: Payload,
    /// When it may run.
    pub when: When,
    /// How urgent it is.
    pub band: Band,
    /// Its own rules.
    pub rules: Rules,
    /// A key that only one job holds.
    pub unique: Option<Unique>,
    /// What it can be found by.
    pub tags: Vec<String>,
    /// For how long its result is kept.
    pub result_ttl: Option<Duration>,
    /// What is pushed when it is given up.
    pub on_failed: Option<Box<Followup>>,
}

/// The type of a job for which nobody named one.
pub const DEFAULT_TYPE: &str = "default";

impl Spec {
    /// The plainest job.
    pub fn new(queue: QueueName, payload: Payload) -> Spec {
        Spec {
            queue,
            job_type: DEFAULT_TYPE.to_owned(),
            payload,
            when: When::Now,
            band: Band::Normal,
            rules: Rules::default(),
            unique: None,
            tags: Vec::new(),
            result_ttl: None,
            on_failed: None,
        }
    }
}

/// What a worker says went wrong. Cut to its bounds where it comes in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// What kind of error.
    pub class: String,
    /// What it says.
    pub message: String,
    /// Where it happened.
    pub trace: Option<String>,
}

/// What the worker wants after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// As the job's rules say.
    ByPolicy,
    /// Never again.
    Never,
    /// After so long, if there are tries left.
    After(Duration),
}

/// How a worker ends an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It went well; with what came out of it, as JSON text.
    Done {
        /// What came out.
        result: Option<Vec<u8>>,
    },
    /// It went wrong.
    Fail {
        /// What went wrong.
        failure: Failure,
        /// What then.
        retry: Retry,
    },
    /// Not now; nothing is counted.
    Release {
        /// Not before so long.
        delay: Duration,
        /// Why, for those who look.
        reason: Option<String>,
    },
}

/// By which verb an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// See [`End::Done`].
    Done = 0,
    /// See [`End::Fail`].
    Fail = 1,
    /// See [`End::Release`].
    Release = 2,
}

impl End {
    /// The verb alone.
    pub const fn verb(&self) -> Verb {
        match self {
            End::Done { .. } => Verb::Done,
            End::Fail { .. } => Verb::Fail,
            End::Release { .. } => Verb::Release,
        }
    }
}

/// What became of a job when an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where it stands.
    pub state: State,
    /// When it runs again, if it is delayed.
    pub run_at: Option<Timestamp>,
}

/// A lease as its holder shows it: which job, which lease of it, and 64 bits that nobody can guess.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken {
    /// The job.
    pub job: JobId,
    /// Grows with every lease.
    pub fence: u64,
    /// Drawn by chance.
    pub secret: u64,
}

/// Three times 64 bits, as ids are written.
const TOKEN_BYTES: usize = 39;

impl LeaseToken {
    /// Reads the 39 characters that `Display` writes, and nothing else.
    pub fn parse(text: &str) -> Option<LeaseToken> {
        if text.len() != TOKEN_BYTES || !text.is_ascii() {
            return None;
        }
        let part = |from: usize| Some(JobId::parse(text.get(from..from + 13)?).ok()?.raw());
        Some(LeaseToken { job: JobId::from_raw(part(0)?), fence: part(13)?, secret: part(26)? })
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [fence, secret] = [self.fence, self.secret].map(JobId::from_raw);
        write!(f, "{}{fence}{secret}", self.job)
    }
}

/// The secret half is not for logs.
impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease {} of {}", self.fence, self.job)
    }
}
