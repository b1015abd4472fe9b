//! The history: against a plain list, across reopenings, and with everything that can go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use super::statements::Statement;
use super::{
    Change, Figures, Filter, Finish, FinishedJob, Group, History, HistoryReader, JobError, Limits,
    OTHER, Page, Position, QueueKeep, search,
};
use crate::base::id::{JobId, TenantId};
use crate::base::limits::{
    CATALOG_ROWS_MAX, HISTORY_GROUP_NAMES_MAX, HISTORY_GROUPS_MAX, HISTORY_PART_ROWS,
    HISTORY_STEP_ROWS, HISTORY_TEXT_BYTES_MAX,
};
use crate::base::rng::Rng;
use crate::base::time::Timestamp;
use crate::catalog::statement::Sql;
use crate::catalog::tests::what_grows;
use crate::catalog::{Error, Opening};
use crate::testing::seeds;

const KEEP_ALL: Limits =
    Limits { rows: u64::MAX, bytes: u64::MAX, age: Duration::from_hours(1 << 20) };

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(ms).unwrap()
}

fn tenant(n: u64) -> TenantId {
    TenantId::from_raw(n.rotate_right(1))
}

/// The plainest job that is done.
fn job(id: u64, finished_at: i64) -> FinishedJob {
    FinishedJob {
        tenant: tenant(1),
        id: JobId::from_raw(id),
        queue: "mail".to_owned(),
        job_type: "send".to_owned(),
        state: Finish::Done,
        priority: 2,
        created_at: at(1),
        run_at: at(2),
        started_at: None,
        finished_at: at(finished_at),
        attempt: 1,
        errors: 0,
        crashes: 0,
        max_tries: 10,
        timeout_ms: 3_600_000,
        tags: Vec::new(),
        unique_key: None,
        result: None,
        result_until: None,
        error: None,
        fingerprint: None,
        progress: None,
        payload: None,
        fence: 7,
        secret: u64::MAX,
    }
}

fn failed(id: u64, finished_at: i64, fingerprint: u64) -> FinishedJob {
    let error = JobError {
        class: format!("Class{fingerprint}"),
        message: format!("message {fingerprint} of {id}"),
        trace: Some("at a\nat b".to_owned()),
    };
    FinishedJob {
        state: Finish::Failed,
        error: Some(error),
        fingerprint: Some(fingerprint),
        ..job(id, finished_at)
    }
}

fn finished(job: &FinishedJob) -> Change {
    Change::Finished(Box::new(job.clone()))
}

fn gone(job: &FinishedJob) -> Change {
    Change::Gone { tenant: job.tenant, id: job.id }
}

fn apply(history: &mut History, jobs: &[FinishedJob]) {
    for jobs in jobs.chunks(CATALOG_ROWS_MAX) {
        history.apply(&jobs.iter().map(finished).collect::<Vec<_>>()).unwrap();
    }
}

fn fresh() -> History {
    History::in_memory().unwrap()
}

/// A folder with an empty file in it, which is a new history.
struct Folder {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        std::fs::write(&path, b"").unwrap();
        Folder { _folder: folder, path }
    }

    fn open(&self, opening: Opening) -> History {
        History::open(&self.path, opening, Box::new(|| 1 << 40)).unwrap()
    }
}

fn ids(page: &Page) -> Vec<u64> {
    page.jobs.iter().map(|job| job.id.raw()).collect()
}

fn every(history: &History, filter: &Filter) -> Vec<u64> {
    ids(&history.reader().search(filter).unwrap())
}

// --- against a plain list ----------------------------------------------------------------------------

type Key = (TenantId, JobId);

/// Finished jobs, and what was seen of each group since it is there.
#[derive(Default)]
struct Model {
    jobs: BTreeMap<Key, FinishedJob>,
    groups: BTreeMap<(TenantId, Option<String>, u64), Group>,
}

impl Model {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Finished(job) => {
                let key = (job.tenant, job.id);
                let end = |job: &FinishedJob| (job.fence, job.state, job.finished_at);
                if self.jobs.get(&key).is_some_and(|known| end(known) == end(job)) {
                    return;
                }
                self.remove(key);
                for key in Model::groups_of(job) {
                    let fingerprint = key.2;
                    let group = self.groups.entry(key).or_insert_with(|| Group {
                        fingerprint,
                        class: String::new(),
                        message: String::new(),
                        count: 0,
                        first_at: job.finished_at,
                        last_at: job.finished_at,
                        types: Vec::new(),
                        queues: Vec::new(),
                    });
                    see(group, job);
                }
                self.jobs.insert(key, (**job).clone());
            }
            Change::Gone { tenant, id } => self.remove((*tenant, *id)),
        }
    }

    fn groups_of(job: &FinishedJob) -> Vec<(TenantId, Option<String>, u64)> {
        match (job.state, job.fingerprint) {
            (Finish::Failed, Some(fingerprint)) => vec![
                (job.tenant, None, fingerprint),
                (job.tenant, Some(job.queue.clone()), fingerprint),
            ],
            _ => Vec::new(),
        }
    }

    fn remove(&mut self, key: Key) {
        let Some(job) = self.jobs.remove(&key) else { return };
        for key in Model::groups_of(&job) {
            let group = self.groups.get_mut(&key).unwrap();
            group.count -= 1;
            if group.count == 0 {
                self.groups.remove(&key);
            }
        }
    }

    fn search(&self, filter: &Filter) -> Vec<u64> {
        let mut found: Vec<&FinishedJob> =
            self.jobs.values().filter(|job| is_meant(filter, job)).collect();
        found.sort_by_key(|job| std::cmp::Reverse((job.finished_at, job.id)));
        found.into_iter().map(|job| job.id.raw()).collect()
    }

    fn groups(&self, tenant: TenantId, queue: Option<&str>) -> Vec<Group> {
        let its =
            |key: &(TenantId, Option<String>, u64)| key.0 == tenant && key.1.as_deref() == queue;
        let mut groups: Vec<Group> = self
            .groups
            .iter()
            .filter(|(key, _)| its(key))
            .map(|(_, group)| group.clone())
            .collect();
        groups.sort_by_key(|group| std::cmp::Reverse((group.last_at, group.fingerprint)));
        groups
    }
}

fn see(group: &mut Group, job: &FinishedJob) {
    group.count += 1;
    group.first_at = group.first_at.min(job.finished_at);
    if group.last_at <= job.finished_at {
        group.last_at = job.finished_at;
        let error = job.error.as_ref().unwrap();
        (group.class, group.message) = (error.class.clone(), error.message.clone());
    }
    for (names, name) in [(&mut group.types, &job.job_type), (&mut group.queues, &job.queue)] {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
}

fn is_meant(filter: &Filter, job: &FinishedJob) -> bool {
    let is = |wanted: &Option<String>, has: &String| wanted.as_ref().is_none_or(|it| it == has);
    let mut texts = vec![job.id.to_string(), job.queue.clone(), job.job_type.clone()];
    texts.extend(job.tags.iter().cloned());
    texts.extend(job.unique_key.clone());
    texts.extend(job.error.iter().flat_map(|e| [e.class.clone(), e.message.clone()]));
    let has = |text: &String| {
        let text = text.to_ascii_lowercase();
        texts.iter().any(|it| it.to_ascii_lowercase().contains(&text))
    };
    job.tenant == filter.tenant
        && is(&filter.queue, &job.queue)
        && is(&filter.job_type, &job.job_type)
        && (filter.states.is_empty() || filter.states.contains(&job.state))
        && filter.tag.as_ref().is_none_or(|tag| job.tags.contains(tag))
        && filter.text.as_ref().is_none_or(has)
        && filter.from.is_none_or(|from| from <= job.finished_at)
        && filter.to.is_none_or(|to| job.finished_at < to)
}

fn some_job(rng: &mut Rng) -> FinishedJob {
    const TAGS: [&str; 5] = ["a", "A_b", "100%", "back\\slash", "\u{e4}\u{1f}\u{1e}"];
    // Few ids, so that jobs meet, on both sides of the top bit.
    let (id, finished_at) = (rng.below(60).rotate_right(1), rng.below(40).cast_signed());
    let mut some = match rng.below(3) {
        0 => failed(id, finished_at, u64::MAX - rng.below(5)),
        1 => FinishedJob { state: Finish::Cancelled, ..job(id, finished_at) },
        _ => job(id, finished_at),
    };
    some.tenant = tenant(rng.below(2));
    some.queue = format!("q{}", rng.below(3));
    some.job_type = format!("Type_{}", rng.below(3));
    some.fence = rng.below(3);
    some.secret = rng.next_u64();
    some.tags = TAGS.iter().filter(|_| rng.one_in(3)).map(|&tag| tag.to_owned()).collect();
    if rng.one_in(2) {
        some.unique_key = Some(format!("Key%{}", rng.below(9)));
        some.result = Some(rng.bytes(9));
        some.result_until = Some(at(99));
        some.payload = Some((rng.one_in(2).then(|| "text/plain".to_owned()), rng.bytes(20)));
        some.progress = Some(0.25);
        some.started_at = Some(at(3));
    }
    some
}

fn some_filter(rng: &mut Rng) -> Filter {
    const TEXTS: [&str; 9] = ["q1", "TYPE_2", "%", "_", "\\", "key%", "MESSAGE", "000g", "\u{e4}"];
    let mut filter = Filter::all(tenant(rng.below(2)), 1 + rng.index(7));
    if rng.one_in(3) {
        filter.queue = Some(format!("q{}", rng.below(4)));
    }
    if rng.one_in(3) {
        filter.job_type = Some(format!("Type_{}", rng.below(4)));
    }
    if rng.one_in(4) {
        filter.tag =
            Some(["a", "A_b", "100%", "nobody", "\u{e4}\u{1f}\u{1e}"][rng.index(5)].into());
    }
    if rng.one_in(4) {
        filter.text = Some(TEXTS[rng.index(9)].to_owned());
    }
    filter.states = Finish::ALL.into_iter().filter(|_| rng.one_in(3)).collect();
    filter.from = rng.one_in(3).then(|| at(rng.below(30).cast_signed()));
    filter.to = rng.one_in(3).then(|| at(10 + rng.below(35).cast_signed()));
    filter
}

/// All pages of a search, each with a budget of few rows.
fn all_pages(history: &History, mut filter: Filter, budget: usize) -> Vec<FinishedJob> {
    let mut jobs = Vec::new();
    for _ in 0..500 {
        let page = history.reader.handle.read(|tx| search::page(tx, &filter, budget)).unwrap();
        assert!(page.jobs.len() <= filter.limit);
        jobs.extend(page.jobs);
        match page.next {
            Some(next) => filter.after = Some(next),
            None => return jobs,
        }
    }
    panic!("the pages do not end");
}

fn all_groups(history: &History, tenant: TenantId, queue: Option<&str>) -> Vec<Group> {
    let (mut groups, mut after) = (Vec::new(), None);
    for _ in 0..500 {
        let (page, next) = history.reader().groups(tenant, queue, after, 2).unwrap();
        groups.extend(page);
        match next {
            Some(_) => after = next,
            None => return groups,
        }
    }
    panic!("the pages do not end");
}

/// Everything that can be asked gives what the model says.
fn check(history: &History, model: &Model, rng: &mut Rng, place: &str) {
    for _ in 0..6 {
        let filter = some_filter(rng);
        let found = all_pages(history, filter.clone(), 1 + rng.index(20));
        let found_ids: Vec<u64> = found.iter().map(|job| job.id.raw()).collect();
        assert_eq!(found_ids, model.search(&filter), "{place} {filter:?}");
        for job in &found {
            assert_eq!(Some(job), model.jobs.get(&(job.tenant, job.id)), "{place}");
            assert_eq!(
                history.reader().get(job.tenant, job.id).unwrap().as_ref(),
                Some(job),
                "{place}"
            );
        }
    }
    for tenant in [tenant(0), tenant(1)] {
        for queue in [None, Some("q0"), Some("q1"), Some("q2"), Some("q3")] {
            let groups = all_groups(history, tenant, queue);
            assert_eq!(groups, model.groups(tenant, queue), "{place} {queue:?}");
            for group in groups.iter().filter(|_| queue.is_none()) {
                let all =
                    history.reader().failed_ids(tenant, group.fingerprint, None, 100).unwrap();
                let its = |job: &&FinishedJob| {
                    (job.tenant, job.state, job.fingerprint)
                        == (tenant, Finish::Failed, Some(group.fingerprint))
                };
                let wanted: Vec<JobId> =
                    model.jobs.values().filter(its).map(|job| job.id).collect();
                assert_eq!(all, wanted, "{place}");
            }
        }
    }
    check_counts(history, model, place);
}

/// What is counted is what is there, and what nobody has is gone.
fn check_counts(history: &History, model: &Model, place: &str) {
    let bytes: u64 = model.jobs.values().map(FinishedJob::bytes).sum();
    let figures = history.reader().figures().unwrap();
    assert_eq!((figures.rows, figures.bytes), (model.jobs.len() as u64, bytes), "{place}");
    let number = |sql: &str| -> i64 {
        history.reader.handle.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let queues: BTreeSet<_> = model.jobs.values().map(|job| (job.tenant, 0, &job.queue)).collect();
    let types: BTreeSet<_> =
        model.jobs.values().map(|job| (job.tenant, 1, &job.job_type)).collect();
    let names = i64::try_from(queues.len() + types.len()).unwrap();
    assert_eq!(number("SELECT count(*) FROM names"), names, "{place}");
    assert_eq!(
        number("SELECT CAST(total(jobs) AS INTEGER) FROM names"),
        2 * i64::try_from(model.jobs.len()).unwrap()
    );
    assert_eq!(number("SELECT CAST(total(bytes) AS INTEGER) FROM names"), 2 * bytes.cast_signed());
    assert_eq!(
        number("SELECT CAST(total(jobs) AS INTEGER) FROM parts"),
        figures.rows.cast_signed()
    );
    let tags: usize = model.jobs.values().map(|job| job.tags.len()).sum();
    assert_eq!(number("SELECT count(*) FROM tags"), i64::try_from(tags).unwrap(), "{place}");
    let groups = model.groups.keys().filter(|key| key.1.is_none()).count();
    let counted = number("SELECT CAST(total(groups) AS INTEGER) FROM tenants");
    assert_eq!(counted, i64::try_from(groups).unwrap(), "{place}");
}

/// Prunes both: how many go is computed here, which of several of one age is left to the history.
fn prune(history: &mut History, model: &mut Model, rng: &mut Rng, place: &str) {
    let now = at(40 + rng.below(20).cast_signed());
    let age = Duration::from_millis(10 + rng.below(60));
    let mut limits = Limits { age, ..KEEP_ALL };
    if rng.one_in(2) {
        limits.rows = rng.below(40);
    }
    let queue = "q1".to_owned();
    let keep = QueueKeep {
        done_age: rng.one_in(2).then(|| Duration::from_millis(10 + rng.below(40))),
        rows: rng.one_in(2).then(|| rng.below(8)),
        bytes: None,
    };
    let more = history.prune(&limits, &[(tenant(1), queue.clone(), keep)], now).unwrap();
    assert!(!more, "{place}");
    let left = |key: &Key| history.reader().get(key.0, key.1).unwrap().is_some();
    let (kept, removed): (Vec<_>, Vec<_>) =
        model.jobs.clone().into_iter().partition(|(key, _)| left(key));
    let (kept, removed): (Vec<_>, Vec<_>) = (
        kept.into_iter().map(|(_, job)| job).collect(),
        removed.into_iter().map(|(_, job)| job).collect(),
    );
    check_pruned((&kept, &removed), (&limits, &keep), now, place);
    for job in removed {
        model.remove((job.tenant, job.id));
    }
}

fn check_pruned(
    (kept, removed): (&[FinishedJob], &[FinishedJob]),
    (limits, keep): (&Limits, &QueueKeep),
    now: Timestamp,
    place: &str,
) {
    let too_old = |job: &FinishedJob| job.finished_at < now.minus(limits.age);
    let in_queue = |job: &&FinishedJob| job.tenant == tenant(1) && job.queue == "q1";
    let done_too_old = |job: &FinishedJob| {
        job.state != Finish::Failed
            && keep.done_age.is_some_and(|age| job.finished_at < now.minus(age))
    };
    let newest = |jobs: &mut dyn Iterator<Item = &FinishedJob>| jobs.map(|j| j.finished_at).max();
    let oldest = |jobs: &mut dyn Iterator<Item = &FinishedJob>| jobs.map(|j| j.finished_at).min();
    assert!(!kept.iter().any(too_old), "{place}: kept though too old");
    assert!(!kept.iter().filter(in_queue).any(done_too_old), "{place}: done too long ago");
    assert!(kept.len() as u64 <= limits.rows, "{place}: too many");
    let of_queue = kept.iter().filter(in_queue).count() as u64;
    assert!(keep.rows.is_none_or(|rows| of_queue <= rows), "{place}: too many of a queue");
    // Nothing went without a reason, and the oldest went first.
    let for_all: Vec<_> = removed.iter().filter(|job| !in_queue(job) && !too_old(job)).collect();
    if !for_all.is_empty() {
        let (last, first) = (newest(&mut for_all.into_iter()), oldest(&mut kept.iter()));
        assert!(first.is_none_or(|first| last <= Some(first)), "{place}: the oldest go first");
    }
    let no_reason = |job: &&FinishedJob| in_queue(job) && !too_old(job) && !done_too_old(job);
    let last = newest(&mut removed.iter().filter(no_reason));
    let first = oldest(&mut kept.iter().filter(in_queue));
    assert!(first.is_none_or(|first| last <= Some(first)), "{place}: the oldest go first");
    let room = keep.rows.is_none_or(|rows| of_queue < rows) && (kept.len() as u64) < limits.rows;
    if room && keep.done_age.is_none() {
        let reasonless = removed.iter().filter(no_reason).count();
        assert_eq!(reasonless, 0, "{place}: there was room");
    }
}

#[test]
fn any_history_of_changes_gives_what_a_plain_list_says() {
    for seed in seeds(25) {
        let (mut history, mut model) = (fresh(), Model::default());
        let mut rng = Rng::from_seed(seed);
        for n in 0..30 {
            let place = format!("seed {seed} step {n}");
            let mut changes = Vec::new();
            for _ in 0..rng.below(12) {
                let some = some_job(&mut rng);
                changes.push(if rng.one_in(4) { gone(&some) } else { finished(&some) });
            }
            history.apply(&changes).unwrap();
            for change in &changes {
                model.apply(change);
            }
            if rng.one_in(4) {
                prune(&mut history, &mut model, &mut rng, &place);
            }
            if rng.one_in(3) {
                check(&history, &model, &mut rng, &place);
            }
        }
        check(&history, &model, &mut rng, &format!("seed {seed}"));
    }
}

// --- what is promised ----------------------------------------------------------------------------------

#[test]
fn a_job_comes_back_as_it_was() {
    let mut history = fresh();
    let full = FinishedJob {
        id: JobId::from_raw(u64::MAX),
        tenant: TenantId::from_raw(u64::MAX),
        priority: 4,
        started_at: Some(at(5)),
        finished_at: Timestamp::MAX,
        attempt: u32::MAX,
        errors: u32::MAX,
        crashes: 3,
        max_tries: 9,
        timeout_ms: u64::MAX,
        tags: vec!["b".to_owned(), "a".to_owned(), "b".to_owned()],
        unique_key: Some(String::new()),
        result: Some(b"{}".to_vec()),
        result_until: Some(at(6)),
        progress: Some(0.5),
        payload: Some((Some("image/png".to_owned()), vec![0, 255])),
        fence: u64::MAX,
        secret: 1 << 63,
        ..failed(1, 1, u64::MAX)
    };
    let json = FinishedJob { payload: Some((None, Vec::new())), ..job(2, 5) };
    apply(&mut history, &[full.clone(), json.clone()]);
    assert_eq!(history.reader().get(full.tenant, full.id).unwrap(), Some(full.clone()));
    assert_eq!(history.reader().get(json.tenant, json.id).unwrap(), Some(json.clone()));
    assert_eq!(history.reader().get(json.tenant, full.id).unwrap(), None, "somebody else's");
    assert_eq!(
        every(&history, &Filter { tag: Some("b".into()), ..Filter::all(full.tenant, 9) }),
        [u64::MAX]
    );
    history.apply(&[gone(&full), gone(&json)]).unwrap();
    let figures = history.reader().figures().unwrap();
    assert_eq!((figures.rows, figures.bytes), (0, 0));
    let rest = "SELECT (SELECT count(*) FROM tags) + (SELECT count(*) FROM failures)
        + (SELECT count(*) FROM names) + (SELECT count(*) FROM tenants)";
    let rest: i64 = history.reader.handle.connection.query_row(rest, [], |row| row.get(0)).unwrap();
    assert_eq!(rest, 0);
}

#[test]
fn what_comes_again_changes_nothing() {
    let mut history = fresh();
    let retried = FinishedJob { fence: 9, ..job(1, 70) };
    let changes = [
        finished(&failed(1, 50, 6)),
        gone(&job(1, 50)),
        finished(&retried),
        finished(&failed(2, 60, 5)),
    ];
    let state = |history: &History| {
        let jobs = history.reader().search(&Filter::all(tenant(1), 10)).unwrap();
        (
            jobs,
            history.reader().groups(tenant(1), None, None, 10).unwrap(),
            history.reader().figures().unwrap(),
        )
    };
    history.apply(&changes).unwrap();
    let before = state(&history);
    assert_eq!((before.0.jobs.len(), before.1.0[0].count), (2, 1));
    for again in 0..changes.len() {
        history.apply(&changes[again..]).unwrap();
        assert_eq!(state(&history), before, "from {again} on");
    }
    history.apply(&changes[2..]).unwrap();
    let commits = history.commits();
    history.apply(&changes[2..]).unwrap();
    history.apply(&[]).unwrap();
    assert_eq!(history.commits(), commits, "what changes nothing is no commit");
}

#[test]
fn a_page_is_short_when_enough_was_looked_at_and_says_where_to_go_on() {
    let mut history = fresh();
    let jobs: Vec<_> = (0..50).map(|n| job(n, n.cast_signed())).collect();
    apply(&mut history, &jobs);
    let filter = Filter { text: Some("0000000000000".into()), ..Filter::all(tenant(1), 10) };
    let page = |filter: &Filter, budget| {
        history.reader.handle.read(|tx| search::page(tx, filter, budget)).unwrap()
    };
    let short = page(&filter, 20);
    let next = Position { finished_at: at(30), id: JobId::from_raw(30) };
    assert_eq!(short, Page { jobs: Vec::new(), next: Some(next) });
    let last = page(&Filter { after: Some(next), ..filter.clone() }, 30);
    assert_eq!((ids(&last), last.next), (vec![0], None), "exactly the rest");
    let nothing = page(&Filter { limit: 0, ..filter }, 20);
    assert_eq!(nothing, Page { jobs: Vec::new(), next: None });
    let full = page(&Filter::all(tenant(1), 50), 100);
    assert_eq!((full.jobs.len(), full.next), (50, None), "there is nothing behind");
}

#[test]
fn pages_of_jobs_that_finished_at_one_moment_neither_repeat_nor_skip() {
    let mut history = fresh();
    let jobs: Vec<_> = (0..25).map(|n: u64| job(n.rotate_right(1), 7)).collect();
    apply(&mut history, &jobs);
    let found = all_pages(&history, Filter::all(tenant(1), 4), 6);
    let mut wanted: Vec<u64> = jobs.iter().map(|job| job.id.raw()).collect();
    wanted.sort_unstable_by_key(|&id| std::cmp::Reverse(id));
    assert_eq!(found.iter().map(|job| job.id.raw()).collect::<Vec<_>>(), wanted);
}

#[test]
fn a_text_is_taken_as_it_is() {
    let mut history = fresh();
    let with_key = |id, key: &str| FinishedJob { unique_key: Some(key.into()), ..job(id, 1) };
    let keys = ["100%", "100 percent", "a_b", "aXb", "back\\slash", "'; DROP TABLE jobs; --"];
    for (id, key) in keys.iter().enumerate() {
        apply(&mut history, &[with_key(id as u64, key)]);
    }
    let found = |text: &str| {
        every(&history, &Filter { text: Some(text.into()), ..Filter::all(tenant(1), 10) })
    };
    assert_eq!(found("0%"), [0]);
    assert_eq!(found("A_B"), [2]);
    assert_eq!(found("\\"), [4]);
    assert_eq!(found("'; drop table JOBS"), [5]);
    assert_eq!(found("SEND").len(), 6, "the type");
    assert_eq!(found("mai").len(), 6, "the queue");
    assert_eq!(found("0000000000003"), [3], "the id");
}

#[test]
fn bad_input_is_refused_and_nothing_is_changed() {
    let mut history = fresh();
    apply(&mut history, &[job(1, 1)]);
    let many = vec![gone(&job(1, 1)); CATALOG_ROWS_MAX + 1];
    assert!(matches!(history.apply(&many), Err(Error::TooManyRows(_))));
    let step = history.remove_tenant_step(tenant(1), CATALOG_ROWS_MAX + 1);
    assert!(matches!(step, Err(Error::TooManyRows(_))));
    let filter = Filter::all(tenant(1), CATALOG_ROWS_MAX + 1);
    assert!(matches!(history.reader().search(&filter), Err(Error::TooManyRows(_))));
    let groups = history.reader().groups(tenant(1), None, None, CATALOG_ROWS_MAX + 1);
    assert!(matches!(groups, Err(Error::TooManyRows(_))));
    assert!(history.reader().failed_ids(tenant(1), 1, None, CATALOG_ROWS_MAX + 1).is_err());
    for text in [String::new(), "a\0b".to_owned(), "x".repeat(HISTORY_TEXT_BYTES_MAX + 1)] {
        let filter = Filter { text: Some(text), ..Filter::all(tenant(1), 1) };
        assert!(matches!(history.reader().search(&filter), Err(Error::BadText { .. })));
    }
    assert_eq!(history.broken(), None);
    assert_eq!(every(&history, &Filter::all(tenant(1), 9)), [1]);
}

#[test]
fn ids_of_a_group_come_in_pages() {
    let mut history = fresh();
    let jobs: Vec<_> = (0..5).map(|n: u64| failed(n.rotate_right(1), 9, 3)).collect();
    apply(&mut history, &jobs);
    let first = history.reader().failed_ids(tenant(1), 3, None, 3).unwrap();
    let second = history.reader().failed_ids(tenant(1), 3, first.last().copied(), 3).unwrap();
    let mut wanted: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    wanted.sort_unstable();
    assert_eq!([first, second].concat(), wanted);
    let last = Some(JobId::from_raw(u64::MAX));
    assert_eq!(history.reader().failed_ids(tenant(1), 3, last, 3).unwrap(), []);
}

#[test]
fn a_group_names_a_bounded_number_of_types() {
    let mut history = fresh();
    let of_type = |n: u64| FinishedJob { job_type: format!("type-{n}"), ..failed(n, 5, 3) };
    apply(&mut history, &(0..30).map(of_type).collect::<Vec<_>>());
    let (groups, next) = history.reader().groups(tenant(1), Some("mail"), None, 10).unwrap();
    assert_eq!((groups.len(), next), (1, None));
    assert_eq!((groups[0].count, groups[0].types.len()), (30, HISTORY_GROUP_NAMES_MAX));
}

#[test]
fn failures_share_a_group_when_there_are_too_many() {
    let mut history = fresh();
    apply(&mut history, &[failed(1, 1, 11), failed(2, 2, 12)]);
    let set = "UPDATE tenants SET groups = ?1";
    history.reader.handle.connection.execute(set, [HISTORY_GROUPS_MAX.cast_signed() - 1]).unwrap();
    apply(&mut history, &[failed(3, 3, 13), failed(4, 4, 14), failed(5, 5, 15), failed(6, 6, 11)]);
    let listed = |history: &History| {
        let (groups, _) = history.reader().groups(tenant(1), None, None, 10).unwrap();
        groups.into_iter().map(|group| (group.fingerprint, group.count)).collect::<Vec<_>>()
    };
    assert_eq!(listed(&history), [(11, 2), (OTHER, 2), (13, 1), (12, 1)]);
    let others = history.reader().failed_ids(tenant(1), OTHER, None, 9).unwrap();
    assert_eq!(others, [JobId::from_raw(4), JobId::from_raw(5)]);
    let four = history.reader().get(tenant(1), JobId::from_raw(4)).unwrap().unwrap();
    assert_eq!(four.fingerprint, Some(14), "its own is known");
    // There is room again for one.
    history.apply(&[gone(&job(2, 2)), gone(&job(4, 4)), gone(&job(5, 5))]).unwrap();
    apply(&mut history, &[failed(7, 7, 17), failed(8, 8, 18)]);
    assert_eq!(listed(&history), [(OTHER, 1), (17, 1), (11, 2), (13, 1)]);
}

#[test]
fn pruning_goes_in_bounded_steps_and_a_queue_has_its_own_bounds() {
    let mut history = fresh();
    let in_queue =
        |id: u64, queue: &str| FinishedJob { queue: queue.into(), ..job(id, id.cast_signed()) };
    let jobs: Vec<_> =
        (0..1200).map(|n| in_queue(n, if n % 4 == 0 { "small" } else { "large" })).collect();
    apply(&mut history, &jobs);
    let rows = |history: &History| history.reader().figures().unwrap().rows;
    let limits = Limits { rows: 400, ..KEEP_ALL };
    let step = HISTORY_STEP_ROWS as u64;
    assert!(history.prune(&limits, &[], at(5000)).unwrap());
    assert_eq!(rows(&history), 1200 - step);
    assert!(!history.prune(&limits, &[], at(5000)).unwrap());
    assert_eq!(rows(&history), 400);
    let commits = history.commits();
    assert!(!history.prune(&limits, &[], at(5000)).unwrap());
    assert_eq!(history.commits(), commits, "nothing to do is no commit");

    let bytes = history.reader().figures().unwrap().bytes / 400;
    let keep = QueueKeep { bytes: Some(30 * bytes), ..QueueKeep::default() };
    let rules = [(tenant(1), "small".to_owned(), keep), (tenant(2), "large".to_owned(), keep)];
    assert!(!history.prune(&limits, &rules, at(5000)).unwrap());
    let left =
        every(&history, &Filter { queue: Some("small".into()), ..Filter::all(tenant(1), 99) });
    assert_eq!(left, (0..30).map(|n| 1196 - 4 * n).collect::<Vec<_>>(), "the newest");
    assert_eq!(rows(&history), 330);
    let few = Limits { bytes: 10 * bytes, ..KEEP_ALL };
    assert!(!history.prune(&few, &[], at(5000)).unwrap());
    assert_eq!(rows(&history), 10);
}

#[test]
fn what_failed_outlives_what_is_done_in_its_queue() {
    let mut history = fresh();
    let cancelled = FinishedJob { state: Finish::Cancelled, ..job(3, 11) };
    apply(&mut history, &[job(1, 10), failed(2, 10, 5), cancelled, job(4, 90)]);
    let keep = QueueKeep { done_age: Some(Duration::from_millis(50)), ..QueueKeep::default() };
    assert!(!history.prune(&KEEP_ALL, &[(tenant(1), "mail".to_owned(), keep)], at(100)).unwrap());
    assert_eq!(every(&history, &Filter::all(tenant(1), 9)), [4, 2]);
    let limits = Limits { age: Duration::from_millis(50), ..KEEP_ALL };
    assert!(!history.prune(&limits, &[], at(100)).unwrap());
    assert_eq!(every(&history, &Filter::all(tenant(1), 9)), [4]);
}

#[test]
fn a_tenant_goes_in_bounded_steps_and_takes_nobody_with_it() {
    let mut history = fresh();
    let other = FinishedJob { tenant: tenant(2), ..failed(1, 1, 5) };
    apply(&mut history, &(0..5).map(|n| failed(n, 1, 5)).collect::<Vec<_>>());
    apply(&mut history, std::slice::from_ref(&other));
    let steps: Vec<bool> =
        (0..3).map(|_| history.remove_tenant_step(tenant(1), 2).unwrap()).collect();
    assert_eq!(steps, [true, true, false]);
    assert_eq!(history.reader().figures().unwrap().rows, 1);
    assert_eq!(history.reader().get(other.tenant, other.id).unwrap(), Some(other));
    assert_eq!(history.reader().groups(tenant(1), None, None, 9).unwrap(), (Vec::new(), None));
}

#[test]
fn tags_are_found_across_parts_of_time() {
    let mut history = fresh();
    let tagged =
        |id: u64, finished_at: i64| FinishedJob { tags: vec!["t".into()], ..job(id, finished_at) };
    let fill = "UPDATE parts SET jobs = ?1 WHERE part = (SELECT max(part) FROM parts)";
    for part in 0..4_u64 {
        // The clock goes on, and something old comes late.
        apply(&mut history, &[tagged(part, 10 * part.cast_signed()), tagged(100 + part, 1)]);
        history.reader.handle.connection.execute(fill, [HISTORY_PART_ROWS.cast_signed()]).unwrap();
    }
    let count = || -> i64 {
        let sql = "SELECT count(DISTINCT part) FROM tags";
        history.reader.handle.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(), 4);
    let filter = Filter { tag: Some("t".into()), ..Filter::all(tenant(1), 3) };
    let found: Vec<u64> = all_pages(&history, filter, 4).iter().map(|job| job.id.raw()).collect();
    assert_eq!(found, [3, 2, 1, 103, 102, 101, 100, 0]);
}

// --- damage, reopening, deleting ----------------------------------------------------------------------

#[test]
fn a_row_that_makes_no_sense_is_told_and_does_not_break_the_handle() {
    let damages = [
        "UPDATE jobs SET tags = 'no list'",
        "UPDATE jobs SET priority = 300",
        "UPDATE jobs SET attempt = -1",
        "UPDATE jobs SET created_at = -1",
        "UPDATE jobs SET state = 9",
        "UPDATE jobs SET error_class = CAST(x'ff' AS TEXT)",
        "UPDATE jobs SET error_message = NULL",
    ];
    for damage in damages {
        let mut history = fresh();
        apply(&mut history, &[failed(1, 5, 5)]);
        history.reader.handle.connection.execute(damage, []).unwrap();
        let got = history.reader().get(tenant(1), JobId::from_raw(1));
        assert!(matches!(got, Err(Error::BadRow(_))), "{damage}: {got:?}");
        let page = history.reader().search(&Filter::all(tenant(1), 9));
        let hidden = damage.contains("state");
        assert!(hidden || matches!(page, Err(Error::BadRow(_))), "{damage}: {page:?}");
        assert_eq!(history.broken(), None, "{damage}");
    }
    let mut history = fresh();
    apply(&mut history, &[failed(1, 5, 5)]);
    for damage in ["UPDATE failures SET types = 'x'", "UPDATE failures SET last_at = -1"] {
        history.reader.handle.connection.execute(damage, []).unwrap();
        let groups = history.reader().groups(tenant(1), None, None, 9);
        assert!(matches!(groups, Err(Error::BadRow(_))), "{damage}: {groups:?}");
    }
}

#[test]
fn what_was_taken_is_there_after_every_reopening() {
    let folder = Folder::new();
    let mut model = Model::default();
    let mut rng = Rng::from_seed(3);
    for round in 0..4 {
        let mut history = folder.open(Opening::Start);
        let changes: Vec<Change> = (0..40).map(|_| finished(&some_job(&mut rng))).collect();
        history.apply(&changes).unwrap();
        for change in &changes {
            model.apply(change);
        }
        // Half of the time as after a failure: the log is not copied.
        if round % 2 == 0 {
            history.reader.handle.broken.replace(Some("a planned failure".to_owned()));
            assert!(matches!(history.reader().figures(), Err(Error::Closed)));
        }
        drop(history);
        let history = folder.open(Opening::AfterFailure);
        check(&history, &model, &mut rng, &format!("round {round}"));
    }
}

#[test]
fn it_may_be_deleted_at_any_time() {
    let folder = Folder::new();
    let mut history = folder.open(Opening::Start);
    apply(&mut history, &[job(1, 1)]);
    history.reader.handle.broken.replace(Some("so that the log stays behind".to_owned()));
    drop(history);
    assert!(folder.path.with_extension("sqlite-wal").exists());
    std::fs::remove_file(&folder.path).unwrap();
    std::fs::write(&folder.path, b"").unwrap();
    let mut history = folder.open(Opening::Start);
    assert_eq!(history.reader().figures().unwrap().rows, 0, "the old log is not taken for ours");
    apply(&mut history, &[job(2, 2)]);
    assert_eq!(every(&history, &Filter::all(tenant(1), 9)), [2]);
    // Also while it is open: what is in hand goes on.
    std::fs::remove_file(&folder.path).unwrap();
    apply(&mut history, &[job(3, 3)]);
    assert_eq!(every(&history, &Filter::all(tenant(1), 9)), [3, 2]);
}

#[test]
fn a_reader_sees_what_is_committed_waits_for_nobody_and_changes_nothing() {
    let folder = Folder::new();
    assert!(matches!(HistoryReader::open(&folder.path), Err(Error::Sql(_))), "no schema yet");
    let mut history = folder.open(Opening::Start);
    let reader = HistoryReader::open(&folder.path).unwrap();
    apply(&mut history, &[failed(1, 1, 5)]);
    let seen = |reader: &HistoryReader| ids(&reader.search(&Filter::all(tenant(1), 9)).unwrap());
    assert_eq!(seen(&reader), [1]);
    history
        .reader
        .handle
        .transaction(|tx| {
            tx.run(Statement::JobDelete, [1])?;
            assert_eq!(seen(&reader), [1], "not committed");
            Ok(())
        })
        .unwrap();
    assert_eq!(seen(&reader), [] as [u64; 0]);
    let both = reader.handle.read(|tx| {
        let before = search::page(tx, &Filter::all(tenant(1), 9), 9)?;
        apply(&mut history, &[failed(2, 2, 5)]);
        Ok((before, search::page(tx, &Filter::all(tenant(1), 9), 9)?))
    });
    let (before, after) = both.unwrap();
    assert_eq!(before, after, "one look sees one state");
    assert!(reader.get(tenant(1), JobId::from_raw(2)).unwrap().is_some());
    assert_eq!(reader.groups(tenant(1), None, None, 9).unwrap().0[0].count, 2);
    assert_eq!(reader.failed_ids(tenant(1), 5, None, 9).unwrap(), [JobId::from_raw(2)]);
    assert_eq!(reader.figures().unwrap(), history.reader().figures().unwrap());
    assert!(reader.handle.connection.execute("DELETE FROM jobs", []).is_err());
    assert_eq!(reader.broken(), None);
}

#[test]
fn the_file_survives_power_loss_and_says_how_large_it_is() {
    let folder = Folder::new();
    let mut history = folder.open(Opening::Start);
    let word: i64 = history
        .reader
        .handle
        .connection
        .query_row("PRAGMA synchronous", [], |row| row.get(0))
        .unwrap();
    assert_eq!(word, 2, "FULL");
    apply(&mut history, &(0..500).map(|n| job(n, 1)).collect::<Vec<_>>());
    let Figures { rows, bytes, file_bytes } = history.reader().figures().unwrap();
    assert_eq!((rows, bytes), (500, (0..500).map(|n| job(n, 1).bytes()).sum()));
    assert!(0 < file_bytes && file_bytes == history.file_bytes());
    assert_eq!(history.margin_bytes(), 1 << 39);
}

// --- how statements are run ----------------------------------------------------------------------------

#[test]
fn no_statement_walks_or_sorts_a_table() {
    let history = fresh();
    for statement in Statement::ALL {
        let mut grows = what_grows(&history.reader.handle.connection, statement.sql());
        // What was looked at is bounded.
        grows.retain(|detail| detail != "SCAN looked");
        assert_eq!(grows, [] as [&str; 0], "{}: {}", statement.name(), statement.sql());
    }
    let unbounded = "SELECT job FROM jobs WHERE tenant = ?1 ORDER BY finished_at";
    assert_ne!(what_grows(&history.reader.handle.connection, unbounded), [] as [&str; 0]);
}

/// The indexes that a statement uses, and what of them.
fn indexes(connection: &Connection, statement: Statement) -> BTreeSet<String> {
    let plan = format!("EXPLAIN QUERY PLAN {}", statement.sql());
    let mut prepared = connection.prepare(&plan).unwrap();
    let details = prepared.raw_query().mapped(|row| row.get::<_, String>(3)).map(Result::unwrap);
    details.filter_map(|detail| detail.split_once(" USING ").map(|it| it.1.to_owned())).collect()
}

#[test]
fn each_walk_uses_its_index_and_begins_and_ends_where_it_has_to() {
    let history = fresh();
    for (statement, wanted) in [
        (Statement::WalkTag, "PRIMARY KEY (part=? AND tenant=? AND tag=? AND "),
        (Statement::WalkType, "COVERING INDEX jobs_by_type (type=? AND "),
        (Statement::WalkQueue, "COVERING INDEX jobs_by_queue (queue=? AND state=? AND "),
        (Statement::WalkTenant, "COVERING INDEX jobs_by_state (tenant=? AND state=? AND "),
    ] {
        let used = indexes(&history.reader.handle.connection, statement);
        let whole = format!("{wanted}finished_at>? AND (finished_at,id)<(?,?))");
        let lookup = "INTEGER PRIMARY KEY (rowid=?)".to_owned();
        assert!(used.contains(&whole), "{used:#?}");
        let others = used.iter().filter(|it| **it != whole && !it.starts_with("INTEGER PRIMARY"));
        assert_eq!(others.count(), 0, "{used:#?}");
        assert!(used.contains(&lookup), "{used:#?}");
    }
}

#[test]
fn every_statement_has_a_name_of_its_own() {
    let names: BTreeSet<_> = Statement::ALL.iter().map(|statement| statement.name()).collect();
    assert_eq!(names.len(), Statement::ALL.len());
}
