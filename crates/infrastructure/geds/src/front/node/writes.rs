//! Writing objects: each is a task, which does what is said of it, one thing after the other.

use std::sync::Arc;

use bytes::Bytes;
use geds_client::WriterToken;
use ids::Epoch;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::detached::Held;
use super::looks::native;
use super::outbox::{Asked, Room};
use super::session::{Session, blocking};
use crate::error::{Error, Result};
use crate::index::Class;
use crate::store::Writer;
use crate::wire::{self, Seal, SealedAs};

/// So much memory is taken ahead for an object that has said how long it is: it may be long in coming.
const AHEAD_BYTES: u64 = 16 << 20;

/// What is done to it on a thread that may wait.
type Change = Box<dyn FnOnce(&mut Writer) -> Result<()> + Send>;

/// An object that is being written.
pub(super) struct Writing {
    pub steps: mpsc::Sender<(Step, Asked, OwnedSemaphorePermit)>,
    pub task: u64,
}

/// How it begins.
pub(super) enum Begin {
    New { reserve: u64 },
    Attach { token: WriterToken, epoch: Epoch },
}

pub(super) enum Step {
    Write {
        position: Option<u64>,
        data: (Bytes, Room),
    },
    Truncate(u64),
    Detach,
    Seal(Box<Seal>),
}

/// Whose it is: this connection's, or of whoever has attached.
enum Written {
    Own(Writer),
    Detached(Held<Writer>),
}

impl Written {
    fn change(mut self, change: Change) -> Result<Self> {
        match &mut self {
            Self::Own(writer) => change(writer)?,
            Self::Detached(held) => held.with(change)?,
        }
        Ok(self)
    }

    fn take(self) -> Result<Writer> {
        match self {
            Self::Own(writer) => Ok(writer),
            Self::Detached(held) => held.take(),
        }
    }
}

/// Writes an object until it is sealed, or nobody says anything of it any more.
pub(super) async fn write(
    session: &Session,
    begin: Begin,
    (asked, place): (Asked, OwnedSemaphorePermit),
    mut steps: mpsc::Receiver<(Step, Asked, OwnedSemaphorePermit)>,
) {
    let expected = match begin {
        Begin::New { reserve } => reserve,
        Begin::Attach { .. } => 0,
    };
    let mut state = match begin {
        Begin::New { reserve } => {
            let begun = new(session, reserve).await;
            asked.answer(begun.as_ref().map(drop).map_err(again)).await;
            begun
        }
        Begin::Attach { token, epoch } => {
            let attached = attach(session, token, epoch).await;
            let len = attached
                .as_ref()
                .map(|(_, len)| wire::Written { len: *len });
            asked.answer(len.map_err(again)).await;
            attached.map(|(written, _)| written)
        }
    };
    drop(place);
    while let Some((step, asked, _place)) = steps.recv().await {
        let written = match state {
            Ok(written) => written,
            Err(error) => {
                asked.answer(Err::<(), _>(again(&error))).await;
                state = Err(error);
                continue;
            }
        };
        let change: Change = match step {
            Step::Write { position, data } => Box::new(move |writer| {
                let (data, _room) = data;
                put(writer, position, &data, expected)
            }),
            Step::Truncate(len) => Box::new(move |writer| writer.truncate(len)),
            Step::Detach => {
                let detached = detach(session, written).await;
                let token = detached.as_ref().map(Held::token).map_err(again);
                asked.answer(token).await;
                state = detached.map(Written::Detached);
                continue;
            }
            Step::Seal(seal) => {
                let is_elsewhere = session.store.through(&seal.name.bucket).is_some();
                let sealed = seal_as(session, written, *seal).await;
                if !is_elsewhere {
                    session.store.note_answer(asked.since());
                }
                return asked.answer(sealed).await;
            }
        };
        state = blocking(&session.share.changing, move || written.change(change)).await;
        asked.answer(state.as_ref().map(drop).map_err(again)).await;
    }
}

async fn new(session: &Session, reserve: u64) -> Result<Written> {
    let (store, tenant) = (session.store.clone(), session.tenant.clone());
    blocking(&session.share.changing, move || {
        let mut writer = store.writer(&tenant)?;
        writer.expect(reserve)?;
        writer.reserve(reserve.min(AHEAD_BYTES))?;
        Ok(Written::Own(writer))
    })
    .await
}

/// Waits for what the one is doing who had it.
async fn attach(session: &Session, token: WriterToken, epoch: Epoch) -> Result<(Written, u64)> {
    let (detached, tenant) = (Arc::clone(&session.detached), session.tenant.clone());
    blocking(&session.share.changing, move || {
        let held = detached.attach(&tenant, token, epoch)?;
        let len = held.with(|writer| Ok(writer.len()))?;
        Ok((Written::Detached(held), len))
    })
    .await
}

async fn detach(session: &Session, written: Written) -> Result<Held<Writer>> {
    let (detached, tenant) = (Arc::clone(&session.detached), session.tenant.clone());
    blocking(&session.share.changing, move || match written {
        Written::Own(writer) => detached.detach(&tenant, writer),
        Written::Detached(held) => held.with(|_| Ok(())).map(|()| held),
    })
    .await
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

async fn seal_as(session: &Session, written: Written, seal: Seal) -> Result<SealedAs> {
    let (store, tenant) = (session.store.clone(), session.tenant.clone());
    if let Some(through) = store.through(&seal.name.bucket) {
        let Seal { name, terms, .. } = seal;
        // It goes to S3 from memory.
        let finish = || {
            let store = store.clone();
            move || store.finish(Class::Ephemeral, written.take()?)
        };
        let unnamed = blocking(&session.share.changing, finish()).await?;
        let entry = through.seal(&tenant, &name, unnamed, terms).await?;
        return Ok(SealedAs {
            entry: native(&entry),
            lost_with: None,
        });
    }
    let sealed = blocking(&session.share.changing, move || {
        // In one go: what was taken and not sealed would be gone with the connection.
        let writer = (seal.class, written.take()?);
        let sealed = store.seal(&tenant, &seal.name, writer, seal.terms);
        store.start_writing();
        sealed
    });
    let (entry, ack) = sealed.await?;
    // An ephemeral one says that it may be lost. What was too long for memory is none.
    if entry.sealed.class == Class::Durable {
        ack.await?;
    } else {
        ack.seen().await?;
    }
    let (node, epoch) = session.store.identity();
    let lost_with = (entry.sealed.class == Class::Ephemeral).then_some((node, epoch));
    let entry = native(&entry);
    Ok(SealedAs { entry, lost_with })
}
