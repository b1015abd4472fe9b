//! `holdfast series write`
//!
//! A file may be larger than a call: it is sent in parts, cut at the ends of lines. What `# TYPE` said in one part is said
//! again in those that follow, and lines that were refused are told by their number in the file.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

use clap::ArgMatches;

use crate::base::limits::REQUEST_BYTES_MAX;
use crate::cli::commands::{cell, maybe, print_json, text};
use crate::cli::failure::{FAILURE, Failure, USAGE};
use crate::cli::session::Session;
use crate::cli::table::shown;
use crate::io::client::{Answer, Body, Json, object};

/// A part is sent when it has so many bytes; a line that is longer is a part of its own.
const PART_BYTES: usize = REQUEST_BYTES_MAX / 4;
/// What is repeated of `# TYPE` in a part, at most.
const TYPES_BYTES_MAX: usize = REQUEST_BYTES_MAX / 4;
/// Refused samples that are told one by one.
const TOLD_MAX: usize = 20;

/// `holdfast series write METRIC VALUE`, `holdfast series write --file FILE`
pub(super) fn write(arguments: &ArgMatches) -> Result<(), Failure> {
    let path = if arguments.get_flag("durable") { "/v1/series?durable=1" } else { "/v1/series" };
    let mut told = Told { json: arguments.get_flag("json"), ..Told::default() };
    if let Some(file) = arguments.get_one::<String>("file") {
        let session = Session::open(arguments)?;
        let mut input = opened(file)?;
        let mut parts = Parts::default();
        while let Some(body) = parts.next(&mut *input)? {
            let body = Body { content_type: "text/plain".to_owned(), bytes: body.into() };
            let answer = sent(&session, path, body);
            told.take(&answer.map_err(|failure| told.behind(failure))?, parts.shift());
        }
    } else {
        let body = Body::json(&sample(arguments)?);
        told.take(&sent(&Session::open(arguments)?, path, body)?, 0);
    }
    told.end()
}

fn sent(session: &Session, path: &str, body: Body) -> Result<Answer, Failure> {
    let answer = session.send("POST", path, Some(body))?;
    if matches!(answer.status, 200 | 202) {
        session.read(answer)
    } else {
        Err(session.failure(answer))
    }
}

fn opened(file: &str) -> Result<Box<dyn BufRead>, Failure> {
    if file == "-" {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let opened = std::fs::File::open(file);
    let opened =
        opened.map_err(|e| Failure::new(FAILURE, format!("{file} cannot be read: {e}")))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// The sample that is given on the command line.
fn sample(arguments: &ArgMatches) -> Result<Json, Failure> {
    let mut labels = object([]);
    for given in arguments.get_many::<String>("label").into_iter().flatten() {
        let usage = |why| Failure::new(USAGE, format!("--label {given:?} {why}, such as host=a"));
        let (name, value) = given.split_once('=').ok_or_else(|| usage("is not NAME=VALUE"))?;
        if labels.get(name).is_some() {
            return Err(usage("is there twice; each name has one value"));
        }
        labels[name] = Json::from(value);
    }
    let sample = object([
        ("metric", Json::from(text(arguments, "metric"))),
        ("labels", labels),
        ("value", value(text(arguments, "value"))?),
        ("time", maybe(arguments, "time")),
        ("kind", maybe(arguments, "kind")),
    ]);
    Ok(object([("samples", Json::from(vec![sample]))]))
}

/// A number as JSON has it; those that are none there are texts.
fn value(text: &str) -> Result<Json, Failure> {
    let number = text.parse::<f64>().ok();
    let beyond = |number: &f64| number.is_infinite() && text.contains(|c: char| c.is_ascii_digit());
    let number = number.filter(|number| !beyond(number)).ok_or_else(|| {
        Failure::new(USAGE, format!("the value {text:?} is no number, and not NaN, +Inf or -Inf"))
    })?;
    Ok(match number {
        number if number.is_nan() => Json::from("NaN"),
        f64::INFINITY => Json::from("+Inf"),
        f64::NEG_INFINITY => Json::from("-Inf"),
        number => Json::from(number),
    })
}

/// A file, part by part.
#[derive(Debug, Default)]
struct Parts {
    /// What `# TYPE` said of each metric, with the end of the line.
    types: BTreeMap<Vec<u8>, Vec<u8>>,
    types_bytes: usize,
    /// Lines of the file before this part.
    before: u64,
    /// Lines of this part: those that are repeated, and its own.
    repeated: u64,
    own: u64,
}

impl Parts {
    /// The next part; nothing at the end.
    fn next(&mut self, input: &mut dyn BufRead) -> std::io::Result<Option<Vec<u8>>> {
        let mut body: Vec<u8> = self.types.values().flatten().copied().collect();
        let repeated_bytes = body.len();
        self.before += self.own;
        self.repeated = u64::try_from(self.types.len()).expect("BUG: lines are fewer than numbers");
        self.own = 0;
        while body.len() - repeated_bytes < PART_BYTES {
            let begins_at = body.len();
            // What is too long for a line is cut, and refused by the server; so no line fills the memory.
            let most = u64::try_from(REQUEST_BYTES_MAX / 2).expect("BUG: it is 8 MiB");
            if std::io::Read::take(&mut *input, most).read_until(b'\n', &mut body)? == 0 {
                break;
            }
            self.own += 1;
            self.note(&body[begins_at..]);
        }
        Ok((repeated_bytes < body.len()).then_some(body))
    }

    /// What is added to the number of a line of this part to have that of the file.
    fn shift(&self) -> i64 {
        self.before.cast_signed() - self.repeated.cast_signed()
    }

    fn note(&mut self, line: &[u8]) {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let words: Vec<&[u8]> = words.take(5).collect();
        let [b"#", b"TYPE", metric, _] = words.as_slice() else {
            return;
        };
        let mut line = line.to_vec();
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        if self.types_bytes + line.len() <= TYPES_BYTES_MAX {
            self.types_bytes += line.len();
            let before = self.types.insert(metric.to_vec(), line);
            self.types_bytes -= before.map_or(0, |before| before.len());
        }
    }
}

/// What became of all parts.
#[derive(Debug, Default)]
struct Told {
    json: bool,
    accepted: u64,
    rejected: u64,
    lines: Vec<String>,
}

impl Told {
    fn take(&mut self, answer: &Answer, shift: i64) {
        if self.json {
            print_json(&answer.body);
        }
        let list = answer.body["rejected"].as_array().map_or(&[][..], Vec::as_slice);
        let listed =
            u64::try_from(list.len()).expect("BUG: a list is shorter than there are numbers");
        self.accepted += answer.body["accepted"].as_u64().unwrap_or(0);
        self.rejected += answer.body["rejected_count"].as_u64().unwrap_or(listed);
        let room = TOLD_MAX.saturating_sub(self.lines.len());
        self.lines.extend(list.iter().take(room).map(|rejected| refusal(rejected, shift)));
    }

    /// A failure in the middle of a file says how far it came.
    fn behind(&self, failure: Failure) -> Failure {
        let Failure { code, text } = failure;
        let before = match self.accepted {
            0 => String::new(),
            accepted => format!(
                "\n{accepted} samples were taken before; writing them again changes nothing"
            ),
        };
        Failure::new(code, format!("{}{before}", text.trim_end()))
    }

    /// Refused samples are a failure, and the others stay written.
    fn end(self) -> Result<(), Failure> {
        if !self.json {
            println!("{} accepted", self.accepted);
        }
        if self.rejected == 0 {
            return Ok(());
        }
        let listed = u64::try_from(self.lines.len()).expect("BUG: there are few lines");
        let more = match self.rejected - listed.min(self.rejected) {
            0 => String::new(),
            more => format!("\nand {more} more"),
        };
        let lines = self.lines.join("\n");
        Err(Failure::new(FAILURE, format!("{} rejected\n{lines}{more}", self.rejected)))
    }
}

fn refusal(rejected: &Json, shift: i64) -> String {
    let text = |name: &str| shown(&cell(&rejected[name]));
    let what = format!("{} ({})", text("detail"), text("code"));
    match rejected["line"].as_i64() {
        Some(line) => format!("line {}: {what}", line.saturating_add(shift)),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{PART_BYTES, Parts, Told, refusal, sample, value};
    use crate::cli::arguments::command;
    use crate::io::client::Answer;

    fn made(given: &[&str]) -> Result<String, String> {
        let all = [&["holdfast", "series", "write"], given].concat();
        let matches = command().try_get_matches_from(all).map_err(|error| error.to_string())?;
        let (_, series) = matches.subcommand().unwrap();
        let sample = sample(series.subcommand().unwrap().1);
        sample.map(|sample| sample.to_string()).map_err(|failure| failure.text)
    }

    #[test]
    fn a_sample_is_made_of_what_is_given() {
        let given = [
            "cpu", "-0.5", "--label", "host=a=b", "--label", "x=", "--time", "-5m", "--kind",
            "gauge",
        ];
        let expected = json!({ "samples": [{
            "metric": "cpu", "labels": { "host": "a=b", "x": "" }, "value": -0.5, "time": "-5m", "kind": "gauge"
        }] });
        assert_eq!(made(&given), Ok(expected.to_string()));
        let told = made(&["cpu", "1", "--label", "host"]).unwrap_err();
        assert!(told.contains("is not NAME=VALUE"), "{told}");
        let told = made(&["cpu", "1", "--label", "a=1", "--label", "a=2"]).unwrap_err();
        assert!(told.contains("twice"), "{told}");
        for usage in
            [&[][..], &["cpu"], &["cpu", "1", "--file", "x"], &["--file", "x", "--kind", "gauge"]]
        {
            assert!(made(usage).unwrap_err().contains("Usage"), "{usage:?}");
        }
    }

    #[test]
    fn values_are_numbers_or_the_three_words() {
        let text = |given: &str| value(given).map(|value| value.to_string()).map_err(|e| e.code);
        for (given, expected) in [
            ("1", "1.0"),
            ("-0", "-0.0"),
            ("1e300", "1e+300"),
            ("NaN", "\"NaN\""),
            ("inf", "\"+Inf\""),
            ("-Inf", "\"-Inf\""),
        ] {
            assert_eq!(text(given).as_deref(), Ok(expected), "{given}");
        }
        for given in ["", "x", "1e999", "0x1", "1,5"] {
            assert_eq!(text(given), Err(2), "{given}");
        }
    }

    #[test]
    fn a_large_file_is_cut_at_lines_and_keeps_its_types_and_numbers() {
        let line = format!("up{{a=\"{}\"}} 1\n", "x".repeat(1000));
        let count = 2 * PART_BYTES / line.len() + 5;
        let mut file = b"# TYPE up counter\n#  TYPE  b gauge\n".to_vec();
        file.extend(line.repeat(count).bytes());
        file.extend(b"last 1");
        let (mut input, mut parts, mut whole) = (&file[..], Parts::default(), Vec::new());
        let mut shifts = Vec::new();
        while let Some(body) = parts.next(&mut input).unwrap() {
            let types = b"#  TYPE  b gauge\n# TYPE up counter\n";
            let own = if whole.is_empty() { &body[..] } else { body.strip_prefix(types).unwrap() };
            assert!(own.len() < PART_BYTES + line.len());
            assert_eq!(
                parts.own,
                u64::try_from(own.split_inclusive(|b| *b == b'\n').count()).unwrap()
            );
            // The number that a line has in the file: its number in the body and the shift.
            let before = whole.split_inclusive(|b| *b == b'\n').count();
            shifts.push((
                parts.shift(),
                i64::try_from(before).unwrap() - if before == 0 { 0 } else { 2 },
            ));
            whole.extend_from_slice(own);
        }
        assert!(whole == file && shifts.len() == 3);
        assert!(shifts.iter().all(|(told, real)| told == real), "{shifts:?}");
        assert!(parts.next(&mut &b""[..]).unwrap().is_none());
    }

    #[test]
    fn what_was_refused_is_told_and_is_a_failure() {
        let rejected = json!({ "line": 7, "code": "too_old", "detail": "it is\u{1b} old" });
        assert_eq!(refusal(&rejected, 3), "line 10: it is\\u{1b} old (too_old)");
        let body = json!({ "accepted": 2, "rejected": vec![rejected; 30], "rejected_count": 40 });
        let mut told = Told::default();
        told.take(&Answer { status: 202, body }, 0);
        let failure = told.end().unwrap_err();
        assert_eq!((failure.code, failure.text.lines().count()), (1, 22));
        assert!(failure.text.starts_with("40 rejected\nline 7: "), "{}", failure.text);
        assert!(failure.text.ends_with("\nand 20 more"), "{}", failure.text);
    }
}
