//! Taking locks and standing in line for them, on a store in memory.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use super::Acquire;
use crate::app::{App, Error};
use crate::base::id::TenantId;
use crate::base::name::LockName;
use crate::base::time::Clock as _;
use crate::cache::locks::{self, Owner, Taken, Ttl};
use crate::testing::app::World;
use crate::testing::wait_until;

const TENANT: TenantId = TenantId::from_raw(1);

/// Shorter than any wait here: whoever is not woken is not answered by the end of its wait.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let within = Duration::from_secs(20);
    runtime.block_on(async { tokio::time::timeout(within, work).await }).expect("somebody wakes it")
}

fn name() -> LockName {
    LockName::parse("deploy").unwrap()
}

fn owner(text: &str) -> Owner {
    Owner::parse(text).unwrap()
}

fn wanted(by: &str, wait: Duration) -> Acquire {
    let ttl = Ttl::new(Duration::from_secs(10)).unwrap();
    Acquire { name: name(), owner: Some(owner(by)), ttl, wait }
}

async fn take(app: &App, by: &str) -> Result<Taken, Error> {
    app.acquire_lock(TENANT, wanted(by, Duration::ZERO), pending()).await.0
}

async fn wait(app: &App, by: &str) -> Result<Taken, Error> {
    app.acquire_lock(TENANT, wanted(by, Duration::from_secs(50)), pending()).await.0
}

async fn release(app: &App, by: &str) -> Result<(), Error> {
    app.release_lock(TENANT, name(), Some(owner(by))).await
}

fn code<T>(result: Result<T, Error>) -> &'static str {
    result.err().map_or("ok", |error| error.code())
}

/// Polls `work` until it waits for something that only others can do.
async fn until_it_waits(app: &App, in_line: usize, mut work: Pin<&mut impl Future>) {
    loop {
        let polled = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_pending()));
        assert!(polled.await, "it waits");
        let done = app.kept.writer().figures();
        if app.kept.lock_figures().1 == in_line && done.queue_ops == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_lock_is_taken_kept_and_released_by_its_owner() {
    let world = World::new(1);
    run(async {
        let app = &*world.app;
        let first = take(app, "anne").await.unwrap();
        assert_eq!((first.again, code(take(app, "ben").await)), (false, "lock_held"));
        let again = take(app, "anne").await.unwrap();
        assert_eq!((again.again, again.held.fence), (true, first.held.fence));
        let ttl = Ttl::new(Duration::from_mins(1)).unwrap();
        let refresh = |by| app.refresh_lock(TENANT, name(), owner(by), ttl);
        assert_eq!(code(refresh("ben").await), "lock_held");
        assert_eq!(refresh("anne").await.unwrap().fence, first.held.fence);
        assert_eq!(app.locks(TENANT, None, 10).len(), 1);
        assert_eq!(code(release(app, "ben").await), "lock_held");
        release(app, "anne").await.unwrap();
        assert_eq!(code(release(app, "anne").await), "unknown_lock");
        assert_eq!(code(refresh("anne").await), "unknown_lock");
        let second = take(app, "ben").await.unwrap();
        assert!(first.held.fence < second.held.fence);
        world.clock.advance(Duration::from_secs(10));
        assert_eq!(code(refresh("ben").await), "unknown_lock", "it has ended");
        assert_eq!(app.locks(TENANT, None, 10), []);
        let third = take(app, "anne").await.unwrap();
        assert!(second.held.fence < third.held.fence);
        app.release_lock(TENANT, name(), None).await.unwrap();
        let drawn = Acquire { owner: None, ..wanted("-", Duration::ZERO) };
        let drawn = app.acquire_lock(TENANT, drawn, pending()).await.0.unwrap();
        assert_eq!(drawn.held.owner.as_str().len(), 32, "nobody can guess it");
    });
}

#[test]
fn who_waits_is_served_in_the_order_of_coming_and_before_newcomers() {
    let world = World::new(2);
    run(async {
        let app = &*world.app;
        take(app, "anne").await.unwrap();
        let (mut ben, mut carl) = (Box::pin(wait(app, "ben")), Box::pin(wait(app, "carl")));
        until_it_waits(app, 1, ben.as_mut()).await;
        until_it_waits(app, 2, carl.as_mut()).await;
        release(app, "anne").await.unwrap();
        assert_eq!(code(take(app, "dora").await), "lock_held", "it is free, but not for her");
        assert_eq!(ben.await.unwrap().held.owner, owner("ben"));
        until_it_waits(app, 1, carl.as_mut()).await;
        release(app, "ben").await.unwrap();
        assert_eq!(carl.await.unwrap().held.owner, owner("carl"));
        assert_eq!(app.kept.lock_figures(), (1, 0));
        // Whoever has it passes those who wait.
        let mut dora = Box::pin(wait(app, "dora"));
        until_it_waits(app, 1, dora.as_mut()).await;
        assert!(take(app, "carl").await.unwrap().again);
    });
}

#[test]
fn who_gives_up_leaves_the_line_and_the_next_one_is_served() {
    let world = World::new(3);
    run(async {
        let app = &*world.app;
        take(app, "anne").await.unwrap();
        let (mut ben, mut carl) = (Box::pin(wait(app, "ben")), Box::pin(wait(app, "carl")));
        until_it_waits(app, 1, ben.as_mut()).await;
        until_it_waits(app, 2, carl.as_mut()).await;
        drop(ben);
        assert_eq!(app.kept.lock_figures().1, 1);
        release(app, "anne").await.unwrap();
        assert_eq!(carl.await.unwrap().held.owner, owner("carl"));
        assert_eq!(app.kept.lock_figures().1, 0);
    });
}

#[test]
fn a_lock_that_was_taken_for_somebody_who_is_gone_is_released_at_once() {
    let world = World::new(4);
    let app = &*world.app;
    let mut gone_before_it_came = 0;
    for _ in 0..50 {
        let mut gone = Box::pin(take(app, "ben"));
        let mut cx = Context::from_waker(Waker::noop());
        let came = gone.as_mut().poll(&mut cx).is_ready();
        drop(gone);
        if came {
            // The thread of the file was faster; then it is his.
            run(release(app, "ben")).unwrap();
            continue;
        }
        gone_before_it_came += 1;
        wait_until("nothing is under way", || app.kept.writer().figures().queue_ops == 0);
        wait_until("it is free", || app.locks(TENANT, None, 1).is_empty());
        run(async {
            take(app, "anne").await.unwrap();
            release(app, "anne").await.unwrap();
        });
    }
    assert!(0 < gone_before_it_came);
    let done = app.kept.writer().figures();
    assert!(100 <= done.done, "{done:?}");
}

#[test]
fn nobody_waits_longer_than_until_the_process_ends_or_the_wait_is_over() {
    let world = World::new(5);
    run(async {
        let app = &*world.app;
        take(app, "anne").await.unwrap();
        let stop = Arc::new(Notify::new());
        let asked = wanted("ben", Duration::from_secs(50));
        let mut ben = Box::pin(app.acquire_lock(TENANT, asked, stop.notified()));
        until_it_waits(app, 1, ben.as_mut()).await;
        world.clock.advance(Duration::from_secs(2));
        stop.notify_one();
        let (refused, waited) = ben.await;
        assert_eq!(waited, Duration::from_secs(2));
        let left = Duration::from_secs(8);
        assert!(
            matches!(&refused, Err(Error::Lock(locks::Error::Held { retry_after })) if *retry_after == left),
            "{refused:?}"
        );
        let asked = wanted("ben", Duration::from_millis(1));
        let mut ben = Box::pin(app.acquire_lock(TENANT, asked, pending()));
        until_it_waits(app, 1, ben.as_mut()).await;
        world.clock.advance(Duration::from_millis(1));
        assert_eq!(code(ben.await.0), "lock_held");
        assert_eq!(app.kept.lock_figures().1, 0);
    });
}

#[test]
fn the_head_of_the_line_is_served_when_the_lock_ends_by_time() {
    let world = World::new(6);
    run(async {
        let app = &*world.app;
        let ttl = Ttl::new(Duration::from_millis(100)).unwrap();
        let short = Acquire { ttl, ..wanted("anne", Duration::ZERO) };
        let anne = app.acquire_lock(TENANT, short, pending()).await.0.unwrap();
        let mut ben = Box::pin(wait(app, "ben"));
        until_it_waits(app, 1, ben.as_mut()).await;
        world.clock.advance(Duration::from_millis(100));
        let ben = ben.await.unwrap();
        assert!(anne.held.fence < ben.held.fence);
        assert!(world.clock.mono() < ben.held.until);
    });
}
