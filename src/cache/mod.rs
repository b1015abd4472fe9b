//! Row 4: the cache. What may be forgotten, what is kept, and who may compute.
//!
//! ```text
//!  Cache --tenant, namespace--> Space --hash of the key--> Shard (one lock)
//!    |                            |                          |- table     hash -> slot
//!    |                            |                          |- slots     dense: key, value, life, heat
//!    |                            |                          |- wheel     what ends when, to the millisecond
//!    |                            |                          |- tags      name -> list of members
//!    |                            |                          |- leases    key -> who computes it, who waits
//!    |                            |                          '- policy    who goes first when memory is short
//!    '- accounts: process <- tenant <- space                 memory, counted before it is taken
//!
//!  kept namespaces:  operation on kept.redb (writer's thread) --commit--> the same Space --> answer
//!  locks:            rows in kept.redb, judged there; a mirror in memory; who waits stands in line
//! ```
//!
//! **Types.** A [`entry::Key`] and a [`entry::Tag`] are checked texts. An entry has a value
//! ([`entry::Value`], bytes today), a content type, a [`entry::Life`] (ttl and stale window), tags, and a
//! version that no two values of one key share. A [`space::Space`] is one namespace of one tenant. An
//! account counts bytes; each space has one, below that of its tenant, below that of the process.
//!
//! **Tables** (kept.redb): see [`kept`] and [`locks`].
//!
//! **Invariants**
//! - Nothing is served at or after its end, and nothing that was forgotten, under any interleaving: both
//!   are judged by the reader, under the shard's lock, with the reader's time. Memory is given back later,
//!   step by step, by [`Cache::sweep`].
//! - An account is never above its maximum: the cost of an entry is taken before the entry is put, and
//!   given back after it is gone. Ordinary entries make room; kept ones never do.
//! - One lease on a key at most. A value with a lease is stored only while that lease holds: any forget
//!   that meets the key, any other write to it, and the lease's end take it away; a forget of a tag is
//!   remembered as long as a lease lives that was born before it. So a value computed before an
//!   invalidation never lands after it.
//! - Counts are exact: before members are counted, what ended is removed, and what was forgotten by
//!   another of its tags.
//! - What is kept is on disk before it is seen in memory, and seen in the order of the commits.
//! - A lock is held by one owner at most; its fences only grow, also across restarts.
//!
//! **Failure cases**: no room (`cache_full` for kept entries, an entry larger than its account is
//! `too_large`); the disk (a kept write answers what the writer says, memory stays as it was, and after the
//! file was opened anew the kept entries are read again); more namespaces, leases or waiters than there may
//! be (refused, or answered without a lease).
//!
//! Never here: a socket, a clock, a thread, an await. `now` is an argument; who waits is a
//! [`std::task::Waker`].

mod account;
pub mod entry;
pub mod glob;
pub mod kept;
mod keyspace;
mod lease;
pub mod line;
pub mod locks;
mod policy;
mod shard;
mod slot;
pub mod snapshot;
pub mod space;
mod tags;
mod wheel;

#[cfg(test)]
mod tests;

pub use keyspace::Cache;

use crate::base::name::Namespace;

/// Why the cache refused. Not `non_exhaustive`: a new variant has to break the mapping to HTTP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `if=absent`, and it is there.
    #[error("the key is there already")]
    KeyExists,
    /// `if=present`, and it is not there.
    #[error("the key is not there")]
    KeyMissing,
    /// The lease ended, or what it was given for was forgotten or written since.
    #[error("the lease has ended, or the key or one of its tags was forgotten or written since")]
    LeaseLost,
    /// The entry alone is larger than all that its namespace may hold.
    #[error("the entry takes {cost} bytes, and its namespace may hold {limit}")]
    TooLarge {
        /// What it would take.
        cost: u64,
        /// What there is.
        limit: u64,
    },
    /// There is no room for an entry that is never evicted.
    #[error("kept entries take {used} of {limit} bytes; raise cache.kept_budget, or forget some")]
    Full {
        /// What may be used.
        limit: u64,
        /// What is.
        used: u64,
    },
    /// The value is no whole number.
    #[error("the value is not a whole number")]
    NotAnInteger,
    /// The sum is beyond what JSON carries without loss.
    #[error("the sum is beyond 2^53 - 1; nothing was changed")]
    Overflow,
    /// So many namespaces there may be.
    #[error("there are {limit} namespaces already; {namespace} would be one more")]
    TooManyNamespaces {
        /// The one that was to be.
        namespace: Namespace,
        /// How many there may be.
        limit: usize,
    },
}

impl Error {
    /// The stable word that clients match on.
    pub fn code(&self) -> &'static str {
        match self {
            Error::KeyExists => "key_exists",
            Error::KeyMissing => "key_missing",
            Error::LeaseLost => "lease_lost",
            Error::TooLarge { .. } => "too_large",
            Error::Full { .. } => "cache_full",
            Error::NotAnInteger => "not_an_integer",
            Error::Overflow => "integer_overflow",
            Error::TooManyNamespaces { .. } => "quota_exceeded",
        }
    }
}
