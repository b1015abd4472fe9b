//! Who may compute a value: one of those who ask.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::json;

use super::{Space, assert_miss, assert_value, number};
use crate::api::{by_both_doors, by_both_doors_of, text};
use crate::support::{Server, wait_for, wait_until};

#[test]
fn the_first_asker_of_a_missing_key_gets_the_lease_and_the_second_does_not() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let first = space.ask("key", "lease=30s");
        let problem = first.expect_problem(404, "cache_miss");
        let lease = first.header("holdfast-lease").unwrap();
        assert_eq!(problem["lease"], lease);
        assert_eq!(lease.len(), 16);
        let second = space.ask("key", "lease=30s");
        let problem = second.expect_problem(404, "cache_miss");
        assert_eq!(second.header("holdfast-lease"), None);
        assert_eq!(problem.get("lease"), None, "{problem}");
        let ms = problem["retry_after_ms"].as_u64().unwrap();
        assert!((1..=30_000).contains(&ms), "{ms}");
        assert!((1..=30).contains(&number(&second, "retry-after")));
        // Whoever only reads is not concerned, and another key has a lease of its own.
        assert_miss(&space.get("key"));
        assert_eq!(space.get("key").header("holdfast-lease"), None);
        assert_ne!(space.lease("other"), lease);

        assert_eq!(space.put("key", &format!("lease={lease}&ttl=1h"), "value").status, 201);
        let answer = space.ask("key", "lease=30s");
        assert_value(&answer, "value");
        assert_eq!(answer.header("holdfast-lease"), None);
        assert!(answer.header("holdfast-ttl-ms").is_some());
    });
}

#[test]
fn a_value_that_is_there_is_served_to_whoever_asks_with_a_lease() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("key", "ttl=1h", "value");
        let etag = space.get("key").header("etag").unwrap().to_owned();
        for query in ["lease=1s", "lease=1h", "lease=100ms&wait=50s", "lease=5&wait=0"] {
            let answer = space.ask("key", query);
            assert_value(&answer, "value");
            assert_eq!(answer.header("holdfast-lease"), None);
            let known = space.request("GET", "key", query).header("If-None-Match", &etag);
            assert_eq!(client.send(&known).status, 304);
        }
        assert_eq!(space.put("key", "", "value").status, 200);
    });
}

#[test]
fn in_the_stale_window_one_asker_also_gets_the_lease() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("key", "ttl=class:brief", "old");
        wait_until("it is stale", || space.head("key").header("holdfast-stale").is_some());
        let first = space.ask("key", "lease=30s&wait=50s");
        assert_value(&first, "old");
        assert_eq!(first.header("holdfast-stale"), Some("1"));
        let lease = first.header("holdfast-lease").unwrap();
        for query in ["lease=30s", "lease=30s&wait=50s", ""] {
            let next = space.ask("key", query);
            assert_value(&next, "old");
            assert_eq!(next.header("holdfast-lease"), None, "{query}");
            assert_eq!(next.header("holdfast-stale"), Some("1"));
        }
        assert_eq!(space.put("key", &format!("lease={lease}&ttl=1h"), "new").status, 200);
        let fresh = space.ask("key", "lease=30s");
        assert_value(&fresh, "new");
        assert_eq!((fresh.header("holdfast-lease"), fresh.header("holdfast-stale")), (None, None));
    });
}

#[test]
fn a_lease_ends_and_the_next_asker_gets_one() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let first = space.ask("key", "lease=100ms").header("holdfast-lease").unwrap().to_owned();
        let second = wait_for("the lease ends", || {
            space.ask("key", "lease=30s").header("holdfast-lease").map(str::to_owned)
        });
        assert_ne!(first, second);
        let before = space.state(&["key"]);
        let answer = space.put("key", &format!("lease={first}"), "late");
        answer.expect_problem(409, "lease_lost");
        assert_eq!(space.state(&["key"]), before);
        assert_eq!(space.put("key", &format!("lease={second}"), "value").status, 201);
        assert_value(&space.get("key"), "value");
    });
}

#[test]
fn a_lease_that_has_ended_is_lost_also_when_nobody_else_wants_it() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let answer = space.ask("key", "lease=100ms");
        let lease = answer.header("holdfast-lease").unwrap();
        // Put after the lease was given, and gone when it is over.
        space.put("watch", "ttl=150ms", "");
        wait_until("the lease has ended", || space.head("watch").status == 404);
        let answer = space.put("key", &format!("lease={lease}"), "late");
        answer.expect_problem(409, "lease_lost");
        assert_miss(&space.get("key"));
    });
}

#[test]
fn only_the_lease_of_the_key_stores_with_a_lease() {
    by_both_doors(|client| {
        let (space, elsewhere) = (Space::new(client), Space::new(client));
        let (lease, other) = (space.lease("key"), space.lease("other"));
        let foreign = elsewhere.lease("key");
        let before = space.state(&["key", "other", "third"]);
        let guessed =
            if lease == "0000000000000000" { "0000000000000001" } else { &"0".repeat(16) };
        for wrong in [other.as_str(), &foreign, guessed, "ffffffffffffffff"] {
            let answer = space.put("key", &format!("lease={wrong}"), "wrong");
            let problem = answer.expect_problem(409, "lease_lost");
            assert!(!problem.to_string().contains(&lease), "{problem}");
        }
        space.put("third", &format!("lease={lease}"), "v").expect_problem(409, "lease_lost");
        for wrong in ["", "1", "lease", &lease.repeat(2), &lease[1..], &lease.replace('0', "g")] {
            if *wrong != *lease {
                let answer = space.put("key", &format!("lease={wrong}"), "wrong");
                answer.expect_problem(400, "invalid_lease");
            }
        }
        let capitals = "ABCDEFABCDEFABCD";
        let answer = space.put("key", &format!("lease={capitals}"), "wrong");
        answer.expect_problem(400, "invalid_lease");
        assert_eq!(space.state(&["key", "other", "third"]), before);
        // None of it has cost the right one.
        assert_eq!(space.put("key", &format!("lease={lease}"), "right").status, 201);
        let again = space.put("key", &format!("lease={lease}"), "again");
        again.expect_problem(409, "lease_lost");
        assert_value(&space.get("key"), "right");
    });
}

#[test]
fn a_refused_put_does_not_cost_the_lease() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let lease = space.lease("key");
        for (query, status) in [
            ("&ttl=0", 400),
            ("&tags=,", 400),
            ("&if=present", 409),
            ("&if=maybe", 400),
            ("&nonsense=1", 400),
        ] {
            let answer = space.put("key", &format!("lease={lease}{query}"), "v");
            assert_eq!(answer.status, status, "{query}: {answer:?}");
            assert_miss(&space.get("key"));
        }
        let answer = space.put("key", &format!("lease={lease}&if=absent&ttl=1h&tags=a"), "v");
        assert_eq!(answer.status, 201);
    });
}

#[test]
fn what_is_no_lease_or_no_wait_is_refused() {
    by_both_doors(|client| {
        let space = Space::new(client);
        for lease in ["", "0", "99ms", "-1", "3601", "2h", "soon", "class:dashboard", "0.05", "1d"]
        {
            let answer = space.ask("key", &format!("lease={lease}"));
            answer.expect_problem(400, "invalid_lease");
        }
        for wait in ["", "-1", "51", "50001ms", "1m", "soon", "0.0001"] {
            let answer = space.ask("key", &format!("lease=30s&wait={wait}"));
            answer.expect_problem(400, "invalid_wait");
        }
        for wait in ["1s", "0", "nonsense"] {
            space.ask("key", &format!("wait={wait}")).expect_problem(400, "invalid_wait");
        }
        space.ask("key", "lease=1s&lease=1s").expect_problem(400, "unknown_parameter");
        space.ask("key", "ttl=1s").expect_problem(400, "unknown_parameter");
        for query in ["lease=30s", "lease=30s&wait=1s", "wait=1s"] {
            assert_eq!(client.send(&space.request("HEAD", "key", query)).status, 400);
        }
        client.get(&space.path("")).expect_problem(404, "unknown_namespace");
        // Nobody has got a lease by all that.
        space.lease("key");
    });
}

#[test]
fn fifty_who_ask_for_a_cold_key_make_one_compute_it() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let space = Space::new(client);
        let (leased, hits) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let ask = || {
            let answer = space.ask("cold", "lease=50s&wait=50s");
            let Some(lease) = answer.header("holdfast-lease") else {
                assert_value(&answer, "computed");
                hits.fetch_add(1, Relaxed);
                return;
            };
            assert_miss(&answer);
            leased.fetch_add(1, Relaxed);
            let query = format!("lease={lease}&ttl=1h");
            assert_eq!(space.put("cold", &query, "computed").status, 201);
        };
        all_at_once(50, &ask);
        assert_eq!((leased.into_inner(), hits.into_inner()), (1, 49));
        let stats = space.stats();
        assert_eq!((&stats["hits"], &stats["misses"]), (&json!(49), &json!(1)), "{stats}");
        assert!(stats["coalesced"].as_u64().unwrap() <= 49, "{stats}");
        assert_eq!(stats["entries"], 1);
    });
}

/// Does the same on so many threads, and waits for all of them.
#[expect(clippy::disallowed_methods, reason = "clients are threads of their own")]
fn all_at_once(threads: usize, work: &(dyn Fn() + Sync)) {
    let gate = std::sync::Barrier::new(threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                gate.wait();
                work();
            });
        }
    });
}

#[test]
fn a_lease_is_told_in_words_as_well() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let problem = space.ask("key", "lease=30s").expect_problem(404, "cache_miss");
        assert!(text(&problem["detail"]).contains("?lease="), "{problem}");
        let problem = space.ask("key", "").expect_problem(404, "cache_miss");
        assert_eq!(problem.get("lease"), None);
        assert_eq!(problem["retryable"], false);
    });
}

#[test]
fn where_nothing_is_cached_everybody_computes() {
    let server = Server::start_with("[cache]\nenabled = false\n", &[]);
    by_both_doors_of(&server, |client| {
        let space = Space::new(client);
        assert!(space.put("key", "ttl=1h&tags=t", "v").status < 300);
        let entries = json!([{ "key": "key", "value": "v" }]);
        let stored = space.call("put", &json!({ "entries": entries })).expect(200);
        assert_eq!(stored, json!({ "stored": 1 }));
        assert_miss(&space.get("key"));
        for _ in 0..3 {
            let lease = space.lease("key");
            assert!(space.put("key", &format!("lease={lease}"), "v").status < 300);
            let answer = space.ask("key", "lease=30s&wait=50s");
            assert_miss(&answer);
            assert!(answer.header("holdfast-lease").is_some());
        }
        assert_miss(&space.delete("key"));
        space.call("touch", &json!({ "key": "key", "ttl": 9 })).expect_problem(404, "cache_miss");
        assert_eq!(space.call("increment", &json!({ "key": "n" })).expect(200)["value"], 1);
        assert_eq!(space.forget(&json!({ "all": true })), 0);
        // What is wrong is wrong here, too.
        space.put("key", "ttl=0", "v").expect_problem(400, "invalid_ttl");
    });
}
