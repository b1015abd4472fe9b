//! Checks of what settings mean together, and of the files that hold secrets.

use std::path::{Component, Path};

use super::environment::{CREDENTIALS, Environment};
use super::keys::Family;
use super::kind::Draft;
use super::load::Permissions;
use super::problem::{Error, Origin, Problem, Problems};

/// What is wrong with settings that are right each by itself.
pub(super) struct Found {
    /// The key whose origin is shown.
    pub(super) key: String,
    /// The keys it depends on: if one of them was refused, nothing can be said.
    pub(super) depends_on: Vec<String>,
    pub(super) error: Error,
}

const CERT: &str = "tls.cert_file";
const KEY: &str = "tls.key_file";

fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Every check across keys.
pub(super) fn across(draft: &Draft) -> Vec<Found> {
    let mut found = Vec::new();
    let half = match (&draft.cert_file, &draft.key_file) {
        (Some(_), None) => Some((CERT, KEY)),
        (None, Some(_)) => Some((KEY, CERT)),
        (Some(_), Some(_)) | (None, None) => None,
    };
    if let Some((given, missing)) = half {
        let error = Error::HalfOfTls { given, missing };
        found.push(Found { key: given.to_owned(), depends_on: keys(&[CERT, KEY]), error });
    }
    let encrypted = draft.cert_file.is_some() || draft.key_file.is_some(); // half of it is told above
    if !draft.server.listen.is_loopback() && !encrypted && !draft.server.behind_tls_proxy {
        let error = Error::ListenNeedsTls { listen: draft.server.listen.clone() };
        let depends_on = keys(&["server.listen", "server.behind_tls_proxy", CERT, KEY]);
        found.push(Found { key: "server.listen".to_owned(), depends_on, error });
    }
    for (class, _) in draft.cache.classes.iter().filter(|(_, class)| class.ttl.is_none()) {
        let section = Family::Class.named(class);
        let depends_on = vec![format!("{section}.ttl")];
        let error = Error::ClassWithoutTtl { class: class.clone() };
        found.push(Found { key: section, depends_on, error });
    }
    let series = &draft.series;
    let tiers =
        [("raw", series.raw), ("r5m", series.r5m), ("r1h", series.r1h), ("r1d", series.r1d)];
    for pair in tiers.windows(2) {
        if let [(finer, its), (name, age)] = *pair
            && age < its
        {
            let (key, finer) = (format!("series.{name}"), format!("series.{finer}"));
            let depends_on = vec![key.clone(), finer.clone()];
            let error = Error::TierShorter { key: key.clone(), age, finer, its };
            found.push(Found { key, depends_on, error });
        }
    }
    found
}

/// Refuses a file with a secret that others can read or replace. `us` is the user that we run as.
///
/// The group may read what systemd hands over: it makes these files itself, with an access list that
/// shows as the group's permission.
pub fn check_secret_file(
    path: &Path,
    found: Permissions,
    us: u32,
    environment: &Environment,
) -> Result<(), Problems> {
    let is_credential = is_credential(path, environment);
    let refused = |error| {
        let origin = Origin::File { path: path.into(), line: None };
        Err(Problems::one(Problem { origin, error }))
    };
    // An owner can read and replace the file: that may be us, or root. Root itself trusts any.
    let is_ours = found.owner == us || found.owner == 0 || us == 0;
    let forbidden = if is_credential { 0o037 } else { 0o077 };
    if found.mode & forbidden != 0 {
        // Taking the group's permission from a file of somebody else would shut us out.
        let chown = (found.owner != us && us != 0).then_some(us);
        let mode = found.mode & 0o777;
        return refused(Error::SecretExposed { path: path.into(), mode, chown });
    }
    if !is_ours && !is_credential {
        return refused(Error::SecretOfAnother { path: path.into(), owner: found.owner, us });
    }
    Ok(())
}

/// Whether `path` is a file that systemd handed over.
fn is_credential(path: &Path, environment: &Environment) -> bool {
    let folder = environment.get(CREDENTIALS).filter(|folder| !folder.is_empty());
    let climbs = path.components().any(|part| part == Component::ParentDir);
    folder.is_some_and(|folder| path.starts_with(folder)) && !climbs
}
