//! Many machines: each tells the recorded values from another moment on.

use std::fmt::Write as _;

use super::host;

/// The recorded values, and how many machines tell them.
pub(crate) struct Fleet {
    names: Vec<String>,
    rows: Vec<Vec<f64>>,
    series: usize,
}

impl Fleet {
    /// One that tells so many series.
    pub(crate) fn of(series: usize) -> Fleet {
        let (names, rows) = host::load();
        let rows = rows.into_iter().map(|(_, values)| values).collect();
        Fleet { names, rows, series }
    }

    /// What it tells at its `moment`-th scrape.
    pub(crate) fn text(&self, moment: usize) -> String {
        let mut text = String::with_capacity(self.series * 64);
        for number in 0..self.series {
            let (machine, column) = (number / self.names.len(), number % self.names.len());
            let row = &self.rows[(moment + machine * 101) % self.rows.len()];
            let (name, value) = (&self.names[column], row[column]);
            let (metric, labels) = name.split_once('{').unwrap_or((name, ""));
            let labels = labels.trim_end_matches('}');
            let comma = if labels.is_empty() { "" } else { "," };
            writeln!(text, "{metric}{{instance=\"m{machine}\"{comma}{labels}}} {value}").unwrap();
        }
        text
    }

    /// How a selector names one of its series: metric, and the labels.
    pub(crate) fn select(&self, number: usize) -> String {
        let text = self.text(0);
        let line = text.lines().nth(number).unwrap();
        line.rsplit_once(' ').unwrap().0.to_owned()
    }
}
