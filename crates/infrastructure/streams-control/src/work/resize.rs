//! Other segments for the same keys.

use crate::epochs::Segment;
use crate::error::Refusal;
use crate::lanes::lengths;
use crate::names::{Epoch, NUMBER_MAX, SegmentId, StreamName};
use crate::ranges::{Range, joined};
use crate::rows::{Key, Replacement, Row, State, StreamRow};
use crate::state::{Control, Stream};
use crate::step::{Call, Response};

use super::{Next, stream_row};

impl Control {
    pub(super) fn begin_scale(
        &self,
        name: &StreamName,
        sealed: &[SegmentId],
        ranges: &[Range],
    ) -> Result<Next, Refusal> {
        let stream = self.writable(name)?;
        let replacement = stream.replacement(sealed, ranges)?;
        let n_segments = stream.active().segments().len() - replacement.sealed.len();
        let n_segments = n_segments + ranges.len();
        let limits = &self.limits;
        limits.check_segments(n_segments)?;
        limits.check(
            "epochs of a stream",
            stream.epochs.n_epochs() + 1,
            limits.epochs_max,
        )?;
        let segments_min = usize::try_from(stream.row.config.scaling.segments_min);
        if segments_min.is_ok_and(|min| n_segments < min) {
            return Err(Refusal::Precondition("there would be too few segments"));
        }
        let row = stream.in_state(State::Scaling(replacement));
        Ok(Next::Write(vec![stream_row(name, row)]))
    }

    pub(super) fn scale(
        &self,
        name: &StreamName,
        step: u32,
        replies: &[u64],
    ) -> Result<Next, Refusal> {
        let stream = self.visible(name)?;
        let State::Scaling(replacement) = &stream.row.state else {
            return Ok(Next::Done(Response::Done));
        };
        let next_epoch = stream.row.active.next();
        let with_lengths = |lengths: &[u64]| {
            let mut scaled = stream.scaled(replacement).expect("it was checked");
            let sealed = replacement.sealed.iter().copied();
            scaled.sealed = sealed.zip(lengths.iter().copied()).collect();
            scaled.created_at_ms = self.created_at_ms(stream, next_epoch);
            let key = Key::Epoch(name.clone(), next_epoch);
            (key, Some(Row::Epoch(scaled)))
        };
        let segment = |id: &SegmentId| name.segment(*id);
        Ok(match step {
            1 => {
                let ids = replacement.created.iter().map(|segment| segment.id);
                Next::Call(ids.map(|id| stream.create_call(name, id)).collect())
            }
            // A writer whose segment is sealed asks for the successors at once. So they are written down before.
            2 if stream.epochs.get(next_epoch).is_some() => Next::Write(Vec::new()),
            2 => Next::Write(vec![with_lengths(&[])]),
            // Only now: without room for the successors it is undone.
            3 => Next::Answer(Response::Scaling {
                epoch: stream.row.active,
                segments: replacement.created.clone(),
            }),
            4 => Next::Call(
                replacement
                    .sealed
                    .iter()
                    .map(segment)
                    .map(Call::Seal)
                    .collect(),
            ),
            5 => lengths(replacement.sealed.iter().map(segment)),
            _ => {
                let row = StreamRow {
                    active: next_epoch,
                    ..stream.in_state(State::Active)
                };
                Next::Write(vec![stream_row(name, row), with_lengths(replies)])
            }
        })
    }
}

impl Control {
    /// When an epoch was written down, or now. None is earlier than the one before it, whatever the clock says.
    pub(super) fn created_at_ms(&self, stream: &Stream, epoch: Epoch) -> u64 {
        let known = stream.epochs.get(epoch);
        let now_ms = || {
            let before = stream.epochs.iter().map(|(_, epoch)| epoch.created_at_ms);
            before.fold(self.clock.stamp().wall_ms, u64::max)
        };
        known.map_or_else(now_ms, |epoch| epoch.created_at_ms)
    }
}

impl Stream {
    fn replacement(&self, sealed: &[SegmentId], ranges: &[Range]) -> Result<Replacement, Refusal> {
        let active = self.active();
        let mut sealed = sealed.to_vec();
        sealed.sort_unstable();
        sealed.dedup();
        let old: Option<Vec<_>> = sealed
            .iter()
            .map(|id| active.get(*id).map(|segment| segment.range))
            .collect();
        let old = old.ok_or(Refusal::Precondition("a segment is not written any more"))?;
        if old.is_empty() || joined(&old) != joined(ranges) {
            return Err(Refusal::Precondition(
                "the new ranges are not those of the segments that go",
            ));
        }
        let (epoch, first) = (self.row.active.next(), active.next_number());
        let end = u32::try_from(ranges.len())
            .ok()
            .and_then(|n| first.checked_add(n));
        let end = end.filter(|end| *end <= NUMBER_MAX && epoch.0 < NUMBER_MAX);
        let end = end.ok_or(Refusal::Precondition("the stream had too many segments"))?;
        let created = (first..end).zip(ranges).map(|(number, range)| Segment {
            id: SegmentId { epoch, number },
            range: *range,
        });
        Ok(Replacement {
            sealed,
            created: created.collect(),
        })
    }
}
