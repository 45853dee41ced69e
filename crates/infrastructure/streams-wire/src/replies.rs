//! What a store answers.
//!
//! Fields called `server_stack_trace` are for people: upstream fills them if it is told to, and clients log them.

use bytes::Bytes;

use crate::limits::{NO_OFFSET, NO_REQUEST_ID};
use crate::requests::{Hello, KeepAlive};
use crate::shapes::{ChunkInfo, ErrorCode, MergedSegment, TableEntry, TableKey, TokenError};
use crate::{DecodeError, requests};

commands! {
    Reply {
        with a request id {
            AppendSetup = 2,
            DataAppended = 7,
            ConditionalCheckFailed = 8,

            SegmentRead = 10,
            StreamSegmentInfo = 12,
            SegmentAttribute = 35,
            SegmentAttributeUpdated = 37,
            OffsetLocated = 42,

            SegmentCreated = 21,
            SegmentPolicyUpdated = 33,
            SegmentSealed = 29,
            SegmentTruncated = 39,
            SegmentDeleted = 31,
            SegmentsMerged = 59,
            SegmentsBatchMerged = 91,

            TableSegmentInfo = 69,
            TableEntriesUpdated = 75,
            TableKeysRemoved = 77,
            TableRead = 79,
            TableKeysRead = 84,
            TableEntriesRead = 86,
            TableEntriesDeltaRead = 87,

            WrongHost = 50,
            SegmentIsSealed = 51,
            SegmentAlreadyExists = 52,
            NoSuchSegment = 53,
            InvalidEventNumber = 55,
            SegmentIsTruncated = 56,
            OperationUnsupported = 57,
            AuthTokenCheckFailed = 60,
            ErrorMessage = 61,
            TableSegmentNotEmpty = 80,
            TableKeyDoesNotExist = 81,
            TableKeyBadVersion = 82,

            StorageFlushed = -4,
            StorageChunksListed = -6,
        }
        without {
            Hello = -127,
            KeepAlive = 100,
        }
    }
}

record! {
    AppendSetup {
        request_id: i64,
        segment: String,
        writer_id: u128,
        /// The last that is durable, or [`NO_ATTRIBUTE`](crate::limits::NO_ATTRIBUTE).
        last_event_number: i64,
    }

    /// All up to that event is durable.
    DataAppended {
        writer_id: u128,
        event_number: i64,
        /// That of the reply before it, without a gap.
        previous_event_number: i64 = NO_OFFSET,
        request_id: i64 = NO_REQUEST_ID,
        /// How long the segment is now.
        current_segment_write_offset: i64 = NO_OFFSET,
    }

    ConditionalCheckFailed {
        writer_id: u128,
        event_number: i64,
        request_id: i64 = NO_REQUEST_ID,
    }

    SegmentRead {
        segment: String,
        offset: i64,
        at_tail: bool,
        end_of_segment: bool,
        data: Bytes,
        request_id: i64 = NO_REQUEST_ID,
    }

    StreamSegmentInfo {
        request_id: i64,
        segment: String,
        exists: bool,
        is_sealed: bool,
        is_deleted: bool,
        /// In ms since 1970.
        last_modified: i64,
        write_offset: i64,
        start_offset: i64 = 0,
    }

    SegmentAttribute {
        request_id: i64,
        value: i64,
    }

    SegmentAttributeUpdated {
        request_id: i64,
        success: bool,
    }

    OffsetLocated {
        request_id: i64,
        segment: String,
        offset: i64,
    }

    SegmentCreated {
        request_id: i64,
        segment: String,
    }

    SegmentPolicyUpdated {
        request_id: i64,
        segment: String,
    }

    SegmentSealed {
        request_id: i64,
        segment: String,
    }

    SegmentTruncated {
        request_id: i64,
        segment: String,
    }

    SegmentDeleted {
        request_id: i64,
        segment: String,
    }

    SegmentsMerged {
        request_id: i64,
        target: String,
        source: String,
        new_target_write_offset: i64 = NO_OFFSET,
    }

    SegmentsBatchMerged {
        request_id: i64,
        target: String,
        merged: Vec<MergedSegment>,
    }

    TableSegmentInfo {
        request_id: i64,
        segment: String,
        start_offset: i64,
        length: i64,
        entry_count: i64,
        key_length: i32,
    }

    /// In the order in which they were asked for.
    TableEntriesUpdated {
        request_id: i64,
        updated_versions: Vec<i64>,
    }

    TableKeysRemoved {
        request_id: i64,
        segment: String,
    }

    /// In the order in which they were asked for. One that is missing has the version [`TableKey::NOT_EXISTS`] and no value.
    TableRead {
        request_id: i64,
        segment: String,
        entries: Vec<TableEntry>,
    }

    TableKeysRead {
        request_id: i64,
        segment: String,
        keys: Vec<TableKey>,
        continuation_token: Bytes,
    }

    TableEntriesRead {
        request_id: i64,
        segment: String,
        entries: Vec<TableEntry>,
        continuation_token: Bytes,
    }

    TableEntriesDeltaRead {
        request_id: i64,
        segment: String,
        entries: Vec<TableEntry>,
        /// What is known of the table is no longer true: it begins anew here.
        should_clear: bool,
        reached_end: bool,
        last_position: i64,
    }

    WrongHost {
        request_id: i64,
        segment: String,
        correct_host: String,
        server_stack_trace: String = String::new(),
    }

    SegmentIsSealed {
        request_id: i64,
        segment: String,
        server_stack_trace: String = String::new(),
        /// In answer to an append the number of its event.
        offset: i64 = NO_OFFSET,
    }

    SegmentAlreadyExists {
        request_id: i64,
        segment: String,
        server_stack_trace: String = String::new(),
    }

    NoSuchSegment {
        request_id: i64,
        segment: String,
        server_stack_trace: String = String::new(),
        offset: i64 = NO_OFFSET,
    }

    /// The store and the writer do not agree on what has been written. The client in Rust reads the request id as the event number.
    InvalidEventNumber {
        writer_id: u128,
        request_id: i64,
        server_stack_trace: String = String::new(),
        event_number: i64 = NO_OFFSET,
    }

    /// Also says that a table does not have the length that an update wants.
    SegmentIsTruncated {
        request_id: i64,
        segment: String,
        start_offset: i64,
        server_stack_trace: String = String::new(),
        offset: i64 = NO_OFFSET,
    }

    OperationUnsupported {
        request_id: i64,
        operation_name: String,
        server_stack_trace: String = String::new(),
    }

    AuthTokenCheckFailed {
        request_id: i64,
        server_stack_trace: String = String::new(),
        error_code: TokenError = TokenError::Unspecified,
    }

    ErrorMessage {
        request_id: i64,
        segment: String,
        message: String,
        error_code: ErrorCode,
    }

    TableSegmentNotEmpty {
        request_id: i64,
        segment: String,
        server_stack_trace: String,
    }

    TableKeyDoesNotExist {
        request_id: i64,
        segment: String,
        server_stack_trace: String,
    }

    TableKeyBadVersion {
        request_id: i64,
        segment: String,
        server_stack_trace: String,
    }

    StorageFlushed {
        request_id: i64,
    }

    StorageChunksListed {
        request_id: i64,
        chunks: Vec<ChunkInfo>,
    }
}

impl Reply {
    /// Whether it says what went wrong. That a condition did not hold is an answer, and nothing that went wrong.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::WrongHost(_)
                | Self::SegmentIsSealed(_)
                | Self::SegmentAlreadyExists(_)
                | Self::NoSuchSegment(_)
                | Self::InvalidEventNumber(_)
                | Self::SegmentIsTruncated(_)
                | Self::OperationUnsupported(_)
                | Self::AuthTokenCheckFailed(_)
                | Self::ErrorMessage(_)
                | Self::TableSegmentNotEmpty(_)
                | Self::TableKeyDoesNotExist(_)
                | Self::TableKeyBadVersion(_)
        )
    }

    /// Why a type does not lead to a reply.
    fn not_here(type_id: i32) -> DecodeError {
        let within_blocks = crate::blocks::name_of(type_id);
        match requests::Request::name_of(type_id).or(within_blocks) {
            Some(command) => DecodeError::WrongSide { command },
            None => DecodeError::Unknown(type_id),
        }
    }
}
