//! Requests that are not what the calls expect: each refused with its code, and nothing changed.

use serde_json::{Value, json};

use super::Space;
use crate::api::{by_both_doors, text};
use crate::support::Answer;

/// Each call with a body that it takes.
fn good_bodies() -> [(&'static str, Value); 5] {
    [
        ("get", json!({ "keys": ["key"] })),
        ("put", json!({ "entries": [{ "key": "key", "value": "new" }] })),
        ("increment", json!({ "key": "number" })),
        ("touch", json!({ "key": "key", "ttl": 60 })),
        ("forget", json!({ "all": true })),
    ]
}

/// A namespace with something in it; `wrongs` must leave it as it is, and afterwards everything works.
fn nothing_changes(wrongs: impl Fn(&Space<'_>)) {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("key", "ttl=1h&tags=t", "value");
        space.put("number", "", "5");
        let keys = ["key", "number", "new"];
        let before = space.state(&keys);
        wrongs(&space);
        assert_eq!(space.state(&keys), before);
        for (call, body) in good_bodies() {
            space.call(call, &body).expect(200);
        }
    });
}

/// Sends these bytes to a call as JSON.
fn post(space: &Space<'_>, call: &str, body: &str) -> Answer {
    let request = space.client.request("POST", &space.path(&format!("/{call}")));
    space.client.send(&request.header("Content-Type", "application/json").body(body.as_bytes()))
}

#[test]
fn an_unknown_field_is_named() {
    nothing_changes(|space| {
        for (call, mut body) in good_bodies() {
            body["tll"] = json!(1);
            let problem = space.call(call, &body).expect_problem(400, "unknown_field");
            assert_eq!(problem["field"], "tll", "{call}");
        }
        let entries =
            json!([{ "key": "new", "value": "v" }, { "key": "new", "value": "v", "tag": 1 }]);
        let problem = space.call("put", &json!({ "entries": entries }));
        assert_eq!(problem.expect_problem(400, "unknown_field")["field"], "entries.1.tag");
        // What another call takes is unknown here.
        for (call, field) in
            [("increment", "stale"), ("increment", "tags"), ("touch", "stale"), ("get", "dry_run")]
        {
            let (_, mut body) = good_bodies().into_iter().find(|(its, _)| *its == call).unwrap();
            body[field] = json!("1h");
            space.call(call, &body).expect_problem(400, "unknown_field");
        }
    });
}

#[test]
fn a_doubled_field_is_refused() {
    nothing_changes(|space| {
        for (call, body) in [
            ("get", r#"{"keys":["key"],"keys":["key"]}"#),
            ("put", r#"{"entries":[],"entries":[{"key":"new","value":"v"}]}"#),
            ("put", r#"{"entries":[{"key":"new","key":"new","value":"v"}]}"#),
            ("put", r#"{"entries":[{"key":"new","value":"v","ttl":1,"ttl":2}]}"#),
            ("increment", r#"{"key":"number","by":1,"by":2}"#),
            ("touch", r#"{"key":"key","ttl":1,"ttl":1}"#),
            ("forget", r#"{"all":true,"all":true}"#),
            ("forget", r#"{"all":true,"dry_run":true,"dry_run":false}"#),
        ] {
            post(space, call, body).expect_problem(400, "malformed");
        }
    });
}

#[test]
fn an_unknown_or_doubled_parameter_is_named() {
    nothing_changes(|space| {
        let refused = |answer: &Answer, name: &str| {
            assert_eq!(answer.expect_problem(400, "unknown_parameter")["parameter"], name);
        };
        for (call, body) in good_bodies() {
            refused(&space.call(&format!("{call}?x=1"), &body), "x");
            refused(&space.call(&format!("{call}?ttl=1"), &body), "ttl");
        }
        for (query, name) in [
            ("tll=1", "tll"),
            ("TTL=1", "TTL"),
            ("ttl=1&ttl=1", "ttl"),
            ("ttl=1&tt%6C=2", "ttl"),
            ("wait=1", "wait"),
            ("tags=a&tags=b", "tags"),
            ("ttl=1h&=", ""),
        ] {
            refused(&space.put("key", query, "w"), name);
            refused(&space.put("new", query, "w"), name);
        }
        refused(&space.ask("key", "ttl=1"), "ttl");
        refused(&space.ask("key", "lease=1s&wait=0&wait=0"), "wait");
        let delete = |query: &str| space.client.send(&space.request("DELETE", "key", query));
        refused(&delete("lease=1s"), "lease");
        refused(&delete("if=present"), "if");
        refused(&space.client.get(&space.path("?limit=1")), "limit");
        refused(&space.client.get("/v1/cache?namespace=x"), "namespace");
        space.put("key", "ttl=%", "w").expect_problem(400, "malformed");
        space.put("key", "ttl=1h&tags=%ff", "w").expect_problem(400, "malformed");
    });
}

#[test]
fn a_body_is_an_object_of_json() {
    nothing_changes(|space| {
        for (call, good) in good_bodies() {
            for body in [
                "",
                " ",
                "{",
                "[]",
                "[[]]",
                "null",
                "true",
                "5",
                "\"key\"",
                "{}x",
                "nonsense",
                "key=value",
                &format!("{good},"),
                &format!("[{good}]"),
                &format!("\u{feff}{good}"),
            ] {
                post(space, call, body).expect_problem(400, "malformed");
            }
            let deep = format!("{{\"keys\":{}{}}}", "[".repeat(70), "]".repeat(70));
            let problem = post(space, call, &deep).expect_problem(400, "malformed");
            assert!(text(&problem["detail"]).contains("64"), "{problem}");
            let request = space.client.request("POST", &space.path(&format!("/{call}")));
            let bytes: [&[u8]; 3] = [
                br#"{"key":"\ud800","keys":["\ud800"],"ttl":1}"#,
                b"{\"key\":\"\xff\",\"ttl\":1}",
                b"{\"keys\":[\"\xc3\"]}",
            ];
            for body in bytes {
                let request = request.clone().header("Content-Type", "application/json");
                // A field that is not known may be met first.
                assert_eq!(space.client.send(&request.body(body)).status, 400);
            }
            let plain = request.clone().header("Content-Type", "text/plain");
            let plain = plain.body(good.to_string().as_bytes());
            let answer = space.client.send(&plain);
            answer.expect_problem(415, "unsupported_media_type");
            let packed = request.json(&good).header("Content-Encoding", "gzip");
            space.client.send(&packed).expect_problem(415, "unsupported_media_type");
        }
        // The fields of an entry in their order are no entry.
        let body = r#"{"entries":[["new","v",null,null,null,null,null,null]]}"#;
        post(space, "put", body).expect_problem(400, "malformed");
    });
}

#[test]
fn a_value_of_another_type_is_refused() {
    nothing_changes(|space| {
        for (call, body) in [
            ("get", json!({})),
            ("get", json!({ "keys": null })),
            ("get", json!({ "keys": "key" })),
            ("get", json!({ "keys": {} })),
            ("get", json!({ "keys": [5] })),
            ("get", json!({ "keys": [null] })),
            ("get", json!({ "keys": [["key"]] })),
            ("put", json!({})),
            ("put", json!({ "entries": {} })),
            ("put", json!({ "entries": { "new": "v" } })),
            ("put", json!({ "entries": [null] })),
            ("put", json!({ "entries": [{ "key": "new" }] })),
            ("put", json!({ "entries": [{ "value": "v" }] })),
            ("put", json!({ "entries": [{ "key": "new", "value": null }] })),
            ("put", json!({ "entries": [{ "key": "new", "value": 5 }] })),
            ("put", json!({ "entries": [{ "key": "new", "value": { "a": 1 } }] })),
            ("put", json!({ "entries": [{ "key": 5, "value": "v" }] })),
            ("put", json!({ "entries": [{ "key": "new", "value": "v", "tags": "a,b" }] })),
            ("put", json!({ "entries": [{ "key": "new", "value": "v", "tags": [1] }] })),
            ("put", json!({ "entries": [{ "key": "new", "value": "v", "encoding": 1 }] })),
            ("put", json!({ "entries": [{ "key": "new", "value": "v", "content_type": 1 }] })),
            ("increment", json!({})),
            ("increment", json!({ "key": null })),
            ("increment", json!({ "key": 5 })),
            ("touch", json!({})),
            ("touch", json!({ "key": "key" })),
            ("touch", json!({ "ttl": 5 })),
            ("touch", json!({ "key": ["key"], "ttl": 5 })),
        ] {
            let answer = space.call(call, &body);
            assert_eq!(answer.status, 400, "{call} {body}: {answer:?}");
            answer.expect_problem(400, "malformed");
        }
    });
}

#[test]
fn there_is_nothing_beside_the_paths() {
    nothing_changes(|space| {
        for path in
            ["/", "/keys", "/keys/", "/get/", "/GET", "/forgets", "/warm", "/key/key", "//keys/key"]
        {
            let answer = space.client.get(&space.path(path));
            answer.expect_problem(404, "unknown_path");
        }
        space.client.get("/v1/cache/").expect_problem(404, "unknown_path");
        space.client.get("/v1/Cache").expect_problem(404, "unknown_path");
    });
}
