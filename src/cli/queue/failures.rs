//! What went wrong, and what becomes of it.

use clap::ArgMatches;

use super::{confirm, list};
use crate::cli::commands::{cell, maybe, print_json};
use crate::cli::failure::Failure;
use crate::cli::session::Session;
use crate::cli::table::{shown, table};
use crate::io::client::{Json, encoded, object};

/// Of a message in a table.
const MESSAGE_CHARS_SHOWN: usize = 100;

/// `holdfast queue failed [QUEUE]`
pub(super) fn failed(arguments: &ArgMatches) -> Result<(), Failure> {
    let queue = arguments.get_one::<String>("queue");
    let path = match queue {
        Some(queue) => format!("/v1/failures?queue={}", encoded(queue)),
        None => "/v1/failures".to_owned(),
    };
    let items = Session::open(arguments)?.all(&path)?;
    if arguments.get_flag("json") {
        print_json(&Json::from(items));
        return Ok(());
    }
    if items.is_empty() {
        eprintln!("nothing failed");
        return Ok(());
    }
    let head = ["FINGERPRINT", "COUNT", "CLASS", "FIRST", "LAST", "TYPES", "MESSAGE"];
    print!("{}", table(&head, &items.iter().map(row).collect::<Vec<_>>()));
    eprintln!("to run a group again: holdfast queue retry --fingerprint FINGERPRINT");
    Ok(())
}

fn row(item: &Json) -> Vec<String> {
    let names = ["fingerprint", "count", "class", "first_at", "last_at", "types"];
    let message = cell(&item["message"]);
    let message: String = message.chars().take(MESSAGE_CHARS_SHOWN).collect();
    names.into_iter().map(|name| cell(&item[name])).chain([message]).collect()
}

/// Which failed jobs, as the API wants it.
fn which(arguments: &ArgMatches) -> Json {
    let ids = list(arguments, "id");
    object([
        ("ids", if ids.is_empty() { Json::Null } else { Json::from(ids) }),
        ("fingerprint", maybe(arguments, "fingerprint")),
        ("queue", maybe(arguments, "queue")),
    ])
}

/// `holdfast queue retry`
pub(super) fn retry(arguments: &ArgMatches) -> Result<(), Failure> {
    let mut which = which(arguments);
    let rate = maybe(arguments, "rate");
    if !rate.is_null() {
        which["rate"] = rate;
    }
    change(arguments, ("retry", &which), ["retried", "run again"])
}

/// `holdfast queue discard`
pub(super) fn discard(arguments: &ArgMatches) -> Result<(), Failure> {
    let given = |name: &str| arguments.get_one::<String>(name);
    let (what, word) = match (given("queue"), given("fingerprint")) {
        (Some(queue), _) => (format!("all failed jobs of {}", shown(queue)), queue.clone()),
        (_, Some(group)) => (format!("all failed jobs of group {}", shown(group)), group.clone()),
        (None, None) => ("these failed jobs".to_owned(), "yes".to_owned()),
    };
    confirm(arguments, &what, &word)?;
    change(arguments, ("discard", &which(arguments)), ["discarded", "discarded"])
}

fn change(
    arguments: &ArgMatches,
    (verb, which): (&str, &Json),
    [member, done]: [&str; 2],
) -> Result<(), Failure> {
    let path = format!("/v1/failures/{verb}");
    let answer = Session::open(arguments)?.ask("POST", &path, Some(which))?;
    if arguments.get_flag("json") {
        print_json(&answer.body);
    } else {
        println!("{} {done}", cell(&answer.body[member]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::row;
    use serde_json::json;

    #[test]
    fn a_group_is_shown_on_a_line() {
        let row = row(&json!({
            "fingerprint": "f1", "class": "exit_1", "message": "x".repeat(200), "count": 7,
            "first_at": "a", "last_at": "b", "types": ["mail", "sync"]
        }));
        assert_eq!(row.join("|"), format!("f1|7|exit_1|a|b|mail,sync|{}", "x".repeat(100)));
    }
}
