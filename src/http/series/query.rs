//! Questions about series, one or many at once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

use super::answer;
use crate::base::limits::{HANDLER_DEADLINE, QUERY_ANSWER_BYTES_MAX, QUERY_HERE_POINTS_MAX};
use crate::http::openapi;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use crate::http::request::Cx;
use crate::http::series_terms::{self as terms, Asked, Range};

/// The answer to a query.
#[derive(ToSchema)]
pub struct QueryAnswer {
    /// The series, sorted by labels.
    pub series: Vec<QuerySeries>,
    /// What it was made from: `raw`, `5m`, `1h` or `1d`.
    pub resolution: String,
    /// The length of a step.
    pub step_ms: u64,
    /// Where the first step begins.
    pub from: String,
    /// Where the last one ends.
    pub to: String,
    /// Blocks of samples that could not be read, and are missing in the answer; not there if there are none.
    pub damaged_blocks: Option<u64>,
}

/// A series of an answer.
#[derive(ToSchema)]
pub struct QuerySeries {
    /// What is measured; missing where series were put together.
    pub metric: Option<String>,
    /// Of what.
    #[schema(value_type = Object)]
    pub labels: BTreeMap<String, String>,
    /// Unix milliseconds of the start of a step, and its value: null where there is no sample.
    #[schema(schema_with = openapi::points)]
    pub points: Value,
}

/// Queries that are asked together.
#[derive(ToSchema)]
pub struct BatchRequest {
    /// Each under a name, at most 100.
    #[schema(value_type = Object)]
    pub queries: BTreeMap<String, BatchQuery>,
    /// From when on; an hour ago without it.
    #[schema(schema_with = openapi::moment)]
    pub from: Option<Value>,
    /// Until when; now without it.
    #[schema(schema_with = openapi::moment)]
    pub to: Option<Value>,
    /// How long a step is; chosen by the range without it.
    #[schema(schema_with = openapi::duration)]
    pub step: Option<Value>,
    /// How long each of them may take, at most 15 s; 2 s without it.
    #[schema(schema_with = openapi::duration)]
    pub timeout: Option<Value>,
}

/// One of them. `from`, `to` and `step` go before those of the batch.
#[derive(ToSchema)]
pub struct BatchQuery {
    /// Which series.
    pub select: String,
    /// What is made of the samples of a step; `avg` without it.
    #[schema(rename = "fn")]
    pub function: Option<String>,
    /// Labels that stay when series are put together.
    pub by: Option<Vec<String>>,
    /// How they are put together.
    pub reduce: Option<String>,
    /// From when on.
    #[schema(schema_with = openapi::moment)]
    pub from: Option<Value>,
    /// Until when.
    #[schema(schema_with = openapi::moment)]
    pub to: Option<Value>,
    /// How long a step is.
    #[schema(schema_with = openapi::duration)]
    pub step: Option<Value>,
}

/// The answers of a batch.
#[derive(ToSchema)]
pub struct BatchAnswer {
    /// Each under its name: `status` is `success`, with the fields of an answer, or `error`, with a problem.
    #[schema(value_type = Object)]
    pub results: Value,
    /// Whether any of them failed.
    pub partial: bool,
}

/// `GET /v1/series/query`
pub(in crate::http) async fn query(cx: Cx) -> Result<Reply, Problem> {
    let given = |name: &str| cx.query.get(name).map(Cow::Borrowed);
    let asked = Asked {
        select: given("select"),
        function: given("fn"),
        by: cx.query.get("by").map(terms::names),
        reduce: given("reduce"),
        range: Range { from: given("from"), to: given("to"), step: given("step") },
    };
    let query = terms::query(&asked, cx.now.wall)?;
    let within = terms::timeout(cx.query.get("timeout"))?;
    let answer = cx.app().query_series(cx.caller().tenant.id, query, within).await?;
    let text = if answer::points(&answer) <= QUERY_HERE_POINTS_MAX {
        answer::bounded(&answer)
    } else {
        cx.app().blocking(HANDLER_DEADLINE, move || answer::bounded(&answer)).await?
    };
    Ok(Reply::bytes("application/json", text?.into()))
}

/// `POST /v1/series/query_batch`
pub(in crate::http) async fn batch(cx: Cx) -> Result<Reply, Problem> {
    let batch = terms::batch(&cx.body, cx.now.wall)?;
    let (mut names, mut queries) = (Vec::new(), Vec::new());
    for (name, query) in batch.queries {
        match query {
            Ok(query) => {
                names.push((name, None));
                queries.push(query);
            }
            Err(problem) => names.push((name, Some(problem))),
        }
    }
    let (app, tenant) = (cx.app(), cx.caller().tenant.id);
    let answers = app.query_batch(tenant, queries, batch.within, answer::encoded).await;
    let mut answers = answers.into_iter();
    let mut results = Results::new(cx.request_id.as_str());
    for (name, problem) in names {
        let outcome = if let Some(problem) = problem {
            Err(problem)
        } else {
            let answer = answers.next().expect("BUG: each query has an answer");
            answer.map_err(Problem::from)
        };
        results.add(&name, outcome);
    }
    Ok(Reply::bytes("application/json", results.finish().into()))
}

/// The answers of a batch, as they are put together.
struct Results<'r> {
    request_id: &'r str,
    out: Vec<u8>,
    first: bool,
    partial: bool,
}

impl<'r> Results<'r> {
    fn new(request_id: &'r str) -> Results<'r> {
        Results { request_id, out: b"{\"results\":{".to_vec(), first: true, partial: false }
    }

    /// Adds one. What does not fit any more is told as too long; its neighbours stay.
    fn add(&mut self, name: &str, outcome: Result<Vec<u8>, Problem>) {
        let room = QUERY_ANSWER_BYTES_MAX.saturating_sub(self.out.len());
        let outcome = outcome.and_then(|answer| {
            if answer.len() <= room { Ok(answer) } else { Err(answer::too_long()) }
        });
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(b',');
        }
        serde_json::to_writer(&mut self.out, name).expect("BUG: a text is plain JSON");
        match outcome {
            Ok(answer) => {
                let fields = answer.strip_prefix(b"{").expect("BUG: an answer is an object");
                self.out.extend_from_slice(b":{\"status\":\"success\",");
                self.out.extend_from_slice(fields);
            }
            Err(problem) => {
                self.partial = true;
                self.out.extend_from_slice(b":{\"status\":\"error\",\"error\":");
                self.out.extend_from_slice(&problem.document(self.request_id));
                self.out.push(b'}');
            }
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let end = if self.partial { "},\"partial\":true}" } else { "},\"partial\":false}" };
        self.out.extend_from_slice(end.as_bytes());
        self.out
    }
}
