//! Reading the settings: which file, and what it says.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::tls;
use crate::config::{
    self, Environment, Error, FileText, Files, Key, Loaded, Origin, Permissions, Problem, Problems,
    Sources,
};
use crate::io::memory::Memory;

/// Where the package puts the file; read when it is there and no other is named.
pub const PACKAGED_FILE: &str = "/etc/holdfast/holdfast.toml";

/// Where settings come from, to be read now and again.
#[derive(Clone, Default)]
pub struct Settings {
    /// The file that was named on the command line.
    pub file: Option<PathBuf>,
    /// Key and value of each flag.
    pub flags: Vec<(&'static Key, String)>,
    /// The environment at the start.
    pub environment: Environment,
}

/// The files of this machine.
struct SystemFiles;

impl Files for SystemFiles {
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<FileText> {
        let file = std::fs::File::open(path)?;
        let found = file.metadata()?;
        let mut text = String::new();
        file.take(bytes_max as u64 + 1).read_to_string(&mut text)?;
        Ok(FileText { text, permissions: permissions(&found) })
    }
}

fn permissions(found: &std::fs::Metadata) -> Permissions {
    Permissions { mode: found.mode(), owner: found.uid() }
}

impl Settings {
    /// The file that is read, if one is.
    fn find(&self) -> Result<Option<(PathBuf, String)>, Problems> {
        let packaged = Path::new(PACKAGED_FILE);
        let named = config::find(&SystemFiles, self.file.as_deref(), &self.environment)?;
        if named.is_some() || !packaged.exists() {
            return Ok(named);
        }
        config::find(&SystemFiles, Some(packaged), &self.environment)
    }

    /// Reads everything. The path is that of the file that was read, if one was.
    pub fn load(&self) -> Result<(Loaded, Option<PathBuf>), Problems> {
        let file = self.find()?;
        let path = file.as_ref().map(|(path, _)| path.clone());
        let sources = Sources { flags: self.flags.clone(), environment: &self.environment, file };
        let mut loaded = config::load(&sources)?;
        loaded.warnings.extend(loaded.config.cache.warning(Memory::of_process().bytes));
        self.check_key_file(&loaded)?;
        Ok((loaded, path))
    }

    /// Reads everything, and tries what a server would use of it.
    pub fn check(&self) -> Result<(Loaded, Option<PathBuf>), Problems> {
        let (loaded, path) = self.load()?;
        if let Some(files) = &loaded.config.tls {
            tls::load(files).map_err(|error| unusable(&files.cert_file, &error))?;
        }
        Ok((loaded, path))
    }

    /// A key that others can read is no key.
    fn check_key_file(&self, loaded: &Loaded) -> Result<(), Problems> {
        let Some(tls) = &loaded.config.tls else {
            return Ok(());
        };
        let Ok(found) = std::fs::metadata(&tls.key_file) else {
            // Told when it is read, with what the system says.
            return Ok(());
        };
        let us = rustix::process::geteuid().as_raw();
        config::check_secret_file(&tls.key_file, permissions(&found), us, &self.environment)
    }
}

fn unusable(path: &Path, error: &tls::Error) -> Problems {
    let origin = Origin::File { path: path.to_owned(), line: None };
    Problems::one(Problem { origin, error: Error::TlsUnusable { why: error.to_string() } })
}
