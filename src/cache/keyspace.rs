//! All namespaces of all tenants, and the memory that they share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use super::Error;
use super::account::{Account, Funds};
use super::lease::Permits;
use super::shard::Common;
use super::space::{Birth, SHARDS, Space};
use crate::base::id::TenantId;
use crate::base::limits::{
    CACHE_LARGEST_USES, CACHE_LEASES_MAX, CACHE_STEP_ENTRIES, CACHE_STEP_SHARDS, NAMESPACES_MAX,
    TENANT_NAMESPACES_MAX,
};
use crate::base::name::Namespace;
use crate::base::rng::Rng;
use crate::base::time::Mono;

/// How the cache is set up; can be changed while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether ordinary entries are kept at all. Without, every read of an ordinary namespace misses,
    /// everybody who asks gets a lease, and what is put is let go at once.
    pub enabled: bool,
    /// Bytes for all ordinary entries.
    pub budget: u64,
    /// Bytes for all kept entries.
    pub kept_budget: u64,
    /// The most that a namespace with this name may hold, for each tenant.
    pub caps: BTreeMap<Namespace, u64>,
}

impl Settings {
    fn cap(&self, namespace: &Namespace, kept: bool) -> u64 {
        let budget = if kept { self.kept_budget } else { self.budget };
        self.caps.get(namespace).copied().unwrap_or(budget)
    }
}

struct Tenant {
    account: Arc<Account>,
    spaces: HashMap<Box<str>, Arc<Space>, FixedState>,
}

struct Tenants {
    map: HashMap<TenantId, Tenant, FixedState>,
    /// Namespaces of all of them.
    count: usize,
}

/// The namespace that gives way when the process is full: looked for once in a while.
#[derive(Default)]
struct Largest {
    space: Weak<Space>,
    uses: usize,
}

/// Where the sweep is.
#[derive(Default)]
struct Round {
    spaces: Vec<Arc<Space>>,
    space: usize,
    place: usize,
}

/// What namespaces know of each other. Locks: `tenants`, then `settings`; no lock of a shard is taken by
/// anybody who has one of `largest` and `tenants`, except to see whether a namespace is vacant.
pub(super) struct Hub {
    base: Mono,
    hasher: FixedState,
    rng: Mutex<Rng>,
    /// Shards of a namespace that is made now.
    shards: usize,
    kept: BTreeSet<Namespace>,
    settings: RwLock<Settings>,
    tenants: RwLock<Tenants>,
    ordinary: Arc<Account>,
    kept_account: Arc<Account>,
    holders: Arc<AtomicUsize>,
    permits: Arc<Permits>,
    largest: Mutex<Largest>,
    round: Mutex<Round>,
}

/// Everything that is cached.
pub struct Cache {
    hub: Arc<Hub>,
}

impl Cache {
    /// An empty one. `seed` makes hashes and versions those of this process; `base` is the moment before
    /// which nothing is; namespaces in `kept` are kept.
    pub fn new(seed: u64, base: Mono, settings: Settings, kept: BTreeSet<Namespace>) -> Cache {
        Cache::with_shards(SHARDS, seed, base, (settings, kept))
    }

    /// As `new`, with so many shards in each namespace.
    pub(super) fn with_shards(
        shards: usize,
        seed: u64,
        base: Mono,
        (settings, kept): (Settings, BTreeSet<Namespace>),
    ) -> Cache {
        let mut rng = Rng::from_seed(seed);
        let hasher = FixedState::with_seed(rng.next_u64());
        let map = HashMap::with_hasher(FixedState::with_seed(rng.next_u64()));
        let hub = Hub {
            base,
            hasher,
            rng: Mutex::new(rng),
            shards,
            kept,
            ordinary: Arc::new(Account::new(settings.budget)),
            kept_account: Arc::new(Account::new(settings.kept_budget)),
            settings: RwLock::new(settings),
            tenants: RwLock::new(Tenants { map, count: 0 }),
            holders: Arc::default(),
            permits: Arc::new(Permits::new(CACHE_LEASES_MAX)),
            largest: Mutex::default(),
            round: Mutex::default(),
        };
        Cache { hub: Arc::new(hub) }
    }

    /// Other settings; what is too much then is evicted step by step by the sweep.
    pub fn set_settings(&self, settings: Settings) {
        // Whoever makes a namespace holds `tenants` while it reads the settings: none is forgotten here.
        let tenants = self.hub.tenants.write();
        self.hub.ordinary.set_max(settings.budget);
        self.hub.kept_account.set_max(settings.kept_budget);
        for space in tenants.map.values().flat_map(|tenant| tenant.spaces.values()) {
            space.set_max(settings.cap(space.name(), space.kept()));
            space.set_disabled(!settings.enabled && !space.kept());
        }
        *self.hub.settings.write() = settings;
    }

    /// The namespace, if there is one (also an empty one that was there before).
    pub fn space(&self, tenant: TenantId, namespace: &str) -> Option<Arc<Space>> {
        let tenants = self.hub.tenants.read();
        tenants.map.get(&tenant)?.spaces.get(namespace).map(Arc::clone)
    }

    /// The namespace, made if it is not there. `tenant_max`: what the tenant may hold.
    pub fn space_or_new(
        &self,
        tenant: TenantId,
        namespace: &Namespace,
        tenant_max: Option<u64>,
    ) -> Result<Arc<Space>, Error> {
        if let Some(space) = self.space(tenant, namespace.as_str()) {
            return Ok(space);
        }
        let mut tenants = self.hub.tenants.write();
        tenants.make_room(tenant, namespace)?;
        let Tenants { map, count } = &mut *tenants;
        let known = map.entry(tenant).or_insert_with(|| Tenant {
            account: Arc::new(Account::new(tenant_max.unwrap_or(u64::MAX))),
            spaces: HashMap::with_hasher(self.hub.hasher.clone()),
        });
        // Somebody else may have made it between the two locks.
        let space = known.spaces.entry(namespace.as_str().into()).or_insert_with(|| {
            *count += 1;
            self.birth(tenant, namespace, &known.account)
        });
        Ok(Arc::clone(space))
    }

    fn birth(&self, tenant: TenantId, name: &Namespace, account: &Arc<Account>) -> Arc<Space> {
        let hub = &self.hub;
        let kept = hub.kept.contains(name);
        let settings = hub.settings.read();
        let (process, holders) = if kept {
            (Arc::clone(&hub.kept_account), Arc::default())
        } else {
            (Arc::clone(&hub.ordinary), Arc::clone(&hub.holders))
        };
        let space = Account::new(settings.cap(name, kept));
        let common = Common {
            hasher: hub.hasher.clone(),
            salt: hub.rng.lock().next_u64(),
            kept,
            permits: Arc::clone(&hub.permits),
        };
        Arc::new(Space::new(Birth {
            tenant,
            name: name.clone(),
            base: hub.base,
            shards: hub.shards,
            common,
            funds: Funds { space, tenant: Arc::clone(account), process, holders },
            disabled: !settings.enabled && !kept,
            hub: Arc::downgrade(hub),
        }))
    }

    /// What a tenant may hold from now on.
    pub fn set_tenant_max(&self, tenant: TenantId, max: Option<u64>) {
        if let Some(known) = self.hub.tenants.read().map.get(&tenant) {
            known.account.set_max(max.unwrap_or(u64::MAX));
        }
    }

    /// A tenant's namespaces by name, after `after`; only those that exist for its users (see `Space::exists`).
    pub fn spaces(
        &self,
        now: Mono,
        tenant: TenantId,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<Arc<Space>> {
        let later = |space: &&Arc<Space>| after.is_none_or(|after| after < space.name().as_str());
        let mut spaces: Vec<Arc<Space>> = {
            let tenants = self.hub.tenants.read();
            let Some(known) = tenants.map.get(&tenant) else { return Vec::new() };
            known.spaces.values().filter(later).map(Arc::clone).collect()
        };
        spaces.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        spaces.into_iter().filter(|space| space.exists(now)).take(limit).collect()
    }

    /// Every namespace of every tenant, for figures.
    pub fn all_spaces(&self) -> Vec<Arc<Space>> {
        self.hub.all_spaces()
    }

    /// Lets go of everything of a tenant.
    pub fn forget_tenant(&self, tenant: TenantId) {
        let gone = {
            let mut tenants = self.hub.tenants.write();
            let gone = tenants.map.remove(&tenant);
            tenants.count -= gone.as_ref().map_or(0, |gone| gone.spaces.len());
            gone
        };
        for space in gone.iter().flat_map(|gone| gone.spaces.values()) {
            space.close();
        }
    }

    /// One bounded step: what ended, what was forgotten, what is above its maximum. Whether there is more to do.
    pub fn sweep(&self, now: Mono) -> bool {
        let mut round = self.hub.round.lock();
        if round.spaces.is_empty() {
            *round = Round { spaces: self.hub.all_spaces(), space: 0, place: 0 };
        }
        let mut steps = CACHE_STEP_ENTRIES;
        for _ in 0..CACHE_STEP_SHARDS {
            let Some(space) = round.spaces.get(round.space).map(Arc::clone) else {
                *round = Round::default();
                return false;
            };
            if round.place < space.places() {
                if !space.sweep_shard(round.place, now, &mut steps) {
                    return true;
                }
                round.place += 1;
            } else if space.sweep_over(now) {
                return true;
            } else {
                (round.space, round.place) = (round.space + 1, 0);
            }
        }
        true
    }

    /// Bytes used and the most that may be: ordinary, kept.
    pub fn usage(&self) -> [(u64, u64); 2] {
        [&self.hub.ordinary, &self.hub.kept_account].map(|account| (account.used(), account.max()))
    }

    /// Leases that are out.
    #[cfg(test)]
    pub(super) fn leases(&self) -> usize {
        self.hub.permits.out()
    }
}

impl Hub {
    fn all_spaces(&self) -> Vec<Arc<Space>> {
        let tenants = self.tenants.read();
        tenants.map.values().flat_map(|known| known.spaces.values()).map(Arc::clone).collect()
    }

    /// The ordinary namespace that holds most, of a tenant or of all; none if all are empty.
    pub(super) fn largest(&self, tenant: Option<TenantId>) -> Option<Arc<Space>> {
        let most = |spaces: &mut dyn Iterator<Item = &Arc<Space>>| {
            let holders = spaces.filter(|space| !space.kept() && 0 < space.used());
            holders.max_by_key(|space| space.used()).map(Arc::clone)
        };
        if let Some(tenant) = tenant {
            let tenants = self.tenants.read();
            return most(&mut tenants.map.get(&tenant)?.spaces.values());
        }
        let mut largest = self.largest.lock();
        if let Some(space) = largest.space.upgrade()
            && 0 < largest.uses
            && 0 < space.used()
        {
            largest.uses -= 1;
            return Some(space);
        }
        let tenants = self.tenants.read();
        let space = most(&mut tenants.map.values().flat_map(|known| known.spaces.values()))?;
        *largest = Largest { space: Arc::downgrade(&space), uses: CACHE_LARGEST_USES };
        Some(space)
    }
}

impl Tenants {
    /// Makes room for one more namespace: those that are vacant go.
    fn make_room(&mut self, tenant: TenantId, namespace: &Namespace) -> Result<(), Error> {
        let known = self.map.get(&tenant).map_or(0, |known| known.spaces.len());
        if known < TENANT_NAMESPACES_MAX && self.count < NAMESPACES_MAX {
            return Ok(());
        }
        let all = known < TENANT_NAMESPACES_MAX;
        let mut count = 0;
        for (_, known) in self.map.iter_mut().filter(|(id, _)| all || **id == tenant) {
            known.spaces.retain(|_, space| {
                // A kept one may be written to right now: what is on disk must be seen here.
                let goes = !space.kept() && space.is_vacant();
                if goes {
                    space.close();
                    count += 1;
                }
                !goes
            });
        }
        self.count -= count;
        let limit = if all { NAMESPACES_MAX } else { TENANT_NAMESPACES_MAX };
        let full = Error::TooManyNamespaces { namespace: namespace.clone(), limit };
        if count == 0 { Err(full) } else { Ok(()) }
    }
}
