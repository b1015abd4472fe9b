//! Removing what is too old or too much, the oldest first and in bounded steps.
//!
//! Which rows are oldest is what an index says; how many there are is counted. A step that has nothing to do
//! costs a look at each queue's count.

use std::time::Duration;

use super::batch::{Batch, Doomed, Kind, find_name};
use super::statements::Statement;
use super::totals;
use crate::base::id::TenantId;
use crate::base::time::Timestamp;
use crate::catalog::handle::Tx;
use crate::catalog::{Result, stored_tenant};

/// What all finished jobs together may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many there may be.
    pub rows: u64,
    /// What they may take, as [`Figures::bytes`](super::Figures::bytes) counts.
    pub bytes: u64,
    /// For how long they are kept.
    pub age: Duration,
}

/// What the finished jobs of a queue may take, as far as somebody set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueKeep {
    /// For how long those are kept that are done or cancelled. What failed stays as long as all may.
    pub done_age: Option<Duration>,
    /// How many there may be.
    pub rows: Option<u64>,
    /// What they may take.
    pub bytes: Option<u64>,
}

/// What is too old was finished before this.
fn cutoff(now: Timestamp, age: Duration) -> i64 {
    now.minus(age).unix_ms()
}

/// Removes up to `left` of all jobs; how many it were.
pub(super) fn all(
    tx: &Tx<'_>,
    batch: &mut Batch<'_>,
    (limits, now): (&Limits, Timestamp),
    left: usize,
) -> Result<usize> {
    let had = totals(tx)?;
    let over = |batch: &Batch<'_>| {
        let (rows, bytes) = batch.total(had);
        limits.rows < rows || limits.bytes < bytes
    };
    let too_old = cutoff(now, limits.age);
    let before = if over(batch) { i64::MAX } else { too_old };
    let doomed = tx.all(Statement::DoomedOfAll, [before, bound(left)], Doomed::read)?;
    remove(batch, &doomed, |batch, job| job.finished_at < too_old || over(batch))
}

/// Removes up to `left` jobs of a queue; how many it were.
pub(super) fn queue(
    tx: &Tx<'_>,
    batch: &mut Batch<'_>,
    (tenant, name): (TenantId, &str),
    (keep, now, left): (&QueueKeep, Timestamp, usize),
) -> Result<usize> {
    let Some(queue) = find_name(tx, stored_tenant(tenant), Kind::Queue, name)? else {
        return Ok(0);
    };
    let mut removed = 0;
    if let Some(age) = keep.done_age {
        let key = [queue.number, cutoff(now, age), bound(left)];
        let doomed = tx.all(Statement::DoomedDone, key, Doomed::read)?;
        removed += remove(batch, &doomed, |_, _| true)?;
    }
    let over = |batch: &Batch<'_>| {
        let (rows, bytes) = batch.has(queue);
        keep.rows.is_some_and(|most| most < rows) || keep.bytes.is_some_and(|most| most < bytes)
    };
    if removed < left && over(batch) {
        let key = [queue.number, i64::MAX, bound(left - removed)];
        let doomed = tx.all(Statement::DoomedOfQueue, key, Doomed::read)?;
        removed += remove(batch, &doomed, |batch, _| over(batch))?;
    }
    Ok(removed)
}

/// Removes up to `limit` jobs of a tenant; how many it were.
pub(super) fn tenant(
    tx: &Tx<'_>,
    batch: &mut Batch<'_>,
    tenant: TenantId,
    limit: i64,
) -> Result<usize> {
    let key = [stored_tenant(tenant), limit];
    let doomed = tx.all(Statement::DoomedOfTenant, key, Doomed::read)?;
    remove(batch, &doomed, |_, _| true)
}

/// Removes jobs as long as the next one has to go; how many it were.
fn remove(
    batch: &mut Batch<'_>,
    doomed: &[Doomed],
    has_to_go: impl Fn(&Batch<'_>, &Doomed) -> bool,
) -> Result<usize> {
    for (removed, job) in doomed.iter().enumerate() {
        if !has_to_go(batch, job) {
            return Ok(removed);
        }
        batch.remove(job)?;
    }
    Ok(doomed.len())
}

fn bound(left: usize) -> i64 {
    i64::try_from(left).expect("BUG: a step is bounded")
}
