//! Strangers who take every place they can get, and people who want to work meanwhile.
//!
//! The server has 128 descriptors in all, so 64 places for connections; many more strangers connect, and
//! come back as soon as they are sent away. Somebody with a token keeps their connection and gets every
//! answer, newcomers are answered, and at the end the server ends in order.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

use crate::serving::{Client, Launch, Server, moment, private_folder};

/// Answers that somebody with a token gets on one connection between two newcomers.
const ANSWERS: usize = 10;
/// Between two bytes of a stranger.
const PAUSE: Duration = Duration::from_millis(20);
/// A newcomer may be sent away, and then comes again; nobody is sent away for longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What strangers do.
struct Manner {
    strangers: usize,
    /// Newcomers who get an answer meanwhile, with and without a token.
    newcomers: usize,
    /// At once, as soon as it is connected.
    first: Vec<u8>,
    /// Again and again, a byte in each round.
    then: u8,
}

/// This process needs more descriptors than it may have got.
fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(8192);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).unwrap();
    }
}

fn connect(address: SocketAddr, manner: &Manner) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_nonblocking(true)?;
    // It fits into the socket's buffer.
    stream.write_all(&manner.first)?;
    Ok(stream)
}

/// Whether the stranger is still connected after it has sent another byte.
fn dribble(stream: &mut TcpStream, manner: &Manner) -> bool {
    match stream.write_all(&[manner.then]) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Floods `address` until nobody is left to tell it to end. Counts rounds over all strangers.
fn flood(address: SocketAddr, manner: &Manner, rounds: &AtomicU64, end: &Receiver<()>) {
    let mut strangers: Vec<Option<TcpStream>> = (0..manner.strangers).map(|_| None).collect();
    while end.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
        for stranger in &mut strangers {
            let there = stranger.as_mut().is_some_and(|stream| dribble(stream, manner));
            if !there {
                *stranger = connect(address, manner).ok();
            }
        }
        rounds.fetch_add(1, SeqCst);
    }
}

/// Comes anew, as often as it takes, and gets an answer that is not a refusal.
fn newcomer(server: &Server, token: Option<&str>) -> u32 {
    let until = moment() + PATIENCE;
    let mut sent_away = 0;
    loop {
        let outcome = Client::connect(server.address).and_then(|mut client| match token {
            Some(token) => client.with_token(token).ask("GET", "/v1/status", None),
            None => client.ask("GET", "/livez", None),
        });
        match outcome {
            Ok(answer) if answer.status == 200 => return sent_away,
            Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
            Err(_) => {}
        }
        sent_away += 1;
        assert!(moment() < until, "a newcomer is sent away again and again ({sent_away} times)");
    }
}

fn places(client: &mut Client) -> (u64, u64) {
    let answer = client.ask("GET", "/v1/status", None).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let number = |value: &Value| value.as_u64().unwrap();
    let status = answer.json();
    (number(&status["connections"]["open"]), number(&status["connections"]["max"]))
}

#[expect(clippy::print_stdout, reason = "how much was tried belongs to the verdict")]
fn check(name: &str, manner: &Manner) {
    raise_own_limit();
    let folder = private_folder();
    let server = Launch::new(folder.path()).by_shell("ulimit -n 128; exec \"$0\" \"$@\"").ready();
    let mut healthy = server.administrator();
    assert_eq!(places(&mut healthy), (1, 64));
    let (rounds, (goes_on, end)) = (AtomicU64::new(0), channel());
    let mut sent_away = 0;
    let began = moment();
    #[expect(clippy::disallowed_methods, reason = "strangers beside those who work")]
    std::thread::scope(|scope| {
        // Dropped when the test has seen enough, or fails.
        let goes_on = goes_on;
        let (address, rounds) = (server.address, &rounds);
        scope.spawn(move || flood(address, manner, rounds, &end));
        // Every place is taken before it counts.
        let until = moment() + PATIENCE;
        while rounds.load(SeqCst) == 0 {
            assert!(moment() < until, "the strangers do not get through");
            assert!(places(&mut healthy).0 <= 64);
        }
        for _ in 0..manner.newcomers {
            for _ in 0..ANSWERS {
                assert!(places(&mut healthy).0 <= 64);
            }
            sent_away += newcomer(&server, Some(&server.admin)) + newcomer(&server, None);
        }
        drop(goes_on);
    });
    // Everybody is gone, and it serves as before.
    newcomer(&server, None);
    let (open, _) = places(&mut healthy);
    println!(
        "{name}: {} rounds of {} strangers in {} ms, newcomers sent away {sent_away} times, {open} open",
        rounds.load(SeqCst),
        manner.strangers,
        (moment() - began).as_millis()
    );
    drop(healthy);
    server.stop();
}

#[test]
fn heads_that_never_end_keep_nobody_from_working() {
    let first = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: ".to_vec();
    check("heads", &Manner { strangers: 1000, newcomers: 20, first, then: b'a' });
}

#[test]
fn bodies_that_never_end_keep_nobody_from_working() {
    let first =
        b"POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                  Content-Length: 100000\r\n\r\n"
            .to_vec();
    check("bodies", &Manner { strangers: 1000, newcomers: 20, first, then: b' ' });
}

#[test]
fn answers_that_nobody_takes_keep_nobody_from_working() {
    // More answers than the buffers of a connection hold, with the next request never whole. It takes
    // a while to fill those buffers, so there are fewer strangers.
    let request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut first = request.repeat(400);
    first.extend_from_slice(b"GET /");
    check("answers", &Manner { strangers: 200, newcomers: 4, first, then: b'a' });
}

#[test]
fn a_stranger_who_is_sent_away_is_told_or_closed() {
    // Nobody waits for ever: a connection among more than there are places for ends.
    raise_own_limit();
    let folder = private_folder();
    let server = Launch::new(folder.path()).by_shell("ulimit -n 128; exec \"$0\" \"$@\"").ready();
    let mut strangers: Vec<Client> = (0..200).map(|_| server.stranger()).collect();
    assert_eq!(newcomer(&server, None), 0);
    // At least those for whom there was no place have been closed.
    let mut closed = 0;
    for stranger in &mut strangers {
        let socket = stranger.socket();
        socket.set_nonblocking(true).unwrap();
        match (&mut &*socket).read(&mut [0; 1]) {
            Ok(0) => closed += 1,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => closed += 1,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            Ok(_) => {}
        }
    }
    assert!(200 - 64 <= closed, "{closed} of 200 were closed");
    server.stop();
}
