//! Redis on the same machine, where it is installed: its own server and its own generator of requests.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::server::{Process, connect, wait_for};
use crate::{CONNECTIONS, length};

const SERVER: &str = "redis-server";
const GENERATOR: &str = "redis-benchmark";

/// Whether there is such a program.
fn is_installed(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").stdout(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// What the generator says about one command: requests a second and the rest of its line.
fn measure(port: u16, requests: u64, value_bytes: usize, command: &[String]) -> Option<String> {
    let [port, requests] = [u64::from(port), requests].map(|n| n.to_string());
    let (clients, bytes) = (CONNECTIONS.to_string(), value_bytes.to_string());
    let output = Command::new(GENERATOR)
        .args(["-p", &port, "-n", &requests, "-c", &clients, "-d", &bytes, "--csv"])
        .args(command)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    // Newer ones tell first what the columns are.
    text.lines()
        .rfind(|line| line.starts_with('"') && !line.starts_with("\"test\""))
        .map(str::to_owned)
}

/// The second of the quoted columns.
fn per_second(line: &str) -> Option<f64> {
    line.rsplit_once("\",\"")
        .and_then(|_| line.split("\",\"").nth(1))?
        .trim_matches('"')
        .parse()
        .ok()
}

/// Measures it, or says that it is not there.
pub(super) fn scene(value_bytes: usize, together: usize) {
    if !is_installed(SERVER) || !is_installed(GENERATOR) {
        println!("\nRedis is not measured: {SERVER} and {GENERATOR} are not both installed");
        return;
    }
    // The port is free again when the listener is gone.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let child = Command::new(SERVER)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(folder.path())
        .args(["--appendonly", "no", "--daemonize", "no"])
        .stdout(Stdio::null())
        .spawn();
    let _process = Process(child.unwrap());
    wait_for("Redis answers", || connect(([127, 0, 0, 1], port).into()).ok());
    let keys = (0..together).map(|n| format!("bench:{n:04}"));
    let value = "v".repeat(value_bytes);
    let set = ["MSET".to_owned()].into_iter().chain(keys.clone().flat_map(|k| [k, value.clone()]));
    drop(measure(port, 1, value_bytes, &set.collect::<Vec<_>>()));
    println!("\nRedis, {CONNECTIONS} clients of its own generator, which is cheaper than ours\n");
    let test = |name: &str| ["-t".to_owned(), name.to_owned()].to_vec();
    let get_many: Vec<String> = ["MGET".to_owned()].into_iter().chain(keys).collect();
    let seconds = length().as_secs().max(1);
    for (name, command, a_second) in [
        ("SET, 100 bytes", test("set"), 100_000),
        ("GET, 100 bytes", test("get"), 100_000),
        ("MGET of 100 keys", get_many, 5_000),
    ] {
        match measure(port, a_second * seconds, value_bytes, &command) {
            Some(line) => {
                let rate = per_second(&line).unwrap_or(f64::NAN);
                println!("{name:<40} {rate:>9.0}   {line:.100}");
            }
            None => println!("{name:<40} not measured: the generator said nothing"),
        }
    }
}
