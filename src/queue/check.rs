//! The invariants of the jobs, checked on a file that nobody writes, and on memory beside it.
//!
//! Jobs, leases, courses and the outbox are sorted alike and are gone through side by side; where a job has to
//! stand follows from them, and is looked up. When every job was found in its place and an index has as many
//! rows as were found, it holds nothing else; only when the numbers differ is it gone through row by row. So a
//! million jobs take some seconds, and memory holds one page of each table.

use std::collections::VecDeque;
use std::fmt;

use super::job::{State, Until};
use super::load::{self, each};
use super::memory::{Key, Memory, QueueState};
use super::push::order;
use super::rate::Bucket;
use super::rows::{
    self, CallRow, CourseRow, Damaged, Due, FinishedRow, JobRow, Lane, LeaseRow, NumbersRow,
    QueueRow, ReadyKey, ReadyRow, RowError, ScheduleRow, Standing, UniqueRow, named_key,
};
use super::{Error, outbox, push};
use crate::base::codec::{self, Record, Schema};
use crate::base::id::{JobId, TenantId};
use crate::base::time::{Mono, Now, Timestamp};
use crate::store::{Engine, Flow, KeyRange, Order, Read, Table};

/// Findings that are told one by one; the rest are counted.
const TOLD_MAX: usize = 100;
/// Rows, and bytes, of one page.
const PAGE_ROWS: usize = 2000;
const PAGE_BYTES: usize = 2 << 20;
/// Jobs whose places are looked up in one view.
const LOOKED_UP: usize = 1000;

/// What is wrong with something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A row cannot be read.
    Unreadable(Damaged),
    /// A job stands in no index: it will never run.
    Nowhere,
    /// A job stands where it should not.
    Misplaced,
    /// A row belongs to a job that is not there.
    NoJob,
    /// Two rows about one job contradict each other.
    Contradiction(&'static str),
    /// A unique key is held by no job that may hold it.
    UniqueLeaked(String),
    /// A job that should hold its unique key does not.
    UniqueLost(String),
    /// Something that ends at a moment will not be noticed then.
    NeverDue(&'static str),
    /// Something is due that is not there.
    DueForNothing(&'static str),
    /// A job that is over is still there.
    NotOver,
    /// A number was given out that may be given out again.
    Number {
        /// Ids, or fences.
        what: &'static str,
        /// Which.
        number: u64,
        /// Where the file says that they end.
        until: u64,
    },
    /// Memory differs from the file.
    Memory {
        /// In what.
        what: &'static str,
        /// What memory holds.
        memory: String,
        /// What the file holds.
        file: String,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Unreadable(why) => write!(f, "it cannot be read: {why}"),
            Wrong::Nowhere => f.write_str("it stands in no index and will never run"),
            Wrong::Misplaced => f.write_str("it stands here, and should not"),
            Wrong::NoJob => f.write_str("its job is not there"),
            Wrong::Contradiction(what) => f.write_str(what),
            Wrong::UniqueLeaked(key) => {
                write!(f, "the unique key {key:?} is held, and no job may hold it any more")
            }
            Wrong::UniqueLost(key) => write!(f, "it does not hold its unique key {key:?}"),
            Wrong::NeverDue(what) => write!(f, "nothing notices when {what} comes to its time"),
            Wrong::DueForNothing(what) => write!(f, "{what} is due, and is not there"),
            Wrong::NotOver => f.write_str("the history hears that it is over, and it is here"),
            Wrong::Number { what, number, until } => {
                write!(f, "{what} {number} was given out, and the file says they end below {until}")
            }
            Wrong::Memory { what, memory, file } => {
                write!(f, "{what}: memory has {memory}, the file {file}")
            }
        }
    }
}

impl Wrong {
    /// What to do about it.
    pub const fn advice(&self) -> &'static str {
        match self {
            Wrong::Unreadable(_) => "the disk or the file is damaged: restore the latest backup",
            Wrong::Nowhere => "look at it with its id, and push its payload again",
            Wrong::NoJob | Wrong::Misplaced | Wrong::DueForNothing(_) => {
                "nothing runs because of it; keep a copy of the file and report it"
            }
            Wrong::Contradiction(_) | Wrong::NotOver => {
                "the job may run once more or not at all: look at it with its id; report it"
            }
            Wrong::UniqueLeaked(_) => {
                "no job with this key can be pushed: push with another key; report it"
            }
            Wrong::UniqueLost(_) => "a second job with this key can be pushed; report it",
            Wrong::NeverDue(_) => "set it again, or push the job again; report it",
            Wrong::Number { .. } => {
                "do not start the server on this file: restore the latest backup"
            }
            Wrong::Memory { .. } => {
                "start the server again: memory is read from the file; report it"
            }
        }
    }
}

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In which table.
    pub table: Table,
    /// Whose, if that is known.
    pub tenant: Option<TenantId>,
    /// In which queue.
    pub queue: Option<String>,
    /// Which job.
    pub job: Option<JobId>,
    /// What.
    pub wrong: Wrong,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}", self.table.name())?;
        if let Some(tenant) = self.tenant {
            write!(f, ", tenant {tenant}")?;
        }
        if let Some(queue) = &self.queue {
            write!(f, ", queue {queue}")?;
        }
        if let Some(job) = self.job {
            write!(f, ", job {job}")?;
        }
        write!(f, ": {}; {}", self.wrong, self.wrong.advice())
    }
}

/// What a check came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, the first hundred.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub untold: u64,
    /// Jobs that were looked at.
    pub jobs: u64,
}

impl Report {
    /// Whether all is as it should be.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.untold == 0
    }

    fn tell(&mut self, finding: Finding) {
        if self.findings.len() < TOLD_MAX {
            self.findings.push(finding);
        } else {
            self.untold += 1;
        }
    }

    fn about(&mut self, table: Table, key: Key, queue: Option<&str>, wrong: Wrong) {
        let queue = queue.map(str::to_owned);
        self.tell(Finding { table, tenant: Some(key.0), queue, job: Some(key.1), wrong });
    }

    fn row(&mut self, table: Table, tenant: Option<TenantId>, queue: Option<&str>, wrong: Wrong) {
        let queue = queue.map(str::to_owned);
        self.tell(Finding { table, tenant, queue, job: None, wrong });
    }

    /// Takes what belongs to the row out of an error; what does not is passed on.
    fn unreadable<T>(
        &mut self,
        key: Option<Key>,
        read: Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(Error::Row(RowError::Damaged { table, why })) => {
                let (tenant, job) = (key.map(|key| key.0), key.map(|key| key.1));
                self.tell(Finding {
                    table,
                    tenant,
                    queue: None,
                    job,
                    wrong: Wrong::Unreadable(why),
                });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Goes through a file that nobody writes meanwhile. Errors: the store alone; what is wrong with rows is in the
/// report.
pub fn check(engine: &dyn Engine) -> Result<Report, Error> {
    let mut report = Report::default();
    let numbers = numbers(engine, &mut report)?;
    let found = Jobs::new(engine, numbers).run(&mut report)?;
    let totals = Totals::read(engine)?;
    strays(engine, &mut report, (&found, &totals))?;
    let uniques = uniques(engine, &mut report)?;
    let calls = calls(engine, &mut report)?;
    let schedules = schedules(engine, &mut report, numbers)?;
    let due = [
        (1_u8, "a unique key", uniques, totals.uniques),
        (2, "a call", calls, totals.calls),
        (3, "a schedule", schedules, totals.schedules),
    ];
    for (kind, what, expected, total) in due {
        if expected != total {
            stray_due(engine, &mut report, (kind, what))?;
        }
    }
    queues(engine, &mut report)?;
    Ok(report)
}

fn numbers(engine: &dyn Engine, report: &mut Report) -> Result<NumbersRow, Error> {
    let mut read = Ok(None);
    engine.read(&mut |view| {
        read = rows::get_plain::<NumbersRow>(view, Table::Meta, rows::NUMBERS_KEY);
        Ok(())
    })?;
    Ok(report.unreadable(None, read.map_err(Error::from))?.flatten().unwrap_or_default())
}

/// Key and value.
type Row = (Vec<u8>, Vec<u8>);

/// One record of a table whose keys begin with a job.
struct Found {
    key: Key,
    bytes: Result<Vec<u8>, Damaged>,
}

impl Found {
    fn read<R: Record + Schema>(self, table: Table) -> Result<R, Error> {
        let damaged = rows::damaged(table);
        let bytes = self.bytes.map_err(&damaged)?;
        Ok(codec::decode(&bytes).map_err(|error| damaged(error.into()))?)
    }
}

/// Goes through such a table, record by record.
struct Cursor<'e> {
    engine: &'e dyn Engine,
    table: Table,
    rows: VecDeque<Row>,
    /// Where the next page begins; nothing behind the last one.
    from: Option<Vec<u8>>,
    head: Option<Found>,
}

impl<'e> Cursor<'e> {
    fn new(engine: &'e dyn Engine, table: Table, report: &mut Report) -> Result<Cursor<'e>, Error> {
        let mut cursor =
            Cursor { engine, table, rows: VecDeque::new(), from: Some(Vec::new()), head: None };
        cursor.step(report)?;
        Ok(cursor)
    }

    fn fill(&mut self) -> Result<(), Error> {
        let (Some(from), true) = (self.from.take(), self.rows.is_empty()) else {
            return Ok(());
        };
        let range = KeyRange { from, to: None };
        let (mut rows, mut bytes, mut more) = (VecDeque::new(), 0, None);
        self.engine.read(&mut |view| {
            view.scan(self.table, &range, Order::Forward, &mut |key, value| {
                bytes += key.len() + value.len();
                rows.push_back((key.to_vec(), value.to_vec()));
                if rows.len() < PAGE_ROWS && bytes < PAGE_BYTES {
                    return Flow::On;
                }
                more = Some([key, &[0]].concat());
                Flow::Stop
            })
        })?;
        (self.rows, self.from) = (rows, more);
        Ok(())
    }

    fn next_row(&mut self) -> Result<Option<Row>, Error> {
        if self.rows.is_empty() && self.from.is_some() {
            self.fill()?;
        }
        Ok(self.rows.pop_front())
    }

    /// Whether the next row is this part; then it is taken.
    fn next_part(&mut self, prefix: &[u8], part: u16) -> Result<Option<Vec<u8>>, Error> {
        if self.rows.is_empty() && self.from.is_some() {
            self.fill()?;
        }
        let wanted = [prefix, &part.to_be_bytes()].concat();
        let next = self.rows.front().is_some_and(|(key, _)| *key == wanted);
        Ok(if next { self.rows.pop_front().map(|(_, value)| value) } else { None })
    }

    fn step(&mut self, report: &mut Report) -> Result<(), Error> {
        self.head = loop {
            let Some((key, value)) = self.next_row()? else {
                break None;
            };
            let read = rows::read_job_key(self.table, &key).map_err(Error::from);
            let Some((tenant, id, part)) = report.unreadable(None, read)? else {
                continue;
            };
            if part != 0 {
                let wrong = Wrong::Contradiction("a part of a record stands alone");
                report.about(self.table, (tenant, id), None, wrong);
                continue;
            }
            break Some(Found { key: (tenant, id), bytes: self.whole(&key[..16], &value)? });
        };
        Ok(())
    }

    fn whole(&mut self, prefix: &[u8], first: &[u8]) -> Result<Result<Vec<u8>, Damaged>, Error> {
        let Some((count, part)) = first.split_first_chunk::<2>() else {
            return Ok(Err(Damaged::Part));
        };
        let mut bytes = part.to_vec();
        for number in 1..u16::from_be_bytes(*count) {
            match self.next_part(prefix, number)? {
                Some(part) => bytes.extend_from_slice(&part),
                None => return Ok(Err(Damaged::Part)),
            }
        }
        Ok(Ok(bytes))
    }

    fn take(&mut self, report: &mut Report) -> Result<Option<Found>, Error> {
        let head = self.head.take();
        self.step(report)?;
        Ok(head)
    }
}

/// Where a job has to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Leased,
    Failed {
        at_ms: u64,
        fingerprint: u64,
    },
    Waiting {
        since_ms: u64,
    },
    /// Delayed until then, or waiting since then.
    Either {
        at_ms: u64,
    },
}

/// What has to be found about a job.
struct Expected {
    key: Key,
    queue: String,
    job_type: String,
    place: Place,
    band: super::job::Band,
    has_course: bool,
    /// A key that it has to hold.
    unique: Option<String>,
}

impl Expected {
    fn of(key: Key, job: &JobRow, course: Option<&CourseRow>, leased: bool) -> Expected {
        let place = match course.map(|course| course.standing) {
            _ if leased => Place::Leased,
            Some(Standing::Failed { at_ms }) => {
                let error = course.and_then(|course| course.last_error.as_ref());
                Place::Failed { at_ms, fingerprint: error.map_or(0, |error| error.fingerprint) }
            }
            Some(Standing::Waiting { since_ms }) => Place::Waiting { since_ms },
            Some(Standing::Delayed { until_ms }) => Place::Either { at_ms: until_ms },
            None => Place::Either { at_ms: job.run_at_ms },
        };
        let failed = matches!(place, Place::Failed { .. });
        let unique = job
            .unique
            .as_ref()
            .filter(|unique| !failed && unique.until() == Until::Done && unique.ttl_ms.is_none());
        Expected {
            key,
            queue: job.queue.clone(),
            job_type: job.job_type.clone(),
            place,
            band: job.band(),
            has_course: course.is_some(),
            unique: unique.map(|unique| unique.key.clone()),
        }
    }

    /// The rows of an index where it may stand.
    fn ready_keys(&self) -> Vec<Vec<u8>> {
        let since_ms = match self.place {
            Place::Waiting { since_ms } => since_ms,
            Place::Either { at_ms } => at_ms,
            Place::Leased | Place::Failed { .. } => return Vec::new(),
        };
        let at = (order(since_ms, self.band), self.key.1);
        let lanes = [Lane::Band(self.band as u8), Lane::Parked(self.job_type.clone())];
        lanes.map(|lane| rows::ready_key(self.key.0, &self.queue, &lane, at)).to_vec()
    }

    fn due_key(&self) -> Option<Vec<u8>> {
        match self.place {
            Place::Either { at_ms } => Some(Due::Job(self.key.0, self.key.1).key(at_ms)),
            Place::Leased | Place::Failed { .. } | Place::Waiting { .. } => None,
        }
    }

    fn failed_key(&self) -> Option<Vec<u8>> {
        match self.place {
            Place::Failed { at_ms, .. } => {
                Some(rows::failed_key(self.key.0, &self.queue, at_ms, self.key.1))
            }
            Place::Leased | Place::Either { .. } | Place::Waiting { .. } => None,
        }
    }

    fn told(&self, report: &mut Report, table: Table, wrong: Wrong) {
        report.about(table, self.key, Some(&self.queue), wrong);
    }

    fn look_up(
        &self,
        view: &dyn Read,
        report: &mut Report,
        counts: &mut Counts,
    ) -> Result<(), Error> {
        if let Some(unique) = &self.unique {
            let key = rows::unique_key(self.key.0, &self.queue, unique);
            let row = rows::get_plain::<UniqueRow>(view, Table::Unique, &key).ok().flatten();
            if row.is_none_or(|row| row.job != self.key.1.raw()) {
                self.told(report, Table::Unique, Wrong::UniqueLost(unique.clone()));
            }
        }
        for key in self.ready_keys() {
            if let Some(row) = view.get(Table::Ready, &key)? {
                counts.ready += 1;
                let right =
                    ReadyRow { has_course: self.has_course, job_type: self.job_type.clone() };
                if row != right.write() {
                    let wrong = Wrong::Contradiction(
                        "its row among those that may run says another type, or not whether it was tried",
                    );
                    self.told(report, Table::Ready, wrong);
                }
                return Ok(());
            }
        }
        if let Some(key) = self.due_key()
            && let Some(queue) = view.get(Table::Due, &key)?
        {
            counts.due += 1;
            if queue != self.queue.as_bytes() {
                let wrong =
                    Wrong::Contradiction("its row among those that are due says another queue");
                self.told(report, Table::Due, wrong);
            }
            return Ok(());
        }
        self.look_up_failed(view, report, counts)
    }

    fn look_up_failed(
        &self,
        view: &dyn Read,
        report: &mut Report,
        counts: &mut Counts,
    ) -> Result<(), Error> {
        match self.place {
            Place::Leased => {}
            Place::Failed { fingerprint, .. } => {
                let key = self.failed_key().unwrap_or_default();
                match view.get(Table::Failed, &key)? {
                    None => self.told(report, Table::Failed, Wrong::Nowhere),
                    Some(row) => {
                        counts.failed += 1;
                        if row != fingerprint.to_be_bytes() {
                            let wrong = Wrong::Contradiction("it stands with another fingerprint");
                            self.told(report, Table::Failed, wrong);
                        }
                    }
                }
            }
            Place::Waiting { .. } | Place::Either { .. } => {
                self.told(report, Table::Ready, Wrong::Nowhere);
            }
        }
        Ok(())
    }
}

/// Rows of indexes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    ready: u64,
    due: u64,
    failed: u64,
}

/// Goes through all that is sorted by jobs.
struct Jobs<'e> {
    engine: &'e dyn Engine,
    numbers: NumbersRow,
    counts: Counts,
    expected: Vec<Expected>,
}

struct Beside<'e> {
    leases: Cursor<'e>,
    courses: Cursor<'e>,
    outbox: Cursor<'e>,
}

impl<'e> Jobs<'e> {
    fn new(engine: &'e dyn Engine, numbers: NumbersRow) -> Jobs<'e> {
        Jobs { engine, numbers, counts: Counts::default(), expected: Vec::new() }
    }

    fn run(mut self, report: &mut Report) -> Result<Counts, Error> {
        let mut jobs = Cursor::new(self.engine, Table::Jobs, report)?;
        let mut beside = Beside {
            leases: Cursor::new(self.engine, Table::Leases, report)?,
            courses: Cursor::new(self.engine, Table::Courses, report)?,
            outbox: Cursor::new(self.engine, Table::Outbox, report)?,
        };
        while let Some(found) = jobs.take(report)? {
            report.jobs += 1;
            self.one(report, &mut beside, found)?;
            if self.expected.len() == LOOKED_UP {
                self.look_up(report)?;
            }
        }
        self.look_up(report)?;
        // Behind the last job.
        self.skip(report, &mut beside, None)?;
        Ok(self.counts)
    }

    fn look_up(&mut self, report: &mut Report) -> Result<(), Error> {
        let expected = std::mem::take(&mut self.expected);
        let mut refused = None;
        self.engine.read(&mut |view| {
            for one in &expected {
                if let Err(error) = one.look_up(view, report, &mut self.counts) {
                    refused = Some(error);
                    return Ok(());
                }
            }
            Ok(())
        })?;
        refused.map_or(Ok(()), Err)
    }

    /// What stands beside jobs that are not there, up to this one.
    fn skip(
        &mut self,
        report: &mut Report,
        beside: &mut Beside<'_>,
        until: Option<Key>,
    ) -> Result<(), Error> {
        for cursor in [&mut beside.leases, &mut beside.courses] {
            while let Some(head) = &cursor.head
                && until.is_none_or(|until| head.key < until)
            {
                report.about(cursor.table, head.key, None, Wrong::NoJob);
                cursor.step(report)?;
            }
        }
        while let Some(head) = &beside.outbox.head
            && until.is_none_or(|until| head.key < until)
        {
            let key = head.key;
            let finished = self.finished(report, &mut beside.outbox)?;
            if finished.is_some_and(|row| push::state_of(row.state) == State::Failed) {
                report.about(Table::Outbox, key, None, Wrong::NoJob);
            }
        }
        Ok(())
    }

    /// Takes what the history will be told of a job.
    fn finished(
        &self,
        report: &mut Report,
        outbox: &mut Cursor<'_>,
    ) -> Result<Option<FinishedRow>, Error> {
        let Some(found) = outbox.take(report)? else {
            return Ok(None);
        };
        let key = found.key;
        let read = match found.bytes {
            Ok(bytes) => outbox::read(&bytes),
            Err(why) => Err(rows::damaged(Table::Outbox)(why).into()),
        };
        let row = report.unreadable(Some(key), read)?.flatten();
        self.id(report, Table::Outbox, key);
        if let Some(row) = &row {
            self.fence(report, (Table::Outbox, key), row.fence);
        }
        Ok(row)
    }

    fn id(&self, report: &mut Report, table: Table, key: Key) {
        let (number, until) = (key.1.raw(), self.numbers.ids_until);
        if until <= number {
            report.about(table, key, None, Wrong::Number { what: "the id", number, until });
        }
    }

    fn fence(&self, report: &mut Report, (table, key): (Table, Key), number: u64) {
        let until = self.numbers.fences_until;
        if until <= number && 0 < number {
            report.about(table, key, None, Wrong::Number { what: "the fence", number, until });
        }
    }

    fn one(
        &mut self,
        report: &mut Report,
        beside: &mut Beside<'_>,
        found: Found,
    ) -> Result<(), Error> {
        let key = found.key;
        self.skip(report, beside, Some(key))?;
        self.id(report, Table::Jobs, key);
        let job = report.unreadable(Some(key), found.read::<JobRow>(Table::Jobs))?;
        let lease = next_of::<LeaseRow>(report, &mut beside.leases, key)?;
        let course = next_of::<CourseRow>(report, &mut beside.courses, key)?;
        let over = match &beside.outbox.head {
            Some(head) if head.key == key => self.finished(report, &mut beside.outbox)?,
            Some(_) | None => None,
        };
        let (Some(job), Ok(lease), Ok(course)) = (job, lease, course) else {
            // Where it has to stand cannot be said.
            return Ok(());
        };
        if let Some(lease) = &lease {
            self.lease(report, (key, &job), lease, course.is_some());
        }
        if let Some(last) = course.as_ref().and_then(|course| course.last_end) {
            self.fence(report, (Table::Courses, key), last.fence);
        }
        let failed = lease.is_none()
            && matches!(
                course.as_ref().map(|course| course.standing),
                Some(Standing::Failed { .. })
            );
        if over.is_some_and(|row| push::state_of(row.state) != State::Failed || !failed) {
            report.about(Table::Outbox, key, Some(&job.queue), Wrong::NotOver);
        }
        self.expected.push(Expected::of(key, &job, course.as_ref(), lease.is_some()));
        Ok(())
    }

    fn lease(
        &self,
        report: &mut Report,
        (key, job): (Key, &JobRow),
        lease: &LeaseRow,
        has_course: bool,
    ) {
        self.fence(report, (Table::Leases, key), lease.fence);
        let mut tell = |what| {
            report.about(Table::Leases, key, Some(&job.queue), Wrong::Contradiction(what));
        };
        if lease.queue != job.queue || lease.job_type != job.job_type {
            tell("its lease says another queue, or another type");
        }
        if lease.has_course != has_course {
            tell("its lease does not say rightly whether it was tried before");
        }
        if lease.timeout_at_ms < lease.started_at_ms || lease.fence == 0 {
            tell("its lease ends before it began, or has no fence");
        }
    }
}

/// The record beside a job, if there is one. `Err(())`: there is, and it cannot be read.
fn next_of<R: Record + Schema>(
    report: &mut Report,
    cursor: &mut Cursor<'_>,
    key: Key,
) -> Result<Result<Option<R>, ()>, Error> {
    if cursor.head.as_ref().is_none_or(|head| head.key != key) {
        return Ok(Ok(None));
    }
    let Some(found) = cursor.take(report)? else {
        return Ok(Ok(None));
    };
    let table = cursor.table;
    Ok(report.unreadable(Some(key), found.read::<R>(table))?.map(Some).ok_or(()))
}

/// How many rows there are.
#[derive(Debug, Default)]
struct Totals {
    indexes: Counts,
    uniques: u64,
    calls: u64,
    schedules: u64,
}

impl Totals {
    fn read(engine: &dyn Engine) -> Result<Totals, Error> {
        let mut totals = Totals::default();
        load::count(engine, Table::Ready, &mut |_, _| totals.indexes.ready += 1)?;
        load::count(engine, Table::Failed, &mut |_, _| totals.indexes.failed += 1)?;
        load::count(engine, Table::Due, &mut |key, _| match key.get(8) {
            Some(0) => totals.indexes.due += 1,
            Some(1) => totals.uniques += 1,
            Some(2) => totals.calls += 1,
            _ => totals.schedules += 1,
        })?;
        Ok(totals)
    }
}

/// The job that an index row is about, and where it has to stand.
fn expected(view: &dyn Read, key: Key) -> Result<Option<Expected>, Error> {
    let prefix = rows::job_prefix(key.0, key.1);
    let Some(job) = rows::get::<JobRow>(view, Table::Jobs, &prefix)? else {
        return Ok(None);
    };
    let course = super::lease::course_row(view, key)?;
    let leased = rows::get::<LeaseRow>(view, Table::Leases, &prefix)?.is_some();
    Ok(Some(Expected::of(key, &job, course.as_ref(), leased)))
}

/// Finds the rows of indexes in which no job has to stand.
fn strays(
    engine: &dyn Engine,
    report: &mut Report,
    (found, totals): (&Counts, &Totals),
) -> Result<(), Error> {
    let mut through = |table: Table| {
        each(engine, table, &mut |view, row, _| {
            let read = match table {
                Table::Ready => ReadyKey::read(row).map(|at| Some((at.tenant, at.id))),
                Table::Failed => rows::read_failed_key(row).map(|at| Some((at.0, at.3))),
                _ => Due::read(row).map(|(_, due)| match due {
                    Due::Job(tenant, id) => Some((tenant, id)),
                    Due::Unique(..) | Due::Call(..) | Due::Schedule(..) => None,
                }),
            };
            let Some(Some(key)) = report.unreadable(None, read.map_err(Error::from))? else {
                return Ok(());
            };
            let read = expected(view, key);
            match report.unreadable(Some(key), read)? {
                None => {}
                Some(None) => report.about(table, key, None, Wrong::NoJob),
                Some(Some(expected)) => {
                    let right = match table {
                        Table::Ready => expected.ready_keys().iter().any(|right| right == row),
                        Table::Failed => expected.failed_key().is_some_and(|right| right == row),
                        // It cannot be delayed and waiting at once.
                        _ => {
                            let waits = expected.ready_keys().into_iter();
                            let mut waits = waits.filter_map(|at| view.get(Table::Ready, &at).ok());
                            expected.due_key().is_some_and(|right| right == row)
                                && !waits.any(|row| row.is_some())
                        }
                    };
                    if !right {
                        report.about(table, key, Some(&expected.queue), Wrong::Misplaced);
                    }
                }
            }
            Ok(())
        })
    };
    if found.ready != totals.indexes.ready {
        through(Table::Ready)?;
    }
    if found.due != totals.indexes.due {
        through(Table::Due)?;
    }
    if found.failed != totals.indexes.failed {
        through(Table::Failed)?;
    }
    Ok(())
}

/// Every key is held by a job that may hold it. How many end at a moment.
fn uniques(engine: &dyn Engine, report: &mut Report) -> Result<u64, Error> {
    let mut timed = 0;
    each(engine, Table::Unique, &mut |view, row_key, value| {
        let read = unique_parts(row_key);
        let Some((tenant, queue, unique)) = report.unreadable(None, read)? else {
            return Ok(());
        };
        let read = rows::read_plain::<UniqueRow>(Table::Unique, value).map_err(Error::from);
        let Some(row) = report.unreadable(None, read)? else {
            return Ok(());
        };
        let id = JobId::from_raw(row.job);
        if let Some(until) = row.until_ms {
            timed += 1;
            let due = Due::Unique(tenant, queue.clone(), unique.clone());
            if view.get(Table::Due, &due.key(until))?.is_none() {
                report.about(
                    Table::Due,
                    (tenant, id),
                    Some(&queue),
                    Wrong::NeverDue("a unique key"),
                );
            }
        }
        let read = may_hold(view, (tenant, id), (&queue, &unique), row.until_ms.is_some());
        if report.unreadable(Some((tenant, id)), read)? == Some(false) {
            let wrong = Wrong::UniqueLeaked(unique);
            report.about(Table::Unique, (tenant, id), Some(&queue), wrong);
        }
        Ok(())
    })?;
    Ok(timed)
}

fn unique_parts(key: &[u8]) -> Result<(TenantId, String, String), Error> {
    // The same parts as a due row of this kind has behind its first nine bytes.
    match Due::read(&[&[0; 8], [1].as_slice(), key].concat())?.1 {
        Due::Unique(tenant, queue, unique) => Ok((tenant, queue, unique)),
        Due::Job(..) | Due::Call(..) | Due::Schedule(..) => {
            Err(rows::damaged(Table::Unique)(Damaged::Dangling("not the key of a unique row"))
                .into())
        }
    }
}

fn may_hold(
    view: &dyn Read,
    key: Key,
    (queue, unique): (&str, &str),
    timed: bool,
) -> Result<bool, Error> {
    let prefix = rows::job_prefix(key.0, key.1);
    let Some(job) = rows::get::<JobRow>(view, Table::Jobs, &prefix)? else {
        // What is held for a time is held whatever becomes of the job.
        return Ok(timed);
    };
    let Some(its) = job.unique.filter(|its| its.key == unique && job.queue == queue) else {
        return Ok(false);
    };
    if its.ttl_ms.is_some() != timed {
        return Ok(false);
    }
    let leased = rows::get::<LeaseRow>(view, Table::Leases, &prefix)?.is_some();
    let course = super::lease::course_row(view, key)?;
    let standing = course.map(|course| course.standing);
    let failed = !leased && matches!(standing, Some(Standing::Failed { .. }));
    Ok(match its.until() {
        Until::Started => !leased && !failed,
        Until::Done => !failed,
        Until::Ttl => timed,
    })
}

fn calls(engine: &dyn Engine, report: &mut Report) -> Result<u64, Error> {
    let mut calls = 0;
    each(engine, Table::Calls, &mut |view, key, _| {
        let (tenant, tail) = rows::read_tenant_key(Table::Calls, key)?;
        let Some(hash) = tail.strip_suffix(&[0, 0]) else {
            // Another part of the same record, or one that stands alone.
            let alone = tail.split_last_chunk::<2>().is_none_or(|(hash, _)| {
                let first = rows::tenant_key(tenant, &[hash, &[0, 0]].concat());
                !matches!(view.get(Table::Calls, &first), Ok(Some(_)))
            });
            if alone {
                let wrong = Wrong::Contradiction("a part of a record stands alone");
                report.row(Table::Calls, Some(tenant), None, wrong);
            }
            return Ok(());
        };
        let prefix = rows::tenant_key(tenant, hash);
        let read = rows::get::<CallRow>(view, Table::Calls, &prefix).map_err(Error::from);
        if let Some(Some(row)) = report.unreadable(None, read)? {
            calls += 1;
            let due = Due::Call(tenant, hash.to_vec()).key(row.until_ms);
            if view.get(Table::Due, &due)?.is_none() {
                report.row(Table::Due, Some(tenant), None, Wrong::NeverDue("a call"));
            }
        }
        Ok(())
    })?;
    Ok(calls)
}

fn schedules(engine: &dyn Engine, report: &mut Report, numbers: NumbersRow) -> Result<u64, Error> {
    let mut timed = 0;
    each(engine, Table::Schedules, &mut |view, key, _| {
        let read = rows::read_named_key(Table::Schedules, key).map_err(Error::from);
        let Some((tenant, name, 0)) = report.unreadable(None, read)? else {
            return Ok(());
        };
        let prefix = named_key(tenant, &name);
        let read = rows::get::<ScheduleRow>(view, Table::Schedules, &prefix).map_err(Error::from);
        let Some(Some(row)) = report.unreadable(None, read)? else {
            return Ok(());
        };
        if let Some(number) = row.last_job.filter(|id| numbers.ids_until <= *id) {
            let wrong = Wrong::Number { what: "the id", number, until: numbers.ids_until };
            report.row(Table::Schedules, Some(tenant), Some(&row.job.queue), wrong);
        }
        if let Some(at) = row.fires_at_ms {
            timed += 1;
            if view.get(Table::Due, &Due::Schedule(tenant, name).key(at))?.is_none() {
                let wrong = Wrong::NeverDue("a schedule");
                report.row(Table::Due, Some(tenant), Some(&row.job.queue), wrong);
            }
        }
        Ok(())
    })?;
    Ok(timed)
}

/// Finds the rows of one kind in Due that nothing in their table asks for.
fn stray_due(
    engine: &dyn Engine,
    report: &mut Report,
    (kind, what): (u8, &'static str),
) -> Result<(), Error> {
    each(engine, Table::Due, &mut |view, key, _| {
        if key.get(8) != Some(&kind) {
            return Ok(());
        }
        let read = Due::read(key).map_err(Error::from);
        let Some((at_ms, due)) = report.unreadable(None, read)? else {
            return Ok(());
        };
        let (tenant, asked) = match due {
            Due::Job(tenant, _) => (tenant, true),
            Due::Unique(tenant, queue, unique) => {
                let key = rows::unique_key(tenant, &queue, &unique);
                let row = rows::get_plain::<UniqueRow>(view, Table::Unique, &key)?;
                (tenant, row.is_some_and(|row| row.until_ms == Some(at_ms)))
            }
            Due::Call(tenant, hash) => {
                let row =
                    rows::get::<CallRow>(view, Table::Calls, &rows::tenant_key(tenant, &hash))?;
                (tenant, row.is_some_and(|row| row.until_ms == at_ms))
            }
            Due::Schedule(tenant, name) => {
                let key = named_key(tenant, &name);
                let row = rows::get::<ScheduleRow>(view, Table::Schedules, &key)?;
                (tenant, row.is_some_and(|row| row.fires_at_ms == Some(at_ms)))
            }
        };
        if !asked {
            report.row(Table::Due, Some(tenant), None, Wrong::DueForNothing(what));
        }
        Ok(())
    })
}

fn queues(engine: &dyn Engine, report: &mut Report) -> Result<(), Error> {
    each(engine, Table::Queues, &mut |_, _, value| {
        let read = rows::read_plain::<QueueRow>(Table::Queues, value).map_err(Error::from);
        report.unreadable(None, read)?;
        Ok(())
    })
}

/// Compares memory with what is read from the file.
pub fn check_memory(engine: &dyn Engine, memory: &Memory) -> Result<Vec<Finding>, Error> {
    let mut read = Memory::default();
    // As on the run of the machine that the file knows: what was noted stays noted.
    let boot_id = numbers(engine, &mut Report::default())?.boot_id;
    let now = Now { wall: Timestamp::MAX, mono: Mono::from_ns(0) };
    let loaded = load::load(engine, &mut read, now, boot_id)?;
    let mut differences = Differences::default();
    differences.add("rows that are damaged", None, (&0, &loaded.damaged));
    differences.queues(memory, &read);
    differences.running(memory, &read);
    differences.rest(memory, &read);
    Ok(differences.0)
}

#[derive(Default)]
struct Differences(Vec<Finding>);

impl Differences {
    fn add<T: PartialEq + fmt::Debug>(
        &mut self,
        what: &'static str,
        of: Option<(TenantId, Option<&str>)>,
        (memory, file): (&T, &T),
    ) {
        if memory == file || TOLD_MAX <= self.0.len() {
            return;
        }
        let wrong =
            Wrong::Memory { what, memory: format!("{memory:?}"), file: format!("{file:?}") };
        let queue = of.and_then(|of| of.1).map(str::to_owned);
        let tenant = of.map(|of| of.0);
        self.0.push(Finding { table: Table::Meta, tenant, queue, job: None, wrong });
    }

    fn queues(&mut self, memory: &Memory, file: &Memory) {
        let told = |memory: &Memory| {
            let mut told: Vec<_> = memory
                .all_queues()
                .filter(|queue| !queue.is_empty())
                .map(|queue| (queue.tenant, queue.name.as_str().to_owned()))
                .collect();
            told.sort();
            told
        };
        self.add("queues", None, (&told(memory), &told(file)));
        for theirs in file.all_queues() {
            let Some(qid) = memory.qid(theirs.tenant, &theirs.name) else {
                continue;
            };
            let ours = memory.queue(qid);
            let of = Some((theirs.tenant, Some(theirs.name.as_str())));
            let counts = |queue: &QueueState| {
                (queue.ready, queue.parked.clone(), queue.delayed, queue.running, queue.failed)
            };
            self.add("jobs of a queue", of, (&counts(ours), &counts(theirs)));
            self.add("settings", of, (&ours.settings, &theirs.settings));
            self.add("whether it has settings", of, (&ours.configured, &theirs.configured));
            let limited = |queue: &QueueState| queue.bucket.as_ref().map(Bucket::rate);
            self.add("the rate", of, (&limited(ours), &limited(theirs)));
        }
    }

    fn running(&mut self, memory: &Memory, file: &Memory) {
        let told = |memory: &Memory| {
            let mut told: Vec<_> = memory
                .all_running()
                .map(|(key, running)| {
                    let queue = memory.queue(running.queue).name.as_str().to_owned();
                    (*key, running.fence, running.worker.clone(), queue)
                })
                .collect();
            told.sort();
            told
        };
        self.add("jobs that run", None, (&told(memory), &told(file)));
        for (key, running) in memory.all_running() {
            let theirs = file.running(*key).and_then(|running| running.process);
            if running.process.is_some() {
                self.add(
                    "the process that has a job",
                    Some((key.0, None)),
                    (&running.process, &theirs),
                );
            }
        }
        self.add("the indexes of what runs", None, (&memory.indexes_agree(), &true));
    }

    fn rest(&mut self, memory: &Memory, file: &Memory) {
        let told = |memory: &Memory| {
            let mut told: Vec<_> = memory
                .all_tenants()
                .map(|(tenant, state)| (*tenant, state.waiting, state.calls, state.schedules))
                .filter(|of| (of.1, of.2, of.3) != (0, 0, 0))
                .collect();
            told.sort();
            told
        };
        self.add("what tenants have", None, (&told(memory), &told(file)));
        self.add("rows of the outbox", None, (&memory.outbox, &file.outbox));
        self.add("schedules", None, (&memory.schedules, &file.schedules));
        for (tenant, state) in file.all_tenants() {
            let ours = memory.tenant(*tenant).map_or((0, 0), |state| state.today);
            // It stands in the file only for those whom it is limited, as of when it last was.
            if ours < state.today {
                self.add("jobs of the day", Some((*tenant, None)), (&ours, &state.today));
            }
        }
        if file.first_due_ms.is_some_and(|file| memory.first_due_ms.is_none_or(|ours| file < ours))
        {
            self.add("what is due first", None, (&memory.first_due_ms, &file.first_due_ms));
        }
        let (ours, theirs) = (memory.numbers.stored, file.numbers.stored);
        self.add("ids that may have been given out", None, (&ours.ids_until, &theirs.ids_until));
        let fences = (&ours.fences_until, &theirs.fences_until);
        self.add("fences that may have been given out", None, fences);
    }
}
