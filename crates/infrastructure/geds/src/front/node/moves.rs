//! What is to be on the disk or in S3.

use super::door::NEVER_CLOSED;
use super::outbox::Asked;
use super::session::{Session, blocking};
use crate::error::Result;
use crate::store::Ack;
use crate::wire::Move;

/// Answered when it is there.
pub(super) async fn bring(session: &Session, what: Move, asked: Asked) {
    let (store, tenant) = (session.store.clone(), session.tenant.clone());
    let calls = &session.share.changing;
    match what {
        Move::Persist(name) if store.through(&name.bucket).is_some() => {
            let status = async {
                let through = store.through(&name.bucket).expect("it was one");
                through.status(&tenant, &name).await
            };
            asked.answer(status.await.map(drop)).await;
        }
        Move::Relocate(name) => {
            let call = move || store.relocate(&tenant, &name);
            asked
                .answer(durable(blocking(calls, call).await).await)
                .await;
        }
        Move::Persist(name) => {
            // S3 may be out of reach for long. What is changed or written meanwhile does not wait for that.
            let call = session.share.persisting.acquire().await;
            let _call = call.expect(NEVER_CLOSED);
            let persisted = store.persist(&tenant, &name).await;
            asked.answer(durable(persisted).await).await;
        }
        Move::MakeRoom(bytes) => {
            let call = move || store.make_room_for(&tenant, bytes);
            asked.answer(blocking(calls, call).await).await;
        }
        Move::Scrub(name) => {
            let call = move || store.scrub_object(&tenant, &name);
            asked
                .answer(blocking(&session.share.reading, call).await)
                .await;
        }
    }
}

async fn durable(begun: Result<Ack>) -> Result<()> {
    begun?.await
}
