//! What of a container is in long-term storage: which chunks there are, and blocks of them in memory.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use rt::Background;
use store::Opened;
use streams_core::SegmentId;
use streams_lts::names::{ChunkName, ContainerId};
use streams_lts::{Chunk, ChunkList, Lts};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::error::{Error, Result};

/// So many blocks behind those that are read are fetched ahead.
const AHEAD: u32 = 4;

/// So long a reader waits after a start.
const OPENING: Duration = Duration::from_secs(5);

/// Blocks that wait to be fetched ahead. What does not fit is fetched when it is read.
const AHEAD_QUEUE: usize = 64;

/// Of all containers of a store, by chunk and number.
pub(crate) type Blocks = Cache<(ContainerId, ChunkName, u32), Bytes>;

/// The long-term storage of one container. It is there when [`Self::open`] has succeeded once.
#[derive(Debug)]
pub(crate) struct Behind {
    container: ContainerId,
    config: streams_lts::Config,
    opened: Opened,
    lts: OnceLock<Lts>,
    is_open: Notify,
    chunks: Mutex<ChunkList>,
    blocks: Blocks,
    /// Where they are fetched.
    background: Arc<Background>,
    ahead: Sender<(Chunk, u32)>,
}

/// What is to be fetched before it is read.
pub(crate) type Ahead = Receiver<(Chunk, u32)>;

pub(crate) fn blocks(bytes_max: u64) -> Blocks {
    Cache::builder()
        .max_capacity(bytes_max)
        .weigher(|_, block: &Bytes| u32::try_from(block.len()).unwrap_or(u32::MAX))
        .build()
}

impl Behind {
    pub(crate) fn new(
        container: ContainerId,
        config: streams_lts::Config,
        opened: Opened,
        blocks: Blocks,
        background: Arc<Background>,
    ) -> (Self, Ahead) {
        let (ahead, wanted) = channel(AHEAD_QUEUE);
        let behind = Self {
            container,
            config,
            opened,
            lts: OnceLock::new(),
            is_open: Notify::new(),
            chunks: Mutex::default(),
            blocks,
            background,
            ahead,
        };
        (behind, wanted)
    }

    /// Until this has succeeded nothing is put there, and nothing deleted. It may be tried again, for the same owner.
    pub(crate) async fn open(
        &self,
        owner: streams_lts::fence::Owner,
        known: u64,
    ) -> Result<&Lts, streams_lts::Error> {
        if let Some(lts) = self.lts.get() {
            return Ok(lts);
        }
        let (config, opened) = (self.config.clone(), self.opened.clone());
        let lts = Lts::open(config, opened, self.container, owner, known).await?;
        let lts = self.lts.get_or_init(|| lts);
        self.is_open.notify_waiters();
        Ok(lts)
    }

    pub(crate) fn chunk_bytes_max(&self) -> u64 {
        self.config.chunk_bytes_max
    }

    pub(crate) fn chunks(&self) -> MutexGuard<'_, ChunkList> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that are kept under that number: the first of them, at least one.
    pub(crate) async fn read(
        self: &Arc<Self>,
        of: SegmentId,
        offset: u64,
        n_bytes: u64,
    ) -> Result<Bytes> {
        let chunk = self.chunks().find(of, offset).cloned();
        // It may have been truncated since it was located.
        let chunk = chunk.ok_or_else(|| Error::unavailable("no chunk has these bytes"))?;
        let block = chunk.block_of(offset).expect("it was found by the offset");
        let bytes = self.block(&chunk, block).await?;
        for next in (block + 1..chunk.n_blocks()).take(AHEAD as usize) {
            if !self
                .blocks
                .contains_key(&(self.container, *chunk.name(), next))
            {
                self.ahead.try_send((chunk.clone(), next)).ok();
            }
        }
        let block_range = chunk.block_range(block);
        Ok(bytes.slice(within(&block_range, offset, n_bytes)))
    }

    /// Fetches what was asked for ahead, for as long as anybody may ask.
    pub(crate) async fn fetch_ahead(self: Arc<Self>, wanted: Ahead) {
        let wanted = futures_util::stream::unfold(wanted, async |mut wanted| {
            wanted.recv().await.map(|next| (next, wanted))
        });
        futures_util::StreamExt::for_each_concurrent(wanted, AHEAD as usize, async |wanted| {
            let (chunk, block) = wanted;
            // Whoever reads it hears what is wrong.
            self.block(&chunk, block).await.ok();
        })
        .await;
    }

    pub(crate) async fn lts(&self) -> Result<&Lts> {
        let opened = self.is_open.notified();
        if self.lts.get().is_none() {
            // After a start it is opened soon, or it is away.
            tokio::time::timeout(OPENING, opened).await.ok();
        }
        let lts = self.lts.get();
        lts.ok_or_else(|| Error::unavailable("long-term storage is not there yet"))
    }

    async fn block(self: &Arc<Self>, chunk: &Chunk, block: u32) -> Result<Bytes> {
        let key = (self.container, *chunk.name(), block);
        if let Some(bytes) = self.blocks.get(&key).await {
            return Ok(bytes);
        }
        // Others may wait for it, too: it does not stand still with who asked first. What is written and read at the tail goes before.
        let (this, chunk) = (Arc::clone(self), chunk.clone());
        let fetch = async move { this.fetch(&chunk, block).await };
        let fetched = self.background.run(fetch).await;
        fetched.map_err(Error::unavailable)?
    }

    /// Who asks for one that is being fetched waits for that.
    async fn fetch(&self, chunk: &Chunk, block: u32) -> Result<Bytes> {
        let lts = self.lts().await?;
        let key = (self.container, *chunk.name(), block);
        let fetch = async {
            let mut read = lts.read_blocks(chunk, block..=block).await?;
            Ok(read.pop().expect("one was asked for"))
        };
        let fetched = self.blocks.try_get_with(key, fetch).await;
        fetched.map_err(|error: Arc<streams_lts::Error>| match &*error {
            streams_lts::Error::Corrupt { .. } => Error::corrupt(error),
            _ => Error::unavailable(error),
        })
    }
}

/// Where in a block the bytes from an offset on are, as many as it has of so many.
fn within(block: &Range<u64>, offset: u64, n_bytes: u64) -> Range<usize> {
    let to = offset.saturating_add(n_bytes).min(block.end);
    let at = |offset: u64| usize::try_from(offset - block.start).expect("a block fits memory");
    at(offset)..at(to)
}
