//! Row 1: the words everything else is written in.
//!
//! Time, ids, names, scopes, quotas, tokens, limits, human input, amounts, secrets, chance, cursors,
//! ordered keys and the record codec. Nothing here knows a file, a socket, a thread or a clock; every function is pure, and every parser is
//! total: any input gives a value or an error, never a panic and never a large allocation.

pub mod amount;
pub mod codec;
pub mod cursor;
pub mod human;
pub mod id;
pub mod key;
pub mod limits;
pub mod name;
pub mod pieces;
pub mod quota;
pub mod rng;
pub mod scope;
pub mod secret;
pub mod time;
pub mod token;
