//! What tests, benches and fuzz targets share. Not part of the product, and used by none of it.
//!
//! Disks that fail, tear and fill up; a clock that is moved by hand; the model engine; the contract
//! that every engine keeps; seeds that are printed and can be replayed.

pub mod app;
pub mod batches;
pub mod clock;
pub mod contract;
mod conversation;
pub mod disk;
pub mod fuzz;
pub mod ledger;
pub mod log;
pub mod machine;
pub mod model;
pub mod noise;
pub mod processes;
pub mod series;

use std::collections::BTreeMap;

use crate::base::limits::READ_ROWS_MAX;
use crate::store::{Commit, Engine, Finish, Flow, KeyRange, Table, scan_in_pages};

/// Seeds `0..n`, or only the one in `HOLDFAST_SEED`, to replay a failure.
pub fn seeds(n: u64) -> Vec<u64> {
    match number_from_environment("HOLDFAST_SEED") {
        Some(seed) => vec![seed],
        None => (0..n).collect(),
    }
}

/// How often to do a thing: `default`, or the number in the variable `name`.
pub fn amount(name: &str, default: u64) -> u64 {
    number_from_environment(name).unwrap_or(default)
}

fn number_from_environment(name: &str) -> Option<u64> {
    let text = text_from_environment(name)?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// A variable of the environment, for tests that start themselves as another process.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
pub fn text_from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The content of an engine: every row of every table.
pub type Content = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Reads all of an engine, page by page.
pub fn content(engine: &dyn Engine) -> Result<Content, crate::store::Error> {
    let mut all = Content::new();
    for table in Table::ALL {
        scan_in_pages(engine, table, &KeyRange::all(), READ_ROWS_MAX, &mut |key, value| {
            all.insert((table, key.to_vec()), value.to_vec());
            Flow::On
        })?;
    }
    Ok(all)
}

/// Writes one row in a commit of its own.
pub fn put_one(engine: &dyn Engine, table: Table, key: &[u8], value: &[u8]) {
    engine
        .write(Commit::Plain, &mut |batch| {
            batch.begin()?;
            batch.put(table, key, value)?;
            batch.keep()?;
            Ok(Finish::Commit)
        })
        .expect("writing one row");
}

/// Waits, for a minute at most, until `condition` holds.
#[expect(clippy::disallowed_methods, reason = "a bounded wait for what another thread does")]
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !condition() {
        assert!(began.elapsed().as_secs() < 60, "still not after a minute: {what}");
        std::thread::yield_now();
    }
}
