//! Who writes several segments, and makes them part of another one at once.

use super::{Client, Context, Link, name};
use crate::attributes::AttributeId;
use crate::op::Outcome;
use crate::segment::Kind;
use crate::testing::check::Unit;
use crate::testing::net::{Ask, Tell};
use crate::{Op, Refusal, SegmentName};

const N_MAX: u16 = 300;

/// Of the events of a transaction: which are in each of its parts.
const PARTS: [(u16, u16); 2] = [(1, 2), (3, 3)];
const N_EVENTS: u16 = 3;

/// One transaction after the other. Its parts are written before it is committed, and that is asked for until it is done.
pub(super) struct Transactions {
    link: Link,
    writer: u8,
    /// That were committed.
    n_done: u16,
    part: usize,
    is_committing: bool,
}

impl Transactions {
    pub(super) fn new(writer: u8) -> Self {
        Self {
            link: Link::default(),
            writer,
            n_done: 0,
            part: 0,
            is_committing: false,
        }
    }

    fn id(&self) -> AttributeId {
        AttributeId(u128::from(self.writer) + 1000)
    }

    fn segment(&self, part: usize) -> SegmentName {
        let (writer, nth) = (self.writer, self.n_done);
        name(&format!("merged#transaction.{writer}.{nth}.{part}"))
    }

    /// In the part that is written, the first and the last.
    fn numbers(&self) -> (u16, u16) {
        let before = self.n_done * N_EVENTS;
        let (first, last) = PARTS[self.part];
        (before + first, before + last)
    }

    fn step(&mut self, cx: &mut Context<'_>) {
        let op = if self.is_committing {
            Op::MergeBatch {
                target: name("merged"),
                sources: (0..PARTS.len()).map(|part| self.segment(part)).collect(),
            }
        } else {
            Op::Create {
                segment: self.segment(self.part),
                kind: Kind::Stream,
                attributes: Vec::new(),
            }
        };
        self.link.ask(Ask::Do(op), cx);
    }

    fn append(&mut self, cx: &mut Context<'_>) {
        let before = self.n_done * N_EVENTS;
        let unit = |number| Unit {
            writer: self.writer,
            number,
            first: before + 1,
            last: before + N_EVENTS,
        };
        let (first, last) = self.numbers();
        let ask = Ask::Append {
            segment: self.segment(self.part),
            writer: self.id(),
            last: last.into(),
            n_events: i64::from(last - first) + 1,
            data: (first..=last)
                .flat_map(|number| unit(number).bytes())
                .collect(),
            at: None,
        };
        self.link.ask(ask, cx);
    }

    fn written(&mut self, cx: &mut Context<'_>) {
        self.part += 1;
        self.is_committing = self.part == PARTS.len();
        self.step(cx);
    }
}

impl Client for Transactions {
    fn act(&mut self, cx: &mut Context<'_>) {
        if self.n_done < N_MAX && self.link.connect(cx) {
            self.part = 0;
            self.step(cx);
        }
    }

    fn told(&mut self, tell: Tell, cx: &mut Context<'_>) {
        match tell {
            Tell::Done(Outcome::Created(_)) | Tell::Refused(Refusal::Exists(_)) => {
                let setup = Ask::Setup(self.segment(self.part), self.id());
                self.link.ask(setup, cx);
            }
            Tell::Setup(found) if found == i64::from(self.numbers().1) => self.written(cx),
            Tell::Setup(_) => self.append(cx),
            Tell::Appended { .. } => self.written(cx),
            Tell::Done(Outcome::Merged { .. }) => {
                self.n_done += 1;
                cx.history.n_committed += 1;
                let last = self.n_done * N_EVENTS;
                cx.history
                    .acknowledge(&name("merged"), self.writer, last.into());
                (self.part, self.is_committing) = (0, false);
                if self.n_done < N_MAX {
                    self.step(cx);
                }
            }
            _ => self.link.hang_up(cx),
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}
