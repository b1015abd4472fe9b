//! The way to the end of a server, and what systemd has to do with it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use holdfast::testing::wait_until;
use rustix::process::Signal;
use serde_json::json;

use crate::serving::{ANSWER_WITHIN, Client, Launch, Server, private_folder};

/// An end that waits for nobody; far from the ten seconds after which a server stops waiting.
const AT_ONCE: Duration = Duration::from_secs(4);

/// A request whose handler waits for the rest of its body.
struct Parked {
    client: Client,
    rest: String,
}

impl Parked {
    fn new(server: &Server, name: &str) -> Parked {
        let mut client = server.administrator();
        let body = json!({"name": name, "scopes": ["series:read"]}).to_string();
        let (first, rest) = body.split_at(body.len() / 2);
        let length = format!("Content-Length: {}", body.len());
        let lines = ["Content-Type: application/json", &length, "Expect: 100-continue"];
        let head = client.head("POST", "/v1/tokens", &lines);
        client.send(head.as_bytes()).unwrap();
        // Said when somebody begins to read the body.
        client.told_to_continue().unwrap();
        client.send(first.as_bytes()).unwrap();
        Parked { client, rest: rest.to_owned() }
    }
}

/// Tells the server to end and waits until it has heard.
fn terminate(server: &Server) {
    server.signal(Signal::TERM);
    let told = server.told(ANSWER_WITHIN).expect("systemd is told");
    assert!(told.starts_with("STOPPING=1\n"), "{told:?}");
}

/// Waits until new connections are refused. Somebody who was quick enough may still have been let in.
fn no_one_listens(server: &Server) {
    wait_until("new connections are refused", || TcpStream::connect(server.address).is_err());
}

#[test]
fn what_runs_is_finished_and_everything_is_left_in_order() {
    let folder = private_folder();
    let socket = folder.path().join("holdfast.sock");
    let launch = Launch::new(folder.path()).with(&["--socket", socket.to_str().unwrap()]);
    let mut server = launch.ready();
    assert!(socket.exists());
    // Three that are there when the end begins: kept and idle, in the middle of a head, in a body.
    let mut idle = server.stranger();
    assert_eq!(idle.ask("GET", "/readyz", None).unwrap().status, 200);
    let mut asking = server.stranger();
    asking.send(b"GET /readyz HTTP/1.1\r\nHost: lo").unwrap();
    let mut parked = Parked::new(&server, "parked");

    terminate(&server);
    no_one_listens(&server);
    wait_until("nor on the Unix socket", || UnixStream::connect(&socket).is_err());
    assert_eq!(idle.closed().unwrap(), 0, "an idle connection is closed, and nothing is said");
    asking.send(b"calhost\r\n\r\n").unwrap();
    let answer = asking.answer().unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (503, "stopping"), "{answer:?}");
    assert!(answer.closes() && answer.header("retry-after").is_some(), "{answer:?}");
    assert_eq!(asking.closed().unwrap(), 0);
    assert_eq!(server.ended(), None, "it waits for what runs");
    assert!(server.data().join("run.json").exists());

    parked.client.send(parked.rest.as_bytes()).unwrap();
    let answer = parked.client.answer().unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(answer.closes(), "{answer:?}");
    let secret = answer.json()["secret"].as_str().unwrap().to_owned();
    assert_eq!(parked.client.closed().unwrap(), 0);
    let (status, took) = server.wait(AT_ONCE);
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(took < AT_ONCE, "{took:?}");
    assert!(!server.data().join("run.json").exists(), "nobody is sent to a server that is gone");
    assert!(!socket.exists());
    let mark = std::fs::read_to_string(server.data().join("lock")).unwrap();
    assert!(mark.starts_with("stopped 20") && mark.ends_with("Z\n"), "{mark:?}");

    // It was acknowledged, so it is there.
    let server = launch.ready();
    let mut client = server.stranger().with_token(&secret);
    assert_eq!(client.ask("GET", "/v1/status", None).unwrap().status, 200);
    server.stop();
}

#[test]
fn a_second_word_ends_at_once() {
    let folder = private_folder();
    let mut server = Launch::new(folder.path()).ready();
    let mut parked = Parked::new(&server, "parked");
    terminate(&server);
    no_one_listens(&server);
    assert_eq!(server.ended(), None, "it waits for what runs");
    server.signal(Signal::TERM);
    let (status, took) = server.wait(AT_ONCE);
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(parked.client.closed().unwrap(), 0, "no answer was made up");
    let mark = std::fs::read_to_string(server.data().join("lock")).unwrap();
    assert!(mark.starts_with("stopped "), "{mark:?}");
}

#[test]
fn whoever_is_idle_holds_up_nothing() {
    let folder = private_folder();
    let mut server = Launch::new(folder.path()).ready();
    let mut kept: Vec<Client> = (0..20).map(|_| server.stranger()).collect();
    for client in &mut kept {
        assert_eq!(client.ask("GET", "/livez", None).unwrap().status, 200);
    }
    // These have never said anything; the last answer shows that they were taken in.
    let silent: Vec<Client> = (0..20).map(|_| server.stranger()).collect();
    assert_eq!(server.stranger().ask("GET", "/livez", None).unwrap().status, 200);
    server.signal(Signal::INT);
    let (status, took) = server.wait(AT_ONCE);
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(took < Duration::from_secs(3), "{took:?}");
    for mut client in kept.into_iter().chain(silent) {
        assert_eq!(client.closed().unwrap(), 0);
    }
}

/// The status for a request that is meant for `host`.
fn status_for(client: &mut Client, host: &str) -> u16 {
    let text = format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n");
    client.send(text.as_bytes()).unwrap();
    client.answer().unwrap().status
}

#[test]
fn a_hangup_reads_the_settings_again_and_wrong_ones_change_nothing() {
    let folder = private_folder();
    let config = folder.path().join("holdfast.toml");
    let write = |text: &str| std::fs::write(&config, text).unwrap();
    write("");
    let launch = Launch::new(folder.path()).with(&["--config", config.to_str().unwrap()]);
    let mut server = launch.ready();
    let mut client = server.stranger();
    assert_eq!(status_for(&mut client, "shop.example"), 421);

    write("[server]\nhosts = [\"shop.example\"]\n");
    server.signal(Signal::HUP);
    wait_until("the new host is known", || {
        status_for(&mut server.stranger(), "shop.example") == 200
    });
    assert_eq!(status_for(&mut client, "shop.example"), 200, "on old connections, too");

    let problems = |server: &Server| server.log().matches("nothing was changed").count();
    for (n, wrong) in ["[server]\nhosts = 5\n", "[servers]\n", "\0"].into_iter().enumerate() {
        write(wrong);
        server.signal(Signal::HUP);
        wait_until("it is told what is wrong", || n < problems(&server));
        assert_eq!(status_for(&mut client, "shop.example"), 200, "as before");
        assert_eq!(server.ended(), None);
    }
    std::fs::remove_file(&config).unwrap();
    let before = problems(&server);
    server.signal(Signal::HUP);
    wait_until("it is told what is wrong", || before < problems(&server));
    assert_eq!(status_for(&mut client, "shop.example"), 200, "as before");

    write("[server]\nhosts = [\"other.example\"]\n");
    server.signal(Signal::HUP);
    wait_until("the other host is known", || {
        status_for(&mut server.stranger(), "other.example") == 200
    });
    assert_eq!(status_for(&mut client, "shop.example"), 421);
    server.stop();
}

/// Sends one request over the Unix socket and reads all that comes.
fn by_socket(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn sockets_that_systemd_hands_over_are_served_and_outlive_the_server() {
    let folder = private_folder();
    let path = folder.path().join("handed.sock");
    let (tcp, unix) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
    let address = tcp.local_addr().unwrap();
    // What a child inherits without further ado are its standard streams; the shell moves them.
    let launch = Launch::new(folder.path()).by_shell(
        "export LISTEN_PID=$$ LISTEN_FDS=2; exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null",
    );
    let start = || {
        let (tcp, unix) = (tcp.try_clone().unwrap(), unix.try_clone().unwrap());
        launch.start_with(Stdio::from(OwnedFd::from(tcp)), Stdio::from(OwnedFd::from(unix))).ready()
    };
    let server = start();
    assert_eq!(server.address, address, "no other port was opened");
    assert_eq!(server.run["socket"], path.to_str().unwrap());
    assert_eq!(server.stranger().ask("GET", "/readyz", None).unwrap().status, 200);
    assert!(by_socket(&path).starts_with("HTTP/1.1 200 OK\r\n"));
    server.stop();

    // They are systemd's: somebody who comes between two servers is answered by the second.
    assert!(path.exists());
    let mut early = Client::connect(address).unwrap();
    early.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let server = start();
    assert_eq!(early.answer().unwrap().status, 200);
    server.stop();
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_ends() {
    let folder = private_folder();
    let starting = Launch::new(folder.path()).start();
    let told = starting.told(ANSWER_WITHIN).expect("systemd is told");
    // At that moment everything is there that others look for.
    let run = std::fs::read_to_string(folder.path().join("data/run.json")).unwrap();
    let run: serde_json::Value = serde_json::from_str(&run).unwrap();
    let address = run["address"].as_str().unwrap();
    assert_eq!(told, format!("READY=1\nSTATUS=serving on {address}"));
    let mut client = Client::connect(address.parse().unwrap()).unwrap();
    assert_eq!(client.ask("GET", "/readyz", None).unwrap().status, 200);
    let mut server = Server::of(starting);
    terminate(&server);
    let (status, _) = server.wait(AT_ONCE);
    assert_eq!(status.code(), Some(0));
}
