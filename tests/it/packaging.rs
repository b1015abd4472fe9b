//! What the package is made of exists, and says what the program understands. `packaging/test.sh` installs
//! it for real; that takes root and minutes, this takes neither.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPTS: [&str; 4] =
    ["packaging/build.sh", "packaging/test.sh", "packaging/deb/postinst", "packaging/deb/postrm"];
/// Where `build.sh` puts what it makes.
const MADE: &str = "target/packaging/";
const UNIT: &str = "packaging/systemd/holdfast.service";

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The table of Cargo.toml that describes the package.
fn deb() -> toml::Table {
    let mut manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let mut table = manifest.remove("package").unwrap();
    for name in ["metadata", "deb"] {
        table = table.as_table_mut().unwrap().remove(name).unwrap();
    }
    table.as_table().unwrap().clone()
}

/// Source, destination and mode of each file of the package.
fn assets() -> Vec<[String; 3]> {
    let assets = deb().remove("assets").unwrap();
    let strings = |asset: &toml::Value| -> Vec<String> {
        let parts = asset.as_array().unwrap();
        parts.iter().map(|part| part.as_str().unwrap().to_owned()).collect()
    };
    assets.as_array().unwrap().iter().map(|asset| strings(asset).try_into().unwrap()).collect()
}

#[test]
fn every_file_of_the_package_exists_or_is_made_by_its_build() {
    let build = text("packaging/build.sh");
    // The words of build.sh that make a file, by the file's place in target/packaging.
    let made = |file: &str| match file.strip_prefix("man/") {
        Some(_) => build.contains("man \"$made/man\"") && build.contains("\"$made\"/man/*.1"),
        None => build.contains(&format!(">\"$made/{file}\"")),
    };
    for [source, ..] in assets() {
        let exists = match source.strip_prefix(MADE) {
            Some(file) => made(file),
            None => source == "target/release/holdfast" || at(&source).is_file(),
        };
        assert!(exists, "{source} of Cargo.toml is neither there nor made by packaging/build.sh");
    }
    assert!(build.contains("made=target/packaging\n"));
}

#[test]
fn only_the_program_can_be_executed_and_settings_go_where_it_looks() {
    for [source, destination, mode] in assets() {
        let expected = if destination == "usr/bin/" { "755" } else { "644" };
        assert_eq!(mode, expected, "{source}");
    }
    let settings = holdfast::boot::settings::PACKAGED_FILE.trim_start_matches('/');
    let all = assets();
    let [source, ..] = all.iter().find(|[_, to, _]| to == settings).expect("they are packaged");
    let read: toml::Table = text(source).parse().unwrap();
    // The unit makes both folders, and this user may write nowhere else.
    assert_eq!(read["server"]["data_dir"].as_str(), Some("/var/lib/holdfast"));
    assert_eq!(read["server"]["socket"].as_str(), Some("/run/holdfast/holdfast.sock"));
    let unit = text(UNIT);
    for line in ["StateDirectory=holdfast\n", "RuntimeDirectory=holdfast\n", "User=holdfast\n"] {
        assert!(unit.contains(line), "{line}");
    }
}

#[test]
fn the_commands_of_the_unit_are_commands_of_the_program() {
    let unit = text(UNIT);
    let commands: Vec<&str> = unit
        .lines()
        .filter(|line| line.starts_with("Exec") && !line.starts_with("ExecPaths="))
        .filter_map(|line| line.split_once('=').map(|(_, command)| command))
        .collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        assert!(command.starts_with("/usr/bin/holdfast "), "{command}");
        let parsed = holdfast::cli::command().try_get_matches_from(command.split(' '));
        assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
    }
}

#[test]
fn scripts_are_scripts_and_leave_room_for_what_is_generated() {
    for script in SCRIPTS {
        let shell = if script.starts_with("packaging/deb/") { "sh" } else { "bash" };
        let checked = Command::new(shell).arg("-n").arg(at(script)).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{script}: {said}");
        let generated = text(script).contains("\n#DEBHELPER#\n");
        assert_eq!(generated, shell == "sh", "{script}");
    }
}
