//! `/v1/locks`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::openapi;
use super::problem::Problem;
use super::reply::{Page, Reply};
use super::request::Cx;
use super::tokens::duration;
use crate::app::locks::Acquire;
use crate::base::cursor;
use crate::base::limits::WAIT_MAX;
use crate::base::name::LockName;
use crate::base::scope::Scope;
use crate::cache::locks::{Held, Owner, Ttl};

/// A lock that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
pub struct WantedLock {
    /// For how long it is held unless it is refreshed: 100ms to 7d.
    #[schema(schema_with = openapi::duration)]
    ttl: Value,
    /// How long to stand in line for it, 50s at most; not at all without it.
    #[schema(schema_with = openapi::duration)]
    wait: Option<Value>,
    /// Who shall hold it; a name that nobody can guess without it.
    #[schema(max_length = 128)]
    owner: Option<String>,
}

/// A lock that is to be held longer.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RefreshedLock {
    /// Who holds it.
    #[schema(max_length = 128)]
    owner: String,
    /// For how long, from now on: 100ms to 7d.
    #[schema(schema_with = openapi::duration)]
    ttl: Value,
}

/// A lock that is held.
#[derive(Debug, Serialize, ToSchema)]
pub struct Lock {
    /// Its name.
    name: String,
    /// Who holds it.
    owner: String,
    /// Larger than that of everybody who held a lock before: what is given along, so that whoever comes late
    /// is found out.
    fence: u64,
    /// When it ends unless it is refreshed.
    expires_at: String,
}

/// A page of locks.
pub(super) type LockList = Page<Lock>;

const LIST: &str = "locks";

impl Lock {
    fn new(name: &LockName, held: &Held) -> Lock {
        Lock {
            name: name.to_string(),
            owner: held.owner.as_str().to_owned(),
            fence: held.fence,
            expires_at: held.expires_at.to_string(),
        }
    }
}

fn name_of(cx: &Cx) -> Result<LockName, Problem> {
    Ok(LockName::parse(cx.param("name"))?)
}

fn owner_of(text: &str) -> Result<Owner, Problem> {
    Owner::parse(text).map_err(|bad| Problem::new("invalid_owner", bad.to_string()))
}

fn ttl_of(value: &Value) -> Result<Ttl, Problem> {
    let invalid = |detail: String| Problem::new("invalid_ttl", detail);
    let time = duration(value).map_err(|bad| invalid(bad.to_string()))?;
    Ttl::new(time).map_err(|bad| invalid(bad.to_string()))
}

fn wait_of(value: &Value) -> Result<std::time::Duration, Problem> {
    let invalid = |detail: String| Problem::new("invalid_wait", detail);
    let time = duration(value).map_err(|bad| invalid(bad.to_string()))?;
    if time <= WAIT_MAX {
        Ok(time)
    } else {
        Err(invalid(format!("wait is at most {}s", WAIT_MAX.as_secs())))
    }
}

/// `POST /v1/locks/{name}`
pub(super) async fn acquire(cx: Cx) -> Result<Reply, Problem> {
    let name = name_of(&cx)?;
    let wire: WantedLock = cx.json()?;
    let wanted = Acquire {
        name: name.clone(),
        owner: wire.owner.as_deref().map(owner_of).transpose()?,
        ttl: ttl_of(&wire.ttl)?,
        wait: wire.wait.as_ref().map(wait_of).transpose()?.unwrap_or_default(),
    };
    let (tenant, stop) = (cx.caller().tenant.id, cx.edge().until_stopping());
    let (outcome, time) = cx.app().acquire_lock(tenant, wanted, stop).await;
    cx.waited(time);
    let taken = outcome?;
    let lock = Lock::new(&name, &taken.held);
    Ok(if taken.again { Reply::json(&lock) } else { Reply::created(&lock) })
}

/// `POST /v1/locks/{name}/refresh`
pub(super) async fn refresh(cx: Cx) -> Result<Reply, Problem> {
    let name = name_of(&cx)?;
    let wire: RefreshedLock = cx.json()?;
    let (owner, ttl) = (owner_of(&wire.owner)?, ttl_of(&wire.ttl)?);
    let tenant = cx.caller().tenant.id;
    let held = cx.app().refresh_lock(tenant, name.clone(), owner, ttl).await?;
    Ok(Reply::json(&Lock::new(&name, &held)))
}

/// Whether the query says so.
fn force_of(text: &str) -> Result<bool, Problem> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(Problem::malformed("force is 1, 0, true or false")),
    }
}

/// `DELETE /v1/locks/{name}`
pub(super) async fn release(cx: Cx) -> Result<Reply, Problem> {
    let name = name_of(&cx)?;
    let force = cx.query.get("force").map(force_of).transpose()?.unwrap_or(false);
    let owner = cx.query.get("owner").map(owner_of).transpose()?;
    if force {
        cx.caller().need(Scope::Admin)?;
    }
    if owner.is_some() == force {
        let detail = "say who holds it, ?owner=..., or ?force=true, and not both";
        return Err(Problem::new("invalid_owner", detail));
    }
    let tenant = cx.caller().tenant.id;
    cx.app().release_lock(tenant, name, owner).await?;
    Ok(Reply::empty())
}

/// `GET /v1/locks`
pub(super) fn list(cx: &Cx) -> Result<Reply, Problem> {
    let paging = cx.paging(LIST)?;
    let after = paging.after.map(|key| {
        let text = String::from_utf8(key).map_err(|_| Problem::from(cursor::BadCursor))?;
        LockName::parse(&text).map_err(|_| Problem::from(cursor::BadCursor))
    });
    let after = after.transpose()?;
    let tenant = cx.caller().tenant.id;
    let mut found = cx.app().locks(tenant, after.as_ref(), paging.limit + 1);
    let more = paging.limit < found.len();
    found.truncate(paging.limit);
    let last = found.last().filter(|_| more).map(|(name, _)| name.clone());
    Ok(Reply::json(&LockList {
        items: found.iter().map(|(name, held)| Lock::new(name, held)).collect(),
        next: last.map(|name| cursor::write(LIST, name.as_str().as_bytes())),
    }))
}
