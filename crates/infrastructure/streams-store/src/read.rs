//! Reading a segment: from memory, from the log, or from long-term storage.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use streams_core::SegmentName;
use streams_core::container::{Readable, Source};
use streams_core::names::Position;
use streams_core::op::Refused;
use tokio::sync::futures::OwnedNotified;
use wal::DurableLog as _;

use crate::error::{Error, Result};
use crate::owner::Owner;

/// What a segment has at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// At least one byte.
    Bytes(Bytes),
    /// Nothing yet.
    AtTail,
    /// Nothing any more: it is sealed, and ends there.
    End,
}

/// Bounds what a reader is given at once.
pub trait Gate: Sync {
    /// Lets one thing be fetched, as long as it is held.
    type Permit: Send;

    /// Waits until there is room for what comes.
    fn room(&self) -> impl Future<Output = ()> + Send;

    /// Waits until something may be fetched that is not in memory.
    fn permit(&self) -> impl Future<Output = Self::Permit> + Send;
}

/// What is known of where they are.
enum Located {
    Bytes(Vec<Source>),
    AtTail(OwnedNotified),
    End,
}

/// So often what was located is gone before it is read, because it has moved: then somebody truncates faster than anybody reads.
const TRIES: usize = 2;

/// Of the log, what is passed over rather than found anew.
const SKIP_BYTES: u64 = 256 << 10;

impl Owner {
    /// Bytes from an offset on, at least one and no more than so many: those that are in memory at once, others when they are fetched. Where there
    /// are none yet, it waits for that long. Before it takes any, it waits for room; before it fetches some, for the gate too, and hands out what that
    /// has given.
    pub(crate) async fn read<G: Gate>(
        &self,
        segment: &SegmentName,
        offset: u64,
        bytes_max: u64,
        patience: Duration,
        gate: &G,
    ) -> Result<(Read, Option<G::Permit>)> {
        let mut passed = None;
        let until = tokio::time::Instant::from_std(rt::now() + patience);
        let mut n_tries = 0;
        loop {
            match self.locate(segment, offset, bytes_max)? {
                Ok(Located::AtTail(more)) => {
                    if tokio::time::timeout_at(until, more).await.is_err() {
                        return Ok((Read::AtTail, passed));
                    }
                }
                Ok(Located::End) => return Ok((Read::End, passed)),
                Ok(Located::Bytes(sources)) => {
                    gate.room().await;
                    if let Some(bytes) = self.in_memory(&sources) {
                        return Ok((Read::Bytes(bytes), passed));
                    }
                    if passed.is_none() {
                        // They may have moved meanwhile.
                        passed = Some(gate.permit().await);
                        continue;
                    }
                    match self.fetch(&sources).await {
                        Err(Error::Unavailable(_)) if n_tries < TRIES => n_tries += 1,
                        bytes => return bytes.map(|bytes| (Read::Bytes(bytes), passed)),
                    }
                }
                Err(Refused { why, as_of }) => {
                    self.durable(as_of).await?;
                    return Err(why.into());
                }
            }
        }
    }

    /// The inner error is to be told when it is durable.
    fn locate(
        &self,
        segment: &SegmentName,
        offset: u64,
        bytes_max: u64,
    ) -> Result<Result<Located, Refused>> {
        let mut state = self.lock();
        let readable = match state.container.read(segment, offset, bytes_max) {
            Ok(readable) => readable,
            Err(refused) => return Ok(Err(refused)),
        };
        Ok(Ok(match readable {
            Readable::Bytes(sources) => Located::Bytes(sources),
            Readable::End => Located::End,
            Readable::AtTail(id) => {
                state.check()?;
                // Made with the lock, so nothing that comes later is missed.
                Located::AtTail(Arc::clone(state.watch(id)).notified_owned())
            }
        }))
    }

    /// The first of these bytes, as many as are in memory.
    fn in_memory(&self, sources: &[Source]) -> Option<Bytes> {
        let in_memory = sources.iter().map_while(|source| match *source {
            Source::Log { record, at, bytes } => self.recent.get(record, at, bytes),
            Source::Stored { .. } => None,
        });
        let in_memory: Vec<_> = in_memory.collect();
        (!in_memory.is_empty()).then(|| joined(in_memory))
    }

    /// The first of these bytes, from where the first source is.
    async fn fetch(&self, sources: &[Source]) -> Result<Bytes> {
        match sources.first() {
            Some(Source::Log { .. }) => {
                let of_log: Vec<_> = sources
                    .iter()
                    .map_while(|source| match *source {
                        Source::Log { record, at, bytes } => Some(Piece { record, at, bytes }),
                        Source::Stored { .. } => None,
                    })
                    .collect();
                Ok(joined(self.read_log(of_log).await?))
            }
            Some(Source::Stored { of, offset, bytes }) => {
                self.behind.read(*of, *offset, *bytes).await
            }
            None => Err(Error::corrupt(
                "there are no bytes where there should be some",
            )),
        }
    }

    /// All of these bytes: never from memory, so that what memory has lost or changed does not go where it stays.
    pub(crate) async fn fetch_kept(&self, sources: Vec<Source>) -> Result<Vec<Bytes>> {
        let mut fetched = Vec::new();
        let mut of_log = Vec::new();
        for source in sources {
            match source {
                Source::Log { record, at, bytes } => of_log.push(Piece { record, at, bytes }),
                Source::Stored { of, offset, bytes } => {
                    let before = std::mem::take(&mut of_log);
                    fetched.extend(self.read_log(before).await?);
                    let mut at = offset;
                    while at < offset + bytes {
                        let read = self.behind.read(of, at, offset + bytes - at).await?;
                        at += read.len() as u64;
                        fetched.push(read);
                    }
                }
            }
        }
        fetched.extend(self.read_log(of_log).await?);
        Ok(fetched)
    }

    async fn read_log(&self, pieces: Vec<Piece>) -> Result<Vec<Bytes>> {
        if pieces.is_empty() {
            return Ok(Vec::new());
        }
        let log = Arc::clone(&self.log);
        let read = rt::blocking(move || read_log(&log, &pieces)).await;
        read.map_err(Error::unavailable)?
    }
}

/// Bytes of a record.
#[derive(Clone, Copy, Debug)]
struct Piece {
    record: Position,
    at: u64,
    bytes: u64,
}

/// All of them, in their order.
fn read_log(log: &wal::Log, pieces: &[Piece]) -> Result<Vec<Bytes>> {
    let mut wanted: BTreeMap<Position, Vec<usize>> = BTreeMap::new();
    for (idx, piece) in pieces.iter().enumerate() {
        wanted.entry(piece.record).or_default().push(idx);
    }
    let mut found = vec![Bytes::new(); pieces.len()];
    while let Some((&first, _)) = wanted.first_key_value() {
        let mut failed = None;
        let visited = log.read(wal::Position(first.0), &mut |position, record| {
            let position = Position(position.0);
            for idx in wanted.remove(&position).unwrap_or_default() {
                match pieces[idx].of(record) {
                    Some(bytes) => found[idx] = Bytes::copy_from_slice(bytes),
                    None => failed = Some(position),
                }
            }
            match wanted.first_key_value() {
                Some((next, _)) if *next > position && next.0 - position.0 < SKIP_BYTES => {
                    ControlFlow::Continue(())
                }
                _ => ControlFlow::Break(()),
            }
        });
        visited.map_err(|error| Error::reading(&error))?;
        let is_there = failed.is_none() && !wanted.contains_key(&first);
        if !is_there {
            return Err(Error::corrupt("the log lacks bytes that a segment has"));
        }
    }
    Ok(found)
}

impl Piece {
    fn of<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        let from = usize::try_from(self.at).ok()?;
        let to = from.checked_add(usize::try_from(self.bytes).ok()?)?;
        record.get(from..to)
    }
}

fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 {
        return pieces.remove(0);
    }
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces
        .iter()
        .for_each(|piece| whole.extend_from_slice(piece));
    whole.freeze()
}
