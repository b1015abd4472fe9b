//! Answers that went well.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue, LOCATION};
use serde::Serialize;

use crate::app::jobs::Receipt;

/// An answer, before the service adds what every answer has.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// What the body is; nothing without a body.
    pub media_type: Option<&'static str>,
    /// The body.
    pub body: Bytes,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether the connection ends with it.
    pub close: bool,
    /// Whether the body goes out as it is: what clients stored, and what they waited for, is never compressed.
    pub as_is: bool,
    /// For jobs that are in the body: accepted when the client's side of the machine has all of it.
    pub receipt: Option<Receipt>,
}

impl Reply {
    /// Bytes of some type.
    pub fn bytes(media_type: &'static str, body: Bytes) -> Reply {
        Reply {
            status: StatusCode::OK,
            media_type: Some(media_type),
            body,
            headers: Vec::new(),
            close: false,
            as_is: false,
            receipt: None,
        }
    }

    /// JSON.
    pub fn json(value: &impl Serialize) -> Reply {
        let text = serde_json::to_vec(value).expect("BUG: what we answer is plain JSON");
        Reply::bytes("application/json", Bytes::from(text))
    }

    /// JSON of something new.
    pub fn created(value: &impl Serialize) -> Reply {
        Reply { status: StatusCode::CREATED, ..Reply::json(value) }
    }

    /// JSON of something that was begun.
    pub fn started(value: &impl Serialize) -> Reply {
        Reply { status: StatusCode::ACCEPTED, ..Reply::json(value) }
    }

    /// Done, and nothing to say.
    pub fn empty() -> Reply {
        Reply {
            status: StatusCode::NO_CONTENT,
            media_type: None,
            body: Bytes::new(),
            headers: Vec::new(),
            close: false,
            as_is: false,
            receipt: None,
        }
    }

    /// With the path at which it can be found.
    #[must_use]
    pub fn location(mut self, path: &str) -> Reply {
        if let Ok(path) = HeaderValue::from_str(path) {
            self.headers.push((LOCATION, path));
        }
        self
    }
}

/// A page of a list, as every list looks.
#[derive(Serialize)]
pub struct Page<T> {
    /// What there is.
    pub items: Vec<T>,
    /// The cursor of the next page, if there is one.
    pub next: Option<String>,
}
