//! The data directory, as somebody who starts servers on it meets it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use expect_test::expect;
use holdfast::base::time::Timestamp;
use holdfast::boot::data_dir::{DataDir, Error, Previous};

fn now() -> Timestamp {
    Timestamp::from_unix_ms(1_763_640_000_000).unwrap()
}

/// Names, modes and contents of everything in a folder.
fn everything(folder: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let content = fs::read(entry.path()).unwrap_or_default();
        found.insert(entry.file_name().into_string().unwrap(), (mode, content));
    }
    found
}

/// A private folder for a test.
fn private() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

/// Opening must be refused, and nothing may have changed.
fn refused(folder: &Path) -> Error {
    let before = everything(folder);
    let error = DataDir::open(folder).expect_err("it must be refused");
    assert_eq!(everything(folder), before, "a refusal touched the folder");
    error
}

#[test]
fn the_first_start_makes_a_private_folder_of_a_known_format() {
    let parent = private();
    let path = parent.path().join("var/lib/holdfast");
    let data = DataDir::open(&path).unwrap();
    assert_eq!(data.previous(), Previous::None);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let files = everything(&path);
    assert_eq!(files["format"], (0o600, b"holdfast-data 1\n".to_vec()));
    assert_eq!(files["lock"].0, 0o600);
    assert_eq!(files.len(), 2);
}

#[test]
fn a_stop_in_order_is_told_from_a_cut() {
    let folder = private();
    DataDir::open(folder.path()).unwrap().close_in_order(now()).unwrap();
    let mark = fs::read_to_string(folder.path().join("lock")).unwrap();
    assert_eq!(mark, "stopped 2025-11-20T12:00:00.000Z\n");
    let second = DataDir::open(folder.path()).unwrap();
    assert_eq!(second.previous(), Previous::InOrder);
    drop(second);
    let third = DataDir::open(folder.path()).unwrap();
    assert_eq!(third.previous(), Previous::Cut, "dropped without a word is what a kill looks like");
    third.close_in_order(now()).unwrap();
    assert_eq!(DataDir::open(folder.path()).unwrap().previous(), Previous::InOrder);
}

#[test]
fn a_torn_mark_is_a_cut() {
    let folder = private();
    DataDir::open(folder.path()).unwrap().close_in_order(now()).unwrap();
    for torn in [&b"stopped 2025-11-2"[..], b"running pid 1\n", b"\0\0\0\0", b"\xff\xfe"] {
        fs::write(folder.path().join("lock"), torn).unwrap();
        let opened = DataDir::open(folder.path()).unwrap();
        assert_eq!(opened.previous(), Previous::Cut, "{torn:?}");
    }
}

#[test]
fn a_second_process_is_told_who_is_there_and_touches_nothing() {
    let folder = private();
    let first = DataDir::open(folder.path()).unwrap();
    fs::write(first.file("jobs.redb"), b"precious").unwrap();
    let error = refused(folder.path());
    assert_eq!(error.code(), "data_dir_in_use");
    let text = error.to_string().replace(folder.path().to_str().unwrap(), "/data");
    let text = text.replace(&std::process::id().to_string(), "4711");
    expect!["/data is in use by another holdfast (pid 4711); stop that one first, or give this one another --data-dir"].assert_eq(&text);
    drop(first);
    DataDir::open(folder.path()).unwrap();
}

#[test]
fn a_newer_format_is_left_to_the_newer_version() {
    let folder = private();
    fs::write(folder.path().join("format"), "holdfast-data 2\n").unwrap();
    fs::write(folder.path().join("jobs.redb"), "from the future").unwrap();
    let error = refused(folder.path());
    assert!(matches!(error, Error::NewerFormat { found: 2, .. }), "{error}");
    assert_eq!(error.code(), "data_dir_newer");
}

#[test]
fn a_damaged_format_is_named() {
    let damages: [&[u8]; 7] = [
        b"",
        b"holdfast-data 1",
        b"holdfast-data \n",
        b"holdfast-data 0\n",
        b"holdfast-data +1\n",
        b"photos\n",
        b"\xff\xd8",
    ];
    for damage in damages {
        let folder = private();
        fs::write(folder.path().join("format"), damage).unwrap();
        let error = refused(folder.path());
        assert!(matches!(error, Error::BadFormat { .. }), "{damage:?}: {error}");
    }
}

#[test]
fn other_peoples_folders_are_not_taken() {
    let folder = private();
    fs::write(folder.path().join("holiday.jpg"), "a photo").unwrap();
    let error = refused(folder.path());
    assert!(matches!(&error, Error::NotOurs { found, .. } if found == "holiday.jpg"), "{error}");
    let error = refused_path(&folder.path().join("holiday.jpg"));
    assert!(matches!(error, Error::NotAFolder { .. }), "{error}");
}

fn refused_path(path: &Path) -> Error {
    DataDir::open(path).expect_err("it must be refused")
}

#[test]
fn a_folder_that_others_can_enter_is_refused_with_the_command_that_mends_it() {
    let folder = private();
    for mode in [0o750, 0o701, 0o777] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        let error = refused(folder.path());
        let text = error.to_string().replace(folder.path().to_str().unwrap(), "/data");
        let want =
            format!("/data can be entered by others (mode {mode:03o}); run: chmod 700 /data");
        assert_eq!(text, want);
        assert_eq!(error.code(), "data_dir_permissions");
    }
}

#[test]
fn a_first_start_that_was_cut_short_is_begun_again() {
    let folder = private();
    // The moments at which it can be cut: the lock is made, marked; the format is half written.
    for (mark, aside) in [("", None), ("running pid 1\n", None), ("running pid 1\n", Some("holdf"))]
    {
        fs::write(folder.path().join("lock"), mark).unwrap();
        if let Some(aside) = aside {
            fs::write(folder.path().join("format.new"), aside).unwrap();
        }
        let data = DataDir::open(folder.path()).unwrap();
        assert_eq!(data.previous(), Previous::None);
        assert_eq!(fs::read_to_string(data.file("format")).unwrap(), "holdfast-data 1\n");
        drop(data);
        fs::remove_file(folder.path().join("format")).unwrap();
    }
}
