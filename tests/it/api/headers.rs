//! What every answer has, and what every problem says.

use std::io::Read as _;

use serde_json::Value;

use super::{by_both_doors, new_token, text};
use crate::support::{Answer, Request};

/// An answer of each sort: well and not, open and not.
fn one_of_each(client: &crate::support::Client<'_>) -> Vec<(&'static str, Answer)> {
    let targets = [
        "/livez",
        "/readyz",
        "/openapi.json",
        "/metrics",
        "/nothing",
        "/v1/nothing",
        "/v1/status",
        "/v1/tokens",
        "/v1/status?x=1",
        "/v1x",
        "/v1",
    ];
    targets.into_iter().map(|target| (target, client.get(target))).collect()
}

#[test]
fn every_answer_has_an_id_and_a_time() {
    by_both_doors(|client| {
        let mut ids = Vec::new();
        for (target, answer) in one_of_each(client) {
            let id = answer.header("x-request-id").unwrap().to_owned();
            assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{target}: {id}");
            ids.push(id);
            let time = answer.header("x-response-time").unwrap();
            let number = time.strip_suffix("ms").unwrap();
            let (whole, fraction) = number.split_once('.').unwrap();
            let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            assert!(digits(whole) && !whole.is_empty(), "{target}: {time}");
            assert!(digits(fraction) && fraction.len() == 2, "{target}: {time}");
            assert!(answer.header("date").is_some());
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{target}");
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), one_of_each(client).len(), "ids are given once");
    });
}

#[test]
fn the_callers_id_is_kept_when_it_is_one() {
    by_both_doors(|client| {
        let answered = |id: &str| {
            let answer = client.send(&Request::get("/livez").header("X-Request-Id", id));
            answer.header("x-request-id").unwrap().to_owned()
        };
        let longest = "x".repeat(64);
        for id in ["a", "0", "Order-77_b.c", "-", longest.as_str()] {
            assert_eq!(answered(id), id);
        }
        let too_long = "x".repeat(65);
        for id in ["", " ", "a b", "a,b", "a/b", "<b>", "\u{e4}", "a\tb", too_long.as_str()] {
            let given = answered(id);
            assert!(given != id && given.len() == 16, "{id:?} became {given:?}");
        }
        let request = Request::get("/nothing").header("X-Request-Id", "mine-1");
        let problem = client.send(&request).expect_problem(404, "unknown_path");
        assert_eq!(problem["instance"], "urn:holdfast:request:mine-1");
    });
}

#[test]
fn answers_under_v1_are_not_to_be_kept() {
    by_both_doors(|client| {
        for (target, answer) in one_of_each(client) {
            let under_v1 = target == "/v1" || target.starts_with("/v1/");
            let expected = under_v1.then_some("no-store");
            assert_eq!(answer.header("cache-control"), expected, "{target}");
        }
        let made = client.stranger().post("/v1/tokens", &Value::Null);
        assert_eq!(made.header("cache-control"), Some("no-store"));
    });
}

#[test]
fn a_problem_document_has_all_its_members() {
    by_both_doors(|client| {
        let stranger = client.stranger();
        for (answer, status, code) in [
            (client.get("/nothing"), 404, "unknown_path"),
            (stranger.get("/v1/status"), 401, "unauthenticated"),
            (client.get("/v1/status?x"), 400, "unknown_parameter"),
            (client.delete("/livez"), 405, "method_not_allowed"),
            (client.delete("/v1/tenants/default?confirm=default"), 409, "tenant_protected"),
        ] {
            let problem = answer.expect_problem(status, code);
            assert_eq!(problem["type"], format!("urn:holdfast:error:{code}"));
            assert_eq!(problem["status"], status);
            assert_eq!(problem["retryable"], false);
            let id = answer.header("x-request-id").unwrap();
            assert_eq!(problem["instance"], format!("urn:holdfast:request:{id}"));
            assert!(!text(&problem["title"]).is_empty() && !text(&problem["detail"]).is_empty());
        }
    });
}

#[test]
fn times_are_utc_with_milliseconds() {
    by_both_doors(|client| {
        let token = new_token(client, "default", &["cache:read"]);
        let time = text(&token["created_at"]);
        let shape: String =
            time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{time}");
    });
}

#[test]
fn large_answers_are_made_smaller_for_those_who_ask() {
    by_both_doors(|client| {
        let ask = |target: &str, accept: &str| {
            client.send(&client.request("GET", target).header("Accept-Encoding", accept))
        };
        let plain = client.get("/openapi.json").body;
        let gzip = ask("/openapi.json", "gzip");
        assert_eq!(gzip.header("content-encoding"), Some("gzip"));
        assert_eq!(gzip.header("vary"), Some("accept-encoding"));
        assert_eq!(gzip.header("content-type"), Some("application/json"));
        let mut whole = Vec::new();
        flate2::read::GzDecoder::new(&gzip.body[..]).read_to_end(&mut whole).unwrap();
        assert_eq!(whole, plain);
        assert!(gzip.body.len() < plain.len());
        let zstd = ask("/openapi.json", "gzip;q=0.5, zstd");
        assert_eq!(zstd.header("content-encoding"), Some("zstd"));
        assert_eq!(zstd::bulk::decompress(&zstd.body, plain.len()).unwrap(), plain);

        for accept in ["identity", "br", "gzip;q=0", "*;q=0", "", "gzip;q=2", "\u{e4}"] {
            let answer = ask("/openapi.json", accept);
            assert_eq!(answer.header("content-encoding"), None, "{accept:?}");
            assert_eq!(answer.body, plain, "{accept:?}");
        }
        for small in ["/livez", "/v1/nothing", "/v1/tenants/default"] {
            let answer = ask(small, "gzip, zstd");
            assert_eq!(answer.header("content-encoding"), None, "{small}");
            answer.json();
        }
        let metrics = ask("/metrics", "gzip");
        assert_eq!(metrics.header("content-encoding"), Some("gzip"));
    });
}
