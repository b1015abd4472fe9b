//! A file that is only appended to, and now and then replaced as a whole.
//!
//! **Contract**: what was appended before a [`Log::sync`] that returned `Ok` survives power loss; of what was appended after it
//! any part may be there, also with holes. [`Log::replace`] is all or nothing, and durable when it returns: after a power
//! cut in its midst there is the old file or the new one. After an error of an append or a sync the handle is of no use but
//! for [`Log::replace`], which makes a new file: a sync is never tried again.

use std::io;

/// What a log has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFigures {
    /// Writes.
    pub writes: u64,
    /// Their bytes, also those of files that were replaced.
    pub write_bytes: u64,
    /// Syncs.
    pub syncs: u64,
}

/// See the module.
pub trait Log: Send {
    /// All of it. What an earlier process appended and did not sync may be among it, and is as little durable as it was:
    /// whoever builds on it syncs first.
    fn read(&mut self) -> io::Result<Vec<u8>>;

    /// Keeps its first `bytes` bytes, durably.
    fn cut(&mut self, bytes: u64) -> io::Result<()>;

    /// Puts bytes behind it. Not durable yet.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything that was appended survives power loss.
    fn sync(&mut self) -> io::Result<()>;

    /// From now on it holds this and nothing else.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Keeps a copy of all of it where a later [`Log::replace`] does not change it, durably; an older copy goes. For a file of
    /// which a part cannot be read.
    fn set_aside(&mut self) -> io::Result<()>;

    /// How long it is.
    fn len(&self) -> u64;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it has done.
    fn figures(&self) -> LogFigures;
}
