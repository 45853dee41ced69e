//! Segment files that are ready: zeroed, and with all their room taken, so that a sync of what is written to them has no metadata to write.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, DiskFile};
use crate::error::during;
use crate::{Error, lock};

/// So much is written and synced at a time, lest the syncs of the log wait for all of it.
const ZEROS: &[u8] = &[0; 1 << 20];
pub(crate) const PREFIX: &str = "spare-";

#[derive(Debug)]
pub(crate) struct Spare {
    pub name: String,
    pub file: Arc<dyn DiskFile>,
    pub bytes: u64,
}

/// Makes them.
#[derive(Debug)]
pub(crate) struct Spares {
    disk: Arc<dyn Disk>,
    epoch: u64,
    segment_bytes: u64,
    is_closing: AtomicBool,
    /// Held while one is made, so that who needs one waits for it.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    n_made: u64,
    ready: Option<Spare>,
}

impl Spares {
    pub(crate) fn new(disk: Arc<dyn Disk>, epoch: u64, segment_bytes: u64) -> Self {
        Self {
            disk,
            epoch,
            segment_bytes,
            is_closing: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Whose it is. `None`: it is not the name of a spare.
    pub(crate) fn epoch_of(file_name: &str) -> Option<u64> {
        let (epoch, _) = file_name.strip_prefix(PREFIX)?.split_once('-')?;
        u64::from_str_radix(epoch, 16).ok()
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// The one that is ready, or another.
    pub(crate) fn take(&self) -> Result<Spare, Error> {
        let mut state = lock(&self.state);
        match state.ready.take() {
            Some(spare) => Ok(spare),
            None => self.make(&mut state, self.segment_bytes, &|| true),
        }
    }

    /// The one that is ready.
    pub(crate) fn take_ready(&self) -> Option<Spare> {
        lock(&self.state).ready.take()
    }

    /// Ends what [`make_ready`](Self::make_ready) is doing, and keeps it from doing more.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    /// Has one ready for the next [`take`](Self::take).
    pub(crate) fn make_ready(&self) -> Result<(), Error> {
        let mut state = lock(&self.state);
        if state.ready.is_none() {
            let is_wanted = || !self.is_closing.load(Ordering::Relaxed);
            state.ready = Some(self.make(&mut state, self.segment_bytes, &is_wanted)?);
        }
        Ok(())
    }

    /// One of that size; when there is no room for it, one of `least` bytes.
    pub(crate) fn take_first(&self, bytes: u64, least: u64) -> Result<Spare, Error> {
        let mut state = lock(&self.state);
        match self.make(&mut state, bytes, &|| true) {
            Err(Error::Full) => self.make(&mut state, least, &|| true),
            result => result,
        }
    }

    fn make(
        &self,
        state: &mut State,
        bytes: u64,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Spare, Error> {
        let name = format!("{PREFIX}{:016x}-{:016x}", self.epoch, state.n_made);
        state.n_made += 1;
        let made = self.disk.create(&name).and_then(|file| {
            if let Err(error) = fill(&*file, bytes, is_wanted) {
                self.disk.remove(&name)?;
                return Err(error);
            }
            Ok(file)
        });
        match made {
            Err(error) if durable::is_full(&error) => Err(Error::Full),
            made => Ok(Spare {
                name,
                file: during("make a segment file", made)?,
                bytes,
            }),
        }
    }
}

fn fill(file: &dyn DiskFile, bytes: u64, is_wanted: &dyn Fn() -> bool) -> io::Result<()> {
    file.allocate(bytes)?;
    let mut offset = 0;
    while offset < bytes {
        if !is_wanted() {
            return Err(io::Error::other("nobody waits for it"));
        }
        let n = (bytes - offset).min(ZEROS.len() as u64);
        let zeros = usize::try_from(n).map_or(ZEROS, |n| &ZEROS[..n]);
        file.write_at(zeros, offset)?;
        file.sync()?;
        offset += n;
    }
    Ok(())
}
