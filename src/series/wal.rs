//! Frames of series.wal: bytes in, bytes out.
//!
//! ```text
//! file   [magic 8 bytes, with the version] frame*
//! frame  [length u32][crc32c of the bytes, u32] bytes         length and crc little-endian
//! bytes  entry*
//! entry  Define 0 | id tenant group column kind length labels
//!        Kind   1 | id kind
//!        Delete 2 | id
//!        Row    3 + flags | group time columns? changes values
//!
//! time     by how much the row's distance from the last one of its group is another than that one's was, zigzag
//! columns  how many runs, then for each how many columns are skipped and how many follow; absent if they are those of
//!          the row before
//! changes  which cells changed now and not in the row before, or the other way round (of a row with other columns than the
//!          one before: which changed): none, all, a bit each, or a list of gaps
//! value    the difference of scaled decimals (or of pages), zigzag; or the bytes in which it differs; or anew, with how it
//!          is to be read
//! ```
//!
//! Numbers are variable in length, 7 bits a byte, low ones first. Values are written relative to the last one of their
//! place (group and column) in this file, and moments relative to the last row of their group: a row of a group that did not
//! change is a few bytes. So a frame can be read only behind those before it. A file is read up to the first frame that is
//! cut or damaged. What follows a cut was never acknowledged; what follows damage was, and cannot be used, whole or not: it
//! is relative to what is lost. So [`Found`] tells the two apart, and whoever owns the file keeps a damaged one. Places are not given to other series while
//! a file lasts, and if they were, both sides would still agree: a value says how to change what stands there.

use std::collections::BTreeMap;

use super::index::Entry;
use super::labels::Labels;
use super::{GroupId, Kind, SeriesId};
use crate::base::id::TenantId;
use crate::base::limits::{FRAME_BYTES_MAX, GROUP_SERIES_MAX};
use crate::base::time::Timestamp;

/// A row: the samples of one group at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The group.
    pub group: GroupId,
    /// The moment.
    pub at_ms: i64,
    /// Columns and their values; columns ascend.
    pub cells: Vec<(u16, f64)>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// There is a new series.
    Define(Entry),
    /// Its values mean something else than was thought.
    Kind(SeriesId, Kind),
    /// A series is gone.
    Delete(SeriesId),
    /// Samples came.
    Row(Row),
}

/// What a file begins with.
pub const MAGIC: [u8; 8] = *b"hfwal\x00\x00\x01";

/// Before the bytes of a frame.
const HEAD_BYTES: usize = 8;
/// No entry is longer: the labels of a series are below 40 KiB, a row has 1,024 cells of at most 16 bytes.
const ENTRY_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(2 * ENTRY_BYTES_MAX <= FRAME_BYTES_MAX);
const _: () =
    assert!(16 * (GROUP_SERIES_MAX as usize) + 8 * (GROUP_SERIES_MAX as usize) < ENTRY_BYTES_MAX);

const DEFINE: u8 = 0;
const KIND: u8 = 1;
const DELETE: u8 = 2;
const ROW: u8 = 3;
/// A row has the columns of the row before.
const COLUMNS_AS_BEFORE: u8 = 4;
/// Which cells changed, above all other flags.
const CHANGES: u8 = 3;
const NONE: u8 = 0;
const ALL: u8 = 1 << CHANGES;
const BITS: u8 = 2 << CHANGES;
const GAPS: u8 = 3 << CHANGES;

/// The decimals that are tried.
const EXPONENT_MAX: u8 = 12;
/// Above all exponents: not a decimal but a number of pages, as memory is measured.
const PAGES: u8 = EXPONENT_MAX + 1;
const PAGE_BYTES: i64 = 4096;
/// In place of an exponent: values differ in bytes.
const BYTES: u8 = 0xff;
/// Integers up to here are exact.
const EXACT_MAX: i64 = 1 << 53;
/// Values are integers divided by one of these.
const UNITS: [f64; 14] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1.0 / 4096.0];

/// The last value of a place, and how the next one is told.
#[derive(Clone, Copy, Debug)]
struct Slot {
    bits: u64,
    /// The scaled decimal, if it is told as one.
    scaled: i64,
    /// The unit, or [`BYTES`].
    how: u8,
}

impl Slot {
    const fn new() -> Slot {
        Slot { bits: 0, scaled: 0, how: 0 }
    }
}

/// What is known of a group.
#[derive(Debug, Default)]
struct GroupState {
    at_ms: i64,
    distance: i64,
    columns: Vec<u16>,
    /// Whether the cell of each of them changed in the last row.
    changed: Vec<bool>,
    slots: Vec<Slot>,
}

impl GroupState {
    /// Slots for other columns than before.
    fn reach(&mut self) {
        self.changed.clear();
        self.changed.resize(self.columns.len(), false);
        let end = self.columns.last().map_or(0, |last| usize::from(*last) + 1);
        if self.slots.len() < end {
            self.slots.resize(end, Slot::new());
        }
    }
}

/// What both sides know.
#[derive(Debug, Default)]
struct State {
    groups: BTreeMap<GroupId, GroupState>,
}

/// The integer that gives this value when it is divided by the unit, if there is one.
fn scaled(value: f64, unit: u8) -> Option<i64> {
    let rounded = (value * UNITS[usize::from(unit)]).round();
    // NaN is not among them.
    if !(-9_007_199_254_740_992.0..=9_007_199_254_740_992.0).contains(&rounded) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is an integer of at most 53 bits")]
    let integer = rounded as i64;
    (unscaled(integer, unit).to_bits() == value.to_bits()).then_some(integer)
}

#[expect(clippy::cast_precision_loss, reason = "writers use integers of at most 53 bits")]
fn unscaled(integer: i64, unit: u8) -> f64 {
    integer as f64 / UNITS[usize::from(unit)]
}

/// How to tell a value whose slot does not say: a unit and an integer, if one is worth its while.
fn anew(value: f64) -> Option<(u8, i64)> {
    // What needs no more digits than this is found with as many; and most that is no decimal is known at once.
    if value.abs() < 2000.0 && scaled(value, EXPONENT_MAX).is_none() {
        return None;
    }
    let found = (0..=EXPONENT_MAX).find_map(|unit| Some((unit, scaled(value, unit)?)));
    // No decimal that has as many digits as a float is.
    found.filter(|(_, integer)| integer.abs() < 1 << 48)
}

/// Whether a value that changed by so much is better told in pages from now on.
const fn is_pages(slot: &Slot, integer: i64) -> bool {
    slot.how == 0
        && integer % PAGE_BYTES == 0
        && slot.scaled % PAGE_BYTES == 0
        && 1 << 13 <= (integer - slot.scaled).abs()
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while 0x80 <= number {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Writes frames. Knows what was written before in the same file.
#[derive(Debug, Default)]
pub struct Encoder {
    state: State,
}

impl Encoder {
    /// Appends one frame that holds `items`. Frames are bounded by [`FRAME_BYTES_MAX`]: what is more is put into several.
    pub fn frame(&mut self, items: &[Item], out: &mut Vec<u8>) {
        let mut items = items.iter().peekable();
        while items.peek().is_some() {
            let start = out.len();
            out.extend_from_slice(&[0; HEAD_BYTES]);
            while out.len() - start <= FRAME_BYTES_MAX - ENTRY_BYTES_MAX
                && let Some(item) = items.next()
            {
                self.item(item, out);
            }
            let bytes = &out[start + HEAD_BYTES..];
            let length = u32::try_from(bytes.len()).expect("BUG: a frame is bounded");
            let crc = crc32c::crc32c(bytes);
            out[start..start + 4].copy_from_slice(&length.to_le_bytes());
            out[start + 4..start + HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
        }
    }

    fn item(&mut self, item: &Item, out: &mut Vec<u8>) {
        match item {
            Item::Define(entry) => {
                out.push(DEFINE);
                put_number(entry.id.0.into(), out);
                put_number(entry.tenant.raw(), out);
                put_number(entry.group.0.into(), out);
                put_number(entry.column.into(), out);
                out.push(entry.kind as u8);
                let labels = entry.labels.as_bytes();
                put_number(labels.len() as u64, out);
                out.extend_from_slice(labels);
            }
            Item::Kind(id, kind) => {
                out.push(KIND);
                put_number(id.0.into(), out);
                out.push(*kind as u8);
            }
            Item::Delete(id) => {
                out.push(DELETE);
                put_number(id.0.into(), out);
            }
            Item::Row(row) => self.row(row, out),
        }
    }

    fn row(&mut self, row: &Row, out: &mut Vec<u8>) {
        let group = self.state.groups.entry(row.group).or_default();
        let tag = out.len();
        out.push(ROW);
        put_number(row.group.0.into(), out);
        let distance = row.at_ms.wrapping_sub(group.at_ms);
        put_number(zigzag(distance.wrapping_sub(group.distance)), out);
        (group.at_ms, group.distance) = (row.at_ms, distance);
        if row.cells.iter().map(|(column, _)| column).eq(&group.columns) {
            out[tag] |= COLUMNS_AS_BEFORE;
        } else {
            group.columns.clear();
            group.columns.extend(row.cells.iter().map(|(column, _)| *column));
            group.reach();
            put_columns(&group.columns, out);
        }
        let slots = &mut group.slots;
        let mut differs = Vec::with_capacity(row.cells.len());
        for ((column, value), before) in row.cells.iter().zip(&mut group.changed) {
            let changed = slots[usize::from(*column)].bits != value.to_bits();
            differs.push(changed != *before);
            *before = changed;
        }
        out[tag] |= put_changes(&differs, out);
        for ((column, value), changed) in row.cells.iter().zip(&group.changed) {
            if *changed {
                put_value(&mut slots[usize::from(*column)], *value, out);
            }
        }
    }
}

/// Columns as runs.
fn put_columns(columns: &[u16], out: &mut Vec<u8>) {
    let runs = || columns.chunk_by(|a, b| a.checked_add(1) == Some(*b));
    put_number(runs().count() as u64, out);
    let mut next = 0;
    for run in runs() {
        put_number(u64::from(run[0]) - next, out);
        put_number(run.len() as u64 - 1, out);
        next = u64::from(run[0]) + run.len() as u64;
    }
}

/// Writes which of these are set; the flag that says how.
fn put_changes(changed: &[bool], out: &mut Vec<u8>) -> u8 {
    let count = changed.iter().filter(|changed| **changed).count();
    if count == 0 {
        return NONE;
    }
    if count == changed.len() {
        return ALL;
    }
    // A gap takes a byte, and seldom two.
    if count < changed.len() / 8 {
        put_number(count as u64, out);
        let mut gap = 0;
        for changed in changed {
            if *changed {
                put_number(gap, out);
                gap = 0;
            } else {
                gap += 1;
            }
        }
        return GAPS;
    }
    for eight in changed.chunks(8) {
        let byte = eight.iter().rev().fold(0, |byte, changed| byte << 1 | u8::from(*changed));
        out.push(byte);
    }
    BITS
}

/// The bytes in which two values differ: how many zeros there are behind them, and how many they are, in one byte.
fn put_difference(difference: u64, out: &mut Vec<u8>) {
    let behind = difference.trailing_zeros() / 8;
    let length = 8 - difference.leading_zeros() / 8 - behind;
    let head = u8::try_from(length << 4 | behind).expect("BUG: both are at most 8");
    out.push(head);
    let bytes = (difference >> (8 * behind)).to_le_bytes();
    out.extend_from_slice(&bytes[..length as usize]);
}

/// Writes a value that is another than the slot's.
fn put_value(slot: &mut Slot, value: f64, out: &mut Vec<u8>) {
    let here = if slot.how == BYTES { None } else { scaled(value, slot.how) };
    let found = match here {
        Some(integer) if is_pages(slot, integer) => Some((PAGES, integer / PAGE_BYTES)),
        Some(integer) => {
            put_number(zigzag(integer - slot.scaled), out);
            (slot.bits, slot.scaled) = (value.to_bits(), integer);
            return;
        }
        None => anew(value),
    };
    let Some((unit, integer)) = found else {
        if slot.how != BYTES {
            out.extend_from_slice(&[0, BYTES]);
            slot.how = BYTES;
        }
        put_difference(slot.bits ^ value.to_bits(), out);
        slot.bits = value.to_bits();
        return;
    };
    out.extend_from_slice(&[0, unit]);
    put_number(zigzag(integer), out);
    *slot = Slot { bits: value.to_bits(), scaled: integer, how: unit };
}

/// What was found in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Frames that are whole.
    pub frames: u64,
    /// Bytes up to the end of the last of them.
    pub bytes: u64,
    /// Bytes behind it, of which nothing can be made.
    pub torn: u64,
    /// Whether they are more than an end that was never finished: a frame that is all there has wrong bytes, or there are
    /// whole frames further on.
    pub damaged: bool,
}

/// Why a file is no log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("series.wal does not begin as a log does; it is of a later version, or something else")]
pub struct NoLog;

/// The bytes of a frame are not what was written.
struct Nonsense;

/// Reads a whole file, and hands each item of the whole frames to `each`, in order. Total: any bytes are read or
/// refused; memory is bounded by their length. An empty file is an empty log, as is a file that is cut within the magic.
pub fn read(bytes: &[u8], each: &mut dyn FnMut(Item)) -> Result<Found, NoLog> {
    take_up(bytes, each).map(|(found, _)| found)
}

/// The same, and an encoder that goes on where the whole frames end.
pub fn take_up(bytes: &[u8], each: &mut dyn FnMut(Item)) -> Result<(Found, Encoder), NoLog> {
    let mut encoder = Encoder::default();
    let found = |frames, at: usize, damaged| {
        let (end, all) = (at as u64, bytes.len() as u64);
        Found { frames, bytes: end, torn: all - end, damaged }
    };
    let Some(mut rest) = bytes.strip_prefix(&MAGIC) else {
        let cut = MAGIC.starts_with(bytes);
        return if cut { Ok((found(0, 0, false), encoder)) } else { Err(NoLog) };
    };
    let mut frames = 0;
    while let Some((frame, behind)) = frame(rest) {
        let mut reader = Reader { bytes: frame };
        if reader.frame(&mut encoder.state, each).is_err() {
            break;
        }
        (rest, frames) = (behind, frames + 1);
    }
    let damaged = scan::is_damaged(rest);
    Ok((found(frames, bytes.len() - rest.len(), damaged), encoder))
}

/// How long the next frame is said to be, its checksum, and all that is behind them.
fn head(bytes: &[u8]) -> Option<(usize, u32, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (crc, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    Some((length, u32::from_le_bytes(*crc), rest))
}

/// The next frame, if it is whole, and what is behind it.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, crc, rest) = head(bytes)?;
    if length == 0 || FRAME_BYTES_MAX < length {
        return None;
    }
    let (frame, rest) = rest.split_at_checked(length)?;
    (crc32c::crc32c(frame) == crc).then_some((frame, rest))
}

const fn is_row(tag: u8) -> bool {
    tag & 3 == ROW && tag < 1 << 5
}

struct Reader<'b> {
    bytes: &'b [u8],
}

impl<'b> Reader<'b> {
    fn frame(&mut self, state: &mut State, each: &mut dyn FnMut(Item)) -> Result<(), Nonsense> {
        while !self.bytes.is_empty() {
            each(self.item(state)?);
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Nonsense> {
        let (first, rest) = self.bytes.split_first().ok_or(Nonsense)?;
        self.bytes = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], Nonsense> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(Nonsense)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, Nonsense> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && 1 < bits {
                return Err(Nonsense);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Nonsense)
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Nonsense> {
        T::try_from(self.number()?).map_err(|_| Nonsense)
    }

    fn kind(&mut self) -> Result<Kind, Nonsense> {
        let kind = self.byte()?;
        let kinds = [Kind::Gauge, Kind::Counter, Kind::Distribution];
        kinds.into_iter().find(|its| *its as u8 == kind).ok_or(Nonsense)
    }

    fn id(&mut self) -> Result<SeriesId, Nonsense> {
        Ok(SeriesId(self.small()?))
    }

    fn column(&mut self) -> Result<u16, Nonsense> {
        let column = self.small()?;
        if column < GROUP_SERIES_MAX { Ok(column) } else { Err(Nonsense) }
    }

    fn item(&mut self, state: &mut State) -> Result<Item, Nonsense> {
        let tag = self.byte()?;
        Ok(match tag {
            DEFINE => Item::Define(self.entry()?),
            KIND => Item::Kind(self.id()?, self.kind()?),
            DELETE => Item::Delete(self.id()?),
            _ if is_row(tag) => Item::Row(self.row(state, tag)?),
            _ => return Err(Nonsense),
        })
    }

    fn entry(&mut self) -> Result<Entry, Nonsense> {
        let id = self.id()?;
        let tenant = TenantId::from_raw(self.number()?);
        let group = GroupId(self.small()?);
        let (column, kind) = (self.column()?, self.kind()?);
        let length = self.small()?;
        let labels = Labels::from_bytes(self.take(length)?).ok_or(Nonsense)?;
        Ok(Entry { id, tenant, group, column, kind, labels })
    }

    fn row(&mut self, state: &mut State, tag: u8) -> Result<Row, Nonsense> {
        let group = GroupId(self.small()?);
        let more = unzigzag(self.number()?);
        let its = state.groups.entry(group).or_default();
        its.distance = its.distance.wrapping_add(more);
        its.at_ms = its.at_ms.wrapping_add(its.distance);
        let at_ms = its.at_ms;
        Timestamp::from_unix_ms(at_ms).ok_or(Nonsense)?;
        if tag & COLUMNS_AS_BEFORE == 0 {
            self.columns(&mut its.columns)?;
            its.reach();
        }
        self.changes(tag, &mut its.changed)?;
        let (columns, slots) = (&its.columns, &mut its.slots);
        for (column, changed) in columns.iter().zip(&its.changed) {
            if *changed {
                self.value(&mut slots[usize::from(*column)])?;
            }
        }
        let value = |column: &u16| f64::from_bits(slots[usize::from(*column)].bits);
        let cells = columns.iter().map(|column| (*column, value(column))).collect();
        Ok(Row { group, at_ms, cells })
    }

    fn columns(&mut self, columns: &mut Vec<u16>) -> Result<(), Nonsense> {
        columns.clear();
        let runs: u16 = self.small()?;
        let mut next = 0_u64;
        for _ in 0..runs {
            let start = next.checked_add(self.number()?).ok_or(Nonsense)?;
            let end = self.number()?.checked_add(1).and_then(|length| start.checked_add(length));
            let end = end.filter(|end| *end <= u64::from(GROUP_SERIES_MAX)).ok_or(Nonsense)?;
            columns.extend((start..end).map(|column| u16::try_from(column).unwrap_or(u16::MAX)));
            next = end;
        }
        Ok(())
    }

    /// Turns which cells changed in the row before into which changed in this one.
    fn changes(&mut self, tag: u8, changed: &mut [bool]) -> Result<(), Nonsense> {
        match tag & GAPS {
            NONE => {}
            ALL => changed.iter_mut().for_each(|changed| *changed = !*changed),
            BITS => {
                let bits = self.take(changed.len().div_ceil(8))?;
                for (eight, bits) in changed.chunks_mut(8).zip(bits) {
                    for (bit, changed) in eight.iter_mut().enumerate() {
                        *changed ^= bits >> bit & 1 == 1;
                    }
                }
            }
            _ => {
                let mut rest = changed.iter_mut();
                for _ in 0..self.number()? {
                    let gap = self.small()?;
                    let changed = rest.nth(gap).ok_or(Nonsense)?;
                    *changed = !*changed;
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, slot: &mut Slot) -> Result<(), Nonsense> {
        if slot.how == BYTES {
            match self.byte()? {
                0 => self.value_anew(slot),
                head => self.difference(head, slot),
            }
        } else {
            match self.number()? {
                0 => self.value_anew(slot),
                difference => {
                    self.decimal(slot.how, slot.scaled.checked_add(unzigzag(difference)), slot)
                }
            }
        }
    }

    fn value_anew(&mut self, slot: &mut Slot) -> Result<(), Nonsense> {
        match self.byte()? {
            BYTES => {
                slot.how = BYTES;
                let head = self.byte()?;
                self.difference(head, slot)
            }
            unit if unit <= PAGES => {
                let integer = unzigzag(self.number()?);
                self.decimal(unit, Some(integer), slot)
            }
            _ => Err(Nonsense),
        }
    }

    #[expect(clippy::unused_self, reason = "one of three ways to read a value")]
    fn decimal(&self, how: u8, integer: Option<i64>, slot: &mut Slot) -> Result<(), Nonsense> {
        let exact = |integer: &i64| (-EXACT_MAX..=EXACT_MAX).contains(integer);
        let scaled = integer.filter(exact).ok_or(Nonsense)?;
        *slot = Slot { bits: unscaled(scaled, how).to_bits(), scaled, how };
        Ok(())
    }

    fn difference(&mut self, head: u8, slot: &mut Slot) -> Result<(), Nonsense> {
        let (behind, length) = (head & 0xf, head >> 4);
        if length == 0 || 8 < length + behind {
            return Err(Nonsense);
        }
        let mut bytes = [0; 8];
        bytes[..usize::from(length)].copy_from_slice(self.take(length.into())?);
        slot.bits ^= u64::from_le_bytes(bytes) << (8 * u32::from(behind));
        Ok(())
    }
}

mod scan;
#[cfg(test)]
mod tests;
