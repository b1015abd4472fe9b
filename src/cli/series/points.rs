//! What the answer of a query says. Values stay the text they were: a number that went through the hands of a reader of
//! JSON may have lost its last bit.

use super::name;
use crate::base::pieces::{Pieces, trimmed};
use crate::base::time::Timestamp;
use crate::io::client::Json;

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found<'b> {
    pub(super) metric: Option<String>,
    pub(super) labels: Vec<(String, String)>,
    /// Unix milliseconds, and the value as the answer spells it.
    pub(super) points: Vec<(i64, Value<'b>)>,
}

/// A value of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'b>(&'b str);

impl<'b> Value<'b> {
    /// Digits, or `NaN`, `+Inf`, `-Inf`; nothing where there is no sample.
    pub(super) fn text(self) -> &'b str {
        match self.0 {
            "null" => "",
            text => text.trim_matches('"'),
        }
    }

    /// As JSON has it.
    pub(super) fn json(self) -> &'b str {
        self.0
    }

    /// For pictures.
    pub(super) fn number(self) -> f64 {
        self.text().parse().unwrap_or(f64::NAN)
    }
}

impl Found<'_> {
    /// As selectors spell it.
    pub(super) fn name(&self) -> String {
        name(self.metric.as_deref(), &self.labels)
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer<'b> {
    pub(super) series: Vec<Found<'b>>,
    pub(super) resolution: String,
    pub(super) step_ms: u64,
    /// The range that was answered, in unix milliseconds.
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
}

/// Reads an answer; `None` if it is none.
pub(super) fn read(body: &[u8]) -> Option<Answer<'_>> {
    let mut answer =
        Answer { series: Vec::new(), resolution: String::new(), step_ms: 0, from_ms: 0, to_ms: 0 };
    let mut known = false;
    let text = trimmed(std::str::from_utf8(body).ok()?);
    each_field(text, |name, value| {
        match name {
            "\"series\"" => {
                each_item(value, |piece| {
                    answer.series.push(found(piece)?);
                    Some(())
                })?;
                known = true;
            }
            "\"resolution\"" => answer.resolution = string(value)?,
            "\"step_ms\"" => answer.step_ms = value.parse().ok()?,
            "\"from\"" => answer.from_ms = moment(value)?,
            "\"to\"" => answer.to_ms = moment(value)?,
            _ => {}
        }
        Some(())
    })?;
    known.then_some(answer)
}

fn found(piece: &str) -> Option<Found<'_>> {
    let mut found = Found { metric: None, labels: Vec::new(), points: Vec::new() };
    each_field(piece, |name, value| {
        match name {
            "\"metric\"" => found.metric = Some(string(value)?),
            "\"labels\"" => each_field(value, |name, value| {
                found.labels.push((string(name)?, string(value)?));
                Some(())
            })?,
            "\"points\"" => each_item(value, |piece| {
                found.points.push(point(piece)?);
                Some(())
            })?,
            _ => {}
        }
        Some(())
    })?;
    Some(found)
}

fn point(piece: &str) -> Option<(i64, Value<'_>)> {
    let mut pieces = Pieces::of_list(piece)?;
    let mut next = || pieces.goes_on().filter(|on| *on).and_then(|_| pieces.next_value());
    let (at, value) = (next()?.parse().ok()?, Value(next()?));
    Some((at, value))
}

fn each_field<'b>(
    text: &'b str,
    mut each: impl FnMut(&'b str, &'b str) -> Option<()>,
) -> Option<()> {
    let mut pieces = Pieces::of_object(text)?;
    while pieces.goes_on()? {
        let name = pieces.next_name()?;
        each(name, pieces.next_value()?)?;
    }
    Some(())
}

fn each_item<'b>(text: &'b str, mut each: impl FnMut(&'b str) -> Option<()>) -> Option<()> {
    let mut pieces = Pieces::of_list(text)?;
    while pieces.goes_on()? {
        each(pieces.next_value()?)?;
    }
    Some(())
}

fn string(piece: &str) -> Option<String> {
    piece.parse::<Json>().ok()?.as_str().map(str::to_owned)
}

fn moment(piece: &str) -> Option<i64> {
    crate::base::human::parse_moment(&string(piece)?, Timestamp::MIN).ok().map(Timestamp::unix_ms)
}

/// A moment as the API spells it.
pub(super) fn shown_moment(ms: i64) -> String {
    Timestamp::from_unix_ms(ms).map_or_else(|| ms.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::{read, shown_moment};

    #[test]
    fn an_answer_is_read_and_its_numbers_stay_the_text_they_were() {
        let body = r#"{"series":[{"metric":"cpu","labels":{"path":"a\"\n","z":"1"},
            "points":[[300000,0.1],[600000,null],[900000,"+Inf"], [ 1200000 , -0.0 ]]},
            {"labels":{},"points":[]}],"resolution":"5m","step_ms":300000,
            "from":"1970-01-01T00:05:00.000Z","to":"1970-01-01T00:25:00.000Z","more":[1]} "#;
        let answer = read(body.as_bytes()).unwrap();
        assert_eq!((answer.resolution.as_str(), answer.step_ms), ("5m", 300_000));
        assert_eq!((answer.from_ms, answer.to_ms), (300_000, 1_500_000));
        assert_eq!(answer.series[0].name(), r#"cpu{path="a\"\n",z="1"}"#);
        assert_eq!(answer.series[1].name(), "{}");
        let points = &answer.series[0].points;
        let texts: Vec<_> =
            points.iter().map(|(at, value)| (*at, value.text(), value.json())).collect();
        assert_eq!(
            texts,
            [
                (300_000, "0.1", "0.1"),
                (600_000, "", "null"),
                (900_000, "+Inf", "\"+Inf\""),
                (1_200_000, "-0.0", "-0.0")
            ]
        );
        assert!(points[1].1.number().is_nan() && points[2].1.number().is_infinite());
        assert_eq!(shown_moment(300_000), "1970-01-01T00:05:00.000Z");
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for body in [
            "",
            "{}",
            "[]",
            "{\"series\":1}",
            "{\"series\":[{\"points\":[[1]]}]}",
            "{\"series\":[1]}",
        ] {
            assert_eq!(read(body.as_bytes()), None, "{body}");
        }
        assert_eq!(read(b"\xff"), None);
    }
}
