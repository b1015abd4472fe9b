//! The queues over HTTP: what a durable job costs, whether a long queue costs more, how soon somebody is
//! woken, what a dead worker costs. `cargo bench --bench queue`, or parts of it: `-- push wake`; the parts
//! are machine, push, wake, backlog, history, search, death, peers.
//!
//! Server and generator share the machine; the generator is one thread, and its cost is printed. What is
//! compared is measured in turns, so that peers meet the same machine; what is printed are medians of the
//! rounds, and ratios of medians. Between two measurements the queue gets its length back, and the history
//! all of its rows.
//!
//! `HOLDFAST_BENCH_SECONDS` (default 1) is the length of one measurement, `HOLDFAST_BENCH_ROUNDS` (default
//! 3) how often each is made. `HOLDFAST_BENCH_JOBS` (default 1,000,000) is how many jobs wait or are
//! searched, `HOLDFAST_BENCH_CALLS` (default 1,000) how often somebody is woken, `HOLDFAST_BENCH_KILLS`
//! (default 50) how many workers are killed: limits are for the defaults.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and starts threads")]
#![expect(clippy::print_stdout, reason = "figures are printed")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "queue/backlog.rs"]
mod backlog;
#[path = "queue/death.rs"]
mod death;
#[path = "support/figures.rs"]
mod figures;
#[path = "queue/history.rs"]
mod history;
#[path = "queue/load.rs"]
mod load;
#[path = "queue/machine.rs"]
mod machine;
#[path = "queue/peers.rs"]
mod peers;
#[path = "queue/push.rs"]
mod push;
#[path = "queue/search.rs"]
mod search;
#[path = "support/server.rs"]
mod server;
#[path = "queue/wake.rs"]
mod wake;

use std::time::Duration;

use holdfast::testing::amount;

use machine::Machine;

type Scene = (&'static str, fn());

const SCENES: [Scene; 8] = [
    ("machine", || ()),
    ("push", push::scene),
    ("wake", wake::scene),
    ("backlog", backlog::scene),
    ("history", history::scene),
    ("search", search::scene),
    ("death", death::scene),
    ("peers", peers::scene),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    if let ["child-worker", address, token, number] = words[..] {
        return death::child_worker(address, token, number);
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
    Machine::measure().print();
    for (_, scene) in scenes {
        scene();
    }
}

/// How long one measurement is.
fn length() -> Duration {
    Duration::from_secs(amount("HOLDFAST_BENCH_SECONDS", 1))
}

fn rounds() -> u64 {
    amount("HOLDFAST_BENCH_ROUNDS", 3)
}

/// How many jobs wait, or are searched.
fn many_jobs() -> u64 {
    amount("HOLDFAST_BENCH_JOBS", 1_000_000)
}

/// The value at so many per mille of these, in milliseconds.
fn at(sorted: &[Duration], per_mille: usize) -> f64 {
    let place = (sorted.len() * per_mille / 1000).min(sorted.len() - 1);
    sorted[place].as_secs_f64() * 1000.0
}
