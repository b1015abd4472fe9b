//! Kept namespaces on disk: what is judged and written on the writer's thread.
//!
//! ```text
//!  operation (writer's thread)              reply (writer's thread, in commit order)
//!    look at the row, judge it by the clock   --commit-->   space.keep, space.drop_kept
//!    write rows, note the end as pending                    the pending end is let go
//! ```
//!
//! How entries stand in the file: see `rows`.
//!
//! **Invariants**
//! - Whether a row is alive is judged by the stop-watch: its end is the one that memory has for its version,
//!   or, when it was written earlier in the same batch, the pending one. The calendar in the row counts
//!   after a start alone.
//! - An operation writes all it has to or says no; what it noted as pending is of no effect when it is
//!   undone, because no row has that stamp then.
//! - Every step looks at a bounded number of rows and removes a bounded number of bytes.
//! - A damaged row is nothing that is there: it is told when the file is opened, left alone by everything but
//!   what removes it or writes over it, and never a panic.

#![expect(clippy::option_option, reason = "whether it is known, and whether it ends")]

mod load;
mod rows;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use self::rows::{Row, RowKey, There};
use super::entry::{Condition, ContentType, Forget, Key, Life, OCTETS, Put, Stored, Tag, Version};
use super::glob::Glob;
use super::shard::{integer, sum};
use super::space::{Cache, Space};
use crate::base::id::TenantId;
use crate::base::limits::{CACHE_TTL_MAX, KEPT_STEP_BYTES, KEPT_STEP_ROWS};
use crate::base::time::{Mono, Now};
use crate::store::{self, Flow, KeyRange, Order, Read, Table, Write};

pub use self::load::{Loaded, Loading, drop_unkept_step, load};

/// Why an operation said no.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cache's own refusal.
    #[error(transparent)]
    Refused(#[from] super::Error),
    /// The store's.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The ends of what was written and is not in memory yet, by the stamp of its row.
///
/// Asked and changed on the writer's thread. What an operation notes is let go by its reply; when the
/// outcome is unknown it stays until the file was opened anew, which tells what became of it.
#[derive(Debug, Default)]
pub struct Pending(Mutex<HashMap<Version, Option<Mono>>>);

impl Pending {
    fn note(&self, stamp: Version, end: Option<Mono>) {
        self.0.lock().insert(stamp, end);
    }

    fn end_of(&self, stamp: Version) -> Option<Option<Mono>> {
        self.0.lock().get(&stamp).copied()
    }

    /// Lets go of what was noted for this row.
    pub fn settle(&self, stamp: Version) {
        self.0.lock().remove(&stamp);
    }

    fn clear(&self) {
        self.0.lock().clear();
    }
}

/// A namespace, and when and by what its rows are judged.
#[derive(Clone, Copy)]
pub struct Judge<'j> {
    /// The namespace in memory.
    pub space: &'j Space,
    /// What the batch has written so far.
    pub pending: &'j Pending,
    /// Read on the writer's thread, so that it does not go back from one operation to the next.
    pub now: Now,
}

impl Judge<'_> {
    fn entry(&self, key: &str) -> Vec<u8> {
        rows::entry(self.space.tenant(), self.space.name().as_str(), key)
    }

    /// The end of a row, if it has not ended.
    fn alive(&self, key: &str, row: &Row) -> Option<Option<Mono>> {
        let key = Key::parse(key).ok()?;
        let pending = self.pending.end_of(Version(row.stamp));
        let end = pending.or_else(|| self.space.end_of(key, Version(row.version)))?;
        end.is_none_or(|end| self.now.mono < end).then_some(end)
    }

    /// Whether a row is of no use to anybody any more. One that is not in memory has ended, or found no room
    /// there when the file was opened; then the calendar says.
    fn over(&self, key: &str, row: &Row) -> bool {
        let known = Key::parse(key).ok().and_then(|key| {
            let pending = self.pending.end_of(Version(row.stamp));
            pending.or_else(|| self.space.end_of(key, Version(row.version)))
        });
        match known {
            Some(end) => end.is_some_and(|end| end <= self.now.mono),
            None => over_by_calendar(row, self.now),
        }
    }

    /// Whether an earlier operation of this batch has written the row.
    fn just_written(&self, row: &Row) -> bool {
        self.pending.end_of(Version(row.stamp)).is_some()
    }
}

fn over_by_calendar(row: &Row, now: Now) -> bool {
    row.gone_at_ms().is_some_and(|gone| gone <= now.wall.unix_ms().cast_unsigned())
}

/// A moment and a life that, counted from it, ends exactly when it should.
///
/// An entry whose ttl is over has no ttl to give; it gets one that lies in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Counted from here.
    pub at: Mono,
    /// For so long.
    pub life: Life,
}

const MS: Duration = Duration::from_millis(1);

impl Begun {
    /// Begins now.
    pub fn now(now: Mono, life: Life) -> Begun {
        Begun { at: now, life }
    }

    /// So that nothing of it is served from `end` on, the last `stale` of it as stale.
    pub fn until(now: Mono, end: Option<Mono>, stale: Duration) -> Begun {
        let Some(end) = end else {
            return Begun::now(now, Life::FOR_EVER);
        };
        let left = whole_ms_up(end.since(now)).min(CACHE_TTL_MAX * 2);
        // Never fresh again once it was stale, not even for a part of a millisecond.
        let (ttl, stale, began) = if stale < left {
            (left.saturating_sub(stale), stale, left)
        } else {
            (MS, left, left + MS)
        };
        let at = Mono::from_ns(end.ns().saturating_sub(nanos(began)));
        let life = Life::new(Some(ttl.min(CACHE_TTL_MAX)), stale.min(CACHE_TTL_MAX));
        Begun { at, life: life.expect("BUG: both are within their bounds") }
    }

    /// When nothing of it is served any more.
    pub fn end(&self) -> Option<Mono> {
        self.life.ttl().map(|ttl| self.at.plus(ttl).plus(self.life.stale()))
    }
}

fn whole_ms_up(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn wall_ms(now: Now) -> u64 {
    now.wall.unix_ms().cast_unsigned()
}

/// Puts one: judged by its condition and its lease, written, and noted as pending under `version`.
pub fn put(
    tx: &mut dyn Write,
    judge: &Judge<'_>,
    put: &Put<'_>,
    version: Version,
) -> Result<Stored, Error> {
    let entry = judge.entry(put.key.as_str());
    let old = rows::look(tx, &entry)?;
    let there = match &old {
        There::Row(row) => judge.alive(put.key.as_str(), row).is_some(),
        There::Nothing | There::Damaged => false,
    };
    match put.condition {
        Condition::Absent if there => return Err(super::Error::KeyExists.into()),
        Condition::Present if !there => return Err(super::Error::KeyMissing.into()),
        Condition::Absent | Condition::Present | Condition::Always => {}
    }
    if let Some(lease) = put.lease {
        // Whoever has just written it has used the lease up, though memory does not know yet.
        if matches!(&old, There::Row(row) if judge.just_written(row)) {
            return Err(super::Error::LeaseLost.into());
        }
        judge.space.check_lease(judge.now.mono, put.key, put.tags, lease)?;
    }
    let began = Begun::now(judge.now.mono, put.life);
    rows::write(tx, &entry, row_of(judge.now, put, version), put.value, &old)?;
    judge.pending.note(version, began.end());
    Ok(if there { Stored::Replaced } else { Stored::New })
}

fn row_of(now: Now, put: &Put<'_>, version: Version) -> Row {
    let content_type = put.content_type.as_str();
    Row {
        version: version.0,
        stamp: version.0,
        stored_at_ms: wall_ms(now),
        fresh_until_ms: put.life.ttl().map(|ttl| wall_ms(now).saturating_add(millis(ttl))),
        stale_ms: millis(put.life.stale()),
        content_type: if content_type == OCTETS { "" } else { content_type }.to_owned(),
        tags: put.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
        value_bytes: 0,
        parts: 0,
        value_crc: 0,
        small: Vec::new(),
    }
}

/// A number that was added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// What it is now.
    pub value: i64,
    /// The type that it has.
    pub content_type: String,
    /// The tags that it has.
    pub tags: Vec<String>,
    /// How long it lives.
    pub began: Begun,
}

impl Sum {
    /// The put that makes memory follow.
    pub fn with_put<T>(&self, key: Key<'_>, then: impl FnOnce(&Put<'_>) -> T) -> T {
        let value = self.value.to_string();
        with_put(key, value.as_bytes(), (&self.content_type, &self.tags), self.began.life, then)
    }
}

/// Builds a put of texts that were checked when they came in; what would not pass now is left out.
fn with_put<T>(
    key: Key<'_>,
    value: &[u8],
    (content_type, tags): (&str, &[String]),
    life: Life,
    then: impl FnOnce(&Put<'_>) -> T,
) -> T {
    let tags: Vec<Tag<'_>> = tags.iter().filter_map(|tag| Tag::parse(tag).ok()).collect();
    then(&Put {
        key,
        value,
        content_type: ContentType::parse(content_type).unwrap_or(ContentType::OCTETS),
        life,
        tags: &tags,
        condition: Condition::Always,
        lease: None,
    })
}

/// How much is added to what, under which version.
#[derive(Clone, Copy, Debug)]
pub struct Increment<'i> {
    /// To this.
    pub key: Key<'i>,
    /// So much.
    pub by: i64,
    /// The life of a number that was not there.
    pub life: Life,
    /// The new value's version.
    pub version: Version,
}

/// Adds to a number; a missing one is 0 and gets the life. `room` takes memory for the new value, or refuses.
pub fn increment(
    tx: &mut dyn Write,
    judge: &Judge<'_>,
    what: &Increment<'_>,
    room: &mut dyn FnMut(&Put<'_>) -> Result<(), super::Error>,
) -> Result<Sum, Error> {
    let entry = judge.entry(what.key.as_str());
    let old = rows::look(tx, &entry)?;
    let there = match &old {
        There::Row(row) => judge.alive(what.key.as_str(), row).map(|end| (row, end)),
        There::Nothing | There::Damaged => None,
    };
    let (after, row) = match there {
        None => {
            let after = Sum {
                value: sum(0, what.by)?,
                content_type: ContentType::TEXT.as_str().to_owned(),
                tags: Vec::new(),
                began: Begun::now(judge.now.mono, what.life),
            };
            let row = after.with_put(what.key, |put| row_of(judge.now, put, what.version));
            (after, row)
        }
        Some((row, end)) => {
            let value = rows::value(tx, &entry, row)?.unwrap_or_default();
            let number = integer(&value).ok_or(super::Error::NotAnInteger)?;
            let after = Sum {
                value: sum(number, what.by)?,
                content_type: row.content_type.clone(),
                tags: row.tags.clone(),
                began: Begun::until(judge.now.mono, end, Duration::from_millis(row.stale_ms)),
            };
            let version = what.version.0;
            let stored_at_ms = wall_ms(judge.now);
            (after, Row { version, stamp: version, stored_at_ms, ..row.clone() })
        }
    };
    after.with_put(what.key, room)?;
    rows::write(tx, &entry, row, after.value.to_string().as_bytes(), &old)?;
    judge.pending.note(what.version, after.began.end());
    Ok(after)
}

/// A new life for what is there.
#[derive(Clone, Copy, Debug)]
pub struct Touch<'t> {
    /// For this.
    pub key: Key<'t>,
    /// Fresh for so long from now on.
    pub ttl: Duration,
    /// Stale for so long after that; as before without.
    pub stale: Option<Duration>,
    /// What the row's new stamp is; drawn like a version.
    pub stamp: Version,
}

/// What memory has to follow after a touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Which value it was; it stays that.
    pub version: Version,
    /// How long it lives.
    pub began: Begun,
    /// All of it, when memory may have let go of it before the commit is there.
    pub whole: Option<Box<TouchedWhole>>,
}

/// An entry that was touched near its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TouchedWhole {
    row: Row,
    value: Vec<u8>,
    /// Since when it is there.
    pub age: Duration,
}

impl Touched {
    /// The put that brings it back, and since when it is there.
    pub fn with_put<T>(
        &self,
        key: Key<'_>,
        then: impl FnOnce(&Put<'_>, Duration) -> T,
    ) -> Option<T> {
        let TouchedWhole { row, value, age } = &**self.whole.as_ref()?;
        let life = self.began.life;
        Some(with_put(key, value, (&row.content_type, &row.tags), life, |put| then(put, *age)))
    }
}

/// Gives a new life to what is there; nothing when it is not.
pub fn touch(
    tx: &mut dyn Write,
    judge: &Judge<'_>,
    what: &Touch<'_>,
) -> Result<Option<Touched>, Error> {
    let entry = judge.entry(what.key.as_str());
    let There::Row(row) = rows::look(tx, &entry)? else {
        return Ok(None);
    };
    let Some(end) = judge.alive(what.key.as_str(), &row) else {
        return Ok(None);
    };
    let stale = what.stale.unwrap_or(Duration::from_millis(row.stale_ms));
    let life = Life::new(Some(what.ttl.clamp(MS, CACHE_TTL_MAX)), stale.min(CACHE_TTL_MAX));
    let life = life.expect("BUG: both are within their bounds");
    let began = Begun::now(judge.now.mono, life);
    let near = end.is_some_and(|end| end.since(judge.now.mono) < NEAR);
    let whole = if near { whole(tx, judge, &entry, &row)? } else { None };
    let touched = Touched { version: Version(row.version), began, whole };
    let row = Row {
        stamp: what.stamp.0,
        fresh_until_ms: life.ttl().map(|ttl| wall_ms(judge.now).saturating_add(millis(ttl))),
        stale_ms: millis(life.stale()),
        ..row
    };
    rows::write_head(tx, &entry, &row)?;
    judge.pending.note(what.stamp, began.end());
    Ok(Some(touched))
}

/// No commit takes longer; what ends within it may be gone from memory before memory can follow.
const NEAR: Duration = Duration::from_mins(1);

fn whole(
    view: &(impl Read + ?Sized),
    judge: &Judge<'_>,
    entry: &[u8],
    row: &Row,
) -> store::Result<Option<Box<TouchedWhole>>> {
    let Some(value) = rows::value(view, entry, row)? else {
        return Ok(None);
    };
    let age = Duration::from_millis(wall_ms(judge.now).saturating_sub(row.stored_at_ms));
    let row = Row { small: Vec::new(), ..row.clone() };
    Ok(Some(Box::new(TouchedWhole { row, value, age })))
}

/// What is to be forgotten, kept for several operations.
#[derive(Clone, Debug)]
pub enum What {
    /// These keys.
    Keys(Vec<String>),
    /// What has any of these tags.
    Tags(Vec<String>),
    /// What begins with this.
    Prefix(String),
    /// What matches this pattern.
    Pattern(Glob),
    /// Everything.
    All,
}

impl What {
    /// The same, borrowed, as memory takes it.
    pub fn with_forget<T>(&self, then: impl FnOnce(&Forget<'_>) -> T) -> T {
        match self {
            What::Keys(keys) => {
                let keys: Vec<_> = keys.iter().filter_map(|key| Key::parse(key).ok()).collect();
                then(&Forget::Keys(&keys))
            }
            What::Tags(tags) => {
                let tags: Vec<_> = tags.iter().filter_map(|tag| Tag::parse(tag).ok()).collect();
                then(&Forget::Tags(&tags))
            }
            What::Prefix(prefix) => then(&Forget::Prefix(prefix)),
            What::Pattern(glob) => then(&Forget::Pattern(glob)),
            What::All => then(&Forget::All),
        }
    }
}

/// Where a forgetting goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// With the key of this number.
    Key(usize),
    /// With this row, or the one behind it.
    Row(Vec<u8>),
}

/// What one step of a forgetting did.
#[derive(Debug, Default)]
pub struct Step {
    /// What memory has to drop.
    pub dropped: Vec<(String, Version)>,
    /// How many of them were alive.
    pub forgotten: u64,
    /// Where it goes on; at its end without.
    pub next: Option<Cursor>,
}

/// One bounded step of forgetting what the rows say at this moment, in the writer's order: what was put
/// before it is always met.
pub fn forget_step(
    tx: &mut dyn Write,
    judge: &Judge<'_>,
    what: &What,
    cursor: Option<Cursor>,
) -> Result<Step, Error> {
    let mut forgetting = Forgetting { judge, bytes: 0, step: Step::default() };
    match what {
        What::Keys(keys) => forgetting.keys(tx, keys, cursor.as_ref())?,
        What::Tags(tags) => forgetting.rows(tx, cursor, "", &|_, row| {
            row.is_some_and(|row| row.tags.iter().any(|tag| tags.contains(tag)))
        })?,
        What::Prefix(prefix) => forgetting.rows(tx, cursor, prefix, &|_, _| true)?,
        What::Pattern(glob) => {
            forgetting.rows(tx, cursor, "", &|key, _| glob.matches(key))?;
        }
        What::All => forgetting.rows(tx, cursor, "", &|_, _| true)?,
    }
    Ok(forgetting.step)
}

/// Whether an entry is meant: by its key, and its row unless that is damaged.
type Matches<'m> = dyn Fn(&str, Option<&Row>) -> bool + 'm;

struct Forgetting<'f> {
    judge: &'f Judge<'f>,
    bytes: usize,
    step: Step,
}

impl Forgetting<'_> {
    fn keys(
        &mut self,
        tx: &mut dyn Write,
        keys: &[String],
        cursor: Option<&Cursor>,
    ) -> store::Result<()> {
        let first = if let Some(Cursor::Key(first)) = cursor { *first } else { 0 };
        for (number, key) in keys.iter().enumerate().skip(first) {
            if KEPT_STEP_ROWS <= number - first || KEPT_STEP_BYTES <= self.bytes {
                self.step.next = Some(Cursor::Key(number));
                return Ok(());
            }
            let entry = self.judge.entry(key);
            match rows::look(tx, &entry)? {
                There::Nothing => {}
                There::Row(row) => self.remove(tx, &entry, key, Some(&row))?,
                There::Damaged => self.remove(tx, &entry, key, None)?,
            }
        }
        Ok(())
    }

    fn rows(
        &mut self,
        tx: &mut dyn Write,
        cursor: Option<Cursor>,
        prefix: &str,
        matches: &Matches<'_>,
    ) -> store::Result<()> {
        let (tenant, namespace) = (self.judge.space.tenant(), self.judge.space.name().as_str());
        let range = if prefix.is_empty() {
            KeyRange::prefix(&rows::namespace_prefix(tenant, namespace))
        } else {
            KeyRange::prefix(&rows::keys_prefix(tenant, namespace, prefix))
        };
        let from = if let Some(Cursor::Row(from)) = cursor { from } else { range.from.clone() };
        let mut walk = Heads { range: KeyRange { from, ..range }, looked_at: 0 };
        while walk.looked_at < KEPT_STEP_ROWS && self.bytes < KEPT_STEP_BYTES {
            let Some(found) = walk.next(tx)? else {
                return Ok(());
            };
            for HeadFound { entry, key, row } in found {
                if matches(&key, row.as_ref()) {
                    self.remove(tx, &entry, &key, row.as_ref())?;
                }
            }
        }
        self.step.next = Some(Cursor::Row(walk.range.from));
        Ok(())
    }

    fn remove(
        &mut self,
        tx: &mut dyn Write,
        entry: &[u8],
        key: &str,
        row: Option<&Row>,
    ) -> store::Result<()> {
        rows::remove(tx, entry, 0)?;
        // What a damaged one held is not known; it was one entry.
        self.bytes += row.map_or(KEPT_STEP_BYTES, Row::bytes);
        if let Some(row) = row {
            self.step.forgotten += u64::from(self.judge.alive(key, row).is_some());
            self.step.dropped.push((key.to_owned(), Version(row.version)));
        }
        Ok(())
    }
}

/// An entry met on a walk; without a row when that is damaged.
struct HeadFound {
    entry: Vec<u8>,
    key: String,
    row: Option<Row>,
}

/// Heads that one call of a walk brings at most.
const HEADS_AT_ONCE: usize = 64;

/// A walk over the heads in a range, past the parts of large values.
struct Heads {
    /// What is left of it.
    range: KeyRange,
    looked_at: usize,
}

impl Heads {
    /// The next few heads; nothing at the end. Their bytes are bounded: it stops at a large one.
    fn next(&mut self, view: &(impl Read + ?Sized)) -> store::Result<Option<Vec<HeadFound>>> {
        let mut found = Vec::new();
        let (mut from, mut bytes) = (None, 0);
        view.scan(Table::Kept, &self.range, Order::Forward, &mut |key, value| {
            let entry = &key[..key.len().saturating_sub(2)];
            let Ok(at) = RowKey::read(key) else {
                // Nothing that we wrote; it is passed.
                self.looked_at += 1;
                from = Some([key, &[0]].concat());
                return Flow::Stop;
            };
            from = Some(rows::behind(entry));
            self.looked_at += 1;
            let row = (at.part == 0).then(|| Row::read(value).ok()).flatten();
            let large = row.as_ref().is_none_or(|row| row.parts != 0);
            bytes += row.as_ref().map_or(0, Row::bytes);
            found.push(HeadFound { entry: entry.to_vec(), key: at.key, row });
            let full = HEADS_AT_ONCE <= found.len() || KEPT_STEP_BYTES <= bytes;
            if large || full { Flow::Stop } else { Flow::On }
        })?;
        match from {
            Some(from) => self.range.from = from,
            None => return Ok(None),
        }
        Ok(Some(found))
    }
}

/// An entry that may have ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Whose.
    pub tenant: TenantId,
    /// In which namespace.
    pub namespace: String,
    /// Its key.
    pub key: String,
}

/// What came of looking for entries that have ended.
#[derive(Debug, Default)]
pub struct EndedPage {
    /// Those that may have.
    pub ended: Vec<Ended>,
    /// Where to go on; nowhere without.
    pub next: Option<Vec<u8>>,
}

/// Looks for entries that have ended, from `from` on, at a bounded number of them.
pub fn ended_page(
    view: &dyn Read,
    cache: &Cache,
    pending: &Pending,
    now: Now,
    from: Vec<u8>,
) -> store::Result<EndedPage> {
    let mut walk = Heads { range: KeyRange { from, to: None }, looked_at: 0 };
    let mut ended = Vec::new();
    let mut last: Option<(Vec<u8>, Option<Arc<Space>>)> = None;
    while walk.looked_at < KEPT_STEP_ROWS {
        let Some(found) = walk.next(view)? else {
            return Ok(EndedPage { ended, next: None });
        };
        for HeadFound { entry, key, row } in found {
            let Some(row) = row else { continue };
            let Ok(at) = RowKey::read(&rows::part(&entry, 0)) else { continue };
            let prefix = rows::namespace_prefix(at.tenant, &at.namespace);
            if last.as_ref().is_none_or(|(known, _)| *known != prefix) {
                last = Some((prefix, cache.space(at.tenant, &at.namespace)));
            }
            let space = last.as_ref().and_then(|(_, space)| space.as_deref());
            let over = match space {
                Some(space) => Judge { space, pending, now }.over(&key, &row),
                None => over_by_calendar(&row, now),
            };
            if over {
                ended.push(Ended { tenant: at.tenant, namespace: at.namespace, key });
            }
        }
    }
    Ok(EndedPage { ended, next: Some(walk.range.from) })
}

/// Removes those of `ended` that have ended indeed, a bounded number; how many of them were looked at, and
/// how many removed.
pub fn remove_ended(
    tx: &mut dyn Write,
    cache: &Cache,
    pending: &Pending,
    now: Now,
    ended: &[Ended],
) -> Result<(usize, u64), Error> {
    let (mut bytes, mut removed) = (0, 0);
    for (number, Ended { tenant, namespace, key }) in ended.iter().enumerate() {
        if KEPT_STEP_ROWS <= number || KEPT_STEP_BYTES <= bytes {
            return Ok((number, removed));
        }
        let entry = rows::entry(*tenant, namespace, key);
        let There::Row(row) = rows::look(tx, &entry)? else {
            continue;
        };
        let over = match cache.space(*tenant, namespace) {
            Some(space) => Judge { space: &space, pending, now }.over(key, &row),
            None => over_by_calendar(&row, now),
        };
        if over {
            bytes += row.bytes();
            rows::remove(tx, &entry, 0)?;
            removed += 1;
        }
    }
    Ok((ended.len(), removed))
}

/// Removes rows of a tenant, a bounded number; whether that was all of them.
pub fn remove_tenant_step(tx: &mut dyn Write, tenant: TenantId) -> Result<bool, Error> {
    let most = KEPT_STEP_ROWS as u64;
    let range = KeyRange::prefix(&rows::tenant_prefix(tenant));
    Ok(tx.delete_range(Table::Kept, &range, most)? < most)
}

/// What an entry is put together from, for `space.keep`, when it comes from a row.
fn with_row<T>(
    key: &str,
    row: &Row,
    value: &[u8],
    life: Life,
    then: impl FnOnce(&Put<'_>) -> T,
) -> Option<T> {
    let key = Key::parse(key).ok()?;
    Some(with_put(key, value, (&row.content_type, &row.tags), life, then))
}

#[cfg(test)]
mod tests;
