//! The catalog: against a model, across reopenings, and with everything that can go wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::migrations::{MIGRATIONS, migrate};
use super::statement::Sql;
use super::statements::Statement;
use super::{Audit, AuditRow, Catalog, Error, Opening, Removal, Tenant, Token};
use crate::base::id::{TenantId, TokenId};
use crate::base::limits::{
    AUDIT_DETAIL_BYTES_MAX, AUDIT_ROWS_MAX, CATALOG_LOG_BYTES, CATALOG_ROWS_MAX, TENANTS_MAX,
    TOKEN_NAME_BYTES_MAX, TOKENS_MAX,
};
use crate::base::name::TenantName;
use crate::base::quota::{Allowance, Quota, Quotas};
use crate::base::rng::Rng;
use crate::base::scope::{Scope, Scopes};
use crate::base::time::Timestamp;
use crate::testing::seeds;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(ms).unwrap()
}

fn tenant(id: u64, name: &str) -> Tenant {
    let mut quotas = Quotas::default();
    quotas.set(Quota::Tokens, Some(Allowance::AtMost(id % 1000)));
    quotas.set(Quota::Queues, Some(Allowance::Unlimited));
    Tenant {
        id: TenantId::from_raw(id),
        name: TenantName::parse(name).unwrap(),
        tier: "small".into(),
        quotas,
        created_at: at(1000),
        deleting_at: None,
    }
}

fn token(id: u64, tenant: u64) -> Token {
    Token {
        id: TokenId::from_raw(id),
        tenant: TenantId::from_raw(tenant),
        name: format!("token {id} \u{e4}"),
        scopes: Scopes::of(&[Scope::QueuePush, Scope::Admin]),
        secret_hash: [7; 32],
        created_at: at(2000),
        expires_at: Some(at(9000)),
        last_used_at: None,
    }
}

fn audit(action: &str) -> Audit {
    Audit {
        at: at(3000),
        request_id: "r-1".to_owned(),
        actor_token: Some(TokenId::from_raw(u64::MAX)),
        actor_name: "somebody".to_owned(),
        tenant: Some(TenantName::parse("default").unwrap()),
        action: action.to_owned(),
        object: "tenant/a".to_owned(),
        detail: "{}".to_owned(),
    }
}

fn fresh() -> Catalog {
    Catalog::in_memory().unwrap()
}

/// A folder with an empty file in it, which is a new catalog.
struct Folder {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.sqlite");
        std::fs::write(&path, b"").unwrap();
        Folder { _folder: folder, path }
    }

    fn open(&self) -> Catalog {
        open(&self.path, Opening::Start).unwrap()
    }
}

fn open(path: &Path, opening: Opening) -> Result<Catalog, Error> {
    Catalog::open(path, opening, Box::new(|| 1 << 40))
}

/// All that is there.
#[derive(Clone, Debug, Default, PartialEq)]
struct Content {
    tenants: Vec<Tenant>,
    tokens: Vec<Token>,
    audit: Vec<AuditRow>,
}

/// Reads all pages: `page` gives what comes behind the item it is given.
fn pages<T: Clone>(limit: usize, mut page: impl FnMut(Option<&T>) -> Vec<T>) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    for _ in 0..2000 {
        let next = page(all.last());
        all.extend_from_slice(&next);
        if next.len() < limit {
            return all;
        }
    }
    panic!("the pages do not end");
}

/// Reads everything in pages of `limit`.
fn content_in(catalog: &mut Catalog, limit: usize) -> Content {
    Content {
        tenants: pages(limit, |last: Option<&Tenant>| {
            catalog.tenants_page(last.map(|tenant| tenant.id), limit).unwrap()
        }),
        tokens: pages(limit, |last: Option<&Token>| {
            catalog.tokens_page(last.map(|token| token.id), limit).unwrap()
        }),
        audit: pages(limit, |last: Option<&AuditRow>| {
            catalog.audit_page(last.map(|row| row.seq), limit).unwrap()
        }),
    }
}

fn content(catalog: &mut Catalog) -> Content {
    content_in(catalog, CATALOG_ROWS_MAX)
}

/// Two tenants, three tokens.
fn fill(catalog: &mut Catalog) {
    catalog.tenant_insert(&tenant(1, "a"), &audit("tenant.create")).unwrap();
    catalog.tenant_insert(&tenant(u64::MAX, "b"), &audit("tenant.create")).unwrap();
    for (id, of) in [(1 << 63, 1), (5, 1), (6, u64::MAX)] {
        catalog.token_insert(&token(id, of), &audit("token.create")).unwrap();
    }
}

// --- against a model -------------------------------------------------------------------------------

#[derive(Default)]
struct Model {
    tenants: BTreeMap<u64, Tenant>,
    tokens: BTreeMap<u64, Token>,
    audit: Vec<AuditRow>,
    seq: u64,
}

/// What an operation answered: a word, or the code of its refusal.
type Answer = Result<String, &'static str>;

fn answer<T: std::fmt::Debug>(result: Result<T, Error>) -> Answer {
    result.map(|value| format!("{value:?}")).map_err(|error| error.code())
}

impl Model {
    fn note(&mut self, audit: &Audit) {
        self.seq += 1;
        self.audit.push(AuditRow { seq: self.seq, audit: audit.clone() });
    }

    fn content(&self) -> Content {
        Content {
            tenants: self.tenants.values().cloned().collect(),
            tokens: self.tokens.values().cloned().collect(),
            audit: self.audit.iter().rev().cloned().collect(),
        }
    }

    fn active(&self, id: u64) -> Result<(), &'static str> {
        match self.tenants.get(&id) {
            None => Err("unknown_tenant"),
            Some(tenant) if tenant.deleting_at.is_some() => Err("tenant_deleting"),
            Some(_) => Ok(()),
        }
    }

    fn tenant_insert(&mut self, new: &Tenant, audit: &Audit) -> Answer {
        let same = |t: &Tenant| t.deleting_at.is_none() && t.name == new.name;
        if self.tenants.contains_key(&new.id.raw()) {
            return Err("id_taken");
        }
        if self.tenants.values().any(same) {
            return Err("tenant_exists");
        }
        self.tenants.insert(new.id.raw(), new.clone());
        self.note(audit);
        Ok("()".to_owned())
    }

    fn tenant_update(&mut self, id: u64, tier: &str, quotas: Quotas, audit: &Audit) -> Answer {
        self.active(id)?;
        let tenant = self.tenants.get_mut(&id).unwrap();
        (tenant.tier, tenant.quotas) = (tier.into(), quotas);
        self.note(audit);
        Ok("()".to_owned())
    }

    fn tenant_mark(&mut self, id: u64, when: Timestamp, audit: &Audit) -> Answer {
        match self.active(id) {
            Err("tenant_deleting") => return Ok("false".to_owned()),
            other => other?,
        }
        self.tenants.get_mut(&id).unwrap().deleting_at = Some(when);
        self.note(audit);
        Ok("true".to_owned())
    }

    fn tenant_remove_step(&mut self, id: u64, rows_max: usize) -> Answer {
        let removal = |rows, finished| Ok(format!("{:?}", Removal { rows, finished }));
        match self.active(id) {
            Ok(()) => return Err("tenant_not_deleting"),
            Err("unknown_tenant") => return removal(0, true),
            Err(_) => {}
        }
        let its = self.tokens.values().filter(|t| t.tenant.raw() == id).map(|t| t.id.raw());
        let gone: Vec<u64> = its.take(rows_max).collect();
        for id in &gone {
            self.tokens.remove(id);
        }
        if gone.len() == rows_max {
            return removal(gone.len() as u64, false);
        }
        let tenant = self.tenants.remove(&id).unwrap();
        removal((gone.len() + tenant.quotas.iter().count() + 1) as u64, true)
    }

    fn token_insert(&mut self, new: &Token, audit: &Audit) -> Answer {
        self.active(new.tenant.raw())?;
        if self.tokens.contains_key(&new.id.raw()) {
            return Err("id_taken");
        }
        self.tokens.insert(new.id.raw(), new.clone());
        self.note(audit);
        Ok("()".to_owned())
    }

    fn token_delete(&mut self, tenant: u64, id: u64, audit: &Audit) -> String {
        if self.tokens.get(&id).is_none_or(|t| t.tenant.raw() != tenant) {
            return "false".to_owned();
        }
        self.tokens.remove(&id);
        self.note(audit);
        "true".to_owned()
    }

    fn touch(&mut self, uses: &[(TokenId, Timestamp)]) -> String {
        for (id, when) in uses {
            if let Some(token) = self.tokens.get_mut(&id.raw()) {
                token.last_used_at = token.last_used_at.max(Some(*when));
            }
        }
        "()".to_owned()
    }
}

/// Few enough ids that they meet; spread so that the top bit matters.
fn some_id(rng: &mut Rng) -> u64 {
    rng.below(12).rotate_right(2)
}

fn some_quotas(rng: &mut Rng) -> Quotas {
    let mut quotas = Quotas::default();
    for quota in Quota::ALL {
        if rng.one_in(3) {
            let allowance = Allowance::from_number(rng.below(100).cast_signed() - 1).unwrap();
            quotas.set(quota, Some(allowance));
        }
    }
    quotas
}

/// Does one random operation on both: what each answered.
fn step(catalog: &mut Catalog, model: &mut Model, rng: &mut Rng) -> (Answer, Answer) {
    let (id, other, entry) = (some_id(rng), some_id(rng), audit("some.action"));
    let when = at(rng.below(10_000).cast_signed());
    let (tenant_id, token_id) = (TenantId::from_raw(id), TokenId::from_raw(other));
    match rng.below(8) {
        0 => {
            let name = format!("t{}", rng.below(8));
            let new = Tenant { quotas: some_quotas(rng), ..tenant(id, &name) };
            (answer(catalog.tenant_insert(&new, &entry)), model.tenant_insert(&new, &entry))
        }
        1 => {
            let (tier, quotas) = (format!("tier{}", rng.below(3)), some_quotas(rng));
            let got = answer(catalog.tenant_update(tenant_id, &tier, &quotas, &entry));
            (got, model.tenant_update(id, &tier, quotas, &entry))
        }
        2 if rng.one_in(2) => {
            let got = answer(catalog.tenant_mark_deleting(tenant_id, when, &entry));
            (got, model.tenant_mark(id, when, &entry))
        }
        2 | 3 => {
            let rows_max = rng.index(4);
            let got = answer(catalog.tenant_remove_step(tenant_id, rows_max));
            (got, model.tenant_remove_step(id, rows_max))
        }
        4 | 5 => {
            let new = token(other, id);
            (answer(catalog.token_insert(&new, &entry)), model.token_insert(&new, &entry))
        }
        6 => {
            let got = answer(catalog.token_delete(tenant_id, token_id, &entry));
            (got, Ok(model.token_delete(id, other, &entry)))
        }
        _ => {
            let uses = [(token_id, when), (TokenId::from_raw(some_id(rng)), at(5000))];
            (answer(catalog.tokens_touch(&uses)), Ok(model.touch(&uses)))
        }
    }
}

/// The counts that limits are judged by are those of the rows.
fn check_counts(catalog: &Catalog) {
    for table in ["tenants", "tokens"] {
        let (connection, first) =
            (&catalog.handle.connection, |row: &rusqlite::Row<'_>| row.get(0));
        let rows = format!("SELECT count(*) FROM {table}");
        let rows: i64 = connection.query_row(&rows, [], first).unwrap();
        let sql = Statement::CountOf.sql();
        let counted: i64 = connection.query_row(sql, [table], first).unwrap();
        assert_eq!(counted, rows, "{table}");
    }
}

#[test]
fn any_history_of_operations_gives_what_the_model_says() {
    for seed in seeds(40) {
        let (mut catalog, mut model) = (fresh(), Model::default());
        let mut rng = Rng::from_seed(seed);
        for n in 0..300 {
            let (got, wanted) = step(&mut catalog, &mut model, &mut rng);
            assert_eq!(got, wanted, "seed {seed} step {n}");
        }
        let limit = 1 + rng.index(5);
        assert_eq!(content_in(&mut catalog, limit), model.content(), "seed {seed}");
        check_counts(&catalog);
    }
}

#[test]
fn what_was_answered_is_there_after_every_reopening() {
    let folder = Folder::new();
    let (mut catalog, mut model) = (folder.open(), Model::default());
    let mut rng = Rng::from_seed(1);
    for _ in 0..6 {
        for n in 0..40 {
            let (got, wanted) = step(&mut catalog, &mut model, &mut rng);
            assert_eq!(got, wanted, "step {n}");
        }
        drop(catalog);
        catalog = open(&folder.path, Opening::AfterFailure).unwrap();
        assert_eq!(content(&mut catalog), model.content());
    }
}

// --- what each operation promises ------------------------------------------------------------------

#[test]
fn pages_are_in_the_order_of_ids_and_end() {
    let mut catalog = fresh();
    fill(&mut catalog);
    let ids = |tokens: Vec<Token>| tokens.iter().map(|t| t.id.raw()).collect::<Vec<_>>();
    assert_eq!(ids(catalog.tokens_page(None, 2).unwrap()), [5, 6]);
    let after = Some(TokenId::from_raw(6));
    assert_eq!(ids(catalog.tokens_page(after, 2).unwrap()), [1 << 63]);
    let last = Some(TenantId::from_raw(u64::MAX));
    assert_eq!(catalog.tenants_page(last, 10).unwrap(), []);
    assert_eq!(catalog.tenants_page(None, 0).unwrap(), []);
    let limit = CATALOG_ROWS_MAX + 1;
    assert!(matches!(catalog.tenants_page(None, limit), Err(Error::TooManyRows(_))));
    assert!(catalog.tokens_page(None, limit).is_err() && catalog.audit_page(None, limit).is_err());
    assert_eq!(catalog.broken(), None);
}

#[test]
fn a_name_is_free_again_when_its_tenant_is_being_deleted() {
    let mut catalog = fresh();
    fill(&mut catalog);
    let again = tenant(2, "a");
    let entry = audit("tenant.create");
    let refused = catalog.tenant_insert(&again, &entry);
    assert!(matches!(refused, Err(Error::NameTaken(name)) if name.as_str() == "a"));
    assert!(catalog.tenant_mark_deleting(TenantId::from_raw(1), at(5), &entry).unwrap());
    catalog.tenant_insert(&again, &entry).unwrap();
    assert_eq!(content(&mut catalog).tenants.len(), 3);
}

#[test]
fn a_tenant_that_is_being_deleted_takes_no_changes() {
    let mut catalog = fresh();
    fill(&mut catalog);
    let (id, entry) = (TenantId::from_raw(1), audit("x"));
    let early = catalog.tenant_remove_step(id, 10);
    assert!(matches!(early, Err(Error::TenantNotDeleting(_))));
    assert!(catalog.tenant_mark_deleting(id, at(5), &entry).unwrap());
    assert!(!catalog.tenant_mark_deleting(id, at(6), &entry).unwrap(), "it was so already");
    assert_eq!(content(&mut catalog).tenants[0].deleting_at, Some(at(5)));
    let update = catalog.tenant_update(id, "large", &Quotas::default(), &entry);
    assert!(matches!(update, Err(Error::TenantDeleting(_))));
    let insert = catalog.token_insert(&token(9, 1), &entry);
    assert!(matches!(insert, Err(Error::TenantDeleting(_))));
}

#[test]
fn a_tenant_goes_in_bounded_steps_and_takes_nobody_with_it() {
    let mut catalog = fresh();
    fill(&mut catalog);
    let (id, entry) = (TenantId::from_raw(1), audit("x"));
    for n in 100..105 {
        catalog.token_insert(&token(n, 1), &entry).unwrap();
    }
    catalog.tenant_mark_deleting(id, at(5), &entry).unwrap();
    let mut steps = Vec::new();
    while steps.last().is_none_or(|step: &Removal| !step.finished) {
        steps.push(catalog.tenant_remove_step(id, 3).unwrap());
    }
    // Seven tokens, two quotas and the tenant.
    assert_eq!(steps.iter().map(|step| step.rows).collect::<Vec<_>>(), [3, 3, 4]);
    let again = catalog.tenant_remove_step(id, 3).unwrap();
    assert_eq!(again, Removal { rows: 0, finished: true });
    let left = content(&mut catalog);
    assert_eq!((left.tenants.len(), left.tokens.len()), (1, 1));
    check_counts(&catalog);
}

#[test]
fn a_token_belongs_to_its_tenant() {
    let mut catalog = fresh();
    fill(&mut catalog);
    let before = content(&mut catalog);
    let (five, entry) = (TokenId::from_raw(5), audit("token.delete"));
    assert!(!catalog.token_delete(TenantId::from_raw(u64::MAX), five, &entry).unwrap());
    assert_eq!(content(&mut catalog), before, "not even an audit entry");
    assert!(catalog.token_delete(TenantId::from_raw(1), five, &entry).unwrap());
    let after = content(&mut catalog);
    assert_eq!((after.tokens.len(), &after.audit[0].audit), (2, &entry));
}

#[test]
fn the_last_use_of_a_token_never_goes_back() {
    let mut catalog = fresh();
    fill(&mut catalog);
    let used = |catalog: &mut Catalog| content(catalog).tokens[0].last_used_at;
    let touch = |ms| [(TokenId::from_raw(5), at(ms)), (TokenId::from_raw(404), at(ms))];
    assert_eq!(used(&mut catalog), None);
    catalog.tokens_touch(&touch(50)).unwrap();
    catalog.tokens_touch(&touch(40)).unwrap();
    assert_eq!(used(&mut catalog), Some(at(50)));
    let commits = catalog.commits();
    catalog.tokens_touch(&touch(50)).unwrap();
    assert_eq!(catalog.commits(), commits, "what changes nothing is no commit");
    let many = vec![(TokenId::from_raw(5), at(60)); CATALOG_ROWS_MAX + 1];
    assert!(matches!(catalog.tokens_touch(&many), Err(Error::TooManyRows(_))));
}

#[test]
fn the_audit_trail_is_read_newest_first_and_never_uses_a_number_again() {
    let mut catalog = fresh();
    for action in ["a", "b", "c", "d"] {
        catalog.audit_add(&audit(action)).unwrap();
    }
    let read = |catalog: &mut Catalog, before| {
        let page = catalog.audit_page(before, 2).unwrap();
        page.into_iter().map(|row| (row.seq, row.audit.action)).collect::<Vec<_>>()
    };
    assert_eq!(read(&mut catalog, None), [(4, "d".to_owned()), (3, "c".to_owned())]);
    assert_eq!(read(&mut catalog, Some(3)), [(2, "b".to_owned()), (1, "a".to_owned())]);
    assert_eq!(read(&mut catalog, Some(1)), []);
    catalog.handle.connection.execute("DELETE FROM audit", []).unwrap();
    catalog.audit_add(&audit("e")).unwrap();
    assert_eq!(read(&mut catalog, Some(u64::MAX)), [(5, "e".to_owned())]);
}

#[test]
fn the_audit_trail_is_bounded() {
    let mut catalog = fresh();
    for _ in 0..6 {
        catalog.audit_add(&audit("old")).unwrap();
    }
    let jump = "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'audit'";
    let jumped =
        catalog.handle.connection.execute(jump, [AUDIT_ROWS_MAX.cast_signed() + 4]).unwrap();
    assert_eq!(jumped, 1);
    catalog.audit_add(&audit("new")).unwrap();
    let seqs: Vec<u64> = content(&mut catalog).audit.iter().map(|row| row.seq).collect();
    assert_eq!(seqs, [AUDIT_ROWS_MAX + 5, 6, 5], "four were pushed out");
    catalog.audit_add(&audit("new")).unwrap();
    assert_eq!(content(&mut catalog).audit.len(), 2);
}

#[test]
fn a_new_server_gets_its_first_tenant_and_token_once() {
    let mut catalog = fresh();
    let entry = audit("server.start");
    let foreign = catalog.first_start(&tenant(1, "default"), &token(1, 2), &entry);
    assert!(matches!(foreign, Err(Error::UnknownTenant(_))));
    assert_eq!(content(&mut catalog), Content::default(), "together, or neither is");
    assert!(catalog.first_start(&tenant(1, "default"), &token(1, 1), &entry).unwrap());
    let before = content(&mut catalog);
    assert_eq!((before.tenants.len(), before.tokens.len(), before.audit.len()), (1, 1, 1));
    assert!(!catalog.first_start(&tenant(2, "other"), &token(2, 2), &entry).unwrap());
    assert_eq!(content(&mut catalog), before);
}

// --- refusals ------------------------------------------------------------------------------------------

#[test]
fn a_refusal_leaves_nothing_and_does_not_break_the_handle() {
    let mut catalog = fresh();
    fill(&mut catalog);
    let before = content(&mut catalog);
    let entry = audit("x");
    let long = Audit { detail: "d".repeat(AUDIT_DETAIL_BYTES_MAX + 1), ..audit("x") };
    let (a, unknown) = (TenantId::from_raw(1), TenantId::from_raw(77));
    let none = Quotas::default();
    let named = |name: &str| Token { name: name.to_owned(), ..token(9, 1) };
    let too_long = "n".repeat(TOKEN_NAME_BYTES_MAX + 1);
    let refused = [
        catalog.tenant_insert(&tenant(3, "c"), &long),
        catalog.tenant_insert(&tenant(1, "c"), &entry),
        catalog.tenant_insert(&tenant(3, "b"), &entry),
        catalog.tenant_update(a, "", &none, &entry),
        catalog.tenant_update(a, "large", &none, &long),
        catalog.tenant_update(unknown, "large", &none, &entry),
        catalog.tenant_mark_deleting(a, at(1), &long).map(|_| ()),
        catalog.tenant_mark_deleting(unknown, at(1), &entry).map(|_| ()),
        catalog.token_insert(&token(9, 1), &long),
        catalog.token_insert(&token(5, 1), &entry),
        catalog.token_insert(&token(9, 77), &entry),
        catalog.token_insert(&named(""), &entry),
        catalog.token_insert(&named("a\u{7}b"), &entry),
        catalog.token_insert(&named(&too_long), &entry),
        catalog.token_delete(a, TokenId::from_raw(5), &long).map(|_| ()),
        catalog.audit_add(&long),
    ];
    let codes: Vec<&str> = refused.into_iter().map(|result| result.unwrap_err().code()).collect();
    let wanted = [
        "invalid_text",
        "id_taken",
        "tenant_exists",
        "invalid_text",
        "invalid_text",
        "unknown_tenant",
        "invalid_text",
        "unknown_tenant",
        "invalid_text",
        "id_taken",
        "unknown_tenant",
        "invalid_text",
        "invalid_text",
        "invalid_text",
        "invalid_text",
        "invalid_text",
    ];
    assert_eq!(codes, wanted);
    assert_eq!(catalog.broken(), None);
    assert_eq!(content(&mut catalog), before);
}

#[test]
fn there_are_as_many_tenants_and_tokens_as_there_may_be() {
    let mut catalog = fresh();
    fill(&mut catalog);
    let set = "UPDATE counts SET amount = ?2 WHERE name = ?1";
    let full = [("tenants", TENANTS_MAX), ("tokens", TOKENS_MAX)];
    for (table, max) in full {
        catalog.handle.connection.execute(set, params![table, max.cast_signed()]).unwrap();
    }
    let entry = audit("x");
    let refused = catalog.tenant_insert(&tenant(3, "c"), &entry);
    assert!(matches!(refused, Err(Error::TooManyTenants)));
    assert!(matches!(catalog.token_insert(&token(9, 1), &entry), Err(Error::TooManyTokens)));
    catalog.token_delete(TenantId::from_raw(1), TokenId::from_raw(5), &entry).unwrap();
    catalog.token_insert(&token(9, 1), &entry).unwrap();
}

#[test]
fn what_the_tables_refuse_is_undone_and_does_not_break_the_handle() {
    let mut catalog = fresh();
    fill(&mut catalog);
    let before = content(&mut catalog);
    let failed = catalog.transaction(|tx| {
        super::audit::add(tx, &audit("x"))?;
        let params = params![super::stored(1), "c", "small", 1, None::<i64>];
        tx.run(Statement::TenantInsert, params)
    });
    assert!(matches!(failed, Err(Error::Constraint(_))), "{failed:?}");
    let orphan = catalog.transaction(|tx| tx.run(Statement::TenantDelete, [super::stored(1)]));
    assert!(matches!(orphan, Err(Error::Constraint(_))), "its tokens are there: {orphan:?}");
    assert_eq!(catalog.broken(), None);
    assert_eq!(content(&mut catalog), before);
}

#[test]
fn a_row_that_makes_no_sense_is_told_and_does_not_break_the_handle() {
    let mut catalog = fresh();
    fill(&mut catalog);
    catalog.handle.connection.execute("UPDATE tokens SET scopes = 1 << 30", []).unwrap();
    let page = catalog.tokens_page(None, 10);
    assert!(matches!(page, Err(Error::BadRow(_))), "{page:?}");
    catalog.handle.connection.execute("UPDATE tokens SET scopes = 1 << 40", []).unwrap();
    assert!(matches!(catalog.tokens_page(None, 10), Err(Error::BadRow(_))));
    assert_eq!(catalog.broken(), None);
}

// --- failures ------------------------------------------------------------------------------------------

#[test]
fn a_commit_that_fails_leaves_the_outcome_unknown_and_breaks_the_handle() {
    let folder = Folder::new();
    let mut catalog = folder.open();
    fill(&mut catalog);
    let before = content(&mut catalog);
    // The commit itself fails, because it is left to it to look at what a row refers to.
    let failed = catalog.transaction(|tx| {
        tx.connection.execute_batch("PRAGMA defer_foreign_keys = ON").unwrap();
        super::audit::add(tx, &audit("x"))?;
        let params = params![super::stored(404), "queues", 1];
        tx.run(Statement::QuotaInsert, params)
    });
    let error = failed.unwrap_err();
    assert!(matches!(error, Error::CommitFailed(_)), "{error:?}");
    assert_eq!(error.code(), "outcome_unknown");
    assert!(catalog.broken().unwrap().contains("outcome is unknown"));
    assert!(matches!(catalog.audit_add(&audit("x")), Err(Error::Closed)));
    assert!(matches!(catalog.tokens_page(None, 1), Err(Error::Closed)));
    assert_eq!(catalog.file_bytes(), 0);
    drop(catalog);
    let mut catalog = open(&folder.path, Opening::AfterFailure).unwrap();
    assert_eq!(content(&mut catalog), before);
}

#[test]
fn a_file_that_cannot_grow_breaks_the_handle_and_nothing_is_stored() {
    let folder = Folder::new();
    let mut catalog = folder.open();
    fill(&mut catalog);
    let pages = i64::try_from(catalog.file_bytes() / 4096).unwrap();
    let limit = format!("PRAGMA max_page_count = {pages}");
    catalog.handle.connection.query_row(&limit, [], |_| Ok(())).unwrap();
    let mut stored = content(&mut catalog);
    let large = Audit { detail: "d".repeat(AUDIT_DETAIL_BYTES_MAX), ..audit("x") };
    let error = loop {
        match catalog.audit_add(&large) {
            Ok(()) => stored = content(&mut catalog),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Sql(_)), "{error:?}");
    assert!(catalog.broken().is_some());
    drop(catalog);
    assert_eq!(content(&mut folder.open()), stored);
}

#[test]
fn a_panic_halfway_breaks_the_handle_and_nothing_is_stored() {
    let folder = Folder::new();
    let mut catalog = folder.open();
    fill(&mut catalog);
    let before = content(&mut catalog);
    let panicking = std::panic::AssertUnwindSafe(|| {
        let body = |tx: &super::Tx<'_>| {
            super::audit::add(tx, &audit("x"))?;
            std::panic::resume_unwind(Box::new("a planned panic"))
        };
        catalog.transaction::<()>(body)
    });
    assert!(std::panic::catch_unwind(panicking).is_err());
    assert_eq!(catalog.broken().as_deref(), Some("an operation did not end"));
    assert!(matches!(catalog.audit_add(&audit("x")), Err(Error::Closed)));
    drop(catalog);
    assert_eq!(content(&mut folder.open()), before);
}

#[test]
fn a_file_that_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sqlite");
    assert!(matches!(open(&path, Opening::Start), Err(Error::Sql(_))));
    assert!(!path.exists(), "whoever makes it decides who may read it");
}

#[test]
fn a_damaged_file_is_refused() {
    let folder = Folder::new();
    std::fs::write(&folder.path, [b'x'; 8192]).unwrap();
    let error = open(&folder.path, Opening::Start).err();
    assert!(matches!(error, Some(Error::Damaged(_))), "{error:?}");

    let folder = Folder::new();
    let mut catalog = folder.open();
    fill(&mut catalog);
    for n in 0..200 {
        catalog.token_insert(&token(1000 + n, 1), &audit("x")).unwrap();
    }
    drop(catalog);
    let mut bytes = std::fs::read(&folder.path).unwrap();
    for page in bytes.chunks_mut(4096).skip(12) {
        page[..64].fill(0xee);
    }
    std::fs::write(&folder.path, bytes).unwrap();
    let error = open(&folder.path, Opening::AfterFailure).err();
    assert!(matches!(error, Some(Error::Damaged(_))), "{error:?}");
}

// --- the file ------------------------------------------------------------------------------------------

fn version_of(connection: &Connection) -> i64 {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

#[test]
fn migrations_run_once_in_order_and_each_with_its_number() {
    let connection = Connection::open_in_memory().unwrap();
    let scripts = ["CREATE TABLE a (x); INSERT INTO a VALUES (1)", "INSERT INTO a SELECT 2 FROM a"];
    let rows = |connection: &Connection| -> i64 {
        connection.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).unwrap()
    };
    migrate(&connection, &scripts[..1]).unwrap();
    assert_eq!((version_of(&connection), rows(&connection)), (1, 1));
    for _ in 0..2 {
        migrate(&connection, &scripts).unwrap();
        assert_eq!((version_of(&connection), rows(&connection)), (2, 2));
    }
}

#[test]
fn a_migration_that_fails_leaves_the_file_as_the_one_before_left_it() {
    let folder = Folder::new();
    let connection = Connection::open(&folder.path).unwrap();
    let scripts = ["CREATE TABLE a (x)", "INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)"];
    assert!(migrate(&connection, &scripts).is_err());
    drop(connection);
    let connection = Connection::open(&folder.path).unwrap();
    assert_eq!(version_of(&connection), 1);
    let rows: i64 = connection.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_alone() {
    let folder = Folder::new();
    drop(folder.open());
    let known = MIGRATIONS.len();
    let connection = Connection::open(&folder.path).unwrap();
    connection.execute_batch(&format!("PRAGMA user_version = {}", known + 3)).unwrap();
    drop(connection);
    let error = open(&folder.path, Opening::Start).err().unwrap();
    assert!(
        matches!(error, Error::NewerSchema { found, known: k } if (found, k) == (known + 3, known))
    );
    assert_eq!(error.code(), "newer_schema");
    assert!(error.to_string().contains("newer version of holdfast"), "{error}");
    let connection = Connection::open(&folder.path).unwrap();
    assert_eq!(version_of(&connection), i64::try_from(known).unwrap() + 3);
}

#[test]
fn the_file_is_set_up_to_survive() {
    let folder = Folder::new();
    let catalog = folder.open();
    let word = |name: &str| match catalog
        .handle
        .connection
        .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
        .unwrap()
    {
        rusqlite::types::Value::Text(text) => text,
        rusqlite::types::Value::Integer(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(word("journal_mode"), "wal");
    assert_eq!(word("synchronous"), "2", "FULL");
    assert_eq!(word("foreign_keys"), "1");
    assert_eq!(word("wal_autocheckpoint"), "0", "it keeps an error of that to itself");
    assert_eq!(catalog.margin_bytes(), 1 << 39, "a page is written twice");
    assert!(0 < catalog.file_bytes());
}

#[test]
fn the_log_stays_short_and_is_copied_at_a_clean_end() {
    let folder = Folder::new();
    let mut catalog = folder.open();
    let log = folder.path.with_extension("sqlite-wal");
    let len = |path: &Path| std::fs::metadata(path).unwrap().len();
    let large = Audit { detail: "d".repeat(AUDIT_DETAIL_BYTES_MAX), ..audit("x") };
    for _ in 0..600 {
        catalog.audit_add(&large).unwrap();
    }
    assert!(len(&log) < 3 * CATALOG_LOG_BYTES, "{} bytes", len(&log));
    let all = content(&mut catalog);
    drop(catalog);
    // The file alone is whole now.
    std::fs::remove_file(&log).unwrap();
    assert_eq!(content(&mut folder.open()), all);
}

#[test]
fn a_broken_handle_does_not_touch_the_file_again() {
    let folder = Folder::new();
    let mut catalog = folder.open();
    fill(&mut catalog);
    let before = std::fs::read(&folder.path).unwrap();
    catalog.handle.broken.replace(Some("a planned failure".to_owned()));
    drop(catalog);
    assert_eq!(std::fs::read(&folder.path).unwrap(), before, "the log was not copied");
    assert_eq!(content(&mut folder.open()).tokens.len(), 3, "what was committed is in the log");
}

// --- how statements are run --------------------------------------------------------------------------------

/// What in the plan of `sql` grows with a table: walks over it, and sorting.
pub(super) fn what_grows(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let details = statement.raw_query().mapped(|row| row.get::<_, String>(3));
    let grows = |detail: &String| {
        detail.starts_with("SCAN ") && detail != "SCAN CONSTANT ROW"
            || detail.contains("TEMP B-TREE")
    };
    details.map(Result::unwrap).filter(grows).collect()
}

#[test]
fn no_statement_walks_or_sorts_a_table() {
    let catalog = fresh();
    for statement in Statement::ALL {
        let grows = what_grows(&catalog.handle.connection, statement.sql());
        assert_eq!(grows, [] as [&str; 0], "{}: {}", statement.name(), statement.sql());
    }
    let found = |sql: &str| what_grows(&catalog.handle.connection, sql).len();
    assert_eq!(found("SELECT * FROM tokens WHERE name = ?1"), 1);
    assert_eq!(found("SELECT count(*) FROM tokens"), 1, "also by an index");
    assert_eq!(found("SELECT * FROM tokens WHERE tenant = ?1 ORDER BY name"), 1);
    assert_eq!(found("SELECT * FROM tokens WHERE tenant = ?1 ORDER BY id"), 0);
}

#[test]
fn every_statement_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Statement::ALL.iter().map(|s| s.name()).collect();
    assert_eq!(names.len(), Statement::ALL.len());
}
