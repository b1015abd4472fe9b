//! What is kept on disk beside the catalog: kept namespaces, and locks. The way in.
//!
//! Every change is an operation on the thread of kept.redb; memory follows there, after the commit and in its
//! order, and only then is the caller answered. See [`crate::cache::kept`] for what is judged how.
//!
//! Whoever gives up waiting takes the operation back if it has not begun.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::Error;
use super::directory::Directory;
use crate::base::id::TenantId;
use crate::base::limits::WRITE_DEADLINE;
use crate::base::name::Namespace;
use crate::base::quota::{Allowance, Quota, Quotas};
use crate::base::time::{Clock, Mono};
use crate::cache::entry::{
    Condition, ContentType, Key, LeaseToken, Life, Put, Stored, Tag, Version,
};
use crate::cache::kept::{self, Cursor, Judge, Loaded, Loading, Pending, What};
use crate::cache::line::Lines;
use crate::cache::locks::{self, Locks, Which};
use crate::cache::space::{Cache, Reserved, Space};
use crate::exec::writer::{Effect, Opener, Options, Terms, Writer};
use crate::exec::{self, CallError};
use crate::store::{self, Engine, Opening, Write};

/// What a tenant may hold in the cache; nothing when there is no such tenant.
pub type TenantMax = Box<dyn Fn(TenantId) -> Option<Option<u64>> + Send + Sync>;

/// As the directory and these tiers say.
pub fn tenant_max(directory: Arc<Directory>, tiers: BTreeMap<String, Quotas>) -> TenantMax {
    Box::new(move |id| {
        let tenant = directory.tenant_by_id(id)?;
        let tier = tiers.get(&*tenant.tier).copied().unwrap_or_default();
        match tenant.quotas.effective(Quota::CacheBytes, &tier) {
            Allowance::Unlimited => Some(None),
            Allowance::AtMost(most) => Some(Some(most)),
        }
    })
}

/// What is kept, as memory knows it. Changed on the thread of kept.redb alone.
pub(super) struct State {
    pub(super) clock: Arc<dyn Clock>,
    cache: Arc<Cache>,
    pending: Pending,
    pub(super) locks: Locks,
    pub(super) lines: Mutex<Lines<Which, Arc<Notify>>>,
    /// Namespaces that are not kept any more and whose rows have to go.
    unkept: Mutex<BTreeSet<(TenantId, Namespace)>>,
}

impl State {
    /// Makes memory what the file has.
    fn load(
        &self,
        engine: &dyn Engine,
        opening: Opening,
        tenant_max: &TenantMax,
    ) -> store::Result<()> {
        let now = self.clock.now();
        let (cache, pending) = (&*self.cache, &self.pending);
        let tenant_max = &**tenant_max;
        let loaded = kept::load(engine, &Loading { cache, pending, now, opening, tenant_max })?;
        let (locks, _) = locks::load(engine, &self.locks, now, opening)?;
        let Loaded { entries, ended, damaged, no_room, dropped, unkept } = loaded;
        if no_room != 0 {
            tracing::error!(
                no_room,
                "kept entries found no room in memory; they are on disk and not served: raise \
                 cache.kept_budget and start again"
            );
        }
        tracing::info!(entries, ended, damaged, dropped, locks, "what is kept was read");
        *self.unkept.lock() = unkept;
        Ok(())
    }

    fn judge<'j>(&'j self, space: &'j Space) -> Judge<'j> {
        Judge { space, pending: &self.pending, now: self.clock.now() }
    }
}

/// What kept.redb is opened with.
pub struct Parts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where kept entries are served from.
    pub cache: Arc<Cache>,
    /// What a tenant may hold.
    pub tenant_max: TenantMax,
    /// Opens the file.
    pub opener: Opener,
    /// How its thread behaves.
    pub options: Options,
}

/// Why what is kept could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Its thread.
    #[error(transparent)]
    Exec(#[from] exec::Error),
}

/// Kept namespaces and locks: memory, and the thread of their file.
pub struct Kept {
    pub(super) writer: Writer,
    pub(super) state: Arc<State>,
}

/// A put that outlives the request it came in.
#[derive(Clone, Debug)]
pub struct PutOwned {
    /// Under which key; checked.
    pub key: String,
    /// The bytes.
    pub value: Bytes,
    /// Their type; checked.
    pub content_type: String,
    /// How long they are served.
    pub life: Life,
    /// What they can be forgotten by; checked, each once.
    pub tags: Vec<String>,
    /// Under which condition.
    pub condition: Condition,
    /// With which lease.
    pub lease: Option<LeaseToken>,
}

impl PutOwned {
    /// The same with texts of its own.
    pub(super) fn of(put: &Put<'_>) -> PutOwned {
        PutOwned {
            key: put.key.as_str().to_owned(),
            value: Bytes::copy_from_slice(put.value),
            content_type: put.content_type.as_str().to_owned(),
            life: put.life,
            tags: put.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            condition: put.condition,
            lease: put.lease,
        }
    }

    /// The same, borrowed.
    pub fn with<T>(&self, then: impl FnOnce(&Put<'_>) -> T) -> T {
        let tags: Vec<_> = self.tags.iter().filter_map(|tag| Tag::parse(tag).ok()).collect();
        then(&Put {
            key: key_of(&self.key),
            value: &self.value,
            content_type: ContentType::parse(&self.content_type).unwrap_or(ContentType::OCTETS),
            life: self.life,
            tags: &tags,
            condition: self.condition,
            lease: self.lease,
        })
    }

    fn bytes(&self) -> usize {
        let tags: usize = self.tags.iter().map(String::len).sum();
        self.key.len() + self.value.len() + self.content_type.len() + tags
    }
}

fn key_of(text: &str) -> Key<'_> {
    Key::parse(text).expect("BUG: a key is checked where it comes in")
}

/// What is needed of a put when it was committed.
struct Committed {
    put: PutOwned,
    version: Version,
    reserved: Reserved,
}

impl Committed {
    fn follow(self, space: &Space, at: Mono) {
        let Committed { put, version, reserved } = self;
        put.with(|put| space.keep(at, reserved, put, version, Duration::ZERO));
    }
}

impl Kept {
    /// Opens the file, reads what is there into memory, and starts the thread. What stands in namespaces that
    /// are not kept any more is in memory then, and gone from the file.
    pub fn start(parts: Parts) -> Result<Arc<Kept>, StartError> {
        let Parts { clock, cache, tenant_max, opener, options } = parts;
        let state = Arc::new(State {
            clock: Arc::clone(&clock),
            cache,
            pending: Pending::default(),
            locks: Locks::default(),
            lines: Mutex::default(),
            unkept: Mutex::default(),
        });
        let its = Arc::clone(&state);
        // Memory is read before anybody else gets at the file, also when it was opened anew.
        let opener: Opener = Box::new(move |opening| {
            let engine = opener(opening)?;
            its.load(&*engine, opening, &tenant_max)?;
            Ok(engine)
        });
        let kept = Kept { writer: Writer::start(options, opener, clock)?, state };
        kept.drop_unkept()?;
        Ok(Arc::new(kept))
    }

    /// The thread, for its figures.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Where kept entries are served from.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.state.cache
    }

    /// How many locks are known, and how many callers wait for one.
    pub fn lock_figures(&self) -> (usize, usize) {
        (self.state.locks.len(), self.state.lines.lock().waiting())
    }

    pub(super) fn terms(&self, effect: Effect, bytes: usize) -> Terms {
        Terms { until: self.state.clock.mono().plus(WRITE_DEADLINE), bytes, effect }
    }

    /// Removes the rows of what is not kept any more. Before anybody can write there: otherwise an old value
    /// could come back.
    fn drop_unkept(&self) -> Result<(), StartError> {
        for (tenant, namespace) in std::mem::take(&mut *self.state.unkept.lock()) {
            tracing::warn!(
                %tenant, %namespace,
                "the namespace is not kept any more: its entries are in memory alone from now on"
            );
            loop {
                let name = namespace.clone();
                let step = self.background(move |tx, _| kept::drop_unkept_step(tx, tenant, &name));
                match step {
                    Ok(false) => {}
                    Ok(true) | Err(CallError::Refused(kept::Error::Refused(_))) => break,
                    Err(CallError::Refused(kept::Error::Store(error))) => return Err(error.into()),
                    Err(CallError::Failed(error)) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Runs an operation that frees space, and waits for it. Never on the runtime's threads.
    pub(super) fn background<T: Send + 'static, E: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut dyn Write, &State) -> Result<T, E> + Send + 'static,
    ) -> Result<T, CallError<E>> {
        let state = Arc::clone(&self.state);
        self.writer.call(self.terms(Effect::Frees, 0), move |tx| operation(tx, &state))
    }

    /// Runs an operation; memory follows after its commit, and then it is answered. `stamps` are those that
    /// it notes as pending.
    async fn run<T, A>(
        &self,
        terms: Terms,
        stamps: Vec<Version>,
        operation: impl FnOnce(&mut dyn Write, &State) -> Result<T, kept::Error> + Send + 'static,
        follow: impl FnOnce(T) -> A + Send + 'static,
    ) -> Result<A, Error>
    where
        T: Send + 'static,
        A: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let (state, its) = (Arc::clone(&self.state), Arc::clone(&self.state));
        let reply = move |result: Result<T, CallError<kept::Error>>| {
            let unknown = matches!(result, Err(CallError::Failed(exec::Error::OutcomeUnknown)));
            let result = result.map(follow);
            if !unknown {
                // Nobody will ask any more: memory knows, or there is no such row.
                for stamp in &stamps {
                    its.pending.settle(*stamp);
                }
            }
            drop(answer.send(result));
        };
        // Held until the answer is there: whoever gives up takes the operation back.
        let _ticket = self.writer.submit(terms, move |tx| operation(tx, &state), reply)?;
        let answer = answered.await.map_err(|_| exec::Error::Stopping)?;
        answer.map_err(from_call)
    }

    /// Puts one entry.
    pub async fn put(&self, space: &Arc<Space>, put: PutOwned) -> Result<Stored, Error> {
        let stored = self.put_each(space, vec![put]).await?;
        Ok(stored.into_iter().next().expect("BUG: one was put"))
    }

    /// Puts several: all of them, or none. What became of each, in order.
    pub async fn put_all(
        &self,
        space: &Arc<Space>,
        puts: Vec<PutOwned>,
    ) -> Result<Vec<Stored>, Error> {
        self.put_each(space, puts).await
    }

    async fn put_each(
        &self,
        space: &Arc<Space>,
        puts: Vec<PutOwned>,
    ) -> Result<Vec<Stored>, Error> {
        let bytes = puts.iter().map(PutOwned::bytes).sum();
        let mut committed = Vec::with_capacity(puts.len());
        for put in puts {
            // What is refused here gives all of it back.
            let reserved = put.with(|put| space.reserve(space.cost(put)))?;
            committed.push(Committed { put, version: space.next_version(), reserved });
        }
        let stamps = committed.iter().map(|committed| committed.version).collect();
        let (its, follows) = (Arc::clone(space), Arc::clone(space));
        let operation = move |tx: &mut dyn Write, state: &State| {
            let judge = state.judge(&its);
            let mut stored = Vec::with_capacity(committed.len());
            for Committed { put, version, .. } in &committed {
                stored.push(put.with(|put| kept::put(tx, &judge, put, *version))?);
            }
            Ok((stored, committed, judge.now.mono))
        };
        let follow = move |(stored, committed, at): (Vec<Stored>, Vec<Committed>, Mono)| {
            for committed in committed {
                committed.follow(&follows, at);
            }
            stored
        };
        self.run(self.terms(Effect::Grows, bytes), stamps, operation, follow).await
    }

    /// Adds to a number; a missing one is 0 and gets `life`.
    pub async fn increment(
        &self,
        space: &Arc<Space>,
        key: String,
        by: i64,
        life: Life,
    ) -> Result<i64, Error> {
        let version = space.next_version();
        let (its, follows, name) = (Arc::clone(space), Arc::clone(space), key.clone());
        let operation = move |tx: &mut dyn Write, state: &State| {
            let what = kept::Increment { key: key_of(&name), by, life, version };
            let mut reserved = None;
            let mut room = |put: &Put<'_>| {
                reserved = Some(its.reserve(its.cost(put))?);
                Ok(())
            };
            let sum = kept::increment(tx, &state.judge(&its), &what, &mut room)?;
            Ok((sum, reserved))
        };
        let bytes = key.len();
        let follow = move |(sum, reserved): (kept::Sum, Option<Reserved>)| {
            let reserved = reserved.expect("BUG: nothing is added without room");
            let at = sum.began.at;
            sum.with_put(key_of(&key), |put| {
                follows.keep(at, reserved, put, version, Duration::ZERO);
            });
            sum.value
        };
        self.run(self.terms(Effect::Grows, bytes), vec![version], operation, follow).await
    }

    /// Gives what is there a new ttl, and a new stale window if one is given; whether it is there.
    pub async fn touch(
        &self,
        space: &Arc<Space>,
        key: String,
        ttl: Duration,
        stale: Option<Duration>,
    ) -> Result<bool, Error> {
        let stamp = space.next_version();
        let (its, follows, name) = (Arc::clone(space), Arc::clone(space), key.clone());
        let operation = move |tx: &mut dyn Write, state: &State| {
            let what = kept::Touch { key: key_of(&name), ttl, stale, stamp };
            kept::touch(tx, &state.judge(&its), &what)
        };
        let bytes = key.len();
        let follow = move |touched: Option<kept::Touched>| {
            let Some(touched) = touched else {
                return false;
            };
            let (key, began) = (key_of(&key), touched.began);
            if !follows.renew(began.at, key, touched.version, began.life) {
                // It ended before the commit was there: it comes back, with all it was.
                let back = touched.with_put(key, |put, age| {
                    let reserved = follows.reserve(follows.cost(put))?;
                    follows.keep(began.at, reserved, put, touched.version, age);
                    Ok::<(), crate::cache::Error>(())
                });
                if let Some(Err(error)) = back {
                    tracing::error!(%error, "a kept entry is on disk and not served");
                }
            }
            true
        };
        self.run(self.terms(Effect::Grows, bytes), vec![stamp], operation, follow).await
    }

    /// Forgets, in steps, and says how many entries that were. After an error some of them are gone and some
    /// are not; asking again forgets the rest.
    pub async fn forget(&self, space: &Arc<Space>, what: What) -> Result<u64, Error> {
        // Leases first: what they were given for must not land behind the steps.
        what.with_forget(|forget| space.forget(self.state.clock.mono(), forget, false));
        let what = Arc::new(what);
        let (mut forgotten, mut cursor) = (0, None);
        loop {
            let step = self.forget_step(space, &what, cursor).await?;
            forgotten += step.0;
            match step.1 {
                Some(next) => cursor = Some(next),
                None => return Ok(forgotten),
            }
        }
    }

    async fn forget_step(
        &self,
        space: &Arc<Space>,
        what: &Arc<What>,
        cursor: Option<Cursor>,
    ) -> Result<(u64, Option<Cursor>), Error> {
        let (its, follows, what) = (Arc::clone(space), Arc::clone(space), Arc::clone(what));
        let operation = move |tx: &mut dyn Write, state: &State| {
            kept::forget_step(tx, &state.judge(&its), &what, cursor)
        };
        let follow = move |step: kept::Step| {
            for (key, version) in &step.dropped {
                if let Ok(key) = Key::parse(key) {
                    follows.drop_kept(key, *version);
                }
            }
            (step.forgotten, step.next)
        };
        self.run(self.terms(Effect::Frees, 0), Vec::new(), operation, follow).await
    }

    /// Looks at some rows from `from` on and removes those that have ended; where to go on.
    pub(super) fn remove_ended_step(
        &self,
        from: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, CallError<kept::Error>> {
        let state = &self.state;
        let page = self.writer.read(|view| {
            let now = state.clock.now();
            kept::ended_page(view, &state.cache, &state.pending, now, from)
        });
        let page = page.map_err(|error| match error {
            CallError::Refused(error) => CallError::Refused(kept::Error::Store(error)),
            CallError::Failed(error) => CallError::Failed(error),
        })?;
        let ended = Arc::new(page.ended);
        let mut done = 0;
        while done < ended.len() {
            let its = Arc::clone(&ended);
            let (looked_at, _) = self.background(move |tx, state| {
                let now = state.clock.now();
                kept::remove_ended(tx, &state.cache, &state.pending, now, &its[done..])
            })?;
            done += looked_at.max(1);
        }
        Ok(page.next)
    }

    /// Removes some of what a tenant has kept; whether that was all of it. Memory forgets it at once.
    pub(super) fn remove_tenant_step(
        &self,
        tenant: TenantId,
    ) -> Result<bool, CallError<kept::Error>> {
        let entries = self.background(move |tx, _| kept::remove_tenant_step(tx, tenant))?;
        if !entries {
            return Ok(false);
        }
        let locks = self.background(move |tx, _| locks::remove_tenant_step(tx, tenant));
        let locks = locks.map_err(|error| match error {
            CallError::Refused(locks::Error::Store(error)) => {
                CallError::Refused(kept::Error::Store(error))
            }
            CallError::Refused(_) => unreachable!("BUG: only the store refuses this"),
            CallError::Failed(error) => CallError::Failed(error),
        })?;
        if locks {
            self.state.cache.forget_tenant(tenant);
            self.state.locks.forget_tenant(tenant);
        }
        Ok(locks)
    }
}

/// Our error for what the writer said.
fn from_call(error: CallError<kept::Error>) -> Error {
    match error {
        CallError::Failed(error) => Error::Exec(error),
        CallError::Refused(kept::Error::Refused(error)) => Error::Cache(error),
        CallError::Refused(kept::Error::Store(error)) => Error::Store(error),
    }
}
