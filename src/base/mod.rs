//! Row 1: the words everything else is written in.
//!
//! Time, ids, names, limits, human input, secrets, chance, ordered keys and the record codec. Nothing
//! here knows a file, a socket, a thread or a clock; every function is pure, and every parser is
//! total: any input gives a value or an error, never a panic and never a large allocation.

pub mod codec;
pub mod human;
pub mod id;
pub mod key;
pub mod limits;
pub mod name;
pub mod rng;
pub mod secret;
pub mod time;
