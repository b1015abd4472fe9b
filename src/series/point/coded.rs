//! How the points of one series in one span are stored.
//!
//! ```text
//!   flags u8   [steps]   [counts, firsts, lasts]   fields   [which have sketches]   [sketches]
//!
//!   fields, scaled:  digits u8   [unit]   base   last first min max sum increase   ulps of sum, of increase
//!   fields, plain:   what follows u8   last [first] [min] [max] sum [increase]
//!
//!   a column of whole numbers:  (prediction << 2 | form) u8   [numbers]
//! ```
//!
//! **Steps**, counts and moments are there only if they are not those of [`Common`].
//!
//! **Scaled**: most values are decimals, `m / 10^digits` to the bit. Then every field is a whole number `m`, and of each
//! the difference to what is expected of it is stored, which for counters and for what does not change is nothing at all:
//! the first is about the last of the point before, the smallest and largest are at the ends, the sum is that of a
//! straight line, the increase is from first to last. A sum of decimals is not a decimal to the bit, as every addition
//! rounds: it is stored as the nearest one, and by how many floats it lies beside that. `unit` divides all of them: memory
//! comes in pages. Of several expectations the one that takes the fewest bytes is named.
//!
//! **Plain**, for everything else: fields as columns of values ([`mod@column`]), without those that follow bit for bit.

use super::common::{get_steps, put_steps};
use super::{Common, Point, larger, smaller};
use crate::series::block::Spoilt;
use crate::series::column;
use crate::series::numbers::{float, get, get_byte, get_signed, put, put_signed, rounded};
use crate::series::sketch::Sketch;

/// Flags of a series.
const STEPS: u8 = 1;
const MOMENTS: u8 = 2;
const SCALED: u8 = 4;
const UNIT: u8 = 8;
const SKETCHES: u8 = 16;
const SOME_SKETCHES: u8 = 32;
const FLAGS: u8 = 63;

/// Fields in the order in which they are stored: a later one may be expected from those before.
const LAST: usize = 0;
const FIRST: usize = 1;
const MIN: usize = 2;
const MAX: usize = 3;
const SUM: usize = 4;
const INCREASE: usize = 5;
const FIELDS: usize = 6;

/// How many expectations there are of each field.
const EXPECTATIONS: [u8; FIELDS] = [2, 2, 1, 1, 3, 2];

/// Powers of ten that a value may be scaled by.
const TENS: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// Forms of a column of whole numbers.
const ZEROS: u8 = 0;
const SAME: u8 = 1;
const EACH: u8 = 2;
const DIFFERENCES: u8 = 3;

/// Appends the points of one series in one span: each with the number of its step in the span, ascending. Fields go one
/// after the other, each a column of its own, and what follows from others is left out. Moments are written relative to
/// their steps; `common` are the first and last moments that most series of the group have, by step, so that a series
/// with those writes none.
pub fn encode(points: &[(u32, Point)], common: &Common, out: &mut Vec<u8>) {
    let head = out.len();
    let mut flags = 0;
    out.push(flags);
    let steps = || points.iter().map(|&(step, _)| step);
    if !steps().eq(common.steps.iter().map(|known| known.0)) {
        flags |= STEPS;
        put_steps(steps(), out);
    }
    let moments = moments(points, common);
    if moments.iter().flatten().any(|&other| other != 0) {
        flags |= MOMENTS;
        for column in &moments {
            put_ints(column, out);
        }
    }
    if !points.is_empty() {
        flags |= match Scaled::of(points) {
            Some(scaled) => SCALED | scaled.put(out),
            None => put_plain(points, out),
        };
    }
    flags |= put_sketches(points, out);
    out[head] = flags;
}

/// Reads what [`encode`] wrote, all of `bytes`. Total, bounded.
pub fn decode(mut bytes: &[u8], common: &Common) -> Result<Vec<(u32, Point)>, Spoilt> {
    let bytes = &mut bytes;
    let flags = get_byte(bytes)?;
    if FLAGS < flags {
        return Err(Spoilt("points are of a kind we do not know"));
    }
    let steps = if flags & STEPS == 0 {
        common.steps.iter().map(|known| known.0).collect()
    } else {
        get_steps(bytes)?
    };
    let mut points: Vec<(u32, Point)> = Vec::with_capacity(steps.len());
    for step in steps {
        let (count, first_ms, last_ms) = common.usual(step);
        let point = Point { count, last_ms, ..Point::of(first_ms, 0.0, false) };
        points.push((step, point));
    }
    if flags & MOMENTS != 0 {
        get_moments(&mut points, bytes)?;
    }
    if !points.is_empty() {
        if flags & SCALED != 0 {
            Scaled::get(&mut points, flags, bytes)?;
        } else {
            get_plain(&mut points, bytes)?;
        }
    }
    get_sketches(&mut points, flags, bytes)?;
    if bytes.is_empty() { Ok(points) } else { Err(Spoilt("there is more than points")) }
}

/// By how much counts, first and last moments are not the usual ones.
fn moments(points: &[(u32, Point)], common: &Common) -> [Vec<i64>; 3] {
    let mut columns = [const { Vec::new() }; 3];
    for (step, point) in points {
        let (count, first_ms, last_ms) = common.usual(*step);
        columns[0].push(point.count.wrapping_sub(count).cast_signed());
        columns[1].push(point.first_ms.wrapping_sub(first_ms));
        columns[2].push(point.last_ms.wrapping_sub(last_ms));
    }
    columns
}

fn get_moments(points: &mut [(u32, Point)], bytes: &mut &[u8]) -> Result<(), Spoilt> {
    let counts = get_ints(bytes, points.len())?;
    let firsts = get_ints(bytes, points.len())?;
    let lasts = get_ints(bytes, points.len())?;
    for (at, (_, point)) in points.iter_mut().enumerate() {
        point.count = point.count.wrapping_add(counts[at].cast_unsigned());
        point.first_ms = point.first_ms.wrapping_add(firsts[at]);
        point.last_ms = point.last_ms.wrapping_add(lasts[at]);
    }
    Ok(())
}

fn field(point: &Point, field: usize) -> f64 {
    match field {
        LAST => point.last,
        FIRST => point.first,
        MIN => point.min,
        MAX => point.max,
        SUM => point.sum,
        _ => point.increase,
    }
}

fn field_mut(point: &mut Point, field: usize) -> &mut f64 {
    match field {
        LAST => &mut point.last,
        FIRST => &mut point.first,
        MIN => &mut point.min,
        MAX => &mut point.max,
        SUM => &mut point.sum,
        _ => &mut point.increase,
    }
}

/// The fields of all points as whole numbers.
struct Scaled {
    digits: u8,
    counts: Vec<i64>,
    fields: [Vec<i64>; FIELDS],
    /// How many floats sums and increases lie beside their decimals.
    ulps: [Vec<i64>; 2],
}

impl Scaled {
    /// The points so, if they can be.
    fn of(points: &[(u32, Point)]) -> Option<Scaled> {
        (0_u8..).zip(TENS).find_map(|(digits, ten)| {
            let exact = |value: f64| {
                let whole = rounded(value * ten)?;
                (float(whole)? / ten).to_bits().eq(&value.to_bits()).then_some(whole)
            };
            let near = |value: f64| {
                let whole = rounded(value * ten)?;
                let beside = value.to_bits().wrapping_sub((float(whole)? / ten).to_bits());
                Some((whole, beside.cast_signed()))
            };
            let mut scaled = Scaled::empty(digits, points);
            for (_, point) in points {
                for at in [LAST, FIRST, MIN, MAX] {
                    scaled.fields[at].push(exact(field(point, at))?);
                }
                for (at, ulps) in [SUM, INCREASE].into_iter().zip(&mut scaled.ulps) {
                    let (whole, beside) = near(field(point, at))?;
                    scaled.fields[at].push(whole);
                    ulps.push(beside);
                }
            }
            Some(scaled)
        })
    }

    fn empty(digits: u8, points: &[(u32, Point)]) -> Scaled {
        let counts = points.iter().map(|(_, point)| point.count.cast_signed()).collect();
        Scaled { digits, counts, fields: Default::default(), ulps: Default::default() }
    }

    /// Appends it; the flags that say how.
    fn put(mut self, out: &mut Vec<u8>) -> u8 {
        let mut alone = vec![self.digits];
        self.put_columns(&mut alone);
        let unit = self.fields.iter().flatten().fold(0, |unit, &whole| divisor(unit, whole));
        if 1 < unit {
            for whole in self.fields.iter_mut().flatten() {
                *whole /= unit;
            }
            let mut divided = vec![self.digits];
            put(unit.cast_unsigned(), &mut divided);
            self.put_columns(&mut divided);
            if divided.len() < alone.len() {
                out.append(&mut divided);
                return UNIT;
            }
        }
        out.append(&mut alone);
        0
    }

    fn put_columns(&self, out: &mut Vec<u8>) {
        put_signed(self.fields[LAST][0], out);
        for (at, expectations) in (0..).zip(EXPECTATIONS) {
            let ways = (0..expectations).map(|way| {
                let expected = |row| self.expected(at, way, row);
                let beside = self.fields[at].iter().enumerate().skip(known_rows(at));
                let beside = beside.map(|(row, &whole)| whole.wrapping_sub(expected(row)));
                let mut bytes = Vec::new();
                put_column(way, &beside.collect::<Vec<_>>(), &mut bytes);
                bytes
            });
            out.append(&mut ways.min_by_key(Vec::len).expect("BUG: there is a way"));
        }
        for ulps in &self.ulps {
            put_ints(ulps, out);
        }
    }

    fn get(points: &mut [(u32, Point)], flags: u8, bytes: &mut &[u8]) -> Result<(), Spoilt> {
        let mut scaled = Scaled::empty(get_byte(bytes)?, points);
        let ten = TENS.get(usize::from(scaled.digits)).ok_or(Spoilt("values have no scale"))?;
        let unit = if flags & UNIT == 0 { 1 } else { get(bytes)?.cast_signed() };
        scaled.fields[LAST].push(get_signed(bytes)?);
        for (at, ways) in EXPECTATIONS.into_iter().enumerate() {
            let known = known_rows(at);
            let (way, beside) = get_column(bytes, points.len() - known)?;
            if ways <= way {
                return Err(Spoilt("a field is expected in no way we know"));
            }
            for (row, beside) in (known..).zip(beside) {
                let whole = scaled.expected(at, way, row).wrapping_add(beside);
                scaled.fields[at].push(whole);
            }
        }
        for ulps in &mut scaled.ulps {
            *ulps = get_ints(bytes, points.len())?;
        }
        for (row, (_, point)) in points.iter_mut().enumerate() {
            for at in 0..FIELDS {
                let whole = scaled.fields[at][row].checked_mul(unit).and_then(float);
                *field_mut(point, at) = whole.ok_or(Spoilt("a value is out of range"))? / ten;
            }
            for (at, ulps) in [SUM, INCREASE].into_iter().zip(&scaled.ulps) {
                let value = field_mut(point, at);
                *value = f64::from_bits(value.to_bits().wrapping_add(ulps[row].cast_unsigned()));
            }
        }
        Ok(())
    }

    /// What is expected of a field, from the fields before it and from its own rows before this one. Read values may be
    /// anything: whatever overflows wraps, here and there.
    fn expected(&self, at: usize, way: u8, row: usize) -> i64 {
        let before = row.checked_sub(1);
        let own = |row: usize| self.fields[at][row];
        let here = |at: usize| self.fields[at][row];
        let line = |from: usize, to: usize| {
            here(from).wrapping_add(here(to)).wrapping_mul(self.counts[row]) >> 1
        };
        let change = || here(LAST).wrapping_sub(here(FIRST));
        match (at, way, before) {
            (LAST, 1, Some(before)) if 0 < before => {
                own(before).wrapping_mul(2).wrapping_sub(own(before - 1))
            }
            // Before the first point there was one, as far from it as from the next.
            (FIRST, 0, None) => match self.fields[LAST][..] {
                [only] => only,
                [last, next, ..] => last.wrapping_mul(2).wrapping_sub(next),
                [] => 0,
            },
            (FIRST, 0, Some(before)) => self.fields[LAST][before],
            (FIRST, _, _) => here(LAST),
            (MIN, _, _) => here(FIRST).min(here(LAST)),
            (MAX, _, _) => here(FIRST).max(here(LAST)),
            (SUM, 0, _) | (SUM, 2, None) => line(FIRST, LAST),
            (SUM, 1, _) => line(MIN, MAX),
            (INCREASE, 0, _) | (INCREASE, _, None) => change(),
            (_, _, Some(before)) => own(before),
            (_, _, None) => 0,
        }
    }
}

/// How many rows of a field are known before its column: the base.
fn known_rows(field: usize) -> usize {
    usize::from(field == LAST)
}

/// The largest number that divides both.
fn divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.abs()
}

/// What a field is if it follows from those before it.
fn following(point: &Point, at: usize) -> Option<f64> {
    match at {
        FIRST => Some(point.last),
        MIN => Some(smaller(point.first, point.last)),
        MAX => Some(larger(point.first, point.last)),
        // Which NaN arithmetic gives is not settled, so it is stored.
        INCREASE => Some(point.last - point.first).filter(|change| !change.is_nan()),
        _ => None,
    }
}

fn put_plain(points: &[(u32, Point)], out: &mut Vec<u8>) -> u8 {
    let head = out.len();
    out.push(0);
    for at in 0..FIELDS {
        let follows = points.iter().all(|(_, point)| {
            following(point, at).is_some_and(|value| value.to_bits() == field(point, at).to_bits())
        });
        if follows {
            out[head] |= 1 << at;
        } else {
            let values: Vec<f64> = points.iter().map(|(_, point)| field(point, at)).collect();
            column::encode_values(&values, out);
        }
    }
    0
}

fn get_plain(points: &mut [(u32, Point)], bytes: &mut &[u8]) -> Result<(), Spoilt> {
    let follows = get_byte(bytes)?;
    let mut values = Vec::new();
    for at in 0..FIELDS {
        values.clear();
        if follows & 1 << at == 0 {
            column::decode_values(bytes, points.len(), &mut values)?;
        } else {
            let follow = |(_, point): &(u32, Point)| following(point, at);
            values.extend(points.iter().map_while(follow));
        }
        if values.len() != points.len() {
            return Err(Spoilt("a field does not follow from others"));
        }
        for ((_, point), value) in points.iter_mut().zip(&values) {
            *field_mut(point, at) = *value;
        }
    }
    Ok(())
}

/// Appends the sketches; the flags that say which points have one.
fn put_sketches(points: &[(u32, Point)], out: &mut Vec<u8>) -> u8 {
    let having = points.iter().filter(|(_, point)| point.sketch.is_some()).count();
    if having == 0 {
        return 0;
    }
    if having < points.len() {
        put_ints(
            &points.iter().map(|(_, p)| i64::from(p.sketch.is_some())).collect::<Vec<_>>(),
            out,
        );
    }
    for sketch in points.iter().filter_map(|(_, point)| point.sketch.as_ref()) {
        sketch.encode(out);
    }
    if having < points.len() { SKETCHES | SOME_SKETCHES } else { SKETCHES }
}

fn get_sketches(points: &mut [(u32, Point)], flags: u8, bytes: &mut &[u8]) -> Result<(), Spoilt> {
    if flags & SKETCHES == 0 {
        return Ok(());
    }
    let which = if flags & SOME_SKETCHES == 0 {
        vec![1; points.len()]
    } else {
        get_ints(bytes, points.len())?
    };
    for ((_, point), has) in points.iter_mut().zip(which) {
        if has != 0 {
            point.sketch = Some(Box::new(Sketch::decode(bytes)?));
        }
    }
    Ok(())
}

/// Appends whole numbers (how many is known elsewhere) in their shortest form.
pub(super) fn put_ints(numbers: &[i64], out: &mut Vec<u8>) {
    let mut differences = Vec::new();
    put_form(0, DIFFERENCES, numbers, &mut differences);
    let mut each = Vec::new();
    put_column(0, numbers, &mut each);
    out.append(if differences.len() < each.len() { &mut differences } else { &mut each });
}

/// Reads what [`put_ints`] wrote. What is allocated is bounded by `count`, and so by whoever calls.
pub(super) fn get_ints(bytes: &mut &[u8], count: usize) -> Result<Vec<i64>, Spoilt> {
    match get_column(bytes, count)? {
        (0, numbers) => Ok(numbers),
        _ => Err(Spoilt("a column is not one of numbers")),
    }
}

fn put_column(way: u8, numbers: &[i64], out: &mut Vec<u8>) {
    let form = match numbers {
        [] => ZEROS,
        [first, rest @ ..] if rest.iter().all(|number| number == first) => {
            if *first == 0 {
                ZEROS
            } else {
                SAME
            }
        }
        _ => EACH,
    };
    put_form(way, form, numbers, out);
}

fn put_form(way: u8, form: u8, numbers: &[i64], out: &mut Vec<u8>) {
    out.push(way << 2 | form);
    let kept = match form {
        ZEROS => 0,
        SAME => 1,
        _ => numbers.len(),
    };
    let mut before = 0;
    for &number in &numbers[..kept] {
        put_signed(number.wrapping_sub(before), out);
        if form == DIFFERENCES {
            before = number;
        }
    }
}

/// The expectation that is named, and the numbers.
fn get_column(bytes: &mut &[u8], count: usize) -> Result<(u8, Vec<i64>), Spoilt> {
    let head = get_byte(bytes)?;
    let mut numbers = Vec::with_capacity(count);
    match head & 3 {
        ZEROS => numbers.resize(count, 0),
        SAME => numbers.resize(count, get_signed(bytes)?),
        form => {
            let mut before = 0_i64;
            for _ in 0..count {
                let number = before.wrapping_add(get_signed(bytes)?);
                numbers.push(number);
                if form == DIFFERENCES {
                    before = number;
                }
            }
        }
    }
    Ok((head >> 2, numbers))
}
