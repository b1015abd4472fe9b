//! Questions about series: on the pool, each with its deadline; those of a batch side by side, and from the cache.
//!
//! The time of a query begins when a thread takes it up, so that slow ones do not use up that of those behind them; waiting
//! and running together take at most [`QUERY_DEADLINE_MAX`] from when it, or its batch, was asked.
//!
//! Answers of a batch are kept in the cache, in a namespace of the tenant's own ([`NAMESPACE`]), by everything that was
//! asked with the range aligned to the step; for 15 s, 60 s, 5 m or 15 m by the length of the step. What failed or
//! met damaged blocks is never kept, nor are samples as they are, which are hardly asked for twice. Whoever asks what another is just being answered
//! waits for that answer. Deleting series forgets the tenant's answers, also those that are on their way: their leases go.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::cache::Ask;
use super::series::Series;
use super::{App, Error};
use crate::base::id::TenantId;
use crate::base::limits::{
    CACHE_VALUE_BYTES_MAX, DAMAGE_TOLD_EVERY, QUERY_DEADLINE_GRACE, QUERY_DEADLINE_MAX,
};
use crate::base::name::Namespace;
use crate::base::time::Mono;
use crate::cache::entry::Forget;
use crate::cache::entry::{Asked, Condition, ContentType, Key, LeaseToken, Life, Put};
use crate::cache::space::Space;
use crate::exec::pool::Patience;
use crate::exec::{self, CallError};
use crate::series;
use crate::series::fold::Function;
use crate::series::memory::Memory;
use crate::series::query::{Answer, Query, Source, answer};
use crate::series::{FIVE_MINUTES_MS, HOUR_MS, RowError};
use crate::store;
use crate::store::Read;

/// Where answers are kept.
pub const NAMESPACE: &str = "holdfast.queries";

/// How long an answer is kept whose steps are so long.
fn life(step_ms: i64) -> Life {
    let seconds = match step_ms {
        ..60_000 => 15,
        60_000..FIVE_MINUTES_MS => 60,
        FIVE_MINUTES_MS..HOUR_MS => 300,
        HOUR_MS.. => 900,
    };
    Life::new(Some(Duration::from_secs(seconds)), Duration::ZERO).expect("BUG: it is a life")
}

/// The file and the memory of the series, for one query.
struct Live<'l> {
    series: &'l Series,
    patience: &'l Patience,
    /// When its own time is over.
    until: Mono,
    /// Why the file could not be read at all.
    failed: Cell<Option<exec::Error>>,
}

impl Source for Live<'_> {
    fn read(
        &self,
        body: &mut dyn FnMut(&dyn Read) -> Result<(), RowError>,
    ) -> Result<(), RowError> {
        self.series.writer().read(|view| body(view)).map_err(|error| match error {
            CallError::Refused(error) => error,
            CallError::Failed(error) => {
                self.failed.set(Some(error));
                RowError::Store(store::Error::Closed)
            }
        })
    }

    fn memory(&self, body: &mut dyn FnMut(&mut Memory)) {
        self.series.with_memory(body);
    }

    fn expired(&self) -> bool {
        self.patience.expired() || self.until <= self.series.mono()
    }
}

/// Answers one query after the other, on a thread of the pool.
pub(super) struct Asker<'a>(Live<'a>);

impl Asker<'_> {
    /// Answers a query.
    pub(super) fn ask(&self, tenant: TenantId, query: &Query) -> Result<Answer, Error> {
        ask(&self.0, tenant, query)
    }
}

/// Answers a query on the thread of the caller.
fn ask(live: &Live<'_>, tenant: TenantId, query: &Query) -> Result<Answer, Error> {
    let answer = answer(live, tenant, query);
    if let Some(failed) = live.failed.take() {
        return Err(Error::Exec(failed));
    }
    let answer = answer.map_err(Error::Series)?;
    if answer.damaged != 0 && is_told(&live.series.damage_told, live.series.mono()) {
        tracing::error!(
            blocks = answer.damaged,
            select = %query.select,
            "blocks of series are damaged; answers lack their samples; run: holdfast check"
        );
    }
    Ok(answer)
}

/// Whether damage is told now: dashboards ask every few seconds, and once in a while is enough for a person.
fn is_told(last: &Mutex<Option<Mono>>, now: Mono) -> bool {
    let mut last = last.lock();
    let is_due = last.is_none_or(|last| DAMAGE_TOLD_EVERY <= now.since(last));
    if is_due {
        *last = Some(now);
    }
    is_due
}

/// An answer that somebody computes.
struct Running<T> {
    answered: oneshot::Receiver<Result<Result<T, Error>, exec::Error>>,
}

impl<T> Running<T> {
    /// Waits for it, for so long, and a little longer.
    async fn wait(self, within: Duration) -> Result<T, Error> {
        let within = within.saturating_add(QUERY_DEADLINE_GRACE);
        let result = match tokio::time::timeout(within, self.answered).await {
            Ok(answered) => answered.map_err(|_| exec::Error::Stopping)?,
            Err(_) => Err(exec::Error::TooLate),
        };
        result.unwrap_or_else(|error| match error {
            exec::Error::TooLate => Err(Error::Series(series::Error::TooLate)),
            error => Err(Error::Exec(error)),
        })
    }
}

/// One query of a batch.
struct Item {
    query: Query,
    /// Its key, if its answer may be kept.
    key: Option<String>,
    state: State,
}

/// An answer as it is given.
struct Written {
    bytes: Vec<u8>,
    /// Whether nothing is missing in it.
    is_whole: bool,
}

enum State {
    /// Not begun.
    New,
    /// Somebody else computes it.
    Elsewhere,
    /// On the pool; with what lets its answer be kept.
    Running(Option<Running<Written>>, Option<LeaseToken>),
    Done(Result<Vec<u8>, Error>),
}

/// How a batch is answered.
struct Batch<'b> {
    app: &'b Arc<App>,
    tenant: TenantId,
    /// How long each may run.
    within: Duration,
    /// When all are over, begun or not.
    until: Mono,
    space: Option<Arc<Space>>,
    encode: fn(&Answer) -> Vec<u8>,
    items: Vec<Item>,
}

/// Whoever goes away in the midst of it lets others compute at once.
impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for item in &self.items {
            if let (State::Running(_, Some(lease)), Some(space)) = (&item.state, &self.space) {
                give_up(space, item, *lease);
            }
        }
    }
}

fn give_up(space: &Space, item: &Item, lease: LeaseToken) {
    if let Some(Ok(key)) = item.key.as_deref().map(Key::parse) {
        space.give_up(key, lease);
    }
}

/// What is asked, as text; hashed where that is longer than a key may be. Begins with what nobody knows: who may use the
/// cache may not, for that, look at series, nor say what they are.
fn key(secret: u128, query: &Query) -> String {
    let mut by = query.by.clone();
    if let Some(by) = &mut by {
        by.sort();
        by.dedup();
    }
    let Query { select, function, reduce, from_ms, to_ms, step_ms, .. } = query;
    let range = format!("{from_ms} {to_ms} {step_ms:?}");
    let text = format!("{secret:032x} {function:?} {by:?} {reduce:?} {range} {select}");
    if Key::parse(&text).is_ok() {
        return text;
    }
    let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    hash.iter().fold(String::from("sha256 "), |text, byte| format!("{text}{byte:02x}"))
}

impl Batch<'_> {
    fn left(&self) -> Duration {
        self.until.since(self.app.clock.mono())
    }

    /// Begins what is not in the cache and what nobody else computes.
    async fn begin(&mut self) {
        for number in 0..self.items.len() {
            let State::New = self.items[number].state else { continue };
            let asked = self.cached(number, Duration::ZERO).await;
            self.items[number].state = match asked {
                Some(Asked::Busy { .. }) => State::Elsewhere,
                asked => self.submit(number, asked),
            };
        }
    }

    /// Asks the cache; `None` where nothing is kept.
    async fn cached(&self, number: usize, wait: Duration) -> Option<Asked> {
        let (space, key) = (self.space.as_ref()?, self.items[number].key.as_ref()?);
        let key = Key::parse(key).ok()?;
        // The lease lasts as long as the query may wait and run.
        let ask = Ask { lease: self.left().max(Duration::from_millis(1)), wait };
        Some(self.app.cache_ask(space, key, ask, std::future::pending()).await.0)
    }

    /// Has it computed, unless the cache had it.
    fn submit(&self, number: usize, asked: Option<Asked>) -> State {
        let item = &self.items[number];
        let lease = match asked {
            Some(Asked::Hit(found, _)) => return State::Done(Ok(found.bytes().to_vec())),
            Some(Asked::Leased(lease)) => Some(lease),
            Some(Asked::Busy { .. }) | None => None,
        };
        let encode = self.encode;
        let made =
            move |answer: Answer| Written { bytes: encode(&answer), is_whole: answer.damaged == 0 };
        let asked = (self.tenant, item.query.clone());
        let running = self.app.submit_query(asked, self.within, self.until, made);
        match running {
            Ok(running) => State::Running(Some(running), lease),
            Err(error) => {
                if let (Some(space), Some(lease)) = (&self.space, lease) {
                    give_up(space, item, lease);
                }
                State::Done(Err(error))
            }
        }
    }

    /// Waits for what was begun, and keeps what may be kept.
    async fn finish(&mut self, number: usize) {
        let left = self.left();
        let State::Running(running, lease) = &mut self.items[number].state else {
            return;
        };
        // The lease stays in its place while we wait, for when nobody waits for us any more.
        let (running, lease) = (running.take().expect("BUG: it is waited for once"), *lease);
        let result = running.wait(left).await;
        if let (Some(space), Some(lease)) = (&self.space, lease) {
            let item = &self.items[number];
            match &result {
                Ok(Written { bytes, is_whole: true }) if bytes.len() <= CACHE_VALUE_BYTES_MAX => {
                    keep(space, self.app.clock.mono(), item, lease, bytes);
                }
                Ok(_) | Err(_) => give_up(space, item, lease),
            }
        }
        self.items[number].state = State::Done(result.map(|written| written.bytes));
    }

    /// Answers everything.
    async fn answer(mut self) -> Vec<Result<Vec<u8>, Error>> {
        self.begin().await;
        for number in 0..self.items.len() {
            self.finish(number).await;
        }
        // What others compute is mostly there by now. Some time is left for what they do not bring about.
        for number in 0..self.items.len() {
            if let State::Elsewhere = self.items[number].state {
                let asked = self.cached(number, self.left() / 2).await;
                self.items[number].state = self.submit(number, asked);
            }
        }
        for number in 0..self.items.len() {
            self.finish(number).await;
        }
        std::mem::take(&mut self.items).into_iter().map(Item::result).collect()
    }
}

impl Item {
    fn result(self) -> Result<Vec<u8>, Error> {
        match self.state {
            State::Done(result) => result,
            State::New | State::Elsewhere | State::Running(..) => {
                unreachable!("BUG: every query of a batch is answered")
            }
        }
    }
}

/// Keeps an answer; not if series were deleted since it was begun. A cache that is full is no error.
fn keep(space: &Space, now: Mono, item: &Item, lease: LeaseToken, bytes: &[u8]) {
    let Some(Ok(key)) = item.key.as_deref().map(Key::parse) else {
        return;
    };
    let put = Put {
        key,
        value: bytes,
        content_type: ContentType::OCTETS,
        life: life(item.query.step_ms.unwrap_or(0)),
        tags: &[],
        condition: Condition::Always,
        lease: Some(lease),
    };
    if let Err(error) = space.put(now, &put) {
        tracing::debug!(%error, "an answer is not kept");
        space.give_up(key, lease);
    }
}

impl App {
    /// Answers one query, which may run for so long.
    pub async fn query_series(
        self: &Arc<Self>,
        tenant: TenantId,
        query: Query,
        within: Duration,
    ) -> Result<Answer, Error> {
        let until = self.clock.mono().plus(QUERY_DEADLINE_MAX);
        let running = self.submit_query((tenant, query), within, until, |answer| answer)?;
        running.wait(QUERY_DEADLINE_MAX).await
    }

    /// Asks several queries one after the other, and makes something of the answers, all of it on the pool; the queries
    /// have so long together.
    pub(super) async fn with_queries<T: Send + 'static>(
        &self,
        within: Duration,
        work: impl FnOnce(&Asker<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let until = self.clock.mono().plus(QUERY_DEADLINE_MAX);
        let running = self.submit_work(within, until, work)?;
        running.wait(QUERY_DEADLINE_MAX).await
    }

    /// The same for a thread that may wait.
    pub(super) fn with_queries_waiting<T: Send + 'static>(
        &self,
        within: Duration,
        work: impl FnOnce(&Asker<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let until = self.clock.mono().plus(QUERY_DEADLINE_MAX);
        let series = Arc::clone(&self.series);
        let work = move |patience: &Patience| {
            let until = series.mono().plus(within);
            let failed = Cell::new(None);
            work(&Asker(Live { series: &series, patience, until, failed }))
        };
        self.pool.call(until, work)?
    }

    /// Answers many, side by side, each by itself and for so long; in the order in which they were asked. What is given of a query is its
    /// answer as `encode` writes it (that is what is kept).
    pub async fn query_batch(
        self: &Arc<Self>,
        tenant: TenantId,
        queries: Vec<Query>,
        within: Duration,
        encode: fn(&Answer) -> Vec<u8>,
    ) -> Vec<Result<Vec<u8>, Error>> {
        let item = |query: Query| match query.aligned() {
            Ok(query) => {
                let kept = query.function != Function::Raw;
                Item {
                    key: kept.then(|| key(self.answers_secret, &query)),
                    query,
                    state: State::New,
                }
            }
            Err(bad) => {
                let refused = State::Done(Err(Error::Series(series::Error::Query(bad))));
                Item { query, key: None, state: refused }
            }
        };
        let batch = Batch {
            app: self,
            tenant,
            within,
            until: self.clock.mono().plus(QUERY_DEADLINE_MAX),
            space: self.answers(tenant),
            encode,
            items: queries.into_iter().map(item).collect(),
        };
        batch.answer().await
    }

    /// Forgets the answers that are kept for a tenant; those that are being computed are not kept either.
    pub(super) fn forget_answers(&self, tenant: TenantId) {
        if let Some(space) = self.cache.space(tenant, NAMESPACE)
            && !space.kept()
        {
            space.forget(self.clock.mono(), &Forget::All, false);
        }
    }

    /// Where the answers for a tenant are kept; nowhere if it is gone, or if this namespace shall be on disk, which is no
    /// place for what is computed anew in no time.
    fn answers(&self, tenant: TenantId) -> Option<Arc<Space>> {
        let tenant = self.directory.tenant_by_id(tenant)?;
        let name = Namespace::parse(NAMESPACE).expect("BUG: it is a name");
        self.space_or_new(&tenant, &name).ok().filter(|space| !space.kept())
    }

    /// Has the pool answer a query, which may run for so long and be waited for until then, and make something of the
    /// answer.
    fn submit_query<T: Send + 'static>(
        self: &Arc<Self>,
        (tenant, query): (TenantId, Query),
        within: Duration,
        until: Mono,
        made: impl FnOnce(Answer) -> T + Send + 'static,
    ) -> Result<Running<T>, Error> {
        let work = move |asker: &Asker<'_>| asker.ask(tenant, &query).map(made);
        self.submit_work(within, until, work)
    }

    /// The same for several queries and what is made of them.
    fn submit_work<T: Send + 'static>(
        &self,
        within: Duration,
        until: Mono,
        work: impl FnOnce(&Asker<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<Running<T>, Error> {
        let (answer, answered) = oneshot::channel();
        let series = Arc::clone(&self.series);
        let work = move |patience: &Patience| {
            let until = series.mono().plus(within);
            let failed = Cell::new(None);
            work(&Asker(Live { series: &series, patience, until, failed }))
        };
        let submitted = self.pool.submit(until, work, move |result| drop(answer.send(result)));
        match submitted {
            Ok(_) => Ok(Running { answered }),
            // Most places are free again long before the last deadline.
            Err(exec::Error::Overloaded { wait }) => {
                Err(exec::Error::Overloaded { wait: wait.min(within) }.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
