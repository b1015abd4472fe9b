//! `holdfast series` against a real server.

use std::fs;

use holdfast::base::time::Clock as _;
use holdfast::testing::clock::SystemClock;
use serde_json::{Value, json};

use crate::support::{Door, Ran, Request, Server, run, run_with};

fn on(server: &Server, arguments: &[&str]) -> Ran {
    let data_dir = server.data_dir();
    run(&[&["--data-dir", data_dir.to_str().unwrap()], arguments].concat())
}

/// Runs a command that has to end well, and gives what it printed.
#[track_caller]
fn well(server: &Server, arguments: &[&str]) -> String {
    let ran = on(server, arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
    ran.out
}

/// Seconds since 1970 at the last whole minute but one, and a little more.
fn moments() -> [String; 2] {
    let minute = SystemClock::new().now().wall.unix_ms() / 60_000 - 1;
    [minute * 60, minute * 60 + 1].map(|seconds| format!("{seconds}"))
}

#[test]
fn samples_are_written_listed_and_asked_for() {
    let server = Server::start();
    let [first, second] = moments();
    let write = |metric: &str, value: &str, more: &[&str]| {
        well(&server, &[&["series", "write", metric, value], more].concat())
    };
    let label = ["--label", "host=a b", "--time"];
    assert_eq!(write("load", "0.5", &[&label[..], &[&first]].concat()), "1 accepted\n");
    write("load", "-1.5", &[&label[..], &[&second, "--durable"]].concat());
    write("sent_total", "7", &["--time", &first]);
    write("took", "0.25", &["--time", &first, "--kind", "distribution"]);

    let list =
        well(&server, &["series", "list", "--match", "{__name__=~\"load|sent_total|took\"}"]);
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort_unstable();
    let expected = [
        "KIND          SERIES",
        "counter       sent_total",
        "distribution  took",
        "gauge         load{host=\"a b\"}",
    ];
    assert_eq!(lines, expected, "{list}");
    let list: Value =
        serde_json::from_str(&well(&server, &["series", "list", "--match", "load", "--json"]))
            .unwrap();
    assert_eq!(list, json!([{ "metric": "load", "labels": { "host": "a b" }, "kind": "gauge" }]));

    let query = ["series", "query", "load", "--fn", "raw", "--from", &first, "--output", "csv"];
    let csv = well(&server, &query);
    let values: Vec<&str> =
        csv.lines().skip(1).map(|line| line.rsplit(',').next().unwrap()).collect();
    assert_eq!(values, ["0.5", "-1.5"], "{csv}");
    let json: Value =
        serde_json::from_str(&well(&server, &["series", "query", "load", "--json"])).unwrap();
    assert_eq!(json["series"][0]["labels"], json!({ "host": "a b" }));
    let plot = well(&server, &["series", "query", "load", "--output", "plot"]);
    assert!(plot.starts_with("load{host=\"a b\"}  last ") && plot.ends_with(" UTC\n"), "{plot}");

    let ran = on(&server, &["series", "query", "nobody"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert!(ran.err.contains("holdfast series list"), "{ran:?}");
    for (arguments, code, told) in [
        (&["series", "query", "load{"][..], 1, "invalid_select"),
        (&["series", "write", "load", "many"], 2, "no number"),
        (&["series", "write", "lo ad", "1"], 1, "invalid_labels"),
    ] {
        let ran = on(&server, arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(told), "{arguments:?}: {ran:?}");
    }
}

/// All that is kept of three metrics of different kinds.
fn exported(server: &Server, format: &str) -> String {
    let select = "{__name__=~\"load|sent_total|took\"}";
    well(server, &["series", "export", select, "--from", "-1h", "--format", format])
}

/// The series of these metrics, by name: a list is in the order in which they came into being.
fn kinds(server: &Server) -> Vec<Value> {
    let select = "{__name__=~\"load|sent_total|took\"}";
    let text = well(server, &["series", "list", "--match", select, "--json"]);
    let mut kinds: Vec<Value> = serde_json::from_str(&text).unwrap();
    kinds.sort_by_key(Value::to_string);
    kinds
}

#[test]
fn what_was_exported_can_be_written_elsewhere_with_values_and_kinds() {
    let server = Server::start();
    let [first, second] = moments();
    let (first, second) = (format!("{first}007"), format!("{second}000"));
    let text = format!(
        "# TYPE load counter\n# TYPE took distribution\n\
         load{{path=\"a\\\"\\\\\\n\"}} 0.1 {first}\nload{{path=\"a\\\"\\\\\\n\"}} 0.30000000000000004 {second}\n\
         sent_total -0 {first}\ntook 5e-324 {first}\ntook +Inf {second}\nnonsense\n"
    );
    let data_dir = server.data_dir();
    let write = ["--data-dir", data_dir.to_str().unwrap(), "series", "write", "--file", "-"];
    let ran = run_with(&write, &text);
    assert_eq!((ran.code, ran.out.as_str()), (1, "5 accepted\n"), "{ran:?}");
    assert!(ran.err.contains("line 8"), "the others stay written: {ran:?}");
    let text = exported(&server, "json");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["samples"].as_array().unwrap().len(), 5, "{text}");

    // By the API, as it is.
    let other = Server::start();
    let client = other.client(Door::Tcp);
    let request = client.request("POST", "/v1/series?durable=1");
    let request: Request = request.header("Content-Type", "application/json").body(text.as_bytes());
    assert_eq!(client.send(&request).expect(200)["accepted"], 5);
    assert_eq!(exported(&other, "json"), text);
    assert_eq!(kinds(&other), kinds(&server));
    let kind = |name: &str| {
        let kinds = kinds(&other);
        kinds.iter().find(|one| one["metric"] == name).unwrap()["kind"].clone()
    };
    assert_eq!(["load", "sent_total", "took"].map(kind), ["counter", "counter", "distribution"]);

    // And by the command line, as text.
    let third = Server::start();
    let file = third.folder().join("samples");
    fs::write(&file, exported(&server, "prometheus")).unwrap();
    let told = well(&third, &["series", "write", "--file", file.to_str().unwrap(), "--durable"]);
    assert_eq!(told, "5 accepted\n");
    assert_eq!(
        (exported(&third, "csv"), kinds(&third)),
        (exported(&server, "csv"), kinds(&server))
    );
}
