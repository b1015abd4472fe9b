//! The rows of the series.

use super::{
    Access, Answer, Body, CURSOR, Doc, Handler, JSON, LIMIT, Parameter, Route, Verb, parameter,
};
use crate::base::limits::REQUEST_BYTES_MAX;
use crate::base::scope::Scope;
use crate::http::{openapi, series};

const MATCH: &str = "which series: cpu{host=\"a\",core!~\"1.*\"}";

const QUERY: &[Parameter] = &[
    Parameter { required: true, ..parameter("select", MATCH) },
    parameter(
        "fn",
        "what is made of the samples of a step: raw, avg, min, max, sum, count, last, rate, increase, p50, p95 or p99; \
         avg without it",
    ),
    parameter("by", "series are put together; these labels stay, with commas between"),
    parameter("reduce", "how they are put together: sum, avg, min or max; sum without it"),
    parameter("from", "from when on: RFC 3339, unix seconds, or -24h; an hour ago without it"),
    parameter("to", "until when; now without it"),
    parameter("step", "how long a step is, such as 5m; chosen by the range without it"),
    parameter("timeout", "how long it may take, at most 15s; 2s without it"),
];

/// The rows.
pub(super) const ROUTES: &[Route] = &[
    Route {
        verb: Verb::Post,
        path: "/v1/series",
        access: Access::Tenant(&[Scope::SeriesWrite]),
        query: &[parameter("durable", "1: answer when the samples are on disk; 0 without it")],
        body: Body::Raw { max: REQUEST_BYTES_MAX },
        handler: Handler::Later(|cx| Box::pin(series::write::write(cx))),
        doc: Doc {
            tag: "series",
            operation: "write_samples",
            summary: "Write samples: JSON, or text/plain as Prometheus has it; each is taken or refused by itself",
            request: openapi::samples,
            answers: &[
                Answer {
                    status: 200,
                    about: "they are on disk",
                    body: openapi::json::<series::write::WrittenReply>,
                },
                Answer {
                    status: 202,
                    about: "they are in memory, and on disk within 10 s",
                    body: openapi::json::<series::write::WrittenReply>,
                },
            ],
            codes: &["invalid_durable", "overloaded"],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/series",
        access: Access::Tenant(&[Scope::SeriesRead]),
        query: &[parameter("match", MATCH), LIMIT, CURSOR],
        body: Body::None,
        handler: Handler::Now(series::list),
        doc: Doc {
            tag: "series",
            operation: "list_series",
            summary: "The series there are, the oldest first",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "a page",
                body: openapi::page::<series::SeriesItem>,
            }],
            codes: &["invalid_match", "invalid_limit", "invalid_cursor"],
        },
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/series",
        access: Access::Tenant(&[Scope::Admin]),
        query: &[Parameter { required: true, ..parameter("match", MATCH) }],
        body: Body::None,
        handler: Handler::Later(|cx| Box::pin(series::delete(cx))),
        doc: Doc {
            tag: "series",
            operation: "delete_series",
            summary: "Delete series with all their samples",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "how many",
                body: openapi::json::<series::Deleted>,
            }],
            codes: &["invalid_match"],
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/series/query",
        access: Access::Tenant(&[Scope::SeriesRead]),
        query: QUERY,
        body: Body::None,
        handler: Handler::Later(|cx| Box::pin(series::query::query(cx))),
        doc: Doc {
            tag: "series",
            operation: "query_series",
            summary: "What series say of a range of time, step by step",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "the series; a point carries the start of its step",
                body: openapi::json::<series::query::QueryAnswer>,
            }],
            codes: QUERY_CODES,
        },
    },
    Route {
        verb: Verb::Post,
        path: "/v1/series/query_batch",
        access: Access::Tenant(&[Scope::SeriesRead]),
        query: &[],
        body: JSON,
        handler: Handler::Later(|cx| Box::pin(series::query::batch(cx))),
        doc: Doc {
            tag: "series",
            operation: "query_series_batch",
            summary: "Many queries at once, side by side; one that fails leaves the others alone",
            request: openapi::json::<series::query::BatchRequest>,
            answers: &[Answer {
                status: 200,
                about: "each answer, or each problem, under its name",
                body: openapi::json::<series::query::BatchAnswer>,
            }],
            codes: &[
                "invalid_queries",
                "invalid_from",
                "invalid_to",
                "invalid_step",
                "invalid_timeout",
            ],
        },
    },
];

const QUERY_CODES: &[&str] = &[
    "invalid_select",
    "invalid_fn",
    "invalid_by",
    "invalid_reduce",
    "invalid_from",
    "invalid_to",
    "invalid_range",
    "invalid_step",
    "invalid_timeout",
    "too_many_points",
    "too_many_series",
    "no_distribution",
    "overloaded",
];
