//! What those do who look after queues: settings, clearing, failures.

use serde_json::{Value, json};

use super::{Queue, by_both_doors, text};

fn patch(queue: &Queue<'_>, body: &Value) -> crate::support::Answer {
    queue.client.send(&queue.client.request("PATCH", &queue.path("")).json(body))
}

#[test]
fn settings_are_merged_and_null_is_the_default() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        client.get(&queue.path("")).expect_problem(404, "unknown_queue");
        let all = json!({
            "paused": true, "max_depth": 10, "max_tries": 3, "timeout": "90s", "rate": "100/m",
            "backoff": { "kind": "list", "list": ["5s", 60] }, "concurrency": 4,
            "retention": { "done": "1d", "rows": 5, "bytes": "64MiB", "failed": "2d" },
            "target_wait": "5m", "history_payload": true,
        });
        let settings = patch(&queue, &all).expect(200)["settings"].clone();
        let told = json!({
            "paused": true, "max_depth": 10, "max_tries": 3, "timeout_ms": 90_000, "rate": "100/m",
            "backoff": { "kind": "list", "list_ms": [5_000, 60_000] }, "concurrency": 4,
            "retention": { "done_ms": 86_400_000, "rows": 5, "bytes": 64 << 20, "failed_ms": 172_800_000 },
            "target_wait_ms": 300_000, "history_payload": true,
        });
        assert_eq!(settings, told);
        assert_eq!(queue.page()["settings"], told);
        let less = json!({ "rate": null, "retention": { "rows": null } });
        let settings = patch(&queue, &less).expect(200)["settings"].clone();
        assert_eq!(
            (&settings["rate"], &settings["retention"]["rows"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(settings["max_depth"], 10, "the rest stays");
        let before = queue.state();
        for (body, code) in [
            (json!({ "rate": "1/d" }), "invalid_rate"),
            (json!({ "max_depth": 0 }), "invalid_max_depth"),
            (json!({ "concurrency": 0, "paused": false }), "invalid_concurrency"),
            (json!({ "retention": { "bytes": "5%" } }), "invalid_retention"),
            (json!({ "pasued": true }), "unknown_field"),
        ] {
            patch(&queue, &body).expect_problem(400, code);
        }
        assert_eq!(queue.state(), before);
        assert_eq!(queue.client.delete(&queue.path("")).status, 204);
        client.get(&queue.path("")).expect_problem(404, "unknown_queue");
        client.delete(&queue.path("")).expect_problem(404, "unknown_queue");
    });
}

#[test]
fn settings_of_a_queue_hold_for_its_jobs() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        patch(&queue, &json!({ "max_tries": 7, "concurrency": 1, "history_payload": true }))
            .expect(200);
        let id = queue.push(json!("kept"), json!({}));
        queue.push(json!(2), json!({}));
        assert_eq!(queue.show(&id)["max_tries"], 7);
        let job = queue.lease_one();
        assert_eq!(queue.lease(), [] as [Value; 0], "one at a time");
        queue.end(&job, "done", &json!({})).expect(200);
        assert_eq!(queue.show(&id)["payload"], "kept");
        let job = queue.lease_one();
        queue.end(&job, "done", &json!({})).expect(200);
    });
}

#[test]
fn a_queue_with_jobs_is_not_forgotten() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        queue.push(json!(1), json!({}));
        let problem = client.delete(&queue.path("")).expect_problem(409, "queue_not_empty");
        assert_eq!(problem["jobs"], 1);
        assert_eq!(queue.page()["waiting"], 1);
    });
}

#[test]
fn a_queue_is_cleared_by_whoever_names_it_twice() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let failed = queue.failed(json!(1), "x");
        for _ in 0..3 {
            queue.push(json!(1), json!({}));
            queue.push(json!(1), json!({ "delay": "1h" }));
        }
        let clear = |body: Value| client.post(&queue.path("/clear"), &body);
        let before = queue.state();
        clear(json!({})).expect_problem(400, "invalid_confirm");
        clear(json!({ "confirm": "other" })).expect_problem(400, "invalid_confirm");
        let name = &queue.name;
        clear(json!({ "confirm": name, "states": ["running"] }))
            .expect_problem(400, "invalid_states");
        assert_eq!(queue.state(), before);
        assert_eq!(clear(json!({ "confirm": name })).expect(200), json!({ "cleared": 3 }));
        assert_eq!((&queue.page()["waiting"], &queue.page()["delayed"]), (&json!(0), &json!(3)));
        let rest = json!({ "confirm": name, "states": ["delayed", "failed", "waiting"] });
        assert_eq!(clear(rest).expect(200), json!({ "cleared": 4 }));
        client.get(&format!("/v1/jobs/{failed}")).expect_problem(404, "unknown_job");
    });
}

#[test]
fn failures_are_told_by_what_they_have_in_common() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let first = queue.failed(json!(1), "user 17 is not there");
        let second = queue.failed(json!(2), "user 18 is not there");
        let third = queue.failed(json!(3), "the disk is full");
        let path = format!("/v1/failures?queue={}", queue.name);
        let groups = client.get(&path).expect(200)["items"].clone();
        let counts: Vec<&Value> = groups.as_array().unwrap().iter().map(|g| &g["count"]).collect();
        assert_eq!(counts, [1, 2].map(|n| json!(n)).each_ref());
        assert_eq!((&groups[1]["class"], &groups[1]["types"]), (&json!("E"), &json!(["default"])));
        let page = client.get(&format!("{path}&limit=1")).expect(200);
        let next =
            client.get(&format!("{path}&limit=1&cursor={}", text(&page["next"]))).expect(200);
        assert_eq!(next["items"][0], groups[1]);

        let retry = |body: Value| client.post("/v1/failures/retry", &body);
        let before = queue.state();
        retry(json!({})).expect_problem(400, "malformed");
        retry(json!({ "ids": ["x"] })).expect_problem(400, "invalid_ids");
        retry(json!({ "fingerprint": "zz" })).expect_problem(400, "invalid_fingerprint");
        retry(json!({ "queue": queue.name, "rate": "x" })).expect_problem(400, "invalid_rate");
        let discard = |body: Value| client.post("/v1/failures/discard", &body);
        discard(json!({ "queue": queue.name, "rate": "1/s" })).expect_problem(400, "invalid_rate");
        assert_eq!(queue.state(), before);

        // Another queue may have failures of the same kind: the ids say which.
        assert_eq!(retry(json!({ "ids": [first, second] })).expect(200), json!({ "retried": 2 }));
        let job = queue.show(&first);
        assert_eq!((&job["state"], &job["errors"]), (&json!("waiting"), &json!(0)), "{job}");
        assert_eq!(job["last_error"]["message"], "user 17 is not there");
        assert_eq!(retry(json!({ "ids": [first] })).expect(200), json!({ "retried": 0 }));
        assert_eq!(queue.lease().len(), 2);
        assert_eq!(discard(json!({ "queue": queue.name })).expect(200), json!({ "discarded": 1 }));
        client.get(&format!("/v1/jobs/{third}")).expect_problem(404, "unknown_job");
        assert_eq!(client.get(&path).expect(200)["items"], json!([]));
    });
}

#[test]
fn failures_are_tried_again_at_a_pace() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        for n in 0..3 {
            queue.failed(json!(n), &format!("pace of {}", queue.name));
        }
        let path = format!("/v1/failures?queue={}", queue.name);
        let fingerprint = client.get(&path).expect(200)["items"][0]["fingerprint"].clone();
        let body = json!({ "fingerprint": fingerprint, "rate": "1/h" });
        let retried = client.post("/v1/failures/retry", &body).expect(200);
        // The other door's failures are of the same kind.
        assert!(3 <= retried["retried"].as_u64().unwrap(), "{retried}");
        let page = queue.page();
        assert_eq!(page["failed"], 0);
        assert_eq!(page["waiting"].as_u64().unwrap() + page["delayed"].as_u64().unwrap(), 3);
        assert!(2 <= page["delayed"].as_u64().unwrap(), "{page}");
    });
}
