//! `holdfast config`: settings without a server.

use clap::ArgMatches;

use super::failure::{Failure, PROBLEMS};
use super::session::origin;
use super::table::table;
use crate::boot::settings::Settings;
use crate::config::{Effective, Loaded, Problems, shipped};
use crate::io::client::{Json, object};

/// `holdfast config ...`
pub(super) fn config(arguments: &ArgMatches) -> Result<(), Failure> {
    match arguments.subcommand() {
        Some(("check", arguments)) => check(arguments),
        Some(("show", arguments)) => show(arguments),
        Some(("default", _)) => {
            print!("{}", shipped(&[]));
            Ok(())
        }
        Some(_) | None => unreachable!("BUG: the parser knows no other command"),
    }
}

fn check(arguments: &ArgMatches) -> Result<(), Failure> {
    let origin = origin(arguments);
    let json = arguments.get_flag("json");
    let (problems, warnings, path) = match origin.check() {
        Ok((loaded, path)) => (None, loaded.warnings, path),
        Err(problems) => (Some(problems), Vec::new(), None),
    };
    if json {
        let lines = problems.as_ref().map(Problems::lines).unwrap_or_default();
        let body = object([
            ("ok", Json::from(problems.is_none())),
            ("problems", Json::from(lines)),
            ("warnings", Json::from(warnings)),
        ]);
        println!("{body:#}");
        return problems.map_or(Ok(()), |_| Err(Failure::new(PROBLEMS, "")));
    }
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    if let Some(problems) = problems {
        return Err(Failure::new(PROBLEMS, problems.to_string()));
    }
    let file = path.map_or("no file".to_owned(), |path| path.display().to_string());
    println!("{file}: no problems");
    Ok(())
}

fn load(origin: &Settings) -> Result<Loaded, Failure> {
    let loaded = origin.load().map_err(|problems| Failure::new(PROBLEMS, problems.to_string()))?;
    Ok(loaded.0)
}

fn show(arguments: &ArgMatches) -> Result<(), Failure> {
    let loaded = load(&origin(arguments))?;
    if arguments.get_flag("json") {
        let one = |value: &Effective| {
            object([
                ("key", Json::from(value.key.as_str())),
                ("value", Json::from(value.value.as_str())),
                ("origin", Json::from(value.origin.to_string())),
            ])
        };
        let all: Vec<Json> = loaded.values.iter().map(one).collect();
        println!("{:#}", Json::from(all));
        return Ok(());
    }
    let with_origin = arguments.get_flag("origin");
    let row = |value: &Effective| {
        let mut row = vec![value.key.clone(), value.value.clone()];
        if with_origin {
            row.push(value.origin.to_string());
        }
        row
    };
    let head: &[&str] = if with_origin { &["KEY", "VALUE", "ORIGIN"] } else { &["KEY", "VALUE"] };
    print!("{}", table(head, &loaded.values.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}
