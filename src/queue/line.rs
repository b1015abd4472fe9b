//! Who waits for jobs, in the order in which they came.
//!
//! Somebody may wait at several queues at once. One ready job wakes one of them: the one who has waited longest
//! of those who wait at its queue. Whoever is woken leaves the line; it enters again with the number it had, if
//! somebody else was faster.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;

use crate::base::id::TenantId;
use crate::base::limits::JOB_WAITERS_MAX;
use crate::base::name::QueueName;

/// A place in the line. The smaller one is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u64);

/// As many wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{JOB_WAITERS_MAX} callers wait for jobs; no more may")]
pub struct Full;

#[derive(Debug)]
struct Waiter<W> {
    tenant: TenantId,
    queues: Vec<QueueName>,
    bell: W,
}

/// Those who wait, each with something by which it can be woken.
#[derive(Debug)]
pub struct Line<W> {
    next: u64,
    waiters: BTreeMap<Place, Waiter<W>>,
    by_queue: HashMap<TenantId, HashMap<QueueName, BTreeSet<Place>>>,
}

impl<W> Default for Line<W> {
    fn default() -> Line<W> {
        Line { next: 0, waiters: BTreeMap::new(), by_queue: HashMap::new() }
    }
}

impl<W> Line<W> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Stands in the line of these queues; where it stood before, if it did.
    pub fn enter(
        &mut self,
        tenant: TenantId,
        queues: &[QueueName],
        before: Option<Place>,
        bell: W,
    ) -> Result<Place, Full> {
        if JOB_WAITERS_MAX <= self.waiters.len() {
            return Err(Full);
        }
        let place = before.unwrap_or(Place(self.next));
        self.next = self.next.max(place.0 + 1);
        let lines = self.by_queue.entry(tenant).or_default();
        for queue in queues {
            lines.entry(queue.clone()).or_default().insert(place);
        }
        self.waiters.insert(place, Waiter { tenant, queues: queues.to_vec(), bell });
        Ok(place)
    }

    /// Leaves the line; what it could be woken by, if it still stood there.
    pub fn leave(&mut self, place: Place) -> Option<W> {
        let waiter = self.waiters.remove(&place)?;
        if let Some(lines) = self.by_queue.get_mut(&waiter.tenant) {
            for queue in &waiter.queues {
                if let Some(line) = lines.get_mut(queue) {
                    line.remove(&place);
                    if line.is_empty() {
                        lines.remove(queue);
                    }
                }
            }
            if lines.is_empty() {
                self.by_queue.remove(&waiter.tenant);
            }
        }
        Some(waiter.bell)
    }

    /// Takes the one out of the line who has waited longest at this queue.
    pub fn call(&mut self, tenant: TenantId, queue: &QueueName) -> Option<W> {
        let first = *self.by_queue.get(&tenant)?.get(queue)?.first()?;
        self.leave(first)
    }
}

#[cfg(test)]
mod tests {
    use super::Line;
    use crate::base::id::TenantId;
    use crate::base::name::QueueName;

    const TENANT: TenantId = TenantId::from_raw(1);

    fn queues(names: &[&str]) -> Vec<QueueName> {
        names.iter().map(|name| QueueName::parse(name).unwrap()).collect()
    }

    #[test]
    fn one_job_calls_the_one_who_has_waited_longest_at_its_queue() {
        let mut line = Line::default();
        let [a, b] = [&queues(&["a"])[0].clone(), &queues(&["b"])[0].clone()];
        line.enter(TENANT, &queues(&["b"]), None, "first").unwrap();
        line.enter(TENANT, &queues(&["a", "b"]), None, "second").unwrap();
        line.enter(TENANT, &queues(&["a"]), None, "third").unwrap();
        assert_eq!(line.call(TENANT, a), Some("second"));
        assert_eq!(line.call(TENANT, b), Some("first"));
        assert_eq!(line.call(TENANT, b), None);
        assert_eq!(line.call(TenantId::from_raw(2), a), None);
        assert_eq!(line.call(TENANT, a), Some("third"));
        assert!(line.is_empty() && line.by_queue.is_empty());
    }

    #[test]
    fn whoever_was_woken_for_nothing_stands_where_it_stood() {
        let mut line = Line::default();
        let a = &queues(&["a"])[0].clone();
        let first = line.enter(TENANT, &queues(&["a"]), None, "first").unwrap();
        line.enter(TENANT, &queues(&["a"]), None, "second").unwrap();
        assert_eq!(line.call(TENANT, a), Some("first"));
        assert_eq!(line.enter(TENANT, &queues(&["a"]), Some(first), "first"), Ok(first));
        assert_eq!(line.call(TENANT, a), Some("first"));
        assert_eq!(line.leave(first), None);
    }
}
