//! Who changes tables.

use bytes::Bytes;

use super::{Client, Context, Link, name};
use crate::op::{Outcome, Put, Remove, Version};
use crate::testing::check::Seen;
use crate::testing::net::{Ask, Tell};
use crate::{Op, Refusal, SegmentName};

/// Replaces entries if nobody has since it looked: all of them at once, with one value.
pub(super) struct Counter {
    link: Link,
    table: SegmentName,
    keys: Vec<&'static [u8]>,
    found: Vec<i64>,
    value: u64,
    condition: Condition,
}

/// How it knows that nobody has.
#[derive(Clone, Copy)]
enum Condition {
    /// Each entry has the version that was found.
    Version,
    /// The table is as long as before that.
    Length(u64),
}

impl Counter {
    pub(super) fn new(table: &str, keys: &[&'static [u8]]) -> Self {
        Self {
            link: Link::default(),
            table: name(table),
            keys: keys.to_vec(),
            found: Vec::new(),
            value: 0,
            condition: Condition::Version,
        }
    }

    pub(super) fn by_length(table: &str, keys: &[&'static [u8]]) -> Self {
        Self {
            condition: Condition::Length(0),
            ..Self::new(table, keys)
        }
    }

    fn look(&mut self, cx: &mut Context<'_>) {
        match self.condition {
            Condition::Version => self.get(cx),
            Condition::Length(_) => self.link.ask(Ask::Info(self.table.clone()), cx),
        }
    }

    fn get(&mut self, cx: &mut Context<'_>) {
        let (table, keys) = (self.table.clone(), self.keys.clone());
        let ask = match cx.chance.one_in(4) {
            true => Ask::List(table, keys),
            false => Ask::Get(table, keys),
        };
        self.link.ask(ask, cx);
    }

    fn saw(&self, key: &'static [u8], version: i64, value: Option<u64>, cx: &mut Context<'_>) {
        let seen = Seen {
            asked: self.link.asked,
            told: cx.net.now,
            version,
            value,
        };
        let key = (self.table.clone(), key);
        cx.history.seen.entry(key).or_default().push(seen);
    }

    fn put(&mut self, cx: &mut Context<'_>) {
        // Of nobody else.
        self.value = (cx.net.now + 1) * 100 + cx.idx as u64;
        let expected_length = match self.condition {
            Condition::Version => None,
            Condition::Length(length) => Some(length),
        };
        let put = |(key, found): (&&'static [u8], &i64)| Put {
            key: Bytes::from_static(key),
            value: Bytes::copy_from_slice(&self.value.to_be_bytes()),
            when: match self.condition {
                Condition::Version => (*found).into(),
                Condition::Length(_) => Version::Any,
            },
        };
        let put = Op::PutEntries {
            table: self.table.clone(),
            entries: self.keys.iter().zip(&self.found).map(put).collect(),
            expected_length,
        };
        self.link.ask(Ask::Do(put), cx);
    }
}

impl Client for Counter {
    fn act(&mut self, cx: &mut Context<'_>) {
        if self.link.connect(cx) {
            self.look(cx);
        }
    }

    fn told(&mut self, tell: Tell, cx: &mut Context<'_>) {
        match tell {
            Tell::Info(info) => {
                self.condition = Condition::Length(info.length);
                self.get(cx);
            }
            Tell::Entries(entries) => {
                for (key, entry) in self.keys.iter().zip(&entries) {
                    let value = entry.value[..].try_into().map_or(0, u64::from_be_bytes);
                    self.saw(key, entry.version, Some(value), cx);
                }
                self.found = entries.iter().map(|entry| entry.version).collect();
                self.put(cx);
            }
            Tell::Done(Outcome::Put { versions }) => {
                for ((key, found), version) in self.keys.iter().zip(&self.found).zip(versions) {
                    cx.history.update(&self.table, key, *found, version);
                    self.saw(key, version, Some(self.value), cx);
                }
                self.look(cx);
            }
            Tell::Refused(why) => {
                cx.history.refused.insert(self.value);
                match (why, &self.keys[..]) {
                    (Refusal::KeyBadVersion, [key]) => self.saw(key, self.found[0] + 1, None, cx),
                    (Refusal::KeyDoesNotExist, [key]) => {
                        self.saw(key, Version::ABSENT, Some(0), cx);
                    }
                    (Refusal::KeyBadVersion | Refusal::BadOffset { .. }, _) => {}
                    _ => return self.link.hang_up(cx),
                }
                self.look(cx);
            }
            _ => self.link.hang_up(cx),
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// Has a lock for a while, which is an entry that nobody else may insert.
pub(super) struct Lock {
    link: Link,
    table: SegmentName,
    key: &'static [u8],
    client: u8,
    held: Option<Held>,
}

struct Held {
    since: u64,
    until: u64,
    version: i64,
}

impl Lock {
    pub(super) fn new(table: &str, key: &'static [u8], client: u8) -> Self {
        Self {
            link: Link::default(),
            table: name(table),
            key,
            client,
            held: None,
        }
    }

    fn look(&mut self, cx: &mut Context<'_>) {
        let keys = vec![self.key];
        self.link.ask(Ask::Get(self.table.clone(), keys), cx);
    }

    fn insert(&mut self, cx: &mut Context<'_>) {
        let put = Op::PutEntries {
            table: self.table.clone(),
            entries: vec![Put {
                key: Bytes::from_static(self.key),
                value: Bytes::copy_from_slice(&[self.client]),
                when: Version::Absent,
            }],
            expected_length: None,
        };
        self.link.ask(Ask::Do(put), cx);
    }

    fn remove(&mut self, version: i64, cx: &mut Context<'_>) {
        let remove = Op::RemoveEntries {
            table: self.table.clone(),
            keys: vec![Remove {
                key: Bytes::from_static(self.key),
                when: version.into(),
            }],
            expected_length: None,
        };
        self.link.ask(Ask::Do(remove), cx);
    }
}

impl Client for Lock {
    fn act(&mut self, cx: &mut Context<'_>) {
        let is_over = |held: &Held| self.link.on.is_none() || held.until <= cx.net.now;
        let over = if self.held.as_ref().is_some_and(is_over) {
            self.held.take()
        } else {
            None
        };
        if let Some(held) = over {
            cx.history.held.push((held.since, cx.net.now));
            self.remove(held.version, cx);
        }
        if self.link.connect(cx) {
            self.look(cx);
        }
    }

    fn told(&mut self, tell: Tell, cx: &mut Context<'_>) {
        match tell {
            Tell::Entries(entries) => match &entries[..] {
                // One that it did not know of.
                [entry] if entry.value[..] == [self.client] => self.remove(entry.version, cx),
                [entry] if entry.version == Version::ABSENT => self.insert(cx),
                _ => self.look(cx),
            },
            Tell::Done(Outcome::Put { versions }) => {
                let since = cx.net.now;
                self.held = Some(Held {
                    since,
                    until: since + cx.chance.below(20),
                    version: versions[0],
                });
            }
            Tell::Done(_) | Tell::Refused(Refusal::KeyBadVersion | Refusal::KeyDoesNotExist) => {
                self.look(cx)
            }
            _ => self.link.hang_up(cx),
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}
