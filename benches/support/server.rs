//! The real server as another process, and one who asks it and waits.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast::io::run_file::{RUN_FILE, RunFile};
use tempfile::TempDir;

pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_holdfast");
/// For whatever has to come to an end by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A process that ends when this is dropped, also by a panic.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Process {
    /// CPU time used so far: that of its threads, to the nanosecond where the kernel counts it so, else
    /// in clock ticks.
    pub(crate) fn cpu(&self) -> Duration {
        cpu_of(&self.0.id().to_string())
    }

    /// Memory that is in RAM now.
    pub(crate) fn resident_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

/// What a process, or `self`, has used.
pub(crate) fn cpu_of(process: &str) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let each = threads.map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    if let Some(all) = each.sum::<Option<u64>>() {
        return Duration::from_nanos(all);
    }
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let ticks = rest.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap());
    Duration::from_secs_f64(
        ticks.sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64,
    )
}

/// The real server.
pub(crate) struct Holdfast {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    pub(crate) ready_after: Duration,
    /// The data directory is `data` in it.
    #[allow(dead_code, reason = "not every benchmark looks into it")]
    pub(crate) folder: TempDir,
}

impl Holdfast {
    /// One in a new data directory.
    pub(crate) fn start() -> Holdfast {
        Holdfast::start_by(Command::new(SERVER).env_clear())
    }

    /// One in a new data directory, which this command starts.
    pub(crate) fn start_by(command: &mut Command) -> Holdfast {
        Holdfast::start_in(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), command)
    }

    /// One in this folder, which may have data.
    pub(crate) fn start_in(folder: TempDir, command: &mut Command) -> Holdfast {
        let data_dir = folder.path().join("data");
        let log = File::options().create(true).append(true).open(folder.path().join("log"));
        let began = Instant::now();
        let child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data_dir)
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn();
        let process = Process(child.unwrap());
        let address = wait_for("run.json", || {
            let text = std::fs::read_to_string(data_dir.join(RUN_FILE)).ok()?;
            // Not what one that was killed has left.
            let run = RunFile::parse(&text).filter(|run| run.pid == process.0.id())?;
            run.address?.parse().ok()
        });
        wait_for("/readyz answers", || {
            let answer =
                ask(&mut connect(address).ok()?, &request(address, "/readyz", None)).ok()?;
            (answer.status == 200).then_some(())
        });
        let ready_after = began.elapsed();
        let token = std::fs::read_to_string(data_dir.join("admin.token")).unwrap();
        let token = token.trim().to_owned();
        Holdfast { process, address, token, ready_after, folder }
    }
}

/// Looks again and again until it is there.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// A GET.
pub(crate) fn request(address: SocketAddr, path: &str, token: Option<&str>) -> Vec<u8> {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let token = token.unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{token}\r\n").into_bytes()
}

/// A whole answer, as it came.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) bytes: Vec<u8>,
    body_at: usize,
}

impl Answer {
    /// Reads `bytes`; `None` as long as they are not whole.
    pub(crate) fn read(bytes: Vec<u8>) -> Option<Answer> {
        let body_at = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..body_at]).expect("the head is text");
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let length = lines.find_map(|line| line.strip_prefix("content-length: "))?;
        let whole = bytes.len() == body_at + length.parse::<usize>().ok()?;
        whole.then_some(Answer { status, bytes, body_at })
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[self.body_at..]
    }
}

/// Connects.
pub(crate) fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Asks once and waits for the answer.
pub(crate) fn ask(stream: &mut TcpStream, request: &[u8]) -> std::io::Result<Answer> {
    send(stream, request)?;
    receive(stream)
}

/// Asks and does not wait.
pub(crate) fn send(stream: &mut TcpStream, request: &[u8]) -> std::io::Result<()> {
    stream.write_all(request)
}

/// Waits for an answer.
pub(crate) fn receive(stream: &mut TcpStream) -> std::io::Result<Answer> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let n = stream.read(&mut part)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&part[..n]);
        if let Some(answer) = Answer::read(bytes.clone()) {
            return Ok(answer);
        }
    }
}
