//! Loading: the sources are read from the weakest to the strongest, and each value replaces the one
//! before it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::checks;
use super::environment::{CONFIG, Environment};
use super::file::FileReader;
use super::keys::{CLASSES, Family, JOB_TYPES, KEYS, Key, SECTIONS, STANDARD, keys_of};
use super::kind::{CacheDraft, Context, Draft, Given, Wrong};
use super::loaded::{Effective, Loaded};
use super::problem::{Error, Origin, Problem, Problems};
use super::shipped::example;
use super::{Cache, Config, Tls};
use crate::base::limits::CONFIG_FILE_BYTES_MAX;
use crate::base::name::Namespace;
use crate::cache::entry::Life;

/// Who reads files for us.
pub trait Files {
    /// The text of the file at `path`, of which more than `bytes_max` bytes need not be read: one byte
    /// more is enough to show that it is too large.
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<FileText>;
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct FileText {
    /// What it says.
    pub text: String,
    /// Who may read it.
    pub permissions: Permissions,
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// The bits for owner, group and others.
    pub mode: u32,
    /// The id of the owner.
    pub owner: u32,
}

/// All that settings come from.
#[derive(Clone, Debug)]
pub struct Sources<'a> {
    /// What the command line says: a key of no family, and the value as in a variable.
    pub flags: Vec<(&'static Key, String)>,
    /// The environment.
    pub environment: &'a Environment,
    /// The configuration file, its path and text, if there is one. See [`find`].
    pub file: Option<(PathBuf, String)>,
}

/// The configuration file, its path and text: the one that the command line names, else the one in
/// `HOLDFAST_CONFIG`, else none.
pub fn find(
    files: &dyn Files,
    flag: Option<&Path>,
    environment: &Environment,
) -> Result<Option<(PathBuf, String)>, Problems> {
    let variable = environment.get(CONFIG).filter(|path| !path.is_empty()).map(Path::new);
    if flag.is_none() && environment.is_unreadable(CONFIG) {
        let name = CONFIG.to_owned();
        let origin = Origin::Environment { name: name.clone() };
        return Err(Problems::one(Problem { origin, error: Error::NotText { name } }));
    }
    let Some(path) = flag.or(variable) else { return Ok(None) };
    match files.read(path, CONFIG_FILE_BYTES_MAX) {
        Ok(found) => Ok(Some((path.to_owned(), found.text))),
        Err(cause) => {
            let origin = Origin::File { path: path.to_owned(), line: None };
            let error = Error::Unreadable { cause: cause.to_string() };
            Err(Problems::one(Problem { origin, error }))
        }
    }
}

/// Reads every source. Total: whatever they say, the answer is a configuration or what is wrong.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Problems> {
    let mut loader = Loader::with_defaults(sources.environment);
    if let Some((path, text)) = &sources.file {
        FileReader::new(path, text).read_into(&mut loader);
    }
    loader.variables();
    for (key, text) in &sources.flags {
        loader.flag(key, text);
    }
    loader.check_across();
    loader.finish()
}

/// What has been read so far.
pub(super) struct Loader<'a> {
    environment: &'a Environment,
    draft: Draft,
    /// Of what is not at its default.
    origins: BTreeMap<String, Origin>,
    problems: Problems,
    /// Keys of which a value was refused.
    refused: BTreeSet<String>,
}

impl<'a> Loader<'a> {
    fn with_defaults(environment: &'a Environment) -> Loader<'a> {
        let mut loader = Loader {
            environment,
            draft: Draft::blank(),
            origins: BTreeMap::new(),
            problems: Problems::none_yet(),
            refused: BTreeSet::new(),
        };
        for key in KEYS.iter().filter(|key| key.family().is_none()) {
            loader.set_default(key, "");
        }
        loader.set_defaults(Family::Tier, STANDARD);
        for (class, _, _) in CLASSES {
            loader.set_defaults(Family::Class, class);
        }
        for (job_type, _, _) in JOB_TYPES {
            loader.set_defaults(Family::JobType, job_type);
        }
        loader
    }

    fn set_default(&mut self, key: &Key, name: &str) {
        let context = Context { name, folder: None, environment: self.environment };
        let stored = key.kind.store(&mut self.draft, context, Given::Plain(key.default_in(name)));
        stored.unwrap_or_else(|wrong| panic!("BUG: the default of {key:?} is wrong: {wrong:?}"));
    }

    fn set_defaults(&mut self, family: Family, name: &str) {
        for key in keys_of(family.section()) {
            self.set_default(key, name);
        }
    }

    /// Takes a value from `origin`, or notes what is wrong with it.
    pub(super) fn take(&mut self, key: &Key, name: &str, given: Given<'_>, origin: Origin) {
        let folder = match &origin {
            Origin::File { path, .. } => path.parent(),
            Origin::Default | Origin::Environment { .. } | Origin::Flag { .. } => None,
        };
        let context = Context { name, folder, environment: self.environment };
        let full = key.full(name);
        match key.kind.store(&mut self.draft, context, given) {
            Ok(()) => drop(self.origins.insert(full, origin)),
            Err(wrong) => {
                self.refused.insert(full.clone());
                self.problems.push(|| refusal(key, full, wrong, origin));
            }
        }
    }

    /// Notes what is wrong at `origin`.
    pub(super) fn refuse(&mut self, origin: Origin, error: Error) {
        self.problems.push(|| Problem { origin, error });
    }

    /// Notes what `problem` makes, unless there are too many to list.
    pub(super) fn refuse_with(&mut self, problem: impl FnOnce() -> Problem) {
        self.problems.push(problem);
    }

    /// Makes a section of the family exist, with its defaults; false if there are too many.
    pub(super) fn begin(&mut self, family: Family, name: &str, origin: Origin) -> bool {
        let draft = &self.draft;
        let (known, count) = match family {
            Family::Tier => (draft.tiers.contains_key(name), draft.tiers.len()),
            Family::Namespace => {
                let namespaces = &draft.cache.namespaces;
                (namespaces.contains_key(name), namespaces.len())
            }
            Family::Class => (draft.cache.classes.contains_key(name), draft.cache.classes.len()),
            Family::JobType => (draft.queue_types.contains_key(name), draft.queue_types.len()),
        };
        if !known {
            if family.most() <= count {
                return false;
            }
            self.set_defaults(family, name);
        }
        self.origins.insert(family.named(name), origin);
        true
    }

    /// The names of the sections of a family.
    fn names(&self, family: Family) -> Vec<String> {
        match family {
            Family::Tier => self.draft.tiers.keys().cloned().collect(),
            Family::Namespace => self.draft.cache.namespaces.keys().cloned().collect(),
            Family::Class => self.draft.cache.classes.keys().cloned().collect(),
            Family::JobType => self.draft.queue_types.keys().cloned().collect(),
        }
    }

    fn variables(&mut self) {
        let environment = self.environment;
        for key in &KEYS {
            let Some(name) = key.environment else { continue };
            let origin = Origin::Environment { name: name.to_owned() };
            if environment.is_unreadable(name) {
                self.refused.insert(key.full(""));
                self.refuse(origin, Error::NotText { name: name.to_owned() });
            } else if let Some(text) = environment.get(name) {
                self.take(key, "", Given::Plain(text), origin);
            }
        }
    }

    fn flag(&mut self, key: &'static Key, text: &str) {
        assert!(key.family().is_none(), "BUG: a family has no flags");
        self.take(key, "", Given::Plain(text), Origin::Flag { name: key.flag() });
    }

    fn check_across(&mut self) {
        for found in checks::across(&self.draft) {
            if !found.depends_on.iter().any(|key| self.refused.contains(key)) {
                let origin = self.origins.get(&found.key).cloned().unwrap_or(Origin::Default);
                self.refuse(origin, found.error);
            }
        }
    }

    fn finish(mut self) -> Result<Loaded, Problems> {
        if !self.problems.is_empty() {
            self.problems.sort();
            return Err(self.problems);
        }
        let values = self.values();
        let warnings = self.environment.strangers();
        let draft = self.draft;
        let tls = match (draft.cert_file, draft.key_file) {
            (Some(cert_file), Some(key_file)) => Some(Tls { cert_file, key_file }),
            _ => None, // half of it was refused
        };
        let config = Config {
            server: draft.server,
            tls,
            tiers: draft.tiers,
            cache: finish_cache(&draft.cache),
            queue_types: draft.queue_types,
            history: draft.history,
            series: draft.series,
            host: draft.host,
            log: draft.log,
        };
        Ok(Loaded { config, values, warnings })
    }

    /// Every setting as text, with its origin.
    fn values(&mut self) -> Vec<Effective> {
        let mut values = Vec::new();
        for section in SECTIONS {
            let names = match Family::of(section.name) {
                Some(family) => self.names(family),
                None => vec![String::new()],
            };
            for name in names {
                for key in keys_of(section.name) {
                    let full = key.full(&name);
                    let origin = self.origins.remove(&full).unwrap_or(Origin::Default);
                    let value = key.kind.show(&mut self.draft, &name);
                    values.push(Effective { key: full, value, origin });
                }
            }
        }
        values
    }
}

/// What was checked while it was read.
fn finish_cache(draft: &CacheDraft) -> Cache {
    let namespace = |name: &str| Namespace::parse(name).expect("BUG: a section's name is checked");
    let namespaces = draft.namespaces.iter().map(|(name, settings)| (namespace(name), *settings));
    let life = |ttl, stale| Life::new(ttl, stale).expect("BUG: a class is checked");
    let classes = draft.classes.iter();
    let classes = classes.map(|(name, class)| (name.clone(), life(class.ttl, class.stale)));
    Cache {
        enabled: draft.enabled,
        budget: draft.budget,
        kept_budget: draft.kept_budget,
        snapshot: draft.snapshot,
        namespaces: namespaces.collect(),
        classes: classes.collect(),
    }
}

fn refusal(key: &Key, full: String, wrong: Wrong, origin: Origin) -> Problem {
    let example = example(key, &origin);
    let error = match wrong {
        Wrong::Type(found) => {
            Error::WrongType { key: full, expected: key.expects(), found, example }
        }
        Wrong::Value { value, why } => Error::WrongValue { key: full, value, why, example },
        Wrong::NoCredentials { name } => Error::NoCredentials { key: full, name },
    };
    Problem { origin, error }
}
