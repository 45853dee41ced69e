//! Who appends.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Client, Context, Link, name};
use crate::attributes::{AttributeId, AttributeUpdate, NO_VALUE, UpdateKind};
use crate::op::Append;
use crate::segment::Kind;
use crate::testing::check::{UNIT, Unit};
use crate::testing::net::{Ask, Tell};
use crate::{Op, Refusal, SegmentName};

const EVENTS_MAX: u16 = 1000;

fn id(writer: u8) -> AttributeId {
    AttributeId(u128::from(writer) + 1000)
}

/// Sends events without waiting for each, and again what was not acknowledged.
pub(super) struct Writer {
    link: Link,
    segment: SegmentName,
    writer: u8,
    last: u16,
    /// What was appended together, from the first to the last.
    unacknowledged: VecDeque<(u16, u16)>,
    is_set_up: bool,
    is_done: bool,
}

impl Writer {
    pub(super) fn new(segment: &str, writer: u8) -> Self {
        Self {
            link: Link::default(),
            segment: name(segment),
            writer,
            last: 0,
            unacknowledged: VecDeque::new(),
            is_set_up: false,
            is_done: false,
        }
    }

    fn send(&mut self, (first, last): (u16, u16), cx: &mut Context<'_>) {
        let unit = |number| Unit {
            writer: self.writer,
            number,
            first,
            last,
        };
        let ask = Ask::Append {
            segment: self.segment.clone(),
            writer: id(self.writer),
            last: last.into(),
            n_events: i64::from(last - first) + 1,
            data: (first..=last)
                .flat_map(|number| unit(number).bytes())
                .collect(),
            at: None,
        };
        self.link.ask(ask, cx);
    }

    fn acknowledged(&mut self, number: i64, cx: &mut Context<'_>) {
        cx.history.acknowledge(&self.segment, self.writer, number);
        self.unacknowledged
            .retain(|(_, last)| i64::from(*last) > number);
    }
}

impl Client for Writer {
    fn act(&mut self, cx: &mut Context<'_>) {
        if self.is_done {
            return;
        }
        if self.link.connect(cx) {
            self.is_set_up = false;
            let setup = Ask::Setup(self.segment.clone(), id(self.writer));
            self.link.ask(setup, cx);
        }
        let has_room = self.unacknowledged.len() < 4 && self.last < EVENTS_MAX;
        if self.is_set_up && has_room && cx.chance.one_in(8) {
            let n_more = [0, 0, 1, 2][usize::try_from(cx.chance.below(4)).expect("it is small")];
            let together = (self.last + 1, self.last + 1 + n_more);
            self.last = together.1;
            self.unacknowledged.push_back(together);
            self.send(together, cx);
        }
    }

    fn told(&mut self, tell: Tell, cx: &mut Context<'_>) {
        match tell {
            Tell::Setup(last) => {
                self.is_set_up = true;
                self.acknowledged(last, cx);
                for together in self.unacknowledged.clone() {
                    self.send(together, cx);
                }
            }
            Tell::Appended { last } => self.acknowledged(last, cx),
            Tell::Refused(Refusal::Sealed(_)) => self.is_done = true,
            _ => self.link.hang_up(cx),
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// Appends events that are too large by way of transient segments: each half of an event is appended there, and then it is merged.
pub(super) struct Large {
    link: Link,
    segment: SegmentName,
    writer: u8,
    /// That is there.
    last: u16,
    n_tries: u32,
    steps: VecDeque<Op>,
}

impl Large {
    pub(super) fn new(segment: &str, writer: u8) -> Self {
        Self {
            link: Link::default(),
            segment: name(segment),
            writer,
            last: 0,
            n_tries: 0,
            steps: VecDeque::new(),
        }
    }

    fn begin(&mut self, cx: &mut Context<'_>) {
        let Some(on) = self.link.on else { return };
        self.n_tries += 1;
        let number = self.last + 1;
        let part = format!("{}#transient.{}", self.segment, self.n_tries);
        let part = name(&part);
        let unit = Unit {
            writer: self.writer,
            number,
            first: number,
            last: number,
        };
        let append = |data: &[u8]| {
            Op::Append(Append {
                segment: part.clone(),
                data: Bytes::copy_from_slice(data),
                attributes: Vec::new(),
                expected_offset: None,
            })
        };
        let (one, two) = (&unit.bytes()[..UNIT / 2], &unit.bytes()[UNIT / 2..]);
        let create = Op::Create {
            segment: part.clone(),
            kind: Kind::Transient(on),
            attributes: Vec::new(),
        };
        let expected = match self.last {
            0 => NO_VALUE,
            last => last.into(),
        };
        let merge = Op::Merge {
            target: self.segment.clone(),
            source: part.clone(),
            attributes: vec![AttributeUpdate {
                id: id(self.writer),
                value: number.into(),
                kind: UpdateKind::ReplaceIfEquals(expected),
            }],
        };
        self.steps = [create, append(one), append(two), merge].into();
        self.step(cx);
    }

    fn step(&mut self, cx: &mut Context<'_>) {
        if let Some(op) = self.steps.pop_front() {
            self.link.ask(Ask::Do(op), cx);
        } else {
            self.look(cx);
        }
    }

    fn look(&mut self, cx: &mut Context<'_>) {
        let attribute = Ask::Attribute(self.segment.clone(), id(self.writer));
        self.link.ask(attribute, cx);
    }
}

impl Client for Large {
    fn act(&mut self, cx: &mut Context<'_>) {
        if self.link.connect(cx) {
            self.look(cx);
        }
    }

    fn told(&mut self, tell: Tell, cx: &mut Context<'_>) {
        match tell {
            Tell::Attribute(last) => {
                cx.history.acknowledge(&self.segment, self.writer, last);
                self.last = u16::try_from(last).unwrap_or(0);
                if self.last < EVENTS_MAX {
                    self.begin(cx);
                }
            }
            Tell::Done(_) => self.step(cx),
            _ => self.link.hang_up(cx),
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// Appends if nobody has since it looked.
pub(super) struct Conditional {
    link: Link,
    writer: u8,
    last: u16,
    at: u64,
}

impl Conditional {
    pub(super) fn new(writer: u8) -> Self {
        Self {
            link: Link::default(),
            writer,
            last: 0,
            at: 0,
        }
    }

    fn key(&self, number: i64) -> u16 {
        let number = u16::try_from(number).expect("it is small");
        u16::from(self.writer) << 12 | number
    }
}

impl Client for Conditional {
    fn act(&mut self, cx: &mut Context<'_>) {
        if self.link.connect(cx) {
            self.link
                .ask(Ask::Setup(name("state"), id(self.writer)), cx);
        }
    }

    fn told(&mut self, tell: Tell, cx: &mut Context<'_>) {
        match tell {
            Tell::Setup(last) => {
                cx.history.acknowledge(&name("state"), self.writer, last);
            }
            Tell::Info(info) => {
                self.last += 1;
                self.at = info.length;
                let unit = Unit {
                    writer: self.writer,
                    number: self.last,
                    first: self.last,
                    last: self.last,
                };
                let ask = Ask::Append {
                    segment: name("state"),
                    writer: id(self.writer),
                    last: self.last.into(),
                    n_events: 1,
                    data: unit.bytes().to_vec(),
                    at: Some(self.at),
                };
                return self.link.ask(ask, cx);
            }
            Tell::Appended { last } => {
                cx.history.acknowledge(&name("state"), self.writer, last);
                cx.history.conditional.push((self.key(last), Some(self.at)));
            }
            Tell::ConditionFailed { last } => {
                cx.history.conditional.push((self.key(last), None));
            }
            _ => return self.link.hang_up(cx),
        }
        if self.last < 1000 {
            self.link.ask(Ask::Info(name("state")), cx);
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}
