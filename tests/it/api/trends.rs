//! Trends and capacity as clients meet them.
//!
//! What the server records every ten seconds is written here as a client may write it, into the same series: nobody has
//! to wait for it.

use holdfast::base::time::Clock as _;
use holdfast::testing::clock::SystemClock;
use serde_json::{Value, json};

use super::{by_both_doors, new_secret, new_tenant, text};
use crate::support::{Client, fresh};

/// Samples reach from so long ago to a little ahead, so that no test depends on how long it takes.
const BEHIND_S: i64 = 65 * 60;
const AHEAD_S: i64 = 120;

/// The last whole minute, in unix seconds.
fn minute() -> i64 {
    SystemClock::new().now().wall.unix_ms() / 60_000 * 60
}

/// Writes a value every ten seconds, as a function of the seconds since the first.
fn record(client: &Client<'_>, metric: &str, labels: &Value, value: impl Fn(i64) -> f64) -> i64 {
    let start = minute() - BEHIND_S;
    let samples: Vec<Value> = (0..(BEHIND_S + AHEAD_S) / 10)
        .map(|n| {
            let (time, value) = (start + n * 10, value(n * 10));
            json!({ "metric": metric, "labels": labels, "time": time, "value": value })
        })
        .collect();
    let told = client.post("/v1/series", &json!({ "samples": samples })).expect(202);
    assert_eq!(told["rejected"], json!([]));
    start
}

/// A tenant of its own, and a client that may read and write in it.
fn shop<'s>(client: &Client<'s>) -> Client<'s> {
    let scopes = ["queue:admin", "queue:push", "queue:work", "series:read", "series:write"];
    client.with_token(&new_secret(client, &new_tenant(client), &scopes))
}

fn float(n: i64) -> f64 {
    f64::from(i32::try_from(n).unwrap())
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[track_caller]
fn near(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert!((value - expected).abs() <= 1e-6 * expected.abs().max(1e-3), "{value}, not {expected}");
}

/// Points, statistics and forecast of a depth of half a second's worth each second since the start.
fn check_figures(told: &Value, start: i64) {
    let points = told["points"].as_array().unwrap();
    let (first, last) = (&points[0], &points[59]);
    let starts = |point: &Value| point[0].as_i64().unwrap();
    assert_eq!(starts(first) % 60_000, 0, "points carry the start of their step");
    assert_eq!(starts(last) - starts(first), 59 * 60_000);
    // The mean of six samples, the middle of which is 25 s behind the start.
    let seconds = |point: &Value| float(starts(point) / 1000 - start + 25);
    near(&last[1], seconds(last) * 0.5);
    let (statistics, forecast) = (&told["statistics"], &told["forecast"]);
    assert_eq!((&statistics["current"], &statistics["min"]), (&last[1], &first[1]));
    assert_eq!((&statistics["max"], statistics["std_dev"].is_f64()), (&last[1], true));
    near(
        &statistics["average"],
        f64::midpoint(first[1].as_f64().unwrap(), last[1].as_f64().unwrap()),
    );

    let next = starts(last) + 60_000;
    assert_eq!(forecast["next_timestamp"], json!(next / 1000));
    near(&forecast["next_value"], last[1].as_f64().unwrap() + 30.0);
    let ahead = forecast["points"].as_array().unwrap();
    assert_eq!((ahead.len(), &ahead[0][0]), (15, &json!(next)));
    assert_eq!((&ahead[0][1], ahead[0].as_array().unwrap().len()), (&forecast["next_value"], 4));
}

#[test]
fn a_queue_that_grows_is_told_with_everything_that_can_be_said_of_it() {
    by_both_doors(|client| {
        let (shop, queue) = (shop(client), fresh("queue"));
        let labels = json!({ "queue": queue });
        let start = record(&shop, "queue_waiting", &labels, |second| float(second) * 0.5);
        let path = format!("/v1/trends/queue-depth/{queue}");
        let told = shop.get(&format!("{path}?threshold=2400&points=1")).expect(200);
        assert_eq!(
            names(&told),
            [
                "anomaly",
                "available",
                "data_points",
                "forecast",
                "interval_seconds",
                "last_at",
                "period_seconds",
                "points",
                "resolution",
                "statistics",
                "text",
                "threshold",
                "trend"
            ]
        );
        assert_eq!(told["available"], json!(true));
        assert_eq!(
            ["period_seconds", "interval_seconds", "data_points"].map(|name| &told[name]),
            [&json!(3600), &json!(60), &json!(60)]
        );
        assert_eq!((&told["resolution"], &told["anomaly"]), (&json!("raw"), &Value::Null));
        let trend = &told["trend"];
        near(&trend["slope"], 0.5);
        assert_eq!(
            (&trend["direction"], &trend["slope_unit"]),
            (&json!("increasing"), &json!("per second"))
        );
        assert_eq!((&trend["confidence"], &trend["unstable"]), (&trend["r2"], &json!(false)));
        assert_eq!(trend["slope_interval"].as_array().unwrap().len(), 2);
        near(&trend["theil_sen"]["slope"], 0.5);

        check_figures(&told, start);
        // 2400 is reached 4800 seconds behind the start; values of steps lag behind by five seconds.
        let threshold = &told["threshold"];
        near(&threshold["value"], 2400.0);
        let eta = holdfast::base::human::parse_moment(
            text(&threshold["eta"]),
            SystemClock::new().now().wall,
        );
        let off = eta.unwrap().unix_ms() / 1000 - (start + 4800);
        assert!((0..=10).contains(&off), "{threshold}: {off} s");
        assert_eq!(threshold["eta_interval"].as_array().unwrap().len(), 2);
        assert!(text(&told["text"]).contains("jobs"), "{told}");
        assert!(shop.get(&path).expect(200).get("points").is_none());
    });
}

#[test]
fn a_threshold_that_will_not_be_reached_says_why() {
    by_both_doors(|client| {
        let (shop, queue) = (shop(client), fresh("queue"));
        let labels = json!({ "queue": queue });
        record(&shop, "queue_waiting", &labels, |second| float(second) * 0.5);
        let reason = |query: &str| {
            let path = format!("/v1/trends/queue-depth/{queue}?{query}");
            let told = shop.get(&path).expect(200)["threshold"].clone();
            assert_eq!(
                (&told["eta"], &told["eta_interval"]),
                (&Value::Null, &Value::Null),
                "{told}"
            );
            text(&told["reason"]).to_owned()
        };
        assert_eq!(reason("threshold=100&when=above"), "already_passed");
        assert_eq!(reason("threshold=100&when=below"), "moving_away");
        assert_eq!(reason("threshold=1e12"), "too_far");

        let flat = fresh("queue");
        record(&shop, "queue_waiting", &json!({ "queue": flat }), |_| 7.0);
        let told = shop.get(&format!("/v1/trends/queue-depth/{flat}?threshold=9")).expect(200);
        assert_eq!(told["threshold"]["reason"], json!("stable"));
        assert_eq!(
            (&told["trend"]["direction"], &told["trend"]["r2"]),
            (&json!("stable"), &Value::Null)
        );
        assert_eq!(told["statistics"]["std_dev"], json!(0.0));
    });
}

#[test]
fn too_little_is_no_trend_and_no_invented_numbers() {
    by_both_doors(|client| {
        let (shop, queue) = (shop(client), fresh("queue"));
        let time = minute() - 120;
        let sample = json!({ "metric": "queue_waiting", "labels": { "queue": queue }, "time": time, "value": 3 });
        shop.post("/v1/series", &json!({ "samples": [sample] })).expect(202);
        let told = shop.get(&format!("/v1/trends/queue-depth/{queue}")).expect(200);
        assert_eq!(
            names(&told),
            [
                "available",
                "data_points",
                "interval_seconds",
                "last_at",
                "period_seconds",
                "reason",
                "resolution"
            ]
        );
        assert_eq!((&told["available"], &told["data_points"]), (&json!(false), &json!(1)));
        assert!(text(&told["reason"]).contains("fewer than three"), "{told}");
        let told = shop.get(&format!("/v1/trends/throughput/{queue}")).expect(200);
        assert_eq!((&told["available"], told.get("total")), (&json!(false), None));
        let told = shop.get("/v1/trends/worker-efficiency").expect(200);
        assert_eq!(
            (&told["available"], &told["average_memory_bytes"]),
            (&json!(false), &Value::Null)
        );
    });
}

#[test]
fn throughput_and_efficiency_have_figures_of_their_own() {
    by_both_doors(|client| {
        let (shop, queue) = (shop(client), fresh("queue"));
        let labels = json!({ "queue": queue });
        let each = |part: f64| move |second: i64| float(second) * part;
        record(&shop, "queue_waiting", &labels, |_| 0.0);
        record(&shop, "queue_done_total", &labels, each(0.5));
        let told = shop.get(&format!("/v1/trends/throughput/{queue}")).expect(200);
        near(&told["total"], 1800.0);
        near(&told["per_minute"], 30.0);
        near(&told["per_hour"], 1800.0);
        near(&told["average_per_interval"], 30.0);
        near(&told["statistics"]["average"], 30.0);
        assert_eq!(told["trend"]["direction"], json!("stable"));
        assert!(text(&told["text"]).contains("jobs a minute"), "{told}");

        record(&shop, "worker_busy_seconds_total", &json!({}), each(1.5));
        record(&shop, "worker_idle_seconds_total", &json!({}), each(0.5));
        record(&shop, "worker_memory_bytes", &json!({}), |_| 1_000_000.4);
        record(&shop, "worker_cpu_percent", &json!({}), |_| 12.5);
        let told = shop.get("/v1/trends/worker-efficiency?period=30m").expect(200);
        near(&told["statistics"]["average"], 75.0);
        assert_eq!(told["average_memory_bytes"], json!(1_000_000));
        near(&told["average_cpu_percent"], 12.5);
        assert!(text(&told["text"]).contains('%'), "{told}");
    });
}

#[test]
fn trends_of_series_are_told_by_name() {
    by_both_doors(|client| {
        let shop = shop(client);
        let each = |part: f64| move |second: i64| float(second) * part;
        record(&shop, "room_celsius", &json!({ "room": "b" }), each(-0.001));
        record(&shop, "room_celsius", &json!({ "room": "a" }), |_| 21.0);
        record(&shop, "sent_total", &json!({ "room": "a" }), each(2.0));
        let path = "/v1/trends/series?select=%7Broom%3D~%22a%7Cb%22%7D";
        let told = shop.get(&format!("{path}&threshold=-100")).expect(200);
        let items = told["items"].as_array().unwrap();
        let name = |item: &Value| (item["metric"].clone(), item["labels"]["room"].clone());
        assert_eq!(
            items.iter().map(name).collect::<Vec<_>>(),
            [
                (json!("room_celsius"), json!("a")),
                (json!("room_celsius"), json!("b")),
                (json!("sent_total"), json!("a")),
            ]
        );
        let direction = |item: &Value| item["trend"]["direction"].clone();
        assert_eq!(
            items.iter().map(direction).collect::<Vec<_>>(),
            [json!("stable"), json!("decreasing"), json!("stable")]
        );
        near(&items[2]["statistics"]["average"], 2.0);
        let made: Vec<&str> = items.iter().map(|item| text(&item["fn"])).collect();
        assert_eq!(made, ["avg", "avg", "rate"]);
        shop.get(&format!("{path}&interval=15")).expect(200);
        let last = shop.get(&format!("{path}&fn=max&interval=5m")).expect(200)["items"][2].clone();
        assert_eq!((&last["interval_seconds"], &last["fn"]), (&json!(300), &json!("max")));
        assert_eq!(last["trend"]["direction"], json!("increasing"));
    });
}

#[test]
fn what_cannot_be_asked_is_refused_with_its_code() {
    by_both_doors(|client| {
        let (shop, queue) = (shop(client), fresh("queue"));
        record(&shop, "queue_waiting", &json!({ "queue": queue }), |_| 1.0);
        let depth = format!("/v1/trends/queue-depth/{queue}");
        for (query, code) in [
            ("period=10", "invalid_period"),
            ("period=1y", "invalid_period"),
            ("interval=5", "invalid_interval"),
            ("interval=15", "invalid_interval"),
            ("period=30d&interval=10", "invalid_interval"),
            ("period=5m&interval=1h", "invalid_interval"),
            ("threshold=much", "invalid_threshold"),
            ("threshold=NaN", "invalid_threshold"),
            ("threshold=5&when=soon", "invalid_when"),
            ("when=above", "invalid_when"),
            ("points=yes", "invalid_points"),
            ("select=x", "unknown_parameter"),
        ] {
            shop.get(&format!("{depth}?{query}")).expect_problem(400, code);
        }
        for path in ["queue-depth", "throughput"] {
            let path = format!("/v1/trends/{path}/{}", fresh("queue"));
            shop.get(&path).expect_problem(404, "unknown_queue");
            shop.get("/v1/trends/queue-depth/a%20b").expect_problem(400, "invalid_queue");
        }
        shop.get("/v1/trends/series").expect_problem(400, "invalid_select");
        shop.get("/v1/trends/series?select=cpu%7B").expect_problem(400, "invalid_select");
        shop.get("/v1/trends/series?select=x&fn=raw").expect_problem(400, "invalid_fn");
        shop.get("/v1/trends/series?select=nothing").expect_problem(404, "unknown_series");
        let samples: Vec<Value> = (0..101)
            .map(|n| json!({ "metric": "many", "labels": { "n": n.to_string() }, "value": 1 }))
            .collect();
        shop.post("/v1/series", &json!({ "samples": samples })).expect(202);
        let refused = shop.get("/v1/trends/series?select=many");
        let refused = refused.expect_problem(400, "too_many_series");
        assert_eq!((&refused["series"], &refused["limit"]), (&json!(101), &json!(100)));

        let pushed = json!({ "queue": queue, "payload": 1 });
        shop.post("/v1/jobs", &pushed).expect(201);
        for (query, code) in [
            ("target_wait=0", "invalid_target_wait"),
            ("target_wait=2d", "invalid_target_wait"),
            ("period=5", "invalid_period"),
            ("around=21", "invalid_around"),
            ("around=many", "invalid_around"),
            ("interval=60", "unknown_parameter"),
        ] {
            let path = format!("/v1/queues/{queue}/capacity?{query}");
            shop.get(&path).expect_problem(400, code);
        }
        let path = format!("/v1/queues/{}/capacity", fresh("queue"));
        shop.get(&path).expect_problem(404, "unknown_queue");
    });
}

#[test]
fn a_tenant_sees_its_own_trends_and_each_call_needs_its_scope() {
    by_both_doors(|client| {
        let (one, other, queue) = (shop(client), shop(client), fresh("queue"));
        record(&one, "queue_waiting", &json!({ "queue": queue }), |_| 1.0);
        one.post("/v1/jobs", &json!({ "queue": queue, "payload": 1 })).expect(201);
        let depth = format!("/v1/trends/queue-depth/{queue}");
        let capacity = format!("/v1/queues/{queue}/capacity");
        let series = "/v1/trends/series?select=queue_waiting";
        for path in [&depth, &capacity] {
            one.get(path).expect(200);
            other.get(path).expect_problem(404, "unknown_queue");
        }
        one.get(series).expect(200);
        other.get(series).expect_problem(404, "unknown_series");

        let tenant = new_tenant(client);
        let with = |scope: &str| client.with_token(&new_secret(client, &tenant, &[scope]));
        let (queues, series_reader) = (with("queue:read"), with("series:read"));
        for path in [&depth, &capacity, "/v1/trends/worker-efficiency"] {
            let refused = series_reader.get(path).expect_problem(403, "forbidden");
            assert_eq!(refused["scope"], "queue:read");
            assert_ne!(queues.get(path).status, 403);
        }
        let refused = queues.get(series).expect_problem(403, "forbidden");
        assert_eq!(refused["scope"], "series:read");
        client.stranger().get(&depth).expect_problem(401, "unauthenticated");
    });
}

/// Two a second arrive; each takes 1.25 attempts of 0.4 seconds: one worker is just busy.
fn record_work(shop: &Client<'_>, queue: &str) {
    let each = |part: f64| move |second: i64| float(second) * part;
    for (name, part) in [
        ("pushed_total", 2.0),
        ("done_total", 1.9),
        ("failed_total", 0.4),
        ("crashed_total", 0.2),
        ("given_up_total", 0.1),
        ("attempt_seconds_total", 1.0),
    ] {
        record(shop, &format!("queue_{name}"), &json!({ "queue": queue }), each(part));
    }
}

/// What follows from that work, with two workers and one around.
fn check_capacity(told: &Value) {
    assert_eq!(
        names(told),
        [
            "arrivals_per_minute",
            "arrivals_per_second",
            "attempts_per_job",
            "available",
            "drain_seconds",
            "expected_wait_seconds",
            "measured_seconds",
            "paused",
            "period_seconds",
            "recommendation",
            "running",
            "service_rate_per_second",
            "service_seconds",
            "target_wait_seconds",
            "text",
            "utilisation",
            "waiting",
            "what_if",
            "workers",
            "workers_needed",
            "workers_shared",
        ]
    );
    assert_eq!((&told["available"], &told["workers"]), (&json!(true), &json!(2)), "{told}");
    assert_eq!((&told["period_seconds"], &told["measured_seconds"]), (&json!(900), &json!(900)));
    near(&told["arrivals_per_second"], 2.0);
    near(&told["arrivals_per_minute"], 120.0);
    near(&told["attempts_per_job"], 1.25);
    near(&told["service_seconds"], 0.4);
    near(&told["service_rate_per_second"], 2.0);
    near(&told["utilisation"], 0.5);
    near(&told["target_wait_seconds"], 10.0);
    assert_eq!(told["workers_needed"], json!(2), "one alone would fall behind: {told}");
    let what_if = told["what_if"].as_array().unwrap();
    let workers: Vec<_> = what_if.iter().map(|one| one["workers"].as_u64().unwrap()).collect();
    assert_eq!(workers, [1, 2, 3]);
    assert_eq!(
        (&what_if[0]["drain_seconds"], &what_if[1]["drain_seconds"]),
        (&Value::Null, &told["drain_seconds"])
    );
    assert!(
        told["drain_seconds"].as_f64().unwrap() > what_if[2]["drain_seconds"].as_f64().unwrap()
    );
    assert!(!text(&told["text"]).is_empty());
}

#[test]
fn capacity_is_what_arrives_and_what_workers_do_about_it() {
    by_both_doors(|client| {
        let (shop, queue) = (shop(client), fresh("queue"));
        for _ in 0..12 {
            shop.post("/v1/jobs", &json!({ "queue": queue, "payload": 1 })).expect(201);
        }
        let path = format!("/v1/queues/{queue}/capacity");
        let told = shop.get(&path).expect(200);
        assert_eq!((&told["available"], &told["workers"]), (&json!(false), &json!(0)), "{told}");
        assert_eq!((&told["waiting"], &told["running"]), (&json!(12), &json!(0)));
        assert_eq!((&told["arrivals_per_second"], &told["what_if"]), (&Value::Null, &json!([])));
        assert_eq!(told["recommendation"]["advice"], json!("unknown"));
        assert!(text(&told["reason"]).contains("was recorded"), "{told}");
        assert!(text(&told["text"]).contains("12 jobs wait"), "{told}");

        record_work(&shop, &queue);
        for worker in ["a", "b"] {
            let beat = json!({ "queues": [queue], "state": "idle" });
            shop.post(&format!("/v1/workers/{worker}/beat"), &beat).expect(200);
        }
        let told = shop.get(&format!("{path}?target_wait=10s&around=1")).expect(200);
        check_capacity(&told);
        shop.post(&format!("/v1/queues/{queue}/pause"), &json!({})).expect(200);
        let target = json!({ "target_wait": "5m" });
        let change = shop.request("PATCH", &format!("/v1/queues/{queue}")).json(&target);
        shop.send(&change).expect(200);
        let told = shop.get(&path).expect(200);
        assert_eq!((&told["paused"], &told["target_wait_seconds"]), (&json!(true), &json!(300.0)));
        assert!(text(&told["text"]).starts_with("The queue is paused"), "{told}");
    });
}
