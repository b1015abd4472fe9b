//! Kept namespaces beside a naive map, through lost commits, reopenings and restarts.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::rows::{self, Row};
use super::{
    Begun, Error, Increment, Judge, Loaded, Loading, Pending, Step, Sum, Touch, Touched, What,
};
use crate::base::id::TenantId;
use crate::base::limits::KEPT_INLINE_BYTES_MAX;
use crate::base::name::Namespace;
use crate::base::rng::Rng;
use crate::base::time::{Mono, Now, Timestamp};
use crate::cache::Error as Refused;
use crate::cache::entry::{
    Asked, Condition, ContentType, Key, LeaseToken, Life, Put, Stored, Tag, Version,
};
use crate::cache::glob::Glob;
use crate::cache::space::{Cache, Settings, Space};
use crate::store::{Engine, Opening, Table, Write};
use crate::testing::batches::{Fate, Kind, Operation, batch};
use crate::testing::seeds;

const KEYS: [&str; 6] = ["a", "ab", "b", "a\0", "ns:1", "\u{e4}"];
const TAGS: [&str; 3] = ["t", "u", "v w"];
const TENANT: TenantId = TenantId::from_raw(9);

fn namespace(text: &str) -> Namespace {
    Namespace::parse(text).unwrap()
}

fn at(mono_ms: u64, wall_ms: i64) -> Now {
    let wall = Timestamp::from_unix_ms(1_700_000_000_000 + wall_ms).unwrap();
    Now { wall, mono: Mono::from_ns(mono_ms * 1_000_000) }
}

static SEED: AtomicU64 = AtomicU64::new(1);

fn cache(base: Mono, kept: &[&str], kept_budget: u64) -> Cache {
    let settings = Settings { enabled: true, budget: 64 << 20, kept_budget, caps: BTreeMap::new() };
    let kept: BTreeSet<Namespace> = kept.iter().map(|name| namespace(name)).collect();
    // As every process has another seed, no two have a version in common.
    Cache::new(SEED.fetch_add(1 << 32, Relaxed), base, settings, kept)
}

fn load(
    engine: &dyn Engine,
    cache: &Cache,
    pending: &Pending,
    now: Now,
    opening: Opening,
) -> Loaded {
    let tenant_max = &|tenant| (tenant == TENANT).then_some(None);
    super::load(engine, &Loading { cache, pending, now, opening, tenant_max }).unwrap()
}

/// A put with texts of its own.
#[derive(Clone, Debug)]
struct Given {
    key: &'static str,
    value: Vec<u8>,
    content_type: &'static str,
    life: Life,
    tags: Vec<&'static str>,
    condition: Condition,
    lease: Option<LeaseToken>,
}

impl Given {
    fn with<T>(&self, then: impl FnOnce(&Put<'_>) -> T) -> T {
        let tags: Vec<_> = self.tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
        then(&Put {
            key: Key::parse(self.key).unwrap(),
            value: &self.value,
            content_type: ContentType::parse(self.content_type).unwrap(),
            life: self.life,
            tags: &tags,
            condition: self.condition,
            lease: self.lease,
        })
    }
}

#[derive(Clone, Debug)]
enum Call {
    Puts(Vec<Given>),
    Increment(&'static str, i64, Life),
    Touch(&'static str, Duration, Option<Duration>),
    Forget(What),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Stored(Vec<Stored>),
    Sum(i64),
    Touched(bool),
    Forgotten(u64),
    Refused(Refused),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    value: Vec<u8>,
    content_type: String,
    tags: Vec<&'static str>,
    /// Fresh and served until; by the stop-watch, and by the calendar.
    ends: Option<(Mono, Mono)>,
    wall: Option<(Timestamp, Timestamp)>,
    /// Written in the batch that is being run.
    new: bool,
}

impl Entry {
    fn live(&mut self, life: Life, now: Now) {
        let both = |ttl: Duration| {
            let (fresh, gone) = (ttl, ttl + life.stale());
            let mono = (now.mono.plus(fresh), now.mono.plus(gone));
            (mono, (now.wall.plus(fresh), now.wall.plus(gone)))
        };
        self.ends = life.ttl().map(|ttl| both(ttl).0);
        self.wall = life.ttl().map(|ttl| both(ttl).1);
        self.new = true;
    }
}

#[derive(Clone, Debug, Default)]
struct Model {
    entries: BTreeMap<&'static str, Entry>,
}

struct Lease {
    key: &'static str,
    token: LeaseToken,
    until: Mono,
    /// Forgets that there had been.
    born: usize,
}

/// What is not undone when a commit is lost.
#[derive(Default)]
struct Memory {
    leases: Vec<Lease>,
    forgets: Vec<What>,
}

fn matches(what: &What, key: &str, tags: &[&str]) -> bool {
    match what {
        What::Keys(keys) => keys.iter().any(|k| k == key),
        What::Tags(forgotten) => forgotten.iter().any(|tag| tags.contains(&tag.as_str())),
        What::Prefix(prefix) => key.starts_with(prefix.as_str()),
        What::Pattern(glob) => glob.matches(key),
        What::All => true,
    }
}

impl Memory {
    fn holds(&self, put: &Given, token: LeaseToken, now: Now) -> bool {
        let lease = self.leases.iter().find(|lease| lease.token == token && lease.key == put.key);
        lease.is_some_and(|lease| {
            let mut since = self.forgets[lease.born..].iter();
            now.mono < lease.until && !since.any(|what| matches(what, put.key, &put.tags))
        })
    }
}

impl Model {
    fn live(&self, key: &str, now: Now) -> Option<&Entry> {
        let entry = self.entries.get(key)?;
        entry.ends.is_none_or(|(_, gone)| now.mono < gone).then_some(entry)
    }

    fn put(&mut self, put: &Given, memory: &Memory, now: Now) -> Result<Stored, Refused> {
        let there = self.live(put.key, now).is_some();
        match put.condition {
            Condition::Absent if there => return Err(Refused::KeyExists),
            Condition::Present if !there => return Err(Refused::KeyMissing),
            _ => {}
        }
        if let Some(token) = put.lease {
            let used = self.entries.get(put.key).is_some_and(|entry| entry.new);
            if used || !memory.holds(put, token, now) {
                return Err(Refused::LeaseLost);
            }
        }
        let mut entry = Entry {
            value: put.value.clone(),
            content_type: put.content_type.to_owned(),
            tags: put.tags.clone(),
            ends: None,
            wall: None,
            new: true,
        };
        entry.live(put.life, now);
        self.entries.insert(put.key, entry);
        Ok(if there { Stored::Replaced } else { Stored::New })
    }

    fn call(&mut self, call: &Call, memory: &Memory, now: Now) -> Said {
        match call {
            Call::Puts(puts) => {
                let before = self.clone();
                let stored: Result<Vec<_>, _> =
                    puts.iter().map(|put| self.put(put, memory, now)).collect();
                stored.map_or_else(
                    |refused| {
                        *self = before;
                        Said::Refused(refused)
                    },
                    Said::Stored,
                )
            }
            Call::Increment(key, by, life) => self.increment(key, *by, *life, now),
            Call::Touch(key, ttl, stale) => {
                if self.live(key, now).is_none() {
                    return Said::Touched(false);
                }
                let entry = self.entries.get_mut(key).unwrap();
                let window = entry.ends.map(|(fresh, gone)| gone.since(fresh)).unwrap_or_default();
                entry.live(Life::new(Some(*ttl), stale.unwrap_or(window)).unwrap(), now);
                Said::Touched(true)
            }
            Call::Forget(what) => {
                let mut forgotten = 0;
                let gone: Vec<_> = self
                    .entries
                    .iter()
                    .filter(|(key, entry)| matches(what, key, &entry.tags))
                    .map(|(key, _)| *key)
                    .collect();
                for key in gone {
                    forgotten += u64::from(self.live(key, now).is_some());
                    self.entries.remove(key);
                }
                Said::Forgotten(forgotten)
            }
        }
    }

    fn increment(&mut self, key: &'static str, by: i64, life: Life, now: Now) -> Said {
        let Some(entry) = self.live(key, now) else {
            let value = by.to_string().into_bytes();
            let content_type = ContentType::TEXT.as_str().to_owned();
            let (tags, ends, wall) = (Vec::new(), None, None);
            let mut entry = Entry { value, content_type, tags, ends, wall, new: true };
            entry.live(life, now);
            self.entries.insert(key, entry);
            return Said::Sum(by);
        };
        let number =
            std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse::<i64>().ok());
        let Some(number) = number.filter(|n| n.to_string().as_bytes() == entry.value) else {
            return Said::Refused(Refused::NotAnInteger);
        };
        let sum = number + by;
        if 1 << 53 <= sum.unsigned_abs() {
            return Said::Refused(Refused::Overflow);
        }
        let entry = self.entries.get_mut(key).unwrap();
        entry.value = sum.to_string().into_bytes();
        entry.new = true;
        Said::Sum(sum)
    }

    /// What the calendar leaves after a start.
    fn restart(&mut self, now: Now) {
        self.entries.retain(|_, entry| entry.wall.is_none_or(|(_, gone)| now.wall < gone));
        for entry in self.entries.values_mut() {
            entry.ends = entry.wall.map(|(fresh, gone)| {
                let left = |at: Timestamp| now.mono.plus(at.since(now.wall));
                (left(fresh), left(gone))
            });
        }
    }
}

/// What memory has to follow.
enum Follow {
    Puts(Vec<(Given, Version)>),
    Sum(&'static str, Sum, Version),
    Touched(&'static str, Touched),
    Dropped(Step),
}

struct World<'w> {
    engine: &'w dyn Engine,
    cache: Cache,
    pending: Pending,
    model: Model,
    memory: Memory,
    mono_ms: u64,
    wall_ms: i64,
    tokens: u64,
}

fn random_life(rng: &mut Rng) -> Life {
    let ms = |rng: &mut Rng| Duration::from_millis([1, 50, 100, 5_000, 3_600_000][rng.index(5)]);
    match rng.below(4) {
        0 => Life::FOR_EVER,
        1 => Life::new(Some(ms(rng)), ms(rng)).unwrap(),
        _ => Life::new(Some(ms(rng)), Duration::ZERO).unwrap(),
    }
}

fn random_value(rng: &mut Rng) -> Vec<u8> {
    match rng.below(8) {
        0 => Vec::new(),
        1 => rng.bytes(KEPT_INLINE_BYTES_MAX),
        2 => rng.bytes(KEPT_INLINE_BYTES_MAX + 1),
        3 => rng.bytes(40_000),
        4 => b"007".to_vec(),
        5 => ((1_i64 << 53) - 2).to_string().into_bytes(),
        _ => rng.below(100).to_string().into_bytes(),
    }
}

impl World<'_> {
    fn now(&self) -> Now {
        at(self.mono_ms, self.wall_ms)
    }

    fn space(&self) -> Arc<Space> {
        self.cache.space_or_new(TENANT, &namespace("sess"), None).unwrap()
    }

    fn random_put(&mut self, rng: &mut Rng) -> Given {
        let key = KEYS[rng.index(6)];
        let mine = self.memory.leases.iter().find(|lease| lease.key == key && rng.one_in(2));
        Given {
            key,
            value: random_value(rng),
            content_type: ["text/html", "application/octet-stream"][rng.index(2)],
            life: random_life(rng),
            tags: TAGS.into_iter().filter(|_| rng.one_in(3)).collect(),
            condition: [Condition::Always, Condition::Absent, Condition::Present][rng.index(3)],
            lease: mine.map(|lease| lease.token),
        }
    }

    fn random_call(&mut self, rng: &mut Rng) -> Call {
        match rng.below(10) {
            0..4 => Call::Puts(vec![self.random_put(rng)]),
            4 => Call::Puts((0..rng.index(4)).map(|_| self.random_put(rng)).collect()),
            5 | 6 => Call::Increment(
                KEYS[rng.index(6)],
                rng.index(7).cast_signed() as i64 - 3,
                random_life(rng),
            ),
            7 => {
                let ms = |rng: &mut Rng| Duration::from_millis([1, 100, 120_000][rng.index(3)]);
                let stale = rng.one_in(2).then(|| ms(rng));
                Call::Touch(KEYS[rng.index(6)], ms(rng), stale)
            }
            _ => Call::Forget(match rng.below(7) {
                0..3 => {
                    What::Keys(vec![KEYS[rng.index(6)].to_owned(), KEYS[rng.index(6)].to_owned()])
                }
                3 => What::Tags(vec![TAGS[rng.index(3)].to_owned(), TAGS[rng.index(3)].to_owned()]),
                4 => What::Prefix(["a", "a\0", "n", ""][rng.index(4)].to_owned()),
                5 => What::Pattern(Glob::parse("*b").unwrap()),
                _ => What::All,
            }),
        }
    }

    fn ask(&mut self, rng: &mut Rng) {
        let (key, now) = (KEYS[rng.index(6)], self.now());
        self.tokens += 1;
        let (fresh, long) = (LeaseToken::from_raw(self.tokens), Duration::from_millis(500));
        let given =
            match self.space().ask(now.mono, Key::parse(key).unwrap(), long, fresh, false, None) {
                Asked::Hit(_, lease) => lease,
                Asked::Leased(lease) => Some(lease),
                Asked::Busy { .. } => None,
            };
        if let Some(token) = given {
            let (until, born) = (now.mono.plus(long), self.memory.forgets.len());
            self.memory.leases.retain(|lease| lease.key != key);
            self.memory.leases.push(Lease { key, token, until, born });
        }
    }

    fn batch(&mut self, rng: &mut Rng, context: &str) {
        let fate = [Fate::Stored, Fate::Stored, Fate::Stored, Fate::Unknown, Fate::Lost];
        let fate = fate[rng.index(5)];
        let calls: Vec<Call> = (0..=rng.index(5)).map(|_| self.random_call(rng)).collect();
        let (space, now, before) = (self.space(), self.now(), self.model.clone());
        // Whoever forgets has taken the leases before the operation is on its way.
        for call in &calls {
            if let Call::Forget(what) = call {
                what.with_forget(|forget| space.forget(now.mono, forget, false));
                self.memory.forgets.push(what.clone());
            }
        }
        let stamps: Vec<Vec<Version>> = calls
            .iter()
            .map(|call| {
                let count = if let Call::Puts(puts) = call { puts.len() } else { 1 };
                (0..count).map(|_| space.next_version()).collect()
            })
            .collect();
        let done = RefCell::new(Vec::new());
        let judge = Judge { space: &space, pending: &self.pending, now };
        let operations = calls.iter().zip(&stamps).map(|(call, stamps)| {
            let (done, judge) = (&done, &judge);
            let operation: Operation<'_> = Box::new(move |tx| {
                let result = run(tx, judge, call, stamps);
                let kept = result.is_ok();
                done.borrow_mut().push(result);
                kept
            });
            operation
        });
        batch(self.engine, fate, operations.collect());
        for ((call, stamps), result) in calls.iter().zip(&stamps).zip(done.into_inner()) {
            let (said, follow) = match result {
                Ok((said, follow)) => (said, Some(follow)),
                Err(Error::Refused(refused)) => (Said::Refused(refused), None),
                Err(Error::Store(error)) => panic!("{context} {call:?}: {error}"),
            };
            let expected = self.model.call(call, &self.memory, now);
            assert_eq!(said, expected, "{context} {call:?} of {calls:?}");
            if let (Fate::Stored, Some(follow)) = (fate, follow) {
                self.follow(&space, follow, now);
            }
            if fate == Fate::Stored {
                for stamp in stamps {
                    self.pending.settle(*stamp);
                }
            }
        }
        for entry in self.model.entries.values_mut() {
            entry.new = false;
        }
        if fate == Fate::Lost {
            self.model = before;
        }
        if fate != Fate::Stored {
            load(self.engine, &self.cache, &self.pending, now, Opening::AfterFailure);
            // Who had a lease may have lost it: what was written ends it.
            self.memory.leases.clear();
        }
    }

    fn follow(&mut self, space: &Space, follow: Follow, now: Now) {
        let mut written = Vec::new();
        match follow {
            Follow::Puts(puts) => {
                for (put, version) in puts {
                    written.push(put.key);
                    put.with(|put| {
                        let reserved = space.reserve(space.cost(put)).unwrap();
                        space.keep(now.mono, reserved, put, version, Duration::ZERO);
                    });
                }
            }
            Follow::Sum(key, sum, version) => {
                written.push(key);
                sum.with_put(Key::parse(key).unwrap(), |put| {
                    let reserved = space.reserve(space.cost(put)).unwrap();
                    space.keep(sum.began.at, reserved, put, version, Duration::ZERO);
                });
            }
            Follow::Touched(key, Touched { version, began, .. }) => {
                assert!(space.renew(began.at, Key::parse(key).unwrap(), version, began.life));
            }
            Follow::Dropped(step) => {
                assert_eq!(step.next, None);
                for (key, version) in step.dropped {
                    space.drop_kept(Key::parse(&key).unwrap(), version);
                }
            }
        }
        self.memory.leases.retain(|lease| !written.contains(&lease.key));
    }

    fn compare(&self, context: &str) {
        let (space, now) = (self.space(), self.now());
        for key in KEYS {
            let found = space.peek(now.mono, Key::parse(key).unwrap()).map(|found| {
                let ttl = found.ttl().map(|ttl| ttl.as_millis());
                (found.bytes().to_vec(), found.content_type().as_str().to_owned(), ttl, found.stale)
            });
            let expected = self.model.live(key, now).map(|entry| {
                let ttl = entry.ends.map(|(fresh, _)| fresh.since(now.mono).as_millis());
                let stale = entry.ends.is_some_and(|(fresh, _)| fresh <= now.mono);
                (entry.value.clone(), entry.content_type.clone(), ttl, stale)
            });
            assert!(found == expected, "{context} key={key:?}: {found:?}, not {expected:?}");
        }
    }

    fn remove_ended(&mut self, context: &str) {
        let (now, mut from) = (self.now(), Vec::new());
        loop {
            let (mut page, cache, pending) = (None, &self.cache, &self.pending);
            self.engine
                .read(&mut |view| {
                    page = Some(super::ended_page(view, cache, pending, now, from.clone())?);
                    Ok(())
                })
                .unwrap();
            let page = page.unwrap();
            let operation: Operation<'_> = Box::new(|tx| {
                super::remove_ended(tx, cache, pending, now, &page.ended).unwrap();
                true
            });
            batch(self.engine, Fate::Stored, vec![operation]);
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        self.model.entries.retain(|key, entry| {
            let gone = |(_, gone): (Mono, Mono)| gone <= now.mono;
            let over = entry.ends.is_some_and(gone);
            let entry_key = rows::entry(TENANT, "sess", key);
            let mut there = false;
            self.engine
                .read(&mut |view| {
                    there = view.get(Table::Kept, &rows::part(&entry_key, 0))?.is_some();
                    Ok(())
                })
                .unwrap();
            assert!(there || over, "{context}: {key:?} was removed alive");
            !over
        });
    }
}

fn run(
    tx: &mut dyn Write,
    judge: &Judge<'_>,
    call: &Call,
    stamps: &[Version],
) -> Result<(Said, Follow), Error> {
    Ok(match call {
        Call::Puts(puts) => {
            let mut stored = Vec::new();
            for (put, version) in puts.iter().zip(stamps) {
                stored.push(put.with(|put| super::put(tx, judge, put, *version))?);
            }
            let puts = puts.iter().cloned().zip(stamps.iter().copied()).collect();
            (Said::Stored(stored), Follow::Puts(puts))
        }
        Call::Increment(key, by, life) => {
            let version = stamps[0];
            let what = Increment { key: Key::parse(key).unwrap(), by: *by, life: *life, version };
            let sum = super::increment(tx, judge, &what, &mut |_| Ok(()))?;
            (Said::Sum(sum.value), Follow::Sum(key, sum, version))
        }
        Call::Touch(key, ttl, stale) => {
            let (ttl, stale, stamp) = (*ttl, *stale, stamps[0]);
            let what = Touch { key: Key::parse(key).unwrap(), ttl, stale, stamp };
            match super::touch(tx, judge, &what)? {
                Some(touched) => (Said::Touched(true), Follow::Touched(key, touched)),
                None => (Said::Touched(false), Follow::Puts(Vec::new())),
            }
        }
        Call::Forget(what) => {
            let step = super::forget_step(tx, judge, what, None)?;
            (Said::Forgotten(step.forgotten), Follow::Dropped(step))
        }
    })
}

fn check(kind: Kind, seed: u64, steps: usize) {
    let mut rng = Rng::from_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let engine = kind.open(folder.path());
    let base = Mono::from_ns(1_000_000);
    let mut world = World {
        engine: &*engine,
        cache: cache(base, &["sess"], 16 << 20),
        pending: Pending::default(),
        model: Model::default(),
        memory: Memory::default(),
        mono_ms: 1_000,
        wall_ms: 0,
        tokens: 0,
    };
    for step in 0..steps {
        let context = format!("{kind:?} seed={seed} step={step}");
        match rng.below(16) {
            0..9 => world.batch(&mut rng, &context),
            9 | 10 => world.ask(&mut rng),
            11 | 12 => {
                let ms = [1, 49, 50, 100, 499, 6_000, 130_000][rng.index(7)];
                world.mono_ms += ms;
                world.wall_ms += ms.cast_signed();
                if rng.one_in(2) {
                    world.cache.sweep(world.now().mono);
                }
            }
            // Somebody sets the calendar; the stop-watch goes on.
            13 => world.wall_ms += [3_600_000, 0, 5, 100][rng.index(4)],
            14 => world.remove_ended(&context),
            _ => {
                world.wall_ms += [0, 50, 10_000][rng.index(3)];
                world.mono_ms = 1_000 + rng.below(1_000_000);
                world.cache = cache(base, &["sess"], 16 << 20);
                world.memory = Memory::default();
                let now = world.now();
                let loaded = load(world.engine, &world.cache, &world.pending, now, Opening::Start);
                assert_eq!((loaded.damaged, loaded.no_room), (0, 0), "{context}");
                world.model.restart(now);
            }
        }
        world.compare(&context);
    }
}

#[test]
fn what_is_kept_is_what_a_naive_map_says() {
    for seed in seeds(300) {
        check(Kind::Redb, seed, 60);
    }
}

#[test]
fn what_is_kept_is_what_a_naive_map_says_on_the_other_engine() {
    for seed in seeds(5) {
        check(Kind::Sqlite, seed, 60);
    }
}

fn plain(key: &'static str, value: &[u8]) -> Given {
    Given {
        key,
        value: value.to_vec(),
        content_type: "text/plain",
        life: Life::FOR_EVER,
        tags: Vec::new(),
        condition: Condition::Always,
        lease: None,
    }
}

fn once<T>(engine: &dyn Engine, operation: impl FnOnce(&mut dyn Write) -> T) -> T {
    let mut out = None;
    let operation: Operation<'_> = Box::new(|tx| {
        out = Some(operation(tx));
        true
    });
    batch(engine, Fate::Stored, vec![operation]);
    out.unwrap()
}

fn engine() -> Box<dyn Engine> {
    Box::new(crate::testing::model::Model::default())
}

#[test]
fn a_forget_of_many_takes_many_steps_and_counts_exactly() {
    let (engine, now) = (engine(), at(1_000, 0));
    let cache = cache(now.mono, &["sess"], 64 << 20);
    let space = cache.space_or_new(TENANT, &namespace("sess"), None).unwrap();
    let pending = Pending::default();
    let judge = Judge { space: &space, pending: &pending, now };
    once(&*engine, |tx| {
        for n in 0..1_234_u32 {
            let (key, value) = (format!("k{n}"), vec![0; if n % 400 == 0 { 90_000 } else { 9 }]);
            let put = Given { value, ..plain("?", b"") };
            put.with(|put| {
                let put = Put { key: Key::parse(&key).unwrap(), ..*put };
                super::put(tx, &judge, &put, space.next_version()).unwrap();
            });
        }
    });
    let (mut forgotten, mut steps, mut cursor) = (0, 0, None);
    loop {
        let what = What::Pattern(Glob::parse("k*1*").unwrap());
        let step = once(&*engine, |tx| super::forget_step(tx, &judge, &what, cursor).unwrap());
        forgotten += step.forgotten;
        steps += 1;
        match step.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let expected = (0..1_234).filter(|n: &u32| n.to_string().contains('1')).count() as u64;
    assert_eq!(forgotten, expected);
    assert!((3..=6).contains(&steps), "{steps}");
}

#[test]
fn damaged_rows_are_told_and_passed_and_written_over() {
    let (engine, now) = (engine(), at(1_000, 0));
    let first = cache(now.mono, &["sess"], 64 << 20);
    let space = first.space_or_new(TENANT, &namespace("sess"), None).unwrap();
    let pending = Pending::default();
    let judge = Judge { space: &space, pending: &pending, now };
    let put = |tx: &mut dyn Write, given: &Given| {
        given.with(|put| super::put(tx, &judge, put, space.next_version()).unwrap())
    };
    once(&*engine, |tx| {
        for key in ["a", "b", "c", "d", "e"] {
            put(tx, &plain(key, &vec![7; 40_000]));
        }
        let entry = |key| rows::entry(TENANT, "sess", key);
        tx.put(Table::Kept, &rows::part(&entry("a"), 0), b"no head").unwrap();
        tx.delete(Table::Kept, &rows::part(&entry("b"), 2)).unwrap();
        tx.put(Table::Kept, &rows::part(&entry("c"), 1), &vec![8; 16_300]).unwrap();
        tx.delete(Table::Kept, &rows::part(&entry("d"), 3)).unwrap();
        tx.put(Table::Kept, b"\xff\xffno key", b"?").unwrap();
    });
    let fresh = cache(now.mono, &["sess"], 64 << 20);
    let loaded = load(&*engine, &fresh, &Pending::default(), now, Opening::Start);
    assert_eq!((loaded.entries, loaded.damaged), (1, 5));
    let space = fresh.space(TENANT, "sess").unwrap();
    assert!(space.peek(now.mono, Key::parse("e").unwrap()).is_some());
    once(&*engine, |tx| {
        for key in ["a", "b", "c", "d"] {
            put(tx, &plain(key, b"new"));
        }
    });
    let again = cache(now.mono, &["sess"], 64 << 20);
    let loaded = load(&*engine, &again, &Pending::default(), now, Opening::Start);
    assert_eq!((loaded.entries, loaded.damaged), (5, 1));
}

#[test]
fn what_is_not_kept_any_more_is_in_memory_and_its_rows_can_go() {
    let (engine, now) = (engine(), at(1_000, 0));
    let first = cache(now.mono, &["old", "sess"], 64 << 20);
    let pending = Pending::default();
    for name in ["old", "sess"] {
        let space = first.space_or_new(TENANT, &namespace(name), None).unwrap();
        let judge = Judge { space: &space, pending: &pending, now };
        once(&*engine, |tx| {
            plain("k", b"v").with(|put| super::put(tx, &judge, put, space.next_version()).unwrap())
        });
    }
    let second = cache(now.mono, &["sess"], 64 << 20);
    let loaded = load(&*engine, &second, &Pending::default(), now, Opening::Start);
    assert_eq!(loaded.unkept, BTreeSet::from([(TENANT, namespace("old"))]));
    let old = second.space(TENANT, "old").unwrap();
    assert!(!old.kept() && old.peek(now.mono, Key::parse("k").unwrap()).is_some());
    assert!(once(&*engine, |tx| super::drop_unkept_step(tx, TENANT, &namespace("old")).unwrap()));
    let third = cache(now.mono, &["sess"], 64 << 20);
    let loaded = load(&*engine, &third, &Pending::default(), now, Opening::Start);
    assert_eq!((loaded.entries, loaded.unkept.len()), (1, 0));
    assert!(once(&*engine, |tx| super::remove_tenant_step(tx, TENANT).unwrap()));
    let fourth = cache(now.mono, &["sess"], 64 << 20);
    let loaded = load(&*engine, &fourth, &Pending::default(), now, Opening::Start);
    assert_eq!(loaded, Loaded::default());
}

#[test]
fn what_finds_no_room_stays_on_disk_until_the_calendar_ends_it() {
    let (engine, now) = (engine(), at(1_000, 0));
    let pending = Pending::default();
    let first = cache(now.mono, &["sess"], 64 << 20);
    let space = first.space_or_new(TENANT, &namespace("sess"), None).unwrap();
    let judge = Judge { space: &space, pending: &pending, now };
    once(&*engine, |tx| {
        let life = Life::new(Some(Duration::from_mins(1)), Duration::ZERO).unwrap();
        let put = Given { life, ..plain("k", &vec![1; 100_000]) };
        put.with(|put| super::put(tx, &judge, put, space.next_version()).unwrap());
    });
    let small = cache(now.mono, &["sess"], 50_000);
    let pending = Pending::default();
    assert_eq!(load(&*engine, &small, &pending, now, Opening::Start).no_room, 1);
    let ended = |now| {
        let mut count = 0;
        engine
            .read(&mut |view| {
                count = super::ended_page(view, &small, &pending, now, Vec::new())?.ended.len();
                Ok(())
            })
            .unwrap();
        count
    };
    assert_eq!(ended(at(2_000, 1_000)), 0);
    assert_eq!(ended(at(61_000, 60_000)), 1);
}

#[test]
fn a_life_that_is_counted_from_an_end_ends_there() {
    for seed in seeds(5_000) {
        let mut rng = Rng::from_seed(seed);
        let now = Mono::from_ns(1_000_000_000 + rng.below(10_000_000));
        let end = now.plus(Duration::from_nanos(1 + rng.below(10_000_000)));
        let stale = Duration::from_millis(rng.below(12));
        let began = Begun::until(now, Some(end), stale);
        assert_eq!(began.end(), Some(end), "seed={seed}");
        let fresh_end = Mono::from_ns(end.ns() - u64::try_from(stale.as_nanos()).unwrap());
        let fresh = began.at.plus(began.life.ttl().unwrap());
        assert!(fresh == fresh_end || fresh <= now && fresh_end <= now, "seed={seed}");
    }
    assert_eq!(Begun::until(Mono::from_ns(5), None, Duration::ZERO).end(), None);
}

#[test]
fn a_head_is_written_as_it_always_was() {
    let row = Row {
        version: 1,
        stamp: 2,
        stored_at_ms: 3,
        fresh_until_ms: Some(4),
        stale_ms: 5,
        content_type: "t".to_owned(),
        tags: vec!["x".to_owned()],
        value_bytes: 2,
        parts: 0,
        value_crc: 7,
        small: b"hi".to_vec(),
    };
    let bytes = crate::base::codec::encode(&row).unwrap();
    assert_eq!(&bytes[..2], [0x20, 1]);
    assert_eq!(bytes.len(), 97);
    assert_eq!(Row::read(&bytes), Ok(row));
}
