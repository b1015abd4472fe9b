//! The one table of routes: path, method, scope, limits, handler and documentation, one row each.
//!
//! Each service has its part of it in a file of its own. The router, the check of parameters, the scopes and the OpenAPI document are made of it, so that they
//! cannot say different things.

mod cache;
mod locks;
mod machine;
mod queue;
mod router;
mod series;
mod server;
mod tenants;
mod trends;

use std::pin::Pin;

use hyper::Method;

pub(super) use self::router::{Found, Router};
use super::openapi;
use super::problem::Problem;
use super::reply::Reply;
use super::request::Cx;
use crate::base::limits::JSON_BYTES_MAX;
use crate::base::scope::Scope;

/// A method that routes have; `HEAD` is answered wherever `GET` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Look.
    Get,
    /// Do.
    Post,
    /// Make it so.
    Put,
    /// Change what is named, and leave the rest.
    Patch,
    /// Remove.
    Delete,
}

impl Verb {
    /// How requests spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
        }
    }

    fn of(method: &Method) -> Option<Verb> {
        match *method {
            Method::GET | Method::HEAD => Some(Verb::Get),
            Method::POST => Some(Verb::Post),
            Method::PUT => Some(Verb::Put),
            Method::PATCH => Some(Verb::Patch),
            Method::DELETE => Some(Verb::Delete),
            _ => None,
        }
    }
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// A token with one of these scopes, for its tenant.
    Tenant(&'static [Scope]),
    /// A token with one of these scopes, of tenant `default`: it is about the machine.
    Machine(&'static [Scope]),
    /// As `Machine`, or everybody when `server.metrics_public` says so.
    Metrics(&'static [Scope]),
}

/// What a route reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing; what is sent all the same is dropped.
    None,
    /// JSON.
    Json {
        /// The longest that is read.
        max: usize,
    },
    /// Bytes of any type.
    Raw {
        /// The most that is read.
        max: usize,
    },
}

impl Body {
    /// The most that is read; `None` when nothing is.
    pub const fn max(self) -> Option<usize> {
        match self {
            Body::None => None,
            Body::Json { max } | Body::Raw { max } => Some(max),
        }
    }
}

/// What a handler gives back sooner or later.
pub type Later = Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>>;

/// What answers a request.
#[derive(Clone, Copy)]
pub enum Handler {
    /// At once: looks at memory.
    Now(fn(&Cx) -> Result<Reply, Problem>),
    /// After waiting for something.
    Later(fn(Cx) -> Later),
    /// At once if memory has the answer, later otherwise.
    Either(fn(Cx) -> Soon),
}

/// An answer, or the way to one.
pub enum Soon {
    /// It is there.
    Now(Result<Reply, Problem>),
    /// It takes a while.
    Later(Later),
}

/// A parameter of the query.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub about: &'static str,
    /// Its type in the OpenAPI document.
    pub schema: &'static str,
    /// Whether the call is refused without it.
    pub required: bool,
}

/// An answer that goes well.
#[derive(Clone, Copy)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// What it means.
    pub about: &'static str,
    /// Its body, if it has one.
    pub body: openapi::Content,
}

/// What people read of a route.
#[derive(Clone, Copy)]
pub struct Doc {
    /// Under which heading.
    pub tag: &'static str,
    /// A unique name, for those who generate clients.
    pub operation: &'static str,
    /// One line.
    pub summary: &'static str,
    /// What it reads.
    pub request: openapi::Content,
    /// How it answers when all is well.
    pub answers: &'static [Answer],
    /// The codes it may refuse with, beside those that every route has.
    pub codes: &'static [&'static str],
}

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Route {
    /// The method.
    pub verb: Verb,
    /// The path, with `{parameters}`.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// The parameters that its query may have.
    pub query: &'static [Parameter],
    /// What it reads.
    pub body: Body,
    /// What answers.
    pub handler: Handler,
    /// What people read.
    pub doc: Doc,
}

impl Route {
    /// The names of the path's parameters, in its order.
    pub fn parameters(&self) -> impl Iterator<Item = &'static str> {
        let named = |part: &'static str| part.strip_prefix('{')?.strip_suffix('}');
        self.path.split('/').filter_map(move |part| Some(named(part)?.trim_start_matches('*')))
    }
}

const fn parameter(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, about, schema: "string", required: false }
}

const PAGING: &[Parameter] = &[LIMIT, CURSOR];
const LIMIT: Parameter = Parameter {
    schema: "integer",
    ..parameter("limit", "items of a page, 1 to 1000; 50 without it")
};
const CURSOR: Parameter = parameter("cursor", "next of the page before");
const JSON: Body = Body::Json { max: JSON_BYTES_MAX };

/// Puts the parts of the table behind each other.
const fn joined<const COUNT: usize>(parts: &[&[Route]]) -> [Route; COUNT] {
    let mut all = [parts[0][0]; COUNT];
    let (mut part, mut at) = (0, 0);
    while part < parts.len() {
        let mut row = 0;
        while row < parts[part].len() {
            all[at] = parts[part][row];
            (row, at) = (row + 1, at + 1);
        }
        part += 1;
    }
    assert!(at == COUNT, "BUG: a row is missing");
    all
}

/// How many rows these have together.
const fn count(parts: &[&[Route]]) -> usize {
    let (mut part, mut count) = (0, 0);
    while part < parts.len() {
        count += parts[part].len();
        part += 1;
    }
    count
}

/// The parts of the table, one for each service.
const PARTS: &[&[Route]] = &[
    machine::ROUTES,
    cache::ROUTES,
    tenants::ROUTES,
    locks::ROUTES,
    queue::ROUTES,
    series::ROUTES,
    trends::ROUTES,
    server::ROUTES,
];

/// Every route.
pub const ROUTES: &[Route] = &joined::<{ count(PARTS) }>(PARTS);
