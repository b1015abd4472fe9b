//! Holdfast: one binary for one small server.
//!
//! # Bird's eye view
//!
//! A small shop installs Holdfast instead of Redis, a queue runner, Prometheus with Grafana, and an
//! uptime monitor. Everything it promises rests on one sentence: **what was answered "stored" is there
//! after `kill -9` and after a power cut.** This version is the part that makes the sentence true.
//!
//! ```text
//!  row 8   cli                       commands                                     (main.rs calls it, nothing else)
//!  row 7   boot                      the real clock, the data directory; wires everything
//!  row 6   http  io  config          edges                                        to come
//!  row 5   app                       one door                                     to come
//!  row 4   cache queue series ...    services                                     to come
//!  row 3   exec                      the writer, the CPU pool, background workers
//!  row 2   store                     ordered bytes that survive                   (catalog, trend: to come)
//!  row 1   base                      time, ids, names, limits, codec, keys, secrets, chance
//! ```
//!
//! A module uses strictly lower rows. `tests/it/tidy.rs` checks it, along with the one home that each
//! dependency has.
//!
//! # Code map
//!
//! - [`base`]: the vocabulary. [`base::limits`] has every bound, [`base::codec`] every stored byte.
//! - [`store`]: the [`store::Engine`] seam and its contract; redb and SQLite behind it.
//! - [`exec`]: [`exec::writer`] turns many callers into few commits; [`exec::pool`] and [`exec::worker`]
//!   do what must not be done in a request.
//! - [`boot`]: [`boot::data_dir`] guards the folder in which everything stands.
//! - `testing`: disks that tear, a clock that is moved by hand, the model and the contract.
//!
//! # How a write becomes durable
//!
//! A caller hands [`exec::writer::Writer::call`] a closure. The writer's thread runs all closures that
//! wait in one transaction, commits it with one sync, and answers. A closure that fails is undone
//! alone. If the commit fails, everybody in it is told that the outcome is unknown, and the file is
//! opened anew, read from the disk and verified before anything else is accepted.
//!
//! # What is absent, on purpose
//!
//! - No per-call durability switch: there is one way to be durable.
//! - No `unsafe` code, no global state, no clock below `boot`, no thread outside `exec`.
//! - No unbounded queue, list, recursion or allocation that input decides.
//! - No retry of a failed sync: the kernel may have forgotten the pages it failed to write.

pub mod app;
pub mod base;
pub mod boot;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod exec;
pub mod http;
pub mod io;
pub mod store;

#[doc(hidden)]
pub mod testing;
