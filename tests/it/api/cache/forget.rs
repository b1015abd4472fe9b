//! Forgetting: by key, tag, prefix, pattern, and all of it; how many that were.

use holdfast::base::limits::GLOB_BYTES_MAX;
use serde_json::{Value, json};

use super::{Space, assert_miss, assert_value};
use crate::api::{by_both_doors, text};
use crate::support::wait_until;

/// Puts these keys, each with its tags.
fn fill(space: &Space<'_>, entries: &[(&str, &[&str])]) {
    let entries: Vec<_> = entries
        .iter()
        .map(|(key, tags)| json!({ "key": key, "value": key, "tags": tags }))
        .collect();
    space.call("put", &json!({ "entries": entries })).expect(200);
}

/// Which of these are there.
fn left<'k>(space: &Space<'_>, keys: &[&'k str]) -> Vec<&'k str> {
    keys.iter().copied().filter(|key| space.head(key).status == 200).collect()
}

/// A dry run counts and changes nothing; then it is done, and finds nothing any more.
#[track_caller]
fn assert_forgets(space: &Space<'_>, body: &Value, keys: &[&str], gone: &[&str]) {
    let before = space.state(keys);
    let there = left(space, keys);
    let mut dry = body.clone();
    dry["dry_run"] = json!(true);
    let count = u64::try_from(gone.len()).unwrap();
    assert_eq!(space.forget(&dry), count, "{dry}");
    assert_eq!(space.state(keys), before, "{dry}");
    let entries = before["page"]["entries"].as_u64().unwrap_or(0);
    let mut wet = body.clone();
    wet["dry_run"] = json!(false);
    assert_eq!(space.forget(&wet), count, "{wet}");
    let want: Vec<_> = there.into_iter().filter(|key| !gone.contains(key)).collect();
    assert_eq!(left(space, keys), want, "{body}");
    let page = space.client.get(&space.path(""));
    let now = if page.status == 404 { 0 } else { page.json()["entries"].as_u64().unwrap() };
    assert_eq!(now, entries - count, "{body}");
    assert_eq!(space.forget(body), 0, "{body}");
}

#[test]
fn keys_are_forgotten_and_counted_once() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let keys = ["a", "b", "c", "d"];
        fill(&space, &keys.map(|key| (key, &[][..])));
        let body = json!({ "keys": ["a", "missing", "c", "a", "c", "a"] });
        assert_forgets(&space, &body, &keys, &["a", "c"]);
        assert_forgets(&space, &json!({ "keys": [] }), &keys, &[]);
        for key in ["b", "d"] {
            assert_value(&space.get(key), key);
        }
        assert_forgets(&space, &json!({ "keys": ["b", "d"] }), &keys, &["b", "d"]);
    });
}

#[test]
fn what_has_any_of_the_tags_is_forgotten() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let keys = ["none", "a", "b", "ab", "abc", "c"];
        let entries: [(&str, &[&str]); 6] = [
            ("none", &[]),
            ("a", &["a"]),
            ("b", &["b"]),
            ("ab", &["a", "b"]),
            ("abc", &["c", "b", "a"]),
            ("c", &["c"]),
        ];
        fill(&space, &entries);
        assert_forgets(&space, &json!({ "tags": ["A", "x", "ab", "a "] }), &keys, &[]);
        assert_forgets(&space, &json!({ "tags": [] }), &keys, &[]);
        assert_forgets(&space, &json!({ "tags": ["a"] }), &keys, &["a", "ab", "abc"]);
        fill(&space, &entries);
        let gone = ["a", "b", "ab", "abc"];
        assert_forgets(&space, &json!({ "tags": ["a", "b", "a"] }), &keys, &gone);
        fill(&space, &entries);
        let gone = ["a", "b", "ab", "abc", "c"];
        assert_forgets(&space, &json!({ "tags": ["b", "c", "a"] }), &keys, &gone);
        assert_value(&space.get("none"), "none");
    });
}

#[test]
fn an_entry_has_the_tags_of_its_last_put() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let forget = |tag: &str| space.forget(&json!({ "tags": [tag] }));
        space.put("key", "tags=old,both", "v");
        space.put("key", "tags=new,both", "v");
        assert_eq!(forget("old"), 0);
        assert_eq!(space.forget(&json!({ "tags": ["new"], "dry_run": true })), 1);
        assert_eq!(forget("both"), 1);
        assert_eq!(forget("new"), 0);
        // Who was forgotten by a tag has it no more when it comes back without.
        space.put("key", "", "v");
        assert_eq!((forget("old"), forget("new"), forget("both")), (0, 0, 0));
        assert_value(&space.get("key"), "v");
        space.put("key", "tags=new", "v");
        assert_eq!(forget("new"), 1);
        // What has ended is not counted, what is stale is.
        space.put("ends", "tags=t&ttl=20ms", "v");
        space.put("stale", "tags=t&ttl=class:brief", "v");
        wait_until("one ends", || space.head("ends").status == 404);
        wait_until("one is stale", || space.head("stale").header("holdfast-stale").is_some());
        assert_eq!(forget("t"), 1);
        assert_miss(&space.get("stale"));
    });
}

#[test]
fn tags_are_read_from_a_query_and_from_json_alike() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let long = "t".repeat(128);
        let sixteen: Vec<_> = (0..16).map(|n| n.to_string()).collect();
        for (query, tags) in [
            ("a,b", vec!["a", "b"]),
            ("a", vec!["a"]),
            ("a%20b,%2C", vec!["a b"]),
            ("user:1/x,gr%C3%BCn", vec!["user:1/x", "gr\u{fc}n"]),
            (&long, vec![&long]),
            (&sixteen.join(","), sixteen.iter().map(String::as_str).collect()),
            ("a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a", vec!["a"]),
        ] {
            let answer = space.put("key", &format!("tags={query}"), "v");
            if query.contains("%2C") {
                // A comma parts tags, however it is written.
                answer.expect_problem(400, "invalid_tags");
                continue;
            }
            assert!(answer.status < 300, "{query}: {answer:?}");
            for tag in tags {
                let body = json!({ "tags": [tag], "dry_run": true });
                assert_eq!(space.forget(&body), 1, "{tag}");
            }
        }
        let before = space.state(&["key", "new"]);
        let long = "t".repeat(129);
        let many: Vec<_> = (0..17).map(|n| n.to_string()).collect();
        for query in
            ["", ",", "a,,b", "a,", ",a", "a%00b", "a%0Ab", "%C2%85", &long, &many.join(",")]
        {
            for key in ["key", "new"] {
                let answer = space.put(key, &format!("tags={query}"), "w");
                answer.expect_problem(400, "invalid_tags");
            }
        }
        for tags in [json!([""]), json!(["a\n"]), json!([long]), json!(many)] {
            let answer = space.call("forget", &json!({ "tags": tags }));
            answer.expect_problem(400, "invalid_tags");
        }
        assert_eq!(space.state(&["key", "new"]), before);
    });
}

#[test]
fn what_begins_with_the_prefix_is_forgotten() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let keys =
            ["user", "user:", "user:1", "user:12", "User:1", " user:1", "\u{e9}t\u{e9}", "%*"];
        fill(&space, &keys.map(|key| (key, &[][..])));
        assert_forgets(&space, &json!({ "prefix": "user:123" }), &keys, &[]);
        assert_forgets(&space, &json!({ "prefix": "*" }), &keys, &[]);
        assert_forgets(&space, &json!({ "prefix": "user:1" }), &keys, &["user:1", "user:12"]);
        let rest = ["user", "user:", "User:1", " user:1", "\u{e9}t\u{e9}", "%*"];
        assert_forgets(&space, &json!({ "prefix": "user" }), &rest, &["user", "user:"]);
        let rest = ["User:1", " user:1", "\u{e9}t\u{e9}", "%*"];
        assert_forgets(&space, &json!({ "prefix": "\u{e9}" }), &rest, &["\u{e9}t\u{e9}"]);
        assert_forgets(&space, &json!({ "prefix": "%*" }), &rest, &["%*"]);
        let before = space.state(&keys);
        let problem = space.call("forget", &json!({ "prefix": "" }));
        let problem = problem.expect_problem(400, "invalid_prefix");
        assert!(text(&problem["detail"]).contains("all"), "{problem}");
        assert_eq!(space.state(&keys), before);
    });
}

#[test]
fn what_matches_the_pattern_is_forgotten() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let keys = ["a", "ab", "abc", "b", "a/b", "user:1:x", "user:22:x", "\u{e9}a", "a*b"];
        for (pattern, gone) in [
            ("a", &["a"][..]),
            ("nothing", &[]),
            ("a*", &["a", "ab", "abc", "a/b", "a*b"]),
            ("*b", &["ab", "b", "a/b", "a*b"]),
            ("*b*", &["ab", "abc", "b", "a/b", "a*b"]),
            ("?", &["a", "b"]),
            ("?a", &["\u{e9}a"]),
            ("a?b", &["a/b", "a*b"]),
            ("??", &["ab", "\u{e9}a"]),
            ("user:*:x", &["user:1:x", "user:22:x"]),
            ("user:?:x", &["user:1:x"]),
            ("user:[0-9]:x", &["user:1:x"]),
            ("[ab]", &["a", "b"]),
            ("[!a]", &["b"]),
            ("[a-b]*c", &["abc"]),
            ("a[*]b", &["a*b"]),
            ("a\\*b", &["a*b"]),
            ("*", &keys),
            ("**", &keys),
        ] {
            fill(&space, &keys.map(|key| (key, &[][..])));
            assert_forgets(&space, &json!({ "pattern": pattern }), &keys, gone);
        }
    });
}

#[test]
fn a_pattern_is_bounded_and_costs_no_more_than_its_length() {
    by_both_doors(|client| {
        let space = Space::new(client);
        for n in 0..20 {
            space.put(&format!("{n}{}", "a".repeat(1000)), "", "v");
        }
        let keys = ["0a"];
        let before = space.state(&keys);
        // With somebody who backtracks this would take longer than the world has.
        let hostile = format!("{}b", "*a".repeat(500));
        for pattern in [hostile.as_str(), &"*?".repeat(500), &"*".repeat(GLOB_BYTES_MAX)] {
            let body = json!({ "pattern": pattern, "dry_run": true });
            let count = space.forget(&body);
            assert_eq!(count, if pattern.ends_with('b') { 0 } else { 20 }, "{pattern}");
        }
        let too_long = "*".repeat(GLOB_BYTES_MAX + 1);
        for bad in ["[", "a[", "[a", "[!", "[]", "a\\", too_long.as_str()] {
            let answer = space.call("forget", &json!({ "pattern": bad }));
            answer.expect_problem(400, "invalid_pattern");
        }
        assert_eq!(space.state(&keys), before);
    });
}

#[test]
fn everything_is_forgotten_and_other_namespaces_stay() {
    by_both_doors(|client| {
        let (space, other) = (Space::new(client), Space::new(client));
        other.put("key", "tags=t", "other");
        assert_eq!(space.forget(&json!({ "all": true })), 0, "of nothing");
        let keys: Vec<String> = (0..500).map(|n| format!("key {n}")).collect();
        let entries: Vec<_> =
            keys.iter().map(|key| json!({ "key": key, "value": "v", "tags": ["t"] })).collect();
        space.call("put", &json!({ "entries": entries })).expect(200);
        assert_eq!(space.forget(&json!({ "all": true, "dry_run": true })), 500);
        assert_eq!(space.stats()["entries"], 500);
        assert_eq!(space.forget(&json!({ "all": true })), 500);
        assert_miss(&space.get("key 0"));
        client.get(&space.path("")).expect_problem(404, "unknown_namespace");
        space.put("key", "tags=t", "new");
        for body in [json!({ "tags": ["t"] }), json!({ "prefix": "k" }), json!({ "pattern": "*" })]
        {
            assert_eq!(space.forget(&body), 1);
            space.put("key", "tags=t", "new");
        }
        assert_value(&other.get("key"), "other");
    });
}

#[test]
fn exactly_one_thing_says_what_is_forgotten() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("key", "tags=t", "v");
        let before = space.state(&["key"]);
        for body in [
            json!({}),
            json!({ "dry_run": true }),
            json!({ "dry_run": false }),
            json!({ "all": false }),
            json!({ "all": null }),
            json!({ "keys": null }),
            json!({ "keys": ["key"], "tags": ["t"] }),
            json!({ "keys": ["key"], "all": true }),
            json!({ "keys": ["key"], "all": false }),
            json!({ "keys": [], "tags": [] }),
            json!({ "tags": ["t"], "prefix": "k" }),
            json!({ "prefix": "k", "pattern": "*" }),
            json!({ "pattern": "*", "all": true }),
            json!({ "keys": ["key"], "tags": ["t"], "prefix": "k", "pattern": "*", "all": true }),
            json!({ "all": 1 }),
            json!({ "all": "true" }),
            json!({ "all": true, "dry_run": "yes" }),
            json!({ "keys": "key" }),
            json!({ "keys": { "0": "key" } }),
            json!({ "keys": ["key", 5] }),
            json!({ "tags": "t" }),
            json!({ "prefix": 5 }),
            json!({ "prefix": ["k"] }),
            json!({ "pattern": ["*"] }),
        ] {
            let answer = space.call("forget", &body);
            assert_eq!(answer.expect_problem(400, "malformed")["code"], "malformed", "{body}");
        }
        assert_eq!(space.state(&["key"]), before);
        // What is null is left out.
        let body = json!({ "keys": ["key"], "all": null, "tags": null, "dry_run": null });
        assert_eq!(space.forget(&body), 1);
    });
}
