//! A trend as a picture: what was, the line of its last stretch, and the band of what comes. Pure.

use crate::base::human::parse_moment;
use crate::base::time::Timestamp;
use crate::cli::plot::{Curve, Range, Size, plot};
use crate::io::client::Json;

/// The picture of an answer with points; nothing without any.
pub(super) fn picture(body: &Json, title: &str, size: Size) -> Option<String> {
    let points = with_gaps(pairs(&body["points"]), &body["interval_seconds"]);
    let first = points.first()?.0;
    let last = points.last()?.0;
    let ahead: Vec<(i64, f64, f64, f64)> = triples(&body["forecast"]["points"], last);
    let end = ahead.last().map_or(last, |point| point.0);
    let mut line = stretch(&points, &body["trend"]);
    // The line ends where the forecast begins: the two are not of one piece.
    line.push((last, f64::NAN));
    line.extend(ahead.iter().map(|(at, value, _, _)| (*at, *value)));
    let band = ahead.iter().map(|(at, _, low, high)| (*at, *low, *high)).collect();
    let range = Range { from_ms: first, to_ms: end.checked_add(1)? };
    Some(plot(&[Curve { name: title.to_owned(), points, line, band }], range, size))
}

/// Moments and values; what is no number is a gap.
fn pairs(list: &Json) -> Vec<(i64, f64)> {
    let items = list.as_array().into_iter().flatten();
    let pair = |item: &Json| Some((item[0].as_i64()?, item[1].as_f64().unwrap_or(f64::NAN)));
    ascending(items.filter_map(pair).collect(), |pair| pair.0)
}

/// Steps without a value are not among the points: a gap goes where they are missing.
fn with_gaps(points: Vec<(i64, f64)>, interval_seconds: &Json) -> Vec<(i64, f64)> {
    let step = interval_seconds.as_i64().and_then(|seconds| seconds.checked_mul(1000));
    let Some(step) = step.filter(|step| 0 < *step) else { return points };
    let mut out: Vec<(i64, f64)> = Vec::with_capacity(points.len());
    for point in points {
        if let Some((before, _)) = out.last()
            && step < point.0.saturating_sub(*before)
        {
            out.push((before.saturating_add(step), f64::NAN));
        }
        out.push(point);
    }
    out
}

/// Moments behind the last one that was measured, with a value and the two between which it lies.
fn triples(list: &Json, behind: i64) -> Vec<(i64, f64, f64, f64)> {
    let items = list.as_array().into_iter().flatten();
    let number = |value: &Json| value.as_f64().unwrap_or(f64::NAN);
    let found = items.filter_map(|item| {
        let at = item[0].as_i64().filter(|at| behind < *at)?;
        Some((at, number(&item[1]), number(&item[2]), number(&item[3])))
    });
    ascending(found.collect(), |point| point.0)
}

fn ascending<T>(mut points: Vec<T>, at: impl Fn(&T) -> i64) -> Vec<T> {
    points.sort_by_key(at);
    points
}

/// The line of the last stretch: a line of least squares goes through the middle of its points.
fn stretch(points: &[(i64, f64)], trend: &Json) -> Vec<(i64, f64)> {
    let since = trend["since"].as_str().and_then(|at| parse_moment(at, Timestamp::MIN).ok());
    let (Some(since), Some(slope)) = (since, trend["slope"].as_f64()) else {
        return Vec::new();
    };
    let of = |point: &&(i64, f64)| since.unix_ms() <= point.0 && point.1.is_finite();
    let points: Vec<&(i64, f64)> = points.iter().filter(of).collect();
    let Some((begin, _)) = points.first() else {
        return Vec::new();
    };
    let seconds = |at: i64| f64::from(i32::try_from((at - begin) / 1000).unwrap_or(i32::MAX));
    let count = f64::from(u32::try_from(points.len()).unwrap_or(u32::MAX));
    let middle = points.iter().map(|(at, _)| seconds(*at) / count).sum::<f64>();
    let mean = points.iter().map(|(_, value)| value / count).sum::<f64>();
    points.iter().map(|(at, _)| (*at, mean + slope * (seconds(*at) - middle))).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;
    use serde_json::{Value, json};

    use super::{picture, stretch, with_gaps};
    use crate::cli::plot::Size;

    /// 2025-11-20T12:00:00Z
    const NOON: i64 = 1_763_640_000_000;
    const SIZE: Size = Size { columns: 80, rows: 16 };

    fn body() -> Value {
        let value = |step: i64| {
            let wave = [0, 3, 1, -2, 2][usize::try_from(step % 5).unwrap()];
            if step < 20 { 80 - 3 * step + wave } else { 20 + 2 * (step - 20) + wave }
        };
        let points: Vec<Value> =
            (0..60).map(|step| json!([NOON + step * 60_000, value(step)])).collect();
        let ahead: Vec<Value> = (0..15)
            .map(|step| {
                let middle = 100 + 2 * step;
                json!([NOON + (60 + step) * 60_000, middle, middle - 4 - step, middle + 4 + step])
            })
            .collect();
        json!({
            "points": points, "forecast": { "points": ahead },
            "trend": { "slope": 2.0 / 60.0, "since": "2025-11-20T12:20:00.000Z" }
        })
    }

    #[test]
    fn a_picture_shows_what_was_and_what_may_come() {
        let text = picture(&body(), "depth of queue mail", SIZE).unwrap();
        expect_file!["picture.txt"].assert_eq(&text);
    }

    #[test]
    fn steps_that_are_missing_are_gaps() {
        let points = vec![(NOON, 1.0), (NOON + 60_000, 2.0), (NOON + 180_000, 3.0)];
        let places: Vec<(i64, bool)> = with_gaps(points.clone(), &json!(60))
            .iter()
            .map(|(at, value)| ((at - NOON) / 60_000, value.is_finite()))
            .collect();
        assert_eq!(places, [(0, true), (1, true), (2, false), (3, true)]);
        assert_eq!(with_gaps(points.clone(), &json!(null)), points);
    }

    #[test]
    fn the_line_goes_through_the_middle_of_its_stretch() {
        let points: Vec<(i64, f64)> = (0..6)
            .map(|at| (NOON + at * 1000, f64::from(i32::try_from(at).unwrap()) * 3.0))
            .collect();
        let trend = json!({ "slope": 3.0, "since": "2025-11-20T12:00:02.000Z" });
        assert_eq!(stretch(&points, &trend), points[2..]);
        assert_eq!(stretch(&points, &json!({ "slope": 3.0, "since": "soon" })), []);
        assert_eq!(
            stretch(&points, &json!({ "since": "2026-11-20T12:00:02.000Z", "slope": 1 })),
            []
        );
    }

    #[test]
    fn an_answer_of_another_form_does_no_harm() {
        assert_eq!(picture(&json!({ "points": [] }), "x", SIZE), None);
        assert_eq!(picture(&json!(null), "x", SIZE), None);
        let odd = json!({
            "points": [[NOON, null], [NOON - 5, 1e308], ["x", 1], 7, [NOON + 5, -1e308], [i64::MIN, 1], [i64::MAX - 1, 2]],
            "forecast": { "points": [[NOON, 1, 2], [i64::MAX - 1, 1, null, 2], [1]] },
            "trend": { "slope": 1e308, "since": "1970-01-01T00:00:00Z" }
        });
        let drawn = picture(&odd, "x", SIZE).unwrap();
        assert!(drawn.starts_with("x  last 2"), "{drawn}");
        let late = json!({ "points": [[i64::MAX, 1]] });
        assert_eq!(picture(&late, "x", SIZE), None);
    }
}
