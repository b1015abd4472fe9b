//! The processes of this machine, watched by descriptors of the kernel (pidfd).
//!
//! ```text
//!   watch --> [table of watches] <--takes-- a thread <--epoll-- one descriptor for each process
//!                   ^                                  <--epoll-- a bell: see who was not there; end
//!   drop of a guard-'
//! ```
//!
//! A descriptor stands for one process and no other, whoever gets its number later, and becomes readable
//! when the process ends. One thread waits for all of them; nothing is asked again and again.
//!
//! The number is turned into a descriptor first, and when the process began is read after that. If the
//! process lives when the descriptor is waited for, then nobody else had its number in between, and what
//! was read was its own; if it does not, its end is told, and what was read does not matter.
//!
//! **Invariants**: whoever takes a watch out of the table, the thread to tell it or the guard to drop it,
//! is the only one who does; so an end is told at most once, and not after the guard was dropped. It is
//! told on the thread, never from within [`Processes::watch`], and nothing is locked meanwhile. A process
//! is never told to have ended while it lives: what cannot be seen (`/proc` may hide the processes of
//! others) is not held against it. **Bounds**: as many watches as it was started with; each is a descriptor.
//!
//! **Failure cases**: the kernel is older than 5.3, or a filter of system calls is in the way: every watch
//! is refused as unsupported, and leases alone tell who is silent.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::app::outside::{Death, Processes, WatchError, Watched};
use crate::exec::aside::Aside;

/// Says which start of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Ends that are taken from the kernel at once.
const EVENTS: usize = 64;
/// The number of the bell, which no watch has.
const BELL: u64 = 0;

/// Asks the kernel.
#[derive(Debug)]
pub struct SystemProcesses {
    desk: Arc<Desk>,
    host_name: String,
    boot_id: Option<u64>,
    thread: Aside,
}

impl SystemProcesses {
    /// Watches nobody yet, and never more than so many at once: each takes a descriptor.
    pub fn start(watches_max: usize) -> io::Result<SystemProcesses> {
        let desk = Arc::new(Desk {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            watches_max,
            table: Mutex::default(),
        });
        epoll::add(&desk.epoll, &desk.bell, EventData::new_u64(BELL), EventFlags::IN)?;
        let its = Arc::clone(&desk);
        let thread = Aside::start("processes", move || its.work())?;
        let boot_id = std::fs::read_to_string(BOOT_ID).ok();
        Ok(SystemProcesses {
            desk,
            host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot_id: boot_id.and_then(|text| boot_number(&text)),
            thread,
        })
    }
}

#[cfg(test)]
impl SystemProcesses {
    /// How many are watched; each costs a descriptor.
    fn watched(&self) -> usize {
        self.desk.table.lock().descriptors
    }
}

impl Drop for SystemProcesses {
    fn drop(&mut self) {
        self.desk.table.lock().ending = true;
        self.desk.ring();
        self.thread.join();
        // Those who were to be told may hold what holds their guards.
        let nobody = std::mem::take(&mut *self.desk.table.lock());
        drop(nobody);
    }
}

impl Processes for SystemProcesses {
    fn watch(
        &self,
        pid: u32,
        started: Option<u64>,
        ended: Box<dyn FnOnce(Death) + Send>,
    ) -> Result<Watched, WatchError> {
        if pid <= 1 || pid == std::process::id() {
            return Err(WatchError::NotAWorker(pid));
        }
        let descriptor = open(pid)?;
        let begun = descriptor.as_ref().and_then(|_| started_at(pid));
        let replaced = started.is_some() && begun.is_some() && started != begun;
        let descriptor = descriptor.filter(|_| !replaced);
        let started = if descriptor.is_some() { begun } else { started };
        let number = self.desk.enter(Watch { pid, descriptor, ended })?;
        let guard = Guard { desk: Arc::clone(&self.desk), number };
        Ok(Watched::new(pid, started, Box::new(guard)))
    }

    fn host_name(&self) -> &str {
        &self.host_name
    }

    fn boot_id(&self) -> Option<u64> {
        self.boot_id
    }
}

/// Who is to be told of which end.
struct Watch {
    pid: u32,
    /// None when there was no such process.
    descriptor: Option<OwnedFd>,
    ended: Box<dyn FnOnce(Death) + Send>,
}

impl Watch {
    /// Whoever panics harms nobody else.
    fn tell(self) {
        let Watch { pid, descriptor, ended } = self;
        let was_there = descriptor.is_some();
        drop(descriptor);
        let how = if was_there {
            format!("process {pid} ended")
        } else {
            format!("there is no process {pid} any more")
        };
        if catch_unwind(AssertUnwindSafe(|| ended(Death { how, was_there }))).is_err() {
            tracing::error!("somebody panicked who was told that a process ended");
        }
    }
}

#[derive(Default)]
struct Table {
    watches: HashMap<u64, Watch>,
    /// Those of `watches` that have a descriptor.
    descriptors: usize,
    /// Those that have none: to be told as soon as the thread comes to it.
    missing: Vec<u64>,
    last_number: u64,
    ending: bool,
}

/// What the thread, those who watch and their guards share.
struct Desk {
    epoll: OwnedFd,
    bell: OwnedFd,
    watches_max: usize,
    table: Mutex<Table>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at most {} watches", self.watches_max)
    }
}

impl Desk {
    /// Takes a watch in; its number.
    fn enter(&self, watch: Watch) -> Result<u64, WatchError> {
        let mut table = self.table.lock();
        // One of a process that is not there is gone in a moment; it has a bound all the same.
        if self.watches_max <= table.watches.len() {
            return Err(WatchError::TooMany);
        }
        let number = table.last_number + 1;
        if let Some(descriptor) = &watch.descriptor {
            epoll::add(&self.epoll, descriptor, EventData::new_u64(number), EventFlags::IN)
                .map_err(refused)?;
            table.descriptors += 1;
        } else {
            table.missing.push(number);
            self.ring();
        }
        table.last_number = number;
        table.watches.insert(number, watch);
        Ok(number)
    }

    /// Takes a watch out, if nobody else has.
    fn take(&self, number: u64) -> Option<Watch> {
        let mut table = self.table.lock();
        let watch = table.watches.remove(&number)?;
        if let Some(descriptor) = &watch.descriptor {
            table.descriptors -= 1;
            // Closing it does not do that while a child that is just being started has it too.
            if let Err(error) = epoll::delete(&self.epoll, descriptor) {
                tracing::error!(%error, "a process could not be left alone");
            }
        }
        Some(watch)
    }

    /// Makes the thread look at what it has to do.
    fn ring(&self) {
        // Any number but zero; when there is no room for it the bell is ringing already.
        let _ = rustix::io::write(&self.bell, &[1; 8]);
    }

    /// Those who are to be told without a word of the kernel; `None` at the end.
    fn rung(&self) -> Option<Vec<u64>> {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        let mut table = self.table.lock();
        (!table.ending).then(|| std::mem::take(&mut table.missing))
    }

    /// The life of the thread.
    fn work(&self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "processes are no longer watched");
                    return;
                }
            }
            for event in &events {
                let number = event.data.u64();
                let numbers = if number == BELL { self.rung() } else { Some(vec![number]) };
                let Some(numbers) = numbers else {
                    return;
                };
                numbers.into_iter().filter_map(|number| self.take(number)).for_each(Watch::tell);
            }
        }
    }
}

fn refused(error: Errno) -> WatchError {
    match error {
        Errno::NOSPC | Errno::NOMEM => WatchError::TooMany,
        error => WatchError::System(error.into()),
    }
}

/// Takes its watch out: nobody is told.
struct Guard {
    desk: Arc<Desk>,
    number: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let watch = self.desk.take(self.number);
        drop(watch);
    }
}

/// A descriptor for the process; `None` when there is none.
fn open(pid: u32) -> Result<Option<OwnedFd>, WatchError> {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    match pidfd_open(number, PidfdFlags::empty()) {
        Ok(descriptor) => Ok(Some(descriptor)),
        Err(Errno::SRCH) => Ok(None),
        Err(Errno::INVAL | Errno::NOENT) => Err(WatchError::Thread(pid)),
        Err(Errno::NOSYS | Errno::PERM) => Err(WatchError::Unsupported),
        Err(Errno::MFILE | Errno::NFILE) => Err(WatchError::TooMany),
        Err(error) => Err(WatchError::System(error.into())),
    }
}

/// When the process with this id began; `None` when that cannot be seen.
fn started_at(pid: u32) -> Option<u64> {
    started_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of `/proc/<pid>/stat`. The command's name in brackets may hold anything.
fn started_in(stat: &str) -> Option<u64> {
    let rest = stat.rsplit_once(')')?.1;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// The 32 digits of a boot id, folded into one number.
fn boot_number(text: &str) -> Option<u64> {
    let digits: String = text.trim().chars().filter(|letter| *letter != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let whole = u128::from_str_radix(&digits, 16).ok()?;
    let [high, low] = [whole >> 64, whole & u128::from(u64::MAX)].map(u64::try_from);
    Some(high.ok()? ^ low.ok()?)
}

#[cfg(test)]
mod tests;
