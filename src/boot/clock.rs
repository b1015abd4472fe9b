//! The real clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::base::time::{Clock, Mono, Now, SteadyWall, Timestamp, WallStep};

/// Reads the system's clocks; see [`SteadyWall`] for what is done to the wall clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    wall: Mutex<SteadyWall>,
}

impl SystemClock {
    /// A clock whose `mono` counts from now.
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now(), wall: Mutex::default() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    fn now(&self) -> Now {
        let mut wall = self.wall.lock();
        // Read under the lock, so that readings reach `SteadyWall` in the order they were made.
        let mono = self.mono();
        let raw = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let raw = i64::try_from(raw.as_millis()).ok().and_then(Timestamp::from_unix_ms);
        let (now, step) = wall.read(raw.unwrap_or(Timestamp::MAX), mono);
        drop(wall);
        match step {
            Some(WallStep::Forward(by)) => {
                tracing::warn!(by_ms = by.as_millis(), "the wall clock was set forward");
            }
            Some(WallStep::Back(by)) => {
                tracing::warn!(by_ms = by.as_millis(), "the wall clock was set back");
            }
            None => {}
        }
        now
    }

    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    fn mono(&self) -> Mono {
        Mono::from_ns(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::SystemClock;
    use crate::base::time::{Clock, Timestamp};

    #[test]
    fn the_system_clock_counts_up_and_knows_the_year() {
        let clock = SystemClock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(first.mono <= second.mono && first.wall <= second.wall);
        let year_2025 = Timestamp::from_unix_ms(1_735_689_600_000).unwrap();
        assert!(year_2025 < first.wall, "{}", first.wall);
    }
}
