//! A server of a few lines that speaks as the queues of the API do, for tests of the command line alone: it
//! gives out the jobs it is told to, notes every call, and answers or fails as a test wants.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Ran, holdfast, wait_for};

/// A request that came in.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Method and target.
    pub(crate) line: String,
    /// Its headers, in lower case.
    pub(crate) headers: Vec<String>,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

impl Call {
    /// Its body as JSON; null without one.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// What is said to calls whose line contains a text, so many times.
struct Saying {
    to: String,
    times: usize,
    status: u16,
    body: Value,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<String>,
    calls: Vec<Call>,
    sayings: Vec<Saying>,
    away: bool,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

/// The server; it ends with this value.
pub(crate) struct StandIn {
    pub(crate) folder: tempfile::TempDir,
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl StandIn {
    #[expect(clippy::disallowed_methods, reason = "a server of its own, beside the test")]
    pub(crate) fn start() -> StandIn {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hf_secret_of_the_worker\n").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if served.state.lock().ended {
                    return;
                }
                let shared = Arc::clone(&served);
                // Whoever breaks off is heard no more.
                std::thread::spawn(move || drop(serve(&shared, stream.unwrap())));
            }
        });
        StandIn { folder, address, shared, acceptor: Some(acceptor) }
    }

    /// Has a job to give out; its id is `id`, its lease `lease-id`.
    pub(crate) fn push(&self, id: &str, payload: &str, more: &Value) {
        let lease = format!("lease-{id}");
        let mut job = json!({
            "id": id, "lease": lease, "fence": 7, "queue": "mail", "type": "welcome", "attempt": 2,
            "errors": 0, "max_tries": 10, "tags": []
        });
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        // The payload as the text it is.
        let text = job.to_string();
        let text = format!("{},\"payload\":{payload}}}", text.strip_suffix('}').unwrap());
        self.shared.state.lock().jobs.push_back(text);
        self.shared.news.notify_all();
    }

    /// From now on says this to calls whose line contains this text, so many times.
    pub(crate) fn say(&self, to: &str, times: usize, status: u16, body: Value) {
        let saying = Saying { to: to.to_owned(), times, status, body };
        self.shared.state.lock().sayings.insert(0, saying);
    }

    /// Breaks off every connection, or serves again.
    pub(crate) fn set_away(&self, away: bool) {
        self.shared.state.lock().away = away;
        self.shared.news.notify_all();
    }

    /// All calls so far whose line contains this text.
    pub(crate) fn calls(&self, text: &str) -> Vec<Call> {
        let state = self.shared.state.lock();
        state.calls.iter().filter(|call| call.line.contains(text)).cloned().collect()
    }

    /// What was asked for by those who wanted jobs.
    pub(crate) fn leases(&self) -> Vec<Value> {
        let calls = self.calls("POST /v1/lease").into_iter();
        calls.filter(|call| call.line == "POST /v1/lease").map(|call| call.json()).collect()
    }

    /// Waits for a call whose line contains this text.
    #[track_caller]
    pub(crate) fn wait_call(&self, text: &str) -> Call {
        wait_for(&format!("a call {text}"), || self.calls(text).into_iter().next())
    }

    /// The binary, as a client of this server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = holdfast();
        command.args(["--url", &format!("http://{}", self.address)]);
        command.arg("--token-file").arg(self.folder.path().join("token"));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// `holdfast work` with these options, running `sh -c script`.
    pub(crate) fn work(&self, options: &[&str], script: &str) -> Work {
        let mut command = self.command(&["work", "mail", "--lease", "1s"]);
        command.args(options).args(["--", "sh", "-c", script]);
        Work::spawn(command)
    }

    /// What a script wrote into this file of the folder, when it ends with a line break.
    pub(crate) fn wait_file(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        wait_for(&format!("a file {name}"), || {
            std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
        })
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.shared.state.lock().ended = true;
        self.shared.news.notify_all();
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

fn serve(shared: &Shared, stream: TcpStream) -> std::io::Result<()> {
    let call = read(&stream)?;
    let (is_lease, is_beat) = (call.line == "POST /v1/lease", call.line.ends_with("/beat"));
    let mut state = shared.state.lock();
    if state.away {
        return Ok(());
    }
    let line = call.line.clone();
    state.calls.push(call);
    let said =
        state.sayings.iter_mut().find(|saying| 0 < saying.times && line.contains(&saying.to));
    let (status, body) = if let Some(said) = said {
        said.times -= 1;
        (said.status, said.body.to_string())
    } else if is_lease {
        while state.jobs.is_empty() && !state.ended && !state.away {
            shared.news.wait_for(&mut state, Duration::from_secs(20));
        }
        if state.away {
            return Ok(());
        }
        (200, format!("{{\"jobs\":[{}]}}", state.jobs.pop_front().unwrap_or_default()))
    } else if is_beat {
        (200, json!({ "command": "run", "cancel": [] }).to_string())
    } else {
        (200, json!({ "state": "done", "items": [], "next": null }).to_string())
    };
    drop(state);
    answer(stream, status, &body)
}

fn read(stream: &TcpStream) -> std::io::Result<Call> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let line = head.first().cloned().unwrap_or_default();
    let headers: Vec<String> = head.iter().skip(1).map(|line| line.to_lowercase()).collect();
    let length = headers.iter().find_map(|header| header.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body)?;
    let line = line.trim_end_matches(" HTTP/1.1").to_owned();
    Ok(Call { line, headers, body })
}

fn answer(mut stream: TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes())
}

/// A worker that runs. What it says goes into files, so that it never waits for the test.
pub(crate) struct Work {
    child: Child,
    said: [File; 2],
}

impl Work {
    pub(crate) fn spawn(mut command: Command) -> Work {
        let said = [(); 2].map(|()| tempfile::tempfile().unwrap());
        let [out, err] = said.each_ref().map(|file| file.try_clone().unwrap());
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        Work { child: command.spawn().unwrap(), said }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) fn end(mut self) -> Ran {
        let status = wait_for("the worker ends", || self.child.try_wait().unwrap());
        let [out, err] = self.said.each_mut().map(|file| {
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        });
        Ran { code: status.code().unwrap_or(-1), out, err }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // One that has ended already is only waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether a process is there and is no corpse.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}
