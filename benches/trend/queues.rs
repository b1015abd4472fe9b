//! Two hundred queues that are watched: what a minute's look at all of them takes, and what all that can be said of them does.

use std::hint::black_box;
use std::time::{Duration, Instant};

use holdfast::app::trends::{Question, Side, Stretch};
use holdfast::base::name::QueueName;
use holdfast::base::rng::Rng;
use holdfast::base::time::Clock as _;
use holdfast::queue::job::{Payload, Spec};
use holdfast::series::{HOUR_MS, Kind};
use holdfast::testing::series::Shop;

use crate::figures::{Limit, median, target};
use crate::rounds;
use crate::shop::{Told, record, tenant};
use crate::store::{folder, open};

const QUEUES: u64 = 200;

fn name(queue: u64) -> QueueName {
    QueueName::parse(&format!("queue-{queue}")).unwrap()
}

/// More in the day than in the night, and more by chance.
fn depth(queue: u64, at_ms: i64) -> f64 {
    let hour = at_ms.div_euclid(HOUR_MS).rem_euclid(24);
    let chance = Rng::from_seed(queue << 48 ^ at_ms.unsigned_abs()).below(20);
    (if (8..20).contains(&hour) { 100.0 } else { 10.0 }) + chance as f64
}

fn told() -> Vec<Told> {
    let both = |queue: u64| {
        let waiting = Told {
            name: format!("queue_waiting{{queue=\"{}\"}}", name(queue)),
            kind: Kind::Gauge,
            value: Box::new(move |at_ms| depth(queue, at_ms)),
        };
        let done = Told {
            name: format!("queue_done_total{{queue=\"{}\"}}", name(queue)),
            kind: Kind::Counter,
            // A job a second, a little more or less.
            value: Box::new(move |at_ms| (at_ms as f64 / 1e3 + depth(queue, at_ms) / 9.0).floor()),
        };
        [waiting, done]
    };
    (0..QUEUES).flat_map(both).collect()
}

pub(crate) fn scene() {
    let folder = folder();
    let mut shop = open(folder.path(), Duration::ZERO);
    let its = tenant(&shop);
    for queue in 0..QUEUES {
        let spec = Spec::new(name(queue), Payload::json("1"));
        shop.wait(shop.world.app.queue_push(&its, vec![spec], None)).unwrap();
    }
    record(&mut shop, &told());
    // Until it has learnt what is usual of everything.
    let learning: Vec<f64> = (0..8).map(|_| look(&shop)).collect();
    println!("  learning what is usual, the longest look, ms {:>18.0}", longest(&learning));
    let looks = (0..rounds() * 2).map(|_| look(&shop)).collect();
    target("a look at 200 queues: scores, advice, disks, ms", median(looks), Limit::AtMost(100.0));
    let scored = shop.world.app.anomalies().len() as u64;
    assert_eq!(scored, 2 * QUEUES, "depth and throughput of each are known");
    let all: Vec<f64> = (0..rounds()).map(|_| everything(&shop)).collect();
    target("depth and throughput of 200 queues, all of it, ms", median(all), Limit::AtMost(100.0));
}

fn longest(all: &[f64]) -> f64 {
    all.iter().copied().fold(0.0, f64::max)
}

/// Milliseconds of what is done once a minute.
fn look(shop: &Shop) -> f64 {
    let began = Instant::now();
    black_box(shop.world.app.watch_step(shop.world.clock.now()).unwrap());
    began.elapsed().as_secs_f64() * 1e3
}

/// Milliseconds of all 400 trends of the last hour, each asked by itself.
fn everything(shop: &Shop) -> f64 {
    let (its, now) = (tenant(shop).id, shop.world.clock.now().wall);
    let stretch = Stretch::new(Duration::from_hours(1), None).unwrap();
    let began = Instant::now();
    for queue in 0..QUEUES {
        for side in [Side::Depth, Side::Throughput] {
            let question = Question { stretch, threshold: None, now };
            let asked = shop.world.app.queue_trend(its, (name(queue), side), question);
            let trend = shop.wait(asked).unwrap();
            assert!(trend.outcome.is_ok(), "queue {queue}");
        }
    }
    began.elapsed().as_secs_f64() * 1e3
}
