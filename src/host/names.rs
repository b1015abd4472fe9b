//! What readings are called: by the names and labels of the exporter that everybody knows (`node_*`, counters as they
//! are), and by short ones in percent (`server_*`).
//!
//! The five panels a shop looks at are plain queries of these: `server_cpu_usage_percent`,
//! `server_memory_usage_percent`, `server_disk_usage_percent{mountpoint="/"}`, the rate of
//! `node_network_receive_bytes_total{device!="lo"}`, and whatever counts the requests of a web server.

use std::fmt::Write as _;

use super::parse::{Counters, CpuTime, DiskCounters, NetCounters, Pressure, float};
use super::raw::{Mounted, Space};
use super::reading::{Disk, Network, Reading};
use crate::base::limits::HOST_DEVICES_MAX;

/// Whoever is told. A family comes before its samples.
pub trait Teller {
    /// Name, `gauge` or `counter`, and what it says.
    fn family(&mut self, name: &'static str, kind: &'static str, help: &'static str);
    /// A sample: labels as the text format writes them, with escapes; empty without any.
    fn sample(&mut self, labels: &str, value: f64);
}

/// Tells everything that was read. What was not is left out. At most [`HOST_DEVICES_MAX`] devices, interfaces and
/// processors each.
pub fn tell(counters: &Counters, reading: &Reading, to: &mut dyn Teller) {
    let mut out = Out { to, labels: String::new() };
    tell_processors(counters, &mut out);
    tell_memory(counters, &mut out);
    tell_devices(counters, &mut out);
    tell_interfaces(counters, &mut out);
    tell_file_systems(counters, &mut out);
    tell_rest(counters, &mut out);
    tell_percentages(reading, &mut out);
    tell_amounts(reading, &mut out);
    tell_disks(reading, &mut out);
    tell_rates(reading, &mut out);
    tell_pressure(reading, &mut out);
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// A family: name, kind, help.
type Family = (&'static str, &'static str, &'static str);

struct Out<'t> {
    to: &'t mut dyn Teller,
    labels: String,
}

impl Out<'_> {
    fn family(&mut self, (name, kind, help): Family) {
        self.to.family(name, kind, help);
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.labels.clear();
        for (name, text) in labels {
            let comma = if self.labels.is_empty() { "" } else { "," };
            // Writing to a text cannot fail.
            write!(self.labels, "{comma}{name}=\"").unwrap_or_default();
            for c in text.chars() {
                match c {
                    '\\' => self.labels.push_str("\\\\"),
                    '"' => self.labels.push_str("\\\""),
                    '\n' => self.labels.push_str("\\n"),
                    c => self.labels.push(c),
                }
            }
            self.labels.push('"');
        }
        self.to.sample(&self.labels, value);
    }

    /// A family of one sample, if there is one.
    fn single(&mut self, family: Family, value: Option<f64>) {
        if let Some(value) = value {
            self.family(family);
            self.sample(&[], value);
        }
    }

    /// A family with a sample for each of `all` that has a value; none of it if none has.
    fn each<T>(
        &mut self,
        family: Family,
        all: &[T],
        of: impl Fn(&T) -> Option<f64>,
        name: impl Fn(&T) -> (&str, &str),
    ) {
        let mut told = false;
        for (value, it) in all.iter().filter_map(|it| Some((of(it)?, it))) {
            if !told {
                self.family(family);
                told = true;
            }
            self.sample(&[name(it)], value);
        }
    }
}

fn tell_processors(counters: &Counters, out: &mut Out<'_>) {
    if !counters.cpus.is_empty() {
        out.family(("node_cpu_seconds_total", COUNTER, "Seconds the CPUs spent in each mode."));
    }
    let mut number = String::new();
    for (cpu, time) in counters.cpus.iter().take(HOST_DEVICES_MAX) {
        number.clear();
        write!(number, "{cpu}").unwrap_or_default();
        let CpuTime { user, nice, system, idle, iowait, irq, softirq, steal } = *time;
        let modes = [
            ("idle", idle),
            ("iowait", iowait),
            ("irq", irq),
            ("nice", nice),
            ("softirq", softirq),
            ("steal", steal),
            ("system", system),
            ("user", user),
        ];
        for (mode, seconds) in modes {
            out.sample(&[("cpu", &number), ("mode", mode)], seconds);
        }
    }
    let load = |at: usize| counters.load.map(|load| load[at]);
    out.single(("node_load1", GAUGE, "1m load average."), load(0));
    out.single(("node_load5", GAUGE, "5m load average."), load(1));
    out.single(("node_load15", GAUGE, "15m load average."), load(2));
    let totals = [
        (("node_context_switches_total", COUNTER, "Context switches."), counters.contexts),
        (("node_intr_total", COUNTER, "Interrupts served."), counters.interrupts),
        (("node_forks_total", COUNTER, "Processes begun."), counters.forks),
        (("node_procs_running", GAUGE, "Processes that can run."), counters.running),
        (("node_procs_blocked", GAUGE, "Processes that wait for a disk."), counters.blocked),
        (
            ("node_boot_time_seconds", GAUGE, "When the machine started, in unix time."),
            counters.booted,
        ),
    ];
    for (family, value) in totals {
        out.single(family, value.map(float));
    }
}

/// Of `/proc/meminfo`: the line, and what it is called.
const MEMORY: [(&str, Family); 15] = [
    ("MemTotal", ("node_memory_MemTotal_bytes", GAUGE, "All memory.")),
    ("MemFree", ("node_memory_MemFree_bytes", GAUGE, "Memory nobody uses.")),
    (
        "MemAvailable",
        ("node_memory_MemAvailable_bytes", GAUGE, "Memory to be had without swapping."),
    ),
    ("Buffers", ("node_memory_Buffers_bytes", GAUGE, "Contents of devices.")),
    ("Cached", ("node_memory_Cached_bytes", GAUGE, "Contents of files.")),
    ("SReclaimable", ("node_memory_SReclaimable_bytes", GAUGE, "What the kernel can give back.")),
    ("Shmem", ("node_memory_Shmem_bytes", GAUGE, "Shared memory and tmpfs.")),
    ("Slab", ("node_memory_Slab_bytes", GAUGE, "Structures of the kernel.")),
    ("SwapTotal", ("node_memory_SwapTotal_bytes", GAUGE, "All swap.")),
    ("SwapFree", ("node_memory_SwapFree_bytes", GAUGE, "Swap nobody uses.")),
    ("SwapCached", ("node_memory_SwapCached_bytes", GAUGE, "In memory and in swap.")),
    ("Dirty", ("node_memory_Dirty_bytes", GAUGE, "Waiting to be written to disk.")),
    ("Writeback", ("node_memory_Writeback_bytes", GAUGE, "Being written to disk.")),
    ("AnonPages", ("node_memory_AnonPages_bytes", GAUGE, "Memory of programs that no file holds.")),
    ("Mapped", ("node_memory_Mapped_bytes", GAUGE, "Files that are mapped.")),
];

/// Of `/proc/vmstat`: the line, and what it is called.
const VM: [(&str, Family); 7] = [
    ("oom_kill", ("node_vmstat_oom_kill", COUNTER, "Processes killed for want of memory.")),
    ("pgfault", ("node_vmstat_pgfault", COUNTER, "Page faults.")),
    ("pgmajfault", ("node_vmstat_pgmajfault", COUNTER, "Page faults that a disk was read for.")),
    ("pgpgin", ("node_vmstat_pgpgin", COUNTER, "KiB read from disks.")),
    ("pgpgout", ("node_vmstat_pgpgout", COUNTER, "KiB written to disks.")),
    ("pswpin", ("node_vmstat_pswpin", COUNTER, "Pages swapped in.")),
    ("pswpout", ("node_vmstat_pswpout", COUNTER, "Pages swapped out.")),
];

fn tell_memory(counters: &Counters, out: &mut Out<'_>) {
    for (table, values) in [(&MEMORY[..], &counters.memory), (&VM[..], &counters.vm)] {
        for (line, family) in table {
            out.single(*family, values.as_ref().and_then(|all| all.get(*line)).copied().map(float));
        }
    }
}

fn tell_devices(counters: &Counters, out: &mut Out<'_>) {
    type Value = fn(&DiskCounters) -> f64;
    const FAMILIES: [(Family, Value); 8] = [
        (("node_disk_reads_completed_total", COUNTER, "Reads that were finished."), |it| {
            float(it.reads)
        }),
        (("node_disk_read_bytes_total", COUNTER, "Bytes read."), |it| float(it.read_bytes)),
        (("node_disk_read_time_seconds_total", COUNTER, "Seconds reads took."), |it| {
            it.read_seconds
        }),
        (("node_disk_writes_completed_total", COUNTER, "Writes that were finished."), |it| {
            float(it.writes)
        }),
        (("node_disk_written_bytes_total", COUNTER, "Bytes written."), |it| {
            float(it.written_bytes)
        }),
        (("node_disk_write_time_seconds_total", COUNTER, "Seconds writes took."), |it| {
            it.write_seconds
        }),
        (
            (
                "node_disk_io_time_seconds_total",
                COUNTER,
                "Seconds in which anything was under way.",
            ),
            |it| it.busy_seconds,
        ),
        (
            (
                "node_disk_io_time_weighted_seconds_total",
                COUNTER,
                "Seconds of all that was under way, added up.",
            ),
            |it| it.weighted_seconds,
        ),
    ];
    let Some(disks) = &counters.disks else { return };
    // Parts of a disk are counted with it.
    let whole = |name: &str| whole_disk(name).is_none_or(|whole| !disks.contains_key(whole));
    let all: Vec<_> = disks.iter().filter(|(name, _)| whole(name)).take(HOST_DEVICES_MAX).collect();
    for (family, value) in FAMILIES {
        out.each(family, &all, |(_, it)| Some(value(it)), |(name, _)| ("device", name));
    }
}

/// The disk that this would be a part of: `sda` of `sda1`, `nvme0n1` of `nvme0n1p2`.
fn whole_disk(name: &str) -> Option<&str> {
    let whole = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if whole == name {
        return None;
    }
    let numbered = whole.strip_suffix('p').filter(|it| it.ends_with(|c: char| c.is_ascii_digit()));
    Some(numbered.unwrap_or(whole))
}

fn tell_interfaces(counters: &Counters, out: &mut Out<'_>) {
    type Value = fn(&NetCounters) -> u64;
    const FAMILIES: [(Family, Value); 8] = [
        (("node_network_receive_bytes_total", COUNTER, "Bytes received."), |it| it.bytes[0]),
        (("node_network_receive_packets_total", COUNTER, "Packets received."), |it| it.packets[0]),
        (("node_network_receive_errs_total", COUNTER, "Wrong packets received."), |it| {
            it.errors[0]
        }),
        (("node_network_receive_drop_total", COUNTER, "Received packets dropped."), |it| {
            it.drops[0]
        }),
        (("node_network_transmit_bytes_total", COUNTER, "Bytes sent."), |it| it.bytes[1]),
        (("node_network_transmit_packets_total", COUNTER, "Packets sent."), |it| it.packets[1]),
        (("node_network_transmit_errs_total", COUNTER, "Packets that could not be sent."), |it| {
            it.errors[1]
        }),
        (
            ("node_network_transmit_drop_total", COUNTER, "Packets dropped before they were sent."),
            |it| it.drops[1],
        ),
    ];
    let lasting = counters.network.iter().flatten().filter(|(name, _)| !is_passing(name));
    let all: Vec<_> = lasting.take(HOST_DEVICES_MAX).collect();
    for (family, value) in FAMILIES {
        out.each(family, &all, |(_, it)| Some(float(value(it))), |(name, _)| ("device", name));
    }
}

fn tell_file_systems(counters: &Counters, out: &mut Out<'_>) {
    type Value = fn(&Space) -> u64;
    const FAMILIES: [(Family, Value); 5] = [
        (("node_filesystem_size_bytes", GAUGE, "Size of the file system."), |it| it.total_bytes),
        (("node_filesystem_free_bytes", GAUGE, "Free space, for root too."), |it| it.free_bytes),
        (("node_filesystem_avail_bytes", GAUGE, "Free space for everybody."), |it| {
            it.available_bytes
        }),
        (("node_filesystem_files", GAUGE, "Inodes; 0 where there is no fixed number."), |it| {
            it.inodes
        }),
        (("node_filesystem_files_free", GAUGE, "Free inodes."), |it| it.inodes_free),
    ];
    let asked = counters.mounted.iter().flatten();
    let all: Vec<(&Mounted, Space)> = asked.filter_map(|it| Some((it, it.space?))).collect();
    let labels = |it: &Mounted, out: &mut Out<'_>, value: f64| {
        let mount = &it.mount;
        let labels =
            [("device", &*mount.device), ("fstype", &*mount.kind), ("mountpoint", &*mount.path)];
        out.sample(&labels, value);
    };
    if all.is_empty() {
        return;
    }
    for (family, value) in FAMILIES {
        out.family(family);
        for (it, space) in &all {
            labels(it, out, float(value(space)));
        }
    }
    out.family(("node_filesystem_readonly", GAUGE, "1 if nothing can be written."));
    for (it, _) in &all {
        labels(it, out, f64::from(u8::from(it.mount.read_only)));
    }
}

fn tell_rest(counters: &Counters, out: &mut Out<'_>) {
    let some = |of: Option<Pressure>| of.map(|of| of.some_seconds);
    let full = |of: Option<Pressure>| of.and_then(|of| of.full).map(|(_, seconds)| seconds);
    let (cpu, memory, io) = (counters.pressure_cpu, counters.pressure_memory, counters.pressure_io);
    let totals = [
        (
            (
                "node_pressure_cpu_waiting_seconds_total",
                COUNTER,
                "Seconds some waited for a processor.",
            ),
            some(cpu),
        ),
        (
            (
                "node_pressure_memory_waiting_seconds_total",
                COUNTER,
                "Seconds some waited for memory.",
            ),
            some(memory),
        ),
        (
            (
                "node_pressure_memory_stalled_seconds_total",
                COUNTER,
                "Seconds all waited for memory.",
            ),
            full(memory),
        ),
        (
            ("node_pressure_io_waiting_seconds_total", COUNTER, "Seconds some waited for a disk."),
            some(io),
        ),
        (
            ("node_pressure_io_stalled_seconds_total", COUNTER, "Seconds all waited for a disk."),
            full(io),
        ),
        (
            ("node_filefd_allocated", GAUGE, "Open descriptors of the machine."),
            counters.files.map(|(open, _)| float(open)),
        ),
        (
            ("node_filefd_maximum", GAUGE, "How many descriptors there may be."),
            counters.files.map(|(_, most)| float(most)),
        ),
    ];
    for (family, value) in totals {
        out.single(family, value);
    }
}

fn tell_percentages(reading: &Reading, out: &mut Out<'_>) {
    let cpu = |of: fn(&super::reading::Cpu) -> f64| reading.cpu.as_ref().map(of);
    let parts = [
        (
            (
                "server_cpu_usage_percent",
                GAUGE,
                "Processors: everything but idle and waiting for disks.",
            ),
            cpu(|it| it.usage),
        ),
        (("server_cpu_user_percent", GAUGE, "Processors: programs."), cpu(|it| it.user)),
        (("server_cpu_system_percent", GAUGE, "Processors: the kernel."), cpu(|it| it.system)),
        (
            ("server_cpu_iowait_percent", GAUGE, "Processors: waiting for disks."),
            cpu(|it| it.iowait),
        ),
        (
            ("server_cpu_steal_percent", GAUGE, "Processors: taken by other virtual machines."),
            cpu(|it| it.steal),
        ),
        (("server_cpu_idle_percent", GAUGE, "Processors: nothing to do."), cpu(|it| it.idle)),
        (("server_cpu_load_1min", GAUGE, "Load of one minute."), reading.load.map(|load| load[0])),
        (
            ("server_cpu_load_5min", GAUGE, "Load of five minutes."),
            reading.load.map(|load| load[1]),
        ),
        (
            ("server_cpu_load_15min", GAUGE, "Load of fifteen minutes."),
            reading.load.map(|load| load[2]),
        ),
        (("server_cpu_cores", GAUGE, "Processors."), reading.cores.map(f64::from)),
    ];
    for (family, value) in parts {
        out.single(family, value);
    }
}

fn tell_amounts(reading: &Reading, out: &mut Out<'_>) {
    let memory = reading.memory.as_ref();
    let bytes = |of: fn(&super::reading::Memory) -> u64| memory.map(|it| float(of(it)));
    let swap = reading.swap.as_ref();
    let amounts = [
        (
            ("server_memory_usage_percent", GAUGE, "Memory that is not available."),
            memory.map(|it| it.usage),
        ),
        (("server_memory_used_bytes", GAUGE, "Memory that is not available."), bytes(|it| it.used)),
        (("server_memory_total_bytes", GAUGE, "All memory."), bytes(|it| it.total)),
        (
            ("server_memory_available_bytes", GAUGE, "Memory to be had without swapping."),
            bytes(|it| it.available),
        ),
        (("server_swap_usage_percent", GAUGE, "Swap in use."), swap.and_then(|it| it.usage)),
        (("server_swap_used_bytes", GAUGE, "Swap in use."), swap.map(|it| float(it.used))),
        (("server_swap_total_bytes", GAUGE, "All swap."), swap.map(|it| float(it.total))),
        (
            ("server_swap_read_bytes_per_second", GAUGE, "Read from swap."),
            swap.and_then(|it| it.read),
        ),
        (
            ("server_swap_written_bytes_per_second", GAUGE, "Written to swap."),
            swap.and_then(|it| it.written),
        ),
    ];
    for (family, value) in amounts {
        out.single(family, value);
    }
}

fn tell_disks(reading: &Reading, out: &mut Out<'_>) {
    type Value = fn(&Disk) -> Option<f64>;
    const FAMILIES: [(Family, Value); 8] = [
        (("server_disk_usage_percent", GAUGE, "Space in use, as df has it."), |it| it.usage),
        (("server_disk_used_bytes", GAUGE, "Space in use."), |it| it.used.map(float)),
        (("server_disk_total_bytes", GAUGE, "Size of the file system."), |it| {
            it.space.map(|space| float(space.total_bytes))
        }),
        (("server_disk_available_bytes", GAUGE, "Free space for everybody."), |it| {
            it.space.map(|space| float(space.available_bytes))
        }),
        (("server_disk_inodes_usage_percent", GAUGE, "Inodes in use."), |it| it.inodes_usage),
        (("server_disk_read_bytes_per_second", GAUGE, "Read from its device."), |it| it.read),
        (("server_disk_written_bytes_per_second", GAUGE, "Written to its device."), |it| {
            it.written
        }),
        (("server_disk_busy_percent", GAUGE, "Time in which its device did anything."), |it| {
            it.busy
        }),
    ];
    let disks = reading.disks.as_deref().unwrap_or_default();
    for (family, value) in FAMILIES {
        out.each(family, disks, value, |it| ("mountpoint", &it.mount.path));
    }
}

/// Whether an interface comes with a container or a virtual machine and goes with it, under a name that never comes again:
/// as series they would pile up, a few thousand with every day of deployments.
fn is_passing(name: &str) -> bool {
    let is_bridge = |rest: &str| {
        rest.len() == DOCKER_BRIDGE_DIGITS && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    ["veth", "cali", "lxc", "tap", "vnet"].iter().any(|kind| name.starts_with(kind))
        || name.strip_prefix("br-").is_some_and(is_bridge)
}

/// The name of a bridge that Docker made: `br-` and so many digits of its number.
const DOCKER_BRIDGE_DIGITS: usize = 12;

fn tell_rates(reading: &Reading, out: &mut Out<'_>) {
    type Value = fn(&Network) -> Option<[f64; 2]>;
    const FAMILIES: [(Family, Family, Value); 4] = [
        (
            ("server_network_receive_bytes_per_second", GAUGE, "Bytes received."),
            ("server_network_transmit_bytes_per_second", GAUGE, "Bytes sent."),
            |it| it.bytes,
        ),
        (
            ("server_network_receive_packets_per_second", GAUGE, "Packets received."),
            ("server_network_transmit_packets_per_second", GAUGE, "Packets sent."),
            |it| it.packets,
        ),
        (
            ("server_network_receive_errors_per_second", GAUGE, "Wrong packets received."),
            ("server_network_transmit_errors_per_second", GAUGE, "Packets that could not be sent."),
            |it| it.errors,
        ),
        (
            ("server_network_receive_drops_per_second", GAUGE, "Received packets dropped."),
            (
                "server_network_transmit_drops_per_second",
                GAUGE,
                "Packets dropped before they were sent.",
            ),
            |it| it.drops,
        ),
    ];
    let lasting = reading.network.iter().flatten().filter(|it| !is_passing(&it.interface));
    let all: Vec<_> = lasting.take(HOST_DEVICES_MAX).collect();
    let all = all.as_slice();
    for (received, sent, rates) in FAMILIES {
        out.each(received, all, |it| Some(rates(it)?[0]), |it| ("device", &it.interface));
        out.each(sent, all, |it| Some(rates(it)?[1]), |it| ("device", &it.interface));
    }
}

fn tell_pressure(reading: &Reading, out: &mut Out<'_>) {
    const HELP_SOME: &str = "Part of the last minute in which some waited.";
    const HELP_FULL: &str = "Part of the last minute in which all waited.";
    let some = |at: usize| reading.pressure[at].map(|it| it.some[1]);
    let full =
        |at: usize| reading.pressure[at].and_then(|it| it.full).map(|(averages, _)| averages[1]);
    let parts = [
        (("server_pressure_cpu_some_percent", GAUGE, HELP_SOME), some(0)),
        (("server_pressure_memory_some_percent", GAUGE, HELP_SOME), some(1)),
        (("server_pressure_memory_full_percent", GAUGE, HELP_FULL), full(1)),
        (("server_pressure_io_some_percent", GAUGE, HELP_SOME), some(2)),
        (("server_pressure_io_full_percent", GAUGE, HELP_FULL), full(2)),
    ];
    for (family, value) in parts {
        out.single(family, value);
    }
}

#[cfg(test)]
mod tests;
