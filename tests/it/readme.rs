//! The README keeps its word: the tour runs as it stands there, and the table of settings is the table
//! of the code.

use std::process::Command;

use crate::support::Server;

const README: &str = include_str!("../../README.md");

/// The commands of the tour, each with what it is said to show.
fn tour() -> Vec<(String, Option<String>)> {
    let mut steps: Vec<(String, Option<String>)> = Vec::new();
    for part in README.split("<!-- tour -->\n```sh\n").skip(1) {
        let block = part.split("```").next().unwrap();
        for line in block.lines() {
            match line.strip_prefix("# ") {
                Some(shown) => steps.last_mut().unwrap().1 = Some(shown.to_owned()),
                None => steps.push((line.to_owned(), None)),
            }
        }
    }
    assert!(10 < steps.len(), "the tour was found");
    steps
}

/// Whether `text` has the parts of `pattern` between its dots, in their order.
fn shows(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    for (index, part) in pattern.split("...").enumerate() {
        let Some(at) = rest.find(part) else {
            return false;
        };
        if index == 0 && at != 0 {
            return false;
        }
        rest = &rest[at + part.len()..];
    }
    true
}

#[test]
fn every_line_of_the_tour_shows_what_it_says() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(server.data_dir(), folder.path().join("holdfast-data")).unwrap();
    let mut variables = String::new();
    for (command, shown) in tour() {
        let command = command
            .replace("cargo run --release --", env!("CARGO_BIN_EXE_holdfast"))
            .replace("127.0.0.1:7070", &server.address().to_string());
        if command.starts_with("TOKEN=") || command.starts_with("JOB=") {
            variables.push_str(&command);
            variables.push('\n');
            continue;
        }
        let ran = Command::new("bash")
            .args(["-c", &format!("set -e\n{variables}{command}")])
            .current_dir(folder.path())
            .output()
            .expect("the tour needs bash and curl");
        let (out, err) =
            (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{command}\n{out}{err}");
        if let Some(shown) = shown {
            assert!(shows(&out, &shown), "{command}\nsays {out}\nand not {shown}");
        }
    }
}

#[test]
fn the_table_of_settings_is_that_of_the_code() {
    let (_, rest) = README.split_once("<!-- settings -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- /settings -->").unwrap();
    let expected = holdfast::config::markdown_table();
    assert!(table.trim() == expected.trim(), "put this between the marks:\n{expected}");
}

#[test]
fn the_check_of_the_tour_can_fail() {
    assert!(shows("{\"a\":1,\"b\":2}", "{\"a\":...\"b\":2}"));
    assert!(!shows("{\"a\":1}", "{\"a\":...\"b\":2}"));
    assert!(!shows("x{\"a\":1}", "{\"a\":1}"), "the start counts");
    assert!(shows("x{\"a\":1}", "...{\"a\":1}"));
}
