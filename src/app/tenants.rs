//! Making, changing and deleting tenants.

use std::sync::Arc;

use super::directory::TenantEntry;
use super::tokens::done_or_doubtful;
use super::{App, Author, DEFAULT_TENANT, Deed, Error, STANDARD_TIER};
use crate::base::id::TenantId;
use crate::base::limits::TENANTS_MAX;
use crate::base::name::TenantName;
use crate::base::quota::{Allowance, Quota, Quotas};
use crate::base::time::Now;
use crate::catalog as relations;
use crate::exec::writer::Effect;

/// How a tenant shall be. What is left out stays as it is.
#[derive(Clone, Debug, Default)]
pub struct TenantSpec {
    /// Its tier; a new tenant without one gets [`STANDARD_TIER`].
    pub tier: Option<String>,
    /// Its own quotas, all of them: what is not among them is the tier's.
    pub quotas: Option<Quotas>,
}

/// Whether a tenant was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    Created,
    /// It was there.
    Changed,
}

/// A tenant with all that holds for it.
#[derive(Clone, Debug)]
pub struct TenantPage {
    /// The tenant.
    pub tenant: Arc<TenantEntry>,
    /// Whether the configuration has its tier.
    pub tier_known: bool,
    /// What it may have, quota by quota.
    pub effective: Vec<(Quota, Allowance)>,
    /// Tokens it has.
    pub tokens: u64,
}

impl App {
    fn check_tier(&self, tier: &str) -> Result<(), Error> {
        let settings = self.settings();
        if settings.tiers.contains_key(tier) {
            return Ok(());
        }
        let known = settings.tiers.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Err(Error::BadTier { tier: tier.chars().take(128).collect(), known })
    }

    /// The tenant with this name, and all that holds for it.
    pub fn tenant_page(&self, name: &TenantName) -> Result<TenantPage, Error> {
        let tenant = self.directory.tenant(name);
        let tenant = tenant.ok_or_else(|| Error::UnknownTenant(name.clone()))?;
        Ok(self.page_of(tenant))
    }

    /// All that holds for `tenant`.
    pub fn page_of(&self, tenant: Arc<TenantEntry>) -> TenantPage {
        let settings = self.settings();
        let tier = settings.tiers.get(&*tenant.tier);
        let tier_quotas = tier.copied().unwrap_or_default();
        let effective = |quota| (quota, tenant.quotas.effective(quota, &tier_quotas));
        TenantPage {
            tier_known: tier.is_some(),
            effective: Quota::ALL.into_iter().map(effective).collect(),
            tokens: self.directory.token_count(tenant.id),
            tenant,
        }
    }

    /// Makes or changes the tenant with this name.
    pub async fn put_tenant(
        &self,
        now: Now,
        by: Author,
        name: TenantName,
        spec: TenantSpec,
    ) -> Result<(TenantPage, Put), Error> {
        if let Some(tier) = &spec.tier {
            self.check_tier(tier)?;
        }
        let mut id = [0; 8];
        self.entropy.fill(&mut id);
        let new_id = TenantId::from_raw(u64::from_be_bytes(id));
        let (tenant, put) = self
            .change("tenant.put", Effect::Grows, move |catalog, directory| {
                let old = directory.tenant(&name);
                if old.is_none() && TENANTS_MAX <= directory.counts().0 {
                    return Err(Error::ServerFull { what: "tenants", limit: TENANTS_MAX });
                }
                let put = if old.is_some() { Put::Changed } else { Put::Created };
                let row = row_of(old.as_deref(), spec, &name, new_id, now);
                let quotas: Vec<String> =
                    row.quotas.iter().map(|(quota, n)| format!("{quota}={}", n.number())).collect();
                let detail = format!("tier={} {}", row.tier, quotas.join(" "));
                let (action, object) = ("tenant.put", name.as_str());
                let deed = Deed { action, object, tenant: Some(&name), detail };
                let entry = deed.entry(now, by);
                match put {
                    Put::Created => catalog.tenant_insert(&row, &entry),
                    Put::Changed => catalog.tenant_update(row.id, &row.tier, &row.quotas, &entry),
                }
                .map_err(Error::Catalog)?;
                directory.put_tenant(&row);
                let tenant = directory.tenant(&name).expect("BUG: it was put in a line above");
                Ok((tenant, put))
            })
            .await?;
        self.apply_cache_max(&tenant);
        Ok((self.page_of(tenant), put))
    }

    /// Begins to delete a tenant: its tokens end at once, the rest goes in the background.
    pub async fn delete_tenant(&self, now: Now, by: Author, name: TenantName) -> Result<(), Error> {
        if name.as_str() == DEFAULT_TENANT {
            return Err(Error::TenantProtected);
        }
        self.change("tenant.delete", Effect::Frees, move |catalog, directory| {
            let Some(tenant) = directory.tenant(&name) else {
                return Err(Error::UnknownTenant(name));
            };
            let (action, object, detail) = ("tenant.delete", name.as_str(), String::new());
            let entry = Deed { action, object, tenant: Some(&name), detail }.entry(now, by);
            let marked = catalog.tenant_mark_deleting(tenant.id, now.wall, &entry);
            if done_or_doubtful(&marked) {
                directory.remove_tenant(tenant.id);
            }
            marked.map(drop).map_err(Error::Catalog)
        })
        .await?;
        if let Some(worker) = self.removal.get() {
            worker.wake();
        }
        Ok(())
    }
}

fn row_of(
    old: Option<&TenantEntry>,
    spec: TenantSpec,
    name: &TenantName,
    new_id: TenantId,
    now: Now,
) -> relations::Tenant {
    let tier = spec.tier.map(String::into_boxed_str);
    let tier = tier.or_else(|| old.map(|old| old.tier.clone()));
    relations::Tenant {
        id: old.map_or(new_id, |old| old.id),
        name: name.clone(),
        tier: tier.unwrap_or_else(|| STANDARD_TIER.into()),
        quotas: spec.quotas.or_else(|| old.map(|old| old.quotas)).unwrap_or_default(),
        created_at: old.map_or(now.wall, |old| old.created_at),
        deleting_at: None,
    }
}
