//! `metric{label="v",other!~"x.*"}`: which series are meant.
//!
//! The metric may be absent if a matcher needs a label to be there. Regular expressions match whole values, take linear
//! time, and are bounded in length and in compiled size. Spaces are allowed where `PromQL` allows them.
//!
//! Strings are those of `PromQL`: between `"` or `'` with the escapes of Go, or between backquotes as they are.

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;

use regex::{Regex, RegexBuilder};

use super::labels::{
    Labels, METRIC_LABEL, is_label, is_label_byte, is_metric, is_metric_byte, write_escaped,
};
use crate::base::limits::{
    MATCHERS_MAX, REGEX_BYTES_MAX, REGEX_COMPILED_BYTES_MAX, REGEX_NEST_MAX, SELECTOR_BYTES_MAX,
};

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {at}")]
pub struct BadSelector {
    /// Where, counted from 0.
    pub at: usize,
    /// What is wrong.
    pub what: String,
}

fn bad<T>(at: usize, what: impl Into<String>) -> Result<T, BadSelector> {
    Err(BadSelector { at, what: what.into() })
}

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Matches,
    /// `!~`
    MatchesNot,
}

impl Comparison {
    /// How it is spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Comparison::Equal => "=",
            Comparison::NotEqual => "!=",
            Comparison::Matches => "=~",
            Comparison::MatchesNot => "!~",
        }
    }
}

/// One condition. A label that is not there has the value "".
#[derive(Clone, Debug)]
pub struct Matcher {
    /// Of which label.
    pub label: Box<str>,
    /// How.
    pub comparison: Comparison,
    /// With what, as it was written.
    pub value: Box<str>,
    /// The compiled expression, for the last two comparisons.
    regex: Option<Regex>,
    /// The values that an expression stands for which is nothing but a list of them: there may be more than fit in one.
    among: Option<BTreeSet<Box<str>>>,
}

impl Matcher {
    /// Whether a label with this value is meant; "" for a label that is not there.
    pub(super) fn accepts(&self, value: &str) -> bool {
        let matches = match (&self.among, &self.regex) {
            (Some(among), _) => among.contains(value),
            (None, Some(regex)) => regex.is_match(value),
            (None, None) => *self.value == *value,
        };
        matches == matches!(self.comparison, Comparison::Equal | Comparison::Matches)
    }
}

/// Which series.
#[derive(Clone, Debug)]
pub struct Selector {
    /// The metric, if one is named; `{__name__="x"}` names it as well.
    pub metric: Option<Box<str>>,
    /// Conditions on labels; sorted, none of them twice.
    pub matchers: Vec<Matcher>,
}

impl Selector {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Selector, BadSelector> {
        if SELECTOR_BYTES_MAX < text.len() {
            return bad(
                SELECTOR_BYTES_MAX,
                format!("a selector has at most {SELECTOR_BYTES_MAX} bytes"),
            );
        }
        let mut reader = Reader { text, at: 0 };
        let (metric, written) = reader.selector()?;
        let mut selector = Selector { metric, matchers: compile(written)? };
        selector.matchers.sort_by(|a, b| a.place().cmp(&b.place()));
        selector.matchers.dedup_by(|a, b| a.place() == b.place());
        if selector.metric.is_none() && selector.matchers.iter().all(|one| one.accepts("")) {
            return bad(
                0,
                "every series would be meant: name a metric, or a label that must be there",
            );
        }
        Ok(selector)
    }

    /// Those of a metric of which a label has one of these values: what `metric{label=~"a|b"}` means, for any number
    /// of them.
    pub fn among(metric: &str, label: &str, values: BTreeSet<Box<str>>) -> Selector {
        let escaped: Vec<String> = values.iter().map(|value| regex::escape(value)).collect();
        let matcher = Matcher {
            label: label.into(),
            comparison: Comparison::Matches,
            value: escaped.join("|").into(),
            regex: None,
            among: Some(values),
        };
        Selector { metric: Some(metric.into()), matchers: vec![matcher] }
    }

    /// Whether these are meant.
    pub fn is_match(&self, labels: &Labels) -> bool {
        self.metric.as_deref().is_none_or(|metric| metric == labels.metric())
            && self.matchers.iter().all(|one| one.accepts(labels.get(&one.label).unwrap_or("")))
    }
}

impl Matcher {
    /// By what matchers are sorted: two of the same place mean the same.
    fn place(&self) -> (&str, Comparison, &str) {
        (&self.label, self.comparison, &self.value)
    }
}

/// A matcher that was read, and where its value stands.
struct Written {
    label: Box<str>,
    comparison: Comparison,
    value: String,
    value_at: usize,
}

/// All expressions of one selector together are as large as one may be.
fn compile(written: Vec<Written>) -> Result<Vec<Matcher>, BadSelector> {
    let expressions = written.iter().filter(|one| one.is_expression()).count();
    let bytes_max = REGEX_COMPILED_BYTES_MAX / expressions.max(1);
    let matchers = written.into_iter().map(|one| {
        let regex = if one.is_expression() { Some(one.regex(bytes_max)?) } else { None };
        let Written { label, comparison, value, .. } = one;
        Ok(Matcher { label, comparison, value: value.into(), regex, among: None })
    });
    matchers.collect()
}

impl Written {
    fn is_expression(&self) -> bool {
        matches!(self.comparison, Comparison::Matches | Comparison::MatchesNot)
    }

    fn regex(&self, bytes_max: usize) -> Result<Regex, BadSelector> {
        if REGEX_BYTES_MAX < self.value.len() {
            let what = format!("a regular expression has at most {REGEX_BYTES_MAX} bytes");
            return bad(self.value_at, what);
        }
        let build = |pattern: &str| {
            RegexBuilder::new(pattern)
                .size_limit(bytes_max)
                .dfa_size_limit(bytes_max)
                .nest_limit(REGEX_NEST_MAX)
                .build()
        };
        // An expression that closes a group which it has not opened would get out of ours: it is tried alone first.
        let alone = if self.value.contains(')') { build(&self.value).map(drop) } else { Ok(()) };
        alone.and_then(|()| build(&format!("^(?s:{})$", self.value))).or_else(|error| {
            bad(self.value_at, format!("no regular expression that is taken: {}", reason(&error)))
        })
    }
}

/// The last line of what the library says; the lines before it repeat the expression.
fn reason(error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(_) = error {
        return "it takes too much memory".to_owned();
    }
    let told = error.to_string();
    let last = told.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// A text, and how far it is read.
struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn selector(&mut self) -> Result<(Option<Box<str>>, Vec<Written>), BadSelector> {
        self.skip_blanks();
        let metric_at = self.at;
        let name = self.word(is_metric_byte);
        if !name.is_empty() && !is_metric(name) {
            return bad(
                metric_at,
                "a metric is 1 to 128 of a-z A-Z 0-9 _ : and begins with no digit",
            );
        }
        let mut metric = (!name.is_empty()).then(|| name.into());
        let mut written = Vec::new();
        self.skip_blanks();
        if self.take("{") {
            self.matchers(&mut metric, &mut written)?;
        } else if metric.is_none() {
            return bad(self.at, "a selector begins with a metric or with {");
        }
        self.skip_blanks();
        if self.at < self.text.len() {
            return bad(self.at, "nothing may follow a selector");
        }
        Ok((metric, written))
    }

    fn matchers(
        &mut self,
        metric: &mut Option<Box<str>>,
        written: &mut Vec<Written>,
    ) -> Result<(), BadSelector> {
        self.skip_blanks();
        while !self.take("}") {
            let began_at = self.at;
            let one = self.matcher()?;
            let names = &*one.label == METRIC_LABEL && one.comparison == Comparison::Equal;
            if names && metric.is_some() {
                return bad(began_at, "the metric is named twice");
            }
            if names && is_metric(&one.value) {
                *metric = Some(one.value.into());
            } else {
                written.push(one);
            }
            if MATCHERS_MAX < written.len() {
                return bad(began_at, format!("a selector has at most {MATCHERS_MAX} conditions"));
            }
            self.skip_blanks();
            if !self.take(",") {
                if !self.take("}") {
                    return bad(self.at, "a , or } is expected");
                }
                break;
            }
            self.skip_blanks();
        }
        Ok(())
    }

    fn matcher(&mut self) -> Result<Written, BadSelector> {
        let label_at = self.at;
        let label = self.word(is_label_byte);
        if label.is_empty() {
            return bad(self.at, "the name of a label is expected");
        }
        if !is_label(label) {
            return bad(label_at, "a label is 1 to 128 of a-z A-Z 0-9 _ and begins with no digit");
        }
        self.skip_blanks();
        let comparison = self.comparison()?;
        self.skip_blanks();
        let value_at = self.at;
        let value = self.string()?;
        Ok(Written { label: label.into(), comparison, value, value_at })
    }

    fn comparison(&mut self) -> Result<Comparison, BadSelector> {
        // The longer ones come first.
        let all =
            [Comparison::Matches, Comparison::MatchesNot, Comparison::NotEqual, Comparison::Equal];
        match all.into_iter().find(|one| self.take(one.as_str())) {
            Some(found) => Ok(found),
            None => bad(self.at, "one of = != =~ !~ is expected"),
        }
    }

    fn string(&mut self) -> Result<String, BadSelector> {
        let began_at = self.at;
        let Some(quote) = self.next().filter(|quote| matches!(quote, '"' | '\'' | '`')) else {
            return bad(began_at, "a value between quotes is expected");
        };
        let mut bytes = Vec::new();
        loop {
            let at = self.at;
            match self.next() {
                None => return bad(began_at, "the quote is not closed"),
                Some('\n') if quote != '`' => {
                    return bad(
                        at,
                        "the line ends before the quote; write \\n for the end of a line",
                    );
                }
                Some(end) if end == quote => break,
                Some('\\') if quote != '`' => self.escape(at, quote, &mut bytes)?,
                Some(plain) => put(&mut bytes, plain),
            }
        }
        String::from_utf8(bytes).or_else(|_| bad(began_at, "the escapes are no UTF-8"))
    }

    fn escape(&mut self, at: usize, quote: char, bytes: &mut Vec<u8>) -> Result<(), BadSelector> {
        let byte = match self.next() {
            Some('a') => 7,
            Some('b') => 8,
            Some('f') => 12,
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('v') => 11,
            Some('\\') => b'\\',
            Some('\'') if quote == '\'' => b'\'',
            Some('"') if quote == '"' => b'"',
            Some('x') => self.code(at, 16, 2)?,
            Some('0'..='7') => {
                self.at -= 1;
                self.code(at, 8, 3)?
            }
            Some(kind @ ('u' | 'U')) => {
                let digits = if kind == 'u' { 4 } else { 8 };
                let Some(found) = char::from_u32(self.code(at, 16, digits)?) else {
                    return bad(at, "no such character");
                };
                put(bytes, found);
                return Ok(());
            }
            _ => return bad(at, "no such escape"),
        };
        bytes.push(byte);
        Ok(())
    }

    /// So many digits, as a number that fits.
    fn code<N: TryFrom<u32>>(
        &mut self,
        at: usize,
        radix: u32,
        digits: usize,
    ) -> Result<N, BadSelector> {
        let text = self.text.get(self.at..self.at + digits).unwrap_or_default();
        // A sign would be taken for a part of the number.
        let whole = !text.is_empty() && text.chars().all(|digit| digit.is_digit(radix));
        let code = u32::from_str_radix(text, radix).ok().filter(|_| whole);
        self.at += digits;
        match code.and_then(|code| N::try_from(code).ok()) {
            Some(code) => Ok(code),
            None => bad(at, "no such escape"),
        }
    }

    fn next(&mut self) -> Option<char> {
        let next = self.text[self.at..].chars().next()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn take(&mut self, wanted: &str) -> bool {
        let found = self.text[self.at..].starts_with(wanted);
        self.at += if found { wanted.len() } else { 0 };
        found
    }

    fn word(&mut self, allowed: fn(u8) -> bool) -> &'t str {
        let rest = &self.text[self.at..];
        let length = rest.bytes().position(|byte| !allowed(byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn skip_blanks(&mut self) {
        let rest = self.text[self.at..].trim_start_matches([' ', '\t', '\n', '\r']);
        self.at = self.text.len() - rest.len();
    }
}

fn put(bytes: &mut Vec<u8>, character: char) {
    bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The one way to write it: two texts that mean the same, up to spaces and order, give the same.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric.as_deref().unwrap_or_default())?;
        let mut before = '{';
        for one in &self.matchers {
            write!(f, "{before}{}{}\"", one.label, one.comparison.as_str())?;
            write_escaped(f, &one.value)?;
            f.write_char('"')?;
            before = ',';
        }
        if before == ',' { f.write_char('}') } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::Selector;
    use crate::base::limits::{MATCHERS_MAX, REGEX_BYTES_MAX, SELECTOR_BYTES_MAX};
    use crate::series::labels::Labels;

    fn shown(text: &str) -> String {
        let selector = Selector::parse(text).unwrap_or_else(|bad| panic!("{text:?}: {bad}"));
        let shown = selector.to_string();
        let again = Selector::parse(&shown).unwrap_or_else(|bad| panic!("{shown:?}: {bad}"));
        assert_eq!(again.to_string(), shown, "what is written is read as the same");
        shown
    }

    fn refused(text: &str) -> String {
        Selector::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn selectors_that_mean_the_same_are_written_alike() {
        for (text, canonical) in [
            ("cpu", "cpu"),
            (" cpu { } ", "cpu"),
            ("a:b{}", "a:b"),
            ("{__name__=\"cpu\"}", "cpu"),
            ("{ __name__ = 'cpu' , host != `a` }", "cpu{host!=\"a\"}"),
            ("cpu{b=\"2\",a=\"1\",}", "cpu{a=\"1\",b=\"2\"}"),
            ("cpu{a=\"1\",a=\"1\",a!=\"2\"}", "cpu{a=\"1\",a!=\"2\"}"),
            ("{a=~\"x.+\",b!~\"y\"}", "{a=~\"x.+\",b!~\"y\"}"),
            ("{__name__=~\"x.*\",a=\"b\"}", "{__name__=~\"x.*\",a=\"b\"}"),
            ("{__name__=\"9 x\"}", "{__name__=\"9 x\"}"),
            ("cpu\n{\ta\r=\n\"1\"\n}", "cpu{a=\"1\"}"),
            (
                r#"{a="\a\b\f\n\r\t\v\\\"\x41\101\u00e9\U0001F600"}"#,
                "{a=\"\u{7}\u{8}\u{c}\\n\r\t\u{b}\\\\\\\"AA\u{e9}\u{1f600}\"}",
            ),
            (r#"{a='\'"'}"#, r#"{a="'\""}"#),
            ("{a=`\\d\n`}", "{a=\"\\\\d\\n\"}"),
            (r#"{a="\xc3\xa9"}"#, "{a=\"\u{e9}\"}"),
        ] {
            assert_eq!(shown(text), canonical, "{text:?}");
        }
    }

    #[test]
    fn a_list_of_values_means_what_its_expression_means_however_long_it_is() {
        let few = ["a.b", "mail", "x-1"].map(Box::from);
        let selector = Selector::among("depth", "queue", few.into());
        let read = Selector::parse(&shown(&selector.to_string())).unwrap();
        assert_eq!(read.to_string(), selector.to_string());
        for (value, is_meant) in [("a.b", true), ("mail", true), ("axb", false), ("", false)] {
            let labels = Labels::new("depth", [("queue", value)]).unwrap();
            assert_eq!((selector.is_match(&labels), read.is_match(&labels)), (is_meant, is_meant));
        }
        assert!(!selector.is_match(&Labels::new("depth", []).unwrap()));
        assert!(!selector.is_match(&Labels::new("other", [("queue", "mail")]).unwrap()));
        let many = (0..500).map(|n| format!("{n:0>128}").into()).collect();
        let selector = Selector::among("depth", "queue", many);
        let labels = |n: u32| Labels::new("depth", [("queue", &*format!("{n:0>128}"))]).unwrap();
        assert!(selector.is_match(&labels(499)) && !selector.is_match(&labels(500)));
    }

    #[test]
    fn what_is_no_selector_is_refused_with_the_place_and_the_reason() {
        for (text, told) in [
            ("", "a selector begins with a metric or with {, at byte 0"),
            (" ", "a selector begins with a metric or with {, at byte 1"),
            ("9cpu", "a metric is 1 to 128 of a-z A-Z 0-9 _ : and begins with no digit, at byte 0"),
            ("cpu[5m]", "nothing may follow a selector, at byte 3"),
            ("cpu{} offset 5m", "nothing may follow a selector, at byte 6"),
            ("sum(cpu)", "nothing may follow a selector, at byte 3"),
            ("cpu{", "the name of a label is expected, at byte 4"),
            ("cpu{,}", "the name of a label is expected, at byte 4"),
            ("cpu{a=\"1\",,}", "the name of a label is expected, at byte 10"),
            ("cpu{a:b=\"1\"}", "one of = != =~ !~ is expected, at byte 5"),
            (
                "cpu{1a=\"1\"}",
                "a label is 1 to 128 of a-z A-Z 0-9 _ and begins with no digit, at byte 4",
            ),
            ("cpu{a}", "one of = != =~ !~ is expected, at byte 5"),
            ("cpu{a==\"1\"}", "a value between quotes is expected, at byte 6"),
            ("cpu{a=1}", "a value between quotes is expected, at byte 6"),
            ("cpu{a=\"1}", "the quote is not closed, at byte 6"),
            (
                "cpu{a=\"1\n\"}",
                "the line ends before the quote; write \\n for the end of a line, at byte 8",
            ),
            ("cpu{a=\"1\" b=\"2\"}", "a , or } is expected, at byte 10"),
            ("cpu{a=\"1\"", "a , or } is expected, at byte 9"),
            (r#"cpu{a="x\d"}"#, "no such escape, at byte 8"),
            (r#"cpu{a="\'"}"#, "no such escape, at byte 7"),
            (r#"cpu{a="\x+1"}"#, "no such escape, at byte 7"),
            (r#"cpu{a="\400"}"#, "no such escape, at byte 7"),
            (r#"cpu{a="\ud800"}"#, "no such character, at byte 7"),
            ("cpu{a=\"\\u00\u{e9}\"}", "no such escape, at byte 7"),
            (r#"cpu{a="\xff"}"#, "the escapes are no UTF-8, at byte 6"),
            ("cpu{__name__=\"x\"}", "the metric is named twice, at byte 4"),
            ("{__name__=\"x\",__name__=\"y\"}", "the metric is named twice, at byte 14"),
        ] {
            assert_eq!(refused(text), told, "{text:?}");
        }
        let all =
            "every series would be meant: name a metric, or a label that must be there, at byte 0";
        for text in [
            "{}",
            "{a=\"\"}",
            "{a!=\"x\"}",
            "{a=~\".*\"}",
            "{a=~\"x|\"}",
            "{a!~\"x\"}",
            "{__name__=\"\"}",
        ] {
            assert_eq!(refused(text), all, "{text:?}");
        }
    }

    #[test]
    fn expressions_are_bounded_and_cannot_leave_their_anchors() {
        let refusal = |value: &str| refused(&format!("cpu{{a=~`{value}`}}"));
        for value in
            ["(", "a)|(b", "*", "[z-a]", "(?x)a#b", "\\xZZ", "(?<n>a)(?<n>b)", "(?=a)", "\\1"]
        {
            let told = refusal(value);
            assert!(told.starts_with("no regular expression that is taken: "), "{value:?}: {told}");
            assert!(told.ends_with(", at byte 7") && !told.contains('\n'), "{value:?}: {told}");
        }
        assert!(refusal("(x{1000}){1000}").contains("it takes too much memory"));
        let nested = format!("{}x{}", "(".repeat(100), ")".repeat(100));
        assert!(refusal(&nested).contains("nest"), "{}", refusal(&nested));
        assert!(refusal(&"x".repeat(REGEX_BYTES_MAX + 1)).contains("at most 1024 bytes"));
        assert!(refused(&"x".repeat(SELECTOR_BYTES_MAX + 1)).contains("at most 8192 bytes"));
        let many: Vec<String> = (0..=MATCHERS_MAX).map(|at| format!("l{at}=\"x\"")).collect();
        assert!(refused(&format!("{{{}}}", many.join(","))).contains("at most 32 conditions"));
        // One large expression is taken, many of them are not: together they are bounded as one is.
        let large: Vec<String> = (0..16).map(|at| format!("l{at}=~`\\w{{10}}`")).collect();
        assert_eq!(shown(&format!("{{{}}}", large[0])), "{l0=~\"\\\\w{10}\"}");
        assert!(refused(&format!("{{{}}}", large.join(","))).contains("it takes too much memory"));
    }

    #[test]
    fn a_missing_label_is_an_empty_one_and_expressions_match_whole_values() {
        let meant = |text: &str| {
            let selector = Selector::parse(text).unwrap();
            let series = [
                Labels::new("cpu", [("host", "a")]),
                Labels::new("cpu", [("host", "ab"), ("mode", "user\nx")]),
                Labels::new("up", [("host", "a")]),
            ];
            let found = series.iter().map(|labels| selector.is_match(labels.as_ref().unwrap()));
            found.map(|meant| if meant { '1' } else { '0' }).collect::<String>()
        };
        for (text, expected) in [
            ("cpu", "110"),
            ("cpu{mode=\"\"}", "100"),
            ("cpu{mode!=\"\"}", "010"),
            ("{host=\"a\"}", "101"),
            ("cpu{host!=\"a\"}", "010"),
            ("{host=~\"a\"}", "101"),
            ("{host=~\"a|ab\"}", "111"),
            ("{host=~\"b|a\"}", "101"),
            ("{host=~\"A.\"}", "000"),
            ("{host=~\"(?i)A.\"}", "010"),
            ("cpu{host!~\"a.\"}", "100"),
            ("cpu{mode=~\"|x\"}", "100"),
            ("cpu{mode!~\"|x\"}", "010"),
            ("{mode=~\"u.*x\"}", "010"),
            ("{__name__=~\"c.*|up\"}", "111"),
            ("{__name__!=\"up\",host=\"a\"}", "100"),
            ("{__name__=\"9\"}", "000"),
        ] {
            assert_eq!(meant(text), expected, "{text}");
        }
    }
}
