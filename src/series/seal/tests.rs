//! What sealing promises, on the engine that ships.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Committed, SeriesChange, begin, commit, hour_of_day, is_due, plan, save_series};
use crate::base::codec;
use crate::base::id::TenantId;
use crate::base::limits::{OPEN_SAMPLES_MAX, SLICE_ROWS_MAX};
use crate::base::rng::Rng;
use crate::series::index::Entry;
use crate::series::labels::Labels;
use crate::series::memory::{Memory, Place};
use crate::series::open::Open;
use crate::series::rows::{
    DayRow, SeriesRow, SpanRow, Tally, block_key, day_row, each_series, group_range, next_key,
    read_block_key, series_key, set_day_row, span_row,
};
use crate::series::tests::{engine, read, write};
use crate::series::{GroupId, HOUR_MS, Kind, SeriesId, Tier, block, column, times};
use crate::store::redb::Redb;
use crate::store::{Flow, KeyRange, Order, Table};
use crate::testing::seeds;

/// 2023-11-14T22:00:00Z, the start of an hour.
const START: i64 = 1_700_000_000_000 - 1_700_000_000_000 % HOUR_MS;
const HOUR: u32 = 472_222;
const DAY: u32 = HOUR / 24;
const GROUP: GroupId = GroupId(7);
const PLACE: Place = (HOUR, GROUP);

type Samples = BTreeMap<(u16, i64), u64>;
type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

fn all_rows(engine: &Redb) -> Rows {
    let mut rows = Rows::new();
    for table in [Table::Raw, Table::Spans, Table::Meta, Table::Series] {
        read(engine, |view| {
            view.scan(table, &KeyRange::all(), Order::Forward, &mut |key, value| {
                rows.insert((table, key.to_vec()), value.to_vec());
                Flow::On
            })
            .expect("it is read");
        });
    }
    rows
}

/// A small number as a value.
fn real(number: i64) -> f64 {
    f64::from(i32::try_from(number).expect("it is small"))
}

fn open_of(samples: impl IntoIterator<Item = (i64, u16, f64)>) -> Open {
    let mut open = Open::default();
    for (at, column, value) in samples {
        open.set(at, column, value);
    }
    open
}

/// Seals one bucket; what was damaged.
fn seal(engine: &Redb, place: Place, open: &Open, stays: &dyn Fn(u16) -> bool) -> (Committed, u64) {
    let (sealed, damaged) =
        read(engine, |view| plan(view, place, open, stays)).expect("it is read");
    let before = read(engine, |view| span_row(view, Tier::Raw, place.0).unwrap());
    let committed = write(engine, |tx| commit(tx, &sealed).expect("it is written"));
    assert!(committed.span.pages <= before.pages + sealed.growth, "it grew by no more than said");
    (committed, damaged)
}

/// What the file holds of an hour and group: read here in another way than sealing does.
fn held(engine: &Redb, (hour, group): Place) -> Samples {
    let mut blocks = Vec::new();
    read(engine, |view| {
        let range = group_range(hour, group, 0);
        view.scan(Table::Raw, &range, Order::Forward, &mut |key, value| {
            let (_, _, slice, part) = read_block_key(key).expect("a key");
            blocks.push((slice, part, value.to_vec()));
            Flow::On
        })
        .expect("it is read");
    });
    let (mut samples, mut at, mut last) = (Samples::new(), Vec::new(), i64::MIN);
    for (_, part, value) in blocks {
        if part == 0 {
            at = times::decode(&block::unseal(&value).expect("whole")).expect("whole");
            assert!(last < at[0], "slices follow each other");
            assert!(at.len() <= SLICE_ROWS_MAX);
            last = *at.last().unwrap();
            continue;
        }
        let opened = block::Opened::open(&value).expect("whole");
        assert_eq!(opened.columns().next().map(|(first, _)| first + 1), Some(part));
        for (number, mut bytes) in opened.columns() {
            let column = column::decode(&mut bytes, u32::try_from(at.len()).unwrap()).unwrap();
            for (row, value) in column.cells() {
                let old = samples.insert((number, at[row as usize]), value.to_bits());
                assert_eq!(old, None, "column {number} is there once");
            }
        }
    }
    samples
}

/// What the rows of a span add up to.
fn counted(engine: &Redb, hour: u32) -> SpanRow {
    let (mut by_group, prefix) = (BTreeMap::<GroupId, Tally>::new(), hour.to_be_bytes());
    read(engine, |view| {
        view.scan(Table::Raw, &KeyRange::prefix(&prefix), Order::Forward, &mut |key, value| {
            let group = read_block_key(key).expect("a key").1;
            by_group.entry(group).or_default().add(key, value.len());
            Flow::On
        })
        .expect("it is read");
    });
    by_group.values().fold(SpanRow::default(), |sum, tally| sum.plus(tally.sum))
}

#[test]
fn what_is_sealed_is_what_was_told_whatever_came_in_which_order() {
    for seed in seeds(12) {
        let (engine, mut rng) = (engine(), Rng::from_seed(seed));
        let mut told: BTreeMap<Place, Samples> = BTreeMap::new();
        for round in 0..12 {
            let place = (HOUR + u32::from(rng.one_in(3)), GroupId(1 + u32::from(rng.one_in(3))));
            let its = told.entry(place).or_default();
            let start = Tier::Raw.span_start(place.0);
            let step = [1, 100, 1000, 10_000][rng.index(4)];
            let (first, count) = (rng.below(3000), rng.below(1500));
            let mut open = Open::default();
            for row in 0..count {
                let row = if rng.one_in(20) { rng.below(3000) } else { first + row };
                let at = start + i64::try_from(row * step).unwrap() % HOUR_MS;
                for column in 0..3 {
                    if rng.one_in(9) {
                        continue;
                    }
                    let random = rng.next_u64();
                    let value = if rng.one_in(5) {
                        f64::from_bits(random)
                    } else {
                        real(i64::try_from(row / 7).unwrap())
                    };
                    open.set(at, column, value);
                    its.insert((column, at), value.to_bits());
                }
            }
            let gone = if rng.one_in(4) { u16::try_from(rng.below(3)).unwrap() } else { u16::MAX };
            if open.samples() == 0 {
                continue;
            }
            let (committed, damaged) = seal(&engine, place, &open, &|column| column != gone);
            assert_eq!(damaged, 0, "seed {seed}, round {round}");
            assert_eq!(committed.span, counted(&engine, place.0), "seed {seed}, round {round}");
            let held = held(&engine, place);
            // Those of a column that is gone may be there where nothing was written anew.
            let first = open.slice().times[0];
            its.retain(|(column, at), _| {
                *column != gone || *at < first && held.contains_key(&(gone, *at))
            });
            assert_eq!(&held, its, "seed {seed}, round {round}");
        }
    }
}

#[test]
fn sealing_again_after_a_crash_writes_the_same_bytes() {
    for seed in seeds(6) {
        let (engine, mut rng) = (engine(), Rng::from_seed(seed));
        let mut sample = |column| (START + i64::try_from(rng.below(2500)).unwrap(), column, 1.5);
        let opens: Vec<Open> =
            (0..3).map(|_| open_of((0..4000).map(|number| sample(number % 3)))).collect();
        for open in &opens {
            seal(&engine, PLACE, open, &|_| true);
            let once = all_rows(&engine);
            // The log was not replaced before the crash: the same is open again.
            seal(&engine, PLACE, open, &|_| true);
            assert_eq!(once, all_rows(&engine), "seed {seed}");
        }
    }
}

#[test]
fn full_slices_before_what_is_open_are_not_written_again() {
    let engine = engine();
    let slice = i64::try_from(SLICE_ROWS_MAX).unwrap();
    seal(&engine, PLACE, &open_of((0..3 * slice + 5).map(|row| (START + row, 0, 1.0))), &|_| true);
    let later = open_of([(START + 3 * slice + 9, 0, 2.0)]);
    let (sealed, _) = read(&engine, |view| plan(view, PLACE, &later, &|_| true)).unwrap();
    assert_eq!(sealed.from_slice, 3, "the last one has room");
    let amid = open_of([(START + 2 * slice + 1, 0, 2.0)]);
    let (sealed, _) = read(&engine, |view| plan(view, PLACE, &amid, &|_| true)).unwrap();
    assert_eq!(sealed.from_slice, 2);
    assert_eq!(sealed.rows.len(), 4, "two slices: moments, and a part");
    let first = open_of([(START - 1, 0, 2.0)]);
    let (sealed, _) = read(&engine, |view| plan(view, PLACE, &first, &|_| true)).unwrap();
    assert_eq!(sealed.from_slice, 0);
}

#[test]
fn an_hour_of_which_nothing_stays_leaves_no_row() {
    let engine = engine();
    seal(&engine, PLACE, &open_of([(START, 0, 1.0), (START + 5, 1, 1.0)]), &|_| true);
    assert_ne!(all_rows(&engine), Rows::new());
    // Nothing of it is to be written, so nothing is looked at.
    let (committed, _) = seal(&engine, PLACE, &open_of([(START + 9, 0, 1.0)]), &|_| false);
    assert_eq!(committed.span, SpanRow::default());
    assert_eq!(all_rows(&engine), Rows::new());
}

#[test]
fn a_damaged_block_is_left_out_and_counted_and_its_neighbours_stay() {
    let slice = i64::try_from(SLICE_ROWS_MAX).unwrap();
    let rows = 3 * slice;
    for (damaged_slice, part) in [(1, 0), (1, 1), (0, 0), (2, 1)] {
        let engine = engine();
        let samples = |row: i64| [(START + row, 0, real(row)), (START + row, 3, 1.0)];
        seal(&engine, PLACE, &open_of((0..rows).flat_map(samples)), &|_| true);
        let whole = held(&engine, PLACE);
        let key = block_key(HOUR, GROUP, damaged_slice, part);
        write(&engine, |tx| {
            let mut value = tx.get(Table::Raw, &key).unwrap().expect("it is there");
            let middle = value.len() / 2;
            value[middle] ^= 0x10;
            tx.put(Table::Raw, &key, &value).unwrap();
        });
        let (committed, damaged) = seal(&engine, PLACE, &open_of([(START, 0, -1.0)]), &|_| true);
        assert_eq!(damaged, 1, "slice {damaged_slice}, part {part}");
        assert_eq!(committed.span, counted(&engine, HOUR));
        let lost = START + i64::from(damaged_slice) * slice;
        let mut left = whole;
        left.retain(|(_, at), _| !(lost..lost + slice).contains(at));
        left.insert((0, START), (-1.0_f64).to_bits());
        assert_eq!(held(&engine, PLACE), left, "slice {damaged_slice}, part {part}");
    }
}

fn set_day(engine: &Redb, row: DayRow) {
    write(engine, |tx| set_day_row(tx, DAY, row).expect("it is written"));
}

#[test]
fn a_day_that_was_valid_is_not_any_more_when_something_of_it_was_sealed() {
    let (engine, mut memory) = (engine(), Memory::default());
    memory.rolled.insert(DAY);
    set_day(&engine, DayRow { valid: true, cut: 0 });
    let (committed, _) = seal(&engine, PLACE, &open_of([(START, 0, 1.0)]), &|_| true);
    let row = read(&engine, |view| day_row(view, DAY)).unwrap();
    assert_eq!(row, Some(DayRow { valid: false, cut: 0 }));
    memory.sealed(PLACE, committed);
    assert!(!memory.is_rolled(DAY));
}

#[test]
fn a_day_stays_valid_as_often_as_something_late_comes_of_an_hour_that_went() {
    let (engine, mut memory) = (engine(), Memory::default());
    memory.rolled.insert(DAY);
    let cut = hour_of_day(HOUR) + 1;
    set_day(&engine, DayRow { valid: true, cut });
    for late in 0..2 {
        let (committed, _) = seal(&engine, PLACE, &open_of([(START + late, 0, 1.0)]), &|_| true);
        let row = read(&engine, |view| day_row(view, DAY)).unwrap();
        assert_eq!(row, Some(DayRow { valid: true, cut }));
        memory.sealed(PLACE, committed);
        assert!(memory.is_rolled(DAY));
    }
    // Of the next hour nothing went, and there was nothing of this group.
    let (next, at) = ((HOUR + 1, PLACE.1), START + HOUR_MS);
    let (committed, _) = seal(&engine, next, &open_of([(at, 0, 1.0)]), &|_| true);
    let row = read(&engine, |view| day_row(view, DAY)).unwrap();
    assert_eq!(row, Some(DayRow { valid: false, cut }));
    memory.sealed(next, committed);
    assert!(!memory.is_rolled(DAY));
}

fn take(memory: &mut Memory, place: Place) {
    let at = Tier::Raw.span_start(place.0);
    memory.opens.entry(place).or_default().set(at, 0, 1.0);
    memory.samples += 1;
}

fn seal_all(memory: &mut Memory, engine: &Redb, now_ms: i64) -> Vec<Place> {
    let begun = begin(memory, now_ms);
    for (place, open) in &begun {
        let (committed, _) = seal(engine, *place, open, &|_| true);
        memory.sealed(*place, committed);
    }
    begun.into_iter().map(|(place, _)| place).collect()
}

#[test]
fn an_hour_is_sealed_when_it_is_over_and_what_is_late_waits_for_the_next() {
    let (engine, mut memory) = (engine(), Memory::default());
    let (older, now) = ((HOUR - 3, GROUP), (HOUR + 1, GROUP));
    let over = START + HOUR_MS + 90_000;
    for place in [older, PLACE, now] {
        take(&mut memory, place);
    }
    memory.opens.remove(&older);
    assert!(!is_due(&memory, over - 1), "the hour ended less than 90 s ago");
    assert!(begin(&mut memory, over - 1).is_empty());
    take(&mut memory, older);
    assert!(is_due(&memory, over));
    assert_eq!(seal_all(&mut memory, &engine, over), [older, PLACE]);
    assert_eq!(memory.opens.keys().copied().collect::<Vec<_>>(), [now]);
    assert!(memory.sealing.is_empty());

    take(&mut memory, PLACE);
    assert!(!is_due(&memory, over + 1), "it is late, and goes with the next hour");
    assert!(begin(&mut memory, over + 1).is_empty());
    assert!(!is_due(&memory, over + HOUR_MS - 1));
    assert_eq!(seal_all(&mut memory, &engine, over + HOUR_MS), [PLACE, now]);
    assert!(!is_due(&memory, over + 10 * HOUR_MS), "nothing is open");
}

#[test]
fn when_memory_is_more_than_half_full_everything_is_sealed() {
    let (engine, mut memory) = (engine(), Memory::default());
    take(&mut memory, PLACE);
    memory.samples += OPEN_SAMPLES_MAX / 2;
    assert!(is_due(&memory, START));
    assert_eq!(seal_all(&mut memory, &engine, START), [PLACE]);
    assert_eq!(memory.samples, OPEN_SAMPLES_MAX / 2);
    assert!(!is_due(&memory, START));
}

#[test]
fn what_a_failed_attempt_left_is_sealed_first_and_what_came_meanwhile_after_it() {
    let (engine, mut memory) = (engine(), Memory::default());
    let over = START + HOUR_MS + 90_000;
    take(&mut memory, PLACE);
    // It fails: nobody says that it was sealed.
    assert_eq!(begin(&mut memory, over).len(), 1);
    memory.opens.entry(PLACE).or_default().set(START, 0, 2.0);
    memory.samples += 1;
    assert!(is_due(&memory, over + 1));
    assert_eq!(seal_all(&mut memory, &engine, over + 1), [PLACE]);
    assert_eq!(held(&engine, PLACE)[&(0, START)], 1.0_f64.to_bits());
    assert!(!is_due(&memory, over + 2), "what came meanwhile is late");
    // The next hour begins while the file fails again: the new ones stay behind the old ones.
    let next = over + HOUR_MS;
    assert_eq!(begin(&mut memory, next).len(), 1);
    memory.opens.entry(PLACE).or_default().set(START, 0, 3.0);
    memory.samples += 1;
    assert_eq!(seal_all(&mut memory, &engine, next + HOUR_MS), [PLACE]);
    assert_eq!(held(&engine, PLACE)[&(0, START)], 2.0_f64.to_bits());
    assert!(is_due(&memory, next + HOUR_MS), "there is what came meanwhile");
    assert_eq!(seal_all(&mut memory, &engine, next + HOUR_MS), [PLACE]);
    assert_eq!(held(&engine, PLACE)[&(0, START)], 3.0_f64.to_bits());
    assert_eq!((memory.samples, memory.opens.len()), (0, 0));
}

fn entry(id: u32, kind: Kind) -> Entry {
    let labels = Labels::new("m", [("id", id.to_string().as_str())]).expect("good labels");
    let tenant = TenantId::from_raw(5);
    let column = u16::try_from(id).unwrap();
    Entry { id: SeriesId(id), tenant, group: GROUP, column, kind, labels }
}

#[test]
fn rows_of_series_are_saved_and_what_changed_meanwhile_is_saved_again() {
    let (engine, mut memory) = (engine(), Memory::default());
    for id in 0..3 {
        memory.index.add(entry(id, Kind::Gauge));
        memory.unsaved.insert(SeriesId(id));
    }
    let changes = memory.unsaved(2);
    assert_eq!(changes.iter().map(|change| change.id.0).collect::<Vec<_>>(), [0, 1]);
    write(&engine, |tx| save_series(tx, &changes, (3, 8)).expect("it is written"));
    memory.index.set_kind(SeriesId(0), Kind::Counter);
    memory.saved(&changes);
    let ids =
        |changes: &[SeriesChange]| changes.iter().map(|change| change.id.0).collect::<Vec<_>>();
    assert_eq!(ids(&memory.unsaved(9)), [0, 2]);
    memory.index.remove(SeriesId(1));
    memory.unsaved.insert(SeriesId(1));
    let changes = memory.unsaved(9);
    write(&engine, |tx| save_series(tx, &changes, (3, 8)).expect("it is written"));
    memory.saved(&changes);
    assert!(memory.unsaved(9).is_empty());

    let rows = all_rows(&engine);
    let row = |id: u32| rows.get(&(Table::Series, series_key(SeriesId(id))));
    let first: SeriesRow = codec::decode(row(0).expect("it is there")).expect("a row");
    assert_eq!((first.tenant, first.group, first.column, first.kind), (5, 7, 0, 1));
    assert_eq!(first.labels, entry(0, Kind::Gauge).labels.as_bytes());
    assert_eq!((row(1), row(2).is_some()), (None, true));
    assert!(rows.contains_key(&(Table::Meta, next_key())));
}

#[test]
fn labels_of_any_length_are_saved_and_found() {
    let engine = engine();
    let (value, names): (String, Vec<String>) =
        ("v".repeat(1024), (0..32).map(|number| format!("{}{number}", "n".repeat(120))).collect());
    let pairs = |count: usize| names[..count].iter().map(|name| (name.as_str(), value.as_str()));
    let changes: Vec<SeriesChange> = [32, 1, 13, 14, 15, 0, 32]
        .into_iter()
        .zip(0..)
        .map(|(count, id)| {
            let labels = Labels::new("m", pairs(count)).expect("good labels");
            let entry = Entry { labels, ..entry(id, Kind::Gauge) };
            SeriesChange { id: SeriesId(id), entry: Some(entry) }
        })
        .collect();
    write(&engine, |tx| save_series(tx, &changes, (9, 9)).expect("it is written"));
    // Writing them again changes nothing, and one that goes takes all of its rows along.
    write(&engine, |tx| save_series(tx, &changes, (9, 9)).expect("it is written"));
    let gone = [SeriesChange { id: SeriesId(0), entry: None }];
    write(&engine, |tx| save_series(tx, &gone, (9, 9)).expect("it is written"));
    let mut found = Vec::new();
    each_series(&engine, &mut |series| {
        let (id, row) = series.expect("it is whole");
        found.push((id, row.labels));
    })
    .expect("it is read");
    let labels = |change: &SeriesChange| change.entry.as_ref().unwrap().labels.as_bytes().to_vec();
    let meant: Vec<_> = changes[1..].iter().map(|change| (change.id, labels(change))).collect();
    assert_eq!(found, meant);
}

#[test]
fn a_sample_is_in_memory_until_it_is_in_the_file() {
    let (engine, mut memory) = (engine(), Memory::default());
    memory.index.add(entry(0, Kind::Gauge));
    take(&mut memory, PLACE);
    let its = |memory: &Memory| {
        let entry = memory.index.at(GROUP, 0).expect("it is there").clone();
        memory.read(&entry, START, START + HOUR_MS)
    };
    let begun = begin(&mut memory, START + 2 * HOUR_MS);
    assert_eq!(its(&memory), [(START, 1.0)]);
    let (place, open): &(Place, Arc<Open>) = &begun[0];
    let (committed, _) = seal(&engine, *place, open, &|_| true);
    assert_eq!(its(&memory), [(START, 1.0)], "it is in both");
    memory.sealed(*place, committed);
    assert_eq!(its(&memory), []);
    assert_eq!(held(&engine, PLACE).len(), 1);
}
