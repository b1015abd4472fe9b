//! The figures of every store in one shape, whatever thread it has.

use crate::app::App;
use crate::exec::figures::HistogramFigures;
use crate::exec::writer::State;
use crate::exec::{keeper, writer};

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
pub(super) fn all(app: &App) -> [StoreFigures; 2] {
    let kept = app.kept().writer().figures();
    [StoreFigures::of_keeper(app.keeper().figures()), StoreFigures::of_writer(kept)]
}
