//! Random histories: whatever happens, every answer is the model's, and every invariant holds.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::model::{At, Model, Over, Place};
use super::{World, queue, seconds};
use crate::base::id::{JobId, TenantId};
use crate::base::name::{QueueName, ScheduleName};
use crate::base::quota::Allowance;
use crate::base::rng::Rng;
use crate::base::time::{Mono, Now};
use crate::queue::calendar::Zone;
use crate::queue::change::{self, Cancelled, Clear, Sentence, Verdict, Which};
use crate::queue::fingerprint::fingerprint;
use crate::queue::finish::{self, Report};
use crate::queue::job::{
    Backoff, Band, End, Failure, Followup, LeaseToken, Payload, Retry, Rules, Spec, State, Unique,
    Until, When,
};
use crate::queue::lease::{self, Extended, Extension, Renewed, Taken, Want};
use crate::queue::memory::{Event, Memory, Op, Retention, run};
use crate::queue::outbox::{self, Parcel};
use crate::queue::push::{self, Call, Pushed, Quotas};
use crate::queue::rate::Rate;
use crate::queue::rows;
use crate::queue::schedules::{self, CatchUp, Overlap, Wanted};
use crate::queue::settings::{Patch, Settings};
use crate::queue::{Error, tick};
use crate::store::{Engine, Flow, KeyRange, Order, Read, Table, Write};
use crate::testing::batches::{Fate, Kind, batch};
use crate::testing::{amount, seeds};

const TENANTS: [TenantId; 2] = [TenantId::from_raw(3), TenantId::from_raw(4)];
const QUEUES: [&str; 4] = ["a", "b", "c", "d"];
const TYPES: [&str; 3] = ["x", "mail", "sync"];
const WORKERS: [&str; 3] = ["w1", "w2", "w3"];
const PROCESSES: [(u32, u64); 2] = [(100, 1), (200, 7)];
const FAILURES: [(&str, &str); 3] =
    [("Timeout", "no answer after 30 s"), ("Bug", "undefined x"), ("", "")];
const FAILED_ROWS: usize = 6;
const FAILED_AGE: Duration = Duration::from_hours(20);

#[derive(Clone, Debug)]
enum Action {
    Push(TenantId, Vec<Rc<Spec>>, Option<Call>),
    Lease(TenantId, Want),
    End(TenantId, LeaseToken, End),
    Extend(TenantId, LeaseToken, Extension),
    Renew(TenantId, &'static str, Option<Vec<LeaseToken>>, Option<Duration>),
    Pin(TenantId, &'static str, (u32, u64)),
    GiveBack(TenantId, Vec<LeaseToken>),
    Cancel(TenantId, JobId),
    Goodbye(TenantId, &'static str),
    Died((u32, u64), bool),
    Due,
    Ends,
    Clear(TenantId, QueueName, State),
    Sentence(TenantId, Which, Verdict),
    Prune(TenantId, QueueName),
    Patch(TenantId, QueueName, Box<Patch>),
    Forget(TenantId, QueueName),
    Schedule(TenantId, &'static str, Duration, Overlap, CatchUp, Rc<Spec>),
    Unschedule(TenantId, &'static str),
    /// Each with what the model knew when it was read.
    Deliver(Vec<(Parcel, Over)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Said {
    Pushed(Pushed),
    Taken(Taken),
    Report(Report),
    Extended(Option<Extended>),
    Renewed(Renewed),
    Cancelled(Cancelled),
    Settings(Settings),
    Count(u64),
    Yes(bool),
    Nothing,
}

fn quotas(tenant: TenantId) -> Quotas {
    if tenant == TENANTS[0] {
        return Quotas::UNLIMITED;
    }
    Quotas {
        queues: Allowance::AtMost(3),
        waiting: Allowance::AtMost(12),
        per_day: Allowance::AtMost(60),
    }
}

fn wanted(every: Duration, overlap: Overlap, catch_up: CatchUp, spec: &Rc<Spec>) -> Wanted {
    // A cron line that says the same as a length of time: the reference counts in those.
    let cron = (every == seconds(300)).then(|| "*/5 * * * *".to_owned());
    Wanted {
        every: cron.is_none().then_some(every),
        cron: cron.map(|text| (text.clone(), crate::queue::cron::Cron::parse(&text).unwrap())),
        timezone: ("UTC".to_owned(), Zone::UTC),
        overlap,
        catch_up,
        jitter: Duration::ZERO,
        job: Spec::clone(spec),
    }
}

/// All steps of a clearing in one operation.
fn clear(op: &mut Op<'_>, tenant: TenantId, queue: &QueueName, state: State) -> Result<u64, Error> {
    let (mut all, mut after) = (0, None);
    loop {
        let clear = Clear { queue: queue.clone(), state, after };
        let (jobs, next) = change::clear_step(op, tenant, &clear)?;
        all += jobs;
        if next.is_none() {
            return Ok(all);
        }
        after = next;
    }
}

fn sentence(
    op: &mut Op<'_>,
    tenant: TenantId,
    which: &Which,
    verdict: Verdict,
) -> Result<u64, Error> {
    let until_ms = rows::ms(op.now.wall);
    let (which, after, count) = (which.clone(), None, 0);
    let mut sentence = Sentence { which, verdict, after, count, until_ms };
    loop {
        let (jobs, next) = change::sentence_step(op, tenant, &sentence)?;
        sentence.count += jobs;
        if next.is_none() {
            return Ok(sentence.count);
        }
        sentence.after = next;
    }
}

fn perform(op: &mut Op<'_>, action: &Action) -> Result<Said, Error> {
    Ok(match action {
        Action::Push(tenant, specs, call) => {
            let specs: Vec<Spec> = specs.iter().map(|spec| Spec::clone(spec)).collect();
            Said::Pushed(push::push(op, *tenant, specs.clone(), call.as_ref(), &quotas(*tenant))?)
        }
        Action::Lease(tenant, want) => Said::Taken(lease::lease(op, *tenant, want)?),
        Action::End(tenant, token, end) => {
            Said::Report(finish::end(op, *tenant, *token, end.clone())?)
        }
        Action::Extend(tenant, token, extension) => {
            Said::Extended(lease::extend(op, *tenant, *token, extension)?)
        }
        Action::Renew(tenant, worker, leases, by) => {
            Said::Renewed(lease::renew(op, *tenant, worker, leases.as_deref(), *by)?)
        }
        Action::Pin(tenant, worker, process) => {
            lease::pin(op, *tenant, worker, *process)?;
            Said::Nothing
        }
        Action::GiveBack(tenant, leases) => {
            lease::give_back(op, *tenant, leases)?;
            Said::Nothing
        }
        Action::Cancel(tenant, id) => Said::Cancelled(change::cancel(op, *tenant, *id)?),
        Action::Goodbye(tenant, worker) => Said::Count(tick::goodbye(op, *tenant, worker)? as u64),
        Action::Died(process, counted) => {
            Said::Count(tick::died(op, *process, "the process ended", *counted)? as u64)
        }
        Action::Due => Said::Yes(tick::due(op)?),
        Action::Ends => Said::Yes(tick::ends(op)?),
        Action::Clear(tenant, queue, state) => Said::Count(clear(op, *tenant, queue, *state)?),
        Action::Sentence(tenant, which, verdict) => {
            Said::Count(sentence(op, *tenant, which, *verdict)?)
        }
        Action::Prune(tenant, queue) => Said::Yes(change::prune_failed(op, (*tenant, queue))?),
        Action::Patch(tenant, queue, patch) => {
            let allowance = quotas(*tenant).queues;
            Said::Settings(change::patch(op, *tenant, (queue, patch), allowance)?)
        }
        Action::Forget(tenant, queue) => Said::Yes(change::forget(op, *tenant, queue)?),
        Action::Schedule(tenant, name, every, overlap, catch_up, spec) => {
            let name = ScheduleName::parse(name).unwrap();
            let wanted = wanted(*every, *overlap, *catch_up, spec);
            let allowance = quotas(*tenant).queues;
            Said::Yes(schedules::put(op, *tenant, (&name, &wanted), allowance)?)
        }
        Action::Unschedule(tenant, name) => {
            Said::Yes(schedules::delete(op, *tenant, &ScheduleName::parse(name).unwrap())?)
        }
        Action::Deliver(parcels) => {
            let parcels: Vec<Parcel> = parcels.iter().map(|(parcel, _)| parcel.clone()).collect();
            outbox::remove(op, &parcels)?;
            Said::Nothing
        }
    })
}

impl Model {
    /// What has to be said; `told` is what was, for what is left to chance.
    fn perform(&mut self, at: At<'_>, action: &Action, told: Option<&Said>) -> Result<Said, Error> {
        Ok(match action {
            Action::Push(tenant, specs, call) => {
                Said::Pushed(self.push(at, *tenant, (specs, call.as_ref()), &quotas(*tenant))?)
            }
            Action::Lease(tenant, want) => {
                let taken = match told {
                    Some(Said::Taken(taken)) => taken.clone(),
                    _ => Taken { jobs: Vec::new(), again_at: None },
                };
                let jobs = self.lease(at, *tenant, want, &taken);
                Said::Taken(Taken { jobs, again_at: taken.again_at })
            }
            Action::End(tenant, token, end) => Said::Report(self.end(at, *tenant, *token, end)),
            Action::Extend(tenant, token, extension) => {
                Said::Extended(self.extend(at, *tenant, *token, extension))
            }
            Action::Renew(tenant, worker, leases, by) => {
                Said::Renewed(self.renew(at, *tenant, (worker, leases.as_deref()), *by))
            }
            Action::Pin(tenant, worker, process) => {
                self.pin(*tenant, worker, *process);
                Said::Nothing
            }
            Action::GiveBack(tenant, leases) => {
                self.give_back(at, *tenant, leases);
                Said::Nothing
            }
            Action::Cancel(tenant, id) => Said::Cancelled(self.cancel(at, (*tenant, *id))),
            Action::Goodbye(tenant, worker) => {
                Said::Count(self.goodbye(at, *tenant, worker) as u64)
            }
            Action::Died(process, counted) => Said::Count(self.died(at, *process, *counted) as u64),
            Action::Due => {
                self.due(at);
                Said::Yes(false)
            }
            Action::Ends => {
                self.ends(at);
                Said::Yes(false)
            }
            _ => return self.change(at, action),
        })
    }

    /// What people change, and the history.
    fn change(&mut self, at: At<'_>, action: &Action) -> Result<Said, Error> {
        Ok(match action {
            Action::Clear(tenant, queue, state) => {
                Said::Count(self.clear(at, *tenant, (queue, *state)))
            }
            Action::Sentence(tenant, which, verdict) => {
                Said::Count(self.sentence(at, *tenant, (which, *verdict)))
            }
            Action::Prune(tenant, queue) => {
                self.prune(at, (*tenant, queue), (FAILED_AGE, FAILED_ROWS));
                Said::Yes(false)
            }
            Action::Patch(tenant, queue, patch) => {
                let allowance = quotas(*tenant).queues;
                Said::Settings(self.patch(at, (*tenant, queue), patch, allowance)?)
            }
            Action::Forget(tenant, queue) => Said::Yes(self.forget(*tenant, queue)?),
            Action::Schedule(tenant, name, every, overlap, catch_up, spec) => {
                let rules = (*every, *overlap, *catch_up);
                let allowance = quotas(*tenant).queues;
                Said::Yes(self.schedule(at, (*tenant, name), rules, (spec, allowance))?)
            }
            Action::Unschedule(tenant, name) => {
                Said::Yes(self.schedules.remove(&(*tenant, (*name).to_owned())).is_some())
            }
            Action::Deliver(parcels) => {
                for (parcel, read) in parcels {
                    let key = (parcel.tenant, parcel.id);
                    if self.outbox.get(&key) == Some(read) {
                        self.outbox.remove(&key);
                    }
                }
                Said::Nothing
            }
            _ => unreachable!("it was dealt with before"),
        })
    }
}

/// What a parcel says, as the model keeps it.
fn told_of(parcel: &Parcel) -> Over {
    parcel.finished.as_ref().map_or(Over::GONE, |told| Over {
        state: State::of(told.state),
        at_ms: rows::ms(told.finished_at),
        token: (told.fence != 0).then_some((told.fence, told.secret)),
        counts: (told.attempt, told.errors, told.crashes),
        result: told.result.as_ref().map(Vec::len),
    })
}

/// How an operation is spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoilt {
    No,
    Refused,
    Panicked,
}

struct History<'w> {
    world: World<'w>,
    model: Model,
    /// Leases that were given out, the latest last.
    tokens: VecDeque<(TenantId, LeaseToken)>,
    ids: BTreeSet<JobId>,
    last_id: JobId,
    parcels: Vec<(Parcel, Over)>,
    context: String,
    operations: u64,
    panics: u64,
}

impl<'w> History<'w> {
    fn new(engine: &'w dyn Engine, seed: u64, context: String) -> History<'w> {
        let mut world = World::new(engine, seed);
        let mail = Rules { max_tries: Some(3), timeout: Some(seconds(60)), ..Rules::default() };
        world.memory.types.insert("mail".to_owned(), mail);
        world.memory.retention =
            Retention { failed_age: FAILED_AGE, failed_rows: FAILED_ROWS as u64 };
        let mut model = Model::default();
        model.types.clone_from(&world.memory.types);
        History {
            world,
            model,
            tokens: VecDeque::new(),
            ids: BTreeSet::new(),
            last_id: JobId::from_raw(0),
            parcels: Vec::new(),
            context,
            operations: 0,
            panics: 0,
        }
    }

    fn random_spec(&mut self, rng: &mut Rng) -> Rc<Spec> {
        let mut spec = Spec::new(queue(QUEUES[rng.index(4)]), random_payload(rng));
        spec.job_type = TYPES[rng.index(3)].to_owned();
        spec.band = Band::ALL[rng.index(5)];
        spec.when = match rng.below(6) {
            0 => When::After(Duration::from_millis([1, 900, 30_000, 4_000_000][rng.index(4)])),
            1 => When::At(self.world.now.wall.plus(seconds([5, 60, 90_000][rng.index(3)]))),
            2 => When::At(self.world.now.wall.minus(seconds(5))),
            _ => When::Now,
        };
        if rng.one_in(2) {
            spec.rules = random_rules(rng);
        }
        if rng.one_in(3) {
            let until = [Until::Started, Until::Done, Until::Ttl][rng.index(3)];
            let ttl = (until == Until::Ttl || rng.one_in(3))
                .then(|| seconds([2, 300, 100_000][rng.index(3)]));
            spec.unique =
                Some(Unique { key: ["k", "k\0", "l"][rng.index(3)].to_owned(), until, ttl });
        }
        if rng.one_in(4) {
            spec.tags = vec!["shop:1".to_owned(), "t".to_owned()];
        }
        if rng.one_in(4) {
            let (queue, job_type) = (queue(QUEUES[rng.index(4)]), "sync".to_owned());
            let payload = Payload::json("\"sorry\"");
            spec.on_failed = Some(Box::new(Followup { queue, job_type, payload }));
        }
        Rc::new(spec)
    }

    fn random_token(&self, rng: &mut Rng) -> (TenantId, LeaseToken) {
        let live: Vec<(TenantId, LeaseToken)> = self
            .model
            .jobs
            .iter()
            .filter_map(|(key, job)| match &job.place {
                Place::Running(lease) => Some((key.0, lease.token)),
                Place::Waiting(_) | Place::Delayed(_) | Place::Failed(_) => None,
            })
            .collect();
        let (tenant, mut token) = if !live.is_empty() && !rng.one_in(5) {
            live[rng.index(live.len())]
        } else if self.tokens.is_empty() {
            (TENANTS[0], LeaseToken { job: JobId::from_raw(1), fence: 1, secret: 1 })
        } else {
            self.tokens[rng.index(self.tokens.len())]
        };
        match rng.below(40) {
            0 => token.secret ^= 1,
            1 => token.fence += 1,
            2 => return (TENANTS[usize::from(tenant == TENANTS[0])], token),
            _ => {}
        }
        (tenant, token)
    }

    fn random_id(&self, rng: &mut Rng) -> JobId {
        let live: Vec<JobId> = self.model.jobs.keys().map(|key| key.1).collect();
        if live.is_empty() || rng.one_in(6) {
            let any = self.ids.iter().nth(rng.index(self.ids.len().max(1)));
            return any.copied().unwrap_or(JobId::from_raw(5));
        }
        live[rng.index(live.len())]
    }

    fn random_action(&mut self, rng: &mut Rng) -> Action {
        let tenant = TENANTS[usize::from(rng.one_in(3))];
        let name = queue(QUEUES[rng.index(4)]);
        // So many jobs that all is met, and so few that a step is cheap.
        let crowded = 30 < self.model.jobs.len();
        match rng.below(100) {
            0..30 if !crowded => {
                let many = if rng.one_in(5) { 1 + rng.index(6) } else { 1 };
                let specs = (0..many).map(|_| self.random_spec(rng)).collect();
                let byte = |rng: &mut Rng| u8::try_from(rng.below(3)).unwrap();
                let call = rng.one_in(4).then(|| {
                    // Mostly the same body with the same key.
                    let key = byte(rng);
                    let fingerprint = if rng.one_in(8) { 9 } else { key };
                    Call { key: [key; 16], fingerprint: [fingerprint; 16] }
                });
                Action::Push(tenant, specs, call)
            }
            0..48 => random_lease(tenant, rng),
            48..68 => {
                let (tenant, token) = self.random_token(rng);
                Action::End(tenant, token, random_end(rng))
            }
            68..72 => {
                let (tenant, token) = self.random_token(rng);
                let by = (!rng.one_in(4)).then(|| seconds([1, 30, 100_000][rng.index(3)]));
                let progress = rng.one_in(2).then_some(0.25);
                let checkpoint = rng.one_in(3).then(|| {
                    let long = [3, 16_000][rng.index(2)];
                    vec![b'7'; long]
                });
                Action::Extend(tenant, token, Extension { by, progress, checkpoint })
            }
            72..74 => {
                let leases =
                    rng.one_in(2).then(|| (0..2).map(|_| self.random_token(rng).1).collect());
                let by = rng.one_in(2).then(|| seconds(45));
                Action::Renew(tenant, WORKERS[rng.index(3)], leases, by)
            }
            74 => Action::Pin(tenant, WORKERS[rng.index(3)], PROCESSES[rng.index(2)]),
            75..77 => {
                let (tenant, token) = self.random_token(rng);
                Action::GiveBack(tenant, vec![token, token])
            }
            77..80 => Action::Cancel(tenant, self.random_id(rng)),
            80 => Action::Goodbye(tenant, WORKERS[rng.index(3)]),
            81 => Action::Died(PROCESSES[rng.index(2)], !rng.one_in(4)),
            82..86 => Action::Due,
            86..89 => Action::Ends,
            89 => {
                let state = [State::Waiting, State::Delayed, State::Failed][rng.index(3)];
                Action::Clear(tenant, name, state)
            }
            90..93 => self.random_sentence(tenant, name, rng),
            93 => Action::Prune(tenant, name),
            94..96 => Action::Patch(tenant, name, Box::new(random_patch(rng))),
            96 => Action::Forget(tenant, name),
            97 => self.random_schedule(tenant, rng),
            _ => self.random_delivery(rng),
        }
    }

    fn random_delivery(&mut self, rng: &mut Rng) -> Action {
        let stale = rng.one_in(3);
        let mut fresh = Vec::new();
        let limit = 1 + rng.index(40);
        self.world
            .engine
            .read(&mut |view| {
                fresh = outbox::page(view, limit).unwrap();
                Ok(())
            })
            .unwrap();
        let known = |parcel: &Parcel| self.model.outbox[&(parcel.tenant, parcel.id)].clone();
        let fresh: Vec<(Parcel, Over)> =
            fresh.into_iter().map(|parcel| (parcel.clone(), known(&parcel))).collect();
        let before = std::mem::replace(&mut self.parcels, fresh.clone());
        Action::Deliver(if stale { before } else { fresh })
    }

    fn random_sentence(&self, tenant: TenantId, name: QueueName, rng: &mut Rng) -> Action {
        let which = match rng.below(3) {
            0 => Which::Ids((0..3).map(|_| self.random_id(rng)).collect()),
            1 => Which::Queue(name),
            _ => {
                let (class, message) = FAILURES[rng.index(3)];
                Which::Fingerprint(fingerprint(class, message, None))
            }
        };
        let pace = Duration::from_millis([0, 50, 20_000][rng.index(3)]);
        let verdict = if rng.one_in(4) { Verdict::Discard } else { Verdict::Retry { pace } };
        Action::Sentence(tenant, which, verdict)
    }

    fn random_schedule(&mut self, tenant: TenantId, rng: &mut Rng) -> Action {
        let name = ["nightly", "often"][rng.index(2)];
        if rng.one_in(3) {
            return Action::Unschedule(tenant, name);
        }
        let mut spec = Spec::clone(&self.random_spec(rng));
        spec.when = When::Now;
        spec.payload = Payload::json("1");
        let overlap = [Overlap::Skip, Overlap::Queue][rng.index(2)];
        let catch_up = [CatchUp::None, CatchUp::One, CatchUp::All][rng.index(3)];
        let every = seconds([7, 60, 300, 86_400][rng.index(4)]);
        let catch_up = if every < seconds(60) { CatchUp::One } else { catch_up };
        Action::Schedule(tenant, name, every, overlap, catch_up, Rc::new(spec))
    }

    /// Some operations in one commit, and what becomes of it.
    fn step(&mut self, rng: &mut Rng, fate: Fate) {
        let many = if rng.one_in(4) { 1 + rng.index(5) } else { 1 };
        let actions: Vec<Action> = (0..many).map(|_| self.random_action(rng)).collect();
        let spoilt: Vec<Spoilt> = (0..many)
            .map(|_| match rng.below(40) {
                0 => Spoilt::Refused,
                1 => Spoilt::Panicked,
                _ => Spoilt::No,
            })
            .collect();
        let before = self.model.clone();
        let fence = {
            let (model, engine) = (&mut self.model, self.world.engine);
            let World { memory, rng, now, .. } = &mut self.world;
            let notes = std::cell::RefCell::new((
                model,
                &mut self.tokens,
                &mut self.ids,
                &mut self.last_id,
            ));
            let shared = std::cell::RefCell::new((memory, rng));
            let (now, context) = (*now, &self.context);
            let operations = actions.iter().zip(&spoilt).map(|(action, spoilt)| {
                let (notes, shared) = (&notes, &shared);
                let operation = move |tx: &mut dyn Write| {
                    let (memory, rng) = &mut *shared.borrow_mut();
                    let (model, tokens, ids, last_id) = &mut *notes.borrow_mut();
                    let context = format!("{context}: {action:?}");
                    let mut one = One { model, memory, rng, now, context, tokens, ids, last_id };
                    one.run(tx, action, *spoilt)
                };
                Box::new(operation) as Box<dyn FnOnce(&mut dyn Write) -> bool>
            });
            batch(engine, fate, operations.collect());
            notes.borrow().0.last_fence
        };
        self.operations += many as u64;
        self.panics += spoilt.iter().filter(|spoilt| **spoilt == Spoilt::Panicked).count() as u64;
        if fate == Fate::Lost {
            self.model = before;
            self.model.last_fence = fence;
        }
        if fate != Fate::Stored {
            let loaded = self.world.load();
            self.model.restart(self.world.now, loaded.rebooted);
        }
    }

    fn restart(&mut self, rng: &mut Rng) {
        let away = Duration::from_millis([0, 1_000, 40_000, 3_700_000][rng.index(4)]);
        let rebooted = rng.one_in(3);
        // Nothing was ever given out, so nobody noted which run of the machine it was.
        let rebooted = rebooted && self.last_id != JobId::from_raw(0);
        if rebooted {
            self.world.boot_id += 1;
        }
        let loaded = self.world.restart(away);
        let (fence, id) = self.model.told;
        (self.model.last_fence, self.last_id) = (fence, id.unwrap_or(JobId::from_raw(0)));
        let known = loaded.rebooted;
        self.model.restart(self.world.now, known);
        let processes = self.model.jobs.values().filter_map(|job| match &job.place {
            Place::Running(lease) => lease.process,
            Place::Waiting(_) | Place::Delayed(_) | Place::Failed(_) => None,
        });
        let processes: BTreeSet<(u32, u64)> = processes.collect();
        assert_eq!(loaded.processes, Vec::from_iter(processes), "{}", self.context);
        assert_eq!(
            (loaded.damaged, loaded.jobs, known),
            (0, self.model.jobs.len() as u64, known || rebooted),
            "{}",
            self.context
        );
    }

    fn remove_tenant(&mut self, tenant: TenantId) {
        while !self.world.run(|op| change::remove_tenant_step(op, tenant)) {}
        self.world.memory.forget_tenant(tenant);
        self.model.remove_tenant(tenant);
    }

    fn check(&self, context: &str) {
        self.world.assert_sound(context);
        let report = crate::queue::check::check(self.world.engine).unwrap();
        assert_eq!(report.jobs, self.model.jobs.len() as u64, "{context}");
        assert_eq!(self.world.memory.next_end(), self.model.next_end(), "{context}");
        let due = (self.world.memory.first_due_ms(), self.model.first_due());
        assert!(due.1.is_none_or(|due_ms| due.0.is_some_and(|known| known <= due_ms)), "{context}");
        let mut parcels = Vec::new();
        self.world
            .engine
            .read(&mut |view| {
                self.model.assert_same(view, context);
                parcels = outbox::page(view, 500).unwrap();
                Ok(())
            })
            .unwrap();
        for (parcel, (key, over)) in parcels.iter().zip(&self.model.outbox) {
            let over = if over.is_gone() { Over::GONE } else { over.clone() };
            let told = ((parcel.tenant, parcel.id), told_of(parcel));
            assert_eq!(told, (*key, over), "{context}");
        }
        let all = self.model.outbox.len();
        assert!(
            parcels.len() == all || 40 < parcels.len(),
            "{context}: {} of {all}",
            parcels.len()
        );
    }
}

/// One operation on its way.
struct One<'o> {
    model: &'o mut Model,
    memory: &'o mut Memory,
    rng: &'o mut Rng,
    now: Now,
    context: String,
    tokens: &'o mut VecDeque<(TenantId, LeaseToken)>,
    ids: &'o mut BTreeSet<JobId>,
    last_id: &'o mut JobId,
}

impl One<'_> {
    /// Performs it here and there; whether it is kept.
    fn run(&mut self, tx: &mut dyn Write, action: &Action, spoilt: Spoilt) -> bool {
        let (now, before) = (self.now, self.memory.queues_len());
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut draw = || self.rng.next_u64();
            run(tx, self.memory, (now, &mut draw), |op| {
                let said = perform(op, action)?;
                match spoilt {
                    Spoilt::No => Ok(said),
                    Spoilt::Refused => Err(Error::TooManyCalls),
                    Spoilt::Panicked => resume_unwind(Box::new("a planned panic")),
                }
            })
        }));
        let Ok(result) = result else {
            assert_eq!(spoilt, Spoilt::Panicked, "{}: it panicked", self.context);
            self.learn_queues(before);
            return false;
        };
        match result {
            Ok((said, events)) => {
                self.compare(tx, action, (said, &events));
                true
            }
            Err(error) => {
                if spoilt == Spoilt::No {
                    self.compare_refusal(tx, action, &error);
                }
                self.learn_queues(before);
                false
            }
        }
    }

    /// What is undone leaves a queue that is empty.
    fn learn_queues(&mut self, _before: usize) {
        let known = self.memory.all_queues().map(|queue| (queue.tenant, queue.name.clone()));
        self.model.known = known.collect();
    }

    fn compare(&mut self, tx: &dyn Read, action: &Action, (said, events): (Said, &[Event])) {
        let new = new_ids(tx, *self.last_id);
        self.ids.extend(&new);
        *self.last_id = new.last().copied().unwrap_or(*self.last_id);
        self.model.told.1 = Some(*self.last_id);
        self.model.ids = new.into();
        let before = states(self.model);
        let at = At { now: self.now, view: tx };
        let expected =
            catch_unwind(AssertUnwindSafe(|| self.model.perform(at, action, Some(&said))));
        let expected = expected.unwrap_or_else(|why| {
            // Where the model itself stumbled.
            let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
            panic!("{}: {why}", self.context)
        });
        let expected = expected.unwrap_or_else(|error| {
            panic!("{}: it should have been refused: {error}", self.context)
        });
        if said != expected {
            let short = |said: &Said| format!("{said:?}").chars().take(3_000).collect::<String>();
            panic!("{}: it said {}, not {}", self.context, short(&said), short(&expected));
        }
        assert!(self.model.ids.is_empty(), "{}: jobs of nobody", self.context);
        if let (Said::Taken(taken), Action::Lease(tenant, _)) = (&said, action) {
            self.tokens.extend(taken.jobs.iter().map(|job| (*tenant, job.token)));
            while 40 < self.tokens.len() {
                self.tokens.pop_front();
            }
        }
        self.compare_events(&before, events);
    }

    /// Whoever waits for something hears of it.
    fn compare_events(&self, before: &[((TenantId, JobId), State)], events: &[Event]) {
        let context = &self.context;
        let after: std::collections::BTreeMap<_, _> = states(self.model).into_iter().collect();
        let was: std::collections::BTreeMap<_, _> = before.iter().copied().collect();
        for (key, state) in &after {
            let changed = was.get(key) != Some(state);
            let told = match state {
                State::Waiting => events
                    .iter()
                    .any(|event| matches!(event, Event::Ready(tenant, _, _) if *tenant == key.0)),
                State::Failed => events.contains(&Event::Finished(key.0, key.1)),
                State::Running => events.iter().any(|event| matches!(event, Event::Ends(_))),
                State::Delayed | State::Done | State::Cancelled => true,
            };
            assert!(!changed || told, "{context}: nobody heard that {} is {state}", key.1);
        }
        for (key, state) in before {
            let gone = !after.contains_key(key) && *state != State::Failed;
            let told = events.contains(&Event::Finished(key.0, key.1));
            assert!(!gone || told, "{context}: nobody heard that {} is over", key.1);
        }
    }

    fn compare_refusal(&mut self, tx: &dyn Read, action: &Action, error: &Error) {
        let mut model = self.model.clone();
        let at = At { now: self.now, view: tx };
        match model.perform(at, action, None) {
            Ok(said) => panic!("{}: {error}, and not {said:?}", self.context),
            Err(expected) => {
                assert_eq!(error.to_string(), expected.to_string(), "{}", self.context);
                assert_eq!(error.code(), expected.code(), "{}", self.context);
            }
        }
    }
}

fn states(model: &Model) -> Vec<((TenantId, JobId), State)> {
    model.jobs.iter().map(|(key, job)| (*key, job.state_now())).collect()
}

/// Ids of jobs that came after this one, in order.
fn new_ids(view: &dyn Read, after: JobId) -> Vec<JobId> {
    let mut ids = Vec::new();
    for tenant in TENANTS {
        let from = rows::job_prefix(tenant, JobId::from_raw(after.raw() + 1)).to_vec();
        let range = KeyRange { from, to: KeyRange::prefix(&tenant.raw().to_be_bytes()).to };
        view.scan(Table::Jobs, &range, Order::Forward, &mut |key, _| {
            let (_, id, part) = rows::read_job_key(Table::Jobs, key).unwrap();
            if part == 0 {
                ids.push(id);
            }
            Flow::On
        })
        .unwrap();
    }
    ids.sort();
    ids
}

fn random_payload(rng: &mut Rng) -> Payload {
    let length = match rng.below(400) {
        0 => 1 << 20,
        1..8 => 40_000 + rng.index(60_000),
        8..20 => 3_900 + rng.index(400),
        _ => rng.index(60),
    };
    let fill = u8::try_from(rng.below(256)).unwrap();
    let content_type = rng.one_in(3).then(|| "text/plain".to_owned());
    Payload { content_type, bytes: vec![fill; length] }
}

fn random_rules(rng: &mut Rng) -> Rules {
    Rules {
        max_tries: rng.one_in(2).then(|| u32::try_from(1 + rng.below(3)).unwrap()),
        max_crashes: rng.one_in(2).then(|| u32::try_from(1 + rng.below(3)).unwrap()),
        timeout: rng.one_in(2).then(|| seconds([1, 45, 600][rng.index(3)])),
        backoff: rng.one_in(2).then(|| match rng.below(3) {
            0 => Backoff::Fixed { base: Duration::from_millis([0, 700][rng.index(2)]) },
            1 => Backoff::List(vec![seconds(1), seconds(0), seconds(90)]),
            _ => Backoff::Exponential { base: seconds(2), cap: seconds(7) },
        }),
    }
}

fn random_lease(tenant: TenantId, rng: &mut Rng) -> Action {
    let mut queues: Vec<QueueName> = QUEUES.map(queue).to_vec();
    for place in (1..4).rev() {
        queues.swap(place, rng.index(place + 1));
    }
    queues.truncate(1 + rng.index(4));
    let worker = (!rng.one_in(4)).then(|| Arc::from(WORKERS[rng.index(3)]));
    let process = rng.one_in(3).then(|| PROCESSES[rng.index(2)]);
    let lease = (!rng.one_in(3)).then(|| seconds([1, 20, 90, 7_200][rng.index(4)]));
    let max = [1, 1, 2, 10][rng.index(4)];
    Action::Lease(tenant, Want { queues, max, lease, worker, process })
}

fn random_end(rng: &mut Rng) -> End {
    match rng.below(10) {
        0..4 => {
            let result = rng.one_in(3).then(|| vec![b'1'; [2, 20_000, 64_000][rng.index(3)]]);
            End::Done { result }
        }
        4..8 => {
            let (class, message) = FAILURES[rng.index(3)];
            let trace = rng.one_in(4).then(|| "x".repeat(16_000));
            let failure = Failure { class: class.to_owned(), message: message.to_owned(), trace };
            let retry = match rng.below(4) {
                0 => Retry::Never,
                1 => Retry::After(seconds([0, 3][rng.index(2)])),
                _ => Retry::ByPolicy,
            };
            End::Fail { failure, retry }
        }
        _ => {
            let delay = seconds([0, 0, 12][rng.index(3)]);
            End::Release { delay, reason: rng.one_in(2).then(|| "later".to_owned()) }
        }
    }
}

fn random_patch(rng: &mut Rng) -> Patch {
    let mut patch = Patch::default();
    match rng.below(7) {
        0 => patch.paused = Some(rng.one_in(3).then_some(true)),
        1 => patch.max_depth = Some((!rng.one_in(3)).then(|| 1 + rng.below(8))),
        2 => {
            let rate = ["2/s", "5/m", "100/h"][rng.index(3)];
            patch.rate = Some((!rng.one_in(3)).then(|| Rate::parse(rate).unwrap()));
        }
        3 => patch.concurrency = Some(rng.one_in(2).then(|| u32::try_from(rng.below(4)).unwrap())),
        4 => {
            patch.max_tries = Some(rng.one_in(2).then_some(2));
            patch.timeout = Some(rng.one_in(2).then(|| seconds(30)));
            patch.backoff = Some(rng.one_in(2).then(|| Backoff::Fixed { base: seconds(4) }));
        }
        5 => patch.keep_failed = Some(rng.one_in(2).then(|| seconds(3_000))),
        _ => {
            // Back to what the server has.
            patch.paused = Some(None);
            patch.max_depth = Some(None);
            patch.rate = Some(None);
            patch.concurrency = Some(None);
            patch.max_tries = Some(None);
            patch.timeout = Some(None);
            patch.backoff = Some(None);
            patch.keep_failed = Some(None);
        }
    }
    patch
}

/// Runs a history of so many operations; `check_every`: after how many steps everything is looked at.
fn history(kind: Kind, seed: u64, operations: u64, check_every: u64) {
    let folder = tempfile::tempdir().unwrap();
    let engine = kind.open(folder.path());
    let context = format!("seed={seed} {kind:?}");
    let mut history = History::new(&*engine, seed ^ 0x51, context.clone());
    let mut rng = Rng::from_seed(seed);
    let mut steps = 0;
    while history.operations < operations {
        steps += 1;
        history.context = format!("{context} step {steps}");
        let long = rng.one_in(60);
        let ms = if long { 1 + rng.below(30_000_000) } else { rng.below(4_000) };
        history.world.pass(Duration::from_millis(if rng.one_in(3) { 0 } else { ms }));
        match rng.below(400) {
            0..3 => history.restart(&mut rng),
            3 => history.remove_tenant(TENANTS[usize::from(!rng.one_in(3))]),
            4 => {
                history.world.memory.sweep(Mono::from_ns(u64::MAX), Duration::ZERO);
                history.model.sweep();
            }
            _ => {
                let fate = match rng.below(40) {
                    0 => Fate::Lost,
                    1 => Fate::Unknown,
                    _ => Fate::Stored,
                };
                history.step(&mut rng, fate);
            }
        }
        if steps % check_every == 0 {
            history.check(&history.context);
        }
    }
    history.check(&format!("{context} at its end"));
    assert!(0 < history.panics || operations < 1000, "{context}: nothing panicked");
}

#[test]
fn every_answer_is_that_of_the_model_and_every_step_leaves_all_in_its_place() {
    for seed in seeds(3) {
        history(Kind::Redb, seed, amount("HOLDFAST_OPERATIONS", 3_000), 1);
    }
}

#[test]
fn long_histories_are_those_of_the_model() {
    for seed in seeds(8) {
        history(Kind::Redb, seed + 100, amount("HOLDFAST_OPERATIONS", 11_500), 60);
    }
}

#[test]
fn the_other_engine_does_the_same() {
    for seed in seeds(2) {
        history(Kind::Sqlite, seed + 200, amount("HOLDFAST_OPERATIONS", 1_500), 20);
    }
}
