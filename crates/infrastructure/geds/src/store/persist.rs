//! Objects on their way to S3 and back.
//!
//! ```text
//!  write-back ──▶ PUT under its key, if nothing is there but what it replaces ──▶ the index says where ──▶ memory and disk may forget it
//!                     └─▶ something else is there: PUT under KEY.geds-ID
//!  released  ──▶ DELETE, if it is still that one      read ──▶ GET of that etag ──▶ to memory
//! ```

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::reader::Content;
use super::remote::{Requests, in_s3};
use super::tenants::Share;
use super::{Ack, Reader, Store, now_ms};
use crate::core::index::{
    Cause, InS3, Index, KEY_BYTES_MAX, Key, Name, ObjectId, Op, Precondition, Residency,
};
use crate::error::{Error, Kind, Result};
use crate::tier2::Persist;

/// So many objects are looked at in one step, and so many are on their way at once.
const BATCH: usize = 256;
const AT_ONCE: usize = 32;
/// After something has failed, requests wait so long at first, and at most.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What is to be brought to S3, and under which name.
struct Errand {
    name: Name,
    reader: Reader,
}

impl Store {
    /// Has an object in S3 under its present name. Then no node is needed for it any more.
    ///
    /// # Errors
    /// `NotFound`, `Lost`; `Invalid`: its bucket is not in S3; `Conflict`: what is there is being read; what S3 says.
    pub async fn persist(&self, tenant: &ids::Name, name: &Name) -> Result<Ack> {
        let not_there = || Error::new(Kind::Invalid, format!("`{}` is not in S3", name.bucket));
        let requests = self.0.requests.as_ref().ok_or_else(not_there)?;
        if requests.remote.buckets.get(&name.bucket) != Some(tenant) {
            return Err(not_there());
        }
        let id = self.status(tenant, name)?.entry.sealed.id;
        self.bring(requests, id, Some(name)).await?;
        self.barrier()
    }

    fn barrier(&self) -> Result<Ack> {
        Ok(Ack::new(self.0.namespace.barrier()?))
    }

    /// Waits until all that the index says is durable.
    async fn durable(&self) -> Result<()> {
        let store = self.clone();
        let barrier = rt::blocking(move || store.barrier()).await;
        barrier
            .map_err(|error| Error::caused(Kind::Unavailable, "ask the log", error))??
            .await
    }

    /// Makes all requests that nobody waits for: brings to S3 what is to be there, deletes what nobody names any more, and fetches what was read.
    /// It does not end: one task is to run it.
    pub async fn run_requests(&self) {
        let Some(requests) = &self.0.requests else {
            return pending().await;
        };
        tokio::join!(
            self.write_back(requests),
            self.delete_doomed(requests),
            self.fetch_wanted(requests),
        );
    }

    async fn write_back(&self, requests: &Requests) {
        let mut pause = PAUSE;
        loop {
            let mut after = None;
            let mut is_well = true;
            let mut n_brought = 0;
            loop {
                let batch = requests.dirty_after(after, BATCH);
                let Some(last) = batch.last() else { break };
                after = Some(*last);
                let brought = batch.into_iter().map(|id| async move {
                    let brought = self.bring(requests, id, None).await;
                    (id, brought)
                });
                let mut brought = stream::iter(brought).buffer_unordered(AT_ONCE);
                while let Some((id, brought)) = brought.next().await {
                    match brought {
                        Ok(()) => {
                            requests.is_brought(id);
                            n_brought += 1;
                        }
                        Err(error) => {
                            requests.count_failure();
                            tracing::warn!(
                                ?id,
                                error = &error as &dyn std::error::Error,
                                "bring an object to S3"
                            );
                            is_well = false;
                        }
                    }
                }
                if !is_well && n_brought == 0 {
                    break;
                }
            }
            if is_well {
                pause = PAUSE;
                requests.dirty_told.notified().await;
            } else {
                pause = if n_brought > 0 {
                    PAUSE
                } else {
                    (2 * pause).min(PAUSE_MAX)
                };
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Has it in S3 under that name, or under any of its names if it is in none yet.
    async fn bring(&self, requests: &Requests, id: ObjectId, as_name: Option<&Name>) -> Result<()> {
        let name = self
            .0
            .namespace
            .read(|index| target(requests, index, id, as_name));
        let Some(name) = name else { return Ok(()) };
        let changing = requests.changing(&name);
        let _alone = changing.lock().await;
        let _on_the_way = {
            let size = self.0.namespace.read(|index| size_of(index, id));
            let permits = requests
                .on_the_way
                .acquire_many(Requests::weight(size))
                .await;
            permits.map_err(|error| Error::caused(Kind::Internal, "wait for others", error))?
        };
        // Much may have happened meanwhile.
        let Some(errand) = self
            .errand(requests, id, as_name)?
            .filter(|errand| errand.name == name)
        else {
            return Ok(());
        };
        // What is in S3 goes with what the index says; so that comes first.
        self.durable().await?;
        if requests.is_read(&name) {
            let what = format!("what `{}` was before is being read from S3", name.key);
            return Err(Error::new(Kind::Conflict, what));
        }
        let at = self.send(requests, id, &errand).await?;
        let size = errand.reader.len();
        requests.count(|counts| {
            counts.persisted_objects += 1;
            counts.persisted_bytes += size;
        });
        let store = self.clone();
        let placed = rt::blocking(move || store.place_persisted(id, &at)).await;
        placed.map_err(|error| Error::caused(Kind::Unavailable, "say where an object is", error))?
    }

    fn errand(
        &self,
        requests: &Requests,
        id: ObjectId,
        as_name: Option<&Name>,
    ) -> Result<Option<Errand>> {
        self.0.namespace.read(|index| {
            let Some(name) = target(requests, index, id, as_name) else {
                return Ok(None);
            };
            let entry = index.entry(&name)?;
            let content = self.content(id, index.object(id)?.placement())?;
            Ok(Some(Errand {
                reader: Reader::new(entry.clone(), content),
                name,
            }))
        })
    }

    /// Puts it there, in the place of what it replaces, or beside what is not ours to replace.
    async fn send(&self, requests: &Requests, id: ObjectId, errand: &Errand) -> Result<InS3> {
        let tier2 = &requests.remote.tier2;
        let Errand { name, reader } = errand;
        let replaced = requests.doomed_at(name);
        let mut what = Persist {
            name: name.clone(),
            id,
            size: reader.len(),
            attributes: (requests.remote.attributes)(reader.entry()),
            when: match &replaced {
                Some((_, etag)) => Precondition::Etag(etag.clone()),
                None => Precondition::Absent,
            },
        };
        let mut sent = tier2.persist(&what, pieces(reader)).await;
        if let Err(error) = &sent
            && matches!(error.kind, Kind::Conflict | Kind::NotFound)
        {
            match tier2.find(name).await? {
                None => what.when = Precondition::Absent,
                Some(found) if found.id.is_some_and(|id| !self.is_at(id, name)) => {
                    what.when = Precondition::Etag(found.etag);
                }
                Some(found) => {
                    what.name = beside(name, id)?;
                    what.when = Precondition::None;
                    requests.count(|counts| counts.conflicts += 1);
                    tracing::warn!(
                        key = %name.key, bucket = %name.bucket, other = ?found.id, second = %what.name.key,
                        "something else is in S3 under the key of an object, which is put under a second one"
                    );
                }
            }
            sent = tier2.persist(&what, pieces(reader)).await;
        }
        let at = sent?;
        if let Some((replaced, _)) = replaced {
            requests.is_gone(&at.name, replaced);
        }
        Ok(at)
    }

    /// Does the index say that it is there?
    fn is_at(&self, id: ObjectId, name: &Name) -> bool {
        self.0.namespace.read(|index| {
            let object = index.object(id).ok();
            object
                .and_then(|object| in_s3(object.placement()))
                .is_some_and(|at| at.name == *name)
        })
    }

    /// S3 has it; so memory and disk need not.
    fn place_persisted(&self, id: ObjectId, at: &InS3) -> Result<()> {
        let inner = &*self.0;
        let before = inner.namespace.read(|index| {
            let object = index.object(id).ok()?;
            in_s3(object.placement()).cloned()
        });
        let here = Residency::S3(at.clone().into());
        match self.place(Op::AddCopy(id, here)) {
            Ok(()) => {}
            Err(error) if error.kind == Kind::NotFound => {
                // It was replaced or deleted meanwhile.
                self.doom(id, at);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if let Some(before) = before.filter(|before| before.name != at.name) {
            self.place(Op::DropCopy(
                id,
                Residency::S3(before.clone()),
                Cause::Moved,
            ))?;
            self.doom(id, &before);
        }
        if let Some(resident) = inner.residents.get(id) {
            resident.share.victims().set_clean(&id);
        }
        inner.on_disk().set_clean(&id);
        self.keep_disk_room()
    }

    /// Nobody needs it in S3 any more.
    pub(super) fn doom(&self, id: ObjectId, at: &InS3) {
        if let Some(requests) = &self.0.requests {
            requests.doom(id, at);
        }
    }

    async fn delete_doomed(&self, requests: &Requests) {
        let mut pause = PAUSE;
        loop {
            let mut after = None;
            let mut is_well = true;
            loop {
                let batch = requests.doomed_after(after.as_ref(), BATCH);
                let Some(last) = batch.last() else { break };
                after = Some(last.clone());
                let deleted = batch.into_iter().map(|name| async move {
                    let deleted = self.delete_one(requests, &name).await;
                    (name, deleted)
                });
                let mut deleted = stream::iter(deleted).buffer_unordered(AT_ONCE);
                while let Some((name, deleted)) = deleted.next().await {
                    match deleted {
                        Ok(is_done) => is_well &= is_done,
                        Err(error) => {
                            requests.count_failure();
                            tracing::warn!(key = %name.key, error = &error as &dyn std::error::Error, "delete an object in S3");
                            is_well = false;
                        }
                    }
                }
            }
            if is_well {
                pause = PAUSE;
                requests.doomed_told.notified().await;
            } else {
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(PAUSE_MAX);
            }
        }
    }

    /// `false`: not yet.
    async fn delete_one(&self, requests: &Requests, name: &Name) -> Result<bool> {
        let changing = requests.changing(name);
        let _alone = changing.lock().await;
        let Some((id, _)) = requests.doomed_at(name) else {
            return Ok(true);
        };
        if requests.is_read(name) {
            return Ok(false);
        }
        // What comes to its place replaces it: so others see the one or the other.
        let is_replaced = requests.remote.writes_back
            && self.0.namespace.read(|index| {
                let entry = index.entry(name).ok();
                entry.is_some_and(|entry| {
                    target(requests, index, entry.sealed.id, None).is_some_and(|to| to == *name)
                })
            });
        if is_replaced {
            return Ok(false);
        }
        // Else a crash could bring back what names it.
        self.durable().await?;
        requests.remote.tier2.delete(name, id).await?;
        requests.is_gone(name, id);
        requests.count(|counts| counts.deleted_objects += 1);
        Ok(true)
    }

    async fn fetch_wanted(&self, requests: &Requests) {
        loop {
            while let Some((id, share)) = requests.next_wanted() {
                match self.fetch(requests, id, &share).await {
                    Ok(()) => {}
                    Err(error) if matches!(error.kind, Kind::Exhausted | Kind::NotFound) => {}
                    Err(error) => {
                        requests.count_failure();
                        tracing::warn!(
                            ?id,
                            error = &error as &dyn std::error::Error,
                            "fetch an object from S3"
                        );
                    }
                }
            }
            requests.wanted_told.notified().await;
        }
    }

    /// Brings to memory what is in S3, as far as there is room or something to forget for it.
    async fn fetch(&self, requests: &Requests, id: ObjectId, share: &Arc<Share>) -> Result<()> {
        let found = self.0.namespace.read(|index| {
            let at = in_s3(index.object(id)?.placement()).cloned();
            Ok::<_, Error>(at.map(|at| (at, size_of(index, id))))
        })?;
        let Some((at, size)) = found.filter(|_| self.0.residents.get(id).is_none()) else {
            return Ok(());
        };
        let mut written = self.room_for(share, size)?;
        let mut pieces = requests.pin(&at).stream(0..size).await?;
        while let Some(piece) = pieces.next().await {
            written.append(&piece?)?;
        }
        if self.keep_copy(id, share, written)? {
            requests.count(|counts| {
                counts.fetched_objects += 1;
                counts.fetched_bytes += size;
            });
        }
        Ok(())
    }

    /// What becomes of an object's copy in S3, or in memory and on the disk, is of interest.
    pub(super) fn note_named(&self, name: &Name, id: ObjectId) {
        if let Some(requests) = &self.0.requests
            && requests.remote.writes_back
            && requests.remote.has(&name.bucket)
        {
            requests.bring(id);
        }
    }

    /// Begins to bring to S3 what was not there when the store was opened.
    pub(super) fn find_dirty(&self) {
        let Some(requests) = &self.0.requests else {
            return;
        };
        if !requests.remote.writes_back {
            return;
        }
        self.0.namespace.read(|index| {
            for (id, object) in index.objects() {
                let names = object.names().iter();
                if object.placement().is_dirty()
                    && names
                        .into_iter()
                        .any(|name| requests.remote.has(&name.bucket))
                {
                    requests.bring(id);
                }
            }
        });
    }

    /// Has it brought to S3 because the disk is short of room.
    pub(super) fn bring_soon(&self, id: ObjectId) {
        let Some(requests) = &self.0.requests else {
            return;
        };
        let is_to_come = self
            .0
            .namespace
            .read(|index| target(requests, index, id, None).is_some());
        if is_to_come {
            requests.bring(id);
        }
    }
}

/// The name under which an object is to come to S3. `None`: it is there, gone, lost, spent, or does not belong there.
fn target(
    requests: &Requests,
    index: &Index,
    id: ObjectId,
    as_name: Option<&Name>,
) -> Option<Name> {
    let remote = &requests.remote;
    let belongs = |name: &Name| {
        let owner = remote.buckets.get(&name.bucket);
        let bucket = index.bucket(&name.bucket).ok();
        owner.is_some_and(|owner| bucket.is_some_and(|bucket| bucket.owner == *owner))
    };
    let object = index.object(id).ok()?;
    if object.placement().copies().is_empty() {
        return None;
    }
    let at = in_s3(object.placement());
    match as_name {
        Some(name) => {
            let is_there = at.is_some_and(|at| at.name == *name);
            (!is_there && object.names().contains(name) && belongs(name)).then(|| name.clone())
        }
        None if at.is_some() => None,
        None => {
            let now_ms = now_ms();
            let mut entries = object.names().iter().map(|name| index.entry(name));
            if entries.all(|entry| entry.is_ok_and(|entry| entry.hints.is_spent(now_ms))) {
                return None;
            }
            object.names().iter().find(|name| belongs(name)).cloned()
        }
    }
}

fn size_of(index: &Index, id: ObjectId) -> u64 {
    let name = index
        .object(id)
        .ok()
        .and_then(|object| object.names().first());
    let entry = name.and_then(|name| index.entry(name).ok());
    entry.map_or(0, |entry| entry.sealed.size)
}

/// A second key for an object.
fn beside(name: &Name, id: ObjectId) -> Result<Name> {
    let mark = format!(".geds-{:x}-{:x}-{:x}", id.node.0, id.epoch.0, id.serial);
    let key = name.key.as_str();
    let mut len = key.len().min(KEY_BYTES_MAX - mark.len());
    while !key.is_char_boundary(len) {
        len -= 1;
    }
    Ok(Name {
        bucket: name.bucket.clone(),
        key: Key::new(&format!("{}{mark}", &key[..len]))?,
    })
}

/// All of an object, from where it is.
fn pieces(reader: &Reader) -> BoxStream<'static, Result<Bytes>> {
    let whole = 0..reader.len();
    match reader.content() {
        Content::Memory(_) => {
            let pieces = reader.pieces(whole).map(|piece| piece.map(Bytes::from));
            stream::iter(pieces).boxed()
        }
        Content::Disk(_) => stream::try_unfold(reader.pieces(whole), |mut pieces| async move {
            let read = rt::blocking(move || (pieces.next().transpose(), pieces)).await;
            let (piece, pieces) =
                read.map_err(|error| Error::caused(Kind::Unavailable, "read the disk", error))?;
            Ok(piece?.map(|piece| (Bytes::from(piece), pieces)))
        })
        .boxed(),
        Content::S3(pinned) => {
            let pinned = Arc::clone(pinned);
            stream::once(async move { pinned.stream(whole).await })
                .flat_map(|pieces| match pieces {
                    Ok(pieces) => pieces,
                    Err(error) => stream::iter([Err(error)]).boxed(),
                })
                .boxed()
        }
    }
}

#[cfg(test)]
mod tests;
