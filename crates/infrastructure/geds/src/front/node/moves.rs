//! Objects that are to be on the disk or in S3 too.

use super::door::NEVER_CLOSED;
use super::outbox::Asked;
use super::session::{Session, blocking};
use crate::error::Result;
use crate::store::Ack;
use crate::wire::Move;

/// Answered when it is durable there.
pub(super) async fn bring(session: &Session, what: Move, asked: Asked) {
    let result = match begin(session, what).await {
        Ok(ack) => ack.await,
        Err(error) => Err(error),
    };
    asked.answer(result).await;
}

async fn begin(session: &Session, what: Move) -> Result<Ack> {
    let (store, tenant) = (session.store.clone(), session.tenant.clone());
    match what {
        Move::Relocate(name) => {
            let call = move || store.relocate(&tenant, &name);
            blocking(&session.share.changing, call).await
        }
        Move::Persist(name) => {
            // S3 may be out of reach for long. What is changed or written meanwhile does not wait for that.
            let call = session.share.persisting.acquire().await;
            let _call = call.expect(NEVER_CLOSED);
            store.persist(&tenant, &name).await
        }
    }
}
