//! What goes into a request: queries, JSON, media types, sizes.

use holdfast::base::limits::{DROPPED_BYTES_MAX, JSON_BYTES_MAX, JSON_DEPTH_MAX};
use serde_json::{Value, json};

use super::{by_both_doors, new_tenant, text};
use crate::support::{Answer, Client, Request, fresh};

/// Sends these bytes as JSON to where tokens are made.
fn post(client: &Client<'_>, body: impl AsRef<[u8]>) -> Answer {
    let request = client.request("POST", "/v1/tokens").header("Content-Type", "application/json");
    client.send(&request.body(body.as_ref()))
}

fn good_token() -> Value {
    json!({ "name": fresh("good"), "scopes": ["cache:read"] })
}

#[test]
fn an_unknown_field_is_named() {
    by_both_doors(|client| {
        let mut spec = good_token();
        spec["scoops"] = json!([]);
        let problem = client.post("/v1/tokens", &spec).expect_problem(400, "unknown_field");
        assert_eq!(problem["field"], "scoops");
        let tenant = new_tenant(client);
        let path = format!("/v1/tenants/{tenant}");
        let problem = client.put(&path, &json!({ "quotas": { "toknes": 5 } }));
        let problem = problem.expect_problem(400, "unknown_field");
        assert_eq!(problem["field"], "quotas.toknes");
        assert!(text(&problem["detail"]).contains("tokens"), "{problem}");
        let entry = json!({ "kind": "app", "name": "x", "duration_ms": 1, "quries": 5 });
        let problem = client.post("/v1/slow", &json!({ "entries": [entry] }));
        assert_eq!(problem.expect_problem(400, "unknown_field")["field"], "entries.0.quries");
        // A long one is repeated in part.
        let long = "x".repeat(5000);
        let problem = client.post("/v1/tokens", &json!({ "name": "a", "scopes": [], &long: 1 }));
        let problem = problem.expect_problem(400, "unknown_field");
        assert!(text(&problem["field"]).len() <= 256);
    });
}

#[test]
fn an_unknown_or_doubled_parameter_is_named() {
    by_both_doors(|client| {
        let problem = |target: &str| {
            client.get(target).expect_problem(400, "unknown_parameter")["parameter"].clone()
        };
        assert_eq!(problem("/v1/tokens?limmit=5"), "limmit");
        assert_eq!(problem("/v1/tokens?limit=5&limit=5"), "limit");
        assert_eq!(problem("/v1/tokens?limit=5&%6cimit=5"), "limit");
        assert_eq!(problem("/v1/status?x"), "x");
        assert_eq!(problem("/v1/status?=1"), "");
        assert_eq!(problem("/livez?verbose=1"), "verbose");
        assert_eq!(problem("/v1/tokens?Limit=5"), "Limit");
        client.get("/v1/tokens?").expect(200);
        client.get("/v1/tokens?&&limit=5&").expect(200);
        for target in ["/v1/tokens?limit=%", "/v1/tokens?limit=%zz", "/v1/tokens?%ff=1"] {
            client.get(target).expect_problem(400, "malformed");
        }
        let known = client.get("/v1/tokens?offset=9").expect_problem(400, "unknown_parameter");
        assert!(text(&known["detail"]).contains("limit, cursor"), "{known}");
    });
}

#[test]
fn a_value_of_another_type_is_refused() {
    by_both_doors(|client| {
        for (field, wrong) in [
            ("name", json!(5)),
            ("name", json!(null)),
            ("name", json!(["a"])),
            ("scopes", json!("cache:read")),
            ("scopes", json!({ "cache:read": true })),
            ("scopes", json!([5])),
            ("tenant", json!(true)),
        ] {
            let mut spec = good_token();
            spec[field] = wrong;
            client.post("/v1/tokens", &spec).expect_problem(400, "malformed");
        }
        for (missing, kept) in [("name", "scopes"), ("scopes", "name")] {
            let spec = json!({ kept: good_token()[kept] });
            let problem = client.post("/v1/tokens", &spec).expect_problem(400, "malformed");
            assert!(text(&problem["detail"]).contains(missing), "{problem}");
        }
    });
}

#[test]
fn a_body_is_an_object_and_nothing_that_happens_to_fit() {
    by_both_doors(|client| {
        let list = json!([fresh("list"), ["cache:read"], null, null]);
        for body in [list, json!([]), json!("text"), json!(5), json!(null), json!(true)] {
            client.post("/v1/tokens", &body).expect_problem(400, "malformed");
        }
        client.post("/v1/slow", &json!([[]])).expect_problem(400, "malformed");
    });
}

#[test]
fn an_empty_list_is_taken_for_an_empty_map() {
    by_both_doors(|client| {
        let path = format!("/v1/tenants/{}", fresh("php"));
        let own = |body: Value| client.put(&path, &body);
        own(json!({ "quotas": [] })).expect(201);
        let tenant = own(json!({ "quotas": { "tokens": 3 } })).expect(200);
        assert_eq!(tenant["own_quotas"], json!({ "tokens": 3 }));
        assert_eq!(own(json!({})).expect(200)["own_quotas"], json!({ "tokens": 3 }));
        assert_eq!(
            own(json!({ "quotas": null })).expect(200)["own_quotas"],
            json!({ "tokens": 3 })
        );
        assert_eq!(own(json!({ "quotas": [] })).expect(200)["own_quotas"], json!({}));
        own(json!({ "quotas": [1] })).expect_problem(400, "malformed");
        own(json!({ "quotas": "none" })).expect_problem(400, "malformed");
    });
}

#[test]
fn bad_json_is_refused_with_the_place() {
    by_both_doors(|client| {
        let good = good_token().to_string();
        for body in [
            "{",
            "}",
            "{\"name\"",
            "{\"name\":}",
            "{'name':'a'}",
            "nonsense",
            "{\"name\":\"a\",}",
            "{\"name\":\"a\nb\",\"scopes\":[]}",
            "{\"name\":\"\\ud800\",\"scopes\":[]}",
            "\u{feff}{}",
            "{\"name\":\"a\",\"name\":\"b\",\"scopes\":[\"cache:read\"]}",
            "[1,2",
            "NaN",
            "{\"a\":01}",
            "{\"name\":\"a\",\"scopes\":[\"cache:read\"],\"expires_in\":1e999}",
        ] {
            post(client, body).expect_problem(400, "malformed");
        }
        for tail in ["x", "{}", ",", "\0"] {
            post(client, format!("{good}{tail}")).expect_problem(400, "malformed");
        }
        let problem = post(client, "{\"name\": nonsense}").expect_problem(400, "malformed");
        assert!(text(&problem["detail"]).contains("line 1 column"), "{problem}");
        post(client, format!(" \r\n\t{good}\n")).expect(201);
    });
}

#[test]
fn an_empty_body_is_told_from_bad_json() {
    by_both_doors(|client| {
        for body in ["", " ", "\r\n"] {
            let problem = post(client, body).expect_problem(400, "malformed");
            assert!(text(&problem["detail"]).contains("empty"), "{problem}");
        }
        let without = client.request("POST", "/v1/tokens");
        client.send(&without).expect_problem(400, "malformed");
    });
}

#[test]
fn what_is_not_utf_8_is_refused() {
    by_both_doors(|client| {
        for byte in [b"\xff", b"\x80", b"\xc3"] {
            let body = [b"{\"name\":\"a", &byte[..], b"\",\"scopes\":[\"cache:read\"]}"].concat();
            post(client, body).expect_problem(400, "malformed");
        }
        let spec = json!({ "name": "caf\u{e9} \u{1f600}", "scopes": ["cache:read"] });
        assert_eq!(client.post("/v1/tokens", &spec).expect(201)["name"], spec["name"]);
    });
}

#[test]
fn json_nests_at_most_64_deep() {
    by_both_doors(|client| {
        let deep = |depth: usize| {
            let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
            post(client, format!("{{\"expires_in\":{open}{close}}}"))
        };
        let problem = deep(JSON_DEPTH_MAX + 1).expect_problem(400, "malformed");
        assert!(text(&problem["detail"]).contains("64"), "{problem}");
        deep(100_000).expect_problem(400, "malformed");
        let problem = deep(JSON_DEPTH_MAX).expect_problem(400, "malformed");
        assert!(text(&problem["detail"]).contains("name"), "its depth is fine: {problem}");
    });
}

#[test]
fn a_body_of_another_type_is_415_with_a_hint() {
    by_both_doors(|client| {
        let send = |kind: &str| {
            let request = client.request("POST", "/v1/tokens").header("Content-Type", kind);
            client.send(&request.body(good_token().to_string().as_bytes()))
        };
        for kind in
            ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json", ""]
        {
            let problem = send(kind).expect_problem(415, "unsupported_media_type");
            assert!(text(&problem["detail"]).contains("application/json"), "{problem}");
        }
        for kind in [
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON",
            "application/vnd.shop+json",
        ] {
            send(kind).expect(201);
        }
        let bare = client.request("POST", "/v1/tokens").body(good_token().to_string().as_bytes());
        client.send(&bare).expect(201);
    });
}

#[test]
fn a_compressed_body_is_415() {
    by_both_doors(|client| {
        let send = |coding: &str| {
            let request = client.request("POST", "/v1/tokens").json(&good_token());
            client.send(&request.header("Content-Encoding", coding))
        };
        for coding in ["gzip", "zstd", "br", "gzip, identity"] {
            let problem = send(coding).expect_problem(415, "unsupported_media_type");
            assert!(text(&problem["detail"]).contains("Content-Encoding"), "{problem}");
        }
        send("identity").expect(201);
    });
}

/// JSON of exactly so many bytes that would make a token.
fn padded(bytes: usize) -> Vec<u8> {
    let mut body = good_token().to_string().into_bytes();
    body.resize(bytes, b' ');
    body
}

#[test]
fn a_body_of_the_allowed_size_is_read() {
    by_both_doors(|client| {
        let mut connection = client.connect();
        let request = || client.request("POST", "/v1/tokens");
        connection.ask(&request().body(&padded(JSON_BYTES_MAX))).expect(201);
        connection.ask(&request().chunked(&padded(JSON_BYTES_MAX))).expect(201);
        connection.ask(&request().chunked(&padded(500))).expect(201);
    });
}

#[test]
fn a_body_that_is_a_little_too_large_costs_its_request_and_not_the_connection() {
    by_both_doors(|client| {
        let mut connection = client.connect();
        for length in [JSON_BYTES_MAX + 1, JSON_BYTES_MAX + DROPPED_BYTES_MAX] {
            let request = client.request("POST", "/v1/tokens");
            for request in [request.clone().body(&padded(length)), request.chunked(&padded(length))]
            {
                let answer = connection.ask(&request);
                assert_eq!(answer.expect_problem(413, "too_large")["limit"], JSON_BYTES_MAX);
                assert!(!answer.closes());
                connection.ask(&Request::get("/livez")).expect(200);
            }
        }
    });
}

#[test]
fn a_body_that_is_far_too_large_ends_the_connection() {
    by_both_doors(|client| {
        // Declared: refused before it is read.
        let length = (JSON_BYTES_MAX + DROPPED_BYTES_MAX + 1).to_string();
        for length in [length.as_str(), "1000000000000", "18446744073709551613"] {
            let mut connection = client.connect();
            let request = client.request("POST", "/v1/tokens").header("Content-Length", length);
            connection.send(&request.bytes());
            let answer = connection.receive();
            assert_eq!(answer.expect_problem(413, "too_large")["limit"], JSON_BYTES_MAX);
            assert!(answer.closes());
            connection.expect_closed();
        }
        // In chunks: read as far as one that is a little too large, and no further.
        let mut connection = client.connect();
        let request = client.request("POST", "/v1/tokens").header("Transfer-Encoding", "chunked");
        connection.send(&request.bytes());
        let chunk = [b"10000\r\n", &vec![b' '; 0x10000][..], b"\r\n"].concat();
        let sent = (0..1000).take_while(|_| connection.try_send(&chunk).is_ok()).count();
        assert!(sent < 200, "{sent} chunks of 64 KiB were taken");
        let text = String::from_utf8(connection.read_to_end()).unwrap();
        // The answer may be lost with what was sent behind it.
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 413 "), "{text}");
    });
}

#[test]
fn a_refusal_reaches_somebody_who_is_still_sending() {
    by_both_doors(|client| {
        let body = vec![b' '; JSON_BYTES_MAX - 1];
        let tenants = |name: &str| client.request("PUT", &format!("/v1/tenants/{name}"));
        let tokens = || client.request("POST", "/v1/tokens");
        for (request, status) in [
            (client.stranger().request("POST", "/v1/tokens").body(&body), 401),
            (client.request("POST", "/nothing").body(&body), 404),
            (client.request("DELETE", "/livez").body(&body), 405),
            (client.request("GET", "/livez").body(&body), 200),
            (client.request("GET", "/v1/status?x=1").body(&body), 400),
            (tokens().header("Content-Type", "text/plain").body(&body), 415),
            (tokens().header("Content-Encoding", "gzip").body(&body), 415),
            (tenants("a%20b").body(&body), 400),
            (client.request("DELETE", "/v1/tokens/x").body(&body), 404),
            (client.request("DELETE", "/v1/tenants/x").body(&body), 400),
            (client.request("GET", "/v1/audit").body(&body), 200),
            (tokens().body(&body), 400),
        ] {
            let mut connection = client.connect();
            let answer = connection.ask(&request);
            assert_eq!(answer.status, status, "{answer:?}");
            assert!(!answer.closes(), "{answer:?}");
            connection.ask(&Request::get("/livez")).expect(200);
        }
    });
}

#[test]
fn chunks_that_are_none_are_told() {
    by_both_doors(|client| {
        let mut connection = client.connect();
        let request = client.request("POST", "/v1/tokens").header("Transfer-Encoding", "chunked");
        connection.send(&request.bytes());
        connection.send(b"5\r\n{\"nam\r\nnonsense\r\n");
        let answer = connection.receive();
        answer.expect_problem(400, "malformed");
        assert!(answer.closes());
        connection.expect_closed();
        // An extension and trailers say nothing to us.
        let good = good_token().to_string();
        let mut connection = client.connect();
        connection.send(&request.bytes());
        let chunks = format!("{:X};a=b\r\n{good}\r\n0\r\nX-Sum: 1\r\n\r\n", good.len());
        connection.send(chunks.as_bytes());
        connection.receive().expect(201);
        connection.ask(&Request::get("/livez")).expect(200);
    });
}
