//! Reading: from memory without a copy, or from the disk.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use super::cached::Open;
use super::disk_reader::OnDisk;
use super::remote::{Arriving, Pinned};
use super::residents::Resident;
use crate::arena::{Object, View};
use crate::core::index::Entry;
use crate::core::to_usize;
use crate::core::victims::Heat;
use crate::error::{Error, Kind, Result};
use crate::site::peers::Elsewhere;
use crate::tier1::Aligned;

/// So much of an object is read from the disk at once.
const PIECE_BYTES: u64 = 1 << 20;

/// An object that is open. Its bytes stay, whatever its name stands for meanwhile.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Read>);

#[derive(Debug)]
struct Read {
    entry: Arc<Entry>,
    content: Content,
    /// Of what is in memory: how warm it is, and all of it, if it is in one piece. Who opens a name again finds them here, and waits for memory no
    /// more often than it has to.
    heat: Option<Heat>,
    view: Option<View>,
}

#[derive(Debug)]
pub(super) enum Content {
    Memory(Arc<Resident>),
    Disk(OnDisk),
    S3(Arc<Pinned>),
    /// S3 is its authority, and has it in blocks, some of which are in memory.
    Cached(Arc<Open>),
    /// At another node.
    Elsewhere(Arc<Elsewhere>),
}

/// The pieces of a [`Reader`], in order.
#[derive(Debug)]
pub struct Pieces {
    reader: Reader,
    range: Range<u64>,
    /// Of what is in S3, once the first was asked for.
    arriving: Option<Arriving>,
}

impl Reader {
    pub(super) fn new(entry: Arc<Entry>, content: Content) -> Self {
        let (heat, view) = match &content {
            Content::Memory(resident) => (Some(resident.heat.clone()), resident.opened.view()),
            Content::Disk(_) | Content::S3(_) | Content::Cached(_) | Content::Elsewhere(_) => {
                (None, None)
            }
        };
        Self(Arc::new(Read {
            entry,
            content,
            heat,
            view,
        }))
    }

    /// Somebody opens it again.
    pub(super) fn touch(&self) {
        if let Some(heat) = &self.0.heat {
            heat.touch();
        }
    }

    /// It was in memory, and has left it since.
    pub(super) fn is_out(&self) -> bool {
        matches!(&self.0.content, Content::Memory(resident) if resident.is_out())
    }

    /// What its name said when it was opened.
    #[must_use]
    pub fn entry(&self) -> &Arc<Entry> {
        &self.0.entry
    }

    pub(super) fn content(&self) -> &Content {
        &self.0.content
    }

    /// Does reading not wait for the disk or for S3?
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        matches!(self.0.content, Content::Memory(_))
    }

    /// Is S3 its authority, so that reading may wait for it?
    #[must_use]
    pub fn is_cached(&self) -> bool {
        matches!(self.0.content, Content::Cached(_))
    }

    /// Is it at another node?
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        matches!(self.0.content, Content::Elsewhere(_))
    }

    /// Has what is at another node stay there as long as it is read here. May wait for that node.
    ///
    /// # Errors
    /// `NotFound`: it is not there any more. `Unavailable`: no node that has it answers.
    pub(super) fn hold(&self) -> Result<()> {
        match &self.0.content {
            Content::Elsewhere(elsewhere) => elsewhere.hold_now(),
            Content::Memory(_) | Content::Disk(_) | Content::S3(_) | Content::Cached(_) => Ok(()),
        }
    }

    /// What other processes of its tenant may see, if it is in memory.
    pub(super) fn object(&self) -> Option<Object> {
        match &self.0.content {
            Content::Memory(resident) => Some(resident.object.clone()),
            Content::Disk(_) | Content::S3(_) | Content::Cached(_) | Content::Elsewhere(_) => None,
        }
    }

    /// All of it, if it is in memory and in one piece.
    #[must_use]
    pub fn view(&self) -> Option<&View> {
        self.0.view.as_ref()
    }

    /// What lies in that range, as far as there is something: where it is in memory, or read from the disk in pieces of at most 1 MiB, one when it
    /// is asked for, or as it comes from S3.
    #[must_use]
    pub fn pieces(&self, range: Range<u64>) -> Pieces {
        Pieces {
            reader: self.clone(),
            range: range.start..range.end.min(self.len()),
            arriving: None,
        }
    }

    /// The same for who must not wait: what is not in memory is read elsewhere.
    #[must_use]
    pub fn stream(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let pieces = self.pieces(range);
        match &self.0.content {
            Content::Memory(_) => stream::iter(pieces.map(|piece| piece.map(Bytes::from))).boxed(),
            Content::Disk(_) => stream::try_unfold(pieces, async |mut pieces| {
                let read = rt::blocking(move || (pieces.next().transpose(), pieces)).await;
                let (piece, pieces) =
                    read.map_err(|error| Error::caused(Kind::Unavailable, "read the disk", error))?;
                Ok(piece?.map(|piece| (Bytes::from(piece), pieces)))
            })
            .boxed(),
            Content::S3(pinned) => {
                let (pinned, range) = (Arc::clone(pinned), pieces.range);
                let begun = async move { pinned.stream(range).await };
                stream::once(begun).try_flatten().boxed()
            }
            Content::Cached(open) => open.stream(pieces.range),
            Content::Elsewhere(elsewhere) => elsewhere.stream(pieces.range),
        }
    }

    /// Copies bytes from `position` on; gives their number, which is less than there is room for only at the end.
    ///
    /// # Errors
    /// `Corrupt`, `Unavailable`: the disk or S3 does not give what was written; `Lost`: somebody else has changed it in S3. What is in `into` then is nothing to rely on.
    pub fn read_at(&self, position: u64, into: &mut [u8]) -> Result<usize> {
        match &self.0.content {
            Content::Memory(resident) => Ok(resident.opened.read_at(position, into)),
            Content::Disk(pinned) => pinned.read_at(position, into),
            Content::S3(pinned) => {
                let n = to_usize(self.len().saturating_sub(position)).min(into.len());
                Arriving::fill(
                    pinned.pieces(position..position + n as u64)?,
                    &mut into[..n],
                )?;
                Ok(n)
            }
            Content::Cached(open) => {
                let n = to_usize(self.len().saturating_sub(position)).min(into.len());
                Arriving::fill(
                    arriving(open, position..position + n as u64),
                    &mut into[..n],
                )?;
                Ok(n)
            }
            Content::Elsewhere(elsewhere) => {
                let n = to_usize(self.len().saturating_sub(position)).min(into.len());
                elsewhere.read_at(position, &mut into[..n])?;
                Ok(n)
            }
        }
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.entry.sealed.size
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn arriving(open: &Arc<Open>, range: Range<u64>) -> Arriving {
    Arriving::new(open.stream(range), open.runtime())
}

/// The next piece from S3, which has all that was asked for.
fn next_from(
    arriving: &mut Option<Arriving>,
    begin: impl FnOnce() -> Result<Arriving>,
) -> Result<View> {
    let arriving = match arriving {
        Some(arriving) => arriving,
        None => arriving.insert(begin()?),
    };
    let mut pieces = arriving.filter(|piece| !matches!(piece, Ok(piece) if piece.is_empty()));
    let ended = || Error::new(Kind::Unavailable, "S3 has ended too early");
    pieces.next().unwrap_or_else(|| Err(ended())).map(View::of)
}

impl Iterator for Pieces {
    type Item = Result<View>;

    fn next(&mut self) -> Option<Result<View>> {
        let Range { start, end } = self.range;
        if start >= end {
            return None;
        }
        let piece = match &self.reader.0.content {
            Content::Memory(resident) => {
                let view = resident.opened.view_from(start)?;
                let len = view.len().min(to_usize(end - start));
                Ok(view.slice(0..len))
            }
            Content::Disk(pinned) => {
                // They end where blocks do, so that none is read twice.
                let until = (start + 1).next_multiple_of(PIECE_BYTES).min(end);
                let mut bytes = Aligned::zeroed(to_usize(until - start));
                let read = pinned.read_at(start, &mut bytes);
                read.map(|_| View::of(bytes))
            }
            Content::S3(pinned) => next_from(&mut self.arriving, || pinned.pieces(start..end)),
            Content::Cached(open) => {
                next_from(&mut self.arriving, || Ok(arriving(open, start..end)))
            }
            Content::Elsewhere(elsewhere) => elsewhere.piece(start..end).map(View::of),
        };
        self.range.start = match &piece {
            Ok(view) => start + view.len() as u64,
            Err(_) => end,
        };
        Some(piece)
    }
}
