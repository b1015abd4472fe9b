//! What is done in the background for the queues: what is due, what goes to the history, what is kept no longer.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::App;
use super::workers::LATER;
use crate::base::id::TenantId;
use crate::base::limits::{OUTBOX_LAG_ROWS, QUEUE_IDLE, QUEUE_STEP_ROWS, SWEEP_EVERY};
use crate::base::name::QueueName;
use crate::base::time::{Mono, Now};
use crate::exec::worker::{HireError, Next, Worker, Workers};
use crate::queue::{change, tick};

/// While something is due, the calendar is looked at so often: people and NTP set clocks.
const CALENDAR_EVERY: Duration = Duration::from_secs(1);
/// What is left of a burst goes to the history so often.
const DRAIN_EVERY: Duration = SWEEP_EVERY;
/// What is kept no longer is looked for so often.
const KEEP_EVERY: Duration = Duration::from_mins(1);

/// Gives each of them a thread.
pub(super) fn hire(app: &Arc<App>, workers: &Workers) -> Result<(), HireError> {
    let [clock, drain, keep] = all(app);
    let clock = workers.hire(clock)?;
    let drain = workers.hire(drain)?;
    workers.hire(keep)?;
    // Only the first ones count; there are no others.
    drop(app.jobs.state.clock_waker.set(clock));
    drop(app.jobs.state.drain_waker.set(drain));
    Ok(())
}

/// The clock, the drain, and what looks after what is kept.
pub(super) fn all(app: &Arc<App>) -> [Box<dyn Worker>; 3] {
    [
        Box::new(Clock(Arc::clone(app))),
        Box::new(Drain { app: Arc::clone(app), left: 0 }),
        Box::new(Keep { app: Arc::clone(app), at: None }),
    ]
}

/// Does what is due, and ends attempts whose time is over.
struct Clock(Arc<App>);

impl Clock {
    fn round(&self) -> Result<bool, super::Error> {
        let jobs = &self.0.jobs;
        jobs.take_up()?;
        let now = jobs.now();
        let (due, over) = jobs.with_memory(|memory| {
            let now_ms = now.wall.unix_ms().cast_unsigned();
            let due = memory.first_due_ms().is_some_and(|at| at <= now_ms);
            (due, memory.next_end().is_some_and(|at| at <= now.mono))
        });
        if !due && !over {
            return Ok(false);
        }
        let more = jobs.background(move |op| {
            let due = due && tick::due(op)?;
            Ok((over && tick::ends(op)?) || due)
        });
        more.map_err(super::jobs::from_call)
    }

    /// When to look again, if nothing comes before.
    fn next(&self, now: Now) -> Next {
        let now_ms = now.wall.unix_ms().cast_unsigned();
        let at: Option<Mono> = self.0.jobs.state.looks_at(|memory| {
            let due = memory.first_due_ms().map(|at| {
                let left = Duration::from_millis(at.saturating_sub(now_ms));
                now.mono.plus(left.min(CALENDAR_EVERY))
            });
            due.into_iter().chain(memory.next_end()).min()
        });
        at.map_or(Next::WhenWoken, Next::At)
    }
}

impl Worker for Clock {
    fn name(&self) -> &'static str {
        "queue-clock"
    }

    fn step(&mut self, now: Now) -> Next {
        match self.round() {
            Ok(true) => Next::Again,
            Ok(false) => self.next(now),
            Err(error) => {
                tracing::warn!(%error, "what is due was not done; it is tried again");
                Next::At(now.mono.plus(CALENDAR_EVERY))
            }
        }
    }
}

/// Brings what is over to the history.
///
/// While jobs end faster than it brings them away it steps back, up to [`OUTBOX_LAG_ROWS`]: a burst gets the
/// processor and the disk, and the history catches up when it is over.
struct Drain {
    app: Arc<App>,
    /// Rows that the last step left.
    left: u64,
}

impl Drain {
    /// What follows after a step that did something.
    fn after(&mut self, now: Now, hurry: bool) -> Next {
        let left = self.app.jobs.outbox_figures().0;
        let grows = std::mem::replace(&mut self.left, left) < left;
        let behind = QUEUE_STEP_ROWS as u64 <= left && (!grows || OUTBOX_LAG_ROWS <= left);
        // A page of large records is short, and may not be the last one.
        if hurry || behind { Next::Again } else { Next::At(now.mono.plus(DRAIN_EVERY)) }
    }
}

impl Worker for Drain {
    fn name(&self) -> &'static str {
        "queue-history"
    }

    fn step(&mut self, now: Now) -> Next {
        let state = &self.app.jobs.state;
        let hurry = state.hurry.swap(false, Relaxed);
        match self.app.drain_step() {
            Ok(0) => {
                state.draining.store(false, Relaxed);
                state.drained.notify_waiters();
                // Something may have come in between, and nobody was woken for it.
                let left = state.memory.lock().outbox_len();
                if left == 0 { Next::WhenWoken } else { Next::At(now.mono.plus(DRAIN_EVERY)) }
            }
            Ok(_) => self.after(now, hurry),
            Err(error) => {
                tracing::warn!(%error, "finished jobs wait for the history; it is tried again");
                Next::At(now.mono.plus(CALENDAR_EVERY))
            }
        }
    }
}

/// Removes what is kept no longer.
struct Keep {
    app: Arc<App>,
    /// Where the round stands.
    at: Option<Vec<(TenantId, QueueName)>>,
}

impl Keep {
    fn begin(&self) -> Vec<(TenantId, QueueName)> {
        let (state, now) = (&self.app.jobs.state, self.app.jobs.now());
        state.memory.lock().sweep(now.mono, QUEUE_IDLE);
        let held = |tenant, worker: &crate::queue::workers::WorkerId| {
            state.memory.lock().has_job(tenant, worker.as_str())
        };
        state.workers.lock().sweep(now, &held);
        self.app.jobs.unpin_idle();
        let memory = state.memory.lock();
        let failed = memory.all_queues().filter(|queue| 0 < queue.failed);
        failed.map(|queue| (queue.tenant, queue.name.clone())).collect()
    }

    fn round(&mut self) -> Result<bool, super::Error> {
        let queues = match &mut self.at {
            Some(queues) => queues,
            none => none.insert(Vec::new()),
        };
        if let Some((tenant, queue)) = queues.pop() {
            let its = queue.clone();
            let more = self
                .app
                .jobs
                .background(move |op| change::prune_failed(op, (tenant, &its)))
                .map_err(super::jobs::from_call)?;
            if more {
                queues.push((tenant, queue));
            }
            return Ok(true);
        }
        self.app.prune_past()
    }
}

impl Worker for Keep {
    fn name(&self) -> &'static str {
        "queue-keep"
    }

    fn step(&mut self, now: Now) -> Next {
        if self.at.is_none() {
            self.at = Some(self.begin());
        }
        match self.round() {
            Ok(true) => Next::Again,
            Ok(false) => {
                self.at = None;
                Next::At(now.mono.plus(KEEP_EVERY))
            }
            Err(error) => {
                tracing::debug!(%error, "what is kept no longer is still there; it is tried again");
                self.at = None;
                Next::At(now.mono.plus(LATER))
            }
        }
    }
}
