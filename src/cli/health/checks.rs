//! What answers say of how the server, its machine, its queues and their workers stand. Pure.

use std::fmt::Write as _;

use super::verdict::{Check, Status};
use super::{Answers, Asked, Trouble};
use crate::cli::commands::cell;
use crate::cli::plot::short;
use crate::cli::table::{bytes, shown};
use crate::io::client::Json;

/// From when on something is worth a warning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    /// Jobs that wait in a queue: more than so many.
    pub(super) queue_depth: u64,
    /// Jobs that were given up in the last hour: more than so many.
    pub(super) failed: u64,
}

/// Jobs may wait so long although nobody works on their queue: workers that are started anew, after a deployment say, are
/// away for a moment. After the same time a silent worker is taken for stale.
const UNATTENDED_MS: u64 = 60_000;
/// Names that are told one by one.
const NAMES_MAX: usize = 3;

/// Everything that is looked at.
pub(super) fn checks(answers: &Answers, wishes: Wishes) -> Vec<Check> {
    let queues = answers.queues.as_deref().map_err(Clone::clone).and_then(read_queues);
    vec![
        server(answers),
        disk(&answers.status),
        host(&answers.host),
        queue_depth(&queues, wishes.queue_depth),
        failed(&answers.given_up, wishes.failed),
        workers(&queues, &answers.workers),
        rate(&queues),
    ]
}

fn unknown(name: &'static str, what: &str, trouble: &Trouble) -> Check {
    let why = match trouble {
        Trouble::Refused { code, .. } if code == "starting" => {
            "the server started a moment ago, the first readings are under way"
        }
        Trouble::Refused { text, .. }
        | Trouble::NotReachable(text)
        | Trouble::NotUnderstood(text) => text,
    };
    let text = shown(&format!("{what} not known: {why}"));
    Check { name, status: Status::Unknown, value: Json::Null, text }
}

fn check(name: &'static str, status: Status, value: Json, text: &str) -> Check {
    Check { name, status, value, text: shown(text) }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("BUG: memory takes everything");
}

/// So many of them.
fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

fn not_understood(what: &str) -> Trouble {
    Trouble::NotUnderstood(format!("the server's answer about {what} is not understood"))
}

/// Whether requests are served.
fn server(answers: &Answers) -> Check {
    let state = match (&answers.status, &answers.ready) {
        (Ok(body), _) => match body["state"].as_str() {
            Some(state) => Ok((state, refuses_samples(body))),
            None => Err(not_understood("its state")),
        },
        // Whoever may not see the status still sees whether it is ready.
        (Err(_), Some(Ok(_))) => Ok(("ready", false)),
        (Err(_), Some(Err(Trouble::Refused { status: 503, code, .. }))) => {
            Ok((code.as_str(), false))
        }
        (Err(trouble), _) => Err(trouble.clone()),
    };
    let (state, refuses_samples) = match state {
        Ok(state) => state,
        Err(trouble) => return unknown("server", "its state is", &trouble),
    };
    let (status, text) = match state {
        "ready" if refuses_samples => {
            (Status::Warning, "samples are refused: series.wal cannot be written".to_owned())
        }
        "ready" => (Status::Healthy, "it serves requests".to_owned()),
        "starting" | "stopping" => (Status::Warning, format!("it is {state}")),
        "read_only" => {
            let text = "a store failed and takes nothing until it is open again (read_only)";
            (Status::Critical, text.to_owned())
        }
        other => (Status::Critical, format!("it is not ready: {other}")),
    };
    check("server", status, Json::from(state), &text)
}

fn refuses_samples(status: &Json) -> bool {
    status["series"]["log_state"] == "failed"
}

/// Whether there is room for what grows.
fn disk(status: &Asked<Json>) -> Check {
    let body = match status {
        Ok(body) => body,
        Err(trouble) => return unknown("disk", "its room is", trouble),
    };
    let disk = &body["disk"];
    let mut stores = body["stores"].as_array().into_iter().flatten();
    let short = stores.any(|store| store["disk_short"] == true) || disk["state"] == "full";
    let free = disk["free_bytes"].as_u64();
    let left = free.map_or_else(String::new, |free| format!(", {} are free", bytes(free)));
    let value = free.map_or(Json::Null, Json::from);
    if short {
        let text = format!("the disk is nearly full, what grows is refused{left}");
        return check("disk", Status::Critical, value, &text);
    }
    match (disk["state"].as_str(), disk.is_null()) {
        (Some("ok"), _) => {
            check("disk", Status::Healthy, value, &format!("there is room for data{left}"))
        }
        (None, true) => check("disk", Status::Healthy, value, "nothing is kept on disk"),
        _ => unknown("disk", "its room is", &not_understood("its disk")),
    }
}

/// How healthy the machine is.
fn host(health: &Asked<Json>) -> Check {
    let body = match health {
        Ok(body) => body,
        Err(trouble) => return unknown("host", "the health of the machine is", trouble),
    };
    let status = match body["status"].as_str() {
        Some("healthy") => Status::Healthy,
        Some("warning") => Status::Warning,
        Some("critical") => Status::Critical,
        _ => return unknown("host", "the health of the machine is", &not_understood("it")),
    };
    let score = body["score"].as_f64().map_or("n/a".to_owned(), short);
    let told = cell(&body["text"]);
    let text = format!("the machine has {score} of 100 points: {}", told.trim_end_matches('.'));
    check("host", status, body["score"].clone(), &text)
}

/// What is looked at of a queue.
#[derive(Clone, Debug)]
struct Queue {
    name: String,
    waiting: u64,
    oldest_ms: Option<u64>,
    paused: bool,
    /// Workers, jobs that run, attempts that ended in the last minute: whether somebody works on it.
    attended: bool,
    done_per_minute: f64,
    failed_per_minute: f64,
}

fn read_queues(items: &[Json]) -> Asked<Vec<Queue>> {
    items
        .iter()
        .map(read_queue)
        .collect::<Option<Vec<Queue>>>()
        .ok_or_else(|| not_understood("queues"))
}

fn read_queue(item: &Json) -> Option<Queue> {
    let (done_per_minute, failed_per_minute) =
        (item["done_per_minute"].as_f64()?, item["failed_per_minute"].as_f64()?);
    let busy = 0 < item["workers"].as_u64()? || 0 < item["running"].as_u64()?;
    Some(Queue {
        name: item["queue"].as_str()?.to_owned(),
        waiting: item["waiting"].as_u64()?,
        oldest_ms: item["oldest_waiting_ms"].as_u64(),
        paused: item["paused"].as_bool()?,
        attended: busy || 0.0 < done_per_minute + failed_per_minute,
        done_per_minute,
        failed_per_minute,
    })
}

/// Names with what is said of each, a few of them.
fn few(told: &[String]) -> String {
    let mut text = told.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    if NAMES_MAX < told.len() {
        put(&mut text, format_args!(" and {} more", told.len() - NAMES_MAX));
    }
    text
}

/// Whether too many jobs wait in a queue.
fn queue_depth(queues: &Asked<Vec<Queue>>, most: u64) -> Check {
    const NAME: &str = "queue_depth";
    let queues = match queues {
        Ok(queues) => queues,
        Err(trouble) => return unknown(NAME, "how many jobs wait is", trouble),
    };
    let Some(deepest) = queues.iter().max_by_key(|queue| queue.waiting) else {
        return check(NAME, Status::Healthy, Json::from(0), "there are no queues");
    };
    let mut deep: Vec<&Queue> = queues.iter().filter(|queue| most < queue.waiting).collect();
    deep.sort_by_key(|queue| std::cmp::Reverse(queue.waiting));
    let waits = |queue: &Queue| {
        let verb = if queue.waiting == 1 { "waits" } else { "wait" };
        let paused = if queue.paused { ", which is paused" } else { "" };
        format!("{} {verb} in queue {}{paused}", count(queue.waiting, "job"), queue.name)
    };
    let value = Json::from(deepest.waiting);
    let text = match deep.as_slice() {
        [] if deepest.waiting == 0 => "no jobs wait".to_owned(),
        [] if queues.len() == 1 => waits(deepest),
        [] => format!("{}, and in no queue more", waits(deepest)),
        [one] => format!("{} (more than {most})", waits(one)),
        [first, others @ ..] => {
            let others: Vec<String> =
                others.iter().map(|queue| format!("{} in {}", queue.waiting, queue.name)).collect();
            format!("{} (more than {most}), {}", waits(first), few(&others))
        }
    };
    let status = if deep.is_empty() { Status::Healthy } else { Status::Warning };
    check(NAME, status, value, &text)
}

/// Whether too many jobs were given up.
fn failed(given_up: &Asked<Json>, most: u64) -> Check {
    const NAME: &str = "failed";
    let what = "how many jobs were given up in the last hour is";
    let series = match given_up {
        Ok(body) => body["series"].as_array(),
        Err(trouble) => return unknown(NAME, what, trouble),
    };
    let Some(series) = series else {
        return unknown(NAME, what, &not_understood("jobs that were given up"));
    };
    let mut of: Vec<(f64, String)> =
        series.iter().map(|one| (sum(one), cell(&one["labels"]["queue"]))).collect();
    of.sort_by(|a, b| b.0.total_cmp(&a.0));
    let all = total(of.iter().map(|(number, _)| *number));
    // Jobs are counted; a figure that is none would not be shown as one.
    let Ok(number) = format!("{all:.0}").parse::<u64>() else {
        return unknown(NAME, what, &not_understood("jobs that were given up"));
    };
    let told: Vec<String> = of
        .iter()
        .filter(|(number, _)| 0.5 <= *number)
        .map(|(number, queue)| format!("{queue} {number:.0}"))
        .collect();
    let jobs = count(number, "job");
    let (status, text) = if most < number {
        let text = format!(
            "{jobs} failed for good in the last hour (more than {most}): {}; to see why: holdfast queue failed",
            few(&told)
        );
        (Status::Warning, text)
    } else if number == 0 {
        (Status::Healthy, "no jobs failed for good in the last hour".to_owned())
    } else {
        (Status::Healthy, format!("{jobs} failed for good in the last hour: {}", few(&told)))
    };
    check(NAME, status, Json::from(number), &text)
}

/// What a series comes to, step by step; gaps are nothing.
fn sum(series: &Json) -> f64 {
    let points = series["points"].as_array().into_iter().flatten();
    total(points.filter_map(|point| point[1].as_f64()).filter(|value| 0.0 < *value))
}

/// The sum of numbers; of none it is 0, and not the -0 of [`Iterator::sum`].
fn total(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.fold(0.0, |sum, number| sum + number)
}

/// Whether somebody works where jobs wait.
fn workers(queues: &Asked<Vec<Queue>>, workers: &Asked<Vec<Json>>) -> Check {
    const NAME: &str = "workers";
    let (queues, workers) = match (queues, workers) {
        (Ok(queues), Ok(workers)) => (queues, workers),
        (Err(trouble), _) | (_, Err(trouble)) => {
            return unknown(NAME, "whether workers are alive is", trouble);
        }
    };
    let state = |worker: &&Json, word: &str| worker["state"] == word;
    let silent: Vec<String> = workers
        .iter()
        .filter(|worker| state(worker, "stale"))
        .map(|worker| {
            format!("{} (last heard of {})", cell(&worker["id"]), cell(&worker["last_seen_at"]))
        })
        .collect();
    let dead = workers.iter().filter(|worker| state(worker, "stale") || state(worker, "gone"));
    let alive = workers.len() - dead.count();
    let alive = u64::try_from(alive).expect("BUG: a list is shorter than there are numbers");
    let mut text = match alive {
        0 => "no worker is alive".to_owned(),
        1 => "1 worker is alive".to_owned(),
        alive => format!("{alive} workers are alive"),
    };
    if !silent.is_empty() {
        put(&mut text, format_args!("; silent: {}", few(&silent)));
    }
    let left: Vec<&Queue> = queues
        .iter()
        .filter(|queue| 0 < queue.waiting && !queue.paused && !queue.attended)
        .collect();
    let long = |queue: &&&Queue| queue.oldest_ms.is_none_or(|ms| UNATTENDED_MS <= ms);
    let told = |queue: &Queue| format!("{} in queue {}", count(queue.waiting, "job"), queue.name);
    let alone: Vec<String> = left.iter().filter(long).map(|queue| told(queue)).collect();
    let status = if alone.is_empty() { Status::Healthy } else { Status::Critical };
    let text = match (alone.as_slice(), left.as_slice()) {
        ([], []) => text,
        ([], left) => {
            let left: Vec<String> = left.iter().map(|queue| told(queue)).collect();
            format!("{text}; nobody works yet on {}", few(&left))
        }
        (alone, _) => format!("nobody works on {}; {text}", few(alone)),
    };
    check(NAME, status, Json::from(alive), &text)
}

/// How much gets done.
fn rate(queues: &Asked<Vec<Queue>>) -> Check {
    const NAME: &str = "rate";
    let queues = match queues {
        Ok(queues) => queues,
        Err(trouble) => return unknown(NAME, "how much gets done is", trouble),
    };
    let done = total(queues.iter().map(|queue| queue.done_per_minute));
    let failed = total(queues.iter().map(|queue| queue.failed_per_minute));
    let mut of: Vec<&Queue> = queues.iter().filter(|queue| 0.0 < queue.done_per_minute).collect();
    of.sort_by(|a, b| b.done_per_minute.total_cmp(&a.done_per_minute));
    let told: Vec<String> =
        of.iter().map(|queue| format!("{} {:.1}", queue.name, queue.done_per_minute)).collect();
    let mut text = format!("{done:.1} jobs a minute are done");
    if 1 < told.len() {
        put(&mut text, format_args!(" ({})", few(&told)));
    }
    if 0.0 < failed {
        put(&mut text, format_args!(", {failed:.1} attempts a minute fail"));
    }
    check(NAME, Status::Healthy, Json::from(done), &text)
}

#[cfg(test)]
mod tests;
