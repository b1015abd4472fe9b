//! Rolling up: a day of raw samples becomes points of five minutes, an hour and a day.
//!
//! A day is rolled up when it has ended and nothing of it is open; again, when something late was sealed. Group by group:
//! reads the day's raw blocks, computes, and replaces the group's points of that day in each tier. The last step of a day
//! makes it valid. Steps are idempotent; a crash in their midst leaves the day as it was: not valid.
//!
//! ```text
//!   raw hours of the day --> five minutes --joined--> an hour, a day
//!                                 |                        |
//!                  of hours whose raw samples went:        with the other days' points of the span
//!                  the points that are there               (a week, four weeks), which stay as they are
//! ```
//!
//! Columns are taken a few hundred at a time, so that memory is bounded whatever a group has. Points of a span stand in one
//! slice; those of a column that take more than a part goes on in the next slice, each with the same head.
//!
//! Between [`plan`] and [`finish`] of a day nothing of it may be sealed or expire: whoever does that begins the day anew.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Range;

use super::block::{self, Opened, Spoilt};
use super::memory::Memory;
use super::point::{self, Common, Point};
use super::rows::{
    DayRow, RowError, SpanRow, block_key, day_row, group_range, read_block_key, replace,
    set_day_row,
};
use super::seal::{day_of, hour_of_day};
use super::{DAY_MS, GroupId, HOUR_MS, Tier, column, times};
use crate::base::limits::{
    PART_BYTES_MAX, ROLL_AFTER, ROLL_COLUMNS, ROLL_GROUPS_PAGE, ROLL_VIEW_ROWS,
};
use crate::store::{Flow, KeyRange, Order, Read, Table, Write};

/// The rows of points of one group and day in one tier.
#[derive(Debug)]
pub struct Rolled {
    /// The tier.
    pub tier: Tier,
    /// The span: for longer spans than a day it has the points of the other days too.
    pub span: u32,
    /// The group.
    pub group: GroupId,
    /// Keys and values, complete for this span and group, ascending.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Runs its argument on a view.
pub type Views<'v> =
    dyn Fn(&mut dyn FnMut(&dyn Read) -> Result<(), RowError>) -> Result<(), RowError> + 'v;

/// The points of a chunk's columns, each with its step, or with its moment.
/// Looks at a column, with the head of its slice.
type EachColumn<'e, H> = dyn FnMut(&H, u16, &[u8]) -> Result<(), Spoilt> + 'e;

type Points<K> = BTreeMap<u16, Vec<(K, Point)>>;

/// What a column may take, so that a part that has it alone is not longer than parts are, even if it is not compressed.
const COLUMN_BYTES_MAX: usize = PART_BYTES_MAX - 64;

/// The earliest day that can be rolled up now, if any: it ended [`ROLL_AFTER`] ago, has raw blocks, is not valid, and nothing
/// of it is open.
pub fn due(memory: &Memory, now_ms: i64) -> Option<u32> {
    let after = i64::try_from(ROLL_AFTER.as_millis()).unwrap_or(i64::MAX);
    let raw = memory.spans.range((Tier::Raw, 0)..=(Tier::Raw, u32::MAX));
    raw.map(|((_, hour), _)| day_of(*hour))
        .take_while(|day| start_of(day + 1).saturating_add(after) <= now_ms)
        .find(|day| !memory.rolled.contains(day) && !memory.is_open(*day))
}

const HOURS: u32 = 24;
const _: () = assert!(HOURS == 24 && HOUR_MS * 24 == DAY_MS);

/// When a day begins.
fn start_of(day: u32) -> i64 {
    i64::from(day) * DAY_MS
}

/// The groups that have raw blocks on that day, above `after`; a page of them. None is left when it is empty.
pub fn groups(view: &dyn Read, day: u32, after: Option<GroupId>) -> Result<Vec<GroupId>, RowError> {
    let first = match after {
        None => 0,
        Some(GroupId(u32::MAX)) => return Ok(Vec::new()),
        Some(GroupId(after)) => after + 1,
    };
    let mut found = BTreeSet::new();
    for hour in day * HOURS..(day + 1) * HOURS {
        // The smallest of all are among the smallest of each hour.
        let mut next = Some(GroupId(first));
        for _ in 0..ROLL_GROUPS_PAGE {
            let Some(from) = next else { break };
            let Some(group) = group_from(view, hour, from)? else { break };
            found.insert(group);
            next = group.0.checked_add(1).map(GroupId);
        }
    }
    Ok(found.into_iter().take(ROLL_GROUPS_PAGE).collect())
}

/// The first group of an hour from this one on.
fn group_from(view: &dyn Read, hour: u32, from: GroupId) -> Result<Option<GroupId>, RowError> {
    let end = group_range(hour, GroupId(u32::MAX), 0).to;
    let range = KeyRange { from: block_key(hour, from, 0, 0), to: end };
    let mut group = None;
    view.scan(Table::Raw, &range, Order::Forward, &mut |key, _| {
        // A key that is not one is behind or before all groups, or within one.
        group = read_block_key(key).ok().map(|(_, group, ..)| group);
        if group.is_some() { Flow::Stop } else { Flow::On }
    })?;
    Ok(group)
}

/// Computes a group's day. `sketch` says of a column whether its points carry a sketch; `None` for a column whose series is
/// deleted. Reads in views of one hour each (`read` runs its argument on a view). What is damaged is left out, and counted in
/// the second value.
pub fn plan(
    read: &Views<'_>,
    day: u32,
    group: GroupId,
    sketch: &dyn Fn(u16) -> Option<bool>,
) -> Result<(Vec<Rolled>, u64), RowError> {
    let mut chunk = Chunk { columns: 0..ROLL_COLUMNS, more: false, damaged: 0 };
    let mut cut = 0;
    read(&mut |view| {
        cut = day_row(view, day)?.map_or(0, |row| row.cut);
        Ok(())
    })?;
    let source = Source { read, group, sketch, cut };
    let mut hours = Vec::new();
    for hour in day * HOURS..(day + 1) * HOURS {
        hours.push(source.stock(Tier::Raw, hour, &mut chunk)?);
    }
    let mut tiers = Vec::new();
    for tier in Tier::POINTS {
        let old = source.stock(tier, tier.span_of(start_of(day)), &mut chunk)?;
        tiers.push(Anew { old, common: None, slices: Vec::new() });
    }
    loop {
        chunk.more = false;
        let fine = source.fine(&hours, &tiers[0].old, &mut chunk)?;
        for anew in &mut tiers {
            let mut points = source.others(&anew.old, day, &mut chunk)?;
            anew.old.put(&fine, &mut points);
            anew.add(&points);
        }
        if !chunk.more {
            break;
        }
        chunk.columns = chunk.columns.end..chunk.columns.end + ROLL_COLUMNS;
    }
    Ok((tiers.into_iter().map(|anew| anew.finish(group)).collect(), chunk.damaged))
}

/// Columns that are taken at once.
struct Chunk {
    columns: Range<u32>,
    /// There are columns behind them.
    more: bool,
    /// How many pieces could not be read, in all chunks.
    damaged: u64,
}

impl Chunk {
    /// Notes that a part cannot be read: in the chunk of its first column alone.
    fn note_part(&mut self, part: u16) {
        let first = u32::from(part.saturating_sub(1));
        self.damaged += u64::from(self.columns.contains(&first));
    }

    /// Shows the columns of these rows that are of the chunk, each with the head of its slice.
    fn each_column<H>(
        &mut self,
        rows: &[Row],
        read_head: &mut dyn FnMut(&[u8]) -> Result<H, Spoilt>,
        each: &mut EachColumn<'_, H>,
    ) {
        let mut head = None;
        for row in rows {
            if row.part == 0 {
                let read = block::unseal(&row.value).and_then(|bytes| read_head(&bytes));
                if read.is_err() {
                    self.note_part(row.part);
                }
                head = read.ok().map(|head| (row.slice, head));
            } else if let Some((_, head)) = head.as_ref().filter(|(slice, _)| *slice == row.slice) {
                self.each_of(row, head, each);
            }
        }
    }

    /// Shows the columns of a part that are of the chunk.
    fn each_of<H>(&mut self, row: &Row, head: &H, each: &mut EachColumn<'_, H>) {
        let Ok(part) = Opened::open(&row.value) else {
            return self.note_part(row.part);
        };
        for (column, bytes) in part.columns().filter(|(column, _)| *column < u16::MAX) {
            let number = u32::from(column);
            self.more |= self.columns.end <= number;
            if self.columns.contains(&number) && each(head, column, bytes).is_err() {
                self.damaged += 1;
            }
        }
    }
}

/// The rows that a group has in a span: slice and part, ascending.
struct Stock {
    tier: Tier,
    span: u32,
    rows: Vec<(u16, u16)>,
}

impl Stock {
    /// Heads, and the parts that may have columns of the chunk; whether there are columns behind it is noted.
    fn wanted(&self, chunk: &mut Chunk) -> Vec<(u16, u16)> {
        let mut wanted = Vec::new();
        for (at, &(slice, part)) in self.rows.iter().enumerate() {
            let Some(first) = part.checked_sub(1).map(u32::from) else {
                wanted.push((slice, part));
                continue;
            };
            let next = self.rows.get(at + 1).filter(|next| next.0 == slice);
            let reaches = next.is_none_or(|next| chunk.columns.start + 1 < u32::from(next.1));
            chunk.more |= chunk.columns.end <= first;
            if first < chunk.columns.end && reaches {
                wanted.push((slice, part));
            }
        }
        wanted
    }

    /// When the span begins.
    fn start_ms(&self) -> i64 {
        self.tier.span_start(self.span)
    }

    /// When a step begins.
    fn moment(&self, step: u32) -> i64 {
        self.start_ms() + i64::from(step) * self.tier.step_ms()
    }

    /// Puts the points of a day, made of those of five minutes, among the others of the span.
    fn put(&self, fine: &Points<i64>, points: &mut Points<u32>) {
        for (column, fine) in fine {
            let its = points.entry(*column).or_default();
            for (at_ms, point) in point::joined(fine, self.tier.step_ms()) {
                let step = (at_ms - self.start_ms()) / self.tier.step_ms();
                its.push((u32::try_from(step).expect("BUG: a span is short"), point));
            }
            its.sort_by_key(|(step, _)| *step);
        }
    }
}

/// A row that was copied.
struct Row {
    slice: u16,
    part: u16,
    value: Vec<u8>,
}

/// Where a plan reads.
struct Source<'s> {
    read: &'s Views<'s>,
    group: GroupId,
    sketch: &'s dyn Fn(u16) -> Option<bool>,
    /// Of so many hours, the first of the day, raw samples went.
    cut: u8,
}

impl Source<'_> {
    /// What there is of the group in a span.
    fn stock(&self, tier: Tier, span: u32, chunk: &mut Chunk) -> Result<Stock, RowError> {
        let mut range = group_range(span, self.group, 0);
        let mut stock = Stock { tier, span, rows: Vec::new() };
        loop {
            let (mut shown, mut next) = (0, None);
            (self.read)(&mut |view| {
                view.scan(tier.table(), &range, Order::Forward, &mut |key, _| {
                    if shown == ROLL_VIEW_ROWS {
                        next = Some(key.to_vec());
                        return Flow::Stop;
                    }
                    shown += 1;
                    match read_block_key(key) {
                        Ok((_, _, slice, part)) => stock.rows.push((slice, part)),
                        Err(_) => chunk.damaged += 1,
                    }
                    Flow::On
                })?;
                Ok(())
            })?;
            match next {
                Some(next) => range.from = next,
                None => return Ok(stock),
            }
        }
    }

    /// Copies what is wanted of a stock.
    fn copy(&self, stock: &Stock, chunk: &mut Chunk) -> Result<Vec<Row>, RowError> {
        let mut rows = Vec::new();
        for page in stock.wanted(chunk).chunks(ROLL_VIEW_ROWS) {
            (self.read)(&mut |view| {
                for &(slice, part) in page {
                    let key = block_key(stock.span, self.group, slice, part);
                    if let Some(value) = view.get(stock.tier.table(), &key)? {
                        rows.push(Row { slice, part, value });
                    }
                }
                Ok(())
            })?;
        }
        Ok(rows)
    }

    /// The points that are there of a chunk's columns.
    fn points(&self, stock: &Stock, chunk: &mut Chunk) -> Result<Points<u32>, RowError> {
        let rows = self.copy(stock, chunk)?;
        let mut all = Points::new();
        chunk.each_column(
            &rows,
            &mut |head| Common::decode(head, stock.start_ms(), stock.tier.step_ms()),
            &mut |common, column, bytes| {
                if (self.sketch)(column).is_none() {
                    return Ok(());
                }
                let points = point::decode(bytes, common)?;
                let its: &mut Vec<(u32, Point)> = all.entry(column).or_default();
                let first = points.first().map(|(step, _)| *step);
                if its.last().is_some_and(|(last, _)| first <= Some(*last)) {
                    return Err(Spoilt("slices of points do not ascend"));
                }
                its.extend(points);
                Ok(())
            },
        );
        Ok(all)
    }

    /// The points of the span that are of other days: they stay as they are.
    fn others(&self, stock: &Stock, day: u32, chunk: &mut Chunk) -> Result<Points<u32>, RowError> {
        if stock.tier.span_ms() <= DAY_MS {
            return Ok(Points::new());
        }
        let mut points = self.points(stock, chunk)?;
        let is_of = |step: u32| (start_of(day)..start_of(day + 1)).contains(&stock.moment(step));
        for its in points.values_mut() {
            its.retain(|(step, _)| !is_of(*step));
        }
        Ok(points)
    }

    /// The points of five minutes of a chunk's columns: of raw samples, and for hours of which they went (they are too old,
    /// or there was no room) those that are there. What is late of such an hour is not all there was.
    fn fine(
        &self,
        hours: &[Stock],
        old: &Stock,
        chunk: &mut Chunk,
    ) -> Result<Points<i64>, RowError> {
        let mut fine = Points::new();
        let is_gone = |hour: &Stock| hour.rows.is_empty() || hour_of_day(hour.span) < self.cut;
        if hours.iter().any(is_gone) {
            let gone: BTreeSet<u32> =
                hours.iter().filter(|hour| is_gone(hour)).map(|hour| hour.span).collect();
            for (column, points) in self.points(old, chunk)? {
                let moments = points.into_iter().map(|(step, point)| (old.moment(step), point));
                let stay = moments.filter(|(at_ms, _)| gone.contains(&Tier::Raw.span_of(*at_ms)));
                fine.insert(column, stay.collect());
            }
        }
        for hour in hours {
            let range = hour.start_ms()..hour.start_ms() + HOUR_MS;
            let known = fine
                .iter()
                .filter(|(_, points)| points.iter().any(|(at_ms, _)| range.contains(at_ms)));
            let known: BTreeSet<u16> = known.map(|(column, _)| *column).collect();
            let rows = self.copy(hour, chunk)?;
            self.add_samples((hour, &rows), &known, chunk, &mut fine);
        }
        for points in fine.values_mut() {
            points.sort_by_key(|(at_ms, _)| *at_ms);
        }
        Ok(fine)
    }

    /// Adds the raw samples of an hour; not those of columns whose points of it are known.
    fn add_samples(
        &self,
        (hour, rows): (&Stock, &[Row]),
        known: &BTreeSet<u16>,
        chunk: &mut Chunk,
        fine: &mut Points<i64>,
    ) {
        let mut from_ms = hour.start_ms();
        let to_ms = from_ms + HOUR_MS;
        chunk.each_column(
            rows,
            &mut |head| {
                let times = times::decode(head)?;
                let (Some(first), Some(last)) = (times.first(), times.last()) else {
                    return Err(Spoilt("a slice has no moments"));
                };
                if *first < from_ms || to_ms <= *last {
                    return Err(Spoilt("moments are not those of their slice"));
                }
                from_ms = last + 1;
                Ok(times)
            },
            &mut |times, column, mut bytes| {
                let Some(sketch) = (self.sketch)(column).filter(|_| !known.contains(&column))
                else {
                    return Ok(());
                };
                let rows = u32::try_from(times.len()).unwrap_or(u32::MAX);
                let cells = column::decode(&mut bytes, rows)?;
                let points = fine.entry(column).or_default();
                for (row, value) in cells.cells() {
                    point::add_sample(points, (times[row as usize], value), sketch);
                }
                Ok(())
            },
        );
    }
}

/// The rows of a span that is written anew.
struct Anew {
    old: Stock,
    /// What the first columns have in common; the others are not much different.
    common: Option<Common>,
    /// Columns that ascend, encoded.
    slices: Vec<Vec<(u16, Vec<u8>)>>,
}

impl Anew {
    /// Adds columns behind those that are there.
    fn add(&mut self, points: &Points<u32>) {
        let (start_ms, step_ms) = (self.old.start_ms(), self.old.tier.step_ms());
        let having = || points.iter().filter(|(_, points)| !points.is_empty());
        if self.common.is_none() && having().next().is_some() {
            let series = having().map(|(_, points)| points.as_slice());
            self.common = Some(Common::of(start_ms, step_ms, series));
        }
        let Some(common) = &self.common else { return };
        for (column, points) in having() {
            for (slice, bytes) in pieces(points, common).into_iter().enumerate() {
                if self.slices.len() == slice {
                    self.slices.push(Vec::new());
                }
                self.slices[slice].push((*column, bytes));
            }
        }
    }

    fn finish(self, group: GroupId) -> Rolled {
        let (tier, span) = (self.old.tier, self.old.span);
        let mut rows = Vec::new();
        let mut head = Vec::new();
        if let Some(common) = &self.common {
            common.encode(&mut head);
        }
        for (slice, columns) in (0_u16..).zip(&self.slices) {
            rows.push((block_key(span, group, slice, 0), block::seal(&head)));
            for part in block::parts(columns) {
                rows.push((block_key(span, group, slice, part.first + 1), part.bytes));
            }
        }
        Rolled { tier, span, group, rows }
    }
}

/// The points of a column, encoded, in as many pieces as none is too long.
fn pieces(points: &[(u32, Point)], common: &Common) -> Vec<Vec<u8>> {
    let mut length = points.len();
    loop {
        let encoded = |points: &[(u32, Point)]| {
            let mut bytes = Vec::new();
            point::encode(points, common, &mut bytes);
            bytes
        };
        let pieces: Vec<Vec<u8>> = points.chunks(length).map(encoded).collect();
        if length == 1 || pieces.iter().all(|piece| piece.len() <= COLUMN_BYTES_MAX) {
            return pieces;
        }
        length = length.div_ceil(2);
    }
}

/// Replaces the points. One operation of the writer; what the span holds then. Done twice it is the same as done once.
pub fn commit(tx: &mut dyn Write, rolled: &Rolled) -> Result<SpanRow, RowError> {
    replace(tx, rolled.tier, (rolled.span, rolled.group, 0), &rolled.rows)
}

/// Makes a day valid. One operation of the writer.
pub fn finish(tx: &mut dyn Write, day: u32) -> Result<(), RowError> {
    let cut = day_row(&*tx, day)?.map_or(0, |row| row.cut);
    set_day_row(tx, day, DayRow { valid: true, cut })
}

impl Memory {
    /// A tier's span was written by a commit.
    pub fn rolled_span(&mut self, tier: Tier, span: u32, row: SpanRow) {
        self.set_span((tier, span), row);
    }

    /// A day is valid.
    pub fn rolled_day(&mut self, day: u32) {
        self.rolled.insert(day);
    }
}

#[cfg(test)]
mod tests;
