//! The calls for trends and capacity, from texts to what they mean: each refusal has its code.

use std::time::Duration;

use super::problem::Problem;
use super::query::Query;
use super::queue_terms::time_of;
use super::series_terms::{function_of, selector, truth_of};
use crate::app::capacity::CapacityQuestion;
use crate::app::trends::{BadStretch, Question, Stretch};
use crate::base::human::parse_duration;
use crate::base::limits::CAPACITY_AROUND_MAX;
use crate::base::time::Timestamp;
use crate::series::fold::Function;
use crate::series::select::Selector;
use crate::trend::threshold::{Side, Threshold};

/// The period of a trend when none is said.
const PERIOD: Duration = Duration::from_hours(1);
/// The period over which the rates of a queue are measured when none is said.
const CAPACITY_PERIOD: Duration = Duration::from_mins(15);
/// Workers more and fewer that are told when nobody says how many.
const AROUND: u32 = 3;
/// How long a job may have to wait, at least and at most.
const TARGET_WAIT_MIN: Duration = Duration::from_millis(1);
const TARGET_WAIT_MAX: Duration = Duration::from_hours(24);
/// No number is longer than this.
const NUMBER_BYTES_MAX: usize = 64;

fn invalid(what: &str, detail: impl Into<String>) -> Problem {
    Problem::new(&format!("invalid_{what}"), detail)
}

fn refused(bad: &BadStretch) -> Problem {
    Problem::new(bad.code(), bad.to_string())
}

fn time(what: &'static str, text: Option<&str>) -> Result<Option<Duration>, Problem> {
    let time = |text| parse_duration(text).map_err(|bad| invalid(what, bad.to_string()));
    text.map(time).transpose()
}

/// How a stretch is made of a period and an interval.
type Made = fn(Duration, Option<Duration>) -> Result<Stretch, BadStretch>;

fn stretch(query: &Query, made: Made) -> Result<Stretch, Problem> {
    let period = time("period", query.get("period"))?.unwrap_or(PERIOD);
    let interval = time("interval", query.get("interval"))?;
    made(period, interval).map_err(|bad| refused(&bad))
}

/// A value, as decimals are written.
fn number(text: &str) -> Result<f64, Problem> {
    let detail = "threshold is a number, such as 100, 0.5 or 8e10";
    let is_plain = |b: u8| b.is_ascii_digit() || b"+-.eE".contains(&b);
    let plain = text.len() <= NUMBER_BYTES_MAX && text.bytes().all(is_plain);
    let value: Option<f64> = text.parse().ok().filter(|value: &f64| plain && value.is_finite());
    value.ok_or_else(|| invalid("threshold", detail))
}

fn threshold(query: &Query) -> Result<Option<Threshold>, Problem> {
    let side = match query.get("when") {
        None => None,
        Some("above") => Some(Side::Above),
        Some("below") => Some(Side::Below),
        Some(_) => return Err(invalid("when", "when is above or below")),
    };
    match (query.get("threshold"), side) {
        (Some(text), side) => {
            Ok(Some(Threshold { value: number(text)?, side: side.unwrap_or(Side::Either) }))
        }
        (None, Some(_)) => Err(invalid("when", "when goes with a threshold")),
        (None, None) => Ok(None),
    }
}

/// What a call for the trends of any series asks, and whether it wants the points.
pub(super) fn question(query: &Query, now: Timestamp) -> Result<(Question, bool), Problem> {
    asked(query, Stretch::new, now)
}

/// What a call for a trend of what the server records itself asks, and whether it wants the points.
pub(super) fn recorded(query: &Query, now: Timestamp) -> Result<(Question, bool), Problem> {
    asked(query, Stretch::of_recorded, now)
}

fn asked(query: &Query, made: Made, now: Timestamp) -> Result<(Question, bool), Problem> {
    let stretch = stretch(query, made)?;
    let points = truth_of("points", query.get("points"))?;
    Ok((Question { stretch, threshold: threshold(query)?, now }, points))
}

/// Which series, and what is made of the samples of a step.
pub(super) fn series(query: &Query) -> Result<(Selector, Option<Function>), Problem> {
    let select = selector("select", query.get("select"))?;
    let function = query.get("fn").map(function_of).transpose()?;
    if function == Some(Function::Raw) {
        let detail = "a trend has steps, and raw has none; leave fn out, or say avg";
        return Err(invalid("fn", detail));
    }
    Ok((select, function))
}

/// What is asked of the capacity of a queue.
pub(super) fn capacity(query: &Query, now: Timestamp) -> Result<CapacityQuestion, Problem> {
    let target = query
        .get("target_wait")
        .map(|text| time_of("target_wait", text, TARGET_WAIT_MIN, TARGET_WAIT_MAX));
    let around = query.get("around").map_or(Ok(AROUND), |text| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let around = text.parse().ok().filter(|around| digits && *around <= CAPACITY_AROUND_MAX);
        let detail = format!("around is a whole number from 0 to {CAPACITY_AROUND_MAX}");
        around.ok_or_else(|| invalid("around", detail))
    });
    let period = time("period", query.get("period"))?.unwrap_or(CAPACITY_PERIOD);
    Ok(CapacityQuestion {
        stretch: Stretch::of_recorded(period, None).map_err(|bad| refused(&bad))?,
        target: target.transpose()?,
        around: around?,
        now,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{capacity, question, recorded, series};
    use crate::base::time::Timestamp;
    use crate::http::problem::Problem;
    use crate::http::query::Query;
    use crate::series::fold::Function;
    use crate::trend::threshold::{Side, Threshold};

    const KNOWN: [&str; 9] = [
        "period",
        "interval",
        "threshold",
        "when",
        "points",
        "select",
        "fn",
        "target_wait",
        "around",
    ];

    fn query(text: &str) -> Query {
        Query::read(Some(text), &KNOWN).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_unix_ms(1_700_000_000_000).unwrap()
    }

    fn code<T>(refused: Result<T, Problem>) -> &'static str {
        refused.map_or_else(|problem| problem.kind.code, |_| "none")
    }

    #[test]
    fn a_question_says_a_period_its_steps_and_what_is_to_be_reached() {
        let asked = |text: &str| question(&query(text), now()).unwrap();
        let (plain, points) = asked("");
        assert_eq!(plain.stretch.period(), Duration::from_hours(1));
        assert_eq!(plain.stretch.step(), Duration::from_mins(1));
        assert_eq!((plain.threshold, points), (None, false));
        let (all, points) = asked("period=1d&interval=300&threshold=-1.5e3&when=below&points=1");
        assert_eq!(all.stretch.step(), Duration::from_mins(5));
        let threshold = Threshold { value: -1500.0, side: Side::Below };
        assert_eq!((all.threshold, points), (Some(threshold), true));
        let (either, _) = asked("threshold=100");
        assert_eq!(either.threshold, Some(Threshold { value: 100.0, side: Side::Either }));
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_its_code() {
        for (text, expected) in [
            ("period=59", "invalid_period"),
            ("period=401d", "invalid_period"),
            ("period=-1h", "invalid_period"),
            ("period=", "invalid_period"),
            ("interval=9", "invalid_interval"),
            ("interval=10.5", "invalid_interval"),
            ("interval=x", "invalid_interval"),
            ("interval=30m", "invalid_interval"),
            ("interval=2h", "invalid_interval"),
            ("period=30d&interval=10", "invalid_interval"),
            ("threshold=", "invalid_threshold"),
            ("threshold=NaN", "invalid_threshold"),
            ("threshold=inf", "invalid_threshold"),
            ("threshold=1e999", "invalid_threshold"),
            ("threshold=0x10", "invalid_threshold"),
            ("threshold=1%20", "invalid_threshold"),
            ("when=above", "invalid_when"),
            ("threshold=1&when=over", "invalid_when"),
            ("points=2", "invalid_points"),
        ] {
            assert_eq!(code(question(&query(text), now())), expected, "{text}");
        }
        assert_eq!(code(question(&query("period=1m&interval=20"), now())), "none");
        // Fifteen seconds have one recording of the server's, or two.
        assert_eq!(code(question(&query("interval=15"), now())), "none");
        assert_eq!(code(recorded(&query("interval=15"), now())), "invalid_interval");
        assert_eq!(code(recorded(&query("interval=9"), now())), "invalid_interval");
        assert_eq!(code(recorded(&query("period=10"), now())), "invalid_period");
        assert_eq!(code(recorded(&query("interval=70"), now())), "none");
        for (text, expected) in [
            ("", "invalid_select"),
            ("select=%7B%7D", "invalid_select"),
            ("select=a&fn=raw", "invalid_fn"),
            ("select=a&fn=x", "invalid_fn"),
            ("select=a&fn=p95", "none"),
        ] {
            assert_eq!(code(series(&query(text))), expected, "{text}");
        }
        assert_eq!(series(&query("select=a&fn=max")).unwrap().1, Some(Function::Max));
        for (text, expected) in [
            ("target_wait=0", "invalid_target_wait"),
            ("target_wait=25h", "invalid_target_wait"),
            ("target_wait=soon", "invalid_target_wait"),
            ("period=10", "invalid_period"),
            ("around=21", "invalid_around"),
            ("around=-1", "invalid_around"),
            ("around=", "invalid_around"),
            ("around=%2B1", "invalid_around"),
            ("around=0&target_wait=1ms&period=1m", "none"),
        ] {
            assert_eq!(code(capacity(&query(text), now())), expected, "{text}");
        }
        let plain = capacity(&query(""), now()).unwrap();
        assert_eq!((plain.target, plain.around), (None, 3));
        assert_eq!(plain.stretch.period(), Duration::from_mins(15));
    }
}
