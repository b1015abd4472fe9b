//! Locks: taking them, with a line for those who wait.
//!
//! ```text
//!   POST --- nobody waits, or it is mine ---> operation: taken, or held by somebody
//!     '----- wait ---> the line; its head tries ---> taken
//!                        ^    '--> held: until it is released, forced, or ends
//!                        '-- a place behind becomes the head when the one before has left
//! ```
//!
//! Whoever comes later stands behind those who wait, also when the lock is free at that moment. A caller that
//! goes away leaves the line; a lock that was just being taken for it is released again.

use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::kept::{Kept, State};
use super::{App, Error};
use crate::base::id::TenantId;
use crate::base::name::LockName;
use crate::cache::line::Place;
use crate::cache::locks::{self, Held, Owner, Taken, Ttl, Which};
use crate::exec::writer::Effect;
use crate::exec::{self, CallError};
use crate::store::Write;

/// Bytes that a lock writes, about.
const LOCK_BYTES: usize = 512;

/// A lock that is wanted.
#[derive(Clone, Debug)]
pub struct Acquire {
    /// Its name.
    pub name: LockName,
    /// Who shall hold it; somebody new without.
    pub owner: Option<Owner>,
    /// For how long.
    pub ttl: Ttl,
    /// How long to stand in line for it.
    pub wait: Duration,
}

impl App {
    /// Takes a lock; waits for it no longer than until `stop`. With it: how long it waited.
    pub async fn acquire_lock(
        &self,
        tenant: TenantId,
        wanted: Acquire,
        stop: impl Future<Output = ()>,
    ) -> (Result<Taken, Error>, Duration) {
        let owner = wanted.owner.unwrap_or_else(|| {
            let mut bits = [0; 16];
            self.entropy.fill(&mut bits);
            Owner::of_bits(bits)
        });
        let which = Which { tenant, name: wanted.name };
        let applicant = Applicant { kept: &self.kept, which, owner, ttl: wanted.ttl };
        let mut time = Duration::ZERO;
        let outcome = applicant.take(wanted.wait, pin!(stop), &mut time).await;
        (outcome, time)
    }

    /// Gives a lock another ttl, from now on.
    pub async fn refresh_lock(
        &self,
        tenant: TenantId,
        name: LockName,
        owner: Owner,
        ttl: Ttl,
    ) -> Result<Held, Error> {
        let which = Which { tenant, name };
        let its = which.clone();
        let operation = move |tx: &mut dyn Write, state: &State| {
            let now = state.clock.now();
            locks::refresh(tx, &state.locks, now, &which, (&owner, ttl))
        };
        let follow = move |state: &State, held: &Held| state.locks.apply(&its, held);
        self.kept.lock(Effect::Grows, operation, follow).await
    }

    /// Releases a lock: that of `owner`, or without one whoever holds it.
    pub async fn release_lock(
        &self,
        tenant: TenantId,
        name: LockName,
        owner: Option<Owner>,
    ) -> Result<(), Error> {
        let which = Which { tenant, name };
        let its = which.clone();
        let operation = move |tx: &mut dyn Write, state: &State| {
            locks::release(tx, &state.locks, state.clock.now(), &which, owner.as_ref())
        };
        let follow = move |state: &State, stamp: &u64| state.released(&its, *stamp);
        self.kept.lock(Effect::Frees, operation, follow).await.map(drop)
    }

    /// A tenant's locks by name, after `after`.
    pub fn locks(
        &self,
        tenant: TenantId,
        after: Option<&LockName>,
        limit: usize,
    ) -> Vec<(LockName, Held)> {
        self.kept.state.locks.list(self.clock.mono(), tenant, after, limit)
    }
}

impl State {
    /// A lock was released: memory follows, and the next one is told.
    fn released(&self, which: &Which, stamp: u64) {
        self.locks.apply_removal(which, stamp);
        if let Some(head) = self.lines.lock().head(which) {
            head.notify_one();
        }
    }
}

fn from_call(error: CallError<locks::Error>) -> Error {
    match error {
        CallError::Failed(error) => Error::Exec(error),
        CallError::Refused(error) => Error::Lock(error),
    }
}

impl Kept {
    /// Runs an operation on locks; memory follows after its commit, and then it is answered.
    async fn lock<T: Send + 'static>(
        &self,
        effect: Effect,
        operation: impl FnOnce(&mut dyn Write, &State) -> Result<T, locks::Error> + Send + 'static,
        follow: impl FnOnce(&State, &T) + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let (state, its) = (Arc::clone(&self.state), Arc::clone(&self.state));
        let reply = move |result: Result<T, CallError<locks::Error>>| {
            if let Ok(value) = &result {
                follow(&its, value);
            }
            drop(answer.send(result));
        };
        let terms = self.terms(effect, LOCK_BYTES);
        let _ticket = self.writer.submit(terms, move |tx| operation(tx, &state), reply)?;
        answered.await.map_err(|_| exec::Error::Stopping)?.map_err(from_call)
    }

    /// Removes the rows of locks that have ended, a bounded number; whether there may be more.
    pub(super) fn remove_ended_locks(&self, limit: usize) -> Result<bool, CallError<locks::Error>> {
        let ended = self.state.locks.ended(self.state.clock.mono(), limit);
        if ended.is_empty() {
            return Ok(false);
        }
        let more = limit <= ended.len();
        let removed = self.background(move |tx, state| {
            locks::remove_ended(tx, &state.locks, state.clock.now(), &ended)
        })?;
        // What was taken since has another stamp.
        for (which, stamp) in &removed {
            self.state.released(which, *stamp);
        }
        Ok(more)
    }
}

/// Somebody who wants a lock.
struct Applicant<'t> {
    kept: &'t Arc<Kept>,
    which: Which,
    owner: Owner,
    ttl: Ttl,
}

impl Applicant<'_> {
    async fn take(
        &self,
        wait: Duration,
        mut stop: Pin<&mut impl Future<Output = ()>>,
        waited: &mut Duration,
    ) -> Result<Taken, Error> {
        let state = &self.kept.state;
        let until = state.clock.mono().plus(wait);
        let held = state.locks.held(state.clock.mono(), &self.which);
        // Whoever has it already passes everybody who waits for it.
        if held.is_some_and(|held| held.owner == self.owner) {
            match self.try_once().await {
                Err(Error::Lock(locks::Error::Held { .. })) => {}
                other => return other,
            }
        }
        let Some(standing) = self.stand(wait) else {
            if state.lines.lock().is_waited_for(&self.which) {
                return Err(self.held_by_others());
            }
            return self.try_once().await;
        };
        loop {
            let mut wake_at = until;
            if standing.is_head() {
                match self.try_once().await {
                    Err(Error::Lock(locks::Error::Held { retry_after })) => {
                        wake_at = until.min(state.clock.mono().plus(retry_after));
                    }
                    other => return other,
                }
            }
            let now = state.clock.mono();
            if until <= now {
                return Err(self.held_by_others());
            }
            let told = tokio::time::timeout(wake_at.since(now), standing.told.notified());
            let stopped = tokio::select! {
                biased;
                () = stop.as_mut() => true,
                _ = told => false,
            };
            *waited += state.clock.mono().since(now);
            if stopped {
                return Err(self.held_by_others());
            }
        }
    }

    /// A place in the line; none for those who do not wait, or when it is full.
    fn stand(&self, wait: Duration) -> Option<Standing> {
        if wait.is_zero() {
            return None;
        }
        let told = Arc::new(Notify::new());
        let place = self.kept.state.lines.lock().enter(&self.which, Arc::clone(&told)).ok()?;
        let (state, which) = (Arc::clone(&self.kept.state), self.which.clone());
        Some(Standing { state, which, place: Some(place), told })
    }

    fn held_by_others(&self) -> Error {
        let (state, now) = (&self.kept.state, self.kept.state.clock.mono());
        let held = state.locks.held(now, &self.which);
        let retry_after = held.map_or(Duration::ZERO, |held| held.until.since(now));
        Error::Lock(locks::Error::Held { retry_after })
    }

    async fn try_once(&self) -> Result<Taken, Error> {
        let (which, owner, ttl) = (self.which.clone(), self.owner.clone(), self.ttl);
        let (state, its) = (Arc::clone(&self.kept.state), Arc::clone(&self.kept.state));
        let (grant, kept) = (self.which.clone(), Arc::downgrade(self.kept));
        let (answer, answered) = oneshot::channel();
        let operation = move |tx: &mut dyn Write| {
            locks::take(tx, &state.locks, state.clock.now(), &which, (&owner, ttl))
        };
        let reply = move |result: Result<Taken, CallError<locks::Error>>| {
            let granted = result.map(|taken| {
                its.locks.apply(&grant, &taken.held);
                Granted { kept, which: grant, taken: Some(taken) }
            });
            // Nobody there to take it: then it is given back.
            drop(answer.send(granted));
        };
        let terms = self.kept.terms(Effect::Grows, LOCK_BYTES);
        let _ticket = self.kept.writer.submit(terms, operation, reply)?;
        let granted = answered.await.map_err(|_| exec::Error::Stopping)?;
        Ok(granted.map_err(from_call)?.accept())
    }
}

/// A place in a line, left when it is dropped.
struct Standing {
    state: Arc<State>,
    which: Which,
    place: Option<Place>,
    told: Arc<Notify>,
}

impl Standing {
    fn is_head(&self) -> bool {
        let lines = self.state.lines.lock();
        self.place.as_ref().is_some_and(|place| lines.is_head(&self.which, place))
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let mut lines = self.state.lines.lock();
        let next = self.place.take().and_then(|place| lines.leave(&self.which, place));
        if let Some(next) = next {
            next.notify_one();
        }
    }
}

/// A lock on its way to the one who took it; given back if it does not arrive.
struct Granted {
    kept: Weak<Kept>,
    which: Which,
    taken: Option<Taken>,
}

impl Granted {
    fn accept(mut self) -> Taken {
        self.taken.take().expect("BUG: it is accepted once")
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        // One that its owner had before stays.
        let Some(taken) = self.taken.take().filter(|taken| !taken.again) else {
            return;
        };
        let Some(kept) = self.kept.upgrade() else {
            return;
        };
        let (which, state) = (self.which.clone(), Arc::clone(&kept.state));
        let (its, stamp) = (self.which.clone(), taken.held.stamp);
        let operation = move |tx: &mut dyn Write| locks::undo_take(tx, &which, &taken.held);
        let reply = move |result: Result<bool, CallError<locks::Error>>| {
            if matches!(result, Ok(true)) {
                state.released(&its, stamp);
            }
        };
        match kept.writer.submit(kept.terms(Effect::Frees, 0), operation, reply) {
            Ok(ticket) => ticket.let_it_run(),
            // Then it ends by itself, after its ttl.
            Err(error) => tracing::debug!(%error, "a lock that nobody took stays until it ends"),
        }
    }
}

#[cfg(test)]
mod tests;
