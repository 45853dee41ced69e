//! The OpenAPI document: the list of endpoints as JSON.

use serde_json::{Map, Value, json};

use super::doc::{Content, Endpoint, Reply, reference};
use super::endpoints;

/// What every endpoint that wants a token may answer, unless it says so itself.
const PROBLEMS: [(u16, &str); 7] = [
    (400, "The request is not as it is described here."),
    (401, "The token is missing or unknown."),
    (406, "The caller does not read what is shown."),
    (429, "A limit is reached."),
    (431, "The head of the request is too large."),
    (500, "An error on our side."),
    (503, "Not now."),
];

/// OpenAPI 3.1.
#[must_use]
pub fn document() -> Value {
    let mut paths = Map::new();
    for endpoint in endpoints::all() {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method] = operation(&endpoint);
    }
    let mut schemas = nbi::schema::components();
    schemas.extend(metrics_schemas());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "CloudSkin north-bound interface",
            "version": "v1",
            "description": "Services, sites and migrations of one organisation, which the token says. Every change is answered 202 with an \
                operation. Problems are RFC 9457. docs/nbi.md has a worked example.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas,
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut operation = json!({
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "responses": responses(endpoint),
    });
    if !endpoint.parameters.is_empty() {
        let parameters = endpoint.parameters.iter().map(|parameter| {
            json!({
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.is_required,
                "schema": parameter.schema,
                "description": parameter.summary,
            })
        });
        operation["parameters"] = parameters.collect();
    }
    if let Some(body) = &endpoint.body {
        operation["requestBody"] = json!({"required": true, "content": content(body)});
    }
    if endpoint.is_open {
        operation["security"] = json!([]);
    }
    operation
}

fn responses(endpoint: &Endpoint) -> Value {
    let mut responses = Map::new();
    for reply in &endpoint.answers {
        responses.insert(reply.status.to_string(), response(reply));
    }
    if !endpoint.is_open {
        for (status, summary) in PROBLEMS {
            let reply = Reply {
                status,
                summary,
                // An answer to HEAD has no body, and 431 is said before the path is known.
                content: (endpoint.method != "head" && status != 431).then(|| Content {
                    kind: "application/problem+json",
                    schema: reference("Problem"),
                }),
                headers: Vec::new(),
            };
            let response = response(&reply);
            match responses.get_mut(&status.to_string()) {
                None => {
                    responses.insert(status.to_string(), response);
                }
                // One that shows something else shows problems too.
                Some(own) => {
                    if let (Some(own), Value::Object(more)) =
                        (own["content"].as_object_mut(), &response["content"])
                    {
                        own.extend(more.clone());
                    }
                }
            }
        }
    }
    Value::Object(responses)
}

fn response(reply: &Reply) -> Value {
    let mut response = json!({"description": reply.summary});
    if let Some(shown) = &reply.content {
        response["content"] = content(shown);
    }
    let mut headers = Map::new();
    for (name, schema, summary) in &reply.headers {
        let header = json!({"required": true, "schema": schema, "description": summary});
        headers.insert((*name).to_owned(), header);
    }
    let more = match reply.status {
        401 => Some(("WWW-Authenticate", "How to say who asks.")),
        429 | 503 => Some(("Retry-After", "Seconds.")),
        _ => None,
    };
    if let Some((name, summary)) = more {
        let header =
            json!({"required": true, "schema": {"type": "string"}, "description": summary});
        headers.insert(name.to_owned(), header);
    }
    if !headers.is_empty() {
        response["headers"] = Value::Object(headers);
    }
    response
}

fn content(content: &Content) -> Value {
    json!({content.kind: {"schema": content.schema}})
}

/// Prometheus' format, which is not ours to name.
fn metrics_schemas() -> Map<String, Value> {
    let value = json!({
        "type": "array",
        "items": {"type": ["number", "string"]},
        "minItems": 2,
        "maxItems": 2,
        "description": "Seconds since 1970, and the value as text.",
    });
    let success = |kind: &str, field: &str, shown: Value| {
        let metric = json!({"type": "object", "additionalProperties": {"type": "string"}});
        let result = json!({
            "type": "object",
            "required": ["metric", field],
            "properties": {"metric": metric, field: shown},
        });
        json!({
            "type": "object",
            "required": ["status", "data"],
            "properties": {
                "status": {"const": "success"},
                "data": {
                    "type": "object",
                    "required": ["resultType", "result"],
                    "properties": {
                        "resultType": {"const": kind},
                        "result": {"type": "array", "items": result},
                    },
                },
            },
        })
    };
    let error = json!({
        "type": "object",
        "required": ["status", "errorType", "error"],
        "properties": {
            "status": {"const": "error"},
            "errorType": {"enum": ["bad_data", "execution"]},
            "error": {"type": "string"},
        },
    });
    let vector = success("vector", "value", value.clone());
    let matrix = success("matrix", "values", json!({"type": "array", "items": value}));
    [
        ("MetricsVector", vector),
        ("MetricsMatrix", matrix),
        ("MetricsError", error),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}
