//! What a table of routes of our own shows: handlers that panic harm nobody, and the space for bodies is
//! one for all.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::accept::Listener;
use super::openapi;
use super::problem::Problem;
use super::reply::Reply;
use super::routes::{Access, Body, Doc, Handler, Route, Verb};
use crate::app::throttle::Peer;
use crate::base::limits::{BODIES_BYTES_MAX, JSON_BYTES_MAX};
use crate::testing::app::World;

const DOC: Doc = Doc {
    tag: "test",
    operation: "test",
    summary: "",
    request: openapi::NOTHING,
    answers: &[],
    codes: &[],
};

const fn get(path: &'static str, handler: Handler) -> Route {
    let (verb, access, query) = (Verb::Get, Access::Open, &[]);
    Route { verb, path, access, query, body: Body::None, handler, doc: DOC }
}

const TABLE: &[Route] = &[
    get("/well", Handler::Now(|_| Ok(Reply::empty()))),
    get("/now", Handler::Now(|_| panic!("a planned panic"))),
    get("/later", Handler::Later(|_| Box::pin(async { panic!("a planned panic, later") }))),
    get("/pid", Handler::Now(|cx| Err(Problem::malformed(format!("pid {:?}", cx.peer_pid()))))),
    get("/before", Handler::Later(|_| panic!("a planned panic, before the future"))),
    Route {
        verb: Verb::Post,
        body: Body::Json { max: JSON_BYTES_MAX },
        ..get("/body", Handler::Now(|_| Ok(Reply::empty())))
    },
    Route { verb: Verb::Patch, ..get("/well", Handler::Now(|_| Ok(Reply::empty()))) },
];

/// After this one the server closes.
const LAST: &str = "GET /well HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// What a server with [`TABLE`] answers to `request`, when this much of the space for bodies is taken.
fn answers(request: &str, space_taken: usize) -> (String, u64) {
    let world = World::new(1);
    let server = world.server(TABLE);
    let edge = server.edge();
    let permits = u32::try_from(space_taken >> 10).unwrap();
    let _taken = edge.bodies.try_acquire_many(permits).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let said = runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let serving = Arc::clone(&server).serve_stream(theirs, Peer::Local);
        let talking = async {
            let (mut reader, mut writer) = tokio::io::split(ours);
            writer.write_all(request.as_bytes()).await.unwrap();
            let mut said = String::new();
            reader.read_to_string(&mut said).await.unwrap();
            said
        };
        let both = async { tokio::join!(serving, talking).1 };
        tokio::time::timeout(Duration::from_secs(20), both).await.unwrap()
    });
    assert_eq!(edge.figures.in_flight.load(Relaxed), 0, "every request is counted off");
    (said, edge.figures.panics.load(Relaxed))
}

fn statuses(said: &str) -> Vec<&str> {
    said.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

#[test]
fn a_handler_that_panics_is_answered_and_counted_and_the_connection_goes_on() {
    let paths = ["/now", "/well", "/later", "/well", "/before", "/well"];
    let requests = paths.map(|path| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let (said, panics) = answers(&(requests.concat() + LAST), 0);
    assert_eq!(statuses(&said), ["500", "204", "500", "204", "500", "204", "204"], "{said}");
    assert_eq!(panics, 3);
    assert_eq!(said.matches("\"code\":\"internal\"").count(), 3);
    assert!(!said.contains("planned"), "no inner detail: {said}");
}

#[test]
fn a_body_that_finds_no_space_is_refused_and_the_next_one_that_fits_is_not() {
    let post = |bytes: usize| {
        let body = " ".repeat(bytes);
        let json = "Content-Type: application/json";
        format!(
            "POST /body HTTP/1.1\r\nHost: localhost\r\n{json}\r\nContent-Length: {bytes}\r\n\r\n{body}"
        )
    };
    let requests = post(65 << 10) + &post(64 << 10) + &post(60 << 10) + LAST;
    let (said, _) = answers(&requests, BODIES_BYTES_MAX - (64 << 10));
    assert_eq!(statuses(&said), ["503", "204", "204", "204"], "{said}");
    assert!(said.contains("\"code\":\"overloaded\"") && said.contains("retry-after: "), "{said}");
}

/// What is said to whoever talks to a listener, which is asked for the number of their process.
fn told_their_number<S>(listen: impl AsyncFnOnce() -> (Listener, S)) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let world = World::new(1);
    let server = world.server(TABLE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let talking = async {
        let (listener, mut stream) = listen().await;
        server.listen(listener);
        let asked = format!("GET /pid HTTP/1.1\r\nHost: localhost\r\n\r\n{LAST}");
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    };
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(20), talking).await })
        .expect("it is answered")
}

#[test]
fn a_handler_knows_the_process_at_the_other_end_of_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let said = told_their_number(async || {
        let listener = UnixListener::bind(&path).unwrap();
        (Listener::Unix(listener), UnixStream::connect(&path).await.unwrap())
    });
    assert!(said.contains(&format!("pid Some({})", std::process::id())), "{said}");
}

#[test]
fn nobody_has_a_number_on_tcp() {
    let said = told_their_number(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Listener::Tcp(listener), stream)
    });
    assert!(said.contains("pid None"), "{said}");
}

#[test]
fn a_path_that_can_be_patched_says_so() {
    let request = |method| format!("{method} /well HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let methods = ["PATCH", "DELETE", "OPTIONS", "PROPPATCH"].map(request);
    let (said, _) = answers(&(methods.concat() + LAST), 0);
    assert_eq!(statuses(&said), ["204", "405", "405", "405", "204"], "{said}");
    assert_eq!(said.to_ascii_lowercase().matches("allow: get, patch, head").count(), 3, "{said}");
}
