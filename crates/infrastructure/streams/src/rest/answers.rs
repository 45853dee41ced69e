//! What is answered.

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Code, Status};

use super::BODY_BYTES_MAX;

/// A status, and what is to be done about it.
#[derive(Debug)]
pub(super) struct Failure(StatusCode, String);

pub(super) type Answer = Result<Response, Failure>;

impl Failure {
    pub(super) fn new(status: StatusCode, what: impl Into<String>) -> Self {
        Self(status, what.into())
    }

    pub(super) fn bad(what: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, what)
    }

    /// For an outcome that has a status in the messages of gRPC.
    pub(super) fn told(name: &str, status: StatusCode) -> Self {
        let words = name.to_ascii_lowercase().replace('_', " ");
        Self::new(status, words)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let code = match status.code() {
            Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::AlreadyExists => StatusCode::CONFLICT,
            Code::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(code, status.message())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(status, what) = self;
        let mut response = (status, what + "\n").into_response();
        if status == StatusCode::UNAUTHORIZED {
            let asked = header::HeaderValue::from_static("Basic realm=\"streams\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, asked);
        }
        response
    }
}

pub(super) fn json(what: &impl Serialize) -> Response {
    match serde_json::to_string(what) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Failure::new(status, error.to_string()).into_response()
        }
    }
}

/// What a request brings, if it is no more than it may be.
pub(super) async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Failure> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let what = "send JSON, and say so: Content-Type: application/json";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, what));
    }
    let too_large = || {
        let what = format!("a request has {BODY_BYTES_MAX} bytes at most");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, what)
    };
    let body = request.into_body();
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let read = axum::body::to_bytes(body, BODY_BYTES_MAX).await;
    let bytes = read.map_err(|_| too_large())?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::bad(error.to_string()))
}
