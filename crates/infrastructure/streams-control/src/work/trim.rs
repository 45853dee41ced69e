//! The beginning of a stream goes, because it is asked for or too old.

use crate::cuts::{self, Cut, Passed};
use crate::error::Refusal;
use crate::lanes::lengths;
use crate::names::{SegmentId, StreamName};
use crate::retention;
use crate::rows::{Head, Key, RetentionRow, Row, State, StreamRow, Tail};
use crate::state::{Control, Stream};
use crate::step::{Call, Response};

use super::{Next, Work, stream_row};

impl Control {
    pub(super) fn truncate(
        &self,
        name: &StreamName,
        cut: &Cut,
        step: u32,
        replies: &[u64],
    ) -> Result<Next, Refusal> {
        let stream = self.writable(name)?;
        Ok(match (step, &stream.row.state) {
            (0, _) => {
                self.limits.check_cut(cut)?;
                stream.check_head(cut)?;
                lengths(stream.unknown_lengths(cut).map(|(id, _)| name.segment(*id)))
            }
            (1, _) => {
                // A store would refuse it for ever.
                let mut offsets = stream.unknown_lengths(cut).zip(replies);
                if offsets.any(|((_, offset), length)| offset > *length) {
                    return Err(Refusal::Precondition(
                        "the cut lies behind the end of a segment",
                    ));
                }
                // It waited for the lengths only, and so nothing has changed.
                let row = stream.truncating(cut);
                Next::Write(vec![stream_row(name, row)])
            }
            (2, State::Truncating(from)) => Next::Call(stream.truncate_calls(name, from)),
            (3, State::Truncating(_)) => {
                let row = stream.in_state(State::Active);
                Next::Write(vec![stream_row(name, row)])
            }
            _ => Next::Done(Response::Done),
        })
    }

    /// The end of the stream is noted, and an earlier end that is old enough becomes its beginning.
    pub(super) fn retain(
        &self,
        name: &StreamName,
        step: u32,
        replies: &[u64],
    ) -> Result<Next, Refusal> {
        let done = Ok(Next::Done(Response::Done));
        let Ok(stream) = self.writable(name) else {
            return done;
        };
        let Some(policy) = stream.row.config.retention else {
            return done;
        };
        Ok(match step {
            0 => lengths(stream.active().ids().map(|id| name.segment(id))),
            1 => {
                let lengths = replies
                    .iter()
                    .map(|it| i64::try_from(*it).unwrap_or(i64::MAX));
                let cut: Cut = stream.active().ids().zip(lengths).collect();
                let row = stream.with_tail(Tail {
                    at: self.clock.stamp(),
                    size: cuts::size_until(&stream.epochs, &cut),
                    cut,
                });
                let row = retention::thinned(row, &self.limits);
                Next::Write(vec![(
                    Key::Retention(name.clone()),
                    Some(Row::Retention(row)),
                )])
            }
            2 => {
                let now_ms = self.clock.counted_ms();
                match retention::decide(policy, now_ms, &stream.retention) {
                    Some(cut) if stream.is_ahead(cut) => {
                        Next::Become(Work::Truncate(name.clone(), cut.clone()))
                    }
                    _ => Next::Done(Response::Done),
                }
            }
            _ => Next::Done(Response::Done),
        })
    }
}

impl Stream {
    /// It is not before where the stream begins now.
    fn check_head(&self, cut: &Cut) -> Result<(), Refusal> {
        cuts::check(&self.epochs, cut)?;
        match &self.row.head {
            Some(head) if !cuts::is_at_or_after(&self.epochs, cut, &head.cut) => Err(
                Refusal::Precondition("the stream begins behind that already"),
            ),
            _ => Ok(()),
        }
    }

    /// Of its segments that are written.
    fn unknown_lengths<'a>(
        &'a self,
        cut: &'a Cut,
    ) -> impl Iterator<Item = (&'a SegmentId, u64)> + 'a {
        cut.iter().filter_map(|(id, offset)| {
            let offset = u64::try_from(*offset).ok()?;
            let is_unknown = self.epochs.sealed_length(*id).is_none();
            (is_unknown && offset > 0).then_some((id, offset))
        })
    }

    fn truncating(&self, cut: &Cut) -> StreamRow {
        let from = self.row.head.as_ref().map(|head| head.cut.clone());
        StreamRow {
            head: Some(Head {
                cut: cut.clone(),
                size: cuts::size_until(&self.epochs, cut),
            }),
            ..self.in_state(State::Truncating(from.unwrap_or_default()))
        }
    }

    fn truncate_calls(&self, name: &StreamName, from: &Cut) -> Vec<Call> {
        let nothing = Cut::new();
        let head = self.row.head.as_ref().map_or(&nothing, |head| &head.cut);
        let truncate = head.iter().filter_map(|(id, offset)| {
            let offset = u64::try_from(*offset).ok().filter(|offset| *offset > 0)?;
            let segment = name.segment(*id);
            Some(Call::Truncate { segment, offset })
        });
        let gone = Passed::new(&self.epochs, from);
        let passed = Passed::new(&self.epochs, head);
        let deleted = self.epochs.segments();
        let deleted = deleted.filter(|it| passed.has(it) && !gone.has(it));
        let delete = deleted.map(|it| Call::Delete(name.segment(it.id)));
        truncate.chain(delete).collect()
    }

    /// The stream does not begin there already.
    fn is_ahead(&self, cut: &Cut) -> bool {
        match &self.row.head {
            Some(head) => !cuts::is_at_or_after(&self.epochs, &head.cut, cut),
            None => true,
        }
    }

    fn with_tail(&self, tail: Tail) -> RetentionRow {
        let tails = self.retention.tails.iter();
        let tails = tails.filter(|tail| self.is_ahead(&tail.cut)).cloned();
        let last = self.retention.tails.last();
        // Sizes and times never go back, whatever stores and clocks say.
        let tail = match last {
            Some(last) => Tail {
                at: tail.at.max(last.at),
                size: tail.size.max(last.size),
                ..tail
            },
            None => tail,
        };
        RetentionRow {
            tails: tails.chain([tail]).collect(),
        }
    }
}
