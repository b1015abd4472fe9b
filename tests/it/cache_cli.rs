//! The cache and the locks from the command line.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Door, Ran, Server, fresh, run, run_with};

fn data_dir(server: &Server) -> String {
    text(&server.data_dir())
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn on(server: &Server, arguments: &[&str]) -> Ran {
    on_with(server, arguments, "")
}

fn on_with(server: &Server, arguments: &[&str], input: &str) -> Ran {
    run_with(&[&["--data-dir", &data_dir(server)], arguments].concat(), input)
}

/// Runs a command that has to end well, and gives what it printed.
#[track_caller]
fn well(server: &Server, arguments: &[&str]) -> String {
    let ran = on(server, arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
    ran.out
}

#[track_caller]
fn refused(server: &Server, arguments: &[&str], code: i32, told: &str) {
    let ran = on(server, arguments);
    assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{arguments:?}: {ran:?}");
    assert!(ran.err.contains(told), "{arguments:?}: {}", ran.err);
}

#[test]
fn a_value_is_put_printed_and_removed() {
    let server = Server::start();
    refused(&server, &["cache", "get", "pages", "home"], 1, "home is not in pages");
    let put =
        on(&server, &["cache", "put", "pages", "home", "<h1>", "--ttl", "5m", "--tags", "a,b"]);
    assert_eq!((put.code, put.err.as_str()), (0, "new\n"), "{put:?}");
    // The bytes alone, so that they can go into a file as they are.
    assert_eq!(well(&server, &["cache", "get", "pages", "home"]), "<h1>");
    let answer = server.client(Door::Tcp).get("/v1/cache/pages/keys/home");
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    let left: u64 = answer.header("holdfast-ttl-ms").unwrap().parse().unwrap();
    assert!((1..=300_000).contains(&left), "{left}");

    let bytes = "from standard input\n\u{e4}";
    let put = ["cache", "put", "pages", "home", "-", "--type", "text/css"];
    assert_eq!(on_with(&server, &put, bytes).err, "replaced\n");
    let out = server.folder().join("out");
    well(&server, &["cache", "get", "pages", "home", "--out", &text(&out)]);
    assert_eq!(fs::read_to_string(&out).unwrap(), bytes);
    let answer = server.client(Door::Tcp).get("/v1/cache/pages/keys/home");
    assert_eq!(answer.header("content-type"), Some("text/css"));

    let put = |more: &[&'static str]| [&["cache", "put", "pages", "home", "-5"][..], more].concat();
    refused(&server, &put(&["--if", "absent"]), 1, "key_exists");
    refused(&server, &put(&["--ttl", "0"]), 1, "invalid_ttl");
    refused(&server, &put(&["--if", "maybe"]), 2, "absent");
    refused(&server, &["cache", "get", "a b", "k"], 1, "invalid_namespace");
    well(&server, &put(&["--if", "present", "--ttl", "class:trend"]));
    assert_eq!(well(&server, &["cache", "get", "pages", "home"]), "-5");

    assert_eq!(on(&server, &["cache", "delete", "pages", "home"]).err, "deleted\n");
    refused(&server, &["cache", "delete", "pages", "home"], 1, "home is not in pages");
}

#[test]
fn keys_that_clients_rewrite_in_a_path_are_reached() {
    let server = Server::start();
    for key in
        ["/", "a//b", "a/", "/a", ".", "..", "a/../b", "./a", "a b?c#d%2F", "\u{e4}/\u{1f600}"]
    {
        let value = format!("value of {key}");
        well(&server, &["cache", "put", "odd", key, &value, "--ttl", "1h", "--tags", "t"]);
        assert_eq!(well(&server, &["cache", "get", "odd", key]), value);
        let answer = server.client(Door::Tcp).post("/v1/cache/odd/get", &json!({ "keys": [key] }));
        assert_eq!(answer.expect(200)["entries"][key]["value"], value, "{key}");
        well(&server, &["cache", "delete", "odd", key]);
        refused(&server, &["cache", "get", "odd", key], 1, "is not in odd");
        refused(&server, &["cache", "delete", "odd", key], 1, "is not in odd");
    }
    refused(&server, &["cache", "put", "odd", "a//b", "x", "--if", "absent"], 2, "--if");
}

#[test]
fn entries_are_forgotten_and_counted() {
    let server = Server::start();
    for (key, tags) in [("a1", "x"), ("a2", "x,y"), ("b1", "y"), ("b2", "z")] {
        well(&server, &["cache", "put", "n", key, "v", "--tags", tags]);
    }
    let forget = |more: &[&str]| well(&server, &[&["cache", "forget", "n"], more].concat());
    assert_eq!(forget(&["--all", "--dry-run"]), "4 would be forgotten\n");
    assert_eq!(forget(&["--tag", "x", "--tag", "nobody"]), "2 forgotten\n");
    assert_eq!(forget(&["--key", "a1", "--key", "b1"]), "1 forgotten\n");
    assert_eq!(forget(&["--prefix", "a"]), "0 forgotten\n");
    assert_eq!(forget(&["--pattern", "b[0-9]", "--json"]), "{\n  \"forgotten\": 1\n}\n");
    assert_eq!(forget(&["--all"]), "0 forgotten\n");
    for arguments in
        [&["cache", "forget", "n"][..], &["cache", "forget", "n", "--all", "--prefix", "a"]]
    {
        refused(&server, arguments, 2, "error:");
    }
}

#[test]
fn figures_are_for_people_or_for_programs() {
    let server = Server::start();
    well(&server, &["cache", "put", "n1", "k", "v"]);
    well(&server, &["cache", "put", "n2", "k", "v"]);
    well(&server, &["cache", "get", "n1", "k"]);
    let table = well(&server, &["cache", "stats"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NAMESPACE  ENTRIES"), "{table}");
    assert!(lines[1].starts_with("n1 ") && lines[1].contains("100.0%"), "{table}");
    assert!(lines[2].starts_with("n2 ") && lines.len() == 3, "{table}");
    let one = well(&server, &["cache", "stats", "n2"]);
    assert_eq!(one.lines().count(), 2, "{one}");
    let parsed: Value =
        serde_json::from_str(&well(&server, &["cache", "stats", "--json"])).unwrap();
    assert_eq!((&parsed[0]["namespace"], &parsed[0]["hits"]), (&json!("n1"), &json!(1)));
    let one: Value =
        serde_json::from_str(&well(&server, &["cache", "stats", "n1", "--json"])).unwrap();
    assert_eq!(one["entries"], 1);
    refused(&server, &["cache", "stats", "n3"], 1, "unknown_namespace");
}

/// A file with these lines.
fn file(server: &Server, lines: &[String]) -> String {
    let path = server.folder().join(fresh("entries"));
    fs::write(&path, lines.join("\n")).unwrap();
    text(&path)
}

fn line(n: usize) -> String {
    json!({ "key": format!("k{n}"), "value": format!("v{n}") }).to_string()
}

#[test]
fn a_file_fills_the_cache() {
    let server = Server::start();
    let mut lines: Vec<String> = (0..2_500).map(line).collect();
    lines.insert(7, String::new());
    lines.push(
        json!({ "namespace": "other", "key": "b", "value": "/w==", "encoding": "base64",
        "ttl": "class:uptime", "stale": 5, "tags": ["t"], "content_type": "image/x" })
        .to_string(),
    );
    let path = file(&server, &lines);
    let out = well(&server, &["cache", "warm", "pages", &path, "--ttl", "1h", "--jitter", "50%"]);
    assert!(out.starts_with("2501 entries, 11.") && out.ends_with("; 0 lines skipped\n"), "{out}");
    let stats = |name: &str| server.client(Door::Tcp).get(&format!("/v1/cache/{name}")).expect(200);
    assert_eq!((&stats("pages")["entries"], &stats("other")["entries"]), (&json!(2500), &json!(1)));

    // The ends are spread, and none is later than asked for.
    let keys: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
    let got = server.client(Door::Tcp).post("/v1/cache/pages/get", &json!({ "keys": keys }));
    let got = got.expect(200);
    let left: Vec<u64> =
        keys.iter().map(|key| got["entries"][key]["ttl_ms"].as_u64().unwrap()).collect();
    let (least, most) = (left.iter().min().unwrap(), left.iter().max().unwrap());
    assert!(1_700_000 < *least && *most <= 3_600_000 && 600_000 < most - least, "{least} {most}");
    let answer = server.client(Door::Tcp).get("/v1/cache/other/keys/b");
    assert_eq!((answer.header("content-type"), &*answer.body), (Some("image/x"), &b"\xff"[..]));

    let ran = on_with(&server, &["cache", "warm", "in", "-", "--json"], &lines[..3].join("\n"));
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (ran.code, &told["entries"], &told["skipped"]),
        (0, &json!(3), &json!(0)),
        "{ran:?}"
    );
}

#[test]
fn lines_that_are_wrong_are_skipped_and_told() {
    let server = Server::start();
    let mut lines: Vec<String> = (1..=40).map(line).collect();
    lines[4] = "nonsense".to_owned();
    lines[9] = json!({ "key": "k", "value": "v", "tll": 5 }).to_string();
    // What the server alone knows.
    for n in [12, 13, 30] {
        lines[n] = json!({ "key": "k", "value": "v", "ttl": "class:none" }).to_string();
    }
    let path = file(&server, &lines);
    let ran = on(&server, &["cache", "warm", "pages", &path]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.out.starts_with("35 entries, ") && ran.out.ends_with("; 5 lines skipped\n"),
        "{ran:?}"
    );
    for told in [
        "line 5: it is not JSON",
        "line 10: it has an unknown field tll",
        "line 13: ",
        "line 14: ",
        "line 31: ",
    ] {
        assert!(ran.err.contains(told), "{told}: {}", ran.err);
    }
    assert_eq!(server.client(Door::Tcp).get("/v1/cache/pages").expect(200)["entries"], 35);

    let all_wrong = vec!["{}"; 60].join("\n");
    let ran = on_with(&server, &["cache", "warm", "pages", "-"], &all_wrong);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.ends_with("line 50: it has no key\nand 10 more\n"), "{}", ran.err);
    for (arguments, told) in [
        (&["cache", "warm"][..], "a namespace and a file"),
        (&["cache", "warm", "pages"], "a namespace and a file"),
        (&["cache", "warm", "a b", "-"], "namespace name"),
        (&["cache", "warm", "pages", "-", "--ttl", "0"], "--ttl"),
        (&["cache", "warm", "pages", "-", "--jitter", "10"], "--jitter"),
        (&["cache", "warm", "pages", "-", "--tenant", "a", "--all"], "error:"),
    ] {
        refused(&server, arguments, 2, told);
    }
    let ran = on(&server, &["cache", "warm", "pages", "/nonexistent/file"]);
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[test]
fn a_file_fills_the_cache_of_a_tenant_or_of_all() {
    let server = Server::start();
    for tenant in ["acme", "shop"] {
        well(&server, &["tenant", "set", tenant]);
    }
    let path = file(&server, &[line(1), line(2)]);
    let of = |tenant: &str| {
        let ran = on(&server, &["cache", "stats", "pages", "--json", "--tenant", tenant]);
        let parsed: Value = serde_json::from_str(&ran.out).unwrap_or_default();
        parsed["entries"].as_u64().unwrap_or(0)
    };
    well(&server, &["cache", "warm", "pages", &path, "--tenant", "acme"]);
    assert_eq!((of("acme"), of("shop"), of("default")), (2, 0, 0));
    let out = well(&server, &["cache", "warm", "pages", &path, "--all"]);
    assert!(out.starts_with("6 entries"), "{out}");
    assert_eq!((of("acme"), of("shop"), of("default")), (2, 2, 2));
    assert_eq!(well(&server, &["cache", "get", "pages", "k1", "--tenant", "shop"]), "v1");
}

#[test]
fn pages_of_the_app_are_called_without_a_token() {
    let server = Server::start();
    let page = |path: &str| format!("http://{}{path}", server.address());
    // No server of ours is asked, and none is needed.
    let warm = |pages: &[&str]| {
        let pages: Vec<String> = pages.iter().map(|path| page(path)).collect();
        let mut arguments = vec!["cache", "warm", "--url"];
        arguments.extend(pages.iter().map(String::as_str));
        run(&arguments)
    };
    let ran = warm(&["/livez", "/openapi.json", "/livez", "/livez", "/livez", "/readyz"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert_eq!(ran.out.lines().count(), 6);
    assert!(ran.out.lines().all(|line| line.starts_with("200  http://")), "{}", ran.out);

    let ran = warm(&["/livez", "/v1/status", "/nowhere"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("2 pages failed"), "{ran:?}");
    for told in [format!("401  {}", page("/v1/status")), format!("404  {}", page("/nowhere"))] {
        assert!(ran.out.contains(&told), "{}", ran.out);
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = run(&["cache", "warm", "--json", "--url", &format!("http://{closed}/")]);
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(ran.code == 1 && told[0]["error"].is_string(), "{ran:?}");
    for url in ["nonsense", "ftp://x/"] {
        assert_eq!(run(&["cache", "warm", "--url", url]).code, 2, "{url}");
    }
    let ran = run(&["cache", "warm", "--timeout", "soon", "--url", &page("/livez")]);
    assert_eq!(ran.code, 2, "{ran:?}");
}

#[test]
fn a_page_that_never_answers_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let ran = run(&["cache", "warm", "--timeout", "200ms", "--url", &url]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.starts_with("---  ") && ran.out.contains("in time"), "{ran:?}");
}

#[test]
fn locks_are_listed_and_let_go() {
    let server = Server::start();
    let client = server.client(Door::Tcp);
    let take = |name: &str, owner: &str| {
        client
            .post(&format!("/v1/locks/{name}"), &json!({ "ttl": "1h", "owner": owner }))
            .expect(201)
    };
    take("nightly", "worker 1");
    take("import", "worker 2");
    let table = well(&server, &["lock", "list"]);
    assert!(table.starts_with("NAME") && table.contains("worker 1"), "{table}");
    let list: Value = serde_json::from_str(&well(&server, &["lock", "list", "--json"])).unwrap();
    assert_eq!(list.as_array().map(Vec::len), Some(2), "{list}");

    refused(&server, &["lock", "release", "nightly"], 2, "--force");
    refused(&server, &["lock", "release", "nightly", "--owner", "worker 2"], 1, "lock_held");
    refused(&server, &["lock", "release", "nobody", "--force"], 1, "unknown_lock");
    let ran = on(&server, &["lock", "release", "nightly", "--owner", "worker 1"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, "released: nightly\n"), "{ran:?}");
    let ran = on(&server, &["lock", "release", "import", "--force"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(well(&server, &["lock", "list"]).lines().count(), 1);
}

#[test]
fn namespaces_of_the_server_itself_are_nobody_elses() {
    let server = Server::start();
    let client = server.client(Door::Tcp);
    let entries = json!({ "entries": [{ "key": "k", "value": "v" }] });
    let calls = [
        ("GET", "/keys/k", Value::Null),
        ("HEAD", "/keys/k", Value::Null),
        ("PUT", "/keys/k", json!("v")),
        ("DELETE", "/keys/k", Value::Null),
    ];
    for name in ["holdfast.idempotency", "holdfast."] {
        for (method, rest, body) in &calls {
            let request = client.request(method, &format!("/v1/cache/{name}{rest}"));
            let request = if body.is_null() { request } else { request.json(body) };
            let answer = client.connect().ask(&request);
            if *method == "HEAD" {
                assert_eq!(answer.status, 400, "{answer:?}");
            } else {
                answer.expect_problem(400, "invalid_namespace");
            }
        }
        let bodies = [
            ("get", json!({ "keys": ["k"] })),
            ("put", entries.clone()),
            ("forget", json!({ "all": true })),
            ("increment", json!({ "key": "k" })),
            ("touch", json!({ "key": "k", "ttl": "1m" })),
        ];
        for (verb, body) in bodies {
            let answer = client.post(&format!("/v1/cache/{name}/{verb}"), &body);
            answer.expect_problem(400, "invalid_namespace");
        }
        client.get(&format!("/v1/cache/{name}")).expect_problem(400, "invalid_namespace");
        refused(&server, &["cache", "get", name, "k"], 1, "invalid_namespace");
        refused(&server, &["cache", "put", name, "k", "v"], 1, "invalid_namespace");
    }
    let listed = client.get("/v1/cache").expect(200);
    assert!(!listed.to_string().contains("holdfast."), "{listed}");
    // Only the beginning is taken.
    well(&server, &["cache", "put", "my.holdfast.x", "k", "v"]);
    well(&server, &["cache", "put", "holdfast", "k", "v"]);
}
