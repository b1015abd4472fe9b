//! `/v1/tenants`.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::json::map_or_empty_list;
use super::problem::Problem;
use super::reply::{Page, Reply};
use super::request::Cx;
use crate::app::tenants::{Put, TenantPage, TenantSpec as Spec};
use crate::base::cursor;
use crate::base::name::TenantName;
use crate::base::quota::{Allowance, Quota, Quotas};

/// How a tenant shall be.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TenantSpec {
    /// A tier of the configuration.
    tier: Option<String>,
    /// Its own quotas, which go before those of the tier: `cache_bytes`, `queues`, `jobs_waiting`,
    /// `jobs_per_day`, `series`, `monitors`, `tokens`; -1 is unlimited.
    #[serde(default, deserialize_with = "map_or_empty_list")]
    #[schema(value_type = Option<BTreeMap<String, i64>>)]
    quotas: Option<Map<String, Value>>,
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tenant {
    /// What people call it.
    name: String,
    /// Never used again for another.
    id: String,
    /// Which tier of the configuration.
    tier: String,
    /// Whether the configuration has that tier; when not, only the tenant's own quotas hold.
    tier_known: bool,
    /// What it may have; -1 is unlimited.
    #[schema(value_type = BTreeMap<String, i64>)]
    quotas: QuotaObject,
    /// Those of them that are its own and not its tier's.
    #[schema(value_type = BTreeMap<String, i64>)]
    own_quotas: QuotaObject,
    /// Tokens it has.
    tokens: u64,
    /// Since when it exists.
    created_at: String,
}

/// A tenant that is being deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deleting {
    /// Which one.
    name: String,
    /// `deleting`.
    state: &'static str,
}

/// A page of tenants.
pub(super) type TenantList = Page<Tenant>;

const LIST: &str = "tenants";

/// Quotas as an object, written without a tree of JSON in between.
#[derive(Debug)]
struct QuotaObject(Vec<(Quota, Allowance)>);

impl Serialize for QuotaObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(quota, n)| (quota.as_str(), n.number())))
    }
}

impl From<TenantPage> for Tenant {
    fn from(page: TenantPage) -> Tenant {
        Tenant {
            name: page.tenant.name.to_string(),
            id: page.tenant.id.to_string(),
            tier: page.tenant.tier.to_string(),
            tier_known: page.tier_known,
            quotas: QuotaObject(page.effective),
            own_quotas: QuotaObject(page.tenant.quotas.iter().collect()),
            tokens: page.tokens,
            created_at: page.tenant.created_at.to_string(),
        }
    }
}

fn quotas_of(map: &Map<String, Value>) -> Result<Quotas, Problem> {
    let mut quotas = Quotas::default();
    for (name, value) in map {
        let Some(quota) = Quota::parse(name) else {
            let name: String = name.chars().take(64).collect();
            let detail = format!("the quota {name:?} is unknown; there are: {}", Quota::list());
            let field = format!("quotas.{name}");
            return Err(Problem::new("unknown_field", detail).with("field", field));
        };
        let number = value.as_i64().ok_or_else(|| {
            Problem::new(
                "invalid_quotas",
                format!("{quota} is a whole number, or -1 for unlimited"),
            )
        })?;
        quotas.set(quota, Some(Allowance::from_number(number)?));
    }
    Ok(quotas)
}

/// `GET /v1/tenants`
pub(super) fn list(cx: &Cx) -> Result<Reply, Problem> {
    let paging = cx.paging(LIST)?;
    let after = paging.after.map(|key| {
        let text = String::from_utf8(key).map_err(|_| Problem::from(cursor::BadCursor))?;
        TenantName::parse(&text).map_err(|_| Problem::from(cursor::BadCursor))
    });
    let after = after.transpose()?;
    let mut found = cx.app().directory().tenants(after.as_ref(), paging.limit + 1);
    let more = paging.limit < found.len();
    found.truncate(paging.limit);
    let last = found.last().filter(|_| more).map(|tenant| tenant.name.clone());
    Ok(Reply::json(&TenantList {
        items: found.into_iter().map(|tenant| cx.app().page_of(tenant).into()).collect(),
        next: last.map(|name| cursor::write(LIST, name.as_str().as_bytes())),
    }))
}

/// `GET /v1/tenants/{name}`
pub(super) fn show(cx: &Cx) -> Result<Reply, Problem> {
    let name = TenantName::parse(cx.param("name"))?;
    Ok(Reply::json(&Tenant::from(cx.app().tenant_page(&name)?)))
}

/// `PUT /v1/tenants/{name}`
pub(super) async fn put(cx: Cx) -> Result<Reply, Problem> {
    let name = TenantName::parse(cx.param("name"))?;
    let wire: TenantSpec = cx.json()?;
    let quotas = wire.quotas.as_ref().map(quotas_of).transpose()?;
    let spec = Spec { tier: wire.tier, quotas };
    let (page, put) = cx.app().put_tenant(cx.now, cx.author(), name.clone(), spec).await?;
    let tenant = Tenant::from(page);
    Ok(match put {
        Put::Created => Reply::created(&tenant).location(&format!("/v1/tenants/{name}")),
        Put::Changed => Reply::json(&tenant),
    })
}

/// `DELETE /v1/tenants/{name}`
pub(super) async fn delete(cx: Cx) -> Result<Reply, Problem> {
    let name = TenantName::parse(cx.param("name"))?;
    if cx.query.get("confirm") != Some(name.as_str()) {
        let detail = format!(
            "this deletes everything that {name} has; to confirm it, add ?confirm={name} to the path"
        );
        return Err(Problem::new("invalid_confirm", detail));
    }
    cx.app().delete_tenant(cx.now, cx.author(), name.clone()).await?;
    Ok(Reply::started(&Deleting { name: name.to_string(), state: "deleting" }))
}
