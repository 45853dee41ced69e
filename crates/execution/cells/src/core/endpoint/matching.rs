//! Which message goes to which receive.
//!
//! Both sides are kept in the order in which they came. A receive files under its pattern; a
//! message files under each of the four patterns that ask for it (source and tag each named or
//! any). So either side finds the earliest partner of the other in logarithmic time, however
//! selective the program is and however much piles up: a message looks under four patterns for
//! posted receives, a receive under its own for waiting messages. While there are few, as in most
//! programs, looking at each is faster, and messages are not even filed.
//!
//! Non-overtaking needs nothing more: messages of one sender come in order, and both searches
//! return the earliest.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// What a receive or a probe asks for; `None` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) ctx: u32,
    pub(super) source: Option<u32>,
    pub(super) tag: Option<i32>,
}

/// A pattern as one number, which compares faster.
type Key = u128;

impl Pattern {
    fn key(self) -> Key {
        const NAMED: u128 = 1 << 32;
        let source = self.source.map_or(0, |source| NAMED | u128::from(source));
        let tag = self
            .tag
            .map_or(0, |tag| NAMED | u128::from(tag.cast_unsigned()));
        u128::from(self.ctx) << 66 | source << 33 | tag
    }

    /// The keys of all patterns that ask for such a message.
    fn keys_for(ctx: u32, source: u32, tag: i32) -> [Key; 4] {
        [
            (Some(source), Some(tag)),
            (Some(source), None),
            (None, Some(tag)),
            (None, None),
        ]
        .map(|(source, tag)| Pattern { ctx, source, tag }.key())
    }

    fn asks_for(self, message: &Message) -> bool {
        self.ctx == message.ctx
            && self.source.is_none_or(|source| source == message.source)
            && self.tag.is_none_or(|tag| tag == message.tag)
    }
}

/// A message that has arrived, or the announcement of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) ctx: u32,
    pub(super) source: u32,
    pub(super) tag: i32,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Here(Bytes),
    /// Still in the sender's memory.
    There {
        len: u32,
        send_req: u32,
    },
}

impl Message {
    pub(super) fn len(&self) -> u64 {
        match &self.content {
            Content::Here(data) => data.len() as u64,
            Content::There { len, .. } => u64::from(*len),
        }
    }
}

/// A place in the order of posting or of arrival.
pub(super) type Stamp = u64;

/// Up to so many receives or messages are looked at one by one.
const N_FEW: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Matching {
    posted: BTreeMap<(Key, Stamp), u32>,
    unexpected: BTreeMap<Stamp, Message>,
    /// Each message under the four patterns that ask for it; empty while there are few.
    filed: BTreeSet<(Key, Stamp)>,
    next_stamp: Stamp,
}

impl Matching {
    /// Appends a receive that no waiting message matches. The stamp is for [`Self::withdraw`].
    pub(super) fn post(&mut self, pattern: Pattern, request: u32) -> Stamp {
        let stamp = self.stamp();
        self.posted.insert((pattern.key(), stamp), request);
        stamp
    }

    /// Takes a receive back.
    pub(super) fn withdraw(&mut self, pattern: Pattern, stamp: Stamp) {
        self.posted.remove(&(pattern.key(), stamp));
    }

    /// Appends a message that no posted receive matches.
    pub(super) fn keep(&mut self, message: Message) {
        let stamp = self.stamp();
        if !self.filed.is_empty() {
            file(&mut self.filed, stamp, &message);
        }
        self.unexpected.insert(stamp, message);
        if self.filed.is_empty() && self.unexpected.len() > N_FEW {
            for (stamp, message) in &self.unexpected {
                file(&mut self.filed, *stamp, message);
            }
        }
    }

    /// The earliest posted receive for such a message.
    pub(super) fn posted_for(&self, ctx: u32, source: u32, tag: i32) -> Option<u32> {
        if self.posted.is_empty() {
            return None;
        }
        let keys = Pattern::keys_for(ctx, source, tag);
        let earliest = if self.posted.len() <= N_FEW {
            let suitable = self
                .posted
                .iter()
                .filter(|((key, _), _)| keys.contains(key));
            suitable
                .map(|((_, stamp), request)| (*stamp, *request))
                .min()
        } else {
            let first = |key| {
                let mut same = self.posted.range((key, 0)..=(key, Stamp::MAX));
                same.next().map(|((_, stamp), request)| (*stamp, *request))
            };
            keys.into_iter().filter_map(first).min()
        };
        earliest.map(|(_, request)| request)
    }

    /// The earliest waiting message that the pattern asks for.
    pub(super) fn find(&self, pattern: Pattern) -> Option<&Message> {
        self.earliest(pattern).map(|stamp| &self.unexpected[&stamp])
    }

    /// Like [`Self::find`], and it waits no more.
    pub(super) fn take(&mut self, pattern: Pattern) -> Option<Message> {
        let stamp = self.earliest(pattern)?;
        let message = self.unexpected.remove(&stamp)?;
        if !self.filed.is_empty() {
            for key in Pattern::keys_for(message.ctx, message.source, message.tag) {
                self.filed.remove(&(key, stamp));
            }
        }
        Some(message)
    }

    /// Requests of the posted receives in their order.
    pub(super) fn posted(&self) -> Vec<u32> {
        let mut posted: Vec<_> = self
            .posted
            .iter()
            .map(|((_, at), req)| (*at, *req))
            .collect();
        posted.sort_unstable();
        posted.into_iter().map(|(_, request)| request).collect()
    }

    /// The waiting messages in their order.
    pub(super) fn unexpected(&self) -> impl Iterator<Item = &Message> {
        self.unexpected.values()
    }

    pub(super) fn n_posted(&self) -> usize {
        self.posted.len()
    }

    pub(super) fn n_unexpected(&self) -> usize {
        self.unexpected.len()
    }

    fn earliest(&self, pattern: Pattern) -> Option<Stamp> {
        if self.filed.is_empty() {
            let mut all = self.unexpected.iter();
            return all
                .find(|(_, message)| pattern.asks_for(message))
                .map(|(stamp, _)| *stamp);
        }
        let key = pattern.key();
        let mut same = self.filed.range((key, 0)..=(key, Stamp::MAX));
        same.next().map(|(_, stamp)| *stamp)
    }

    fn stamp(&mut self) -> Stamp {
        self.next_stamp += 1;
        self.next_stamp
    }
}

fn file(filed: &mut BTreeSet<(Key, Stamp)>, stamp: Stamp, message: &Message) {
    for key in Pattern::keys_for(message.ctx, message.source, message.tag) {
        filed.insert((key, stamp));
    }
}
