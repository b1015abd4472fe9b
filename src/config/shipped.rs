//! What is written from the table: the commented file of the package and the table of the README.

use std::fmt::Write as _;

use super::keys::{Family, KEYS, Key, SECTIONS, STANDARD, keys_of};

const HEAD: &str = "\
# The settings of Holdfast. An empty file is a good start: everything has a default.
#
# \"#name = value\" is a setting at its default: take the # away and change it. \"# text\" explains.
#
# Whoever comes first counts: a flag, a variable of the environment, this file, the default.
# Paths in this file start at the folder it is in; those of flags and variables at the working
# directory. Passwords and keys do not belong here: a setting that ends in _file names their file.
#
# After a change, see whether it is right:   holdfast config check
";

/// The configuration file with a comment on everything: each key is commented out at its default, but
/// for `overrides`, pairs of key and value as in a variable, which are set.
pub fn shipped(overrides: &[(&str, &str)]) -> String {
    let known = |full: &str| KEYS.iter().any(|key| key.full(STANDARD) == full);
    assert!(overrides.iter().all(|(full, _)| known(full)), "BUG: what is shipped exists");
    let mut out = String::from(HEAD);
    for section in SECTIONS {
        out.push('\n');
        comment(&mut out, section.doc);
        let family = Family::of(section.name);
        let names = family.map_or_else(|| vec![""], Family::shipped);
        for (index, name) in names.into_iter().enumerate() {
            let written = family.map_or_else(|| section.name.to_owned(), |f| f.named(name));
            if index != 0 {
                out.push('\n');
            }
            line(&mut out, format_args!("[{written}]"));
            for key in keys_of(section.name) {
                match index {
                    0 => {
                        out.push('\n');
                        comment(&mut out, key.doc);
                        setting(&mut out, key, name, overrides);
                    }
                    // What it means stands at the first.
                    _ => line(
                        &mut out,
                        format_args!("#{} = {}", key.name, key.in_toml(key.default_in(name))),
                    ),
                }
            }
        }
    }
    out
}

fn setting(out: &mut String, key: &Key, section: &str, overrides: &[(&str, &str)]) {
    let default = key.in_toml(key.default_in(section));
    let name = key.name;
    if matches!(default.as_str(), "\"\"" | "[]") {
        line(out, format_args!("# Example: {name} = {}", key.in_toml(key.example)));
    }
    if let Some(variable) = key.environment {
        line(out, format_args!("# Variable: {variable}."));
    }
    if !key.live {
        line(out, format_args!("# A change counts from the next start on."));
    }
    match overrides.iter().find(|(full, _)| *full == key.full(section)) {
        Some((_, text)) => line(out, format_args!("{name} = {}", key.in_toml(text))),
        None => line(out, format_args!("#{name} = {default}")),
    }
}

fn comment(out: &mut String, text: &str) {
    for text in text.lines() {
        line(out, format_args!("# {text}"));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("BUG: a String takes all");
}

/// Every setting as a table in Markdown: key, default, environment, what.
pub fn markdown_table() -> String {
    let mut out = String::from("| key | default | environment | what |\n|---|---|---|---|\n");
    for key in &KEYS {
        let variable = key.environment.map(|name| format!("`{name}`")).unwrap_or_default();
        let what = key.doc.replace('\n', " ").replace('<', "&lt;").replace('|', "\\|");
        let restart = if key.live { "" } else { " Needs a restart." };
        let (section, name) = (key.section, key.name);
        let default = key.in_toml(key.default);
        let row =
            format_args!("| `{section}.{name}` | `{default}` | {variable} | {what}{restart} |");
        line(&mut out, row);
    }
    out
}

/// How `key` is written in the source that `origin` is: for messages.
pub(super) fn example(key: &Key, origin: &super::Origin) -> String {
    match origin {
        super::Origin::Environment { name } => format!("{name}={}", key.example),
        super::Origin::Flag { name } => format!("{name} {}", key.example),
        super::Origin::File { .. } | super::Origin::Default => {
            format!("{} = {}", key.name, key.in_toml(key.example))
        }
    }
}
