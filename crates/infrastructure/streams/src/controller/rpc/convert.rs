//! Between what clients say and what the control plane says.

use std::collections::HashMap;

use streams_control::{
    Config, Cut, Name, Range, Rate, Refusal, Retention, Scaling, Segment, SegmentId, StreamName,
    TxnId,
};
use streams_proto::controller as wire;
use tonic::Status;
use wire::retention_policy::RetentionPolicyType;
use wire::scaling_policy::ScalingPolicyType;

/// For what has no status in the answer.
pub(super) fn status(refusal: &Refusal) -> Status {
    let message = refusal.to_string();
    match refusal {
        Refusal::Invalid(_) => Status::invalid_argument(message),
        Refusal::ScopeExists | Refusal::StreamExists => Status::already_exists(message),
        Refusal::NoScope | Refusal::NoStream | Refusal::NoTransaction => Status::not_found(message),
        Refusal::Limit { .. } => Status::resource_exhausted(message),
        Refusal::Unavailable | Refusal::Fenced => Status::unavailable(message),
        // Of what there is.
        _ => Status::failed_precondition(message),
    }
}

pub(super) fn info(info: Option<&wire::StreamInfo>) -> Result<&wire::StreamInfo, Status> {
    info.ok_or_else(|| Status::invalid_argument("no stream is named"))
}

/// Nothing has a name that is none.
pub(super) fn scope(scope: &str) -> Result<Name, Refusal> {
    Name::new(scope).map_err(|_| Refusal::NoScope)
}

/// Nothing has a name that is none.
pub(super) fn stream(info: &wire::StreamInfo) -> Result<StreamName, Refusal> {
    StreamName::new(&info.scope, &info.stream).map_err(|_| Refusal::NoStream)
}

pub(super) fn stream_info(stream: &StreamName) -> wire::StreamInfo {
    wire::StreamInfo {
        scope: stream.scope.to_string(),
        stream: stream.stream.to_string(),
        access_operation: 0,
    }
}

pub(super) fn segment_id(stream: &StreamName, id: SegmentId) -> wire::SegmentId {
    wire::SegmentId {
        stream_info: Some(stream_info(stream)),
        segment_id: id.to_wire(),
    }
}

pub(super) fn segment_range(stream: &StreamName, segment: &Segment) -> wire::SegmentRange {
    wire::SegmentRange {
        segment_id: Some(segment_id(stream, segment.id)),
        min_key: segment.range.low(),
        max_key: segment.range.high(),
    }
}

/// In the order of their keys.
pub(super) fn segment_ranges(stream: &StreamName, segments: &[Segment]) -> Vec<wire::SegmentRange> {
    let ranges = segments.iter().map(|it| segment_range(stream, it));
    let mut ranges: Vec<_> = ranges.collect();
    ranges.sort_by(|a, b| a.min_key.total_cmp(&b.min_key));
    ranges
}

pub(super) fn cut(cut: &HashMap<i64, i64>) -> Result<Cut, Refusal> {
    let offsets = cut.iter().map(|(id, offset)| {
        let id = SegmentId::from_wire(*id);
        let id = id.ok_or(Refusal::Precondition("a segment of the cut is none"))?;
        Ok((id, *offset))
    });
    offsets.collect()
}

pub(super) fn key_range(range: &wire::scale_request::KeyRangeEntry) -> Result<Range, Refusal> {
    Range::new(range.start, range.end)
}

pub(super) fn txn(txn: Option<&wire::TxnId>) -> Result<TxnId, Status> {
    let txn = txn.ok_or_else(|| Status::invalid_argument("no transaction is named"))?;
    Ok(TxnId {
        high: txn.high_bits.cast_unsigned(),
        low: txn.low_bits.cast_unsigned(),
    })
}

pub(super) fn txn_id(txn: TxnId) -> wire::TxnId {
    wire::TxnId {
        high_bits: txn.high.cast_signed(),
        low_bits: txn.low.cast_signed(),
    }
}

/// What clients say has a sign.
pub(super) fn unsigned<T: TryInto<U>, U>(number: T) -> Result<U, Refusal> {
    let number = number.try_into();
    number.map_err(|_| Refusal::Invalid("a number is negative"))
}

fn signed<T: TryInto<i32>>(number: T) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

fn signed_long(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

pub(super) fn config(config: &wire::StreamConfig) -> Result<Config, Refusal> {
    let tags = config.tags.iter().flat_map(|tags| &tags.tag);
    Ok(Config {
        scaling: scaling(&config.scaling_policy.unwrap_or_default())?,
        retention: match &config.retention_policy {
            Some(policy) => retention(policy)?,
            None => None,
        },
        tags: tags.cloned().collect(),
        timestamp_aggregation_timeout_ms: unsigned(config.timestamp_aggregation_timeout)?,
        rollover_size_bytes: unsigned(config.rollover_size_bytes)?,
    })
}

fn scaling(policy: &wire::ScalingPolicy) -> Result<Scaling, Refusal> {
    let target = unsigned(policy.target_rate)?;
    let kind = ScalingPolicyType::try_from(policy.scale_type);
    let kind = kind.map_err(|_| Refusal::Invalid("streams are not scaled like this"))?;
    Ok(Scaling {
        rate: match kind {
            ScalingPolicyType::FixedNumSegments => Rate::Fixed,
            ScalingPolicyType::ByRateInKbytesPerSec => Rate::Kilobytes(target),
            ScalingPolicyType::ByRateInEventsPerSec => Rate::Events(target),
        },
        factor: unsigned(policy.scale_factor)?,
        segments_min: unsigned(policy.min_num_segments)?,
    })
}

fn retention(policy: &wire::RetentionPolicy) -> Result<Option<Retention>, Refusal> {
    let kind = RetentionPolicyType::try_from(policy.retention_type);
    let kind = kind.map_err(|_| Refusal::Invalid("streams are not kept like this"))?;
    let min = unsigned(policy.retention_param)?;
    // Older clients know no upper bound.
    let max = match policy.retention_max {
        0 | i64::MAX => u64::MAX,
        max => unsigned(max)?,
    };
    Ok(match kind {
        RetentionPolicyType::Unknown => None,
        RetentionPolicyType::Time => Some(Retention::Time {
            min_ms: min,
            max_ms: max,
        }),
        RetentionPolicyType::Size => Some(Retention::Size {
            min_bytes: min,
            max_bytes: max,
        }),
    })
}

pub(super) fn stream_config(stream: &StreamName, config: &Config) -> wire::StreamConfig {
    let (kind, target) = match config.scaling.rate {
        Rate::Fixed => (ScalingPolicyType::FixedNumSegments, 0),
        Rate::Kilobytes(target) => (ScalingPolicyType::ByRateInKbytesPerSec, target),
        Rate::Events(target) => (ScalingPolicyType::ByRateInEventsPerSec, target),
    };
    let timeout_ms = config.timestamp_aggregation_timeout_ms;
    wire::StreamConfig {
        stream_info: Some(stream_info(stream)),
        scaling_policy: Some(wire::ScalingPolicy {
            scale_type: kind.into(),
            target_rate: signed(target),
            scale_factor: signed(config.scaling.factor),
            min_num_segments: signed(config.scaling.segments_min),
        }),
        retention_policy: config.retention.map(retention_policy),
        // There even if it is empty: see the protocol.
        tags: Some(wire::Tags {
            tag: config.tags.iter().cloned().collect(),
        }),
        timestamp_aggregation_timeout: signed_long(timeout_ms),
        rollover_size_bytes: signed_long(config.rollover_size_bytes),
    }
}

fn retention_policy(retention: Retention) -> wire::RetentionPolicy {
    let (kind, min, max) = match retention {
        Retention::Time { min_ms, max_ms } => (RetentionPolicyType::Time, min_ms, max_ms),
        Retention::Size {
            min_bytes,
            max_bytes,
        } => (RetentionPolicyType::Size, min_bytes, max_bytes),
    };
    wire::RetentionPolicy {
        retention_type: kind.into(),
        retention_param: signed_long(min),
        retention_max: signed_long(max),
    }
}
