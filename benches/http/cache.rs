//! The cache over HTTP: hits beside a bare hyper service that answers the same bytes, many keys in one call
//! beside single ones, writes, and Redis where it is installed.

use std::net::SocketAddr;

use crate::figures::{Limit, target};
use crate::server::{Holdfast, ask, connect};
use crate::{CONNECTIONS, Measurement, Peer, Target, in_rounds, redis};

/// Keys of one size that are asked for, one after the other.
const KEYS: usize = 1000;
/// Keys of one call.
const TOGETHER: usize = 100;
const SMALL: usize = 100;
const LARGE: usize = 10 << 10;

/// A request with a body, or without.
pub(super) fn call(server: &Holdfast, line: &str, body: &[u8]) -> Vec<u8> {
    let (address, token) = (server.address, &server.token);
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    let head = format!(
        "{line} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{length}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn key(bytes: usize, n: usize) -> String {
    format!("bench:{bytes}:{n:04}")
}

fn path(bytes: usize, n: usize) -> String {
    format!("/v1/cache/bench/keys/{}", key(bytes, n))
}

fn value(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect()
}

/// Writes of values of this size, to all of its keys.
fn puts(server: &Holdfast, bytes: usize) -> Vec<Vec<u8>> {
    let line = |n| format!("PUT {}?ttl=1h", path(bytes, n));
    (0..KEYS).map(|n| call(server, &line(n), &value(bytes))).collect()
}

/// What asks for them, after they were put.
fn gets(server: &Holdfast, bytes: usize) -> Vec<Vec<u8>> {
    let mut stream = connect(server.address).unwrap();
    for put in puts(server, bytes) {
        assert!(ask(&mut stream, &put).unwrap().status < 300, "it is put");
    }
    (0..KEYS).map(|n| call(server, &format!("GET {}", path(bytes, n)), &[])).collect()
}

/// Calls that ask for a hundred keys each, which never end: the answers are of one length.
fn gets_together(server: &Holdfast) -> Vec<Vec<u8>> {
    let mut stream = connect(server.address).unwrap();
    let entry = |n: &usize| {
        let value = String::from_utf8(value(SMALL)).unwrap();
        serde_json::json!({ "key": key(SMALL, *n), "value": value })
    };
    let numbers: Vec<usize> = (0..KEYS).collect();
    let calls = numbers.chunks(TOGETHER).map(|numbers| {
        let entries: Vec<_> = numbers.iter().map(entry).collect();
        let body = serde_json::json!({ "entries": entries }).to_string();
        let put = call(server, "POST /v1/cache/many/put", body.as_bytes());
        assert_eq!(ask(&mut stream, &put).unwrap().status, 200);
        let keys: Vec<_> = numbers.iter().map(|n| key(SMALL, *n)).collect();
        let body = serde_json::json!({ "keys": keys }).to_string();
        call(server, "POST /v1/cache/many/get", body.as_bytes())
    });
    calls.collect()
}

/// The same requests to a service that answers all of them with the first answer.
fn peer_of(requests: &[Vec<u8>], ours: SocketAddr) -> (Peer, Target) {
    let (_, answer) = Target::of(ours, requests.to_vec());
    let peer = Peer::start(&answer);
    let (target, bare) = Target::of(peer.address, requests.to_vec());
    assert_eq!(bare.body(), answer.body(), "the same bytes");
    (peer, target)
}

/// The scene.
pub(super) fn scene() {
    let server = Holdfast::start_with_budget("256MiB");
    let ours = |requests: &[Vec<u8>]| Target::of(server.address, requests.to_vec()).0;
    let (small, large) = (gets(&server, SMALL), gets(&server, LARGE));
    let many = gets_together(&server);
    let (small_peer, small_bare) = peer_of(&small, server.address);
    let (large_peer, large_bare) = peer_of(&large, server.address);
    let mut all = [
        Measurement::new("bare hyper, 100 bytes", &small_peer.process, small_bare),
        Measurement::new("GET hit, 100 bytes", &server.process, ours(&small)),
        Measurement::new("bare hyper, 10 KB", &large_peer.process, large_bare),
        Measurement::new("GET hit, 10 KB", &server.process, ours(&large)),
        Measurement::new("POST get, 100 keys of 100 bytes", &server.process, ours(&many)),
        Measurement::new("PUT, 100 bytes", &server.process, ours(&puts(&server, SMALL))),
        Measurement::new("PUT, 10 KB", &server.process, ours(&puts(&server, LARGE))),
    ];
    let rounds = in_rounds(&mut all);
    println!(
        "\ncache: {CONNECTIONS} connections, each asking again at once, {KEYS} keys in turn; medians \
         of {rounds} rounds\n"
    );
    Measurement::print_head();
    all.iter().for_each(Measurement::print);
    println!();
    let rate = |n: usize| all[n].median(|s| s.per_second);
    for (bare, ours) in [(0, 1), (2, 3)] {
        let name = all[ours].name;
        target(&format!("{name} / bare, req/s"), rate(ours) / rate(bare), Limit::AtLeast(0.75));
        let cpu = all[bare].cpu_us(|s| s.server_cpu) / all[ours].cpu_us(|s| s.server_cpu);
        println!("{:<54} {cpu:>8.2}", "  bare / ours, CPU");
        let p99_ms = all[ours].median(|s| s.p99_us) / 1000.0;
        target(&format!("{name}, p99, ms"), p99_ms, Limit::AtMost(3.0));
    }
    let keys = TOGETHER as f64 * rate(4);
    target("keys/s in calls of 100 / in single calls", keys / rate(1), Limit::AtLeast(10.0));
    println!("{:<54} {keys:>8.0}", "  keys/s in calls of 100");
    redis::scene(SMALL, TOGETHER);
}
