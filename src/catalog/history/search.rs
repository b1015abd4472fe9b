//! Searching: a walk over the index that a filter can use, newest first.
//!
//! Which index is plain to see: that of the tag, else of the type, else of the queue and the states, else
//! of the states, of which there are three in all. What an index does not know is looked up in each row, so
//! that a filter of two rare things may look at many rows; their number is bounded, and then the page is
//! short and says where to go on.

use rusqlite::types::Value;

use super::batch::{Kind, find_name};
use super::job::{self, Finish, FinishedJob};
use super::statements::Statement;
use crate::base::id::{JobId, TenantId};
use crate::base::limits::HISTORY_TEXT_BYTES_MAX;
use crate::base::time::Timestamp;
use crate::catalog::handle::Tx;
use crate::catalog::statement::Sql;
use crate::catalog::{
    Error, Result, check_rows, check_text, from_sqlite, id_of, stored, stored_tenant,
};

/// Which finished jobs are wanted. What is `None` or empty lets all through.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Whose.
    pub tenant: TenantId,
    /// Of which queue.
    pub queue: Option<String>,
    /// How they ended.
    pub states: Vec<Finish>,
    /// Of which type.
    pub job_type: Option<String>,
    /// With which tag.
    pub tag: Option<String>,
    /// What stands in the id, the queue, the type, a tag, the unique key, or the class or message of the
    /// error; a to z may be large or small.
    pub text: Option<String>,
    /// Finished at this moment or later.
    pub from: Option<Timestamp>,
    /// Finished before this moment.
    pub to: Option<Timestamp>,
    /// Behind this place.
    pub after: Option<Position>,
    /// How many, at most.
    pub limit: usize,
}

impl Filter {
    /// All jobs of a tenant.
    pub fn all(tenant: TenantId, limit: usize) -> Filter {
        Filter {
            tenant,
            queue: None,
            states: Vec::new(),
            job_type: None,
            tag: None,
            text: None,
            from: None,
            to: None,
            after: None,
            limit,
        }
    }
}

/// A place in the order of what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// When the job there was finished.
    pub finished_at: Timestamp,
    /// Which one it is.
    pub id: JobId,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Jobs, the newest first. They can be fewer than were asked for, even none, and `next` still be there.
    pub jobs: Vec<FinishedJob>,
    /// Where to go on, if there may be more.
    pub next: Option<Position>,
}

/// A page, for which no more than `budget` rows are looked at.
pub(super) fn page(tx: &Tx<'_>, filter: &Filter, budget: usize) -> Result<Page> {
    check_rows(filter.limit)?;
    if let Some(text) = &filter.text {
        check_text("the text to look for", text, HISTORY_TEXT_BYTES_MAX)?;
    }
    match plan(tx, filter, budget)? {
        Some(walk) => go(tx, filter, &walk, budget),
        None => Ok(Page { jobs: Vec::new(), next: None }),
    }
}

/// How a filter is gone through.
struct Walk {
    statement: Statement,
    params: Vec<Value>,
}

/// The walk of a filter; `None` when it names a queue or type that has no jobs.
fn plan(tx: &Tx<'_>, filter: &Filter, budget: usize) -> Result<Option<Walk>> {
    let tenant = stored_tenant(filter.tenant);
    let number = |kind, name: Option<&String>| match name {
        None => Ok(Some(None)),
        Some(name) => {
            find_name(tx, tenant, kind, name).map(|found| found.map(|it| Some(it.number)))
        }
    };
    let Some(queue) = number(Kind::Queue, filter.queue.as_ref())? else { return Ok(None) };
    let Some(job_type) = number(Kind::Type, filter.job_type.as_ref())? else { return Ok(None) };
    let (statement, key) = match (&filter.tag, job_type, queue) {
        (Some(_), _, _) => (Statement::WalkTag, tenant),
        (None, Some(number), _) => (Statement::WalkType, number),
        (None, None, Some(number)) => (Statement::WalkQueue, number),
        (None, None, None) => (Statement::WalkTenant, tenant),
    };
    let (before_ms, before_id) = before(filter);
    let budget = i64::try_from(budget).expect("BUG: the bound fits");
    let params = vec![
        key.into(),
        filter.tag.clone().into(),
        before_ms.into(),
        before_id.into(),
        filter.from.map_or(0, Timestamp::unix_ms).into(),
        // One more, to know whether that was all.
        (budget + 1).into(),
        queue.into(),
        states(&filter.states).into(),
        filter.text.as_deref().map(pattern).into(),
        job_type.into(),
    ];
    Ok(Some(Walk { statement, params }))
}

/// What a page comes before: the place where the last one ended, or the end of the time.
fn before(filter: &Filter) -> (i64, i64) {
    let after = filter
        .after
        .map_or((i64::MAX, i64::MAX), |at| (at.finished_at.unix_ms(), stored(at.id.raw())));
    let to = filter.to.map_or((i64::MAX, i64::MAX), |to| (to.unix_ms(), i64::MIN));
    after.min(to)
}

/// A bit for each state; all of them when none is named.
fn states(states: &[Finish]) -> i64 {
    let wanted = if states.is_empty() { Finish::ALL.as_slice() } else { states };
    wanted.iter().fold(0, |bits, state| bits | 1 << state.number())
}

/// The pattern of what has `text` in it.
fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// What a walk says of a row.
struct Looked {
    number: i64,
    at: (i64, i64),
    verdict: i64,
}

fn go(tx: &Tx<'_>, filter: &Filter, walk: &Walk, budget: usize) -> Result<Page> {
    let name = walk.statement.name();
    let sql = |error: rusqlite::Error| from_sqlite(name, &error);
    let text = filter.text.as_ref().map(|text| text.to_ascii_lowercase());
    let mut prepared = walk.statement.prepare(tx.connection)?;
    let mut rows = prepared.query(rusqlite::params_from_iter(&walk.params)).map_err(sql)?;
    let mut page = Page { jobs: Vec::new(), next: None };
    let mut last = None;
    let mut looked_at = 0;
    while let Some(row) = rows.next().map_err(sql)? {
        if looked_at == budget || page.jobs.len() == filter.limit {
            page.next = match last {
                Some(at) => Some(position(name, at)?),
                // Nothing was asked for.
                None => filter.after,
            };
            break;
        }
        let column = |column| row.get(column).map_err(sql);
        let looked =
            Looked { number: column(0)?, at: (column(1)?, column(2)?), verdict: column(3)? };
        if last.is_some_and(|last| last <= looked.at) {
            return Err(Error::BadRow(format!("{name}: rows are out of order")));
        }
        last = Some(looked.at);
        looked_at += 1;
        if is_meant(&looked, text.as_deref())
            && let Some(job) = job::get_by_number(tx, looked.number)?
        {
            page.jobs.push(job);
        }
    }
    Ok(page)
}

/// Whether a row is meant, when all that is missing is its id as people write it.
fn is_meant(looked: &Looked, text: Option<&str>) -> bool {
    match (looked.verdict, text) {
        (0, _) => false,
        (2, Some(text)) => JobId::from_raw(id_of(looked.at.1)).to_string().contains(text),
        (_, _) => true,
    }
}

fn position(name: &str, (finished_at, id): (i64, i64)) -> Result<Position> {
    let finished_at = Timestamp::from_unix_ms(finished_at)
        .ok_or_else(|| Error::BadRow(format!("{name}: finished at {finished_at}")))?;
    Ok(Position { finished_at, id: JobId::from_raw(id_of(id)) })
}
