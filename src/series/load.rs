//! From the file and the log to memory, at the start and after the file failed.

use super::index::Entry;
use super::labels::Labels;
use super::memory::Memory;
use super::rows::{DayRow, NextRow, RowError, SeriesRow, SpanRow, day_key, each_series, next_key};
use super::wal::{self, Encoder, Found, NoLog};
use super::{GroupId, Kind, SeriesId, Tier};
use crate::base::codec;
use crate::base::id::TenantId;
use crate::base::key::KeyReader;
use crate::base::limits::READ_ROWS_MAX;
use crate::store::{self, Engine, Flow, KeyRange, Table, scan_in_pages};

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Series.
    pub series: usize,
    /// Rows that are damaged, and are left alone.
    pub damaged: u64,
}

/// Reads the file into an empty memory. In views of a page each; damaged rows are counted.
pub fn load(engine: &dyn Engine, memory: &mut Memory) -> Result<Loaded, RowError> {
    let mut damaged = 0;
    each_series(engine, &mut |found| {
        let entry = found.ok().and_then(|(id, row)| series(id, &row));
        let added = entry.is_some_and(|entry| {
            let (id, group) = (entry.id.0, entry.group.0);
            memory.next_series = memory.next_series.max(id.saturating_add(1));
            memory.next_group = memory.next_group.max(group.saturating_add(1));
            memory.index.add(entry)
        });
        damaged += u64::from(!added);
    })?;
    each(engine, Table::Spans, &KeyRange::all(), &mut damaged, &mut |key, value| {
        let (tier, span) = span(key)?;
        let row = codec::decode::<SpanRow>(value).ok();
        // There is something, however much: it is answered, and goes when it is old.
        let some = SpanRow { rows: 1, ..SpanRow::default() };
        memory.spans.insert((tier, span), row.unwrap_or(some));
        row.map(drop)
    })?;
    let day = day_key(0);
    let prefix = &day[..day.len() - size_of::<u32>()];
    each(engine, Table::Meta, &KeyRange::prefix(prefix), &mut damaged, &mut |key, value| {
        let mut key = KeyReader::new(key.strip_prefix(prefix)?);
        let day = key.u32().ok()?;
        key.finish().ok()?;
        if codec::decode::<DayRow>(value).ok()?.valid {
            memory.rolled.insert(day);
        }
        Some(())
    })?;
    next(engine, memory, &mut damaged)?;
    memory.closed_groups = memory.next_group;
    Ok(Loaded { series: memory.index.len(), damaged })
}

/// The ids that come next; if that row is damaged, those behind all that are there.
fn next(engine: &dyn Engine, memory: &mut Memory, damaged: &mut u64) -> Result<(), RowError> {
    let mut found = None;
    engine.read(&mut |view| {
        found = view.get(Table::Meta, &next_key())?;
        Ok(())
    })?;
    match found.map(|row| codec::decode::<NextRow>(&row)) {
        Some(Ok(row)) => {
            memory.next_series = memory.next_series.max(row.series);
            memory.next_group = memory.next_group.max(row.group);
        }
        Some(Err(_)) => *damaged += 1,
        None => {}
    }
    Ok(())
}

/// Makes something of a row, or nothing.
type Taker<'t> = dyn FnMut(&[u8], &[u8]) -> Option<()> + 't;

/// Visits all rows of a stretch of a table; those of which nothing can be made are counted.
fn each(
    engine: &dyn Engine,
    table: Table,
    range: &KeyRange,
    damaged: &mut u64,
    visit: &mut Taker<'_>,
) -> Result<(), store::Error> {
    scan_in_pages(engine, table, range, READ_ROWS_MAX, &mut |key, value| {
        *damaged += u64::from(visit(key, value).is_none());
        Flow::On
    })
}

fn series(id: SeriesId, row: &SeriesRow) -> Option<Entry> {
    let kinds = [Kind::Gauge, Kind::Counter, Kind::Distribution];
    Some(Entry {
        id,
        tenant: TenantId::from_raw(row.tenant),
        group: GroupId(row.group),
        column: row.column,
        kind: kinds.into_iter().find(|kind| *kind as u8 == row.kind)?,
        labels: Labels::from_bytes(&row.labels)?,
    })
}

fn span(key: &[u8]) -> Option<(Tier, u32)> {
    let mut key = KeyReader::new(key);
    let (tier, span) = (key.u8().ok()?, key.u32().ok()?);
    key.finish().ok()?;
    Some((Tier::ALL.into_iter().find(|its| *its as u8 == tier)?, span))
}

/// Takes up the log; and what goes on writing it where it ends.
pub fn replay(log: &[u8], memory: &mut Memory) -> Result<(Found, Encoder), NoLog> {
    let taken = wal::take_up(log, &mut |item| memory.replay(item))?;
    // Groups of the log are closed as those of the file are: it may have begun after one of their series was deleted.
    memory.closed_groups = memory.next_group;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::{Loaded, load, replay};
    use crate::base::codec;
    use crate::base::id::TenantId;
    use crate::base::time::Timestamp;
    use crate::series::index::Entry;
    use crate::series::memory::{Incoming, Memory, Name};
    use crate::series::rows::{DayRow, SpanRow, day_key, next_key, series_key, span_key};
    use crate::series::select::Selector;
    use crate::series::wal::{Encoder, MAGIC};
    use crate::series::{SeriesId, Tier, seal};
    use crate::store::redb::Redb;
    use crate::store::{Batch, Commit, Engine, Finish, Result, Table};

    const TENANT: TenantId = TenantId::from_raw(3);

    fn change(engine: &dyn Engine, body: impl Fn(&mut dyn Batch) -> Result) {
        let written = engine.write(Commit::Plain, &mut |batch| {
            batch.begin()?;
            body(batch)?;
            batch.keep()?;
            Ok(Finish::Commit)
        });
        written.unwrap();
    }

    fn write(memory: &mut Memory, names: &[&str]) {
        let sample = |name: &&'static str| {
            let name = Name::Text { name, metric: name };
            Incoming { place: 0, name, kind: None, time_ms: None, value: 1.0 }
        };
        let known = ["a", "b", "c_total", "d"];
        let samples: Vec<_> =
            known.iter().filter(|known| names.contains(known)).map(sample).collect();
        let now = Timestamp::from_unix_ms(1_700_000_000_000).unwrap();
        assert_eq!(memory.write(now, TENANT, 10, &samples).unwrap().refused_count, 0);
    }

    fn save(memory: &mut Memory, engine: &dyn Engine) {
        let rows = memory.unsaved(100);
        let next = memory.next_ids();
        change(engine, |batch| {
            seal::save_series(batch, &rows, next).unwrap();
            Ok(())
        });
        memory.saved(&rows);
    }

    fn assert_known(memory: &Memory, again: &Memory) {
        let known = |entry: &Entry| again.index().get(entry.id) == Some(entry);
        assert!(memory.index().all().all(known));
        assert_eq!(again.index().len(), memory.index().len());
    }

    #[test]
    fn what_stands_in_the_file_is_known_again_and_the_log_goes_over_it() {
        let engine = Redb::in_memory(1 << 20).unwrap();
        let mut memory = Memory::default();
        write(&mut memory, &["a", "b", "c_total"]);
        save(&mut memory, &engine);
        let span = SpanRow { rows: 1, bytes: 20, pages: 3 };
        change(&engine, |batch| {
            batch.put(Table::Spans, &span_key(Tier::Hour, 9), &codec::encode(&span).unwrap())?;
            for (day, valid) in [(7, true), (8, false)] {
                let row = codec::encode(&DayRow { valid, cut: 0 }).unwrap();
                batch.put(Table::Meta, &day_key(day), &row)?;
            }
            Ok(())
        });
        // The log knows of one more, and that one is gone.
        memory.take_pending();
        write(&mut memory, &["a", "d"]);
        let gone = Selector::parse("b").unwrap();
        memory.delete(TENANT, Some(&gone), 10);
        let mut log = MAGIC.to_vec();
        Encoder::default().frame(&memory.take_pending().0, &mut log);

        let mut again = Memory::default();
        let loaded = load(&engine, &mut again).unwrap();
        assert_eq!(loaded, Loaded { series: 3, damaged: 0 });
        assert_eq!(again.unsaved(10).len(), 0);
        assert_eq!(again.tier(Tier::Hour), Some((9, 9, span)));
        assert!(again.is_rolled(7) && !again.is_rolled(8));
        assert_eq!(replay(&log, &mut again).unwrap().0.frames, 1);
        assert_eq!(again.unsaved(10).len(), 2, "one to write and one to remove");
        let (next, before) = (again.next_ids(), memory.next_ids());
        assert!(next.0 == before.0 && before.1 <= next.1, "{next:?} after {before:?}");
        assert_known(&memory, &again);
        // And when all of it is saved, nothing of the log is needed.
        save(&mut again, &engine);
        let mut third = Memory::default();
        load(&engine, &mut third).unwrap();
        assert_known(&memory, &third);
        assert_eq!(third.next_ids(), next);
    }

    #[test]
    fn rows_that_are_damaged_are_counted_and_left_alone() {
        let engine = Redb::in_memory(1 << 20).unwrap();
        let mut memory = Memory::default();
        write(&mut memory, &["a", "b"]);
        save(&mut memory, &engine);
        change(&engine, |batch| {
            batch.put(Table::Series, &series_key(SeriesId(0)), b"nonsense")?;
            batch.put(Table::Series, b"no key of ours", b"x")?;
            batch.put(Table::Spans, b"\xff", b"x")?;
            batch.put(Table::Spans, &span_key(Tier::Raw, 9), b"x")?;
            batch.put(Table::Meta, &day_key(7), b"x")?;
            batch.put(Table::Meta, &next_key(), b"x")
        });
        let mut again = Memory::default();
        assert_eq!(load(&engine, &mut again).unwrap(), Loaded { series: 1, damaged: 6 });
        // What stands in a span is found whatever is said of its size.
        assert!(again.tier(Tier::Raw).is_some_and(|(first, last, _)| (first, last) == (9, 9)));
        // No id of a series that can be read is given away again.
        assert_eq!(again.next_ids().0, 2);
    }
}
