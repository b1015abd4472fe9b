//! Searching the history of many jobs.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::figures::{Limit, target};
use crate::history::{self, HISTORY_ROWS, OUTBOX_ROWS, figure};
use crate::load::{Desk, leases, payload};
use crate::server::{Holdfast, connect};
use crate::wake::{expect, text};
use crate::{at, many_jobs};

const QUEUES: u64 = 20;
const TYPES: u64 = 50;
const CUSTOMERS: u64 = 1000;
/// Clients who make the jobs; each has queues of its own.
const CLIENTS: u64 = 4;
/// Jobs of one push and of one report.
const IN_A_CALL: u64 = 1000;
/// One of so many fails.
const FAILS: u32 = 20;
/// With more than this before the history, one waits: beyond half a million jobs are only counted.
const OUTBOX_MOST: f64 = 200_000.0;
const CALLS: u64 = 200;

/// The queue of the n-th job of a client.
fn queue(client: u64, n: u64) -> u64 {
    client + CLIENTS * (n % (QUEUES / CLIENTS))
}

/// A push of jobs from the n-th on.
fn push(desk: &Desk, client: u64, first: u64, jobs: u64) -> Vec<u8> {
    let mut body = String::from(r#"{"jobs":["#);
    for n in first..first + jobs {
        let (queue, kind, customer) = (queue(client, n), n / 7 % TYPES, n / 3 % CUSTOMERS);
        let comma = if n == first { "" } else { "," };
        let (payload, region) = (payload(), n % 5);
        write!(
            body,
            r#"{comma}{{"queue":"q{queue:02}","type":"type-{kind:02}","tags":["customer-{customer}","region-{region}"],"payload":{payload}}}"#
        )
        .unwrap();
    }
    body.push_str("]}");
    desk.post("/v1/jobs", &body)
}

/// A report of all of these: most are done.
fn report(desk: &Desk, leases: &[String]) -> Vec<u8> {
    let (mut done, mut fail) = (Vec::new(), Vec::new());
    for lease in leases {
        // By chance, and not every so many: a type of which all jobs fail would be throttled.
        let chance = lease.bytes().fold(7_u32, |sum, b| sum.wrapping_mul(31) ^ u32::from(b));
        if chance.wrapping_mul(0x9e37_79b9) >> 16 & 0xff < 256 / FAILS {
            let error = r#"{"class":"Timeout","message":"no answer from the mail server"}"#;
            fail.push(format!(r#"{{"lease":"{lease}","error":{error},"retry":false}}"#));
        } else {
            done.push(format!(r#"{{"lease":"{lease}"}}"#));
        }
    }
    let body = format!(r#"{{"done":[{}],"fail":[{}]}}"#, done.join(","), fail.join(","));
    desk.post("/v1/report", &body)
}

/// One of those who make jobs and finish them.
fn make(server: &Holdfast, client: u64, jobs: u64) {
    let desk = Desk::of(server);
    let mut stream = connect(server.address).unwrap();
    let mine: Vec<String> =
        (0..QUEUES / CLIENTS).map(|n| format!(r#""q{:02}""#, queue(client, n))).collect();
    let lease = format!(r#"{{"queues":[{}],"max":100}}"#, mine.join(","));
    let lease = desk.post("/v1/lease", &lease);
    for first in (0..jobs).step_by(usize::try_from(IN_A_CALL).unwrap()) {
        let some = IN_A_CALL.min(jobs - first);
        expect(&mut stream, &push(&desk, client, first, some), 201);
        let mut held: Vec<String> = Vec::new();
        while held.len() < usize::try_from(some).unwrap() {
            let leased = expect(&mut stream, &lease, 200);
            let before = held.len();
            held.extend(leases(text(&leased)).map(str::to_owned));
            assert_ne!(held.len(), before, "what was pushed can be leased");
        }
        expect(&mut stream, &report(&desk, &held), 200);
        while OUTBOX_MOST < figure(server, OUTBOX_ROWS) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Asks again and again for something else, and prints how long it took.
fn ask(server: &Holdfast, name: &str, query: impl Fn(u64) -> String) {
    let desk = Desk::of(server);
    let mut stream = connect(server.address).unwrap();
    let mut found = 0;
    let once = |n| {
        let request = desk.get(&format!("/v1/jobs?{}", query(n)));
        let began = Instant::now();
        let answer = expect(&mut stream, &request, 200);
        let took = began.elapsed();
        let page: Value = serde_json::from_slice(answer.body()).unwrap();
        found += page["items"].as_array().unwrap().len();
        took
    };
    let mut took: Vec<Duration> = (0..CALLS).map(once).collect();
    took.sort_unstable();
    let each = found as f64 / CALLS as f64;
    println!("{name:<54} p50 {:.2} ms, {each:.0} jobs an answer", at(&took, 500));
    target("  p99, ms", at(&took, 990), Limit::AtMost(50.0));
    assert_ne!(found, 0, "{name}: something is found");
}

/// The scene.
pub(super) fn scene() {
    let (server, jobs) = (Holdfast::start(), many_jobs());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let server = &server;
            scope.spawn(move || make(server, client, jobs / CLIENTS));
        }
    });
    history::settle(&server);
    println!(
        "\nsearch: {jobs} jobs, {QUEUES} queues, {TYPES} types, {CUSTOMERS} tags and 5 more, made and \
         finished in {:.0} s; {:.0} are in the history; {CALLS} calls each\n",
        began.elapsed().as_secs_f64(),
        figure(&server, HISTORY_ROWS)
    );
    ask(&server, "by queue", |n| format!("queue=q{:02}", n % QUEUES));
    let states = ["done", "failed"];
    ask(&server, "by state", |n| format!("state={}", states[usize::try_from(n % 2).unwrap()]));
    ask(&server, "by type", |n| format!("type=type-{:02}", n % TYPES));
    ask(&server, "by a tag of one job in 1,000", |n| format!("tag=customer-{}", n * 5));
    ask(&server, "by a tag of one job in 5", |n| format!("tag=region-{}", n % 5));
    ask(&server, "by queue, state and type", |n| {
        format!("queue=q{:02}&state=failed&type=type-{:02}", n % QUEUES, n % TYPES)
    });
    ask(&server, "by queue and a tag", |n| {
        format!("queue=q{:02}&tag=customer-{}", n % QUEUES, n * 5)
    });
    ask(&server, "by text", |_| "q=mail%20server".to_owned());
}
