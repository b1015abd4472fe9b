//! Remembering, and waiting for what others compute.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use super::{Ask, Memo, Remembered};
use crate::app::App;
use crate::app::directory::TenantEntry;
use crate::base::name::{Namespace, TenantName};
use crate::base::time::Clock as _;
use crate::cache::entry::{Asked, Key, LeaseToken, Tag};
use crate::cache::kept::What;
use crate::testing::app::World;

/// Shorter than any wait here: whoever is not woken is not answered by the end of its wait.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    let within = Duration::from_secs(20);
    runtime.block_on(async { tokio::time::timeout(within, work).await }).expect("somebody wakes it")
}

fn tenant(app: &App) -> Arc<TenantEntry> {
    app.directory().tenant(&TenantName::parse("default").unwrap()).unwrap()
}

/// Where and under which key these tests remember.
struct Place {
    tenant: Arc<TenantEntry>,
    namespace: Namespace,
}

impl Place {
    fn of(app: &App) -> Place {
        Place { tenant: tenant(app), namespace: Namespace::parse("pages").unwrap() }
    }

    fn memo<'p>(&'p self, class: &'p str) -> Memo<'p> {
        Memo {
            tenant: &self.tenant,
            namespace: &self.namespace,
            key: Key::parse("front").unwrap(),
            class,
            tags: &[],
        }
    }
}

async fn value_of(app: &App, memo: Memo<'_>, value: &str) -> Result<Vec<u8>, String> {
    let loaded = app.remember(memo, async || Ok::<_, String>(value.as_bytes().to_vec())).await;
    loaded.map(|remembered| remembered.as_ref().to_vec())
}

#[test]
#[expect(clippy::disallowed_methods, reason = "two hundred callers at once")]
fn of_two_hundred_callers_one_computes() {
    run(async {
        let world = World::new(1);
        let loads = Arc::new(AtomicUsize::new(0));
        let callers = (0..200).map(|_| {
            let (app, loads) = (Arc::clone(&world.app), Arc::clone(&loads));
            tokio::spawn(async move {
                let place = Place::of(&app);
                let loader = async || {
                    loads.fetch_add(1, SeqCst);
                    // The others have time to come and to stand in line.
                    for _ in 0..200 {
                        tokio::task::yield_now().await;
                    }
                    Ok::<_, String>(b"page".to_vec())
                };
                let found = app.remember(place.memo("dashboard"), loader).await.unwrap();
                assert_eq!(found.as_ref(), b"page");
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
        assert_eq!(loads.load(SeqCst), 1);
    });
}

#[test]
fn an_error_is_never_kept_and_the_next_caller_computes() {
    run(async {
        let world = World::new(2);
        let place = Place::of(&world.app);
        let failed =
            world.app.remember(place.memo("dashboard"), async || Err::<Vec<u8>, _>("down"));
        assert_eq!(failed.await.unwrap_err(), "down");
        assert_eq!(value_of(&world.app, place.memo("dashboard"), "up").await.unwrap(), b"up");
        assert_eq!(value_of(&world.app, place.memo("dashboard"), "again").await.unwrap(), b"up");
    });
}

#[test]
fn a_stale_value_is_returned_when_computing_anew_fails() {
    run(async {
        let world = World::new(3);
        let place = Place::of(&world.app);
        value_of(&world.app, place.memo("dashboard"), "old").await.unwrap();
        world.clock.advance(Duration::from_secs(61));
        let failing = async || Err::<Vec<u8>, _>("down");
        let found = world.app.remember(place.memo("dashboard"), failing).await.unwrap();
        assert!(matches!(&found, Remembered::Cached(found) if found.stale), "{found:?}");
        assert_eq!(value_of(&world.app, place.memo("dashboard"), "new").await.unwrap(), b"new");
        assert_eq!(value_of(&world.app, place.memo("dashboard"), "other").await.unwrap(), b"new");
    });
}

#[test]
fn a_value_computed_before_its_tag_was_forgotten_is_not_kept() {
    run(async {
        let world = World::new(4);
        let place = Place::of(&world.app);
        let tags = [Tag::parse("user:7").unwrap()];
        let memo = Memo { tags: &tags, ..place.memo("dashboard") };
        let loader = async || {
            let space = world.app.space(&place.tenant, "pages").unwrap();
            let what = What::Tags(vec!["user:7".to_owned()]);
            assert_eq!(world.app.cache_forget(&space, what, false).await.unwrap(), 0);
            Ok::<_, String>(b"outdated".to_vec())
        };
        assert_eq!(world.app.remember(memo, loader).await.unwrap().as_ref(), b"outdated");
        assert_eq!(value_of(&world.app, memo, "current").await.unwrap(), b"current");
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a caller that is given up")]
fn a_caller_that_goes_away_lets_the_next_one_compute() {
    run(async {
        let world = World::new(5);
        let app = Arc::clone(&world.app);
        let (tell, told) = tokio::sync::oneshot::channel();
        let gone = tokio::spawn(async move {
            let place = Place::of(&app);
            let loader = async || {
                tell.send(()).unwrap();
                std::future::pending::<Result<Vec<u8>, String>>().await
            };
            drop(app.remember(place.memo("dashboard"), loader).await);
        });
        told.await.unwrap();
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        let place = Place::of(&world.app);
        assert_eq!(value_of(&world.app, place.memo("dashboard"), "mine").await.unwrap(), b"mine");
    });
}

#[test]
fn the_loader_runs_where_nothing_is_cached() {
    run(async {
        let world = World::new(6);
        let place = Place::of(&world.app);
        for value in ["one", "two"] {
            let found = value_of(&world.app, place.memo("no-such-class"), value).await.unwrap();
            assert_eq!(found, value.as_bytes());
        }
        let mut settings = (*world.app.settings()).clone();
        settings.cache.enabled = false;
        world.app.set_settings(settings);
        for value in ["three", "four"] {
            let found = value_of(&world.app, place.memo("dashboard"), value).await.unwrap();
            assert_eq!(found, value.as_bytes());
        }
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "somebody who waits")]
fn who_waits_is_let_go_when_the_process_ends() {
    run(async {
        let world = World::new(7);
        let place = Place::of(&world.app);
        let space = world.app.space_or_new(&place.tenant, &place.namespace).unwrap();
        let key = Key::parse("front").unwrap();
        let lease = Duration::from_secs(30);
        let now = world.clock.mono();
        let first = space.ask(now, key, lease, LeaseToken::from_raw(1), false, None);
        assert!(matches!(first, Asked::Leased(_)), "{first:?}");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let app = Arc::clone(&world.app);
        let waits = tokio::spawn(async move {
            let ask = Ask { lease, wait: Duration::from_secs(50) };
            let key = Key::parse("front").unwrap();
            app.cache_ask(&space, key, ask, async { drop(stopped.await) }).await.0
        });
        tokio::task::yield_now().await;
        stop.send(()).unwrap();
        assert!(matches!(waits.await.unwrap(), Asked::Busy { .. }));
    });
}
