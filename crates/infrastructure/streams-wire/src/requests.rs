//! What clients, and the controller, ask a store.

use bytes::Bytes;

use crate::blocks::{AppendBlock, Padding};
use crate::limits::{ANY_TABLE_LENGTH, NO_REQUEST_ID, VERSION, VERSION_MIN};
use crate::shapes::{
    AttributeUpdate, DelegationToken, Event, ScaleType, TableEntry, TableKey, TableRange,
};
use crate::{DecodeError, replies};

commands! {
    Request {
        with a request id {
            SetupAppend = 1,
            AppendBlockEnd = 4,
            ConditionalAppend = 5,
            ConditionalBlockEnd = 89,

            ReadSegment = 9,
            GetStreamSegmentInfo = 11,
            GetSegmentAttribute = 34,
            UpdateSegmentAttribute = 36,
            LocateOffset = 41,

            CreateSegment = 20,
            CreateTransientSegment = 40,
            UpdateSegmentPolicy = 32,
            SealSegment = 28,
            TruncateSegment = 38,
            DeleteSegment = 30,
            MergeSegments = 58,
            MergeSegmentsBatch = 90,

            CreateTableSegment = 70,
            DeleteTableSegment = 71,
            GetTableSegmentInfo = 68,
            UpdateTableEntries = 74,
            RemoveTableKeys = 76,
            ReadTable = 78,
            ReadTableKeys = 83,
            ReadTableEntries = 85,
            ReadTableEntriesDelta = 88,

            FlushToStorage = -3,
            ListStorageChunks = -5,
        }
        without {
            Hello = -127,
            KeepAlive = 100,
            AppendBlock = 3,
            Padding = -1,
        }
    }
}

record! {
    /// Both sides begin with it, and go on if the other one has a version in common.
    Hello {
        high_version: i32,
        low_version: i32,
    }

    /// Sent back as it came. Clients end a connection on which it stays away.
    KeepAlive {}

    /// A writer is going to append. A second one for the same writer replaces the first.
    SetupAppend {
        request_id: i64,
        writer_id: u128,
        segment: String,
        token: DelegationToken,
    }

    /// What the block before it was, or an append without one. See [`blocks`](crate::blocks).
    AppendBlockEnd {
        writer_id: u128,
        /// Of the block's data, all but its tail.
        size_of_whole_events: i32,
        /// The rest of the event that the block's tail begins; without a block, all of the append.
        data: Bytes,
        num_events: i32,
        last_event_number: i64,
        request_id: i64 = NO_REQUEST_ID,
    }

    /// Is appended only if the segment has that length.
    ConditionalAppend {
        writer_id: u128,
        event_number: i64,
        expected_offset: i64,
        event: Event,
        request_id: i64 = NO_REQUEST_ID,
    }

    /// The same for bytes that are not one event.
    ConditionalBlockEnd {
        writer_id: u128,
        event_number: i64,
        expected_offset: i64,
        data: Bytes,
        request_id: i64,
    }

    ReadSegment {
        segment: String,
        offset: i64,
        suggested_length: i32,
        token: DelegationToken,
        request_id: i64 = NO_REQUEST_ID,
    }

    GetStreamSegmentInfo {
        request_id: i64,
        segment: String,
        token: DelegationToken,
    }

    GetSegmentAttribute {
        request_id: i64,
        segment: String,
        attribute_id: u128,
        token: DelegationToken,
    }

    /// Only if the attribute has the expected value.
    UpdateSegmentAttribute {
        request_id: i64,
        segment: String,
        attribute_id: u128,
        new_value: i64,
        /// [`NO_ATTRIBUTE`](crate::limits::NO_ATTRIBUTE): it is not set.
        expected_value: i64,
        token: DelegationToken,
    }

    /// Where the event begins that is nearest. Since version 17.
    LocateOffset {
        request_id: i64,
        segment: String,
        target_offset: i64,
        token: DelegationToken,
    }

    CreateSegment {
        request_id: i64,
        segment: String,
        target_rate: i32,
        scale_type: ScaleType,
        token: DelegationToken,
        /// 0: as long as the store likes.
        rollover_size_bytes: i64 = 0,
    }

    /// One that is merged into its parent, or gone with the connection.
    CreateTransientSegment {
        request_id: i64,
        writer_id: u128,
        parent_segment: String,
        token: DelegationToken,
    }

    UpdateSegmentPolicy {
        request_id: i64,
        segment: String,
        target_rate: i32,
        scale_type: ScaleType,
        token: DelegationToken,
    }

    SealSegment {
        request_id: i64,
        segment: String,
        token: DelegationToken,
    }

    TruncateSegment {
        request_id: i64,
        segment: String,
        truncation_offset: i64,
        token: DelegationToken,
    }

    DeleteSegment {
        request_id: i64,
        segment: String,
        token: DelegationToken,
    }

    MergeSegments {
        request_id: i64,
        target: String,
        source: String,
        token: DelegationToken,
        attribute_updates: Vec<AttributeUpdate> = Vec::new(),
    }

    /// Of a transaction: one behind the other, all or none.
    MergeSegmentsBatch {
        request_id: i64,
        target: String,
        sources: Vec<String>,
        token: DelegationToken,
    }

    CreateTableSegment {
        request_id: i64,
        segment: String,
        token: DelegationToken,
        /// Means nothing any more.
        is_sorted: bool = false,
        /// 0: keys have any length.
        key_length: i32 = 0,
        rollover_size_bytes: i64 = 0,
    }

    DeleteTableSegment {
        request_id: i64,
        segment: String,
        must_be_empty: bool,
        token: DelegationToken,
    }

    GetTableSegmentInfo {
        request_id: i64,
        segment: String,
        token: DelegationToken,
    }

    UpdateTableEntries {
        request_id: i64,
        segment: String,
        token: DelegationToken,
        entries: Vec<TableEntry>,
        /// How long the table must be, or [`ANY_TABLE_LENGTH`].
        table_segment_offset: i64 = ANY_TABLE_LENGTH,
    }

    RemoveTableKeys {
        request_id: i64,
        segment: String,
        token: DelegationToken,
        keys: Vec<TableKey>,
        /// How long the table must be, or [`ANY_TABLE_LENGTH`].
        table_segment_offset: i64 = ANY_TABLE_LENGTH,
    }

    ReadTable {
        request_id: i64,
        segment: String,
        token: DelegationToken,
        keys: Vec<TableKey>,
    }

    ReadTableKeys {
        request_id: i64,
        segment: String,
        token: DelegationToken,
        suggested_key_count: i32,
        range: TableRange,
    }

    ReadTableEntries {
        request_id: i64,
        segment: String,
        token: DelegationToken,
        suggested_entry_count: i32,
        range: TableRange,
    }

    /// What has changed since then.
    ReadTableEntriesDelta {
        request_id: i64,
        segment: String,
        token: DelegationToken,
        from_position: i64,
        suggested_entry_count: i32,
    }

    /// All of a container shall be in long-term storage. Upstream answers it on a port of its own only, and so the next.
    FlushToStorage {
        container_id: i32,
        token: DelegationToken,
        request_id: i64,
    }

    ListStorageChunks {
        segment: String,
        token: DelegationToken,
        request_id: i64,
    }
}

impl Hello {
    /// What is spoken here.
    pub const OURS: Self = Self {
        high_version: VERSION,
        low_version: VERSION_MIN,
    };

    /// Whether there is a version that both sides speak.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.low_version <= other.high_version && other.low_version <= self.high_version
    }
}

impl Request {
    /// Why a type does not lead to a request.
    fn not_here(type_id: i32) -> DecodeError {
        let within_blocks = crate::blocks::name_of(type_id);
        match replies::Reply::name_of(type_id).or(within_blocks) {
            Some(command) => DecodeError::WrongSide { command },
            None => DecodeError::Unknown(type_id),
        }
    }
}
