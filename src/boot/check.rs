//! Looking through a data directory of which nobody makes use: whether the jobs in it are as they should be.
//!
//! Nothing of what people stored is changed. A file that a kill has left is put in order as any opening does.

use std::panic;
use std::path::{Path, PathBuf};

use super::data_dir::{self, DataDir, Previous};
use super::server::JOBS_FILE;
use super::settings::Settings;
use crate::base::limits::ENGINE_CACHE_BYTES_MAX;
use crate::base::time::Clock as _;
use crate::boot::clock::SystemClock;
use crate::config::Problems;
use crate::queue::check::{Report, check as check_jobs};
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

/// Looks through the jobs in the folder that the settings name; which file that was, and what was found.
pub fn check(origin: &Settings) -> Result<(PathBuf, Report), Error> {
    let (loaded, _) = origin.load()?;
    let folder: &Path = &loaded.config.server.data_dir;
    let path = folder.join(JOBS_FILE);
    // Looked for first: opening a folder that is not there would make it.
    if !path.exists() {
        return Err(Error::Missing(path));
    }
    let data_dir = DataDir::open(folder)?;
    let failed = |why: String| Error::File { path: path.clone(), why };
    let report = look(&path).map_err(failed)?;
    // How the last server ended is for the next one to tell.
    if data_dir.previous() == Previous::InOrder {
        data_dir.close_in_order(SystemClock::new().now().wall)?;
    }
    Ok((path, report))
}

/// Looks through one file. Over some kinds of damage the engine panics instead of telling of it; that is an
/// answer too, and what it says of its own sources helps nobody who asks for the state of a file.
fn look(path: &Path) -> Result<Report, String> {
    let before = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let looked = panic::catch_unwind(|| {
        let engine = Redb::open(path, ENGINE_CACHE_BYTES_MAX, Opening::Start);
        let engine = engine.map_err(|error| error.to_string())?;
        check_jobs(&engine).map_err(|error| error.to_string())
    });
    panic::set_hook(before);
    looked.unwrap_or_else(|_| {
        Err("the file is damaged: the engine gave up reading it; restore the latest backup"
            .to_owned())
    })
}
