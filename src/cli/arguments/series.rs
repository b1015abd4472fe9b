//! What can be said about series.

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};

use super::{flag, json, many, option, tenant, word};

const QUERY_HELP: &str = "\
For example:
  holdfast series query 'server_cpu_usage_percent' --from -24h --output plot
  holdfast series query 'http_requests_total{job=\"shop\"}' --fn rate --by code --step 5m

A selector is that of PromQL, in quotes, or the shell takes its braces. More than one series is put together by
--reduce, or by the labels of --by. The plot shows four series at most.";

const EXPORT_HELP: &str = "\
Samples are asked for in pieces of the range, so that any number of them can be exported; they come in the order
of time, piece by piece. Values are those that were stored, to the bit. Samples that are rolled up already are gone.
What prometheus gives is taken by series write --file; # TYPE x distribution is a word of Holdfast alone.
What json gives is taken by POST /v1/series, kinds and all.";

/// `holdfast series`
pub(super) fn series() -> Command {
    Command::new("series")
        .about("List, query, write and export time series")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([list(), query(), write(), export()])
}

fn selector() -> Arg {
    word("select", "SELECTOR", "Which series: cpu, 'cpu{host=\"a\"}', '{job=~\"web.*\"}'")
}

fn from(default: &'static str) -> Arg {
    option("from", "MOMENT", "Since then: -24h, 2026-11-20T12:00:00Z")
        .allow_hyphen_values(true)
        .default_value(default)
}

fn to() -> Arg {
    option("to", "MOMENT", "Before then").allow_hyphen_values(true).default_value("now")
}

fn list() -> Command {
    Command::new("list").about("The series there are").args([
        option("match", "SELECTOR", "Those that are meant; all of them without it"),
        tenant(),
        json(),
    ])
}

fn query() -> Command {
    let functions = [
        "raw", "avg", "min", "max", "sum", "count", "last", "rate", "increase", "p50", "p95", "p99",
    ];
    let outputs = ["table", "csv", "json", "plot"];
    Command::new("query").about("Ask for points").after_help(QUERY_HELP).args([
        selector(),
        option("fn", "FUNCTION", "What is made of each step; avg without it")
            .value_parser(PossibleValuesParser::new(functions)),
        option("by", "LABELS", "Put series together that agree in these, such as host,job"),
        option("reduce", "HOW", "How they are put together")
            .value_parser(PossibleValuesParser::new(["sum", "avg", "min", "max"])),
        from("-1h"),
        to(),
        option("step", "TIME", "How long a step is: 30s, 5m; chosen by the range without it"),
        option("output", "FORM", "What is printed")
            .value_parser(PossibleValuesParser::new(outputs))
            .default_value("table"),
        tenant(),
        flag("json", "The same as --output json").conflicts_with("output"),
    ])
}

fn write() -> Command {
    Command::new("write")
        .about("Write a sample, or a file of them in the text format of Prometheus")
        .override_usage(
            "holdfast series write [OPTIONS] <METRIC> <VALUE>\n       \
             holdfast series write [OPTIONS] --file <FILE>",
        )
        .args([
            Arg::new("metric").value_name("METRIC").help("What is measured"),
            Arg::new("value")
                .value_name("VALUE")
                .requires("metric")
                .allow_hyphen_values(true)
                .help("A number, NaN, +Inf or -Inf"),
            many("label", "NAME=VALUE", "A label; can be given again"),
            option("time", "MOMENT", "When it was measured; now without it")
                .allow_hyphen_values(true),
            option("kind", "KIND", "What its values mean; its name says it without this")
                .value_parser(PossibleValuesParser::new(["gauge", "counter", "distribution"])),
            option("file", "FILE", "Samples in the text format; - is standard input")
                .conflicts_with_all(["metric", "value", "label", "time", "kind"])
                .required_unless_present("value"),
            flag("durable", "Wait until it is on disk"),
            tenant(),
            json(),
        ])
}

fn export() -> Command {
    Command::new("export").about("Print all samples of a range").after_help(EXPORT_HELP).args([
        selector(),
        from("-24h"),
        to(),
        option("format", "FORMAT", "How they are written")
            .value_parser(PossibleValuesParser::new(["csv", "json", "prometheus"]))
            .default_value("csv"),
        tenant(),
    ])
}
