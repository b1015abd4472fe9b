//! What is done in the background for the series: the tick of the log, and the keeper, which seals, rolls up and lets go.

use std::sync::Arc;

use super::App;
use super::series_keeper::Keeper;
use super::series_tick::Tick;
use crate::exec::worker::{HireError, Worker, Workers};

/// Gives each of them a thread.
pub(super) fn hire(app: &Arc<App>, workers: &Workers) -> Result<(), HireError> {
    let [tick, keeper] = all(app);
    app.series.set_waker(workers.hire(tick)?);
    workers.hire(keeper)?;
    Ok(())
}

/// The tick, and the keeper.
pub(crate) fn all(app: &Arc<App>) -> [Box<dyn Worker>; 2] {
    let its = Arc::clone(app);
    let keep = move || its.settings().series.keep.clone();
    [Box::new(Tick(Arc::clone(&app.series))), Box::new(Keeper::new(Arc::clone(&app.series), keep))]
}
