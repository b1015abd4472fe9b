//! The first start: tenant `default` and one administrator's token.
//!
//! The token is written to `<data>/admin.token` before the catalog knows it: whoever cuts the power in
//! between finds a file whose token does not exist yet, and the next start, for which it is still the
//! first one, writes another. A token without its file cannot come to be.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The file in the data directory.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";

/// Writes a small file so that it is either the old one or the new one, whatever happens: aside, synced,
/// renamed, folder synced. Nobody but the owner can read it.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    let mut how = OpenOptions::new();
    how.write(true).create(true).truncate(true).mode(0o600);
    let mut file = how.open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&aside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::write_private;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_private_file_is_the_owners_alone_and_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        for text in ["a first and long token\n", "short\n"] {
            write_private(&path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
