//! Every statement of the catalog, by name.
//!
//! No other file of this folder spells SQL, but for migrations and pragmas. One list means that a test
//! can ask SQLite how it would run each of them: none may walk a table that grows.

use super::statement::statements;

statements! {
    Begin, "begin", "BEGIN IMMEDIATE";
    BeginRead, "begin_read", "BEGIN";
    Commit, "commit", "COMMIT";
    Rollback, "rollback", "ROLLBACK";

    CountOf, "count_of", "SELECT amount FROM counts WHERE name = ?1";

    TenantInsert, "tenant_insert",
        "INSERT INTO tenants (id, name, tier, created_at, deleting_at)
         VALUES (?1, ?2, ?3, ?4, ?5)";
    TenantById, "tenant_by_id",
        "SELECT id, name, tier, created_at, deleting_at FROM tenants WHERE id = ?1";
    TenantIdByName, "tenant_id_by_name",
        "SELECT id FROM tenants WHERE name = ?1 AND deleting_at IS NULL";
    TenantsFrom, "tenants_from",
        "SELECT id, name, tier, created_at, deleting_at FROM tenants
         WHERE id >= ?1 ORDER BY id LIMIT ?2";
    TenantSetTier, "tenant_set_tier", "UPDATE tenants SET tier = ?2 WHERE id = ?1";
    TenantMark, "tenant_mark", "UPDATE tenants SET deleting_at = ?2 WHERE id = ?1";
    TenantDelete, "tenant_delete", "DELETE FROM tenants WHERE id = ?1";

    QuotaInsert, "quota_insert",
        "INSERT INTO tenant_quotas (tenant, quota, allowance) VALUES (?1, ?2, ?3)";
    QuotasOf, "quotas_of", "SELECT quota, allowance FROM tenant_quotas WHERE tenant = ?1";
    QuotasDelete, "quotas_delete", "DELETE FROM tenant_quotas WHERE tenant = ?1";

    TokenInsert, "token_insert",
        "INSERT INTO tokens (id, tenant, name, scopes, secret_hash, created_at, expires_at,
         last_used_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    TokenExists, "token_exists", "SELECT 1 FROM tokens WHERE id = ?1";
    TokensFrom, "tokens_from",
        "SELECT id, tenant, name, scopes, secret_hash, created_at, expires_at, last_used_at
         FROM tokens WHERE id >= ?1 ORDER BY id LIMIT ?2";
    TokenDelete, "token_delete", "DELETE FROM tokens WHERE id = ?1 AND tenant = ?2";
    TokensDeleteOf, "tokens_delete_of",
        "DELETE FROM tokens WHERE id IN
         (SELECT id FROM tokens WHERE tenant = ?1 ORDER BY id LIMIT ?2)";
    TokenTouch, "token_touch",
        "UPDATE tokens SET last_used_at = ?2
         WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)";

    AuditInsert, "audit_insert",
        "INSERT INTO audit (at, request_id, actor_token, actor_name, tenant, action, object, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    AuditBefore, "audit_before",
        "SELECT seq, at, request_id, actor_token, actor_name, tenant, action, object, detail
         FROM audit WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2";
    AuditDeleteUpTo, "audit_delete_up_to",
        "DELETE FROM audit WHERE seq IN
         (SELECT seq FROM audit WHERE seq <= ?1 ORDER BY seq LIMIT ?2)";
}
