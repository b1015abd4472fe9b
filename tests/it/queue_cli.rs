//! `holdfast queue` and `holdfast schedule` against a stand-in: what they ask for and what they show.

use serde_json::{Value, json};

use crate::stand_in::{Call, StandIn};
use crate::support::{Ran, finish};

fn on(server: &StandIn, arguments: &[&str], input: &str) -> Ran {
    finish(server.command(arguments), input)
}

/// Runs a command that has to end well; gives what it printed and the call it made.
#[track_caller]
fn well(server: &StandIn, arguments: &[&str]) -> (Ran, Call) {
    let ran = on(server, arguments, "");
    assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
    (ran, server.calls("").pop().unwrap())
}

#[track_caller]
fn refused(server: &StandIn, arguments: &[&str], code: i32, told: &str) {
    let before = server.calls("").len();
    let ran = on(server, arguments, "");
    assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{arguments:?}: {ran:?}");
    assert!(ran.err.contains(told), "{arguments:?}: {}", ran.err);
    assert_eq!(server.calls("").len(), before, "{arguments:?}: nothing was asked");
}

#[test]
fn a_job_is_pushed_with_all_that_is_said_about_it() {
    let server = StandIn::start();
    let job = json!({ "id": "j1", "queue": "mail", "state": "waiting", "run_at": "t" });
    server.say("POST /v1/queues/", 10, 201, job);
    let payload = r#"{ "to":1.0 }"#;
    let (ran, call) = well(&server, &["queue", "push", "mail", payload]);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("j1\n", "pushed\n"));
    assert_eq!(call.line, "POST /v1/queues/mail/jobs");
    assert_eq!(call.body, payload.as_bytes(), "byte for byte");
    assert!(call.headers.contains(&"content-type: application/json".to_owned()), "{call:?}");

    let arguments = [
        "queue",
        "push",
        "a/b",
        "1",
        "--type",
        "t",
        "--delay",
        "5m",
        "--priority",
        "high",
        "--max-tries",
        "3",
        "--timeout",
        "30s",
        "--unique",
        "k 1",
        "--tag",
        "x",
        "--tag",
        "y",
        "--idempotency-key",
        "i-1",
    ];
    let (_, call) = well(&server, &arguments);
    let expected = "POST /v1/queues/a%2Fb/jobs?type=t&delay=5m&priority=high&max_tries=3&timeout=30s\
                    &unique=k%201&tags=x%2Cy";
    assert_eq!(call.line, expected);
    assert!(call.headers.contains(&"idempotency-key: i-1".to_owned()), "{call:?}");
    let (_, call) = well(&server, &["queue", "push", "mail", "-7", "--run-at", "+10m"]);
    assert_eq!(
        (call.line.as_str(), call.body.as_slice()),
        ("POST /v1/queues/mail/jobs?run_at=%2B10m", &b"-7"[..])
    );

    let file = server.folder.path().join("payload");
    std::fs::write(&file, [0, 255, 10]).unwrap();
    let file = file.to_str().unwrap();
    let (_, call) = well(&server, &["queue", "push", "mail", "--file", file, "--raw", "image/png"]);
    assert_eq!(call.body, [0, 255, 10]);
    assert!(call.headers.contains(&"content-type: image/png".to_owned()), "{call:?}");
    for arguments in [&["queue", "push", "mail"][..], &["queue", "push", "mail", "-"]] {
        assert_eq!(on(&server, arguments, "[1]\n").code, 0);
        assert_eq!(server.calls("").pop().unwrap().body, b"[1]\n");
    }

    server.say("POST /v1/queues/", 1, 200, json!({ "id": "j0", "duplicate": true }));
    let (ran, _) = well(&server, &["queue", "push", "mail", "1", "--unique", "k"]);
    assert_eq!(ran.out, "j0\n");
    assert!(ran.err.starts_with("not pushed"), "{ran:?}");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_asked() {
    let server = StandIn::start();
    let large = server.folder.path().join("large");
    std::fs::write(&large, "1".repeat((1 << 20) + 1)).unwrap();
    let large = large.to_str().unwrap();
    for (arguments, code, told) in [
        (&["queue", "push", "mail", "hello"][..], 2, "--raw text/plain"),
        (&["queue", "push", "mail"], 2, "no JSON"),
        (&["queue", "push", "mail", "1", "--tag", "a,b"], 2, "no comma"),
        (&["queue", "push", "mail", "1", "--idempotency-key", "a b"], 2, "--idempotency-key"),
        (&["queue", "push", "mail", "1", "--priority", "urgent"], 2, "critical"),
        (&["queue", "push", "mail", "--file", "/nonexistent"], 1, "/nonexistent cannot be read"),
        (&["queue", "push", "mail", "--file", large], 1, "1048576 bytes"),
        (&["queue", "clear", "mail"], 2, "--yes"),
        (&["queue", "clear", "mail", "--yes", "--state", "running"], 2, "waiting, delayed, failed"),
        (&["queue", "discard", "mail"], 2, "--yes"),
        (&["queue", "discard", "mail", "--yes", "--rate", "1/s"], 2, "--rate"),
        (&["queue", "retry"], 2, "Usage"),
        (&["queue", "retry", "mail", "--id", "j"], 2, "Usage"),
        (&["queue", "set", "mail", "timeout"], 2, "has no ="),
        (&["queue", "search", "--limit", "1001"], 2, "from 1 to 1000"),
        (&["queue", "job", "j", "--wait", "soon"], 2, "--wait"),
        (&["queue", "monitor", "--interval", "0"], 2, "--interval"),
        (&["schedule", "put", "n", "--queue", "q"], 2, "Usage"),
        (&["schedule", "put", "n", "--queue", "q", "--every", "1m", "--cron", "x"], 2, "Usage"),
    ] {
        refused(&server, arguments, code, told);
    }
}

#[test]
fn a_queue_is_steered() {
    let server = StandIn::start();
    for (verb, told) in [
        ("pause", "holdfast queue resume mail"),
        ("resume", "resumed: mail"),
        ("restart", "told: the workers of mail"),
    ] {
        let (ran, call) = well(&server, &["queue", verb, "mail"]);
        assert_eq!(call.line, format!("POST /v1/queues/mail/{verb}"));
        assert!(ran.err.contains(told), "{ran:?}");
    }
    let arguments = ["queue", "clear", "mail", "--yes", "--state", "waiting", "--state", "delayed"];
    server.say("/clear", 1, 200, json!({ "cleared": 12 }));
    let (ran, call) = well(&server, &arguments);
    assert_eq!(call.json(), json!({ "confirm": "mail", "states": ["waiting", "delayed"] }));
    assert_eq!(ran.out, "12 removed\n");
    let arguments = ["queue", "set", "mail", "rate=20/s", "retention.done=7d", "timeout=default"];
    let (_, call) = well(&server, &arguments);
    assert_eq!(call.line, "PATCH /v1/queues/mail");
    let patch = json!({ "rate": "20/s", "retention": { "done": "7d" }, "timeout": null });
    assert_eq!(call.json(), patch);
}

#[test]
fn failed_jobs_run_again_or_are_discarded() {
    let server = StandIn::start();
    server.say("/v1/failures/", 10, 200, json!({ "retried": 3, "discarded": 4 }));
    let (ran, call) =
        well(&server, &["queue", "retry", "--id", "a", "--id", "b", "--rate", "20/s"]);
    assert_eq!(call.line, "POST /v1/failures/retry");
    assert_eq!(call.json(), json!({ "ids": ["a", "b"], "rate": "20/s" }));
    assert_eq!(ran.out, "3 run again\n");
    let (ran, call) = well(&server, &["queue", "discard", "--fingerprint", "f", "--yes"]);
    assert_eq!((call.json(), ran.out.as_str()), (json!({ "fingerprint": "f" }), "4 discarded\n"));
    let (_, call) = well(&server, &["queue", "retry", "mail"]);
    assert_eq!(call.json(), json!({ "queue": "mail" }));
    let group = json!({
        "fingerprint": "f1", "class": "exit_1", "message": "no", "count": 2, "first_at": "a",
        "last_at": "b", "types": ["t"]
    });
    server.say("GET /v1/failures?", 1, 200, json!({ "items": [group], "next": null }));
    let (ran, call) = well(&server, &["queue", "failed", "mail"]);
    assert_eq!(call.line, "GET /v1/failures?queue=mail&limit=1000");
    assert!(ran.out.contains("f1           2      exit_1"), "{}", ran.out);
}

fn job(id: &str) -> Value {
    json!({ "id": id, "queue": "mail", "type": "t", "state": "done", "attempt": 1 })
}

#[test]
fn jobs_are_found_page_by_page() {
    let server = StandIn::start();
    let page = |id: &str, next: Value| json!({ "items": [job(id)], "next": next });
    // What is said last is said first.
    let pages = || {
        server.say("cursor=c1", 1, 200, page("j2", json!(null)));
        server.say("limit=1000", 1, 200, page("j1", json!("c1")));
    };
    pages();
    let arguments =
        ["queue", "search", "--queue", "mail", "--text", "a b", "--from", "-24h", "--all"];
    let (ran, call) = well(&server, &arguments);
    assert_eq!(call.line, "GET /v1/jobs?queue=mail&q=a%20b&from=-24h&limit=1000&cursor=c1");
    assert_eq!(ran.out.lines().count(), 3, "one head: {}", ran.out);
    pages();
    let (ran, _) = well(&server, &["queue", "search", "--all", "--json"]);
    let parsed: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(parsed, json!([job("j1"), job("j2")]));
    let (ran, _) = well(&server, &["queue", "search", "--all", "--json"]);
    assert_eq!(ran.out, "[]\n");

    server.say("limit=50", 1, 200, page("j1", json!("c1")));
    let (ran, call) = well(&server, &["queue", "search", "--state", "failed", "--tag", "x"]);
    assert_eq!(call.line, "GET /v1/jobs?state=failed&tag=x&limit=50");
    assert!(ran.err.contains("--all"), "{ran:?}");
    let (ran, call) = well(&server, &["queue", "peek", "mail", "--limit", "5", "--payload"]);
    assert_eq!(call.line, "GET /v1/jobs?queue=mail&state=waiting&limit=5&fields=payload");
    assert!(ran.out.starts_with("ID  TYPE  PRIORITY"), "{}", ran.out);
}

#[test]
fn a_job_is_waited_for_in_pieces() {
    let server = StandIn::start();
    let state = |state: &str| json!({ "id": "j", "state": state });
    server.say("/v1/jobs/j", 1, 200, state("running"));
    let (ran, call) = well(&server, &["queue", "job", "j"]);
    assert_eq!(call.line, "GET /v1/jobs/j");
    assert!(ran.out.contains("state  running"), "{}", ran.out);
    server.say("wait=10s", 1, 200, state("done"));
    server.say("wait=50s", 1, 200, state("running"));
    let (_, call) = well(&server, &["queue", "job", "j", "--wait", "1m"]);
    assert_eq!(call.line, "GET /v1/jobs/j?wait=10s");
    for (word, told) in [("failed", "it is failed"), ("running", "it has not ended")] {
        server.say("wait=5s", 1, 200, state(word));
        let ran = on(&server, &["queue", "job", "j", "--wait", "5s"], "");
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains(told) && ran.out.contains(word), "{ran:?}");
    }
}

#[test]
fn a_job_is_cancelled_and_explained() {
    let server = StandIn::start();
    server.say("DELETE /v1/jobs/j", 1, 202, json!({ "state": "running" }));
    let (ran, _) = well(&server, &["queue", "cancel", "j"]);
    assert!(ran.err.contains("its worker is told"), "{ran:?}");
    let (ran, _) = well(&server, &["queue", "cancel", "j"]);
    assert_eq!(ran.err, "cancelled: j\n");
    server.say("DELETE", 1, 409, json!({ "code": "job_finished", "detail": "it has ended" }));
    let ran = on(&server, &["queue", "cancel", "j"], "");
    assert_eq!((ran.code, ran.err.contains("job_finished")), (1, true), "{ran:?}");
    let why =
        json!({ "queue": "mail", "runnable": false, "reasons": [{ "code": "queue_paused" }] });
    server.say("/why", 1, 200, why);
    let (ran, call) = well(&server, &["queue", "why", "j"]);
    assert_eq!(call.line, "GET /v1/jobs/j/why");
    assert_eq!(ran.out, "its queue is paused; to go on: holdfast queue resume mail\n");
}

#[test]
fn queues_and_workers_are_shown() {
    let server = StandIn::start();
    let queue = json!({ "queue": "mail", "waiting": 3, "paused": false, "failure_rate": 0.5 });
    let list = json!({ "items": [queue], "next": null });
    server.say("GET /v1/queues?", 9, 200, list);
    server.say("GET /v1/queues/mail", 9, 200, queue.clone());
    let (ran, _) = well(&server, &["queue", "list"]);
    assert!(
        ran.out.starts_with("QUEUE  STATE  WAITING") && ran.out.contains("50.0%"),
        "{}",
        ran.out
    );
    let (ran, _) = well(&server, &["queue", "list", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), json!([queue]));
    let (ran, _) = well(&server, &["queue", "show", "mail"]);
    assert!(ran.out.contains("waiting       3\n"), "{}", ran.out);
    let (ran, _) = well(&server, &["queue", "workers"]);
    assert!(ran.out.starts_with("WORKER  STATE") && ran.err.contains("holdfast work"), "{ran:?}");
    // Without a terminal there is one picture.
    for arguments in [&["queue", "monitor"][..], &["queue", "monitor", "--once"]] {
        let (ran, _) = well(&server, arguments);
        assert!(
            ran.out.contains("queues 1  waiting 3") && !ran.out.contains('\u{1b}'),
            "{}",
            ran.out
        );
    }
}

#[test]
fn schedules_are_kept() {
    let server = StandIn::start();
    server.say("PUT", 9, 200, json!({ "name": "n", "next_at": "t1" }));
    let arguments = [
        "schedule",
        "put",
        "n",
        "--cron",
        "*/5 * * * *",
        "--queue",
        "mail",
        "--payload",
        "{\"a\":1}",
        "--type",
        "t",
        "--timezone",
        "Europe/Berlin",
        "--overlap",
        "skip",
        "--catch-up",
        "one",
        "--jitter",
        "10s",
    ];
    let (ran, call) = well(&server, &arguments);
    assert_eq!(call.line, "PUT /v1/schedules/n");
    let expected = json!({
        "cron": "*/5 * * * *", "timezone": "Europe/Berlin", "overlap": "skip", "catch_up": "one",
        "jitter": "10s", "job": { "queue": "mail", "type": "t", "payload": { "a": 1 } }
    });
    assert_eq!((call.json(), ran.err.as_str()), (expected, "put: n; next at t1\n"));
    let (_, call) = well(&server, &["schedule", "put", "n", "--every", "1h", "--queue", "q"]);
    assert_eq!(call.json(), json!({ "every": "1h", "job": { "queue": "q", "payload": null } }));
    let (_, call) = well(&server, &["schedule", "delete", "n"]);
    assert_eq!(call.line, "DELETE /v1/schedules/n");
    let (ran, _) = well(&server, &["schedule", "list"]);
    assert!(ran.out.starts_with("NAME  WHEN"), "{}", ran.out);
    let bad = json!({ "code": "invalid_cron", "detail": "at 3: x", "position": 3 });
    server.say("PUT", 1, 400, bad);
    let ran = on(&server, &["schedule", "put", "n", "--cron", "* x", "--queue", "q"], "");
    assert_eq!((ran.code, ran.err.contains("invalid_cron")), (1, true), "{ran:?}");
}
