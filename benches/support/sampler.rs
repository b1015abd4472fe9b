//! Readings of this machine, as a scraper of hosts takes them: some 430 numbers from `/proc` and of the
//! root file system, under the names that such scrapers give them.
//!
//! Values are what the kernel says in the units of the names (seconds, bytes), so they have the decimals
//! that real series have: hundredths of CPU seconds, thousandths of disk seconds, millionths of pressure.

use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::host::{self, Row};

/// Takes `count` scrapes of this machine, one in so many seconds, and puts them behind what the file at
/// `path` has. What appears later than the first scrape is not recorded; what disappears is an error.
pub(crate) fn record(path: &str, seconds: &str, count: &str) {
    let between = Duration::from_secs(seconds.parse().unwrap());
    let names: Vec<String> = scrape().into_iter().map(|(name, _)| name).collect();
    let begun = Instant::now();
    let rows: Vec<Row> = (0..count.parse().unwrap())
        .map(|at: u32| {
            thread::sleep((begun + between * at).saturating_duration_since(Instant::now()));
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let values: HashMap<String, f64> = scrape().into_iter().collect();
            let row = names.iter().map(|name| values[name]).collect();
            (i64::try_from(since.as_millis()).unwrap(), row)
        })
        .collect();
    host::add(path, (names, rows), i64::try_from(between.as_millis()).unwrap());
}

/// One scrape: names as the Prometheus text format writes them, and values. The same names in the same
/// order each time, as long as the machine has the same devices.
pub(crate) fn scrape() -> Vec<(String, f64)> {
    let mut out = Vec::with_capacity(512);
    stat(&read("stat"), &mut out);
    load(&read("loadavg"), &mut out);
    memory(&read("meminfo"), &mut out);
    pairs("node_vmstat_", &read("vmstat"), &mut out);
    disks(&read("diskstats"), &mut out);
    network(&read("net/dev"), &mut out);
    protocols(&read("net/snmp"), &mut out);
    sockets(&read("net/sockstat"), &mut out);
    for what in ["cpu", "io", "memory"] {
        pressure(what, &read(&format!("pressure/{what}")), &mut out);
    }
    files(&read("sys/fs/file-nr"), &mut out);
    file_system("/", &mut out);
    out
}

/// What a machine does not have is empty.
fn read(name: &str) -> String {
    fs::read_to_string(format!("/proc/{name}")).unwrap_or_default()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or(0.0)
}

fn stat(text: &str, out: &mut Vec<(String, f64)>) {
    const MODES: [&str; 8] =
        ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
    const SOFT: [&str; 10] = [
        "hi", "timer", "net_tx", "net_rx", "block", "irq_poll", "tasklet", "sched", "hrtimer",
        "rcu",
    ];
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        match first {
            "cpu" => {}
            "intr" | "ctxt" | "btime" | "processes" | "procs_running" | "procs_blocked" => {
                let name = match first {
                    "intr" => "node_intr_total",
                    "ctxt" => "node_context_switches_total",
                    "btime" => "node_boot_time_seconds",
                    "processes" => "node_forks_total",
                    "procs_running" => "node_procs_running",
                    _ => "node_procs_blocked",
                };
                out.push((name.to_owned(), number(words.next().unwrap_or_default())));
            }
            "softirq" => {
                for (vector, count) in SOFT.iter().zip(words.skip(1)) {
                    let name = format!("node_softirqs_total{{vector=\"{vector}\"}}");
                    out.push((name, number(count)));
                }
            }
            _ => {
                let cpu = first.trim_start_matches("cpu");
                for (mode, ticks) in MODES.iter().zip(words) {
                    let name = format!("node_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"{mode}\"}}");
                    out.push((name, number(ticks) / 100.0));
                }
            }
        }
    }
}

fn load(text: &str, out: &mut Vec<(String, f64)>) {
    for (name, value) in ["node_load1", "node_load5", "node_load15"].iter().zip(text.split(' ')) {
        out.push(((*name).to_owned(), number(value)));
    }
}

/// `Active(anon):  1234 kB` is `node_memory_Active_anon_bytes`.
fn memory(text: &str, out: &mut Vec<(String, f64)>) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default().trim_end_matches(':');
        let name = name.replace('(', "_").replace(')', "");
        let value = number(words.next().unwrap_or_default());
        out.push(match words.next() {
            Some(_) => (format!("node_memory_{name}_bytes"), value * 1024.0),
            None => (format!("node_memory_{name}"), value),
        });
    }
}

fn pairs(prefix: &str, text: &str, out: &mut Vec<(String, f64)>) {
    for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        out.push((format!("{prefix}{name}"), number(value)));
    }
}

fn disks(text: &str, out: &mut Vec<(String, f64)>) {
    const NAMES: [(&str, f64, f64); 17] = [
        ("reads_completed_total", 1.0, 1.0),
        ("reads_merged_total", 1.0, 1.0),
        ("read_bytes_total", 512.0, 1.0),
        ("read_time_seconds_total", 1.0, 1000.0),
        ("writes_completed_total", 1.0, 1.0),
        ("writes_merged_total", 1.0, 1.0),
        ("written_bytes_total", 512.0, 1.0),
        ("write_time_seconds_total", 1.0, 1000.0),
        ("io_now", 1.0, 1.0),
        ("io_time_seconds_total", 1.0, 1000.0),
        ("io_time_weighted_seconds_total", 1.0, 1000.0),
        ("discards_completed_total", 1.0, 1.0),
        ("discards_merged_total", 1.0, 1.0),
        ("discarded_sectors_total", 1.0, 1.0),
        ("discard_time_seconds_total", 1.0, 1000.0),
        ("flush_requests_total", 1.0, 1.0),
        ("flush_requests_time_seconds_total", 1.0, 1000.0),
    ];
    for line in text.lines() {
        let mut words = line.split_whitespace().skip(2);
        let device = words.next().unwrap_or_default();
        if ["loop", "ram", "zram"].iter().any(|kind| device.starts_with(kind)) {
            continue;
        }
        for ((name, times, per), value) in NAMES.iter().zip(words) {
            let name = format!("node_disk_{name}{{device=\"{device}\"}}");
            out.push((name, number(value) * times / per));
        }
    }
}

fn network(text: &str, out: &mut Vec<(String, f64)>) {
    const NAMES: [&str; 16] = [
        "receive_bytes",
        "receive_packets",
        "receive_errs",
        "receive_drop",
        "receive_fifo",
        "receive_frame",
        "receive_compressed",
        "receive_multicast",
        "transmit_bytes",
        "transmit_packets",
        "transmit_errs",
        "transmit_drop",
        "transmit_fifo",
        "transmit_colls",
        "transmit_carrier",
        "transmit_compressed",
    ];
    for (device, values) in text.lines().filter_map(|line| line.split_once(':')) {
        let device = device.trim();
        if device.starts_with("ifb") {
            continue;
        }
        for (name, value) in NAMES.iter().zip(values.split_whitespace()) {
            let name = format!("node_network_{name}_total{{device=\"{device}\"}}");
            out.push((name, number(value)));
        }
    }
}

/// Two lines each: `Tcp: names`, `Tcp: values`.
fn protocols(text: &str, out: &mut Vec<(String, f64)>) {
    let lines: Vec<&str> = text.lines().collect();
    for [names, values] in lines.as_chunks::<2>().0 {
        let (Some((protocol, names)), Some((_, values))) =
            (names.split_once(':'), values.split_once(':'))
        else {
            continue;
        };
        if ["UdpLite", "IcmpMsg"].contains(&protocol) {
            continue;
        }
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            out.push((format!("node_netstat_{protocol}_{name}"), number(value)));
        }
    }
}

/// `TCP: inuse 2 orphan 0` is `node_sockstat_TCP_inuse`, `node_sockstat_TCP_orphan`.
fn sockets(text: &str, out: &mut Vec<(String, f64)>) {
    for (protocol, rest) in text.lines().filter_map(|line| line.split_once(':')) {
        let words: Vec<&str> = rest.split_whitespace().collect();
        for [name, value] in words.as_chunks::<2>().0 {
            out.push((format!("node_sockstat_{protocol}_{name}"), number(value)));
        }
    }
}

fn pressure(what: &str, text: &str, out: &mut Vec<(String, f64)>) {
    for (line, kind) in text.lines().zip(["waiting", "stalled"]) {
        let total = line.rsplit_once("total=").map_or("", |(_, total)| total);
        let name = format!("node_pressure_{what}_{kind}_seconds_total");
        out.push((name, number(total) / 1e6));
    }
}

fn files(text: &str, out: &mut Vec<(String, f64)>) {
    let mut words = text.split_whitespace();
    out.push(("node_filefd_allocated".to_owned(), number(words.next().unwrap_or_default())));
    out.push(("node_filefd_maximum".to_owned(), number(words.nth(1).unwrap_or_default())));
}

fn file_system(path: &str, out: &mut Vec<(String, f64)>) {
    let Ok(facts) = rustix::fs::statvfs(path) else {
        return;
    };
    let figures = [
        ("size_bytes", facts.f_blocks as f64 * facts.f_frsize as f64),
        ("free_bytes", facts.f_bfree as f64 * facts.f_frsize as f64),
        ("avail_bytes", facts.f_bavail as f64 * facts.f_frsize as f64),
        ("files", facts.f_files as f64),
        ("files_free", facts.f_ffree as f64),
        ("readonly", 0.0),
    ];
    for (name, value) in figures {
        out.push((format!("node_filesystem_{name}{{mountpoint=\"{path}\"}}"), value));
    }
}
