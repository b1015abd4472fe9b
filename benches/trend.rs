//! Trends, and readings of the machine: what they take. `cargo bench --bench trend`, or parts of it: `-- line`; the parts are
//! line, queues, sample.
//!
//! Series are written to real files with a clock that is moved by hand, as those of the bench of the series; the machine that
//! is read is the one that this runs on. `HOLDFAST_BENCH_ROUNDS` (default 5) is how often a time is measured; medians are printed.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "figures are printed")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[expect(dead_code, reason = "every limit here is one of time")]
#[path = "support/figures.rs"]
mod figures;
#[path = "trend/line.rs"]
mod line;
#[path = "trend/queues.rs"]
mod queues;
#[path = "trend/sample.rs"]
mod sample;
#[path = "trend/shop.rs"]
mod shop;
#[expect(dead_code, reason = "the series are written with more than the figures here need")]
#[path = "series/store.rs"]
mod store;

use std::time::Instant;

use holdfast::testing::amount;

type Scene = (&'static str, fn());

const SCENES: [Scene; 3] =
    [("line", line::scene), ("queues", queues::scene), ("sample", sample::scene)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    for word in &words {
        let known = SCENES.map(|(name, _)| name);
        assert!(known.contains(word), "{word}: the parts are {known:?}");
    }
    for (name, scene) in SCENES {
        if words.is_empty() || words.contains(&name) {
            println!("-- {name}");
            scene();
        }
    }
}

fn rounds() -> u64 {
    amount("HOLDFAST_BENCH_ROUNDS", 5)
}

/// The median of rounds of what one of `count` calls takes, in microseconds.
fn micros(count: u32, mut call: impl FnMut()) -> f64 {
    let round = |_| {
        let began = Instant::now();
        for _ in 0..count {
            call();
        }
        began.elapsed().as_secs_f64() * 1e6 / f64::from(count)
    };
    figures::median((0..rounds()).map(round).collect())
}
