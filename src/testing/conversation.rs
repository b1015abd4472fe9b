//! A conversation with the whole HTTP interface, from bytes to bytes, in memory.
//!
//! The server's side is the one that ships: hyper, the service, the routes, the application. Only the
//! socket is a pipe, the catalog is in memory, and the clock stands still.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::runtime::Runtime;

use super::app::World;
use crate::app::throttle::Peer;
use crate::http::accept::Server;
use crate::http::problem::KINDS;
use crate::http::routes::ROUTES;

/// A world is used so often; what administrators make in it stays bounded.
const USES: u32 = 2_000;
/// Whoever asks to wait goes away after this: the clock stands still, so the wait would not end.
const WAITS: Duration = Duration::from_millis(50);
/// No answer takes longer.
const WITHIN: Duration = Duration::from_secs(20);

struct Stage {
    world: World,
    server: Arc<Server>,
    runtime: Runtime,
    uses: u32,
}

thread_local! {
    /// One for each thread: it takes a while to build.
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

impl Stage {
    fn new() -> Stage {
        let world = World::new(20_261_122);
        let server = world.server(ROUTES);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Stage { world, server, runtime: runtime.expect("there is a runtime"), uses: 0 }
    }

    /// What the server says to `speak`, which has the other end of the pipe.
    fn listen<F, S>(&self, pipe_bytes: usize, speak: S) -> Vec<u8>
    where
        S: FnOnce(DuplexStream) -> F,
        F: Future<Output = Vec<u8>>,
    {
        let (ours, theirs) = tokio::io::duplex(pipe_bytes);
        let serving = Arc::clone(&self.server).serve_stream(theirs, Peer::V4([192, 0, 2, 1]));
        let talk = async { tokio::join!(serving, speak(ours)).1 };
        let said = self.runtime.block_on(async { tokio::time::timeout(WITHIN, talk).await });
        said.expect("the connection ends")
    }
}

fn on_stage<T>(use_it: impl FnOnce(&Stage) -> T) -> T {
    STAGE.with_borrow_mut(|stage| {
        if stage.as_ref().is_none_or(|stage| USES <= stage.uses) {
            *stage = Some(Stage::new());
        }
        let stage = stage.as_mut().expect("it was built in a line above");
        stage.uses += 1;
        use_it(stage)
    })
}

/// See [`super::fuzz::http_bytes`]. The statuses of the answers, as often as it was asked.
pub(super) fn as_stranger(data: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    on_stage(|stage| {
        let before = stage.world.app.directory().counts();
        // In one piece, and in many small ones.
        for pipe_bytes in [1 << 20, 61] {
            let said = stage.listen(pipe_bytes, |stream| async move {
                let (mut reader, mut writer) = tokio::io::split(stream);
                let mut said = Vec::new();
                let sending = async {
                    // The server may close before it has read everything.
                    drop(writer.write_all(data).await);
                    drop(writer.shutdown().await);
                };
                let ((), read) = tokio::join!(sending, reader.read_to_end(&mut said));
                read.expect("a pipe in memory can be read");
                said
            });
            // Who takes too little and ends in the middle of a request may get less than a whole answer.
            let end = if pipe_bytes <= said.len() { End::Cut } else { End::Whole };
            for answer in answers(&said, end) {
                assert!((200..500).contains(&answer.status), "{answer:?}");
                let let_in = answer.status < 300;
                let secret = answer.header("cache-control").is_some()
                    || answer.header("content-type").is_none_or(|kind| kind != "application/json");
                assert!(!let_in || !secret, "a stranger gets {answer:?}");
                statuses.push(answer.status);
            }
        }
        assert_eq!(stage.world.app.directory().counts(), before, "a stranger changes nothing");
    });
    statuses
}

/// Whether the target may ask for a wait, in whatever spelling.
fn may_wait(line: &[u8]) -> bool {
    let query = line.iter().position(|&b| b == b'?').map_or(&[][..], |at| &line[at..]);
    query.windows(4).any(|four| four == b"wait") || query.contains(&b'%')
}

/// See [`super::fuzz::requests`]. The status of the answer, if it was a request.
pub(super) fn as_administrator(data: &[u8]) -> Option<u16> {
    let (line, body) = match data.iter().position(|&b| b == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    // The head is ours but for its first line.
    if line.iter().any(u8::is_ascii_control) || line.is_empty() {
        return None;
    }
    on_stage(|stage| {
        let mut text = line.to_vec();
        let head = format!(
            " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            stage.world.admin.expose(),
            body.len()
        );
        text.extend_from_slice(head.as_bytes());
        text.extend_from_slice(body);
        let patience = if may_wait(line) { WAITS } else { WITHIN };
        let said = stage.listen(1 << 20, |mut stream| async move {
            let mut said = Vec::new();
            // The server may close before it has read everything; it is told of no end before.
            drop(stream.write_all(&text).await);
            let read = tokio::time::timeout(patience, stream.read_to_end(&mut said)).await;
            match read {
                Ok(read) => drop(read.expect("a pipe in memory can be read")),
                Err(_) => said.clear(),
            }
            said
        });
        if said.is_empty() && may_wait(line) {
            return None;
        }
        let found = answers(&said, End::Whole);
        let [answer] = found.as_slice() else {
            panic!("{} answers: {found:?}", found.len());
        };
        assert!((200..500).contains(&answer.status), "{answer:?}");
        Some(answer.status)
    })
}

/// An answer, taken apart.
#[derive(Debug)]
struct Answer<'s> {
    status: u16,
    headers: Vec<(String, &'s str)>,
    body: &'s [u8],
}

impl Answer<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(its, _)| its == name);
        let first = found.next();
        assert!(found.next().is_none() || name == "vary", "{name} is there twice: {self:?}");
        first.map(|(_, value)| *value)
    }

    /// Panics unless it is what every answer is.
    fn check(&self, without_body: bool) {
        let id = self.header("x-request-id").unwrap_or_default();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        assert!((1..=64).contains(&id.len()) && id.bytes().all(allowed), "{self:?}");
        assert!(self.header("x-response-time").is_some_and(|t| t.ends_with("ms")), "{self:?}");
        assert!(self.header("transfer-encoding").is_none(), "{self:?}");
        if 400 <= self.status && !without_body {
            assert_eq!(self.header("content-type"), Some("application/problem+json"));
            if self.header("content-encoding").is_some() {
                return;
            }
            let problem: serde_json::Value =
                serde_json::from_slice(self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"));
            let kind = KINDS.iter().find(|kind| problem["code"] == kind.code);
            let kind = kind.unwrap_or_else(|| panic!("an unknown code: {problem}"));
            assert_eq!(self.status, kind.status, "{problem}");
            assert_eq!(problem["status"], kind.status, "{problem}");
            assert_eq!(problem["instance"], format!("urn:holdfast:request:{id}"));
        }
    }
}

/// Whether the last answer has to be whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// It may be cut, or be a refusal of hyper's own that is not replaced by ours.
    Cut,
}

/// All answers in `said`. Panics unless it is answers and nothing else.
fn answers(said: &[u8], end: End) -> Vec<Answer<'_>> {
    let mut found = Vec::new();
    let mut rest = said;
    while !rest.is_empty() {
        let Some((answer, length, behind)) = head(rest) else {
            assert!(end == End::Cut, "half a head: {}", rest.escape_ascii());
            break;
        };
        rest = behind;
        let bare = answer.header("x-request-id").is_none() && rest.is_empty();
        if end == End::Cut && bare && matches!(answer.status, 400 | 414 | 431) {
            break;
        }
        // The answer to a HEAD has the length of a body that is not there. No body of ours begins like
        // an answer.
        let to_head = 0 < length && (rest.is_empty() || rest.starts_with(b"HTTP/1."));
        let mut answer = answer;
        if !to_head {
            let Some((body, behind)) = rest.split_at_checked(length) else {
                assert!(end == End::Cut, "half a body: {answer:?} {}", rest.escape_ascii());
                break;
            };
            (answer.body, rest) = (body, behind);
        }
        answer.check(to_head);
        let last = answer.header("connection") == Some("close");
        assert!(!last || rest.is_empty(), "said after the end: {}", rest.escape_ascii());
        found.push(answer);
    }
    found
}

/// The head at the beginning of `said`, the length that it tells, and what is behind it.
fn head(said: &[u8]) -> Option<(Answer<'_>, usize, &[u8])> {
    let end = said.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&said[..end]).expect("a head is ASCII");
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.1 ").or_else(|| first.strip_prefix("HTTP/1.0 "));
    let status = status.and_then(|text| text.get(..3)?.parse().ok());
    let status: u16 = status.unwrap_or_else(|| panic!("no status in {first:?}"));
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
        assert!(!line.contains(|c: char| c.is_control() || !c.is_ascii()), "{line:?}");
        (name.to_ascii_lowercase(), value)
    });
    let answer = Answer { status, headers: headers.collect(), body: &[] };
    let length = match (status, answer.header("content-length")) {
        (204 | 304, None) => 0,
        (_, length) => length.and_then(|text| text.parse().ok()).expect("a body has a length"),
    };
    Some((answer, length, &said[end + 4..]))
}

#[cfg(test)]
mod tests {
    use super::{End, answers, as_administrator, as_stranger};

    #[test]
    fn strangers_and_administrators_are_answered_as_they_deserve() {
        let asks = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let all = asks("/livez") + &asks("/v1/status") + &asks("/nothing") + "what?\r\n\r\n";
        assert_eq!(as_stranger(all.as_bytes()), [200, 401, 404, 400, 200, 401, 404, 400]);
        let create = |body: &str| as_administrator(format!("POST /v1/tokens\n{body}").as_bytes());
        assert_eq!(create(r#"{"name":"a","scopes":["admin"]}"#), Some(201));
        assert_eq!(create("{"), Some(400));
        assert_eq!(as_administrator(b"GET /v1/audit?limit=5"), Some(200));
        assert_eq!(as_administrator(b"POST /v1/reload"), Some(422));
        assert_eq!(as_administrator(b"GET /v1/audit\r\n"), None);
        let key = "/v1/cache/web/keys/cold";
        let ask = |what: &str| as_administrator(what.as_bytes());
        assert_eq!(ask(&format!("GET {key}?lease=30s")), Some(404));
        assert_eq!(
            ask(&format!("GET {key}?lease=30s&w%61it=50s")),
            None,
            "it waits, and goes away"
        );
        assert_eq!(ask(&format!("PUT {key}?ttl=1m\n\0\x01")), Some(201));
        assert_eq!(ask(&format!("GET {key}?lease=30s&wait=50s")), Some(200));
    }

    #[test]
    fn what_is_no_answer_is_noticed() {
        let head = "HTTP/1.1 200 OK\r\nx-request-id: a\r\nx-response-time: 0.10ms\r\n";
        let good = format!("{head}content-length: 2\r\n\r\n{{}}");
        assert_eq!(answers(good.repeat(2).as_bytes(), End::Whole).len(), 2);
        for bad in [
            good.replace("x-request-id: a\r\n", ""),
            good.replace(": a\r\n", ": a\r\nx-request-id: b\r\n"),
            good.replace("content-length: 2", "content-length: 3"),
            good.replace("content-length: 2", "content-length: 1"),
            good.replace("content-length: 2", "transfer-encoding: chunked"),
            good.replace("0.10ms", "0.10ms\u{1b}"),
            good.replace("200", "400"),
            good.replace("x-request-id: a", "x-request-id: a\r\nconnection: close") + &good,
            good[..good.len() - 1].to_owned(),
            good[..30].to_owned(),
            good.clone() + "\r\n",
        ] {
            let noticed = std::panic::catch_unwind(|| answers(bad.as_bytes(), End::Whole).len());
            assert!(noticed.is_err(), "{bad:?}");
        }
    }
}
