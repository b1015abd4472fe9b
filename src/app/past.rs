//! What is over: the way from the store to the history, and questions about it.
//!
//! ```text
//!   jobs.redb, outbox --page--> history.sqlite, one transaction, synced --then--> outbox, removed
//! ```
//!
//! A job that is over is in the outbox or in the history, and for a moment in both. It is asked for in this
//! order, so that it is not missed on its way. Whoever searches waits a little for what is on its way.

use std::time::Duration;

use tokio::sync::oneshot;

use super::jobs::Jobs;
use super::{App, Error};
use crate::base::id::{JobId, TenantId};
use crate::base::limits::{HISTORY_STEP_ROWS, QUEUE_STEP_ROWS, READ_DEADLINE, WRITE_DEADLINE};
use crate::base::time::Timestamp;
use crate::catalog;
use crate::catalog::history::{
    Change, Figures, Filter, FinishedJob, Group, History, HistoryReader, JobError, Limits, Page,
    QueueKeep,
};
use crate::exec::keeper::{Keeper, Task};
use crate::exec::writer::Effect;
use crate::queue::finish;
use crate::queue::job::State;
use crate::queue::outbox::{self, Looked, Parcel};
use crate::queue::view::LastError;

/// Whoever searches waits so long for what is on its way to the history.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The history: who writes it, and who reads it.
pub struct Past {
    /// Writes.
    pub writer: Keeper<History>,
    /// Reads, and does not wait for who writes; without one, who writes is asked.
    pub reader: Option<Keeper<HistoryReader>>,
}

impl Past {
    /// Ends both; whether the file was left in order.
    pub(super) fn stop(&self, within: Duration) -> bool {
        let reader = self.reader.as_ref().is_none_or(|reader| reader.stop(within));
        self.writer.stop(within) && reader
    }
}

/// What is known of the last lease of a job that is over.
pub(super) fn lease_of(job: &FinishedJob) -> finish::Over {
    finish::Over { state: State::of(job.state), fence: job.fence, secret: job.secret }
}

/// What went wrong with it last.
pub(super) fn last_error(job: &FinishedJob) -> Option<LastError> {
    let JobError { class, message, trace } = job.error.clone()?;
    Some(LastError { class, message, trace, at: job.finished_at })
}

/// A result that nobody may ask for any more is not told.
fn told(mut job: FinishedJob, now: Timestamp) -> FinishedJob {
    if job.result_until.is_some_and(|until| until <= now) {
        job.result = None;
    }
    job
}

impl App {
    /// The history, for its figures.
    pub fn history(&self) -> &Past {
        &self.history
    }

    /// A job that is over, on its way to the history or there.
    pub(super) async fn past(
        &self,
        tenant: TenantId,
        id: JobId,
    ) -> Result<Option<FinishedJob>, Error> {
        let now = self.jobs.now().wall;
        match self.jobs.read(|view| outbox::find(view, tenant, id))? {
            Looked::Finished(job) => Ok(Some(told(*job, now))),
            Looked::Gone => Ok(None),
            Looked::Nothing => {
                let found = self.ask_history("history.get", move |reader| reader.get(tenant, id));
                Ok(found.await?.map(|job| told(job, now)))
            }
        }
    }

    async fn ask_history<T: Send + 'static>(
        &self,
        name: &'static str,
        question: impl FnOnce(&HistoryReader) -> catalog::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let until = self.clock.mono().plus(READ_DEADLINE);
        let task = Task { name, until, effect: Effect::Frees };
        let reply = move |result| drop(answer.send(result));
        if let Some(reader) = &self.history.reader {
            let ask = move |reader: &mut HistoryReader| question(reader);
            reader.submit(task, ask, reply)?;
        } else {
            let ask = move |history: &mut History| question(history.reader());
            self.history.writer.submit(task, ask, reply)?;
        }
        let answer = answered.await.map_err(|_| crate::exec::Error::Stopping)??;
        answer.map_err(Error::Catalog)
    }

    /// Waits a little until what is on its way now has arrived; what comes behind it is not waited for.
    async fn catch_up(&self) {
        let state = &self.jobs.state;
        let arrivals = state.memory.lock().arrivals_of_all();
        let arrived = async {
            loop {
                let drained = state.drained.notified();
                if arrivals <= state.memory.lock().arrivals() {
                    return;
                }
                state.hurry_drain();
                drained.await;
            }
        };
        // What has not arrived by then is missing in the answer, as it would be a moment earlier.
        drop(tokio::time::timeout(CATCH_UP, arrived).await);
    }

    /// Jobs that are over, the newest first.
    pub async fn past_search(&self, filter: Filter) -> Result<Page, Error> {
        self.catch_up().await;
        let now = self.jobs.now().wall;
        let page = self.ask_history("history.search", move |reader| reader.search(&filter)).await?;
        let jobs = page.jobs.into_iter().map(|job| told(job, now)).collect();
        Ok(Page { jobs, next: page.next })
    }

    /// Groups of failures, those that failed last first.
    pub async fn past_groups(
        &self,
        tenant: TenantId,
        queue: Option<String>,
        after: Option<(Timestamp, u64)>,
        limit: usize,
    ) -> Result<(Vec<Group>, Option<(Timestamp, u64)>), Error> {
        self.catch_up().await;
        self.ask_history("history.groups", move |reader| {
            reader.groups(tenant, queue.as_deref(), after, limit)
        })
        .await
    }

    /// What the history holds.
    pub async fn past_figures(&self) -> Result<Figures, Error> {
        self.ask_history("history.figures", HistoryReader::figures).await
    }

    /// What the history holds, for callers that are on a thread of their own.
    pub fn past_figures_waiting(&self) -> Result<Figures, Error> {
        let until = self.clock.mono().plus(READ_DEADLINE);
        let task = Task { name: "history.figures", until, effect: Effect::Frees };
        let figures = if let Some(reader) = &self.history.reader {
            reader.call(task, |reader: &mut HistoryReader| reader.figures())?
        } else {
            self.history.writer.call(task, |history: &mut History| history.reader().figures())?
        };
        figures.map_err(Error::Catalog)
    }

    /// Brings some of the outbox to the history; how many jobs that were.
    pub(super) fn drain_step(&self) -> Result<usize, Error> {
        let mut parcels = self.jobs.read(|view| outbox::page(view, QUEUE_STEP_ROWS))?;
        let count = parcels.len();
        if count == 0 {
            return Ok(0);
        }
        for parcel in parcels.iter().filter(|parcel| parcel.damaged) {
            let (tenant, job) = (parcel.tenant, parcel.id);
            tracing::error!(%tenant, %job, "what became of a job is damaged; the history misses it");
        }
        let changes: Vec<Change> = parcels.iter_mut().filter_map(Parcel::unpack).collect();
        self.tell_history(("history.apply", Effect::Grows), move |history| {
            history.apply(&changes)
        })?;
        let removed = self.jobs.background(move |op| outbox::remove(op, &parcels));
        removed.map_err(super::jobs::from_call)?;
        self.jobs.state.drained.notify_waiters();
        Ok(count)
    }

    fn tell_history<T: Send + 'static>(
        &self,
        (name, effect): (&'static str, Effect),
        operation: impl FnOnce(&mut History) -> catalog::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let until = self.clock.mono().plus(WRITE_DEADLINE);
        let task = Task { name, until, effect };
        self.history.writer.call(task, operation)?.map_err(Error::Catalog)
    }

    /// Removes some of what the history may not keep any more; whether there may be more.
    pub(super) fn prune_past(&self) -> Result<bool, Error> {
        let settings = self.settings();
        let limits = settings.history;
        let queues = self.jobs.with_memory(|memory| {
            let keeps = memory.all_queues().filter(|queue| queue.configured).map(|queue| {
                let keep = queue.settings.keep;
                let keep = QueueKeep { done_age: keep.done, rows: keep.rows, bytes: keep.bytes };
                (queue.tenant, queue.name.as_str().to_owned(), keep)
            });
            keeps.filter(|(_, _, keep)| *keep != QueueKeep::default()).collect::<Vec<_>>()
        });
        let now = self.jobs.now().wall;
        // Not where the disk is full: that is when it is needed most.
        self.tell_history(("history.prune", Effect::Frees), move |history| {
            history.prune(&limits, &queues, now)
        })
    }

    /// Removes some of what the history has of a tenant; whether that was all.
    pub(super) fn remove_past_step(&self, tenant: TenantId) -> Result<bool, Error> {
        let more = self.tell_history(("history.remove", Effect::Frees), move |history| {
            history.remove_tenant_step(tenant, HISTORY_STEP_ROWS)
        })?;
        Ok(!more)
    }
}

impl Jobs {
    /// Rows that are on their way to the history, and done jobs that it will not hear of.
    pub fn outbox_figures(&self) -> (u64, u64) {
        self.with_memory(|memory| (memory.outbox_len(), memory.outbox_skipped))
    }
}

/// What the history keeps.
pub type Keep = Limits;
