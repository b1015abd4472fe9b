//! The rows of tenants and their tokens.

use super::{Access, Answer, Body, Doc, Handler, JSON, PAGING, Parameter, Route, Verb, parameter};
use crate::base::scope::Scope;
use crate::http::{openapi, tenants, tokens};

/// The rows.
pub(super) const ROUTES: &[Route] = &[
    Route {
        verb: Verb::Post,
        path: "/v1/tokens",
        access: Access::Tenant(&[Scope::Admin]),
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
        access: Access::Tenant(&[Scope::Admin]),
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
        access: Access::Tenant(&[Scope::Admin]),
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
        access: Access::Machine(&[Scope::Admin]),
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
        access: Access::Machine(&[Scope::Admin]),
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
        access: Access::Machine(&[Scope::Admin]),
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
        access: Access::Machine(&[Scope::Admin]),
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
];
