//! What is answered.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use nbi::{Operation, Problem};
use serde::Serialize;

use crate::{Error, ErrorKind};

pub(super) const JSON: &str = "application/json";
const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was not served, as it is told.
#[derive(Debug)]
pub(super) struct Refusal(Box<Problem>);

pub(super) type Answer = Result<Response, Refusal>;

impl Refusal {
    pub(super) fn new(status: u16, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(status, detail)))
    }

    /// `pointer`: where in the body, or `?name` for a parameter.
    pub(super) fn at(self, pointer: impl Into<String>) -> Self {
        Self(Box::new(self.0.at(pointer)))
    }

    pub(super) fn status(&self) -> u16 {
        self.0.status
    }

    pub(super) fn detail(&self) -> &str {
        &self.0.detail
    }
}

impl From<Box<Problem>> for Refusal {
    fn from(problem: Box<Problem>) -> Self {
        Self(problem)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.kind {
            // What the interface does not describe was refused before: this is well formed.
            ErrorKind::Invalid | ErrorKind::KeyReused => 422,
            ErrorKind::NotFound => 404,
            ErrorKind::Conflict => 409,
            ErrorKind::Precondition => 412,
            ErrorKind::Gone => 410,
            ErrorKind::Exhausted => 429,
            ErrorKind::Unavailable => 503,
            ErrorKind::Internal => 500,
        };
        if status == 500 {
            tracing::error!(error = &error as &dyn std::error::Error, "a request failed");
            return Self::new(500, "an error on our side: see the controller's log");
        }
        let refusal = Self::new(status, error.message);
        match error.pointer {
            Some(pointer) => refusal.at(pointer),
            None => refusal,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json_of(self.status(), &self.0);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        match self.status() {
            401 => headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            429 | 503 => headers.insert(RETRY_AFTER, HeaderValue::from_static("1")),
            _ => None,
        };
        response
    }
}

/// A value that was asked for.
pub(super) fn json(value: &impl Serialize) -> Answer {
    Ok(json_of(200, value))
}

pub(super) fn json_of(status: u16, value: &impl Serialize) -> Response {
    let (status, text) = match (StatusCode::from_u16(status), serde_json::to_vec(value)) {
        (Ok(status), Ok(text)) => (status, text),
        (_, error) => {
            tracing::error!(?error, status, "an answer cannot be written");
            (StatusCode::INTERNAL_SERVER_ERROR, b"null".to_vec())
        }
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// What says all without a body.
pub(super) fn done(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A change that was taken on.
pub(super) fn accepted(operation: &Operation) -> Answer {
    let mut response = json_of(202, operation);
    let location = format!("/v1/operations/{}", operation.id);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

pub(super) async fn no_such_path() -> Refusal {
    Refusal::new(404, "no such path: /v1/openapi.json describes all")
}

pub(super) async fn no_such_method() -> Refusal {
    Refusal::new(
        405,
        "this cannot be done to it: the header Allow says what can",
    )
}
