//! Scopes.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use serde::Deserialize;
use streams_proto::controller as wire;
use streams_proto::controller::controller_service_server::ControllerService as _;
use wire::create_scope_status::Status as Created;
use wire::delete_scope_status::Status as Deleted;

use crate::controller::Service;

use super::answers::{Answer, Failure, body, json};
use super::call;
use super::model::{ScopeProperty, ScopesList, user_name};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateScopeRequest {
    scope_name: String,
}

fn info(scope: &str) -> wire::ScopeInfo {
    let scope = scope.to_owned();
    wire::ScopeInfo { scope }
}

fn property(scope: String) -> ScopeProperty {
    ScopeProperty { scope_name: scope }
}

pub(super) async fn list(State(service): State<Service>, headers: HeaderMap) -> Answer {
    let (mut scopes, mut token) = (Vec::new(), None);
    loop {
        let asked = wire::ScopesRequest {
            continuation_token: token,
        };
        let page = service.list_scopes(call(&headers, asked)).await?;
        let page = page.into_inner();
        if page.scopes.is_empty() {
            return Ok(json(&ScopesList { scopes }));
        }
        scopes.extend(page.scopes.into_iter().map(property));
        token = page.continuation_token;
    }
}

pub(super) async fn create(State(service): State<Service>, request: Request) -> Answer {
    let asked = call(request.headers(), ());
    let CreateScopeRequest { scope_name } = body(request).await?;
    user_name(&scope_name)?;
    let created = service.create_scope(asked.map(|()| info(&scope_name)));
    let told = created.await?.into_inner().status();
    let status = match told {
        Created::Success => {
            let created = json(&property(scope_name));
            return Ok((StatusCode::CREATED, created).into_response());
        }
        Created::ScopeExists => StatusCode::CONFLICT,
        Created::InvalidScopeName => StatusCode::BAD_REQUEST,
        Created::Failure => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Err(Failure::told(told.as_str_name(), status))
}

pub(super) async fn find(
    State(service): State<Service>,
    Path(scope): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let found = service.check_scope_exists(call(&headers, info(&scope)));
    if found.await?.into_inner().exists {
        return Ok(json(&property(scope)));
    }
    Err(Failure::new(
        StatusCode::NOT_FOUND,
        "there is no such scope",
    ))
}

pub(super) async fn delete(
    State(service): State<Service>,
    Path(scope): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let deleted = service.delete_scope(call(&headers, info(&scope)));
    let told = deleted.await?.into_inner().status();
    let status = match told {
        Deleted::Success => return Ok(StatusCode::NO_CONTENT.into_response()),
        Deleted::ScopeNotFound => StatusCode::NOT_FOUND,
        Deleted::ScopeNotEmpty => StatusCode::PRECONDITION_FAILED,
        Deleted::Failure => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Err(Failure::told(told.as_str_name(), status))
}
