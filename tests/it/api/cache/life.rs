//! How long a key is served: ttl, stale window, conditions.

use serde_json::json;

use super::{Space, assert_miss, assert_value, number};
use crate::api::{by_both_doors, text};
use crate::serving::moment;
use crate::support::{wait_for, wait_until};

/// What may have passed since `began`, and a millisecond for what is rounded.
fn passed_ms(began: std::time::Instant) -> u64 {
    u64::try_from((moment() - began).as_millis()).unwrap() + 1
}

#[test]
fn a_ttl_is_read_in_every_form() {
    by_both_doors(|client| {
        let space = Space::new(client);
        for (ttl, ms) in [
            ("90", 90_000),
            ("40.25", 40_250),
            ("60000ms", 60_000),
            ("45s", 45_000),
            ("5m", 300_000),
            ("1.5h", 5_400_000),
            ("7d", 604_800_000),
            ("3650d", 315_360_000_000),
            ("class:dashboard", 60_000),
            ("class:trend", 600_000),
            ("class%3Apermissions", 3_600_000),
        ] {
            let began = moment();
            assert!(space.put("key", &format!("ttl={ttl}"), "v").status < 300, "{ttl}");
            let left = number(&space.get("key"), "holdfast-ttl-ms");
            assert!(left <= ms && ms <= left + passed_ms(began), "{ttl}: {left}");
        }
        for (ttl, ms) in [
            (json!(90), 90_000),
            (json!(40.25), 40_250),
            (json!("5m"), 300_000),
            (json!("class:dashboard"), 60_000),
        ] {
            let began = moment();
            let entry = json!({ "key": "key", "value": "v", "ttl": ttl });
            space.call("put", &json!({ "entries": [entry] })).expect(200);
            let left = number(&space.get("key"), "holdfast-ttl-ms");
            assert!(left <= ms && ms <= left + passed_ms(began), "{ttl}: {left}");
        }
    });
}

#[test]
fn without_a_ttl_a_key_stays() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("key", "ttl=1h", "v");
        assert!(space.get("key").header("holdfast-ttl-ms").is_some());
        space.put("key", "", "v");
        let answer = space.get("key");
        assert_eq!(answer.header("holdfast-ttl-ms"), None);
        assert_eq!(answer.header("holdfast-stale"), None);
        let got = space.call("get", &json!({ "keys": ["key"] })).expect(200);
        assert_eq!(got["entries"]["key"]["ttl_ms"], json!(null));
        let entry =
            json!({ "key": "null", "value": "v", "ttl": null, "stale": null, "tags": null });
        space.call("put", &json!({ "entries": [entry] })).expect(200);
        assert_eq!(space.get("null").header("holdfast-ttl-ms"), None);
    });
}

#[test]
fn what_is_no_ttl_is_refused() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("here", "ttl=1h", "v");
        let before = space.state(&["here", "new"]);
        let refused = |query: &str, code: &str| {
            for key in ["here", "new"] {
                space.put(key, query, "w").expect_problem(400, code);
            }
        };
        for ttl in [
            "0",
            "0s",
            "0ms",
            "0.0",
            "-1",
            "-5m",
            "",
            "soon",
            "5%20m",
            "5min",
            "1h30m",
            "1e3",
            "0x10",
            "0.5ms",
            "0.0001",
            "3651d",
            "36501d",
            "99999999999999999999d",
            "NaN",
            "inf",
            "null",
            "class:",
            "class:nobody",
            "class:DASHBOARD",
            "class",
            "Class:dashboard",
            "%E2%88%9E",
        ] {
            refused(&format!("ttl={ttl}"), "invalid_ttl");
        }
        let problem = space.put("new", "ttl=class:nobody", "w").expect_problem(400, "invalid_ttl");
        let detail = text(&problem["detail"]);
        assert!(detail.contains("nobody") && detail.contains("dashboard"), "{detail}");
        for stale in ["-1", "soon", "", "3651d", "0.1ms", "class:dashboard"] {
            refused(&format!("ttl=1m&stale={stale}"), "invalid_stale");
        }
        refused("stale=1m", "invalid_stale");
        for jitter in ["-0.1", "1.1", "", "much", "NaN", "inf"] {
            refused(&format!("ttl=1m&jitter={jitter}"), "invalid_jitter");
        }
        refused("jitter=0.1", "invalid_jitter");
        for ttl in [json!(0), json!(-1), json!(""), json!([]), json!({}), json!(true), json!(1e300)]
        {
            let good = json!({ "key": "good", "value": "w" });
            let entry = json!({ "key": "here", "value": "w", "ttl": ttl });
            let answer = space.call("put", &json!({ "entries": [good, entry] }));
            assert_eq!(answer.expect_problem(400, "invalid_ttl")["index"], 1, "{ttl}");
            let answer = space.call("increment", &json!({ "key": "count", "ttl": ttl }));
            answer.expect_problem(400, "invalid_ttl");
            let answer = space.call("touch", &json!({ "key": "here", "ttl": ttl }));
            answer.expect_problem(400, "invalid_ttl");
        }
        let answer = space.call("touch", &json!({ "key": "here", "ttl": null }));
        answer.expect_problem(400, "invalid_ttl");
        assert_eq!(space.state(&["here", "new"]), before);
        assert_eq!(space.state(&["good", "count"])["page"], before["page"]);
        assert_value(&space.get("here"), "v");
    });
}

#[test]
fn what_has_ended_is_not_there_for_anybody() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let gone = |key: &str| {
            space.put(key, "ttl=20ms&tags=t", "5");
            wait_until("it ends", || space.head(key).status == 404);
        };
        gone("key");
        assert_miss(&space.get("key"));
        assert_miss(&space.delete("key"));
        space.call("touch", &json!({ "key": "key", "ttl": 60 })).expect_problem(404, "cache_miss");
        space.put("key", "if=present", "v").expect_problem(409, "key_missing");
        let got = space.call("get", &json!({ "keys": ["key"] })).expect(200);
        assert_eq!(got, json!({ "entries": {}, "missing": ["key"] }));
        for body in [
            json!({ "keys": ["key"] }),
            json!({ "tags": ["t"] }),
            json!({ "prefix": "k" }),
            json!({ "pattern": "*" }),
            json!({ "all": true }),
        ] {
            assert_eq!(space.forget(&body), 0, "{body}");
        }
        assert_eq!(space.put("key", "if=absent", "v").status, 201);
        gone("number");
        let value = space.call("increment", &json!({ "key": "number" })).expect(200);
        assert_eq!(value, json!({ "value": 1 }));
    });
}

#[test]
fn an_age_is_counted_from_the_put() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("key", "", "v");
        wait_until("it is a second old", || 1 <= number(&space.head("key"), "age"));
        let began = moment();
        space.put("key", "", "v");
        let age = number(&space.get("key"), "age");
        assert!(age * 1000 <= passed_ms(began), "{age}");
    });
}

#[test]
fn after_its_ttl_a_key_is_served_as_stale_and_then_not_at_all() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let put = space.request("PUT", "key", "ttl=20ms&stale=1h").header("Content-Type", "a/b");
        client.send(&put.body(b"old"));
        wait_until("it is stale", || space.head("key").header("holdfast-stale").is_some());
        for answer in [space.get("key"), space.head("key"), space.ask("key", "lease=1s&wait=50s")] {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("holdfast-stale"), Some("1"));
            assert_eq!(number(&answer, "holdfast-ttl-ms"), 0);
            assert_eq!(answer.header("content-type"), Some("a/b"));
        }
        assert_value(&space.get("key"), "old");
        let got = space.call("get", &json!({ "keys": ["key"] })).expect(200);
        let entry = &got["entries"]["key"];
        assert_eq!((&entry["stale"], &entry["ttl_ms"]), (&json!(true), &json!(0)), "{got}");
        // It is there: for conditions, and to be replaced.
        space.put("key", "if=absent", "v").expect_problem(409, "key_exists");
        assert_eq!(space.put("key", "if=present&ttl=20ms&stale=20ms", "new").status, 200);
        wait_until("it has ended", || space.head("key").status == 404);
        assert_miss(&space.get("key"));
    });
}

#[test]
fn a_class_gives_the_stale_window_too() {
    by_both_doors(|client| {
        let space = Space::new(client);
        // `brief` is a class of this server's configuration: 20 ms, then an hour stale.
        space.put("key", "ttl=class:brief", "v");
        let entry = json!({ "key": "many", "value": "v", "ttl": "class:brief" });
        space.call("put", &json!({ "entries": [entry] })).expect(200);
        space.call("increment", &json!({ "key": "count", "ttl": "class:brief" })).expect(200);
        space.put("touched", "", "v");
        space.call("touch", &json!({ "key": "touched", "ttl": "class:brief" })).expect(200);
        for key in ["key", "many", "count", "touched"] {
            wait_until(key, || space.get(key).header("holdfast-stale").is_some());
        }
        // Another window may be asked for.
        space.put("own", "ttl=class:brief&stale=0", "v");
        wait_until("it has ended", || space.get("own").status == 404);
        assert_eq!(space.get("key").status, 200);
    });
}

#[test]
fn jitter_shortens_a_ttl() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let left = |query: &str| {
            let began = moment();
            space.put("key", query, "v");
            number(&space.get("key"), "holdfast-ttl-ms") + passed_ms(began)
        };
        let many: Vec<u64> = (0..20).map(|_| left("ttl=1h&jitter=0.5")).collect();
        assert!(many.iter().all(|ms| 1_800_000 <= *ms), "{many:?}");
        assert!(many.iter().any(|ms| *ms < 3_500_000), "{many:?}");
        assert!(3_600_000 <= left("ttl=1h&jitter=0"));
        // Of the shortest ttl there is always something left.
        assert!(space.put("key", "ttl=1ms&jitter=1", "v").status < 300);
    });
}

#[test]
fn a_put_can_ask_for_absence_or_presence() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("key", "if=present", "v").expect_problem(409, "key_missing");
        assert_miss(&space.get("key"));
        client.get(&space.path("")).expect_problem(404, "unknown_namespace");
        assert_eq!(space.put("key", "if=absent", "first").status, 201);
        let before = space.state(&["key"]);
        space.put("key", "if=absent&ttl=1s&tags=x", "second").expect_problem(409, "key_exists");
        assert_eq!(space.state(&["key"]), before);
        assert_value(&space.get("key"), "first");
        assert_eq!(space.put("key", "if=present", "third").status, 200);
        assert_value(&space.get("key"), "third");
        for wrong in ["", "Absent", "missing", "absent,present", "1"] {
            space.put("key", &format!("if={wrong}"), "v").expect_problem(400, "invalid_if");
        }
        assert_value(&space.get("key"), "third");
    });
}

#[test]
fn the_memory_of_what_ended_comes_back() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("stays", "", "v");
        let bytes = || space.stats()["bytes"].as_u64().unwrap();
        let before = bytes();
        for n in 0..50 {
            space.put(&format!("key {n}"), "ttl=20ms", vec![b'x'; 10_000]);
        }
        let stats = wait_for("it is given back", || {
            Some(space.stats()).filter(|stats| stats["expired"] == 50)
        });
        assert_eq!((&stats["entries"], &stats["bytes"]), (&json!(1), &json!(before)), "{stats}");
        assert_eq!(stats["evicted"], 0);
    });
}
