//! What tests of the real binary share: a server on a folder of its own, and a client that sends bytes
//! exactly as they are given.
//!
//! ```no_run
//! let server = Server::start();
//! let client = server.client(Door::Unix);
//! assert_eq!(client.get("/v1/status").status, 200);
//! let mut connection = client.connect();
//! connection.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
//! assert_eq!(connection.receive().status, 200);
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use holdfast::io::run_file::{RUN_FILE, RunFile};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Waits until `look` finds something, for a minute or so.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE.as_millis() / LOOK_EVERY.as_millis() {
        if let Some(found) = look() {
            return found;
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    panic!("still not after {PATIENCE:?}: {what}");
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// A name that nobody else in this process has.
pub(crate) fn fresh(word: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{word}-{}", NEXT.fetch_add(1, Relaxed))
}

/// The binary, with nothing of our own environment that could change what it does.
pub(crate) fn holdfast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.env_clear().stdin(Stdio::null());
    if let Some(path) = holdfast::testing::text_from_environment("PATH") {
        command.env("PATH", path);
    }
    // Where a build that measures what is covered writes to.
    if let Some(profile) = holdfast::testing::text_from_environment("LLVM_PROFILE_FILE") {
        command.env("LLVM_PROFILE_FILE", profile);
    }
    command
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Ran {
    run_with(arguments, "")
}

/// Runs a command to its end, with something on its standard input.
pub(crate) fn run_with(arguments: &[&str], input: &str) -> Ran {
    let mut command = holdfast();
    command.args(arguments);
    finish(command, input)
}

/// Runs `command` to its end.
pub(crate) fn finish(mut command: Command, input: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Whoever does not read it has ended already.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A server on a folder of its own; both end with this value.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    options: Vec<String>,
    child: Child,
    run: RunFile,
    token: String,
    /// Whom a client trusts, when the server speaks TLS.
    tls: Option<Arc<ClientConfig>>,
}

impl Server {
    /// Starts one with nothing set but where it is.
    pub(crate) fn start() -> Server {
        Server::start_with("", &[])
    }

    /// Starts one with this configuration and these further options of `serve`.
    pub(crate) fn start_with(config: &str, options: &[&str]) -> Server {
        Server::start_in(tempfile::tempdir().unwrap(), config, options)
    }

    /// Starts one whose data directory is `data` in this folder.
    pub(crate) fn start_in(folder: tempfile::TempDir, config: &str, options: &[&str]) -> Server {
        fs::write(folder.path().join("holdfast.toml"), config).unwrap();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let child = spawn(folder.path(), &options);
        let (child, run) = until_it_serves(folder.path(), child);
        let token = fs::read_to_string(folder.path().join("data/admin.token")).unwrap();
        let token = token.trim().to_owned();
        Server { folder, options, child, run, token, tls: None }
    }

    /// The folder; the data directory is `data` in it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.run.address.as_ref().unwrap().parse().unwrap()
    }

    /// The path of its Unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.run.socket.as_ref().unwrap().into()
    }

    /// The administrator's token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Replaces its configuration; it is told nothing.
    pub(crate) fn write_config(&self, config: &str) {
        fs::write(self.folder.path().join("holdfast.toml"), config).unwrap();
    }

    /// From now on clients speak TLS with it.
    pub(crate) fn speak_tls(&mut self, config: Arc<ClientConfig>) {
        self.tls = Some(config);
    }

    /// Sends a signal to its process.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until its process has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the server ends", || self.child.try_wait().unwrap())
    }

    /// Whether its process is there.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Tells it to end and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Kills it without a word.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same folder with the same options; stops it before, if it runs.
    pub(crate) fn restart(&mut self) {
        if self.is_running() {
            self.stop();
        }
        self.child = spawn(self.folder.path(), &self.options);
        let (pid, folder) = (self.child.id(), self.folder.path());
        self.run = wait_for("the server serves again", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", log_of(folder));
            }
            run_file(folder, pid)
        });
    }

    /// Starts it again with these options instead of the ones before; it must have ended.
    pub(crate) fn restart_with(&mut self, options: &[&str]) {
        self.options = options.iter().map(|option| (*option).to_owned()).collect();
        self.restart();
    }

    /// A client by this door, as the administrator.
    pub(crate) fn client(&self, door: Door) -> Client<'_> {
        Client { server: self, door, token: Some(self.token.clone()) }
    }

    /// A connection by this door.
    pub(crate) fn connect(&self, door: Door) -> Connection {
        let wire = match (door, &self.tls) {
            (Door::Unix, _) => {
                let stream = UnixStream::connect(self.socket()).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Wire::Unix(stream)
            }
            (Door::Tcp, None) => Wire::Tcp(self.connect_tcp()),
            (Door::Tcp, Some(config)) => {
                let name = ServerName::try_from("localhost").unwrap();
                let session = ClientConnection::new(Arc::clone(config), name).unwrap();
                Wire::Tls(Box::new(StreamOwned::new(session, self.connect_tcp())))
            }
        };
        Connection { wire, received: Vec::new() }
    }

    fn connect_tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is only waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `holdfast serve` on this folder, with these further options, not yet started.
pub(crate) fn serve(folder: &Path) -> Command {
    let mut command = holdfast();
    command.arg("serve").args(["--listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(folder.join("data"));
    command.arg("--socket").arg(folder.join("s.sock"));
    command.arg("--config").arg(folder.join("holdfast.toml"));
    command
}

fn spawn(folder: &Path, options: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = serve(folder);
    command.args(options).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap()
}

fn log_of(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// What the process with this number wrote when it began to serve. A file that a killed one left is not
/// it.
fn run_file(folder: &Path, pid: u32) -> Option<RunFile> {
    let text = fs::read_to_string(folder.join("data").join(RUN_FILE)).ok()?;
    RunFile::parse(&text).filter(|run| run.pid == pid)
}

fn until_it_serves(folder: &Path, mut child: Child) -> (Child, RunFile) {
    let run = wait_for("the server serves", || {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("the server ended with {status}: {}", log_of(folder));
        }
        run_file(folder, child.id())
    });
    (child, run)
}

/// By which way a client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// TCP, with TLS when the server has it.
    Tcp,
    /// The Unix socket.
    Unix,
}

/// Speaks to one server by one door, with one token or none; each request on a connection of its own.
#[derive(Clone)]
pub(crate) struct Client<'s> {
    pub(crate) server: &'s Server,
    pub(crate) door: Door,
    token: Option<String>,
}

impl<'s> Client<'s> {
    /// The same with this token.
    pub(crate) fn with_token(&self, token: &str) -> Client<'s> {
        Client { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same without a token.
    pub(crate) fn stranger(&self) -> Client<'s> {
        Client { token: None, ..self.clone() }
    }

    /// A connection on which nothing was said yet.
    pub(crate) fn connect(&self) -> Connection {
        self.server.connect(self.door)
    }

    /// A request with this client's token.
    pub(crate) fn request(&self, method: &str, target: &str) -> Request {
        let request = Request::new(method, target);
        match &self.token {
            Some(token) => request.bearer(token),
            None => request,
        }
    }

    /// Sends a request as it is.
    pub(crate) fn send(&self, request: &Request) -> Answer {
        self.connect().ask(request)
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.send(&self.request("GET", target))
    }

    pub(crate) fn post(&self, target: &str, body: &Value) -> Answer {
        self.send(&self.request("POST", target).json(body))
    }

    pub(crate) fn put(&self, target: &str, body: &Value) -> Answer {
        self.send(&self.request("PUT", target).json(body))
    }

    pub(crate) fn delete(&self, target: &str) -> Answer {
        self.send(&self.request("DELETE", target))
    }
}

/// A request in the making.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// With nothing but `Host: localhost`.
    pub(crate) fn new(method: &str, target: &str) -> Request {
        let headers = vec![("Host".to_owned(), "localhost".to_owned())];
        Request { method: method.to_owned(), target: target.to_owned(), headers, body: None }
    }

    pub(crate) fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    /// With a further header, also when there is one of that name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without any header of that name.
    pub(crate) fn without(mut self, name: &str) -> Request {
        self.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Request {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// With these bytes as its body, and their length.
    pub(crate) fn body(mut self, bytes: &[u8]) -> Request {
        self.body = Some(bytes.to_vec());
        self.header("Content-Length", &bytes.len().to_string())
    }

    pub(crate) fn json(self, value: &Value) -> Request {
        self.header("Content-Type", "application/json").body(value.to_string().as_bytes())
    }

    /// With these bytes as its body, in chunks.
    pub(crate) fn chunked(mut self, bytes: &[u8]) -> Request {
        let mut body = Vec::new();
        for part in bytes.chunks(8000) {
            body.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            body.extend_from_slice(part);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        self.body = Some(body);
        self.header("Transfer-Encoding", "chunked")
    }

    /// As it goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// The bytes between a client and a server.
pub(crate) enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Tcp(stream) => stream.read(buffer),
            Wire::Unix(stream) => stream.read(buffer),
            Wire::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Tcp(stream) => stream.write(bytes),
            Wire::Unix(stream) => stream.write(bytes),
            Wire::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Tcp(stream) => stream.flush(),
            Wire::Unix(stream) => stream.flush(),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}

/// A connection, and what came on it and was not read yet.
pub(crate) struct Connection {
    wire: Wire,
    received: Vec<u8>,
}

impl Connection {
    /// Sends these bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// Sends these bytes as far as they are taken.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes)?;
        self.wire.flush()
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub(crate) fn end_sending(&mut self) {
        let how = std::net::Shutdown::Write;
        match &mut self.wire {
            Wire::Tcp(stream) => stream.shutdown(how).unwrap(),
            Wire::Unix(stream) => stream.shutdown(how).unwrap(),
            Wire::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            }
        }
    }

    /// Sends a request and reads its answer.
    pub(crate) fn ask(&mut self, request: &Request) -> Answer {
        self.send(&request.bytes());
        if request.method == "HEAD" { self.receive_head() } else { self.receive() }
    }

    /// Reads one answer.
    pub(crate) fn receive(&mut self) -> Answer {
        self.try_receive().expect("the connection was closed instead of an answer")
    }

    /// Reads one answer; `None` when the connection ends before it begins.
    pub(crate) fn try_receive(&mut self) -> Option<Answer> {
        let mut answer = self.try_receive_head()?;
        let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
        while self.received.len() < length {
            assert!(self.read_more(), "the connection ended within a body: {answer:?}");
        }
        answer.body = self.received.drain(..length).collect();
        Some(answer)
    }

    /// Reads the head of one answer, and no body: that of an answer to HEAD, or an interim one.
    pub(crate) fn receive_head(&mut self) -> Answer {
        self.try_receive_head().expect("the connection was closed instead of an answer")
    }

    fn try_receive_head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.read_more() {
                let rest = String::from_utf8_lossy(&self.received).into_owned();
                assert!(rest.is_empty(), "the connection ended within a head: {rest:?}");
                return None;
            }
        };
        let head: Vec<u8> = self.received.drain(..end).collect();
        Some(Answer::parse_head(&String::from_utf8(head).unwrap()))
    }

    /// Reads until the server closes, and gives everything that came.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        while self.read_more() {}
        std::mem::take(&mut self.received)
    }

    /// Waits until the server closes; nothing may come before that.
    pub(crate) fn expect_closed(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "more came: {:?}", String::from_utf8_lossy(&rest));
    }

    /// Reads what there is; false when the server has closed, in order or not.
    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.wire.read(&mut buffer) {
            Ok(0) => false,
            Ok(n) => {
                self.received.extend_from_slice(&buffer[..n]);
                true
            }
            Err(error) => {
                let late =
                    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                assert!(!late, "nothing comes, and it is not closed either");
                false
            }
        }
    }
}

/// An answer as it came over the wire.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, self.body.escape_ascii())
    }
}

impl Answer {
    fn parse_head(head: &str) -> Answer {
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let status = lines.next().unwrap();
        assert!(status.starts_with("HTTP/1."), "{status:?}");
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Answer { status, headers: headers.collect(), body: Vec::new() }
    }

    /// The header with this name, which may be there once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(header, _)| header == name);
        let first = found.next();
        assert!(found.next().is_none(), "{name} is there twice: {:?}", self.headers);
        first.map(|(_, value)| value.as_str())
    }

    /// How long the server took for it, waiting included.
    pub(crate) fn response_ms(&self) -> f64 {
        let time = self.header("x-response-time").unwrap();
        time.strip_suffix("ms").unwrap().parse().unwrap()
    }

    /// It was answered clearly before a wait of 50 s was over: somebody woke it.
    #[track_caller]
    pub(crate) fn woken(self) -> Answer {
        assert!(self.response_ms() < 20_000.0, "nobody woke it: {self:?}");
        self
    }

    /// Whether the connection ends with it.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The code of a problem.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Asserts the status and gives the body.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text} {:?}", self.headers);
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Asserts that it is a problem document with this status and code, and gives it.
    #[track_caller]
    pub(crate) fn expect_problem(&self, status: u16, code: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem["code"], code, "{problem}");
        problem
    }
}
