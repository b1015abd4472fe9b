//! What can be said about the machine, and about where things go.

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, value_parser};

use super::{flag, json, option, tenant, word};

const HEALTH_HELP: &str = "\
The first line says it all, such as: WARNING: 132 jobs wait in queue mail (more than 100)
Exit codes: 0 healthy, 1 warning, 2 critical or not reachable, 3 unknown or usage: a token without rights, an answer
that is not understood, a server that started a few seconds ago. What is worse counts; unknown counts when nothing is
worse.

In a crontab, so that a mail comes when there is something to say:
  */5 * * * *  out=$(holdfast health) || echo \"$out\"";

const TREND_HELP: &str = "\
For example:
  holdfast trend queue-depth mail --threshold 1000
  holdfast trend series 'server_disk_usage_percent{mountpoint=\"/\"}' --period 7d --threshold 95

In the plot dashes are the line of the last stretch and the forecast, dots the values between which it lies
(95 of 100 times). Without a terminal nothing is drawn, unless --plot says so.";

/// `holdfast health`
pub(super) fn health() -> Command {
    let number = || value_parser!(u64);
    Command::new("health")
        .about("Whether all is well, for people, cron and programs that watch")
        .after_help(HEALTH_HELP)
        .args([
            option("queue-depth", "N", "Warn when more jobs than that wait in a queue")
                .value_parser(number())
                .default_value("100"),
            option("failed", "N", "Warn when more jobs than that were given up in the last hour")
                .value_parser(number())
                .default_value("10"),
            option("timeout", "TIME", "How long the server has for its answers")
                .default_value("10s"),
            tenant(),
            flag(
                "json",
                "Print {\"status\",\"checks\":[{\"name\",\"status\",\"value\",\"text\"}]}",
            ),
        ])
}

/// `holdfast server`
pub(super) fn server() -> Command {
    Command::new("server")
        .about("The readings of the machine, and how healthy it is")
        .arg(flag("json", "Print what the API gave: {\"server\",\"health\"}"))
}

/// `holdfast trend`
pub(super) fn trend() -> Command {
    let queue = || word("queue", "QUEUE", "The queue");
    let depth = Command::new("queue-depth").about("How many jobs of a queue wait").arg(queue());
    let throughput = Command::new("throughput").about("How many jobs of a queue get done");
    let workers = Command::new("workers").about("How busy the workers are");
    let series = Command::new("series").about("Any series").args([
        word("select", "SELECTOR", "Which series: cpu, 'cpu{host=\"a\"}', '{job=~\"web.*\"}'"),
        option("fn", "FUNCTION", "What is made of each step: avg; rate for counters"),
    ]);
    Command::new("trend")
        .about("Where queues, workers and series go")
        .after_help(TREND_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(
            [depth, throughput.arg(queue()), workers, series]
                .map(|command| command.args(asked()).after_help(TREND_HELP)),
        )
}

fn asked() -> [Arg; 7] {
    [
        option("period", "TIME", "What is looked back on: 1h, 7d; 1h without it"),
        option("interval", "TIME", "How long a step is; chosen by the period without it"),
        option("threshold", "NUMBER", "Tell when this value is reached").allow_hyphen_values(true),
        option("when", "WAY", "Reached from below, or from above; as it goes without it")
            .value_parser(PossibleValuesParser::new(["above", "below"]))
            .requires("threshold"),
        flag("plot", "Draw it also when this is no terminal").conflicts_with("json"),
        tenant(),
        json(),
    ]
}
