//! Streams, to nothing.

use crate::error::Refusal;
use crate::names::StreamName;
use crate::rows::{Key, Row, State};
use crate::state::{Control, Stream};
use crate::step::{Call, Response};

use super::{Next, Work, stream_row};

/// Rows that go at once.
const BATCH: usize = 1_000;

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
                Next::Write(self.deleting(&both)?)
            }
            1 => Next::Call(both.iter().flat_map(delete_calls).collect()),
            2 => {
                let parts = both.iter().flat_map(parts_of);
                let parts: Vec<_> = parts.take(BATCH).map(|key| (key, None)).collect();
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

    /// A stream and that of its watermarks, as far as they are there.
    fn both(&self, name: &StreamName) -> Vec<Pair<'_>> {
        let names = [Some(name.clone()), name.mark()].into_iter().flatten();
        let pair = |name: StreamName| {
            let stream = self.stream(&name)?;
            Some((name, stream))
        };
        names.filter_map(pair).collect()
    }

    fn deleting(&self, both: &[Pair<'_>]) -> Result<Vec<(Key, Option<Row>)>, Refusal> {
        let new_graves = both
            .iter()
            .filter(|(name, _)| !self.graves.contains_key(name));
        let n_graves = self.graves.len() + new_graves.count();
        let max = self.limits.graves_max;
        self.limits
            .check("names of deleted streams", n_graves, max)?;
        let mut rows = Vec::new();
        for (name, stream) in both {
            let numbers = stream.epochs.iter().map(|(_, epoch)| epoch.next_number());
            let number = numbers.max().unwrap_or(0);
            rows.push(stream_row(name, stream.in_state(State::Deleting)));
            rows.push((Key::Grave(name.clone()), Some(Row::Grave(number))));
        }
        Ok(rows)
    }

    /// Whatever it takes.
    pub(super) fn destroy(&self, name: &StreamName, step: u32) -> Result<Next, Refusal> {
        let Some(stream) = self.stream(name) else {
            return Ok(Next::Done(Response::Done));
        };
        Ok(match step {
            _ if stream.row.state != State::Sealed => Next::First(Work::Seal(name.clone())),
            // It would be refused again and again.
            _ if self.deleting(&self.both(name)).is_err() => Next::Park,
            _ => Next::First(Work::Delete(name.clone())),
        })
    }
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
fn parts_of((name, stream): &Pair<'_>) -> Vec<Key> {
    let key = || name.clone();
    let txns = stream.txns.keys().map(|txn| Key::Txn(key(), *txn));
    let ended = stream.ended.keys().map(|txn| Key::Ended(key(), *txn));
    let epochs = stream
        .epochs
        .iter()
        .map(|(epoch, _)| Key::Epoch(key(), epoch));
    let has_tails = !stream.retention.tails.is_empty();
    let tails = has_tails.then(|| Key::Retention(key()));
    txns.chain(ended).chain(epochs).chain(tails).collect()
}
