//! Locks: who holds what, until when, with which fence.
//!
//! ```text
//! Locks   tenant u64 | name           ->  a record: owner, fence, when it ends
//! Meta    "lock.number"               ->  u64: the last number that was given out
//! ```
//!
//! Every taking and every refreshing draws a number, in the transaction that writes the row. The number of
//! the taking is the fence; that of the last change is the row's stamp, by which memory knows the row. To
//! change the record: add `RowV2` with version 2, write that, and let `Row::read` upgrade what it finds.
//!
//! **Invariants**
//! - A lock is held by one owner at most. It is judged on the writer's thread by the row and the stop-watch;
//!   memory is a mirror that follows after the commit, in commit order.
//! - Fences grow, whatever happens to locks and to the process: the number is on disk before the fence is
//!   told to anybody.
//! - The calendar in the row counts after a start alone.
//!
//! **Failure cases**: a damaged row is told when the file is opened and holds nobody up; a damaged number
//! stops every taking, because a fence could go back.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::codec::{self, Head, Record, SchemaRead, SchemaWrite};
use crate::base::id::TenantId;
use crate::base::key::{KeyReader, KeyWriter};
use crate::base::limits::{
    JSON_NUMBER_END, KEPT_STEP_ROWS, LOCK_OWNER_BYTES_MAX, LOCK_TTL_MAX, LOCK_TTL_MIN, LOCKS_MAX,
};
use crate::base::name::LockName;
use crate::base::time::{Mono, Now, Timestamp};
use crate::store::{self, Engine, Flow, KeyRange, Opening, Read, Table, Write, scan_in_pages};

/// Why a lock was not taken, refreshed or released.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else holds it.
    #[error("somebody else holds the lock; it ends in {} ms at the latest", retry_after.as_millis())]
    Held {
        /// When it ends, if it is not refreshed.
        retry_after: Duration,
    },
    /// Nobody holds it.
    #[error("nobody holds the lock")]
    Unknown,
    /// The tenant has as many as it may have.
    #[error("a tenant has at most {LOCKS_MAX} locks")]
    TooMany,
    /// The number from which fences come cannot be read.
    #[error("the number of the last fence is damaged")]
    Damaged,
    /// The store said no.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// The stable word that clients match on.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Held { .. } => "lock_held",
            Error::Unknown => "unknown_lock",
            Error::TooMany => "quota_exceeded",
            Error::Damaged | Error::Store(_) => "internal",
        }
    }
}

/// Why a text does not name an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an owner has 1 to {LOCK_OWNER_BYTES_MAX} bytes and no control characters")]
pub struct BadOwner;

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(Box<str>);

impl Owner {
    /// Checks `text`.
    pub fn parse(text: &str) -> Result<Owner, BadOwner> {
        let length = (1..=LOCK_OWNER_BYTES_MAX).contains(&text.len());
        let plain = !text.chars().any(char::is_control);
        if length && plain { Ok(Owner(text.into())) } else { Err(BadOwner) }
    }

    /// The owner with these bits; nobody may be able to guess them.
    pub fn of_bits(bits: [u8; 16]) -> Owner {
        Owner(format!("{:032x}", u128::from_be_bytes(bits)).into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a lock cannot be taken for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a lock is taken for {} ms to {} days",
    LOCK_TTL_MIN.as_millis(),
    LOCK_TTL_MAX.as_secs() / 86_400
)]
pub struct BadTtl;

/// For how long a lock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(Duration);

impl Ttl {
    /// Checks `time`; parts of a millisecond are dropped.
    pub fn new(time: Duration) -> Result<Ttl, BadTtl> {
        let allowed = (LOCK_TTL_MIN..=LOCK_TTL_MAX).contains(&time);
        let whole = Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        if allowed { Ok(Ttl(whole)) } else { Err(BadTtl) }
    }
}

/// Which lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Which {
    /// Whose.
    pub tenant: TenantId,
    /// Its name.
    pub name: LockName,
}

impl Which {
    fn key(&self) -> Vec<u8> {
        KeyWriter::new().u64(self.tenant.raw()).tail(self.name.as_str().as_bytes())
    }

    fn read(key: &[u8]) -> Option<Which> {
        let mut reader = KeyReader::new(key);
        let tenant = TenantId::from_raw(reader.u64().ok()?);
        let name = LockName::parse(std::str::from_utf8(reader.tail()).ok()?).ok()?;
        Some(Which { tenant, name })
    }
}

/// A lock that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// By whom.
    pub owner: Owner,
    /// Larger than that of everybody who had a lock before.
    pub fence: u64,
    /// Which writing of the row it is.
    pub stamp: u64,
    /// Until when.
    pub until: Mono,
    /// The same by the calendar, for people.
    pub expires_at: Timestamp,
}

/// What came of taking a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The lock.
    pub held: Held,
    /// Whether its owner had it already.
    pub again: bool,
}

/// A lock, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
struct Row {
    owner: String,
    fence: u64,
    stamp: u64,
    until_ms: u64,
}

impl Record for Row {
    const HEAD: Head = Head { kind: 0x21, version: 1 };
}

impl Row {
    fn read(bytes: &[u8]) -> Option<Row> {
        codec::decode::<Row>(bytes).ok()
    }

    fn held(&self, until: Mono, expires_at: Timestamp) -> Option<Held> {
        let owner = Owner::parse(&self.owner).ok()?;
        Some(Held { owner, fence: self.fence, stamp: self.stamp, until, expires_at })
    }
}

const NUMBER: &[u8] = b"lock.number";

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<Which, Held>,
    /// How many of them each tenant has.
    counts: HashMap<TenantId, usize>,
    /// What was written and is not in memory yet, by its stamp.
    pending: HashMap<u64, (Which, Mono)>,
}

/// What is held, as memory knows it.
#[derive(Debug, Default)]
pub struct Locks(Mutex<State>);

impl Locks {
    /// What holds `which` at `now`.
    pub fn held(&self, now: Mono, which: &Which) -> Option<Held> {
        self.0.lock().held.get(which).filter(|held| now < held.until).cloned()
    }

    /// A tenant's locks by name, after `after`.
    pub fn list(
        &self,
        now: Mono,
        tenant: TenantId,
        after: Option<&LockName>,
        limit: usize,
    ) -> Vec<(LockName, Held)> {
        let state = self.0.lock();
        let from = match after {
            Some(name) => Bound::Excluded(Which { tenant, name: name.clone() }),
            None => Bound::Included(Which { tenant, name: first_name() }),
        };
        let rows = state.held.range((from, Bound::Unbounded));
        let rows = rows.take_while(|(which, _)| which.tenant == tenant);
        let live = rows.filter(|(_, held)| now < held.until).take(limit);
        live.map(|(which, held)| (which.name.clone(), held.clone())).collect()
    }

    /// How many are known, those that have ended and were not removed yet included.
    pub fn len(&self) -> usize {
        self.0.lock().held.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Follows a commit: `which` is held like this.
    pub fn apply(&self, which: &Which, held: &Held) {
        let mut state = self.0.lock();
        state.pending.remove(&held.stamp);
        if state.held.insert(which.clone(), held.clone()).is_none() {
            *state.counts.entry(which.tenant).or_default() += 1;
        }
    }

    /// Follows a commit: the row of `which` with this stamp is gone.
    pub fn apply_removal(&self, which: &Which, stamp: u64) {
        let mut state = self.0.lock();
        if state.held.get(which).is_some_and(|held| held.stamp == stamp) {
            state.held.remove(which);
            if let Some(count) = state.counts.get_mut(&which.tenant) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// Lets go of everything of a tenant.
    pub fn forget_tenant(&self, tenant: TenantId) {
        let mut state = self.0.lock();
        state.held.retain(|which, _| which.tenant != tenant);
        state.counts.remove(&tenant);
    }

    /// Locks that have ended, at most `limit`.
    pub fn ended(&self, now: Mono, limit: usize) -> Vec<Which> {
        let state = self.0.lock();
        let ended = state.held.iter().filter(|(_, held)| held.until <= now).take(limit);
        ended.map(|(which, _)| which.clone()).collect()
    }

    fn note(&self, stamp: u64, which: &Which, until: Mono) {
        self.0.lock().pending.insert(stamp, (which.clone(), until));
    }

    /// The end of a row, if it has not ended.
    fn alive(&self, now: Mono, which: &Which, row: &Row) -> Option<Mono> {
        let state = self.0.lock();
        let pending = state.pending.get(&row.stamp).map(|(_, until)| *until);
        let mirrored = || {
            let held = state.held.get(which).filter(|held| held.stamp == row.stamp);
            held.map(|held| held.until)
        };
        pending.or_else(mirrored).filter(|until| now < *until)
    }

    /// Whether a tenant has as many as it may have; what ended does not count.
    fn is_full(&self, now: Mono, tenant: TenantId) -> bool {
        let state = self.0.lock();
        let news = state.pending.values().filter(|(which, until)| {
            which.tenant == tenant && now < *until && !state.held.contains_key(which)
        });
        let news = news.count();
        // They are looked at one by one only when there are that many.
        if state.counts.get(&tenant).copied().unwrap_or(0) + news < LOCKS_MAX {
            return false;
        }
        let first = Which { tenant, name: first_name() };
        let rows = state.held.range(first..).take_while(|(which, _)| which.tenant == tenant);
        LOCKS_MAX <= rows.filter(|(_, held)| now < held.until).count() + news
    }
}

fn first_name() -> LockName {
    LockName::parse("-").expect("BUG: it is a name, and no byte of names is smaller")
}

/// Draws the next number.
fn draw(tx: &mut dyn Write) -> Result<u64, Error> {
    let last = match tx.get(Table::Meta, NUMBER)? {
        None => 0,
        Some(bytes) => {
            let bytes: [u8; 8] = bytes.try_into().map_err(|_| Error::Damaged)?;
            u64::from_be_bytes(bytes)
        }
    };
    let next = last.checked_add(1).filter(|next| *next < JSON_NUMBER_END).ok_or(Error::Damaged)?;
    tx.put(Table::Meta, NUMBER, &next.to_be_bytes())?;
    Ok(next)
}

fn look(view: &(impl Read + ?Sized), which: &Which) -> store::Result<Option<Row>> {
    let bytes = view.get(Table::Locks, &which.key())?;
    Ok(bytes.and_then(|bytes| Row::read(&bytes)))
}

fn write(
    tx: &mut dyn Write,
    locks: &Locks,
    now: Now,
    which: &Which,
    (mut row, ttl): (Row, Ttl),
) -> Result<Held, Error> {
    let expires_at = now.wall.plus(ttl.0);
    row.until_ms = expires_at.unix_ms().cast_unsigned();
    let until = now.mono.plus(ttl.0);
    let held = row.held(until, expires_at).expect("BUG: an owner is checked before it is stored");
    let bytes = codec::encode(&row).expect("BUG: the parts of a lock are bounded");
    tx.put(Table::Locks, &which.key(), &bytes)?;
    locks.note(row.stamp, which, until);
    Ok(held)
}

/// Takes a lock for `owner`, or gives it the ttl once more if it has it.
pub fn take(
    tx: &mut dyn Write,
    locks: &Locks,
    now: Now,
    which: &Which,
    (owner, ttl): (&Owner, Ttl),
) -> Result<Taken, Error> {
    let row = look(tx, which)?;
    let alive = row.and_then(|row| Some((locks.alive(now.mono, which, &row)?, row)));
    if let Some((until, row)) = alive {
        if row.owner != owner.as_str() {
            return Err(Error::Held { retry_after: until.since(now.mono) });
        }
        let stamp = draw(tx)?;
        let held = write(tx, locks, now, which, (Row { stamp, ..row }, ttl))?;
        return Ok(Taken { held, again: true });
    }
    if locks.is_full(now.mono, which.tenant) {
        return Err(Error::TooMany);
    }
    let fence = draw(tx)?;
    let owner = owner.as_str().to_owned();
    let row = Row { owner, fence, stamp: fence, until_ms: 0 };
    let held = write(tx, locks, now, which, (row, ttl))?;
    Ok(Taken { held, again: false })
}

/// Gives a lock that `owner` holds another ttl, from now on.
pub fn refresh(
    tx: &mut dyn Write,
    locks: &Locks,
    now: Now,
    which: &Which,
    (owner, ttl): (&Owner, Ttl),
) -> Result<Held, Error> {
    let row = held_by(tx, locks, now, which, Some(owner))?;
    let stamp = draw(tx)?;
    write(tx, locks, now, which, (Row { stamp, ..row }, ttl))
}

/// The row of a lock that is held, by `owner` if one is given.
fn held_by(
    view: &(impl Read + ?Sized),
    locks: &Locks,
    now: Now,
    which: &Which,
    owner: Option<&Owner>,
) -> Result<Row, Error> {
    let row = look(view, which)?.ok_or(Error::Unknown)?;
    let until = locks.alive(now.mono, which, &row).ok_or(Error::Unknown)?;
    match owner {
        Some(owner) if row.owner != owner.as_str() => {
            Err(Error::Held { retry_after: until.since(now.mono) })
        }
        _ => Ok(row),
    }
}

/// Releases a lock that `owner` holds, or that anybody holds. Returns the stamp for
/// [`Locks::apply_removal`].
pub fn release(
    tx: &mut dyn Write,
    locks: &Locks,
    now: Now,
    which: &Which,
    owner: Option<&Owner>,
) -> Result<u64, Error> {
    let row = held_by(tx, locks, now, which, owner)?;
    tx.delete(Table::Locks, &which.key())?;
    Ok(row.stamp)
}

/// Takes back a lock whose taker is gone, unless something was done with it since; whether it was there.
pub fn undo_take(tx: &mut dyn Write, which: &Which, taken: &Held) -> Result<bool, Error> {
    // An owner who asked again has another stamp, and keeps it.
    let there = look(tx, which)?.is_some_and(|row| row.stamp == taken.stamp);
    if there {
        tx.delete(Table::Locks, &which.key())?;
    }
    Ok(there)
}

/// Removes the rows of those that have ended; what memory has to drop, with its stamps.
pub fn remove_ended(
    tx: &mut dyn Write,
    locks: &Locks,
    now: Now,
    ended: &[Which],
) -> Result<Vec<(Which, u64)>, Error> {
    let mut removed = Vec::new();
    for which in ended.iter().take(KEPT_STEP_ROWS) {
        match look(tx, which)? {
            Some(row) if locks.alive(now.mono, which, &row).is_none() => {
                tx.delete(Table::Locks, &which.key())?;
                removed.push((which.clone(), row.stamp));
            }
            Some(_) => {}
            None => {
                // Removed already; memory may not know.
                let known = locks.0.lock().held.get(which).map(|held| held.stamp);
                removed.extend(known.map(|stamp| (which.clone(), stamp)));
            }
        }
    }
    Ok(removed)
}

/// Removes rows of a tenant, a bounded number; whether that was all of them.
pub fn remove_tenant_step(tx: &mut dyn Write, tenant: TenantId) -> Result<bool, Error> {
    let most = KEPT_STEP_ROWS as u64;
    let range = KeyRange::prefix(&KeyWriter::new().u64(tenant.raw()).finish());
    Ok(tx.delete_range(Table::Locks, &range, most)? < most)
}

/// Makes memory what the file has; how many locks that is, and how many rows are damaged.
pub fn load(
    engine: &dyn Engine,
    locks: &Locks,
    now: Now,
    opening: Opening,
) -> store::Result<(usize, u64)> {
    let mut fresh = BTreeMap::new();
    let mut damaged = 0;
    scan_in_pages(
        engine,
        Table::Locks,
        &KeyRange::all(),
        KEPT_STEP_ROWS as u64,
        &mut |key, value| {
            match Which::read(key).zip(Row::read(value)) {
                None => damaged += 1,
                Some((which, row)) => {
                    let expires_at =
                        i64::try_from(row.until_ms).ok().and_then(Timestamp::from_unix_ms);
                    let expires_at = expires_at.unwrap_or(Timestamp::MAX);
                    let until = match opening {
                        Opening::Start => {
                            now.mono.plus(expires_at.since(now.wall).min(LOCK_TTL_MAX))
                        }
                        // The stop-watch still knows. One that has ended is known for its row to be removed.
                        Opening::AfterFailure => {
                            locks.alive(now.mono, &which, &row).unwrap_or(now.mono)
                        }
                    };
                    match row.held(until, expires_at) {
                        Some(held) => drop(fresh.insert(which, held)),
                        None => damaged += 1,
                    }
                }
            }
            Flow::On
        },
    )?;
    if damaged != 0 {
        tracing::error!(damaged, "locks are damaged; they hold nobody up");
    }
    let count = fresh.len();
    let mut counts = HashMap::new();
    for which in fresh.keys() {
        *counts.entry(which.tenant).or_default() += 1;
    }
    *locks.0.lock() = State { held: fresh, counts, pending: HashMap::new() };
    Ok((count, damaged))
}

#[cfg(test)]
mod tests;
