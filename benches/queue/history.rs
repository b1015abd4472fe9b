//! How fast finished jobs come into the history.

use std::time::{Duration, Instant};

use crate::figures::{Limit, target};
use crate::load::{Desk, Kind, Until, Work, run};
use crate::server::{Holdfast, ask, connect};

/// Rows of the history.
pub(crate) const HISTORY_ROWS: &str = "holdfast_history_rows";
/// Rows that are still to come into it.
pub(crate) const OUTBOX_ROWS: &str = "holdfast_outbox_rows";
/// Whoever waits for the history waits no longer than this.
const SETTLES_WITHIN: Duration = Duration::from_mins(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The outbox holds half a million; what is beyond it is only counted.
const BURST: u64 = 200_000;

/// A figure of `/metrics`, of all tenants together.
pub(crate) fn figure(server: &Holdfast, name: &str) -> f64 {
    let request = Desk::of(server).get("/metrics");
    let answer = ask(&mut connect(server.address).unwrap(), &request).unwrap();
    assert_eq!(answer.status, 200, "/metrics");
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    let lines = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let is_it = rest.starts_with(['{', ' ']);
        is_it.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
    });
    let values: Vec<f64> = lines.collect();
    assert!(!values.is_empty(), "{name} is not in /metrics");
    values.iter().sum()
}

/// Waits until all that is finished is in the history; the rows that it has then.
pub(crate) fn settle(server: &Holdfast) -> f64 {
    let began = Instant::now();
    while 0.0 < figure(server, OUTBOX_ROWS) {
        assert!(began.elapsed() < SETTLES_WITHIN, "the history is late");
        std::thread::sleep(LOOK_EVERY);
    }
    figure(server, HISTORY_ROWS)
}

/// The scene.
pub(super) fn scene() {
    let server = Holdfast::start();
    let began = Instant::now();
    let work = Work::new(Kind::Batch, Desk::of(&server));
    let burst = run(&server.process, work, 8, &Until::Jobs(BURST));
    let (rows, waiting) = (figure(&server, HISTORY_ROWS), figure(&server, OUTBOX_ROWS));
    let ended = Instant::now();
    let all = settle(&server);
    println!("\nhistory: after {} jobs, 100 in a call, at {:.0}/s\n", burst.jobs, burst.per_second);
    println!("{:<54} {rows:>9.0}", "rows when the last job was finished");
    println!("{:<54} {waiting:>9.0}", "rows that were still to come");
    let overall = all / began.elapsed().as_secs_f64();
    println!("{:<54} {overall:>9.0}", "rows/s, the burst included");
    // What comes while nothing else is done says more, unless that is next to nothing.
    let (name, rate) = if all < 10.0 * waiting {
        ("rows/s after the burst", (all - rows) / ended.elapsed().as_secs_f64())
    } else {
        ("rows/s, as they came: it was not late", overall)
    };
    target(name, rate, Limit::AtLeast(15_000.0));
    assert!(burst.jobs as f64 <= all, "{all} rows of {} jobs", burst.jobs);
}
