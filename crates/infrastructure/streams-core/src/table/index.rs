//! Which entries are true: one ordered index for tables with keys of any length and of a fixed one.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::entry::{HEADER_BYTES, RawEntry};
use crate::names::Seq;
use crate::op::{Refusal, Version};
use crate::segment::LENGTH_MAX;

/// What an entry takes in memory beside its bytes: two nodes of trees, and copies of its key and value.
pub(crate) const ENTRY_MEMORY: u64 = 200;

/// The entries of a table that are true, by key and by where they lie.
///
/// Key and value are copies: what clients send comes in large buffers, and one entry of many years would keep all of its buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    entries: BTreeMap<Bytes, Entry>,
    keys: BTreeMap<u64, Bytes>,
    /// Of the entries, as they lie in the segment.
    bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it was written first, if no one else gave it one.
    pub(crate) version: i64,
    /// Where it lies now.
    pub(crate) offset: u64,
    pub(crate) value: Bytes,
}

impl Entry {
    pub(crate) fn bytes(&self, key: &[u8]) -> u64 {
        (HEADER_BYTES + key.len() + self.value.len()) as u64
    }
}

impl Table {
    pub(crate) fn n_entries(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What they take in memory.
    pub(crate) fn memory(&self) -> u64 {
        self.bytes + ENTRY_MEMORY * self.entries.len() as u64
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(crate) fn entries(&self) -> &BTreeMap<Bytes, Entry> {
        &self.entries
    }

    /// Where the first one lies.
    pub(crate) fn first(&self) -> Option<u64> {
        self.keys.first_key_value().map(|(offset, _)| *offset)
    }

    /// In the order in which they lie in the segment.
    pub(crate) fn since(&self, offset: u64) -> impl Iterator<Item = (&Bytes, &Entry)> {
        self.keys
            .range(offset..)
            .map(|(_, key)| (key, &self.entries[key]))
    }

    /// Whether all of these may change. A key that is missing is told rather than one that has another version, as upstream does.
    pub(crate) fn check<'a>(
        &self,
        keys: impl Iterator<Item = (&'a Bytes, Version)>,
    ) -> Result<(), Refusal> {
        let mut checked = Ok(());
        for (key, when) in keys {
            let found = self.get(key).map(|entry| entry.version);
            match (when, found) {
                (Version::Any, _) | (Version::Absent, None) => {}
                (Version::Is(_), None) => return Err(Refusal::KeyDoesNotExist),
                (Version::Is(version), Some(found)) if version == found => {}
                (Version::Is(_) | Version::Absent, Some(_)) => {
                    checked = Err(Refusal::KeyBadVersion);
                }
            }
        }
        checked
    }

    pub(crate) fn apply(&mut self, raw: &RawEntry) {
        if let Some(former) = self.entries.remove(&raw.key) {
            self.keys.remove(&former.offset);
            self.bytes -= former.bytes(&raw.key);
        }
        if let Some(value) = &raw.value {
            let offset = i64::try_from(raw.offset);
            let entry = Entry {
                version: raw
                    .version
                    .unwrap_or_else(|| offset.expect("segments are shorter")),
                offset: raw.offset,
                value: Bytes::copy_from_slice(value),
            };
            self.insert(Bytes::copy_from_slice(&raw.key), entry);
        }
    }

    /// Of a table that does not have the key.
    pub(crate) fn insert(&mut self, key: Bytes, entry: Entry) {
        self.bytes += entry.bytes(&key);
        self.keys.insert(entry.offset, key.clone());
        self.entries.insert(key, entry);
    }

    /// Whether every entry lies in a place of its own between these.
    pub(crate) fn lies_within(&self, start: u64, length: u64) -> bool {
        let mut free = start;
        self.keys.len() == self.entries.len()
            && self.since(0).all(|(key, entry)| {
                let fits = entry.offset >= free && entry.offset < LENGTH_MAX;
                free = entry.offset.saturating_add(entry.bytes(key));
                fits && free <= length
            })
    }
}

/// What an answer about a table was made of.
pub(crate) struct View<'a> {
    pub(crate) table: &'a Table,
    pub(crate) start: u64,
    pub(crate) length: u64,
    pub(crate) as_of: Seq,
}
