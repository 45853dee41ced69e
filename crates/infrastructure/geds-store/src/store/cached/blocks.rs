//! The blocks of what is read: from memory, from one that is on its way, or past memory.
//!
//! ```text
//!  board ──▶ room in memory ──▶ GET, If-Match ──▶ pieces: to memory, and to all who wait ──▶ a clean object ──▶ landed
//!               └──▶ none: who waits reads past memory        └──▶ changed, or failed: who waits is told
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::watch;

use super::{BLOCKS, Cache, block_id, count, lock};
use crate::core::flights::{Boarding, For};
use crate::core::index::{InS3, ObjectId};
use crate::core::to_usize;
use crate::core::victims::Backing;
use crate::error::{Error, Kind, Result};
use crate::store::tenants::Share;
use crate::store::{Inner, Store};

/// So many blocks are fetched ahead of who reads one after the other.
const AHEAD: u64 = 2;

/// What is called by a number of one version: a block, or the version itself.
pub(super) fn id_of(at: &InS3, no: u64) -> ObjectId {
    block_id(&version(at).update(&no.to_le_bytes()).finalize())
}

pub(super) fn is_block(id: ObjectId) -> bool {
    id.node == BLOCKS
}

fn version(at: &InS3) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    let etag = at.etag.to_string();
    for text in [at.name.bucket.as_str(), at.name.key.as_str(), &etag] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher
}

/// A version that is open.
pub(in crate::store) struct Open {
    store: Store,
    share: Arc<Share>,
    at: Arc<InS3>,
    version: blake3::Hasher,
    size: u64,
    /// Where somebody ended to read: who begins there reads one after the other.
    last: AtomicU64,
    /// A miss was counted when it was opened, and is not to be counted again.
    is_counted: AtomicBool,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Open").field(&self.at).finish()
    }
}

/// A block on its way. The task ends when nobody has this any more.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    arrived: watch::Receiver<Arrived>,
    _task: Arc<rt::Task>,
}

/// What of a block has come, with where each piece begins.
#[derive(Debug, Default)]
struct Arrived {
    pieces: Vec<(u64, Bytes)>,
    bytes: u64,
    end: Option<End>,
}

#[derive(Clone, Debug)]
enum End {
    Here,
    NoRoom,
    Failed(Kind, Arc<str>),
}

/// How a block comes here.
struct Fetch {
    store: Weak<Inner>,
    share: Arc<Share>,
    at: Arc<InS3>,
    range: Range<u64>,
    id: ObjectId,
}

/// Whatever becomes of a flight, it is over when this is dropped.
struct Landing(Weak<Inner>, ObjectId);

impl Drop for Landing {
    fn drop(&mut self) {
        let store = self.0.upgrade();
        let cache = store.as_ref().and_then(|inner| inner.cache.as_ref());
        let landed = cache.and_then(|cache| lock(&cache.flights).land(&self.1));
        // Not while the lock is held.
        drop(landed);
    }
}

impl Arrived {
    fn push(&mut self, piece: Bytes) {
        let start = self.bytes;
        self.bytes += piece.len() as u64;
        self.pieces.push((start, piece));
    }

    /// What has come from `position` on, in one piece.
    fn from(&self, position: u64) -> Option<Bytes> {
        let n_before = self.pieces.partition_point(|(start, _)| *start <= position);
        let (start, piece) = self.pieces.get(n_before.checked_sub(1)?)?;
        let skipped = to_usize(position - start);
        (skipped < piece.len()).then(|| piece.slice(skipped..))
    }
}

impl Flight {
    /// Waits for what comes from a position of the block on. `None`: there is no room for it.
    async fn piece(&mut self, within: u64) -> Result<Option<Bytes>> {
        loop {
            {
                let arrived = self.arrived.borrow_and_update();
                if let Some(piece) = arrived.from(within) {
                    return Ok(Some(piece));
                }
                match &arrived.end {
                    None => {}
                    Some(End::NoRoom) => return Ok(None),
                    Some(End::Failed(kind, what)) => return Err(Error::new(*kind, &**what)),
                    Some(End::Here) => {
                        return Err(Error::new(Kind::Internal, "a block has come in part"));
                    }
                }
            }
            let gone = |error| Error::caused(Kind::Unavailable, "wait for a block of S3", error);
            self.arrived.changed().await.map_err(gone)?;
        }
    }
}

impl Open {
    pub(super) fn new(store: &Store, share: Arc<Share>, at: InS3, size: u64) -> Self {
        Self {
            store: store.clone(),
            share,
            version: version(&at),
            at: Arc::new(at),
            size,
            last: AtomicU64::new(0),
            is_counted: AtomicBool::new(false),
        }
    }

    /// Waits for the beginning of an object of one block: whoever has that can have all of it, even if it is overwritten.
    pub(super) async fn begin(&self) -> Result<()> {
        let is_one = (1..=self.block_bytes()).contains(&self.size);
        if !is_one || self.store.0.residents.get(self.id(0)).is_some() {
            return Ok(());
        }
        self.is_counted.store(true, Ordering::Relaxed);
        count(&self.cache().counts.misses, 1);
        match self.board(0, For::Now)? {
            Some(mut flight) => flight.piece(0).await.map(drop),
            None => Ok(()),
        }
    }

    pub(in crate::store) fn runtime(&self) -> tokio::runtime::Handle {
        self.cache().config.runtime.clone()
    }

    /// The pieces of a part of it, which is within its size, as they come.
    pub(in crate::store) fn stream(
        self: &Arc<Self>,
        range: Range<u64>,
    ) -> BoxStream<'static, Result<Bytes>> {
        let last = self.last.swap(range.end, Ordering::Relaxed);
        let goes_on = last > 0 && last == range.start;
        let reading = Reading {
            ahead_until: if goes_on { self.size } else { range.end },
            open: Arc::clone(self),
            range,
            block: None,
            source: Source::Unknown,
        };
        let pieces = stream::try_unfold(reading, |mut reading| async move {
            if reading.range.is_empty() {
                return Ok(None);
            }
            let piece = reading.next().await?;
            reading.range.start += piece.len() as u64;
            Ok(Some((piece, reading)))
        });
        pieces.boxed()
    }

    fn cache(&self) -> &Cache {
        let cache = self.store.0.cache.as_ref();
        cache.expect("it was opened by one")
    }

    fn block_bytes(&self) -> u64 {
        self.cache().config.block_bytes
    }

    fn id(&self, block: u64) -> ObjectId {
        let mut version = self.version.clone();
        block_id(&version.update(&block.to_le_bytes()).finalize())
    }

    /// `None`: there are too many, and it is only fetched ahead.
    fn board(&self, block: u64, by: For) -> Result<Option<Flight>> {
        let (cache, id) = (self.cache(), self.id(block));
        let mut flights = lock(&cache.flights);
        let begin = || {
            let start = block * self.block_bytes();
            let fetch = Fetch {
                store: Arc::downgrade(&self.store.0),
                share: Arc::clone(&self.share),
                at: Arc::clone(&self.at),
                range: start..self.size.min(start.saturating_add(self.block_bytes())),
                id,
            };
            let (told, arrived) = watch::channel(Arrived::default());
            let _inside = cache.config.runtime.enter();
            Flight {
                arrived,
                _task: Arc::new(rt::spawn("geds block", fetch.fly(told))),
            }
        };
        match flights.board(id, by, begin) {
            Boarding::Begun(flight) | Boarding::Joined(flight) => Ok(Some(flight)),
            Boarding::Full if by == For::Ahead => Ok(None),
            Boarding::Full => {
                let what = "too many blocks of S3 are waited for";
                Err(Error::new(Kind::Exhausted, what))
            }
        }
    }

    /// Has the next blocks come, if there is room for requests.
    fn look_ahead(&self, block: u64, until: u64) {
        for next in block + 1..=block + AHEAD {
            let is_wanted = next.saturating_mul(self.block_bytes()) < until;
            if is_wanted && self.store.0.residents.get(self.id(next)).is_none() {
                // If it cannot be asked for, nobody has waited for it.
                drop(self.board(next, For::Ahead));
            }
        }
    }

    /// Reads past memory.
    async fn pass(&self, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let cache = self.cache();
        count(&cache.counts.passed_blocks, 1);
        let read = cache.config.tier2.read(&self.at, range).await;
        match read {
            Ok(pieces) => Ok(pieces.map_err(Error::from).boxed()),
            Err(error) => Err(cache.note_failed(&self.at, error.into())),
        }
    }
}

impl Cache {
    /// What a request for bytes of a version has failed with, as its readers are told.
    fn note_failed(&self, at: &InS3, error: Error) -> Error {
        if !matches!(error.kind, Kind::Conflict | Kind::NotFound) {
            count(&self.counts.failures, 1);
            return error;
        }
        count(&self.counts.changes, 1);
        self.forget(&at.name);
        let InS3 { name, .. } = at;
        let what = format!(
            "`{}` in `{}` was changed in S3 before all of it was read",
            name.key, name.bucket
        );
        Error::caused(Kind::Conflict, what, error)
    }
}

/// Somebody who reads a part of a version.
struct Reading {
    open: Arc<Open>,
    range: Range<u64>,
    /// Blocks before this position are wanted, or may be.
    ahead_until: u64,
    /// The one that was read from last.
    block: Option<u64>,
    source: Source,
}

enum Source {
    Unknown,
    Flight(Flight),
    Passing(BoxStream<'static, Result<Bytes>>),
}

impl Reading {
    async fn next(&mut self) -> Result<Bytes> {
        let block_bytes = self.open.block_bytes();
        let block = self.range.start / block_bytes;
        let within = self.range.start % block_bytes;
        let missing = to_usize((block_bytes - within).min(self.range.end - self.range.start));
        if let Source::Passing(pieces) = &mut self.source {
            return passed(pieces).await;
        }
        let is_first = self.block.replace(block) != Some(block);
        if is_first {
            self.source = Source::Unknown;
        }
        let piece = match self.resident(block, within, is_first)? {
            Some(piece) => piece,
            None => match self.arriving(block, within, is_first).await? {
                Some(piece) => piece,
                None => {
                    // The rest of it, too: there is no more room for the next block.
                    let mut pieces = self.open.pass(self.range.clone()).await?;
                    let piece = passed(&mut pieces).await?;
                    self.source = Source::Passing(pieces);
                    return Ok(piece);
                }
            },
        };
        Ok(piece.slice(..piece.len().min(missing)))
    }

    /// Of a block that is in memory, where it lies.
    fn resident(&mut self, block: u64, within: u64, is_first: bool) -> Result<Option<Bytes>> {
        let Some(resident) = self.open.store.0.residents.get(self.open.id(block)) else {
            return Ok(None);
        };
        // What it has come from is not held any longer.
        self.source = Source::Unknown;
        if is_first {
            resident.heat.touch();
            self.count(&self.open.cache().counts.hits);
            self.open.look_ahead(block, self.ahead_until);
        }
        let short = || Error::new(Kind::Internal, "a block is shorter than it was");
        let view = resident.opened.view_from(within).ok_or_else(short)?;
        Ok(Some(view.into()))
    }

    /// Of one that comes. `None`: there is no room for it.
    async fn arriving(&mut self, block: u64, within: u64, is_first: bool) -> Result<Option<Bytes>> {
        if is_first {
            self.count(&self.open.cache().counts.misses);
        }
        if !matches!(self.source, Source::Flight(_)) {
            let flight = self.open.board(block, For::Now)?;
            self.source = flight.map_or(Source::Unknown, Source::Flight);
            if is_first {
                self.open.look_ahead(block, self.ahead_until);
            }
        }
        match &mut self.source {
            Source::Flight(flight) => flight.piece(within).await,
            _ => Ok(None),
        }
    }

    fn count(&self, counter: &AtomicU64) {
        if !self.open.is_counted.swap(false, Ordering::Relaxed) {
            count(counter, 1);
        }
    }
}

async fn passed(pieces: &mut BoxStream<'static, Result<Bytes>>) -> Result<Bytes> {
    let ended = || Error::new(Kind::Unavailable, "S3 has ended too early");
    pieces.try_next().await?.ok_or_else(ended)
}

impl Fetch {
    async fn fly(self, told: watch::Sender<Arrived>) {
        let landing = Landing(self.store.clone(), self.id);
        let end = match self.carry_out(&told).await {
            Ok(true) => End::Here,
            Ok(false) => End::NoRoom,
            Err(error) => End::Failed(error.kind, crate::wire::told(&error).into()),
        };
        drop(landing);
        told.send_modify(|arrived| arrived.end = Some(end));
    }

    /// `false`: there is no room for it.
    async fn carry_out(&self, told: &watch::Sender<Arrived>) -> Result<bool> {
        let store = || {
            let ended = || Error::new(Kind::Unavailable, "the store has ended");
            self.store.upgrade().map(Store).ok_or_else(ended)
        };
        let (tier2, fetching) = {
            let store = store()?;
            let cache = store.0.cache.as_ref().expect("it was begun by one");
            (cache.config.tier2.clone(), Arc::clone(&cache.fetching))
        };
        let turn = fetching.acquire().await;
        let _turn =
            turn.map_err(|error| Error::caused(Kind::Internal, "wait for others", error))?;
        let bytes = self.range.end - self.range.start;
        let room = {
            let (store, share) = (store()?, Arc::clone(&self.share));
            rt::blocking(move || store.room_for(&share, bytes)).await
        };
        let room = room.map_err(|error| Error::io("find a thread that may wait", error))?;
        let mut written = match room {
            Err(error) if error.kind == Kind::Exhausted => return Ok(false),
            room => room?,
        };
        let fetched = async {
            let mut pieces = tier2.read(&self.at, self.range.clone()).await?;
            while let Some(piece) = pieces.try_next().await? {
                if !piece.is_empty() {
                    written.append(&piece)?;
                    told.send_modify(|arrived| arrived.push(piece));
                }
            }
            Ok(())
        };
        let fetched = fetched.await;
        let store = store()?;
        let cache = store.0.cache.as_ref().expect("it was begun by one");
        fetched.map_err(|error| cache.note_failed(&self.at, error))?;
        let object = match self.share.domain.seal(written) {
            // It has come, and who waited for it has it.
            Err(error) if error.kind == Kind::Exhausted => return Ok(true),
            object => object?,
        };
        let residents = &store.0.residents;
        residents.insert(self.id, object, &self.share, Backing::Clean)?;
        count(&cache.counts.fetched_blocks, 1);
        count(&cache.counts.fetched_bytes, bytes);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_found_by_where_they_begin() {
        let mut arrived = Arrived::default();
        assert_eq!(arrived.from(0), None);
        for piece in ["abc", "d", "ef"] {
            arrived.push(Bytes::from(piece));
        }
        for (position, rest) in [(0, "abc"), (2, "c"), (3, "d"), (4, "ef"), (5, "f")] {
            assert_eq!(arrived.from(position).as_deref(), Some(rest.as_bytes()));
        }
        assert_eq!(arrived.from(6), None);
    }

    #[test]
    fn blocks_are_called_by_all_that_they_are_of() {
        let at = |key: &str, etag: &str| InS3 {
            name: crate::core::index::Name {
                bucket: crate::core::index::BucketName::new("data").expect("a bucket"),
                key: crate::core::index::Key::new(key).expect("a key"),
            },
            etag: crate::core::index::Etag::new(etag).expect("an etag"),
        };
        let ids = [
            ("a", "bc", 0),
            ("ab", "c", 0),
            ("a", "bd", 0),
            ("a", "bc", 1),
        ];
        let ids = ids.map(|(key, etag, no)| id_of(&at(key, etag), no));
        assert!(ids.iter().all(|id| is_block(*id)));
        let different: std::collections::BTreeSet<_> = ids.into();
        assert_eq!(different.len(), 4);
    }
}
