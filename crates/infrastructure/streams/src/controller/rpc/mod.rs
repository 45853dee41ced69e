//! The service: each call is parsed, allowed, and then asked or requested of the control plane.
//!
//! What is answered is what upstream's controller answers: a status of the message if it has one for the case, otherwise one of gRPC.

mod convert;

mod groups;
mod scopes;
mod segments;
mod streams;
mod transactions;

use std::ops::RangeInclusive;
use std::sync::Arc;

use streams_control::{Control, Name, Page, Refusal, Response as Done, ScaleEvent, StreamName};
use streams_proto::controller as wire;
use streams_proto::controller::controller_service_server::ControllerService;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, async_trait};

use super::authority::{self, Authority, Permission};
use super::config::Published;
use super::driver::Desk;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    desk: Arc<Desk>,
    authority: Arc<dyn Authority>,
    published: Arc<Published>,
}

impl Service {
    pub(super) fn new(
        desk: Arc<Desk>,
        authority: Arc<dyn Authority>,
        published: Published,
    ) -> Self {
        Self {
            desk,
            authority,
            published: Arc::new(published),
        }
    }

    pub(crate) fn is_served(&self) -> bool {
        self.desk.is_served()
    }

    /// How the segments of a stream have changed, which no call of gRPC says.
    pub(crate) async fn scale_events(
        &self,
        request: &Request<wire::StreamInfo>,
        ms: RangeInclusive<u64>,
    ) -> Result<Vec<ScaleEvent>, Status> {
        self.authority.admit(request.metadata()).await?;
        let stream = self.stream(request, Some(request.get_ref()), Permission::Read)?;
        let events = stream.and_then(|stream| self.ask(|it| it.scale_events(&stream, ms)));
        events.map_err(|refusal| convert::status(&refusal))
    }

    /// For what asks nothing of the control plane.
    fn served(&self) -> Result<(), Status> {
        let served = self.ask(|_| Ok(()));
        served.map_err(|refusal| convert::status(&refusal))
    }

    async fn request(&self, request: streams_control::Request) -> Result<Done, Refusal> {
        self.desk.request(request).await
    }

    fn ask<T>(&self, question: impl FnOnce(&Control) -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.desk.ask(question)
    }

    fn check<T>(
        &self,
        request: &Request<T>,
        resource: &str,
        permission: Permission,
    ) -> Result<(), Status> {
        let sender = request.metadata();
        self.authority.check(sender, resource, permission)
    }

    fn token<T>(
        &self,
        request: &Request<T>,
        resource: &str,
        permission: Permission,
    ) -> Result<String, Status> {
        let sender = request.metadata();
        self.authority.token(sender, resource, permission)
    }

    /// What becomes of a stream that may be used like this.
    fn stream<T>(
        &self,
        request: &Request<T>,
        stream: Option<&wire::StreamInfo>,
        permission: Permission,
    ) -> Result<Result<StreamName, Refusal>, Status> {
        let info = convert::info(stream)?;
        let resource = authority::of_stream(&info.scope, &info.stream)?;
        self.check(request, &resource, permission)?;
        Ok(convert::stream(info))
    }

    /// Those of a list that its reader may read. An empty page is the last one, and so one of which they may read nothing is passed over.
    fn list(
        &self,
        sender: &MetadataMap,
        token: Option<&wire::ContinuationToken>,
        page: impl Fn(&Control, &str) -> Result<Page, Refusal>,
        resource: impl Fn(&Name) -> Result<String, Status>,
    ) -> Result<(Vec<Name>, wire::ContinuationToken), Refusal> {
        let mut token = token.map_or_else(String::new, |token| token.token.clone());
        loop {
            let page = self.ask(|control| page(control, &token))?;
            let is_last = page.names.is_empty();
            token = page.token;
            let may_read = |name: &Name| {
                let resource = resource(name);
                resource.is_ok_and(|resource| {
                    let allowed = self.authority.check(sender, &resource, Permission::Read);
                    allowed.is_ok()
                })
            };
            let names: Vec<_> = page.names.into_iter().filter(may_read).collect();
            if is_last || !names.is_empty() {
                return Ok((names, wire::ContinuationToken { token }));
            }
        }
    }
}

macro_rules! rpcs {
    (
        asked { $($asked:ident :: $question:ident($of:ident) -> $answer:ident;)* }
        requested { $($requested:ident :: $change:ident($what:ident) -> $outcome:ident;)* }
        later { $($later:ident($nothing:ident) -> $never:ident;)* }
    ) => {
        #[async_trait]
        impl ControllerService for Service {
            $(async fn $question(
                &self,
                request: Request<wire::$of>,
            ) -> Result<Response<wire::$answer>, Status> {
                self.authority.admit(request.metadata()).await?;
                $asked::$question(self, &request).map(Response::new)
            })*

            $(async fn $change(
                &self,
                request: Request<wire::$what>,
            ) -> Result<Response<wire::$outcome>, Status> {
                self.authority.admit(request.metadata()).await?;
                $requested::$change(self, &request).await.map(Response::new)
            })*

            $(async fn $later(
                &self,
                _: Request<wire::$nothing>,
            ) -> Result<Response<wire::$never>, Status> {
                let what = concat!(stringify!($later), " is not served by this controller yet");
                Err(Status::unimplemented(what))
            })*
        }
    };
}

rpcs! {
    asked {
        segments::get_controller_server_list(ServerRequest) -> ServerResponse;
        segments::get_uri(SegmentId) -> NodeUri;
        segments::get_delegation_token(StreamInfo) -> DelegationToken;
        segments::is_segment_valid(SegmentId) -> SegmentValidityResponse;
        segments::is_stream_cut_valid(StreamCut) -> StreamCutValidityResponse;
        scopes::list_scopes(ScopesRequest) -> ScopesResponse;
        scopes::check_scope_exists(ScopeInfo) -> ExistsResponse;
        streams::get_stream_configuration(StreamInfo) -> StreamConfig;
        streams::check_stream_exists(StreamInfo) -> ExistsResponse;
        streams::list_streams_in_scope(StreamsInScopeRequest) -> StreamsInScopeResponse;
        streams::list_streams_in_scope_for_tag(StreamsInScopeWithTagRequest) -> StreamsInScopeResponse;
        segments::get_current_segments(StreamInfo) -> SegmentRanges;
        segments::get_epoch_segments(GetEpochSegmentsRequest) -> SegmentRanges;
        segments::get_segments(GetSegmentsRequest) -> SegmentsAtTime;
        segments::get_segments_immediatly_following(SegmentId) -> SuccessorResponse;
        segments::get_segments_immediately_following(SegmentId) -> SuccessorResponse;
        segments::get_segments_between(StreamCutRange) -> StreamCutRangeResponse;
        segments::check_scale(ScaleStatusRequest) -> ScaleStatusResponse;
        transactions::check_transaction_state(TxnRequest) -> TxnState;
        groups::get_reader_group_config(ReaderGroupInfo) -> ReaderGroupConfigResponse;
        transactions::list_completed_transactions(ListCompletedTxnRequest) -> ListCompletedTxnResponse;
    }
    requested {
        scopes::create_scope(ScopeInfo) -> CreateScopeStatus;
        scopes::delete_scope(ScopeInfo) -> DeleteScopeStatus;
        scopes::delete_scope_recursive(ScopeInfo) -> DeleteScopeStatus;
        streams::create_stream(StreamConfig) -> CreateStreamStatus;
        streams::update_stream(StreamConfig) -> UpdateStreamStatus;
        streams::truncate_stream(StreamCut) -> UpdateStreamStatus;
        streams::seal_stream(StreamInfo) -> UpdateStreamStatus;
        streams::delete_stream(StreamInfo) -> DeleteStreamStatus;
        groups::create_reader_group(ReaderGroupConfiguration) -> CreateReaderGroupResponse;
        groups::update_reader_group(ReaderGroupConfiguration) -> UpdateReaderGroupResponse;
        groups::delete_reader_group(ReaderGroupInfo) -> DeleteReaderGroupStatus;
        segments::scale(ScaleRequest) -> ScaleResponse;
        transactions::create_transaction(CreateTxnRequest) -> CreateTxnResponse;
        transactions::commit_transaction(TxnRequest) -> TxnStatus;
        transactions::abort_transaction(TxnRequest) -> TxnStatus;
        transactions::ping_transaction(PingTxnRequest) -> PingTxnStatus;
    }
    later {
        get_controller_to_bucket_mapping(ControllerToBucketMappingRequest) -> ControllerToBucketMappingResponse;
        note_timestamp_from_writer(TimestampFromWriter) -> TimestampResponse;
        remove_writer(RemoveWriterRequest) -> RemoveWriterResponse;
        list_subscribers(StreamInfo) -> SubscribersResponse;
        update_subscriber_stream_cut(SubscriberStreamCut) -> UpdateSubscriberStatus;
        create_key_value_table(KeyValueTableConfig) -> CreateKeyValueTableStatus;
        get_current_segments_key_value_table(KeyValueTableInfo) -> SegmentRanges;
        list_key_value_tables_in_scope(KvTablesInScopeRequest) -> KvTablesInScopeResponse;
        get_key_value_table_configuration(KeyValueTableInfo) -> KeyValueTableConfigResponse;
        delete_key_value_table(KeyValueTableInfo) -> DeleteKvTableStatus;
    }
}
