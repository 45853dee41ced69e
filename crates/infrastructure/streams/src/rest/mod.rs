//! The REST interface of the controller, as Pravega has it (`shared/controller-api/src/main/swagger/Controller.yaml`): scopes, streams, health.
//!
//! ```text
//!  HTTP ─▶ a path and JSON ─▶ a message of gRPC ─▶ controller::Service ─▶ its answer, as a status and JSON
//! ```
//!
//! It decides nothing: what may be done, by whom, and what comes of it is what the controller says over gRPC. Errors are sentences, as plain text.

mod answers;
mod model;
mod port;
mod query;
mod scopes;
mod streams;

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use tonic::metadata::MetadataMap;

use crate::controller::Service;

use self::answers::{Failure, json};

pub(crate) use self::port::Door;

/// Of what a request brings.
const BODY_BYTES_MAX: usize = 256 << 10;

/// So long an answer may take, with the rest of the request.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked under which path.
pub(crate) fn routes(service: Service) -> Router {
    let scope = "/v1/scopes/{scope}";
    let of_scope = |rest: &str| format!("{scope}{rest}");
    Router::new()
        .route("/ping", get(async || StatusCode::OK))
        .route("/v1/health", get(health))
        .route("/v1/health/status", get(status))
        .route("/v1/health/readiness", get(is_ready))
        .route("/v1/health/liveness", get(async || json(&true)))
        .route("/v1/health/details", get(async || "{}"))
        .route("/v1/scopes", get(scopes::list).post(scopes::create))
        .route(scope, get(scopes::find).delete(scopes::delete))
        .route(
            &of_scope("/streams"),
            get(streams::list).post(streams::create),
        )
        .route(
            &of_scope("/streams/{stream}"),
            get(streams::find)
                .put(streams::update)
                .delete(streams::delete),
        )
        .route(&of_scope("/streams/{stream}/state"), put(streams::seal))
        .route(
            &of_scope("/streams/{stream}/scaling-events"),
            get(streams::scaling_events),
        )
        .route(&of_scope("/readergroups"), get(later))
        .route(&of_scope("/readergroups/{group}"), get(later).delete(later))
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "there is nothing here"))
        .layer(middleware::from_fn(within))
        .with_state(service)
}

/// What was begun by then goes on.
async fn within(request: Request, next: Next) -> Response {
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let what = "it takes longer than anybody waits here: ask later what has become of it";
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, what).into_response()
        }
    }
}

/// The message, sent by whom the header names.
fn call<T>(headers: &HeaderMap, message: T) -> tonic::Request<T> {
    let mut call = tonic::Request::new(message);
    if let Some(value) = headers.get(AUTHORIZATION) {
        let headers = [(AUTHORIZATION, value.clone())].into_iter().collect();
        *call.metadata_mut() = MetadataMap::from_headers(headers);
    }
    call
}

async fn later() -> Failure {
    let what = "reader groups are not served over REST yet";
    Failure::new(StatusCode::NOT_IMPLEMENTED, what)
}

fn word(service: &Service) -> &'static str {
    if service.is_served() { "UP" } else { "DOWN" }
}

async fn health(State(service): State<Service>) -> Response {
    json(&serde_json::json!({
        "name": "controller", "status": word(&service), "readiness": service.is_served(),
        "liveness": true, "details": {}, "children": {},
    }))
}

async fn status(State(service): State<Service>) -> Response {
    json(&word(&service))
}

async fn is_ready(State(service): State<Service>) -> Response {
    json(&service.is_served())
}

#[cfg(test)]
mod tests;
