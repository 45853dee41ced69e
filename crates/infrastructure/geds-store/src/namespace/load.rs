//! The index as its logs tell it: the last whole snapshot, and the records since.

use std::ops::ControlFlow;

use geds_core::disk::snapshot::Part;
use wal::{DurableLog, Position};

use crate::core::index::{Index, Limits, Piece, Record};
use crate::error::{Error, Kind, Result};

#[derive(Debug)]
pub(super) struct Loaded {
    pub index: Index,
    /// The first record that is not in it.
    pub next: Position,
    pub n_record_bytes: u64,
    pub n_snapshot_bytes: u64,
}

/// One that has ended, or not yet.
#[derive(Debug)]
struct Snapshot {
    records_from: Position,
    pieces: Vec<Piece>,
    n_bytes: u64,
}

pub(super) fn load(
    limits: &Limits,
    records: &dyn DurableLog,
    snapshots: &dyn DurableLog,
) -> Result<Loaded> {
    let snapshot = last_whole(snapshots)?;
    let (mut index, from, n_snapshot_bytes) = match snapshot {
        Some(Snapshot {
            records_from,
            pieces,
            n_bytes,
        }) => {
            let index = Index::from_pieces(limits.clone(), pieces.into_iter().map(Ok))?;
            (index, records_from, n_bytes)
        }
        None => (Index::new(limits.clone()), records.start(), 0),
    };
    let mut n_record_bytes = 0;
    let mut apply = |bytes: &[u8]| -> Result<()> {
        n_record_bytes += bytes.len() as u64;
        index.apply(Record::decode(bytes)?)?;
        Ok(())
    };
    let next = visit(records, from, &mut apply)?;
    Ok(Loaded {
        index,
        next,
        n_record_bytes,
        n_snapshot_bytes,
    })
}

fn last_whole(log: &dyn DurableLog) -> Result<Option<Snapshot>> {
    let (mut whole, mut begun): (_, Option<Snapshot>) = (None, None);
    let mut take = |bytes: &[u8]| -> Result<()> {
        match (Part::decode(bytes)?, &mut begun) {
            (Part::Begin { records_from }, _) => {
                begun = Some(Snapshot {
                    records_from: Position(records_from),
                    pieces: Vec::new(),
                    n_bytes: 0,
                });
            }
            (Part::Piece(piece), Some(snapshot)) => {
                snapshot.n_bytes += piece.len() as u64;
                snapshot.pieces.push(Piece::decode(piece)?);
            }
            (Part::End { n_pieces }, Some(snapshot))
                if n_pieces == snapshot.pieces.len() as u64 =>
            {
                whole = begun.take();
            }
            // The log may have been truncated in the middle of an old one, after which there is a whole one.
            (Part::Piece(_) | Part::End { .. }, None) => {}
            (Part::End { .. }, Some(_)) => {
                return Err(Error::new(Kind::Corrupt, "a snapshot lacks pieces"));
            }
        }
        Ok(())
    };
    visit(log, log.start(), &mut take)?;
    Ok(whole)
}

/// Stops at the first that cannot be taken.
fn visit(
    log: &dyn DurableLog,
    from: Position,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Position> {
    let mut problem = None;
    let next = log.read(from, &mut |_, bytes| match take(bytes) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            problem = Some(error);
            ControlFlow::Break(())
        }
    })?;
    match problem {
        Some(error) => Err(error),
        None => Ok(next),
    }
}
