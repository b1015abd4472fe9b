//! Making, showing and revoking tokens.

use std::sync::Arc;
use std::time::Duration;

use super::directory::{TenantEntry, TokenEntry, hash_of};
use super::outside::Entropy;
use super::{App, Author, Caller, DEFAULT_TENANT, Deed, Error, STANDARD_TIER};
use crate::base::id::{TenantId, TokenId};
use crate::base::limits::{TOKENS_MAX, WRITE_DEADLINE};
use crate::base::name::TenantName;
use crate::base::quota::{Allowance, Quota, Quotas};
use crate::base::scope::{Scope, Scopes};
use crate::base::secret::Secret;
use crate::base::time::{Now, Timestamp};
use crate::base::token::{Kind, SECRET_BYTES, Token};
use crate::catalog as relations;
use crate::exec::keeper::Task;
use crate::exec::writer::Effect;

/// A token that somebody wants.
#[derive(Clone, Debug)]
pub struct TokenSpec {
    /// What they call it.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// How long it is valid; for ever without.
    pub expires_in: Option<Duration>,
}

/// A token that was made. The secret is shown this once.
#[derive(Debug)]
pub struct NewToken {
    /// The token without its secret.
    pub entry: Arc<TokenEntry>,
    /// The whole token.
    pub secret: Secret,
}

impl TokenSpec {
    fn check(&self, tenant: &TenantEntry) -> Result<(), Error> {
        relations::check_token_name(&self.name).map_err(|_| Error::BadTokenName)?;
        if self.scopes.is_empty() {
            return Err(Error::BadScopes("a token needs at least one scope"));
        }
        if self.scopes.names(Scope::Admin) && tenant.name.as_str() != DEFAULT_TENANT {
            return Err(Error::BadScopes("admin is for tokens of tenant default alone"));
        }
        if self.expires_in.is_some_and(|after| after.is_zero()) {
            return Err(Error::BadExpiry);
        }
        Ok(())
    }
}

/// A token with a new secret, and its row. Everything in it that must not be guessed is from `entropy`.
pub(super) fn make(
    entropy: &dyn Entropy,
    spec: &TokenSpec,
    tenant: &TenantEntry,
    now: Timestamp,
) -> (Secret, relations::Token) {
    let (mut id, mut secret) = ([0; 8], [0; SECRET_BYTES]);
    entropy.fill(&mut id);
    entropy.fill(&mut secret);
    let kind = if spec.scopes.names(Scope::Admin) { Kind::Admin } else { Kind::App };
    let token = Token { kind, id: TokenId::from_raw(u64::from_be_bytes(id)), secret };
    let row = relations::Token {
        id: token.id,
        tenant: tenant.id,
        name: spec.name.clone(),
        scopes: spec.scopes,
        secret_hash: hash_of(&token.secret),
        created_at: now,
        expires_at: spec.expires_in.map(|after| now.plus(after)),
        last_used_at: None,
    };
    (token.to_text(), row)
}

/// Whether a removal was done, or may have been: then nobody comes in. Should it turn out that it was not
/// stored, the reopening brings back what was removed, and the caller was told to look.
pub(super) fn done_or_doubtful<T>(removed: &Result<T, relations::Error>) -> bool {
    removed.as_ref().err().is_none_or(relations::Error::breaks_handle)
}

fn scopes_text(scopes: Scopes) -> String {
    scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(",")
}

impl Caller {
    /// Whether the caller may do what needs `needed`.
    pub fn need(&self, needed: Scope) -> Result<(), Error> {
        if self.token.scopes.allows(needed) {
            return Ok(());
        }
        let has = scopes_text(self.token.scopes);
        Err(Error::Scope { needed, token: Arc::clone(&self.token.name), has })
    }

    /// Whether the caller may do what needs one of these.
    pub fn need_one_of(&self, needed: &[Scope]) -> Result<(), Error> {
        let first = needed.first().expect("BUG: something is needed");
        let allowed = needed.iter().any(|scope| self.token.scopes.allows(*scope));
        if allowed { Ok(()) } else { self.need(*first) }
    }

    /// Whether the caller acts for the tenant to which the machine belongs.
    pub fn need_default(&self) -> Result<(), Error> {
        let default = self.tenant.name.as_str() == DEFAULT_TENANT;
        if default { Ok(()) } else { Err(Error::DefaultOnly) }
    }

    /// The caller as the audit log names them.
    pub fn author(&self, request_id: &str) -> Author {
        Author {
            token: Some(self.token.id),
            name: self.token.name.to_string(),
            request_id: request_id.to_owned(),
        }
    }
}

impl App {
    /// Makes a token for `tenant`.
    pub async fn create_token(
        &self,
        now: Now,
        by: Author,
        tenant: Arc<TenantEntry>,
        spec: TokenSpec,
    ) -> Result<NewToken, Error> {
        spec.check(&tenant)?;
        let settings = self.settings();
        let (secret, row) = make(&*self.entropy, &spec, &tenant, now.wall);
        let detail = format!("name={:?} scopes={}", spec.name, scopes_text(spec.scopes));
        let (action, object) = ("token.create", row.id.to_string());
        let deed = Deed { action, object: &object, tenant: Some(&tenant.name), detail };
        let entry = deed.entry(now, by);
        self.change("token.create", Effect::Grows, move |catalog, directory| {
            // Looked at here, where nobody else can change it: the tenant may be gone, or have changed.
            let current = directory.tenant(&tenant.name).filter(|found| found.id == tenant.id);
            let Some(current) = current else {
                return Err(Error::UnknownTenant(tenant.name.clone()));
            };
            if TOKENS_MAX <= directory.counts().1 {
                return Err(Error::ServerFull { what: "tokens", limit: TOKENS_MAX });
            }
            let tier = settings.tiers.get(&*current.tier).copied().unwrap_or_default();
            let used = directory.token_count(current.id);
            match current.quotas.effective(Quota::Tokens, &tier) {
                Allowance::AtMost(limit) if limit <= used => {
                    let (quota, tenant) = (Quota::Tokens, current.name.clone());
                    return Err(Error::QuotaExceeded { quota, limit, used, tenant });
                }
                Allowance::AtMost(_) | Allowance::Unlimited => {}
            }
            catalog.token_insert(&row, &entry).map_err(Error::Catalog)?;
            directory.put_token(&row);
            let entry = directory.token(row.tenant, row.id);
            Ok(NewToken { entry: entry.expect("BUG: it was put in a line above"), secret })
        })
        .await
    }

    /// Makes a token invalid, at once and for good.
    pub async fn revoke_token(
        &self,
        now: Now,
        by: Author,
        tenant: Arc<TenantEntry>,
        id: TokenId,
    ) -> Result<(), Error> {
        let (action, object, detail) = ("token.revoke", id.to_string(), String::new());
        let deed = Deed { action, object: &object, tenant: Some(&tenant.name), detail };
        let entry = deed.entry(now, by);
        self.change("token.revoke", Effect::Frees, move |catalog, directory| {
            if directory.token(tenant.id, id).is_none() {
                return Err(Error::UnknownToken(id));
            }
            let deleted = catalog.token_delete(tenant.id, id, &entry);
            if done_or_doubtful(&deleted) {
                directory.remove_token(tenant.id, id);
            }
            match deleted {
                Ok(true) => Ok(()),
                Ok(false) => Err(Error::UnknownToken(id)),
                Err(error) => Err(Error::Catalog(error)),
            }
        })
        .await
    }
}

/// Why there is no administrator's token.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The text could not be kept.
    #[error("the administrator's token cannot be written")]
    Keep(#[from] std::io::Error),
    /// The catalog's thread did not do it.
    #[error(transparent)]
    Exec(#[from] crate::exec::Error),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] relations::Error),
}

/// What was made at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminToken {
    /// Nothing: there is one.
    Kept,
    /// The first one, with tenant `default`.
    First,
    /// A new one, because it was asked for, or because no valid one was left.
    Another,
}

impl App {
    /// Sees to it that somebody can come in as an administrator. `keep` gets the text of a new token
    /// before the catalog knows the token: a token whose text is lost cannot come to be.
    pub fn ensure_admin(
        &self,
        now: Now,
        wanted: bool,
        keep: impl FnOnce(&Secret) -> std::io::Result<()>,
    ) -> Result<AdminToken, AdminError> {
        let name = TenantName::parse(DEFAULT_TENANT).expect("BUG: default is a name");
        let tenant = self.directory.tenant(&name);
        if tenant.is_some() && self.directory.has_admin(now.wall) && !wanted {
            return Ok(AdminToken::Kept);
        }
        let first = tenant.is_none();
        let tenant = tenant.unwrap_or_else(|| Arc::new(self.default_tenant(name, now)));
        let spec = TokenSpec {
            name: "administrator".to_owned(),
            scopes: Scopes::of(&[Scope::Admin]),
            expires_in: None,
        };
        let (secret, row) = make(&*self.entropy, &spec, &tenant, now.wall);
        keep(&secret)?;
        let action = if first { "start.first" } else { "start.new_admin_token" };
        let object = row.id.to_string();
        let deed = Deed { action, object: &object, tenant: None, detail: String::new() };
        let entry = deed.entry(now, Author::server());
        let directory = Arc::clone(&self.directory);
        let until = self.clock.mono().plus(WRITE_DEADLINE);
        let task = Task { name: "start.admin", until, effect: Effect::Grows };
        self.keeper.call(task, move |catalog| {
            if first {
                catalog.first_start(&tenant.to_row(), &row, &entry)?;
            } else {
                catalog.token_insert(&row, &entry)?;
            }
            directory.load(catalog)
        })??;
        Ok(if first { AdminToken::First } else { AdminToken::Another })
    }

    fn default_tenant(&self, name: TenantName, now: Now) -> TenantEntry {
        let mut id = [0; 8];
        self.entropy.fill(&mut id);
        TenantEntry {
            id: TenantId::from_raw(u64::from_be_bytes(id)),
            name,
            tier: STANDARD_TIER.into(),
            quotas: Quotas::default(),
            created_at: now.wall,
        }
    }
}
