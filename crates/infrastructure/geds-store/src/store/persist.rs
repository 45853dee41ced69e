//! Objects on their way to S3 and back.
//!
//! ```text
//!  write-back ──▶ PUT under its key, if nothing is there but what it replaces ──▶ the index says where ──▶ memory and disk may forget it
//!                     └─▶ something else is there: PUT under KEY.geds-ID
//!  released  ──▶ DELETE, if it is still that one      read ──▶ GET of that etag ──▶ to memory
//! ```

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::remote::{Doomed, Requests, in_s3};
use super::tenants::Share;
use super::{Ack, Reader, Store, now_ms};
use crate::core::index::{
    Cause, Etag, InS3, Index, Name, ObjectId, Op, Placement, Precondition, Residency, Sealed,
};
use crate::error::{Error, Kind, Result};
use crate::tier2::Persist;

/// So many objects are on their way to S3 at once, or are deleted there, and so many are fetched.
pub(super) const AT_ONCE: usize = 32;
const FETCHED_AT_ONCE: usize = 4;
/// After so many failures in a row S3 is taken to be out of reach.
pub(super) const FAILURES_MAX: usize = 2 * AT_ONCE;
/// After something has failed, requests wait so long at first, and at most.
pub(super) const PAUSE: Duration = Duration::from_millis(250);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The name of an object may change so often while it waits to be brought to S3.
const NAMES_MAX: usize = 8;

/// What is to be brought to S3, and under which name.
pub(super) struct Errand {
    pub name: Name,
    reader: Reader,
}

impl Errand {
    pub(super) fn len(&self) -> u64 {
        self.reader.len()
    }
}

/// Where it is put, if that is as it is to be.
pub(super) struct Place {
    name: Name,
    when: Precondition,
}

impl Store {
    /// Has an object in S3 under its present name. Then no node is needed for it any more.
    ///
    /// # Errors
    /// `NotFound`, `Lost`; `Invalid`: its bucket is not in S3, or cannot be; `Conflict`: what is there is being read, or it was renamed meanwhile;
    /// what S3 says.
    pub async fn persist(&self, tenant: &ids::Name, name: &Name) -> Result<Ack> {
        let not_there = || {
            let what = format!(
                "bucket `{}` is not in S3: name it under tier2.buckets in the node's settings (docs/geds.md)",
                name.bucket
            );
            Error::new(Kind::Invalid, what)
        };
        let requests = self.0.requests.as_ref().ok_or_else(not_there)?;
        if requests.remote.buckets.get(&name.bucket) != Some(tenant) {
            return Err(not_there());
        }
        let id = self.status(tenant, name)?.entry.sealed.id;
        if !requests.is_checked(&name.bucket) {
            requests.remote.background.check(&name.bucket).await?;
            requests.set_checked(&name.bucket);
        }
        self.bring(requests, id, Some(name)).await?;
        let placement = self.0.namespace.read(|index| {
            let object = index.object(id)?;
            Ok::<_, Error>(object.placement().clone())
        })?;
        match placement {
            Placement::Lost(_) => Err(Error::new(Kind::Lost, "no copy of it is left")),
            placement if in_s3(&placement).is_some() => self.barrier(),
            _ => Err(Error::new(Kind::Conflict, "it was renamed meanwhile")),
        }
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

    /// Has it in S3 under that name, or under any of its names if it is in none yet.
    async fn bring(&self, requests: &Requests, id: ObjectId, as_name: Option<&Name>) -> Result<()> {
        for _ in 0..NAMES_MAX {
            let target = |index: &Index| target(requests, index, id, as_name);
            let Some(name) = self.0.namespace.read(target) else {
                self.doom_attempts(requests, id);
                return Ok(());
            };
            if !requests.is_checked(&name.bucket) {
                let what = format!("nothing comes to `{}` in S3 yet", name.bucket);
                return Err(Error::new(Kind::Invalid, what));
            }
            let changing = requests.changing(&name);
            let _alone = changing.lock().await;
            let size = self.0.namespace.read(|index| size_of(index, id));
            let on_the_way = &requests.on_the_way;
            let permits = on_the_way.acquire_many(Requests::weight(size)).await;
            let _permits =
                permits.map_err(|error| Error::caused(Kind::Internal, "wait for others", error))?;
            // Much may have happened meanwhile.
            let errand = self.errand(requests, id, as_name)?;
            if let Some(errand) = errand.filter(|errand| errand.name == name) {
                return self.deliver(requests, id, &errand).await;
            }
        }
        Err(Error::new(Kind::Conflict, "its name changes all the time"))
    }

    async fn deliver(&self, requests: &Requests, id: ObjectId, errand: &Errand) -> Result<()> {
        let first = self.first_place(requests, id, &errand.name)?;
        // What is in S3 goes with what the index says: that comes first, also why something may be replaced.
        self.durable().await?;
        let at = self.send(requests, id, errand, first).await?;
        let store = self.clone();
        let placed = rt::blocking(move || {
            let placed = store.place_persisted(id, &at);
            store.keep_disk_room_or_say();
            placed
        });
        let placed = placed.await;
        placed.map_err(|error| Error::caused(Kind::Unavailable, "say where it is", error))?
    }

    /// What was perhaps put to S3 of an object that is gone now is to go there, too.
    pub(super) fn doom_attempts(&self, requests: &Requests, id: ObjectId) {
        if self.0.namespace.read(|index| index.object(id).is_err()) {
            doom_all(requests, id, requests.attempts(id));
        }
    }

    pub(super) fn errand(
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
            let owner = &index.bucket(&name.bucket)?.owner;
            let content = self.content(entry, index.object(id)?.placement(), owner)?;
            Ok(Some(Errand {
                reader: Reader::new(entry.clone(), content),
                name,
            }))
        })
    }

    /// Puts it there, in the place of what it replaces, or beside what is not ours to replace. `first`: where it is tried first, of which all that
    /// it depends on is durable. `None`: S3 is to be asked.
    pub(super) async fn send(
        &self,
        requests: &Requests,
        id: ObjectId,
        errand: &Errand,
        first: Option<Place>,
    ) -> Result<InS3> {
        let sent = self.try_to_send(requests, id, errand, first).await;
        let at = sent.inspect_err(|_| self.doom_attempts(requests, id))?;
        let size = errand.reader.len();
        requests.count(|counts| {
            counts.persisted_objects += 1;
            counts.persisted_bytes += size;
            counts.conflicts += u64::from(at.name != errand.name);
        });
        Ok(at)
    }

    async fn try_to_send(
        &self,
        requests: &Requests,
        id: ObjectId,
        errand: &Errand,
        first: Option<Place>,
    ) -> Result<InS3> {
        let there = &requests.remote.background;
        let Errand { name, reader } = errand;
        let doomed = requests.doomed_at(name);
        let mut place = match first {
            Some(place) => place,
            None => self.find_place(requests, id, name).await?,
        };
        for is_last in [false, true] {
            let what = Persist {
                name: place.name,
                id,
                size: reader.len(),
                attributes: (requests.remote.attributes)(reader.entry()),
                when: place.when,
            };
            let pieces = reader.stream(0..reader.len()).map_err(Into::into);
            match there.persist(what, pieces.boxed()).await {
                Err(error) if !is_last && matches!(error.kind, Kind::Conflict | Kind::NotFound) => {
                    place = self.find_place(requests, id, name).await?;
                }
                Err(error) => return Err(error.into()),
                Ok(at) => {
                    if at.name == *name {
                        requests.is_gone(name, &doomed);
                    }
                    return Ok(at);
                }
            }
        }
        unreachable!("the last one returns")
    }

    /// Where an object is to be put, as far as that is known without asking S3: what was put there was told with its etag. If that is not there any
    /// more, S3 says so.
    pub(super) fn first_place(
        &self,
        requests: &Requests,
        id: ObjectId,
        name: &Name,
    ) -> Result<Option<Place>> {
        let found = match &requests.doomed_at(name)[..] {
            _ if requests.is_unsure(name) => return Ok(None),
            [] => None,
            [one] => match &one.etag {
                Some(etag) => Some((Some(one.id), etag.clone())),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let place = self.place_for(requests, id, name, found)?;
        requests.attempt(id, &place.name);
        Ok(Some(place))
    }

    async fn find_place(&self, requests: &Requests, id: ObjectId, name: &Name) -> Result<Place> {
        let found = requests.remote.background.find(name).await?;
        let found = found.map(|found| (found.id, found.etag));
        let place = self.place_for(requests, id, name, found)?;
        requests.attempt(id, &place.name);
        // As in `deliver`.
        self.durable().await?;
        Ok(place)
    }

    /// Where an object is to be put, and on which condition.
    fn place_for(
        &self,
        requests: &Requests,
        id: ObjectId,
        name: &Name,
        found: Option<(Option<ObjectId>, Etag)>,
    ) -> Result<Place> {
        let here = |when| Place {
            name: name.clone(),
            when,
        };
        let other = match found {
            None if !requests.is_unsure(name) => return Ok(here(Precondition::Absent)),
            None => None,
            Some((of, etag)) => {
                let may_go = of.is_some_and(|of| of == id || !self.is_at(of, name));
                if may_go && !requests.is_unsure(name) {
                    if requests.is_read(name) {
                        let key = &name.key;
                        let what = format!("what `{key}` was before is being read from S3");
                        return Err(Error::new(Kind::Conflict, what));
                    }
                    return Ok(here(Precondition::Etag(etag)));
                }
                of
            }
        };
        let second = requests.remote.tier2.beside(name, id)?;
        tracing::warn!(
            key = %name.key, bucket = %name.bucket, ?other, second = %second.key,
            "something else is in S3 under the key of an object, or will be deleted there, so it is put under a second one"
        );
        Ok(Place {
            name: second,
            when: Precondition::Absent,
        })
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
    pub(super) fn place_persisted(&self, id: ObjectId, at: &InS3) -> Result<()> {
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
                self.note_released(id);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if let Some(before) = before.filter(|before| **before != *at) {
            let moved = Residency::S3(before.clone());
            self.place(Op::DropCopy(id, moved, Cause::Moved))?;
            self.doom(id, &before);
        }
        if let Some(resident) = inner.residents.get(id) {
            resident.share.victims().set_clean(&id);
        }
        inner.on_disk().set_clean(&id);
        if let Some(requests) = &inner.requests {
            // Where it may be besides.
            let mut besides = requests.attempts(id);
            besides.retain(|name| *name != at.name);
            doom_all(requests, id, besides);
        }
        Ok(())
    }

    /// What came to S3 may leave the disk.
    pub(super) fn keep_disk_room_or_say(&self) {
        if let Err(error) = self.keep_disk_room() {
            tracing::warn!(%error, "make room on the disk");
        }
    }

    /// Nobody needs it in S3 any more.
    pub(super) fn doom(&self, id: ObjectId, at: &InS3) {
        if let Some(requests) = &self.0.requests {
            let etag = Some(at.etag.clone());
            requests.doom(Doomed { id, etag }, &at.name);
        }
    }

    async fn delete_doomed(&self, requests: &Requests) {
        let mut pause = PAUSE;
        loop {
            let n_failed = AtomicUsize::new(0);
            let doomed = stream::unfold(None, |after| {
                let is_down = n_failed.load(Ordering::Relaxed) >= FAILURES_MAX;
                let next = requests.doomed_after(after.as_ref()).filter(|_| !is_down);
                async move { next.map(|name| (name.clone(), Some(name))) }
            });
            let deleted = doomed.map(async |name| {
                let deleted = AssertUnwindSafe(self.delete_one(requests, &name)).catch_unwind();
                let panicked = |_| Err(Error::new(Kind::Internal, "delete it in S3"));
                let deleted = deleted.await.unwrap_or_else(panicked);
                (name, deleted)
            });
            let mut deleted = Box::pin(deleted.buffer_unordered(AT_ONCE));
            let mut is_well = true;
            while let Some((name, deleted)) = deleted.next().await {
                match deleted {
                    Ok(is_done) => is_well &= is_done,
                    Err(error) => {
                        is_well = false;
                        requests.count_failure();
                        // What S3 refuses is no reason not to ask for the others.
                        let is_down = usize::from(error.kind == Kind::Unavailable);
                        if n_failed.fetch_add(is_down, Ordering::Relaxed) == 0 {
                            let error = &error as &dyn std::error::Error;
                            tracing::warn!(key = %name.key, error, "delete objects in S3");
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
        let doomed = requests.doomed_at(name);
        if doomed.iter().all(|one| self.is_at(one.id, name)) {
            requests.is_gone(name, &doomed);
            return Ok(true);
        }
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
        let there = &requests.remote.background;
        let found = there.find(name).await?.and_then(|found| found.id);
        if found.is_some_and(|id| !self.is_at(id, name))
            && let Err(error) = there.delete(name).await
        {
            requests.set_unsure(name);
            return Err(error.into());
        }
        self.say_deleted(name, &doomed).await?;
        requests.is_gone(name, &doomed);
        requests.count(|counts| counts.deleted_objects += 1);
        Ok(true)
    }

    /// They are not there, and whoever starts again need not look.
    async fn say_deleted(&self, name: &Name, gone: &[Doomed]) -> Result<()> {
        let (store, name) = (self.clone(), name.clone());
        let ids: Vec<_> = gone.iter().map(|one| one.id).collect();
        let said = rt::blocking(move || {
            ids.into_iter()
                .try_for_each(|id| store.place(Op::DeletedInS3(name.clone(), id)))
        });
        let said = said.await;
        said.map_err(|error| Error::caused(Kind::Unavailable, "say what is deleted", error))?
    }

    async fn fetch_wanted(&self, requests: &Requests) {
        loop {
            let wanted = stream::iter(std::iter::from_fn(|| requests.next_wanted()));
            let fetched =
                wanted.map(
                    async |(id, share)| match self.fetch(requests, id, &share).await {
                        Ok(()) => {}
                        Err(error) if matches!(error.kind, Kind::Exhausted | Kind::NotFound) => {}
                        Err(error) => {
                            requests.count_failure();
                            let error = &error as &dyn std::error::Error;
                            tracing::warn!(?id, error, "fetch an object from S3");
                        }
                    },
                );
            let fetched = fetched.buffer_unordered(FETCHED_AT_ONCE);
            fetched.for_each(async |()| ()).await;
            requests.wanted_told.notified().await;
        }
    }

    /// Brings to memory what is in S3, as far as there is room or something to forget for it.
    async fn fetch(&self, requests: &Requests, id: ObjectId, share: &Arc<Share>) -> Result<()> {
        let found = self.0.namespace.read(|index| {
            let at = in_s3(index.object(id)?.placement());
            Ok::<_, Error>(at.map(|at| (requests.pin(at), size_of(index, id))))
        })?;
        let Some((at, size)) = found.filter(|_| self.0.residents.get(id).is_none()) else {
            return Ok(());
        };
        let mut written = self.room_for(share, size)?;
        let mut pieces = at.stream(0..size).await?;
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

    /// Nobody names it any more, and perhaps nobody tries again to put it there.
    pub(super) fn note_released(&self, id: ObjectId) {
        if let Some(requests) = &self.0.requests {
            requests.forget(id);
            self.doom_attempts(requests, id);
        }
    }

    /// Somebody has asked at `since`, and can be answered without S3. What comes there is to be brought there so that this does not take longer.
    pub fn note_answer(&self, since: Instant) {
        if let Some(requests) = &self.0.requests {
            requests.answered(since.elapsed());
        }
    }

    /// What becomes of an object's copy in S3, or in memory and on the disk, is of interest.
    pub(super) fn note_named(&self, name: &Name, sealed: &Sealed) {
        if let Some(requests) = &self.0.requests
            && requests.remote.writes_back
            && requests.remote.has(&name.bucket)
        {
            requests.bring(sealed.id, sealed.size);
        }
    }

    /// Begins to bring to S3 what was not there when the store was opened, and to delete what was to be.
    pub(super) fn find_dirty(&self) {
        let Some(requests) = &self.0.requests else {
            return;
        };
        self.0.namespace.read(|index| {
            for (name, id) in index.doomed() {
                requests.doom(
                    Doomed {
                        id: *id,
                        etag: None,
                    },
                    name,
                );
            }
        });
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
                    requests.bring(id, size_of(index, id));
                }
            }
        });
    }

    /// Has it brought to S3 because the disk is short of room.
    pub(super) fn bring_soon(&self, id: ObjectId) {
        let Some(requests) = &self.0.requests else {
            return;
        };
        let size = self.0.namespace.read(|index| {
            let is_to_come = target(requests, index, id, None).is_some();
            is_to_come.then(|| size_of(index, id))
        });
        if let Some(size) = size {
            requests.bring(id, size);
        }
    }
}

/// The name under which an object is to come to S3. `None`: it is there, gone, lost, spent, or does not belong there.
pub(super) fn target(
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

/// It may be there, and is to go.
fn doom_all(requests: &Requests, id: ObjectId, at: Vec<Name>) {
    for name in at {
        requests.doom(Doomed { id, etag: None }, &name);
    }
}

#[cfg(test)]
mod tests;
