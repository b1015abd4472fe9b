//! Batches of operations as a writer runs them, by hand and on one thread: what a commit may come to is
//! decided by the test.

use std::path::Path;

use crate::store::redb::Redb;
use crate::store::sqlite::Sqlite;
use crate::store::{Commit, Engine, Finish, Opening, Write};

/// What a commit comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is on disk, and everybody is told.
    Stored,
    /// It is on disk, and nobody knows.
    Unknown,
    /// It is not on disk, and nobody knows.
    Lost,
}

/// An operation: whether it is kept.
pub type Operation<'o> = Box<dyn FnOnce(&mut dyn Write) -> bool + 'o>;

/// Runs operations in one transaction, each kept or undone alone.
pub fn batch(engine: &dyn Engine, fate: Fate, operations: Vec<Operation<'_>>) {
    let mut operations = Some(operations);
    engine
        .write(Commit::Plain, &mut |batch| {
            for operation in operations.take().expect("a body runs once") {
                batch.begin()?;
                if operation(batch) { batch.keep()? } else { batch.undo()? }
            }
            Ok(if fate == Fate::Lost { Finish::Abandon } else { Finish::Commit })
        })
        .expect("the engine works");
}

/// Which engine a test runs on.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The default.
    Redb,
    /// The other one.
    Sqlite,
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::Redb, Kind::Sqlite];

    /// Opens a new store: in memory if it can be, or a file in this folder.
    pub fn open(self, folder: &Path) -> Box<dyn Engine> {
        let path = folder.join("store");
        match self {
            Kind::Redb => Box::new(Redb::in_memory(4 << 20).expect("it opens")),
            Kind::Sqlite => {
                Box::new(Sqlite::open(&path, 1 << 20, Opening::Start).expect("it opens"))
            }
        }
    }
}
