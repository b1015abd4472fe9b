//! Waiting for jobs, and for the end of a job. Each test has a server of its own: what waits is known.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Queue, text};
use crate::api::by_both_doors_of;
use crate::support::{Answer, Client, Connection, Server, wait_until};

/// Sends a call for jobs that waits, and does not wait for its answer.
pub(super) fn park(queue: &Queue<'_>, more: &Value) -> Connection {
    let mut connection = queue.client.connect();
    connection.send(&queue.wish(more).bytes());
    connection
}

/// Waits until so many callers wait for jobs.
pub(super) fn until_parked(client: &Client<'_>, count: u64) {
    wait_until("they wait for jobs", || {
        client.get("/v1/status").expect(200)["jobs"]["waiters"] == count
    });
}

fn jobs(answer: &Answer) -> Vec<Value> {
    answer.expect(200)["jobs"].as_array().unwrap().clone()
}

#[test]
fn one_job_wakes_one_of_those_who_wait() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let queue = Queue::new(client);
        let mut waiting: Vec<_> = (0..2).map(|_| park(&queue, &json!({ "wait": "50s" }))).collect();
        until_parked(client, 2);
        let id = queue.push(json!(1), json!({}));
        until_parked(client, 1);
        let second = queue.push(json!(2), json!({}));
        let mut got: Vec<Value> =
            waiting.iter_mut().flat_map(|its| jobs(&its.receive().woken())).collect();
        got.sort_by_key(|job| job["payload"].as_u64());
        let ids: Vec<&str> = got.iter().map(|job| text(&job["id"])).collect();
        assert_eq!(ids, [&*id, &*second]);
        until_parked(client, 0);
        for job in &got {
            assert_eq!(job["attempt"], 1);
            queue.end(job, "done", &json!({})).expect(200);
        }
    });
}

#[test]
fn a_wait_ends_with_nothing_and_is_not_compressed() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let queue = Queue::new(client);
        let answer = client.send(&queue.wish(&json!({ "wait": "150ms" })));
        assert_eq!(answer.body, b"{\"jobs\":[]}");
        assert!(150.0 <= answer.response_ms(), "{answer:?}");
        queue.push(json!("x".repeat(5000)), json!({}));
        let request = queue.wish(&json!({ "wait": "1s" })).header("Accept-Encoding", "gzip");
        let answer = client.send(&request);
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(jobs(&answer).len(), 1);
    });
}

#[test]
fn a_report_that_waits_is_committed_before() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let queue = Queue::new(client);
        let first = queue.push(json!(1), json!({}));
        let lease = queue.lease_one()["lease"].clone();
        let next = json!({ "queues": [queue.name], "wait": "50s" });
        let report = json!({ "done": [{ "lease": lease }], "next": next });
        let mut waiting = client.connect();
        waiting.send(&client.request("POST", "/v1/report").json(&report).bytes());
        until_parked(client, 1);
        assert_eq!(queue.show(&first)["state"], "done");
        let second = queue.push(json!(2), json!({}));
        let answer = waiting.receive().woken().expect(200);
        assert_eq!(answer["results"][0]["status"], "ok");
        assert_eq!(answer["jobs"][0]["id"], json!(second));
        queue.end(&answer["jobs"][0], "done", &json!({})).expect(200);
    });
}

#[test]
fn who_waits_for_a_job_is_told_its_end() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let queue = Queue::new(client);
        let id = queue.push(json!(1), json!({}));
        let path = format!("/v1/jobs/{id}?wait=");
        let soon = client.get(&format!("{path}100ms")).expect(200);
        assert_eq!(soon["state"], "waiting");
        client.get(&format!("{path}51s")).expect_problem(400, "invalid_wait");
        let mut waiting = client.connect();
        waiting.send(&client.request("GET", &format!("{path}50s")).bytes());
        let job = queue.lease_one();
        queue.end(&job, "done", &json!({ "result": 7 })).expect(200);
        let over = waiting.receive().woken().expect(200);
        assert_eq!((&over["state"], &over["result"]), (&json!("done"), &json!(7)), "{over}");
        let over = client.get(&format!("{path}50s")).expect(200);
        assert_eq!(over["state"], "done", "it is over already");
        client.get("/v1/jobs/0000000000000?wait=50s").expect_problem(404, "unknown_job");
    });
}

#[test]
fn a_drain_answers_those_who_wait() {
    let mut server = Server::start();
    let client = server.client(crate::support::Door::Unix);
    let queue = Queue::new(&client);
    let id = queue.push(json!(1), json!({}));
    queue.lease_one();
    let mut waiting = park(&queue, &json!({ "wait": "50s" }));
    let mut watching = client.connect();
    watching.send(&client.request("GET", &format!("/v1/jobs/{id}?wait=50s")).bytes());
    until_parked(&client, 1);
    server.signal(Signal::TERM);
    let answer = waiting.receive().woken();
    assert_eq!((answer.expect(200), answer.closes()), (json!({ "jobs": [] }), true));
    let answer = watching.receive().woken();
    assert_eq!((&answer.expect(200)["state"], answer.closes()), (&json!("running"), true));
    assert!(server.wait().success());
}
