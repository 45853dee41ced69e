//! Which entries are true: one ordered index for tables with keys of any length and of a fixed one.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::entry::{HEADER_BYTES, RawEntry};
use crate::names::Seq;
use crate::op::{Refusal, Version};
use crate::segment::LENGTH_MAX;

/// What an entry takes in memory beside its bytes: two nodes of trees, and copies of its key and value.
pub(crate) const ENTRY_MEMORY: u64 = 200;

/// The entries of a table that are true, by key and by where they were written.
///
/// Key and value are copies: what clients send comes in large buffers, and one entry of many years would keep all of its buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    entries: BTreeMap<Bytes, Entry>,
    keys: BTreeMap<u64, Bytes>,
    /// Of the entries, as they were written.
    bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it was written.
    pub(crate) offset: u64,
    pub(crate) value: Bytes,
}

/// Of what is written there.
pub(crate) fn version_at(offset: u64) -> i64 {
    i64::try_from(offset).expect("segments are shorter")
}

impl Entry {
    pub(crate) fn version(&self) -> i64 {
        version_at(self.offset)
    }

    pub(crate) fn bytes(&self, key: &[u8]) -> u64 {
        (HEADER_BYTES + key.len() + self.value.len()) as u64
    }
}

impl Table {
    pub(crate) fn n_entries(&self) -> usize {
        self.entries.len()
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

    /// In the order in which they were written.
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
            let found = self.get(key).map(Entry::version);
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
            let entry = Entry {
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

    /// Whether every entry has been written in a place of its own of a table of that length.
    pub(crate) fn lies_within(&self, length: u64) -> bool {
        let mut free = 0;
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
    pub(crate) length: u64,
    pub(crate) as_of: Seq,
}
