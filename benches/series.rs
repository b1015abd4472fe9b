//! The series: what a sample and a point cost on disk, in memory and in time. `cargo bench --bench series`, or parts of it:
//! `-- bytes ingest`; the parts are bytes, ingest, query, day, reopen.
//!
//! Samples are those of a real machine, recorded once (`benches/data`, see `support/host.rs`); where many series are needed,
//! each machine of a fleet has the recorded values from another moment on. The clock is moved by hand, so that a day takes
//! a minute: the log, its ticks, the seals and the rollups are those of the server, on real files. What needs a process of
//! its own (memory, a kill) gets one.
//!
//! `HOLDFAST_BENCH_ROUNDS` (default 5) is how often a time is measured; medians are printed.
//! `-- record FILE SECONDS COUNT` records this machine.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and starts processes")]
#![expect(clippy::print_stdout, reason = "figures are printed")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "series/bytes.rs"]
mod bytes;
#[path = "series/day.rs"]
mod day;
#[path = "support/figures.rs"]
mod figures;
#[path = "series/fleet.rs"]
mod fleet;
#[path = "support/host.rs"]
mod host;
#[path = "series/ingest.rs"]
mod ingest;
#[path = "series/query.rs"]
mod query;
#[path = "series/reopen.rs"]
mod reopen;
#[path = "support/sampler.rs"]
mod sampler;
#[path = "series/store.rs"]
mod store;

use holdfast::testing::amount;

type Scene = (&'static str, fn());

const SCENES: [Scene; 5] = [
    ("bytes", bytes::scene),
    ("ingest", ingest::scene),
    ("query", query::scene),
    ("day", day::scene),
    ("reopen", reopen::scene),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    match words[..] {
        ["record", path, seconds, count] => return sampler::record(path, seconds, count),
        ["child-day", series] => return day::child(series),
        ["child-fill", folder] => return reopen::fill(folder),
        ["child-open", folder] => return reopen::open_timed(folder),
        _ => {}
    }
    let named = |word: &&str| {
        *SCENES.iter().find(|(name, _)| name == word).unwrap_or_else(|| {
            panic!("{word}: the parts are {:?}", SCENES.map(|(name, _)| name));
        })
    };
    let scenes: Vec<Scene> = match &words[..] {
        [] => SCENES.to_vec(),
        words => words.iter().map(named).collect(),
    };
    for (name, scene) in scenes {
        println!("-- {name}");
        scene();
    }
}

fn rounds() -> u64 {
    amount("HOLDFAST_BENCH_ROUNDS", 5)
}
