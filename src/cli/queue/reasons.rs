//! `holdfast queue why`: in plain words, and what can be done.

use clap::ArgMatches;

use super::time;
use crate::cli::commands::{cell, print_json, text};
use crate::cli::failure::Failure;
use crate::cli::session::Session;
use crate::cli::table::shown;
use crate::io::client::{Json, encoded};

/// `holdfast queue why ID`
pub(super) fn why(arguments: &ArgMatches) -> Result<(), Failure> {
    let path = format!("/v1/jobs/{}/why", encoded(text(arguments, "id")));
    let answer = Session::open(arguments)?.ask("GET", &path, None)?;
    if arguments.get_flag("json") {
        print_json(&answer.body);
    } else {
        print!("{}", words(&answer.body));
    }
    Ok(())
}

/// The answer as sentences, one to a line.
fn words(body: &Json) -> String {
    let reasons = body["reasons"].as_array().map_or(&[][..], Vec::as_slice);
    let queue = body["queue"].as_str().map_or_else(|| "QUEUE".to_owned(), shown);
    let mut lines: Vec<String> = reasons.iter().map(|one| sentence(one, &queue)).collect();
    if body["runnable"] == true {
        let what =
            if reasons.is_empty() { "it may run: the next worker gets it" } else { "it may run" };
        lines.insert(0, what.to_owned());
    }
    if body["eta_ms"].as_f64().is_some_and(|eta| 0.0 < eta) {
        lines.push(format!("it should start in about {}", time(&body["eta_ms"])));
    }
    if lines.is_empty() {
        lines.push("nobody knows a reason".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A reason, with those of its figures that are there, and what to do about it.
fn sentence(reason: &Json, queue: &str) -> String {
    let said = |name: &str, before: &str| match &reason[name] {
        Json::Null => String::new(),
        value => format!("{before}{}", shown(&cell(value))),
    };
    match reason["code"].as_str().unwrap_or_default() {
        "delayed" => format!(
            "it waits for its time{}{}",
            said("until", ": "),
            said("errors", ", errors so far: ")
        ),
        "queue_paused" => {
            format!("its queue is paused; to go on: holdfast queue resume {queue}")
        }
        "rate_limited" => format!(
            "its queue gives out jobs only so fast{}; to change it: holdfast queue set {queue} rate=...",
            said("rate", ": ")
        ),
        "concurrency" => format!(
            "as many of its queue run as may at once{}; to change it: holdfast queue set {queue} concurrency=...",
            said("limit", ": ")
        ),
        "retry_throttled" => format!(
            "most jobs of its kind failed in the last minute, so only a few are tried; see: holdfast queue \
             failed {queue}"
        ),
        "ahead" => format!("others are served before it{}", said("jobs", ": ")),
        "no_worker" => format!(
            "no worker asks for jobs of its queue; to start one: holdfast work {queue} -- COMMAND"
        ),
        "running" => {
            format!("it runs{}{}", said("worker", " at "), said("since", ", since "))
        }
        "finished" => {
            format!("it has ended{}{}", said("state", ": "), said("message", ": "))
        }
        other => shown(other),
    }
}

#[cfg(test)]
mod tests {
    use super::words;
    use serde_json::json;

    #[test]
    fn reasons_are_told_in_plain_words() {
        let text = words(&json!({
            "runnable": false,
            "queue": "mail",
            "reasons": [
                { "code": "queue_paused" },
                { "code": "ahead", "jobs": 12 },
                { "code": "no_worker" },
                { "code": "eclipse\u{1b}" }
            ],
            "eta_ms": 90_000
        }));
        let expected = "\
its queue is paused; to go on: holdfast queue resume mail
others are served before it: 12
no worker asks for jobs of its queue; to start one: holdfast work mail -- COMMAND
eclipse\\u{1b}
it should start in about 1.5m
";
        assert_eq!(text, expected);
    }

    #[test]
    fn every_reason_of_the_contract_has_words() {
        for code in [
            "delayed",
            "queue_paused",
            "rate_limited",
            "concurrency",
            "retry_throttled",
            "ahead",
            "no_worker",
            "running",
            "finished",
        ] {
            let text = words(&json!({ "runnable": false, "reasons": [{ "code": code }] }));
            assert!(text.contains(' ') && !text.starts_with(code), "{code}: {text}");
        }
        let may = words(&json!({ "runnable": true, "reasons": [], "eta_ms": 0 }));
        assert_eq!(may, "it may run: the next worker gets it\n");
    }
}
