//! Who changes tables.

use bytes::Bytes;

use super::{Client, Context, Link, name};
use crate::op::{Outcome, Put, Remove, Version};
use crate::testing::check::Seen;
use crate::testing::net::{Ask, Tell};
use crate::{Op, Refusal, SegmentName};

/// Replaces an entry if nobody has since it looked.
pub(super) struct Counter {
    link: Link,
    table: SegmentName,
    key: &'static [u8],
    found: i64,
    /// Of nobody else.
    value: u64,
    condition: Condition,
}

/// How it knows that nobody has.
#[derive(Clone, Copy)]
enum Condition {
    /// The entry has the version that was found.
    Version,
    /// The table is as long as before that.
    Length(u64),
}

impl Counter {
    pub(super) fn new(table: &str, key: &'static [u8]) -> Self {
        Self {
            link: Link::default(),
            table: name(table),
            key,
            found: Version::ABSENT,
            value: 0,
            condition: Condition::Version,
        }
    }

    pub(super) fn by_length(table: &str, key: &'static [u8]) -> Self {
        Self {
            condition: Condition::Length(0),
            ..Self::new(table, key)
        }
    }

    fn look(&mut self, cx: &mut Context<'_>) {
        let ask = match self.condition {
            Condition::Version => Ask::Get(self.table.clone(), self.key),
            Condition::Length(_) => Ask::Info(self.table.clone()),
        };
        self.link.ask(ask, cx);
    }

    fn saw(&self, version: i64, value: Option<u64>, cx: &mut Context<'_>) {
        let seen = Seen {
            asked: self.link.asked,
            told: cx.net.now,
            version,
            value,
        };
        let key = (self.table.clone(), self.key);
        cx.history.seen.entry(key).or_default().push(seen);
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
                self.link.ask(Ask::Get(self.table.clone(), self.key), cx);
            }
            Tell::Refused(Refusal::BadOffset { .. }) => self.look(cx),
            Tell::Entry(entry) => {
                let value = entry.value[..].try_into().map_or(0, u64::from_be_bytes);
                self.found = entry.version;
                self.saw(entry.version, Some(value), cx);
                self.value = (cx.net.now + 1) * 100 + cx.idx as u64;
                let (when, expected_length) = match self.condition {
                    Condition::Version => (self.found.into(), None),
                    Condition::Length(length) => (Version::Any, Some(length)),
                };
                let put = Op::PutEntries {
                    table: self.table.clone(),
                    entries: vec![Put {
                        key: Bytes::from_static(self.key),
                        value: Bytes::copy_from_slice(&self.value.to_be_bytes()),
                        when,
                    }],
                    expected_length,
                };
                self.link.ask(Ask::Do(put), cx);
            }
            Tell::Done(Outcome::Put { versions }) => {
                cx.history
                    .update(&self.table, self.key, self.found, versions[0]);
                self.saw(versions[0], Some(self.value), cx);
                self.look(cx);
            }
            Tell::Refused(Refusal::KeyBadVersion) => {
                self.saw(self.found + 1, None, cx);
                self.look(cx);
            }
            Tell::Refused(Refusal::KeyDoesNotExist) => {
                self.saw(Version::ABSENT, Some(0), cx);
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
        self.link.ask(Ask::Get(self.table.clone(), self.key), cx);
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
            // One that it did not know of.
            Tell::Entry(entry) if entry.value[..] == [self.client] => {
                self.remove(entry.version, cx);
            }
            Tell::Entry(entry) if entry.version == Version::ABSENT => {
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
            Tell::Done(Outcome::Put { versions }) => {
                let since = cx.net.now;
                self.held = Some(Held {
                    since,
                    until: since + cx.chance.below(20),
                    version: versions[0],
                });
            }
            Tell::Entry(_) | Tell::Done(_) | Tell::Refused(Refusal::KeyBadVersion) => {
                self.look(cx);
            }
            Tell::Refused(Refusal::KeyDoesNotExist) => self.look(cx),
            _ => self.link.hang_up(cx),
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}
