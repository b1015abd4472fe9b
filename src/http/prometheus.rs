//! The figures of this server: for Prometheus, and for our own series.
//!
//! ```text
//!   tell --[walk]--> Exposition: text for /metrics
//!              '---> recorder: samples, every 10 s
//! ```
//!
//! Every family is written once, with its help and its type. Names begin with `holdfast_`, those of queues, workers and
//! the machine with what they are about (`queue_`, `worker_`, `server_`, `node_`); units are seconds and bytes;
//! counters end in `_total`.

mod host;
mod walk;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use self::walk::{Exposition, Walk};
pub(super) use self::walk::{Figure, Sink};
use super::Edge;
use super::machine::state_word;
use super::stores::{self, JobFigures, StoreFigures};
use crate::app::DEFAULT_TENANT;
use crate::app::queue::QueueView;
use crate::app::series::TierFigures;
use crate::base::id::TenantId;
use crate::base::limits::{NAMESPACES_TOLD_MAX, QUEUES_TOLD_MAX};
use crate::base::name::TenantName;
use crate::cache::entry::Stats;
use crate::queue::figures::{Percentiles, Told};
use crate::queue::workers::crew::Crew;

/// What Prometheus calls this walk.
pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything there is to tell, as Prometheus reads it.
pub(super) fn render(edge: &Edge, jobs_told: &Jobs) -> String {
    let mut text = Exposition::default();
    tell(edge, jobs_told, &mut text);
    text.into_text()
}

/// Everything there is to tell.
pub(super) fn tell(edge: &Edge, jobs_told: &Jobs, sink: &mut dyn Sink) {
    let mut walk = Walk(sink);
    about(&mut walk, edge);
    requests(&mut walk, edge);
    connections(&mut walk, edge);
    refusals(&mut walk, edge);
    stores(&mut walk, edge);
    cache(&mut walk, edge);
    series(&mut walk, edge);
    jobs(&mut walk, &jobs_told.figures);
    queues(&mut walk, edge, &jobs_told.queues);
    pool(&mut walk, edge);
    workers(&mut walk, edge);
    process(&mut walk, edge);
    host::host(&mut walk, edge);
}

fn about(walk: &mut Walk<'_>, edge: &Edge) {
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
    walk.family("holdfast_info", "gauge", "The version.");
    walk.sample("holdfast_info", version, 1_u64);
    let uptime = edge.app.clock().mono().since(edge.started.mono);
    let help = "Time since the process began to serve.";
    walk.single("holdfast_uptime_seconds", "gauge", help, uptime.as_secs_f64());
    let (tenants, tokens) = edge.app.directory().counts();
    walk.single("holdfast_tenants", "gauge", "Tenants.", tenants);
    walk.single("holdfast_tokens", "gauge", "Tokens.", tokens);
}

fn requests(walk: &mut Walk<'_>, edge: &Edge) {
    let routes = edge.figures.by_route();
    let labels = |index: usize| match edge.router.route(index) {
        Some(route) => format!("method=\"{}\",route=\"{}\"", route.verb.as_str(), route.path),
        None => "method=\"other\",route=\"other\"".to_owned(),
    };
    walk.family("holdfast_http_requests_total", "counter", "Requests answered.");
    for route in &routes {
        for (status, count) in &route.answers {
            let labels = format!("{},status=\"{status}\"", labels(route.route));
            walk.sample("holdfast_http_requests_total", &labels, *count);
        }
    }
    let name = "holdfast_http_request_seconds";
    walk.family(name, "histogram", "Time from the head of a request to its answer.");
    for route in &routes {
        walk.histogram(name, &labels(route.route), &route.took_ns);
    }
    let in_flight = edge.figures.in_flight.load(Relaxed);
    let help = "Requests under way.";
    walk.single("holdfast_http_requests_in_flight", "gauge", help, in_flight);
    let panics = edge.figures.panics.load(Relaxed);
    walk.single("holdfast_panics_total", "counter", "Handlers that panicked.", panics);
}

fn connections(walk: &mut Walk<'_>, edge: &Edge) {
    let figures = edge.connections.figures();
    walk.single("holdfast_connections", "gauge", "Open connections.", figures.open);
    walk.single("holdfast_connections_max", "gauge", "How many there may be.", figures.max);
    let help = "Connections accepted.";
    walk.single("holdfast_connections_accepted_total", "counter", help, figures.accepted);
    let name = "holdfast_connections_ended_total";
    walk.family(name, "counter", "Connections that we ended, by reason.");
    walk.sample(name, "reason=\"evicted\"", figures.evicted);
    walk.sample(name, "reason=\"timed_out\"", figures.timed_out);
    walk.sample(name, "reason=\"refused\"", figures.refused);
    let help = "Times that accepting a connection failed.";
    walk.single("holdfast_accept_errors_total", "counter", help, figures.accept_errors);
}

fn refusals(walk: &mut Walk<'_>, edge: &Edge) {
    let refused = edge.app.refused_attempts();
    let name = "holdfast_wrong_tokens_total";
    walk.family(name, "counter", "Wrong tokens, by what was answered.");
    walk.sample(name, "answer=\"unauthenticated\"", refused.refused);
    walk.sample(name, "answer=\"rate_limited\"", refused.throttled);
    let name = "holdfast_slow_total";
    walk.family(name, "counter", "Slow work, by kind.");
    for (kind, count) in edge.app.slow().counts() {
        walk.sample(name, &format!("kind=\"{}\"", kind.as_str()), count);
    }
}

/// A family of stores: name, type, help, and the figure.
type StoreFamily = (&'static str, &'static str, &'static str, fn(&StoreFigures) -> u64);

const STORE_FAMILIES: [StoreFamily; 12] = [
    ("operations_total", "counter", "Operations done.", |s| s.done),
    ("commits_total", "counter", "Commits since it was opened.", |s| s.commits),
    ("failures_total", "counter", "Times it failed.", |s| s.failures),
    ("reopenings_total", "counter", "Times it was opened anew.", |s| s.reopenings),
    ("overloaded_total", "counter", "Calls refused: too much waited.", |s| s.overloaded),
    ("disk_full_total", "counter", "Calls refused: no space.", |s| s.disk_full),
    ("read_only_total", "counter", "Calls refused: it had failed.", |s| s.read_only),
    ("panics_total", "counter", "Operations that panicked.", |s| s.panicked),
    ("waiting", "gauge", "Operations that wait.", |s| s.waiting as u64),
    ("waiting_peak", "gauge", "The most that ever waited.", |s| s.waiting_peak as u64),
    ("bytes", "gauge", "Length of its file.", |s| s.bytes),
    ("disk_short", "gauge", "1 when what grows is refused.", |s| u64::from(s.disk_short)),
];

fn stores(walk: &mut Walk<'_>, edge: &Edge) {
    let stores = stores::all(&edge.app);
    let label = |store: &StoreFigures| format!("store=\"{}\"", store.name);
    walk.family("holdfast_store_state", "gauge", "Where a store stands.");
    for store in &stores {
        let state = format!("{},state=\"{}\"", label(store), state_word(store.state));
        walk.sample("holdfast_store_state", &state, 1_u64);
    }
    for (name, kind, help, figure) in STORE_FAMILIES {
        let name = format!("holdfast_store_{name}");
        walk.family(&name, kind, help);
        for store in &stores {
            walk.sample(&name, &label(store), figure(store));
        }
    }
    let name = "holdfast_store_operation_seconds";
    walk.family(name, "histogram", "Time of an operation with its commit.");
    for store in &stores {
        walk.histogram(name, &label(store), &store.operation_ns);
    }
    let (held, waiting) = edge.app.kept().lock_figures();
    walk.single("holdfast_locks", "gauge", "Locks that are known.", held);
    walk.single("holdfast_lock_waiters", "gauge", "Callers that wait for one.", waiting);
}

/// A figure of a tier of the series: its family, what kind it is, what it says, and the figure.
type TierFigure = (&'static str, &'static str, &'static str, fn(&TierFigures) -> u64);

const TIER_FIGURES: [TierFigure; 3] = [
    ("holdfast_series_tier_bytes", "gauge", "What a resolution takes.", |tier| tier.held.bytes),
    ("holdfast_series_tier_rows", "gauge", "Its blocks.", |tier| tier.held.rows),
    ("holdfast_series_tier_pages", "gauge", "Its pages, about.", |tier| tier.held.pages),
];

fn series(walk: &mut Walk<'_>, edge: &Edge) {
    let figures = edge.app.series().figures();
    walk.single("holdfast_series", "gauge", "Series.", figures.series);
    let help = "Samples that are not in a block yet.";
    walk.single("holdfast_series_open_samples", "gauge", help, figures.open_samples);
    let counts = figures.counts;
    let help = "Samples that were taken.";
    walk.single("holdfast_series_samples_total", "counter", help, counts.accepted);
    let name = "holdfast_series_late_total";
    walk.single(name, "counter", "Of them, those of an earlier hour.", counts.late);
    let name = "holdfast_series_refused_total";
    walk.family(name, "counter", "Samples that were refused, by reason.");
    for (reason, count) in stores::refused_samples(&counts) {
        walk.sample(name, &format!("reason=\"{reason}\""), count);
    }
    let help = "Blocks that were damaged when somebody read them.";
    walk.single("holdfast_series_damaged_total", "counter", help, counts.damaged);
    let help = "Pages in use.";
    walk.single("holdfast_series_live_bytes", "gauge", help, figures.live_bytes);
    let budget = edge.app.settings().series.keep.budget;
    walk.single("holdfast_series_budget_bytes", "gauge", "What they may be.", budget);
    for (name, kind, help, figure) in TIER_FIGURES {
        walk.family(name, kind, help);
        for tier in &figures.tiers {
            walk.sample(name, &format!("tier=\"{}\"", tier.tier.as_str()), figure(tier));
        }
    }
    let name = "holdfast_series_expired_total";
    walk.family(name, "counter", "Stretches that were let go, by reason.");
    for tier in &figures.tiers {
        let of = format!("tier=\"{}\"", tier.tier.as_str());
        walk.sample(name, &format!("{of},why=\"age\""), tier.expired);
        walk.sample(name, &format!("{of},why=\"budget\""), tier.evicted);
    }
    let help = "Hours of groups that became blocks.";
    walk.single("holdfast_series_sealed_total", "counter", help, figures.sealed);
    let help = "Days that were rolled up.";
    walk.single("holdfast_series_rolled_total", "counter", help, figures.rolled);
    let help = "Length of series.wal.";
    walk.single("holdfast_series_wal_bytes", "gauge", help, figures.log_bytes);
    let help = "What was written to it.";
    walk.single(
        "holdfast_series_wal_written_bytes_total",
        "counter",
        help,
        figures.log.write_bytes,
    );
    let help = "Times that it was synced.";
    walk.single("holdfast_series_wal_syncs_total", "counter", help, figures.log.syncs);
    let help = "1 when samples are refused because series.wal cannot be written.";
    walk.single("holdfast_series_wal_failed", "gauge", help, u64::from(figures.log_failed));
}

/// What is told of jobs, gathered before.
pub(super) struct Jobs {
    /// The queues that were active last.
    pub(super) queues: Vec<(TenantId, QueueView)>,
    /// All of them together.
    pub(super) figures: JobFigures,
}

fn jobs(walk: &mut Walk<'_>, jobs: &JobFigures) {
    let help = "Finished jobs on their way to the history.";
    walk.single("holdfast_outbox_rows", "gauge", help, jobs.outbox_rows);
    let help = "Done jobs that the history will not hear of, because too many were on their way.";
    walk.single("holdfast_outbox_skipped_total", "counter", help, jobs.outbox_skipped);
    let rows = jobs.history.map(|history| history.rows);
    walk.maybe("holdfast_history_rows", "gauge", "Jobs in the history.", rows);
    let bytes = jobs.history.map(|history| history.bytes);
    walk.maybe("holdfast_history_bytes", "gauge", "What they take there.", bytes);
    walk.single("holdfast_job_waiters", "gauge", "Callers that wait for jobs.", jobs.waiters);
    let help = "Processes of workers that are watched.";
    walk.single("holdfast_processes_watched", "gauge", help, jobs.watched);
}

/// A figure of a queue: its family, what kind it is, what it says, and the figure.
type QueueFigure = (&'static str, &'static str, &'static str, fn(&QueueView) -> u64);

const QUEUE_FIGURES: [QueueFigure; 5] = [
    ("queue_waiting", "gauge", "Jobs that may run.", |queue| queue.waiting),
    ("queue_delayed", "gauge", "Jobs that wait for a moment.", |queue| queue.delayed),
    ("queue_running", "gauge", "Jobs that somebody has.", |queue| queue.running),
    ("queue_failed", "gauge", "Jobs that were given up.", |queue| queue.failed),
    ("queue_paused", "gauge", "1 when nothing is leased.", |q| u64::from(q.settings.paused)),
];

/// The same for what is counted, of a queue and of a type.
type ToldFigure = (&'static str, &'static str, fn(&Told) -> u64);

const TOLD_FIGURES: [ToldFigure; 4] = [
    ("pushed_total", "Jobs that were pushed.", |told| told.totals.pushed),
    ("done_total", "Attempts that went well.", |told| told.totals.done),
    ("failed_total", "Attempts that ended in an error.", |told| told.totals.failed),
    ("crashed_total", "Attempts that ended without a word.", |told| told.totals.crashed),
];

/// Times in milliseconds, of which some part stay below.
type TimesFigure = (&'static str, &'static str, fn(&Told) -> Percentiles);

const TIMES_FIGURES: [TimesFigure; 2] = [
    ("wait_seconds", "How long jobs waited, in the last 15 minutes.", |told| told.wait_ms),
    ("run_seconds", "How long attempts took, in the last 15 minutes.", |told| told.run_ms),
];

fn queues(walk: &mut Walk<'_>, edge: &Edge, queues: &[(TenantId, QueueView)]) {
    let now = edge.app.clock().now().wall;
    let labelled = queues.iter().filter_map(|(tenant, queue)| {
        let tenant = edge.app.directory().tenant_by_id(*tenant)?;
        Some((format!("tenant=\"{}\",queue=\"{}\"", tenant.name, queue.name), queue))
    });
    let labelled: Vec<_> = labelled.collect();
    for (name, kind, help, figure) in QUEUE_FIGURES {
        walk.family(name, kind, help);
        for (labels, queue) in &labelled {
            walk.sample(name, labels, figure(queue));
        }
    }
    let name = "queue_oldest_waiting_seconds";
    walk.family(name, "gauge", "For how long the job waits that waits longest.");
    for (labels, queue) in &labelled {
        let waits = queue.oldest_waiting.map_or(0.0, |at| now.since(at).as_secs_f64());
        walk.sample(name, labels, waits);
    }
    let told: Vec<_> =
        labelled.iter().map(|(labels, queue)| (labels.clone(), queue.figures)).collect();
    told_figures(walk, "queue", &told);
    attempts(walk, &told);
    let types = labelled.iter().flat_map(|(labels, queue)| {
        queue
            .types
            .iter()
            .map(move |its| (format!("{labels},type=\"{}\"", escaped(&its.name)), its.figures))
    });
    let types: Vec<_> = types.take(QUEUES_TOLD_MAX).collect();
    told_figures(walk, "queue_type", &types);
    crews(walk, edge);
    anomalies(walk, edge);
}

/// How far what is watched is from what is usual.
fn anomalies(walk: &mut Walk<'_>, edge: &Edge) {
    let name = "holdfast_anomaly_score";
    let help = "Deviations from what is usual at this hour, on which five minutes, fifteen and an hour agree; from 3.5 on \
                it is out of the ordinary.";
    walk.family(name, "gauge", help);
    for anomaly in edge.app.anomalies() {
        let Some(tenant) = edge.app.directory().tenant_by_id(anomaly.tenant) else { continue };
        let metric = anomaly.metric;
        let beside = anomaly.label.as_ref();
        let beside = beside.map(|(label, value)| format!(",{label}=\"{}\"", escaped(value)));
        let beside = beside.unwrap_or_default();
        let labels = format!("tenant=\"{}\",metric=\"{metric}\"{beside}", tenant.name);
        walk.sample(name, &labels, anomaly.score.score);
    }
}

/// What capacity is made of, beside what is told of types too.
fn attempts(walk: &mut Walk<'_>, told: &[(String, Told)]) {
    walk.family("queue_given_up_total", "counter", "Jobs that were given up.");
    for (labels, told) in told {
        walk.sample("queue_given_up_total", labels, told.totals.given_up);
    }
    let name = "queue_attempt_seconds_total";
    walk.family(name, "counter", "How long attempts took that ended, taken together.");
    for (labels, told) in told {
        walk.sample(name, labels, told.totals.run.as_secs_f64());
    }
}

/// A figure of the workers of a tenant: its family, what kind it is, what it says, and the figure.
type CrewFigure = (&'static str, &'static str, &'static str, fn(&Crew) -> Option<f64>);

const CREW_FIGURES: [CrewFigure; 4] = [
    ("worker_busy_seconds_total", "counter", "Time of workers that had a job.", |crew| {
        Some(crew.time.busy.as_secs_f64())
    }),
    ("worker_idle_seconds_total", "counter", "Time of workers that had none.", |crew| {
        Some(crew.time.idle.as_secs_f64())
    }),
    (
        "worker_memory_bytes",
        "gauge",
        "Memory of a worker: the mean of those that say so.",
        |crew| crew.memory_bytes,
    ),
    ("worker_cpu_percent", "gauge", "Of one processor, that a worker takes: the mean.", |crew| {
        crew.cpu_percent
    }),
];

/// The workers of each tenant; of tenant `default` also if there are none.
fn crews(walk: &mut Walk<'_>, edge: &Edge) {
    let mut crews = edge.app.workers_told();
    if let Some(default) = default_tenant(edge) {
        crews.entry(default).or_insert_with(Crew::of_nobody);
    }
    let labelled = crews.iter().filter_map(|(tenant, crew)| {
        let tenant = edge.app.directory().tenant_by_id(*tenant)?;
        Some((format!("tenant=\"{}\"", tenant.name), crew))
    });
    let labelled: Vec<_> = labelled.collect();
    walk.family("worker_count", "gauge", "Workers, by how they stand.");
    for (labels, crew) in &labelled {
        for (state, count) in &crew.states {
            walk.sample("worker_count", &format!("{labels},state=\"{state}\""), *count);
        }
    }
    for (name, kind, help, figure) in CREW_FIGURES {
        walk.family(name, kind, help);
        for (labels, crew) in &labelled {
            if let Some(figure) = figure(crew) {
                walk.sample(name, labels, figure);
            }
        }
    }
}

fn default_tenant(edge: &Edge) -> Option<TenantId> {
    let name = TenantName::parse(DEFAULT_TENANT).ok()?;
    edge.app.directory().tenant(&name).map(|tenant| tenant.id)
}

fn told_figures(walk: &mut Walk<'_>, prefix: &str, told: &[(String, Told)]) {
    for (name, help, figure) in TOLD_FIGURES {
        let name = format!("{prefix}_{name}");
        walk.family(&name, "counter", help);
        for (labels, told) in told {
            walk.sample(&name, labels, figure(told));
        }
    }
    for (name, help, figure) in TIMES_FIGURES {
        let name = format!("{prefix}_{name}");
        walk.family(&name, "gauge", help);
        for (labels, told) in told {
            let Percentiles { p50, p95, p99 } = figure(told);
            for (quantile, ms) in [("0.5", p50), ("0.95", p95), ("0.99", p99)] {
                if let Some(ms) = ms {
                    let labels = format!("{labels},quantile=\"{quantile}\"");
                    walk.sample(&name, &labels, Duration::from_millis(ms).as_secs_f64());
                }
            }
        }
    }
    let name = format!("{prefix}_failure_rate");
    walk.family(&name, "gauge", "Failed attempts of those of the last 15 minutes: 0 to 1.");
    for (labels, told) in told {
        if let Some(rate) = told.failure_rate {
            walk.sample(&name, labels, rate);
        }
    }
}

/// The value of a label that somebody else chose.
fn escaped(value: &str) -> String {
    // Control characters were refused when the job was pushed.
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

/// A figure of a namespace: its family, what kind it is, what it says.
type NamespaceFigure = (&'static str, &'static str, &'static str, fn(&Stats) -> u64);

const NAMESPACE_FIGURES: [NamespaceFigure; 9] = [
    ("holdfast_cache_entries", "gauge", "Entries that are served.", |stats| stats.entries),
    ("holdfast_cache_bytes", "gauge", "What they take in memory.", |stats| stats.bytes),
    ("holdfast_cache_hits_total", "counter", "Keys asked for and served.", |stats| stats.hits),
    ("holdfast_cache_misses_total", "counter", "Keys asked for and not served.", |stats| {
        stats.misses
    }),
    ("holdfast_cache_stale_served_total", "counter", "Hits that were stale.", |stats| {
        stats.stale_served
    }),
    (
        "holdfast_cache_coalesced_total",
        "counter",
        "Hits that waited for what another computed.",
        |stats| stats.coalesced,
    ),
    ("holdfast_cache_evicted_total", "counter", "Entries that made room for others.", |stats| {
        stats.evicted
    }),
    ("holdfast_cache_expired_total", "counter", "Entries whose time ended.", |stats| stats.expired),
    ("holdfast_cache_leases_total", "counter", "Leases given.", |stats| stats.leases),
];

fn cache(walk: &mut Walk<'_>, edge: &Edge) {
    let cache = edge.app.cache();
    let kinds = ["ordinary", "kept"];
    let usage = cache.usage();
    let name = "holdfast_cache_used_bytes";
    walk.family(name, "gauge", "Memory that entries of all namespaces take.");
    for (kind, (used, _)) in kinds.iter().zip(usage) {
        walk.sample(name, &format!("kind=\"{kind}\""), used);
    }
    let name = "holdfast_cache_max_bytes";
    walk.family(name, "gauge", "Memory that they may take.");
    for (kind, (_, max)) in kinds.iter().zip(usage) {
        walk.sample(name, &format!("kind=\"{kind}\""), max);
    }
    let now = edge.app.clock().mono();
    let mut spaces: Vec<_> =
        cache.all_spaces().into_iter().map(|space| (space.stats(now), space)).collect();
    // The largest, should there be more than anybody can look at.
    spaces.sort_by_key(|(stats, _)| std::cmp::Reverse(stats.bytes));
    spaces.truncate(NAMESPACES_TOLD_MAX);
    let labelled = spaces.iter().filter_map(|(stats, space)| {
        let tenant = edge.app.directory().tenant_by_id(space.tenant())?;
        Some((format!("tenant=\"{}\",namespace=\"{}\"", tenant.name, space.name()), stats))
    });
    let labelled: Vec<_> = labelled.collect();
    for (name, kind, help, figure) in NAMESPACE_FIGURES {
        walk.family(name, kind, help);
        for (labels, stats) in &labelled {
            walk.sample(name, labels, figure(stats));
        }
    }
}

fn pool(walk: &mut Walk<'_>, edge: &Edge) {
    let figures = edge.app.pool().figures();
    walk.single("holdfast_pool_threads", "gauge", "Threads of the CPU pool.", figures.threads);
    walk.single("holdfast_pool_waiting", "gauge", "Tasks that wait.", figures.queue);
    walk.single("holdfast_pool_running", "gauge", "Tasks that run.", figures.running);
    let name = "holdfast_pool_tasks_total";
    walk.family(name, "counter", "Tasks of the CPU pool, by how they ended.");
    walk.sample(name, "end=\"done\"", figures.done);
    walk.sample(name, "end=\"refused\"", figures.refused);
    walk.sample(name, "end=\"late\"", figures.late);
    walk.sample(name, "end=\"panicked\"", figures.panicked);
    let name = "holdfast_pool_task_seconds";
    walk.family(name, "histogram", "Time of a task.");
    walk.histogram(name, "", &figures.run_ns);
}

fn workers(walk: &mut Walk<'_>, edge: &Edge) {
    let figures = edge.workers.figures();
    walk.family("holdfast_worker_steps_total", "counter", "Steps of background work.");
    for worker in &figures {
        let label = format!("worker=\"{}\"", worker.name);
        walk.sample("holdfast_worker_steps_total", &label, worker.steps);
    }
    walk.family("holdfast_worker_panics_total", "counter", "Steps that panicked.");
    for worker in &figures {
        let label = format!("worker=\"{}\"", worker.name);
        walk.sample("holdfast_worker_panics_total", &label, worker.panicked);
    }
}

fn process(walk: &mut Walk<'_>, edge: &Edge) {
    let probe = edge.app.probe();
    let process = probe.process();
    let cpu = process.cpu.map(|cpu| cpu.as_secs_f64());
    walk.maybe("process_cpu_seconds_total", "counter", "CPU time.", cpu);
    let resident = process.resident_bytes;
    walk.maybe("process_resident_memory_bytes", "gauge", "Memory that is resident.", resident);
    walk.maybe("process_open_fds", "gauge", "Open descriptors.", process.descriptors);
    walk.maybe("process_max_fds", "gauge", "How many there may be.", process.descriptors_max);
    walk.maybe("process_threads", "gauge", "Threads.", process.threads);
    let disk = probe.disk();
    let total = disk.map(|disk| disk.total_bytes);
    walk.maybe("holdfast_disk_bytes", "gauge", "Size of the disk of the data directory.", total);
    let free = disk.map(|disk| disk.free_bytes);
    walk.maybe("holdfast_disk_free_bytes", "gauge", "What is left for us on it.", free);
}
