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
