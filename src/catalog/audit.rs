//! The audit trail: who changed what, and when.
//!
//! Numbers count up and have no holes, but for what was removed at the old end. The trail is bounded by
//! construction: an entry that would be one too many pushes the oldest out.

use rusqlite::params;

use super::statements::Statement;
use super::{Catalog, Error, Result, Row, Tx, check_rows, id_of, stored};
use crate::base::id::TokenId;
use crate::base::limits::{AUDIT_DETAIL_BYTES_MAX, AUDIT_ROWS_MAX, AUDIT_TEXT_BYTES_MAX};
use crate::base::name::TenantName;
use crate::base::time::Timestamp;

/// Something that was changed by somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// When.
    pub at: Timestamp,
    /// The request by which it was done.
    pub request_id: String,
    /// The token that did it; none when it was the server itself or somebody on its machine.
    pub actor_token: Option<TokenId>,
    /// What people call whoever did it.
    pub actor_name: String,
    /// Whose things were changed.
    pub tenant: Option<TenantName>,
    /// What was done: `token.create`.
    pub action: String,
    /// To what.
    pub object: String,
    /// More of it, in JSON.
    pub detail: String,
}

/// An entry of the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number; later entries have higher ones.
    pub seq: u64,
    /// What it says.
    pub audit: Audit,
}

/// Entries pushed out by a new one, at most. More than one, so that a lowered bound is reached.
const PUSHED_OUT_MAX: i64 = 4;

impl Catalog {
    /// An entry by itself.
    pub fn audit_add(&mut self, audit: &Audit) -> Result {
        self.transaction(|tx| add(tx, audit))
    }

    /// Up to `limit` entries, the newest first, older than `before`.
    pub fn audit_page(&mut self, before: Option<u64>, limit: usize) -> Result<Vec<AuditRow>> {
        self.transaction(|tx| {
            let limit = check_rows(limit)?;
            let before = before.map_or(i64::MAX, |seq| i64::try_from(seq).unwrap_or(i64::MAX));
            tx.all(Statement::AuditBefore, [before, limit], read_row)
        })
    }
}

/// Adds an entry to what the transaction does.
pub(super) fn add(tx: &Tx<'_>, audit: &Audit) -> Result {
    check(audit)?;
    tx.run(
        Statement::AuditInsert,
        params![
            audit.at.unix_ms(),
            audit.request_id,
            audit.actor_token.map(|id| stored(id.raw())),
            audit.actor_name,
            audit.tenant.as_ref().map(TenantName::as_str),
            audit.action,
            audit.object,
            audit.detail,
        ],
    )?;
    let last = tx.connection.last_insert_rowid().saturating_sub(AUDIT_ROWS_MAX.cast_signed());
    if 0 < last {
        tx.run(Statement::AuditDeleteUpTo, [last, PUSHED_OUT_MAX])?;
    }
    Ok(())
}

fn check(audit: &Audit) -> Result {
    let texts = [
        ("the request id of an audit entry", &audit.request_id, AUDIT_TEXT_BYTES_MAX),
        ("the actor of an audit entry", &audit.actor_name, AUDIT_TEXT_BYTES_MAX),
        ("the action of an audit entry", &audit.action, AUDIT_TEXT_BYTES_MAX),
        ("the object of an audit entry", &audit.object, AUDIT_TEXT_BYTES_MAX),
        ("the detail of an audit entry", &audit.detail, AUDIT_DETAIL_BYTES_MAX),
    ];
    for (what, text, max) in texts {
        if max < text.len() {
            return Err(Error::TextTooLong { what, max });
        }
    }
    Ok(())
}

fn read_row(row: &Row<'_, '_>) -> Result<AuditRow> {
    let seq = row.int(0)?;
    let tenant = match row.get::<Option<String>>(5)? {
        Some(_) => Some(row.tenant_name(5)?),
        None => None,
    };
    Ok(AuditRow {
        seq: u64::try_from(seq).map_err(|_| row.bad(seq))?,
        audit: Audit {
            at: row.moment(1)?,
            request_id: row.text(2)?,
            actor_token: row.get::<Option<i64>>(3)?.map(|id| TokenId::from_raw(id_of(id))),
            actor_name: row.text(4)?,
            tenant,
            action: row.text(6)?,
            object: row.text(7)?,
            detail: row.text(8)?,
        },
    })
}
