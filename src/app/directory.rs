//! Tenants and tokens in memory: what every request looks at.
//!
//! Holds what the catalog holds; see the invariants of [`crate::app`]. A look-up takes a short read lock
//! on two trees. Changes are rare and come from one thread.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::BadToken;
use crate::base::id::{TenantId, TokenId};
use crate::base::name::TenantName;
use crate::base::quota::Quotas;
use crate::base::scope::Scopes;
use crate::base::time::Timestamp;
use crate::base::token::{SECRET_BYTES, Token};
use crate::catalog::{self as relations, Catalog};

/// Rows that are read at once when everything is read.
const LOAD_ROWS: usize = 1000;
/// No use yet.
const NEVER: i64 = i64::MIN;

/// A token, without its secret.
#[derive(Debug)]
pub struct TokenEntry {
    /// The public half.
    pub id: TokenId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What its owner calls it.
    pub name: Arc<str>,
    /// What it may do.
    pub scopes: Scopes,
    /// Since when it exists.
    pub created_at: Timestamp,
    /// Until when it is valid.
    pub expires_at: Option<Timestamp>,
    secret_hash: [u8; 32],
    /// Unix milliseconds of the last use; [`NEVER`] without one.
    used: AtomicI64,
    /// As much of it as the catalog knows.
    used_stored: AtomicI64,
}

impl TokenEntry {
    fn from_row(row: &relations::Token) -> TokenEntry {
        let used = row.last_used_at.map_or(NEVER, Timestamp::unix_ms);
        TokenEntry {
            id: row.id,
            tenant: row.tenant,
            name: row.name.as_str().into(),
            scopes: row.scopes,
            created_at: row.created_at,
            expires_at: row.expires_at,
            secret_hash: row.secret_hash,
            used: AtomicI64::new(used),
            used_stored: AtomicI64::new(used),
        }
    }

    /// When it was last used; `None` if never.
    pub fn last_used_at(&self) -> Option<Timestamp> {
        Timestamp::from_unix_ms(self.used.load(Relaxed))
    }
}

/// A tenant that is not being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantEntry {
    /// Never used again for another.
    pub id: TenantId,
    /// What people call it.
    pub name: TenantName,
    /// Which tier of the configuration.
    pub tier: Box<str>,
    /// Its own quotas, which go before those of the tier.
    pub quotas: Quotas,
    /// Since when it exists.
    pub created_at: Timestamp,
}

impl TenantEntry {
    fn from_row(row: &relations::Tenant) -> TenantEntry {
        TenantEntry {
            id: row.id,
            name: row.name.clone(),
            tier: row.tier.clone(),
            quotas: row.quotas,
            created_at: row.created_at,
        }
    }

    /// The tenant as the catalog keeps it.
    pub(super) fn to_row(&self) -> relations::Tenant {
        relations::Tenant {
            id: self.id,
            name: self.name.clone(),
            tier: self.tier.clone(),
            quotas: self.quotas,
            created_at: self.created_at,
            deleting_at: None,
        }
    }
}

#[derive(Default)]
struct Maps {
    tokens: BTreeMap<TokenId, Arc<TokenEntry>>,
    by_tenant: BTreeMap<(TenantId, TokenId), Arc<TokenEntry>>,
    tenants: BTreeMap<TenantId, Arc<TenantEntry>>,
    names: BTreeMap<TenantName, TenantId>,
}

/// Tenants and tokens in memory.
#[derive(Default)]
pub struct Directory {
    maps: RwLock<Maps>,
}

/// What is kept of a secret.
pub(super) fn hash_of(secret: &[u8; SECRET_BYTES]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

impl Directory {
    /// Holds exactly what `catalog` holds.
    pub fn load(&self, catalog: &mut Catalog) -> Result<(), relations::Error> {
        let mut fresh = Maps::default();
        let mut after = None;
        loop {
            let page = catalog.tenants_page(after, LOAD_ROWS)?;
            for row in page.iter().filter(|row| row.deleting_at.is_none()) {
                fresh.put_tenant(TenantEntry::from_row(row));
            }
            match page.last() {
                Some(last) => after = Some(last.id),
                None => break,
            }
        }
        let mut after = None;
        loop {
            let page = catalog.tokens_page(after, LOAD_ROWS)?;
            for row in &page {
                // Those of a tenant that is being deleted are not valid any more.
                if fresh.tenants.contains_key(&row.tenant) {
                    fresh.put_token(TokenEntry::from_row(row));
                }
            }
            match page.last() {
                Some(last) => after = Some(last.id),
                None => break,
            }
        }
        let old = std::mem::replace(&mut *self.maps.write(), fresh);
        // Uses that were noted but not stored yet are not forgotten by a reopening.
        let maps = self.maps.read();
        for (id, token) in &old.tokens {
            if let Some(fresh) = maps.tokens.get(id) {
                fresh.used.fetch_max(token.used.load(Relaxed), Relaxed);
            }
        }
        Ok(())
    }

    /// The token that `bearer` is, and its tenant.
    pub(super) fn find(
        &self,
        bearer: &str,
        now: Timestamp,
    ) -> Result<(Arc<TokenEntry>, Arc<TenantEntry>), BadToken> {
        let shown = Token::parse(bearer).map_err(BadToken::Form)?;
        let shown_hash = hash_of(&shown.secret);
        let maps = self.maps.read();
        let token = maps.tokens.get(&shown.id).ok_or(BadToken::Unknown)?;
        if !bool::from(token.secret_hash.ct_eq(&shown_hash)) {
            return Err(BadToken::Unknown);
        }
        if let Some(expired) = token.expires_at.filter(|until| *until <= now) {
            return Err(BadToken::Expired(expired));
        }
        let tenant = maps.tenants.get(&token.tenant).ok_or(BadToken::Unknown)?;
        // Once a second is often enough to write a shared number.
        if token.used.load(Relaxed).saturating_add(1000) <= now.unix_ms() {
            token.used.fetch_max(now.unix_ms(), Relaxed);
        }
        Ok((Arc::clone(token), Arc::clone(tenant)))
    }

    /// The tenant with this name.
    pub fn tenant(&self, name: &TenantName) -> Option<Arc<TenantEntry>> {
        let maps = self.maps.read();
        maps.tenants.get(maps.names.get(name)?).map(Arc::clone)
    }

    /// The tenant with this id.
    pub fn tenant_by_id(&self, id: TenantId) -> Option<Arc<TenantEntry>> {
        self.maps.read().tenants.get(&id).map(Arc::clone)
    }

    /// Tenants by name, after `after`.
    pub fn tenants(&self, after: Option<&TenantName>, limit: usize) -> Vec<Arc<TenantEntry>> {
        let maps = self.maps.read();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = maps.names.range::<TenantName, _>((from, Bound::Unbounded)).take(limit);
        names.filter_map(|(_, id)| maps.tenants.get(id).map(Arc::clone)).collect()
    }

    /// The token with this id, if it is that tenant's.
    pub fn token(&self, tenant: TenantId, id: TokenId) -> Option<Arc<TokenEntry>> {
        self.maps.read().by_tenant.get(&(tenant, id)).map(Arc::clone)
    }

    /// A tenant's tokens by id, after `after`.
    pub fn tokens(
        &self,
        tenant: TenantId,
        after: Option<TokenId>,
        limit: usize,
    ) -> Vec<Arc<TokenEntry>> {
        let first = (tenant, TokenId::from_raw(0));
        let from = after.map_or(Bound::Included(first), |id| Bound::Excluded((tenant, id)));
        let to = Bound::Included((tenant, TokenId::from_raw(u64::MAX)));
        let maps = self.maps.read();
        maps.by_tenant.range((from, to)).take(limit).map(|(_, token)| Arc::clone(token)).collect()
    }

    /// How many tokens a tenant has.
    pub fn token_count(&self, tenant: TenantId) -> u64 {
        let (first, last) = (TokenId::from_raw(0), TokenId::from_raw(u64::MAX));
        self.maps.read().by_tenant.range((tenant, first)..=(tenant, last)).count() as u64
    }

    /// How many tenants and tokens there are.
    pub fn counts(&self) -> (u64, u64) {
        let maps = self.maps.read();
        (maps.tenants.len() as u64, maps.tokens.len() as u64)
    }

    /// Whether somebody could still come in as an administrator.
    pub fn has_admin(&self, now: Timestamp) -> bool {
        let valid = |token: &TokenEntry| token.expires_at.is_none_or(|until| now < until);
        let admin = |token: &TokenEntry| token.scopes.names(crate::base::scope::Scope::Admin);
        self.maps.read().tokens.values().any(|token| admin(token) && valid(token))
    }

    /// Tenants whose tier is not among `known`, with that tier; at most `limit`.
    pub fn tenants_without_tier(
        &self,
        known: impl Fn(&str) -> bool,
        limit: usize,
    ) -> Vec<Arc<TenantEntry>> {
        let maps = self.maps.read();
        let lost = maps.tenants.values().filter(|tenant| !known(&tenant.tier));
        lost.take(limit).map(Arc::clone).collect()
    }

    pub(super) fn put_token(&self, row: &relations::Token) {
        self.maps.write().put_token(TokenEntry::from_row(row));
    }

    pub(super) fn remove_token(&self, tenant: TenantId, id: TokenId) {
        let mut maps = self.maps.write();
        if maps.by_tenant.remove(&(tenant, id)).is_some() {
            maps.tokens.remove(&id);
        }
    }

    pub(super) fn put_tenant(&self, row: &relations::Tenant) {
        self.maps.write().put_tenant(TenantEntry::from_row(row));
    }

    /// Takes the tenant and all its tokens out.
    pub(super) fn remove_tenant(&self, id: TenantId) {
        let mut maps = self.maps.write();
        if let Some(tenant) = maps.tenants.remove(&id) {
            maps.names.remove(&tenant.name);
        }
        let (first, last) = (TokenId::from_raw(0), TokenId::from_raw(u64::MAX));
        let gone: Vec<_> =
            maps.by_tenant.range((id, first)..=(id, last)).map(|(k, _)| *k).collect();
        for key in gone {
            maps.by_tenant.remove(&key);
            maps.tokens.remove(&key.1);
        }
    }

    /// Uses that the catalog does not know yet, at most `limit`.
    pub(super) fn uses_to_store(&self, limit: usize) -> Vec<(TokenId, Timestamp)> {
        let maps = self.maps.read();
        let newer = maps.tokens.values().filter_map(|token| {
            let used = token.used.load(Relaxed);
            let stored = token.used_stored.load(Relaxed);
            let at = (stored < used).then(|| Timestamp::from_unix_ms(used))??;
            Some((token.id, at))
        });
        newer.take(limit).collect()
    }

    /// The catalog knows these now.
    pub(super) fn uses_stored(&self, uses: &[(TokenId, Timestamp)]) {
        let maps = self.maps.read();
        for (id, at) in uses {
            if let Some(token) = maps.tokens.get(id) {
                token.used_stored.fetch_max(at.unix_ms(), Relaxed);
            }
        }
    }
}

impl Maps {
    fn put_token(&mut self, token: TokenEntry) {
        let token = Arc::new(token);
        self.by_tenant.insert((token.tenant, token.id), Arc::clone(&token));
        self.tokens.insert(token.id, token);
    }

    fn put_tenant(&mut self, tenant: TenantEntry) {
        self.names.insert(tenant.name.clone(), tenant.id);
        self.tenants.insert(tenant.id, Arc::new(tenant));
    }
}
