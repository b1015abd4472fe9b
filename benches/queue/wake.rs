//! How soon somebody who waits gets a job, and how long an idle server takes for a push.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use holdfast::testing::amount;

use crate::at;
use crate::figures::{Limit, target};
use crate::load::{Desk, QUEUE, leases};
use crate::machine::Disk;
use crate::server::{Answer, Holdfast, ask, connect, receive, send};

/// Between two pushes: nobody waits for anything then, and the server has not gone to sleep either.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks, and the answer must have this status.
pub(crate) fn expect(stream: &mut TcpStream, request: &[u8], status: u16) -> Answer {
    let answer = ask(stream, request).unwrap();
    assert_eq!(answer.status, status, "{}", answer.bytes.escape_ascii());
    answer
}

/// The body as text.
pub(crate) fn text(answer: &Answer) -> &str {
    std::str::from_utf8(answer.body()).unwrap()
}

/// How long it took, and how long a bare sync took in between.
#[derive(Default)]
struct Times {
    took: Vec<Duration>,
    syncs: Vec<Duration>,
}

/// How long after a push was sent the one who waits has its job.
fn wakes(server: &Holdfast, times: u64) -> Times {
    let desk = Desk::of(server);
    let mut worker = connect(server.address).unwrap();
    let mut producer = connect(server.address).unwrap();
    let body = format!(r#"{{"queues":["{QUEUE}"],"max":1,"wait":"9s"}}"#);
    let lease = desk.post("/v1/lease", &body);
    with_syncs(times, || {
        send(&mut worker, &lease).unwrap();
        std::thread::sleep(PAUSE);
        let began = Instant::now();
        send(&mut producer, &desk.push()).unwrap();
        let leased = receive(&mut worker).unwrap();
        let took = began.elapsed();
        assert_eq!(receive(&mut producer).unwrap().status, 201);
        let lease = leases(text(&leased)).next().expect("a job is leased");
        expect(&mut worker, &desk.done(lease), 200);
        took
    })
}

/// How long pushes take, one after the other with pauses.
fn idle_pushes(server: &Holdfast, times: u64) -> Times {
    let push = Desk::of(server).push();
    let mut producer = connect(server.address).unwrap();
    with_syncs(times, || {
        std::thread::sleep(PAUSE);
        let began = Instant::now();
        expect(&mut producer, &push, 201);
        began.elapsed()
    })
}

/// Does it so often, and syncs a file of its own in between: the disk is not the same from one second to
/// the next.
fn with_syncs(times: u64, mut once: impl FnMut() -> Duration) -> Times {
    let (mut disk, mut out) = (Disk::new(), Times::default());
    for _ in 0..times {
        out.took.push(once());
        out.syncs.push(disk.sync());
    }
    out
}

/// Prints them beside the limit: so many milliseconds and three syncs.
fn print(name: &str, mut times: Times, ms: f64) {
    times.took.sort_unstable();
    times.syncs.sort_unstable();
    let (took, sync) = (&times.took, at(&times.syncs, 500));
    println!(
        "{name:<54} p50 {:.3} ms, max {:.3} ms; fdatasync meanwhile p50 {sync:.3} ms, p99 {:.3} ms",
        at(took, 500),
        at(took, 1000),
        at(&times.syncs, 990)
    );
    target("  p99, ms", at(took, 990), Limit::AtMost(ms + 3.0 * sync));
}

/// The scene.
pub(super) fn scene() {
    let server = Holdfast::start();
    let times = amount("HOLDFAST_BENCH_CALLS", 1000);
    println!("\nwake: an idle server, {times} times each; limits with three fdatasyncs\n");
    print("push sent to parked lease answered", wakes(&server, times), 2.0);
    print("idle push", idle_pushes(&server, times), 0.5);
}
