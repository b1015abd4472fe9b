//! Windows, times to enter and to leave, silence.

use std::time::Duration;

use super::{Beside, Bounds, GAP, LEAVE, Level, Signal, Signals, State, Unit, Units};
use crate::base::rng::Rng;
use crate::base::time::{Mono, Now, Timestamp};
use crate::host::mounts::Mount;
use crate::host::parse::Pressure;
use crate::host::raw::Own;
use crate::host::reading::{Cpu, Disk, Memory, Reading, Swap};
use crate::testing::{amount, seeds};

const STEP: Duration = Duration::from_secs(10);
const GIB: u64 = 1 << 30;

fn at(seconds: u64) -> Now {
    let wall = Timestamp::from_unix_ms(1_700_000_000_000).unwrap();
    let passed = Duration::from_secs(seconds);
    Now { wall: wall.plus(passed), mono: Mono::from_ns(5).plus(passed) }
}

/// A reading that says nothing at all.
fn silent(now: Now) -> Reading {
    Reading {
        now,
        interval_ms: Some(10_000),
        cpu: None,
        cores: None,
        usable_cores: None,
        load: None,
        memory: None,
        swap: None,
        disks: None,
        network: None,
        pressure: [None; 3],
        oom_kills: None,
        swapped_out: None,
        files: None,
        uptime: None,
        booted: None,
        own: Own::default(),
        own_cpu: None,
        unavailable: Vec::new(),
    }
}

fn cpu(busy: f64, steal: f64) -> Cpu {
    let usage = busy + steal;
    Cpu { usage, busy, user: busy, system: 0.0, iowait: 0.0, steal, idle: 100.0 - usage }
}

fn memory(usage: f64) -> Memory {
    let total = GIB;
    Memory { total, available: 0, used: 0, usage, free: None, cached: None, buffers: None }
}

fn swap(usage: f64) -> Swap {
    Swap { total: GIB, used: 0, usage: Some(usage), read: None, written: None }
}

fn disk(path: &str, usage: Option<f64>, inodes_usage: Option<f64>) -> Disk {
    let mount = Mount {
        path: path.to_owned(),
        device: "/dev/vda1".to_owned(),
        kind: "ext4".to_owned(),
        read_only: false,
        number: "254:1".to_owned(),
    };
    let (space, used, read, written, busy) = (None, None, None, None, None);
    Disk { mount, space, used, usage, inodes_usage, read, written, busy }
}

fn waited(some: f64, full: f64) -> Pressure {
    let (some, full) = ([0.0, some, 0.0], Some(([0.0, full, 0.0], 0.0)));
    Pressure { some, some_seconds: 0.0, full }
}

/// A machine on which one signal has this value, and no other is known.
///
/// What the kernel counts is told once as nothing before.
fn with(signal: Signal, value: f64, now: Now) -> (Reading, Beside) {
    let mut reading = silent(now);
    let mut beside = Beside::default();
    #[expect(
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        reason = "small and above 0"
    )]
    let whole = |value: f64| value.round() as u64;
    match signal {
        Signal::Cpu => reading.cpu = Some(cpu(value, 0.0)),
        Signal::Steal => reading.cpu = Some(cpu(0.0, value)),
        Signal::Memory => reading.memory = Some(memory(value)),
        Signal::Disk => reading.disks = Some(vec![disk("/", Some(value), None)]),
        Signal::Inodes => reading.disks = Some(vec![disk("/", None, Some(value))]),
        Signal::Load => {
            (reading.load, reading.usable_cores) = (Some([0.0, value * 2.0, 0.0]), Some(2.0));
        }
        Signal::PressureCpu => reading.pressure[0] = Some(waited(value, 0.0)),
        Signal::PressureMemory => reading.pressure[1] = Some(waited(0.0, value)),
        Signal::PressureIo => reading.pressure[2] = Some(waited(0.0, value)),
        Signal::Swap => reading.swap = Some(swap(value)),
        Signal::SwapOut => {
            reading.memory = Some(Memory { total: 1_000_000_000, ..memory(0.0) });
            reading.swapped_out = Some(whole(value * 1e7));
        }
        Signal::OomKills => reading.oom_kills = Some(whole(value)),
        Signal::Files => reading.files = Some((whole(value * 1e6), 100_000_000)),
        Signal::OwnFiles => {
            reading.own.descriptors = Some(whole(value * 1e6));
            reading.own.descriptors_max = Some(100_000_000);
        }
        Signal::DiskEta => beside.disk_eta = Some(("/".to_owned(), value)),
        Signal::Units => beside.units[0] = failed(whole(value)),
        Signal::CriticalUnits => beside.units[1] = failed(whole(value)),
    }
    beside.disk_eta_known = signal == Signal::DiskEta;
    (reading, beside)
}

fn failed(count: u64) -> Units {
    Units::Failed((0..count).map(|number| format!("{number}.service")).collect())
}

/// Signals that are told one value after the other, every ten seconds.
struct Told {
    signals: Signals,
    signal: Signal,
    seconds: u64,
}

impl Told {
    fn new(signal: Signal) -> Told {
        let mut told = Told { signals: Signals::default(), signal, seconds: 0 };
        // What the kernel counts begins somewhere.
        told.tell(0.0);
        told.signals = if is_count(signal) { told.signals } else { Signals::default() };
        told
    }

    fn tell(&mut self, value: f64) -> State {
        let (reading, beside) = with(self.signal, value, at(self.seconds));
        self.signals.note(&reading, &beside);
        self.seconds += STEP.as_secs();
        self.state()
    }

    fn state(&self) -> State {
        self.signals.states().swap_remove(self.signal as usize)
    }

    /// The level at the end of so much time with this value.
    fn after(&mut self, value: f64, time: Duration) -> Level {
        for _ in 0..=time.as_secs() / STEP.as_secs() {
            self.tell(value);
        }
        self.state().level
    }
}

fn is_count(signal: Signal) -> bool {
    matches!(signal, Signal::SwapOut | Signal::OomKills | Signal::Units | Signal::CriticalUnits)
}

/// A hair worse than a threshold, as far as that can be told.
fn worse(bounds: &Bounds, threshold: f64) -> f64 {
    match bounds.unit {
        Unit::Kills | Unit::Units => threshold,
        Unit::Hours => threshold - 1e-6,
        Unit::Percent | Unit::PerCore => threshold + 1e-6,
    }
}

/// As bad as a threshold allows.
fn just_right(bounds: &Bounds, threshold: f64) -> f64 {
    if matches!(bounds.unit, Unit::Kills | Unit::Units) { threshold - 1.0 } else { threshold }
}

#[test]
fn the_table_stands_in_the_order_of_signals_and_thresholds_are_those_that_were_agreed() {
    let agreed: Vec<_> = Signal::all()
        .map(|signal| {
            let bounds = signal.bounds();
            assert_eq!(bounds.signal, signal);
            let sign = if bounds.is_reversed() { -1.0 } else { 1.0 };
            let rising = [bounds.calm, bounds.warn, bounds.crit, bounds.max].map(|one| one * sign);
            assert!(rising.is_sorted() && rising[0] < rising[1], "{signal:?}");
            (signal.name(), bounds.warn, bounds.crit)
        })
        .collect();
    let expected = [
        ("cpu", 70.0, 90.0),
        ("memory", 80.0, 90.0),
        ("disk", 85.0, 95.0),
        ("load", 1.5, 2.0),
        ("psi_cpu", 40.0, 70.0),
        ("psi_memory", 5.0, 20.0),
        ("psi_io", 15.0, 40.0),
        ("swap", 80.0, 95.0),
        ("swap_out", 20.0, 30.0),
        ("inodes", 85.0, 95.0),
        ("oom_kill", 1.0, 3.0),
        ("fd", 80.0, 90.0),
        ("own_fd", 80.0, 90.0),
        ("steal", 10.0, 25.0),
        ("disk_eta", 48.0, 8.0),
        ("units", 1.0, 100.0),
        ("critical_units", 1.0, 1.0),
    ];
    assert_eq!(agreed, expected);
}

#[test]
fn a_level_is_entered_above_its_threshold_after_its_time_and_not_before() {
    // Units that are critical know no warning.
    for signal in Signal::all().filter(|signal| *signal != Signal::CriticalUnits) {
        let bounds = signal.bounds();
        for (threshold, below, level) in [
            (bounds.warn, Level::Fine, Level::Warning),
            (bounds.crit, Level::Warning, Level::Critical),
        ] {
            let mut told = Told::new(signal);
            let right = just_right(bounds, threshold);
            assert_eq!(told.after(right, Duration::from_mins(25)), below, "{signal:?} {right}");

            let mut told = Told::new(signal);
            let began = at(told.seconds).wall;
            if !bounds.enter.is_zero() {
                let early = bounds.enter.checked_sub(STEP).unwrap();
                let level = told.after(worse(bounds, threshold), early);
                assert_eq!(level, Level::Fine, "{signal:?} is too early");
            }
            let state = told.tell(worse(bounds, threshold));
            assert_eq!((state.level, state.since), (level, began), "{signal:?} {threshold}");
        }
    }
}

#[test]
fn a_level_is_left_when_the_value_was_low_for_five_minutes() {
    for signal in Signal::all().filter(|signal| !is_count(*signal)) {
        let bounds = signal.bounds();
        let nine_tenths = match bounds.unit {
            Unit::Hours => bounds.warn / 0.9,
            Unit::Percent => (bounds.warn * 0.9).max(bounds.warn - 5.0),
            Unit::PerCore | Unit::Kills | Unit::Units => bounds.warn * 0.9,
        };
        let mut told = Told::new(signal);
        told.after(worse(bounds, bounds.warn), bounds.enter + Duration::from_mins(30));
        assert_eq!(told.state().level, Level::Warning, "{signal:?}");
        // A hair above what is low enough, for hours.
        let level = told.after(worse(bounds, nine_tenths), Duration::from_hours(2));
        assert_eq!(level, Level::Warning, "{signal:?}");

        // Means follow slowly; count from when they are there.
        let low = if bounds.is_reversed() { nine_tenths + 1e-6 } else { nine_tenths - 1e-6 };
        let is_low = |state: State| bounds.is_low(state.value.unwrap(), bounds.warn);
        assert!((0..1_000).any(|_| is_low(told.tell(low))), "{signal:?}: {low} is never low");
        let level = told.after(low, LEAVE.checked_sub(STEP * 3).unwrap());
        assert_eq!(level, Level::Warning, "{signal:?} leaves too early");
        told.tell(low);
        let left = at(told.seconds).wall;
        let state = told.tell(low);
        assert_eq!((state.level, state.since), (Level::Fine, left), "{signal:?}");
    }
}

#[test]
fn a_value_that_trembles_around_a_threshold_changes_the_level_rarely() {
    for signal in Signal::all().filter(|signal| !is_count(*signal)) {
        for seed in seeds(4) {
            let mut rng = Rng::from_seed(seed);
            let bounds = signal.bounds();
            // A tenth of what lies between calm and warning, up and down, for a day.
            let width = (bounds.warn - bounds.calm) / 10.0;
            let mut told = Told::new(signal);
            let mut changes = 0;
            let mut level = Level::Fine;
            for _ in 0..amount("HOLDFAST_TREMBLING_STEPS", 8_640 / 4) {
                let part = f64::from(u32::try_from(rng.below(2_001)).unwrap()) / 1_000.0 - 1.0;
                let now = told.tell(bounds.warn + part * width).level;
                changes += u32::from(now != level);
                level = now;
            }
            assert!(changes <= 1, "{signal:?} changed {changes} times, seed {seed}");
        }
    }
}

#[test]
fn a_short_peak_is_no_alarm() {
    let mut told = Told::new(Signal::Cpu);
    told.after(20.0, Duration::from_mins(10));
    assert_eq!(told.after(100.0, Duration::from_mins(4)), Level::Fine);
    assert_eq!(told.after(20.0, Duration::from_hours(1)), Level::Fine);
    let mut told = Told::new(Signal::Memory);
    told.after(50.0, Duration::from_mins(5));
    assert_eq!(told.after(99.0, Duration::from_secs(90)), Level::Fine);
    assert_eq!(told.after(50.0, Duration::from_mins(5)), Level::Fine);
}

#[test]
fn values_are_means_of_their_windows() {
    let mut told = Told::new(Signal::Cpu);
    assert_eq!(told.tell(40.0).value, Some(40.0));
    assert_eq!(told.tell(60.0).value, Some(50.0), "the mean of what there is");
    for _ in 0..28 {
        told.tell(50.0);
    }
    assert_eq!(told.state().value, Some(50.0));
    for count in 1..=15_u32 {
        let value = told.tell(80.0).value.unwrap();
        assert!((50.0..=66.0).contains(&value), "{count}: {value}");
    }
    told.after(80.0, Duration::from_mins(5));
    assert_eq!(told.state().value, Some(80.0), "what is old is forgotten");

    // A longer interval weighs more.
    let mut signals = Signals::default();
    let (mut reading, beside) = with(Signal::Cpu, 10.0, at(0));
    signals.note(&reading, &beside);
    reading.now = at(30);
    (reading.interval_ms, reading.cpu) = (Some(30_000), Some(cpu(50.0, 0.0)));
    signals.note(&reading, &beside);
    assert_eq!(signals.states()[0].value, Some(40.0));

    let mut steal = Told::new(Signal::Steal);
    steal.after(0.0, Duration::from_mins(30));
    steal.after(20.0, Duration::from_mins(10));
    let value = steal.state().value.unwrap();
    assert!((9.5..=10.6).contains(&value), "{value}");
}

#[test]
fn kills_and_swapping_count_as_far_as_they_were_seen() {
    let mut told = Told::new(Signal::OomKills);
    let mut fresh = Told { signals: Signals::default(), signal: Signal::OomKills, seconds: 0 };
    let state = fresh.tell(7.0);
    assert!(!state.known, "what was counted before we looked is no news");
    assert_eq!((fresh.tell(7.0).value, fresh.state().known), (Some(0.0), true));

    assert_eq!(told.tell(1.0).level, Level::Warning, "one is enough");
    assert_eq!(told.after(1.0, Duration::from_mins(2)), Level::Warning);
    assert_eq!(told.tell(2.0).level, Level::Warning);
    assert_eq!(told.tell(3.0).level, Level::Critical);
    assert_eq!(told.after(3.0, Duration::from_mins(28)), Level::Critical);
    assert_eq!(told.state().value, Some(2.0), "the first is half an hour ago");
    assert_eq!(told.after(3.0, Duration::from_mins(9)), Level::Fine);
    assert_eq!(told.tell(0.0).value, Some(0.0), "one that begins anew did not grow");
    assert_eq!(told.tell(1.0).value, Some(1.0));

    let mut told = Told::new(Signal::SwapOut);
    for part in 1..=25 {
        told.tell(f64::from(part));
    }
    assert_eq!(told.state().value, Some(25.0), "of all memory");
    assert_eq!(told.state().level, Level::Warning);
}

#[test]
fn the_worst_disk_counts_and_is_named() {
    let mut signals = Signals::default();
    let mut reading = silent(at(0));
    let mut full = disk("/snap", Some(100.0), Some(100.0));
    full.mount.read_only = true;
    reading.disks = Some(vec![
        disk("/", Some(40.0), Some(96.0)),
        disk("/srv", Some(97.0), None),
        disk("/broken", None, None),
        full,
    ]);
    signals.note(&reading, &Beside::default());
    let states = signals.states();
    let of = |signal: Signal| {
        let state = &states[signal as usize];
        (state.value, state.of.as_deref(), state.level)
    };
    assert_eq!(of(Signal::Disk), (Some(97.0), Some("/srv"), Level::Critical));
    assert_eq!(of(Signal::Inodes), (Some(96.0), Some("/"), Level::Critical));
}

#[test]
fn load_is_for_each_processor_that_may_be_used_and_at_least_one() {
    let load = |usable: Option<f64>, cores: Option<u32>| {
        let mut signals = Signals::default();
        let mut reading = silent(at(0));
        (reading.load, reading.usable_cores, reading.cores) =
            (Some([9.0, 3.0, 9.0]), usable, cores);
        signals.note(&reading, &Beside::default());
        signals.states()[Signal::Load as usize].value
    };
    assert_eq!(load(Some(1.5), Some(4)), Some(2.0));
    assert_eq!(load(Some(0.5), Some(4)), Some(3.0));
    assert_eq!(load(None, Some(4)), Some(0.75));
    assert_eq!(load(None, None), None);
}

#[test]
fn what_cannot_be_read_is_unknown_and_keeps_no_level() {
    let mut signals = Signals::default();
    assert!(signals.states().iter().all(|state| !state.known && state.level == Level::Fine));
    assert_eq!(signals.noted_at(), None);
    signals.note(&silent(at(0)), &Beside::default());
    let is_unit = |state: &State| matches!(state.signal, Signal::Units | Signal::CriticalUnits);
    let states = signals.states();
    // Of units nobody asked.
    assert!(states.iter().all(|state| state.known == is_unit(state) && state.value.is_none()));
    assert_eq!(signals.noted_at(), Some(at(0).mono));

    let mut told = Told::new(Signal::Disk);
    assert_eq!(told.tell(96.0).level, Level::Critical);
    let silence = |told: &mut Told, steps: u64| {
        for _ in 0..steps {
            told.signals.note(&silent(at(told.seconds)), &Beside::default());
            told.seconds += 10;
        }
        told.state()
    };
    let state = silence(&mut told, 6);
    assert_eq!((state.known, state.level), (true, Level::Critical), "one that is missed is none");
    let state = silence(&mut told, 1);
    assert_eq!((state.known, state.value, state.level), (false, None, Level::Fine));

    let mut reading = silent(at(0));
    reading.load = Some([f64::NAN; 3]);
    reading.cores = Some(1);
    signals.note(&reading, &Beside::default());
    assert!(!signals.states()[Signal::Load as usize].known, "no number is no reading");
}

#[test]
fn a_machine_without_swap_and_a_disk_that_never_fills_are_known_and_say_nothing() {
    let mut signals = Signals::default();
    let mut reading = silent(at(0));
    reading.swap = Some(Swap { total: 0, used: 0, usage: None, read: None, written: None });
    let beside = Beside { disk_eta: None, disk_eta_known: true, ..Beside::default() };
    signals.note(&reading, &beside);
    for signal in [Signal::Swap, Signal::DiskEta] {
        let state = &signals.states()[signal as usize];
        assert_eq!((state.known, state.value, state.level), (true, None, Level::Fine));
    }
    let mut told = Told::new(Signal::DiskEta);
    assert_eq!(told.after(7.0, Duration::from_mins(10)), Level::Critical);
    for minutes in [4, 2] {
        let level = told.state().level;
        assert_eq!(level, Level::Critical, "until it was so for five minutes");
        for _ in 0..minutes * 6 {
            told.signals.note(&silent(at(told.seconds)), &beside);
            told.seconds += 10;
        }
    }
    assert_eq!(told.state().level, Level::Fine);
}

#[test]
fn silence_enters_nothing_and_ends_what_is_over() {
    // Busy for four minutes, nobody looked for three, busy again: that is no five minutes that were seen.
    let mut told = Told::new(Signal::Cpu);
    told.after(95.0, Duration::from_mins(4));
    told.seconds += 180;
    assert_eq!(told.tell(95.0).level, Level::Fine);
    assert_eq!(told.after(95.0, Duration::from_mins(4)), Level::Fine);
    assert_eq!(told.after(95.0, Duration::from_mins(1)), Level::Critical);
    let since = told.state().since;

    // After hours in which nobody looked it is still so, or it is over.
    told.seconds += 3 * 3_600;
    let state = told.tell(95.0);
    assert_eq!((state.level, state.since), (Level::Critical, since));
    told.seconds += 3 * 3_600;
    let state = told.tell(20.0);
    assert_eq!((state.level, state.value), (Level::Fine, Some(20.0)));

    // Two minutes are too short to say that it is over.
    let mut told = Told::new(Signal::Disk);
    told.tell(96.0);
    told.seconds += 120;
    assert_eq!(told.tell(20.0).level, Level::Critical);
}

#[test]
fn a_machine_that_slept_forgets_means_and_counts_of_before() {
    // The stop-watch stood still, the calendar did not.
    let asleep = |told: &Told| {
        let slept = Duration::from_hours(8);
        Now { wall: at(told.seconds).wall.plus(slept), mono: at(told.seconds).mono }
    };
    for (signal, before) in [(Signal::Cpu, 100.0), (Signal::Memory, 100.0), (Signal::Steal, 90.0)] {
        let mut told = Told::new(signal);
        told.after(before, Duration::from_mins(1));
        let (reading, beside) = with(signal, 3.0, asleep(&told));
        told.signals.note(&reading, &beside);
        assert_eq!(told.state().value, Some(3.0), "{signal:?}");
    }
    let mut told = Told::new(Signal::OomKills);
    told.tell(2.0);
    let (reading, beside) = with(Signal::OomKills, 4.0, asleep(&told));
    told.signals.note(&reading, &beside);
    assert_eq!(told.state().value, Some(0.0), "nobody knows when those were");
}

#[test]
fn memory_is_bounded_and_nothing_panics_whatever_comes() {
    for seed in seeds(20) {
        let mut rng = Rng::from_seed(seed);
        let mut signals = Signals::default();
        let mut now = at(0);
        for _ in 0..500 {
            let [step, other] = [(); 2].map(|()| {
                let size = rng.below(30);
                Duration::from_millis(rng.below(1 << size))
            });
            now = Now { wall: now.wall.plus(step), mono: now.mono.plus(other) };
            let signal = Signal::all().nth(rng.index(15)).unwrap();
            let value = f64::from_bits(rng.next_u64());
            let value = if rng.one_in(3) { value } else { 50.0 };
            let (mut reading, beside) = with(signal, value, now);
            reading.interval_ms = rng.one_in(2).then(|| rng.next_u64());
            reading.oom_kills = Some(rng.next_u64());
            signals.note(&reading, &beside);
            let finite = |state: &State| state.value.is_none_or(f64::is_finite);
            assert!(signals.states().iter().all(finite), "seed {seed}");
        }
        for window in [&signals.cpu, &signals.memory, &signals.steal, &signals.oom_kills.window] {
            assert!(window.slots.len() <= 31, "seed {seed}");
        }
    }
    assert!(GAP < LEAVE, "what ends a silence must not be shorter than one");
}

#[test]
fn one_unit_that_failed_is_a_warning_and_one_that_is_critical_is_critical() {
    let note = |units: [Units; 2]| {
        let mut signals = Signals::default();
        signals.note(&silent(at(0)), &Beside { units, ..Beside::default() });
        let states = signals.states();
        [Signal::Units, Signal::CriticalUnits].map(|its| states[its as usize].clone())
    };
    let [some, critical] = note([failed(1), failed(0)]);
    assert_eq!((some.level, critical.level, critical.known), (Level::Warning, Level::Fine, true));
    assert_eq!(some.of.as_deref(), Some("0.service"));
    let [some, critical] = note([failed(64), failed(1)]);
    assert_eq!((some.level, critical.level), (Level::Warning, Level::Critical));
    let [some, critical] = note([Units::NotAsked, Units::Unknown]);
    assert_eq!((some.known, some.value, critical.known), (true, None, false));
}
