//! What tier 1 writes, as bytes: its records in the log, and snapshots of the catalogue. Everything is little-endian.
//!
//! ```text
//! record   = version u8 (1) · kind u8 · n u16 · n × id, of objects that are freed · (small | entries | nothing)
//! small    = id · crc32c of the bytes u32 · the bytes of an object of one block at most            kind 1
//! entries  = entry · entry*                                                                         kind 2
//! nothing                                                                                            kind 3
//! id       = node u32 · epoch u64 · serial u64
//! entry    = id · len u64 · n u32 · n × (segment u64 · first page u32 · pages u32) · crc32c of each block of 64 KiB u32
//!            n: with its highest bit, if the object was made of others
//!
//! snapshot = head · zeros to 4 KiB · block*
//! head     = magic "CSKNTIR1" · edition u64 · position u64 · epoch u64 · blocks u64 · entries u64 · crc32c of the rest u32
//! block    = crc32c of the edition, the block's number and the rest u32 · len u32 · payload · zeros to 64 KiB
//! ```
//! The payloads one after the other are entries. A block of another edition is no block of this one, so a file is written over without being
//! cleared. Records are checked by the log against changes; here, that they make sense.

use crc32c::{crc32c, crc32c_append};
use geds_core::extents::{PAGE_BYTES, SegmentNo};
use wal::Position;

use crate::core::catalogue::{BLOCK_BYTES, Entry, Few, Id, Place, Weight, blocks_of, pages_of};

const VERSION: u8 = 1;
const SMALL: u8 = 1;
const ENTRIES: u8 = 2;
const NOTHING: u8 = 3;

/// That an object was made of others is said with the number of its places.
const JOINED: u32 = 1 << 31;

const HEAD_RECORD_BYTES: usize = 4;
const ID_BYTES: usize = 20;
const SMALL_HEAD_BYTES: usize = ID_BYTES + 4;
/// So many objects are freed by one record.
pub(crate) const FREED_MAX: usize = 64;
/// What a record takes at most besides its entries, or the bytes of its small object.
pub(crate) const RECORD_HEAD_BYTES_MAX: u64 =
    (HEAD_RECORD_BYTES + FREED_MAX * ID_BYTES + SMALL_HEAD_BYTES) as u64;

/// Why bytes are none of these things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub &'static str);

/// That the objects are freed rides along with what is written anyway, since nobody waits for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub freed: Vec<Id>,
    pub body: Body<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    Small(Id, u32, &'a [u8]),
    Entries(Vec<Entry>),
    Nothing,
}

/// What a record says besides the objects that are freed; the bytes of a small one follow.
#[derive(Debug)]
pub(crate) struct Said {
    kind: u8,
    bytes: Vec<u8>,
}

impl Said {
    pub(crate) fn small(id: Id, sum: u32) -> Self {
        Self {
            kind: SMALL,
            bytes: [&id_bytes(id)[..], &sum.to_le_bytes()].concat(),
        }
    }

    pub(crate) fn entries<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut bytes = Vec::new();
        for entry in entries {
            push_entry(&mut bytes, entry);
        }
        let kind = ENTRIES;
        Self { kind, bytes }
    }

    pub(crate) fn nothing() -> Self {
        Self {
            kind: NOTHING,
            bytes: Vec::new(),
        }
    }

    /// The beginning of the record.
    pub(crate) fn with_freed(&self, freed: &[Id]) -> Vec<u8> {
        let n_freed = u16::try_from(freed.len()).expect("at most FREED_MAX");
        let mut bytes = vec![VERSION, self.kind];
        bytes.extend(n_freed.to_le_bytes());
        bytes.extend(freed.iter().flat_map(|id| id_bytes(*id)));
        bytes.extend(&self.bytes);
        bytes
    }
}

fn id_bytes(id: Id) -> [u8; ID_BYTES] {
    let mut bytes = [0; ID_BYTES];
    bytes[..4].copy_from_slice(&id.node.to_le_bytes());
    bytes[4..12].copy_from_slice(&id.epoch.to_le_bytes());
    bytes[12..].copy_from_slice(&id.serial.to_le_bytes());
    bytes
}

pub(crate) fn push_entry(bytes: &mut Vec<u8>, entry: &Entry) {
    bytes.extend(id_bytes(entry.id));
    bytes.extend(entry.len.to_le_bytes());
    let n_places = u32::try_from(entry.places.len()).expect("each has a page of an object");
    let joined = if entry.is_joined { JOINED } else { 0 };
    bytes.extend((n_places | joined).to_le_bytes());
    for place in entry.places.iter() {
        bytes.extend(place.segment.0.to_le_bytes());
        bytes.extend(place.first.to_le_bytes());
        bytes.extend(place.pages.to_le_bytes());
    }
    for sum in entry.sums.iter() {
        bytes.extend(sum.to_le_bytes());
    }
}

/// What so many entries take.
pub(crate) fn entries_bytes(weight: Weight) -> u64 {
    weight.entries * 32 + weight.places * 16 + weight.sums * 4
}

/// What a record of such entries takes at most.
pub(crate) fn record_bytes(weight: Weight) -> u64 {
    RECORD_HEAD_BYTES_MAX + entries_bytes(weight)
}

impl<'a> Record<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (head, rest) = bytes
            .split_first_chunk::<HEAD_RECORD_BYTES>()
            .ok_or(Malformed("it is too short for a record"))?;
        let [VERSION, kind, n_low, n_high] = *head else {
            return Err(Malformed("it was written by another version"));
        };
        let mut rest = Reader(rest);
        let n_freed = u16::from_le_bytes([n_low, n_high]);
        let freed: Option<Vec<_>> = (0..n_freed).map(|_| rest.id()).collect();
        let freed = freed.ok_or(Malformed("a name is cut off"))?;
        let body = Body::parse(kind, rest)?;
        Ok(Self { freed, body })
    }
}

impl<'a> Body<'a> {
    fn parse(kind: u8, mut rest: Reader<'a>) -> Result<Self, Malformed> {
        match kind {
            SMALL => {
                let (id, sum) = rest
                    .id()
                    .zip(rest.u32())
                    .ok_or(Malformed("it is too short for an object"))?;
                let is_small = rest.0.len() as u64 <= BLOCK_BYTES;
                let small = Self::Small(id, sum, rest.0);
                is_small
                    .then_some(small)
                    .ok_or(Malformed("it is too long for an object of one block"))
            }
            ENTRIES => {
                let mut entries = Vec::new();
                while !rest.0.is_empty() {
                    entries.push(rest.entry()?);
                }
                Ok(Self::Entries(entries))
            }
            NOTHING if rest.0.is_empty() => Ok(Self::Nothing),
            _ => Err(Malformed("it is of an unknown kind")),
        }
    }
}

/// What is left to read.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn id(&mut self) -> Option<Id> {
        Some(Id {
            node: self.u32()?,
            epoch: self.u64()?,
            serial: self.u64()?,
        })
    }

    fn place(&mut self) -> Option<Place> {
        Some(Place {
            segment: SegmentNo(self.u64()?),
            first: self.u32()?,
            pages: self.u32()?,
        })
    }

    /// The next entry. What is left is as it was when there is not a whole one.
    pub(crate) fn entry(&mut self) -> Result<Entry, Malformed> {
        const SHORT: Malformed = Malformed("an entry is cut off");
        let mut rest = Reader(self.0);
        let id = rest.id().ok_or(SHORT)?;
        let len = rest.u64().ok_or(SHORT)?;
        let n_places = rest.u32().ok_or(SHORT)?;
        let is_joined = n_places & JOINED > 0;
        let n_places = u64::from(n_places & !JOINED);
        // Looked at before memory is taken for them.
        let n_sums = blocks_of(len);
        let n_bytes = n_places * 16 + n_sums * 4;
        if n_bytes > rest.0.len() as u64 {
            return Err(SHORT);
        }
        let places: Option<Few<_>> = (0..n_places).map(|_| rest.place()).collect();
        let sums: Option<Few<_>> = (0..n_sums).map(|_| rest.u32()).collect();
        let (places, sums) = places.zip(sums).ok_or(SHORT)?;
        let makes_sense =
            |place: &Place| place.pages > 0 && place.first.checked_add(place.pages).is_some();
        let pages: u64 = places.iter().map(|place| u64::from(place.pages)).sum();
        if !places.iter().all(makes_sense) || pages != pages_of(len) {
            return Err(Malformed("an entry does not make sense"));
        }
        *self = rest;
        Ok(Entry {
            id,
            len,
            places,
            sums,
            is_joined,
        })
    }
}

const MAGIC: &[u8; 8] = b"CSKNTIR1";
const HEAD_CRC_AT: usize = 48;
const HEAD_BYTES: usize = HEAD_CRC_AT + 4;
/// Where the blocks of a snapshot begin.
pub(crate) const BLOCKS_AT: u64 = PAGE_BYTES;
pub(crate) const SNAPSHOT_BLOCK_BYTES: usize = 64 << 10;
const BLOCK_HEAD_BYTES: usize = 8;
pub(crate) const PAYLOAD_BYTES: usize = SNAPSHOT_BLOCK_BYTES - BLOCK_HEAD_BYTES;

/// Of a snapshot: the log from `position` on goes on from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub edition: u64,
    pub position: Position,
    /// Of the log.
    pub epoch: u64,
    pub blocks: u64,
    pub entries: u64,
}

impl Head {
    pub(crate) fn encode(&self, page: &mut [u8]) {
        page.fill(0);
        page[..8].copy_from_slice(MAGIC);
        let numbers = [
            self.edition,
            self.position.0,
            self.epoch,
            self.blocks,
            self.entries,
        ];
        for (number, place) in numbers.iter().zip(page[8..].chunks_exact_mut(8)) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c(&page[..HEAD_CRC_AT]);
        page[HEAD_CRC_AT..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    }

    /// `None`: there is none, or not all of it.
    pub(crate) fn decode(page: &[u8]) -> Option<Self> {
        let head = page.get(..HEAD_BYTES)?;
        let mut reader = Reader(head.strip_prefix(MAGIC)?);
        let found = Self {
            edition: reader.u64()?,
            position: Position(reader.u64()?),
            epoch: reader.u64()?,
            blocks: reader.u64()?,
            entries: reader.u64()?,
        };
        (reader.u32()? == crc32c(&head[..HEAD_CRC_AT])).then_some(found)
    }
}

fn block_crc(block: &[u8], edition: u64, number: u64) -> u32 {
    let place = [edition.to_le_bytes(), number.to_le_bytes()].concat();
    crc32c_append(crc32c(&place), &block[4..])
}

/// Completes a block whose payload is there.
pub(crate) fn seal_block(block: &mut [u8], edition: u64, number: u64, len: usize) {
    let short = u32::try_from(len).expect("it fits in a block");
    block[4..BLOCK_HEAD_BYTES].copy_from_slice(&short.to_le_bytes());
    block[BLOCK_HEAD_BYTES + len..].fill(0);
    let crc = block_crc(block, edition, number);
    block[..4].copy_from_slice(&crc.to_le_bytes());
}

pub(crate) fn payload_mut(block: &mut [u8]) -> &mut [u8] {
    &mut block[BLOCK_HEAD_BYTES..]
}

/// The payload. `None`: it is not that block of that edition.
pub(crate) fn open_block(block: &[u8], edition: u64, number: u64) -> Option<&[u8]> {
    let mut reader = Reader(block);
    let crc = reader.u32()?;
    let len = usize::try_from(reader.u32()?).ok()?;
    let payload = reader.0.get(..len)?;
    (crc == block_crc(block, edition, number)).then_some(payload)
}

#[cfg(test)]
mod tests;
