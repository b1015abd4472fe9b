//! Word and number, sums, order, sentences.

use expect_test::expect;

use super::{Health, band, length, number, points, quoted, score};
use crate::base::rng::Rng;
use crate::base::time::Timestamp;
use crate::host::signals::{Level, Signal, State, Unit};
use crate::testing::{amount, seeds};
use std::time::Duration;

fn since() -> Timestamp {
    Timestamp::from_unix_ms(1_700_000_000_000).unwrap()
}

fn now() -> Timestamp {
    since().plus(Duration::from_mins(12))
}

fn state(signal: Signal, value: f64, level: Level) -> State {
    State { signal, known: true, value: Some(value), of: None, level, since: since() }
}

/// A level that fits the value, as if it had always been so.
fn fitting(signal: Signal, value: f64) -> State {
    let bounds = signal.bounds();
    let level = if bounds.exceeds(value, bounds.crit) {
        Level::Critical
    } else if bounds.exceeds(value, bounds.warn) {
        Level::Warning
    } else {
        Level::Fine
    };
    state(signal, value, level)
}

fn check(health: &Health, what: &str) {
    let sum: i32 = health.deductions.iter().map(|line| line.tenths).sum();
    assert_eq!(sum, 1_000 - health.tenths, "points add up: {what}");
    assert!((0..=1_000).contains(&health.tenths), "{what}");
    let word = match health.tenths {
        ..=400 => Level::Critical,
        401..=700 => Level::Warning,
        _ => Level::Fine,
    };
    assert_eq!(word, health.level, "word and number agree: {what}");
    let (cap, lines): (Vec<_>, Vec<_>) =
        health.deductions.iter().partition(|line| line.signal.is_none());
    assert!(lines.iter().all(|line| 0 < line.tenths), "{what}");
    assert!(lines.is_sorted_by(|a, b| b.tenths <= a.tenths), "the largest first: {what}");
    assert!(cap.len() <= 1 && cap.iter().all(|line| line.tenths < 0), "{what}");
    assert!(health.deductions.iter().all(|line| !line.text.is_empty() && line.text.is_ascii()));
}

/// Any value, often one at or near a threshold.
fn any_value(rng: &mut Rng, signal: Signal) -> f64 {
    let bounds = signal.bounds();
    let anchors = [bounds.calm, bounds.warn, bounds.crit, bounds.max];
    let anchor = anchors[rng.index(4)];
    match rng.below(5) {
        0 => anchor,
        1 => anchor + 1e-9,
        2 => anchor - 1e-9,
        3 => f64::from(u32::try_from(rng.below(2_000)).unwrap()) / 10.0,
        _ if rng.one_in(50) => [f64::MAX, f64::MIN, f64::MIN_POSITIVE, -0.0][rng.index(4)],
        _ => anchor * (f64::from(u32::try_from(rng.below(2_000)).unwrap()) / 1_000.0),
    }
}

fn any_level(rng: &mut Rng) -> Level {
    [Level::Fine, Level::Warning, Level::Critical][rng.index(3)]
}

/// Any combination: values that contradict their levels too, and signals that are not known.
fn any_states(rng: &mut Rng) -> Vec<State> {
    let fits = rng.one_in(2);
    let calm = rng.one_in(3);
    Signal::all()
        .map(|signal| {
            let value = any_value(rng, signal);
            let mut state = fitting(signal, value);
            if !fits {
                state.level = any_level(rng);
            }
            if calm && !rng.one_in(4) {
                state = fitting(signal, signal.bounds().calm);
            }
            match rng.below(12) {
                0 => (state.known, state.value) = (false, None),
                1 => state.value = None,
                _ => (),
            }
            state
        })
        .collect()
}

#[test]
fn points_add_up_and_word_and_number_agree_whatever_the_state() {
    let each = amount("HOLDFAST_SCORE_STATES", 10_000);
    for seed in seeds(10) {
        let mut rng = Rng::from_seed(seed);
        for step in 0..each {
            let states = any_states(&mut rng);
            let health = score(&states, now());
            check(&health, &format!("seed {seed}, step {step}"));
            let known = |state: &&State| state.known;
            let worst = states.iter().filter(known).map(|state| state.level).max();
            assert_eq!(health.level, worst.unwrap_or_default(), "seed {seed}: {states:?}");
            let unknown = states.iter().filter(|state| !state.known).map(|state| state.signal);
            assert_eq!(health.unavailable, unknown.collect::<Vec<_>>(), "seed {seed}");
        }
    }
}

#[test]
fn a_signal_that_gets_worse_never_raises_the_score() {
    for seed in seeds(10) {
        let mut rng = Rng::from_seed(seed);
        for _ in 0..2_000 {
            let mut states = any_states(&mut rng);
            let before = score(&states, now()).tenths;
            let one = rng.index(states.len());
            let state = &mut states[one];
            let worse = if state.signal.bounds().is_reversed() { -1.0 } else { 1.0 };
            match (state.value, rng.below(3)) {
                (Some(value), 0 | 1) => {
                    let by = f64::from(u32::try_from(rng.below(1_000)).unwrap()) / 20.0;
                    state.value = Some(value + worse * by);
                }
                _ => state.level = state.level.max(any_level(&mut rng)),
            }
            let after = score(&states, now()).tenths;
            assert!(after <= before, "seed {seed}: {before} to {after}: {states:?}");
        }
    }
}

#[test]
fn each_threshold_that_is_crossed_alone_changes_the_word() {
    // Units that are critical know no warning.
    for signal in Signal::all().filter(|signal| *signal != Signal::CriticalUnits) {
        let bounds = signal.bounds();
        let others = || Signal::all().map(|other| fitting(other, other.bounds().calm));
        let healthy: Vec<_> = others().collect();
        assert_eq!(score(&healthy, now()).tenths, 1_000);
        let steps = match bounds.unit {
            Unit::Kills => [0.0, 1.0, 2.0, 3.0],
            Unit::Units => [0.0, 1.0, 64.0, 100.0],
            Unit::Hours => [48.0, 47.999, 8.0, 7.999],
            Unit::Percent | Unit::PerCore => {
                [bounds.warn, bounds.warn + 0.001, bounds.crit, bounds.crit + 0.001]
            }
        };
        let words = steps.map(|value| {
            let mut states = healthy.clone();
            states[signal as usize] = fitting(signal, value);
            let health = score(&states, now());
            check(&health, &format!("{signal:?} {value}"));
            health.word()
        });
        assert_eq!(words, ["healthy", "warning", "warning", "critical"], "{signal:?}");
    }
}

#[test]
fn what_has_not_lasted_changes_neither_word_nor_band() {
    for (level, expected) in [(Level::Fine, 701), (Level::Warning, 401), (Level::Critical, 0)] {
        let health = score(&[state(Signal::Cpu, 100.0, level)], now());
        assert_eq!((health.tenths, health.level), (expected, level));
        let health = score(&[state(Signal::Cpu, 0.0, level)], now());
        assert_eq!(1_000 - health.tenths, band(level).0);
    }
}

#[test]
fn scores_are_those_of_the_examples() {
    let of = |values: &[(Signal, f64)]| {
        let states: Vec<_> =
            values.iter().map(|(signal, value)| fitting(*signal, *value)).collect();
        let health = score(&states, now());
        (health.tenths, health.word())
    };
    assert_eq!(of(&[(Signal::Cpu, 85.0)]), (475, "warning"));
    assert_eq!(of(&[(Signal::Disk, 96.0)]), (320, "critical"));
    assert_eq!(of(&[(Signal::Cpu, 71.0)]), (685, "warning"));
    let all = [(Signal::Cpu, 95.0), (Signal::Memory, 92.0), (Signal::Load, 2.5)];
    assert_eq!(of(&all), (0, "critical"));
    assert_eq!(of(&[]), (1_000, "healthy"));
    assert_eq!(of(&[(Signal::Cpu, 60.0), (Signal::Memory, 65.0)]), (832, "healthy"));
}

#[test]
fn penalties_meet_at_the_anchors() {
    for signal in Signal::all().filter(|signal| *signal != Signal::CriticalUnits) {
        let bounds = signal.bounds();
        let anchors = [bounds.calm, bounds.warn, bounds.crit, bounds.max];
        let expected = [0.0, 30.0, 60.0, 100.0];
        for (anchor, expected) in anchors.into_iter().zip(expected) {
            assert!((points(anchor, bounds) - expected).abs() < 1e-9, "{signal:?} {anchor}");
        }
    }
    assert_eq!(points(f64::MAX, Signal::Cpu.bounds()).to_bits(), 100.0_f64.to_bits());
    assert_eq!(points(f64::MIN, Signal::Cpu.bounds()).to_bits(), 0.0_f64.to_bits());
}

#[test]
fn what_cannot_be_read_is_listed_and_takes_nothing_off() {
    let mut unknown = state(Signal::Memory, 99.0, Level::Critical);
    unknown.known = false;
    let health = score(&[fitting(Signal::Cpu, 10.0), unknown.clone()], now());
    assert_eq!((health.tenths, health.word()), (1_000, "healthy"));
    assert_eq!(health.unavailable, [Signal::Memory]);
    assert_eq!(health.text(), "this server is healthy");
    let nothing: Vec<_> = Signal::all().map(|signal| State { signal, ..unknown.clone() }).collect();
    let text = score(&nothing, now()).text();
    assert_eq!(text, "nothing of this server could be read, so nobody knows how it is");
}

#[test]
fn deductions_say_what_is_the_case_and_what_to_do() {
    let mut states: Vec<_> = Signal::all()
        .map(|signal| {
            let bounds = signal.bounds();
            let value = f64::midpoint(bounds.crit, bounds.max);
            let of = match signal {
                Signal::Disk | Signal::Inodes | Signal::DiskEta => Some("/srv".to_owned()),
                Signal::Units | Signal::CriticalUnits => Some("a.service b.service".to_owned()),
                _ => None,
            };
            State { of, ..fitting(signal, value) }
        })
        .collect();
    states[0].level = Level::Fine;
    let health = score(&states, now());
    let lines: Vec<_> = health.deductions.iter().map(|line| line.text.as_str()).collect();
    let text = format!("{}\n", lines.join("\n"));
    expect![["
        memory is 95 % full for 12 min: see which process it is with: ps aux --sort=-rss | head
        the disk of /srv is 98 % full for 12 min: see what is large with: sudo du -xh /srv | sort -h | tail
        3 tasks run or wait for each processor (mean of 5 min) for 12 min: see what runs (R) or waits for a disk (D) with: ps -eo state,pid,args | grep '^[RD]'
        something waits for a processor 85 % of the time for 12 min: there is more to do than processors for it; see what it is with: ps aux --sort=-pcpu | head
        everything waits for memory 40 % of the time for 12 min: memory is too small for what runs; see what it is with: ps aux --sort=-rss | head
        everything waits for disks 60 % of the time for 12 min: see what waits for a disk with: ps -eo state,pid,args | grep '^D'
        swap is 98 % full for 12 min: see whose it is with: grep VmSwap /proc/[0-9]*/status | sort -n -k 2 | tail
        65 % of the size of memory was swapped out in the last 30 min: memory is too small for what runs; see what it is with: ps aux --sort=-rss | head
        the disk of /srv holds 98 % of the files it can hold (inodes) for 12 min: see where many small files are with: sudo du -x --inodes /srv | sort -n | tail
        the kernel killed 4 processes in the last 30 min because memory ran out: see which with: journalctl -k --grep='Killed process'
        the machine has 95 % of its descriptors open for 12 min: close them (see who has them with: sudo lsof -n | awk '{print $1}' | sort | uniq -c | sort -n | tail) or raise fs.file-max
        holdfast has 95 % of its descriptors open for 12 min: see who connects with: sudo ss -xtnp | grep holdfast, or raise LimitNOFILE of its unit
        other virtual machines took 38 % of the processors' time (mean of 20 min) for 12 min: nothing on this server causes that; ask its provider
        the disk of /srv is full in 4 h if this goes on: see what is large with: sudo du -xh /srv | sort -h | tail
        150 units have failed: a.service b.service for 12 min: see why with: systemctl status a.service b.service
        2 units have failed: a.service b.service for 12 min: see why with: systemctl status a.service b.service
        processors are 95 % busy (mean of 5 min), but not for 5 min yet
        there is no score below 0
    "]].assert_eq(&text);
}

#[test]
fn the_sentence_names_the_worst_and_how_many_more_there_are() {
    let text = |states: &[State]| score(states, now()).text();
    let memory = fitting(Signal::Memory, 93.0);
    let sentence =
        "memory is 93 % full for 12 min: see which process it is with: ps aux --sort=-rss | head";
    assert_eq!(text(&[memory.clone(), fitting(Signal::Cpu, 60.0)]), sentence);
    let two = text(&[fitting(Signal::Swap, 81.0), memory.clone()]);
    assert_eq!(two, format!("2 signals are not fine, the worst: {sentence}"));
    let three = text(&[fitting(Signal::Swap, 81.0), memory, fitting(Signal::Steal, 11.0)]);
    assert_eq!(three, format!("3 signals are not fine, the worst: {sentence}"));
}

#[test]
fn a_level_that_is_being_left_says_so() {
    let health = score(&[state(Signal::Memory, 74.0, Level::Critical)], now());
    let line = &health.deductions[0];
    assert_eq!(
        line.text,
        "memory is 74 % full, which is better than it was: this is over when it stays so for 5 min"
    );
    assert_eq!((line.since, line.tenths), (Some(since()), 600));
    let mut gone = state(Signal::DiskEta, 1.0, Level::Warning);
    gone.value = None;
    let health = score(&[gone], now());
    assert_eq!(
        health.deductions[0].text,
        "no disk fills up any more, which is better than it was: this is over in 5 min"
    );
    let health = score(&[state(Signal::Cpu, 60.0, Level::Fine)], now());
    assert_eq!(
        (health.deductions[0].since, health.deductions[0].text.as_str()),
        (None, "processors are 60 % busy (mean of 5 min); that is no reason to worry yet")
    );
}

#[test]
fn numbers_times_and_paths_are_written_as_a_person_does() {
    let numbers = [0.0, 1.0, 1.25, 9.94, 9.96, 70.4, 99.5].map(number);
    assert_eq!(numbers, ["0", "1", "1.2", "9.9", "10", "70", "100"]);
    let times = [5, 119, 120, 2_879, 4_320].map(|minutes| length(Duration::from_mins(minutes)));
    assert_eq!(times, ["5 min", "119 min", "2 h", "47 h", "3 days"]);
    assert_eq!(quoted("/srv/data-1"), "/srv/data-1");
    assert_eq!(quoted("/srv/my shop"), "'/srv/my shop'");
    assert_eq!(quoted("/a';reboot'"), r"'/a'\'';reboot'\'''");
}
