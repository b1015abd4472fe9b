//! The cache against a naive map, and what holds when many use it at once.

mod budget;
mod model;
mod threads;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::entry::{Condition, ContentType, Key, LeaseToken, Life, Put, Stored, Tag};
use super::space::{Cache, Settings, Space};
use crate::base::id::TenantId;
use crate::base::name::Namespace;
use crate::base::time::Mono;

const BASE: Mono = Mono::from_ns(77_123_456);

fn at(ms: u64) -> Mono {
    BASE.plus(Duration::from_millis(ms))
}

fn settings(budget: u64) -> Settings {
    Settings { enabled: true, budget, kept_budget: budget, caps: BTreeMap::new() }
}

fn name(text: &str) -> Namespace {
    Namespace::parse(text).unwrap()
}

fn tenant(raw: u64) -> TenantId {
    TenantId::from_raw(raw)
}

/// A cache in which `kept` is kept, and everything else is not.
fn cache(shards: usize, seed: u64, settings: Settings) -> Cache {
    Cache::with_shards(shards, seed, BASE, (settings, BTreeSet::from([name("kept")])))
}

fn space(cache: &Cache, text: &str) -> Arc<Space> {
    cache.space_or_new(tenant(1), &name(text), None).unwrap()
}

fn key(text: &str) -> Key<'_> {
    Key::parse(text).unwrap()
}

fn tags(texts: &[&'static str]) -> Vec<Tag<'static>> {
    texts.iter().map(|text| Tag::parse(text).unwrap()).collect()
}

fn life(ttl: u64, stale: u64) -> Life {
    Life::new(Some(Duration::from_millis(ttl)), Duration::from_millis(stale)).unwrap()
}

fn plain<'p>(text: &'p str, value: &'p [u8]) -> Put<'p> {
    Put {
        key: key(text),
        value,
        content_type: ContentType::OCTETS,
        life: Life::FOR_EVER,
        tags: &[],
        condition: Condition::Always,
        lease: None,
    }
}

fn token(raw: u64) -> LeaseToken {
    LeaseToken::from_raw(raw)
}

#[test]
fn a_value_is_served_as_it_was_put() {
    let cache = cache(32, 1, settings(1 << 20));
    let space = space(&cache, "a");
    let text = ContentType::parse("text/html").unwrap();
    let put = Put { content_type: text, life: life(1000, 500), ..plain("k", b"<p>") };
    assert_eq!(space.put(at(0), &put), Ok(Stored::New));
    assert_eq!(space.put(at(0), &put), Ok(Stored::Replaced));
    let found = space.get(at(400), key("k")).unwrap();
    assert_eq!((found.bytes(), found.content_type().as_str()), (&b"<p>"[..], "text/html"));
    assert_eq!((found.ttl(), found.stale), (Some(Duration::from_millis(600)), false));
    let found = space.get(at(1400), key("k")).unwrap();
    assert_eq!((found.ttl(), found.stale), (Some(Duration::ZERO), true));
    assert_eq!(found.age(), Duration::from_secs(1));
    assert!(space.get(at(1500), key("k")).is_none());
    assert!(space.exists(at(1499)) && !space.exists(at(1500)));
}

#[test]
fn nothing_is_served_a_fraction_of_a_millisecond_too_long() {
    let cache = cache(32, 1, settings(1 << 20));
    let space = space(&cache, "a");
    let put_at = BASE.plus(Duration::from_nanos(999_999));
    space.put(put_at, &Put { life: life(1, 0), ..plain("k", b"v") }).unwrap();
    assert!(space.peek(put_at, key("k")).is_some());
    assert!(space.peek(put_at.plus(Duration::from_millis(1)), key("k")).is_none());
}
