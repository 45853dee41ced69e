//! Changes of the index.

use ids::Name as Tenant;

use super::outbox::Asked;
use super::session::{Session, blocking};
use crate::error::{Error, Kind, Result};
use crate::front::s3::with_native_metadata;
use crate::index::{Index, Name, Op};
use crate::store::{Ack, Store};
use crate::wire::Change;

/// Answered when it is durable.
pub(super) async fn change(session: &Session, change: Change, asked: Asked) {
    let (store, tenant) = (session.store.clone(), session.tenant.clone());
    if is_elsewhere(&store, &change) {
        return asked
            .answer(change_there(&store, &tenant, change).await)
            .await;
    }
    // The queue of the log may be full.
    let call = move || {
        let committed = commit(&store, &tenant, change);
        store.start_writing();
        committed
    };
    let result = match blocking(&session.share.changing, call).await {
        Ok(ack) => ack.await,
        Err(error) => Err(error),
    };
    asked.answer(result).await;
}

/// Is S3 asked to do it?
fn is_elsewhere(store: &Store, change: &Change) -> bool {
    match change {
        Change::Copy { from, to, .. } => [from, to]
            .iter()
            .any(|name| store.through(&name.bucket).is_some()),
        Change::Rename { from: name, .. } | Change::Delete { name, .. } => {
            store.through(&name.bucket).is_some()
        }
        // What S3 cannot do is refused by the store.
        _ => false,
    }
}

async fn change_there(store: &Store, tenant: &Tenant, change: Change) -> Result<()> {
    match change {
        Change::Copy {
            from,
            to,
            metadata,
            when,
        } => {
            let reader = store.open_anywhere(tenant, &from).await?;
            // What S3 has said of it stays.
            let metadata =
                metadata.map(|metadata| with_native_metadata(&reader.entry().metadata, metadata));
            let copied = store.copy_content(tenant, (&reader, &to), metadata, when);
            copied.await.map(drop)
        }
        Change::Rename { from, to, when } => {
            let through = store.through(&from.bucket).expect(ELSEWHERE);
            through.rename(tenant, [&from, &to], when).await
        }
        Change::Delete { name, when } => {
            let through = store.through(&name.bucket).expect(ELSEWHERE);
            through.delete(tenant, &name, &when).await
        }
        _ => unreachable!("{ELSEWHERE}"),
    }
}

const ELSEWHERE: &str = "it was found to be S3's";

fn commit(store: &Store, tenant: &Tenant, change: Change) -> Result<Ack> {
    match change {
        Change::CreateBucket(bucket) => store.create_bucket(tenant, &bucket),
        Change::DeleteBucket(bucket) => store.delete_bucket(tenant, &bucket),
        Change::Copy {
            from,
            to,
            metadata,
            when,
        } => store.copy(tenant, [&from, &to], metadata, when),
        Change::Rename { from, to, when } => store.rename(tenant, [&from, &to], when),
        Change::RenamePrefix { from, to, when } => store.rename_prefix(tenant, [&from, &to], when),
        Change::Delete { name, when } => store.delete(tenant, &name, when),
        Change::DeletePrefix(folder) => store.delete_prefix(tenant, &folder),
        Change::SetMetadata(name, metadata) => {
            store.check_index(&name.bucket)?;
            let (_, ack) = store
                .change_with(|index| set_metadata(index, tenant, &name, &metadata).map(Some))?;
            Ok(ack)
        }
        Change::Consume(name, consumer) => store.consume(tenant, &name, consumer),
    }
}

/// What S3 has said of the name stays.
fn set_metadata(index: &Index, tenant: &Tenant, name: &Name, metadata: &[u8]) -> Result<Op> {
    if index.bucket(&name.bucket)?.owner != *tenant {
        let what = format!("bucket `{}` belongs to somebody else", name.bucket);
        return Err(Error::new(Kind::Denied, what));
    }
    let present = &index.entry(name)?.metadata;
    let metadata = with_native_metadata(present, metadata.into());
    Ok(Op::SetMetadata(name.clone(), metadata))
}
