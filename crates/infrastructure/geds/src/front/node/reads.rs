//! Reading objects: at once what is in memory, and without a copy.

use std::ops::Range;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use ids::Name as Tenant;

use super::looks::native;
use super::outbox::{Asked, Room};
use super::session::{Shared, blocking};
use crate::error::{Error, Kind, Result};
use crate::index::{Entry, Name, Precondition};
use crate::store::{Pieces, Reader, Store};
use crate::wire::{Found, Read};

/// `Some`: it has to wait for something.
pub(super) async fn read_at_once(
    shared: &Shared,
    read: Read,
    asked: Asked,
) -> Option<(Read, Asked)> {
    let session = &shared.session;
    let reader = match &read {
        Read::Open { name, .. } => try_open(&session.store, &session.tenant, name),
        Read::Hold { id, tenant, .. } => session.store.open_here(tenant, *id).map(Some),
        Read::More { open, .. } => shared.opened(*open).map(Some),
        Read::Close { .. } => unreachable!("nothing is read"),
    };
    let reader = match reader {
        Ok(Some(reader)) if reader.is_in_memory() => reader,
        Ok(_) => return Some((read, asked)),
        Err(error) => {
            asked.answer(Err::<(), _>(error)).await;
            return None;
        }
    };
    let range = clamp(read.range(), &reader);
    let Some(room) = shared.try_room(n_bytes(&range)) else {
        return Some((read, asked));
    };
    let data = collect(reader.pieces(range));
    session.store.note_answer(asked.since());
    answer(shared, read, reader, data, room, asked).await;
    None
}

/// Waits for memory to hold the data, and for the disk.
pub(super) async fn read(shared: &Shared, read: Read, asked: Asked) {
    match wait_and_read(shared, &read).await {
        Ok((reader, data, room)) => answer(shared, read, reader, data, room, asked).await,
        Err(error) => asked.answer(Err::<(), _>(error)).await,
    }
}

async fn wait_and_read(shared: &Shared, read: &Read) -> Result<(Reader, Result<Vec<Bytes>>, Room)> {
    let session = &shared.session;
    if let Read::Open { name, .. } = read
        && let Some(through) = session.store.through(&name.bucket)
    {
        let opening = || through.open(&session.tenant, name);
        let reader = opening().await?;
        return match read_arriving(shared, read, reader).await {
            // Nothing of it was told yet: of the one that is there now, perhaps all can be.
            Ok((_, Err(error), _)) if error.kind == Kind::Conflict => {
                read_arriving(shared, read, opening().await?).await
            }
            read => read,
        };
    }
    let calls = &session.share.reading;
    let reader = match read {
        Read::Open { name, .. } => {
            let (store, tenant) = (session.store.clone(), session.tenant.clone());
            let name = name.clone();
            blocking(calls, move || store.open_and_hold(&tenant, &name)).await?
        }
        Read::Hold { id, tenant, .. } => session.store.open_here(tenant, *id)?,
        Read::More { open, .. } => shared.opened(*open)?,
        Read::Close { .. } => unreachable!("nothing is read"),
    };
    if reader.is_cached() {
        return read_arriving(shared, read, reader).await;
    }
    let range = clamp(read.range(), &reader);
    let room = shared.room(n_bytes(&range)).await;
    let pieces = reader.pieces(range);
    let data = blocking(calls, move || collect(pieces)).await;
    Ok((reader, data, room))
}

/// The same of what comes from S3, without a thread that waits for it.
async fn read_arriving(
    shared: &Shared,
    read: &Read,
    reader: Reader,
) -> Result<(Reader, Result<Vec<Bytes>>, Room)> {
    let range = clamp(read.range(), &reader);
    let room = shared.room(n_bytes(&range)).await;
    let data = reader.stream(range).try_collect().await;
    Ok((reader, data, room))
}

async fn answer(
    shared: &Shared,
    read: Read,
    reader: Reader,
    data: Result<Vec<Bytes>>,
    room: Room,
    asked: Asked,
) {
    let data = match data {
        Ok(data) => data,
        Err(error) => return asked.answer(Err::<(), _>(error)).await,
    };
    let (when, keep) = match read {
        Read::Open { when, keep, .. } => (when, keep),
        Read::Hold { keep, .. } => {
            return match shared.keep(keep, reader) {
                Ok(()) => asked.answer_with((), data, Some(room)).await,
                Err(error) => asked.answer(Err::<(), _>(error)).await,
            };
        }
        Read::More { .. } | Read::Close { .. } => {
            return asked.answer_with((), data, Some(room)).await;
        }
    };
    let entry = native(reader.entry());
    let kept = check(&entry, &when).and_then(|()| match keep {
        Some(number) => shared.keep(number, reader),
        None => Ok(()),
    });
    match kept {
        Ok(()) => asked.answer_with(Found(entry), data, Some(room)).await,
        Err(error) => asked.answer(Err::<(), _>(error)).await,
    }
}

fn check(entry: &Entry, when: &Precondition) -> Result<()> {
    let holds = match when {
        Precondition::None => true,
        Precondition::Absent => false,
        Precondition::Etag(etag) => entry.sealed.etag == *etag,
        Precondition::Generation(generation) => entry.generation == *generation,
    };
    if holds {
        Ok(())
    } else {
        let what = "it is not as the precondition says";
        Err(Error::new(Kind::Conflict, what))
    }
}

/// What there is of a range.
fn clamp(range: Range<u64>, reader: &Reader) -> Range<u64> {
    let end = range.end.min(reader.len());
    range.start.min(end)..end
}

fn n_bytes(range: &Range<u64>) -> u32 {
    u32::try_from(range.end - range.start).expect("a piece is short")
}

/// Without waiting; `None`: S3 has to be asked.
fn try_open(store: &Store, tenant: &Tenant, name: &Name) -> Result<Option<Reader>> {
    if store.through(&name.bucket).is_some() {
        return Ok(None);
    }
    store.open_object(tenant, name).map(Some)
}

/// Waits if it is not in memory.
fn collect(pieces: Pieces) -> Result<Vec<Bytes>> {
    pieces.map(|piece| Ok(Bytes::from(piece?))).collect()
}
