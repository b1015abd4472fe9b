//! The snapshot of the cache over restarts of the real server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::support::{Answer, Door, Request, Server};

const WITH: &str = "[cache]\nsnapshot = true\n";

fn put(server: &Server, target: &str, value: &str) {
    let request = Request::new("PUT", &format!("/v1/cache/{target}")).body(value.as_bytes());
    let bearer = request.bearer(server.token());
    server.client(Door::Tcp).connect().ask(&bearer).expect(201);
}

fn get(server: &Server, target: &str) -> Answer {
    server.client(Door::Tcp).get(&format!("/v1/cache/{target}"))
}

fn snapshot(server: &Server) -> PathBuf {
    server.data_dir().join("cache.snapshot")
}

#[test]
fn what_was_cached_is_there_after_an_end_in_order() {
    let mut server = Server::start_with(WITH, &[]);
    put(&server, "pages/keys/home?ttl=1h&stale=2h&tags=a", "<h1>");
    put(&server, "pages/keys/ever", "for ever");
    put(&server, "pages/keys/short?ttl=1ms", "gone");
    assert!(server.stop().success());
    let mode = fs::metadata(snapshot(&server)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    server.restart();
    assert!(!snapshot(&server).exists(), "it is used once");
    let home = get(&server, "pages/keys/home");
    assert_eq!((home.status, home.text()), (200, "<h1>"));
    let left: u64 = home.header("holdfast-ttl-ms").unwrap().parse().unwrap();
    assert!((3_500_000..3_600_000).contains(&left), "{left}");
    assert_eq!(get(&server, "pages/keys/ever").text(), "for ever");
    get(&server, "pages/keys/short").expect_problem(404, "cache_miss");
    let forget = serde_json::json!({ "tags": ["a"] });
    let forgotten = server.client(Door::Tcp).post("/v1/cache/pages/forget", &forget).expect(200);
    assert_eq!(forgotten["forgotten"], 1);

    // What is forgotten stays forgotten, however the process ends.
    server.kill();
    server.restart();
    get(&server, "pages/keys/home").expect_problem(404, "cache_miss");
    get(&server, "pages/keys/ever").expect_problem(404, "cache_miss");
}

#[test]
fn a_snapshot_that_is_damaged_is_told_and_the_server_starts_without_it() {
    let mut server = Server::start_with(WITH, &[]);
    put(&server, "pages/keys/home", "<h1>");
    assert!(server.stop().success());
    let mut bytes = fs::read(snapshot(&server)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(snapshot(&server), bytes).unwrap();
    server.restart();
    get(&server, "pages/keys/home").expect_problem(404, "cache_miss");
    assert!(server.log().contains("the snapshot is damaged at byte"), "{}", server.log());
    assert!(!snapshot(&server).exists());
}

#[test]
fn without_the_setting_there_is_no_snapshot_and_an_old_one_is_removed() {
    let mut server = Server::start_with(WITH, &[]);
    put(&server, "pages/keys/home", "<h1>");
    assert!(server.stop().success());
    assert!(snapshot(&server).exists());
    server.write_config("[cache]\nsnapshot = false\n");
    server.restart();
    assert!(!snapshot(&server).exists());
    put(&server, "pages/keys/home", "<h1>");
    assert!(server.stop().success());
    assert!(!snapshot(&server).exists());
}

#[test]
fn entries_of_a_tenant_that_is_gone_do_not_come_back() {
    let mut server = Server::start_with(WITH, &[]);
    let client = server.client(Door::Tcp);
    let no_settings = serde_json::json!({});
    client.put("/v1/tenants/acme", &no_settings).expect(201);
    let of_acme = |request: Request| {
        let request = request.header("Holdfast-Tenant", "acme").bearer(server.token());
        server.client(Door::Tcp).connect().ask(&request)
    };
    of_acme(Request::new("PUT", "/v1/cache/pages/keys/k").body(b"v")).expect(201);
    assert!(server.stop().success());
    let kept = fs::read(snapshot(&server)).unwrap();
    server.restart();
    let of_acme = |server: &Server| {
        let request = Request::get("/v1/cache/pages/keys/k").header("Holdfast-Tenant", "acme");
        server.client(Door::Tcp).connect().ask(&request.bearer(server.token()))
    };
    assert_eq!(of_acme(&server).text(), "v");
    let client = server.client(Door::Tcp);
    client.delete("/v1/tenants/acme?confirm=acme");
    client.put("/v1/tenants/acme", &no_settings);
    assert!(server.stop().success());
    // An older snapshot is put back.
    fs::write(snapshot(&server), kept).unwrap();
    server.restart();
    assert_ne!(of_acme(&server).status, 200);
}
