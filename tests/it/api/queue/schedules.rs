//! Schedules: set, looked at, pushed, removed.

use serde_json::{Value, json};

use super::{Queue, by_both_doors, text};
use crate::api::by_both_doors_of;
use crate::support::{Server, fresh, run_with, wait_for};

#[test]
fn a_schedule_is_set_looked_at_and_removed() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let path = format!("/v1/schedules/{}", fresh("schedule"));
        let job =
            json!({ "queue": queue.name, "type": "t", "payload": { "a": [1.0] }, "tags": ["x"] });
        let body = json!({ "cron": "*/5 * * * *", "timezone": "europe/berlin", "jitter": "30s", "job": job });
        client.get(&path).expect_problem(404, "unknown_schedule");
        let answer = client.put(&path, &body);
        assert_eq!(answer.header("location"), Some(&*path));
        let schedule = answer.expect(201);
        assert_eq!(
            (&schedule["cron"], &schedule["timezone"]),
            (&json!("*/5 * * * *"), &json!("Europe/Berlin"))
        );
        assert_eq!((&schedule["overlap"], &schedule["catch_up"]), (&json!("skip"), &json!("one")));
        assert_eq!((&schedule["jitter_ms"], &schedule["last_job"]), (&json!(30_000), &Value::Null));
        assert_eq!(schedule["job"]["payload"], json!({ "a": [1.0] }));
        assert!(schedule["next_at"].is_string(), "{schedule}");
        assert_eq!(client.get(&path).expect(200), schedule);
        let every = json!({ "every": "1h", "overlap": "queue", "catch_up": "all", "job": job });
        let schedule = client.put(&path, &every).expect(200);
        assert_eq!(
            (&schedule["every_ms"], &schedule["timezone"]),
            (&json!(3_600_000), &json!("UTC"))
        );
        assert!(schedule.get("cron").is_none(), "{schedule}");
        let listed = client.get("/v1/schedules?limit=1000").expect(200);
        assert!(listed["items"].as_array().unwrap().contains(&schedule), "{listed}");
        assert_eq!(client.delete(&path).status, 204);
        client.delete(&path).expect_problem(404, "unknown_schedule");
    });
}

#[test]
fn a_schedule_that_makes_no_sense_is_refused() {
    by_both_doors(|client| {
        let path = format!("/v1/schedules/{}", fresh("schedule"));
        let job = json!({ "queue": "q", "payload": 1 });
        let put = |body: Value| client.put(&path, &body);
        let problem =
            put(json!({ "cron": "*/5 * 61 * *", "job": job })).expect_problem(400, "invalid_cron");
        assert_eq!((&problem["at"], &problem["field"]), (&json!(6), &json!("cron")), "{problem}");
        put(json!({ "job": job })).expect_problem(400, "invalid_cron");
        put(json!({ "cron": "* * * * *", "every": 1, "job": job }))
            .expect_problem(400, "invalid_cron");
        put(json!({ "every": "10ms", "job": job })).expect_problem(400, "invalid_every");
        put(json!({ "every": "1m" })).expect_problem(400, "invalid_job");
        let zone = json!({ "every": "1m", "timezone": "Berlin", "job": job });
        let problem = put(zone).expect_problem(400, "invalid_timezone");
        assert!(text(&problem["detail"]).contains("Europe/Berlin"), "{problem}");
        put(json!({ "every": "1m", "job": { "queue": "q" } }))
            .expect_problem(400, "invalid_payload");
        let late = json!({ "every": "1m", "job": { "queue": "q", "payload": 1, "delay": 5 } });
        put(late).expect_problem(400, "invalid_job");
        client.get(&path).expect_problem(404, "unknown_schedule");
        client.put("/v1/schedules/a%20b", &json!({})).expect_problem(400, "invalid_schedule");
    });
}

#[test]
fn schedules_without_a_zone_are_in_that_of_the_server() {
    let server = Server::start_with("[server]\ntimezone = \"America/New_York\"\n", &[]);
    by_both_doors_of(&server, |client| {
        let queue = Queue::new(client);
        let job = json!({ "queue": queue.name, "payload": 1 });
        let path = format!("/v1/schedules/{}", fresh("schedule"));
        let body = json!({ "cron": "0 3 * * *", "job": job });
        assert_eq!(client.put(&path, &body).expect(201)["timezone"], "America/New_York");
    });
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("h.toml");
    std::fs::write(&config, "[server]\ntimezone = \"Europe/Atlantis\"\n").unwrap();
    let data = folder.path().join("data");
    let (config, data) = (config.to_str().unwrap(), data.to_str().unwrap());
    let ran = run_with(&["serve", "--config", config, "--data-dir", data], "");
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.err.contains("Europe/Atlantis"), "{ran:?}");
}

#[test]
fn a_schedule_pushes() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let path = format!("/v1/schedules/{}", fresh("schedule"));
        let job = json!({ "queue": queue.name, "payload": { "tick": 1 } });
        client.put(&path, &json!({ "every": "1s", "job": job })).expect(201);
        let wish = queue.wish(&json!({ "wait": "50s" }));
        let leased = client.send(&wish).woken().expect(200)["jobs"][0].clone();
        assert_eq!(leased["payload"], json!({ "tick": 1 }));
        let schedule = client.get(&path).expect(200);
        assert_eq!(schedule["last_job"], leased["id"], "{schedule}");
        // It is not over: the next moment is skipped.
        let skipped = |schedule: &Value| schedule.get("last_skipped").is_some();
        wait_for("a moment is skipped", || Some(client.get(&path).expect(200)).filter(skipped));
        assert_eq!(client.delete(&path).status, 204);
        assert_eq!(queue.show(text(&leased["id"]))["state"], "running", "what it pushed stays");
    });
}
