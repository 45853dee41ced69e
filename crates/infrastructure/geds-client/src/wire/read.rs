//! Reading objects, piece by piece.

use std::ops::Range;
use std::sync::Arc;

use geds_core::index::{Entry, Name, ObjectId, Precondition};
use geds_core::{Error, Kind, Result};
use ids::Name as Tenant;
use serde::{Deserialize, Serialize};

use super::shapes::{EntryV1, ObjectIdV1, TextsV1, WhenV1};
use super::{DATA_BYTES_MAX, Op, Reply, decode, encode};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Answered with what the name stands for, and the bytes of the range that there are.
    Open {
        name: Name,
        when: Precondition,
        range: Range<u64>,
        /// The number under which more of it will be read. `None`: no more.
        keep: Option<u32>,
    },
    /// More of an object that is open: the same, whatever its name stands for meanwhile.
    More {
        open: u32,
        range: Range<u64>,
    },
    Close {
        open: u32,
    },
    /// Opens what the node itself has of an object, for a node of the site that reads it for a tenant. Answered with the bytes of the range.
    Hold {
        id: ObjectId,
        tenant: Tenant,
        range: Range<u64>,
        keep: u32,
    },
}

#[derive(Serialize, Deserialize)]
struct OpenV1<'a> {
    #[serde(borrow)]
    name: TextsV1<'a>,
    when: WhenV1<'a>,
    from: u64,
    bytes: u32,
    keep: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct ReadV1 {
    open: u32,
    from: u64,
    bytes: u32,
}

#[derive(Serialize, Deserialize)]
struct HoldV1<'a> {
    id: ObjectIdV1,
    tenant: &'a str,
    from: u64,
    bytes: u32,
    keep: u32,
}

impl Read {
    /// Which bytes it asks for.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        match self {
            Self::Open { range, .. } | Self::More { range, .. } | Self::Hold { range, .. } => {
                range.clone()
            }
            Self::Close { .. } => 0..0,
        }
    }

    pub(super) fn encode(&self) -> (Op, Vec<u8>) {
        match self {
            Self::Open {
                name,
                when,
                range,
                keep,
            } => {
                let open = OpenV1 {
                    name: name.into(),
                    when: when.into(),
                    from: range.start,
                    bytes: len_of(range),
                    keep: *keep,
                };
                (Op::Open, encode(&open))
            }
            Self::More { open, range } => {
                let read = ReadV1 {
                    open: *open,
                    from: range.start,
                    bytes: len_of(range),
                };
                (Op::Read, encode(&read))
            }
            Self::Close { open } => (Op::Close, encode(open)),
            Self::Hold {
                id,
                tenant,
                range,
                keep,
            } => {
                let hold = HoldV1 {
                    id: (*id).into(),
                    tenant: tenant.as_str(),
                    from: range.start,
                    bytes: len_of(range),
                    keep: *keep,
                };
                (Op::Hold, encode(&hold))
            }
        }
    }

    pub(super) fn parse(op: Op, body: &[u8]) -> Result<Self> {
        Ok(match op {
            Op::Open => {
                let open: OpenV1<'_> = decode(body)?;
                Self::Open {
                    name: open.name.name()?,
                    when: open.when.parse()?,
                    range: range(open.from, open.bytes)?,
                    keep: open.keep,
                }
            }
            Op::Read => {
                let read: ReadV1 = decode(body)?;
                Self::More {
                    open: read.open,
                    range: range(read.from, read.bytes)?,
                }
            }
            Op::Hold => {
                let hold: HoldV1<'_> = decode(body)?;
                let tenant = hold.tenant.parse();
                Self::Hold {
                    id: hold.id.into(),
                    tenant: tenant.map_err(|_| Error::new(Kind::Invalid, "no tenant"))?,
                    range: range(hold.from, hold.bytes)?,
                    keep: hold.keep,
                }
            }
            _ => Self::Close {
                open: decode(body)?,
            },
        })
    }
}

fn len_of(range: &Range<u64>) -> u32 {
    u32::try_from(range.end - range.start).expect("a piece is short")
}

fn range(from: u64, bytes: u32) -> Result<Range<u64>> {
    let end = from.checked_add(u64::from(bytes));
    match end {
        Some(end) if u64::from(bytes) <= DATA_BYTES_MAX as u64 => Ok(from..end),
        _ => {
            let what = format!("at most {DATA_BYTES_MAX} bytes are read at a time");
            Err(Error::new(Kind::Invalid, what))
        }
    }
}

/// What a name stood for when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found(pub Arc<Entry>);

impl Reply for Found {
    fn encode(&self) -> Vec<u8> {
        encode(&EntryV1::from(&*self.0))
    }

    fn parse(body: &[u8]) -> Result<Self> {
        decode::<EntryV1<'_>>(body)?.parse().map(Self)
    }
}
