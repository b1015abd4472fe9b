//! Student's t and the normal distribution, to twelve digits: what is significant, and how wide an interval is.
//!
//! Both are the incomplete beta function with one half as its second parameter. Near the middle it is a series, in the
//! tails a continued fraction (that of Didonato and Morris); both are written with `t * t / freedom`, so that many degrees
//! of freedom, where Student's t is the normal distribution, lose nothing.

/// The part of Student's t with so many degrees of freedom (above 0, need not be whole) that lies beyond `t` on both
/// sides: the p-value.
pub fn beyond(t: f64, freedom: f64) -> f64 {
    let beta = Beta::of(t, freedom);
    if beta.is_middle() {
        (1.0 - beta.middle()).clamp(0.0, 1.0)
    } else {
        beta.tails().clamp(0.0, 1.0)
    }
}

/// The part that lies within.
fn within(t: f64, freedom: f64) -> f64 {
    let beta = Beta::of(t, freedom);
    if beta.is_middle() {
        beta.middle().clamp(0.0, 1.0)
    } else {
        (1.0 - beta.tails()).clamp(0.0, 1.0)
    }
}

/// How far from the middle `part` (0 to 1, such as 0.95) of Student's t lies. What would be infinite is the largest
/// number there is.
pub fn reach(part: f64, freedom: f64) -> f64 {
    if part <= 0.0 || part.is_nan() {
        return 0.0;
    }
    if 1.0 <= part {
        return f64::MAX;
    }
    // Newton's steps on logarithms, on the smaller part of both; a step that leaves the bracket becomes a bisection.
    let (mut low, mut high) = (LN_T_MIN, LN_T_MAX);
    let mut place = START_LN;
    for _ in 0..STEPS_MAX {
        let t = place.exp();
        let inside = part < 0.5;
        let found = if inside { within(t, freedom) } else { beyond(t, freedom) };
        let wanted = if inside { part } else { 1.0 - part };
        if (found < wanted) == inside {
            low = place;
        } else {
            high = place;
        }
        // d ln(found) / d ln(t), whose sign is that of `inside`.
        let slant = 2.0 * t * density(t, freedom) / found;
        let step = (wanted / found).ln() / if inside { slant } else { -slant };
        let next = place + step;
        let next = if low < next && next < high { next } else { f64::midpoint(low, high) };
        let near = (next - place).abs() <= f64::EPSILON * 0.5 * place.abs().max(1.0);
        place = next;
        if near {
            break;
        }
    }
    place.exp().min(f64::MAX)
}

/// The same of the normal distribution.
pub fn normal_reach(part: f64) -> f64 {
    reach(part, FREEDOM_OF_NORMAL)
}

/// Where Student's t is the normal distribution in all digits.
const FREEDOM_OF_NORMAL: f64 = 1e20;
/// Fewer degrees of freedom are taken for so many.
const FREEDOM_MIN: f64 = 1e-3;
/// The logarithms between which distances are sought: of the smallest and the largest numbers.
const LN_T_MIN: f64 = -700.0;
const LN_T_MAX: f64 = 709.0;
/// Where the search begins: at 2.
const START_LN: f64 = std::f64::consts::LN_2;
/// More steps than bisection alone needs.
const STEPS_MAX: usize = 200;
/// Below this `t * t` the series is used, where 1 - p loses no more than two digits.
const MIDDLE_MAX: f64 = 4.0;
/// More terms than either way needs.
const TERMS_MAX: u32 = 10_000;
/// From here on, `1 + r * r` is `r * r`.
const SQUARE_ALONE: f64 = 1e9;

/// What both ways to the incomplete beta function need.
struct Beta {
    t: f64,
    /// Half of the degrees of freedom.
    half: f64,
    /// The part of 1 that belongs to the freedom, and the one that belongs to t.
    x: f64,
    y: f64,
    /// x^half * y^(1/2) / B(half, 1/2).
    power: f64,
}

impl Beta {
    fn of(t: f64, freedom: f64) -> Beta {
        let freedom = if freedom.is_nan() {
            FREEDOM_MIN
        } else {
            freedom.clamp(FREEDOM_MIN, FREEDOM_OF_NORMAL)
        };
        let t = if t.is_nan() { 0.0 } else { t.abs() };
        let half = freedom / 2.0;
        let (x, y) = if t * t < freedom {
            let square = t * t / freedom;
            (1.0 / (1.0 + square), square / (1.0 + square))
        } else {
            let square = (freedom.sqrt() / t) * (freedom.sqrt() / t);
            (square / (1.0 + square), 1.0 / (1.0 + square))
        };
        let scale = gamma_ratio(half) / std::f64::consts::PI.sqrt();
        Beta { t, half, x, y, power: scale * y.sqrt() * (-half * ln_sum(t, freedom)).exp() }
    }

    fn is_middle(&self) -> bool {
        self.t * self.t < MIDDLE_MAX
    }

    /// The part between -t and t: a series of positive terms.
    fn middle(&self) -> f64 {
        let mut sum = 1.0;
        let mut term = 1.0;
        for k in 0..TERMS_MAX {
            let k = f64::from(k);
            term *= (self.half + 0.5 + k) * self.y / (1.5 + k);
            sum += term;
            if term < f64::EPSILON * 0.01 * sum {
                break;
            }
        }
        2.0 * self.power * sum
    }

    /// The part beyond: a continued fraction, by the way of Lentz.
    fn tails(&self) -> f64 {
        let mut fraction = self.denominator(0.0);
        let (mut above, mut below) = (fraction, 0.0);
        for m in 1..TERMS_MAX {
            let m = f64::from(m);
            let (numerator, denominator) = (self.numerator(m), self.denominator(m));
            below = 1.0 / (denominator + numerator * below);
            above = denominator + numerator / above;
            fraction *= above * below;
            if (above * below - 1.0).abs() < f64::EPSILON {
                break;
            }
        }
        self.power / fraction
    }

    fn numerator(&self, m: f64) -> f64 {
        let below = self.half + 2.0 * m - 1.0;
        let first = (self.half + m - 1.0) / below * self.x;
        let second = (self.half + m - 0.5) / below * self.x;
        first * second * m * (0.5 - m)
    }

    fn denominator(&self, m: f64) -> f64 {
        let (half, x, y) = (self.half, self.x, self.y);
        let part = half * y - 0.5 * x + 1.0 + m * (1.0 + y);
        let last = (half + m) / (half + 2.0 * m + 1.0) * part;
        // Nothing over nothing, at first, for two degrees of freedom.
        if m == 0.0 { last } else { m + m * (0.5 - m) * x / (half + 2.0 * m - 1.0) + last }
    }
}

/// How dense Student's t is at `t`.
fn density(t: f64, freedom: f64) -> f64 {
    let freedom = freedom.clamp(FREEDOM_MIN, FREEDOM_OF_NORMAL);
    let scale = gamma_ratio(freedom / 2.0) / (std::f64::consts::PI * freedom).sqrt();
    scale * (-0.5 * (freedom + 1.0) * ln_sum(t, freedom)).exp()
}

/// ln(1 + t * t / freedom).
fn ln_sum(t: f64, freedom: f64) -> f64 {
    let ratio = t / freedom.sqrt();
    if ratio < SQUARE_ALONE { (t * t / freedom).ln_1p() } else { 2.0 * ratio.ln() }
}

/// The gamma function of `a + 1/2` over that of `a`: by its asymptotic series, at a larger `a` if that is small.
fn gamma_ratio(a: f64) -> f64 {
    const LARGE: f64 = 30.0;
    let (mut a, mut factor) = (a, 1.0);
    while a < LARGE {
        factor *= a / (a + 0.5);
        a += 1.0;
    }
    // ln(ratio) is ln(a)/2 - 1/(8 a) + 1/(192 a^3) - 1/(640 a^5) + 17/(14336 a^7) - ...
    let square = 1.0 / (a * a);
    let series = 1.0 / 192.0 + square * (-1.0 / 640.0 + square * (17.0 / 14_336.0));
    let series = (square * series - 0.125) / a;
    factor * a.sqrt() * series.exp()
}

#[cfg(test)]
mod tests {
    use super::{beyond, normal_reach, reach};

    const REFERENCE: &str = include_str!("fixtures/student.txt");

    /// The largest relative difference from the reference, and where it is; how many there were.
    fn worst(kind: &str, found: impl Fn(f64, f64) -> f64) -> (f64, String, usize) {
        let mut worst = (0.0, String::new(), 0);
        for line in REFERENCE.lines().filter(|line| line.starts_with(kind)) {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |place: usize| words[place].parse::<f64>().unwrap_or(f64::NAN);
            let difference = (found(number(1), number(2)) / number(3) - 1.0).abs();
            assert!(difference.is_finite(), "{line}");
            worst.2 += 1;
            if worst.0 < difference {
                (worst.0, worst.1) = (difference, line.to_owned());
            }
        }
        worst
    }

    #[test]
    fn what_lies_beyond_is_right_in_twelve_digits() {
        let (difference, line, count) = worst("beyond", beyond);
        assert!(difference < 1e-12 && 600 < count, "{difference:e} of {count} at {line}");
    }

    #[test]
    fn how_far_a_part_reaches_is_right_in_twelve_digits() {
        let (difference, line, count) = worst("reach", reach);
        assert!(difference < 1e-12 && 150 < count, "{difference:e} of {count} at {line}");
        let (difference, line, count) = worst("normal", |part, _| normal_reach(part));
        assert!(difference < 1e-12 && 10 < count, "{difference:e} of {count} at {line}");
    }

    #[test]
    fn one_is_the_other_way_round_than_the_other() {
        for freedom in [0.5, 0.9, 1.0, 2.0, 2.7, 10.0, 1e3, 1e6, 1e12] {
            for part in [1e-6, 0.01, 0.3, 0.5, 0.7, 0.95, 0.999, 1.0 - 1e-9] {
                let back = beyond(reach(part, freedom), freedom);
                let error = (back - (1.0 - part)).abs() / (1.0 - part);
                assert!(error < 1e-12, "{part} of {freedom}: {error:e}");
            }
        }
    }

    #[test]
    fn the_more_it_is_the_less_lies_beyond_and_nothing_is_no_number() {
        let degrees =
            [f64::MIN_POSITIVE, 1e-3, 0.5, 1.0, 2.0, 3.7, 58.0, 1e6, 1e300, f64::INFINITY];
        for freedom in degrees {
            let mut before = 1.0;
            for exponent in -320..=308 {
                let t = 10.0_f64.powi(exponent);
                let p = beyond(t, freedom);
                assert!(
                    (0.0..=1.0).contains(&p) && p <= before,
                    "{t} of {freedom}: {p} > {before}"
                );
                assert!(p.to_bits() == beyond(-t, freedom).to_bits(), "{t} of {freedom}");
                before = p;
            }
            for part in [-1.0, 0.0, f64::MIN_POSITIVE, 1e-300, 0.5, 1.0 - f64::EPSILON, 1.0, 2.0] {
                assert!(reach(part, freedom).is_finite(), "{part} of {freedom}");
            }
        }
        for p in [beyond(0.0, 5.0), beyond(f64::NAN, 5.0)] {
            assert!((p - 1.0).abs() < 1e-15, "{p}");
        }
        assert!(beyond(f64::INFINITY, 5.0) == 0.0);
        assert!((0.0..=1.0).contains(&beyond(1.0, f64::NAN)));
        assert!((0.0..=1.0).contains(&beyond(1.0, -3.0)));
        assert!(reach(f64::NAN, 5.0) == 0.0 && f64::MAX <= reach(1.0, 5.0));
    }
}
