//! One number and one word: how healthy, and why.
//!
//! For each signal a penalty: nothing up to calm, 0 to 30 up to the warning, 30 to 60 up to critical, 60 to 100 beyond,
//! kept within the band of the signal's level, so that what has not lasted yet does not change the word. The score is
//! `100 - min(cap, top + a quarter of all others)`, where `cap` keeps the sum below the next band if `top` is. So a word
//! is critical exactly if the score is at most 40, a warning if it is at most 70. Everything is counted in tenths of a
//! point, so that points add up exactly.

use std::cmp::Reverse;
use std::time::Duration;

use super::signals::{Bounds, LEAVE, Level, Signal, State};
use crate::base::time::Timestamp;

/// What is taken off for a signal.
#[derive(Clone, Debug, PartialEq)]
pub struct Deduction {
    /// For which; none for the line that says what was not taken off because others weigh more.
    pub signal: Option<Signal>,
    /// Its value; none if there is nothing to measure any more.
    pub value: Option<f64>,
    /// What it is about: the path of the disk.
    pub of: Option<String>,
    /// `percent`, `per core`, `kills`, `hours`, `units`; `points` for the line of the cap.
    pub unit: &'static str,
    /// From where it warns.
    pub warn: Option<f64>,
    /// From where it is critical.
    pub crit: Option<f64>,
    /// Tenths of points; below zero for the line of the cap.
    pub tenths: i32,
    /// How bad it is.
    pub level: Level,
    /// Since when; none while it is fine.
    pub since: Option<Timestamp>,
    /// In words, with what to do.
    pub text: String,
}

impl Deduction {
    /// As answers call it.
    pub fn name(&self) -> &'static str {
        self.signal.map_or("cap", Signal::name)
    }
}

/// How healthy the machine is.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// In one word.
    pub level: Level,
    /// 0 to 1000 tenths.
    pub tenths: i32,
    /// Why, the largest first; they add up to 1000 - `tenths`.
    pub deductions: Vec<Deduction>,
    /// Signals that could not be read.
    pub unavailable: Vec<Signal>,
    /// When.
    pub at: Timestamp,
}

impl Health {
    /// In one sentence. It may end with a command, so there is no full stop that somebody would copy with it.
    pub fn text(&self) -> String {
        let bad = self.deductions.iter().filter(|line| line.level != Level::Fine);
        let count = bad.clone().count();
        match bad.max_by_key(|line| (line.level, line.tenths)) {
            None if !self.is_known() => {
                "nothing of this server could be read, so nobody knows how it is".to_owned()
            }
            None => "this server is healthy".to_owned(),
            Some(worst) if count == 1 => worst.text.clone(),
            Some(worst) => format!("{count} signals are not fine, the worst: {}", worst.text),
        }
    }

    /// Whether anything could be read at all.
    pub fn is_known(&self) -> bool {
        // Units are asked of systemd, and say nothing of the machine.
        let is_read = |signal: &Signal| !matches!(signal, Signal::Units | Signal::CriticalUnits);
        let missing = self.unavailable.iter().filter(|signal| is_read(signal)).count();
        missing < Signal::all().filter(is_read).count()
    }

    /// The word for all of it.
    pub fn word(&self) -> &'static str {
        match self.level {
            Level::Fine => "healthy",
            Level::Warning | Level::Critical => self.level.text(),
        }
    }
}

/// All there is to take off.
const WHOLE: i32 = 1_000;

/// Where the band of warnings begins: this, and more, is taken off.
const WARNING: i32 = 300;

/// Where the critical band begins.
const CRITICAL: i32 = 600;

/// What other signals than the worst count: one part of so many.
const OTHERS_PART: i32 = 4;

/// The least and the most that is taken off while the worst is so bad.
fn band(level: Level) -> (i32, i32) {
    match level {
        Level::Fine => (0, WARNING - 1),
        Level::Warning => (WARNING, CRITICAL - 1),
        Level::Critical => (CRITICAL, WHOLE),
    }
}

/// How healthy it is when signals stand so.
pub fn score(states: &[State], now: Timestamp) -> Health {
    let unavailable = states.iter().filter(|state| !state.known).map(|state| state.signal);
    let known = states.iter().filter(|state| state.known);
    let mut penalties: Vec<(i32, &State)> = known.map(|state| (penalty(state), state)).collect();
    // The sort is stable: of equals the first signal stands first.
    penalties.sort_by_key(|(tenths, state)| Reverse((*tenths, state.level)));
    let level = penalties.iter().map(|(_, state)| state.level).max().unwrap_or_default();
    let mut deductions = Vec::new();
    let mut sum = 0;
    for (rank, (tenths, state)) in penalties.iter().enumerate() {
        let taken = if rank == 0 { *tenths } else { tenths / OTHERS_PART };
        if 0 < taken {
            sum += taken;
            deductions.push(line(state, taken, now));
        }
    }
    let (_, cap) = band(level);
    if cap < sum {
        deductions.push(cap_line(cap - sum, level));
    }
    let tenths = WHOLE - sum.min(cap);
    Health { level, tenths, deductions, unavailable: unavailable.collect(), at: now }
}

fn line(state: &State, tenths: i32, now: Timestamp) -> Deduction {
    let bounds = state.signal.bounds();
    Deduction {
        signal: Some(state.signal),
        value: state.value,
        of: state.of.clone(),
        unit: bounds.unit.text(),
        warn: Some(bounds.warn),
        crit: Some(bounds.crit),
        tenths,
        level: state.level,
        since: (state.level != Level::Fine).then_some(state.since),
        text: text(state, now),
    }
}

fn cap_line(tenths: i32, level: Level) -> Deduction {
    let text = match level {
        Level::Fine => "no signal is bad enough for a warning, so all together are none",
        Level::Warning => "no signal is critical, so all together are not",
        Level::Critical => "there is no score below 0",
    };
    Deduction {
        signal: None,
        value: None,
        of: None,
        unit: "points",
        warn: None,
        crit: None,
        tenths,
        level: Level::Fine,
        since: None,
        text: text.to_owned(),
    }
}

/// Tenths that are taken off for this signal if it is the worst, within the band of its level.
fn penalty(state: &State) -> i32 {
    let bounds = state.signal.bounds();
    let (least, most) = band(state.level);
    let points = state.value.map_or(0.0, |value| points(value, bounds));
    #[expect(clippy::cast_possible_truncation, reason = "it lies within 0 and 1000")]
    let tenths = (points * 10.0).round() as i32;
    tenths.clamp(least, most)
}

/// 0 to 100, however long it lasted.
fn points(value: f64, bounds: &Bounds) -> f64 {
    let sign = if bounds.is_reversed() { -1.0 } else { 1.0 };
    let value = value * sign;
    let parts = [
        (bounds.calm, bounds.warn, 0.0, 30.0),
        (bounds.warn, bounds.crit, 30.0, 60.0),
        (bounds.crit, bounds.max, 60.0, 100.0),
    ];
    for (from, to, least, most) in parts {
        let (from, to) = (from * sign, to * sign);
        if value <= from {
            return least;
        }
        if value <= to {
            return least + (most - least) * ((value - from) / (to - from));
        }
    }
    100.0
}

/// What is the case, for how long, and what to do.
fn text(state: &State, now: Timestamp) -> String {
    let bounds = state.signal.bounds();
    let fact = fact(state);
    let threshold = match state.level {
        Level::Fine => {
            let is_over = |threshold| state.value.is_some_and(|v| bounds.exceeds(v, threshold));
            return if is_over(bounds.warn) {
                format!("{fact}, but not for {} yet", length(bounds.enter))
            } else {
                format!("{fact}; that is no reason to worry yet")
            };
        }
        Level::Warning => bounds.warn,
        Level::Critical => bounds.crit,
    };
    match state.value {
        Some(value) if bounds.is_low(value, threshold) => format!(
            "{fact}, which is better than it was: this is over when it stays so for {}",
            length(LEAVE)
        ),
        None => format!("{fact}, which is better than it was: this is over in {}", length(LEAVE)),
        Some(_) => {
            let lasts = now.since(state.since);
            let is_told = LASTS_TOLD <= lasts && !names_its_time(state.signal);
            let lasts = if is_told { format!(" for {}", length(lasts)) } else { String::new() };
            format!("{fact}{lasts}: {}", advice(state))
        }
    }
}

/// Shorter than this nobody needs to be told how long something lasts.
const LASTS_TOLD: Duration = Duration::from_mins(1);

/// Whether what is the case is told with a time of its own, so that a second one would confuse.
fn names_its_time(signal: Signal) -> bool {
    matches!(signal, Signal::SwapOut | Signal::OomKills | Signal::DiskEta)
}

/// What is the case.
fn fact(state: &State) -> String {
    let of = state.of.as_deref().unwrap_or("/");
    let Some(value) = state.value else { return nothing(state.signal) };
    let number = number(value);
    match state.signal {
        Signal::Cpu => format!("processors are {number} % busy (mean of 5 min)"),
        Signal::Memory => format!("memory is {number} % full"),
        Signal::Disk => format!("the disk of {of} is {number} % full"),
        Signal::Load => format!("{number} tasks run or wait for each processor (mean of 5 min)"),
        Signal::PressureCpu => format!("something waits for a processor {number} % of the time"),
        Signal::PressureMemory => format!("everything waits for memory {number} % of the time"),
        Signal::PressureIo => format!("everything waits for disks {number} % of the time"),
        Signal::Swap => format!("swap is {number} % full"),
        Signal::SwapOut => {
            format!("{number} % of the size of memory was swapped out in the last 30 min")
        }
        Signal::Inodes => {
            format!("the disk of {of} holds {number} % of the files it can hold (inodes)")
        }
        Signal::OomKills => match number.as_str() {
            "1" => "the kernel killed a process in the last 30 min because memory ran out".into(),
            _ => format!(
                "the kernel killed {number} processes in the last 30 min because memory ran out"
            ),
        },
        Signal::Files => format!("the machine has {number} % of its descriptors open"),
        Signal::OwnFiles => format!("holdfast has {number} % of its descriptors open"),
        Signal::Steal => format!(
            "other virtual machines took {number} % of the processors' time (mean of 20 min)"
        ),
        Signal::DiskEta => {
            format!("the disk of {of} is full in {} if this goes on", eta(value))
        }
        Signal::Units | Signal::CriticalUnits => match &state.of {
            Some(units) if number == "1" => format!("{units} has failed"),
            Some(units) => format!("{number} units have failed: {units}"),
            None => "no unit has failed".to_owned(),
        },
    }
}

/// What is the case when there is nothing to measure.
fn nothing(signal: Signal) -> String {
    match signal {
        Signal::DiskEta => "no disk fills up any more".to_owned(),
        Signal::Swap => "there is no swap any more".to_owned(),
        Signal::Cpu
        | Signal::Memory
        | Signal::Disk
        | Signal::Load
        | Signal::PressureCpu
        | Signal::PressureMemory
        | Signal::PressureIo
        | Signal::SwapOut
        | Signal::Inodes
        | Signal::OomKills
        | Signal::Files
        | Signal::OwnFiles
        | Signal::Steal
        | Signal::Units
        | Signal::CriticalUnits => format!("there is no {} to measure any more", signal.name()),
    }
}

/// What to do.
fn advice(state: &State) -> String {
    let of = quoted(state.of.as_deref().unwrap_or("/"));
    let fixed = match state.signal {
        Signal::Cpu => "see which process it is with: ps aux --sort=-pcpu | head",
        Signal::Memory => "see which process it is with: ps aux --sort=-rss | head",
        Signal::Disk | Signal::DiskEta => {
            return format!("see what is large with: sudo du -xh {of} | sort -h | tail");
        }
        Signal::Inodes => {
            return format!(
                "see where many small files are with: sudo du -x --inodes {of} | sort -n | tail"
            );
        }
        Signal::Load => {
            "see what runs (R) or waits for a disk (D) with: ps -eo state,pid,args | grep '^[RD]'"
        }
        Signal::PressureCpu => {
            "there is more to do than processors for it; see what it is with: ps aux --sort=-pcpu | head"
        }
        Signal::PressureMemory | Signal::SwapOut => {
            "memory is too small for what runs; see what it is with: ps aux --sort=-rss | head"
        }
        Signal::PressureIo => "see what waits for a disk with: ps -eo state,pid,args | grep '^D'",
        Signal::Swap => {
            "see whose it is with: grep VmSwap /proc/[0-9]*/status | sort -n -k 2 | tail"
        }
        Signal::OomKills => "see which with: journalctl -k --grep='Killed process'",
        Signal::Files => {
            "close them (see who has them with: sudo lsof -n | awk '{print $1}' | sort | uniq -c | sort -n | tail) or raise fs.file-max"
        }
        Signal::OwnFiles => {
            "see who connects with: sudo ss -xtnp | grep holdfast, or raise LimitNOFILE of its unit"
        }
        Signal::Steal => "nothing on this server causes that; ask its provider",
        Signal::Units | Signal::CriticalUnits => {
            let units = state.of.as_deref().unwrap_or("--failed");
            return format!("see why with: systemctl status {units}");
        }
    };
    fixed.to_owned()
}

/// As a person writes it: whole from ten on, one digit more below.
fn number(value: f64) -> String {
    let text = if value.abs() < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") };
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// A number of hours as a person says it.
fn eta(hours: f64) -> String {
    if hours < 1.0 {
        "less than an hour".to_owned()
    } else if hours < 48.0 {
        format!("{} h", number(hours.floor()))
    } else {
        format!("{} days", number((hours / 24.0).floor()))
    }
}

/// A length of time as a person says it.
fn length(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    match minutes {
        0..120 => format!("{minutes} min"),
        120..2_880 => format!("{} h", minutes / 60),
        _ => format!("{} days", minutes / 1_440),
    }
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@".contains(&byte);
    if path.bytes().all(is_plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
