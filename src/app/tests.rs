//! The application over a catalog in memory: tokens, tenants, and what becomes of them.

use std::sync::Arc;
use std::time::Duration;

use super::directory::TenantEntry;
use super::tenants::{Put, TenantSpec};
use super::throttle::Peer;
use super::tokens::{NewToken, TokenSpec};
use super::workers;
use super::{App, Author, BadToken, DEFAULT_TENANT, Error, Settings};
use crate::base::name::TenantName;
use crate::base::quota::{Allowance, Quota, Quotas};
use crate::base::scope::{Scope, Scopes};
use crate::base::time::Clock as _;
use crate::exec::worker::Workers;
use crate::testing::app::World;
use crate::testing::wait_until;

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(work)
}

fn name(text: &str) -> TenantName {
    TenantName::parse(text).unwrap()
}

fn tenant(world: &World, text: &str) -> Arc<TenantEntry> {
    let spec = TenantSpec::default();
    let put = world.app.put_tenant(world.clock.now(), Author::server(), name(text), spec);
    run(put).unwrap().0.tenant
}

fn token(world: &World, tenant: &Arc<TenantEntry>, scope: Scope) -> Result<NewToken, Error> {
    let spec = TokenSpec { name: "t".to_owned(), scopes: Scopes::of(&[scope]), expires_in: None };
    let (now, by) = (world.clock.now(), Author::server());
    run(world.app.create_token(now, by, Arc::clone(tenant), spec))
}

fn who(world: &World, secret: &str) -> Result<String, BadToken> {
    match world.app.authenticate(Some(secret), Peer::Local, world.clock.now()) {
        Ok(caller) => Ok(caller.tenant.name.to_string()),
        Err(Error::BadToken(bad)) => Err(bad),
        Err(error) => panic!("{error}"),
    }
}

fn audit(app: &App) -> Vec<String> {
    let page = run(app.audit_page(None, 100)).unwrap();
    page.into_iter().map(|row| row.audit.action).collect()
}

#[test]
fn a_token_is_whose_it_is_until_it_is_revoked() {
    let world = World::new(1);
    let acme = tenant(&world, "acme");
    let made = token(&world, &acme, Scope::CacheRead).unwrap();
    let secret = made.secret.expose();
    assert_eq!(who(&world, secret), Ok("acme".to_owned()));
    assert_eq!(who(&world, world.admin.expose()), Ok(DEFAULT_TENANT.to_owned()));

    let other = tenant(&world, "other");
    let revoke = |tenant: &Arc<TenantEntry>| {
        let (now, by) = (world.clock.now(), Author::server());
        run(world.app.revoke_token(now, by, Arc::clone(tenant), made.entry.id))
    };
    assert!(matches!(revoke(&other), Err(Error::UnknownToken(_))), "it is not theirs");
    assert_eq!(who(&world, secret), Ok("acme".to_owned()));
    revoke(&acme).unwrap();
    assert_eq!(who(&world, secret), Err(BadToken::Unknown));
    assert!(matches!(revoke(&acme), Err(Error::UnknownToken(_))), "it is gone");
    let expected = ["token.revoke", "tenant.put", "token.create", "tenant.put", "start.first"];
    assert_eq!(audit(&world.app), expected);
}

#[test]
fn a_token_with_another_secret_is_not_that_token() {
    let world = World::new(2);
    let acme = tenant(&world, "acme");
    let (a, b) = (token(&world, &acme, Scope::CacheRead), token(&world, &acme, Scope::CacheRead));
    let (a, b) = (a.unwrap().secret, b.unwrap().secret);
    let mut mixed = crate::base::token::Token::parse(a.expose()).unwrap();
    mixed.secret = crate::base::token::Token::parse(b.expose()).unwrap().secret;
    assert_eq!(who(&world, mixed.to_text().expose()), Err(BadToken::Unknown));
}

#[test]
fn a_token_ends_at_its_time() {
    let world = World::new(3);
    let default = world.app.directory().tenant(&name(DEFAULT_TENANT)).unwrap();
    let spec = TokenSpec {
        name: "short".to_owned(),
        scopes: Scopes::of(&[Scope::SeriesRead]),
        expires_in: Some(Duration::from_mins(1)),
    };
    let made = world.app.create_token(world.clock.now(), Author::server(), default, spec);
    let secret = run(made).unwrap().secret;
    world.clock.advance(Duration::from_millis(59_999));
    assert!(who(&world, secret.expose()).is_ok());
    world.clock.advance(Duration::from_millis(1));
    assert!(matches!(who(&world, secret.expose()), Err(BadToken::Expired(_))));
}

#[test]
fn a_quota_of_tokens_holds_also_when_many_ask_at_once() {
    let world = World::new(4);
    let mut quotas = Quotas::default();
    quotas.set(Quota::Tokens, Some(Allowance::AtMost(3)));
    let spec = TenantSpec { tier: None, quotas: Some(quotas) };
    let put = world.app.put_tenant(world.clock.now(), Author::server(), name("acme"), spec);
    let acme = run(put).unwrap().0.tenant;
    let ask = || {
        let scopes = Scopes::of(&[Scope::CacheRead]);
        let spec = TokenSpec { name: "t".to_owned(), scopes, expires_in: None };
        world.app.create_token(world.clock.now(), Author::server(), Arc::clone(&acme), spec)
    };
    let answers = run(async {
        let all = tokio::join!(ask(), ask(), ask(), ask(), ask());
        [all.0, all.1, all.2, all.3, all.4]
    });
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    let full = |error: &Error| matches!(error, Error::QuotaExceeded { limit: 3, used: 3, .. });
    assert!(answers.iter().filter_map(|answer| answer.as_ref().err()).all(full));
}

#[test]
fn an_administrator_exists_in_the_default_tenant_alone() {
    let world = World::new(5);
    let acme = tenant(&world, "acme");
    assert!(matches!(token(&world, &acme, Scope::Admin), Err(Error::BadScopes(_))));
    let made = token(&world, &acme, Scope::QueueAdmin).unwrap();
    let now = world.clock.now();
    let caller = world.app.authenticate(Some(made.secret.expose()), Peer::Local, now).unwrap();
    assert!(matches!(world.app.act_for(&caller, &name("default")), Err(Error::NotAdmin)));
    assert!(caller.need(Scope::QueueRead).is_ok() && caller.need(Scope::CacheRead).is_err());
    assert!(matches!(caller.need_default(), Err(Error::DefaultOnly)));
    let admin = world.app.authenticate(Some(world.admin.expose()), Peer::Local, now).unwrap();
    let acting = world.app.act_for(&admin, &name("acme")).unwrap();
    assert_eq!(acting.tenant.id, acme.id);
    assert!(matches!(world.app.act_for(&admin, &name("nobody")), Err(Error::UnknownTenant(_))));
}

#[test]
fn a_deleted_tenant_is_gone_at_once_and_its_rows_follow() {
    let world = World::new(6);
    let workers = Workers::new(Arc::<crate::testing::clock::ManualClock>::clone(&world.clock));
    workers::hire(&world.app, &workers).unwrap();
    let old = tenant(&world, "acme");
    let secret = token(&world, &old, Scope::CacheRead).unwrap().secret;
    let delete =
        |text: &str| run(world.app.delete_tenant(world.clock.now(), Author::server(), name(text)));
    delete("acme").unwrap();
    assert_eq!(who(&world, secret.expose()), Err(BadToken::Unknown));
    assert!(matches!(delete("acme"), Err(Error::UnknownTenant(_))));
    assert!(matches!(delete(DEFAULT_TENANT), Err(Error::TenantProtected)));

    let new = tenant(&world, "acme");
    assert_ne!(new.id, old.id, "an id is never used again");
    assert_eq!(who(&world, secret.expose()), Err(BadToken::Unknown));
    assert_eq!(world.app.directory().token_count(new.id), 0);
    wait_until("the old one is removed", || {
        let task = crate::exec::keeper::Task {
            name: "test.look",
            until: world.clock.mono().plus(Duration::from_mins(1)),
            effect: crate::exec::writer::Effect::Frees,
        };
        let rows = world.app.keeper().call(task, |catalog| catalog.tenants_page(None, 10));
        rows.unwrap().unwrap().iter().all(|tenant| tenant.id != old.id)
    });
    let gone = token(&world, &old, Scope::CacheRead);
    assert!(matches!(gone, Err(Error::UnknownTenant(_))), "nothing is made for one that is gone");
}

#[test]
fn what_is_left_out_of_a_change_stays_as_it_was() {
    let world = World::new(7);
    let put = |tier: Option<&str>, quotas: Option<Quotas>| {
        let spec = TenantSpec { tier: tier.map(str::to_owned), quotas };
        run(world.app.put_tenant(world.clock.now(), Author::server(), name("acme"), spec))
    };
    let mut quotas = Quotas::default();
    quotas.set(Quota::Queues, Some(Allowance::AtMost(7)));
    assert_eq!(put(Some("small"), Some(quotas)).unwrap().1, Put::Created);
    let (page, changed) = put(None, None).unwrap();
    assert_eq!((changed, &*page.tenant.tier, page.tenant.quotas), (Put::Changed, "small", quotas));
    assert!(matches!(put(Some("gold"), None), Err(Error::BadTier { .. })));
    let (page, _) = put(None, Some(Quotas::default())).unwrap();
    assert_eq!(page.tenant.quotas, Quotas::default());
}

#[test]
fn a_tier_that_is_gone_leaves_the_tenants_own_quotas_and_is_told() {
    let world = World::new(8);
    let spec = TenantSpec { tier: Some("small".to_owned()), quotas: None };
    let put = world.app.put_tenant(world.clock.now(), Author::server(), name("acme"), spec);
    assert!(run(put).unwrap().0.tier_known);
    world.app.set_settings(Settings::default());
    assert!(!world.app.tenant_page(&name("acme")).unwrap().tier_known);
    let lost = world.app.directory().tenants_without_tier(|tier| tier == "standard", 10);
    assert_eq!(lost.len(), 1);
}

#[test]
fn wrong_tokens_are_throttled_and_right_ones_are_not() {
    let world = World::new(9);
    let peer = Peer::V4([203, 0, 113, 5]);
    let wrong = || world.app.authenticate(Some("hunter2"), peer, world.clock.now()).unwrap_err();
    for _ in 0..super::throttle::ATTEMPTS_MAX {
        assert!(matches!(wrong(), Error::BadToken(BadToken::Form(_))));
    }
    assert!(matches!(wrong(), Error::Throttled { .. }));
    let now = world.clock.now();
    assert!(world.app.authenticate(Some(world.admin.expose()), peer, now).is_ok());
    let none = world.app.authenticate(None, peer, now);
    assert!(matches!(none, Err(Error::NoToken)), "who shows none guesses nothing");
}

#[test]
fn the_last_use_of_a_token_reaches_the_catalog_once_a_minute() {
    let world = World::new(10);
    assert_eq!(world.app.store_uses().unwrap(), 0, "nobody came yet");
    assert!(who(&world, world.admin.expose()).is_ok());
    assert_eq!(world.app.store_uses().unwrap(), 1);
    assert_eq!(world.app.store_uses().unwrap(), 0, "nothing new");
    world.clock.advance(Duration::from_secs(5));
    assert!(who(&world, world.admin.expose()).is_ok());
    assert_eq!(world.app.store_uses().unwrap(), 1);
}

#[test]
fn a_start_with_an_administrator_makes_no_other_one_unless_it_is_wished() {
    let world = World::new(11);
    let mut made = 0;
    let mut ensure = |wanted| {
        let keep = |_: &crate::base::secret::Secret| {
            made += 1;
            Ok(())
        };
        world.app.ensure_admin(world.clock.now(), wanted, keep).unwrap()
    };
    assert_eq!(ensure(false), super::tokens::AdminToken::Kept);
    assert_eq!(ensure(true), super::tokens::AdminToken::Another);
    assert_eq!(made, 1);
    let default = world.app.directory().tenant(&name(DEFAULT_TENANT)).unwrap();
    assert_eq!(world.app.directory().token_count(default.id), 2);
}

#[test]
fn a_token_whose_text_cannot_be_kept_does_not_come_to_be() {
    let world = World::new(12);
    let failing = |_: &crate::base::secret::Secret| Err(std::io::Error::other("no space"));
    assert!(world.app.ensure_admin(world.clock.now(), true, failing).is_err());
    assert_eq!(world.app.directory().counts().1, 1);
}
