//! What the control plane calls for, as operations of a store, and what came of them as the control plane is told.

use std::time::UNIX_EPOCH;

use futures_util::{StreamExt as _, stream};
use streams_control::{Call, Outcome, Rate, Version};
use streams_core::attributes::{AttributeId, AttributeUpdate, UpdateKind};
use streams_core::op::Op;
use streams_core::segment::Kind;
use streams_core::{Refusal, SegmentName};
use streams_store::Error;

use super::segments::Segments;

/// Calls of one plan that are made at once.
const CALLS_MAX: usize = 64;

/// All of them are made, whatever becomes of the others: so none is under way when they are made again.
pub(super) async fn make(segments: &dyn Segments, calls: Vec<Call>) -> Outcome {
    let made: Vec<_> = calls
        .into_iter()
        .map(|call| make_one(segments, call))
        .collect();
    let made: Vec<_> = stream::iter(made).buffered(CALLS_MAX).collect().await;
    if made.contains(&Err(Outcome::Lost)) {
        return Outcome::Lost;
    }
    let replies: Result<Vec<_>, _> = made.into_iter().collect();
    replies.map_or_else(|outcome| outcome, Outcome::Called)
}

/// A length if it is asked for, or what is to be told of all of them.
async fn make_one(segments: &dyn Segments, call: Call) -> Result<u64, Outcome> {
    let done = match &call {
        Call::Length(segment) => length(segments, segment).await,
        _ => execute(segments, &call).await.map(|()| 0),
    };
    done.map_err(|error| match error {
        Error::Refused(Refusal::Busy) => failed(&error),
        // There is no room for a segment; for bytes there will be.
        Error::Refused(Refusal::Limit { .. }) if !matches!(call, Call::Create { .. }) => {
            failed(&error)
        }
        Error::Refused(_) => refused(&error),
        Error::Unavailable(_) | Error::Corrupt(_) => failed(&error),
        Error::Ended(_) | Error::Fenced => lost(&error),
    })
}

/// Nothing, if it is not there.
async fn length(segments: &dyn Segments, segment: &str) -> Result<u64, Error> {
    match segments.info(&SegmentName::new(segment)?).await {
        Ok(info) => Ok(info.length),
        Err(Error::Refused(Refusal::NoSuchSegment(_))) => Ok(0),
        Err(error) => Err(error),
    }
}

async fn execute(segments: &dyn Segments, call: &Call) -> Result<(), Error> {
    let Err(error) = segments.execute(op(call)?).await else {
        return Ok(());
    };
    let was_done = match (&error, call) {
        (Error::Refused(Refusal::NoSuchSegment(_)), Call::Merge { sources, .. }) => {
            is_none_there(segments, sources).await?
        }
        (Error::Refused(why), _) => was_done(call, why),
        _ => false,
    };
    if was_done { Ok(()) } else { Err(error) }
}

async fn is_none_there(segments: &dyn Segments, names: &[String]) -> Result<bool, Error> {
    for name in names {
        match segments.info(&SegmentName::new(name)?).await {
            Ok(_) => return Ok(false),
            Err(Error::Refused(Refusal::NoSuchSegment(_))) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn op(call: &Call) -> Result<Op, Refusal> {
    Ok(match call {
        Call::Create {
            segment,
            rate,
            rollover_size_bytes,
        } => {
            let rollover_size = i64::try_from(*rollover_size_bytes).unwrap_or(i64::MAX);
            let [kind, target] = policy(*rate);
            let created_at = AttributeUpdate {
                id: AttributeId::CREATION_TIME,
                value: wall_ms().try_into().unwrap_or(i64::MAX),
                kind: UpdateKind::None,
            };
            let rollover_size = replaced(AttributeId::ROLLOVER_SIZE, rollover_size);
            Op::Create {
                segment: SegmentName::new(segment)?,
                kind: Kind::Stream,
                attributes: vec![kind, target, rollover_size, created_at],
            }
        }
        Call::SetPolicy { segment, rate } => Op::UpdateAttributes {
            segment: SegmentName::new(segment)?,
            updates: policy(*rate).into(),
        },
        Call::Seal(segment) => Op::Seal(SegmentName::new(segment)?),
        Call::Truncate { segment, offset } => Op::Truncate {
            segment: SegmentName::new(segment)?,
            offset: *offset,
        },
        Call::Merge { target, sources } => {
            let sources = sources.iter().map(|source| SegmentName::new(source));
            Op::MergeBatch {
                target: SegmentName::new(target)?,
                sources: sources.collect::<Result<_, _>>()?,
            }
        }
        Call::Delete(segment) => Op::Delete(SegmentName::new(segment)?),
        Call::Length(_) => unreachable!("it changes nothing"),
    })
}

/// The store says so because the call was made before, or one that follows it.
fn was_done(call: &Call, why: &Refusal) -> bool {
    match (call, why) {
        (Call::Create { .. }, Refusal::Exists(_))
        | (
            Call::SetPolicy { .. } | Call::Seal(_),
            Refusal::Sealed(_) | Refusal::NoSuchSegment(_),
        )
        | (Call::Truncate { .. } | Call::Delete(_), Refusal::NoSuchSegment(_)) => true,
        (Call::Truncate { offset, .. }, Refusal::BadOffset { expected }) => offset <= expected,
        _ => false,
    }
}

/// As segment stores have it: `SCALE_POLICY_TYPE` and `SCALE_POLICY_RATE`.
fn policy(rate: Rate) -> [AttributeUpdate; 2] {
    let (kind, target) = match rate {
        Rate::Fixed => (0, 0),
        Rate::Kilobytes(target) => (1, target),
        Rate::Events(target) => (2, target),
    };
    [
        replaced(AttributeId::SCALE_POLICY_TYPE, kind),
        replaced(AttributeId::SCALE_POLICY_RATE, target.into()),
    ]
}

fn replaced(id: AttributeId, value: i64) -> AttributeUpdate {
    let kind = UpdateKind::Replace;
    AttributeUpdate { id, value, kind }
}

/// What the control plane is told of a write.
pub(super) fn written(written: Result<Vec<Version>, Error>) -> Outcome {
    written.map_or_else(
        |error| match error {
            Error::Refused(Refusal::Limit { .. } | Refusal::Busy | Refusal::Invalid(_))
            | Error::Unavailable(_)
            | Error::Corrupt(_) => failed(&error),
            // Rows are not as they were left, or it is not known how they are.
            Error::Refused(_) | Error::Ended(_) | Error::Fenced => lost(&error),
        },
        Outcome::Written,
    )
}

fn failed(error: &Error) -> Outcome {
    tracing::warn!(%error, "the store has not done what the controller needs; it is tried again");
    Outcome::Failed
}

/// It will be refused again.
fn refused(error: &Error) -> Outcome {
    tracing::warn!(%error, "the store refuses what the controller needs");
    Outcome::Refused(error.to_string())
}

fn lost(error: &Error) -> Outcome {
    tracing::error!(%error, "the rows of the controller are not its own any more");
    Outcome::Lost
}

/// What the clock on the wall says.
pub(super) fn wall_ms() -> u64 {
    let since = rt::wall().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}
