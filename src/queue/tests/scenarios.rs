//! What random histories hardly reach.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::{TENANT, World, queue, seconds};
use crate::base::id::JobId;
use crate::base::name::{QueueName, ScheduleName};
use crate::base::quota::Allowance;
use crate::base::time::Timestamp;
use crate::queue::calendar::Zone;
use crate::queue::change::{self, Cancelled, Clear, Sentence, Verdict, Which};
use crate::queue::check::{Wrong, check};
use crate::queue::cron::Cron;
use crate::queue::finish::{self, Report};
use crate::queue::job::{
    Backoff, Band, End, Failure, LeaseToken, Payload, Retry, Rules, Spec, State, Unique, Until,
    When,
};
use crate::queue::lease::{self, Extension, Leased, Taken, Want};
use crate::queue::memory::run;
use crate::queue::outbox;
use crate::queue::push::{self, Call, Pushed, Quotas};
use crate::queue::rate::Rate;
use crate::queue::rows::{self, Lane};
use crate::queue::schedules::{self, CatchUp, Overlap, Wanted};
use crate::queue::settings::Patch;
use crate::queue::{Error, tick, view};
use crate::store::redb::Redb;
use crate::store::{Engine, Table, Write};
use crate::testing::batches::{Fate, batch};

fn engine() -> Redb {
    Redb::in_memory(4 << 20).unwrap()
}

fn spec() -> Spec {
    Spec::new(queue("q"), Payload::json("1"))
}

fn of_type(job_type: &str) -> Spec {
    Spec { job_type: job_type.to_owned(), ..spec() }
}

fn with_key(until: Until) -> Spec {
    let ttl = (until == Until::Ttl).then(|| seconds(3600));
    Spec { unique: Some(Unique { key: "k".to_owned(), until, ttl }), ..spec() }
}

fn want(max: usize) -> Want {
    let (lease, worker, process) = (None, Some(Arc::from("w")), None);
    Want { queues: vec![queue("q")], max, lease, worker, process }
}

fn done() -> End {
    End::Done { result: None }
}

fn fail(retry: Retry) -> End {
    let failure = Failure { class: "Down".to_owned(), message: "no".to_owned(), trace: None };
    End::Fail { failure, retry }
}

impl World<'_> {
    fn push(&mut self, specs: &[Spec]) -> Vec<JobId> {
        let pushed =
            self.run(|op| push::push(op, TENANT, specs.to_vec(), None, &Quotas::UNLIMITED));
        pushed.jobs.iter().map(|job| job.id).collect()
    }

    fn push_one(&mut self, spec: &Spec) -> push::PushedJob {
        let specs = [spec.clone()];
        self.run(|op| push::push(op, TENANT, specs.to_vec(), None, &Quotas::UNLIMITED)).jobs[0]
    }

    fn lease(&mut self, max: usize) -> Vec<Leased> {
        self.taken(max).jobs
    }

    fn taken(&mut self, max: usize) -> Taken {
        self.run(|op| lease::lease(op, TENANT, &want(max)))
    }

    fn end(&mut self, token: LeaseToken, end: &End) -> Report {
        self.run(|op| finish::end(op, TENANT, token, end.clone()))
    }

    /// Leases and ends all there is; how many jobs that were.
    fn all_done(&mut self) -> usize {
        let jobs = self.lease(100);
        for job in &jobs {
            self.end(job.token, &done());
        }
        jobs.len()
    }

    /// What has come to its time is dealt with.
    fn tick(&mut self) {
        while self.run(tick::due) {}
        while self.run(tick::ends) {}
    }

    fn patch(&mut self, patch: &Patch) {
        self.run(|op| change::patch(op, TENANT, (&queue("q"), patch), Allowance::Unlimited));
    }

    fn state(&self, id: JobId) -> Option<State> {
        self.job(id).map(|job| job.state)
    }

    fn clear(&mut self, state: State) -> u64 {
        let clear = Clear { queue: queue("q"), state, after: None };
        self.run(|op| change::clear_step(op, TENANT, &clear)).0
    }
}

#[test]
fn an_outage_of_one_type_does_not_hold_up_the_others_and_order_is_kept_when_it_is_over() {
    let engine = engine();
    let mut world = World::new(&engine, 1);
    let rules = Rules { backoff: Some(Backoff::Fixed { base: seconds(0) }), ..Rules::default() };
    let bad = Spec { rules, ..of_type("bad") };
    let failing = world.push(&vec![bad; 30]);
    for _ in 0..20 {
        let job = world.lease(1).remove(0);
        world.end(job.token, &fail(Retry::ByPolicy));
        world.pass(Duration::from_millis(10));
    }
    let good = world.push(&vec![of_type("good"); 3]);
    // One probe, and then the others, though all of the type stand before them.
    let taken = world.taken(100);
    let probes = taken.jobs.iter().filter(|job| job.job_type == "bad").count();
    let others: Vec<JobId> =
        taken.jobs.iter().filter(|job| job.job_type == "good").map(|job| job.token.job).collect();
    assert_eq!((probes, others), (1, good));
    assert_eq!(taken.again_at, Some(world.now.mono.plus(seconds(1))));
    world.assert_sound("throttled");
    let mut probe = taken.jobs[0].token;
    assert!(world.lease(100).is_empty(), "a second probe within a second");
    for _ in 0..3 {
        world.end(probe, &done());
        world.pass(seconds(1));
        let mut jobs = world.lease(1);
        if let Some(job) = jobs.pop() {
            probe = job.token;
        }
    }
    world.end(probe, &done());
    // It has recovered: those that were never tried come first, as they were pushed, and then those that failed.
    let left: Vec<JobId> = world.lease(100).iter().map(|job| job.token.job).collect();
    let mut expected: Vec<JobId> = failing[20..].to_vec();
    expected.extend(&failing[..20]);
    let expected: Vec<JobId> = expected.into_iter().filter(|id| left.contains(id)).collect();
    assert_eq!(left, expected);
    assert!(20 < left.len(), "{}", left.len());
    world.assert_sound("recovered");
}

#[test]
fn a_parked_job_can_be_cancelled_and_cleared_and_survives_a_restart() {
    let engine = engine();
    let mut world = World::new(&engine, 2);
    let backoff = Some(Backoff::Fixed { base: seconds(0) });
    let rules = Rules { backoff, max_tries: Some(100), ..Rules::default() };
    let ids = world.push(&vec![Spec { rules, ..of_type("bad") }; 25]);
    for _ in 0..20 {
        let job = world.lease(1).remove(0);
        world.end(job.token, &fail(Retry::ByPolicy));
    }
    world.lease(1);
    assert!(world.lease(10).is_empty());
    let qid = world.memory.qid(TENANT, &queue("q")).unwrap();
    assert_eq!(world.memory.queue(qid).parked.values().sum::<u64>(), 24);
    let waits = ids.iter().find(|id| world.state(**id) == Some(State::Waiting)).copied().unwrap();
    assert_eq!(world.run(|op| change::cancel(op, TENANT, waits)), Cancelled::Removed);
    world.restart(seconds(5));
    world.assert_sound("restarted");
    assert_eq!(world.lease(3).len(), 3, "a start forgets that the type was throttled");
    assert_eq!(world.clear(State::Waiting), 20);
    world.assert_sound("cleared");
}

#[test]
fn a_rate_lets_so_many_through_and_says_when_to_come_again() {
    let engine = engine();
    let mut world = World::new(&engine, 3);
    world.push(&vec![spec(); 10]);
    world.patch(&Patch { rate: Some(Some(Rate::parse("2/s").unwrap())), ..Patch::default() });
    let taken = world.taken(10);
    assert_eq!(taken.jobs.len(), 2);
    assert_eq!(taken.again_at, Some(world.now.mono.plus(Duration::from_millis(500))));
    assert!(world.lease(10).is_empty());
    world.pass(Duration::from_millis(500));
    let jobs = world.lease(10);
    assert_eq!((jobs.len(), jobs[0].attempt), (1, 1), "waiting costs no attempt");
    // What is undone gives back what it had taken, and no more.
    world.pass(seconds(1));
    let refused = world.try_run(|op| {
        lease::lease(op, TENANT, &want(1))?;
        Err::<(), _>(Error::TooManyCalls)
    });
    assert_eq!(refused.unwrap_err().code(), "rate_limited");
    assert_eq!(world.lease(10).len(), 2);
}

#[test]
fn a_bulk_job_runs_before_critical_ones_that_came_an_hour_later() {
    let engine = engine();
    let mut world = World::new(&engine, 4);
    let bulk = world.push(&[Spec { band: Band::Bulk, ..spec() }]);
    let critical = Spec { band: Band::Critical, ..spec() };
    world.pass(seconds(3599));
    let soon = world.push(&vec![critical.clone(); 2]);
    world.pass(Duration::from_millis(1001));
    let later = world.push(&vec![critical; 2]);
    let order: Vec<JobId> = world.lease(10).iter().map(|job| job.token.job).collect();
    assert_eq!(order, [soon, bulk, later].concat());
}

fn schedule(cron: Option<&str>, every: Option<u64>, zone: &str, catch_up: CatchUp) -> Wanted {
    Wanted {
        cron: cron.map(|text| (text.to_owned(), Cron::parse(text).unwrap())),
        every: every.map(seconds),
        timezone: (zone.to_owned(), Zone::parse(zone).unwrap()),
        overlap: Overlap::Queue,
        catch_up,
        jitter: Duration::ZERO,
        job: spec(),
    }
}

#[test]
fn a_schedule_keeps_to_the_clock_on_the_wall_when_that_is_changed() {
    let engine = engine();
    let mut world = World::new(&engine, 5);
    // Two days before Berlin's clocks go from two to three; half past two is skipped on that day.
    let name = ScheduleName::parse("s").unwrap();
    world.pass(Timestamp::from_unix_ms(1_711_670_400_000).unwrap().since(world.now.wall));
    let wanted = schedule(Some("30 2 * * *"), None, "Europe/Berlin", CatchUp::One);
    world.run(|op| schedules::put(op, TENANT, (&name, &wanted), Allowance::Unlimited));
    let mut fired = Vec::new();
    for _ in 0..(4 * 24 * 2) {
        world.pass(seconds(1800));
        world.tick();
        for job in world.lease(10) {
            fired.push(world.now.wall.to_string());
            world.end(job.token, &done());
        }
    }
    assert_eq!(
        fired,
        [
            "2024-03-29T01:30:00.000Z",
            "2024-03-30T01:30:00.000Z",
            "2024-03-31T01:00:00.000Z",
            "2024-04-01T00:30:00.000Z"
        ]
    );
    world.assert_sound("in summer");
}

#[test]
fn what_a_long_absence_missed_is_caught_up_with_as_the_schedule_says() {
    for (catch_up, jobs) in [(CatchUp::None, 1), (CatchUp::One, 1), (CatchUp::All, 60)] {
        let engine = engine();
        let mut world = World::new(&engine, 6);
        let name = ScheduleName::parse("s").unwrap();
        let wanted = schedule(None, Some(60), "UTC", catch_up);
        world.run(|op| schedules::put(op, TENANT, (&name, &wanted), Allowance::Unlimited));
        world.restart(seconds(3600));
        world.tick();
        world.tick();
        assert_eq!(world.all_done(), jobs, "{catch_up:?}");
        world.restart(seconds(0));
        world.tick();
        assert!(world.lease(100).is_empty(), "{catch_up:?}: a moment pushes once");
        world.pass(seconds(60));
        world.tick();
        assert_eq!(world.all_done(), 1, "{catch_up:?}: it goes on");
        world.assert_sound("caught up");
    }
    // With a day between two moments the absence missed all there was.
    let engine = engine();
    let mut world = World::new(&engine, 6);
    let name = ScheduleName::parse("s").unwrap();
    let wanted = schedule(None, Some(86_400), "UTC", CatchUp::None);
    world.run(|op| schedules::put(op, TENANT, (&name, &wanted), Allowance::Unlimited));
    world.restart(seconds(100_000));
    world.tick();
    assert!(world.lease(100).is_empty(), "what was missed is not pushed");
}

#[test]
fn the_next_moment_of_a_schedule_is_known_though_something_later_is_due_anyway() {
    let engine = engine();
    let mut world = World::new(&engine, 7);
    let name = ScheduleName::parse("s").unwrap();
    world.push(&[Spec { when: When::After(seconds(36_000)), ..spec() }]);
    let wanted = schedule(None, Some(10), "UTC", CatchUp::One);
    world.run(|op| schedules::put(op, TENANT, (&name, &wanted), Allowance::Unlimited));
    world.pass(seconds(10));
    world.tick();
    let next = world.memory.first_due_ms().unwrap();
    assert!(next <= rows::ms(world.now.wall.plus(seconds(10))), "{next}");
}

#[test]
fn a_schedule_whose_queue_is_full_or_gone_stops_nothing_else() {
    let engine = engine();
    let mut world = World::new(&engine, 8);
    let name = ScheduleName::parse("s").unwrap();
    let wanted = schedule(None, Some(10), "UTC", CatchUp::One);
    world.run(|op| schedules::put(op, TENANT, (&name, &wanted), Allowance::Unlimited));
    world.patch(&Patch { max_depth: Some(Some(1)), ..Patch::default() });
    let delayed =
        world.push_one(&Spec { when: When::After(seconds(15)), queue: queue("other"), ..spec() });
    world.push(&[spec()]);
    world.pass(seconds(20));
    world.tick();
    assert_eq!(world.state(delayed.id), Some(State::Waiting));
    let mut told = None;
    engine
        .read(&mut |view| {
            told = schedules::get(view, TENANT, "s").unwrap();
            Ok(())
        })
        .unwrap();
    let skipped = told.unwrap().last_skipped.unwrap();
    assert!(skipped.contains("max_depth is 1"), "{skipped}");
}

#[test]
fn a_job_that_crashes_its_workers_is_put_aside_and_says_why() {
    let engine = engine();
    let mut world = World::new(&engine, 9);
    let id = world.push(&[spec()])[0];
    for crash in 1..=3 {
        let job = world.lease(1).pop().unwrap_or_else(|| panic!("crash {crash}"));
        assert_eq!((job.errors, job.crashes), (0, crash - 1));
        world.pass(seconds(60));
        world.tick();
        if crash == 1 {
            assert_eq!(world.state(id), Some(State::Waiting), "the first runs again at once");
        } else if crash == 2 {
            assert_eq!(world.state(id), Some(State::Delayed), "then it waits");
            world.pass(seconds(8));
            world.tick();
        }
    }
    let job = world.job(id).unwrap();
    assert_eq!((job.state, job.attempt, job.errors, job.crashes), (State::Failed, 3, 0, 3));
    let error = job.last_error.unwrap();
    assert_eq!(error.class, "crash");
    assert!(
        error.message.contains("lease ran out") && error.message.contains("worker w"),
        "{error:?}"
    );
    world.assert_sound("put aside");
}

#[test]
fn max_tries_counts_errors_and_nothing_else() {
    let engine = engine();
    let mut world = World::new(&engine, 10);
    let rules = Rules {
        max_tries: Some(2),
        max_crashes: Some(9),
        timeout: Some(seconds(5)),
        backoff: Some(Backoff::Fixed { base: seconds(0) }),
    };
    let id = world.push(&[Spec { rules, ..spec() }])[0];
    let release = End::Release { delay: seconds(0), reason: None };
    for _ in 0..5 {
        let job = world.lease(1).remove(0);
        world.end(job.token, &release);
    }
    world.lease(1);
    world.run(|op| tick::goodbye(op, TENANT, "w"));
    let job = world.lease(1).remove(0);
    // Beats do not carry an attempt beyond its timeout, and that is an error.
    world.pass(seconds(3));
    let extension = Extension { by: Some(seconds(60)), progress: None, checkpoint: None };
    world.run(|op| lease::extend(op, TENANT, job.token, &extension));
    world.pass(seconds(2));
    world.tick();
    let told = world.job(id).unwrap();
    assert_eq!((told.state, told.errors, told.crashes), (State::Waiting, 1, 0));
    assert_eq!(told.last_error.unwrap().class, "timeout");
    let job = world.lease(1).remove(0);
    assert_eq!(job.attempt, 8);
    let report = world.end(job.token, &fail(Retry::ByPolicy));
    assert!(matches!(report, Report::Ended(outcome) if outcome.state == State::Failed));
    world.assert_sound("given up");
}

#[test]
fn a_running_job_that_is_cancelled_hears_of_it_and_is_over_however_it_ends() {
    let ends: [Option<End>; 4] = [
        Some(fail(Retry::ByPolicy)),
        Some(End::Release { delay: seconds(9), reason: None }),
        None,
        Some(done()),
    ];
    for end in ends {
        let engine = engine();
        let mut world = World::new(&engine, 11);
        let id = world.push(&[with_key(Until::Done)])[0];
        let job = world.lease(1).remove(0);
        assert_eq!(world.run(|op| change::cancel(op, TENANT, id)), Cancelled::Signalled);
        let extension = Extension { by: None, progress: None, checkpoint: None };
        let told = world.run(|op| lease::extend(op, TENANT, job.token, &extension)).unwrap();
        assert!(told.cancel);
        let state = if end == Some(done()) { State::Done } else { State::Cancelled };
        if let Some(end) = &end {
            let report = world.end(job.token, end);
            assert!(
                matches!(report, Report::Ended(outcome) if outcome.state == state),
                "{report:?}"
            );
            let again = world.end(job.token, end);
            assert!(matches!(again, Report::Repeated(outcome) if outcome.state == state));
        } else {
            world.pass(seconds(61));
            world.tick();
        }
        assert_eq!(world.state(id), None);
        assert_eq!(world.run(|op| change::cancel(op, TENANT, id)), Cancelled::Over(state));
        assert!(!world.push_one(&with_key(Until::Done)).duplicate, "{end:?}: the key is free");
        world.assert_sound("cancelled");
    }
}

/// How a job goes.
type Way = fn(&mut World<'_>, JobId);

/// However it goes, its key is free afterwards.
#[test]
fn a_unique_key_does_not_leak() {
    let ways: [(&str, Way); 6] = [
        ("done", |world, _| {
            let job = world.lease(1).remove(0);
            world.end(job.token, &done());
        }),
        ("failed", |world, _| {
            let job = world.lease(1).remove(0);
            world.end(job.token, &fail(Retry::Never));
        }),
        ("crashed", |world, _| {
            for _ in 0..3 {
                world.lease(1);
                world.pass(seconds(61));
                world.tick();
                world.pass(seconds(60));
                world.tick();
            }
        }),
        ("cancelled", |world, id| {
            world.run(|op| change::cancel(op, TENANT, id));
        }),
        ("cleared", |world, _| {
            assert_eq!(world.clear(State::Waiting), 1);
        }),
        ("removed", |world, _| {
            world.push(&[Spec { when: When::After(seconds(99)), ..spec() }]);
            while !world.run(|op| change::remove_tenant_step(op, TENANT)) {}
            world.memory.forget_tenant(TENANT);
            world.restart(seconds(0));
            assert_eq!(world.memory.queues_len(), 0, "nothing of it comes back");
        }),
    ];
    for (how, way) in ways {
        for until in [Until::Started, Until::Done] {
            let engine = engine();
            let mut world = World::new(&engine, 12);
            let first = world.push_one(&with_key(until));
            assert_eq!(world.push_one(&with_key(until)).id, first.id);
            way(&mut world, first.id);
            world.assert_sound(how);
            assert!(!world.push_one(&with_key(until)).duplicate, "{how}, {until:?}");
            world.assert_sound(how);
        }
    }
}

#[test]
fn a_key_for_a_time_outlives_its_job_and_a_key_until_started_its_wait() {
    let engine = engine();
    let mut world = World::new(&engine, 13);
    let first = world.push_one(&with_key(Until::Ttl));
    let job = world.lease(1).remove(0);
    world.end(job.token, &done());
    let second = world.push_one(&with_key(Until::Ttl));
    assert_eq!((second.id, second.duplicate, second.state), (first.id, true, State::Done));
    world.pass(seconds(3600));
    assert!(!world.push_one(&with_key(Until::Ttl)).duplicate);
    world.tick();
    world.assert_sound("after its time");
    let job = world.lease(1).remove(0);
    // An answer that nobody got leaves all as it was.
    world.run(|op| lease::give_back(op, TENANT, &[job.token]));
    assert_eq!(world.lease(1)[0].attempt, 1);
}

#[test]
fn a_call_is_answered_again_for_a_day() {
    let engine = engine();
    let mut world = World::new(&engine, 14);
    let call = Call { key: [1; 16], fingerprint: [2; 16] };
    let push = |world: &mut World<'_>, call: &Call| -> Result<Pushed, Error> {
        let unlimited = Quotas::UNLIMITED;
        world
            .try_run(|op| push::push(op, TENANT, vec![spec()], Some(call), &unlimited))
            .map(|it| it.0)
    };
    let first = push(&mut world, &call).unwrap();
    world.pass(seconds(86_399));
    world.restart(seconds(0));
    let again = push(&mut world, &call).unwrap();
    assert_eq!((again.replayed, again.jobs), (true, first.jobs.clone()));
    let other = Call { fingerprint: [3; 16], ..call.clone() };
    assert_eq!(push(&mut world, &other).unwrap_err().code(), "idempotency_key_reused");
    world.pass(seconds(1));
    // Whether it was swept away before or not.
    let anew = push(&mut world, &other).unwrap();
    assert!(!anew.replayed && anew.jobs[0].id != first.jobs[0].id);
    world.tick();
    world.assert_sound("a day later");
}

#[test]
fn a_start_of_the_machine_gives_back_what_local_workers_had() {
    let engine = engine();
    let mut world = World::new(&engine, 15);
    let ids = world.push(&vec![spec(); 2]);
    let local = Want { process: Some((77, 5)), lease: Some(seconds(3600)), ..want(1) };
    world.run(|op| lease::lease(op, TENANT, &local));
    let far = Want { lease: Some(seconds(3600)), ..want(1) };
    let far = world.run(|op| lease::lease(op, TENANT, &far)).jobs.remove(0);
    let loaded = world.restart(seconds(40));
    assert_eq!((loaded.processes, loaded.rebooted), (vec![(77, 5)], false));
    world.tick();
    assert_eq!(world.state(ids[0]), Some(State::Running));
    world.boot_id = 2;
    let loaded = world.restart(seconds(40));
    assert_eq!((loaded.processes, loaded.rebooted), (vec![], true));
    world.tick();
    let job = world.job(ids[0]).unwrap();
    assert_eq!((job.state, job.crashes, job.errors), (State::Waiting, 0, 0));
    assert_eq!(world.state(ids[1]), Some(State::Running), "the other machine was not started");
    world.end(far.token, &done());
    world.assert_sound("after a reboot");
}

#[test]
fn what_ends_in_the_grace_after_a_start_counts_as_nothing_and_what_ends_later_as_a_crash() {
    let engine = engine();
    let mut world = World::new(&engine, 16);
    let ids = world.push(&vec![spec(); 2]);
    world.lease(1);
    let long = Want { lease: Some(seconds(3000)), ..want(1) };
    world.run(|op| lease::lease(op, TENANT, &long));
    world.restart(seconds(59));
    world.pass(seconds(29));
    world.tick();
    assert_eq!(world.state(ids[0]), Some(State::Running), "the grace is half a minute");
    world.pass(seconds(1));
    world.tick();
    let job = world.job(ids[0]).unwrap();
    assert_eq!((job.state, job.attempt, job.crashes), (State::Waiting, 1, 0));
    world.pass(seconds(2911));
    world.tick();
    assert_eq!(world.job(ids[1]).unwrap().crashes, 1);
}

#[test]
fn the_same_verb_is_answered_again_and_another_one_is_refused() {
    let engine = engine();
    let mut world = World::new(&engine, 17);
    let id = world.push(&[spec()])[0];
    let first = world.lease(1).remove(0).token;
    let Report::Ended(told) = world.end(first, &fail(Retry::After(seconds(5)))) else {
        panic!("it was not ended");
    };
    assert_eq!(told.state, State::Delayed);
    for _ in 0..2 {
        assert_eq!(world.end(first, &fail(Retry::Never)), Report::Repeated(told));
        assert_eq!(world.end(first, &done()), Report::Lost(State::Delayed));
        world.restart(seconds(1));
    }
    world.pass(seconds(5));
    world.tick();
    let second = world.lease(1).remove(0).token;
    assert_eq!(world.end(first, &done()), Report::Lost(State::Running));
    let guess = LeaseToken { secret: second.secret ^ 1, ..second };
    assert_eq!(world.end(guess, &done()), Report::Lost(State::Running));
    let failed = world.end(second, &fail(Retry::Never));
    let Report::Ended(failed) = failed else { panic!("{failed:?}") };
    assert_eq!(world.end(second, &fail(Retry::Never)), Report::Repeated(failed));
    assert_eq!(world.end(second, &done()), Report::Lost(State::Failed));
    let which = Which::Ids(vec![id]);
    let verdict = Verdict::Retry { pace: seconds(0) };
    let until_ms = rows::ms(world.now.wall);
    let sentence = Sentence { which, verdict, after: None, count: 0, until_ms };
    assert_eq!(world.run(|op| change::sentence_step(op, TENANT, &sentence)).0, 1);
    let third = world.lease(1).remove(0).token;
    world.end(third, &done());
    assert!(matches!(world.end(third, &done()), Report::Repeated(_)), "from the outbox");
    assert_eq!(world.end(third, &fail(Retry::Never)), Report::Lost(State::Done));
    assert_eq!(world.end(second, &fail(Retry::Never)), Report::Lost(State::Done));
    let mut parcels = Vec::new();
    engine
        .read(&mut |view| {
            parcels = outbox::page(view, 10).unwrap();
            Ok(())
        })
        .unwrap();
    world.run(|op| outbox::remove(op, &parcels));
    assert_eq!(world.end(third, &done()), Report::Unknown, "now the history knows");
    world.assert_sound("over");
}

#[test]
fn what_failed_again_since_it_was_read_stays_in_the_outbox() {
    let engine = engine();
    let mut world = World::new(&engine, 18);
    let id = world.push(&[spec()])[0];
    let mut read = Vec::new();
    for time in 0..2 {
        let job = world.lease(1).remove(0);
        world.end(job.token, &fail(Retry::Never));
        if time == 0 {
            engine
                .read(&mut |view| {
                    read = outbox::page(view, 10).unwrap();
                    Ok(())
                })
                .unwrap();
            let which = Which::Ids(vec![id]);
            let verdict = Verdict::Retry { pace: seconds(0) };
            let sentence = Sentence { which, verdict, after: None, count: 0, until_ms: u64::MAX };
            world.run(|op| change::sentence_step(op, TENANT, &sentence));
        }
    }
    world.run(|op| outbox::remove(op, &read));
    assert_eq!(world.memory.outbox_len(), 1);
    world.assert_sound("read before");
}

#[test]
fn an_operation_that_says_no_or_panics_leaves_memory_as_it_was() {
    let engine = engine();
    let mut world = World::new(&engine, 19);
    world.push(&vec![spec(); 3]);
    let job = world.lease(1).remove(0);
    for panics in [false, true] {
        let World { memory, now, .. } = &mut world;
        let body = |tx: &mut dyn Write| {
            let ended = catch_unwind(AssertUnwindSafe(|| {
                run(tx, memory, (*now, &mut || 5), |op| {
                    push::push(op, TENANT, vec![with_key(Until::Done)], None, &Quotas::UNLIMITED)?;
                    lease::lease(op, TENANT, &want(2))?;
                    finish::end(op, TENANT, job.token, done())?;
                    if panics {
                        resume_unwind(Box::new("a planned panic"));
                    }
                    Err::<(), _>(Error::TooManyCalls)
                })
            }));
            assert_eq!(ended.is_err(), panics);
            false
        };
        batch(&engine, Fate::Stored, vec![Box::new(body)]);
        world.assert_sound("undone");
        let qid = world.memory.qid(TENANT, &queue("q")).unwrap();
        assert_eq!(world.memory.queue(qid).ready, [0, 0, 2, 0, 0]);
    }
    assert!(matches!(world.end(job.token, &done()), Report::Ended(_)));
}

#[test]
fn a_queue_of_large_jobs_is_cleared_in_steps() {
    let engine = engine();
    let mut world = World::new(&engine, 20);
    let large = Spec { payload: Payload::json(vec![b'1'; 1 << 20]), ..spec() };
    for _ in 0..5 {
        world.push(&vec![large.clone(); 8]);
    }
    world.patch(&Patch { history_payload: Some(Some(true)), ..Patch::default() });
    let (mut all, mut after, mut steps) = (0, None, 0);
    loop {
        let clear = Clear { queue: queue("q"), state: State::Waiting, after };
        let (jobs, next) = world.run(|op| change::clear_step(op, TENANT, &clear));
        (all, after, steps) = (all + jobs, next, steps + 1);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(all, 40);
    assert!(4 < steps, "{steps}");
    let mut pages = 0;
    while 0 < world.memory.outbox_len() {
        let mut parcels = Vec::new();
        engine
            .read(&mut |view| {
                parcels = outbox::page(view, 500).unwrap();
                Ok(())
            })
            .unwrap();
        world.run(|op| outbox::remove(op, &parcels));
        pages += 1;
        assert!(pages < 40);
    }
    world.assert_sound("cleared");
}

/// Damages a job's row of a table.
fn damage(engine: &Redb, table: Table, id: JobId) {
    let key = [&rows::job_prefix(TENANT, id)[..], &[0, 0]].concat();
    crate::testing::put_one(engine, table, &key, b"\x00\x01no record");
}

#[test]
fn a_damaged_row_holds_up_nobody_else_and_is_found() {
    let engine = engine();
    let mut world = World::new(&engine, 21);
    let later = Spec { when: When::After(seconds(5)), ..spec() };
    let delayed = world.push(&vec![later; 2]);
    let running = world.push(&vec![spec(); 2]);
    world.lease(2);
    damage(&engine, Table::Jobs, delayed[0]);
    damage(&engine, Table::Jobs, running[0]);
    let report = check(&engine).unwrap();
    let unreadable =
        report.findings.iter().filter(|finding| matches!(finding.wrong, Wrong::Unreadable(_)));
    let found: Vec<JobId> = unreadable.filter_map(|finding| finding.job).collect();
    assert!(found.contains(&delayed[0]) && found.contains(&running[0]), "{report:?}");
    world.pass(seconds(61));
    world.tick();
    assert_eq!(world.state(delayed[1]), Some(State::Waiting));
    assert_eq!(world.state(running[1]), Some(State::Waiting));
    damage(&engine, Table::Leases, running[0]);
    assert_eq!(world.restart(seconds(1)).damaged, 1, "it starts, and says so");
}

#[test]
fn a_check_finds_what_is_wrong_and_says_where() {
    let engine = engine();
    let mut world = World::new(&engine, 22);
    let ids = world.push(&[spec(), spec(), Spec { when: When::After(seconds(9)), ..spec() }]);
    world.push(&[with_key(Until::Done)]);
    let leased = world.lease(1).remove(0).token.job;
    world.assert_sound("before");
    let job = world.job(ids[1]).unwrap();
    let order = push::order(rows::ms(job.run_at), job.band);
    let ready = rows::ready_key(TENANT, "q", &Lane::Band(2), (order, ids[1]));
    let due = rows::Due::Job(TENANT, ids[2]).key(rows::ms(world.job(ids[2]).unwrap().run_at));
    let told = |change: &mut dyn FnMut(&mut dyn Write)| {
        let mut told = String::new();
        engine
            .write(crate::store::Commit::Plain, &mut |batch| {
                batch.begin()?;
                change(batch);
                batch.keep()?;
                Ok(crate::store::Finish::Commit)
            })
            .unwrap();
        for finding in check(&engine).unwrap().findings {
            told.push_str(&finding.to_string());
        }
        told
    };
    let row = {
        let mut row = None;
        engine
            .read(&mut |view| {
                row = view.get(Table::Ready, &ready)?;
                Ok(())
            })
            .unwrap();
        row.unwrap()
    };
    let text = told(&mut |tx| assert!(tx.delete(Table::Ready, &ready).unwrap()));
    assert!(text.contains(&format!("job {}: it stands in no index", ids[1])), "{text}");
    let text = told(&mut |tx| {
        tx.put(Table::Ready, &ready, &row).unwrap();
        let other = rows::ready_key(TENANT, "q", &Lane::Band(2), (order, leased));
        tx.put(Table::Ready, &other, &row).unwrap();
    });
    assert!(text.contains(&format!("job {leased}: it stands here, and should not")), "{text}");
    let text = told(&mut |tx| {
        let other = rows::ready_key(TENANT, "q", &Lane::Band(2), (order, leased));
        tx.delete(Table::Ready, &other).unwrap();
        tx.put(Table::Ready, &ready, &[&[1], &row[1..]].concat()).unwrap();
        tx.put(Table::Due, &due, b"other").unwrap();
    });
    assert!(text.contains("whether it was tried") && text.contains("another queue"), "{text}");
    let text = told(&mut |tx| {
        tx.put(Table::Ready, &ready, &row).unwrap();
        tx.put(Table::Due, &due, b"q").unwrap();
        let key = rows::unique_key(TENANT, "q", "k");
        let row = rows::UniqueRow { job: ids[0].raw(), until_ms: None };
        rows::put_plain(tx, Table::Unique, &key, &row).unwrap();
        tx.put(Table::Due, &rows::Due::Call(TENANT, vec![1; 16]).key(5), b"").unwrap();
    });
    assert!(text.contains("does not hold its unique key \"k\""), "{text}");
    assert!(text.contains("is held, and no job may hold it"), "{text}");
    assert!(text.contains("a call is due, and is not there"), "{text}");
    let text = told(&mut |tx| {
        rows::put_plain(tx, Table::Meta, rows::NUMBERS_KEY, &rows::NumbersRow::default()).unwrap();
    });
    assert!(text.contains("do not start the server on this file"), "{text}");
}

#[test]
fn workers_that_die_throttle_nobody() {
    let engine = engine();
    let mut world = World::new(&engine, 31);
    let short = Want { lease: Some(seconds(1)), ..want(1) };
    for round in 0..30 {
        let id = world.push(&[of_type("heavy")])[0];
        for crashes in 0..2 {
            let taken = world.run(|op| lease::lease(op, TENANT, &short));
            let job = taken.jobs.first().expect("crashes of others hold nobody up");
            assert_eq!((job.token.job, job.crashes), (id, crashes), "round {round}");
            if crashes == 0 {
                world.pass(seconds(1));
                world.run(tick::ends);
            } else {
                world.run(|op| change::cancel(op, TENANT, id));
                let its = job.token;
                world.end(its, &End::Release { delay: Duration::ZERO, reason: None });
            }
        }
    }
    world.assert_sound("after thirty crashes");
}

#[test]
fn a_push_that_is_refused_makes_no_queue() {
    let engine = engine();
    let mut world = World::new(&engine, 29);
    world.push_one(&spec());
    world.patch(&Patch { max_depth: Some(Some(1)), ..Patch::default() });
    let elsewhere = Spec { queue: queue("new"), ..spec() };
    let both = vec![elsewhere, spec()];
    let refused = world.try_run(|op| push::push(op, TENANT, both, None, &Quotas::UNLIMITED));
    assert_eq!(refused.map(drop).unwrap_err().code(), "queue_full");
    assert_eq!(world.memory.qid(TENANT, &queue("new")), None);
    assert!(world.memory.qid(TENANT, &queue("q")).is_some());
}

#[test]
fn why_tells_what_is_in_the_way() {
    let engine = engine();
    let mut world = World::new(&engine, 23);
    let id = world.push(&vec![spec(); 2])[1];
    world.lease(0);
    world.patch(&Patch { paused: Some(Some(true)), ..Patch::default() });
    let mut why = None;
    engine
        .read(&mut |view| {
            let (memory, now) = (&mut world.memory, world.now);
            let facts = |queue: &QueueName, job_type: &str| {
                view::Facts::of(memory, now, (TENANT, queue), job_type)
            };
            why = view::why(view, facts, now, (TENANT, id)).unwrap();
            Ok(())
        })
        .unwrap();
    let why = why.unwrap();
    assert!(!why.runnable && why.reasons.contains(&view::Reason::QueuePaused), "{why:?}");
    assert!(why.reasons.contains(&view::Reason::Ahead { jobs: 1, more: false }), "{why:?}");
}
