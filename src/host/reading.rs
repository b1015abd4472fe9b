//! What two moments say of the time between them.

use std::collections::BTreeMap;

use super::mounts::Mount;
use super::parse::{Counters, CpuTime, DiskCounters, NetCounters, Pressure, float};
use super::raw::{Mounted, Own, Space};
use crate::base::time::{Now, Timestamp};

/// Processors, in percent of the interval. `user`, `system`, `iowait`, `steal` and `idle` add up to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpu {
    /// Everything but idle and iowait (with steal: time that was wanted and not had).
    pub usage: f64,
    /// What our programs and kernel did: `usage` without steal.
    pub busy: f64,
    /// Programs, nice ones too.
    pub user: f64,
    /// The kernel, with interrupts.
    pub system: f64,
    /// Waiting for disks.
    pub iowait: f64,
    /// Taken by other virtual machines.
    pub steal: f64,
    /// Nothing to do.
    pub idle: f64,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What programs can still have without swapping.
    pub available: u64,
    /// `total - available`
    pub used: u64,
    /// Of `total`, in percent.
    pub usage: f64,
    /// Free altogether.
    pub free: Option<u64>,
    /// Contents of files.
    pub cached: Option<u64>,
    /// Contents of devices.
    pub buffers: Option<u64>,
}

/// Swap, in bytes; rates per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Swap {
    /// All of it; 0 if there is none.
    pub total: u64,
    /// What is in use.
    pub used: u64,
    /// Of `total`, in percent; none if there is none.
    pub usage: Option<f64>,
    /// Bytes read from it.
    pub read: Option<f64>,
    /// Bytes written to it.
    pub written: Option<f64>,
}

/// A file system; rates per second.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    /// Which.
    pub mount: Mount,
    /// Its room; none if it could not be asked.
    pub space: Option<Space>,
    /// Bytes in use: `total - free`.
    pub used: Option<u64>,
    /// `used / (used + available)` in percent, as `df` has it.
    pub usage: Option<f64>,
    /// Inodes in use, in percent; none where there is no fixed number.
    pub inodes_usage: Option<f64>,
    /// Bytes read from its device.
    pub read: Option<f64>,
    /// Bytes written to it.
    pub written: Option<f64>,
    /// Part of the time in which the device did anything, in percent.
    pub busy: Option<f64>,
}

/// An interface; per second, received and sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// `eth0`
    pub interface: String,
    /// Bytes; none in the first interval.
    pub bytes: Option<[f64; 2]>,
    /// Packets.
    pub packets: Option<[f64; 2]>,
    /// Wrong ones.
    pub errors: Option<[f64; 2]>,
    /// Dropped ones.
    pub drops: Option<[f64; 2]>,
}

/// What the machine did between two moments, and where it stands at the second.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The second moment.
    pub now: Now,
    /// How long the interval was; none for the first reading, which has no rates.
    pub interval_ms: Option<u64>,
    /// Processors.
    pub cpu: Option<Cpu>,
    /// How many there are.
    pub cores: Option<u32>,
    /// How many we may use, parts of them too: `cores`, or fewer.
    pub usable_cores: Option<f64>,
    /// Of 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Swap.
    pub swap: Option<Swap>,
    /// File systems, by path.
    pub disks: Option<Vec<Disk>>,
    /// Interfaces, by name.
    pub network: Option<Vec<Network>>,
    /// Pressure on processors, memory, disks.
    pub pressure: [Option<Pressure>; 3],
    /// Processes that the kernel killed for want of memory, since the start.
    pub oom_kills: Option<u64>,
    /// Pages swapped out since the start, in bytes.
    pub swapped_out: Option<u64>,
    /// Open descriptors of the machine, and how many there may be.
    pub files: Option<(u64, u64)>,
    /// For how long the machine runs, in seconds.
    pub uptime: Option<f64>,
    /// When it started.
    pub booted: Option<Timestamp>,
    /// This process.
    pub own: Own,
    /// The part of one processor that this process took, in percent.
    pub own_cpu: Option<f64>,
    /// What could not be read, in the order of this structure: `cpu`, `load`, `memory`, `swap`, `disks`, `disk:/srv`,
    /// `network`, `pressure_cpu`, `pressure_memory`, `pressure_io`, `oom_kills`, `files`, `uptime`, `process`.
    pub unavailable: Vec<String>,
}

impl Reading {
    /// What `after` says, and what lies between it and `before`.
    pub fn between(before: Option<&Counters>, after: &Counters) -> Reading {
        let since = before.and_then(|before| Since::of(before, after));
        let since = since.as_ref();
        let cores = u32::try_from(after.cpus.len()).ok().filter(|cores| *cores != 0);
        let mut reading = Reading {
            now: after.now,
            interval_ms: since.map(|since| since.ms),
            cpu: since.and_then(|since| cpu(since.before.cpu?, after.cpu?)),
            cores,
            usable_cores: usable(cores, after.quota_cores),
            load: after.load,
            memory: after.memory.as_ref().and_then(memory),
            swap: swap(since, after),
            disks: after
                .mounted
                .as_ref()
                .filter(|all| !all.is_empty())
                .map(|all| disks(since, after, all)),
            network: after.network.as_ref().map(|all| network(since, all)),
            pressure: [after.pressure_cpu, after.pressure_memory, after.pressure_io],
            oom_kills: vm(after, "oom_kill"),
            swapped_out: vm(after, "pswpout").and_then(|pages| pages.checked_mul(after.page_bytes)),
            files: after.files,
            uptime: after.uptime,
            booted: after.booted.and_then(moment),
            own: after.own,
            own_cpu: since.and_then(|since| {
                since.grown_by(since.before.own.cpu_seconds?, after.own.cpu_seconds?).map(percent)
            }),
            unavailable: Vec::new(),
        };
        reading.unavailable = unavailable(&reading, after);
        reading
    }
}

/// The moment before, and how long ago that was.
struct Since<'c> {
    before: &'c Counters,
    ms: u64,
    seconds: f64,
}

impl<'c> Since<'c> {
    /// None if no time went by.
    fn of(before: &'c Counters, after: &Counters) -> Option<Since<'c>> {
        let interval = after.now.mono.since(before.now.mono);
        let ms = u64::try_from(interval.as_millis()).ok().filter(|ms| *ms != 0)?;
        Some(Since { before, ms, seconds: interval.as_secs_f64() })
    }

    /// How much a counter grew in a second. One that went back began anew: nobody knows.
    fn rate(&self, before: u64, after: u64) -> Option<f64> {
        after.checked_sub(before).map(|grown| float(grown) / self.seconds)
    }

    fn rates(&self, before: [u64; 2], after: [u64; 2]) -> Option<[f64; 2]> {
        Some([self.rate(before[0], after[0])?, self.rate(before[1], after[1])?])
    }

    /// The same for a counter of seconds.
    fn grown_by(&self, before: f64, after: f64) -> Option<f64> {
        (before <= after).then(|| (after - before) / self.seconds)
    }
}

fn percent(ratio: f64) -> f64 {
    ratio * 100.0
}

/// `part` of `whole` in percent; none of nothing.
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole != 0).then(|| percent(float(part) / float(whole)).min(100.0))
}

/// Idle time, that of iowait and that of steal are known to go back a little now and then: then there was none. If the
/// others do, or nothing was counted, it cannot be said.
fn cpu(before: CpuTime, after: CpuTime) -> Option<Cpu> {
    let grown = |before: f64, after: f64| (before <= after).then_some(after - before);
    let at_least_0 = |before: f64, after: f64| (after - before).max(0.0);
    let user = grown(before.user, after.user)? + grown(before.nice, after.nice)?;
    let interrupts = grown(before.irq, after.irq)? + grown(before.softirq, after.softirq)?;
    let system = grown(before.system, after.system)? + interrupts;
    let iowait = at_least_0(before.iowait, after.iowait);
    let steal = at_least_0(before.steal, after.steal);
    let idle = at_least_0(before.idle, after.idle);
    let all = user + system + iowait + steal + idle;
    let part = |seconds: f64| percent(seconds / all);
    (0.0 < all).then(|| Cpu {
        usage: part(user + system + steal),
        busy: part(user + system),
        user: part(user),
        system: part(system),
        iowait: part(iowait),
        steal: part(steal),
        idle: part(idle),
    })
}

fn usable(cores: Option<u32>, quota: Option<f64>) -> Option<f64> {
    let cores = f64::from(cores?);
    Some(quota.map_or(cores, |quota| quota.min(cores)))
}

fn memory(all: &BTreeMap<String, u64>) -> Option<Memory> {
    let of = |name: &str| all.get(name).copied();
    let total = of("MemTotal").filter(|total| *total != 0)?;
    let available = of("MemAvailable").or_else(|| estimated(all))?.min(total);
    let used = total - available;
    Some(Memory {
        total,
        available,
        used,
        usage: share(used, total)?,
        free: of("MemFree"),
        cached: of("Cached"),
        buffers: of("Buffers"),
    })
}

/// `MemAvailable` as kernels before 3.14 do not say it, by the formula of later ones: what is free, and of the contents
/// of files and of what the kernel can give back all but half or the low watermark, whichever is less. The watermark
/// is five quarters of the reserve that the kernel takes if nobody sets another: the root of sixteen times all
/// memory, in kilobytes, between 128 KiB and 64 MiB.
fn estimated(all: &BTreeMap<String, u64>) -> Option<u64> {
    let of = |name: &str| all.get(name).copied();
    let total = of("MemTotal")?;
    let reserve = (total / 1024).saturating_mul(16).isqrt().clamp(128, 64 << 10) * 1024;
    let watermark = reserve / 4 * 5;
    let kept = |bytes: u64| bytes - (bytes / 2).min(watermark);
    let files = of("Active(file)")?.saturating_add(of("Inactive(file)")?);
    let given_back = kept(files).saturating_add(kept(of("SReclaimable")?));
    Some(of("MemFree")?.saturating_add(given_back).saturating_sub(watermark))
}

fn vm(counters: &Counters, name: &str) -> Option<u64> {
    counters.vm.as_ref()?.get(name).copied()
}

fn swap(since: Option<&Since<'_>>, after: &Counters) -> Option<Swap> {
    let memory = after.memory.as_ref()?;
    let total = memory.get("SwapTotal").copied()?;
    let used = total.saturating_sub(memory.get("SwapFree").copied()?);
    let rate = |name: &str| {
        let since = since?;
        let pages = since.rate(vm(since.before, name)?, vm(after, name)?)?;
        Some(pages * float(after.page_bytes))
    };
    let (read, written) = (rate("pswpin"), rate("pswpout"));
    Some(Swap { total, used, usage: share(used, total), read, written })
}

fn disks(since: Option<&Since<'_>>, after: &Counters, mounted: &[Mounted]) -> Vec<Disk> {
    let disk = |mounted: &Mounted| {
        let counted = since.and_then(|since| {
            let before = device(since.before, &mounted.mount)?;
            Some((since, before, device(after, &mounted.mount)?))
        });
        let used = mounted.space.map(|space| space.total_bytes.saturating_sub(space.free_bytes));
        let usage = |space: Space| {
            let used = used?;
            share(used, used.saturating_add(space.available_bytes))
        };
        let inodes =
            |space: Space| share(space.inodes.saturating_sub(space.inodes_free), space.inodes);
        Disk {
            mount: mounted.mount.clone(),
            space: mounted.space,
            used,
            usage: mounted.space.and_then(usage),
            inodes_usage: mounted.space.and_then(inodes),
            read: counted.and_then(|(since, a, b)| since.rate(a.read_bytes, b.read_bytes)),
            written: counted.and_then(|(since, a, b)| since.rate(a.written_bytes, b.written_bytes)),
            busy: counted.and_then(|(since, a, b)| {
                since.grown_by(a.busy_seconds, b.busy_seconds).map(|part| percent(part).min(100.0))
            }),
        }
    };
    mounted.iter().map(disk).collect()
}

/// The counters of the device of a mount. File systems that have a number of their own (btrfs, ZFS, layers) have none:
/// they may lie on several devices.
fn device<'c>(counters: &'c Counters, mount: &Mount) -> Option<&'c DiskCounters> {
    counters.disks.as_ref()?.get(counters.disk_numbers.get(&mount.number)?)
}

fn network(since: Option<&Since<'_>>, all: &BTreeMap<String, NetCounters>) -> Vec<Network> {
    let one = |(name, after): (&String, &NetCounters)| {
        let counted =
            since.and_then(|since| Some((since, since.before.network.as_ref()?.get(name)?)));
        let rates = |of: fn(&NetCounters) -> [u64; 2]| {
            counted.and_then(|(since, before)| since.rates(of(before), of(after)))
        };
        Network {
            interface: name.clone(),
            bytes: rates(|it| it.bytes),
            packets: rates(|it| it.packets),
            errors: rates(|it| it.errors),
            drops: rates(|it| it.drops),
        }
    };
    all.iter().map(one).collect()
}

fn moment(seconds: u64) -> Option<Timestamp> {
    Timestamp::from_unix_ms(i64::try_from(seconds.checked_mul(1000)?).ok()?)
}

/// What could not be read. That something is not there (no swap, no rate yet) is another thing.
fn unavailable(reading: &Reading, after: &Counters) -> Vec<String> {
    let own = reading.own;
    let process = [own.resident_bytes, own.descriptors, own.descriptors_max, own.threads];
    let process = process.iter().all(Option::is_some) && own.cpu_seconds.is_some();
    let known = [
        ("cpu", after.cpu.is_some() && reading.cores.is_some()),
        ("load", reading.load.is_some()),
        ("memory", reading.memory.is_some()),
        ("swap", reading.swap.is_some()),
        ("disks", reading.disks.is_some()),
        ("network", reading.network.is_some()),
        ("pressure_cpu", reading.pressure[0].is_some()),
        ("pressure_memory", reading.pressure[1].is_some()),
        ("pressure_io", reading.pressure[2].is_some()),
        ("oom_kills", reading.oom_kills.is_some()),
        ("files", reading.files.is_some()),
        ("uptime", reading.uptime.is_some()),
        ("process", process),
    ];
    let mut names = Vec::new();
    for (name, is_known) in known {
        if !is_known {
            names.push(name.to_owned());
        } else if name == "disks" {
            let silent = reading.disks.iter().flatten().filter(|disk| disk.space.is_none());
            names.extend(silent.map(|disk| format!("disk:{}", disk.mount.path)));
        }
    }
    names
}

#[cfg(test)]
mod tests;
