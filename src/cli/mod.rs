//! Row 8: the command line.
//!
//! `holdfast serve` is the server. Every other command that needs one is a client of its API: it finds the
//! server by `--url`, by `HOLDFAST_URL`, or by `run.json` in the data directory, and shows the token of
//! `--token-file`, of `HOLDFAST_TOKEN_FILE`, or of `admin.token` there.
//!
//! **Exit codes**: 0 ok, 1 failure, 2 usage, 3 problems found, 4 not allowed, 5 not reachable; `serve` ends
//! as [`crate::boot`] says, and `health` as programs do that watch others: 0 healthy, 1 warning, 2 critical,
//! 3 unknown, or not understood what was meant. Data goes to standard output, everything else to standard
//! error. `--json` gives what the API gave.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "talking to people is its task")]

mod arguments;
mod cache;
mod commands;
mod config;
mod failure;
mod health;
mod locks;
pub mod memory;
mod plot;
mod queue;
mod schedule;
mod series;
mod server;
mod session;
mod table;
mod trend;
mod warm;
mod work;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::ArgMatches;

use self::failure::Failure;
use crate::boot;
use crate::series::check::LogReport;

pub use self::arguments::command;

/// Does what the arguments of the process say. Called by `main` alone.
pub fn run() -> ExitCode {
    run_with(std::env::args_os())
}

/// Does what these arguments say; the first one is the name of the program.
pub fn run_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(status) = work::become_command(&arguments) {
        return ExitCode::from(status);
    }
    let is_health = health::is_meant(&arguments);
    let usage = if is_health { health::UNKNOWN } else { failure::USAGE };
    end_when_nobody_reads(if is_health { health::UNKNOWN } else { failure::FAILURE });
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are errors to the library, and no errors to anybody else.
            let code = if error.exit_code() == 0 { 0 } else { usage };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    match dispatch(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                eprintln!("holdfast: {}", failure.text.trim_end());
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Printing panics when it fails. That whoever reads us went away (`| head`) is no reason to say anything, and a full disk is
/// no fault of the program.
fn end_when_nobody_reads(code: u8) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let Some(why) = panic.payload_as_str().and_then(not_printed) else { return before(panic) };
        if !why.contains(NOBODY_READS) {
            // Nobody may read this either.
            drop(writeln!(
                std::io::stderr(),
                "holdfast: what it has to say cannot be written: {why}"
            ));
        }
        std::process::exit(i32::from(code));
    }));
}

/// How the system calls a pipe that nobody reads any more.
const NOBODY_READS: &str = "Broken pipe";

/// Why something was not printed, if that is what a panic says.
fn not_printed(panic: &str) -> Option<&str> {
    let rest = panic.strip_prefix("failed printing to std")?;
    rest.split_once(": ").map(|(_, why)| why)
}

fn dispatch(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("serve", arguments)) => serve(arguments),
        Some(("status", arguments)) => commands::status(arguments),
        Some(("health", arguments)) => health::health(arguments),
        Some(("server", arguments)) => server::server(arguments),
        Some(("trend", arguments)) => trend::trend(arguments),
        Some(("reload", arguments)) => commands::reload(arguments),
        Some(("check", arguments)) => check(arguments),
        Some(("token", arguments)) => commands::token(arguments),
        Some(("tenant", arguments)) => commands::tenant(arguments),
        Some(("cache", arguments)) => cache::cache(arguments),
        Some(("lock", arguments)) => locks::lock(arguments),
        Some(("queue", arguments)) => queue::queue(arguments),
        Some(("schedule", arguments)) => schedule::schedule(arguments),
        Some(("series", arguments)) => series::series(arguments),
        Some(("work", arguments)) => work::work(arguments),
        Some(("config", arguments)) => config::config(arguments),
        Some(("openapi", _)) => commands::openapi(),
        Some(("completions", arguments)) => commands::completions(arguments),
        Some(("man", arguments)) => commands::man(arguments),
        Some(_) | None => unreachable!("BUG: the parser knows no other command"),
    }
}

fn serve(arguments: &ArgMatches) -> Result<(), Failure> {
    memory::start_again_with_settings();
    let origin = session::origin(arguments);
    let wishes = boot::server::Wishes { new_admin_token: arguments.get_flag("new-admin-token") };
    boot::server::serve(origin, wishes)
        .map_err(|error| Failure { code: error.exit_code(), text: error.to_string() })
}

/// Tells what stands in the log of the series, or that there is none where one is expected; whether that is a finding.
fn tell_log(path: &Path, report: Option<LogReport>, expected: bool) -> bool {
    let path = path.display();
    let Some(LogReport { series, samples, frames, torn, finding }) = report else {
        if expected {
            println!("{path}: it is not there, or empty; samples of up to an hour may be missing");
        }
        return false;
    };
    println!(
        "{path}: {series} series, {samples} samples, {frames} frames; they reach series.redb when their hour is sealed"
    );
    if torn != 0 {
        println!("{path}: {torn} bytes at its end were never finished; the next start cuts them");
    }
    if let Some(finding) = &finding {
        println!("{finding}");
    }
    finding.is_some()
}

/// `holdfast check`
fn check(arguments: &ArgMatches) -> Result<(), Failure> {
    let found = boot::check::check(&session::origin(arguments));
    let boot::check::Checked { jobs: (path, report), series, log: (log, log_report) } = found
        .map_err(|error| {
            let code = match error {
                boot::check::Error::Settings(_) => failure::PROBLEMS,
                _ => failure::FAILURE,
            };
            Failure::new(code, error.to_string())
        })?;
    println!("{}: {} jobs", path.display(), report.jobs);
    for finding in &report.findings {
        println!("{finding}");
    }
    let (mut listed, mut untold) = (report.findings.len() as u64, report.untold);
    let expected = series.as_ref().is_some_and(|(_, findings)| findings.rows != 0);
    if let Some((path, findings)) = series {
        println!("{}: {} series, {} rows", path.display(), findings.series, findings.rows);
        for finding in &findings.found {
            println!("{finding}");
        }
        listed += findings.found.len() as u64;
        untold += findings.count - findings.found.len() as u64;
    }
    listed += u64::from(tell_log(&log, log_report, expected));
    let text = match (listed, untold) {
        (0, 0) => {
            println!("all is as it should be");
            return Ok(());
        }
        (1, 0) => "one finding".to_owned(),
        (count, 0) => format!("{count} findings"),
        (listed, untold) => {
            format!("{} findings, {untold} of them not listed", listed + untold)
        }
    };
    Err(Failure::new(failure::PROBLEMS, text))
}
