//! Row 6: the outside world: this process and others, its memory and its disk, entropy, servers that are spoken to,
//! and the units of systemd.
//!
//! Implements the traits of [`crate::app::outside`]; [`client`] is how the command line talks to a running
//! server, and [`run_file`] how it finds one. What cannot be had is `None` or an error, never a guess.

pub mod child;
pub mod client;
pub mod entropy;
pub mod host;
pub mod leased;
pub mod machine;
pub mod memory;
pub mod process;
pub mod run_file;
pub mod snapshot;
pub mod terminal;
pub mod units;
