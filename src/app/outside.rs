//! What the application asks of the outside world; `io` and `testing` answer.

use std::time::Duration;

use crate::base::time::Now;
use crate::host;

/// Where secrets and ids come from.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with what nobody can guess.
    fn fill(&self, bytes: &mut [u8]);
}

/// What the machine says about this process and its disk.
pub trait Probe: Send + Sync {
    /// This process.
    fn process(&self) -> Process;
    /// The file system of the data directory; `None` when there is none, or it cannot be asked.
    fn disk(&self) -> Option<Disk>;
}

/// This process at one moment. A figure that could not be had is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Memory that is resident.
    pub resident_bytes: Option<u64>,
    /// CPU time, in user mode and in the kernel.
    pub cpu: Option<Duration>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// How many there may be.
    pub descriptors_max: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// Reads the machine.
pub trait Machine: Send + Sync {
    /// What its files say at this moment. It asks the kernel and may wait for a disk: never on the
    /// runtime's threads. What cannot be read is `None` in the answer; the call itself cannot fail.
    fn read(&self, now: Now) -> host::raw::Raw;

    /// How these units of systemd stand; `None` when it does not say. It may wait for two seconds: never on the
    /// runtime's threads, nor where the machine is read.
    fn units(&self, names: &[String]) -> Option<Vec<Unit>>;
}

/// A unit of systemd, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// `nginx.service`
    pub name: String,
    /// Whether there is such a unit at all.
    pub is_known: bool,
    /// `active`, `failed`, `inactive`, ...
    pub state: String,
}

/// A file system at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its size.
    pub total_bytes: u64,
    /// What we may still take.
    pub free_bytes: u64,
}

/// Watches processes of this machine, so that the work of one that ends goes on elsewhere at once.
pub trait Processes: Send + Sync {
    /// Tells `ended` once, soon after the process with this id has ended; also when there is none to begin
    /// with. It is never told from within this call, and never after what is returned was dropped, unless
    /// it was under way by then. It runs where others are told too: it must not wait.
    ///
    /// `started` is the moment at which the process began, as [`Watched::started`] once said it: when
    /// another process has the number now, the one that was meant has ended.
    fn watch(
        &self,
        pid: u32,
        started: Option<u64>,
        ended: Box<dyn FnOnce(Death) + Send>,
    ) -> Result<Watched, WatchError>;

    /// The name of this machine, to compare with what a worker says.
    fn host_name(&self) -> &str;

    /// Another number after a reboot; `None` when the machine does not say.
    fn boot_id(&self) -> Option<u64>;
}

/// A process that is watched. When this is dropped it is no longer.
pub struct Watched {
    /// Its id.
    pub pid: u32,
    /// When it began, in ticks since the machine started: with the id and [`Processes::boot_id`] no other
    /// process is the same. `None` when that cannot be seen: the processes of others may be hidden.
    pub started: Option<u64>,
    _guard: Box<dyn Send + Sync>,
}

impl Watched {
    /// A process that is watched until `guard` is dropped.
    pub fn new(pid: u32, started: Option<u64>, guard: Box<dyn Send + Sync>) -> Watched {
        Watched { pid, started, _guard: guard }
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} that began at {:?}", self.pid, self.started)
    }
}

/// A process has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// In words, for those who ask why. How a process ended is known to its parent alone.
    pub how: String,
    /// Whether it was there when it began to be watched. If it was not, and somebody has just said that it
    /// lives, then it lives where numbers mean something else: in a container that has our name.
    pub was_there: bool,
}

/// Why a process is not watched. Its leases still end when it is silent.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The machine itself (0 and 1), or this server: when they end nobody is told anything.
    #[error("process {0} cannot be watched: it is the machine's first, or this server itself")]
    NotAWorker(u32),
    /// The number of a thread.
    #[error("{0} is the number of a thread, not of a process")]
    Thread(u32),
    /// There are as many as there may be, or no descriptor is left.
    #[error("as many processes are watched as can be")]
    TooMany,
    /// The kernel has no such thing, or this server may not use it.
    #[error("this machine cannot watch processes")]
    Unsupported,
    /// Something else.
    #[error("the process cannot be watched")]
    System(#[source] std::io::Error),
}

/// One setting that a reload met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// Which one.
    pub key: String,
    /// What it was.
    pub from: String,
    /// What it is in the file.
    pub to: String,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// In force now.
    pub changed: Vec<SettingChange>,
    /// In force after a restart.
    pub needs_restart: Vec<SettingChange>,
    /// Worth knowing.
    pub warnings: Vec<String>,
}

/// Why a reload did nothing: each problem as it is told to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadRefused(pub Vec<String>);

/// Reads the settings again: all of them or none.
pub trait Reload: Send + Sync {
    /// May wait for files; never on the runtime's threads.
    fn reload(&self) -> Result<Reloaded, ReloadRefused>;
}
