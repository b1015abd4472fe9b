//! `holdfast server`: the readings of the machine, and how healthy it is.

use std::fmt::Write as _;

use clap::ArgMatches;

use super::commands::{cell, print_json};
use super::failure::Failure;
use super::plot::short;
use super::session::Session;
use super::table::{bytes, shown, table};
use crate::base::human::format_duration;
use crate::io::client::{Answer, Json};

/// What cannot be told.
const NOT_KNOWN: &str = "n/a";

/// `holdfast server`
pub(super) fn server(arguments: &ArgMatches) -> Result<(), Failure> {
    let session = Session::open(arguments)?;
    let readings = session.ask("GET", "/v1/server", None)?.body;
    let health = health(&session)?;
    if arguments.get_flag("json") {
        print_json(&both([("server", readings), ("health", health.unwrap_or(Json::Null))]));
        return Ok(());
    }
    print!("{}", page(&readings, health.as_ref()));
    Ok(())
}

/// An object of which null members stay.
fn both<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// How healthy it is; nothing before that is known.
fn health(session: &Session) -> Result<Option<Json>, Failure> {
    let answer = session.send("GET", "/v1/server/health", None)?;
    let Answer { status, body } = session.read(answer)?;
    match status {
        200 => Ok(Some(body)),
        503 if body["code"] == "starting" => Ok(None),
        _ => Err(Failure::from_answer(&Answer { status, body })),
    }
}

fn page(readings: &Json, health: Option<&Json>) -> String {
    let mut out = String::new();
    match health {
        Some(health) => out.push_str(&told_health(health)),
        None => out.push_str("health is not known yet: the first readings are under way\n"),
    }
    out.push('\n');
    for (name, value) in lines(readings) {
        put(&mut out, format_args!("{name:<12} {}\n", shown(&value)));
    }
    out.push('\n');
    out.push_str(&disks(&readings["disks"]));
    out.push('\n');
    out.push_str(&networks(&readings["network"]));
    let reasons = reasons(readings);
    if !reasons.is_empty() {
        put(&mut out, format_args!("\n{NOT_KNOWN} means that it is not known:\n"));
        out.extend(reasons.iter().map(|reason| format!("  {}\n", shown(reason))));
    }
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("BUG: memory takes everything");
}

/// The word and the score, and what was taken off for what.
fn told_health(health: &Json) -> String {
    let score = number(&health["score"]);
    let word = shown(&cell(&health["status"]));
    let mut out = format!("{word}, {score} of 100: {}\n", shown(&cell(&health["text"])));
    let reasons = health["deductions"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = reasons
        .filter(|reason| reason["points"].as_f64().is_some_and(|points| points != 0.0))
        .map(|reason| {
            let since = &reason["since"];
            vec![
                number(&reason["points"]),
                cell(&reason["signal"]),
                cell(&reason["level"]),
                if since.is_null() { String::new() } else { cell(since) },
                cell(&reason["text"]),
            ]
        })
        .collect();
    if !rows.is_empty() {
        out.push('\n');
        out.push_str(&table(&["POINTS", "SIGNAL", "LEVEL", "SINCE", "WHY"], &rows));
    }
    let unknown = cell(&health["unavailable"]);
    if health["unavailable"].as_array().is_some_and(|names| !names.is_empty()) {
        put(&mut out, format_args!("not counted, because not known: {}\n", shown(&unknown)));
    }
    out
}

fn number(value: &Json) -> String {
    value.as_f64().map_or(NOT_KNOWN.to_owned(), short)
}

/// A percentage, with the sign.
fn percent(value: &Json) -> String {
    value.as_f64().map_or(NOT_KNOWN.to_owned(), |value| format!("{value:.1}%"))
}

/// Bytes, or bytes a second.
fn size(value: &Json) -> String {
    let whole = || value.as_f64().and_then(|value| format!("{value:.0}").parse().ok());
    value.as_u64().or_else(whole).map_or(NOT_KNOWN.to_owned(), bytes)
}

fn lines(readings: &Json) -> [(&'static str, String); 8] {
    let (cpu, descriptors) = (&readings["cpu"], &readings["descriptors"]);
    let of_cpu = |name: &str| percent(&cpu[name]);
    let of_all = |name: &str| cell_or(&readings[name]);
    let processors = format!(
        "{} of {} cores: user {}, system {}, iowait {}, steal {}, idle {}",
        of_cpu("usage_percent"),
        cell_or(&cpu["cores"]),
        of_cpu("user_percent"),
        of_cpu("system_percent"),
        of_cpu("iowait_percent"),
        of_cpu("steal_percent"),
        of_cpu("idle_percent")
    );
    let load = ["load_1", "load_5", "load_15"].map(|name| number(&cpu[name]));
    [
        ("cpu", processors),
        ("load", format!("{} (1, 5 and 15 minutes)", load.join(", "))),
        ("memory", memory(&readings["memory"])),
        ("swap", swap(&readings["swap"])),
        ("pressure", pressure(&readings["pressure"])),
        (
            "kernel",
            format!(
                "{} of {} descriptors open, {} processes killed for want of memory",
                cell_or(&descriptors["open"]),
                cell_or(&descriptors["max"]),
                of_all("oom_kills")
            ),
        ),
        ("up", format!("{}, since {}", up(&readings["uptime_seconds"]), of_all("booted_at"))),
        ("holdfast", process(&readings["process"])),
    ]
}

fn cell_or(value: &Json) -> String {
    if value.is_null() { NOT_KNOWN.to_owned() } else { cell(value) }
}

fn memory(memory: &Json) -> String {
    let of = |name: &str| size(&memory[name]);
    format!(
        "{} of {}: {} used, {} available, {} free, {} cached, {} buffers",
        percent(&memory["usage_percent"]),
        of("total_bytes"),
        of("used_bytes"),
        of("available_bytes"),
        of("free_bytes"),
        of("cached_bytes"),
        of("buffers_bytes")
    )
}

fn swap(swap: &Json) -> String {
    if swap["total_bytes"] == 0 {
        return "none".to_owned();
    }
    format!(
        "{} of {}: {} used; {}/s read, {}/s written",
        percent(&swap["usage_percent"]),
        size(&swap["total_bytes"]),
        size(&swap["used_bytes"]),
        size(&swap["read_bytes_per_second"]),
        size(&swap["written_bytes_per_second"])
    )
}

/// Of the last minute: in which part of it somebody waited, and everybody.
fn pressure(pressure: &Json) -> String {
    let told = ["cpu", "memory", "io"].map(|name| {
        let (some, full) = (&pressure[name]["some_avg60"], &pressure[name]["full_avg60"]);
        match (some.is_null(), full.is_null()) {
            (true, _) => format!("{name} {NOT_KNOWN}"),
            // Of processors the whole machine has none: somebody always runs.
            (false, true) => format!("{name} some {}", percent(some)),
            (false, false) => format!("{name} some {} full {}", percent(some), percent(full)),
        }
    });
    format!("{} (of the last minute)", told.join(", "))
}

fn up(seconds: &Json) -> String {
    let whole = seconds.as_f64().and_then(|seconds| format!("{seconds:.0}").parse::<u64>().ok());
    let Some(seconds) = whole else { return NOT_KNOWN.to_owned() };
    // The two largest units are enough.
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format_duration(std::time::Duration::from_secs(seconds)),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

fn process(process: &Json) -> String {
    format!(
        "{} of memory, {} of a processor, {} of {} descriptors open, {} threads",
        size(&process["resident_bytes"]),
        percent(&process["cpu_percent"]),
        cell_or(&process["open_descriptors"]),
        cell_or(&process["max_descriptors"]),
        cell_or(&process["threads"])
    )
}

fn disks(disks: &Json) -> String {
    let head = [
        "DISK",
        "DEVICE",
        "TYPE",
        "SIZE",
        "USED",
        "AVAILABLE",
        "USAGE",
        "INODES",
        "READ/S",
        "WRITTEN/S",
        "BUSY",
    ];
    let row = |disk: &Json| {
        let mut row = ["mountpoint", "device", "fstype"].map(|name| cell_or(&disk[name])).to_vec();
        if disk["read_only"] == true {
            row[2].push_str(" (read only)");
        }
        row.extend(["total_bytes", "used_bytes", "available_bytes"].map(|name| size(&disk[name])));
        row.extend(["usage_percent", "inodes_usage_percent"].map(|name| percent(&disk[name])));
        let rates = ["read_bytes_per_second", "written_bytes_per_second"];
        row.extend(rates.map(|name| size(&disk[name])));
        row.push(percent(&disk["busy_percent"]));
        row
    };
    rows_or(&head, disks, row)
}

fn networks(networks: &Json) -> String {
    let head =
        ["NETWORK", "RECEIVED/S", "SENT/S", "PACKETS IN/OUT", "ERRORS IN/OUT", "DROPPED IN/OUT"];
    let row = |network: &Json| {
        let rate = |way: &str, what: &str| &network[format!("{way}_{what}_per_second")];
        let pair =
            |what: &str| ["receive", "transmit"].map(|way| number(rate(way, what))).join(" / ");
        vec![
            cell_or(&network["interface"]),
            size(rate("receive", "bytes")),
            size(rate("transmit", "bytes")),
            pair("packets"),
            pair("errors"),
            pair("drops"),
        ]
    };
    rows_or(&head, networks, row)
}

/// A table of a list; of one that is not known, that.
fn rows_or(head: &[&str], list: &Json, row: impl Fn(&Json) -> Vec<String>) -> String {
    match list.as_array() {
        Some(items) => table(head, &items.iter().map(row).collect::<Vec<_>>()),
        None => table(head, &[vec![NOT_KNOWN.to_owned()]]),
    }
}

/// Why something is not known.
fn reasons(readings: &Json) -> Vec<String> {
    let mut reasons = Vec::new();
    if readings["interval_ms"].is_null() {
        reasons.push("rates: there was one reading so far; they take two".to_owned());
    }
    for name in readings["unavailable"].as_array().into_iter().flatten() {
        let name = cell(name);
        let why = match name.as_str() {
            "pressure_cpu" | "pressure_memory" | "pressure_io" => {
                "the kernel does not tell it (no /proc/pressure; its option psi=1 turns it on)"
            }
            _ if name.starts_with("disk:") => "its room could not be asked for",
            _ => "it could not be read on this machine",
        };
        reasons.push(format!("{name}: {why}"));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::{page, up};
    use serde_json::json;

    #[test]
    fn times_have_two_units() {
        let told = [5.4, 65.0, 3700.0, 90_000.0, 1e7].map(|seconds| up(&json!(seconds)));
        assert_eq!(told, ["5s", "1m", "1h 1m", "1d 1h", "115d 17h"]);
        assert_eq!(up(&json!(null)), "n/a");
    }

    #[test]
    fn what_is_not_known_is_told_with_the_reason_and_never_as_zero() {
        let text = page(
            &json!({
                "interval_ms": null, "cpu": { "usage_percent": null, "cores": 2, "load_1": 0.5 },
                "memory": null, "swap": { "total_bytes": 0 }, "disks": null, "network": [],
                "pressure": { "cpu": null, "memory": null, "io": null },
                "unavailable": ["memory", "disks", "pressure_cpu", "disk:/srv\u{1b}"]
            }),
            None,
        );
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line("health").contains("not known yet"), "{text}");
        assert!(line("cpu").contains("n/a of 2 cores: user n/a"), "{text}");
        assert!(line("load").contains("0.5, n/a, n/a"), "{text}");
        assert!(line("memory").contains("n/a of n/a: n/a used"), "{text}");
        assert!(line("swap").ends_with("none"), "{text}");
        assert!(line("pressure").contains("cpu n/a, memory n/a, io n/a"), "{text}");
        assert!(line("up").ends_with("n/a, since n/a"), "{text}");
        assert!(line("DISK").ends_with("BUSY") && text.contains("BUSY\nn/a\n"), "{text}");
        for reason in [
            "  rates: there was one reading so far",
            "  memory: it could not be read",
            "  pressure_cpu: the kernel does not tell it",
            "  disk:/srv\\u{1b}: its room",
        ] {
            assert!(text.contains(reason), "{reason}: {text}");
        }
    }
}
