//! What jobs carry: read as it is, and checked to be what it says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::header::HeaderValue;

use super::{invalid, too_large};
use crate::base::limits::JOB_PAYLOAD_BYTES_MAX;
use crate::cache::entry::OCTETS;
use crate::http::cache_terms;
use crate::http::json::check_depth;
use crate::http::problem::Problem;
use crate::http::spans;
use crate::queue::job::Payload;

/// The type whose bytes must parse.
const JSON: &str = "application/json";

fn payload_too_large(field: &'static str) -> Problem {
    too_large(field, "a payload has, in bytes,", JOB_PAYLOAD_BYTES_MAX)
}

/// A payload of JSON, as the text it is.
pub(super) fn json(piece: &str) -> Result<Payload, Problem> {
    if JOB_PAYLOAD_BYTES_MAX < piece.len() {
        return Err(payload_too_large("payload"));
    }
    let text = spans::value(piece).ok_or_else(|| invalid("payload", "payload is not JSON"))?;
    Ok(Payload::json(text))
}

/// A payload of bytes, in base64.
pub(super) fn base64(piece: &str, content_type: Option<&str>) -> Result<Payload, Problem> {
    let refused =
        |why: String| Problem::new("invalid_payload", why).with("field", "payload_base64");
    let text = spans::text(piece).ok_or_else(|| refused("payload_base64 is a text".to_owned()))?;
    // No text that long is of a payload that is not too long.
    if JOB_PAYLOAD_BYTES_MAX.div_ceil(3) * 4 < text.len() {
        return Err(payload_too_large("payload_base64"));
    }
    let bytes = BASE64.decode(&*text);
    let bytes = bytes.map_err(|bad| refused(format!("payload_base64 is not base64: {bad}")))?;
    if JOB_PAYLOAD_BYTES_MAX < bytes.len() {
        return Err(payload_too_large("payload_base64"));
    }
    let content_type = match content_type {
        None => OCTETS.to_owned(),
        Some(piece) => {
            let text = super::text("content_type", piece)?;
            let checked = cache_terms::content_type_text(&text);
            checked.map_err(|bad| bad.with("field", "content_type"))?.as_str().to_owned()
        }
    };
    Ok(Payload { content_type: Some(content_type), bytes })
}

/// The body of the raw form. JSON has to parse, and goes out as such.
pub(super) fn raw(content_type: Option<&HeaderValue>, body: &[u8]) -> Result<Payload, Problem> {
    if JOB_PAYLOAD_BYTES_MAX < body.len() {
        return Err(payload_too_large("payload"));
    }
    let content_type = match content_type {
        None => OCTETS,
        Some(given) => cache_terms::content_type(given)?.as_str(),
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(JSON) {
        let content_type = Some(content_type.to_owned());
        return Ok(Payload { content_type, bytes: body.to_vec() });
    }
    check_depth(body)?;
    let text = std::str::from_utf8(body).ok().and_then(spans::value);
    let text = text.ok_or_else(|| {
        let why = "the body is not JSON, which its Content-Type says it is";
        invalid("payload", why)
    })?;
    Ok(Payload::json(text))
}
