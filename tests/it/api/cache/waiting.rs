//! Waiting for what somebody else computes. Each test has a server of its own: what it has in flight is
//! known.

use rustix::process::Signal;
use serde_json::json;

use super::{Space, assert_miss, assert_value, number};
use crate::api::{by_both_doors_of, text};
use crate::support::{Client, Connection, Door, Server, wait_until};

/// Sends a read that waits, and does not wait for its answer.
fn wait_on(space: &Space<'_>, key: &str, query: &str) -> Connection {
    let mut connection = space.client.connect();
    connection.send(&space.request("GET", key, query).bytes());
    connection
}

/// Waits until so many requests are in flight besides the one that looks.
fn until_in_flight(client: &Client<'_>, count: u64) {
    wait_until("the requests are in flight", || in_flight(client) == count);
    // Whoever is counted is about to ask; these come after it.
    for _ in 0..10 {
        client.get("/livez");
    }
    assert_eq!(in_flight(client), count);
}

fn in_flight(client: &Client<'_>) -> u64 {
    let metrics = client.get("/metrics");
    let line = metrics
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("holdfast_http_requests_in_flight "));
    line.unwrap().parse::<u64>().unwrap() - 1
}

/// Leases that were given in this namespace of tenant `default`.
fn leases_of(space: &Space<'_>) -> u64 {
    let sample =
        format!("holdfast_cache_leases_total{{tenant=\"default\",namespace=\"{}\"}} ", space.name);
    let metrics = space.client.get("/metrics");
    let line = metrics.text().lines().find_map(|line| line.strip_prefix(&sample));
    line.map_or(0, |count| count.parse().unwrap())
}

#[test]
fn who_waits_gets_what_is_put() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let space = Space::new(client);
        let lease = space.lease("key");
        let mut waiting: Vec<_> =
            (0..5).map(|_| wait_on(&space, "key", "lease=30s&wait=50s")).collect();
        until_in_flight(client, 5);
        let put = space.request("PUT", "key", &format!("lease={lease}&ttl=1h"));
        client.send(&put.header("Content-Type", "text/plain").body(b"computed"));
        for connection in &mut waiting {
            let answer = connection.receive().woken();
            assert_value(&answer, "computed");
            assert_eq!(answer.header("content-type"), Some("text/plain"));
            assert!(answer.header("etag").is_some() && answer.header("holdfast-ttl-ms").is_some());
            assert_eq!(answer.header("holdfast-lease"), None);
            assert!(!answer.closes());
        }
        let stats = space.stats();
        assert_eq!((&stats["hits"], &stats["misses"]), (&json!(5), &json!(1)), "{stats}");
        assert_eq!(stats["coalesced"], 5, "{stats}");
    });
}

#[test]
fn any_write_of_the_key_serves_those_who_wait() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let space = Space::new(client);
        let gets = |value: &str, write: &dyn Fn()| {
            space.lease("key");
            let mut waiting = wait_on(&space, "key", "lease=30s&wait=50s");
            until_in_flight(client, 1);
            write();
            assert_value(&waiting.receive().woken(), value);
            assert_eq!(space.delete("key").status, 204);
        };
        gets("put", &|| assert_eq!(space.put("key", "", "put").status, 201));
        gets("many", &|| {
            let entry = json!({ "key": "key", "value": "many" });
            space.call("put", &json!({ "entries": [entry] })).expect(200);
        });
        gets("7", &|| {
            space.call("increment", &json!({ "key": "key", "by": 7 })).expect(200);
        });
    });
}

#[test]
fn a_wait_ends_without_the_value() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let space = Space::new(client);
        let lease = space.lease("key");
        for wait in ["0", "1ms", "150ms"] {
            let answer = space.ask("key", &format!("lease=30s&wait={wait}"));
            let problem = answer.expect_problem(404, "cache_miss");
            assert_eq!(answer.header("holdfast-lease"), None);
            assert_eq!(problem.get("lease"), None);
            let ms = problem["retry_after_ms"].as_u64().unwrap();
            assert!((1..=30_000).contains(&ms), "{ms}");
            assert!((1..=30).contains(&number(&answer, "retry-after")));
            if wait == "150ms" {
                assert!(150.0 <= answer.response_ms(), "{}", answer.response_ms());
            }
        }
        assert_eq!(space.put("key", &format!("lease={lease}"), "v").status, 201);
        let stats = space.stats();
        assert_eq!((&stats["hits"], &stats["misses"]), (&json!(0), &json!(4)), "{stats}");
        assert_eq!((&stats["coalesced"], &stats["hit_rate"]), (&json!(0), &json!(0.0)), "{stats}");
    });
}

#[test]
fn when_a_lease_ends_or_is_taken_away_one_of_those_who_wait_gets_the_next() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let handed_on = |first: &str, take_away: &dyn Fn(&Space<'_>)| {
            let space = Space::new(client);
            let old = space.ask("key", first).header("holdfast-lease").unwrap().to_owned();
            let mut waiting: Vec<_> =
                (0..3).map(|_| wait_on(&space, "key", "lease=50s&wait=50s")).collect();
            take_away(&space);
            wait_until("one of them has it", || leases_of(&space) == 2);
            space.put("key", "", "v");
            let answers: Vec<_> = waiting.iter_mut().map(|its| its.receive().woken()).collect();
            let leases: Vec<_> =
                answers.iter().filter_map(|answer| answer.header("holdfast-lease")).collect();
            assert_eq!(leases.len(), 1, "{answers:?}");
            assert_ne!(leases[0], old);
            for answer in &answers {
                match answer.header("holdfast-lease") {
                    Some(_) => assert_miss(answer),
                    None => assert_value(answer, "v"),
                }
            }
            let late = space.put("key", &format!("lease={}", leases[0]), "late");
            late.expect_problem(409, "lease_lost");
        };
        handed_on("lease=100ms", &|_| {});
        handed_on("lease=50s", &|space| assert_miss(&space.delete("key")));
        for body in [
            json!({ "keys": ["key"] }),
            json!({ "prefix": "k" }),
            json!({ "pattern": "?ey" }),
            json!({ "all": true }),
        ] {
            handed_on("lease=50s", &|space| assert_eq!(space.forget(&body), 0));
        }
    });
}

#[test]
fn who_goes_away_does_not_wait_any_more() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let space = Space::new(client);
        let lease = space.lease("key");
        let waiting: Vec<_> =
            (0..20).map(|_| wait_on(&space, "key", "lease=30s&wait=50s")).collect();
        until_in_flight(client, 20);
        drop(waiting);
        until_in_flight(client, 0);
        assert_eq!(space.put("key", &format!("lease={lease}"), "v").status, 201);
        assert_value(&space.get("key"), "v");
        assert_eq!(space.stats()["coalesced"], 0);
    });
}

#[test]
fn who_waits_holds_up_nobody() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let space = Space::new(client);
        let lease = space.lease("key");
        let mut waiting: Vec<_> =
            (0..100).map(|_| wait_on(&space, "key", "lease=30s&wait=50s")).collect();
        until_in_flight(client, 100);
        assert_eq!(space.put("other", "", "v").status, 201);
        assert_value(&space.get("other"), "v");
        assert_miss(&space.get("key"));
        space.put("key", &format!("lease={lease}"), "v");
        for connection in &mut waiting {
            assert_value(&connection.receive().woken(), "v");
        }
    });
}

#[test]
fn waiting_is_in_the_response_time_and_not_in_the_slow_log() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let space = Space::new(client);
        space.lease("key");
        // Longer than what is slow; there is no other way to see that it is not noted.
        let answer = space.ask("key", "lease=30s&wait=600ms");
        assert_miss(&answer);
        assert!(600.0 <= answer.response_ms(), "{}", answer.response_ms());
        let slow = client.get("/v1/slow?kind=request").expect(200);
        let items = slow["items"].as_array().unwrap();
        let noted = items.iter().find(|item| text(&item["name"]).contains("/keys/"));
        assert_eq!(noted, None);
    });
}

#[test]
fn at_the_end_of_the_server_those_who_wait_are_answered_at_once() {
    for door in [Door::Tcp, Door::Unix] {
        let mut server = Server::start();
        let mut waiting = {
            let space = Space::new(&server.client(door));
            space.lease("key");
            space.put("stale", "ttl=1ms&stale=1h", "old");
            let waiting: Vec<_> =
                (0..5).map(|_| wait_on(&space, "key", "lease=30s&wait=50s")).collect();
            until_in_flight(&space.client, 5);
            waiting
        };
        // After ten seconds it would wait no longer, and they would get nothing.
        server.signal(Signal::TERM);
        for connection in &mut waiting {
            let answer = connection.receive().woken();
            let problem = answer.expect_problem(404, "cache_miss");
            assert!(answer.closes(), "{answer:?}");
            assert_eq!(answer.header("holdfast-lease"), None);
            assert!(1 <= problem["retry_after_ms"].as_u64().unwrap(), "{problem}");
            connection.expect_closed();
        }
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    }
}
