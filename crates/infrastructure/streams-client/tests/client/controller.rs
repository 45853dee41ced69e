//! A controller that is as short as it can be: streams in memory, whose scales are over when they are answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use rt::Task;
use streams_client::names::{SegmentName, SegmentNumber, StreamName};
use streams_core::segment::Kind;
use streams_core::{Op, SegmentName as StoreName};
use streams_proto::controller::controller_service_server::{
    ControllerService, ControllerServiceServer,
};
use streams_proto::controller::segments_at_time::SegmentLocation;
use streams_proto::controller::stream_info::AccessOperation;
use streams_proto::controller::successor_response::SegmentEntry;
use streams_proto::controller::*;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::requests::create;
use crate::store::Store;

#[derive(Clone)]
pub(crate) struct TestController(Arc<Shared>);

struct Shared {
    store: Store,
    /// Where clients find it.
    store_address: SocketAddr,
    password: Option<&'static str>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    streams: BTreeMap<StreamName, Stream>,
    transactions: HashMap<(StreamName, u128), (txn_state::State, Vec<i64>)>,
}

#[derive(Default)]
struct Stream {
    segments: BTreeMap<i64, Segment>,
    current: BTreeSet<i64>,
    epoch: i32,
    config: StreamConfig,
}

struct Segment {
    low: f64,
    high: f64,
    predecessors: Vec<i64>,
}

impl TestController {
    pub(crate) fn start(
        store: Store,
        store_address: SocketAddr,
        password: Option<&'static str>,
    ) -> Result<(Self, SocketAddr, Task)> {
        let controller = Self(Arc::new(Shared {
            store,
            store_address,
            password,
            state: Mutex::default(),
        }));
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?.with_nodelay(Some(true));
        let address = incoming.local_addr()?;
        let service = ControllerServiceServer::new(controller.clone());
        let serving = Server::builder().add_service(service);
        let task = rt::spawn("test controller", async move {
            // However it ends.
            drop(serving.serve_with_incoming(incoming).await);
        });
        Ok((controller, address, task))
    }
}

type Answer<T> = Result<T, Status>;
type Answering<'a, T> = Pin<Box<dyn Future<Output = Answer<Response<T>>> + Send + 'a>>;

/// The trait of the service has no defaults.
macro_rules! service {
    (
        answered { $($name:ident: $question:ty => $answer:ty,)* }
        others { $($other:ident: $other_question:ty => $other_answer:ty,)* }
    ) => {
        impl ControllerService for TestController {
            $(fn $name<'a, 'b>(&'a self, request: Request<$question>) -> Answering<'b, $answer>
            where
                'a: 'b,
                Self: 'b,
            {
                let allowed = self.0.admit(&request);
                let answer = allowed.and_then(|()| self.0.$name(&request.into_inner()));
                Box::pin(ready(answer.map(Response::new)))
            })*
            $(fn $other<'a, 'b>(&'a self, _: Request<$other_question>) -> Answering<'b, $other_answer>
            where
                'a: 'b,
                Self: 'b,
            {
                Box::pin(ready(Err(Status::unimplemented("a test does not need it"))))
            })*
        }
    };
}

service! {
    answered {
        get_uri: SegmentId => NodeUri,
        get_delegation_token: StreamInfo => DelegationToken,
        create_scope: ScopeInfo => CreateScopeStatus,
        list_scopes: ScopesRequest => ScopesResponse,
        create_stream: StreamConfig => CreateStreamStatus,
        list_streams_in_scope: StreamsInScopeRequest => StreamsInScopeResponse,
        get_stream_configuration: StreamInfo => StreamConfig,
        seal_stream: StreamInfo => UpdateStreamStatus,
        get_current_segments: StreamInfo => SegmentRanges,
        get_segments: GetSegmentsRequest => SegmentsAtTime,
        get_segments_immediately_following: SegmentId => SuccessorResponse,
        scale: ScaleRequest => ScaleResponse,
        check_scale: ScaleStatusRequest => ScaleStatusResponse,
        create_transaction: CreateTxnRequest => CreateTxnResponse,
        commit_transaction: TxnRequest => TxnStatus,
        abort_transaction: TxnRequest => TxnStatus,
        check_transaction_state: TxnRequest => TxnState,
    }
    others {
        get_controller_server_list: ServerRequest => ServerResponse,
        is_segment_valid: SegmentId => SegmentValidityResponse,
        is_stream_cut_valid: StreamCut => StreamCutValidityResponse,
        get_controller_to_bucket_mapping: ControllerToBucketMappingRequest => ControllerToBucketMappingResponse,
        check_scope_exists: ScopeInfo => ExistsResponse,
        delete_scope: ScopeInfo => DeleteScopeStatus,
        delete_scope_recursive: ScopeInfo => DeleteScopeStatus,
        update_stream: StreamConfig => UpdateStreamStatus,
        truncate_stream: StreamCut => UpdateStreamStatus,
        delete_stream: StreamInfo => DeleteStreamStatus,
        check_stream_exists: StreamInfo => ExistsResponse,
        list_streams_in_scope_for_tag: StreamsInScopeWithTagRequest => StreamsInScopeResponse,
        get_epoch_segments: GetEpochSegmentsRequest => SegmentRanges,
        get_segments_immediatly_following: SegmentId => SuccessorResponse,
        get_segments_between: StreamCutRange => StreamCutRangeResponse,
        ping_transaction: PingTxnRequest => PingTxnStatus,
        list_completed_transactions: ListCompletedTxnRequest => ListCompletedTxnResponse,
        note_timestamp_from_writer: TimestampFromWriter => TimestampResponse,
        remove_writer: RemoveWriterRequest => RemoveWriterResponse,
        create_reader_group: ReaderGroupConfiguration => CreateReaderGroupResponse,
        get_reader_group_config: ReaderGroupInfo => ReaderGroupConfigResponse,
        update_reader_group: ReaderGroupConfiguration => UpdateReaderGroupResponse,
        delete_reader_group: ReaderGroupInfo => DeleteReaderGroupStatus,
        list_subscribers: StreamInfo => SubscribersResponse,
        update_subscriber_stream_cut: SubscriberStreamCut => UpdateSubscriberStatus,
        create_key_value_table: KeyValueTableConfig => CreateKeyValueTableStatus,
        get_current_segments_key_value_table: KeyValueTableInfo => SegmentRanges,
        list_key_value_tables_in_scope: KvTablesInScopeRequest => KvTablesInScopeResponse,
        get_key_value_table_configuration: KeyValueTableInfo => KeyValueTableConfigResponse,
        delete_key_value_table: KeyValueTableInfo => DeleteKvTableStatus,
    }
}

impl Shared {
    fn admit<T>(&self, request: &Request<T>) -> Answer<()> {
        let given = request.metadata().get("authorization");
        match self.password {
            Some(wanted) if given.is_none_or(|given| given != wanted) => {
                Err(Status::unauthenticated("who asks?"))
            }
            _ => Ok(()),
        }
    }

    /// In the store, whatever it says.
    fn name(stream: &StreamName, id: i64) -> SegmentName {
        stream.segment(SegmentNumber(id))
    }

    fn with<T>(
        &self,
        info: Option<&StreamInfo>,
        answer: impl FnOnce(&StreamName, &mut Stream) -> T,
    ) -> Answer<T> {
        let name = name(info)?;
        let mut state = self.state.lock().expect("nobody panics");
        let stream = state.streams.get_mut(&name);
        let stream = stream.ok_or_else(|| Status::not_found(name.to_string()))?;
        Ok(answer(&name, stream))
    }

    fn get_uri(&self, _: &SegmentId) -> Answer<NodeUri> {
        Ok(NodeUri {
            endpoint: "localhost".to_owned(),
            port: self.store_address.port().into(),
        })
    }

    fn get_delegation_token(&self, it: &StreamInfo) -> Answer<DelegationToken> {
        Ok(DelegationToken {
            delegation_token: it.stream.clone(),
        })
    }

    #[expect(clippy::unnecessary_wraps, reason = "as the others")]
    fn create_scope(&self, _: &ScopeInfo) -> Answer<CreateScopeStatus> {
        let status = create_scope_status::Status::Success.into();
        Ok(CreateScopeStatus { status })
    }

    fn list_scopes(&self, it: &ScopesRequest) -> Answer<ScopesResponse> {
        let state = self.state.lock().expect("nobody panics");
        let scopes: BTreeSet<_> = state.streams.keys().map(StreamName::scope).collect();
        let token = it.continuation_token.clone().unwrap_or_default().token;
        let next = scopes.into_iter().find(|scope| **scope > *token);
        Ok(ScopesResponse {
            scopes: next.iter().map(|scope| (*scope).to_owned()).collect(),
            continuation_token: Some(ContinuationToken {
                token: next.unwrap_or_default().to_owned(),
            }),
        })
    }

    fn list_streams_in_scope(&self, it: &StreamsInScopeRequest) -> Answer<StreamsInScopeResponse> {
        let state = self.state.lock().expect("nobody panics");
        let scope = it.scope.clone().unwrap_or_default().scope;
        let token = it.continuation_token.clone().unwrap_or_default().token;
        let mut streams = state.streams.keys();
        let next = streams.find(|name| name.scope() == scope && *name.stream() > *token);
        Ok(StreamsInScopeResponse {
            streams: next.iter().map(|name| info(name)).collect(),
            continuation_token: Some(ContinuationToken {
                token: next.map_or("", StreamName::stream).to_owned(),
            }),
            status: streams_in_scope_response::Status::Success.into(),
        })
    }

    fn create_stream(&self, it: &StreamConfig) -> Answer<CreateStreamStatus> {
        use create_stream_status::Status as Created;
        let name = name(it.stream_info.as_ref())?;
        let mut state = self.state.lock().expect("nobody panics");
        if state.streams.contains_key(&name) {
            let status = Created::StreamExists.into();
            return Ok(CreateStreamStatus { status });
        }
        let n_segments = it
            .scaling_policy
            .map_or(1, |policy| policy.min_num_segments);
        let mut stream = Stream {
            config: it.clone(),
            ..Stream::default()
        };
        for count in 0..n_segments {
            let [low, high] = [count, count + 1].map(|at| f64::from(at) / f64::from(n_segments));
            self.begin(&name, &mut stream, (low, high), Vec::new())?;
        }
        state.streams.insert(name, stream);
        let status = Created::Success.into();
        Ok(CreateStreamStatus { status })
    }

    fn begin(
        &self,
        name: &StreamName,
        stream: &mut Stream,
        (low, high): (f64, f64),
        predecessors: Vec<i64>,
    ) -> Answer<()> {
        let count = i32::try_from(stream.segments.len()).expect("there are few");
        let id = SegmentNumber::new(count, stream.epoch).0;
        let segment = Self::name(name, id).to_string();
        create(&self.store, &segment, Kind::Stream).map_err(failed)?;
        stream.current.insert(id);
        let segment = Segment {
            low,
            high,
            predecessors,
        };
        stream.segments.insert(id, segment);
        Ok(())
    }

    fn seal(&self, name: &StreamName, id: i64) -> Answer<()> {
        let segment = StoreName::new(&Self::name(name, id).to_string()).map_err(failed)?;
        self.store.propose(&Op::Seal(segment)).map_err(failed)?;
        Ok(())
    }

    fn get_stream_configuration(&self, it: &StreamInfo) -> Answer<StreamConfig> {
        self.with(Some(it), |_, stream| stream.config.clone())
    }

    fn seal_stream(&self, it: &StreamInfo) -> Answer<UpdateStreamStatus> {
        self.with(Some(it), |name, stream| {
            for id in std::mem::take(&mut stream.current) {
                self.seal(name, id)?;
            }
            let status = update_stream_status::Status::Success.into();
            Ok(UpdateStreamStatus { status })
        })?
    }

    fn get_current_segments(&self, it: &StreamInfo) -> Answer<SegmentRanges> {
        self.with(Some(it), |name, stream| SegmentRanges {
            segment_ranges: stream.ranges(name),
            delegation_token: String::new(),
        })
    }

    fn get_segments(&self, it: &GetSegmentsRequest) -> Answer<SegmentsAtTime> {
        self.with(it.stream_info.as_ref(), |name, stream| {
            let first = stream
                .segments
                .iter()
                .filter(|(_, it)| it.predecessors.is_empty());
            let location = |id| SegmentLocation {
                segment_id: Some(segment_id(name, id)),
                offset: 0,
            };
            SegmentsAtTime {
                segments: first.map(|(id, _)| location(*id)).collect(),
                delegation_token: String::new(),
            }
        })
    }

    fn get_segments_immediately_following(&self, it: &SegmentId) -> Answer<SuccessorResponse> {
        self.with(it.stream_info.as_ref(), |name, stream| {
            let of = it.segment_id;
            let all = stream.segments.iter();
            let successors = all.filter(|(_, segment)| segment.predecessors.contains(&of));
            let entry = |(id, segment): (&i64, &Segment)| SegmentEntry {
                segment: Some(range(name, *id, segment)),
                value: segment.predecessors.clone(),
            };
            SuccessorResponse {
                segments: successors.map(entry).collect(),
                delegation_token: String::new(),
            }
        })
    }

    fn scale(&self, it: &ScaleRequest) -> Answer<ScaleResponse> {
        use scale_response::ScaleStreamStatus as Status;
        self.with(it.stream_info.as_ref(), |name, stream| {
            let sealed = &it.sealed_segments;
            if !sealed.iter().all(|id| stream.current.contains(id)) {
                return Ok(ScaleResponse {
                    status: Status::PreconditionFailed.into(),
                    segments: Vec::new(),
                    epoch: stream.epoch,
                });
            }
            stream.epoch += 1;
            for new in &it.new_key_ranges {
                let overlaps = |id: &&i64| {
                    let old = &stream.segments[*id];
                    old.low < new.end && new.start < old.high
                };
                let predecessors = sealed.iter().filter(overlaps).copied().collect();
                self.begin(name, stream, (new.start, new.end), predecessors)?;
            }
            for id in sealed {
                stream.current.remove(id);
                self.seal(name, *id)?;
            }
            Ok(ScaleResponse {
                status: Status::Started.into(),
                segments: stream.ranges(name),
                epoch: stream.epoch,
            })
        })?
    }

    fn check_scale(&self, it: &ScaleStatusRequest) -> Answer<ScaleStatusResponse> {
        use scale_status_response::ScaleStatus as Status;
        self.with(it.stream_info.as_ref(), |_, stream| {
            let status = if it.epoch <= stream.epoch {
                Status::Success
            } else {
                Status::InvalidInput
            };
            let status = status.into();
            ScaleStatusResponse { status }
        })
    }

    fn create_transaction(&self, it: &CreateTxnRequest) -> Answer<CreateTxnResponse> {
        let id = u128::from(rt::random_u64());
        let (segments, active_segments) =
            self.with(it.stream_info.as_ref(), |name, stream| {
                for number in &stream.current {
                    let segment = Self::name(name, *number).within(id).to_string();
                    create(&self.store, &segment, Kind::Stream).map_err(failed)?;
                }
                let segments: Vec<_> = stream.current.iter().copied().collect();
                Ok::<_, Status>((segments, stream.ranges(name)))
            })??;
        let name = name(it.stream_info.as_ref())?;
        let mut state = self.state.lock().expect("nobody panics");
        let transaction = (txn_state::State::Open, segments);
        state.transactions.insert((name, id), transaction);
        Ok(CreateTxnResponse {
            txn_id: Some(TxnId {
                high_bits: 0,
                low_bits: u64::try_from(id).expect("it was one").cast_signed(),
            }),
            active_segments,
            delegation_token: String::new(),
        })
    }

    fn commit_transaction(&self, it: &TxnRequest) -> Answer<TxnStatus> {
        self.end(it, txn_state::State::Committed)
    }

    fn abort_transaction(&self, it: &TxnRequest) -> Answer<TxnStatus> {
        self.end(it, txn_state::State::Aborted)
    }

    fn end(&self, it: &TxnRequest, how: txn_state::State) -> Answer<TxnStatus> {
        let (name, id) = transaction(it)?;
        let mut state = self.state.lock().expect("nobody panics");
        let Some((state, segments)) = state.transactions.get_mut(&(name.clone(), id)) else {
            let status = txn_status::Status::TransactionNotFound.into();
            return Ok(TxnStatus { status });
        };
        *state = how;
        for number in segments {
            let target = Self::name(&name, *number);
            let source = target.clone().within(id).to_string();
            let [target, source] = [target.to_string(), source].map(|it| StoreName::new(&it));
            let (target, source) = (target.map_err(failed)?, source.map_err(failed)?);
            let op = match how {
                txn_state::State::Committed => Op::Merge {
                    target,
                    source,
                    attributes: Vec::new(),
                },
                _ => Op::Delete(source),
            };
            self.store.propose(&op).map_err(failed)?;
        }
        let status = txn_status::Status::Success.into();
        Ok(TxnStatus { status })
    }

    fn check_transaction_state(&self, it: &TxnRequest) -> Answer<TxnState> {
        let state = self.state.lock().expect("nobody panics");
        let found = state.transactions.get(&transaction(it)?);
        let state = found.map_or(txn_state::State::Unknown, |(state, _)| *state);
        let state = state.into();
        Ok(TxnState { state })
    }
}

impl Stream {
    fn ranges(&self, name: &StreamName) -> Vec<SegmentRange> {
        let current = self.current.iter();
        current
            .map(|id| range(name, *id, &self.segments[id]))
            .collect()
    }
}

fn failed(why: impl std::fmt::Display) -> Status {
    Status::internal(why.to_string())
}

fn name(info: Option<&StreamInfo>) -> Answer<StreamName> {
    let info = info.ok_or_else(|| failed("of no stream"))?;
    StreamName::new(&info.scope, &info.stream).map_err(failed)
}

fn transaction(it: &TxnRequest) -> Answer<(StreamName, u128)> {
    let id = it.txn_id.ok_or_else(|| failed("of no transaction"))?;
    Ok((
        name(it.stream_info.as_ref())?,
        u128::from(id.low_bits.cast_unsigned()),
    ))
}

fn info(name: &StreamName) -> StreamInfo {
    StreamInfo {
        scope: name.scope().to_owned(),
        stream: name.stream().to_owned(),
        access_operation: AccessOperation::Unspecified.into(),
    }
}

fn segment_id(name: &StreamName, segment_id: i64) -> SegmentId {
    SegmentId {
        stream_info: Some(info(name)),
        segment_id,
    }
}

fn range(name: &StreamName, id: i64, segment: &Segment) -> SegmentRange {
    SegmentRange {
        segment_id: Some(segment_id(name, id)),
        min_key: segment.low,
        max_key: segment.high,
    }
}
