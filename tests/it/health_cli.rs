//! `holdfast health`, `server`, `trend` and `queue capacity` against a stand-in: what they ask for, what they show, and
//! how they end.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::stand_in::StandIn;
use crate::support::{Ran, Server, finish, run, wait_for};

fn on(server: &StandIn, arguments: &[&str]) -> Ran {
    finish(server.command(arguments), "")
}

fn queue(name: &str, waiting: u64) -> Value {
    json!({
        "queue": name, "waiting": waiting, "delayed": 0, "running": 1, "failed": 0, "paused": false,
        "oldest_waiting_ms": 90_000, "pushed_per_minute": 6.0, "done_per_minute": 4.5,
        "failed_per_minute": 0.0, "failure_rate": 0.0, "workers": 1
    })
}

/// A server with which all is well; what is said later is heard first.
fn well() -> StandIn {
    let server = StandIn::start();
    let status = json!({
        "state": "ready", "disk": { "state": "ok", "total_bytes": 9, "free_bytes": 1 << 30 },
        "stores": [], "series": { "log_state": "ok" }
    });
    server.say("GET /v1/status", 99, 200, status);
    let health = json!({
        "status": "healthy", "score": 96.5, "deductions": [], "unavailable": [], "text": "All is well."
    });
    server.say("GET /v1/server/health", 99, 200, health);
    let page = |items: Value| json!({ "items": items, "next": null });
    server.say("GET /v1/queues?", 99, 200, page(json!([queue("mail", 3)])));
    let worker = json!({ "id": "w", "state": "idle", "last_seen_at": "t" });
    server.say("GET /v1/workers?", 99, 200, page(json!([worker])));
    server.say("GET /v1/series/query?", 99, 200, json!({ "series": [] }));
    server
}

#[track_caller]
fn ends(ran: &Ran, code: i32, line: &str) {
    assert_eq!((ran.code, ran.out.lines().next()), (code, Some(line)), "{ran:?}");
}

#[test]
fn health_is_0_when_all_is_well_and_asks_for_everything_once() {
    let server = well();
    let ran = on(&server, &["health", "--tenant", "acme"]);
    let line = "HEALTHY: the machine has 96.5 of 100 points: All is well; 3 jobs wait in queue mail; \
                4.5 jobs a minute are done";
    ends(&ran, 0, line);
    assert_eq!((ran.err.as_str(), ran.out.lines().count()), ("", 10), "{}", ran.out);
    let mut lines: Vec<String> = server.calls("").into_iter().map(|call| call.line).collect();
    lines.sort();
    let expected = [
        "GET /v1/queues?limit=1000",
        "GET /v1/series/query?select=queue_given_up_total&fn=increase&by=queue&from=-1h&to=now&step=1m",
        "GET /v1/server/health",
        "GET /v1/status",
        "GET /v1/workers?limit=1000",
    ];
    assert_eq!(lines, expected);
    let tenant = |line: &str| {
        let headers = server.calls(line).pop().unwrap().headers;
        headers.into_iter().find(|header| header.starts_with("holdfast-tenant")).unwrap()
    };
    assert_eq!(tenant("/v1/queues"), "holdfast-tenant: acme");
    assert_eq!(tenant("/v1/series"), "holdfast-tenant: acme");
    assert_eq!(tenant("/v1/status"), "holdfast-tenant: default", "the machine is nobody else's");
    let json: Value = serde_json::from_str(&on(&server, &["health", "--json"]).out).unwrap();
    assert_eq!(json["status"], "healthy");
    let names: Vec<&str> =
        json["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["server", "disk", "host", "queue_depth", "failed", "workers", "rate"]);
    assert_eq!(
        json["checks"][3],
        json!({
            "name": "queue_depth", "status": "healthy", "value": 3,
            "text": "3 jobs wait in queue mail"
        })
    );
}

#[test]
fn health_looks_at_every_page_of_queues() {
    let server = well();
    let page = |name: &str, waiting: u64, next: Value| json!({ "items": [queue(name, waiting)], "next": next });
    server.say("GET /v1/queues?limit=1000", 1, 200, page("a", 7, json!("c 1")));
    server.say("cursor=c%201", 1, 200, page("mail", 132, json!(null)));
    ends(&on(&server, &["health"]), 1, "WARNING: 132 jobs wait in queue mail (more than 100)");
    assert_eq!(on(&server, &["health", "--queue-depth", "2"]).code, 1);
    assert_eq!(on(&server, &["health", "--queue-depth", "3"]).code, 0);
    // A list that never ends is no reason to go on for ever.
    server.say("GET /v1/queues?", 10_000, 200, page("a", 7, json!("again")));
    let ran = on(&server, &["health"]);
    ends(
        &ran,
        3,
        "UNKNOWN: how many jobs wait is not known: the list of /v1/queues does not end; and 2 more, see below",
    );
}

#[test]
fn what_is_worst_decides_how_health_ends() {
    let server = well();
    let points =
        json!({ "series": [{ "labels": { "queue": "mail" }, "points": [[0, 8], [60_000, 3.0]] }] });
    server.say("GET /v1/series/query?", 4, 200, points);
    let ran = on(&server, &["health"]);
    let told = "WARNING: 11 jobs failed for good in the last hour (more than 10): mail 11; to see why: holdfast queue failed";
    ends(&ran, 1, told);
    assert_eq!(on(&server, &["health", "--failed", "11"]).code, 0);

    server.say("GET /v1/server/health", 1, 503, json!({ "code": "starting", "detail": "soon" }));
    let ran = on(&server, &["health"]);
    assert_eq!(ran.code, 1, "what is not known yet does not hide a warning: {ran:?}");
    let mut alone = queue("mail", 5);
    (alone["workers"], alone["running"], alone["done_per_minute"]) = (json!(0), json!(0), json!(0));
    server.say("GET /v1/queues?", 1, 200, json!({ "items": [alone], "next": null }));
    let ran = on(&server, &["health"]);
    let line = "CRITICAL: nobody works on 5 jobs in queue mail; 1 worker is alive; and one more, see below";
    ends(&ran, 2, line);
    assert!(ran.out.contains("\nfailed       warning   11 jobs"), "{}", ran.out);

    let critical = json!({ "status": "critical", "score": 32.0, "text": "The disk / is full." });
    server.say("GET /v1/server/health", 2, 200, critical);
    ends(
        &on(&server, &["health"]),
        2,
        "CRITICAL: the machine has 32 of 100 points: The disk / is full",
    );
    let json: Value = serde_json::from_str(&on(&server, &["health", "--json"]).out).unwrap();
    assert_eq!((&json["status"], &json["checks"][2]["value"]), (&json!("critical"), &json!(32.0)));
}

#[test]
fn what_is_not_known_is_3_unless_something_is_worse() {
    let server = well();
    server.say("GET /v1/server/health", 1, 503, json!({ "code": "starting", "detail": "soon" }));
    let ran = on(&server, &["health"]);
    let told = "UNKNOWN: the health of the machine is not known: the server started a moment ago, the first readings are under way";
    ends(&ran, 3, told);
    server.say(
        "GET /v1/",
        99,
        403,
        json!({ "code": "forbidden", "detail": "this token lacks series:read" }),
    );
    let ran = on(&server, &["health"]);
    ends(
        &ran,
        3,
        "UNKNOWN: its room is not known: this token lacks series:read (forbidden); and 5 more, see below",
    );
    assert!(ran.out.contains("server       healthy  it serves requests"), "{}", ran.out);
    assert_eq!(server.calls("GET /readyz").len(), 1, "that is for everybody");
    server.say("GET /readyz", 1, 503, json!({ "code": "read_only", "detail": "x" }));
    assert_eq!(on(&server, &["health"]).code, 2);
}

#[test]
fn usage_errors_of_health_are_3_and_a_server_that_is_away_is_2() {
    let server = well();
    for arguments in [
        &["health", "--jsno"][..],
        &["health", "extra"],
        &["health", "--queue-depth", "many"],
        &["health", "--failed", "-1"],
        &["health", "--timeout"],
    ] {
        let ran = on(&server, arguments);
        assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains("error:"), "{arguments:?}: {ran:?}");
    }
    for timeout in ["soon", "0"] {
        let ran = on(&server, &["health", "--timeout", timeout]);
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(ran.out.starts_with("UNKNOWN: --timeout "), "{ran:?}");
    }
    assert!(server.calls("").is_empty(), "nothing was asked");
    let ran = run(&["health", "--help"]);
    assert!(ran.code == 0 && ran.out.contains("3 unknown or usage"), "{ran:?}");
    assert_eq!(run(&["health", "--url", "nonsense"]).code, 3);

    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let ran = run(&["health", "--data-dir", folder]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.out.starts_with("CRITICAL: no server runs on the data directory"), "{ran:?}");

    server.set_away(true);
    let ran = on(&server, &["health", "--json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (ran.code, &json["status"], &json["checks"][0]["name"]),
        (2, &json!("critical"), &json!("server"))
    );
}

#[test]
fn what_is_no_answer_of_ours_is_not_known() {
    for answer in [json!("hello"), json!([]), json!(7), json!(null)] {
        let server = well();
        for path in ["GET /v1/queues?", "GET /v1/workers?", "GET /v1/series/query?"] {
            server.say(path, 9, 200, answer.clone());
        }
        let ran = on(&server, &["health"]);
        assert_eq!(ran.code, 3, "{answer}: {ran:?}");
        assert!(ran.out.starts_with("UNKNOWN: ") && ran.err.is_empty(), "{answer}: {ran:?}");
    }
}

#[test]
fn whoever_goes_away_before_it_is_told_hears_nothing_and_nobody_panics() {
    for (arguments, code) in [(["health", "--json"], 3), (["queue", "list"], 1)] {
        let server = well();
        let mut command = server.command(&arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!((ended.status.code(), said.as_str()), (Some(code), ""), "{arguments:?}");
    }
}

#[test]
fn a_server_that_never_answers_does_not_hold_health_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "hf_x\n").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let token = token.to_str().unwrap();
    let ran = run(&["health", "--url", &url, "--token-file", token, "--timeout", "300ms"]);
    ends(&ran, 2, "CRITICAL: the server did not answer within 300ms");
}

fn readings() -> Value {
    json!({
        "at": "2026-11-20T12:00:00.000Z", "interval_ms": 10_000,
        "cpu": {
            "usage_percent": 38.25, "user_percent": 30.0, "system_percent": 6.0, "iowait_percent": 1.0,
            "steal_percent": 0.25, "idle_percent": 60.75, "cores": 2, "load_1": 1.2, "load_5": 0.9, "load_15": 0.8
        },
        "memory": {
            "total_bytes": 4_u64 << 30, "available_bytes": 1_u64 << 30, "used_bytes": 3_u64 << 30,
            "usage_percent": 75.0, "free_bytes": 1 << 28, "cached_bytes": 1 << 29, "buffers_bytes": 1 << 20
        },
        "swap": {
            "total_bytes": 1 << 30, "used_bytes": 1 << 20, "usage_percent": 0.1,
            "read_bytes_per_second": 0.0, "written_bytes_per_second": 4096.5
        },
        "disks": [{
            "mountpoint": "/", "device": "/dev/vda1", "fstype": "ext4", "total_bytes": 40_u64 << 30,
            "used_bytes": 30_u64 << 30, "available_bytes": 8_u64 << 30, "usage_percent": 78.9,
            "inodes_usage_percent": 12.0, "read_bytes_per_second": 0.0,
            "written_bytes_per_second": 1_048_576.0, "busy_percent": 3.5
        }],
        "network": [{
            "interface": "eth0", "receive_bytes_per_second": 2048.0, "transmit_bytes_per_second": 512.0,
            "receive_packets_per_second": 10.5, "transmit_packets_per_second": 8.0,
            "receive_errors_per_second": 0.0, "transmit_errors_per_second": 0.0,
            "receive_drops_per_second": 0.5, "transmit_drops_per_second": 0.0
        }],
        "pressure": { "cpu": null, "memory": { "some_avg60": 1.5, "full_avg60": 0.0 }, "io": { "some_avg60": 0.0, "full_avg60": 0.0 } },
        "oom_kills": 0, "descriptors": { "open": 1200, "max": 100_000 },
        "uptime_seconds": 200_000.5, "booted_at": "2026-11-18T04:26:40.000Z",
        "process": {
            "resident_bytes": 50 << 20, "cpu_percent": 1.25, "open_descriptors": 40, "max_descriptors": 1024, "threads": 12
        },
        "unavailable": ["pressure_cpu"]
    })
}

#[test]
fn server_shows_the_readings_and_why_the_machine_is_not_healthy() {
    let server = StandIn::start();
    server.say("GET /v1/server", 9, 200, readings());
    let health = json!({
        "status": "warning", "score": 62.5, "text": "The memory runs short.", "at": "t",
        "deductions": [
            { "signal": "memory", "value": 85.0, "unit": "percent", "warn": 80, "crit": 90, "points": 37.5,
              "level": "warning", "since": "2026-11-20T11:00:00.000Z", "text": "85 % of the memory is in use" },
            { "signal": "cpu", "value": 20.0, "unit": "percent", "warn": 70, "crit": 90, "points": 0.0,
              "level": "fine", "since": null, "text": "fine" }
        ],
        "unavailable": ["psi_cpu"]
    });
    server.say("GET /v1/server/health", 2, 200, health.clone());
    let ran = on(&server, &["server"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    let expected = "\
warning, 62.5 of 100: The memory runs short.

POINTS  SIGNAL  LEVEL    SINCE                     WHY
37.5    memory  warning  2026-11-20T11:00:00.000Z  85 % of the memory is in use
not counted, because not known: psi_cpu

cpu          38.2% of 2 cores: user 30.0%, system 6.0%, iowait 1.0%, steal 0.2%, idle 60.8%
load         1.2, 0.9, 0.8 (1, 5 and 15 minutes)
memory       75.0% of 4.0 GiB: 3.0 GiB used, 1.0 GiB available, 256.0 MiB free, 512.0 MiB cached, 1.0 MiB buffers
swap         0.1% of 1.0 GiB: 1.0 MiB used; 0 B/s read, 4.0 KiB/s written
pressure     cpu n/a, memory some 1.5% full 0.0%, io some 0.0% full 0.0% (of the last minute)
kernel       1200 of 100000 descriptors open, 0 processes killed for want of memory
up           2d 7h, since 2026-11-18T04:26:40.000Z
holdfast     50.0 MiB of memory, 1.2% of a processor, 40 of 1024 descriptors open, 12 threads

DISK  DEVICE     TYPE  SIZE      USED      AVAILABLE  USAGE  INODES  READ/S  WRITTEN/S  BUSY
/     /dev/vda1  ext4  40.0 GiB  30.0 GiB  8.0 GiB    78.9%  12.0%   0 B     1.0 MiB    3.5%

NETWORK  RECEIVED/S  SENT/S  PACKETS IN/OUT  ERRORS IN/OUT  DROPPED IN/OUT
eth0     2.0 KiB     512 B   10.5 / 8        0 / 0          0.5 / 0

n/a means that it is not known:
  pressure_cpu: the kernel does not tell it (no /proc/pressure; its option psi=1 turns it on)
";
    assert_eq!(ran.out, expected);
    let json: Value = serde_json::from_str(&on(&server, &["server", "--json"]).out).unwrap();
    assert_eq!(json, json!({ "server": readings(), "health": health }));

    server.say("GET /v1/server/health", 2, 503, json!({ "code": "starting", "detail": "soon" }));
    let ran = on(&server, &["server"]);
    assert!(ran.code == 0 && ran.out.starts_with("health is not known yet"), "{ran:?}");
    let json: Value = serde_json::from_str(&on(&server, &["server", "--json"]).out).unwrap();
    assert_eq!(json["health"], json!(null));
    server.say("GET /v1/server", 1, 403, json!({ "code": "forbidden", "detail": "series:read" }));
    assert_eq!(on(&server, &["server"]).code, 4);
}

fn trend() -> Value {
    let noon: i64 = 1_763_640_000_000;
    let points: Vec<Value> = (0..60).map(|step| json!([noon + step * 60_000, 2 * step])).collect();
    let ahead: Vec<Value> = (60..75)
        .map(|step| json!([noon + step * 60_000, 2 * step, 2 * step - 5, 2 * step + 5]))
        .collect();
    json!({
        "available": true, "period_seconds": 3600, "interval_seconds": 60, "data_points": 60,
        "resolution": "raw", "text": "It grows by 2 jobs a minute.", "points": points,
        "statistics": { "current": 118, "average": 59, "median": 59, "min": 0, "max": 118, "std_dev": 34.9 },
        "trend": {
            "slope": 2.0 / 60.0, "slope_unit": "per second", "direction": "increasing", "r2": 1.0,
            "confidence": 1.0, "p_value": 0.0, "slope_interval": [0.033, 0.034], "autocorrelation": 0.0,
            "effective_points": 60.0, "unstable": false, "theil_sen": null,
            "since": "2025-11-20T12:00:00.000Z", "changes": []
        },
        "forecast": {
            "next_value": 120.0, "next_timestamp": 1_763_643_600, "interval": [115.0, 125.0],
            "method": "line", "points": ahead
        },
        "anomaly": null
    })
}

#[test]
fn a_trend_is_told_and_drawn_where_somebody_sees_it() {
    let server = StandIn::start();
    server.say("GET /v1/trends/", 9, 200, trend());
    let asked = || server.calls("").pop().unwrap().line;
    let ran = on(
        &server,
        &["trend", "queue-depth", "a/b", "--period", "1h", "--threshold", "1e3", "--when", "above"],
    );
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert_eq!(asked(), "GET /v1/trends/queue-depth/a%2Fb?period=1h&threshold=1e3&when=above");
    let expected = "\
depth of queue a/b, 1h in steps of 1m: 60 points
It grows by 2 jobs a minute.

now          118; average 59, median 59, from 0 to 118, standard deviation 34.9
trend        increasing: +2 a minute (95%: 1.98 to 2.04), p < 0.001, R2 1.00, worth 60 independent points
last stretch since 2025-11-20T12:00Z
next         120 at 2025-11-20T13:00Z (95%: 115 to 125), along the line
";
    assert_eq!(ran.out, expected, "without a terminal nothing is drawn");
    let ran = on(&server, &["trend", "throughput", "mail", "--plot"]);
    assert_eq!(asked(), "GET /v1/trends/throughput/mail?points=1");
    assert!(
        ran.out.contains("\nthroughput of queue mail  last 118\n200 ")
            && ran.out.ends_with(" UTC\n"),
        "{}",
        ran.out
    );
    let ran = on(&server, &["trend", "workers", "--interval", "5m"]);
    assert_eq!(asked(), "GET /v1/trends/worker-efficiency?interval=5m");
    assert!(ran.out.contains("\nnow          118%; average 59%"), "{}", ran.out);
    let ran = on(&server, &["trend", "workers", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), trend());

    let mut item = trend();
    (item["metric"], item["labels"]) = (json!("disk"), json!({ "mountpoint": "/" }));
    let items: Vec<Value> = (0..6).map(|_| item.clone()).collect();
    server.say("GET /v1/trends/series", 9, 200, json!({ "items": items }));
    let ran = on(&server, &["trend", "series", "disk", "--fn", "max", "--plot"]);
    assert_eq!(asked(), "GET /v1/trends/series?select=disk&fn=max&points=1");
    assert_eq!(ran.out.matches("disk{mountpoint=\"/\"}, 1h").count(), 6, "{}", ran.out);
    assert_eq!(ran.out.matches("disk{mountpoint=\"/\"}  last").count(), 4, "a few are drawn");
    assert_eq!(ran.err, "2 more are not drawn; choose fewer to see them\n");
    server.say("GET /v1/trends/series", 1, 200, json!({ "items": [] }));
    let ran = on(&server, &["trend", "series", "disk"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert!(ran.err.contains("no such series"), "{ran:?}");
}

#[test]
fn a_trend_that_cannot_be_told_says_why() {
    let server = StandIn::start();
    let little = json!({ "available": false, "reason": "there are no samples in this period", "data_points": 0 });
    server.say("GET /v1/trends/", 1, 200, little);
    let ran = on(&server, &["trend", "queue-depth", "mail", "--plot"]);
    let expected = "depth of queue mail\nnothing can be said: there are no samples in this period (0 points)\n";
    assert_eq!((ran.code, ran.out.as_str()), (0, expected), "{ran:?}");
    server.say(
        "GET /v1/trends/",
        1,
        404,
        json!({ "code": "unknown_queue", "detail": "there is no queue mail" }),
    );
    let ran = on(&server, &["trend", "queue-depth", "mail"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (1, "holdfast: there is no queue mail (unknown_queue)\n")
    );
    for arguments in [
        &["trend"][..],
        &["trend", "queue-depth"],
        &["trend", "workers", "mail"],
        &["trend", "queue-depth", "q", "--when", "above"],
        &["trend", "queue-depth", "q", "--threshold", "1", "--when", "around"],
        &["trend", "queue-depth", "q", "--json", "--plot"],
    ] {
        let before = server.calls("").len();
        let ran = on(&server, arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}: {ran:?}");
        assert_eq!(server.calls("").len(), before);
    }
}

#[test]
fn the_capacity_of_a_queue_is_told() {
    let server = StandIn::start();
    let body = json!({
        "available": true, "period_seconds": 900, "arrivals_per_minute": 30.0, "attempts_per_job": 1.0,
        "service_seconds": 3.5, "workers": 2, "waiting": 7, "running": 2, "utilisation": 0.92,
        "expected_wait_seconds": 2.5, "target_wait_seconds": 60.0, "workers_needed": 2, "drain_seconds": 40.0,
        "what_if": [{ "workers": 1, "utilisation": 1.84, "drain_seconds": null }],
        "recommendation": { "advice": "keep", "workers": 2 }, "text": "Two workers keep up."
    });
    server.say("/capacity", 2, 200, body.clone());
    let ran = on(
        &server,
        &["queue", "capacity", "a/b", "--target-wait", "60s", "--period", "15m", "--around", "1"],
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    let line = server.calls("").pop().unwrap().line;
    assert_eq!(line, "GET /v1/queues/a%2Fb/capacity?target_wait=60s&period=15m&around=1");
    assert!(
        ran.out.starts_with("Two workers keep up.\n\n")
            && ran.out.ends_with("1        184.0%      never\n"),
        "{}",
        ran.out
    );
    let ran = on(&server, &["queue", "capacity", "mail", "--json"]);
    assert_eq!(server.calls("").pop().unwrap().line, "GET /v1/queues/mail/capacity");
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), body);
}

#[test]
fn the_real_server_says_what_these_commands_understand() {
    let server = Server::start();
    let data_dir = server.data_dir();
    let on = |arguments: &[&str]| {
        run(&[&["--data-dir", data_dir.to_str().unwrap()], arguments].concat())
    };
    let check = |arguments: &[&str]| {
        let ran = on(&[&["health", "--json"], arguments].concat());
        let json: Value = serde_json::from_str(&ran.out).unwrap();
        let found = move |name: &str| {
            let checks = json["checks"].as_array().unwrap();
            checks.iter().find(|check| check["name"] == name).unwrap().clone()
        };
        (ran.code, found)
    };
    let (_, found) = check(&[]);
    for name in ["server", "queue_depth", "failed", "workers", "rate"] {
        assert_eq!(found(name)["status"], "healthy", "{}", found(name));
    }
    // How this machine is depends on it; that it is understood does not.
    let told = found("host")["text"].to_string();
    assert!(told.contains("of 100 points") || told.contains("a moment ago"), "{told}");

    for job in ["1", "2", "3"] {
        assert_eq!(on(&["queue", "push", "mail", job]).code, 0);
    }
    let (code, found) = check(&["--queue-depth", "2"]);
    assert_eq!(found("queue_depth")["text"], "3 jobs wait in queue mail (more than 2)");
    assert!(code == 1 || code == 2, "a full disk of this machine is worse: {code}");

    let told = wait_for("the first reading", || {
        let ran = on(&["server"]);
        (ran.code == 0).then_some(ran.out)
    });
    assert!(told.contains("\nmemory       ") && told.contains("\nDISK "), "{told}");
    let ran = on(&["trend", "queue-depth", "mail", "--threshold", "9"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.starts_with("depth of queue mail"), "{}", ran.out);
    let ran = on(&["trend", "throughput", "nobody"]);
    assert!(ran.code == 1 && ran.err.contains("unknown_queue"), "{ran:?}");
    let ran = on(&["trend", "series", "holdfast_tenants{", "--plot"]);
    assert!(ran.code == 1 && ran.err.contains("invalid_select"), "{ran:?}");
    let ran = on(&["queue", "capacity", "mail", "--around", "1"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.contains("\njobs         3 wait, 0 run\n"), "{}", ran.out);
    let scopes = ["token", "create", "reader", "--scope", "cache:read"];
    let token = server.folder().join("reader");
    std::fs::write(&token, on(&scopes).out).unwrap();
    let ran = on(&["health", "--token-file", token.to_str().unwrap()]);
    assert!(ran.code == 3 && ran.out.contains("(forbidden)"), "{ran:?}");
}
