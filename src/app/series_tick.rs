//! The tick of the series' log: every ten seconds, when somebody waits, and when much is pending.

use std::sync::Arc;

use super::series::Series;
use crate::base::limits::TICK_EVERY;
use crate::base::time::Now;
use crate::exec::worker::{Next, Worker};

/// See the module.
pub(super) struct Tick(pub(super) Arc<Series>);

impl Worker for Tick {
    fn name(&self) -> &'static str {
        "series-tick"
    }

    fn step(&mut self, now: Now) -> Next {
        // Those who wake it cannot hurry a log that failed.
        if let Some(at) = self.0.again_at()
            && now.mono < at
        {
            return Next::At(at);
        }
        match self.0.tick(now) {
            Ok(()) => Next::At(now.mono.plus(TICK_EVERY)),
            Err(error) => {
                tracing::debug!(%error, "series.wal is tried again later");
                Next::At(self.0.again_at().unwrap_or(now.mono))
            }
        }
    }
}
