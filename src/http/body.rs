//! Reading bodies: as much as the route allows, in the time that is left, and never more in memory.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT};
use hyper::http::request::Parts;

use super::problem::Problem;
use crate::base::limits::{BODY_DEADLINE, DROPPED_BYTES_MAX};

/// What is allocated on the word of a `Content-Length` alone.
const ALLOCATED_AT_ONCE: usize = 64 << 10;
/// How long a body that nobody wants is read.
const DROP_PATIENCE: Duration = Duration::from_secs(5);

/// Why a body ended early.
enum Cut {
    TooLarge,
    Late,
    Broken,
}

/// Reads a body of at most `max` bytes.
pub(super) async fn read(head: &Parts, body: &mut Incoming, max: usize) -> Result<Bytes, Problem> {
    if (max as u64) < body.size_hint().lower() {
        let left_max = max.saturating_add(DROPPED_BYTES_MAX);
        return Err(too_large(head, body, max, left_max).await);
    }
    let collected = tokio::time::timeout(BODY_DEADLINE, collect(body, max)).await;
    match collected.unwrap_or(Err(Cut::Late)) {
        Ok(bytes) => Ok(bytes),
        Err(Cut::TooLarge) => Err(too_large(head, body, max, DROPPED_BYTES_MAX).await),
        Err(Cut::Late) => {
            let detail = format!("the body was not there after {} s", BODY_DEADLINE.as_secs());
            Err(Problem::new("request_timeout", detail).closing())
        }
        Err(Cut::Broken) => {
            Err(Problem::malformed("the body ended early, or is not chunked as it says").closing())
        }
    }
}

async fn collect(body: &mut Incoming, max: usize) -> Result<Bytes, Cut> {
    // A body in one piece is passed on as it is.
    let Some(first) = next(body).await? else {
        return Ok(Bytes::new());
    };
    if max < first.len() {
        return Err(Cut::TooLarge);
    }
    if body.is_end_stream() {
        return Ok(first);
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(max);
    let mut all = BytesMut::with_capacity(first.len() + announced.min(ALLOCATED_AT_ONCE));
    all.extend_from_slice(&first);
    while let Some(data) = next(body).await? {
        if max - all.len() < data.len() {
            return Err(Cut::TooLarge);
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Cut> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(_)) => return Err(Cut::Broken),
            Some(Ok(frame)) => {
                // Trailers say nothing to us.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Says so, after at most `left_max` bytes more were read.
async fn too_large(head: &Parts, body: &mut Incoming, max: usize, left_max: usize) -> Problem {
    let detail = format!("the body is larger than the {max} bytes that are allowed here");
    let problem = Problem::new("too_large", detail).with("limit", max);
    let left = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if left <= left_max && drop_rest(head, body, left_max).await {
        problem
    } else {
        problem.closing()
    }
}

/// Reads what is left of a body and drops it, so that an answer reaches a client that is still sending.
/// Whether the end was reached, and the connection can be used again.
pub(super) async fn drop_rest(head: &Parts, body: &mut Incoming, max: usize) -> bool {
    if body.is_end_stream() {
        return true;
    }
    // A client that asked first has sent nothing, and must not be told to go on.
    if head.headers.contains_key(EXPECT) {
        return false;
    }
    let reading = async {
        let mut dropped = 0;
        loop {
            match next(body).await {
                Ok(Some(data)) if dropped + data.len() <= max => dropped += data.len(),
                Ok(Some(_)) | Err(_) => return false,
                Ok(None) => return true,
            }
        }
    };
    tokio::time::timeout(DROP_PATIENCE, reading).await.unwrap_or(false)
}

/// Refuses a body that says it is something else than JSON, or that is compressed.
pub(super) fn check_json_type(head: &Parts) -> Result<(), Problem> {
    check_coding(head)?;
    check_json(head)
}

/// Refuses a body that is compressed: it would be taken for what it is not.
pub(super) fn check_coding(head: &Parts) -> Result<(), Problem> {
    if let Some(coding) = head.headers.get(CONTENT_ENCODING)
        && coding != "identity"
    {
        let detail = "compressed bodies are not read here; send it without Content-Encoding";
        return Err(Problem::new("unsupported_media_type", detail));
    }
    Ok(())
}

fn check_json(head: &Parts) -> Result<(), Problem> {
    let Some(media_type) = head.headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let text = media_type.to_str().unwrap_or("");
    let essence = text.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        return Ok(());
    }
    let said: String = essence.chars().take(100).collect();
    let detail = format!(
        "the body is said to be {said:?}; JSON is read here: send it with \
         'Content-Type: application/json' (curl: -H 'Content-Type: application/json')"
    );
    Err(Problem::new("unsupported_media_type", detail))
}
