//! `holdfast work` against a stand-in: what it makes of exit codes, deadlines, signals and a server that is
//! away.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::stand_in::{StandIn, Work, is_alive};
use crate::support::{Ran, wait_until};

fn nothing() -> Value {
    json!({})
}

/// What was told about this job: the verb and the body of each call.
fn told(server: &StandIn, id: &str) -> Vec<(String, Value)> {
    let calls = server.calls(&format!("/v1/leases/lease-{id}/"));
    let pair = |line: &str| line.rsplit('/').next().unwrap().to_owned();
    calls.iter().map(|call| (pair(&call.line), call.json())).collect()
}

#[track_caller]
fn well(ran: &Ran) {
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn the_exit_status_is_the_answer() {
    let server = StandIn::start();
    let script = "read code; echo out; echo \"problem $code\" >&2; echo >&2; \
                  [ $code = kill ] && kill -KILL $$; exit $code";
    let codes = ["0", "75", "65", "3", "kill"];
    for code in codes {
        server.push(code, &format!("{code}\n").replace("kill\n", "\"kill\""), &nothing());
    }
    let script = script.replace("read code;", "code=$(tr -d '\"\\n');");
    let options = ["--max-jobs", "5", "--release-delay", "1m", "--name", "w 1"];
    let ran = server.work(&options, &script).end();
    well(&ran);
    assert_eq!(ran.out, "out\n".repeat(5), "what it prints is passed through");
    let one = |verb: &str, body: Value| vec![(verb.to_owned(), body)];
    let error = |code: &str, class: &str| {
        let (message, trace) = (format!("problem {code}"), format!("problem {code}\n\n"));
        json!({ "error": { "class": class, "message": message, "trace": trace } })
    };
    assert_eq!(told(&server, "0"), one("done", json!({})));
    let later = json!({ "delay": "60000ms", "reason": "the command ended with status 75" });
    assert_eq!(told(&server, "75"), one("release", later));
    let mut never = error("65", "exit_65");
    never["retry"] = json!(false);
    assert_eq!(told(&server, "65"), one("fail", never));
    assert_eq!(told(&server, "3"), one("fail", error("3", "exit_3")));
    assert_eq!(told(&server, "kill"), one("fail", error("kill", "signal_KILL")));
    for said in ["problem 3\n\n", "job 3: failed (exit_3): problem 3", "job 65: failed (exit_65)"] {
        assert!(ran.err.contains(said), "{said:?}: {}", ran.err);
    }
    let lease = &server.leases()[0];
    let expected = json!({
        "queues": ["mail"], "max": 1, "wait": "20s", "lease": "1s", "worker": "w 1"
    });
    assert_eq!(*lease, expected);
    assert_eq!(server.calls("DELETE /v1/workers/w%201").len(), 1, "it says goodbye");
}

#[test]
fn a_command_finds_its_job_and_no_token() {
    let server = StandIn::start();
    let payload = r#"{ "b":1.0,  "a":"\u00e4" }"#;
    server.push("j1", payload, &json!({ "deadline": "2126-11-20T12:00:00.000Z" }));
    let bytes = json!({ "payload_base64": "AP8K", "content_type": "x/y" });
    server.push("j2", "null", &bytes);
    let script = "cat > in.$HOLDFAST_JOB_ID; env > env.$HOLDFAST_JOB_ID";
    well(&server.work(&["--max-jobs", "2"], script).end());
    let read = |name: &str| std::fs::read(server.folder.path().join(name)).unwrap();
    assert_eq!(read("in.j1"), payload.as_bytes());
    assert_eq!(read("in.j2"), [0, 255, 10]);
    let environment = String::from_utf8(read("env.j1")).unwrap();
    let mut ours: Vec<&str> =
        environment.lines().filter(|line| line.starts_with("HOLDFAST_")).collect();
    ours.sort_unstable();
    let expected = [
        "HOLDFAST_ATTEMPT=2",
        "HOLDFAST_DEADLINE=2126-11-20T12:00:00.000Z",
        "HOLDFAST_FENCE=7",
        "HOLDFAST_JOB_ID=j1",
        "HOLDFAST_LEASE=lease-j1",
        "HOLDFAST_QUEUE=mail",
        "HOLDFAST_TYPE=welcome",
    ];
    assert_eq!(ours, expected);
    assert!(!environment.contains("hf_secret"), "{environment}");
}

#[test]
fn a_large_payload_goes_in_whether_it_is_read_or_not() {
    let server = StandIn::start();
    let payload = format!("\"{}\"", "x".repeat(1 << 20));
    for id in ["read", "unread", "late"] {
        server.push(id, &payload, &nothing());
    }
    // The one that reads late writes more than a pipe holds before.
    let script = "case $HOLDFAST_JOB_ID in \
                  read) wc -c;; unread) true;; \
                  late) head -c 300000 /dev/zero >&2; wc -c;; esac";
    let ran = server.work(&["--max-jobs", "3", "--result"], script).end();
    well(&ran);
    let size = (1 << 20) + 2;
    assert_eq!(told(&server, "read"), [("done".to_owned(), json!({ "result": size }))]);
    assert_eq!(told(&server, "unread"), [("done".to_owned(), json!({}))]);
    assert_eq!(told(&server, "late"), [("done".to_owned(), json!({ "result": size }))]);
}

#[test]
fn what_is_printed_is_the_result_only_when_asked_for_and_json() {
    let server = StandIn::start();
    server.push("json", "1", &nothing());
    server.push("text", "1", &nothing());
    let script = "[ $HOLDFAST_JOB_ID = json ] && echo '{\"sent\": 3}' || echo sent 3";
    let ran = server.work(&["--max-jobs", "2", "--result"], script).end();
    well(&ran);
    assert_eq!(ran.out, "{\"sent\": 3}\nsent 3\n");
    assert_eq!(told(&server, "json"), [("done".to_owned(), json!({ "result": { "sent": 3 } }))]);
    assert_eq!(told(&server, "text"), [("done".to_owned(), json!({}))]);
    assert!(ran.err.contains("job text: what it printed is no result"), "{}", ran.err);

    // A server that does not want the result gets the end without it.
    server.say("/done", 1, 400, json!({ "code": "malformed", "detail": "too deep" }));
    server.push("deep", "1", &nothing());
    let ran = server.work(&["--max-jobs", "1", "--result"], "echo 7").end();
    well(&ran);
    let done = |body: Value| ("done".to_owned(), body);
    assert_eq!(told(&server, "deep"), [done(json!({ "result": 7 })), done(json!({}))]);
    assert!(ran.err.contains("too deep"), "{}", ran.err);
}

#[test]
fn a_command_that_takes_too_long_is_told_to_end_with_all_it_started() {
    let server = StandIn::start();
    server.push("slow", "1", &json!({ "timeout_ms": 300 }));
    // The shell ends at once; what it started takes a moment, and has it.
    let script = "(trap 'echo asked > asked; exit' TERM; while :; do sleep 0.01; done) & \
                  echo $! > inner; echo working >&2; wait";
    let ran = server.work(&["--max-jobs", "1"], script).end();
    well(&ran);
    let told = told(&server, "slow");
    let error = &told[0].1["error"];
    assert_eq!((told.len(), told[0].0.as_str(), &error["class"]), (1, "fail", &json!("timeout")));
    // The shell may have a last word.
    assert!(error["trace"].as_str().unwrap().starts_with("working\n"), "{error}");
    assert_eq!(server.wait_file("asked"), "asked\n");
    assert!(!is_alive(&server.wait_file("inner")));
}

#[test]
fn a_command_that_does_not_listen_is_ended_with_all_it_started() {
    let server = StandIn::start();
    server.push("deaf", "1", &json!({ "timeout_ms": 300 }));
    let script = "trap '' TERM; (while :; do sleep 1; done) & echo $! > inner; wait; \
                  while :; do sleep 1; done";
    let ran = server.work(&["--max-jobs", "1", "--grace", "200ms"], script).end();
    well(&ran);
    let told = told(&server, "deaf");
    assert_eq!(told[0].1["error"]["class"], "timeout", "{told:?}");
    let inner = server.wait_file("inner");
    wait_until("what it started is gone", || !is_alive(&inner));
}

#[test]
fn a_cancelled_job_is_told_to_its_command_and_given_back() {
    let server = StandIn::start();
    server.push("unwanted", "1", &nothing());
    let script = "trap 'echo asked > asked; exit 0' TERM; echo ready > ready; \
                  while :; do sleep 0.01; done";
    let work = server.work(&["--max-jobs", "1"], script);
    server.wait_file("ready");
    server.say("/beat", 1, 200, json!({ "command": "run", "cancel": ["unwanted"] }));
    well(&work.end());
    assert_eq!(server.wait_file("asked"), "asked\n");
    let released = json!({ "delay": "0ms", "reason": "cancelled" });
    assert_eq!(told(&server, "unwanted"), [("release".to_owned(), released)]);
}

#[test]
fn a_command_whose_lease_is_lost_is_killed_and_nothing_is_told() {
    let server = StandIn::start();
    server.push("lost", "1", &nothing());
    let script = "trap '' TERM; echo $$ > pid; while :; do sleep 1; done";
    let work = server.work(&["--max-jobs", "1"], script);
    let pid = server.wait_file("pid");
    let lost = json!({ "command": "run", "cancel": [], "lost": ["lease-lost"] });
    server.say("/beat", 1, 200, lost);
    let ran = work.end();
    well(&ran);
    assert!(!is_alive(&pid));
    assert_eq!(told(&server, "lost"), []);
    assert!(ran.err.contains("job lost: its lease is lost"), "{}", ran.err);
}

#[test]
fn an_answer_that_comes_too_late_is_said() {
    let server = StandIn::start();
    let lost = json!({ "code": "lease_lost", "detail": "lost", "state": "waiting" });
    server.say("/done", 1, 409, lost);
    server.push("late", "1", &nothing());
    let ran = server.work(&["--max-jobs", "1"], "true").end();
    well(&ran);
    assert_eq!(told(&server, "late").len(), 1, "it is not sent again");
    assert!(ran.err.contains("job late: its done comes too late"), "{}", ran.err);
    assert!(ran.err.contains("it is waiting"), "{}", ran.err);
}

#[test]
fn an_outcome_is_sent_until_it_is_taken() {
    let server = StandIn::start();
    server.push("kept", "1", &nothing());
    let script = "echo ready > ready; while [ ! -e go ]; do sleep 0.01; done; echo gone > gone";
    let work = server.work(&["--max-jobs", "1"], script);
    server.wait_file("ready");
    // The server is away before the command ends, and is starting when it is back.
    server.set_away(true);
    std::fs::write(server.folder.path().join("go"), "").unwrap();
    server.wait_file("gone");
    let starting = json!({ "code": "starting", "detail": "it starts" });
    server.say("/done", 2, 503, starting);
    server.set_away(false);
    let ran = work.end();
    well(&ran);
    assert_eq!(told(&server, "kept").len(), 3, "{ran:?}");
    assert!(ran.err.contains("job kept: its done is not taken yet"), "{}", ran.err);
}

#[test]
fn a_worker_waits_for_a_server_that_is_away_and_says_so_once() {
    let server = StandIn::start();
    server.set_away(true);
    let work = server.work(&["--max-jobs", "1"], "true");
    let down = json!({ "code": "starting", "detail": "it starts" });
    server.say("/beat", 3, 503, down);
    server.set_away(false);
    server.push("j", "1", &nothing());
    let ran = work.end();
    well(&ran);
    assert_eq!(told(&server, "j").len(), 1);
    assert_eq!(ran.err.matches("the server is away").count(), 1, "{}", ran.err);
    assert!(ran.err.contains("the server is back"), "{}", ran.err);
    // It is known before it has a job, so that its death is noticed.
    let lines: Vec<String> = server.calls("").into_iter().map(|call| call.line).collect();
    let first = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
    assert!(first("/beat") < first("/v1/lease"), "{lines:?}");
}

#[test]
fn a_beat_names_the_process_and_its_leases() {
    let server = StandIn::start();
    server.push("j", "1", &nothing());
    let script = "echo ready > ready; while [ ! -e go ]; do sleep 0.01; done";
    let work = server.work(&["--max-jobs", "1", "--name", "w"], script);
    server.wait_file("ready");
    let busy = || {
        let calls = server.calls("POST /v1/workers/w/beat").into_iter();
        calls.map(|call| call.json()).find(|body| body["leases"] == json!(["lease-j"]))
    };
    wait_until("a beat with the lease", || busy().is_some());
    std::fs::write(server.folder.path().join("go"), "").unwrap();
    let pid = work.pid();
    well(&work.end());
    let body = busy().unwrap();
    assert_eq!((&body["pid"], &body["queues"]), (&json!(pid), &json!(["mail"])));
    let host = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    assert_eq!((&body["host"], &body["extend"]), (&json!(host), &json!("1s")));
    // After the last job it takes none and says so; before, it is busy.
    assert!(body["state"] == "busy" || body["state"] == "stopping", "{body}");
    assert!(body["rss_bytes"].as_u64().is_some_and(|bytes| 1 << 20 < bytes), "{body}");
    assert_eq!(server.calls("/beat")[0].json()["state"], "idle");
    assert_eq!(server.calls("/extend").len(), 0, "the beat renews the leases, and nothing else");
}

#[test]
fn a_signal_finishes_the_job_and_takes_no_more() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = StandIn::start();
        server.push("first", "1", &nothing());
        let script = "echo ready > ready; while [ ! -e go ]; do sleep 0.01; done";
        let work = server.work(&["--name", "w"], script);
        server.wait_file("ready");
        server.push("second", "1", &nothing());
        work.signal(signal);
        // It has understood when it says so.
        let stopping = || server.calls("/beat").iter().any(|c| c.json()["state"] == "stopping");
        wait_until("a beat that says so", stopping);
        assert_eq!(told(&server, "first"), [], "it was not interrupted");
        std::fs::write(server.folder.path().join("go"), "").unwrap();
        let ran = work.end();
        well(&ran);
        assert_eq!(told(&server, "first"), [("done".to_owned(), json!({}))]);
        assert_eq!(told(&server, "second"), []);
        assert_eq!(server.calls("DELETE /v1/workers/w").len(), 1);
        assert!(ran.err.contains("finishing one job"), "{}", ran.err);
    }
}

#[test]
fn a_second_signal_stops_the_job_and_gives_it_back() {
    let server = StandIn::start();
    server.push("j", "1", &nothing());
    let script = "trap 'echo asked > asked; exit 1' TERM; echo ready > ready; \
                  while :; do sleep 0.01; done";
    let work = server.work(&["--name", "w"], script);
    server.wait_file("ready");
    work.signal(Signal::TERM);
    let stopping = || server.calls("/beat").iter().any(|c| c.json()["state"] == "stopping");
    wait_until("a beat that says so", stopping);
    work.signal(Signal::TERM);
    well(&work.end());
    assert_eq!(server.wait_file("asked"), "asked\n");
    let released = json!({ "delay": "0ms", "reason": "the worker was told to end at once" });
    assert_eq!(told(&server, "j"), [("release".to_owned(), released)]);
    assert_eq!(server.calls("DELETE /v1/workers/w").len(), 1);
}

#[test]
fn an_outcome_that_cannot_be_told_is_named_at_the_end() {
    let server = StandIn::start();
    server.push("j7", "1", &nothing());
    let work = server.work(&["--grace", "10ms"], "echo ready > ready; exec sleep 600");
    server.wait_file("ready");
    work.signal(Signal::TERM);
    let stopping = || server.calls("/beat").iter().any(|c| c.json()["state"] == "stopping");
    wait_until("a beat that says so", stopping);
    server.set_away(true);
    work.signal(Signal::TERM);
    // It tries for a few seconds; that is how long this takes.
    let ran = work.end();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("could not be told how these jobs ended"), "{}", ran.err);
    assert!(ran.err.trim_end().ends_with("have ended: j7"), "{}", ran.err);
}

#[test]
fn an_idle_worker_ends_at_once() {
    let server = StandIn::start();
    let work = server.work(&["--name", "w"], "true");
    server.wait_call("POST /v1/lease");
    work.signal(Signal::TERM);
    well(&work.end());
    assert_eq!(server.calls("DELETE /v1/workers/w").len(), 1);
}

#[test]
fn the_server_can_have_a_worker_end() {
    for command in ["drain", "restart"] {
        let server = StandIn::start();
        let work = server.work(&[], "true");
        server.wait_call("POST /v1/lease");
        server.say("/beat", 1, 200, json!({ "command": command, "cancel": [] }));
        let ran = work.end();
        well(&ran);
        assert!(ran.err.contains(&format!("the server says {command}")), "{}", ran.err);
    }
}

#[test]
fn a_command_is_killed_with_its_worker() {
    let server = StandIn::start();
    server.push("j", "1", &nothing());
    let work = server.work(&[], "echo $$ > pid; exec sleep 600");
    let pid = server.wait_file("pid");
    assert!(is_alive(&pid));
    work.signal(Signal::KILL);
    work.end();
    wait_until("the command is gone", || !is_alive(&pid));
}

#[test]
fn a_worker_that_cannot_run_its_command_says_so_and_gives_the_job_back() {
    let server = StandIn::start();
    server.push("j", "1", &nothing());
    let command = server.command(&["work", "mail", "--", "./no-such-command", "x"]);
    let ran = Work::spawn(command).end();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("cannot run ./no-such-command: No such file"), "{}", ran.err);
    let told = told(&server, "j");
    assert_eq!((told.len(), told[0].0.as_str()), (1, "release"), "{told:?}");
    assert_eq!(server.leases().len(), 1, "it takes no more");
}

#[test]
fn a_worker_that_is_not_allowed_ends() {
    let server = StandIn::start();
    let no = json!({ "code": "forbidden", "detail": "the scope queue:work is needed" });
    server.say("/beat", 1, 403, no);
    let ran = server.work(&[], "true").end();
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.err.contains("queue:work"), "{}", ran.err);
    let no = json!({ "code": "invalid_queue", "detail": "no such name" });
    server.say("/v1/lease", 1, 400, no);
    let ran = server.work(&[], "true").end();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("invalid_queue"), "{}", ran.err);
}

#[test]
fn an_outcome_that_is_refused_is_said() {
    let server = StandIn::start();
    server.push("j", "1", &nothing());
    let script = "echo ready > ready; while [ ! -e go ]; do sleep 0.01; done";
    let work = server.work(&[], script);
    server.wait_file("ready");
    let no = json!({ "code": "unauthenticated", "detail": "the token was revoked" });
    server.say("/v1/", usize::MAX, 401, no);
    let stopping = || server.calls("/beat").iter().any(|c| c.json()["state"] == "stopping");
    wait_until("a beat that says so", stopping);
    std::fs::write(server.folder.path().join("go"), "").unwrap();
    let ran = work.end();
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.err.contains("job j: its done is refused"), "{}", ran.err);
    assert!(ran.err.contains("the token was revoked"), "{}", ran.err);
}

#[test]
fn several_jobs_run_at_once() {
    let server = StandIn::start();
    for id in ["a", "b", "c"] {
        server.push(id, "1", &nothing());
    }
    // Each waits for the other two.
    let script = "touch at.$HOLDFAST_JOB_ID; \
                  while [ ! -e at.a -o ! -e at.b -o ! -e at.c ]; do sleep 0.01; done";
    well(&server.work(&["--concurrency", "3", "--max-jobs", "3"], script).end());
    for id in ["a", "b", "c"] {
        assert_eq!(told(&server, id), [("done".to_owned(), json!({}))], "{id}");
    }
    let most: Vec<Value> = server.leases().iter().map(|asked| asked["max"].clone()).collect();
    assert_eq!(most, [json!(3), json!(2), json!(1)]);
}

#[test]
fn a_worker_takes_no_more_jobs_than_it_was_told() {
    let server = StandIn::start();
    for id in ["a", "b", "c"] {
        server.push(id, "1", &nothing());
    }
    well(&server.work(&["--concurrency", "3", "--max-jobs", "2"], "true").end());
    let most: Vec<Value> = server.leases().iter().map(|asked| asked["max"].clone()).collect();
    assert_eq!(most, [json!(2), json!(1)]);
    assert_eq!(
        [told(&server, "a").len(), told(&server, "b").len(), told(&server, "c").len()],
        [1, 1, 0]
    );
}

#[test]
fn after_its_time_a_worker_takes_no_more() {
    let server = StandIn::start();
    let ran = server.work(&["--max-time", "300ms"], "true").end();
    well(&ran);
    assert_eq!(server.calls("DELETE /v1/workers/").len(), 1);
}

#[test]
fn a_worker_whose_time_is_over_before_it_reached_a_server_says_so() {
    let server = StandIn::start();
    server.set_away(true);
    let ran = server.work(&["--max-time", "300ms"], "true").end();
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.err.contains("no server was reached"), "{}", ran.err);
}
