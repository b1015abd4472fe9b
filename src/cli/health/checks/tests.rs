//! Checks on answers as the API gives them.

use serde_json::{Value, json};

use super::{Wishes, checks};
use crate::cli::health::verdict::{Check, Status};
use crate::cli::health::{Answers, Trouble};

const WISHES: Wishes = Wishes { queue_depth: 100, failed: 10 };

fn queue(name: &str, waiting: u64, workers: u64) -> Value {
    json!({
        "queue": name, "waiting": waiting, "delayed": 0, "running": 0, "failed": 0, "paused": false,
        "oldest_waiting_ms": if waiting == 0 { None } else { Some(90_000) },
        "pushed_per_minute": 1.0, "done_per_minute": 0.0, "failed_per_minute": 0.0,
        "failure_rate": null, "workers": workers
    })
}

/// A server with which all is well.
fn well() -> Answers {
    Answers {
        status: Ok(json!({
            "state": "ready", "disk": { "state": "ok", "total_bytes": 9, "free_bytes": 5_u64 << 30 },
            "stores": [{ "name": "jobs", "state": "open", "disk_short": false }],
            "series": { "log_state": "ok" }
        })),
        ready: None,
        host: Ok(json!({ "status": "healthy", "score": 96.5, "text": "Nothing is short." })),
        queues: Ok(vec![queue("mail", 12, 2), queue("idle", 0, 0)]),
        workers: Ok(vec![
            json!({ "id": "a", "state": "idle" }),
            json!({ "id": "b", "state": "busy" }),
        ]),
        given_up: Ok(json!({ "series": [] })),
    }
}

fn one(answers: &Answers, name: &str) -> Check {
    let mut all = checks(answers, WISHES);
    all.retain(|check| check.name == name);
    all.pop().unwrap()
}

#[track_caller]
fn expect(answers: &Answers, name: &str, status: Status, text: &str) -> Value {
    let check = one(answers, name);
    assert_eq!((check.status, check.text.as_str()), (status, text));
    check.value
}

#[test]
fn all_is_well_when_nothing_is_wrong() {
    let all = checks(&well(), WISHES);
    let told: Vec<String> = all
        .iter()
        .map(|check| {
            format!("{} {} {} {}", check.name, check.status.as_str(), check.value, check.text)
        })
        .collect();
    assert_eq!(
        told,
        [
            "server healthy \"ready\" it serves requests",
            "disk healthy 5368709120 there is room for data, 5.0 GiB are free",
            "host healthy 96.5 the machine has 96.5 of 100 points: Nothing is short",
            "queue_depth healthy 12 12 jobs wait in queue mail, and in no queue more",
            "failed healthy 0 no jobs failed for good in the last hour",
            "workers healthy 2 2 workers are alive",
            "rate healthy 0.0 0.0 jobs a minute are done",
        ]
    );
}

#[test]
fn more_jobs_than_wished_for_are_a_warning_and_as_many_are_none() {
    let mut answers = well();
    answers.queues = Ok(vec![queue("mail", 100, 1), queue("x", 1, 1)]);
    assert_eq!(one(&answers, "queue_depth").status, Status::Healthy);
    answers.queues = Ok(vec![queue("mail", 132, 1), queue("x", 1, 1)]);
    let text = "132 jobs wait in queue mail (more than 100)";
    assert_eq!(expect(&answers, "queue_depth", Status::Warning, text), 132);
    let deep =
        ["a", "b", "c", "d", "e"].iter().zip(101..).map(|(name, depth)| queue(name, depth, 1));
    answers.queues = Ok(deep.collect());
    let text = "105 jobs wait in queue e (more than 100), 104 in d, 103 in c, 102 in b and 1 more";
    expect(&answers, "queue_depth", Status::Warning, text);
    answers.queues = Ok(Vec::new());
    expect(&answers, "rate", Status::Healthy, "0.0 jobs a minute are done");
    assert_eq!(expect(&answers, "queue_depth", Status::Healthy, "there are no queues"), 0);
}

#[test]
fn jobs_that_were_given_up_are_added_up_over_queues_and_minutes() {
    let mut answers = well();
    let series = |of: &[(&str, Value)]| {
        let of = of
            .iter()
            .map(|(name, points)| json!({ "labels": { "queue": name }, "points": points }));
        Ok(json!({ "series": of.collect::<Vec<_>>() }))
    };
    answers.given_up =
        series(&[("a", json!([[0, 3.0], [60_000, null], [120_000, 3]])), ("b", json!([[0, 4]]))]);
    let text = "10 jobs failed for good in the last hour: a 6, b 4";
    assert_eq!(expect(&answers, "failed", Status::Healthy, text), 10);
    answers.given_up = series(&[("a", json!([[0, 4.0]])), ("b", json!([[0, 7], [1, "NaN"]]))]);
    let text = "11 jobs failed for good in the last hour (more than 10): b 7, a 4; to see why: holdfast queue failed";
    assert_eq!(expect(&answers, "failed", Status::Warning, text), 11);
    answers.given_up = series(&[("a", json!([[0, 1e300]])), ("b", json!([[0, 1e300]]))]);
    assert_eq!(one(&answers, "failed").status, Status::Unknown, "not a number of jobs");
}

#[test]
fn jobs_that_nobody_works_on_are_critical_once_they_waited_for_a_while() {
    let mut answers = well();
    answers.queues = Ok(vec![queue("mail", 5, 0)]);
    let text = "nobody works on 5 jobs in queue mail; 2 workers are alive";
    assert_eq!(expect(&answers, "workers", Status::Critical, text), 2);
    for (member, value) in [
        ("paused", json!(true)),
        ("running", json!(1)),
        ("done_per_minute", json!(0.5)),
        ("failed_per_minute", json!(0.5)),
        ("oldest_waiting_ms", json!(59_999)),
    ] {
        let mut queue = queue("mail", 5, 0);
        queue[member] = value;
        answers.queues = Ok(vec![queue]);
        assert_eq!(one(&answers, "workers").status, Status::Healthy, "{member}");
    }
    let text = "2 workers are alive; nobody works yet on 1 job in queue new";
    let mut new = queue("new", 1, 0);
    new["oldest_waiting_ms"] = json!(800);
    answers.queues = Ok(vec![new]);
    expect(&answers, "workers", Status::Healthy, text);
}

#[test]
fn silent_workers_are_shown_and_do_not_count() {
    let mut answers = well();
    answers.workers = Ok(vec![
        json!({ "id": "a", "state": "busy" }),
        json!({ "id": "b", "state": "stale", "last_seen_at": "t" }),
        json!({ "id": "c", "state": "gone" }),
    ]);
    let text = "1 worker is alive; silent: b (last heard of t)";
    assert_eq!(expect(&answers, "workers", Status::Healthy, text), 1);
}

#[test]
fn what_gets_done_is_added_up() {
    let mut answers = well();
    let mut queues = vec![queue("a", 0, 1), queue("b", 0, 1)];
    queues[0]["done_per_minute"] = json!(2.5);
    queues[1]["done_per_minute"] = json!(12);
    queues[1]["failed_per_minute"] = json!(0.5);
    answers.queues = Ok(queues);
    let text = "14.5 jobs a minute are done (b 12.0, a 2.5), 0.5 attempts a minute fail";
    assert_eq!(expect(&answers, "rate", Status::Healthy, text), 14.5);
}

#[test]
fn the_words_of_the_machine_and_the_server_are_taken_as_they_are() {
    for (word, status) in [("warning", Status::Warning), ("critical", Status::Critical)] {
        let mut answers = well();
        answers.host = Ok(json!({ "status": word, "score": 40, "text": "x" }));
        assert_eq!(one(&answers, "host").status, status, "{word}");
    }
    for (state, status) in [
        ("ready", Status::Healthy),
        ("stopping", Status::Warning),
        ("read_only", Status::Critical),
        ("lost", Status::Critical),
    ] {
        let mut answers = well();
        answers.status.as_mut().unwrap()["state"] = json!(state);
        assert_eq!(one(&answers, "server").status, status, "{state}");
    }
    let mut answers = well();
    answers.status.as_mut().unwrap()["series"]["log_state"] = json!("failed");
    assert_eq!(one(&answers, "server").status, Status::Warning);
    for (path, value) in
        [("disk", json!({ "state": "full" })), ("stores", json!([{ "disk_short": true }]))]
    {
        let mut answers = well();
        answers.status.as_mut().unwrap()[path] = value;
        assert_eq!(one(&answers, "disk").status, Status::Critical, "{path}");
    }
    let mut answers = well();
    answers.status.as_mut().unwrap()["disk"] = json!(null);
    expect(&answers, "disk", Status::Healthy, "nothing is kept on disk");
}

fn refused(status: u16, code: &str) -> Trouble {
    Trouble::Refused { status, code: code.to_owned(), text: format!("no ({code})") }
}

#[test]
fn what_cannot_be_asked_or_understood_is_unknown_and_no_alarm() {
    let mut answers = well();
    answers.host = Err(refused(503, "starting"));
    let text = "the health of the machine is not known: the server started a moment ago, the first readings are under way";
    assert_eq!(expect(&answers, "host", Status::Unknown, text), json!(null));

    let answers = Answers {
        status: Err(refused(403, "forbidden")),
        ready: Some(Ok(json!({ "status": "ready" }))),
        host: Err(refused(403, "forbidden")),
        queues: Ok(vec![json!({ "queue": "mail" })]),
        workers: Err(Trouble::NotReachable("late".to_owned())),
        given_up: Ok(json!({})),
    };
    let all = checks(&answers, WISHES);
    let of =
        |status| all.iter().filter(move |check| check.status == status).map(|check| check.name);
    assert_eq!(of(Status::Healthy).collect::<Vec<_>>(), ["server"]);
    let unknown: Vec<_> = of(Status::Unknown).collect();
    assert_eq!(unknown, ["disk", "host", "queue_depth", "failed", "workers", "rate"]);
    assert_eq!(
        one(&answers, "host").text,
        "the health of the machine is not known: no (forbidden)"
    );

    let mut answers = answers;
    answers.ready = Some(Err(refused(503, "read_only")));
    assert_eq!(one(&answers, "server").status, Status::Critical, "that is seen by everybody");
    answers.ready = Some(Err(Trouble::NotReachable("late".to_owned())));
    assert_eq!(one(&answers, "server").status, Status::Unknown);
}
