//! Writing objects: each is a task, which does what is said of it, one thing after the other.

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::looks::native;
use super::outbox::{Asked, Room};
use super::session::{Session, blocking};
use crate::core::index::Class;
use crate::error::{Error, Result};
use crate::store::Writer;
use crate::wire::{Seal, SealedAs};

/// So much memory is taken ahead for an object that has said how long it is: it may be long in coming.
const AHEAD_BYTES: u64 = 16 << 20;

/// What is done to it on a thread that may wait.
type Change = Box<dyn FnOnce(&mut Writer) -> Result<()> + Send>;

/// An object that is being written.
pub(super) struct Writing {
    pub steps: mpsc::Sender<(Step, Asked, OwnedSemaphorePermit)>,
    pub task: u64,
}

pub(super) enum Step {
    Write {
        position: Option<u64>,
        data: (Bytes, Room),
    },
    Truncate(u64),
    Seal(Box<Seal>),
}

/// Writes an object until it is sealed, or nobody says anything of it any more.
pub(super) async fn write(
    session: &Session,
    reserve: u64,
    (asked, place): (Asked, OwnedSemaphorePermit),
    mut steps: mpsc::Receiver<(Step, Asked, OwnedSemaphorePermit)>,
) {
    let (store, tenant) = (session.store.clone(), session.tenant.clone());
    let begin = move || {
        let mut writer = store.writer(&tenant)?;
        writer.reserve(reserve.min(AHEAD_BYTES))?;
        Ok(writer)
    };
    let mut state = blocking(&session.share.changing, begin).await;
    asked.answer(state.as_ref().map(drop).map_err(again)).await;
    drop(place);
    while let Some((step, asked, _place)) = steps.recv().await {
        let writer = match state {
            Ok(writer) => writer,
            Err(error) => {
                asked.answer(Err::<(), _>(again(&error))).await;
                state = Err(error);
                continue;
            }
        };
        let change: Change = match step {
            Step::Write { position, data } => Box::new(move |writer| {
                let (data, _room) = data;
                put(writer, position, &data, reserve)
            }),
            Step::Truncate(len) => Box::new(move |writer| writer.truncate(len)),
            Step::Seal(seal) => return asked.answer(seal_as(session, writer, *seal).await).await,
        };
        let mut writer = writer;
        state = blocking(&session.share.changing, move || {
            change(&mut writer).map(|()| writer)
        })
        .await;
        asked.answer(state.as_ref().map(drop).map_err(again)).await;
    }
}

fn put(writer: &mut Writer, position: Option<u64>, data: &[u8], expected: u64) -> Result<()> {
    let position = position.unwrap_or_else(|| writer.len());
    let end = position.saturating_add(data.len() as u64);
    if end <= expected {
        let ahead = end.next_multiple_of(AHEAD_BYTES).min(expected);
        writer.reserve(ahead)?;
    }
    writer.write_at(position, data)
}

/// The same once more, for all that comes after it.
fn again(error: &Error) -> Error {
    Error::new(error.kind, error.to_string())
}

async fn seal_as(session: &Session, writer: Writer, seal: Seal) -> Result<SealedAs> {
    let (store, tenant) = (session.store.clone(), session.tenant.clone());
    if let Some(through) = store.through(&seal.name.bucket) {
        let Seal { name, terms, .. } = seal;
        // It goes to S3 from memory.
        let finish = || {
            let store = store.clone();
            move || store.finish(Class::Ephemeral, writer)
        };
        let unnamed = blocking(&session.share.changing, finish()).await?;
        let entry = through.seal(&tenant, &name, unnamed, terms).await?;
        return Ok(SealedAs {
            entry: native(&entry),
            lost_with: None,
        });
    }
    let class = seal.class;
    let sealed = blocking(&session.share.changing, move || {
        store.seal(&tenant, &seal.name, (class, writer), seal.terms)
    });
    let (entry, ack) = sealed.await?;
    // An ephemeral one says that it may be lost.
    if class == Class::Durable {
        ack.await?;
    } else {
        ack.seen().await?;
    }
    let (node, epoch) = session.store.identity();
    let lost_with = (entry.sealed.class == Class::Ephemeral).then_some((node, epoch));
    let entry = native(&entry);
    Ok(SealedAs { entry, lost_with })
}
