//! The values of one series in a slice of time, bit for bit, in as few bytes as they need.
//!
//! Constant; linear (a constant step of scaled decimals); offsets, differences or differences of differences of scaled
//! decimals, in units of what divides them all; XOR with the value before. The smallest is taken. A value is a scaled
//! decimal if `m / 10^e` gives exactly its bits; a few that are none stand beside the others. A compressor comes later, over
//! many columns ([`super::block`]), so bytes are preferred to bits: what repeats must look the same.
//!
//! ```text
//! column      rows? values                                    no rows: all of the slice
//! rows        [7 << 5 | 1][from][count]                       from one row on
//!             [7 << 5 | 2][bits, a byte for 8 rows]
//!             [7 << 5 | 3][count]([skipped][there])*          runs
//! values      exceptions? [kind << 5 | e] ...                 nothing at all if there are none
//! exceptions  [7 << 5 | 0][count]([values between][bits u64])*   values that are no decimals; in their places stands
//!                                                             what was before
//! kind 0      [bits u64]                                      constant
//!      1      [m]                                             constant
//!      2      [m][step]                                       linear
//!      3      [m][unit] planes of (m - first) / unit          goes up and down around something
//!      4      [m][unit] planes of (m - before) / unit         differences
//!      5      [m][unit] planes of differences of differences / unit
//!      6      [bits u64] planes of XORs with the one before
//! planes      [which u8][a byte of each number]*              of which of the eight bytes, the highest first; the others
//!                                                             are zero in all numbers
//! ```
//!
//! Single numbers stand in bytes of seven bits, signed ones zigzag. The unit is what divides all differences: bytes that are
//! counted in pages look like the pages. Planes keep the bytes that are nearly constant away from those that are noise.

use std::cmp::Ordering;

use super::block::Spoilt;
use crate::base::limits::SLICE_ROWS_MAX;

const CONSTANT_BITS: u8 = 0;
const CONSTANT: u8 = 1;
const LINEAR: u8 = 2;
const OFFSETS: u8 = 3;
const DIFFERENCES: u8 = 4;
const CURVE: u8 = 5;
const XOR: u8 = 6;
const MORE: u8 = 7;

const EXCEPTIONS: u8 = MORE << 5;
const ROWS_FROM: u8 = MORE << 5 | 1;
const ROWS_BITS: u8 = MORE << 5 | 2;
const ROWS_RUNS: u8 = MORE << 5 | 3;

/// Powers of ten that are exact.
const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
/// Differences of differences of integers below this fit.
const INTEGERS_END: f64 = 1_152_921_504_606_846_976.0;

/// Which rows of a slice a column has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All from this one on, as many as there are values.
    From(u32),
    /// These, ascending.
    Some(Vec<u32>),
}

/// A column: rows and their values.
#[derive(Clone, Debug)]
pub struct Column {
    /// Which rows it has.
    pub rows: Rows,
    /// A value for each.
    pub values: Vec<f64>,
}

impl Default for Column {
    fn default() -> Column {
        Column::new()
    }
}

impl Column {
    /// A column without rows.
    pub const fn new() -> Column {
        Column { rows: Rows::From(0), values: Vec::new() }
    }

    /// Row and value, ascending by row.
    pub fn cells(&self) -> impl Iterator<Item = (u32, f64)> {
        let (from, some) = match &self.rows {
            Rows::From(first) => (Some(*first..), None),
            Rows::Some(rows) => (None, Some(rows.iter().copied())),
        };
        let rows = from.into_iter().flatten().chain(some.into_iter().flatten());
        rows.zip(self.values.iter().copied())
    }

    /// Adds a row behind all others.
    pub fn push(&mut self, row: u32, value: f64) {
        match &mut self.rows {
            Rows::From(first) if self.values.is_empty() => *first = row,
            Rows::From(first) if *first + count_of(&self.values) == row => {}
            Rows::From(first) => {
                let first = *first;
                assert!(first + count_of(&self.values) < row, "BUG: rows ascend");
                let mut rows: Vec<u32> = (first..).take(self.values.len()).collect();
                rows.push(row);
                self.rows = Rows::Some(rows);
            }
            Rows::Some(rows) => {
                assert!(rows.last().is_none_or(|last| *last < row), "BUG: rows ascend");
                rows.push(row);
            }
        }
        self.values.push(value);
    }

    /// Sets the value of any row; what it was before. Compared by whoever cares, bit for bit.
    pub fn set(&mut self, row: u32, value: f64) -> Option<f64> {
        let place = match &self.rows {
            Rows::From(first) => {
                let behind = row.checked_sub(*first).and_then(|at| usize::try_from(at).ok());
                behind
                    .filter(|at| *at < self.values.len())
                    .ok_or(behind.map_or(0, |_| self.values.len()))
            }
            Rows::Some(rows) => rows.binary_search(&row),
        };
        match place {
            Ok(at) => return Some(std::mem::replace(&mut self.values[at], value)),
            Err(at) if at == self.values.len() => self.push(row, value),
            Err(at) => {
                let mut rows: Vec<u32> = match &mut self.rows {
                    Rows::From(first) => (*first..).take(self.values.len()).collect(),
                    Rows::Some(rows) => std::mem::take(rows),
                };
                rows.insert(at, row);
                self.values.insert(at, value);
                self.rows = shortened(rows);
            }
        }
        None
    }
}

fn count_of(values: &[f64]) -> u32 {
    u32::try_from(values.len()).expect("BUG: a column has fewer rows than a u32")
}

/// Rows that follow one another need no list.
fn shortened(rows: Vec<u32>) -> Rows {
    match (rows.first(), rows.last()) {
        (Some(first), Some(last)) if (last - first) as usize + 1 == rows.len() => {
            Rows::From(*first)
        }
        (None, _) => Rows::From(0),
        _ => Rows::Some(rows),
    }
}

/// Appends the values (their number is known elsewhere).
pub fn encode_values(values: &[f64], out: &mut Vec<u8>) {
    let Some(first) = values.first() else {
        return;
    };
    if values.iter().all(|value| value.to_bits() == first.to_bits()) {
        return put_constant(*first, out);
    }
    let xors: Vec<u64> = values.array_windows().map(|[a, b]| a.to_bits() ^ b.to_bits()).collect();
    let planes = xor_bytes(xors.iter().fold(0, |any, xor| any | xor));
    let cost: u64 = xors.iter().map(|xor| xor_bytes(*xor) * 8 + planes).sum();
    match Decimals::of(values).map(|decimals| (decimals.plan(), decimals)) {
        Some((plan, decimals)) if plan.cost + decimals.exceptions.len() as u64 * 72 <= cost => {
            put_exceptions(&decimals.exceptions, out);
            plan.put(&decimals, out);
        }
        _ => {
            out.push(XOR << 5);
            out.extend_from_slice(&first.to_bits().to_le_bytes());
            put_planes(&xors, out);
        }
    }
}

fn put_constant(value: f64, out: &mut Vec<u8>) {
    let exponent = (0..16).find(|e| scaled(value, *e).is_some_and(|m| m.unsigned_abs() < 1 << 48));
    if let Some((exponent, number)) = exponent.and_then(|e| Some((e, scaled(value, e)?))) {
        out.push(CONSTANT << 5 | exponent);
        put_signed(number, out);
    } else {
        out.push(CONSTANT_BITS << 5);
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

/// Bytes of a XOR that are not zero.
fn xor_bytes(xor: u64) -> u64 {
    xor.to_le_bytes().iter().filter(|byte| **byte != 0).count() as u64
}

/// Appends the bytes of numbers, highest of all first, without those that are zero in all.
fn put_planes(numbers: &[u64], out: &mut Vec<u8>) {
    let any = numbers.iter().fold(0, |any, number| any | number).to_be_bytes();
    let planes = any.iter().enumerate().filter(|(_, byte)| **byte != 0);
    out.push(planes.clone().fold(0, |which, (plane, _)| which | 0x80 >> plane));
    for (plane, _) in planes {
        out.extend(numbers.iter().map(|number| number.to_be_bytes()[plane]));
    }
}

fn put_exceptions(exceptions: &[(usize, u64)], out: &mut Vec<u8>) {
    if exceptions.is_empty() {
        return;
    }
    out.push(EXCEPTIONS);
    put_number(exceptions.len() as u64, out);
    let mut next = 0;
    for (at, bits) in exceptions {
        put_number((at - next) as u64, out);
        out.extend_from_slice(&bits.to_le_bytes());
        next = at + 1;
    }
}

/// Values as scaled decimals, and those that are none.
struct Decimals {
    exponent: u8,
    /// As many as there are values.
    numbers: Vec<i64>,
    /// Place and bits.
    exceptions: Vec<(usize, u64)>,
}

impl Decimals {
    /// `None` if too many values are none.
    fn of(values: &[f64]) -> Option<Decimals> {
        let mut exponent = 0;
        let mut failed = 0;
        for &value in values {
            match (exponent..16).find(|e| scaled(value, *e).is_some()) {
                Some(e) => exponent = e,
                None => failed += 1,
            }
            if values.len() < failed * 8 {
                return None;
            }
        }
        let mut numbers = Vec::with_capacity(values.len());
        let mut exceptions = Vec::new();
        for (at, &value) in values.iter().enumerate() {
            let number = scaled(value, exponent);
            if number.is_none() {
                exceptions.push((at, value.to_bits()));
            }
            numbers.push(number.or(numbers.last().copied()).unwrap_or(0));
        }
        let fits = exceptions.len() * 8 <= values.len();
        fits.then_some(Decimals { exponent, numbers, exceptions })
    }

    /// The kind that needs the fewest bits.
    fn plan(&self) -> Plan {
        let mut unit = 0;
        for [a, b] in self.numbers.array_windows() {
            unit = divisor(unit, a.abs_diff(*b));
            if unit == 1 {
                break;
            }
        }
        let unit = i64::try_from(unit.max(1)).expect("BUG: differences are small");
        let kinds = [OFFSETS, DIFFERENCES, CURVE];
        let plans = kinds.map(|kind| Plan::of(kind, unit, &self.numbers));
        plans.into_iter().min_by_key(|plan| plan.cost).expect("BUG: there are three")
    }
}

/// What is written of numbers, and about how many bits that is.
struct Plan {
    kind: u8,
    unit: i64,
    rest: Vec<i64>,
    cost: u64,
}

impl Plan {
    fn of(kind: u8, unit: i64, numbers: &[i64]) -> Plan {
        let (mut rest, mut slope) = (Vec::with_capacity(numbers.len()), 0);
        for [before, number] in numbers.array_windows() {
            rest.push(match kind {
                OFFSETS => (number - numbers[0]) / unit,
                DIFFERENCES => (number - before) / unit,
                _ => (number - before) / unit - slope,
            });
            slope = (number - before) / unit;
        }
        let cost = rest.iter().map(|number| u64::from(65 - zigzag(*number).leading_zeros())).sum();
        Plan { kind, unit, rest, cost }
    }

    fn put(&self, decimals: &Decimals, out: &mut Vec<u8>) {
        let steady = self.kind == CURVE && self.rest[1..].iter().all(|number| *number == 0);
        let kind = if steady { LINEAR } else { self.kind };
        out.push(kind << 5 | decimals.exponent);
        put_signed(decimals.numbers[0], out);
        if steady {
            put_signed(self.rest[0] * self.unit, out);
            return;
        }
        put_signed(self.unit, out);
        let numbers: Vec<u64> = self.rest.iter().map(|number| zigzag(*number)).collect();
        put_planes(&numbers, out);
    }
}

/// The number that gives exactly this value when it is divided by the power of ten.
fn scaled(value: f64, exponent: u8) -> Option<i64> {
    let number = (value * POWERS[usize::from(exponent)]).round();
    // What is not a number is not below anything either.
    if !matches!(number.abs().partial_cmp(&INTEGERS_END), Some(Ordering::Less)) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is an integer, and small")]
    let number = number as i64;
    (decimal(number, exponent).to_bits() == value.to_bits()).then_some(number)
}

#[expect(clippy::cast_precision_loss, reason = "what would be rounded is found by comparing bits")]
fn decimal(number: i64, exponent: u8) -> f64 {
    if exponent == 0 { number as f64 } else { number as f64 / POWERS[usize::from(exponent)] }
}

/// The greatest that divides both.
fn divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Reads `count` values, from the beginning of `bytes`, which it moves on. Total.
pub fn decode_values(bytes: &mut &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), Spoilt> {
    if SLICE_ROWS_MAX < count {
        return Err(Spoilt("more values than a slice has"));
    }
    if count == 0 {
        return Ok(());
    }
    let begin = out.len();
    let mut tag = take_byte(bytes)?;
    let mut exceptions = Vec::new();
    if tag == EXCEPTIONS {
        exceptions = take_exceptions(bytes, count)?;
        tag = take_byte(bytes)?;
    }
    out.reserve(count);
    match (tag >> 5, tag & 31) {
        (CONSTANT_BITS, 0) => out.resize(begin + count, f64::from_bits(take_bits(bytes)?)),
        (XOR, 0) => take_xors(bytes, count, out)?,
        (kind @ CONSTANT..=CURVE, exponent @ 0..16) => {
            take_decimals(bytes, (kind, exponent), count, out)?;
        }
        _ => return Err(Spoilt("values that nobody writes")),
    }
    for (at, bits) in exceptions {
        out[begin + at] = f64::from_bits(bits);
    }
    Ok(())
}

fn take_exceptions(bytes: &mut &[u8], count: usize) -> Result<Vec<(usize, u64)>, Spoilt> {
    let wrong = Spoilt("exceptions that nobody writes");
    let number = usize::try_from(take_number(bytes)?).map_err(|_| wrong)?;
    if number == 0 || count < number {
        return Err(wrong);
    }
    let mut exceptions = Vec::with_capacity(number);
    let mut next: usize = 0;
    for _ in 0..number {
        let skipped = usize::try_from(take_number(bytes)?).map_err(|_| wrong)?;
        let at = next.checked_add(skipped).filter(|at| *at < count).ok_or(wrong)?;
        exceptions.push((at, take_bits(bytes)?));
        next = at + 1;
    }
    Ok(exceptions)
}

fn take_planes(bytes: &mut &[u8], count: usize) -> Result<Vec<u64>, Spoilt> {
    let which = take_byte(bytes)?;
    let mut numbers = vec![0; count];
    for plane in (0..8).filter(|plane| which & 0x80 >> plane != 0) {
        for (number, byte) in numbers.iter_mut().zip(take(bytes, count)?) {
            *number |= u64::from(*byte) << (56 - 8 * plane);
        }
    }
    Ok(numbers)
}

fn take_xors(bytes: &mut &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), Spoilt> {
    let mut bits = take_bits(bytes)?;
    out.push(f64::from_bits(bits));
    for xor in take_planes(bytes, count - 1)? {
        bits ^= xor;
        out.push(f64::from_bits(bits));
    }
    Ok(())
}

/// Wraps where nobody writes: what comes out of damaged numbers is some number.
fn take_decimals(
    bytes: &mut &[u8],
    (kind, exponent): (u8, u8),
    count: usize,
    out: &mut Vec<f64>,
) -> Result<(), Spoilt> {
    let first = take_signed(bytes)?;
    let step = if kind == CONSTANT { 0 } else { take_signed(bytes)? };
    let (mut number, mut slope) = (first, 0_i64);
    out.push(decimal(number, exponent));
    if kind <= LINEAR {
        out.extend((1..count).map(|_| {
            number = number.wrapping_add(step);
            decimal(number, exponent)
        }));
        return Ok(());
    }
    for rest in take_planes(bytes, count - 1)? {
        let rest = signed(rest).wrapping_mul(step);
        match kind {
            OFFSETS => number = first.wrapping_add(rest),
            DIFFERENCES => number = number.wrapping_add(rest),
            _ => {
                slope = slope.wrapping_add(rest);
                number = number.wrapping_add(slope);
            }
        }
        out.push(decimal(number, exponent));
    }
    Ok(())
}

/// Appends a column of a slice of `rows_in_slice` rows.
pub fn encode(column: &Column, rows_in_slice: u32, out: &mut Vec<u8>) {
    let count = column.values.len();
    let rows = match &column.rows {
        Rows::From(first) => Rows::From(*first),
        Rows::Some(rows) => {
            assert_eq!(rows.len(), count, "BUG: a value for each row");
            assert!(rows.is_sorted_by(|a, b| a < b), "BUG: rows ascend");
            shortened(rows.clone())
        }
    };
    match rows {
        Rows::From(0) if count == rows_in_slice as usize => {}
        Rows::From(first) => {
            assert!(first as usize + count <= rows_in_slice as usize, "BUG: rows of this slice");
            out.push(ROWS_FROM);
            put_number(u64::from(first), out);
            put_number(count as u64, out);
        }
        Rows::Some(rows) => {
            assert!(rows.iter().all(|row| *row < rows_in_slice), "BUG: rows of this slice");
            put_rows(&rows, rows_in_slice, out);
        }
    }
    encode_values(&column.values, out);
}

fn put_rows(rows: &[u32], rows_in_slice: u32, out: &mut Vec<u8>) {
    let mut runs = vec![ROWS_RUNS];
    put_number(rows.len() as u64, &mut runs);
    let mut next = 0;
    for run in rows.chunk_by(|a, b| a + 1 == *b) {
        put_number(u64::from(run[0] - next), &mut runs);
        put_number(run.len() as u64, &mut runs);
        next = run[run.len() - 1] + 1;
    }
    let mut bits = vec![0; (rows_in_slice as usize).div_ceil(8)];
    if runs.len() <= bits.len() {
        out.append(&mut runs);
        return;
    }
    for row in rows {
        bits[*row as usize / 8] |= 1 << (row % 8);
    }
    out.push(ROWS_BITS);
    out.append(&mut bits);
}

/// Reads what [`encode`] wrote, from the beginning of `bytes`, which it moves on. Total: rows ascend and are below
/// `rows_in_slice`, or it is an error.
pub fn decode(bytes: &mut &[u8], rows_in_slice: u32) -> Result<Column, Spoilt> {
    let all = rows_in_slice as usize;
    if SLICE_ROWS_MAX < all {
        return Err(Spoilt("a slice of too many rows"));
    }
    let (rows, count) = match bytes.first() {
        Some(&ROWS_FROM) => {
            take_byte(bytes)?;
            take_rows_from(bytes, rows_in_slice)?
        }
        Some(&(ROWS_BITS | ROWS_RUNS)) => {
            let rows = take_rows(bytes, rows_in_slice)?;
            let count = rows.len();
            (shortened(rows), count)
        }
        _ => (Rows::From(0), all),
    };
    let mut values = Vec::new();
    decode_values(bytes, count, &mut values)?;
    Ok(Column { rows, values })
}

fn take_rows_from(bytes: &mut &[u8], rows_in_slice: u32) -> Result<(Rows, usize), Spoilt> {
    let first = take_number(bytes)?;
    let count = take_number(bytes)?;
    let wrong = Spoilt("rows beyond the slice");
    let end = first.checked_add(count).ok_or(wrong)?;
    if u64::from(rows_in_slice) < end {
        return Err(wrong);
    }
    let first = u32::try_from(first).map_err(|_| wrong)?;
    Ok((Rows::From(first), usize::try_from(count).map_err(|_| wrong)?))
}

fn take_rows(bytes: &mut &[u8], rows_in_slice: u32) -> Result<Vec<u32>, Spoilt> {
    let wrong = Spoilt("rows beyond the slice");
    if take_byte(bytes)? == ROWS_BITS {
        let bits = take(bytes, (rows_in_slice as usize).div_ceil(8))?;
        let there = |row: &u32| bits[*row as usize / 8] & 1 << (row % 8) != 0;
        return Ok((0..rows_in_slice).filter(there).collect());
    }
    let count = take_number(bytes)?;
    if u64::from(rows_in_slice) < count {
        return Err(wrong);
    }
    let mut rows = Vec::new();
    let mut next: u64 = 0;
    while (rows.len() as u64) < count {
        let from = next.checked_add(take_number(bytes)?).ok_or(wrong)?;
        let run = take_number(bytes)?;
        next = from.checked_add(run).ok_or(wrong)?;
        if run == 0 || u64::from(rows_in_slice) < next || count - (rows.len() as u64) < run {
            return Err(wrong);
        }
        for row in from..next {
            rows.push(u32::try_from(row).map_err(|_| wrong)?);
        }
    }
    Ok(rows)
}

/// Small differences of either sign become small numbers.
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

fn signed(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Appends a number in bytes of seven bits, lowest first.
pub(super) fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while 0x7f < number {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Appends a number of either sign.
pub(super) fn put_signed(number: i64, out: &mut Vec<u8>) {
    put_number(zigzag(number), out);
}

/// Takes what [`put_number`] wrote.
pub(super) fn take_number(bytes: &mut &[u8]) -> Result<u64, Spoilt> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(bytes)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Spoilt("a number without end"))
}

/// Takes what [`put_signed`] wrote.
pub(super) fn take_signed(bytes: &mut &[u8]) -> Result<i64, Spoilt> {
    Ok(signed(take_number(bytes)?))
}

/// Takes one byte.
pub(super) fn take_byte(bytes: &mut &[u8]) -> Result<u8, Spoilt> {
    let (byte, rest) = bytes.split_first().ok_or(Spoilt("it ends too early"))?;
    *bytes = rest;
    Ok(*byte)
}

/// Takes so many bytes.
pub(super) fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Result<&'b [u8], Spoilt> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(Spoilt("it ends too early"))?;
    *bytes = rest;
    Ok(taken)
}

fn take_bits(bytes: &mut &[u8]) -> Result<u64, Spoilt> {
    let bits = take(bytes, 8)?.try_into().map_err(|_| Spoilt("it ends too early"))?;
    Ok(u64::from_le_bytes(bits))
}

#[cfg(test)]
mod tests {
    use super::{Column, Rows, decode, decode_values, encode, encode_values};
    use crate::base::limits::{PART_BYTES_MAX, SLICE_ROWS_MAX};
    use crate::base::rng::Rng;
    use crate::series::block::{self, Opened};
    use crate::testing::seeds;

    fn encoded(values: &[f64]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_values(values, &mut out);
        out
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    /// Writes and reads; how many bytes it took.
    fn check(what: &str, values: &[f64]) -> usize {
        let bytes = encoded(values);
        let mut rest = &[&bytes[..], b"next"].concat()[..];
        let mut out = vec![1.0];
        decode_values(&mut rest, values.len(), &mut out).unwrap();
        assert_eq!(bits(&out[1..]), bits(values), "{what}");
        assert_eq!(rest, b"next", "{what}");
        assert_eq!(bytes, encoded(values), "{what}: the same bytes each time");
        bytes.len()
    }

    #[expect(clippy::cast_precision_loss, reason = "any values will do")]
    fn real(number: u64) -> f64 {
        number as f64
    }

    /// Values of the strangest kinds.
    fn odd(rng: &mut Rng) -> f64 {
        match rng.below(12) {
            0 => f64::NAN,
            1 => f64::from_bits(0x7ff0_0000_0000_0002),
            2 => f64::from_bits(0xfff8_0000_dead_beef),
            3 => f64::INFINITY,
            4 => f64::NEG_INFINITY,
            5 => -0.0,
            6 => f64::from_bits(1),
            7 => f64::MIN_POSITIVE,
            8 => f64::MAX,
            9 => real((1 << 53) - 1 + rng.below(3)),
            10 => 0.1 + 0.2,
            _ => f64::from_bits(rng.next_u64()),
        }
    }

    /// A series of some kind that there is.
    fn series(rng: &mut Rng, rows: usize) -> Vec<f64> {
        let (large, fast) = (rng.below(62), rng.below(40));
        let start = real(rng.below(1 << large));
        let step = real(1 + rng.below(1 << fast));
        let per = [1.0, 10.0, 100.0, 1e3, 1e6, 1e9, 3.0][rng.index(7)];
        let kind = rng.below(7);
        let odd_once_in = [1, 3, 30, u64::MAX][rng.index(4)];
        let mut at = start;
        (0..rows)
            .map(|row| {
                at += match kind {
                    0 => 0.0,
                    1 => step,
                    2 => real(rng.below(20)) - 10.0,
                    3 => real(rng.below(1 << 30)) * 4096.0,
                    4 => real(u64::from(rng.one_in(9))),
                    _ => real(row as u64) * step,
                };
                if kind == 6 || odd_once_in != u64::MAX && rng.one_in(odd_once_in) {
                    odd(rng)
                } else {
                    at / per
                }
            })
            .collect()
    }

    #[test]
    fn values_come_back_bit_for_bit() {
        for seed in seeds(600) {
            let mut rng = Rng::from_seed(seed);
            let rows = [1, 2, 3, 9, 60, 360, SLICE_ROWS_MAX][rng.index(7)];
            check(&format!("seed {seed}"), &series(&mut rng, rows));
        }
    }

    #[test]
    fn what_is_strange_comes_back_alone_and_among_others() {
        for seed in seeds(300) {
            let mut rng = Rng::from_seed(seed);
            let value = odd(&mut rng);
            check(&format!("seed {seed}, alone"), &[value]);
            check(&format!("seed {seed}, always"), &[value; 17]);
            let mut values = vec![12.5; 40];
            values[rng.index(40)] = value;
            let length = check(&format!("seed {seed}, once"), &values);
            assert!(length < 100, "seed {seed}: {length} bytes");
        }
    }

    #[test]
    fn counters_at_the_end_of_what_is_exact_come_back() {
        for start in [(1_u64 << 53) - 100, 1 << 53, (1 << 60) - 100, 1 << 60, u64::MAX - 100_000] {
            let counter: Vec<f64> = (0..200).map(|row| real(start + row)).collect();
            check("up", &counter);
            check("down", &counter.iter().rev().map(|value| -value).collect::<Vec<f64>>());
        }
    }

    #[test]
    fn what_is_regular_takes_next_to_nothing() {
        assert_eq!(check("zero", &[0.0; 360]), 2);
        assert!(check("constant", &[1.0 / 3.0; 360]) <= 9);
        let linear: Vec<f64> = (0..360).map(|row| real(row) / 100.0).collect();
        assert!(check("linear", &linear) <= 3);
        let pages: Vec<f64> =
            (0..360).map(|row| real(7_000_000_000 / 4096 + row * row % 50) * 4096.0).collect();
        assert!(check("pages", &pages) < 380);
        let tenths: Vec<f64> = (0..360).map(|row| real(row * 7 % 31) / 10.0).collect();
        assert!(check("tenths", &tenths) < 380);
    }

    #[test]
    fn rows_that_are_missing_stay_missing() {
        for seed in seeds(300) {
            let mut rng = Rng::from_seed(seed);
            let rows = 1 + u32::try_from(rng.below(500)).unwrap();
            let (missing, run) = (1 + rng.below(20), 1 + rng.below(30));
            let mut column = Column::new();
            let mut there = true;
            for row in 0..rows {
                if rng.one_in(run) {
                    there = !rng.one_in(missing);
                }
                if there {
                    column.push(row, real(rng.below(9)));
                }
            }
            let mut bytes = Vec::new();
            encode(&column, rows, &mut bytes);
            bytes.extend_from_slice(b"next");
            let mut rest = &bytes[..];
            let read = decode(&mut rest, rows).unwrap();
            assert_eq!(rest, b"next", "seed {seed}");
            assert!(
                read.cells().eq(column.cells()),
                "seed {seed}: {:?} {:?}",
                read.rows,
                column.rows
            );
        }
    }

    #[test]
    fn rows_are_set_in_any_order() {
        for seed in seeds(300) {
            let mut rng = Rng::from_seed(seed);
            let mut model = std::collections::BTreeMap::new();
            let mut column = Column::new();
            let rows = 1 + rng.below(40);
            for step in 0..60 {
                let row = u32::try_from(rng.below(rows)).unwrap();
                let value = real(rng.below(5));
                let before = column.set(row, value);
                assert_eq!(before, model.insert(row, value), "seed {seed}, step {step}");
                assert!(column.cells().eq(model.clone()), "seed {seed}, step {step}: {column:?}");
            }
            let whole = column.values.len() as u64 == rows;
            assert!(!whole || column.rows == Rows::From(0), "seed {seed}: {column:?}");
        }
    }

    #[test]
    fn the_worst_column_of_a_slice_fits_one_part() {
        for seed in seeds(20) {
            let mut rng = Rng::from_seed(seed);
            let mut column = Column::new();
            let rows = u32::try_from(SLICE_ROWS_MAX).unwrap();
            let kind = rng.below(3);
            for row in 0..rows {
                let there = kind == 0 || !rng.one_in(if kind == 1 { 100 } else { 3 });
                if there {
                    column.push(row, f64::from_bits(rng.next_u64()));
                }
            }
            let mut bytes = Vec::new();
            encode(&column, rows, &mut bytes);
            let parts = block::parts(&[(u16::MAX, bytes)]);
            assert!(
                parts[0].bytes.len() <= PART_BYTES_MAX,
                "seed {seed}: {}",
                parts[0].bytes.len()
            );
            let opened = Opened::open(&parts[0].bytes).unwrap();
            let read = decode(&mut opened.column(u16::MAX).unwrap(), rows).unwrap();
            assert_eq!(read.rows, column.rows, "seed {seed}");
            assert_eq!(bits(&read.values), bits(&column.values), "seed {seed}");
        }
    }

    #[test]
    fn damaged_columns_give_rows_of_the_slice_or_an_error() {
        for seed in seeds(3_000) {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = Vec::new();
            let mut column = Column::new();
            for (row, value) in (0..).zip(series(&mut rng, 40)) {
                if seed % 3 == 0 || !rng.one_in(4) {
                    column.push(row, value);
                }
            }
            encode(&column, 40, &mut bytes);
            for _ in 0..=rng.below(3) {
                let at = rng.index(bytes.len());
                bytes[at] = rng.bytes(1)[0];
            }
            bytes.truncate(1 + rng.index(bytes.len() * 2));
            if let Ok(read) = decode(&mut &bytes[..], 40) {
                let rows: Vec<u32> = read.cells().map(|(row, _)| row).collect();
                assert!(rows.is_sorted_by(|a, b| a < b), "seed {seed}: {rows:?}");
                assert!(rows.iter().all(|row| *row < 40), "seed {seed}: {rows:?}");
                assert_eq!(rows.len(), read.values.len(), "seed {seed}");
            }
        }
    }

    #[test]
    fn rows_beyond_the_slice_are_refused() {
        let constant = [1 << 5, 0];
        let from = |first: u8, count: u8| [&[7 << 5 | 1, first, count][..], &constant].concat();
        let run = |skipped: u8, run: u8| [&[7 << 5 | 3, run, skipped, run][..], &constant].concat();
        for (bytes, good) in [
            (from(30, 10), true),
            (from(30, 11), false),
            (from(127, 1), false),
            (run(30, 10), true),
            (run(30, 11), false),
            (run(100, 1), false),
            (run(3, 0), true),
        ] {
            assert_eq!(decode(&mut &bytes[..], 40).is_ok(), good, "{bytes:?}");
        }
        assert!(decode(&mut &[7 << 5 | 3, 2, 0, 0, 0, 2, 1 << 5, 0][..], 40).is_err(), "no run");
    }

    #[test]
    fn more_rows_than_a_slice_has_are_refused() {
        let mut out = Vec::new();
        assert!(decode_values(&mut &[1 << 5, 0][..], SLICE_ROWS_MAX + 1, &mut out).is_err());
        assert!(decode(&mut &[1 << 5, 0][..], u32::MAX).is_err());
    }
}
