//! Segments of streams: where they are, which there are and were, and others in their place.

use streams_control::{
    Control, Epoch, Refusal, Request as Change, Response as Done, ScaleStatus, Segment, SegmentId,
    StreamName, Successor,
};
use streams_proto::controller as wire;
use tonic::{Request, Status};
use wire::scale_response::ScaleStreamStatus;
use wire::scale_status_response::ScaleStatus as Told;
use wire::segments_at_time::SegmentLocation;
use wire::stream_info::AccessOperation;
use wire::successor_response::SegmentEntry;

use super::convert::{info, segment_id, segment_range, segment_ranges, status};
use super::{Service, convert};
use crate::controller::authority::{self, Permission};
use crate::controller::config::Endpoint;

fn node(endpoint: &Endpoint) -> wire::NodeUri {
    wire::NodeUri {
        endpoint: endpoint.host.clone(),
        port: endpoint.port.into(),
    }
}

pub(super) fn get_controller_server_list(
    service: &Service,
    _: &Request<wire::ServerRequest>,
) -> Result<wire::ServerResponse, Status> {
    service.served()?;
    let node_uri = service.published.controllers.iter().map(node).collect();
    Ok(wire::ServerResponse { node_uri })
}

/// Not all segments are those of a stream, and so it is not looked for.
pub(super) fn get_uri(
    service: &Service,
    request: &Request<wire::SegmentId>,
) -> Result<wire::NodeUri, Status> {
    service.served()?;
    let info = info(request.get_ref().stream_info.as_ref())?;
    let resource = authority::of_stream(&info.scope, &info.stream)?;
    service.check(request, &resource, Permission::Read)?;
    Ok(node(&service.published.store))
}

/// For any segments, as well. Who does not say what for gets it for everything.
pub(super) fn get_delegation_token(
    service: &Service,
    request: &Request<wire::StreamInfo>,
) -> Result<wire::DelegationToken, Status> {
    let info = request.get_ref();
    let (allowed, granted) = match info.access_operation() {
        AccessOperation::Unspecified => (Permission::ReadUpdate, Permission::ReadUpdate),
        AccessOperation::Any | AccessOperation::Write | AccessOperation::ReadWrite => {
            (authority::to_write(&info.stream), Permission::ReadUpdate)
        }
        AccessOperation::None | AccessOperation::Read => (Permission::Read, Permission::Read),
    };
    let resource = authority::of_stream(&info.scope, &info.stream)?;
    service.check(request, &resource, allowed)?;
    let segments = authority::of_segments(&info.scope, &info.stream)?;
    let delegation_token = service.token(request, &segments, granted)?;
    Ok(wire::DelegationToken { delegation_token })
}

/// A stream that may be read.
fn to_read<T>(
    service: &Service,
    request: &Request<T>,
    stream: Option<&wire::StreamInfo>,
) -> Result<StreamName, Status> {
    let stream = service.stream(request, stream, Permission::Read)?;
    stream.map_err(|refusal| status(&refusal))
}

/// A stream, and a token for its segments. Older clients expect one that is good for everything, wherever they are told of segments; others say
/// that they want none.
fn with_token<T>(
    service: &Service,
    request: &Request<T>,
    stream: Option<&wire::StreamInfo>,
) -> Result<(StreamName, String), Status> {
    let info = info(stream)?;
    if info.access_operation() == AccessOperation::None {
        return Ok((to_read(service, request, stream)?, String::new()));
    }
    let stream = service.stream(request, stream, Permission::ReadUpdate)?;
    let segments = authority::of_segments(&info.scope, &info.stream)?;
    let token = service.token(request, &segments, Permission::ReadUpdate)?;
    Ok((stream.map_err(|refusal| status(&refusal))?, token))
}

/// What is asked for does not exist.
fn not_found(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Precondition(what) => Status::not_found(*what),
        refusal => status(refusal),
    }
}

pub(super) fn is_segment_valid(
    service: &Service,
    request: &Request<wire::SegmentId>,
) -> Result<wire::SegmentValidityResponse, Status> {
    let asked = request.get_ref();
    let stream = to_read(service, request, asked.stream_info.as_ref())?;
    let id = SegmentId::from_wire(asked.segment_id);
    let is_valid = service.ask(|control| {
        let is_segment = |id| control.is_segment_valid(&stream, id);
        // There is such a stream, or not.
        control.config(&stream)?;
        id.map_or(Ok(false), is_segment)
    });
    let response = is_valid.map_err(|refusal| status(&refusal))?;
    Ok(wire::SegmentValidityResponse { response })
}

pub(super) fn is_stream_cut_valid(
    service: &Service,
    request: &Request<wire::StreamCut>,
) -> Result<wire::StreamCutValidityResponse, Status> {
    let asked = request.get_ref();
    let stream = to_read(service, request, asked.stream_info.as_ref())?;
    let is_valid = service.ask(|control| {
        control.config(&stream)?;
        match convert::cut(&asked.cut) {
            Ok(cut) => control.is_cut_valid(&stream, &cut),
            Err(_) => Ok(false),
        }
    });
    let response = is_valid.map_err(|refusal| status(&refusal))?;
    Ok(wire::StreamCutValidityResponse { response })
}

pub(super) fn get_current_segments(
    service: &Service,
    request: &Request<wire::StreamInfo>,
) -> Result<wire::SegmentRanges, Status> {
    let (stream, token) = with_token(service, request, Some(request.get_ref()))?;
    let segments = service.ask(|control| Ok(control.current_segments(&stream)?.to_vec()));
    let segments = segments.map_err(|refusal| status(&refusal))?;
    Ok(told_ranges(&stream, &segments, token))
}

pub(super) fn get_epoch_segments(
    service: &Service,
    request: &Request<wire::GetEpochSegmentsRequest>,
) -> Result<wire::SegmentRanges, Status> {
    let asked = request.get_ref();
    let (stream, token) = with_token(service, request, asked.stream_info.as_ref())?;
    let epoch = convert::unsigned(asked.epoch).map(Epoch);
    let segments = epoch.and_then(|epoch| {
        service.ask(|control| Ok(control.epoch_segments(&stream, epoch)?.to_vec()))
    });
    let segments = segments.map_err(|refusal| not_found(&refusal))?;
    Ok(told_ranges(&stream, &segments, token))
}

fn told_ranges(stream: &StreamName, segments: &[Segment], token: String) -> wire::SegmentRanges {
    wire::SegmentRanges {
        segment_ranges: segment_ranges(stream, segments),
        delegation_token: token,
    }
}

/// Where the stream begins, whatever the time: clients ask for no other.
pub(super) fn get_segments(
    service: &Service,
    request: &Request<wire::GetSegmentsRequest>,
) -> Result<wire::SegmentsAtTime, Status> {
    let asked = request.get_ref();
    let (stream, delegation_token) = with_token(service, request, asked.stream_info.as_ref())?;
    let head = service.ask(|control| control.head(&stream));
    let head = head.map_err(|refusal| status(&refusal))?;
    let location = |(id, offset)| SegmentLocation {
        segment_id: Some(segment_id(&stream, id)),
        offset,
    };
    Ok(wire::SegmentsAtTime {
        segments: head.into_iter().map(location).collect(),
        delegation_token,
    })
}

/// As older clients call it.
pub(super) fn get_segments_immediatly_following(
    service: &Service,
    request: &Request<wire::SegmentId>,
) -> Result<wire::SuccessorResponse, Status> {
    get_segments_immediately_following(service, request)
}

pub(super) fn get_segments_immediately_following(
    service: &Service,
    request: &Request<wire::SegmentId>,
) -> Result<wire::SuccessorResponse, Status> {
    let asked = request.get_ref();
    let stream = to_read(service, request, asked.stream_info.as_ref())?;
    let successors = service.ask(|control| {
        control.config(&stream)?;
        let id = SegmentId::from_wire(asked.segment_id);
        let id = id.ok_or(Refusal::Precondition("there is no such segment"))?;
        control.successors(&stream, id)
    });
    let successors = successors.map_err(|refusal| not_found(&refusal))?;
    let entry = |successor: &Successor| SegmentEntry {
        segment: Some(segment_range(&stream, &successor.segment)),
        value: successor
            .predecessors
            .iter()
            .map(|id| id.to_wire())
            .collect(),
    };
    Ok(wire::SuccessorResponse {
        segments: successors.iter().map(entry).collect(),
        delegation_token: String::new(),
    })
}

pub(super) fn get_segments_between(
    service: &Service,
    request: &Request<wire::StreamCutRange>,
) -> Result<wire::StreamCutRangeResponse, Status> {
    let asked = request.get_ref();
    let stream = to_read(service, request, asked.stream_info.as_ref())?;
    let info = info(asked.stream_info.as_ref())?;
    let resource = authority::of_segments(&info.scope, &info.stream)?;
    let delegation_token = service.token(request, &resource, Permission::Read)?;
    let between = |control: &Control| {
        control.config(&stream)?;
        let (from, to) = (convert::cut(&asked.from)?, convert::cut(&asked.to)?);
        control.segments_between(&stream, &from, &to)
    };
    let segments = service.ask(between).map_err(|refusal| match refusal {
        Refusal::Precondition(what) => Status::invalid_argument(what),
        refusal => status(&refusal),
    })?;
    let segments = segments.iter().map(|it| segment_id(&stream, it.id));
    Ok(wire::StreamCutRangeResponse {
        segments: segments.collect(),
        delegation_token,
    })
}

pub(super) async fn scale(
    service: &Service,
    request: &Request<wire::ScaleRequest>,
) -> Result<wire::ScaleResponse, Status> {
    let asked = request.get_ref();
    let info = asked.stream_info.as_ref();
    let told = |told: ScaleStreamStatus| wire::ScaleResponse {
        status: told.into(),
        ..wire::ScaleResponse::default()
    };
    let Ok(stream) = service.stream(request, info, Permission::ReadUpdate)? else {
        return Ok(told(ScaleStreamStatus::Failure));
    };
    let scaling = match to_scale(asked, stream.clone()) {
        Ok(change) => service.request(change).await,
        Err(refusal) => Err(refusal),
    };
    match scaling {
        Ok(Done::Scaling { epoch, segments }) => Ok(wire::ScaleResponse {
            segments: segment_ranges(&stream, &segments),
            epoch: epoch.0.try_into().unwrap_or(i32::MAX),
            ..told(ScaleStreamStatus::Started)
        }),
        Ok(_) => Err(Status::internal("another answer was expected")),
        Err(Refusal::Precondition(_)) => Ok(told(ScaleStreamStatus::PreconditionFailed)),
        Err(Refusal::Invalid(_) | Refusal::NoStream | Refusal::StreamSealed) => {
            Ok(told(ScaleStreamStatus::Failure))
        }
        Err(refusal) => Err(status(&refusal)),
    }
}

fn to_scale(asked: &wire::ScaleRequest, stream: StreamName) -> Result<Change, Refusal> {
    let sealed = asked.sealed_segments.iter().map(|id| {
        let id = SegmentId::from_wire(*id);
        id.ok_or(Refusal::Precondition("there is no such segment"))
    });
    let ranges = asked.new_key_ranges.iter().map(convert::key_range);
    Ok(Change::Scale {
        stream,
        sealed: sealed.collect::<Result<_, _>>()?,
        ranges: ranges.collect::<Result<_, _>>()?,
    })
}

pub(super) fn check_scale(
    service: &Service,
    request: &Request<wire::ScaleStatusRequest>,
) -> Result<wire::ScaleStatusResponse, Status> {
    let asked = request.get_ref();
    let info = asked.stream_info.as_ref();
    let stream = service.stream(request, info, Permission::Read)?;
    let found = stream.and_then(|stream| {
        let epoch = Epoch(convert::unsigned(asked.epoch)?);
        service.ask(|control| control.scale_status(&stream, epoch))
    });
    let told = match found {
        Ok(ScaleStatus::InProgress) => Told::InProgress,
        Ok(ScaleStatus::Success) => Told::Success,
        Ok(ScaleStatus::InvalidInput) | Err(Refusal::NoStream | Refusal::Invalid(_)) => {
            Told::InvalidInput
        }
        Err(refusal) => return Err(status(&refusal)),
    };
    let status = told.into();
    Ok(wire::ScaleStatusResponse { status })
}
