//! Row 4: this machine. What the kernel says, what that means over the last ten seconds, and how healthy it is.
//!
//! ```text
//!   io: texts of /proc, statvfs --> [raw] --> [parse] Counters --two of them--> [reading] Reading, what cannot be read is None
//!                                                 |                                 |
//!                                                 '--> [names] node_*, server_* <---'
//!                                                                                   '--> [signals] means, since when --> [score]
//! ```
//!
//! No crate stands between us and /proc: those that list disks and processors read the same files, and leave out what a
//! shop's server suffers from most (iowait, steal, inodes, pressure, the OOM killer).
//!
//! **Invariants**
//! - What cannot be read is `None`, never 0, and its name stands in [`reading::Reading::unavailable`].
//! - Percentages are of the time between two readings, never since the machine started. A counter that went back is a new
//!   one: there is no rate for that interval.
//! - A file system is counted once, however often it is mounted, and none of a network is asked: it may never answer.
//! - Points of deductions add up to 100 - score; word and number come of the same flags and cannot disagree.
//!
//! **Failure cases**: a file that is missing, empty, cut or nonsense (containers, old kernels, hidden /proc): what it would
//! have told is `None`; nothing else suffers. A device that comes or goes: its first interval has no rates.
//!
//! Never here: a file, a clock, a thread.

pub mod mounts;
pub mod names;
pub mod parse;
pub mod raw;
pub mod reading;
pub mod score;
pub mod signals;
