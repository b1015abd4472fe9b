//! What the application asks of the outside world; `io` and `testing` answer.

use std::time::Duration;

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

/// A file system at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its size.
    pub total_bytes: u64,
    /// What we may still take.
    pub free_bytes: u64,
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
