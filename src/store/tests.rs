//! The contract suite on every engine, and what is peculiar to one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::disk::MemoryDisk;
use super::redb::Redb;
use super::sqlite::Sqlite;
use super::{Commit, Engine, Error, Finish, KeyRange, Opening, Table};
use crate::base::limits::DISK_MARGIN_BYTES;
use crate::base::rng::Rng;
use crate::testing::contract::{self, Subject};
use crate::testing::disk::{Fault, PANIC, SimDisk, crash_images};
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
        let want = bytes.max(DISK_MARGIN_BYTES);
        assert_eq!(engine.reserve(bytes), want);
        assert!((want..want + (1 << 20)).contains(&allocated()), "{} of {want}", allocated());
        assert_eq!(engine.figures().margin_bytes, want);
    }
}

#[test]
fn the_reserve_outlives_the_process_that_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.redb");
    let open = || Redb::open(&path, CACHE_BYTES, Opening::Start).unwrap();
    assert_eq!(open().reserve(0), DISK_MARGIN_BYTES);
    // Held before anything is asked for: recovering may be what needs it.
    assert_eq!(open().figures().margin_bytes, DISK_MARGIN_BYTES);

    // A copy of a data directory has the length without the blocks; that is no reserve.
    let reserve = std::fs::File::create(folder.path().join("jobs.redb.reserve")).unwrap();
    reserve.set_len(DISK_MARGIN_BYTES).unwrap();
    let engine = open();
    assert_eq!(engine.figures().margin_bytes, 0);
    assert_eq!(engine.reserve(0), DISK_MARGIN_BYTES);
}

/// A view that a panic came through may have been left halfway by the engine.
#[test]
fn a_panic_out_of_the_engine_kills_the_handle_and_it_writes_no_more() {
    let first = Arc::new(SimDisk::default());
    let open = |disk: &Arc<SimDisk>| {
        Redb::on_disk(Arc::<SimDisk>::clone(disk), CACHE_BYTES, Opening::Start).unwrap()
    };
    let engine = open(&first);
    put_one(&engine, Table::Jobs, b"a", b"1");
    drop(engine);

    for write in [false, true] {
        let disk = Arc::new(SimDisk::holding(first.after_power_cut()));
        let engine = open(&disk);
        let at = disk.operations();
        disk.fail([Fault { at, errno: PANIC, for_good: false }]);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if write {
                put_one(&engine, Table::Jobs, b"b", b"2");
            } else {
                engine.read(&mut |view| view.get(Table::Jobs, b"a").map(|_| ())).unwrap();
            }
        }));
        assert!(panicked.is_err(), "write={write}");
        let read = engine.read(&mut |view| view.get(Table::Jobs, b"a").map(|_| ()));
        assert!(matches!(read, Err(Error::Closed)), "write={write} {read:?}");
        let before = disk.trace().len();
        drop(engine);
        assert_eq!(
            disk.trace().len(),
            before,
            "write={write}: a dead handle wrote while it closed"
        );
        let reopened = Redb::on_disk(disk, CACHE_BYTES, Opening::AfterFailure).unwrap();
        assert_eq!(content(&reopened).unwrap().len(), 1, "write={write}");
    }
}

#[test]
fn an_operation_may_not_displace_more_than_can_be_undone() {
    let engine = Redb::in_memory(CACHE_BYTES).unwrap();
    let value = [7; 16_000];
    for half in 0..3_u16 {
        engine
            .write(Commit::Plain, &mut |batch| {
                batch.begin()?;
                for n in 0..1_000_u16 {
                    batch.put(
                        Table::Jobs,
                        &[half.to_be_bytes(), n.to_be_bytes()].concat(),
                        &value,
                    )?;
                }
                batch.keep()?;
                Ok(Finish::Commit)
            })
            .unwrap();
    }
    let deleted = engine.write(Commit::Plain, &mut |batch| {
        batch.begin()?;
        loop {
            match batch.delete_range(Table::Jobs, &KeyRange::all(), 1_000) {
                Ok(_) => {}
                Err(error) => {
                    batch.undo()?;
                    return Err(error);
                }
            }
        }
    });
    assert!(matches!(deleted, Err(Error::OperationTooLarge)), "{deleted:?}");
    assert_eq!(content(&engine).unwrap().len(), 3_000, "all of it was undone");
    put_one(&engine, Table::Jobs, b"x", b"the engine is well");
}

#[test]
fn more_readers_than_sqlite_has_connections_for_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let engine =
        Sqlite::open(&folder.path().join("a.sqlite"), CACHE_BYTES, Opening::Start).unwrap();
    put_one(&engine, Table::Jobs, b"a", b"1");
    let (most, inside) = (AtomicU64::new(0), AtomicU64::new(0));
    #[expect(clippy::disallowed_methods, reason = "readers at one moment")]
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let read = engine.read(&mut |view| {
                        most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                        let found = view.get(Table::Jobs, b"a")?;
                        inside.fetch_sub(1, SeqCst);
                        assert_eq!(found, Some(b"1".to_vec()));
                        Ok(())
                    });
                    read.unwrap();
                }
            });
        }
    });
    assert!(most.load(SeqCst) <= 4, "{most:?}");
}

#[test]
fn the_log_of_sqlite_stays_short() {
    let folder = tempfile::tempdir().unwrap();
    let engine =
        Sqlite::open(&folder.path().join("a.sqlite"), CACHE_BYTES, Opening::Start).unwrap();
    let log = || std::fs::metadata(folder.path().join("a.sqlite-wal")).unwrap().len();
    for n in 0..3_000_u64 {
        put_one(&engine, Table::Jobs, &(n % 500).to_be_bytes(), &[7; 9_000]);
    }
    assert!(log() < 24 << 20, "{}", log());
    assert_eq!(content(&engine).unwrap().len(), 500);
}

#[test]
fn a_write_that_finds_the_disk_full_is_made_from_the_reserve() {
    let disk = Arc::new(SimDisk::default());
    disk.set_capacity(24 << 20);
    let engine = Redb::on_disk(Arc::<SimDisk>::clone(&disk), CACHE_BYTES, Opening::Start).unwrap();
    let mut written = 0_u64;
    while engine.reserve(1 << 20) == DISK_MARGIN_BYTES {
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
    assert_eq!(engine.reserve(0), DISK_MARGIN_BYTES);
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
