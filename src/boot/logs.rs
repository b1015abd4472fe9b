//! The log: to standard error, as text or as JSON, at a level that a reload can change.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::{Format, Level, Log};

/// Changes the level of the log that was started.
pub(super) struct LogLevel(reload::Handle<LevelFilter, Registry>);

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

/// Starts the log of this process. Under the journal, which keeps its own time, lines have none.
pub(super) fn start(log: &Log, under_journal: bool) -> LogLevel {
    let (level, handle) = reload::Layer::new(filter(log.level));
    let registry = tracing_subscriber::registry().with(level);
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    // A second start in one process (tests) keeps the first log.
    let started = match (log.format, under_journal) {
        (Format::Json, _) => registry.with(layer.json().flatten_event(true)).try_init(),
        (Format::Text, true) => registry.with(layer.without_time()).try_init(),
        (Format::Text, false) => registry.with(layer).try_init(),
    };
    drop(started);
    LogLevel(handle)
}

impl LogLevel {
    /// From now on.
    pub(super) fn set(&self, level: Level) {
        // Fails only when the log is gone, and then there is nothing to change.
        drop(self.0.reload(filter(level)));
    }
}
