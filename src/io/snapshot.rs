//! The file of the cache's snapshot in the data directory.
//!
//! It is written aside, synced, renamed, and nobody but its owner can read it. Reading takes its name away
//! first, for good: whatever happens then, no later start brings back what was forgotten meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Seek as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::base::time::Now;
use crate::cache::snapshot::{self, Counts, Error, Tenants};
use crate::cache::space::Cache;

/// The file in the data directory.
pub const SNAPSHOT_FILE: &str = "cache.snapshot";
/// What is read or written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Writes what may be evicted to `path`. When it fails, there is no file.
pub fn write(path: &Path, cache: &Cache, now: Now) -> Result<Counts, Error> {
    write_with(path, |out| snapshot::save(cache, now, out))
}

/// Loads the file at `path` and removes it; nothing if there is none. A file that is not whole is removed and
/// told, and nothing of it is used.
pub fn read(
    path: &Path,
    cache: &Cache,
    now: Now,
    tenants: Tenants<'_>,
) -> Result<Option<Counts>, Error> {
    read_with(path, |input| snapshot::load(cache, now, input, tenants))
}

/// Removes the file at `path`, and what is left of one that was being written; whether there was one.
///
/// For a start that wants no snapshot: an old one must not come back when somebody wants them again.
pub fn discard(path: &Path) -> io::Result<bool> {
    let was = remove(path)?;
    remove(&aside(path))?;
    if was {
        sync_folder(path)?;
    }
    Ok(was)
}

fn write_with(
    path: &Path,
    save: impl FnOnce(&mut dyn io::Write) -> Result<Counts, Error>,
) -> Result<Counts, Error> {
    let aside = aside(path);
    // Not the file of somebody else, nor with the permissions of an old one.
    remove(&aside)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    let whole = || -> Result<Counts, Error> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        let counts = save(&mut out)?;
        let file = out.into_inner().map_err(|error| Error::Io(error.into_error()))?;
        file.sync_all()?;
        std::fs::rename(&aside, path)?;
        sync_folder(path)?;
        Ok(counts)
    };
    let written = whole();
    if written.is_err() {
        // A disk that is full has use for the space.
        drop(remove(&aside));
        drop(remove(path));
    }
    written
}

fn read_with(
    path: &Path,
    load: impl FnOnce(&mut dyn io::Read) -> Result<Counts, Error>,
) -> Result<Option<Counts>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            discard(path)?;
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    discard(path)?;
    let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
    snapshot::verify(&mut input)?;
    input.rewind()?;
    load(&mut input).map(Some)
}

fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    PathBuf::from(aside)
}

fn remove(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{SNAPSHOT_FILE, discard, read_with, write_with};
    use crate::base::id::TenantId;
    use crate::base::name::Namespace;
    use crate::base::time::Timestamp;
    use crate::cache::snapshot::{Counts, Error, Reader, Saved, Writer, verify};
    use std::io::{self, Read, Write};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::time::Duration;

    fn save(out: &mut dyn Write) -> Result<Counts, Error> {
        let mut writer = Writer::begin(out, Timestamp::MIN)?;
        let entry = Saved {
            key: "k".to_owned(),
            content_type: "text/plain".to_owned(),
            tags: Vec::new(),
            ttl: Some(Duration::from_secs(1)),
            stale: Duration::ZERO,
            age: Duration::ZERO,
            value: b"v".to_vec(),
        };
        writer.add(TenantId::from_raw(1), &Namespace::parse("a").unwrap(), &entry)?;
        writer.finish()
    }

    fn load(input: &mut dyn Read) -> Result<Counts, Error> {
        let mut reader = Reader::open(input)?;
        while reader.next_frame()?.is_some() {}
        Ok(reader.counts())
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SNAPSHOT_FILE);
        (folder, path)
    }

    fn files(folder: &tempfile::TempDir) -> usize {
        std::fs::read_dir(folder.path()).unwrap().count()
    }

    #[test]
    fn a_snapshot_is_the_owners_alone_and_is_read_once() {
        let (folder, path) = folder();
        std::fs::write(path.with_extension("snapshot.new"), "what a crash left").unwrap();
        assert_eq!(write_with(&path, save).unwrap().entries, 1);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, files(&folder)), (0o600, 1));
        let loaded = read_with(&path, |input| {
            assert!(!path.exists(), "its name is gone before anything is used");
            load(input)
        });
        assert_eq!(loaded.unwrap().unwrap().entries, 1);
        assert_eq!(files(&folder), 0);
        assert_eq!(read_with(&path, load).unwrap(), None);
    }

    #[test]
    fn a_snapshot_that_is_not_whole_is_told_removed_and_not_used() {
        let (folder, path) = folder();
        write_with(&path, save).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for end in [0, 5, whole.len() - 1] {
            std::fs::write(&path, &whole[..end]).unwrap();
            let told = read_with(&path, |_| panic!("nothing of it is used"));
            assert!(matches!(told, Err(Error::Cut { .. })), "{end}: {told:?}");
            assert_eq!(files(&folder), 0);
        }
    }

    #[test]
    fn when_writing_fails_there_is_no_file() {
        let (folder, path) = folder();
        write_with(&path, save).unwrap();
        let failed = write_with(&path, |out| {
            out.write_all(b"some of it")?;
            Err(Error::Io(io::ErrorKind::StorageFull.into()))
        });
        assert!(matches!(failed, Err(Error::Io(_))), "{failed:?}");
        assert_eq!(files(&folder), 0);
        assert!(write_with(&path.join("nowhere"), save).is_err());
    }

    #[test]
    fn who_wants_no_snapshot_has_an_old_one_removed() {
        let (folder, path) = folder();
        write_with(&path, save).unwrap();
        assert!(verify(&mut &std::fs::read(&path).unwrap()[..]).is_ok());
        std::fs::write(path.with_extension("snapshot.new"), "").unwrap();
        assert!(discard(&path).unwrap());
        assert!(!discard(&path).unwrap());
        assert_eq!(files(&folder), 0);
    }
}
