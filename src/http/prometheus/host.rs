//! The machine: its readings by the names that everybody knows, and its health.

use super::Edge;
use super::walk::Walk;
use crate::host::names::{self, Teller};
use crate::host::signals::Signal;

/// Passes on what the machine says, under the family that was named last.
struct Passing<'w, 's> {
    walk: &'w mut Walk<'s>,
    family: &'static str,
}

impl Teller for Passing<'_, '_> {
    fn family(&mut self, name: &'static str, kind: &'static str, help: &'static str) {
        self.family = name;
        self.walk.family(name, kind, help);
    }

    fn sample(&mut self, labels: &str, value: f64) {
        self.walk.sample(self.family, labels, value);
    }
}

/// Nothing of a reading that is too old, and no health of a machine of which nothing is known.
pub(super) fn host(walk: &mut Walk<'_>, edge: &Edge) {
    if let Some(latest) = edge.app.host_reading() {
        let (counters, reading) = &*latest;
        names::tell(counters, reading, &mut Passing { walk, family: "" });
    }
    let help = "Times that reading the machine panicked.";
    walk.single("holdfast_host_panics_total", "counter", help, edge.app.host_panics());
    let Some(health) = edge.app.host_health().filter(|health| health.is_known()) else { return };
    let help =
        "How healthy the machine is: 0 to 100; 70 and less is a warning, 40 and less critical.";
    walk.single("holdfast_health_score", "gauge", help, f64::from(health.tenths) / 10.0);
    let name = "holdfast_health_points";
    walk.family(name, "gauge", "What is taken off for a signal; they add up to 100 - the score.");
    for signal in Signal::all().filter(|signal| !health.unavailable.contains(signal)) {
        let taken = health.deductions.iter().find(|line| line.signal == Some(signal));
        let points = taken.map_or(0.0, |line| f64::from(line.tenths) / 10.0);
        walk.sample(name, &format!("signal=\"{}\"", signal.name()), points);
    }
    let cap = health.deductions.iter().find(|line| line.signal.is_none());
    let points = cap.map_or(0.0, |line| f64::from(line.tenths) / 10.0);
    walk.sample(name, "signal=\"cap\"", points);
}
