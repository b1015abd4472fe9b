//! Lists: jobs, queues, and how they go on.

use serde_json::{Value, json};

use super::{Queue, by_both_doors, new_secret, new_tenant, text};

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

#[test]
fn a_search_finds_live_jobs_first_and_then_those_that_are_over() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let cancelled = queue.push(json!(1), json!({}));
        client.delete(&format!("/v1/jobs/{cancelled}")).expect(200);
        let done = queue.push(json!("d"), json!({ "type": "mail", "tags": ["red"] }));
        queue.end(&queue.lease_one(), "done", &json!({ "result": 5 })).expect(200);
        let failed = queue.failed(json!({ "secret": 1 }), "boom in the kitchen");
        let waiting = queue.push(json!("needle"), json!({ "tags": ["red"] }));
        let delayed = queue.push(json!(2), json!({ "delay": "1h", "type": "mail" }));
        let both = |a: &String, b: &String| sorted(vec![a.clone(), b.clone()]);

        let all = queue.search("");
        assert_eq!(all, [&waiting, &delayed, &failed, &done, &cancelled].map(String::clone));
        assert_eq!(queue.search("state=done"), std::slice::from_ref(&done));
        assert_eq!(sorted(queue.search("state=failed,waiting")), both(&failed, &waiting));
        assert_eq!(sorted(queue.search("type=mail")), both(&done, &delayed));
        assert_eq!(sorted(queue.search("tag=red")), both(&done, &waiting));
        assert_eq!(queue.search("q=NEEDLE"), std::slice::from_ref(&waiting));
        assert_eq!(queue.search("q=kitchen"), std::slice::from_ref(&failed));
        assert_eq!(queue.search("from=-1h").len(), 5);
        assert_eq!(queue.search("to=-1h"), [] as [String; 0]);

        let path = format!("/v1/jobs?queue={}", queue.name);
        let plain = client.get(&path).expect(200);
        assert!(plain["items"].as_array().unwrap().iter().all(|job| job.get("payload").is_none()));
        let full = client.get(&format!("{path}&fields=payload")).expect(200);
        let payload = |id: &String| {
            let job = full["items"].as_array().unwrap().iter().find(|job| job["id"] == **id);
            job.unwrap().get("payload").cloned()
        };
        assert_eq!(payload(&failed), Some(json!({ "secret": 1 })));
        assert_eq!((payload(&waiting), payload(&done)), (Some(json!("needle")), None));
        let shown = queue.show(&failed);
        assert_eq!(
            (&shown["state"], &shown["payload"]),
            (&json!("failed"), &json!({ "secret": 1 }))
        );
    });
}

#[test]
fn one_cursor_leads_through_all_of_them() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        for n in 0..7 {
            queue.push(json!(n), json!({}));
            queue.end(&queue.lease_one(), "done", &json!({})).expect(200);
        }
        for n in 0..4 {
            queue.push(json!(n), json!({}));
        }
        queue.push(json!(0), json!({ "delay": "1h" }));
        let all = queue.search("");
        assert_eq!(all.len(), 12);
        for limit in [1, 4, 5, 7] {
            let (mut found, mut cursor) = (Vec::new(), String::new());
            for _ in 0..40 {
                let path = format!("/v1/jobs?queue={}&limit={limit}{cursor}", queue.name);
                let page = client.get(&path).expect(200);
                let items = page["items"].as_array().unwrap();
                assert!(items.len() <= limit);
                found.extend(items.iter().map(|job| text(&job["id"]).to_owned()));
                let Some(next) = page["next"].as_str() else {
                    cursor.clear();
                    break;
                };
                cursor = format!("&cursor={next}");
            }
            assert_eq!((cursor, &found), (String::new(), &all), "by {limit}");
        }
        let page = client.get(&format!("/v1/jobs?queue={}&limit=1", queue.name)).expect(200);
        let cursor = text(&page["next"]).to_owned();
        client.get(&format!("/v1/queues?cursor={cursor}")).expect_problem(400, "invalid_cursor");
        client.get(&format!("/v1/jobs?cursor=x{cursor}")).expect_problem(400, "invalid_cursor");
    });
}

#[test]
fn a_search_that_makes_no_sense_is_refused() {
    by_both_doors(|client| {
        let refused = |query: &str, code: &str| {
            client.get(&format!("/v1/jobs?{query}")).expect_problem(400, code);
        };
        refused("state=dead", "invalid_state");
        refused("state=", "invalid_state");
        refused("queue=a%20b", "invalid_queue");
        refused("from=x", "invalid_from");
        refused("to=1700000000000", "invalid_to");
        refused("q=", "invalid_q");
        refused("tag=", "invalid_tag");
        refused("type=", "invalid_type");
        refused("fields=result", "invalid_fields");
        refused("limit=0", "invalid_limit");
        refused("limit=1001", "invalid_limit");
        refused("stat=done", "unknown_parameter");
    });
}

#[test]
fn queues_are_listed_by_name() {
    by_both_doors(|client| {
        let tenant = new_tenant(client);
        let secret = new_secret(client, &tenant, &["queue:push", "queue:admin", "queue:work"]);
        let client = client.with_token(&secret);
        let names = ["a", "b", "c", "d", "e"];
        for name in names.iter().rev() {
            let job = json!({ "queue": name, "payload": 1 });
            client.post("/v1/jobs", &job).expect(201);
        }
        let mut found: Vec<Value> = Vec::new();
        let mut path = "/v1/queues?limit=2".to_owned();
        loop {
            let page = client.get(&path).expect(200);
            found.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/queues?limit=2&cursor={next}");
        }
        let told: Vec<&str> = found.iter().map(|queue| text(&queue["queue"])).collect();
        assert_eq!(told, names);
        assert_eq!((&found[0]["waiting"], &found[0]["paused"]), (&json!(1), &json!(false)));
        assert!(found[0]["oldest_waiting_ms"].is_u64() && found[0]["failure_rate"].is_null());
        assert!(found[0]["wait_ms"]["p50"].is_null(), "{}", found[0]);
        assert_eq!(client.get("/v1/queues?limit=5").expect(200)["next"], Value::Null);
    });
}

#[test]
fn a_queue_tells_what_happened_in_it() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        queue.push(json!(1), json!({ "type": "mail" }));
        queue.end(&queue.lease_one(), "done", &json!({})).expect(200);
        queue.failed(json!(1), "x");
        let page = queue.page();
        let totals =
            ["pushed", "started", "done", "failed", "given_up"].map(|f| &page["totals"][f]);
        assert_eq!(totals, [2, 2, 1, 1, 1].map(|n| json!(n)).each_ref());
        assert_eq!((&page["failed"], &page["failure_rate"]), (&json!(1), &json!(0.5)), "{page}");
        assert!(page["wait_ms"]["p50"].is_u64() && page["run_ms"]["p99"].is_u64(), "{page}");
        let types: Vec<&str> =
            page["types"].as_array().unwrap().iter().map(|its| text(&its["type"])).collect();
        assert_eq!(types, ["mail", "default"]);
        let metrics = client.get("/metrics");
        let labels = format!("tenant=\"default\",queue=\"{}\"", queue.name);
        for line in [
            format!("queue_waiting{{{labels}}} 0\n"),
            format!("queue_failed{{{labels}}} 1\n"),
            format!("queue_pushed_total{{{labels}}} 2\n"),
            format!("queue_done_total{{{labels}}} 1\n"),
            format!("queue_failure_rate{{{labels}}} 0.5\n"),
            format!("queue_type_done_total{{{labels},type=\"mail\"}} 1\n"),
            "worker_count{tenant=\"default\",state=\"stale\"} 0\n".to_owned(),
            format!("queue_given_up_total{{{labels}}} 1\n"),
            "holdfast_store_state{store=\"jobs\",state=\"open\"} 1\n".to_owned(),
        ] {
            assert!(metrics.text().contains(&line), "{line}");
        }
        for family in [
            "holdfast_outbox_rows",
            "holdfast_history_rows",
            "holdfast_history_bytes",
            "holdfast_job_waiters",
        ] {
            assert!(metrics.text().contains(&format!("\n{family} ")), "{family}");
        }
        let status = client.get("/v1/status").expect(200);
        assert!(status["jobs"]["history_rows"].is_u64(), "{status}");
    });
}
