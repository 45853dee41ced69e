//! What a stream is to be like.

use streams_proto::controller::retention_policy::RetentionPolicyType;
use streams_proto::controller::scaling_policy::ScalingPolicyType;
use streams_proto::controller::{self as proto, RetentionPolicy, ScalingPolicy, Tags};

use super::info;
use crate::Error;
use crate::names::StreamName;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    pub scaling: Scaling,
    pub retention: Retention,
    pub tags: Vec<String>,
    /// 0: as the store likes.
    pub rollover_bytes: i64,
}

/// When segments are split and merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    Fixed {
        n_segments: i32,
    },
    /// If one has more, or much less.
    KilobytesPerSecond(Rate),
    EventsPerSecond(Rate),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Of one segment.
    pub target: i32,
    /// Into so many at most one is split.
    pub factor: i32,
    pub n_segments_min: i32,
}

/// What is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    Nothing,
    /// What is older. With a maximum of 0, just that; otherwise what consumers have read, between the two.
    ByTime {
        ms_min: i64,
        ms_max: i64,
    },
    /// What is before so many bytes.
    BySize {
        bytes_min: i64,
        bytes_max: i64,
    },
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            scaling: Scaling::Fixed { n_segments: 1 },
            retention: Retention::Nothing,
            tags: Vec::new(),
            rollover_bytes: 0,
        }
    }
}

impl StreamConfig {
    pub(super) fn render(&self, stream: &StreamName) -> proto::StreamConfig {
        let by_rate = |kind: ScalingPolicyType, rate: Rate| ScalingPolicy {
            scale_type: kind.into(),
            target_rate: rate.target,
            scale_factor: rate.factor,
            min_num_segments: rate.n_segments_min,
        };
        let scaling = match self.scaling {
            Scaling::Fixed { n_segments } => ScalingPolicy {
                scale_type: ScalingPolicyType::FixedNumSegments.into(),
                target_rate: 0,
                scale_factor: 0,
                min_num_segments: n_segments,
            },
            Scaling::KilobytesPerSecond(rate) => {
                by_rate(ScalingPolicyType::ByRateInKbytesPerSec, rate)
            }
            Scaling::EventsPerSecond(rate) => {
                by_rate(ScalingPolicyType::ByRateInEventsPerSec, rate)
            }
        };
        let retention = |kind: RetentionPolicyType, min, max| RetentionPolicy {
            retention_type: kind.into(),
            retention_param: min,
            retention_max: max,
        };
        proto::StreamConfig {
            stream_info: Some(info(stream)),
            scaling_policy: Some(scaling),
            retention_policy: match self.retention {
                Retention::Nothing => None,
                Retention::ByTime { ms_min, ms_max } => {
                    Some(retention(RetentionPolicyType::Time, ms_min, ms_max))
                }
                Retention::BySize {
                    bytes_min,
                    bytes_max,
                } => Some(retention(RetentionPolicyType::Size, bytes_min, bytes_max)),
            },
            tags: Some(Tags {
                tag: self.tags.clone(),
            }),
            timestamp_aggregation_timeout: 0,
            rollover_size_bytes: self.rollover_bytes,
        }
    }

    pub(super) fn parse(config: proto::StreamConfig) -> Result<Self, Error> {
        let unknown = |what| Error::Protocol(format!("a stream with an unknown {what}"));
        let policy = config.scaling_policy.unwrap_or_default();
        let rate = Rate {
            target: policy.target_rate,
            factor: policy.scale_factor,
            n_segments_min: policy.min_num_segments,
        };
        let kind = ScalingPolicyType::try_from(policy.scale_type);
        let scaling = match kind.map_err(|_| unknown("scaling"))? {
            ScalingPolicyType::FixedNumSegments => Scaling::Fixed {
                n_segments: policy.min_num_segments,
            },
            ScalingPolicyType::ByRateInKbytesPerSec => Scaling::KilobytesPerSecond(rate),
            ScalingPolicyType::ByRateInEventsPerSec => Scaling::EventsPerSecond(rate),
        };
        let policy = config.retention_policy.unwrap_or_default();
        let kind = RetentionPolicyType::try_from(policy.retention_type);
        let retention = match kind.map_err(|_| unknown("retention"))? {
            RetentionPolicyType::Unknown => Retention::Nothing,
            RetentionPolicyType::Time => Retention::ByTime {
                ms_min: policy.retention_param,
                ms_max: policy.retention_max,
            },
            RetentionPolicyType::Size => Retention::BySize {
                bytes_min: policy.retention_param,
                bytes_max: policy.retention_max,
            },
        };
        Ok(Self {
            scaling,
            retention,
            tags: config.tags.unwrap_or_default().tag,
            rollover_bytes: config.rollover_size_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_a_message_and_back() {
        let stream: StreamName = "a/b".parse().expect("it is one");
        let rate = Rate {
            target: 100,
            factor: 2,
            n_segments_min: 3,
        };
        for (scaling, retention) in [
            (Scaling::Fixed { n_segments: 4 }, Retention::Nothing),
            (
                Scaling::KilobytesPerSecond(rate),
                Retention::ByTime {
                    ms_min: 1,
                    ms_max: 0,
                },
            ),
            (
                Scaling::EventsPerSecond(rate),
                Retention::BySize {
                    bytes_min: 1,
                    bytes_max: 5,
                },
            ),
        ] {
            let config = StreamConfig {
                scaling,
                retention,
                tags: vec!["x".to_owned()],
                rollover_bytes: 7,
            };
            assert_eq!(StreamConfig::parse(config.render(&stream)), Ok(config));
        }
    }
}
