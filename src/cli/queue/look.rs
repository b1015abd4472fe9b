//! How queues and workers stand.

use clap::ArgMatches;

use super::{path, percent, time};
use crate::cli::commands::{cell, print_json, text};
use crate::cli::failure::Failure;
use crate::cli::session::Session;
use crate::cli::table::{bytes, lines, table};
use crate::io::client::Json;

/// `holdfast queue list`
pub(super) fn list(arguments: &ArgMatches) -> Result<(), Failure> {
    let items = Session::open(arguments)?.all("/v1/queues")?;
    if arguments.get_flag("json") {
        print_json(&Json::from(items));
    } else {
        print!("{}", queues_table(&items));
    }
    Ok(())
}

/// Queues and their figures.
pub(super) fn queues_table(items: &[Json]) -> String {
    let head = [
        "QUEUE",
        "STATE",
        "WAITING",
        "DELAYED",
        "RUNNING",
        "FAILED",
        "OLDEST",
        "IN/MIN",
        "DONE/MIN",
        "FAIL RATE",
        "WAIT P95",
        "RUN P95",
        "WORKERS",
    ];
    table(&head, &items.iter().map(queue_row).collect::<Vec<_>>())
}

fn queue_row(item: &Json) -> Vec<String> {
    let plain = |name: &str| cell(&item[name]);
    let rate = |name: &str| item[name].as_f64().map_or("-".to_owned(), |rate| format!("{rate:.1}"));
    let state = if item["paused"] == true { "paused" } else { "open" };
    vec![
        plain("queue"),
        state.to_owned(),
        plain("waiting"),
        plain("delayed"),
        plain("running"),
        plain("failed"),
        time(&item["oldest_waiting_ms"]),
        rate("pushed_per_minute"),
        rate("done_per_minute"),
        percent(&item["failure_rate"]),
        time(&item["wait_ms"]["p95"]),
        time(&item["run_ms"]["p95"]),
        plain("workers"),
    ]
}

/// `holdfast queue show QUEUE`
pub(super) fn show(arguments: &ArgMatches) -> Result<(), Failure> {
    let path = path(text(arguments, "queue"), "");
    let answer = Session::open(arguments)?.ask("GET", &path, None)?;
    if arguments.get_flag("json") {
        print_json(&answer.body);
    } else {
        print!("{}", lines(&answer.body));
    }
    Ok(())
}

/// `holdfast queue workers`
pub(super) fn workers(arguments: &ArgMatches) -> Result<(), Failure> {
    let items = Session::open(arguments)?.all("/v1/workers")?;
    if arguments.get_flag("json") {
        print_json(&Json::from(items));
        return Ok(());
    }
    print!("{}", workers_table(&items));
    if items.is_empty() {
        eprintln!("no worker was heard of; to start one: holdfast work QUEUE -- COMMAND");
    }
    Ok(())
}

/// Workers and what they do.
pub(super) fn workers_table(items: &[Json]) -> String {
    let head = ["WORKER", "STATE", "HOST", "PID", "QUEUES", "JOBS", "DONE", "MEMORY", "HEARD OF"];
    table(&head, &items.iter().map(worker_row).collect::<Vec<_>>())
}

fn worker_row(item: &Json) -> Vec<String> {
    let plain = |name: &str| cell(&item[name]);
    let jobs = &item["jobs"];
    let jobs = jobs.as_array().map_or_else(|| cell(jobs), |jobs| jobs.len().to_string());
    vec![
        plain("id"),
        plain("state"),
        plain("host"),
        plain("pid"),
        plain("queues"),
        jobs,
        plain("jobs_done"),
        item["rss_bytes"].as_u64().map_or("-".to_owned(), bytes),
        plain("last_seen_at"),
    ]
}

#[cfg(test)]
mod tests {
    use super::{queue_row, worker_row};
    use serde_json::json;

    #[test]
    fn the_figures_of_a_queue_are_shown_as_people_read_them() {
        let row = queue_row(&json!({
            "queue": "mail", "waiting": 12, "delayed": 3, "running": 2, "failed": 1, "paused": true,
            "oldest_waiting_ms": 95_000, "pushed_per_minute": 12.25, "done_per_minute": 10,
            "failed_per_minute": 0, "failure_rate": 0.025, "workers": 4,
            "wait_ms": { "p50": 1, "p95": 250.4, "p99": 2 }, "run_ms": { "p50": 1, "p95": 1500, "p99": 2 }
        }));
        assert_eq!(row.join("|"), "mail|paused|12|3|2|1|1.6m|12.2|10.0|2.5%|250ms|1.5s|4");
        let quiet = queue_row(&json!({ "queue": "x", "paused": false, "failure_rate": null }));
        assert_eq!(quiet.join("|"), "x|open|-|-|-|-|-|-|-|-|-|-|-");
    }

    #[test]
    fn a_worker_is_shown_on_a_line() {
        let row = worker_row(&json!({
            "id": "a-1", "state": "busy", "host": "a", "pid": 1, "queues": ["x", "y"],
            "jobs": ["j", "k"], "jobs_done": 7, "rss_bytes": 5 << 20, "last_seen_at": "t"
        }));
        assert_eq!(row.join("|"), "a-1|busy|a|1|x,y|2|7|5.0 MiB|t");
    }
}
