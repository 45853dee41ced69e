//! What a table answers.

use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};

use super::entry::HEADER_BYTES;
use super::index::{Entry, View};
use crate::op::{Answer, Refusal, Version};

/// How much one answer may hold. It holds at least one entry, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub items_max: usize,
    pub bytes_max: usize,
}

/// Which keys are asked for: all that are not less than `from`, and not more than `to`, behind where the last answer ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Empty: the first.
    pub from: Bytes,
    /// Empty: the last.
    pub to: Bytes,
    /// Of the answer before this one, or empty.
    pub token: Bytes,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub key: Bytes,
    /// [`Version::ABSENT`] if it is not there.
    pub version: i64,
    pub value: Bytes,
}

/// Some of the entries in the order of their keys. An entry that was there all the time is in exactly one of the answers of an iteration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    pub entries: Vec<Found>,
    /// To go on with; empty when there was nothing any more.
    pub token: Bytes,
}

/// The same without values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// With their versions.
    pub keys: Vec<(Bytes, i64)>,
    pub token: Bytes,
}

/// What became true since a position, and is. What is not true any more is only absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    pub entries: Vec<Found>,
    pub reached_end: bool,
    /// To go on from.
    pub last_position: u64,
}

/// So much is in one answer about keys that were asked for, with the headers of the entries: half of what clients take in one frame.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;

const TOKEN_VERSION: u8 = 1;

impl View<'_> {
    /// In the order in which they were asked for.
    pub(crate) fn get(&self, keys: &[Bytes]) -> Result<Answer<Vec<Found>>, Refusal> {
        let mut bytes = 0;
        let mut answer = Vec::new();
        for key in keys {
            let found = match self.table.get(key) {
                Some(entry) => found(key, entry),
                None => Found {
                    key: key.clone(),
                    version: Version::ABSENT,
                    value: Bytes::new(),
                },
            };
            bytes += HEADER_BYTES + key.len() + found.value.len();
            if bytes > ANSWER_BYTES_MAX {
                let what = "bytes of entries in an answer";
                return Err(Refusal::Limit { what });
            }
            answer.push(found);
        }
        Ok(self.answer(answer))
    }

    pub(crate) fn pages(&self, bounds: &Bounds, page: Page) -> Result<Answer<Pages>, Refusal> {
        let entries: Vec<_> = self
            .between(bounds)?
            .take_while(fits(page, |(key, entry): &(&Bytes, &Entry)| {
                key.len() + entry.value.len()
            }))
            .map(|(key, entry)| found(key, entry))
            .collect();
        let token = token(entries.last().map(|entry| &entry.key));
        Ok(self.answer(Pages { entries, token }))
    }

    pub(crate) fn keys(&self, bounds: &Bounds, page: Page) -> Result<Answer<Keys>, Refusal> {
        let keys: Vec<_> = self
            .between(bounds)?
            .take_while(fits(page, |(key, _): &(&Bytes, &Entry)| key.len()))
            .map(|(key, entry)| (key.clone(), entry.version()))
            .collect();
        let token = token(keys.last().map(|(key, _)| key));
        Ok(self.answer(Keys { keys, token }))
    }

    fn between(&self, bounds: &Bounds) -> Result<impl Iterator<Item = (&Bytes, &Entry)>, Refusal> {
        let done = match bounds.token.split_first() {
            None => None,
            Some((&TOKEN_VERSION, _)) => Some(bounds.token.slice(1..)),
            Some(_) => return Err(Refusal::Invalid("this token is of something else")),
        };
        let from = match done {
            Some(done) if done >= bounds.from => Bound::Excluded(done),
            _ => Bound::Included(bounds.from.clone()),
        };
        let to = bounds.to.clone();
        Ok(self
            .table
            .entries()
            .range::<Bytes, _>((from, Bound::Unbounded))
            .take_while(move |(key, _)| to.is_empty() || **key <= to))
    }

    pub(crate) fn delta(&self, from: u64, page: Page) -> Result<Answer<Delta>, Refusal> {
        if from > self.length {
            return Err(Refusal::Invalid(
                "the table does not have that position yet",
            ));
        }
        let mut last_position = from;
        let mut entries = Vec::new();
        let mut since = self.table.since(last_position).peekable();
        let mut fits = fits(page, |(key, entry): &(&Bytes, &Entry)| {
            key.len() + entry.value.len()
        });
        while let Some((key, entry)) = since.next_if(&mut fits) {
            entries.push(found(key, entry));
            last_position = entry.offset + entry.bytes(key);
        }
        let reached_end = since.peek().is_none();
        if reached_end {
            last_position = self.length;
        }
        Ok(self.answer(Delta {
            entries,
            reached_end,
            last_position,
        }))
    }

    fn answer<T>(&self, value: T) -> Answer<T> {
        let as_of = self.as_of;
        Answer { value, as_of }
    }
}

fn found(key: &Bytes, entry: &Entry) -> Found {
    Found {
        key: key.clone(),
        version: entry.version(),
        value: entry.value.clone(),
    }
}

fn fits<T>(page: Page, bytes_of: impl Fn(&T) -> usize) -> impl FnMut(&T) -> bool {
    let (mut n_items, mut bytes) = (0, 0);
    move |item| {
        let fits = n_items == 0 || (n_items < page.items_max && bytes < page.bytes_max);
        n_items += 1;
        bytes += bytes_of(item);
        fits
    }
}

fn token(last: Option<&Bytes>) -> Bytes {
    let Some(key) = last else {
        return Bytes::new();
    };
    let mut token = BytesMut::with_capacity(1 + key.len());
    token.put_u8(TOKEN_VERSION);
    token.put_slice(key);
    token.freeze()
}
