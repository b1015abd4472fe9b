//! Questions about series: parameters of a query, and batches in JSON.

use std::borrow::Cow;
use std::time::Duration;

use crate::base::human::{parse_duration, parse_moment};
use crate::base::limits::{
    LABELS_MAX, QUERY_BATCH_MAX, QUERY_DEADLINE, QUERY_DEADLINE_MAX, QUERY_NAME_BYTES_MAX,
};
use crate::base::pieces::Pieces;
use crate::base::time::Timestamp;
use crate::http::problem::Problem;
use crate::http::spans::{self, Fault};
use crate::series::fold::{Function, Reduce};
use crate::series::labels::Labels;
use crate::series::query::Query;
use crate::series::select::Selector;

/// A query goes so far back if it does not say.
const FROM: &str = "-1h";

/// The fields of a batch.
pub(in crate::http) const BATCH_FIELDS: [&str; 5] = ["queries", "from", "to", "step", "timeout"];
/// The fields of one of its queries.
pub(in crate::http) const QUERY_FIELDS: [&str; 7] =
    ["select", "fn", "by", "reduce", "from", "to", "step"];

const FUNCTIONS: [(&str, Function); 12] = [
    ("raw", Function::Raw),
    ("avg", Function::Avg),
    ("min", Function::Min),
    ("max", Function::Max),
    ("sum", Function::Sum),
    ("count", Function::Count),
    ("last", Function::Last),
    ("rate", Function::Rate),
    ("increase", Function::Increase),
    ("p50", Function::Quantile(0.5)),
    ("p95", Function::Quantile(0.95)),
    ("p99", Function::Quantile(0.99)),
];

const REDUCES: [(&str, Reduce); 4] =
    [("sum", Reduce::Sum), ("avg", Reduce::Avg), ("min", Reduce::Min), ("max", Reduce::Max)];

/// What was said of a query, as texts.
#[derive(Clone, Debug, Default)]
pub(in crate::http) struct Asked<'t> {
    pub(in crate::http) select: Option<Cow<'t, str>>,
    pub(in crate::http) function: Option<Cow<'t, str>>,
    /// Names of labels.
    pub(in crate::http) by: Option<Vec<Cow<'t, str>>>,
    pub(in crate::http) reduce: Option<Cow<'t, str>>,
    pub(in crate::http) range: Range<'t>,
}

/// From when to when, and in which steps.
#[derive(Clone, Debug, Default)]
pub(in crate::http) struct Range<'t> {
    pub(in crate::http) from: Option<Cow<'t, str>>,
    pub(in crate::http) to: Option<Cow<'t, str>>,
    pub(in crate::http) step: Option<Cow<'t, str>>,
}

/// Names with commas between; none of them in an empty text.
pub(in crate::http) fn names(text: &str) -> Vec<Cow<'_, str>> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    text.split(',').map(|name| Cow::Borrowed(name.trim())).collect()
}

/// A selector, for the parameter or field `what`.
pub(in crate::http) fn selector(
    what: &'static str,
    text: Option<&str>,
) -> Result<Selector, Problem> {
    let code = format!("invalid_{what}");
    let text = text.ok_or_else(|| {
        let detail = format!("{what} says which series: {what}=cpu{{host=\"a\"}}");
        Problem::new(&code, detail)
    })?;
    Selector::parse(text).map_err(|bad| Problem::new(&code, bad.to_string()).with("at", bad.at))
}

fn word<T: Copy>(what: &str, said: &str, words: &[(&str, T)]) -> Result<T, Problem> {
    let found = words.iter().find(|(word, _)| *word == said).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        Problem::new(&format!("invalid_{what}"), format!("{what} is one of {}", all.join(", ")))
    })
}

/// How a function is spelled; those that cannot be asked for have no name.
pub(in crate::http) fn name_of(function: Function) -> &'static str {
    FUNCTIONS.iter().find(|(_, known)| *known == function).map_or("", |(name, _)| *name)
}

/// What is made of the samples of a step, by its word.
pub(in crate::http) fn function_of(said: &str) -> Result<Function, Problem> {
    word("fn", said, &FUNCTIONS)
}

fn labels_of(names: &[Cow<'_, str>]) -> Result<Vec<String>, Problem> {
    let refused = |detail: String| Problem::new("invalid_by", detail);
    if LABELS_MAX < names.len() {
        return Err(refused(format!("by names at most {LABELS_MAX} labels")));
    }
    let mut found: Vec<String> = Vec::new();
    for name in names {
        // A label is what a series may have.
        Labels::new("series", [(&**name, "x")]).map_err(|bad| refused(bad.to_string()))?;
        if !found.iter().any(|other| **other == **name) {
            found.push(name.clone().into_owned());
        }
    }
    Ok(found)
}

fn moment(what: &str, text: &str, now: Timestamp) -> Result<i64, Problem> {
    let at = parse_moment(text, now);
    let at = at.map_err(|bad| Problem::new(&format!("invalid_{what}"), bad.to_string()))?;
    Ok(at.unix_ms())
}

fn step(text: &str) -> Result<i64, Problem> {
    let refused = |detail: String| Problem::new("invalid_step", detail);
    let step = parse_duration(text).map_err(|bad| refused(bad.to_string()))?;
    if step.is_zero() {
        return Err(refused("a step is at least a millisecond".to_owned()));
    }
    i64::try_from(step.as_millis()).map_err(|_| refused("a step is not that long".to_owned()))
}

impl Range<'_> {
    /// Each of the three, if it is there, can be read.
    fn check(&self, now: Timestamp) -> Result<(), Problem> {
        self.from.as_deref().map(|text| moment("from", text, now)).transpose()?;
        self.to.as_deref().map(|text| moment("to", text, now)).transpose()?;
        self.step.as_deref().map(step).transpose()?;
        Ok(())
    }
}

/// A query, as the series understand it.
pub(in crate::http) fn query(asked: &Asked<'_>, now: Timestamp) -> Result<Query, Problem> {
    let range = &asked.range;
    let select = selector("select", asked.select.as_deref())?;
    let function = asked.function.as_deref().map(function_of);
    let reduce = asked.reduce.as_deref().map(|said| word("reduce", said, &REDUCES));
    Ok(Query {
        select,
        function: function.transpose()?.unwrap_or(Function::Avg),
        by: asked.by.as_deref().map(labels_of).transpose()?,
        reduce: reduce.transpose()?,
        from_ms: moment("from", range.from.as_deref().unwrap_or(FROM), now)?,
        to_ms: range.to.as_deref().map_or(Ok(now.unix_ms()), |text| moment("to", text, now))?,
        step_ms: range.step.as_deref().map(step).transpose()?,
        now_ms: now.unix_ms(),
    })
}

/// How long a query may take.
pub(in crate::http) fn timeout(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else {
        return Ok(QUERY_DEADLINE);
    };
    let refused = |detail: String| Problem::new("invalid_timeout", detail);
    let time = parse_duration(text).map_err(|bad| refused(bad.to_string()))?;
    if time.is_zero() || QUERY_DEADLINE_MAX < time {
        return Err(refused(format!("timeout is 1ms to {}s", QUERY_DEADLINE_MAX.as_secs())));
    }
    Ok(time)
}

/// Queries that are asked together, by name, in the order of the call.
#[derive(Debug)]
pub(in crate::http) struct Batch {
    /// Each that can be asked, or what is wrong with it.
    pub(in crate::http) queries: Vec<(String, Result<Query, Problem>)>,
    /// How long each may take.
    pub(in crate::http) within: Duration,
}

/// The body of a batch.
pub(in crate::http) fn batch(body: &[u8], now: Timestamp) -> Result<Batch, Problem> {
    let text = spans::body(body)?;
    if spans::value(text).is_none() {
        return Err(Problem::malformed("the body is not JSON"));
    }
    let fields = spans::object(text, &BATCH_FIELDS).map_err(Fault::into_problem)?;
    let [queries, from, to, step, within] = fields.map(spans::given);
    let range = Range { from: said("from", from)?, to: said("to", to)?, step: said("step", step)? };
    range.check(now)?;
    let within = timeout(said("timeout", within)?.as_deref())?;
    let queries = queries.ok_or_else(|| {
        let detail =
            "a batch has queries, each with its name: {\"queries\":{\"cpu\":{\"select\":\"cpu\"}}}";
        Problem::malformed(detail)
    })?;
    let mut found = Vec::new();
    each_query(queries, |name, piece| {
        let query = asked(piece, &range).and_then(|asked| query(&asked, now));
        found.push((name, query));
    })?;
    Ok(Batch { queries: found, within })
}

/// A number or a text, as text.
fn said<'t>(field: &str, piece: Option<&'t str>) -> Result<Option<Cow<'t, str>>, Problem> {
    let Some(piece) = piece else {
        return Ok(None);
    };
    let text = spans::number_or_text(piece);
    let text = text.ok_or_else(|| {
        Problem::new(&format!("invalid_{field}"), format!("{field} is a number or a text"))
    })?;
    Ok(Some(text))
}

fn each_query<'t>(piece: &'t str, mut each: impl FnMut(String, &'t str)) -> Result<(), Problem> {
    let refused = |detail: String| Problem::new("invalid_queries", detail);
    let expected = || refused("queries is an object: each query under its name".to_owned());
    // PHP's empty map.
    if Pieces::of_list(piece).and_then(|mut list| list.goes_on()) == Some(false) {
        return Ok(());
    }
    let mut names: Vec<String> = Vec::new();
    let mut pieces = Pieces::of_object(piece).ok_or_else(expected)?;
    while pieces.goes_on().ok_or_else(expected)? {
        let name = pieces.next_name().and_then(spans::text).ok_or_else(expected)?;
        let value = pieces.next_value().ok_or_else(expected)?;
        if !(1..=QUERY_NAME_BYTES_MAX).contains(&name.len()) {
            return Err(refused(format!("a query's name has 1 to {QUERY_NAME_BYTES_MAX} bytes")));
        }
        if names.iter().any(|other| **other == *name) {
            return Err(refused(format!("the query {name:?} is given twice")));
        }
        if names.len() == QUERY_BATCH_MAX {
            let detail = format!("a batch has at most {QUERY_BATCH_MAX} queries");
            return Err(Problem::new("too_large", detail).with("limit", QUERY_BATCH_MAX));
        }
        names.push(name.clone().into_owned());
        each(name.into_owned(), value);
    }
    Ok(())
}

/// One query of a batch; what it does not say of the range is as the batch says.
fn asked<'t>(piece: &'t str, common: &Range<'t>) -> Result<Asked<'t>, Problem> {
    let fields = spans::object(piece, &QUERY_FIELDS).map_err(Fault::into_problem)?;
    let [select, function, by, reduce, from, to, step] = fields.map(spans::given);
    let text = |field: &'static str, piece: Option<&'t str>| {
        let Some(piece) = piece else {
            return Ok(None);
        };
        let text = spans::text(piece);
        text.map(Some)
            .ok_or_else(|| Problem::new(&format!("invalid_{field}"), format!("{field} is a text")))
    };
    let function = text("fn", function)?;
    // Samples as they are have no step; that of the batch is for the others.
    let common_step = || common.step.clone().filter(|_| function.as_deref() != Some("raw"));
    let step = said("step", step)?.or_else(common_step);
    Ok(Asked {
        select: text("select", select)?,
        function,
        by: by.map(by_of).transpose()?,
        reduce: text("reduce", reduce)?,
        range: Range {
            from: said("from", from)?.or_else(|| common.from.clone()),
            to: said("to", to)?.or_else(|| common.to.clone()),
            step,
        },
    })
}

/// A list of names, or a text with commas between them.
fn by_of(piece: &str) -> Result<Vec<Cow<'_, str>>, Problem> {
    let refused = || Problem::new("invalid_by", "by is a list of labels, or a text with commas");
    if !piece.starts_with('[') {
        return match spans::text(piece).ok_or_else(refused)? {
            Cow::Borrowed(text) => Ok(names(text)),
            Cow::Owned(text) => {
                Ok(names(&text).into_iter().map(|n| n.into_owned().into()).collect())
            }
        };
    }
    let mut found = Vec::new();
    spans::list(piece, |item| {
        if found.len() <= LABELS_MAX {
            found.push(spans::text(item).ok_or_else(refused)?);
        }
        Ok(())
    })?;
    Ok(found)
}
