//! `holdfast health`: whether all is well, for people, cron and programs that watch.
//!
//! Everything is asked for at once, and each answer has a deadline, so that the command ends whatever the server does.
//! The first line says it all; the exit code is that of programs which watch others.
//!
//! ```text
//!   answers --checks--> [Check] --verdict--> one line, a table, an exit code
//! ```
//!
//! **Failure cases**: no server answers: critical. A token without rights, an answer that is not understood, readings that
//! are not there yet (a server that started a few seconds ago): that check is unknown, which counts (3) when nothing is
//! worse: what is not known is neither healthy nor an alarm.

mod checks;
mod verdict;

use std::ffi::OsString;
use std::time::Duration;

use clap::ArgMatches;
use tokio::time::timeout;

use self::checks::Wishes;
use self::verdict::{Check, Status, Verdict};
use super::commands::print_json;
use super::failure::{Failure, NOT_REACHABLE, USAGE};
use super::session::Session;
use super::table::shown;
use super::work::duration;
use crate::app::DEFAULT_TENANT;
use crate::base::human::format_duration;
use crate::base::limits::{JOB_WORKERS_MAX, QUEUES_MAX};
use crate::io::client::{self, Answer, Client, Json, encoded};

/// What could not be found out, and arguments that are wrong.
pub(super) const UNKNOWN: u8 = 3;
/// Items of one page of a list.
const PAGE: usize = 1000;
/// Pages of a list: more than there can be.
const PAGES_MAX: usize =
    (if QUEUES_MAX < JOB_WORKERS_MAX { JOB_WORKERS_MAX } else { QUEUES_MAX }) / PAGE + 1;
/// Jobs that were given up, minute by minute of the last hour, of each queue.
const GIVEN_UP: &str =
    "/v1/series/query?select=queue_given_up_total&fn=increase&by=queue&from=-1h&to=now&step=1m";

/// Whether these arguments mean this command, also when they are wrong: then another exit code is due.
pub(super) fn is_meant(arguments: &[OsString]) -> bool {
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    let with_value = ["--config", "--data-dir", "--url", "--token-file"];
    while let Some(word) = words.next() {
        if with_value.contains(&word) {
            words.next();
        } else if !word.starts_with('-') {
            return word == "health";
        }
    }
    // Its name was taken for the value of an option.
    arguments.iter().skip(1).any(|word| word == "health")
}

/// `holdfast health`
pub(super) fn health(arguments: &ArgMatches) -> Result<(), Failure> {
    let found = found(arguments).unwrap_or_else(|failure| alone(&failure));
    let verdict = Verdict::of(found);
    if arguments.get_flag("json") {
        print_json(&verdict.json());
    } else {
        print!("{}", verdict.told());
    }
    match verdict.status.exit_code() {
        0 => Ok(()),
        // All was said.
        code => Err(Failure::new(code, "")),
    }
}

/// The one check that is left when the server cannot be asked.
fn alone(failure: &Failure) -> Vec<Check> {
    let status = if failure.code == NOT_REACHABLE { Status::Critical } else { Status::Unknown };
    let mut lines = failure.text.lines();
    let text = shown(lines.next().unwrap_or_default());
    for line in lines {
        eprintln!("{}", shown(line));
    }
    vec![Check { name: "server", status, value: Json::Null, text }]
}

/// Why there is no answer that helps.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Trouble {
    /// Nobody answers.
    NotReachable(String),
    /// It answers, and does not say what we want to know.
    Refused { status: u16, code: String, text: String },
    /// What answers is not understood.
    NotUnderstood(String),
}

impl Trouble {
    fn of(answer: &Answer) -> Trouble {
        let code = answer.body["code"].as_str().unwrap_or_default().to_owned();
        let text = Failure::from_answer(answer).text;
        let text = text.lines().next().unwrap_or_default().to_owned();
        Trouble::Refused { status: answer.status, code, text }
    }
}

impl From<client::Error> for Trouble {
    fn from(error: client::Error) -> Trouble {
        let text = error.to_string();
        match error {
            client::Error::NotReachable { .. } => Trouble::NotReachable(text),
            client::Error::NotOurs { .. } => Trouble::NotUnderstood(text),
        }
    }
}

/// What was asked for, or why it is not there.
pub(super) type Asked<T> = Result<T, Trouble>;

/// All answers.
#[derive(Debug)]
pub(super) struct Answers {
    /// `/v1/status`
    pub(super) status: Asked<Json>,
    /// `/readyz`, if the status is not for us.
    pub(super) ready: Option<Asked<Json>>,
    /// `/v1/server/health`
    pub(super) host: Asked<Json>,
    /// All of `/v1/queues`
    pub(super) queues: Asked<Vec<Json>>,
    /// All of `/v1/workers`
    pub(super) workers: Asked<Vec<Json>>,
    /// [`GIVEN_UP`]
    pub(super) given_up: Asked<Json>,
}

fn found(arguments: &ArgMatches) -> Result<Vec<Check>, Failure> {
    let limit = |name: &str| *arguments.get_one::<u64>(name).expect("BUG: it has a default");
    let wishes = Wishes { queue_depth: limit("queue-depth"), failed: limit("failed") };
    let within = duration(arguments, "timeout")?.unwrap_or_default();
    if within.is_zero() {
        return Err(Failure::new(USAGE, "--timeout is longer than nothing"));
    }
    let client = Session::open(arguments)?.into_client();
    // The machine is that of tenant default, whosever queues are looked at.
    let machine = match arguments.get_one::<String>("tenant") {
        Some(_) => client.for_tenant(DEFAULT_TENANT),
        None => client.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answers = runtime.block_on(answers(&client, &machine, within));
    if let Err(Trouble::NotReachable(text)) = &answers.status {
        return Err(Failure::new(NOT_REACHABLE, text));
    }
    Ok(checks::checks(&answers, wishes))
}

async fn answers(client: &Client, machine: &Client, within: Duration) -> Answers {
    let (status, host, queues, workers, given_up) = tokio::join!(
        in_time(within, Box::pin(one(machine, "/v1/status"))),
        in_time(within, Box::pin(one(machine, "/v1/server/health"))),
        in_time(within, Box::pin(all(client, "/v1/queues"))),
        in_time(within, Box::pin(all(client, "/v1/workers"))),
        in_time(within, Box::pin(one(client, GIVEN_UP))),
    );
    let refused = matches!(status, Err(Trouble::Refused { .. }));
    let ready =
        if refused { Some(in_time(within, Box::pin(one(machine, "/readyz"))).await) } else { None };
    Answers { status, ready, host, queues, workers, given_up }
}

async fn in_time<T>(within: Duration, asked: impl Future<Output = Asked<T>>) -> Asked<T> {
    timeout(within, asked).await.unwrap_or_else(|_| {
        let within = format_duration(within);
        Err(Trouble::NotReachable(format!("the server did not answer within {within}")))
    })
}

async fn one(client: &Client, path: &str) -> Asked<Json> {
    let answer = client.read(client.call("GET", path, None).await?)?;
    if answer.status == 200 { Ok(answer.body) } else { Err(Trouble::of(&answer)) }
}

async fn all(client: &Client, path: &str) -> Asked<Vec<Json>> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    for _ in 0..PAGES_MAX {
        let mut page = one(client, &format!("{path}?limit={PAGE}{cursor}")).await?;
        let Some(listed) = page.get_mut("items").and_then(Json::as_array_mut) else {
            return Err(Trouble::NotUnderstood(format!("{path} gave no list")));
        };
        items.append(listed);
        match page.get("next").and_then(Json::as_str) {
            Some(next) => cursor = format!("&cursor={}", encoded(next)),
            None => return Ok(items),
        }
    }
    Err(Trouble::NotUnderstood(format!("the list of {path} does not end")))
}

#[cfg(test)]
mod tests {
    use super::is_meant;
    use std::ffi::OsString;

    #[test]
    fn the_command_is_known_also_when_something_about_it_is_wrong() {
        let meant = |words: &str| {
            let words = words.split_whitespace().map(OsString::from);
            is_meant(&words.collect::<Vec<_>>())
        };
        for words in [
            "holdfast health",
            "holdfast health --jsno",
            "holdfast --url http://x health extra",
            "holdfast --url=http://x --jsno health",
            "holdfast --url health",
        ] {
            assert!(meant(words), "{words}");
        }
        for words in
            ["holdfast", "holdfast queue show health --x", "holdfast --config health status"]
        {
            assert!(!meant(words), "{words}");
        }
    }
}
