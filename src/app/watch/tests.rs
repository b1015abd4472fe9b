//! What is watched, in a world in memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Baselines, DISK_R2_MIN, Group, HOST, LEARN_AGAIN, Looked, Metric, QUEUE, TOTALS_KEPT,
    WARN_EVERY, Watch, disks, hours_left,
};
use crate::app::capacity::CapacityQuestion;
use crate::app::directory::TenantEntry;
use crate::app::queue::{QueueView, Wish};
use crate::app::series_query::Asker;
use crate::app::trends::{Question, Side, Stretch};
use crate::base::limits::WATCH_EVERY;
use crate::base::name::{QueueName, TenantName};
use crate::base::rng::Rng;
use crate::base::time::Clock as _;
use crate::exec::worker::Worker as _;
use crate::host::signals::{Beside, Signal};
use crate::http::recorder::Recorder;
use crate::http::routes::ROUTES;
use crate::queue::figures::Totals;
use crate::queue::job::{End, LeaseToken, Payload, Spec};
use crate::queue::settings::Settings;
use crate::queue::workers::WorkerId;
use crate::series::labels::Labels;
use crate::series::memory::{Incoming, Name};
use crate::series::{HOUR_MS, Kind};
use crate::testing::app::World;
use crate::trend::Sample;
use crate::trend::capacity::Advice;
use crate::trend::line::Fit;
use crate::trend::season::Baseline;

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap().block_on(work)
}

fn default_tenant(world: &World) -> TenantEntry {
    let name = TenantName::parse("default").unwrap();
    TenantEntry::clone(&world.app.directory().tenant(&name).unwrap())
}

fn now_ms(world: &World) -> i64 {
    world.clock.now().wall.unix_ms()
}

fn write(world: &World, (metric, labels): (&str, &[(&str, &str)]), at_ms: i64, value: f64) {
    let labels = Labels::new(metric, labels.iter().copied()).unwrap();
    let (name, kind) = (Name::Labels(labels), Some(Kind::of_metric(metric)));
    let sample = Incoming { place: 0, name, kind, time_ms: Some(at_ms), value };
    let tenant = default_tenant(world).id;
    let written = world.app.series().write(world.clock.now(), tenant, 50_000, &[sample]).unwrap();
    assert_eq!(written.refused_count, 0, "{:?}", written.refused);
}

/// Series of a metric with labels that begin like this and a number more, with a sample each.
fn write_many(world: &World, metric: &str, labels: &[(&str, &str)], (more, count): (&str, u32)) {
    let tenant = default_tenant(world).id;
    let incoming = |n: u32| {
        let number = format!("n{n}");
        let labels = labels.iter().copied().chain([(more, &*number)]);
        let name = Name::Labels(Labels::new(metric, labels).unwrap());
        let kind = Some(Kind::of_metric(metric));
        Incoming { place: 0, name, kind, time_ms: Some(now_ms(world)), value: 1.0 }
    };
    let all: Vec<Incoming<'_>> = (0..count).map(incoming).collect();
    for some in all.chunks(1_000) {
        let written = world.app.series().write(world.clock.now(), tenant, 50_000, some).unwrap();
        assert_eq!(written.refused_count, 0, "{:?}", written.refused);
    }
}

fn look(world: &World) -> Looked {
    world.app.watch_step(world.clock.now()).unwrap()
}

fn queue(name: &str) -> QueueName {
    QueueName::parse(name).unwrap()
}

/// A queue that is there, with a job in it.
async fn push(world: &World, name: &str) {
    let spec = Spec::new(queue(name), Payload::json("1"));
    world.app.queue_push(&default_tenant(world), vec![spec], None).await.unwrap();
}

/// Leases a job, as worker `w`.
async fn take(world: &World, name: &str) -> LeaseToken {
    let wish = Wish {
        queues: vec![queue(name)],
        max: 1,
        lease: None,
        wait: Duration::ZERO,
        worker: Some(WorkerId::parse("w").unwrap()),
        peer: None,
    };
    let tenant = default_tenant(world);
    let (handed, _) = world.app.queue_lease(&tenant, &wish, std::future::pending()).await.unwrap();
    let handed = handed.expect("there is one");
    handed.receipt.accept();
    handed.jobs[0].token
}

async fn done(world: &World, lease: LeaseToken) {
    let end = End::Done { result: None };
    world.app.queue_end(&default_tenant(world), lease, end).await.unwrap();
}

fn view(world: &World, name: &str) -> QueueView {
    world.app.queue_view(&default_tenant(world), &queue(name)).unwrap()
}

/// Lets the clock stand at a whole hour of this hour of the day.
fn hour_of_day(world: &World, hour: i64) {
    let left = HOUR_MS - now_ms(world).rem_euclid(HOUR_MS);
    world.clock.advance(Duration::from_millis(left.unsigned_abs()));
    while now_ms(world) / HOUR_MS % 24 != hour {
        world.clock.advance(Duration::from_hours(1));
    }
}

#[test]
fn advice_follows_from_the_totals_of_the_last_minutes_and_goes_with_its_queue() {
    run(async {
        let world = World::new(1);
        push(&world, "mail").await;
        let (watch, tenant) = (Watch::default(), default_tenant(&world).id);
        let mut view = view(&world, "mail");
        view.workers = 1;
        let note = |view: &QueueView| {
            world.clock.advance(WATCH_EVERY);
            watch.note(world.clock.mono(), &[(tenant, view.clone())]);
        };
        note(&view);
        assert_eq!(watch.advice(tenant, &queue("mail")), Advice::Unknown);
        for _ in 0..6 {
            // Two a second, half a second each, and one of ten tried twice: more than one worker does.
            view.figures.totals.pushed += 120;
            view.figures.totals.done += 120;
            view.figures.totals.failed += 12;
            view.figures.totals.run += Duration::from_secs(66);
            note(&view);
        }
        let advice = watch.advice(tenant, &queue("mail"));
        assert!(matches!(advice, Advice::Up(workers) if 2 <= workers), "{advice:?}");
        assert_eq!(watch.advice(tenant, &queue("else")), Advice::Unknown);

        // A queue that is paused says nothing of its workers.
        let mut paused = view.clone();
        let settings = Settings { paused: true, ..Settings::clone(&paused.settings) };
        paused.settings = Arc::new(settings);
        note(&paused);
        assert_eq!(watch.advice(tenant, &queue("mail")), Advice::Unknown);

        // One that was forgotten and came back counts anew.
        view.figures.totals = Totals { pushed: 5, ..Totals::default() };
        note(&view);
        assert_eq!(watch.0.lock().queues[&(tenant, queue("mail"))].totals.len(), 1);
        watch.note(world.clock.mono(), &[]);
        assert!(watch.0.lock().queues.is_empty());
    });
}

#[test]
fn memory_of_totals_has_a_bound() {
    run(async {
        let world = World::new(1);
        push(&world, "mail").await;
        let (watch, tenant) = (Watch::default(), default_tenant(&world).id);
        for _ in 0..100 {
            world.clock.advance(WATCH_EVERY);
            watch.note(world.clock.mono(), &[(tenant, view(&world, "mail"))]);
        }
        let kept = watch.0.lock().queues[&(tenant, queue("mail"))].totals.len();
        assert_eq!(kept, TOTALS_KEPT);
    });
}

#[test]
fn what_is_out_of_the_ordinary_is_found_once_it_is_known_what_is_usual() {
    run(async {
        let world = World::new(1);
        push(&world, "mail").await;
        hour_of_day(&world, 0);
        let labels = [("queue", "mail")];
        for hour in 0..24 * 10 {
            let at = now_ms(&world);
            let busy = if (8..20).contains(&(at / HOUR_MS % 24)) { 100.0 } else { 4.0 };
            write(&world, ("queue_waiting", &labels), at, busy + f64::from(hour % 3));
            write(&world, ("queue_waiting", &[("queue", "other")]), at, busy);
            world.clock.advance(Duration::from_hours(1));
        }
        hour_of_day(&world, 2);
        let groups = HOST.len() + QUEUE.len();
        let looked: Vec<Looked> = (0..groups + 2).map(|_| look(&world)).collect();
        let learnt: usize = looked.iter().map(|looked| looked.learnt).sum();
        assert_eq!(learnt, 1, "each group once, and of queues that are there: {looked:?}");
        assert!(looked.iter().all(|looked| looked.queues == 1 && looked.scored == 0));
        assert!(world.app.anomalies().is_empty(), "nothing was recorded in the last hour");

        let jam = |world: &World| {
            for minute in 0..70 {
                let at = now_ms(world) - minute * 60_000;
                write(world, ("queue_waiting", &labels), at, 100.0);
            }
        };
        jam(&world);
        assert_eq!(look(&world).scored, 1);
        let anomalies = world.app.anomalies();
        let one = &anomalies[0];
        assert_eq!((one.metric, one.tenant), ("queue_waiting", default_tenant(&world).id));
        assert_eq!(one.label, Some(("queue", "mail".into())));
        assert!(one.score.is_anomaly() && 0.0 < one.score.score, "{one:?}");

        // The same in the morning is what is usual.
        hour_of_day(&world, 10);
        assert!(world.app.anomalies().is_empty(), "what is old is not told");
        jam(&world);
        look(&world);
        let usual = world.app.anomalies();
        assert!(!usual[0].score.is_anomaly(), "{usual:?}");
        let edge = world.edge(ROUTES);
        let mut recorder = Recorder::new(&edge);
        for _ in 0..2 {
            recorder.step(world.clock.now());
            world.clock.advance(Duration::from_secs(10));
        }
        let name = "holdfast_anomaly_score{metric=\"queue_waiting\",queue=\"mail\"}";
        let listed = world.app.series_page(one.tenant, None, None, 10_000);
        assert!(listed.iter().any(|listed| listed.labels.to_string() == name), "{listed:?}");
    });
}

/// What is usual of something that is always the same, by the hours of ten days.
fn always(world: &World, value: f64) -> Baseline {
    let hours = (0..240).map(|hour| (now_ms(world) - hour * HOUR_MS, value)).rev();
    Baseline::of(&hours.collect::<Vec<Sample>>()).unwrap()
}

#[test]
fn one_that_fails_keeps_no_other_from_its_scores_nor_disks_from_being_looked_at() {
    let world = World::new(1);
    hour_of_day(&world, 12);
    let tenant = default_tenant(&world).id;
    let cpu = "server_cpu_usage_percent";
    let learn = || {
        for (what, object) in
            [(Metric::Host(cpu), ""), (Metric::Depth, "mail"), (Metric::Throughput, "mail")]
        {
            let usual: Baselines = [(object.into(), always(&world, 4.0))].into();
            world.app.watch.learnt((tenant, what), world.clock.mono(), Some(usual));
        }
    };
    learn();
    let mail = [("queue", "mail")];
    write_many(&world, "queue_waiting", &mail, ("of", 10_001));
    for minute in 0..70 {
        let (at, done) =
            (now_ms(&world) - (69 - minute) * 60_000, f64::from(i32::try_from(minute).unwrap()));
        write(&world, (cpu, &[]), at, 90.0);
        write(&world, ("queue_done_total", &mail), at, 50.0 * done);
        for name in ["server_disk_used_bytes", "server_disk_available_bytes"] {
            write(&world, (name, &[("mountpoint", "/")]), at, 1e9);
        }
    }
    let error = world.app.watch_step(world.clock.now()).unwrap_err().to_string();
    assert!(error.contains("10001 series are meant"), "{error}");
    let scored: Vec<&str> = world.app.anomalies().iter().map(|one| one.metric).collect();
    assert_eq!(scored, [cpu, "queue_done_total"]);
    let health = |world: &World| {
        world.app.host_sample(world.clock.now());
        world.clock.advance(Duration::from_secs(10));
        world.app.host_sample(world.clock.now());
        world.app.host_health().unwrap()
    };
    assert!(!health(&world).unavailable.contains(&Signal::DiskEta));

    // Whoever was not reached comes first the next time.
    let last = (tenant, Metric::Throughput);
    world.clock.advance(WATCH_EVERY);
    learn();
    for group in [(tenant, Metric::Host(cpu)), (tenant, Metric::Depth)] {
        world.app.watch.scored(group, world.clock.mono(), None);
    }
    assert_eq!(world.app.watch.usual()[0].0, last);
    assert_eq!(world.app.anomalies().len(), 2, "what is known stays");
}

#[test]
fn what_cannot_be_learnt_is_told_and_tried_again_and_the_others_are_learnt() {
    run(async {
        let world = World::new(1);
        push(&world, "mail").await;
        let (watch, tenant) = (&world.app.watch, default_tenant(&world).id);
        let depth = (tenant, Metric::Depth);
        write_many(&world, "queue_waiting", &[("queue", "mail")], ("of", 10_001));
        let usual: Baselines = [("mail".into(), always(&world, 4.0))].into();
        watch.learnt(depth, world.clock.mono(), Some(usual));
        world.clock.advance(Duration::from_hours(24));
        let groups = HOST.len() + QUEUE.len();
        let looks = || (0..groups).filter(|_| world.app.watch_step(world.clock.now()).is_err());
        assert!(0 < looks().count());
        let learnt_due = |group: &Group| watch.0.lock().learnt[group].due;
        let now = world.clock.mono();
        assert_eq!(watch.0.lock().learnt.len(), groups, "the others are learnt");
        assert_eq!(learnt_due(&depth), now.plus(LEARN_AGAIN));
        assert!(watch.usual_of(tenant, Side::Depth, &queue("mail")).is_some(), "it stays");
        assert_eq!(watch.0.lock().warned_at, Some(now));

        let error = || world.app.watch_step(world.clock.now()).unwrap_err();
        world.clock.advance(WARN_EVERY.checked_sub(Duration::from_millis(1)).unwrap());
        watch.warn(depth, world.clock.mono(), &error());
        assert_eq!(watch.0.lock().warned_at, Some(now), "once an hour is enough");
        world.clock.advance(Duration::from_millis(1));
        error();
        assert_eq!(watch.0.lock().warned_at, Some(world.clock.mono()));
    });
}

#[test]
fn queues_that_are_watched_are_learnt_however_many_series_a_tenant_has() {
    run(async {
        let world = World::new(1);
        push(&world, "mail").await;
        hour_of_day(&world, 0);
        for hour in 0..24 * 10 {
            let waiting = 4.0 + f64::from(hour % 3);
            write(&world, ("queue_waiting", &[("queue", "mail")]), now_ms(&world), waiting);
            world.clock.advance(Duration::from_hours(1));
        }
        hour_of_day(&world, 2);
        // More than an answer may have points for, and more than a query may look at.
        write_many(&world, "queue_waiting", &[], ("queue", 10_001));
        let looked: Vec<Looked> = (0..HOST.len() + QUEUE.len()).map(|_| look(&world)).collect();
        let tenant = default_tenant(&world).id;
        assert_eq!(looked.iter().map(|looked| looked.learnt).sum::<usize>(), 1, "{looked:?}");
        let usual = |name| world.app.watch.usual_of(tenant, Side::Depth, &queue(name));
        assert!(usual("mail").is_some() && usual("n1").is_none());
        for minute in 0..70 {
            let at = now_ms(&world) - minute * 60_000;
            write(&world, ("queue_waiting", &[("queue", "mail")]), at, 100.0);
        }
        assert_eq!(look(&world).scored, 1);
    });
}

#[test]
fn inner_interfaces_are_not_watched() {
    let select = super::watched(Metric::Network, BTreeSet::new());
    for (device, is_meant) in
        [("eth0", true), ("lo", false), ("veth12ab", false), ("br-1", false), ("wg0", true)]
    {
        let labels = Labels::new(Metric::Network.name(), [("device", device)]).unwrap();
        assert_eq!(select.is_match(&labels), is_meant, "{device}");
    }
}

#[test]
fn what_is_usual_is_learnt_anew_after_a_day_one_group_a_minute() {
    let world = World::new(1);
    let groups: BTreeSet<Group> =
        HOST.map(|metric| (default_tenant(&world).id, metric)).into_iter().collect();
    let learnt = |looks: usize| -> usize {
        let mut count = 0;
        for _ in 0..looks {
            let now = world.clock.mono();
            count += usize::from(world.app.watch.due(now, &groups).is_some());
            look(&world);
            world.clock.advance(WATCH_EVERY);
        }
        count
    };
    assert_eq!(learnt(10), HOST.len());
    world.clock.advance(Duration::from_hours(23));
    assert_eq!(learnt(40), 0);
    world.clock.advance(Duration::from_hours(1));
    assert_eq!(learnt(10), HOST.len());
    // A tenant that is gone takes what is usual in it with it.
    assert!(world.app.watch.due(world.clock.mono(), &BTreeSet::new()).is_none());
    assert!(world.app.watch.0.lock().learnt.is_empty());
}

/// Samples of six hours, every five minutes.
fn six_hours(value: impl Fn(f64) -> f64) -> Vec<Sample> {
    (0..72).map(|n| (n * 300_000, value(f64::from(i32::try_from(n).unwrap()) / 12.0))).collect()
}

#[test]
fn a_disk_that_fills_is_told_and_one_that_comes_and_goes_is_not() {
    let now_ms = 6 * HOUR_MS;
    let left = |samples: &[Sample]| hours_left(samples, 100e9, now_ms);
    let filling = six_hours(|hour| 40e9 + 5e9 * hour);
    let hours = left(&filling).expect("it fills");
    assert!((hours - 6.0).abs() < 0.01, "{hours}");
    assert_eq!(left(&six_hours(|hour| 200e9 + 5e9 * hour)), Some(0.0), "it is full");
    assert_eq!(left(&six_hours(|hour| 90e9 - 5e9 * hour)), None, "it empties");
    assert_eq!(left(&six_hours(|_| 90e9)), None, "it does not change");
    let sawtooth = six_hours(|hour| 50e9 + 40e9 * hour.fract() + 1e9 * hour);
    assert_eq!(left(&sawtooth), None, "it is emptied again and again");
    let noisy = six_hours(|hour| 50e9 + 1e6 * hour + 1e9 * (hour * 37.0).sin());
    assert_eq!(left(&noisy), None, "nothing can be told");
    assert_eq!(left(&filling[..2]), None);
    // It rises for certain, and still nothing can be said of when it is full.
    let mut rng = Rng::from_seed(7);
    let scattered: Vec<Sample> = six_hours(|hour| 40e9 + 2e9 * hour)
        .into_iter()
        .map(|(at, value)| (at, value + 1e8 * f64::from(u32::try_from(rng.below(180)).unwrap())))
        .collect();
    assert!(0.0 < Fit::of(&scattered).unwrap().slope_interval.low);
    assert_eq!(left(&scattered), None, "it is not straight");
    let emptied = six_hours(|hour| 40e9 + 4e9 * hour + 10e9 * (hour / 0.75).fract());
    let fit = Fit::of(&emptied).unwrap();
    assert!(0.0 < fit.slope_interval.low && Some(DISK_R2_MIN) < fit.line.r2, "{fit:?}");
    assert_eq!(left(&emptied), None, "it is emptied again and again");
}

#[test]
fn a_disk_goes_on_as_it_has_since_it_last_changed() {
    let now_ms = 6 * HOUR_MS;
    let left = |samples: &[Sample]| hours_left(samples, 100e9, now_ms);
    // 40 GB at the end, 10 more each hour.
    let emptied =
        six_hours(|hour| if hour < 2.0 { 70e9 + 10e9 * hour } else { 10e9 * (hour - 2.0) });
    let hours = left(&emptied).expect("it was emptied once, and fills");
    assert!((hours - 6.0).abs() < 0.1, "{hours}");
    let filling = six_hours(|hour| 40e9 + 10e9 * (hour - 3.0).max(0.0));
    let hours = left(&filling).expect("it was flat, and fills");
    assert!((hours - 3.0).abs() < 0.1, "{hours}");
    let filled = six_hours(|hour| 40e9 + 10e9 * hour.min(3.0));
    assert_eq!(left(&filled), None, "it filled, and is flat");
}

#[test]
fn what_has_not_gone_on_for_long_is_told_only_if_it_is_urgent() {
    let left = |used: f64, grows: f64, minutes: f64| {
        let samples = six_hours(|hour| used + grows * (hour - 6.0 + minutes / 60.0).max(0.0));
        hours_left(&samples, 100e9, 6 * HOUR_MS)
    };
    // A backup, every five minutes of it.
    for step in 1..=18 {
        let told = left(40e9, 15e9, 5.0 * f64::from(step));
        assert_eq!(told, None, "{step} steps of a backup");
    }
    assert!(left(40e9, 15e9, 150.0).is_some(), "that is no short backup");
    // It fills up in three hours: half of that is over.
    let hours = left(40e9, 20e9, 95.0).expect("it is urgent");
    assert!((hours - 3.0 + 95.0 / 60.0).abs() < 0.1, "{hours}");
    assert_eq!(left(40e9, 80e9, 30.0), None, "half an hour says nothing");
}

#[test]
fn the_disk_that_will_be_full_first_is_the_one_that_is_told() {
    let world = World::new(1);
    hour_of_day(&world, 12);
    let (now, tenant) = (now_ms(&world), default_tenant(&world).id);
    let ask = || {
        let work = move |asker: &Asker<'_>| disks(asker, tenant, now);
        world.app.with_queries_waiting(Duration::from_secs(10), work).unwrap()
    };
    assert_eq!(ask(), Beside::default(), "nobody knows of any disk");
    for n in 0..72 {
        let (at, hour) =
            (now - 6 * HOUR_MS + n * 300_000, f64::from(i32::try_from(n).unwrap()) / 12.0);
        for (path, grows) in [("/", 1e9), ("/srv", 4e9), ("/home", 0.0)] {
            let (used, labels) = (20e9 + grows * hour, [("mountpoint", path)]);
            write(&world, ("server_disk_used_bytes", &labels), at, used);
            write(&world, ("server_disk_available_bytes", &labels), at, 80e9 - used);
        }
        write(&world, ("server_disk_used_bytes", &[("mountpoint", "/new")]), at, 1e9 * hour);
    }
    let beside = ask();
    assert!(beside.disk_eta_known);
    let (path, hours) = beside.disk_eta.expect("/srv fills");
    assert_eq!(path, "/srv");
    // 20 GB and 24 more of 80.
    assert!((hours - 9.0).abs() < 0.05, "{hours}");
}

#[test]
fn what_is_recorded_of_a_queue_is_what_its_trend_and_its_capacity_say() {
    run(async {
        let world = World::new(1);
        let edge = world.edge(ROUTES);
        let mut recorder = Recorder::new(&edge);
        let tenant = default_tenant(&world);
        push(&world, "mail").await;
        hour_of_day(&world, 9);
        recorder.step(world.clock.now());
        let mut lease = None;
        for second in 0..20 * 60 {
            world.clock.advance(Duration::from_secs(1));
            // One a minute is pushed and done; it takes half of it.
            match second % 60 {
                0 => push(&world, "mail").await,
                15 => lease = Some(take(&world, "mail").await),
                45 => done(&world, lease.take().unwrap()).await,
                _ => {}
            }
            recorder.step(world.clock.now());
            if second % 60 == 59 {
                look(&world);
            }
        }
        let stretch = Stretch::new(Duration::from_mins(15), Some(Duration::from_mins(1))).unwrap();
        let now = world.clock.now().wall;
        let question = Question { stretch, threshold: None, now };
        let asked = (queue("mail"), Side::Throughput);
        let trend = world.app.queue_trend(tenant.id, asked, question).await.unwrap();
        assert!(
            trend.samples.iter().all(|(_, value)| (value - 1.0).abs() < 1e-12),
            "{:?}",
            trend.samples
        );
        assert_eq!(trend.samples.len(), 15);
        let workers = world.app.worker_trend(tenant.id, question).await.unwrap();
        let efficiency = workers.trend.outcome.unwrap().statistics.average;
        assert!((efficiency - 50.0).abs() < 1e-6, "{efficiency}");

        let question = CapacityQuestion { stretch, target: None, around: 1, now };
        let told = world.app.queue_capacity(&tenant, &queue("mail"), question).await.unwrap();
        let capacity = told.capacity().expect("it was recorded");
        assert_eq!((told.workers(), told.window), (1, Duration::from_mins(15)));
        assert!((capacity.arrivals * 60.0 - 1.0).abs() < 1e-9, "{capacity:?}");
        assert_eq!(capacity.service, Some(Duration::from_secs(30)));
        assert_ne!(told.advice, Advice::Unknown, "it was looked at for twenty minutes");
    });
}

#[test]
fn what_a_new_queue_had_when_it_was_first_recorded_arrived_in_the_period() {
    run(async {
        let world = World::new(1);
        let edge = world.edge(ROUTES);
        let mut recorder = Recorder::new(&edge);
        hour_of_day(&world, 9);
        recorder.step(world.clock.now());
        for _ in 0..30 {
            push(&world, "mail").await;
        }
        let ten_seconds = |recorder: &mut Recorder| {
            world.clock.advance(Duration::from_secs(10));
            recorder.step(world.clock.now());
        };
        (0..13).for_each(|_| ten_seconds(&mut recorder));
        let stretch = Stretch::new(Duration::from_mins(15), Some(Duration::from_secs(10))).unwrap();
        let asked = |now| CapacityQuestion { stretch, target: None, around: 1, now };
        let tenant = default_tenant(&world);
        let ask = async || {
            let now = world.clock.now().wall;
            world.app.queue_capacity(&tenant, &queue("mail"), asked(now)).await.unwrap()
        };
        let told = ask().await;
        let seconds = told.window.as_secs_f64();
        assert_eq!(told.window, Duration::from_mins(2), "the step that runs is left out");
        let arrived = told.capacity().unwrap().arrivals * seconds;
        assert!((arrived - 30.0).abs() < 1e-9, "{arrived}");
        assert!(told.text.starts_with("Nobody works on this queue: 30 jobs wait"), "{}", told.text);

        // A queue that was recorded before is not new, also when nothing was recorded for long.
        world.clock.advance(Duration::from_hours(3));
        (0..13).for_each(|_| ten_seconds(&mut recorder));
        let arrivals = ask().await.capacity().unwrap().arrivals;
        assert!(arrivals.abs() < 1e-12, "{arrivals}");
    });
}
