//! Samples that are written.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::base::id::TenantId;
use crate::base::limits::{HANDLER_DEADLINE, REFUSALS_TOLD_MAX, WRITE_HERE_BYTES_MAX};
use crate::base::time::Now;
use crate::http::openapi;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use crate::http::request::Cx;
use crate::http::series_terms::{self as terms, Format, Rejected};
use crate::series::memory::Incoming;

/// Samples in JSON.
#[derive(ToSchema)]
pub struct SamplesRequest {
    /// Each of them is taken or refused by itself.
    pub samples: Vec<SampleRequest>,
}

/// A sample.
#[derive(ToSchema)]
pub struct SampleRequest {
    /// What is measured: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    pub metric: String,
    /// Of what: at most 32 of them.
    #[schema(value_type = Option<Object>)]
    pub labels: Option<Value>,
    /// The value: a number, or `"NaN"`, `"+Inf"`, `"-Inf"`.
    #[schema(schema_with = openapi::sample_value)]
    pub value: Value,
    /// When; now without it.
    #[schema(schema_with = openapi::moment)]
    pub time: Option<Value>,
    /// `gauge`, `counter` or `distribution`; by the metric's name without it.
    pub kind: Option<String>,
}

/// What became of samples.
#[derive(Debug, Serialize, ToSchema)]
pub struct WrittenReply {
    /// Samples that were taken.
    accepted: u64,
    /// Those that were not; at most 1000 of them are told.
    rejected: Vec<RejectedSample>,
    /// How many were not, if that are more than are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_count: Option<u64>,
}

/// A sample that was not taken.
#[derive(Debug, Serialize, ToSchema)]
pub struct RejectedSample {
    /// Its place in `samples`, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    /// Its line in the text, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    /// `malformed`, `invalid_labels`, `invalid_value`, `invalid_time`, `invalid_kind`, `too_old`, `too_new` or `quota_exceeded`.
    code: &'static str,
    /// What is wrong with it.
    detail: String,
}

impl RejectedSample {
    fn new(format: Format, rejected: Rejected) -> RejectedSample {
        let Rejected { place, code, detail } = rejected;
        let (index, line) = match format {
            Format::Json => (Some(place), None),
            Format::Text => (None, Some(place)),
        };
        RejectedSample { index, line, code, detail }
    }
}

/// A call that writes samples.
struct Call {
    format: Format,
    body: Bytes,
    now: Now,
    tenant: TenantId,
    series_max: u64,
}

/// What became of it.
#[derive(Default)]
struct Taken {
    accepted: u64,
    /// Refused here, and by the series: the first of each.
    rejected: [Vec<Rejected>; 2],
    rejected_count: u64,
    /// Of them, those that were refused here.
    malformed: u64,
    sequence: u64,
}

impl Taken {
    fn reject(&mut self, by: usize, rejected: impl Iterator<Item = Rejected>) {
        let room = REFUSALS_TOLD_MAX.saturating_sub(self.rejected[by].len());
        self.rejected[by].extend(rejected.take(room));
    }

    /// What the client is told.
    fn told(self, format: Format) -> WrittenReply {
        let [mut rejected, theirs] = self.rejected;
        rejected.extend(theirs);
        rejected.sort_by_key(|rejected| rejected.place);
        rejected.truncate(REFUSALS_TOLD_MAX);
        let all_told = self.rejected_count == rejected.len() as u64;
        WrittenReply {
            accepted: self.accepted,
            rejected: rejected.into_iter().map(|each| RejectedSample::new(format, each)).collect(),
            rejected_count: (!all_told).then_some(self.rejected_count),
        }
    }
}

impl Call {
    /// Reads the body, and writes what can be read. Takes as long as the body is.
    fn run(&self, app: &App) -> Result<Taken, Problem> {
        let mut taken = Taken::default();
        let read = terms::samples(self.format, &self.body, self.now.wall, |samples, rejected| {
            self.chunk(app, &mut taken, samples, rejected)
        });
        app.series().with_memory(|memory| memory.count_malformed(taken.malformed));
        read.map(|()| taken)
    }

    fn chunk(
        &self,
        app: &App,
        taken: &mut Taken,
        samples: &[Incoming<'_>],
        rejected: &[Rejected],
    ) -> Result<(), Problem> {
        taken.rejected_count += rejected.len() as u64;
        taken.malformed += rejected.len() as u64;
        taken.reject(0, rejected.iter().cloned());
        let written = app.series().write(self.now, self.tenant, self.series_max, samples);
        let written = written.map_err(|error| {
            // What was taken before stays, and to write it again changes nothing.
            Problem::from(error).with("accepted", taken.accepted)
        })?;
        taken.accepted += written.accepted;
        taken.rejected_count += written.refused_count;
        let refused = written.refused.iter();
        taken.reject(1, refused.map(|(place, refusal)| Rejected::of(*place, refusal)));
        taken.sequence = taken.sequence.max(written.sequence);
        Ok(())
    }
}

/// `POST /v1/series`
pub(in crate::http) async fn write(cx: Cx) -> Result<Reply, Problem> {
    let durable = terms::truth_of("durable", cx.query.get("durable"))?;
    let tenant = cx.caller().tenant.id;
    let call = Call {
        format: Format::of(cx.headers.get(CONTENT_TYPE))?,
        body: cx.body.clone(),
        now: cx.now,
        tenant,
        series_max: cx.app().series_max(tenant),
    };
    let format = call.format;
    let taken = if call.body.len() <= WRITE_HERE_BYTES_MAX {
        call.run(cx.app())?
    } else {
        let app = Arc::clone(cx.app());
        cx.app().blocking(HANDLER_DEADLINE, move || call.run(&app)).await??
    };
    if durable {
        cx.app().series().durable(taken.sequence).await?;
    }
    let status = if durable { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(Reply { status, ..Reply::json(&taken.told(format)) })
}
