//! `/v1/server`: what this machine does, and how healthy it is. Null is what could not be read, or has no rate yet.

use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use super::reply::Reply;
use super::request::Cx;
use crate::base::limits::RECORD_EVERY;
use crate::host::parse::Pressure;
use crate::host::raw::Own;
use crate::host::reading::{self, Reading};
use crate::host::score::{self, Health};

/// What the machine does.
#[derive(Debug, Serialize, ToSchema)]
pub struct Server {
    /// When that was read.
    at: String,
    /// The interval of rates and percentages that ended then; null when there was none yet.
    interval_ms: Option<u64>,
    /// Processors.
    cpu: Cpu,
    /// Memory.
    memory: Option<Memory>,
    /// Swap.
    swap: Option<Swap>,
    /// File systems of disks, each once.
    disks: Option<Vec<Disk>>,
    /// Interfaces.
    network: Option<Vec<Network>>,
    /// Part of the time in which somebody waited.
    pressure: Pressures,
    /// Processes that the kernel killed for want of memory, since the machine started.
    oom_kills: Option<u64>,
    /// Descriptors of the machine.
    descriptors: Option<Descriptors>,
    /// For how long the machine runs.
    uptime_seconds: Option<f64>,
    /// When it started.
    booted_at: Option<String>,
    /// This process.
    process: OwnProcess,
    /// What could not be read.
    unavailable: Vec<String>,
}

/// Processors, in percent of the interval.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cpu {
    /// Everything but idle and iowait.
    usage_percent: Option<f64>,
    /// Programs.
    user_percent: Option<f64>,
    /// The kernel.
    system_percent: Option<f64>,
    /// Waiting for disks.
    iowait_percent: Option<f64>,
    /// Taken by other virtual machines.
    steal_percent: Option<f64>,
    /// Nothing to do.
    idle_percent: Option<f64>,
    /// How many processors there are.
    cores: Option<u32>,
    /// How many this server may use, parts of them too.
    usable_cores: Option<f64>,
    /// Load of 1 minute.
    load_1: Option<f64>,
    /// Of 5 minutes.
    load_5: Option<f64>,
    /// Of 15 minutes.
    load_15: Option<f64>,
}

/// Memory.
#[derive(Debug, Serialize, ToSchema)]
pub struct Memory {
    /// All of it.
    total_bytes: u64,
    /// What programs can still have without swapping.
    available_bytes: u64,
    /// The rest.
    used_bytes: u64,
    /// Of all.
    usage_percent: f64,
    /// Free altogether.
    free_bytes: Option<u64>,
    /// Contents of files.
    cached_bytes: Option<u64>,
    /// Contents of devices.
    buffers_bytes: Option<u64>,
}

/// Swap.
#[derive(Debug, Serialize, ToSchema)]
pub struct Swap {
    /// All of it; 0 if there is none.
    total_bytes: u64,
    /// What is in use.
    used_bytes: u64,
    /// Of all; null if there is none.
    usage_percent: Option<f64>,
    /// Read from it.
    read_bytes_per_second: Option<f64>,
    /// Written to it.
    written_bytes_per_second: Option<f64>,
}

/// A file system.
#[derive(Debug, Serialize, ToSchema)]
pub struct Disk {
    /// Where it is.
    mountpoint: String,
    /// What it is on.
    device: String,
    /// What it is.
    fstype: String,
    /// Whether nothing can be written to it.
    read_only: bool,
    /// Its size.
    total_bytes: Option<u64>,
    /// What is in use.
    used_bytes: Option<u64>,
    /// What anybody may still take.
    available_bytes: Option<u64>,
    /// In use, of what is in use or may be taken, as df has it.
    usage_percent: Option<f64>,
    /// Of the files it can hold; null where there is no fixed number.
    inodes_usage_percent: Option<f64>,
    /// Read from its device.
    read_bytes_per_second: Option<f64>,
    /// Written to it.
    written_bytes_per_second: Option<f64>,
    /// Part of the interval in which the device did anything.
    busy_percent: Option<f64>,
}

/// An interface.
#[derive(Debug, Serialize, ToSchema)]
pub struct Network {
    /// Its name.
    interface: String,
    /// Bytes that came.
    receive_bytes_per_second: Option<f64>,
    /// Bytes that went.
    transmit_bytes_per_second: Option<f64>,
    /// Packets that came.
    receive_packets_per_second: Option<f64>,
    /// Packets that went.
    transmit_packets_per_second: Option<f64>,
    /// Wrong ones of those that came.
    receive_errors_per_second: Option<f64>,
    /// Of those that went.
    transmit_errors_per_second: Option<f64>,
    /// Dropped ones of those that came.
    receive_drops_per_second: Option<f64>,
    /// Of those that went.
    transmit_drops_per_second: Option<f64>,
}

/// Part of the time in which somebody waited; null where the kernel does not say.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pressures {
    /// For a processor.
    cpu: Option<Waited>,
    /// For memory.
    memory: Option<Waited>,
    /// For a disk.
    io: Option<Waited>,
}

/// Percent of the last 10, 60 and 300 seconds.
#[derive(Debug, Serialize, ToSchema)]
pub struct Waited {
    /// In which some waited.
    some_avg10: f64,
    /// Of a minute.
    some_avg60: f64,
    /// Of five.
    some_avg300: f64,
    /// In which all waited.
    full_avg10: Option<f64>,
    /// Of a minute.
    full_avg60: Option<f64>,
    /// Of five.
    full_avg300: Option<f64>,
}

/// Descriptors.
#[derive(Debug, Serialize, ToSchema)]
pub struct Descriptors {
    /// Open ones.
    open: u64,
    /// How many there may be.
    max: u64,
}

/// This process.
#[derive(Debug, Serialize, ToSchema)]
pub struct OwnProcess {
    /// Memory that is resident.
    resident_bytes: Option<u64>,
    /// Of one processor, in the interval.
    cpu_percent: Option<f64>,
    /// Open descriptors.
    open_descriptors: Option<u64>,
    /// How many there may be.
    max_descriptors: Option<u64>,
    /// Threads.
    threads: Option<u64>,
}

/// How healthy the machine is.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthReply {
    /// `healthy`, `warning` or `critical`.
    status: &'static str,
    /// 0 to 100: a warning from 70 down, critical from 40 down.
    score: f64,
    /// Why, the largest first; points add up to 100 - score.
    deductions: Vec<DeductionReply>,
    /// Signals that could not be read; nothing is taken off for them.
    unavailable: Vec<&'static str>,
    /// When that was.
    at: String,
    /// In one sentence.
    text: String,
}

/// What is taken off.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeductionReply {
    /// For which signal; `cap` is what is not taken off, because no signal is worse than that.
    signal: &'static str,
    /// Its value.
    value: Option<f64>,
    /// `percent`, `per core`, `kills`, `hours`; `points` for the cap.
    unit: &'static str,
    /// What it is about: the path of the disk.
    of: Option<String>,
    /// Above this it warns; below this where it is in hours, and from this on where it is in kills.
    warn: Option<f64>,
    /// Where it is critical.
    crit: Option<f64>,
    /// What is taken off; below zero for the cap.
    points: f64,
    /// `fine`, `warning` or `critical`.
    level: &'static str,
    /// Since when; null while it is fine.
    since: Option<String>,
    /// What is the case, and what to do.
    text: String,
}

/// Parts of a unit that are told.
const PARTS: f64 = 1_000.0;

/// Whole numbers beyond this have no thousandths worth telling.
const TIDIED_MAX: f64 = 1e12;

/// A number with three digits after the point: more are noise.
fn tidy(value: f64) -> f64 {
    if value.abs() < TIDIED_MAX { (value * PARTS).round() / PARTS } else { value }
}

fn tidied(value: Option<f64>) -> Option<f64> {
    value.map(tidy)
}

impl From<&Reading> for Server {
    fn from(reading: &Reading) -> Server {
        let [cpu, memory, io] = reading.pressure.map(|pressure| pressure.map(Waited::from));
        Server {
            at: reading.now.wall.to_string(),
            interval_ms: reading.interval_ms,
            cpu: Cpu::from(reading),
            memory: reading.memory.map(Memory::from),
            swap: reading.swap.map(Swap::from),
            disks: reading.disks.as_ref().map(|all| all.iter().map(Disk::from).collect()),
            network: reading.network.as_ref().map(|all| all.iter().map(Network::from).collect()),
            pressure: Pressures { cpu, memory, io },
            oom_kills: reading.oom_kills,
            descriptors: reading.files.map(|(open, max)| Descriptors { open, max }),
            uptime_seconds: tidied(reading.uptime),
            booted_at: reading.booted.map(|at| at.to_string()),
            process: OwnProcess::of(reading.own, reading.own_cpu),
            unavailable: reading.unavailable.clone(),
        }
    }
}

impl From<&Reading> for Cpu {
    fn from(reading: &Reading) -> Cpu {
        let part = |of: fn(&reading::Cpu) -> f64| reading.cpu.as_ref().map(|cpu| tidy(of(cpu)));
        let load = |of: usize| reading.load.map(|load| load[of]);
        Cpu {
            usage_percent: part(|cpu| cpu.usage),
            user_percent: part(|cpu| cpu.user),
            system_percent: part(|cpu| cpu.system),
            iowait_percent: part(|cpu| cpu.iowait),
            steal_percent: part(|cpu| cpu.steal),
            idle_percent: part(|cpu| cpu.idle),
            cores: reading.cores,
            usable_cores: tidied(reading.usable_cores),
            load_1: load(0),
            load_5: load(1),
            load_15: load(2),
        }
    }
}

impl From<reading::Memory> for Memory {
    fn from(memory: reading::Memory) -> Memory {
        Memory {
            total_bytes: memory.total,
            available_bytes: memory.available,
            used_bytes: memory.used,
            usage_percent: tidy(memory.usage),
            free_bytes: memory.free,
            cached_bytes: memory.cached,
            buffers_bytes: memory.buffers,
        }
    }
}

impl From<reading::Swap> for Swap {
    fn from(swap: reading::Swap) -> Swap {
        Swap {
            total_bytes: swap.total,
            used_bytes: swap.used,
            usage_percent: tidied(swap.usage),
            read_bytes_per_second: tidied(swap.read),
            written_bytes_per_second: tidied(swap.written),
        }
    }
}

impl From<&reading::Disk> for Disk {
    fn from(disk: &reading::Disk) -> Disk {
        Disk {
            mountpoint: disk.mount.path.clone(),
            device: disk.mount.device.clone(),
            fstype: disk.mount.kind.clone(),
            read_only: disk.mount.read_only,
            total_bytes: disk.space.map(|space| space.total_bytes),
            used_bytes: disk.used,
            available_bytes: disk.space.map(|space| space.available_bytes),
            usage_percent: tidied(disk.usage),
            inodes_usage_percent: tidied(disk.inodes_usage),
            read_bytes_per_second: tidied(disk.read),
            written_bytes_per_second: tidied(disk.written),
            busy_percent: tidied(disk.busy),
        }
    }
}

impl From<&reading::Network> for Network {
    fn from(network: &reading::Network) -> Network {
        let pair = |rates: Option<[f64; 2]>| {
            rates.map_or((None, None), |[came, went]| (Some(tidy(came)), Some(tidy(went))))
        };
        let (receive_bytes_per_second, transmit_bytes_per_second) = pair(network.bytes);
        let (receive_packets_per_second, transmit_packets_per_second) = pair(network.packets);
        let (receive_errors_per_second, transmit_errors_per_second) = pair(network.errors);
        let (receive_drops_per_second, transmit_drops_per_second) = pair(network.drops);
        Network {
            interface: network.interface.clone(),
            receive_bytes_per_second,
            transmit_bytes_per_second,
            receive_packets_per_second,
            transmit_packets_per_second,
            receive_errors_per_second,
            transmit_errors_per_second,
            receive_drops_per_second,
            transmit_drops_per_second,
        }
    }
}

impl From<Pressure> for Waited {
    fn from(pressure: Pressure) -> Waited {
        let full = |of: usize| pressure.full.map(|(parts, _)| parts[of]);
        Waited {
            some_avg10: pressure.some[0],
            some_avg60: pressure.some[1],
            some_avg300: pressure.some[2],
            full_avg10: full(0),
            full_avg60: full(1),
            full_avg300: full(2),
        }
    }
}

impl OwnProcess {
    fn of(own: Own, cpu_percent: Option<f64>) -> OwnProcess {
        OwnProcess {
            resident_bytes: own.resident_bytes,
            cpu_percent: tidied(cpu_percent),
            open_descriptors: own.descriptors,
            max_descriptors: own.descriptors_max,
            threads: own.threads,
        }
    }
}

impl From<&Health> for HealthReply {
    fn from(health: &Health) -> HealthReply {
        HealthReply {
            status: health.word(),
            score: points(health.tenths),
            deductions: health.deductions.iter().map(DeductionReply::from).collect(),
            unavailable: health.unavailable.iter().map(|signal| signal.name()).collect(),
            at: health.at.to_string(),
            text: health.text(),
        }
    }
}

impl From<&score::Deduction> for DeductionReply {
    fn from(line: &score::Deduction) -> DeductionReply {
        DeductionReply {
            signal: line.name(),
            value: tidied(line.value),
            unit: line.unit,
            of: line.of.clone(),
            warn: line.warn,
            crit: line.crit,
            points: points(line.tenths),
            level: line.level.text(),
            since: line.since.map(|at| at.to_string()),
            text: line.text.clone(),
        }
    }
}

fn points(tenths: i32) -> f64 {
    f64::from(tenths) / 10.0
}

/// Why there is nothing to tell.
fn nothing(cx: &Cx) -> Problem {
    if cx.app().host_was_read() && cx.app().host_reading().is_none() {
        let detail = "this machine could not be read lately: the log of the server says why";
        return Problem::new("not_read", detail).retry_after(RECORD_EVERY);
    }
    let detail = "the machine is read every 10 s, and the first interval is not over yet";
    Problem::new("starting", detail).retry_after(RECORD_EVERY)
}

/// `GET /v1/server`
pub(super) fn server(cx: &Cx) -> Result<Reply, Problem> {
    let latest = cx.app().host_reading().ok_or_else(|| nothing(cx))?;
    Ok(Reply::json(&Server::from(&latest.1)))
}

/// `GET /v1/server/health`
pub(super) fn health(cx: &Cx) -> Result<Reply, Problem> {
    let health = cx.app().host_health().ok_or_else(|| nothing(cx))?;
    Ok(Reply::json(&HealthReply::from(&*health)))
}

#[cfg(test)]
mod tests;
