//! An object that is sealed: it never changes, wherever its bytes are.

use std::fmt::Debug;
use std::ops::{Deref, Range};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use geds_core::extents::PAGE_BYTES;
use geds_core::sums::{CHUNK_BYTES, chunk_of};
use geds_core::to_usize;
use geds_core::{Error, Kind, Result};

use super::budget::Charge;
use super::domain::Domain;
use super::lock;
use super::memory::{Pages, Part};

/// The number of an object in an arena. It is never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectNo(pub u64);

/// What is counted of all objects of an arena.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub last_object: AtomicU64,
    pub copied_bytes: AtomicU64,
}

/// A sealed object. As long as there is one of these or something that was opened, its pages are not used for anything else.
#[derive(Clone, Debug)]
pub struct Object(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    no: ObjectNo,
    domain: Domain,
    len: u64,
    sums: Box<[u32]>,
    placement: Mutex<Placement>,
    lending: Mutex<Lending>,
    _charges: [Charge; 2],
}

/// Where the bytes of an object are.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    pages: Arc<[Pages]>,
    len: u64,
    /// How much of the last piece is used.
    last_len: usize,
}

impl Object {
    /// It counts as `charges`.
    pub(crate) fn new(
        domain: &Domain,
        placement: Placement,
        sums: Box<[u32]>,
        charges: [Charge; 2],
    ) -> Self {
        Self(Arc::new(Inner {
            no: domain.next_object(),
            domain: domain.clone(),
            len: placement.len,
            sums,
            placement: Mutex::new(placement),
            lending: Mutex::default(),
            _charges: charges,
        }))
    }

    #[must_use]
    pub fn no(&self) -> ObjectNo {
        self.0.no
    }

    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.0.domain
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// What is not for anybody else as long as it is here.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let placement = self.placement();
        let pages = placement.pages().iter().map(Pages::len).sum::<u64>();
        // One without content takes something too.
        pages.max(PAGE_BYTES)
    }

    /// CRC32C of each 64 KiB, as its writer has made them.
    #[must_use]
    pub fn sums(&self) -> &[u32] {
        &self.0.sums
    }

    /// Is it where no other process can write? Else its writer, a client that lives or has lived, may still alter it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.placement().is_foreign()
    }

    /// Has it where no other process can write: if a client wrote it, it is copied, and what does not match the checksums is refused.
    ///
    /// # Errors
    /// `Exhausted`: there is no room for a copy. `Corrupt`: its writer has altered it.
    pub fn settle(&self) -> Result<()> {
        self.settled().map(drop)
    }

    /// Opens it in this process, for as long as the result or a view of it lives. It is settled first: nobody shall have to think about
    /// bytes that change.
    ///
    /// # Errors
    /// Those of [`Self::settle`].
    pub fn open(&self) -> Result<Opened> {
        let source = Source::Placed(self.settled()?);
        let len = self.0.len;
        Ok(Opened { len, source })
    }

    /// Copies bytes from `position` on, without settling it; gives their number. They are checked against the checksums if they are
    /// whole chunks of 64 KiB, and that only.
    ///
    /// # Errors
    /// `Corrupt`: its writer has altered it.
    pub fn read_at(&self, position: u64, into: &mut [u8]) -> Result<usize> {
        let len = self.0.len.saturating_sub(position).min(into.len() as u64);
        let into = &mut into[..to_usize(len)];
        self.0.domain.count_copied(len);
        self.placement().copy_out(position, into);
        let end = position + len;
        for chunk in position.div_ceil(CHUNK_BYTES)..end.div_ceil(CHUNK_BYTES) {
            let range = chunk_of(chunk, self.0.len);
            if range.end <= end {
                let bytes = &into[to_usize(range.start - position)..to_usize(range.end - position)];
                self.check(chunk, bytes)?;
            }
        }
        Ok(into.len())
    }

    fn settled(&self) -> Result<Placement> {
        let placement = self.placement();
        if !placement.is_foreign() {
            return Ok(placement);
        }
        let settled = self.copy_to(&self.0.domain)?;
        *lock(&self.0.placement) = settled.clone();
        self.recall();
        Ok(settled)
    }

    pub(crate) fn copy_to(&self, domain: &Domain) -> Result<Placement> {
        let from = self.placement();
        domain.count_copied(self.0.len);
        let mut writer = domain.writer();
        writer.reserve(self.0.len)?;
        let mut buffer = vec![0; to_usize(self.0.len.min(CHUNK_BYTES))];
        for chunk in 0..self.0.len.div_ceil(CHUNK_BYTES) {
            let range = chunk_of(chunk, self.0.len);
            let bytes = &mut buffer[..to_usize(range.end - range.start)];
            from.copy_out(range.start, bytes);
            self.check(chunk, bytes)?;
            writer.append(bytes)?;
        }
        let written = writer.finish();
        Ok(Placement::new(written.pages, written.len))
    }

    fn check(&self, chunk: u64, bytes: &[u8]) -> Result<()> {
        if self.0.sums[to_usize(chunk)] == crc32c::crc32c(bytes) {
            Ok(())
        } else {
            let what = format!("object {} is not what was sealed", self.0.no.0);
            Err(Error::new(Kind::Corrupt, what))
        }
    }

    pub(crate) fn placement(&self) -> Placement {
        lock(&self.0.placement).clone()
    }

    /// From now on it is not lent to clients, and those that have it open keep it only until they close it.
    pub fn revoke(&self) {
        lock(&self.0.lending).is_over = true;
        self.recall();
    }

    /// Whoever opens it from now on gets it from where it is now.
    fn recall(&self) {
        let lenders = std::mem::take(&mut lock(&self.0.lending).lenders);
        for lender in lenders.iter().filter_map(Weak::upgrade) {
            lender.revoke(self.0.no);
        }
    }

    /// Who lends it is told when it is revoked. Not if it is.
    pub(crate) fn lend(&self, lender: Weak<dyn Lender>) -> bool {
        let mut lending = lock(&self.0.lending);
        if !lending.is_over {
            lending
                .lenders
                .retain(|other| other.strong_count() > 0 && !other.ptr_eq(&lender));
            lending.lenders.push(lender);
        }
        !lending.is_over
    }

    pub(crate) fn is_revoked(&self) -> bool {
        lock(&self.0.lending).is_over
    }

    pub(crate) fn downgrade(&self) -> WeakObject {
        WeakObject(Arc::downgrade(&self.0))
    }
}

/// Who has lent an object to a client.
pub(crate) trait Lender: Debug + Send + Sync {
    fn revoke(&self, object: ObjectNo);
}

#[derive(Debug, Default)]
struct Lending {
    lenders: Vec<Weak<dyn Lender>>,
    is_over: bool,
}

#[derive(Debug)]
pub(crate) struct WeakObject(Weak<Inner>);

impl WeakObject {
    pub(crate) fn upgrade(&self) -> Option<Object> {
        self.0.upgrade().map(Object)
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Placement {
    /// The pages are as many as the bytes need.
    pub(crate) fn new(pages: Vec<Pages>, len: u64) -> Self {
        let before: u64 = pages.iter().rev().skip(1).map(Pages::len).sum();
        Self {
            pages: pages.into(),
            len,
            last_len: to_usize(len - before),
        }
    }

    pub(crate) fn pages(&self) -> &[Pages] {
        &self.pages
    }

    /// Of all of its pages.
    pub(crate) fn bytes(&self) -> u64 {
        self.pages.iter().map(Pages::len).sum()
    }

    pub(crate) fn is_foreign(&self) -> bool {
        self.pages.iter().any(Pages::is_foreign)
    }

    fn copy_out(&self, mut position: u64, mut into: &mut [u8]) {
        for pages in &*self.pages {
            if position < pages.len() && !into.is_empty() {
                let len = into.len().min(to_usize(pages.len() - position));
                let (now, later) = into.split_at_mut(len);
                pages.copy_out(position, now);
                into = later;
                position = pages.len();
            }
            position = position.saturating_sub(pages.len());
        }
    }
}

/// Bytes that stay as long as they are asked for.
pub(crate) trait Pieces: Debug + Send + Sync {
    /// `None` behind the last one.
    fn piece(&self, idx: usize) -> Option<&[u8]>;
}

impl Pieces for Placement {
    fn piece(&self, idx: usize) -> Option<&[u8]> {
        let bytes = self.pages.get(idx)?.bytes();
        let is_last = idx + 1 == self.pages.len();
        Some(if is_last {
            &bytes[..self.last_len]
        } else {
            bytes
        })
    }
}

/// What keeps bytes: pages of this process, without another indirection, or something else.
#[derive(Clone, Debug)]
enum Source {
    Placed(Placement),
    Other(Arc<dyn Pieces>),
}

impl Source {
    fn piece(&self, idx: usize) -> Option<&[u8]> {
        match self {
            Self::Placed(placement) => placement.piece(idx),
            Self::Other(pieces) => pieces.piece(idx),
        }
    }

    /// The first `len` bytes of a piece.
    fn view(&self, idx: usize, len: usize) -> View {
        View(match self {
            Self::Placed(placement) => Seen::Placed(Part::new(&placement.pages, idx, 0..len)),
            Self::Other(pieces) => Seen::Other {
                pieces: Arc::clone(pieces),
                idx,
                range: 0..len,
            },
        })
    }
}

/// An object that is open for reading.
#[derive(Clone, Debug)]
pub struct Opened {
    len: u64,
    source: Source,
}

impl Opened {
    pub(crate) fn new(len: u64, pieces: Arc<dyn Pieces>) -> Self {
        let source = Source::Other(pieces);
        Self { len, source }
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of it, if it lies in one piece, as it does if it is not longer than a segment and memory was not short when it was written.
    #[must_use]
    pub fn view(&self) -> Option<View> {
        let view = self.views().next();
        let view = view.unwrap_or_else(|| self.source.view(0, 0));
        (view.len() as u64 == self.len).then_some(view)
    }

    /// The rest of the piece that has `position`; `None` behind the end.
    #[must_use]
    pub fn view_from(&self, position: u64) -> Option<View> {
        let mut start = 0;
        let mut views = self.views().map(|view| {
            let at = start;
            start += view.len() as u64;
            (at, view)
        });
        let (start, view) = views.find(|(at, view)| position < at + view.len() as u64)?;
        let skipped = to_usize(position - start);
        Some(view.slice(skipped..view.len()))
    }

    /// Its pieces, in order.
    pub fn views(&self) -> impl Iterator<Item = View> + '_ {
        let pieces = (0..).map_while(|idx| Some((idx, self.source.piece(idx)?.len())));
        pieces.map(|(idx, len)| self.source.view(idx, len))
    }

    /// Copies bytes from `position` on; gives their number.
    pub fn read_at(&self, mut position: u64, into: &mut [u8]) -> usize {
        let mut n_read = 0;
        for piece in (0..).map_while(|idx| self.source.piece(idx)) {
            let len = piece.len() as u64;
            if position < len && n_read < into.len() {
                let bytes = &piece[to_usize(position)..];
                let n_now = bytes.len().min(into.len() - n_read);
                into[n_read..n_read + n_now].copy_from_slice(&bytes[..n_now]);
                n_read += n_now;
                position = len;
            }
            position = position.saturating_sub(len);
        }
        n_read
    }
}

/// Bytes of an object, where they lie. Nothing is copied to make one, nor to make `Bytes` of one.
#[derive(Clone, Debug)]
pub struct View(Seen);

#[derive(Clone, Debug)]
enum Seen {
    Placed(Part),
    Other {
        pieces: Arc<dyn Pieces>,
        idx: usize,
        range: Range<usize>,
    },
}

/// Bytes that are nobody else's.
#[derive(Debug)]
struct Own<T>(T);

impl<T: Deref<Target = [u8]> + Debug + Send + Sync> Pieces for Own<T> {
    fn piece(&self, idx: usize) -> Option<&[u8]> {
        (idx == 0).then_some(&self.0)
    }
}

impl View {
    /// Of bytes that lie in no arena.
    pub fn of(bytes: impl Deref<Target = [u8]> + Debug + Send + Sync + 'static) -> Self {
        let range = 0..bytes.len();
        Self(Seen::Other {
            pieces: Arc::new(Own(bytes)),
            idx: 0,
            range,
        })
    }

    /// A part of it.
    ///
    /// # Panics
    /// If `range` is not within it.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "a part is inside"
        );
        Self(match &self.0 {
            Seen::Placed(part) => Seen::Placed(part.slice(range)),
            Seen::Other {
                pieces,
                idx,
                range: of,
            } => Seen::Other {
                pieces: Arc::clone(pieces),
                idx: *idx,
                range: of.start + range.start..of.start + range.end,
            },
        })
    }
}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Seen::Placed(part) => part,
            // An object of no bytes has no pieces.
            Seen::Other { pieces, idx, range } => {
                &pieces.piece(*idx).unwrap_or_default()[range.clone()]
            }
        }
    }
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<View> for Bytes {
    fn from(view: View) -> Self {
        Self::from_owner(view)
    }
}
