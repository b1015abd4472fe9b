//! `holdfast queue`: pushing, looking at, steering and searching jobs.

mod capacity;
mod failures;
mod jobs;
mod look;
mod monitor;
mod push;
mod reasons;

use std::io::{BufRead as _, IsTerminal as _};

use clap::ArgMatches;

use super::commands::{cell, print_json, text};
use super::failure::{FAILURE, Failure, USAGE};
use super::session::Session;
use super::table::shown;
use crate::io::client::{Json, encoded, object};

/// `holdfast queue ...`
pub(super) fn queue(arguments: &ArgMatches) -> Result<(), Failure> {
    match arguments.subcommand() {
        Some(("push", arguments)) => push::push(arguments),
        Some(("list", arguments)) => look::list(arguments),
        Some(("show", arguments)) => look::show(arguments),
        Some(("workers", arguments)) => look::workers(arguments),
        Some(("monitor", arguments)) => monitor::monitor(arguments),
        Some(("capacity", arguments)) => capacity::capacity(arguments),
        Some(("peek", arguments)) => jobs::peek(arguments),
        Some(("search", arguments)) => jobs::search(arguments),
        Some(("job", arguments)) => jobs::job(arguments),
        Some(("cancel", arguments)) => jobs::cancel(arguments),
        Some(("why", arguments)) => reasons::why(arguments),
        Some(("failed", arguments)) => failures::failed(arguments),
        Some(("retry", arguments)) => failures::retry(arguments),
        Some(("discard", arguments)) => failures::discard(arguments),
        Some((verb @ ("pause" | "resume" | "restart"), arguments)) => steer(arguments, verb),
        Some(("clear", arguments)) => clear(arguments),
        Some(("set", arguments)) => set(arguments),
        Some(_) | None => unreachable!("BUG: the parser knows no other command"),
    }
}

/// The path of a call on a queue.
fn path(queue: &str, verb: &str) -> String {
    format!("/v1/queues/{}{verb}", encoded(queue))
}

/// Everything that is given for an option.
fn list(arguments: &ArgMatches, name: &str) -> Vec<String> {
    arguments.get_many::<String>(name).into_iter().flatten().cloned().collect()
}

/// Puts a query together of what is given.
fn query(pairs: impl IntoIterator<Item = (&'static str, Option<String>)>) -> String {
    let given = pairs.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let pairs: Vec<String> =
        given.map(|(name, value)| format!("{name}={}", encoded(&value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

fn steer(arguments: &ArgMatches, verb: &str) -> Result<(), Failure> {
    let name = text(arguments, "queue");
    let path = path(name, &format!("/{verb}"));
    Session::open(arguments)?.ask("POST", &path, None)?;
    let name = shown(name);
    match verb {
        "pause" => eprintln!("paused: {name}; to go on: holdfast queue resume {name}"),
        "resume" => eprintln!("resumed: {name}"),
        _ => eprintln!("told: the workers of {name} end when they are heard of next"),
    }
    Ok(())
}

/// Asks whether something is to be removed, unless that was said; a terminal can be asked.
fn confirm(arguments: &ArgMatches, what: &str, word: &str) -> Result<(), Failure> {
    if arguments.get_flag("yes") {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            USAGE,
            format!("this removes {what} for good; to do it, add: --yes"),
        ));
    }
    eprintln!("this removes {what} for good; type {} to go on:", shown(word));
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let same = line.trim() == word;
    if same { Ok(()) } else { Err(Failure::new(FAILURE, "that is not it; nothing was removed")) }
}

/// `holdfast queue clear QUEUE`
fn clear(arguments: &ArgMatches) -> Result<(), Failure> {
    let name = text(arguments, "queue");
    let states = list(arguments, "state");
    let which = if states.is_empty() { "waiting".to_owned() } else { states.join(" and ") };
    confirm(arguments, &format!("all {which} jobs of {}", shown(name)), name)?;
    let states = if states.is_empty() { Json::Null } else { Json::from(states) };
    let body = object([("confirm", Json::from(name)), ("states", states)]);
    let answer = Session::open(arguments)?.ask("POST", &path(name, "/clear"), Some(&body))?;
    if arguments.get_flag("json") {
        print_json(&answer.body);
        return Ok(());
    }
    println!("{} removed", cell(&answer.body["cleared"]));
    Ok(())
}

/// `holdfast queue set QUEUE KEY=VALUE...`
fn set(arguments: &ArgMatches) -> Result<(), Failure> {
    let name = text(arguments, "queue");
    let patch = patch(&list(arguments, "setting"))?;
    let answer = Session::open(arguments)?.ask("PATCH", &path(name, ""), Some(&patch))?;
    if arguments.get_flag("json") {
        print_json(&answer.body);
    } else {
        eprintln!("set: {}; to see it: holdfast queue show {}", shown(name), shown(name));
    }
    Ok(())
}

/// The merge patch that such settings make.
fn patch(settings: &[String]) -> Result<Json, Failure> {
    let mut patch = object([]);
    for setting in settings {
        let usage = |why: &str| {
            Failure::new(USAGE, format!("{setting:?} {why}; a setting looks like timeout=30s"))
        };
        let (key, value) = setting.split_once('=').ok_or_else(|| usage("has no ="))?;
        let parts: Vec<&str> = key.split('.').collect();
        let value = setting_value(value).ok_or_else(|| usage("has a value that is no JSON"))?;
        match parts.as_slice() {
            [name] if !name.is_empty() && patch[*name].is_null() => patch[*name] = value,
            [name, inner] if !name.is_empty() && !inner.is_empty() => {
                let group = &mut patch[*name];
                if group.is_null() {
                    *group = object([]);
                }
                if !group.is_object() || group.get(*inner).is_some() {
                    return Err(usage("is there twice"));
                }
                group[*inner] = value;
            }
            [_] => return Err(usage("is there twice, or has no name")),
            _ => return Err(usage("has no such name")),
        }
    }
    Ok(patch)
}

/// A value as somebody types it: `default` is null, what looks like JSON is JSON, anything else a text.
fn setting_value(text: &str) -> Option<Json> {
    match text {
        "default" => Some(Json::Null),
        "true" | "false" => Some(Json::from(text == "true")),
        _ if text.starts_with(['{', '[', '"']) => text.parse().ok(),
        _ => {
            let number = text.parse::<u64>().ok().map(Json::from);
            Some(number.unwrap_or_else(|| Json::from(text)))
        }
    }
}

/// A length of time in a member that counts milliseconds, as people read it.
fn time(ms: &Json) -> String {
    let Some(ms) = ms.as_f64() else { return cell(ms) };
    // Few digits: nobody needs to know more.
    match ms {
        ms if ms < 10.0 => format!("{ms:.1}ms"),
        ms if ms < 1000.0 => format!("{ms:.0}ms"),
        ms if ms < 60_000.0 => format!("{:.1}s", ms / 1000.0),
        ms if ms < 3_600_000.0 => format!("{:.1}m", ms / 60_000.0),
        ms if ms < 86_400_000.0 => format!("{:.1}h", ms / 3_600_000.0),
        ms => format!("{:.1}d", ms / 86_400_000.0),
    }
}

/// A ratio as people read it.
fn percent(ratio: &Json) -> String {
    ratio.as_f64().map_or("-".to_owned(), |ratio| format!("{:.1}%", ratio * 100.0))
}

#[cfg(test)]
mod tests {
    use super::{patch, query, time};
    use serde_json::json;

    fn made(settings: &[&str]) -> Result<String, String> {
        let settings: Vec<String> = settings.iter().map(|text| (*text).to_owned()).collect();
        patch(&settings).map(|patch| patch.to_string()).map_err(|failure| failure.text)
    }

    #[test]
    fn settings_are_a_merge_patch() {
        let settings = [
            "paused=true",
            "max_tries=5",
            "rate=20/s",
            "timeout=default",
            "retention.done=7d",
            "retention.rows=default",
            "backoff={\"kind\":\"fixed\",\"base\":\"5s\"}",
        ];
        let expected = json!({
            "paused": true, "max_tries": 5, "rate": "20/s", "timeout": null,
            "retention": { "done": "7d", "rows": null }, "backoff": { "kind": "fixed", "base": "5s" }
        });
        assert_eq!(made(&settings), Ok(expected.to_string()));
    }

    #[test]
    fn a_setting_that_is_none_says_why() {
        for (settings, why) in [
            (&["timeout"][..], "has no ="),
            (&["=3"], "no name"),
            (&["a=1", "a=2"], "twice"),
            (&["a=1", "a.b=2"], "twice"),
            (&["a.b=1", "a.b=2"], "twice"),
            (&["a.b.c=1"], "no such name"),
            (&["a.=1"], "no such name"),
            (&["backoff={"], "no JSON"),
        ] {
            let told = made(settings).unwrap_err();
            assert!(told.contains(why) && told.contains("timeout=30s"), "{settings:?}: {told}");
        }
    }

    #[test]
    fn times_have_few_digits() {
        let text = |ms: f64| time(&json!(ms));
        assert_eq!([0.25, 9.96, 12.0, 999.0].map(text), ["0.2ms", "10.0ms", "12ms", "999ms"]);
        assert_eq!(
            [1000.0, 90_000.0, 5_400_000.0, 9e8].map(text),
            ["1.0s", "1.5m", "1.5h", "10.4d"]
        );
        assert_eq!(time(&json!(null)), "-");
    }

    #[test]
    fn a_query_is_made_of_what_is_given() {
        assert_eq!(query([("a", None)]), "");
        assert_eq!(query([("a", Some("x y".to_owned())), ("b", None)]), "?a=x%20y");
    }
}
