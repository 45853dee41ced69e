//! More writers at once than a segment has room for.

use std::collections::VecDeque;

use super::{Client, Context, Link, name};
use crate::Refusal;
use crate::attributes::{AttributeId, NO_VALUE};
use crate::testing::check::Unit;
use crate::testing::net::{Ask, Tell};

/// A round has some of them in turn, which is more than [`Limits::segment_attributes_max`](crate::Limits) of the server. The first of them
/// writes before them, and again before those that had no room: so it is never idle.
const N_WRITERS: usize = 16;
const N_IN_ROUND: usize = 8;

/// Each writes an event without waiting for the others. What is not acknowledged is looked for before anything else is written, so no writer can
/// have been given up meanwhile whose event is there.
#[derive(Default)]
pub(super) struct Crowd {
    link: Link,
    next: usize,
    /// Of each writer the last event, and whether that was sent and not acknowledged.
    numbers: [u16; N_WRITERS],
    is_sent: [bool; N_WRITERS],
    /// Who has something to write in this round.
    left: Vec<usize>,
    /// Who is going to be told something, in this order.
    asked: VecDeque<usize>,
    /// Of those that were told where they are.
    ready: Vec<usize>,
}

fn id(which: usize) -> (u8, AttributeId) {
    let writer = u8::try_from(130 + which).expect("they are few");
    (writer, AttributeId(u128::from(writer) + 1000))
}

impl Crowd {
    fn set_up(&mut self, cx: &mut Context<'_>) {
        if self.left.is_empty() {
            let others = (self.next..).map(|nth| 1 + nth % (N_WRITERS - 1));
            self.left = others.take(N_IN_ROUND).collect();
            self.next += N_IN_ROUND;
        }
        if !self.left.contains(&0) {
            self.left.insert(0, 0);
        }
        self.ready.clear();
        self.asked = self.left.clone().into();
        for which in self.left.clone() {
            self.link.ask(Ask::Setup(name("crowd"), id(which).1), cx);
        }
    }

    fn send(&mut self, which: usize, cx: &mut Context<'_>) {
        let (writer, id) = id(which);
        if !self.is_sent[which] {
            self.is_sent[which] = true;
            self.numbers[which] += 1;
        }
        let number = self.numbers[which];
        let unit = Unit {
            writer,
            number,
            first: number,
            last: number,
        };
        let ask = Ask::Append {
            segment: name("crowd"),
            writer: id,
            last: number.into(),
            n_events: 1,
            data: unit.bytes().to_vec(),
            at: None,
        };
        self.asked.push_back(which);
        self.link.ask(ask, cx);
    }

    fn acknowledged(&mut self, which: usize, cx: &mut Context<'_>) {
        let number = self.numbers[which].into();
        cx.history.acknowledge(&name("crowd"), id(which).0, number);
        self.is_sent[which] = false;
        self.left.retain(|other| *other != which);
    }

    fn found(&mut self, which: usize, found: i64, cx: &mut Context<'_>) {
        let is_last = found == i64::from(self.numbers[which]);
        if self.is_sent[which] && is_last {
            self.acknowledged(which, cx);
            return;
        }
        let is_before = found == i64::from(self.numbers[which]) - 1;
        if found != NO_VALUE && !(is_last || self.is_sent[which] && is_before) {
            let what = format!("{which} of the crowd is at {found}");
            cx.history.wrong.push(what);
        }
        self.ready.push(which);
    }
}

impl Client for Crowd {
    fn act(&mut self, cx: &mut Context<'_>) {
        if self.link.connect(cx) {
            self.set_up(cx);
        }
    }

    fn told(&mut self, tell: Tell, cx: &mut Context<'_>) {
        let Some(which) = self.asked.pop_front() else {
            return self.link.hang_up(cx);
        };
        match tell {
            Tell::Setup(found) => self.found(which, found, cx),
            Tell::Appended { .. } => self.acknowledged(which, cx),
            // There is no room as long as others are under way.
            Tell::Refused(Refusal::Limit { .. }) => {}
            _ => return self.link.hang_up(cx),
        }
        if self.asked.is_empty() {
            for which in std::mem::take(&mut self.ready) {
                self.send(which, cx);
            }
        }
        if self.asked.is_empty() {
            self.set_up(cx);
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// What it has said of one writer must not arrive when that has been given up.
    fn may_hang_up(&self) -> bool {
        false
    }
}
