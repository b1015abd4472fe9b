//! Random short histories on few keys and tags, beside a map that does everything the slow way.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Wake, Waker};
use std::time::Duration;

use super::{at, cache, key, settings, space, token};
use crate::base::rng::Rng;
use crate::cache::Error;
use crate::cache::entry::{
    Asked, Condition, ContentType, Forget, Found, Key, LeaseToken, Life, Put, Stats, Stored, Tag,
    Version,
};
use crate::cache::glob::Glob;
use crate::cache::space::{Cache, Space};
use crate::testing::{amount, seeds};

const KEYS: [&str; 6] = ["a", "ab", "abc", "b", "b:1", "b:2"];
const TAGS: [&str; 4] = ["t", "u", "v", "w"];
const TYPES: [ContentType<'static>; 2] = [ContentType::OCTETS, ContentType::TEXT];
const PREFIXES: [&str; 4] = ["", "a", "b:", "x"];
const PATTERNS: [&str; 4] = ["*", "a*", "?", "b:[!1]"];

/// What somebody who waits is woken by.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.0.store(true, SeqCst);
    }
}

impl Bell {
    fn rang(&self) -> bool {
        self.0.load(SeqCst)
    }
}

#[derive(Clone, Debug)]
struct Entry {
    value: Vec<u8>,
    content_type: &'static str,
    fresh: u64,
    gone: u64,
    tags: BTreeSet<&'static str>,
    stored: u64,
    /// Known from the first time it was seen.
    version: Option<Version>,
}

struct Lease {
    token: LeaseToken,
    until: u64,
    forgotten: BTreeSet<&'static str>,
}

#[derive(Default)]
struct Model {
    now: u64,
    entries: BTreeMap<&'static str, Entry>,
    leases: BTreeMap<&'static str, Lease>,
    waiting: BTreeMap<&'static str, Vec<Arc<Bell>>>,
    stats: Stats,
    versions: HashSet<(&'static str, Version)>,
}

impl Model {
    fn pass(&mut self, ms: u64) {
        self.now += ms;
        let before = self.entries.len();
        let now = self.now;
        self.entries.retain(|_, entry| now < entry.gone);
        self.stats.expired += (before - self.entries.len()) as u64;
    }

    fn lease(&self, key: &str) -> Option<&Lease> {
        self.leases.get(key).filter(|lease| self.now < lease.until)
    }

    fn end_lease(&mut self, key: &str) {
        self.leases.remove(key);
        for bell in self.waiting.remove(key).unwrap_or_default() {
            assert!(bell.rang(), "who waits for {key} is woken");
        }
    }

    fn may_put(&mut self, put: &Put<'_>) -> Result<(), Error> {
        let key = put.key.as_str();
        if let Some(token) = put.lease {
            let held = self.lease(key).filter(|lease| lease.token == token);
            let lease = held.ok_or(Error::LeaseLost)?;
            if put.tags.iter().any(|tag| lease.forgotten.contains(tag.as_str())) {
                self.end_lease(key);
                return Err(Error::LeaseLost);
            }
        }
        match (put.condition, self.entries.contains_key(key)) {
            (Condition::Absent, true) => Err(Error::KeyExists),
            (Condition::Present, false) => Err(Error::KeyMissing),
            _ => Ok(()),
        }
    }

    fn check_found(&mut self, key: &'static str, found: &Found) {
        let now = self.now;
        let entry = self.entries.get_mut(key).expect("what is found is there");
        assert_eq!(found.bytes(), entry.value);
        assert_eq!(found.content_type().as_str(), entry.content_type);
        assert_eq!(found.stale, entry.fresh <= now);
        let left = Duration::from_millis(entry.fresh.saturating_sub(now));
        assert_eq!(found.ttl(), (entry.fresh != u64::MAX).then_some(left));
        assert_eq!(found.age(), Duration::from_secs(now / 1000 - entry.stored / 1000));
        if let Some(version) = entry.version {
            assert_eq!(found.version, version, "the same value, the same version");
        } else {
            entry.version = Some(found.version);
            assert!(self.versions.insert((key, found.version)), "a version of another value");
        }
    }

    fn forget(&mut self, which: &dyn Fn(&str, &Entry) -> bool, dry_run: bool) -> u64 {
        let now = self.entries.len();
        let keys: Vec<&str> =
            self.entries.iter().filter(|(k, e)| which(k, e)).map(|(k, _)| *k).collect();
        if !dry_run {
            self.entries.retain(|k, _| !keys.contains(k));
            assert_eq!(self.entries.len() + keys.len(), now);
        }
        keys.len() as u64
    }

    fn end_leases(&mut self, of: &dyn Fn(&str) -> bool) {
        for key in KEYS {
            if of(key) && self.leases.contains_key(key) {
                self.end_lease(key);
            }
        }
    }
}

struct Run {
    rng: Rng,
    cache: Cache,
    space: Arc<Space>,
    model: Model,
    tokens: u64,
}

fn random_life(rng: &mut Rng) -> Life {
    let ms = |rng: &mut Rng| match rng.below(4) {
        0 => rng.below(5),
        1 => rng.below(60),
        2 => rng.below(3000),
        _ => rng.below(10_000_000),
    };
    if rng.one_in(4) {
        return Life::FOR_EVER;
    }
    let stale = if rng.one_in(2) { ms(rng) } else { 0 };
    super::life(1 + ms(rng), stale)
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut rng = Rng::from_seed(seed);
        let cache = cache([1, 1, 2, 32][rng.index(4)], rng.next_u64(), settings(1 << 20));
        let space = space(&cache, "a");
        Run { rng, cache, space, model: Model::default(), tokens: 0 }
    }

    fn key(&mut self) -> &'static str {
        KEYS[self.rng.index(KEYS.len())]
    }

    fn some<T: Copy>(&mut self, of: &[T], most: usize) -> Vec<T> {
        let count = self.rng.index(most + 1);
        let mut rest = of.to_vec();
        (0..count.min(of.len())).map(|_| rest.swap_remove(self.rng.index(rest.len()))).collect()
    }

    fn tags(&mut self, most: usize) -> Vec<Tag<'static>> {
        self.some(&TAGS, most).into_iter().map(|tag| Tag::parse(tag).unwrap()).collect()
    }

    fn step(&mut self) {
        match self.rng.below(20) {
            0..5 => self.put(),
            5..7 => self.read(),
            7..10 => self.ask(),
            10 => self.increment(),
            11 => self.touch(),
            12..15 => self.forget(),
            15 => self.sweep(),
            16 => self.look(),
            _ => {
                let most = [2, 20, 500, 5000, 20_000_000][self.rng.index(5)];
                let ms = self.rng.below(most);
                self.model.pass(ms);
            }
        }
    }

    fn put(&mut self) {
        let k = self.key();
        let value = if self.rng.one_in(4) {
            self.rng.below(100).to_string().into_bytes()
        } else {
            let length = self.rng.index(40);
            self.rng.bytes(length)
        };
        let lease = match (self.rng.below(3), self.model.leases.get(k)) {
            (0, _) => None,
            (1, None) => self.rng.one_in(4).then(|| token(self.rng.next_u64())),
            (_, lease) => lease.map(|lease| lease.token),
        };
        let tags = self.tags(3);
        let put = Put {
            key: key(k),
            value: &value,
            content_type: TYPES[self.rng.index(2)],
            life: random_life(&mut self.rng),
            tags: &tags,
            condition: [
                Condition::Always,
                Condition::Always,
                Condition::Absent,
                Condition::Present,
            ][self.rng.index(4)],
            lease,
        };
        let stored = self.space.put(at(self.model.now), &put);
        let expected = self.model.may_put(&put).map(|()| {
            let there = self.model.entries.contains_key(k);
            if there { Stored::Replaced } else { Stored::New }
        });
        assert_eq!(stored, expected, "{put:?}");
        if stored.is_ok() {
            self.model.end_lease(k);
            let tags = tags.iter().map(|tag| tag.as_str()).collect();
            self.model_put(k, &put, tags);
        }
    }

    fn model_put(&mut self, k: &'static str, put: &Put<'_>, tags: BTreeSet<&'static str>) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap();
        let fresh = put.life.ttl().map_or(u64::MAX, |ttl| self.model.now + ms(ttl));
        let entry = Entry {
            value: put.value.to_vec(),
            content_type: TYPES.iter().find(|t| **t == put.content_type).unwrap().as_str(),
            fresh,
            gone: fresh.saturating_add(ms(put.life.stale())),
            tags,
            stored: self.model.now,
            version: None,
        };
        self.model.entries.insert(k, entry);
        let found = self.space.peek(at(self.model.now), key(k)).expect("it was just put");
        self.model.check_found(k, &found);
    }

    fn read(&mut self) {
        let k = self.key();
        let counted = self.rng.one_in(2);
        let now = at(self.model.now);
        let found =
            if counted { self.space.get(now, key(k)) } else { self.space.peek(now, key(k)) };
        assert_eq!(found.is_some(), self.model.entries.contains_key(k), "{k}");
        if let Some(found) = &found {
            self.model.check_found(k, found);
        }
        if counted {
            self.count(found.as_ref());
        }
    }

    fn count(&mut self, found: Option<&Found>) {
        let stats = &mut self.model.stats;
        stats.hits += u64::from(found.is_some());
        stats.misses += u64::from(found.is_none());
        stats.stale_served += u64::from(found.is_some_and(|found| found.stale));
    }

    fn ask(&mut self) {
        let k = self.key();
        let waited = self.rng.one_in(3);
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let waker = self.rng.one_in(2).then_some(&waker);
        self.tokens += 1;
        let (fresh, lease) = (token(self.tokens), 1 + self.rng.below(100));
        let now = self.model.now;
        let asked =
            self.space.ask(at(now), key(k), Duration::from_millis(lease), fresh, waited, waker);
        let free = self.model.lease(k).is_none();
        let (leased, entry) = match asked {
            Asked::Hit(found, leased) => {
                self.model.check_found(k, &found);
                assert_eq!(
                    leased.is_some(),
                    found.stale && free,
                    "a lease for one who got it stale"
                );
                self.count(Some(&found));
                self.model.stats.coalesced += u64::from(waited);
                (leased, true)
            }
            Asked::Leased(leased) => {
                assert!(free, "one lease on a key");
                self.count(None);
                (Some(leased), false)
            }
            Asked::Busy { retry_after } => {
                let until = self.model.lease(k).expect("somebody has it").until;
                assert_eq!(retry_after, Duration::from_millis(until - now));
                if waker.is_some() {
                    self.model.waiting.entry(k).or_default().push(Arc::clone(&bell));
                }
                (None, false)
            }
        };
        assert_eq!(entry, self.model.entries.contains_key(k));
        if let Some(leased) = leased {
            assert_eq!(leased, fresh);
            self.model.stats.leases += 1;
            // Those who were woken when the last one ended have to ask again.
            if let Some(waiting) = self.model.waiting.get_mut(k) {
                waiting.retain(|bell| !bell.rang());
            }
            let lease = Lease { token: fresh, until: now + lease, forgotten: BTreeSet::new() };
            self.model.leases.insert(k, lease);
        }
    }

    fn increment(&mut self) {
        let k = self.key();
        let by = match self.rng.below(3) {
            0 => i64::try_from(self.rng.below(10)).unwrap(),
            1 => -i64::try_from(self.rng.below(10)).unwrap(),
            _ => i64::try_from(self.rng.below(1 << 54)).unwrap() - (1 << 53),
        };
        let life = random_life(&mut self.rng);
        let got = self.space.increment(at(self.model.now), key(k), by, life);
        let text = self.model.entries.get(k).map(|entry| entry.value.clone());
        let old = match text {
            None => Ok(0),
            Some(text) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                let number = text.parse::<i64>().ok().filter(|n| n.to_string() == text);
                number.ok_or(Error::NotAnInteger)
            }
        };
        let most = (1 << 53) - 1;
        let sum = old.and_then(|old| {
            let sum = old.checked_add(by).filter(|sum| (-most..=most).contains(sum));
            sum.ok_or(Error::Overflow)
        });
        assert_eq!(got, sum);
        let Ok(sum) = sum else { return };
        self.model.end_lease(k);
        let value = sum.to_string();
        if let Some(entry) = self.model.entries.get_mut(k) {
            (entry.value, entry.version) = (value.into_bytes(), None);
            entry.stored = self.model.now;
            let found = self.space.peek(at(self.model.now), key(k)).unwrap();
            self.model.check_found(k, &found);
        } else {
            let put =
                Put { content_type: ContentType::TEXT, life, ..super::plain(k, value.as_bytes()) };
            self.model_put(k, &put, BTreeSet::new());
        }
    }

    fn touch(&mut self) {
        let k = self.key();
        let (ttl, stale) =
            (1 + self.rng.below(100), self.rng.one_in(2).then(|| self.rng.below(50)));
        let there = self.space.touch(
            at(self.model.now),
            key(k),
            Duration::from_millis(ttl),
            stale.map(Duration::from_millis),
        );
        assert_eq!(there, self.model.entries.contains_key(k));
        let now = self.model.now;
        if let Some(entry) = self.model.entries.get_mut(k) {
            let window = stale.unwrap_or(entry.gone - entry.fresh);
            (entry.fresh, entry.gone) = (now + ttl, now + ttl + window);
        }
    }

    fn forget(&mut self) {
        let dry_run = self.rng.one_in(3);
        let now = at(self.model.now);
        match self.rng.below(8) {
            0 | 1 => {
                let mut texts = self.some(&KEYS, 3);
                texts.extend(texts.first().copied());
                let keys: Vec<Key<'_>> = texts.iter().map(|text| key(text)).collect();
                let count = self.space.forget(now, &Forget::Keys(&keys), dry_run);
                self.check(count, dry_run, &|k, _| texts.contains(&k), &|k| texts.contains(&k));
            }
            2..5 => {
                let tags = self.tags(3);
                let count = self.space.forget(now, &Forget::Tags(&tags), dry_run);
                let tagged = |_: &str, entry: &Entry| {
                    tags.iter().any(|tag| entry.tags.contains(tag.as_str()))
                };
                // With its entry the key is forgotten, and so is the lease on it.
                let of = |k: &&str| {
                    let entry = self.model.entries.get(*k);
                    entry.is_some_and(|entry| tagged(k, entry))
                };
                let keys: Vec<&str> = KEYS.into_iter().filter(of).collect();
                self.check(count, dry_run, &tagged, &|k| keys.contains(&k));
                if !dry_run {
                    for lease in self.model.leases.values_mut() {
                        lease.forgotten.extend(tags.iter().map(|tag| tag.as_str()));
                    }
                }
            }
            5 => {
                let prefix = PREFIXES[self.rng.index(PREFIXES.len())];
                let count = self.space.forget(now, &Forget::Prefix(prefix), dry_run);
                let of = |k: &str| k.starts_with(prefix);
                self.check(count, dry_run, &|k, _| of(k), &of);
            }
            6 => {
                let glob = Glob::parse(PATTERNS[self.rng.index(PATTERNS.len())]).unwrap();
                let count = self.space.forget(now, &Forget::Pattern(&glob), dry_run);
                let of = |k: &str| glob.matches(k);
                self.check(count, dry_run, &|k, _| of(k), &of);
            }
            _ => {
                let count = self.space.forget(now, &Forget::All, dry_run);
                self.check(count, dry_run, &|_, _| true, &|_| true);
            }
        }
    }

    fn check(
        &mut self,
        count: u64,
        dry_run: bool,
        which: &dyn Fn(&str, &Entry) -> bool,
        leases: &dyn Fn(&str) -> bool,
    ) {
        assert_eq!(count, self.model.forget(which, dry_run), "dry run: {dry_run}");
        if !dry_run {
            self.model.end_leases(leases);
        }
    }

    fn sweep(&mut self) {
        let now = at(self.model.now);
        if self.rng.one_in(3) {
            self.cache.sweep(now);
            return;
        }
        // The rest of a round that was begun, then a whole one.
        while self.cache.sweep(now) {}
        while self.cache.sweep(now) {}
        let ms = self.model.now;
        for k in KEYS {
            if self.model.leases.get(k).is_some_and(|lease| lease.until <= ms) {
                self.model.end_lease(k);
            }
        }
        let held = self.model.leases.len();
        assert_eq!(self.cache.leases(), held, "what ended is not out");
    }

    fn look(&mut self) {
        let now = at(self.model.now);
        let lease = KEYS.iter().any(|k| self.model.lease(k).is_some());
        let exists = lease || !self.model.entries.is_empty();
        assert_eq!(self.space.exists(now), exists);
        let stats = self.space.stats(now);
        let entries = self.model.entries.len() as u64;
        let expected = Stats { entries, bytes: stats.bytes, ..self.model.stats };
        assert_eq!(stats, expected);
        assert_eq!(stats.bytes, self.space.used(), "what is dead takes no room");
        assert_eq!(stats.bytes == 0, entries == 0);
        let mut seen = BTreeMap::new();
        let mut from = Some(0);
        while let Some(position) = from {
            let limit = 1 + self.rng.index(3);
            from = self.space.visit(now, position, limit, &mut |key, found, tags, window| {
                let tags: BTreeSet<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
                seen.insert(key.as_str().to_owned(), (found.bytes().to_vec(), tags, window));
            });
        }
        let ms = self.model.now;
        let all = self.model.entries.iter().map(|(k, entry)| {
            let tags = entry.tags.iter().map(|&tag| tag.to_owned()).collect();
            let window = Duration::from_millis(entry.gone - entry.fresh.max(ms));
            ((*k).to_owned(), (entry.value.clone(), tags, window))
        });
        assert_eq!(seen, all.collect(), "a visit shows everything");
    }

    fn check_all(&mut self) {
        self.space.verify();
        for (key, bells) in &self.model.waiting {
            let held = self.model.lease(key).is_some();
            let rang = bells.last().is_some_and(|bell| bell.rang());
            assert!(!held || !rang, "who waits last for {key} is not woken for nothing");
        }
    }
}

#[test]
fn the_cache_is_as_a_map_that_looks_at_everything() {
    for seed in seeds(amount("HOLDFAST_CACHE_HISTORIES", 10_000)) {
        let run = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..60 {
                run.step();
                run.check_all();
            }
            run.look();
        });
        assert!(run.is_ok(), "seed {seed}");
    }
}
