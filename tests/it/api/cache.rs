//! The cache as clients meet it: raw values and what is said about them.

mod calls;
mod figures;
mod forget;
mod keys;
mod leases;
mod life;
mod lost;
mod refusals;
mod tenants;
mod waiting;

use holdfast::base::limits::{CACHE_VALUE_BYTES_MAX, DROPPED_BYTES_MAX};
use serde_json::{Value, json};

use super::by_both_doors;
use crate::support::{Answer, Client, Request, fresh};

/// A namespace, as one client sees it.
#[derive(Clone)]
struct Space<'s> {
    client: Client<'s>,
    name: String,
}

impl<'s> Space<'s> {
    /// One that nobody else uses.
    fn new(client: &Client<'s>) -> Space<'s> {
        Space { client: client.clone(), name: fresh("space") }
    }

    /// The same with another token.
    fn with_token(&self, token: &str) -> Space<'s> {
        Space { client: self.client.with_token(token), name: self.name.clone() }
    }

    /// The path of the namespace, and what is behind it.
    fn path(&self, rest: &str) -> String {
        format!("/v1/cache/{}{rest}", self.name)
    }

    /// The target for a key, which is encoded, and a query, which is not.
    fn target(&self, key: &str, query: &str) -> String {
        let mark = if query.is_empty() { "" } else { "?" };
        self.path(&format!("/keys/{}{mark}{query}", encoded(key)))
    }

    fn request(&self, method: &str, key: &str, query: &str) -> Request {
        self.client.request(method, &self.target(key, query))
    }

    fn get(&self, key: &str) -> Answer {
        self.client.send(&self.request("GET", key, ""))
    }

    /// Counts nothing.
    fn head(&self, key: &str) -> Answer {
        self.client.send(&self.request("HEAD", key, ""))
    }

    /// A read with a query.
    fn ask(&self, key: &str, query: &str) -> Answer {
        self.client.send(&self.request("GET", key, query))
    }

    fn put(&self, key: &str, query: &str, value: impl AsRef<[u8]>) -> Answer {
        self.client.send(&self.request("PUT", key, query).body(value.as_ref()))
    }

    fn delete(&self, key: &str) -> Answer {
        self.client.send(&self.request("DELETE", key, ""))
    }

    /// One of the calls that take JSON.
    fn call(&self, name: &str, body: &Value) -> Answer {
        self.client.post(&self.path(&format!("/{name}")), body)
    }

    /// How many were forgotten.
    #[track_caller]
    fn forget(&self, body: &Value) -> u64 {
        self.call("forget", body).expect(200)["forgotten"].as_u64().unwrap()
    }

    /// The namespace's own page.
    #[track_caller]
    fn stats(&self) -> Value {
        self.client.get(&self.path("")).expect(200)
    }

    /// The lease that this asker gets: of a key that is not there, or in its stale window.
    #[track_caller]
    fn lease(&self, key: &str) -> String {
        let answer = self.ask(key, "lease=30s");
        let lease = answer.header("holdfast-lease");
        lease.unwrap_or_else(|| panic!("no lease: {answer:?}")).to_owned()
    }

    /// Everything that can be seen of the namespace without changing it.
    fn state(&self, keys: &[&str]) -> Value {
        let seen = |key: &&str| {
            let answer = self.head(key);
            let ttl = answer.header("holdfast-ttl-ms").is_some();
            json!([key, answer.status, answer.header("etag"), answer.header("content-type"), ttl])
        };
        let page = self.client.get(&self.path(""));
        let page = if page.status == 200 { page.json() } else { json!(page.status) };
        json!({ "keys": keys.iter().map(seen).collect::<Vec<_>>(), "page": page })
    }
}

/// A text with everything but letters, digits and `-._~` percent-encoded.
fn encoded(text: &str) -> String {
    let one = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(b).to_string()
        }
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}

/// What a header says as a number.
#[track_caller]
fn number(answer: &Answer, header: &str) -> u64 {
    let text = answer.header(header).unwrap_or_else(|| panic!("no {header}: {answer:?}"));
    text.parse().unwrap_or_else(|error| panic!("{header}: {text}: {error}"))
}

/// Asserts that it is this value.
#[track_caller]
fn assert_value(answer: &Answer, value: impl AsRef<[u8]>) {
    assert_eq!(answer.status, 200, "{:?} {}", answer.headers, answer.body.escape_ascii());
    let same = answer.body == value.as_ref();
    assert!(same, "{} bytes: {}", answer.body.len(), answer.body.escape_ascii());
}

/// Asserts that the key is not there.
#[track_caller]
fn assert_miss(answer: &Answer) {
    answer.expect_problem(404, "cache_miss");
}

#[test]
fn bytes_come_back_as_they_were_stored() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let all: Vec<u8> = (0..=255).collect();
        let many = vec![0xff; 70_000];
        let like_http = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n0\r\n\r\n";
        let values: [&[u8]; 8] = [
            &all,
            b"",
            b"\0",
            b"\r\n\r\n",
            b"{\"a\": 1.0 }",
            "gr\u{fc}n \u{1f600}".as_bytes(),
            like_http,
            &many,
        ];
        let mut connection = client.connect();
        for value in values {
            let put = space.request("PUT", "raw", "");
            let status = connection.ask(&put.clone().body(value)).status;
            assert!(status == 200 || status == 201, "{status}");
            assert_value(&connection.ask(&space.request("GET", "raw", "")), value);
            assert_eq!(connection.ask(&put.chunked(value)).status, 200);
            assert_value(&connection.ask(&space.request("GET", "raw", "")), value);
        }
    });
}

#[test]
fn a_first_put_is_201_and_a_second_200_and_neither_says_more() {
    by_both_doors(|client| {
        let space = Space::new(client);
        for (value, status) in [("one", 201), ("two", 200), ("two", 200)] {
            let answer = space.put("key", "", value);
            assert_eq!((answer.status, answer.body.len()), (status, 0), "{answer:?}");
        }
        assert_value(&space.get("key"), "two");
        let answer = space.delete("key");
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer:?}");
        assert_miss(&space.get("key"));
        assert_miss(&space.delete("key"));
        assert_eq!(space.put("key", "", "three").status, 201);
    });
}

#[test]
fn a_value_has_at_most_8_mib_and_one_byte_more_costs_nothing_but_the_request() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let mut connection = client.connect();
        let mut value = vec![b'v'; CACHE_VALUE_BYTES_MAX];
        value[1] = 0;
        let put = |value: &[u8]| space.request("PUT", "large", "").body(value);
        assert_eq!(connection.ask(&put(&value)).status, 201);
        assert_value(&connection.ask(&space.request("GET", "large", "")), &value);
        let before = space.state(&["large", "other"]);
        let more = vec![b'w'; CACHE_VALUE_BYTES_MAX + 1];
        for request in [put(&more), space.request("PUT", "other", "").chunked(&more)] {
            let answer = connection.ask(&request);
            let problem = answer.expect_problem(413, "too_large");
            assert_eq!(problem["limit"], CACHE_VALUE_BYTES_MAX);
            assert!(!answer.closes());
        }
        assert_eq!(space.state(&["large", "other"]), before);
        assert_value(&connection.ask(&space.request("GET", "large", "")), &value);
        // Far too large: refused before it is read.
        let length = (CACHE_VALUE_BYTES_MAX + DROPPED_BYTES_MAX + 1).to_string();
        let put = space.request("PUT", "other", "").header("Content-Length", &length);
        let mut connection = client.connect();
        connection.send(&put.bytes());
        let answer = connection.receive();
        answer.expect_problem(413, "too_large");
        assert!(answer.closes());
        assert_eq!(space.delete("large").status, 204);
    });
}

#[test]
fn half_a_value_is_no_value() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("key", "", "whole");
        let before = space.state(&["key"]);
        let put = space.request("PUT", "key", "").header("Content-Length", "10");
        let mut connection = client.connect();
        connection.send(&put.bytes());
        connection.send(b"half");
        connection.end_sending();
        connection.read_to_end();
        assert_eq!(space.state(&["key"]), before);
        assert_value(&space.get("key"), "whole");
    });
}

#[test]
fn a_value_keeps_its_type() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let longest = format!("a/{}", "b".repeat(253));
        for kind in [
            "text/html; charset=utf-8",
            "application/json",
            "APPLICATION/X-PHP;q=\"a, b\"",
            "image/webp",
            "x",
            longest.as_str(),
        ] {
            let put = space.request("PUT", "typed", "").header("Content-Type", kind);
            assert!(client.send(&put.body(b"v")).status < 300, "{kind}");
            assert_eq!(space.get("typed").header("content-type"), Some(kind));
            assert_eq!(space.head("typed").header("content-type"), Some(kind));
        }
        let before = space.state(&["typed", "new"]);
        for kind in ["", "text/pl\u{e4}in", &"x".repeat(256), "a\tb"] {
            for key in ["typed", "new"] {
                let put = space.request("PUT", key, "").header("Content-Type", kind).body(b"w");
                client.send(&put).expect_problem(400, "invalid_content_type");
            }
        }
        assert_eq!(space.state(&["typed", "new"]), before);
        // Without one it is bytes.
        space.put("typed", "", "v");
        assert_eq!(space.get("typed").header("content-type"), Some("application/octet-stream"));
    });
}

#[test]
fn a_browser_is_told_not_to_run_what_was_stored() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let put = space.request("PUT", "page", "").header("Content-Type", "text/html");
        client.send(&put.body(b"<script>alert(1)</script>"));
        for answer in [space.get("page"), space.head("page")] {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(answer.header("content-security-policy"), Some("sandbox"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
    });
}

#[test]
fn an_etag_says_whether_it_is_still_the_same() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let etag = |answer: &Answer| answer.header("etag").unwrap().to_owned();
        space.put("key", "ttl=1h", "value");
        let first = etag(&space.get("key"));
        assert!(first.starts_with('"') && first.ends_with('"') && 2 < first.len(), "{first}");
        assert_eq!(etag(&space.get("key")), first);
        assert_eq!(etag(&space.head("key")), first);
        let mut seen = vec![first];
        for value in ["value", "value", "other"] {
            space.put("key", "ttl=1h", value);
            seen.push(etag(&space.get("key")));
        }
        space.delete("key");
        space.put("key", "ttl=1h", "value");
        seen.push(etag(&space.get("key")));
        space.put("key", "", "1");
        seen.push(etag(&space.get("key")));
        space.call("increment", &json!({ "key": "key" })).expect(200);
        seen.push(etag(&space.get("key")));
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count, "each value has its own: {seen:?}");
    });
}

#[test]
fn what_a_client_has_already_is_304_without_a_body() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("key", "ttl=1h", "value");
        let etag = space.get("key").header("etag").unwrap().to_owned();
        let mut connection = client.connect();
        let mut with = |method: &str, known: &str| {
            let request = space.request(method, "key", "").header("If-None-Match", known);
            connection.ask(&request)
        };
        for known in [
            etag.clone(),
            format!("W/{etag}"),
            format!("\"other\", {etag}"),
            format!("W/\"x\",W/{etag},\"y\""),
            "*".to_owned(),
        ] {
            for method in ["GET", "HEAD"] {
                let answer = with(method, &known);
                assert_eq!((answer.status, answer.body.len()), (304, 0), "{known}: {answer:?}");
                assert_eq!(answer.header("etag"), Some(etag.as_str()));
                assert!(answer.header("holdfast-ttl-ms").is_some());
                assert_eq!(answer.header("cache-control"), Some("no-store"));
            }
        }
        let bare = etag.trim_matches('"').to_owned();
        for known in ["\"other\"", "", "W/", "\"\"", &bare, &etag[..etag.len() - 1], "w/*"] {
            assert_value(&with("GET", known), "value");
        }
        // In a header of its own, too.
        let two = space.request("GET", "key", "").header("If-None-Match", "\"x\"");
        let answer = connection.ask(&two.header("If-None-Match", &etag));
        assert_eq!(answer.status, 304);
        assert_value(&connection.ask(&space.request("GET", "key", "")), "value");
        let missing = space.request("GET", "missing", "").header("If-None-Match", "*");
        assert_miss(&client.send(&missing));
        space.put("key", "", "value");
        let stale = space.request("GET", "key", "").header("If-None-Match", &etag);
        assert_value(&client.send(&stale), "value");
    });
}

#[test]
fn values_are_never_compressed() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let value = "compress me ".repeat(5000);
        let put = space.request("PUT", "text", "").header("Content-Type", "text/plain");
        client.send(&put.body(value.as_bytes()));
        for coding in ["gzip", "zstd", "gzip, zstd, br", "*", "gzip;q=1.0, identity;q=0"] {
            for query in ["", "lease=30s&wait=1s"] {
                let request = space.request("GET", "text", query).header("Accept-Encoding", coding);
                let answer = client.send(&request);
                assert_eq!(answer.header("content-encoding"), None, "{coding}");
                assert_eq!(answer.header("vary"), None, "{coding}");
                assert_value(&answer, &value);
            }
        }
        // And never read where they would be taken for what they are not.
        let before = space.state(&["text"]);
        let put = space.request("PUT", "text", "").header("Content-Encoding", "gzip");
        client.send(&put.body(b"\x1f\x8b")).expect_problem(415, "unsupported_media_type");
        assert_eq!(space.state(&["text"]), before);
    });
}

#[test]
fn head_is_get_without_the_body() {
    by_both_doors(|client| {
        let space = Space::new(client);
        let put = space.request("PUT", "key", "ttl=1h").header("Content-Type", "text/plain");
        client.send(&put.body(&vec![b'v'; 100_000]));
        let mut connection = client.connect();
        let head = connection.ask(&space.request("HEAD", "key", ""));
        let get = connection.ask(&space.request("GET", "key", ""));
        assert_eq!((head.status, get.status), (200, 200));
        assert_eq!(number(&head, "content-length"), 100_000);
        for name in ["etag", "content-type", "content-security-policy", "x-content-type-options"] {
            assert_eq!(head.header(name), get.header(name), "{name}");
        }
        for name in ["age", "holdfast-ttl-ms", "x-request-id"] {
            assert!(head.header(name).is_some(), "{name}");
        }
        assert_eq!(connection.ask(&space.request("HEAD", "missing", "")).status, 404);
        // No body was sent for either: the next answer is one.
        assert_value(&connection.ask(&space.request("GET", "key", "")), vec![b'v'; 100_000]);
    });
}

#[test]
fn other_methods_are_told_which_there_are() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("key", "", "value");
        let before = space.state(&["key"]);
        for method in ["POST", "PATCH", "OPTIONS", "TRACE"] {
            let answer = client.send(&space.request(method, "key", ""));
            answer.expect_problem(405, "method_not_allowed");
            let allowed = answer.header("allow").unwrap();
            for known in ["GET", "HEAD", "PUT", "DELETE"] {
                assert!(allowed.split(", ").any(|one| one == known), "{allowed}");
            }
        }
        for call in ["get", "put", "increment", "touch", "forget"] {
            for method in ["GET", "PUT", "DELETE"] {
                let answer = client.send(&client.request(method, &space.path(&format!("/{call}"))));
                answer.expect_problem(405, "method_not_allowed");
                assert_eq!(answer.header("allow"), Some("POST"));
            }
        }
        client.delete(&space.path("")).expect_problem(405, "method_not_allowed");
        assert_eq!(space.state(&["key"]), before);
    });
}
