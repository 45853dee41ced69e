//! The first 32 bytes of a frame.

use geds_core::to_usize;
use geds_core::{Error, Kind, Result};

use super::{BODY_BYTES_MAX, DATA_BYTES_MAX};

const MAGIC: [u8; 4] = *b"GEDS";
const VERSION: u8 = 1;
pub const HEADER_BYTES: usize = 32;
/// The frame is an answer.
const REPLY: u16 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Not yet known to be an [`Op`].
    pub op: u8,
    pub is_reply: bool,
    /// Of an answer.
    pub error: Option<Kind>,
    pub request: u64,
    /// At most [`BODY_BYTES_MAX`].
    pub body_bytes: usize,
    /// At most [`DATA_BYTES_MAX`].
    pub data_bytes: usize,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let flags = if self.is_reply { REPLY } else { 0 };
        let status = self.error.map_or(0, code_of);
        let body_bytes = u32::try_from(self.body_bytes).expect("it is bounded");
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.op;
        bytes[6..8].copy_from_slice(&flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.request.to_le_bytes());
        bytes[16..18].copy_from_slice(&status.to_le_bytes());
        bytes[20..24].copy_from_slice(&body_bytes.to_le_bytes());
        bytes[24..].copy_from_slice(&(self.data_bytes as u64).to_le_bytes());
        bytes
    }

    /// # Errors
    /// `Invalid`: there is nothing to be understood any more on this connection.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        if bytes[..4] != MAGIC {
            return refuse("this is not the node protocol of GEDS".to_owned());
        }
        if bytes[4] != VERSION {
            let theirs = bytes[4];
            return refuse(format!(
                "version {theirs} of the node protocol is not spoken here, but {VERSION}"
            ));
        }
        let flags = u16::from_le_bytes(field(bytes, 6));
        let status = u16::from_le_bytes(field(bytes, 16));
        let is_reply = flags == REPLY;
        let is_known = flags & !REPLY == 0 && field(bytes, 18) == [0; 2];
        if !is_known || (status != 0 && !is_reply) {
            return refuse("a frame has flags that version 1 does not have".to_owned());
        }
        let body_bytes = u64::from(u32::from_le_bytes(field(bytes, 20)));
        let data_bytes = u64::from_le_bytes(field(bytes, 24));
        if body_bytes > BODY_BYTES_MAX as u64 || data_bytes > DATA_BYTES_MAX as u64 {
            return refuse(format!(
                "a frame has at most {BODY_BYTES_MAX} bytes of body and {DATA_BYTES_MAX} of data"
            ));
        }
        Ok(Self {
            op: bytes[5],
            is_reply,
            error: (status != 0).then(|| kind_of(status)),
            request: u64::from_le_bytes(field(bytes, 8)),
            body_bytes: to_usize(body_bytes),
            data_bytes: to_usize(data_bytes),
        })
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("it is within")
}

fn refuse<T>(why: String) -> Result<T> {
    Err(Error::new(Kind::Invalid, why))
}

macro_rules! ops {
    ($($op:ident = $code:literal),* $(,)?) => {
        /// What a frame is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Op {
            $($op = $code),*
        }

        impl Op {
            #[cfg(test)]
            pub const ALL: &[Self] = &[$(Self::$op),*];

            /// # Errors
            /// `Invalid`.
            pub fn parse(code: u8) -> Result<Self> {
                match code {
                    $($code => Ok(Self::$op),)*
                    _ => refuse(format!("version {VERSION} has no operation {code}")),
                }
            }

            pub fn name(code: u8) -> &'static str {
                match code {
                    $($code => stringify!($op),)*
                    _ => "unknown",
                }
            }

            pub fn code(self) -> u8 {
                match self {
                    $(Self::$op => $code),*
                }
            }
        }
    };
}

ops! {
    Hello = 1,
    Prove = 2,
    CreateBucket = 3,
    DeleteBucket = 4,
    Buckets = 5,
    Status = 6,
    List = 7,
    Statistics = 8,
    Open = 9,
    Read = 10,
    Close = 11,
    Begin = 12,
    Write = 13,
    Truncate = 14,
    Seal = 15,
    Abort = 16,
    Copy = 17,
    Rename = 18,
    RenamePrefix = 19,
    Delete = 20,
    DeletePrefix = 21,
    SetMetadata = 22,
    Consume = 23,
    Watch = 24,
    Cancel = 25,
    Relocate = 26,
    Persist = 27,
    Attach = 28,
    MakeRoom = 29,
    Scrub = 30,
    Join = 31,
    Names = 32,
    Follow = 33,
    Commit = 34,
    Confirm = 35,
    Leave = 36,
    Hold = 37,
    Detach = 38,
    AttachWriter = 39,
}

/// Not 0.
fn code_of(kind: Kind) -> u16 {
    match kind {
        Kind::Invalid => 1,
        Kind::NotFound => 2,
        Kind::Denied => 3,
        Kind::Conflict => 4,
        Kind::Fenced => 5,
        Kind::Exhausted => 6,
        Kind::Unavailable => 7,
        Kind::Lost => 8,
        Kind::Corrupt => 9,
        Kind::Internal => 10,
    }
}

/// A kind that is not known is a mistake of somebody.
fn kind_of(code: u16) -> Kind {
    match code {
        1 => Kind::Invalid,
        2 => Kind::NotFound,
        3 => Kind::Denied,
        4 => Kind::Conflict,
        5 => Kind::Fenced,
        6 => Kind::Exhausted,
        7 => Kind::Unavailable,
        8 => Kind::Lost,
        9 => Kind::Corrupt,
        _ => Kind::Internal,
    }
}
