//! Row 7: where everything is wired.
//!
//! ```text
//!  settings -> log -> data directory -> catalog -> app -> workers -> interface -> sockets -> run.json, systemd
//! ```
//!
//! [`server`] starts a server and brings it to its end; [`data_dir`] guards the folder; [`clock`] reads the
//! real clock. Everything that touches a file or a socket of the server's own is here or in [`crate::io`].
//!
//! **How it ends**: 0 in order; 78 when a restart cannot help (settings, a newer format, a second server);
//! 74 when storage fails; 1 for the rest. The unit of the package restarts on 74 and 1, never on 78.

pub mod check;
pub mod clock;
pub mod data_dir;
mod descriptors;
pub mod first_start;
pub mod listen;
pub mod server;
pub mod settings;
pub mod tls;

mod logs;
mod notify;
mod reload;
mod snapshot;
