//! The cache beside moka, `quick_cache` and a map under a lock: speed, hit ratio, memory.
//! `cargo bench --bench cache`, or parts of it: `-- speed`, `-- hits`, `-- memory`, `-- forget`, `-- fill`.
//!
//! One run measures in rounds, so that peers meet the same machine; what is printed are medians of the
//! rounds, and ratios of medians. Absolute figures are this machine's; the ratios carry over.
//! Every value is an allocation of its own, copied from the caller's bytes when it is put, and one byte of
//! it is read when it is served, by all of them alike.
//!
//! `HOLDFAST_BENCH_MILLISECONDS` (default 200) is the length of one measurement of speed,
//! `HOLDFAST_BENCH_ROUNDS` (default 5) how often each is made, `HOLDFAST_BENCH_CAPACITY` (default
//! 100,000) the largest cache whose hit ratio is measured. Hit ratios do not depend on the machine.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and starts threads")]
#![expect(clippy::print_stdout, reason = "figures are printed")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "support/figures.rs"]
mod figures;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use holdfast::base::id::TenantId;
use holdfast::base::name::Namespace;
use holdfast::base::rng::Rng;
use holdfast::base::time::Mono;
use holdfast::cache::entry::{Condition, ContentType, Forget, Key, Life, Put, Tag};
use holdfast::cache::space::{Cache, Settings, Space};
use holdfast::testing::amount;
use parking_lot::Mutex;

use figures::{Limit, median, target};

/// Every entry has one; none of them ends while it is measured.
const TTL: Duration = Duration::from_hours(1);
/// The seed of every hash.
const SEED: u64 = 7;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    match words[..] {
        ["child-memory", peer] => child_memory(peer),
        ["child-fill"] => child_fill(),
        [] => PARTS.iter().for_each(|(_, part)| part()),
        _ => {
            for word in words {
                let part = PARTS.iter().find(|(name, _)| *name == word);
                part.expect("the parts are: speed, hits, memory, forget, fill").1();
            }
        }
    }
}

type Part = (&'static str, fn());

const PARTS: [Part; 5] = [
    ("speed", speed),
    ("hits", hit_ratios),
    ("memory", memory),
    ("forget", forgetting),
    ("fill", fill),
];

fn rounds() -> usize {
    usize::try_from(amount("HOLDFAST_BENCH_ROUNDS", 5)).unwrap()
}

// --- ours and the peers -------------------------------------------------------------------------

/// A key of 16 bytes.
#[derive(Clone, Copy)]
struct Name([u8; 16]);

impl Name {
    fn of(n: u64) -> Name {
        let digit =
            |at: usize| b"0123456789abcdef"[usize::try_from(n >> (60 - 4 * at) & 15).unwrap()];
        Name(std::array::from_fn(digit))
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap()
    }
}

/// What is asked of every one of them. What it returns was read: whoever gets nothing counts a miss.
trait Peer: Sync {
    fn get(&self, key: &str) -> bool;
    fn put(&self, key: &str, value: &[u8]);
    /// Does what was put off.
    fn settle(&self) {}
}

/// Reads of a value what shows that it is there.
fn read(value: &[u8]) -> bool {
    std::hint::black_box(value.first()).is_some()
}

/// Ours, with a clock that is read once for each operation, as the server does.
struct Ours {
    cache: Cache,
    space: Arc<Space>,
    began: Instant,
    life: Life,
}

impl Ours {
    fn with_budget(budget: u64) -> Ours {
        let began = Instant::now();
        let settings = Settings { enabled: true, budget, kept_budget: 0, caps: BTreeMap::new() };
        let cache = Cache::new(SEED, Mono::from_ns(0), settings, BTreeSet::new());
        let name = Namespace::parse("bench").unwrap();
        let space = cache.space_or_new(TenantId::from_raw(1), &name, None).unwrap();
        let life = Life::new(Some(TTL), Duration::ZERO).unwrap();
        Ours { cache, space, began, life }
    }

    fn now(&self) -> Mono {
        let passed = self.began.elapsed();
        Mono::from_ns(passed.as_secs() * 1_000_000_000 + u64::from(passed.subsec_nanos()))
    }

    fn what<'p>(&self, key: &'p str, value: &'p [u8], tags: &'p [Tag<'p>]) -> Put<'p> {
        Put {
            key: Key::parse(key).unwrap(),
            value,
            content_type: ContentType::OCTETS,
            life: self.life,
            tags,
            condition: Condition::Always,
            lease: None,
        }
    }
}

impl Peer for Ours {
    fn get(&self, key: &str) -> bool {
        let found = self.space.get(self.now(), Key::parse(key).unwrap());
        found.is_some_and(|found| read(found.bytes()))
    }

    fn put(&self, key: &str, value: &[u8]) {
        self.space.put(self.now(), &self.what(key, value, &[])).unwrap();
    }

    fn settle(&self) {
        while self.cache.sweep(self.now()) {}
    }
}

type Moka = moka::sync::Cache<Box<str>, Arc<[u8]>, FixedState>;

fn new_moka(entries: u64) -> Moka {
    let builder = moka::sync::Cache::builder().max_capacity(entries).time_to_live(TTL);
    builder.build_with_hasher(FixedState::with_seed(SEED))
}

impl Peer for Moka {
    fn get(&self, key: &str) -> bool {
        Moka::get(self, key).is_some_and(|value| read(&value))
    }

    fn put(&self, key: &str, value: &[u8]) {
        self.insert(key.into(), value.into());
    }

    fn settle(&self) {
        self.run_pending_tasks();
    }
}

/// It has no time to live: a user keeps the end beside the value, and looks at it.
type Timed = (Arc<[u8]>, Instant);
type Quick = quick_cache::sync::Cache<Box<str>, Timed, quick_cache::UnitWeighter, FixedState>;

fn new_quick(entries: u64) -> Quick {
    Quick::with(
        usize::try_from(entries).unwrap(),
        entries,
        quick_cache::UnitWeighter,
        FixedState::with_seed(SEED),
        quick_cache::sync::DefaultLifecycle::default(),
    )
}

impl Peer for Quick {
    fn get(&self, key: &str) -> bool {
        let found = Quick::get(self, key).filter(|(_, end)| Instant::now() < *end);
        found.is_some_and(|(value, _)| read(&value))
    }

    fn put(&self, key: &str, value: &[u8]) {
        self.insert(key.into(), (value.into(), Instant::now() + TTL));
    }
}

type Map = Mutex<HashMap<Box<str>, Timed, FixedState>>;

impl Peer for Map {
    fn get(&self, key: &str) -> bool {
        let found = self.lock().get(key).filter(|(_, end)| Instant::now() < *end).cloned();
        found.is_some_and(|(value, _)| read(&value))
    }

    fn put(&self, key: &str, value: &[u8]) {
        let timed = (value.into(), Instant::now() + TTL);
        drop(self.lock().insert(key.into(), timed));
    }
}

fn new_map() -> Map {
    Mutex::new(HashMap::with_hasher(FixedState::with_seed(SEED)))
}

const PEERS: [&str; 4] = ["holdfast", "moka", "quick_cache", "Mutex<HashMap>"];

// --- speed --------------------------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq)]
enum Work {
    Hit,
    Miss,
    Put,
    Mixed,
}

const WORKS: [(&str, Work); 4] = [
    ("get-hit", Work::Hit),
    ("get-miss", Work::Miss),
    ("put", Work::Put),
    ("mixed 90/10", Work::Mixed),
];
/// Bytes of a value, and how many entries there are of it.
const SIZES: [(&str, usize, u64); 2] = [("100 B", 100, 100_000), ("10 KB", 10_240, 10_000)];
const THREADS: [u64; 2] = [1, 4];

/// Does the work on so many threads for the time of a measurement; operations a second, in millions.
fn run<P: Peer>(peer: &P, work: Work, threads: u64, entries: u64, value: &[u8]) -> f64 {
    let length = Duration::from_millis(amount("HOLDFAST_BENCH_MILLISECONDS", 200));
    // Misses ask for what was never put.
    let first = if work == Work::Miss { 1 << 40 } else { 0 };
    let one = |thread: u64| {
        let mut rng = Rng::from_seed(thread);
        let keys: Vec<Name> = (0..1 << 14).map(|_| Name::of(first + rng.below(entries))).collect();
        let (began, mut done, mut served) = (Instant::now(), 0_u64, 0_u64);
        while began.elapsed() < length {
            for key in &keys {
                done += 1;
                let puts = work == Work::Put || work == Work::Mixed && done.is_multiple_of(10);
                if puts {
                    peer.put(key.as_str(), value);
                } else {
                    served += u64::from(peer.get(key.as_str()));
                }
            }
        }
        assert!(work != Work::Miss || served == 0, "what was never put is not there");
        assert!(work != Work::Hit || done - done / 100 <= served, "what was put is there");
        done as f64 / began.elapsed().as_secs_f64() / 1e6
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

fn filled<P: Peer>(peer: P, entries: u64, value: &[u8]) -> P {
    (0..entries).for_each(|n| peer.put(Name::of(n).as_str(), value));
    peer.settle();
    peer
}

fn speed() {
    println!(
        "speed: millions of operations a second; 16-byte keys, a ttl each; medians of {} rounds\n",
        rounds()
    );
    let [ours, moka, quick, map] = PEERS;
    println!("{:<34} {ours:>10} {moka:>10} {quick:>12} {map:>15}", "");
    let mut verdicts = Vec::new();
    for (size, bytes, entries) in SIZES {
        let value = vec![0x5a; bytes];
        // All of them have room enough: nothing is evicted here.
        let ours = filled(Ours::with_budget(4 << 30), entries, &value);
        let moka = filled(new_moka(2 * entries), entries, &value);
        let quick = filled(new_quick(2 * entries), entries, &value);
        let map = filled(new_map(), entries, &value);
        for threads in THREADS {
            for (name, work) in WORKS {
                let mut rates: [Vec<f64>; 4] = Default::default();
                for _ in 0..rounds() {
                    rates[0].push(run(&ours, work, threads, entries, &value));
                    rates[1].push(run(&moka, work, threads, entries, &value));
                    rates[2].push(run(&quick, work, threads, entries, &value));
                    rates[3].push(run(&map, work, threads, entries, &value));
                }
                let [ours, moka, quick, map] = rates.map(median);
                let what = format!("{name}, {size}, {threads} threads");
                println!("{what:<34} {ours:>10.2} {moka:>10.2} {quick:>12.2} {map:>15.2}");
                if work == Work::Hit {
                    verdicts.push((format!("{what} / moka"), ours / moka, 2.0));
                    verdicts.push((format!("{what} / quick_cache"), ours / quick, 0.8));
                }
            }
        }
    }
    println!();
    for (name, ratio, least) in verdicts {
        target(&name, ratio, Limit::AtLeast(least));
    }
}

// --- hit ratios ---------------------------------------------------------------------------------

/// Keys by Zipf's law: the n-th most popular is asked for as often as `1 / n^exponent`.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(keys: u64, exponent: f64) -> Zipf {
        let mut sum = 0.0;
        let mut below = Vec::new();
        for n in 1..=keys {
            sum += (n as f64).powf(-exponent);
            below.push(sum);
        }
        for below in &mut below {
            *below /= sum;
        }
        Zipf(below)
    }

    fn draw(&self, rng: &mut Rng) -> u64 {
        let chance = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        self.0.partition_point(|below| *below < chance) as u64
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Trace {
    Zipf(f64),
    /// A third of all is asked for once and never again.
    Scan,
    /// All in turn, a tenth more than there is room for.
    Loop,
    /// What is popular changes after every 20 requests an entry.
    Shift,
}

const TRACES: [(&str, Trace); 5] = [
    ("Zipf 0.9", Trace::Zipf(0.9)),
    ("Zipf 1.1", Trace::Zipf(1.1)),
    ("Zipf 0.9 with a scan", Trace::Scan),
    ("loop of 110 %", Trace::Loop),
    ("Zipf 0.9 that shifts", Trace::Shift),
];

/// The keys of the requests to a cache with room for `capacity` of `keys`.
fn requests(trace: Trace, capacity: u64, keys: u64) -> Vec<u64> {
    let mut rng = Rng::from_seed(SEED);
    let count = (60 * capacity).clamp(400_000, 6_000_000);
    if trace == Trace::Loop {
        return (0..count).map(|n| n % (capacity * 11 / 10)).collect();
    }
    let zipf = Zipf::new(keys, if let Trace::Zipf(exponent) = trace { exponent } else { 0.9 });
    let mut next = |n: u64| {
        let key = zipf.draw(&mut rng);
        match trace {
            Trace::Scan if n % 3 == 2 => keys + n,
            Trace::Shift => (key + n / (20 * capacity) * (keys / 7 + 1)) % keys,
            Trace::Zipf(_) | Trace::Scan | Trace::Loop => key,
        }
    };
    (0..count).map(&mut next).collect()
}

/// The one that was not used for the longest time gives way.
struct Lru {
    capacity: usize,
    /// Where a key stands.
    places: HashMap<u64, usize, FixedState>,
    /// Key, the one used before it, the one used after it. The first stands for both ends.
    ring: Vec<(u64, usize, usize)>,
}

impl Lru {
    fn new(capacity: u64) -> Lru {
        let places = HashMap::with_hasher(FixedState::with_seed(SEED));
        Lru { capacity: usize::try_from(capacity).unwrap(), places, ring: vec![(0, 0, 0)] }
    }

    fn unlink(&mut self, at: usize) {
        let (_, before, after) = self.ring[at];
        self.ring[before].2 = after;
        self.ring[after].1 = before;
    }

    fn push(&mut self, key: u64, at: usize) {
        let last = self.ring[0].1;
        self.ring[at] = (key, last, 0);
        self.ring[last].2 = at;
        self.ring[0].1 = at;
    }

    fn access(&mut self, key: u64) -> bool {
        if let Some(&at) = self.places.get(&key) {
            self.unlink(at);
            self.push(key, at);
            return true;
        }
        let at = if self.ring.len() <= self.capacity {
            self.ring.push((0, 0, 0));
            self.ring.len() - 1
        } else {
            let oldest = self.ring[0].2;
            self.unlink(oldest);
            self.places.remove(&self.ring[oldest].0);
            oldest
        };
        self.push(key, at);
        self.places.insert(key, at);
        false
    }
}

/// What is put where only the keys matter.
const VALUE: &[u8] = b"value";

/// Hits in per cent when a miss is followed by a put.
fn ratio_of<P: Peer>(peer: &P, requests: &[u64]) -> f64 {
    let mut hits = 0_u64;
    for (n, key) in requests.iter().enumerate() {
        let name = Name::of(*key);
        if peer.get(name.as_str()) {
            hits += 1;
        } else {
            peer.put(name.as_str(), VALUE);
        }
        // Peers that put off their evictions shall not have more room than the others.
        if n % 16 == 0 {
            peer.settle();
        }
    }
    100.0 * hits as f64 / requests.len() as f64
}

/// Ours counts bytes: the budget that holds as many entries as the others may have.
fn budget_for(capacity: u64) -> u64 {
    let mut budget = capacity * 128;
    for _ in 0..4 {
        let ours = Ours::with_budget(budget);
        (0..3 * capacity).for_each(|n| ours.put(Name::of(n).as_str(), VALUE));
        budget = budget * capacity / ours.space.stats(ours.now()).entries.max(1);
    }
    budget
}

/// Sweeps nothing: it has nothing to put off.
struct Unswept(Ours);

impl Peer for Unswept {
    fn get(&self, key: &str) -> bool {
        self.0.get(key)
    }

    fn put(&self, key: &str, value: &[u8]) {
        self.0.put(key, value);
    }
}

fn hit_ratios() {
    println!("\nhit ratios in per cent; a miss is followed by a put\n");
    println!(
        "{:<40} {:>8} {:>8} {:>8} {:>12} {:>9}",
        "", "holdfast", "LRU", "moka", "quick_cache", "entries"
    );
    let (mut beside_moka, mut scans) = (f64::MAX, f64::MAX);
    let most = amount("HOLDFAST_BENCH_CAPACITY", 100_000);
    for capacity in [1_000, 10_000, 100_000].into_iter().filter(|capacity| *capacity <= most) {
        let budget = budget_for(capacity);
        for (share, keys) in [("1 %", 100 * capacity), ("10 %", 10 * capacity)] {
            for (name, trace) in TRACES {
                if trace == Trace::Loop && share == "10 %" {
                    continue;
                }
                let requests = requests(trace, capacity, keys);
                let ours = Unswept(Ours::with_budget(budget));
                let ratio = ratio_of(&ours, &requests);
                let entries = ours.0.space.stats(ours.0.now()).entries;
                let mut lru = Lru::new(capacity);
                let hits = requests.iter().filter(|key| lru.access(**key)).count();
                let lru = 100.0 * hits as f64 / requests.len() as f64;
                let moka = ratio_of(&new_moka(capacity), &requests);
                let quick = ratio_of(&new_quick(capacity), &requests);
                let what = format!("{name}, {capacity} = {share}");
                println!(
                    "{what:<40} {ratio:>8.2} {lru:>8.2} {moka:>8.2} {quick:>12.2} {entries:>9}"
                );
                beside_moka = beside_moka.min(ratio - moka);
                if trace == Trace::Scan {
                    scans = scans.min(ratio - lru);
                }
            }
        }
    }
    println!();
    target("points over LRU on Zipf with a scan, least", scans, Limit::AtLeast(5.0));
    target("points over moka on any trace, least", beside_moka, Limit::AtLeast(-1.0));
}

// --- memory -------------------------------------------------------------------------------------

const SMALL_ENTRIES: u64 = 1_000_000;
const SMALL_BYTES: usize = 100;

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size() as u64
}

/// Fills one of them and prints what an entry takes.
fn child_memory(peer: &str) {
    let before = resident();
    // What is filled is not dropped before it was measured.
    let after = match peer {
        "holdfast" => resident_with(&Ours::with_budget(4 << 30)),
        "moka" => resident_with(&new_moka(2 * SMALL_ENTRIES)),
        "quick_cache" => resident_with(&new_quick(2 * SMALL_ENTRIES)),
        _ => resident_with(&new_map()),
    };
    println!("{}", (after - before) as f64 / SMALL_ENTRIES as f64);
}

fn resident_with<P: Peer>(peer: &P) -> u64 {
    for n in 0..SMALL_ENTRIES {
        peer.put(Name::of(n).as_str(), &[0x5a; SMALL_BYTES]);
    }
    peer.settle();
    resident()
}

/// What a process of this benchmark printed that was told `arguments`.
fn child(arguments: &[&str]) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    // As the server has it.
    child.envs(holdfast::cli::memory::SETTINGS);
    let output = child.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn memory() {
    let payload = (16 + SMALL_BYTES) as f64;
    println!(
        "\nmemory: {SMALL_ENTRIES} entries of 16 and {SMALL_BYTES} bytes with a ttl; resident bytes an \
         entry over key and value\n"
    );
    let mut ours = 0.0;
    for peer in PEERS {
        let once = || child(&["child-memory", peer]).trim().parse::<f64>().unwrap() - payload;
        let over = median((0..3).map(|_| once()).collect());
        println!("{peer:<50} {over:>8.1}");
        if peer == PEERS[0] {
            ours = over;
        }
    }
    println!();
    target("bytes over key and value", ours, Limit::AtMost(100.0));
}

// --- forgetting ---------------------------------------------------------------------------------

fn forgetting() {
    println!("\nforgetting a tag with {SMALL_ENTRIES} members");
    let ours = Ours::with_budget(4 << 30);
    let tag = [Tag::parse("all-of-them").unwrap()];
    let once = |_| {
        for n in 0..SMALL_ENTRIES {
            let name = Name::of(n);
            ours.space.put(ours.now(), &ours.what(name.as_str(), &[0x5a; 16], &tag)).unwrap();
        }
        let now = ours.now();
        let began = Instant::now();
        let forgotten = ours.space.forget(now, &Forget::Tags(&tag), false);
        let took = began.elapsed();
        assert_eq!(forgotten, SMALL_ENTRIES);
        ours.settle();
        took.as_secs_f64() * 1e6
    };
    let times: Vec<f64> = (0..rounds()).map(once).collect();
    let longest = times.iter().copied().fold(0.0, f64::max);
    target("median, us", median(times), Limit::AtMost(10.0));
    println!("{:<50} {longest:>8.2}", "longest, us");
}

// --- a fill -------------------------------------------------------------------------------------

const BUDGET: u64 = 256 << 20;
const FILLERS: u64 = 4;
const LARGEST: usize = 1 << 20;

/// Puts ten times the budget, and prints the most memory that was taken over what an idle process has.
fn child_fill() {
    let ours = Ours::with_budget(BUDGET);
    let bytes = vec![0x5a; LARGEST];
    let idle = resident();
    let (put, most, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let samples = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                most.fetch_max(resident().saturating_sub(idle), Relaxed);
                samples.fetch_add(1, Relaxed);
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        // As the server's worker does.
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                ours.cache.sweep(ours.now());
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let fillers: Vec<_> = (0..FILLERS)
            .map(|thread| {
                let (ours, bytes, put) = (&ours, &bytes, &put);
                scope.spawn(move || filler(ours, bytes, put, thread))
            })
            .collect();
        for filler in fillers {
            filler.join().unwrap();
        }
        stop.store(true, Relaxed);
    });
    let entries = ours.space.stats(ours.now()).entries;
    println!("{} {} {entries}", most.load(Relaxed), samples.load(Relaxed));
}

/// New keys of every size, one in five put over an old one, one in ten deleted.
fn filler(ours: &Ours, bytes: &[u8], put: &AtomicU64, thread: u64) {
    let mut rng = Rng::from_seed(thread);
    let mut fresh = thread << 40;
    while put.load(Relaxed) < 10 * BUDGET {
        let old = (thread << 40) + rng.below((fresh & 0xff_ffff_ffff) + 1);
        match rng.below(10) {
            0 => {
                let name = Name::of(old);
                let keys = [Key::parse(name.as_str()).unwrap()];
                ours.space.forget(ours.now(), &Forget::Keys(&keys), false);
            }
            kind => {
                fresh += u64::from(2 < kind);
                let name = Name::of(if 2 < kind { fresh } else { old });
                // From 16 bytes to 1 MiB, each power of two as often as the next.
                let low = 16_usize << rng.below(16);
                let size = (low + rng.index(low)).min(bytes.len());
                let what = ours.what(name.as_str(), &bytes[..size], &[]);
                ours.space.put(ours.now(), &what).unwrap();
                put.fetch_add(size as u64, Relaxed);
            }
        }
    }
}

fn fill() {
    println!(
        "\na fill with ten times a budget of {} MB, 16 B to 1 MiB, {FILLERS} threads, overwrites and deletes",
        BUDGET >> 20
    );
    let mut ratios = Vec::new();
    for _ in 0..rounds() {
        let figures = child(&["child-fill"]);
        let figures: Vec<f64> = figures.split_whitespace().map(|n| n.parse().unwrap()).collect();
        let ratio = figures[0] / BUDGET as f64;
        println!("  {ratio:.3} of the budget; {} samples, {} entries", figures[1], figures[2]);
        ratios.push(ratio);
    }
    let worst = ratios.into_iter().fold(0.0, f64::max);
    target("resident over idle / budget, most of all", worst, Limit::AtMost(1.2));
}
