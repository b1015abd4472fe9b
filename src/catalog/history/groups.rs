//! Groups of failures that are alike.
//!
//! A group is there twice: for its queue, and as queue 0 for all of them together, so that either list is
//! a walk over an index. It goes with its last job. Its class and message are those of its latest failure;
//! its moments, types and queues are what was seen since it is there.

use std::collections::BTreeMap;

use rusqlite::params;

use super::batch::{Kind, find_name};
use super::job::{FinishedJob, JobError, read_list};
use super::list;
use super::statements::Statement;
use crate::base::id::{JobId, TenantId};
use crate::base::limits::{HISTORY_GROUP_NAMES_MAX, HISTORY_GROUPS_MAX};
use crate::base::time::Timestamp;
use crate::catalog::handle::{Row, Tx};
use crate::catalog::{Result, check_rows, first_behind, id_of, stored, stored_tenant};

/// The fingerprint of what came when there were [`HISTORY_GROUPS_MAX`] groups.
pub const OTHER: u64 = 0;

/// The number of all queues together.
const ALL_QUEUES: i64 = 0;

/// Failures that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they have in common; [`OTHER`] for those that have nothing in common.
    pub fingerprint: u64,
    /// What kind of error the latest one is.
    pub class: String,
    /// What it says.
    pub message: String,
    /// How many there are.
    pub count: u64,
    /// When the first one was, since the group is there.
    pub first_at: Timestamp,
    /// When the latest one was.
    pub last_at: Timestamp,
    /// Types that were among them, those seen first.
    pub types: Vec<String>,
    /// Queues in which they were, those seen first.
    pub queues: Vec<String>,
}

/// Groups, and behind which one to go on.
pub type GroupsPage = (Vec<Group>, Option<(Timestamp, u64)>);

impl Group {
    fn new(fingerprint: u64, at: Timestamp) -> Group {
        let (class, message) = match fingerprint {
            OTHER => ("other", "failures that came when there were too many groups"),
            _ => ("", ""),
        };
        Group {
            fingerprint,
            class: class.to_owned(),
            message: message.to_owned(),
            count: 0,
            first_at: at,
            last_at: at,
            types: Vec::new(),
            queues: Vec::new(),
        }
    }

    fn add(&mut self, job: &FinishedJob) {
        self.count += 1;
        self.first_at = self.first_at.min(job.finished_at);
        if self.last_at <= job.finished_at {
            self.last_at = job.finished_at;
            if let (Some(JobError { class, message, .. }), true) =
                (&job.error, self.fingerprint != OTHER)
            {
                self.class.clone_from(class);
                self.message.clone_from(message);
            }
        }
        note(&mut self.types, &job.job_type);
        note(&mut self.queues, &job.queue);
    }

    fn read(row: &Row<'_, '_>) -> Result<Group> {
        Ok(Group {
            fingerprint: row.id(0)?,
            class: row.text(1)?,
            message: row.text(2)?,
            count: row.unsigned(3)?,
            first_at: row.moment(4)?,
            last_at: row.moment(5)?,
            types: read_list(row, 6)?,
            queues: read_list(row, 7)?,
        })
    }
}

fn note(names: &mut Vec<String>, name: &str) {
    if names.len() < HISTORY_GROUP_NAMES_MAX && !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

/// A group as a transaction knows it: whether it was there before, and what it is now.
struct Known {
    was_there: bool,
    now: Option<Group>,
}

/// How many groups a tenant had, and how many it has now.
#[derive(Clone, Copy)]
struct Count {
    was: i64,
    now: i64,
}

/// The groups that a transaction touches: read once, and written once at its end. Keys are tenant, queue
/// and fingerprint, as they are stored.
#[derive(Default)]
pub(super) struct Groups {
    known: BTreeMap<(i64, i64, i64), Known>,
    counts: BTreeMap<i64, Count>,
}

impl Groups {
    /// Counts a failure; the fingerprint of the group in which it is now.
    pub(super) fn add(
        &mut self,
        tx: &Tx<'_>,
        (tenant, queue, wanted): (i64, i64, i64),
        job: &FinishedJob,
    ) -> Result<i64> {
        let fingerprint = self.place(tx, tenant, wanted)?;
        for queue in [ALL_QUEUES, queue] {
            let known = self.known(tx, (tenant, queue, fingerprint))?;
            let new = known.now.is_none();
            let group = &mut known.now;
            group.get_or_insert_with(|| Group::new(id_of(fingerprint), job.finished_at)).add(job);
            if new && queue == ALL_QUEUES {
                self.count(tx, tenant)?.now += 1;
            }
        }
        Ok(fingerprint)
    }

    /// Counts one failure less.
    pub(super) fn subtract(
        &mut self,
        tx: &Tx<'_>,
        (tenant, queue, fingerprint): (i64, i64, i64),
    ) -> Result {
        for queue in [ALL_QUEUES, queue] {
            let known = self.known(tx, (tenant, queue, fingerprint))?;
            let Some(group) = &mut known.now else { continue };
            group.count = group.count.saturating_sub(1);
            if group.count == 0 {
                known.now = None;
                if queue == ALL_QUEUES {
                    self.count(tx, tenant)?.now -= 1;
                }
            }
        }
        Ok(())
    }

    /// The group in which a failure is counted: its own, unless that would be one too many.
    fn place(&mut self, tx: &Tx<'_>, tenant: i64, wanted: i64) -> Result<i64> {
        let there = self.known(tx, (tenant, ALL_QUEUES, wanted))?.now.is_some();
        let full = HISTORY_GROUPS_MAX.cast_signed() <= self.count(tx, tenant)?.now;
        Ok(if full && !there { stored(OTHER) } else { wanted })
    }

    fn known(&mut self, tx: &Tx<'_>, key: (i64, i64, i64)) -> Result<&mut Known> {
        use std::collections::btree_map::Entry;
        match self.known.entry(key) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let (tenant, queue, fingerprint) = key;
                let group =
                    tx.one(Statement::GroupFind, [tenant, queue, fingerprint], Group::read)?;
                Ok(entry.insert(Known { was_there: group.is_some(), now: group }))
            }
        }
    }

    fn count(&mut self, tx: &Tx<'_>, tenant: i64) -> Result<&mut Count> {
        use std::collections::btree_map::Entry;
        match self.counts.entry(tenant) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let was = tx.one(Statement::GroupCount, [tenant], |row| row.int(0))?.unwrap_or(0);
                Ok(entry.insert(Count { was, now: was }))
            }
        }
    }

    /// Writes what is new.
    pub(super) fn finish(self, tx: &Tx<'_>) -> Result {
        for ((tenant, queue, fingerprint), known) in self.known {
            match (known.was_there, known.now) {
                (true, None) => {
                    tx.run(Statement::GroupDelete, [tenant, queue, fingerprint])?;
                }
                (true, Some(group)) => write(tx, Statement::GroupUpdate, (tenant, queue), &group)?,
                (false, Some(group)) => {
                    write(tx, Statement::GroupInsert, (tenant, queue), &group)?;
                }
                (false, None) => {}
            }
        }
        for (tenant, count) in self.counts {
            if count.was == count.now {
                continue;
            }
            tx.run(Statement::GroupCountInsert, [tenant])?;
            tx.run(Statement::GroupCountAdd, [tenant, count.now - count.was])?;
            if count.now == 0 {
                tx.run(Statement::GroupCountDelete, [tenant])?;
            }
        }
        Ok(())
    }
}

fn write(tx: &Tx<'_>, statement: Statement, (tenant, queue): (i64, i64), group: &Group) -> Result {
    let row = params![
        tenant,
        queue,
        stored(group.fingerprint),
        group.class,
        group.message,
        group.count.cast_signed(),
        group.first_at.unix_ms(),
        group.last_at.unix_ms(),
        list::join(&group.types),
        list::join(&group.queues),
    ];
    tx.run(statement, row).map(|_| ())
}

/// Groups of a queue, or of all of them together.
pub(super) fn page(
    tx: &Tx<'_>,
    (tenant, queue): (TenantId, Option<&str>),
    after: Option<(Timestamp, u64)>,
    limit: usize,
) -> Result<GroupsPage> {
    let rows = check_rows(limit)?;
    let tenant = stored_tenant(tenant);
    let queue = match queue {
        None => ALL_QUEUES,
        Some(name) => match find_name(tx, tenant, Kind::Queue, name)? {
            Some(queue) => queue.number,
            None => return Ok((Vec::new(), None)),
        },
    };
    let (at, fingerprint) =
        after.map_or((i64::MAX, i64::MAX), |(at, fingerprint)| (at.unix_ms(), stored(fingerprint)));
    // One more, to know whether there is another page.
    let key = [tenant, queue, at, fingerprint, rows + 1];
    let mut groups = tx.all(Statement::GroupsBefore, key, Group::read)?;
    let more = limit < groups.len();
    groups.truncate(limit);
    let last = groups.last().map(|group| (group.last_at, group.fingerprint));
    Ok((groups, if more { last.or(after) } else { None }))
}

/// Jobs of a group.
pub(super) fn ids(
    tx: &Tx<'_>,
    (tenant, fingerprint): (TenantId, u64),
    after: Option<JobId>,
    limit: usize,
) -> Result<Vec<JobId>> {
    let rows = check_rows(limit)?;
    let Some(first) = first_behind(after.map(JobId::raw)) else { return Ok(Vec::new()) };
    let key = [stored_tenant(tenant), stored(fingerprint), first, rows];
    tx.all(Statement::FailedFrom, key, |row| row.id(0).map(JobId::from_raw))
}
