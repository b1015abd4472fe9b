//! The cache as callers see it: their tenant's namespaces, their quota, and waiting for what others compute.
//!
//! Ordinary entries are a matter of memory; what a kept namespace is told goes through [`super::kept`].

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::directory::TenantEntry;
use super::kept::PutOwned;
use super::{App, Error};
use crate::base::limits::{CALL_ITEMS_MAX, WRITE_DEADLINE};
use crate::base::name::Namespace;
use crate::base::quota::{Allowance, Quota};
use crate::base::time::Mono;
use crate::cache::Error as CacheError;
use crate::cache::entry::{Asked, ContentType, Found, Key, LeaseToken, Life, Put, Stored, Tag};
use crate::cache::kept::What;
use crate::cache::space::{Cache, Space};

/// How long in-process callers may compute before somebody else is asked to.
const REMEMBER_LEASE: Duration = Duration::from_secs(30);

/// How somebody asks for a key.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// How long the lease is, for the one who gets it.
    pub lease: Duration,
    /// How long the others would wait.
    pub wait: Duration,
}

/// What [`App::remember`] returns.
#[derive(Clone, Debug)]
pub enum Remembered {
    /// It was there, or somebody else computed it.
    Cached(Found),
    /// It was computed for this caller.
    Computed(Vec<u8>),
}

impl AsRef<[u8]> for Remembered {
    fn as_ref(&self) -> &[u8] {
        match self {
            Remembered::Cached(found) => found.bytes(),
            Remembered::Computed(bytes) => bytes,
        }
    }
}

/// What [`App::remember`] needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Memo<'m> {
    /// For whom.
    pub tenant: &'m TenantEntry,
    /// Where.
    pub namespace: &'m Namespace,
    /// Under which key.
    pub key: Key<'m>,
    /// The class of the configuration that says how long; see `[cache.class]`.
    pub class: &'m str,
    /// What it can be forgotten by.
    pub tags: &'m [Tag<'m>],
}

/// Whether it is a walk through everything, which is no work for a thread that answers others.
fn is_long(what: &What, dry_run: bool) -> bool {
    match what {
        What::Keys(_) => false,
        What::Tags(tags) => dry_run && 1 < tags.len(),
        What::Prefix(_) | What::Pattern(_) | What::All => true,
    }
}

fn forget(space: &Space, now: Mono, what: &What, dry_run: bool) -> u64 {
    what.with_forget(|what| space.forget(now, what, dry_run))
}

impl App {
    /// Everything that is cached.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// The namespace, if something was ever put there.
    pub fn space(&self, tenant: &TenantEntry, namespace: &str) -> Option<Arc<Space>> {
        self.cache.space(tenant.id, namespace)
    }

    /// The namespace, made if it is not there.
    pub fn space_or_new(
        &self,
        tenant: &TenantEntry,
        namespace: &Namespace,
    ) -> Result<Arc<Space>, Error> {
        if let Some(space) = self.cache.space(tenant.id, namespace.as_str()) {
            return Ok(space);
        }
        Ok(self.cache.space_or_new(tenant.id, namespace, self.cache_max(tenant))?)
    }

    /// What a tenant may hold in the cache.
    fn cache_max(&self, tenant: &TenantEntry) -> Option<u64> {
        let settings = self.settings();
        let tier = settings.tiers.get(&*tenant.tier).copied().unwrap_or_default();
        match tenant.quotas.effective(Quota::CacheBytes, &tier) {
            Allowance::Unlimited => None,
            Allowance::AtMost(most) => Some(most),
        }
    }

    /// Tells the cache what this tenant may hold from now on.
    pub(super) fn apply_cache_max(&self, tenant: &TenantEntry) {
        self.cache.set_tenant_max(tenant.id, self.cache_max(tenant));
    }

    /// Tells the cache what every tenant may hold, after the tiers changed.
    pub(super) fn apply_all_cache_max(&self) {
        let mut after = None;
        loop {
            let page = self.directory.tenants(after.as_ref(), CALL_ITEMS_MAX);
            for tenant in &page {
                self.apply_cache_max(tenant);
            }
            match page.last() {
                Some(last) => after = Some(last.name.clone()),
                None => break,
            }
        }
    }

    /// A token that nobody can guess.
    fn new_lease(&self) -> LeaseToken {
        let mut bits = [0; 8];
        self.entropy.fill(&mut bits);
        LeaseToken::from_raw(u64::from_be_bytes(bits))
    }

    /// Asks for a key with a lease, and waits for whoever computes it: `ask.wait` at most, and no longer than
    /// until `stop`. With it: how long it waited.
    pub async fn cache_ask(
        &self,
        space: &Space,
        key: Key<'_>,
        ask: Ask,
        stop: impl Future<Output = ()>,
    ) -> (Asked, Duration) {
        let began = self.clock.mono();
        let until = began.plus(ask.wait);
        let mut stop = pin!(stop);
        let (mut stopped, mut waited) = (false, false);
        loop {
            let now = self.clock.mono();
            let last = stopped || until <= now;
            let asked = poll_fn(|cx| {
                let waker = (!last).then(|| cx.waker());
                Poll::Ready(space.ask(now, key, ask.lease, self.new_lease(), waited, waker))
            });
            match asked.await {
                Asked::Busy { retry_after } if !last => {
                    waited = true;
                    let nap = until.since(now).min(retry_after.max(Duration::from_millis(1)));
                    stopped = woken_within(nap, stop.as_mut()).await;
                }
                asked => {
                    if let Asked::Busy { .. } = asked {
                        space.count_miss();
                    }
                    return (asked, self.clock.mono().since(began));
                }
            }
        }
    }

    /// Puts an entry. Into a kept namespace: answered after its sync.
    pub async fn cache_put(&self, space: &Arc<Space>, put: &Put<'_>) -> Result<Stored, Error> {
        if space.kept() {
            return self.kept.put(space, PutOwned::of(put)).await;
        }
        Ok(space.put(self.clock.mono(), put)?)
    }

    /// Puts several entries. Into a kept namespace: all of them or none.
    pub async fn cache_put_all(&self, space: &Arc<Space>, puts: &[Put<'_>]) -> Result<(), Error> {
        if space.kept() {
            let puts = puts.iter().map(PutOwned::of).collect();
            return self.kept.put_all(space, puts).await.map(drop);
        }
        Ok(space.put_all(self.clock.mono(), puts)?)
    }

    /// Adds to a number; a missing one is zero and gets `life`.
    pub async fn cache_increment(
        &self,
        space: &Arc<Space>,
        key: Key<'_>,
        by: i64,
        life: Life,
    ) -> Result<i64, Error> {
        if space.kept() {
            return self.kept.increment(space, key.as_str().to_owned(), by, life).await;
        }
        Ok(space.increment(self.clock.mono(), key, by, life)?)
    }

    /// Gives a new ttl, and a new stale window if there is one given; whether the key is there.
    pub async fn cache_touch(
        &self,
        space: &Arc<Space>,
        key: Key<'_>,
        ttl: Duration,
        stale: Option<Duration>,
    ) -> Result<bool, Error> {
        if space.kept() {
            return self.kept.touch(space, key.as_str().to_owned(), ttl, stale).await;
        }
        Ok(space.touch(self.clock.mono(), key, ttl, stale))
    }

    /// Forgets, and says how many entries that were. What is a long walk runs on the pool.
    pub async fn cache_forget(
        &self,
        space: &Arc<Space>,
        what: What,
        dry_run: bool,
    ) -> Result<u64, Error> {
        if space.kept() && !dry_run {
            return self.kept.forget(space, what).await;
        }
        if !is_long(&what, dry_run) {
            return Ok(forget(space, self.clock.mono(), &what, dry_run));
        }
        let (space, clock) = (Arc::clone(space), Arc::clone(&self.clock));
        self.blocking(WRITE_DEADLINE, move || forget(&space, clock.mono(), &what, dry_run)).await
    }

    /// The value of a key; if it is not there, what `loader` computes, once for all who ask meanwhile.
    ///
    /// A value computed before the key or one of its tags was forgotten is returned to its caller and not
    /// kept. An error of the loader is never kept: the next one who asks computes again; where there is a
    /// stale value, that is returned instead. The loader also runs where nothing can be cached.
    pub async fn remember<E, L>(&self, memo: Memo<'_>, loader: L) -> Result<Remembered, E>
    where
        L: AsyncFnOnce() -> Result<Vec<u8>, E>,
    {
        let life = self.settings().cache.classes.get(memo.class).copied();
        let space = self.space_or_new(memo.tenant, memo.namespace);
        let (Some(life), Ok(space)) = (life, space) else {
            return loader().await.map(Remembered::Computed);
        };
        let ask = Ask { lease: REMEMBER_LEASE, wait: REMEMBER_LEASE };
        let (stale, lease) =
            match self.cache_ask(&space, memo.key, ask, std::future::pending()).await.0 {
                Asked::Hit(found, None) => return Ok(Remembered::Cached(found)),
                Asked::Hit(stale, Some(lease)) => (Some(stale), lease),
                Asked::Leased(lease) => (None, lease),
                Asked::Busy { .. } => return loader().await.map(Remembered::Computed),
            };
        // Also when the loader panics or its caller goes away, the next one may compute.
        let held = Held { space: &space, key: memo.key, lease };
        let value = match (loader().await, stale) {
            (Ok(value), _) => value,
            (Err(_), Some(stale)) => return Ok(Remembered::Cached(stale)),
            (Err(error), None) => return Err(error),
        };
        let put = Put {
            key: memo.key,
            value: &value,
            content_type: ContentType::OCTETS,
            life,
            tags: memo.tags,
            condition: crate::cache::entry::Condition::Always,
            lease: Some(lease),
        };
        if let Err(error) = self.cache_put(&space, &put).await
            && !matches!(error, Error::Cache(CacheError::LeaseLost))
        {
            tracing::debug!(%error, "a value that was computed is not kept");
        }
        drop(held);
        Ok(Remembered::Computed(value))
    }
}

/// A lease that is given back when it was not used.
struct Held<'h> {
    space: &'h Space,
    key: Key<'h>,
    lease: LeaseToken,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.space.give_up(self.key, self.lease);
    }
}

/// Sleeps until somebody wakes this task, `nap` is over, or `stop`; whether it was that.
async fn woken_within(nap: Duration, stop: Pin<&mut impl Future<Output = ()>>) -> bool {
    // Whoever wakes the task has it polled again; that it was polled before is all there is to see.
    let mut polled = false;
    let woken =
        poll_fn(
            |_| {
                if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }
            },
        );
    tokio::select! {
        biased;
        () = stop => true,
        _ = tokio::time::timeout(nap, woken) => false,
    }
}

#[cfg(test)]
mod tests;
