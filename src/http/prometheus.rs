//! The figures of this server in Prometheus' text format.
//!
//! Every family is written once, with its help and its type. Names begin with `holdfast_`; units are seconds
//! and bytes; counters end in `_total`.

use std::fmt::{Display, Write as _};
use std::sync::atomic::Ordering::Relaxed;

use super::Edge;
use super::machine::state_word;
use crate::exec::figures::HistogramFigures;

/// What Prometheus calls this text.
pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Powers of two, of nanoseconds, at which buckets of latency end: 65 us to 17 s.
const LATENCY_BUCKETS: [usize; 10] = [16, 18, 20, 22, 24, 26, 28, 30, 32, 34];

/// A family under construction.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = if labels.is_empty() {
            writeln!(self.0, "{name} {value}")
        } else {
            writeln!(self.0, "{name}{{{labels}}} {value}")
        };
    }

    /// A family of one sample.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }

    /// A family of one sample that may not be there.
    fn maybe(&mut self, name: &str, kind: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.single(name, kind, help, value);
        }
    }

    /// The buckets of a histogram of nanoseconds, in seconds.
    fn histogram(&mut self, name: &str, labels: &str, figures: &HistogramFigures) {
        let comma = if labels.is_empty() { "" } else { "," };
        for end in LATENCY_BUCKETS {
            let below: u64 = figures.buckets[..end].iter().sum();
            let le = seconds(1 << end);
            self.sample(&format!("{name}_bucket"), &format!("{labels}{comma}le=\"{le}\""), below);
        }
        let count = figures.count();
        self.sample(&format!("{name}_bucket"), &format!("{labels}{comma}le=\"+Inf\""), count);
        self.sample(&format!("{name}_sum"), labels, seconds(figures.sum));
        self.sample(&format!("{name}_count"), labels, count);
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Everything there is to tell.
pub(super) fn render(edge: &Edge) -> String {
    let mut text = Text(String::with_capacity(16 << 10));
    about(&mut text, edge);
    requests(&mut text, edge);
    connections(&mut text, edge);
    refusals(&mut text, edge);
    stores(&mut text, edge);
    pool(&mut text, edge);
    workers(&mut text, edge);
    process(&mut text, edge);
    text.0
}

fn about(text: &mut Text, edge: &Edge) {
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
    text.family("holdfast_info", "gauge", "The version.");
    text.sample("holdfast_info", version, 1);
    let uptime = edge.app.clock().mono().since(edge.started.mono);
    let help = "Time since the process began to serve.";
    text.single("holdfast_uptime_seconds", "gauge", help, uptime.as_secs_f64());
    let (tenants, tokens) = edge.app.directory().counts();
    text.single("holdfast_tenants", "gauge", "Tenants.", tenants);
    text.single("holdfast_tokens", "gauge", "Tokens.", tokens);
}

fn requests(text: &mut Text, edge: &Edge) {
    let routes = edge.figures.by_route();
    let labels = |index: usize| match edge.router.route(index) {
        Some(route) => format!("method=\"{}\",route=\"{}\"", route.verb.as_str(), route.path),
        None => "method=\"other\",route=\"other\"".to_owned(),
    };
    text.family("holdfast_http_requests_total", "counter", "Requests answered.");
    for route in &routes {
        for (status, count) in &route.answers {
            let labels = format!("{},status=\"{status}\"", labels(route.route));
            text.sample("holdfast_http_requests_total", &labels, count);
        }
    }
    let name = "holdfast_http_request_seconds";
    text.family(name, "histogram", "Time from the head of a request to its answer.");
    for route in &routes {
        text.histogram(name, &labels(route.route), &route.took_ns);
    }
    let in_flight = edge.figures.in_flight.load(Relaxed);
    let help = "Requests under way.";
    text.single("holdfast_http_requests_in_flight", "gauge", help, in_flight);
    let panics = edge.figures.panics.load(Relaxed);
    text.single("holdfast_panics_total", "counter", "Handlers that panicked.", panics);
}

fn connections(text: &mut Text, edge: &Edge) {
    let figures = edge.connections.figures();
    text.single("holdfast_connections", "gauge", "Open connections.", figures.open);
    text.single("holdfast_connections_max", "gauge", "How many there may be.", figures.max);
    let help = "Connections accepted.";
    text.single("holdfast_connections_accepted_total", "counter", help, figures.accepted);
    let name = "holdfast_connections_ended_total";
    text.family(name, "counter", "Connections that we ended, by reason.");
    text.sample(name, "reason=\"evicted\"", figures.evicted);
    text.sample(name, "reason=\"timed_out\"", figures.timed_out);
    text.sample(name, "reason=\"refused\"", figures.refused);
    let help = "Times that accepting a connection failed.";
    text.single("holdfast_accept_errors_total", "counter", help, figures.accept_errors);
}

fn refusals(text: &mut Text, edge: &Edge) {
    let refused = edge.app.refused_attempts();
    let name = "holdfast_wrong_tokens_total";
    text.family(name, "counter", "Wrong tokens, by what was answered.");
    text.sample(name, "answer=\"unauthenticated\"", refused.refused);
    text.sample(name, "answer=\"rate_limited\"", refused.throttled);
    let name = "holdfast_slow_total";
    text.family(name, "counter", "Slow work, by kind.");
    for (kind, count) in edge.app.slow().counts() {
        text.sample(name, &format!("kind=\"{}\"", kind.as_str()), count);
    }
}

fn stores(text: &mut Text, edge: &Edge) {
    let figures = edge.app.keeper().figures();
    let store = format!("store=\"{}\"", figures.name);
    let state = format!("{store},state=\"{}\"", state_word(figures.state));
    text.family("holdfast_store_state", "gauge", "Where a store stands.");
    text.sample("holdfast_store_state", &state, 1);
    let mut counter = |name: &str, help: &str, value: u64| {
        text.family(name, "counter", help);
        text.sample(name, &store, value);
    };
    counter("holdfast_store_operations_total", "Operations done.", figures.done);
    counter("holdfast_store_commits_total", "Commits since it was opened.", figures.commits);
    counter("holdfast_store_failures_total", "Times it failed.", figures.failures);
    counter("holdfast_store_reopenings_total", "Times it was opened anew.", figures.reopenings);
    counter(
        "holdfast_store_overloaded_total",
        "Calls refused: too much waited.",
        figures.overloaded,
    );
    counter("holdfast_store_disk_full_total", "Calls refused: no space.", figures.disk_full);
    counter("holdfast_store_read_only_total", "Calls refused: it had failed.", figures.read_only);
    counter("holdfast_store_panics_total", "Operations that panicked.", figures.panicked);
    let mut gauge = |name: &str, help: &str, value: u64| {
        text.family(name, "gauge", help);
        text.sample(name, &store, value);
    };
    gauge("holdfast_store_waiting", "Operations that wait.", figures.queue_ops as u64);
    gauge(
        "holdfast_store_waiting_peak",
        "The most that ever waited.",
        figures.queue_ops_peak as u64,
    );
    gauge("holdfast_store_bytes", "Length of its file.", figures.file_bytes);
    gauge(
        "holdfast_store_disk_short",
        "1 when what grows is refused.",
        u64::from(figures.disk_short),
    );
    let name = "holdfast_store_operation_seconds";
    text.family(name, "histogram", "Time of an operation with its commit.");
    text.histogram(name, &store, &figures.run_ns);
}

fn pool(text: &mut Text, edge: &Edge) {
    let figures = edge.app.pool().figures();
    text.single("holdfast_pool_threads", "gauge", "Threads of the CPU pool.", figures.threads);
    text.single("holdfast_pool_waiting", "gauge", "Tasks that wait.", figures.queue);
    text.single("holdfast_pool_running", "gauge", "Tasks that run.", figures.running);
    let name = "holdfast_pool_tasks_total";
    text.family(name, "counter", "Tasks of the CPU pool, by how they ended.");
    text.sample(name, "end=\"done\"", figures.done);
    text.sample(name, "end=\"refused\"", figures.refused);
    text.sample(name, "end=\"late\"", figures.late);
    text.sample(name, "end=\"panicked\"", figures.panicked);
    let name = "holdfast_pool_task_seconds";
    text.family(name, "histogram", "Time of a task.");
    text.histogram(name, "", &figures.run_ns);
}

fn workers(text: &mut Text, edge: &Edge) {
    let figures = edge.workers.figures();
    text.family("holdfast_worker_steps_total", "counter", "Steps of background work.");
    for worker in &figures {
        let label = format!("worker=\"{}\"", worker.name);
        text.sample("holdfast_worker_steps_total", &label, worker.steps);
    }
    text.family("holdfast_worker_panics_total", "counter", "Steps that panicked.");
    for worker in &figures {
        let label = format!("worker=\"{}\"", worker.name);
        text.sample("holdfast_worker_panics_total", &label, worker.panicked);
    }
}

fn process(text: &mut Text, edge: &Edge) {
    let probe = edge.app.probe();
    let process = probe.process();
    let cpu = process.cpu.map(|cpu| cpu.as_secs_f64());
    text.maybe("process_cpu_seconds_total", "counter", "CPU time.", cpu);
    let resident = process.resident_bytes;
    text.maybe("process_resident_memory_bytes", "gauge", "Memory that is resident.", resident);
    text.maybe("process_open_fds", "gauge", "Open descriptors.", process.descriptors);
    text.maybe("process_max_fds", "gauge", "How many there may be.", process.descriptors_max);
    text.maybe("process_threads", "gauge", "Threads.", process.threads);
    let disk = probe.disk();
    let total = disk.map(|disk| disk.total_bytes);
    text.maybe("holdfast_disk_bytes", "gauge", "Size of the disk of the data directory.", total);
    let free = disk.map(|disk| disk.free_bytes);
    text.maybe("holdfast_disk_free_bytes", "gauge", "What is left for us on it.", free);
}
