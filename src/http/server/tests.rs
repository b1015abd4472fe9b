//! What the machine of a test says, as clients and series see it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::app::throttle::Peer;
use crate::base::time::Clock as _;
use crate::exec::worker::Worker as _;
use crate::http::accept::Server;
use crate::http::recorder::Recorder;
use crate::http::routes::ROUTES;
use crate::testing::app::World;

/// A server with a recorder, on a machine that a test decides about.
struct Stage {
    world: World,
    server: Arc<Server>,
    recorder: Recorder,
}

impl Stage {
    /// Before anything was read.
    fn new() -> Stage {
        let world = World::new(1);
        let server = world.server(ROUTES);
        let recorder = Recorder::new(server.edge());
        Stage { world, server, recorder }
    }

    /// Lets ten seconds pass, at the end of which the recorder steps.
    fn pass(&mut self) {
        self.world.clock.advance(Duration::from_secs(10));
        self.step();
    }

    fn step(&mut self) {
        self.recorder.step(self.world.clock.now());
    }

    /// What is said to a request: its status and its text.
    fn ask(&self, head: &str, body: &str) -> (u16, String) {
        let request = format!(
            "{head} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.world.admin.expose(),
            body.len()
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let said = runtime.block_on(async {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let serving = Arc::clone(&self.server).serve_stream(theirs, Peer::Local);
            let talking = async {
                let (mut reader, mut writer) = tokio::io::split(ours);
                writer.write_all(request.as_bytes()).await.unwrap();
                let mut said = String::new();
                reader.read_to_string(&mut said).await.unwrap();
                said
            };
            let both = async { tokio::join!(serving, talking).1 };
            tokio::time::timeout(Duration::from_secs(20), both).await.unwrap()
        });
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        (head["HTTP/1.1 ".len()..][..3].parse().unwrap(), body.to_owned())
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(&format!("GET {path}"), "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The code with which it is refused.
    fn refusal(&self, path: &str) -> String {
        let (status, body) = self.ask(&format!("GET {path}"), "");
        assert_eq!(status, 503, "{path}: {body}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        problem["code"].as_str().unwrap().to_owned()
    }

    /// The values of a query over all that was recorded, by their labels.
    fn query(&self, select: &str, function: &str) -> Vec<(Value, Vec<f64>)> {
        let select = select.bytes().fold(String::new(), |mut text, byte| {
            write!(text, "%{byte:02x}").unwrap();
            text
        });
        let path = format!(
            "/v1/series/query?select={select}&fn={function}&from=1700000000&to=1700000100&step=10s"
        );
        let answer = self.get(&path);
        let series = answer["series"].as_array().unwrap();
        let values = |line: &Value| {
            let points = line["points"].as_array().unwrap();
            points.iter().filter_map(|point| point[1].as_f64()).collect()
        };
        series.iter().map(|line| (line["labels"].clone(), values(line))).collect()
    }
}

#[test]
fn before_the_first_interval_is_over_there_is_no_health_and_nobody_invents_one() {
    let mut stage = Stage::new();
    assert_eq!(stage.refusal("/v1/server"), "starting");
    assert_eq!(stage.refusal("/v1/server/health"), "starting");
    stage.world.machine.set_busy(0, 1_000);
    stage.step();
    let server = stage.get("/v1/server");
    assert_eq!(server["interval_ms"], Value::Null);
    assert_eq!(server["cpu"]["usage_percent"], Value::Null);
    assert_eq!(server["cpu"]["cores"], 1);
    assert_eq!(stage.refusal("/v1/server/health"), "starting");
    stage.pass();
    assert_eq!(stage.get("/v1/server/health")["status"], "healthy");
}

#[test]
fn the_machine_is_told_as_it_was_read() {
    let mut stage = Stage::new();
    let machine = stage.world.machine.clone();
    machine.set_busy(0, 1_000);
    machine.set_available(700);
    machine.set_disk(900_000);
    machine.set_received(0, 0);
    stage.step();
    machine.set_busy(333, 1_667);
    machine.set_received(5_000, 1_234);
    stage.pass();
    let server = stage.get("/v1/server");
    let expected = json!({
        "usage_percent": 33.3, "user_percent": 33.3, "system_percent": 0.0, "iowait_percent": 0.0,
        "steal_percent": 0.0, "idle_percent": 66.7, "cores": 1, "usable_cores": 1.0,
        "load_1": null, "load_5": null, "load_15": null,
    });
    assert_eq!(server["cpu"], expected);
    assert_eq!(server["interval_ms"], 10_000);
    assert_eq!(server["at"], "2023-11-14T22:13:30.000Z");
    assert_eq!(server["memory"]["total_bytes"], 1_000_u64 << 20);
    assert_eq!(server["memory"]["usage_percent"], 30.0);
    let swap = json!({
        "total_bytes": 0, "used_bytes": 0, "usage_percent": null,
        "read_bytes_per_second": null, "written_bytes_per_second": null,
    });
    assert_eq!(server["swap"], swap);
    let disk = &server["disks"][0];
    let told = (&disk["mountpoint"], &disk["usage_percent"], &disk["inodes_usage_percent"]);
    assert_eq!(told, (&json!("/"), &json!(90.0), &json!(10.0)));
    assert_eq!(disk["read_bytes_per_second"], Value::Null, "its device is not known");
    let network = server["network"].as_array().unwrap();
    let received: Vec<_> = network
        .iter()
        .map(|one| (one["interface"].clone(), one["receive_bytes_per_second"].clone()))
        .collect();
    assert_eq!(received, [(json!("eth0"), json!(123.4)), (json!("lo"), json!(500.0))]);
    assert_eq!(server["pressure"], json!({ "cpu": null, "memory": null, "io": null }));
    assert_eq!(server["descriptors"], Value::Null);
    let unavailable = server["unavailable"].as_array().unwrap();
    assert!(unavailable.contains(&json!("pressure_io")), "{unavailable:?}");

    let health = stage.get("/v1/server/health");
    assert_eq!((&health["status"], &health["score"]), (&json!("warning"), &json!(55.0)));
    let line = &health["deductions"][0];
    let expected = json!({
        "signal": "disk", "value": 90.0, "unit": "percent", "of": "/", "warn": 85.0, "crit": 95.0,
        "points": 45.0, "level": "warning", "since": "2023-11-14T22:13:20.000Z",
        "text": "the disk of / is 90 % full: see what is large with: sudo du -xh / | sort -h | tail",
    });
    assert_eq!(*line, expected);
    assert_eq!(
        health["text"],
        "the disk of / is 90 % full: see what is large with: sudo du -xh / | sort -h | tail"
    );
    assert!(health["unavailable"].as_array().unwrap().contains(&json!("psi_io")), "{health}");
}

#[test]
fn the_five_panels_of_a_shop_are_plain_queries() {
    let mut stage = Stage::new();
    let machine = stage.world.machine.clone();
    machine.set_available(400);
    machine.set_disk(250_000);
    for (moment, busy) in [0_u64, 250, 750, 1_500].into_iter().enumerate() {
        let moment = u64::try_from(moment).unwrap();
        machine.set_busy(busy, 10_000 + moment * 1_000 - busy);
        machine.set_received(moment * 7_000, moment * 20_000);
        if moment == 0 {
            stage.step();
        } else {
            stage.pass();
        }
        let counted = |status: &str, value: u64| {
            let labels = json!({ "status": status });
            json!({ "metric": "nginx_requests_total", "labels": labels, "value": value })
        };
        let samples = json!({ "samples": [counted("200", moment * 100), counted("500", moment)] });
        let (status, said) = stage.ask("POST /v1/series", &samples.to_string());
        assert_eq!(status, 202, "{said}");
    }
    let cpu = stage.query("server_cpu_usage_percent", "avg");
    assert_eq!(cpu, [(json!({}), vec![25.0, 50.0, 75.0])]);
    let memory = stage.query("server_memory_usage_percent", "avg");
    assert_eq!(memory, [(json!({}), vec![60.0; 3])]);
    let disk = stage.query("server_disk_usage_percent{mountpoint=\"/\"}", "avg");
    assert_eq!(disk.len(), 1, "{disk:?}");
    assert_eq!(disk[0].1, vec![25.0; 3]);
    let network = stage.query("node_network_receive_bytes_total{device!=\"lo\"}", "rate");
    assert_eq!(network.len(), 1, "{network:?}");
    assert_eq!(network[0].0["device"], "eth0");
    // A counter grows from its first sample on.
    assert_eq!(network[0].1, [0.0, 2_000.0, 2_000.0]);
    let requests = stage.query("nginx_requests_total", "rate");
    let rates: Vec<_> =
        requests.iter().map(|(labels, rates)| (labels["status"].clone(), rates.clone())).collect();
    assert_eq!(rates.len(), 2, "{rates:?}");
    assert_eq!(rates[0], (json!("200"), vec![0.0, 10.0, 10.0, 10.0]));
    assert_eq!(rates[1], (json!("500"), vec![0.0, 0.1, 0.1, 0.1]));
    let listed = stage.get("/v1/series?limit=1000");
    let names: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metric"].as_str().unwrap_or_default().to_owned())
        .collect();
    for name in [
        "server_cpu_usage_percent",
        "node_cpu_seconds_total",
        "holdfast_health_score",
        "holdfast_health_points",
    ] {
        assert!(names.iter().any(|listed| listed == name), "{name} is missing: {names:?}");
    }
}

#[test]
fn what_cannot_be_read_is_missing_and_not_zero() {
    let mut stage = Stage::new();
    stage.step();
    stage.pass();
    let (status, text) = stage.ask("GET /metrics", "");
    assert_eq!(status, 200);
    for missing in ["node_", "server_cpu", "server_memory", "holdfast_health_score"] {
        assert!(!text.contains(missing), "{missing} is told: {text}");
    }
    let server = stage.get("/v1/server");
    for unknown in ["memory", "swap", "disks", "network", "oom_kills", "uptime_seconds"] {
        assert_eq!(server[unknown], Value::Null, "{unknown}");
    }
    let health = stage.get("/v1/server/health");
    assert_eq!(health["unavailable"].as_array().unwrap().len(), 15);
    assert_eq!(health["text"], "nothing of this server could be read, so nobody knows how it is");
}

#[test]
fn metrics_tell_the_health_with_points_that_add_up() {
    let mut stage = Stage::new();
    let machine = stage.world.machine.clone();
    machine.set_busy(0, 1_000);
    machine.set_disk(970_000);
    stage.step();
    machine.set_busy(800, 1_200);
    stage.pass();
    let (_, text) = stage.ask("GET /metrics", "");
    let value = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
    let points = text.lines().filter(|line| line.starts_with("holdfast_health_points{"));
    let points: Vec<_> = points.map(value).collect();
    let score = text.lines().find(|line| line.starts_with("holdfast_health_score ")).map(value);
    let sum: f64 = points.iter().sum();
    assert_eq!(
        points.len(),
        7,
        "cpu, steal, disk, inodes, units, critical units, and the cap: {text}"
    );
    let score = score.unwrap();
    assert!((100.0 - sum - score).abs() < 1e-9 && score <= 40.0, "{score} and {points:?}");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let names: std::collections::BTreeSet<_> =
        lines.iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
    assert_eq!(names.len(), lines.len(), "each family once");
    assert!(lines.contains(&"# TYPE server_cpu_usage_percent gauge"), "{lines:?}");
}

#[test]
fn a_machine_that_is_not_read_any_more_is_not_told_any_more() {
    let mut stage = Stage::new();
    let machine = stage.world.machine.clone();
    machine.set_busy(0, 1_000);
    stage.step();
    stage.pass();
    stage.get("/v1/server/health");
    machine.set_panics(true);
    let recorded = |stage: &Stage| stage.world.app.series().figures().counts.accepted;
    let before = recorded(&stage);
    stage.pass();
    assert!(before < recorded(&stage), "everything else is recorded");
    assert_eq!(stage.refusal("/v1/server"), "not_read");
    assert_eq!(stage.refusal("/v1/server/health"), "not_read");
    let (_, text) = stage.ask("GET /metrics", "");
    assert!(text.contains("\nholdfast_host_panics_total 1\n") && !text.contains("node_"), "{text}");

    machine.set_panics(false);
    stage.pass();
    stage.pass();
    assert_eq!(stage.get("/v1/server/health")["status"], "healthy");
    stage.world.clock.advance(Duration::from_secs(61));
    assert_eq!(stage.refusal("/v1/server/health"), "not_read", "the recorder hangs");
}
