//! What the clients of the queues were told, and what follows from it.
//!
//! Moments are those of one clock on this side, taken before a request is sent and after its answer was
//! read, so that nothing is held against the server which could have been otherwise:
//!
//! ```text
//! the server leases          asked ..... answered
//! somebody surely holds it               answered ......... the first of: until, the end was sent
//! ```

use std::collections::{BTreeMap, BTreeSet};

/// Microseconds since the harness began.
pub(crate) type Micros = u64;

/// Two clocks are read, one of them to the millisecond.
const SLACK: Micros = 5_000;

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// It went well.
    Done,
    /// It went wrong; a later attempt is allowed.
    Fail,
    /// It went wrong for good.
    GiveUp,
    /// Not now.
    Release,
}

/// An end that was sent.
#[derive(Clone, Copy, Debug)]
struct End {
    verb: Verb,
    first_sent: Micros,
    times: u32,
    /// The answer was that it is so.
    acknowledged: bool,
    /// The answer was that the job has failed.
    failed: bool,
}

/// A lease as its holder knows it.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) fence: u64,
    pub(crate) asked: Micros,
    pub(crate) answered: Micros,
    /// The last that was acknowledged.
    pub(crate) until: Micros,
    end: Option<End>,
}

impl Lease {
    pub(crate) fn new(fence: u64, asked: Micros, answered: Micros, until: Micros) -> Lease {
        Lease { fence, asked, answered, until, end: None }
    }

    /// The moment from which on it may be somebody else's.
    fn surely_until(&self) -> Micros {
        let sent = self.end.map_or(Micros::MAX, |end| end.first_sent);
        sent.min(self.until.saturating_sub(SLACK))
    }

    fn is_last(&self) -> bool {
        self.end.is_some_and(|end| {
            end.acknowledged && (end.failed || matches!(end.verb, Verb::Done | Verb::GiveUp))
        })
    }

    fn may_be_done(&self) -> bool {
        self.end.is_some_and(|end| end.verb == Verb::Done)
    }
}

/// A push as its producer knows it.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    /// Its number, which stands in the payload.
    pub(crate) number: u64,
    pub(crate) unique: Option<String>,
    /// When it was sent for the first time, and when it was acknowledged.
    pub(crate) asked: Micros,
    pub(crate) answered: Micros,
    pub(crate) not_before: Micros,
}

#[derive(Debug, Default)]
struct Job {
    /// Nothing when it was met otherwise.
    pushed: Option<Pushed>,
    /// Somebody was told that it is there.
    acknowledged: bool,
    leases: BTreeMap<String, Lease>,
    /// The state in which it was last seen.
    state: String,
}

impl Job {
    fn is_finished(&self) -> bool {
        matches!(self.state.as_str(), "done" | "failed" | "cancelled")
    }
}

/// All that is known. Every method says what cannot be.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    jobs: BTreeMap<String, Job>,
    by_number: BTreeMap<u64, String>,
    by_lease: BTreeMap<String, String>,
    pub(crate) acknowledgements: u64,
}

impl Ledger {
    fn number(&mut self, number: u64, id: &str) -> Result<(), String> {
        let known = self.by_number.entry(number).or_insert_with(|| id.to_owned());
        if known == id {
            return Ok(());
        }
        Err(format!("TWICE: push {number} is job {known} and job {id}"))
    }

    /// A push was acknowledged, perhaps again.
    pub(crate) fn pushed(&mut self, id: &str, pushed: Pushed) -> Result<(), String> {
        self.acknowledgements += 1;
        self.number(pushed.number, id)?;
        let job = self.jobs.entry(id.to_owned()).or_default();
        job.acknowledged = true;
        job.pushed.get_or_insert(pushed);
        Ok(())
    }

    /// A push was answered with a job that has its unique key.
    pub(crate) fn has_the_key(&mut self, id: &str, key: &str) -> Result<(), String> {
        self.acknowledgements += 1;
        let job = self.jobs.entry(id.to_owned()).or_default();
        job.acknowledged = true;
        let other = job.pushed.as_ref().filter(|pushed| pushed.unique.as_deref() != Some(key));
        match other {
            None => Ok(()),
            Some(pushed) => Err(format!("job {id} is said to have the key {key}: {pushed:?}")),
        }
    }

    /// A lease was answered.
    pub(crate) fn leased(
        &mut self,
        id: &str,
        number: u64,
        token: &str,
        lease: Lease,
    ) -> Result<(), String> {
        self.acknowledgements += 1;
        self.number(number, id)?;
        if self.by_lease.insert(token.to_owned(), id.to_owned()).is_some() {
            return Err(format!("DOUBLE: a lease of job {id} was given twice: {lease:?}"));
        }
        self.jobs.entry(id.to_owned()).or_default().leases.insert(token.to_owned(), lease);
        Ok(())
    }

    fn lease(&mut self, token: &str) -> &mut Lease {
        let job = self.jobs.get_mut(&self.by_lease[token]).unwrap();
        job.leases.get_mut(token).unwrap()
    }

    /// A longer lease was acknowledged.
    pub(crate) fn extended(&mut self, token: &str, until: Micros) {
        self.acknowledgements += 1;
        self.lease(token).until = until;
    }

    /// An end is about to be sent.
    pub(crate) fn ending(&mut self, token: &str, verb: Verb, now: Micros) {
        let new = End { verb, first_sent: now, times: 0, acknowledged: false, failed: false };
        self.lease(token).end.get_or_insert(new).times += 1;
    }

    /// It was acknowledged; whether the job has failed for good, if that was said.
    pub(crate) fn ended(&mut self, token: &str, failed: bool) {
        self.acknowledgements += 1;
        let end = self.lease(token).end.as_mut().expect("it was sent");
        end.acknowledged = true;
        end.failed = failed;
    }

    /// A holder was told that its lease is lost.
    pub(crate) fn lost(&mut self, token: &str, now: Micros) -> Result<(), String> {
        self.acknowledgements += 1;
        let lease = self.lease(token);
        // What was sent before may have been done, and somebody else may have the job since.
        let sent_before =
            lease.end.is_some_and(|end| 1 < end.times && !matches!(end.verb, Verb::Done));
        if lease.until.saturating_sub(SLACK) <= now || sent_before {
            return Ok(());
        }
        let lease = lease.clone();
        let id = &self.by_lease[token];
        Err(format!("a lease of job {id} is said to be lost at {now}: {lease:?}"))
    }

    /// What the server says of a job; nothing when it does not know it.
    pub(crate) fn seen(&mut self, id: &str, state: Option<&str>) -> Result<(), String> {
        let job = self.jobs.get_mut(id).unwrap();
        let Some(state) = state else {
            let known = job.acknowledged || !job.leases.is_empty();
            return if known { Err(format!("LOST: {id} {job:?}")) } else { Ok(()) };
        };
        let before = std::mem::replace(&mut job.state, state.to_owned());
        let was_finished = matches!(before.as_str(), "done" | "failed" | "cancelled");
        if was_finished && before != state {
            return Err(format!("{id} was {before} and is {state}: {job:?}"));
        }
        if state == "done" && !job.leases.values().any(Lease::may_be_done) {
            return Err(format!("{id} is done, and nobody said so: {job:?}"));
        }
        if let Some(last) = job.leases.values().find(|lease| lease.is_last()) {
            let want = if last.may_be_done() { "done" } else { "failed" };
            if state != want {
                return Err(format!(
                    "LOST: {id} was acknowledged as {want} and is {state}: {job:?}"
                ));
            }
        }
        Ok(())
    }

    /// Jobs of which more can be expected, and the others.
    pub(crate) fn open_and_finished(&self) -> (Vec<String>, Vec<String>) {
        let known = self.jobs.iter().filter(|(_, job)| job.acknowledged || !job.leases.is_empty());
        let (finished, open): (Vec<_>, Vec<_>) = known.partition(|(_, job)| job.is_finished());
        let ids = |of: Vec<(&String, &Job)>| of.into_iter().map(|(id, _)| id.clone()).collect();
        (ids(open), ids(finished))
    }

    /// Holds everything against everything.
    pub(crate) fn judge(&self) -> Result<(), String> {
        for (id, job) in &self.jobs {
            judge_leases(job).map_err(|error| format!("{error}: job {id} {job:?}"))?;
        }
        self.judge_keys()
    }

    /// A key is free again only when the job that had it is finished.
    fn judge_keys(&self) -> Result<(), String> {
        let mut by_key: BTreeMap<&str, Vec<(&Pushed, &Job)>> = BTreeMap::new();
        for job in self.jobs.values() {
            if let Some(pushed) = &job.pushed
                && let Some(key) = &pushed.unique
            {
                by_key.entry(key).or_default().push((pushed, job));
            }
        }
        for (key, mut jobs) in by_key {
            jobs.sort_by_key(|(pushed, _)| pushed.answered);
            for pair in jobs.windows(2) {
                let [(first, had), (second, _)] = pair else { unreachable!("two of them") };
                // Which of them came first is sure only then.
                if second.asked <= first.answered || had.state == "failed" {
                    continue;
                }
                let done = |lease: &Lease| {
                    lease.end.is_some_and(|end| end.first_sent <= second.answered)
                        && lease.may_be_done()
                };
                if !had.leases.values().any(done) {
                    return Err(format!("UNIQUE: {key} is of {second:?} before {had:?} is done"));
                }
            }
        }
        Ok(())
    }

    /// How many jobs are known, and how many leases.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.jobs.len(), self.by_lease.len())
    }
}

fn judge_leases(job: &Job) -> Result<(), String> {
    let mut leases: Vec<&Lease> = job.leases.values().collect();
    leases.sort_by_key(|lease| (lease.fence, lease.answered));
    let fences: BTreeSet<u64> = leases.iter().map(|lease| lease.fence).collect();
    if fences.len() != leases.len() {
        return Err("FENCE: two leases have the same".to_owned());
    }
    if let Some(pushed) = &job.pushed
        && let Some(early) = leases.iter().find(|l| l.answered + SLACK < pushed.not_before)
    {
        return Err(format!("EARLY: {early:?} before {}", pushed.not_before));
    }
    for (n, earlier) in leases.iter().enumerate() {
        for later in &leases[n + 1..] {
            if later.answered < earlier.asked {
                return Err(format!("FENCE: it shrank from {} to {}", later.fence, earlier.fence));
            }
            let both_from = earlier.answered.max(later.answered);
            let both_until = earlier.surely_until().min(later.surely_until());
            if both_from < both_until {
                return Err(format!("DOUBLE: two hold it from {both_from} to {both_until}"));
            }
            if earlier.is_last() {
                return Err(format!("AGAIN: it was over, and is leased as {later:?}"));
            }
        }
    }
    Ok(())
}

mod tests {
    use super::{Lease, Ledger, Micros, Pushed, Verb};

    const LONG: Micros = 10_000_000;

    fn pushed(number: u64) -> Pushed {
        Pushed { number, unique: None, asked: 0, answered: 10, not_before: 0 }
    }

    /// A job that was pushed, and leased with this fence in this time.
    fn leased(ledger: &mut Ledger, token: &str, fence: u64, [asked, answered]: [Micros; 2]) {
        ledger.pushed("a", pushed(1)).unwrap();
        ledger.leased("a", 1, token, Lease::new(fence, asked, answered, LONG)).unwrap();
    }

    #[track_caller]
    fn refused(result: Result<(), String>, word: &str) {
        let error = result.expect_err("it is not seen");
        assert!(error.starts_with(word), "{error}");
    }

    #[test]
    fn a_life_in_order_is_in_order() {
        let mut ledger = Ledger::default();
        leased(&mut ledger, "t1", 1, [20, 30]);
        ledger.ending("t1", Verb::Release, 40);
        ledger.ended("t1", false);
        leased(&mut ledger, "t2", 2, [25, 41]);
        ledger.ending("t2", Verb::Done, 50);
        ledger.ended("t2", false);
        ledger.seen("a", Some("done")).unwrap();
        ledger.judge().unwrap();
        assert_eq!(ledger.open_and_finished(), (Vec::new(), vec!["a".to_owned()]));
    }

    #[test]
    fn a_lost_job_is_seen() {
        let mut ledger = Ledger::default();
        ledger.pushed("a", pushed(1)).unwrap();
        refused(ledger.seen("a", None), "LOST");
    }

    #[test]
    fn a_done_that_is_lost_is_seen() {
        let mut ledger = Ledger::default();
        leased(&mut ledger, "t", 1, [20, 30]);
        ledger.ending("t", Verb::Done, 40);
        ledger.ended("t", false);
        refused(ledger.seen("a", Some("running")), "LOST");
    }

    #[test]
    fn a_job_that_is_done_by_nobody_is_seen() {
        let mut ledger = Ledger::default();
        leased(&mut ledger, "t", 1, [20, 30]);
        refused(ledger.seen("a", Some("done")), "a is done, and nobody said so");
    }

    #[test]
    fn one_push_that_becomes_two_jobs_is_seen() {
        let mut ledger = Ledger::default();
        ledger.pushed("a", pushed(1)).unwrap();
        refused(ledger.pushed("b", pushed(1)), "TWICE");
    }

    #[test]
    fn two_who_hold_a_job_are_seen() {
        let mut ledger = Ledger::default();
        leased(&mut ledger, "t1", 1, [20, 30]);
        leased(&mut ledger, "t2", 2, [40, 50]);
        refused(ledger.judge(), "DOUBLE");
        // Not so when the first had sent its end before the second was told.
        ledger.ending("t1", Verb::Fail, 45);
        ledger.judge().unwrap();
    }

    #[test]
    fn a_fence_that_shrinks_or_comes_again_is_seen() {
        let mut ledger = Ledger::default();
        leased(&mut ledger, "t1", 7, [20, 30]);
        ledger.ending("t1", Verb::Release, 35);
        leased(&mut ledger, "t2", 6, [40, 50]);
        refused(ledger.judge(), "FENCE");
        let mut ledger = Ledger::default();
        leased(&mut ledger, "t1", 7, [20, 30]);
        ledger.ending("t1", Verb::Release, 35);
        leased(&mut ledger, "t2", 7, [40, 50]);
        refused(ledger.judge(), "FENCE");
    }

    #[test]
    fn a_lease_after_the_end_is_seen() {
        for verb in [Verb::Done, Verb::GiveUp] {
            let mut ledger = Ledger::default();
            leased(&mut ledger, "t1", 1, [20, 30]);
            ledger.ending("t1", verb, 35);
            ledger.ended("t1", false);
            leased(&mut ledger, "t2", 2, [40, 50]);
            refused(ledger.judge(), "AGAIN");
        }
    }

    #[test]
    fn a_job_that_comes_early_is_seen() {
        let mut ledger = Ledger::default();
        ledger.pushed("a", Pushed { not_before: 100_000, ..pushed(1) }).unwrap();
        ledger.leased("a", 1, "t", Lease::new(1, 20, 30, LONG)).unwrap();
        refused(ledger.judge(), "EARLY");
    }

    #[test]
    fn a_lease_that_is_taken_in_its_time_is_seen() {
        let mut ledger = Ledger::default();
        leased(&mut ledger, "t", 1, [20, 30]);
        ledger.ending("t", Verb::Release, 40);
        refused(ledger.lost("t", 50), "a lease of job a is said to be lost");
        ledger.ending("t", Verb::Release, 60);
        ledger.lost("t", 70).unwrap();
    }

    #[test]
    fn a_key_with_two_jobs_is_seen() {
        let mut ledger = Ledger::default();
        let with_key = |number, asked, answered| {
            let unique = Some("k".to_owned());
            Pushed { number, unique, asked, answered, not_before: 0 }
        };
        ledger.pushed("a", with_key(1, 0, 10)).unwrap();
        ledger.leased("a", 1, "t", Lease::new(1, 20, 30, LONG)).unwrap();
        ledger.pushed("b", with_key(2, 40, 50)).unwrap();
        refused(ledger.judge(), "UNIQUE");
        ledger.ending("t", Verb::Done, 45);
        ledger.judge().unwrap();
        refused(ledger.has_the_key("a", "another"), "job a is said to have the key another");
    }
}
