//! How series stand in the file.
//!
//! ```text
//! Series      series u32                                     ->  SeriesRow; long labels go on behind it:
//!             series u32 | part u16                          ->  the bytes that follow
//! Raw         span u32 | group u32 | slice u16 | part u16    ->  part 0: times of the slice; else columns from part - 1 on
//! Rolled5m,   span u32 | group u32 | slice u16 | part u16    ->  part 0: what most have in common; else points of the
//! Rolled1h,                                                      columns from part - 1 on; slice 0, but for columns
//! Rolled1d                                                       that are longer than a part: they go on in the next
//! Spans       tier u8 | span u32                             ->  SpanRow: what the span holds
//! Meta        "series" "next"                                ->  the next ids, so that none is ever used again
//! Meta        "series" "day" | day u32                       ->  DayRow: whether the points of a day are valid
//! ```
//!
//! Keys begin with the time: what is sealed together stands together, and what is too old is one stretch. Blocks are not
//! records of the codec but have their own version and checksum ([`super::block`]).

use crate::base::codec::{self, Head, Record, SchemaRead, SchemaWrite};
use crate::base::key::{BadKey, KeyReader, KeyWriter};
use crate::base::limits::{DELETE_ROWS_MAX, READ_ROWS_MAX, VALUE_BYTES_MAX};
use crate::store::{self, Engine, Flow, KeyRange, Order, Read, Table, Write, scan_in_pages};

use super::block::Spoilt;
use super::{GroupId, SeriesId, Tier};

/// A row is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    /// Its bytes.
    #[error(transparent)]
    Codec(#[from] codec::Error),
    /// Its key.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// A block.
    #[error(transparent)]
    Block(#[from] Spoilt),
    /// What it says cannot be.
    #[error("a row of series.redb says what cannot be: {0}")]
    Nonsense(&'static str),
}

/// Why a row was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// The store.
    #[error("the store refused")]
    Store(#[from] store::Error),
    /// The row.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// A series.
#[derive(Clone, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct SeriesRow {
    pub(super) tenant: u64,
    pub(super) group: u32,
    pub(super) column: u16,
    pub(super) kind: u8,
    /// See [`super::labels::Labels`].
    pub(super) labels: Vec<u8>,
}

impl Record for SeriesRow {
    const HEAD: Head = Head { kind: 0x50, version: 1 };
}

/// What a span of a tier holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub struct SpanRow {
    /// Rows.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Room that they take in the pages of the file, in 4,096ths of a page, which are bytes; never less than they do.
    pub pages: u64,
}

impl Record for SpanRow {
    const HEAD: Head = Head { kind: 0x51, version: 1 };
}

/// Whether the points of a day are those of its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct DayRow {
    /// They are.
    pub(super) valid: bool,
    /// Of so many hours, the first of the day, raw samples went, some or all: their points cannot be computed anew, and stay
    /// what they are.
    pub(super) cut: u8,
}

impl Record for DayRow {
    const HEAD: Head = Head { kind: 0x52, version: 1 };
}

/// Ids that come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct NextRow {
    pub(super) series: u32,
    pub(super) group: u32,
}

impl Record for NextRow {
    const HEAD: Head = Head { kind: 0x53, version: 1 };
}

/// The key of a series.
pub(super) fn series_key(id: SeriesId) -> Vec<u8> {
    KeyWriter::new().u32(id.0).finish()
}

/// Sets or removes the row of a series.
pub(super) fn set_series(
    tx: &mut dyn Write,
    id: SeriesId,
    row: Option<&SeriesRow>,
) -> Result<(), RowError> {
    let key = series_key(id);
    tx.delete_range(Table::Series, &KeyRange::prefix(&key), DELETE_ROWS_MAX)?;
    let row = row.map(codec::encode).transpose().map_err(Damaged::from)?;
    for (part, bytes) in (0_u16..).zip(row.unwrap_or_default().chunks(VALUE_BYTES_MAX)) {
        let key =
            if part == 0 { key.clone() } else { KeyWriter::new().u32(id.0).u16(part).finish() };
        tx.put(Table::Series, &key, bytes)?;
    }
    Ok(())
}

/// What is known of a series whose rows were read.
pub(super) type FoundSeries = Result<(SeriesId, SeriesRow), Damaged>;

/// Hands over every series of a file, by id.
pub(super) fn each_series(
    engine: &dyn Engine,
    visit: &mut dyn FnMut(FoundSeries),
) -> Result<(), store::Error> {
    let mut parts: Option<(Vec<u8>, Vec<u8>)> = None;
    let decode = |(key, bytes): (Vec<u8>, Vec<u8>)| -> FoundSeries {
        let mut key = KeyReader::new(&key);
        let id = SeriesId(key.u32()?);
        key.finish()?;
        Ok((id, codec::decode(&bytes)?))
    };
    let (all, page) = (KeyRange::all(), READ_ROWS_MAX);
    scan_in_pages(engine, Table::Series, &all, page, &mut |key, value| {
        match &mut parts {
            Some((first, bytes)) if 4 < key.len() && key.starts_with(first) => {
                bytes.extend_from_slice(value);
            }
            before => {
                let before = before.replace((key.to_vec(), value.to_vec()));
                before.map(decode).into_iter().for_each(&mut *visit);
            }
        }
        Flow::On
    })?;
    parts.map(decode).into_iter().for_each(visit);
    Ok(())
}

/// The key of a block. `part` is 0 for what the columns share, else one more than the first column.
pub(super) fn block_key(span: u32, group: GroupId, slice: u16, part: u16) -> Vec<u8> {
    KeyWriter::new().u32(span).u32(group.0).u16(slice).u16(part).finish()
}

/// Reads a key of a block.
pub(super) fn read_block_key(key: &[u8]) -> Result<(u32, GroupId, u16, u16), BadKey> {
    let mut key = KeyReader::new(key);
    let parts = (key.u32()?, GroupId(key.u32()?), key.u16()?, key.u16()?);
    key.finish()?;
    Ok(parts)
}

/// Everything of a span.
pub(super) fn span_prefix(span: u32) -> Vec<u8> {
    KeyWriter::new().u32(span).finish()
}

/// The key of what a span holds.
pub(super) fn span_key(tier: Tier, span: u32) -> Vec<u8> {
    KeyWriter::new().u8(tier as u8).u32(span).finish()
}

/// The key of a day.
pub(super) fn day_key(day: u32) -> Vec<u8> {
    KeyWriter::new().name("series").name("day").u32(day).finish()
}

/// The key of the ids that come next.
pub(super) fn next_key() -> Vec<u8> {
    KeyWriter::new().name("series").name("next").finish()
}

/// Bytes of a page.
const PAGE: u64 = 4096;
/// What a branch says of a leaf: where it is, its checksum, and where its keys end; branches are half full at worst.
const BRANCH: u64 = 96;

/// Room in the pages of the file that a row with a key and a value of these lengths takes, in 4,096ths of a page, which are
/// bytes. Small rows share leaves, which are half full at worst; larger ones have leaves of a power of two pages to
/// themselves.
pub fn page_share(key_bytes: usize, value_bytes: usize) -> u64 {
    // The leaf says of each row where its key and its value end, and of itself what it is.
    let bytes = (key_bytes + value_bytes + 8) as u64;
    if is_large(bytes) {
        (bytes + 4).div_ceil(PAGE).next_power_of_two() * PAGE + BRANCH
    } else {
        2 * bytes
    }
}

/// Whether rows of this size do not share a leaf with one another.
fn is_large(bytes: u64) -> bool {
    PAGE / 2 < bytes
}

/// Adds up what rows of blocks take, in the order of their keys.
///
/// Small rows share leaves with their neighbours, but not across a large one: the first large row of a slice ends a run of
/// small ones, the last leaf of which may be all but empty. So it counts for a page more.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sum: SpanRow,
    behind_large: bool,
}

impl Tally {
    /// For rows that stand somewhere in a span: the first may continue a slice. It never says more than was said of these rows
    /// when they were written.
    pub(super) fn amid() -> Tally {
        Tally { behind_large: true, ..Tally::default() }
    }

    /// Adds a row with this key.
    pub(super) fn add(&mut self, key: &[u8], value_bytes: usize) {
        let begins = read_block_key(key).is_ok_and(|(.., part)| part == 0);
        let large = is_large((key.len() + value_bytes + 8) as u64);
        let opens = large && (begins || !self.behind_large);
        self.behind_large = large;
        self.sum.rows += 1;
        self.sum.bytes += (key.len() + value_bytes) as u64;
        self.sum.pages += page_share(key.len(), value_bytes) + if opens { PAGE } else { 0 };
    }
}

impl SpanRow {
    /// With these rows more.
    #[must_use]
    pub(super) fn plus(self, more: SpanRow) -> SpanRow {
        SpanRow {
            rows: self.rows.saturating_add(more.rows),
            bytes: self.bytes.saturating_add(more.bytes),
            pages: self.pages.saturating_add(more.pages),
        }
    }

    /// Without these rows.
    #[must_use]
    pub(super) fn minus(self, gone: SpanRow) -> SpanRow {
        SpanRow {
            rows: self.rows.saturating_sub(gone.rows),
            bytes: self.bytes.saturating_sub(gone.bytes),
            pages: self.pages.saturating_sub(gone.pages),
        }
    }
}

/// What a span holds, as the file says. A row that is damaged holds nothing anybody could count on: the check of the
/// file tells of it, and it is written anew.
pub(super) fn span_row(view: &dyn Read, tier: Tier, span: u32) -> Result<SpanRow, store::Error> {
    let row = view.get(Table::Spans, &span_key(tier, span))?;
    Ok(row.and_then(|row| codec::decode(&row).ok()).unwrap_or_default())
}

/// Notes what a span holds now; a span without rows is none.
pub(super) fn set_span_row(
    tx: &mut dyn Write,
    (tier, span): (Tier, u32),
    row: SpanRow,
) -> Result<(), RowError> {
    let key = span_key(tier, span);
    if row.rows == 0 {
        tx.delete(Table::Spans, &key)?;
    } else {
        tx.put(Table::Spans, &key, &codec::encode(&row).map_err(Damaged::from)?)?;
    }
    Ok(())
}

/// Everything of a group in a span, from a slice on.
pub(super) fn group_range(span: u32, group: GroupId, from_slice: u16) -> KeyRange {
    let prefix = KeyWriter::new().u32(span).u32(group.0).finish();
    KeyRange { from: block_key(span, group, from_slice, 0), to: KeyRange::prefix(&prefix).to }
}

/// Puts `rows` (ascending) in the place of all rows of a group in a span from a slice on, and notes what the span holds
/// then. Done twice it is the same as done once.
pub(super) fn replace(
    tx: &mut dyn Write,
    tier: Tier,
    (span, group, from_slice): (u32, GroupId, u16),
    rows: &[(Vec<u8>, Vec<u8>)],
) -> Result<SpanRow, RowError> {
    let range = group_range(span, group, from_slice);
    let mut gone = Tally::default();
    tx.scan(tier.table(), &range, Order::Forward, &mut |key, value| {
        gone.add(key, value.len());
        Flow::On
    })?;
    while tx.delete_range(tier.table(), &range, DELETE_ROWS_MAX)? == DELETE_ROWS_MAX {}
    put_all(tx, tier.table(), &range, rows)?;
    let mut come = Tally::default();
    for (key, value) in rows {
        come.add(key, value.len());
    }
    let row = span_row(&*tx, tier, span)?.minus(gone.sum).plus(come.sum);
    set_span_row(tx, (tier, span), row)?;
    Ok(row)
}

/// Puts rows that ascend, in the order in which their pages fill best. At the end of the table that is their own. Amid
/// other rows the last comes first: a large row that is put between small ones shares a leaf with those before it, at twice
/// its pages, until something is put between them.
fn put_all(
    tx: &mut dyn Write,
    table: Table,
    range: &KeyRange,
    rows: &[(Vec<u8>, Vec<u8>)],
) -> Result<(), store::Error> {
    let mut amid = false;
    if let Some(from) = range.to.clone() {
        tx.scan(table, &KeyRange { from, to: None }, Order::Forward, &mut |_, _| {
            amid = true;
            Flow::Stop
        })?;
    }
    let mut put = |(key, value): &(Vec<u8>, Vec<u8>)| tx.put(table, key, value);
    if amid { rows.iter().rev().try_for_each(&mut put) } else { rows.iter().try_for_each(put) }
}

/// What is known of a day's points.
pub(super) fn day_row(view: &dyn Read, day: u32) -> Result<Option<DayRow>, store::Error> {
    let row = view.get(Table::Meta, &day_key(day))?;
    Ok(row.and_then(|row| codec::decode(&row).ok()))
}

/// Notes it.
pub(super) fn set_day_row(tx: &mut dyn Write, day: u32, row: DayRow) -> Result<(), RowError> {
    tx.put(Table::Meta, &day_key(day), &codec::encode(&row).map_err(Damaged::from)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{PAGE, SpanRow, block_key, replace, span_row};
    use crate::base::limits::{PART_BYTES_MAX, READ_ROWS_MAX};
    use crate::base::rng::Rng;
    use crate::series::{GroupId, Tier};
    use crate::store::disk::MemoryDisk;
    use crate::store::redb::Redb;
    use crate::store::{self, Commit, Engine, Finish, Flow, KeyRange, Opening, scan_in_pages};
    use crate::testing::seeds;

    const CACHE: u64 = 64 << 20;

    type Rows = Vec<(Vec<u8>, Vec<u8>)>;

    /// Rows as a group's hour has them: moments, full parts, and a last one.
    fn rows(span: u32, group: GroupId, full: u64, rng: &mut Rng) -> Rows {
        let below = |rng: &mut Rng, max: usize| usize::try_from(rng.below(max as u64)).unwrap();
        let most = if rng.one_in(9) { 4000 } else { 400 };
        let mut lengths = vec![40 + below(rng, most)];
        lengths.extend((0..full).map(|_| PART_BYTES_MAX - below(rng, 300)));
        lengths.push(1 + below(rng, if full == 1 { 300 } else { PART_BYTES_MAX }));
        let key = |part: usize| block_key(span, group, 0, u16::try_from(part).unwrap());
        lengths.iter().enumerate().map(|(part, length)| (key(part), vec![7; *length])).collect()
    }

    fn put(engine: &Redb, group: GroupId, span: u32, rows: &Rows) -> SpanRow {
        let mut row = SpanRow::default();
        let written = engine.write(Commit::Quick, &mut |tx| {
            tx.begin()?;
            row = replace(tx, Tier::Raw, (span, group, 0), rows).expect("it is written");
            tx.keep()?;
            Ok(Finish::Commit)
        });
        written.expect("it is committed");
        row
    }

    /// Bytes of the pages of the table: what is read of a file that was opened a moment ago.
    fn taken(disk: &Arc<MemoryDisk>) -> u64 {
        let disk: Arc<dyn store::disk::Disk> = Arc::<MemoryDisk>::clone(disk);
        let engine = Redb::on_disk(disk, CACHE, Opening::Start).expect("it opens");
        engine.read(&mut |view| view.get(Tier::Hour.table(), b"").map(drop)).expect("it is read");
        let before = engine.figures().read_bytes;
        let all = KeyRange::all();
        scan_in_pages(&engine, Tier::Raw.table(), &all, READ_ROWS_MAX, &mut |_, _| Flow::On)
            .expect("it is read");
        engine.figures().read_bytes - before
    }

    /// Writes groups' hours in some order, many of them again; the sum of what is said, and what is taken.
    fn history(seed: u64, (spans, groups): (u32, u32), full: u64, in_order: bool) -> (u64, u64) {
        let (disk, mut rng) = (Arc::new(MemoryDisk::default()), Rng::from_seed(seed));
        {
            let disk: Arc<dyn store::disk::Disk> = Arc::<MemoryDisk>::clone(&disk);
            let engine = Redb::on_disk(disk, CACHE, Opening::Start).expect("it opens");
            for place in 0..spans * groups {
                let random = u32::try_from(rng.below(u64::from(spans * groups))).unwrap();
                let place = if in_order { place } else { random };
                let (span, group) = (place / groups, GroupId(place % groups));
                let full = if 0 < full { rng.below(full + 1) } else { 0 };
                put(&engine, group, span, &rows(span, group, full, &mut rng));
            }
        }
        let engine = Redb::on_disk(Arc::<MemoryDisk>::clone(&disk), CACHE, Opening::Start).unwrap();
        let mut said = 0;
        engine
            .read(&mut |view| {
                for span in 0..spans {
                    said += span_row(view, Tier::Raw, span)?.pages;
                }
                Ok(())
            })
            .expect("it is read");
        drop(engine);
        (said, taken(&disk))
    }

    #[test]
    fn a_span_is_never_said_to_take_less_than_it_does() {
        for seed in seeds(2) {
            for (groups, full, in_order) in [
                (1, 8, true),
                (20, 0, true),
                (20, 0, false),
                (7, 1, true),
                (7, 1, false),
                (7, 2, false),
                (3, 20, true),
                (3, 20, false),
            ] {
                let (said, taken) = history(seed, (40, groups), full, in_order);
                let what = format!("seed {seed}, {groups} groups, {full} parts, {in_order}");
                assert!(taken <= said, "{what}: {taken} are taken, {said} said");
                assert!(said <= 2 * taken + 8 * PAGE, "{what}: {taken} are taken, {said} said");
            }
        }
    }
}
