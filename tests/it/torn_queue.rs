//! Power cuts and errors of the disk while jobs are pushed, leased and ended.
//!
//! Every image opens as the old state or the new one, `check` finds nothing in it, and the next fence is above every
//! one that was told. However the n-th operation of the disk fails: every push that was acknowledged is done,
//! failed or there, once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holdfast::base::id::{JobId, TenantId};
use holdfast::base::name::QueueName;
use holdfast::base::rng::Rng;
use holdfast::base::time::{Mono, Now, Timestamp};
use holdfast::queue::check::{check, check_memory};
use holdfast::queue::job::{
    Backoff, End, Failure, LeaseToken, Payload, Retry, Rules, Spec, Unique, Until, When,
};
use holdfast::queue::lease::{Extension, Want};
use holdfast::queue::load::load;
use holdfast::queue::memory::{Memory, Op, run};
use holdfast::queue::push::{Call, Quotas};
use holdfast::queue::{Error, RowError, change, finish, lease, outbox, push, tick, view};
use holdfast::store::redb::Redb;
use holdfast::store::{self, Commit, Engine, Finish, Opening};
use holdfast::testing::disk::{CrashImage, EIO, ENOSPC, Fault, SimDisk, crash_images};
use holdfast::testing::{Content, amount, content};

const TENANT: TenantId = TenantId::from_raw(3);
const STEPS: usize = 30;
const HISTORIES: u64 = 2;

fn open(disk: &Arc<SimDisk>, opening: Opening) -> Result<Redb, String> {
    let disk = Arc::<SimDisk>::clone(disk);
    Redb::on_disk(disk, 4 << 20, opening).map_err(|error| format!("UNOPENABLE: {error}"))
}

fn at(step: usize) -> Now {
    let ms = i64::try_from(step).unwrap() * 2_000;
    let wall = Timestamp::from_unix_ms(1_700_000_000_000 + ms).unwrap();
    Now { wall, mono: Mono::from_ns(1 + ms.unsigned_abs() * 1_000_000) }
}

fn spec(rng: &mut Rng, step: usize) -> Spec {
    let length = [3, 9_000, 70_000][rng.index(3)];
    let bytes = vec![u8::try_from(step).unwrap(); length];
    let payload = Payload { content_type: Some("text/plain".to_owned()), bytes };
    let mut spec = Spec::new(QueueName::parse(["a", "b"][rng.index(2)]).unwrap(), payload);
    if rng.one_in(3) {
        spec.when = When::After(Duration::from_secs(1 + rng.below(9)));
    }
    if rng.one_in(3) {
        let ttl = rng.one_in(2).then(|| Duration::from_secs(5));
        spec.unique = Some(Unique { key: format!("k{step}"), until: Until::Done, ttl });
    }
    let backoff = Some(Backoff::Fixed { base: Duration::from_secs(rng.below(5)) });
    spec.rules = Rules { max_tries: Some(2), backoff, ..Rules::default() };
    spec
}

/// What was answered.
#[derive(Clone, Debug, Default)]
struct Told {
    pushed: BTreeSet<JobId>,
    leases: Vec<LeaseToken>,
    fence: u64,
}

/// What one step does: decided by its number and the seed, whatever happened before.
fn step(op: &mut Op<'_>, seed: u64, number: usize, told: &mut Told) -> Result<(), Error> {
    let mut rng = Rng::from_seed(seed.wrapping_mul(1000) + number as u64);
    let newest = told.leases.last().copied();
    match (rng.below(8), newest) {
        (0..3, _) | (_, None) if !number.is_multiple_of(3) => {
            let specs = [spec(&mut rng, number)];
            // Whoever does not know what became of it pushes again with the same key.
            let key = [u8::try_from(number).unwrap(); 16];
            let call = Call { key, fingerprint: key };
            let pushed = push::push(op, TENANT, specs.to_vec(), Some(&call), &Quotas::UNLIMITED)?;
            told.pushed.extend(pushed.jobs.iter().map(|job| job.id));
        }
        (3, Some(newest)) => {
            let checkpoint = Some(vec![b'1'; 16_000]);
            let extension = Extension { by: None, progress: Some(0.5), checkpoint };
            lease::extend(op, TENANT, newest, &extension)?;
        }
        (4, Some(newest)) => {
            finish::end(op, TENANT, newest, End::Done { result: Some(vec![b'1'; 20_000]) })?;
            told.leases.pop();
        }
        (5, Some(newest)) => {
            let (class, message) = ("Down".to_owned(), "no".to_owned());
            let trace = Some("x".repeat(16_000));
            let failure = Failure { class, message, trace };
            let retry = if rng.one_in(2) { Retry::Never } else { Retry::ByPolicy };
            finish::end(op, TENANT, newest, End::Fail { failure, retry })?;
            told.leases.pop();
        }
        (6, Some(_)) => {
            tick::due(op)?;
            tick::ends(op)?;
        }
        (7, Some(newest)) if rng.one_in(3) => {
            change::cancel(op, TENANT, newest.job)?;
        }
        _ => {
            let queues = ["b", "a"].map(|name| QueueName::parse(name).unwrap()).to_vec();
            let lease = Some(Duration::from_secs(12));
            let want = Want { queues, max: 2, lease, worker: Some("w".into()), process: None };
            let taken = lease::lease(op, TENANT, &want)?;
            for job in taken.jobs {
                told.fence = told.fence.max(job.token.fence);
                told.leases.push(job.token);
            }
        }
    }
    Ok(())
}

/// One operation in a commit of its own; what was told of it only when that is certain.
fn commit(
    engine: &Redb,
    memory: &mut Memory,
    (seed, number): (u64, usize),
    told: &mut Told,
) -> Result<(), store::Error> {
    let mut draws = Rng::from_seed(seed ^ number as u64 ^ 0x0064_7261_7721);
    let mut maybe = told.clone();
    engine.write(Commit::Plain, &mut |batch| {
        batch.begin()?;
        let mut draw = || draws.next_u64();
        let moment = (at(number), &mut draw as &mut dyn FnMut() -> u64);
        match run(batch, memory, moment, |op| step(op, seed, number, &mut maybe)) {
            Ok(_) => batch.keep()?,
            Err(Error::Row(RowError::Store(error))) => return Err(error),
            Err(error) => panic!("step {number}: {error}"),
        }
        Ok(Finish::Commit)
    })?;
    *told = maybe;
    Ok(())
}

/// What is wrong with a file in which these were acknowledged.
fn judge(engine: &Redb, now: Now, told: &Told) -> Result<u64, String> {
    let mut memory = Memory::default();
    let loaded = load(engine, &mut memory, now, 1).map_err(|error| error.to_string())?;
    let report = check(engine).map_err(|error| error.to_string())?;
    let beside = check_memory(engine, &memory).map_err(|error| error.to_string())?;
    if let Some(finding) = report.findings.iter().chain(&beside).next() {
        return Err(finding.to_string());
    }
    let mut known = BTreeSet::new();
    engine
        .read(&mut |view| {
            let over = outbox::page(view, 500).expect("it can be read");
            known.extend(over.iter().map(|parcel| parcel.id));
            for id in &told.pushed {
                if view::job(view, TENANT, *id).expect("it can be read").is_some() {
                    known.insert(*id);
                }
            }
            Ok(())
        })
        .map_err(|error| error.to_string())?;
    if let Some(lost) = told.pushed.difference(&known).next() {
        return Err(format!("LOST: job {lost} is not done, not failed and not there"));
    }
    if loaded.damaged != 0 {
        return Err("DAMAGED".to_owned());
    }
    Ok(loaded.jobs)
}

/// The fence of the next lease.
fn next_fence(engine: &Redb) -> u64 {
    let mut memory = Memory::default();
    let now = at(10 * STEPS);
    load(engine, &mut memory, now, 1).unwrap();
    let mut fence = 0;
    engine
        .write(Commit::Plain, &mut |batch| {
            batch.begin()?;
            let mut draw = || 7;
            let ((), _) = run(batch, &mut memory, (now, &mut draw), |op| {
                let payload = Payload::json("1");
                let queue = QueueName::parse("new").unwrap();
                let specs = [Spec::new(queue.clone(), payload)];
                push::push(op, TENANT, specs.to_vec(), None, &Quotas::UNLIMITED)?;
                let (lease, worker, process) = (None, None, None);
                let want = Want { queues: vec![queue], max: 1, lease, worker, process };
                fence = lease::lease(op, TENANT, &want)?.jobs[0].token.fence;
                Ok(())
            })
            .unwrap();
            batch.keep()?;
            Ok(Finish::Commit)
        })
        .unwrap();
    fence
}

struct History {
    start: Vec<u8>,
    disk: Arc<SimDisk>,
    states: Vec<(Content, Told)>,
}

fn history(seed: u64) -> History {
    let new = Arc::new(SimDisk::default());
    drop(open(&new, Opening::Start).unwrap());
    let start = new.after_power_cut();
    let disk = Arc::new(SimDisk::holding(start.clone()));
    let engine = open(&disk, Opening::Start).unwrap();
    let (mut memory, mut told) = (Memory::default(), Told::default());
    load(&engine, &mut memory, at(0), 1).unwrap();
    let mut states = vec![(content(&engine).unwrap(), Told::default())];
    for number in 1..=STEPS {
        commit(&engine, &mut memory, (seed, number), &mut told).unwrap();
        disk.acknowledged(number);
        states.push((content(&engine).unwrap(), told.clone()));
    }
    History { start, disk, states }
}

fn check_image(image: CrashImage, history: &History) -> Result<(), String> {
    let CrashImage { bytes, acknowledged, how } = image;
    let context = |error: &str| format!("{error} ({how}, {acknowledged} acknowledged)");
    let engine = open(&Arc::new(SimDisk::holding(bytes)), Opening::Start)?;
    let found = content(&engine).map_err(|error| context(&error.to_string()))?;
    let next = (acknowledged + 1).min(STEPS);
    if !(acknowledged..=next).any(|step| history.states[step].0 == found) {
        return Err(context("LOST or MIXED: neither the old state nor the new one"));
    }
    let told = &history.states[acknowledged].1;
    judge(&engine, at(next), told).map_err(|error| context(&error))?;
    let fence = next_fence(&engine);
    if fence <= told.fence {
        return Err(context(&format!("the fence {fence} after {}", told.fence)));
    }
    Ok(())
}

#[test]
fn a_power_cut_leaves_every_job_in_its_place() {
    let mut images = 0;
    for seed in 0..amount("HOLDFAST_HISTORIES", HISTORIES) {
        let history = history(seed);
        let mut rng = Rng::from_seed(seed ^ 0x7175);
        let mut failure = None;
        crash_images(&history.start, &history.disk.trace(), &mut rng, &mut |image| {
            images += 1;
            if let Err(error) = check_image(image, &history) {
                failure.get_or_insert(format!("seed={seed}: {error}"));
            }
        });
        assert_eq!(failure, None);
        let told = &history.states[STEPS].1;
        assert!(5 < told.pushed.len() && 0 < told.fence, "seed={seed}: {told:?}");
    }
    assert!(300 < images, "{images}");
}

/// How a run with an error in it ended.
struct Run {
    disk: Arc<SimDisk>,
    told: Told,
    operations: u64,
    errors: u64,
    /// How many steps were stored.
    steps: usize,
    /// Whether the last push may be there although nobody was told.
    unknown: bool,
}

/// All steps, each tried until it is stored; the file is opened anew after each error.
fn run_all(seed: u64, fault: Option<Fault>) -> Run {
    let disk = Arc::new(SimDisk::default());
    let mut engine = Some(open(&disk, Opening::Start).unwrap());
    let mut memory = Memory::default();
    load(engine.as_ref().unwrap(), &mut memory, at(0), 1).unwrap();
    let first = disk.operations();
    disk.fail(fault.map(|fault| Fault { at: first + fault.at, ..fault }));
    let (mut told, mut errors, mut steps, mut unknown) = (Told::default(), 0, 0, false);
    'steps: for number in 1..=STEPS {
        for attempt in 0.. {
            if attempt == 4 {
                break 'steps;
            }
            if engine.is_none() {
                engine = open(&disk, Opening::AfterFailure).ok();
                let loaded = engine.as_ref().map(|it| load(it, &mut memory, at(number), 1));
                if !matches!(loaded, Some(Ok(_))) {
                    engine = None;
                    continue;
                }
            }
            let open = engine.as_ref().expect("it was just opened");
            if commit(open, &mut memory, (seed, number), &mut told).is_ok() {
                (steps, unknown) = (number, false);
                break;
            }
            (engine, errors, unknown) = (None, errors + 1, true);
        }
    }
    let operations = disk.operations() - first;
    Run { disk, told, operations, errors, steps, unknown }
}

fn judge_run(run: &Run) -> Result<(), String> {
    let disk = Arc::new(SimDisk::holding(run.disk.after_power_cut()));
    let engine = open(&disk, Opening::Start)?;
    judge(&engine, at(STEPS), &run.told)?;
    let mut there = BTreeSet::new();
    engine
        .read(&mut |view| {
            let range = store::KeyRange::all();
            for table in [store::Table::Jobs, store::Table::Outbox] {
                view.scan(table, &range, store::Order::Forward, &mut |key, _| {
                    there.insert(key[..16].to_vec());
                    store::Flow::On
                })?;
            }
            Ok(())
        })
        .map_err(|error| error.to_string())?;
    let (found, told) = (there.len(), run.told.pushed.len());
    if found != told && !(run.unknown && found == told + 1) {
        return Err(format!("TWICE: {found} jobs, {told} pushes were acknowledged"));
    }
    let fence = next_fence(&engine);
    if fence <= run.told.fence {
        return Err(format!("the fence {fence} after {}", run.told.fence));
    }
    Ok(())
}

fn sweep(errno: i32, for_good: bool, every: usize) {
    let whole = run_all(5, None);
    assert_eq!(whole.errors, 0);
    judge_run(&whole).unwrap();
    let mut met = 0;
    for at in (0..whole.operations).step_by(every) {
        let fault = Fault { at, errno, for_good };
        let run = run_all(5, Some(fault));
        judge_run(&run).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert!(for_good || run.steps == STEPS, "{fault:?}: it must work again");
        met += u64::from(run.errors != 0);
    }
    assert!(0 < met, "no error was met in {} operations", whole.operations);
}

#[test]
fn no_job_is_lost_when_an_operation_of_the_disk_fails() {
    sweep(EIO, false, 1);
}

#[test]
fn no_job_is_lost_when_the_disk_fails_for_good() {
    sweep(EIO, true, 3);
}

#[test]
fn no_job_is_lost_when_the_disk_is_full() {
    sweep(ENOSPC, false, 3);
}
