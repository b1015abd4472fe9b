//! What is about the process: is it alive, is it ready, how does it stand.

#![expect(clippy::unnecessary_wraps, reason = "every handler has the same type")]

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use super::prometheus;
use super::reply::Reply;
use super::request::Cx;
use super::stores::{self, StoreFigures};
use crate::app::App;
use crate::app::outside::{Disk, SettingChange};
use crate::base::limits::{DISK_MARGIN_BYTES, HANDLER_DEADLINE, QUEUES_TOLD_MAX};
use crate::base::time::Timestamp;
use crate::exec;
use crate::exec::writer::{State, Writer};

/// One word.
#[derive(Debug, Serialize, ToSchema)]
pub struct Word {
    /// How it stands.
    status: &'static str,
}

/// How the server stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    /// The version.
    version: &'static str,
    /// `ready`, `read_only` or `stopping`.
    state: &'static str,
    /// When the process began to serve.
    started_at: String,
    /// For how long it has served.
    uptime_ms: u64,
    /// The format of the data directory.
    data_format: u32,
    /// The disk of the data directory; null when nothing is kept on disk.
    disk: Option<DiskStatus>,
    /// The stores, each with its thread.
    stores: Vec<Store>,
    /// Jobs, beside the figures of their stores.
    jobs: Jobs,
    /// Time series, beside the figures of their store.
    series: SeriesStatus,
    /// The threads for work that is all CPU.
    pool: Pool,
    /// Background work.
    workers: Vec<Worker>,
    /// Connections.
    connections: Connections,
    /// Tenants there are.
    tenants: u64,
    /// Tokens there are.
    tokens: u64,
    /// This process.
    process: Process,
    /// What somebody should look at.
    warnings: Vec<String>,
}

/// A file system.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiskStatus {
    /// `ok`, or `full` when what grows is refused.
    state: &'static str,
    /// Its size.
    total_bytes: u64,
    /// What is left for us.
    free_bytes: u64,
}

/// A store and its thread.
#[derive(Debug, Serialize, ToSchema)]
pub struct Store {
    /// Which one.
    name: &'static str,
    /// `open`, `reopening`, `failed` or `stopped`.
    state: &'static str,
    /// Whether what grows is refused because the disk is nearly full.
    disk_short: bool,
    /// Operations that wait.
    waiting: usize,
    /// Operations that were done.
    done: u64,
    /// Commits since it was opened.
    commits: u64,
    /// Times it failed.
    failures: u64,
    /// What the last failure was.
    last_failure: Option<String>,
    /// Length of its file.
    bytes: u64,
}

/// Jobs; null is what could not be had.
#[derive(Debug, Serialize, ToSchema)]
pub struct Jobs {
    /// On their way to the history.
    outbox_rows: u64,
    /// Done, and not told to the history, because too many were on their way.
    outbox_skipped: u64,
    /// Jobs in the history.
    history_rows: Option<u64>,
    /// What they take there.
    history_bytes: Option<u64>,
    /// Callers that wait for jobs.
    waiters: usize,
    /// Processes of workers that are watched.
    processes_watched: usize,
}

/// Time series.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesStatus {
    /// How many there are, of all tenants.
    count: usize,
    /// Samples that are not in a block yet.
    open_samples: usize,
    /// The most bytes of pages that they may take.
    budget_bytes: u64,
    /// Bytes of pages that they take.
    live_bytes: u64,
    /// What is kept, the finest first.
    tiers: Vec<TierStatus>,
    /// Length of series.wal.
    wal_bytes: u64,
    /// Bytes of it that could not be read at the start because it was damaged; a copy of all of it is series.wal.damaged.
    wal_damaged_bytes: u64,
    /// `ok`, or `failed` while samples are refused because series.wal cannot be written.
    log_state: &'static str,
    /// Samples that were refused since the start, by reason.
    #[schema(value_type = Object)]
    refused: BTreeMap<&'static str, u64>,
    /// Blocks that were damaged when somebody read them, since the start.
    damaged: u64,
}

/// A resolution of the series.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierStatus {
    /// `raw`, `5m`, `1h` or `1d`.
    resolution: &'static str,
    /// For so long it is kept, if there is room.
    retention_seconds: u64,
    /// Where its oldest stretch begins; null without any.
    oldest: Option<String>,
    /// What it takes.
    bytes: u64,
    /// Its blocks.
    rows: u64,
    /// Stretches that went because they were too old, since the start.
    expired: u64,
    /// Stretches that went because there was no room, since the start.
    evicted: u64,
}

/// The CPU pool.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pool {
    /// Its threads.
    threads: usize,
    /// Tasks that wait.
    waiting: usize,
    /// Tasks that run.
    running: usize,
    /// Tasks that ended in time.
    done: u64,
    /// Tasks refused because too many waited.
    refused: u64,
    /// Tasks whose deadline passed.
    late: u64,
}

/// Background work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Worker {
    /// Its name.
    name: &'static str,
    /// Steps done.
    steps: u64,
    /// Steps that panicked.
    panicked: u64,
    /// Whether it rests after a panic.
    resting: bool,
}

/// Connections.
#[derive(Debug, Serialize, ToSchema)]
pub struct Connections {
    /// Open now.
    open: usize,
    /// How many there may be.
    max: usize,
}

/// This process; null is what could not be had.
#[derive(Debug, Serialize, ToSchema)]
pub struct Process {
    /// Its number.
    pid: u32,
    /// Memory that is resident.
    resident_bytes: Option<u64>,
    /// CPU time used.
    cpu_ms: Option<u64>,
    /// Open descriptors.
    descriptors: Option<u64>,
    /// How many there may be.
    descriptors_max: Option<u64>,
}

/// What a reload did.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReloadReply {
    /// In force now.
    changed: Vec<Change>,
    /// In force after a restart.
    needs_restart: Vec<Change>,
    /// Worth knowing.
    warnings: Vec<String>,
}

/// A setting that changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Change {
    /// Which one.
    key: String,
    /// What it was.
    from: String,
    /// What it is in the configuration.
    to: String,
}

impl From<SettingChange> for Change {
    fn from(change: SettingChange) -> Change {
        Change { key: change.key, from: change.from, to: change.to }
    }
}

/// How a store's state is spelled.
pub(super) const fn state_word(state: State) -> &'static str {
    match state {
        State::Open => "open",
        State::Reopening => "reopening",
        State::Failed => "failed",
        State::Stopped => "stopped",
    }
}

/// `ready`, or why not.
fn readiness(cx: &Cx) -> Result<(), exec::Error> {
    if cx.edge().is_stopping() {
        return Err(exec::Error::Stopping);
    }
    let app = cx.app();
    let writers = [app.kept().writer(), app.jobs().writer(), app.series().writer()];
    let states = std::iter::once(app.keeper().state()).chain(writers.map(Writer::state));
    for state in states {
        match state {
            State::Open => {}
            State::Reopening | State::Failed => return Err(exec::Error::ReadOnly),
            State::Stopped => return Err(exec::Error::Stopping),
        }
    }
    Ok(())
}

impl From<StoreFigures> for Store {
    fn from(figures: StoreFigures) -> Store {
        Store {
            name: figures.name,
            state: state_word(figures.state),
            disk_short: figures.disk_short,
            waiting: figures.waiting,
            done: figures.done,
            commits: figures.commits,
            failures: figures.failures,
            last_failure: figures.last_failure,
            bytes: figures.bytes,
        }
    }
}

/// `GET /livez`
pub(super) fn livez(_: &Cx) -> Result<Reply, Problem> {
    Ok(Reply::json(&Word { status: "alive" }))
}

/// `GET /readyz`
pub(super) fn readyz(cx: &Cx) -> Result<Reply, Problem> {
    readiness(cx)?;
    Ok(Reply::json(&Word { status: "ready" }))
}

/// `GET /openapi.json`
pub(super) fn openapi(cx: &Cx) -> Result<Reply, Problem> {
    Ok(Reply::bytes("application/json", cx.edge().openapi.clone()))
}

/// `GET /metrics`
pub(super) async fn metrics(cx: Cx) -> Result<Reply, Problem> {
    let app = std::sync::Arc::clone(cx.app());
    // Of each queue the file is asked.
    let queues = cx.app().blocking(HANDLER_DEADLINE, move || app.queues_told(QUEUES_TOLD_MAX));
    let jobs = prometheus::Jobs {
        // A full pool is no reason to tell nothing.
        queues: queues.await.unwrap_or_default(),
        figures: stores::jobs(cx.app()).await,
    };
    let text = prometheus::render(cx.edge(), &jobs);
    Ok(Reply::bytes(prometheus::MEDIA_TYPE, text.into()))
}

fn disk_status(disk: Disk, short: bool) -> DiskStatus {
    let full = short || disk.free_bytes < 2 * DISK_MARGIN_BYTES;
    DiskStatus {
        state: if full { "full" } else { "ok" },
        total_bytes: disk.total_bytes,
        free_bytes: disk.free_bytes,
    }
}

fn warnings(cx: &Cx) -> Vec<String> {
    let settings = cx.app().settings();
    let lost = cx.app().directory().tenants_without_tier(|t| settings.tiers.contains_key(t), 10);
    let told = lost.iter().map(|tenant| {
        let (name, tier) = (&tenant.name, &tenant.tier);
        format!(
            "tenant {name} is of tier {tier}, which the configuration does not have: only its own \
             quotas hold; add [tier.{tier}], or: holdfast tenant set {name} --tier standard"
        )
    });
    told.collect()
}

fn series(app: &App) -> SeriesStatus {
    let figures = app.series().figures();
    let settings = app.settings();
    let keep = &settings.series.keep;
    let tiers = figures.tiers.iter().map(|tier| TierStatus {
        resolution: tier.tier.as_str(),
        retention_seconds: keep.of(tier.tier).as_secs(),
        oldest: tier.oldest_ms.and_then(Timestamp::from_unix_ms).map(|at| at.to_string()),
        bytes: tier.held.bytes,
        rows: tier.held.rows,
        expired: tier.expired,
        evicted: tier.evicted,
    });
    SeriesStatus {
        count: figures.series,
        open_samples: figures.open_samples,
        budget_bytes: keep.budget,
        live_bytes: figures.live_bytes,
        tiers: tiers.collect(),
        wal_bytes: figures.log_bytes,
        wal_damaged_bytes: figures.log_damaged,
        log_state: if figures.log_failed { "failed" } else { "ok" },
        refused: stores::refused_samples(&figures.counts).into(),
        damaged: figures.counts.damaged,
    }
}

/// `GET /v1/status`
pub(super) async fn status(cx: Cx) -> Result<Reply, Problem> {
    let app = cx.app();
    let jobs = stores::jobs(app).await;
    let stores = stores::all(app);
    let short = stores.iter().any(|store| store.disk_short);
    let pool = app.pool().figures();
    let process = app.probe().process();
    let connections = cx.edge().connections.figures();
    let (tenants, tokens) = app.directory().counts();
    let workers = cx.edge().workers.figures();
    let uptime = cx.now.mono.since(cx.edge().started.mono);
    Ok(Reply::json(&Status {
        version: env!("CARGO_PKG_VERSION"),
        state: readiness(&cx).map_or_else(|error| error.code(), |()| "ready"),
        started_at: cx.edge().started.wall.to_string(),
        uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
        data_format: crate::base::limits::DATA_FORMAT,
        disk: app.probe().disk().map(|disk| disk_status(disk, short)),
        stores: stores.into_iter().map(Store::from).collect(),
        pool: Pool {
            threads: pool.threads,
            waiting: pool.queue,
            running: pool.running,
            done: pool.done,
            refused: pool.refused,
            late: pool.late,
        },
        workers: workers.into_iter().map(Worker::from).collect(),
        connections: Connections { open: connections.open, max: connections.max },
        tenants,
        tokens,
        process: Process {
            pid: std::process::id(),
            resident_bytes: process.resident_bytes,
            cpu_ms: process.cpu.map(|cpu| u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX)),
            descriptors: process.descriptors,
            descriptors_max: process.descriptors_max,
        },
        jobs: Jobs {
            outbox_rows: jobs.outbox_rows,
            outbox_skipped: jobs.outbox_skipped,
            history_rows: jobs.history.map(|history| history.rows),
            history_bytes: jobs.history.map(|history| history.bytes),
            waiters: jobs.waiters,
            processes_watched: jobs.watched,
        },
        series: series(app),
        warnings: warnings(&cx),
    }))
}

impl From<exec::worker::Figures> for Worker {
    fn from(figures: exec::worker::Figures) -> Worker {
        Worker {
            name: figures.name,
            steps: figures.steps,
            panicked: figures.panicked,
            resting: figures.resting,
        }
    }
}

/// `POST /v1/reload`
pub(super) async fn reload(cx: Cx) -> Result<Reply, Problem> {
    let reload = std::sync::Arc::clone(&cx.edge().reload);
    let outcome = cx.app().blocking(HANDLER_DEADLINE, move || reload.reload()).await?;
    let done = outcome.map_err(|refused| {
        let detail = format!("nothing was changed: {}", refused.0.join("; "));
        Problem::new("invalid_config", detail).with("problems", refused.0)
    })?;
    let object = format!("{} changed", done.changed.len());
    let mut warnings = done.warnings;
    if let Err(error) = cx.app().audit(cx.now, cx.author(), "config.reload", &object).await {
        // It is done all the same, and must not be told as if it were not.
        warnings.push(format!("this is missing in the audit log: {error}"));
    }
    Ok(Reply::json(&ReloadReply {
        changed: done.changed.into_iter().map(Change::from).collect(),
        needs_restart: done.needs_restart.into_iter().map(Change::from).collect(),
        warnings,
    }))
}
