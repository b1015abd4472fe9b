//! What is done in the background: noting when tokens were used, removing what a deleted tenant left.
//!
//! Each is a [`crate::exec::worker::Worker`]: bounded steps, the time is given.
//! All of it is idempotent: a step that was cut short is done again.

use std::sync::Arc;
use std::time::Duration;

use super::App;
use super::queue_workers;
use super::series_workers;
use super::watch;
use crate::base::id::TenantId;
use crate::base::limits::{CATALOG_ROWS_MAX, KEPT_STEP_ROWS, SWEEP_EVERY, WRITE_DEADLINE};
use crate::base::time::Now;
use crate::catalog as relations;
use crate::exec::keeper::Task;
use crate::exec::worker::{HireError, Next, Worker, Workers};
use crate::exec::writer::Effect;
use crate::exec::{self, CallError};

/// A token's last use reaches the disk within this time, and is not written more often.
pub const USES_EVERY: Duration = Duration::from_mins(1);
/// Uses that are written at once.
const USES_MAX: usize = 1000;
/// Rows of what has ended are looked for so often.
const ENDED_EVERY: Duration = Duration::from_mins(1);
/// After an error.
pub(super) const LATER: Duration = Duration::from_mins(1);
/// Tenants that are looked through in one step.
const TENANTS_PAGE: usize = 200;

/// Gives each of them a thread.
pub fn hire(app: &Arc<App>, workers: &Workers) -> Result<(), HireError> {
    workers.hire(Box::new(Uses(Arc::clone(app))))?;
    workers.hire(Box::new(CacheSweep(Arc::clone(app))))?;
    workers.hire(Box::new(KeptEnded { app: Arc::clone(app), from: Vec::new() }))?;
    queue_workers::hire(app, workers)?;
    series_workers::hire(app, workers)?;
    watch::hire(app, workers)?;
    let removal = Removal { app: Arc::clone(app), after: None, found: None };
    let waker = workers.hire(Box::new(removal))?;
    // Only the first one counts; there is no second.
    drop(app.removal.set(waker));
    Ok(())
}

impl App {
    fn background<T: Send + 'static>(
        &self,
        name: &'static str,
        operation: impl FnOnce(&mut relations::Catalog) -> Result<T, relations::Error> + Send + 'static,
    ) -> Result<T, BackgroundError> {
        let until = self.clock.mono().plus(WRITE_DEADLINE);
        let task = Task { name, until, effect: Effect::Frees };
        Ok(self.keeper.call(task, operation)??)
    }

    /// Notes on disk when tokens were used. Also done when the process ends.
    pub fn store_uses(&self) -> Result<usize, BackgroundError> {
        let uses = self.directory.uses_to_store(USES_MAX);
        if uses.is_empty() {
            return Ok(0);
        }
        let rows = uses.clone();
        self.background("token.uses", move |catalog| catalog.tokens_touch(&rows))?;
        self.directory.uses_stored(&uses);
        Ok(uses.len())
    }
}

/// Why a step did nothing; it is tried again later.
#[derive(Debug, thiserror::Error)]
pub enum BackgroundError {
    /// The catalog's thread did not do it.
    #[error(transparent)]
    Exec(#[from] exec::Error),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] relations::Error),
    /// What is kept refused.
    #[error(transparent)]
    Kept(#[from] crate::cache::kept::Error),
    /// The jobs or the history refused.
    #[error(transparent)]
    App(#[from] super::Error),
    /// A lock refused.
    #[error(transparent)]
    Lock(#[from] crate::cache::locks::Error),
}

impl<E: Into<BackgroundError>> From<CallError<E>> for BackgroundError {
    fn from(error: CallError<E>) -> BackgroundError {
        match error {
            CallError::Refused(error) => error.into(),
            CallError::Failed(error) => error.into(),
        }
    }
}

/// The next step after one that may have failed.
fn after<T>(
    now: Now,
    worker: &str,
    result: Result<T, BackgroundError>,
    well: impl FnOnce(T) -> Next,
) -> Next {
    match result {
        Ok(value) => well(value),
        Err(error) => {
            tracing::debug!(worker, %error, "a background step did nothing; it is tried again");
            Next::At(now.mono.plus(LATER))
        }
    }
}

struct Uses(Arc<App>);

impl Worker for Uses {
    fn name(&self) -> &'static str {
        "token-uses"
    }

    fn step(&mut self, now: Now) -> Next {
        let stored = self.0.store_uses();
        after(now, self.name(), stored, |stored| {
            if stored == USES_MAX { Next::Again } else { Next::At(now.mono.plus(USES_EVERY)) }
        })
    }
}

/// Gives back the memory of what ended or was forgotten, step by step.
struct CacheSweep(Arc<App>);

impl Worker for CacheSweep {
    fn name(&self) -> &'static str {
        "cache-sweep"
    }

    fn step(&mut self, now: Now) -> Next {
        if self.0.cache.sweep(now.mono) {
            Next::Again
        } else {
            Next::At(now.mono.plus(SWEEP_EVERY))
        }
    }
}

/// Looks through the tenants page by page for one that is being deleted, and removes it step by step.
struct Removal {
    app: Arc<App>,
    after: Option<TenantId>,
    found: Option<TenantId>,
}

impl Removal {
    fn look(&mut self) -> Result<Next, BackgroundError> {
        let from = self.after;
        let page = self
            .app
            .background("tenant.look", move |catalog| catalog.tenants_page(from, TENANTS_PAGE))?;
        self.after = page.last().map(|tenant| tenant.id);
        self.found = page.iter().find(|tenant| tenant.deleting_at.is_some()).map(|found| found.id);
        Ok(if self.found.is_some() || page.len() == TENANTS_PAGE {
            Next::Again
        } else {
            self.after = None;
            Next::WhenWoken
        })
    }

    fn remove(&mut self, id: TenantId) -> Result<Next, BackgroundError> {
        // The catalog's rows go last: as long as they are there, the rest is found again.
        if !self.app.kept.remove_tenant_step(id)?
            || !self.app.remove_jobs_step(id)?
            || !self.app.remove_series_step(id)?
        {
            return Ok(Next::Again);
        }
        let removal = self.app.background("tenant.remove", move |catalog| {
            catalog.tenant_remove_step(id, CATALOG_ROWS_MAX)
        })?;
        if removal.finished {
            self.app.cache.forget_tenant(id);
            tracing::info!(tenant = %id, "what a deleted tenant left is removed");
            (self.found, self.after) = (None, None);
        }
        Ok(Next::Again)
    }
}

impl Worker for Removal {
    fn name(&self) -> &'static str {
        "tenant-removal"
    }

    fn step(&mut self, now: Now) -> Next {
        let result = match self.found {
            Some(id) => self.remove(id),
            None => self.look(),
        };
        after(now, "tenant-removal", result, |next| next)
    }
}

/// Removes the rows of kept entries and of locks that have ended, and goes round.
struct KeptEnded {
    app: Arc<App>,
    from: Vec<u8>,
}

impl KeptEnded {
    fn round(&mut self) -> Result<bool, BackgroundError> {
        if self.from.is_empty() && self.app.kept.remove_ended_locks(KEPT_STEP_ROWS)? {
            return Ok(true);
        }
        let next = self.app.kept.remove_ended_step(std::mem::take(&mut self.from))?;
        self.from = next.unwrap_or_default();
        Ok(!self.from.is_empty())
    }
}

impl Worker for KeptEnded {
    fn name(&self) -> &'static str {
        "kept-ended"
    }

    fn step(&mut self, now: Now) -> Next {
        let round = self.round();
        after(now, "kept-ended", round, |more| {
            if more { Next::Again } else { Next::At(now.mono.plus(ENDED_EVERY)) }
        })
    }
}
