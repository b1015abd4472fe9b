//! The query of a request's target: known parameters, each once.

use std::borrow::Cow;

use super::problem::Problem;

/// The parameters of a query, decoded.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `text`, the part behind the question mark.
    ///
    /// Errors: a parameter that is not among `known` or comes twice, an encoding that is none.
    pub(super) fn read(text: Option<&str>, known: &[&str]) -> Result<Query, Problem> {
        let mut found: Vec<(String, String)> = Vec::new();
        for part in text.unwrap_or("").split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decode(name, true)?, decode(value, true)?);
            if !known.contains(&&*name) {
                return Err(unknown(&name, known));
            }
            if found.iter().any(|(other, _)| *other == name) {
                let detail = format!("the parameter {name:?} is given twice");
                return Err(Problem::new("unknown_parameter", detail).with("parameter", &*name));
            }
            found.push((name.into_owned(), value.into_owned()));
        }
        Ok(Query(found))
    }

    /// Every parameter and its value, as they came.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

fn unknown(name: &str, known: &[&str]) -> Problem {
    // What is repeated to the caller has a bound.
    let name: String = name.chars().take(128).collect();
    let detail = if known.is_empty() {
        format!("the parameter {name:?} is unknown; there are none here")
    } else {
        format!("the parameter {name:?} is unknown; there are: {}", known.join(", "))
    };
    Problem::new("unknown_parameter", detail).with("parameter", name)
}

/// Percent-decodes once; in a query, `+` is a space.
pub(super) fn decode(text: &str, query: bool) -> Result<Cow<'_, str>, Problem> {
    let plain = !text.bytes().any(|b| b == b'%' || query && b == b'+');
    if plain {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'%' => {
                let digit = |at: usize| tail.get(at).and_then(|b| char::from(*b).to_digit(16));
                let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                    return Err(Problem::malformed(
                        "a % is not followed by two hexadecimal digits",
                    ));
                };
                out.push(u8::try_from(high << 4 | low).unwrap_or_default());
                rest = &tail[2..];
            }
            b'+' if query => out.push(b' '),
            byte => out.push(*byte),
        }
    }
    let text = String::from_utf8(out);
    text.map(Cow::Owned).map_err(|_| Problem::malformed("a percent-encoded text is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::{Query, decode};

    #[test]
    fn parameters_are_decoded_once_and_given_once() {
        let query = Query::read(Some("a=x%20y+z&b&&c=%2525"), &["a", "b", "c"]).unwrap();
        assert_eq!(query.get("a"), Some("x y z"));
        assert_eq!(query.get("b"), Some(""));
        assert_eq!(query.get("c"), Some("%25"));
        assert_eq!(query.get("d"), None);
        let refused = |text| Query::read(Some(text), &["a"]).unwrap_err().kind.code;
        assert_eq!(refused("z=1"), "unknown_parameter");
        assert_eq!(refused("a=1&a=1"), "unknown_parameter");
        assert_eq!(refused("a=1&%61=2"), "unknown_parameter");
        assert_eq!(refused("a=%zz"), "malformed");
        assert_eq!(refused("a=%f"), "malformed");
        assert_eq!(refused("a=%ff"), "malformed");
    }

    #[test]
    fn a_plus_in_a_path_is_a_plus() {
        assert_eq!(decode("a+b%2B", false).unwrap(), "a+b+");
    }
}
