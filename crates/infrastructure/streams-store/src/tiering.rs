//! From the log to long-term storage, and what is deleted there.
//!
//! ```text
//!  bytes of the log ─▶ Lts::put: an object ─▶ its entry in the table of chunks ─▶ Op::Store ─▶ the log may be truncated
//!  after a crash:      it is an orphan        it is found there, and Op::Store is proposed
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use rt::Background;
use streams_core::container::{Source, Tiering as State};
use streams_core::op::{Put as PutEntry, Remove, Version};
use streams_core::segment::{KeyLength, Kind};
use streams_core::table::{Bounds, Page};
use streams_core::{Container, Op, Refusal, SegmentId, SegmentName};
use streams_lts::events::Cursor;
use streams_lts::fence;
use streams_lts::{Chunk, ChunkList, Collector, Lts, Put};

use crate::config;
use crate::error::{Error, Result};
use crate::owner::Owner;
use crate::route;

/// Under which the table of chunks has the number of the last manifest.
pub(crate) const MANIFEST: &[u8] = b"manifest";

/// Entries of one change, or of one page, of the table of chunks.
const ENTRIES_MAX: usize = 1_000;

/// So often, one page of objects is looked at for those that nobody needs.
const ORPHANS_PERIOD: Duration = Duration::from_secs(60);

/// What is done of one container.
#[derive(Debug)]
pub(crate) struct Tiering {
    owner: Arc<Owner>,
    background: Arc<Background>,
    config: config::Tiering,
    who: fence::Owner,
    table: SegmentName,
    collector: Collector,
    /// Since when something of a segment is not there.
    since: HashMap<SegmentId, Instant>,
    /// Where the index of its events goes on.
    cursors: HashMap<SegmentId, (u64, Cursor)>,
    /// Of an earlier owner; 0: none.
    known: u64,
    looked_at: Option<Instant>,
    /// What owners before have left is free.
    has_freed: bool,
}

impl Tiering {
    pub(crate) fn new(
        owner: Arc<Owner>,
        epoch: ids::Epoch,
        config: config::Tiering,
        lts: &streams_lts::Config,
        background: &Arc<Background>,
    ) -> Self {
        Self {
            background: Arc::clone(background),
            table: route::chunks_of(owner.number),
            owner,
            config,
            who: fence::Owner {
                epoch,
                id: rt::random_u64(),
            },
            collector: Collector::new(lts),
            since: HashMap::new(),
            cursors: HashMap::new(),
            known: 0,
            looked_at: None,
            has_freed: false,
        }
    }

    /// Reads which chunks there are: before anything of them is read.
    pub(crate) async fn load(&mut self) -> Result<()> {
        let create = Op::Create {
            segment: self.table.clone(),
            kind: Kind::Table(KeyLength::Any),
            attributes: Vec::new(),
        };
        match self.owner.execute(&create).await {
            Ok(_) | Err(Error::Refused(Refusal::Exists(_))) => {}
            Err(error) => return Err(error),
        }
        let mut bounds = Bounds::default();
        loop {
            let page = Page {
                items_max: ENTRIES_MAX,
                bytes_max: 1 << 20,
            };
            let entries = self
                .owner
                .ask(|container| container.entries(&self.table, &bounds, page));
            let entries = entries.await?;
            if entries.entries.is_empty() {
                break;
            }
            for entry in entries.entries {
                if entry.key == MANIFEST {
                    let number = entry.value.as_ref().try_into().map(u64::from_be_bytes);
                    self.known = number.map_err(|_| Error::corrupt("the number of a manifest"))?;
                    continue;
                }
                let chunk = Chunk::from_entry(&entry.key, &entry.value);
                let chunk = chunk.map_err(Error::corrupt)?;
                self.owner.behind.chunks().insert(chunk);
            }
            bounds.token = entries.token;
        }
        Ok(())
    }

    /// Puts all that is durable now, whatever comes meanwhile.
    pub(crate) async fn put_all(&mut self) -> Result<()> {
        let owner = Arc::clone(&self.owner);
        let wanted = unstored(&owner)
            .into_iter()
            .map(|it| (it.id, it.durable_to));
        let wanted: HashMap<_, _> = wanted.collect();
        let is_missing = |it: &State| wanted.get(&it.id).is_some_and(|to| it.stored_to < *to);
        while self.round(true).await? && unstored(&owner).iter().any(is_missing) {}
        Ok(())
    }

    /// Puts what is due; everything, if the log needs room. Whether something has got there.
    pub(crate) async fn round(&mut self, log_is_full: bool) -> Result<bool> {
        let owner = Arc::clone(&self.owner);
        let lts = owner.behind.open(self.who, self.known).await;
        let lts = lts.map_err(|error| of_lts(&error))?;
        lts.check().await.map_err(|error| of_lts(&error))?;
        self.remember(lts.taken().number).await?;
        self.free().await?;
        let due = self.due(log_is_full);
        let mut has_put = false;
        let puts = due.into_iter().map(|state| {
            let cursor = self.cursors.remove(&state.id);
            flush(&owner, (lts, &self.background), &self.table, state, cursor)
        });
        let puts: Vec<_> = puts.collect();
        let mut puts =
            futures_util::stream::iter(puts).buffer_unordered(self.config.at_once.max(1));
        let mut failed = None;
        while let Some(flushed) = puts.next().await {
            match flushed {
                Ok(Flushed::Put {
                    id,
                    to,
                    cursor,
                    replaced,
                }) => {
                    has_put = true;
                    self.since.remove(&id);
                    self.cursors.insert(id, (to, cursor));
                    self.collector.delete(replaced.iter().map(Chunk::name));
                }
                Ok(Flushed::Known) => has_put = true,
                Ok(Flushed::Nothing) => {}
                Err(error) => {
                    // Others would wait as long.
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(puts);
        if let Some(error) = failed {
            return Err(error);
        }
        self.collect(lts).await?;
        Ok(has_put)
    }

    /// The segments of which something is to be put.
    fn due(&mut self, log_is_full: bool) -> Vec<State> {
        let now = rt::now();
        let states = unstored(&self.owner);
        let known: HashMap<_, _> = states.iter().map(|it| (it.id, ())).collect();
        self.since.retain(|id, _| known.contains_key(id));
        self.cursors.retain(|id, _| known.contains_key(id));
        let is_due = |state: &State| {
            let since = *self.since.entry(state.id).or_insert(now);
            log_is_full
                || state.durable_to - state.stored_to >= self.config.flush_bytes.0
                || now.duration_since(since) >= self.config.flush_after
        };
        states.into_iter().filter(is_due).collect()
    }

    /// The next owner begins there.
    async fn remember(&mut self, manifest: u64) -> Result<()> {
        if self.known == manifest {
            return Ok(());
        }
        let value = Bytes::copy_from_slice(&manifest.to_be_bytes());
        let key = Bytes::from_static(MANIFEST);
        put_entry(&self.owner, &self.table, key, value).await?;
        self.known = manifest;
        Ok(())
    }

    /// What is needed no more is forgotten, then deleted.
    async fn free(&mut self) -> Result<()> {
        let freed: Vec<_> = {
            let mut state = self.owner.lock();
            // At first, what an owner before has not come to.
            let mut free = std::mem::take(&mut state.free);
            if !std::mem::replace(&mut self.has_freed, true) {
                free.extend(unreferenced(&state.container, &self.owner.behind.chunks()));
            }
            drop(state);
            let mut chunks = self.owner.behind.chunks();
            let freed = free.into_iter().map(|(id, before)| match before {
                u64::MAX => chunks.free_all(id),
                before => chunks.free_before(id, before),
            });
            freed.flatten().collect()
        };
        for some in freed.chunks(ENTRIES_MAX) {
            let keys = some.iter().map(|chunk| Remove {
                key: Bytes::copy_from_slice(&chunk.key()),
                when: Version::Any,
            });
            let remove = Op::RemoveEntries {
                table: self.table.clone(),
                keys: keys.collect(),
                expected_length: None,
            };
            // If it is not done now, the next owner sees to it.
            self.owner.execute(&remove).await?;
            self.collector.delete(some.iter().map(Chunk::name));
        }
        Ok(())
    }

    /// Deletes objects, and looks for more to delete.
    async fn collect(&mut self, lts: &Lts) -> Result<()> {
        let now = rt::now();
        let is_time = |at: Instant| now.duration_since(at) >= ORPHANS_PERIOD;
        if self.looked_at.is_none_or(is_time) {
            self.looked_at = Some(now);
            let page = self
                .collector
                .page(lts)
                .await
                .map_err(|error| of_lts(&error))?;
            let orphans = page.orphans(&self.owner.behind.chunks());
            self.collector.delete(&orphans);
        }
        let ticked = self.collector.tick(lts).await;
        ticked.map(drop).map_err(|error| of_lts(&error))
    }
}

/// Segments of which something durable is in the log only.
fn unstored(owner: &Owner) -> Vec<State> {
    let state = owner.lock();
    let tiering = state.container.tiering();
    tiering.filter(|it| it.durable_to > it.stored_to).collect()
}

/// Of chunks of segments that are no more, or begin later.
fn unreferenced(container: &Container, chunks: &ChunkList) -> Vec<(SegmentId, u64)> {
    let needed = container.references();
    let ids = chunks.iter().map(Chunk::segment);
    let mut ids: Vec<_> = ids.collect();
    ids.dedup();
    let needed_from = |id: &SegmentId| needed.get(id).copied().unwrap_or(u64::MAX);
    ids.into_iter().map(|id| (id, needed_from(&id))).collect()
}

async fn put_entry(owner: &Owner, table: &SegmentName, key: Bytes, value: Bytes) -> Result<()> {
    let put = Op::PutEntries {
        table: table.clone(),
        entries: vec![PutEntry {
            key,
            value,
            when: Version::Any,
        }],
        expected_length: None,
    };
    owner.execute(&put).await.map(drop)
}

/// What has become of a segment that was due.
enum Flushed {
    Put {
        id: SegmentId,
        to: u64,
        cursor: Cursor,
        replaced: Option<Chunk>,
    },
    /// An owner before has put it, and had not said so.
    Known,
    /// It is not there any more, or could not be read: the next round looks again.
    Nothing,
}

/// Puts what a segment has in the log, as much as one chunk takes.
async fn flush(
    owner: &Arc<Owner>,
    (lts, background): (&Lts, &Background),
    table: &SegmentName,
    state: State,
    cursor: Option<(u64, Cursor)>,
) -> Result<Flushed> {
    let (id, from) = (state.id, state.stored_to);
    let known = owner
        .behind
        .chunks()
        .stored_to(id, from)
        .min(state.durable_to);
    if known > from {
        store(owner, id, known).await?;
        return Ok(Flushed::Known);
    }
    let to = state.durable_to.min(from + owner.behind.chunk_bytes_max());
    let sources = owner.lock().container.locate(id, from, to);
    // It takes no lock that others wait for, and much time of a processor.
    let bringing = bring(Arc::clone(owner), sources, (state, to), cursor);
    let brought = background.run(bringing).await;
    let Some((chunk, cursor)) = brought.map_err(Error::unavailable)?? else {
        return Ok(Flushed::Nothing);
    };
    let (key, value) = (Bytes::copy_from_slice(&chunk.key()), chunk.value().into());
    match put_entry(owner, table, key, value).await {
        Ok(()) => {}
        Err(Error::Refused(refusal)) => {
            // It never will be in the table.
            lts.settled(chunk.name());
            return Err(refusal.into());
        }
        Err(error) => return Err(error),
    }
    let replaced = owner.behind.chunks().insert(chunk.clone());
    lts.settled(chunk.name());
    store(owner, id, to).await?;
    Ok(Flushed::Put {
        id,
        to,
        cursor,
        replaced,
    })
}

/// Puts what is there from what the log has. `None`: it could not be read.
async fn bring(
    owner: Arc<Owner>,
    sources: Vec<Source>,
    (state, to): (State, u64),
    cursor: Option<(u64, Cursor)>,
) -> Result<Option<(Chunk, Cursor)>> {
    let (id, from) = (state.id, state.stored_to);
    let lts = owner.behind.lts().await?;
    let data = match owner.fetch_kept(sources).await {
        Ok(data) => data,
        Err(Error::Unavailable(error)) => {
            tracing::debug!(segment = %state.name, %error, "it is not put");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let n_bytes: u64 = data.iter().map(|piece| piece.len() as u64).sum();
    if n_bytes != to - from {
        return Ok(None);
    }
    let cursor = match cursor {
        Some((at, cursor)) if at == from => cursor,
        _ => cursor_at(&owner, lts, id, from).await,
    };
    let (events, cursor) = cursor.index(from, &data);
    let (scope, stream) = names(&state.name);
    let put = Put {
        scope,
        stream,
        name: state.name,
        segment: id,
        offset: from,
        data,
        events,
    };
    let chunk = lts.put(put).await.map_err(|error| of_lts(&error))?;
    Ok(Some((chunk, cursor)))
}

async fn store(owner: &Owner, segment: SegmentId, to: u64) -> Result<()> {
    match owner.execute(&Op::Store { segment, to }).await {
        Ok(_) => Ok(()),
        // It is gone, or begins behind that: so its chunk is needed no more.
        Err(Error::Refused(_)) => {
            let free = unreferenced_from(owner, segment);
            owner.lock().free.push((segment, free));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Before which offset nothing is needed.
fn unreferenced_from(owner: &Owner, segment: SegmentId) -> u64 {
    let needed = owner.lock().container.references();
    needed.get(&segment).copied().unwrap_or(u64::MAX)
}

async fn cursor_at(owner: &Owner, lts: &Lts, id: SegmentId, from: u64) -> Cursor {
    let before = from.checked_sub(1);
    let before = before.and_then(|at| owner.behind.chunks().find(id, at).cloned());
    match before {
        _ if from == 0 => Cursor::at(0),
        Some(chunk) if chunk.range().end == from => {
            // An index is a hint.
            lts.cursor(&chunk).await.unwrap_or(Cursor::Lost)
        }
        _ => Cursor::Lost,
    }
}

/// As `scope/stream/…` has them.
fn names(segment: &SegmentName) -> (Arc<str>, Arc<str>) {
    let mut parts = segment.as_str().split('/');
    let mut next = || Arc::from(parts.next().unwrap_or_default());
    (next(), next())
}

/// What goes wrong there.
fn of_lts(error: &streams_lts::Error) -> Error {
    match error {
        streams_lts::Error::Fenced { .. } => Error::Fenced,
        streams_lts::Error::Corrupt { .. } => Error::corrupt(error),
        _ => Error::unavailable(error),
    }
}
