//! The house rules that the compiler does not know: rows, homes, ASCII, module comments.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules by row. A module may use strictly lower rows, and nothing beside or above it.
const ROWS: &[&[&str]] = &[
    &["base"],
    &["store", "catalog", "trend"],
    &["exec"],
    &["cache", "queue", "series", "monitor", "alert", "host"],
    &["app"],
    &["http", "io", "config"],
    &["boot"],
    &["cli"],
];

/// What has a home: where alone it may be named. `testing` and files of tests may name anything.
const HOMES: &[(&str, &[&str])] = &[
    ("std::fs", &["boot/", "io/", "cli/", "store/disk.rs"]),
    ("std::net", &["boot/", "io/", "cli/"]),
    ("std::env", &["config/", "cli/"]),
    ("SystemTime", &["boot/", "io/", "cli/"]),
    ("Instant::", &["boot/", "io/", "cli/"]),
    ("getrandom", &["boot/", "io/", "cli/"]),
    ("crossbeam", &["exec/"]),
    ("std::thread", &["exec/"]),
    ("redb::", &["store/redb.rs"]),
    ("rusqlite", &["store/sqlite.rs", "catalog/"]),
    ("wincode", &["base/codec.rs"]),
    ("crc32c::", &["base/codec.rs", "series/"]),
    ("rustix", &["boot/", "io/", "store/disk.rs"]),
    ("hyper", &["http/", "io/", "cli/"]),
    ("serde", &["http/", "config/", "io/", "catalog/"]),
    ("clap", &["cli/"]),
];

/// Who may spell SQL: the engine that has tables of its own, and in the catalog the lists that a test
/// goes through. Pragmas are no statements.
const SQL_HOMES: &[&str] = &[
    "store/sqlite.rs",
    "catalog/statements.rs",
    "catalog/migrations.rs",
    "catalog/history/statements.rs",
    "catalog/history/migrations.rs",
];
const SQL_WORDS: &[&str] = &[
    "SELECT ",
    "INSERT INTO",
    "INSERT OR",
    "REPLACE INTO",
    "UPDATE ",
    "DELETE FROM",
    "CREATE TABLE",
    "CREATE INDEX",
    "CREATE TRIGGER",
    "DROP TABLE",
    "ALTER TABLE",
    "BEGIN IMMEDIATE",
    "SAVEPOINT ",
];
const PRAGMA_HOMES: &[&str] = &["store/sqlite.rs", "catalog/"];

fn row_of(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// Every `crate::...` path in `source` that does not lead downwards. A grouped `use crate::{...}` is a
/// breach too: it would hide from this check.
fn upward_paths(module: &str, source: &str) -> Vec<String> {
    let own = row_of(module).unwrap_or_else(|| panic!("{module} is not in ROWS"));
    let mut found = Vec::new();
    for (index, line) in code_lines(source) {
        for path in line.split("crate::").skip(1) {
            let used = path.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or("");
            let upward = used != module && row_of(used).is_some_and(|row| own <= row);
            if upward || used == "testing" || path.starts_with('{') {
                found.push(format!("line {}: {}", index + 1, line.trim()));
            }
        }
        // Would lead upwards, or hide a name, without the words that are looked for.
        if line.contains("super::super") || line.contains("use std::{") {
            found.push(format!("line {}: {}", index + 1, line.trim()));
        }
    }
    found
}

/// Every line of `source` that names something whose home is elsewhere.
fn strangers(file: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in code_lines(source) {
        for (name, homes) in HOMES {
            let named = line.match_indices(name).any(|(at, _)| {
                // `store::redb::` is our own module, `redb::` the crate.
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
            });
            if named && !homes.iter().any(|home| file.starts_with(home)) {
                found.push(format!("line {}: {name} belongs in {homes:?}", index + 1));
            }
        }
    }
    found
}

/// Every line of `source` that spells SQL where that does not belong.
fn stray_sql(file: &str, source: &str) -> Vec<String> {
    let at_home = |homes: &[&str]| homes.iter().any(|home| file.starts_with(home));
    let (sql, pragma) = (at_home(SQL_HOMES), at_home(PRAGMA_HOMES));
    let stray = |line: &str| {
        !sql && SQL_WORDS.iter().any(|word| line.contains(word))
            || !pragma && line.contains("PRAGMA ")
    };
    let lines = code_lines(source).filter(|(_, line)| stray(line));
    lines.map(|(index, line)| format!("line {}: {}", index + 1, line.trim())).collect()
}

/// The lines of `source` that are code, without those of its tests.
fn code_lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    // Test modules stand at the end; a lone test-only item hides nothing behind it.
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap_or("");
    code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The sources of the library: path below `src` with `/`, and text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(10 < files.len(), "the sources were found");
    files
}

fn is_test(file: &str) -> bool {
    file.ends_with("tests.rs") || file.contains("/tests/") || file.starts_with("testing/")
}

/// Checks every file with `check` and lists what it finds.
fn all_files(check: impl Fn(&str, &str) -> Vec<String>) -> String {
    let mut lines = Vec::new();
    for (file, source) in sources() {
        for line in check(&file, &source) {
            lines.push(format!("src/{file}, {line}"));
        }
    }
    lines.join("\n")
}

#[test]
fn every_module_uses_lower_rows_only() {
    let breaches = all_files(|file, source| match file.split_once('/') {
        Some((module, _)) if !is_test(file) => upward_paths(module, source),
        _ => Vec::new(),
    });
    assert_eq!(breaches, "");
}

#[test]
fn what_has_a_home_is_named_there_alone() {
    let breaches =
        all_files(|file, source| if is_test(file) { Vec::new() } else { strangers(file, source) });
    assert_eq!(breaches, "");
}

#[test]
fn sql_is_spelled_where_it_is_looked_after() {
    let breaches =
        all_files(|file, source| if is_test(file) { Vec::new() } else { stray_sql(file, source) });
    assert_eq!(breaches, "");
}

#[test]
fn every_file_is_ascii_and_begins_with_its_purpose() {
    let breaches = all_files(|_, source| {
        let mut found = Vec::new();
        if !source.starts_with("//!") {
            found.push("no module comment".to_owned());
        }
        if let Some(line) = source.lines().position(|line| !line.is_ascii()) {
            found.push(format!("line {}: not ASCII", line + 1));
        }
        found
    });
    assert_eq!(breaches, "");
}

#[test]
fn the_checks_find_what_they_look_for() {
    let upward = |module, source| upward_paths(module, source).len();
    assert_eq!(upward("store", "use crate::exec::Writer;"), 1);
    assert_eq!(upward("store", "use crate::catalog::Tokens;"), 1, "a neighbour");
    assert_eq!(upward("store", "use crate::{base, exec};"), 1, "a group hides");
    assert_eq!(upward("store", "use crate::testing::seeds;"), 1);
    assert_eq!(upward("store", "use crate::base::time::Now; // crate::exec"), 1);
    assert_eq!(upward("store", "use crate::base::time::Now;"), 0);
    assert_eq!(upward("store", "use crate::store::disk::Disk;"), 0);
    assert_eq!(upward("exec", "#[cfg(test)]\nmod tests {\nuse crate::testing::seeds;"), 0);
    assert_eq!(upward("exec", "#[cfg(test)]\nuse a::b;\nuse crate::boot::clock;"), 1);
    assert_eq!(upward("exec", "use super::super::boot::clock;"), 1);
    assert_eq!(upward("exec", "use std::{env, fs};"), 1);

    let strange = |file, source| strangers(file, source).len();
    assert_eq!(strange("base/key.rs", "use std::fs::File;"), 1);
    assert_eq!(strange("store/mod.rs", "let d = redb::Database::create(p);"), 1);
    assert_eq!(strange("store/mod.rs", "pub use crate::store::redb::Redb;"), 0);
    assert_eq!(strange("exec/pool.rs", "use crossbeam::channel::bounded;"), 0);
    assert_eq!(strange("app/mod.rs", "use crossbeam::channel::bounded;"), 1);
    assert_eq!(strange("app/mod.rs", "/// like std::fs"), 0);

    let sql = |file, source| stray_sql(file, source).len();
    assert_eq!(sql("app/mod.rs", "run(\"SELECT 1 FROM tokens\")"), 1);
    assert_eq!(sql("catalog/tokens.rs", "run(\"DELETE FROM tokens\")"), 1);
    assert_eq!(sql("catalog/file.rs", "run(\"PRAGMA page_count\")"), 0);
    assert_eq!(sql("exec/mod.rs", "run(\"PRAGMA page_count\")"), 1);
    assert_eq!(sql("catalog/statements.rs", "\"INSERT INTO tokens\""), 0);
    assert_eq!(sql("app/mod.rs", "/// like SELECT 1"), 0);
}
