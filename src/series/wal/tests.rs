//! Frames: what is written is read, and what is torn ends there.

use super::{Encoder, Found, Item, MAGIC, NoLog, Row, frame, read, take_up};
use crate::base::id::TenantId;
use crate::base::limits::{FRAME_BYTES_MAX, GROUP_SERIES_MAX};
use crate::base::rng::Rng;
use crate::series::index::Entry;
use crate::series::labels::Labels;
use crate::series::{GroupId, Kind, SeriesId};
use crate::testing::seeds;

/// Values as people have them, and as nobody has them.
fn value(rng: &mut Rng, last: f64) -> f64 {
    let small = |rng: &mut Rng| f64::from(u32::try_from(rng.below(5000)).unwrap());
    match rng.below(14) {
        0 => f64::NAN,
        1 => f64::from_bits(0x7ff8_0000_0000_0000 | rng.below(1 << 40)),
        2 => f64::INFINITY,
        3 => -0.0,
        4 => 9_007_199_254_740_992.0 - small(rng),
        5 => f64::from_bits(rng.next_u64()),
        6 => small(rng) / 100.0,
        7 => -small(rng) / 1000.0,
        8 => 0.1 + 0.2,
        9 => 0.0,
        _ => last + small(rng),
    }
}

fn entry(id: u32) -> Entry {
    let labels = Labels::new("cpu", [("core", &*id.to_string())]).unwrap();
    let tenant = TenantId::from_raw(u64::MAX - 3);
    let kind = [Kind::Gauge, Kind::Counter, Kind::Distribution][id as usize % 3];
    let column = u16::try_from(id % u32::from(GROUP_SERIES_MAX)).unwrap();
    Entry { id: SeriesId(id), tenant, group: GroupId(id / 7), column, kind, labels }
}

fn items(rng: &mut Rng, last: &mut f64) -> Vec<Item> {
    let many = rng.below(20);
    let mut item = || {
        let id = u32::try_from(rng.below(1 << 32)).unwrap();
        match rng.below(8) {
            0 => Item::Define(entry(id)),
            1 => Item::Kind(SeriesId(id), Kind::Distribution),
            2 => Item::Delete(SeriesId(id)),
            _ => {
                let group = GroupId(u32::try_from(rng.below(3)).unwrap());
                let at_ms = i64::try_from(rng.below(1 << 42)).unwrap();
                let (gaps, moving) = (1 + rng.below(4), 1 + rng.below(30));
                let columns = (0..u16::try_from(rng.below(200)).unwrap()).collect::<Vec<_>>();
                let columns = columns
                    .into_iter()
                    .filter(|_| gaps < 3 || !rng.one_in(gaps))
                    .collect::<Vec<_>>();
                let mut cell = |column| {
                    if rng.one_in(moving) {
                        *last = value(rng, *last);
                    }
                    (column, *last)
                };
                let cells = columns.into_iter().map(&mut cell).collect();
                Item::Row(Row { group, at_ms, cells })
            }
        }
    };
    (0..many).map(|_| item()).collect()
}

/// Values to the bit: NaN is not equal to itself.
fn text(items: &[Item]) -> Vec<String> {
    let bits = |item: &Item| match item {
        Item::Row(row) => {
            let cells = row.cells.iter().map(|(column, value)| (*column, value.to_bits()));
            format!("{:?} {} {:?}", row.group, row.at_ms, cells.collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    };
    items.iter().map(bits).collect()
}

fn read_all(bytes: &[u8]) -> (Vec<String>, Found) {
    let mut items = Vec::new();
    let found = read(bytes, &mut |item| items.push(item)).unwrap();
    (text(&items), found)
}

#[test]
fn what_is_written_is_read_to_the_bit_also_behind_what_was_there() {
    for seed in seeds(300) {
        let rng = &mut Rng::from_seed(seed);
        let (mut bytes, mut all, mut last) = (MAGIC.to_vec(), Vec::new(), 0.0);
        let (mut encoder, mut frames) = (Encoder::default(), 0);
        for _ in 0..rng.below(12) {
            if rng.one_in(3) {
                // As after a start: what is known comes from the file.
                encoder = take_up(&bytes, &mut |_| ()).unwrap().1;
            }
            let items = items(rng, &mut last);
            encoder.frame(&items, &mut bytes);
            frames += u64::from(!items.is_empty());
            all.extend(text(&items));
        }
        let (read, found) = read_all(&bytes);
        assert_eq!(read, all, "seed {seed}");
        assert_eq!(
            found,
            Found { frames, bytes: bytes.len() as u64, torn: 0, damaged: false },
            "seed {seed}"
        );
    }
}

#[test]
fn a_file_that_is_cut_or_damaged_is_read_up_to_there() {
    for seed in seeds(100) {
        let rng = &mut Rng::from_seed(seed);
        let (mut bytes, mut encoder, mut last) = (MAGIC.to_vec(), Encoder::default(), 0.0);
        let (mut all, mut ends) = (Vec::new(), vec![(MAGIC.len(), 0)]);
        for _ in 0..6 {
            let items = items(rng, &mut last);
            encoder.frame(&items, &mut bytes);
            all.extend(text(&items));
            ends.push((bytes.len(), all.len()));
        }
        let at = MAGIC.len() + rng.index(bytes.len() - MAGIC.len());
        let cut = rng.one_in(2);
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << rng.below(8);
        }
        let whole = ends.iter().rev().find(|(end, _)| *end <= at).unwrap();
        let (items, found) = read_all(&bytes);
        assert_eq!(items, all[..whole.1], "seed {seed}");
        assert_eq!(found.bytes, whole.0 as u64, "seed {seed}");
        assert_eq!(found.bytes + found.torn, bytes.len() as u64, "seed {seed}");
        // If the length of the last frame is wrong, it may be one that was cut.
        if cut || at < ends[5].0 || ends[5].0 + 4 <= at {
            assert_eq!(found.damaged, !cut, "seed {seed}");
        }
    }
}

#[test]
fn an_end_that_was_never_finished_is_told_from_damage() {
    let (mut bytes, mut encoder) = (MAGIC.to_vec(), Encoder::default());
    let mut ends = Vec::new();
    for id in 0..200 {
        encoder.frame(&[Item::Define(entry(id))], &mut bytes);
        ends.push(bytes.len());
    }
    let damaged = |bytes: &[u8]| {
        let found = read(bytes, &mut |_| ()).unwrap();
        (found.frames, found.damaged)
    };
    assert_eq!(damaged(&bytes), (200, false));
    // A hole, and more than a step of sums of it.
    let holed = [&bytes[..], &[0; 700]].concat();
    assert_eq!(damaged(&holed), (200, false));
    // A length that reaches beyond the file, or beyond all bounds: frames behind it are found wherever they begin.
    for byte in [1, 2, 3] {
        let mut wrong = bytes.clone();
        wrong[ends[2] + byte] ^= 0x20;
        assert_eq!(damaged(&wrong), (3, true), "byte {byte}");
    }
    let mut wrong = bytes.clone();
    wrong[ends[2]..ends[198]].fill(0);
    assert_eq!(damaged(&wrong), (3, true), "one frame behind a hole");
    wrong.truncate(ends[199] - 1);
    assert_eq!(damaged(&wrong), (3, false), "none behind it is whole");
    // A checksum that is right over what is no entry.
    let mut nonsense = bytes.clone();
    nonsense.extend_from_slice(&1_u32.to_le_bytes());
    nonsense.extend_from_slice(&crc32c::crc32c(b"\xff").to_le_bytes());
    nonsense.push(0xff);
    assert_eq!(damaged(&nonsense), (200, true));
}

#[test]
fn nothing_and_a_part_of_the_magic_are_an_empty_log_and_all_else_is_none() {
    for length in 0..=MAGIC.len() {
        let torn = if length == MAGIC.len() { 0 } else { length as u64 };
        let bytes = length as u64 - torn;
        let found = Found { frames: 0, bytes, torn, damaged: false };
        assert_eq!(read(&MAGIC[..length], &mut |_| ()), Ok(found));
    }
    assert_eq!(read(b"hfwal\x00\x00\x02", &mut |_| ()), Err(NoLog));
    assert_eq!(read(b"x", &mut |_| ()), Err(NoLog));
}

#[test]
fn frames_are_bounded_and_what_is_more_is_put_into_several() {
    let rng = &mut Rng::from_seed(1);
    let row = |at_ms, rng: &mut Rng| {
        let columns = 0..GROUP_SERIES_MAX;
        let cells = columns.map(|column| (column, f64::from_bits(rng.next_u64()))).collect();
        Item::Row(Row { group: GroupId(0), at_ms, cells })
    };
    let items: Vec<Item> = (0..1000).map(|at| row(at, rng)).collect();
    let mut bytes = Vec::new();
    Encoder::default().frame(&items, &mut bytes);
    let (mut rest, mut frames) = (&*bytes, 0);
    while let Some((frame, behind)) = frame(rest) {
        assert!(frame.len() <= FRAME_BYTES_MAX);
        (rest, frames) = (behind, frames + 1);
    }
    assert!(rest.is_empty() && 1 < frames, "{frames} frames, {} bytes over", rest.len());
    assert_eq!(read_all(&[&MAGIC[..], &bytes].concat()).0, text(&items));
}

/// 5,000 series at 10 s of which a third moves: a day of it is 43 million samples, and stays well below 40 MB.
#[test]
fn a_scrape_of_which_a_third_moves_takes_few_bytes() {
    let rng = &mut Rng::from_seed(7);
    let mut values = vec![0.0; 5000];
    let (mut encoder, mut bytes) = (Encoder::default(), Vec::new());
    let mut first = 0;
    for tick in 0..360 {
        for (index, value) in values.iter_mut().enumerate() {
            let small = f64::from(u32::try_from(rng.below(3000)).unwrap());
            match index % 9 {
                0 => *value += small,
                1 => *value = small / 100.0,
                2 => *value = (*value + small * 4096.0) % 1e9,
                _ => {}
            }
        }
        let rows = values.chunks(GROUP_SERIES_MAX.into()).enumerate().map(|(group, values)| {
            let cells = (0..).zip(values.iter().copied()).collect();
            let group = GroupId(u32::try_from(group).unwrap());
            Item::Row(Row { group, at_ms: 1_700_000_000_000 + tick * 10_000, cells })
        });
        encoder.frame(&rows.collect::<Vec<_>>(), &mut bytes);
        first = if tick == 0 { bytes.len() } else { first };
    }
    let samples = 5000 * 359;
    assert!(
        (bytes.len() - first) * 10 < samples * 8,
        "{} bytes, {first} in the first",
        bytes.len()
    );
}
