//! Curves in a terminal: a panel for each, one above the other, over one axis of time.
//!
//! Each curve has its own scale, so that figures of different size are seen beside each other, and none hides another one
//! where there are no colours. A character holds two by four dots (Braille). Pure: points in, text out.

use std::fmt::Write as _;

use crate::base::time::Timestamp;

/// So many curves are shown at most: more would be too flat to see anything.
pub(super) const CURVES_MAX: usize = 4;

/// A curve.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Curve {
    /// What it is called.
    pub(super) name: String,
    /// Unix milliseconds and values, ascending. What is not finite is a gap.
    pub(super) points: Vec<(i64, f64)>,
    /// Lines beside it, in the same form, drawn with dashes.
    pub(super) line: Vec<(i64, f64)>,
    /// What may come: moments, and the two values between which it lies. Its edges are drawn with dots.
    pub(super) band: Vec<(i64, f64, f64)>,
}

impl Curve {
    fn edge(&self, value: impl Fn(&(i64, f64, f64)) -> f64) -> Vec<(i64, f64)> {
        self.band.iter().map(|point| (point.0, value(point))).collect()
    }
}

/// What is shown of the time, in unix milliseconds; the end is not part of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
}

/// How much room there is, in characters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// Characters that a canvas has at least, however small the terminal is.
const COLUMNS_MIN: usize = 16;
const ROWS_MIN: usize = 3;
/// And at most: nobody's terminal is larger.
const COLUMNS_MAX: usize = 1000;
const ROWS_MAX: usize = 500;

/// The characters of the frame: a line downwards, one with a mark, the corner, a line, one with a mark.
const DOWN: char = '\u{2502}';
const DOWN_MARK: char = '\u{2524}';
const CORNER: char = '\u{2514}';
const ACROSS: char = '\u{2500}';
const ACROSS_MARK: char = '\u{252c}';

/// Draws the first [`CURVES_MAX`] curves.
pub(super) fn plot(curves: &[Curve], range: Range, size: Size) -> String {
    let curves = &curves[..curves.len().min(CURVES_MAX)];
    let scales: Vec<Scale> = curves.iter().map(Scale::of).collect();
    let margin = scales.iter().flat_map(Scale::labels).map(|label| label.len()).max().unwrap_or(0);
    let columns = size.columns.saturating_sub(margin + 2).clamp(COLUMNS_MIN, COLUMNS_MAX);
    // Two rows are for the time, one of each panel for its name.
    let rows = size.rows.saturating_sub(2) / curves.len().max(1);
    let rows = rows.saturating_sub(1).clamp(ROWS_MIN, ROWS_MAX);
    let mut out = String::new();
    for (curve, scale) in curves.iter().zip(&scales) {
        let mut canvas = Canvas::new(columns, rows);
        canvas.curve(&curve.points, range, scale, Pen::SOLID);
        if scale.known {
            // What lies beyond the picture is not drawn: only values that were measured are all seen.
            let seen = |points: Vec<(i64, f64)>| scale.cut(points);
            canvas.curve(&seen(curve.line.clone()), range, scale, Pen::DASHES);
            canvas.curve(&seen(curve.edge(|(_, low, _)| *low)), range, scale, Pen::DOTS);
            canvas.curve(&seen(curve.edge(|(_, _, high)| *high)), range, scale, Pen::DOTS);
        }
        let title = title(curve);
        put(&mut out, format_args!("{}\n", cut(&title, margin + 2 + columns)));
        for row in 0..rows {
            let (label, line) = match scale.label(row, rows) {
                Some(label) => (label, DOWN_MARK),
                None => (String::new(), DOWN),
            };
            let dots = canvas.row(row);
            put(&mut out, format_args!("{label:>margin$} {line}{}\n", dots.trim_end()));
        }
    }
    time_axis(&mut out, range, margin, columns);
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("BUG: memory takes everything");
}

/// The name of a curve, and what it came to.
fn title(curve: &Curve) -> String {
    let seen = curve.points.iter().rev().find(|(_, value)| value.is_finite());
    let name = super::table::shown(&curve.name);
    match seen {
        Some((_, last)) => format!("{name}  last {}", short(*last)),
        None => format!("{name}  no values"),
    }
}

fn cut(text: &str, columns: usize) -> &str {
    text.char_indices().nth(columns).map_or(text, |(end, _)| &text[..end])
}

/// What the height of a canvas stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scale {
    low: f64,
    high: f64,
    known: bool,
}

impl Scale {
    /// Round numbers just beyond the smallest and the largest value. What is drawn beside the points may make it three
    /// times as high and no more: they stay to be seen however wide a band is.
    fn of(curve: &Curve) -> Scale {
        let ends = |values: &mut dyn Iterator<Item = f64>| {
            let finite = values.filter(|value| value.is_finite());
            finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            })
        };
        let (low, high) = ends(&mut curve.points.iter().map(|(_, value)| *value));
        if high < low {
            return Scale { low: 0.0, high: 1.0, known: false };
        }
        let line = curve.line.iter().map(|(_, value)| *value);
        let beside =
            ends(&mut line.chain(curve.band.iter().flat_map(|(_, low, high)| [*low, *high])));
        let room = if low < high { high - low } else { low.abs().max(1.0) };
        let (low, high) = (low.min(beside.0.max(low - room)), high.max(beside.1.min(high + room)));
        let width = high - low;
        // Of numbers that are as large as numbers get nothing is left to be rounded.
        if !width.is_finite() {
            return Scale { low, high, known: true };
        }
        let width = if low < high { width } else { low.abs() };
        let step = round_step(if width == 0.0 { 1.0 } else { width / 4.0 });
        let (down, up) = ((low / step).floor() * step, (high / step).ceil() * step);
        let (down, up) = if down < up { (down, up) } else { (down - step, up + step) };
        // Values may lie so close that a step makes no difference.
        let sound = down.is_finite() && up.is_finite() && down < up;
        if sound {
            Scale { low: down, high: up, known: true }
        } else {
            Scale { low, high, known: true }
        }
    }

    /// The part of the height at which a value lies. By halves: the width itself may be beyond all numbers.
    fn height(&self, value: f64) -> f64 {
        let width = self.high / 2.0 - self.low / 2.0;
        if 0.0 < width { ((value / 2.0 - self.low / 2.0) / width).clamp(0.0, 1.0) } else { 0.5 }
    }

    /// The points, with gaps where they lie beyond the height.
    fn cut(&self, mut points: Vec<(i64, f64)>) -> Vec<(i64, f64)> {
        for (_, value) in &mut points {
            if !(self.low..=self.high).contains(value) {
                *value = f64::NAN;
            }
        }
        points
    }

    fn middle(&self) -> f64 {
        self.low / 2.0 + self.high / 2.0
    }

    fn labels(&self) -> [String; 3] {
        if self.known {
            [self.high, self.middle(), self.low].map(short)
        } else {
            [const { String::new() }; 3]
        }
    }

    /// What stands beside a row.
    fn label(&self, row: usize, rows: usize) -> Option<String> {
        let [high, middle, low] = self.labels();
        match row {
            _ if !self.known => None,
            0 => Some(high),
            row if row + 1 == rows => Some(low),
            row if 5 <= rows && row == rows / 2 && rows % 2 == 1 => Some(middle),
            _ => None,
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least this.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    // The smallest numbers have no powers of ten between them.
    if power == 0.0 || !power.is_finite() {
        return least;
    }
    let step = [1.0, 2.0, 5.0].into_iter().map(|times| times * power).find(|step| least <= *step);
    step.unwrap_or(10.0 * power)
}

/// A number with few digits.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e15).contains(&size) {
        return format!("{value:.2e}");
    }
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    // From ten thousand on: years and ports are read more easily whole.
    let unit = units.into_iter().find(|(unit, _)| 1e4 <= size && *unit <= size);
    let (unit, sign) = unit.unwrap_or((1.0, ""));
    let scaled = value / unit;
    let text = match scaled.abs() {
        scale if 100.0 <= scale => format!("{scaled:.1}"),
        scale if 1.0 <= scale => format!("{scaled:.2}"),
        _ => format!("{scaled:.4}"),
    };
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{sign}")
}

/// How a line is drawn: so many dots, and so many left out.
#[derive(Clone, Copy, Debug)]
struct Pen {
    on: usize,
    off: usize,
}

impl Pen {
    const SOLID: Pen = Pen { on: 1, off: 0 };
    const DASHES: Pen = Pen { on: 3, off: 3 };
    const DOTS: Pen = Pen { on: 1, off: 3 };

    /// Whether the dot with this number is drawn.
    fn draws(self, dot: usize) -> bool {
        dot % (self.on + self.off) < self.on
    }
}

/// Dots, two by four to a character.
struct Canvas {
    columns: usize,
    rows: usize,
    cells: Vec<u8>,
}

/// The bits of a character's dots, by row and column.
const DOTS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

impl Canvas {
    fn new(columns: usize, rows: usize) -> Canvas {
        Canvas { columns, rows, cells: vec![0; columns * rows] }
    }

    /// Draws the lines between points; a gap interrupts them.
    fn curve(&mut self, points: &[(i64, f64)], range: Range, scale: &Scale, pen: Pen) {
        let (mut before, mut drawn) = (None, 0);
        for (at, value) in points {
            let inside = range.from_ms <= *at && *at < range.to_ms;
            if !inside || !value.is_finite() {
                before = None;
                continue;
            }
            let place = (self.across(*at, range), self.down(scale.height(*value)));
            drawn = self.line(before.unwrap_or(place), place, (pen, drawn));
            before = Some(place);
        }
    }

    fn across(&self, at: i64, range: Range) -> usize {
        let dots = i128::try_from(2 * self.columns).expect("BUG: a canvas is small");
        let width = i128::from(range.to_ms) - i128::from(range.from_ms);
        let place = (i128::from(at) - i128::from(range.from_ms)) * dots / width.max(1);
        usize::try_from(place).expect("BUG: it lies inside").min(2 * self.columns - 1)
    }

    fn down(&self, height: f64) -> usize {
        let last = 4 * self.rows - 1;
        // The dot whose height is next; there are few of them, and none is taken by a cast.
        let part = |dot: usize| 1.0 - count(dot) / count(last);
        let (mut low, mut high) = (0, last);
        while low < high {
            let middle = low.midpoint(high);
            if part(middle) - 0.5 / count(last) <= height {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// Every dot between two that the pen draws, by whole numbers. Gives the number of the last one: where the next line
    /// goes on.
    fn line(
        &mut self,
        from: (usize, usize),
        to: (usize, usize),
        (pen, drawn): (Pen, usize),
    ) -> usize {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        let between = |from: usize, to: usize, step: usize| {
            let way = from.abs_diff(to) * step;
            let way = (2 * way + steps) / (2 * steps);
            if from <= to { from + way } else { from - way }
        };
        for step in 0..=steps {
            if pen.draws(drawn + step) {
                self.dot(between(from.0, to.0, step), between(from.1, to.1, step));
            }
        }
        if from == to { drawn } else { drawn + steps }
    }

    fn dot(&mut self, across: usize, down: usize) {
        self.cells[(down / 4) * self.columns + across / 2] |= DOTS[down % 4][across % 2];
    }

    fn row(&self, row: usize) -> String {
        let cells = &self.cells[row * self.columns..(row + 1) * self.columns];
        let shown = |cell: &u8| match cell {
            0 => ' ',
            dots => {
                char::from_u32(0x2800 + u32::from(*dots)).expect("BUG: all of them are characters")
            }
        };
        cells.iter().map(shown).collect()
    }
}

/// A small count as a number for sums.
fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).expect("BUG: a canvas is small"))
}

/// Behind the last moment.
const UTC: &str = " UTC";

/// The line below the panels, with marks where moments stand, and the moments.
fn time_axis(out: &mut String, range: Range, margin: usize, columns: usize) {
    let form = form(range);
    let text = |ms: i64| {
        let at = Timestamp::from_unix_ms(ms).unwrap_or(Timestamp::MIN).to_string();
        at[form.0..form.1].replace('T', " ")
    };
    let width = form.1 - form.0;
    // Each moment stands below its mark, but the last one, which ends before the word behind it: there is room for both.
    let places = (columns / (2 * width - width / 2 + UTC.len() + 2)).max(1);
    let mut line: Vec<char> = vec![ACROSS; columns];
    let mut moments = vec![' '; columns + margin + 2 - UTC.len()];
    for place in 0..=places {
        let column = (place * columns / places).min(columns - 1);
        let length = range.to_ms.saturating_sub(range.from_ms);
        let share = |number: usize| i128::try_from(number).expect("BUG: a canvas is small");
        let offset = i128::from(length) * share(place) / share(places);
        let at = i128::from(range.from_ms) + offset;
        line[column] = ACROSS_MARK;
        let first = (margin + 2 + column).saturating_sub(if place == 0 { 0 } else { width / 2 });
        let first = first.min(moments.len().saturating_sub(width));
        let moment = text(i64::try_from(at).unwrap_or(i64::MAX));
        for (cell, shown) in moments[first..].iter_mut().zip(moment.chars()) {
            *cell = shown;
        }
    }
    let line: String = line.into_iter().collect();
    let moments: String = moments.into_iter().collect();
    put(out, format_args!("{:margin$} {CORNER}{line}\n{}{UTC}\n", "", moments.trim_end()));
}

/// Which part of RFC 3339 tells moments of such a range apart.
fn form(range: Range) -> (usize, usize) {
    const HOUR_MS: i64 = 3_600_000;
    match range.to_ms.saturating_sub(range.from_ms) {
        length if length <= HOUR_MS / 4 => (11, 19),
        length if length <= 24 * HOUR_MS => (11, 16),
        length if length <= 30 * 24 * HOUR_MS => (5, 16),
        _ => (0, 10),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::{Curve, Range, Size, plot, short};
    use crate::base::rng::Rng;
    use crate::testing::seeds;

    /// 2025-11-20T12:00:00Z
    const NOON: i64 = 1_763_640_000_000;
    const HOUR: i64 = 3_600_000;

    fn curve(name: &str, hours: i64, value: impl Fn(f64) -> f64) -> Curve {
        let points = (0..=200_i32).map(|at| {
            let part = f64::from(at) / 200.0;
            (NOON + i64::from(at) * hours * HOUR / 200, value(part))
        });
        Curve { name: name.to_owned(), points: points.collect(), ..Curve::default() }
    }

    fn range(hours: i64) -> Range {
        Range { from_ms: NOON, to_ms: NOON + hours * HOUR }
    }

    const SIZE: Size = Size { columns: 80, rows: 20 };

    #[test]
    fn one_curve_fills_the_picture() {
        let wave = curve("cpu{host=\"a\"}", 1, |part| 50.0 + 40.0 * (part * 12.0).sin());
        let text = plot(&[wave], range(1), SIZE);
        expect_file!["plot/one.txt"].assert_eq(&text);
        assert_eq!(text.lines().count(), 20);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn four_curves_have_a_scale_each_and_more_are_left_out() {
        let curves = [
            curve("rising", 24 * 7, |part| part * 1e9),
            curve("gap", 24 * 7, |part| if (0.3..0.6).contains(&part) { f64::NAN } else { 1.0 }),
            curve("steps", 24 * 7, |part| if part < 0.5 { -0.002 } else { 0.004 }),
            Curve { name: "none\u{1b}".to_owned(), ..Curve::default() },
            curve("fifth", 24 * 7, |part| part),
        ];
        expect_file!["plot/four.txt"].assert_eq(&plot(&curves, range(24 * 7), SIZE));
    }

    /// Half of the range was measured, the other half is to come.
    fn foreseen(width: f64) -> Curve {
        let mut curve = curve("depth", 2, |part| 40.0 * part + 2.0 * (part * 60.0).sin());
        curve.points.truncate(101);
        curve.line = curve.points[30..].iter().map(|(at, _)| (*at, 0.0)).collect();
        for (index, (_, value)) in (30..).zip(&mut curve.line) {
            *value = 0.2 * f64::from(index);
        }
        curve.line.push((NOON + HOUR, f64::NAN));
        for step in 0..=30 {
            let (at, middle) =
                (NOON + HOUR + i64::from(step) * 2 * 60_000 - 60_000, f64::from(step));
            let half = width * (1.0 + middle);
            curve.line.push((at, 20.0 + middle * 0.65));
            curve.band.push((at, 20.0 + middle * 0.65 - half, 20.0 + middle * 0.65 + half));
        }
        curve
    }

    #[test]
    fn what_may_come_is_a_dotted_band_around_dashes() {
        let text = plot(&[foreseen(0.4)], range(2), SIZE);
        expect_file!["plot/band.txt"].assert_eq(&text);
    }

    #[test]
    fn a_band_that_is_too_wide_leaves_the_picture_and_hides_no_curve() {
        let text = plot(&[foreseen(1e9)], range(2), SIZE);
        let is_there = |label: &str| text.lines().any(|line| line.starts_with(label));
        assert!(is_there(" 40 ") && is_there("-20 "), "{text}");
    }

    #[test]
    fn moments_below_a_picture_stand_apart() {
        for hours in [1, 10, 24 * 3, 24 * 50] {
            for columns in 60..200 {
                let size = Size { columns, rows: 8 };
                let text = plot(&[curve("x", hours, |part| part)], range(hours), size);
                let line = text.lines().last().unwrap().strip_suffix(" UTC").unwrap();
                let lengths = line.split("  ").map(|moment| moment.trim().len());
                let mut lengths: Vec<usize> = lengths.filter(|length| 0 < *length).collect();
                lengths.dedup();
                assert_eq!(lengths.len(), 1, "{hours} {columns}: {line}");
            }
        }
    }

    #[test]
    fn numbers_have_few_digits() {
        let shown =
            [0.0, -0.0, 1.0, 0.5, 99.95, 1234.5, 12_345.0, -2.5e6, 1e12, 3e20, 1.5e-7, 0.0125];
        let texts = shown.map(short);
        assert_eq!(
            texts,
            [
                "0", "0", "1", "0.5", "99.95", "1234.5", "12.35k", "-2.5M", "1T", "3.00e20",
                "1.50e-7", "0.0125"
            ]
        );
    }

    #[test]
    fn any_points_and_any_size_give_a_picture_with_a_dot_for_each_lone_point() {
        for seed in seeds(300) {
            let mut rng = Rng::from_seed(seed);
            let hours = 1 + i64::try_from(rng.below(10_000)).unwrap();
            let size = Size { columns: rng.index(200), rows: rng.index(60) };
            let mut curves = Vec::new();
            for _ in 0..rng.index(6) {
                let mut points: Vec<(i64, f64)> = (0..rng.index(50))
                    .map(|_| {
                        let at = rng.below((hours * HOUR).cast_unsigned()).cast_signed();
                        (NOON + at, f64::from_bits(rng.next_u64()))
                    })
                    .collect();
                points.sort_by_key(|(at, _)| *at);
                if rng.one_in(3) {
                    for (_, value) in &mut points {
                        *value = f64::MAX;
                    }
                }
                let mut value = || f64::from_bits(rng.next_u64());
                let line = points.iter().map(|(at, _)| (*at, value())).collect();
                let band = points.iter().map(|(at, _)| (*at, value(), value())).collect();
                curves.push(Curve { name: "x".to_owned(), points, line, band });
            }
            let text = plot(&curves, range(hours), size);
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(widest <= size.columns.max(16 + 12) + 4, "seed {seed}:\n{text}");
            let drawn = text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c));
            let finite = curves.iter().take(4).flat_map(|c| &c.points).any(|(_, v)| v.is_finite());
            assert_eq!(drawn, finite, "seed {seed}:\n{text}");
        }
    }
}
