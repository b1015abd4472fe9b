//! How soon the job of a killed worker is given to the next one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdfast::testing::amount;
use serde_json::Value;

use crate::at;
use crate::figures::{Limit, target};
use crate::load::{Desk, QUEUE, leases};
use crate::server::{Holdfast, PATIENCE, Process, connect, receive, send};
use crate::wake::{expect, text};

/// As long as the worker lives, the one who waits gets nothing.
const LIVES: Duration = Duration::from_millis(50);

/// A worker in a process of its own: says who it is, leases a job, says which, and does nothing more.
pub(crate) fn child_worker(address: &str, token: &str, number: &str) {
    let desk = Desk { address: address.parse().unwrap(), token: token.to_owned() };
    let mut stream = connect(desk.address).unwrap();
    let name = rustix::system::uname();
    let (host, pid) = (name.nodename().to_str().unwrap(), std::process::id());
    let beat = format!(r#"{{"pid":{pid},"host":"{host}","queues":["{QUEUE}"],"state":"busy"}}"#);
    expect(&mut stream, &desk.post(&format!("/v1/workers/victim-{number}/beat"), &beat), 200);
    let body = format!(
        r#"{{"queues":["{QUEUE}"],"max":1,"wait":"5s","lease":"1h","worker":"victim-{number}"}}"#
    );
    let leased = expect(&mut stream, &desk.post("/v1/lease", &body), 200);
    println!("{}", text(&leased));
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

/// The only job of an answer.
fn job(text: &str) -> Value {
    let answer: Value = serde_json::from_str(text).unwrap();
    let jobs = answer["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 1, "{text}");
    jobs[0].clone()
}

/// From the kill to the answer of the one who waited.
fn kill_one(server: &Holdfast, number: u64) -> Duration {
    let desk = Desk::of(server);
    let mut stream = connect(server.address).unwrap();
    expect(&mut stream, &desk.push(), 201);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child-worker", &server.address.to_string(), &desk.token, &number.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut victim = Process(child);
    said.read_line(&mut line).unwrap();
    let before = job(&line);
    let body = format!(r#"{{"queues":["{QUEUE}"],"max":1,"wait":"9s"}}"#);
    send(&mut stream, &desk.post("/v1/lease", &body)).unwrap();
    stream.set_read_timeout(Some(LIVES)).unwrap();
    assert!(stream.peek(&mut [0]).is_err(), "no answer as long as the first one lives");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let began = Instant::now();
    victim.0.kill().unwrap();
    let answer = receive(&mut stream).unwrap();
    let took = began.elapsed();
    let after = job(text(&answer));
    assert_eq!(after["id"], before["id"], "the same job");
    assert_eq!(after["attempt"], 2, "its second attempt");
    let lease = leases(text(&answer)).next().unwrap();
    expect(&mut stream, &desk.done(lease), 200);
    took
}

/// The scene.
pub(super) fn scene() {
    let server = Holdfast::start();
    let kills = amount("HOLDFAST_BENCH_KILLS", 50);
    let mut took: Vec<Duration> = (0..kills).map(|number| kill_one(&server, number)).collect();
    took.sort_unstable();
    println!(
        "\ndeath: {kills} workers that hold a job are killed, and somebody else waits for one\n"
    );
    let (p50, p99) = (at(&took, 500), at(&took, 990));
    println!("{:<54} p50 {p50:.2} ms, p99 {p99:.2} ms", "kill -9 to the next lease");
    target("  the slowest, ms", at(&took, 1000), Limit::AtMost(200.0));
}
