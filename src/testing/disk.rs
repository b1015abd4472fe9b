//! A disk that can fail, lie, tear, fill up and lose power.
//!
//! ```text
//!   write --> cache -- sync --> durable          what a reader sees -- what a power cut leaves
//! ```
//!
//! It behaves as Linux does where that hurts: after a sync that failed, the pages it did not write are
//! taken for clean. Readers still see them, later syncs do not write them, and only
//! [`Disk::forget_cached`] shows what the disk really holds.

use std::collections::BTreeSet;
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::rng::Rng;
use crate::store::disk::Disk;

/// `EIO`.
pub const EIO: i32 = 5;
/// `ENOSPC`.
pub const ENOSPC: i32 = 28;
/// No error but a panic: what comes out of an engine that is surprised by a damaged page.
pub const PANIC: i32 = -1;

const BLOCK_BYTES: u64 = 4096;
const SECTOR_BYTES: usize = 512;

/// An error that is going to happen.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Which operation, counted from the first.
    pub at: u64,
    /// What it fails with.
    pub errno: i32,
    /// Whether everything after it fails as well.
    pub for_good: bool,
}

/// A change of the bytes.
#[derive(Clone, Debug)]
pub enum Change {
    /// Bytes at an offset.
    Write(u64, Arc<[u8]>),
    /// A new length.
    SetLen(u64),
}

/// What happened on a disk, in order.
#[derive(Clone, Debug)]
pub enum Event {
    /// The bytes were changed, not yet durably.
    Change(Change),
    /// All changes before this one are durable.
    Sync,
    /// The test says: so many commits are acknowledged.
    Acknowledged(usize),
}

#[derive(Debug, Default)]
struct State {
    cache: Vec<u8>,
    durable: Vec<u8>,
    dirty: Vec<Change>,
    operations: u64,
    faults: Vec<Fault>,
    lies_about_syncs: bool,
    trace: Vec<Event>,
    allocated: BTreeSet<u64>,
    held_blocks: usize,
    capacity_blocks: Option<usize>,
    full_writes: u64,
}

/// A simulated disk with one file on it.
#[derive(Debug, Default)]
pub struct SimDisk {
    state: Mutex<State>,
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, data) => {
            let start = usize::try_from(*offset).expect("a simulated disk fits into memory");
            let end = start + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[start..end].copy_from_slice(data);
        }
        Change::SetLen(len) => {
            bytes.resize(usize::try_from(*len).expect("a simulated disk fits into memory"), 0);
        }
    }
}

impl SimDisk {
    /// A disk whose file already holds `bytes`, durably.
    pub fn holding(bytes: Vec<u8>) -> SimDisk {
        let state = State { cache: bytes.clone(), durable: bytes, ..State::default() };
        SimDisk { state: Mutex::new(state) }
    }

    /// Says that syncs are done without doing them: the control for tests of durability.
    pub fn lie_about_syncs(&self) {
        self.state.lock().lies_about_syncs = true;
    }

    /// Plans these errors, and no others.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().faults = faults.into_iter().collect();
    }

    /// Gives the disk so much space, in whole blocks.
    pub fn set_capacity(&self, bytes: u64) {
        let blocks = usize::try_from(bytes / BLOCK_BYTES).expect("a simulated disk is small");
        self.state.lock().capacity_blocks = Some(blocks);
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Writes that found no space.
    pub fn full_writes(&self) -> u64 {
        self.state.lock().full_writes
    }

    /// Notes in the trace that `commits` commits are acknowledged.
    pub fn acknowledged(&self, commits: usize) {
        self.state.lock().trace.push(Event::Acknowledged(commits));
    }

    /// Everything that happened.
    pub fn trace(&self) -> Vec<Event> {
        self.state.lock().trace.clone()
    }

    /// What a power cut would leave, if nothing unsynced had reached the disk by chance.
    pub fn after_power_cut(&self) -> Vec<u8> {
        self.state.lock().durable.clone()
    }
}

impl State {
    fn operation(&mut self) -> io::Result<()> {
        let n = self.operations;
        self.operations += 1;
        let due = |fault: &&Fault| n == fault.at || (fault.for_good && fault.at < n);
        match self.faults.iter().find(due) {
            Some(Fault { errno: PANIC, .. }) => resume_unwind(Box::new("a planned panic")),
            Some(fault) => Err(io::Error::from_raw_os_error(fault.errno)),
            None => Ok(()),
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.cache, &change);
        self.trace.push(Event::Change(change.clone()));
        self.dirty.push(change);
    }

    /// Takes blocks for `from..to`; all or nothing.
    fn allocate(&mut self, from: u64, to: u64) -> io::Result<()> {
        let Some(capacity) = self.capacity_blocks else {
            return Ok(());
        };
        let wanted = from / BLOCK_BYTES..to.div_ceil(BLOCK_BYTES);
        let new: Vec<u64> = wanted.filter(|block| !self.allocated.contains(block)).collect();
        if capacity < self.allocated.len() + self.held_blocks + new.len() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        self.allocated.extend(new);
        Ok(())
    }
}

impl Disk for SimDisk {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        state.operation()?;
        Ok(state.cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operation()?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let found = state.cache.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Err(error) = state.operation() {
            // A write that fails may have been half done.
            state.change(Change::Write(offset, bytes[..bytes.len() / 2].into()));
            return Err(error);
        }
        if let Err(error) = state.allocate(offset, offset + bytes.len() as u64) {
            state.full_writes += 1;
            return Err(error);
        }
        state.change(Change::Write(offset, bytes.into()));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operation()?;
        if len < state.cache.len() as u64 {
            state.allocated.retain(|block| *block < len.div_ceil(BLOCK_BYTES));
        }
        state.change(Change::SetLen(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Err(error) = state.operation() {
            state.dirty.clear();
            return Err(error);
        }
        if state.lies_about_syncs {
            return Ok(());
        }
        let State { durable, dirty, .. } = &mut *state;
        for change in dirty.drain(..) {
            apply(durable, &change);
        }
        state.trace.push(Event::Sync);
        Ok(())
    }

    fn hold(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operation()?;
        let blocks = usize::try_from(bytes.div_ceil(BLOCK_BYTES)).expect("a reserve is small");
        let capacity = state.capacity_blocks.unwrap_or(usize::MAX);
        if state.held_blocks < blocks && capacity < state.allocated.len() + blocks {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        state.held_blocks = blocks;
        Ok(())
    }

    fn held(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        state.operation()?;
        Ok(state.held_blocks as u64 * BLOCK_BYTES)
    }

    fn forget_cached(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operation()?;
        let mut bytes = state.durable.clone();
        for change in &state.dirty {
            apply(&mut bytes, change);
        }
        state.cache = bytes;
        Ok(())
    }
}

/// What a power cut left on the disk.
pub struct CrashImage {
    /// The file.
    pub bytes: Vec<u8>,
    /// Commits that were acknowledged before.
    pub acknowledged: usize,
    /// How the unsynced writes fared, for messages.
    pub how: String,
}

/// Every way a disk that began as `start` could look after a power cut, `ways` of them at each moment
/// just before a sync.
///
/// The disk may have done all, none or any of the unsynced writes, in any order, and one of them by
/// the sector.
pub fn crash_images(
    start: &[u8],
    trace: &[Event],
    rng: &mut Rng,
    visit: &mut dyn FnMut(CrashImage),
) {
    let mut durable = start.to_vec();
    let mut pending: Vec<&Change> = Vec::new();
    let mut acknowledged = 0;
    // The end of the trace is a moment like those before a sync.
    for event in trace.iter().chain([&Event::Sync]) {
        match event {
            Event::Acknowledged(commits) => acknowledged = *commits,
            Event::Change(change) => pending.push(change),
            Event::Sync => {
                for way in Way::all(pending.len(), rng) {
                    let mut bytes = durable.clone();
                    way.overlay(&mut bytes, &pending, rng);
                    visit(CrashImage { bytes, acknowledged, how: format!("{way:?}") });
                }
                for change in pending.drain(..) {
                    apply(&mut durable, change);
                }
            }
        }
    }
}

/// How unsynced writes fared.
#[derive(Debug)]
enum Way {
    /// The first so many were done.
    Prefix(usize),
    /// These were done, in this order.
    Some(Vec<usize>),
    /// All but one were done, and that one by the sector.
    Torn(usize),
}

impl Way {
    fn all(pending: usize, rng: &mut Rng) -> Vec<Way> {
        if pending == 0 {
            return Vec::new();
        }
        let subset = |one_in_not: u64, rng: &mut Rng| {
            let mut some: Vec<usize> = (0..pending).filter(|_| !rng.one_in(one_in_not)).collect();
            for n in (1..some.len()).rev() {
                some.swap(n, rng.index(n + 1));
            }
            Way::Some(some)
        };
        let missing = rng.index(pending);
        vec![
            Way::Prefix(0),
            Way::Prefix(pending),
            Way::Prefix(rng.index(pending + 1)),
            Way::Some((0..pending).filter(|n| *n != missing).collect()),
            subset(2, rng),
            subset(2, rng),
            subset(4, rng),
            subset(8, rng),
            Way::Torn(rng.index(pending)),
            // The header is written last; tearing it is the hardest case.
            Way::Torn(pending - 1),
        ]
    }

    fn overlay(&self, bytes: &mut Vec<u8>, pending: &[&Change], rng: &mut Rng) {
        match self {
            Way::Prefix(len) => pending[..*len].iter().for_each(|change| apply(bytes, change)),
            Way::Some(order) => order.iter().for_each(|&n| apply(bytes, pending[n])),
            Way::Torn(torn) => {
                for (n, change) in pending.iter().enumerate() {
                    match change {
                        Change::Write(offset, data) if n == *torn => {
                            tear(bytes, *offset, data, rng);
                        }
                        other => apply(bytes, other),
                    }
                }
            }
        }
    }
}

fn tear(bytes: &mut Vec<u8>, offset: u64, data: &[u8], rng: &mut Rng) {
    for (n, sector) in data.chunks(SECTOR_BYTES).enumerate() {
        if rng.one_in(2) {
            let at = offset + (n * SECTOR_BYTES) as u64;
            apply(bytes, &Change::Write(at, sector.into()));
        }
    }
}
