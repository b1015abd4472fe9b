//! Row 7: where the outside begins. Reads the real clock, opens the data directory.
//!
//! Wires everything together when there is a server to wire; today it holds what every process that
//! touches a data directory needs.

pub mod clock;
pub mod data_dir;
