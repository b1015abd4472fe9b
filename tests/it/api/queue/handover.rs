//! Jobs that do not reach whoever asked for them are lost to nobody.

use serde_json::{Value, json};

use super::waiting::{park, until_parked};
use super::{Queue, text};
use crate::api::by_both_doors_of;
use crate::support::{Server, wait_for};

#[test]
fn who_goes_away_while_waiting_takes_nothing_along() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let queue = Queue::new(client);
        let gone = park(&queue, &json!({ "wait": "50s" }));
        until_parked(client, 1);
        drop(gone);
        until_parked(client, 0);
        let id = queue.push(json!(1), json!({}));
        let job = queue.lease_one();
        assert_eq!((&job["id"], &job["attempt"]), (&json!(id), &json!(1)));
        queue.end(&job, "done", &json!({})).expect(200);
    });
}

#[test]
fn a_call_goes_on_to_the_next_when_who_was_called_goes_away() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        for _ in 0..20 {
            let queue = Queue::new(client);
            let gone = park(&queue, &json!({ "wait": "50s" }));
            until_parked(client, 1);
            let mut stays = park(&queue, &json!({ "wait": "50s" }));
            until_parked(client, 2);
            // Both at once: the job may be on its way to the one who goes.
            let mut push = client.connect();
            let job = queue.job(&json!(1), &json!({}));
            push.send(&client.request("POST", "/v1/jobs").json(&job).bytes());
            drop(gone);
            push.receive().expect(201);
            let answer = stays.receive().woken().expect(200);
            assert_eq!(answer["jobs"][0]["attempt"], 1, "{answer}");
            queue.end(&answer["jobs"][0], "done", &json!({})).expect(200);
        }
    });
}

#[test]
fn an_answer_that_nobody_takes_gives_its_jobs_back() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let queue = Queue::new(client);
        let large = vec![b'x'; 1 << 20];
        let ids: Vec<Value> = (0..6)
            .map(|_| {
                queue.push_raw("", "application/octet-stream", &large).expect(201)["id"].clone()
            })
            .collect();
        // More than the sockets hold, and no more than its beginning is read.
        let mut gone = park(&queue, &json!({ "max": 10, "lease": "1h" }));
        let running = || queue.page()["running"] == 6;
        wait_for("they are leased", || running().then_some(()));
        assert_eq!(gone.receive_head().status, 200);
        drop(gone);
        let jobs =
            wait_for("they are back", || Some(queue.lease()).filter(|jobs| !jobs.is_empty()));
        let told: Vec<Value> = jobs.iter().map(|job| job["id"].clone()).collect();
        assert_eq!(told, ids);
        for job in &jobs {
            let counts = ["attempt", "errors", "crashes"].map(|field| job[field].clone());
            assert_eq!(counts, [json!(1), json!(0), json!(0)]);
            assert_eq!(text(&job["payload_base64"]).len(), (1_usize << 20).div_ceil(3) * 4);
            queue.end(job, "done", &json!({})).expect(200);
        }
    });
}

#[test]
fn jobs_that_arrived_stay_with_who_has_them_when_the_connection_ends() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let queue = Queue::new(client);
        let id = queue.push(json!(1), json!({}));
        let mut connection = client.connect();
        let job = connection.ask(&queue.wish(&json!({}))).expect(200)["jobs"][0].clone();
        drop(connection);
        assert_eq!(queue.lease(), [] as [Value; 0]);
        assert_eq!(queue.show(&id)["state"], "running");
        queue.end(&job, "done", &json!({})).expect(200);
    });
}
