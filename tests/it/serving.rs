//! The real server as another process, and a client that speaks to it byte by byte.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Answer, holdfast};

/// A server that is not ready by then does not start.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(20);
/// An answer that is not there by then does not come.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The moment, for deadlines of tests.
#[expect(clippy::disallowed_methods, reason = "tests of real processes take real time")]
pub(crate) fn moment() -> Instant {
    Instant::now()
}

/// A folder that only its owner can enter.
pub(crate) fn private_folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

/// How a server is started.
pub(crate) struct Launch {
    home: PathBuf,
    arguments: Vec<String>,
    shell: Option<String>,
}

impl Launch {
    /// On any free port; everything of it stands in `home`, the data in `home/data`.
    pub(crate) fn new(home: &Path) -> Launch {
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--log-level", "warn"];
        let arguments = arguments.map(str::to_owned).to_vec();
        Launch { home: home.to_owned(), arguments, shell: None }
    }

    /// With these arguments, too.
    pub(crate) fn with(mut self, arguments: &[&str]) -> Launch {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Started by a shell that runs `script`, in which `"$0" "$@"` is the server.
    pub(crate) fn by_shell(mut self, script: &str) -> Launch {
        self.shell = Some(script.to_owned());
        self
    }

    /// The command, before anything is started.
    fn command(&self) -> Command {
        let mut command = match &self.shell {
            None => holdfast(),
            Some(script) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", script, env!("CARGO_BIN_EXE_holdfast")]).env_clear();
                shell
            }
        };
        command.args(&self.arguments).arg("--data-dir").arg(self.home.join("data"));
        command
    }

    /// Starts it with this standard input and output, and does not wait.
    pub(crate) fn start_with(&self, input: Stdio, output: Stdio) -> Starting {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let notify_path = self.home.join(format!("notify-{number}"));
        let notify = UnixDatagram::bind(&notify_path).unwrap();
        let log = self.home.join("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = self
            .command()
            .env("NOTIFY_SOCKET", &notify_path)
            .stdin(input)
            .stdout(output)
            .stderr(log)
            .spawn()
            .unwrap();
        Starting { home: self.home.clone(), child: Some(child), notify, notify_path }
    }

    /// Starts it and does not wait.
    pub(crate) fn start(&self) -> Starting {
        self.start_with(Stdio::null(), Stdio::null())
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn ready(&self) -> Server {
        self.start().ready()
    }
}

/// A server that may not be ready yet.
pub(crate) struct Starting {
    home: PathBuf,
    child: Option<Child>,
    notify: UnixDatagram,
    notify_path: PathBuf,
}

impl Starting {
    /// What it tells systemd next, if it does so within `patience`.
    pub(crate) fn told(&self, patience: Duration) -> Option<String> {
        self.notify.set_read_timeout(Some(patience.max(Duration::from_micros(1)))).unwrap();
        let mut text = [0; 1000];
        let n = self.notify.recv(&mut text).ok()?;
        Some(String::from_utf8(text[..n].to_vec()).unwrap())
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until it says that it is ready.
    pub(crate) fn ready(self) -> Server {
        let deadline = moment() + READY_WITHIN;
        let mut starting = self;
        loop {
            if let Some(text) = starting.told(Duration::from_millis(250)) {
                assert!(text.starts_with("READY=1\n"), "{text:?}");
                return Server::of(starting);
            }
            if let Some(status) = starting.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("it ended with {status}: {}", starting.log());
            }
            assert!(moment() < deadline, "not ready in time: {}", starting.log());
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.notify_path));
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A server that is ready. Dropping it kills it.
pub(crate) struct Server {
    process: Starting,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What `run.json` says.
    pub(crate) run: Value,
    /// The administrator's token.
    pub(crate) admin: String,
}

impl Server {
    /// The server that this process is, which has said that it is ready.
    pub(crate) fn of(process: Starting) -> Server {
        let data = process.home.join("data");
        let run = std::fs::read_to_string(data.join("run.json")).unwrap();
        let run: Value = serde_json::from_str(&run).unwrap();
        let pid = process.child.as_ref().unwrap().id();
        assert_eq!(run["pid"], pid, "run.json is of this process");
        let address = run["address"].as_str().unwrap().parse().unwrap();
        let admin = std::fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned();
        Server { process, address, run, admin }
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.process.home.join("data")
    }

    /// What it and those before it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// What it tells systemd next, if it does so within `patience`.
    pub(crate) fn told(&self, patience: Duration) -> Option<String> {
        self.process.told(patience)
    }

    /// A connection without a token.
    pub(crate) fn stranger(&self) -> Client {
        Client::connect(self.address).unwrap()
    }

    /// A connection with the administrator's token.
    pub(crate) fn administrator(&self) -> Client {
        self.stranger().with_token(&self.admin)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.process.child.as_ref().unwrap().id();
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.child.as_mut().unwrap().try_wait().unwrap()
    }

    /// Waits until it ends, at most `patience`; how, and after how long.
    pub(crate) fn wait(&mut self, patience: Duration) -> (ExitStatus, Duration) {
        let began = moment();
        loop {
            // Nothing is told after `STOPPING=1`: this waits, and looks again now and then.
            drop(self.told(Duration::from_millis(5)));
            if let Some(status) = self.ended() {
                return (status, moment() - began);
            }
            assert!(moment() - began < patience, "still there after {patience:?}: {}", self.log());
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(self) {
        self.process.kill();
    }

    /// Tells it to end and waits until it has, in order.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let (status, _) = self.wait(Duration::from_secs(20));
        assert!(status.success(), "it ended with {status}: {}", self.log());
    }
}

/// One connection, kept between requests. It never connects again by itself.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    token: Option<String>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        Ok(Client { stream: BufReader::new(stream), token: None })
    }

    /// Shows this token with each request.
    pub(crate) fn with_token(mut self, token: &str) -> Client {
        self.token = Some(token.to_owned());
        self
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// The head of a request, with further header lines.
    pub(crate) fn head(&self, method: &str, path: &str, lines: &[&str]) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(token) = &self.token {
            head.push_str("Authorization: Bearer ");
            head.push_str(token);
            head.push_str("\r\n");
        }
        for line in lines {
            head.push_str(line);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        head
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a request with a body of JSON, if there is one, and reads the answer.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> io::Result<Answer> {
        self.ask_as("", method, path, body)
    }

    /// The same, with an id for the request unless it is empty.
    pub(crate) fn ask_as(
        &mut self,
        id: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> io::Result<Answer> {
        let line = format!("X-Request-Id: {id}");
        let lines = [line.as_str()];
        self.ask_with(if id.is_empty() { &[] } else { &lines }, method, path, body)
    }

    /// The same, with further header lines.
    pub(crate) fn ask_with(
        &mut self,
        lines: &[&str],
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> io::Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = format!("Content-Length: {}", body.len());
        let mut lines = lines.to_vec();
        if !body.is_empty() {
            lines.extend(["Content-Type: application/json", length.as_str()]);
        }
        let text = self.head(method, path, &lines) + &body;
        self.send(text.as_bytes())?;
        self.answer()
    }

    /// Reads an answer to anything but a HEAD.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| bad(&line))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if status != 204 && status != 304 {
            let length = answer.header("content-length").and_then(|text| text.parse().ok());
            answer.body = vec![0; length.ok_or_else(|| bad("no content-length"))?];
            self.stream.read_exact(&mut answer.body)?;
        }
        Ok(answer)
    }

    /// Reads that the body may be sent.
    pub(crate) fn told_to_continue(&mut self) -> io::Result<()> {
        let (line, end) = (self.line()?, self.line()?);
        if line == "HTTP/1.1 100 Continue" && end.is_empty() { Ok(()) } else { Err(bad(&line)) }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            // Cut in the middle, or before anything came.
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Waits until the other side closes, and counts what it still says.
    pub(crate) fn closed(&mut self) -> io::Result<usize> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(n) => Ok(n),
            // Closed while something of ours was unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(rest.len()),
            Err(error) => Err(error),
        }
    }
}

fn bad(text: &str) -> io::Error {
    io::Error::other(format!("this is not an answer: {text:?}"))
}

/// Has all of them write to the server, and kills it after so many answers that they told of.
pub(crate) fn write_and_kill<W: Send>(
    server: Server,
    writers: &mut [W],
    answers: u64,
    run: impl Fn(&mut W, &Server, &Sender<()>) -> io::Result<()> + Sync,
) {
    let (tell, told) = channel();
    #[expect(clippy::disallowed_methods, reason = "several clients")]
    std::thread::scope(|scope| {
        let (server, run) = (&server, &run);
        for writer in writers {
            let tell = tell.clone();
            scope.spawn(move || {
                let gone = run(writer, server, &tell);
                assert!(gone.is_err(), "it runs until the server is gone");
            });
        }
        for _ in 0..answers {
            told.recv_timeout(Duration::from_mins(1)).unwrap();
        }
        server.signal(Signal::KILL);
    });
    drop(server);
}
