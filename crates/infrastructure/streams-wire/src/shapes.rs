//! Fields that have a form of their own.

use std::fmt;

use bytes::Bytes;

use crate::field::{Field, Input, to_i32};
use crate::limits::{FRAME_BYTES_MAX, HEADER_BYTES};
use crate::{EncodeError, Flaw, Outgoing};

/// What the controller gave a client to show to stores. Empty where nobody has to show anything.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct DelegationToken(pub String);

impl fmt::Debug for DelegationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DelegationToken")
    }
}

impl Field for DelegationToken {
    const BYTES_MIN: usize = String::BYTES_MIN;

    fn bytes(&self) -> Result<usize, EncodeError> {
        self.0.bytes()
    }

    fn put(&self, out: &mut Outgoing) {
        self.0.put(out);
    }

    fn take(input: &mut Input) -> Result<Self, Flaw> {
        String::take(input).map(Self)
    }
}

/// One event as it lies in a segment: type 0, length, data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    framed: Bytes,
}

pub(crate) const EVENT_TYPE_ID: i32 = 0;

impl Event {
    /// # Errors
    /// `Frame`: no frame can carry so many bytes.
    pub fn new(data: &[u8]) -> Result<Self, EncodeError> {
        let bytes = HEADER_BYTES + data.len();
        if bytes > FRAME_BYTES_MAX {
            let command = "Event";
            return Err(EncodeError::Frame { command, bytes });
        }
        let header = [
            EVENT_TYPE_ID.to_be_bytes(),
            to_i32(data.len()).to_be_bytes(),
        ];
        let framed = [header.as_flattened(), data].concat().into();
        Ok(Self { framed })
    }

    #[must_use]
    pub fn data(&self) -> Bytes {
        self.framed.slice(HEADER_BYTES..)
    }

    /// With its header: what is appended.
    #[must_use]
    pub fn framed(&self) -> &Bytes {
        &self.framed
    }
}

impl Field for Event {
    const BYTES_MIN: usize = HEADER_BYTES;

    fn bytes(&self) -> Result<usize, EncodeError> {
        Ok(self.framed.len())
    }

    fn put(&self, out: &mut Outgoing) {
        out.put_shared(&self.framed);
    }

    fn take(input: &mut Input) -> Result<Self, Flaw> {
        let whole = input.0.clone();
        let type_id = i32::take(input)?;
        if type_id != EVENT_TYPE_ID {
            return Err(Flaw::NotAnEvent(type_id));
        }
        let length = input.length()?;
        input.take(length)?;
        let framed = whole.slice(..HEADER_BYTES + length);
        Ok(Self { framed })
    }
}

/// A key of a table, and which version of it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableKey {
    key: Bytes,
    version: i64,
}

impl TableKey {
    /// Whatever the version is. `WireCommands.java`, `TableKey.NO_VERSION`.
    pub const NO_VERSION: i64 = i64::MIN;
    /// There must be no such key, or is none. `WireCommands.java`, `TableKey.NOT_EXISTS`.
    pub const NOT_EXISTS: i64 = -1;
    /// No key: it stands for none, and the only version it can have is [`TableKey::NO_VERSION`].
    pub const EMPTY: Self = Self {
        key: Bytes::new(),
        version: Self::NO_VERSION,
    };

    /// An empty key is [`TableKey::EMPTY`], whatever the version: that of an empty key does not go over the wire.
    #[must_use]
    pub fn new(key: Bytes, version: i64) -> Self {
        if key.is_empty() {
            return Self::EMPTY;
        }
        Self { key, version }
    }

    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// What a key says of its length: as if there were always a version.
    fn claimed_bytes(key_bytes: usize) -> usize {
        4 + key_bytes + 8
    }
}

impl Field for TableKey {
    const BYTES_MIN: usize = 8;

    fn bytes(&self) -> Result<usize, EncodeError> {
        let version_bytes = if self.key.is_empty() { 0 } else { 8 };
        Ok(8 + self.key.len() + version_bytes)
    }

    fn put(&self, out: &mut Outgoing) {
        to_i32(Self::claimed_bytes(self.key.len())).put(out);
        self.key.put(out);
        if !self.key.is_empty() {
            self.version.put(out);
        }
    }

    fn take(input: &mut Input) -> Result<Self, Flaw> {
        let claimed = i32::take(input)?;
        let key = Bytes::take(input)?;
        if claimed != to_i32(Self::claimed_bytes(key.len())) {
            return Err(Flaw::Length(claimed));
        }
        if key.is_empty() {
            return Ok(Self::EMPTY);
        }
        let version = i64::take(input)?;
        Ok(Self { key, version })
    }
}

/// Empty is what is answered for a key that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TableValue(pub Bytes);

impl Field for TableValue {
    const BYTES_MIN: usize = 8;

    fn bytes(&self) -> Result<usize, EncodeError> {
        Ok(8 + self.0.len())
    }

    fn put(&self, out: &mut Outgoing) {
        to_i32(4 + self.0.len()).put(out);
        self.0.put(out);
    }

    fn take(input: &mut Input) -> Result<Self, Flaw> {
        let claimed = i32::take(input)?;
        let value = Bytes::take(input)?;
        if claimed != to_i32(4 + value.len()) {
            return Err(Flaw::Length(claimed));
        }
        Ok(Self(value))
    }
}

record! {
    TableEntry {
        key: TableKey,
        value: TableValue,
    }

    /// Which keys an iteration is about. Empty is no bound.
    #[derive(Default)]
    TableRange {
        /// Where the last answer ended.
        continuation_token: Bytes = Bytes::new(),
        /// Not used any more since release 0.10.
        prefix: Bytes = Bytes::new(),
        from_key: Bytes = Bytes::new(),
        to_key: Bytes = Bytes::new(),
    }

    /// A change of an attribute of the segment that another one is merged into.
    AttributeUpdate {
        attribute_id: u128,
        kind: AttributeUpdateKind,
        new_value: i64,
        /// [`NO_ATTRIBUTE`](crate::limits::NO_ATTRIBUTE): it is not set.
        old_value: i64,
    }

    /// A segment that was merged.
    MergedSegment {
        source: String,
        /// Of the target, behind it.
        new_target_write_offset: i64,
    }

    /// A piece of a segment in long-term storage.
    ChunkInfo {
        length_in_metadata: i64,
        length_in_storage: i64,
        start_offset: i64,
        name: String,
        exists_in_storage: bool,
    }
}

/// An enum that is a number, and what other numbers are.
macro_rules! codes {
    ($(
        $(#[$about:meta])*
        $name:ident: $number:ident {
            $($(#[$about_value:meta])* $value:ident = $code:literal),* $(,)?
        }
        else |$other:ident| $otherwise:expr;
    )*) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$about_value])* $value),*
        }

        impl Field for $name {
            const BYTES_MIN: usize = $number::BYTES_MIN;

            fn bytes(&self) -> Result<usize, EncodeError> {
                Ok(Self::BYTES_MIN)
            }

            fn put(&self, out: &mut Outgoing) {
                let code: $number = match self {
                    $(Self::$value => $code),*
                };
                code.put(out);
            }

            fn take(input: &mut Input) -> Result<Self, Flaw> {
                match $number::take(input)? {
                    $($code => Ok(Self::$value),)*
                    $other => $otherwise,
                }
            }
        }

        #[cfg(test)]
        impl crate::any::Any for $name {
            fn any(source: &mut crate::any::Source) -> Self {
                let values = [$(Self::$value),*];
                values[source.below(values.len())]
            }
        }
    )*};
}

codes! {
    /// What the rate of a segment is measured in, by which its stream is scaled. `ScaleType.java`.
    ScaleType: u8 {
        NoScaling = 0,
        /// In KB a second.
        Throughput = 1,
        /// In events a second.
        EventRate = 2,
    }
    else |other| Err(Flaw::Code(other.into()));

    /// `AttributeUpdateType.java`.
    AttributeUpdateKind: u8 {
        None = 0,
        Replace = 1,
        ReplaceIfGreater = 2,
        Accumulate = 3,
        ReplaceIfEquals = 4,
    }
    else |other| Err(Flaw::Code(other.into()));

    /// `WireCommands.java`, `AuthTokenCheckFailed.ErrorCode`.
    TokenError: i32 {
        /// Of stores that do not say it yet.
        Unspecified = -1,
        CheckFailed = 0,
        /// A new one may be better.
        Expired = 1,
    }
    else |_other| Ok(Self::CheckFailed);

    /// `WireCommands.java`, `ErrorMessage.ErrorCode`.
    ErrorCode: i32 {
        Unspecified = -1,
        IllegalArgument = 0,
    }
    else |_other| Ok(Self::Unspecified);
}

#[cfg(test)]
mod any {
    use super::*;
    use crate::any::{Any, Source};

    impl Any for DelegationToken {
        fn any(source: &mut Source) -> Self {
            Self(String::any(source))
        }
    }

    impl Any for Event {
        fn any(source: &mut Source) -> Self {
            Self::new(&Bytes::any(source)).expect("it is short")
        }
    }

    impl Any for TableKey {
        fn any(source: &mut Source) -> Self {
            Self::new(Bytes::any(source), i64::any(source))
        }
    }

    impl Any for TableValue {
        fn any(source: &mut Source) -> Self {
            Self(Bytes::any(source))
        }
    }
}
