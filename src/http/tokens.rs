//! `/v1/tokens`.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::openapi;
use super::problem::Problem;
use super::reply::{Page, Reply};
use super::request::Cx;
use crate::app::directory::{TenantEntry, TokenEntry};
use crate::app::tokens::TokenSpec;
use crate::base::cursor;
use crate::base::human::{BadDuration, parse_duration};
use crate::base::id::TokenId;
use crate::base::name::TenantName;
use crate::base::scope::{Scope, Scopes};

/// A token that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewToken {
    /// What you call it.
    #[schema(max_length = 128)]
    name: String,
    /// What it may do.
    scopes: Vec<String>,
    /// For whom; your own tenant without it. Administrators only.
    tenant: Option<String>,
    /// How long it is valid: seconds, or "30d"; for ever without it.
    #[schema(schema_with = openapi::duration)]
    expires_in: Option<Value>,
}

/// A token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    /// The public half.
    id: String,
    /// What its owner calls it.
    name: String,
    /// Whose it is.
    tenant: String,
    /// What it may do.
    scopes: Vec<&'static str>,
    /// Since when it exists.
    created_at: String,
    /// Until when it is valid; null for ever.
    expires_at: Option<String>,
    /// When it was last used, to the minute or so; null for never.
    last_used_at: Option<String>,
}

/// A new token. The secret is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedToken {
    /// The token without its secret.
    #[serde(flatten)]
    token: Token,
    /// What goes behind `Authorization: Bearer`.
    secret: String,
}

/// A page of tokens.
pub(super) type TokenList = Page<Token>;

const LIST: &str = "tokens";

impl Token {
    fn new(entry: &TokenEntry, tenant: &TenantEntry) -> Token {
        Token {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            tenant: tenant.name.to_string(),
            scopes: entry.scopes.iter().map(Scope::as_str).collect(),
            created_at: entry.created_at.to_string(),
            expires_at: entry.expires_at.map(|at| at.to_string()),
            last_used_at: entry.last_used_at().map(|at| at.to_string()),
        }
    }
}

/// A length of time as JSON has it: a number of seconds, or a text.
pub(super) fn duration(value: &Value) -> Result<Duration, BadDuration> {
    match value {
        Value::Number(number) => parse_duration(&number.to_string()),
        Value::String(text) => parse_duration(text),
        _ => Err(BadDuration::Form),
    }
}

fn tenant_of(cx: &Cx, name: Option<&str>) -> Result<Arc<TenantEntry>, Problem> {
    let acting = &cx.caller().tenant;
    let Some(name) = name else {
        return Ok(Arc::clone(acting));
    };
    let name = TenantName::parse(name)?;
    let named_twice = cx.caller().token.tenant != acting.id && acting.name != name;
    if named_twice {
        let detail = format!("Holdfast-Tenant says {}, the body says {name}", acting.name);
        return Err(Problem::malformed(detail));
    }
    Ok(cx.app().act_for(cx.caller(), &name)?.tenant)
}

/// `POST /v1/tokens`
pub(super) async fn create(cx: Cx) -> Result<Reply, Problem> {
    let wire: NewToken = cx.json()?;
    let mut scopes = Vec::with_capacity(wire.scopes.len().min(Scope::ALL.len()));
    for text in &wire.scopes {
        let scope = Scope::parse(text)?;
        if scopes.contains(&scope) {
            let detail = format!("the scope {scope} is given twice");
            return Err(Problem::new("invalid_scopes", detail));
        }
        scopes.push(scope);
    }
    let expires_in = wire.expires_in.as_ref().map(duration).transpose()?;
    let tenant = tenant_of(&cx, wire.tenant.as_deref())?;
    let spec = TokenSpec { name: wire.name, scopes: Scopes::of(&scopes), expires_in };
    let made = cx.app().create_token(cx.now, cx.author(), Arc::clone(&tenant), spec).await?;
    let reply = CreatedToken {
        token: Token::new(&made.entry, &tenant),
        secret: made.secret.expose().to_owned(),
    };
    Ok(Reply::created(&reply))
}

/// `GET /v1/tokens`
pub(super) fn list(cx: &Cx) -> Result<Reply, Problem> {
    let paging = cx.paging(LIST)?;
    let after = paging.after.as_deref().map(id_of).transpose()?;
    let tenant = &cx.caller().tenant;
    let mut found = cx.app().directory().tokens(tenant.id, after, paging.limit + 1);
    let more = paging.limit < found.len();
    found.truncate(paging.limit);
    let last = found.last().filter(|_| more).map(|token| token.id);
    Ok(Reply::json(&TokenList {
        items: found.iter().map(|entry| Token::new(entry, tenant)).collect(),
        next: last.map(|id| cursor::write(LIST, &id.raw().to_be_bytes())),
    }))
}

fn id_of(key: &[u8]) -> Result<TokenId, Problem> {
    let raw: [u8; 8] = key.try_into().map_err(|_| cursor::BadCursor)?;
    Ok(TokenId::from_raw(u64::from_be_bytes(raw)))
}

/// `DELETE /v1/tokens/{id}`
pub(super) async fn revoke(cx: Cx) -> Result<Reply, Problem> {
    // What is no id is the id of nothing.
    let id = TokenId::parse(cx.param("id")).map_err(|error| {
        Problem::new("unknown_token", format!("there is no such token: {error}"))
    })?;
    let tenant = Arc::clone(&cx.caller().tenant);
    cx.app().revoke_token(cx.now, cx.author(), tenant, id).await?;
    Ok(Reply::empty())
}
