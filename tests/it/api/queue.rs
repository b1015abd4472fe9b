//! Jobs as clients meet them: pushed, leased, ended, looked at.

mod handover;
mod keep;
mod lists;
mod push;
mod schedules;
mod waiting;
mod work;
mod workers;

use serde_json::{Value, json};

use super::{by_both_doors, new_secret, new_tenant, text};
use crate::support::{Answer, Client, Request, fresh};

/// A queue, as one client sees it.
#[derive(Clone)]
struct Queue<'s> {
    client: Client<'s>,
    name: String,
}

impl<'s> Queue<'s> {
    /// One that nobody else uses.
    fn new(client: &Client<'s>) -> Queue<'s> {
        Queue { client: client.clone(), name: fresh("queue") }
    }

    /// The path of the queue, and what is behind it.
    fn path(&self, rest: &str) -> String {
        format!("/v1/queues/{}{rest}", self.name)
    }

    /// A job that carries this, with these further fields.
    fn job(&self, payload: &Value, more: &Value) -> Value {
        let mut job = json!({ "queue": self.name, "payload": payload });
        for (name, value) in more.as_object().unwrap() {
            job[name] = value.clone();
        }
        job
    }

    /// Pushes one with these further fields; its id.
    #[expect(clippy::needless_pass_by_value, reason = "both are written where it is called")]
    #[track_caller]
    fn push(&self, payload: Value, more: Value) -> String {
        let pushed = self.client.post("/v1/jobs", &self.job(&payload, &more)).expect(201);
        text(&pushed["jobs"][0]["id"]).to_owned()
    }

    /// A raw push, with a query and a type.
    fn push_raw(&self, query: &str, content_type: &str, body: &[u8]) -> Answer {
        let mark = if query.is_empty() { "" } else { "?" };
        let request = self.client.request("POST", &self.path(&format!("/jobs{mark}{query}")));
        self.client.send(&request.header("Content-Type", content_type).body(body))
    }

    /// A call for jobs of this queue, with these further fields.
    fn wish(&self, more: &Value) -> Request {
        let mut wish = json!({ "queues": [self.name] });
        for (name, value) in more.as_object().unwrap() {
            wish[name] = value.clone();
        }
        self.client.request("POST", "/v1/lease").json(&wish)
    }

    /// Leases up to ten.
    #[track_caller]
    fn lease(&self) -> Vec<Value> {
        let leased = self.client.send(&self.wish(&json!({ "max": 10 }))).expect(200);
        leased["jobs"].as_array().unwrap().clone()
    }

    /// Leases the only one.
    #[track_caller]
    fn lease_one(&self) -> Value {
        let mut jobs = self.lease();
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        jobs.remove(0)
    }

    /// Ends an attempt.
    fn end(&self, job: &Value, verb: &str, body: &Value) -> Answer {
        self.client.post(&format!("/v1/leases/{}/{verb}", text(&job["lease"])), body)
    }

    #[track_caller]
    fn page(&self) -> Value {
        self.client.get(&self.path("")).expect(200)
    }

    #[track_caller]
    fn show(&self, id: &str) -> Value {
        self.client.get(&format!("/v1/jobs/{id}")).expect(200)
    }

    /// What a search finds in this queue: ids.
    #[track_caller]
    fn search(&self, query: &str) -> Vec<String> {
        let page = self.client.get(&format!("/v1/jobs?queue={}&{query}", self.name)).expect(200);
        let ids = page["items"].as_array().unwrap().iter();
        ids.map(|job| text(&job["id"]).to_owned()).collect()
    }

    /// Pushes one and makes it fail for good.
    #[track_caller]
    fn failed(&self, payload: Value, message: &str) -> String {
        let id = self.push(payload, json!({}));
        let job = self.lease_one();
        let body = json!({ "error": { "class": "E", "message": message }, "retry": false });
        assert_eq!(self.end(&job, "fail", &body).expect(200), json!({ "state": "failed" }));
        id
    }

    /// What can be seen of the queue without changing it.
    fn state(&self) -> Value {
        let answer = self.client.get(&self.path(""));
        if answer.status != 200 {
            return json!(answer.status);
        }
        let page = answer.json();
        let figures = ["waiting", "delayed", "running", "failed", "settings"];
        figures.map(|figure| page[figure].clone()).into()
    }
}

#[test]
fn a_job_lives_from_its_push_to_the_history() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let id = queue.push(json!({ "n": 1 }), json!({ "type": "letter", "tags": ["a", "b"] }));
        let job = queue.show(&id);
        assert_eq!((&job["state"], &job["attempt"]), (&json!("waiting"), &json!(0)), "{job}");
        assert_eq!((&job["type"], &job["tags"]), (&json!("letter"), &json!(["a", "b"])));
        assert_eq!((&job["priority"], &job["payload"]), (&json!("normal"), &json!({ "n": 1 })));

        let leased = queue.lease_one();
        assert_eq!((&leased["id"], &leased["attempt"]), (&json!(id), &json!(1)), "{leased}");
        assert_eq!(leased["payload"], json!({ "n": 1 }));
        assert_eq!((&leased["errors"], &leased["crashes"]), (&json!(0), &json!(0)));
        assert!(leased["lease_until"].as_str() < leased["deadline"].as_str(), "{leased}");
        assert_eq!(queue.lease(), [] as [Value; 0], "somebody has it");
        assert_eq!(queue.show(&id)["state"], "running");

        let error = json!({ "error": { "class": "E", "message": "no" }, "retry": "0s" });
        assert_eq!(queue.end(&leased, "fail", &error).expect(200), json!({ "state": "waiting" }));
        let again = queue.lease_one();
        assert_eq!((&again["attempt"], &again["errors"]), (&json!(2), &json!(1)), "{again}");
        let late = queue.end(&leased, "done", &json!({})).expect_problem(409, "lease_lost");
        assert_eq!(late["state"], "running");

        let extended = json!({ "by": "60s", "progress": 0.5, "checkpoint": { "at": 7 } });
        let extended = queue.end(&again, "extend", &extended).expect(200);
        assert_eq!(extended["cancel"], false, "{extended}");
        assert_eq!(queue.show(&id)["progress"], 0.5);
        assert_eq!(queue.end(&again, "release", &json!({})).expect(200)["state"], "waiting");
        let third = queue.lease_one();
        assert_eq!((&third["checkpoint"], &third["attempt"]), (&json!({ "at": 7 }), &json!(3)));

        let done = queue.end(&third, "done", &json!({ "result": { "ok": [1.0] } }));
        assert_eq!(done.body, b"{\"state\":\"done\"}");
        let job = queue.show(&id);
        assert_eq!((&job["state"], &job["result"]), (&json!("done"), &json!({ "ok": [1.0] })));
        assert_eq!((&job["attempt"], &job["errors"]), (&json!(3), &json!(1)), "{job}");
        assert_eq!(job["last_error"]["message"], "no", "{job}");
        assert!(job["finished_at"].is_string() && job.get("payload").is_none(), "{job}");
        assert_eq!(queue.end(&third, "done", &json!({})).expect(200), json!({ "state": "done" }));
        queue.end(&third, "release", &json!({})).expect_problem(409, "lease_lost");
        queue.end(&third, "extend", &json!({})).expect_problem(409, "lease_lost");
    });
}

#[test]
fn another_tenant_sees_and_changes_nothing() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let id = queue.push(json!(1), json!({}));
        let lease = queue.lease_one();
        let failed = Queue::new(client);
        let failed_id = failed.failed(json!(1), "x");
        let tenant = new_tenant(client);
        let other = client.with_token(&new_secret(
            client,
            &tenant,
            &["queue:push", "queue:work", "queue:admin"],
        ));
        let theirs = Queue { client: other.clone(), ..queue.clone() };
        let before = (queue.state(), failed.state());
        for path in [format!("/v1/jobs/{id}"), format!("/v1/jobs/{id}/why")] {
            other.get(&path).expect_problem(404, "unknown_job");
        }
        other.delete(&format!("/v1/jobs/{id}")).expect_problem(404, "unknown_job");
        for verb in ["done", "release", "extend"] {
            theirs.end(&lease, verb, &json!({})).expect_problem(404, "unknown_lease");
        }
        let error = json!({ "error": { "message": "x" } });
        theirs.end(&lease, "fail", &error).expect_problem(404, "unknown_lease");
        let report = json!({ "done": [{ "lease": lease["lease"] }] });
        let report = other.post("/v1/report", &report).expect(200);
        let lost = json!([{ "lease": lease["lease"], "status": "lease_lost" }]);
        assert_eq!(report["results"], lost);
        assert_eq!(theirs.lease(), [] as [Value; 0]);
        other.get(&queue.path("")).expect_problem(404, "unknown_queue");
        let ids = json!({ "ids": [failed_id] });
        for (verb, word) in [("retry", "retried"), ("discard", "discarded")] {
            let answer = other.post(&format!("/v1/failures/{verb}"), &ids).expect(200);
            assert_eq!(answer[word], 0);
        }
        assert_eq!(other.get("/v1/queues").expect(200)["items"], json!([]));
        assert_eq!(other.get("/v1/jobs").expect(200)["items"], json!([]));
        assert_eq!((queue.state(), failed.state()), before);
        queue.end(&lease, "done", &json!({})).expect(200);
    });
}

#[test]
fn every_call_needs_its_scope() {
    by_both_doors(|client| {
        let queue = Queue::new(client);
        let (id, name) = (queue.push(json!(1), json!({})), &queue.name);
        let calls = [
            ("POST", queue.path("/jobs"), "queue:push"),
            ("POST", "/v1/jobs".to_owned(), "queue:push"),
            ("GET", format!("/v1/jobs/{id}"), "queue:push queue:read queue:admin"),
            ("DELETE", "/v1/jobs/0000000000000".to_owned(), "queue:push queue:admin"),
            ("GET", format!("/v1/jobs/{id}/why"), "queue:read queue:admin"),
            ("GET", "/v1/jobs".to_owned(), "queue:read queue:admin"),
            ("POST", "/v1/lease".to_owned(), "queue:work"),
            ("POST", "/v1/leases/x/done".to_owned(), "queue:work"),
            ("POST", "/v1/leases/x/fail".to_owned(), "queue:work"),
            ("POST", "/v1/leases/x/release".to_owned(), "queue:work"),
            ("POST", "/v1/leases/x/extend".to_owned(), "queue:work"),
            ("POST", "/v1/report".to_owned(), "queue:work"),
            ("POST", "/v1/workers/w/beat".to_owned(), "queue:work"),
            ("DELETE", "/v1/workers/w".to_owned(), "queue:work"),
            ("POST", "/v1/workers/w/command".to_owned(), "queue:admin"),
            ("GET", "/v1/workers".to_owned(), "queue:read queue:admin"),
            ("GET", "/v1/workers/w".to_owned(), "queue:read queue:admin"),
            ("GET", "/v1/queues".to_owned(), "queue:read queue:admin"),
            ("GET", format!("/v1/queues/{name}"), "queue:read queue:admin"),
            ("PATCH", format!("/v1/queues/{name}"), "queue:admin"),
            ("DELETE", format!("/v1/queues/{name}"), "queue:admin"),
            ("POST", format!("/v1/queues/{name}/pause"), "queue:admin"),
            ("POST", format!("/v1/queues/{name}/resume"), "queue:admin"),
            ("POST", format!("/v1/queues/{name}/restart"), "queue:admin"),
            ("POST", format!("/v1/queues/{name}/clear"), "queue:admin"),
            ("GET", "/v1/failures".to_owned(), "queue:read queue:admin"),
            ("POST", "/v1/failures/retry".to_owned(), "queue:admin"),
            ("POST", "/v1/failures/discard".to_owned(), "queue:admin"),
            ("GET", "/v1/schedules".to_owned(), "queue:read queue:admin"),
            ("GET", "/v1/schedules/s".to_owned(), "queue:read queue:admin"),
            ("PUT", "/v1/schedules/s".to_owned(), "queue:admin"),
            ("DELETE", "/v1/schedules/s".to_owned(), "queue:admin"),
        ];
        let tenant = new_tenant(client);
        for scope in ["queue:push", "queue:work", "queue:read", "queue:admin", "cache:write"] {
            let other = client.with_token(&new_secret(client, &tenant, &[scope]));
            for (method, path, scopes) in &calls {
                // What is no JSON, or is unknown there, is refused after the token.
                let request = other.request(method, path);
                let request = if *method == "GET" { request } else { request.body(b"{\"x") };
                let status = other.send(&request).status;
                let allowed = scopes.split(' ').any(|needed| needed == scope);
                assert_eq!(status != 403, allowed, "{method} {path} with {scope}: {status}");
            }
        }
    });
}
