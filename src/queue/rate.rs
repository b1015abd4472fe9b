//! How many jobs a queue lets out: `100/s`, `30/m`, `5/h`, and the bucket that keeps to it.
//!
//! The bucket counts in whole numbers. It is filled at the rate and holds one second's worth, at least one:
//! what is given per minute or hour comes one by one, evenly. Over any stretch of time no more is
//! taken, less what was given back, than the rate times the stretch plus what the bucket holds.

use std::fmt;
use std::time::Duration;

use crate::base::limits::RATE_COUNT_MAX;
use crate::base::time::Mono;

/// Why a text is not a rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRate {
    /// Not a number, a slash and a unit.
    #[error("a rate is a number per second, minute or hour: 100/s, 30/m, 5/h")]
    Form,
    /// Zero, or more than [`RATE_COUNT_MAX`].
    #[error(
        "a rate is 1 to {RATE_COUNT_MAX} per second, minute or hour; to stop a queue, pause it"
    )]
    Count,
}

impl BadRate {
    /// The stable code.
    pub const CODE: &'static str = "invalid_rate";
}

/// The unit of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Per {
    Second,
    Minute,
    Hour,
}

impl Per {
    const fn letter(self) -> char {
        match self {
            Per::Second => 's',
            Per::Minute => 'm',
            Per::Hour => 'h',
        }
    }

    const fn ns(self) -> u64 {
        match self {
            Per::Second => 1_000_000_000,
            Per::Minute => 60_000_000_000,
            Per::Hour => 3_600_000_000_000,
        }
    }
}

/// So many in a second, a minute or an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u64,
    per: Per,
}

impl Rate {
    /// Reads `100/s`, `30/m` or `5/h`; [`fmt::Display`] writes the same text.
    pub fn parse(text: &str) -> Result<Rate, BadRate> {
        let (count, unit) = text.split_once('/').ok_or(BadRate::Form)?;
        let per = match unit {
            "s" => Per::Second,
            "m" => Per::Minute,
            "h" => Per::Hour,
            _ => return Err(BadRate::Form),
        };
        let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || (1 < count.len() && count.starts_with('0')) {
            return Err(BadRate::Form);
        }
        let count = count.parse().map_err(|_| BadRate::Count)?;
        if (1..=RATE_COUNT_MAX).contains(&count) {
            Ok(Rate { count, per })
        } else {
            Err(BadRate::Count)
        }
    }

    /// How long from one to the next, spread evenly.
    pub fn pace(self) -> Duration {
        Duration::from_nanos(self.per.ns() / self.count)
    }

    /// What may be taken at once after a pause: one second's worth, at least one.
    pub const fn burst(self) -> u64 {
        let second = self.count * Per::Second.ns() / self.per.ns();
        if second == 0 { 1 } else { second }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.per.letter())
    }
}

/// What may be taken now, and when there will be more.
///
/// A nanosecond brings `count` drops and a job costs as many as the unit has nanoseconds, so that nothing
/// is ever rounded.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    drops: u64,
    as_of: Mono,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate, now: Mono) -> Bucket {
        let mut bucket = Bucket { rate, drops: 0, as_of: now };
        bucket.drops = bucket.drops_max();
        bucket
    }

    /// The rate it keeps to.
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes up to `n`, and says how many there were.
    pub fn take(&mut self, now: Mono, n: u64) -> u64 {
        self.drops = self.drops_at(now);
        // Threads may read the clock in another order than they come here.
        self.as_of = self.as_of.max(now);
        let taken = n.min(self.drops / self.cost());
        self.drops -= taken * self.cost();
        taken
    }

    /// Puts back what was taken and not used. More than it holds is lost.
    pub fn give_back(&mut self, n: u64) {
        let back = n.saturating_mul(self.cost());
        self.drops = self.drops.saturating_add(back).min(self.drops_max());
    }

    /// When at least one can be taken: `now`, or the moment at which it has come together.
    pub fn next_at(&self, now: Mono) -> Mono {
        let missing = self.cost().saturating_sub(self.drops_at(now));
        let wait = Duration::from_nanos(missing.div_ceil(self.rate.count));
        if missing == 0 { now } else { now.max(self.as_of).plus(wait) }
    }

    fn drops_at(&self, now: Mono) -> u64 {
        let came = now.since(self.as_of).as_nanos() * u128::from(self.rate.count);
        let all = u64::try_from(came).unwrap_or(u64::MAX).saturating_add(self.drops);
        all.min(self.drops_max())
    }

    /// What one job costs.
    const fn cost(&self) -> u64 {
        self.rate.per.ns()
    }

    const fn drops_max(&self) -> u64 {
        self.rate.burst() * self.cost()
    }
}

// A full bucket is far from the end of the numbers.
const _: () = assert!(RATE_COUNT_MAX <= u64::MAX / Per::Second.ns() / 2);
const _: () = assert!(RATE_COUNT_MAX / 60 <= u64::MAX / Per::Minute.ns() / 2);
const _: () = assert!(RATE_COUNT_MAX / 3600 <= u64::MAX / Per::Hour.ns() / 2);

#[cfg(test)]
mod tests {
    use super::{BadRate, Bucket, Rate};
    use crate::base::rng::Rng;
    use crate::base::time::Mono;
    use crate::testing::seeds;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000_000;

    fn bucket(rate: &str) -> Bucket {
        Bucket::new(Rate::parse(rate).unwrap(), Mono::from_ns(0))
    }

    fn at(ms: u64) -> Mono {
        Mono::from_ns(ms * 1_000_000)
    }

    #[test]
    fn a_rate_is_read_and_written_back() {
        for text in ["1/s", "100/s", "30/m", "5/h", "1000000/s", "1000000/h"] {
            assert_eq!(Rate::parse(text).unwrap().to_string(), text);
        }
        for (text, why) in [
            ("", BadRate::Form),
            ("100", BadRate::Form),
            ("/s", BadRate::Form),
            ("100/", BadRate::Form),
            ("100/d", BadRate::Form),
            ("100/S", BadRate::Form),
            ("100 /s", BadRate::Form),
            ("+5/s", BadRate::Form),
            ("-5/s", BadRate::Form),
            ("007/s", BadRate::Form),
            ("1.5/s", BadRate::Form),
            ("5/s/s", BadRate::Form),
            ("0/s", BadRate::Count),
            ("1000001/s", BadRate::Count),
            ("99999999999999999999999/s", BadRate::Count),
        ] {
            assert_eq!(Rate::parse(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn a_full_bucket_holds_a_seconds_worth_and_never_less_than_one() {
        for (rate, burst) in
            [("100/s", 100), ("1/s", 1), ("30/m", 1), ("600/m", 10), ("5/h", 1), ("7200/h", 2)]
        {
            let mut bucket = bucket(rate);
            assert_eq!(bucket.take(at(0), u64::MAX), burst, "{rate}");
            assert_eq!(bucket.take(at(0), 1), 0, "{rate}");
            let a_day = at(86_400_000);
            assert_eq!(bucket.take(a_day, u64::MAX), burst, "{rate} after a day");
        }
    }

    #[test]
    fn what_is_allowed_per_hour_comes_evenly() {
        let mut bucket = bucket("5/h");
        let mut taken_at = Vec::new();
        for minute in 0..60 {
            if bucket.take(at(minute * 60_000), 9) == 1 {
                taken_at.push(minute);
            }
        }
        assert_eq!(taken_at, [0, 12, 24, 36, 48]);
        assert_eq!(bucket.next_at(at(59 * 60_000)), at(60 * 60_000));
    }

    #[test]
    fn what_was_not_used_is_given_back_and_no_more_than_it_holds() {
        let mut bucket = bucket("10/s");
        assert_eq!(bucket.take(at(0), 8), 8);
        bucket.give_back(3);
        assert_eq!(bucket.take(at(0), 8), 5);
        bucket.give_back(u64::MAX);
        assert_eq!(bucket.take(at(0), 100), 10);
    }

    #[test]
    fn a_reading_of_the_clock_that_comes_late_brings_nothing_twice() {
        let mut bucket = bucket("1/s");
        assert_eq!(bucket.take(at(5000), 1), 1);
        assert_eq!(bucket.take(at(4000), 1), 0);
        assert_eq!(bucket.next_at(at(4000)), at(6000));
        assert_eq!(bucket.take(at(5999), 1), 0);
        assert_eq!(bucket.take(at(6000), 1), 1);
        assert_eq!(bucket.next_at(Mono::from_ns(u64::MAX)), Mono::from_ns(u64::MAX));
    }

    #[test]
    fn over_any_stretch_no_more_is_taken_than_the_rate_and_one_bucket_and_nothing_is_lost() {
        for seed in seeds(300) {
            let mut rng = Rng::from_seed(seed);
            let (letter, unit) =
                [('s', SECOND), ('m', 60 * SECOND), ('h', 3600 * SECOND)][rng.index(3)];
            let count = 1 + (rng.next_u64() >> rng.below(64)) % 1_000_000;
            let rate = Rate::parse(&format!("{count}/{letter}")).unwrap();
            let mut bucket = Bucket::new(rate, Mono::from_ns(0));
            let (mut now, mut net) = (0_u64, 0_u64);
            // The least of (what had been taken - what the rate allowed) at any time before, scaled.
            let mut taken: Vec<(u64, u64)> = vec![(0, 0)];
            for step in 0..200 {
                let what = format!("seed={seed} step={step} {rate}");
                now += rng.next_u64() % (unit / count * 4 + 1) * rng.below(3);
                let wanted = 1 + rng.below(rate.burst() * 2);
                let there_at = bucket.next_at(Mono::from_ns(now));
                let got = bucket.take(Mono::from_ns(now), wanted);
                assert_eq!(0 < got, there_at == Mono::from_ns(now), "{what}: next_at");
                net += got;
                if 0 < got && rng.one_in(4) {
                    let back = 1 + rng.below(got);
                    bucket.give_back(back);
                    net -= back;
                } else if got < wanted {
                    check_next(&bucket, now, &what);
                }
                taken.push((now, net));
                for &(then, before) in &taken {
                    let over = u128::from(now - then) * u128::from(count) / u128::from(unit);
                    let allowed = over + u128::from(rate.burst());
                    let took = net.saturating_sub(before);
                    assert!(u128::from(took) <= allowed, "{what}: {took} since {then}");
                }
            }
        }
    }

    /// An empty bucket has the next one exactly when it says.
    fn check_next(bucket: &Bucket, now: u64, what: &str) {
        let next = bucket.next_at(Mono::from_ns(now));
        assert!(Mono::from_ns(now) < next, "{what}: there was none");
        let before = Mono::from_ns(next.ns() - 1);
        assert_eq!(bucket.clone().take(before, 1), 0, "{what}: too early");
        assert_eq!(bucket.clone().take(next, 1), 1, "{what}: too late");
    }

    #[test]
    fn who_comes_whenever_there_is_one_gets_the_whole_rate() {
        for (rate, per_hour) in [("7/s", 25_200), ("13/m", 780), ("11/h", 11)] {
            let mut bucket = bucket(rate);
            let end = Mono::from_ns(0).plus(Duration::from_hours(1));
            let (mut now, mut taken) = (Mono::from_ns(0), 0);
            while now < end {
                let got = bucket.take(now, 1);
                let next = bucket.next_at(now);
                assert!(got == 1 || now < next, "{rate}: nothing came, and time stands still");
                (now, taken) = (next, taken + got);
            }
            let burst = bucket.rate().burst();
            assert!((per_hour..=per_hour + burst).contains(&taken), "{rate}: {taken}");
        }
    }
}
