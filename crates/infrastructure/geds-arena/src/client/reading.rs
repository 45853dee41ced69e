//! What this process has been lent to read, by name.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use geds_core::extents::{PAGE_BYTES, SegmentNo};
use geds_core::{Error, Kind, Result};

use super::link::{Link, unexpected};
use super::space::Space;
use crate::lock;
use crate::memory::{Memory, Window};
use crate::object::{Opened, Pieces};
use crate::pins::{self, Pin};
use crate::share::lent::SLOTS;
use crate::wire::{Place, Reply, Request};

/// How often an object may be replaced or taken away while it is being opened.
const TRIES: usize = 16;

#[derive(Debug)]
pub(super) struct Reading {
    link: Arc<Link>,
    known: Mutex<Known>,
    /// Segments of others.
    memory: Mutex<HashMap<SegmentNo, Arc<Memory>>>,
}

#[derive(Debug, Default)]
struct Known {
    by_name: HashMap<Box<[u8]>, Entry>,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    lent: Arc<Lent>,
    /// Of the name, before it was looked up.
    version: u64,
    last_use: u64,
}

/// What the agent lends until it revokes it.
#[derive(Debug)]
struct Lent {
    slot: u32,
    generation: u32,
    windows: Box<[Window]>,
    len: u64,
    meta: Arc<[u8]>,
}

/// Keeps the agent from using the pages again.
#[derive(Debug)]
struct Pinned {
    link: Arc<Link>,
    lent: Arc<Lent>,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let Lent { slot, .. } = *self.lent;
        let word = self.link.slot(slot).expect("it was pinned there");
        if let Some(generation) = pins::unpin(word) {
            self.link.done(slot, generation);
        }
    }
}

impl Pieces for Pinned {
    fn piece(&self, idx: usize) -> Option<&[u8]> {
        self.lent.windows.get(idx).map(|window| &**window)
    }
}

/// Bytes of an object that was not lent.
#[derive(Debug)]
struct Copied(Vec<u8>);

impl Pieces for Copied {
    fn piece(&self, idx: usize) -> Option<&[u8]> {
        (idx == 0).then_some(&*self.0)
    }
}

/// What the agent says of a name.
enum Found {
    Lent(Lent),
    NotLent { is_over_quota: bool, what: NotLent },
}

/// What comes of opening a name, with what is said of the object.
pub(super) enum Opening {
    Lent(Opened, Arc<[u8]>),
    NotLent(NotLent),
}

/// An object that can be copied.
pub(super) struct NotLent {
    object: u64,
    len: u64,
    meta: Arc<[u8]>,
}

fn too_fast() -> Error {
    let what = "the object is replaced faster than it is opened";
    Error::new(Kind::Unavailable, what)
}

impl Reading {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            known: Mutex::default(),
            memory: Mutex::default(),
        }
    }

    /// Where it lies, or a copy of it.
    pub(super) fn open(&self, name: &[u8], space: &Space) -> Result<(Opened, Arc<[u8]>)> {
        for _ in 0..TRIES {
            match self.open_lent(name, space)? {
                Opening::Lent(opened, meta) => return Ok((opened, meta)),
                Opening::NotLent(NotLent { object, len, meta }) => {
                    if let Some(copy) = self.copy(name, object, len)? {
                        return Ok((Opened::new(len, Arc::new(copy)), meta));
                    }
                }
            }
        }
        Err(too_fast())
    }

    /// Where it lies, if the agent lends it.
    pub(super) fn open_lent(&self, name: &[u8], space: &Space) -> Result<Opening> {
        if let Some(lent) = self.recall(name)
            && let Some((opened, meta)) = self.pin(lent)?
        {
            return Ok(Opening::Lent(opened, meta));
        }
        for _ in 0..TRIES {
            let version = self.link.version_of(name);
            match self.ask(name, space)? {
                Found::Lent(lent) => {
                    if lock(&self.known).by_name.len() >= SLOTS as usize {
                        self.give_back(0)?;
                    }
                    let lent = self.remember(name, lent, version);
                    if let Some((opened, meta)) = self.pin(lent)? {
                        return Ok(Opening::Lent(opened, meta));
                    }
                }
                Found::NotLent {
                    is_over_quota,
                    what,
                } => {
                    let may_fit = is_over_quota && what.len <= self.link.quota_bytes;
                    if !may_fit || !self.give_back(what.len)? {
                        return Ok(Opening::NotLent(what));
                    }
                }
            }
        }
        Err(too_fast())
    }

    /// What was lent for this name, if the name has not been given other data since.
    fn recall(&self, name: &[u8]) -> Option<Arc<Lent>> {
        let mut known = lock(&self.known);
        known.uses += 1;
        let uses = known.uses;
        let entry = known.by_name.get_mut(name)?;
        entry.last_use = uses;
        let is_known = !self.link.is_over() && self.link.version_of(name) == entry.version;
        is_known.then(|| Arc::clone(&entry.lent))
    }

    fn remember(&self, name: &[u8], lent: Lent, version: u64) -> Arc<Lent> {
        let lent = Arc::new(lent);
        let mut known = lock(&self.known);
        known.uses += 1;
        let entry = Entry {
            lent: Arc::clone(&lent),
            version,
            last_use: known.uses,
        };
        if let Some(before) = known.by_name.insert(name.into(), entry) {
            let before = before.lent;
            if (before.slot, before.generation) != (lent.slot, lent.generation) {
                self.link.done(before.slot, before.generation);
            }
        }
        lent
    }

    /// `None`: the agent has revoked it.
    fn pin(&self, lent: Arc<Lent>) -> Result<Option<(Opened, Arc<[u8]>)>> {
        match pins::pin(self.link.slot(lent.slot)?, lent.generation) {
            Pin::Pinned => {
                let (len, meta) = (lent.len, Arc::clone(&lent.meta));
                let link = Arc::clone(&self.link);
                let opened = Opened::new(len, Arc::new(Pinned { link, lent }));
                Ok(Some((opened, meta)))
            }
            Pin::Gone(waiting) => {
                if let Some(generation) = waiting {
                    self.link.done(lent.slot, generation);
                }
                Ok(None)
            }
        }
    }

    fn ask(&self, name: &[u8], space: &Space) -> Result<Found> {
        let request = Request::Open { name };
        self.link.call(&request, |reply, _, fds| match reply {
            Reply::Opened {
                slot,
                generation,
                len,
                meta,
                places,
                segments,
            } => {
                self.map(&segments, fds)?;
                Ok(Found::Lent(Lent {
                    slot,
                    generation,
                    windows: self.windows(&places, len, space)?,
                    len,
                    meta: meta.into(),
                }))
            }
            Reply::NotLent {
                is_over_quota,
                object,
                len,
                meta,
            } => Ok(Found::NotLent {
                is_over_quota,
                what: NotLent {
                    object,
                    len,
                    meta: meta.into(),
                },
            }),
            _ => Err(unexpected()),
        })
    }

    fn map(&self, segments: &[u64], fds: Vec<OwnedFd>) -> Result<()> {
        let mut memory = lock(&self.memory);
        for (segment, fd) in segments.iter().zip(fds) {
            let mapped = Memory::of_others(fd, self.link.segment_bytes);
            let mapped = mapped.map_err(|error| Error::io("map a segment", error))?;
            memory.insert(SegmentNo(*segment), Arc::new(mapped));
        }
        Ok(())
    }

    fn windows(&self, places: &[Place], len: u64, space: &Space) -> Result<Box<[Window]>> {
        let memory = lock(&self.memory);
        let mut left = len;
        let mut windows = Vec::with_capacity(places.len());
        for place in places {
            let segment = SegmentNo(place.segment);
            let memory = memory.get(&segment).cloned();
            let memory = memory
                .or_else(|| space.memory(segment))
                .ok_or_else(unexpected)?;
            let now = left.min(u64::from(place.pages) * PAGE_BYTES);
            let offset = u64::from(place.first) * PAGE_BYTES;
            windows.push(Window::new(memory, offset, now).ok_or_else(unexpected)?);
            left -= now;
        }
        if left == 0 {
            Ok(windows.into())
        } else {
            Err(unexpected())
        }
    }

    /// Gives back what was lent and is not open, the longest unused first: `len` bytes if there are as many, and a good part of them, since
    /// to look for them is more work than to borrow some again. Was there any?
    fn give_back(&self, len: u64) -> Result<bool> {
        let mut known = lock(&self.known);
        let mut idle: Vec<(u64, Box<[u8]>)> = Vec::new();
        for (name, entry) in &known.by_name {
            if !pins::is_pinned(self.link.slot(entry.lent.slot)?) {
                idle.push((entry.last_use, name.clone()));
            }
        }
        idle.sort_unstable();
        let mut given_bytes = 0;
        for (n_given, (_, name)) in idle.iter().enumerate() {
            if given_bytes >= len && n_given >= idle.len() / 8 {
                break;
            }
            if let Some(entry) = known.by_name.remove(name) {
                self.link.done(entry.lent.slot, entry.lent.generation);
                given_bytes += entry.lent.len;
            }
        }
        drop(known);
        self.unmap()?;
        Ok(!idle.is_empty())
    }

    /// Unmaps segments that nothing is lent in, so that the agent can use their memory for others.
    fn unmap(&self) -> Result<()> {
        let is_idle = |memory: &Arc<Memory>| Arc::strong_count(memory) == 1;
        let idle: BTreeSet<u64> = {
            let memory = lock(&self.memory);
            let idle = memory.iter().filter(|(_, memory)| is_idle(memory));
            idle.map(|(segment, _)| segment.0).collect()
        };
        if idle.is_empty() {
            return Ok(());
        }
        let segments = idle.iter().copied().collect();
        // No other answer comes between the agent's and the end of this, so none relies on what is removed.
        self.link.call(&Request::Unmapped { segments }, |_, _, _| {
            let mut memory = lock(&self.memory);
            memory.retain(|segment, memory| !idle.contains(&segment.0) || !is_idle(memory));
            Ok(())
        })
    }

    /// `None`: the name has been given other data meanwhile.
    fn copy(&self, name: &[u8], object: u64, len: u64) -> Result<Option<Copied>> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            let position = bytes.len() as u64;
            let request = Request::Copy { name, position };
            let is_same = self.link.call(&request, |reply, rest, _| match reply {
                Reply::Copied { object: same } if same == object && !rest.is_empty() => {
                    bytes.extend_from_slice(rest);
                    Ok(true)
                }
                Reply::Copied { .. } => Ok(false),
                _ => Err(unexpected()),
            });
            if !is_same? {
                return Ok(None);
            }
        }
        Ok(Some(Copied(bytes)))
    }
}
