//! The jobs beside a naive reference, and what random histories hardly reach.

mod histories;
mod model;
mod scenarios;
mod spoilt;

use std::time::Duration;

use super::check::{check, check_memory};
use super::load::{Loaded, load};
use super::memory::{Event, Memory, Op, run};
use super::{Error, view};
use crate::base::id::{JobId, TenantId};
use crate::base::name::QueueName;
use crate::base::rng::Rng;
use crate::base::time::{Mono, Now, Timestamp};
use crate::store::{Engine, Write};
use crate::testing::batches::{Fate, batch};

pub(super) const TENANT: TenantId = TenantId::from_raw(3);
/// A Tuesday.
const BEGAN_MS: i64 = 1_700_000_000_000;

pub(super) fn queue(name: &str) -> QueueName {
    QueueName::parse(name).unwrap()
}

pub(super) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A file, memory, and the time.
pub(super) struct World<'w> {
    pub(super) engine: &'w dyn Engine,
    pub(super) memory: Memory,
    pub(super) now: Now,
    pub(super) rng: Rng,
    pub(super) boot_id: u64,
}

impl<'w> World<'w> {
    pub(super) fn new(engine: &'w dyn Engine, seed: u64) -> World<'w> {
        let wall = Timestamp::from_unix_ms(BEGAN_MS).unwrap();
        let now = Now { wall, mono: Mono::from_ns(1_000_000_000) };
        let rng = Rng::from_seed(seed);
        let mut world = World { engine, memory: Memory::default(), now, rng, boot_id: 1 };
        world.load();
        world
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = Now { wall: self.now.wall.plus(time), mono: self.now.mono.plus(time) };
    }

    pub(super) fn load(&mut self) -> Loaded {
        load(self.engine, &mut self.memory, self.now, self.boot_id).unwrap()
    }

    /// The server is started again after such a time.
    pub(super) fn restart(&mut self, away: Duration) -> Loaded {
        self.now = Now { wall: self.now.wall.plus(away), mono: Mono::from_ns(7_000_000_000) };
        let (types, retention) = (self.memory.types.clone(), self.memory.retention);
        self.memory = Memory::default();
        (self.memory.types, self.memory.retention) = (types, retention);
        self.load()
    }

    /// One operation in a commit of its own.
    pub(super) fn try_run<T>(
        &mut self,
        operation: impl FnOnce(&mut Op<'_>) -> Result<T, Error>,
    ) -> Result<(T, Vec<Event>), Error> {
        let (mut answer, now) = (None, self.now);
        let World { engine, memory, rng, .. } = self;
        let mut draw = || rng.next_u64();
        let body = |tx: &mut dyn Write| {
            let result = run(tx, memory, (now, &mut draw), operation);
            let kept = result.is_ok();
            answer = Some(result);
            kept
        };
        batch(*engine, Fate::Stored, vec![Box::new(body)]);
        answer.unwrap()
    }

    /// One operation that goes well.
    pub(super) fn run<T>(&mut self, operation: impl FnOnce(&mut Op<'_>) -> Result<T, Error>) -> T {
        self.try_run(operation).unwrap().0
    }

    /// A job as it stands.
    pub(super) fn job(&self, id: JobId) -> Option<view::Job> {
        let mut found = None;
        self.engine
            .read(&mut |view| {
                found = Some(view::job(view, TENANT, id).unwrap());
                Ok(())
            })
            .unwrap();
        found.unwrap()
    }

    /// Everything is in its place.
    pub(super) fn assert_sound(&self, context: &str) {
        let report = check(self.engine).unwrap();
        assert!(report.is_sound(), "{context}: {}", told(&report.findings));
        let findings = check_memory(self.engine, &self.memory).unwrap();
        assert!(findings.is_empty(), "{context}: {}", told(&findings));
    }
}

fn told(findings: &[super::check::Finding]) -> String {
    let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
    told.join("\n")
}
