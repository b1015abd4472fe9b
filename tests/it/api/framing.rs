//! HTTP itself: heads, hosts, methods, paths, pipelines, and everything that smuggles.

use holdfast::base::limits::{HEAD_BYTES_MAX, HEADERS_MAX};
use serde_json::json;

use super::{by_both_doors, fresh};
use crate::support::{Answer, Client, Connection, Door, Request};

/// Sends these bytes and reads one answer, on a connection that is given, too.
fn raw(client: &Client<'_>, bytes: &[u8]) -> (Answer, Connection) {
    let mut connection = client.connect();
    connection.send(bytes);
    let answer = connection.receive();
    (answer, connection)
}

/// Asserts that these bytes are refused with this, and that the connection ends.
fn refused(client: &Client<'_>, bytes: &[u8], status: u16, code: &str) {
    let (answer, mut connection) = raw(client, bytes);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    assert_eq!(answer.status, status, "{shown:?} was answered {answer:?}");
    answer.expect_problem(status, code);
    assert!(answer.header("x-request-id").is_some() && answer.header("x-response-time").is_some());
    assert!(answer.closes(), "{shown:?}");
    connection.expect_closed();
}

#[test]
fn what_is_no_request_is_400() {
    by_both_doors(|client| {
        for bytes in [
            &b"GARBAGE\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET /livez\r\n\r\n",
            b"GET /livez HTTP/1.1 x\r\nHost: localhost\r\n\r\n",
            b"GET /livez HTTX/1.1\r\nHost: localhost\r\n\r\n",
            b"GET  /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /livez HTTP/3.0\r\nHost: localhost\r\n\r\n",
            b" GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"G(T /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /li\0vez HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nHost: local\0host\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX\0: a\r\n\r\n",
            b"\0\0\0\0\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\n: no name\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
        ] {
            refused(client, bytes, 400, "malformed");
        }
    });
}

#[test]
fn http_2_is_not_spoken_and_not_answered_as_if_it_were() {
    by_both_doors(|client| {
        let mut connection = client.connect();
        connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let text = String::from_utf8(connection.read_to_end()).unwrap();
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400 "), "{text}");
    });
}

#[test]
fn a_head_has_at_most_16_kib() {
    by_both_doors(|client| {
        let head = |bytes: usize| {
            let bare = Request::get("/livez").header("X", "").bytes().len();
            Request::get("/livez").header("X", &"x".repeat(bytes - bare)).bytes()
        };
        let (answer, _) = raw(client, &head(HEAD_BYTES_MAX));
        answer.expect(200);
        refused(client, &head(HEAD_BYTES_MAX + 1), 431, "head_too_large");
        refused(client, &head(HEAD_BYTES_MAX * 3), 431, "head_too_large");
        let target = format!("/{}", "x".repeat(HEAD_BYTES_MAX));
        refused(client, &Request::get(&target).bytes(), 431, "head_too_large");
    });
}

#[test]
fn a_head_has_at_most_64_headers() {
    by_both_doors(|client| {
        let head = |headers: usize| {
            let request = Request::get("/livez");
            (1..headers).fold(request, |request, n| request.header(&format!("X-{n}"), "x")).bytes()
        };
        let (answer, _) = raw(client, &head(HEADERS_MAX));
        answer.expect(200);
        refused(client, &head(HEADERS_MAX + 1), 431, "head_too_large");
        refused(client, &head(HEADERS_MAX * 10), 431, "head_too_large");
    });
}

/// Two requests for which two readers could disagree where the first one ends. `smuggled` would then make
/// a tenant.
fn smuggling(client: &Client<'_>, name: &str, framing: &str, body: &str) -> Vec<u8> {
    let token = client.server.token();
    let hidden = Request::new("PUT", &format!("/v1/tenants/{name}")).bearer(token).json(&json!({}));
    let mut bytes = format!(
        "POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\n{framing}\r\n\r\n{body}"
    )
    .into_bytes();
    bytes.extend_from_slice(&hidden.bytes());
    bytes
}

#[test]
fn a_smuggled_request_is_never_answered() {
    by_both_doors(|client| {
        for (framing, body) in [
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"),
            ("Content-Length: 2\r\nTransfer-Encoding: chunked", "{}"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 2", "{}"),
            ("Content-Length: 2\r\nContent-Length: 3", "{}"),
            ("Content-Length: 2\r\nContent-Length: 0", "{}"),
            ("Content-Length: 2, 3", "{}"),
            ("Content-Length: 2, 2", "{}"),
            ("Content-Length: +2", "{}"),
            ("Content-Length: -2", "{}"),
            ("Content-Length: 0x2", "{}"),
            ("Content-Length: 2 2", "{}"),
            ("Content-Length: 2.0", "{}"),
            ("Content-Length:", "{}"),
            ("Content-Length: 18446744073709551618", "{}"),
            ("Transfer-Encoding: xchunked", "0\r\n\r\n"),
            ("Transfer-Encoding: identity", "{}"),
            ("Transfer-Encoding: gzip", "{}"),
            ("Transfer-Encoding: chunked, identity", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"),
            ("Transfer-Encoding: \"chunked\"", "0\r\n\r\n"),
            ("Transfer-Encoding:\x0bchunked", "0\r\n\r\n"),
            ("Transfer-Encoding : chunked", "0\r\n\r\n"),
            ("Content-Length : 2", "{}"),
            ("Transfer-Encoding\t: chunked", "0\r\n\r\n"),
            (" Transfer-Encoding: chunked", "0\r\n\r\n"),
            ("X: y\r\n Transfer-Encoding: chunked", "0\r\n\r\n"),
            ("X: y\r\n\tContent-Length: 2", "{}"),
            ("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"),
            ("X: y\rContent-Length: 2", "{}"),
            ("Transfer-Encoding: chunked", "5\n{}   \n0\n\n"),
            ("Transfer-Encoding: chunked", "-1\r\n{}\r\n0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "0x2\r\n{}\r\n0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "2\r\n{}0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "10000000000000002\r\n{}\r\n0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "zz\r\n{}\r\n0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "\r\n{}\r\n0\r\n\r\n"),
        ] {
            let name = fresh("smuggled");
            let mut connection = client.connect();
            connection.send(&smuggling(client, &name, framing, body));
            let text = String::from_utf8(connection.read_to_end()).unwrap();
            let answers = text.matches("HTTP/1.1 ").count();
            assert!(answers <= 1, "{framing:?} {body:?} was answered {text}");
            assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{framing:?}: {text}");
            let made = client.get(&format!("/v1/tenants/{name}"));
            assert_eq!(made.status, 404, "{framing:?} {body:?} made a tenant");
        }
    });
}

#[test]
fn transfer_encoding_is_not_of_http_1_0() {
    by_both_doors(|client| {
        let bytes = b"GET /livez HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
            Connection: keep-alive\r\n\r\n0\r\n\r\nGET /livez HTTP/1.0\r\n\r\n";
        refused(client, bytes, 400, "malformed");
    });
}

/// RFC 9112 lets a reader take a lone line feed for the end of a line. We do, in the lines of a head, and
/// there both requests are seen by everybody.
#[test]
fn a_lone_line_feed_ends_a_line_of_a_head() {
    by_both_doors(|client| {
        let mut connection = client.connect();
        let twice =
            b"GET /livez HTTP/1.1\nHost: localhost\n\nGET /readyz HTTP/1.1\nHost: localhost\n\n";
        connection.send(twice);
        assert_eq!(connection.receive().expect(200)["status"], "alive");
        assert_eq!(connection.receive().expect(200)["status"], "ready");
    });
}

#[test]
fn the_same_length_twice_is_one_length() {
    by_both_doors(|client| {
        let bytes = b"DELETE /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\
            Content-Length: 2\r\n\r\n{}GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let (answer, mut connection) = raw(client, bytes);
        answer.expect_problem(405, "method_not_allowed");
        connection.receive().expect(200);
    });
}

#[test]
fn a_request_for_somebody_else_is_refused_by_tcp_and_fine_by_the_socket() {
    by_both_doors(|client| {
        let ask =
            |host: &str| client.send(&Request::get("/livez").without("Host").header("Host", host));
        let address = client.server.address().to_string();
        for host in [
            "localhost",
            "LocalHost",
            "localhost:1",
            "127.0.0.1",
            "[::1]:80",
            "localhost.",
            &address,
        ] {
            ask(host).expect(200);
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "192.0.2.1",
            "evil.example:7070",
            "0.0.0.0",
            "user@localhost",
            "",
        ] {
            let answer = ask(host);
            match client.door {
                Door::Unix => drop(answer.expect(200)),
                Door::Tcp => {
                    let problem = answer.expect_problem(421, "unknown_host");
                    assert!(super::text(&problem["detail"]).contains("server.hosts"), "{problem}");
                }
            }
        }
    });
}

#[test]
fn a_request_has_one_host() {
    by_both_doors(|client| {
        refused(client, b"GET /livez HTTP/1.1\r\n\r\n", 400, "malformed");
        for second in ["localhost", "evil.example"] {
            let request = Request::get("/livez").header("Host", second);
            refused(client, &request.bytes(), 400, "malformed");
        }
    });
}

#[test]
fn an_absolute_target_is_for_us_or_refused() {
    by_both_doors(|client| {
        client.send(&Request::get("http://localhost/livez")).expect(200);
        client.send(&Request::get("http://127.0.0.1:7070/livez")).expect(200);
        for target in
            ["http://evil.example/livez", "http://x@localhost/livez", "https://evil.example"]
        {
            let answer = client.send(&Request::get(target));
            match client.door {
                Door::Unix => assert!(answer.status == 200 || answer.status == 404, "{answer:?}"),
                Door::Tcp => drop(answer.expect_problem(421, "unknown_host")),
            }
        }
        // A name of ours in the target does not make up for one of somebody else's.
        let host = Request::get("http://localhost/livez").without("Host");
        let answer = client.send(&host.header("Host", "evil.example"));
        assert_eq!(answer.status, if client.door == Door::Tcp { 421 } else { 200 });
    });
}

#[test]
fn http_1_0_is_answered_and_closed() {
    by_both_doors(|client| {
        for head in
            ["GET /livez HTTP/1.0\r\n\r\n", "GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n"]
        {
            let (answer, mut connection) = raw(client, head.as_bytes());
            answer.expect(200);
            connection.expect_closed();
        }
        let kept = b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        let (answer, mut connection) = raw(client, kept);
        answer.expect(200);
        connection.send(b"GET /readyz HTTP/1.0\r\n\r\n");
        assert_eq!(connection.receive().expect(200)["status"], "ready");
        connection.expect_closed();
    });
}

#[test]
fn head_is_get_without_its_body() {
    by_both_doors(|client| {
        let paths =
            ["/livez", "/openapi.json", "/v1/tenants/default", "/v1/nothing", "/v1/audit?x=1"];
        for path in paths {
            let mut connection = client.connect();
            let head = connection.ask(&client.request("HEAD", path));
            let get = connection.ask(&client.request("GET", path));
            assert_eq!(head.status, get.status, "{path}");
            let length = |answer: &Answer| answer.header("content-length").unwrap().to_owned();
            assert_eq!(length(&head), length(&get), "{path}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        }
        let head = client.send(&client.request("HEAD", "/v1/reload"));
        assert_eq!((head.status, head.header("allow")), (405, Some("POST")));
        let zipped = |method| {
            let request = client.request(method, "/openapi.json").header("Accept-Encoding", "gzip");
            let answer = client.send(&request);
            answer.header("content-length").unwrap().to_owned()
        };
        assert_eq!(zipped("HEAD"), zipped("GET"));
    });
}

#[test]
fn a_method_that_is_not_there_is_405_and_says_which_are() {
    by_both_doors(|client| {
        for (path, methods) in [
            ("/livez", "GET, HEAD"),
            ("/v1/tokens", "POST, GET, HEAD"),
            ("/v1/tokens/x", "DELETE"),
            ("/v1/tenants/x", "GET, PUT, DELETE, HEAD"),
            ("/v1/reload", "POST"),
        ] {
            for method in ["OPTIONS", "PATCH", "TRACE", "BREW", "get"] {
                let answer = client.send(&client.request(method, path));
                let problem = answer.expect_problem(405, "method_not_allowed");
                assert_eq!(answer.header("allow"), Some(methods), "{path}");
                assert!(super::text(&problem["detail"]).contains(method), "{problem}");
            }
        }
        client.send(&client.request("OPTIONS", "*")).expect_problem(404, "unknown_path");
        let connect = client.request("CONNECT", "localhost:80");
        client.send(&connect).expect_problem(404, "unknown_path");
    });
}

#[test]
fn a_path_has_one_spelling() {
    by_both_doors(|client| {
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/livez/",
            "//livez",
            "/./livez",
            "/v1/../livez",
            "/%6civez",
            "/Livez",
            "/v1//status",
            "/v1/status/",
            "/v1/%2e%2e/livez",
            "/v1%2fstatus",
            "/v1/tenants/",
            "/v1/tenants/a/b",
            "/v1/tokens/a/b",
            "/livez;x",
            "/livez%3f",
            "/livez%00",
            "/v1/tenants//",
        ] {
            client.get(path).expect_problem(404, "unknown_path");
        }
        // In a parameter, one is decoded once.
        client.get("/v1/tenants/%64efault").expect(200);
        for name in ["%2e", "%2e%2e", "a%2fb", "%2564efault", "%20", "%00", "a%20b", ".", ".."] {
            client.get(&format!("/v1/tenants/{name}")).expect_problem(400, "invalid_tenant");
        }
        for name in ["%", "%zz", "%f", "%ff", "a%c3"] {
            client.get(&format!("/v1/tenants/{name}")).expect_problem(400, "malformed");
        }
    });
}

#[test]
fn requests_in_one_write_are_answered_in_order() {
    by_both_doors(|client| {
        let mut bytes = Vec::new();
        let body = json!({ "name": fresh("piped"), "scopes": ["cache:read"] });
        let requests = [
            client.request("POST", "/v1/tokens").json(&body),
            Request::get("/nothing"),
            client.request("GET", "/v1/status"),
        ];
        for (n, request) in requests.into_iter().enumerate() {
            bytes.extend(request.header("X-Request-Id", &format!("r{n}")).bytes());
        }
        let mut connection = client.connect();
        connection.send(&bytes);
        for (n, status) in [201, 404, 200].into_iter().enumerate() {
            let answer = connection.receive();
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("x-request-id"), Some(format!("r{n}").as_str()));
        }
    });
}

#[test]
fn a_request_may_come_byte_by_byte() {
    by_both_doors(|client| {
        let body = json!({ "name": fresh("slow"), "scopes": ["cache:read"] });
        let mut connection = client.connect();
        for byte in client.request("POST", "/v1/tokens").json(&body).bytes() {
            connection.send(&[byte]);
        }
        connection.receive().expect(201);
    });
}

#[test]
fn a_connection_is_used_again_until_somebody_wants_it_closed() {
    by_both_doors(|client| {
        let mut connection = client.connect();
        for n in 0..20 {
            let answer = connection.ask(&client.request("GET", ["/livez", "/nothing"][n % 2]));
            assert!(!answer.closes());
        }
        let answer = connection.ask(&Request::get("/livez").header("Connection", "close"));
        answer.expect(200);
        assert!(answer.closes());
        connection.expect_closed();
        // What stands behind it is not answered any more.
        let mut connection = client.connect();
        let mut bytes = Request::get("/livez").header("Connection", "close").bytes();
        bytes.extend(Request::get("/livez").bytes());
        connection.send(&bytes);
        let text = String::from_utf8(connection.read_to_end()).unwrap();
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    });
}

#[test]
fn an_upgrade_is_not_taken_up() {
    by_both_doors(|client| {
        let request = Request::get("/livez").header("Connection", "Upgrade");
        let mut connection = client.connect();
        connection.ask(&request.header("Upgrade", "websocket")).expect(200);
        connection.ask(&Request::get("/livez")).expect(200);
    });
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_only_when_it_is_let_in() {
    by_both_doors(|client| {
        let body = json!({ "name": fresh("asked"), "scopes": ["cache:read"] }).to_string();
        let head = |client: &Client<'_>, length: usize| {
            let request = client.request("POST", "/v1/tokens").header("Expect", "100-continue");
            let request = request.header("Content-Type", "application/json");
            request.header("Content-Length", &length.to_string()).bytes()
        };
        let mut connection = client.connect();
        connection.send(&head(client, body.len()));
        assert_eq!(connection.receive_head().status, 100);
        connection.send(body.as_bytes());
        connection.receive().expect(201);
        connection.ask(&Request::get("/livez")).expect(200);

        // Nobody who is refused sends a body for nothing.
        let wrong = client.with_token("hf_app_wrong");
        refused(client, &head(&wrong, body.len()), 401, "unauthenticated");
        refused(client, &head(&client.stranger(), body.len()), 401, "unauthenticated");
        refused(client, &head(client, 3 << 20), 413, "too_large");
        refused(client, &head(client, (1 << 20) + 1), 413, "too_large");
        let kind = client.request("POST", "/v1/tokens").header("Expect", "100-continue");
        let kind = kind.header("Content-Type", "text/plain").header("Content-Length", "9");
        refused(client, &kind.bytes(), 415, "unsupported_media_type");
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_hurts_nobody() {
    by_both_doors(|client| {
        for bytes in [&b"GET /li"[..], b"", b"POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\n"] {
            let mut connection = client.connect();
            connection.send(bytes);
            connection.end_sending();
            let text = String::from_utf8(connection.read_to_end()).unwrap();
            assert!(text.is_empty() || text.starts_with("HTTP/1.1 400 "), "{text}");
        }
        let request = client.request("POST", "/v1/tokens").header("Content-Length", "100");
        let mut connection = client.connect();
        connection.send(&request.bytes());
        connection.send(b"{\"name\":");
        drop(connection);
        client.get("/readyz").expect(200);
    });
}
