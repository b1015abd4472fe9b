//! Trends of a world in memory: which steps, which samples, and whose.

use std::time::Duration;

use super::{BadStretch, Done, Question, Side, Stretch, chosen, floor_of, unit_of};
use crate::app::Error;
use crate::base::id::TenantId;
use crate::base::limits::{TREND_POINTS_MAX, TREND_SERIES_MAX};
use crate::base::name::{QueueName, TenantName};
use crate::base::time::{Clock as _, Timestamp};
use crate::series::fold::{Function, Steps};
use crate::series::labels::Labels;
use crate::series::memory::{Incoming, Name};
use crate::series::select::Selector;
use crate::series::{DAY_MS, HOUR_MS, Kind, Tier};
use crate::testing::app::World;
use crate::trend::report::{Direction, TooLittle, Unit};
use crate::trend::threshold::{Side as Beyond, Threshold};

const MINUTE_MS: i64 = 60_000;
const OTHER: TenantId = TenantId::from_raw(77);

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap().block_on(work)
}

fn tenant(world: &World) -> TenantId {
    world.app.directory().tenant(&TenantName::parse("default").unwrap()).unwrap().id
}

fn now_ms(world: &World) -> i64 {
    world.clock.now().wall.unix_ms()
}

/// Lets the clock stand at a whole hour.
fn whole_hour(world: &World) {
    let left = HOUR_MS - now_ms(world).rem_euclid(HOUR_MS);
    world.clock.advance(Duration::from_millis(left.unsigned_abs()));
}

/// Writes samples of one series of a tenant.
fn write(
    world: &World,
    tenant: TenantId,
    (metric, labels): (&str, &[(&str, &str)]),
    kind: Kind,
    samples: &[(i64, f64)],
) {
    let labels = Labels::new(metric, labels.iter().copied()).unwrap();
    let incoming = |&(at, value): &(i64, f64)| Incoming {
        place: 0,
        name: Name::Labels(labels.clone()),
        kind: Some(kind),
        time_ms: Some(at),
        value,
    };
    let samples: Vec<_> = samples.iter().map(incoming).collect();
    let written = world.app.series().write(world.clock.now(), tenant, 1000, &samples).unwrap();
    assert_eq!(written.refused_count, 0, "{:?}", written.refused);
}

fn float(n: i64) -> f64 {
    f64::from(i32::try_from(n).unwrap())
}

fn queue() -> QueueName {
    QueueName::parse("mail.new").unwrap()
}

fn question(world: &World, period: Duration, interval: Option<Duration>) -> Question {
    let stretch = Stretch::new(period, interval).unwrap();
    Question { stretch, threshold: None, now: world.clock.now().wall }
}

fn hour(world: &World) -> Question {
    question(world, Duration::from_hours(1), None)
}

/// A value every ten seconds of the last `minutes`, the last one ten seconds ago.
fn every_ten_seconds(world: &World, minutes: i64, value: impl Fn(i64) -> f64) -> Vec<(i64, f64)> {
    let now = now_ms(world);
    (0..minutes * 6).map(|n| (now - minutes * MINUTE_MS + n * 10_000, value(n))).collect()
}

#[test]
fn a_period_has_about_sixty_round_steps() {
    let minutes = |n: u64| Duration::from_mins(n);
    for (period, step) in [
        (minutes(1), 10),
        (minutes(15), 20),
        (minutes(30), 30),
        (minutes(60), 60),
        (minutes(3 * 60), 120),
        (minutes(6 * 60), 300),
        (minutes(24 * 60), 1800),
        (minutes(7 * 24 * 60), 10_800),
        (minutes(30 * 24 * 60), 43_200),
        (minutes(400 * 24 * 60), 604_800),
    ] {
        assert_eq!(chosen(period), Duration::from_secs(step), "{period:?}");
        let stretch = Stretch::new(period, None).unwrap();
        assert_eq!((stretch.period(), stretch.step().as_secs()), (period, step));
    }
}

#[test]
fn steps_that_a_period_has_not_are_refused() {
    let code = |period: u64, interval: Option<u64>| {
        let interval = interval.map(Duration::from_secs);
        Stretch::new(Duration::from_secs(period), interval).map_err(|bad| bad.code())
    };
    assert_eq!(code(59, None), Err("invalid_period"));
    assert_eq!(code(400 * 86_400 + 1, None), Err("invalid_period"));
    assert_eq!(code(u64::MAX, None), Err("invalid_period"));
    assert_eq!(code(3600, Some(9)), Err("invalid_interval"));
    assert_eq!(code(3600, Some(1201)), Err("invalid_interval"));
    assert_eq!(code(3600, Some(u64::MAX)), Err("invalid_interval"));
    assert_eq!(code(10 * (TREND_POINTS_MAX + 1), Some(10)), Err("invalid_interval"));
    let fine = Stretch::new(Duration::from_hours(1), Some(Duration::from_millis(10_001)));
    assert_eq!(fine.map_err(|bad| bad.code()), Err("invalid_interval"));
    assert!(code(3600, Some(1200)).is_ok() && code(10 * TREND_POINTS_MAX, Some(10)).is_ok());
    let Err(BadStretch::Interval(text)) =
        Stretch::new(Duration::from_hours(1), Some(Duration::from_hours(2)))
    else {
        panic!("two hours are no part of one");
    };
    assert!(text.contains("2h is too long for one of 1h"), "{text}");
}

#[test]
fn of_what_is_recorded_every_ten_seconds_steps_are_whole_tens() {
    let hour = Duration::from_hours(1);
    let code = |interval: u64| {
        let interval = Some(Duration::from_secs(interval));
        assert!(Stretch::new(hour, interval).is_ok(), "series have any whole second");
        Stretch::of_recorded(hour, interval).map(|_| ()).map_err(|bad| bad.code())
    };
    assert_eq!(
        [10, 11, 15, 20, 90].map(code).map(|it| it.is_ok()),
        [true, false, false, true, true]
    );
    assert_eq!(code(15), Err("invalid_interval"));
    assert!(Stretch::of_recorded(hour, None).is_ok());
}

#[test]
fn many_workers_of_a_minute_count_more_than_one_of_another() {
    run(async {
        let world = World::new(1);
        whole_hour(&world);
        let own = tenant(&world);
        // For half an hour ten workers have nothing to do, then one works all the time.
        let idle = every_ten_seconds(&world, 60, |n| float(n.min(180)) * 100.0);
        let busy = every_ten_seconds(&world, 60, |n| float((n - 180).max(0)) * 10.0);
        write(&world, own, ("worker_busy_seconds_total", &[]), Kind::Counter, &busy);
        write(&world, own, ("worker_idle_seconds_total", &[]), Kind::Counter, &idle);
        let workers = world.app.worker_trend(own, hour(&world)).await.unwrap();
        let average = workers.trend.outcome.as_ref().unwrap().statistics.average;
        let expected = 100.0 * 1790.0 / (1790.0 + 18_000.0);
        assert!((average - expected).abs() < 1e-9, "{average}, not {expected}: no mean of ratios");
    });
}

#[test]
fn the_step_that_runs_is_left_out_and_what_is_over_is_a_whole_number_of_steps() {
    let at = |ms: i64| Timestamp::from_unix_ms(1_700_000_000_000 / DAY_MS * DAY_MS + ms).unwrap();
    let stretch = Stretch::new(Duration::from_secs(1000), Some(Duration::from_mins(5))).unwrap();
    let start = at(0).unix_ms();
    let range = |from: i64, to: i64, now: i64| Steps {
        from_ms: start + from,
        to_ms: start + to,
        step_ms: 300_000,
        now_ms: start + now,
    };
    assert_eq!(stretch.range(at(1_199_999)), range(0, 900_000, 1_199_999));
    assert_eq!(stretch.range(at(1_200_000)), range(300_000, 1_200_000, 1_200_000));
}

#[test]
fn the_depth_of_a_queue_is_what_was_recorded_of_it_in_the_middle_of_each_step() {
    run(async {
        let world = World::new(1);
        whole_hour(&world);
        world.clock.advance(Duration::from_secs(25));
        let (now, own) = (now_ms(&world), tenant(&world));
        let start = now - now % MINUTE_MS;
        // Ten more jobs each minute, and a minute of which nothing is known.
        let minutes = (0..60).filter(|minute| *minute != 30);
        let samples: Vec<(i64, f64)> = minutes
            .flat_map(|minute| {
                let first = start - HOUR_MS + minute * MINUTE_MS;
                (0..6).map(move |n| (first + n * 10_000, float(minute * 10)))
            })
            .chain([(start, 1e6)])
            .collect();
        let labels = [("queue", "mail.new")];
        write(&world, own, ("queue_waiting", &labels), Kind::Gauge, &samples);
        // Not the server's own.
        let beside = [("host", "a"), ("queue", "mail.new")];
        write(&world, own, ("queue_waiting", &beside), Kind::Gauge, &[(start - 5000, 1e9)]);
        write(&world, OTHER, ("queue_waiting", &labels), Kind::Gauge, &[(start - 5000, 1e9)]);

        let trend = world.app.queue_trend(own, (queue(), Side::Depth), hour(&world)).await.unwrap();
        let middle = |minute: i64| start - HOUR_MS + minute * MINUTE_MS + MINUTE_MS / 2;
        let expected: Vec<(i64, f64)> =
            (0..60).filter(|n| *n != 30).map(|n| (middle(n), float(n * 10))).collect();
        assert_eq!(trend.samples, expected);
        assert_eq!((trend.tier, trend.step_ms, trend.to_ms), (Tier::Raw, MINUTE_MS, start));
        let report = trend.outcome.as_ref().unwrap();
        assert_eq!((report.count, report.statistics.current), (59, 590.0));
        assert_eq!(report.trend.direction, Direction::Increasing);
        let slope = report.trend.fit.line.slope;
        assert!((slope - 10.0 / 60.0).abs() < 1e-12, "{slope}");
        let next = trend.ahead.first().expect("a straight line goes on");
        assert_eq!(next.at_ms, start + MINUTE_MS / 2);
        assert!((next.value - 600.0).abs() < 1.0, "{next:?}");
        assert_eq!(trend.ahead.len(), 15, "a quarter of the period");
    });
}

#[test]
fn throughput_is_counted_in_jobs_a_minute_also_over_a_restart() {
    run(async {
        let world = World::new(1);
        whole_hour(&world);
        let own = tenant(&world);
        // Five a ten seconds; after half an hour the counter begins anew.
        let count = |n: i64| if n < 180 { 1000 + n * 5 } else { (n - 179) * 5 };
        let samples = every_ten_seconds(&world, 60, |n| float(count(n)));
        let name = ("queue_done_total", &[("queue", "mail.new")][..]);
        write(&world, own, name, Kind::Counter, &samples);
        write(&world, own, ("queue_waiting", name.1), Kind::Gauge, &samples);
        let half = question(&world, Duration::from_hours(1), Some(Duration::from_mins(5)));
        let side = Side::Throughput;
        let trend = world.app.queue_trend(own, (queue(), side), half).await.unwrap();
        let values: Vec<f64> = trend.samples.iter().map(|(_, value)| *value).collect();
        // The first sample of all has none before it.
        assert_eq!(values.len(), 12);
        assert!((values[0] - 29.0).abs() < 1e-9, "{values:?}");
        assert!(values[1..].iter().all(|value| (value - 30.0).abs() < 1e-9), "{values:?}");
        let done = Done::of(&trend);
        assert_eq!((done.total, done.per_step), (1795.0, 1795.0 / 12.0));
        assert!((done.per_minute - 1795.0 / 60.0).abs() < 1e-9, "{done:?}");
    });
}

#[test]
fn the_efficiency_of_workers_is_the_part_of_their_time_that_they_work() {
    run(async {
        let world = World::new(1);
        whole_hour(&world);
        let own = tenant(&world);
        let at = |n: i64, from: i64, each: f64| float((n - from).max(0)) * each;
        // For half an hour three of four seconds; then nobody is there, and then all is idle.
        let busy = every_ten_seconds(&world, 60, |n| at(n.min(180), 0, 7.5));
        let idle = every_ten_seconds(&world, 60, |n| at(n.min(180), 0, 2.5) + at(n, 300, 10.0));
        write(&world, own, ("worker_busy_seconds_total", &[]), Kind::Counter, &busy);
        write(&world, own, ("worker_idle_seconds_total", &[]), Kind::Counter, &idle);
        let memory = every_ten_seconds(&world, 60, |n| if n % 2 == 0 { 1e6 } else { 3e6 });
        write(&world, own, ("worker_memory_bytes", &[]), Kind::Gauge, &memory);
        let workers = world.app.worker_trend(own, hour(&world)).await.unwrap();
        let values: Vec<f64> = workers.trend.samples.iter().map(|(_, value)| *value).collect();
        assert_eq!(values.len(), 41, "the minutes in which nobody was there are gaps: {values:?}");
        assert!(values[..30].iter().all(|value| (value - 75.0).abs() < 1e-9), "{values:?}");
        assert!(values[31..].iter().all(|value| *value == 0.0), "{values:?}");
        // Half an hour of 7.5 and 2.5 in ten seconds, and ten minutes of 10 idle ones.
        let (worked, waited) = (180.0 * 7.5, 180.0 * 2.5 + 590.0);
        let average = workers.trend.outcome.as_ref().unwrap().statistics.average;
        assert!((average - 100.0 * worked / (worked + waited)).abs() < 1e-9, "{average}");
        assert_eq!((workers.memory_bytes, workers.cpu_percent), (Some(2e6), None));

        let nobody = world.app.worker_trend(OTHER, hour(&world)).await.unwrap();
        assert_eq!(nobody.trend.outcome, Err(TooLittle::Nothing));
        assert_eq!(nobody.memory_bytes, None);
    });
}

#[test]
fn what_is_not_there_is_told_apart_from_what_was_not_recorded() {
    run(async {
        let world = World::new(1);
        whole_hour(&world);
        let own = tenant(&world);
        let asked = world.app.queue_trend(own, (queue(), Side::Depth), hour(&world)).await;
        assert!(matches!(&asked, Err(Error::UnknownQueue(name)) if *name == queue()), "{asked:?}");
        let old = [(now_ms(&world) - 2 * HOUR_MS, 1.0)];
        let labels = [("queue", "mail.new")];
        write(&world, own, ("queue_waiting", &labels), Kind::Gauge, &old);
        let trend = world.app.queue_trend(own, (queue(), Side::Depth), hour(&world)).await.unwrap();
        assert_eq!(trend.outcome, Err(TooLittle::Nothing), "a queue that was");
        assert!(trend.ahead.is_empty());
        let theirs = world.app.queue_trend(OTHER, (queue(), Side::Depth), hour(&world)).await;
        assert!(matches!(theirs, Err(Error::UnknownQueue(_))));

        let select = |text: &str| (Selector::parse(text).unwrap(), None);
        let none = world.app.series_trends(own, select("nothing"), hour(&world)).await;
        assert!(matches!(&none, Err(error) if error.code() == "unknown_series"), "{none:?}");
        let theirs = world.app.series_trends(OTHER, select("queue_waiting"), hour(&world)).await;
        assert!(matches!(&theirs, Err(error) if error.code() == "unknown_series"));
        for n in 0..=TREND_SERIES_MAX {
            let n = n.to_string();
            write(&world, own, ("many", &[("n", &n)]), Kind::Gauge, &[(now_ms(&world), 1.0)]);
        }
        let many = world.app.series_trends(own, select("many"), hour(&world)).await;
        assert!(matches!(&many, Err(error) if error.code() == "too_many_series"), "{many:?}");
        let fewer = select("many{n!=\"7\"}");
        let fewer = world.app.series_trends(own, fewer, hour(&world)).await.unwrap();
        assert_eq!(fewer.len(), TREND_SERIES_MAX);
        assert!(fewer.iter().all(|one| one.trend.outcome.is_err()));
    });
}

#[test]
fn any_series_is_looked_at_as_its_kind_asks_for() {
    run(async {
        let world = World::new(1);
        whole_hour(&world);
        let own = tenant(&world);
        let gauge = every_ten_seconds(&world, 60, float);
        write(&world, own, ("room_celsius", &[("part", "x")]), Kind::Gauge, &gauge);
        let counter = every_ten_seconds(&world, 60, |n| float(n * 40));
        write(&world, own, ("sent_total", &[("part", "x")]), Kind::Counter, &counter);
        let select = Selector::parse("{part=\"x\"}").unwrap();
        let threshold = Threshold { value: 420.0, side: Beyond::Above };
        let question = Question { threshold: Some(threshold), ..hour(&world) };
        let trends = world.app.series_trends(own, (select.clone(), None), question).await.unwrap();
        let told: Vec<_> = trends.iter().map(|one| (one.metric.as_str(), one.function)).collect();
        assert_eq!(told, [("room_celsius", Function::Avg), ("sent_total", Function::Rate)]);
        assert_eq!(trends[0].labels, [("part".to_owned(), "x".to_owned())]);
        let rate = trends[1].trend.outcome.as_ref().unwrap().statistics.current;
        assert!((rate - 4.0).abs() < 1e-9, "{rate}");
        let (_, reached) = trends[0].trend.outcome.as_ref().unwrap().threshold.unwrap();
        let left = reached.unwrap().at_ms - now_ms(&world);
        // At 360 now, six more each minute.
        assert!((left - 600_000).abs() < 20_000, "{left}");

        let max = world.app.series_trends(own, (select, Some(Function::Max)), question).await;
        let last = max.unwrap()[1].trend.outcome.as_ref().unwrap().statistics.current;
        assert!((last - 359.0 * 40.0).abs() < 1e-9, "{last}");
    });
}

#[test]
fn what_is_usual_at_the_hour_is_known_from_the_weeks_before() {
    run(async {
        let world = World::new(1);
        whole_hour(&world);
        let own = tenant(&world);
        let name = ("load", &[][..]);
        // Nights are quiet. A late sample is one of the last day.
        for hour in 0..24 * 10 {
            let at = now_ms(&world);
            let busy = (8..20).contains(&(at / HOUR_MS % 24));
            let value = if busy { 100.0 } else { 10.0 } + float(hour % 3);
            write(&world, own, name, Kind::Gauge, &[(at + HOUR_MS / 2 - HOUR_MS, value)]);
            world.clock.advance(Duration::from_hours(1));
        }
        while (now_ms(&world) / HOUR_MS) % 24 != 3 {
            world.clock.advance(Duration::from_hours(1));
        }
        let night = every_ten_seconds(&world, 90, |_| 100.0);
        write(&world, own, name, Kind::Gauge, &night);
        let select = Selector::parse("load").unwrap();
        let trends = world.app.series_trends(own, (select, None), hour(&world)).await.unwrap();
        let anomaly = trends[0].trend.outcome.as_ref().unwrap().anomaly.expect("it is known");
        assert!(anomaly.is_anomaly() && 0.0 < anomaly.score, "{anomaly:?}");
        assert!((anomaly.usual - 11.0).abs() < 5.0, "{anomaly:?}");

        let day = question(&world, Duration::from_hours(24 * 9), Some(Duration::from_hours(12)));
        let select = Selector::parse("load").unwrap();
        let trends = world.app.series_trends(own, (select, None), day).await.unwrap();
        let report = trends[0].trend.outcome.as_ref().unwrap();
        assert_eq!(report.anomaly, None, "half days are not compared with hours");
    });
}

#[test]
fn units_and_floors_follow_from_what_is_measured() {
    assert_eq!(unit_of("net_bytes_total", Function::Rate), Unit::Of("bytes a second"));
    assert_eq!(unit_of("net_bytes_total", Function::Increase), Unit::Bytes);
    assert_eq!(unit_of("jobs_total", Function::Rate), Unit::Plain);
    assert_eq!(unit_of("disk_bytes", Function::Max), Unit::of_metric("disk_bytes"));
    assert_eq!(unit_of("disk_bytes", Function::Count), Unit::Plain);
    let (above, below) = ([(0, 1.0)], [(0, -1.0)]);
    assert_eq!(floor_of(Function::Rate, Unit::Plain, &above), Some(0.0));
    assert_eq!(floor_of(Function::Avg, Unit::Percent, &above), Some(0.0));
    assert_eq!(floor_of(Function::Avg, Unit::Percent, &below), None);
    assert_eq!(floor_of(Function::Avg, Unit::Plain, &above), None);
}
