//! What is said in JSON, with the names that Pravega gives them (`Controller.yaml`, `ModelHelper.java`), and the same as messages of gRPC.

use serde::{Deserialize, Serialize};
use streams_control::{Name, ScaleEvent};
use streams_proto::controller as wire;
use wire::retention_policy::RetentionPolicyType;
use wire::scaling_policy::ScalingPolicyType;

use super::answers::Failure;

const MB: i64 = 1 << 20;
const MINUTE_MS: i64 = 60 * 1_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// # Errors
/// 400: it is no name that users may choose.
pub(super) fn user_name(text: &str) -> Result<(), Failure> {
    match Name::new(text) {
        Ok(name) if !name.is_internal() => Ok(()),
        Ok(_) => Err(Failure::bad(
            "names with an underscore are the platform's own",
        )),
        Err(refusal) => Err(Failure::bad(refusal.to_string())),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScopeProperty {
    pub(super) scope_name: String,
}

#[derive(Serialize)]
pub(super) struct ScopesList {
    pub(super) scopes: Vec<ScopeProperty>,
}

#[derive(Serialize)]
pub(super) struct StreamsList {
    pub(super) streams: Vec<StreamProperty>,
}

/// Of a stream that is to be made, or to be another way.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct StreamRequest {
    pub(super) stream_name: Option<String>,
    scaling_policy: ScalingConfig,
    retention_policy: Option<RetentionConfig>,
    #[serde(default)]
    stream_tags: Vec<String>,
    #[serde(default)]
    timestamp_aggregation_timeout: i64,
    #[serde(default)]
    rollover_size_bytes: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StreamProperty {
    scope_name: String,
    stream_name: String,
    scaling_policy: ScalingConfig,
    retention_policy: Option<RetentionConfig>,
    tags: Vec<String>,
    timestamp_aggregation_timeout: i64,
    rollover_size_bytes: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ScalingConfig {
    #[serde(rename = "type")]
    kind: ScalingType,
    target_rate: Option<i32>,
    scale_factor: Option<i32>,
    min_segments: i32,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ScalingType {
    FixedNumSegments,
    ByRateInKbytesPerSec,
    ByRateInEventsPerSec,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RetentionConfig {
    #[serde(rename = "type")]
    kind: RetentionType,
    /// Days, or megabytes. 0: the time is said in the next one.
    value: Option<i64>,
    time_based_retention: Option<TimeBasedRetention>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_value: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_time_based_retention: Option<TimeBasedRetention>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum RetentionType {
    LimitedDays,
    LimitedSizeMb,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TimeBasedRetention {
    days: i64,
    hours: i64,
    minutes: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct StreamState {
    stream_state: State,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum State {
    Sealed,
}

/// As upstream's server sends it (`ScaleMetadata.java`, `Segment.java`), which is not what its description says.
#[derive(Serialize)]
pub(super) struct ScaleMetadata {
    timestamp: u64,
    segments: Vec<Segment>,
    splits: usize,
    merges: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Segment {
    number: u32,
    epoch: u32,
    start: u64,
    key_start: f64,
    key_end: f64,
}

impl StreamRequest {
    /// # Errors
    /// 400: a number is more than any.
    pub(super) fn config(self, info: wire::StreamInfo) -> Result<wire::StreamConfig, Failure> {
        let retention_policy = self.retention_policy.map(RetentionConfig::policy);
        Ok(wire::StreamConfig {
            stream_info: Some(info),
            scaling_policy: Some(self.scaling_policy.policy()),
            retention_policy: retention_policy.transpose()?,
            tags: Some(wire::Tags {
                tag: self.stream_tags,
            }),
            timestamp_aggregation_timeout: self.timestamp_aggregation_timeout,
            rollover_size_bytes: self.rollover_size_bytes,
        })
    }
}

impl From<wire::StreamConfig> for StreamProperty {
    fn from(config: wire::StreamConfig) -> Self {
        let info = config.stream_info.unwrap_or_default();
        let retention = config.retention_policy.as_ref();
        Self {
            scope_name: info.scope,
            stream_name: info.stream,
            scaling_policy: ScalingConfig::of(&config.scaling_policy.unwrap_or_default()),
            retention_policy: retention.and_then(RetentionConfig::of),
            tags: config.tags.unwrap_or_default().tag,
            timestamp_aggregation_timeout: config.timestamp_aggregation_timeout,
            rollover_size_bytes: config.rollover_size_bytes,
        }
    }
}

impl ScalingConfig {
    fn policy(self) -> wire::ScalingPolicy {
        let (kind, is_fixed) = match self.kind {
            ScalingType::FixedNumSegments => (ScalingPolicyType::FixedNumSegments, true),
            ScalingType::ByRateInKbytesPerSec => (ScalingPolicyType::ByRateInKbytesPerSec, false),
            ScalingType::ByRateInEventsPerSec => (ScalingPolicyType::ByRateInEventsPerSec, false),
        };
        let if_scaled = |number: Option<i32>| number.filter(|_| !is_fixed).unwrap_or(0);
        wire::ScalingPolicy {
            scale_type: kind.into(),
            target_rate: if_scaled(self.target_rate),
            scale_factor: if_scaled(self.scale_factor),
            min_num_segments: self.min_segments,
        }
    }

    fn of(policy: &wire::ScalingPolicy) -> Self {
        let kind = match policy.scale_type() {
            ScalingPolicyType::FixedNumSegments => ScalingType::FixedNumSegments,
            ScalingPolicyType::ByRateInKbytesPerSec => ScalingType::ByRateInKbytesPerSec,
            ScalingPolicyType::ByRateInEventsPerSec => ScalingType::ByRateInEventsPerSec,
        };
        let is_scaled = !matches!(kind, ScalingType::FixedNumSegments);
        Self {
            kind,
            target_rate: is_scaled.then_some(policy.target_rate),
            scale_factor: is_scaled.then_some(policy.scale_factor),
            min_segments: policy.min_num_segments,
        }
    }
}

impl RetentionConfig {
    fn policy(self) -> Result<wire::RetentionPolicy, Failure> {
        let too_much = || Failure::bad("nothing is kept for so long, or so much of it");
        let megabytes = |value: i64| value.checked_mul(MB).ok_or_else(too_much);
        let time = |days: Option<i64>, time: Option<TimeBasedRetention>| {
            let days_only = |days| TimeBasedRetention {
                days,
                ..TimeBasedRetention::default()
            };
            let time = match (days.unwrap_or(0), time) {
                (0, Some(time)) => time,
                (days, _) => days_only(days),
            };
            time.ms().ok_or_else(too_much)
        };
        let (kind, min, max) = match self.kind {
            RetentionType::LimitedSizeMb => {
                let min = self.value.ok_or_else(|| Failure::bad("value is missing"))?;
                let max = self.max_value.map(megabytes).transpose()?;
                (RetentionPolicyType::Size, megabytes(min)?, max)
            }
            RetentionType::LimitedDays => {
                let min = time(self.value, self.time_based_retention)?;
                let max = match (self.max_value, self.max_time_based_retention) {
                    (None, None) => None,
                    (days, most) => Some(time(days, most)?),
                };
                (RetentionPolicyType::Time, min, max)
            }
        };
        Ok(wire::RetentionPolicy {
            retention_type: kind.into(),
            retention_param: min,
            retention_max: max.unwrap_or(i64::MAX),
        })
    }

    fn of(policy: &wire::RetentionPolicy) -> Option<Self> {
        let max = Some(policy.retention_max).filter(|max| !matches!(*max, 0 | i64::MAX));
        match policy.retention_type() {
            RetentionPolicyType::Unknown => None,
            RetentionPolicyType::Size => Some(Self {
                kind: RetentionType::LimitedSizeMb,
                value: Some(policy.retention_param / MB),
                time_based_retention: None,
                max_value: max.map(|max| max / MB),
                max_time_based_retention: None,
            }),
            RetentionPolicyType::Time => {
                let (value, time) = days(policy.retention_param);
                let max = max.map(days);
                Some(Self {
                    kind: RetentionType::LimitedDays,
                    value: Some(value),
                    time_based_retention: Some(time),
                    max_value: max.map(|(days, _)| days),
                    max_time_based_retention: max.map(|(_, time)| time),
                })
            }
        }
    }
}

/// As upstream says it: whole days also as a number, other times as 0.
fn days(ms: i64) -> (i64, TimeBasedRetention) {
    let time = TimeBasedRetention {
        days: ms / DAY_MS,
        hours: ms % DAY_MS / HOUR_MS,
        minutes: ms % HOUR_MS / MINUTE_MS,
    };
    let whole = if ms % DAY_MS == 0 { time.days } else { 0 };
    (whole, time)
}

impl TimeBasedRetention {
    fn ms(self) -> Option<i64> {
        let (days, hours) = (
            self.days.checked_mul(DAY_MS)?,
            self.hours.checked_mul(HOUR_MS)?,
        );
        let minutes = self.minutes.checked_mul(MINUTE_MS)?;
        days.checked_add(hours)?.checked_add(minutes)
    }
}

impl From<ScaleEvent> for ScaleMetadata {
    fn from(event: ScaleEvent) -> Self {
        let segments = event.segments.into_iter().map(|(segment, start)| Segment {
            number: segment.id.number,
            epoch: segment.id.epoch.0,
            start,
            key_start: segment.range.low(),
            key_end: segment.range.high(),
        });
        Self {
            timestamp: event.at_ms,
            segments: segments.collect(),
            splits: event.n_splits,
            merges: event.n_merges,
        }
    }
}
