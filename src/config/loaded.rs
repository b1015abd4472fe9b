//! The settings as they were loaded: what counts, where it came from, and what a new load changes.

use std::collections::BTreeMap;

use super::Config;
use super::keys::{self, TIER};
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
    /// The old value; none if its tier is new.
    pub from: Option<String>,
    /// The new value; none if its tier is gone.
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
    let gone = old.iter().filter(|(key, _)| !new.contains_key(*key));
    let mut changes: Vec<Change> = gone.map(|(key, from)| change(key, Some(from), None)).collect();
    for (key, to) in &new {
        let from = old.get(key).copied();
        if from != Some(to) {
            changes.push(change(key, from, Some(to)));
        }
    }
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}

fn change(key: &str, from: Option<&str>, to: Option<&str>) -> Change {
    Change {
        key: key.to_owned(),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
        live: is_live(key),
    }
}

/// Whether a reload applies a change of the key, which exists.
fn is_live(full: &str) -> bool {
    let (section, name) = full.rsplit_once('.').expect("BUG: a key has a section");
    let section = if section.starts_with("tier.") { TIER } else { section };
    keys::find(section, name).expect("BUG: the key is in the table").live
}
