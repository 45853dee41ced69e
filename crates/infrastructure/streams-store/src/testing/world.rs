//! A store, what was done to it, and what is found.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ids::ByteSize;
use streams_core::op::Refusal;
use streams_core::segment::Kind;
use streams_core::table::{Bounds, Page};
use streams_lts::testing::Faulty;
use wal::Disk;
use wal::testing::CrashDisk;

use super::model::{self, Random, Thing, Things, WRITER, container_of, name};
use crate::error::{Error, Result};
use crate::files::Folders;
use crate::{Config, Gate, Read, Store, Unwritten};

/// It is not durable.
pub(super) const NEVER: usize = usize::MAX;

/// Something that was done to a container.
pub(super) struct Step {
    pub(super) what: String,
    /// Before this operation of the disk nobody had heard of it.
    asked: usize,
    /// At this one it was acknowledged.
    told: Arc<AtomicUsize>,
    /// What is in the container behind it.
    after: Things,
}

pub(super) struct World {
    pub(super) disk: CrashDisk,
    pub(super) lts: Faulty,
    pub(super) store: Store,
    pub(super) random: Random,
    /// Of all containers.
    things: Things,
    /// Why something was not done.
    refused: Arc<Mutex<Option<Error>>>,
    /// By container. The first of each is that nothing was done.
    pub(super) steps: BTreeMap<u32, Vec<Step>>,
}

/// Lets everything pass.
struct Open;

impl Gate for Open {
    type Permit = ();

    async fn room(&self) {}

    async fn permit(&self) {}
}

pub(super) fn config() -> Config {
    let mut config = Config {
        containers: model::CONTAINERS,
        ..Config::default()
    };
    config.log.segment = ByteSize(512 << 10);
    config.log.queue = ByteSize(1 << 20);
    config.log.checkpoint_after = ByteSize(32 << 10);
    config.tiering.flush_bytes = ByteSize(16 << 10);
    config.tiering.flush_after = Duration::from_millis(50);
    config
}

fn folders(disk: &CrashDisk) -> Arc<Folders> {
    let disk = disk.clone();
    Arc::new(move |name| {
        let folder: Arc<dyn Disk> = match name {
            "" => Arc::new(disk.clone()),
            name => Arc::new(disk.folder(name)),
        };
        Ok(folder)
    })
}

pub(super) async fn open(disk: &CrashDisk, lts: &Faulty) -> Result<Store> {
    Store::open_in(folders(disk), None, &config(), lts.opened()).await
}

impl World {
    pub(super) async fn open(disk: CrashDisk, seed: u64) -> Result<Self> {
        let clock = disk.clone();
        let lts = Faulty::in_memory(move || clock.n_ops());
        let store = open(&disk, &lts).await?;
        let n_ops = disk.n_ops();
        let start = || Step {
            what: "start".to_owned(),
            asked: 0,
            told: Arc::new(AtomicUsize::new(n_ops)),
            after: Things::new(),
        };
        let steps = (1..=model::CONTAINERS).map(|container| (container, vec![start()]));
        Ok(Self {
            steps: steps.collect(),
            disk,
            lts,
            store,
            random: Random(seed),
            things: Things::new(),
            refused: Arc::default(),
        })
    }

    /// Does something; nobody waits until it is told.
    pub(super) async fn step(&mut self) {
        let asked = self.disk.n_ops();
        let op = model::next(&mut self.random, &mut self.things);
        let told = Arc::new(AtomicUsize::new(NEVER));
        let (disk, tells) = (self.disk.clone(), Arc::clone(&told));
        let container = crate::route::container_of_op(&op, model::CONTAINERS);
        let container = container.expect("it is of one");
        let of_container = self.things.iter();
        let of_container = of_container.filter(|(name, _)| container_of(name) == container);
        let step = Step {
            what: what(&op),
            asked,
            told: Arc::clone(&told),
            after: of_container
                .map(|(name, it)| (name.clone(), it.clone()))
                .collect(),
        };
        let steps = self.steps.get_mut(&container).expect("all are there");
        steps.push(step);
        let refused = Arc::clone(&self.refused);
        let tell = move |outcome: Result<_>| match outcome {
            Ok(_) => tells.store(disk.n_ops(), Ordering::SeqCst),
            Err(error) => {
                let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
                refused.get_or_insert(error);
            }
        };
        self.store
            .submit(&op, tell, &mut Unwritten::default())
            .await;
    }

    /// Waits until all is told that was done.
    ///
    /// # Errors
    /// Something was not done: nothing behind it is to be, either.
    pub(super) async fn settle(&self) -> Result<()> {
        for container in 1..=model::CONTAINERS {
            self.store.settled(container).await?;
        }
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.clone().map_or(Ok(()), Err)
    }

    /// When something was acknowledged.
    pub(super) fn told(&self) -> Vec<usize> {
        let steps = self.steps.values().flatten();
        let told = steps.map(|step| step.told.load(Ordering::SeqCst));
        told.filter(|told| *told != NEVER).collect()
    }

    /// Compares what is in a store with what may be there after so many operations of the disk.
    pub(super) async fn check(
        &self,
        store: &Store,
        n_ops: usize,
    ) -> std::result::Result<(), String> {
        let found = found(store).await.map_err(|error| error.to_string())?;
        for (container, steps) in &self.steps {
            let is_told = |step: &Step| step.told.load(Ordering::SeqCst) <= n_ops;
            let first = steps.iter().rposition(is_told).unwrap_or(0);
            let heard = steps.iter().take_while(|step| step.asked < n_ops).count();
            let possible = &steps[first..heard.max(first + 1)];
            let found: Things = found
                .iter()
                .filter(|(name, _)| container_of(name) == *container)
                .map(|(name, thing)| (name.clone(), thing.clone()))
                .collect();
            if !possible.iter().any(|step| step.after == found) {
                let possible: Vec<_> = possible
                    .iter()
                    .map(|step| format!("{}: {}", step.what, brief(&step.after)))
                    .collect();
                return Err(format!(
                    "container {container} has\n  {}\nwhich is none of\n  {}",
                    brief(&found),
                    possible.join("\n  ")
                ));
            }
        }
        Ok(())
    }

    /// The same, and that it goes on.
    pub(super) async fn check_and_go_on(
        &self,
        store: &Store,
        n_ops: usize,
    ) -> std::result::Result<(), String> {
        self.check(store, n_ops).await?;
        store
            .flush()
            .await
            .map_err(|error| format!("flush: {error}"))?;
        self.check(store, n_ops).await
    }
}

fn what(op: &streams_core::Op) -> String {
    let text = format!("{op:?}");
    text.chars().take(100).collect()
}

/// For people to read.
fn brief(things: &Things) -> String {
    let things = things.iter().map(|(name, thing)| match thing {
        Thing::Segment {
            start,
            bytes,
            last,
            is_sealed,
        } => {
            let (n_bytes, hash) = (bytes.len(), crc32c::crc32c(bytes));
            format!("{name}: {n_bytes} bytes ({hash:08x}) from {start}, last {last}, {is_sealed}")
        }
        Thing::Table(entries) => {
            let entries = entries.iter();
            let entries: Vec<_> = entries
                .map(|(key, value)| format!("{key:?} {:08x}", crc32c::crc32c(value)))
                .collect();
            format!("{name}: {}", entries.join(" "))
        }
    });
    things.collect::<Vec<_>>().join("; ")
}

pub(super) async fn found(store: &Store) -> Result<Things> {
    let mut found = Things::new();
    for text in model::names() {
        let segment = name(&text);
        let info = match store.info(&segment).await {
            Ok(info) => info,
            Err(Error::Refused(Refusal::NoSuchSegment(_))) => continue,
            Err(error) => return Err(error),
        };
        let thing = if matches!(info.kind, Kind::Table(_)) {
            Thing::Table(entries(store, &text).await?)
        } else {
            let last = store.ask(&segment, |it| it.attribute(&segment, WRITER));
            Thing::Segment {
                start: info.start_offset,
                bytes: bytes(store, &text, info.start_offset, info.length).await?,
                last: last.await?,
                is_sealed: info.is_sealed,
            }
        };
        found.insert(text, thing);
    }
    Ok(found)
}

async fn bytes(store: &Store, text: &str, from: u64, to: u64) -> Result<Vec<u8>> {
    let segment = name(text);
    let mut bytes = Vec::new();
    loop {
        let offset = from + bytes.len() as u64;
        let read = store.read(&segment, offset, 1 << 20, Duration::ZERO, &Open);
        match read.await?.0 {
            Read::Bytes(some) => bytes.extend_from_slice(&some),
            Read::AtTail | Read::End if offset == to => return Ok(bytes),
            Read::AtTail | Read::End => {
                return Err(Error::corrupt(format!(
                    "{text} ends at {offset}, not at {to}"
                )));
            }
        }
    }
}

async fn entries(store: &Store, text: &str) -> Result<BTreeMap<Bytes, Bytes>> {
    let mut all = BTreeMap::new();
    let mut bounds = Bounds::default();
    loop {
        let page = Page {
            items_max: 100,
            bytes_max: 1 << 20,
        };
        let entries = store.entries(&name(text), &bounds, page).await?;
        if entries.entries.is_empty() {
            return Ok(all);
        }
        for entry in entries.entries {
            all.insert(Bytes::copy_from_slice(&entry.key), entry.value);
        }
        bounds.token = entries.token;
    }
}
