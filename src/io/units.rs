//! How units of systemd stand, asked over the system's D-Bus: those that the owner named, and nothing else.
//!
//! One connection for each question: greet, ask `ListUnitsByNames` of the manager, read the answer. That is two calls and
//! a handful of types, so the few messages are put together here; a library for D-Bus brings an executor along.
//! Everything that is read is bounded and checked; whatever is wrong is an error, and the units are "not known".
//!
//! **Failure cases**: a bus that does not accept, does not answer, or answers a byte at a time: the whole exchange has
//! [`WITHIN`], the connecting too, and is an error after that.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::app::outside::Unit;

/// Where the bus listens.
pub const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// The whole exchange takes no longer; systemd answers in milliseconds, also where much is going on.
const WITHIN: Duration = Duration::from_secs(2);
/// A line of the greeting is no longer.
const GREETING_BYTES_MAX: usize = 512;
/// A message is no longer: answers have some 300 bytes for each unit.
const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// Other messages that may come before the answer.
const STRANGERS_MAX: usize = 16;

/// How these units stand, in the order of the answer.
pub fn states(bus: &Path, names: &[String]) -> Result<Vec<Unit>> {
    exchange(&mut Timed::connect(bus, WITHIN)?, names)
}

/// A connection that has so much time for everything.
struct Timed {
    stream: UnixStream,
    until: Instant,
}

impl Timed {
    #[expect(clippy::disallowed_methods, reason = "the bus is asked at the edge of the process")]
    fn now() -> Instant {
        Instant::now()
    }

    /// Connects: where too many wait to be accepted this would wait without end, so the socket has its time before.
    fn connect(bus: &Path, within: Duration) -> Result<Timed> {
        let until = Timed::now() + within;
        let kind = (AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC);
        let socket = rustix::net::socket_with(kind.0, kind.1, kind.2, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(within))?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(bus)?)?;
        Ok(Timed { stream: UnixStream::from(socket), until })
    }

    /// How much time is left.
    fn left(&self) -> Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Timed::now());
        if left.is_zero() {
            return Err(Error::new(ErrorKind::TimedOut, "the bus takes too long"));
        }
        Ok(Some(left))
    }
}

impl Read for Timed {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(bytes)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.flush()
    }
}

/// The whole conversation.
fn exchange(stream: &mut (impl Read + Write), names: &[String]) -> Result<Vec<Unit>> {
    authenticate(stream, rustix::process::geteuid().as_raw())?;
    let hello = Call { path: "/org/freedesktop/DBus", to: "org.freedesktop.DBus", what: "Hello" };
    stream.write_all(&hello.message(1, None))?;
    answer(stream, 1)?;
    let list = Call {
        path: "/org/freedesktop/systemd1",
        to: "org.freedesktop.systemd1",
        what: "ListUnitsByNames",
    };
    stream.write_all(&list.message(2, Some(names)))?;
    units(&answer(stream, 2)?)
}

/// Says who we are; the kernel vouches for it.
fn authenticate(stream: &mut (impl Read + Write), uid: u32) -> Result<()> {
    // A digit of ASCII is 3 and itself.
    let hex: String = uid.to_string().chars().flat_map(|digit| ['3', digit]).collect();
    stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
    // Nothing comes behind the line before we begin.
    let (mut line, mut length) = ([0; GREETING_BYTES_MAX], 0);
    while !line[..length].ends_with(b"\r\n") {
        if length == line.len() {
            return Err(nonsense("a line of its greeting is too long"));
        }
        length += match stream.read(&mut line[length..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
    }
    if !line.starts_with(b"OK ") {
        return Err(Error::new(ErrorKind::PermissionDenied, "the bus does not let us in"));
    }
    stream.write_all(b"BEGIN\r\n")
}

fn nonsense(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

/// A call of a method.
struct Call {
    path: &'static str,
    to: &'static str,
    what: &'static str,
}

/// A message that is being put together: little endian, everything at a multiple of its size.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn pad(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: usize) {
        self.pad(4);
        let number = u32::try_from(number).expect("BUG: messages are short");
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// A field of the head: its number, its type, its value.
    fn field(&mut self, number: u8, kind: u8, text: &str) {
        self.pad(8);
        self.0.extend([number, 1, kind, 0]);
        if kind == b'g' {
            self.0.push(u8::try_from(text.len()).expect("BUG: signatures are short"));
            self.0.extend(text.as_bytes());
            self.0.push(0);
        } else {
            self.text(text);
        }
    }
}

impl Call {
    /// With this number, and a list of names for its argument.
    fn message(&self, serial: u32, names: Option<&[String]>) -> Vec<u8> {
        let mut body = Writer::default();
        if let Some(names) = names {
            // The length of a list does not count its first four bytes.
            let mut list = Writer(vec![0; 4]);
            for name in names {
                list.text(name);
            }
            let bytes = u32::try_from(list.0.len() - 4).expect("BUG: lists are short");
            list.0[..4].copy_from_slice(&bytes.to_le_bytes());
            body = list;
        }
        // Little endian, a call, no flags, version 1.
        let mut out = Writer(vec![b'l', 1, 0, 1]);
        out.number(body.0.len());
        out.0.extend(serial.to_le_bytes());
        out.number(0);
        let begin = out.0.len();
        let interface = if names.is_some() { "org.freedesktop.systemd1.Manager" } else { self.to };
        out.field(1, b'o', self.path);
        out.field(2, b's', interface);
        out.field(3, b's', self.what);
        out.field(6, b's', self.to);
        if names.is_some() {
            out.field(8, b'g', "as");
        }
        let bytes = u32::try_from(out.0.len() - begin).expect("BUG: heads are short");
        out.0[12..16].copy_from_slice(&bytes.to_le_bytes());
        out.pad(8);
        out.0.extend(body.0);
        out.0
    }
}

/// A message that is being read.
struct Reader<'m> {
    bytes: &'m [u8],
    at: usize,
    big: bool,
}

impl<'m> Reader<'m> {
    fn take(&mut self, count: usize) -> Result<&'m [u8]> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| nonsense("a message of the bus is cut"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn pad(&mut self, to: usize) -> Result<()> {
        self.take(self.at.next_multiple_of(to) - self.at).map(drop)
    }

    fn number(&mut self) -> Result<u32> {
        self.pad(4)?;
        let bytes: [u8; 4] = self.take(4)?.try_into().expect("BUG: they are four");
        Ok(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn text(&mut self) -> Result<&'m str> {
        let length = self.number()? as usize;
        self.text_of(length)
    }

    fn text_of(&mut self, length: usize) -> Result<&'m str> {
        let text = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(text).map_err(|_| nonsense("a text of the bus is none"))
    }
}

/// A message: whose answer it is, whether it is one, and what it says.
struct Message {
    kind: u8,
    answers: Option<u32>,
    body: Vec<u8>,
    big: bool,
}

/// Reads messages until the answer comes.
fn answer(stream: &mut impl Read, serial: u32) -> Result<Message> {
    const ANSWER: u8 = 2;
    const REFUSAL: u8 = 3;
    for _ in 0..STRANGERS_MAX {
        let message = message(stream)?;
        if message.answers != Some(serial) {
            continue;
        }
        match message.kind {
            ANSWER => return Ok(message),
            REFUSAL => return Err(Error::other(refusal(&message))),
            _ => return Err(nonsense("an answer of the bus is none")),
        }
    }
    Err(nonsense("the bus says everything but the answer"))
}

/// What a refusal says, if it says anything.
fn refusal(message: &Message) -> String {
    let mut reader = Reader { bytes: &message.body, at: 0, big: message.big };
    let why = reader.text().unwrap_or("it does not say why");
    format!("the bus refuses: {}", why.chars().take(200).collect::<String>())
}

/// Reads one message.
fn message(stream: &mut impl Read) -> Result<Message> {
    let mut head = vec![0; 16];
    stream.read_exact(&mut head)?;
    let big = match head[0] {
        b'l' => false,
        b'B' => true,
        _ => return Err(nonsense("what comes from the bus is no message")),
    };
    let kind = head[1];
    let mut reader = Reader { bytes: &head, at: 4, big };
    let (body, _, fields) =
        (reader.number()? as usize, reader.number()?, reader.number()? as usize);
    if MESSAGE_BYTES_MAX < body || MESSAGE_BYTES_MAX < fields {
        return Err(nonsense("a message of the bus is too long"));
    }
    let begin = (16 + fields).next_multiple_of(8);
    head.resize(begin + body, 0);
    stream.read_exact(&mut head[16..])?;
    let mut reader = Reader { bytes: &head[..16 + fields], at: 16, big };
    let mut answers = None;
    while reader.at < reader.bytes.len() {
        reader.pad(8)?;
        let number = reader.take(1)?[0];
        let length = usize::from(reader.take(1)?[0]);
        let kind = reader.text_of(length)?;
        match kind {
            "u" => {
                let value = reader.number()?;
                // 5 says whose answer it is.
                answers = if number == 5 { Some(value) } else { answers };
            }
            "s" | "o" => drop(reader.text()?),
            "g" => {
                let length = usize::from(reader.take(1)?[0]);
                reader.text_of(length)?;
            }
            _ => return Err(nonsense("a message of the bus has a field that nobody knows")),
        }
    }
    Ok(Message { kind, answers, body: head.split_off(begin), big })
}

/// The units in an answer: a list of ten fields each, of which the fourth is the state.
fn units(message: &Message) -> Result<Vec<Unit>> {
    let mut reader = Reader { bytes: &message.body, at: 0, big: message.big };
    let bytes = reader.number()? as usize;
    reader.pad(8)?;
    let end = reader.at.saturating_add(bytes);
    let mut found = Vec::new();
    while reader.at < end {
        reader.pad(8)?;
        let name = reader.text()?.to_owned();
        let _description = reader.text()?;
        let is_known = reader.text()? == "loaded";
        let state = reader.text()?.to_owned();
        let (_sub_state, _follows) = (reader.text()?, reader.text()?);
        let _path = reader.text()?;
        let _job = reader.number()?;
        let (_job_kind, _job_path) = (reader.text()?, reader.text()?);
        found.push(Unit { name, is_known, state });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::thread;
    use std::time::Duration;

    use super::{Call, GREETING_BYTES_MAX, Timed, Writer, exchange, message, units};
    use crate::app::outside::Unit;
    use crate::base::rng::Rng;
    use crate::testing::seeds;

    /// A message of the bus with a body; the answer to this call, or a signal.
    fn sent(kind: u8, answers: Option<u32>, body: &[u8]) -> Vec<u8> {
        let mut out = Writer(vec![b'l', kind, 1, 1]);
        out.number(body.len());
        out.number(7);
        out.number(0);
        if let Some(serial) = answers {
            out.pad(8);
            out.0.extend([5, 1, b'u', 0]);
            out.0.extend(serial.to_le_bytes());
        }
        out.field(6, b's', ":1.7");
        out.field(8, b'g', "a(ssssssouso)");
        let bytes = u32::try_from(out.0.len() - 16).unwrap();
        out.0[12..16].copy_from_slice(&bytes.to_le_bytes());
        out.pad(8);
        out.0.extend(body);
        out.0
    }

    fn listed(all: &[(&str, &str, &str)]) -> Vec<u8> {
        let mut body = Writer(vec![0; 8]);
        for (name, load, state) in all {
            body.pad(8);
            for text in [name, "what it is", load, state, "sub", "", "/org/a"] {
                body.text(text);
            }
            body.number(0);
            body.text("");
            body.text("/");
        }
        let bytes = u32::try_from(body.0.len() - 8).unwrap();
        body.0[..4].copy_from_slice(&bytes.to_le_bytes());
        body.0
    }

    /// A bus that lets everybody in, and answers the second call with these messages; what it was asked.
    fn bus(mut stream: UnixStream, greeting: &str, answers: &[u8]) -> Vec<u8> {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("\0AUTH EXTERNAL 3"), "{line:?}");
        stream.write_all(greeting.as_bytes()).unwrap();
        if !greeting.starts_with("OK") {
            return Vec::new();
        }
        line.clear();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "BEGIN\r\n");
        let hello =
            Call { path: "/org/freedesktop/DBus", to: "org.freedesktop.DBus", what: "Hello" };
        let mut asked = vec![0; hello.message(1, None).len()];
        reader.read_exact(&mut asked).unwrap();
        assert_eq!(asked, hello.message(1, None));
        // A signal comes first: one gets a name.
        stream.write_all(&sent(4, None, b"")).unwrap();
        stream.write_all(&sent(2, Some(1), b"")).unwrap();
        // Whoever has heard enough goes away.
        drop(stream.write_all(answers));
        let mut rest = Vec::new();
        drop(reader.read_to_end(&mut rest));
        rest
    }

    fn ask(greeting: &str, answers: Vec<u8>) -> (std::io::Result<Vec<Unit>>, Vec<u8>) {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the other end")]
        thread::scope(|scope| {
            let there = scope.spawn(move || bus(theirs, greeting, &answers));
            let names = ["nginx.service".to_owned(), "none.service".to_owned()];
            let told = exchange(&mut ours, &names);
            drop(ours);
            (told, there.join().unwrap())
        })
    }

    #[test]
    fn units_are_told_as_the_manager_has_them() {
        let all =
            [("nginx.service", "loaded", "failed"), ("none.service", "not-found", "inactive")];
        let mut answers = sent(4, None, b"");
        answers.extend(sent(2, Some(2), &listed(&all)));
        let (told, asked) = ask("OK 0123\r\n", answers);
        let unit = |name: &str, is_known, state: &str| Unit {
            name: name.to_owned(),
            is_known,
            state: state.to_owned(),
        };
        let expected =
            vec![unit("nginx.service", true, "failed"), unit("none.service", false, "inactive")];
        assert_eq!(told.unwrap(), expected);
        let asked = String::from_utf8_lossy(&asked).into_owned();
        assert!(asked.contains("ListUnitsByNames") && asked.contains("none.service"), "{asked}");
    }

    #[test]
    fn a_bus_that_refuses_is_an_error_that_says_so() {
        let (told, _) = ask("REJECTED EXTERNAL\r\n", Vec::new());
        assert!(told.unwrap_err().to_string().contains("does not let us in"));
        let mut why = Writer::default();
        why.text("no such manager");
        let (told, _) = ask("OK 1\r\n", sent(3, Some(2), &why.0));
        assert!(told.unwrap_err().to_string().contains("no such manager"));
        let (told, _) = ask("OK 1\r\n", sent(4, None, b"").repeat(40));
        assert!(told.unwrap_err().to_string().contains("everything but the answer"));
    }

    #[test]
    fn a_greeting_that_does_not_end_is_an_error() {
        let (told, _) = ask(&format!("REJECTED {}", "x".repeat(GREETING_BYTES_MAX)), Vec::new());
        assert!(told.unwrap_err().to_string().contains("greeting is too long"));
        let (told, _) = ask("REJECTED", Vec::new());
        assert_eq!(told.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_whole_exchange_has_its_time_and_not_each_part_of_it() {
        let (stream, mut theirs) = UnixStream::pair().unwrap();
        let mut ours = Timed { stream, until: Timed::now() + Duration::from_hours(1) };
        theirs.write_all(b"OK 1\r\n").unwrap();
        let mut byte = [0];
        ours.read_exact(&mut byte).unwrap();
        assert!(ours.stream.read_timeout().unwrap().is_some());
        // The rest is there, and it is too late for it.
        ours.until = Timed::now();
        assert_eq!(ours.read(&mut byte).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(ours.write(b"x").unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_bus_that_does_not_accept_or_answer_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let names = ["nginx.service".to_owned()];
        let within = Duration::from_millis(30);
        let listener = UnixListener::bind(&path).unwrap();
        let mut mute = Timed::connect(&path, within).unwrap();
        let error = exchange(&mut mute, &names).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        // No more than one waits; the second is told that it would have to.
        rustix::net::listen(&listener, 0).unwrap();
        let waiting: Vec<_> = (0..3).map(|_| Timed::connect(&path, within)).collect();
        let error = waiting.into_iter().find_map(Result::err).expect("nobody accepts them");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        drop(listener);
        assert!(Timed::connect(&path, within).is_err());
    }

    #[test]
    fn what_is_cut_or_changed_is_an_error_and_nothing_else() {
        let whole = sent(2, Some(2), &listed(&[("a.service", "loaded", "active")]));
        for end in 0..whole.len() {
            assert!(message(&mut &whole[..end]).is_err(), "{end} bytes are a message");
        }
        for seed in seeds(300) {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = whole.clone();
            let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
            bytes[at] ^= rng.bytes(1)[0] | 1;
            // Either way it ends, and what is told is no longer than what was sent.
            if let Ok(message) = message(&mut &bytes[..])
                && let Ok(found) = units(&message)
            {
                let told: usize = found.iter().map(|unit| unit.name.len()).sum();
                assert!(told <= whole.len(), "seed {seed}");
            }
        }
    }
}
