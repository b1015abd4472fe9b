//! The one table of routes: path, method, scope, limits, handler and documentation, one row each.
//!
//! The router, the check of parameters, the scopes and the OpenAPI document are made of it, so that they
//! cannot say different things.

use std::pin::Pin;

use hyper::Method;

use super::problem::Problem;
use super::reply::Reply;
use super::request::Cx;
use super::{audit, machine, openapi, slow, tenants, tokens};
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
            Verb::Delete => "DELETE",
        }
    }

    fn of(method: &Method) -> Option<Verb> {
        match *method {
            Method::GET | Method::HEAD => Some(Verb::Get),
            Method::POST => Some(Verb::Post),
            Method::PUT => Some(Verb::Put),
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
    /// A token with this scope, for its tenant.
    Tenant(Scope),
    /// A token with this scope, of tenant `default`: it is about the machine.
    Machine(Scope),
    /// As `Machine`, or everybody when `server.metrics_public` says so.
    Metrics(Scope),
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

/// Every route.
pub const ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/livez",
        access: Access::Open,
        query: &[],
        body: Body::None,
        handler: Handler::Now(machine::livez),
        doc: Doc {
            tag: "machine",
            operation: "livez",
            summary: "Whether the process answers",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "it does",
                body: openapi::json::<machine::Word>,
            }],
            codes: &[],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/readyz",
        access: Access::Open,
        query: &[],
        body: Body::None,
        handler: Handler::Now(machine::readyz),
        doc: Doc {
            tag: "machine",
            operation: "readyz",
            summary: "Whether requests are served: the stores are open and the process is not about to end",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "they are",
                body: openapi::json::<machine::Word>,
            }],
            codes: &["starting", "stopping", "read_only"],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/openapi.json",
        access: Access::Open,
        query: &[],
        body: Body::None,
        handler: Handler::Now(machine::openapi),
        doc: Doc {
            tag: "machine",
            operation: "openapi",
            summary: "This document",
            request: openapi::NOTHING,
            answers: &[Answer { status: 200, about: "OpenAPI 3.1", body: openapi::any_json }],
            codes: &[],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/metrics",
        access: Access::Metrics(Scope::SeriesRead),
        query: &[],
        body: Body::None,
        handler: Handler::Now(machine::metrics),
        doc: Doc {
            tag: "machine",
            operation: "metrics",
            summary: "The figures of this server, for Prometheus",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "text exposition format",
                body: openapi::text,
            }],
            codes: &[],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/prometheus",
        access: Access::Metrics(Scope::SeriesRead),
        query: &[],
        body: Body::None,
        handler: Handler::Now(machine::metrics),
        doc: Doc {
            tag: "machine",
            operation: "prometheus",
            summary: "The same as /metrics",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "text exposition format",
                body: openapi::text,
            }],
            codes: &[],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/status",
        access: Access::Machine(Scope::SeriesRead),
        query: &[],
        body: Body::None,
        handler: Handler::Now(machine::status),
        doc: Doc {
            tag: "machine",
            operation: "status",
            summary: "Version, uptime, disk, stores, pool, workers and connections",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "how it stands",
                body: openapi::json::<machine::Status>,
            }],
            codes: &[],
        },
    },
    Route {
        verb: Verb::Post,
        path: "/v1/reload",
        access: Access::Machine(Scope::Admin),
        query: &[],
        body: Body::None,
        handler: Handler::Later(|cx| Box::pin(machine::reload(cx))),
        doc: Doc {
            tag: "machine",
            operation: "reload",
            summary: "Read the configuration again: all of it or nothing",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "what changed",
                body: openapi::json::<machine::ReloadReply>,
            }],
            codes: &["invalid_config"],
        },
    },
    Route {
        verb: Verb::Post,
        path: "/v1/tokens",
        access: Access::Tenant(Scope::Admin),
        query: &[],
        body: JSON,
        handler: Handler::Later(|cx| Box::pin(tokens::create(cx))),
        doc: Doc {
            tag: "tokens",
            operation: "create_token",
            summary: "Make a token; its secret is shown this once",
            request: openapi::json::<tokens::NewToken>,
            answers: &[Answer {
                status: 201,
                about: "made",
                body: openapi::json::<tokens::CreatedToken>,
            }],
            codes: &[
                "invalid_name",
                "invalid_scopes",
                "invalid_expires_in",
                "invalid_duration",
                "invalid_tenant",
                "unknown_tenant",
                "quota_exceeded",
            ],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/tokens",
        access: Access::Tenant(Scope::Admin),
        query: PAGING,
        body: Body::None,
        handler: Handler::Now(tokens::list),
        doc: Doc {
            tag: "tokens",
            operation: "list_tokens",
            summary: "The tokens of a tenant, without their secrets",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "a page",
                body: openapi::page::<tokens::Token>,
            }],
            codes: &["invalid_limit", "invalid_cursor"],
        },
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/tokens/{id}",
        access: Access::Tenant(Scope::Admin),
        query: &[],
        body: Body::None,
        handler: Handler::Later(|cx| Box::pin(tokens::revoke(cx))),
        doc: Doc {
            tag: "tokens",
            operation: "revoke_token",
            summary: "Make a token invalid, at once and for good",
            request: openapi::NOTHING,
            answers: &[Answer { status: 204, about: "gone", body: openapi::NOTHING }],
            codes: &["unknown_token"],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/tenants",
        access: Access::Machine(Scope::Admin),
        query: PAGING,
        body: Body::None,
        handler: Handler::Now(tenants::list),
        doc: Doc {
            tag: "tenants",
            operation: "list_tenants",
            summary: "Every tenant",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "a page",
                body: openapi::page::<tenants::Tenant>,
            }],
            codes: &["invalid_limit", "invalid_cursor"],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/tenants/{name}",
        access: Access::Machine(Scope::Admin),
        query: &[],
        body: Body::None,
        handler: Handler::Now(tenants::show),
        doc: Doc {
            tag: "tenants",
            operation: "show_tenant",
            summary: "A tenant and what it may have",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "the tenant",
                body: openapi::json::<tenants::Tenant>,
            }],
            codes: &["invalid_tenant", "unknown_tenant"],
        },
    },
    Route {
        verb: Verb::Put,
        path: "/v1/tenants/{name}",
        access: Access::Machine(Scope::Admin),
        query: &[],
        body: JSON,
        handler: Handler::Later(|cx| Box::pin(tenants::put(cx))),
        doc: Doc {
            tag: "tenants",
            operation: "put_tenant",
            summary: "Make or change a tenant; what is left out stays as it is, quotas are replaced whole",
            request: openapi::json::<tenants::TenantSpec>,
            answers: &[
                Answer { status: 200, about: "changed", body: openapi::json::<tenants::Tenant> },
                Answer { status: 201, about: "made", body: openapi::json::<tenants::Tenant> },
            ],
            codes: &["invalid_tenant", "invalid_tier", "invalid_quotas", "quota_exceeded"],
        },
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/tenants/{name}",
        access: Access::Machine(Scope::Admin),
        query: &[Parameter { required: true, ..parameter("confirm", "the tenant's name again") }],
        body: Body::None,
        handler: Handler::Later(|cx| Box::pin(tenants::delete(cx))),
        doc: Doc {
            tag: "tenants",
            operation: "delete_tenant",
            summary: "Delete a tenant with all it has: its tokens end at once, the rest goes in the background",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 202,
                about: "begun",
                body: openapi::json::<tenants::Deleting>,
            }],
            codes: &["invalid_tenant", "invalid_confirm", "unknown_tenant", "tenant_protected"],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/slow",
        access: Access::Machine(Scope::SeriesRead),
        query: &[
            parameter("kind", "request, storage, external, job or app; all of them without it"),
            LIMIT,
            CURSOR,
        ],
        body: Body::None,
        handler: Handler::Now(slow::list),
        doc: Doc {
            tag: "slow log",
            operation: "list_slow",
            summary: "What was slow since the start, the worst first",
            request: openapi::NOTHING,
            answers: &[Answer { status: 200, about: "a page", body: openapi::page::<slow::Slow> }],
            codes: &["invalid_kind", "invalid_limit", "invalid_cursor"],
        },
    },
    Route {
        verb: Verb::Post,
        path: "/v1/slow",
        access: Access::Machine(Scope::SeriesWrite),
        query: &[],
        body: JSON,
        handler: Handler::Now(slow::report),
        doc: Doc {
            tag: "slow log",
            operation: "report_slow",
            summary: "Report what was slow in an app",
            request: openapi::json::<slow::Report>,
            answers: &[Answer { status: 200, about: "noted", body: openapi::json::<slow::Noted> }],
            codes: &["invalid_kind", "invalid_name", "invalid_duration", "invalid_time"],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/audit",
        access: Access::Machine(Scope::Admin),
        query: PAGING,
        body: Body::None,
        handler: Handler::Later(|cx| Box::pin(audit::list(cx))),
        doc: Doc {
            tag: "audit",
            operation: "list_audit",
            summary: "Who changed what, the newest first",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "a page",
                body: openapi::page::<audit::AuditEntry>,
            }],
            codes: &["invalid_limit", "invalid_cursor"],
        },
    },
];

/// The rows that share a path, by verb, with their index in the table.
type Rows = Vec<(Verb, usize)>;

/// Finds the row for a request.
pub(super) struct Router {
    routes: &'static [Route],
    paths: matchit::Router<Rows>,
}

/// What was found for a request.
pub(super) struct Found<'p> {
    pub(super) index: usize,
    pub(super) route: &'static Route,
    pub(super) params: Vec<(&'p str, &'p str)>,
}

impl Router {
    pub(super) fn new(routes: &'static [Route]) -> Router {
        let mut by_path = std::collections::BTreeMap::<&str, Rows>::new();
        for (index, route) in routes.iter().enumerate() {
            by_path.entry(route.path).or_default().push((route.verb, index));
        }
        let mut paths = matchit::Router::new();
        for (path, rows) in by_path {
            paths.insert(path, rows).expect("BUG: two rows of the table have paths that clash");
        }
        Router { routes, paths }
    }

    /// The row of the table with this index.
    pub(super) fn route(&self, index: usize) -> Option<&'static Route> {
        self.routes.get(index)
    }

    /// The row for this method and path.
    pub(super) fn find<'p>(&'p self, method: &Method, path: &'p str) -> Result<Found<'p>, Problem> {
        let Ok(matched) = self.paths.at(path) else {
            let detail = "there is nothing at this path; /openapi.json lists what there is";
            return Err(Problem::new("unknown_path", detail));
        };
        let verb = Verb::of(method);
        let row = matched.value.iter().find(|(found, _)| Some(*found) == verb);
        let Some(&(_, index)) = row else {
            let methods = allowed(matched.value);
            let said: String = method.as_str().chars().take(32).collect();
            let detail = format!("{said} is not answered here; there are: {methods}");
            return Err(Problem::new("method_not_allowed", detail).allow(&methods));
        };
        let params = matched.params.iter().collect();
        Ok(Found { index, route: &self.routes[index], params })
    }
}

fn allowed(rows: &Rows) -> String {
    let mut methods: Vec<&str> = rows.iter().map(|(verb, _)| verb.as_str()).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.join(", ")
}
