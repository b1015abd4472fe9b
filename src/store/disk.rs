//! The file under an engine, and what is known about the space it stands on.
//!
//! [`Disk`] is what the redb engine needs of a file: reads, writes, a length, a sync, and two things
//! of our own: space held in reserve ([`Disk::hold`]) and a page cache that can be distrusted
//! ([`Disk::forget_cached`]). [`FileDisk`] is the real one, [`MemoryDisk`] keeps nothing; the tests
//! have their own that fail, tear writes and fill up.
//!
//! **The reserve** is a file beside the data, `<name>.reserve`, of which nothing matters but that its
//! blocks are allocated. When a write finds the disk full, a piece of it is given back, and the write
//! is made with that. (Allocating ahead of the highest page does not do: redb's file is sparse, and
//! its allocator hands out pages anywhere in it.)
//!
//! **A new file** is made aside, as `<name>.new`, and gets its name when it is whole ([`make_whole`]):
//! an engine's first writes are not one commit, and a file that a power cut left halfway could never
//! be opened again.
//!
//! Invariants: a file is created with mode 0600, its directory entry is synced before anything is
//! stored in it, and it is locked for as long as it is open. Nothing here retries.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use rustix::fs::{Advice, FallocateFlags};
use rustix::io::Errno;

use super::log::{Log, LogFigures};
use super::{Error, Result};

/// The bytes under an engine.
pub trait Disk: std::fmt::Debug + Send + Sync + 'static {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
    /// Fills `out` from `offset` on; an error when the file ends before.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts it, or lengthens it with zeros that take no space yet.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns when everything written so far survives power loss.
    fn sync(&self) -> io::Result<()>;
    /// Holds exactly so much space of the disk in reserve. An error, and as much as before, when it is
    /// not to be had.
    fn hold(&self, bytes: u64) -> io::Result<()>;
    /// The space held in reserve, also by an earlier process.
    fn held(&self) -> io::Result<u64>;
    /// Drops what the kernel remembers of the file, so that the next read asks the disk.
    fn forget_cached(&self) -> io::Result<()>;
}

/// A file of the data directory.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    /// None while the file is being made.
    reserve: Option<File>,
}

impl FileDisk {
    /// Opens the file at `path` and locks it.
    ///
    /// Errors: [`Error::InUse`] when another handle has it open; [`Error::Damaged`] when it is empty,
    /// because a file is never without content once it has its name.
    pub fn open(path: &Path) -> Result<FileDisk> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(Error::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse),
            Err(TryLockError::Error(error)) => return Err(Error::Io(error)),
        }
        if file.metadata().map_err(Error::Io)?.len() == 0 {
            return Err(Error::Damaged(format!("{} is empty", path.display())));
        }
        // The name may be older than the last power cut survived; now it will survive the next.
        sync_folder_of(path).map_err(Error::Io)?;
        let mut how = OpenOptions::new();
        how.read(true).write(true).create(true).truncate(false).mode(0o600);
        let reserve = how.open(beside(path, ".reserve")).map_err(Error::Io)?;
        Ok(FileDisk { file, reserve: Some(reserve) })
    }
}

/// Opens a file that is empty, whatever was there.
fn new_file(path: &Path) -> io::Result<File> {
    let mut how = OpenOptions::new();
    how.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Makes the file at `path` if there is none: `fill` writes it aside, and it gets its name when all
/// of it is on the disk.
pub(super) fn make_whole(path: &Path, fill: impl FnOnce(FileDisk) -> Result) -> Result {
    if path.try_exists().map_err(Error::Io)? {
        return Ok(());
    }
    let unfinished = beside(path, ".new");
    let new = new_file(&unfinished).map_err(Error::Io)?;
    fill(FileDisk { file: new, reserve: None })?;
    let publish = || {
        File::open(&unfinished)?.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        sync_folder_of(path)
    };
    publish().map_err(Error::Io)
}

/// `path` with something behind its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes an empty file that only its owner can read, and makes its name survive power loss. A file
/// that is there already is left as it is.
pub(crate) fn create_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    sync_folder_of(path)
}

/// Makes the name of the file at `path` survive power loss.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Drops what the kernel remembers of the file at `path`, if there is one.
///
/// After a failed sync the kernel may hold pages that it believes clean though they never reached
/// the disk. Whoever reads those and builds on them loses everything at the next power cut.
pub(crate) fn forget_cached_file(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => forget_cached(&file),
        // A log need not be there; opening a file that is gone will say so.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn forget_cached(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?)
}

/// Bytes that the file system under `path` still has for us.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(path)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Let go by name and not only by closing: a process that is being started holds a copy of every descriptor
/// for a moment, and the lock with it.
impl Drop for FileDisk {
    fn drop(&mut self) {
        drop(self.file.unlock());
    }
}

impl Disk for FileDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn hold(&self, bytes: u64) -> io::Result<()> {
        let reserve = self.reserve.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let held = reserve.metadata()?.len();
        if bytes <= held {
            return reserve.set_len(bytes);
        }
        match rustix::fs::fallocate(reserve, FallocateFlags::empty(), held, bytes - held) {
            Ok(()) => Ok(()),
            // Not every file system can promise space; those that cannot are asked how much they
            // have, and the reserve is a number.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let space = rustix::fs::fstatvfs(reserve)?;
                if space.f_bavail.saturating_mul(space.f_frsize) < bytes {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                reserve.set_len(bytes)
            }
            Err(error) => {
                // It may have got a part of it.
                reserve.set_len(held)?;
                Err(error.into())
            }
        }
    }

    fn held(&self) -> io::Result<u64> {
        let reserve = self.reserve.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let found = reserve.metadata()?;
        if found.len() <= found.blocks() * 512 {
            return Ok(found.len());
        }
        // A copy of a reserve may have the length without the blocks.
        reserve.set_len(0)?;
        Ok(0)
    }

    fn forget_cached(&self) -> io::Result<()> {
        forget_cached(&self.file)
    }
}

/// What is behind the name of a log that was set aside.
const DAMAGED: &str = ".damaged";

/// A log of the data directory. A new content is written aside, and gets the name when it is whole.
#[derive(Debug)]
pub struct FileLog {
    path: PathBuf,
    file: File,
    length: u64,
    /// Whether an append or a sync failed: what the kernel holds of the file may never reach the disk.
    failed: bool,
    figures: LogFigures,
}

/// Locks a file for as long as it is open.
fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => {
            io::Error::new(io::ErrorKind::ResourceBusy, "the file is open in another process")
        }
        TryLockError::Error(error) => error,
    })
}

impl FileLog {
    /// Opens the log at `path`, or makes an empty one, and locks it.
    pub fn open(path: &Path) -> io::Result<FileLog> {
        create_file(path)?;
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        lock(&file)?;
        let length = file.metadata()?.len();
        let (path, figures) = (path.to_owned(), LogFigures::default());
        Ok(FileLog { path, file, length, failed: false, figures })
    }

    fn usable(&self) -> io::Result<()> {
        if self.failed { Err(io::Error::other("the log failed before")) } else { Ok(()) }
    }

    /// What came of something after which, if it failed, the file is of no use.
    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.failed |= result.is_err();
        result
    }

    fn wrote(&mut self, bytes: &[u8]) {
        self.figures.writes += 1;
        self.figures.write_bytes += bytes.len() as u64;
    }
}

/// See [`FileDisk`]: let go by name as well.
impl Drop for FileLog {
    fn drop(&mut self) {
        drop(self.file.unlock());
    }
}

impl Log for FileLog {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // What the kernel believes to be on the disk, after a sync of an earlier process failed, may not be there.
        forget_cached(&self.file)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.usable()?;
        if self.length <= bytes {
            return Ok(());
        }
        self.figures.syncs += 1;
        let cut = self.file.set_len(bytes).and_then(|()| self.file.sync_all());
        self.noted(cut)?;
        self.length = bytes;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.usable()?;
        let written = self.file.write_all_at(bytes, self.length);
        self.noted(written)?;
        self.wrote(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.usable()?;
        self.figures.syncs += 1;
        let synced = self.file.sync_data();
        self.noted(synced)
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let unfinished = beside(&self.path, ".new");
        let new = || {
            let new = new_file(&unfinished)?;
            lock(&new)?;
            new.write_all_at(bytes, 0)?;
            new.sync_all()?;
            std::fs::rename(&unfinished, &self.path)?;
            Ok(new)
        };
        let made = new().inspect_err(|_| {
            // It may be in the way of what makes room on a full disk.
            drop(std::fs::remove_file(&unfinished));
        });
        let new = self.noted(made)?;
        drop(self.file.unlock());
        self.file = new;
        self.length = bytes.len() as u64;
        self.wrote(bytes);
        self.figures.syncs += 2;
        let named = sync_folder_of(&self.path);
        self.noted(named)?;
        self.failed = false;
        Ok(())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        let aside = beside(&self.path, DAMAGED);
        self.figures.syncs += 2;
        self.file.sync_all()?;
        match std::fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // A second name takes no room. Not every file system has them.
        if std::fs::hard_link(&self.path, &aside).is_err() {
            let (mut from, mut to) = (File::open(&self.path)?, new_file(&aside)?);
            io::copy(&mut from, &mut to)?;
            to.sync_all()?;
        }
        sync_folder_of(&aside)
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn figures(&self) -> LogFigures {
        self.figures
    }
}

/// Bytes in memory, for `--ephemeral` and for tests. Nothing outlives the last handle.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    bytes: RwLock<Vec<u8>>,
}

/// `offset..offset + len` as a range of memory.
fn span(offset: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let end = start.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(start..end)
}

impl Disk for MemoryDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.read().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.read();
        let found = bytes.get(span(offset, out.len())?).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let span = span(offset, bytes.len())?;
        let mut held = self.bytes.write();
        if held.len() < span.end {
            held.resize(span.end, 0);
        }
        held[span].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.write().resize(span(len, 0)?.start, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn hold(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    fn held(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{FileLog, beside};
    use crate::store::log::Log as _;

    #[test]
    fn a_log_on_disk_is_what_was_appended_and_then_what_it_was_replaced_by() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wal");
        let mut log = FileLog::open(&path).unwrap();
        assert!(log.is_empty() && log.read().unwrap().is_empty());
        log.append(b"one").unwrap();
        log.append(b"two").unwrap();
        log.sync().unwrap();
        assert_eq!((log.read().unwrap(), log.len()), (b"onetwo".to_vec(), 6));
        log.cut(4).unwrap();
        log.append(b"x").unwrap();
        log.sync().unwrap();
        drop(log);
        let mut log = FileLog::open(&path).unwrap();
        assert_eq!(log.read().unwrap(), b"onetx");
        // What a start that was cut short left is in nobody's way.
        std::fs::write(beside(&path, ".new"), b"left over and long").unwrap();
        log.replace(b"new").unwrap();
        log.append(b"er").unwrap();
        log.sync().unwrap();
        assert_eq!((log.read().unwrap(), log.figures().writes), (b"newer".to_vec(), 2));
        drop(log);
        assert_eq!(std::fs::read(&path).unwrap(), b"newer");
        assert!(!beside(&path, ".new").exists());
    }

    #[test]
    fn a_log_that_is_set_aside_stays_as_it_was_when_the_log_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wal");
        let aside = folder.path().join("a.wal.damaged");
        std::fs::write(&aside, b"an older one").unwrap();
        let mut log = FileLog::open(&path).unwrap();
        log.append(b"good and bad").unwrap();
        log.set_aside().unwrap();
        // Once more, as after a start that ended in between.
        log.set_aside().unwrap();
        log.replace(b"good").unwrap();
        log.append(b", new").unwrap();
        log.sync().unwrap();
        assert_eq!(std::fs::read(&aside).unwrap(), b"good and bad");
        assert_eq!(std::fs::read(&path).unwrap(), b"good, new");
    }

    #[test]
    fn a_log_is_open_once_also_after_it_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wal");
        let mut log = FileLog::open(&path).unwrap();
        let busy = |path| FileLog::open(path).unwrap_err().kind() == io::ErrorKind::ResourceBusy;
        assert!(busy(&path));
        log.replace(b"1").unwrap();
        assert!(busy(&path));
        drop(log);
        assert!(FileLog::open(&path).is_ok());
    }

    #[test]
    fn a_log_that_cannot_be_replaced_takes_nothing_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wal");
        let mut log = FileLog::open(&path).unwrap();
        log.append(b"old").unwrap();
        log.sync().unwrap();
        std::fs::create_dir(beside(&path, ".new")).unwrap();
        assert!(log.replace(b"new").is_err());
        assert!(log.append(b"more").is_err() && log.sync().is_err() && log.cut(0).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        std::fs::remove_dir(beside(&path, ".new")).unwrap();
        log.replace(b"new").unwrap();
        log.append(b"er").unwrap();
        assert_eq!(log.read().unwrap(), b"newer");
    }
}
