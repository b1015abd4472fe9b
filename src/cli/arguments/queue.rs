//! What can be said about queues, schedules and workers.

use std::ffi::OsString;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgGroup, Command, value_parser};

use super::{flag, json, many, option, tenant, word};
use crate::queue::job::{Band, State};

fn group(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).subcommand_required(true).arg_required_else_help(true)
}

fn queue_name() -> Arg {
    word("queue", "QUEUE", "The queue")
}

fn maybe_queue(help: &'static str) -> Arg {
    Arg::new("queue").value_name("QUEUE").help(help)
}

fn bands() -> PossibleValuesParser {
    PossibleValuesParser::new(Band::ALL.map(Band::as_str))
}

fn states() -> PossibleValuesParser {
    PossibleValuesParser::new(State::ALL.map(State::as_str))
}

/// What runs is cancelled, and what is done is nobody's to remove.
fn clearable() -> PossibleValuesParser {
    let states = [State::Waiting, State::Delayed, State::Failed];
    PossibleValuesParser::new(states.map(State::as_str))
}

/// `holdfast queue`
pub(super) fn queue() -> Command {
    group("queue", "Push, look at, steer and search jobs")
        .subcommands([push(), list(), show(), peek()])
        .subcommands([
            steer("pause", "Give out no more jobs of a queue; those that run go on"),
            steer("resume", "Give out jobs of a queue again"),
            steer("restart", "Have the workers of a queue finish what they do and start anew"),
        ])
        .subcommands([clear(), set(), failed(), retry(), discard(), search()])
        .subcommands([job(), cancel(), why(), workers(), monitor(), capacity()])
}

fn push() -> Command {
    Command::new("push").about("Push a job, and print its id").args([
        queue_name(),
        Arg::new("payload")
            .value_name("PAYLOAD")
            .allow_hyphen_values(true)
            .help("What it carries, as JSON; standard input for -, or without it"),
        option("file", "FILE", "What it carries stands in this file").conflicts_with("payload"),
        option("raw", "TYPE", "What it carries is of this type, such as text/plain, not JSON"),
        option("type", "TYPE", "What kind of work it is"),
        option("delay", "TIME", "Not before this time has passed: 30s, 5m"),
        option("run-at", "MOMENT", "Not before then: 2026-11-20T12:00:00Z, +10m")
            .conflicts_with("delay")
            .allow_hyphen_values(true),
        option("priority", "BAND", "How urgent it is").value_parser(bands()),
        option("max-tries", "N", "Errors after which it is given up"),
        option("timeout", "TIME", "How long one attempt may run"),
        option("unique", "KEY", "Nothing is pushed while a job of the queue has this key"),
        many("tag", "TAG", "What it can be found by; can be given again"),
        option("idempotency-key", "KEY", "Pushed again with this key, it is still one job"),
        tenant(),
        json(),
    ])
}

fn list() -> Command {
    Command::new("list").about("The queues and how they stand").args([tenant(), json()])
}

fn show() -> Command {
    Command::new("show").about("The figures and settings of a queue").args([
        queue_name(),
        tenant(),
        json(),
    ])
}

fn peek() -> Command {
    Command::new("peek").about("The jobs of a queue that wait; none of them is taken").args([
        queue_name(),
        option("limit", "N", "At most so many").default_value("20"),
        flag("payload", "Show what they carry"),
        tenant(),
        json(),
    ])
}

fn steer(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).args([queue_name(), tenant()])
}

fn clear() -> Command {
    Command::new("clear").about("Remove the jobs of a queue").args([
        queue_name(),
        many("state", "STATE", "Only those; can be given again; waiting ones without it")
            .value_parser(clearable()),
        flag("yes", "Do it; asked for without it"),
        tenant(),
        json(),
    ])
}

fn set() -> Command {
    Command::new("set")
        .about("Change settings of a queue")
        .after_help(
            "Settings: paused, max_depth, max_tries, timeout, rate, concurrency, target_wait, history_payload,\n\
             backoff.kind, backoff.base, backoff.cap, retention.done, retention.rows, retention.bytes,\n\
             retention.failed. The value default takes a setting back.\n\
             For example: holdfast queue set mail rate=100/m concurrency=4 retention.done=7d timeout=default",
        )
        .args([
            queue_name(),
            word("setting", "KEY=VALUE", "A setting and its value").num_args(1..),
            tenant(),
            json(),
        ])
}

fn failed() -> Command {
    Command::new("failed").about("What went wrong, in groups of the same error").args([
        maybe_queue("In this queue; in all of them without it"),
        tenant(),
        json(),
    ])
}

/// Which failed jobs.
fn which() -> [Arg; 3] {
    [
        maybe_queue("All that failed in this queue"),
        many("id", "ID", "This job; can be given again"),
        option("fingerprint", "F", "All of this group, as queue failed shows it"),
    ]
}

fn which_group() -> ArgGroup {
    ArgGroup::new("which").args(["queue", "id", "fingerprint"]).required(true)
}

fn retry() -> Command {
    Command::new("retry")
        .about("Have failed jobs run again")
        .args(which())
        .args([
            option("rate", "RATE", "How fast: 20/s, 100/m; at once without it"),
            tenant(),
            json(),
        ])
        .group(which_group())
}

fn discard() -> Command {
    Command::new("discard")
        .about("Remove failed jobs for good")
        .args(which())
        .args([flag("yes", "Do it; asked for without it"), tenant(), json()])
        .group(which_group())
}

fn search() -> Command {
    Command::new("search").about("Find jobs, those that are finished too").args([
        option("queue", "QUEUE", "In this queue"),
        option("state", "STATE", "In this state").value_parser(states()),
        option("type", "TYPE", "Of this type"),
        option("tag", "TAG", "With this tag"),
        option("text", "TEXT", "With this text"),
        option("from", "MOMENT", "Since then: -24h, 2026-11-20T12:00:00Z")
            .allow_hyphen_values(true),
        option("to", "MOMENT", "Before then").allow_hyphen_values(true),
        option("limit", "N", "At most so many").default_value("50"),
        flag("all", "All of them").conflicts_with("limit"),
        tenant(),
        json(),
    ])
}

fn job() -> Command {
    Command::new("job").about("A job and how it stands").args([
        word("id", "ID", "The job"),
        option("wait", "TIME", "Wait so long for its end; ends with 1 unless it is done then"),
        tenant(),
        json(),
    ])
}

fn cancel() -> Command {
    Command::new("cancel")
        .about("Remove a job that waits, or have its worker stop it")
        .args([word("id", "ID", "The job"), tenant()])
}

fn why() -> Command {
    Command::new("why").about("Why a job does not run, or when it will").args([
        word("id", "ID", "The job"),
        tenant(),
        json(),
    ])
}

fn workers() -> Command {
    Command::new("workers").about("The workers and what they do").args([tenant(), json()])
}

fn monitor() -> Command {
    Command::new("monitor").about("Queues and workers as they change; q ends it").args([
        option("interval", "TIME", "How often it is looked at").default_value("2s"),
        flag("once", "Print one picture"),
        tenant(),
    ])
}

fn capacity() -> Command {
    Command::new("capacity")
        .about("Whether the workers of a queue keep up, and how many it takes")
        .args([
            queue_name(),
            option(
                "target-wait",
                "TIME",
                "How long a job may wait; as the queue is set without it",
            ),
            option("period", "TIME", "What is looked back on"),
            option("around", "N", "Tell what so many workers more or fewer would do"),
            tenant(),
            json(),
        ])
}

/// `holdfast schedule`
pub(super) fn schedule() -> Command {
    let put = Command::new("put")
        .about("Push a job again and again")
        .args([
            word("name", "NAME", "What it is called"),
            option("cron", "LINE", "When, such as \"*/5 * * * *\""),
            option("every", "TIME", "How often: 30s, 5m"),
            option("queue", "QUEUE", "Where the job is pushed").required(true),
            option("payload", "PAYLOAD", "What it carries: JSON, or a text")
                .allow_hyphen_values(true),
            option("type", "TYPE", "What kind of work it is"),
            option("timezone", "ZONE", "The time zone of the cron line, such as Europe/Berlin"),
            option("overlap", "RULE", "What if the one before is not finished")
                .value_parser(PossibleValuesParser::new(["skip", "queue"])),
            option(
                "catch-up",
                "RULE",
                "Which of the moments are made up for that passed while we were away",
            )
            .value_parser(PossibleValuesParser::new(["none", "one", "all"])),
            option("jitter", "TIME", "Push up to so much later, by chance"),
            tenant(),
            json(),
        ])
        .group(ArgGroup::new("when").args(["cron", "every"]).required(true));
    let list = Command::new("list").about("The schedules").args([tenant(), json()]);
    let show = Command::new("show").about("A schedule").args([
        word("name", "NAME", "Which one"),
        tenant(),
        json(),
    ]);
    let delete = Command::new("delete")
        .about("End a schedule; jobs that it pushed stay")
        .args([word("name", "NAME", "Which one"), tenant()]);
    group("schedule", "Push jobs again and again").subcommands([put, list, show, delete])
}

const WORK_HELP: &str = "\
For each job the command is run with its payload on standard input, and with HOLDFAST_JOB_ID, HOLDFAST_ATTEMPT,
HOLDFAST_LEASE, HOLDFAST_FENCE, HOLDFAST_QUEUE, HOLDFAST_TYPE and HOLDFAST_DEADLINE in its environment. How it
ends is the answer:

  0      the job is done
  75     not now: released, nothing is counted, it runs again after --release-delay
  65     failed for good, it is not tried again
  else   failed: tried again as its rules say. The last line of standard error is the message, the last 16 KiB
         are the trace

A command that takes longer than the timeout of its job, or whose job is cancelled, gets SIGTERM, and SIGKILL
after --grace; so does everything that it started. When its lease is lost it is killed at once. If this worker is
killed, the command is killed with it, but not what the command started.

SIGTERM and SIGINT finish the jobs that run and take no more; a second one stops them and gives them back. An end
on request of the server (drain, restart) is status 0 too: a supervisor that restarts always starts it anew.

For example: holdfast work mail -- ./send.sh";

/// `holdfast work`
pub(super) fn work() -> Command {
    Command::new("work").about("Run a command for each job of a queue").after_help(WORK_HELP).args(
        [
            word("queue", "QUEUE", "Where jobs come from, the most urgent queue first")
                .num_args(1..),
            Arg::new("command")
                .value_name("COMMAND")
                .help("The command and its arguments")
                .num_args(1..)
                .last(true)
                .required(true)
                .value_parser(value_parser!(OsString)),
            option("concurrency", "N", "So many jobs at once").default_value("1"),
            option("max-jobs", "N", "End after so many jobs"),
            option("max-time", "TIME", "Take no more jobs after this time, and end"),
            option("lease", "TIME", "How long it may be silent before its jobs go to others")
                .default_value("60s"),
            option("grace", "TIME", "How long a command has to end after SIGTERM")
                .default_value("10s"),
            option("release-delay", "TIME", "When a job runs again that ended with 75")
                .default_value("10s"),
            flag("result", "What the command prints is the result of its job, if it is JSON"),
            option("name", "ID", "What the worker is called; the machine and a number without it"),
            tenant(),
        ],
    )
}
