//! `kill -9` of the real server while producers push and workers lease, over HTTP.
//!
//! Everything that was sent and answered goes to a ledger outside, with its moments. After each kill the
//! server is started on the same data and asked for every job that is not finished and for some that are:
//!
//! - What was acknowledged as pushed is there, done or failed, and a push with an `Idempotency-Key` that was
//!   sent again is one job.
//! - What was acknowledged as done or failed stays so and is never leased again.
//! - No two hold a lease of a job at the same time; fences only grow; nothing comes before its moment; a
//!   unique key has one job.
//!
//! At the end workers finish what is left, and all of it must come. `HOLDFAST_KILLS=200` for more.

mod ledger;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use holdfast::base::human::parse_moment;
use holdfast::base::rng::Rng;
use holdfast::base::time::Clock as _;
use holdfast::testing::amount;
use holdfast::testing::clock::SystemClock;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::server_kill::{Stop, kill_while_it_starts};
use crate::serving::{Client, Launch, Server, moment, private_folder};
use crate::support::Answer;
use ledger::{Lease, Ledger, Micros, Pushed, Verb};

const KILLS: u64 = 10;
const PRODUCERS: u64 = 3;
const WORKERS: u64 = 4;
const QUEUES: [&str; 2] = ["kill.high", "kill.low"];
/// Pushes of one producer between two kills; after that it pushes slowly, so that not too much waits.
const PUSHES_AT_ONCE: u64 = 60;
const PAUSE: Duration = Duration::from_millis(10);
/// Jobs that a worker has at most.
const HELD_MAX: usize = 8;
/// Finished jobs that are asked for after each kill; all of them are at the end.
const FINISHED_TRIED: usize = 100;
/// What is left is finished in this time when nobody kills any more.
const FINISHED_WITHIN: Duration = Duration::from_mins(2);

/// What all of them share.
struct Harness {
    ledger: Mutex<Ledger>,
    clock: SystemClock,
    /// Microseconds of the wall when the other clock stood at zero.
    wall_at_zero: i64,
    next_number: AtomicU64,
    /// The workers end when they have nothing to do.
    calm: AtomicBool,
    seed: u64,
}

impl Harness {
    fn new(seed: u64) -> Harness {
        let clock = SystemClock::new();
        let now = clock.now();
        let wall_at_zero = now.wall.unix_ms() * 1000 - (now.mono.ns() / 1000).cast_signed();
        Harness {
            ledger: Mutex::default(),
            clock,
            wall_at_zero,
            next_number: AtomicU64::new(1),
            calm: AtomicBool::new(false),
            seed,
        }
    }

    fn now(&self) -> Micros {
        self.clock.mono().ns() / 1000
    }

    /// A moment of the server.
    fn moment(&self, text: &Value) -> Micros {
        let at = parse_moment(text.as_str().unwrap(), self.clock.now().wall).unwrap();
        (at.unix_ms() * 1000 - self.wall_at_zero).cast_unsigned()
    }

    /// Nothing that cannot be.
    #[track_caller]
    fn sound(&self, what: Result<(), String>) {
        if let Err(error) = what {
            panic!("seed={}: {error}", self.seed);
        }
    }

    fn one_of<'a>(answer: &'a Answer, statuses: &[u16]) -> &'a Answer {
        assert!(statuses.contains(&answer.status), "{answer:?}");
        answer
    }
}

/// A push that may have to be sent again.
#[derive(Clone)]
struct Push {
    path: String,
    body: Value,
    key: Option<String>,
    numbers: Vec<u64>,
    unique: Option<String>,
    delay: Duration,
    /// Before it was sent for the first time.
    first_asked: Micros,
}

impl Push {
    fn send(&self, harness: &Harness, client: &mut Client) -> io::Result<Vec<String>> {
        let asked = self.first_asked;
        let line = self.key.as_ref().map(|key| format!("Idempotency-Key: {key}"));
        let lines: Vec<&str> = line.as_deref().into_iter().collect();
        let answer = client.ask_with(&lines, "POST", &self.path, Some(&self.body))?;
        let answered = harness.now();
        let body = Harness::one_of(&answer, &[200, 201]).json();
        let one = [body.clone()];
        let jobs = body["jobs"].as_array().map_or(&one[..], Vec::as_slice);
        assert_eq!(jobs.len(), self.numbers.len(), "{answer:?}");
        let mut ids = Vec::new();
        for (job, &number) in jobs.iter().zip(&self.numbers) {
            let id = job["id"].as_str().unwrap().to_owned();
            let mut ledger = harness.ledger.lock();
            let known = if job["duplicate"] == true {
                let key = self.unique.as_ref().expect("only a unique key makes a duplicate");
                ledger.has_the_key(&id, key)
            } else {
                let not_before = asked + u64::try_from(self.delay.as_micros()).unwrap();
                let unique = self.unique.clone();
                ledger.pushed(&id, Pushed { number, unique, asked, answered, not_before })
            };
            drop(ledger);
            harness.sound(known);
            ids.push(id);
        }
        Ok(ids)
    }
}

/// One who pushes.
struct Producer {
    rng: Rng,
    /// Sent with a key, and not answered.
    pending: Option<Push>,
}

impl Producer {
    fn choose(&mut self, harness: &Harness) -> Push {
        let rng = &mut self.rng;
        let queue = QUEUES[rng.index(2)];
        let new = || harness.next_number.fetch_add(1, Relaxed);
        let key = rng.one_in(3).then(|| format!("key {}", new()));
        let mut push = Push {
            path: "/v1/jobs".to_owned(),
            body: Value::Null,
            key,
            numbers: vec![new()],
            unique: None,
            delay: Duration::ZERO,
            first_asked: harness.now(),
        };
        let first = push.numbers[0];
        let mut job = json!({"queue": queue, "payload": {"number": first}, "max_tries": 5,
            "backoff": {"kind": "fixed", "base": "100ms"}, "tags": ["kill"]});
        match rng.below(6) {
            0 | 1 => {
                push.path = format!("/v1/queues/{queue}/jobs?type=raw&priority=high");
                job = json!({"number": first});
            }
            2 => {
                push.numbers.extend((0..rng.below(9)).map(|_| new()));
                let jobs = push.numbers.iter().map(
                    |number| json!({"queue": queue, "type": "batch", "payload": {"number": number}}),
                );
                job = json!({"jobs": jobs.collect::<Vec<_>>()});
            }
            3 => {
                push.delay = Duration::from_millis(20 + rng.below(600));
                job["delay"] = format!("{}ms", push.delay.as_millis()).into();
            }
            4 => {
                let key = format!("unique {}", rng.below(3));
                job["queue"] = QUEUES[0].into();
                job["unique"] = json!({"key": key, "until": "done"});
                push.unique = Some(key);
            }
            _ => {}
        }
        push.body = job;
        push
    }

    fn run(&mut self, harness: &Harness, server: &Server, tell: &Sender<()>) -> io::Result<()> {
        let mut client = Client::connect(server.address)?.with_token(&server.admin);
        for n in 0_u64.. {
            if PUSHES_AT_ONCE < n {
                std::thread::park_timeout(PAUSE);
            }
            let push = match self.pending.take() {
                Some(push) => push,
                None => self.choose(harness),
            };
            self.pending = push.key.is_some().then(|| push.clone());
            let ids = push.send(harness, &mut client)?;
            if push.key.is_some() && self.rng.one_in(3) {
                assert_eq!(push.send(harness, &mut client)?, ids, "the first answer again");
            }
            self.pending = None;
            // Nobody listens any more when the kill is near.
            let _ = tell.send(());
        }
        unreachable!("nobody counts so far")
    }
}

/// An end of an attempt.
#[derive(Clone)]
struct End {
    lease: String,
    verb: Verb,
}

impl End {
    /// The word of the API, and what is sent with it.
    fn words(&self) -> (&'static str, Value) {
        let error =
            json!({"class": "Mail", "message": "no answer", "trace": "at send (mail.rs:1)"});
        match self.verb {
            Verb::Done => ("done", json!({"result": {"ok": true}})),
            Verb::Fail => ("fail", json!({"error": error, "retry": "50ms"})),
            Verb::GiveUp => ("fail", json!({"error": error, "retry": false})),
            Verb::Release => ("release", json!({"delay": "20ms", "reason": "not now"})),
        }
    }
}

/// Sends one end by itself.
fn send_end(harness: &Harness, client: &mut Client, end: &End) -> io::Result<()> {
    let (word, body) = end.words();
    harness.ledger.lock().ending(&end.lease, end.verb, harness.now());
    let path = format!("/v1/leases/{}/{word}", end.lease);
    let answer = client.ask("POST", &path, Some(&body))?;
    let now = harness.now();
    if Harness::one_of(&answer, &[200, 409]).status == 409 {
        assert_eq!(answer.code(), "lease_lost");
        let known = harness.ledger.lock().lost(&end.lease, now);
        harness.sound(known);
    } else {
        let failed = answer.json()["state"] == "failed";
        harness.ledger.lock().ended(&end.lease, failed);
    }
    Ok(())
}

/// One who leases.
struct Worker {
    rng: Rng,
    held: Vec<String>,
    /// Ends that were sent, and not answered.
    pending: Vec<End>,
}

impl Worker {
    fn wanted(&mut self) -> Value {
        let wait = ["0s", "100ms", "400ms"][self.rng.index(3)];
        json!({"queues": QUEUES, "max": 1 + self.rng.below(4), "wait": wait, "lease": "1s"})
    }

    fn take(&mut self, harness: &Harness, jobs: &Value, [asked, answered]: [Micros; 2]) {
        for job in jobs.as_array().unwrap() {
            let text = |name: &str| job[name].as_str().unwrap().to_owned();
            let number = job["payload"]["number"].as_u64().unwrap();
            let until = harness.moment(&job["lease_until"]);
            let lease = Lease::new(job["fence"].as_u64().unwrap(), asked, answered, until);
            let known = harness.ledger.lock().leased(&text("id"), number, &text("lease"), lease);
            harness.sound(known);
            self.held.push(text("lease"));
        }
    }

    fn lease(&mut self, harness: &Harness, client: &mut Client) -> io::Result<()> {
        let (wanted, asked) = (self.wanted(), harness.now());
        let answer = client.ask("POST", "/v1/lease", Some(&wanted))?;
        let jobs = &Harness::one_of(&answer, &[200]).json()["jobs"];
        self.take(harness, jobs, [asked, harness.now()]);
        Ok(())
    }

    /// Sends these in one call, and leases in the same.
    fn report(&mut self, harness: &Harness, client: &mut Client) -> io::Result<()> {
        let mut body = json!({"done": [], "fail": [], "release": []});
        for end in &self.pending {
            let (word, mut entry) = end.words();
            entry["lease"] = end.lease.as_str().into();
            body[word].as_array_mut().unwrap().push(entry);
            harness.ledger.lock().ending(&end.lease, end.verb, harness.now());
        }
        body["next"] = self.wanted();
        let asked = harness.now();
        let answer = client.ask("POST", "/v1/report", Some(&body))?;
        let answered = harness.now();
        let said = Harness::one_of(&answer, &[200]).json();
        let results = said["results"].as_array().unwrap();
        let mut statuses: BTreeMap<&str, &str> = results
            .iter()
            .map(|result| (result["lease"].as_str().unwrap(), result["status"].as_str().unwrap()))
            .collect();
        for end in self.pending.drain(..) {
            let known = match statuses.remove(end.lease.as_str()) {
                Some("ok" | "repeat") => {
                    harness.ledger.lock().ended(&end.lease, false);
                    Ok(())
                }
                Some("lease_lost") => harness.ledger.lock().lost(&end.lease, answered),
                other => Err(format!("{other:?} is said of a lease: {said}")),
            };
            harness.sound(known);
        }
        assert!(statuses.is_empty(), "nothing else: {said}");
        self.take(harness, &said["jobs"], [asked, answered]);
        Ok(())
    }

    fn extend(&mut self, harness: &Harness, client: &mut Client) -> io::Result<()> {
        let lease = self.held[self.rng.index(self.held.len())].clone();
        let body = json!({"by": "2s", "progress": 0.5, "checkpoint": {"page": 7}});
        let answer = client.ask("POST", &format!("/v1/leases/{lease}/extend"), Some(&body))?;
        if Harness::one_of(&answer, &[200, 409]).status == 200 {
            let until = harness.moment(&answer.json()["lease_until"]);
            harness.ledger.lock().extended(&lease, until);
        } else {
            self.held.retain(|held| *held != lease);
            let known = harness.ledger.lock().lost(&lease, harness.now());
            harness.sound(known);
        }
        Ok(())
    }

    fn some_end(&mut self, calm: bool) -> End {
        let lease = self.held.swap_remove(self.rng.index(self.held.len()));
        let verb = match self.rng.below(20) {
            0 | 1 if !calm => Verb::Fail,
            2 if !calm => Verb::GiveUp,
            3..=5 if !calm => Verb::Release,
            _ => Verb::Done,
        };
        End { lease, verb }
    }

    /// Works until the server is gone, or, when it is calm, until there is nothing more.
    fn run(&mut self, harness: &Harness, server: &Server, tell: &Sender<()>) -> io::Result<()> {
        let mut client = Client::connect(server.address)?.with_token(&server.admin);
        if self.rng.one_in(4) {
            // Some forget what they had begun.
            self.pending.clear();
            self.held.clear();
        }
        while !self.pending.is_empty() {
            if self.rng.one_in(2) {
                self.report(harness, &mut client)?;
            } else {
                let end = self.pending[0].clone();
                send_end(harness, &mut client, &end)?;
                self.pending.remove(0);
            }
        }
        loop {
            let calm = harness.calm.load(Relaxed);
            let choice = self.rng.below(12);
            if self.held.is_empty() {
                self.lease(harness, &mut client)?;
                if calm && self.held.is_empty() {
                    return Ok(());
                }
            } else if choice < 5 || HELD_MAX <= self.held.len() {
                let end = self.some_end(calm);
                self.pending.push(end.clone());
                send_end(harness, &mut client, &end)?;
                self.pending.clear();
            } else if choice < 8 {
                for _ in 0..=self.rng.index(self.held.len()) {
                    let end = self.some_end(calm);
                    self.pending.push(end);
                }
                self.report(harness, &mut client)?;
            } else if choice < 10 {
                self.extend(harness, &mut client)?;
            } else if choice == 10 {
                self.lease(harness, &mut client)?;
            } else if !calm && self.rng.one_in(4) {
                // Some are never heard of again: their leases run out.
                self.held.pop();
            }
            let _ = tell.send(());
        }
    }
}

/// Asks for these jobs.
fn look(harness: &Harness, server: &Server, ids: &[String]) -> Result<(), String> {
    let mut client = server.administrator();
    for id in ids {
        let answer = client.ask("GET", &format!("/v1/jobs/{id}"), None).unwrap();
        let job = Harness::one_of(&answer, &[200, 404]).json();
        let state = (answer.status == 200).then(|| job["state"].as_str().unwrap());
        harness.ledger.lock().seen(id, state)?;
    }
    Ok(())
}

/// Holds what the server says, and what was answered before, against the ledger.
fn check(harness: &Harness, server: &Server, rng: &mut Rng, tried: usize) -> Result<(), String> {
    let (mut ids, finished) = harness.ledger.lock().open_and_finished();
    if finished.len() <= tried {
        ids.extend(finished);
    } else {
        ids.extend((0..tried).map(|_| finished[rng.index(finished.len())].clone()));
    }
    look(harness, server, &ids)?;
    harness.ledger.lock().judge()
}

fn work_and_kill(
    harness: &Harness,
    server: Server,
    producers: &mut [Producer],
    workers: &mut [Worker],
    rng: &mut Rng,
) {
    let (tell, told) = channel();
    // Some are long enough for leases to run out.
    let long = rng.one_in(4);
    let stop = if long {
        Stop::Time(Duration::from_millis(1_000 + rng.below(1_500)))
    } else {
        Stop::choose(rng)
    };
    #[expect(clippy::disallowed_methods, reason = "several clients")]
    std::thread::scope(|scope| {
        let server = &server;
        for producer in producers {
            let tell = tell.clone();
            scope.spawn(move || gone(producer.run(harness, server, &tell)));
        }
        for worker in workers {
            let tell = tell.clone();
            scope.spawn(move || gone(worker.run(harness, server, &tell)));
        }
        drop(tell);
        stop.wait(&told);
        server.signal(rustix::process::Signal::KILL);
    });
    server.kill();
}

/// A client ends because the server is gone, and for no other reason.
fn gone(ended: io::Result<()>) {
    let error = ended.expect_err("it ends with the server");
    let gone = !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Other);
    assert!(gone, "{error}");
}

/// Lets the workers finish what is left.
fn finish(harness: &Harness, server: &Server, workers: &mut [Worker]) {
    harness.calm.store(true, Relaxed);
    let until = moment() + FINISHED_WITHIN;
    loop {
        #[expect(clippy::disallowed_methods, reason = "several clients")]
        std::thread::scope(|scope| {
            for worker in &mut *workers {
                let (tell, _) = channel();
                scope.spawn(move || worker.run(harness, server, &tell).unwrap());
            }
        });
        let (open, _) = harness.ledger.lock().open_and_finished();
        let looked = look(harness, server, &open);
        harness.sound(looked);
        let (open, _) = harness.ledger.lock().open_and_finished();
        let Some(first) = open.first() else { return };
        if until < moment() {
            let path = format!("/v1/jobs/{first}/why");
            let why = server.administrator().ask("GET", &path, None);
            let n = open.len();
            panic!("seed={}: {n} jobs do not end; {first}: {why:?}", harness.seed);
        }
    }
}

fn settings(server: &Server) {
    // The raw form cannot say it.
    let body = json!({"backoff": {"kind": "fixed", "base": "100ms"}});
    for queue in QUEUES {
        let path = format!("/v1/queues/{queue}");
        let answer = server.administrator().ask("PATCH", &path, Some(&body)).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[test]
fn nothing_acknowledged_about_jobs_is_lost_by_kill_9() {
    let (seed, kills) = (amount("HOLDFAST_SEED", 20_261_122), amount("HOLDFAST_KILLS", KILLS));
    println!("seed={seed}");
    let folder = private_folder();
    let launch = Launch::new(folder.path());
    let harness = Harness::new(seed);
    let mut rng = Rng::from_seed(seed);
    let mut producers: Vec<Producer> =
        (0..PRODUCERS).map(|_| Producer { rng: rng.fork(), pending: None }).collect();
    let mut workers: Vec<Worker> = (0..WORKERS)
        .map(|_| Worker { rng: rng.fork(), held: Vec::new(), pending: Vec::new() })
        .collect();
    for kill in 0..=kills {
        while rng.one_in(6) {
            kill_while_it_starts(&launch, &mut rng);
        }
        let server = launch.ready();
        let checked = check(&harness, &server, &mut rng, FINISHED_TRIED);
        if let Err(error) = checked {
            panic!("seed={seed} kill={kill}: {error}\n{}", server.log());
        }
        if kill < kills {
            settings(&server);
            work_and_kill(&harness, server, &mut producers, &mut workers, &mut rng);
        } else {
            finish(&harness, &server, &mut workers);
            server.stop();
        }
    }
    let server = launch.ready();
    let checked = check(&harness, &server, &mut rng, usize::MAX);
    harness.sound(checked.map_err(|error| format!("after an end in order: {error}")));
    let ledger = harness.ledger.into_inner();
    let (jobs, leases) = ledger.counts();
    let acknowledged = ledger.acknowledgements;
    println!(
        "{kills} kills, {jobs} jobs, {leases} leases, {acknowledged} acknowledgements, 0 lost"
    );
    assert!(kills < acknowledged);
}
