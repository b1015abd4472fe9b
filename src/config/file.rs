//! The configuration file: from TOML to values with the lines they stand in.
//!
//! Its length and depth are bounded before anything is made of it.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::depth::too_deep;
use super::keys::{self, Family, SECTIONS};
use super::kind::{Given, shown, type_of};
use super::load::Loader;
use super::problem::{Error, Origin, Problem};
use crate::base::limits::CONFIG_FILE_BYTES_MAX;

/// The file's text, and where its lines end.
pub(super) struct FileReader<'f> {
    path: &'f Path,
    text: &'f str,
    line_ends: Vec<usize>,
}

/// Of a file up to this length all mistakes of syntax are told, of a longer one the first: the parser
/// keeps something for each.
const RECOVERED_BYTES_MAX: usize = 64 << 10;

/// The section whose keys are read.
#[derive(Clone, Copy)]
struct Place<'p> {
    /// As in the table.
    section: &'static str,
    /// As in the file.
    written: &'p str,
    /// The name of the tier, namespace, class or type, or nothing.
    name: &'p str,
}

impl<'f> FileReader<'f> {
    /// A reader of `text`, which is what the file at `path` says.
    pub(super) fn new(path: &'f Path, text: &'f str) -> FileReader<'f> {
        let line_ends = match text.len() {
            0..=CONFIG_FILE_BYTES_MAX => text.match_indices('\n').map(|(at, _)| at).collect(),
            _ => Vec::new(), // it is going to be refused
        };
        FileReader { path, text, line_ends }
    }

    /// Gives every value of the file to `loader`.
    pub(super) fn read_into(&self, loader: &mut Loader<'_>) {
        if CONFIG_FILE_BYTES_MAX < self.text.len() {
            let origin = Origin::File { path: self.path.to_owned(), line: None };
            return loader.refuse(origin, Error::TooLarge);
        }
        if let Some(at) = too_deep(self.text) {
            let origin = Origin::File { path: self.path.to_owned(), line: Some(self.line_of(at)) };
            return loader.refuse(origin, Error::TooDeep);
        }
        let (root, errors) = match DeTable::parse(self.text) {
            Ok(root) => (root, Vec::new()),
            Err(_) if self.text.len() <= RECOVERED_BYTES_MAX => {
                DeTable::parse_recoverable(self.text)
            }
            Err(error) => (Spanned::new(0..0, DeTable::new()), vec![error]),
        };
        let mut last = None;
        for error in &errors {
            // What follows in the same line is mostly a consequence.
            let line = self.line_of(error.span().map_or(0, |span| span.start));
            if last.replace(line) != Some(line) {
                let message = shown(error.message());
                let origin = Origin::File { path: self.path.to_owned(), line: Some(line) };
                loader.refuse(origin, Error::Syntax { message });
            }
        }
        // What was recovered from a broken file may stand in the wrong section.
        if errors.is_empty() {
            for (name, value) in root.get_ref() {
                self.top(loader, name, value);
            }
        }
    }

    fn line_of(&self, at: usize) -> usize {
        1 + self.line_ends.partition_point(|&end| end < at)
    }

    /// Where `name` stands.
    fn origin<T>(&self, name: &Spanned<T>) -> Origin {
        let line = self.line_of(name.span().start);
        Origin::File { path: self.path.to_owned(), line: Some(line) }
    }

    fn top(
        &self,
        loader: &mut Loader<'_>,
        name: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let written: &str = name.get_ref();
        if let Some(family) = Family::within(written) {
            self.family(loader, family, name, value);
            return;
        }
        if let Some(section) = Family::parent(written) {
            if let Some(table) = self.table(loader, written, name, value) {
                self.keys(loader, Place { section, written, name: "" }, table);
            }
            return;
        }
        let plain = |name| Family::of(name).is_none();
        let Some(section) = SECTIONS.iter().find(|s| s.name == written && plain(s.name)) else {
            loader.refuse_with(|| {
                let near = keys::near_section(written);
                let error = Error::UnknownSection { name: shown(written), near };
                Problem { origin: self.origin(name), error }
            });
            return;
        };
        if let Some(table) = self.table(loader, written, name, value) {
            self.keys(loader, Place { section: section.name, written, name: "" }, table);
        }
    }

    /// A table of sections that have names.
    fn family(
        &self,
        loader: &mut Loader<'_>,
        family: Family,
        name: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let section = family.section();
        let Some(sections) = self.table(loader, section, name, value) else { return };
        for (name, value) in sections {
            let written: &str = name.get_ref();
            if !value.get_ref().is_table() && keys::find(section, written).is_some() {
                let usual = family.shipped().first().map_or("", |usual| *usual);
                let near = Some(format!("{}.{written}", family.named(usual)));
                let error = Error::UnknownKey { name: family.named(written), near };
                loader.refuse(self.origin(name), error);
                continue;
            }
            if let Err(bad) = family.check(written) {
                let error = || Error::BadName { family, bad };
                loader.refuse_with(|| Problem { origin: self.origin(name), error: error() });
                continue;
            }
            let full = family.named(written);
            let Some(table) = self.table(loader, &full, name, value) else { continue };
            if !loader.begin(family, written, self.origin(name)) {
                loader.refuse(self.origin(name), Error::TooMany { family });
                return;
            }
            self.keys(loader, Place { section, written: &full, name: written }, table);
        }
    }

    fn keys(&self, loader: &mut Loader<'_>, place: Place<'_>, table: &DeTable<'_>) {
        for (name, value) in table {
            let below = format!("{}.{}", place.written, shown(name.get_ref()));
            if let Some(family) = Family::within(&below) {
                self.family(loader, family, name, value);
                continue;
            }
            match keys::find(place.section, name.get_ref()) {
                Some(key) => {
                    let given = Given::Toml(value.get_ref());
                    loader.take(key, place.name, given, self.origin(name));
                }
                None => loader.refuse_with(|| {
                    let near = keys::near_key(place.section, place.written, name.get_ref());
                    let error = Error::UnknownKey { name: below, near };
                    Problem { origin: self.origin(name), error }
                }),
            }
        }
    }

    /// The table in `value`, which is the section `written`.
    fn table<'t>(
        &self,
        loader: &mut Loader<'_>,
        written: &str,
        name: &Spanned<DeString<'_>>,
        value: &'t Spanned<DeValue<'t>>,
    ) -> Option<&'t DeTable<'t>> {
        if let DeValue::Table(table) = value.get_ref() {
            return Some(table);
        }
        loader.refuse_with(|| {
            let found = type_of(value.get_ref());
            Problem {
                origin: self.origin(name),
                error: Error::NotASection { name: written.to_owned(), found },
            }
        });
        None
    }
}
