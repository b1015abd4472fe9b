//! What the check of a file finds, and that it finds nothing where nothing is wrong.

use super::{Findings, LogReport, check, check_log};
use crate::base::codec;
use crate::base::id::TenantId;
use crate::base::limits::GROUP_SERIES_MAX;
use crate::series::index::Entry;
use crate::series::labels::Labels;
use crate::series::open::Open;
use crate::series::rows::{
    DayRow, SpanRow, block_key, day_key, next_key, series_key, set_day_row, span_key, span_row,
};
use crate::series::seal::{self, SeriesChange};
use crate::series::tests::{read, write};
use crate::series::wal::{Encoder, Item, MAGIC, Row};
use crate::series::{DAY_MS, GroupId, HOUR_MS, Kind, SeriesId, Tier, expire, roll};
use crate::store::redb::Redb;
use crate::store::{Read, Table, Write};

const DAY: u32 = 19_600;
const GROUP: GroupId = GroupId(0);
const SERIES: u32 = 4;

fn change(id: u32, kind: Kind) -> SeriesChange {
    let labels = Labels::new("m", [("id", id.to_string().as_str())]).expect("good labels");
    let (tenant, column) = (TenantId::from_raw(5), u16::try_from(id).unwrap());
    let entry = Entry { id: SeriesId(id), tenant, group: GROUP, column, kind, labels };
    SeriesChange { id: SeriesId(id), entry: Some(entry) }
}

/// A small number as a value.
fn real(number: i64) -> f64 {
    f64::from(i32::try_from(number).expect("it is small"))
}

fn seal_hour(engine: &Redb, hour: u32, step_ms: i64) {
    let (start, mut open) = (Tier::Raw.span_start(hour), Open::default());
    for row in 0..HOUR_MS / step_ms {
        for column in 0..u16::try_from(SERIES).unwrap() {
            let value = [real(row), f64::NAN, -0.0, 0.1 * real(row)][usize::from(column)];
            open.set(start + row * step_ms, column, value);
        }
    }
    let planned = read(engine, |view| seal::plan(view, (hour, GROUP), &open, &|_| true));
    write(engine, |tx| seal::commit(tx, &planned.as_ref().unwrap().0).expect("it is written"));
}

fn roll_day(engine: &Redb, day: u32) {
    let view = |body: &mut dyn FnMut(&dyn Read) -> Result<(), super::RowError>| {
        read(engine, |view| body(view))
    };
    let (rolled, damaged) = roll::plan(&view, day, GROUP, &|column| Some(column == 3)).unwrap();
    assert_eq!(damaged, 0);
    for rolled in rolled {
        write(engine, |tx| roll::commit(tx, &rolled).expect("it is written"));
    }
    write(engine, |tx| roll::finish(tx, day).expect("it is written"));
}

/// Two days, of which the first is rolled up.
fn filled() -> Redb {
    let engine = Redb::in_memory(16 << 20).expect("memory can be written");
    let kind = |id| if id == 3 { Kind::Distribution } else { Kind::Gauge };
    let series: Vec<SeriesChange> = (0..SERIES).map(|id| change(id, kind(id))).collect();
    write(&engine, |tx| seal::save_series(tx, &series, (SERIES, 1)).expect("it is written"));
    for hour in [0, 1, 23, 24] {
        seal_hour(&engine, DAY * 24 + hour, 2_000);
    }
    roll_day(&engine, DAY);
    engine
}

fn look(engine: &Redb) -> Findings {
    check(engine).expect("it is read")
}

/// What is found after something was done to a file in order.
fn found_after(harm: impl FnMut(&mut dyn Write)) -> String {
    let engine = filled();
    write(&engine, harm);
    let findings = look(&engine);
    assert_eq!(findings.count.min(100), findings.found.len() as u64);
    findings.found.join("\n")
}

fn flip(tx: &mut dyn Write, table: Table, key: &[u8]) {
    let mut value = tx.get(table, key).unwrap().expect("it is there");
    let middle = value.len() / 2;
    value[middle] ^= 0x04;
    tx.put(table, key, &value).unwrap();
}

#[test]
fn a_file_in_order_has_no_findings() {
    let engine = filled();
    let findings = look(&engine);
    assert_eq!(findings.found, Vec::<String>::new());
    assert!(findings.is_sound());
    assert_eq!(findings.series, u64::from(SERIES));
    assert!(30 < findings.rows, "{}", findings.rows);

    let empty = Redb::in_memory(1 << 20).expect("memory can be written");
    assert_eq!(look(&empty), Findings::default());
}

#[test]
fn a_file_from_which_spans_went_and_series_were_deleted_is_in_order() {
    let engine = filled();
    write(&engine, |tx| {
        let gone = SeriesChange { id: SeriesId(2), entry: None };
        seal::save_series(tx, &[gone], (SERIES, 1)).expect("it is written");
    });
    assert_eq!(look(&engine).found, Vec::<String>::new());
    write(&engine, |tx| expire::commit(tx, Tier::Raw, DAY * 24).expect("it is written"));
    assert_eq!(look(&engine).found, Vec::<String>::new());
    seal_hour(&engine, DAY * 24, 1_000_000);
    seal_hour(&engine, DAY * 24 + 23, 7_777);
    assert_eq!(look(&engine).found, Vec::<String>::new());
    roll_day(&engine, DAY);
    assert_eq!(look(&engine).found, Vec::<String>::new());
}

#[test]
fn damaged_blocks_are_found() {
    let hour = DAY * 24 + 1;
    for (tier, span, slice, part) in [
        (Tier::Raw, hour, 0, 0),
        (Tier::Raw, hour, 0, 1),
        (Tier::Raw, hour, 1, 1),
        (Tier::FiveMinutes, DAY, 0, 0),
        (Tier::Hour, DAY / 7, 0, 1),
        (Tier::Day, DAY / 28, 0, 1),
    ] {
        let found = found_after(|tx| {
            flip(tx, tier.table(), &block_key(span, GROUP, slice, part));
        });
        let place = format!(
            "series, {}, span {span}, group 0, slice {slice}, part {part}: a block of series is damaged",
            tier.table().name()
        );
        assert!(found.contains(&place), "{place} is not in {found}");
    }
}

#[test]
fn blocks_that_are_not_where_they_belong_are_found() {
    let key = |slice, part| block_key(DAY * 24, GROUP, slice, part);
    for (from, to, what) in [
        (key(1, 0), key(2, 0), "do not follow"),
        (key(0, 0), block_key(DAY * 24 + 5, GROUP, 0, 0), "not of its hour"),
        (key(1, 1), key(7, 1), "the rows before it are missing"),
        (key(1, 1), key(1, 2), "does not name its first column"),
        (key(0, 1), key(0, 9), "do not follow those before it"),
    ] {
        let found = found_after(|tx| {
            let value = tx.get(Table::Raw, &from).unwrap().expect("it is there");
            if what.contains("name") {
                tx.delete(Table::Raw, &from).unwrap();
            }
            tx.put(Table::Raw, &to, &value).unwrap();
        });
        assert!(found.contains(what), "{what} is not in {found}");
    }
    let found = found_after(|tx| tx.put(Table::Raw, b"short", b"").unwrap());
    assert!(found.contains("key is damaged"), "{found}");
}

#[test]
fn spans_that_say_something_else_than_they_hold_are_found() {
    let hour = DAY * 24;
    let key = span_key(Tier::Raw, hour);
    let set = |tx: &mut dyn Write, change: &dyn Fn(SpanRow) -> SpanRow| {
        let row = change(span_row(&*tx, Tier::Raw, hour).unwrap());
        tx.put(Table::Spans, &key, &codec::encode(&row).unwrap()).unwrap();
    };
    let changes: [&dyn Fn(SpanRow) -> SpanRow; 3] = [
        &|row| SpanRow { rows: row.rows + 1, ..row },
        &|row| SpanRow { bytes: row.bytes - 1, ..row },
        &|row| SpanRow { pages: row.pages - 1, ..row },
    ];
    for change in changes {
        let found = found_after(|tx| set(tx, change));
        assert!(found.contains("it is said to hold"), "{found}");
    }
    let found = found_after(|tx| assert!(tx.delete(Table::Spans, &key).unwrap()));
    assert!(found.contains("not in the list of spans"), "{found}");
    let found = found_after(|tx| flip(tx, Table::Spans, &key));
    assert!(found.contains(&format!("raw, span {hour}")), "{found}");
    let found = found_after(|tx| set_span(tx, DAY * 24 + 9));
    assert!(found.contains("it is said to hold"), "{found}");
}

fn set_span(tx: &mut dyn Write, hour: u32) {
    let row = SpanRow { rows: 1, bytes: 1, pages: 1 };
    tx.put(Table::Spans, &span_key(Tier::Raw, hour), &codec::encode(&row).unwrap()).unwrap();
}

#[test]
fn points_that_are_not_those_of_their_samples_are_found() {
    // The day is said to be valid, and something else was sealed since.
    let found = {
        let engine = filled();
        seal_hour(&engine, DAY * 24 + 1, 999);
        write(&engine, |tx| {
            set_day_row(tx, DAY, DayRow { valid: true, cut: 0 }).expect("it is written");
        });
        look(&engine).found.join("\n")
    };
    for tier in Tier::POINTS {
        let what = format!("series, {}, day {DAY}, group 0, column", tier.table().name());
        assert!(found.contains(&what), "{what} is not in {found}");
    }
    assert!(found.contains("a point is not that of its samples"), "{found}");
    let gone = block_key(DAY, GROUP, 0, 1);
    let found = found_after(|tx| assert!(tx.delete(Table::Rolled5m, &gone).unwrap()));
    assert!(found.contains("a point is missing"), "{found}");
    let found = found_after(|tx| {
        let row = DayRow { valid: true, cut: 0 };
        set_day_row(tx, DAY + 1, row).expect("it is written");
    });
    assert!(found.contains(&format!("rolled_5m, day {}, group 0", DAY + 1)), "{found}");
    let found = found_after(|tx| tx.put(Table::Meta, &day_key(DAY), b"no row").unwrap());
    assert!(found.contains(&format!("day {DAY}")), "{found}");
    assert_eq!(i64::from(DAY) * DAY_MS, Tier::FiveMinutes.span_start(DAY));
}

#[test]
fn series_that_take_the_place_of_others_are_found() {
    let save = |tx: &mut dyn Write, change: SeriesChange| {
        seal::save_series(tx, &[change], (9, 9)).expect("it is written");
    };
    let with = |change_it: &dyn Fn(&mut Entry)| {
        let mut change = change(7, Kind::Gauge);
        change_it(change.entry.as_mut().unwrap());
        change
    };
    let labels = change(0, Kind::Gauge).entry.unwrap().labels;
    for (change, what) in [
        (with(&|entry| entry.labels = labels.clone()), "has the same labels"),
        (with(&|entry| entry.column = 2), "has its column"),
        (with(&|entry| entry.column = GROUP_SERIES_MAX), "beyond those that a group may have"),
        (with(&|entry| entry.tenant = TenantId::from_raw(6)), "of another tenant"),
    ] {
        let found = found_after(|tx| save(tx, change.clone()));
        assert!(found.contains(what), "{what} is not in {found}");
    }
    let found = found_after(|tx| flip(tx, Table::Series, &series_key(SeriesId(1))));
    assert!(found.contains("a row of the list"), "{found}");
    let found = found_after(|tx| assert!(tx.delete(Table::Meta, &next_key()).unwrap()));
    assert!(found.contains("they are not there"), "{found}");
    let found = found_after(|tx| seal::save_series(tx, &[], (1, 1)).expect("it is written"));
    assert!(found.contains("one of them is in use"), "{found}");
}

#[test]
fn what_stands_in_the_log_is_counted_and_damage_is_found_and_a_torn_end_is_none() {
    let (mut bytes, mut encoder) = (MAGIC.to_vec(), Encoder::default());
    let define = |id: u32| {
        let labels = Labels::new("cpu", [("core", &*id.to_string())]).unwrap();
        let (id, column, kind) = (SeriesId(id), u16::try_from(id).unwrap(), Kind::Gauge);
        let (tenant, group) = (TenantId::from_raw(1), GroupId(0));
        Item::Define(Entry { id, tenant, group, column, kind, labels })
    };
    let row = |at_ms| Item::Row(Row { group: GroupId(0), at_ms, cells: vec![(0, 1.5), (1, 2.5)] });
    encoder.frame(&[define(0), define(1), define(2), row(1000)], &mut bytes);
    let first = bytes.len();
    encoder.frame(&[Item::Delete(SeriesId(2)), row(2000)], &mut bytes);
    let sound = LogReport { series: 2, samples: 4, frames: 2, torn: 0, finding: None };
    assert_eq!(check_log(&bytes), sound);
    let cut = LogReport { series: 3, samples: 2, frames: 1, torn: 9, finding: None };
    assert_eq!(check_log(&bytes[..first + 9]), cut);
    bytes[MAGIC.len() + 20] ^= 1;
    let damaged = check_log(&bytes);
    assert_eq!((damaged.frames, damaged.samples), (0, 0));
    assert!(damaged.finding.is_some_and(|finding| finding.contains("damaged behind 8 bytes")));
    assert!(check_log(b"nothing of the kind").finding.is_some());
}
