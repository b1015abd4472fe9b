//! Time series over HTTP: `/v1/series`, `/v1/series/query`, `/v1/series/query_batch`.
//!
//! What is said is read by [`super::series_terms`]. What is long is read and written down on the pool, so that nobody
//! waits behind it who has nothing to do with it.

mod answer;
pub mod query;
pub mod write;

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use super::reply::{Page, Reply};
use super::request::Cx;
use super::series_terms as terms;
use crate::app::Deed;
use crate::app::series::Listed;
use crate::base::cursor::{self, BadCursor};
use crate::series::SeriesId;

const LIST: &str = "series";

/// A series.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesItem {
    /// What is measured.
    metric: String,
    /// Of what.
    labels: BTreeMap<String, String>,
    /// `gauge`, `counter` or `distribution`.
    kind: &'static str,
}

impl From<&Listed> for SeriesItem {
    fn from(listed: &Listed) -> SeriesItem {
        let pairs = listed.labels.pairs();
        SeriesItem {
            metric: listed.labels.metric().to_owned(),
            labels: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            kind: listed.kind.as_str(),
        }
    }
}

/// `GET /v1/series`
pub(super) fn list(cx: &Cx) -> Result<Reply, Problem> {
    let paging = cx.paging(LIST)?;
    let wanted = cx.query.get("match").map(|text| terms::selector("match", Some(text)));
    let wanted = wanted.transpose()?;
    let after = paging.after.as_deref().map(id_of).transpose()?;
    let tenant = cx.caller().tenant.id;
    let mut found = cx.app().series_page(tenant, wanted.as_ref(), after, paging.limit + 1);
    let more = paging.limit < found.len();
    found.truncate(paging.limit);
    let last = found.last().filter(|_| more);
    let next = last.map(|last| cursor::write(LIST, &last.id.0.to_be_bytes()));
    Ok(Reply::json(&Page { items: found.iter().map(SeriesItem::from).collect(), next }))
}

fn id_of(key: &[u8]) -> Result<SeriesId, BadCursor> {
    Ok(SeriesId(u32::from_be_bytes(key.try_into().map_err(|_| BadCursor)?)))
}

/// How many series were deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deleted {
    /// How many.
    deleted: u64,
}

/// `DELETE /v1/series`
pub(super) async fn delete(cx: Cx) -> Result<Reply, Problem> {
    let wanted = terms::selector("match", cx.query.get("match"))?;
    let object = wanted.to_string();
    let tenant = &cx.caller().tenant;
    let deleted = cx.app().delete_series(tenant.id, wanted).await?;
    if deleted == 0 {
        return Ok(Reply::json(&Deleted { deleted }));
    }
    let detail = format!("{deleted} deleted");
    let deed =
        Deed { action: "series.delete", object: &object, tenant: Some(&tenant.name), detail };
    if let Err(error) = cx.app().audit_deed(cx.now, cx.author(), deed).await {
        // They are deleted all the same, and must not be told as if they were not.
        tracing::warn!(%error, object, deleted, "a deletion of series is missing in the audit log");
    }
    Ok(Reply::json(&Deleted { deleted }))
}
