//! Tokens: who may do what. Of a secret only its hash is kept.

use rusqlite::params;

use super::statements::Statement;
use super::{
    Audit, Catalog, Error, Result, Row, Tx, audit, check_rows, check_text, first_behind,
    stored_tenant, stored_token, tenants,
};
use crate::base::id::{TenantId, TokenId};
use crate::base::limits::{TOKEN_NAME_BYTES_MAX, TOKENS_MAX};
use crate::base::scope::Scopes;
use crate::base::time::Timestamp;

/// A token, as the server keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The public half, by which it is found.
    pub id: TokenId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What people call it; see [`check_token_name`]. Not unique.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// The hash of its secret half.
    pub secret_hash: [u8; 32],
    /// Since when it is there.
    pub created_at: Timestamp,
    /// From when on it is not accepted.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, as far as that was written down.
    pub last_used_at: Option<Timestamp>,
}

/// Whether `name` can be the name of a token: 1 to [`TOKEN_NAME_BYTES_MAX`] bytes of any text without
/// control characters.
pub fn check_token_name(name: &str) -> Result {
    check_text("the name of a token", name, TOKEN_NAME_BYTES_MAX)
}

impl Catalog {
    /// A new token of a tenant that is there and not being deleted.
    pub fn token_insert(&mut self, token: &Token, audit: &Audit) -> Result {
        self.transaction(|tx| {
            insert(tx, token)?;
            audit::add(tx, audit)
        })
    }

    /// Deletes a token of this tenant. False, and nothing done, when the tenant has no such token.
    pub fn token_delete(&mut self, tenant: TenantId, id: TokenId, audit: &Audit) -> Result<bool> {
        self.transaction(|tx| {
            let params = [stored_token(id), stored_tenant(tenant)];
            if tx.run(Statement::TokenDelete, params)? == 0 {
                return Ok(false);
            }
            audit::add(tx, audit)?;
            Ok(true)
        })
    }

    /// Up to `limit` tokens of all tenants in the order of their ids, behind `after`.
    pub fn tokens_page(&mut self, after: Option<TokenId>, limit: usize) -> Result<Vec<Token>> {
        self.transaction(|tx| {
            let limit = check_rows(limit)?;
            match first_behind(after.map(TokenId::raw)) {
                Some(from) => tx.all(Statement::TokensFrom, [from, limit], read_token),
                None => Ok(Vec::new()),
            }
        })
    }

    /// Writes down when tokens were last used. It never goes back; a token that is gone is passed over.
    pub fn tokens_touch(&mut self, uses: &[(TokenId, Timestamp)]) -> Result {
        self.transaction(|tx| {
            check_rows(uses.len())?;
            for (id, at) in uses {
                tx.run(Statement::TokenTouch, [stored_token(*id), at.unix_ms()])?;
            }
            Ok(())
        })
    }
}

pub(super) fn insert(tx: &Tx<'_>, token: &Token) -> Result {
    check_token_name(&token.name)?;
    if TOKENS_MAX <= tx.count("tokens")? {
        return Err(Error::TooManyTokens);
    }
    tenants::find_active(tx, token.tenant)?;
    let same = tx.one(Statement::TokenExists, [stored_token(token.id)], |row| row.int(0))?;
    if same.is_some() {
        return Err(Error::IdTaken(token.id.to_string()));
    }
    tx.run(
        Statement::TokenInsert,
        params![
            stored_token(token.id),
            stored_tenant(token.tenant),
            token.name,
            token.scopes.bits(),
            token.secret_hash,
            token.created_at.unix_ms(),
            token.expires_at.map(Timestamp::unix_ms),
            token.last_used_at.map(Timestamp::unix_ms),
        ],
    )?;
    Ok(())
}

fn read_token(row: &Row<'_, '_>) -> Result<Token> {
    let bits: u32 = row.get(3)?;
    Ok(Token {
        id: TokenId::from_raw(row.id(0)?),
        tenant: TenantId::from_raw(row.id(1)?),
        name: row.text(2)?,
        scopes: Scopes::from_bits(bits).ok_or_else(|| row.bad(bits))?,
        secret_hash: row.get(4)?,
        created_at: row.moment(5)?,
        expires_at: row.moment_or_none(6)?,
        last_used_at: row.moment_or_none(7)?,
    })
}
