//! Schedules: what is pushed at moments of the calendar.

use serde::Serialize;
use utoipa::ToSchema;

use super::queues::BackoffReply;
use super::{Shown, Spliced, json, millis, text_of};
use crate::base::cursor;
use crate::base::id::JobId;
use crate::base::name::ScheduleName;
use crate::base::time::Timestamp;
use crate::http::problem::Problem;
use crate::http::queue_terms as terms;
use crate::http::reply::Reply;
use crate::http::request::Cx;
use crate::http::splice::Object;
use crate::queue::calendar::{BadEvery, BadZone, Every, Zone};
use crate::queue::cron::{BadCron, Cron};
use crate::queue::job::{Followup, Spec};
use crate::queue::schedules::{CatchUp, Overlap, Schedule, Wanted};

const LIST: &str = "schedules";

/// A schedule.
#[derive(Serialize, ToSchema)]
pub struct ScheduleReply<'s> {
    /// Its name.
    name: &'s str,
    /// The moments, as cron writes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<&'s str>,
    /// Or how often.
    #[serde(skip_serializing_if = "Option::is_none")]
    every_ms: Option<u64>,
    /// In which time zone.
    timezone: &'s str,
    /// `skip` or `queue`.
    overlap: &'static str,
    /// `none`, `one` or `all`.
    catch_up: &'static str,
    /// Later by so much at most, by chance.
    jitter_ms: u64,
    /// Since when it is there.
    #[schema(value_type = String)]
    created_at: Shown<Timestamp>,
    /// When it pushes next; null when never again.
    #[schema(value_type = Option<String>)]
    next_at: Option<Shown<Timestamp>>,
    /// The job that it pushed last.
    #[schema(value_type = Option<String>)]
    last_job: Option<Shown<JobId>>,
    /// And when.
    #[schema(value_type = Option<String>)]
    last_pushed_at: Option<Shown<Timestamp>>,
    /// Why the last moment pushed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_skipped: Option<&'s str>,
    /// What it pushes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ScheduledJob<'static>>)]
    job: Spliced,
}

/// What a schedule pushes.
#[derive(Serialize, ToSchema)]
pub struct ScheduledJob<'j> {
    /// Where.
    queue: &'j str,
    /// Of which type.
    r#type: &'j str,
    /// How urgent.
    priority: &'static str,
    /// Errors after which it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tries: Option<u32>,
    /// Crashes after which it is put aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_crashes: Option<u32>,
    /// How long one attempt may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    /// How long to wait after an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<BackoffReply>,
    /// A key that one job holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<ScheduledUnique<'j>>,
    /// What it can be found by.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'j [String],
    /// For how long its result is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    result_ttl_ms: Option<u64>,
    /// What is pushed when it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ScheduledFollowup<'static>>)]
    on_failed: Spliced,
    /// What it carries, if that is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::http::openapi::anything)]
    payload: Spliced,
    /// What it carries, if that is anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    /// What these bytes are.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
}

/// A key that one job holds.
#[derive(Serialize, ToSchema)]
pub struct ScheduledUnique<'u> {
    /// The key.
    key: &'u str,
    /// Until it is `started`, `done`, or the `ttl` is over.
    until: &'static str,
    /// No longer than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
}

/// What is pushed when a job is given up.
#[derive(Serialize, ToSchema)]
pub struct ScheduledFollowup<'f> {
    /// Where.
    queue: &'f str,
    /// Of which type.
    r#type: &'f str,
    /// What it carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::http::openapi::anything)]
    payload: Spliced,
}

fn write_followup(followup: &Followup) -> Vec<u8> {
    let head = ScheduledFollowup {
        queue: followup.queue.as_str(),
        r#type: &followup.job_type,
        payload: None,
    };
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out, &head);
    object.payload(&followup.payload);
    object.end();
    out
}

fn write_job(job: &Spec) -> Vec<u8> {
    let head = ScheduledJob {
        queue: job.queue.as_str(),
        r#type: &job.job_type,
        priority: job.band.as_str(),
        max_tries: job.rules.max_tries,
        max_crashes: job.rules.max_crashes,
        timeout_ms: job.rules.timeout.map(millis),
        backoff: job.rules.backoff.as_ref().map(BackoffReply::from),
        unique: job.unique.as_ref().map(|unique| ScheduledUnique {
            key: &unique.key,
            until: unique.until.as_str(),
            ttl_ms: unique.ttl.map(millis),
        }),
        tags: &job.tags,
        result_ttl_ms: job.result_ttl.map(millis),
        on_failed: None,
        payload: None,
        payload_base64: None,
        content_type: None,
    };
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out, &head);
    if let Some(followup) = &job.on_failed {
        object.json("on_failed", &write_followup(followup));
    }
    object.payload(&job.payload);
    object.end();
    out
}

fn write(out: &mut Vec<u8>, schedule: &Schedule) {
    let head = ScheduleReply {
        name: &schedule.name,
        cron: schedule.cron.as_deref(),
        every_ms: schedule.every.map(millis),
        timezone: &schedule.timezone,
        overlap: match schedule.overlap {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
        },
        catch_up: match schedule.catch_up {
            CatchUp::None => "none",
            CatchUp::One => "one",
            CatchUp::All => "all",
        },
        jitter_ms: millis(schedule.jitter),
        created_at: Shown(schedule.created_at),
        next_at: schedule.next_at.map(Shown),
        last_job: schedule.last_job.map(Shown),
        last_pushed_at: schedule.last_pushed_at.map(Shown),
        last_skipped: schedule.last_skipped.as_deref(),
        job: None,
    };
    let mut object = Object::begin(out, &head);
    object.json("job", &write_job(&schedule.job));
    object.end();
}

fn name_of(cx: &Cx) -> Result<ScheduleName, Problem> {
    Ok(ScheduleName::parse(cx.param("name"))?)
}

fn cron_of(text: String) -> Result<(String, Cron), Problem> {
    let cron = Cron::parse(&text).map_err(|bad| {
        let problem = Problem::new(BadCron::CODE, bad.to_string()).with("field", "cron");
        problem.with("at", bad.at)
    })?;
    Ok((text, cron))
}

fn zone_of(cx: &Cx, name: Option<&str>) -> Result<Zone, Problem> {
    let Some(name) = name else {
        return Ok(cx.app().settings().timezone.clone());
    };
    let zone = Zone::parse(name);
    zone.map_err(|bad| Problem::new(BadZone::CODE, bad.to_string()).with("field", "timezone"))
}

fn wanted(cx: &Cx) -> Result<Wanted, Problem> {
    let wire = terms::schedule(&cx.body, cx.now.wall)?;
    let (cron, every) = match wire.due {
        terms::Due::Cron(text) => (Some(cron_of(text)?), None),
        terms::Due::Every(length) => {
            let every = Every::new(length).map_err(|bad| {
                Problem::new(BadEvery::CODE, bad.to_string()).with("field", "every")
            })?;
            (None, Some(every.length()))
        }
    };
    let zone = zone_of(cx, wire.timezone.as_deref())?;
    Ok(Wanted {
        cron,
        every,
        timezone: (zone.name().to_owned(), zone),
        overlap: wire.overlap.map_or_else(Overlap::default, |overlap| match overlap {
            terms::Overlap::Skip => Overlap::Skip,
            terms::Overlap::Queue => Overlap::Queue,
        }),
        catch_up: wire.catch_up.map_or_else(CatchUp::default, |catch_up| match catch_up {
            terms::CatchUp::None => CatchUp::None,
            terms::CatchUp::One => CatchUp::One,
            terms::CatchUp::All => CatchUp::All,
        }),
        jitter: wire.jitter,
        job: wire.job,
    })
}

fn reply(schedule: &Schedule) -> Reply {
    let mut out = Vec::new();
    write(&mut out, schedule);
    json(out)
}

/// `PUT /v1/schedules/{name}`
pub(in crate::http) async fn put(cx: Cx) -> Result<Reply, Problem> {
    let name = name_of(&cx)?;
    let wanted = wanted(&cx)?;
    let tenant = &cx.caller().tenant;
    let new = cx.app().schedule_put(tenant, name.clone(), wanted).await?;
    let reply = reply(&cx.app().schedule(tenant, &name)?);
    if !new {
        return Ok(reply);
    }
    let reply = Reply { status: hyper::StatusCode::CREATED, ..reply };
    Ok(reply.location(&format!("/v1/schedules/{name}")))
}

/// `GET /v1/schedules/{name}`
pub(in crate::http) fn show(cx: &Cx) -> Result<Reply, Problem> {
    Ok(reply(&cx.app().schedule(&cx.caller().tenant, &name_of(cx)?)?))
}

/// `DELETE /v1/schedules/{name}`
pub(in crate::http) async fn delete(cx: Cx) -> Result<Reply, Problem> {
    let name = name_of(&cx)?;
    cx.app().schedule_delete(&cx.caller().tenant, name).await?;
    Ok(Reply::empty())
}

/// `GET /v1/schedules`
pub(in crate::http) fn list(cx: &Cx) -> Result<Reply, Problem> {
    let paging = cx.paging(LIST)?;
    let after = text_of(paging.after)?.map(|text| ScheduleName::parse(&text)).transpose();
    let after = after.map_err(|_| cursor::BadCursor)?;
    let after = after.as_ref().map(|name| name.as_str().as_bytes());
    let mut found = cx.app().schedules(&cx.caller().tenant, after, paging.limit + 1)?;
    let more = paging.limit < found.len();
    found.truncate(paging.limit);
    let mut out = b"{\"items\":[".to_vec();
    for (place, schedule) in found.iter().enumerate() {
        if place != 0 {
            out.push(b',');
        }
        write(&mut out, schedule);
    }
    let last = found.last().filter(|_| more);
    let next = last.map(|schedule| cursor::write(LIST, schedule.name.as_bytes()));
    out.extend_from_slice(b"],\"next\":");
    serde_json::to_writer(&mut out, &next).expect("BUG: a cursor is plain JSON");
    out.push(b'}');
    Ok(json(out))
}
