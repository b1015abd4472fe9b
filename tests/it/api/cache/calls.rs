//! The calls that carry keys and values in JSON: get, put, increment, touch.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use holdfast::base::limits::{
    CACHE_GET_BYTES_MAX, CACHE_VALUE_BYTES_MAX, CALL_ITEMS_MAX, JSON_BYTES_MAX, REQUEST_BYTES_MAX,
};
use serde_json::{Value, json};

use super::{Space, assert_miss, assert_value, number};
use crate::api::{by_both_doors, text};
use crate::support::{Request, wait_until};

/// Numbers beyond this are not carried by JSON without loss.
const NUMBER_MAX: i64 = (1 << 53) - 1;

fn put_one(space: &Space<'_>, entry: &Value) {
    let stored = space.call("put", &json!({ "entries": [entry] })).expect(200);
    assert_eq!(stored, json!({ "stored": 1 }));
}

#[test]
fn get_says_what_is_there_and_what_is_not() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("plain", "", "text");
        let html = space.request("PUT", "html", "ttl=1h").header("Content-Type", "text/html");
        client.send(&html.body(b"<p>"));
        let keys = json!(["missing 1", "html", "plain", "html", "missing 1", "missing 2"]);
        let got = space.call("get", &json!({ "keys": keys })).expect(200);
        assert_eq!(got["missing"], json!(["missing 1", "missing 2"]), "each once, in order");
        let entries = got["entries"].as_object().unwrap();
        assert_eq!(entries.keys().collect::<Vec<_>>(), ["html", "plain"]);
        let plain = json!({
            "value": "text", "encoding": "utf8", "ttl_ms": null, "stale": false,
            "content_type": "application/octet-stream",
        });
        assert_eq!(entries["plain"], plain);
        assert_eq!(entries["html"]["content_type"], "text/html");
        let ttl = entries["html"]["ttl_ms"].as_u64().unwrap();
        assert!((1..=3_600_000).contains(&ttl), "{ttl}");
        // An empty map is a map.
        let nothing = json!({ "entries": {}, "missing": ["x"] });
        assert_eq!(space.call("get", &json!({ "keys": ["x"] })).expect(200), nothing);
        let nothing = json!({ "entries": {}, "missing": [] });
        assert_eq!(space.call("get", &json!({ "keys": [] })).expect(200), nothing);
        // A namespace that nobody ever used is no mistake.
        let never = Space::new(client).call("get", &json!({ "keys": ["x"] })).expect(200);
        assert_eq!(never["missing"], json!(["x"]));
    });
}

#[test]
fn json_carries_every_value() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let all: Vec<u8> = (0..=255).collect();
        let texts = ["", "text", "a\nb\r\n\tc", "gr\u{fc}n \u{1f600}", "\"\\/", "\u{7f}\u{2028}"];
        let bytes: [&[u8]; 4] = [&all, b"\xff", b"half \xc3", b"\0"];
        for value in texts.iter().map(|text| text.as_bytes()).chain(bytes) {
            space.put("key", "", value);
            let got = space.call("get", &json!({ "keys": ["key"] })).expect(200);
            let entry = &got["entries"]["key"];
            let is_text = texts.iter().any(|text| text.as_bytes() == value);
            let read = match text(&entry["encoding"]) {
                "utf8" => text(&entry["value"]).as_bytes().to_vec(),
                "base64" => BASE64.decode(text(&entry["value"])).unwrap(),
                other => panic!("{other}"),
            };
            assert_eq!(read, value);
            assert!(!is_text || entry["encoding"] == "utf8", "{entry}");
            // As it came, it can be put again.
            let again = json!({
                "key": "again", "value": entry["value"], "encoding": entry["encoding"],
            });
            put_one(&space, &again);
            assert_value(&space.get("again"), value);
        }
        put_one(&space, &json!({ "key": "key", "value": "\u{0}\u{1f}" }));
        assert_value(&space.get("key"), b"\0\x1f");
    });
}

#[test]
fn put_stores_all_that_it_is_given() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let entries = json!([
            { "key": "plain", "value": "v" },
            { "key": "full", "value": "PGh0bWw+", "encoding": "base64", "ttl": "1h", "stale": "1m",
              "tags": ["a", "b, c", "a"], "content_type": "text/html", "jitter": 0 },
            { "key": "twice", "value": "first", "ttl": 1 },
            { "key": "twice", "value": "second" },
            { "key": "nulls", "value": "", "encoding": null, "ttl": null, "content_type": null },
        ]);
        let stored = space.call("put", &json!({ "entries": entries })).expect(200);
        assert_eq!(stored, json!({ "stored": 5 }));
        let full = space.get("full");
        assert_value(&full, "<html>");
        assert_eq!(full.header("content-type"), Some("text/html"));
        assert!(full.header("holdfast-ttl-ms").is_some());
        let twice = space.get("twice");
        assert_value(&twice, "second");
        assert_eq!(twice.header("holdfast-ttl-ms"), None);
        assert_value(&space.get("nulls"), "");
        assert_eq!(space.stats()["entries"], 4);
        assert_eq!(space.forget(&json!({ "tags": ["b, c"] })), 1);
        assert_miss(&space.get("full"));
        let nothing = space.call("put", &json!({ "entries": [] })).expect(200);
        assert_eq!(nothing, json!({ "stored": 0 }));
    });
}

#[test]
fn an_entry_that_is_refused_refuses_all_and_is_named() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("here", "ttl=1h", "old");
        let before = space.state(&["here", "good"]);
        let long_tag = "t".repeat(129);
        let many_tags: Vec<_> = (0..17).map(|n| n.to_string()).collect();
        for (code, part) in [
            ("invalid_key", json!({ "key": "" })),
            ("invalid_encoding", json!({ "encoding": "utf-8" })),
            ("invalid_encoding", json!({ "encoding": "" })),
            ("invalid_value", json!({ "encoding": "base64", "value": "!" })),
            ("invalid_value", json!({ "encoding": "base64", "value": "YQ" })),
            ("invalid_value", json!({ "encoding": "base64", "value": "YQ==\n" })),
            ("invalid_value", json!({ "encoding": "base64", "value": "_-8=" })),
            ("invalid_ttl", json!({ "ttl": 0 })),
            ("invalid_stale", json!({ "stale": 1 })),
            ("invalid_jitter", json!({ "ttl": 1, "jitter": 2 })),
            ("invalid_tags", json!({ "tags": [""] })),
            ("invalid_tags", json!({ "tags": ["a\nb"] })),
            ("invalid_tags", json!({ "tags": [long_tag] })),
            ("invalid_tags", json!({ "tags": many_tags })),
            ("invalid_content_type", json!({ "content_type": "" })),
            ("invalid_content_type", json!({ "content_type": "a\r\nX-Y: z" })),
        ] {
            let mut entry = json!({ "key": "here", "value": "new" });
            for (name, value) in part.as_object().unwrap() {
                entry[name] = value.clone();
            }
            let good = json!({ "key": "good", "value": "new" });
            let answer = space.call("put", &json!({ "entries": [good, entry, good] }));
            let problem = answer.expect_problem(400, code);
            assert_eq!(problem["index"], 1, "{part}: {problem}");
        }
        assert_eq!(space.state(&["here", "good"]), before);
        assert_value(&space.get("here"), "old");
    });
}

#[test]
fn a_call_has_at_most_1000_keys() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let keys: Vec<String> = (0..=CALL_ITEMS_MAX).map(|n| format!("key {n}")).collect();
        let entries = |count: usize| -> Value {
            keys[..count].iter().map(|key| json!({ "key": key, "value": key })).collect()
        };
        let most = CALL_ITEMS_MAX;
        space.put("key 0", "", "before");
        let before = space.state(&["key 0", "key 1"]);
        for answer in [
            space.call("get", &json!({ "keys": keys })),
            space.call("put", &json!({ "entries": entries(most + 1) })),
            space.call("forget", &json!({ "keys": keys })),
        ] {
            assert_eq!(answer.expect_problem(413, "too_large")["limit"], most);
        }
        assert_eq!(space.state(&["key 0", "key 1"]), before);
        let stored = space.call("put", &json!({ "entries": entries(most) })).expect(200);
        assert_eq!(stored["stored"], most);
        let got = space.call("get", &json!({ "keys": keys[..most] })).expect(200);
        assert_eq!(got["entries"].as_object().unwrap().len(), most);
        assert_eq!(space.forget(&json!({ "keys": keys[..most] })), most as u64);
    });
}

#[test]
fn bodies_of_calls_are_bounded() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let mut connection = client.connect();
        let padded = |body: &Value, bytes: usize| {
            let mut text = body.to_string().into_bytes();
            text.resize(bytes, b' ');
            text
        };
        let put = json!({ "entries": [{ "key": "k", "value": "v" }] });
        for (call, body, most) in [
            ("get", json!({ "keys": ["k"] }), JSON_BYTES_MAX),
            ("put", put, REQUEST_BYTES_MAX),
            ("increment", json!({ "key": "n" }), JSON_BYTES_MAX),
            ("touch", json!({ "key": "k", "ttl": 60 }), JSON_BYTES_MAX),
            ("forget", json!({ "keys": [] }), JSON_BYTES_MAX),
        ] {
            let request = |bytes: &[u8]| -> Request {
                let request = client.request("POST", &space.path(&format!("/{call}")));
                request.header("Content-Type", "application/json").body(bytes)
            };
            connection.ask(&request(&padded(&body, most))).expect(200);
            let answer = connection.ask(&request(&padded(&body, most + 1)));
            assert_eq!(answer.expect_problem(413, "too_large")["limit"], most, "{call}");
            assert!(!answer.closes());
        }
    });
}

#[test]
fn a_value_in_json_has_at_most_8_mib() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let value = |bytes: usize| "v".repeat(bytes);
        put_one(&space, &json!({ "key": "key", "value": value(CACHE_VALUE_BYTES_MAX) }));
        let before = space.state(&["key", "other"]);
        for key in ["key", "other"] {
            let entry = json!({ "key": key, "value": value(CACHE_VALUE_BYTES_MAX + 1) });
            let small = json!({ "key": "other", "value": "v" });
            let answer = space.call("put", &json!({ "entries": [small, entry] }));
            let problem = answer.expect_problem(413, "too_large");
            assert_eq!(problem["limit"], CACHE_VALUE_BYTES_MAX);
            assert_eq!(problem["index"], 1);
        }
        assert_eq!(space.state(&["key", "other"]), before);
        // As many values as a get may carry, and not one byte more.
        space.put("second", "", value(CACHE_VALUE_BYTES_MAX));
        let both = json!({ "keys": ["key", "second", "none"] });
        let got = space.call("get", &both).expect(200);
        assert_eq!(text(&got["entries"]["second"]["value"]).len(), CACHE_VALUE_BYTES_MAX);
        space.put("none", "", "v");
        let answer = space.call("get", &both);
        assert_eq!(answer.expect_problem(413, "too_large")["limit"], CACHE_GET_BYTES_MAX);
        assert_eq!(space.forget(&json!({ "all": true })), 3);
    });
}

#[test]
fn increment_adds_to_a_number() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let add = |body: Value| space.call("increment", &body).expect(200)["value"].clone();
        assert_eq!(add(json!({ "key": "n" })), 1);
        assert_eq!(add(json!({ "key": "n" })), 2);
        assert_eq!(add(json!({ "key": "n", "by": 40 })), 42);
        assert_eq!(add(json!({ "key": "n", "by": -50 })), -8);
        assert_eq!(add(json!({ "key": "n", "by": 0 })), -8);
        assert_eq!(add(json!({ "key": "n", "by": null, "ttl": null })), -7);
        assert_value(&space.get("n"), "-7");
        assert_eq!(add(json!({ "key": "zero", "by": 0 })), 0);
        assert_value(&space.get("zero"), "0");
        space.put("put", "ttl=1h", "41");
        assert_eq!(add(json!({ "key": "put" })), 42);
        assert_value(&space.get("put"), "42");
        let got = space.call("get", &json!({ "keys": ["put"] })).expect(200);
        assert_eq!(got["entries"]["put"]["value"], "42");
    });
}

#[test]
fn the_ttl_of_an_increment_is_for_a_new_number_alone() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let add = |key: &str, ttl: &str| {
            space.call("increment", &json!({ "key": key, "ttl": ttl })).expect(200);
        };
        add("new", "1h");
        assert!(number(&space.get("new"), "holdfast-ttl-ms") <= 3_600_000);
        add("new", "7d");
        assert!(number(&space.get("new"), "holdfast-ttl-ms") <= 3_600_000, "as it was");
        space.put("ever", "", "1");
        add("ever", "20ms");
        assert_eq!(space.get("ever").header("holdfast-ttl-ms"), None);
        // A window of so many, as those who limit a rate count: it begins anew by itself.
        add("window", "20ms");
        wait_until("the window ends", || space.head("window").status == 404);
        let first = space.call("increment", &json!({ "key": "window", "ttl": "1h" }));
        assert_eq!(first.expect(200)["value"], 1);
    });
}

#[test]
fn what_is_no_number_or_would_be_too_large_is_left_as_it_is() {
    by_both_doors(|client| {
        let space = Space::new(client);
        for value in ["", "text", "1.5", "1e3", " 1", "1 ", "0x1", "--1", "1_000", "\u{661}", "\0"]
        {
            space.put("key", "ttl=1h", value);
            let before = space.state(&["key"]);
            let answer = space.call("increment", &json!({ "key": "key" }));
            answer.expect_problem(409, "not_an_integer");
            assert_eq!(space.state(&["key"]), before, "{value:?}");
            assert_value(&space.get("key"), value);
        }
        for (value, by) in [
            (NUMBER_MAX, 1),
            (NUMBER_MAX, NUMBER_MAX),
            (1, NUMBER_MAX),
            (-NUMBER_MAX, -1),
            (-NUMBER_MAX, -NUMBER_MAX),
        ] {
            space.put("key", "ttl=1h", value.to_string());
            let before = space.state(&["key"]);
            let answer = space.call("increment", &json!({ "key": "key", "by": by }));
            answer.expect_problem(409, "integer_overflow");
            assert_eq!(space.state(&["key"]), before, "{value} + {by}");
            assert_value(&space.get("key"), value.to_string());
        }
        let back = space.call("increment", &json!({ "key": "key", "by": NUMBER_MAX }));
        assert_eq!(back.expect(200)["value"], 0);
        let before = space.state(&["key", "new"]);
        for key in ["key", "new"] {
            for by in [NUMBER_MAX + 1, -NUMBER_MAX - 1, i64::MAX, i64::MIN] {
                let answer = space.call("increment", &json!({ "key": key, "by": by }));
                answer.expect_problem(400, "invalid_by");
            }
            for by in [json!(1.5), json!(1.0), json!("1"), json!(u64::MAX), json!([]), json!(true)]
            {
                let answer = space.call("increment", &json!({ "key": key, "by": by }));
                answer.expect_problem(400, "malformed");
            }
        }
        assert_eq!(space.state(&["key", "new"]), before);
    });
}

#[test]
fn touch_gives_a_new_ttl_and_changes_nothing_else() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let put = space.request("PUT", "key", "tags=t").header("Content-Type", "text/plain");
        client.send(&put.body(b"value"));
        let touch = |key: &str, ttl: Value| space.call("touch", &json!({ "key": key, "ttl": ttl }));
        for (ttl, ms) in [
            (json!("1h"), 3_600_000_u64),
            (json!(90), 90_000),
            (json!(90.25), 90_250),
            (json!("class:trend"), 600_000),
        ] {
            assert_eq!(touch("key", ttl).expect(200), json!({ "ttl_ms": ms }));
            let left = number(&space.get("key"), "holdfast-ttl-ms");
            assert!(left <= ms, "{left}");
        }
        let answer = space.get("key");
        assert_value(&answer, "value");
        assert_eq!(answer.header("content-type"), Some("text/plain"));
    });
}

#[test]
fn touch_prolongs_what_would_end_and_finds_nothing_else() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let touch = |key: &str, ttl: &str| space.call("touch", &json!({ "key": key, "ttl": ttl }));
        let put = space.request("PUT", "key", "ttl=1h&tags=t").header("Content-Type", "text/plain");
        client.send(&put.body(b"value"));
        touch("key", "7d").expect(200);
        let answer = space.get("key");
        assert_value(&answer, "value");
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert!(3_600_000 < number(&answer, "holdfast-ttl-ms"));
        assert_eq!(space.forget(&json!({ "tags": ["t"], "dry_run": true })), 1);
        touch("key", "20ms").expect(200);
        wait_until("it ends", || space.head("key").status == 404);
        touch("key", "1h").expect_problem(404, "cache_miss");
        touch("never", "1h").expect_problem(404, "cache_miss");
        assert_miss(&space.get("never"));
        Space::new(client)
            .call("touch", &json!({ "key": "key", "ttl": 1 }))
            .expect_problem(404, "cache_miss");
    });
}
