//! Rollups beside what is computed from every sample.

use std::collections::BTreeMap;

use super::{Rolled, commit, due, finish, groups, plan};
use crate::base::limits::{PART_BYTES_MAX, ROLL_AFTER, ROLL_COLUMNS, SLICE_ROWS_MAX};
use crate::base::rng::Rng;
use crate::series::block::{self, Opened};
use crate::series::column::{self, Column};
use crate::series::memory::Memory;
use crate::series::open::Open;
use crate::series::point::{self, Common, Point, five_minutes, joined};
use crate::series::rows::{RowError, SpanRow, block_key, day_row, group_range, replace, span_row};
use crate::series::tests::{engine, write};
use crate::series::{DAY_MS, GroupId, HOUR_MS, Tier, times};
use crate::store::redb::Redb;
use crate::store::{Engine, Flow, Order, Read, Table, Write};
use crate::testing::seeds;

const DAY: u32 = 20_002;
const GROUP: GroupId = GroupId(7);

/// Samples of a group: by column, ascending.
type Samples = BTreeMap<u16, Vec<(i64, f64)>>;
type Bits = Vec<(i64, String)>;

struct World {
    engine: Redb,
}

impl World {
    fn new() -> World {
        World { engine: engine() }
    }

    fn write(&self, body: &mut dyn FnMut(&mut dyn Write)) {
        write(&self.engine, body);
    }

    fn read(
        &self,
        body: &mut dyn FnMut(&dyn Read) -> Result<(), RowError>,
    ) -> Result<(), RowError> {
        let mut result = Ok(());
        self.engine.read(&mut |view| {
            result = body(view);
            Ok(())
        })?;
        result
    }

    /// Puts the samples of a group's hour, in slices of so many rows.
    fn put_hour(&self, hour: u32, group: GroupId, samples: &Samples, rows_max: usize) {
        let start = Tier::Raw.span_start(hour);
        let mut rows = Vec::new();
        let mut moments: Vec<i64> = samples.values().flatten().map(|(at, _)| *at).collect();
        moments.retain(|at| (start..start + HOUR_MS).contains(at));
        moments.sort_unstable();
        moments.dedup();
        for (slice, moments) in (0_u16..).zip(moments.chunks(rows_max)) {
            let mut bytes = Vec::new();
            times::encode(moments, &mut bytes);
            rows.push((block_key(hour, group, slice, 0), block::seal(&bytes)));
            let mut columns = Vec::new();
            for (number, samples) in samples {
                let mut column = Column::new();
                for (at, value) in samples {
                    if let Ok(row) = moments.binary_search(at) {
                        column.push(u32::try_from(row).unwrap(), *value);
                    }
                }
                if !column.values.is_empty() {
                    let mut bytes = Vec::new();
                    column::encode(&column, u32::try_from(moments.len()).unwrap(), &mut bytes);
                    columns.push((*number, bytes));
                }
            }
            for part in block::parts(&columns) {
                rows.push((block_key(hour, group, slice, part.first + 1), part.bytes));
            }
        }
        self.write(&mut |tx| {
            replace(tx, Tier::Raw, (hour, group, 0), &rows).map(drop).expect("it is written");
        });
    }

    /// Puts a day of samples.
    fn put_day(&self, day: u32, group: GroupId, samples: &Samples, rows_max: usize) {
        for hour in day * 24..day * 24 + 24 {
            self.put_hour(hour, group, samples, rows_max);
        }
    }

    fn plan(&self, day: u32, sketch: &dyn Fn(u16) -> Option<bool>) -> (Vec<Rolled>, u64) {
        plan(&|body| self.read(body), day, GROUP, sketch).expect("the engine works")
    }

    /// Rolls up a day of the group; how many pieces are damaged.
    fn roll(&self, day: u32, sketch: &dyn Fn(u16) -> Option<bool>) -> u64 {
        let (rolled, damaged) = self.plan(day, sketch);
        for rolled in &rolled {
            self.write(&mut |tx| commit(tx, rolled).map(drop).expect("it is written"));
        }
        self.write(&mut |tx| finish(tx, day).expect("it is written"));
        damaged
    }

    /// All rows of the group in a span.
    fn rows(&self, tier: Tier, span: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        let read = self.engine.read(&mut |view| {
            let range = group_range(span, GROUP, 0);
            view.scan(tier.table(), &range, Order::Forward, &mut |key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                Flow::On
            })
        });
        read.expect("it is read");
        rows
    }

    /// The points of a column in a span, read as a query does.
    fn points(&self, tier: Tier, span: u32, column: u16) -> Vec<(i64, Point)> {
        let start = tier.span_start(span);
        let mut points: Vec<(i64, Point)> = Vec::new();
        let mut common = None;
        for (key, value) in self.rows(tier, span) {
            let part = u16::from_be_bytes([key[10], key[11]]);
            assert!(value.len() <= PART_BYTES_MAX, "{} bytes", value.len());
            if part == 0 {
                let head = block::unseal(&value).unwrap();
                common = Some(Common::decode(&head, start, tier.step_ms()).unwrap());
            } else if let Some(bytes) = Opened::open(&value).unwrap().column(column) {
                let its = point::decode(bytes, common.as_ref().unwrap()).unwrap();
                points.extend(
                    its.into_iter().map(|(s, p)| (start + i64::from(s) * tier.step_ms(), p)),
                );
            }
        }
        points
    }
}

/// Points in words that are the same only if they are, to the bit.
fn bits(points: &[(i64, Point)]) -> Bits {
    let all = points.iter().map(|(at, p)| {
        let floats = [p.min, p.max, p.sum, p.first, p.last, p.increase].map(f64::to_bits);
        (*at, format!("{floats:x?} {} {} {} {:?}", p.count, p.first_ms, p.last_ms, p.sketch))
    });
    all.collect()
}

/// What the points of a column in a tier are, by its samples.
fn expected(samples: &[(i64, f64)], tier: Tier, sketch: bool) -> Vec<(i64, Point)> {
    joined(&five_minutes(samples, sketch), tier.step_ms())
}

fn value(rng: &mut Rng, column: u16, at: i64) -> f64 {
    match column % 5 {
        0 => f64::from(column),
        1 => f64::from(u32::try_from(at / 1000 % 1_000_000).unwrap()),
        2 => f64::from(u32::try_from(rng.below(1000)).unwrap()) / 100.0,
        3 => f64::from_bits(rng.next_u64()),
        _ => f64::from(u32::try_from(rng.below(50)).unwrap()) * 4096.0,
    }
}

/// A day of samples of these columns; not all of them have all rows.
fn day_of_samples(rng: &mut Rng, day: u32, columns: &[u16]) -> Samples {
    let start = i64::from(day) * DAY_MS;
    let every = [60_000, 240_000, 900_000][rng.index(3)];
    let moments: Vec<i64> = (0..DAY_MS / every).map(|at| start + at * every).collect();
    let mut all = Samples::new();
    for column in columns {
        let part = rng.below(3);
        let mut its = moments.clone();
        its.retain(|at| part < 2 || at / HOUR_MS % 5 != 1);
        all.insert(*column, its.into_iter().map(|at| (at, value(rng, *column, at))).collect());
    }
    all
}

/// Every fourth column has a sketch.
#[expect(clippy::unnecessary_wraps, reason = "none would be a column that is gone")]
fn sketches(column: u16) -> Option<bool> {
    Some(column.is_multiple_of(4))
}

fn check_all(world: &World, samples: &[(u32, Samples)], seed: u64) {
    for tier in Tier::POINTS {
        let mut by_place: BTreeMap<(u32, u16), Vec<(i64, Point)>> = BTreeMap::new();
        for (day, samples) in samples {
            let span = tier.span_of(i64::from(*day) * DAY_MS);
            for (column, its) in samples {
                let points = expected(its, tier, sketches(*column).unwrap());
                by_place.entry((span, *column)).or_default().extend(points);
            }
        }
        for ((span, column), points) in by_place {
            let found = world.points(tier, span, column);
            assert_eq!(bits(&found), bits(&points), "seed {seed}, {tier:?}, column {column}");
        }
    }
}

#[test]
fn points_of_a_day_are_those_of_its_samples_and_other_days_stay() {
    for seed in seeds(6) {
        let mut rng = Rng::from_seed(seed);
        let world = World::new();
        let rows_max = [SLICE_ROWS_MAX, 17][rng.index(2)];
        let columns = [0, 1, 2, 3, 4, 8, 300];
        // Two weeks meet between the first days, and four of them before the last.
        let mut days = Vec::new();
        for day in [DAY, DAY + 1, DAY + 2, DAY + 6] {
            let first = rng.index(3);
            let samples = day_of_samples(&mut rng, day, &columns[first..]);
            world.put_day(day, GROUP, &samples, rows_max);
            days.push((day, samples));
        }
        for at in [2, 0, 3, 1] {
            assert_eq!(world.roll(days[at].0, &sketches), 0, "seed {seed}");
        }
        check_all(&world, &days, seed);

        // Something late: only that day changes.
        let before =
            Tier::POINTS.map(|tier| world.rows(tier, tier.span_of(i64::from(DAY) * DAY_MS)));
        assert_eq!(world.roll(DAY, &sketches), 0);
        let again =
            Tier::POINTS.map(|tier| world.rows(tier, tier.span_of(i64::from(DAY) * DAY_MS)));
        assert_eq!(again, before, "seed {seed}: done twice it is the same");
        let late = days[1].1.get_mut(&300).unwrap();
        late.retain(|(at, _)| at / HOUR_MS % 24 < 9);
        late.push((i64::from(DAY + 1) * DAY_MS + 9 * HOUR_MS + 1, 5.5));
        world.put_day(DAY + 1, GROUP, &days[1].1, rows_max);
        assert_eq!(world.roll(DAY + 1, &sketches), 0, "seed {seed}");
        check_all(&world, &days, seed);
    }
}

#[test]
fn what_a_span_holds_is_noted() {
    let (mut rng, world) = (Rng::from_seed(1), World::new());
    for day in [DAY, DAY + 1] {
        world.put_day(day, GROUP, &day_of_samples(&mut rng, day, &[1, 2]), SLICE_ROWS_MAX);
        world.roll(day, &sketches);
    }
    let mut memory = Memory::default();
    for tier in Tier::POINTS {
        let span = tier.span_of(i64::from(DAY) * DAY_MS);
        let rows = world.rows(tier, span);
        let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        let mut row = SpanRow::default();
        let read = |view: &dyn Read| -> Result<(), RowError> {
            row = span_row(view, tier, span)?;
            Ok(())
        };
        let mut read = read;
        world.read(&mut |view| read(view)).unwrap();
        assert_eq!((row.rows, row.bytes), (rows.len() as u64, bytes as u64), "{tier:?}");
        assert!(row.bytes <= row.pages, "{tier:?}");
        memory.rolled_span(tier, span, row);
        assert_eq!(memory.tier(tier), Some((span, span, row)));
    }
}

#[test]
fn columns_of_all_chunks_are_rolled_up_and_those_of_deleted_series_go() {
    let (mut rng, world) = (Rng::from_seed(2), World::new());
    let chunk = u16::try_from(ROLL_COLUMNS).unwrap();
    let columns: Vec<u16> = (0..3 * chunk + 9).filter(|column| column % 7 != 3).collect();
    let start = i64::from(DAY) * DAY_MS;
    let mut samples = Samples::new();
    for column in &columns {
        let its = (0..48).map(|at| start + at * HOUR_MS / 2);
        let its = its.map(|at| (at, value(&mut rng, *column, at)));
        samples.insert(*column, its.collect());
    }
    world.put_day(DAY, GROUP, &samples, 2);
    assert_eq!(world.roll(DAY, &sketches), 0);
    check_all(&world, &[(DAY, samples.clone())], 2);

    // The next day the group has a few columns alone, and half of the series are deleted.
    samples.retain(|column, _| *column < 3);
    let day_after = samples.iter().map(|(column, its)| {
        (*column, its.iter().map(|(at, value)| (at + DAY_MS, *value)).collect())
    });
    world.put_day(DAY + 1, GROUP, &day_after.collect(), 99);
    let stays = |column: u16| sketches(column).filter(|_| !column.is_multiple_of(2));
    assert_eq!(world.roll(DAY + 1, &stays), 0);
    let span = Tier::Day.span_of(start);
    for column in columns {
        let days = world.points(Tier::Day, span, column).len();
        let expected = match column {
            1 => 2,
            _ if column.is_multiple_of(2) => 0,
            _ => 1,
        };
        assert_eq!(days, expected, "column {column}");
    }
}

#[test]
fn points_of_a_column_that_are_longer_than_a_part_go_on_in_another_slice() {
    let world = World::new();
    let start = i64::from(DAY) * DAY_MS;
    let mut rng = Rng::from_seed(3);
    let mut samples = Samples::new();
    for column in [0, 3, 4] {
        let its = (0..DAY_MS / 4_000).map(|at| {
            let value = f64::from(u32::try_from(rng.below(1 << 31)).unwrap());
            (start + at * 4_000, (value / 1e8).exp() / 3.0)
        });
        samples.insert(column, its.collect());
    }
    world.put_day(DAY, GROUP, &samples, SLICE_ROWS_MAX);
    for _ in 0..2 {
        assert_eq!(world.roll(DAY, &sketches), 0);
        check_all(&world, &[(DAY, samples.clone())], 3);
        let rows = world.rows(Tier::FiveMinutes, DAY);
        let slices = u16::from_be_bytes([rows.last().unwrap().0[8], rows.last().unwrap().0[9]]);
        assert!(0 < slices);
    }
}

#[test]
fn points_of_hours_whose_samples_are_gone_stay() {
    let (mut rng, world) = (Rng::from_seed(4), World::new());
    let mut samples = day_of_samples(&mut rng, DAY, &[0, 1, 2, 4]);
    world.put_day(DAY, GROUP, &samples, SLICE_ROWS_MAX);
    world.roll(DAY, &sketches);
    let first = DAY * 24;
    for hour in first..first + 5 {
        world.write(&mut |tx| {
            replace(tx, Tier::Raw, (hour, GROUP, 0), &[]).map(drop).expect("it is written");
        });
    }
    samples.get_mut(&1).unwrap().push((i64::from(DAY + 1) * DAY_MS - 1, 9.0));
    world.put_hour(first + 23, GROUP, &samples, SLICE_ROWS_MAX);
    assert_eq!(world.roll(DAY, &sketches), 0);
    check_all(&world, &[(DAY, samples)], 4);
}

#[test]
fn what_is_late_of_an_hour_whose_samples_went_does_not_take_the_place_of_its_points() {
    let (mut rng, world) = (Rng::from_seed(9), World::new());
    let mut samples = day_of_samples(&mut rng, DAY, &[0, 1, 2]);
    world.put_day(DAY, GROUP, &samples, SLICE_ROWS_MAX);
    world.roll(DAY, &sketches);
    let (first, at) = (DAY * 24, i64::from(DAY) * DAY_MS);
    world.write(&mut |tx| {
        let cut = crate::series::rows::DayRow { valid: false, cut: 1 };
        crate::series::rows::set_day_row(tx, DAY, cut).expect("it is written");
    });
    // Of one column there were points, and of another there are none.
    let late: Samples =
        [(1, vec![(at + 7, 1e9)]), (4, vec![(at + 7, 5.0), (at + 400_000, 6.0)])].into();
    world.put_hour(first, GROUP, &late, 1);
    samples.insert(4, late[&4].clone());
    assert_eq!(world.roll(DAY, &sketches), 0);
    check_all(&world, &[(DAY, samples)], 9);
}

#[test]
fn what_is_damaged_is_left_out_and_counted() {
    let world = World::new();
    let moments = (0..96).map(|at| i64::from(DAY) * DAY_MS + at * HOUR_MS / 4);
    let its: Vec<(i64, f64)> = moments.map(|at| (at, 1.5)).collect();
    let samples: Samples = [(1, its.clone()), (2, its)].into();
    world.put_day(DAY, GROUP, &samples, SLICE_ROWS_MAX);
    let spoil = |hour: u32, part: u16| {
        let key = block_key(DAY * 24 + hour, GROUP, 0, part);
        world.write(&mut |tx| {
            let mut value = tx.get(Table::Raw, &key).unwrap().expect("it is there");
            value[3] ^= 1;
            tx.put(Table::Raw, &key, &value).unwrap();
        });
    };
    // The moments of one hour, and the columns of another.
    spoil(3, 0);
    spoil(8, 2);
    assert_eq!(world.roll(DAY, &sketches), 2);
    let hours: Vec<i64> = world
        .points(Tier::Hour, Tier::Hour.span_of(i64::from(DAY) * DAY_MS), 1)
        .iter()
        .map(|(at, _)| at / HOUR_MS % 24)
        .collect();
    let others = samples[&1].iter().map(|(at, _)| at / HOUR_MS % 24);
    let mut others: Vec<i64> = others.filter(|hour| ![3, 8].contains(hour)).collect();
    others.dedup();
    assert_eq!(hours, others);
}

#[test]
fn a_day_is_valid_when_it_is_finished_and_stays_cut() {
    let world = World::new();
    let valid = || {
        let mut row = None;
        world.engine.read(&mut |view| day_row(view, DAY).map(|found| row = found)).unwrap();
        row.map(|row| (row.valid, row.cut))
    };
    assert_eq!(valid(), None);
    world.write(&mut |tx| finish(tx, DAY).unwrap());
    assert_eq!(valid(), Some((true, 0)));
    world.write(&mut |tx| {
        let row = crate::series::rows::DayRow { valid: false, cut: 7 };
        crate::series::rows::set_day_row(tx, DAY, row).unwrap();
        finish(tx, DAY).unwrap();
    });
    assert_eq!(valid(), Some((true, 7)));
}

#[test]
fn groups_of_a_day_are_told_in_pages() {
    let world = World::new();
    let start = i64::from(DAY) * DAY_MS;
    let mut all = Vec::new();
    for number in 0..250_u32 {
        let (group, at) = (GroupId(number * 3), start + i64::from(number % 24) * HOUR_MS);
        let samples = [(0, vec![(at, 1.0)])].into();
        world.put_hour(Tier::Raw.span_of(at), group, &samples, 9);
        world.put_hour(
            Tier::Raw.span_of(start + DAY_MS),
            GroupId(number * 3 + 1),
            &[(0, vec![(start + DAY_MS, 1.0)])].into(),
            9,
        );
        all.push(group);
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let mut page = Vec::new();
        world
            .read(&mut |view| {
                page = groups(view, DAY, after)?;
                Ok(())
            })
            .unwrap();
        let Some(last) = page.last() else { break };
        after = Some(*last);
        found.extend(page);
    }
    assert_eq!(found, all);
    world
        .read(&mut |view| groups(view, DAY, Some(GroupId(u32::MAX))).map(|g| assert_eq!(g, [])))
        .unwrap();
}

#[test]
fn the_earliest_day_that_is_over_and_not_open_is_due() {
    let mut memory = Memory::default();
    let end = i64::from(DAY + 1) * DAY_MS;
    let over = end + i64::try_from(ROLL_AFTER.as_millis()).unwrap();
    let row = SpanRow { rows: 1, bytes: 1, pages: 1 };
    assert_eq!(due(&memory, over), None);
    for hour in [DAY * 24 + 23, (DAY + 1) * 24, (DAY + 3) * 24 + 5] {
        memory.spans.insert((Tier::Raw, hour), row);
    }
    assert_eq!(due(&memory, over - 1), None);
    assert_eq!(due(&memory, over), Some(DAY));
    let mut open = Open::default();
    open.set(end - 5, 0, 1.0);
    memory.opens.insert((DAY * 24 + 23, GROUP), open.clone());
    assert_eq!(due(&memory, over), None);
    assert_eq!(due(&memory, over + DAY_MS), Some(DAY + 1), "another day waits for nobody");
    let opens = std::mem::take(&mut memory.opens);
    memory.sealing = opens.into_iter().map(|(place, open)| (place, open.into())).collect();
    assert_eq!(due(&memory, over), None);
    memory.sealing.clear();
    memory.rolled_day(DAY);
    assert_eq!(due(&memory, over), None);
    memory.rolled_day(DAY + 1);
    assert_eq!(due(&memory, over + 2 * DAY_MS), None);
    assert_eq!(due(&memory, over + 3 * DAY_MS), Some(DAY + 3));
}
