//! What the members of the site ask, of which this node owns the index.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::outbox::Asked;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::wire::Site;
use crate::wire::site::Committed;

/// So many of a connection are under way. The members hold back by themselves before that.
pub(super) const REQUESTS_MAX: usize = 512;
/// So many changes are carried out before the first of them is answered.
const BATCH_MAX: usize = 32;

pub(super) async fn site(session: &Session, what: Site, asked: Asked) {
    let Some(owner) = session.store.owner() else {
        return asked.answer(Err::<(), _>(no_owner())).await;
    };
    let store = session.store.clone();
    match what {
        Site::Join {
            node,
            former,
            addr,
            site,
        } => {
            let owner = Arc::clone(owner);
            let join = apart(move || owner.join(&store, (node, former), addr, site));
            asked.answer(join.await).await;
        }
        Site::Names {
            member,
            piece,
            from,
        } => {
            let owner = Arc::clone(owner);
            match apart(move || owner.names(member, piece, from)).await {
                Ok((len, bytes)) => asked.answer_with(len, vec![bytes], None).await,
                Err(error) => asked.answer(Err::<(), _>(error)).await,
            }
        }
        Site::Follow {
            member,
            applied,
            peers,
        } => match owner.follow(&store, member, applied, peers).await {
            Ok((followed, records)) => asked.answer_with(followed, vec![records], None).await,
            Err(error) => asked.answer(Err::<(), _>(error)).await,
        },
        Site::Commit { .. } => unreachable!("they have a queue"),
        Site::Confirm {
            revision,
            is_durable,
            ..
        } => {
            let confirmed = owner.confirm(&store, revision, is_durable).await;
            asked.answer(confirmed).await;
        }
        Site::Leave { member } => asked.answer(owner.leave(&store, member).await).await,
    }
}

/// A change, who has asked for it, and its place among the requests.
pub(super) type Wanted = (Site, Asked, OwnedSemaphorePermit);

/// Carries out changes in the order in which they have come: what a member seals has numbers that only grow.
pub(super) async fn commit(session: &Session, mut queue: mpsc::Receiver<Wanted>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let wanted = batch
            .drain(..)
            .map(|(what, asked, place)| (what, (asked, place)));
        let (wanted, asked): (Vec<_>, Vec<_>) = wanted.unzip();
        let store = session.store.clone();
        // The queue of the log may be full.
        let commit = move || {
            let committed = wanted.into_iter().map(|what| commit_one(&store, what));
            Ok(committed.collect::<Vec<_>>())
        };
        // If it was not done, they are told so by being dropped.
        let results = apart(commit).await.unwrap_or_default();
        for ((asked, _place), result) in asked.into_iter().zip(results) {
            asked.answer(result).await;
        }
    }
}

fn commit_one(store: &Store, what: Site) -> Result<Committed> {
    let Site::Commit {
        member,
        base,
        when,
        op,
    } = what
    else {
        unreachable!("nothing else is in the queue");
    };
    match store.owner() {
        Some(_) => store.commit_of_member(member, base, when, op),
        None => Err(no_owner()),
    }
}

fn no_owner() -> Error {
    let what = "this node owns no index: ask the one that does";
    Error::new(Kind::Invalid, what)
}

async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = rt::blocking(work).await;
    done.map_err(|error| Error::caused(Kind::Unavailable, "wait for the store", error))?
}
