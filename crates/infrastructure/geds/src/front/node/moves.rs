//! What is to be on the disk or in S3.

use super::door::NEVER_CLOSED;
use super::outbox::Asked;
use super::session::{Session, blocking};
use crate::error::Result;
use crate::wire::Move;

/// Answered when it is there.
pub(super) async fn bring(session: &Session, what: Move, asked: Asked) {
    asked.answer(moved(session, what).await).await;
}

async fn moved(session: &Session, what: Move) -> Result<()> {
    let (store, tenant) = (session.store.clone(), session.tenant.clone());
    match what {
        Move::Relocate(name) => {
            let call = move || store.relocate(&tenant, &name);
            blocking(&session.share.changing, call).await?.await
        }
        Move::MakeRoom(bytes) => {
            let call = move || store.make_room_for(&tenant, bytes);
            blocking(&session.share.changing, call).await
        }
        Move::Persist(name) => {
            // S3 may be out of reach for long. What is changed or written meanwhile does not wait for that.
            let call = session.share.persisting.acquire().await;
            let _call = call.expect(NEVER_CLOSED);
            store.persist(&tenant, &name).await?.await
        }
    }
}
