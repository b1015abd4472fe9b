//! Workers: their beats, what they are told, and their ends.

use serde_json::{Value, json};

use super::{Queue, by_both_doors, text};
use crate::support::{fresh, wait_for, wait_until};

fn beat(queue: &Queue<'_>, worker: &str, body: &Value) -> Value {
    queue.client.post(&format!("/v1/workers/{worker}/beat"), body).expect(200)
}

#[test]
fn a_worker_is_known_by_its_beats() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        queue.push(json!(1), json!({}));
        let worker = fresh("worker");
        let path = format!("/v1/workers/{worker}");
        client.get(&path).expect_problem(404, "unknown_worker");
        let said = json!({ "pid": 4711, "host": "elsewhere", "queues": [queue.name], "state": "idle",
            "rss_bytes": 5, "cpu_percent": 1.5, "jobs_done": 3, "idle_ms": 7, "busy_ms": 8 });
        assert_eq!(beat(&queue, &worker, &said), json!({ "command": "run", "cancel": [] }));
        let shown = client.get(&path).expect(200);
        assert_eq!((&shown["state"], &shown["pid"]), (&json!("idle"), &json!(4711)), "{shown}");
        assert_eq!(shown["queues"], json!([queue.name]));
        assert_eq!(queue.page()["workers"], 1);
        let listed = client.get("/v1/workers?limit=1000").expect(200);
        let ids: Vec<&str> =
            listed["items"].as_array().unwrap().iter().map(|its| text(&its["id"])).collect();
        assert!(ids.contains(&&*worker), "{ids:?}");

        let command =
            |word: &str| client.post(&format!("{path}/command"), &json!({ "command": word }));
        command("stop").expect_problem(400, "invalid_command");
        assert_eq!(command("drain").expect(200), json!({ "command": "drain" }));
        assert_eq!(beat(&queue, &worker, &json!({}))["command"], "drain");
        command("run").expect(200);
        let restart = client.send(&client.request("POST", &queue.path("/restart"))).expect(200);
        assert_eq!(restart, json!({ "restarted": 1 }));
        assert_eq!(beat(&queue, &worker, &json!({}))["command"], "restart");
        let bad = json!({ "pid": 0 });
        client.post(&format!("{path}/beat"), &bad).expect_problem(400, "invalid_pid");

        assert_eq!(client.delete(&path).status, 204);
        assert_eq!(client.get(&path).expect(200)["state"], "gone");
        command("run").expect_problem(404, "unknown_worker");
        let nobody = format!("/v1/workers/{}", fresh("worker"));
        client.delete(&nobody).expect_problem(404, "unknown_worker");
    });
}

#[test]
fn a_beat_renews_leases_and_tells_what_is_not_wanted() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let worker = fresh("worker");
        let id = queue.push(json!(1), json!({}));
        let leased =
            client.send(&queue.wish(&json!({ "worker": worker, "lease": "10s" }))).expect(200);
        let job = &leased["jobs"][0];
        let path = format!("/v1/workers/{worker}");
        let shown = client.get(&path).expect(200);
        assert_eq!((&shown["state"], &shown["jobs"]), (&json!("busy"), &json!([id])), "{shown}");
        assert_eq!(queue.show(&id)["worker"], json!(worker));
        let before = text(&queue.show(&id)["lease_until"]).to_owned();
        assert_eq!(beat(&queue, &worker, &json!({ "extend": "1h" }))["cancel"], json!([]));
        let after = text(&queue.show(&id)["lease_until"]).to_owned();
        assert!(before < after, "{before} {after}");
        client.delete(&format!("/v1/jobs/{id}")).expect(202);
        assert_eq!(beat(&queue, &worker, &json!({}))["cancel"], json!([id]));
        queue.end(job, "done", &json!({})).expect(200);
        let lease = text(&job["lease"]);
        let told = beat(&queue, &worker, &json!({ "leases": [lease, "nonsense"] }));
        assert_eq!(told["lost"], json!([lease]), "{told}");
    });
}

#[test]
fn a_goodbye_gives_everything_back() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let worker = fresh("worker");
        queue.push(json!(1), json!({}));
        client.send(&queue.wish(&json!({ "worker": worker }))).expect(200);
        assert_eq!(client.delete(&format!("/v1/workers/{worker}")).status, 204);
        let job = queue.lease_one();
        let counts = ["attempt", "errors", "crashes"].map(|field| job[field].clone());
        assert_eq!(counts, [json!(2), json!(0), json!(0)]);
    });
}

#[test]
fn the_leases_of_a_process_that_ends_are_crashes() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let worker = fresh("worker");
        let mut process = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let id = queue.push(json!(1), json!({}));
        let host = host_name();
        let said = json!({ "pid": process.id(), "host": host, "queues": [queue.name] });
        beat(&queue, &worker, &said);
        let leased =
            client.send(&queue.wish(&json!({ "worker": worker, "lease": "1h" }))).expect(200);
        assert_eq!(leased["jobs"][0]["attempt"], 1);
        process.kill().unwrap();
        process.wait().unwrap();
        let job = wait_for("it runs again", || queue.lease().into_iter().next());
        assert_eq!((&job["attempt"], &job["crashes"]), (&json!(2), &json!(1)), "{job}");
        assert_eq!(queue.show(&id)["last_error"]["class"], "crash");
        assert_eq!(client.get(&format!("/v1/workers/{worker}")).expect(200)["state"], "gone");
        queue.end(&job, "done", &json!({})).expect(200);
    });
}

fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_str().unwrap().to_owned()
}

#[test]
fn crashes_of_many_workers_are_one_group() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        for worker in ["alpha", "beta-x", "c of d"] {
            queue.push(json!(1), json!({ "max_crashes": 1 }));
            let wish = json!({ "worker": worker, "lease": "1s" });
            let leased = client.send(&queue.wish(&wish)).expect(200);
            assert_eq!(leased["jobs"].as_array().unwrap().len(), 1, "{leased}");
        }
        let path = format!("/v1/failures?queue={}", queue.name);
        let groups = || client.get(&path).expect(200)["items"].as_array().unwrap().clone();
        let count = |group: &Value| group["count"].as_u64().unwrap();
        wait_until("all are given up", || groups().iter().map(count).sum::<u64>() == 3);
        let groups = groups();
        assert_eq!(groups.len(), 1, "{groups:?}");
        assert!(text(&groups[0]["message"]).contains(", worker \""), "{groups:?}");
    });
}
