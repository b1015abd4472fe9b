//! `holdfast queue push`

use std::io::Read as _;

use clap::ArgMatches;

use super::{list, path, query};
use crate::base::limits::JOB_PAYLOAD_BYTES_MAX;
use crate::cli::commands::{cell, print_json, text};
use crate::cli::failure::{FAILURE, Failure, USAGE};
use crate::cli::session::Session;
use crate::cli::table::shown;
use crate::io::client::{Body, Json};

/// `holdfast queue push QUEUE [PAYLOAD]`
pub(super) fn push(arguments: &ArgMatches) -> Result<(), Failure> {
    let body = body(arguments)?;
    let tags = list(arguments, "tag");
    if tags.iter().any(|tag| tag.contains(',')) {
        return Err(Failure::new(USAGE, "a tag has no comma; give --tag again for another one"));
    }
    let given = |name: &str| arguments.get_one::<String>(name).cloned();
    let query = query([
        ("type", given("type")),
        ("delay", given("delay")),
        ("run_at", given("run-at")),
        ("priority", given("priority")),
        ("max_tries", given("max-tries")),
        ("timeout", given("timeout")),
        ("unique", given("unique")),
        ("tags", (!tags.is_empty()).then(|| tags.join(","))),
    ]);
    let mut session = Session::open(arguments)?;
    if let Some(key) = given("idempotency-key") {
        session = session.for_once(&key)?;
    }
    let path = path(text(arguments, "queue"), &format!("/jobs{query}"));
    let answer = session.send("POST", &path, Some(body))?;
    if !matches!(answer.status, 200 | 201) {
        return Err(session.failure(answer));
    }
    let body = session.read(answer)?.body;
    if arguments.get_flag("json") {
        print_json(&body);
        return Ok(());
    }
    // The id alone on standard output, for those who ask for the job later.
    println!("{}", shown(&cell(&body["id"])));
    eprintln!("{}", became(&body));
    Ok(())
}

fn became(body: &Json) -> String {
    if body["duplicate"] == true {
        return "not pushed: this job has the unique key already".to_owned();
    }
    match body["state"].as_str() {
        Some("delayed") => format!("pushed: runs at {}", shown(&cell(&body["run_at"]))),
        _ => "pushed".to_owned(),
    }
}

/// What the job carries.
fn body(arguments: &ArgMatches) -> Result<Body, Failure> {
    let payload = payload(arguments)?;
    if let Some(kind) = arguments.get_one::<String>("raw") {
        if !kind.bytes().all(|byte| (b' '..=b'~').contains(&byte)) || kind.is_empty() {
            return Err(Failure::new(USAGE, "--raw is a type, such as text/plain"));
        }
        return Ok(Body { content_type: kind.clone(), bytes: payload.into() });
    }
    let json = std::str::from_utf8(&payload).ok().filter(|text| text.parse::<Json>().is_ok());
    let Some(json) = json else {
        let text = "the payload is no JSON; quote a text within it ('\"hello\"'), or push it as it is with \
                    --raw text/plain";
        return Err(Failure::new(USAGE, text));
    };
    Ok(Body::json_text(json.to_owned()))
}

/// Its bytes, as many as a payload may have and one more: the server says what is too large.
fn payload(arguments: &ArgMatches) -> Result<Vec<u8>, Failure> {
    let most = JOB_PAYLOAD_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if let Some(file) = arguments.get_one::<String>("file") {
        let read =
            std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes));
        read.map_err(|e| Failure::new(FAILURE, format!("{file} cannot be read: {e}")))?;
        return whole(bytes);
    }
    if let Some(payload) = arguments.get_one::<String>("payload").filter(|payload| *payload != "-")
    {
        return Ok(payload.as_bytes().to_vec());
    }
    std::io::stdin().take(most).read_to_end(&mut bytes)?;
    whole(bytes)
}

/// What was cut off would not be JSON any more, and that is not what is wrong with it.
fn whole(bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if JOB_PAYLOAD_BYTES_MAX < bytes.len() {
        let text = format!(
            "the payload is too large: a job carries at most {JOB_PAYLOAD_BYTES_MAX} bytes; put it elsewhere \
             and push where it is"
        );
        return Err(Failure::new(FAILURE, text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::became;
    use serde_json::json;

    #[test]
    fn what_became_of_a_push_is_told() {
        let told = |body| became(&body);
        assert_eq!(told(json!({ "id": "j", "state": "waiting" })), "pushed");
        let delayed =
            json!({ "id": "j", "state": "delayed", "run_at": "2026-11-20T12:00:00.000Z" });
        assert_eq!(told(delayed), "pushed: runs at 2026-11-20T12:00:00.000Z");
        assert!(told(json!({ "id": "j", "duplicate": true })).starts_with("not pushed"));
    }
}
