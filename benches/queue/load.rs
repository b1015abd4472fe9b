//! The generator: connections on one thread, each of which asks again when it was answered.
//!
//! Requests are written and answers are read byte by byte, and nothing is parsed that is not needed: what
//! the generator costs is missing to the server.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::server::{Holdfast, Process, cpu_of, request};

/// Bytes of each payload.
pub(crate) const PAYLOAD_BYTES: usize = 200;
/// Jobs of one call, where calls have many.
pub(crate) const TOGETHER: u64 = 100;
/// The queue of everything that is not said to be elsewhere.
pub(crate) const QUEUE: &str = "bench";

/// A JSON text of 200 bytes.
pub(crate) fn payload() -> String {
    let text = format!(r#"{{"order":1234567,"customer":"c-0042","note":"{:x<153}"}}"#, "");
    assert_eq!(text.len(), PAYLOAD_BYTES);
    text
}

/// Who asks, and where.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

impl Desk {
    pub(crate) fn of(server: &Holdfast) -> Desk {
        Desk { address: server.address, token: server.token.clone() }
    }

    /// A POST of JSON.
    pub(crate) fn post(&self, path: &str, body: &str) -> Vec<u8> {
        let (address, token, length) = (self.address, &self.token, body.len());
        format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }

    pub(crate) fn get(&self, path: &str) -> Vec<u8> {
        request(self.address, path, Some(&self.token))
    }

    pub(crate) fn push(&self) -> Vec<u8> {
        self.post(&format!("/v1/queues/{QUEUE}/jobs"), &payload())
    }

    /// Many jobs in one call.
    pub(crate) fn push_many(&self, jobs: u64) -> Vec<u8> {
        let job = format!(r#"{{"queue":"{QUEUE}","payload":{}}}"#, payload());
        let jobs = vec![job; usize::try_from(jobs).unwrap()].join(",");
        self.post("/v1/jobs", &format!(r#"{{"jobs":[{jobs}]}}"#))
    }

    pub(crate) fn lease(&self, max: u64) -> Vec<u8> {
        self.post("/v1/lease", &format!(r#"{{"queues":["{QUEUE}"],"max":{max}}}"#))
    }

    pub(crate) fn done(&self, lease: &str) -> Vec<u8> {
        self.post(&format!("/v1/leases/{lease}/done"), "{}")
    }

    /// Says that all of these are done, and asks for another one if it should.
    pub(crate) fn report<'l>(
        &self,
        leases: impl Iterator<Item = &'l str>,
        and_next: bool,
    ) -> Vec<u8> {
        let mut body = String::from(r#"{"done":["#);
        for (n, lease) in leases.enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(body, r#"{comma}{{"lease":"{lease}"}}"#).unwrap();
        }
        body.push(']');
        if and_next {
            write!(body, r#","next":{{"queues":["{QUEUE}"],"max":1}}"#).unwrap();
        }
        body.push('}');
        self.post("/v1/report", &body)
    }
}

/// The leases that stand in an answer.
pub(crate) fn leases(body: &str) -> impl Iterator<Item = &str> {
    const NAME: &str = r#""lease":""#;
    body.match_indices(NAME).map(|(at, _)| {
        let rest = &body[at + NAME.len()..];
        rest.split_once('"').expect("a text has an end").0
    })
}

/// What each connection does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Pushes one job.
    Push,
    /// Pushes so many jobs in one call.
    PushMany(u64),
    /// Pushes, leases and finishes one job, with a call for each.
    Cycle,
    /// Pushes one job; finishes one and leases the next with one call.
    Report,
    /// Pushes, leases and finishes a hundred jobs, with a call for each of these.
    Batch,
    /// Leases and finishes a hundred jobs, as long as there are any.
    Drain,
    /// beanstalkd's `put`.
    Put,
    /// beanstalkd's `put`, `reserve` and `delete`.
    PutCycle,
    /// Redis' `LPUSH`.
    ListPush,
    /// Redis' `LPUSH`, `RPOPLPUSH` and `LREM`.
    ListCycle,
}

/// What is the same for all connections.
pub(crate) struct Work {
    pub(crate) kind: Kind,
    pub(crate) desk: Desk,
    first: Vec<u8>,
    second: Vec<u8>,
    third: Vec<u8>,
}

impl Work {
    pub(crate) fn new(kind: Kind, desk: Desk) -> Work {
        let (first, second) = match kind {
            Kind::Push => (desk.push(), Vec::new()),
            Kind::PushMany(jobs) => (desk.push_many(jobs), Vec::new()),
            Kind::Cycle | Kind::Report => (desk.push(), desk.lease(1)),
            Kind::Batch => (desk.push_many(TOGETHER), desk.lease(TOGETHER)),
            Kind::Drain => (Vec::new(), desk.lease(TOGETHER)),
            Kind::Put | Kind::PutCycle => {
                let put = format!("put 0 0 600 {PAYLOAD_BYTES}\r\n{}\r\n", payload());
                (put.into_bytes(), b"reserve\r\n".to_vec())
            }
            Kind::ListPush | Kind::ListCycle => {
                (resp(&["LPUSH", QUEUE, &payload()]), resp(&["RPOPLPUSH", QUEUE, "taken"]))
            }
        };
        let third = resp(&["LREM", "taken", "1", &payload()]);
        Work { kind, desk, first, second, third }
    }

    /// For a peer, which asks nobody for a token.
    pub(crate) fn of_peer(kind: Kind, address: SocketAddr) -> Work {
        Work::new(kind, Desk { address, token: String::new() })
    }
}

/// A command as Redis reads it.
fn resp(words: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        write!(text, "${}\r\n{word}\r\n", word.len()).unwrap();
    }
    text.into_bytes()
}

/// One connection.
struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Line {
    async fn connect(address: SocketAddr) -> io::Result<Line> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Line { stream, buffer: vec![0; 16 << 10], filled: 0 })
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.buffer.len() < self.filled + 4096 {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        match self.stream.read(&mut self.buffer[self.filled..]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.filled += n;
                Ok(())
            }
        }
    }

    /// Asks, and reads an answer, which must have this status; its body.
    async fn ask(&mut self, request: &[u8], status: &str) -> io::Result<&str> {
        self.stream.write_all(request).await?;
        self.filled = 0;
        let body = loop {
            self.fill().await?;
            if let Some(body) = whole_answer(&self.buffer[..self.filled]) {
                break body;
            }
        };
        let text = |range: Range<usize>| std::str::from_utf8(&self.buffer[range]).unwrap();
        let there = &self.buffer[9..12];
        assert_eq!(there, status.as_bytes(), "{}", text(0..body.end));
        Ok(text(body))
    }

    /// Asks a peer, and reads a line and so many bytes after it; the line.
    async fn say(&mut self, request: &[u8], bytes: usize) -> io::Result<&str> {
        self.stream.write_all(request).await?;
        self.filled = 0;
        loop {
            self.fill().await?;
            let there = &self.buffer[..self.filled];
            let Some(end) = there.iter().position(|&byte| byte == b'\n') else { continue };
            // What is shorter is an error, and is said in one line.
            if there.len() == end + 1 + bytes || matches!(there[0], b'-') {
                return Ok(std::str::from_utf8(&self.buffer[..end]).unwrap().trim_end());
            }
        }
    }
}

/// Where the body stands in an answer, once all of it is there.
fn whole_answer(bytes: &[u8]) -> Option<Range<usize>> {
    const LENGTH: &str = "content-length: ";
    // Heads are text; a body may be cut in the middle of a character.
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).expect("a head is text");
    let rest = &head[head.find(LENGTH)? + LENGTH.len()..];
    let length: usize = rest.lines().next()?.parse().expect("a length is a number");
    let body = end + 4..end + 4 + length;
    (bytes.len() == body.end).then_some(body)
}

/// A connection at work.
struct Hand {
    line: Line,
    work: Arc<Work>,
    /// What it leased and did not finish yet.
    held: Option<String>,
}

impl Hand {
    /// Does it once; how many jobs that were.
    async fn once(&mut self) -> io::Result<u64> {
        let Hand { line, work, held } = self;
        let desk = &work.desk;
        match work.kind {
            Kind::Push => drop(line.ask(&work.first, "201").await?),
            Kind::PushMany(jobs) => {
                line.ask(&work.first, "201").await?;
                return Ok(jobs);
            }
            Kind::Cycle => {
                line.ask(&work.first, "201").await?;
                let done = desk.done(the_lease(line.ask(&work.second, "200").await?));
                line.ask(&done, "200").await?;
            }
            Kind::Report => {
                line.ask(&work.first, "201").await?;
                let Some(last) = held else {
                    let first = line.ask(&work.second, "200").await?;
                    *held = Some(the_lease(first).to_owned());
                    return Ok(0);
                };
                let report = desk.report([last.as_str()].into_iter(), true);
                let next = line.ask(&report, "200").await?;
                // The answer names the one that was finished, too.
                let next = leases(next).find(|lease| lease != last).expect(NOTHING);
                *held = Some(next.to_owned());
            }
            Kind::Batch => {
                line.ask(&work.first, "201").await?;
                let jobs = Hand::finish_many(line, work).await?;
                assert_eq!(jobs, TOGETHER, "{NOTHING}");
                return Ok(jobs);
            }
            Kind::Drain => return Hand::finish_many(line, work).await,
            Kind::Put | Kind::PutCycle | Kind::ListPush | Kind::ListCycle => {
                Hand::once_at_a_peer(line, work).await?;
            }
        }
        Ok(1)
    }

    async fn finish_many(line: &mut Line, work: &Work) -> io::Result<u64> {
        let taken = line.ask(&work.second, "200").await?;
        let jobs = leases(taken).count() as u64;
        if jobs != 0 {
            let report = work.desk.report(leases(taken), false);
            line.ask(&report, "200").await?;
        }
        Ok(jobs)
    }

    async fn once_at_a_peer(line: &mut Line, work: &Work) -> io::Result<()> {
        let with_payload = PAYLOAD_BYTES + 2;
        if matches!(work.kind, Kind::Put | Kind::PutCycle) {
            let put = line.say(&work.first, 0).await?;
            assert!(put.starts_with("INSERTED "), "{put}");
            if work.kind == Kind::PutCycle {
                let reserved = line.say(&work.second, with_payload).await?;
                let id = reserved.split(' ').nth(1).expect("RESERVED, id, bytes");
                let delete = format!("delete {id}\r\n");
                let deleted = line.say(delete.as_bytes(), 0).await?;
                assert_eq!(deleted, "DELETED");
            }
            return Ok(());
        }
        let pushed = line.say(&work.first, 0).await?;
        assert!(pushed.starts_with(':'), "{pushed}");
        if work.kind == Kind::ListCycle {
            let taken = line.say(&work.second, with_payload).await?;
            assert_eq!(taken, "$200");
            let removed = line.say(&work.third, 0).await?;
            assert_eq!(removed, ":1");
        }
        Ok(())
    }

    /// Gives back what it holds.
    async fn end(&mut self) -> io::Result<()> {
        if let Some(lease) = self.held.take() {
            let done = self.work.desk.done(&lease);
            self.line.ask(&done, "200").await?;
        }
        Ok(())
    }
}

const NOTHING: &str = "there was nothing to lease, though as many were pushed";

fn the_lease(body: &str) -> &str {
    leases(body).next().expect(NOTHING)
}

/// When it is over.
#[derive(Clone)]
pub(crate) enum Until {
    /// After so long.
    Time(Duration),
    /// When so many jobs were done by all together, or there is nothing more.
    Jobs(u64),
    /// When the server is gone.
    Gone,
}

/// What one measurement gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) jobs: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) server_cpu: Duration,
    pub(crate) generator_cpu: Duration,
}

struct Rope {
    deadline: Option<Instant>,
    left: Option<AtomicU64>,
    may_break: bool,
}

impl Rope {
    /// Whether to go on, with the next of so many jobs.
    fn goes_on(&self, jobs: u64) -> bool {
        let take = |left: &AtomicU64| {
            left.fetch_update(Relaxed, Relaxed, |n| (n != 0).then(|| n.saturating_sub(jobs)))
        };
        self.deadline.is_none_or(|deadline| Instant::now() < deadline)
            && self.left.as_ref().is_none_or(|left| take(left).is_ok())
    }
}

async fn keep_working(mut hand: Hand, rope: Arc<Rope>) -> (u64, Vec<u64>) {
    let (mut jobs, mut took) = (0, Vec::with_capacity(1 << 14));
    let each = match hand.work.kind {
        Kind::PushMany(jobs) => jobs,
        Kind::Batch | Kind::Drain => TOGETHER,
        _ => 1,
    };
    while rope.goes_on(each) {
        let began = Instant::now();
        match hand.once().await {
            Ok(0) if hand.work.kind == Kind::Drain => break,
            Ok(n) => jobs += n,
            Err(_) if rope.may_break => return (jobs, took),
            Err(error) => panic!("{:?}: {error}", hand.work.kind),
        }
        took.push(u64::try_from(began.elapsed().as_nanos()).unwrap());
    }
    hand.end().await.unwrap();
    (jobs, took)
}

/// Lets so many connections work.
pub(crate) fn run(process: &Process, work: Work, connections: usize, until: &Until) -> Sample {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let work = Arc::new(work);
    runtime.block_on(async {
        let mut hands = Vec::new();
        for _ in 0..connections {
            let line = Line::connect(work.desk.address).await.unwrap();
            hands.push(Hand { line, work: Arc::clone(&work), held: None });
        }
        let (server, generator, began) = (process.cpu(), cpu_of("self"), Instant::now());
        let rope = Arc::new(match *until {
            Until::Time(length) => {
                Rope { deadline: Some(began + length), left: None, may_break: false }
            }
            Until::Jobs(jobs) => {
                Rope { deadline: None, left: Some(AtomicU64::new(jobs)), may_break: false }
            }
            Until::Gone => Rope { deadline: None, left: None, may_break: true },
        });
        let tasks = hands.into_iter().map(|hand| keep_working(hand, Arc::clone(&rope)));
        let all = tasks.collect::<JoinSet<_>>().join_all().await;
        let elapsed = began.elapsed();
        let jobs: u64 = all.iter().map(|(jobs, _)| jobs).sum();
        let mut took: Vec<u64> = all.into_iter().flat_map(|(_, took)| took).collect();
        took.sort_unstable();
        let at = |per_mille| took.get(took.len() * per_mille / 1000).map_or(0.0, |&ns| ns as f64);
        // A server that is gone has used nothing that could be read.
        let gone = matches!(until, Until::Gone);
        let server_cpu = if gone { server } else { process.cpu() };
        Sample {
            jobs,
            per_second: jobs as f64 / elapsed.as_secs_f64(),
            p50_us: at(500) / 1000.0,
            p99_us: at(990) / 1000.0,
            server_cpu: server_cpu.saturating_sub(server),
            generator_cpu: cpu_of("self").saturating_sub(generator),
        }
    })
}
