//! Who writes to a segment that has had more writers than it has room for.

use super::{Client, Context, Link, name};
use crate::attributes::{AttributeId, NO_VALUE};
use crate::testing::check::Unit;
use crate::testing::net::{Ask, Tell};

/// More than [`Limits::segment_attributes_max`](crate::Limits) of the server.
const N_VISITORS: usize = 20;

/// Writers that come one after the other, each with an event, and come again.
#[derive(Default)]
pub(super) struct Visitors {
    link: Link,
    /// Which one it is, and what each of them has written: all of it is acknowledged but for the last event of this one.
    visitor: usize,
    numbers: [u16; N_VISITORS],
    is_under_way: bool,
}

impl Visitors {
    fn writer(&self) -> u8 {
        u8::try_from(100 + self.visitor).expect("they are few")
    }

    fn id(&self) -> AttributeId {
        AttributeId(u128::from(self.writer()) + 1000)
    }

    fn last(&mut self) -> &mut u16 {
        &mut self.numbers[self.visitor]
    }

    fn set_up(&mut self, cx: &mut Context<'_>) {
        self.link.ask(Ask::Setup(name("visited"), self.id()), cx);
    }

    fn send(&mut self, cx: &mut Context<'_>) {
        let number = *self.last();
        let unit = Unit {
            writer: self.writer(),
            number,
            first: number,
            last: number,
        };
        let ask = Ask::Append {
            segment: name("visited"),
            writer: self.id(),
            last: number.into(),
            n_events: 1,
            data: unit.bytes().to_vec(),
            at: None,
        };
        self.link.ask(ask, cx);
    }

    fn next(&mut self, cx: &mut Context<'_>) {
        let (writer, number) = (self.writer(), *self.last());
        cx.history
            .acknowledge(&name("visited"), writer, number.into());
        self.is_under_way = false;
        self.visitor = (self.visitor + 1) % N_VISITORS;
        self.set_up(cx);
    }
}

impl Client for Visitors {
    fn act(&mut self, cx: &mut Context<'_>) {
        if self.link.connect(cx) {
            self.set_up(cx);
        }
    }

    fn told(&mut self, tell: Tell, cx: &mut Context<'_>) {
        match tell {
            Tell::Setup(found) => {
                let number = *self.last();
                if self.is_under_way {
                    return match found == i64::from(number) {
                        true => self.next(cx),
                        false => self.send(cx),
                    };
                }
                // Nobody else is here: the number is that of the last event, or has been given up.
                if found == NO_VALUE {
                    cx.history.n_given_up += u64::from(number > 0);
                } else if found != i64::from(number) {
                    let what = format!("a visitor is at {found} that was at {number}");
                    cx.history.wrong.push(what);
                }
                *self.last() += 1;
                self.is_under_way = true;
                self.send(cx);
            }
            Tell::Appended { .. } => self.next(cx),
            _ => self.link.hang_up(cx),
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}
