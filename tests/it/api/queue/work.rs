//! Ends of attempts, one by one and in reports; cancelling.

use serde_json::{Value, json};

use super::{Queue, by_both_doors, text};

#[test]
fn an_attempt_fails_as_its_worker_says() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let id = queue.push(
            json!(1),
            json!({ "max_tries": 2, "backoff": { "kind": "fixed", "base": "1h" } }),
        );
        let job = queue.lease_one();
        let before = queue.state();
        queue.end(&job, "fail", &json!({})).expect_problem(400, "invalid_error");
        let bad = json!({ "error": { "message": "m" }, "retry": "x" });
        queue.end(&job, "fail", &bad).expect_problem(400, "invalid_retry");
        queue.end(&job, "done", &json!({ "reslut": 1 })).expect_problem(400, "unknown_field");
        assert_eq!(queue.state(), before);
        let error = json!({ "error": { "class": "E", "message": "m", "trace": "t" } });
        let failed = queue.end(&job, "fail", &error).expect(200);
        assert_eq!(failed["state"], "delayed");
        assert_eq!(queue.show(&id)["run_at"], failed["run_at"]);
        assert_eq!(queue.end(&job, "fail", &error).expect(200), failed, "the same again");
        let shown = queue.show(&id);
        let told = &shown["last_error"];
        assert_eq!([&told["class"], &told["message"], &told["trace"]], ["E", "m", "t"]);
        let lost = queue.end(&job, "done", &json!({})).expect_problem(409, "lease_lost");
        assert_eq!(lost["state"], "delayed");
    });
}

#[test]
fn what_is_no_lease_is_unknown() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        for lease in ["x", &"0".repeat(39)] {
            for verb in ["done", "release", "extend"] {
                let answer = client.post(&format!("/v1/leases/{lease}/{verb}"), &json!({}));
                answer.expect_problem(404, "unknown_lease");
            }
        }
        queue.push(json!(1), json!({}));
        let job = queue.lease_one();
        let mut wrong = text(&job["lease"]).to_owned();
        let last = if wrong.ends_with('0') { "1" } else { "0" };
        wrong.replace_range(38.., last);
        let forged = json!({ "lease": wrong });
        let problem = queue.end(&forged, "done", &json!({})).expect_problem(409, "lease_lost");
        assert_eq!(problem["state"], "running");
        queue.end(&job, "done", &json!({})).expect(200);
    });
}

#[test]
fn a_report_ends_attempts_and_leases_the_next() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        for n in 0..5 {
            queue.push(json!(n), json!({}));
        }
        let leased = client.send(&queue.wish(&json!({ "max": 3 }))).expect(200);
        let lease = |n: usize| leased["jobs"][n]["lease"].clone();
        let report = json!({
            "done": [{ "lease": lease(0), "result": 1 }, { "lease": "nonsense" }],
            "fail": [{ "lease": lease(1), "error": { "message": "m" }, "retry": false }],
            "release": [{ "lease": lease(2), "delay": "1h" }],
            "next": { "queues": [queue.name], "max": 5 },
        });
        let answer = client.post("/v1/report", &report).expect(200);
        let results = |status: &str| {
            json!([
                { "lease": lease(0), "status": status, "state": "done" },
                { "lease": "nonsense", "status": "lease_lost" },
                { "lease": lease(1), "status": status, "state": "failed" },
                { "lease": lease(2), "status": status, "state": "delayed" },
            ])
        };
        assert_eq!(answer["results"], results("ok"));
        assert_eq!(answer["jobs"].as_array().unwrap().len(), 2);
        // The answer was lost: it is said again.
        let again = client.post("/v1/report", &report).expect(200);
        assert_eq!(again["results"], results("repeat"));
        assert_eq!(again["jobs"], json!([]));
        let other = json!({ "release": [{ "lease": lease(0) }], "done": [{ "lease": lease(1) }] });
        let lost = client.post("/v1/report", &other).expect(200);
        let status: Vec<&str> =
            lost["results"].as_array().unwrap().iter().map(|its| text(&its["status"])).collect();
        assert_eq!(status, ["lease_lost", "lease_lost"]);
        assert_eq!(
            client.post("/v1/report", &json!({})).expect(200),
            json!({ "results": [], "jobs": [] })
        );
        let before = queue.state();
        let lease = answer["jobs"][0]["lease"].clone();
        let bad = json!({ "done": [{ "lease": lease }], "next": { "queues": [] } });
        client.post("/v1/report", &bad).expect_problem(400, "invalid_queues");
        assert_eq!(queue.state(), before, "nothing of it was done");
    });
}

#[test]
fn a_job_is_cancelled_wherever_it_stands() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let cancel = |id: &str| client.delete(&format!("/v1/jobs/{id}"));
        for more in [json!({}), json!({ "delay": "1h" })] {
            let id = queue.push(json!(1), more);
            assert_eq!(cancel(&id).expect(200), json!({ "id": id, "state": "cancelled" }));
            assert_eq!(queue.show(&id)["state"], "cancelled");
            let problem = cancel(&id).expect_problem(409, "job_finished");
            assert_eq!(problem["state"], "cancelled");
        }
        let id = queue.push(json!(1), json!({}));
        let job = queue.lease_one();
        assert_eq!(cancel(&id).expect(202)["state"], "running");
        assert_eq!(queue.end(&job, "extend", &json!({})).expect(200)["cancel"], true);
        assert_eq!(queue.show(&id)["cancel"], true);
        assert_eq!(queue.end(&job, "release", &json!({})).expect(200)["state"], "cancelled");
        assert_eq!(queue.lease(), [] as [Value; 0]);
        cancel("0000000000000").expect_problem(404, "unknown_job");
        cancel("x").expect_problem(400, "invalid_id");
        let failed = queue.failed(json!(1), "x");
        assert_eq!(cancel(&failed).expect_problem(409, "job_finished")["state"], "failed");
    });
}

#[test]
fn a_job_says_why_it_does_not_run() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let why = |id: &str| client.get(&format!("/v1/jobs/{id}/why")).expect(200);
        let codes = |why: &Value| -> Vec<String> {
            let reasons = why["reasons"].as_array().unwrap().iter();
            reasons.map(|reason| text(&reason["code"]).to_owned()).collect()
        };
        let id = queue.push(json!(1), json!({}));
        client.send(&client.request("POST", &queue.path("/pause"))).expect(200);
        let paused = why(&id);
        assert_eq!(paused["runnable"], false, "{paused}");
        assert!(codes(&paused).contains(&"queue_paused".to_owned()), "{paused}");
        assert_eq!(queue.lease(), [] as [Value; 0]);
        client.send(&client.request("POST", &queue.path("/resume"))).expect(200);
        let delayed = queue.push(json!(2), json!({ "delay": "1h" }));
        assert_eq!(codes(&why(&delayed))[0], "delayed");
        assert_eq!(why(&delayed)["reasons"][0]["until"], queue.show(&delayed)["run_at"]);
        let job = queue.lease_one();
        assert_eq!(codes(&why(&id)), ["running"]);
        queue.end(&job, "done", &json!({})).expect(200);
        let over = why(&id);
        assert_eq!(
            (codes(&over), &over["reasons"][0]["state"]),
            (vec!["finished".to_owned()], &json!("done"))
        );
        client.get("/v1/jobs/0000000000000/why").expect_problem(404, "unknown_job");
    });
}

#[test]
fn a_call_for_jobs_that_is_refused_says_why() {
    by_both_doors(|client| {
        let refused =
            |body: Value, code: &str| client.post("/v1/lease", &body).expect_problem(400, code);
        refused(json!({}), "invalid_queues");
        refused(json!({ "queues": [] }), "invalid_queues");
        refused(json!({ "queues": ["a b"] }), "invalid_queues");
        refused(json!({ "queues": ["a"], "max": 101 }), "invalid_max");
        refused(json!({ "queues": ["a"], "wait": "51s" }), "invalid_wait");
        refused(json!({ "queues": ["a"], "lease": "25h" }), "invalid_lease");
        refused(json!({ "queues": ["a"], "worker": "" }), "invalid_worker");
        refused(json!({ "queue": "a" }), "unknown_field");
        let queue = Queue::new(client);
        assert_eq!(queue.lease(), [] as [Value; 0], "what is not there is empty");
        assert_eq!(queue.state(), json!(404));
    });
}

#[test]
fn an_empty_list_is_an_object_without_fields_as_php_writes_it() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        for (verb, answer) in [("done", "done"), ("release", "waiting")] {
            queue.push(json!(1), json!({}));
            let lease = text(&queue.lease()[0]["lease"]).to_owned();
            let ended = client.post(&format!("/v1/leases/{lease}/extend"), &json!([])).expect(200);
            assert_eq!(ended["cancel"], false, "{ended}");
            let ended = client.post(&format!("/v1/leases/{lease}/{verb}"), &json!([])).expect(200);
            assert_eq!(ended["state"], answer, "{ended}");
        }
        let kept = json!({ "max_tries": 3, "retention": { "rows": 5 } });
        let patch =
            |body: &Value| client.send(&client.request("PATCH", &queue.path("")).json(body));
        patch(&kept).expect(200);
        for nothing in [json!([]), json!({ "retention": [] })] {
            let settings = patch(&nothing).expect(200)["settings"].clone();
            assert_eq!(settings["max_tries"], 3, "{settings}");
            assert_eq!(settings["retention"]["rows"], 5, "{settings}");
        }
        for wrong in [json!([1]), json!([{}]), json!({ "retention": [1] })] {
            assert_eq!(patch(&wrong).status, 400, "{wrong}");
        }
        let said = patch(&json!({ "backoff": [] })).expect(400);
        assert_eq!(said["detail"], "kind is exponential, fixed or list");
    });
}

#[test]
fn how_long_it_takes_is_said_only_where_it_is_known() {
    by_both_doors(|client| {
        let wait = |settings: &Value| {
            let queue = Queue::new(client);
            let patch = client.request("PATCH", &queue.path("")).json(settings);
            client.send(&patch).expect(200);
            queue.push(json!(1), json!({}));
            let second = queue.push(json!(2), json!({}));
            assert_eq!(queue.lease().len(), 1);
            client.get(&format!("/v1/jobs/{second}/why")).expect(200)
        };
        let why = wait(&json!({ "rate": "2/h" }));
        assert_eq!(why["reasons"][0]["code"], "rate_limited", "{why}");
        let eta = why["eta_ms"].as_u64().unwrap();
        assert!((1_500_000..=1_800_000).contains(&eta), "{why}");
        let why = wait(&json!({ "concurrency": 1 }));
        assert_eq!(why["reasons"][0]["code"], "concurrency", "{why}");
        assert_eq!(why.get("eta_ms"), None, "{why}");
    });
}
