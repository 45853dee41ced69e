//! Rows as bytes. A key is text, and so a person can read it; a value is a version, and what postcard makes of the types below.
//!
//! ```text
//!  s/<scope>                                  x/<scope>/<stream>/<transaction, 32 hex>
//!  t/<scope>/<stream>                         d/<scope>/<stream>/<transaction, 32 hex>
//!  e/<scope>/<stream>/<epoch, 8 hex>          r/<scope>/<stream>          g/<scope>/<stream>          f
//!  p/<scope>/<stream>
//! ```
//!
//! A field or variant is never changed or removed, and a new variant goes last; anything else is a new version.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::clock::Stamp;
use crate::config::{Config, Rate, Retention, Scaling};
use crate::cuts::Cut;
use crate::epochs::{EpochSegments, Segment};
use crate::error::Corrupt;
use crate::groups::{Group, Subscription};
use crate::names::{Epoch, NUMBER_MAX, Name, SegmentId, StreamName, TxnId};
use crate::ranges::Range;
use crate::rows::{
    Commit, Committed, EndedRow, Head, Key, Replacement, RetentionRow, Row, ScopeRow, State,
    StreamRow, Tail, TxnRow, TxnState,
};

#[cfg(test)]
mod tests;

const VERSION: u8 = 1;

impl Key {
    /// Keys of one kind are next to each other, those of one stream too.
    #[must_use]
    pub(crate) fn encode(&self) -> Vec<u8> {
        let text = match self {
            Self::Scope(scope) => format!("s/{scope}"),
            Self::Stream(stream) => format!("t/{stream}"),
            Self::Epoch(stream, epoch) => format!("e/{stream}/{:08x}", epoch.0),
            Self::Txn(stream, txn) => format!("x/{stream}/{:016x}{:016x}", txn.high, txn.low),
            Self::Ended(stream, txn) => format!("d/{stream}/{:016x}{:016x}", txn.high, txn.low),
            Self::Retention(stream) => format!("r/{stream}"),
            Self::Grave(stream) => format!("g/{stream}"),
            Self::Floor => "f".to_owned(),
            Self::Group(stream) => format!("p/{stream}"),
        };
        text.into_bytes()
    }

    /// # Errors
    /// [`Corrupt`]: it was not written here.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        const WRONG: Corrupt = Corrupt("this is no key of a row");
        let text = std::str::from_utf8(bytes).map_err(|_| WRONG)?;
        let parts: Vec<_> = text.split('/').collect();
        let stream = |scope, name| StreamName::new(scope, name).map_err(|_| WRONG);
        let hex = |text: &str, n_digits| match u64::from_str_radix(text, 16) {
            Ok(number) if text.len() == n_digits => Ok(number),
            _ => Err(WRONG),
        };
        let txn = |text: &str| -> Result<_, Corrupt> {
            let (high, low) = text.split_at_checked(16).ok_or(WRONG)?;
            Ok(TxnId {
                high: hex(high, 16)?,
                low: hex(low, 16)?,
            })
        };
        let key = match parts[..] {
            ["s", scope] => Self::Scope(Name::new(scope).map_err(|_| WRONG)?),
            ["t", scope, name] => Self::Stream(stream(scope, name)?),
            ["e", scope, name, epoch] => {
                let epoch = u32::try_from(hex(epoch, 8)?).map_err(|_| WRONG)?;
                Self::Epoch(stream(scope, name)?, Epoch(epoch))
            }
            ["x", scope, name, id] => Self::Txn(stream(scope, name)?, txn(id)?),
            ["d", scope, name, id] => Self::Ended(stream(scope, name)?, txn(id)?),
            ["r", scope, name] => Self::Retention(stream(scope, name)?),
            ["g", scope, name] => Self::Grave(stream(scope, name)?),
            ["f"] => Self::Floor,
            ["p", scope, name] => Self::Group(stream(scope, name)?),
            _ => return Err(WRONG),
        };
        // Hexadecimal numbers can be written in several ways.
        if key.encode() == bytes {
            Ok(key)
        } else {
            Err(WRONG)
        }
    }
}

impl Row {
    /// The value of it.
    #[must_use]
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Scope(scope) => encode(&ScopeV1(scope.is_deleted)),
            Self::Stream(stream) => encode(&StreamV1::from(&**stream)),
            Self::Epoch(epoch) => {
                let v1 = EpochV1::from(epoch);
                match epoch.created_at_ms {
                    0 => encode(&v1),
                    at_ms => encode_as(2, &EpochV2(v1, at_ms)),
                }
            }
            Self::Txn(txn) => encode(&TxnV1::from(txn)),
            Self::Ended(ended) => encode(&EndedV1(ended.is_committed, ended.at.into())),
            Self::Retention(retention) => {
                let tails = retention.tails.iter();
                let tails = tails.map(|tail| TailV1(tail.at.into(), tail.size, cut_v1(&tail.cut)));
                encode(&RetentionV1(tails.collect()))
            }
            Self::Grave(number) => encode(&GraveV1(*number)),
            Self::Floor(number) => encode(&FloorV1(*number)),
            Self::Group(group) => encode(&GroupV1::from(&**group)),
        }
    }

    /// The row that a key has.
    ///
    /// # Errors
    /// [`Corrupt`]: it was not written here, or by a later version.
    pub(crate) fn decode(key: &Key, bytes: &[u8]) -> Result<Self, Corrupt> {
        Ok(match key {
            Key::Scope(_) => {
                let ScopeV1(is_deleted) = decode(bytes)?;
                Self::Scope(ScopeRow { is_deleted })
            }
            Key::Stream(_) => Self::Stream(Box::new(decode::<StreamV1>(bytes)?.parse()?)),
            Key::Epoch(..) => Self::Epoch(match bytes.first() {
                Some(2) => {
                    let EpochV2(v1, at_ms) = decode_as(2, bytes)?;
                    v1.parse(at_ms)?
                }
                _ => decode::<EpochV1>(bytes)?.parse(0)?,
            }),
            Key::Txn(..) => Self::Txn(decode::<TxnV1>(bytes)?.parse()),
            Key::Ended(..) => {
                let EndedV1(is_committed, at) = decode(bytes)?;
                let at = at.into();
                Self::Ended(EndedRow { is_committed, at })
            }
            Key::Retention(_) => Self::Retention(decode::<RetentionV1>(bytes)?.parse()?),
            Key::Grave(_) => Self::Grave(decode::<GraveV1>(bytes)?.0),
            Key::Floor => Self::Floor(decode::<FloorV1>(bytes)?.0),
            Key::Group(_) => Self::Group(Box::new(decode::<GroupV1>(bytes)?.parse()?)),
        })
    }
}

fn encode(what: &impl Serialize) -> Vec<u8> {
    encode_as(VERSION, what)
}

fn encode_as(version: u8, what: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(&(version, what)).expect("memory takes all that has a length")
}

fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, Corrupt> {
    decode_as(VERSION, bytes)
}

fn decode_as<T: for<'a> Deserialize<'a>>(version: u8, bytes: &[u8]) -> Result<T, Corrupt> {
    match bytes.split_first() {
        Some((found, bytes)) if *found == version => match postcard::take_from_bytes(bytes) {
            Ok((what, [])) => Ok(what),
            _ => Err(Corrupt("these bytes are no row")),
        },
        _ => Err(Corrupt("the row was written by another version")),
    }
}

#[derive(Serialize, Deserialize)]
struct ScopeV1(bool);

#[derive(Serialize, Deserialize)]
struct GraveV1(u32);

#[derive(Serialize, Deserialize)]
struct FloorV1(u32);

/// Counted, and on the wall.
#[derive(Serialize, Deserialize)]
struct StampV1(u64, u64);

impl From<Stamp> for StampV1 {
    fn from(stamp: Stamp) -> Self {
        Self(stamp.counted_ms, stamp.wall_ms)
    }
}

impl From<StampV1> for Stamp {
    fn from(StampV1(counted_ms, wall_ms): StampV1) -> Self {
        Self {
            counted_ms,
            wall_ms,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct EndedV1(bool, StampV1);

#[derive(Serialize, Deserialize)]
struct RetentionV1(Vec<TailV1>);

#[derive(Serialize, Deserialize)]
struct TailV1(StampV1, u64, CutV1);

/// Ids as on the wire, and offsets; in order.
type CutV1 = Vec<(i64, i64)>;

fn cut_v1(cut: &Cut) -> CutV1 {
    cut.iter()
        .map(|(id, offset)| (id.to_wire(), *offset))
        .collect()
}

fn parse_id(id: i64) -> Result<SegmentId, Corrupt> {
    SegmentId::from_wire(id).ok_or(Corrupt("a row has an impossible segment"))
}

fn in_order<T>(items: Vec<(i64, T)>) -> Result<BTreeMap<SegmentId, T>, Corrupt> {
    if items.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Err(Corrupt("the segments of a row are not in order"));
    }
    let items = items
        .into_iter()
        .map(|(id, item)| Ok((parse_id(id)?, item)));
    items.collect()
}

impl RetentionV1 {
    fn parse(self) -> Result<RetentionRow, Corrupt> {
        let tails = self.0.into_iter().map(|TailV1(at, size, cut)| {
            Ok(Tail {
                at: at.into(),
                size,
                cut: in_order(cut)?,
            })
        });
        let tails: Vec<_> = tails.collect::<Result<_, Corrupt>>()?;
        let grows = |a: &Tail, b: &Tail| a.at.counted_ms <= b.at.counted_ms && a.size <= b.size;
        if !tails.is_sorted_by(grows) {
            return Err(Corrupt("the ends of a stream are not in order"));
        }
        Ok(RetentionRow { tails })
    }
}

/// Id, number and range.
#[derive(Serialize, Deserialize)]
struct SegmentV1(i64, f64, f64);

impl From<&Segment> for SegmentV1 {
    fn from(segment: &Segment) -> Self {
        let range = segment.range;
        Self(segment.id.to_wire(), range.low(), range.high())
    }
}

impl SegmentV1 {
    fn parse(self) -> Result<Segment, Corrupt> {
        let range = Range::new(self.1, self.2);
        Ok(Segment {
            id: parse_id(self.0)?,
            range: range.map_err(|_| Corrupt("a row has an impossible range of keys"))?,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct EpochV1 {
    reference: u32,
    segments: Vec<SegmentV1>,
    sealed: Vec<(i64, u64)>,
}

/// Of version 2: with the time at which it was written down.
#[derive(Serialize, Deserialize)]
struct EpochV2(EpochV1, u64);

impl From<&EpochSegments> for EpochV1 {
    fn from(epoch: &EpochSegments) -> Self {
        let sealed = epoch.sealed.iter();
        Self {
            reference: epoch.reference.0,
            segments: epoch.segments().iter().map(SegmentV1::from).collect(),
            sealed: sealed.map(|(id, len)| (id.to_wire(), *len)).collect(),
        }
    }
}

impl EpochV1 {
    fn parse(self, created_at_ms: u64) -> Result<EpochSegments, Corrupt> {
        let n_segments = self.segments.len();
        let segments: Vec<_> = self
            .segments
            .into_iter()
            .map(SegmentV1::parse)
            .collect::<Result<_, _>>()?;
        if self.reference > NUMBER_MAX || !segments.is_sorted_by_key(|segment| segment.id) {
            return Err(Corrupt("the segments of a row are not in order"));
        }
        let mut epoch = EpochSegments::new(Epoch(self.reference), segments)?;
        debug_assert_eq!(epoch.segments().len(), n_segments);
        epoch.sealed = in_order(self.sealed)?;
        epoch.created_at_ms = created_at_ms;
        Ok(epoch)
    }
}

#[derive(Serialize, Deserialize)]
struct TxnV1 {
    state: TxnStateV1,
    lease_ms: u64,
    execution_ms_max: u64,
    executed_ms: u64,
}

#[derive(Serialize, Deserialize)]
enum TxnStateV1 {
    Open,
    /// Order, writer, timestamp.
    Committing(u64, String, Option<i64>),
    Aborting,
}

impl From<&TxnRow> for TxnV1 {
    fn from(txn: &TxnRow) -> Self {
        let state = match &txn.state {
            TxnState::Open => TxnStateV1::Open,
            TxnState::Committing(it) => {
                TxnStateV1::Committing(it.order, it.writer.clone(), it.timestamp)
            }
            TxnState::Aborting => TxnStateV1::Aborting,
        };
        Self {
            state,
            lease_ms: txn.lease_ms,
            execution_ms_max: txn.execution_ms_max,
            executed_ms: txn.executed_ms,
        }
    }
}

impl TxnV1 {
    fn parse(self) -> TxnRow {
        let state = match self.state {
            TxnStateV1::Open => TxnState::Open,
            TxnStateV1::Committing(order, writer, timestamp) => TxnState::Committing(Committed {
                order,
                writer,
                timestamp,
            }),
            TxnStateV1::Aborting => TxnState::Aborting,
        };
        TxnRow {
            state,
            lease_ms: self.lease_ms,
            execution_ms_max: self.execution_ms_max,
            executed_ms: self.executed_ms,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct StreamV1 {
    config: ConfigV1,
    created_at_ms: u64,
    state: StateV1,
    active: u32,
    commit: Option<CommitV1>,
    /// Where it begins, and the size of what was before.
    head: Option<(CutV1, u64)>,
}

#[derive(Serialize, Deserialize)]
struct ConfigV1 {
    rate: RateV1,
    factor: u32,
    segments_min: u32,
    retention: Option<RetentionPolicyV1>,
    tags: Vec<String>,
    timestamp_aggregation_timeout_ms: u64,
    rollover_size_bytes: u64,
}

#[derive(Serialize, Deserialize)]
enum RateV1 {
    Fixed,
    Kilobytes(u32),
    Events(u32),
}

#[derive(Serialize, Deserialize)]
enum RetentionPolicyV1 {
    Time(u64, u64),
    Size(u64, u64),
}

#[derive(Serialize, Deserialize)]
enum StateV1 {
    Creating,
    Active,
    Updating(ConfigV1),
    /// What goes, what comes.
    Scaling(Vec<i64>, Vec<SegmentV1>),
    /// Which segments go. It is not written any more, there may be too many.
    Truncating(Vec<i64>),
    Committing,
    Sealing,
    Sealed,
    Deleting,
    /// From where.
    TruncatingFrom(CutV1),
}

#[derive(Serialize, Deserialize)]
struct CommitV1 {
    epoch: u32,
    txns: Vec<(u64, u64)>,
    is_rolling: bool,
}

impl From<&Config> for ConfigV1 {
    fn from(config: &Config) -> Self {
        let rate = match config.scaling.rate {
            Rate::Fixed => RateV1::Fixed,
            Rate::Kilobytes(rate) => RateV1::Kilobytes(rate),
            Rate::Events(rate) => RateV1::Events(rate),
        };
        let retention = config.retention.map(|retention| match retention {
            Retention::Time { min_ms, max_ms } => RetentionPolicyV1::Time(min_ms, max_ms),
            Retention::Size {
                min_bytes,
                max_bytes,
            } => RetentionPolicyV1::Size(min_bytes, max_bytes),
        });
        Self {
            rate,
            factor: config.scaling.factor,
            segments_min: config.scaling.segments_min,
            retention,
            tags: config.tags.iter().cloned().collect(),
            timestamp_aggregation_timeout_ms: config.timestamp_aggregation_timeout_ms,
            rollover_size_bytes: config.rollover_size_bytes,
        }
    }
}

impl ConfigV1 {
    fn parse(self) -> Result<Config, Corrupt> {
        let rate = match self.rate {
            RateV1::Fixed => Rate::Fixed,
            RateV1::Kilobytes(rate) => Rate::Kilobytes(rate),
            RateV1::Events(rate) => Rate::Events(rate),
        };
        let retention = self.retention.map(|retention| match retention {
            RetentionPolicyV1::Time(min_ms, max_ms) => Retention::Time { min_ms, max_ms },
            RetentionPolicyV1::Size(min_bytes, max_bytes) => Retention::Size {
                min_bytes,
                max_bytes,
            },
        });
        let n_tags = self.tags.len();
        let tags: BTreeSet<_> = self.tags.into_iter().collect();
        if tags.len() != n_tags || self.segments_min == 0 {
            return Err(Corrupt("a row has an impossible configuration"));
        }
        Ok(Config {
            scaling: Scaling {
                rate,
                factor: self.factor,
                segments_min: self.segments_min,
            },
            retention,
            tags,
            timestamp_aggregation_timeout_ms: self.timestamp_aggregation_timeout_ms,
            rollover_size_bytes: self.rollover_size_bytes,
        })
    }
}

impl From<&State> for StateV1 {
    fn from(state: &State) -> Self {
        let wire = |ids: &[SegmentId]| ids.iter().map(|id| id.to_wire()).collect();
        match state {
            State::Creating => Self::Creating,
            State::Active => Self::Active,
            State::Updating(config) => Self::Updating(config.into()),
            State::Scaling(it) => Self::Scaling(
                wire(&it.sealed),
                it.created.iter().map(SegmentV1::from).collect(),
            ),
            State::Truncating(from) => Self::TruncatingFrom(cut_v1(from)),
            State::Committing => Self::Committing,
            State::Sealing => Self::Sealing,
            State::Sealed => Self::Sealed,
            State::Deleting => Self::Deleting,
        }
    }
}

impl StateV1 {
    fn parse(self) -> Result<State, Corrupt> {
        let ids = |ids: Vec<i64>| ids.into_iter().map(parse_id).collect::<Result<Vec<_>, _>>();
        Ok(match self {
            Self::Creating => State::Creating,
            Self::Active => State::Active,
            Self::Updating(config) => State::Updating(config.parse()?),
            Self::Scaling(sealed, created) => {
                let created = created.into_iter().map(SegmentV1::parse);
                State::Scaling(Replacement {
                    sealed: ids(sealed)?,
                    created: created.collect::<Result<_, _>>()?,
                })
            }
            // From the beginning on: what was deleted before is not there.
            Self::Truncating(it) => ids(it).map(|_| State::Truncating(Cut::new()))?,
            Self::TruncatingFrom(from) => State::Truncating(in_order(from)?),
            Self::Committing => State::Committing,
            Self::Sealing => State::Sealing,
            Self::Sealed => State::Sealed,
            Self::Deleting => State::Deleting,
        })
    }
}

impl From<&StreamRow> for StreamV1 {
    fn from(stream: &StreamRow) -> Self {
        Self {
            config: (&stream.config).into(),
            created_at_ms: stream.created_at_ms,
            state: (&stream.state).into(),
            active: stream.active.0,
            commit: stream.commit.as_ref().map(|commit| CommitV1 {
                epoch: commit.epoch.0,
                txns: commit.txns.iter().map(|txn| (txn.high, txn.low)).collect(),
                is_rolling: commit.is_rolling,
            }),
            head: stream
                .head
                .as_ref()
                .map(|head| (cut_v1(&head.cut), head.size)),
        }
    }
}

impl StreamV1 {
    fn parse(self) -> Result<StreamRow, Corrupt> {
        let commit = self.commit.map(|commit| Commit {
            epoch: Epoch(commit.epoch),
            txns: commit
                .txns
                .into_iter()
                .map(|(high, low)| TxnId { high, low })
                .collect(),
            is_rolling: commit.is_rolling,
        });
        let head = match self.head {
            Some((cut, size)) => Some(Head {
                cut: in_order(cut)?,
                size,
            }),
            None => None,
        };
        let state = self.state.parse()?;
        let may_commit = matches!(state, State::Committing | State::Sealing);
        if self.active > NUMBER_MAX
            || (commit.is_some() && !may_commit)
            || (commit.is_none() && state == State::Committing)
            || commit.as_ref().is_some_and(|it| it.epoch.0 > self.active)
        {
            return Err(Corrupt("a row has an impossible stream"));
        }
        Ok(StreamRow {
            config: self.config.parse()?,
            created_at_ms: self.created_at_ms,
            state,
            active: Epoch(self.active),
            commit,
            head,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct GroupV1 {
    id: u128,
    generation: u64,
    refresh_ms: u64,
    checkpoint_ms: u64,
    checkpoints_max: u32,
    retention: SubscriptionV1,
    from: Vec<CutOfV1>,
    to: Vec<CutOfV1>,
    rollover_size_bytes: u64,
}

/// Scope, stream and cut; in order.
#[derive(Serialize, Deserialize)]
struct CutOfV1(String, String, CutV1);

#[derive(Serialize, Deserialize)]
enum SubscriptionV1 {
    None,
    Manual,
    Automatic,
}

impl From<&Group> for GroupV1 {
    fn from(group: &Group) -> Self {
        let cuts = |cuts: &BTreeMap<StreamName, Cut>| {
            let cuts = cuts.iter().map(|(name, cut)| {
                CutOfV1(name.scope.to_string(), name.stream.to_string(), cut_v1(cut))
            });
            cuts.collect()
        };
        Self {
            id: group.id,
            generation: group.generation,
            refresh_ms: group.refresh_ms,
            checkpoint_ms: group.checkpoint_ms,
            checkpoints_max: group.checkpoints_max,
            retention: match group.retention {
                Subscription::None => SubscriptionV1::None,
                Subscription::Manual => SubscriptionV1::Manual,
                Subscription::Automatic => SubscriptionV1::Automatic,
            },
            from: cuts(&group.from),
            to: cuts(&group.to),
            rollover_size_bytes: group.rollover_size_bytes,
        }
    }
}

impl GroupV1 {
    fn parse(self) -> Result<Group, Corrupt> {
        const WRONG: Corrupt = Corrupt("a row has an impossible reader group");
        let cuts = |cuts: Vec<CutOfV1>| {
            let n_cuts = cuts.len();
            let cuts = cuts.into_iter().map(|CutOfV1(scope, stream, cut)| {
                let name = StreamName::new(&scope, &stream).map_err(|_| WRONG)?;
                Ok((name, in_order(cut)?))
            });
            let cuts: BTreeMap<_, _> = cuts.collect::<Result<_, Corrupt>>()?;
            if cuts.len() == n_cuts {
                Ok(cuts)
            } else {
                Err(WRONG)
            }
        };
        Ok(Group {
            id: self.id,
            generation: self.generation,
            refresh_ms: self.refresh_ms,
            checkpoint_ms: self.checkpoint_ms,
            checkpoints_max: self.checkpoints_max,
            retention: match self.retention {
                SubscriptionV1::None => Subscription::None,
                SubscriptionV1::Manual => Subscription::Manual,
                SubscriptionV1::Automatic => Subscription::Automatic,
            },
            from: cuts(self.from)?,
            to: cuts(self.to)?,
            rollover_size_bytes: self.rollover_size_bytes,
        })
    }
}
