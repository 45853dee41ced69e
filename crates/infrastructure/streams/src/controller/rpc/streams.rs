//! Streams.

use streams_control::{
    Control, Name, Page, Refusal, Request as Change, Response as Done, StreamName,
};
use streams_proto::controller as wire;
use tonic::{Request, Status};
use wire::create_stream_status::Status as Created;
use wire::delete_stream_status::Status as Deleted;
use wire::streams_in_scope_response::Status as Listed;
use wire::update_stream_status::Status as Updated;

use super::convert::{info, status};
use super::{Service, convert};
use crate::controller::authority::{self, Permission};

pub(super) async fn create_stream(
    service: &Service,
    request: &Request<wire::StreamConfig>,
) -> Result<wire::CreateStreamStatus, Status> {
    let config = request.get_ref();
    let info = info(config.stream_info.as_ref())?;
    let told = |told: Created| {
        let status = told.into();
        Ok(wire::CreateStreamStatus { status })
    };
    let resource = authority::of_scope(&info.scope)?;
    service.check(request, &resource, authority::to_write(&info.stream))?;
    let Ok(scope) = Name::new(&info.scope) else {
        return told(Created::ScopeNotFound);
    };
    let Ok(stream) = Name::new(&info.stream) else {
        return told(Created::InvalidStreamName);
    };
    let config = convert::config(config).map_err(|refusal| status(&refusal))?;
    let stream = StreamName { scope, stream };
    match service.request(Change::CreateStream(stream, config)).await {
        Ok(_) => told(Created::Success),
        Err(Refusal::StreamExists) => told(Created::StreamExists),
        Err(Refusal::NoScope) => told(Created::ScopeNotFound),
        Err(Refusal::Precondition(_)) => told(Created::Failure),
        Err(refusal) => Err(status(&refusal)),
    }
}

pub(super) async fn update_stream(
    service: &Service,
    request: &Request<wire::StreamConfig>,
) -> Result<wire::UpdateStreamStatus, Status> {
    let config = request.get_ref();
    let stream = service.stream(request, config.stream_info.as_ref(), Permission::ReadUpdate)?;
    let config = convert::config(config).map_err(|refusal| status(&refusal))?;
    let updated = match stream {
        Ok(stream) => service.request(Change::UpdateStream(stream, config)).await,
        Err(refusal) => Err(refusal),
    };
    told_of_update(updated)
}

pub(super) async fn truncate_stream(
    service: &Service,
    request: &Request<wire::StreamCut>,
) -> Result<wire::UpdateStreamStatus, Status> {
    let cut = request.get_ref();
    let stream = service.stream(request, cut.stream_info.as_ref(), Permission::ReadUpdate)?;
    let updated = match stream.and_then(|stream| Ok((stream, convert::cut(&cut.cut)?))) {
        Ok((stream, cut)) => service.request(Change::TruncateStream(stream, cut)).await,
        Err(refusal) => Err(refusal),
    };
    told_of_update(updated)
}

pub(super) async fn seal_stream(
    service: &Service,
    request: &Request<wire::StreamInfo>,
) -> Result<wire::UpdateStreamStatus, Status> {
    let updated = match service.stream(request, Some(request.get_ref()), Permission::ReadUpdate)? {
        Ok(stream) => service.request(Change::SealStream(stream)).await,
        Err(refusal) => Err(refusal),
    };
    told_of_update(updated)
}

fn told_of_update(updated: Result<Done, Refusal>) -> Result<wire::UpdateStreamStatus, Status> {
    let told = match updated {
        Ok(_) => Updated::Success,
        Err(Refusal::NoStream | Refusal::NoScope) => Updated::StreamNotFound,
        Err(Refusal::StreamSealed) => Updated::StreamSealed,
        Err(Refusal::Precondition(_)) => Updated::Failure,
        Err(refusal) => return Err(status(&refusal)),
    };
    let status = told.into();
    Ok(wire::UpdateStreamStatus { status })
}

pub(super) async fn delete_stream(
    service: &Service,
    request: &Request<wire::StreamInfo>,
) -> Result<wire::DeleteStreamStatus, Status> {
    let deleted = match service.stream(request, Some(request.get_ref()), Permission::ReadUpdate)? {
        Ok(stream) => service.request(Change::DeleteStream(stream)).await,
        Err(refusal) => Err(refusal),
    };
    let told = match deleted {
        Ok(_) => Deleted::Success,
        Err(Refusal::NoStream | Refusal::NoScope) => Deleted::StreamNotFound,
        Err(Refusal::StreamNotSealed) => Deleted::StreamNotSealed,
        Err(refusal) => return Err(status(&refusal)),
    };
    let status = told.into();
    Ok(wire::DeleteStreamStatus { status })
}

pub(super) fn get_stream_configuration(
    service: &Service,
    request: &Request<wire::StreamInfo>,
) -> Result<wire::StreamConfig, Status> {
    let stream = service.stream(request, Some(request.get_ref()), Permission::Read)?;
    let config = stream.and_then(|stream| {
        service.ask(|control| {
            let config = control.config(&stream)?;
            Ok(convert::stream_config(&stream, config))
        })
    });
    config.map_err(|refusal| status(&refusal))
}

pub(super) fn check_stream_exists(
    service: &Service,
    request: &Request<wire::StreamInfo>,
) -> Result<wire::ExistsResponse, Status> {
    let stream = service.stream(request, Some(request.get_ref()), Permission::Read)?;
    let exists = match stream {
        Ok(stream) => service.ask(|control| Ok(control.has_stream(&stream))),
        Err(_) => Ok(false),
    };
    let exists = exists.map_err(|refusal| status(&refusal))?;
    Ok(wire::ExistsResponse { exists })
}

pub(super) fn list_streams_in_scope(
    service: &Service,
    request: &Request<wire::StreamsInScopeRequest>,
) -> Result<wire::StreamsInScopeResponse, Status> {
    let asked = request.get_ref();
    list(
        service,
        request,
        asked.scope.as_ref(),
        asked.continuation_token.as_ref(),
        Control::list_streams,
    )
}

pub(super) fn list_streams_in_scope_for_tag(
    service: &Service,
    request: &Request<wire::StreamsInScopeWithTagRequest>,
) -> Result<wire::StreamsInScopeResponse, Status> {
    let asked = request.get_ref();
    list(
        service,
        request,
        asked.scope.as_ref(),
        asked.continuation_token.as_ref(),
        |control, scope, token| control.list_tagged(scope, &asked.tag, token),
    )
}

fn list<T>(
    service: &Service,
    request: &Request<T>,
    scope: Option<&wire::ScopeInfo>,
    token: Option<&wire::ContinuationToken>,
    page: impl Fn(&Control, &Name, &str) -> Result<Page, Refusal>,
) -> Result<wire::StreamsInScopeResponse, Status> {
    let scope = scope.ok_or_else(|| Status::invalid_argument("no scope is named"))?;
    let resource = authority::of_scope(&scope.scope)?;
    service.check(request, &resource, Permission::Read)?;
    let scope = scope.scope.as_str();
    let listed = convert::scope(scope).and_then(|name| {
        service.list(
            request.metadata(),
            token,
            |control, token| page(control, &name, token),
            |stream| authority::of_stream(scope, stream.as_str()),
        )
    });
    let (streams, token, told) = match listed {
        Ok((streams, token)) => (streams, Some(token), Listed::Success),
        Err(Refusal::NoScope) => (Vec::new(), None, Listed::ScopeNotFound),
        Err(refusal) => return Err(status(&refusal)),
    };
    let info = |stream: Name| wire::StreamInfo {
        scope: scope.to_owned(),
        stream: stream.to_string(),
        access_operation: 0,
    };
    Ok(wire::StreamsInScopeResponse {
        streams: streams.into_iter().map(info).collect(),
        continuation_token: token,
        status: told.into(),
    })
}
