//! Settings of a queue, and how they are changed.

use std::time::Duration;

use super::job::{Backoff, Rules};
use super::rate::Rate;
use super::rows::{BackoffRow, QueueRow, length_ms};

/// What is kept of jobs that are over, where it differs from what the server keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// How long a done job can be found.
    pub done: Option<Duration>,
    /// How many jobs.
    pub rows: Option<u64>,
    /// In how many bytes.
    pub bytes: Option<u64>,
    /// How long a failed job is kept.
    pub failed: Option<Duration>,
}

/// Settings of a queue; what is not set is as the server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether nothing is leased from it.
    pub paused: bool,
    /// The most jobs that may wait.
    pub max_depth: Option<u64>,
    /// Rules for its jobs.
    pub rules: Rules,
    /// How many jobs may start in a time.
    pub rate: Option<Rate>,
    /// How many jobs may run at once.
    pub concurrency: Option<u32>,
    /// What is kept.
    pub keep: Keep,
    /// How long a job should wait at most; for those who look.
    pub target_wait: Option<Duration>,
    /// Whether payloads of done jobs are kept in the history.
    pub history_payload: bool,
}

/// A change: what is not there stays, what is there and empty goes back to what the server has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// See [`Settings::paused`].
    pub paused: Option<Option<bool>>,
    /// See [`Settings::max_depth`].
    pub max_depth: Option<Option<u64>>,
    /// See [`Rules::max_tries`].
    pub max_tries: Option<Option<u32>>,
    /// See [`Rules::timeout`].
    pub timeout: Option<Option<Duration>>,
    /// See [`Rules::backoff`].
    pub backoff: Option<Option<Backoff>>,
    /// See [`Settings::rate`].
    pub rate: Option<Option<Rate>>,
    /// See [`Settings::concurrency`].
    pub concurrency: Option<Option<u32>>,
    /// See [`Keep::done`].
    pub keep_done: Option<Option<Duration>>,
    /// See [`Keep::rows`].
    pub keep_rows: Option<Option<u64>>,
    /// See [`Keep::bytes`].
    pub keep_bytes: Option<Option<u64>>,
    /// See [`Keep::failed`].
    pub keep_failed: Option<Option<Duration>>,
    /// See [`Settings::target_wait`].
    pub target_wait: Option<Option<Duration>>,
    /// See [`Settings::history_payload`].
    pub history_payload: Option<Option<bool>>,
}

fn take<T: Clone>(place: &mut Option<T>, change: Option<&Option<T>>) {
    if let Some(change) = change {
        place.clone_from(change);
    }
}

impl Patch {
    /// These settings, changed.
    pub fn apply(&self, before: &Settings) -> Settings {
        let mut after = before.clone();
        after.paused = self.paused.map_or(before.paused, Option::unwrap_or_default);
        after.history_payload =
            self.history_payload.map_or(before.history_payload, Option::unwrap_or_default);
        take(&mut after.max_depth, self.max_depth.as_ref());
        take(&mut after.rules.max_tries, self.max_tries.as_ref());
        take(&mut after.rules.timeout, self.timeout.as_ref());
        take(&mut after.rules.backoff, self.backoff.as_ref());
        take(&mut after.rate, self.rate.as_ref());
        take(&mut after.concurrency, self.concurrency.as_ref());
        take(&mut after.keep.done, self.keep_done.as_ref());
        take(&mut after.keep.rows, self.keep_rows.as_ref());
        take(&mut after.keep.bytes, self.keep_bytes.as_ref());
        take(&mut after.keep.failed, self.keep_failed.as_ref());
        take(&mut after.target_wait, self.target_wait.as_ref());
        after
    }
}

fn length(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl BackoffRow {
    pub(super) fn of(backoff: &Backoff) -> BackoffRow {
        match backoff {
            Backoff::Exponential { base, cap } => {
                BackoffRow::Exponential { base_ms: length_ms(*base), cap_ms: length_ms(*cap) }
            }
            Backoff::Fixed { base } => BackoffRow::Fixed { base_ms: length_ms(*base) },
            Backoff::List(waits) => {
                BackoffRow::List { ms: waits.iter().copied().map(length_ms).collect() }
            }
        }
    }

    pub(super) fn backoff(&self) -> Backoff {
        match self {
            BackoffRow::Exponential { base_ms, cap_ms } => {
                Backoff::Exponential { base: length(*base_ms), cap: length(*cap_ms) }
            }
            BackoffRow::Fixed { base_ms } => Backoff::Fixed { base: length(*base_ms) },
            BackoffRow::List { ms } => Backoff::List(ms.iter().copied().map(length).collect()),
        }
    }
}

impl QueueRow {
    pub(super) fn of(settings: &Settings) -> QueueRow {
        QueueRow {
            paused: settings.paused,
            max_depth: settings.max_depth,
            max_tries: settings.rules.max_tries,
            timeout_ms: settings.rules.timeout.map(length_ms),
            backoff: settings.rules.backoff.as_ref().map(BackoffRow::of),
            rate: settings.rate.map(|rate| rate.to_string()),
            concurrency: settings.concurrency,
            done_ms: settings.keep.done.map(length_ms),
            rows: settings.keep.rows,
            bytes: settings.keep.bytes,
            failed_ms: settings.keep.failed.map(length_ms),
            target_wait_ms: settings.target_wait.map(length_ms),
            history_payload: settings.history_payload,
        }
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            paused: self.paused,
            max_depth: self.max_depth,
            rules: Rules {
                max_tries: self.max_tries,
                max_crashes: None,
                timeout: self.timeout_ms.map(length),
                backoff: self.backoff.as_ref().map(BackoffRow::backoff),
            },
            rate: self.rate.as_deref().and_then(|rate| Rate::parse(rate).ok()),
            concurrency: self.concurrency,
            keep: Keep {
                done: self.done_ms.map(length),
                rows: self.rows,
                bytes: self.bytes,
                failed: self.failed_ms.map(length),
            },
            target_wait: self.target_wait_ms.map(length),
            history_payload: self.history_payload,
        }
    }
}
