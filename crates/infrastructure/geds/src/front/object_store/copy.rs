//! Copies: one more name for the data, or other data where that has as many names as it may have.

use ids::Name as Tenant;

use super::Bucket;
use crate::error::{Error, Kind, Result};
use crate::front::s3::meta;
use crate::index::{Index, Name, Op, Precondition};
use crate::store::{Ack, Store, Terms, now_ms};

/// Both names are in one bucket. `when` says of the second what must hold.
pub(super) async fn copy(bucket: &Bucket, names: [Name; 2], when: Precondition) -> Result<()> {
    let tenant = &bucket.0.tenant;
    if let Some(through) = bucket.through() {
        let [from, to] = &names;
        let reader = through.open(tenant, from).await?;
        let copied = bucket
            .store()
            .copy_content(tenant, (&reader, to), None, when);
        return copied.await.map(drop);
    }
    let copy = move |store: &Store, tenant: &Tenant| copy_here(store, tenant, names, when);
    bucket.run(copy).await?.await
}

/// May wait for the disk.
fn copy_here(
    store: &Store,
    tenant: &Tenant,
    [from, to]: [Name; 2],
    when: Precondition,
) -> Result<Ack> {
    // Says who may, and whether there is one.
    store.status(tenant, &from)?;
    let (changes, ack) = store.change_with(|index| link(index, [&from, &to], &when))?;
    if !changes.is_empty() {
        return Ok(ack);
    }
    let reader = store.open_and_hold(tenant, &from)?;
    let entry = reader.entry();
    let mut writer = store.writer(tenant)?;
    writer.reserve(reader.len())?;
    for piece in reader.pieces(0..reader.len()) {
        writer.append(&piece?)?;
    }
    let terms = Terms {
        when,
        metadata: meta::of_copy(entry).unwrap_or_else(|| entry.metadata.clone()),
        etag: Some(entry.sealed.etag.clone()),
        ..Terms::default()
    };
    let class = entry.sealed.class;
    Ok(store.seal(tenant, &to, (class, writer), terms)?.1)
}

/// `None`: it has as many names as it may have.
fn link(index: &Index, [from, to]: [&Name; 2], when: &Precondition) -> Result<Option<Op>> {
    let entry = index.entry(from)?;
    if *when == Precondition::Absent && index.entry(to).is_ok() {
        let what = format!("there is `{}` in `{}`", to.key, to.bucket);
        return Err(Error::new(Kind::Conflict, what));
    }
    let names = index.object(entry.sealed.id)?.names();
    let may_have_more = names.len() < index.limits().names_max || names.contains(to);
    Ok(may_have_more.then(|| Op::Copy {
        from: from.clone(),
        to: to.clone(),
        modified_at_ms: now_ms(),
        metadata: meta::of_copy(entry),
    }))
}
