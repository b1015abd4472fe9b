//! Who has an operation that is on its way: its caller, who may still take it back, or the thread.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Changed once, by whoever comes first.
#[derive(Debug, Default)]
pub(super) struct Claim(AtomicU8);

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Claim {
    /// The thread begins with it; false when its caller has taken it back.
    pub(super) fn take(&self) -> bool {
        self.change(TAKEN)
    }

    /// The caller takes it back; false when the thread has begun with it.
    pub(super) fn give_up(&self) -> bool {
        self.change(GIVEN_UP)
    }

    fn change(&self, to: u8) -> bool {
        self.0.compare_exchange(WAITING, to, Relaxed, Relaxed).is_ok()
    }
}
