//! What can be said on the command line.

mod machine;
mod queue;
mod series;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgGroup, Command};

use crate::config::KEYS;

const AFTER_HELP: &str = "\
Exit codes: 0 ok, 1 failure, 2 usage, 3 problems found, 4 not allowed, 5 not reachable. health has its own:
0 healthy, 1 warning, 2 critical or not reachable, 3 unknown or usage.
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
    let keys =
        KEYS.iter().filter(|key| key.family().is_none() && key.full("") != "server.data_dir");
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
        .subcommands([serve(), status(), machine::health(), machine::server()])
        .subcommands([cache(), lock()])
        .subcommands([queue::queue(), queue::schedule(), queue::work()])
        .subcommands([series::series(), machine::trend()])
        .subcommands([token(), tenants(), config(), reload(), check()])
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

fn check() -> Command {
    Command::new("check")
        .about("Look through the jobs and series of a data directory that no server uses")
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

fn many(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    option(name, value, help).action(ArgAction::Append)
}

fn namespace() -> Arg {
    word("namespace", "NAMESPACE", "The namespace")
}

fn key() -> Arg {
    word("key", "KEY", "The key")
}

fn ttl() -> Arg {
    option("ttl", "TIME", "How long it is fresh: 30s, 5m, 1h, or class:NAME; for ever without it")
}

fn stale() -> Arg {
    option("stale", "TIME", "How long after that it is served as stale")
}

fn tags() -> Arg {
    many("tags", "TAG,TAG", "What it can be forgotten by; can be given again").value_delimiter(',')
}

fn cache() -> Command {
    let get = Command::new("get").about("Print a value; ends with 1 when there is none").args([
        namespace(),
        key(),
        option("out", "FILE", "Write it to this file"),
        tenant(),
    ]);
    let conditions = PossibleValuesParser::new(["absent", "present"]);
    let put = Command::new("put").about("Put a value").args([
        namespace(),
        key(),
        Arg::new("value")
            .value_name("VALUE")
            .allow_hyphen_values(true)
            .help("The value; standard input for -, or without it"),
        ttl(),
        stale(),
        tags(),
        option("type", "TYPE", "What it is, such as application/json"),
        option("if", "CONDITION", "Only when nothing is there, or only when something is")
            .value_parser(conditions),
        tenant(),
    ]);
    let delete = Command::new("delete")
        .about("Remove a value; ends with 1 when there is none")
        .args([namespace(), key(), tenant()]);
    let stats = Command::new("stats").about("What namespaces hold and have seen").args([
        Arg::new("namespace").value_name("NAMESPACE").help("This one; all of them without it"),
        tenant(),
        json(),
    ]);
    Command::new("cache")
        .about("Read, write, forget and warm the cache")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([get, put, delete, forget(), stats, warm()])
}

fn forget() -> Command {
    let what = ["key", "tag", "prefix", "pattern", "all"];
    Command::new("forget")
        .about("Forget entries, and say how many that were")
        .args([
            namespace(),
            many("key", "KEY", "This key; can be given again"),
            many("tag", "TAG", "What has this tag; can be given again"),
            option("prefix", "TEXT", "What begins with this"),
            option(
                "pattern",
                "GLOB",
                "What matches: * is any text, ? a character, [a-z] one of these",
            ),
            flag("all", "Everything"),
            flag("dry-run", "Only count them"),
            tenant(),
            json(),
        ])
        .group(ArgGroup::new("what").args(what).required(true))
}

fn warm() -> Command {
    // The same name as that of all commands, so that both are understood here.
    let url =
        many("url", "URL", "A page of the app to call, that fills the cache; can be given again");
    Command::new("warm")
        .about("Fill the cache from a file, or by calling pages of the app")
        .long_about(
            "Fill the cache from a file, or by calling pages of the app\n\n\
             Each line of the file is an object: {\"key\",\"value\",\"encoding\"?,\"ttl\"?,\"stale\"?,\
             \"tags\"?,\"content_type\"?,\"namespace\"?}. With --url and no file the pages are called, \
             without any token of ours.",
        )
        .override_usage(
            "holdfast cache warm [OPTIONS] <NAMESPACE> <FILE.ndjson|->\n       \
             holdfast cache warm --url <URL>...",
        )
        .args([
            Arg::new("what")
                .value_name("NAMESPACE FILE")
                .num_args(0..)
                .help("The namespace, and the file with the entries; - is standard input"),
            url,
            option("ttl", "TIME", "The ttl of lines that have none: 5m, or class:NAME"),
            option("jitter", "PERCENT", "Shorten each ttl by chance, by up to this part of it: 10%"),
            option("timeout", "TIME", "How long a page may take").default_value("30s"),
            tenant(),
            flag("all", "For every tenant").conflicts_with("tenant"),
            json(),
        ])
}

fn lock() -> Command {
    let list = Command::new("list").about("The locks that are held").args([tenant(), json()]);
    let release = Command::new("release")
        .about("Let a lock go")
        .args([
            word("name", "NAME", "The lock"),
            option("owner", "OWNER", "Who holds it"),
            flag("force", "Whoever holds it; for administrators"),
            tenant(),
        ])
        .group(ArgGroup::new("who").args(["owner", "force"]).required(true));
    Command::new("lock")
        .about("List and release locks")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([list, release])
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
