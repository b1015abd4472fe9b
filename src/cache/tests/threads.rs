//! Many at once: leases in every order of threads, and real threads without any order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use foldhash::fast::FixedState;

use super::{at, cache, key, plain, settings, space, tags, token};
use crate::base::limits::CACHE_STEP_ENTRIES;
use crate::base::rng::Rng;
use crate::cache::entry::{Asked, Forget, Put, Tag};
use crate::cache::lease::{Permits, Wish};
use crate::cache::shard::{Asker, Common, Ends, Entry, Hashed, Shard};
use crate::cache::slot::{self, NEVER};

/// A shard under a lock of shuttle, and the counter of forgets beside it, as in a namespace.
struct Small {
    shard: shuttle::sync::Mutex<Shard>,
    forgets: shuttle::sync::atomic::AtomicU64,
}

const AT: fn() -> Hashed<'static> = || Hashed { key: key("k"), hash: 7 };

impl Small {
    fn new() -> Arc<Small> {
        let permits = Arc::new(Permits::new(10));
        let hasher = FixedState::with_seed(1);
        let common = Common { hasher, salt: 1, kept: false, permits };
        let shard = shuttle::sync::Mutex::new(Shard::new(common, 0, 0));
        Arc::new(Small { shard, forgets: shuttle::sync::atomic::AtomicU64::new(0) })
    }

    /// Runs `op` under the lock, then wakes with the lock open.
    fn with<R>(&self, op: impl FnOnce(&mut Shard) -> R) -> R {
        let mut shard = self.shard.lock().unwrap();
        let out = op(&mut shard);
        let (woken, _) = shard.leftovers();
        drop(shard);
        woken.into_iter().for_each(Waker::wake);
        out
    }

    fn ask(&self, raw: u64, waker: Option<&Waker>) -> Asked {
        self.with(|shard| {
            let born = self.forgets.load(SeqCst);
            let wish = Wish { token: token(raw), born, until: 1000 };
            shard.ask(1, AT(), &Asker { wish, waited: false, waker })
        })
    }

    fn put(&self, raw: u64, value: u8, tags: &[Tag<'_>]) -> bool {
        let put = Put { lease: Some(token(raw)), tags, ..plain("k", &[]) };
        let ends = Ends { fresh: NEVER, gone: NEVER };
        let entry = Entry { at: AT(), type_bytes: 0, ends, tags, version: None, stored_s: 0 };
        let block = slot::block(key("k"), b"", &[value]);
        self.with(|shard| {
            shard.check(1, AT(), &put).is_ok()
                && shard.store(1, &entry, block, &mut |_| true).is_some()
        })
    }

    fn value(&self) -> Option<u8> {
        self.with(|shard| shard.peek(1, AT()).map(|found| found.bytes()[0]))
    }

    fn forget_tag(&self, tag: Tag<'_>) {
        let number = self.forgets.fetch_add(1, SeqCst) + 1;
        self.with(|shard| {
            assert!(shard.tidy_for_count(1, &mut { CACHE_STEP_ENTRIES }));
            shard.forget_tag(tag, number);
        });
    }

    fn forget_key(&self) {
        self.forgets.fetch_add(1, SeqCst);
        self.with(|shard| {
            shard.end_lease(AT());
            shard.forget_key(1, AT(), true);
        });
    }
}

/// A waker that a thread of shuttle waits on.
#[derive(Default)]
struct Bell {
    rang: shuttle::sync::Mutex<bool>,
    heard: shuttle::sync::Condvar,
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        *self.rang.lock().unwrap() = true;
        self.heard.notify_all();
    }
}

impl Bell {
    fn wait(&self) {
        let mut rang = self.rang.lock().unwrap();
        while !*rang {
            rang = self.heard.wait(rang).unwrap();
        }
        *rang = false;
    }
}

#[test]
fn a_value_from_before_a_forget_never_lands_after_it() {
    let checked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&checked);
    shuttle::check_random(
        move || {
            let small = Small::new();
            // The source of the value: changed, then forgotten by key or tag.
            let source = Arc::new(shuttle::sync::atomic::AtomicU8::new(1));
            let by_tag = shuttle::rand::Rng::r#gen::<bool>(&mut shuttle::rand::thread_rng());
            let loaders = (1..3).map(|raw| {
                let (small, source) = (Arc::clone(&small), Arc::clone(&source));
                shuttle::thread::spawn(move || {
                    if let Asked::Leased(_) = small.ask(raw, None) {
                        let value = source.load(SeqCst);
                        shuttle::thread::yield_now();
                        small.put(raw, value, &tags(&["t"]));
                    }
                })
            });
            let loaders: Vec<_> = loaders.collect();
            source.store(2, SeqCst);
            if by_tag {
                small.forget_tag(tags(&["t"])[0]);
            } else {
                small.forget_key();
            }
            assert_ne!(small.value(), Some(1), "right after the forget");
            for loader in loaders {
                loader.join().unwrap();
            }
            assert_ne!(small.value(), Some(1), "and later");
            count.fetch_add(1, SeqCst);
        },
        3000,
    );
    assert_eq!(checked.load(SeqCst), 3000);
}

#[test]
fn one_computes_and_everybody_who_waits_is_woken() {
    let checked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&checked);
    shuttle::check_random(
        move || {
            let small = Small::new();
            let loads = Arc::new(AtomicUsize::new(0));
            let askers = (1..4).map(|raw| {
                let (small, loads) = (Arc::clone(&small), Arc::clone(&loads));
                shuttle::thread::spawn(move || {
                    let bell = Arc::new(Bell::default());
                    let waker = Waker::from(Arc::clone(&bell));
                    loop {
                        match small.ask(raw, Some(&waker)) {
                            Asked::Hit(found, _) => return assert_eq!(found.bytes(), [9]),
                            Asked::Busy { .. } => bell.wait(),
                            Asked::Leased(_) => {
                                loads.fetch_add(1, SeqCst);
                                assert!(small.put(raw, 9, &[]), "nobody took the lease");
                            }
                        }
                    }
                })
            });
            // A lost wake-up is a deadlock, which shuttle reports.
            for asker in askers.collect::<Vec<_>>() {
                asker.join().unwrap();
            }
            assert_eq!(loads.load(SeqCst), 1);
            count.fetch_add(1, SeqCst);
        },
        3000,
    );
    assert_eq!(checked.load(SeqCst), 3000);
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test is about threads")]
fn two_hundred_askers_of_a_cold_key_cost_one_computation() {
    for round in 0..10 {
        let cache = cache(32, round, settings(1 << 20));
        let space = space(&cache, "a");
        let (loads, served) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for raw in 0..200 {
                let (space, loads, served) = (&space, &loads, &served);
                scope.spawn(move || {
                    let waker = Waker::from(Arc::new(Unpark(thread::current())));
                    let mut waited = false;
                    loop {
                        let lease = Duration::from_mins(10);
                        match space.ask(at(1), key("k"), lease, token(raw), waited, Some(&waker)) {
                            Asked::Hit(found, _) => {
                                assert_eq!(found.bytes(), b"value");
                                served.fetch_add(1, SeqCst);
                                return;
                            }
                            Asked::Busy { .. } => thread::park(),
                            Asked::Leased(lease) => {
                                loads.fetch_add(1, SeqCst);
                                thread::yield_now();
                                let put = Put { lease: Some(lease), ..plain("k", b"value") };
                                space.put(at(1), &put).unwrap();
                            }
                        }
                        waited = true;
                    }
                });
            }
        });
        assert_eq!((loads.load(SeqCst), served.load(SeqCst)), (1, 200), "round {round}");
    }
}

fn value_of(text: &str, rng: &mut Rng) -> Vec<u8> {
    let mut value = text.as_bytes().to_vec();
    value.resize(8 + rng.index(300), text.as_bytes()[0]);
    value
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test is about threads")]
fn writers_forgetters_and_readers_at_once_see_whole_values_of_their_keys() {
    let cache = cache(4, 3, settings(60_000));
    let spaces = [space(&cache, "a"), space(&cache, "b")];
    let (clock, read) = (AtomicU64::new(1), AtomicUsize::new(0));
    let writing = AtomicBool::new(true);
    let (cache, spaces, clock, read, writing) = (&cache, &spaces, &clock, &read, &writing);
    thread::scope(|scope| {
        scope.spawn(move || {
            while writing.load(SeqCst) {
                let now = clock.fetch_add(1, SeqCst);
                cache.sweep(at(now));
                for (used, max) in cache.usage() {
                    assert!(used <= max);
                }
                thread::yield_now();
            }
        });
        let workers: Vec<_> = (0..4)
            .map(|seed| {
                scope.spawn(move || {
                    let mut rng = Rng::from_seed(seed);
                    let all = tags(&["t", "u", "v"]);
                    for _ in 0..15_000 {
                        let space = &spaces[rng.index(2)];
                        let text = format!("{:03}", rng.below(300));
                        let now = at(clock.load(SeqCst));
                        match rng.below(40) {
                            0 => _ = space.forget(now, &Forget::Tags(&all[..=rng.index(3)]), false),
                            1 => _ = space.forget(now, &Forget::Prefix(&text[..2]), false),
                            2 => _ = space.forget(now, &Forget::Keys(&[key(&text)]), false),
                            3 => drop(space.exists(now) && 0 < space.stats(now).bytes),
                            4..20 => {
                                let count = rng.index(4);
                                let life = super::life(1 + rng.below(100), rng.below(20));
                                let value = value_of(&text, &mut rng);
                                let put = Put { life, tags: &all[..count], ..plain(&text, &value) };
                                space.put(now, &put).unwrap();
                            }
                            _ => {
                                if let Some(found) = space.get(now, key(&text)) {
                                    assert!(found.bytes().starts_with(text.as_bytes()));
                                    let rest = &found.bytes()[3..];
                                    assert!(rest.iter().all(|b| *b == text.as_bytes()[0]));
                                    read.fetch_add(1, SeqCst);
                                }
                            }
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        writing.store(false, SeqCst);
    });
    assert!(1000 < read.load(SeqCst), "values were read");
    for space in spaces {
        space.verify();
    }
    let end = at(clock.load(SeqCst) + 1_000_000);
    while cache.sweep(end) {}
    while cache.sweep(end) {}
    assert_eq!(cache.usage()[0].0, 0, "everything was given back");
}
