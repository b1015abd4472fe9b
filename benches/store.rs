//! What durability costs here, beside what it costs bare. `cargo bench --bench store`
//!
//! One run measures everything in rounds, so that peers meet the same machine; what is printed are
//! medians of the rounds, and ratios of medians. Absolute figures are this machine's; the ratios carry
//! over. `HOLDFAST_BENCH_SECONDS` (default 1) is the length of one measurement, `HOLDFAST_BENCH_ROUNDS`
//! (default 5) how often each is made.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and starts threads")]
#![expect(clippy::print_stdout, reason = "figures are printed")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "support/figures.rs"]
mod figures;

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use holdfast::base::limits::engine_cache_bytes;
use holdfast::base::time::Clock;
use holdfast::exec::writer::{Effect, Opener, Options, Terms, Writer};
use holdfast::store::redb::Redb;
use holdfast::store::sqlite::Sqlite;
use holdfast::store::{self, Commit, Engine, Finish, Opening, Table, Write};
use holdfast::testing::clock::SystemClock;
use holdfast::testing::{amount, wait_until};

use figures::{Limit, median, target};

const PAYLOAD: [u8; 200] = [0x5a; 200];
/// What a 1 GB server gives each file.
const CACHE_BYTES: u64 = engine_cache_bytes(1 << 30);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["child-fill", path, megabytes, then] => {
            child_fill(Path::new(path), megabytes.parse().unwrap(), then);
        }
        ["child-idle", folder] => child_idle(Path::new(folder)),
        [only, ..] if !only.starts_with('-') => one(only),
        _ => {
            commits();
            reopening();
            idle_memory();
        }
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

// --- commits ------------------------------------------------------------------------------------

/// What one measurement gave.
#[derive(Clone, Copy)]
struct Sample {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    /// Operations in one commit, on average.
    per_commit: f64,
}

impl Sample {
    fn from(mut latencies_ns: Vec<u64>, took: Duration, commits: u64) -> Sample {
        latencies_ns.sort_unstable();
        let at = |per_mille: usize| {
            let index = (latencies_ns.len() * per_mille / 1000).min(latencies_ns.len() - 1);
            latencies_ns[index] as f64 / 1000.0
        };
        let ops = latencies_ns.len() as f64;
        Sample {
            per_second: ops / took.as_secs_f64(),
            p50_us: at(500),
            p99_us: at(990),
            per_commit: ops / commits.max(1) as f64,
        }
    }
}

fn middle(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    median(samples.iter().map(of).collect())
}

fn length() -> Duration {
    Duration::from_secs(amount("HOLDFAST_BENCH_SECONDS", 1))
}

/// Runs `once` until the time is up, on one thread; `per_call` operations each.
fn alone(per_call: u64, mut once: impl FnMut(u64)) -> Sample {
    let (began, mut latencies, mut n) = (Instant::now(), Vec::new(), 0);
    while began.elapsed() < length() {
        let call = Instant::now();
        once(n);
        let each = u64::try_from(call.elapsed().as_nanos()).unwrap();
        latencies.extend(std::iter::repeat_n(each, usize::try_from(per_call).unwrap()));
        n += per_call;
    }
    Sample::from(latencies, began.elapsed(), n / per_call)
}

fn push(tx: &mut dyn Write, n: u64) -> store::Result {
    tx.put(Table::Jobs, &n.to_be_bytes(), &PAYLOAD)?;
    tx.put(Table::Ready, &n.to_be_bytes(), b"")
}

fn bare_write_and_sync() -> Sample {
    let folder = folder();
    let mut file = OpenOptions::new().create_new(true).write(true).open(folder.path().join("log"));
    let file = file.as_mut().unwrap();
    alone(1, |_| {
        file.write_all(&PAYLOAD).unwrap();
        file.sync_data().unwrap();
    })
}

const REDB_JOBS: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("jobs");
const REDB_READY: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("ready");

/// redb as its documentation shows it, `per_commit` operations in a transaction.
fn bare_redb(per_commit: u64) -> Sample {
    let folder = folder();
    let database = redb::Database::builder()
        .set_cache_size(usize::try_from(CACHE_BYTES).unwrap())
        .create(folder.path().join("bare.redb"))
        .unwrap();
    alone(per_commit, |first| {
        let tx = database.begin_write().unwrap();
        {
            let mut jobs = tx.open_table(REDB_JOBS).unwrap();
            let mut ready = tx.open_table(REDB_READY).unwrap();
            for n in first..first + per_commit {
                jobs.insert(&n.to_be_bytes()[..], &PAYLOAD[..]).unwrap();
                ready.insert(&n.to_be_bytes()[..], &b""[..]).unwrap();
            }
        }
        tx.commit().unwrap();
    })
}

fn bare_sqlite() -> Sample {
    let folder = folder();
    let connection = rusqlite::Connection::open(folder.path().join("bare.sqlite")).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE jobs (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID;
             CREATE TABLE ready (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID;",
        )
        .unwrap();
    let run = |sql: &str, n: u64, v: &[u8]| {
        connection.prepare_cached(sql).unwrap().execute((&n.to_be_bytes()[..], v)).unwrap()
    };
    alone(1, |n| {
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        run("INSERT INTO jobs VALUES (?1, ?2)", n, &PAYLOAD);
        run("INSERT INTO ready VALUES (?1, ?2)", n, b"");
        connection.execute_batch("COMMIT").unwrap();
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Redb,
    Sqlite,
}

fn opener(kind: Kind, path: PathBuf) -> Opener {
    Box::new(move |opening| match kind {
        Kind::Redb => Ok(Box::new(Redb::open(&path, CACHE_BYTES, opening)?) as Box<dyn Engine>),
        Kind::Sqlite => Ok(Box::new(Sqlite::open(&path, CACHE_BYTES, opening)?)),
    })
}

fn terms(clock: &dyn Clock) -> Terms {
    let until = clock.mono().plus(Duration::from_mins(1));
    Terms { until, bytes: PAYLOAD.len(), effect: Effect::Grows }
}

/// Callers on threads of their own, each of which waits for its answer before it calls again.
fn callers(kind: Kind, callers: u64) -> Sample {
    let folder = folder();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = Options::new("bench", Box::new(|| ()));
    let open = opener(kind, folder.path().join("jobs"));
    let writer = Writer::start(options, open, Arc::clone(&clock)).unwrap();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..callers)
            .map(|_| {
                let (writer, clock, next, stop) = (&writer, &*clock, &next, &stop);
                scope.spawn(move || {
                    let mut latencies = Vec::new();
                    while !stop.load(Relaxed) {
                        let n = next.fetch_add(1, Relaxed);
                        let call = Instant::now();
                        writer.call(terms(clock), move |tx| push(tx, n)).unwrap();
                        latencies.push(u64::try_from(call.elapsed().as_nanos()).unwrap());
                    }
                    latencies
                })
            })
            .collect();
        std::thread::sleep(length());
        stop.store(true, Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let took = began.elapsed();
    Sample::from(latencies, took, writer.figures().batch_ops.count())
}

type Measurement = (&'static str, fn() -> Sample);

const MEASUREMENTS: [Measurement; 10] = [
    ("bare write + fdatasync, 200 B", bare_write_and_sync),
    ("bare redb, 1 operation a commit", || bare_redb(1)),
    ("bare redb, 64 operations a commit", || bare_redb(64)),
    ("bare SQLite, 1 operation a commit", bare_sqlite),
    ("redb, 1 caller", || callers(Kind::Redb, 1)),
    ("redb, 16 callers", || callers(Kind::Redb, 16)),
    ("redb, 64 callers", || callers(Kind::Redb, 64)),
    ("SQLite, 1 caller", || callers(Kind::Sqlite, 1)),
    ("SQLite, 16 callers", || callers(Kind::Sqlite, 16)),
    ("SQLite, 64 callers", || callers(Kind::Sqlite, 64)),
];

/// One measurement, to look at with a profiler: `cargo bench --bench store -- "redb, 64 callers"`.
fn one(name: &str) {
    let (_, measure) = MEASUREMENTS.iter().find(|(known, _)| *known == name).unwrap();
    let Sample { per_second, p50_us, p99_us, per_commit } = measure();
    println!("{per_second:.0}/s, p50 {p50_us:.0} us, p99 {p99_us:.0} us, {per_commit:.1} a commit");
}

fn commits() {
    let rounds = usize::try_from(amount("HOLDFAST_BENCH_ROUNDS", 5)).unwrap();
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); MEASUREMENTS.len()];
    for _ in 0..rounds {
        for (samples, (_, measure)) in samples.iter_mut().zip(MEASUREMENTS) {
            samples.push(measure());
        }
    }
    println!("push_200b: one job row and one ready row an operation; medians of {rounds} rounds\n");
    println!("{:<36} {:>10} {:>9} {:>9} {:>10}", "", "op/s", "p50 us", "p99 us", "op/commit");
    for ((name, _), samples) in MEASUREMENTS.iter().zip(&samples) {
        println!(
            "{name:<36} {:>10.0} {:>9.0} {:>9.0} {:>10.1}",
            middle(samples, |s| s.per_second),
            middle(samples, |s| s.p50_us),
            middle(samples, |s| s.p99_us),
            middle(samples, |s| s.per_commit),
        );
    }
    let rate = |n: usize| middle(&samples[n], |s| s.per_second);
    let p50 = |n: usize| middle(&samples[n], |s| s.p50_us);
    println!();
    target("1 caller, p50 / bare redb commit, p50", p50(4) / p50(1), Limit::AtMost(1.5));
    target("64 callers / bare redb 64 a commit, op/s", rate(6) / rate(2), Limit::AtLeast(0.6));
    target("64 callers / 1 caller, op/s", rate(6) / rate(4), Limit::AtLeast(15.0));
    println!("for comparison:");
    ratio("SQLite, 1 caller, p50 / bare SQLite commit, p50", p50(7) / p50(3));
    ratio("SQLite, 64 callers / 1 caller, op/s", rate(9) / rate(7));
    ratio("redb, 64 callers / SQLite, 64 callers, op/s", rate(6) / rate(9));
    ratio("redb, 1 caller / bare write + fdatasync, p50", p50(4) / p50(0));
    println!("an idle call makes {} commit and {} sync", idle_cost().0, idle_cost().1);
}

fn ratio(name: &str, value: f64) {
    println!("{name:<50} {value:>8.2}");
}

/// Commits and syncs of one call to an idle writer.
fn idle_cost() -> (u64, u64) {
    let folder = folder();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options =
        Options { idle: Duration::from_hours(1), ..Options::new("bench", Box::new(|| ())) };
    let open = opener(Kind::Redb, folder.path().join("jobs"));
    let writer = Writer::start(options, open, Arc::clone(&clock)).unwrap();
    let call = |n| writer.call(terms(&*clock), move |tx| push(tx, n)).unwrap();
    (0..10).for_each(call);
    let before = writer.figures().engine.unwrap();
    call(10);
    let after = writer.figures().engine.unwrap();
    (after.commits - before.commits, after.syncs - before.syncs)
}

// --- reopening ----------------------------------------------------------------------------------

/// Fills a file with live data, then is quiet, or goes on writing, until it is killed.
fn child_fill(path: &Path, megabytes: u64, then: &str) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = Options::new("bench", Box::new(|| ()));
    let open = opener(Kind::Redb, path.to_owned());
    let writer = Writer::start(options, open, Arc::clone(&clock)).unwrap();
    let value = [0x5a_u8; 4_000];
    let rows = megabytes * (1 << 20) / value.len() as u64;
    for first in (0..rows).step_by(500) {
        let fill = move |tx: &mut dyn Write| {
            (first..first + 500).try_for_each(|n| tx.put(Table::Jobs, &n.to_be_bytes(), &value))
        };
        writer.call(terms(&*clock), fill).unwrap();
    }
    if then == "quiet" {
        be_quiet(&writer);
        println!("ready");
        std::thread::park();
    }
    println!("ready");
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (writer, clock) = (&writer, &*clock);
            scope.spawn(move || {
                for n in (1 << 40 | thread..).step_by(8) {
                    writer.call(terms(clock), move |tx| push(tx, n)).unwrap();
                }
            });
        }
    });
}

/// Waits until the writer has left its file in order after the last call.
fn be_quiet(writer: &Writer) {
    // A commit that was made while the call was on its way may be counted late; two are enough.
    let commits = || {
        let engine = writer.figures().engine.unwrap();
        (writer.figures().quick_commits, engine.commits)
    };
    wait_until("the file is left in order", || {
        let before = commits();
        std::thread::sleep(Duration::from_millis(600));
        before.0 != 0 && before == commits()
    });
}

fn start_child(arguments: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    pipe.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "the child is ready");
    (child, pipe)
}

/// Milliseconds to open the file that a killed child left, and whether it had to be checked.
fn kill_and_open(megabytes: u64, then: &str, cold: bool) -> (f64, bool) {
    let folder = folder();
    let path = folder.path().join("jobs.redb");
    let text = megabytes.to_string();
    let (mut child, _pipe) = start_child(&["child-fill", path.to_str().unwrap(), &text, then]);
    if then == "burst" {
        std::thread::sleep(Duration::from_millis(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    if cold {
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    let began = Instant::now();
    let engine = Redb::open(&path, CACHE_BYTES, Opening::Start).unwrap();
    let opened = began.elapsed();
    engine.write(Commit::Plain, &mut |_| Ok(Finish::Abandon)).unwrap();
    (opened.as_secs_f64() * 1000.0, engine.figures().repaired)
}

fn reopening() {
    println!("\nreopen_after_kill_9: milliseconds to open, medians of 3\n");
    println!(
        "{:<20} {:>16} {:>16} {:>18}",
        "live data", "after quiet", "quiet, cold", "inside a burst"
    );
    for megabytes in [16, 64, 256] {
        let measure = |then, cold| {
            let mut runs: Vec<(f64, bool)> =
                (0..3).map(|_| kill_and_open(megabytes, then, cold)).collect();
            runs.sort_by(|a, b| a.0.total_cmp(&b.0));
            runs[1]
        };
        let (quiet, cold, burst) =
            (measure("quiet", false), measure("quiet", true), measure("burst", false));
        let how = |(ms, repaired): (f64, bool)| {
            format!("{ms:.1}{}", if repaired { " checked" } else { "" })
        };
        let name = format!("{megabytes} MB");
        println!("{name:<20} {:>16} {:>16} {:>18}", how(quiet), how(cold), how(burst));
        target("  after quiet, ms", quiet.0, Limit::AtMost(20.0));
    }
}

// --- memory -------------------------------------------------------------------------------------

/// The three files of a server, open and quiet.
fn child_idle(folder: &Path) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let writers: Vec<Writer> = ["jobs", "kept", "series"]
        .into_iter()
        .map(|name| {
            let open = opener(Kind::Redb, folder.join(format!("{name}.redb")));
            let options = Options::new(name, Box::new(|| ()));
            Writer::start(options, open, Arc::clone(&clock)).unwrap()
        })
        .collect();
    for writer in &writers {
        writer.call(terms(&*clock), |tx| push(tx, u64::MAX)).unwrap();
        be_quiet(writer);
    }
    println!("ready");
    std::thread::park();
}

fn resident_mb(child: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn idle_memory() {
    println!("\nidle_memory: a process with three files open, resident MB\n");
    for megabytes in [0, 64] {
        let folder = folder();
        if megabytes != 0 {
            for name in ["jobs", "kept", "series"] {
                let path = folder.path().join(format!("{name}.redb"));
                let text = megabytes.to_string();
                let path = path.to_str().unwrap();
                let (mut child, _pipe) = start_child(&["child-fill", path, &text, "quiet"]);
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
        let (mut child, _pipe) = start_child(&["child-idle", folder.path().to_str().unwrap()]);
        let resident = resident_mb(&child);
        child.kill().unwrap();
        child.wait().unwrap();
        target(&format!("{megabytes} MB of live data in each"), resident, Limit::AtMost(15.0));
    }
}
