//! The series of an application whose clock is moved by hand and whose workers step when they are due, on an engine and
//! a log that outlive it: what a process that is killed leaves behind.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::app::World;
use super::batches::Kind;
use super::clock::ManualClock;
use crate::app::series::{Parts, Series, SeriesSettings};
use crate::app::series_workers;
use crate::base::time::Clock;
use crate::exec::worker::Seat;
use crate::exec::writer::Options;
use crate::store::log::{Log, LogFigures};
use crate::store::{Commit, Engine, EngineFigures, ReadBody, Result as StoreResult, WriteBody};

/// An engine that more than one may have.
pub struct SharedEngine(pub Arc<dyn Engine>);

impl Engine for SharedEngine {
    fn read(&self, body: &mut ReadBody<'_>) -> StoreResult {
        self.0.read(body)
    }

    fn write(&self, commit: Commit, body: &mut WriteBody<'_>) -> StoreResult {
        self.0.write(commit, body)
    }

    fn reserve(&self, bytes: u64) -> u64 {
        self.0.reserve(bytes)
    }

    fn figures(&self) -> EngineFigures {
        self.0.figures()
    }
}

#[derive(Debug, Default)]
struct LogState {
    bytes: Vec<u8>,
    synced: usize,
    figures: LogFigures,
}

/// A log in memory that outlives its handles. What was not synced is gone when the next handle is made.
#[derive(Clone, Debug, Default)]
pub struct SharedLog(Arc<Mutex<LogState>>);

impl SharedLog {
    /// One that already holds these bytes, durably.
    pub fn holding(bytes: Vec<u8>) -> SharedLog {
        let synced = bytes.len();
        SharedLog(Arc::new(Mutex::new(LogState { bytes, synced, figures: LogFigures::default() })))
    }

    /// The process was killed, and the machine lost power.
    pub fn cut_power(&self) {
        let mut state = self.0.lock();
        let synced = state.synced;
        state.bytes.truncate(synced);
    }
}

impl Log for SharedLog {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.lock().bytes.clone())
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        state.bytes.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        state.synced = state.bytes.len();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        state.bytes.extend_from_slice(bytes);
        state.figures.writes += 1;
        state.figures.write_bytes += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.synced = state.bytes.len();
        state.figures.syncs += 1;
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        {
            let mut state = self.0.lock();
            state.bytes.clear();
            state.synced = 0;
        }
        self.append(bytes)?;
        self.sync()
    }

    fn set_aside(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> u64 {
        self.0.lock().bytes.len() as u64
    }

    fn figures(&self) -> LogFigures {
        self.0.lock().figures
    }
}

/// What stays when a process is gone: the clock, the file, the log.
#[derive(Clone)]
pub struct Place {
    /// The clock, for all processes one after the other.
    pub clock: Arc<ManualClock>,
    /// The file.
    pub engine: Arc<dyn Engine>,
    /// The log.
    pub log: SharedLog,
}

impl Place {
    /// A new one, with an engine in memory or in this folder.
    pub fn new(kind: Kind, folder: &Path) -> Place {
        let engine = Arc::from(kind.open(folder));
        Place { clock: Arc::default(), engine, log: SharedLog::default() }
    }
}

/// A process.
pub struct Shop {
    /// The application.
    pub world: World,
    seats: Vec<Seat>,
    runtime: tokio::runtime::Runtime,
}

impl Shop {
    /// Opens what is there.
    pub fn open(place: &Place, settings: SeriesSettings) -> Shop {
        Shop::open_with(place, Box::new(place.log.clone()), settings)
    }

    /// The same with another log.
    pub fn open_with(place: &Place, log: Box<dyn Log>, settings: SeriesSettings) -> Shop {
        let clock = Arc::clone(&place.clock);
        let engine = Arc::clone(&place.engine);
        let mut options = Options::new("series", Box::new(|| ()));
        options.commit = Commit::Quick;
        let series = Series::start(Parts {
            clock: clock as Arc<dyn Clock>,
            opener: Box::new(move |_| Ok(Box::new(SharedEngine(Arc::clone(&engine))))),
            options,
            log,
            seed: 1,
        });
        let series = series.expect("what was written can be opened");
        Shop::of(World::with_series(1, Arc::clone(&place.clock), series), settings)
    }

    /// One around series that were opened otherwise.
    pub fn of(world: World, settings: SeriesSettings) -> Shop {
        let mut all = crate::app::Settings::clone(&world.app.settings());
        all.series = settings;
        world.app.set_settings(all);
        let seats = series_workers::all(&world.app).into_iter().map(Seat::new).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Shop { world, seats, runtime: runtime.expect("there is a runtime") }
    }

    /// Lets time pass, and every worker step when it is due.
    pub fn pass(&mut self, time: Duration) {
        let clock = Arc::clone(&self.world.clock);
        let end = clock.mono().plus(time);
        loop {
            while let Some(seat) =
                self.seats.iter_mut().find(|seat| seat.due_in(clock.mono()) == Some(Duration::ZERO))
            {
                seat.step(&*clock);
            }
            let now = clock.mono();
            let next = self.seats.iter().filter_map(|seat| seat.due_in(now)).min();
            let left = end.since(now);
            if left.is_zero() {
                return;
            }
            clock.advance(next.map_or(left, |next| next.min(left)));
        }
    }

    /// Wakes every worker, and lets it step until it wants to wait.
    pub fn step(&mut self) {
        for seat in &mut self.seats {
            seat.wake();
        }
        self.pass(Duration::ZERO);
    }

    /// Steps that panicked: none should have.
    pub fn panicked(&self) -> u64 {
        self.seats.iter().map(|seat| seat.figures().panicked).sum()
    }

    /// Waits for something.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}
