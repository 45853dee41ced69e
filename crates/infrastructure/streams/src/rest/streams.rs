//! Streams.

use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use streams_proto::controller as wire;
use streams_proto::controller::controller_service_server::ControllerService as _;
use tonic::Code;
use wire::create_stream_status::Status as Created;
use wire::delete_stream_status::Status as Deleted;
use wire::streams_in_scope_response::Status as Listed;
use wire::update_stream_status::Status as Updated;

use crate::controller::Service;

use super::answers::{Answer, Failure, body, json};
use super::model::{
    ScaleMetadata, StreamProperty, StreamRequest, StreamState, StreamsList, user_name,
};
use super::{call, query};

/// Its names begin so, if the platform or a client has made it for itself.
const INTERNAL_PREFIX: char = '_';

fn info(scope: &str, stream: &str) -> wire::StreamInfo {
    wire::StreamInfo {
        scope: scope.to_owned(),
        stream: stream.to_owned(),
        access_operation: 0,
    }
}

fn no_stream() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "there is no such stream")
}

/// Which of a scope's streams are asked for.
enum Filter {
    Users,
    Internal,
    Tagged(String),
}

impl Filter {
    fn parse(query: Option<&str>) -> Result<Self, Failure> {
        let [kind, value] = query::values(query, ["filter_type", "filter_value"])?;
        Ok(match (kind.as_deref(), value) {
            (None, _) => Self::Users,
            (Some("showInternalStreams"), _) => Self::Internal,
            (Some("tag"), Some(tag)) => Self::Tagged(tag),
            (Some("tag"), None) => return Err(Failure::bad("filter_value says which tag")),
            _ => return Err(Failure::bad("filter_type is showInternalStreams or tag")),
        })
    }

    fn has(&self, stream: &str) -> bool {
        let is_internal = stream.starts_with(INTERNAL_PREFIX);
        match self {
            Self::Users => !is_internal,
            Self::Internal => is_internal,
            Self::Tagged(_) => true,
        }
    }
}

pub(super) async fn list(
    State(service): State<Service>,
    Path(scope): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let filter = Filter::parse(query.as_deref())?;
    let (mut streams, mut token) = (Vec::new(), None);
    loop {
        let page = page(&service, &headers, (&scope, &filter), token).await?;
        if page.status() == Listed::ScopeNotFound {
            return Err(Failure::new(
                StatusCode::NOT_FOUND,
                "there is no such scope",
            ));
        }
        if page.streams.is_empty() {
            return Ok(json(&StreamsList { streams }));
        }
        for stream in page.streams {
            if !filter.has(&stream.stream) {
                continue;
            }
            match service
                .get_stream_configuration(call(&headers, stream))
                .await
            {
                Ok(config) => streams.push(StreamProperty::from(config.into_inner())),
                // It has been deleted in between.
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => return Err(status.into()),
            }
        }
        token = page.continuation_token;
    }
}

async fn page(
    service: &Service,
    headers: &HeaderMap,
    (scope, filter): (&str, &Filter),
    continuation_token: Option<wire::ContinuationToken>,
) -> Result<wire::StreamsInScopeResponse, Failure> {
    let scope = Some(wire::ScopeInfo {
        scope: scope.to_owned(),
    });
    let page = if let Filter::Tagged(tag) = filter {
        let asked = wire::StreamsInScopeWithTagRequest {
            scope,
            tag: tag.clone(),
            continuation_token,
        };
        service
            .list_streams_in_scope_for_tag(call(headers, asked))
            .await?
    } else {
        let asked = wire::StreamsInScopeRequest {
            scope,
            continuation_token,
        };
        service.list_streams_in_scope(call(headers, asked)).await?
    };
    Ok(page.into_inner())
}

pub(super) async fn create(
    State(service): State<Service>,
    Path(scope): Path<String>,
    request: Request,
) -> Answer {
    let asked = call(request.headers(), ());
    let mut stream: StreamRequest = body(request).await?;
    let name = stream.stream_name.take();
    let name = name.ok_or_else(|| Failure::bad("streamName is missing"))?;
    user_name(&name)?;
    let config = stream.config(info(&scope, &name))?;
    let created = service.create_stream(asked.map(|()| config.clone()));
    let told = created.await?.into_inner().status();
    let status = match told {
        Created::Success => {
            let created = json(&StreamProperty::from(config));
            return Ok((StatusCode::CREATED, created).into_response());
        }
        Created::StreamExists => StatusCode::CONFLICT,
        Created::ScopeNotFound => StatusCode::NOT_FOUND,
        Created::InvalidStreamName => StatusCode::BAD_REQUEST,
        Created::Failure => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Err(Failure::told(told.as_str_name(), status))
}

pub(super) async fn find(
    State(service): State<Service>,
    Path((scope, stream)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let asked = call(&headers, info(&scope, &stream));
    let config = service.get_stream_configuration(asked).await?;
    Ok(json(&StreamProperty::from(config.into_inner())))
}

pub(super) async fn update(
    State(service): State<Service>,
    Path((scope, stream)): Path<(String, String)>,
    request: Request,
) -> Answer {
    let asked = call(request.headers(), ());
    let update: StreamRequest = body(request).await?;
    if update.stream_name.is_some() {
        return Err(Failure::bad(
            "the address says which stream: leave streamName out",
        ));
    }
    let config = update.config(info(&scope, &stream))?;
    let updated = service.update_stream(asked.map(|()| config.clone()));
    done(updated.await?.into_inner().status())?;
    Ok(json(&StreamProperty::from(config)))
}

/// The only state that is asked for.
pub(super) async fn seal(
    State(service): State<Service>,
    Path((scope, stream)): Path<(String, String)>,
    request: Request,
) -> Answer {
    let asked = call(request.headers(), info(&scope, &stream));
    let state: StreamState = body(request).await?;
    done(service.seal_stream(asked).await?.into_inner().status())?;
    Ok(json(&state))
}

fn done(told: Updated) -> Result<(), Failure> {
    let status = match told {
        Updated::Success => return Ok(()),
        Updated::StreamNotFound | Updated::ScopeNotFound => return Err(no_stream()),
        Updated::StreamSealed => StatusCode::PRECONDITION_FAILED,
        Updated::Failure => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Err(Failure::told(told.as_str_name(), status))
}

pub(super) async fn delete(
    State(service): State<Service>,
    Path((scope, stream)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let deleted = service.delete_stream(call(&headers, info(&scope, &stream)));
    let told = deleted.await?.into_inner().status();
    let status = match told {
        Deleted::Success => return Ok(StatusCode::NO_CONTENT.into_response()),
        Deleted::StreamNotFound => return Err(no_stream()),
        Deleted::StreamNotSealed => StatusCode::PRECONDITION_FAILED,
        Deleted::Failure => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Err(Failure::told(told.as_str_name(), status))
}

pub(super) async fn scaling_events(
    State(service): State<Service>,
    Path((scope, stream)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let [from, to] = query::values(query.as_deref(), ["from", "to"])?;
    let ms = |text: Option<String>| {
        let ms = text.and_then(|text| text.parse::<i64>().ok());
        ms.and_then(|ms| u64::try_from(ms).ok())
    };
    let asked = call(&headers, info(&scope, &stream));
    let (Some(from), Some(to)) = (ms(from), ms(to)) else {
        return Err(Failure::bad("from and to are milliseconds since 1970"));
    };
    if from > to {
        return Err(Failure::bad("from is later than to"));
    }
    let events = service.scale_events(&asked, from..=to).await?;
    let events: Vec<_> = events.into_iter().map(ScaleMetadata::from).collect();
    Ok(json(&events))
}
