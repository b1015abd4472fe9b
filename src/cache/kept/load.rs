//! Memory as the file has it: after a start, and after the file was opened anew.
//!
//! After a start the calendar says what is left of an entry. After a failure the stop-watch still knows:
//! what memory has and the file has not is dropped; what the file has and memory has not is kept if its
//! outcome was unknown, and has ended otherwise.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::rows::{self, Gathering, Whole};
use super::{Begun, Error, Pending, with_row};
use crate::base::id::TenantId;
use crate::base::limits::{CACHE_STEP_ENTRIES, CACHE_TTL_MAX, KEPT_STEP_BYTES, KEPT_STEP_ROWS};
use crate::base::name::Namespace;
use crate::base::time::{Mono, Now, Timestamp};
use crate::cache::entry::{Key, Version};
use crate::cache::space::{Cache, Space};
use crate::store::{self, Engine, Flow, KeyRange, Opening, Order, Table, Write};

/// What memory is made from.
pub struct Loading<'l> {
    /// Where entries go.
    pub cache: &'l Cache,
    /// What was written and is not in memory yet.
    pub pending: &'l Pending,
    /// When.
    pub now: Now,
    /// Whether the process starts.
    pub opening: Opening,
    /// What a tenant may hold; nothing when there is no such tenant.
    pub tenant_max: &'l dyn Fn(TenantId) -> Option<Option<u64>>,
}

/// What was found in the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Entries that are in memory now.
    pub entries: u64,
    /// Entries that had ended.
    pub ended: u64,
    /// Rows that are not what was written there. They are left as they are.
    pub damaged: u64,
    /// Entries for which memory has no room. They stay in the file, unseen.
    pub no_room: u64,
    /// Entries that memory had and the file has not.
    pub dropped: u64,
    /// Namespaces that are not kept any more. Their entries are in memory as those of any other; their
    /// rows have to go before anybody can write there.
    pub unkept: BTreeSet<(TenantId, Namespace)>,
}

/// Makes memory what the file has.
pub fn load(engine: &dyn Engine, with: &Loading<'_>) -> store::Result<Loaded> {
    let mut loader = Loader { with, loaded: Loaded::default(), on_disk: BTreeMap::new() };
    let mut from = Vec::new();
    loop {
        let (page, next) = page(engine, from, &mut loader.loaded.damaged)?;
        for whole in page {
            loader.take(&whole);
        }
        match next {
            Some(next) => from = next,
            None => break,
        }
    }
    if with.opening == Opening::AfterFailure {
        loader.drop_the_rest();
    }
    with.pending.clear();
    Ok(loader.loaded)
}

/// Some entries from a row on, and where to go on.
fn page(
    engine: &dyn Engine,
    from: Vec<u8>,
    damaged: &mut u64,
) -> store::Result<(Vec<Whole>, Option<Vec<u8>>)> {
    let (mut page, mut next) = (Vec::new(), None);
    let range = KeyRange { from, to: None };
    engine.read(&mut |view| {
        let (mut shown, mut bytes, mut gathering) = (0, 0, Gathering::default());
        view.scan(Table::Kept, &range, Order::Forward, &mut |key, value| {
            shown += 1;
            bytes += value.len();
            if let Err(error) = gathering.take(key, value, &mut page) {
                *damaged += 1;
                tracing::error!(%error, "a kept entry is damaged; it is left out");
            }
            let enough = KEPT_STEP_ROWS <= shown || KEPT_STEP_BYTES <= bytes;
            if gathering.is_open() || !enough {
                return Flow::On;
            }
            next = Some([key, &[0]].concat());
            Flow::Stop
        })?;
        if gathering.is_open() {
            *damaged += 1;
            tracing::error!("the last kept entry is cut; it is left out");
        }
        Ok(())
    })?;
    Ok((page, next))
}

struct Loader<'l> {
    with: &'l Loading<'l>,
    loaded: Loaded,
    /// Versions that the file has, by namespace.
    on_disk: BTreeMap<(TenantId, Namespace), HashSet<Version>>,
}

impl Loader<'_> {
    fn take(&mut self, whole: &Whole) {
        let tenant = whole.at.tenant;
        // What a tenant that is being deleted has left is removed in the background.
        let Some(tenant_max) = (self.with.tenant_max)(tenant) else {
            return;
        };
        let (Ok(namespace), Ok(key)) =
            (Namespace::parse(&whole.at.namespace), Key::parse(&whole.at.key))
        else {
            self.loaded.damaged += 1;
            return;
        };
        let there = self.with.cache.space(tenant, namespace.as_str());
        let made = || self.with.cache.space_or_new(tenant, &namespace, tenant_max);
        let Ok(space) = there.map_or_else(made, Ok) else {
            self.loaded.no_room += 1;
            return;
        };
        let version = Version(whole.row.version);
        if self.with.opening == Opening::AfterFailure {
            self.on_disk.entry((tenant, namespace)).or_default().insert(version);
            if !space.kept() {
                return;
            }
            return self.after_failure(&space, key, whole);
        }
        match end_by_calendar(whole, self.with.now) {
            Some(end) if space.kept() => self.keep(&space, whole, end),
            Some(end) => {
                self.loaded.unkept.insert((tenant, namespace));
                self.put(&space, whole, end);
            }
            None => {
                self.loaded.ended += 1;
                if !space.kept() {
                    self.loaded.unkept.insert((tenant, namespace));
                }
            }
        }
    }

    /// The stop-watch knows better than the calendar what became of an entry.
    fn after_failure(&mut self, space: &Space, key: Key<'_>, whole: &Whole) {
        let version = Version(whole.row.version);
        let known = space.end_of(key, version);
        let written = self.with.pending.end_of(Version(whole.row.stamp));
        match (known, written) {
            // Its life was changed, and nobody was told.
            (Some(_), Some(end)) => {
                let began = self.begun(whole, end);
                space.renew(began.at, key, version, began.life);
                self.loaded.entries += 1;
            }
            (Some(_), None) => self.loaded.entries += 1,
            (None, Some(end)) if end.is_none_or(|end| self.with.now.mono < end) => {
                self.keep(space, whole, end);
            }
            (None, _) => self.loaded.ended += 1,
        }
    }

    fn begun(&self, whole: &Whole, end: Option<Mono>) -> Begun {
        let stale = Duration::from_millis(whole.row.stale_ms).min(CACHE_TTL_MAX);
        Begun::until(self.with.now.mono, end, stale)
    }

    fn keep(&mut self, space: &Space, whole: &Whole, end: Option<Mono>) {
        let began = self.begun(whole, end);
        let now_ms = self.with.now.wall.unix_ms().cast_unsigned();
        let age = Duration::from_millis(now_ms.saturating_sub(whole.row.stored_at_ms));
        let kept = with_row(&whole.at.key, &whole.row, &whole.value, began.life, |put| {
            let reserved = space.reserve(space.cost(put))?;
            space.keep(began.at, reserved, put, Version(whole.row.version), age);
            Ok::<(), crate::cache::Error>(())
        });
        match kept {
            Some(Ok(())) => self.loaded.entries += 1,
            Some(Err(_)) => self.loaded.no_room += 1,
            None => self.loaded.damaged += 1,
        }
    }

    /// As an entry of an ordinary namespace, which may be evicted.
    fn put(&mut self, space: &Space, whole: &Whole, end: Option<Mono>) {
        let began = self.begun(whole, end);
        let put = with_row(&whole.at.key, &whole.row, &whole.value, began.life, |put| {
            space.put(began.at, put).is_ok()
        });
        match put {
            Some(true) => self.loaded.entries += 1,
            _ => self.loaded.no_room += 1,
        }
    }

    /// Drops what memory has and the file has not.
    fn drop_the_rest(&mut self) {
        let nothing = HashSet::new();
        for space in self.with.cache.all_spaces() {
            if !space.kept() {
                continue;
            }
            let at = (space.tenant(), space.name().clone());
            let on_disk = self.on_disk.get(&at).unwrap_or(&nothing);
            let mut gone: Vec<(String, Version)> = Vec::new();
            let mut from = Some(0);
            while let Some(position) = from {
                let visit = &mut |key: Key<'_>, found: &_, _: &[&str], _| {
                    let found: &crate::cache::entry::Found = found;
                    if !on_disk.contains(&found.version) {
                        gone.push((key.as_str().to_owned(), found.version));
                    }
                };
                from = space.visit(self.with.now.mono, position, CACHE_STEP_ENTRIES, visit);
            }
            for (key, version) in &gone {
                if let Ok(key) = Key::parse(key) {
                    space.drop_kept(key, *version);
                    self.loaded.dropped += 1;
                }
            }
        }
    }
}

/// When an entry ends, as far as the calendar knows; nothing when it has ended.
fn end_by_calendar(whole: &Whole, now: Now) -> Option<Option<Mono>> {
    let Some(gone) = whole.row.gone_at_ms() else {
        return Some(None);
    };
    let gone = i64::try_from(gone).ok().and_then(Timestamp::from_unix_ms);
    let left = gone.unwrap_or(Timestamp::MAX).since(now.wall);
    // A calendar that was set back gives nobody more than the longest life.
    (!left.is_zero()).then(|| Some(now.mono.plus(left.min(CACHE_TTL_MAX * 2))))
}

/// Removes rows of a namespace that is not kept any more, a bounded number; whether that was all of them.
pub fn drop_unkept_step(
    tx: &mut dyn Write,
    tenant: TenantId,
    namespace: &Namespace,
) -> Result<bool, Error> {
    let most = KEPT_STEP_ROWS as u64;
    let range = KeyRange::prefix(&rows::namespace_prefix(tenant, namespace.as_str()));
    Ok(tx.delete_range(Table::Kept, &range, most)? < most)
}
