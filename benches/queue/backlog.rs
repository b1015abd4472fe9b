//! What a million waiting jobs cost: memory, disk, the next start; and what a second million adds.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::figures::{Limit, target};
use crate::history;
use crate::load::{Desk, Kind, PAYLOAD_BYTES, Until, Work, run};
use crate::many_jobs;
use crate::push::{BATCH_8, CYCLE_64, PUSH_64, compare, drain, fill};
use crate::server::{Holdfast, SERVER};

/// What is counted of a job beside its payload: id, queue, type, state, moments, counters.
const HEAD_BYTES: u64 = 60;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The most that was seen.
#[derive(Default)]
struct Peaks {
    resident_kb: AtomicU64,
    disk_bytes: AtomicU64,
}

impl Peaks {
    fn look(&self, server: &Holdfast) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "kilobytes")]
        let resident = (server.process.resident_mb() * 1024.0) as u64;
        self.resident_kb.fetch_max(resident, Relaxed);
        self.disk_bytes.fetch_max(disk_bytes(server), Relaxed);
    }

    fn resident_mb(&self) -> f64 {
        self.resident_kb.load(Relaxed) as f64 / 1024.0
    }

    fn disk_mb(&self) -> f64 {
        self.disk_bytes.load(Relaxed) as f64 / 1e6
    }
}

/// Blocks that the file of the jobs has, in bytes; what is kept ahead for it is among them.
fn disk_bytes(server: &Holdfast) -> u64 {
    let path = server.folder.path().join("data/jobs.redb");
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// Does something and looks meanwhile how large the server becomes.
fn watched<T>(server: &Holdfast, what: impl FnOnce() -> T) -> (T, Peaks) {
    let (peaks, ended) = (Peaks::default(), AtomicBool::new(false));
    let out = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Relaxed) {
                peaks.look(server);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        let out = what();
        ended.store(true, Relaxed);
        out
    });
    peaks.look(server);
    (out, peaks)
}

/// `kill -9`, then another one on the same data.
fn kill_and_start(server: Holdfast) -> Holdfast {
    let Holdfast { process, folder, .. } = server;
    // Killed and waited for.
    drop(process);
    Holdfast::start_in(folder, Command::new(SERVER).env_clear())
}

/// The same, in the middle of many pushes.
fn kill_in_a_burst(server: Holdfast) -> Holdfast {
    let (work, pid) = (Work::new(Kind::Push, Desk::of(&server)), server.process.0.id());
    std::thread::scope(|scope| {
        let burst = scope.spawn(|| run(&server.process, work, 64, &Until::Gone));
        std::thread::sleep(Duration::from_millis(500));
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        assert_ne!(burst.join().unwrap().jobs, 0, "jobs were pushed when it was killed");
    });
    kill_and_start(server)
}

fn restarts(server: Holdfast) -> Holdfast {
    let limit = Limit::AtMost(2.0);
    std::thread::sleep(Duration::from_secs(1));
    let server = kill_and_start(server);
    target("restart to ready after kill -9, idle, s", server.ready_after.as_secs_f64(), limit);
    let server = kill_in_a_burst(server);
    target("  in a burst of pushes, s", server.ready_after.as_secs_f64(), limit);
    let resident = server.process.resident_mb();
    println!("{:<54} {resident:>9.2}", "  resident after it, MB");
    server
}

/// The scene.
pub(super) fn scene() {
    let jobs = many_jobs();
    let (server, empty) = (Holdfast::start(), Holdfast::start());
    let (filled, first) = watched(&server, || fill(&server, jobs));
    println!(
        "\nbacklog: {jobs} waiting jobs of 200 bytes, pushed at {:.0}/s, 1,000 in a call\n",
        filled.per_second
    );
    let live_mb = (jobs * (PAYLOAD_BYTES as u64 + HEAD_BYTES)) as f64 / 1e6;
    println!(
        "blocks are st_blocks * 512 of jobs.redb, the most that was seen; live data is {live_mb:.0} MB: \
         {PAYLOAD_BYTES} bytes of payload and {HEAD_BYTES} of head a job\n"
    );
    target("resident at most while it is filled, MB", first.resident_mb(), Limit::AtMost(120.0));
    target("blocks at the peak / live data", first.disk_mb() / live_mb, Limit::AtMost(3.0));
    let server = restarts(server);
    println!();
    let ((), busy) = watched(&server, || compare(&empty, &server, &[PUSH_64, CYCLE_64, BATCH_8]));
    target("resident at most meanwhile, MB", busy.resident_mb(), Limit::AtMost(120.0));
    second_million(&server, jobs, &first);
}

/// Finishes all that waits, and pushes as many again.
fn second_million(server: &Holdfast, jobs: u64, first: &Peaks) {
    let (drained, emptied) = watched(server, || {
        let drained = drain(server, u64::MAX);
        history::settle(server);
        drained
    });
    println!("\n{} jobs were finished at {:.0}/s", drained.jobs, drained.per_second);
    println!("{:<54} {:>9.1}", "  blocks at most meanwhile, MB", emptied.disk_mb());
    println!("{:<54} {:>9.2}", "  resident at most meanwhile, MB", emptied.resident_mb());
    assert!(jobs <= drained.jobs, "all of {jobs} and those of the restart");
    let (_, second) = watched(server, || fill(server, jobs));
    println!("{:<54} {:>9.1}", "blocks at the first peak, MB", first.disk_mb());
    println!("{:<54} {:>9.1}", "blocks at the second peak, MB", second.disk_mb());
    let grown = second.disk_mb() / first.disk_mb();
    target("second / first", grown, Limit::AtMost(1.1));
    target("resident at most, MB", second.resident_mb(), Limit::AtMost(120.0));
}
