//! Streams, to nothing.

use crate::error::Refusal;
use crate::lanes::LaneKey;
use crate::names::StreamName;
use crate::rows::{Key, Row, State};
use crate::state::{Control, Stream};
use crate::step::{Call, Response};

use super::{Next, Work, stream_row};

type Pair<'a> = (StreamName, &'a Stream);

impl Control {
    /// With the stream of its watermarks, in whatever state that is.
    pub(super) fn delete(&self, name: &StreamName, step: u32) -> Result<Next, Refusal> {
        let both = self.both(name);
        Ok(match step {
            0 => {
                if self.visible(name)?.row.state != State::Sealed {
                    return Err(Refusal::StreamNotSealed);
                }
                self.begin_deletion(&both)
            }
            1 => Next::Call(both.iter().flat_map(delete_calls).collect()),
            2 => {
                let parts = both.iter().flat_map(parts_of);
                let parts: Vec<_> = parts
                    .take(self.limits.plan_max.max(1))
                    .map(|key| (key, None))
                    .collect();
                Next::Write(parts)
            }
            3 if both.iter().flat_map(parts_of).next().is_some() => Next::Again(2),
            3 => {
                let streams = both.into_iter().map(|(name, _)| (Key::Stream(name), None));
                Next::Write(streams.collect())
            }
            _ => Next::Done(Response::Done),
        })
    }

    pub(super) fn begin_deletion(&self, both: &[Pair<'_>]) -> Next {
        let mut graves = both.iter().map(|(name, _)| Key::Grave(name.clone()));
        if graves.any(|grave| self.is_planned(&LaneKey::Graves, &grave)) {
            return Next::Park;
        }
        Next::Write(deleting(both))
    }

    /// A stream and that of its watermarks, as far as they are there.
    pub(crate) fn both(&self, name: &StreamName) -> Vec<Pair<'_>> {
        let names = [Some(name.clone()), name.mark()].into_iter().flatten();
        let pair = |name: StreamName| {
            let stream = self.stream(&name)?;
            Some((name, stream))
        };
        names.filter_map(pair).collect()
    }

    /// Whatever it takes.
    pub(super) fn destroy(&self, name: &StreamName, step: u32) -> Result<Next, Refusal> {
        let Some(stream) = self.stream(name) else {
            return Ok(Next::Done(Response::Done));
        };
        Ok(match step {
            _ if stream.row.state != State::Sealed => Next::First(Work::Seal(name.clone())),
            _ => Next::First(Work::Delete(name.clone())),
        })
    }

    /// Too many graves: those with the lowest numbers become one. So nobody can use numbers up for others, but by as many streams with high ones as
    /// there are graves. Lanes write the graves of their own streams, and are let alone.
    pub(super) fn fold(&self, step: u32) -> Next {
        let n_too_many = self.graves.len().saturating_sub(self.limits.graves_max);
        let n_folded = n_too_many.min(self.limits.plan_max.saturating_sub(1).max(1));
        let is_idle = |name: &StreamName| !self.lanes.contains_key(&LaneKey::Stream(name.base()));
        let folded = self.graves_in_order.iter();
        let folded = folded.filter(|(_, name)| is_idle(name)).take(n_folded);
        let folded: Vec<_> = folded.collect();
        match (step, folded.last()) {
            (0, Some((highest, _))) => {
                let floor = Row::Floor(self.floor.max(*highest));
                let graves = folded.iter().map(|(_, it)| (Key::Grave(it.clone()), None));
                Next::Write(
                    [(Key::Floor, Some(floor))]
                        .into_iter()
                        .chain(graves)
                        .collect(),
                )
            }
            (0, None) => Next::Done(Response::Done),
            _ => Next::Again(0),
        }
    }
}

/// Their numbers are not used again.
fn deleting(both: &[Pair<'_>]) -> Vec<(Key, Option<Row>)> {
    let mut rows = Vec::new();
    for (name, stream) in both {
        let numbers = stream.epochs.iter().map(|(_, epoch)| epoch.next_number());
        let number = numbers.max().unwrap_or(0);
        rows.push(stream_row(name, stream.in_state(State::Deleting)));
        rows.push((Key::Grave(name.clone()), Some(Row::Grave(number))));
    }
    rows
}

fn delete_calls((name, stream): &Pair<'_>) -> Vec<Call> {
    let segments = stream.epochs.segments().map(|it| name.segment(it.id));
    let of_txns = stream.txns.keys().flat_map(|txn| {
        let parts = stream.epochs.get(txn.epoch());
        let numbers = parts.into_iter().flat_map(|epoch| epoch.ids());
        numbers.map(|id| name.transaction_segment(id.number, *txn))
    });
    of_txns.chain(segments).map(Call::Delete).collect()
}

/// The rows of a stream but its own.
fn parts_of<'a>((name, stream): &'a Pair<'_>) -> impl Iterator<Item = Key> + 'a {
    let key = move || name.clone();
    let txns = stream.txns.keys().map(move |txn| Key::Txn(key(), *txn));
    let ended = stream.ended.keys().map(move |txn| Key::Ended(key(), *txn));
    let epochs = stream.epochs.iter().rev();
    let epochs = epochs.map(move |(epoch, _)| Key::Epoch(key(), epoch));
    let has_tails = !stream.retention.tails.is_empty();
    let tails = has_tails.then(|| Key::Retention(key()));
    let group = stream.group.is_some().then(|| Key::Group(key()));
    txns.chain(ended).chain(epochs).chain(tails).chain(group)
}
