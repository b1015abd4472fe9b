//! The keeper of the series: seals hours, rolls up days, lets go what is too old or too much.
//!
//! ```text
//!   look --> something is open that is due: [save series]*, [make room, seal] for some places at a time, [save series]*, a new log
//!        '-> a day is over: [groups: plan, make room, commit]*, finish
//!        '-> a span is too old: remove some of it
//! ```
//!
//! Series are saved before their blocks: an id, or a group, that has blocks is known to the file, and is given to nobody else
//! even if the log is lost.
//!
//! A step is one piece in brackets, or one removal. The budget is kept before anything is written: what is oldest goes
//! first, and of a day that could still be rolled up its points are made before its raw samples go. What fails is left as it
//! was and tried again a minute later; until then samples stay open, and in the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;

use super::series::Series;
use super::workers::LATER;
use crate::base::limits::{
    CLOCK_DOUBT, CLOCK_LEAP, GROUP_SERIES_MAX, KEEPER_BATCH_BYTES, KEEPER_BATCH_PLACES,
    WRITE_DEADLINE,
};
use crate::base::time::{Mono, Now};
use crate::exec::worker::{Next, Worker};
use crate::exec::writer::{Effect, Terms};
use crate::exec::{self, CallError};
use crate::series::expire::{self, Keep, Why};
use crate::series::memory::Place;
use crate::series::open::Open;
use crate::series::roll::{self, Rolled};
use crate::series::seal::{self, Sealed, SeriesChange};
use crate::series::{GroupId, Kind, RowError, Tier};
use crate::store::{self, Read, Write};

/// When there is nothing to do it looks again so much later: memory may fill up.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Rows of series that are written at once.
const SAVE_ROWS: usize = 500;
/// Bytes that an operation takes beside its rows: what spans and days hold.
const BESIDE_BYTES: usize = 1024;

/// What the keeper has done since the start.
#[derive(Debug, Default)]
pub(super) struct Done {
    sealed: AtomicU64,
    rolled: AtomicU64,
    expired: [AtomicU64; Tier::ALL.len()],
    evicted: [AtomicU64; Tier::ALL.len()],
}

impl Done {
    /// Hours of groups that were sealed.
    pub(super) fn sealed(&self) -> u64 {
        self.sealed.load(Relaxed)
    }

    /// Days that were rolled up.
    pub(super) fn rolled(&self) -> u64 {
        self.rolled.load(Relaxed)
    }

    /// Spans of a tier that went because of their age.
    pub(super) fn expired(&self, tier: Tier) -> u64 {
        self.expired[tier as usize].load(Relaxed)
    }

    /// Spans of a tier that went because there was no room.
    pub(super) fn evicted(&self, tier: Tier) -> u64 {
        self.evicted[tier as usize].load(Relaxed)
    }

    fn gone(&self, tier: Tier, why: Why) {
        let counters = match why {
            Why::Age => &self.expired,
            Why::Budget => &self.evicted,
        };
        counters[tier as usize].fetch_add(1, Relaxed);
    }
}

/// Why a piece was not done.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Writer(#[from] exec::Error),
    #[error(transparent)]
    Row(#[from] RowError),
    #[error("series.wal: {0}")]
    Log(#[from] std::io::Error),
    #[error("{coming} bytes of pages do not fit into series.budget, whatever goes")]
    NoRoom { coming: u64 },
}

impl From<CallError<RowError>> for Trouble {
    fn from(error: CallError<RowError>) -> Trouble {
        match error {
            CallError::Refused(error) => Trouble::Row(error),
            CallError::Failed(error) => Trouble::Writer(error),
        }
    }
}

/// Hours that are being sealed.
struct Sealing {
    /// The file knows the series of all of them.
    listed: bool,
    left: VecDeque<(Place, Arc<Open>)>,
    /// Some of them, encoded, while room is made for them.
    ready: Vec<Ready>,
    /// There was no room for several: they are tried one by one.
    alone: bool,
    /// What went wrong with one of them; the others are sealed all the same.
    trouble: Option<Trouble>,
}

impl Sealing {
    /// These are planned again.
    fn give_back(&mut self, ready: Vec<Ready>) {
        for Ready { place, open, .. } in ready.into_iter().rev() {
            self.left.push_front((place, open));
        }
    }
}

/// A place, and what becomes of it.
struct Ready {
    place: Place,
    open: Arc<Open>,
    sealed: Sealed,
}

/// What an operation does.
type Run<T> = Box<dyn FnOnce(&mut dyn Write) -> Result<T, RowError> + Send>;

/// An operation on the file, and whose it is.
struct Operation<K, T> {
    of: K,
    /// What it writes.
    bytes: usize,
    run: Run<T>,
}

/// What became of each of several operations.
type Outcomes<K, T> = Vec<(K, Result<T, RowError>)>;

/// A day that is being rolled up.
struct Rolling {
    day: u32,
    /// The last group that was looked up.
    after: Option<GroupId>,
    groups: VecDeque<GroupId>,
    /// What is to be written of some groups.
    ready: Vec<Rolled>,
}

impl Rolling {
    /// There is enough for one commit.
    fn is_full(&self) -> bool {
        let bytes: usize = self.ready.iter().map(|rolled| bytes_of(&rolled.rows)).sum();
        KEEPER_BATCH_PLACES <= self.ready.len() || KEEPER_BATCH_BYTES <= bytes
    }
}

/// Whether there is room.
enum Room {
    There,
    /// Something was done to make some: look again. Some or all of this span is gone.
    Made(Option<(Tier, u32)>),
    /// Nothing more can go.
    None,
}

/// See the module.
pub(super) struct Keeper {
    series: Arc<Series>,
    keep: Box<dyn Fn() -> Keep + Send>,
    sealing: Option<Sealing>,
    /// Goes before sealing, which may wait for it.
    rolling: Option<Rolling>,
    /// A day that could not be rolled up; it holds nothing else up.
    given_up: Option<u32>,
    /// The last step: wall in unix milliseconds, and mono.
    last: Option<(i64, Mono)>,
    /// Until then nothing goes because of its age.
    doubt_until: Option<Mono>,
}

impl Keeper {
    /// Keeps `series` as `keep` says at each moment.
    pub(super) fn new(series: Arc<Series>, keep: impl Fn() -> Keep + Send + 'static) -> Keeper {
        let keep = Box::new(keep);
        Keeper {
            series,
            keep,
            sealing: None,
            rolling: None,
            given_up: None,
            last: None,
            doubt_until: None,
        }
    }

    /// Looks whether the clock has leapt, since the last step or since what is stored: a machine may wake up in another
    /// year, and everything would be too old at once. Then nothing goes because of its age, until somebody could notice.
    fn watch_clock(&mut self, now: Now) {
        let now_ms = now.wall.unix_ms();
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let expected = match self.last {
            Some((wall_ms, mono)) => Some(wall_ms.saturating_add(ms(now.mono.since(mono)))),
            None => self.series.with_memory(|memory| memory.newest_ms()),
        };
        self.last = Some((now_ms, now.mono));
        if expected.is_some_and(|at| at.saturating_add(ms(CLOCK_LEAP)) < now_ms) {
            let hours = CLOCK_DOUBT.as_secs() / 3600;
            tracing::warn!(
                hours,
                "the clock is more than a day ahead of the series: nothing was recorded for so long, or it is wrong \
                 (timedatectl); for these hours nothing goes because of its age"
            );
            self.doubt_until = Some(now.mono.plus(CLOCK_DOUBT));
        }
    }

    /// One piece; whether there is more to do.
    fn piece(&mut self, now: Now) -> Result<bool, Trouble> {
        self.watch_clock(now);
        if let Some(rolling) = self.rolling.take() {
            let day = rolling.day;
            return self.roll(now, rolling).inspect_err(|_| self.given_up = Some(day));
        }
        if let Some(sealing) = self.sealing.take() {
            return self.seal(now, sealing);
        }
        self.look(now)
    }

    fn look(&mut self, now: Now) -> Result<bool, Trouble> {
        let now_ms = now.wall.unix_ms();
        let begun = self.series.with_memory(|memory| {
            seal::is_due(memory, now_ms).then(|| seal::begin(memory, now_ms))
        });
        if let Some(begun) = begun {
            self.given_up = None;
            let (ready, left) = (Vec::new(), begun.into());
            self.sealing =
                Some(Sealing { listed: false, left, ready, alone: false, trouble: None });
            return Ok(true);
        }
        let due = self.series.with_memory(|memory| roll::due(memory, now_ms));
        if let Some(day) = due
            && self.given_up != due
        {
            self.begin_roll(day);
            return Ok(true);
        }
        Ok(matches!(self.make_room(now, 0, None)?, Room::Made(_)))
    }

    /// Runs an operation on the file.
    fn write<T: Send + 'static>(
        &self,
        (effect, bytes): (Effect, usize),
        operation: impl FnOnce(&mut dyn Write) -> Result<T, RowError> + Send + 'static,
    ) -> Result<T, Trouble> {
        // What came before it in the step may have taken long.
        let until = self.series.mono().plus(WRITE_DEADLINE);
        let terms = Terms { until, bytes: bytes + BESIDE_BYTES, effect };
        Ok(self.series.writer().call(terms, operation)?)
    }

    /// Runs operations that add, which the writer puts into as few commits as it can. Each is kept or refused by itself.
    /// What is known of them is told also when the file failed in between.
    fn write_all<K: Send + 'static, T: Send + 'static>(
        &self,
        operations: Vec<Operation<K, T>>,
    ) -> (Outcomes<K, T>, Option<exec::Error>) {
        let until = self.series.mono().plus(WRITE_DEADLINE);
        let (tell, told) = mpsc::sync_channel(operations.len());
        let mut tickets = Vec::with_capacity(operations.len());
        let mut failed = None;
        for Operation { of, bytes, run } in operations {
            let terms = Terms { until, bytes: bytes + BESIDE_BYTES, effect: Effect::Grows };
            let tell = tell.clone();
            let reply = move |result| drop(tell.send((of, result)));
            match self.series.writer().submit(terms, run, reply) {
                Ok(ticket) => tickets.push(ticket),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(tell);
        let mut outcomes = Vec::with_capacity(tickets.len());
        // It ends when each of them was answered, or was let go with the writer.
        for (of, result) in told {
            match result {
                Ok(done) => outcomes.push((of, Ok(done))),
                Err(CallError::Refused(error)) => outcomes.push((of, Err(error))),
                Err(CallError::Failed(error)) => failed = Some(error),
            }
        }
        drop(tickets);
        (outcomes, failed)
    }

    /// Does one thing to make room for `coming` more bytes of pages, if that is needed; `day` is the one whose points they
    /// are: its raw samples do not go for them.
    fn make_room(&mut self, now: Now, coming: u64, day: Option<u32>) -> Result<Room, Trouble> {
        let (keep, now_ms) = ((self.keep)(), now.wall.unix_ms());
        let doubted = self.doubt_until.is_some_and(|until| now.mono < until);
        let (due, fits, can_roll) = self.series.with_memory(|memory| {
            let due = expire::due(memory, &keep, (!doubted).then_some(now_ms), coming);
            (due, expire::fits(memory, &keep, coming), roll::due(memory, now_ms))
        });
        let Some((tier, span, why)) = due else {
            return Ok(if fits { Room::There } else { Room::None });
        };
        let its_day = seal::day_of(span);
        if tier == Tier::Raw && can_roll == Some(its_day) && self.given_up != can_roll {
            if day == can_roll {
                return Ok(Room::None);
            }
            self.begin_roll(its_day);
            return Ok(Room::Made(None));
        }
        let left = self.write((Effect::Frees, 0), move |tx| expire::commit(tx, tier, span))?;
        self.series.with_memory(|memory| memory.expired(tier, span, left));
        if left.is_none() {
            self.series.done.gone(tier, why);
            tracing::info!(tier = tier.as_str(), span, ?why, "a span of series is gone");
        }
        Ok(Room::Made(Some((tier, span))))
    }

    /// One piece of sealing: a page of series, or some places, or the new log.
    fn seal(&mut self, now: Now, mut sealing: Sealing) -> Result<bool, Trouble> {
        if !sealing.listed {
            sealing.listed = !self.save_page()?;
            self.sealing = Some(sealing);
            return Ok(true);
        }
        self.plan_some(&mut sealing)?;
        if sealing.ready.is_empty() && sealing.left.is_empty() {
            return self.end_seal(now, sealing);
        }
        self.seal_some(now, &mut sealing)?;
        self.sealing = Some(sealing);
        Ok(true)
    }

    /// Encodes places until there is enough for one commit: series that arrive alone have a place each.
    fn plan_some(&self, sealing: &mut Sealing) -> Result<(), Trouble> {
        let most = if sealing.alone { 1 } else { KEEPER_BATCH_PLACES };
        let mut bytes: usize = sealing.ready.iter().map(|ready| bytes_of(&ready.sealed.rows)).sum();
        while bytes < KEEPER_BATCH_BYTES
            && sealing.ready.len() < most
            && let Some((place, open)) = sealing.left.pop_front()
        {
            match self.plan_seal(place, &open) {
                Ok(sealed) => {
                    bytes += bytes_of(&sealed.rows);
                    sealing.ready.push(Ready { place, open, sealed });
                }
                // What is wrong with one is not with the others.
                Err(trouble @ Trouble::Row(_)) => sealing.trouble = Some(trouble),
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }

    fn plan_seal(&self, place: Place, open: &Open) -> Result<Sealed, Trouble> {
        let above = open.slice();
        let old = self.series.writer().read(|view| seal::read(view, place, &above))?;
        let kinds = self.kinds(place.1);
        let stays = |column: u16| kinds.get(usize::from(column)).is_some_and(Option::is_some);
        let (sealed, damaged) = seal::write(place, &old, above, &stays);
        self.count_damaged(damaged);
        Ok(sealed)
    }

    /// What the values of each column of a group mean; none where there is no series.
    fn kinds(&self, group: GroupId) -> Vec<Option<Kind>> {
        self.series.with_memory(|memory| {
            let kind = |column| memory.index().at(group, column).map(|entry| entry.kind);
            (0..GROUP_SERIES_MAX).map(kind).collect()
        })
    }

    fn count_damaged(&self, damaged: u64) {
        if 0 < damaged {
            tracing::warn!(damaged, "blocks of series are damaged, and are left out");
            self.series.with_memory(|memory| memory.count_damaged(damaged));
        }
    }

    /// Writes what is ready if there is room, or makes some.
    fn seal_some(&mut self, now: Now, sealing: &mut Sealing) -> Result<(), Trouble> {
        let coming = sealing.ready.iter().map(|ready| ready.sealed.growth).sum();
        match self.make_room(now, coming, None)? {
            Room::There => self.commit_seal(sealing),
            Room::Made(gone) => {
                // What it was to take the place of may be gone, or go while a day is rolled up; then it is planned anew.
                let stays =
                    |ready: &Ready| gone.is_some_and(|gone| gone != (Tier::Raw, ready.sealed.hour));
                let (ready, stale) =
                    std::mem::take(&mut sealing.ready).into_iter().partition(stays);
                sealing.ready = ready;
                sealing.give_back(stale);
                Ok(())
            }
            Room::None if 1 < sealing.ready.len() => {
                // Of many, some may fit.
                sealing.alone = true;
                let others = sealing.ready.split_off(1);
                sealing.give_back(others);
                Ok(())
            }
            Room::None => {
                sealing.ready.clear();
                sealing.trouble = Some(Trouble::NoRoom { coming });
                Ok(())
            }
        }
    }

    /// Writes what is ready: each place by itself, all in as few commits as the writer makes of them.
    fn commit_seal(&self, sealing: &mut Sealing) -> Result<(), Trouble> {
        let ready = std::mem::take(&mut sealing.ready);
        let operations = ready.into_iter().map(|Ready { place, sealed, .. }| Operation {
            of: place,
            bytes: bytes_of(&sealed.rows),
            run: Box::new(move |tx: &mut dyn Write| seal::commit(tx, &sealed)),
        });
        let (outcomes, failed) = self.write_all(operations.collect());
        for (place, committed) in outcomes {
            match committed {
                Ok(committed) => {
                    self.series.with_memory(|memory| memory.sealed(place, committed));
                    self.series.done.sealed.fetch_add(1, Relaxed);
                }
                Err(error) => sealing.trouble = Some(Trouble::Row(error)),
            }
        }
        failed.map_or(Ok(()), |error| Err(Trouble::Writer(error)))
    }

    /// When all places are sealed: saves what changed in the list of series meanwhile, and replaces the log by what is left
    /// in memory.
    fn end_seal(&mut self, now: Now, sealing: Sealing) -> Result<bool, Trouble> {
        if self.save_page()? {
            self.sealing = Some(sealing);
            return Ok(true);
        }
        self.series.rotate(now)?;
        sealing.trouble.map_or(Ok(true), Err)
    }

    /// Saves a page of what changed in the list of series; whether there was anything.
    fn save_page(&self) -> Result<bool, Trouble> {
        let (page, next) =
            self.series.with_memory(|memory| (memory.unsaved(SAVE_ROWS), memory.next_ids()));
        if page.is_empty() {
            return Ok(false);
        }
        let bytes = |change: &SeriesChange| {
            change.entry.as_ref().map_or(0, |entry| entry.labels.as_bytes().len())
        };
        let (rows, bytes) = (page.clone(), page.iter().map(bytes).sum());
        self.write((Effect::Grows, bytes), move |tx| seal::save_series(tx, &rows, next))?;
        self.series.with_memory(|memory| memory.saved(&page));
        Ok(true)
    }

    fn begin_roll(&mut self, day: u32) {
        let (groups, ready) = (VecDeque::new(), Vec::new());
        self.rolling = Some(Rolling { day, after: None, groups, ready });
    }

    /// One piece of rolling up: the points of some groups, or a group is computed, or groups are looked up.
    fn roll(&mut self, now: Now, mut rolling: Rolling) -> Result<bool, Trouble> {
        let day = rolling.day;
        if rolling.is_full() || (rolling.groups.is_empty() && !rolling.ready.is_empty()) {
            self.commit_roll(now, &mut rolling)?;
        } else if let Some(group) = rolling.groups.pop_front() {
            rolling.ready.append(&mut self.plan_roll(day, group)?);
        } else {
            let after = rolling.after;
            let groups = self.series.writer().read(|view| roll::groups(view, day, after))?;
            let Some(last) = groups.last() else {
                self.write((Effect::Frees, 0), move |tx| roll::finish(tx, day))?;
                self.series.with_memory(|memory| memory.rolled_day(day));
                self.series.done.rolled.fetch_add(1, Relaxed);
                return Ok(true);
            };
            rolling.after = Some(*last);
            rolling.groups = groups.into();
        }
        self.rolling = Some(rolling);
        Ok(true)
    }

    fn plan_roll(&self, day: u32, group: GroupId) -> Result<Vec<Rolled>, Trouble> {
        let kinds = self.kinds(group);
        let sketch = |column: u16| {
            let kind = kinds.get(usize::from(column)).copied().flatten();
            kind.map(|kind| kind == Kind::Distribution)
        };
        let read = |body: &mut dyn FnMut(&dyn Read) -> Result<(), RowError>| {
            self.series.writer().read(|view| body(view)).map_err(|error| match error {
                CallError::Refused(error) => error,
                CallError::Failed(_) => RowError::Store(store::Error::Closed),
            })
        };
        let (rolled, damaged) = roll::plan(&read, day, group, &sketch)?;
        self.count_damaged(damaged);
        Ok(rolled)
    }

    /// Writes what is ready if there is room, or makes some.
    fn commit_roll(&mut self, now: Now, rolling: &mut Rolling) -> Result<(), Trouble> {
        // As if nothing of it were there yet: the old pages are free only after the commit.
        let coming = rolling.ready.iter().map(|rolled| expire::room_for(&rolled.rows)).sum();
        match self.make_room(now, coming, Some(rolling.day))? {
            Room::There => {}
            Room::Made(_) => return Ok(()),
            Room::None => return Err(Trouble::NoRoom { coming }),
        }
        let ready = std::mem::take(&mut rolling.ready);
        let operations = ready.into_iter().map(|rolled| Operation {
            of: (rolled.tier, rolled.span),
            bytes: bytes_of(&rolled.rows),
            run: Box::new(move |tx: &mut dyn Write| roll::commit(tx, &rolled)),
        });
        let (outcomes, failed) = self.write_all(operations.collect());
        let mut done = failed.map_or(Ok(()), |error| Err(Trouble::Writer(error)));
        for ((tier, span), row) in outcomes {
            match row {
                Ok(row) => {
                    self.series.with_memory(|memory| memory.rolled_span(tier, span, row));
                }
                Err(error) => done = Err(Trouble::Row(error)),
            }
        }
        done
    }
}

fn bytes_of(rows: &[(Vec<u8>, Vec<u8>)]) -> usize {
    rows.iter().map(|(key, value)| key.len() + value.len()).sum()
}

impl Worker for Keeper {
    fn name(&self) -> &'static str {
        "series-keeper"
    }

    fn step(&mut self, now: Now) -> Next {
        match self.piece(now) {
            Ok(true) => Next::Again,
            Ok(false) => Next::At(now.mono.plus(LOOK_EVERY)),
            Err(error) => {
                tracing::warn!(%error, "series stay as they are; it is tried again in a minute");
                Next::At(now.mono.plus(LATER))
            }
        }
    }
}

#[cfg(test)]
mod tests;
