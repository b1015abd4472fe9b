//! A log in memory that can fail, tear and lose power.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::rng::Rng;
use crate::store::log::{Log, LogFigures};

/// Bytes in memory.
#[derive(Debug, Default)]
pub struct MemoryLog {
    bytes: Vec<u8>,
    figures: LogFigures,
}

impl Log for MemoryLog {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.bytes.clone())
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.bytes.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.figures.writes += 1;
        self.figures.write_bytes += bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.figures.syncs += 1;
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.clear();
        self.append(bytes)?;
        self.sync()
    }

    fn set_aside(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn figures(&self) -> LogFigures {
        self.figures
    }
}

const SECTOR_BYTES: usize = 512;

/// Something that changed a log.
#[derive(Clone, Debug)]
enum Event {
    Appended(Arc<[u8]>),
    Synced,
    /// Whether it was said to be done; if not, it may have been done all the same.
    Replaced(Arc<[u8]>, bool),
    Cut(usize),
    /// The test says: so much is acknowledged.
    Acknowledged(usize),
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    aside: Option<Vec<u8>>,
    started_with: Vec<u8>,
    events: Vec<Event>,
    operations: u64,
    /// Which operations fail, counted from the first: from, to, with which error.
    faults: Vec<(std::ops::Range<u64>, i32)>,
    failed: bool,
    figures: LogFigures,
}

/// A log that fails when it is told to, and remembers what happened; clones are the same log.
///
/// After a failed append or sync it takes nothing until it is replaced, and what was not synced never reaches the disk by
/// a later sync.
#[derive(Clone, Debug, Default)]
pub struct SimLog(Arc<Mutex<State>>);

/// What a power cut left.
pub struct LogImage {
    /// The file.
    pub bytes: Vec<u8>,
    /// What was acknowledged before.
    pub acknowledged: usize,
}

impl SimLog {
    /// A log that holds `bytes`, durably.
    pub fn holding(bytes: Vec<u8>) -> SimLog {
        let state = State { started_with: bytes.clone(), bytes, ..State::default() };
        SimLog(Arc::new(Mutex::new(state)))
    }

    /// From now on, the operations with these numbers fail with this error; and no others.
    pub fn fail(&self, faults: impl IntoIterator<Item = (std::ops::Range<u64>, i32)>) {
        self.0.lock().faults = faults.into_iter().collect();
    }

    /// Operations so far: reads, cuts, appends, syncs, replacements, and copies that are kept.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Notes that so much is acknowledged.
    pub fn acknowledged(&self, so_much: usize) {
        self.0.lock().events.push(Event::Acknowledged(so_much));
    }

    /// What the file looks like to those who read it.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().bytes.clone()
    }

    /// What was set aside.
    pub fn aside(&self) -> Option<Vec<u8>> {
        self.0.lock().aside.clone()
    }

    /// What a power cut could leave at each moment: of what was appended and not synced any part, with holes; of a
    /// replacement in its midst the old file or the new one.
    pub fn images(&self, rng: &mut Rng, visit: &mut dyn FnMut(LogImage)) {
        let state = self.0.lock();
        let (mut durable, mut unsynced) = (vec![state.started_with.clone()], Vec::new());
        let mut acknowledged = 0;
        for event in &state.events {
            for file in &durable {
                for _ in 0..2 {
                    visit(LogImage { bytes: torn(file, &unsynced, rng), acknowledged });
                }
            }
            match event {
                Event::Acknowledged(so_much) => acknowledged = *so_much,
                Event::Appended(bytes) => unsynced.extend_from_slice(bytes),
                Event::Synced => {
                    // Something was synced in one file: it is this one.
                    let file = durable.last_mut().expect("BUG: there is always a file");
                    file.append(&mut unsynced);
                    durable.drain(..durable.len() - 1);
                }
                Event::Cut(length) => durable.iter_mut().for_each(|file| file.truncate(*length)),
                Event::Replaced(bytes, true) => {
                    durable = vec![bytes.to_vec()];
                    unsynced.clear();
                }
                Event::Replaced(bytes, false) => durable.insert(0, bytes.to_vec()),
            }
        }
        for file in &durable {
            visit(LogImage { bytes: torn(file, &unsynced, rng), acknowledged });
        }
    }
}

/// A file with any part of what was appended behind it.
fn torn(file: &[u8], unsynced: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = file.to_vec();
    let kept = rng.index(unsynced.len() + 1);
    for sector in unsynced[..kept].chunks(SECTOR_BYTES) {
        if rng.one_in(4) {
            bytes.resize(bytes.len() + sector.len(), 0);
        } else {
            bytes.extend_from_slice(sector);
        }
    }
    bytes
}

impl State {
    fn operation(&mut self) -> io::Result<()> {
        let n = self.operations;
        self.operations += 1;
        match self.faults.iter().find(|(at, _)| at.contains(&n)) {
            Some((_, errno)) => Err(io::Error::from_raw_os_error(*errno)),
            None => Ok(()),
        }
    }

    fn usable(&self) -> io::Result<()> {
        if self.failed { Err(io::Error::other("the log failed before")) } else { Ok(()) }
    }
}

impl Log for SimLog {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut state = self.0.lock();
        state.operation()?;
        Ok(state.bytes.clone())
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operation()?;
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        state.bytes.truncate(length);
        state.events.push(Event::Cut(length));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        state.usable()?;
        let done = state.operation();
        state.failed |= done.is_err();
        // One that fails may have been half done.
        let some = if done.is_err() { &bytes[..bytes.len() / 2] } else { bytes };
        state.bytes.extend_from_slice(some);
        state.events.push(Event::Appended(some.into()));
        state.figures.writes += 1;
        state.figures.write_bytes += some.len() as u64;
        done
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.usable()?;
        let done = state.operation();
        state.failed |= done.is_err();
        if done.is_ok() {
            state.events.push(Event::Synced);
            state.figures.syncs += 1;
        }
        done
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        let done = state.operation();
        state.failed = done.is_err();
        state.events.push(Event::Replaced(bytes.into(), done.is_ok()));
        done?;
        state.bytes = bytes.to_vec();
        state.figures.writes += 1;
        state.figures.write_bytes += bytes.len() as u64;
        state.figures.syncs += 1;
        Ok(())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operation()?;
        state.aside = Some(state.bytes.clone());
        Ok(())
    }

    fn len(&self) -> u64 {
        self.0.lock().bytes.len() as u64
    }

    fn figures(&self) -> LogFigures {
        self.0.lock().figures
    }
}
