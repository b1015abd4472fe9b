//! What tests of the file share: an engine in memory, and operations on it one by one.

use crate::store::redb::Redb;
use crate::store::{Commit, Engine, Finish, Read, Write};

/// An engine that nothing outlives.
pub(super) fn engine() -> Redb {
    Redb::in_memory(16 << 20).expect("memory can be written")
}

/// Runs an operation and commits it.
pub(super) fn write<T>(engine: &Redb, mut body: impl FnMut(&mut dyn Write) -> T) -> T {
    let mut result = None;
    let written = engine.write(Commit::Plain, &mut |tx| {
        tx.begin()?;
        result = Some(body(tx));
        tx.keep()?;
        Ok(Finish::Commit)
    });
    written.expect("it is committed");
    result.expect("it was run")
}

/// Looks at what is committed.
pub(super) fn read<T>(engine: &Redb, mut body: impl FnMut(&dyn Read) -> T) -> T {
    let mut result = None;
    let read = engine.read(&mut |view| {
        result = Some(body(view));
        Ok(())
    });
    read.expect("it is read");
    result.expect("it was run")
}
