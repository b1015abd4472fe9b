//! The one table of routes: path, method, scope, limits, handler and documentation, one row each.
//!
//! The router, the check of parameters, the scopes and the OpenAPI document are made of it, so that they
//! cannot say different things.

use std::pin::Pin;

use hyper::Method;

use super::problem::Problem;
use super::reply::Reply;
use super::request::Cx;
use super::{audit, cache, locks, machine, openapi, slow, tenants, tokens};
use crate::base::limits::{CACHE_VALUE_BYTES_MAX, JSON_BYTES_MAX, REQUEST_BYTES_MAX};
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
const ASK: &[Parameter] = &[
    parameter("lease", "whoever misses it first gets a lease of this length, 100ms to 1h"),
    parameter("wait", "the others wait so long for the value, at most 50s; goes with lease"),
];
const PUT: &[Parameter] = &[
    parameter("ttl", "for how long it is fresh: seconds, 5m, or class:<name>; for ever without it"),
    parameter("stale", "for how long it is served as stale after that"),
    parameter("jitter", "the ttl is shortened by chance, by up to this part of it: 0.1 is a tenth"),
    parameter("tags", "what it can be forgotten by, with commas between; at most 16"),
    parameter("if", "absent or present: only if the key is not there, or is"),
    parameter("lease", "what Holdfast-Lease said to the one who asked"),
];
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
        verb: Verb::Get,
        path: "/v1/cache",
        access: Access::Tenant(Scope::CacheRead),
        query: PAGING,
        body: Body::None,
        handler: Handler::Now(cache::list),
        doc: Doc {
            tag: "cache",
            operation: "list_namespaces",
            summary: "The namespaces of a tenant: what they hold, and what they have seen since the start",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "a page",
                body: openapi::page::<cache::CacheStats>,
            }],
            codes: &["invalid_limit", "invalid_cursor"],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/cache/{ns}",
        access: Access::Tenant(Scope::CacheRead),
        query: &[],
        body: Body::None,
        handler: Handler::Now(cache::show),
        doc: Doc {
            tag: "cache",
            operation: "show_namespace",
            summary: "A namespace: what it holds, and what it has seen since the start",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "the namespace",
                body: openapi::json::<cache::CacheStats>,
            }],
            codes: &["invalid_namespace", "unknown_namespace"],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/cache/{ns}/keys/{*key}",
        access: Access::Tenant(Scope::CacheRead),
        query: ASK,
        body: Body::None,
        handler: Handler::Either(cache::get),
        doc: Doc {
            tag: "cache",
            operation: "get_key",
            summary: "The value of a key; with a lease, one of those who miss it is told to compute it (scope cache:write)",
            request: openapi::NOTHING,
            answers: &[
                Answer {
                    status: 200,
                    about: "the bytes as they were stored, with their Content-Type; ETag, Age, Holdfast-Ttl-Ms, and in the stale window Holdfast-Stale",
                    body: openapi::bytes,
                },
                Answer {
                    status: 304,
                    about: "it is what If-None-Match named",
                    body: openapi::NOTHING,
                },
            ],
            codes: &[
                "invalid_namespace",
                "invalid_key",
                "invalid_lease",
                "invalid_wait",
                "cache_miss",
                "quota_exceeded",
            ],
        },
    },
    Route {
        verb: Verb::Put,
        path: "/v1/cache/{ns}/keys/{*key}",
        access: Access::Tenant(Scope::CacheWrite),
        query: PUT,
        body: Body::Raw { max: CACHE_VALUE_BYTES_MAX },
        handler: Handler::Later(|cx| Box::pin(cache::put(cx))),
        doc: Doc {
            tag: "cache",
            operation: "put_key",
            summary: "Store a value",
            request: openapi::bytes,
            answers: &[
                Answer { status: 200, about: "replaced", body: openapi::NOTHING },
                Answer { status: 201, about: "new", body: openapi::NOTHING },
            ],
            codes: &[
                "invalid_namespace",
                "invalid_key",
                "invalid_ttl",
                "invalid_stale",
                "invalid_jitter",
                "invalid_tags",
                "invalid_if",
                "invalid_lease",
                "invalid_content_type",
                "key_exists",
                "key_missing",
                "lease_lost",
                "quota_exceeded",
                "cache_full",
                "disk_full",
                "read_only",
                "outcome_unknown",
            ],
        },
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/cache/{ns}/keys/{*key}",
        access: Access::Tenant(Scope::CacheWrite),
        query: &[],
        body: Body::None,
        handler: Handler::Later(|cx| Box::pin(cache::delete(cx))),
        doc: Doc {
            tag: "cache",
            operation: "delete_key",
            summary: "Remove a key",
            request: openapi::NOTHING,
            answers: &[Answer { status: 204, about: "removed", body: openapi::NOTHING }],
            codes: &[
                "invalid_namespace",
                "invalid_key",
                "cache_miss",
                "read_only",
                "outcome_unknown",
            ],
        },
    },
    Route {
        verb: Verb::Post,
        path: "/v1/cache/{ns}/get",
        access: Access::Tenant(Scope::CacheRead),
        query: &[],
        body: JSON,
        handler: Handler::Now(cache::get_many),
        doc: Doc {
            tag: "cache",
            operation: "get_keys",
            summary: "The values of several keys",
            request: openapi::json::<cache::Keys>,
            answers: &[Answer {
                status: 200,
                about: "what is there and what is not",
                body: openapi::json::<cache::Entries<'_>>,
            }],
            codes: &["invalid_namespace", "invalid_key"],
        },
    },
    Route {
        verb: Verb::Post,
        path: "/v1/cache/{ns}/put",
        access: Access::Tenant(Scope::CacheWrite),
        query: &[],
        body: Body::Json { max: REQUEST_BYTES_MAX },
        handler: Handler::Later(|cx| Box::pin(cache::put_many(cx))),
        doc: Doc {
            tag: "cache",
            operation: "put_keys",
            summary: "Store several values; one that is refused refuses all",
            request: openapi::json::<cache::NewEntries>,
            answers: &[Answer {
                status: 200,
                about: "stored",
                body: openapi::json::<cache::StoredCount>,
            }],
            codes: &[
                "invalid_namespace",
                "invalid_key",
                "invalid_value",
                "invalid_encoding",
                "invalid_ttl",
                "invalid_stale",
                "invalid_jitter",
                "invalid_tags",
                "invalid_content_type",
                "quota_exceeded",
                "cache_full",
                "disk_full",
                "read_only",
                "outcome_unknown",
            ],
        },
    },
    Route {
        verb: Verb::Post,
        path: "/v1/cache/{ns}/increment",
        access: Access::Tenant(Scope::CacheWrite),
        query: &[],
        body: JSON,
        handler: Handler::Later(|cx| Box::pin(cache::increment(cx))),
        doc: Doc {
            tag: "cache",
            operation: "increment_key",
            summary: "Add to a whole number; one that is not there counts as 0",
            request: openapi::json::<cache::Increment>,
            answers: &[Answer {
                status: 200,
                about: "what it is now",
                body: openapi::json::<cache::Number>,
            }],
            codes: &[
                "invalid_namespace",
                "invalid_key",
                "invalid_ttl",
                "invalid_by",
                "not_an_integer",
                "integer_overflow",
                "quota_exceeded",
                "cache_full",
                "disk_full",
                "read_only",
                "outcome_unknown",
            ],
        },
    },
    Route {
        verb: Verb::Post,
        path: "/v1/cache/{ns}/touch",
        access: Access::Tenant(Scope::CacheWrite),
        query: &[],
        body: JSON,
        handler: Handler::Later(|cx| Box::pin(cache::touch(cx))),
        doc: Doc {
            tag: "cache",
            operation: "touch_key",
            summary: "Give a key a new ttl, from now on",
            request: openapi::json::<cache::Touch>,
            answers: &[Answer {
                status: 200,
                about: "done",
                body: openapi::json::<cache::Touched>,
            }],
            codes: &[
                "invalid_namespace",
                "invalid_key",
                "invalid_ttl",
                "cache_miss",
                "disk_full",
                "read_only",
                "outcome_unknown",
            ],
        },
    },
    Route {
        verb: Verb::Post,
        path: "/v1/cache/{ns}/forget",
        access: Access::Tenant(Scope::CacheWrite),
        query: &[],
        body: JSON,
        handler: Handler::Later(|cx| Box::pin(cache::forget(cx))),
        doc: Doc {
            tag: "cache",
            operation: "forget_keys",
            summary: "Remove keys, by their names, tags, prefix or pattern, or all of them; or count them",
            request: openapi::json::<cache::ForgetRequest>,
            answers: &[Answer {
                status: 200,
                about: "how many there were, exactly",
                body: openapi::json::<cache::Forgotten>,
            }],
            codes: &[
                "invalid_namespace",
                "invalid_key",
                "invalid_tags",
                "invalid_prefix",
                "invalid_pattern",
                "read_only",
                "outcome_unknown",
            ],
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
    Route {
        verb: Verb::Get,
        path: "/v1/locks",
        access: Access::Tenant(Scope::CacheRead),
        query: PAGING,
        body: Body::None,
        handler: Handler::Now(locks::list),
        doc: Doc {
            tag: "locks",
            operation: "list_locks",
            summary: "Locks that are held, by name",
            request: openapi::NOTHING,
            answers: &[Answer { status: 200, about: "a page", body: openapi::page::<locks::Lock> }],
            codes: &["invalid_limit", "invalid_cursor"],
        },
    },
    Route {
        verb: Verb::Post,
        path: "/v1/locks/{name}",
        access: Access::Tenant(Scope::CacheWrite),
        query: &[],
        body: JSON,
        handler: Handler::Later(|cx| Box::pin(locks::acquire(cx))),
        doc: Doc {
            tag: "locks",
            operation: "take_lock",
            summary: "Take a lock, or stand in line for it: first come, first served",
            request: openapi::json::<locks::WantedLock>,
            answers: &[
                Answer {
                    status: 200,
                    about: "its owner had it already: the same fence, the ttl begins again",
                    body: openapi::json::<locks::Lock>,
                },
                Answer { status: 201, about: "taken", body: openapi::json::<locks::Lock> },
            ],
            codes: &[
                "invalid_lock",
                "invalid_owner",
                "invalid_ttl",
                "invalid_wait",
                "lock_held",
                "quota_exceeded",
            ],
        },
    },
    Route {
        verb: Verb::Post,
        path: "/v1/locks/{name}/refresh",
        access: Access::Tenant(Scope::CacheWrite),
        query: &[],
        body: JSON,
        handler: Handler::Later(|cx| Box::pin(locks::refresh(cx))),
        doc: Doc {
            tag: "locks",
            operation: "refresh_lock",
            summary: "Hold a lock longer: the ttl counts from now on",
            request: openapi::json::<locks::RefreshedLock>,
            answers: &[Answer {
                status: 200,
                about: "held until then",
                body: openapi::json::<locks::Lock>,
            }],
            codes: &["invalid_lock", "invalid_owner", "invalid_ttl", "lock_held", "unknown_lock"],
        },
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/locks/{name}",
        access: Access::Tenant(Scope::CacheWrite),
        query: &[
            parameter("owner", "who holds it"),
            Parameter {
                schema: "boolean",
                ..parameter("force", "whoever holds it; administrators only")
            },
        ],
        body: Body::None,
        handler: Handler::Later(|cx| Box::pin(locks::release(cx))),
        doc: Doc {
            tag: "locks",
            operation: "release_lock",
            summary: "Release a lock; the first in line is next",
            request: openapi::NOTHING,
            answers: &[Answer { status: 204, about: "released", body: openapi::NOTHING }],
            codes: &["invalid_lock", "invalid_owner", "lock_held", "unknown_lock"],
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
