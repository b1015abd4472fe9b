//! `holdfast cache`: single entries, forgetting, figures. Filling it is in [`super::warm`].

use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::ArgMatches;

use super::commands::{cell, maybe, print_json, text};
use super::failure::{FAILURE, Failure, USAGE};
use super::session::Session;
use super::table::{bytes, shown, table};
use super::warm;
use crate::base::limits::CACHE_VALUE_BYTES_MAX;
use crate::cache::entry::{ContentType, OCTETS};
use crate::io::client::{Body, Json, encoded, object};

/// `holdfast cache ...`
pub(super) fn cache(arguments: &ArgMatches) -> Result<(), Failure> {
    match arguments.subcommand() {
        Some(("get", arguments)) => get(arguments),
        Some(("put", arguments)) => put(arguments),
        Some(("delete", arguments)) => delete(arguments),
        Some(("forget", arguments)) => forget(arguments),
        Some(("stats", arguments)) => stats(arguments),
        Some(("warm", arguments)) => warm::warm(arguments),
        Some(_) | None => unreachable!("BUG: the parser knows no other command"),
    }
}

/// The path of a call on a namespace.
fn call(arguments: &ArgMatches, name: &str) -> String {
    format!("/v1/cache/{}/{name}", encoded(text(arguments, "namespace")))
}

/// The path of a key; nothing for one that proxies rewrite: it goes in a body.
fn key_path(arguments: &ArgMatches) -> Option<String> {
    let key = text(arguments, "key");
    let fit = key.split('/').all(|part| !matches!(part, "" | "." | ".."));
    fit.then(|| format!("{}/{}", call(arguments, "keys"), encoded(key)))
}

fn missing(arguments: &ArgMatches) -> Failure {
    let (namespace, key) = (text(arguments, "namespace"), text(arguments, "key"));
    Failure::new(FAILURE, format!("{} is not in {}", shown(key), shown(namespace)))
}

/// `holdfast cache get NAMESPACE KEY`
fn get(arguments: &ArgMatches) -> Result<(), Failure> {
    let session = Session::open(arguments)?;
    let value = match key_path(arguments) {
        Some(path) => get_by_path(&session, &path)?,
        None => get_by_body(arguments, &session)?,
    };
    let value = value.ok_or_else(|| missing(arguments))?;
    match arguments.get_one::<String>("out") {
        Some(path) => std::fs::write(path, value)
            .map_err(|error| Failure::new(FAILURE, format!("{path} cannot be written: {error}"))),
        None => Ok(std::io::stdout().write_all(&value)?),
    }
}

fn get_by_path(session: &Session, path: &str) -> Result<Option<Vec<u8>>, Failure> {
    let answer = session.send("GET", path, None)?;
    match answer.status {
        200 => Ok(Some(answer.body.to_vec())),
        404 => {
            let answer = session.read(answer)?;
            let is_miss = answer.body["code"] == "cache_miss";
            if is_miss { Ok(None) } else { Err(Failure::from_answer(&answer)) }
        }
        _ => Err(session.failure(answer)),
    }
}

fn get_by_body(arguments: &ArgMatches, session: &Session) -> Result<Option<Vec<u8>>, Failure> {
    let key = text(arguments, "key");
    let body = object([("keys", Json::from(vec![key]))]);
    let answer = session.ask("POST", &call(arguments, "get"), Some(&body))?;
    let entry = &answer.body["entries"][key];
    let Some(value) = entry["value"].as_str() else { return Ok(None) };
    if entry["encoding"] != "base64" {
        return Ok(Some(value.as_bytes().to_vec()));
    }
    let odd = |_| Failure::new(FAILURE, "the server sent a value that is not base64");
    BASE64.decode(value).map(Some).map_err(odd)
}

/// `holdfast cache put NAMESPACE KEY [VALUE]`
fn put(arguments: &ArgMatches) -> Result<(), Failure> {
    let given = arguments.get_one::<String>("value").filter(|value| *value != "-");
    let value = match given {
        Some(value) => value.as_bytes().to_vec(),
        None => read_value()?,
    };
    let usual = if given.is_some() { ContentType::TEXT.as_str() } else { OCTETS };
    let kind = arguments.get_one::<String>("type").map_or(usual, String::as_str);
    let tags: Vec<&str> =
        arguments.get_many::<String>("tags").into_iter().flatten().map(String::as_str).collect();
    let session = Session::open(arguments)?;
    let Some(path) = key_path(arguments) else {
        return put_by_body(arguments, &session, &value, (kind, &tags));
    };
    let mut query: Vec<String> = Vec::new();
    for name in ["ttl", "stale", "if"] {
        if let Some(value) = arguments.get_one::<String>(name) {
            query.push(format!("{name}={}", encoded(value)));
        }
    }
    if !tags.is_empty() {
        query.push(format!("tags={}", encoded(&tags.join(","))));
    }
    let path = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
    let body = Body { content_type: kind.to_owned(), bytes: value.into() };
    let answer = session.send("PUT", &path, Some(body))?;
    match answer.status {
        201 => eprintln!("new"),
        200 => eprintln!("replaced"),
        _ => return Err(session.failure(answer)),
    }
    Ok(())
}

fn put_by_body(
    arguments: &ArgMatches,
    session: &Session,
    value: &[u8],
    (kind, tags): (&str, &[&str]),
) -> Result<(), Failure> {
    if arguments.contains_id("if") {
        let text = "a key with an empty part, with . or .., goes with others in a body, where there is \
                    no --if";
        return Err(Failure::new(USAGE, text));
    }
    let entry = object([
        ("key", Json::from(text(arguments, "key"))),
        ("value", Json::from(BASE64.encode(value))),
        ("encoding", Json::from("base64")),
        ("content_type", Json::from(kind)),
        ("ttl", maybe(arguments, "ttl")),
        ("stale", maybe(arguments, "stale")),
        ("tags", Json::from(tags)),
    ]);
    let body = object([("entries", Json::from(vec![entry]))]);
    session.ask("POST", &call(arguments, "put"), Some(&body))?;
    eprintln!("stored");
    Ok(())
}

/// Standard input, as much as a value may have and a little more: the server says what is too large.
fn read_value() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    let most = CACHE_VALUE_BYTES_MAX as u64 + 1;
    std::io::stdin().take(most).read_to_end(&mut value)?;
    Ok(value)
}

/// `holdfast cache delete NAMESPACE KEY`
fn delete(arguments: &ArgMatches) -> Result<(), Failure> {
    let session = Session::open(arguments)?;
    let gone = if let Some(path) = key_path(arguments) {
        let answer = session.send("DELETE", &path, None)?;
        let gone = answer.status == 204;
        if !gone {
            let answer = session.read(answer)?;
            if answer.body["code"] != "cache_miss" {
                return Err(Failure::from_answer(&answer));
            }
        }
        gone
    } else {
        let body = object([("keys", Json::from(vec![text(arguments, "key")]))]);
        let answer = session.ask("POST", &call(arguments, "forget"), Some(&body))?;
        answer.body["forgotten"] == 1
    };
    if !gone {
        return Err(missing(arguments));
    }
    eprintln!("deleted");
    Ok(())
}

/// `holdfast cache forget NAMESPACE ...`
fn forget(arguments: &ArgMatches) -> Result<(), Failure> {
    let list = |name: &str| {
        let given = arguments.get_many::<String>(name)?;
        Some(Json::from(given.map(String::as_str).collect::<Vec<_>>()))
    };
    let dry_run = arguments.get_flag("dry-run");
    let body = object([
        ("keys", list("key").unwrap_or_default()),
        ("tags", list("tag").unwrap_or_default()),
        ("prefix", maybe(arguments, "prefix")),
        ("pattern", maybe(arguments, "pattern")),
        ("all", if arguments.get_flag("all") { Json::from(true) } else { Json::Null }),
        ("dry_run", if dry_run { Json::from(true) } else { Json::Null }),
    ]);
    let session = Session::open(arguments)?;
    let answer = session.ask("POST", &call(arguments, "forget"), Some(&body))?;
    if arguments.get_flag("json") {
        print_json(&answer.body);
        return Ok(());
    }
    let count = cell(&answer.body["forgotten"]);
    println!("{count} {}", if dry_run { "would be forgotten" } else { "forgotten" });
    Ok(())
}

/// `holdfast cache stats [NAMESPACE]`
fn stats(arguments: &ArgMatches) -> Result<(), Failure> {
    let session = Session::open(arguments)?;
    let (items, one) = match arguments.get_one::<String>("namespace") {
        Some(name) => {
            let path = format!("/v1/cache/{}", encoded(name));
            (vec![session.ask("GET", &path, None)?.body], true)
        }
        None => (session.all("/v1/cache")?, false),
    };
    if arguments.get_flag("json") {
        let all =
            if one { items.into_iter().next().unwrap_or_default() } else { Json::from(items) };
        print_json(&all);
        return Ok(());
    }
    let head = [
        "NAMESPACE",
        "ENTRIES",
        "SIZE",
        "OF",
        "KEPT",
        "HITS",
        "MISSES",
        "HIT RATE",
        "STALE",
        "COALESCED",
        "EVICTED",
        "EXPIRED",
    ];
    print!("{}", table(&head, &items.iter().map(stats_row).collect::<Vec<_>>()));
    Ok(())
}

fn stats_row(item: &Json) -> Vec<String> {
    let size = |name: &str| item[name].as_u64().map_or("-".to_owned(), bytes);
    let plain = |name: &str| cell(&item[name]);
    let rate = item["hit_rate"].as_f64().map(|rate| format!("{:.1}%", rate * 100.0));
    let kept = if item["kept"] == true { "yes" } else { "no" };
    vec![
        plain("namespace"),
        plain("entries"),
        size("bytes"),
        size("bytes_max"),
        kept.to_owned(),
        plain("hits"),
        plain("misses"),
        rate.unwrap_or_else(|| "-".to_owned()),
        plain("stale_served"),
        plain("coalesced"),
        plain("evicted"),
        plain("expired"),
    ]
}

#[cfg(test)]
mod tests {
    use super::stats_row;
    use serde_json::json;

    #[test]
    fn figures_are_shown_as_people_read_them() {
        let row = stats_row(&json!({
            "namespace": "pages", "entries": 3, "bytes": 1536, "bytes_max": 5 << 20, "kept": false,
            "hits": 2, "misses": 1, "hit_rate": 2.0 / 3.0, "stale_served": 0, "coalesced": 0,
            "evicted": 0, "expired": 7
        }));
        let text = "pages|3|1.5 KiB|5.0 MiB|no|2|1|66.7%|0|0|0|7";
        assert_eq!(row.join("|"), text);
        let unread = stats_row(&json!({ "namespace": "x", "kept": true, "hit_rate": null }));
        assert_eq!(unread[4..8], ["yes", "-", "-", "-"]);
    }
}
