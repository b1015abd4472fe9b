//! The data directory: ours alone, of a format we know, and marked when it was left in order.
//!
//! ```text
//! <data>/            0700
//!   format           "holdfast-data 1\n"                              written once, by the first start
//!   lock             "running pid 4711\n" | "stopped 2026-11-20T12:00:00.000Z\n"    flock held while open
//!   *.redb *.sqlite  0600                                             made by the engines
//!   cache.snapshot   0600                                             of an end in order, until the next start
//! ```
//!
//! **Opening**, in this order, so that a refusal leaves everything as it was: the folder (made if it
//! is missing), its permissions, the format, the lock, the format once more (another process may have
//! been at work until the lock was ours), and only then the first write. A second process on the same
//! folder gets [`Error::InUse`] and has touched nothing.
//!
//! **The mark**: `lock` says `running` from the moment the folder is open until
//! [`DataDir::close_in_order`]. Whoever finds `running` without the lock being held knows that the last
//! process was killed or lost power. A torn mark reads as that, too.
//!
//! **Power cuts**: `format` is complete when its name appears (written aside, synced, renamed, folder
//! synced). A folder in which the first start was cut short holds at most `lock` and is taken as new.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use crate::base::time::Timestamp;

/// The format that this version reads and writes.
pub use crate::base::limits::DATA_FORMAT as FORMAT;

const FORMAT_FILE: &str = "format";
const FORMAT_ASIDE: &str = "format.new";
const LOCK_FILE: &str = "lock";
const FORMAT_WORD: &str = "holdfast-data ";
/// More than any of our small files holds; a longer one is not ours.
const SMALL_FILE_BYTES_MAX: u64 = 256;

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process works on it.
    #[error("{} is in use by another holdfast (pid {pid}); stop that one first, or give this one another --data-dir", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who holds it, as far as it says.
        pid: String,
    },
    /// Written by a later version.
    #[error("{} has data format {found}, this version knows up to {FORMAT}; install the version that wrote it, or restore a backup", path.display())]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The format file is not one.
    #[error("{} is damaged: it should say \"holdfast-data {FORMAT}\"; restore a backup", path.display())]
    BadFormat {
        /// The file.
        path: PathBuf,
    },
    /// A folder with other people's files.
    #[error("{} is not a holdfast data directory and not empty (it holds {found:?}); give an empty one", path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// One of the files.
        found: String,
    },
    /// The path is not a folder.
    #[error("{} is not a directory", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// Others could read the data.
    #[error("{} can be entered by others (mode {mode:03o}); run: chmod 700 {}", path.display(), path.display())]
    Exposed {
        /// The folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Belongs to another user.
    #[error("{} belongs to user {owner}, this process runs as {user}; run it as that user, or: chown -R {user} {}", path.display(), path.display())]
    NotOurUser {
        /// The folder.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// The system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// The stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Error::InUse { .. } => "data_dir_in_use",
            Error::NewerFormat { .. } => "data_dir_newer",
            Error::BadFormat { .. } => "data_dir_damaged",
            Error::NotOurs { .. } | Error::NotAFolder { .. } => "data_dir_foreign",
            Error::Exposed { .. } | Error::NotOurUser { .. } => "data_dir_permissions",
            Error::Io { .. } => "data_dir_io",
        }
    }
}

/// How the last process left the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Previous {
    /// There was none.
    None,
    /// It ended in order.
    InOrder,
    /// It was killed, or the machine lost power.
    Cut,
}

/// A data directory that is ours until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
    previous: Previous,
}

/// An [`Error::Io`] for a step on a path.
fn io_error<'p>(what: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> Error + use<'p> {
    move |source| Error::Io { what, path: path.to_owned(), source }
}

impl DataDir {
    /// Opens the folder at `path` for this process alone, and makes it if there is none.
    pub fn open(path: &Path) -> Result<DataDir, Error> {
        make_folder(path)?;
        check_permissions(path)?;
        check_content(path)?;
        let mut lock = take_lock(path)?;
        let known = check_content(path)?;
        // Without a format nothing was ever stored here, whatever the mark of a first start says that
        // was cut short.
        let previous = match read_mark(&mut lock).map_err(io_error("read the lock in", path))? {
            previous if known => previous,
            _ => Previous::None,
        };

        // From here on the folder is ours.
        write_mark(&mut lock, &format!("running pid {}\n", std::process::id()))
            .map_err(io_error("write the lock in", path))?;
        if !known {
            write_format(path)?;
        }
        Ok(DataDir { path: path.to_owned(), lock, previous })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// How the last process left it.
    pub fn previous(&self) -> Previous {
        self.previous
    }

    /// Marks it as left in order and lets it go. Only when every file in it is closed.
    pub fn close_in_order(mut self, now: Timestamp) -> Result<(), Error> {
        write_mark(&mut self.lock, &format!("stopped {now}\n"))
            .map_err(io_error("write the lock in", &self.path))
    }
}

/// Let go by name and not only by closing: a process that is being started holds a copy of every descriptor
/// for a moment, and the lock with it.
impl Drop for DataDir {
    fn drop(&mut self) {
        drop(self.lock.unlock());
    }
}

/// Makes the folder and those above it that are missing, each with a name that survives power loss.
fn make_folder(path: &Path) -> Result<(), Error> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(Error::NotAFolder { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("look at", path)(error)),
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    make_folder(parent)?;
    DirBuilder::new().mode(0o700).create(path).map_err(io_error("create", path))?;
    // Whatever the umask made of it.
    let owner_only = Permissions::from_mode(0o700);
    std::fs::set_permissions(path, owner_only).map_err(io_error("set the permissions of", path))?;
    sync_folder(parent)
}

/// Whether the folder has a format that we know; an error when its content is not ours to touch.
fn check_content(path: &Path) -> Result<bool, Error> {
    let known = read_format(path)?;
    if !known {
        check_new(path)?;
    }
    Ok(known)
}

fn check_permissions(path: &Path) -> Result<(), Error> {
    let found = std::fs::metadata(path).map_err(io_error("look at", path))?;
    let (mode, owner) = (found.permissions().mode() & 0o777, found.uid());
    let user = rustix::process::geteuid().as_raw();
    if owner != user {
        return Err(Error::NotOurUser { path: path.to_owned(), owner, user });
    }
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Whether the folder says that it is ours; an error when it says something we do not understand.
fn read_format(path: &Path) -> Result<bool, Error> {
    let file = path.join(FORMAT_FILE);
    let text = match File::open(&file) {
        Ok(mut open) => match read_small(&mut open) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Error::BadFormat { path: file });
            }
            Err(error) => return Err(io_error("read", &file)(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io_error("read", &file)(error)),
    };
    let number = text.strip_prefix(FORMAT_WORD).and_then(|rest| rest.strip_suffix('\n'));
    let number = number.filter(|number| number.bytes().all(|b| b.is_ascii_digit()));
    match number.and_then(|number| number.parse::<u32>().ok()) {
        Some(found) if FORMAT < found => Err(Error::NewerFormat { path: path.to_owned(), found }),
        Some(1..=FORMAT) => Ok(true),
        Some(_) | None => Err(Error::BadFormat { path: file }),
    }
}

/// A folder without a format is taken as new only if it holds nothing but what a first start that was
/// cut short left.
fn check_new(path: &Path) -> Result<(), Error> {
    let entries = std::fs::read_dir(path).map_err(io_error("list", path))?;
    for entry in entries {
        let found = entry.map_err(io_error("list", path))?.file_name();
        // `lost+found` stands in every fresh ext4 file system.
        if found != LOCK_FILE && found != FORMAT_ASIDE && found != "lost+found" {
            let found = found.to_string_lossy().into_owned();
            return Err(Error::NotOurs { path: path.to_owned(), found });
        }
    }
    Ok(())
}

fn take_lock(path: &Path) -> Result<File, Error> {
    let file = path.join(LOCK_FILE);
    let mut how = OpenOptions::new();
    how.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut lock = how.open(&file).map_err(io_error("open", &file))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let mark = read_small(&mut lock).unwrap_or_default();
            let pid = mark.trim().strip_prefix("running pid ").unwrap_or("unknown").to_owned();
            Err(Error::InUse { path: path.to_owned(), pid })
        }
        Err(TryLockError::Error(error)) => Err(io_error("lock", &file)(error)),
    }
}

fn read_small(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.take(SMALL_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn read_mark(lock: &mut File) -> io::Result<Previous> {
    // A torn mark may be no text at all; then the last process was cut.
    let text = match read_small(lock) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Previous::Cut),
        Err(error) => return Err(error),
    };
    if text.is_empty() {
        Ok(Previous::None)
    } else if text.starts_with("stopped ") && text.ends_with('\n') {
        Ok(Previous::InOrder)
    } else {
        Ok(Previous::Cut)
    }
}

fn write_mark(lock: &mut File, text: &str) -> io::Result<()> {
    lock.rewind()?;
    lock.write_all(text.as_bytes())?;
    lock.set_len(text.len() as u64)?;
    lock.sync_all()
}

fn write_format(path: &Path) -> Result<(), Error> {
    let (aside, file) = (path.join(FORMAT_ASIDE), path.join(FORMAT_FILE));
    let mut how = OpenOptions::new();
    how.write(true).create(true).truncate(true).mode(0o600);
    let write = || -> io::Result<()> {
        let mut open = how.open(&aside)?;
        open.write_all(format!("{FORMAT_WORD}{FORMAT}\n").as_bytes())?;
        open.sync_all()?;
        std::fs::rename(&aside, &file)
    };
    write().map_err(io_error("write", &file))?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(io_error("sync", path))
}
