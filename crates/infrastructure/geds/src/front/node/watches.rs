//! Waiting for changes.

use tokio::time::timeout;

use super::door::end_of;
use super::looks::native;
use super::outbox::Asked;
use super::session::{Session, Shared};
use crate::error::{Error, Kind, Result};
use crate::index::{self, Change, Index, Revision};
use crate::wire::{EVENTS_MAX, Event, PAGE_BYTES, Position, Watch, Watched};

/// What an event takes beside its name and metadata, at most, but for consumers and copies.
const EVENT_BYTES: usize = 256;
/// More than any of those takes.
const EACH_BYTES: usize = 19;
const COPY_BYTES: usize = 1400;

/// Answers when something has happened, or after the time that the client has said.
pub(super) async fn watch(shared: &Shared, watch: Watch, asked: Asked) {
    let session = &shared.session;
    let mut revisions = session.store.namespace().revisions();
    let mut stopped = session.stopped.clone();
    let waiting = async {
        loop {
            // What changes from here on is seen below, or wakes us.
            revisions.borrow_and_update();
            let watched = look(session, &watch)?;
            let is_empty = matches!(&watched, Watched::Events { events, .. } if events.is_empty());
            if !is_empty || watch.from.is_none() {
                return Ok(watched);
            }
            if revisions.changed().await.is_err() {
                return Err(Error::new(Kind::Unavailable, "the store has ended"));
            }
        }
    };
    let waited = tokio::select! {
        waited = timeout(watch.wait, waiting) => waited,
        () = end_of(&mut stopped) => Ok(look(session, &watch)),
    };
    let watched = waited.unwrap_or_else(|_| look(session, &watch));
    shared.end_watch(asked.request());
    asked.answer(watched).await;
}

fn look(session: &Session, watch: &Watch) -> Result<Watched> {
    let tenant = &session.tenant;
    let bucket = watch.bucket();
    if session.store.through(bucket).is_some() {
        let what = format!("the authority of bucket `{bucket}` is S3, which tells of no changes");
        return Err(Error::new(Kind::Invalid, what));
    }
    session.store.namespace().read(|index| {
        if index.bucket(bucket)?.owner != *tenant {
            let what = format!("bucket `{bucket}` belongs to somebody else");
            return Err(Error::new(Kind::Denied, what));
        }
        let now = Position {
            revision: index.revision(),
            n_more: 0,
        };
        let from = watch.from.unwrap_or(now);
        match events(index, watch, from) {
            Err(index::Error::Compacted { .. }) => Ok(Watched::Compacted { now }),
            watched => Ok(watched?),
        }
    })
}

/// As many as an answer has.
fn events(
    index: &Index,
    watch: &Watch,
    from: Position,
) -> std::result::Result<Watched, index::Error> {
    let mut told = Vec::new();
    let mut next = from;
    let mut n_bytes = 0;
    let (mut present, mut n_present) = (Revision(0), 0);
    let mut is_cut = false;
    for (n_before, (revision, change)) in
        (0..).zip(index.changes_since(from.revision, &watch.scope)?)
    {
        if revision != present {
            (present, n_present) = (revision, 0);
        }
        n_present += 1;
        if n_before < from.n_more {
            continue;
        }
        if let Some(event) = event(change) {
            n_bytes += size(&event);
            if !told.is_empty() && (n_bytes > PAGE_BYTES || told.len() == EVENTS_MAX) {
                is_cut = true;
                break;
            }
            told.push((revision, event));
        }
        next = Position {
            revision: Revision(revision.0 - 1),
            n_more: n_present,
        };
    }
    if !is_cut {
        next = Position {
            revision: index.revision(),
            n_more: 0,
        };
    }
    Ok(Watched::Events {
        bucket: watch.bucket().clone(),
        events: told,
        next,
    })
}

fn event(change: &Change) -> Option<Event> {
    Some(match change {
        Change::Named { name, after, .. } => match after {
            Some(entry) => Event::Named {
                name: name.clone(),
                entry: native(entry),
            },
            None => Event::Removed(name.clone()),
        },
        Change::Placed {
            name,
            id,
            placement,
        } => Event::Placed {
            name: name.clone(),
            id: *id,
            placement: placement.clone(),
        },
        // Whoever watches a bucket knows that it is there, and that it is the same: see `Index::changes_since`.
        Change::BucketCreated { .. } | Change::BucketDeleted(_) | Change::Released { .. } => {
            return None;
        }
    })
}

fn size(event: &Event) -> usize {
    let more = match event {
        Event::Named { name, entry } => {
            let consumers = entry.hints.consumers.len() * EACH_BYTES;
            name.key.as_str().len() + entry.metadata.len() + consumers
        }
        Event::Removed(name) => name.key.as_str().len(),
        Event::Placed {
            name, placement, ..
        } => name.key.as_str().len() + placement.copies().len() * COPY_BYTES,
    };
    EVENT_BYTES + more
}
