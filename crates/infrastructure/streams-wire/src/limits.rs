//! Numbers that both sides have to agree on. Where they stand upstream is named with each.

/// The newest version that is spoken here. `WireCommands.java`, `WIRE_VERSION`.
pub const VERSION: i32 = 17;
/// `WireCommands.java`, `OLDEST_COMPATIBLE_VERSION`.
pub const VERSION_MIN: i32 = 5;

/// Type and length of a frame. `WireCommands.java`, `TYPE_PLUS_LENGTH_SIZE`.
pub const HEADER_BYTES: usize = 8;
/// Of a frame that is sent, with its header. `WireCommands.java`, `MAX_WIRECOMMAND_SIZE`, as `PravegaConnectionListener.java` applies it.
pub const FRAME_BYTES_MAX: usize = 0x00FF_FFFF;
/// Of a frame that is received, without its header: the client in Rust (`client_connection.rs`) understands the same limit so.
pub const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Of a text, in the form in which it is sent. `java.io.DataOutput`, `writeUTF`.
pub const TEXT_BYTES_MAX: usize = 65_535;

/// Of one event without its header; clients send longer ones by way of transient segments. `Serializer.java`, `MAX_EVENT_SIZE`.
pub const EVENT_BYTES_MAX: usize = 8 << 20;
/// What one read is answered with. `PravegaRequestProcessor.java`, `MAX_READ_SIZE`.
pub const READ_BYTES_MAX: usize = 2 << 20;

/// `TableStore.java`, `MAXIMUM_KEY_LENGTH`.
pub const TABLE_KEY_BYTES_MAX: usize = 8 << 10;
/// `TableStore.java`, `MAXIMUM_VALUE_LENGTH`.
pub const TABLE_VALUE_BYTES_MAX: usize = (1 << 20) - TABLE_KEY_BYTES_MAX;
/// Of the entries of one update. `EntrySerializer.java`, `MAX_BATCH_SIZE`.
pub const TABLE_BATCH_BYTES_MAX: usize = 32 << 20;

/// No attribute of that name, or no event of that writer. `WireCommands.java`, `NULL_ATTRIBUTE_VALUE`.
pub const NO_ATTRIBUTE: i64 = i64::MIN;
/// The length of a table does not matter to an update. `WireCommands.java`, `NULL_TABLE_SEGMENT_OFFSET`.
pub const ANY_TABLE_LENGTH: i64 = -1;
/// What a request has whose sender knows none yet. `WireCommands.java`, the constant -1 of many `readFrom`.
pub const NO_REQUEST_ID: i64 = -1;
/// Of a reply whose sender does not say it yet. `WireCommands.java`, likewise.
pub const NO_OFFSET: i64 = -1;
