//! Answers of queries, written by hand: they may have millions of points.
//!
//! ```text
//! {"series":[{"metric":"cpu","labels":{"host":"a"},"points":[[1763640000000,0.5],[1763640300000,null]]}],
//!  "resolution":"5m","step_ms":300000,"from":"...","to":"..."}
//! ```
//!
//! `damaged_blocks` follows where blocks could not be read: what is null there may be lost instead of never sent.
//!
//! **Invariant**: a number that is read again has the bits that were stored.

use std::io::Write as _;

use crate::base::limits::QUERY_ANSWER_BYTES_MAX;
use crate::base::time::Timestamp;
use crate::http::problem::Problem;
use crate::series::query::{Answer, Line};

/// About as long as most points are.
const POINT_BYTES: usize = 28;

/// Whole numbers below this are written with all their digits.
const WHOLE_END: f64 = 1e21;

/// The answer as JSON, whatever its length.
pub(super) fn encoded(answer: &Answer) -> Vec<u8> {
    written(answer, usize::MAX).unwrap_or_default()
}

/// The same, unless that is too long.
pub(super) fn bounded(answer: &Answer) -> Result<Vec<u8>, Problem> {
    written(answer, QUERY_ANSWER_BYTES_MAX).ok_or_else(too_long)
}

/// An answer that has more bytes than one may have.
pub(super) fn too_long() -> Problem {
    let detail = format!(
        "the answer would have more than {QUERY_ANSWER_BYTES_MAX} bytes; choose a longer step, fewer series, or \
         reduce them with by"
    );
    Problem::new("too_many_points", detail).with("limit_bytes", QUERY_ANSWER_BYTES_MAX)
}

/// How many points it has.
pub(super) fn points(answer: &Answer) -> usize {
    answer.lines.iter().map(|line| line.points.len()).sum()
}

fn written(answer: &Answer, bytes_max: usize) -> Option<Vec<u8>> {
    let about = points(answer).saturating_mul(POINT_BYTES).saturating_add(256);
    let mut out = Vec::with_capacity(about.min(QUERY_ANSWER_BYTES_MAX));
    out.extend_from_slice(b"{\"series\":[");
    for (place, line) in answer.lines.iter().enumerate() {
        if place != 0 {
            out.push(b',');
        }
        series(&mut out, line);
        if bytes_max < out.len() {
            return None;
        }
    }
    let (steps, resolution) = (answer.steps, answer.tier.as_str());
    put(&mut out, format_args!("],\"resolution\":\"{resolution}\",\"step_ms\":{}", steps.step_ms));
    for (name, at) in [("from", steps.from_ms), ("to", steps.to_ms)] {
        // A range may end with the last step of the calendar.
        let at = Timestamp::from_unix_ms(at).unwrap_or(Timestamp::MAX);
        put(&mut out, format_args!(",\"{name}\":\"{at}\""));
    }
    if answer.damaged != 0 {
        put(&mut out, format_args!(",\"damaged_blocks\":{}", answer.damaged));
    }
    out.push(b'}');
    Some(out)
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("BUG: memory takes everything");
}

fn text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("BUG: a text is plain JSON");
}

fn series(out: &mut Vec<u8>, line: &Line) {
    out.push(b'{');
    if let Some(metric) = &line.metric {
        out.extend_from_slice(b"\"metric\":");
        text(out, metric);
        out.push(b',');
    }
    out.extend_from_slice(b"\"labels\":{");
    for (place, (name, value)) in line.labels.iter().enumerate() {
        if place != 0 {
            out.push(b',');
        }
        text(out, name);
        out.push(b':');
        text(out, value);
    }
    out.extend_from_slice(b"},\"points\":[");
    for (place, (at, value)) in line.points.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        put(out, format_args!("{comma}[{at},"));
        number(out, *value);
        out.push(b']');
    }
    out.extend_from_slice(b"]}");
}

/// A value as JSON has it: shortest digits that give the same bits; the three that are no numbers as texts.
pub(super) fn number(out: &mut Vec<u8>, value: Option<f64>) {
    match value {
        None => out.extend_from_slice(b"null"),
        Some(value) if value.is_nan() => out.extend_from_slice(b"\"NaN\""),
        Some(f64::INFINITY) => out.extend_from_slice(b"\"+Inf\""),
        Some(f64::NEG_INFINITY) => out.extend_from_slice(b"\"-Inf\""),
        Some(value) if value == 0.0 && value.is_sign_negative() => out.extend_from_slice(b"-0.0"),
        // Without a point and without an exponent, as people write whole numbers.
        Some(value) if value.fract() == 0.0 && value.abs() < WHOLE_END => {
            put(out, format_args!("{value}"));
        }
        // With an exponent where there would be zeros without end.
        Some(value) => put(out, format_args!("{value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{encoded, number};
    use crate::base::rng::Rng;
    use crate::series::Tier;
    use crate::series::fold::Steps;
    use crate::series::query::{Answer, Line};
    use crate::testing::seeds;

    fn told(value: Option<f64>) -> String {
        let mut out = Vec::new();
        number(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_people_write_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0.0"),
            (1.0, "1"),
            (-42.0, "-42"),
            (0.1, "0.1"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (1e20, "100000000000000000000"),
            (1e21, "1e21"),
            (1.5e300, "1.5e300"),
            (5e-324, "5e-324"),
            (1e-7, "1e-7"),
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"+Inf\""),
            (f64::NEG_INFINITY, "\"-Inf\""),
        ] {
            assert_eq!(told(Some(value)), text);
        }
        assert_eq!(told(None), "null");
    }

    #[test]
    fn a_number_that_is_read_again_has_the_same_bits() {
        for seed in seeds(20) {
            let mut rng = Rng::from_seed(seed);
            for _ in 0..2000 {
                let value = f64::from_bits(rng.next_u64());
                if value.is_finite() {
                    let text = told(Some(value));
                    let read: f64 = text.parse().unwrap();
                    assert_eq!(read.to_bits(), value.to_bits(), "seed {seed}: {text}");
                    assert!(text.len() < 32, "seed {seed}: {text}");
                    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
                    assert!(json.is_number(), "seed {seed}: {text}");
                }
            }
        }
    }

    #[test]
    fn an_answer_names_its_series_its_resolution_and_its_range() {
        let line = Line {
            labels: vec![("path".into(), "a\"b\\c\n".into()), ("z".into(), "1".into())],
            metric: Some("cpu".into()),
            points: vec![(300_000, Some(0.5)), (600_000, None)],
        };
        let reduced = Line { labels: Vec::new(), metric: None, points: Vec::new() };
        let steps = Steps { from_ms: 300_000, to_ms: 900_000, step_ms: 300_000, now_ms: 900_000 };
        let (lines, tier) = (vec![line, reduced], Tier::FiveMinutes);
        let mut answer = Answer { lines, tier, steps, damaged: 0 };
        expect_test::expect![[r#"{"series":[{"metric":"cpu","labels":{"path":"a\"b\\c\n","z":"1"},"points":[[300000,0.5],[600000,null]]},{"labels":{},"points":[]}],"resolution":"5m","step_ms":300000,"from":"1970-01-01T00:05:00.000Z","to":"1970-01-01T00:15:00.000Z"}"#]]
            .assert_eq(std::str::from_utf8(&encoded(&answer)).unwrap());
        answer.damaged = 7;
        let text = String::from_utf8(encoded(&answer)).unwrap();
        assert!(text.ends_with("00.000Z\",\"damaged_blocks\":7}"), "{text}");
    }
}
