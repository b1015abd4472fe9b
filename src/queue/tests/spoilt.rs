//! One bad row, one large job, or one tenant who asks for much: nobody else is held up.

use std::sync::Arc;

use super::{TENANT, World, queue, seconds};
use crate::base::id::{JobId, TenantId};
use crate::base::limits::TENANT_QUEUES_MAX;
use crate::base::name::{QueueName, ScheduleName};
use crate::base::quota::Allowance;
use crate::queue::calendar::Zone;
use crate::queue::change::{self, Clear, Sentence, Verdict, Which};
use crate::queue::finish;
use crate::queue::job::{End, Failure, Followup, Payload, Retry, Spec, State, When};
use crate::queue::lease::{self, Leased, Want};
use crate::queue::push::{self, Quotas};
use crate::queue::schedules::{self, CatchUp, Overlap, Wanted};
use crate::queue::{outbox, rows, tick, view};
use crate::store::redb::Redb;
use crate::store::{Engine, Table};

const OTHER: TenantId = TenantId::from_raw(0x0102_0304_0506_0708);
const PROCESS: (u32, u64) = (77, 5);

fn engine() -> Redb {
    Redb::in_memory(4 << 20).unwrap()
}

fn spec() -> Spec {
    Spec::new(queue("q"), Payload::json("1"))
}

fn large() -> Spec {
    Spec::new(queue("q"), Payload::json(vec![b'1'; 1 << 20]))
}

fn never_again() -> End {
    let failure = Failure { class: "Down".to_owned(), message: "no".to_owned(), trace: None };
    End::Fail { failure, retry: Retry::Never }
}

/// Damages a job's row of a table.
fn damage(engine: &Redb, table: Table, id: JobId) {
    let key = [&rows::job_prefix(TENANT, id)[..], &[0, 0]].concat();
    crate::testing::put_one(engine, table, &key, b"\x00\x01no record");
}

fn push(world: &mut World<'_>, tenant: TenantId, specs: &[Spec]) -> Vec<JobId> {
    let pushed = world.run(|op| push::push(op, tenant, specs.to_vec(), None, &Quotas::UNLIMITED));
    pushed.jobs.iter().map(|job| job.id).collect()
}

fn lease(world: &mut World<'_>, max: usize) -> Vec<Leased> {
    let (worker, process) = (Some(Arc::from("w")), Some(PROCESS));
    let want = Want { queues: vec![queue("q")], max, lease: None, worker, process };
    world.run(|op| lease::lease(op, TENANT, &want)).jobs
}

fn state(world: &World<'_>, id: JobId) -> Option<State> {
    world.job(id).map(|job| job.state)
}

/// Jobs given up, in this order.
fn failed(world: &mut World<'_>, jobs: usize) -> Vec<JobId> {
    let ids = push(world, TENANT, &vec![spec(); jobs]);
    for job in lease(world, jobs) {
        world.run(|op| finish::end(op, TENANT, job.token, never_again()));
        world.pass(seconds(1));
    }
    ids
}

/// Large jobs that somebody has and nobody wants.
fn large_and_cancelled(world: &mut World<'_>) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.extend(push(world, TENANT, &vec![large(); 8]));
    }
    let mut leased = 0;
    while leased < ids.len() {
        leased += lease(world, 100).len();
    }
    for id in &ids {
        world.run(|op| change::cancel(op, TENANT, *id));
    }
    ids
}

fn assert_all_over(world: &World<'_>, ids: &[JobId], context: &str) {
    assert!(ids.iter().all(|id| state(world, *id).is_none()), "{context}");
    world.assert_sound(context);
}

#[test]
fn large_cancelled_jobs_whose_worker_is_silent_end_in_steps() {
    let engine = engine();
    let mut world = World::new(&engine, 31);
    let ids = large_and_cancelled(&mut world);
    world.pass(seconds(61));
    let mut steps = 0;
    while world.run(tick::ends) {
        steps += 1;
        assert!(steps < 100);
    }
    assert_all_over(&world, &ids, "silent");
}

#[test]
fn large_cancelled_jobs_whose_process_died_end_in_steps() {
    let engine = engine();
    let mut world = World::new(&engine, 32);
    let ids = large_and_cancelled(&mut world);
    let mut ended = 0;
    for _ in 0..100 {
        ended += world.run(|op| tick::died(op, PROCESS, "killed", true));
    }
    assert_eq!(ended, ids.len());
    assert_all_over(&world, &ids, "died");
}

#[test]
fn large_cancelled_jobs_of_a_worker_that_says_goodbye_end_in_steps() {
    let engine = engine();
    let mut world = World::new(&engine, 33);
    let ids = large_and_cancelled(&mut world);
    let mut ended = 0;
    for _ in 0..100 {
        ended += world.run(|op| tick::goodbye(op, TENANT, "w"));
    }
    assert_eq!(ended, ids.len());
    assert_all_over(&world, &ids, "goodbye");
}

#[test]
fn a_damaged_job_at_the_head_of_its_queue_does_not_stop_the_queue() {
    let engine = engine();
    let mut world = World::new(&engine, 34);
    let ids = push(&mut world, TENANT, &vec![spec(); 3]);
    damage(&engine, Table::Jobs, ids[0]);
    let leased: Vec<JobId> = lease(&mut world, 1).iter().map(|job| job.token.job).collect();
    assert_eq!(leased, [ids[1]]);
    let leased: Vec<JobId> = lease(&mut world, 5).iter().map(|job| job.token.job).collect();
    assert_eq!(leased, [ids[2]]);
    let qid = world.memory.qid(TENANT, &queue("q")).unwrap();
    assert_eq!(world.memory.queue(qid).waiting(), 0);
    assert_eq!(world.restart(seconds(1)).damaged, 0);
}

#[test]
fn a_damaged_failed_job_does_not_stop_what_removes_the_old_ones() {
    let engine = engine();
    let mut world = World::new(&engine, 35);
    let ids = failed(&mut world, 3);
    damage(&engine, Table::Jobs, ids[0]);
    damage(&engine, Table::Courses, ids[1]);
    world.pass(seconds(31 * 86_400));
    while world.run(|op| change::prune_failed(op, (TENANT, &queue("q")))) {}
    let qid = world.memory.qid(TENANT, &queue("q")).unwrap();
    assert_eq!(world.memory.queue(qid).failed, 0);
    assert_all_over(&world, &ids, "pruned");
}

#[test]
fn a_damaged_failed_job_does_not_stop_a_sentence() {
    let engine = engine();
    let mut world = World::new(&engine, 36);
    let ids = failed(&mut world, 3);
    damage(&engine, Table::Jobs, ids[0]);
    damage(&engine, Table::Courses, ids[1]);
    let until_ms = rows::ms(world.now.wall);
    let (which, verdict) = (Which::Queue(queue("q")), Verdict::Discard);
    let sentence = Sentence { which, verdict, after: None, count: 0, until_ms };
    let (count, _) = world.run(|op| change::sentence_step(op, TENANT, &sentence));
    assert_eq!(count, 1);
    assert_eq!(state(&world, ids[2]), None);
}

#[test]
fn a_damaged_job_does_not_stop_the_clearing_of_its_queue() {
    let engine = engine();
    let mut world = World::new(&engine, 37);
    let ids = push(&mut world, TENANT, &vec![spec(); 3]);
    damage(&engine, Table::Jobs, ids[0]);
    let clear = Clear { queue: queue("q"), state: State::Waiting, after: None };
    let (count, _) = world.run(|op| change::clear_step(op, TENANT, &clear));
    assert_eq!(count, 2);
    assert!(ids[1..].iter().all(|id| state(&world, *id).is_none()));
}

#[test]
fn a_damaged_row_of_the_outbox_does_not_stop_the_way_to_the_history() {
    let engine = engine();
    let mut world = World::new(&engine, 38);
    let ids = push(&mut world, TENANT, &vec![spec(); 2]);
    for job in lease(&mut world, 2) {
        world.run(|op| finish::end(op, TENANT, job.token, End::Done { result: None }));
    }
    damage(&engine, Table::Outbox, ids[0]);
    let mut parcels = Vec::new();
    engine
        .read(&mut |view| {
            parcels = outbox::page(view, 500).unwrap();
            Ok(())
        })
        .unwrap();
    let told: Vec<JobId> =
        parcels.iter().filter(|parcel| parcel.finished.is_some()).map(|parcel| parcel.id).collect();
    assert_eq!(told, [ids[1]]);
    world.run(|op| outbox::remove(op, &parcels));
    assert_eq!(world.memory.outbox_len(), 0);
    world.assert_sound("removed");
}

#[test]
fn rows_that_nobody_can_read_do_not_stop_the_opening() {
    let engine = engine();
    let mut world = World::new(&engine, 44);
    let later = Spec { when: When::After(seconds(60)), ..spec() };
    let id = push(&mut world, TENANT, &[later])[0];
    let put = |table, key: &[u8], value: &[u8]| crate::testing::put_one(&engine, table, key, value);
    // Too short for a moment, and of no kind that there is.
    put(Table::Due, b"\0", b"");
    put(Table::Due, &[0, 0, 0, 0, 0, 0, 0, 1, 9], b"");
    put(Table::Queues, b"short", b"");
    put(Table::Queues, &rows::tenant_key(TENANT, b"other"), b"no row");
    put(Table::Leases, b"short", b"");
    damage(&engine, Table::Leases, JobId::from_raw(1));
    put(Table::Meta, b"queue.day.short", b"");
    put(Table::Meta, b"queue.day.\x01\x02\x03\x04\x05\x06\x07\x08", b"no row");
    assert_eq!(world.restart(seconds(1)).damaged, 8);
    world.pass(seconds(60));
    while world.run(tick::due) {}
    assert_eq!(state(&world, id), Some(State::Waiting));
}

fn schedule(job: Spec, overlap: Overlap) -> Wanted {
    Wanted {
        cron: None,
        every: Some(seconds(60)),
        timezone: ("UTC".to_owned(), Zone::parse("UTC").unwrap()),
        overlap,
        catch_up: CatchUp::One,
        jitter: seconds(0),
        job,
    }
}

fn set(world: &mut World<'_>, name: &str, wanted: &Wanted) {
    let name = ScheduleName::parse(name).unwrap();
    world.run(|op| schedules::put(op, TENANT, (&name, wanted), Allowance::Unlimited));
}

#[test]
fn a_schedule_whose_last_job_is_damaged_does_not_stop_what_else_is_due() {
    let engine = engine();
    let mut world = World::new(&engine, 39);
    set(&mut world, "s", &schedule(spec(), Overlap::Skip));
    world.pass(seconds(60));
    while world.run(tick::due) {}
    let pushed = lease(&mut world, 1).remove(0).token;
    world.run(|op| lease::give_back(op, TENANT, &[pushed]));
    damage(&engine, Table::Jobs, pushed.job);
    let later = Spec { when: When::After(seconds(60)), ..spec() };
    let id = push(&mut world, TENANT, &[later])[0];
    world.pass(seconds(60));
    while world.run(tick::due) {}
    assert_eq!(state(&world, id), Some(State::Waiting));
}

#[test]
fn schedules_of_large_jobs_push_in_steps() {
    let engine = engine();
    let mut world = World::new(&engine, 40);
    for n in 0..20 {
        set(&mut world, &format!("s{n}"), &schedule(large(), Overlap::Queue));
    }
    world.pass(seconds(60));
    let mut steps = 1;
    while world.run(tick::due) {
        steps += 1;
    }
    assert!(1 < steps);
    let qid = world.memory.qid(TENANT, &queue("q")).unwrap();
    assert_eq!(world.memory.queue(qid).waiting(), 20);
    world.assert_sound("pushed");
}

#[test]
fn jobs_that_are_given_up_do_not_make_more_queues_than_there_may_be() {
    let engine = engine();
    let mut world = World::new(&engine, 41);
    let follow = |n: usize| {
        let queue = QueueName::parse(&format!("f{n}")).unwrap();
        let followup = Followup { queue, job_type: "t".to_owned(), payload: Payload::json("1") };
        Spec { on_failed: Some(Box::new(followup)), ..spec() }
    };
    let jobs = TENANT_QUEUES_MAX + 20;
    for n in 0..jobs {
        // Failures of long ago do not throttle.
        world.pass(seconds(120));
        push(&mut world, TENANT, &[follow(n)]);
        let token = lease(&mut world, 1).remove(0).token;
        world.run(|op| finish::end(op, TENANT, token, never_again()));
        // Those that were pushed by a failure and stay in this queue.
        let stayed = lease(&mut world, 100);
        for job in stayed {
            world.run(|op| finish::end(op, TENANT, job.token, End::Done { result: None }));
        }
    }
    let queues = world.memory.tenant(TENANT).unwrap().queues.len();
    assert!(queues <= TENANT_QUEUES_MAX, "{queues}");
}

fn looked_for(state: State, text: Option<&str>) -> view::Filter {
    view::Filter {
        tenant: TENANT,
        queue: None,
        states: vec![state],
        job_type: None,
        tag: None,
        text: text.map(str::to_owned),
        from: None,
        to: None,
        payload: false,
    }
}

/// Jobs that match, and where each page but the last one ended.
fn listed(engine: &Redb, filter: &view::Filter) -> (Vec<JobId>, Vec<view::Position>) {
    let (mut found, mut positions) = (Vec::new(), Vec::new());
    loop {
        let mut page = None;
        engine
            .read(&mut |file| {
                page = Some(view::list(file, filter, positions.last().cloned(), 10).unwrap());
                Ok(())
            })
            .unwrap();
        let (jobs, next) = page.unwrap();
        found.extend(jobs.iter().map(|job| job.id));
        let Some(next) = next else {
            return (found, positions);
        };
        positions.push(next);
        assert!(positions.len() < 100);
    }
}

#[test]
fn a_search_through_large_jobs_reads_a_bounded_part_of_them_at_once() {
    let engine = engine();
    let mut world = World::new(&engine, 43);
    for _ in 0..3 {
        push(&mut world, TENANT, &vec![large(); 8]);
    }
    let small = push(&mut world, TENANT, &[spec()])[0];
    let type_of_it = Spec { job_type: "wanted".to_owned(), ..spec() };
    let wanted = push(&mut world, TENANT, &[type_of_it])[0];
    let (found, positions) = listed(&engine, &looked_for(State::Waiting, Some("wanted")));
    assert_eq!(found, [wanted]);
    assert!(3 <= positions.len(), "{}", positions.len());
    assert_eq!(state(&world, small), Some(State::Waiting));
}

#[test]
fn where_a_list_goes_on_says_nothing_of_other_tenants() {
    let engine = engine();
    let mut world = World::new(&engine, 42);
    let foreign = Spec { when: When::After(seconds(50)), ..spec() };
    for _ in 0..3 {
        push(&mut world, OTHER, &vec![foreign.clone(); 1000]);
    }
    let own = Spec { when: When::After(seconds(90)), ..spec() };
    let own = push(&mut world, TENANT, &[own])[0];
    let filter = looked_for(State::Delayed, None);
    let (found, positions) = listed(&engine, &filter);
    for next in &positions {
        let raw = OTHER.raw().to_be_bytes();
        let key = next.after.clone().unwrap_or_default();
        assert!(!key.windows(8).any(|part| part == raw), "{key:?}");
    }
    assert_eq!(found, [own]);
    assert!(!positions.is_empty());
}
