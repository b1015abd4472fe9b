//! Sealing: what is open of some hours becomes blocks.
//!
//! ```text
//!   begin (memory: opens -> sealing) --> read, plan, per group (the file; encodes) --> commit --> sealed (memory)
//! ```
//!
//! Blocks of an hour and group are slices of time. What is sealed already of the stretch that is open, and what is behind
//! it, is written anew with what is open put over it; slices before that stay as they are, so that an hour which is sealed
//! many times, because memory is short, is not written many times. Steps are idempotent: whatever was committed before a
//! crash is written again, with the same bytes, after the log was replayed. The commit that touches an hour takes the
//! validity of its day's points with it.

use std::sync::Arc;

use super::column;
use super::expire::room_for;
use super::memory::{Memory, Place};
use super::open::{Open, Slice};
use super::rows::{
    DayRow, NextRow, RowError, SeriesRow, SpanRow, block_key, day_row, group_range, next_key,
    read_block_key, replace, set_day_row, set_series,
};
use super::{DAY_MS, GroupId, HOUR_MS, SeriesId, Tier, block, index, rows, times};
use crate::base::codec;
use crate::base::limits::{OPEN_SAMPLES_MAX, SEAL_AFTER, SLICE_ROWS_MAX};
use crate::store::{Flow, Order, Read, Table, Write};

/// The rows that one group's hour becomes.
#[derive(Debug)]
pub struct Sealed {
    /// The hour.
    pub hour: u32,
    /// The group.
    pub group: GroupId,
    /// The first slice that is written anew.
    pub from_slice: u16,
    /// Keys and values of table Raw, complete for this hour and group from that slice on, ascending.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// By so many bytes of pages the file grows when nothing else happens meanwhile.
    pub growth: u64,
}

/// What stands in the file of a stretch of an hour and group that is written anew, as it stands there.
#[derive(Debug)]
pub struct Old {
    /// The first slice of it.
    from_slice: u16,
    rows: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The last hour that ended [`SEAL_AFTER`] ago.
fn hour_due(now_ms: i64) -> Option<u32> {
    let after = i64::try_from(SEAL_AFTER.as_millis()).unwrap_or(i64::MAX);
    let at = now_ms.saturating_sub(after).max(0);
    Tier::Raw.span_of(at).checked_sub(1)
}

/// What is ready to be sealed: hours that ended [`crate::base::limits::SEAL_AFTER`] ago and everything late with them; or,
/// when memory is more than half full, everything. Moved from `opens` to `sealing`; what was left of an earlier attempt is
/// among it, and what came meanwhile for the same place stays for the next time.
pub fn begin(memory: &mut Memory, now_ms: i64) -> Vec<(Place, Arc<Open>)> {
    let due = hour_due(now_ms).filter(|_| is_hour_due(memory, now_ms));
    let pressed = is_pressed(memory);
    let is_ready = |place: &Place| pressed || due.is_some_and(|due| place.0 <= due);
    let mut stay = std::mem::take(&mut memory.opens);
    let mut behind = false;
    for (place, open) in std::mem::take(&mut stay) {
        let ready = is_ready(&place);
        if ready && !memory.sealing.contains_key(&place) {
            memory.sealing.insert(place, Arc::new(open));
        } else {
            behind |= ready;
            memory.opens.insert(place, open);
        }
    }
    if let Some(due) = due
        && !behind
    {
        memory.sealed_until = Some(due);
    }
    memory.sealing.iter().map(|(place, open)| (*place, Arc::clone(open))).collect()
}

/// Whether [`begin`] would find something.
pub fn is_due(memory: &Memory, now_ms: i64) -> bool {
    !memory.sealing.is_empty() || is_pressed(memory) || is_hour_due(memory, now_ms)
}

/// Whether memory is more than half full.
pub fn is_pressed(memory: &Memory) -> bool {
    OPEN_SAMPLES_MAX / 2 < memory.open_weight() && !memory.opens.is_empty()
}

/// Whether an hour ended that was not looked at since. Samples that are late beyond that wait for the next hour: an hour
/// would be written again for each of them.
fn is_hour_due(memory: &Memory, now_ms: i64) -> bool {
    let due = hour_due(now_ms).filter(|due| memory.sealed_until.is_none_or(|until| until < *due));
    let first = memory.opens.first_key_value().map(|(place, _)| place.0);
    due.is_some_and(|due| first.is_some_and(|first| first <= due))
}

/// Reads what is sealed of that hour and group, puts `open` over it, and encodes it. Columns for which `stays` says no
/// (their series are deleted) are left out. A block that is damaged is left out, and counted in the second value.
pub fn plan(
    view: &dyn Read,
    place: Place,
    open: &Open,
    stays: &dyn Fn(u16) -> bool,
) -> Result<(Sealed, u64), RowError> {
    let above = open.slice();
    let old = read(view, place, &above)?;
    Ok(write(place, &old, above, stays))
}

/// Reads what has to be written anew when `above` is sealed: the short part of [`plan`], which needs a view.
pub fn read(view: &dyn Read, place: Place, above: &Slice) -> Result<Old, RowError> {
    let (hour, group) = place;
    let mut from_slice = 0;
    let all = group_range(hour, group, 0);
    view.scan(Table::Raw, &all, Order::Reverse, &mut |key, _| {
        from_slice = read_block_key(key).map_or(0, |(_, _, slice, _)| slice.saturating_add(1));
        Flow::Stop
    })?;
    let first = above.times.first().copied();
    while 0 < from_slice && first.is_some() {
        let row = view.get(Table::Raw, &block_key(hour, group, from_slice - 1, 0))?;
        // Slices whose moments are lost go: nothing could be told of them.
        let times = row.and_then(|row| read_times(&row).ok());
        let before = times.as_ref().is_some_and(|times| times.last().copied() < first);
        let full = times.is_some_and(|times| SLICE_ROWS_MAX <= times.len());
        if before && full {
            break;
        }
        from_slice -= 1;
        if before {
            break;
        }
    }
    let mut rows = Vec::new();
    let range = group_range(hour, group, from_slice);
    view.scan(Table::Raw, &range, Order::Forward, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        Flow::On
    })?;
    Ok(Old { from_slice, rows })
}

/// Puts `above` over what was read, and encodes it: the long part of [`plan`].
pub fn write(place: Place, old: &Old, above: Slice, stays: &dyn Fn(u16) -> bool) -> (Sealed, u64) {
    let (hour, group) = place;
    let (mut slice, damaged) = decode(old);
    slice.overlay(above);
    slice.retain(stays);
    let mut rows = Vec::new();
    for (number, slice) in (old.from_slice..).zip(slice.cut(SLICE_ROWS_MAX)) {
        encode(&slice, (hour, group, number), &mut rows);
    }
    let growth = room_for(&rows).saturating_sub(room_for(&old.rows));
    (Sealed { hour, group, from_slice: old.from_slice, rows, growth }, damaged)
}

fn read_times(value: &[u8]) -> Result<Vec<i64>, block::Spoilt> {
    times::decode(&block::unseal(value)?)
}

/// The samples of rows that ascend, and how many pieces of them are damaged.
fn decode(old: &Old) -> (Slice, u64) {
    let (mut all, mut damaged) = (Slice::default(), 0);
    let mut rows = old.rows.iter().peekable();
    while let Some((key, value)) = rows.next() {
        let Ok((_, _, number, part)) = read_block_key(key) else {
            damaged += 1;
            continue;
        };
        // Slices follow each other in time; one that does not would be read wrongly.
        let times = read_times(value).ok().filter(|times| all.times.last() < times.first());
        let times = times.filter(|_| part == 0).unwrap_or_default();
        let mut slice = Slice { times, ..Slice::default() };
        damaged += u64::from(slice.times.is_empty());
        let is_its = |key: &[u8]| {
            read_block_key(key).is_ok_and(|(_, _, its, part)| its == number && part != 0)
        };
        while let Some((_, value)) = rows.next_if(|(key, _)| is_its(key)) {
            if !slice.times.is_empty() {
                damaged += decode_part(value, &mut slice);
            }
        }
        append(&mut all, slice);
    }
    (all, damaged)
}

/// Adds the columns of a part to their slice; how many pieces are damaged.
fn decode_part(value: &[u8], slice: &mut Slice) -> u64 {
    let rows_in_slice = u32::try_from(slice.times.len()).unwrap_or(0);
    let Ok(part) = block::Opened::open(value) else {
        return 1;
    };
    let mut damaged = 0;
    for (column, mut bytes) in part.columns() {
        match column::decode(&mut bytes, rows_in_slice) {
            Ok(decoded) if column < u16::MAX => drop(slice.columns.insert(column, decoded)),
            _ => damaged += 1,
        }
    }
    damaged
}

/// Puts a slice behind all others.
fn append(all: &mut Slice, slice: Slice) {
    let before = u32::try_from(all.times.len()).expect("BUG: an hour has 3,600,000 moments");
    all.times.extend(slice.times);
    for (column, cells) in slice.columns {
        let column = all.columns.entry(column).or_default();
        cells.cells().for_each(|(row, value)| column.push(before + row, value));
    }
}

/// Encodes a slice: its moments, then its columns in parts.
fn encode(
    slice: &Slice,
    (hour, group, number): (u32, GroupId, u16),
    rows: &mut Vec<(Vec<u8>, Vec<u8>)>,
) {
    let rows_in_slice = u32::try_from(slice.times.len()).expect("BUG: a slice is short");
    let mut bytes = Vec::new();
    times::encode(&slice.times, &mut bytes);
    rows.push((block_key(hour, group, number, 0), block::seal(&bytes)));
    let columns: Vec<(u16, Vec<u8>)> = slice
        .columns
        .iter()
        .filter(|(_, column)| !column.values.is_empty())
        .map(|(number, column)| {
            let mut bytes = Vec::new();
            column::encode(column, rows_in_slice, &mut bytes);
            (*number, bytes)
        })
        .collect();
    for part in block::parts(&columns) {
        rows.push((block_key(hour, group, number, part.first + 1), part.bytes));
    }
}

/// Writes it: the old rows of that hour and group go, the new ones come, the span and the day are noted. One operation of
/// the writer. Bounded by the size of a group's hour.
pub fn commit(tx: &mut dyn Write, sealed: &Sealed) -> Result<Committed, RowError> {
    let (hour, day) = (sealed.hour, day_of(sealed.hour));
    let span = replace(tx, Tier::Raw, (hour, sealed.group, sealed.from_slice), &sealed.rows)?;
    let row = day_row(&*tx, day)?;
    // Where raw samples went before, the points of this hour are all that is left of them: they are worth more than one
    // that is late.
    let day_stays = row.is_some_and(|row| row.valid && hour_of_day(hour) < row.cut);
    if let Some(row) = row
        && row.valid
        && !day_stays
    {
        set_day_row(tx, day, DayRow { valid: false, ..row })?;
    }
    Ok(Committed { hour, span, day_stays })
}

/// The day of an hour.
pub fn day_of(hour: u32) -> u32 {
    hour / u32::try_from(DAY_MS / HOUR_MS).expect("BUG: 24")
}

/// Which hour of its day it is.
pub(super) fn hour_of_day(hour: u32) -> u8 {
    u8::try_from(hour % 24).expect("BUG: a day has 24 hours")
}

/// What a commit changed, for memory: see [`Memory::sealed`].
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// The hour.
    pub hour: u32,
    /// What its span holds now.
    pub span: SpanRow,
    /// The points of its day are as valid as they were: those of the hour cannot be computed anew.
    pub day_stays: bool,
}

/// Writes rows of series that are new, changed or deleted (at most so many at once), and the ids that come next; those that
/// were written. One operation of the writer.
pub fn save_series(
    tx: &mut dyn Write,
    rows: &[SeriesChange],
    next: (u32, u32),
) -> Result<(), RowError> {
    for change in rows {
        let row = change.entry.as_ref().map(|entry| SeriesRow {
            tenant: entry.tenant.raw(),
            group: entry.group.0,
            column: entry.column,
            kind: entry.kind as u8,
            labels: entry.labels.as_bytes().to_vec(),
        });
        set_series(tx, change.id, row.as_ref())?;
    }
    let next = codec::encode(&NextRow { series: next.0, group: next.1 });
    tx.put(Table::Meta, &next_key(), &next.map_err(rows::Damaged::from)?)?;
    Ok(())
}

/// A row of a series as it shall be; none when it is gone.
#[derive(Clone, Debug)]
pub struct SeriesChange {
    /// Which.
    pub id: SeriesId,
    /// As it is.
    pub entry: Option<index::Entry>,
}

impl Memory {
    /// Series whose rows have to be written, at most `max`.
    pub fn unsaved(&self, max: usize) -> Vec<SeriesChange> {
        let change = |id: &SeriesId| SeriesChange { id: *id, entry: self.index.get(*id).cloned() };
        self.unsaved.iter().take(max).map(change).collect()
    }

    /// The ids that come next, for [`save_series`].
    pub fn next_ids(&self) -> (u32, u32) {
        (self.next_series, self.next_group)
    }

    /// These rows were written as they are in `saved`. What changed since then stays to be written.
    pub fn saved(&mut self, saved: &[SeriesChange]) {
        for change in saved {
            if self.index.get(change.id) == change.entry.as_ref() {
                self.unsaved.remove(&change.id);
            }
        }
    }

    /// A place was sealed by a commit.
    pub fn sealed(&mut self, place: Place, committed: Committed) {
        if let Some(open) = self.sealing.remove(&place) {
            self.samples = self.samples.saturating_sub(open.samples());
        }
        self.set_span((Tier::Raw, committed.hour), committed.span);
        if !committed.day_stays {
            self.rolled.remove(&day_of(committed.hour));
        }
    }

    /// Somebody read blocks that were damaged.
    pub fn count_damaged(&mut self, blocks: u64) {
        self.counts.damaged += blocks;
    }

    /// Notes what a span holds; one without rows is none.
    pub(super) fn set_span(&mut self, key: (Tier, u32), row: SpanRow) {
        if row.rows == 0 {
            self.spans.remove(&key);
        } else {
            self.spans.insert(key, row);
        }
    }
}

#[cfg(test)]
mod tests;
