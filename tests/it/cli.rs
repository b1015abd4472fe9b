//! The command line as people and scripts meet it: exit codes, outputs, and where things are found.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Weak};

use expect_test::expect_file;
use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Door, Ran, Request, Server, finish, fresh, holdfast, run, run_with, serve, wait_until,
};

/// The server of all tests that leave nothing behind which others would trip over.
fn shared() -> Arc<Server> {
    static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut server = SERVER.lock();
    server.upgrade().unwrap_or_else(|| {
        let started = Arc::new(Server::start_with("[tier.small]\ntokens = 1\n", &[]));
        *server = Arc::downgrade(&started);
        started
    })
}

/// The data directory of a server, as an argument.
fn data_dir(server: &Server) -> String {
    path_text(&server.data_dir())
}

fn path_text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Runs a command against this server, found by its data directory.
fn on(server: &Server, arguments: &[&str]) -> Ran {
    run(&[&["--data-dir", &data_dir(server)], arguments].concat())
}

/// Runs a command that has to end well, and gives what it printed.
#[track_caller]
fn well(server: &Server, arguments: &[&str]) -> String {
    let ran = on(server, arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
    ran.out
}

#[track_caller]
fn parsed(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[test]
fn the_help_is_the_one_in_the_golden_file() {
    for option in ["--help", "-h"] {
        let ran = run(&[option]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        expect_file!["../golden/help.txt"].assert_eq(&ran.out);
    }
    let version = run(&["--version"]);
    assert_eq!(version.out, format!("holdfast {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(version.code, 0);
}

#[test]
fn what_is_not_understood_is_2_and_says_what_there_is() {
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["token"],
        &["tenant"],
        &["config"],
        &["status", "--jsno"],
        &["token", "create", "x"],
        &["token", "create", "--scope", "cache:read"],
        &["token", "revoke"],
        &["completions", "tcsh"],
        &["status", "extra"],
        &["--url"],
        &["tenant", "set", "x", "--quota"],
        &["tenant", "set", "x", "--quota", "tokens=1", "--no-quotas"],
        &["status", "--json", "--json"],
    ] {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains("Usage:") || ran.err.contains("error:"), "{ran:?}");
    }
    let near = run(&["staus"]);
    assert!(near.err.contains("'status'"), "{}", near.err);
    let server = shared();
    for (arguments, told) in [
        (&["tenant", "set", "x", "--quota", "tokens"][..], "NAME=NUMBER"),
        (&["tenant", "set", "x", "--quota", "tokens=many"], "NAME=NUMBER"),
        (&["tenant", "delete", "x"], "--confirm x"),
        (&["status", "--url", "nonsense"], "http://127.0.0.1:7070"),
    ] {
        let ran = on(&server, arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(told), "{}", ran.err);
    }
}

#[test]
fn the_status_is_for_people_or_for_programs() {
    let server = shared();
    let text = well(&server, &["status"]);
    for line in ["state        ready", "version      0.1.0", "catalog      open, "] {
        assert!(text.contains(line), "{text}");
    }
    let json = parsed(&well(&server, &["status", "--json"]));
    assert_eq!((&json["state"], &json["process"]["pid"]), (&json!("ready"), &json!(server.pid())));
}

#[test]
fn options_stand_before_or_behind_the_command() {
    let server = shared();
    let dir = data_dir(&server);
    let token = path_text(&server.data_dir().join("admin.token"));
    let url = format!("http://{}", server.address());
    for arguments in [
        &["--data-dir", &dir, "status"][..],
        &["status", "--data-dir", &dir],
        &["status", "--json", "--data-dir", &dir],
        &["--data-dir", &dir, "token", "list"],
        &["token", "--data-dir", &dir, "list"],
        &["token", "list", "--data-dir", &dir],
        &["--url", &url, "--token-file", &token, "status"],
        &["status", "--url", &url, "--token-file", &token],
        &["--url", &url, "status", "--token-file", &token],
        &["status", &format!("--data-dir={dir}")],
    ] {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn a_server_is_found_by_its_socket_its_address_or_its_data_directory() {
    let server = shared();
    let token = path_text(&server.data_dir().join("admin.token"));
    let socket = path_text(&server.socket());
    for url in [
        format!("http://{}", server.address()),
        format!("http://{}/", server.address()),
        format!("http://localhost:{}", server.address().port()),
        format!("unix:{socket}"),
        format!("unix://{socket}"),
    ] {
        let ran = run(&["status", "--url", &url, "--token-file", &token]);
        assert_eq!(ran.code, 0, "{url}: {ran:?}");
    }
    let mut command = holdfast();
    command.arg("status").env("HOLDFAST_URL", format!("unix:{socket}"));
    command.env("HOLDFAST_TOKEN_FILE", &token);
    assert_eq!(finish(command, "").code, 0);
    let mut command = holdfast();
    command.arg("status").env("HOLDFAST_DATA_DIR", server.data_dir());
    assert_eq!(finish(command, "").code, 0);
    // What is said on the command line counts.
    let mut command = holdfast();
    command.arg("status").env("HOLDFAST_URL", "unix:/nonexistent").env("HOLDFAST_TOKEN_FILE", "/x");
    command.args(["--url", &format!("unix:{socket}"), "--token-file", &token]);
    assert_eq!(finish(command, "").code, 0);
}

#[test]
fn a_token_comes_from_a_file_or_from_standard_input() {
    let server = shared();
    let url = format!("unix:{}", path_text(&server.socket()));
    let arguments = ["status", "--url", &url, "--token-file", "-"];
    for input in [server.token().to_owned(), format!("{}\n", server.token())] {
        let ran = run_with(&arguments, &input);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    for input in ["", "nonsense\n", &"x".repeat(1 << 20)] {
        let ran = run_with(&arguments, input);
        assert_eq!((ran.code, ran.out.as_str()), (4, ""), "{ran:?}");
        assert!(ran.err.contains("unauthenticated") && ran.err.contains("--token-file"), "{ran:?}");
    }
    let ran = run(&["status", "--url", &url, "--token-file", "/nonexistent/token"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(
        ran.err.contains("/nonexistent/token") && ran.err.contains("--new-admin-token"),
        "{ran:?}"
    );
}

#[test]
fn without_a_server_the_exit_code_is_5_and_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let dir = path_text(folder.path());
    let ran = run(&["status", "--data-dir", &dir]);
    assert_eq!((ran.code, ran.out.as_str()), (5, ""), "{ran:?}");
    assert!(ran.err.contains(&dir) && ran.err.contains("holdfast serve"), "{}", ran.err);
    let token = folder.path().join("token");
    fs::write(&token, shared().token()).unwrap();
    let token = path_text(&token);
    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [format!("unix:{dir}/none.sock"), format!("http://{port}")] {
        let ran = run(&["status", "--url", &url, "--token-file", &token]);
        assert_eq!((ran.code, ran.out.as_str()), (5, ""), "{ran:?}");
        assert!(ran.err.contains(&url), "{}", ran.err);
    }
}

#[test]
fn what_the_server_refuses_is_1_and_what_is_not_allowed_is_4() {
    let server = shared();
    for (arguments, code) in [
        (&["token", "revoke", "nonsense"][..], "unknown_token"),
        (&["token", "create", "x", "--scope", "nonsense"], "invalid_scopes"),
        (
            &["token", "create", "x", "--scope", "cache:read", "--expires-in", "soon"],
            "invalid_duration",
        ),
        (&["token", "list", "--tenant", "nobody"], "unknown_tenant"),
        (&["tenant", "set", "x", "--tier", "golden"], "invalid_tier"),
        (&["tenant", "set", "a b"], "invalid_tenant"),
        (&["tenant", "delete", "default", "--confirm", "default"], "tenant_protected"),
        (&["tenant", "delete", "nobody", "--confirm", "nobody"], "unknown_tenant"),
        (&["tenant", "delete", "nobody", "--confirm", "other"], "nothing was deleted"),
    ] {
        let ran = on(&server, arguments);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(code), "{arguments:?}: {}", ran.err);
    }
    let weak = well(&server, &["token", "create", "weak", "--scope", "cache:read"]);
    for arguments in [&["status"][..], &["token", "list"], &["reload"], &["tenant", "list"]] {
        let ran = run_with(
            &[&["--data-dir", &data_dir(&server), "--token-file", "-"], arguments].concat(),
            &weak,
        );
        assert_eq!((ran.code, ran.out.as_str()), (4, ""), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains("forbidden") && ran.err.contains("scope"), "{}", ran.err);
    }
}

#[test]
fn a_token_is_made_listed_and_revoked() {
    let server = shared();
    let name = fresh("shop-web");
    let create =
        ["token", "create", &name, "--scope", "cache:read,cache:write", "--scope", "series:read"];
    let ran = on(&server, &create);
    assert_eq!(ran.code, 0, "{ran:?}");
    // The secret alone on standard output.
    let secret = ran.out.strip_suffix('\n').unwrap();
    assert!(secret.starts_with("hf_app_") && !secret.contains(char::is_whitespace), "{secret}");
    assert!(!ran.err.contains(secret) && ran.err.contains(&name), "{}", ran.err);
    let its = server.client(Door::Tcp).with_token(secret);
    its.get("/v1/status").expect(200);

    let list = well(&server, &["token", "list"]);
    let line = list.lines().find(|line| line.contains(&name)).unwrap();
    assert!(line.contains("cache:read,cache:write,series:read"), "{line}");
    assert!(list.starts_with("ID ") && !list.contains(secret), "{list}");
    let id = line.split(' ').next().unwrap();
    let items = parsed(&well(&server, &["token", "list", "--json"]));
    let item = items.as_array().unwrap().iter().find(|item| item["name"] == name).unwrap();
    assert_eq!(item["id"], id);

    let ran = on(&server, &["token", "revoke", id]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", "revoked\n"));
    its.get("/v1/status").expect_problem(401, "unauthenticated");
    let again = on(&server, &["token", "revoke", id]);
    assert_eq!(again.code, 1, "{again:?}");

    let create = ["token", "create", "x", "--scope", "cache:read", "--expires-in", "12h", "--json"];
    let made = parsed(&well(&server, &create));
    assert!(made["secret"].is_string() && made["expires_at"].is_string(), "{made}");
}

#[test]
fn a_tenant_is_made_changed_and_deleted() {
    let server = shared();
    let name = fresh("shop");
    let ran = on(&server, &["tenant", "set", &name, "--tier", "small", "--quota", "series=5"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{ran:?}");
    assert!(ran.err.contains("made"), "{}", ran.err);
    let set = |more: &[&str]| {
        parsed(&well(&server, &[&["tenant", "set", &name, "--json"], more].concat()))
    };
    // One quota is set without touching the others; -1 is a number.
    let tenant = set(&["--quota", "queues=-1"]);
    assert_eq!(tenant["own_quotas"], json!({ "series": 5, "queues": -1 }));
    let tenant = set(&["--quota", "series=6", "--quota", "monitors=2"]);
    assert_eq!(tenant["own_quotas"], json!({ "series": 6, "queues": -1, "monitors": 2 }));
    assert_eq!(set(&["--tier", "standard"])["own_quotas"], tenant["own_quotas"]);
    assert_eq!(set(&["--no-quotas"])["own_quotas"], json!({}));
    let ran = on(&server, &["tenant", "set", &name, "--quota", "toknes=5"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("unknown_field"), "{}", ran.err);

    well(&server, &["tenant", "set", &name, "--quota", "tokens=1"]);
    let create = ["token", "create", "x", "--scope", "cache:read", "--tenant", &name];
    let secret = well(&server, &create);
    let ran = on(&server, &create);
    assert_eq!(ran.code, 1, "{ran:?}");
    let advice = format!("holdfast tenant set {name} --quota tokens=2");
    assert!(ran.err.contains(&advice), "{}", ran.err);
    assert!(well(&server, &["token", "list", "--tenant", &name]).lines().count() == 2);
    assert!(well(&server, &["tenant", "list"]).lines().any(|line| line.starts_with(&name)));
    let items = parsed(&well(&server, &["tenant", "list", "--json"]));
    assert!(items.as_array().unwrap().iter().any(|item| item["name"] == name.as_str()));

    let ran = on(&server, &["tenant", "delete", &name, "--confirm", &name]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{ran:?}");
    let its = server.client(Door::Unix).with_token(secret.trim());
    its.get("/v1/tokens").expect_problem(401, "unauthenticated");
    let set_again = on(&server, &["tenant", "set", &name]);
    assert_eq!(set_again.code, 0, "{set_again:?}");
    let delete = ["tenant", "delete", &name, "--confirm", &name, "--json"];
    assert_eq!(parsed(&well(&server, &delete))["state"], "deleting");
}

#[test]
fn a_reload_tells_what_it_did() {
    let server = Server::start();
    assert_eq!(well(&server, &["reload"]), "nothing changed\n");
    server.write_config("[server]\nmetrics_public = true\nmax_connections = 100\n");
    let ran = on(&server, &["reload"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        ran.out,
        "server.metrics_public: false -> true (in force now)\n\
         server.max_connections: 4096 -> 100 (needs a restart)\n"
    );
    assert!(ran.err.contains("systemctl restart holdfast"), "{}", ran.err);
    let json = parsed(&well(&server, &["reload", "--json"]));
    assert_eq!(json["changed"], json!([]));
    server.write_config("[server]\nlisten = 5\n");
    let ran = on(&server, &["reload"]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{ran:?}");
    assert!(ran.err.contains("invalid_config") && ran.err.contains("server.listen"), "{}", ran.err);
}

/// A folder with a configuration in it, and the path of that.
fn configured(config: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("holdfast.toml");
    fs::write(&file, config).unwrap();
    let file = path_text(&file);
    (folder, file)
}

#[test]
fn settings_are_checked_without_a_server() {
    let (_folder, file) = configured("[server]\nlisten = \"127.0.0.1:9000\"\n");
    let ran = run(&["config", "check", "--config", &file]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert_eq!(ran.out, format!("{file}: no problems\n"));
    let json = parsed(&run(&["config", "check", "--json", "--config", &file]).out);
    assert_eq!(json, json!({ "ok": true, "problems": [], "warnings": [] }));

    let (_folder, file) = configured("[server]\nlisten = 5\nsokcet = \"x\"\n[nonsense]\n");
    let ran = run(&["config", "check", "--config", &file]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{ran:?}");
    for told in
        ["server.listen is", &format!("{file}:2"), "did you mean server.socket?", "nonsense"]
    {
        assert!(ran.err.contains(told), "{told}: {}", ran.err);
    }
    let ran = run(&["check", "--config", &file]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{ran:?}");
    let ran = run(&["--config", &file, "config", "check", "--json"]);
    assert_eq!(ran.code, 3);
    assert_eq!(parsed(&ran.out)["ok"], false);
    assert_eq!(parsed(&ran.out)["problems"].as_array().unwrap().len(), 3);
    let ran = run(&["config", "check", "--config", "/nonexistent/holdfast.toml"]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{ran:?}");

    // The default file is right.
    let default = run(&["config", "default"]);
    assert_eq!(default.code, 0);
    let (_folder, file) = configured(&default.out);
    assert_eq!(run(&["config", "check", "--config", &file]).code, 0);
}

#[test]
fn settings_are_shown_with_where_they_come_from() {
    let (_folder, file) =
        configured("[server]\nlisten = \"127.0.0.1:9000\"\n\n[log]\nlevel = \"warn\"\n");
    let mut command = holdfast();
    command.args(["config", "show", "--origin", "--config", &file, "--socket", "/run/flag.sock"]);
    command.env("HOLDFAST_LOG_LEVEL", "debug");
    let ran = finish(command, "");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    let line = |key: &str| {
        let found = ran.out.lines().find(|line| line.split(' ').next() == Some(key));
        found.unwrap_or_else(|| panic!("{key} in {}", ran.out)).to_owned()
    };
    assert!(line("KEY").ends_with("ORIGIN"));
    assert!(line("server.listen").ends_with(&format!("{file}:2")), "{}", ran.out);
    assert!(line("log.level").contains("debug"), "{}", ran.out);
    assert!(line("log.level").ends_with("variable HOLDFAST_LOG_LEVEL"), "{}", ran.out);
    assert!(line("server.socket").ends_with("flag --socket"), "{}", ran.out);
    assert!(line("server.hosts").ends_with("default"), "{}", ran.out);

    let plain = run(&["config", "show", "--config", &file]);
    assert!(!plain.out.contains("ORIGIN") && plain.out.contains("server.listen"), "{}", plain.out);
    let json = parsed(&run(&["config", "show", "--json", "--config", &file]).out);
    let listen = json.as_array().unwrap().iter().find(|value| value["key"] == "server.listen");
    assert_eq!(listen.unwrap()["origin"], format!("{file}:2"));
    let (_folder, wrong) = configured("[server]\nlisten = 5\n");
    assert_eq!(run(&["config", "show", "--config", &wrong]).code, 3);
}

#[test]
fn completions_and_man_pages_are_made() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(&["completions", shell]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{shell}");
        assert!(ran.out.contains("holdfast") && ran.out.contains("tenant"), "{shell}");
    }
    let page = run(&["man"]);
    assert_eq!((page.code, page.err.as_str()), (0, ""));
    assert!(page.out.contains(".TH holdfast 1"), "{}", page.out);
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man/man1");
    let ran = run(&["man", &path_text(&pages)]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""), "{ran:?}");
    for page in ["holdfast.1", "holdfast-serve.1", "holdfast-token-create.1"] {
        assert!(pages.join(page).exists(), "{page}");
    }
}

/// Tries to serve on this folder and gives what it said; it has to end with 78.
#[track_caller]
fn not_served(folder: &Path, options: &[&str]) -> String {
    fs::write(folder.join("holdfast.toml"), "").unwrap();
    let mut command = serve(folder);
    command.args(options);
    let ran = finish(command, "");
    assert_eq!((ran.code, ran.out.as_str()), (78, ""), "{ran:?}");
    ran.err
}

#[test]
fn a_second_server_on_a_data_directory_is_78_and_leaves_the_first_alone() {
    let server = Server::start();
    let before = fs::read_to_string(server.data_dir().join("run.json")).unwrap();
    let said = not_served(server.folder(), &[]);
    assert!(said.contains(&server.pid().to_string()), "{said}");
    assert_eq!(fs::read_to_string(server.data_dir().join("run.json")).unwrap(), before);
    for door in [Door::Tcp, Door::Unix] {
        server.client(door).get("/v1/status").expect(200);
    }
}

#[test]
fn a_data_directory_that_is_not_ours_to_serve_is_78() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(data.join("format"), "holdfast-data 2\n").unwrap();
    let newer = not_served(folder.path(), &[]);
    assert!(newer.contains("data format 2") && newer.contains("restore a backup"), "{newer}");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "nothing was touched");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let exposed = not_served(folder.path(), &[]);
    assert!(exposed.contains("chmod 700"), "{exposed}");
}

#[test]
fn a_history_of_a_newer_version_is_78_and_names_the_ways_out() {
    let mut server = Server::start();
    server.stop();
    let path = server.data_dir().join("history.sqlite");
    // Its log has pages that would stand for those of the file.
    for log in ["history.sqlite-wal", "history.sqlite-shm"] {
        drop(fs::remove_file(server.data_dir().join(log)));
    }
    let mut bytes = fs::read(&path).unwrap();
    // Where the file format of SQLite has what the application says of its schema.
    bytes[60..64].copy_from_slice(&77_u32.to_be_bytes());
    fs::write(&path, &bytes).unwrap();
    let said = not_served(server.folder(), &[]);
    for told in ["history.sqlite", "schema 77", "newer version of holdfast", "rm it"] {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert_eq!(fs::read(&path).unwrap(), bytes, "it is left alone");
}

#[test]
fn listening_to_other_machines_without_tls_is_78_and_names_the_ways_out() {
    let folder = tempfile::tempdir().unwrap();
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7070"] {
        fs::write(folder.path().join("holdfast.toml"), "").unwrap();
        let mut command = holdfast();
        command.args(["serve", "--listen", listen, "--data-dir"]).arg(folder.path().join("data"));
        let ran = finish(command, "");
        assert_eq!((ran.code, ran.out.as_str()), (78, ""), "{ran:?}");
        for way in ["127.0.0.1:", "ssh -L", "tls.cert_file", "server.behind_tls_proxy"] {
            assert!(ran.err.contains(way), "{way} is missing: {}", ran.err);
        }
        assert!(!folder.path().join("data").exists());
    }
}

#[test]
fn settings_that_are_wrong_are_78_for_the_server() {
    let folder = tempfile::tempdir().unwrap();
    for options in [
        &["--server-max-connections", "5"][..],
        &["--log-level", "loud"],
        &["--tls-cert-file", "x"],
        &["--server-behind-tls-proxy", "maybe"],
    ] {
        let said = not_served(folder.path(), options);
        assert!(said.contains(options[0]) || said.contains("tls.key_file"), "{said}");
    }
    assert!(!folder.path().join("data").exists(), "nothing was begun");
}

#[test]
fn a_port_that_is_taken_is_1_and_says_who_to_ask() {
    let server = shared();
    let folder = tempfile::tempdir().unwrap();
    let mut command = holdfast();
    command.args(["serve", "--listen", &server.address().to_string(), "--data-dir"]);
    command.arg(folder.path().join("data"));
    let ran = finish(command, "");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("ss -ltnp"), "{}", ran.err);
    let taken = path_text(&server.socket());
    let mut command = holdfast();
    command.args(["serve", "--listen", "127.0.0.1:0", "--socket", &taken, "--data-dir"]);
    command.arg(folder.path().join("data"));
    let ran = finish(command, "");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains(&taken), "{}", ran.err);
    server.client(Door::Unix).get("/livez").expect(200);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_the_server_keeps_is_its_owners_alone() {
    let server = Server::start();
    let data = server.data_dir();
    assert_eq!(mode(&data), 0o700);
    for entry in fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
    assert_eq!(mode(&data.join("admin.token")), 0o600);
    assert_eq!(mode(&server.socket()), 0o660);
    assert!(!server.log().contains(server.token()), "the log keeps no secret");
    assert_ne!(server.address().port(), 0, "port 0 takes a free one");
}

#[test]
fn the_first_start_tells_where_the_token_is_and_the_second_is_silent() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("holdfast.toml"), "").unwrap();
    let data = folder.path().join("data");
    let start = || {
        let mut command: Command = serve(folder.path());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        wait_until("it serves", || data.join("run.json").exists());
        let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        let mut out = String::new();
        std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut out).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        out
    };
    let first = start();
    let token = fs::read_to_string(data.join("admin.token")).unwrap();
    assert!(first.contains("admin.token") && first.contains("curl"), "{first}");
    assert!(!first.contains(token.trim()), "{first}");
    assert_eq!(start(), "");
    assert_eq!(fs::read_to_string(data.join("admin.token")).unwrap(), token);
}

#[test]
fn what_shows_where_the_server_is_goes_with_it() {
    let mut server = Server::start();
    let run = server.data_dir().join("run.json");
    let text = parsed(&fs::read_to_string(&run).unwrap());
    assert_eq!(text["pid"], server.pid());
    assert_eq!(text["address"], server.address().to_string());
    assert_eq!(server.stop().code(), Some(0));
    assert!(!run.exists() && !server.folder().join("s.sock").exists());
    assert_eq!(on(&server, &["status"]).code, 5);
    // The other signal does the same.
    server.restart();
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!run.exists());
    // A killed one leaves it; nobody is misled for long.
    server.restart();
    server.kill();
    assert!(run.exists());
    let ran = on(&server, &["status"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    server.restart();
    assert_eq!(on(&server, &["status"]).code, 0);
}

#[test]
fn a_lost_administrators_token_can_be_replaced() {
    let mut server = Server::start();
    let old = server.token().to_owned();
    server.stop();
    fs::remove_file(server.data_dir().join("admin.token")).unwrap();
    server.restart();
    assert!(!server.data_dir().join("admin.token").exists(), "nothing is made unasked");
    let ran = on(&server, &["status"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.err.contains("--new-admin-token"), "{}", ran.err);
    server.client(Door::Tcp).with_token(&old).get("/v1/status").expect(200);
    server.stop();
    server.restart_with(&["--new-admin-token"]);
    assert_eq!(mode(&server.data_dir().join("admin.token")), 0o600);
    let new = fs::read_to_string(server.data_dir().join("admin.token")).unwrap();
    let its = server.client(Door::Tcp).with_token(new.trim());
    let audit = its.get("/v1/audit?limit=1").expect(200);
    assert_eq!(audit["items"][0]["action"], "start.new_admin_token");
    assert_ne!(new.trim(), old);
    server.client(Door::Tcp).with_token(&old).get("/v1/status").expect(200);
}

#[test]
fn the_document_of_the_api_is_printed_without_a_server() {
    let ran = run(&["openapi"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(parsed(&ran.out)["openapi"], "3.1.0");
    let served = shared().client(Door::Tcp).send(&Request::get("/openapi.json"));
    assert_eq!(ran.out, served.text());
}
