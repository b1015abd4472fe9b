//! The contract suite on every engine, and what is peculiar to one.

use std::path::Path;
use std::sync::Arc;

use super::disk::MemoryDisk;
use super::redb::Redb;
use super::sqlite::Sqlite;
use super::{Commit, Engine, Error, Finish, KeyRange, Opening, Room, Table};
use crate::base::limits::DISK_MARGIN_BYTES;
use crate::base::rng::Rng;
use crate::testing::contract::{self, Subject};
use crate::testing::disk::{SimDisk, crash_images};
use crate::testing::model::Model;
use crate::testing::{content, put_one};

const CACHE_BYTES: u64 = 4 << 20;

#[test]
fn redb_in_memory_keeps_the_contract() {
    let disk = Arc::new(MemoryDisk::default());
    contract::check(&Subject::new(&|| {
        Box::new(
            Redb::on_disk(Arc::<MemoryDisk>::clone(&disk), CACHE_BYTES, Opening::Start).unwrap(),
        )
    }));
}

#[test]
fn redb_in_a_file_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.redb");
    contract::check(&Subject::new(&|| {
        Box::new(Redb::open(&path, CACHE_BYTES, Opening::Start).unwrap())
    }));
}

#[test]
fn redb_keeps_the_contract_when_each_opening_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.redb");
    drop(Redb::open(&path, CACHE_BYTES, Opening::Start).unwrap());
    contract::check(&Subject::new(&|| {
        Box::new(Redb::open(&path, CACHE_BYTES, Opening::AfterFailure).unwrap())
    }));
}

#[test]
fn sqlite_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.sqlite");
    contract::check(&Subject::new(&|| {
        Box::new(Sqlite::open(&path, CACHE_BYTES, Opening::Start).unwrap())
    }));
}

#[test]
fn sqlite_keeps_the_contract_when_each_opening_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.sqlite");
    drop(Sqlite::open(&path, CACHE_BYTES, Opening::Start).unwrap());
    contract::check(&Subject::new(&|| {
        Box::new(Sqlite::open(&path, CACHE_BYTES, Opening::AfterFailure).unwrap())
    }));
}

#[test]
fn the_model_keeps_the_contract() {
    let model = Model::default();
    contract::check(&Subject::new(&|| Box::new(model.clone())));
}

fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn files_are_readable_by_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (redb, sqlite) = (folder.path().join("a.redb"), folder.path().join("b.sqlite"));
    let engine = Redb::open(&redb, CACHE_BYTES, Opening::Start).unwrap();
    let other = Sqlite::open(&sqlite, CACHE_BYTES, Opening::Start).unwrap();
    put_one(&engine, Table::Meta, b"k", b"v");
    put_one(&other, Table::Meta, b"k", b"v");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode_of(&path), 0o600, "{}", path.display());
        seen += 1;
    }
    // Two files, redb's reserve, SQLite's log and its index.
    assert_eq!(seen, 5);
}

#[test]
fn a_redb_file_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.redb");
    let first = Redb::open(&path, CACHE_BYTES, Opening::Start).unwrap();
    let second = Redb::open(&path, CACHE_BYTES, Opening::Start);
    assert!(matches!(second, Err(Error::InUse)));
    drop(first);
    assert!(Redb::open(&path, CACHE_BYTES, Opening::Start).is_ok());
}

/// Its first writes are not one commit: cut between them, the file could never be opened again.
#[test]
fn a_file_whose_making_was_cut_short_is_made_again() {
    let making = Arc::new(SimDisk::default());
    drop(Redb::on_disk(Arc::<SimDisk>::clone(&making), CACHE_BYTES, Opening::Start).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.redb");
    let (mut images, mut unopenable) = (0, 0);
    crash_images(&[], &making.trace(), &mut Rng::from_seed(1), &mut |image| {
        let alone = Arc::new(SimDisk::holding(image.bytes.clone()));
        unopenable += u32::from(Redb::on_disk(alone, CACHE_BYTES, Opening::Start).is_err());
        images += 1;

        std::fs::write(folder.path().join("jobs.redb.new"), &image.bytes).unwrap();
        let engine = Redb::open(&path, CACHE_BYTES, Opening::Start).unwrap();
        assert!(content(&engine).unwrap().is_empty());
        drop(engine);
        assert!(!folder.path().join("jobs.redb.new").exists());
        std::fs::remove_file(&path).unwrap();
    });
    assert!(20 < images && 0 < unopenable, "{unopenable} of {images}");
}

#[test]
fn a_file_that_lost_its_content_is_not_taken_for_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.redb");
    std::fs::write(&path, b"").unwrap();
    let opened = Redb::open(&path, CACHE_BYTES, Opening::Start).err();
    assert!(matches!(opened, Some(Error::Damaged(_))), "{opened:?}");
}

#[test]
fn a_file_that_vanished_is_not_made_anew_under_a_running_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs");
    let redb = Redb::open(&path, CACHE_BYTES, Opening::AfterFailure).err();
    assert!(matches!(redb, Some(Error::Io(_))), "{redb:?}");
    let sqlite = Sqlite::open(&path, CACHE_BYTES, Opening::AfterFailure).err();
    assert!(matches!(sqlite, Some(Error::Io(_))), "{sqlite:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_of_something_else_is_damaged_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (name, len) in [("short", 10_usize), ("page", 4096), ("long", 1 << 20)] {
        let path = folder.path().join(name);
        let holiday = b"holiday photo ".repeat(len / 14 + 1)[..len].to_vec();
        std::fs::write(&path, &holiday).unwrap();
        let redb = Redb::open(&path, CACHE_BYTES, Opening::Start).err();
        assert!(matches!(redb, Some(Error::Damaged(_) | Error::Io(_))), "{name}: {redb:?}");
        let sqlite = Sqlite::open(&path, CACHE_BYTES, Opening::Start).err();
        assert!(matches!(sqlite, Some(Error::Damaged(_))), "{name}: {sqlite:?}");
        assert_eq!(std::fs::read(&path).unwrap(), holiday, "{name}");
    }
}

#[test]
fn an_idle_commit_is_one_sync_and_a_quick_one_two() {
    let engine = Redb::in_memory(CACHE_BYTES).unwrap();
    // The first commits create the table and grow the file, which syncs on its own.
    for round in 0..4_u8 {
        put_one(&engine, Table::Jobs, &[round], &[round; 200]);
    }
    let before = engine.figures();
    put_one(&engine, Table::Jobs, b"x", &[1; 200]);
    let plain = engine.figures();
    assert_eq!((plain.commits - before.commits, plain.syncs - before.syncs), (1, 1));
    engine.write(Commit::Quick, &mut |_| Ok(Finish::Commit)).unwrap();
    let quick = engine.figures();
    assert_eq!((quick.commits - plain.commits, quick.syncs - plain.syncs), (1, 2));
}

#[test]
fn an_abandoned_write_touches_nothing() {
    let engine = Redb::in_memory(CACHE_BYTES).unwrap();
    put_one(&engine, Table::Jobs, b"x", b"1");
    let before = engine.figures();
    engine
        .write(Commit::Plain, &mut |batch| {
            batch.begin()?;
            batch.put(Table::Jobs, b"y", b"2")?;
            batch.undo()?;
            assert!(!batch.is_dirty());
            Ok(Finish::Abandon)
        })
        .unwrap();
    let after = engine.figures();
    assert_eq!(
        (after.commits, after.syncs, after.writes),
        (before.commits, before.syncs, before.writes)
    );
}

#[test]
fn the_reserve_is_a_file_whose_blocks_are_allocated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.redb");
    let engine = Redb::open(&path, CACHE_BYTES, Opening::Start).unwrap();
    let allocated = || {
        let reserve = std::fs::metadata(folder.path().join("jobs.redb.reserve")).unwrap();
        std::os::unix::fs::MetadataExt::blocks(&reserve) * 512
    };
    assert_eq!(allocated(), 0);
    for bytes in [0, 20 << 20, 1 << 20] {
        let room = engine.reserve(bytes);
        let want = bytes.max(DISK_MARGIN_BYTES);
        assert_eq!((room.margin_bytes, room.short), (want, false));
        assert!((want..want + (1 << 20)).contains(&allocated()), "{} of {want}", allocated());
        assert_eq!(engine.figures().margin_bytes, want);
    }
}

#[test]
fn a_write_that_finds_the_disk_full_is_made_from_the_reserve() {
    let disk = Arc::new(SimDisk::default());
    disk.set_capacity(24 << 20);
    let engine = Redb::on_disk(Arc::<SimDisk>::clone(&disk), CACHE_BYTES, Opening::Start).unwrap();
    let mut written = 0_u64;
    while !engine.reserve(1 << 20).short {
        for _ in 0..20 {
            put_one(&engine, Table::Jobs, &written.to_be_bytes(), &[7; 9_000]);
            written += 1;
        }
    }
    // Short by now, and still everything that is begun can be ended.
    let before = engine.figures().margin_bytes;
    for _ in 0..100 {
        put_one(&engine, Table::Jobs, &written.to_be_bytes(), &[7; 9_000]);
        written += 1;
    }
    assert!(0 < disk.full_writes());
    assert!(engine.figures().margin_bytes < before);
    assert_eq!(content(&engine).unwrap().len() as u64, written);

    // Space elsewhere fills the reserve again.
    disk.set_capacity(64 << 20);
    assert_eq!(engine.reserve(0), Room { margin_bytes: DISK_MARGIN_BYTES, short: false });
}

#[test]
fn a_view_keeps_what_it_saw_while_rows_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.sqlite");
    let engine = Sqlite::open(&path, CACHE_BYTES, Opening::Start).unwrap();
    put_one(&engine, Table::Jobs, b"x", b"old");
    engine
        .read(&mut |view| {
            engine
                .write(Commit::Plain, &mut |batch| {
                    batch.begin()?;
                    batch.delete_range(Table::Jobs, &KeyRange::all(), 10)?;
                    batch.keep()?;
                    Ok(Finish::Commit)
                })
                .unwrap();
            assert_eq!(view.get(Table::Jobs, b"x")?, Some(b"old".to_vec()));
            Ok(())
        })
        .unwrap();
}
