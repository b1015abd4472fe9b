//! Samples that are written.

use serde_json::{Value, json};

use super::{Metric, by_both_doors, now_ms, post};
use crate::api::{new_secret, new_tenant};

#[test]
fn samples_of_both_forms_are_taken_and_found_again() {
    by_both_doors(|client| {
        let metric = Metric::new(client);
        let at = (now_ms() / 1000 - 5) * 1000;
        let written = metric.write(&[
            metric.sample(&json!(0.25), &json!({ "time": at / 1000, "labels": [] })),
            metric.sample(
                &json!("NaN"),
                &json!({ "labels": { "host": "n" }, "kind": "distribution" }),
            ),
        ]);
        assert_eq!(written, json!({ "accepted": 2, "rejected": [] }));
        let text =
            format!("# HELP METRIC x\n# TYPE METRIC counter\nMETRIC{{host=\"t\"}} -0 {at}\n");
        let written = metric.text(&text).expect(202);
        assert_eq!(written, json!({ "accepted": 1, "rejected": [] }));
        let list = metric.list();
        let kinds: Vec<_> = list.as_array().unwrap().iter().map(|item| &item["kind"]).collect();
        assert_eq!(kinds, ["gauge", "distribution", "counter"]);
        let answer = metric.ask("fn=raw&from=-1m&to=%2B1m");
        let told = answer.expect(200);
        assert_eq!(told["resolution"], "raw");
        let text = answer.text();
        for part in [format!("[{at},0.25]"), format!("[{at},-0.0]"), "\"NaN\"]".to_owned()] {
            assert!(text.contains(&part), "{part} in {text}");
        }
    });
}

#[test]
fn what_is_refused_is_told_with_its_place_and_the_rest_is_taken() {
    by_both_doors(|client| {
        let metric = Metric::new(client);
        let written = metric.write(&[
            metric.sample(&json!(1), &json!({})),
            metric.sample(&json!("x"), &json!({})),
            metric.sample(&json!(1), &json!({ "labels": { "a b": "c" } })),
            metric.sample(&json!(1), &json!({ "time": "-25h" })),
            metric.sample(&json!(1), &json!({ "time": "+11m" })),
            metric.sample(&json!(1), &json!({ "time": "yesterday" })),
            metric.sample(&json!(1), &json!({ "kind": "summary" })),
            metric.sample(&json!(2), &json!({ "labels": { "a": "b" } })),
        ]);
        assert_eq!(written["accepted"], 2);
        let rejected = written["rejected"].as_array().unwrap().iter();
        let told: Vec<_> = rejected.map(|each| json!([each["index"], each["code"]])).collect();
        let expected = json!([
            [1, "invalid_value"],
            [2, "invalid_labels"],
            [3, "too_old"],
            [4, "too_new"],
            [5, "invalid_time"],
            [6, "invalid_kind"],
        ]);
        assert_eq!(json!(told), expected);
        let written =
            metric.text("METRIC 1\nMETRIC{ 2\n\nMETRIC{a=\"b\",a=\"c\"} 3\nMETRIC{c=\"d\"} 4\n");
        let written = written.expect(202);
        assert_eq!(written["accepted"], 2, "{written}");
        let rejected = written["rejected"].as_array().unwrap();
        let told: Vec<_> =
            rejected.iter().map(|each| json!([each["line"], each["code"]])).collect();
        assert_eq!(json!(told), json!([[2, "malformed"], [4, "invalid_labels"]]));
        assert!(
            rejected.iter().all(|each| each.get("index").is_none() && each["detail"].is_string())
        );
    });
}

#[test]
fn many_refusals_are_counted_and_not_all_told() {
    by_both_doors(|client| {
        let lines = "x{ 1\n".repeat(20_000);
        let written = post(client, "", "text/plain", lines.as_bytes()).expect(202);
        assert_eq!((&written["accepted"], &written["rejected_count"]), (&json!(0), &json!(20_000)));
        let rejected = written["rejected"].as_array().unwrap();
        assert_eq!((rejected.len(), &rejected[999]["line"]), (1000, &json!(1000)));
    });
}

#[test]
fn a_durable_call_is_answered_when_it_is_on_disk() {
    by_both_doors(|client| {
        let metric = Metric::new(client);
        let body = json!({ "samples": [metric.sample(&json!(1), &json!({}))] }).to_string();
        for durable in ["1", "true", "True"] {
            let query = format!("?durable={durable}");
            let answer = post(client, &query, "application/json", body.as_bytes());
            assert_eq!(answer.expect(200)["accepted"], 1);
        }
        post(client, "?durable=0", "application/json", body.as_bytes()).expect(202);
        let refused = post(client, "?durable=yes", "application/json", body.as_bytes());
        refused.expect_problem(400, "invalid_durable");
    });
}

#[test]
fn a_body_that_cannot_be_read_is_refused_with_the_reason() {
    by_both_doors(|client| {
        let refused = |content_type: &str, body: &[u8], status: u16, code: &str| {
            post(client, "", content_type, body).expect_problem(status, code)
        };
        refused("application/json", b"", 400, "malformed");
        refused("application/json", b"{\"samples\":[{]}", 400, "malformed");
        let told = refused(
            "application/json",
            b"{\"samples\":[{\"metric\":\"a\",\"val\":1}]}",
            400,
            "unknown_field",
        );
        assert_eq!((&told["index"], &told["field"]), (&json!(0), &json!("val")));
        refused("text/plain", b"a{b=\"\xff\"} 1\n", 400, "malformed");
        let hint = refused(
            "application/openmetrics-text; version=1.0.0",
            b"a 1\n",
            415,
            "unsupported_media_type",
        );
        assert!(hint["detail"].as_str().unwrap().contains("text/plain"), "{hint}");
        refused("application/x-www-form-urlencoded", b"a 1\n", 415, "unsupported_media_type");
        let request = client.request("POST", "/v1/series").header("Content-Type", "text/plain");
        let request = request.header("Content-Encoding", "gzip").body(b"\x1f\x8b");
        client.send(&request).expect_problem(415, "unsupported_media_type");
        client.get("/v1/series/write").expect_problem(404, "unknown_path");
    });
}

#[test]
fn a_tenant_has_as_many_series_as_its_quota_says() {
    by_both_doors(|client| {
        let tenant = new_tenant(client);
        client
            .put(&format!("/v1/tenants/{tenant}"), &json!({ "quotas": { "series": 2 } }))
            .expect(200);
        let token = new_secret(client, &tenant, &["series:read", "series:write"]);
        let metric = Metric::new(&client.with_token(&token));
        let sample = |host: &str| metric.sample(&json!(1), &json!({ "labels": { "host": host } }));
        let written = metric.write(&[sample("a"), sample("b"), sample("c"), sample("a")]);
        assert_eq!(written["accepted"], 3);
        let rejected = &written["rejected"];
        assert_eq!(
            (&rejected[0]["index"], &rejected[0]["code"]),
            (&json!(2), &json!("quota_exceeded"))
        );
        assert_eq!(rejected[1], Value::Null);
        let path = format!("/v1/series?match={}", metric.name);
        client
            .send(&client.request("DELETE", &path).header("Holdfast-Tenant", &tenant))
            .expect(200);
        assert_eq!(metric.write(&[sample("c")])["accepted"], 1);
    });
}

#[test]
fn a_large_body_is_taken_whole() {
    by_both_doors(|client| {
        let metric = Metric::new(client);
        let at = now_ms() - 60_000;
        let line = |n: i64| format!("METRIC{{n=\"{}\"}} {n} {}", n % 300, at + n / 300);
        let lines: Vec<String> = (0..30_000).map(line).collect();
        let lines = lines.join("\n");
        let written = metric.text(&lines).expect(202);
        assert_eq!(written, json!({ "accepted": 30_000, "rejected": [] }));
        let counted = metric.ask("fn=count&by=&from=-1h&step=2h").expect(200);
        let points = counted["series"][0]["points"].as_array().unwrap();
        let sum: u64 = points.iter().filter_map(|point| point[1].as_u64()).sum();
        assert_eq!(sum, 30_000, "{counted}");
    });
}
