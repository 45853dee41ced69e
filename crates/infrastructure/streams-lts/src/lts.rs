//! The chunks of a container in a store, for the container's owner.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::PutPayload;
use store::{Class, Opened};
use streams_core::SegmentName;

use crate::chunk::{BLOCK_BYTES, CHUNK_BYTES_LIMIT, Chunk};
use crate::disk;
use crate::events::Cursor;
use crate::fence::{Fence, Owner, Taken};
use crate::footer::Footer;
use crate::names::{ChunkName, ContainerId, Layout};
use crate::objects::{Created, Objects};
use crate::put::{Put, checksums};
use crate::{Config, Error, Result};

/// So many chunks may be put and not settled.
const UNDER_WAY_MAX: usize = 4096;

/// Long-term storage of one container, for one owner. To be shared.
#[derive(Debug)]
pub struct Lts {
    pub(crate) config: Config,
    pub(crate) layout: Layout,
    pub(crate) objects: Objects,
    pub(crate) owner: Owner,
    fence: Fence,
    /// What is not in the table of chunks, and may come into it.
    under_way: Mutex<BTreeSet<ChunkName>>,
}

impl Lts {
    /// Makes the owner known to the store: after the container's log was opened, which fences the former owner's, and before anything is put.
    /// `known`: the number of a manifest that was kept of an earlier owner, or 0. After `Unavailable` it may be tried again, with the same owner.
    ///
    /// # Errors
    /// `Fenced`: another one has a higher epoch. `Corrupt`: the known manifest is gone, so this is another store, or others are gone too.
    pub async fn open(
        config: Config,
        opened: Opened,
        container: ContainerId,
        owner: Owner,
        known: u64,
    ) -> Result<Self> {
        if config.chunk_bytes_max > CHUNK_BYTES_LIMIT {
            return Err(Error::Invalid("chunks cannot be so large"));
        }
        if opened.class == Class::Ephemeral && !config.accepts_ephemeral {
            return Err(Error::Invalid("the store may lose what it acknowledges"));
        }
        let layout = Layout::new(&config.prefix, container)?;
        let objects = Objects::new(opened, config.deadline);
        let fence = Fence::take(&objects, &layout, owner, known).await?;
        Ok(Self {
            config,
            layout,
            objects,
            owner,
            fence,
            under_way: Mutex::default(),
        })
    }

    #[must_use]
    pub fn taken(&self) -> Taken {
        self.fence.taken
    }

    /// Asks whether another owner has come: to be called at the begin of each round of tiering.
    ///
    /// # Errors
    /// `Fenced`: it has. `Unavailable`: nobody knows.
    pub async fn check(&self) -> Result<()> {
        self.fence.check(&self.objects, &self.layout).await
    }

    /// Puts bytes, and returns the entry for the table of chunks when they are acknowledged as durable. Then the entry is to be written, then
    /// `Op::Store` be proposed, and [`Self::settled`] be called. After an error, or if the call is dropped, the object may be there all the same: it
    /// is an orphan, since a next try has another name.
    ///
    /// # Errors
    /// `Invalid`: no bytes, or too many; an ephemeral acknowledgement. `Fenced`, `Unavailable`.
    pub async fn put(&self, put: Put) -> Result<Chunk> {
        self.fence.held()?;
        let length = put.n_bytes();
        if length > self.config.chunk_bytes_max {
            return Err(Error::Invalid("these are too many bytes for a chunk"));
        }
        let name = ChunkName {
            segment: put.segment,
            offset: put.offset,
            epoch: self.owner.epoch,
            random: rt::random_u64(),
        };
        let block_bytes = usize::try_from(BLOCK_BYTES).expect("memory has more");
        let blocks = checksums(&put.data, block_bytes);
        let chunk = Chunk::new(name, length, blocks, put.events.next).map_err(Error::Invalid)?;
        let payload = payload(put, &chunk)?;
        let under_way = UnderWay::begin(self, name)?;
        let path = self.layout.chunk(&name);
        match self.objects.create(&path, payload).await? {
            Created::Now(Class::Ephemeral) if !self.config.accepts_ephemeral => {
                Err(Error::Invalid("the store may lose what it acknowledges"))
            }
            Created::Now(_) => {
                under_way.keep();
                Ok(chunk)
            }
            // Most likely it is this one, and the first answer was lost. But to know that needs a request too.
            Created::Before => Err(Error::Unavailable {
                doing: "create",
                object: name.to_string(),
                source: "it is there, and nobody knows by whom".into(),
            }),
        }
    }

    /// Whether its object is needed is from now on what the list of chunks says: its entry is durable and in the list, or it never will be. An entry
    /// whose record may be durable or not is neither: then the log has failed, the owner has ended, and this is not called.
    pub fn settled(&self, name: &ChunkName) {
        self.under_way().remove(name);
    }

    pub(crate) fn under_way(&self) -> MutexGuard<'_, BTreeSet<ChunkName>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whole blocks, one after the other, each as it was written.
    ///
    /// # Errors
    /// `Invalid`: there are no such blocks. `NotFound`, `Corrupt`, `Unavailable`: of one of them.
    pub async fn read_blocks(
        &self,
        chunk: &Chunk,
        blocks: RangeInclusive<u32>,
    ) -> Result<Vec<Bytes>> {
        if *blocks.end() >= chunk.n_blocks() {
            return Err(Error::Invalid("the chunk has no such block"));
        }
        let reads = blocks.map(|block| read_block(&self.objects, &self.layout, chunk, block));
        futures_util::stream::iter(reads)
            .buffered(self.config.requests_max.max(1))
            .try_collect()
            .await
    }

    /// Bytes of the segment, in pieces. Whole blocks are read for them: a cache is better off with [`Self::read_blocks`].
    ///
    /// # Errors
    /// `Invalid`: the chunk does not have them. `NotFound`, `Corrupt`, `Unavailable`.
    pub async fn read(&self, chunk: &Chunk, range: Range<u64>) -> Result<Vec<Bytes>> {
        let last = range.end.checked_sub(1).and_then(|at| chunk.block_of(at));
        let (Some(first), Some(last)) = (chunk.block_of(range.start), last) else {
            return Err(Error::Invalid("the chunk does not have these bytes"));
        };
        if range.is_empty() {
            return Err(Error::Invalid("these are no bytes"));
        }
        let blocks = self.read_blocks(chunk, first..=last).await?;
        let cut = |(block, bytes): (u32, Bytes)| {
            let has = chunk.block_range(block);
            let within = |at: u64| {
                let at = at.clamp(has.start, has.end) - has.start;
                usize::try_from(at).expect("a block fits memory")
            };
            bytes.slice(within(range.start)..within(range.end))
        };
        Ok((first..).zip(blocks).map(cut).collect())
    }

    /// What the object says of itself.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `Unavailable`.
    pub async fn footer(&self, name: &ChunkName) -> Result<Footer> {
        read_footer(&self.objects, &self.layout, name).await
    }

    /// Where the index of events goes on behind a chunk: for an owner that has not put it itself.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub async fn cursor(&self, chunk: &Chunk) -> Result<Cursor> {
        let range = chunk.range();
        match chunk.next_event_at() {
            Some(at) if at >= range.end => Ok(Cursor::at(at)),
            Some(at) if at >= range.start => {
                let seen = self.read(chunk, at..range.end).await?.concat();
                Ok(Cursor::Header { at, seen })
            }
            // Its header begins in the chunk before: this one has a few bytes only, and is not worth more requests.
            Some(_) | None => Ok(Cursor::Lost),
        }
    }
}

/// As it was written.
pub(crate) async fn read_block(
    objects: &Objects,
    layout: &Layout,
    chunk: &Chunk,
    block: u32,
) -> Result<Bytes> {
    let path = layout.chunk(chunk.name());
    let corrupt = |what| Error::Corrupt {
        object: path.to_string(),
        block: Some(block),
        what,
    };
    let range = chunk.block_range(block);
    let (start, length) = (chunk.range().start, range.end - range.start);
    let in_object = range.start - start..range.end - start;
    let read = objects.read(&path, in_object.clone()).await;
    if let Err(Error::Unavailable { .. }) = &read {
        // Stores refuse what begins behind the end, each in its own words.
        let bytes = objects.head(&path).await?;
        if bytes.is_some_and(|bytes| bytes < in_object.end) {
            return Err(corrupt("the object is too short"));
        }
    }
    let bytes = read?;
    if bytes.len() as u64 != length {
        return Err(corrupt("it is not whole"));
    }
    let idx = usize::try_from(block).expect("there are few");
    if crc32c::crc32c(&bytes) != chunk.checksums()[idx] {
        return Err(corrupt("its checksum is another one"));
    }
    Ok(bytes)
}

pub(crate) async fn read_footer(
    objects: &Objects,
    layout: &Layout,
    name: &ChunkName,
) -> Result<Footer> {
    let path = layout.chunk(name);
    let n_bytes = disk::footer::FOOTER_BYTES_MAX as u64;
    let (tail, object_bytes) = objects.read_last(&path, n_bytes).await?;
    let footer =
        disk::footer::decode(&tail, object_bytes).map_err(|what| Error::corrupt(&path, what))?;
    if footer.chunk.name() != name {
        return Err(Error::corrupt(path, "it is another chunk"));
    }
    Ok(footer)
}

/// The bytes as they are, and the footer.
fn payload(put: Put, chunk: &Chunk) -> Result<PutPayload> {
    let (range, begins) = (chunk.range(), &put.events.begins);
    if !begins.is_sorted_by(|a, b| a < b) || !begins.iter().all(|at| range.contains(at)) {
        return Err(Error::Invalid("these are not the events of these bytes"));
    }
    if put.scope.len().max(put.stream.len()) > SegmentName::BYTES_MAX {
        return Err(Error::Invalid("the names are too long"));
    }
    let footer = disk::footer::encode(&Footer {
        scope: put.scope,
        stream: put.stream,
        segment: put.name,
        chunk: chunk.clone(),
        events: put.events.begins,
    });
    if footer.len() > disk::footer::FOOTER_BYTES_MAX {
        return Err(Error::Invalid("these are too many events"));
    }
    Ok(put.data.into_iter().chain([footer.into()]).collect())
}

/// A chunk that is put. It is no more when this is dropped, if it was not kept.
struct UnderWay<'a> {
    lts: &'a Lts,
    name: ChunkName,
    is_kept: bool,
}

impl<'a> UnderWay<'a> {
    fn begin(lts: &'a Lts, name: ChunkName) -> Result<Self> {
        let mut under_way = lts.under_way();
        if under_way.len() >= UNDER_WAY_MAX {
            return Err(Error::Invalid("too many chunks are put and not settled"));
        }
        under_way.insert(name);
        Ok(Self {
            lts,
            name,
            is_kept: false,
        })
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.lts.settled(&self.name);
        }
    }
}
