//! The values of the golden file, in its order.

use bytes::Bytes;

use super::Said;
use crate::blocks::{AppendBlock, Padding};
use crate::limits::{ANY_TABLE_LENGTH, NO_ATTRIBUTE, NO_OFFSET, NO_REQUEST_ID};
use crate::replies::*;
use crate::requests::*;
use crate::shapes::*;

pub(super) const REQUEST_ID: i64 = 0x2122_2324_2526_2728;
const WRITER: u128 = 0x0102_0304_0506_0708_1112_1314_1516_1718;
const ATTRIBUTE: u128 = 0x8000_0000_0000_0000_0000_0000_0000_0001;

fn segment() -> String {
    "s/t/0.#epoch.0".to_owned()
}

fn token() -> DelegationToken {
    DelegationToken("tok".to_owned())
}

fn trace() -> String {
    "at x".to_owned()
}

fn bytes(bytes: &'static str) -> Bytes {
    Bytes::from_static(bytes.as_bytes())
}

fn key(key: &'static str, version: i64) -> TableKey {
    TableKey::new(bytes(key), version)
}

fn entry(key_of: &'static str, version: i64, value: &'static str) -> TableEntry {
    TableEntry {
        key: key(key_of, version),
        value: TableValue(bytes(value)),
    }
}

pub(super) fn samples() -> Vec<Said> {
    let requests = [
        about_both(),
        about_appends(),
        about_segments(),
        changes_of_segments(),
        merges(),
        about_tables(),
        reads_of_tables(),
    ];
    let replies = [
        about_both_in_reply(),
        answers(),
        changes_done(),
        table_answers(),
        errors(),
        errors_of_tables_and_storage(),
    ];
    let requests = requests.concat().into_iter().map(Said::Request);
    requests
        .chain(replies.concat().into_iter().map(Said::Reply))
        .collect()
}

const HELLO: Hello = Hello {
    high_version: 17,
    low_version: 5,
};

fn about_both() -> Vec<Request> {
    vec![
        HELLO.into(),
        KeepAlive {}.into(),
        Padding { n_bytes: 3 }.into(),
    ]
}

fn about_appends() -> Vec<Request> {
    vec![
        SetupAppend {
            request_id: REQUEST_ID,
            writer_id: WRITER,
            segment: segment(),
            token: token(),
        }
        .into(),
        AppendBlock {
            writer_id: WRITER,
            data: bytes("events"),
        }
        .into(),
        AppendBlockEnd {
            writer_id: WRITER,
            size_of_whole_events: 6,
            data: bytes("rest"),
            num_events: 2,
            last_event_number: 42,
            request_id: REQUEST_ID,
        }
        .into(),
        ConditionalAppend {
            writer_id: WRITER,
            event_number: 42,
            expected_offset: 1000,
            event: Event::new(b"one").expect("it is short"),
            request_id: REQUEST_ID,
        }
        .into(),
        ConditionalBlockEnd {
            writer_id: WRITER,
            event_number: 42,
            expected_offset: 1000,
            data: bytes("raw"),
            request_id: REQUEST_ID,
        }
        .into(),
    ]
}

fn about_segments() -> Vec<Request> {
    vec![
        ReadSegment {
            segment: segment(),
            offset: 1000,
            suggested_length: 65536,
            token: token(),
            request_id: REQUEST_ID,
        }
        .into(),
        GetStreamSegmentInfo {
            request_id: REQUEST_ID,
            segment: segment(),
            token: token(),
        }
        .into(),
        GetSegmentAttribute {
            request_id: REQUEST_ID,
            segment: segment(),
            attribute_id: ATTRIBUTE,
            token: token(),
        }
        .into(),
        UpdateSegmentAttribute {
            request_id: REQUEST_ID,
            segment: segment(),
            attribute_id: ATTRIBUTE,
            new_value: 7,
            expected_value: NO_ATTRIBUTE,
            token: token(),
        }
        .into(),
        LocateOffset {
            request_id: REQUEST_ID,
            segment: segment(),
            target_offset: 1000,
            token: token(),
        }
        .into(),
    ]
}

fn changes_of_segments() -> Vec<Request> {
    vec![
        CreateSegment {
            request_id: REQUEST_ID,
            segment: segment(),
            target_rate: 100,
            scale_type: ScaleType::EventRate,
            token: token(),
            rollover_size_bytes: 1 << 30,
        }
        .into(),
        CreateTransientSegment {
            request_id: REQUEST_ID,
            writer_id: WRITER,
            parent_segment: segment(),
            token: token(),
        }
        .into(),
        UpdateSegmentPolicy {
            request_id: REQUEST_ID,
            segment: segment(),
            target_rate: 100,
            scale_type: ScaleType::Throughput,
            token: token(),
        }
        .into(),
        SealSegment {
            request_id: REQUEST_ID,
            segment: segment(),
            token: token(),
        }
        .into(),
        TruncateSegment {
            request_id: REQUEST_ID,
            segment: segment(),
            truncation_offset: 1000,
            token: token(),
        }
        .into(),
        DeleteSegment {
            request_id: REQUEST_ID,
            segment: segment(),
            token: token(),
        }
        .into(),
    ]
}

fn merges() -> Vec<Request> {
    vec![
        MergeSegments {
            request_id: REQUEST_ID,
            target: segment(),
            source: "s/t/source".to_owned(),
            token: token(),
            attribute_updates: vec![AttributeUpdate {
                attribute_id: WRITER,
                kind: AttributeUpdateKind::ReplaceIfEquals,
                new_value: 7,
                old_value: NO_ATTRIBUTE,
            }],
        }
        .into(),
        MergeSegmentsBatch {
            request_id: REQUEST_ID,
            target: segment(),
            sources: vec!["a".to_owned(), "b\0\u{e9}\u{1F600}".to_owned()],
            token: token(),
        }
        .into(),
    ]
}

fn about_tables() -> Vec<Request> {
    vec![
        CreateTableSegment {
            request_id: REQUEST_ID,
            segment: segment(),
            token: token(),
            is_sorted: false,
            key_length: 16,
            rollover_size_bytes: 1 << 30,
        }
        .into(),
        DeleteTableSegment {
            request_id: REQUEST_ID,
            segment: segment(),
            must_be_empty: true,
            token: token(),
        }
        .into(),
        GetTableSegmentInfo {
            request_id: REQUEST_ID,
            segment: segment(),
            token: token(),
        }
        .into(),
        UpdateTableEntries {
            request_id: REQUEST_ID,
            segment: segment(),
            token: token(),
            entries: vec![
                entry("k1", TableKey::NO_VERSION, "v1"),
                entry("k2", TableKey::NOT_EXISTS, ""),
            ],
            table_segment_offset: 1000,
        }
        .into(),
        RemoveTableKeys {
            request_id: REQUEST_ID,
            segment: segment(),
            token: token(),
            keys: vec![key("k1", 5), TableKey::EMPTY],
            table_segment_offset: ANY_TABLE_LENGTH,
        }
        .into(),
    ]
}

fn reads_of_tables() -> Vec<Request> {
    vec![
        ReadTable {
            request_id: REQUEST_ID,
            segment: segment(),
            token: token(),
            keys: vec![key("k1", TableKey::NO_VERSION)],
        }
        .into(),
        ReadTableKeys {
            request_id: REQUEST_ID,
            segment: segment(),
            token: token(),
            suggested_key_count: 10,
            range: TableRange {
                continuation_token: bytes("here"),
                prefix: Bytes::new(),
                from_key: bytes("from"),
                to_key: bytes("to"),
            },
        }
        .into(),
        ReadTableEntries {
            request_id: REQUEST_ID,
            segment: segment(),
            token: token(),
            suggested_entry_count: 10,
            range: TableRange {
                continuation_token: bytes("here"),
                prefix: Bytes::new(),
                from_key: Bytes::new(),
                to_key: bytes("to"),
            },
        }
        .into(),
        ReadTableEntriesDelta {
            request_id: REQUEST_ID,
            segment: segment(),
            token: token(),
            from_position: 1000,
            suggested_entry_count: 10,
        }
        .into(),
        FlushToStorage {
            container_id: 3,
            token: token(),
            request_id: REQUEST_ID,
        }
        .into(),
        ListStorageChunks {
            segment: segment(),
            token: token(),
            request_id: REQUEST_ID,
        }
        .into(),
    ]
}

fn about_both_in_reply() -> Vec<Reply> {
    vec![HELLO.into(), KeepAlive {}.into()]
}

fn answers() -> Vec<Reply> {
    vec![
        AppendSetup {
            request_id: REQUEST_ID,
            segment: segment(),
            writer_id: WRITER,
            last_event_number: NO_ATTRIBUTE,
        }
        .into(),
        DataAppended {
            writer_id: WRITER,
            event_number: 42,
            previous_event_number: 41,
            request_id: REQUEST_ID,
            current_segment_write_offset: 1000,
        }
        .into(),
        ConditionalCheckFailed {
            writer_id: WRITER,
            event_number: 42,
            request_id: REQUEST_ID,
        }
        .into(),
        SegmentRead {
            segment: segment(),
            offset: 1000,
            at_tail: true,
            end_of_segment: false,
            data: bytes("data"),
            request_id: REQUEST_ID,
        }
        .into(),
        StreamSegmentInfo {
            request_id: REQUEST_ID,
            segment: segment(),
            exists: true,
            is_sealed: true,
            is_deleted: false,
            last_modified: 1_700_000_000_000,
            write_offset: 2000,
            start_offset: 1000,
        }
        .into(),
        SegmentAttribute {
            request_id: REQUEST_ID,
            value: NO_ATTRIBUTE,
        }
        .into(),
        SegmentAttributeUpdated {
            request_id: REQUEST_ID,
            success: true,
        }
        .into(),
        OffsetLocated {
            request_id: REQUEST_ID,
            segment: segment(),
            offset: 1000,
        }
        .into(),
    ]
}

fn changes_done() -> Vec<Reply> {
    vec![
        SegmentCreated {
            request_id: REQUEST_ID,
            segment: segment(),
        }
        .into(),
        SegmentPolicyUpdated {
            request_id: REQUEST_ID,
            segment: segment(),
        }
        .into(),
        SegmentSealed {
            request_id: REQUEST_ID,
            segment: segment(),
        }
        .into(),
        SegmentTruncated {
            request_id: REQUEST_ID,
            segment: segment(),
        }
        .into(),
        SegmentDeleted {
            request_id: REQUEST_ID,
            segment: segment(),
        }
        .into(),
        SegmentsMerged {
            request_id: REQUEST_ID,
            target: segment(),
            source: "s/t/source".to_owned(),
            new_target_write_offset: 2000,
        }
        .into(),
        SegmentsBatchMerged {
            request_id: REQUEST_ID,
            target: segment(),
            merged: vec![
                MergedSegment {
                    source: "a".to_owned(),
                    new_target_write_offset: 10,
                },
                MergedSegment {
                    source: "b".to_owned(),
                    new_target_write_offset: 20,
                },
            ],
        }
        .into(),
    ]
}

fn table_answers() -> Vec<Reply> {
    vec![
        TableSegmentInfo {
            request_id: REQUEST_ID,
            segment: segment(),
            start_offset: 1000,
            length: 2000,
            entry_count: 3,
            key_length: 16,
        }
        .into(),
        TableEntriesUpdated {
            request_id: REQUEST_ID,
            updated_versions: vec![10, 20],
        }
        .into(),
        TableKeysRemoved {
            request_id: REQUEST_ID,
            segment: segment(),
        }
        .into(),
        TableRead {
            request_id: REQUEST_ID,
            segment: segment(),
            entries: vec![entry("k1", 5, "v1"), entry("k2", TableKey::NOT_EXISTS, "")],
        }
        .into(),
        TableKeysRead {
            request_id: REQUEST_ID,
            segment: segment(),
            keys: vec![key("k1", 5)],
            continuation_token: bytes("here"),
        }
        .into(),
        TableEntriesRead {
            request_id: REQUEST_ID,
            segment: segment(),
            entries: vec![entry("k1", 5, "v1")],
            continuation_token: bytes("here"),
        }
        .into(),
        TableEntriesDeltaRead {
            request_id: REQUEST_ID,
            segment: segment(),
            entries: vec![entry("k1", 5, "v1")],
            should_clear: true,
            reached_end: false,
            last_position: 1000,
        }
        .into(),
    ]
}

fn errors() -> Vec<Reply> {
    vec![
        WrongHost {
            request_id: REQUEST_ID,
            segment: segment(),
            correct_host: "host:1".to_owned(),
            server_stack_trace: trace(),
        }
        .into(),
        SegmentIsSealed {
            request_id: REQUEST_ID,
            segment: segment(),
            server_stack_trace: trace(),
            offset: 42,
        }
        .into(),
        SegmentAlreadyExists {
            request_id: REQUEST_ID,
            segment: segment(),
            server_stack_trace: trace(),
        }
        .into(),
        NoSuchSegment {
            request_id: REQUEST_ID,
            segment: segment(),
            server_stack_trace: trace(),
            offset: 42,
        }
        .into(),
        InvalidEventNumber {
            writer_id: WRITER,
            request_id: REQUEST_ID,
            server_stack_trace: trace(),
            event_number: 42,
        }
        .into(),
        SegmentIsTruncated {
            request_id: REQUEST_ID,
            segment: segment(),
            start_offset: 1000,
            server_stack_trace: trace(),
            offset: 42,
        }
        .into(),
        OperationUnsupported {
            request_id: REQUEST_ID,
            operation_name: "locateOffset".to_owned(),
            server_stack_trace: trace(),
        }
        .into(),
        AuthTokenCheckFailed {
            request_id: REQUEST_ID,
            server_stack_trace: trace(),
            error_code: TokenError::Expired,
        }
        .into(),
    ]
}

fn errors_of_tables_and_storage() -> Vec<Reply> {
    vec![
        ErrorMessage {
            request_id: REQUEST_ID,
            segment: segment(),
            message: "what".to_owned(),
            error_code: ErrorCode::IllegalArgument,
        }
        .into(),
        TableSegmentNotEmpty {
            request_id: REQUEST_ID,
            segment: segment(),
            server_stack_trace: trace(),
        }
        .into(),
        TableKeyDoesNotExist {
            request_id: REQUEST_ID,
            segment: segment(),
            server_stack_trace: trace(),
        }
        .into(),
        TableKeyBadVersion {
            request_id: REQUEST_ID,
            segment: segment(),
            server_stack_trace: trace(),
        }
        .into(),
        StorageFlushed {
            request_id: REQUEST_ID,
        }
        .into(),
        StorageChunksListed {
            request_id: REQUEST_ID,
            chunks: vec![ChunkInfo {
                length_in_metadata: 10,
                length_in_storage: 9,
                start_offset: 1000,
                name: "chunk".to_owned(),
                exists_in_storage: true,
            }],
        }
        .into(),
    ]
}

/// Name, how many fields of the golden file are there, and what that does to its value.
type Older = ((&'static str, usize), fn(&mut Said));

macro_rules! older {
    ($($side:ident $command:ident $n_fields:literal: |$it:ident| $change:expr;)*) => {
        &[$((
            (stringify!($command), $n_fields),
            |said| match said {
                Said::$side($side::$command($it)) => $change,
                other => panic!("{other:?}"),
            },
        )),*]
    };
}

/// Every way in which a command of an older version is shorter.
pub(super) const OLDER: &[Older] = older! {
    Request AppendBlockEnd 5: |it| it.request_id = NO_REQUEST_ID;
    Request ConditionalAppend 4: |it| it.request_id = NO_REQUEST_ID;
    Request ReadSegment 4: |it| it.request_id = NO_REQUEST_ID;
    Request CreateSegment 5: |it| it.rollover_size_bytes = 0;
    Request MergeSegments 4: |it| it.attribute_updates.clear();
    Request CreateTableSegment 3: |it| (it.is_sorted, it.key_length, it.rollover_size_bytes) = (false, 0, 0);
    Request CreateTableSegment 4: |it| (it.key_length, it.rollover_size_bytes) = (0, 0);
    Request CreateTableSegment 5: |it| it.rollover_size_bytes = 0;
    Request UpdateTableEntries 6: |it| it.table_segment_offset = ANY_TABLE_LENGTH;
    Request RemoveTableKeys 6: |it| it.table_segment_offset = ANY_TABLE_LENGTH;
    // As the client in Rust sends them.
    Request ReadTableKeys 5: |it| (it.range.from_key, it.range.to_key) = (Bytes::new(), Bytes::new());
    Request ReadTableEntries 5: |it| it.range.to_key = Bytes::new();
    Request ReadTableKeys 4: |it| it.range = TableRange::default();
    Request ReadTableEntries 4: |it| it.range = TableRange::default();
    Request ReadTableKeys 6: |it| (it.range.from_key, it.range.to_key) = (Bytes::new(), Bytes::new());
    Request ReadTableEntries 6: |it| it.range.to_key = Bytes::new();
    Request ReadTableKeys 7: |it| it.range.to_key = Bytes::new();
    Request ReadTableEntries 7: |it| it.range.to_key = Bytes::new();
    Reply DataAppended 2: |it| (it.previous_event_number, it.request_id, it.current_segment_write_offset) = (NO_OFFSET, NO_REQUEST_ID, NO_OFFSET);
    Reply DataAppended 3: |it| (it.request_id, it.current_segment_write_offset) = (NO_REQUEST_ID, NO_OFFSET);
    Reply DataAppended 4: |it| it.current_segment_write_offset = NO_OFFSET;
    Reply ConditionalCheckFailed 2: |it| it.request_id = NO_REQUEST_ID;
    Reply SegmentRead 5: |it| it.request_id = NO_REQUEST_ID;
    Reply StreamSegmentInfo 7: |it| it.start_offset = 0;
    Reply SegmentsMerged 3: |it| it.new_target_write_offset = NO_OFFSET;
    Reply WrongHost 3: |it| it.server_stack_trace.clear();
    Reply SegmentIsSealed 2: |it| (it.server_stack_trace, it.offset) = (String::new(), NO_OFFSET);
    Reply SegmentIsSealed 3: |it| it.offset = NO_OFFSET;
    Reply SegmentAlreadyExists 2: |it| it.server_stack_trace.clear();
    Reply NoSuchSegment 2: |it| (it.server_stack_trace, it.offset) = (String::new(), NO_OFFSET);
    Reply NoSuchSegment 3: |it| it.offset = NO_OFFSET;
    Reply InvalidEventNumber 2: |it| (it.server_stack_trace, it.event_number) = (String::new(), NO_OFFSET);
    Reply InvalidEventNumber 3: |it| it.event_number = NO_OFFSET;
    Reply SegmentIsTruncated 3: |it| (it.server_stack_trace, it.offset) = (String::new(), NO_OFFSET);
    Reply SegmentIsTruncated 4: |it| it.offset = NO_OFFSET;
    Reply OperationUnsupported 2: |it| it.server_stack_trace.clear();
    Reply AuthTokenCheckFailed 1: |it| (it.server_stack_trace, it.error_code) = (String::new(), TokenError::Unspecified);
    Reply AuthTokenCheckFailed 2: |it| it.error_code = TokenError::Unspecified;
};
