//! What was answered: by route and status, and how long it took.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::problem::KINDS;
use crate::exec::figures::{Histogram, HistogramFigures};

/// Statuses that are counted one by one: those of answers that went well, and those of [`KINDS`].
const WELL: [u16; 6] = [200, 201, 202, 204, 304, 206];

/// Every status that we answer.
fn statuses() -> Vec<u16> {
    let mut all: Vec<u16> = WELL.into_iter().chain(KINDS.iter().map(|kind| kind.status)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

struct OfRoute {
    /// In the order of [`statuses`].
    answers: Vec<AtomicU64>,
    took_ns: Histogram,
}

/// The counters of one interface.
pub(super) struct Figures {
    statuses: Vec<u16>,
    /// By index in the table; the last one is for what is not in the table.
    routes: Vec<OfRoute>,
    pub(super) in_flight: AtomicU64,
    pub(super) panics: AtomicU64,
}

/// One route at one moment.
pub(super) struct RouteFigures {
    /// Its index in the table; the number of routes for what is not in the table.
    pub(super) route: usize,
    /// Answers by status, those that were given at all.
    pub(super) answers: Vec<(u16, u64)>,
    /// Nanoseconds from the head to the answer.
    pub(super) took_ns: HistogramFigures,
}

impl Figures {
    pub(super) fn new(routes: usize) -> Figures {
        let statuses = statuses();
        let of_route = || OfRoute {
            answers: statuses.iter().map(|_| AtomicU64::new(0)).collect(),
            took_ns: Histogram::default(),
        };
        Figures {
            routes: (0..=routes).map(|_| of_route()).collect(),
            statuses,
            in_flight: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        }
    }

    /// Counts an answer of the route with this index; `None` for what is not in the table.
    pub(super) fn answered(&self, route: Option<usize>, status: u16, took: Duration) {
        let route = &self.routes[route.unwrap_or(self.routes.len() - 1)];
        if let Ok(at) = self.statuses.binary_search(&status) {
            route.answers[at].fetch_add(1, Relaxed);
        }
        route.took_ns.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Routes that were asked for.
    pub(super) fn by_route(&self) -> Vec<RouteFigures> {
        let mut all = Vec::new();
        for (index, route) in self.routes.iter().enumerate() {
            let counts = route.answers.iter().map(|count| count.load(Relaxed));
            let answers: Vec<(u16, u64)> =
                self.statuses.iter().copied().zip(counts).filter(|(_, n)| 0 < *n).collect();
            if !answers.is_empty() {
                let took_ns = route.took_ns.figures();
                all.push(RouteFigures { route: index, answers, took_ns });
            }
        }
        all
    }
}
