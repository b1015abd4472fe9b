//! The settings as they were loaded: what counts, where it came from, and what a new load changes.

use std::collections::{BTreeMap, BTreeSet};

use super::Config;
use super::keys::{self, Family, Key};
use super::problem::Origin;

/// A configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Every setting.
    pub config: Config,
    /// The same, as text, in the order of the shipped file.
    pub values: Vec<Effective>,
    /// What is no error, but probably not meant: one sentence each.
    pub warnings: Vec<String>,
}

/// One setting as it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The key, with its section: `server.listen`, `tier.standard.queues`.
    pub key: String,
    /// The value, as it is written in the file; paths as they are opened.
    pub value: String,
    /// Who said so.
    pub origin: Origin,
}

/// A setting that is different in a new configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, with its section.
    pub key: String,
    /// The old value; none if its tier or class is new.
    pub from: Option<String>,
    /// The new value; none if its tier or class is gone.
    pub to: Option<String>,
    /// Whether a reload applies it. The others count from the next start on.
    pub live: bool,
}

/// What `new` changes, by key. The same value from another source is no change.
pub fn differences(old: &Loaded, new: &Loaded) -> Vec<Change> {
    fn by_key(loaded: &Loaded) -> BTreeMap<&str, &str> {
        loaded.values.iter().map(|value| (value.key.as_str(), value.value.as_str())).collect()
    }
    let (old, new) = (by_key(old), by_key(new));
    let all: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    let mut changes = Vec::new();
    for key in all {
        let side = |side: &BTreeMap<&str, &str>| match side.get(key) {
            Some(value) => Some((*value).to_owned()),
            None => unsaid(key),
        };
        let (from, to) = (side(&old), side(&new));
        if from != to {
            changes.push(Change { key: key.to_owned(), from, to, live: key_of(key).live });
        }
    }
    changes
}

/// What counts for a key whose section is not there. Only namespaces exist without one.
fn unsaid(full: &str) -> Option<String> {
    let key = key_of(full);
    let exists = key.family() == Some(Family::Namespace);
    exists.then(|| key.in_toml(key.default))
}

/// The key of that name, which exists.
fn key_of(full: &str) -> &'static Key {
    let (section, name) = full.rsplit_once('.').expect("BUG: a key has a section");
    keys::find(keys::section_of(section), name).expect("BUG: the key is in the table")
}
