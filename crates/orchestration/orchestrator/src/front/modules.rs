//! Modules: bytes that are named by their digest.

use axum::extract::State;
use axum::http::StatusCode;
use ids::Digest;

use super::Front;
use super::answer::{Answer, Refusal, done};
use super::call::Call;
use crate::controller::modules::MODULE_BYTES_MAX;

fn digest(call: &Call) -> Result<Digest, Refusal> {
    let digest = call.text("digest").strip_prefix("sha256:");
    let digest = digest.and_then(|digest| digest.parse().ok());
    digest.ok_or_else(|| Refusal::new(404, "a module is named by `sha256:` and 64 of 0-9 and a-f"))
}

pub(super) async fn put(State(front): State<Front>, call: Call) -> Answer {
    let (digest, org) = (digest(&call)?, call.org.clone());
    let is_new = !front.controller.has_module(&org, &digest);
    let bytes_max = usize::try_from(MODULE_BYTES_MAX).unwrap_or(usize::MAX);
    let mut pieces = call.pieces(bytes_max)?;
    let mut upload = front.controller.put_module(&org, &digest).await?;
    while let Some(piece) = pieces.next().await? {
        upload.write(piece).await?;
    }
    upload.finish().await?;
    Ok(done(if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::NO_CONTENT
    }))
}

pub(super) async fn head(State(front): State<Front>, call: Call) -> Answer {
    if front.controller.has_module(&call.org, &digest(&call)?) {
        Ok(done(StatusCode::OK))
    } else {
        Err(Refusal::new(
            404,
            "there is no such module: upload it with PUT",
        ))
    }
}

pub(super) async fn delete(State(front): State<Front>, call: Call) -> Answer {
    let digest = digest(&call)?;
    front.controller.delete_module(&call.org, &digest).await?;
    Ok(done(StatusCode::NO_CONTENT))
}
