//! `holdfast schedule`: jobs that are pushed again and again.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::ArgMatches;

use super::commands::{cell, maybe, print_json, text};
use super::failure::Failure;
use super::session::Session;
use super::table::{lines, shown, table};
use crate::base::human::format_duration;
use crate::io::client::{Json, encoded, object};

/// `holdfast schedule ...`
pub(super) fn schedule(arguments: &ArgMatches) -> Result<(), Failure> {
    match arguments.subcommand() {
        Some(("put", arguments)) => put(arguments),
        Some(("list", arguments)) => list(arguments),
        Some(("show", arguments)) => {
            let answer = Session::open(arguments)?.ask("GET", &path(arguments), None)?;
            if arguments.get_flag("json") {
                print_json(&answer.body);
            } else {
                print!("{}", lines(&answer.body));
            }
            Ok(())
        }
        Some(("delete", arguments)) => {
            Session::open(arguments)?.ask("DELETE", &path(arguments), None)?;
            eprintln!("deleted: {}", shown(text(arguments, "name")));
            Ok(())
        }
        Some(_) | None => unreachable!("BUG: the parser knows no other command"),
    }
}

fn path(arguments: &ArgMatches) -> String {
    format!("/v1/schedules/{}", encoded(text(arguments, "name")))
}

/// `holdfast schedule put NAME`
fn put(arguments: &ArgMatches) -> Result<(), Failure> {
    let mut job = payload(arguments.get_one::<String>("payload").map_or("null", String::as_str));
    job["queue"] = Json::from(text(arguments, "queue"));
    if let Some(kind) = arguments.get_one::<String>("type") {
        job["type"] = Json::from(kind.as_str());
    }
    let body = object([
        ("cron", maybe(arguments, "cron")),
        ("every", maybe(arguments, "every")),
        ("timezone", maybe(arguments, "timezone")),
        ("overlap", maybe(arguments, "overlap")),
        ("catch_up", maybe(arguments, "catch-up")),
        ("jitter", maybe(arguments, "jitter")),
        ("job", job),
    ]);
    let answer = Session::open(arguments)?.ask("PUT", &path(arguments), Some(&body))?;
    if arguments.get_flag("json") {
        print_json(&answer.body);
        return Ok(());
    }
    let next = answer.body["next_at"].as_str();
    let next = next.map_or(String::new(), |next| format!("; next at {}", shown(next)));
    eprintln!("put: {}{next}", shown(text(arguments, "name")));
    Ok(())
}

/// What the job carries: JSON as JSON, and anything else as the text it is.
fn payload(text: &str) -> Json {
    match text.parse::<Json>() {
        Ok(payload) => {
            // Null is a payload too; a member that is null would be left out.
            let mut job = object([]);
            job["payload"] = payload;
            job
        }
        Err(_) => object([
            ("payload_base64", Json::from(BASE64.encode(text))),
            ("content_type", Json::from("text/plain; charset=utf-8")),
        ]),
    }
}

/// `holdfast schedule list`
fn list(arguments: &ArgMatches) -> Result<(), Failure> {
    let items = Session::open(arguments)?.all("/v1/schedules")?;
    if arguments.get_flag("json") {
        print_json(&Json::from(items));
        return Ok(());
    }
    let head = ["NAME", "WHEN", "TIME ZONE", "QUEUE", "TYPE", "NEXT", "LAST"];
    print!("{}", table(&head, &items.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}

fn row(item: &Json) -> Vec<String> {
    let when = match item["every_ms"].as_u64().map(Duration::from_millis) {
        Some(every) => format!("every {}", format_duration(every)),
        None => cell(&item["cron"]),
    };
    let job = &item["job"];
    vec![
        cell(&item["name"]),
        when,
        cell(&item["timezone"]),
        cell(&job["queue"]),
        cell(&job["type"]),
        cell(&item["next_at"]),
        cell(&item["last_pushed_at"]),
    ]
}

#[cfg(test)]
mod tests {
    use super::{payload, row};
    use serde_json::json;

    #[test]
    fn a_payload_is_json_or_a_text() {
        assert_eq!(payload("{\"a\":1}"), json!({ "payload": { "a": 1 } }));
        assert_eq!(payload("null"), json!({ "payload": null }));
        let text =
            json!({ "payload_base64": "aGVsbG8=", "content_type": "text/plain; charset=utf-8" });
        assert_eq!(payload("hello"), text);
    }

    #[test]
    fn a_schedule_is_shown_on_a_line() {
        let cron = json!({
            "name": "nightly", "cron": "0 3 * * *", "timezone": "UTC", "next_at": "n",
            "last_pushed_at": "l", "job": { "queue": "q", "type": "t" }
        });
        assert_eq!(row(&cron).join("|"), "nightly|0 3 * * *|UTC|q|t|n|l");
        let every = json!({ "name": "n", "every_ms": 300_000, "job": { "queue": "q" } });
        assert_eq!(row(&every).join("|"), "n|every 5m|-|q|-|-|-");
    }
}
