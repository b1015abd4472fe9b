//! What is pushed, and that it comes back as it was.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Queue, by_both_doors, text};
use crate::api::new_tenant;
use crate::support::fresh;

/// The text between `"payload":` and the field behind it, as it stands in an answer.
#[track_caller]
fn payload_text(body: &[u8]) -> String {
    let body = std::str::from_utf8(body).unwrap();
    let (_, behind) = body.split_once("\"payload\":").unwrap_or_else(|| panic!("{body}"));
    behind.strip_suffix("}]}").or_else(|| behind.strip_suffix('}')).unwrap().to_owned()
}

const ODD: [&str; 8] = [
    r#"{"a" : 1 ,  "b":[ 1,2 , 3 ]}"#,
    r#"{"a":1,"a":2}"#,
    r#"{"big":123456789012345678901234567890.10,"e":1E+300}"#,
    r"-0.0",
    r#""\u00e4\ud83d\ude00\/""#,
    "{\n\t\"x\": null\r\n}",
    r"null",
    "\"\u{e4}\u{1f600}\"",
];

#[test]
fn json_comes_back_as_the_text_it_was() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        for odd in ODD {
            let body = format!("{{\"queue\":\"{}\",\"payload\": {odd} }}", queue.name);
            let request = client.request("POST", "/v1/jobs");
            client.send(&request.body(body.as_bytes())).expect(201);
            assert_eq!(queue.push_raw("", "application/json", odd.as_bytes()).status, 201);
            for _ in 0..2 {
                let leased = client.send(&queue.wish(&json!({})));
                assert_eq!(payload_text(&leased.body), odd);
                let lease = leased.json()["jobs"][0].clone();
                let shown = client.get(&format!("/v1/jobs/{}", text(&lease["id"])));
                assert_eq!(payload_text(&shown.body), odd);
                let done = format!("/v1/leases/{}/done", text(&lease["lease"]));
                let result = format!("{{\"result\":{odd}}}");
                client.send(&client.request("POST", &done).body(result.as_bytes())).expect(200);
                if odd != "null" {
                    let shown = client.get(&format!("/v1/jobs/{}", text(&lease["id"])));
                    assert!(shown.text().ends_with(&format!("\"result\":{odd}}}")), "{shown:?}");
                }
            }
        }
    });
}

#[test]
fn bytes_come_back_as_they_were() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        for content_type in ["application/octet-stream", "text/plain; charset=utf-8"] {
            let all: Vec<u8> = (0..=255).collect();
            for bytes in [&all[..], b"", b"{}"] {
                assert_eq!(queue.push_raw("", content_type, bytes).status, 201);
                let job = queue.lease_one();
                assert_eq!(base64(text(&job["payload_base64"])), bytes);
                assert_eq!(job["content_type"], content_type);
                assert!(job.get("payload").is_none(), "{job}");
                queue.end(&job, "done", &json!({})).expect(200);
            }
        }
        let more = json!({ "payload_base64": "AAEC", "content_type": "image/png" });
        let mut job = queue.job(&json!(0), &more);
        job.as_object_mut().unwrap().remove("payload");
        client.post("/v1/jobs", &job).expect(201);
        let job = queue.lease_one();
        let (bytes, kind) = (&job["payload_base64"], &job["content_type"]);
        assert_eq!((bytes, kind), (&json!("AAEC"), &json!("image/png")));
    });
}

/// What base64 says.
fn base64(text: &str) -> Vec<u8> {
    let value = |b: u8| match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits = text.bytes().filter(|b| *b != b'=').fold(String::new(), |mut bits, b| {
        write!(bits, "{:06b}", value(b)).unwrap();
        bits
    });
    let whole = bits.as_bytes().chunks_exact(8);
    whole.map(|b| u8::from_str_radix(std::str::from_utf8(b).unwrap(), 2).unwrap()).collect()
}

#[test]
fn a_raw_push_says_where_the_job_is() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let query = "type=mail&delay=1h&priority=high&max_tries=3&timeout=90s&tags=a,b";
        let answer = queue.push_raw(query, "text/plain", b"x");
        let pushed = answer.expect(201);
        let id = text(&pushed["id"]);
        assert_eq!(answer.header("location"), Some(&*format!("/v1/jobs/{id}")));
        assert_eq!((&pushed["queue"], &pushed["state"]), (&json!(queue.name), &json!("delayed")));
        let job = queue.show(id);
        assert_eq!(job["run_at"], pushed["run_at"]);
        let said = ["type", "priority", "max_tries", "timeout_ms", "tags"].map(|f| &job[f]);
        let wanted = [json!("mail"), json!("high"), json!(3), json!(90_000), json!(["a", "b"])];
        assert_eq!(said.map(Clone::clone), wanted);
        assert_eq!(queue.lease(), [] as [Value; 0], "its moment has not come");
    });
}

#[test]
fn many_are_pushed_all_or_none() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let job = |n: u64| queue.job(&json!(n), &json!({}));
        let jobs: Vec<Value> = (0..1000).map(job).collect();
        let pushed = client.post("/v1/jobs", &json!({ "jobs": jobs })).expect(201);
        assert_eq!(pushed["jobs"].as_array().unwrap().len(), 1000);
        assert_eq!(queue.page()["waiting"], 1000);
        let before = queue.state();
        let too_many: Vec<Value> = (0..1001).map(job).collect();
        client.post("/v1/jobs", &json!({ "jobs": too_many })).expect_problem(413, "too_large");
        let bad = json!({ "jobs": [job(1), { "queue": queue.name, "payload": 1, "delay": -1 }] });
        let problem = client.post("/v1/jobs", &bad).expect_problem(400, "invalid_delay");
        assert_eq!((&problem["index"], &problem["field"]), (&json!(1), &json!("delay")));
        client.post("/v1/jobs", &json!({ "jbos": [] })).expect_problem(400, "unknown_field");
        assert_eq!(queue.state(), before);
        let none = client.post("/v1/jobs", &json!({ "jobs": [] })).expect(201);
        assert_eq!(none, json!({ "jobs": [] }));
    });
}

#[test]
fn jobs_are_leased_in_order_and_queues_as_they_are_named() {
    by_both_doors(|client| {
        let (first, second) = (Queue::new(client), Queue::new(client));
        second.push(json!("s"), json!({ "priority": "critical" }));
        first.push(json!("bulk"), json!({ "priority": "bulk" }));
        first.push(json!("normal"), json!({}));
        first.push(json!("high"), json!({ "priority": "high" }));
        let wish = json!({ "queues": [first.name, second.name], "max": 10 });
        let leased = client.post("/v1/lease", &wish).expect(200);
        let jobs = leased["jobs"].as_array().unwrap();
        let order: Vec<&str> = jobs.iter().map(|job| text(&job["payload"])).collect();
        assert_eq!(order, ["high", "normal", "bulk", "s"]);
    });
}

#[test]
fn a_unique_key_is_held_by_one_job() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let first = queue.push_raw("unique=k", "text/plain", b"1").expect(201);
        let answer = queue.push_raw("unique=k", "text/plain", b"2");
        assert_eq!(answer.header("location"), None);
        assert_eq!(answer.expect(200), json!({ "id": first["id"], "duplicate": true }));
        let unique = queue.job(&json!(3), &json!({ "unique": { "key": "k" } }));
        let pushed = client.post("/v1/jobs", &json!({ "jobs": [unique] })).expect(201);
        assert_eq!(pushed["jobs"][0]["id"], first["id"]);
        assert_eq!(pushed["jobs"][0]["duplicate"], true);
        let job = queue.lease_one();
        assert_eq!(queue.push_raw("unique=k", "text/plain", b"4").status, 200, "it runs");
        queue.end(&job, "done", &json!({})).expect(200);
        let next = queue.push_raw("unique=k", "text/plain", b"5").expect(201);
        assert_ne!(next["id"], first["id"]);
        assert_eq!(queue.show(text(&next["id"]))["unique_key"], "k");
    });
}

#[test]
fn a_call_with_a_key_is_done_once() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let key = fresh("key");
        let raw = |key: &str, query: &str, body: &str| {
            let request = client.request("POST", &queue.path(&format!("/jobs{query}")));
            client.send(&request.header("Idempotency-Key", key).body(body.as_bytes()))
        };
        let first = raw(&key, "?type=a", "x");
        assert_eq!((first.status, first.header("idempotent-replayed")), (201, None));
        let again = raw(&key, "?type=a", "x");
        assert_eq!((again.status, &again.body), (201, &first.body));
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.header("location"), first.header("location"));
        for (query, body) in [("?type=b", "x"), ("?type=a", "y"), ("", "x")] {
            raw(&key, query, body).expect_problem(422, "idempotency_key_reused");
        }
        assert_eq!(queue.page()["waiting"], 1);

        let body = queue.job(&json!(1), &json!({}));
        let many = |key: &str| {
            let request = client.request("POST", "/v1/jobs").header("Idempotency-Key", key);
            client.send(&request.json(&body))
        };
        many(&key).expect_problem(422, "idempotency_key_reused");
        let key = fresh("key");
        let (first, again) = (many(&key), many(&key));
        assert_eq!((first.status, again.status, &first.body), (201, 201, &again.body));
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(queue.page()["waiting"], 2);
        let long = "k".repeat(256);
        for key in ["", "a\tb", &long] {
            raw(key, "", "x").expect_problem(400, "invalid_idempotency_key");
        }
        let refused = raw(&fresh("key"), "?delay=x", "x");
        refused.expect_problem(400, "invalid_delay");
        assert_eq!(queue.page()["waiting"], 2);
    });
}

#[test]
fn a_push_that_is_refused_changes_nothing() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let post = |more: Value| client.post("/v1/jobs", &queue.job(&json!(1), &more));
        post(json!({ "priority": "urgent" })).expect_problem(400, "invalid_priority");
        post(json!({ "run_at": 1_700_000_000_000_u64 })).expect_problem(400, "invalid_run_at");
        post(json!({ "max_tries": 0 })).expect_problem(400, "invalid_max_tries");
        post(json!({ "payload_base64": "AA==" })).expect_problem(400, "invalid_payload");
        post(json!({ "queue": "a b" })).expect_problem(400, "invalid_queue");
        queue.push_raw("", "application/json", b"{\"a\":}").expect_problem(400, "invalid_payload");
        queue
            .push_raw("", "application/json; charset=utf-8", b"x")
            .expect_problem(400, "invalid_payload");
        queue.push_raw("nope=1", "text/plain", b"x").expect_problem(400, "unknown_parameter");
        let large = vec![b'x'; (1 << 20) + 1];
        let problem = queue.push_raw("", "text/plain", &large).expect_problem(413, "too_large");
        assert_eq!(problem["limit"], 1 << 20);
        assert_eq!(queue.state(), json!(404));
        assert_eq!(queue.push_raw("", "text/plain", &large[1..]).status, 201);
    });
}

#[test]
fn a_full_queue_refuses_and_says_when_to_come_back() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let patch = client.request("PATCH", &queue.path("")).json(&json!({ "max_depth": 2 }));
        client.send(&patch).expect(200);
        let jobs: Vec<Value> = (0..3).map(|n| queue.job(&json!(n), &json!({}))).collect();
        let answer = client.post("/v1/jobs", &json!({ "jobs": jobs }));
        let problem = answer.expect_problem(429, "queue_full");
        assert_eq!((&problem["limit"], &problem["queue"]), (&json!(2), &json!(queue.name)));
        assert!(answer.header("retry-after").is_some());
        assert_eq!(queue.page()["waiting"], 0, "all or none");
        queue.push(json!(1), json!({}));
        queue.push(json!(1), json!({}));
        queue.push_raw("", "text/plain", b"x").expect_problem(429, "queue_full");
    });
}

#[test]
fn quotas_of_a_tenant_hold() {
    by_both_doors(|client| {
        let name = new_tenant(client);
        let quotas = json!({ "quotas": { "queues": 1, "jobs_waiting": 2 } });
        client.put(&format!("/v1/tenants/{name}"), &quotas).expect(200);
        let secret = crate::api::new_secret(client, &name, &["queue:push", "queue:read"]);
        let queue = Queue::new(&client.with_token(&secret));
        queue.push(json!(1), json!({}));
        queue.push(json!(1), json!({}));
        let waiting = queue.push_raw("", "text/plain", b"x");
        let problem = waiting.expect_problem(429, "quota_exceeded");
        assert_eq!((&problem["quota"], &problem["limit"]), (&json!("jobs_waiting"), &json!(2)));
        let other = Queue::new(&queue.client);
        let problem = other.push_raw("", "text/plain", b"x").expect_problem(403, "quota_exceeded");
        assert_eq!(problem["quota"], "queues");
    });
}
