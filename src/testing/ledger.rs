//! A workload whose every state can be told from how far each of its writers came.
//!
//! Writer `t` does steps 1, 2, 3 ... Step `n` adds a job and its ready row, removes those of step `n -
//! KEPT`, sets the writer's counter to `n` and adds one to the common counter. So the content of the
//! store is a function of the counters, and a lost, half-done or doubled step shows.

use crate::base::key::KeyWriter;
use crate::base::rng::Rng;
use crate::store::{Error, Table, Write};

use super::Content;

/// Steps of each writer whose rows stay.
const KEPT: u64 = 32;

const TOTAL: &[u8] = b"total";

/// Where the counter of `writer` stands.
pub fn counter_key(writer: u8) -> Vec<u8> {
    KeyWriter::new().name("writer").u8(writer).finish()
}

fn row_key(writer: u8, step: u64) -> Vec<u8> {
    KeyWriter::new().u8(writer).u64(step).finish()
}

fn payload(writer: u8, step: u64) -> Vec<u8> {
    let mut rng = Rng::from_seed(step << 8 | u64::from(writer));
    let len = [20, 200, 200, 300, 1_500, 9_000][rng.index(6)];
    rng.bytes(len)
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("a counter has eight bytes"))
}

/// Step `step` of `writer`.
pub fn step(tx: &mut dyn Write, writer: u8, step: u64) -> Result<(), Error> {
    tx.put(Table::Jobs, &row_key(writer, step), &payload(writer, step))?;
    tx.put(Table::Ready, &row_key(writer, step), b"")?;
    if let Some(old) = step.checked_sub(KEPT) {
        tx.delete(Table::Jobs, &row_key(writer, old))?;
        tx.delete(Table::Ready, &row_key(writer, old))?;
    }
    tx.put(Table::Meta, &counter_key(writer), &step.to_be_bytes())?;
    let total = tx.get(Table::Meta, TOTAL)?.map_or(0, |bytes| number(&bytes));
    tx.put(Table::Meta, TOTAL, &(total + 1).to_be_bytes())
}

/// How far `writer` came, as an operation sees it.
pub fn steps_of(tx: &dyn Write, writer: u8) -> Result<u64, Error> {
    Ok(tx.get(Table::Meta, &counter_key(writer))?.map_or(0, |bytes| number(&bytes)))
}

/// The content after writer `t` came to `steps[t]`.
pub fn expected(steps: &[u64]) -> Content {
    let mut rows = Content::new();
    for (writer, &last) in (0_u8..).zip(steps) {
        if last == 0 {
            continue;
        }
        rows.insert((Table::Meta, counter_key(writer)), last.to_be_bytes().to_vec());
        for step in last.saturating_sub(KEPT - 1).max(1)..=last {
            rows.insert((Table::Jobs, row_key(writer, step)), payload(writer, step));
            rows.insert((Table::Ready, row_key(writer, step)), Vec::new());
        }
    }
    let total: u64 = steps.iter().sum();
    if total != 0 {
        rows.insert((Table::Meta, TOTAL.to_vec()), total.to_be_bytes().to_vec());
    }
    rows
}

/// How far each of `writers` came, by its counter.
pub fn steps(content: &Content, writers: u8) -> Vec<u64> {
    let counter = |writer| content.get(&(Table::Meta, counter_key(writer)));
    (0..writers).map(|writer| counter(writer).map_or(0, |bytes| number(bytes))).collect()
}

/// Checks `content` against what was acknowledged: each writer has come at least as far, at most one
/// step further (the one that was under way), and every row is as those steps left it.
pub fn check(content: &Content, acknowledged: &[u64]) -> Result<Vec<u64>, String> {
    let writers = u8::try_from(acknowledged.len()).expect("a ledger has a few writers");
    let found = steps(content, writers);
    for (writer, (&found, &acknowledged)) in found.iter().zip(acknowledged).enumerate() {
        if found < acknowledged {
            return Err(format!(
                "LOST: writer {writer} was told that step {acknowledged} is stored, found {found}"
            ));
        }
        if acknowledged + 1 < found {
            return Err(format!("writer {writer} began step {found} before {acknowledged} ended"));
        }
    }
    let expected = expected(&found);
    if *content == expected {
        return Ok(found);
    }
    let wrong = expected.keys().chain(content.keys()).find(|k| expected.get(k) != content.get(k));
    Err(format!("TORN: the rows are not those of steps {found:?}, for example {wrong:?}"))
}
