//! Power cuts while kept entries and locks are written: every image opens as the old state or the new one,
//! nothing in it is damaged, and the next fence is above every one that was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holdfast::base::id::TenantId;
use holdfast::base::name::{LockName, Namespace};
use holdfast::base::rng::Rng;
use holdfast::base::time::{Clock, Mono, Now};
use holdfast::cache::entry::{Condition, ContentType, Key, Life, Put};
use holdfast::cache::kept::{self, Judge, Loading, Pending, What};
use holdfast::cache::locks::{self, Locks, Owner, Ttl, Which};
use holdfast::cache::space::{Cache, Settings};
use holdfast::store::redb::Redb;
use holdfast::store::{Opening, Write};
use holdfast::testing::batches::{Fate, Operation, batch};
use holdfast::testing::clock::ManualClock;
use holdfast::testing::disk::{CrashImage, SimDisk, crash_images};
use holdfast::testing::{Content, amount, content};

const TENANT: TenantId = TenantId::from_raw(3);
const STEPS: usize = 24;
const HISTORIES: u64 = 2;

fn open(disk: &Arc<SimDisk>) -> Result<Redb, String> {
    let disk = Arc::<SimDisk>::clone(disk);
    Redb::on_disk(disk, 4 << 20, Opening::Start).map_err(|error| format!("UNOPENABLE: {error}"))
}

fn cache(seed: u64) -> Cache {
    let settings =
        Settings { enabled: true, budget: 8 << 20, kept_budget: 8 << 20, caps: BTreeMap::new() };
    let kept = BTreeSet::from([Namespace::parse("sess").unwrap()]);
    Cache::new(seed, Mono::from_ns(0), settings, kept)
}

/// What stood there after each step, and the largest fence that was told until then.
struct History {
    start: Vec<u8>,
    disk: Arc<SimDisk>,
    states: Vec<(Content, u64)>,
    now: Now,
}

fn history(seed: u64) -> History {
    let mut rng = Rng::from_seed(seed);
    let new = Arc::new(SimDisk::default());
    drop(open(&new).unwrap());
    let start = new.after_power_cut();
    let disk = Arc::new(SimDisk::holding(start.clone()));
    let engine = open(&disk).unwrap();
    let clock = ManualClock::default();
    clock.advance(Duration::from_secs(1));
    let (now, cache, pending, locks) =
        (clock.now(), cache(seed), Pending::default(), Locks::default());
    let space = cache.space_or_new(TENANT, &Namespace::parse("sess").unwrap(), None).unwrap();
    let judge = Judge { space: &space, pending: &pending, now };
    let (mut states, mut fence) = (vec![(Content::new(), 0)], 0);
    for step in 1..=STEPS {
        let key = ["a", "b", "c"][rng.index(3)];
        let length = [3, 9_000, 70_000][rng.index(3)];
        let value = rng.bytes(length);
        let (mut what, version) = (rng.below(4), space.next_version());
        let name = LockName::parse(["x", "y"][rng.index(2)]).unwrap();
        let which = Which { tenant: TENANT, name };
        if step == 1 {
            what = 0;
        }
        let operation: Operation<'_> = Box::new(|tx: &mut dyn Write| {
            match what {
                0 | 1 => {
                    let put = Put {
                        key: Key::parse(key).unwrap(),
                        value: &value,
                        content_type: ContentType::OCTETS,
                        life: Life::FOR_EVER,
                        tags: &[],
                        condition: Condition::Always,
                        lease: None,
                    };
                    kept::put(tx, &judge, &put, version).unwrap();
                }
                2 => {
                    let all = What::Keys(vec![key.to_owned()]);
                    kept::forget_step(tx, &judge, &all, None).unwrap();
                }
                _ => {
                    let owner = Owner::parse("me").unwrap();
                    let ttl = Ttl::new(Duration::from_hours(1)).unwrap();
                    let taken = locks::take(tx, &locks, now, &which, (&owner, ttl)).unwrap();
                    locks.apply(&which, &taken.held);
                    fence = fence.max(taken.held.fence);
                }
            }
            true
        });
        batch(&engine, Fate::Stored, vec![operation]);
        disk.acknowledged(step);
        states.push((content(&engine).unwrap(), fence));
    }
    drop(engine);
    History { start, disk, states, now }
}

fn check(image: CrashImage, history: &History) -> Result<(), String> {
    let CrashImage { bytes, acknowledged, how } = image;
    let context = |error: &str| format!("{error} ({how}, {acknowledged} acknowledged)");
    let engine = open(&Arc::new(SimDisk::holding(bytes)))?;
    let found = content(&engine).map_err(|error| context(&error.to_string()))?;
    let next = (acknowledged + 1).min(STEPS);
    if !(acknowledged..=next).any(|step| history.states[step].0 == found) {
        return Err(context("LOST or MIXED: neither the old state nor the new one"));
    }
    let (cache, pending, locks) = (cache(99), Pending::default(), Locks::default());
    let loading = Loading {
        cache: &cache,
        pending: &pending,
        now: history.now,
        opening: Opening::Start,
        tenant_max: &|_| Some(None),
    };
    let loaded = kept::load(&engine, &loading).map_err(|error| context(&error.to_string()))?;
    let (_, damaged) = locks::load(&engine, &locks, history.now, Opening::Start).unwrap();
    if (loaded.damaged, loaded.no_room, damaged) != (0, 0, 0) {
        return Err(context("DAMAGED"));
    }
    let mut fence = 0;
    let which = Which { tenant: TENANT, name: LockName::parse("new").unwrap() };
    let operation: Operation<'_> = Box::new(|tx: &mut dyn Write| {
        let owner = Owner::parse("you").unwrap();
        let ttl = Ttl::new(Duration::from_secs(1)).unwrap();
        fence = locks::take(tx, &locks, history.now, &which, (&owner, ttl)).unwrap().held.fence;
        true
    });
    batch(&engine, Fate::Stored, vec![operation]);
    let told = history.states[acknowledged].1;
    if fence <= told { Err(context(&format!("the fence {fence} after {told}"))) } else { Ok(()) }
}

#[test]
fn a_power_cut_leaves_entries_and_locks_whole_and_fences_growing() {
    let mut images = 0;
    for seed in 0..amount("HOLDFAST_HISTORIES", HISTORIES) {
        let history = history(seed);
        let mut rng = Rng::from_seed(seed ^ 0x6b65);
        let mut failure = None;
        crash_images(&history.start, &history.disk.trace(), &mut rng, &mut |image| {
            images += 1;
            if let Err(error) = check(image, &history) {
                failure.get_or_insert(format!("seed={seed}: {error}"));
            }
        });
        assert_eq!(failure, None);
    }
    assert!(300 < images, "{images}");
}
