//! What people write, and what they are told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use expect_test::{Expect, expect, expect_file};

use super::load::{FileText, Files, Permissions, Sources};
use super::*;
use crate::base::amount::Amount;
use crate::base::limits::{
    CLASSES_MAX, CONFIG_FILE_BYTES_MAX, CONFIG_NAMESPACES_MAX, CONNECTIONS_MAX, HOSTS_MAX,
    QUEUE_TYPES_CONFIG_MAX, TIERS_MAX,
};
use crate::base::name::Namespace;
use crate::base::quota::{Allowance, Quota};
use crate::base::rng::Rng;
use crate::queue::job::{Backoff, Rules};
use crate::testing::seeds;

const FILE: &str = "/etc/holdfast/holdfast.toml";
const PACKAGED: [(&str, &str); 2] =
    [("server.data_dir", "/var/lib/holdfast"), ("server.socket", "/run/holdfast/holdfast.sock")];

/// Loads a file, variables and flags.
fn load_all(
    text: &str,
    variables: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Result<Loaded, Problems> {
    let environment = Environment::from_pairs(variables.iter().copied());
    let key = |full: &str| KEYS.iter().find(|key| key.full("") == full).unwrap();
    let flags = flags.iter().map(|(full, value)| (key(full), (*value).to_owned())).collect();
    let file = Some((PathBuf::from(FILE), text.to_owned()));
    load(&Sources { flags, environment: &environment, file })
}

fn load_file(text: &str) -> Result<Loaded, Problems> {
    load_all(text, &[], &[])
}

/// What is not at its default, with its origin; or the problems as a terminal shows them.
fn report(loaded: Result<Loaded, Problems>) -> String {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => return problems.to_string(),
    };
    let mut out = String::new();
    for value in loaded.values.iter().filter(|value| value.origin != Origin::Default) {
        writeln!(out, "{} = {} ({})", value.key, value.value, value.origin).unwrap();
    }
    for warning in &loaded.warnings {
        writeln!(out, "warning: {warning}").unwrap();
    }
    out
}

/// Checks what a file gives.
#[expect(clippy::needless_pass_by_value, reason = "an Expect is written in place")]
fn check(text: &str, expected: Expect) {
    expected.assert_eq(&report(load_file(text)));
}

fn codes(loaded: &Result<Loaded, Problems>) -> Vec<&'static str> {
    let problems = loaded.as_ref().expect_err("this is wrong");
    problems.list().iter().map(Problem::code).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a line for each setting")]
fn an_empty_file_and_no_file_give_the_defaults() {
    let environment = Environment::default();
    let none = load(&Sources { flags: Vec::new(), environment: &environment, file: None }).unwrap();
    let empty = load_file("").unwrap();
    assert_eq!(none.config, empty.config);
    assert!(differences(&none, &empty).is_empty());
    assert!(none.values.iter().all(|value| value.origin == Origin::Default));
    expect![[r#"
        server.data_dir = "holdfast-data"
        server.listen = "127.0.0.1:7070"
        server.socket = ""
        server.hosts = []
        server.behind_tls_proxy = false
        server.metrics_public = false
        server.max_connections = 4096
        server.timezone = "UTC"
        tls.cert_file = ""
        tls.key_file = ""
        tier.standard.cache_bytes = -1
        tier.standard.queues = -1
        tier.standard.jobs_waiting = -1
        tier.standard.jobs_per_day = -1
        tier.standard.series = -1
        tier.standard.monitors = -1
        tier.standard.tokens = -1
        cache.enabled = true
        cache.budget = "25%"
        cache.kept_budget = "10%"
        cache.snapshot = false
        cache.class.dashboard.ttl = "1m"
        cache.class.dashboard.stale = "4m"
        cache.class.device_status.ttl = "2m"
        cache.class.device_status.stale = "0s"
        cache.class.gateways.ttl = "30m"
        cache.class.gateways.stale = "0s"
        cache.class.packages.ttl = "15m"
        cache.class.packages.stale = "0s"
        cache.class.permissions.ttl = "1h"
        cache.class.permissions.stale = "0s"
        cache.class.summary.ttl = "1h"
        cache.class.summary.stale = "0s"
        cache.class.tenant.ttl = "10m"
        cache.class.tenant.stale = "0s"
        cache.class.tier_limits.ttl = "1h"
        cache.class.tier_limits.stale = "0s"
        cache.class.trend.ttl = "10m"
        cache.class.trend.stale = "0s"
        cache.class.uptime.ttl = "5m"
        cache.class.uptime.stale = "0s"
        queue.type.bulk.max_tries = 3
        queue.type.bulk.timeout = "2m"
        queue.type.bulk.backoff = ""
        queue.type.mail.max_tries = 3
        queue.type.mail.timeout = "1m"
        queue.type.mail.backoff = ""
        queue.type.payment.max_tries = 3
        queue.type.payment.timeout = "2m"
        queue.type.payment.backoff = ""
        queue.type.report.max_tries = 2
        queue.type.report.timeout = "5m"
        queue.type.report.backoff = ""
        queue.type.sync.max_tries = 3
        queue.type.sync.timeout = "90s"
        queue.type.sync.backoff = ""
        history.rows = 1000000
        history.bytes = "1GiB"
        history.age = "7d"
        series.budget = "1GiB"
        series.raw = "14d"
        series.r5m = "90d"
        series.r1h = "730d"
        series.r1d = "3650d"
        series.sketch = []
        host.units = []
        host.critical_units = []
        log.level = "info"
        log.format = "text"
    "#]]
    .assert_eq(
        &none
            .values
            .iter()
            .fold(String::new(), |all, value| format!("{all}{} = {}\n", value.key, value.value)),
    );
    let config = none.config;
    assert_eq!(config.server.data_dir, Path::new("holdfast-data"));
    assert_eq!((config.server.socket, config.tls), (None, None));
    assert_eq!(config.server.max_connections, 4096);
    assert_eq!(config.tiers["standard"].get(Quota::Series), Some(Allowance::Unlimited));
    assert_eq!(config.log, Log { level: Level::Info, format: Format::Text });
}

#[test]
fn every_setting_can_be_made_in_the_file() {
    let loaded = load_file(
        r#"
        [server]
        data_dir = "/data"
        listen = "[::]:0x"
        "#,
    );
    assert_eq!(codes(&loaded), ["wrong_value"]);
    let text = r#"
        [server]
        data_dir = "/data"
        listen = "[::]:443"
        socket = "run.sock"
        hosts = ["Holdfast.example.com", "[2001:db8::1]"]
        behind_tls_proxy = true
        metrics_public = true
        max_connections = 0x1_00
        [tls]
        cert_file = "/cert"
        key_file = "keys/key"
        [tier.standard]
        queues = 5
        [tier."big.one"]
        series = 1_000
        tokens = -1
        [log]
        level = "trace"
        format = "json"
    "#;
    check(
        text,
        expect![[r#"
            server.data_dir = "/data" (/etc/holdfast/holdfast.toml:3)
            server.listen = "[::]:443" (/etc/holdfast/holdfast.toml:4)
            server.socket = "/etc/holdfast/run.sock" (/etc/holdfast/holdfast.toml:5)
            server.hosts = ["holdfast.example.com", "2001:db8::1"] (/etc/holdfast/holdfast.toml:6)
            server.behind_tls_proxy = true (/etc/holdfast/holdfast.toml:7)
            server.metrics_public = true (/etc/holdfast/holdfast.toml:8)
            server.max_connections = 256 (/etc/holdfast/holdfast.toml:9)
            tls.cert_file = "/cert" (/etc/holdfast/holdfast.toml:11)
            tls.key_file = "/etc/holdfast/keys/key" (/etc/holdfast/holdfast.toml:12)
            tier.big.one.series = 1000 (/etc/holdfast/holdfast.toml:16)
            tier.big.one.tokens = -1 (/etc/holdfast/holdfast.toml:17)
            tier.standard.queues = 5 (/etc/holdfast/holdfast.toml:14)
            log.level = "trace" (/etc/holdfast/holdfast.toml:19)
            log.format = "json" (/etc/holdfast/holdfast.toml:20)
        "#]],
    );
    let config = load_file(text).unwrap().config;
    let tls = Tls { cert_file: "/cert".into(), key_file: "/etc/holdfast/keys/key".into() };
    assert_eq!(config.tls, Some(tls));
    assert_eq!(config.server.hosts, ["holdfast.example.com", "2001:db8::1"]);
    assert!(config.server.behind_tls_proxy && config.server.metrics_public);
    let quotas = config.tiers["big.one"];
    assert_eq!(quotas.get(Quota::Series), Some(Allowance::AtMost(1000)));
    assert_eq!(quotas.get(Quota::Queues), Some(Allowance::Unlimited));
}

#[test]
fn a_flag_goes_before_a_variable_and_a_variable_before_the_file() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\nsocket = \"/s1\"\ndata_dir = \"d1\"\n";
    let variables = [("HOLDFAST_LISTEN", "127.0.0.1:2"), ("HOLDFAST_SOCKET", "s2")];
    let flags = [("server.listen", "127.0.0.1:3")];
    expect![[r#"
        server.data_dir = "/etc/holdfast/d1" (/etc/holdfast/holdfast.toml:4)
        server.listen = "127.0.0.1:3" (flag --listen)
        server.socket = "s2" (variable HOLDFAST_SOCKET)
    "#]]
    .assert_eq(&report(load_all(file, &variables, &flags)));
}

#[test]
fn every_setting_but_those_of_families_has_a_variable_of_its_own() {
    const SHORT: [&str; 3] = ["server.data_dir", "server.listen", "server.socket"];
    for key in &KEYS {
        let full = format!("{}.{}", key.section, key.name);
        let word = if SHORT.contains(&full.as_str()) { key.name } else { &full };
        let name = format!("HOLDFAST_{}", word.to_uppercase().replace('.', "_"));
        let is_named = key.section.ends_with("<name>");
        assert_eq!(key.environment, (!is_named).then_some(name.as_str()), "{full}");
        assert_eq!(key.family().is_some(), is_named, "{full}");
    }
    let variables = [
        ("HOLDFAST_SERVER_HOSTS", " a.example , 192.0.2.1,"),
        ("HOLDFAST_SERVER_METRICS_PUBLIC", "true"),
        ("HOLDFAST_SERVER_MAX_CONNECTIONS", "16"),
        ("HOLDFAST_LOG_LEVEL", "warn"),
        ("HOLDFAST_LOGLEVEL", "warn"),
        ("HOLDFAST_JOB_ID", "what a command of a worker finds"),
    ];
    expect![[r#"
        server.hosts = ["a.example", "192.0.2.1"] (variable HOLDFAST_SERVER_HOSTS)
        server.metrics_public = true (variable HOLDFAST_SERVER_METRICS_PUBLIC)
        server.max_connections = 16 (variable HOLDFAST_SERVER_MAX_CONNECTIONS)
        log.level = "warn" (variable HOLDFAST_LOG_LEVEL)
        warning: the variable HOLDFAST_LOGLEVEL is not known and has no effect; did you mean HOLDFAST_LOG_LEVEL?
    "#]]
    .assert_eq(&report(load_all("", &variables, &[])));
}

#[test]
fn all_mistakes_are_told_at_once_with_the_way_to_mend_them() {
    let file = r#"
[server]
lisen = "127.0.0.1:1"
max_connections = "many"
level = "info"
hosts = ["https://holdfast.example.com"]

[sever]
[tier.small]
quues = 3
"#;
    let variables = [("HOLDFAST_LOG_LEVEL", "INFO"), ("HOLDFAST_SERVER_MAX_CONNECTIONS", "5")];
    let flags = [("server.listen", "7070")];
    expect![[r#"
        error[unknown_key]: unknown key server.lisen; did you mean server.listen?
          where: /etc/holdfast/holdfast.toml:3
          help:  the keys of [server] are data_dir, listen, socket, hosts, behind_tls_proxy, metrics_public, max_connections, timezone

        error[wrong_type]: server.max_connections is a whole number from 16 to 65536, not a text
          where: /etc/holdfast/holdfast.toml:4
          help:  write: max_connections = 1024

        error[unknown_key]: unknown key server.level; did you mean log.level?
          where: /etc/holdfast/holdfast.toml:5
          help:  the keys of [server] are data_dir, listen, socket, hosts, behind_tls_proxy, metrics_public, max_connections, timezone

        error[wrong_value]: server.hosts cannot be "https://holdfast.example.com": a host is written without http:// or https://
          where: /etc/holdfast/holdfast.toml:6
          help:  write: hosts = ["holdfast.example.com"]

        error[unknown_section]: unknown section sever; did you mean [server]?
          where: /etc/holdfast/holdfast.toml:8
          help:  the sections are [server], [tls], [tier.<name>], [cache], [cache.namespace.<name>], [cache.class.<name>], [queue.type.<name>], [history], [series], [host], [log]

        error[unknown_key]: unknown key tier.small.quues; did you mean tier.small.queues?
          where: /etc/holdfast/holdfast.toml:10
          help:  the keys of [tier.<name>] are cache_bytes, queues, jobs_waiting, jobs_per_day, series, monitors, tokens

        error[wrong_value]: server.max_connections cannot be 5: it is a whole number from 16 to 65536
          where: variable HOLDFAST_SERVER_MAX_CONNECTIONS
          help:  write: HOLDFAST_SERVER_MAX_CONNECTIONS=1024

        error[wrong_value]: log.level cannot be "INFO": it is one of error, warn, info, debug, trace; did you mean info?
          where: variable HOLDFAST_LOG_LEVEL
          help:  write: HOLDFAST_LOG_LEVEL=debug

        error[wrong_value]: server.listen cannot be "7070": a port is missing
          where: flag --listen
          help:  write: --listen 127.0.0.1:7070

        then run: holdfast config check --config /etc/holdfast/holdfast.toml"#]].assert_eq(&report(load_all(file, &variables, &flags)));
}

#[test]
fn a_file_that_is_not_toml_is_told_line_by_line() {
    check(
        "[server\nlisten = 'a\n\n[log]\nlevel = info\n",
        expect![[r#"
            error[invalid_toml]: this is not TOML: unclosed table, expected `]`
              where: /etc/holdfast/holdfast.toml:1
              help:  text stands in quotes: name = "text"; other settings are written name = 5, name = true or name = ["a", "b"], a section [server]

            error[invalid_toml]: this is not TOML: invalid float, expected `inf`
              where: /etc/holdfast/holdfast.toml:5
              help:  text stands in quotes: name = "text"; other settings are written name = 5, name = true or name = ["a", "b"], a section [server]

            then run: holdfast config check --config /etc/holdfast/holdfast.toml"#]],
    );
    check(
        "[log]\nlevel = 'info'\nformat = 'text'\nlevel = 'warn'\n[log]\n",
        expect![[r#"
            error[invalid_toml]: this is not TOML: duplicate key
              where: /etc/holdfast/holdfast.toml:4
              help:  text stands in quotes: name = "text"; other settings are written name = 5, name = true or name = ["a", "b"], a section [server]

            error[invalid_toml]: this is not TOML: duplicate key
              where: /etc/holdfast/holdfast.toml:5
              help:  text stands in quotes: name = "text"; other settings are written name = 5, name = true or name = ["a", "b"], a section [server]

            then run: holdfast config check --config /etc/holdfast/holdfast.toml"#]],
    );
}

#[test]
fn what_stands_in_the_wrong_place_is_told_where_it_belongs() {
    check(
        "listen = 'localhost:1'\nserver = 5\n[[log]]\n[tier]\nqueues = 1\n",
        expect![[r"
            error[unknown_section]: unknown section listen; did you mean listen in section [server]?
              where: /etc/holdfast/holdfast.toml:1
              help:  the sections are [server], [tls], [tier.<name>], [cache], [cache.namespace.<name>], [cache.class.<name>], [queue.type.<name>], [history], [series], [host], [log]

            error[not_a_section]: server is a section, not a whole number
              where: /etc/holdfast/holdfast.toml:2
              help:  write [server] on a line of its own, and its settings below it

            error[not_a_section]: log is a section, not a list
              where: /etc/holdfast/holdfast.toml:3
              help:  write [log] on a line of its own, and its settings below it

            error[unknown_key]: unknown key tier.queues; did you mean tier.standard.queues?
              where: /etc/holdfast/holdfast.toml:5
              help:  the keys of [tier.<name>] are cache_bytes, queues, jobs_waiting, jobs_per_day, series, monitors, tokens

            then run: holdfast config check --config /etc/holdfast/holdfast.toml"]],
    );
}

#[test]
fn a_value_of_another_type_is_told_what_is_expected() {
    check(
        "[server]\ndata_dir = 1\nsocket = []\nlisten = 7070\nhosts = 'a'\nbehind_tls_proxy = 'yes'\n\
         max_connections = 1.5\n[tls]\ncert_file = {}\n[log]\nlevel = 2020-01-01\nformat = true\n\
         [tier.a]\nqueues = '5'\n",
        expect![[r#"
            error[wrong_type]: server.data_dir is the path of a folder, not a whole number
              where: /etc/holdfast/holdfast.toml:2
              help:  write: data_dir = "/var/lib/holdfast"

            error[wrong_type]: server.socket is the path of a socket, not a list
              where: /etc/holdfast/holdfast.toml:3
              help:  write: socket = "/run/holdfast/holdfast.sock"

            error[wrong_type]: server.listen is an address with a port, not a whole number
              where: /etc/holdfast/holdfast.toml:4
              help:  write: listen = "127.0.0.1:7070"

            error[wrong_type]: server.hosts is a list of host names, not a text
              where: /etc/holdfast/holdfast.toml:5
              help:  write: hosts = ["holdfast.example.com"]

            error[wrong_type]: server.behind_tls_proxy is true or false, not a text
              where: /etc/holdfast/holdfast.toml:6
              help:  write: behind_tls_proxy = true

            error[wrong_type]: server.max_connections is a whole number from 16 to 65536, not a number with a point
              where: /etc/holdfast/holdfast.toml:7
              help:  write: max_connections = 1024

            error[wrong_type]: tls.cert_file is the path of a file, not a section
              where: /etc/holdfast/holdfast.toml:9
              help:  write: cert_file = "/etc/holdfast/fullchain.pem"

            error[wrong_type]: log.level is one of error, warn, info, debug, trace, not a date or time
              where: /etc/holdfast/holdfast.toml:11
              help:  write: level = "debug"

            error[wrong_type]: log.format is one of text, json, not true or false
              where: /etc/holdfast/holdfast.toml:12
              help:  write: format = "json"

            error[wrong_type]: tier.a.queues is a whole number, where -1 is unlimited, not a text
              where: /etc/holdfast/holdfast.toml:14
              help:  write: queues = 20

            then run: holdfast config check --config /etc/holdfast/holdfast.toml"#]],
    );
}

#[test]
fn a_value_that_makes_no_sense_is_told_why() {
    let long = "s".repeat(108);
    check(
        &format!(
            "[server]\ndata_dir = ''\nsocket = '/{long}'\nlisten = 'example.com:80'\nhosts = ['a', 'b:1']\n\
             max_connections = 65537\n[tls]\ncert_file = 'credential:../x'\n\
             key_file = \"-----BEGIN PRIVATE KEY-----\\nswordfish\"\n[log]\nlevel = 'wran'\n\
             [tier.a]\nqueues = -2\nseries = 99999999999999999999\n[tier.'a b']\n"
        ),
        expect![[r#"
            error[wrong_value]: server.data_dir cannot be "": a folder is needed
              where: /etc/holdfast/holdfast.toml:2
              help:  write: data_dir = "/var/lib/holdfast"

            error[wrong_value]: server.socket cannot be "/sssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss...": the path of a socket has at most 107 bytes, this one 109
              where: /etc/holdfast/holdfast.toml:3
              help:  write: socket = "/run/holdfast/holdfast.sock"

            error[wrong_value]: server.listen cannot be "example.com:80": the host is an IP address of this machine, 0.0.0.0 for all of them, or localhost
              where: /etc/holdfast/holdfast.toml:4
              help:  write: listen = "127.0.0.1:7070"

            error[wrong_value]: server.hosts cannot be "b:1": a host is written without a port
              where: /etc/holdfast/holdfast.toml:5
              help:  write: hosts = ["holdfast.example.com"]

            error[wrong_value]: server.max_connections cannot be 65537: it is a whole number from 16 to 65536
              where: /etc/holdfast/holdfast.toml:6
              help:  write: max_connections = 1024

            error[wrong_value]: tls.cert_file cannot be "../x": a credential's name is made of letters, digits, dots, _ and -
              where: /etc/holdfast/holdfast.toml:8
              help:  write: cert_file = "/etc/holdfast/fullchain.pem"

            error[wrong_value]: tls.key_file cannot be a text of several lines: a path has one line; the file is named here, and what it holds stays in it
              where: /etc/holdfast/holdfast.toml:9
              help:  write: key_file = "/etc/holdfast/privkey.pem"

            error[wrong_value]: log.level cannot be "wran": it is one of error, warn, info, debug, trace; did you mean warn?
              where: /etc/holdfast/holdfast.toml:11
              help:  write: level = "debug"

            error[wrong_value]: tier.a.queues cannot be -2: a quota is a whole number from 0 to 9007199254740991, or -1 for unlimited
              where: /etc/holdfast/holdfast.toml:13
              help:  write: queues = 20

            error[wrong_value]: tier.a.series cannot be "99999999999999999999": it is a whole number
              where: /etc/holdfast/holdfast.toml:14
              help:  write: series = 1000

            error[invalid_tier]: tier name has a character at byte 1 that is not one of A-Z a-z 0-9 . _ : -
              where: /etc/holdfast/holdfast.toml:15
              help:  write for example: [tier.small]

            then run: holdfast config check --config /etc/holdfast/holdfast.toml"#]],
    );
}

#[test]
fn listening_to_others_without_encryption_is_refused_with_the_ways_out() {
    let open = "[server]\nlisten = '0.0.0.0:7070'\n";
    check(
        open,
        expect![[r#"
        error[listen_needs_tls]: server.listen = "0.0.0.0:7070" lets other machines connect, and nothing encrypts: tokens and data would cross the network in plain text
          where: /etc/holdfast/holdfast.toml:2
          help:  choose one:
                 1. for this machine alone: server.listen = "127.0.0.1:7070"
                 2. for a few people: as 1, and they come in by ssh -L 7070:127.0.0.1:7070 HOST
                 3. with a certificate: set tls.cert_file and tls.key_file
                 4. behind a proxy that encrypts (Caddy, nginx): server.behind_tls_proxy = true, and let nobody but the proxy reach the port

        then run: holdfast config check --config /etc/holdfast/holdfast.toml"#]],
    );
    let proxy = format!("{open}behind_tls_proxy = true\n");
    assert!(load_file(&proxy).is_ok());
    let tls = format!("{open}[tls]\ncert_file = 'c'\nkey_file = 'k'\n");
    assert!(load_file(&tls).is_ok());
    // Who has set half of it wants TLS, and a refused value says nothing.
    assert_eq!(codes(&load_file(&format!("{open}[tls]\ncert_file = 'c'\n"))), ["tls_incomplete"]);
    assert_eq!(codes(&load_file(&format!("{open}behind_tls_proxy = 1\n"))), ["wrong_type"]);
    let by_flag = load_all("", &[], &[("server.listen", "[::]:0")]);
    assert_eq!(by_flag.unwrap_err().list()[0].origin, Origin::Flag { name: "--listen".to_owned() });
}

#[test]
fn a_certificate_needs_its_key_and_a_key_its_certificate() {
    check(
        "[tls]\nkey_file = 'k'\n",
        expect![[r"
        error[tls_incomplete]: tls.key_file is set and tls.cert_file is not; TLS needs both
          where: /etc/holdfast/holdfast.toml:2
          help:  set tls.cert_file as well, or remove tls.key_file

        then run: holdfast config check --config /etc/holdfast/holdfast.toml"]],
    );
    assert_eq!(codes(&load_all("", &[("HOLDFAST_TLS_CERT_FILE", "c")], &[])), ["tls_incomplete"]);
}

#[test]
fn a_credential_stands_in_the_folder_that_systemd_names() {
    let file = "[tls]\ncert_file = 'cert'\nkey_file = 'credential:tls.key'\n";
    let variables = [("CREDENTIALS_DIRECTORY", "/run/credentials/holdfast.service")];
    let tls = load_all(file, &variables, &[]).unwrap().config.tls.unwrap();
    assert_eq!(tls.key_file, Path::new("/run/credentials/holdfast.service/tls.key"));
    check(
        file,
        expect![[r"
        error[no_credentials]: tls.key_file names the credential tls.key, and CREDENTIALS_DIRECTORY is not set
          where: /etc/holdfast/holdfast.toml:3
          help:  start it as a systemd service with LoadCredential=tls.key:/path/of/the/file, or name the file itself

        then run: holdfast config check --config /etc/holdfast/holdfast.toml"]],
    );
}

#[test]
fn a_file_with_a_secret_is_for_its_owner_alone() {
    let environment = Environment::from_pairs([("CREDENTIALS_DIRECTORY", "/run/credentials/h")]);
    let check = |path: &str, mode, owner, us| {
        let found = Permissions { mode, owner };
        match check_secret_file(Path::new(path), found, us, &environment) {
            Ok(()) => String::from("fine"),
            Err(problems) => {
                let problem = &problems.list()[0];
                format!("{}: {}; {}", problem.code(), problem, problem.help())
            }
        }
    };
    assert_eq!(check("/k", 0o100_600, 7, 7), "fine");
    assert_eq!(check("/k", 0o400, 0, 7), "fine");
    assert_eq!(check("/k", 0o600, 7, 0), "fine");
    assert_eq!(check("/run/credentials/h/k", 0o440, 0, 7), "fine");
    expect!["secret_exposed: /k holds a secret that others can read (mode 640); run: chmod 600 /k"]
        .assert_eq(&check("/k", 0o100_640, 7, 7));
    expect![[r"secret_exposed: /it's a key holds a secret that others can read (mode 604); run: chown 7 '/it'\''s a key' && chmod 600 '/it'\''s a key'"]].assert_eq(&check("/it's a key", 0o604, 0, 7));
    expect!["secret_of_another: /k holds a secret and belongs to the user with the id 8; run: chown 7 /k && chmod 600 /k"].assert_eq(&check("/k", 0o600, 8, 7));
    for path in ["/run/credentials/h/../../k", "/run/credentials/hh/k", "/run/credentials/other/k"]
    {
        assert!(check(path, 0o440, 0, 7).starts_with("secret_exposed"), "{path}");
    }
    for mode in [0o444, 0o460] {
        assert!(check("/run/credentials/h/k", mode, 0, 7).starts_with("secret_exposed"));
    }
}

#[test]
fn a_variable_that_is_no_text_is_refused() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    let odd = OsString::from_vec(vec![0xff]);
    let environment = Environment::from_pairs([("HOLDFAST_DATA_DIR", odd)]);
    let loaded = load(&Sources { flags: Vec::new(), environment: &environment, file: None });
    assert_eq!(codes(&loaded), ["variable_not_text"]);
}

/// Files by their paths.
struct Map(BTreeMap<PathBuf, String>);

impl Files for Map {
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<FileText> {
        assert_eq!(bytes_max, CONFIG_FILE_BYTES_MAX);
        let text = self.0.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(FileText { text, permissions: Permissions { mode: 0o644, owner: 0 } })
    }
}

#[test]
fn the_file_is_that_of_the_flag_else_that_of_the_variable_else_none() {
    let files = Map([("/a", "1"), ("/b", "2")].map(|(p, t)| (p.into(), t.to_owned())).into());
    let environment = Environment::from_pairs([("HOLDFAST_CONFIG", "/b")]);
    let bare = Environment::default();
    let found = |flag: Option<&str>, environment| {
        find(&files, flag.map(Path::new), environment).map(|file| file.map(|(_, text)| text))
    };
    assert_eq!(found(Some("/a"), &environment), Ok(Some("1".to_owned())));
    assert_eq!(found(None, &environment), Ok(Some("2".to_owned())));
    assert_eq!(found(None, &bare), Ok(None));
    expect![[r"
        error[config_unreadable]: the file cannot be read: entity not found
          where: /c
          help:  name a file that this user can read, by --config or HOLDFAST_CONFIG

        then run: holdfast config check --config /c"]]
    .assert_eq(&found(Some("/c"), &environment).unwrap_err().to_string());
}

#[test]
fn a_reload_applies_what_is_live_and_names_the_rest() {
    let old = load_file("[server]\nlisten = '127.0.0.1:1'\n[tier.old]\n[log]\nlevel = 'info'\n");
    let new =
        load_file("[server]\nhosts = ['a']\n[tier.new]\nqueues = 1\n[log]\nlevel = 'debug'\n");
    let (old, new) = (old.unwrap(), new.unwrap());
    let lines = differences(&old, &new).into_iter().map(|change| {
        let side = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        let when = if change.live { "now" } else { "next start" };
        format!("{}: {} -> {} ({when})\n", change.key, side(change.from), side(change.to))
    });
    expect![[r#"
        log.level: "info" -> "debug" (now)
        server.hosts: [] -> ["a"] (now)
        server.listen: "127.0.0.1:1" -> "127.0.0.1:7070" (next start)
        tier.new.cache_bytes: none -> -1 (now)
        tier.new.jobs_per_day: none -> -1 (now)
        tier.new.jobs_waiting: none -> -1 (now)
        tier.new.monitors: none -> -1 (now)
        tier.new.queues: none -> 1 (now)
        tier.new.series: none -> -1 (now)
        tier.new.tokens: none -> -1 (now)
        tier.old.cache_bytes: -1 -> none (now)
        tier.old.jobs_per_day: -1 -> none (now)
        tier.old.jobs_waiting: -1 -> none (now)
        tier.old.monitors: -1 -> none (now)
        tier.old.queues: -1 -> none (now)
        tier.old.series: -1 -> none (now)
        tier.old.tokens: -1 -> none (now)
    "#]]
    .assert_eq(&lines.collect::<String>());
    assert!(differences(&new, &new).is_empty());
}

#[test]
fn the_cache_has_budgets_namespaces_and_classes() {
    let text = r#"
        [cache]
        enabled = false
        budget = "64MiB"
        kept_budget = "12.50%"
        snapshot = true
        [cache.namespace.sessions]
        keep = true
        share = 1000000
        [cache.namespace."a.b"]
        share = "5%"
        [cache.namespace.empty]
        [cache.class.dashboard]
        ttl = "90s"
        [cache.class."menu.de"]
        ttl = 300
        stale = 0.5
    "#;
    check(
        text,
        expect![[r#"
            cache.enabled = false (/etc/holdfast/holdfast.toml:3)
            cache.budget = "64MiB" (/etc/holdfast/holdfast.toml:4)
            cache.kept_budget = "12.5%" (/etc/holdfast/holdfast.toml:5)
            cache.snapshot = true (/etc/holdfast/holdfast.toml:6)
            cache.namespace.a.b.share = "5%" (/etc/holdfast/holdfast.toml:11)
            cache.namespace.sessions.keep = true (/etc/holdfast/holdfast.toml:8)
            cache.namespace.sessions.share = "1MB" (/etc/holdfast/holdfast.toml:9)
            cache.class.dashboard.ttl = "90s" (/etc/holdfast/holdfast.toml:14)
            cache.class.menu.de.ttl = "5m" (/etc/holdfast/holdfast.toml:16)
            cache.class.menu.de.stale = "500ms" (/etc/holdfast/holdfast.toml:17)
        "#]],
    );
    let cache = load_file(text).unwrap().config.cache;
    assert!(!cache.enabled && cache.snapshot);
    assert_eq!(cache.budget, Amount::Bytes(64 << 20));
    assert_eq!(cache.kept_budget.of(8000), 1000);
    let namespace = |name: &str| cache.namespaces[&Namespace::parse(name).unwrap()];
    let sessions = NamespaceSettings { keep: true, share: Amount::Bytes(1_000_000) };
    assert_eq!(namespace("sessions"), sessions);
    assert_eq!(namespace("a.b").share.of(2000), 100);
    assert_eq!(namespace("empty"), NamespaceSettings::default());
    let life = |ttl, stale| {
        let ms = Duration::from_millis;
        Life::new(Some(ms(ttl)), ms(stale)).unwrap()
    };
    assert_eq!(cache.classes["dashboard"], life(90_000, 240_000), "the rest of it stays");
    assert_eq!(cache.classes["menu.de"], life(300_000, 500));
    let variables = [("HOLDFAST_CACHE_BUDGET", "1GiB"), ("HOLDFAST_CACHE_ENABLED", "true")];
    let cache = load_all(text, &variables, &[("cache.budget", "30%")]).unwrap().config.cache;
    assert_eq!((cache.enabled, cache.budget.of(1000)), (true, 300));
}

#[test]
fn the_classes_that_are_built_in_are_those_of_the_product() {
    let cache = load_file("").unwrap().config.cache;
    let line = |(name, life): (&String, &Life)| {
        let (ttl, stale) = (life.ttl().unwrap().as_secs(), life.stale().as_secs());
        format!("{name} {ttl} {stale}\n")
    };
    expect![[r"
        dashboard 60 240
        device_status 120 0
        gateways 1800 0
        packages 900 0
        permissions 3600 0
        summary 3600 0
        tenant 600 0
        tier_limits 3600 0
        trend 600 0
        uptime 300 0
    "]]
    .assert_eq(&cache.classes.iter().map(line).collect::<String>());
    assert!(cache.enabled && !cache.snapshot && cache.namespaces.is_empty());
    assert_eq!((cache.budget.of(1000), cache.kept_budget.of(1000)), (250, 100));
}

#[test]
fn mistakes_in_the_cache_are_told_with_the_way_to_mend_them() {
    check(
        r#"
[cache]
budget = 25
kept_budget = "100KiB"
snapshots = true
[cache.namespace]
keep = true
[cache.namespace.s]
share = "0%"
kept = true
[cache.namespace."a b"]
[cache.namespaces.x]
"#,
        expect![[r#"
            error[wrong_value]: cache.budget cannot be "25": these are 25 bytes; did you mean "25%"?
              where: /etc/holdfast/holdfast.toml:3
              help:  write: budget = "256MiB"

            error[wrong_value]: cache.kept_budget cannot be "100KiB": it is at least 1MiB; what nobody keeps takes no memory
              where: /etc/holdfast/holdfast.toml:4
              help:  write: kept_budget = "128MiB"

            error[unknown_key]: unknown key cache.snapshots; did you mean cache.snapshot?
              where: /etc/holdfast/holdfast.toml:5
              help:  the keys of [cache] are enabled, budget, kept_budget, snapshot

            error[unknown_key]: unknown key cache.namespace.keep; did you mean cache.namespace.sessions.keep?
              where: /etc/holdfast/holdfast.toml:7
              help:  the keys of [cache.namespace.<name>] are keep, share

            error[wrong_value]: cache.namespace.s.share cannot be "0%": a percentage is above 0 and at most 100, with two places behind the point at most
              where: /etc/holdfast/holdfast.toml:9
              help:  write: share = "20%"

            error[unknown_key]: unknown key cache.namespace.s.kept; did you mean cache.namespace.s.keep?
              where: /etc/holdfast/holdfast.toml:10
              help:  the keys of [cache.namespace.<name>] are keep, share

            error[invalid_namespace]: namespace name has a character at byte 1 that is not one of A-Z a-z 0-9 . _ : -
              where: /etc/holdfast/holdfast.toml:11
              help:  write for example: [cache.namespace.sessions]

            error[unknown_key]: unknown key cache.namespaces; did you mean [cache.namespace.<name>]?
              where: /etc/holdfast/holdfast.toml:12
              help:  the keys of [cache] are enabled, budget, kept_budget, snapshot

            then run: holdfast config check --config /etc/holdfast/holdfast.toml"#]],
    );
    assert_eq!(codes(&load_file("[cache]\nnamespace = 5\n")), ["not_a_section"]);
    assert_eq!(codes(&load_file("[cache.namespace.x.y]\n")), ["unknown_key"]);
    assert_eq!(codes(&load_file("[cach]\n")), ["unknown_section"]);
    assert_eq!(codes(&load_all("", &[("HOLDFAST_CACHE_BUDGET", "256M")], &[])), ["wrong_value"]);
}

#[test]
fn mistakes_in_classes_are_told_with_the_way_to_mend_them() {
    check(
        r#"
[cache.class.menu]
stale = "1h"
[cache.class.empty]
[cache.class.wrong]
ttl = "5x"
[cache.class.zero]
ttl = 0
stale = "9999d"
[cache.class.uptime]
ttl = ""
[cache.class]
ttl = 5
"#,
        expect![[r#"
            error[class_without_ttl]: the class menu has no ttl
              where: /etc/holdfast/holdfast.toml:2
              help:  write below [cache.class.menu]: ttl = "5m"

            error[class_without_ttl]: the class empty has no ttl
              where: /etc/holdfast/holdfast.toml:4
              help:  write below [cache.class.empty]: ttl = "5m"

            error[wrong_value]: cache.class.wrong.ttl cannot be "5x": a duration is a number of seconds or a number with a unit: 250ms, 30s, 5m, 1h, 7d
              where: /etc/holdfast/holdfast.toml:6
              help:  write: ttl = "5m"

            error[wrong_value]: cache.class.zero.ttl cannot be "0": a ttl is at least a millisecond
              where: /etc/holdfast/holdfast.toml:8
              help:  write: ttl = "5m"

            error[wrong_value]: cache.class.zero.stale cannot be "9999d": in the cache a duration is at most 3650d
              where: /etc/holdfast/holdfast.toml:9
              help:  write: stale = "1h"

            error[class_without_ttl]: the class uptime has no ttl
              where: /etc/holdfast/holdfast.toml:10
              help:  write below [cache.class.uptime]: ttl = "5m"

            error[unknown_key]: unknown key cache.class.ttl; did you mean cache.class.dashboard.ttl?
              where: /etc/holdfast/holdfast.toml:13
              help:  the keys of [cache.class.<name>] are ttl, stale

            then run: holdfast config check --config /etc/holdfast/holdfast.toml"#]],
    );
    assert_eq!(codes(&load_file("[cache.class]\nx = 5\n")), ["not_a_section"]);
}

#[test]
fn types_of_jobs_have_tries_a_timeout_and_a_backoff() {
    let text = r#"
        [server]
        timezone = "Europe/Berlin"
        [queue.type.mail]
        timeout = "90s"
        backoff = ["10s", 60, "1h"]
        [queue.type.'App\Jobs\Invoice']
        max_tries = 7
        backoff = "2h"
        [queue.type.plain]
        [queue.type.bulk]
        max_tries = ""
        timeout = ""
        [history]
        rows = 5_000
        bytes = "64MiB"
        age = "24h"
    "#;
    check(
        text,
        expect![[r#"
        server.timezone = "Europe/Berlin" (/etc/holdfast/holdfast.toml:3)
        queue.type.App\Jobs\Invoice.max_tries = 7 (/etc/holdfast/holdfast.toml:8)
        queue.type.App\Jobs\Invoice.backoff = "2h" (/etc/holdfast/holdfast.toml:9)
        queue.type.bulk.max_tries = "" (/etc/holdfast/holdfast.toml:12)
        queue.type.bulk.timeout = "" (/etc/holdfast/holdfast.toml:13)
        queue.type.mail.timeout = "90s" (/etc/holdfast/holdfast.toml:5)
        queue.type.mail.backoff = ["10s", "1m", "1h"] (/etc/holdfast/holdfast.toml:6)
        history.rows = 5000 (/etc/holdfast/holdfast.toml:15)
        history.bytes = "64MiB" (/etc/holdfast/holdfast.toml:16)
        history.age = "1d" (/etc/holdfast/holdfast.toml:17)
    "#]],
    );
    let config = load_file(text).unwrap().config;
    let rules = |name: &str| config.queue_types[name].rules();
    let seconds = Duration::from_secs;
    assert_eq!(rules("mail").max_tries, Some(3), "the rest of it stays");
    let waits = vec![seconds(10), seconds(60), seconds(3600)];
    assert_eq!(rules("mail").backoff, Some(Backoff::List(waits)));
    let two_hours = seconds(7200);
    let growing = Backoff::Exponential { base: two_hours, cap: two_hours };
    assert_eq!(rules(r"App\Jobs\Invoice").backoff, Some(growing));
    assert_eq!((rules("plain"), rules("bulk")), (Rules::default(), Rules::default()));
    let history = HistoryConfig { rows: 5000, bytes: 64 << 20, age: seconds(86_400) };
    assert_eq!((config.history, config.server.timezone.name()), (history, "Europe/Berlin"));
    let variables = [("HOLDFAST_HISTORY_ROWS", "1000"), ("HOLDFAST_SERVER_TIMEZONE", "UTC")];
    let config = load_all(text, &variables, &[("history.age", "1m")]).unwrap().config;
    assert_eq!((config.history.rows, config.history.age), (1000, seconds(60)));
    assert_eq!(config.server.timezone.name(), "UTC");
    assert_eq!(codes(&load_file("[server]\ntimezone = 'Europe/Atlantis'\n")), ["wrong_value"]);
}

#[test]
fn the_types_of_jobs_that_are_built_in_are_those_of_the_product() {
    let config = load_file("").unwrap().config;
    let line = |(name, job_type): (&String, &JobTypeConfig)| {
        let JobTypeConfig { max_tries, timeout, backoff } = job_type;
        assert_eq!(*backoff, None);
        format!("{name} {} {}\n", max_tries.unwrap(), timeout.unwrap().as_secs())
    };
    expect![[r"
        bulk 3 120
        mail 3 60
        payment 3 120
        report 2 300
        sync 3 90
    "]]
    .assert_eq(&config.queue_types.iter().map(line).collect::<String>());
    let week = Duration::from_hours(24 * 7);
    assert_eq!(config.history, HistoryConfig { rows: 1_000_000, bytes: 1 << 30, age: week });
}

#[test]
#[expect(clippy::too_many_lines, reason = "every mistake and what is said of it")]
fn mistakes_in_types_of_jobs_are_told_with_the_way_to_mend_them() {
    check(
        r#"
[queue]
paused = true
[queue.types.mail]
[queue.type.mail]
max_tries = 0
timeout = "1ms"
backoff = []
tries = 3
[queue.type.sync]
max_tries = 10001
timeout = "8d"
backoff = "-5s"
[queue.type.""]
[queue.type."a\u0007"]
[queue.type]
max_tries = 5
[history]
rows = 999
bytes = "5%"
age = "1s"
[server]
timezone = "CET; rm -rf"
"#,
        expect![[r#"
            error[unknown_key]: unknown key queue.paused
              where: /etc/holdfast/holdfast.toml:3
              help:  the sections of queue are [queue.type.<name>]

            error[unknown_key]: unknown key queue.types; did you mean [queue.type.<name>]?
              where: /etc/holdfast/holdfast.toml:4
              help:  the sections of queue are [queue.type.<name>]

            error[wrong_value]: queue.type.mail.max_tries cannot be 0: it is a whole number from 1 to 10000
              where: /etc/holdfast/holdfast.toml:6
              help:  write: max_tries = 5

            error[wrong_value]: queue.type.mail.timeout cannot be "1ms": it is 1s to 7d
              where: /etc/holdfast/holdfast.toml:7
              help:  write: timeout = "10m"

            error[wrong_value]: queue.type.mail.backoff cannot be a list of 0: a list has 1 to 100 waits
              where: /etc/holdfast/holdfast.toml:8
              help:  write: backoff = "10s"

            error[unknown_key]: unknown key queue.type.mail.tries
              where: /etc/holdfast/holdfast.toml:9
              help:  the keys of [queue.type.<name>] are max_tries, timeout, backoff

            error[wrong_value]: queue.type.sync.max_tries cannot be 10001: it is a whole number from 1 to 10000
              where: /etc/holdfast/holdfast.toml:11
              help:  write: max_tries = 5

            error[wrong_value]: queue.type.sync.timeout cannot be "8d": it is 1s to 7d
              where: /etc/holdfast/holdfast.toml:12
              help:  write: timeout = "10m"

            error[wrong_value]: queue.type.sync.backoff cannot be "-5s": a duration is not negative
              where: /etc/holdfast/holdfast.toml:13
              help:  write: backoff = "10s"

            error[invalid_job_type]: job type name has 0 bytes; 1 to 128 are allowed
              where: /etc/holdfast/holdfast.toml:14
              help:  write for example: [queue.type.invoice]

            error[invalid_job_type]: job type name has a control character at byte 1
              where: /etc/holdfast/holdfast.toml:15
              help:  write for example: [queue.type.invoice]

            error[unknown_key]: unknown key queue.type.max_tries; did you mean queue.type.mail.max_tries?
              where: /etc/holdfast/holdfast.toml:17
              help:  the keys of [queue.type.<name>] are max_tries, timeout, backoff

            error[wrong_value]: history.rows cannot be 999: it is a whole number from 1000 to 1000000000
              where: /etc/holdfast/holdfast.toml:19
              help:  write: rows = 200000

            error[wrong_value]: history.bytes cannot be "5%": it is a number of bytes, and no part of anything
              where: /etc/holdfast/holdfast.toml:20
              help:  write: bytes = "256MiB"

            error[wrong_value]: history.age cannot be "1s": it is 1m to 3650d
              where: /etc/holdfast/holdfast.toml:21
              help:  write: age = "1d"

            error[wrong_value]: server.timezone cannot be "CET; rm -rf": a time zone is called as by IANA: UTC, Europe/Berlin, America/New_York
              where: /etc/holdfast/holdfast.toml:23
              help:  write: timezone = "Europe/Berlin"

            then run: holdfast config check --config /etc/holdfast/holdfast.toml"#]],
    );
}

#[test]
fn series_are_kept_for_so_long_and_in_so_much_space() {
    let text = r#"
        [series]
        budget = "256MiB"
        raw = "3d"
        r5m = "30d"
        r1h = "30d"
        r1d = 86_400_000
        sketch = ["*_latency_seconds", "http:request?"]
    "#;
    let config = load_file(text).unwrap().config.series;
    let days = |days: u64| Duration::from_hours(24 * days);
    let sketch = vec!["*_latency_seconds".to_owned(), "http:request?".to_owned()];
    let expected = SeriesConfig {
        budget: 256 << 20,
        raw: days(3),
        r5m: days(30),
        r1h: days(30),
        r1d: days(1000),
        sketch,
    };
    assert_eq!(config, expected);
    let variables = [("HOLDFAST_SERIES_SKETCH", "a*, b"), ("HOLDFAST_SERIES_RAW", "2d")];
    let config = load_all(text, &variables, &[]).unwrap().config.series;
    assert_eq!((config.sketch, config.raw), (vec!["a*".to_owned(), "b".to_owned()], days(2)));
}

#[test]
fn units_whose_failure_counts_are_named_as_systemd_names_them() {
    let text = r#"
        [host]
        units = ["nginx", "php8.3-fpm", "backup@shop.timer"]
        critical_units = ["mysql"]
    "#;
    let config = load_file(text).unwrap().config.host;
    assert_eq!(config.units, ["nginx.service", "php8.3-fpm.service", "backup@shop.timer"]);
    assert_eq!(config.critical_units, ["mysql.service"]);
    check(
        r#"
[host]
units = ["my unit", "", "../etc"]
"#,
        expect![[r#"
            error[wrong_value]: host.units cannot be "my unit": a unit is called as by systemctl list-units: nginx.service, php8.3-fpm.service
              where: /etc/holdfast/holdfast.toml:3
              help:  write: units = ["nginx.service", "php8.3-fpm.service"]

            then run: holdfast config check --config /etc/holdfast/holdfast.toml"#]],
    );
}

#[test]
fn mistakes_in_series_are_told_with_the_way_to_mend_them() {
    check(
        r#"
[series]
budget = "31MiB"
raw = "47h"
r5m = "36501d"
sketch = ["[a", "my metric", ""]
tiers = 5
"#,
        expect![[r#"
            error[wrong_value]: series.budget cannot be "31MiB": it is at least 32MiB
              where: /etc/holdfast/holdfast.toml:3
              help:  write: budget = "256MiB"

            error[wrong_value]: series.raw cannot be "47h": it is 2d to 36500d
              where: /etc/holdfast/holdfast.toml:4
              help:  write: raw = "7d"

            error[wrong_value]: series.r5m cannot be "36501d": a duration is at most 36500d
              where: /etc/holdfast/holdfast.toml:5
              help:  write: r5m = "30d"

            error[wrong_value]: series.sketch cannot be "[a": the [ at byte 0 is never closed; a bracket itself is written \[
              where: /etc/holdfast/holdfast.toml:6
              help:  write: sketch = ["*_latency_seconds"]

            error[unknown_key]: unknown key series.tiers
              where: /etc/holdfast/holdfast.toml:7
              help:  the keys of [series] are budget, raw, r5m, r1h, r1d, sketch

            then run: holdfast config check --config /etc/holdfast/holdfast.toml"#]],
    );
    check(
        r#"
[series]
raw = "100d"
r1d = "1y"
"#,
        expect![[r#"
            error[wrong_value]: series.r1d cannot be "1y": a duration is a number of seconds or a number with a unit: 250ms, 30s, 5m, 1h, 7d
              where: /etc/holdfast/holdfast.toml:4
              help:  write: r1d = "1825d"

            error[tier_shorter]: series.r5m is 90d, shorter than series.raw, which is 100d
              where: default
              help:  set series.r5m to 100d or more, or series.raw to less

            then run: holdfast config check --config /etc/holdfast/holdfast.toml"#]],
    );
    check(
        "[series]\nr1h = \"20d\"\nr1d = \"10d\"\n",
        expect![[r"
        error[tier_shorter]: series.r1h is 20d, shorter than series.r5m, which is 90d
          where: /etc/holdfast/holdfast.toml:2
          help:  set series.r1h to 90d or more, or series.r5m to less

        error[tier_shorter]: series.r1d is 10d, shorter than series.r1h, which is 20d
          where: /etc/holdfast/holdfast.toml:3
          help:  set series.r1d to 20d or more, or series.r1h to less

        then run: holdfast config check --config /etc/holdfast/holdfast.toml"]],
    );
}

#[test]
fn the_settings_of_queues_have_bounds() {
    let zone = |zone: &str| load_all("", &[("HOLDFAST_SERVER_TIMEZONE", zone)], &[]);
    for bad in ["", "+02:00", "2", "a b", &"Z".repeat(65)] {
        assert_eq!(codes(&zone(bad)), ["wrong_value"], "{bad:?}");
    }
    for good in ["Etc/GMT+5", "America/Port-au-Prince", "America/Argentina/Rio_Gallegos"] {
        assert!(zone(good).is_ok(), "{good}");
    }
    let tries = |tries: &str| load_file(&format!("[queue.type.x]\nmax_tries = {tries}\n"));
    assert!(tries("1").is_ok() && tries("10000").is_ok());
    let timeout = |time: &str| load_file(&format!("[queue.type.x]\ntimeout = '{time}'\n"));
    assert!(timeout("1s").is_ok() && timeout("7d").is_ok() && timeout("999ms").is_err());
    let waits = |count: usize| {
        let list = vec!["1"; count].join(",");
        load_file(&format!("[queue.type.x]\nbackoff = [{list}]\n"))
    };
    assert!(waits(100).is_ok() && waits(101).is_err());
    assert_eq!(codes(&load_file("queue = 5\n")), ["not_a_section"]);
}

#[test]
fn budgets_that_leave_little_to_the_rest_are_warned_of() {
    let warning = |text: &str| load_file(text).unwrap().config.cache.warning(1000 << 20);
    assert_eq!(warning(""), None);
    assert_eq!(warning("[cache]\nbudget = '70%'\n"), None);
    expect!["cache.budget and cache.kept_budget are 810 MiB together, more than 80 % of the 1000 MiB that the process may use: it may be ended for want of memory"].assert_eq(&warning("[cache]\nbudget = '71%'\n").unwrap());
    assert!(warning("[cache]\nbudget = '2GiB'\n").is_some());
    assert_eq!(warning("[cache]\nbudget = '2GiB'\nenabled = false\n"), None);
    assert!(warning("[cache]\nbudget = '16777215TiB'\nkept_budget = '16777215TiB'\n").is_some());
}

#[test]
fn a_namespace_exists_without_being_named_and_is_kept_from_the_next_start_on() {
    let told = |old: &str, new: &str| {
        let changes = differences(&load_file(old).unwrap(), &load_file(new).unwrap());
        let line = |change: Change| {
            let side = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
            format!(
                "{}: {} -> {} {}\n",
                change.key,
                side(change.from),
                side(change.to),
                change.live
            )
        };
        changes.into_iter().map(line).collect::<String>()
    };
    assert_eq!(told("", "[cache.namespace.a]\nshare = '100%'\n"), "");
    expect![[r#"
        cache.class.new.stale: none -> "0s" true
        cache.class.new.ttl: none -> "2s" true
        cache.class.old.stale: "0s" -> none true
        cache.class.old.ttl: "1s" -> none true
        cache.enabled: true -> false true
        cache.namespace.a.keep: true -> false false
        cache.namespace.b.share: "100%" -> "5%" true
    "#]]
    .assert_eq(&told(
        "[cache.namespace.a]\nkeep = true\n[cache.class.old]\nttl = 1\n",
        "[cache]\nenabled = false\n[cache.namespace.b]\nshare = '5%'\n[cache.class.new]\nttl = 2\n",
    ));
    let started = load_file("[cache.namespace.a]\nkeep = true\n").unwrap().config.cache;
    let new = "[cache.namespace.b]\nkeep = true\nshare = '5%'\n[cache.namespace.a]\nshare = '6%'\n";
    let mut new = load_file(new).unwrap().config.cache;
    new.keep_as(&started);
    let kept = |name: &str| new.namespaces[&Namespace::parse(name).unwrap()].keep;
    assert_eq!((kept("a"), kept("b")), (true, false));
    let mut gone = load_file("").unwrap().config.cache;
    gone.keep_as(&started);
    assert_eq!(gone.namespaces, started.namespaces);
}

#[test]
fn the_shipped_file_is_what_the_table_says() {
    expect_file!["../../packaging/holdfast.toml"].assert_eq(&shipped(&PACKAGED));
}

/// Every `#name = value` without its `#`.
fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn the_shipped_file_loads_as_it_is_and_with_everything_uncommented() {
    let plain = load_file(&shipped(&PACKAGED)).unwrap();
    let full = load_file(&uncommented(&shipped(&PACKAGED))).unwrap();
    assert!(differences(&plain, &full).is_empty(), "what is commented out is the default");
    assert!(plain.warnings.is_empty() && full.warnings.is_empty());
    let given = |loaded: &Loaded| {
        loaded.values.iter().filter(|value| value.origin != Origin::Default).count()
    };
    assert_eq!((given(&plain), given(&full)), (2, full.values.len()));
    assert!(shipped(&PACKAGED).lines().all(|line| line.len() <= 100));
}

#[test]
fn every_row_of_the_table_is_whole() {
    for key in &KEYS {
        assert!(SECTIONS.iter().any(|section| section.name == key.section), "{key:?}");
        assert!(!key.doc.is_empty() && key.doc.lines().count() <= 3, "{key:?}");
        // Panics if one is wrong.
        assert_ne!(key.in_toml(key.example), "", "{key:?}");
        assert_ne!(key.in_toml(key.default), "", "{key:?}");
        assert_eq!(key.default_in("a"), key.default, "{key:?}");
        assert_eq!(KEYS.iter().filter(|k| k.full("a") == key.full("a")).count(), 1, "{key:?}");
    }
    let quotas = KEYS.iter().filter(|key| key.section == "tier.<name>").map(|key| key.name);
    assert_eq!(quotas.collect::<Vec<_>>(), Quota::ALL.map(Quota::as_str));
}

#[test]
fn the_table_of_the_readme_has_a_row_for_each_setting() {
    let table = markdown_table();
    assert_eq!(table.lines().count(), 2 + KEYS.len());
    let row = table.lines().find(|row| row.contains("server.listen")).unwrap();
    expect![[r#"| `server.listen` | `"127.0.0.1:7070"` | `HOLDFAST_LISTEN` | The address and port for HTTP. 127.0.0.1 is reached from this machine alone, 0.0.0.0 from everywhere; that needs [tls] or behind_tls_proxy. Port 0 takes a free one. Needs a restart. |"#]].assert_eq(row);
    assert!(table.lines().all(|row| row.replace("\\|", "").matches('|').count() == 5));
}

#[test]
fn what_can_grow_has_a_bound() {
    let large = format!("#{}", "x".repeat(CONFIG_FILE_BYTES_MAX));
    assert_eq!(codes(&load_file(&large)), ["config_too_large"]);

    let tiers: Vec<String> = (0..TIERS_MAX).map(|n| format!("[tier.t{n}]")).collect();
    assert_eq!(codes(&load_file(&tiers.join("\n"))), ["too_many_tiers"]);

    let sections = |count: usize, section: &str, body: &str| {
        let all: Vec<String> = (0..count).map(|n| format!("[{section}.n{n}]\n{body}\n")).collect();
        load_file(&all.concat())
    };
    let namespaces = |count| sections(count, "cache.namespace", "");
    assert!(namespaces(CONFIG_NAMESPACES_MAX).is_ok());
    assert_eq!(codes(&namespaces(CONFIG_NAMESPACES_MAX + 1)), ["too_many_namespaces"]);
    let classes = |count| sections(count, "cache.class", "ttl = 1");
    assert!(classes(CLASSES_MAX - 10).is_ok(), "ten are built in");
    assert_eq!(codes(&classes(CLASSES_MAX - 9)), ["too_many_classes"]);
    let types = |count| sections(count, "queue.type", "");
    assert!(types(QUEUE_TYPES_CONFIG_MAX - 5).is_ok(), "five are built in");
    assert_eq!(codes(&types(QUEUE_TYPES_CONFIG_MAX - 4)), ["too_many_job_types"]);

    let hosts = vec!["'a'"; HOSTS_MAX + 1].join(",");
    assert_eq!(codes(&load_file(&format!("[server]\nhosts = [{hosts}]"))), ["wrong_value"]);

    let connections = format!("[server]\nmax_connections = {}", CONNECTIONS_MAX + 1);
    assert_eq!(codes(&load_file(&connections)), ["wrong_value"]);

    let unknown: Vec<String> = (0..1000).map(|n| format!("x{n} = 1")).collect();
    let problems = load_file(&unknown.join("\n")).unwrap_err();
    assert_eq!((problems.list().len(), problems.unlisted()), (50, 950));
    assert!(problems.to_string().contains("and 950 more"));
}

#[test]
fn the_worst_files_are_refused_without_harm() {
    let whole = |part: &str| part.repeat(CONFIG_FILE_BYTES_MAX / part.len());
    for part in
        ["[", "a={", "a.", "[[a]]\n", "\"", "'''\n", "= \n", "\n", "[a.", "\u{0}", "\r", "\u{feff}"]
    {
        assert!(load_file(&whole(part)).is_err() || part == "\n", "{part:?}");
    }
}

/// The parser lets 80 braces be nested with 80 dots in the key of each, and drops what it built by
/// recursion: a stack of 2 MiB overflowed.
#[test]
fn a_file_that_nests_too_deep_is_refused_before_it_is_built() {
    let path = vec!["a"; 79].join(".");
    let braces = |depth: usize, key: &str| {
        let (open, close) = (format!("{{ {key} = ").repeat(depth), "}".repeat(depth));
        format!("{key} = {open}1{close}\n")
    };
    for depth in [8, 9, 79, 80, 1000] {
        // Twice, so that the parser drops the second by itself.
        assert_eq!(codes(&load_file(&braces(depth, &path).repeat(2))), ["config_too_deep"]);
        let unclosed = braces(depth, &path).replace('}', "");
        assert_eq!(codes(&load_file(&unclosed)), ["config_too_deep"]);
    }
    assert_eq!(codes(&load_file(&braces(8, "a"))), ["unknown_section"]);
    assert_eq!(codes(&load_file(&braces(9, "a"))), ["config_too_deep"]);
    assert_eq!(codes(&load_file(&format!("[{path}]"))), ["config_too_deep"]);
    assert_eq!(codes(&load_file(&format!("a = {}", "[".repeat(5000)))), ["config_too_deep"]);
}

/// Seeds are printed on failure; `HOLDFAST_SEED` replays one.
#[test]
fn a_damaged_file_is_read_or_refused_and_never_a_panic() {
    let files = [shipped(&PACKAGED), uncommented(&shipped(&PACKAGED))];
    let (mut read, mut refused) = (0, 0);
    let all = seeds(2_000);
    for &seed in &all {
        let mut rng = Rng::from_seed(seed);
        let mut bytes = files[rng.index(files.len())].clone().into_bytes();
        for _ in 0..=rng.below(8) {
            damage(&mut bytes, &mut rng);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let outcome = std::panic::catch_unwind(|| load_file(&text));
        let outcome = outcome.unwrap_or_else(|_| panic!("seed={seed} text={text}"));
        match outcome {
            Ok(loaded) => {
                read += 1;
                assert!(KEYS.len() <= loaded.values.len(), "seed={seed}");
            }
            Err(problems) => {
                refused += 1;
                let shown = problems.to_string();
                let clean = shown.chars().all(|c| c == '\n' || !c.is_control());
                assert!(!problems.list().is_empty() && clean, "seed={seed} {shown}");
            }
        }
    }
    assert!(all.len() < 2_000 || (50 < read && 50 < refused), "{read} {refused}");
}

/// Replaces, removes, doubles or moves a part.
fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) {
    const PIECES: [&[u8]; 14] = [
        b"[", b"]", b"\"", b"'", b"=", b".", b"\n", b"{", b"}", b",", b"-", b"\\", b"tier", b"\xff",
    ];
    if bytes.is_empty() {
        return;
    }
    let at = rng.index(bytes.len());
    let end = bytes.len().min(at + 1 + rng.index(40));
    match rng.below(6) {
        0 => bytes[at] = rng.bytes(1)[0],
        1 => drop(bytes.drain(at..end)),
        2 => bytes.extend_from_within(at..end),
        3 => drop(bytes.splice(at..at, PIECES[rng.index(PIECES.len())].iter().copied())),
        4 => bytes.truncate(at),
        _ => bytes[at..].rotate_left(end - at),
    }
}
