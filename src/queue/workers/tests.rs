//! Workers against a naive list of them, and what they are told.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{
    BadWorkerId, Beat, Command, Served, Standing, Told, TooMany, WorkerId, WorkerState, Workers,
};
use crate::base::id::TenantId;
use crate::base::limits::{WORKER_GONE, WORKER_ID_BYTES_MAX, WORKER_STALE};
use crate::base::name::QueueName;
use crate::base::rng::Rng;
use crate::base::time::{Mono, Now, Timestamp};
use crate::testing::{amount, seeds};

const OURS: TenantId = TenantId::from_raw(1);
const THEIRS: TenantId = TenantId::from_raw(2);

fn at(passed: Duration) -> Now {
    let wall = Timestamp::from_unix_ms(1_700_000_000_000).unwrap().plus(passed);
    Now { wall, mono: Mono::from_ns(1).plus(passed) }
}

fn second(second: u64) -> Now {
    at(Duration::from_secs(second))
}

fn worker(text: &str) -> WorkerId {
    WorkerId::parse(text).unwrap()
}

fn queue(text: &str) -> QueueName {
    QueueName::parse(text).unwrap()
}

fn serving(queues: &[&str]) -> Beat {
    Beat { queues: queues.iter().map(|name| queue(name)).collect(), ..Beat::default() }
}

fn saying(state: WorkerState) -> Beat {
    Beat { state: Some(state), ..Beat::default() }
}

fn nobody_leases(_: TenantId, _: &WorkerId) -> bool {
    false
}

#[test]
fn the_id_of_a_worker_is_a_short_text_without_control_characters() {
    let longest = "w".repeat(WORKER_ID_BYTES_MAX);
    for text in ["w", "web-1:4711", "a b/c?", "Gr\u{fc}n", longest.as_str()] {
        assert_eq!(worker(text).as_str(), text);
    }
    assert_eq!(WorkerId::parse(""), Err(BadWorkerId::Length(0)));
    let longer = WORKER_ID_BYTES_MAX + 1;
    assert_eq!(WorkerId::parse(&"w".repeat(longer)), Err(BadWorkerId::Length(longer)));
    let two_bytes = "\u{fc}".repeat(WORKER_ID_BYTES_MAX / 2 + 1);
    assert!(WorkerId::parse(&two_bytes).is_err(), "bytes count, not letters");
    for text in ["ab\n", "ab\0", "ab\u{7f}", "ab\u{85}"] {
        assert_eq!(WorkerId::parse(text), Err(BadWorkerId::Control(2)), "{text:?}");
    }
}

#[test]
fn words_are_read_as_they_are_written() {
    for state in WorkerState::ALL {
        assert_eq!(WorkerState::parse(state.as_str()), Some(state));
    }
    for command in Command::ALL {
        assert_eq!(Command::parse(command.as_str()), Some(command));
    }
    assert_eq!(WorkerState::parse("gone"), None);
    assert_eq!(Command::parse("Run"), None);
    let unsaid = Standing::Alive(None);
    assert_eq!([unsaid.as_str(false), unsaid.as_str(true)], ["idle", "busy"]);
}

#[test]
fn what_a_beat_does_not_say_stays_as_it_was_said() {
    let mut workers = Workers::new();
    let id = worker("a");
    let first = Beat {
        pid: Some(7),
        host: Some("web".to_owned()),
        queues: vec![queue("mail"), queue("slow"), queue("mail")],
        state: Some(WorkerState::Busy),
        rss_bytes: Some(1),
        peak_rss_bytes: Some(2),
        cpu_percent: Some(3.5),
        jobs_done: Some(4),
        idle_ms: Some(5),
        busy_ms: Some(6),
    };
    workers.beat(OURS, &id, first.clone(), second(0)).unwrap();
    let mut said = Beat { queues: vec![queue("mail"), queue("slow")], ..first };
    assert_eq!(workers.get(OURS, &id, second(0)).unwrap().said, said, "each queue once");

    workers.beat(OURS, &id, Beat { jobs_done: Some(9), ..Beat::default() }, second(1)).unwrap();
    said.jobs_done = Some(9);
    assert!(workers.seen(OURS, &id, &[queue("fast")], second(2)));
    said.queues = vec![queue("fast")];
    assert!(workers.seen(OURS, &id, &[], second(3)), "it ended something");
    let told = Told {
        id: id.clone(),
        standing: Standing::Alive(Some(WorkerState::Busy)),
        said,
        first_seen_at: second(0).wall,
        last_seen_at: second(3).wall,
        last_beat_at: Some(second(1).wall),
        command: Command::Run,
        died: None,
    };
    assert_eq!(workers.get(OURS, &id, second(4)), Some(told));
    assert_eq!(workers.get(THEIRS, &id, second(4)), None, "another tenant sees nothing");
}

fn serving_mail(workers: &Workers, now: Now) -> usize {
    workers.counts(OURS, now).get(&queue("mail")).map_or(0, |served| served.workers)
}

#[test]
fn a_worker_that_only_leases_is_known() {
    let mut workers = Workers::new();
    assert!(workers.seen(OURS, &worker("a"), &[queue("mail")], second(0)));
    let told = workers.get(OURS, &worker("a"), second(0)).unwrap();
    assert_eq!((told.standing, told.last_beat_at), (Standing::Alive(None), None));
    assert_eq!(serving_mail(&workers, second(59)), 1);
    assert_eq!(serving_mail(&workers, second(60)), 0, "stale");
}

#[test]
fn a_silent_worker_is_stale_then_forgotten_unless_it_holds_a_lease() {
    let mut workers = Workers::new();
    workers.beat(OURS, &worker("a"), serving(&["mail"]), second(0)).unwrap();
    let standing = |workers: &Workers, now| workers.get(OURS, &worker("a"), now).unwrap().standing;
    let almost = Duration::from_nanos(1);
    assert_eq!(
        standing(&workers, at(WORKER_STALE.checked_sub(almost).unwrap())),
        Standing::Alive(None)
    );
    assert_eq!(standing(&workers, at(WORKER_STALE)), Standing::Stale);
    let before = at(WORKER_GONE.checked_sub(almost).unwrap());
    assert_eq!(workers.sweep(before, &nobody_leases), 0);
    assert_eq!(
        workers.sweep(at(WORKER_GONE), &|tenant, id| tenant == OURS && *id == worker("a")),
        0
    );
    assert_eq!(workers.len(), 1);
    assert_eq!(workers.sweep(at(WORKER_GONE), &nobody_leases), 1);
    assert!(workers.is_empty());
}

#[test]
fn who_is_gone_is_remembered_for_a_while_with_the_cause() {
    let mut workers = Workers::new();
    for id in ["a", "b"] {
        workers.beat(OURS, &worker(id), serving(&["mail"]), second(0)).unwrap();
    }
    assert!(workers.goodbye(OURS, &worker("a"), second(800)));
    assert!(workers.died(OURS, &worker("b"), "process 7 ended".to_owned(), second(800)));
    assert!(!workers.goodbye(OURS, &worker("c"), second(800)), "nobody knows it");
    assert!(!workers.goodbye(THEIRS, &worker("a"), second(800)));
    // The first word on its end stays.
    assert!(workers.died(OURS, &worker("a"), "late".to_owned(), second(801)));
    assert!(workers.goodbye(OURS, &worker("b"), second(801)));
    let told = |workers: &Workers, id| {
        let told = workers.get(OURS, &worker(id), second(801)).unwrap();
        (told.standing, told.died)
    };
    assert_eq!(told(&workers, "a"), (Standing::Gone, None));
    assert_eq!(told(&workers, "b"), (Standing::Gone, Some("process 7 ended".to_owned())));
    assert_eq!(serving_mail(&workers, second(30)), 0);
    assert_eq!(workers.sweep(second(800 + 899), &nobody_leases), 0);
    assert_eq!(workers.sweep(second(800 + 900), &nobody_leases), 2);
}

#[test]
fn who_comes_back_after_its_end_begins_anew() {
    let mut workers = Workers::new();
    workers.beat(OURS, &worker("a"), serving(&["mail"]), second(0)).unwrap();
    workers.died(OURS, &worker("a"), "process 7 ended".to_owned(), second(1));
    assert!(workers.seen(OURS, &worker("a"), &[], second(2)));
    let told = workers.get(OURS, &worker("a"), second(2)).unwrap();
    assert_eq!((told.standing, told.died), (Standing::Alive(None), None));
    assert_eq!((told.first_seen_at, told.said), (second(2).wall, Beat::default()));
}

/// What a worker is told in answer to each of `beats`, when it is told to restart after the first.
fn told_to_restart(beats: &[Beat]) -> Vec<Command> {
    let mut workers = Workers::new();
    let mut answers = Vec::new();
    for (n, beat) in (0..).zip(beats) {
        answers.push(workers.beat(OURS, &worker("a"), beat.clone(), second(n)).unwrap());
        if n == 0 {
            assert!(workers.command(OURS, &worker("a"), Command::Restart));
        }
    }
    answers
}

fn process(pid: u32) -> Beat {
    Beat { pid: Some(pid), ..Beat::default() }
}

fn done(jobs: u64) -> Beat {
    Beat { jobs_done: Some(jobs), ..Beat::default() }
}

#[test]
fn a_command_is_told_until_the_worker_begins_anew() {
    use Command::{Restart, Run};
    use WorkerState::{Busy, Idle, Stopping};
    let both = |state, jobs| Beat { state: Some(state), ..done(jobs) };
    let host = |name: &str| Beat { host: Some(name.to_owned()), ..done(3) };
    let counted = |idle, busy| Beat { idle_ms: Some(idle), busy_ms: Some(busy), ..Beat::default() };

    let cases: [(&str, Vec<Beat>, Vec<Command>); 11] = [
        (
            "another process",
            vec![process(7), process(7), process(7), process(8), process(8)],
            vec![Run, Restart, Restart, Run, Run],
        ),
        ("another machine", vec![host("x"), host("x"), host("y")], vec![Run, Restart, Run]),
        (
            "stopped, and a fresh count",
            vec![both(Busy, 5), both(Stopping, 5), both(Stopping, 6), both(Idle, 0)],
            vec![Run, Restart, Restart, Run],
        ),
        (
            "stopped, and a smaller count",
            vec![both(Busy, 5), both(Stopping, 6), both(Busy, 2), both(Busy, 3)],
            vec![Run, Restart, Run, Run],
        ),
        (
            "stopped before it did anything, and began anew",
            vec![both(Busy, 0), both(Stopping, 0), both(Idle, 0)],
            vec![Run, Restart, Run],
        ),
        (
            "a state that wavers is no new beginning while the count goes on",
            vec![both(Busy, 5), both(Stopping, 5), both(Idle, 5), both(Busy, 6)],
            vec![Run, Restart, Restart, Restart],
        ),
        (
            "a count that fell",
            vec![done(5), done(6), done(0), done(1)],
            vec![Run, Restart, Run, Run],
        ),
        (
            "a time that fell",
            vec![counted(5, 5), counted(5, 6), counted(6, 0)],
            vec![Run, Restart, Run],
        ),
        (
            "a count that falls before it was told shows nothing",
            vec![done(5), done(0), done(1)],
            vec![Run, Restart, Restart],
        ),
        (
            "process 1 of a container is told once",
            vec![process(1), process(1), process(1)],
            vec![Run, Restart, Run],
        ),
        (
            "so is one that says nothing to see it by",
            vec![Beat::default(), saying(Idle), saying(Idle)],
            vec![Run, Restart, Run],
        ),
    ];
    for (what, beats, answers) in cases {
        assert_eq!(told_to_restart(&beats), answers, "{what}");
    }
}

#[test]
fn goodbye_and_death_end_a_command_and_drain_stays() {
    let mut workers = Workers::new();
    let id = worker("a");
    let beat = |workers: &mut Workers, n| workers.beat(OURS, &id, process(7), second(n)).unwrap();
    beat(&mut workers, 0);
    for n in 0..2 {
        assert!(workers.command(OURS, &id, Command::Restart));
        assert_eq!(beat(&mut workers, 1), Command::Restart);
        if n == 0 {
            workers.goodbye(OURS, &id, second(2));
        } else {
            workers.died(OURS, &id, "process 7 ended".to_owned(), second(2));
        }
        assert!(!workers.command(OURS, &id, Command::Drain), "who is gone hears nothing");
        assert_eq!(beat(&mut workers, 3), Command::Run, "{n}");
    }
    let silent = worker("b");
    workers.beat(OURS, &silent, Beat::default(), second(4)).unwrap();
    assert!(workers.command(OURS, &silent, Command::Drain));
    for n in 5..8 {
        let told = workers.beat(OURS, &silent, Beat::default(), second(n)).unwrap();
        assert_eq!(told, Command::Drain, "to drain for ever harms nobody");
    }
    assert!(workers.command(OURS, &silent, Command::Run), "and can be taken back");
    assert_eq!(workers.beat(OURS, &silent, Beat::default(), second(9)), Ok(Command::Run));
    assert!(!workers.command(OURS, &worker("c"), Command::Drain), "nobody knows it");
}

#[test]
fn a_command_for_a_queue_reaches_those_who_serve_it() {
    let mut workers = Workers::new();
    let beat = |queues: &[&str]| Beat { pid: Some(7), ..serving(queues) };
    workers.beat(OURS, &worker("a"), beat(&["mail", "slow"]), second(0)).unwrap();
    workers.beat(OURS, &worker("b"), beat(&["slow"]), second(0)).unwrap();
    workers.beat(OURS, &worker("c"), beat(&["mail"]), second(0)).unwrap();
    workers.beat(OURS, &worker("gone"), beat(&["mail"]), second(0)).unwrap();
    workers.goodbye(OURS, &worker("gone"), second(0));
    workers.beat(THEIRS, &worker("a"), beat(&["mail"]), second(0)).unwrap();
    workers.seen(OURS, &worker("c"), &[queue("fast")], second(1));
    assert_eq!(workers.command_queue(OURS, &queue("mail"), Command::Restart), 1);
    let mut told = |tenant, id| workers.beat(tenant, &worker(id), process(7), second(100)).unwrap();
    assert_eq!(told(OURS, "a"), Command::Restart, "it was stale, and came back");
    assert_eq!(told(OURS, "b"), Command::Run);
    assert_eq!(told(OURS, "c"), Command::Run, "its last lease was from elsewhere");
    assert_eq!(told(THEIRS, "a"), Command::Run);
}

#[test]
fn when_all_are_alive_there_is_no_room() {
    let mut workers = Workers::bounded(2, 4);
    for (n, id) in (0..).zip(["a", "b"]) {
        workers.beat(OURS, &worker(id), serving(&["mail", "slow"]), second(n)).unwrap();
    }
    assert_eq!(workers.beat(THEIRS, &worker("c"), Beat::default(), second(2)), Err(TooMany));
    assert!(!workers.seen(THEIRS, &worker("c"), &[], second(2)));
    let three = serving(&["mail", "slow", "fast"]);
    assert_eq!(workers.beat(OURS, &worker("a"), three.clone(), second(2)), Err(TooMany));
    assert_eq!(workers.get(OURS, &worker("a"), second(2)).unwrap().said.queues.len(), 2);
    assert_eq!(workers.beat(OURS, &worker("a"), Beat::default(), second(2)), Ok(Command::Run));

    // "b" was not heard of for longest and is stale; "a" is not.
    assert_eq!(workers.beat(OURS, &worker("a"), three, second(61)), Ok(Command::Run));
    assert_eq!(workers.get(OURS, &worker("b"), second(61)), None);
    workers.goodbye(OURS, &worker("a"), second(61));
    workers.beat(OURS, &worker("d"), Beat::default(), second(0)).unwrap();
    assert!(workers.seen(OURS, &worker("e"), &[], second(61)));
    assert_eq!(workers.get(OURS, &worker("a"), second(61)), None, "who is gone gives way first");
    assert!(workers.get(OURS, &worker("d"), second(61)).is_some());
}

/// A worker of the naive list.
#[derive(Clone, Debug)]
struct Naive {
    tenant: TenantId,
    id: WorkerId,
    heard: Mono,
    /// In which order those of one moment became known.
    turn: usize,
    gone: bool,
    queues: Vec<QueueName>,
    pid: Option<u32>,
    first: Timestamp,
    last_beat: Option<Timestamp>,
    command: Command,
    died: Option<String>,
}

struct Reference {
    list: Vec<Naive>,
    turn: usize,
    workers_max: usize,
    queues_max: usize,
}

impl Reference {
    fn find(&mut self, tenant: TenantId, id: &WorkerId) -> Option<&mut Naive> {
        self.list.iter_mut().find(|one| one.tenant == tenant && one.id == *id)
    }

    /// Somebody is heard of; whether there is room.
    fn hear(&mut self, tenant: TenantId, id: &WorkerId, beat: &Beat, now: Now) -> bool {
        let own = self.find(tenant, id).cloned();
        let kept = own.clone().filter(|own| {
            let other = own.pid.is_some() && beat.pid.is_some() && own.pid != beat.pid;
            !own.gone && !other
        });
        let fresh = Naive {
            tenant,
            id: id.clone(),
            heard: now.mono,
            turn: own.as_ref().map_or(self.turn, |own| own.turn),
            gone: false,
            queues: Vec::new(),
            pid: None,
            first: now.wall,
            last_beat: None,
            command: Command::Run,
            died: None,
        };
        let mut next = kept.unwrap_or(fresh);
        next.heard = now.mono;
        next.pid = beat.pid.or(next.pid);
        if !beat.queues.is_empty() {
            next.queues.clone_from(&beat.queues);
        }
        let mut others: Vec<Naive> = self.list.clone();
        others.retain(|one| !(one.tenant == tenant && one.id == *id));
        loop {
            let named: usize = others.iter().map(|one| one.queues.len()).sum();
            if others.len() < self.workers_max && named + next.queues.len() <= self.queues_max {
                break;
            }
            let first = others.iter().min_by_key(|one| (!one.gone, one.heard, one.turn)).cloned();
            match first {
                Some(first) if first.gone || WORKER_STALE <= now.mono.since(first.heard) => {
                    others.retain(|one| one.turn != first.turn);
                    self.list.retain(|one| one.turn != first.turn);
                }
                _ => return false,
            }
        }
        if own.is_none() {
            self.turn += 1;
        }
        others.push(next);
        self.list = others;
        true
    }
}

struct Run {
    workers: Workers,
    reference: Reference,
    rng: Rng,
    passed: Duration,
    what: String,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut rng = Rng::from_seed(seed);
        let (workers_max, queues_max) = (1 + rng.index(8), 4 + rng.index(12));
        let workers = Workers::bounded(workers_max, queues_max);
        let reference = Reference { list: Vec::new(), turn: 0, workers_max, queues_max };
        Run { workers, reference, rng, passed: Duration::ZERO, what: format!("seed {seed}") }
    }

    fn tenant(&mut self) -> TenantId {
        if self.rng.one_in(3) { THEIRS } else { OURS }
    }

    fn id(&mut self) -> WorkerId {
        worker(&format!("w{}", self.rng.below(7)))
    }

    fn queues(&mut self) -> Vec<QueueName> {
        let names: BTreeSet<u64> = (0..self.rng.below(4)).map(|_| self.rng.below(3)).collect();
        names.into_iter().map(|n| queue(&format!("q{n}"))).collect()
    }

    fn command_of(&mut self) -> Command {
        Command::ALL[self.rng.index(3)]
    }

    fn step(&mut self) {
        let (tenant, id) = (self.tenant(), self.id());
        let now = at(self.passed);
        match self.rng.below(12) {
            0..=3 => self.beat(tenant, &id, now),
            4 | 5 => {
                let beat = Beat { queues: self.queues(), ..Beat::default() };
                let known = self.workers.seen(tenant, &id, &beat.queues, now);
                assert_eq!(known, self.reference.hear(tenant, &id, &beat, now), "{}", self.what);
            }
            6 => self.end(tenant, &id, None, now),
            7 => self.end(tenant, &id, Some(format!("at {}", now.wall)), now),
            8 => {
                let command = self.command_of();
                let found = self.reference.find(tenant, &id).filter(|one| !one.gone);
                let known = found.map(|one| one.command = command).is_some();
                assert_eq!(self.workers.command(tenant, &id, command), known, "{}", self.what);
            }
            9 => self.command_queue(tenant),
            10 => self.sweep(now),
            _ if self.rng.one_in(10) => {
                let before = self.reference.list.len();
                self.reference.list.retain(|one| one.tenant != tenant);
                let forgotten = before - self.reference.list.len();
                assert_eq!(self.workers.forget_tenant(tenant), forgotten, "{}", self.what);
            }
            _ => {
                let most = if self.rng.one_in(8) { 1000 } else { 30 };
                self.passed += Duration::from_secs(self.rng.below(most));
            }
        }
    }

    fn beat(&mut self, tenant: TenantId, id: &WorkerId, now: Now) {
        // Always with a process, so that only another process begins anew.
        let pid = Some(40 + u32::try_from(self.rng.below(20) / 19).unwrap());
        let beat = Beat { pid, queues: self.queues(), ..Beat::default() };
        let room = self.reference.hear(tenant, id, &beat, now);
        let expected = self.reference.find(tenant, id).filter(|_| room).map(|one| {
            one.last_beat = Some(now.wall);
            one.command
        });
        let told = self.workers.beat(tenant, id, beat, now);
        assert_eq!(told, expected.ok_or(TooMany), "{}", self.what);
    }

    fn end(&mut self, tenant: TenantId, id: &WorkerId, how: Option<String>, now: Now) {
        let known = match &how {
            None => self.workers.goodbye(tenant, id, now),
            Some(how) => self.workers.died(tenant, id, how.clone(), now),
        };
        let found = self.reference.find(tenant, id);
        assert_eq!(known, found.is_some(), "{}", self.what);
        if let Some(one) = found.filter(|one| !one.gone) {
            (one.gone, one.heard, one.died, one.command) = (true, now.mono, how, Command::Run);
        }
    }

    fn command_queue(&mut self, tenant: TenantId) {
        let (command, queue) = (self.command_of(), queue("q1"));
        let reached = self.workers.command_queue(tenant, &queue, command);
        let list = self.reference.list.iter_mut();
        let serving =
            list.filter(|one| one.tenant == tenant && !one.gone && one.queues.contains(&queue));
        let count = serving.map(|one| one.command = command).count();
        assert_eq!(reached, count, "{}", self.what);
    }

    fn sweep(&mut self, now: Now) {
        let holder = self.id();
        let before = self.reference.list.len();
        self.reference.list.retain(|one| {
            now.mono.since(one.heard) < WORKER_GONE || (one.tenant == OURS && one.id == holder)
        });
        let swept = self.workers.sweep(now, &|tenant, id| tenant == OURS && *id == holder);
        assert_eq!(swept, before - self.reference.list.len(), "{}", self.what);
    }

    /// Everything that can be seen, and the sums.
    fn compare(&mut self) {
        let now = at(self.passed);
        let list = &self.reference.list;
        assert_eq!(self.workers.len(), list.len(), "{}", self.what);
        let named: usize = list.iter().map(|one| one.queues.len()).sum();
        assert_eq!(self.workers.queues, named, "{}", self.what);
        for tenant in [OURS, THEIRS] {
            let mut expected: Vec<&Naive> =
                list.iter().filter(|one| one.tenant == tenant).collect();
            expected.sort_by(|a, b| a.id.cmp(&b.id));
            let mut seen: Vec<Told> = Vec::new();
            while let page = self.workers.page(tenant, seen.last().map(|told| &told.id), 2, now)
                && !page.is_empty()
            {
                let on = seen.last().is_none_or(|last| last.id < page[0].id);
                assert!(on && page.len() <= 2, "{}", self.what);
                seen.extend(page);
            }
            assert_eq!(seen.len(), expected.len(), "{}", self.what);
            for (told, one) in seen.iter().zip(expected) {
                self.compare_one(told, one, now);
            }
            self.compare_counts(tenant, now);
        }
    }

    fn compare_one(&self, told: &Told, one: &Naive, now: Now) {
        let stale = WORKER_STALE <= now.mono.since(one.heard);
        let standing = match (one.gone, stale) {
            (true, _) => Standing::Gone,
            (false, true) => Standing::Stale,
            (false, false) => Standing::Alive(None),
        };
        assert_eq!((&told.id, told.standing), (&one.id, standing), "{}", self.what);
        assert_eq!(told.said.queues, one.queues, "{}", self.what);
        assert_eq!((told.said.pid, &told.died), (one.pid, &one.died), "{}", self.what);
        assert_eq!((told.first_seen_at, told.command), (one.first, one.command), "{}", self.what);
        assert_eq!(told.last_beat_at, one.last_beat, "{}", self.what);
        let got = self.workers.get(one.tenant, &one.id, now);
        assert_eq!(got.as_ref(), Some(told), "{}", self.what);
    }

    fn compare_counts(&self, tenant: TenantId, now: Now) {
        let counts = self.workers.counts(tenant, now);
        for name in ["q0", "q1", "q2"].map(queue) {
            let list = self.reference.list.iter().filter(|one| one.tenant == tenant && !one.gone);
            let alive = list.filter(|one| now.mono.since(one.heard) < WORKER_STALE);
            let its: Vec<_> = alive.filter(|one| one.queues.contains(&name)).collect();
            let shared = its.iter().any(|one| one.queues.iter().any(|other| *other != name));
            let expected = Served { workers: its.len(), places: its.len(), shared };
            assert_eq!(counts.get(&name).copied().unwrap_or_default(), expected, "{}", self.what);
        }
    }
}

#[test]
fn workers_are_what_a_naive_list_of_them_is() {
    for seed in seeds(amount("HOLDFAST_WORKER_SEEDS", 60)) {
        let mut run = Run::new(seed);
        for _ in 0..500 {
            run.step();
            run.compare();
        }
    }
}
