//! Who uses the server. Each has one connection at a time, and goes on where it was when that breaks.

mod churn;
mod crowd;
mod tables;
mod transactions;
mod visitors;
mod writers;

use super::Chance;
use super::check::History;
use super::net::{Ask, Net, Tell};
use crate::SegmentName;
use crate::names::ConnectionId;

pub(super) trait Client {
    /// Once a tick.
    fn act(&mut self, cx: &mut Context<'_>);

    /// On the connection that it has.
    fn told(&mut self, tell: Tell, cx: &mut Context<'_>);

    fn link(&mut self) -> &mut Link;

    /// Whether it can go on when what it has said arrives later than what it says next.
    fn may_hang_up(&self) -> bool {
        true
    }
}

/// What a client has at hand.
pub(super) struct Context<'a> {
    pub(super) idx: usize,
    pub(super) net: &'a mut Net,
    pub(super) chance: &'a mut Chance,
    pub(super) history: &'a mut History,
}

/// The connection of a client.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) on: Option<ConnectionId>,
    /// When the last question was asked.
    pub(super) asked: u64,
}

impl Link {
    /// Whether it is new.
    pub(super) fn connect(&mut self, cx: &mut Context<'_>) -> bool {
        let is_new = self.on.is_none();
        if is_new {
            self.on = Some(cx.net.connect(cx.idx));
        }
        is_new
    }

    pub(super) fn ask(&mut self, ask: Ask, cx: &mut Context<'_>) {
        self.asked = cx.net.now;
        if let Some(on) = self.on {
            cx.net.ask(on, ask, cx.chance);
        }
    }

    pub(super) fn hang_up(&mut self, cx: &mut Context<'_>) {
        if let Some(on) = self.on.take() {
            cx.net.hang_up(on, cx.chance);
        }
    }
}

pub(super) fn name(text: &str) -> SegmentName {
    SegmentName::new(text).expect("a name")
}

pub(super) fn clients() -> Vec<Box<dyn Client>> {
    vec![
        Box::new(writers::Writer::new("log/0", 1)),
        Box::new(writers::Writer::new("log/0", 2)),
        Box::new(writers::Writer::new("log/0", 3)),
        Box::new(writers::Writer::new("log/1", 4)),
        Box::new(writers::Writer::new("log/1", 5)),
        Box::new(writers::Large::new("log/0", 6)),
        Box::new(writers::Conditional::new(7)),
        Box::new(writers::Conditional::new(8)),
        Box::new(visitors::Visitors::default()),
        Box::new(crowd::Crowd::default()),
        Box::new(transactions::Transactions::new(9)),
        Box::new(transactions::Transactions::new(10)),
        Box::new(tables::Counter::new("table", &[b"one"])),
        Box::new(tables::Counter::new("table", &[b"one"])),
        Box::new(tables::Counter::by_length("table", &[b"one"])),
        Box::new(tables::Counter::by_length("table", &[b"another"])),
        Box::new(tables::Counter::new("sorted", &[b"cnt0"])),
        Box::new(tables::Counter::new("sorted", &[b"cnt0"])),
        Box::new(tables::Counter::new("sorted", &[b"cnt0", b"left"])),
        Box::new(tables::Counter::new("sorted", &[b"rght", b"cnt0"])),
        Box::new(tables::Lock::new("sorted", b"lock", 1)),
        Box::new(tables::Lock::new("sorted", b"lock", 2)),
        Box::new(churn::Churn::default()),
        Box::new(churn::Watcher::default()),
        Box::new(churn::Watcher::default()),
        Box::new(churn::Sealer::default()),
        Box::new(churn::Reader::default()),
    ]
}
