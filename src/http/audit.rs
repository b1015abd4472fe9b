//! `/v1/audit`.

use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use super::reply::{Page, Reply};
use super::request::Cx;
use crate::base::cursor;
use crate::catalog::AuditRow;

/// Something that was changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    /// When.
    at: String,
    /// What: `token.create`, `token.revoke`, `tenant.put`, `tenant.delete`, `config.reload`, `start.first`
    /// and so on.
    action: String,
    /// On what.
    object: String,
    /// For which tenant, if for one.
    tenant: Option<String>,
    /// By which token; null for the server itself.
    token: Option<String>,
    /// The token's name at that time.
    by: String,
    /// In which request.
    request_id: String,
    /// How.
    detail: String,
}

/// A page of the audit log.
pub(super) type AuditList = Page<AuditEntry>;

const LIST: &str = "audit";

/// `GET /v1/audit`
pub(super) async fn list(cx: Cx) -> Result<Reply, Problem> {
    let paging = cx.paging(LIST)?;
    let before = paging.after.map(|key| {
        let raw: Result<[u8; 8], _> = key.try_into();
        raw.map(u64::from_be_bytes).map_err(|_| Problem::from(cursor::BadCursor))
    });
    let before = before.transpose()?;
    let mut found = cx.app().audit_page(before, paging.limit + 1).await?;
    let more = paging.limit < found.len();
    found.truncate(paging.limit);
    let last = found.last().filter(|_| more).map(|entry| entry.seq);
    let items = found.into_iter().map(|AuditRow { audit: entry, .. }| AuditEntry {
        at: entry.at.to_string(),
        action: entry.action,
        object: entry.object,
        tenant: entry.tenant.map(|name| name.to_string()),
        token: entry.actor_token.map(|id| id.to_string()),
        by: entry.actor_name,
        request_id: entry.request_id,
        detail: entry.detail,
    });
    Ok(Reply::json(&AuditList {
        items: items.collect(),
        next: last.map(|seq| cursor::write(LIST, &seq.to_be_bytes())),
    }))
}
