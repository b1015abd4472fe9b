//! The commands that speak to a server, and those that print something of ours.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::Path;

use clap::ArgMatches;

use super::arguments::command;
use super::failure::{FAILURE, Failure, USAGE};
use super::session::Session;
use super::table::{bytes, shown, table};
use crate::http::openapi;
use crate::http::routes::ROUTES;
use crate::io::client::{Json, encoded, object};

/// An argument that is there.
pub(super) fn text<'a>(arguments: &'a ArgMatches, name: &str) -> &'a str {
    arguments.get_one::<String>(name).expect("BUG: the parser asks for it")
}

/// An argument, or null.
pub(super) fn maybe(arguments: &ArgMatches, name: &str) -> Json {
    arguments.get_one::<String>(name).map_or(Json::Null, |text| Json::from(text.as_str()))
}

/// Prints what the API gave.
pub(super) fn print_json(value: &Json) {
    println!("{value:#}");
}

/// A member as a cell; nothing for null.
pub(super) fn cell(value: &Json) -> String {
    match value {
        Json::Null => "-".to_owned(),
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The members of each item as cells.
pub(super) fn rows(items: &[Json], columns: &[&str]) -> Vec<Vec<String>> {
    items.iter().map(|item| columns.iter().map(|column| cell(&item[*column])).collect()).collect()
}

/// `holdfast status`
pub(super) fn status(arguments: &ArgMatches) -> Result<(), Failure> {
    let answer = Session::open(arguments)?.ask("GET", "/v1/status", None)?;
    let body = &answer.body;
    if arguments.get_flag("json") {
        print_json(body);
        return Ok(());
    }
    let size = |value: &Json| value.as_u64().map_or("-".to_owned(), bytes);
    let disk = &body["disk"];
    let lines = [
        ("state", cell(&body["state"])),
        ("version", cell(&body["version"])),
        ("up since", cell(&body["started_at"])),
        ("tenants", cell(&body["tenants"])),
        ("tokens", cell(&body["tokens"])),
        (
            "connections",
            format!("{} of {}", body["connections"]["open"], body["connections"]["max"]),
        ),
        ("memory", size(&body["process"]["resident_bytes"])),
        ("disk", format!("{}, {} free", cell(&disk["state"]), size(&disk["free_bytes"]))),
    ];
    for (name, value) in lines {
        println!("{name:<12} {}", shown(&value));
    }
    for store in body["stores"].as_array().into_iter().flatten() {
        let (name, state) = (cell(&store["name"]), cell(&store["state"]));
        println!("{:<12} {state}, {}", shown(&name), size(&store["bytes"]));
    }
    for warning in body["warnings"].as_array().into_iter().flatten() {
        eprintln!("warning: {}", shown(&cell(warning)));
    }
    Ok(())
}

/// `holdfast reload`
pub(super) fn reload(arguments: &ArgMatches) -> Result<(), Failure> {
    let answer = Session::open(arguments)?.ask("POST", "/v1/reload", None)?;
    let body = &answer.body;
    if arguments.get_flag("json") {
        print_json(body);
        return Ok(());
    }
    let list = |name: &str| body[name].as_array().cloned().unwrap_or_default();
    let (changed, restart) = (list("changed"), list("needs_restart"));
    for (changes, what) in [(&changed, "in force now"), (&restart, "needs a restart")] {
        for change in changes {
            let part = |name: &str| shown(&cell(&change[name]));
            println!("{}: {} -> {} ({what})", part("key"), part("from"), part("to"));
        }
    }
    if changed.is_empty() && restart.is_empty() {
        println!("nothing changed");
    }
    if !restart.is_empty() {
        eprintln!("for those that need a restart: systemctl restart holdfast");
    }
    for warning in list("warnings") {
        eprintln!("warning: {}", shown(&cell(&warning)));
    }
    Ok(())
}

/// `holdfast token ...`
pub(super) fn token(arguments: &ArgMatches) -> Result<(), Failure> {
    match arguments.subcommand() {
        Some(("create", arguments)) => token_create(arguments),
        Some(("list", arguments)) => token_list(arguments),
        Some(("revoke", arguments)) => {
            let path = format!("/v1/tokens/{}", encoded(text(arguments, "id")));
            Session::open(arguments)?.ask("DELETE", &path, None)?;
            eprintln!("revoked");
            Ok(())
        }
        Some(_) | None => unreachable!("BUG: the parser knows no other command"),
    }
}

fn token_create(arguments: &ArgMatches) -> Result<(), Failure> {
    let scopes = arguments.get_many::<String>("scope").into_iter().flatten();
    let scopes: Vec<Json> = scopes.map(|scope| Json::from(scope.as_str())).collect();
    let body = object([
        ("name", Json::from(text(arguments, "name"))),
        ("scopes", Json::from(scopes)),
        ("expires_in", maybe(arguments, "expires-in")),
    ]);
    let answer = Session::open(arguments)?.ask("POST", "/v1/tokens", Some(&body))?;
    if arguments.get_flag("json") {
        print_json(&answer.body);
        return Ok(());
    }
    // The secret alone on standard output, so that it can go into a file as it is.
    println!("{}", cell(&answer.body["secret"]));
    let field = |name: &str| shown(&cell(&answer.body[name]));
    eprintln!(
        "token {} ({}) for tenant {}: {}; it is shown this once",
        field("id"),
        field("name"),
        field("tenant"),
        field("scopes")
    );
    Ok(())
}

fn token_list(arguments: &ArgMatches) -> Result<(), Failure> {
    let items = Session::open(arguments)?.all("/v1/tokens")?;
    if arguments.get_flag("json") {
        print_json(&Json::from(items));
        return Ok(());
    }
    let columns = ["id", "name", "tenant", "scopes", "created_at", "expires_at", "last_used_at"];
    let head = ["ID", "NAME", "TENANT", "SCOPES", "CREATED", "EXPIRES", "LAST USED"];
    print!("{}", table(&head, &rows(&items, &columns)));
    Ok(())
}

/// `holdfast tenant ...`
pub(super) fn tenant(arguments: &ArgMatches) -> Result<(), Failure> {
    match arguments.subcommand() {
        Some(("set", arguments)) => tenant_set(arguments),
        Some(("list", arguments)) => tenant_list(arguments),
        Some(("delete", arguments)) => tenant_delete(arguments),
        Some(_) | None => unreachable!("BUG: the parser knows no other command"),
    }
}

fn tenant_set(arguments: &ArgMatches) -> Result<(), Failure> {
    let name = text(arguments, "name");
    let session = Session::open(arguments)?;
    let path = format!("/v1/tenants/{}", encoded(name));
    let given = arguments.get_many::<String>("quota").into_iter().flatten();
    let mut quotas: Vec<(String, Json)> = Vec::new();
    for text in given {
        let pair = text.split_once('=');
        let number = pair.and_then(|(name, number)| Some((name, number.parse::<i64>().ok()?)));
        let (name, number) = number.ok_or_else(|| {
            Failure::new(USAGE, format!("--quota {text:?} is not NAME=NUMBER, such as tokens=20"))
        })?;
        quotas.push((name.to_owned(), Json::from(number)));
    }
    let quotas = if arguments.get_flag("no-quotas") {
        object([])
    } else if quotas.is_empty() {
        Json::Null
    } else {
        // One quota is set without touching the others.
        object(
            own_quotas(&session, &path)?
                .iter()
                .chain(&quotas)
                .map(|(k, v)| (k.as_str(), v.clone())),
        )
    };
    let body = object([("tier", maybe(arguments, "tier")), ("quotas", quotas)]);
    let answer = session.ask("PUT", &path, Some(&body))?;
    if arguments.get_flag("json") {
        print_json(&answer.body);
    } else {
        let made = if answer.status == 201 { "made" } else { "changed" };
        eprintln!("{made}: {} (tier {})", shown(name), shown(&cell(&answer.body["tier"])));
    }
    Ok(())
}

/// The quotas that a tenant has of its own; none when there is no such tenant yet.
fn own_quotas(session: &Session, path: &str) -> Result<Vec<(String, Json)>, Failure> {
    let Some(answer) = session.look(path)? else {
        return Ok(Vec::new());
    };
    let own = answer.body["own_quotas"].as_object().cloned().unwrap_or_default();
    Ok(own.into_iter().collect())
}

fn tenant_list(arguments: &ArgMatches) -> Result<(), Failure> {
    let items = Session::open(arguments)?.all("/v1/tenants")?;
    if arguments.get_flag("json") {
        print_json(&Json::from(items));
        return Ok(());
    }
    let columns = ["name", "id", "tier", "tokens", "own_quotas", "created_at"];
    let head = ["NAME", "ID", "TIER", "TOKENS", "OWN QUOTAS", "CREATED"];
    print!("{}", table(&head, &rows(&items, &columns)));
    Ok(())
}

fn tenant_delete(arguments: &ArgMatches) -> Result<(), Failure> {
    let name = text(arguments, "name");
    let confirm = match arguments.get_one::<String>("confirm") {
        Some(confirm) => confirm.clone(),
        None if std::io::stdin().is_terminal() => {
            eprintln!("this deletes everything that {} has; type its name to go on:", shown(name));
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line)?;
            line.trim().to_owned()
        }
        None => {
            let text = format!("to confirm it, add: --confirm {}", shown(name));
            return Err(Failure::new(USAGE, text));
        }
    };
    if confirm != name {
        return Err(Failure::new(FAILURE, "that is not its name; nothing was deleted"));
    }
    let path = format!("/v1/tenants/{}?confirm={}", encoded(name), encoded(&confirm));
    let answer = Session::open(arguments)?.ask("DELETE", &path, None)?;
    if arguments.get_flag("json") {
        print_json(&answer.body);
    } else {
        eprintln!("{} is being deleted; its tokens are invalid now", shown(name));
    }
    Ok(())
}

/// `holdfast openapi`
#[expect(clippy::unnecessary_wraps, reason = "every command can fail")]
pub(super) fn openapi() -> Result<(), Failure> {
    print!("{}", openapi::text_of(&openapi::document(ROUTES)));
    Ok(())
}

/// `holdfast completions SHELL`
pub(super) fn completions(arguments: &ArgMatches) -> Result<(), Failure> {
    let shell: clap_complete::Shell =
        text(arguments, "shell").parse().map_err(|error: String| Failure::new(USAGE, error))?;
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut command(), "holdfast", &mut out);
    print!("{}", String::from_utf8_lossy(&out));
    Ok(())
}

/// `holdfast man [DIR]`
pub(super) fn man(arguments: &ArgMatches) -> Result<(), Failure> {
    if let Some(folder) = arguments.get_one::<String>("folder") {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(command(), Path::new(folder))?;
    } else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command()).render(&mut page)?;
        print!("{}", String::from_utf8_lossy(&page));
    }
    Ok(())
}
