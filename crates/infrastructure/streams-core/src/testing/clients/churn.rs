//! Who makes, seals, reads and truncates segments.

use super::{Client, Context, Link, name};
use crate::attributes::{AttributeId, NO_VALUE};
use crate::op::Outcome;
use crate::segment::Kind;
use crate::testing::check::{Stage, check_tags};
use crate::testing::net::{Ask, Tell};
use crate::{Op, Refusal, SegmentId};

/// Makes a segment, writes to it which one it is, reads that, seals it, perhaps, deletes it, and does it again under the same name.
#[derive(Default)]
pub(super) struct Churn {
    link: Link,
    id: SegmentId,
    last: i64,
    is_sealing: bool,
}

const WRITER: AttributeId = AttributeId(1077);

impl Churn {
    fn append(&mut self, cx: &mut Context<'_>) {
        self.last += 1;
        let ask = Ask::Append {
            segment: name("churn"),
            writer: WRITER,
            last: self.last,
            n_events: 1,
            data: self.id.0.to_be_bytes().to_vec(),
            at: None,
        };
        self.link.ask(ask, cx);
    }

    fn end(&mut self, cx: &mut Context<'_>) {
        self.is_sealing = cx.chance.one_in(2);
        let op = match self.is_sealing {
            true => Op::Seal(name("churn")),
            false => Op::Delete(name("churn")),
        };
        self.link.ask(Ask::Do(op), cx);
    }

    fn saw(&self, id: SegmentId, stage: Stage, cx: &mut Context<'_>) {
        let when = (self.link.asked, cx.net.now);
        cx.history.saw_segment(&name("churn"), when, id, stage);
    }
}

impl Client for Churn {
    fn act(&mut self, cx: &mut Context<'_>) {
        if self.link.connect(cx) {
            self.is_sealing = false;
            self.link.ask(Ask::Info(name("churn")), cx);
        }
    }

    fn told(&mut self, tell: Tell, cx: &mut Context<'_>) {
        match tell {
            Tell::Done(Outcome::Done) if self.is_sealing => {
                self.is_sealing = false;
                self.saw(self.id, Stage::Sealed, cx);
                self.link.ask(Ask::Do(Op::Delete(name("churn"))), cx);
            }
            // By a server that is gone.
            Tell::Refused(Refusal::Sealed(_)) => {
                self.link.ask(Ask::Do(Op::Delete(name("churn"))), cx);
            }
            Tell::Refused(Refusal::NoSuchSegment(_)) | Tell::Done(Outcome::Done) => {
                self.saw(self.id, Stage::Gone, cx);
                let create = Op::Create {
                    segment: name("churn"),
                    kind: Kind::Stream,
                    attributes: Vec::new(),
                };
                self.link.ask(Ask::Do(create), cx);
            }
            Tell::Done(Outcome::Created(id)) => {
                self.saw(id, Stage::Open, cx);
                self.id = id;
                self.last = 0;
                self.link.ask(Ask::Setup(name("churn"), WRITER), cx);
            }
            Tell::Info(info) => {
                self.id = info.id;
                self.last = 1;
                self.link.ask(Ask::Setup(name("churn"), WRITER), cx);
            }
            Tell::Setup(last) => {
                if self.last == 0 && last != NO_VALUE {
                    let what = "a segment that was made anew knows a writer";
                    cx.history.wrong.push(what.to_owned());
                }
                self.last = last.max(0);
                self.append(cx);
            }
            Tell::Appended { .. } if cx.chance.one_in(2) => self.append(cx),
            Tell::Appended { .. } => self.link.ask(Ask::Read(name("churn"), 0), cx),
            Tell::Bytes(_, bytes) => {
                cx.history.wrong.extend(check_tags(self.id, &bytes).err());
                if cx.chance.one_in(2) {
                    return self.append(cx);
                }
                self.end(cx);
            }
            _ => self.link.hang_up(cx),
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// What it has said of one segment must not arrive at the next.
    fn may_hang_up(&self) -> bool {
        false
    }
}

/// Looks at the segment of [`Churn`], of which it may be told only what stays so.
#[derive(Default)]
pub(super) struct Watcher {
    link: Link,
    id: SegmentId,
}

impl Client for Watcher {
    fn act(&mut self, cx: &mut Context<'_>) {
        if self.link.connect(cx) {
            self.link.ask(Ask::Info(name("churn")), cx);
        }
    }

    fn told(&mut self, tell: Tell, cx: &mut Context<'_>) {
        let stage = match tell {
            Tell::Info(info) => {
                self.id = info.id;
                match info.is_sealed {
                    true => Stage::Sealed,
                    false => Stage::Open,
                }
            }
            // At least the one that it saw last.
            Tell::Refused(Refusal::NoSuchSegment(_)) => Stage::Gone,
            _ => return self.link.hang_up(cx),
        };
        let when = (self.link.asked, cx.net.now);
        cx.history.saw_segment(&name("churn"), when, self.id, stage);
        self.link.ask(Ask::Info(name("churn")), cx);
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// Seals one of the logs, and looks how long it is.
#[derive(Default)]
pub(super) struct Sealer {
    link: Link,
    is_done: bool,
}

impl Client for Sealer {
    fn act(&mut self, cx: &mut Context<'_>) {
        if cx.net.now > 1_500 && !self.is_done && self.link.connect(cx) {
            self.link.ask(Ask::Do(Op::Seal(name("log/1"))), cx);
        }
    }

    fn told(&mut self, tell: Tell, cx: &mut Context<'_>) {
        match tell {
            Tell::Done(_) | Tell::Refused(Refusal::Sealed(_)) => {
                self.link.ask(Ask::Info(name("log/1")), cx);
            }
            Tell::Info(info) => {
                self.is_done = true;
                cx.history.sealed.insert(name("log/1"), info.length);
            }
            _ => self.link.hang_up(cx),
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// Reads a log as it grows, and gives up what it has read.
#[derive(Default)]
pub(super) struct Reader {
    link: Link,
}

impl Reader {
    fn read(&mut self, cx: &mut Context<'_>) {
        let read = cx.history.read.entry(name("log/0")).or_default();
        let offset = read.len() as u64;
        self.link.ask(Ask::Read(name("log/0"), offset), cx);
    }
}

impl Client for Reader {
    fn act(&mut self, cx: &mut Context<'_>) {
        if self.link.connect(cx) {
            self.read(cx);
        }
    }

    fn told(&mut self, tell: Tell, cx: &mut Context<'_>) {
        match tell {
            Tell::Bytes(offset, bytes) => {
                let read = cx.history.read.entry(name("log/0")).or_default();
                if offset != read.len() as u64 {
                    let what = "an answer to another question";
                    cx.history.wrong.push(what.to_owned());
                    return;
                }
                read.extend(bytes);
                let offset = read.len() as u64;
                if cx.chance.one_in(6) {
                    let truncate = Op::Truncate {
                        segment: name("log/0"),
                        offset: offset - cx.chance.below(10).min(offset),
                    };
                    return self.link.ask(Ask::Do(truncate), cx);
                }
                self.read(cx);
            }
            // It may be there already.
            Tell::Done(_) | Tell::Refused(Refusal::BadOffset { .. }) => self.read(cx),
            _ => self.link.hang_up(cx),
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}
