//! A fill with ten times the budget: how much memory it takes at most, and whether others are answered.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use holdfast::base::rng::Rng;

use crate::cache::call;
use crate::figures::{Limit, target};
use crate::server::{Holdfast, Process, ask, connect, request};

const BUDGET: u64 = 256_000_000;
const TIMES: u64 = 10;
const WRITERS: u64 = 4;
/// Values have 16 bytes to 1 MiB, as many between 16 and 32 as between 512 KiB and 1 MiB.
const LEAST: f64 = 16.0;
const DOUBLINGS: f64 = 16.0;
const SAMPLE_EVERY: Duration = Duration::from_millis(20);
const ASK_EVERY: Duration = Duration::from_millis(5);
const HOT: &str = "/v1/cache/hot/keys/hot";

/// Resident memory, in bytes.
fn resident(process: &Process) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", process.0.id())).unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size() as u64
}

fn size(rng: &mut Rng) -> usize {
    let part = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "16 to 1 MiB")]
    let size = (LEAST * (DOUBLINGS * part).exp2()) as usize;
    size
}

/// One of those who write, until all together have written enough. How many answers were refusals.
fn write(server: &Holdfast, seed: u64, written: &AtomicU64) -> u64 {
    let mut rng = Rng::from_seed(seed);
    let noise = rng.bytes(1 << 20);
    let mut stream = connect(server.address).unwrap();
    let mut refused = 0;
    for n in 0.. {
        let value = &noise[..size(&mut rng)];
        if TIMES * BUDGET <= written.fetch_add(value.len() as u64, Relaxed) {
            break;
        }
        let put = call(server, &format!("PUT /v1/cache/fill/keys/{seed}:{n}"), value);
        refused += u64::from(300 <= ask(&mut stream, &put).unwrap().status);
    }
    refused
}

/// What somebody saw who asks meanwhile.
#[derive(Default)]
struct Seen {
    livez_ms: Vec<f64>,
    hot_ms: Vec<f64>,
    missed: u64,
}

fn ask_meanwhile(server: &Holdfast, ended: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut stream = connect(server.address).unwrap();
    let livez = request(server.address, "/livez", None);
    let hot = request(server.address, HOT, Some(&server.token));
    let mut timed = |request: &[u8]| {
        let began = Instant::now();
        let answer = ask(&mut stream, request).unwrap();
        (answer.status, began.elapsed().as_secs_f64() * 1000.0)
    };
    while !ended.load(Relaxed) {
        let (status, ms) = timed(&livez);
        assert_eq!(status, 200, "/livez");
        seen.livez_ms.push(ms);
        let (status, ms) = timed(&hot);
        seen.hot_ms.push(ms);
        if status != 200 {
            seen.missed += 1;
            timed(&call(server, &format!("PUT {HOT}"), &[b'h'; 10_000]));
        }
        std::thread::sleep(ASK_EVERY);
    }
    seen
}

fn watch(process: &Process, ended: &AtomicBool) -> u64 {
    let mut most = 0;
    while !ended.load(Relaxed) {
        most = most.max(resident(process));
        std::thread::sleep(SAMPLE_EVERY);
    }
    most.max(resident(process))
}

fn print_times(name: &str, mut ms: Vec<f64>) {
    ms.sort_by(f64::total_cmp);
    let at = |per_mille: usize| ms[(ms.len() * per_mille / 1000).min(ms.len() - 1)];
    let (p50, p99, max, n) = (at(500), at(990), at(1000), ms.len());
    println!("{name:<40} p50 {p50:>7.2} ms  p99 {p99:>7.2} ms  max {max:>7.2} ms  {n} requests");
}

/// The scene.
pub(super) fn scene() {
    let server = Holdfast::start_with_budget(&BUDGET.to_string());
    let put = call(&server, &format!("PUT {HOT}"), &[b'h'; 10_000]);
    assert_eq!(ask(&mut connect(server.address).unwrap(), &put).unwrap().status, 201);
    std::thread::sleep(Duration::from_secs(1));
    let idle = resident(&server.process);
    let (written, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    let (seen, most, refused, took) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask_meanwhile(&server, &ended));
        let watching = scope.spawn(|| watch(&server.process, &ended));
        let writers = [1, 2, 3, WRITERS].map(|seed| {
            scope.spawn({
                let (server, written) = (&server, &written);
                move || write(server, seed, written)
            })
        });
        let refused: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        let took = began.elapsed();
        ended.store(true, Relaxed);
        (asking.join().unwrap(), watching.join().unwrap(), refused, took)
    });
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let rate = mb(TIMES * BUDGET) / took.as_secs_f64();
    println!(
        "\nfill: {WRITERS} writers PUT {TIMES} times a budget of {:.0} MB, 16 bytes to 1 MiB each, in \
         {:.1} s ({rate:.0} MB/s); {refused} refused\n",
        mb(BUDGET),
        took.as_secs_f64()
    );
    print_times("/livez meanwhile", seen.livez_ms);
    print_times("GET of a hot key meanwhile", seen.hot_ms);
    println!("{:<54} {:>8}", "  misses of the hot key", seen.missed);
    println!("{:<54} {:>8.1}", "  resident before, MB", mb(idle));
    println!("{:<54} {:>8.1}", "  resident at most, MB", mb(most));
    let ratio = mb(most.saturating_sub(idle)) / mb(BUDGET);
    target("resident at most, over idle / budget", ratio, Limit::AtMost(1.2));
    let page = call(&server, "GET /v1/cache/fill", &[]);
    let page = ask(&mut connect(server.address).unwrap(), &page).unwrap();
    println!("  {}", String::from_utf8_lossy(page.body()));
}
