//! Scopes.

use streams_control::{Name, Refusal, Request as Change};
use streams_proto::controller as wire;
use tonic::{Request, Status};
use wire::create_scope_status::Status as Created;
use wire::delete_scope_status::Status as Deleted;

use super::convert::status;
use super::{Service, convert};
use crate::controller::authority::{self, Permission, SCOPES};

pub(super) async fn create_scope(
    service: &Service,
    request: &Request<wire::ScopeInfo>,
) -> Result<wire::CreateScopeStatus, Status> {
    service.check(request, SCOPES, Permission::ReadUpdate)?;
    let told = match Name::new(&request.get_ref().scope) {
        Err(_) => Created::InvalidScopeName,
        Ok(scope) => match service.request(Change::CreateScope(scope)).await {
            Ok(_) => Created::Success,
            Err(Refusal::ScopeExists) => Created::ScopeExists,
            Err(refusal) => return Err(status(&refusal)),
        },
    };
    let status = told.into();
    Ok(wire::CreateScopeStatus { status })
}

pub(super) async fn delete_scope(
    service: &Service,
    request: &Request<wire::ScopeInfo>,
) -> Result<wire::DeleteScopeStatus, Status> {
    delete(service, request, Change::DeleteScope).await
}

pub(super) async fn delete_scope_recursive(
    service: &Service,
    request: &Request<wire::ScopeInfo>,
) -> Result<wire::DeleteScopeStatus, Status> {
    delete(service, request, Change::DeleteScopeRecursive).await
}

async fn delete(
    service: &Service,
    request: &Request<wire::ScopeInfo>,
    change: fn(Name) -> Change,
) -> Result<wire::DeleteScopeStatus, Status> {
    service.check(request, SCOPES, Permission::ReadUpdate)?;
    let deleted = match convert::scope(&request.get_ref().scope) {
        Ok(scope) => service.request(change(scope)).await,
        Err(refusal) => Err(refusal),
    };
    let told = match deleted {
        Ok(_) => Deleted::Success,
        Err(Refusal::NoScope) => Deleted::ScopeNotFound,
        Err(Refusal::ScopeNotEmpty) => Deleted::ScopeNotEmpty,
        // It is the system's own.
        Err(Refusal::Invalid(_)) => Deleted::Failure,
        Err(refusal) => return Err(status(&refusal)),
    };
    let status = told.into();
    Ok(wire::DeleteScopeStatus { status })
}

pub(super) fn list_scopes(
    service: &Service,
    request: &Request<wire::ScopesRequest>,
) -> Result<wire::ScopesResponse, Status> {
    service.check(request, SCOPES, Permission::Read)?;
    let token = request.get_ref().continuation_token.as_ref();
    let listed = service.list(
        request.metadata(),
        token,
        |control, token| Ok(control.list_scopes(token)),
        |scope| authority::of_scope(scope.as_str()),
    );
    let (scopes, token) = listed.map_err(|refusal| status(&refusal))?;
    Ok(wire::ScopesResponse {
        scopes: scopes.iter().map(ToString::to_string).collect(),
        continuation_token: Some(token),
    })
}

pub(super) fn check_scope_exists(
    service: &Service,
    request: &Request<wire::ScopeInfo>,
) -> Result<wire::ExistsResponse, Status> {
    let scope = &request.get_ref().scope;
    let resource = authority::of_scope(scope)?;
    service.check(request, &resource, Permission::Read)?;
    let exists = match Name::new(scope) {
        Ok(scope) => service.ask(|control| Ok(control.has_scope(&scope))),
        Err(_) => Ok(false),
    };
    let exists = exists.map_err(|refusal| status(&refusal))?;
    Ok(wire::ExistsResponse { exists })
}
