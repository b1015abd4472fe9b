//! What the HTTP edge costs, beside a bare hyper service that answers the same bytes, and what the server
//! costs that does nothing. `cargo bench --bench http`, or one part of it: `-- requests`, `-- idle`, `-- slow`,
//! `-- cache`, `-- fill`.
//!
//! Server, peers and the generator of requests share the machine; the generator's own cost is printed, for
//! it is in both sides of each ratio of requests. The ratio of the servers' CPU is free of it. One run
//! measures in rounds, so that peers meet the same machine; what is printed are medians of the rounds, and
//! ratios of medians; CPU is that of all rounds. `HOLDFAST_BENCH_SECONDS` (default 1) is the length of one
//! measurement, `HOLDFAST_BENCH_ROUNDS` (default 5) how often each is made.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and starts threads")]
#![expect(clippy::print_stdout, reason = "figures are printed")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "http/cache.rs"]
mod cache;
#[path = "support/figures.rs"]
mod figures;
#[path = "http/fill.rs"]
mod fill;
#[path = "http/redis.rs"]
mod redis;
#[path = "support/server.rs"]
mod server;

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use bytes::Bytes;
use holdfast::testing::amount;
use http_body_util::Full;
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use figures::{Limit, median, target};
use server::{Answer, Holdfast, PATIENCE, Process, SERVER, ask, connect, cpu_of, request};

/// What is asked with a token.
const TENANT: &str = "/v1/tenants/default";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    match words[..] {
        ["child-peer"] => child_peer(),
        ["requests"] => requests(),
        ["idle"] => idle(),
        ["slow"] => slow_clients(),
        ["cache"] => cache::scene(),
        ["fill"] => fill::scene(),
        [] => {
            requests();
            idle();
            slow_clients();
            cache::scene();
            fill::scene();
        }
        _ => panic!("the parts are: requests, idle, slow, cache, fill"),
    }
}

// --- servers ------------------------------------------------------------------------------------

impl Holdfast {
    /// One with so much memory for the cache.
    fn start_with_budget(budget: &str) -> Holdfast {
        Holdfast::start_by(Command::new(SERVER).env_clear().env("HOLDFAST_CACHE_BUDGET", budget))
    }

    fn start_with_descriptors(limit: u32) -> Holdfast {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\""), SERVER]);
        Holdfast::start_by(command.env_clear())
    }
}

/// A bare hyper service in a process of its own.
struct Peer {
    process: Process,
    address: SocketAddr,
}

impl Peer {
    /// One that answers what `answer` is.
    fn start(answer: &Answer) -> Peer {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("child-peer")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Closed at the end of the block: the text is whole.
        child.stdin.take().unwrap().write_all(&answer.bytes).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Peer { process: Process(child), address: line.trim().parse().unwrap() }
    }
}

/// Answers every request with the answer that stands on standard input. Everything in it is static, so
/// that nothing is counted or copied that a bare service would not need.
fn child_peer() {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).unwrap();
    let answer = Answer::read(bytes).expect("an answer on standard input");
    let head: &'static str = String::leak(answer.head());
    // hyper writes these two by itself.
    let headers: Vec<_> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| !["content-length", "date"].contains(name))
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    let headers: &'static [(HeaderName, HeaderValue)] = Vec::leak(headers);
    let body: &'static [u8] = Vec::leak(answer.body().to_vec());
    let threads = std::thread::available_parallelism().unwrap().get();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.clamp(2, 8))
        .max_blocking_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let service = move |_| async move {
        let mut answer = hyper::Response::new(Full::new(Bytes::from_static(body)));
        let map = answer.headers_mut();
        map.reserve(headers.len());
        for (name, value) in headers {
            map.insert(name.clone(), value.clone());
        }
        Ok::<_, Infallible>(answer)
    };
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(service));
            drop(tokio::spawn(connection));
        }
    });
}

// --- requests -----------------------------------------------------------------------------------

impl Answer {
    fn head(&self) -> String {
        let end = self.bytes.len() - self.body().len();
        String::from_utf8(self.bytes[..end].to_vec()).unwrap()
    }
}

const CONNECTIONS: usize = 50;
/// Threads of the generator: with one, it and not the server would be at its end first.
const GENERATORS: usize = 2;

/// About a fifth of what the machine can do: the time of an answer is then not that of a queue.
const PACED_A_SECOND: u32 = 10_000;

/// Where something is asked, what, and what is answered.
#[derive(Clone)]
struct Target {
    address: SocketAddr,
    /// One after the other, again and again.
    requests: Arc<[Vec<u8>]>,
    /// The same for all of them.
    body_bytes: usize,
    /// Each connection asks once in this time; at once again when it is zero.
    every: Duration,
}

impl Target {
    fn new(address: SocketAddr, path: &str, token: Option<&str>) -> (Target, Answer) {
        Target::of(address, vec![request(address, path, token)])
    }

    /// Whose answers have bodies of one length.
    fn of(address: SocketAddr, requests: Vec<Vec<u8>>) -> (Target, Answer) {
        let answer = ask(&mut connect(address).unwrap(), &requests[0]).unwrap();
        assert_eq!(answer.status, 200, "{}", requests[0].escape_ascii());
        let body_bytes = answer.body().len();
        let requests = requests.into();
        (Target { address, requests, body_bytes, every: Duration::ZERO }, answer)
    }

    /// The same, [`PACED_A_SECOND`] times a second on all connections together.
    fn paced(&self) -> Target {
        let every = Duration::from_secs(CONNECTIONS as u64) / PACED_A_SECOND;
        Target { every, ..self.clone() }
    }
}

/// One connection: asks, waits, asks again, until the time is up. How long each answer took.
async fn keep_asking(
    mut stream: tokio::net::TcpStream,
    its: Target,
    from: usize,
    until: Instant,
) -> Vec<u64> {
    let mut took = Vec::with_capacity(1 << 14);
    let mut buffer = vec![0; its.body_bytes + 4096];
    let mut asked_at = Instant::now();
    let mut due = asked_at;
    for request in its.requests.iter().cycle().skip(from % its.requests.len()) {
        if until <= asked_at {
            break;
        }
        stream.write_all(request).await.unwrap();
        let mut filled = 0;
        loop {
            let n = stream.read(&mut buffer[filled..]).await.unwrap();
            assert_ne!(n, 0, "the connection was closed in the middle");
            filled += n;
            // The length of the body is known; the head ends where it begins.
            let head_end = filled.saturating_sub(its.body_bytes);
            if buffer[..head_end].ends_with(b"\r\n\r\n") {
                break;
            }
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200 "), "not 200");
        let now = Instant::now();
        took.push(u64::try_from((now - asked_at).as_nanos()).unwrap());
        asked_at = now;
        due += its.every;
        if now < due {
            tokio::time::sleep_until(due.into()).await;
            asked_at = Instant::now();
        }
    }
    took
}

/// What a thread of the generator and the one who measures tell each other.
struct Talk {
    /// Nothing when it is connected, then how long each answer took.
    tell: Sender<Vec<u64>>,
    /// It may begin; then that it may end.
    told: Receiver<()>,
}

/// One thread of the generator. It ends when it is told to, because the CPU time of threads that have ended
/// is not seen any more.
fn generate(target: &Target, connections: usize, talk: &Talk) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..connections {
            let stream = tokio::net::TcpStream::connect(target.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            streams.push(stream);
        }
        talk.tell.send(Vec::new()).unwrap();
        talk.told.recv().unwrap();
        let until = Instant::now() + length();
        let streams = streams.into_iter().enumerate();
        // They begin at places of their own, so that not all ask for the same at the same time.
        let asking = streams.map(|(n, its)| keep_asking(its, target.clone(), 37 * n, until));
        let tasks: JoinSet<Vec<u64>> = asking.collect();
        talk.tell.send(tasks.join_all().await.concat()).unwrap();
        assert!(talk.told.recv().is_err(), "there is nothing else to do");
    });
}

/// What one measurement gave.
#[derive(Clone, Copy)]
struct Sample {
    requests: f64,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    server_cpu: Duration,
    generator_cpu: Duration,
}

fn measure(process: &Process, target: &Target) -> Sample {
    let (tell, heard) = mpsc::channel();
    // What one of them says; a thread that panicked says nothing, and then this ends as well.
    let hear = || heard.recv_timeout(length() + PATIENCE).expect("a generator has failed");
    std::thread::scope(|scope| {
        let start = |_| {
            let (go, told) = mpsc::channel();
            let talk = Talk { tell: tell.clone(), told };
            scope.spawn(move || generate(target, CONNECTIONS / GENERATORS, &talk));
            go
        };
        let generators: Vec<Sender<()>> = (0..GENERATORS).map(start).collect();
        for _ in &generators {
            assert!(hear().is_empty(), "they are connected");
        }
        let (server, generator, began) = (process.cpu(), cpu_of("self"), Instant::now());
        for go in &generators {
            go.send(()).unwrap();
        }
        let mut took: Vec<u64> = generators.iter().flat_map(|_| hear()).collect();
        let elapsed = began.elapsed();
        let server_cpu = process.cpu().saturating_sub(server);
        let generator_cpu = cpu_of("self").saturating_sub(generator);
        took.sort_unstable();
        let at = |per_mille: usize| took[took.len() * per_mille / 1000] as f64 / 1000.0;
        Sample {
            requests: took.len() as f64,
            per_second: took.len() as f64 / elapsed.as_secs_f64(),
            p50_us: at(500),
            p99_us: at(990),
            server_cpu,
            generator_cpu,
        }
    })
}

fn length() -> Duration {
    Duration::from_secs(amount("HOLDFAST_BENCH_SECONDS", 1))
}

struct Measurement<'a> {
    name: &'static str,
    process: &'a Process,
    target: Target,
    samples: Vec<Sample>,
}

impl<'a> Measurement<'a> {
    fn new(name: &'static str, process: &'a Process, target: Target) -> Measurement<'a> {
        Measurement { name, process, target, samples: Vec::new() }
    }

    fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(of).collect())
    }

    /// Microseconds of CPU that one request costs, over all rounds.
    fn cpu_us(&self, of: impl Fn(&Sample) -> Duration) -> f64 {
        let requests: f64 = self.samples.iter().map(|sample| sample.requests).sum();
        self.samples.iter().map(of).sum::<Duration>().as_secs_f64() * 1e6 / requests
    }

    fn print_head() {
        println!(
            "{:<40} {:>9} {:>8} {:>8} {:>12} {:>12}",
            "", "req/s", "p50 us", "p99 us", "CPU us/req", "generator's"
        );
    }

    fn print(&self) {
        println!(
            "{:<40} {:>9.0} {:>8.0} {:>8.0} {:>12.2} {:>12.2}",
            self.name,
            self.median(|s| s.per_second),
            self.median(|s| s.p50_us),
            self.median(|s| s.p99_us),
            self.cpu_us(|s| s.server_cpu),
            self.cpu_us(|s| s.generator_cpu),
        );
    }
}

/// Measures each of them in turn, so that all meet the same machine.
fn in_rounds(all: &mut [Measurement<'_>]) -> u64 {
    let rounds = amount("HOLDFAST_BENCH_ROUNDS", 5);
    for _ in 0..rounds {
        for measurement in &mut *all {
            measurement.samples.push(measure(measurement.process, &measurement.target));
        }
    }
    rounds
}

fn requests() {
    let server = Holdfast::start();
    let (livez, livez_answer) = Target::new(server.address, "/livez", None);
    let (tenant, tenant_answer) = Target::new(server.address, TENANT, Some(&server.token));
    let livez_peer = Peer::start(&livez_answer);
    let tenant_peer = Peer::start(&tenant_answer);
    let (bare_livez, bare_answer) = Target::new(livez_peer.address, "/livez", None);
    assert_eq!(bare_answer.head().len(), livez_answer.head().len(), "heads of one size");
    let (bare_tenant, _) = Target::new(tenant_peer.address, TENANT, Some(&server.token));
    let (bare_paced, paced) = (bare_tenant.paced(), tenant.paced());
    let mut all = [
        Measurement::new("bare hyper, answer of /livez", &livez_peer.process, bare_livez),
        Measurement::new("/livez", &server.process, livez),
        Measurement::new("bare hyper, answer with a token", &tenant_peer.process, bare_tenant),
        Measurement::new("GET /v1/tenants/default, with a token", &server.process, tenant),
        Measurement::new("bare hyper, paced", &tenant_peer.process, bare_paced),
        Measurement::new("GET /v1/tenants/default, paced", &server.process, paced),
    ];
    let rounds = in_rounds(&mut all);
    println!(
        "requests: {CONNECTIONS} connections, each asking again at once, or paced: \
         {PACED_A_SECOND}/s in all; medians of {rounds} rounds\n"
    );
    Measurement::print_head();
    all.iter().for_each(Measurement::print);
    println!();
    for [bare, ours] in all.as_chunks().0 {
        if ours.target.every.is_zero() {
            let rate = ours.median(|s| s.per_second) / bare.median(|s| s.per_second);
            target(&format!("{} / bare, req/s", ours.name), rate, Limit::AtLeast(0.75));
            let cpu = bare.cpu_us(|s| s.server_cpu) / ours.cpu_us(|s| s.server_cpu);
            println!("{:<54} {cpu:>8.2}", "  bare / ours, CPU");
        }
        let p99_ms = ours.median(|s| s.p99_us) / 1000.0;
        target(&format!("{}, p99, ms", ours.name), p99_ms, Limit::AtMost(2.0));
        let p99 = ours.median(|s| s.p99_us) / bare.median(|s| s.p99_us);
        println!("{:<54} {p99:>8.2}", "  ours / bare, p99");
    }
}

// --- idle ---------------------------------------------------------------------------------------

fn idle() {
    println!("\nidle: the server with an empty data directory and nobody who asks\n");
    let starts = (0..10).map(|_| Holdfast::start().ready_after.as_secs_f64() * 1000.0);
    target("start to ready, ms, median of 10", median(starts.collect()), Limit::AtMost(150.0));
    let helps = (0..20).map(|_| {
        let began = Instant::now();
        let status = Command::new(SERVER).arg("--help").stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "--help");
        began.elapsed().as_secs_f64() * 1000.0
    });
    target("--help, ms, median of 20", median(helps.collect()), Limit::AtMost(10.0));
    let server = Holdfast::start();
    std::thread::sleep(Duration::from_secs(2));
    target("resident, MB, 2 s after the start", server.process.resident_mb(), Limit::AtMost(30.0));
    let (cpu, began) = (server.process.cpu(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let used =
        server.process.cpu().saturating_sub(cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    target("CPU over 5 s, % of a core", 100.0 * used, Limit::AtMost(0.3));
    let shipped = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("dist").join("holdfast");
    match std::fs::metadata(&shipped) {
        Ok(file) => {
            let mb = file.len() as f64 / f64::from(1 << 20);
            target("size of the shipped binary, MB", mb, Limit::AtMost(20.0));
        }
        Err(_) => println!("size of the shipped binary: first cargo build --profile dist"),
    }
}

// --- slow clients -------------------------------------------------------------------------------

const SLOW_CLIENTS: usize = 1000;
/// Those whom the server closes come again, all together this often a second.
const OPENED_A_SECOND: u64 = 500;
const FLOOD: Duration = Duration::from_secs(8);

/// What became of those who were slow.
#[derive(Default)]
struct Slow {
    opened: AtomicU64,
    closed: AtomicU64,
    stop: AtomicBool,
}

/// Sends a byte of a head each second; when it is closed, it comes again.
async fn dribble(address: SocketAddr, turns: Arc<Semaphore>, slow: Arc<Slow>) {
    let head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".iter().chain(&[b'x'; 64]);
    loop {
        turns.acquire().await.unwrap().forget();
        let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else {
            continue;
        };
        slow.opened.fetch_add(1, Relaxed);
        for byte in head.clone() {
            let mut buffer = [0; 512];
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            // The server has nothing to say but that it is over.
            let said = stream.read(&mut buffer);
            if tokio::time::timeout(Duration::from_secs(1), said).await.is_ok() {
                break;
            }
        }
        slow.closed.fetch_add(1, Relaxed);
    }
}

fn flood(address: SocketAddr, slow: &Arc<Slow>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let turns = Arc::new(Semaphore::new(0));
        let _tasks: JoinSet<()> = (0..SLOW_CLIENTS)
            .map(|_| dribble(address, Arc::clone(&turns), Arc::clone(slow)))
            .collect();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while !slow.stop.load(Relaxed) {
            tick.tick().await;
            if turns.available_permits() < SLOW_CLIENTS {
                turns.add_permits(usize::try_from(OPENED_A_SECOND / 50).unwrap());
            }
        }
    });
}

/// What somebody saw who is not slow.
struct Healthy {
    took_ms: Vec<f64>,
    errors: usize,
}

impl Healthy {
    fn at(&self, per_mille: usize) -> f64 {
        self.took_ms[(self.took_ms.len() * per_mille / 1000).min(self.took_ms.len() - 1)]
    }
}

/// Asks at fixed moments; what is late because the one before was slow counts as slow.
fn ask_evenly(server: &Holdfast, a_second: u32, keep_alive: bool) -> Healthy {
    let request = request(server.address, TENANT, Some(&server.token));
    let (mut took_ms, mut errors, mut kept) = (Vec::new(), 0, None);
    let began = Instant::now();
    for n in 0.. {
        let due = Duration::from_secs(1) * n / a_second;
        if FLOOD < began.elapsed().max(due) {
            break;
        }
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let answer =
            kept.take().map_or_else(|| connect(server.address), Ok).and_then(|mut stream| {
                let answer = ask(&mut stream, &request)?;
                kept = keep_alive.then_some(stream);
                Ok(answer)
            });
        took_ms.push(began.elapsed().saturating_sub(due).as_secs_f64() * 1000.0);
        errors += usize::from(!answer.is_ok_and(|answer| answer.status == 200));
    }
    took_ms.sort_by(f64::total_cmp);
    Healthy { took_ms, errors }
}

/// This process may have as many descriptors as it needs for all of them.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = 2 * SLOW_CLIENTS as u64;
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = rustix::process::Rlimit { current: Some(wanted), ..limit };
        setrlimit(Resource::Nofile, raised).expect("descriptors for a thousand clients");
    }
}

fn slow_clients() {
    raise_descriptors();
    let server = Holdfast::start_with_descriptors(128);
    let slow = Arc::new(Slow::default());
    let (kept, fresh) = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(server.address, &slow));
        // All of them have come when the others begin.
        let all = Duration::from_secs(SLOW_CLIENTS as u64 / OPENED_A_SECOND);
        std::thread::sleep(all);
        let kept = scope.spawn(|| ask_evenly(&server, 100, true));
        let fresh = scope.spawn(|| ask_evenly(&server, 20, false));
        let (kept, fresh) = (kept.join(), fresh.join());
        slow.stop.store(true, Relaxed);
        flooding.join().unwrap();
        (kept.unwrap(), fresh.unwrap())
    });
    println!(
        "\nslow clients: {SLOW_CLIENTS} that send a byte a second to a server with 128 descriptors; \
         {} came, {} were closed\n",
        slow.opened.load(Relaxed),
        slow.closed.load(Relaxed)
    );
    for (name, seen) in [("one connection, 100/s", kept), ("a connection each, 20/s", fresh)] {
        target(&format!("{name}: p95, ms"), seen.at(950), Limit::AtMost(50.0));
        let (p50, max, n) = (seen.at(500), seen.at(1000), seen.took_ms.len());
        println!("  p50 {p50:.2} ms, max {max:.2} ms, {n} requests, {} errors", seen.errors);
    }
}
