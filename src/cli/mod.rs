//! Row 8: the command line.
//!
//! There is no command yet: the server comes with its HTTP interface. What is here answers `--help` and
//! `--version` and refuses the rest, so that a script never takes a typo for a success.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "talking to people is its task")]

use std::process::ExitCode;

const HELP: &str = "\
holdfast: cache, durable queues, time series, monitors and alerts in one process

Usage: holdfast [OPTION]

Options:
      --help     What you are reading
      --version  The version

This version has the storage layer only; `holdfast serve` comes with the next one.
";

/// A word that is not a command.
const EXIT_USAGE: u8 = 2;

/// Does what the arguments say. Called by `main` alone.
pub fn run() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--version" | "-V"] => println!("holdfast {}", env!("CARGO_PKG_VERSION")),
        ["--help" | "-h"] | [] => print!("{HELP}"),
        [word, ..] => {
            eprintln!("holdfast: {word:?} is not an option; see: holdfast --help");
            return ExitCode::from(EXIT_USAGE);
        }
    }
    ExitCode::SUCCESS
}
