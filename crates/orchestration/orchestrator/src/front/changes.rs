//! What changes something: each is answered with the operation that it began.

use std::time::Duration;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use ids::Name;
use nbi::{Decisions, MigrationSpec, NewJoinToken, PolicyRequest, Scale, Service, parse_duration};

use super::Front;
use super::answer::{Answer, Refusal, accepted, done, json, json_of};
use super::call::{Call, Conditions, Tags};
use crate::ErrorKind;
use crate::controller::Terms;

/// Creates a service that does not exist.
pub(super) async fn create(State(front): State<Front>, call: Call) -> Answer {
    let terms = Terms {
        if_absent: true,
        ..unconditional(&call)?
    };
    let org = call.org.clone();
    let service: Service = call.body().await?;
    let applied = front.controller.apply_service(&org, &service, &terms).await;
    accepted(&applied.map_err(|error| match error.kind {
        // The caller has named no precondition: to them it is simply taken.
        ErrorKind::Precondition => {
            let detail = format!(
                "there is a service `{}`: change it with PUT",
                service.metadata.name
            );
            Refusal::new(409, detail).at("/metadata/name")
        }
        _ => error.into(),
    })?)
}

pub(super) async fn apply(State(front): State<Front>, call: Call) -> Answer {
    let (name, conditions, org) = (call.name("name")?, call.conditions()?, call.org.clone());
    let service: Service = call.body().await?;
    if service.metadata.name != name {
        let detail = format!("the path says `{name}`");
        return Err(Refusal::new(422, detail).at("/metadata/name"));
    }
    let terms = resolve(&front, &org, &name, conditions)?;
    accepted(
        &front
            .controller
            .apply_service(&org, &service, &terms)
            .await?,
    )
}

pub(super) async fn delete(State(front): State<Front>, call: Call) -> Answer {
    let name = call.name("name")?;
    let terms = resolve(&front, &call.org, &name, call.conditions()?)?;
    accepted(
        &front
            .controller
            .delete_service(&call.org, &name, &terms)
            .await?,
    )
}

pub(super) async fn scale(State(front): State<Front>, call: Call) -> Answer {
    let (name, conditions, org) = (call.name("name")?, call.conditions()?, call.org.clone());
    let Scale { block, replicas } = call.body().await?;
    let terms = resolve(&front, &org, &name, conditions)?;
    let scaled = front
        .controller
        .scale(&org, &name, &block, replicas, &terms);
    accepted(&scaled.await?)
}

/// Answered with what was decided. Asked again, the rules run again.
pub(super) async fn request(State(front): State<Front>, call: Call) -> Answer {
    let (name, org) = (call.name("name")?, call.org.clone());
    let request: PolicyRequest = call.body().await?;
    let items = front.controller.request(&org, &name, &request).await?;
    json(&Decisions { items })
}

pub(super) async fn migrate(State(front): State<Front>, call: Call) -> Answer {
    let terms = unconditional(&call)?;
    let org = call.org.clone();
    let spec: MigrationSpec = call.body().await?;
    accepted(&front.controller.migrate(&org, &spec, &terms).await?)
}

pub(super) async fn adopt(State(front): State<Front>, call: Call) -> Answer {
    let (name, terms) = (call.name("name")?, unconditional(&call)?);
    accepted(
        &front
            .controller
            .adopt_site(&call.org, &name, &terms)
            .await?,
    )
}

/// Done when it is answered. What is forgotten already is forgotten.
pub(super) async fn forget(State(front): State<Front>, call: Call) -> Answer {
    let name = call.name("name")?;
    front.controller.forget_site(&call.org, &name).await?;
    Ok(done(StatusCode::NO_CONTENT))
}

/// Answered with the token, once: asked again, it makes another.
pub(super) async fn issue_join_token(State(front): State<Front>, call: Call) -> Answer {
    let NewJoinToken { site, ttl } = call.body().await?;
    let ttl = match ttl {
        None => JOIN_TTL,
        Some(ttl) => {
            parse_duration(&ttl).map_err(|e| Refusal::new(400, e.to_string()).at("/ttl"))?
        }
    };
    let issued = front
        .controller
        .issue_join_token(site.as_ref(), ttl)
        .await?;
    let mut response = json_of(201, &issued);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

const JOIN_TTL: Duration = Duration::from_secs(3600);

/// For what has no version before.
fn unconditional(call: &Call) -> Result<Terms, Refusal> {
    Ok(Terms {
        idempotency_key: call.conditions()?.idempotency_key,
        ..Terms::default()
    })
}

/// What the conditions mean for this service as it is now. The controller looks again when it decides.
fn resolve(
    front: &Front,
    org: &Name,
    name: &Name,
    conditions: Conditions,
) -> Result<Terms, Refusal> {
    if conditions.if_match.is_none() && conditions.if_none_match.is_none() {
        return Ok(Terms {
            idempotency_key: conditions.idempotency_key,
            ..Terms::default()
        });
    }
    let current = match front.controller.service(org, name) {
        Ok(service) => service.metadata.resource_version,
        Err(error) if error.kind == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let if_match = match (conditions.if_match, &current) {
        (None, _) => None,
        (Some(Tags::Any), Some(current)) => Some(current.clone()),
        (Some(Tags::These(tags)), Some(current)) if tags.contains(current) => Some(current.clone()),
        // It may have existed, and had this version, when a request with the same key was done: the controller knows. No version is empty.
        (Some(Tags::Any), None) => Some(String::new()),
        (Some(Tags::These(tags)), _) => Some(tags.into_iter().next().unwrap_or_default()),
    };
    let if_absent = conditions.if_none_match == Some(Tags::Any);
    if let (Some(Tags::These(tags)), Some(current)) = (conditions.if_none_match, &current)
        && tags.contains(current)
    {
        return Err(Refusal::new(412, "it has this version"));
    }
    Ok(Terms {
        if_match,
        if_absent,
        idempotency_key: conditions.idempotency_key,
    })
}
