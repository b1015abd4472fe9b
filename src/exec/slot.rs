//! A place for one answer, the thread that waits for it, and how many threads are woken cheaply.
//!
//! Waking a thread costs the one who does it a system call. A writer that answers sixty callers would
//! spend a quarter of its time on that, while the next batch waits. So it only fills the slots, wakes
//! two callers, and each caller that wakes up wakes the next two ([`WakeChain`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;

/// Filled once, taken once, by the thread that made it.
#[derive(Debug)]
pub(super) struct Slot<T> {
    value: Mutex<Option<(T, Arc<WakeChain>)>>,
    waiter: Thread,
}

impl<T> Slot<T> {
    pub(super) fn new() -> Slot<T> {
        Slot { value: Mutex::new(None), waiter: std::thread::current() }
    }

    /// Puts the answer in; the waiter is woken when its turn in `chain` comes.
    pub(super) fn fill(&self, value: T, chain: &Arc<WakeChain>) {
        *self.value.lock() = Some((value, Arc::clone(chain)));
        chain.sleepers.lock().push_back(self.waiter.clone());
    }

    /// The answer, or `None` when it is not there after `patience` or earlier: whoever waits looks at
    /// the clock and comes again. Without patience it waits for ever.
    pub(super) fn take(&self, patience: Option<Duration>) -> Option<T> {
        if let Some(value) = self.look() {
            return Some(value);
        }
        match patience {
            Some(patience) => std::thread::park_timeout(patience),
            None => loop {
                std::thread::park();
                if let Some(value) = self.look() {
                    return Some(value);
                }
            },
        }
        self.look()
    }

    fn look(&self) -> Option<T> {
        let (value, chain) = self.value.lock().take()?;
        chain.wake();
        Some(value)
    }
}

/// Threads whose answers are there, and who are still to be woken.
#[derive(Debug, Default)]
pub(super) struct WakeChain {
    sleepers: Mutex<VecDeque<Thread>>,
}

/// How many each one wakes: two, so that the number of those awake doubles.
const WOKEN_AT_ONCE: usize = 2;

impl WakeChain {
    /// Wakes the next ones. Called when all slots are filled, and by each one that was woken.
    pub(super) fn wake(&self) {
        for _ in 0..WOKEN_AT_ONCE {
            let next = self.sleepers.lock().pop_front();
            match next {
                Some(sleeper) => sleeper.unpark(),
                None => return,
            }
        }
    }
}
