//! Streams, from nothing, and what they are to be like.

use std::collections::BTreeSet;

use crate::config::{Config, Rate, Scaling};
use crate::epochs::{EpochSegments, Segment};
use crate::error::Refusal;
use crate::lanes::LaneKey;
use crate::names::{Epoch, NUMBER_MAX, SegmentId, StreamName};
use crate::ranges::Range;
use crate::rows::{Key, Row, State, StreamRow};
use crate::state::{Control, Stream};
use crate::step::{Call, Response};

use super::{Next, Work, stream_row};

type Rows = Vec<(Key, Option<Row>)>;

impl Control {
    pub(super) fn create(
        &self,
        name: &StreamName,
        config: &Config,
        step: u32,
    ) -> Result<Next, Refusal> {
        let creating = self.creating(name);
        let segments = |(name, stream): &(StreamName, &Stream)| {
            let ids = stream.active().ids();
            let calls = ids.map(|id| stream.create_call(name, id));
            calls.collect::<Vec<_>>()
        };
        let active = |(name, stream): &(StreamName, &Stream)| {
            stream_row(name, stream.in_state(State::Active))
        };
        Ok(match step {
            0 => Next::Write(self.new_streams(name, config)?),
            1 => Next::Call(creating.iter().flat_map(segments).collect()),
            2 => Next::Write(creating.iter().map(active).collect()),
            _ => Next::Done(Response::Done),
        })
    }

    /// A stream and its marks are one piece of work, if the marks are not there for another reason.
    pub(super) fn creating(&self, name: &StreamName) -> Vec<(StreamName, &Stream)> {
        let mut both = self.both(name);
        both.retain(|(_, stream)| stream.row.state == State::Creating);
        both
    }

    pub(super) fn new_streams(&self, name: &StreamName, config: &Config) -> Result<Rows, Refusal> {
        let scope = self.scopes.get(&name.scope).ok_or(Refusal::NoScope)?;
        let scope_lane = self.lanes.get(&LaneKey::Scope(name.scope.clone()));
        let is_deletion =
            |work: &Work| matches!(work, Work::DeleteScope(_) | Work::DeleteScopeRecursive(_));
        if scope.row.is_deleted || scope_lane.is_some_and(|lane| lane.is_doing(is_deletion)) {
            return Err(Refusal::NoScope);
        }
        if self.stream(name).is_some() {
            return Err(Refusal::StreamExists);
        }
        config.check(&self.limits)?;
        let mark = name.mark().filter(|mark| self.stream(mark).is_none());
        let n_streams = self.n_streams + 1 + usize::from(mark.is_some());
        self.limits
            .check("streams", n_streams, self.limits.streams_max)?;
        let mut rows = self.new_stream(name, config)?;
        if let Some(mark) = mark {
            rows.extend(self.new_stream(&mark, &config_of_one(0))?);
        }
        Ok(rows)
    }

    fn new_stream(&self, name: &StreamName, config: &Config) -> Result<Rows, Refusal> {
        let n_segments = config.scaling.segments_min;
        // Clients and stores may remember the segments of one that had the same name.
        let first_number = self.graves.get(name).copied().unwrap_or(0).max(self.floor);
        let end = first_number.checked_add(n_segments);
        let numbers = match end {
            Some(end) if end <= NUMBER_MAX => first_number..end,
            _ => {
                return Err(Refusal::Precondition(
                    "no numbers are left for its segments",
                ));
            }
        };
        let all = Range::new(0.0, 1.0)?;
        let segments = numbers.zip(all.split(n_segments)?);
        let segments = segments.map(|(number, range)| {
            let epoch = Epoch(0);
            let id = SegmentId { epoch, number };
            Segment { id, range }
        });
        let epoch = EpochSegments::new(Epoch(0), segments.collect());
        let mut epoch = epoch.map_err(|_| Refusal::Invalid("its segments do not tile all keys"))?;
        epoch.created_at_ms = self.clock.stamp().wall_ms;
        let row = StreamRow {
            config: config.clone(),
            created_at_ms: epoch.created_at_ms,
            state: State::Creating,
            active: Epoch(0),
            commit: None,
            head: None,
        };
        let key = Key::Epoch(name.clone(), Epoch(0));
        Ok(vec![stream_row(name, row), (key, Some(Row::Epoch(epoch)))])
    }

    pub(super) fn update(
        &self,
        name: &StreamName,
        config: &Config,
        step: u32,
    ) -> Result<Next, Refusal> {
        let stream = self.writable(name)?;
        let State::Updating(config) = &stream.row.state else {
            if step > 0 {
                return Ok(Next::Done(Response::Done));
            }
            config.check(&self.limits)?;
            let row = stream.in_state(State::Updating(config.clone()));
            return Ok(Next::Write(vec![stream_row(name, row)]));
        };
        Ok(match step {
            1 => {
                let set_policy = |id| Call::SetPolicy {
                    segment: name.segment(id),
                    rate: config.scaling.rate,
                };
                Next::Call(stream.active().ids().map(set_policy).collect())
            }
            _ => {
                let row = StreamRow {
                    config: config.clone(),
                    ..stream.in_state(State::Active)
                };
                Next::Write(vec![stream_row(name, row)])
            }
        })
    }
}

/// Of a stream of one segment, which clients did not choose.
pub(super) fn config_of_one(rollover_size_bytes: u64) -> Config {
    Config {
        scaling: Scaling {
            rate: Rate::Fixed,
            factor: 0,
            segments_min: 1,
        },
        retention: None,
        tags: BTreeSet::new(),
        timestamp_aggregation_timeout_ms: 0,
        rollover_size_bytes,
    }
}

impl Stream {
    pub(super) fn create_call(&self, name: &StreamName, id: SegmentId) -> Call {
        Call::Create {
            segment: name.segment(id),
            rate: self.row.config.scaling.rate,
            rollover_size_bytes: self.row.config.rollover_size_bytes,
        }
    }
}
