//! Which texts are keys and namespaces, and that a key is the same by its path and in a body.

use holdfast::base::limits::CACHE_KEY_BYTES_MAX;
use serde_json::json;

use super::{Space, assert_miss, assert_value, encoded};
use crate::api::{by_both_doors, text};

/// Keys that something on the way could take for something else.
const ODD: &[&str] = &[
    "plain",
    "a b",
    " ",
    "a+b",
    "a%20b",
    "a%2Fb",
    "%",
    "%zz",
    "%25",
    "a/b",
    "/",
    "//",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../x",
    "a/../b",
    "./a",
    "?",
    "a?b=c&d",
    "#a",
    "a;b,c",
    "\"'\\",
    "{*key}",
    "user:1/get",
    "\u{0}",
    "\r\nX: y",
    "\u{7f}\t",
    "gr\u{fc}n",
    "\u{1f600}\u{202e}",
    "e\u{301}",
    "\u{e9}",
];

#[test]
fn every_key_is_reached_by_path_and_by_body_and_is_no_other() {
    by_both_doors(|client| {
        let space = Space::new(client);
        for (n, key) in ODD.iter().enumerate() {
            assert_eq!(space.put(key, "", format!("value {n}")).status, 201, "{key:?}");
        }
        for (n, key) in ODD.iter().enumerate() {
            assert_value(&space.get(key), format!("value {n}"));
        }
        let got = space.call("get", &json!({ "keys": ODD })).expect(200);
        assert_eq!(got["missing"], json!([]));
        for (n, key) in ODD.iter().enumerate() {
            assert_eq!(got["entries"][key]["value"], format!("value {n}"), "{key:?}");
        }
        assert_eq!(space.stats()["entries"], ODD.len());

        // The other way round.
        let entries: Vec<_> =
            ODD.iter().map(|key| json!({ "key": key, "value": format!("new {key}") })).collect();
        let stored = space.call("put", &json!({ "entries": entries })).expect(200);
        assert_eq!(stored, json!({ "stored": ODD.len() }));
        for key in ODD {
            assert_value(&space.get(key), format!("new {key}"));
        }
        assert_eq!(space.stats()["entries"], ODD.len());
        for key in ODD {
            assert_eq!(space.forget(&json!({ "keys": [key] })), 1, "{key:?}");
            assert_miss(&space.get(key));
            assert_miss(&space.delete(key));
        }
    });
}

#[test]
fn a_path_is_decoded_once_and_taken_as_it_is() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let raw = |method: &str, rest: &str| {
            client.send(&client.request(method, &space.path(&format!("/keys/{rest}"))).body(b"v"))
        };
        for (path, key) in [
            ("a+b", "a+b"),
            ("a%2Bb", "a+b"),
            ("a%20b", "a b"),
            ("a%2fb", "a/b"),
            ("a%2Fb", "a/b"),
            ("a/b", "a/b"),
            ("%61%62", "ab"),
            ("a%252Fb", "a%2Fb"),
            ("a%2525", "a%25"),
            ("..", ".."),
            (".", "."),
            ("a/../../b", "a/../../b"),
            ("/", "/"),
            ("//a//", "//a//"),
            ("a/", "a/"),
            ("a;v=1", "a;v=1"),
            ("a&b=c", "a&b=c"),
            ("keys/get", "keys/get"),
            ("%C3%A9", "\u{e9}"),
            ("a?", "a"),
        ] {
            assert_eq!(raw("PUT", path).status, 201, "{path}");
            let got = space.call("get", &json!({ "keys": [key] })).expect(200);
            assert_eq!(got["entries"][key]["value"], "v", "{path} is {key:?}: {got}");
            assert_eq!(space.stats()["entries"], 1, "{path}");
            assert_eq!(raw("DELETE", path).status, 204, "{path}");
        }
    });
}

#[test]
fn what_is_no_key_is_refused() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("here", "", "value");
        let before = space.state(&["here"]);
        for rest in ["%", "%f", "%zz", "a%", "%ff", "%C3", "%ED%A0%80", "%C0%AF"] {
            for method in ["GET", "HEAD", "PUT", "DELETE"] {
                let request = client.request(method, &space.path(&format!("/keys/{rest}")));
                let answer = client.send(&request.body(b""));
                assert_eq!(answer.status, 400, "{method} {rest}");
                if method != "HEAD" {
                    answer.expect_problem(400, "malformed");
                }
            }
        }
        for rest in ["/keys/", "/keys"] {
            let answer = client.send(&client.request("PUT", &space.path(rest)).body(b"v"));
            answer.expect_problem(404, "unknown_path");
        }
        assert_eq!(space.state(&["here"]), before);
    });
}

#[test]
fn a_key_has_at_most_1024_bytes() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let most = CACHE_KEY_BYTES_MAX;
        let two_bytes = "\u{e9}".repeat(most / 2);
        for key in ["k".repeat(most), "%".repeat(most), two_bytes.clone()] {
            assert_eq!(space.put(&key, "", "v").status, 201);
            assert_value(&space.get(&key), "v");
            let got = space.call("get", &json!({ "keys": [key] })).expect(200);
            assert_eq!(got["entries"][&key]["value"], "v");
        }
        let before = space.state(&[&two_bytes]);
        for key in ["k".repeat(most + 1), format!("{two_bytes}x"), "k".repeat(10_000)] {
            for answer in [
                space.get(&key),
                space.ask(&key, "lease=1s"),
                space.put(&key, "", "w"),
                space.delete(&key),
                space.call("get", &json!({ "keys": [key] })),
                space.call("put", &json!({ "entries": [{ "key": key, "value": "w" }] })),
                space.call("increment", &json!({ "key": key })),
                space.call("touch", &json!({ "key": key, "ttl": 1 })),
                space.call("forget", &json!({ "keys": [key] })),
            ] {
                let problem = answer.expect_problem(400, "invalid_key");
                assert!(text(&problem["detail"]).contains("1024"), "{problem}");
            }
        }
        for answer in [
            space.call("get", &json!({ "keys": ["a", ""] })),
            space.call(
                "put",
                &json!({ "entries": [{ "key": "a", "value": "w" }, { "key": "", "value": "w" }] }),
            ),
            space.call("forget", &json!({ "keys": ["k", ""] })),
        ] {
            assert_eq!(answer.expect_problem(400, "invalid_key")["index"], 1);
        }
        space.call("increment", &json!({ "key": "" })).expect_problem(400, "invalid_key");
        space.call("touch", &json!({ "key": "", "ttl": 1 })).expect_problem(400, "invalid_key");
        assert_eq!(space.state(&[&two_bytes]), before);
    });
}

#[test]
fn a_namespace_is_a_name() {
    by_both_doors(|client| {
        let longest = "n".repeat(128);
        for name in ["a", "A.b_c:d-9", "...", "get", "keys", longest.as_str()] {
            let name = if name.len() < 100 { crate::support::fresh(name) } else { name.to_owned() };
            let target = format!("/v1/cache/{name}/keys/k");
            client.send(&client.request("PUT", &target).body(b"v"));
            assert_value(&client.get(&target), "v");
            assert_eq!(client.get(&format!("/v1/cache/{name}")).expect(200)["namespace"], name);
            client.delete(&target);
        }
        let before = client.get("/v1/cache?limit=1000").expect(200)["items"].clone();
        let longer = "n".repeat(129);
        for name in [".", "..", "a b", "a/b", "\u{e9}", "a,b", "*", "a%", &longer] {
            let path = format!("/v1/cache/{}", encoded(name));
            let key = format!("{path}/keys/k");
            for answer in [
                client.get(&path),
                client.get(&key),
                client.get(&format!("{key}?lease=1s")),
                client.send(&client.request("PUT", &key).body(b"v")),
                client.delete(&key),
                client.post(&format!("{path}/get"), &json!({ "keys": ["k"] })),
                client.post(
                    &format!("{path}/put"),
                    &json!({ "entries": [{ "key": "k", "value": "v" }] }),
                ),
                client.post(&format!("{path}/increment"), &json!({ "key": "k" })),
                client.post(&format!("{path}/touch"), &json!({ "key": "k", "ttl": 1 })),
                client.post(&format!("{path}/forget"), &json!({ "all": true })),
            ] {
                answer.expect_problem(400, "invalid_namespace");
            }
        }
        let names = |items: &serde_json::Value| -> Vec<String> {
            let items = items.as_array().unwrap().iter();
            items.map(|item| text(&item["namespace"]).to_owned()).collect()
        };
        // Others use this server as well; whatever they made has a good name.
        let after = client.get("/v1/cache?limit=1000").expect(200)["items"].clone();
        for name in names(&after).iter().filter(|name| !names(&before).contains(name)) {
            assert!(name.len() <= 128 && !name.contains(['/', ' ', ',']), "{name}");
        }
    });
}
