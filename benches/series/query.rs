//! Questions, without any cache of answers.

use std::time::{Duration, Instant};

use holdfast::base::rng::Rng;
use holdfast::base::time::Clock as _;
use holdfast::series::fold::Function;
use holdfast::series::query::Query;
use holdfast::series::select::Selector;
use holdfast::testing::series::Shop;

use crate::figures::{Limit, median, target};
use crate::fleet::Fleet;
use crate::rounds;
use crate::store::{EVERY, TENANT, folder, open, scrape};

const SERIES: usize = 5_000;
const SCRAPES: usize = 25 * 360;
const CALLS: usize = 1_000;

fn ask(shop: &Shop, select: &str, hours: i64, step_ms: i64) -> (usize, Duration) {
    let now_ms = shop.world.clock.now().wall.unix_ms();
    let query = Query {
        select: Selector::parse(select).unwrap(),
        function: Function::Avg,
        by: None,
        reduce: None,
        from_ms: now_ms - hours * 3_600_000,
        to_ms: now_ms,
        step_ms: Some(step_ms),
        now_ms,
    };
    let began = Instant::now();
    let within = Duration::from_secs(15);
    let answer = shop.wait(shop.world.app.query_series(TENANT, query, within)).unwrap();
    let took = began.elapsed();
    let known = answer.lines.iter().flat_map(|line| &line.points);
    (known.filter(|(_, value)| value.is_some()).count(), took)
}

pub(crate) fn scene() {
    let fleet = Fleet::of(SERIES);
    let folder = folder();
    let mut shop = open(folder.path(), Duration::ZERO);
    for moment in 0..SCRAPES {
        scrape(&shop, &fleet.text(moment));
        shop.pass(EVERY);
    }
    println!("  {SERIES} series, {} hours at 10 s", SCRAPES / 360);
    let mut rng = Rng::from_seed(5);
    let mut took: Vec<f64> = (0..CALLS)
        .map(|_| {
            let select = fleet.select(rng.index(SERIES));
            let (points, took) = ask(&shop, &select, 24, 60_000);
            assert!(1_430 <= points, "{select}: {points} points");
            took.as_secs_f64() * 1e3
        })
        .collect();
    took.sort_by(f64::total_cmp);
    println!("  one series, 24 h, 1 min, p50 {:>30.2} ms", took[CALLS / 2]);
    let p99 = took[CALLS * 99 / 100];
    target("one series, 24 h, step 1 min, p99, ms", p99, Limit::AtMost(3.0));
    let wide: Vec<f64> = (0..rounds())
        .map(|_| {
            let (points, took) = ask(&shop, "{instance=~\"m.*\"}", 1, 60_000);
            assert!(SERIES * 55 <= points, "{points} points");
            took.as_secs_f64() * 1e3
        })
        .collect();
    target("5,000 series, 1 h, step 1 min, ms", median(wide), Limit::AtMost(60.0));
    let shut: Vec<f64> = (0..rounds())
        .map(|_| {
            let (points, took) = ask(&shop, "{instance=~\"m.*\"}", 24, 3_600_000);
            assert!(SERIES * 20 <= points, "{points} points");
            took.as_secs_f64() * 1e3
        })
        .collect();
    println!("  5,000 series, 24 h, step 1 h, not rolled up yet {:>11.0} ms", median(shut));
}
