//! A place for one answer, and somebody who waits for it.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Filled once, taken once.
#[derive(Debug)]
pub(super) struct Slot<T> {
    value: Mutex<Option<T>>,
    filled: Condvar,
}

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot { value: Mutex::new(None), filled: Condvar::new() }
    }
}

impl<T> Slot<T> {
    pub(super) fn fill(&self, value: T) {
        *self.value.lock() = Some(value);
        self.filled.notify_one();
    }

    /// The answer, or `None` when `patience` ended first. Without patience it waits for ever.
    pub(super) fn take(&self, patience: Option<Duration>) -> Option<T> {
        let mut value = self.value.lock();
        while value.is_none() {
            match patience {
                None => self.filled.wait(&mut value),
                Some(patience) => {
                    if self.filled.wait_for(&mut value, patience).timed_out() {
                        break;
                    }
                }
            }
        }
        value.take()
    }
}
