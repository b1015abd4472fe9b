//! What the cache says about itself: namespaces, their figures, and `/metrics`.

use serde_json::{Value, json};

use super::{Space, assert_value};
use crate::api::{by_both_doors, new_secret, new_tenant, text};
use crate::support::{Client, fresh, wait_until};

/// Asserts the figures that depend on who asked what.
#[track_caller]
fn assert_counts(space: &Space<'_>, hits: u64, misses: u64, stale_served: u64) {
    let stats = space.stats();
    let counted = [&stats["hits"], &stats["misses"], &stats["stale_served"]];
    assert_eq!(counted, [&json!(hits), &json!(misses), &json!(stale_served)], "{stats}");
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let rate = (0 < hits + misses).then(|| hits as f64 / (hits + misses) as f64);
    assert_eq!(stats["hit_rate"], json!(rate), "{stats}");
    assert_eq!(stats["coalesced"], 0, "{stats}");
}

#[test]
fn a_page_of_a_namespace_says_what_it_holds() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("key", "", vec![b'v'; 5000]);
        let stats = space.stats();
        assert_eq!(stats["namespace"], space.name);
        assert_eq!((&stats["entries"], &stats["kept"]), (&json!(1), &json!(false)));
        let bytes = stats["bytes"].as_u64().unwrap();
        assert!((5003..6000).contains(&bytes), "{bytes}");
        assert!(bytes < stats["bytes_max"].as_u64().unwrap(), "{stats}");
        assert_eq!((&stats["evicted"], &stats["expired"]), (&json!(0), &json!(0)));
        let mut fields: Vec<_> = stats.as_object().unwrap().keys().cloned().collect();
        fields.sort();
        let all = [
            "bytes",
            "bytes_max",
            "coalesced",
            "entries",
            "evicted",
            "expired",
            "hit_rate",
            "hits",
            "kept",
            "misses",
            "namespace",
            "stale_served",
        ];
        assert_eq!(fields, all);
        space.put("key", "", "");
        let smaller = space.stats()["bytes"].as_u64().unwrap();
        assert!(smaller < bytes, "{smaller}");
        let list = client.get("/v1/cache?limit=1000").expect(200);
        let listed = list["items"].as_array().unwrap();
        let listed = listed.iter().find(|item| item["namespace"] == *space.name).unwrap();
        assert_eq!(*listed, space.stats());
    });
}

#[test]
fn reads_are_counted_key_by_key_and_nothing_else_is() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("a", "ttl=1h", "1");
        space.put("b", "", "2");
        assert_counts(&space, 0, 0, 0);
        assert_value(&space.get("a"), "1");
        space.get("missing");
        assert_counts(&space, 1, 1, 0);
        let got = json!({ "keys": ["a", "b", "a", "missing", "missing 2", "missing"] });
        space.call("get", &got).expect(200);
        assert_counts(&space, 3, 3, 0);
        // A value that the asker has already is served.
        let etag = space.get("b").header("etag").unwrap().to_owned();
        let known = space.request("GET", "b", "").header("If-None-Match", &etag);
        assert_eq!(client.send(&known).status, 304);
        assert_counts(&space, 5, 3, 0);
        // With a lease: the one who gets it and the one who does not have missed.
        let lease = space.lease("new");
        space.ask("new", "lease=30s");
        assert_counts(&space, 5, 5, 0);
        space.put("new", &format!("lease={lease}"), "3");
        assert_value(&space.ask("new", "lease=30s&wait=1s"), "3");
        assert_counts(&space, 6, 5, 0);
        // Nothing of this is a read.
        for key in ["a", "missing"] {
            space.head(key);
            space.call("touch", &json!({ "key": key, "ttl": "1h" }));
            space.put(key, "if=absent", "4");
            space.delete(key);
        }
        space.call("increment", &json!({ "key": "a" })).expect(200);
        space.call("increment", &json!({ "key": "a" })).expect(200);
        space.forget(&json!({ "prefix": "a", "dry_run": true }));
        space.put("b", "if=present", "5");
        space.stats();
        client.get("/v1/cache").expect(200);
        client.get("/metrics");
        assert_counts(&space, 6, 5, 0);
        // Nor is what was refused.
        space.ask("b", "wait=1s").expect_problem(400, "invalid_wait");
        space.ask("b", "x=1").expect_problem(400, "unknown_parameter");
        space.call("get", &json!({ "keys": ["b", ""] })).expect_problem(400, "invalid_key");
        let stranger = space.with_token("nonsense");
        stranger.get("b").expect_problem(401, "unauthenticated");
        assert_counts(&space, 6, 5, 0);
    });
}

#[test]
fn stale_values_are_hits_and_counted_as_such() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("key", "ttl=class:brief", "old");
        wait_until("it is stale", || space.head("key").header("holdfast-stale").is_some());
        assert_counts(&space, 0, 0, 0);
        space.get("key");
        space.call("get", &json!({ "keys": ["key", "missing"] })).expect(200);
        space.lease("key");
        assert_value(&space.ask("key", "lease=1s&wait=1s"), "old");
        assert_counts(&space, 4, 1, 4);
    });
}

#[test]
fn a_namespace_is_there_as_long_as_something_is_in_it() {
    by_both_doors(|client| {
        let listed = |name: &str| {
            let list = client.get("/v1/cache?limit=1000").expect(200);
            list["items"].as_array().unwrap().iter().any(|item| item["namespace"] == *name)
        };
        let gone = |space: &Space<'_>| {
            let answer = client.get(&space.path(""));
            let problem = answer.expect_problem(404, "unknown_namespace");
            assert!(text(&problem["detail"]).contains(&space.name), "{problem}");
            assert!(!listed(&space.name));
        };
        let space = Space::new(client);
        gone(&space);
        space.get("key");
        space.call("get", &json!({ "keys": ["key"] })).expect(200);
        space.delete("key").expect_problem(404, "cache_miss");
        space.put("key", "if=present", "v").expect_problem(409, "key_missing");
        gone(&space);
        space.put("key", "", "v");
        assert!(listed(&space.name));
        space.delete("key");
        gone(&space);
        space.call("increment", &json!({ "key": "key" })).expect(200);
        assert_eq!(space.stats()["entries"], 1);
        space.forget(&json!({ "all": true }));
        gone(&space);
        space.put("key", "ttl=20ms", "v");
        wait_until("it is gone", || client.get(&space.path("")).status == 404);
        gone(&space);
        let nothing = json!({ "entries": [] });
        space.call("put", &nothing).expect(200);
        gone(&space);
    });
}

/// A client of a tenant that nobody else uses, and its name.
fn own_tenant<'s>(client: &Client<'s>) -> (Client<'s>, String) {
    let tenant = new_tenant(client);
    let secret = new_secret(client, &tenant, &["cache:read", "cache:write"]);
    (client.with_token(&secret), tenant)
}

#[test]
fn namespaces_are_listed_by_name_and_in_pages() {
    by_both_doors(|client| {
        let (own, _) = own_tenant(client);
        let nothing = json!({ "items": [], "next": null });
        assert_eq!(own.get("/v1/cache").expect(200), nothing);
        let names = ["10", "9", "A", "Z", "_", "a", "a-b", "a.b", "ab", "b:c"];
        for name in names.iter().rev() {
            let space = Space { client: own.clone(), name: (*name).to_owned() };
            space.put("key", "", *name);
        }
        let mut sorted = names.map(str::to_owned);
        sorted.sort();
        for limit in [1, 3, 9, 10, 11, 1000] {
            let mut found = Vec::new();
            let mut cursor = String::new();
            loop {
                let page = own.get(&format!("/v1/cache?limit={limit}{cursor}")).expect(200);
                let items = page["items"].as_array().unwrap();
                assert!(!items.is_empty() && items.len() <= limit, "{page}");
                found.extend(items.iter().map(|item| text(&item["namespace"]).to_owned()));
                match &page["next"] {
                    Value::Null => break,
                    next => cursor = format!("&cursor={}", text(next)),
                }
            }
            assert_eq!(found, sorted, "limit={limit}");
        }
        // What a cursor stands on may go away.
        let page = own.get("/v1/cache?limit=4").expect(200);
        let gone = Space { client: own.clone(), name: sorted[3].clone() };
        assert_eq!(gone.delete("key").status, 204);
        let next = own.get(&format!("/v1/cache?limit=4&cursor={}", text(&page["next"])));
        assert_eq!(next.expect(200)["items"][0]["namespace"], sorted[4]);
        for limit in ["0", "1001", "-1", "", "x", "1.5", "+5"] {
            let answer = own.get(&format!("/v1/cache?limit={limit}"));
            answer.expect_problem(400, "invalid_limit");
        }
        let foreign = client.get("/v1/tenants?limit=1").expect(200)["next"].clone();
        for cursor in ["x", "", text(&foreign)] {
            let answer = own.get(&format!("/v1/cache?cursor={cursor}"));
            answer.expect_problem(400, "invalid_cursor");
        }
    });
}

/// The value of a sample.
fn sample(metrics: &str, labelled: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{labelled} ")));
    line.map(|value| value.parse().unwrap())
}

#[test]
fn metrics_tell_of_every_namespace_of_every_tenant() {
    by_both_doors(|client| {
        let (own, tenant) = own_tenant(client);
        let space = Space { client: own, name: fresh("space") };
        space.put("key", "ttl=1h", "v");
        space.put("old", "ttl=class:brief", "v");
        wait_until("it is stale", || space.head("old").header("holdfast-stale").is_some());
        for key in ["key", "key", "old", "missing"] {
            space.get(key);
        }
        space.lease("missing");
        let answer = client.get("/metrics");
        let metrics = answer.text();
        let figure = |name: &str| {
            let labels = format!("tenant=\"{tenant}\",namespace=\"{}\"", space.name);
            sample(metrics, &format!("holdfast_cache_{name}{{{labels}}}"))
        };
        let stats = space.stats();
        for (name, field) in [
            ("entries", "entries"),
            ("bytes", "bytes"),
            ("hits_total", "hits"),
            ("misses_total", "misses"),
            ("stale_served_total", "stale_served"),
            ("coalesced_total", "coalesced"),
            ("evicted_total", "evicted"),
            ("expired_total", "expired"),
        ] {
            assert_eq!(figure(name), stats[field].as_f64(), "{name}");
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            assert!(metrics.contains(&format!("# TYPE holdfast_cache_{name} {kind}\n")), "{name}");
            assert_eq!(metrics.matches(&format!("# HELP holdfast_cache_{name} ")).count(), 1);
        }
        assert_eq!((figure("hits_total"), figure("misses_total")), (Some(3.0), Some(2.0)));
        assert_eq!(figure("leases_total"), Some(1.0));
        for kind in ["ordinary", "kept"] {
            let used = sample(metrics, &format!("holdfast_cache_used_bytes{{kind=\"{kind}\"}}"));
            let most = sample(metrics, &format!("holdfast_cache_max_bytes{{kind=\"{kind}\"}}"));
            assert!(used.unwrap() <= most.unwrap(), "{kind}: {used:?} of {most:?}");
        }
        let used = sample(metrics, "holdfast_cache_used_bytes{kind=\"ordinary\"}");
        assert!(figure("bytes") <= used, "{used:?}");
    });
}
