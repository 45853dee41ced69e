//! A tenant, or whatever else shall not see what others have: objects, the memory they lie in, and a share of the limit.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use geds_core::extents::PAGE_BYTES;
use geds_core::sums::CHUNK_BYTES;
use geds_core::{Error, Kind, Result};

use super::budget::{Budget, Charge};
use super::memory::{Home, Words};
use super::object::{Counts, Object, ObjectNo, Placement};
use super::pool::Pool;
use super::segments::{Owner, Segments};
use super::writer::{Writer, Written};

/// What an object takes beside its pages: itself, what says where they are, and its checksums.
const OBJECT_BYTES: u64 = 240;
const EXTENT_BYTES: u64 = 48;
const SUM_BYTES: u64 = 4;

/// How many names can be told apart by clients that ask whether one was given other data.
pub(crate) const BOARD_WORDS: usize = 1024;

#[derive(Clone, Debug)]
pub struct Domain(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    segments: Arc<Segments>,
    counts: Arc<Counts>,
    budget: Arc<Budget>,
    /// What clients were lent: half of the memory can always be used for something else.
    lent: Arc<Budget>,
    /// What the agent writes.
    pool: Arc<Pool>,
    /// Which names were given other data, told by all who do it.
    board: Words,
    board_fd: OwnedFd,
    _charges: [Charge; 2],
}

impl Domain {
    pub(crate) fn new(
        segments: Arc<Segments>,
        counts: Arc<Counts>,
        limit_bytes: u64,
    ) -> Result<Self> {
        let budget = Budget::new(limit_bytes);
        let charges = segments.charge(Words::bytes(BOARD_WORDS), &budget)?;
        let board = Words::create(BOARD_WORDS);
        let (board, board_fd) = board.map_err(|error| Error::io("make a board", error))?;
        Ok(Self(Arc::new(Inner {
            pool: Pool::new(Owner::Agent, Arc::clone(&segments), Arc::clone(&budget)),
            segments,
            counts,
            budget,
            lent: Budget::new(limit_bytes / 2),
            board,
            board_fd,
            _charges: charges,
        })))
    }

    /// Begins an object in this process.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer::new(self.home())
    }

    /// Ends the writing of an object, which is settled.
    ///
    /// # Errors
    /// `Exhausted`: there is no room for one more. `Invalid`: the writer is not of this domain.
    pub fn seal(&self, writer: Writer) -> Result<Object> {
        let charges = self.admission(&writer)?;
        self.seal_admitted(writer, charges)
    }

    /// What an object takes beside its pages.
    ///
    /// # Errors
    /// `Exhausted`: there is no room for one more.
    pub fn admission(&self, writer: &Writer) -> Result<[Charge; 2]> {
        self.charge(object_bytes(
            writer.pieces(),
            writer.len().div_ceil(CHUNK_BYTES),
        ))
    }

    /// The same as [`seal`](Self::seal) for one that was admitted.
    ///
    /// # Errors
    /// `Invalid`: the writer is not of this domain.
    pub fn seal_admitted(&self, writer: Writer, charges: [Charge; 2]) -> Result<Object> {
        if !writer.is_at(&self.home()) {
            let what = "an object is sealed in the domain in which it was begun";
            return Err(Error::new(Kind::Invalid, what));
        }
        let Written { pages, len, sums } = writer.finish();
        Ok(Object::new(self, Placement::new(pages, len), sums, charges))
    }

    /// Copies an object of any domain into this one. Memory is not shared between domains.
    ///
    /// # Errors
    /// `Exhausted`: there is no room. `Corrupt`: its writer has altered it.
    pub fn copy(&self, object: &Object) -> Result<Object> {
        let placement = object.copy_to(self)?;
        let charges = self.charge(bytes_of(&placement, object.sums()))?;
        Ok(Object::new(self, placement, object.sums().into(), charges))
    }

    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.0.budget.used_bytes()
    }

    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.0.budget.limit_bytes()
    }

    /// Counts `bytes` that somebody else uses for the objects of this domain, such as their names.
    ///
    /// # Errors
    /// `Exhausted`.
    pub fn charge(&self, bytes: u64) -> Result<[Charge; 2]> {
        self.0.segments.charge(bytes, &self.0.budget)
    }

    pub(crate) fn charge_lent(&self, bytes: u64) -> Result<Charge> {
        self.0.lent.charge(bytes)
    }

    /// Could a client write so many bytes that has no memory yet?
    ///
    /// # Errors
    /// `Exhausted`.
    pub fn try_room_of_client(&self, bytes: u64) -> Result<()> {
        let pool = self.client_pool();
        let mut n_left = bytes.div_ceil(PAGE_BYTES);
        while n_left > 0 {
            let pages = u32::try_from(n_left).unwrap_or(u32::MAX);
            let extent = pool.lease(1, pages.min(self.segment_pages()))?;
            n_left = n_left.saturating_sub(u64::from(extent.pages));
        }
        Ok(())
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The memory of one client.
    pub(crate) fn client_pool(&self) -> Arc<Pool> {
        let budget = Arc::clone(&self.0.budget);
        Pool::new(Owner::Client, Arc::clone(&self.0.segments), budget)
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.0.segments.segment_bytes
    }

    /// Of an object that a client has sealed, and perhaps told others of: it is not refused for what it takes beside its pages. That is
    /// the less, the more its pages are, and those were counted before.
    pub(crate) fn admit(&self, placement: Placement, sums: Box<[u32]>) -> Result<Object> {
        let bytes = bytes_of(&placement, &sums);
        let charges = match self.charge(bytes) {
            Err(_) if !placement.pages().is_empty() => {
                [&self.0.segments.budget, &self.0.budget].map(|budget| budget.overcharge(bytes))
            }
            charges => charges?,
        };
        Ok(Object::new(self, placement, sums, charges))
    }

    /// Tells clients that a name stands for something else: what they know of it is looked up again.
    pub fn touch(&self, name: &[u8]) {
        touch(&self.0.board, name);
    }

    pub(crate) fn board_fd(&self) -> Result<OwnedFd> {
        let fd = self.0.board_fd.try_clone();
        fd.map_err(|error| Error::io("give the board to a client", error))
    }

    pub(crate) fn segment_pages(&self) -> u32 {
        self.0.segments.segment_pages()
    }

    pub(crate) fn next_object(&self) -> ObjectNo {
        // A count orders nothing else.
        ObjectNo(self.0.counts.last_object.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn count_copied(&self, bytes: u64) {
        self.0
            .counts
            .copied_bytes
            .fetch_add(bytes, Ordering::Relaxed);
    }

    fn home(&self) -> Arc<dyn Home> {
        Arc::<Pool>::clone(&self.0.pool)
    }
}

/// The word that counts how often a name, or another one with the same hash, was given other data.
pub(crate) fn word_of<'a>(board: &'a Words, name: &[u8]) -> &'a AtomicU64 {
    &board[crc32c::crc32c(name) as usize % BOARD_WORDS]
}

pub(crate) fn touch(board: &Words, name: &[u8]) {
    word_of(board, name).fetch_add(1, Ordering::SeqCst);
}

fn bytes_of(placement: &Placement, sums: &[u32]) -> u64 {
    object_bytes(placement.pages().len(), sums.len() as u64)
}

fn object_bytes(n_extents: usize, n_sums: u64) -> u64 {
    OBJECT_BYTES + EXTENT_BYTES * n_extents as u64 + SUM_BYTES * n_sums
}
