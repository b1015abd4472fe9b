//! A request as its handler sees it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderMap;
use serde::de::DeserializeOwned;

use super::Edge;
use super::json;
use super::problem::Problem;
use super::query::{Query, decode};
use super::routes::Route;
use super::service::Link;
use crate::app::{App, Author, Caller};
use crate::base::cursor;
use crate::base::limits::{LIST_DEFAULT, LIST_MAX};
use crate::base::time::Now;

/// Everything that is known of a request: the token is checked, the scope is granted by the route's row,
/// the tenant is known, and the time was read once.
pub struct Cx {
    pub(super) link: Arc<Link>,
    /// What the route's row allows; nothing when it allows none.
    pub(super) body: Bytes,
    pub(super) headers: HeaderMap,
    /// Whether only the head of the answer is wanted.
    pub(super) head_only: bool,
    pub(super) query: Query,
    /// The parameters of the path, decoded, in the order of the path.
    pub(super) path: Vec<(&'static str, String)>,
    pub(super) caller: Option<Caller>,
    pub(super) request_id: RequestId,
    pub(super) now: Now,
}

const REQUEST_ID_BYTES_MAX: usize = 64;

/// The id of a request: the caller's, or one of ours. Kept in place, for it is on every answer.
#[derive(Clone, Copy)]
pub(super) struct RequestId {
    text: [u8; REQUEST_ID_BYTES_MAX],
    length: usize,
}

impl RequestId {
    /// The caller's, if it is one.
    pub(super) fn given(id: &[u8]) -> Option<RequestId> {
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let length = id.len();
        if !(1..=REQUEST_ID_BYTES_MAX).contains(&length) || !id.iter().all(allowed) {
            return None;
        }
        let mut text = [0; REQUEST_ID_BYTES_MAX];
        text[..length].copy_from_slice(id);
        Some(RequestId { text, length })
    }

    /// One of ours: 16 hexadecimal digits.
    pub(super) fn ours(number: u64) -> RequestId {
        let (mut text, length) = ([0; REQUEST_ID_BYTES_MAX], 16);
        for (place, digit) in text[..length].iter_mut().rev().enumerate() {
            *digit = b"0123456789abcdef"[(number >> (4 * place) & 0xf) as usize];
        }
        RequestId { text, length }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("BUG: it is letters and digits")
    }
}

/// Where a list begins, and how long a page is.
pub(super) struct Paging {
    pub(super) limit: usize,
    /// The key behind which it goes on.
    pub(super) after: Option<Vec<u8>>,
}

impl Cx {
    /// The application.
    pub(super) fn app(&self) -> &Arc<App> {
        &self.edge().app
    }

    /// The interface it came by.
    pub(super) fn edge(&self) -> &Edge {
        &self.link.edge
    }

    /// Who is asking. For routes that need a token.
    pub(super) fn caller(&self) -> &Caller {
        self.caller.as_ref().expect("BUG: the route's row asks for a token")
    }

    /// The process that connected to the Unix socket, as the kernel says: whoever opened the connection,
    /// also if another one uses it now. `None` on TCP, and when the process cannot be seen from here.
    pub fn peer_pid(&self) -> Option<u32> {
        self.link.peer_pid
    }

    /// So long the client wanted to wait: that is not our slowness.
    pub(super) fn waited(&self, time: Duration) {
        self.link.connection.add_waited(time);
    }

    /// Who is asking, for the audit log.
    pub(super) fn author(&self) -> Author {
        self.caller().author(self.request_id.as_str())
    }

    /// A parameter of the path.
    pub(super) fn param(&self, name: &str) -> &str {
        let found = self.path.iter().find(|(found, _)| *found == name);
        found.map(|(_, value)| value.as_str()).expect("BUG: the route's path has this parameter")
    }

    /// The body as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        json::read(&self.body)
    }

    /// `limit` and `cursor` of the list with this name.
    pub(super) fn paging(&self, list: &str) -> Result<Paging, Problem> {
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let limit = match self.query.get("limit") {
            None => Some(LIST_DEFAULT),
            Some(text) => text.parse().ok().filter(|_| digits(text)),
        };
        let limit = limit.filter(|limit| (1..=LIST_MAX).contains(limit)).ok_or_else(|| {
            let detail = format!("limit is a whole number from 1 to {LIST_MAX}");
            Problem::new("invalid_limit", detail)
        })?;
        let after = self.query.get("cursor").map(|text| cursor::read(list, text)).transpose()?;
        Ok(Paging { limit, after })
    }
}

/// The decoded parameters of a matched path, named as the route's row names them.
pub(super) fn decoded(
    route: &'static Route,
    values: &[(&str, &str)],
) -> Result<Vec<(&'static str, String)>, Problem> {
    let named = route.parameters().zip(values);
    named.map(|(name, (_, value))| Ok((name, decode(value, false)?.into_owned()))).collect()
}
