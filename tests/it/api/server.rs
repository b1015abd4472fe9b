//! This machine: what it does, and how healthy it is. The machine is the one that runs the tests, so that figures are
//! compared with what it says itself.

use serde_json::Value;

use super::{by_both_doors, new_secret, new_tenant, text};
use crate::support::{Client, wait_until};

const PAGES: [&str; 2] = ["/v1/server", "/v1/server/health"];

/// Waits until an interval is over.
fn healthy_or_not(client: &Client<'_>) -> Value {
    wait_until("the first interval is over", || {
        let answer = client.get("/v1/server/health");
        if answer.status == 200 {
            return true;
        }
        let problem = answer.expect_problem(503, "starting");
        assert_eq!(problem["retryable"], true);
        let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=10).contains(&after), "{after}");
        false
    });
    client.get("/v1/server/health").expect(200)
}

#[test]
fn only_readers_of_the_series_of_tenant_default_see_the_machine() {
    by_both_doors(|client| {
        let reader = client.with_token(&new_secret(client, "default", &["series:read"]));
        let writer = client.with_token(&new_secret(client, "default", &["series:write"]));
        let tenant = new_tenant(client);
        let foreign = client.with_token(&new_secret(client, &tenant, &["series:read"]));
        for page in PAGES {
            client.stranger().get(page).expect_problem(401, "unauthenticated");
            let refused = writer.get(page).expect_problem(403, "forbidden");
            assert_eq!(refused["scope"], "series:read");
            let refused = foreign.get(page).expect_problem(403, "forbidden");
            assert!(text(&refused["detail"]).contains("default"), "{refused}");
            let acting = client.request("GET", page).header("Holdfast-Tenant", &tenant);
            client.send(&acting).expect_problem(403, "forbidden");
            let status = reader.get(page).status;
            assert!(status == 200 || status == 503, "{page}: {status}");
            client.get(&format!("{page}?x=1")).expect_problem(400, "unknown_parameter");
            client.post(page, &Value::Null).expect_problem(405, "method_not_allowed");
        }
    });
}

/// That figures are those of the machine that runs the test.
fn check_readings(client: &Client<'_>) {
    let server = client.get("/v1/server").expect(200);
    let cpu = &server["cpu"];
    let parts =
        ["user_percent", "system_percent", "iowait_percent", "steal_percent", "idle_percent"];
    let percent = |name: &str| cpu[name].as_f64().unwrap_or_else(|| panic!("{name}: {cpu}"));
    let all: f64 = parts.into_iter().map(percent).sum();
    assert!((all - 100.0).abs() < 0.01, "{cpu}");
    let cores = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(cores <= cpu["cores"].as_u64().unwrap(), "{cpu}");

    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = meminfo.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024;
    assert_eq!(server["memory"]["total_bytes"], total);
    for disk in server["disks"].as_array().into_iter().flatten() {
        let usage = disk["usage_percent"].as_f64();
        assert!(usage.is_none_or(|usage| (0.0..=100.0).contains(&usage)), "{disk}");
    }
    let interfaces = server["network"].as_array().unwrap();
    assert!(interfaces.iter().any(|one| one["interface"] == "lo"), "{interfaces:?}");
    let resident = server["process"]["resident_bytes"].as_u64();
    assert!(resident.is_some_and(|bytes| 1 << 20 < bytes), "{resident:?}");
    assert!(server["uptime_seconds"].as_f64().is_some_and(|seconds| 0.0 < seconds));
    let interval = server["interval_ms"].as_u64().unwrap();
    assert!((1_000..60_000).contains(&interval), "{interval}");
}

/// That word, number and points say the same.
fn check_health(health: &Value) {
    let score = health["score"].as_f64().unwrap();
    let word = match score {
        ..=40.0 => "critical",
        ..=70.0 => "warning",
        _ => "healthy",
    };
    assert_eq!(text(&health["status"]), word, "{health}");
    let deductions = health["deductions"].as_array().unwrap();
    let points: f64 = deductions.iter().map(|line| line["points"].as_f64().unwrap()).sum();
    assert!((100.0 - points - score).abs() < 1e-6, "{health}");
    assert!(!text(&health["text"]).is_empty());
    let unavailable = health["unavailable"].as_array().unwrap();
    assert!(!unavailable.iter().any(|name| name == "memory"), "{health}");
}

/// That the panels of a shop are plain queries.
fn check_series(client: &Client<'_>) {
    let panels = [
        ("server_cpu_usage_percent", "avg"),
        ("server_memory_usage_percent", "avg"),
        ("node_network_receive_bytes_total{device!=\"lo\"}", "rate"),
    ];
    for (select, function) in panels {
        let select = select.replace('{', "%7b").replace('}', "%7d").replace('"', "%22");
        let range = "from=-5m&to=now&step=10s";
        let path = format!("/v1/series/query?select={select}&fn={function}&{range}");
        let answer = client.get(&path).expect(200);
        let is_panel = |line: &Value| {
            let points = line["points"].as_array().unwrap();
            points.iter().any(|point| point[1].as_f64().is_some_and(|value| 0.0 <= value))
        };
        let lines = answer["series"].as_array().unwrap();
        // A machine may have no network at all.
        assert!(lines.iter().all(is_panel), "{answer}");
        assert!(function == "rate" || lines.len() == 1, "{answer}");
    }
}

// One test for all of it: each would wait ten seconds for the first interval.
#[test]
fn the_machine_is_told_judged_and_recorded_as_it_is() {
    by_both_doors(|client| {
        let health = healthy_or_not(client);
        check_health(&health);
        check_readings(client);
        wait_until("the moment is recorded", || {
            let list = client.get("/v1/series?match=server_cpu_usage_percent").expect(200);
            !list["items"].as_array().unwrap().is_empty()
        });
        check_series(client);
    });
}
