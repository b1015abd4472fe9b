//! Figures on their way: families and their samples, whoever takes them.

use std::fmt::{self, Write as _};

use crate::exec::figures::HistogramFigures;

/// Powers of two, of nanoseconds, at which buckets of latency end: 65 us to 17 s.
const LATENCY_BUCKETS: [usize; 10] = [16, 18, 20, 22, 24, 26, 28, 30, 32, 34];

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::http) enum Figure {
    /// A count, or an amount.
    Whole(u64),
    /// Anything else.
    Real(f64),
}

impl Figure {
    /// As a sample has it.
    #[expect(clippy::cast_precision_loss, reason = "figures stay below 2^53")]
    pub(in crate::http) fn value(self) -> f64 {
        match self {
            Figure::Whole(count) => count as f64,
            Figure::Real(value) => value,
        }
    }
}

impl From<u64> for Figure {
    fn from(count: u64) -> Figure {
        Figure::Whole(count)
    }
}

impl From<usize> for Figure {
    fn from(count: usize) -> Figure {
        Figure::Whole(count as u64)
    }
}

impl From<f64> for Figure {
    fn from(value: f64) -> Figure {
        Figure::Real(value)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Figure::Whole(count) => write!(f, "{count}"),
            Figure::Real(value) => write!(f, "{value}"),
        }
    }
}

/// Somebody who takes figures. A family comes before its samples.
pub(in crate::http) trait Sink {
    /// A family: its name, `gauge`, `counter` or `histogram`, and what it says.
    fn family(&mut self, name: &str, kind: &str, help: &str);

    /// A sample. Labels are written as in the text format, that of the tenant first.
    fn sample(&mut self, name: &str, labels: &str, value: Figure);
}

/// The text format.
#[derive(Default)]
pub(in crate::http) struct Exposition(String);

impl Exposition {
    /// All of it.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

impl Sink for Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: Figure) {
        let _ = if labels.is_empty() {
            writeln!(self.0, "{name} {value}")
        } else {
            writeln!(self.0, "{name}{{{labels}}} {value}")
        };
    }
}

/// The walk over all figures.
pub(super) struct Walk<'s>(pub(super) &'s mut dyn Sink);

impl Walk<'_> {
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.0.family(name, kind, help);
    }

    pub(super) fn sample(&mut self, name: &str, labels: &str, value: impl Into<Figure>) {
        self.0.sample(name, labels, value.into());
    }

    /// A family of one sample.
    pub(super) fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Into<Figure>) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }

    /// A family of one sample that may not be there.
    pub(super) fn maybe(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        value: Option<impl Into<Figure>>,
    ) {
        if let Some(value) = value {
            self.single(name, kind, help, value);
        }
    }

    /// The buckets of a histogram of nanoseconds, in seconds.
    pub(super) fn histogram(&mut self, name: &str, labels: &str, figures: &HistogramFigures) {
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
