//! Signals of health, each with a value over its window and a level that does not flap.
//!
//! A level is entered when its threshold was exceeded (`>`, not `>=`; what is counted: reached) for the signal's time,
//! and left when the value was at or below nine tenths of it (a percentage: at most five points below it) for
//! [`LEAVE`]. One that cannot be read is listed as such and counts nothing; it keeps no level.
//!
//! ```text
//!           > threshold for its time               > threshold for its time
//!   fine -----------------------------> warning -----------------------------> critical
//!        <-----------------------------         <-----------------------------
//!          low enough for five minutes            low enough for five minutes
//! ```
//!
//! **Invariants**
//! - A level is entered only for what was seen: time without readings (the machine slept, the server stood still)
//!   counts for no entering. A mean is of what there is, so after a start it moves more; the time to enter is what keeps
//!   it from being a false alarm.
//! - What the kernel counts (kills, pages swapped out) counts as far as it was seen to grow: what happened before the
//!   first reading is not news.
//! - One reading that misses something does not end anything: a signal is unknown when it was not read for [`GAP`].

use std::collections::VecDeque;
use std::time::Duration;

use super::reading::{Disk, Reading};
use crate::base::limits::HOST_UNITS_MAX;
use crate::base::time::{Mono, Now, Timestamp};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Busy processors, without iowait and steal: mean of 5 minutes.
    Cpu,
    /// Memory in use: mean of 1 minute.
    Memory,
    /// The fullest disk.
    Disk,
    /// Load of 5 minutes per usable processor (of at least one).
    Load,
    /// Part of the last minute in which somebody waited for a processor.
    PressureCpu,
    /// Part of the last minute in which everybody waited for memory.
    PressureMemory,
    /// Part of the last minute in which everybody waited for a disk.
    PressureIo,
    /// Swap in use.
    Swap,
    /// What was swapped out in 30 minutes, of all memory.
    SwapOut,
    /// The disk with the fewest inodes left.
    Inodes,
    /// Processes killed for want of memory in 30 minutes.
    OomKills,
    /// Descriptors of the machine in use.
    Files,
    /// Our own descriptors in use.
    OwnFiles,
    /// Taken by other virtual machines: mean of 20 minutes.
    Steal,
    /// Hours until a disk is full (only when that can be told).
    DiskEta,
    /// Units of systemd that have failed, of those that the settings name.
    Units,
    /// The same of those without which the shop is closed.
    CriticalUnits,
}

/// What a signal is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Of 100.
    Percent,
    /// For each processor.
    PerCore,
    /// Whole ones, where the threshold itself is too many.
    Kills,
    /// The same, of units of systemd.
    Units,
    /// Left, where fewer are worse.
    Hours,
}

impl Unit {
    /// As answers spell it.
    pub fn text(self) -> &'static str {
        match self {
            Unit::Percent => "percent",
            Unit::PerCore => "per core",
            Unit::Kills => "kills",
            Unit::Units => "units",
            Unit::Hours => "hours",
        }
    }
}

/// From where a signal counts, and for how long it must.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Of which signal.
    pub signal: Signal,
    /// As answers and series call it.
    pub name: &'static str,
    /// What values are.
    pub unit: Unit,
    /// Up to here nothing is taken off.
    pub calm: f64,
    /// From here somebody should look.
    pub warn: f64,
    /// From here somebody must.
    pub crit: f64,
    /// From here it cannot be worse.
    pub max: f64,
    /// A threshold must have been exceeded for so long.
    pub enter: Duration,
}

const MINUTE: Duration = Duration::from_mins(1);

/// At once: what is slow by nature, or has happened.
const AT_ONCE: Duration = Duration::ZERO;

const fn bounds(
    (signal, name): (Signal, &'static str),
    unit: Unit,
    [calm, warn, crit, max]: [f64; 4],
    enter: Duration,
) -> Bounds {
    Bounds { signal, name, unit, calm, warn, crit, max, enter }
}

/// All of them, in the order of [`Signal`]: unit, `[calm, warn, crit, max]`, time to enter.
///
/// Thresholds of the first four are those that shops ask for, with a processor that is busy for five minutes, not for a
/// moment. The others, and why so:
const BOUNDS: [Bounds; 17] = [
    bounds(
        (Signal::Cpu, "cpu"),
        Unit::Percent,
        [50.0, 70.0, 90.0, 100.0],
        MINUTE.saturating_mul(5),
    ),
    bounds(
        (Signal::Memory, "memory"),
        Unit::Percent,
        [60.0, 80.0, 90.0, 100.0],
        MINUTE.saturating_mul(2),
    ),
    bounds((Signal::Disk, "disk"), Unit::Percent, [70.0, 85.0, 95.0, 100.0], AT_ONCE),
    bounds((Signal::Load, "load"), Unit::PerCore, [1.0, 1.5, 2.0, 4.0], MINUTE.saturating_mul(5)),
    // Where all processors are busy somebody always waits a little; a build does it for minutes.
    bounds(
        (Signal::PressureCpu, "psi_cpu"),
        Unit::Percent,
        [20.0, 40.0, 70.0, 100.0],
        MINUTE.saturating_mul(5),
    ),
    // Hurts at once; at 60 systemd begins to end processes.
    bounds((Signal::PressureMemory, "psi_memory"), Unit::Percent, [1.0, 5.0, 20.0, 60.0], MINUTE),
    // A backup keeps a disk busy for minutes, and nobody minds.
    bounds(
        (Signal::PressureIo, "psi_io"),
        Unit::Percent,
        [5.0, 15.0, 40.0, 80.0],
        MINUTE.saturating_mul(5),
    ),
    // What was swapped out once and is not missed does no harm: half of it is calm.
    bounds(
        (Signal::Swap, "swap"),
        Unit::Percent,
        [50.0, 80.0, 95.0, 100.0],
        MINUTE.saturating_mul(2),
    ),
    bounds((Signal::SwapOut, "swap_out"), Unit::Percent, [5.0, 20.0, 30.0, 100.0], AT_ONCE),
    bounds((Signal::Inodes, "inodes"), Unit::Percent, [70.0, 85.0, 95.0, 100.0], AT_ONCE),
    bounds((Signal::OomKills, "oom_kill"), Unit::Kills, [0.0, 1.0, 3.0, 5.0], AT_ONCE),
    // A burst of connections is over in a minute.
    bounds((Signal::Files, "fd"), Unit::Percent, [50.0, 80.0, 90.0, 100.0], MINUTE),
    bounds((Signal::OwnFiles, "own_fd"), Unit::Percent, [50.0, 80.0, 90.0, 100.0], MINUTE),
    // Half of its window, so that the first readings after a start do not decide.
    bounds(
        (Signal::Steal, "steal"),
        Unit::Percent,
        [3.0, 10.0, 25.0, 50.0],
        MINUTE.saturating_mul(10),
    ),
    // A forecast is looked at again every minute; two days do not depend on ten of them.
    bounds(
        (Signal::DiskEta, "disk_eta"),
        Unit::Hours,
        [168.0, 48.0, 8.0, 0.0],
        MINUTE.saturating_mul(10),
    ),
    // However many fail that the shop can do without, it is open.
    bounds(
        (Signal::Units, "units"),
        Unit::Units,
        [0.0, 1.0, UNITS_NEVER, 2.0 * UNITS_NEVER],
        AT_ONCE,
    ),
    bounds((Signal::CriticalUnits, "critical_units"), Unit::Units, [0.0, 1.0, 1.0, 3.0], AT_ONCE),
];

/// More units than can be named.
const UNITS_NEVER: f64 = 100.0;
const _: () = assert!(HOST_UNITS_MAX < 100);

/// A level is left when the value was low enough for so long.
pub const LEAVE: Duration = Duration::from_mins(5);

/// Readings further apart than this say nothing of the time between them: six of them are missing.
pub const GAP: Duration = Duration::from_mins(1);

/// The part of a threshold that a value must come down to.
const LEAVE_PART: f64 = 0.9;

/// A percentage need not come down further than so many points.
const LEAVE_POINTS: f64 = 5.0;

impl Signal {
    /// All, in their order.
    pub fn all() -> impl Iterator<Item = Signal> {
        BOUNDS.iter().map(|bounds| bounds.signal)
    }

    /// From where it counts.
    pub fn bounds(self) -> &'static Bounds {
        &BOUNDS[self as usize]
    }

    /// As answers and series call it.
    pub fn name(self) -> &'static str {
        self.bounds().name
    }
}

impl Bounds {
    /// Whether fewer are worse.
    pub fn is_reversed(&self) -> bool {
        self.max < self.calm
    }

    /// Whether a value is too much by this threshold.
    pub fn exceeds(&self, value: f64, threshold: f64) -> bool {
        match self.unit {
            Unit::Percent | Unit::PerCore => threshold < value,
            Unit::Kills | Unit::Units => threshold <= value,
            Unit::Hours => value < threshold,
        }
    }

    /// Whether a value is so low that a level is left when it stays so.
    pub fn is_low(&self, value: f64, threshold: f64) -> bool {
        match self.unit {
            Unit::Percent => value <= (threshold * LEAVE_PART).max(threshold - LEAVE_POINTS),
            Unit::PerCore | Unit::Kills | Unit::Units => value <= threshold * LEAVE_PART,
            Unit::Hours => threshold / LEAVE_PART <= value,
        }
    }
}

/// How bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not.
    #[default]
    Fine,
    /// Somebody should look.
    Warning,
    /// Now.
    Critical,
}

impl Level {
    /// As answers spell it.
    pub fn text(self) -> &'static str {
        match self {
            Level::Fine => "fine",
            Level::Warning => "warning",
            Level::Critical => "critical",
        }
    }
}

/// A signal at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Which.
    pub signal: Signal,
    /// Whether it could be read.
    pub known: bool,
    /// Its value over its window; none if it is not known, and if there is nothing to measure: there is no swap, no
    /// disk will be full.
    pub value: Option<f64>,
    /// What it is about: the path of the disk.
    pub of: Option<String>,
    /// How bad, with its times of entering and leaving.
    pub level: Level,
    /// Since when it is so bad, or worse. The time it took to enter is part of it.
    pub since: Timestamp,
}

/// What readings do not tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beside {
    /// The disk that will be full first, and in how many hours; none when none will be, as far as can be told.
    pub disk_eta: Option<(String, f64)>,
    /// Whether somebody looked for that at all.
    pub disk_eta_known: bool,
    /// Units of systemd, those that count and those that are critical.
    pub units: [Units; 2],
}

/// How units of systemd stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Units {
    /// None was asked for.
    #[default]
    NotAsked,
    /// Systemd did not say.
    Unknown,
    /// These have failed, or are not there.
    Failed(Vec<String>),
}

impl Units {
    fn measured(&self) -> Measured {
        match self {
            Units::NotAsked => Measured::Nothing,
            Units::Unknown => Measured::Unread,
            Units::Failed(names) => {
                let count = u32::try_from(names.len()).map_or(UNITS_NEVER, f64::from);
                Measured::is(count, (!names.is_empty()).then(|| names.join(" ")))
            }
        }
    }
}

/// The signals over time. Memory is bounded: windows are kept in slots.
#[derive(Clone, Debug)]
pub struct Signals {
    noted: Option<Now>,
    tracks: Vec<Track>,
    cpu: Window,
    memory: Window,
    steal: Window,
    swapped_out: Increases,
    oom_kills: Increases,
}

impl Default for Signals {
    fn default() -> Signals {
        Signals {
            noted: None,
            tracks: vec![Track::default(); BOUNDS.len()],
            cpu: Window::new(MINUTE * 5),
            memory: Window::new(MINUTE),
            steal: Window::new(MINUTE * 20),
            swapped_out: Increases::new(MINUTE * 30),
            oom_kills: Increases::new(MINUTE * 30),
        }
    }
}

impl Signals {
    /// Takes a reading; readings come about every ten seconds, but may be missing for hours.
    pub fn note(&mut self, reading: &Reading, beside: &Beside) {
        let now = reading.now;
        let gap = self.noted.map_or(Duration::ZERO, |noted| between(noted, now));
        self.noted = Some(now);
        for bounds in &BOUNDS {
            let measured = self.measure(bounds.signal, reading, beside, gap);
            self.tracks[bounds.signal as usize].step(bounds, now, measured, gap);
        }
    }

    /// How they all stand, in the order of [`Signal`].
    pub fn states(&self) -> Vec<State> {
        BOUNDS.iter().zip(&self.tracks).map(|(bounds, track)| track.state(bounds.signal)).collect()
    }

    /// When a reading was last taken.
    pub fn noted_at(&self) -> Option<Mono> {
        self.noted.map(|noted| noted.mono)
    }

    fn measure(
        &mut self,
        signal: Signal,
        reading: &Reading,
        beside: &Beside,
        gap: Duration,
    ) -> Measured {
        let now = reading.now;
        let lasted = Duration::from_millis(reading.interval_ms.unwrap_or_default());
        let plain = |value: Option<f64>| Measured::of(value);
        match signal {
            Signal::Cpu => {
                let busy = reading.cpu.map(|cpu| cpu.busy);
                plain(self.cpu.mean_with(now.mono, busy, lasted, gap))
            }
            Signal::Steal => {
                let steal = reading.cpu.map(|cpu| cpu.steal);
                plain(self.steal.mean_with(now.mono, steal, lasted, gap))
            }
            Signal::Memory => {
                // A reading of a moment stands for one moment, however far the one before lies back.
                let usage = reading.memory.map(|memory| memory.usage);
                plain(self.memory.mean_with(now.mono, usage, ONE_MOMENT, gap))
            }
            Signal::SwapOut => {
                let bytes = self.swapped_out.sum_with(now, reading.swapped_out);
                let total = reading.memory.map(|memory| memory.total);
                plain(bytes.zip(total).and_then(|(bytes, total)| percent(bytes, as_f64(total))))
            }
            Signal::OomKills => plain(self.oom_kills.sum_with(now, reading.oom_kills)),
            Signal::DiskEta => match (&beside.disk_eta, beside.disk_eta_known) {
                (_, false) => Measured::Unread,
                (None, true) => Measured::Nothing,
                (Some((disk, hours)), true) => Measured::is(*hours, Some(disk.clone())),
            },
            Signal::Units => beside.units[0].measured(),
            Signal::CriticalUnits => beside.units[1].measured(),
            Signal::Disk
            | Signal::Load
            | Signal::PressureCpu
            | Signal::PressureMemory
            | Signal::PressureIo
            | Signal::Swap
            | Signal::Inodes
            | Signal::Files
            | Signal::OwnFiles => of_the_moment(signal, reading),
        }
    }
}

/// What a reading says of signals that need no other reading.
fn of_the_moment(signal: Signal, reading: &Reading) -> Measured {
    let full = |pressure: usize| {
        let full = reading.pressure[pressure].and_then(|pressure| pressure.full);
        Measured::of(full.map(|(parts, _)| parts[1]))
    };
    match signal {
        Signal::Disk => worst(reading, |disk| disk.usage),
        Signal::Inodes => worst(reading, |disk| disk.inodes_usage),
        Signal::Load => {
            let cores = reading.usable_cores.or(reading.cores.map(f64::from));
            let load = reading.load.zip(cores);
            Measured::of(load.map(|([_, five, _], cores)| five / cores.max(1.0)))
        }
        Signal::PressureCpu => Measured::of(reading.pressure[0].map(|pressure| pressure.some[1])),
        Signal::PressureMemory => full(1),
        Signal::PressureIo => full(2),
        Signal::Swap => match reading.swap {
            Some(swap) if swap.total == 0 => Measured::Nothing,
            swap => Measured::of(swap.and_then(|swap| swap.usage)),
        },
        Signal::Files => Measured::of(reading.files.and_then(|(open, max)| part(open, max))),
        Signal::OwnFiles => {
            let own = reading.own.descriptors.zip(reading.own.descriptors_max);
            Measured::of(own.and_then(|(open, max)| part(open, max)))
        }
        Signal::Cpu
        | Signal::Memory
        | Signal::SwapOut
        | Signal::OomKills
        | Signal::Steal
        | Signal::DiskEta
        | Signal::Units
        | Signal::CriticalUnits => Measured::Unread,
    }
}

/// The disk of which most is in use. One that nothing can be written to is as full as it is meant to be.
fn worst(reading: &Reading, usage: impl Fn(&Disk) -> Option<f64>) -> Measured {
    let disks = reading.disks.iter().flatten().filter(|disk| !disk.mount.read_only);
    let known = disks.filter_map(|disk| usage(disk).map(|usage| (usage, &disk.mount.path)));
    let most = known.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)));
    most.map_or(Measured::Unread, |(usage, path)| Measured::is(usage, Some(path.clone())))
}

fn part(some: u64, all: u64) -> Option<f64> {
    percent(as_f64(some), as_f64(all))
}

fn percent(some: f64, all: f64) -> Option<f64> {
    (0.0 < all).then(|| 100.0 * some / all)
}

#[expect(clippy::cast_precision_loss, reason = "a percentage of it is wanted, not its last byte")]
fn as_f64(whole: u64) -> f64 {
    whole as f64
}

/// How far two moments lie apart: by the longer of both clocks, as one stands still while the machine sleeps.
fn between(earlier: Now, later: Now) -> Duration {
    later.mono.since(earlier.mono).max(later.wall.since(earlier.wall))
}

/// What one reading says of a signal.
#[derive(Clone, Debug, PartialEq)]
enum Measured {
    /// It could not be read, or not yet.
    Unread,
    /// There is nothing to measure.
    Nothing,
    /// This, of that.
    Is(f64, Option<String>),
}

impl Measured {
    fn of(value: Option<f64>) -> Measured {
        value.map_or(Measured::Unread, |value| Measured::is(value, None))
    }

    /// What is no number was not read.
    fn is(value: f64, of: Option<String>) -> Measured {
        if value.is_finite() { Measured::Is(value, of) } else { Measured::Unread }
    }
}

/// A signal over time.
#[derive(Clone, Debug, Default)]
struct Track {
    /// When it was last read.
    read: Option<Now>,
    value: Option<f64>,
    of: Option<String>,
    /// Since when neither threshold counts.
    fine_since: Option<Timestamp>,
    warn: Flag,
    crit: Flag,
}

impl Track {
    fn step(&mut self, bounds: &Bounds, now: Now, measured: Measured, gap: Duration) {
        let (value, of) = match measured {
            Measured::Unread => {
                if self.read.is_some_and(|read| GAP < between(read, now)) {
                    *self = Track::default();
                }
                return;
            }
            Measured::Nothing => (None, None),
            Measured::Is(value, of) => (Some(value), of),
        };
        (self.read, self.value, self.of) = (Some(now), value, of);
        self.fine_since.get_or_insert(now.wall);
        let was_up = self.warn.up.is_some();
        for (flag, threshold) in [(&mut self.warn, bounds.warn), (&mut self.crit, bounds.crit)] {
            let side = match value {
                Some(value) if bounds.exceeds(value, threshold) => Side::Over,
                Some(value) if !bounds.is_low(value, threshold) => Side::Between,
                _ => Side::Low,
            };
            flag.step(now, side, bounds.enter, gap);
        }
        if was_up && self.warn.up.is_none() {
            self.fine_since = Some(now.wall);
        }
    }

    fn state(&self, signal: Signal) -> State {
        let (level, since) = match (self.crit.up, self.warn.up) {
            (Some(since), _) => (Level::Critical, since),
            (None, Some(since)) => (Level::Warning, since),
            (None, None) => (Level::Fine, self.fine_since.unwrap_or(Timestamp::MIN)),
        };
        let known = self.read.is_some();
        State { signal, known, value: self.value, of: self.of.clone(), level, since }
    }
}

/// Where a value lies by a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Over,
    /// Not over it, and not low enough to leave.
    Between,
    Low,
}

/// A threshold over time.
#[derive(Clone, Copy, Debug, Default)]
struct Flag {
    /// Since when it counts as exceeded.
    up: Option<Timestamp>,
    /// Since when it was exceeded in every reading.
    over: Option<Now>,
    /// Since when every reading was low.
    low: Option<Now>,
}

impl Flag {
    fn step(&mut self, now: Now, side: Side, enter: Duration, gap: Duration) {
        if GAP < gap {
            (self.over, self.low) = (None, None);
        }
        let kept = |since: Option<Now>, is: bool| is.then(|| since.unwrap_or(now));
        self.over = kept(self.over, side == Side::Over);
        self.low = kept(self.low, side == Side::Low);
        let lasted = |since: Option<Now>, time: Duration| {
            since.is_some_and(|since| time <= now.mono.since(since.mono))
        };
        match self.up {
            None if lasted(self.over, enter) => self.up = self.over.map(|over| over.wall),
            // After a long silence nothing says that it lasted until now.
            Some(_) if lasted(self.low, LEAVE) || (self.low.is_some() && LEAVE <= gap) => {
                self.up = None;
            }
            None | Some(_) => (),
        }
    }
}

/// Parts of a window.
const SLOTS: u64 = 30;

/// Means are told to one part of so many.
const FINEST: f64 = 1e9;

/// What a reading of a moment weighs.
const ONE_MOMENT: Duration = Duration::from_secs(1);

/// Sums over the last so many seconds, in [`SLOTS`] parts.
#[derive(Clone, Debug)]
struct Window {
    length: Duration,
    /// Number of the slot since the clock began, sum of values times weight, sum of weights.
    slots: VecDeque<(u64, f64, f64)>,
}

impl Window {
    fn new(length: Duration) -> Window {
        Window { length, slots: VecDeque::new() }
    }

    fn slot(&self, now: Mono) -> u64 {
        let length = u64::try_from(self.length.as_nanos()).unwrap_or(u64::MAX);
        now.ns() / (length / SLOTS).max(1)
    }

    fn forget_old(&mut self, now: Mono) {
        let slot = self.slot(now);
        while self.slots.front().is_some_and(|old| old.0.saturating_add(SLOTS) <= slot) {
            self.slots.pop_front();
        }
    }

    fn add(&mut self, now: Mono, value: f64, weight: f64) {
        self.forget_old(now);
        let slot = self.slot(now);
        match self.slots.back_mut() {
            // A stop-watch that went back is no stop-watch; what it says goes to the newest slot.
            Some(last) if slot <= last.0 => (last.1, last.2) = (last.1 + value, last.2 + weight),
            _ => self.slots.push_back((slot, value, weight)),
        }
    }

    /// Notes a value that held for `lasted`, and says the mean; none if this reading has none.
    fn mean_with(
        &mut self,
        now: Mono,
        value: Option<f64>,
        lasted: Duration,
        gap: Duration,
    ) -> Option<f64> {
        if self.length <= gap {
            self.slots.clear();
        }
        let value = value?;
        let weight = lasted.min(self.length).max(Duration::from_millis(1)).as_secs_f64();
        self.add(now, value * weight, weight);
        let (sum, weight) =
            self.slots.iter().fold((0.0, 0.0), |all, slot| (all.0 + slot.1, all.1 + slot.2));
        // Weights are no round numbers: a mean of nothing but 80 must not be a hair above it.
        Some((sum / weight * FINEST).round() / FINEST)
    }
}

/// How much a counter grew in the last so many seconds, as far as it was seen.
#[derive(Clone, Debug)]
struct Increases {
    window: Window,
    last: Option<(u64, Now)>,
}

impl Increases {
    fn new(length: Duration) -> Increases {
        Increases { window: Window::new(length), last: None }
    }

    /// Takes what the counter says, and says the sum; none before there were two of them.
    fn sum_with(&mut self, now: Now, count: Option<u64>) -> Option<f64> {
        let count = count?;
        let (last, at) = self.last.replace((count, now))?;
        if self.window.length <= between(at, now) {
            // Nobody knows when in all that time it grew.
            self.window.slots.clear();
        } else if let Some(more) = count.checked_sub(last)
            && 0 < more
        {
            self.window.add(now.mono, as_f64(more), 0.0);
        }
        self.window.forget_old(now.mono);
        Some(self.window.slots.iter().map(|slot| slot.1).sum())
    }
}

#[cfg(test)]
mod tests;
