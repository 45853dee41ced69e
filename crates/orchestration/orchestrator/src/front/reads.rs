//! What is only looked at.

use std::sync::LazyLock;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse as _, Response};
use nbi::Units;

use super::answer::{Answer, JSON, Refusal, json};
use super::call::{Call, Window};
use super::{Front, openapi};

/// Made once: it does not change.
static DOCUMENT: LazyLock<Vec<u8>> =
    LazyLock::new(|| serde_json::to_vec(&openapi::document()).unwrap_or_default());

pub(super) async fn sites(State(front): State<Front>, call: Call) -> Answer {
    let Window { cursor, limit } = call.window()?;
    json(
        &front
            .controller
            .sites(&call.org, cursor.as_deref(), limit)?,
    )
}

pub(super) async fn site(State(front): State<Front>, call: Call) -> Answer {
    json(&front.controller.site(&call.org, &call.name("name")?)?)
}

pub(super) async fn services(State(front): State<Front>, call: Call) -> Answer {
    let Window { cursor, limit } = call.window()?;
    json(
        &front
            .controller
            .services(&call.org, cursor.as_deref(), limit)?,
    )
}

pub(super) async fn service(State(front): State<Front>, call: Call) -> Answer {
    let service = front.controller.service(&call.org, &call.name("name")?)?;
    let mut response = json(&service)?;
    let version = service.metadata.resource_version.unwrap_or_default();
    if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

pub(super) async fn units(State(front): State<Front>, call: Call) -> Answer {
    let items = front.controller.units(&call.org, &call.name("name")?)?;
    json(&Units { items })
}

pub(super) async fn explain(State(front): State<Front>, call: Call) -> Answer {
    json(&front.controller.explain(&call.org, &call.name("name")?)?)
}

pub(super) async fn migrations(State(front): State<Front>, call: Call) -> Answer {
    let Window { cursor, limit } = call.window()?;
    json(
        &front
            .controller
            .migrations(&call.org, cursor.as_deref(), limit)?,
    )
}

pub(super) async fn migration(State(front): State<Front>, call: Call) -> Answer {
    json(&front.controller.migration(&call.org, call.text("id"))?)
}

pub(super) async fn operations(State(front): State<Front>, call: Call) -> Answer {
    let Window { cursor, limit } = call.window()?;
    json(
        &front
            .controller
            .operations(&call.org, cursor.as_deref(), limit)?,
    )
}

pub(super) async fn operation(State(front): State<Front>, call: Call) -> Answer {
    const WAIT_MAX: Duration = Duration::from_secs(60);
    let id = call.text("id");
    json(&match call.duration("wait")? {
        None => front.controller.operation(&call.org, id)?,
        Some(wait) => {
            let wait = wait.min(WAIT_MAX);
            front.controller.wait_operation(&call.org, id, wait).await?
        }
    })
}

/// For whoever has no token yet: it says how to use one.
pub(super) async fn document() -> Response {
    ([(CONTENT_TYPE, JSON)], DOCUMENT.as_slice()).into_response()
}

/// Whoever is answered has reached a process that answers.
pub(super) async fn health() -> Response {
    "ok\n".into_response()
}

/// It does not listen before it has read its store; and when it cannot go on, it says so until it is ended.
pub(super) async fn ready(State(front): State<Front>) -> Answer {
    match front.controller.inner().failure.get() {
        None => Ok("ok\n".into_response()),
        Some(what) => Err(Refusal::new(503, format!("it cannot go on: {what}"))),
    }
}
