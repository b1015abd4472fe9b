//! This machine: read every ten seconds, remembered until the next time, judged by [`crate::host`].
//!
//! ```text
//!   recorder --host_sample--> Machine::read --> Counters, Reading --> Signals --> Health
//!                                                    |                   |          |
//!                                                    '--> /v1/server, /metrics, series
//!   watch --host_units--> Machine::units, --host_beside--> disks, units -'
//! ```
//!
//! **Invariants**
//! - Nothing old is told as if it were of now: a reading that failed takes the one before with it, and one that is
//!   older than [`GAP`] is not told any more. What others say beside it ([`App::host_beside`]) is not known any more
//!   after [`BESIDE_FOR`].
//! - There is no health before an interval is over: most signals need one.
//! - The lock is held for memory work; never while the machine is read.
//!
//! **Failure cases**: reading panics: it is logged and counted, and the next moment tries again. Reading does not come
//! back (a disk that answers nobody: files of `/proc` and the sizes of file systems have no time limit): whoever called
//! waits for as long, which cannot be helped; the others see that there is no reading any more. Systemd is not asked
//! here but by the watcher, on a thread of its own and with a time limit: one that hangs keeps no reading from being
//! taken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::App;
use super::outside::{Machine, Unit};
use crate::base::time::Now;
use crate::exec;
use crate::host::parse::Counters;
use crate::host::reading::Reading;
use crate::host::score::{Health, score};
use crate::host::signals::{Beside, GAP, Signals, Units};

/// Readings closer together than this are one: ticks of processors are too coarse for less.
const READINGS_APART_MIN: Duration = Duration::from_secs(1);

/// What is said beside readings is said every minute, and holds until it was missing for so long: one look that fails
/// ends nothing, and what nobody looks at any more is not told.
const BESIDE_FOR: Duration = Duration::from_mins(5);

/// The machine, and what is known of it.
pub(super) struct Host {
    machine: Box<dyn Machine>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    signals: Signals,
    beside: Beside,
    disks_at: Option<Now>,
    units_at: Option<Now>,
    latest: Option<Arc<(Counters, Reading)>>,
    health: Option<Arc<Health>>,
    panics: u64,
}

impl Host {
    pub(super) fn new(machine: Box<dyn Machine>) -> Host {
        Host { machine, held: Mutex::default() }
    }

    fn sample(&self, now: Now) {
        let before = self.held.lock().latest.clone();
        let is_early = |before: &Arc<(Counters, Reading)>| {
            now.mono.since(before.0.now.mono) < READINGS_APART_MIN
        };
        if before.as_ref().is_some_and(is_early) {
            return;
        }
        let read = || {
            let counters = Counters::of(&self.machine.read(now));
            let reading = Reading::between(before.as_ref().map(|before| &before.0), &counters);
            Arc::new((counters, reading))
        };
        match catch_unwind(AssertUnwindSafe(read)) {
            Ok(latest) => self.held.lock().take(latest),
            Err(panic) => {
                let text = exec::panic_text(&*panic);
                tracing::error!(text, "reading this machine panicked; it is tried again");
                let mut held = self.held.lock();
                held.panics += 1;
                (held.latest, held.health) = (None, None);
            }
        }
    }
}

impl Host {
    /// Which of these have failed. One that is named and not there is a mistake in the settings, or is missing.
    fn units(&self, names: &[String]) -> Units {
        if names.is_empty() {
            return Units::NotAsked;
        }
        let Some(told) = self.machine.units(names) else { return Units::Unknown };
        let is_bad = |unit: &&Unit| !unit.is_known || unit.state == "failed";
        Units::Failed(told.iter().filter(is_bad).map(|unit| unit.name.clone()).collect())
    }
}

impl Held {
    fn take(&mut self, latest: Arc<(Counters, Reading)>) {
        let reading = &latest.1;
        self.forget_old(reading.now);
        self.signals.note(reading, &self.beside);
        let is_whole = reading.interval_ms.is_some();
        let health = is_whole.then(|| score(&self.signals.states(), reading.now.wall));
        self.health = health.map(Arc::new);
        self.latest = Some(latest);
    }

    /// Takes what is said; what is not known ends nothing that is.
    fn say(&mut self, beside: Beside, now: Now) {
        self.forget_old(now);
        if beside.disk_eta_known {
            let Beside { disk_eta, disk_eta_known, .. } = beside;
            self.beside = Beside { disk_eta, disk_eta_known, ..std::mem::take(&mut self.beside) };
            self.disks_at = Some(now);
        }
        let is_unknown = beside.units.contains(&Units::Unknown);
        for (known, said) in self.beside.units.iter_mut().zip(beside.units) {
            if said != Units::Unknown || !matches!(known, Units::Failed(_)) {
                *known = said;
            }
        }
        self.units_at = self.units_at.filter(|_| is_unknown).or(Some(now));
    }

    /// What was said too long ago is not known any more.
    fn forget_old(&mut self, now: Now) {
        let is_old = |at: Option<Now>| at.is_some_and(|at| BESIDE_FOR < since(at, now));
        if is_old(self.disks_at) {
            (self.beside.disk_eta, self.beside.disk_eta_known, self.disks_at) = (None, false, None);
        }
        if is_old(self.units_at) {
            let asked = self.beside.units.iter_mut().filter(|its| **its != Units::NotAsked);
            asked.for_each(|its| *its = Units::Unknown);
            self.units_at = None;
        }
    }

    /// Whether what is held is of now.
    fn is_fresh(&self, now: Now) -> bool {
        let at = self.latest.as_ref().map(|latest| latest.1.now);
        at.is_some_and(|at| since(at, now) <= GAP)
    }
}

/// How long ago that was, by the longer of both clocks: one of them stands still while the machine sleeps.
fn since(at: Now, now: Now) -> Duration {
    now.mono.since(at.mono).max(now.wall.since(at.wall))
}

impl App {
    /// Reads the machine. May wait for a disk: never on the runtime's threads.
    ///
    /// The first one is what the next one is compared with. A panic in it is counted, and goes no further.
    pub fn host_sample(&self, now: Now) {
        self.host.sample(now);
    }

    /// The last reading; none before the first one, and none when it is too old to be told.
    pub fn host_reading(&self) -> Option<Arc<(Counters, Reading)>> {
        let now = self.clock.now();
        let held = self.host.held.lock();
        held.latest.clone().filter(|_| held.is_fresh(now))
    }

    /// How healthy the machine is; none before the first interval is over, and none when it is too long ago.
    pub fn host_health(&self) -> Option<Arc<Health>> {
        let now = self.clock.now();
        let held = self.host.held.lock();
        held.health.clone().filter(|_| held.is_fresh(now))
    }

    /// Whether the machine was ever read: if so and there is no reading, something is wrong with it.
    pub fn host_was_read(&self) -> bool {
        let held = self.host.held.lock();
        held.signals.noted_at().is_some()
    }

    /// How the units of systemd stand that the settings name. May wait for seconds: for a thread that nobody waits for.
    pub fn host_units(&self) -> [Units; 2] {
        let names = self.settings().units.clone();
        names.map(|names| self.host.units(&names))
    }

    /// Says what readings do not tell, as it is now; counts from the next reading on. What is not known now is as it was
    /// said before, for [`BESIDE_FOR`].
    pub fn host_beside(&self, beside: Beside, now: Now) {
        self.host.held.lock().say(beside, now);
    }

    /// How often reading the machine panicked.
    pub fn host_panics(&self) -> u64 {
        self.host.held.lock().panics
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::app::Settings;
    use crate::app::outside::Unit;
    use crate::base::time::Clock as _;
    use crate::host::signals::{Beside, Level, Signal, Units};
    use crate::testing::app::World;

    fn sample(world: &World) {
        world.app.host_sample(world.clock.now());
    }

    #[test]
    fn there_is_a_reading_at_once_and_health_after_an_interval() {
        let world = World::new(1);
        assert!(world.app.host_reading().is_none() && !world.app.host_was_read());
        world.machine.set_busy(0, 1_000);
        sample(&world);
        let first = world.app.host_reading().expect("it was read");
        assert_eq!((first.1.interval_ms, first.1.cpu), (None, None));
        assert!(world.app.host_health().is_none() && world.app.host_was_read());

        world.clock.advance(Duration::from_secs(10));
        world.machine.set_busy(250, 1_750);
        sample(&world);
        let reading = world.app.host_reading().expect("it was read");
        assert_eq!(reading.1.interval_ms, Some(10_000));
        assert_eq!(reading.1.cpu.map(|cpu| cpu.usage), Some(25.0));
        let health = world.app.host_health().expect("an interval is over");
        assert_eq!((health.level, health.tenths), (Level::Fine, 1_000));
        assert!(!health.unavailable.contains(&Signal::Cpu));
        assert!(health.unavailable.contains(&Signal::PressureIo), "{health:?}");
    }

    #[test]
    fn moments_that_are_too_close_are_one() {
        let world = World::new(1);
        sample(&world);
        world.clock.advance(Duration::from_millis(999));
        sample(&world);
        assert_eq!(world.app.host_reading().unwrap().1.interval_ms, None);
        world.clock.advance(Duration::from_millis(1));
        sample(&world);
        assert_eq!(world.app.host_reading().unwrap().1.interval_ms, Some(1_000));
    }

    #[test]
    fn what_is_old_is_not_told_as_if_it_were_of_now() {
        let world = World::new(1);
        world.machine.set_busy(0, 1_000);
        sample(&world);
        world.clock.advance(Duration::from_secs(10));
        sample(&world);
        world.clock.advance(Duration::from_mins(1));
        assert!(world.app.host_reading().is_some() && world.app.host_health().is_some());
        world.clock.advance(Duration::from_millis(1));
        assert!(world.app.host_reading().is_none() && world.app.host_health().is_none());
        assert!(world.app.host_was_read());
        sample(&world);
        assert!(world.app.host_reading().is_some() && world.app.host_health().is_some());
    }

    #[test]
    fn a_reading_that_panics_is_counted_and_the_next_one_begins_anew() {
        let world = World::new(1);
        sample(&world);
        world.clock.advance(Duration::from_secs(10));
        world.machine.set_panics(true);
        sample(&world);
        assert_eq!(world.app.host_panics(), 1);
        assert!(world.app.host_reading().is_none() && world.app.host_was_read());
        world.machine.set_panics(false);
        world.clock.advance(Duration::from_secs(10));
        sample(&world);
        assert_eq!(world.app.host_reading().unwrap().1.interval_ms, None);
        world.clock.advance(Duration::from_secs(10));
        sample(&world);
        assert!(world.app.host_health().is_some());
    }

    #[test]
    fn what_others_say_counts_from_the_next_reading_on() {
        let world = World::new(1);
        sample(&world);
        let beside = Beside {
            disk_eta: Some(("/".to_owned(), 5.0)),
            disk_eta_known: true,
            ..Beside::default()
        };
        for _ in 0..62 {
            world.app.host_beside(beside.clone(), world.clock.now());
            world.clock.advance(Duration::from_secs(10));
            sample(&world);
        }
        let health = world.app.host_health().unwrap();
        assert_eq!(health.level, Level::Critical);
        assert_eq!(health.deductions[0].signal, Some(Signal::DiskEta));

        // A look that finds nothing out ends nothing; when there were none for five minutes it is not known any more.
        let step = |world: &World| {
            world.clock.advance(Duration::from_secs(10));
            sample(world);
            world.app.host_health().unwrap()
        };
        world.app.host_beside(Beside::default(), world.clock.now());
        let held: Vec<_> = (0..29).map(|_| step(&world)).collect();
        assert!(held.iter().all(|health| health.level == Level::Critical));
        assert!(held.iter().all(|health| !health.unavailable.contains(&Signal::DiskEta)));
        (0..9).for_each(|_| drop(step(&world)));
        let health = step(&world);
        assert_eq!(health.level, Level::Fine);
        assert!(health.unavailable.contains(&Signal::DiskEta));
    }

    #[test]
    fn units_that_nobody_asks_about_any_more_are_not_known() {
        let world = World::new(1);
        let units = [Units::NotAsked, Units::Failed(vec!["c.service".to_owned()])];
        sample(&world);
        world.app.host_beside(Beside { units, ..Beside::default() }, world.clock.now());
        let step = |units: Option<[Units; 2]>| {
            if let Some(units) = units {
                world.app.host_beside(Beside { units, ..Beside::default() }, world.clock.now());
            }
            world.clock.advance(Duration::from_secs(10));
            sample(&world);
            world.app.host_health().unwrap()
        };
        assert_eq!(step(None).level, Level::Critical);
        let unknown = [Units::NotAsked, Units::Unknown];
        // An answer that is missing ends nothing, but not for long.
        for _ in 0..28 {
            assert_eq!(step(Some(unknown.clone())).level, Level::Critical);
        }
        (0..9).for_each(|_| drop(step(Some(unknown.clone()))));
        let health = step(Some(unknown));
        assert_eq!(health.level, Level::Fine);
        assert!(health.unavailable.contains(&Signal::CriticalUnits));
        let health = step(Some([Units::NotAsked, Units::Failed(Vec::new())]));
        assert!(!health.unavailable.contains(&Signal::CriticalUnits), "{health:?}");
    }

    #[test]
    fn reading_the_machine_asks_no_units() {
        let world = World::new(1);
        let mut settings = Settings::clone(&world.app.settings());
        settings.units = [vec!["a.service".to_owned()], Vec::new()];
        world.app.set_settings(settings);
        sample(&world);
        world.clock.advance(Duration::from_secs(10));
        sample(&world);
        assert_eq!(world.app.host.held.lock().beside.units, <[Units; 2]>::default());
        assert_eq!(world.app.host_units(), [Units::Unknown, Units::NotAsked]);
    }

    #[test]
    fn units_that_failed_count_if_they_were_named() {
        let world = World::new(1);
        let step = || {
            world.clock.advance(Duration::from_secs(10));
            world.app.watch_step(world.clock.now()).expect("it can be looked at");
            sample(&world);
            world.app.host_health()
        };
        world.machine.set_busy(0, 1_000);
        let unit = |name: &str, is_known, state: &str| Unit {
            name: name.to_owned(),
            is_known,
            state: state.to_owned(),
        };
        step();
        let health = step().expect("an interval is over");
        let is_unit = |signal: &Signal| matches!(signal, Signal::Units | Signal::CriticalUnits);
        assert!(!health.unavailable.iter().any(is_unit), "nobody asked: {health:?}");

        let mut settings = Settings::clone(&world.app.settings());
        settings.units =
            [vec!["a.service".to_owned(), "b.service".to_owned()], vec!["c.service".to_owned()]];
        world.app.set_settings(settings);
        // One reading that misses something does not end anything; these are seven.
        (0..6).for_each(|_| drop(step()));
        let health = step().expect("an interval is over");
        assert!(
            [Signal::Units, Signal::CriticalUnits]
                .iter()
                .all(|its| health.unavailable.contains(its))
        );
        assert_eq!(health.level, Level::Fine, "what is not known is no failure");

        let mut told = vec![
            unit("a.service", true, "active"),
            unit("b.service", true, "inactive"),
            unit("c.service", true, "active"),
        ];
        world.machine.set_units(Some(told.clone()));
        assert_eq!(step().map(|health| (health.level, health.tenths)), Some((Level::Fine, 1_000)));

        told[0].state = "failed".to_owned();
        (told[1].is_known, told[2].state) = (false, "active".to_owned());
        world.machine.set_units(Some(told.clone()));
        let health = step().expect("an interval is over");
        assert_eq!((health.level, health.tenths), (Level::Warning, 697));
        assert_eq!(
            health.text(),
            "2 units have failed: a.service b.service: see why with: systemctl status a.service b.service"
        );

        told[2].state = "failed".to_owned();
        world.machine.set_units(Some(told));
        let health = step().expect("an interval is over");
        assert_eq!(health.level, Level::Critical);
        assert!(health.text().contains("c.service has failed"), "{}", health.text());
        // They come with everything else that is said beside readings.
        world.app.set_settings(Settings {
            units: <[Vec<String>; 2]>::default(),
            ..Settings::clone(&world.app.settings())
        });
        (0..30).for_each(|_| drop(step()));
        assert_eq!(step().map(|health| health.level), Some(Level::Fine), "nobody asks any more");
    }
}
