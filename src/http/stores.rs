//! The figures of every store in one shape, whatever thread it has.

use crate::app::{self, App};
use crate::catalog::history;
use crate::exec::figures::HistogramFigures;
use crate::exec::writer::State;
use crate::exec::{keeper, writer};
use crate::series::memory::Counts;

/// A store and its thread.
pub(super) struct StoreFigures {
    pub(super) name: &'static str,
    pub(super) state: State,
    pub(super) disk_short: bool,
    pub(super) waiting: usize,
    pub(super) waiting_peak: usize,
    pub(super) done: u64,
    pub(super) commits: u64,
    pub(super) failures: u64,
    pub(super) reopenings: u64,
    pub(super) last_failure: Option<String>,
    pub(super) overloaded: u64,
    pub(super) disk_full: u64,
    pub(super) read_only: u64,
    pub(super) panicked: u64,
    pub(super) bytes: u64,
    pub(super) operation_ns: HistogramFigures,
}

impl StoreFigures {
    fn of_keeper(figures: keeper::Figures) -> StoreFigures {
        StoreFigures {
            name: figures.name,
            state: figures.state,
            disk_short: figures.disk_short,
            waiting: figures.queue_ops,
            waiting_peak: figures.queue_ops_peak,
            done: figures.done,
            commits: figures.commits,
            failures: figures.failures,
            reopenings: figures.reopenings,
            last_failure: figures.last_failure,
            overloaded: figures.overloaded,
            disk_full: figures.disk_full,
            read_only: figures.read_only,
            panicked: figures.panicked,
            bytes: figures.file_bytes,
            operation_ns: figures.run_ns,
        }
    }

    fn of_writer(figures: writer::Figures) -> StoreFigures {
        let engine = figures.engine.unwrap_or_default();
        StoreFigures {
            name: figures.name,
            state: figures.state,
            disk_short: figures.disk_short,
            waiting: figures.queue_ops,
            waiting_peak: figures.queue_ops_peak,
            done: figures.done,
            commits: engine.commits,
            failures: figures.failures,
            reopenings: figures.reopenings,
            last_failure: figures.last_failure,
            overloaded: figures.overloaded,
            disk_full: figures.disk_full,
            read_only: figures.read_only,
            panicked: figures.panicked,
            bytes: engine.file_bytes,
            operation_ns: figures.answer_ns,
        }
    }
}

/// Every store, in the order in which they are told.
pub(super) fn all(app: &App) -> [StoreFigures; 5] {
    [
        StoreFigures::of_keeper(app.keeper().figures()),
        StoreFigures::of_writer(app.kept().writer().figures()),
        StoreFigures::of_writer(app.jobs().writer().figures()),
        StoreFigures::of_keeper(app.history().writer.figures()),
        StoreFigures::of_writer(app.series().writer().figures()),
    ]
}

/// What is known of jobs beside the figures of their stores.
#[derive(Clone, Copy)]
pub(super) struct JobFigures {
    /// On their way to the history.
    pub(super) outbox_rows: u64,
    /// Done, and not told to the history, because too many were on their way.
    pub(super) outbox_skipped: u64,
    /// What the history has; nothing when it does not answer.
    pub(super) history: Option<history::Figures>,
    /// Callers that wait for jobs.
    pub(super) waiters: usize,
    /// Processes of workers that are watched.
    pub(super) watched: usize,
}

/// See [`JobFigures`].
pub(super) async fn jobs(app: &App) -> JobFigures {
    with_history(app, app.past_figures().await)
}

/// The same for a thread of its own, which waits.
pub(super) fn jobs_waiting(app: &App) -> JobFigures {
    with_history(app, app.past_figures_waiting())
}

fn with_history(app: &App, history: Result<history::Figures, app::Error>) -> JobFigures {
    let (outbox_rows, outbox_skipped) = app.jobs().outbox_figures();
    let (waiters, watched) = app.jobs().waiting_figures();
    let history = history.inspect_err(|error| tracing::debug!(%error, "no figures of the history"));
    JobFigures { outbox_rows, outbox_skipped, history: history.ok(), waiters, watched }
}

/// Samples that were refused, by reason.
pub(super) fn refused_samples(counts: &Counts) -> [(&'static str, u64); 4] {
    [
        ("malformed", counts.malformed),
        ("too_old", counts.too_old),
        ("too_new", counts.too_new),
        ("too_many_series", counts.too_many),
    ]
}
