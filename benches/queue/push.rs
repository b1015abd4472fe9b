//! Rates of pushes and of whole lives of jobs, with an empty queue and with a long one.

use std::time::Duration;

use crate::figures::{Limit, median, target};
use crate::history;
use crate::load::{Desk, Kind, Sample, Until, Work, run};
use crate::server::{Holdfast, Process};
use crate::{length, many_jobs, rounds};

/// One thing that is measured.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) connections: usize,
    /// The least rate with an empty queue, and what one would be proud of.
    pub(crate) least: Option<(f64, &'static str)>,
}

const fn case(name: &'static str, kind: Kind, connections: usize) -> Case {
    Case { name, kind, connections, least: None }
}

pub(crate) const PUSH_64: Case = Case {
    least: Some((40_000.0, "Redis' LPUSH")),
    ..case("push, 64 connections", Kind::Push, 64)
};
pub(crate) const CYCLE_64: Case = Case {
    least: Some((12_000.0, "Redis' three")),
    ..case("push, lease, done, 64 connections", Kind::Cycle, 64)
};
pub(crate) const BATCH_8: Case = Case {
    least: Some((40_000.0, "60,000")),
    ..case("the same, 100 in a call, 8 connections", Kind::Batch, 8)
};

const CASES: [Case; 8] = [
    case("push, 1 connection", Kind::Push, 1),
    case("push, 16 connections", Kind::Push, 16),
    PUSH_64,
    case("push, lease, done, 1 connection", Kind::Cycle, 1),
    case("push, lease, done, 16 connections", Kind::Cycle, 16),
    CYCLE_64,
    case("push, done and lease in one, 64", Kind::Report, 64),
    BATCH_8,
];

/// What the rounds gave for one case at one server.
#[derive(Default)]
pub(crate) struct Samples(pub(crate) Vec<Sample>);

impl Samples {
    fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.0.iter().map(of).collect())
    }

    pub(crate) fn rate(&self) -> f64 {
        self.median(|sample| sample.per_second)
    }

    /// Microseconds of CPU that one job costs, over all rounds.
    fn cpu_us(&self, of: impl Fn(&Sample) -> Duration) -> f64 {
        let jobs: u64 = self.0.iter().map(|sample| sample.jobs).sum();
        self.0.iter().map(of).sum::<Duration>().as_secs_f64() * 1e6 / jobs as f64
    }

    pub(crate) fn print_head() {
        println!(
            "{:<54} {:>9} {:>8} {:>8} {:>12} {:>12}",
            "", "jobs/s", "p50 us", "p99 us", "CPU us/job", "generator's"
        );
    }

    pub(crate) fn print(&self, name: &str) {
        println!(
            "{name:<54} {:>9.0} {:>8.0} {:>8.0} {:>12.2} {:>12.2}",
            self.rate(),
            self.median(|sample| sample.p50_us),
            self.median(|sample| sample.p99_us),
            self.cpu_us(|sample| sample.server_cpu),
            self.cpu_us(|sample| sample.generator_cpu),
        );
    }
}

/// Adds so many jobs to the queue; as fast as that goes.
pub(crate) fn fill(server: &Holdfast, jobs: u64) -> Sample {
    const IN_A_CALL: u64 = 1000;
    let calls = Kind::PushMany(IN_A_CALL.min(jobs));
    run(&server.process, Work::new(calls, Desk::of(server)), 4, &Until::Jobs(jobs))
}

/// Finishes so many of the jobs that wait.
pub(crate) fn drain(server: &Holdfast, jobs: u64) -> Sample {
    run(&server.process, Work::new(Kind::Drain, Desk::of(server)), 4, &Until::Jobs(jobs))
}

/// Measures it once, then gives the queue its length back and waits for the history.
pub(crate) fn measure(server: &Holdfast, case: Case) -> Sample {
    let work = Work::new(case.kind, Desk::of(server));
    let sample = run(&server.process, work, case.connections, &Until::Time(length()));
    if case.kind == Kind::Push {
        drain(server, sample.jobs);
    }
    history::settle(server);
    sample
}

/// Measures it at a peer.
pub(crate) fn measure_peer(process: &Process, work: Work, connections: usize) -> Sample {
    run(process, work, connections, &Until::Time(length()))
}

/// Measures these with an empty and with a long queue, in turns, and prints what came out.
pub(crate) fn compare(empty: &Holdfast, long: &Holdfast, cases: &[Case]) {
    let new = || (Samples::default(), Samples::default());
    let mut all: Vec<_> = cases.iter().map(|_| new()).collect();
    for _ in 0..rounds() {
        for (case, (at_empty, at_long)) in cases.iter().zip(&mut all) {
            at_empty.0.push(measure(empty, *case));
            at_long.0.push(measure(long, *case));
        }
    }
    Samples::print_head();
    for (case, (at_empty, at_long)) in cases.iter().zip(&all) {
        at_empty.print(case.name);
        at_long.print("  with a long queue");
    }
    println!();
    for (case, (at_empty, at_long)) in cases.iter().zip(&all) {
        println!("{}", case.name);
        if let Some((least, hoped)) = case.least {
            let name = format!("  jobs/s (hoped for: {hoped})");
            target(&name, at_empty.rate(), Limit::AtLeast(least));
        }
        let ratio = at_long.rate() / at_empty.rate();
        target("  long / empty queue, jobs/s (hoped for: 0.85)", ratio, Limit::AtLeast(0.7));
    }
}

/// The scene.
pub(super) fn scene() {
    let (empty, long) = (Holdfast::start(), Holdfast::start());
    let filled = fill(&long, many_jobs());
    println!(
        "\npush: payloads of 200 bytes; empty queues and one of {} jobs (filled at {:.0} jobs/s, 1,000 in \
         a call); medians of {} rounds\n",
        filled.jobs,
        filled.per_second,
        rounds()
    );
    compare(&empty, &long, &CASES);
}
