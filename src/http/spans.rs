//! JSON as it stands: the fields of an object and the items of a list as the pieces of text they are.
//!
//! What a job carries is given back byte for byte, so nothing may be built of it and written again. Here an
//! object is taken apart along its own commas; each piece is the text between them, and is judged by
//! whoever reads it: as a number, as a text, as any value at all ([`value`]).
//!
//! Serde's own raw values would do, but for one thing: to have them at all lets *every* reading of JSON
//! take a text that pretends to be one, and parse it once more.

use std::borrow::Cow;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde_json::Number;

use super::json::check_depth;
use super::problem::Problem;
use crate::base::human::{BadDuration, BadMoment, parse_duration, parse_moment};
use crate::base::pieces::{Pieces, is_space, trimmed};
use crate::base::time::Timestamp;

/// Why a text is not an object with these fields, or not a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is something else, or nothing at all.
    Shape(&'static str),
    /// A field that nobody knows.
    Unknown(String),
    /// A field that is there more than once.
    Twice(&'static str),
}

/// So much of a name is repeated.
const NAME_CHARS_MAX: usize = 256;

impl Fault {
    /// As the answer, where the text is all of the body.
    pub(super) fn into_problem(self) -> Problem {
        match self {
            Fault::Shape(expected) => {
                Problem::malformed(format!("the JSON is not what is expected here: {expected}"))
            }
            Fault::Unknown(field) => {
                let detail = format!("the field {field:?} is unknown");
                Problem::new("unknown_field", detail).with("field", field)
            }
            Fault::Twice(field) => {
                let detail = format!("the field {field:?} is given twice");
                Problem::malformed(detail).with("field", field)
            }
        }
    }
}

/// A body as text, no deeper than allowed.
pub(super) fn body(bytes: &[u8]) -> Result<&str, Problem> {
    check_depth(bytes)?;
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::malformed("JSON is UTF-8"))?;
    let text = trimmed(text);
    if text.is_empty() {
        return Err(Problem::malformed("the body is empty; JSON is expected"));
    }
    Ok(text)
}

/// The same, where an empty body stands for an empty object.
pub(super) fn body_or_nothing(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.iter().copied().all(is_space) { Ok("{}") } else { body(bytes) }
}

/// The fields of an object, in the order of `names`. A list with nothing in it is an object without fields:
/// PHP writes an empty one like that.
pub(super) fn object<'t, const N: usize>(
    text: &'t str,
    names: &[&'static str; N],
) -> Result<[Option<&'t str>; N], Fault> {
    const EXPECTED: Fault = Fault::Shape("an object is expected, {\"name\": value, ...}");
    let mut found = [None; N];
    if Pieces::of_list(text).and_then(|mut list| list.goes_on()) == Some(false) {
        return Ok(found);
    }
    let mut pieces = Pieces::of_object(text).ok_or(EXPECTED)?;
    while pieces.goes_on().ok_or(EXPECTED)? {
        let name = pieces.next_name().and_then(self::text).ok_or(EXPECTED)?;
        let value = pieces.next_value().ok_or(EXPECTED)?;
        let Some(place) = names.iter().position(|known| *known == name) else {
            return Err(Fault::Unknown(name.chars().take(NAME_CHARS_MAX).collect()));
        };
        if found[place].replace(value).is_some() {
            return Err(Fault::Twice(names[place]));
        }
    }
    Ok(found)
}

/// The items of a list, handed one by one to `take`, which says whether it wants more.
pub(super) fn list<'t>(
    text: &'t str,
    mut take: impl FnMut(&'t str) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let expected = || Fault::Shape("a list is expected, [value, ...]").into_problem();
    let mut pieces = Pieces::of_list(text).ok_or_else(expected)?;
    while pieces.goes_on().ok_or_else(expected)? {
        take(pieces.next_value().ok_or_else(expected)?)?;
    }
    Ok(())
}

/// Nothing, where it says `null`.
pub(super) fn given(piece: Option<&str>) -> Option<&str> {
    piece.filter(|text| *text != "null")
}

/// Any value: the piece itself, if it is one.
pub(super) fn value(piece: &str) -> Option<&str> {
    serde_json::from_str::<IgnoredAny>(piece).ok().map(|_| piece)
}

/// A text.
pub(super) fn text(piece: &str) -> Option<Cow<'_, str>> {
    let inside = piece.strip_prefix('"')?.strip_suffix('"')?;
    if inside.bytes().any(|b| b == b'\\' || b < b' ') {
        return serde_json::from_str(piece).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inside))
}

/// A whole number that is not negative.
pub(super) fn whole(piece: &str) -> Option<u64> {
    serde_json::from_str(piece).ok()
}

/// A number.
pub(super) fn number(piece: &str) -> Option<f64> {
    serde_json::from_str(piece).ok()
}

/// True or false.
pub(super) fn truth(piece: &str) -> Option<bool> {
    match piece {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A number as it is written, or a text.
pub(super) fn number_or_text(piece: &str) -> Option<Cow<'_, str>> {
    if piece.starts_with('"') {
        return text(piece);
    }
    let number: Number = serde_json::from_str(piece).ok()?;
    Some(Cow::Owned(number.to_string()))
}

/// A length of time: a number of seconds, or a text.
pub(super) fn duration(piece: &str) -> Result<Duration, BadDuration> {
    parse_duration(&number_or_text(piece).ok_or(BadDuration::Form)?)
}

/// A moment: a number of unix seconds, or a text.
pub(super) fn moment(piece: &str, now: Timestamp) -> Result<Timestamp, BadMoment> {
    parse_moment(&number_or_text(piece).ok_or(BadMoment::Form)?, now)
}
