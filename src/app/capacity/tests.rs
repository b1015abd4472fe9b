//! What is measured of a queue: what a new one began with, and what an old one that was not recorded did not.

use std::time::Duration;

use super::{CapacityQuestion, QueueCapacity, of_shared};
use crate::app::directory::TenantEntry;
use crate::app::trends::{Done, Question, Side, Stretch};
use crate::base::name::{QueueName, TenantName};
use crate::base::time::Clock as _;
use crate::queue::job::{Payload, Spec};
use crate::queue::workers::{Beat, WorkerId};
use crate::series::labels::Labels;
use crate::series::memory::{Incoming, Name};
use crate::series::{HOUR_MS, Kind};
use crate::testing::app::World;
use crate::trend::capacity::Advice;

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap().block_on(work)
}

fn tenant(world: &World) -> TenantEntry {
    let name = TenantName::parse("default").unwrap();
    TenantEntry::clone(&world.app.directory().tenant(&name).unwrap())
}

fn queue(name: &str) -> QueueName {
    QueueName::parse(name).unwrap()
}

fn now_ms(world: &World) -> i64 {
    world.clock.now().wall.unix_ms()
}

async fn push(world: &World, name: &str) {
    let spec = Spec::new(queue(name), Payload::json("1"));
    world.app.queue_push(&tenant(world), vec![spec], None).await.unwrap();
}

/// Writes a counter of the queue `mail`.
fn write(world: &World, name: &str, samples: impl Iterator<Item = (i64, f64)>) {
    let labels = Labels::new(name, [("queue", "mail")]).unwrap();
    let incoming = |(at, value): (i64, f64)| Incoming {
        place: 0,
        name: Name::Labels(labels.clone()),
        kind: Some(Kind::Counter),
        time_ms: Some(at),
        value,
    };
    let samples: Vec<_> = samples.map(incoming).collect();
    let tenant = tenant(world).id;
    let written = world.app.series().write(world.clock.now(), tenant, 1000, &samples).unwrap();
    assert_eq!(written.refused_count, 0, "{:?}", written.refused);
}

async fn stands(world: &World) -> QueueCapacity {
    let stretch = Stretch::of_recorded(Duration::from_mins(15), None).unwrap();
    let now = world.clock.now().wall;
    let question = CapacityQuestion { stretch, target: None, around: 1, now };
    world.app.queue_capacity(&tenant(world), &queue("mail"), question).await.unwrap()
}

/// Ten minutes of counters that had 600 and grow by one each ten seconds.
async fn recorded(before: Option<Duration>) -> (f64, f64) {
    let world = World::new(1);
    let left = HOUR_MS - now_ms(&world).rem_euclid(HOUR_MS);
    world.clock.advance(Duration::from_millis(left.unsigned_abs()));
    push(&world, "mail").await;
    let names = ["queue_pushed_total", "queue_done_total"];
    if let Some(before) = before {
        for name in names {
            write(&world, name, [(now_ms(&world), 600.0)].into_iter());
        }
        world.clock.advance(before);
    }
    let now = now_ms(&world);
    for name in names {
        let grows = |n: i32| (now - 600_000 + i64::from(n) * 10_000, 600.0 + f64::from(n));
        write(&world, name, (0..60).map(grows));
    }
    let arrived = stands(&world).await;
    let arrived = arrived.capacity().unwrap().arrivals * arrived.window.as_secs_f64();
    let stretch = Stretch::of_recorded(Duration::from_mins(15), None).unwrap();
    let question = Question { stretch, threshold: None, now: world.clock.now().wall };
    let trend =
        world.app.queue_trend(tenant(&world).id, (queue("mail"), Side::Throughput), question);
    (arrived.round(), Done::of(&trend.await.unwrap()).total)
}

#[test]
fn what_a_new_queue_began_with_arrived_and_what_an_old_one_had_did_not() {
    run(async {
        assert_eq!(recorded(None).await, (659.0, 659.0), "it is new");
        assert_eq!(
            recorded(Some(Duration::from_hours(6))).await,
            (59.0, 59.0),
            "it was not recorded for hours"
        );
        assert_eq!(
            recorded(Some(Duration::from_hours(72))).await,
            (59.0, 59.0),
            "it was not recorded for days"
        );
    });
}

#[test]
fn nobody_is_sent_away_who_works_on_other_queues_too() {
    run(async {
        let world = World::new(1);
        push(&world, "mail").await;
        push(&world, "other").await;
        let tenant = tenant(&world);
        let view = || world.app.queue_view(&tenant, &queue("mail")).unwrap();
        let says = |queues: &[&str]| {
            let queues = queues.iter().map(|name| queue(name)).collect();
            let (beat, id) = (Beat { queues, ..Beat::default() }, WorkerId::parse("w").unwrap());
            let mut workers = world.app.jobs.state.workers.lock();
            workers.beat(tenant.id, &id, beat, world.app.jobs.now()).unwrap();
        };
        says(&["mail"]);
        assert_eq!((view().workers, view().workers_shared), (1, false));
        assert_eq!(of_shared(Advice::Down(1), &view()), Advice::Down(1));
        says(&["mail", "other"]);
        assert_eq!((view().workers, view().workers_shared), (1, true));
        assert_eq!(of_shared(Advice::Down(1), &view()), Advice::Keep);
        for advice in [Advice::Up(3), Advice::Keep, Advice::Unknown] {
            assert_eq!(of_shared(advice, &view()), advice);
        }
    });
}
