//! `holdfast lock`: who holds what, and letting go.

use clap::ArgMatches;

use super::commands::{print_json, rows, text};
use super::failure::Failure;
use super::session::Session;
use super::table::{shown, table};
use crate::io::client::{Json, encoded};

/// `holdfast lock ...`
pub(super) fn lock(arguments: &ArgMatches) -> Result<(), Failure> {
    match arguments.subcommand() {
        Some(("list", arguments)) => list(arguments),
        Some(("release", arguments)) => release(arguments),
        Some(_) | None => unreachable!("BUG: the parser knows no other command"),
    }
}

fn list(arguments: &ArgMatches) -> Result<(), Failure> {
    let items = Session::open(arguments)?.all("/v1/locks")?;
    if arguments.get_flag("json") {
        print_json(&Json::from(items));
        return Ok(());
    }
    let head = ["NAME", "OWNER", "FENCE", "EXPIRES"];
    print!("{}", table(&head, &rows(&items, &["name", "owner", "fence", "expires_at"])));
    Ok(())
}

fn release(arguments: &ArgMatches) -> Result<(), Failure> {
    let name = text(arguments, "name");
    let who = match arguments.get_one::<String>("owner") {
        Some(owner) => format!("owner={}", encoded(owner)),
        None => "force=true".to_owned(),
    };
    let path = format!("/v1/locks/{}?{who}", encoded(name));
    Session::open(arguments)?.ask("DELETE", &path, None)?;
    eprintln!("released: {}", shown(name));
    Ok(())
}
