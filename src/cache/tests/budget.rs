//! Memory: what is held is counted, and never more than may be.

use std::time::Duration;

use super::{at, cache, key, life, name, plain, settings, space, tags, tenant, token};
use crate::base::rng::Rng;
use crate::cache::Error;
use crate::cache::entry::{Asked, Condition, Forget, Put, Stored, Tag, Version};
use crate::cache::space::{Cache, Settings};
use crate::testing::seeds;

fn verify(cache: &Cache, seed: u64) {
    let mut used = [0, 0];
    for space in cache.all_spaces() {
        space.verify();
        used[usize::from(space.kept())] += space.used();
    }
    for ((used, max), sum) in cache.usage().into_iter().zip(used) {
        assert_eq!(used, sum, "seed {seed}: the process is the sum of its namespaces");
        assert!(used <= max, "seed {seed}: {used} of {max}");
    }
}

#[test]
fn no_account_is_ever_above_its_maximum() {
    for seed in seeds(60) {
        let mut rng = Rng::from_seed(seed);
        let budget = 300 + rng.below(20_000);
        let caps = [(name("b"), 200 + rng.below(5000))].into();
        let cache = cache(4, seed, Settings { caps, ..settings(budget) });
        cache.space_or_new(tenant(1), &name("a"), Some(budget / 2 + 200)).unwrap();
        let all = tags(&["t", "u", "v"]);
        let mut stored = 0;
        for step in 0..300 {
            let whose = tenant(1 + rng.below(2));
            let which = name(["a", "b", "c"][rng.index(3)]);
            let space = cache.space_or_new(whose, &which, None).unwrap();
            let text = rng.below(60).to_string();
            let length = rng.index(400);
            let value = rng.bytes(length);
            let now = at(step * 2);
            let count = rng.index(4);
            let life = life(1 + rng.below(200), rng.below(2) * 50);
            let put = Put { life, tags: &all[..count], ..plain(&text, &value) };
            match rng.below(12) {
                0 => drop(space.increment(now, key(&text), 1, put.life)),
                1 => _ = space.touch(now, key(&text), Duration::from_secs(1), Some(life.stale())),
                2 => _ = space.forget(now, &Forget::Tags(&all[..count]), false),
                3 => _ = cache.sweep(now),
                _ => match space.put(now, &put) {
                    Ok(_) => stored += usize::from(space.peek(now, key(&text)).is_some()),
                    Err(Error::TooLarge { cost, limit }) => {
                        assert!(limit < cost, "seed {seed}");
                        assert_eq!((cost, limit), (space.cost(&put), space.bytes_max()));
                    }
                    Err(other) => panic!("seed {seed}: {other}"),
                },
            }
            verify(&cache, seed);
        }
        assert!(50 < stored, "seed {seed}: what is put is there, {stored}");
    }
}

#[test]
fn a_refused_put_evicts_nothing() {
    let cache = cache(1, 1, settings(1000));
    let space = space(&cache, "a");
    for i in 0..20 {
        space.put(at(0), &plain(&i.to_string(), b"value")).unwrap();
    }
    let before = space.stats(at(0));
    assert!(0 < before.evicted, "it is full");
    let large = [0; 700];
    let present = Put { condition: Condition::Present, ..plain("x", &large) };
    assert_eq!(space.put(at(0), &present), Err(Error::KeyMissing));
    let leased = Put { lease: Some(token(1)), ..plain("x", &large) };
    assert_eq!(space.put(at(0), &leased), Err(Error::LeaseLost));
    let huge = [0; 2000];
    let refused = space.put(at(0), &plain("x", &huge));
    assert!(matches!(refused, Err(Error::TooLarge { limit: 1000, .. })), "{refused:?}");
    assert_eq!(space.stats(at(0)), before);
    assert_eq!(space.put(at(0), &plain("x", &large)), Ok(Stored::New));
    assert!(before.evicted < space.stats(at(0)).evicted);
}

#[test]
fn who_holds_most_gives_way_and_a_small_one_keeps_its_own() {
    let cache = cache(4, 1, settings(100_000));
    let (large, small) = (space(&cache, "large"), space(&cache, "small"));
    for i in 0..50 {
        small.put(at(0), &plain(&format!("s{i}"), &[1; 50])).unwrap();
    }
    for i in 0..3000 {
        large.put(at(0), &plain(&format!("l{i}"), &[1; 50])).unwrap();
    }
    assert_eq!(small.stats(at(0)).entries, 50, "what is below its part is left alone");
    for i in 0..100 {
        small.put(at(0), &plain(&format!("t{i}"), &[1; 50])).unwrap();
    }
    assert_eq!((small.stats(at(0)).entries, small.stats(at(0)).evicted), (150, 0));
    verify(&cache, 0);
}

#[test]
fn what_is_too_much_after_a_change_goes_step_by_step() {
    let cache = cache(4, 1, settings(100_000));
    let space = space(&cache, "a");
    for i in 0..500 {
        space.put(at(0), &plain(&i.to_string(), &[1; 50])).unwrap();
    }
    cache.set_settings(settings(10_000));
    for _ in 0..1000 {
        if !cache.sweep(at(1)) {
            break;
        }
    }
    verify(&cache, 0);
    assert!(0 < space.stats(at(1)).entries, "but not everything");
    cache.set_settings(Settings { enabled: false, ..settings(10_000) });
    assert!(space.get(at(2), key("499")).is_none());
    assert_eq!(space.put(at(2), &plain("k", b"v")), Ok(Stored::New));
    let ask = || space.ask(at(2), key("k"), Duration::from_secs(1), token(1), false, None);
    assert!(matches!((ask(), ask()), (Asked::Leased(_), Asked::Leased(_))), "for everybody");
    while cache.sweep(at(2)) {}
    assert_eq!(cache.usage()[0].0, 0);
    cache.set_settings(settings(10_000));
    assert!(space.get(at(3), key("k")).is_none());
}

#[test]
fn kept_entries_never_give_way() {
    let cache = cache(2, 1, settings(2000));
    let kept = space(&cache, "kept");
    let value = [7; 300];
    let put = plain("a", &value);
    let keep = |text: &str, version| {
        let reserved = kept.reserve(kept.cost(&put))?;
        let version = Version(version);
        kept.keep(at(0), reserved, &Put { key: key(text), ..put }, version, Duration::ZERO);
        Ok::<(), Error>(())
    };
    for (version, text) in (1..).zip(["a", "b", "c", "d"]) {
        assert_eq!(keep(text, version), Ok(()));
    }
    let used = cache.usage()[1].0;
    assert_eq!(keep("e", 5), Err(Error::Full { limit: 2000, used }));
    assert_eq!(kept.get(at(0), key("b")).unwrap().version, Version(2));
    assert_eq!(kept.end_of(key("b"), Version(2)), Some(None));
    assert_eq!(kept.forget(at(0), &Forget::All, false), 4, "counted, and left");
    kept.drop_kept(key("b"), Version(1));
    assert!(kept.peek(at(0), key("b")).is_some(), "another version");
    kept.drop_kept(key("b"), Version(2));
    assert!(kept.peek(at(0), key("b")).is_none());
    assert_eq!(keep("e", 5), Ok(()));
    drop(kept.reserve(10));
    verify(&cache, 0);
    assert_ne!(kept.next_version(), kept.next_version());
}

#[test]
fn ordinary_entries_of_a_tenant_make_room_for_kept_ones() {
    let cache = cache(2, 1, settings(1 << 20));
    let ordinary = cache.space_or_new(tenant(1), &name("a"), Some(5000)).unwrap();
    let kept = cache.space_or_new(tenant(1), &name("kept"), Some(5000)).unwrap();
    for i in 0..100 {
        ordinary.put(at(0), &plain(&i.to_string(), b"value")).unwrap();
    }
    let reserved = kept.reserve(3000).unwrap();
    assert!(ordinary.used() <= 2000);
    assert!(matches!(kept.reserve(3000), Err(Error::Full { limit: 5000, .. })));
    assert!(matches!(kept.reserve(6000), Err(Error::TooLarge { limit: 5000, .. })));
    drop(reserved);
    verify(&cache, 0);
}

#[test]
fn more_tags_than_can_be_remembered_cost_older_leases_their_puts() {
    let cache = cache(1, 1, settings(1 << 20));
    let space = space(&cache, "a");
    let ask = |raw, text: &str| {
        space.ask(at(0), key(text), Duration::from_secs(9), token(raw), false, None)
    };
    for (raw, text) in (1..).zip(["a", "b", "c"]) {
        assert!(matches!(ask(raw, text), Asked::Leased(_)));
    }
    for i in 0..1030 {
        let text = format!("tag{i}");
        let tag = Tag::parse(&text).unwrap();
        assert_eq!(space.forget(at(0), &Forget::Tags(&[tag]), false), 0);
        space.verify();
    }
    let put = |raw, text, tags| {
        space.put(at(0), &Put { lease: Some(token(raw)), tags, ..plain(text, b"v") })
    };
    let other = tags(&["other"]);
    assert_eq!(put(1, "a", &other), Err(Error::LeaseLost), "nobody knows any more");
    assert_eq!(put(2, "b", &[]), Ok(Stored::New), "without tags nothing was forgotten");
    assert!(matches!(ask(4, "d"), Asked::Leased(_)));
    assert_eq!(put(4, "d", &other), Ok(Stored::New), "a younger lease holds");
    while space.exists(at(10_000)) && cache.sweep(at(10_000)) {}
    space.verify();
}

#[test]
fn a_version_never_comes_again_when_a_shard_was_gone() {
    let cache = cache(1, 1, settings(1 << 20));
    let space = space(&cache, "a");
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        for _ in 0..3 {
            space.put(at(0), &plain("k", b"v")).unwrap();
            assert!(seen.insert(space.peek(at(0), key("k")).unwrap().version));
        }
        assert_eq!(space.forget(at(0), &Forget::All, false), 1);
    }
}

#[test]
fn a_tenant_that_goes_leaves_nothing() {
    let cache = cache(4, 1, settings(1 << 20));
    let (mine, other) = (space(&cache, "a"), cache.space_or_new(tenant(2), &name("a"), None));
    mine.put(at(0), &plain("k", b"v")).unwrap();
    other.unwrap().put(at(0), &plain("k", b"v")).unwrap();
    cache.forget_tenant(tenant(1));
    assert!(cache.space(tenant(1), "a").is_none());
    assert_eq!(mine.put(at(0), &plain("k", b"v")), Ok(Stored::New), "let go at once");
    assert!(mine.get(at(0), key("k")).is_none());
    verify(&cache, 0);
    assert_eq!(cache.all_spaces().len(), 1);
    assert!(cache.spaces(at(0), tenant(1), None, 10).is_empty());
    assert_eq!(cache.spaces(at(0), tenant(2), None, 10).len(), 1);
}

#[test]
fn vacant_namespaces_give_way_to_new_ones() {
    let cache = cache(1, 1, settings(1 << 20));
    let make = |i: u64| cache.space_or_new(tenant(1), &name(&format!("n{i:04}")), None);
    for i in 0..1000 {
        make(i).unwrap().put(at(0), &plain("k", b"v")).unwrap();
    }
    let refused = make(1000).err().unwrap();
    assert_eq!(refused.code(), "quota_exceeded");
    make(3).unwrap().forget(at(0), &Forget::All, false);
    assert!(make(1000).is_ok());
    assert!(cache.space(tenant(1), "n0003").is_none());
    let names = cache.spaces(at(0), tenant(1), Some("n0997"), 10);
    let names: Vec<&str> = names.iter().map(|space| space.name().as_str()).collect();
    assert_eq!(names, ["n0998", "n0999"], "the new one holds nothing yet");
}
