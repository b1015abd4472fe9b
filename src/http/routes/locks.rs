//! The rows of locks.

use super::{Access, Answer, Body, Doc, Handler, JSON, PAGING, Parameter, Route, Verb, parameter};
use crate::base::scope::Scope;
use crate::http::{locks, openapi};

/// The rows.
pub(super) const ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/v1/locks",
        access: Access::Tenant(&[Scope::CacheRead]),
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
        access: Access::Tenant(&[Scope::CacheWrite]),
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
        access: Access::Tenant(&[Scope::CacheWrite]),
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
        access: Access::Tenant(&[Scope::CacheWrite]),
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
