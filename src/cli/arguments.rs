//! What can be said on the command line.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command};

use crate::config::KEYS;

const AFTER_HELP: &str = "\
Exit codes: 0 ok, 1 failure, 2 usage, 3 problems found, 4 not allowed, 5 not reachable.
The server ends with 78 when a restart cannot help (settings, a newer data format, a second server) and with
74 when storage fails.";

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn word(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(value).required(true).help(help)
}

fn json() -> Arg {
    flag("json", "Print what the API gave, as JSON")
}

fn tenant() -> Arg {
    option("tenant", "NAME", "For this tenant; default without it")
}

/// A flag for every setting that has one; `--data-dir` is an option of all commands.
fn settings() -> impl Iterator<Item = Arg> {
    let keys = KEYS.iter().filter(|key| !key.is_tiers() && key.full("") != "server.data_dir");
    keys.map(|key| {
        let name = key.flag().trim_start_matches('-').to_owned();
        let help = key.doc.replace('\n', " ");
        Arg::new(name.clone()).long(name).value_name(key.example).help(help)
    })
}

/// Every command and option.
pub fn command() -> Command {
    Command::new("holdfast")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Cache, durable queues, time series, monitors and alerts in one process")
        .after_help(AFTER_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .args([
            option("config", "FILE", "The configuration file").global(true),
            option("data-dir", "DIR", "The data directory").global(true),
            option("url", "URL", "The server: http://host:port, https://host or unix:/path")
                .global(true),
            option("token-file", "FILE", "A file that holds the token; - is standard input")
                .global(true),
        ])
        .subcommands([serve(), status(), token(), tenants(), config(), reload()])
        .subcommands([openapi(), completions(), man()])
}

fn serve() -> Command {
    Command::new("serve").about("Run the server").args(settings()).arg(flag(
        "new-admin-token",
        "Make a new administrator's token and write it to admin.token",
    ))
}

fn status() -> Command {
    Command::new("status").about("How the server stands").arg(json())
}

fn reload() -> Command {
    Command::new("reload").about("Have the server read its configuration again").arg(json())
}

fn token() -> Command {
    let create = Command::new("create").about("Make a token; its secret is printed once").args([
        word("name", "NAME", "What you call it"),
        option("scope", "SCOPE", "What it may do, such as cache:read; can be given again")
            .action(ArgAction::Append)
            .value_delimiter(',')
            .required(true),
        option("expires-in", "TIME", "How long it is valid: 30d, 12h; for ever without it"),
        tenant(),
        json(),
    ]);
    let list = Command::new("list").about("The tokens of a tenant").args([tenant(), json()]);
    let revoke = Command::new("revoke")
        .about("Make a token invalid, at once and for good")
        .args([word("id", "ID", "The token's id, as token list shows it"), tenant()]);
    Command::new("token")
        .about("Make, list and revoke tokens")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([create, list, revoke])
}

fn tenants() -> Command {
    let set = Command::new("set").about("Make or change a tenant").args([
        word("name", "NAME", "The tenant"),
        option("tier", "TIER", "A tier of the configuration"),
        option("quota", "NAME=NUMBER", "A quota of its own, -1 is unlimited; can be given again")
            .action(ArgAction::Append)
            .allow_hyphen_values(true),
        flag("no-quotas", "Take its own quotas away: those of its tier hold")
            .conflicts_with("quota"),
        json(),
    ]);
    let list = Command::new("list").about("Every tenant").arg(json());
    let delete = Command::new("delete").about("Delete a tenant with all it has").args([
        word("name", "NAME", "The tenant"),
        option("confirm", "NAME", "The tenant's name again; asked for without it"),
        json(),
    ]);
    Command::new("tenant")
        .about("Make, list and delete tenants")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([set, list, delete])
}

fn config() -> Command {
    let check = Command::new("check").about("Check the configuration").args(settings()).arg(json());
    let origin = flag("origin", "Show where each one comes from");
    let show =
        Command::new("show").about("The settings in force").args(settings()).args([origin, json()]);
    let default = Command::new("default").about("A commented file with every setting");
    Command::new("config")
        .about("Check and show settings")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([check, show, default])
}

fn openapi() -> Command {
    Command::new("openapi").about("Print the OpenAPI document")
}

fn completions() -> Command {
    let shells = PossibleValuesParser::new(["bash", "zsh", "fish", "elvish", "powershell"]);
    Command::new("completions")
        .about("Print completions for a shell")
        .arg(word("shell", "SHELL", "Which shell").value_parser(shells))
}

fn man() -> Command {
    Command::new("man").about("Write the man pages").arg(
        Arg::new("folder")
            .value_name("DIR")
            .help("The folder; without it the first page is printed"),
    )
}
