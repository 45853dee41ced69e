//! A controller that has nothing to say, but where a segment is.

use tonic::{Request, Response, Status, async_trait};

use crate::controller::controller_service_server::ControllerService;
use crate::controller::*;

pub(super) struct Nothing;

macro_rules! say_nothing {
    ($($rpc:ident($request:ident) -> $reply:ident;)*) => {
        #[async_trait]
        impl ControllerService for Nothing {
            async fn get_uri(&self, _: Request<SegmentId>) -> Result<Response<NodeUri>, Status> {
                Ok(Response::new(NodeUri::default()))
            }

            $(async fn $rpc(&self, _: Request<$request>) -> Result<Response<$reply>, Status> {
                Err(Status::unimplemented(stringify!($rpc)))
            })*
        }
    };
}

say_nothing! {
    get_controller_server_list(ServerRequest) -> ServerResponse;
    is_segment_valid(SegmentId) -> SegmentValidityResponse;
    is_stream_cut_valid(StreamCut) -> StreamCutValidityResponse;
    get_delegation_token(StreamInfo) -> DelegationToken;
    get_controller_to_bucket_mapping(ControllerToBucketMappingRequest) -> ControllerToBucketMappingResponse;
    create_scope(ScopeInfo) -> CreateScopeStatus;
    list_scopes(ScopesRequest) -> ScopesResponse;
    check_scope_exists(ScopeInfo) -> ExistsResponse;
    delete_scope(ScopeInfo) -> DeleteScopeStatus;
    delete_scope_recursive(ScopeInfo) -> DeleteScopeStatus;
    create_stream(StreamConfig) -> CreateStreamStatus;
    update_stream(StreamConfig) -> UpdateStreamStatus;
    truncate_stream(StreamCut) -> UpdateStreamStatus;
    seal_stream(StreamInfo) -> UpdateStreamStatus;
    delete_stream(StreamInfo) -> DeleteStreamStatus;
    get_stream_configuration(StreamInfo) -> StreamConfig;
    check_stream_exists(StreamInfo) -> ExistsResponse;
    list_streams_in_scope(StreamsInScopeRequest) -> StreamsInScopeResponse;
    list_streams_in_scope_for_tag(StreamsInScopeWithTagRequest) -> StreamsInScopeResponse;
    get_current_segments(StreamInfo) -> SegmentRanges;
    get_epoch_segments(GetEpochSegmentsRequest) -> SegmentRanges;
    get_segments(GetSegmentsRequest) -> SegmentsAtTime;
    get_segments_immediatly_following(SegmentId) -> SuccessorResponse;
    get_segments_immediately_following(SegmentId) -> SuccessorResponse;
    get_segments_between(StreamCutRange) -> StreamCutRangeResponse;
    scale(ScaleRequest) -> ScaleResponse;
    check_scale(ScaleStatusRequest) -> ScaleStatusResponse;
    create_transaction(CreateTxnRequest) -> CreateTxnResponse;
    commit_transaction(TxnRequest) -> TxnStatus;
    abort_transaction(TxnRequest) -> TxnStatus;
    ping_transaction(PingTxnRequest) -> PingTxnStatus;
    check_transaction_state(TxnRequest) -> TxnState;
    list_completed_transactions(ListCompletedTxnRequest) -> ListCompletedTxnResponse;
    note_timestamp_from_writer(TimestampFromWriter) -> TimestampResponse;
    remove_writer(RemoveWriterRequest) -> RemoveWriterResponse;
    create_reader_group(ReaderGroupConfiguration) -> CreateReaderGroupResponse;
    get_reader_group_config(ReaderGroupInfo) -> ReaderGroupConfigResponse;
    update_reader_group(ReaderGroupConfiguration) -> UpdateReaderGroupResponse;
    delete_reader_group(ReaderGroupInfo) -> DeleteReaderGroupStatus;
    list_subscribers(StreamInfo) -> SubscribersResponse;
    update_subscriber_stream_cut(SubscriberStreamCut) -> UpdateSubscriberStatus;
    create_key_value_table(KeyValueTableConfig) -> CreateKeyValueTableStatus;
    get_current_segments_key_value_table(KeyValueTableInfo) -> SegmentRanges;
    list_key_value_tables_in_scope(KvTablesInScopeRequest) -> KvTablesInScopeResponse;
    get_key_value_table_configuration(KeyValueTableInfo) -> KeyValueTableConfigResponse;
    delete_key_value_table(KeyValueTableInfo) -> DeleteKvTableStatus;
}
