//! The OpenAPI document, made of the route table and of the wire types' own schemas.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json as value};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};

use super::problem::{KINDS, MEDIA_TYPE};
use super::routes::{Access, Body, Route};
use crate::base::limits::IDEMPOTENCY_KEY_BYTES_MAX;

/// The schemas of all types that were met, by name.
pub type Schemas = BTreeMap<String, Value>;

/// What a body may be: its media types with their schemas; none for no body.
pub type Bodies = Vec<(&'static str, Value)>;

/// Tells what a body may be, and takes down the schemas that it names.
pub type Content = fn(&mut Schemas) -> Bodies;

/// No body.
pub const NOTHING: Content = |_| Bodies::new();

/// JSON of this type.
pub fn json<T: utoipa::ToSchema>(schemas: &mut Schemas) -> Bodies {
    vec![("application/json", reference::<T>(schemas))]
}

/// A reference to the schema of this type, which is taken down.
pub(super) fn reference<T: utoipa::ToSchema>(schemas: &mut Schemas) -> Value {
    let mut met: Vec<(String, RefOr<Schema>)> = Vec::new();
    T::schemas(&mut met);
    let name = T::name().into_owned();
    met.push((name.clone(), T::schema()));
    for (name, schema) in met {
        let schema = serde_json::to_value(schema).expect("BUG: a schema is plain JSON");
        schemas.insert(name, schema);
    }
    value!({ "$ref": format!("#/components/schemas/{name}") })
}

/// A page of a list of these.
pub fn page<T: utoipa::ToSchema>(schemas: &mut Schemas) -> Bodies {
    let item = reference::<T>(schemas);
    let schema = value!({
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": { "type": "array", "items": item },
            "next": { "type": ["string", "null"], "description": "The cursor of the next page." },
        },
    });
    vec![("application/json", schema)]
}

/// JSON of some shape.
pub fn any_json(_: &mut Schemas) -> Bodies {
    vec![("application/json", value!({ "type": "object" }))]
}

/// Text.
pub fn text(_: &mut Schemas) -> Bodies {
    vec![("text/plain", value!({ "type": "string" }))]
}

/// Samples, in JSON or as text.
pub fn samples(schemas: &mut Schemas) -> Bodies {
    let exposition = value!({
        "type": "string",
        "description": "The text format of Prometheus, a sample a line; moments are unix milliseconds.",
        "examples": ["# TYPE room_celsius gauge\nroom_celsius{room=\"cellar\"} 11.5\n"],
    });
    let mut bodies = json::<super::series::write::SamplesRequest>(schemas);
    bodies.push(("text/plain", exposition));
    bodies
}

/// Bytes of any type.
pub fn bytes(_: &mut Schemas) -> Bodies {
    vec![("*/*", value!({ "type": "string", "format": "binary" }))]
}

/// A number or a text.
fn number_or_text(about: &str, example: &str) -> Schema {
    let of = |kind| ObjectBuilder::new().schema_type(kind);
    OneOfBuilder::new()
        .item(of(Type::Number))
        .item(of(Type::String).examples([example]))
        .description(Some(about))
        .into()
}

/// A length of time.
pub fn duration() -> Schema {
    number_or_text("Seconds, or a text such as 250ms, 30s, 5m, 1h or 7d.", "30d")
}

/// The value of a sample.
pub fn sample_value() -> Schema {
    number_or_text("A number, or NaN, +Inf or -Inf as a text.", "NaN")
}

/// Points of a series: moments in unix milliseconds, and values.
pub fn points() -> Schema {
    let point = utoipa::openapi::schema::ArrayBuilder::new().items(RefOr::T(anything()));
    utoipa::openapi::schema::ArrayBuilder::new().items(RefOr::T(Schema::from(point))).into()
}

/// Lengths of time.
pub fn durations() -> Schema {
    utoipa::openapi::schema::ArrayBuilder::new().items(RefOr::T(duration())).into()
}

/// Any value.
pub fn anything() -> Schema {
    ObjectBuilder::new().schema_type(utoipa::openapi::schema::SchemaType::AnyValue).into()
}

/// How long a key is fresh.
pub fn ttl() -> Schema {
    number_or_text("Seconds, a text such as 250ms, 30s, 5m, 1h or 7d, or class:<name>.", "5m")
}

/// A part of a ttl.
pub fn jitter() -> Schema {
    number_or_text("A number from 0 to 1.", "0.1")
}

/// Entries of the cache, by key.
pub fn entries() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(utoipa::openapi::Ref::from_schema_name("Entry")))
        .into()
}

/// A moment.
pub fn moment() -> Schema {
    number_or_text("RFC 3339, unix seconds, now, or relative such as -24h.", "2026-11-20T12:00:00Z")
}

/// The codes that every route may answer with.
const EVERYWHERE: [&str; 7] = [
    "malformed",
    "unknown_parameter",
    "method_not_allowed",
    "unknown_host",
    "head_too_large",
    "internal",
    "overloaded",
];

/// The document, indented, as it is served and as it is printed.
pub fn text_of(document: &Value) -> String {
    let mut text = serde_json::to_string_pretty(document).expect("BUG: a document is plain JSON");
    text.push('\n');
    text
}

/// The document of these routes, as text.
pub(super) fn document_text(routes: &[Route]) -> String {
    text_of(&document(routes))
}

/// The document of these routes.
pub fn document(routes: &[Route]) -> Value {
    let mut schemas = Schemas::new();
    schemas.insert("Problem".to_owned(), problem_schema());
    let mut paths = Map::new();
    for route in routes {
        let operation = operation(route, &mut schemas);
        let path = paths.entry(route.path.replace("{*", "{")).or_insert_with(|| value!({}));
        path[route.verb.as_str().to_ascii_lowercase()] = operation;
    }
    value!({
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Cache, durable queues, time series, monitors and alerts in one process.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "hf_<kind>_<id>_<secret>_<checksum>",
                },
            },
        },
    })
}

fn problem_schema() -> Value {
    let codes: Vec<&str> = KINDS.iter().map(|kind| kind.code).collect();
    value!({
        "type": "object",
        "description": "RFC 9457, with a stable code and the fields of the case.",
        "required": ["type", "title", "status", "code", "detail", "retryable", "instance"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "code": { "type": "string", "enum": codes },
            "detail": { "type": "string" },
            "retryable": { "type": "boolean" },
            "instance": { "type": "string" },
        },
    })
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let mut operation = value!({
        "tags": [route.doc.tag],
        "operationId": route.doc.operation,
        "summary": route.doc.summary,
        "responses": responses(route, schemas),
    });
    let parameters = parameters(route);
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some(content) = content((route.doc.request)(schemas)) {
        operation["requestBody"] = value!({ "required": true, "content": content });
    }
    let (scopes, about) = match route.access {
        Access::Open => (&[][..], "open"),
        Access::Tenant(scopes) => (scopes, "for the tenant of the token"),
        Access::Machine(scopes) => (scopes, "for tokens of tenant default"),
        Access::Metrics(scopes) => {
            (scopes, "for tokens of tenant default, or open by server.metrics_public")
        }
    };
    if !scopes.is_empty() {
        // Each of them will do.
        let security = scopes.iter().map(|scope| value!({ "token": [scope.as_str()] }));
        operation["security"] = security.collect();
    }
    let limit = match route.body {
        Body::None => String::new(),
        Body::Json { max } | Body::Raw { max } => format!("; a body of at most {max} bytes"),
    };
    let names: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    let needs = match &*names {
        [] => String::new(),
        names => format!("scope {}, ", names.join(" or ")),
    };
    operation["description"] = value!(format!("{needs}{about}{limit}"));
    operation
}

/// What a body may be, by its media type; nothing for no body.
fn content(bodies: Bodies) -> Option<Value> {
    let by_type =
        bodies.into_iter().map(|(kind, schema)| (kind.to_owned(), value!({ "schema": schema })));
    let content: Map<String, Value> = by_type.collect();
    (!content.is_empty()).then_some(Value::Object(content))
}

fn parameters(route: &Route) -> Vec<Value> {
    let in_path = route.parameters().map(|name| {
        value!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
    });
    let in_query = route.query.iter().map(|parameter| {
        value!({
            "name": parameter.name,
            "in": "query",
            "required": parameter.required,
            "description": parameter.about,
            "schema": { "type": parameter.schema },
        })
    });
    // Whoever may refuse a key reads one.
    let reads_key = route.doc.codes.contains(&"invalid_idempotency_key");
    let in_head = reads_key.then(|| {
        value!({
            "name": "Idempotency-Key",
            "in": "header",
            "required": false,
            "description": "with the same key and body, what was pushed once is told again",
            "schema": { "type": "string", "maxLength": IDEMPOTENCY_KEY_BYTES_MAX },
        })
    });
    in_path.chain(in_query).chain(in_head).collect()
}

fn responses(route: &Route, schemas: &mut Schemas) -> Value {
    let mut responses = Map::new();
    for answer in route.doc.answers {
        let mut response = value!({ "description": answer.about });
        if let Some(content) = content((answer.body)(schemas)) {
            response["content"] = content;
        }
        responses.insert(answer.status.to_string(), response);
    }
    let mut by_status = BTreeMap::<u16, Vec<&str>>::new();
    for code in codes(route) {
        let kind = KINDS.iter().find(|kind| kind.code == code);
        let kind = kind.unwrap_or_else(|| unreachable!("BUG: {code:?} is not in KINDS"));
        by_status.entry(kind.status).or_default().push(code);
    }
    for (status, codes) in by_status {
        let schema = value!({ "$ref": "#/components/schemas/Problem" });
        responses.insert(
            status.to_string(),
            value!({
                "description": codes.join(", "),
                "content": { MEDIA_TYPE: { "schema": schema } },
            }),
        );
    }
    Value::Object(responses)
}

/// Every code that the route may answer with.
fn codes(route: &Route) -> Vec<&'static str> {
    let mut codes: Vec<&str> = EVERYWHERE.to_vec();
    if route.access != Access::Open {
        codes.extend(["unauthenticated", "rate_limited", "forbidden", "unknown_tenant"]);
    }
    if route.body != Body::None {
        codes.extend(["unknown_field", "too_large", "unsupported_media_type", "request_timeout"]);
    }
    let changes = !matches!(route.verb, super::routes::Verb::Get) && route.access != Access::Open;
    if changes {
        codes.extend(["read_only", "stopping", "outcome_unknown", "disk_full"]);
    }
    codes.extend(route.doc.codes);
    codes.sort_unstable();
    codes.dedup();
    codes
}
