//! Others on the same machine, where they are installed, asked by the same generator in the same run.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::figures::{Limit, target};
use crate::load::{Kind, Sample, Work};
use crate::push::{CYCLE_64, PUSH_64, Samples, measure, measure_peer};
use crate::rounds;
use crate::server::{Holdfast, Process, connect, wait_for};

const CONNECTIONS: usize = 64;
const BEANSTALKD: &str = "beanstalkd";
const REDIS: &str = "redis-server";

/// A peer that runs.
struct Peer {
    process: Process,
    address: SocketAddr,
    _folder: TempDir,
}

impl Peer {
    /// Starts it, or says that it is not there.
    fn start(program: &str, arguments: impl Fn(&str, &str) -> Vec<String>) -> Option<Peer> {
        // The port is free again when the listener is gone.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let place = folder.path().to_str().unwrap();
        let child = Command::new(program)
            .args(arguments(&address.port().to_string(), place))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match child {
            Ok(child) => Process(child),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("{program} is not measured: it is not installed");
                return None;
            }
            Err(error) => panic!("{program}: {error}"),
        };
        wait_for(program, || connect(address).ok());
        Some(Peer { process, address, _folder: folder })
    }

    fn beanstalkd() -> Option<Peer> {
        Peer::start(BEANSTALKD, |port, folder| {
            let words = ["-l", "127.0.0.1", "-p", port, "-b", folder, "-f0"];
            words.map(str::to_owned).to_vec()
        })
    }

    fn redis() -> Option<Peer> {
        Peer::start(REDIS, |port, folder| {
            let words = ["--port", port, "--bind", "127.0.0.1", "--dir", folder, "--save", ""];
            let safe = ["--appendonly", "yes", "--appendfsync", "always"];
            words.into_iter().chain(safe).map(str::to_owned).collect()
        })
    }

    fn measure(&self, kind: Kind) -> Sample {
        measure_peer(&self.process, Work::of_peer(kind, self.address), CONNECTIONS)
    }
}

/// What was measured at one of them: pushes, and whole lives.
#[derive(Default)]
struct Both {
    push: Samples,
    cycle: Samples,
}

/// The scene.
pub(super) fn scene() {
    println!(
        "\npeers: {CONNECTIONS} connections, payloads of 200 bytes, an fsync before each answer\n"
    );
    let server = Holdfast::start();
    let (beanstalkd, redis) = (Peer::beanstalkd(), Peer::redis());
    let [mut ours, mut bean, mut list] = [Both::default(), Both::default(), Both::default()];
    for _ in 0..rounds() {
        ours.push.0.push(measure(&server, PUSH_64));
        ours.cycle.0.push(measure(&server, CYCLE_64));
        if let Some(peer) = &beanstalkd {
            // First the cycles: what the pushes leave would wait before them.
            bean.cycle.0.push(peer.measure(Kind::PutCycle));
            bean.push.0.push(peer.measure(Kind::Put));
        }
        if let Some(peer) = &redis {
            list.cycle.0.push(peer.measure(Kind::ListCycle));
            list.push.0.push(peer.measure(Kind::ListPush));
        }
    }
    Samples::print_head();
    let print = |name: &str, both: &Both| {
        both.push.print(&format!("{name}: push"));
        both.cycle.print(&format!("{name}: push, take, remove"));
    };
    print("Holdfast", &ours);
    if beanstalkd.is_some() {
        print("beanstalkd -f0", &bean);
    }
    if redis.is_some() {
        print("Redis, appendfsync always", &list);
    }
    println!();
    let push = |both: &Both| ours.push.rate() / both.push.rate();
    let cycle = |both: &Both| ours.cycle.rate() / both.cycle.rate();
    if beanstalkd.is_some() {
        target("ours / beanstalkd -f0, push", push(&bean), Limit::AtLeast(1.0));
        target("ours / beanstalkd -f0, cycle", cycle(&bean), Limit::AtLeast(1.0));
    }
    if redis.is_some() {
        println!("{:<54} {:>9.2}   (hoped for: 1)", "ours / Redis, push", push(&list));
        println!("{:<54} {:>9.2}   (hoped for: 1)", "ours / Redis, cycle", cycle(&list));
    }
}
