//! What the members of a site say to the node that owns its index. Only who has a credential of the site speaks it.
//!
//! ```text
//!  member                                    owner
//!    Join: number, former epoch, address ──▶    a new epoch, and the names in pieces
//!    Names: a part of a piece            ──▶
//!    Follow: how far it has come         ──▶    records that come next, as soon as there are some; and a lease
//!    Commit: a change                    ──▶    the revision that it has
//!    Confirm: a revision                 ──▶    when all members know of it, and it is durable
//!    Leave                               ──▶
//! ```

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use geds_core::index::{self, NodeId, Precondition, Record, Revision};
use geds_core::{Error, Kind, Result};
use ids::Epoch;
use serde::{Deserialize, Serialize};

use super::shapes::WhenV1;
use super::{Op, Reply, decode, encode};

/// Which incarnation of which node.
pub type Member = (NodeId, Epoch);

/// Which site: drawn by its owner when it began.
pub type SiteId = [u8; 16];

const ADDR_BYTES_MAX: usize = 64;
/// Nodes of a site whose addresses are told.
pub const PEERS_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    Join {
        node: NodeId,
        /// Under which it has answered before, and does not any more.
        former: Option<Epoch>,
        /// Where it speaks the node protocol.
        addr: SocketAddr,
        /// Where it was before. `None`: nowhere.
        site: Option<SiteId>,
    },
    Names {
        member: Member,
        piece: u64,
        from: u64,
    },
    Follow {
        member: Member,
        applied: Revision,
        /// The version of the addresses that it knows.
        peers: u64,
    },
    Commit {
        member: Member,
        /// It was decided by what there was then.
        base: Option<Revision>,
        when: Precondition,
        op: index::Op,
    },
    Confirm {
        member: Member,
        revision: Revision,
        is_durable: bool,
    },
    Leave {
        member: Member,
    },
}

#[derive(Serialize, Deserialize)]
struct MemberV1(u32, u64);

#[derive(Serialize, Deserialize)]
struct JoinV1<'a> {
    node: u32,
    former: Option<u64>,
    addr: &'a str,
    site: Option<SiteId>,
}

#[derive(Serialize, Deserialize)]
struct CommitV1<'a> {
    member: MemberV1,
    is_based: bool,
    when: WhenV1<'a>,
    /// What a log would have of it, with the revision that it is based on.
    record: &'a [u8],
}

impl From<Member> for MemberV1 {
    fn from((node, epoch): Member) -> Self {
        Self(node.0, epoch.0)
    }
}

impl From<MemberV1> for Member {
    fn from(MemberV1(node, epoch): MemberV1) -> Self {
        (NodeId(node), Epoch(epoch))
    }
}

impl Site {
    pub(super) fn encode(&self) -> (Op, Vec<u8>) {
        match self {
            Self::Join {
                node,
                former,
                addr,
                site,
            } => {
                let join = JoinV1 {
                    node: node.0,
                    former: former.map(|epoch| epoch.0),
                    addr: &addr.to_string(),
                    site: *site,
                };
                (Op::Join, encode(&join))
            }
            Self::Names {
                member,
                piece,
                from,
            } => (Op::Names, encode(&(MemberV1::from(*member), *piece, *from))),
            Self::Follow {
                member,
                applied,
                peers,
            } => (
                Op::Follow,
                encode(&(MemberV1::from(*member), applied.0, *peers)),
            ),
            Self::Commit {
                member,
                base,
                when,
                op,
            } => {
                let record = Record {
                    revision: base.unwrap_or_default(),
                    op: op.clone(),
                };
                let commit = CommitV1 {
                    member: (*member).into(),
                    is_based: base.is_some(),
                    when: when.into(),
                    record: &record.encode(),
                };
                (Op::Commit, encode(&commit))
            }
            Self::Confirm {
                member,
                revision,
                is_durable,
            } => (
                Op::Confirm,
                encode(&(MemberV1::from(*member), revision.0, *is_durable)),
            ),
            Self::Leave { member } => (Op::Leave, encode(&MemberV1::from(*member))),
        }
    }

    pub(super) fn parse(op: Op, body: &[u8]) -> Result<Self> {
        Ok(match op {
            Op::Join => {
                let join: JoinV1<'_> = decode(body)?;
                Self::Join {
                    node: NodeId(join.node),
                    former: join.former.map(Epoch),
                    addr: addr(join.addr)?,
                    site: join.site,
                }
            }
            Op::Names => {
                let (member, piece, from): (MemberV1, u64, u64) = decode(body)?;
                Self::Names {
                    member: member.into(),
                    piece,
                    from,
                }
            }
            Op::Follow => {
                let (member, applied, peers): (MemberV1, u64, u64) = decode(body)?;
                Self::Follow {
                    member: member.into(),
                    applied: Revision(applied),
                    peers,
                }
            }
            Op::Commit => {
                let commit: CommitV1<'_> = decode(body)?;
                let record = Record::decode(commit.record)?;
                Self::Commit {
                    member: commit.member.into(),
                    base: commit.is_based.then_some(record.revision),
                    when: commit.when.parse()?,
                    op: record.op,
                }
            }
            Op::Confirm => {
                let (member, revision, is_durable): (MemberV1, u64, bool) = decode(body)?;
                Self::Confirm {
                    member: member.into(),
                    revision: Revision(revision),
                    is_durable,
                }
            }
            _ => Self::Leave {
                member: decode::<MemberV1>(body)?.into(),
            },
        })
    }
}

fn addr(text: &str) -> Result<SocketAddr> {
    let addr = text.parse().ok().filter(|_| text.len() <= ADDR_BYTES_MAX);
    addr.ok_or_else(|| Error::new(Kind::Invalid, "where a node listens is no address"))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub epoch: Epoch,
    pub n_pieces: u64,
    pub site: SiteId,
}

impl Reply for Joined {
    fn encode(&self) -> Vec<u8> {
        encode(&(self.epoch.0, self.n_pieces, self.site))
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let (epoch, n_pieces, site) = decode(body)?;
        Ok(Self {
            epoch: Epoch(epoch),
            n_pieces,
            site,
        })
    }
}

/// How long a piece is, a part of which is the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceLen(pub u64);

impl Reply for PieceLen {
    fn encode(&self) -> Vec<u8> {
        encode(&self.0)
    }

    fn parse(body: &[u8]) -> Result<Self> {
        decode(body).map(Self)
    }
}

/// With a lease. The records are the data: see [`to_data`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// What is to be applied before the member may answer anybody. `None`: it has a lease already.
    pub needed: Option<Revision>,
    /// What the owner has.
    pub last: Revision,
    /// Where the nodes are, and the version of that, if there is a newer one.
    pub peers: Option<(u64, Vec<(NodeId, SocketAddr)>)>,
}

#[derive(Serialize, Deserialize)]
struct FollowedV1<'a> {
    needed: Option<u64>,
    last: u64,
    #[serde(borrow)]
    peers: Option<(u64, Vec<(u32, &'a str)>)>,
}

impl Reply for Followed {
    fn encode(&self) -> Vec<u8> {
        let texts: Vec<_> = (self.peers.iter())
            .flat_map(|(_, peers)| peers)
            .map(|(node, addr)| (node.0, addr.to_string()))
            .collect();
        let peers = texts.iter().map(|(node, addr)| (*node, &**addr));
        encode(&FollowedV1 {
            needed: self.needed.map(|needed| needed.0),
            last: self.last.0,
            peers: (self.peers.as_ref()).map(|(version, _)| (*version, peers.collect())),
        })
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let followed: FollowedV1<'_> = decode(body)?;
        let peers = followed.peers.map(|(version, peers)| {
            let peers = peers.into_iter().take(PEERS_MAX);
            let peers = peers.map(|(node, text)| Ok((NodeId(node), addr(text)?)));
            Ok::<_, Error>((version, peers.collect::<Result<Vec<_>>>()?))
        });
        Ok(Self {
            needed: followed.needed.map(Revision),
            last: Revision(followed.last),
            peers: peers.transpose()?,
        })
    }
}

/// What has become of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Done,
    /// It was so already.
    Nothing,
    /// What it was based on is not so any more: decide again.
    Changed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub outcome: Outcome,
    /// The revision of the change, or as of which nothing was done.
    pub at: Revision,
}

impl Reply for Committed {
    fn encode(&self) -> Vec<u8> {
        encode(&(self.outcome, self.at.0))
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let (outcome, at) = decode(body)?;
        Ok(Self {
            outcome,
            at: Revision(at),
        })
    }
}

/// Records one behind the other, each with its length.
pub fn to_data(records: &[Vec<u8>]) -> Bytes {
    let n_bytes = records.iter().map(|record| 4 + record.len()).sum();
    let mut data = BytesMut::with_capacity(n_bytes);
    for record in records {
        data.put_u32_le(u32::try_from(record.len()).expect("it fits a frame"));
        data.put_slice(record);
    }
    data.freeze()
}

/// # Errors
/// `Invalid`; `Corrupt`: what is there is no record.
pub fn from_data(mut data: &[u8]) -> Result<Vec<Record>> {
    let odd = || Error::new(Kind::Invalid, "records that are cut off");
    let mut records = Vec::new();
    while !data.is_empty() {
        let (len, rest) = data.split_first_chunk::<4>().ok_or_else(odd)?;
        let len = u32::from_le_bytes(*len) as usize;
        let (record, rest) = rest.split_at_checked(len).ok_or_else(odd)?;
        records.push(Record::decode(record)?);
        data = rest;
    }
    Ok(records)
}
