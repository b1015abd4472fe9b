//! Processes that begin and end when a test says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::app::outside::{Death, Processes, WatchError, Watched};

struct Watch {
    pid: u32,
    was_there: bool,
    ended: Box<dyn FnOnce(Death) + Send>,
}

#[derive(Default)]
struct Machine {
    /// When each process that lives began.
    living: BTreeMap<u32, u64>,
    watches: BTreeMap<u64, Watch>,
    next_watch: u64,
    ticks: u64,
    boots: u64,
    refuses: bool,
}

impl Machine {
    /// Takes out those watches, and who is to be told.
    fn take(&mut self, which: impl Fn(&Watch) -> bool) -> Vec<Watch> {
        self.watches.extract_if(.., |_, watch| which(watch)).map(|(_, watch)| watch).collect()
    }
}

/// A machine without processes at first. Those who watch are told by [`FakeProcesses::kill`] and
/// [`FakeProcesses::settle`], on the thread that calls them.
#[derive(Clone, Default)]
pub struct FakeProcesses {
    machine: Arc<Mutex<Machine>>,
}

impl FakeProcesses {
    /// The name of the machine.
    pub const HOST_NAME: &str = "here";

    /// A process begins; the number may have been used before. When, as [`Watched::started`] says it.
    pub fn start(&self, pid: u32) -> u64 {
        let mut machine = self.machine.lock();
        machine.ticks += 1;
        let started = machine.ticks;
        machine.living.insert(pid, started);
        started
    }

    /// A process ends, and those who watch it are told.
    pub fn kill(&self, pid: u32) {
        let told = {
            let mut machine = self.machine.lock();
            machine.living.remove(&pid);
            machine.take(|watch| watch.pid == pid)
        };
        tell(told);
    }

    /// Those who watch what was not there are told.
    pub fn settle(&self) {
        let told = self.machine.lock().take(|watch| !watch.was_there);
        tell(told);
    }

    /// From now on nothing can be watched, as on an old kernel.
    pub fn refuse(&self) {
        self.machine.lock().refuses = true;
    }

    /// The machine starts anew: no process lives, and whoever watched is not told.
    pub fn reboot(&self) {
        let mut machine = self.machine.lock();
        machine.boots += 1;
        machine.living.clear();
        machine.watches.clear();
    }
}

/// Nothing is held meanwhile: they may watch others, or drop what they have.
fn tell(watches: Vec<Watch>) {
    for Watch { pid, was_there, ended } in watches {
        ended(Death { how: format!("process {pid} ended"), was_there });
    }
}

impl FakeProcesses {
    /// How many are watched that were there.
    pub fn watched(&self) -> usize {
        self.machine.lock().watches.values().filter(|watch| watch.was_there).count()
    }
}

impl Processes for FakeProcesses {
    fn watch(
        &self,
        pid: u32,
        started: Option<u64>,
        ended: Box<dyn FnOnce(Death) + Send>,
    ) -> Result<Watched, WatchError> {
        let mut machine = self.machine.lock();
        if pid <= 1 || pid == std::process::id() {
            return Err(WatchError::NotAWorker(pid));
        }
        if machine.refuses {
            return Err(WatchError::Unsupported);
        }
        let begun = machine.living.get(&pid).copied();
        let was_there = begun.is_some() && (started.is_none() || started == begun);
        let number = machine.next_watch;
        machine.next_watch += 1;
        machine.watches.insert(number, Watch { pid, was_there, ended });
        let guard = Guard { machine: Arc::clone(&self.machine), number };
        Ok(Watched::new(pid, if was_there { begun } else { started }, Box::new(guard)))
    }

    fn host_name(&self) -> &str {
        FakeProcesses::HOST_NAME
    }

    fn boot_id(&self) -> Option<u64> {
        Some(self.machine.lock().boots)
    }
}

struct Guard {
    machine: Arc<Mutex<Machine>>,
    number: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let watch = self.machine.lock().watches.remove(&self.number);
        drop(watch);
    }
}
