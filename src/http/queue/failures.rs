//! Failures, by what they have in common; trying them again, and discarding them.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Shown, counted};
use crate::base::cursor;
use crate::base::name::QueueName;
use crate::base::time::Timestamp;
use crate::catalog::history::Group;
use crate::http::problem::Problem;
use crate::http::queue_terms as terms;
use crate::http::reply::{Page, Reply};
use crate::http::request::Cx;
use crate::queue::change::{Verdict, Which};
use crate::queue::rate::Rate;

const LIST: &str = "failures";

/// Failures that are alike.
#[derive(Serialize, ToSchema)]
pub struct FailureGroup {
    /// What they have in common: 16 hexadecimal digits.
    fingerprint: String,
    /// What kind of error the latest one is.
    class: String,
    /// What it says.
    message: String,
    /// How many there are.
    count: u64,
    /// When the first one was, since the group is there.
    #[schema(value_type = String)]
    first_at: Shown<Timestamp>,
    /// When the latest one was.
    #[schema(value_type = String)]
    last_at: Shown<Timestamp>,
    /// Types that were among them.
    types: Vec<String>,
    /// Queues in which they were.
    queues: Vec<String>,
}

/// How many were tried again.
#[derive(ToSchema)]
pub struct Retried {
    /// How many.
    pub retried: u64,
}

/// How many were discarded.
#[derive(ToSchema)]
pub struct Discarded {
    /// How many.
    pub discarded: u64,
}

impl From<Group> for FailureGroup {
    fn from(group: Group) -> FailureGroup {
        FailureGroup {
            fingerprint: format!("{:016x}", group.fingerprint),
            class: group.class,
            message: group.message,
            count: group.count,
            first_at: Shown(group.first_at),
            last_at: Shown(group.last_at),
            types: group.types,
            queues: group.queues,
        }
    }
}

fn after(key: &[u8]) -> Result<(Timestamp, u64), cursor::BadCursor> {
    let (at, fingerprint) = key.split_first_chunk::<8>().ok_or(cursor::BadCursor)?;
    let at = Timestamp::from_unix_ms(i64::from_be_bytes(*at)).ok_or(cursor::BadCursor)?;
    let fingerprint = fingerprint.try_into().map_err(|_| cursor::BadCursor)?;
    Ok((at, u64::from_be_bytes(fingerprint)))
}

/// `GET /v1/failures`
pub(in crate::http) async fn list(cx: Cx) -> Result<Reply, Problem> {
    let paging = cx.paging(LIST)?;
    let queue = cx.query.get("queue").map(QueueName::parse).transpose()?;
    let after = paging.after.as_deref().map(after).transpose()?;
    let queue = queue.map(|queue| queue.as_str().to_owned());
    let tenant = cx.caller().tenant.id;
    let (groups, next) = cx.app().past_groups(tenant, queue, after, paging.limit).await?;
    let key = |(at, fingerprint): (Timestamp, u64)| {
        [at.unix_ms().to_be_bytes(), fingerprint.to_be_bytes()].concat()
    };
    Ok(Reply::json(&Page {
        items: groups.into_iter().map(FailureGroup::from).collect(),
        next: next.map(|next| cursor::write(LIST, &key(next))),
    }))
}

fn fingerprint_of(text: &str) -> Result<u64, Problem> {
    let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| digits).ok_or_else(|| {
        let detail = "a fingerprint is 16 hexadecimal digits, as GET /v1/failures shows it";
        Problem::new("invalid_fingerprint", detail).with("field", "fingerprint")
    })
}

fn which(chosen: terms::Chosen) -> Result<Which, Problem> {
    Ok(match chosen {
        terms::Chosen::Ids(ids) => Which::Ids(ids),
        terms::Chosen::Fingerprint(text) => Which::Fingerprint(fingerprint_of(&text)?),
        terms::Chosen::Queue(queue) => Which::Queue(queue),
    })
}

/// `POST /v1/failures/retry`
pub(in crate::http) async fn retry(cx: Cx) -> Result<Reply, Problem> {
    let (chosen, rate) = terms::failures(&cx.body)?;
    let pace = rate.map_or(Duration::ZERO, Rate::pace);
    let (tenant, verdict) = (&cx.caller().tenant, Verdict::Retry { pace });
    let count = cx.app().queue_sentence(tenant, which(chosen)?, verdict).await?;
    Ok(counted("retried", count))
}

/// `POST /v1/failures/discard`
pub(in crate::http) async fn discard(cx: Cx) -> Result<Reply, Problem> {
    let (chosen, rate) = terms::failures(&cx.body)?;
    if rate.is_some() {
        let detail = "what is discarded is gone at once: rate is for trying again";
        return Err(Problem::new("invalid_rate", detail).with("field", "rate"));
    }
    let tenant = &cx.caller().tenant;
    let count = cx.app().queue_sentence(tenant, which(chosen)?, Verdict::Discard).await?;
    Ok(counted("discarded", count))
}
