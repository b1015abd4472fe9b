//! A clock that moves when it is told to; and the real one, for tests of what has threads.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::base::time::{Clock, Mono, Now, Timestamp};

pub use crate::boot::clock::SystemClock;

/// Both times start somewhere and move together.
#[derive(Debug, Default)]
pub struct ManualClock {
    passed_ns: AtomicU64,
}

impl ManualClock {
    /// Lets `by` pass.
    pub fn advance(&self, by: Duration) {
        let ns = u64::try_from(by.as_nanos()).expect("tests do not wait for centuries");
        self.passed_ns.fetch_add(ns, SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        let passed = Duration::from_nanos(self.passed_ns.load(SeqCst));
        let start = Timestamp::from_unix_ms(1_700_000_000_000).expect("2023 is a year we keep");
        Now { wall: start.plus(passed), mono: self.mono() }
    }

    fn mono(&self) -> Mono {
        Mono::from_ns(1).plus(Duration::from_nanos(self.passed_ns.load(SeqCst)))
    }
}
