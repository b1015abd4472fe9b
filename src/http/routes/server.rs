//! The rows of this machine: what it does, how healthy it is.

use super::{Access, Answer, Body, Doc, Handler, Route, Verb};
use crate::base::scope::Scope;
use crate::http::{openapi, server};

/// The rows.
pub(super) const ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/v1/server",
        access: Access::Machine(&[Scope::SeriesRead]),
        query: &[],
        body: Body::None,
        handler: Handler::Now(server::server),
        doc: Doc {
            tag: "server",
            operation: "server",
            summary: "What this machine does: processors, memory, swap, disks, network, pressure, this process",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "the last reading; null is what could not be read",
                body: openapi::json::<server::Server>,
            }],
            codes: &["starting", "not_read"],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/server/health",
        access: Access::Machine(&[Scope::SeriesRead]),
        query: &[],
        body: Body::None,
        handler: Handler::Now(server::health),
        doc: Doc {
            tag: "server",
            operation: "server_health",
            summary: "How healthy this machine is: one word, one number, and why",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "word, score and deductions",
                body: openapi::json::<server::HealthReply>,
            }],
            codes: &["starting", "not_read"],
        },
    },
];
