//! The controller: what streams there are, which segments they have, and which store has these.

mod config;
mod connect;
mod transactions;

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::ClientConfig;
use streams_proto::controller as proto;
use streams_proto::controller::controller_service_client::ControllerServiceClient;
use streams_proto::controller::stream_info::AccessOperation;
use streams_proto::controller::{
    ContinuationToken, GetSegmentsRequest, ScaleRequest, ScaleStatusRequest, ScopeInfo,
    ScopesRequest, SegmentId, StreamInfo, StreamsInScopeRequest, create_scope_status,
    create_stream_status, delete_scope_status, delete_stream_status, scale_request, scale_response,
    scale_status_response, streams_in_scope_response, update_stream_status,
};
use streams_wire::shapes::DelegationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use self::connect::{Authorization, channel};
use crate::Error;
use crate::connection::Endpoint;
use crate::cut::StreamCut;
use crate::names::{SegmentName, SegmentNumber, StreamName};

pub use self::config::{Rate, Retention, Scaling, StreamConfig};
pub use self::connect::{Address, Credentials, trust};
pub use self::transactions::{Ping, Started, TransactionState};

/// What it does is done once: who wants to try again what failed asks again.
#[derive(Clone, Debug)]
pub struct Controller {
    client: ControllerServiceClient<InterceptedService<Channel, Authorization>>,
}

/// A segment, and its part of the keys from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SegmentRange {
    pub number: SegmentNumber,
    pub low: f64,
    /// Not in it.
    pub high: f64,
}

/// A segment that has taken the place of others.
#[derive(Clone, Debug, PartialEq)]
pub struct Successor {
    pub range: SegmentRange,
    /// All of these, each of which has to be read before it.
    pub predecessors: Vec<SegmentNumber>,
}

/// Some of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// If there are none, the list has ended.
    pub items: Vec<T>,
    /// To be given back for the next ones; empty for the first.
    pub token: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Read,
    Write,
}

/// What a status says: `Failure` is a thing that may be tried again.
macro_rules! status {
    ($status:expr, $kind:path { $($value:ident => $error:expr),* $(,)? }) => {{
        use $kind as Kind;
        match Kind::try_from($status) {
            Ok(Kind::Success) => Ok(()),
            Ok(Kind::Failure) => Err(Error::Busy("the controller could not".to_owned())),
            $(Ok(Kind::$value) => Err($error),)*
            Err(_) => Err(Error::Protocol(format!("a status {}", $status))),
        }
    }};
}
use status;

/// One question, and its answer.
macro_rules! ask {
    ($self:ident, $call:ident, $request:expr) => {{
        let answer = $self.client.clone().$call($request).await;
        answer.map_err(Error::from)?.into_inner()
    }};
}
use ask;

impl Controller {
    /// It connects with the first question.
    ///
    /// # Errors
    /// `Refused`: what is in the address makes no sense.
    pub fn new(
        address: &Address,
        tls: Option<Arc<ClientConfig>>,
        credentials: Option<&Credentials>,
    ) -> Result<Self, Error> {
        let authorization = Authorization::new(credentials)?;
        let channel = channel(address, tls)?;
        let client = ControllerServiceClient::with_interceptor(channel, authorization);
        Ok(Self { client })
    }
}

/// Scopes. Everything here may fail with what the controller says, or `Disconnected`.
#[allow(clippy::missing_errors_doc, reason = "it is said above")]
impl Controller {
    /// `Exists`.
    pub async fn create_scope(&self, scope: &str) -> Result<(), Error> {
        let answer = ask!(self, create_scope, scope_info(scope));
        status!(answer.status, create_scope_status::Status {
            ScopeExists => Error::Exists(scope.to_owned()),
            InvalidScopeName => Error::Refused(format!("{scope:?} is no name of a scope")),
        })
    }

    /// `NotFound`; `Condition`: there is something in it.
    pub async fn delete_scope(&self, scope: &str) -> Result<(), Error> {
        let answer = ask!(self, delete_scope, scope_info(scope));
        status!(answer.status, delete_scope_status::Status {
            ScopeNotFound => Error::NotFound(scope.to_owned()),
            ScopeNotEmpty => Error::Condition("the scope is not empty"),
        })
    }

    pub async fn scope_exists(&self, scope: &str) -> Result<bool, Error> {
        Ok(ask!(self, check_scope_exists, scope_info(scope)).exists)
    }

    pub async fn scopes(&self, token: &str) -> Result<Page<String>, Error> {
        let continuation_token = Some(continuation(token));
        let request = ScopesRequest { continuation_token };
        let answer = ask!(self, list_scopes, request);
        Ok(Page {
            items: answer.scopes,
            token: answer.continuation_token.unwrap_or_default().token,
        })
    }

    /// `NotFound`.
    pub async fn streams(&self, scope: &str, token: &str) -> Result<Page<StreamName>, Error> {
        let request = StreamsInScopeRequest {
            scope: Some(scope_info(scope)),
            continuation_token: Some(continuation(token)),
        };
        let answer = ask!(self, list_streams_in_scope, request);
        status!(answer.status, streams_in_scope_response::Status {
            ScopeNotFound => Error::NotFound(scope.to_owned()),
        })?;
        let streams = answer.streams.iter();
        let items: Result<_, Error> = streams
            .map(|info| StreamName::new(&info.scope, &info.stream))
            .collect();
        Ok(Page {
            items: items?,
            token: answer.continuation_token.unwrap_or_default().token,
        })
    }
}

/// Streams. Everything here may fail with what the controller says, or `Disconnected`, or `NotFound`.
#[allow(clippy::missing_errors_doc, reason = "it is said above")]
impl Controller {
    /// `Exists`.
    pub async fn create_stream(
        &self,
        stream: &StreamName,
        config: &StreamConfig,
    ) -> Result<(), Error> {
        let answer = ask!(self, create_stream, config.render(stream));
        status!(answer.status, create_stream_status::Status {
            StreamExists => Error::Exists(stream.to_string()),
            ScopeNotFound => Error::NotFound(stream.scope().to_owned()),
            InvalidStreamName => Error::Refused(format!("{stream} is no name of a stream")),
        })
    }

    pub async fn update_stream(
        &self,
        stream: &StreamName,
        config: &StreamConfig,
    ) -> Result<(), Error> {
        let answer = ask!(self, update_stream, config.render(stream));
        updated(answer.status, stream)
    }

    /// Gives up what is before the cut.
    pub async fn truncate_stream(&self, cut: &StreamCut) -> Result<(), Error> {
        let offsets = cut.offsets.iter();
        let request = proto::StreamCut {
            stream_info: Some(info(&cut.stream)),
            cut: offsets
                .map(|(number, offset)| (number.0, *offset))
                .collect(),
        };
        let answer = ask!(self, truncate_stream, request);
        updated(answer.status, &cut.stream)
    }

    /// Nothing is written to it any more.
    pub async fn seal_stream(&self, stream: &StreamName) -> Result<(), Error> {
        let answer = ask!(self, seal_stream, info(stream));
        updated(answer.status, stream)
    }

    /// `Condition`: it is not sealed.
    pub async fn delete_stream(&self, stream: &StreamName) -> Result<(), Error> {
        let answer = ask!(self, delete_stream, info(stream));
        status!(answer.status, delete_stream_status::Status {
            StreamNotFound => Error::NotFound(stream.to_string()),
            StreamNotSealed => Error::Condition("the stream is not sealed"),
        })
    }

    pub async fn stream_exists(&self, stream: &StreamName) -> Result<bool, Error> {
        Ok(ask!(self, check_stream_exists, info(stream)).exists)
    }

    pub async fn stream_config(&self, stream: &StreamName) -> Result<StreamConfig, Error> {
        StreamConfig::parse(ask!(self, get_stream_configuration, info(stream)))
    }
}

/// Segments. Everything here may fail with what the controller says, or `Disconnected`, or `NotFound`.
#[allow(clippy::missing_errors_doc, reason = "it is said above")]
impl Controller {
    /// Those that are written now, by their keys.
    pub async fn current_segments(&self, stream: &StreamName) -> Result<Vec<SegmentRange>, Error> {
        let answer = ask!(self, get_current_segments, info(stream));
        ranges(answer.segment_ranges)
    }

    pub async fn epoch_segments(
        &self,
        stream: &StreamName,
        epoch: i32,
    ) -> Result<Vec<SegmentRange>, Error> {
        let request = proto::GetEpochSegmentsRequest {
            stream_info: Some(info(stream)),
            epoch,
        };
        let answer = ask!(self, get_epoch_segments, request);
        ranges(answer.segment_ranges)
    }

    /// Where the stream begins.
    pub async fn head(&self, stream: &StreamName) -> Result<StreamCut, Error> {
        let request = GetSegmentsRequest {
            stream_info: Some(info(stream)),
            timestamp: 0,
        };
        let answer = ask!(self, get_segments, request);
        let mut offsets = BTreeMap::new();
        for location in answer.segments {
            let id = location.segment_id.ok_or_else(|| missing("a segment"))?;
            offsets.insert(SegmentNumber(id.segment_id), location.offset);
        }
        let stream = stream.clone();
        Ok(StreamCut { stream, offsets })
    }

    /// What takes the place of a sealed segment; nothing if its stream is sealed.
    pub async fn successors(
        &self,
        stream: &StreamName,
        of: SegmentNumber,
    ) -> Result<Vec<Successor>, Error> {
        let answer = ask!(
            self,
            get_segments_immediately_following,
            segment_id(stream, of)
        );
        let mut successors = Vec::new();
        for entry in answer.segments {
            successors.push(Successor {
                range: range(entry.segment)?,
                predecessors: entry.value.into_iter().map(SegmentNumber).collect(),
            });
        }
        Ok(successors)
    }

    /// Which store has a segment.
    pub async fn locate(&self, segment: &SegmentName) -> Result<Endpoint, Error> {
        let id = segment_id(&segment.stream, segment.number);
        let answer = ask!(self, get_uri, id);
        let port = u16::try_from(answer.port);
        let port = port.map_err(|_| Error::Protocol(format!("a port {}", answer.port)))?;
        Ok(Endpoint {
            host: answer.endpoint,
            port,
        })
    }

    /// Puts others in the place of some current segments, for the same keys, and returns the epoch that is asked for with [`Self::has_scaled`].
    ///
    /// `Condition`: the segments are not current, or these are not their keys.
    pub async fn scale(
        &self,
        stream: &StreamName,
        sealed: &[SegmentNumber],
        ranges: &[(f64, f64)],
    ) -> Result<i32, Error> {
        use scale_response::ScaleStreamStatus as Status;

        let entry = |&(start, end): &(f64, f64)| scale_request::KeyRangeEntry { start, end };
        let now = rt::wall().duration_since(std::time::UNIX_EPOCH);
        let now_ms = now.unwrap_or_default().as_millis();
        let request = ScaleRequest {
            stream_info: Some(info(stream)),
            sealed_segments: sealed.iter().map(|number| number.0).collect(),
            new_key_ranges: ranges.iter().map(entry).collect(),
            scale_timestamp: i64::try_from(now_ms).unwrap_or(i64::MAX),
        };
        let answer = ask!(self, scale, request);
        match Status::try_from(answer.status) {
            Ok(Status::Started) => Ok(answer.epoch),
            Ok(Status::Failure) => Err(Error::Busy("the stream is not scaled".to_owned())),
            Ok(Status::PreconditionFailed) => {
                Err(Error::Condition("the stream has no such segments to scale"))
            }
            Err(_) => Err(Error::Protocol(format!("a status {}", answer.status))),
        }
    }

    /// Whether a scale has come to its end.
    pub async fn has_scaled(&self, stream: &StreamName, epoch: i32) -> Result<bool, Error> {
        use scale_status_response::ScaleStatus as Status;

        let request = ScaleStatusRequest {
            stream_info: Some(info(stream)),
            epoch,
        };
        let answer = ask!(self, check_scale, request);
        match Status::try_from(answer.status) {
            Ok(Status::InProgress) => Ok(false),
            Ok(Status::Success) => Ok(true),
            Ok(Status::InvalidInput) => Err(Error::Refused(format!("no epoch {epoch}"))),
            Ok(Status::InternalError) => Err(Error::Busy("the controller could not".to_owned())),
            Err(_) => Err(Error::Protocol(format!("a status {}", answer.status))),
        }
    }

    /// What stores want to see.
    pub(crate) async fn token(
        &self,
        stream: &StreamName,
        access: Access,
    ) -> Result<DelegationToken, Error> {
        let access = match access {
            Access::Read => AccessOperation::Read,
            Access::Write => AccessOperation::ReadWrite,
        };
        let mut info = info(stream);
        info.access_operation = access.into();
        let answer = ask!(self, get_delegation_token, info);
        Ok(DelegationToken(answer.delegation_token))
    }
}

fn scope_info(scope: &str) -> ScopeInfo {
    let scope = scope.to_owned();
    ScopeInfo { scope }
}

/// Tokens are asked for by themselves: who is to be given one with the answer has to be allowed to write.
fn info(stream: &StreamName) -> StreamInfo {
    StreamInfo {
        scope: stream.scope().to_owned(),
        stream: stream.stream().to_owned(),
        access_operation: AccessOperation::None.into(),
    }
}

fn segment_id(stream: &StreamName, number: SegmentNumber) -> SegmentId {
    SegmentId {
        stream_info: Some(info(stream)),
        segment_id: number.0,
    }
}

fn continuation(token: &str) -> ContinuationToken {
    let token = token.to_owned();
    ContinuationToken { token }
}

fn updated(status: i32, stream: &StreamName) -> Result<(), Error> {
    status!(status, update_stream_status::Status {
        StreamNotFound => Error::NotFound(stream.to_string()),
        ScopeNotFound => Error::NotFound(stream.scope().to_owned()),
        StreamSealed => Error::Sealed(stream.to_string()),
    })
}

fn missing(what: &str) -> Error {
    Error::Protocol(format!("the controller answers without {what}"))
}

fn ranges(ranges: Vec<proto::SegmentRange>) -> Result<Vec<SegmentRange>, Error> {
    let parsed: Result<Vec<_>, _> = ranges.into_iter().map(|it| range(Some(it))).collect();
    let mut parsed = parsed?;
    parsed.sort_by(|a, b| a.low.total_cmp(&b.low));
    Ok(parsed)
}

fn range(range: Option<proto::SegmentRange>) -> Result<SegmentRange, Error> {
    let range = range.ok_or_else(|| missing("a range"))?;
    let id = range.segment_id.ok_or_else(|| missing("a segment"))?;
    let (low, high) = (range.min_key, range.max_key);
    if !(0.0 <= low && low < high && high <= 1.0) {
        return Err(Error::Protocol(format!("keys from {low} to {high}")));
    }
    Ok(SegmentRange {
        number: SegmentNumber(id.segment_id),
        low,
        high,
    })
}
