//! The way to the series: samples in, the log and its tick, the list of series.
//!
//! ```text
//!   write --> memory (lock) --> 202
//!                '--> pending --tick: every 10 s, or when somebody waits--> series.wal, synced --> 200 of those who wait
//! ```
//!
//! One at a time has the log: the worker `series-tick` ([`super::series_tick`]), and after a seal the keeper, which has it
//! written anew. While it syncs, others come; the next tick is for all of them. When the log fails, samples are refused
//! (`read_only`) until it could be written anew, whole, from memory; those who wait are told `outcome_unknown`.
//!
//! Locks are taken in this order: the log, memory. The one of memory is held for memory work alone.

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::series_keeper::Done;
use super::{App, Error};
use crate::base::id::TenantId;
use crate::base::limits::{SERIES_LOG_BYTES, SERIES_STEP, TENANT_SERIES_MAX, WRITE_DEADLINE};
use crate::base::quota::{Allowance, Quota};
use crate::base::time::{Clock, Mono, Now};
use crate::cache::glob::Glob;
use crate::exec;
use crate::exec::worker::Waker;
use crate::exec::writer::{Opener, Options, Writer};
use crate::series::expire::Keep;
use crate::series::load::{self, Loaded};
use crate::series::memory::{Counts, Distributions, Full, Incoming, Memory, Written};
use crate::series::rows::SpanRow;
use crate::series::select::Selector;
use crate::series::wal::{Encoder, Found, MAGIC};
use crate::series::{Kind, RowError, SeriesId, Tier};
use crate::store::log::{Log, LogFigures};
use crate::store::{self, Engine, Opening};

/// Waits before a log that failed is written anew; the last one again and again.
const AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(10)];

/// What the series are made of.
pub struct Parts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Opens the file.
    pub opener: Opener,
    /// How its thread behaves.
    pub options: Options,
    /// The log.
    pub log: Box<dyn Log>,
    /// Of the tables in which names are found: chosen by chance, so that nobody can crowd them.
    pub seed: u64,
}

/// Why the series could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The log cannot be read or put in order.
    #[error("series.wal: {0}")]
    Log(#[from] io::Error),
    /// It is no log.
    #[error(transparent)]
    NoLog(#[from] crate::series::wal::NoLog),
}

/// What can be set about series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesSettings {
    /// For how long, and how much.
    pub keep: Keep,
    /// Metrics that are distributions, whoever writes them; `*` and `?` as in patterns of the cache.
    pub sketch: Vec<String>,
}

impl Default for SeriesSettings {
    fn default() -> SeriesSettings {
        let days = |days: u64| Duration::from_hours(24 * days);
        let keep =
            Keep { raw: days(14), r5m: days(90), r1h: days(730), r1d: days(3650), budget: 1 << 30 };
        SeriesSettings { keep, sketch: Vec::new() }
    }
}

/// What is told of a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierFigures {
    /// Which.
    pub tier: Tier,
    /// When its oldest stretch begins, unix milliseconds; none without any.
    pub oldest_ms: Option<i64>,
    /// What it holds.
    pub held: SpanRow,
    /// Stretches that went because of their age, since the start.
    pub expired: u64,
    /// Stretches that went because there was no room, since the start.
    pub evicted: u64,
}

/// Everything that can be counted.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Series.
    pub series: usize,
    /// Samples that are not sealed.
    pub open_samples: usize,
    /// What was counted.
    pub counts: Counts,
    /// The tiers.
    pub tiers: [TierFigures; 4],
    /// Bytes of pages in use.
    pub live_bytes: u64,
    /// The log's length.
    pub log_bytes: u64,
    /// What the log has done.
    pub log: LogFigures,
    /// Whether samples are refused because the log failed.
    pub log_failed: bool,
    /// Bytes of the log of which nothing could be made at the start, because it was damaged.
    pub log_damaged: u64,
    /// Whether the log was gone at the start, and the file was not.
    pub log_missing: bool,
    /// Hours of groups that were sealed.
    pub sealed: u64,
    /// Days that were rolled up.
    pub rolled: u64,
}

/// A series as lists show it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// For the next page.
    pub id: SeriesId,
    /// What it is called.
    pub labels: crate::series::labels::Labels,
    /// What its values mean.
    pub kind: Kind,
}

/// How far the log is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// All up to this number is on disk.
    durable: u64,
    /// Nothing more gets there until the log could be written anew.
    failed: bool,
}

/// The log, and what is known of what stands in it.
struct Line {
    log: Box<dyn Log>,
    encoder: Encoder,
    /// What was taken from memory may not stand in it: it is written anew.
    broken: bool,
    /// How often that failed.
    tries: usize,
    /// How long it was when it was written anew.
    settled: u64,
    /// What was lost with it at the start.
    lost: Lost,
}

/// What of the log was not there any more at the start.
#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    /// Bytes behind what was whole; none if they were an end that was never finished.
    damaged: u64,
    /// All of it.
    missing: bool,
}

impl Line {
    /// Puts what is pending behind it, synced; up to which number that is.
    fn append(&mut self, memory: &Mutex<Memory>) -> io::Result<u64> {
        let (items, sequence) = memory.lock().take_pending();
        if items.is_empty() {
            return Ok(sequence);
        }
        // Also when this does not return.
        self.broken = true;
        let mut bytes = Vec::new();
        self.encoder.frame(&items, &mut bytes);
        drop(items);
        self.log.append(&bytes)?;
        self.log.sync()?;
        self.broken = false;
        Ok(sequence)
    }

    /// Makes a new one of what is in memory.
    fn replace(&mut self, memory: &Mutex<Memory>) -> io::Result<u64> {
        self.broken = true;
        let (items, sequence) = memory.lock().everything();
        let (mut encoder, mut bytes) = (Encoder::default(), MAGIC.to_vec());
        encoder.frame(&items, &mut bytes);
        drop(items);
        self.log.replace(&bytes)?;
        (self.encoder, self.settled) = (encoder, bytes.len() as u64);
        self.broken = false;
        Ok(sequence)
    }

    /// Whether so much of it is of no use any more, as far as one can tell, that it is written anew.
    fn is_long(&self) -> bool {
        self.settled.saturating_mul(2).max(SERIES_LOG_BYTES) < self.log.len()
    }
}

/// What the opener of the file shares with all else.
struct State {
    memory: Mutex<Memory>,
    seed: u64,
}

impl State {
    /// Reads the file. What is in memory stays when it is opened anew.
    fn load(&self, engine: &dyn Engine, opening: Opening) -> store::Result<()> {
        let mut file = Memory::with_seed(self.seed);
        let loaded = load::load(engine, &mut file).map_err(|error| match error {
            RowError::Store(error) => error,
            other @ RowError::Damaged(_) => store::Error::Damaged(other.to_string()),
        })?;
        let Loaded { series, damaged } = loaded;
        if damaged != 0 {
            tracing::error!(
                damaged,
                "rows of series.redb are damaged and left alone; run: holdfast check"
            );
        }
        tracing::info!(series, ?opening, "series are known");
        let mut memory = self.memory.lock();
        match opening {
            Opening::Start => *memory = file,
            Opening::AfterFailure => memory.adopt(file),
        }
        Ok(())
    }
}

/// The series, as the application has them.
pub struct Series {
    pub(super) writer: Writer,
    /// What the keeper has done.
    pub(super) done: Done,
    clock: Arc<dyn Clock>,
    state: Arc<State>,
    line: Mutex<Line>,
    progress: watch::Sender<Progress>,
    failed: AtomicBool,
    /// When a log that failed is tried again.
    again_at: Mutex<Option<Mono>>,
    /// When a query last told the log that blocks are damaged.
    pub(super) damage_told: Mutex<Option<Mono>>,
    /// The log's length, and what it has done: known also while it syncs.
    log_figures: Mutex<(u64, LogFigures)>,
    lost: Lost,
    waker: OnceLock<Waker>,
}

/// Takes up the log: cuts what is torn, keeps a copy if it is damaged, and begins it if there is nothing.
fn take_up(mut log: Box<dyn Log>, memory: &mut Memory) -> Result<Line, StartError> {
    let bytes = log.read()?;
    let missing = bytes.is_empty() && is_in_file(memory);
    if missing {
        tracing::warn!(
            "there is no series.wal, or nothing in it, and there are series: samples of up to an hour may be missing"
        );
    }
    let (found, encoder) = load::replay(&bytes, memory)?;
    let samples = memory.open_samples();
    tracing::info!(frames = found.frames, samples, "the log of the series is taken up");
    if found.torn != 0 && !found.damaged {
        tracing::warn!(bytes = found.torn, "the end of series.wal was never finished; it is cut");
    }
    if found.bytes == 0 {
        // Durable before anything stands behind it: a log without its beginning could not be read.
        log.replace(&MAGIC)?;
    } else if found.damaged {
        set_aside(&mut *log, &bytes, found)?;
    } else if found.torn != 0 {
        log.cut(found.bytes)?;
    } else {
        // A process that was killed may not have synced what it appended. What is known already is not written again, and
        // whoever tells it once more is told that it is durable.
        log.sync()?;
    }
    let settled = log.len();
    let lost = Lost { damaged: if found.damaged { found.torn } else { 0 }, missing };
    // The reader may have made something of a part of what is damaged, and the encoder would build on it: the next tick
    // writes all of it anew.
    Ok(Line { log, encoder, broken: found.damaged, tries: 0, settled, lost })
}

/// Whether the file knows of any series or samples. A server that ran has a log that at least begins.
fn is_in_file(memory: &Memory) -> bool {
    !memory.index().is_empty() || Tier::ALL.into_iter().any(|tier| memory.tier(tier).is_some())
}

/// Keeps a damaged log, and goes on with what is whole of it.
fn set_aside(log: &mut dyn Log, bytes: &[u8], found: Found) -> io::Result<()> {
    tracing::error!(
        whole = found.bytes,
        damaged = found.torn,
        "series.wal is damaged: what stands behind its whole part cannot be read, and samples of up to an hour may be \
         missing; all of it is kept beside it as series.wal.damaged"
    );
    log.set_aside()?;
    let whole = usize::try_from(found.bytes).unwrap_or(usize::MAX).min(bytes.len());
    log.replace(&bytes[..whole])
}

impl Series {
    /// Opens the file, reads it and the log into memory, cuts the log's torn tail, and starts the thread.
    pub fn start(parts: Parts) -> Result<Arc<Series>, StartError> {
        let Parts { clock, opener, options, log, seed } = parts;
        let state = Arc::new(State { memory: Mutex::default(), seed });
        let its = Arc::clone(&state);
        // Memory is read before anybody else gets at the file, also when it was opened anew.
        let opener: Opener = Box::new(move |opening| {
            let engine = opener(opening)?;
            its.load(&*engine, opening)?;
            Ok(engine)
        });
        let writer = Writer::start(options, opener, Arc::clone(&clock))?;
        let line = take_up(log, &mut state.memory.lock())?;
        let log_figures = Mutex::new((line.log.len(), line.log.figures()));
        let lost = line.lost;
        Ok(Arc::new(Series {
            writer,
            done: Done::default(),
            clock,
            state,
            line: Mutex::new(line),
            progress: watch::Sender::default(),
            lost,
            failed: AtomicBool::new(false),
            again_at: Mutex::default(),
            damage_told: Mutex::default(),
            log_figures,
            waker: OnceLock::new(),
        }))
    }

    /// The thread of the file.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// What time it is.
    pub(super) fn mono(&self) -> Mono {
        self.clock.mono()
    }

    /// Looks at memory, under its lock.
    pub fn with_memory<T>(&self, look: impl FnOnce(&mut Memory) -> T) -> T {
        look(&mut self.state.memory.lock())
    }

    /// What can be counted.
    pub fn figures(&self) -> Figures {
        let (log_bytes, log) = *self.log_figures.lock();
        let memory = self.state.memory.lock();
        let tier = |tier| {
            let spans = memory.tier(tier);
            TierFigures {
                tier,
                oldest_ms: spans.map(|(first, ..)| tier.span_start(first)),
                held: spans.map_or_else(SpanRow::default, |(_, _, held)| held),
                expired: self.done.expired(tier),
                evicted: self.done.evicted(tier),
            }
        };
        Figures {
            series: memory.index().len(),
            open_samples: memory.open_samples(),
            counts: memory.counts(),
            tiers: Tier::ALL.map(tier),
            live_bytes: memory.live_bytes(),
            log_bytes,
            log,
            log_failed: self.failed.load(Relaxed),
            log_damaged: self.lost.damaged,
            log_missing: self.lost.missing,
            sealed: self.done.sealed(),
            rolled: self.done.rolled(),
        }
    }

    /// One tick: what is pending goes to the log, synced; or all of it anew, after it failed. Also at an end in order.
    pub fn tick(&self, now: Now) -> Result<(), io::Error> {
        let mut line = self.line.lock();
        let anew = line.broken || line.is_long();
        let done =
            if anew { line.replace(&self.state.memory) } else { line.append(&self.state.memory) };
        self.told(now, &mut line, done)
    }

    /// Replaces the log by what is left in memory, after a seal.
    pub(super) fn rotate(&self, now: Now) -> Result<(), io::Error> {
        let mut line = self.line.lock();
        let done = line.replace(&self.state.memory);
        self.told(now, &mut line, done)
    }

    /// Tells those who wait what became of a tick, and notes when it is tried again.
    fn told(&self, now: Now, line: &mut Line, done: io::Result<u64>) -> io::Result<()> {
        *self.log_figures.lock() = (line.log.len(), line.log.figures());
        match done {
            Ok(sequence) => {
                if self.failed.swap(false, Relaxed) {
                    tracing::info!("series.wal is written anew; samples are taken again");
                }
                line.tries = 0;
                *self.again_at.lock() = None;
                self.progress.send_replace(Progress { durable: sequence, failed: false });
                Ok(())
            }
            Err(error) => {
                line.broken = true;
                let wait = AGAIN_AFTER[line.tries.min(AGAIN_AFTER.len() - 1)];
                line.tries += 1;
                *self.again_at.lock() = Some(now.mono.plus(wait));
                if !self.failed.swap(true, Relaxed) {
                    tracing::error!(%error, "series.wal failed; samples are refused until it could be written anew");
                }
                self.progress.send_modify(|progress| progress.failed = true);
                Err(error)
            }
        }
    }

    /// When a log that failed is tried again.
    pub(super) fn again_at(&self) -> Option<Mono> {
        *self.again_at.lock()
    }

    /// Whom to wake when a tick should not wait. Only the first one counts; there is no second.
    pub(super) fn set_waker(&self, waker: Waker) {
        drop(self.waker.set(waker));
    }

    /// Puts settings in force: what is a distribution whoever writes it, and how far back raw samples reach. Patterns were
    /// looked at when the settings were read.
    pub(super) fn set_settings(&self, settings: &SeriesSettings) {
        let globs: Vec<Glob> =
            settings.sketch.iter().filter_map(|pattern| Glob::parse(pattern).ok()).collect();
        let is = move |metric: &str| globs.iter().any(|glob| glob.matches(metric));
        let mut memory = self.state.memory.lock();
        memory.set_distributions(Distributions::new(is));
        memory.set_raw_kept(settings.keep.raw);
    }

    /// Takes samples. Memory alone; for callers that are on a thread of their own.
    pub fn write(
        &self,
        now: Now,
        tenant: TenantId,
        series_max: u64,
        samples: &[Incoming<'_>],
    ) -> Result<Written, Error> {
        self.usable()?;
        if self.writer.is_disk_short() {
            return Err(exec::Error::DiskFull.into());
        }
        let mut memory = self.state.memory.lock();
        let written = memory.write(now.wall, tenant, series_max, samples);
        let half_full = memory.is_half_full();
        drop(memory);
        if half_full && let Some(waker) = self.waker.get() {
            waker.wake();
        }
        written.map_err(|Full| Error::SeriesFull)
    }

    fn usable(&self) -> Result<(), Error> {
        if self.failed.load(Relaxed) { Err(exec::Error::ReadOnly.into()) } else { Ok(()) }
    }

    /// Returns when the log holds everything up to this number.
    pub async fn durable(&self, sequence: u64) -> Result<(), Error> {
        let mut told = self.progress.subscribe();
        if told.borrow().durable < sequence {
            match self.waker.get() {
                Some(waker) => waker.wake(),
                // Nobody ticks yet. What came of it stands in the progress.
                None => drop(self.tick(self.clock.now())),
            }
        }
        let known = |progress: &Progress| sequence <= progress.durable || progress.failed;
        let progress = told.wait_for(known).await.map_err(|_| exec::Error::Stopping)?;
        let there = sequence <= progress.durable;
        if there { Ok(()) } else { Err(exec::Error::OutcomeUnknown.into()) }
    }

    /// Deletes what is meant, in memory; how many, and after which number that is on disk.
    fn delete(&self, tenant: TenantId, selector: &Selector) -> Result<(u64, u64), Error> {
        let mut deleted = 0;
        loop {
            // Between the steps others get the lock.
            self.usable()?;
            let (some, sequence) =
                self.with_memory(|memory| memory.delete(tenant, Some(selector), SERIES_STEP));
            if some == 0 {
                return Ok((deleted, sequence));
            }
            deleted += some as u64;
        }
    }
}

impl App {
    /// The series, and the thread of their file.
    pub fn series(&self) -> &Arc<Series> {
        &self.series
    }

    /// How many series a tenant may have: its quota, or what every tenant may have.
    pub fn series_max(&self, tenant: TenantId) -> u64 {
        let Some(its) = self.directory.tenant_by_id(tenant) else {
            return 0;
        };
        let settings = self.settings();
        let tier = settings.tiers.get(&*its.tier).copied().unwrap_or_default();
        match its.quotas.get(Quota::Series).or_else(|| tier.get(Quota::Series)) {
            // What the server allows each tenant: one of them must not take the room of all.
            None | Some(Allowance::Unlimited) => TENANT_SERIES_MAX,
            Some(Allowance::AtMost(most)) => most,
        }
    }

    /// The next series of a tenant that are meant, by id.
    pub fn series_page(
        &self,
        tenant: TenantId,
        selector: Option<&Selector>,
        after: Option<SeriesId>,
        limit: usize,
    ) -> Vec<Listed> {
        self.series.with_memory(|memory| {
            let page = memory.index().page(tenant, selector, after, limit).into_iter();
            let listed = |entry: &crate::series::index::Entry| Listed {
                id: entry.id,
                labels: entry.labels.clone(),
                kind: entry.kind,
            };
            page.map(listed).collect()
        })
    }

    /// Deletes the series that are meant, durably; how many they were.
    pub async fn delete_series(&self, tenant: TenantId, selector: Selector) -> Result<u64, Error> {
        let series = Arc::clone(&self.series);
        let work = move || series.delete(tenant, &selector);
        let (deleted, sequence) = self.blocking(WRITE_DEADLINE, work).await??;
        self.forget_answers(tenant);
        self.series.durable(sequence).await?;
        Ok(deleted)
    }

    /// Some of the series of a tenant that is being deleted; whether they are all gone.
    pub(super) fn remove_series_step(&self, tenant: TenantId) -> Result<bool, Error> {
        self.series.usable()?;
        let (some, _) = self.series.with_memory(|memory| memory.delete(tenant, None, SERIES_STEP));
        if some != 0 {
            return Ok(false);
        }
        // On disk, before the tenant itself is gone and nobody would do it again.
        match self.series.tick(self.clock.now()) {
            Ok(()) => Ok(true),
            Err(_) => Err(exec::Error::ReadOnly.into()),
        }
    }
}

#[cfg(test)]
mod tests;
