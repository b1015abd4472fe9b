//! Looking through a data directory of which nobody makes use: whether the jobs and the series in it are as they should be.
//!
//! Nothing of what people stored is changed. A file that a kill has left is put in order as any opening does.

use std::io;
use std::panic;
use std::path::{Path, PathBuf};

use super::data_dir::{self, DataDir, Previous};
use super::server::{JOBS_FILE, SERIES_FILE, SERIES_LOG_FILE};
use super::settings::Settings;
use crate::base::limits::ENGINE_CACHE_BYTES_MAX;
use crate::base::time::Clock as _;
use crate::boot::clock::SystemClock;
use crate::config::Problems;
use crate::queue::check::{Report, check as check_jobs};
use crate::series::check::{Findings, LogReport, check as check_series, check_log};
use crate::store::Opening;
use crate::store::redb::Redb;

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings have problems.
    #[error("{0}")]
    Settings(#[from] Problems),
    /// There is no data directory, or no jobs in it.
    #[error("there is no {}; name the folder by --data-dir DIR", .0.display())]
    Missing(PathBuf),
    /// The folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] data_dir::Error),
    /// The file cannot be read.
    #[error("{} cannot be read: {why}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// What was looked at, and what was found.
#[derive(Debug)]
pub struct Checked {
    /// The file of the jobs.
    pub jobs: (PathBuf, Report),
    /// The file of the series, if there is one yet.
    pub series: Option<(PathBuf, Findings)>,
    /// Their log, and what stands in it; nothing if there is none, or it is empty.
    pub log: (PathBuf, Option<LogReport>),
}

/// Looks through the files in the folder that the settings name.
pub fn check(origin: &Settings) -> Result<Checked, Error> {
    let (loaded, _) = origin.load()?;
    let folder: &Path = &loaded.config.server.data_dir;
    let path = folder.join(JOBS_FILE);
    // Looked for first: opening a folder that is not there would make it.
    if !path.exists() {
        return Err(Error::Missing(path));
    }
    let data_dir = DataDir::open(folder)?;
    let report = look(&path, |engine| check_jobs(engine).map_err(|error| error.to_string()))?;
    let series = folder.join(SERIES_FILE);
    let findings = if series.exists() {
        Some(look(&series, |engine| check_series(engine).map_err(|error| error.to_string()))?)
    } else {
        None
    };
    let log = folder.join(SERIES_LOG_FILE);
    let log_report = look_at_log(&log)?;
    // How the last server ended is for the next one to tell.
    if data_dir.previous() == Previous::InOrder {
        data_dir.close_in_order(SystemClock::new().now().wall)?;
    }
    let series = findings.map(|findings| (series, findings));
    Ok(Checked { jobs: (path, report), series, log: (log, log_report) })
}

/// Reads the log, if there is one.
fn look_at_log(path: &Path) -> Result<Option<LogReport>, Error> {
    match std::fs::read(path) {
        // One that is in use at least begins.
        Ok(bytes) => Ok((!bytes.is_empty()).then(|| check_log(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::File { path: path.to_owned(), why: error.to_string() }),
    }
}

/// Looks through one file. Over some kinds of damage the engine panics instead of telling of it; that is an
/// answer too, and what it says of its own sources helps nobody who asks for the state of a file.
fn look<T>(path: &Path, check: fn(&Redb) -> Result<T, String>) -> Result<T, Error> {
    let before = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let looked = panic::catch_unwind(|| {
        let engine = Redb::open(path, ENGINE_CACHE_BYTES_MAX, Opening::Start);
        let engine = engine.map_err(|error| error.to_string())?;
        check(&engine)
    });
    panic::set_hook(before);
    let gave_up = "the file is damaged: the engine gave up reading it; restore the latest backup";
    let looked = looked.unwrap_or_else(|_| Err(gave_up.to_owned()));
    looked.map_err(|why| Error::File { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::{Error, look_at_log};
    use crate::series::wal::MAGIC;

    #[test]
    fn a_log_is_read_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("series.wal");
        assert_eq!(look_at_log(&path).unwrap(), None);
        for (bytes, sound) in [(&MAGIC[..], true), (b"something else", false)] {
            std::fs::write(&path, bytes).unwrap();
            let report = look_at_log(&path).unwrap().unwrap();
            assert_eq!(report.finding.is_none(), sound, "{report:?}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        std::fs::write(&path, b"").unwrap();
        assert_eq!(look_at_log(&path).unwrap(), None);
        // A folder can be read by nobody.
        assert!(matches!(look_at_log(folder.path()), Err(Error::File { .. })));
    }
}
