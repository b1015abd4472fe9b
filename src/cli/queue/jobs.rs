//! Single jobs: looking at those that wait, finding them, waiting for them, cancelling them.

use std::io::Write as _;
use std::time::Duration;

use clap::ArgMatches;

use super::query;
use crate::base::human::format_duration;
use crate::base::limits::{LIST_MAX, WAIT_MAX};
use crate::cli::commands::{cell, print_json, text};
use crate::cli::failure::{FAILURE, Failure, USAGE};
use crate::cli::session::Session;
use crate::cli::table::{lines, shown, table};
use crate::cli::work::duration;
use crate::io::client::{Answer, Json, encoded};

/// Of a payload that is shown in a table.
const PAYLOAD_CHARS_SHOWN: usize = 80;

/// How many of a list.
fn limit(arguments: &ArgMatches) -> Result<usize, Failure> {
    let given = text(arguments, "limit").parse::<usize>().ok();
    let fit = given.filter(|limit| (1..=LIST_MAX).contains(limit));
    fit.ok_or_else(|| Failure::new(USAGE, format!("--limit is a number from 1 to {LIST_MAX}")))
}

/// `holdfast queue peek QUEUE`
pub(super) fn peek(arguments: &ArgMatches) -> Result<(), Failure> {
    let payload = arguments.get_flag("payload");
    let query = query([
        ("queue", Some(text(arguments, "queue").to_owned())),
        ("state", Some("waiting".to_owned())),
        ("limit", Some(limit(arguments)?.to_string())),
        ("fields", payload.then(|| "payload".to_owned())),
    ]);
    let path = format!("/v1/jobs{query}");
    let answer = Session::open(arguments)?.ask("GET", &path, None)?;
    if arguments.get_flag("json") {
        print_json(&answer.body);
        return Ok(());
    }
    let mut head = vec!["ID", "TYPE", "PRIORITY", "CREATED", "ATTEMPT", "TAGS"];
    let columns = ["id", "type", "priority", "created_at", "attempt", "tags"];
    head.extend(payload.then_some("PAYLOAD"));
    let items = answer.body["items"].as_array().map_or(&[][..], Vec::as_slice);
    let row = |item: &Json| {
        let cells = columns.iter().map(|column| cell(&item[*column]));
        cells.chain(payload.then(|| payload_of(item))).collect::<Vec<_>>()
    };
    print!("{}", table(&head, &items.iter().map(row).collect::<Vec<_>>()));
    if answer.body["next"].is_string() {
        eprintln!("there are more; add --limit N, at most {LIST_MAX}");
    }
    Ok(())
}

/// The beginning of what a job carries.
fn payload_of(item: &Json) -> String {
    let text = match (item.get("payload"), item["payload_base64"].as_str()) {
        (Some(json), _) => json.to_string(),
        (None, Some(bytes)) => format!("{} {bytes}", cell(&item["content_type"])),
        (None, None) => return "-".to_owned(),
    };
    match text.char_indices().nth(PAYLOAD_CHARS_SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// `holdfast queue search`
pub(super) fn search(arguments: &ArgMatches) -> Result<(), Failure> {
    let given = |name: &str| arguments.get_one::<String>(name).cloned();
    let all = arguments.get_flag("all");
    let limit = if all { None } else { Some(limit(arguments)?.to_string()) };
    let query = query([
        ("queue", given("queue")),
        ("state", given("state")),
        ("type", given("type")),
        ("tag", given("tag")),
        ("q", given("text")),
        ("from", given("from")),
        ("to", given("to")),
        ("limit", limit),
    ]);
    let path = format!("/v1/jobs{query}");
    let session = Session::open(arguments)?;
    let mut out = Listing { json: arguments.get_flag("json"), printed: 0 };
    if all {
        session.pages(&path, &mut |page| Ok(out.print(page)?))?;
        return Ok(out.end()?);
    }
    let answer = session.ask("GET", &path, None)?;
    if out.json {
        print_json(&answer.body);
        return Ok(());
    }
    out.print(answer.body["items"].as_array().map_or(&[][..], Vec::as_slice))?;
    out.end()?;
    if answer.body["next"].is_string() {
        eprintln!("there are more; for all of them add --all");
    }
    Ok(())
}

/// Jobs as they come, page by page: there may be more of them than fit into memory.
struct Listing {
    json: bool,
    printed: usize,
}

impl Listing {
    /// Whoever reads it may have seen enough before the end: that is an error like others.
    fn print(&mut self, page: &[Json]) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        // One head is enough.
        let skip = usize::from(0 < self.printed);
        if self.json {
            for item in page {
                write!(out, "{}\n{item}", if self.printed == 0 { "[" } else { "," })?;
                self.printed += 1;
            }
            return Ok(());
        }
        let head = ["ID", "QUEUE", "TYPE", "STATE", "CREATED", "FINISHED", "ATTEMPT", "LAST ERROR"];
        let text = table(&head, &page.iter().map(found_row).collect::<Vec<_>>());
        for line in text.lines().skip(skip) {
            writeln!(out, "{line}")?;
        }
        self.printed += page.len();
        Ok(())
    }

    fn end(&self) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        match (self.json, self.printed) {
            (true, 0) => writeln!(out, "[]")?,
            (true, _) => writeln!(out, "\n]")?,
            (false, 0) => eprintln!("no job is like that"),
            (false, _) => {}
        }
        out.flush()
    }
}

fn found_row(item: &Json) -> Vec<String> {
    let plain = |name: &str| cell(&item[name]);
    let error = &item["last_error"];
    let error = match (error["class"].as_str(), error["message"].as_str()) {
        (Some(class), Some(message)) => format!("{class}: {message}"),
        _ => cell(error),
    };
    let error: String = error.chars().take(PAYLOAD_CHARS_SHOWN).collect();
    let names = ["id", "queue", "type", "state", "created_at", "finished_at", "attempt"];
    names.into_iter().map(plain).chain([error]).collect()
}

/// `holdfast queue job ID`
pub(super) fn job(arguments: &ArgMatches) -> Result<(), Failure> {
    let wait = duration(arguments, "wait")?;
    let path = format!("/v1/jobs/{}", encoded(text(arguments, "id")));
    let session = Session::open(arguments)?;
    let answer = match wait {
        Some(wait) => job_after(&session, &path, wait)?,
        None => session.ask("GET", &path, None)?,
    };
    if arguments.get_flag("json") {
        print_json(&answer.body);
    } else {
        print!("{}", lines(&answer.body));
    }
    match answer.body["state"].as_str() {
        Some("done") => Ok(()),
        Some(state) if wait.is_some() => {
            let why = if is_finished(state) { "it is" } else { "it has not ended, it is" };
            Err(Failure::new(FAILURE, format!("{why} {}", shown(state))))
        }
        Some(_) | None => Ok(()),
    }
}

fn is_finished(state: &str) -> bool {
    matches!(state, "done" | "failed" | "cancelled")
}

/// Waits in pieces that the server allows.
fn job_after(session: &Session, path: &str, wait: Duration) -> Result<Answer, Failure> {
    let mut left = wait;
    loop {
        let piece = left.min(WAIT_MAX);
        let path = format!("{path}?wait={}", format_duration(piece));
        let answer = session.ask("GET", &path, None)?;
        left -= piece;
        if left.is_zero() || answer.body["state"].as_str().is_none_or(is_finished) {
            return Ok(answer);
        }
    }
}

/// `holdfast queue cancel ID`
pub(super) fn cancel(arguments: &ArgMatches) -> Result<(), Failure> {
    let id = text(arguments, "id");
    let path = format!("/v1/jobs/{}", encoded(id));
    let answer = Session::open(arguments)?.ask("DELETE", &path, None)?;
    if answer.status == 202 {
        eprintln!(
            "it runs; its worker is told to stop it. To see its end: holdfast queue job {} --wait 1m",
            shown(id)
        );
    } else {
        eprintln!("cancelled: {}", shown(id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{found_row, payload_of};
    use serde_json::json;

    #[test]
    fn a_payload_is_shown_in_part() {
        assert_eq!(payload_of(&json!({ "payload": null })), "null");
        assert_eq!(payload_of(&json!({})), "-");
        let bytes = json!({ "payload_base64": "AAA=", "content_type": "image/png" });
        assert_eq!(payload_of(&bytes), "image/png AAA=");
        let long = payload_of(&json!({ "payload": "\u{e4}".repeat(200) }));
        assert_eq!(long.chars().count(), 83, "{long}");
    }

    #[test]
    fn what_is_found_has_its_error_on_the_line() {
        let row = found_row(&json!({
            "id": "j", "queue": "q", "type": "t", "state": "failed", "created_at": "c",
            "finished_at": "f", "attempt": 3, "last_error": { "class": "exit_1", "message": "no" }
        }));
        assert_eq!(row.join("|"), "j|q|t|failed|c|f|3|exit_1: no");
        assert_eq!(found_row(&json!({ "id": "j" })).join("|"), "j|-|-|-|-|-|-|-");
    }
}
