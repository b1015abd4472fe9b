//! What comes next, how sure that is, and how wrong it would have been.
//!
//! Several ways compete (the last stretch's line, its level, what is usual at the hour with the level of now, the value of
//! now); each is tried on the past, ahead of which it is not told what came, and the one that erred least is taken. What it
//! leaves is taken for a process in which each value resembles the one before ([`process`]); its interval follows from that,
//! from how uncertain level, line and likeness are, and from Student's t. 93 to 97 of 100 intervals of 95 % have the truth
//! in them.
//!
//! What is usual at the hour is said by the baseline, if there is one that tells hours apart, or by the same time of the days
//! before, if the samples reach back for three: both compete.

mod process;
#[cfg(test)]
mod tests;

use super::season::{Baseline, Cycle};
use super::student;
use super::{Interval, Sample};
use process::{Ahead, Fitted, Origin, Part, Point, Shape, Told};

/// Nothing is told of fewer samples.
const SAMPLES_MIN: usize = 8;
/// So often each way is tried on the past, at most.
const TRIALS_MAX: usize = 32;
/// Nothing is said of how wrong ways are that were tried less often.
const TRIALS_MIN: usize = 4;
/// A way that is told by fewer samples of its own is not tried there.
const OWN_MIN: usize = 8;
/// Beside one step ahead, ways are tried this part of the samples ahead: what errs little in the next minute may be far off
/// in the next hour.
const FAR_PART: usize = 8;
/// Where these ways stand among those that compete.
const LEVEL: usize = 0;
const LINE: usize = 1;
const LAST: usize = 2;
/// Who says anything but "as now" has to err by this part less: less may be chance.
const CLEARLY: f64 = 0.04;
/// The same for who says that hours matter, after a few days: where they do, much less is erred.
const CLEARLY_DAYS: f64 = 0.15;
/// A line that could not be tried has to be so much likelier than a level.
const LINE_ODDS: f64 = 5.0;
/// How much a walk without any level has to say where "as now" erred least: chosen by simulation.
const WALKS: f64 = 0.15;
/// So many steps are told apart.
const STEPS_MAX: f64 = 1e9;
/// What is usual lies this far off at most, on the scale, or squares would be too large.
const SCALED_MAX: f64 = 1e100;
/// A day.
const DAY_MS: i64 = 86_400_000;
/// Hours are told apart by samples of so many days, as baselines do: fewer are mistaken for days too often.
const DAYS_MIN: f64 = 3.0;
/// A day has so many samples at least, or hours tell nothing.
const SLOTS_MIN: i64 = 4;

/// A way to tell what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As the line of the last stretch goes on, coming back to it from where it is.
    Line,
    /// As it was in the last stretch, on average, coming back to it from where it is.
    Level,
    /// As usual at that hour, coming back to it from where it is.
    Season,
    /// As it is now.
    Last,
}

impl Method {
    /// How it is spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Line => "line",
            Method::Level => "level",
            Method::Season => "season",
            Method::Last => "last",
        }
    }
}

/// What comes at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// When.
    pub at_ms: i64,
    /// What.
    pub value: f64,
    /// What it lies in.
    pub interval: Interval,
}

/// A way to tell what comes, made of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Which way it is.
    pub method: Method,
    /// How far it was off, on average, where it was tried on the past, one step ahead; none if there was too little to try.
    pub backtest_error: Option<f64>,
    /// The same of "as a day ago" if the samples reach back for one, else of "as usual at the hour" if that is known, else
    /// of "as now": what it has to beat.
    pub naive_error: Option<f64>,
    scale: Scale,
    floor: Option<f64>,
    /// Who has a say: the first tells the value, all of them the interval. None of what never changes.
    sides: Vec<Side>,
    /// Degrees of freedom, and within how many deviations 95 % lie.
    student: (f64, f64),
}

/// What is known of a series beside its samples.
#[derive(Clone, Copy, Debug)]
pub struct Known<'k> {
    /// How far samples lie apart.
    pub step_ms: i64,
    /// What is usual, if that is known.
    pub usual: Option<&'k Baseline>,
    /// The series cannot be below this, such as 0.
    pub floor: Option<f64>,
}

impl Forecast {
    /// That of the samples of the last stretch. None for fewer than eight.
    pub fn of(samples: &[Sample], known: Known<'_>) -> Option<Forecast> {
        if samples.len() < SAMPLES_MIN {
            return None;
        }
        let Some(scale) = Scale::of(samples, known.step_ms) else {
            return Some(Forecast::constant(samples, known));
        };
        let past = Past::of(samples, scale);
        let mut ways = vec![
            past.way(Method::Level, Base::None),
            past.way(Method::Line, past.line()),
            past.way(Method::Last, Base::None),
        ];
        assert!(matches!(ways[LAST].method, Method::Last), "BUG: ways have another order");
        ways.extend(past.usual(known.usual));
        ways.extend(past.days());
        Some(past.best(ways, known))
    }

    fn constant(samples: &[Sample], known: Known<'_>) -> Forecast {
        let tried = (SAMPLES_MIN + TRIALS_MIN <= samples.len()).then_some(0.0);
        Forecast {
            method: Method::Last,
            backtest_error: tried,
            naive_error: tried,
            scale: Scale::constant(samples, known.step_ms),
            floor: known.floor,
            sides: Vec::new(),
            student: (1.0, 0.0),
        }
    }

    /// What comes at a moment behind the last sample.
    pub fn at(&self, at_ms: i64) -> Expected {
        let scale = &self.scale;
        let ahead = Ahead { x: scale.x(at_ms), steps: scale.steps(at_ms, scale.last_ms) };
        let real = |scaled: f64| {
            let value = scale.value(scaled);
            self.floor.map_or(value, |floor| value.max(floor))
        };
        let Some(first) = self.sides.first() else {
            let value = real(0.0);
            return Expected { at_ms, value, interval: Interval { low: value, high: value } };
        };
        let value =
            real(first.base.at(at_ms, scale) + process::expect(&first.parts, first.origin, ahead));
        let mut told = Vec::new();
        for side in &self.sides {
            let base = side.base.at(at_ms, scale);
            told.extend(process::told(&side.parts, side.origin, ahead).map(|told| Told {
                weight: side.weight * told.weight,
                value: base + told.value,
                ..told
            }));
        }
        let Interval { low, high } = process::interval(&told, self.student);
        let interval = Interval { low: real(low).min(value), high: real(high).max(value) };
        Expected { at_ms, value, interval }
    }
}

/// One who has a say in what comes.
#[derive(Clone, Debug, PartialEq)]
struct Side {
    /// How much of one.
    weight: f64,
    /// What was taken from the values.
    base: Base,
    /// What is told of the rest.
    parts: Vec<Part>,
    origin: Origin,
}

/// How moments and values are computed with: times in windows before the last sample, values as parts of how far they lie
/// apart. Whatever they were, they are near 1 there.
#[derive(Clone, Debug, PartialEq)]
struct Scale {
    last_ms: i64,
    step_ms: f64,
    window_ms: f64,
    centre: f64,
    /// Half of the largest distance from the centre: all of it may be too large for a number.
    half: f64,
}

impl Scale {
    /// None if values do not differ.
    fn of(samples: &[Sample], step_ms: i64) -> Option<Scale> {
        let mut scale = Scale::constant(samples, step_ms);
        let far = |&(_, value): &Sample| (0.5 * value - 0.5 * scale.centre).abs();
        scale.half = samples.iter().map(far).fold(0.0, f64::max);
        (0.0 < scale.half).then_some(scale)
    }

    fn constant(samples: &[Sample], step_ms: i64) -> Scale {
        let (first, last) = (samples[0], samples[samples.len() - 1]);
        Scale {
            last_ms: last.0,
            step_ms: between(step_ms.max(1), 0),
            window_ms: between(last.0, first.0).max(1.0),
            centre: first.1,
            half: 0.0,
        }
    }

    fn x(&self, at_ms: i64) -> f64 {
        between(at_ms, self.last_ms) / self.window_ms
    }

    /// Steps from a moment to a later one, one at least.
    fn steps(&self, at_ms: i64, before_ms: i64) -> i32 {
        let steps = (between(at_ms, before_ms) / self.step_ms).round();
        #[expect(clippy::cast_possible_truncation, reason = "it is clamped, and not NaN")]
        let steps = steps.clamp(1.0, STEPS_MAX) as i32;
        steps
    }

    fn scaled(&self, value: f64) -> f64 {
        ((0.5 * value - 0.5 * self.centre) / self.half).clamp(-SCALED_MAX, SCALED_MAX)
    }

    fn value(&self, scaled: f64) -> f64 {
        let half = 0.5 * self.centre + scaled * self.half;
        (2.0 * half).clamp(f64::MIN, f64::MAX)
    }
}

/// Milliseconds from one moment to another.
fn between(at_ms: i64, before_ms: i64) -> f64 {
    let wide = i128::from(at_ms) - i128::from(before_ms);
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of 285,000 years are exact")]
    let between = wide as f64;
    between
}

/// What is taken from values before the process is fitted, on the scale.
#[derive(Clone, Debug, PartialEq)]
enum Base {
    None,
    /// The line of least squares, so that sums do not cancel: where it is at the last sample, and its rise in a window.
    Line(f64, f64),
    /// What is usual at the hour.
    Usual(Baseline),
    /// What the same time of other days was, from the mean of each day.
    Slots(Slots),
}

impl Base {
    fn at(&self, at_ms: i64, scale: &Scale) -> f64 {
        match self {
            Base::None => 0.0,
            Base::Line(last, rise) => last + rise * scale.x(at_ms),
            Base::Usual(usual) => scale.scaled(usual.usual(at_ms).value),
            Base::Slots(slots) => slots.mean(at_ms).unwrap_or(0.0),
        }
    }
}

/// Sums by the time of the day.
#[derive(Clone, Debug, PartialEq)]
struct Slots {
    step_ms: i64,
    sums: Vec<(f64, f64)>,
}

impl Slots {
    fn slot(&self, at_ms: i64) -> usize {
        let slot = at_ms.rem_euclid(DAY_MS) / self.step_ms;
        usize::try_from(slot).unwrap_or(0).min(self.sums.len() - 1)
    }

    fn mean(&self, at_ms: i64) -> Option<f64> {
        let (count, sum) = self.sums[self.slot(at_ms)];
        (0.0 < count).then(|| sum / count)
    }

    fn add(&mut self, at_ms: i64, value: f64) {
        let slot = self.slot(at_ms);
        self.sums[slot].0 += 1.0;
        self.sums[slot].1 += value;
    }
}

/// A way that competes: what it is fitted to, which samples those are, and what was taken from each sample of all.
struct Way {
    method: Method,
    base: Base,
    points: Vec<Point>,
    numbers: Vec<usize>,
    taken: Vec<f64>,
}

/// How far a way was off.
#[derive(Clone, Copy)]
struct Errors {
    /// On average, one step ahead.
    near: f64,
    /// One step and far ahead together, each as a part of how far "as now" was off at the same moments: that has 2.
    score: f64,
}

/// How far a way was off at some distance ahead, and how far "as now" was.
#[derive(Clone, Copy, Default)]
struct Sum {
    count: usize,
    error: f64,
    as_now: f64,
}

impl Sum {
    /// The one as a part of the other; 1 if both are 0.
    fn score(self) -> f64 {
        (self.error + f64::MIN_POSITIVE) / (self.as_now + f64::MIN_POSITIVE)
    }
}

/// What there is to learn from.
struct Past<'s> {
    samples: &'s [Sample],
    scale: Scale,
    values: Vec<f64>,
}

impl Past<'_> {
    fn of(samples: &[Sample], scale: Scale) -> Past<'_> {
        let values = samples.iter().map(|&(_, value)| scale.scaled(value)).collect();
        Past { samples, scale, values }
    }

    fn line(&self) -> Base {
        let count = process::small(self.values.len());
        let xs = || self.samples.iter().map(|&(at_ms, _)| self.scale.x(at_ms));
        let x_mean = xs().sum::<f64>() / count;
        let mean = self.values.iter().sum::<f64>() / count;
        let (mut spread, mut both) = (0.0, 0.0);
        for (x, value) in xs().zip(&self.values) {
            spread += (x - x_mean) * (x - x_mean);
            both += (x - x_mean) * (value - mean);
        }
        let rise = if 0.0 < spread { both / spread } else { 0.0 };
        Base::Line(mean - rise * x_mean, rise)
    }

    fn way(&self, method: Method, base: Base) -> Way {
        let taken = self.samples.iter().map(|&(at_ms, _)| base.at(at_ms, &self.scale)).collect();
        self.way_of(method, base, taken, (0..self.values.len()).collect())
    }

    /// The way of samples with these numbers, of which this is taken.
    fn way_of(&self, method: Method, base: Base, taken: Vec<f64>, numbers: Vec<usize>) -> Way {
        let point = |(order, &number): (usize, &usize)| {
            let at_ms = self.samples[number].0;
            let before = order.checked_sub(1).map(|before| self.samples[numbers[before]].0);
            Point {
                x: self.scale.x(at_ms),
                steps: before.map_or(1, |before_ms| self.scale.steps(at_ms, before_ms)),
                value: self.values[number] - taken[number],
            }
        };
        let points = numbers.iter().enumerate().map(point).collect();
        Way { method, base, points, numbers, taken }
    }

    /// The way by what is usual, if that is known and hours differ.
    fn usual(&self, usual: Option<&Baseline>) -> Option<Way> {
        let usual = usual.filter(|usual| usual.cycle() != Cycle::None)?;
        Some(self.way(Method::Season, Base::Usual(usual.clone())))
    }

    /// The way by the days before: how far each time of the day was from the mean of the day that ended then. A series that
    /// climbs all the while is as far from that each day.
    fn days(&self) -> Option<Way> {
        let mut slots = self.slots()?;
        let (mut taken, mut numbers) = (vec![0.0; self.values.len()], Vec::new());
        let (mut oldest, mut sum) = (0, 0.0);
        let first_ms = self.samples[0].0;
        for (number, (&(at_ms, _), &value)) in self.samples.iter().zip(&self.values).enumerate() {
            sum += value;
            while between(DAY_MS, 0) <= between(at_ms, self.samples[oldest].0) {
                sum -= self.values[oldest];
                oldest += 1;
            }
            if let Some(mean) = slots.mean(at_ms) {
                taken[number] = mean;
                numbers.push(number);
            }
            if between(DAY_MS, 0) <= between(at_ms, first_ms) + self.scale.step_ms {
                slots.add(at_ms, value - sum / process::small(number + 1 - oldest));
            }
        }
        let way = self.way_of(Method::Season, Base::Slots(slots), taken, numbers);
        (SAMPLES_MIN <= way.points.len()).then_some(way)
    }

    /// Empty ones, if the samples reach back for three days, and a day has a whole number of steps, four at least.
    fn slots(&self) -> Option<Slots> {
        #[expect(clippy::cast_possible_truncation, reason = "it was a whole number")]
        let step_ms = self.scale.step_ms as i64;
        let count = DAY_MS / step_ms;
        let whole = DAY_MS % step_ms == 0 && SLOTS_MIN <= count;
        let sums = usize::try_from(count).ok().filter(|&count| count <= self.values.len())?;
        let reach = DAYS_MIN * between(DAY_MS, 0) <= self.scale.window_ms + self.scale.step_ms;
        (whole && reach).then(|| Slots { step_ms, sums: vec![(0.0, 0.0); sums] })
    }

    /// The numbers of samples that ways are told, to tell the next one: evenly from the second half.
    fn trials(&self) -> Vec<usize> {
        let count = self.values.len();
        let first = SAMPLES_MIN.max(count / 2);
        let possible = count.saturating_sub(first);
        if possible < TRIALS_MIN {
            return Vec::new();
        }
        let trials = possible.min(TRIALS_MAX);
        (1..=trials).map(|trial| first - 1 + trial * possible / trials).collect()
    }

    /// How far ahead ways are tried beside one step: less than a day, for the time of the day is told by days before it.
    fn far(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "it was a whole number")]
        let step_ms = self.scale.step_ms as i64;
        let day = usize::try_from(DAY_MS / step_ms - 1).unwrap_or(0).max(1);
        (self.values.len() / FAR_PART).max(2).min(day)
    }

    /// The one that erred least.
    fn best(&self, ways: Vec<Way>, known: Known<'_>) -> Forecast {
        let trials = self.trials();
        let mut counts = trials.clone();
        counts.push(self.values.len());
        let mut tried: Vec<Tried> = Vec::with_capacity(ways.len());
        for way in ways {
            let mut fits = Past::fits(&way, &counts);
            let fitted = fits.pop().unwrap_or_default();
            let errors = self.errors(&way, &fits, &trials);
            tried.push(Tried { way, fitted, errors });
        }
        let chosen = choose(&tried);
        let method = tried[chosen].way.method;
        let real = |error: f64| (2.0 * self.scale.half * error).min(f64::MAX);
        let freedom = process::small(tried[chosen].way.points.len() - 2);
        Forecast {
            method,
            backtest_error: tried[chosen].errors.map(|errors| real(errors.near)),
            naive_error: self.naive(&trials, known.usual).map(real),
            scale: self.scale.clone(),
            floor: known.floor,
            sides: sides(tried, chosen),
            student: (freedom, student::reach(0.95, freedom)),
        }
    }

    fn fits(way: &Way, counts: &[usize]) -> Vec<Fitted> {
        let own: Vec<usize> = counts.iter().map(|&count| way.own(count).max(2)).collect();
        match way.method {
            Method::Level | Method::Season => process::fit(&way.points, Shape::Level, &own),
            Method::Line => process::fit(&way.points, Shape::Line, &own),
            Method::Last => own.iter().map(|&own| Fitted::walk(&way.points[..own])).collect(),
        }
    }

    /// How far off a way was where it had samples of its own; none if that was too seldom.
    fn errors(&self, way: &Way, fits: &[Fitted], trials: &[usize]) -> Option<Errors> {
        let far = self.far();
        let mut sums = [Sum::default(); 2];
        for (fitted, &count) in fits.iter().zip(trials) {
            let own = way.own(count);
            if own < OWN_MIN {
                continue;
            }
            let (point, origin_ms) = (way.points[own - 1], self.samples[way.numbers[own - 1]].0);
            for (sum, number) in sums.iter_mut().zip([count, count - 1 + far]) {
                let Some(&(at_ms, _)) = self.samples.get(number) else { continue };
                let ahead =
                    Ahead { x: self.scale.x(at_ms), steps: self.scale.steps(at_ms, origin_ms) };
                let origin = Origin { x: point.x, value: point.value };
                let told = way.taken[number] + process::expect(&fitted.parts, origin, ahead);
                sum.count += 1;
                sum.error += (self.values[number] - told).abs();
                sum.as_now += (self.values[number] - self.values[count - 1]).abs();
            }
        }
        let [near, far] = sums;
        (TRIALS_MIN <= near.count).then(|| Errors {
            near: near.error / process::small(near.count),
            score: near.score() + if 0 < far.count { far.score() } else { near.score() },
        })
    }

    /// How far off one would be who says the simplest thing.
    fn naive(&self, trials: &[usize], usual: Option<&Baseline>) -> Option<f64> {
        let mean = |errors: Vec<f64>| {
            let enough = trials.len() * 3 <= errors.len() * 4 && !errors.is_empty();
            enough.then(|| errors.iter().sum::<f64>() / process::small(errors.len()))
        };
        let day = |&number: &usize| Some((self.values[number] - self.day_before(number)?).abs());
        let usual = usual.filter(|usual| usual.cycle() != Cycle::None);
        let hour = |&number: &usize| {
            let usual = usual?.usual(self.samples[number].0).value;
            Some((self.values[number] - self.scale.scaled(usual)).abs())
        };
        let now = |&number: &usize| (self.values[number] - self.values[number - 1]).abs();
        mean(trials.iter().filter_map(day).collect())
            .or_else(|| mean(trials.iter().filter_map(hour).collect()))
            .or_else(|| mean(trials.iter().map(now).collect()))
    }

    /// The value a day before that of a number, to half a step.
    fn day_before(&self, number: usize) -> Option<f64> {
        let wanted_ms = self.samples[number].0.checked_sub(DAY_MS)?;
        let behind = self.samples.partition_point(|&(at_ms, _)| at_ms < wanted_ms);
        let off = |number: usize| (between(self.samples[number].0, wanted_ms).abs(), number);
        let candidates = [behind.checked_sub(1), Some(behind)].into_iter().flatten().map(off);
        let near = candidates.min_by(|a, b| a.0.total_cmp(&b.0))?;
        (2.0 * near.0 <= self.scale.step_ms).then(|| self.values[near.1])
    }
}

impl Way {
    /// How many of its own points are among so many samples.
    fn own(&self, count: usize) -> usize {
        self.numbers.partition_point(|&number| number < count)
    }
}

/// A way that was tried.
struct Tried {
    way: Way,
    fitted: Fitted,
    errors: Option<Errors>,
}

impl Tried {
    fn side(self, weight: f64) -> Side {
        let last = self.way.points[self.way.points.len() - 1];
        let origin = Origin { x: last.x, value: last.value };
        Side { weight, base: self.way.base, parts: self.fitted.parts, origin }
    }
}

/// The number of the one that erred least, near and far. Who says anything but "as now" has to err clearly less than that.
/// If there was too little to try them, it is the line if that is much likelier, else the level.
fn choose(tried: &[Tried]) -> usize {
    if tried[LAST].errors.is_none() {
        let likelier = LINE_ODDS < tried[LINE].fitted.odds(&tried[LEVEL].fitted);
        return if likelier { LINE } else { LEVEL };
    }
    let score = |(number, one): (usize, &Tried)| {
        let margin = match one.way.base {
            Base::Slots(_) => 1.0 + CLEARLY_DAYS,
            _ if number == LAST => 1.0 - CLEARLY,
            _ => 1.0,
        };
        (number, one.errors.map_or(f64::INFINITY, |errors| margin * errors.score))
    };
    let scores = tried.iter().enumerate().map(score);
    scores.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(LEVEL, |(number, _)| number)
}

/// Who has a say. Whether there is a line or a level is never sure, whichever was chosen: both have one, as far as samples
/// speak for them; intervals would be too narrow otherwise.
fn sides(mut tried: Vec<Tried>, chosen: usize) -> Vec<Side> {
    if tried[chosen].way.method == Method::Season {
        return vec![tried.swap_remove(chosen).side(1.0)];
    }
    let odds = tried[LINE].fitted.odds(&tried[LEVEL].fitted);
    let rises = if odds.is_finite() { odds / (1.0 + odds) } else { 1.0 };
    let stays = if chosen == LAST { WALKS } else { 0.0 };
    let mut weights = [0.0; 3];
    weights[LEVEL] = (1.0 - stays) * (1.0 - rises);
    weights[LINE] = (1.0 - stays) * rises;
    weights[LAST] = stays;
    let mut sides: Vec<Side> =
        tried.into_iter().zip(weights).map(|(one, weight)| one.side(weight)).collect();
    sides.swap(0, chosen);
    sides.retain(|side| 0.0 < side.weight);
    sides
}
