//! Prometheus' text format: lines of samples, with `# TYPE` and `# HELP` between them.
//!
//! A line is understood or refused by itself, with its number and a reason. What a line calls its series is not looked at
//! more closely than to find its end: most lines were seen before, and [`super::index::Index::find_text`] knows them.
//!
//! Of `OpenMetrics`, exemplars and `# EOF` are passed over; its timestamps of seconds with a fraction are refused.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Kind;
use super::labels::{BadLabels, Labels, is_label_byte, is_metric, is_metric_byte};
use crate::base::limits::EXPOSITION_LINE_BYTES_MAX;

/// A line that holds a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Line<'t> {
    /// Its number, from 1.
    pub number: u32,
    /// `metric{...}`, as it stands there.
    pub name: &'t str,
    /// The metric alone.
    pub metric: &'t str,
    /// What `# TYPE` said of it.
    pub kind: Option<Kind>,
    /// Its value, to the bit.
    pub value: f64,
    /// Its moment, if it has one.
    pub time_ms: Option<i64>,
}

/// Why a line is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// It is not of the format.
    #[error("{what}, at byte {at} of the line")]
    Malformed {
        /// Where, from 0.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Its labels are none.
    #[error(transparent)]
    Labels(#[from] BadLabels),
}

fn bad<T>(at: usize, what: &'static str) -> Result<T, BadLine> {
    Err(BadLine::Malformed { at, what })
}

/// Walks through a body. Reads `NaN`, `+Inf`, `-Inf`, decimal and exponent notation as Go does; timestamps are
/// milliseconds. `# TYPE x histogram` makes `x_bucket`, `x_sum` and `x_count` counters, `summary` makes `x_sum` and
/// `x_count` counters and `x` a gauge; `# EOF`, other comments and empty lines are passed over. Lines end in `\n` or `\r\n`.
pub fn lines(text: &str) -> impl Iterator<Item = Result<Line<'_>, (u32, BadLine)>> {
    Lines { rest: text, number: 0, types: Types::default() }
}

struct Lines<'t> {
    rest: &'t str,
    number: u32,
    types: Types<'t>,
}

impl<'t> Iterator for Lines<'t> {
    type Item = Result<Line<'t>, (u32, BadLine)>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
            self.rest = rest;
            // A body is far shorter than there are numbers; if it is not, its last lines have one number.
            self.number = self.number.saturating_add(1);
            let line = line.strip_suffix('\r').unwrap_or(line);
            match self.line(line) {
                Ok(Some(line)) => return Some(Ok(line)),
                Ok(None) => {}
                Err(error) => return Some(Err((self.number, error))),
            }
        }
        None
    }
}

impl<'t> Lines<'t> {
    #[inline]
    fn line(&mut self, line: &'t str) -> Result<Option<Line<'t>>, BadLine> {
        if EXPOSITION_LINE_BYTES_MAX < line.len() {
            return bad(EXPOSITION_LINE_BYTES_MAX, "a line has at most 65536 bytes");
        }
        let begins_at = blanks(line, 0);
        match line.as_bytes().get(begins_at) {
            None => return Ok(None),
            Some(b'#') => return self.types.comment(line, begins_at).map(|()| None),
            Some(_) => {}
        }
        let metric_ends_at = run(line, begins_at, is_metric_byte);
        if begins_at == metric_ends_at || line.as_bytes()[begins_at].is_ascii_digit() {
            return bad(begins_at, "a metric is expected");
        }
        let name_ends_at = name_end(line, metric_ends_at)?;
        let (value, value_ends_at) = value(line, name_ends_at)?;
        let time_ms = time(line, value_ends_at)?;
        let metric = &line[begins_at..metric_ends_at];
        let name = &line[begins_at..name_ends_at];
        let kind = self.types.of(metric);
        Ok(Some(Line { number: self.number, name, metric, kind, value, time_ms }))
    }
}

/// The first place from `at` on that is no blank.
#[inline]
fn blanks(line: &str, at: usize) -> usize {
    run(line, at, |byte| matches!(byte, b' ' | b'\t'))
}

/// The first place from `at` on whose byte is not allowed.
#[inline]
fn run(line: &str, at: usize, allowed: impl Fn(u8) -> bool) -> usize {
    let rest = &line.as_bytes()[at..];
    at + rest.iter().position(|byte| !allowed(*byte)).unwrap_or(rest.len())
}

/// Where `metric{...}` ends.
#[inline]
fn name_end(line: &str, metric_ends_at: usize) -> Result<usize, BadLine> {
    let bytes = line.as_bytes();
    let mut at = blanks(line, metric_ends_at);
    if bytes.get(at) != Some(&b'{') {
        return Ok(metric_ends_at);
    }
    let opened_at = at;
    let mut quoted = false;
    loop {
        at += 1;
        match bytes.get(at) {
            // A backslash at the end has led beyond it.
            None if quoted => return bad(line.len(), "the quote is not closed"),
            None => return bad(opened_at, "the { is not closed"),
            Some(b'"') => quoted = !quoted,
            Some(b'\\') if quoted => at += 1,
            Some(b'}') if !quoted => return Ok(at + 1),
            Some(_) => {}
        }
    }
}

/// The value, and where it ends.
#[inline]
fn value(line: &str, name_ends_at: usize) -> Result<(f64, usize), BadLine> {
    let begins_at = blanks(line, name_ends_at);
    let ends_at = run(line, begins_at, |byte| !matches!(byte, b' ' | b'\t'));
    if begins_at == ends_at {
        return bad(begins_at, "a value is expected");
    }
    if begins_at == name_ends_at && line.as_bytes()[begins_at - 1] != b'}' {
        return bad(begins_at, "a metric holds a-z A-Z 0-9 _ : and a blank follows it");
    }
    match number(&line[begins_at..ends_at]) {
        Ok(value) => Ok((value, ends_at)),
        Err(what) => bad(begins_at, what),
    }
}

/// A number as Go spells it, but for hexadecimal ones.
#[inline]
fn number(text: &str) -> Result<f64, &'static str> {
    let value: f64 = text.parse().map_err(|_| {
        let digits = text.trim_start_matches(['+', '-']);
        if digits.starts_with("0x") || digits.starts_with("0X") {
            "hexadecimal numbers are not taken"
        } else {
            "the value is no number"
        }
    })?;
    if value.is_finite() {
        return Ok(value);
    }
    let signed = text.starts_with(['+', '-']);
    if value.is_nan() {
        return if signed { Err("NaN has no sign") } else { Ok(value) };
    }
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    if digits { Err("the value is beyond what 64 bits can hold") } else { Ok(value) }
}

/// The moment, if there is one.
#[inline]
fn time(line: &str, value_ends_at: usize) -> Result<Option<i64>, BadLine> {
    let begins_at = blanks(line, value_ends_at);
    let ends_at = run(line, begins_at, |byte| !matches!(byte, b' ' | b'\t'));
    let text = &line[begins_at..ends_at];
    if text.is_empty() || text.starts_with('#') {
        return exemplar(line, begins_at).map(|()| None);
    }
    let Ok(time_ms) = text.parse() else {
        return bad(begins_at, "a timestamp is a whole number of milliseconds");
    };
    exemplar(line, blanks(line, ends_at))?;
    Ok(Some(time_ms))
}

/// What may stand at the end of a line: nothing, or ` # {...} value`, which is passed over.
#[inline]
fn exemplar(line: &str, at: usize) -> Result<(), BadLine> {
    let Some(rest) = line[at..].strip_prefix('#') else {
        return if at == line.len() { Ok(()) } else { bad(at, "nothing may follow the timestamp") };
    };
    if rest.trim_start_matches([' ', '\t']).starts_with('{') {
        Ok(())
    } else {
        bad(at, "only an exemplar, # {...}, may follow a sample")
    }
}

/// A type that `# TYPE` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Distribution,
    Unknown,
}

impl Family {
    fn read(word: &str) -> Option<Family> {
        Some(match word {
            "counter" => Family::Counter,
            "gauge" | "info" | "stateset" => Family::Gauge,
            "histogram" => Family::Histogram,
            "gaugehistogram" => Family::GaugeHistogram,
            "summary" => Family::Summary,
            "distribution" => Family::Distribution,
            "untyped" | "unknown" => Family::Unknown,
            _ => return None,
        })
    }

    /// What a metric of this family means whose name is that of the family and `end`.
    fn kind(self, end: &str) -> Option<Kind> {
        match (self, end) {
            (Family::Counter, "" | "_total")
            | (Family::Histogram, "_bucket" | "_sum" | "_count")
            | (Family::Summary, "_sum" | "_count") => Some(Kind::Counter),
            (Family::Gauge | Family::Summary, "")
            | (Family::GaugeHistogram, "_bucket" | "_gsum" | "_gcount") => Some(Kind::Gauge),
            (Family::Distribution, "") => Some(Kind::Distribution),
            _ => None,
        }
    }
}

/// What `# TYPE` said so far.
#[derive(Debug, Default)]
struct Types<'t> {
    families: BTreeMap<&'t str, Family>,
    /// The metric of the line before, and what was found: lines of one metric stand together.
    before: Option<(&'t str, Option<Kind>)>,
}

/// What the metrics of a family add to its name.
const ENDS: [&str; 7] = ["", "_total", "_bucket", "_sum", "_count", "_gsum", "_gcount"];

impl<'t> Types<'t> {
    #[inline]
    fn of(&mut self, metric: &'t str) -> Option<Kind> {
        match self.before {
            Some((before, kind)) if before == metric => kind,
            _ => self.look_up(metric),
        }
    }

    fn look_up(&mut self, metric: &'t str) -> Option<Kind> {
        let kind = ENDS.iter().find_map(|end| {
            let family = self.families.get(metric.strip_suffix(end)?)?;
            family.kind(end)
        });
        self.before = Some((metric, kind));
        kind
    }

    /// A line that begins with `#` at `at`.
    fn comment(&mut self, line: &'t str, at: usize) -> Result<(), BadLine> {
        let word = |at: usize| {
            let begins_at = blanks(line, at);
            let ends_at = run(line, begins_at, |byte| !matches!(byte, b' ' | b'\t'));
            (begins_at, &line[begins_at..ends_at], ends_at)
        };
        let (_, first, at) = word(at + 1);
        if first != "TYPE" {
            return Ok(());
        }
        let (name_at, name, at) = word(at);
        if !is_metric(name) {
            return bad(name_at, "the name of a metric is expected after # TYPE");
        }
        let (type_at, told, at) = word(at);
        let Some(family) = Family::read(told) else {
            return bad(
                type_at,
                "one of counter gauge histogram summary distribution untyped is expected",
            );
        };
        let after_at = blanks(line, at);
        if after_at < line.len() {
            return bad(after_at, "nothing may follow the type");
        }
        self.families.insert(name, family);
        self.before = None;
        Ok(())
    }
}

/// What a name of a line means, with its escapes resolved.
pub fn labels(name: &str) -> Result<Labels, BadLine> {
    let metric_ends_at = run(name, 0, is_metric_byte);
    let metric = &name[..metric_ends_at];
    let mut pairs = Vec::new();
    let mut at = blanks(name, metric_ends_at);
    if at < name.len() {
        at = expect(name, at, b'{', "a { or the end of the name is expected")?;
        at = blanks(name, at);
        while name.as_bytes().get(at) != Some(&b'}') {
            let (pair, ends_at) = pair(name, at)?;
            pairs.push(pair);
            at = blanks(name, ends_at);
            if name.as_bytes().get(at) != Some(&b',') {
                break;
            }
            at = blanks(name, at + 1);
        }
        at = expect(name, at, b'}', "a , or } is expected")?;
        if at < name.len() {
            return bad(at, "nothing may follow the }");
        }
    }
    let pairs = pairs.iter().map(|(label, value)| (*label, value.as_ref()));
    Ok(Labels::new(metric, pairs)?)
}

fn expect(name: &str, at: usize, byte: u8, what: &'static str) -> Result<usize, BadLine> {
    if name.as_bytes().get(at) == Some(&byte) { Ok(at + 1) } else { bad(at, what) }
}

/// A label and its value, and where they end.
fn pair(name: &str, at: usize) -> Result<((&str, Cow<'_, str>), usize), BadLine> {
    let label_ends_at = run(name, at, is_label_byte);
    if label_ends_at == at {
        return bad(at, "the name of a label is expected");
    }
    let sign_at = blanks(name, label_ends_at);
    let quote_at = blanks(name, expect(name, sign_at, b'=', "a = is expected")?);
    let value_at = expect(name, quote_at, b'"', "a value between quotes is expected")?;
    let (value, ends_at) = unescape(name, value_at)?;
    Ok(((&name[at..label_ends_at], value), ends_at))
}

/// The value that begins here, and what follows its quote.
fn unescape(name: &str, begins_at: usize) -> Result<(Cow<'_, str>, usize), BadLine> {
    let mut value = Cow::Borrowed("");
    let mut at = begins_at;
    loop {
        let ends_at = run(name, at, |byte| byte != b'"' && byte != b'\\');
        value += &name[at..ends_at];
        match name.as_bytes().get(ends_at..ends_at + 2) {
            _ if name.as_bytes().get(ends_at) == Some(&b'"') => return Ok((value, ends_at + 1)),
            Some(b"\\\\") => value += "\\",
            Some(b"\\\"") => value += "\"",
            Some(b"\\n") => value += "\n",
            Some(_) => return bad(ends_at, r#"only \\ \" and \n are escapes"#),
            None => return bad(begins_at, "the quote is not closed"),
        }
        at = ends_at + 2;
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::{BadLine, Line, labels, lines};
    use crate::base::limits::EXPOSITION_LINE_BYTES_MAX;
    use crate::base::rng::Rng;
    use crate::series::Kind;
    use crate::series::labels::{BadLabels, Labels};
    use crate::testing::seeds;

    fn all(text: &str) -> Vec<Line<'_>> {
        lines(text).map(|line| line.unwrap_or_else(|bad| panic!("{bad:?}"))).collect()
    }

    /// What is told of the one line of a text.
    fn refused(line: &str) -> String {
        let body = format!("\n{line}\nup 1\n");
        let found: Vec<_> = lines(&body).collect();
        let [Err((2, why)), Ok(after)] = &found[..] else {
            panic!("{line:?}: {found:?}");
        };
        assert_eq!((after.number, after.name), (3, "up"), "its neighbours are not harmed");
        why.to_string()
    }

    #[test]
    fn the_example_of_the_format_is_read() {
        let body = concat!(
            "# HELP http_requests_total The total number of HTTP requests.\n",
            "# TYPE http_requests_total counter\n",
            "http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n",
            "http_requests_total{method=\"post\",code=\"400\"}    3 1395066363000\r\n",
            "\n",
            "# Escaping in label values:\n",
            "msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"Cannot find file:\\n\\\"FILE.TXT\\\"\"} 1.458255915e9\n",
            "metric_without_timestamp_and_labels 12.47\n",
            "something_weird{problem=\"division by zero\"} +Inf -3982045\n",
            "\t space_d { a = \"}\" , } \t-0 # {trace_id=\"x\"} 0.5 1.0\n",
            "# EOF",
        );
        let found = all(body);
        let short: Vec<_> =
            found.iter().map(|line| (line.number, line.metric, line.value, line.time_ms)).collect();
        let time = Some(1_395_066_363_000);
        assert_eq!(
            short,
            [
                (3, "http_requests_total", 1027.0, time),
                (4, "http_requests_total", 3.0, time),
                (7, "msdos_file_access_time_seconds", 1.458_255_915e9, None),
                (8, "metric_without_timestamp_and_labels", 12.47, None),
                (9, "something_weird", f64::INFINITY, Some(-3_982_045)),
                (10, "space_d", -0.0, None),
            ]
        );
        assert!(found[5].value.is_sign_negative());
        assert_eq!(found[5].name, r#"space_d { a = "}" , }"#);
        assert_eq!(labels(found[5].name).unwrap().to_string(), r#"space_d{a="}"}"#);
        let path = labels(found[2].name).unwrap();
        assert_eq!(path.get("path"), Some(r"C:\DIR\FILE.TXT"));
        assert_eq!(path.get("error"), Some("Cannot find file:\n\"FILE.TXT\""));
    }

    #[test]
    fn types_make_kinds_of_a_family() {
        let kinds = |told: &str, names: &[&str]| -> Vec<Option<Kind>> {
            let body = format!("# TYPE x {told}\n{} 1\n", names.join(" 1\n"));
            all(&body).iter().map(|line| line.kind).collect()
        };
        let (gauge, counter) = (Some(Kind::Gauge), Some(Kind::Counter));
        let names = ["x", "x_bucket", "x_sum", "x_count", "x_total", "y"];
        let cases = [
            ("counter", [counter, None, None, None, counter, None]),
            ("gauge", [gauge, None, None, None, None, None]),
            ("histogram", [None, counter, counter, counter, None, None]),
            ("gaugehistogram", [None, gauge, None, None, None, None]),
            ("summary", [gauge, None, counter, counter, None, None]),
            ("distribution", [Some(Kind::Distribution), None, None, None, None, None]),
            ("untyped", [None; 6]),
        ];
        for (told, expected) in cases {
            assert_eq!(kinds(told, &names), expected, "{told}");
        }
        let body =
            "# TYPE a gauge\n# TYPE b counter\na 1\nb 1\na{x=\"1\"} 1\n# TYPE a counter\na 1\n";
        let told: Vec<_> = all(body).iter().map(|line| line.kind).collect();
        assert_eq!(told, [gauge, counter, gauge, counter], "the order of the lines is free");
    }

    #[test]
    fn a_bad_line_is_refused_with_the_place_and_the_reason() {
        for (line, told) in [
            ("5", "a metric is expected, at byte 0 of the line"),
            ("{a=\"b\"} 1", "a metric is expected, at byte 0 of the line"),
            ("up", "a value is expected, at byte 2 of the line"),
            ("up{} ", "a value is expected, at byte 5 of the line"),
            (
                "my-metric 1",
                "a metric holds a-z A-Z 0-9 _ : and a blank follows it, at byte 2 of the line",
            ),
            ("up{a=\"b\" 1", "the { is not closed, at byte 2 of the line"),
            ("up{a=\"b} 1", "the quote is not closed, at byte 10 of the line"),
            ("up{a=\"b\\", "the quote is not closed, at byte 8 of the line"),
            ("up x", "the value is no number, at byte 3 of the line"),
            ("up 0x1p-2", "hexadecimal numbers are not taken, at byte 3 of the line"),
            ("up -0X10", "hexadecimal numbers are not taken, at byte 3 of the line"),
            ("up 1_000", "the value is no number, at byte 3 of the line"),
            ("up 1e999", "the value is beyond what 64 bits can hold, at byte 3 of the line"),
            ("up -nan", "NaN has no sign, at byte 3 of the line"),
            ("up 1 1.5", "a timestamp is a whole number of milliseconds, at byte 5 of the line"),
            (
                "up 1 99999999999999999999",
                "a timestamp is a whole number of milliseconds, at byte 5 of the line",
            ),
            ("up 1 2 3", "nothing may follow the timestamp, at byte 7 of the line"),
            ("up 1 # x", "only an exemplar, # {...}, may follow a sample, at byte 5 of the line"),
            ("up 1\r 2", "the value is no number, at byte 3 of the line"),
            (
                "# TYPE 9 gauge",
                "the name of a metric is expected after # TYPE, at byte 7 of the line",
            ),
            (
                "# TYPE x gauges",
                "one of counter gauge histogram summary distribution untyped is expected, at byte 9 of the line",
            ),
            ("# TYPE x gauge 1", "nothing may follow the type, at byte 15 of the line"),
        ] {
            assert_eq!(refused(line), told, "{line:?}");
        }
        let long = format!("up{{a=\"{}\"}} 1", "b".repeat(EXPOSITION_LINE_BYTES_MAX));
        assert_eq!(refused(&long), "a line has at most 65536 bytes, at byte 65536 of the line");
    }

    #[test]
    fn a_name_that_means_nothing_is_refused_with_the_place_and_the_reason() {
        let at = |name: &str| labels(name).unwrap_err().to_string();
        for (name, told) in [
            ("up{=\"b\"}", "the name of a label is expected, at byte 3 of the line"),
            ("up{,}", "the name of a label is expected, at byte 3 of the line"),
            ("up{a=\"b\",,}", "the name of a label is expected, at byte 9 of the line"),
            ("up{a}", "a = is expected, at byte 4 of the line"),
            ("up{a=b}", "a value between quotes is expected, at byte 5 of the line"),
            ("up{a='b'}", "a value between quotes is expected, at byte 5 of the line"),
            ("up{a=\"b\" c=\"d\"}", "a , or } is expected, at byte 9 of the line"),
            ("up{a=\"b\\d\"}", "only \\\\ \\\" and \\n are escapes, at byte 7 of the line"),
            ("up{a=\"b", "the quote is not closed, at byte 6 of the line"),
            ("up{}x", "nothing may follow the }, at byte 4 of the line"),
            ("up x", "a { or the end of the name is expected, at byte 3 of the line"),
        ] {
            assert_eq!(at(name), told, "{name:?}");
        }
        let twice = BadLine::Labels(BadLabels::Twice("a".to_owned()));
        assert_eq!(labels("up{a=\"b\",a=\"c\"}"), Err(twice));
        assert_eq!(labels("up{__name__=\"x\"}"), Err(BadLine::Labels(BadLabels::Reserved)));
        assert_eq!(labels("up{9=\"x\"}"), Err(BadLine::Labels(BadLabels::Name("9".to_owned()))));
    }

    /// Characters that have a meaning somewhere, and some that have none.
    const ALPHABET: [&str; 14] =
        ["a", "Z", "\\", "\"", "\n", "}", "{", ",", "=", " ", "#", "\r", "\u{e9}", "\u{1f600}"];

    fn random_text(rng: &mut Rng, length_max: usize) -> String {
        (0..rng.index(length_max + 1)).map(|_| ALPHABET[rng.index(ALPHABET.len())]).collect()
    }

    fn random_labels(rng: &mut Rng) -> Labels {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for at in 0..rng.index(5) {
            pairs.push((format!("l{at}"), random_text(rng, 8)));
        }
        let metric = ["up", "a:b", "_x9"][rng.index(3)];
        let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Labels::new(metric, pairs).unwrap()
    }

    fn random_value(rng: &mut Rng) -> f64 {
        match rng.index(4) {
            0 => [f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e-320, f64::MAX][rng.index(5)],
            1 => f64::from(rng.next_u64().to_le_bytes()[0]) * 1e6,
            _ => Some(f64::from_bits(rng.next_u64())).filter(|v| !v.is_nan()).unwrap_or(f64::NAN),
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for seed in seeds(200) {
            let mut rng = Rng::from_seed(seed);
            let mut body = String::new();
            let mut told = Vec::new();
            for number in 1..=rng.index(20) {
                let (labels, value) = (random_labels(&mut rng), random_value(&mut rng));
                let blank = [" ", "\t", "  "][rng.index(3)];
                let shown = if rng.one_in(2) { format!("{value:e}") } else { value.to_string() };
                let time_ms = rng.one_in(2).then(|| rng.next_u64().cast_signed());
                let time = time_ms.map(|time| format!("{blank}{time}")).unwrap_or_default();
                let end = ["", "\r", " # {a=\"b\"} 1"][rng.index(3)];
                writeln!(body, "{labels}{blank}{shown}{time}{end}").unwrap();
                told.push((u32::try_from(number).unwrap(), labels, value.to_bits(), time_ms));
            }
            if rng.one_in(2) {
                body.pop();
            }
            let found: Vec<_> = all(&body)
                .into_iter()
                .map(|line| {
                    (line.number, labels(line.name).unwrap(), line.value.to_bits(), line.time_ms)
                })
                .collect();
            assert_eq!(found, told, "seed {seed}: {body:?}");
        }
    }

    #[test]
    fn any_text_gives_lines_in_order_or_refusals_within_the_line() {
        for seed in seeds(300) {
            let mut rng = Rng::from_seed(seed);
            let line = |_| format!("{} {}", random_labels(&mut rng), random_text(&mut rng, 6));
            let mut body = (0..4).map(line).collect::<Vec<_>>().join("\n");
            for _ in 0..rng.index(4) {
                let (from, to) = (ALPHABET[rng.index(14)], ALPHABET[rng.index(14)]);
                body = body.replacen(from, to, 1);
            }
            let mut before = 0;
            for line in lines(&body) {
                let number = match &line {
                    Ok(line) => line.number,
                    Err((number, _)) => *number,
                };
                assert!(before < number, "seed {seed}: {body:?}");
                before = number;
                if let Err((_, BadLine::Malformed { at, .. })) = line {
                    let length = body.split('\n').nth(number as usize - 1).map_or(0, str::len);
                    assert!(at <= length, "seed {seed}: {body:?}");
                }
            }
        }
    }
}
