//! A line through thirty days of one series.

use std::hint::black_box;
use std::time::{Duration, Instant};

use holdfast::base::rng::Rng;
use holdfast::base::time::Clock as _;
use holdfast::series::fold::Function;
use holdfast::series::query::Query;
use holdfast::series::select::Selector;
use holdfast::series::{HOUR_MS, Kind};
use holdfast::testing::series::Shop;
use holdfast::trend::line::Fit;
use holdfast::trend::moments::Moments;
use holdfast::trend::report::{Ask, Unit, report};
use holdfast::trend::season::Baseline;
use holdfast::trend::threshold::{Side, Threshold};
use holdfast::trend::{Sample, finite};

use crate::figures::{Limit, median, target};
use crate::shop::{DAYS, Told, record, tenant};
use crate::store::{folder, open};
use crate::{micros, rounds};

/// A disk that fills by 2 GB a day, with the breathing of days and noise.
fn disk(at_ms: i64) -> f64 {
    let days = at_ms as f64 / 864e5;
    let noise = Rng::from_seed(at_ms.unsigned_abs()).below(1 << 28) as f64;
    4e11 + 2e9 * days + 1e9 * (days * std::f64::consts::TAU).sin() + noise
}

/// Another series of the same group: a query reads what belongs to one of forty.
fn others() -> impl Iterator<Item = Told> {
    (0..39).map(|number| Told {
        name: format!("server_other{{n=\"{number}\"}}"),
        kind: Kind::Gauge,
        value: Box::new(move |at_ms| disk(at_ms + number * 1_000_003)),
    })
}

pub(crate) fn scene() {
    let folder = folder();
    let mut shop = open(folder.path(), Duration::ZERO);
    let own =
        Told { name: "server_disk_used_bytes".into(), kind: Kind::Gauge, value: Box::new(disk) };
    let all: Vec<Told> = std::iter::once(own).chain(others()).collect();
    record(&mut shop, &all);

    let hourly = hours(&shop);
    assert!(715 <= hourly.len(), "{} hours", hourly.len());
    println!("  30 days, {} points of an hour", hourly.len());
    let daily: Vec<Moments> = hourly.chunks(24).map(Moments::of).collect();
    let merged = micros(1000, || {
        let mut all = Moments::default();
        for day in &daily {
            all.merge(day);
        }
        black_box(all.line());
    });
    println!("  the line of the moments of {} days, us {:>21.2}", daily.len(), merged);
    let line = micros(1000, || {
        black_box(Moments::of(&hourly).line());
    });
    println!("  the line of all points, us {line:>36.2}");
    let fit = micros(1000, || {
        black_box(Fit::of(&hourly));
    });
    target("30 days: line, error, significance, us", fit, Limit::AtMost(200.0));
    let read: Vec<f64> = (0..rounds() * 20)
        .map(|_| {
            let began = Instant::now();
            black_box(Fit::of(&hours(&shop)));
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    target("the same, read from the file before, us", median(read), Limit::AtMost(200.0));

    let usual = micros(10, || {
        black_box(Baseline::of(&hourly));
    });
    println!("  what is usual at each hour, us {usual:>32.0}");
    let baseline = Baseline::of(&hourly).unwrap();
    let bytes = size_of_val(&baseline) as f64;
    target("what is usual, bytes in memory", bytes, Limit::AtMost(199.0));
    let now_ms = shop.world.clock.now().wall.unix_ms();
    let ask = Ask {
        step_ms: HOUR_MS,
        now_ms,
        threshold: Some(Threshold { value: 6e11, side: Side::Above }),
        usual: Some(&baseline),
        floor: Some(0.0),
        unit: Unit::Bytes,
    };
    let whole = micros(10, || drop(black_box(report(&hourly, &ask))));
    println!("  everything: changes, Theil-Sen, forecast, date, us {whole:>12.0}");
    println!("  {}", report(&hourly, &ask).unwrap().text);
}

/// Means of the hours of thirty days, as the file has them.
fn hours(shop: &Shop) -> Vec<Sample> {
    let now_ms = shop.world.clock.now().wall.unix_ms();
    let to_ms = now_ms - now_ms % HOUR_MS;
    let query = Query {
        select: Selector::parse("server_disk_used_bytes").unwrap(),
        function: Function::Avg,
        by: None,
        reduce: None,
        from_ms: to_ms - i64::try_from(DAYS).unwrap() * 24 * HOUR_MS,
        to_ms,
        step_ms: Some(HOUR_MS),
        now_ms,
    };
    let within = Duration::from_secs(15);
    let answer = shop.wait(shop.world.app.query_series(tenant(shop).id, query, within)).unwrap();
    finite(&answer.lines[0].points)
}
