//! Tenants and their quotas.
//!
//! A tenant is deleted in steps: it is marked, its name is free from then on, its data elsewhere are
//! removed by others, and its rows here go last, a bounded number at a time.

use rusqlite::params;

use super::statements::Statement;
use super::{
    Audit, Catalog, Error, Result, Row, Tx, audit, check_rows, check_text, first_behind,
    stored_tenant,
};
use crate::base::id::TenantId;
use crate::base::limits::{NAME_BYTES_MAX, TENANTS_MAX};
use crate::base::name::TenantName;
use crate::base::quota::{Allowance, Quota, Quotas};
use crate::base::time::Timestamp;

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id, for ever.
    pub id: TenantId,
    /// Its name, unique among those that are not being deleted.
    pub name: TenantName,
    /// The tier of the configuration that gives what its own quotas leave open.
    pub tier: Box<str>,
    /// Its own quotas, which go before those of the tier.
    pub quotas: Quotas,
    /// Since when it is there.
    pub created_at: Timestamp,
    /// Since when it is being deleted.
    pub deleting_at: Option<Timestamp>,
}

/// What one step of removing a tenant did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Rows that were removed.
    pub rows: u64,
    /// Whether nothing of the tenant is left.
    pub finished: bool,
}

impl Catalog {
    /// A new tenant.
    pub fn tenant_insert(&mut self, tenant: &Tenant, audit: &Audit) -> Result {
        self.transaction(|tx| {
            insert(tx, tenant)?;
            audit::add(tx, audit)
        })
    }

    /// Another tier and other quotas: `quotas` are all there are from then on.
    pub fn tenant_update(
        &mut self,
        id: TenantId,
        tier: &str,
        quotas: &Quotas,
        audit: &Audit,
    ) -> Result {
        self.transaction(|tx| {
            check_tier(tier)?;
            find_active(tx, id)?;
            tx.run(Statement::TenantSetTier, params![stored_tenant(id), tier])?;
            tx.run(Statement::QuotasDelete, [stored_tenant(id)])?;
            insert_quotas(tx, id, quotas)?;
            audit::add(tx, audit)
        })
    }

    /// From `at` on the tenant is being deleted, and its name is free. False, and nothing done, when it
    /// was so already.
    pub fn tenant_mark_deleting(
        &mut self,
        id: TenantId,
        at: Timestamp,
        audit: &Audit,
    ) -> Result<bool> {
        self.transaction(|tx| {
            match find_active(tx, id) {
                Ok(_) => {}
                Err(Error::TenantDeleting(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
            tx.run(Statement::TenantMark, [stored_tenant(id), at.unix_ms()])?;
            audit::add(tx, audit)?;
            Ok(true)
        })
    }

    /// Up to `limit` tenants in the order of their ids, behind `after`; also those being deleted.
    pub fn tenants_page(&mut self, after: Option<TenantId>, limit: usize) -> Result<Vec<Tenant>> {
        self.transaction(|tx| {
            let limit = check_rows(limit)?;
            let Some(from) = first_behind(after.map(TenantId::raw)) else {
                return Ok(Vec::new());
            };
            let mut tenants = tx.all(Statement::TenantsFrom, [from, limit], read_tenant)?;
            for tenant in &mut tenants {
                tenant.quotas = read_quotas(tx, tenant.id)?;
            }
            Ok(tenants)
        })
    }

    /// Removes a part of a tenant that is being deleted: up to `rows_max` of its tokens, and when none
    /// is left, the tenant. One that is not there is finished.
    pub fn tenant_remove_step(&mut self, id: TenantId, rows_max: usize) -> Result<Removal> {
        self.transaction(|tx| {
            let limit = check_rows(rows_max)?;
            match find_active(tx, id) {
                Err(Error::TenantDeleting(_)) => {}
                Err(Error::UnknownTenant(_)) => return Ok(Removal { rows: 0, finished: true }),
                Err(error) => return Err(error),
                Ok(_) => return Err(Error::TenantNotDeleting(id)),
            }
            let tokens = tx.run(Statement::TokensDeleteOf, [stored_tenant(id), limit])?;
            if limit.cast_unsigned() <= tokens {
                return Ok(Removal { rows: tokens, finished: false });
            }
            let quotas = tx.run(Statement::QuotasDelete, [stored_tenant(id)])?;
            let tenant = tx.run(Statement::TenantDelete, [stored_tenant(id)])?;
            Ok(Removal { rows: tokens + quotas + tenant, finished: true })
        })
    }
}

pub(super) fn insert(tx: &Tx<'_>, tenant: &Tenant) -> Result {
    check_tier(&tenant.tier)?;
    if TENANTS_MAX <= tx.count("tenants")? {
        return Err(Error::TooManyTenants);
    }
    if find(tx, tenant.id)?.is_some() {
        return Err(Error::IdTaken(tenant.id.to_string()));
    }
    let name = tenant.name.as_str();
    let same = tx.one(Statement::TenantIdByName, [name], |row| row.id(0))?;
    if same.is_some() && tenant.deleting_at.is_none() {
        return Err(Error::NameTaken(tenant.name.clone()));
    }
    tx.run(
        Statement::TenantInsert,
        params![
            stored_tenant(tenant.id),
            name,
            tenant.tier,
            tenant.created_at.unix_ms(),
            tenant.deleting_at.map(Timestamp::unix_ms),
        ],
    )?;
    insert_quotas(tx, tenant.id, &tenant.quotas)
}

fn insert_quotas(tx: &Tx<'_>, id: TenantId, quotas: &Quotas) -> Result {
    for (quota, allowance) in quotas.iter() {
        let params = params![stored_tenant(id), quota.as_str(), allowance.number()];
        tx.run(Statement::QuotaInsert, params)?;
    }
    Ok(())
}

/// The tenant without its quotas, which must be there and not be on its way out.
pub(super) fn find_active(tx: &Tx<'_>, id: TenantId) -> Result<Tenant> {
    let tenant = find(tx, id)?.ok_or(Error::UnknownTenant(id))?;
    if tenant.deleting_at.is_some() { Err(Error::TenantDeleting(id)) } else { Ok(tenant) }
}

fn find(tx: &Tx<'_>, id: TenantId) -> Result<Option<Tenant>> {
    tx.one(Statement::TenantById, [stored_tenant(id)], read_tenant)
}

fn check_tier(tier: &str) -> Result {
    check_text("the name of a tier", tier, NAME_BYTES_MAX)
}

/// A tenant without its quotas.
fn read_tenant(row: &Row<'_, '_>) -> Result<Tenant> {
    Ok(Tenant {
        id: TenantId::from_raw(row.id(0)?),
        name: row.tenant_name(1)?,
        tier: row.text(2)?.into(),
        quotas: Quotas::default(),
        created_at: row.moment(3)?,
        deleting_at: row.moment_or_none(4)?,
    })
}

fn read_quotas(tx: &Tx<'_>, id: TenantId) -> Result<Quotas> {
    let mut quotas = Quotas::default();
    let rows = tx.all(Statement::QuotasOf, [stored_tenant(id)], |row| {
        let name = row.text(0)?;
        let quota = Quota::parse(&name).ok_or_else(|| row.bad(&name))?;
        let allowance = Allowance::from_number(row.int(1)?).map_err(|error| row.bad(error))?;
        Ok((quota, allowance))
    })?;
    for (quota, allowance) in rows {
        quotas.set(quota, Some(allowance));
    }
    Ok(quotas)
}
