//! The texts of /proc, as counters. Total: any bytes give counters or `None`.

use std::collections::BTreeMap;

use super::mounts::Mount;
use super::raw::{Mounted, Own, Raw, Space};
use crate::base::time::Now;

/// Time of processors in seconds since the start, by what it was spent on. What guests of a host of virtual machines
/// took is in `user` and `nice` already.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTime {
    /// Programs.
    pub user: f64,
    /// Programs that are nice.
    pub nice: f64,
    /// The kernel.
    pub system: f64,
    /// Nothing.
    pub idle: f64,
    /// Nothing, while a disk was waited for.
    pub iowait: f64,
    /// Interrupts.
    pub irq: f64,
    /// What interrupts left to be done.
    pub softirq: f64,
    /// What the host of this virtual machine gave to others.
    pub steal: f64,
}

/// Pressure: the part of the time in which some or all waited, and the sum of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Percent of the last 10, 60 and 300 seconds in which some waited.
    pub some: [f64; 3],
    /// Seconds since the start.
    pub some_seconds: f64,
    /// The same for all of them; none where the kernel does not say. Of processors it says zero since 5.13 so that
    /// older programs find the line: somebody always runs, so it means nothing, and is none here.
    pub full: Option<([f64; 3], f64)>,
}

/// A device of `/proc/diskstats`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DiskCounters {
    /// Reads that were finished.
    pub reads: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Seconds reads took.
    pub read_seconds: f64,
    /// Writes that were finished.
    pub writes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Seconds writes took.
    pub write_seconds: f64,
    /// Seconds in which anything was under way.
    pub busy_seconds: f64,
    /// Seconds in which anything was under way, times how much it was.
    pub weighted_seconds: f64,
}

/// An interface of `/proc/net/dev`: received, then sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// Bytes.
    pub bytes: [u64; 2],
    /// Packets.
    pub packets: [u64; 2],
    /// Packets that were wrong.
    pub errors: [u64; 2],
    /// Packets that were dropped.
    pub drops: [u64; 2],
}

/// Everything of one moment. What cannot be read is `None`; a list that cannot be read is `None`, one without entries empty.
#[derive(Clone, Debug)]
pub struct Counters {
    /// When.
    pub now: Now,
    /// All processors together.
    pub cpu: Option<CpuTime>,
    /// Each, by its number.
    pub cpus: Vec<(u32, CpuTime)>,
    /// How large a page of memory is.
    pub page_bytes: u64,
    /// Processors that we may use, where that is limited.
    pub quota_cores: Option<f64>,
    /// Switches, interrupts, processes begun, those that run and those that wait for a disk.
    pub contexts: Option<u64>,
    /// Interrupts.
    pub interrupts: Option<u64>,
    /// Processes begun.
    pub forks: Option<u64>,
    /// Processes that run.
    pub running: Option<u64>,
    /// Processes that wait for a disk.
    pub blocked: Option<u64>,
    /// When the machine started, in unix seconds.
    pub booted: Option<u64>,
    /// Of 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// `/proc/meminfo` in bytes: `MemTotal`, ...; what is counted in pages of their own size is not in it.
    pub memory: Option<BTreeMap<String, u64>>,
    /// `/proc/vmstat`: those that [`super::names`] and [`super::signals`] ask for.
    pub vm: Option<BTreeMap<String, u64>>,
    /// By device, without loops and RAM disks.
    pub disks: Option<BTreeMap<String, DiskCounters>>,
    /// Which device has a number such as `254:0`.
    pub disk_numbers: BTreeMap<String, String>,
    /// By interface.
    pub network: Option<BTreeMap<String, NetCounters>>,
    /// Of processors.
    pub pressure_cpu: Option<Pressure>,
    /// Of memory.
    pub pressure_memory: Option<Pressure>,
    /// Of disks.
    pub pressure_io: Option<Pressure>,
    /// Open descriptors of the machine, and how many there may be.
    pub files: Option<(u64, u64)>,
    /// Seconds since the machine started.
    pub uptime: Option<f64>,
    /// File systems.
    pub mounted: Option<Vec<Mounted>>,
    /// This process.
    pub own: Own,
}

impl Counters {
    /// Those of these texts.
    pub fn of(raw: &Raw) -> Counters {
        let texts = &raw.texts;
        let stat = texts.stat.as_deref().map(Stat::of).unwrap_or_default();
        let disks = texts.diskstats.as_deref().map(disks);
        let disk_numbers = disks.as_ref().map(|disks| disks.numbers.clone()).unwrap_or_default();
        let asked = texts.mountinfo.as_ref().map(|_| mounted(&raw.mounted, &disk_numbers));
        Counters {
            now: raw.now,
            cpu: stat.cpu,
            cpus: stat.cpus,
            page_bytes: raw.page_bytes,
            quota_cores: raw.quota_cores.filter(|cores| cores.is_finite() && 0.0 < *cores),
            contexts: stat.contexts,
            interrupts: stat.interrupts,
            forks: stat.forks,
            running: stat.running,
            blocked: stat.blocked,
            booted: stat.booted,
            load: texts.loadavg.as_deref().and_then(load),
            memory: texts.meminfo.as_deref().and_then(memory),
            vm: texts.vmstat.as_deref().and_then(vm),
            disks: disks.map(|disks| disks.counters),
            disk_numbers,
            network: texts.net_dev.as_deref().and_then(network),
            pressure_cpu: texts
                .pressure_cpu
                .as_deref()
                .and_then(pressure)
                .map(|cpu| Pressure { full: None, ..cpu }),
            pressure_memory: texts.pressure_memory.as_deref().and_then(pressure),
            pressure_io: texts.pressure_io.as_deref().and_then(pressure),
            files: texts.file_nr.as_deref().and_then(files),
            uptime: texts
                .uptime
                .as_deref()
                .and_then(|text| amount(text.split_whitespace().next()?)),
            mounted: asked,
            own: raw.own,
        }
    }
}

/// Ticks in a second, as the kernel counts them for programs: the same on all machines that we run on.
const TICKS: f64 = 100.0;
/// Bytes of a sector in `/proc/diskstats`, whatever the disk has.
const SECTOR_BYTES: u64 = 512;
/// Fields of `/proc/vmstat` that are kept.
const VM: [&str; 7] =
    ["pgpgin", "pgpgout", "pswpin", "pswpout", "pgfault", "pgmajfault", "oom_kill"];

/// A number as a float. Counters stay below 2^53 for centuries; beyond it they are rounded.
#[expect(clippy::cast_precision_loss, reason = "rates and shares need no more than 53 bits")]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

fn whole(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// A number with a point: finite and not below zero.
fn amount(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && 0.0 <= *number)
}

/// The first `N` numbers; none if there are fewer.
fn numbers<const N: usize>(words: &mut dyn Iterator<Item = &str>) -> Option<[u64; N]> {
    let mut found = [0; N];
    for number in &mut found {
        *number = whole(words.next()?)?;
    }
    Some(found)
}

/// `/proc/stat`
#[derive(Default)]
struct Stat {
    cpu: Option<CpuTime>,
    cpus: Vec<(u32, CpuTime)>,
    contexts: Option<u64>,
    interrupts: Option<u64>,
    forks: Option<u64>,
    running: Option<u64>,
    blocked: Option<u64>,
    booted: Option<u64>,
}

impl Stat {
    fn of(text: &str) -> Stat {
        let mut stat = Stat::default();
        for line in text.lines() {
            // One line has a number for each interrupt there can be: only as many words are looked at as are asked for.
            let mut words = line.split_ascii_whitespace();
            let Some(name) = words.next() else { continue };
            let mut first = || whole(words.next()?);
            match name {
                "ctxt" => stat.contexts = first(),
                "intr" => stat.interrupts = first(),
                "processes" => stat.forks = first(),
                "procs_running" => stat.running = first(),
                "procs_blocked" => stat.blocked = first(),
                "btime" => stat.booted = first(),
                "cpu" => stat.cpu = cpu(&mut words),
                _ => {
                    let number = name.strip_prefix("cpu").and_then(|number| number.parse().ok());
                    stat.cpus.extend(number.zip(cpu(&mut words)));
                }
            }
        }
        stat
    }
}

/// `user nice system idle iowait irq softirq steal [guest guest_nice]` in ticks. Where all are zero nobody counts.
fn cpu(words: &mut dyn Iterator<Item = &str>) -> Option<CpuTime> {
    let ticks: [u64; 8] = numbers(words)?;
    if ticks == [0; 8] {
        return None;
    }
    let [user, nice, system, idle, iowait, irq, softirq, steal] =
        ticks.map(|ticks| float(ticks) / TICKS);
    Some(CpuTime { user, nice, system, idle, iowait, irq, softirq, steal })
}

/// `0.38 0.19 0.63 4/103 29941`
fn load(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_ascii_whitespace();
    let mut next = || amount(words.next()?);
    Some([next()?, next()?, next()?])
}

/// Lines `MemTotal:  24684084 kB`. Without `MemTotal` it is no such file.
fn memory(text: &str) -> Option<BTreeMap<String, u64>> {
    let line = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let kilobytes = whole(value.trim().strip_suffix("kB")?.trim_end())?;
        Some((name.trim().to_owned(), kilobytes.checked_mul(1024)?))
    };
    let all: BTreeMap<String, u64> = text.lines().filter_map(line).collect();
    all.contains_key("MemTotal").then_some(all)
}

/// Lines `pswpin 0`.
fn vm(text: &str) -> Option<BTreeMap<String, u64>> {
    let line = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        VM.contains(&name).then_some((name.to_owned(), whole(value.trim())?))
    };
    let all: BTreeMap<String, u64> = text.lines().filter_map(line).collect();
    (!all.is_empty()).then_some(all)
}

struct Disks {
    counters: BTreeMap<String, DiskCounters>,
    numbers: BTreeMap<String, String>,
}

/// Lines ` 254 0 vda` and at least eleven numbers.
fn disks(text: &str) -> Disks {
    let mut disks = Disks { counters: BTreeMap::new(), numbers: BTreeMap::new() };
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor, name)) = words
            .next()
            .zip(words.next())
            .zip(words.next())
            .map(|((major, minor), name)| (major, minor, name))
        else {
            continue;
        };
        let Some(counters) = disk(&mut words).filter(|_| !is_no_disk(name)) else { continue };
        disks.numbers.insert(format!("{major}:{minor}"), name.to_owned());
        disks.counters.insert(name.to_owned(), counters);
    }
    disks
}

/// Reads: how many, merged, sectors, ms; writes: the same; under way, ms, weighted ms.
fn disk(words: &mut dyn Iterator<Item = &str>) -> Option<DiskCounters> {
    let [reads, _, sectors_read, read_ms, writes, _, sectors_written, write_ms, _, busy, weighted] =
        numbers(words)?;
    let seconds = |ms: u64| float(ms) / 1000.0;
    Some(DiskCounters {
        reads,
        read_bytes: sectors_read.checked_mul(SECTOR_BYTES)?,
        read_seconds: seconds(read_ms),
        writes,
        written_bytes: sectors_written.checked_mul(SECTOR_BYTES)?,
        write_seconds: seconds(write_ms),
        busy_seconds: seconds(busy),
        weighted_seconds: seconds(weighted),
    })
}

/// Loops, RAM disks and floppies: `loop0`, `ram1`, `zram0`, `fd0`.
fn is_no_disk(name: &str) -> bool {
    ["loop", "ram", "zram", "fd"].iter().any(|kind| {
        let number = name.strip_prefix(kind);
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// Lines `eth0: ` and sixteen numbers, eight for each way, after two lines of titles.
fn network(text: &str) -> Option<BTreeMap<String, NetCounters>> {
    let line = |line: &str| {
        // A name may have a colon of its own, as aliases had; numbers have none.
        let (name, values) = line.rsplit_once(':')?;
        let counted: [u64; 16] = numbers(&mut values.split_ascii_whitespace())?;
        let both = |at: usize| [counted[at], counted[at + 8]];
        let counters =
            NetCounters { bytes: both(0), packets: both(1), errors: both(2), drops: both(3) };
        Some((name.trim().to_owned(), counters))
    };
    let titled = text.lines().next()?.contains('|');
    titled.then(|| text.lines().filter_map(line).collect())
}

/// Lines `some avg10=3.14 avg60=1.86 avg300=0.66 total=19062217389`, and the same with `full`; microseconds.
fn pressure(text: &str) -> Option<Pressure> {
    let line = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let value = |name: &str| {
            line.split_ascii_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let average = |name: &str| amount(value(name)?);
        let averages = [average("avg10")?, average("avg60")?, average("avg300")?];
        Some((averages, float(whole(value("total")?)?) / 1e6))
    };
    let (some, some_seconds) = line("some")?;
    Some(Pressure { some, some_seconds, full: line("full") })
}

/// `629 0 2466170`: given out, given out and not in use, and how many there may be.
fn files(text: &str) -> Option<(u64, u64)> {
    let [given, idle, most] = numbers(&mut text.split_ascii_whitespace())?;
    Some((given.saturating_sub(idle), most))
}

/// What was asked, without those that have no size, and with the name of the device that `/dev/root` stands for.
fn mounted(all: &[Mounted], numbers: &BTreeMap<String, String>) -> Vec<Mounted> {
    let layered = all.iter().find(|it| it.mount.path == "/" && it.mount.number.starts_with("0:"));
    // The root of a container is a layer on a disk of the host, of which it may have other parts as well.
    let under = |it: &Mounted| layered.is_some_and(|root| is_same_disk(root, it));
    let counts = |it: &&Mounted| it.space.is_none_or(|space| space.total_bytes != 0) && !under(it);
    let named = |it: &Mounted| {
        let name = numbers.get(&it.mount.number).filter(|_| it.mount.device == "/dev/root");
        let device = name.map_or_else(|| it.mount.device.clone(), |name| format!("/dev/{name}"));
        Mounted { mount: Mount { device, ..it.mount.clone() }, space: it.space }
    };
    all.iter().filter(counts).map(named).collect()
}

/// Whether a layer says of its size what the disk below says of itself.
fn is_same_disk(layer: &Mounted, other: &Mounted) -> bool {
    let size =
        |it: &Mounted| it.space.map(|Space { total_bytes, inodes, .. }| (total_bytes, inodes));
    layer.mount.kind == "overlay"
        && layer.mount.number != other.mount.number
        && layer.space.is_some()
        && size(layer) == size(other)
}

#[cfg(test)]
pub(super) mod tests;
