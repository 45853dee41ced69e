//! What a new owner finds.

use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, OnceLock};

use geds_core::extents::PAGE_BYTES;
use wal::{Disk, DurableLog, Position};

use super::error::{Error, Result, during};
use super::format::{Body, Head, RECORD_HEAD_BYTES_MAX, Record};
use super::keeping::Keeping;
use super::segments::Segments;
use super::snapshots::{Loaded, Snapshots};
use super::store::{Config, Inner, State, Store};
use crate::core::catalogue::{BLOCK_BYTES, Clash, Replay, What};

/// The records of the store in its log, visited in order by who recovers several logs in one pass, when all that was appended is durable.
#[derive(Debug, Default)]
pub struct Recovery {
    replay: Replay,
    last: Position,
}

impl Recovery {
    /// Takes the next record.
    ///
    /// # Errors
    /// `Corrupt`: it is not one of ours.
    pub fn visit(&mut self, position: Position, bytes: &[u8]) -> Result<()> {
        let record = Record::parse(bytes).map_err(|malformed| {
            Error::Damaged(format!("the record at {position}: {}", malformed.0))
        })?;
        self.last = position;
        for id in record.freed {
            self.replay.free(id);
        }
        match record.body {
            Body::Small(id, sum, bytes) => {
                let sums = if bytes.is_empty() {
                    Vec::new()
                } else {
                    vec![sum]
                };
                self.replay.stage(id, bytes, sums.into(), position);
            }
            Body::Entries(entries) => {
                for entry in entries {
                    self.replay.place(entry);
                }
            }
            Body::Nothing => {}
        }
        Ok(())
    }
}

impl Store {
    /// Opens what is in `disk` and the log that belongs to it, or begins anew if there is nothing in either. Nobody else may use the disk;
    /// [`Drive`](super::Drive) sees to that. Its files share the directory with others whose names do not begin with `tier1-`.
    ///
    /// # Errors
    /// `Corrupt`: what was written is not there any more; `Invalid`: the config makes no sense; `Exhausted`, `Unavailable`.
    pub fn open(config: &Config, disk: Arc<dyn Disk>, log: Arc<dyn DurableLog>) -> Result<Self> {
        // It may be that of an owner that has just gone.
        log.barrier().wait()?;
        let mut recovery = Recovery::default();
        let mut visited = Ok(());
        log.read(log.start(), &mut |position, bytes| {
            visited = recovery.visit(position, bytes);
            match visited {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        visited?;
        Self::open_recovered(config, disk, log, recovery)
    }

    /// The same when all of the log has been visited.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_recovered(
        config: &Config,
        disk: Arc<dyn Disk>,
        log: Arc<dyn DurableLog>,
        recovery: Recovery,
    ) -> Result<Self> {
        Self::start(Arc::new(recover(config, disk, log, recovery)?))
    }
}

pub(super) fn recover(
    config: &Config,
    disk: Arc<dyn Disk>,
    log: Arc<dyn DurableLog>,
    recovery: Recovery,
) -> Result<Inner> {
    let (config, pages) = check(config, &*log)?;
    let (snapshots, heads) = during("open the catalogue", Snapshots::open(&*disk))?;
    let (segments, sizes) = during("open the segment files", Segments::open(disk, pages))?;
    let is_new = heads == [None; 2] && recovery.replay.is_empty() && sizes.is_empty();
    let (editions, loaded) = if is_new {
        ([0; 2], None)
    } else {
        let (copy, head, loaded) = newest(&snapshots, heads, &*log)?;
        // What is not known to be whole is written over first.
        let mut editions = [0; 2];
        editions[copy] = head.edition;
        (editions, Some(loaded))
    };
    let catalogue = recovery.replay.finish(loaded.into_iter().flatten(), sizes);
    let catalogue = catalogue.map_err(|Clash(id)| {
        Error::Damaged(format!("{id:?} is said to lie where something else does"))
    })?;
    for (_, what) in catalogue.after(None) {
        if let What::Lying(lying) = what {
            let highest = lying.extents.iter().map(|extent| extent.segment).max();
            highest
                .into_iter()
                .for_each(|segment| segments.skip(segment));
        }
    }
    let state = State {
        catalogue,
        log_start: log.start(),
        log_tail: recovery.last,
        failure: None,
        holds_freed: false,
        n_waiting: 0,
        n_checkpoints: 0,
    };
    let inner = Inner {
        config,
        log,
        segments,
        snapshots,
        state: Mutex::new(state),
        room: Condvar::new(),
        keeping: Mutex::new(Keeping { editions }),
        growing: Mutex::default(),
        keeper: OnceLock::new(),
    };
    if is_new {
        // From here on, a catalogue that is gone is a loss.
        inner.checkpoint(&mut inner.keeping())?;
    }
    Ok(inner)
}

/// What can be kept of the settings, and how many pages a segment has.
fn check(config: &Config, log: &dyn DurableLog) -> Result<(Config, u32)> {
    let pages = u32::try_from(config.segment_bytes / PAGE_BYTES).unwrap_or(u32::MAX);
    let segment_bytes = u64::from(pages) * PAGE_BYTES;
    if pages == 0 || segment_bytes > config.limit_bytes {
        return Err(Error::Invalid("the limit leaves no room for a segment"));
    }
    let room = log.record_bytes_max().saturating_sub(RECORD_HEAD_BYTES_MAX);
    let small_bytes_max = config.small_bytes_max.min(BLOCK_BYTES).min(room);
    let config = Config {
        segment_bytes,
        small_bytes_max,
        staged_bytes_max: config.staged_bytes_max.max(small_bytes_max),
        ..*config
    };
    Ok((config, pages))
}

/// The newest snapshot that is whole, and that the log goes on from.
fn newest(
    snapshots: &Snapshots,
    heads: [Option<Head>; 2],
    log: &dyn DurableLog,
) -> Result<(usize, Head, Loaded)> {
    let goes_on = |head: &Head| {
        log.start() <= head.position && head.position <= log.end() && head.epoch <= log.epoch().0
    };
    let heads = heads.into_iter().enumerate();
    let mut heads: Vec<_> = heads
        .filter_map(|(copy, head)| Some((copy, head.filter(goes_on)?)))
        .collect();
    heads.sort_by_key(|(_, head)| std::cmp::Reverse(head.edition));
    for (copy, head) in heads {
        if let Some(loaded) = during("read the catalogue", snapshots.load(copy, head))? {
            return Ok((copy, head, loaded));
        }
    }
    Err(Error::Damaged(
        "there is no snapshot of the catalogue that the log goes on from".into(),
    ))
}
