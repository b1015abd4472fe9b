//! What was slow, by kind and name: how often, how slow on average, how slow at worst.
//!
//! In memory; a restart begins anew. **Bounds**: [`NAMES_MAX`] names of each kind; when there are as many,
//! the one that was slow longest ago makes room. What an app reports is counted as it says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::time::Timestamp;

/// Names that are kept of each kind.
pub const NAMES_MAX: usize = 200;
/// The longest name.
pub const SLOW_NAME_BYTES_MAX: usize = 256;
/// More queries than this in one request are marked.
pub const QUERIES_MANY: u64 = 20;
/// A request is slow from here on; what it was told to wait does not count.
pub const SLOW_REQUEST: Duration = Duration::from_millis(500);
/// A request is warned of from here on.
pub const WARN_REQUEST: Duration = Duration::from_secs(1);
/// A storage or SQL operation is slow from here on.
pub const SLOW_STORAGE: Duration = Duration::from_millis(100);

/// What was slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A request of this server.
    Request = 0,
    /// An operation of a store or of the catalog.
    Storage = 1,
    /// A call to the outside.
    External = 2,
    /// A job.
    Job = 3,
    /// What an app reported of itself.
    App = 4,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 5] = [Kind::Request, Kind::Storage, Kind::External, Kind::Job, Kind::App];

    /// How it is spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Request => "request",
            Kind::Storage => "storage",
            Kind::External => "external",
            Kind::Job => "job",
            Kind::App => "app",
        }
    }

    /// Reads what [`Kind::as_str`] writes.
    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One time that something was slow.
#[derive(Clone, Copy, Debug)]
pub struct Case<'n> {
    /// What it was.
    pub kind: Kind,
    /// Which one; the first [`SLOW_NAME_BYTES_MAX`] bytes count.
    pub name: &'n str,
    /// How long it took.
    pub took: Duration,
    /// When it ended.
    pub at: Timestamp,
    /// Queries it made, where that is known.
    pub queries: Option<u64>,
}

/// All that is known of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Which one.
    pub name: String,
    /// Times it was slow.
    pub count: u64,
    /// All of those times together.
    pub total: Duration,
    /// The worst one.
    pub worst: Duration,
    /// The first one.
    pub first_at: Timestamp,
    /// The last one.
    pub last_at: Timestamp,
    /// The most queries in one of them.
    pub queries_max: Option<u64>,
}

/// Where a listing goes on: behind the entry with this worst time and this name.
pub type Position = (Duration, Kind, String);

/// The slow log.
#[derive(Default)]
pub struct SlowLog {
    entries: Mutex<BTreeMap<(Kind, String), Entry>>,
    counts: [AtomicU64; Kind::ALL.len()],
}

/// The start of `name`, at most so long, cut between characters.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(SLOW_NAME_BYTES_MAX)]
}

impl SlowLog {
    /// Notes a case.
    pub fn note(&self, case: Case<'_>) {
        self.counts[case.kind as usize].fetch_add(1, Relaxed);
        let key = (case.kind, cut(case.name).to_owned());
        let mut entries = self.entries.lock();
        if !entries.contains_key(&key) {
            make_room(&mut entries, case.kind);
        }
        let entry = entries.entry(key).or_insert_with_key(|(kind, name)| Entry {
            kind: *kind,
            name: name.clone(),
            count: 0,
            total: Duration::ZERO,
            worst: Duration::ZERO,
            first_at: case.at,
            last_at: case.at,
            queries_max: None,
        });
        entry.count += 1;
        entry.total = entry.total.saturating_add(case.took);
        entry.worst = entry.worst.max(case.took);
        entry.first_at = entry.first_at.min(case.at);
        entry.last_at = entry.last_at.max(case.at);
        entry.queries_max = entry.queries_max.max(case.queries);
    }

    /// Cases noted so far, by kind.
    pub fn counts(&self) -> [(Kind, u64); Kind::ALL.len()] {
        Kind::ALL.map(|kind| (kind, self.counts[kind as usize].load(Relaxed)))
    }

    /// The worst first, of one kind or of all, behind `after`.
    pub fn page(&self, kind: Option<Kind>, after: Option<&Position>, limit: usize) -> Vec<Entry> {
        let entries = self.entries.lock();
        let wanted = entries.values().filter(|entry| kind.is_none_or(|kind| kind == entry.kind));
        let mut wanted: Vec<&Entry> =
            wanted.filter(|entry| after.is_none_or(|after| is_behind(entry, after))).collect();
        wanted.sort_by(|a, b| {
            b.worst.cmp(&a.worst).then_with(|| (a.kind, &a.name).cmp(&(b.kind, &b.name)))
        });
        wanted.into_iter().take(limit).cloned().collect()
    }
}

fn is_behind(entry: &Entry, after: &Position) -> bool {
    let (worst, kind, name) = after;
    entry.worst < *worst || entry.worst == *worst && (*kind, name) < (entry.kind, &entry.name)
}

/// Lets the one of this kind go that was slow longest ago, when there are as many as may be.
fn make_room(entries: &mut BTreeMap<(Kind, String), Entry>, kind: Kind) {
    let of_kind = || entries.iter().filter(|((of, _), _)| *of == kind);
    if of_kind().count() < NAMES_MAX {
        return;
    }
    let oldest = of_kind().min_by_key(|(_, entry)| entry.last_at).map(|(key, _)| key.clone());
    if let Some(oldest) = oldest {
        entries.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::{Case, Kind, NAMES_MAX, SlowLog};
    use crate::base::time::Timestamp;
    use std::time::Duration;

    fn note(log: &SlowLog, kind: Kind, name: &str, ms: u64, at: i64) {
        let at = Timestamp::from_unix_ms(at).unwrap();
        let took = Duration::from_millis(ms);
        log.note(Case { kind, name, took, at, queries: None });
    }

    #[test]
    fn a_name_has_a_count_a_total_and_a_worst_case() {
        let log = SlowLog::default();
        note(&log, Kind::Request, "GET /a", 600, 5);
        note(&log, Kind::Request, "GET /a", 900, 9);
        note(&log, Kind::Storage, "token.create", 700, 7);
        let page = log.page(None, None, 10);
        assert_eq!(page.len(), 2);
        assert_eq!((page[0].name.as_str(), page[0].count), ("GET /a", 2));
        assert_eq!(page[0].total, Duration::from_millis(1500));
        assert_eq!(page[0].worst, Duration::from_millis(900));
        assert_eq!(log.page(Some(Kind::Storage), None, 10)[0].name, "token.create");
        assert_eq!(log.counts()[0], (Kind::Request, 2));
    }

    #[test]
    fn pages_together_show_everything_once() {
        let log = SlowLog::default();
        for n in 0..25 {
            note(&log, Kind::App, &format!("page {n:02}"), 100 + n / 3, 1);
        }
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = log.page(None, after.as_ref(), 4);
            let Some(last) = page.last() else { break };
            after = Some((last.worst, last.kind, last.name.clone()));
            seen.extend(page.into_iter().map(|entry| entry.name));
        }
        assert_eq!(seen.len(), 25);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 25);
    }

    #[test]
    fn the_log_is_bounded_and_forgets_what_was_slow_longest_ago() {
        let log = SlowLog::default();
        for n in 0..=NAMES_MAX {
            note(&log, Kind::App, &format!("{n}"), 100, i64::try_from(n).unwrap());
        }
        note(&log, Kind::App, &"\u{e4}".repeat(300), 100, 9999);
        let page = log.page(None, None, 10_000);
        assert_eq!(page.len(), NAMES_MAX);
        assert!(page.iter().all(|entry| entry.name != "0" && entry.name.len() <= 256));
    }
}
