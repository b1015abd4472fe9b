//! What expiry promises, on the engine that ships.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Keep, Why, commit, due, fits};
use crate::base::limits::DELETE_ROWS_MAX;
use crate::base::rng::Rng;
use crate::series::memory::Memory;
use crate::series::rows::{
    DayRow, SpanRow, Tally, block_key, day_row, read_block_key, replace, set_day_row, span_row,
};
use crate::series::tests::{engine, read, write};
use crate::series::{DAY_MS, GroupId, HOUR_MS, Tier};
use crate::store::redb::Redb;
use crate::store::{Flow, KeyRange, Order};
use crate::testing::seeds;

const DAY: u32 = 19_600;
const HOUR: u32 = DAY * 24;

fn keep(raw_hours: u64, budget: u64) -> Keep {
    let [raw, r5m, r1h, r1d] = [1, 24, 240, 2400].map(|by| Duration::from_hours(raw_hours * by));
    Keep { raw, r5m, r1h, r1d, budget }
}

/// Puts rows of a group into a span, and tells memory.
fn put(engine: &Redb, memory: &mut Memory, (tier, span): (Tier, u32), lengths: &[usize]) {
    let key = |part: usize| block_key(span, GroupId(1), 0, u16::try_from(part).unwrap());
    let rows: Vec<_> =
        lengths.iter().enumerate().map(|(part, length)| (key(part), vec![1; *length])).collect();
    let row = write(engine, |tx| replace(tx, tier, (span, GroupId(1), 0), &rows).unwrap());
    memory.set_span((tier, span), row);
}

/// One step, as the keeper does it.
fn step(engine: &Redb, memory: &mut Memory, (tier, span): (Tier, u32)) -> Option<SpanRow> {
    let left = write(engine, |tx| commit(tx, tier, span).expect("it is written"));
    memory.expired(tier, span, left);
    left
}

fn counted(engine: &Redb, tier: Tier, span: u32) -> SpanRow {
    let (mut by_group, prefix) = (BTreeMap::<GroupId, Tally>::new(), span.to_be_bytes());
    read(engine, |view| {
        view.scan(tier.table(), &KeyRange::prefix(&prefix), Order::Forward, &mut |key, value| {
            let group = read_block_key(key).expect("a key").1;
            by_group.entry(group).or_insert_with(Tally::amid).add(key, value.len());
            Flow::On
        })
        .expect("it is read");
    });
    by_group.values().fold(SpanRow::default(), |sum, tally| sum.plus(tally.sum))
}

fn filled() -> (Redb, Memory) {
    let (engine, mut memory) = (engine(), Memory::default());
    for hour in 0..3 {
        put(&engine, &mut memory, (Tier::Raw, HOUR + hour), &[100, 5000]);
    }
    put(&engine, &mut memory, (Tier::FiveMinutes, DAY), &[100, 500]);
    put(&engine, &mut memory, (Tier::Hour, DAY / 7), &[100, 300]);
    put(&engine, &mut memory, (Tier::Day, DAY / 28), &[100]);
    (engine, memory)
}

#[test]
fn spans_go_when_they_ended_so_long_ago_as_their_tier_is_kept() {
    let (_, memory) = filled();
    let keep = keep(10, u64::MAX);
    let end = Tier::Raw.span_start(HOUR + 1) + 10 * HOUR_MS;
    assert_eq!(due(&memory, &keep, Some(end - 1), 0), None);
    assert_eq!(due(&memory, &keep, Some(end), 0), Some((Tier::Raw, HOUR, Why::Age)));
    let mut later = memory;
    for hour in 0..3 {
        later.expired(Tier::Raw, HOUR + hour, None);
    }
    let end = Tier::FiveMinutes.span_start(DAY + 1) + 240 * HOUR_MS;
    assert_eq!(due(&later, &keep, Some(end - 1), 0), None);
    assert_eq!(due(&later, &keep, Some(end), 0), Some((Tier::FiveMinutes, DAY, Why::Age)));
}

#[test]
fn without_room_the_oldest_of_the_finest_goes_until_there_is_room_or_nothing_is_left() {
    let (engine, mut memory) = filled();
    let live = memory.live_bytes();
    assert_eq!(due(&memory, &keep(9999, live), Some(0), 0), None);
    assert_eq!(due(&memory, &keep(9999, live + 5), Some(0), 5), None);
    assert!(fits(&memory, &keep(9999, live + 5), 5));
    assert!(!fits(&memory, &keep(9999, live + 5), 6));
    let keep = keep(9999, 1000);
    assert_eq!(due(&memory, &keep, Some(0), 1001), None, "it would not fit if nothing were there");
    let mut went = Vec::new();
    while let Some((tier, span, why)) = due(&memory, &keep, Some(0), 1000) {
        assert_eq!(why, Why::Budget);
        step(&engine, &mut memory, (tier, span));
        went.push((tier, span));
        assert!(went.len() < 9, "it ends");
    }
    let raw = [0, 1, 2].map(|hour| (Tier::Raw, HOUR + hour));
    let rest = [(Tier::FiveMinutes, DAY), (Tier::Hour, DAY / 7), (Tier::Day, DAY / 28)];
    assert_eq!(went, [&raw[..], &rest[..]].concat());
    assert_eq!((memory.live_bytes(), memory.spans.len()), (0, 0));
}

#[test]
fn a_large_span_goes_in_steps_and_each_says_what_is_left() {
    let (engine, mut memory) = (engine(), Memory::default());
    let rows = usize::try_from(DELETE_ROWS_MAX).unwrap();
    for (count, lengths) in [(2 * rows + 1, [9, 3000]), (2 * rows, [500, 20])] {
        let lengths: Vec<usize> = lengths.into_iter().cycle().take(count).collect();
        put(&engine, &mut memory, (Tier::Raw, HOUR), &lengths);
        let mut steps = 0;
        while let Some(left) = step(&engine, &mut memory, (Tier::Raw, HOUR)) {
            steps += 1;
            assert_eq!(left.rows, (count - steps * rows) as u64);
            let counted = counted(&engine, Tier::Raw, HOUR);
            assert_eq!((left.rows, left.bytes), (counted.rows, counted.bytes));
            assert!(counted.pages <= left.pages && left.pages <= counted.pages + 4096);
            assert_eq!(memory.spans.get(&(Tier::Raw, HOUR)), Some(&left));
        }
        assert_eq!(steps, (count - 1) / rows);
        assert_eq!(memory.live_bytes(), 0);
        let row = read(&engine, |view| span_row(view, Tier::Raw, HOUR)).unwrap();
        assert_eq!(row, SpanRow::default());
    }
}

#[test]
fn a_day_stays_valid_as_long_as_there_is_anything_of_it() {
    let (engine, mut memory) = filled();
    let valid = DayRow { valid: true, cut: 0 };
    write(&engine, |tx| set_day_row(tx, DAY, valid).unwrap());
    memory.rolled.insert(DAY);
    let day = |engine: &Redb| read(engine, |view| day_row(view, DAY)).unwrap();
    let spans = [
        (Tier::Raw, HOUR),
        (Tier::Raw, HOUR + 1),
        (Tier::Raw, HOUR + 2),
        (Tier::FiveMinutes, DAY),
        (Tier::Hour, DAY / 7),
    ];
    for (span, cut) in spans.into_iter().zip([1, 2, 3, 3, 3]) {
        step(&engine, &mut memory, span);
        // Raw samples are missing, so its points are what they are.
        assert_eq!(day(&engine), Some(DayRow { valid: true, cut }), "{span:?}");
        assert!(memory.is_rolled(DAY));
    }
    step(&engine, &mut memory, (Tier::Day, DAY / 28));
    assert_eq!(day(&engine), None);
    assert!(!memory.is_rolled(DAY));
}

#[test]
fn the_budget_is_kept_by_whatever_comes_and_what_is_counted_is_what_is_there() {
    for seed in seeds(8) {
        let (engine, mut memory, mut rng) = (engine(), Memory::default(), Rng::from_seed(seed));
        let keep = keep(9999, 300_000 + rng.below(100_000));
        let mut went = 0;
        for round in 0..120 {
            let tier = Tier::ALL[rng.index(4)];
            let at = i64::from(DAY) * DAY_MS + i64::from(round / 4) * HOUR_MS;
            let span = tier.span_of(at);
            let parts = 1 + rng.index(10);
            let mut length = || if rng.one_in(2) { rng.index(300) } else { rng.index(16_000) };
            let lengths: Vec<usize> = (0..parts).map(|_| 1 + length()).collect();
            // More than it is: nobody knows what it takes the place of.
            let coming = lengths.iter().map(|length| 2 * 4096 + 4 * *length as u64).sum();
            while let Some((tier, span, why)) = due(&memory, &keep, Some(at), coming) {
                assert_eq!(why, Why::Budget);
                step(&engine, &mut memory, (tier, span));
                went += 1;
            }
            put(&engine, &mut memory, (tier, span), &lengths);
            assert!(memory.live_bytes() <= keep.budget, "seed {seed}, round {round}");
            for (&(tier, span), row) in &memory.spans {
                let file = read(&engine, |view| span_row(view, tier, span)).unwrap();
                assert_eq!(*row, file, "seed {seed}, round {round}, {tier:?} {span}");
                let counted = counted(&engine, tier, span);
                assert_eq!((row.rows, row.bytes), (counted.rows, counted.bytes), "seed {seed}");
                assert!(counted.pages <= row.pages, "seed {seed}, round {round}");
            }
        }
        assert!(5 < went, "seed {seed}: there was too much room");
    }
}
