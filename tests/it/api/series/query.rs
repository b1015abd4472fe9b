//! Questions about series.

use serde_json::{Value, json};

use super::{Metric, by_both_doors, encoded, now_ms};

/// Two hosts, four samples each, ten seconds apart, ending now; the first moment.
fn written(metric: &Metric<'_>) -> i64 {
    let begin = (now_ms() / 10_000 - 3) * 10_000;
    let mut samples = Vec::new();
    for n in 0..4 {
        for (host, factor) in [("a", 1), ("b", 10)] {
            let seconds = begin / 1000 + n * 10;
            let labels = json!({ "host": host, "zone": "z" });
            let more = json!({ "labels": labels, "time": seconds });
            samples.push(metric.sample(&json!((n + 1) * factor), &more));
        }
    }
    assert_eq!(metric.write(&samples)["accepted"], 8);
    begin
}

fn values(series: &Value) -> Vec<&Value> {
    let points = series["points"].as_array().unwrap().iter();
    points.map(|point| &point[1]).filter(|value| !value.is_null()).collect()
}

#[test]
fn functions_say_what_they_say_step_by_step() {
    by_both_doors(|client| {
        let metric = Metric::new(client);
        let begin = written(&metric);
        let range = format!("from={}&to={}", begin / 1000, begin / 1000 + 40);
        let raw = metric.ask(&format!("fn=raw&{range}")).expect(200);
        let a = &raw["series"][0];
        assert_eq!(
            (&a["metric"], &a["labels"]),
            (&json!(metric.name), &json!({ "host": "a", "zone": "z" }))
        );
        assert_eq!(a["points"][1], json!([begin + 10_000, 2]));
        assert_eq!((raw["resolution"].as_str(), values(a).len()), (Some("raw"), 4));
        let ask = |rest: &str| metric.ask(&format!("{rest}&{range}&step=10s")).expect(200);
        let max = ask("fn=max");
        assert_eq!(
            (max["step_ms"].as_i64(), max["series"].as_array().unwrap().len()),
            (Some(10_000), 2)
        );
        assert_eq!(json!(values(&max["series"][1])), json!([10, 20, 30, 40]));
        assert_eq!(max["series"][1]["points"][0][0], begin);
        // Without a function it is the average, and over one long step of it all that there is.
        let all = metric.ask("step=1h&from=-1h").expect(200);
        let told: f64 = values(&all["series"][0]).iter().map(|value| value.as_f64().unwrap()).sum();
        assert!(0.0 < told, "{all}");
        let counted = ask("fn=count&by=zone");
        assert_eq!(counted["series"][0]["labels"], json!({ "zone": "z" }));
        assert_eq!(counted["series"][0].get("metric"), None);
        assert_eq!(json!(values(&counted["series"][0])), json!([2, 2, 2, 2]));
        let sum = ask("fn=avg&by=");
        assert_eq!(json!(values(&sum["series"][0])), json!([11, 22, 33, 44]));
        let least = ask("fn=avg&by=zone&reduce=min");
        assert_eq!(json!(values(&least["series"][0])), json!([1, 2, 3, 4]));
    });
}

#[test]
fn every_mistake_in_a_query_has_its_code() {
    by_both_doors(|client| {
        let metric = Metric::new(client);
        written(&metric);
        for (rest, code) in [
            ("fn=median", "invalid_fn"),
            ("by=a-b", "invalid_by"),
            ("by=host&reduce=median", "invalid_reduce"),
            ("fn=raw&by=host", "invalid_reduce"),
            ("from=yesterday", "invalid_from"),
            ("to=1763640000000", "invalid_to"),
            ("from=now&to=-1h", "invalid_range"),
            ("step=0", "invalid_step"),
            ("step=soon", "invalid_step"),
            ("from=-24h&step=1s", "too_many_points"),
            ("timeout=16s", "invalid_timeout"),
            ("timeout=0", "invalid_timeout"),
            ("fn=raw&step=1m", "invalid_step"),
            ("fn=p95&from=-20d&step=1d", "no_distribution"),
            ("funktion=avg", "unknown_parameter"),
        ] {
            let refused = metric.ask(rest).expect_problem(400, code);
            assert_eq!(refused["retryable"], false, "{rest}");
        }
        let select = |text: &str| client.get(&format!("/v1/series/query?select={}", encoded(text)));
        for (text, at) in [("cpu{", 4), ("cpu{a=b}", 6), ("", 0)] {
            let refused = select(text).expect_problem(400, "invalid_select");
            assert_eq!(refused["at"], at, "{text}: {refused}");
        }
        select("cpu{a=~\"(\"}").expect_problem(400, "invalid_select");
        client.get("/v1/series/query").expect_problem(400, "invalid_select");
        assert_eq!(select("nobody_wrote_this").expect(200)["series"], json!([]));
    });
}

#[test]
fn a_batch_answers_each_query_by_itself() {
    by_both_doors(|client| {
        let metric = Metric::new(client);
        let begin = written(&metric);
        let batch = json!({
            "queries": {
                "raw": { "select": metric.name, "fn": "raw" },
                "sum": { "select": metric.name, "fn": "max", "by": [], "step": "10s" },
                "bad": { "select": "cpu{" },
                "late": { "select": metric.name, "from": "now", "to": "-1h" },
            },
            "from": begin / 1000, "to": begin / 1000 + 40, "step": 10, "timeout": "5s",
        });
        for _ in 0..2 {
            // The second time out of the cache.
            let told = client.post("/v1/series/query_batch", &batch).expect(200);
            assert_eq!(told["partial"], true);
            let results = &told["results"];
            assert_eq!(results["raw"]["status"], "success", "{results}");
            assert_eq!(values(&results["raw"]["series"][0]).len(), 4);
            assert_eq!(json!(values(&results["sum"]["series"][0])), json!([11, 22, 33, 44]));
            assert_eq!(results["sum"]["step_ms"], 10_000);
            for (name, code) in [("bad", "invalid_select"), ("late", "invalid_range")] {
                let result = &results[name];
                assert_eq!(
                    (&result["status"], &result["error"]["code"]),
                    (&json!("error"), &json!(code))
                );
                assert_eq!(result["error"]["status"], 400);
            }
        }
        let none = client.post("/v1/series/query_batch", &json!({ "queries": [] })).expect(200);
        assert_eq!(none, json!({ "results": {}, "partial": false }));
        for (body, code) in [
            (json!({}), "malformed"),
            (json!({ "queries": 5 }), "invalid_queries"),
            (json!({ "queries": {}, "form": 1 }), "unknown_field"),
            (json!({ "queries": {}, "timeout": "20s" }), "invalid_timeout"),
            (json!({ "queries": {}, "from": "x" }), "invalid_from"),
        ] {
            client.post("/v1/series/query_batch", &body).expect_problem(400, code);
        }
        let many: serde_json::Map<String, Value> =
            (0..101).map(|n| (format!("q{n}"), json!({ "select": "x" }))).collect();
        let refused = client.post("/v1/series/query_batch", &json!({ "queries": many }));
        assert_eq!(refused.expect_problem(413, "too_large")["limit"], 100);
    });
}
