//! Messages have the numbers of upstream, and a call arrives under the name of upstream.

mod every_rpc;

use std::fmt::Debug;

use prost::Message;
use tonic::{Code, Request};

use self::every_rpc::Nothing;
use crate::controller::controller_service_client::ControllerServiceClient;
use crate::controller::controller_service_server::ControllerServiceServer;
use crate::controller::*;

fn info() -> StreamInfo {
    StreamInfo {
        scope: "s".to_owned(),
        stream: "t".to_owned(),
        access_operation: stream_info::AccessOperation::Unspecified.into(),
    }
}

fn segment() -> SegmentId {
    SegmentId {
        stream_info: Some(info()),
        segment_id: (1 << 32) | 3,
    }
}

fn range() -> SegmentRange {
    SegmentRange {
        segment_id: Some(segment()),
        min_key: 0.25,
        max_key: 0.5,
    }
}

fn cut() -> StreamCut {
    StreamCut {
        stream_info: Some(info()),
        cut: [(3, 1000)].into(),
    }
}

fn txn() -> TxnId {
    TxnId {
        high_bits: 1 << 32,
        low_bits: -1,
    }
}

fn token() -> String {
    "tok".to_owned()
}

/// `bytes` follow upstream's numbers, and were not made by the code that is tested.
fn check<M: Message + Default + PartialEq + Debug>(message: &M, bytes: &str) {
    let encoded = message.encode_to_vec();
    let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, bytes, "{message:?}");
    assert_eq!(M::decode(&encoded[..]).as_ref(), Ok(message));
}

#[test]
fn streams_are_the_bytes_of_upstream() {
    let stream_info = StreamInfo {
        access_operation: stream_info::AccessOperation::ReadWrite.into(),
        ..info()
    };
    let scaling_policy = ScalingPolicy {
        scale_type: scaling_policy::ScalingPolicyType::ByRateInEventsPerSec.into(),
        target_rate: 100,
        scale_factor: 2,
        min_num_segments: 1,
    };
    let retention_policy = RetentionPolicy {
        retention_type: retention_policy::RetentionPolicyType::Time.into(),
        retention_param: 1000,
        retention_max: 2000,
    };
    let config = StreamConfig {
        stream_info: Some(stream_info),
        scaling_policy: Some(scaling_policy),
        retention_policy: Some(retention_policy),
        tags: Some(Tags {
            tag: vec!["a".to_owned()],
        }),
        timestamp_aggregation_timeout: 7,
        rollover_size_bytes: 8,
    };
    check(
        &config,
        "0a080a01731201741805120808021064180220011a08080110e80718d00f22030a016128073008",
    );
    // Tags are there even if there are none.
    let config = StreamConfig {
        tags: Some(Tags::default()),
        ..StreamConfig::default()
    };
    check(&config, "2200");
    let listed = StreamsInScopeResponse {
        streams: vec![info()],
        continuation_token: Some(ContinuationToken {
            token: "more".to_owned(),
        }),
        status: streams_in_scope_response::Status::ScopeNotFound.into(),
    };
    check(&listed, "0a060a017312017412060a046d6f72651802");
    check(&cut(), "0a060a01731201741205080310e807");
}

#[test]
fn segments_are_the_bytes_of_upstream() {
    let ranges = SegmentRanges {
        segment_ranges: vec![range()],
        delegation_token: token(),
    };
    check(
        &ranges,
        "0a220a0e0a060a017312017410838080801011000000000000d03f19000000000000e03f1203746f6b",
    );
    let entry = successor_response::SegmentEntry {
        segment: Some(range()),
        value: vec![(1 << 32) | 2],
    };
    let successors = SuccessorResponse {
        segments: vec![entry],
        delegation_token: token(),
    };
    check(
        &successors,
        "0a2b0a220a0e0a060a017312017410838080801011000000000000d03f19000000000000e03f120582808080101203746f6b",
    );
    let location = segments_at_time::SegmentLocation {
        segment_id: Some(segment()),
        offset: 1000,
    };
    let segments = SegmentsAtTime {
        segments: vec![location],
        delegation_token: token(),
    };
    check(
        &segments,
        "0a130a0e0a060a017312017410838080801010e8071203746f6b",
    );
    let uri = NodeUri {
        endpoint: "localhost".to_owned(),
        port: 12345,
    };
    check(&uri, "0a096c6f63616c686f737410b960");
}

#[test]
fn scaling_is_the_bytes_of_upstream() {
    let request = ScaleRequest {
        stream_info: Some(info()),
        sealed_segments: vec![0, 1],
        new_key_ranges: vec![scale_request::KeyRangeEntry {
            start: 0.25,
            end: 0.5,
        }],
        scale_timestamp: 9,
    };
    check(
        &request,
        "0a060a0173120174120200011a1209000000000000d03f11000000000000e03f2009",
    );
    let response = ScaleResponse {
        status: scale_response::ScaleStreamStatus::PreconditionFailed.into(),
        segments: vec![range()],
        epoch: 4,
    };
    check(
        &response,
        "080212220a0e0a060a017312017410838080801011000000000000d03f19000000000000e03f1804",
    );
}

#[test]
fn transactions_are_the_bytes_of_upstream() {
    let created = CreateTxnResponse {
        txn_id: Some(txn()),
        active_segments: vec![range()],
        delegation_token: token(),
    };
    check(
        &created,
        "0a1108808080801010ffffffffffffffffff0112220a0e0a060a017312017410838080801011000000000000d03f\
         19000000000000e03f1a03746f6b",
    );
    let request = TxnRequest {
        stream_info: Some(info()),
        txn_id: Some(txn()),
        writer_id: "w".to_owned(),
        timestamp: 9,
    };
    check(
        &request,
        "0a060a0173120174121108808080801010ffffffffffffffffff011a01772009",
    );
    let status = ping_txn_status::Status::Aborted.into();
    check(&PingTxnStatus { status }, "0806");
}

#[test]
fn groups_and_tables_are_the_bytes_of_upstream() {
    let ending = StreamCut {
        stream_info: Some(info()),
        ..StreamCut::default()
    };
    let group = ReaderGroupConfiguration {
        scope: "s".to_owned(),
        reader_group_name: "g".to_owned(),
        group_refresh_time_millis: 1,
        automatic_checkpoint_interval_millis: 2,
        max_outstanding_checkpoint_request: 3,
        retention_type: reader_group_configuration::RetentionType::Automatic.into(),
        generation: 4,
        reader_group_id: "id".to_owned(),
        starting_stream_cuts: vec![cut()],
        ending_stream_cuts: vec![ending],
        rollover_size_bytes: 5,
    };
    check(
        &group,
        "0a017312016718012002280330023804420269644a0f0a060a01731201741205080310e80752080a060a01731201745805",
    );
    let table = KeyValueTableConfig {
        scope: "s".to_owned(),
        kvt_name: "k".to_owned(),
        partition_count: 1,
        primary_key_length: 2,
        secondary_key_length: 3,
        rollover_size_bytes: 4,
    };
    check(&table, "0a017312016b1801200228033004");
}

/// A call by the client comes out at the server, and its answer at the client.
#[tokio::test]
async fn calls_arrive() {
    let mut client = ControllerServiceClient::new(ControllerServiceServer::new(Nothing));
    let answer = client.get_uri(Request::new(segment())).await;
    assert_eq!(
        answer
            .map(tonic::Response::into_inner)
            .map_err(|e| e.code()),
        Ok(NodeUri::default())
    );
    let answer = client.seal_stream(Request::new(info())).await;
    assert_eq!(
        answer.map(|_| ()).map_err(|e| e.code()),
        Err(Code::Unimplemented)
    );
}
