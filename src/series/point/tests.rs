//! Points: joined in any pieces, stored and read, the same to the bit.

use super::{Common, Point, decode, encode, five_minutes, joined, rise};
use crate::base::rng::Rng;
use crate::series::{DAY_MS, FIVE_MINUTES_MS, HOUR_MS};
use crate::testing::seeds;

/// Every field of a point, bit for bit.
type Bits = (u64, [u64; 6], i64, i64, Option<Vec<u8>>);

fn bits(point: &Point) -> Bits {
    let sketch = point.sketch.as_ref().map(|sketch| {
        let mut bytes = Vec::new();
        sketch.encode(&mut bytes);
        bytes
    });
    let floats = [point.min, point.max, point.sum, point.first, point.last, point.increase];
    (point.count, floats.map(f64::to_bits), point.first_ms, point.last_ms, sketch)
}

fn all_bits<K: Copy>(points: &[(K, Point)]) -> Vec<(K, Bits)> {
    points.iter().map(|(key, point)| (*key, bits(point))).collect()
}

fn small(rng: &mut Rng, end: u64) -> f64 {
    f64::from(u32::try_from(rng.below(end)).unwrap())
}

/// The values of a series of some kind: constant, counter with resets, decimal, pages of memory, noise, anything.
fn values(rng: &mut Rng, count: usize) -> Vec<f64> {
    const SPECIAL: [u64; 7] = [
        0x7ff8_0000_0000_1234,
        0xfff0_0000_0000_0000,
        0x7ff0_0000_0000_0000,
        0x8000_0000_0000_0000,
        0x0000_0000_0000_0001,
        0x7fef_ffff_ffff_ffff,
        0x4340_0000_0000_0000,
    ];
    let shape = rng.below(8);
    let base = small(rng, 1 << 30);
    let mut value = base;
    let mut one = || {
        value = match shape {
            0 => base,
            1 if rng.one_in(50) => 0.0,
            1 => value + small(rng, 1000),
            2 => small(rng, 10_000) / 100.0,
            3 => value + 4096.0 * (small(rng, 9) - 4.0),
            4 => f64::from_bits(rng.next_u64()),
            5 if rng.one_in(3) => f64::from_bits(SPECIAL[rng.index(SPECIAL.len())]),
            5 | 6 => (value + small(rng, 99)) / 3.0,
            _ => value + small(rng, 100) / 100.0,
        };
        value
    };
    (0..count).map(|_| one()).collect()
}

/// Samples of `days` from a start on, nearly every so often; a stretch of them may be missing.
fn samples(rng: &mut Rng, start_ms: i64, days: i64) -> Vec<(i64, f64)> {
    let every = [10_000, 60_000, 240_000, 1_700_000][rng.index(4)];
    let jitter = [1, 40][rng.index(2)];
    let mut times: Vec<i64> = (0..days * DAY_MS / every)
        .map(|at| start_ms + at * every + i64::try_from(rng.below(jitter)).unwrap())
        .collect();
    if rng.one_in(2) {
        let gap = start_ms + i64::try_from(rng.below(20)).unwrap() * HOUR_MS;
        times.retain(|at| *at < gap || gap + 5 * HOUR_MS <= *at);
    }
    let values = values(rng, times.len());
    times.into_iter().zip(values).collect()
}

#[test]
fn points_say_what_their_samples_say() {
    let nan = f64::from_bits(0x7ff8_0000_0000_0007);
    let samples = [(1, nan), (2, 5.0), (3, 3.0), (4, f64::INFINITY), (5, 7.0), (6, 9.5)];
    let [(start, point)] = five_minutes(&samples, true).try_into().unwrap();
    assert_eq!((start, point.count, point.first_ms, point.last_ms), (0, 6, 1, 6));
    assert_eq!((point.min, point.max, point.last), (3.0, f64::INFINITY, 9.5));
    assert_eq!(point.first.to_bits(), nan.to_bits());
    assert_eq!(point.sum.to_bits(), f64::NAN.to_bits(), "one NaN for all");
    // From 5 to 3 it began again at zero: 3. To and from what is not finite it does not count.
    assert_eq!(point.increase.to_string(), "5.5");
    assert_eq!(point.sketch.as_ref().unwrap().count(), 5, "what is not a number is not counted");

    let [(_, point)] = five_minutes(&[(1, nan), (2, -nan)], false).try_into().unwrap();
    assert_eq!(point.min.to_bits(), nan.to_bits());
    assert_eq!(point.max.to_bits(), nan.to_bits());
    assert_eq!(point.sketch, None);
    assert_eq!(rise(2.0, 5.0).to_string(), "3");
}

#[test]
fn a_sample_of_the_next_five_minutes_begins_a_point() {
    let samples = [(299_999, 1.0), (300_000, 2.0), (900_001, 4.0)];
    let starts: Vec<i64> = five_minutes(&samples, false).iter().map(|(start, _)| *start).collect();
    assert_eq!(starts, [0, 300_000, 900_000]);
    let hours = joined(&five_minutes(&samples, false), HOUR_MS);
    assert_eq!(hours.len(), 1);
    assert_eq!((hours[0].1.count, hours[0].1.sum, hours[0].1.increase), (3, 7.0, 3.0));
}

#[test]
fn samples_that_come_in_stretches_give_the_same_points_to_the_bit() {
    for seed in seeds(60) {
        let mut rng = Rng::from_seed(seed);
        let start = 19_000 * DAY_MS;
        let days = 1 + i64::try_from(rng.below(3)).unwrap();
        let samples = samples(&mut rng, start, days);
        let sketch = rng.one_in(2);
        let whole = five_minutes(&samples, sketch);
        let mut apart = Vec::new();
        let mut rest = samples.as_slice();
        while let Some(&(first, _)) = rest.first() {
            let steps = 1 + i64::try_from(rng.below(200)).unwrap();
            let end = first - first.rem_euclid(FIVE_MINUTES_MS) + steps * FIVE_MINUTES_MS;
            let (stretch, later) = rest.split_at(rest.partition_point(|(at, _)| *at < end));
            apart.extend(five_minutes(stretch, sketch));
            rest = later;
        }
        assert_eq!(all_bits(&apart), all_bits(&whole), "seed {seed}");
        for step in [FIVE_MINUTES_MS, HOUR_MS, DAY_MS] {
            // By hand: each step of its own samples alone.
            let mut expected = Vec::new();
            for begin in (start..start + days * DAY_MS).step_by(usize::try_from(step).unwrap()) {
                let inside = |at: i64| begin <= at && at < begin + step;
                let own: Vec<_> = samples.iter().copied().filter(|(at, _)| inside(*at)).collect();
                let mut parts = five_minutes(&own, sketch).into_iter().map(|(_, point)| point);
                if let Some(mut point) = parts.next() {
                    parts.for_each(|part| point.join(&part));
                    assert_eq!(point.count, own.len() as u64, "seed {seed}");
                    expected.push((begin, point));
                }
            }
            let found = joined(&apart, step);
            assert_eq!(all_bits(&found), all_bits(&expected), "seed {seed}, step {step}");
        }
    }
}

/// Points of a day in a span that begins at `start`, numbered.
fn numbered(samples: &[(i64, f64)], start: i64, step: i64, sketch: bool) -> Vec<(u32, Point)> {
    let points = joined(&five_minutes(samples, sketch), step);
    points.into_iter().map(|(at, p)| (u32::try_from((at - start) / step).unwrap(), p)).collect()
}

fn encoded(points: &[(u32, Point)], common: &Common) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(points, common, &mut bytes);
    bytes
}

/// The points of some series of a group, and what they have in common.
fn some_group(rng: &mut Rng) -> (Vec<Vec<(u32, Point)>>, Common) {
    let start = 2_700 * 7 * DAY_MS;
    let (step, days) = [(FIVE_MINUTES_MS, 1), (HOUR_MS, 7)][rng.index(2)];
    let sketch = rng.one_in(4);
    let mut group: Vec<Vec<(u32, Point)>> = (0..=rng.below(6))
        .map(|_| numbered(&samples(rng, start, days), start, step, sketch))
        .collect();
    for points in &mut group {
        if rng.one_in(4) {
            points.retain(|(at, _)| at % 3 != 0);
        }
        if rng.one_in(4) {
            points.iter_mut().step_by(2).for_each(|(_, point)| point.sketch = None);
        }
    }
    group.push(Vec::new());
    let common = Common::of(start, step, group.iter().map(Vec::as_slice));
    (group, common)
}

#[test]
fn points_are_read_as_they_were_written_to_the_bit() {
    for seed in seeds(150) {
        let mut rng = Rng::from_seed(seed);
        let (group, common) = some_group(&mut rng);
        let mut stored = Vec::new();
        common.encode(&mut stored);
        let read = Common::decode(&stored, common.start_ms, common.step_ms);
        assert_eq!(read.as_ref(), Ok(&common), "seed {seed}");
        for points in &group {
            let bytes = encoded(points, &common);
            let found = decode(&bytes, &common).expect("what was written can be read");
            assert_eq!(all_bits(&found), all_bits(points), "seed {seed}");
            let cut = rng.index(bytes.len());
            assert!(decode(&bytes[..cut], &common).is_err(), "seed {seed}: cut at {cut}");
        }
    }
}

#[test]
fn any_bytes_are_points_or_an_error() {
    let mut good = 0;
    for seed in seeds(400) {
        let mut rng = Rng::from_seed(seed);
        let (group, common) = some_group(&mut rng);
        let mut bytes = encoded(&group[rng.index(group.len())], &common);
        let mut shared = Vec::new();
        common.encode(&mut shared);
        for _ in 0..=rng.below(3) {
            for bytes in [&mut bytes, &mut shared] {
                let at = rng.index(bytes.len().min(30));
                bytes[at] = rng.bytes(1)[0];
            }
        }
        let other = Common::decode(&shared, i64::MAX - 5, common.step_ms).unwrap_or(common);
        if let Ok(points) = decode(&bytes, &other) {
            good += 1;
            let again = decode(&encoded(&points, &other), &other).expect("it can be written");
            assert_eq!(all_bits(&again), all_bits(&points), "seed {seed}");
        }
    }
    assert!(1 < good, "some damage is not seen here: blocks have checksums");
}

#[test]
fn what_most_series_say_is_common_and_costs_the_others_nothing() {
    let start = 400 * 7 * DAY_MS;
    let every: Vec<(i64, f64)> = (0..60_480).map(|at| (start + at * 10_000 + 3, 8192.0)).collect();
    let usual = numbered(&every, start, HOUR_MS, false);
    let late = numbered(&every[100..], start, HOUR_MS, false);
    let group = [late.as_slice(), &usual, &usual];
    let common = Common::of(start, HOUR_MS, group.into_iter());
    assert_eq!(common.steps.len(), 168);
    assert_eq!(common.steps[0], (0, 360, start + 3, start + 3_590_003));
    let mut shared = Vec::new();
    common.encode(&mut shared);
    assert!(shared.len() < 20, "{}", shared.len());
    // A week of a series that does not move.
    assert!(encoded(&usual, &common).len() < 16, "{}", encoded(&usual, &common).len());
    let counter: Vec<_> = every
        .iter()
        .map(|(at, _)| (*at, f64::from(i32::try_from((at - start) / 10_000 % 70_000).unwrap())))
        .collect();
    let counter = encoded(&numbered(&counter, start, HOUR_MS, false), &common).len();
    assert!(counter < 20, "{counter}");
}

#[test]
fn counters_and_decimals_take_few_bytes_an_hour() {
    let mut rng = Rng::from_seed(5);
    let start = 400 * 7 * DAY_MS;
    let mut bytes_of = |next: &mut dyn FnMut(&mut Rng, f64) -> f64| {
        let mut value = 1000.0;
        let samples = (0..60_480).map(|at| {
            value = next(&mut rng, value);
            (start + at * 10_000, value)
        });
        let points = numbered(&samples.collect::<Vec<_>>(), start, HOUR_MS, false);
        let common = Common::of(start, HOUR_MS, [points.as_slice()].into_iter());
        encoded(&points, &common).len() / 168
    };
    let counter = bytes_of(&mut |rng, value| value + small(rng, 100));
    let load = bytes_of(&mut |rng, _| small(rng, 300) / 100.0);
    let seconds = bytes_of(&mut |rng, value| ((value * 100.0).round() + small(rng, 9)) / 100.0);
    let memory = bytes_of(&mut |rng, value| value + 4096.0 * small(rng, 9));
    let figures = (counter, load, seconds, memory);
    assert!(counter <= 8 && load <= 14 && seconds <= 8 && memory <= 8, "{figures:?}");
}
