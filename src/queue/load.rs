//! Memory, read from the file when it is opened.
//!
//! Leases run on: until the moment that stands in their row, and at least [`LEASE_GRACE`] from now, so that a
//! worker that is alive can be heard of. What ends in that time counts as nothing. After a start of the machine
//! no local process of before is alive: what they had goes back at once.

use std::time::Duration;

use super::Error;
use super::memory::{Counter, Key, Memory, Numbers, Running};
use super::rows::{self, Due, Lane, LeaseRow, NumbersRow, QueueRow, ReadyKey};
use super::tick::first_due;
use crate::base::id::TenantId;
use crate::base::limits::LEASE_GRACE;
use crate::base::name::QueueName;
use crate::base::time::Now;
use crate::store::{self, Engine, Flow, KeyRange, Order, Read, Table};

/// What has to be done when memory was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Processes of this machine that have jobs: watch them.
    pub processes: Vec<(u32, u64)>,
    /// Rows that are damaged; they are left alone.
    pub damaged: u64,
    /// Jobs that wait, are delayed, run, or were given up.
    pub jobs: u64,
    /// Whether the machine was started anew since the file was last open.
    pub rebooted: bool,
}

/// Rows that one view shows.
const PAGE: usize = 8000;
/// And bytes of them that are copied.
const PAGE_BYTES: usize = 4 << 20;

/// Looks at a row, and may look elsewhere.
type Look<'l> = dyn FnMut(&dyn Read, &[u8], &[u8]) -> Result<(), Error> + 'l;

/// Goes through a table, page by page.
pub(super) fn each(engine: &dyn Engine, table: Table, visit: &mut Look<'_>) -> Result<(), Error> {
    let mut from = Vec::new();
    loop {
        let mut refused = None;
        let (mut full, mut last) = (false, None);
        engine.read(&mut |view| {
            let (mut page, mut bytes) = (Vec::new(), 0);
            let range = KeyRange { from: from.clone(), to: None };
            view.scan(table, &range, Order::Forward, &mut |key, value| {
                bytes += key.len() + value.len();
                page.push((key.to_vec(), value.to_vec()));
                full = page.len() == PAGE || PAGE_BYTES <= bytes;
                if full { Flow::Stop } else { Flow::On }
            })?;
            for (key, value) in &page {
                if refused.is_none() {
                    refused = visit(view, key, value).err();
                }
            }
            last = page.pop().map(|(key, _)| key);
            Ok(())
        })?;
        if let Some(error) = refused {
            return Err(error);
        }
        match last {
            Some(last) if full => from = [last.as_slice(), &[0]].concat(),
            Some(_) | None => return Ok(()),
        }
    }
}

/// Shows every row of a table, without a copy of any of them.
pub(super) fn count(
    engine: &dyn Engine,
    table: Table,
    visit: &mut dyn FnMut(&[u8], &[u8]),
) -> store::Result<()> {
    let mut from = Vec::new();
    loop {
        let (mut seen, mut last) = (0, Vec::new());
        engine.read(&mut |view| {
            let range = KeyRange { from: from.clone(), to: None };
            view.scan(table, &range, Order::Forward, &mut |key, value| {
                seen += 1;
                visit(key, value);
                if seen == PAGE {
                    last = key.to_vec();
                    return Flow::Stop;
                }
                Flow::On
            })
        })?;
        if seen < PAGE {
            return Ok(());
        }
        last.push(0);
        from = last;
    }
}

/// Reads memory anew; settings of the configuration stay as they are.
pub fn load(
    engine: &dyn Engine,
    memory: &mut Memory,
    now: Now,
    boot_id: u64,
) -> Result<Loaded, Error> {
    let numbers = memory.numbers;
    memory.begin_anew();
    let mut loader = Loader { engine, memory, now, loaded: Loaded::default() };
    loader.numbers(boot_id, numbers)?;
    loader.queues()?;
    loader.ready()?;
    loader.due()?;
    loader.failed()?;
    loader.leases()?;
    loader.rest()?;
    let mut first = None;
    engine.read(&mut |view| {
        first = Some(first_due(view));
        Ok(())
    })?;
    loader.memory.first_due_ms = first.transpose()?.flatten();
    Ok(loader.loaded)
}

struct Loader<'l> {
    engine: &'l dyn Engine,
    memory: &'l mut Memory,
    now: Now,
    loaded: Loaded,
}

impl Loader<'_> {
    fn numbers(&mut self, boot_id: u64, before: Numbers) -> Result<(), Error> {
        let mut row = NumbersRow::default();
        self.engine.read(&mut |view| {
            if let Some(bytes) = view.get(Table::Meta, rows::NUMBERS_KEY)? {
                let read = rows::read_plain::<NumbersRow>(Table::Meta, &bytes);
                row = read.map_err(|error| store::Error::Damaged(error.to_string()))?;
            }
            Ok(())
        })?;
        // A machine that does not say which run it is has the number zero.
        self.loaded.rebooted = row.boot_id != 0 && boot_id != 0 && row.boot_id != boot_id;
        // Nothing up to what stands there is certain not to have been given out, and neither is what this
        // process gave out and could not store.
        self.memory.numbers = Numbers {
            next_id: row.ids_until.max(before.next_id),
            next_fence: row.fences_until.max(before.next_fence),
            stored: NumbersRow { boot_id, ..row },
            boot_stored: row.boot_id == boot_id,
        };
        Ok(())
    }

    fn qid(&mut self, tenant: TenantId, name: &str) -> Option<super::memory::Qid> {
        let name = QueueName::parse(name).ok()?;
        Some(self.memory.ensure(tenant, &name, self.now.mono))
    }

    fn add(&mut self, tenant: TenantId, name: &str, counter: &Counter, jobs: u64) {
        let Some(qid) = self.qid(tenant, name) else {
            self.loaded.damaged += jobs;
            return;
        };
        self.loaded.jobs += jobs;
        let queue = self.memory.queue_mut(qid);
        match counter {
            Counter::Ready(Lane::Band(band)) => queue.ready[usize::from(*band).min(4)] += jobs,
            Counter::Ready(Lane::Parked(job_type)) => {
                *queue.parked.entry(job_type.clone()).or_default() += jobs;
            }
            Counter::Delayed => queue.delayed += jobs,
            Counter::Running => queue.running += jobs,
            Counter::Failed => queue.failed += jobs,
        }
        if matches!(counter, Counter::Ready(_) | Counter::Delayed) {
            self.memory.tenant_mut(tenant).waiting += jobs;
        }
    }

    fn queues(&mut self) -> Result<(), Error> {
        let (mut found, mut bad) = (Vec::new(), 0);
        each(self.engine, Table::Queues, &mut |_, key, value| {
            let at = rows::read_tenant_key(Table::Queues, key);
            match (at, rows::read_plain::<QueueRow>(Table::Queues, value)) {
                (Ok((tenant, name)), Ok(row)) => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    found.push((tenant, name, row.settings()));
                }
                (Err(_), _) | (_, Err(_)) => bad += 1,
            }
            Ok(())
        })?;
        self.loaded.damaged += bad;
        for (tenant, name, settings) in found {
            if let Some(qid) = self.qid(tenant, &name) {
                let now = self.now.mono;
                self.memory.queue_mut(qid).set(std::sync::Arc::new(settings), true, now);
            }
        }
        Ok(())
    }

    /// Counts what may run, lane by lane: what has one in common stands together.
    fn ready(&mut self) -> Result<(), Error> {
        let (mut lanes, mut bad) = (Vec::<(Vec<u8>, u64)>::new(), 0);
        count(self.engine, Table::Ready, &mut |key, _| {
            // Order and id are the last 16 bytes.
            let Some(lane) = key.len().checked_sub(16).map(|end| &key[..end]) else {
                bad += 1;
                return;
            };
            match lanes.last_mut() {
                Some((last, jobs)) if last == lane => *jobs += 1,
                _ => lanes.push((lane.to_vec(), 1)),
            }
        })?;
        self.loaded.damaged += bad;
        for (mut lane, jobs) in lanes {
            lane.extend_from_slice(&[0; 16]);
            let Ok(at) = ReadyKey::read(&lane) else {
                self.loaded.damaged += jobs;
                continue;
            };
            self.add(at.tenant, &at.queue, &Counter::Ready(at.lane), jobs);
        }
        Ok(())
    }

    fn due(&mut self) -> Result<(), Error> {
        let mut delayed = std::collections::BTreeMap::<(TenantId, Vec<u8>), u64>::new();
        let mut bad = 0;
        count(self.engine, Table::Due, &mut |key, value| match Due::read(key) {
            Ok((_, Due::Job(tenant, _))) => {
                *delayed.entry((tenant, value.to_vec())).or_default() += 1;
            }
            Ok(_) => {}
            Err(_) => bad += 1,
        })?;
        self.loaded.damaged += bad;
        for ((tenant, queue), jobs) in delayed {
            self.add(tenant, &String::from_utf8_lossy(&queue), &Counter::Delayed, jobs);
        }
        Ok(())
    }

    fn failed(&mut self) -> Result<(), Error> {
        let mut failed = std::collections::BTreeMap::<(TenantId, String), u64>::new();
        let mut bad = 0;
        count(self.engine, Table::Failed, &mut |key, _| match rows::read_failed_key(key) {
            Ok((tenant, queue, _, _)) => *failed.entry((tenant, queue)).or_default() += 1,
            Err(_) => bad += 1,
        })?;
        self.loaded.damaged += bad;
        for ((tenant, queue), jobs) in failed {
            self.add(tenant, &queue, &Counter::Failed, jobs);
        }
        Ok(())
    }

    fn leases(&mut self) -> Result<(), Error> {
        let (mut found, mut bad) = (Vec::<(Key, LeaseRow)>::new(), 0);
        each(self.engine, Table::Leases, &mut |_, key, value| {
            let at = rows::read_job_key(Table::Leases, key);
            let row = value.get(2..).map(|bytes| rows::read_plain(Table::Leases, bytes));
            match (at, row) {
                (Ok((tenant, id, _)), Some(Ok(row))) => found.push(((tenant, id), row)),
                (Err(_), _) | (_, Some(Err(_)) | None) => bad += 1,
            }
            Ok(())
        })?;
        self.loaded.damaged += bad;
        for (key, row) in found {
            self.lease(key, &row);
        }
        self.loaded.processes.sort_unstable();
        self.loaded.processes.dedup();
        Ok(())
    }

    fn lease(&mut self, key: Key, row: &LeaseRow) {
        let Some(qid) = self.qid(key.0, &row.queue) else {
            self.loaded.damaged += 1;
            return;
        };
        self.add(key.0, &row.queue, &Counter::Running, 1);
        let left = |until_ms: u64| rows::at(until_ms).since(self.now.wall);
        let lease = Duration::from_millis(row.lease_ms);
        let grace = lease.min(LEASE_GRACE);
        let timeout = self.now.mono.plus(left(row.timeout_at_ms).max(grace));
        let until = self.now.mono.plus(left(row.until_ms).max(grace));
        let gone = self.loaded.rebooted && row.process.is_some();
        let process = row.process.map(|process| (process.pid, process.started));
        let running = Running {
            queue: qid,
            fence: row.fence,
            until: if gone { self.now.mono } else { until.min(timeout) },
            timeout,
            worker: row.worker.as_deref().map(std::sync::Arc::from),
            process: process.filter(|_| !gone),
            // Who had longer was not cut short by the absence: its silence is a crash.
            grace: gone || left(row.until_ms) <= grace,
        };
        self.loaded.processes.extend(running.process);
        self.memory.start(key, running);
    }

    fn rest(&mut self) -> Result<(), Error> {
        let mut calls = std::collections::BTreeMap::<TenantId, u64>::new();
        count(self.engine, Table::Calls, &mut |key, _| {
            if key.ends_with(&[0, 0])
                && let Ok((tenant, _)) = rows::read_tenant_key(Table::Calls, key)
            {
                *calls.entry(tenant).or_default() += 1;
            }
        })?;
        for (tenant, jobs) in calls {
            self.memory.tenant_mut(tenant).calls = jobs;
        }
        let mut schedules = std::collections::BTreeMap::<TenantId, usize>::new();
        count(self.engine, Table::Schedules, &mut |key, _| {
            if let Ok((tenant, _, 0)) = rows::read_named_key(Table::Schedules, key) {
                *schedules.entry(tenant).or_default() += 1;
            }
        })?;
        for (tenant, number) in schedules {
            self.memory.tenant_mut(tenant).schedules = number;
            self.memory.schedules += number;
        }
        let mut outbox = 0;
        count(self.engine, Table::Outbox, &mut |key, _| {
            outbox += u64::from(key.ends_with(&[0, 0]));
        })?;
        self.memory.outbox = outbox;
        self.days()
    }

    fn days(&mut self) -> Result<(), Error> {
        let (mut days, mut bad) = (Vec::new(), 0);
        each(self.engine, Table::Meta, &mut |_, key, value| {
            let Some(raw) = key.strip_prefix(b"queue.day.") else { return Ok(()) };
            match (raw.try_into(), rows::read_plain::<rows::DayRow>(Table::Meta, value)) {
                (Ok(raw), Ok(row)) => days.push((TenantId::from_raw(u64::from_be_bytes(raw)), row)),
                (Err(_), _) | (_, Err(_)) => bad += 1,
            }
            Ok(())
        })?;
        self.loaded.damaged += bad;
        for (tenant, row) in days {
            self.memory.tenant_mut(tenant).today = (row.day, row.jobs);
        }
        Ok(())
    }
}
