//! How a command's end becomes the end of its attempt.
//!
//! ```text
//!   exit status   0      done; with --result, what it printed is the result if that is JSON of at most 64 KiB
//!                 75     released: nothing is counted, and it runs again after --release-delay
//!                 65     failed for good
//!                 else   failed with class exit_<n> or signal_<NAME>; what then is up to the job's rules
//! ```
//!
//! The message of a failure is the last line of standard error that is not empty, its trace the last 16 KiB.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use crate::base::limits::{ERROR_MESSAGE_BYTES_MAX, ERROR_TRACE_BYTES_MAX, JOB_RESULT_BYTES_MAX};
use crate::io::child::signal_name;
use crate::io::client::{Json, object};

/// The status of a command that wants its job to be tried later.
const LATER: i32 = 75;
/// The status of a command that will never succeed with this job.
const NEVER: i32 = 65;

/// The status of a process that could not become the command, and how it says so.
pub(super) const CANNOT_RUN: u8 = 127;
/// See [`CANNOT_RUN`].
pub(super) const CANNOT_RUN_TEXT: &str = "holdfast work: cannot run ";

/// Why a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// By itself.
    Own,
    /// It took too long.
    Timeout,
    /// Nobody wants its job any more.
    Cancelled,
    /// We are to end, and do not wait for it.
    Quit,
    /// Somebody else has the job.
    Lost,
}

/// The end of an attempt, as it is told to the server.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ending {
    /// It went well.
    Done {
        /// What came out of it.
        result: Option<Json>,
    },
    /// It went wrong.
    Failed {
        /// What kind of error.
        class: String,
        /// What it says.
        message: String,
        /// What stood on standard error.
        trace: String,
        /// Whether the job may be tried again.
        again: bool,
    },
    /// Not now.
    Released {
        /// Not before so many milliseconds.
        delay_ms: u64,
        /// Why.
        reason: String,
    },
    /// It is not ours to say.
    Lost,
}

impl Ending {
    /// The verb and the body of the call that tells it; nothing if there is nothing to tell.
    pub(super) fn call(&self) -> Option<(&'static str, Json)> {
        Some(match self {
            Ending::Done { result } => {
                // A result that is null is one; a member that is null is left out.
                let mut body = object([]);
                if let Some(result) = result {
                    body["result"] = result.clone();
                }
                ("done", body)
            }
            Ending::Failed { class, message, trace, again } => {
                let trace = if trace.is_empty() { Json::Null } else { Json::from(trace.as_str()) };
                let error = object([
                    ("class", Json::from(class.as_str())),
                    ("message", Json::from(message.as_str())),
                    ("trace", trace),
                ]);
                let retry = if *again { Json::Null } else { Json::from(false) };
                ("fail", object([("error", error), ("retry", retry)]))
            }
            Ending::Released { delay_ms, reason } => {
                let delay = Json::from(format!("{delay_ms}ms"));
                let reason = Json::from(reason.as_str());
                ("release", object([("delay", delay), ("reason", reason)]))
            }
            Ending::Lost => return None,
        })
    }
}

/// What a command left behind.
#[derive(Debug)]
pub(super) struct Remains {
    /// Why it ended.
    pub(super) cause: Cause,
    /// How.
    pub(super) status: ExitStatus,
    /// What it wrote to standard error in the end.
    pub(super) errors: Tail,
    /// What it printed, if that was asked for.
    pub(super) printed: Option<Head>,
    /// After what time a job runs again that it wants to be tried later.
    pub(super) release_delay_ms: u64,
}

impl Remains {
    /// Why there was no command at all, if the one who was to become it says so.
    pub(super) fn cannot_run(&self) -> Option<String> {
        let errors = self.errors.text();
        let says = self.status.code() == Some(i32::from(CANNOT_RUN))
            && errors.starts_with(CANNOT_RUN_TEXT);
        says.then(|| errors.trim_start_matches("holdfast work: ").trim().to_owned())
    }
}

/// What the end of a command means, and what there is to say about it here.
pub(super) fn ending(remains: &Remains) -> (Ending, Option<String>) {
    let released = |delay_ms: u64, reason: &str| {
        (Ending::Released { delay_ms, reason: reason.to_owned() }, None)
    };
    match remains.cause {
        Cause::Lost => (Ending::Lost, None),
        Cause::Cancelled => released(0, "cancelled"),
        Cause::Quit => released(0, "the worker was told to end at once"),
        // What it said last is about something else.
        Cause::Timeout => {
            let (class, trace) = ("timeout".to_owned(), remains.errors.text());
            let message = "it took longer than its timeout".to_owned();
            (Ending::Failed { class, message, trace, again: true }, None)
        }
        Cause::Own => match remains.status.code() {
            Some(0) => {
                let (result, said) = result(remains.printed.as_ref());
                (Ending::Done { result }, said)
            }
            Some(LATER) => released(remains.release_delay_ms, "the command ended with status 75"),
            Some(code) => {
                let instead = format!("the command ended with status {code}");
                (failed(remains, format!("exit_{code}"), &instead, code != NEVER), None)
            }
            None => {
                let name = signal(remains.status);
                let instead = format!("the command was ended by signal {name}");
                (failed(remains, format!("signal_{name}"), &instead, true), None)
            }
        },
    }
}

fn signal(status: ExitStatus) -> String {
    let number = status.signal().unwrap_or_default();
    signal_name(number).map_or_else(|| number.to_string(), str::to_owned)
}

fn failed(remains: &Remains, class: String, instead: &str, again: bool) -> Ending {
    let trace = remains.errors.text();
    let line = trace.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let message = cut(line.unwrap_or(instead), ERROR_MESSAGE_BYTES_MAX).to_owned();
    Ending::Failed { class, message, trace, again }
}

/// The beginning of `text`, at most so many bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// What was printed as a result, or why it is none. Nothing printed is no result.
fn result(printed: Option<&Head>) -> (Option<Json>, Option<String>) {
    let Some(printed) = printed else { return (None, None) };
    if printed.is_cut {
        let said = format!("what it printed is no result: more than {JOB_RESULT_BYTES_MAX} bytes");
        return (None, Some(said));
    }
    if printed.bytes.trim_ascii().is_empty() {
        return (None, None);
    }
    match std::str::from_utf8(&printed.bytes).ok().and_then(|text| text.parse().ok()) {
        Some(result) => (Some(result), None),
        None => (None, Some("what it printed is no result: it is no JSON".to_owned())),
    }
}

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    /// Takes more of it.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        // Moved only now and then, not with each line.
        if 2 * ERROR_TRACE_BYTES_MAX < self.0.len() {
            self.0.drain(..self.0.len() - ERROR_TRACE_BYTES_MAX);
        }
    }

    /// As a text that begins with a whole character and has no more bytes than a trace may have.
    fn text(&self) -> String {
        let from = self.0.len().saturating_sub(ERROR_TRACE_BYTES_MAX);
        let bytes = &self.0[from..];
        let inside = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
        let begun = if 0 < from { bytes.iter().take_while(inside).count() } else { 0 };
        let text = String::from_utf8_lossy(&bytes[begun..]);
        // What is no text grows when it is replaced.
        let over = text.len().saturating_sub(ERROR_TRACE_BYTES_MAX);
        text[text.ceil_char_boundary(over)..].to_owned()
    }
}

/// The first bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Head {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Head {
    /// Takes more of it.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = JOB_RESULT_BYTES_MAX - self.bytes.len();
        self.is_cut |= room < bytes.len();
        self.bytes.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, Ending, Head, Remains, Tail, ending};
    use crate::base::limits::{ERROR_TRACE_BYTES_MAX, JOB_RESULT_BYTES_MAX};
    use serde_json::json;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    /// What becomes of a command that ended like this; the first word of `status` is `exit` or `signal`.
    fn end(
        cause: Cause,
        (word, number): (&str, i32),
        errors: &str,
        printed: Option<&[u8]>,
    ) -> (Ending, Option<String>) {
        let raw = if word == "exit" { number << 8 } else { number };
        let mut tail = Tail::default();
        tail.push(errors.as_bytes());
        let printed = printed.map(|bytes| {
            let mut head = Head::default();
            head.push(bytes);
            head
        });
        let status = ExitStatus::from_raw(raw);
        ending(&Remains { cause, status, errors: tail, printed, release_delay_ms: 10_000 })
    }

    fn told(ending: &Ending) -> String {
        ending.call().map_or("nothing".to_owned(), |(verb, body)| format!("{verb} {body}"))
    }

    #[track_caller]
    fn check(cause: Cause, status: (&str, i32), errors: &str, expected: &str) {
        assert_eq!(told(&end(cause, status, errors, None).0), expected, "{cause:?} {status:?}");
    }

    #[test]
    fn the_status_is_the_answer() {
        check(Cause::Own, ("exit", 0), "noise", "done {}");
        check(
            Cause::Own,
            ("exit", 75),
            "busy",
            r#"release {"delay":"10000ms","reason":"the command ended with status 75"}"#,
        );
        check(
            Cause::Own,
            ("exit", 65),
            "no such user\n",
            r#"fail {"error":{"class":"exit_65","message":"no such user","trace":"no such user\n"},"retry":false}"#,
        );
        check(
            Cause::Own,
            ("exit", 3),
            "first\n  last  \n\n \n",
            r#"fail {"error":{"class":"exit_3","message":"last","trace":"first\n  last  \n\n \n"}}"#,
        );
        check(
            Cause::Own,
            ("exit", 1),
            "",
            r#"fail {"error":{"class":"exit_1","message":"the command ended with status 1"}}"#,
        );
        check(
            Cause::Own,
            ("signal", 9),
            "",
            r#"fail {"error":{"class":"signal_KILL","message":"the command was ended by signal KILL"}}"#,
        );
        check(
            Cause::Own,
            ("signal", 40),
            "",
            r#"fail {"error":{"class":"signal_40","message":"the command was ended by signal 40"}}"#,
        );
    }

    #[test]
    fn a_command_that_was_stopped_does_not_say_how_it_ended() {
        let timeout =
            r#"fail {"error":{"class":"timeout","message":"it took longer than its timeout"}}"#;
        for status in [("exit", 0), ("exit", 65), ("exit", 75), ("signal", 15), ("signal", 9)] {
            check(Cause::Timeout, status, "", timeout);
            check(Cause::Cancelled, status, "", r#"release {"delay":"0ms","reason":"cancelled"}"#);
            check(Cause::Lost, status, "", "nothing");
        }
        let quit = r#"release {"delay":"0ms","reason":"the worker was told to end at once"}"#;
        check(Cause::Quit, ("signal", 15), "", quit);
        let said = r#"fail {"error":{"class":"timeout","message":"it took longer than its timeout","trace":"last"}}"#;
        check(Cause::Timeout, ("signal", 15), "last", said);
    }

    #[test]
    fn what_is_printed_is_the_result_if_it_is_json() {
        let done = |printed: &[u8]| end(Cause::Own, ("exit", 0), "", Some(printed));
        let result = |printed: &[u8]| done(printed).0;
        assert_eq!(
            result(b" {\"sent\": 3}\n"),
            Ending::Done { result: Some(json!({ "sent": 3 })) }
        );
        assert_eq!(told(&result(b"null")), r#"done {"result":null}"#);
        assert_eq!(done(b" \n"), (Ending::Done { result: None }, None));
        for odd in [&b"sent 3"[..], b"{\"a\":1} {}", b"\"\xff\""] {
            let (ending, said) = done(odd);
            assert_eq!(ending, Ending::Done { result: None });
            assert!(said.is_some_and(|said| said.contains("no JSON")));
        }
        let fits = format!("\"{}\"", "x".repeat(JOB_RESULT_BYTES_MAX - 2));
        assert_ne!(result(fits.as_bytes()), Ending::Done { result: None });
        let (ending, said) = done(format!("{fits} ").as_bytes());
        assert_eq!(ending, Ending::Done { result: None });
        assert!(said.is_some_and(|said| said.contains("65536 bytes")));
    }

    #[test]
    fn the_trace_is_the_end_of_what_was_written() {
        let mut tail = Tail::default();
        for n in 0..10_000 {
            tail.push(format!("line {n}\n").as_bytes());
        }
        let text = tail.text();
        assert_eq!(text.len(), ERROR_TRACE_BYTES_MAX);
        assert!(text.ends_with("line 9998\nline 9999\n"));

        // It does not begin in the middle of a character, and does not grow when it is no text.
        let mut tail = Tail::default();
        tail.push("\u{e4}".repeat(ERROR_TRACE_BYTES_MAX).as_bytes());
        tail.push(b"x");
        let text = tail.text();
        assert_eq!((text.len(), text.chars().next()), (ERROR_TRACE_BYTES_MAX - 1, Some('\u{e4}')));
        let mut tail = Tail::default();
        tail.push(&vec![0xff; 20_000]);
        let text = tail.text();
        assert!(
            text.len() <= ERROR_TRACE_BYTES_MAX && text.ends_with('\u{fffd}'),
            "{}",
            text.len()
        );
    }
}
