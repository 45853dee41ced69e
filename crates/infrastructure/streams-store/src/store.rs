//! All containers of a directory.
//!
//! ```text
//!  DIR/store           how many containers, and who it is        DIR/containers/3/…   checkpoints
//!  DIR/log/…           the log of all of them
//! ```

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rt::{Background, Priority};
use store::Opened;
use streams_core::container::{Info, Usage};
use streams_core::names::{ConnectionId, Position};
use streams_core::op::{Answer, Outcome, Refused};
use streams_core::table::{Bounds, Page, Pages};
use streams_core::{Container, Corrupt, Limits, Op, Refusal, SegmentName};
use streams_lts::names::ContainerId;
use tokio::sync::Notify;
use wal::{DurableLog as _, LogId, Wal};

use crate::behind::{self, Behind};
use crate::checkpoint::Checkpoints;
use crate::chunks::StoredChunk;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::{self, Folders};
use crate::identity::Identity;
use crate::owner::{self, Owner};
use crate::read::{Gate, Read};
use crate::recent::Recent;
use crate::room::{Room, Taken};
use crate::route;
use crate::tiering::Tiering;
use crate::upkeep::Upkeep;

/// All segments of a directory, and what each of them holds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// By their numbers.
    owners: Vec<Arc<Owner>>,
    upkeep: Vec<Upkeep>,
    room: Arc<Room>,
    connections: AtomicU64,
    failed: Arc<Notify>,
}

/// What was submitted last, if nobody writes it yet. Who has nothing else to do [writes](Self::write) it. When there is more, or this is dropped, the
/// thread of its container does.
#[derive(Debug, Default)]
pub struct Unwritten(Option<Arc<Owner>>);

impl Unwritten {
    #[must_use]
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Writes it on this thread, which waits for the disk then, unless somebody else is at it.
    pub fn write(&mut self) {
        if let Some(owner) = self.0.take() {
            owner.commit();
        }
    }

    /// Leaves it to the thread of the container.
    pub fn leave(&mut self) {
        if let Some(owner) = self.0.take() {
            owner.wake();
        }
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What there is, and how much of it is under way.
#[derive(Clone, Debug)]
pub struct Stats {
    pub log: wal::Stats,
    /// What it takes of the disk.
    pub log_bytes: u64,
    /// Nothing more is taken until long-term storage takes what is in the log.
    pub is_full: bool,
    /// By their numbers; the first is the platform's own.
    pub containers: Vec<ContainerStats>,
}

/// Of one container.
#[derive(Clone, Copy, Debug)]
pub struct ContainerStats {
    pub usage: Usage,
    /// In long-term storage.
    pub chunks: usize,
}

impl Store {
    /// Becomes the owner of a directory, and ends whoever was. Long-term storage need not be there yet.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: what is there is not what was written. [`Error::Unavailable`], [`Error::Fenced`].
    pub async fn open(dir: &Path, config: &Config, lts: Opened) -> Result<Self> {
        Self::open_in(files::of_machine(dir), Some(dir), config, lts).await
    }

    /// The same, wherever its directories are: `dir`, if they are on a disk that may be full.
    pub(crate) async fn open_in(
        folders: Arc<Folders>,
        dir: Option<&Path>,
        config: &Config,
        lts: Opened,
    ) -> Result<Self> {
        let owned = config.clone();
        let files = rt::blocking(move || Files::open(folders, &owned)).await;
        let files = Arc::new(files.map_err(Error::unavailable)??);
        let room = Room::new(Arc::clone(&files.wal), dir, &config.log);
        let room = Arc::new(room);
        let blocks = behind::blocks(config.cache.blocks.0);
        let failed = Arc::<Notify>::default();
        let background = Background::start("streams-behind", Priority::Low);
        let background = Arc::new(background.map_err(Error::unavailable)?);
        let (mut owners, mut upkeep) = (Vec::new(), Vec::new());
        for number in 0..=files.identity.containers {
            let of_lts = files.identity.lts();
            let id = ContainerId(number);
            let (behind, ahead) = Behind::new(
                id,
                of_lts.clone(),
                lts.clone(),
                blocks.clone(),
                Arc::clone(&background),
            );
            let (behind, failed) = (Arc::new(behind), Arc::clone(&failed));
            let (from, owned) = (Arc::clone(&files), config.clone());
            let recovered = rt::blocking(move || from.recover(number, &owned, behind, failed));
            let (owner, checkpoints) = recovered.await.map_err(Error::unavailable)??;
            let epoch = files.wal.epoch();
            let of_owner = Arc::clone(&owner);
            let config_of = config.tiering.clone();
            let mut tiering = Tiering::new(of_owner, epoch, config_of, &of_lts, &background);
            tiering.load().await?;
            let tasks = (tiering, ahead);
            upkeep.push(Upkeep::start(
                &owner,
                (&room, &files.wal),
                checkpoints,
                config,
                tasks,
            ));
            owners.push(owner);
        }
        Ok(Self(Arc::new(Shared {
            owners,
            upkeep,
            room,
            connections: AtomicU64::new(0),
            failed,
        })))
    }

    /// A number for a connection, which is not used twice.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        ConnectionId(self.0.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes an operation behind all that were taken before, and waits only while too much is under way; whether it will be done. `tell` hears what
    /// has come of it when that is durable, in the order of all that is told of a segment; it is not to wait for anything. It is left in `unwritten`,
    /// which is not to be kept while anything else is waited for.
    pub async fn submit<T>(&self, op: &Op, tell: T, unwritten: &mut Unwritten) -> bool
    where
        T: FnOnce(Result<Outcome>) + Send + 'static,
    {
        unwritten.leave();
        match self.owner_for(op).await {
            Ok((owner, _taken)) => {
                let is_taken = owner.submit(op, tell).await;
                unwritten.0 = Some(Arc::clone(owner));
                is_taken
            }
            Err(error) => {
                tell(Err(error));
                false
            }
        }
    }

    /// Does it: what is answered is durable.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn execute(&self, op: Op) -> Result<Outcome> {
        let (owner, _taken) = self.owner_for(&op).await?;
        owner.execute(&op).await
    }

    /// Answers a question about a segment when the answer is durable.
    pub fn ask_then<T: Send + 'static>(
        &self,
        segment: &SegmentName,
        question: impl FnOnce(&Container) -> Result<Answer<T>, Refused>,
        tell: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        self.owner(segment).ask_then(question, tell);
    }

    /// # Errors
    /// [`Error`].
    pub async fn ask<T: Send + 'static>(
        &self,
        segment: &SegmentName,
        question: impl FnOnce(&Container) -> Result<Answer<T>, Refused>,
    ) -> Result<T> {
        self.owner(segment).ask(question).await
    }

    /// # Errors
    /// [`Error`].
    pub async fn info(&self, segment: &SegmentName) -> Result<Info> {
        self.ask(segment, |container| container.info(segment)).await
    }

    /// # Errors
    /// [`Error`].
    pub async fn entries(&self, table: &SegmentName, bounds: &Bounds, page: Page) -> Result<Pages> {
        self.ask(table, |container| container.entries(table, bounds, page))
            .await
    }

    /// Bytes from an offset on, at least one and no more than so many: those that are in memory at once, others when they are fetched. Where there
    /// are none yet, it waits for that long. Before it takes any, it waits for room; before it fetches some, for the gate too, and hands out what that
    /// has given.
    ///
    /// # Errors
    /// [`Error`]; with [`streams_core::Refusal::BadOffset`] what is there begins later.
    pub async fn read<G: Gate>(
        &self,
        segment: &SegmentName,
        offset: u64,
        bytes_max: u64,
        patience: Duration,
        gate: &G,
    ) -> Result<(Read, Option<G::Permit>)> {
        let owner = self.owner(segment);
        owner.read(segment, offset, bytes_max, patience, gate).await
    }

    /// Deletes the transient segments of a connection that has ended.
    pub async fn disconnected(&self, connection: ConnectionId) {
        for owner in &self.0.owners {
            let transient: Vec<_> = {
                let state = owner.lock();
                state.container.transient(connection).cloned().collect()
            };
            for segment in transient {
                owner.submit(&Op::Delete(segment), drop).await;
            }
            owner.wake();
        }
    }

    /// What was durable when this was called is in long-term storage when it is over, and the log is truncated.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: long-term storage does not take it.
    pub async fn flush(&self) -> Result<()> {
        for upkeep in &self.0.upkeep {
            upkeep.flush(&self.0.room).await?;
        }
        Ok(())
    }

    /// The same of one container, if there is one of that number.
    ///
    /// # Errors
    /// As [`Self::flush`]; [`Refusal::Invalid`]: there is none.
    pub async fn flush_container(&self, number: u32) -> Result<()> {
        let number = usize::try_from(number).ok();
        let upkeep = number.and_then(|number| self.0.upkeep.get(number));
        let upkeep = upkeep.ok_or(Refusal::Invalid("there is no such container"))?;
        upkeep.flush(&self.0.room).await
    }

    /// What of a segment is in long-term storage, in order.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn chunks(&self, segment: &SegmentName) -> Result<Vec<StoredChunk>> {
        self.owner(segment).chunks(segment).await
    }

    /// For metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let owners = self.0.owners.iter();
        let containers = owners.map(|owner| {
            let usage = owner.lock().container.usage();
            let chunks = owner.behind.chunks().len();
            ContainerStats { usage, chunks }
        });
        Stats {
            log: self.0.room.stats(),
            log_bytes: self.0.room.bytes(),
            is_full: self.0.room.is_full(),
            containers: containers.collect(),
        }
    }

    /// Waits until some container has ended, and says why.
    pub async fn failed(&self) -> Error {
        loop {
            for owner in &self.0.owners {
                if owner.has_ended() {
                    return owner.ended();
                }
            }
            self.0.failed.notified().await;
        }
    }

    /// Takes no more; what was taken becomes durable, and a checkpoint is kept, so that the next start is fast.
    pub async fn close(&self) {
        for upkeep in &self.0.upkeep {
            upkeep.close().await;
        }
        self.end();
    }

    /// Waits until all is told that a container was asked for.
    ///
    /// # Errors
    /// [`Error`]: it has ended.
    pub(crate) async fn settled(&self, container: u32) -> Result<()> {
        let owner = &self.0.owners[container as usize];
        let seq = owner.lock().container.proposed_to();
        owner.durable(seq).await
    }

    /// The same at once: what was taken becomes durable, or not.
    pub(crate) fn end(&self) {
        self.0.owners.iter().for_each(|owner| owner.close());
    }

    fn owner(&self, segment: &SegmentName) -> &Owner {
        let number = route::container_of(segment.as_str(), self.n_containers());
        &self.0.owners[number as usize]
    }

    /// What makes room is always taken, and so is what the platform itself does.
    async fn owner_for(&self, op: &Op) -> Result<(&Arc<Owner>, Option<Taken<'_>>)> {
        let number = route::container_of_op(op, self.n_containers())?;
        let brings = matches!(
            op,
            Op::Append(_)
                | Op::Create { .. }
                | Op::PutEntries { .. }
                | Op::RemoveEntries { .. }
                | Op::UpdateAttributes { .. }
        );
        let taken = if brings && number != route::SYSTEM {
            Some(self.0.room.take(owner::bytes_of(op)).await?)
        } else {
            None
        };
        let owner = &self.0.owners[number as usize];
        if matches!(op, Op::PutEntries { .. }) && number != route::SYSTEM {
            let tables_bytes = owner.lock().container.usage().tables_bytes;
            if tables_bytes > TENANTS_TABLES_BYTES_MAX {
                let what = "bytes of the tables of a container";
                return Err(Refusal::Limit { what }.into());
            }
        }
        Ok((owner, taken))
    }

    /// Beside the platform's own.
    fn n_containers(&self) -> u32 {
        u32::try_from(self.0.owners.len() - 1).expect("it was made of such a number")
    }
}

/// What is above is for the table of chunks, without which nothing goes to long-term storage.
const TENANTS_TABLES_BYTES_MAX: u64 = 768 << 20;

/// What is in the directory.
struct Files {
    folders: Arc<Folders>,
    identity: Identity,
    wal: Arc<Wal>,
}

impl Files {
    fn open(folders: Arc<Folders>, config: &Config) -> Result<Self> {
        let dir = folders("").map_err(Error::unavailable)?;
        let identity = Identity::open(&*dir, config.containers)?;
        let disk = folders("log").map_err(Error::unavailable)?;
        let log = wal::Config {
            segment_bytes: config.log.segment.0,
            queue_bytes: usize::try_from(config.log.queue.0).unwrap_or(usize::MAX),
        };
        let wal = Wal::open(disk, log).map_err(|error| Error::reading(&error))?;
        Ok(Self {
            folders,
            identity,
            wal: Arc::new(wal),
        })
    }

    /// What the log and the last checkpoint say of a container.
    fn recover(
        &self,
        number: u32,
        config: &Config,
        behind: Arc<Behind>,
        failed: Arc<Notify>,
    ) -> Result<(Arc<Owner>, Checkpoints)> {
        let checkpoints = Checkpoints::open(&*self.folders, number)?;
        checkpoints.clean(self.wal.epoch())?;
        let log = self.wal.log(LogId(number));
        let log = log.map_err(|error| Error::reading(&error))?;
        let loaded = checkpoints.load()?;
        let mut recovery = loaded.recovery;
        let mut wrong = None;
        let from = loaded.position.unwrap_or_else(|| log.start());
        let visited = log.read(from, &mut |position, record| {
            let record = Bytes::copy_from_slice(record);
            match recovery.replay(Position(position.0), &record) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    wrong = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        visited.map_err(|error| Error::reading(&error))?;
        let damaged =
            |error: Corrupt| Error::corrupt(format!("the log of container {number}: {error}"));
        if let Some(error) = wrong {
            return Err(damaged(error));
        }
        let opened = recovery.open(Limits::default(), self.wal.epoch(), owner::now_ms());
        let opened = opened.map_err(damaged)?;
        let share = usize::try_from(config.cache.recent.0).unwrap_or(usize::MAX);
        let recent = Recent::new(share / (self.identity.containers as usize + 1));
        let owner = Owner::start(number, log, opened, recent, behind, failed)?;
        Ok((owner, checkpoints))
    }
}
