//! Jobs through the door, on stores in memory: waiting, handing over, processes that end, the history.

use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::{Found, Wish};
use crate::app::directory::TenantEntry;
use crate::app::jobs::Handed;
use crate::app::{App, Error};
use crate::base::id::JobId;
use crate::base::name::{QueueName, TenantName};
use crate::catalog::history::Filter;
use crate::exec::worker::Seat;
use crate::queue::job::{End, Failure, LeaseToken, Payload, Retry, Spec, State};
use crate::queue::lease::Leased;
use crate::queue::workers::{Beat, WorkerId};
use crate::testing::app::World;
use crate::testing::processes::FakeProcesses;

/// Shorter than any wait here: whoever is not woken is not answered by the end of its wait.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let within = Duration::from_secs(20);
    runtime.block_on(async { tokio::time::timeout(within, work).await }).expect("somebody wakes it")
}

trait Accept {
    /// Takes the jobs as whoever reads an answer does.
    fn accept(self) -> Vec<Leased>;
}

impl Accept for Handed {
    fn accept(self) -> Vec<Leased> {
        self.receipt.accept();
        self.jobs
    }
}

/// An application and its tenant.
struct Shop {
    world: World,
    tenant: Arc<TenantEntry>,
}

fn queue(name: &str) -> QueueName {
    QueueName::parse(name).unwrap()
}

fn worker(name: &str) -> WorkerId {
    WorkerId::parse(name).unwrap()
}

fn wish(queues: &[&str], wait: Duration) -> Wish {
    Wish {
        queues: queues.iter().map(|name| queue(name)).collect(),
        max: 1,
        lease: None,
        wait,
        worker: None,
        peer: None,
    }
}

const LONG: Duration = Duration::from_secs(50);

impl Shop {
    fn new() -> Shop {
        let world = World::new(1);
        let name = TenantName::parse("default").unwrap();
        let tenant = world.app.directory().tenant(&name).unwrap();
        Shop { world, tenant }
    }

    fn app(&self) -> &App {
        &self.world.app
    }

    async fn push(&self, name: &str) -> JobId {
        let spec = Spec::new(queue(name), Payload::json("{}"));
        let pushed = self.app().queue_push(&self.tenant, vec![spec], None).await.unwrap();
        pushed.jobs[0].id
    }

    async fn lease(&self, wish: &Wish) -> Option<Handed> {
        self.app().queue_lease(&self.tenant, wish, pending()).await.unwrap().0
    }

    async fn take(&self, name: &str) -> Option<Leased> {
        let handed = self.lease(&wish(&[name], Duration::ZERO)).await?;
        handed.accept().pop()
    }

    async fn done(&self, lease: LeaseToken) -> Result<State, Error> {
        let end = End::Done { result: Some(b"[1]".to_vec()) };
        Ok(self.app().queue_end(&self.tenant, lease, end).await?.state)
    }

    async fn fail(&self, lease: LeaseToken, retry: Retry) -> Result<State, Error> {
        let failure = Failure { class: "E".to_owned(), message: "no".to_owned(), trace: None };
        let end = End::Fail { failure, retry };
        Ok(self.app().queue_end(&self.tenant, lease, end).await?.state)
    }

    async fn state(&self, id: JobId) -> Result<State, Error> {
        Ok(self.app().queue_job(&self.tenant, id).await?.state())
    }

    /// Steps of the workers behind it, until they want to rest.
    fn settle(&self) {
        for worker in crate::app::queue_workers::all(&self.world.app) {
            let mut seat = Seat::new(worker);
            for _ in 0..100 {
                if seat.due_in(self.app().clock().mono()) != Some(Duration::ZERO) {
                    break;
                }
                seat.step(self.app().clock());
            }
        }
    }
}

/// Polls `work` until it stands in the line with so many.
async fn until_it_waits(shop: &Shop, in_line: usize, mut work: Pin<&mut impl Future>) {
    loop {
        let polled = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_pending()));
        assert!(polled.await, "it waits");
        if shop.app().jobs().waiting_figures().0 == in_line {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_job_is_pushed_leased_done_and_found() {
    let shop = Shop::new();
    run(async {
        let id = shop.push("mail").await;
        assert_eq!(shop.state(id).await.unwrap(), State::Waiting);
        let leased = shop.take("mail").await.unwrap();
        assert_eq!((leased.token.job, leased.attempt), (id, 1));
        assert_eq!(shop.state(id).await.unwrap(), State::Running);
        assert!(shop.take("mail").await.is_none());
        assert_eq!(shop.done(leased.token).await.unwrap(), State::Done);
        assert_eq!(shop.done(leased.token).await.unwrap(), State::Done, "the same again");
        let lost = shop.fail(leased.token, Retry::ByPolicy).await.unwrap_err();
        assert_eq!(lost.code(), "lease_lost");
        assert_eq!(shop.state(id).await.unwrap(), State::Done, "in the outbox");
        shop.settle();
        assert_eq!(shop.app().jobs().outbox_figures().0, 0);
        assert_eq!(shop.state(id).await.unwrap(), State::Done, "in the history");
        assert_eq!(shop.done(leased.token).await.unwrap(), State::Done, "asked of the history");
        let page = shop.app().past_search(Filter::all(shop.tenant.id, 10)).await.unwrap();
        assert_eq!(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [id]);
        let unknown = LeaseToken { job: JobId::from_raw(7), ..leased.token };
        assert_eq!(shop.done(unknown).await.unwrap_err().code(), "unknown_lease");
    });
}

#[test]
fn one_job_wakes_one_of_those_who_wait_and_the_first_of_them() {
    let shop = Shop::new();
    run(async {
        let (first, second) = (wish(&["a", "b"], LONG), wish(&["b"], LONG));
        let (mut first, mut second) = (pin!(shop.lease(&first)), pin!(shop.lease(&second)));
        until_it_waits(&shop, 1, first.as_mut()).await;
        until_it_waits(&shop, 2, second.as_mut()).await;
        let id = shop.push("b").await;
        assert_eq!(shop.app().jobs().waiting_figures().0, 1, "one was called");
        let taken = first.await.unwrap().accept();
        assert_eq!(taken[0].token.job, id);
        let id = shop.push("b").await;
        assert_eq!(second.await.unwrap().accept()[0].token.job, id);
    });
}

#[test]
fn a_call_that_nobody_follows_goes_on_to_the_next() {
    let shop = Shop::new();
    run(async {
        let wished = wish(&["a"], LONG);
        let mut gone = Box::pin(shop.lease(&wished));
        until_it_waits(&shop, 1, gone.as_mut()).await;
        let mut next = pin!(shop.lease(&wished));
        until_it_waits(&shop, 2, next.as_mut()).await;
        let id = shop.push("a").await;
        // It was called, and goes away before it asks again.
        drop(gone);
        assert_eq!(next.await.unwrap().accept()[0].token.job, id);
    });
}

#[test]
fn jobs_that_do_not_arrive_were_never_leased() {
    let shop = Shop::new();
    run(async {
        let id = shop.push("a").await;
        let handed = shop.lease(&wish(&["a"], Duration::ZERO)).await.unwrap();
        let lost = handed.jobs[0].token;
        drop(handed);
        let again = shop.take("a").await.expect("it was given back before this was asked");
        assert_eq!((again.token.job, again.attempt), (id, 1));
        assert!(lost.fence < again.token.fence);
        assert_eq!(shop.done(lost).await.unwrap_err().code(), "lease_lost");
    });
}

#[test]
fn who_waits_gets_a_job_that_was_given_back() {
    let shop = Shop::new();
    run(async {
        shop.push("a").await;
        let handed = shop.lease(&wish(&["a"], Duration::ZERO)).await.unwrap();
        let wished = wish(&["a"], LONG);
        let mut next = pin!(shop.lease(&wished));
        until_it_waits(&shop, 1, next.as_mut()).await;
        drop(handed);
        assert_eq!(next.await.unwrap().accept()[0].attempt, 1);
    });
}

#[test]
fn the_job_of_a_process_that_ended_goes_to_the_next_who_asks() {
    let shop = Shop::new();
    run(async {
        let id = shop.push("a").await;
        let process = &shop.world.processes;
        process.start(4711);
        let beat = Beat {
            pid: Some(4711),
            host: Some(FakeProcesses::HOST_NAME.to_owned()),
            ..Beat::default()
        };
        let me = worker("w1");
        shop.app().queue_beat(&shop.tenant, &me, beat, (None, None)).await.unwrap();
        let mine = Wish { worker: Some(me.clone()), ..wish(&["a"], Duration::ZERO) };
        let leased = shop.lease(&mine).await.unwrap().accept().pop().unwrap();
        let wished = wish(&["a"], LONG);
        let mut next = pin!(shop.lease(&wished));
        until_it_waits(&shop, 1, next.as_mut()).await;
        process.kill(4711);
        let again = next.await.unwrap().accept().pop().unwrap();
        assert_eq!((again.token.job, again.attempt, again.errors, again.crashes), (id, 2, 0, 1));
        assert_eq!(shop.done(leased.token).await.unwrap_err().code(), "lease_lost");
        let Found::Live(job) = shop.app().queue_job(&shop.tenant, id).await.unwrap() else {
            panic!("it runs");
        };
        assert!(job.last_error.unwrap().message.contains("4711"), "the cause is told");
    });
}

#[test]
fn whoever_waits_for_a_job_is_told_when_it_is_over() {
    let shop = Shop::new();
    run(async {
        let id = shop.push("a").await;
        let leased = shop.take("a").await.unwrap();
        let app = shop.app();
        let mut over = pin!(app.queue_job_when_over(&shop.tenant, id, LONG, pending()));
        let polled = std::future::poll_fn(|cx| Poll::Ready(over.as_mut().poll(cx).is_pending()));
        assert!(polled.await, "it runs");
        shop.done(leased.token).await.unwrap();
        let Found::Past(job) = over.await.unwrap().0 else { panic!("it is over") };
        assert_eq!(job.result.as_deref(), Some(b"[1]".as_slice()));
    });
}

#[test]
fn what_is_due_runs_and_what_is_silent_runs_again() {
    let shop = Shop::new();
    run(async {
        let id = shop.push("a").await;
        let leased = shop.take("a").await.unwrap();
        let retry = Retry::After(Duration::from_secs(10));
        assert_eq!(shop.fail(leased.token, retry).await.unwrap(), State::Delayed);
        shop.world.clock.advance(Duration::from_secs(10));
        shop.settle();
        assert_eq!(shop.state(id).await.unwrap(), State::Waiting);
        let leased = shop.take("a").await.unwrap();
        assert_eq!((leased.attempt, leased.errors), (2, 1));
        shop.world.clock.advance(Duration::from_secs(61));
        shop.settle();
        let again = shop.take("a").await.unwrap();
        assert_eq!((again.attempt, again.errors, again.crashes), (3, 1, 1));
        assert_eq!(shop.done(leased.token).await.unwrap_err().code(), "lease_lost");
    });
}

#[test]
fn a_full_disk_does_not_keep_the_history_from_being_made_smaller() {
    let shop = Shop::new();
    shop.app().history().writer.pretend_disk_short();
    shop.app().prune_past().unwrap();
    shop.app().history().writer.pretend_disk_short();
    assert!(shop.app().remove_past_step(shop.tenant.id).unwrap());
}
