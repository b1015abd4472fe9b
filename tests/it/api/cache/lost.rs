//! What takes a lease away: a value computed before that never lands.

use serde_json::{Value, json};

use super::{Space, assert_miss, assert_value};
use crate::api::by_both_doors;

/// Takes a lease on `key`, does `between`, and puts with the lease and these tags: that is refused, and
/// changes nothing.
#[track_caller]
fn assert_lost(space: &Space<'_>, key: &str, tags: &str, between: impl FnOnce()) {
    let lease = space.lease(key);
    between();
    // A lease that is lost may be given up when it is noticed; what is stored stays.
    let stored = || {
        let state = space.state(&[key]);
        let (entries, bytes) = (&state["page"]["entries"], &state["page"]["bytes"]);
        json!([state["keys"], entries.as_u64().unwrap_or(0), bytes.as_u64().unwrap_or(0)])
    };
    let before = stored();
    let query = format!("lease={lease}{tags}");
    space.put(key, &query, "computed before").expect_problem(409, "lease_lost");
    assert_eq!(stored(), before);
    space.forget(&json!({ "all": true }));
}

/// The same, and the put lands.
#[track_caller]
fn assert_lands(space: &Space<'_>, key: &str, tags: &str, between: impl FnOnce()) {
    let lease = space.lease(key);
    between();
    let answer = space.put(key, &format!("lease={lease}{tags}"), "computed");
    assert!(answer.status < 300, "{answer:?}");
    assert_value(&space.get(key), "computed");
    space.forget(&json!({ "all": true }));
}

#[test]
fn a_forget_that_meets_the_key_takes_its_lease_away() {
    by_both_doors(|client| {
        let space = Space::new(client);
        assert_lost(&space, "user:1", "", || assert_miss(&space.delete("user:1")));
        for body in [
            json!({ "keys": ["user:1"] }),
            json!({ "keys": ["a", "user:1", "b"] }),
            json!({ "prefix": "user:" }),
            json!({ "prefix": "user:1" }),
            json!({ "pattern": "user:*" }),
            json!({ "pattern": "*" }),
            json!({ "all": true }),
        ] {
            assert_lost(&space, "user:1", "", || assert_eq!(space.forget(&body), 0, "{body}"));
        }
    });
}

#[test]
fn a_forget_that_does_not_meet_the_key_leaves_its_lease() {
    by_both_doors(|client| {
        let (space, elsewhere) = (Space::new(client), Space::new(client));
        for body in [
            json!({ "keys": ["user:2", "user"] }),
            json!({ "prefix": "user:2" }),
            json!({ "prefix": "ser" }),
            json!({ "pattern": "user:?2" }),
            json!({ "pattern": "user" }),
            json!({ "tags": ["user:1"] }),
            json!({ "keys": [] }),
            json!({ "tags": [] }),
        ] {
            assert_lands(&space, "user:1", "&tags=t", || assert_eq!(space.forget(&body), 0));
        }
        assert_lands(&space, "user:1", "", || {
            elsewhere.forget(&json!({ "all": true }));
            elsewhere.put("user:1", "", "v");
            elsewhere.forget(&json!({ "all": true }));
        });
    });
}

#[test]
fn a_dry_run_takes_nothing_away() {
    by_both_doors(|client| {
        let space = Space::new(client);
        for body in [
            json!({ "keys": ["user:1"], "dry_run": true }),
            json!({ "tags": ["t"], "dry_run": true }),
            json!({ "prefix": "user:", "dry_run": true }),
            json!({ "pattern": "*", "dry_run": true }),
            json!({ "all": true, "dry_run": true }),
        ] {
            assert_lands(&space, "user:1", "&tags=t", || assert_eq!(space.forget(&body), 0));
        }
    });
}

#[test]
fn a_value_whose_tag_was_forgotten_meanwhile_never_lands() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let forget = |tags: Value| space.forget(&json!({ "tags": tags }));
        // Also when nothing has that tag.
        assert_lost(&space, "key", "&tags=a", || assert_eq!(forget(json!(["a"])), 0));
        assert_lost(&space, "key", "&tags=b,a", || assert_eq!(forget(json!(["c", "a"])), 0));
        assert_lost(&space, "key", "&tags=a", || {
            space.put("another", "tags=a", "v");
            assert_eq!(forget(json!(["a"])), 1);
            space.put("another", "tags=a", "v");
        });
        assert_lands(&space, "key", "&tags=b", || assert_eq!(forget(json!(["a"])), 0));
        assert_lands(&space, "key", "", || assert_eq!(forget(json!(["a"])), 0));
        // What was forgotten before the lease was given is known to whoever has it.
        forget(json!(["a"]));
        assert_lands(&space, "key", "&tags=a", || {});
    });
}

#[test]
fn another_write_takes_the_lease_away() {
    by_both_doors(|client| {
        let space = Space::new(client);
        assert_lost(&space, "key", "", || assert_eq!(space.put("key", "", "other").status, 201));
        assert_lost(&space, "key", "", || {
            space.put("key", "", "other");
            space.delete("key");
        });
        assert_lost(&space, "key", "", || {
            let entry = json!({ "key": "key", "value": "other" });
            space.call("put", &json!({ "entries": [entry] })).expect(200);
        });
        assert_lost(&space, "key", "", || {
            space.call("increment", &json!({ "key": "key" })).expect(200);
        });
    });
}

#[test]
fn a_refused_write_leaves_the_lease() {
    by_both_doors(|client| {
        let space = Space::new(client);
        assert_lands(&space, "key", "", || {
            space.put("key", "if=present", "v").expect_problem(409, "key_missing");
            space.put("key", "ttl=0", "v").expect_problem(400, "invalid_ttl");
            let entries = json!([{ "key": "key", "value": "v" }, { "key": "", "value": "v" }]);
            let answer = space.call("put", &json!({ "entries": entries }));
            answer.expect_problem(400, "invalid_key");
            space
                .call("touch", &json!({ "key": "key", "ttl": 9 }))
                .expect_problem(404, "cache_miss");
            let both = json!({ "keys": ["key"], "all": true });
            space.call("forget", &both).expect_problem(400, "malformed");
        });
    });
}

#[test]
fn the_lease_of_a_stale_value_is_lost_alike() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let stale = |tags: &str| {
            space.put("key", &format!("ttl=class:brief{tags}"), "old");
            crate::support::wait_until("it is stale", || {
                space.head("key").header("holdfast-stale").is_some()
            });
        };
        stale("");
        assert_lost(&space, "key", "", || assert_eq!(space.delete("key").status, 204));
        stale("&tags=a");
        let forget = || assert_eq!(space.forget(&json!({ "tags": ["a"] })), 1);
        assert_lost(&space, "key", "&tags=a", forget);
        stale("");
        assert_lost(&space, "key", "", || assert_eq!(space.put("key", "", "other").status, 200));
        stale("");
        assert_lands(&space, "key", "", || assert_value(&space.get("key"), "old"));
    });
}
