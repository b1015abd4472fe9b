//! Background work, one step at a time.
//!
//! A [`Worker`] does a bounded piece of work per step and says when it wants the next one. In
//! production each has a thread ([`Workers`]); in tests a seed decides who steps when ([`Seat`] is the
//! part that both share).
//!
//! **Invariants**: a step gets the time and never reads it; a wake-up is never lost, also one that
//! comes during a step; a worker whose step panics rests, a second and then longer, and goes on; a
//! worker that is stopped finishes its step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{panic_text, start_thread};
use crate::base::limits::{WORKER_REST_MAX, WORKER_REST_MIN, WORKERS_MAX};
use crate::base::time::{Clock, Mono, Now};

/// Something that is done in the background.
pub trait Worker: Send {
    /// Its name in figures and logs.
    fn name(&self) -> &'static str;
    /// Does a bounded piece of work.
    fn step(&mut self, now: Now) -> Next;
}

/// When a worker wants its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once: there is more to do.
    Again,
    /// At this moment, or when woken.
    At(Mono),
    /// When woken.
    WhenWoken,
}

/// What a worker has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Its name.
    pub name: &'static str,
    /// Steps done.
    pub steps: u64,
    /// Steps that panicked.
    pub panicked: u64,
    /// The longest step.
    pub step_max: Duration,
    /// Whether it rests after a panic.
    pub resting: bool,
    /// When it wants its next step.
    pub next: Next,
}

/// A worker and when it is due.
pub struct Seat {
    worker: Box<dyn Worker>,
    next: Next,
    woken: bool,
    resting_until: Option<Mono>,
    rest: Duration,
    steps: u64,
    panicked: u64,
    step_max: Duration,
}

impl Seat {
    /// A worker that is due at once.
    pub fn new(worker: Box<dyn Worker>) -> Seat {
        Seat {
            worker,
            next: Next::Again,
            woken: false,
            resting_until: None,
            rest: WORKER_REST_MIN,
            steps: 0,
            panicked: 0,
            step_max: Duration::ZERO,
        }
    }

    /// Makes it due, unless it rests; then it is due after the rest.
    pub fn wake(&mut self) {
        self.woken = true;
    }

    /// How long until it is due: zero is now, `None` is when woken.
    pub fn due_in(&self, now: Mono) -> Option<Duration> {
        let rest = self.resting_until.map_or(Duration::ZERO, |until| until.since(now));
        let wanted = match self.next {
            _ if self.woken => Some(Duration::ZERO),
            Next::Again => Some(Duration::ZERO),
            Next::At(at) => Some(at.since(now)),
            Next::WhenWoken => None,
        };
        wanted.map(|wanted| wanted.max(rest))
    }

    /// Does one step. `clock` is read before and after it, for the figures.
    pub fn step(&mut self, clock: &dyn Clock) {
        let now = clock.now();
        self.woken = false;
        self.resting_until = None;
        let result = catch_unwind(AssertUnwindSafe(|| self.worker.step(now)));
        let ended = clock.mono();
        self.steps += 1;
        self.step_max = self.step_max.max(ended.since(now.mono));
        match result {
            Ok(next) => {
                self.next = next;
                self.rest = WORKER_REST_MIN;
            }
            Err(panic) => {
                let (worker, text) = (self.worker.name(), panic_text(&*panic));
                tracing::error!(worker, text, "a background step panicked; it rests and goes on");
                self.panicked += 1;
                self.next = Next::Again;
                self.resting_until = Some(ended.plus(self.rest));
                self.rest = (self.rest * 2).min(WORKER_REST_MAX);
            }
        }
    }

    /// What it has done.
    pub fn figures(&self) -> Figures {
        Figures {
            name: self.worker.name(),
            steps: self.steps,
            panicked: self.panicked,
            step_max: self.step_max,
            resting: self.resting_until.is_some(),
            next: self.next,
        }
    }
}

/// What a worker's thread and its wakers share.
struct Desk {
    state: Mutex<DeskState>,
    rung: Condvar,
}

struct DeskState {
    woken: bool,
    stopping: bool,
    figures: Figures,
}

/// Wakes one worker; clones wake the same.
#[derive(Clone)]
pub struct Waker(Arc<Desk>);

impl Waker {
    /// Makes the worker due.
    pub fn wake(&self) {
        self.0.state.lock().woken = true;
        self.0.rung.notify_one();
    }
}

/// Why a worker was not taken on.
#[derive(Debug, thiserror::Error)]
pub enum HireError {
    /// There are as many as there may be.
    #[error("there are {WORKERS_MAX} background workers already")]
    TooMany,
    /// The system gave no thread.
    #[error("no thread for a background worker")]
    NoThread(#[from] std::io::Error),
}

/// The workers of the process, each on its thread. Dropping it stops them.
pub struct Workers {
    clock: Arc<dyn Clock>,
    hired: Mutex<Vec<(Arc<Desk>, JoinHandle<()>)>>,
}

impl Workers {
    /// Nobody yet.
    pub fn new(clock: Arc<dyn Clock>) -> Workers {
        Workers { clock, hired: Mutex::default() }
    }

    /// Gives `worker` a thread, on which it steps at once.
    pub fn hire(&self, worker: Box<dyn Worker>) -> Result<Waker, HireError> {
        let mut hired = self.hired.lock();
        if WORKERS_MAX <= hired.len() {
            return Err(HireError::TooMany);
        }
        let mut seat = Seat::new(worker);
        let figures = seat.figures();
        let name = figures.name;
        let state = Mutex::new(DeskState { woken: false, stopping: false, figures });
        let desk = Arc::new(Desk { state, rung: Condvar::new() });
        let (its, clock) = (Arc::clone(&desk), Arc::clone(&self.clock));
        let thread = start_thread(name, move || work(&mut seat, &its, &*clock))?;
        hired.push((Arc::clone(&desk), thread));
        Ok(Waker(desk))
    }

    /// What each has done, in the order in which they were hired.
    pub fn figures(&self) -> Vec<Figures> {
        self.hired.lock().iter().map(|(desk, _)| desk.state.lock().figures.clone()).collect()
    }

    /// Lets every worker finish its step and ends them.
    pub fn stop(&self) {
        let hired = std::mem::take(&mut *self.hired.lock());
        for (desk, _) in &hired {
            desk.state.lock().stopping = true;
            desk.rung.notify_one();
        }
        for (_, thread) in hired {
            if thread.join().is_err() {
                tracing::error!("the thread of a background worker panicked");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The life of a worker's thread.
fn work(seat: &mut Seat, desk: &Desk, clock: &dyn Clock) {
    loop {
        let mut state = desk.state.lock();
        loop {
            if state.stopping {
                return;
            }
            if std::mem::take(&mut state.woken) {
                seat.wake();
            }
            match seat.due_in(clock.mono()) {
                Some(Duration::ZERO) => break,
                Some(wait) => drop(desk.rung.wait_for(&mut state, wait)),
                None => desk.rung.wait(&mut state),
            }
        }
        drop(state);
        seat.step(clock);
        desk.state.lock().figures = seat.figures();
    }
}
