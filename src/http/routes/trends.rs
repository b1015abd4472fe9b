//! The rows of trends and capacity.

use super::{Access, Answer, Body, Doc, Handler, Parameter, Route, Verb, parameter};
use crate::base::scope::Scope;
use crate::http::{openapi, trends};

const PERIOD: Parameter = parameter("period", "how far back it looks, 1m to 400d; 1h without it");
const INTERVAL: Parameter = parameter(
    "interval",
    "how long a step is, a multiple of 10s: so often figures are recorded; a round one of about a sixtieth of the period \
     without it",
);
const SERIES_INTERVAL: Parameter = parameter(
    "interval",
    "how long a step is, a whole number of seconds, 10s at least; a round one of about a sixtieth of the period without it",
);
const THRESHOLD: Parameter =
    Parameter { schema: "number", ..parameter("threshold", "a value: when will it be reached?") };
const WHEN: Parameter = parameter(
    "when",
    "above or below: on which side of the threshold values are beyond it; whichever way it goes without it",
);
const POINTS: Parameter = parameter("points", "1: the points as well; 0 without it");
const TREND: &[Parameter] = &[PERIOD, INTERVAL, THRESHOLD, WHEN, POINTS];

const SERIES: &[Parameter] = &[
    Parameter {
        required: true,
        ..parameter("select", "which series: cpu{host=\"a\",core!~\"1.*\"}")
    },
    parameter(
        "fn",
        "what is made of the samples of a step: avg, min, max, sum, count, last, rate, increase, p50, p95 or p99; the rate \
         of counters and avg of all else without it",
    ),
    PERIOD,
    SERIES_INTERVAL,
    THRESHOLD,
    WHEN,
    POINTS,
];

const CAPACITY: &[Parameter] = &[
    parameter(
        "target_wait",
        "how long a job should wait at most, 1ms to 1d; target_wait of the queue's settings without it, or 60s",
    ),
    parameter("period", "over how long rates are measured, 1m to 400d; 15m without it"),
    Parameter {
        schema: "integer",
        ..parameter("around", "so many workers more and fewer are looked at, 0 to 20; 3 without it")
    },
];

/// The rows.
pub(super) const ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/v1/trends/queue-depth/{queue}",
        access: Access::Tenant(&[Scope::QueueRead]),
        query: TREND,
        body: Body::None,
        handler: Handler::Later(|cx| Box::pin(trends::depth(cx))),
        doc: Doc {
            tag: "trends",
            operation: "show_queue_depth_trend",
            summary: "Where the number of jobs that may run goes: statistics, trend, forecast, in words too",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "the trend, or why there is none",
                body: openapi::json::<trends::TrendReply>,
            }],
            codes: QUEUE_CODES,
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/trends/throughput/{queue}",
        access: Access::Tenant(&[Scope::QueueRead]),
        query: TREND,
        body: Body::None,
        handler: Handler::Later(|cx| Box::pin(trends::throughput(cx))),
        doc: Doc {
            tag: "trends",
            operation: "show_throughput_trend",
            summary: "How many jobs a minute are done; values are jobs a minute, the slope is per second",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "the trend, or why there is none",
                body: openapi::json::<trends::ThroughputReply>,
            }],
            codes: QUEUE_CODES,
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/trends/worker-efficiency",
        access: Access::Tenant(&[Scope::QueueRead]),
        query: TREND,
        body: Body::None,
        handler: Handler::Later(|cx| Box::pin(trends::workers(cx))),
        doc: Doc {
            tag: "trends",
            operation: "show_worker_efficiency_trend",
            summary: "How much of their time workers have a job; values are percent",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "the trend, or why there is none",
                body: openapi::json::<trends::WorkersReply>,
            }],
            codes: CODES,
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/trends/series",
        access: Access::Tenant(&[Scope::SeriesRead]),
        query: SERIES,
        body: Body::None,
        handler: Handler::Later(|cx| Box::pin(trends::series(cx))),
        doc: Doc {
            tag: "trends",
            operation: "list_series_trends",
            summary: "Where series go, and when they reach a value; at most 100 at once",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "the trend of each, by name",
                body: openapi::json::<trends::SeriesTrends>,
            }],
            codes: SERIES_CODES,
        },
    },
    Route {
        verb: Verb::Get,
        path: "/v1/queues/{q}/capacity",
        access: Access::Tenant(&[Scope::QueueRead]),
        query: CAPACITY,
        body: Body::None,
        handler: Handler::Later(|cx| Box::pin(trends::capacity(cx))),
        doc: Doc {
            tag: "queues",
            operation: "show_queue_capacity",
            summary: "Whether a queue keeps up, how many workers it takes, and when it is empty",
            request: openapi::NOTHING,
            answers: &[Answer {
                status: 200,
                about: "in figures, and in one sentence",
                body: openapi::json::<trends::CapacityReply>,
            }],
            codes: &[
                "invalid_queue",
                "invalid_target_wait",
                "invalid_period",
                "invalid_around",
                "unknown_queue",
                "overloaded",
            ],
        },
    },
];

const CODES: &[&str] = &[
    "invalid_period",
    "invalid_interval",
    "invalid_threshold",
    "invalid_when",
    "invalid_points",
    "overloaded",
];

const QUEUE_CODES: &[&str] = &[
    "invalid_queue",
    "invalid_period",
    "invalid_interval",
    "invalid_threshold",
    "invalid_when",
    "invalid_points",
    "unknown_queue",
    "overloaded",
];

const SERIES_CODES: &[&str] = &[
    "invalid_select",
    "invalid_fn",
    "invalid_period",
    "invalid_interval",
    "invalid_threshold",
    "invalid_when",
    "invalid_points",
    "no_distribution",
    "too_many_series",
    "unknown_series",
    "overloaded",
];
