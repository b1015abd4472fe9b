//! `holdfast work`: a worker in one line of shell.
//!
//! It leases jobs, runs a command for each, and takes the command's exit status as the answer; see
//! [`ending`] for what means what. While commands run, their leases are renewed by a beat every third of the
//! lease. The beat names this process, so that its death is noticed at once; and a command whose worker is
//! killed is killed with it (we start ourselves, ask the kernel for that, and become the command), so
//! that nobody works at a job that somebody else has already.
//!
//! ```text
//!   working ---- SIGTERM, SIGINT, drain, restart, ---> draining ---- a second signal ---> quitting
//!                --max-jobs, --max-time                takes nothing,                     commands are told to end,
//!                                                      finishes what it has               their jobs are released
//! ```

mod attempt;
mod child;
mod drive;
mod ending;
mod lease;
mod link;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;

use self::drive::Worker;
use self::ending::{CANNOT_RUN, CANNOT_RUN_TEXT};
use super::failure::{Failure, USAGE};
use super::session::Session;
use crate::base::human::parse_duration;
use crate::base::limits::{
    JOB_LEASE_DEFAULT, JOB_LEASE_MAX, JOB_LEASE_MIN, WORK_CONCURRENCY_MAX, WORKER_ID_BYTES_MAX,
};
use crate::io::child::{die_with, host};
use crate::io::entropy::SystemEntropy;

/// This program, also after its file was replaced.
const OURSELVES: &str = "/proc/self/exe";

/// The word by which we are told to become a command.
const BECOME: &str = "become-command-of";

/// What a worker is to do.
#[derive(Debug)]
struct Plan {
    /// Its id.
    name: String,
    /// Where its jobs come from, the most urgent queue first.
    queues: Vec<String>,
    /// What is started for each job.
    program: OsString,
    arguments: Vec<OsString>,
    /// So many at once.
    concurrency: usize,
    /// It ends after so many jobs.
    max_jobs: Option<u64>,
    /// It takes no more jobs after this time.
    max_time: Option<Duration>,
    /// How long it may be silent.
    lease: Duration,
    /// How long a command has to end when it is told to.
    grace: Duration,
    /// When a job runs again that its command wants to be tried later.
    release_delay_ms: u64,
    /// Whether what a command prints is its result.
    result: bool,
}

/// How far a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It takes jobs.
    Working,
    /// It finishes those it has.
    Draining,
    /// It gives back those it has.
    Quitting,
}

/// What a running command is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Go on.
    Go,
    /// Nobody wants its job any more.
    Cancel,
    /// The worker ends.
    Quit,
    /// Somebody else has its job.
    Lost,
}

/// Tells people something.
fn say(text: &str) {
    eprintln!("holdfast work: {text}");
}

/// `holdfast work QUEUE... -- COMMAND`
pub(super) fn work(arguments: &ArgMatches) -> Result<(), Failure> {
    let plan = Arc::new(Plan::of(arguments)?);
    let client = Session::open(arguments)?.into_client();
    // Commands are children of this thread: when it ends, they end.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async { Worker::new(plan, client)?.run().await });
    // Nobody waits for an output that nobody takes.
    runtime.shutdown_background();
    ended
}

/// Becomes the command of a worker, which ends when the worker does. No command for people, and so not among
/// those: only a process itself can ask the kernel to be killed when its parent ends.
///
/// Gives the status to end with if it cannot; nothing if that is not what we were called for.
pub(super) fn become_command(arguments: &[OsString]) -> Option<u8> {
    let [_, word, parent, program, arguments @ ..] = arguments else { return None };
    if word != BECOME {
        return None;
    }
    let error = match die_with(&parent.to_string_lossy()) {
        // Returns only if it fails.
        Ok(()) => std::process::Command::new(program).args(arguments).exec(),
        Err(error) => error,
    };
    eprintln!("{CANNOT_RUN_TEXT}{}: {error}", program.display());
    Some(CANNOT_RUN)
}

impl Plan {
    fn of(arguments: &ArgMatches) -> Result<Plan, Failure> {
        let list = |name: &str| arguments.get_many::<String>(name).into_iter().flatten().cloned();
        let command = arguments.get_many::<OsString>("command").into_iter().flatten().cloned();
        let lease = duration(arguments, "lease")?.unwrap_or(JOB_LEASE_DEFAULT);
        if lease < JOB_LEASE_MIN || JOB_LEASE_MAX < lease {
            return Err(Failure::new(USAGE, "--lease is between 1s and 24h"));
        }
        let concurrency = number(arguments, "concurrency")?.unwrap_or(1);
        let concurrency = usize::try_from(concurrency).unwrap_or(usize::MAX);
        if WORK_CONCURRENCY_MAX < concurrency {
            let text = format!("--concurrency is at most {WORK_CONCURRENCY_MAX}");
            return Err(Failure::new(USAGE, text));
        }
        let delay = duration(arguments, "release-delay")?.unwrap_or_default();
        let ours = [BECOME.into(), std::process::id().to_string().into()];
        Ok(Plan {
            name: arguments.get_one::<String>("name").cloned().unwrap_or_else(own_name),
            queues: list("queue").collect(),
            program: OURSELVES.into(),
            arguments: ours.into_iter().chain(command).collect(),
            concurrency,
            max_jobs: number(arguments, "max-jobs")?,
            max_time: duration(arguments, "max-time")?,
            lease,
            grace: duration(arguments, "grace")?.unwrap_or_default(),
            release_delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            result: arguments.get_flag("result"),
        })
    }
}

/// The machine, this process, and something by which it differs from one before it with the same number.
fn own_name() -> String {
    let fit = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
    let end = format!("-{}-{:04x}", std::process::id(), SystemEntropy.seed() & 0xffff);
    let host: String = host().chars().filter(fit).take(WORKER_ID_BYTES_MAX - end.len()).collect();
    format!("{host}{end}")
}

/// An option that is a length of time.
pub(super) fn duration(arguments: &ArgMatches, name: &str) -> Result<Option<Duration>, Failure> {
    let Some(text) = arguments.get_one::<String>(name) else { return Ok(None) };
    let read = parse_duration(text).map(Some);
    read.map_err(|bad| Failure::new(USAGE, format!("--{name} {text:?}: {bad}")))
}

/// An option that is a number above zero.
fn number(arguments: &ArgMatches, name: &str) -> Result<Option<u64>, Failure> {
    let Some(text) = arguments.get_one::<String>(name) else { return Ok(None) };
    let read = text.parse().ok().filter(|number| 0 < *number).map(Some);
    read.ok_or_else(|| Failure::new(USAGE, format!("--{name} {text:?} is not a number above 0")))
}

#[cfg(test)]
mod tests {
    use super::{Plan, own_name};
    use crate::cli::command;
    use std::time::Duration;

    /// What such a command line means; the words behind `work`.
    fn plan(words: &str) -> Result<Plan, String> {
        let words = ["holdfast", "work"].into_iter().chain(words.split_whitespace());
        let matches = command().try_get_matches_from(words).map_err(|error| error.to_string())?;
        let (_, arguments) = matches.subcommand().unwrap();
        Plan::of(arguments).map_err(|failure| failure.text)
    }

    #[test]
    fn a_worker_is_one_line_of_shell() {
        let plan = plan("high low --concurrency 4 --lease 5m -- ./send.sh -v --name x").unwrap();
        assert_eq!(plan.queues, ["high", "low"]);
        let command: Vec<&str> = plan.arguments[2..].iter().map(|a| a.to_str().unwrap()).collect();
        assert_eq!(command, ["./send.sh", "-v", "--name", "x"]);
        assert_eq!((plan.concurrency, plan.lease), (4, Duration::from_mins(5)));
        assert_eq!((plan.grace, plan.release_delay_ms), (Duration::from_secs(10), 10_000));
        assert_eq!((plan.max_jobs, plan.max_time, plan.result), (None, None, false));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (words, told) in [
            ("mail", "COMMAND"),
            ("-- true", "QUEUE"),
            ("mail --concurrency 0 -- true", "above 0"),
            ("mail --concurrency 1000 -- true", "at most 256"),
            ("mail --max-jobs many -- true", "above 0"),
            ("mail --lease 10ms -- true", "between 1s and 24h"),
            ("mail --grace soon -- true", "--grace"),
        ] {
            let said = plan(words).unwrap_err();
            assert!(said.contains(told), "{words}: {said}");
        }
    }

    #[test]
    fn two_workers_never_have_one_name() {
        let names = [own_name(), own_name(), own_name()];
        assert!(names[0] != names[1] || names[1] != names[2], "{names:?}");
        assert!(names.iter().all(|name| name.contains(&format!("-{}-", std::process::id()))));
    }
}
