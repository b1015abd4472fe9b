//! A recorded machine, in `benches/data/host.bin`: what the series are measured with.
//!
//! It is a virtual machine with two cores while up to eight builds ran on it at a time, and breaks between
//! them: 204 scrapes, one in 10 s (the first stretch; it ended early), 1,500, one in a second (the second), and
//! 1,150, one in two seconds (the third). They are put together as one recording that scrapes every 10 s: a scrape
//! of the later stretches stands 10 s behind the one before it, with the jitter that it really had. So the second
//! is what a calmer machine looks like at 10 s, its counters went up a tenth as much from one scrape to the next;
//! figures for a busy machine are those of the first alone. A stretch of a machine at rest is not in it.
//!
//! How it was made, and how more is put behind it (a quiet stretch, another machine): `record FILE SECONDS COUNT`,
//! see [`crate::sampler::record`].
//!
//! ```text
//! cargo bench --bench series -- record benches/data/host.bin 10 204
//! cargo bench --bench series -- record benches/data/host.bin 1 1500
//! cargo bench --bench series -- record benches/data/host.bin 2 1150
//! ```
//!
//! ```text
//! zstd of   [length of names u32][names, a line each][rows u32][unix ms i64]*, then for each series
//!           [digits behind the point u8][eight planes, the highest first, of zigzag differences u64]
//! ```
//! It is not the format of the product, which may change without this.

use std::collections::HashMap;
use std::fs;

/// Between two scrapes of the recording.
pub(crate) const BETWEEN_MS: i64 = 10_000;

/// A moment in unix milliseconds, and a value for each name.
pub(crate) type Row = (i64, Vec<f64>);

/// Names as the Prometheus text format writes them, and rows in order of time.
pub(crate) type Recording = (Vec<String>, Vec<Row>);

/// The recorded machine.
pub(crate) fn load() -> Recording {
    read(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/data/host.bin"))
}

fn read(path: &str) -> Recording {
    let bytes = zstd::decode_all(&fs::read(path).unwrap()[..]).unwrap();
    let mut rest = &bytes[..];
    let names = take_names(&mut rest);
    let count = usize::try_from(u32::from_le_bytes(*take(&mut rest))).unwrap();
    let mut rows: Vec<Row> =
        (0..count).map(|_| (i64::from_le_bytes(*take(&mut rest)), Vec::new())).collect();
    for _ in &names {
        let [digits] = *take(&mut rest);
        let (planes, behind) = rest.split_at(8 * count);
        rest = behind;
        let mut number = 0;
        for (at, (_, values)) in rows.iter_mut().enumerate() {
            let zigzag =
                (0..8).fold(0, |sum, plane| sum << 8 | u64::from(planes[plane * count + at]));
            number += (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
            values.push(decimal(number, digits));
        }
    }
    (names, rows)
}

#[expect(clippy::cast_precision_loss, reason = "pack has compared the bits")]
fn decimal(number: i64, digits: u8) -> f64 {
    number as f64 / 10_f64.powi(i32::from(digits))
}

/// Puts a stretch with so many milliseconds between its scrapes behind what the file at `path` has, if
/// there is one. What either of them does not have is left out; what has more than nine digits behind the
/// point is refused.
pub(crate) fn add(path: &str, (own, stretch): Recording, between_ms: i64) {
    let (mut names, mut rows) =
        if fs::exists(path).unwrap() { read(path) } else { (own.clone(), Vec::new()) };
    let keep: Vec<bool> = names.iter().map(|name| own.contains(name)).collect();
    names.retain(|name| own.contains(name));
    for (_, values) in &mut rows {
        let mut keep = keep.iter();
        values.retain(|_| keep.next() == Some(&true));
    }
    let places: HashMap<&String, usize> = own.iter().zip(0..).collect();
    let first = stretch[0].0;
    let start = rows.last().map_or(first, |(at, _)| at + BETWEEN_MS);
    for ((at, values), row) in stretch.iter().zip(0..) {
        let jitter = at - first - row * between_ms;
        let values = names.iter().map(|name| values[places[name]]).collect();
        rows.push((start + row * BETWEEN_MS + jitter, values));
    }
    write(path, &names, &rows);
    assert!(read(path) == (names, rows), "what is read is what was recorded");
}

fn write(path: &str, names: &[String], rows: &[Row]) {
    let list = names.join("\n");
    let mut out = u32::try_from(list.len()).unwrap().to_le_bytes().to_vec();
    out.extend_from_slice(list.as_bytes());
    out.extend_from_slice(&u32::try_from(rows.len()).unwrap().to_le_bytes());
    out.extend(rows.iter().flat_map(|(at, _)| at.to_le_bytes()));
    for series in 0..names.len() {
        let values: Vec<f64> = rows.iter().map(|(_, values)| values[series]).collect();
        put_series(&values, &mut out);
    }
    fs::write(path, zstd::bulk::compress(&out, 19).unwrap()).unwrap();
}

fn put_series(values: &[f64], out: &mut Vec<u8>) {
    let exact = |digits: &u8| values.iter().all(|value| whole(*value, *digits).is_some());
    let digits = (0..=9).find(exact).expect("what the kernel says has few digits");
    out.push(digits);
    let mut before = 0;
    let differences: Vec<u64> = values
        .iter()
        .map(|value| {
            let number = whole(*value, digits).unwrap();
            let difference = number - before;
            before = number;
            (difference << 1 ^ difference >> 63).cast_unsigned()
        })
        .collect();
    for plane in 0..8 {
        out.extend(differences.iter().map(|difference| difference.to_be_bytes()[plane]));
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the bits are compared")]
fn whole(value: f64, digits: u8) -> Option<i64> {
    let number = (value * 10_f64.powi(i32::from(digits))).round() as i64;
    (decimal(number, digits).to_bits() == value.to_bits()).then_some(number)
}

fn take_names(rest: &mut &[u8]) -> Vec<String> {
    let length = usize::try_from(u32::from_le_bytes(*take(rest))).unwrap();
    let (names, behind) = rest.split_at(length);
    *rest = behind;
    std::str::from_utf8(names).unwrap().lines().map(str::to_owned).collect()
}

fn take<'b, const N: usize>(rest: &mut &'b [u8]) -> &'b [u8; N] {
    let (taken, behind) = rest.split_first_chunk().unwrap();
    *rest = behind;
    taken
}
