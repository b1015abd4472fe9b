//! What was read, as it was read.

use crate::base::time::Now;

/// Texts of /proc at one moment. A file that cannot be read is `None`.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// `/proc/stat`
    pub stat: Option<String>,
    /// `/proc/loadavg`
    pub loadavg: Option<String>,
    /// `/proc/meminfo`
    pub meminfo: Option<String>,
    /// `/proc/vmstat`
    pub vmstat: Option<String>,
    /// `/proc/diskstats`
    pub diskstats: Option<String>,
    /// `/proc/net/dev`
    pub net_dev: Option<String>,
    /// `/proc/self/mountinfo`
    pub mountinfo: Option<String>,
    /// `/proc/pressure/cpu`
    pub pressure_cpu: Option<String>,
    /// `/proc/pressure/memory`
    pub pressure_memory: Option<String>,
    /// `/proc/pressure/io`
    pub pressure_io: Option<String>,
    /// `/proc/sys/fs/file-nr`
    pub file_nr: Option<String>,
    /// `/proc/uptime`
    pub uptime: Option<String>,
}

/// What `statvfs` says of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes of all blocks.
    pub total_bytes: u64,
    /// Bytes that are free, for the administrator too.
    pub free_bytes: u64,
    /// Bytes that anybody may still take.
    pub available_bytes: u64,
    /// Inodes; 0 where file systems have no fixed number of them.
    pub inodes: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
}

/// A mount, and what was said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Which.
    pub mount: super::mounts::Mount,
    /// None if it could not be asked.
    pub space: Option<Space>,
}

/// What is known of our own process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Own {
    /// Memory that is resident.
    pub resident_bytes: Option<u64>,
    /// CPU time since it began, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// How many there may be.
    pub descriptors_max: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// Everything of one moment.
#[derive(Clone, Debug)]
pub struct Raw {
    /// When.
    pub now: Now,
    /// Files.
    pub texts: Texts,
    /// File systems, those that [`super::mounts::chosen`] chose.
    pub mounted: Vec<Mounted>,
    /// This process.
    pub own: Own,
    /// How large a page of memory is: swapping is counted in pages.
    pub page_bytes: u64,
    /// Processors that we may use, where a group of processes is limited to parts of them; none without a limit.
    pub quota_cores: Option<f64>,
}
