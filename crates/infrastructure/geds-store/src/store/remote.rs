//! What of a store's objects is in S3, or is to come there or go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use ids::Name as Tenant;
use object_store::Attributes;
use tokio::sync::{Notify, Semaphore};

use super::tenants::Share;
use crate::core::index::{
    BucketName, Entry, Etag, InS3, Name, NodeId, ObjectId, Placement, Residency,
};
use crate::error::{Error, Kind, Result};
use crate::tier2::pace::{self, Answers};
use crate::tier2::{Background, Tier2};

/// So many objects wait at most to be deleted in S3. More are left there.
const DOOMED_MAX: usize = 1 << 17;
const DOOMED_AT_ONE_MAX: usize = 4;
/// So many wait at most to be brought back to memory. More are not.
const WANTED_MAX: usize = 256;
/// So many bytes at most are on their way at once, where a large object counts as the half: not all of it is on its way at once either.
const ON_THE_WAY_MIB: u32 = 128;
/// A request that nobody heard of any more may be carried out so much later.
const UNSURE: Duration = Duration::from_secs(15 * 60);

/// S3 as a store uses it.
#[derive(Clone, Debug)]
pub struct Remote {
    /// For who reads.
    pub tier2: Tier2,
    pub background: Background,
    /// What other tools are to know of an object.
    pub attributes: fn(&Entry) -> Attributes,
    /// Buckets that are in S3 too, under the same name, and whose they have to be here.
    pub buckets: BTreeMap<BucketName, Tenant>,
    /// Everything in them is brought to S3 as soon as there is time. Else only when the disk is short of room, or somebody asks.
    pub writes_back: bool,
    /// Where requests are made. Not a runtime of one thread.
    pub runtime: tokio::runtime::Handle,
}

/// Counted since the store was opened, but for what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InRemote {
    pub persisted_objects: u64,
    pub persisted_bytes: u64,
    /// From S3 to memory.
    pub fetched_objects: u64,
    pub fetched_bytes: u64,
    pub deleted_objects: u64,
    /// Were persisted under a second key, because something else is under their own.
    pub conflicts: u64,
    /// Requests that failed, after all attempts.
    pub failures: u64,
    /// That are to be brought to S3.
    pub waiting_objects: u64,
    /// That are to be deleted there.
    pub doomed_objects: u64,
}

/// Requests that are to be made, and what they need to know of each other.
#[derive(Debug)]
pub(super) struct Requests {
    pub remote: Remote,
    pub on_the_way: Arc<Semaphore>,
    counts: Mutex<InRemote>,
    dirty: Mutex<Dirty>,
    pub dirty_told: Notify,
    /// May be in S3 at these places, whatever the index says.
    attempted: Mutex<BTreeMap<ObjectId, Vec<Name>>>,
    /// In S3, perhaps, and nobody names them any more.
    doomed: Mutex<BTreeMap<Name, Vec<Doomed>>>,
    pub doomed_told: Notify,
    /// When it was not known whether something was deleted, and so might yet be.
    unsure: Mutex<BTreeMap<Name, Instant>>,
    /// To be brought to memory.
    wanted: Mutex<VecDeque<(ObjectId, Arc<Share>)>>,
    pub wanted_told: Notify,
    /// Those of which S3 knows conditions.
    checked: Mutex<BTreeSet<BucketName>>,
    /// Held while something changes in S3.
    changing: Mutex<BTreeMap<Name, Weak<tokio::sync::Mutex<()>>>>,
    reading: Mutex<BTreeMap<Name, Weak<Pinned>>>,
    /// How long others were answered after, since somebody has looked.
    answers: Box<[AtomicU32]>,
    n_failed: AtomicU64,
}

/// To be brought to S3.
#[derive(Debug, Default)]
struct Dirty {
    /// When it was said last of each, counted, and how long it is.
    marks: BTreeMap<ObjectId, (u64, u64)>,
    /// Of all of them.
    bytes: u64,
    last_mark: u64,
    /// Those before it were looked at.
    next: Option<ObjectId>,
    /// Whoever brings them has nothing to do.
    is_waited_for: bool,
}

/// One that is to be brought to S3, and when that was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub id: ObjectId,
    pub mark: u64,
}

/// An object that may be in S3, and is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doomed {
    pub id: ObjectId,
    /// `None`: nobody knows whether it is there.
    pub etag: Option<Etag>,
}

/// An object in S3 that somebody reads: as long as it is pinned, this store puts nothing else in its place.
pub(super) struct Pinned {
    pub at: Arc<InS3>,
    remote: Remote,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pinned").field(&self.at).finish()
    }
}

impl Remote {
    pub(super) fn has(&self, bucket: &BucketName) -> bool {
        self.buckets.contains_key(bucket)
    }
}

impl Dirty {
    fn forget(&mut self, id: ObjectId) {
        if let Some((_, bytes)) = self.marks.remove(&id) {
            self.bytes -= bytes;
        }
    }

    fn look_again(&mut self, id: ObjectId) {
        self.next = self.next.map(|next| next.min(id));
    }
}

impl Requests {
    pub(super) fn new(remote: Remote) -> Self {
        Self {
            remote,
            on_the_way: Arc::new(Semaphore::new(ON_THE_WAY_MIB as usize)),
            counts: Mutex::default(),
            dirty: Mutex::default(),
            dirty_told: Notify::new(),
            attempted: Mutex::default(),
            doomed: Mutex::default(),
            doomed_told: Notify::new(),
            unsure: Mutex::default(),
            wanted: Mutex::default(),
            wanted_told: Notify::new(),
            checked: Mutex::default(),
            changing: Mutex::default(),
            reading: Mutex::default(),
            answers: (0..pace::N_BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            n_failed: AtomicU64::new(0),
        }
    }

    pub(super) fn stats(&self) -> InRemote {
        InRemote {
            waiting_objects: lock(&self.dirty).marks.len() as u64,
            doomed_objects: lock(&self.doomed).len() as u64,
            failures: self.n_failed.load(Ordering::Relaxed),
            ..*lock(&self.counts)
        }
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut InRemote)) {
        count(&mut lock(&self.counts));
    }

    pub(super) fn count_failure(&self) {
        self.n_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody was answered.
    pub(super) fn answered(&self, after: Duration) {
        // It orders nothing else.
        self.answers[pace::bucket(after)].fetch_add(1, Ordering::Relaxed);
    }

    /// Those that were answered since this was called last.
    pub(super) fn take_answers(&self) -> Answers {
        let mut answers = Answers::default();
        for (n, counted) in answers.0.iter_mut().zip(&self.answers) {
            *n = counted.swap(0, Ordering::Relaxed);
        }
        answers
    }

    /// How many permits of `on_the_way` an object takes.
    pub(super) fn weight(bytes: u64) -> u32 {
        let mib = bytes.div_ceil(1 << 20).max(1);
        u32::try_from(mib).map_or(ON_THE_WAY_MIB / 2, |mib| mib.min(ON_THE_WAY_MIB / 2))
    }

    /// Who brings them hears of it at once only if there was nothing to do: so what is written all the time wakes nobody.
    pub(super) fn bring(&self, id: ObjectId, bytes: u64) {
        let mut dirty = lock(&self.dirty);
        dirty.last_mark += 1;
        let mark = dirty.last_mark;
        if dirty.marks.insert(id, (mark, bytes)).is_none() {
            dirty.bytes += bytes;
        }
        dirty.look_again(id);
        let is_waited_for = std::mem::take(&mut dirty.is_waited_for);
        drop(dirty);
        if is_waited_for {
            self.dirty_told.notify_one();
        }
    }

    /// It is there, or need not be, unless somebody has said since that it is to be.
    pub(super) fn set_brought(&self, wanted: Wanted) {
        let mut dirty = lock(&self.dirty);
        match dirty.marks.get(&wanted.id) {
            Some((mark, _)) if *mark == wanted.mark => dirty.forget(wanted.id),
            // It was passed over while it was on its way.
            Some(_) => dirty.look_again(wanted.id),
            None => {}
        }
    }

    /// Nobody names it any more.
    pub(super) fn forget(&self, id: ObjectId) {
        lock(&self.dirty).forget(id);
    }

    /// The next ones that are to be brought to S3, the oldest first.
    pub(super) fn next_dirty(
        &self,
        n_max: usize,
        is_fit: impl Fn(ObjectId) -> bool,
    ) -> Vec<Wanted> {
        if n_max == 0 {
            return Vec::new();
        }
        let mut dirty = lock(&self.dirty);
        let from = dirty.next.map_or(Unbounded, Included);
        let fit = dirty.marks.range((from, Unbounded));
        let fit = fit.filter(|(id, _)| is_fit(**id));
        let mut fit = fit.map(|(&id, &(mark, _))| Wanted { id, mark });
        let wanted: Vec<_> = fit.by_ref().take(n_max).collect();
        let next = fit.next().map(|wanted| wanted.id);
        // All there are were looked at: those that come are behind the last one, or said again.
        let end = dirty.marks.last_key_value().map(|(last, _)| *last);
        dirty.is_waited_for = wanted.is_empty();
        dirty.next = next.or(end);
        wanted
    }

    /// How much is to be brought there, and whether all of that is a node's own.
    pub(super) fn waiting(&self, own: NodeId) -> (u64, bool) {
        let dirty = lock(&self.dirty);
        let ends = [dirty.marks.first_key_value(), dirty.marks.last_key_value()];
        let is_all_own = ends.into_iter().flatten().all(|(id, _)| id.node == own);
        (dirty.bytes, is_all_own)
    }

    /// Has one looked at again that was passed over.
    pub(super) fn look_again(&self, id: ObjectId) {
        lock(&self.dirty).look_again(id);
    }

    /// The same for all of them.
    pub(super) fn look_at_all_again(&self) {
        lock(&self.dirty).next = None;
    }

    /// It is about to be put there.
    pub(super) fn attempt(&self, id: ObjectId, at: &Name) {
        let mut attempted = lock(&self.attempted);
        let names = attempted.entry(id).or_default();
        if !names.contains(at) {
            names.push(at.clone());
        }
    }

    /// Where it may be in S3. It is not asked for again.
    pub(super) fn attempts(&self, id: ObjectId) -> Vec<Name> {
        lock(&self.attempted).remove(&id).unwrap_or_default()
    }

    /// Nobody names it any more.
    pub(super) fn doom(&self, one: Doomed, at: &Name) {
        let mut doomed = lock(&self.doomed);
        if doomed.len() >= DOOMED_MAX && !doomed.contains_key(at) {
            tracing::warn!(key = %at.key, bucket = %at.bucket, "too much is to be deleted in S3: this stays there");
            return;
        }
        // All of them together stand for whatever of this store is there.
        let there = doomed.entry(at.clone()).or_default();
        match there.iter_mut().find(|other| other.id == one.id) {
            Some(same) => same.etag = one.etag.or(same.etag.take()),
            None => {
                there.truncate(DOOMED_AT_ONE_MAX - 1);
                there.push(one);
            }
        }
        drop(doomed);
        self.doomed_told.notify_one();
    }

    /// Those of which one may be there, and is to go.
    pub(super) fn doomed_at(&self, name: &Name) -> Vec<Doomed> {
        lock(&self.doomed).get(name).cloned().unwrap_or_default()
    }

    pub(super) fn doomed_after(&self, after: Option<&Name>) -> Option<Name> {
        let doomed = lock(&self.doomed);
        let after = after.map_or(Unbounded, Excluded);
        let mut next = doomed.range::<Name, _>((after, Unbounded));
        next.next().map(|(name, _)| name.clone())
    }

    /// These are not there any more. To be called by who changes what is there.
    pub(super) fn is_gone(&self, name: &Name, gone: &[Doomed]) {
        let mut doomed = lock(&self.doomed);
        let Some(left) = doomed.get_mut(name) else {
            return;
        };
        left.retain(|one| gone.iter().all(|gone| gone.id != one.id));
        if left.is_empty() {
            doomed.remove(name);
        } else {
            drop(doomed);
            self.doomed_told.notify_one();
        }
    }

    /// It was to be deleted, and that may happen yet.
    pub(super) fn set_unsure(&self, name: &Name) {
        let mut unsure = lock(&self.unsure);
        let now = rt::now();
        unsure.retain(|_, since| now.saturating_duration_since(*since) < UNSURE);
        unsure.insert(name.clone(), now);
    }

    pub(super) fn is_unsure(&self, name: &Name) -> bool {
        let unsure = lock(&self.unsure);
        unsure
            .get(name)
            .is_some_and(|since| since.elapsed() < UNSURE)
    }

    pub(super) fn is_checked(&self, bucket: &BucketName) -> bool {
        lock(&self.checked).contains(bucket)
    }

    pub(super) fn set_checked(&self, bucket: &BucketName) {
        lock(&self.checked).insert(bucket.clone());
    }

    /// Somebody reads it from S3.
    pub(super) fn want(&self, id: ObjectId, share: &Arc<Share>) {
        let mut wanted = lock(&self.wanted);
        if wanted.len() < WANTED_MAX && wanted.iter().all(|(other, _)| *other != id) {
            wanted.push_back((id, Arc::clone(share)));
            self.wanted_told.notify_one();
        }
    }

    pub(super) fn next_wanted(&self) -> Option<(ObjectId, Arc<Share>)> {
        lock(&self.wanted).pop_front()
    }

    /// Whoever holds it changes what is there, and nobody else of this store.
    pub(super) fn changing(&self, name: &Name) -> Arc<tokio::sync::Mutex<()>> {
        one_of(&self.changing, name, Arc::default)
    }

    pub(super) fn pin(&self, at: &Arc<InS3>) -> Arc<Pinned> {
        let pin = || {
            Arc::new(Pinned {
                at: Arc::clone(at),
                remote: self.remote.clone(),
            })
        };
        let pinned = one_of(&self.reading, &at.name, pin);
        match pinned.at == *at {
            true => pinned,
            // It was put there again, and is the same.
            false => pin(),
        }
    }

    pub(super) fn is_read(&self, name: &Name) -> bool {
        let reading = lock(&self.reading);
        reading
            .get(name)
            .is_some_and(|pinned| pinned.strong_count() > 0)
    }
}

impl Pinned {
    /// The pieces of a part of it, as they come. Waits for S3.
    pub(super) fn stream(
        &self,
        range: Range<u64>,
    ) -> impl Future<Output = Result<BoxStream<'static, Result<Bytes>>>> {
        let (tier2, at) = (self.remote.tier2.clone(), Arc::clone(&self.at));
        async move {
            let read = tier2.read(&at, range).await;
            let read = read.map_err(|error| match error.kind {
                Kind::Conflict | Kind::NotFound => {
                    let what = format!(
                        "read `{}` in `{}` of S3, which somebody else has changed",
                        at.name.key, at.name.bucket
                    );
                    Error::caused(Kind::Lost, what, error)
                }
                _ => error.into(),
            });
            Ok(read?.map_err(Error::from).boxed())
        }
    }

    /// The same for who may wait.
    pub(super) fn pieces(&self, range: Range<u64>) -> Result<Arriving> {
        let runtime = self.remote.runtime.clone();
        let pieces = runtime.block_on(self.stream(range))?;
        Ok(Arriving::new(pieces, runtime))
    }
}

/// Pieces from S3, for who may wait for them.
pub(super) struct Arriving {
    pieces: BoxStream<'static, Result<Bytes>>,
    runtime: tokio::runtime::Handle,
}

impl Arriving {
    pub(super) fn new(
        pieces: BoxStream<'static, Result<Bytes>>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self { pieces, runtime }
    }

    /// Copies them, as many bytes as there is room for.
    pub(super) fn fill(self, into: &mut [u8]) -> Result<()> {
        let mut at = 0;
        for piece in self {
            let piece = piece?;
            into[at..at + piece.len()].copy_from_slice(&piece);
            at += piece.len();
        }
        Ok(())
    }
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Arriving")
    }
}

impl Iterator for Arriving {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Result<Bytes>> {
        self.runtime.block_on(self.pieces.next())
    }
}

/// Where it is in S3, if it is.
pub(super) fn in_s3(placement: &Placement) -> Option<&Arc<InS3>> {
    placement.copies().iter().find_map(|copy| match copy {
        Residency::S3(at) => Some(at),
        _ => None,
    })
}

/// The one that is in use for a name, or a new one.
fn one_of<T>(
    all: &Mutex<BTreeMap<Name, Weak<T>>>,
    name: &Name,
    make: impl FnOnce() -> Arc<T>,
) -> Arc<T> {
    let mut all = lock(all);
    if let Some(one) = all.get(name).and_then(Weak::upgrade) {
        return one;
    }
    // Now and then those that nobody uses are forgotten.
    if all.len().is_power_of_two() {
        all.retain(|_, one| one.strong_count() > 0);
    }
    let one = make();
    all.insert(name.clone(), Arc::downgrade(&one));
    one
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
