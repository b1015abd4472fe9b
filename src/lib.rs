//! Holdfast: one binary for one small server.
//!
//! # Bird's eye view
//!
//! A small shop installs Holdfast instead of Redis, a queue runner, Prometheus with Grafana, and an
//! uptime monitor. Everything it promises rests on one sentence: **what was answered "stored" is there
//! after `kill -9` and after a power cut.** This version has the storage that makes the sentence true, the
//! edge (HTTP, tokens, tenants, settings, the command line), the cache with its locks, the queues, the time series, and what
//! follows from them: readings of the machine and its health, trends, capacity.
//!
//! ```text
//!  row 8   cli                       commands; a client of our own API            (main.rs calls it, nothing else)
//!  row 7   boot                      the real clock, the data directory, sockets; wires everything
//!  row 6   http  io  config          edges: bytes <-> calls, the outside world, settings
//!  row 5   app                       one door: who may do what, for which tenant
//!  row 4   cache  queue  series host services                        (monitors: to come)
//!  row 3   exec                      the writer, the keeper, the CPU pool, background workers
//!  row 2   store  catalog  trend     ordered bytes that survive; relations; maths
//!  row 1   base                      time, ids, names, scopes, tokens, limits, codec, keys, chance
//! ```
//!
//! A module uses strictly lower rows. `tests/it/tidy.rs` checks it, along with the one home that each
//! dependency has.
//!
//! # Code map
//!
//! - [`base`]: the vocabulary. [`base::limits`] has every bound, [`base::codec`] every stored byte.
//! - [`store`]: the [`store::Engine`] seam and its contract; redb and SQLite behind it.
//! - [`catalog`]: what people edit, in SQLite; [`exec::keeper`] is the thread that has it.
//! - [`exec`]: [`exec::writer`] turns many callers into few commits; [`exec::pool`] and [`exec::worker`]
//!   do what must not be done in a request.
//! - [`cache`]: the keyspace ([`cache::space`]), what is kept on disk ([`cache::kept`]), locks
//!   ([`cache::locks`]).
//! - [`queue`]: the operations on jobs ([`queue::push`], [`queue::lease`], [`queue::finish`]), what is known of them
//!   without looking ([`queue::memory`]), and the proof that a file is as it should be ([`queue::check`]).
//! - [`series`]: samples in memory ([`series::open`], [`series::memory`]) and in the log ([`series::wal`]), blocks
//!   ([`series::seal`], [`series::block`]), points ([`series::roll`], [`series::point`]), queries ([`series::query`]),
//!   and the proof that a file is as it should be ([`series::check`]).
//! - [`trend`]: what numbers over time say; [`trend::report`] puts it together. [`host`]: what the kernel's files say
//!   ([`host::parse`], [`host::reading`]), and how healthy that is ([`host::signals`], [`host::score`]).
//! - [`app::host`] reads the machine, [`app::trends`] answers what is asked, [`app::watch`] looks without being asked.
//! - [`app`]: tokens, tenants, the slow log, [`app::cache`] and [`app::kept`], [`app::queue`] and [`app::jobs`]; [`app::directory`] is what every request looks at.
//! - [`http`]: [`http::routes`] is the one table; [`http::service`] is what happens to a request,
//!   [`http::connection`] who may stay connected.
//! - [`config`]: [`config::KEYS`] is the one table of settings.
//! - [`io`]: this process, its disk, entropy; the client that the command line uses.
//! - [`boot`]: [`boot::server`] is a server from its start to its end; [`boot::data_dir`] guards the folder
//!   in which everything stands.
//! - [`cli`]: what people type.
//! - `testing`: disks that tear, a clock that is moved by hand, the model and the contract.
//!
//! # How a request is answered
//!
//! The accept loop gives a connection a place and a task. hyper reads the head; the service finds the row
//! of the route table, the token in memory, the scope in the row, and asks the handler. A handler looks at
//! memory and answers at once, or hands an operation to the thread that has the store and waits for its
//! sync. The answer gets its headers in one place, as does every error.
//!
//! # How a write becomes durable
//!
//! A caller hands [`exec::writer::Writer::call`] a closure. The writer's thread runs all closures that
//! wait in one transaction, commits it with one sync, and answers. A closure that fails is undone
//! alone. If the commit fails, everybody in it is told that the outcome is unknown, and the file is
//! opened anew, read from the disk and verified before anything else is accepted.
//!
//! # How a key is read
//!
//! The hash of a key names one of a namespace's shards. Under its lock the entry is found, judged by the
//! reader's clock (ended? forgotten?), noted as warm, and shared: the answer holds the same bytes. Nothing
//! else is touched. What is put takes its room from the accounts first; if there is none, the entries that
//! are asked for least give way, in one shard after the other.
//!
//! # How a job travels
//!
//! A push is an operation on the thread of jobs.redb: it writes the job and its place among those that may run. A
//! lease, on the same thread, takes the first place, writes the lease, and hands the job over; if the answer does
//! not arrive, that is undone. Whoever finds nothing stands in a line, and each push calls one. When the job is
//! over it leaves the store for the outbox, in the commit that ends it, and goes from there to the history.
//!
//! # How a sample travels
//!
//! A line of text is found by its name in one look and put into the open bucket of its hour, in memory; the caller is
//! answered. Every ten seconds what has come goes to series.wal in one frame, synced; whoever asked for durability waits
//! for that. When the hour is over its bucket becomes blocks of series.redb, and the log begins anew. When the day is
//! over its blocks become points. A query looks into memory first and into the file then, so that it misses nothing on
//! the way.
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
pub mod cache;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod exec;
pub mod host;
pub mod http;
pub mod io;
pub mod queue;
pub mod series;
pub mod store;
pub mod trend;

#[doc(hidden)]
pub mod testing;
