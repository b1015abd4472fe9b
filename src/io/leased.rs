//! Jobs as the answer to a lease gives them. A payload keeps its bytes: JSON is not read and written again.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::base::pieces::{Pieces, trimmed};

/// A job in the hands of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedJob {
    /// Which job.
    pub id: String,
    /// What shows that it is ours.
    pub lease: String,
    /// Grows with every lease.
    pub fence: Option<u64>,
    /// Where it was pushed.
    pub queue: Option<String>,
    /// What kind of work it is.
    pub job_type: Option<String>,
    /// The how many-th start this is.
    pub attempt: u64,
    /// How long the attempt may take.
    pub timeout_ms: Option<u64>,
    /// Until when.
    pub deadline: Option<String>,
    /// What was pushed.
    pub payload: Vec<u8>,
}

/// Why an answer has no jobs that can be run.
#[derive(Debug, thiserror::Error)]
#[error("the answer to a lease cannot be read: {0}")]
pub struct BadLease(String);

#[derive(Deserialize)]
struct WireJob {
    id: String,
    lease: String,
    fence: Option<u64>,
    queue: Option<String>,
    #[serde(rename = "type")]
    job_type: Option<String>,
    attempt: u64,
    timeout_ms: Option<u64>,
    deadline: Option<String>,
    payload_base64: Option<String>,
}

/// The value of a field of an object, as the text it is.
fn field<'t>(object: &'t str, wanted: &str) -> Option<&'t str> {
    let mut pieces = Pieces::of_object(object)?;
    let mut found = None;
    while pieces.goes_on()? {
        let name: Cow<'_, str> = serde_json::from_str(pieces.next_name()?).ok()?;
        let value = pieces.next_value()?;
        if name == wanted {
            found = Some(value);
        }
    }
    found
}

/// The jobs of an answer to a lease. Members that we do not know are for others.
pub fn jobs_of(body: &[u8]) -> Result<Vec<LeasedJob>, BadLease> {
    let bad = |why: &str| BadLease(why.to_owned());
    let text = std::str::from_utf8(body).map_err(|_| bad("it is not UTF-8"))?;
    let jobs = field(trimmed(text), "jobs").ok_or_else(|| bad("it has no jobs"))?;
    let mut pieces = Pieces::of_list(jobs).ok_or_else(|| bad("jobs is no list"))?;
    let mut leased = Vec::new();
    while pieces.goes_on().ok_or_else(|| bad("jobs is no list"))? {
        leased.push(job(pieces.next_value().ok_or_else(|| bad("jobs is no list"))?)?);
    }
    Ok(leased)
}

fn job(text: &str) -> Result<LeasedJob, BadLease> {
    let wire: WireJob = serde_json::from_str(text).map_err(|error| BadLease(error.to_string()))?;
    let odd = |what: &str| BadLease(format!("job {}: {what}", wire.id));
    let payload = match (&wire.payload_base64, field(text, "payload")) {
        (Some(text), _) => BASE64.decode(text).map_err(|_| odd("payload_base64 is no base64"))?,
        (None, Some(json)) => json.as_bytes().to_vec(),
        (None, None) => return Err(odd("it has no payload")),
    };
    Ok(LeasedJob {
        id: wire.id,
        lease: wire.lease,
        fence: wire.fence,
        queue: wire.queue,
        job_type: wire.job_type,
        attempt: wire.attempt,
        timeout_ms: wire.timeout_ms,
        deadline: wire.deadline,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::jobs_of;

    fn payload(member: &str) -> Result<Vec<u8>, String> {
        let text =
            format!(r#"{{"jobs":[{{"id":"j","lease":"l","attempt":1,"more":[]{member}}}]}}"#);
        let jobs = jobs_of(text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(jobs.into_iter().next().unwrap().payload)
    }

    #[test]
    fn a_payload_keeps_its_bytes() {
        let odd = r#"{ "b":1.0,  "a":123456789012345678901234567890, "b":"\u00e4" }"#;
        assert_eq!(payload(&format!(r#","payload": {odd} "#)).unwrap(), odd.as_bytes());
        assert_eq!(payload(r#","payload":null"#).unwrap(), b"null");
        let raw = r#","payload_base64":"AP8K","content_type":"x/y""#;
        assert_eq!(payload(raw).unwrap(), [0, 255, 10]);
    }

    #[test]
    fn an_answer_that_is_damaged_says_where() {
        assert!(payload("").unwrap_err().contains("job j: it has no payload"));
        assert!(payload(r#","payload_base64":"?""#).unwrap_err().contains("no base64"));
        assert!(jobs_of(b"{}").unwrap_err().to_string().contains("jobs"));
        assert_eq!(jobs_of(br#"{"jobs":[]}"#).unwrap(), []);
    }
}
