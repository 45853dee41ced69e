//! Whether what is kept is what was written: of a directory that no server has. Nothing is written.
//!
//! ```text
//!  the log ──────▶ every record ─┐
//!  checkpoints ──▶ every piece ──┴▶ containers ─▶ segments have all their bytes, in records and chunks that are there
//!                                       └───────▶ tables of chunks ─▶ every chunk: footer, checksums ─▶ manifests
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt as _;
use ids::Epoch;
use store::Opened;
use streams_core::container::{Info, Source};
use streams_core::names::{Position, Seq};
use streams_core::segment::Kind;
use streams_core::table::{Bounds, Page};
use streams_core::{Container, Limits, Recovery, SegmentName};
use streams_lts::inspect::Inspector;
use streams_lts::names::ContainerId;
use streams_lts::{Chunk, ChunkList};
use wal::Directory;
use wal::inspect::Inspection;

use crate::checkpoint::Checkpoints;
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::owner::now_ms;
use crate::route;
use crate::tiering::MANIFEST;

/// So often it is said how far it is.
const PERIOD: Duration = Duration::from_secs(1);

/// Chunks that are read at once.
const CHUNKS_AT_ONCE: usize = 4;

/// Names and entries that are asked for at once.
const PAGE: Page = Page {
    items_max: 1_000,
    bytes_max: 1 << 20,
};

/// What is told while it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// How far it is.
    Progress(String),
    Finding(Finding),
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A file, an object, a container or a segment.
    pub place: String,
    pub what: String,
}

/// A directory, and what was found in it so far.
#[derive(Debug)]
pub struct Check<T> {
    dir: PathBuf,
    identity: Identity,
    /// By their numbers; nothing where it cannot be known what they have.
    containers: Vec<Option<Container>>,
    /// Of the files, before they were read.
    stamps: BTreeMap<PathBuf, (u64, Option<SystemTime>)>,
    teller: Teller<T>,
}

#[derive(Debug)]
struct Teller<T> {
    tell: T,
    told_at: Instant,
    n_findings: usize,
}

impl<T: FnMut(Told)> Teller<T> {
    fn find(&mut self, place: impl ToString, what: impl ToString) {
        self.n_findings += 1;
        (self.tell)(Told::Finding(Finding {
            place: place.to_string(),
            what: what.to_string(),
        }));
    }

    fn progress(&mut self, what: impl FnOnce() -> String) {
        if self.told_at.elapsed() >= PERIOD {
            self.told_at = rt::now();
            (self.tell)(Told::Progress(what()));
        }
    }
}

/// A container while the log is read.
#[derive(Debug, Default)]
struct Reading {
    /// Nothing once something was wrong.
    recovery: Option<Recovery>,
    /// Of records before the checkpoint, those that are still needed.
    needed: BTreeMap<Position, Seq>,
    /// Of the log of the container: what is before has been truncated.
    start: Position,
}

impl<T: FnMut(Told)> Check<T> {
    /// Reads the log and the checkpoints.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Unavailable`]: it is no directory of a store.
    pub fn read(dir: &Path, tell: T) -> Result<Self> {
        let looked_at = Directory::look_at(dir).map_err(Error::unavailable)?;
        let identity = Identity::read(&looked_at)?;
        let mut teller = Teller {
            tell,
            told_at: rt::now(),
            n_findings: 0,
        };
        let stamps = stamps(dir)?;
        let mut readings = Vec::new();
        for number in 0..=identity.containers {
            readings.push(Reading::of_checkpoint(dir, number, &mut teller)?);
        }
        read_log(&dir.join("log"), &mut readings, &mut teller)?;
        let containers = readings.into_iter().enumerate();
        let containers = containers.map(|(number, reading)| reading.finish(number, &mut teller));
        let containers = containers.collect();
        Ok(Self {
            dir: dir.to_owned(),
            identity,
            containers,
            stamps,
            teller,
        })
    }

    /// Something else is wrong.
    pub fn find(&mut self, place: impl ToString, what: impl ToString) {
        self.teller.find(place, what);
    }

    /// Whether it can be known what is in the container of that segment.
    #[must_use]
    pub fn knows(&self, segment: &SegmentName) -> bool {
        self.container(segment).is_some()
    }

    #[must_use]
    pub fn info(&self, segment: &SegmentName) -> Option<Info> {
        let info = self.container(segment)?.info(segment);
        Some(info.ok()?.value)
    }

    /// All entries of a table: key, value, version.
    #[must_use]
    pub fn entries(&self, table: &SegmentName) -> Vec<(Bytes, Bytes, i64)> {
        let container = self.container(table);
        container.map_or_else(Vec::new, |container| entries(container, table))
    }

    fn container(&self, segment: &SegmentName) -> Option<&Container> {
        let number = route::container_of(segment.as_str(), self.identity.containers);
        let number = usize::try_from(number).expect("there are few");
        self.containers.get(number)?.as_ref()
    }

    /// Looks at all segments, and at all that long-term storage has of them.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it does not answer.
    pub async fn look_behind(&mut self, lts: &Opened) -> Result<()> {
        let config = self.identity.lts();
        for (number, container) in (0..).zip(&self.containers) {
            let inspector = Inspector::new(&config, lts.clone(), ContainerId(number));
            let inspector = inspector.map_err(|error| unavailable(&error))?;
            let mut look = Look {
                number,
                place: format!("container {number}"),
                inspector,
                teller: &mut self.teller,
            };
            let known = match container {
                Some(container) => {
                    let (chunks, known) = look.chunks(container);
                    look.segments(container, &chunks);
                    look.objects(&chunks).await?;
                    known
                }
                None => 0,
            };
            look.manifests(known).await?;
        }
        Ok(())
    }

    /// How many findings there were.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: somebody has written meanwhile, so they mean nothing.
    pub fn finish(self) -> Result<usize> {
        if stamps(&self.dir)? == self.stamps {
            return Ok(self.teller.n_findings);
        }
        let why = "a server writes in this directory: stop it, and check again";
        Err(Error::unavailable(why))
    }
}

/// Size and time of each file that a server would change.
fn stamps(dir: &Path) -> Result<BTreeMap<PathBuf, (u64, Option<SystemTime>)>> {
    let mut stamps = BTreeMap::new();
    let mut folders = vec![dir.join("log"), dir.join("containers")];
    while let Some(folder) = folders.pop() {
        let cannot = |error| Error::unavailable(format!("{}: {error}", folder.display()));
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.map_err(cannot)?,
        };
        for entry in entries {
            let entry = entry.map_err(cannot)?;
            let Ok(meta) = entry.metadata() else {
                // It has gone in between.
                continue;
            };
            if meta.is_dir() {
                folders.push(entry.path());
            } else {
                stamps.insert(entry.path(), (meta.len(), meta.modified().ok()));
            }
        }
    }
    Ok(stamps)
}

impl Reading {
    fn of_checkpoint(
        dir: &Path,
        number: u32,
        teller: &mut Teller<impl FnMut(Told)>,
    ) -> Result<Self> {
        let dir = dir.join("containers").join(number.to_string());
        if !dir.is_dir() {
            let recovery = Some(Recovery::new());
            return Ok(Self {
                recovery,
                ..Self::default()
            });
        }
        let dir = Directory::look_at(&dir).map_err(Error::unavailable)?;
        match Checkpoints::look_at(Arc::new(dir), number).load() {
            Ok(loaded) => {
                let needed = loaded.recovery.positions();
                Ok(Self {
                    needed: needed.map(|(seq, position)| (position, seq)).collect(),
                    recovery: Some(loaded.recovery),
                    start: Position::default(),
                })
            }
            Err(error @ Error::Corrupt(_)) => {
                teller.find(format!("container {number}"), error);
                Ok(Self::default())
            }
            Err(error) => Err(error),
        }
    }

    /// A record of its log.
    fn take(&mut self, position: Position, bytes: &[u8]) -> Result<(), streams_core::Corrupt> {
        let Some(recovery) = &mut self.recovery else {
            return Ok(());
        };
        let record = Bytes::copy_from_slice(bytes);
        if let Some(seq) = self.needed.get(&position)
            && Recovery::seq_of(&record)? == *seq
        {
            self.needed.remove(&position);
        }
        if position < self.start {
            return Ok(());
        }
        let replayed = recovery.replay(position, &record);
        if replayed.is_err() {
            self.recovery = None;
        }
        replayed
    }

    fn finish(self, number: usize, teller: &mut Teller<impl FnMut(Told)>) -> Option<Container> {
        let recovery = self.recovery?;
        let place = format!("container {number}");
        let still_needed: BTreeMap<_, _> = recovery.positions().collect();
        for (position, seq) in self.needed {
            if still_needed.get(&seq) == Some(&position) {
                let Seq(seq) = seq;
                let what = format!("record {seq}, which has bytes of segments, is not in the log");
                teller.find(&place, what);
            }
        }
        // What a next owner would have. It is nobody, and so nothing is written.
        match recovery.open(Limits::default(), Epoch(u64::MAX), now_ms()) {
            Ok((container, _)) => Some(container),
            Err(error) => {
                teller.find(place, error);
                None
            }
        }
    }
}

/// Gives each container its records.
fn read_log(
    dir: &Path,
    readings: &mut [Reading],
    teller: &mut Teller<impl FnMut(Told)>,
) -> Result<()> {
    let disk = Directory::look_at(dir)
        .map_err(|error| Error::unavailable(format!("{}: {error}", dir.display())))?;
    let damaged = |error: &wal::Error| match Error::reading(error) {
        Error::Corrupt(what) => Ok(what),
        other => Err(other),
    };
    let log = match Inspection::of(&disk) {
        Ok(log) => log,
        Err(error) => {
            teller.find(dir.display(), damaged(&error)?);
            readings.iter_mut().for_each(|it| it.recovery = None);
            return Ok(());
        }
    };
    let idx = |id: wal::LogId| usize::try_from(id.0).expect("it is a number of 32 bits");
    for (id, start) in log.starts() {
        if let Some(reading) = readings.get_mut(idx(id)) {
            reading.start = Position(start.0);
        }
    }
    let mut n_bytes = 0_u64;
    let read = log.read(&mut |id, position, bytes| {
        n_bytes += bytes.len() as u64;
        teller.progress(|| format!("the log: {} MiB", n_bytes >> 20));
        let place = || format!("container {}, the record at {position}", id.0);
        match readings.get_mut(idx(id)) {
            Some(reading) => {
                if let Err(error) = reading.take(Position(position.0), bytes) {
                    teller.find(place(), error);
                }
            }
            None => teller.find(place(), "there is no such container"),
        }
        ControlFlow::Continue(())
    });
    if let Err(error) = read {
        teller.find(dir.display(), damaged(&error)?);
        // What is behind that is not known.
        readings.iter_mut().for_each(|it| it.recovery = None);
    }
    Ok(())
}

fn entries(container: &Container, table: &SegmentName) -> Vec<(Bytes, Bytes, i64)> {
    let (mut all, mut bounds) = (Vec::new(), Bounds::default());
    while let Ok(page) = container.entries(table, &bounds, PAGE) {
        let page = page.value;
        let is_last = page.entries.is_empty();
        let entries = page.entries.into_iter();
        all.extend(entries.map(|entry| (entry.key, entry.value, entry.version)));
        if is_last || page.token.is_empty() {
            break;
        }
        bounds.token = page.token;
    }
    all
}

/// At one container.
struct Look<'a, T> {
    number: u32,
    place: String,
    inspector: Inspector,
    teller: &'a mut Teller<T>,
}

impl<T: FnMut(Told)> Look<'_, T> {
    /// Those of its table, and the number of the manifest that is known.
    fn chunks(&mut self, container: &Container) -> (ChunkList, u64) {
        let (mut chunks, mut known) = (Vec::new(), 0);
        for (key, value, _) in entries(container, &route::chunks_of(self.number)) {
            if key == MANIFEST {
                match value.as_ref().try_into() {
                    Ok(number) => known = u64::from_be_bytes(number),
                    Err(_) => self
                        .teller
                        .find(&self.place, "the number of a manifest is none"),
                }
                continue;
            }
            match Chunk::from_entry(&key, &value) {
                Ok(chunk) => chunks.push(chunk),
                Err(error) => self.teller.find(&self.place, error),
            }
        }
        // Keys are in the order of segments and offsets.
        chunks.sort_by_key(Chunk::key);
        for pair in chunks.windows(2) {
            let [one, next] = pair else { continue };
            if one.segment() == next.segment() && one.range().end > next.range().start {
                let what = format!("chunk {} has bytes of the one before it", next.name());
                self.teller.find(&self.place, what);
            }
        }
        (chunks.into_iter().collect(), known)
    }

    /// Each has all bytes from its start to its end.
    fn segments(&mut self, container: &Container, chunks: &ChunkList) {
        let mut after = None;
        loop {
            let page = container.segments(after.as_ref(), PAGE.items_max).value;
            let Some((last, _)) = page.last() else { return };
            after = Some(last.clone());
            for (name, info) in page {
                if !matches!(info.kind, Kind::Table(_)) {
                    self.segment(container, chunks, &name, &info);
                }
            }
        }
    }

    fn segment(
        &mut self,
        container: &Container,
        chunks: &ChunkList,
        name: &SegmentName,
        info: &Info,
    ) {
        let mut at = info.start_offset;
        for source in container.locate(info.id, info.start_offset, info.length) {
            at += match source {
                // That it is there was looked at when the log was read.
                Source::Log { bytes, .. } => bytes,
                Source::Stored { of, offset, bytes } => {
                    let end = offset + bytes;
                    let to = chunks.stored_to(of, offset);
                    if to < end {
                        let of = of.0;
                        let what = format!("no chunk of {of} has its bytes from {to} to {end}");
                        self.teller.find(name, what);
                    }
                    bytes
                }
            };
        }
        if at != info.length {
            let what = format!("its bytes from {at} to {} are nowhere", info.length);
            self.teller.find(name, what);
        }
    }

    /// Each chunk is what its entry says.
    async fn objects(&mut self, chunks: &ChunkList) -> Result<()> {
        let inspector = &self.inspector;
        let looks = chunks
            .iter()
            .map(async |chunk| (chunk, inspector.verify(chunk).await));
        let looks: Vec<_> = looks.collect();
        let mut looks = futures_util::stream::iter(looks).buffer_unordered(CHUNKS_AT_ONCE);
        let mut n_chunks = 0;
        while let Some((chunk, found)) = looks.next().await {
            n_chunks += 1;
            match found {
                Ok(()) => {}
                Err(
                    error @ (streams_lts::Error::Corrupt { .. }
                    | streams_lts::Error::NotFound { .. }),
                ) => {
                    let place = format!("{}, chunk {}", self.place, chunk.name());
                    self.teller.find(place, error);
                }
                Err(error) => return Err(unavailable(&error)),
            }
            let place = &self.place;
            self.teller
                .progress(|| format!("{place}: {n_chunks} of {} chunks", chunks.len()));
        }
        Ok(())
    }

    /// They are all there, each of a later owner than the one before.
    async fn manifests(&mut self, known: u64) -> Result<()> {
        let listing = self.inspector.list().await;
        let listing = listing.map_err(|error| unavailable(&error))?;
        let last = listing.manifests.last().copied().unwrap_or(0);
        if last < known {
            let what = format!("manifest {known} is gone, and {last} is the last one");
            self.teller.find(&self.place, what);
        }
        let mut before = None;
        for (number, expected) in listing.manifests.iter().zip(1..) {
            let place = format!("{}, manifest {number}", self.place);
            if *number != expected {
                let what = format!("there is no manifest {expected}");
                self.teller.find(&self.place, what);
                break;
            }
            match self.inspector.manifest(*number).await {
                Ok(owner) if before >= Some(owner.epoch) => {
                    self.teller
                        .find(place, "its owner is not later than the one before");
                }
                Ok(owner) => before = Some(owner.epoch),
                Err(error @ streams_lts::Error::Unavailable { .. }) => {
                    return Err(unavailable(&error));
                }
                Err(error) => self.teller.find(place, error),
            }
        }
        Ok(())
    }
}

fn unavailable(error: &streams_lts::Error) -> Error {
    let source = std::error::Error::source(error);
    let source = source.map_or_else(String::new, |source| format!(": {source}"));
    Error::unavailable(format!("{error}{source}"))
}
