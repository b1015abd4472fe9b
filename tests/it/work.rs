//! The queues from the command line, end to end: the real server, the real worker.

use std::process::{Child, Command, Stdio};

use holdfast::base::rng::Rng;
use holdfast::testing::seeds;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Door, Ran, Server, finish, holdfast, run_with, wait_for, wait_until};

/// `holdfast` with these arguments, as a client of this server, in its folder.
fn command(server: &Server, arguments: &[&str]) -> Command {
    let mut command = holdfast();
    command.arg("--data-dir").arg(server.data_dir()).args(arguments);
    command.current_dir(server.folder());
    command
}

fn on(server: &Server, arguments: &[&str]) -> Ran {
    finish(command(server, arguments), "")
}

/// Runs a command that has to end well, and gives what it printed.
#[track_caller]
fn well(server: &Server, arguments: &[&str]) -> String {
    let ran = on(server, arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
    ran.out
}

/// Pushes a job, and gives its id.
#[track_caller]
fn push(server: &Server, payload: &str, options: &[&str]) -> String {
    well(server, &[&["queue", "push", "mail", payload], options].concat()).trim().to_owned()
}

fn job(server: &Server, id: &str) -> Value {
    server.client(Door::Tcp).get(&format!("/v1/jobs/{id}")).expect(200)
}

/// A worker, and the end of it.
struct Work(Child);

impl Work {
    fn start(server: &Server, options: &[&str], script: &str) -> Work {
        let arguments = [&["work", "mail"], options, &["--", "sh", "-c", script]].concat();
        let mut command = command(server, &arguments);
        Work(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id().cast_signed()).unwrap(), signal).unwrap();
    }

    fn end(&mut self) -> Option<i32> {
        wait_for("the worker ends", || self.0.try_wait().unwrap()).code()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // One that has ended already is only waited for.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits for what a script wrote into this file of the server's folder.
fn wait_file(server: &Server, name: &str) -> String {
    let read = || std::fs::read_to_string(server.folder().join(name)).ok();
    wait_for(name, || read().filter(|text| text.ends_with('\n')))
}

#[test]
fn what_a_command_says_becomes_of_its_job() {
    let server = Server::start();
    let ids = ["0", "75", "65", "3"].map(|code| push(&server, code, &["--max-tries", "2"]));
    let script = "code=$(cat); echo \"problem $code\" >&2; exit $code";
    let arguments = ["work", "mail", "--max-jobs", "4", "--", "sh", "-c", script];
    assert_eq!(on(&server, &arguments).code, 0);
    let states = ids.each_ref().map(|id| job(&server, id)["state"].clone());
    assert_eq!(states, ["done", "delayed", "failed", "delayed"].map(Value::from));
    let [_, released, never, failed] = ids.each_ref().map(|id| job(&server, id));
    assert_eq!((&released["errors"], &failed["errors"]), (&json!(0), &json!(1)));
    assert_eq!(never["last_error"]["class"], "exit_65");
    assert_eq!(failed["last_error"]["message"], "problem 3");
}

#[test]
fn the_payload_comes_out_as_it_went_in() {
    let server = Server::start();
    let odd = r#"{ "b":1.0,  "a":123456789012345678901234567890 }"#;
    push(&server, odd, &[]);
    let mut raw = command(&server, &["queue", "push", "mail", "--raw", "text/plain"]);
    raw.arg("-");
    assert_eq!(finish(raw, "a \u{e4}\n").code, 0);
    let script = "cat > in.$HOLDFAST_ATTEMPT.$(ls | grep -c '^in'); echo";
    well(&server, &["work", "mail", "--max-jobs", "2", "--", "sh", "-c", script]);
    let read = |name: &str| std::fs::read_to_string(server.folder().join(name)).unwrap();
    assert_eq!((read("in.1.0").as_str(), read("in.1.1").as_str()), (odd, "a \u{e4}\n"));
}

#[test]
fn a_job_is_a_call() {
    let server = Server::start();
    let _work = Work::start(&server, &["--result"], "cat");
    let id = push(&server, "{\"n\": 7}", &[]);
    let out = well(&server, &["queue", "job", &id, "--wait", "30s", "--json"]);
    let job: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&job["state"], &job["result"]), (&json!("done"), &json!({ "n": 7 })));
}

#[test]
fn the_job_of_a_killed_worker_runs_again() {
    let server = Server::start();
    let id = push(&server, "1", &[]);
    let mut first = Work::start(&server, &[], "echo $$ > first; exec sleep 600");
    let pid = wait_file(&server, "first");
    first.signal(Signal::KILL);
    first.end();
    well(&server, &["work", "mail", "--max-jobs", "1", "--", "sh", "-c", "true"]);
    let job = job(&server, &id);
    assert_eq!((&job["state"], &job["crashes"]), (&json!("done"), &json!(1)), "{job}");
    let stat = format!("/proc/{}/stat", pid.trim());
    let gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    wait_until("the first command is gone", gone);
}

#[test]
fn a_lease_is_kept_while_its_command_runs() {
    let server = Server::start();
    let id = push(&server, "1", &[]);
    let script = "i=0; while [ $i -lt 300 ]; do sleep 0.01; i=$((i+1)); done; echo ran >> ran";
    let _second = Work::start(&server, &["--lease", "1s"], script);
    let _first = Work::start(&server, &["--lease", "1s"], script);
    well(&server, &["queue", "job", &id, "--wait", "30s"]);
    let job = job(&server, &id);
    assert_eq!((&job["attempt"], &job["crashes"]), (&json!(1), &json!(0)), "{job}");
    assert_eq!(wait_file(&server, "ran"), "ran\n");
}

#[test]
fn a_command_that_takes_too_long_fails_with_its_own_words() {
    let server = Server::start();
    let id = push(&server, "1", &["--timeout", "1s", "--max-tries", "1"]);
    let script = "echo still counting >&2; exec sleep 600";
    well(&server, &["work", "mail", "--max-jobs", "1", "--", "sh", "-c", script]);
    let job = job(&server, &id);
    assert_eq!((&job["state"], &job["errors"]), (&json!("failed"), &json!(1)), "{job}");
    assert_eq!(job["last_error"]["class"], "timeout", "{job}");
}

#[test]
fn a_cancelled_job_ends_and_its_worker_goes_on() {
    let server = Server::start();
    let script = "[ \"$(cat)\" = 1 ] || exit 0; echo ready > ready; exec sleep 600";
    let _work = Work::start(&server, &["--lease", "1s"], script);
    let id = push(&server, "1", &[]);
    wait_file(&server, "ready");
    well(&server, &["queue", "cancel", &id]);
    let ran = on(&server, &["queue", "job", &id, "--wait", "30s"]);
    assert_eq!((ran.code, job(&server, &id)["state"].as_str()), (1, Some("cancelled")), "{ran:?}");
    let next = push(&server, "2", &[]);
    well(&server, &["queue", "job", &next, "--wait", "30s"]);
}

#[test]
fn an_outcome_survives_a_server_that_is_killed() {
    let mut server = Server::start();
    let id = push(&server, "1", &[]);
    let script = "echo ready > ready; while [ ! -e go ]; do sleep 0.01; done; echo gone > gone";
    let socket = server.socket();
    let url = format!("unix:{}", socket.display());
    let token = server.data_dir().join("admin.token");
    let token = token.to_str().unwrap();
    let options = ["--url", &url, "--token-file", token, "--max-jobs", "1"];
    let mut work = Work::start(&server, &options, script);
    wait_file(&server, "ready");
    server.kill();
    std::fs::write(server.folder().join("go"), "").unwrap();
    wait_file(&server, "gone");
    server.restart();
    assert_eq!(work.end(), Some(0));
    let job = job(&server, &id);
    assert_eq!((&job["state"], &job["attempt"]), (&json!("done"), &json!(1)), "{job}");
}

#[test]
fn a_worker_that_is_told_to_end_leaves_nothing_behind() {
    let server = Server::start();
    let id = push(&server, "1", &[]);
    let script = "echo ready > ready; exec sleep 600";
    let mut work = Work::start(&server, &["--name", "w"], script);
    wait_file(&server, "ready");
    assert!(well(&server, &["queue", "workers"]).contains("w "));
    let draining = || {
        work.signal(Signal::TERM);
        job(&server, &id)["state"] == "waiting"
    };
    wait_until("the job is given back", draining);
    assert_eq!(work.end(), Some(0));
    let job = job(&server, &id);
    assert_eq!((&job["errors"], &job["crashes"]), (&json!(0), &json!(0)), "{job}");
}

#[test]
fn queues_are_looked_at_and_steered() {
    let server = Server::start();
    let id = push(&server, "[1]", &["--type", "welcome", "--tag", "x", "--unique", "k"]);
    let again = on(&server, &["queue", "push", "mail", "[2]", "--unique", "k"]);
    assert_eq!((again.out.trim(), again.err.starts_with("not pushed")), (id.as_str(), true));
    assert!(well(&server, &["queue", "list"]).contains("mail"));
    let peeked = well(&server, &["queue", "peek", "mail", "--payload"]);
    assert!(peeked.contains(&id) && peeked.contains("[1]"), "{peeked}");
    assert!(well(&server, &["queue", "search", "--tag", "x"]).contains(&id));
    well(&server, &["queue", "pause", "mail"]);
    let why = well(&server, &["queue", "why", &id]);
    assert!(why.contains("paused"), "{why}");
    assert!(well(&server, &["queue", "list"]).contains("paused"));
    well(&server, &["queue", "resume", "mail"]);
    well(&server, &["queue", "set", "mail", "max_tries=3", "rate=100/s", "retention.done=7d"]);
    let shown = well(&server, &["queue", "show", "mail"]);
    assert!(shown.contains("max_tries"), "{shown}");
    assert!(well(&server, &["queue", "monitor", "--once"]).contains("waiting 1"));
    well(&server, &["queue", "clear", "mail", "--yes"]);
    let cleared = well(&server, &["queue", "job", &id]);
    assert!(cleared.contains("cancelled"), "{cleared}");
}

#[test]
fn failed_jobs_are_grouped_and_run_again() {
    let server = Server::start();
    let ids = ["1", "2"].map(|n| push(&server, n, &["--max-tries", "1"]));
    let script = "echo no such user >&2; exit 1";
    well(&server, &["work", "mail", "--max-jobs", "2", "--", "sh", "-c", script]);
    let groups = well(&server, &["queue", "failed", "mail", "--json"]);
    let groups: Value = serde_json::from_str(&groups).unwrap();
    assert_eq!(
        (&groups[0]["count"], &groups[0]["class"]),
        (&json!(2), &json!("exit_1")),
        "{groups}"
    );
    let fingerprint = groups[0]["fingerprint"].as_str().unwrap();
    assert_eq!(well(&server, &["queue", "retry", "--id", &ids[0]]), "1 run again\n");
    assert_eq!(well(&server, &["queue", "retry", "--fingerprint", fingerprint]), "1 run again\n");
    well(&server, &["work", "mail", "--max-jobs", "2", "--", "true"]);
    assert_eq!(ids.map(|id| job(&server, &id)["state"].clone()), ["done", "done"].map(Value::from));
}

#[test]
fn schedules_are_put_shown_and_deleted() {
    let server = Server::start();
    let put = ["schedule", "put", "nightly", "--cron", "0 3 * * *", "--timezone", "Europe/Berlin"];
    well(&server, &[&put[..], &["--queue", "mail", "--payload", "{\"a\":1}"]].concat());
    let list = well(&server, &["schedule", "list"]);
    assert!(list.contains("nightly") && list.contains("0 3 * * *"), "{list}");
    assert!(well(&server, &["schedule", "show", "nightly"]).contains("Europe/Berlin"));
    let bad = on(&server, &["schedule", "put", "x", "--cron", "* x * * *", "--queue", "mail"]);
    assert_eq!((bad.code, bad.err.contains("invalid_cron")), (1, true), "{bad:?}");
    well(&server, &["schedule", "delete", "nightly"]);
    assert_eq!(on(&server, &["schedule", "show", "nightly"]).code, 1);
}

#[test]
fn a_worker_needs_no_more_than_queue_work() {
    let server = Server::start();
    let id = push(&server, "1", &[]);
    let token = well(&server, &["token", "create", "w", "--scope", "queue:work"]);
    let data_dir = server.data_dir();
    let arguments = |token_file: &'static str| {
        ["--data-dir", data_dir.to_str().unwrap(), "--token-file", token_file, "work", "mail"]
            .map(str::to_owned)
    };
    let more = ["--max-jobs", "1", "--", "true"].map(str::to_owned);
    let all: Vec<String> = arguments("-").into_iter().chain(more).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(run_with(&all, &token).code, 0);
    assert_eq!(job(&server, &id)["state"], "done");
    let reader = well(&server, &["token", "create", "r", "--scope", "queue:read"]);
    let ran = run_with(&all, &reader);
    assert_eq!((ran.code, ran.err.contains("queue:work")), (4, true), "{ran:?}");
}

#[test]
fn a_job_is_explained_with_what_the_server_knows_of_it() {
    let server = Server::start();
    let why = |id: &str| well(&server, &["queue", "why", id]);
    let waits = push(&server, "[1]", &[]);
    let idle =
        "no worker asks for jobs of its queue; to start one: holdfast work mail -- COMMAND\n";
    assert_eq!(why(&waits), idle);
    let later = push(&server, "[2]", &["--delay", "1h"]);
    let until = job(&server, &later)["run_at"].as_str().unwrap().to_owned();
    assert!(why(&later).starts_with(&format!("it waits for its time: {until}\n")), "{until}");
    let client = server.client(Door::Tcp);
    let wish = json!({ "queues": ["mail"], "worker": "w1" });
    let leased = client.post("/v1/lease", &wish).expect(200);
    let since = job(&server, &waits)["started_at"].as_str().unwrap().to_owned();
    assert_eq!(why(&waits), format!("it runs at w1, since {since}\n"));
    let lease = leased["jobs"][0]["lease"].as_str().unwrap();
    let end = json!({ "error": { "message": "no route" }, "retry": false });
    client.post(&format!("/v1/leases/{lease}/fail"), &end).expect(200);
    assert_eq!(why(&waits), "it has ended: failed: no route\n");
}

#[test]
fn a_check_of_a_damaged_file_tells_of_it_and_never_panics() {
    let mut server = Server::start();
    let jobs: Vec<Value> = (0..500).map(|n| json!({ "queue": "mail", "payload": n })).collect();
    server.client(Door::Tcp).post("/v1/jobs", &json!({ "jobs": jobs })).expect(201);
    server.stop();
    let check = || on(&server, &["check"]);
    let sound = check();
    assert_eq!((sound.code, sound.out.contains("500 jobs")), (0, true), "{sound:?}");
    let log = server.data_dir().join("series.wal");
    let held = std::fs::read(&log).unwrap();
    std::fs::write(&log, [&held[..], b"\x01\0\0\0\0\0\0\0\x01"].concat()).unwrap();
    let damaged = check();
    assert_eq!((damaged.code, damaged.err.contains("one finding")), (3, true), "{damaged:?}");
    assert!(damaged.out.contains("series, the log: it is damaged behind "), "{damaged:?}");
    std::fs::write(&log, &held).unwrap();
    let file = server.data_dir().join("jobs.redb");
    let whole = std::fs::read(&file).unwrap();
    for seed in seeds(12) {
        let mut rng = Rng::from_seed(seed);
        let mut bytes = whole.clone();
        for _ in 0..64 {
            let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
            bytes[at] ^= 1 << rng.below(8);
        }
        std::fs::write(&file, &bytes).unwrap();
        let ran = check();
        assert!([1, 3].contains(&ran.code), "seed={seed}: {ran:?}");
        let told = ran.err.starts_with("holdfast: ") && ran.err.lines().count() == 1;
        assert!(told, "seed={seed}: {ran:?}");
    }
}
