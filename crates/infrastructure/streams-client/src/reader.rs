//! A reader of a stream, all of it.
//!
//! ```text
//!  segment A ─┐ one task each, which asks for more                        next(): events, one after the other
//!  segment B ─┴──▶ news, a bounded queue: bytes, an end, a failure ──────▶        at an end: who comes next?
//! ```
//!
//! A segment is read when all are over whose place it takes. The end of each comes behind its bytes, so events of one key come in the order in
//! which they were written.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::{Bytes, BytesMut};
use rt::Task;
use streams_wire::events;
use streams_wire::limits::{EVENT_BYTES_MAX, HEADER_BYTES};
use tokio::sync::mpsc;

use crate::controller::Successor;
use crate::cut::StreamCut;
use crate::names::{SegmentNumber, StreamName};
use crate::{Client, Error, Segment};

const NEWS_MAX: usize = 4;
const READ_BYTES: i32 = 1 << 20;

/// Where reading ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Where each segment ended when it was begun.
    Tail,
    /// When the stream is sealed: until then it waits for more.
    Sealed,
}

/// An event, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub segment: SegmentNumber,
    pub offset: i64,
    pub data: Bytes,
}

/// Reads all segments of a stream, each after those before it.
#[derive(Debug)]
pub struct StreamReader {
    client: Client,
    stream: StreamName,
    until: Until,
    active: HashMap<SegmentNumber, Active>,
    /// Those that are over, and where, until all are begun that take their place.
    over: BTreeMap<SegmentNumber, (i64, Vec<Successor>)>,
    /// All that have been begun.
    begun: HashSet<SegmentNumber>,
    /// Whose bytes are given out now.
    current: Option<SegmentNumber>,
    /// It is over, and it is not known yet who comes next.
    ending: Option<SegmentNumber>,
    news: mpsc::Receiver<News>,
    tell: mpsc::Sender<News>,
}

#[derive(Debug)]
struct Active {
    /// Of the first of these bytes.
    offset: i64,
    bytes: Bytes,
    _task: Task,
}

#[derive(Debug)]
struct News {
    segment: SegmentNumber,
    what: What,
}

#[derive(Debug)]
enum What {
    Bytes(Bytes),
    /// What lies before this is gone.
    Truncated(i64),
    /// There is nothing more to read, now or ever.
    Tail,
    End,
    Failed(Error),
}

impl StreamReader {
    /// From where the stream begins.
    ///
    /// # Errors
    /// `NotFound`; what the controller says.
    pub async fn open(client: &Client, stream: &StreamName, until: Until) -> Result<Self, Error> {
        let mut patience = client.patience();
        let head = loop {
            match client.controller().head(stream).await {
                Ok(head) => break head,
                Err(why) => patience.wait(why).await?,
            }
        };
        Ok(Self::open_at(client, head, until))
    }

    /// From a position, which may be one that [`Self::position`] has told.
    #[must_use]
    pub fn open_at(client: &Client, cut: StreamCut, until: Until) -> Self {
        let (tell, news) = mpsc::channel(NEWS_MAX);
        let mut reader = Self {
            client: client.clone(),
            stream: cut.stream,
            until,
            active: HashMap::new(),
            over: BTreeMap::new(),
            begun: HashSet::new(),
            current: None,
            ending: None,
            news,
            tell,
        };
        for (number, offset) in cut.offsets {
            reader.begin(number, offset);
        }
        reader
    }

    /// The next event, or none if there are no more. Cancel-safe.
    ///
    /// # Errors
    /// `Truncated`: some events have been given up before they were read, and reading goes on behind them. Others end the reading of a segment, and
    /// of those behind it.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.take()? {
                return Ok(Some(event));
            }
            if let Some(segment) = self.ending {
                self.end(segment).await?;
                self.ending = None;
            }
            if self.active.is_empty() {
                return Ok(None);
            }
            let news = self.news.recv().await;
            let News { segment, what } = news.expect("a sender is here");
            match what {
                What::Bytes(bytes) => self.receive(segment, &bytes),
                What::Truncated(start) => {
                    if let Some(active) = self.active.get_mut(&segment) {
                        active.offset = start;
                        active.bytes = Bytes::new();
                    }
                    return Err(Error::Truncated { start });
                }
                What::Tail => {
                    self.active.remove(&segment);
                }
                What::End => self.ending = Some(segment),
                What::Failed(why) => {
                    self.active.remove(&segment);
                    return Err(why);
                }
            }
        }
    }

    /// Behind all events that were given out.
    #[must_use]
    pub fn position(&self) -> StreamCut {
        let active = self.active.iter();
        let active = active.map(|(number, active)| (*number, active.offset));
        let over = self.over.iter().map(|(number, (end, _))| (*number, *end));
        StreamCut {
            stream: self.stream.clone(),
            offsets: active.chain(over).collect(),
        }
    }

    fn begin(&mut self, number: SegmentNumber, offset: i64) {
        if !self.begun.insert(number) {
            return;
        }
        let segment = Segment::new(&self.client, self.stream.segment(number));
        let task = follow(segment, offset, self.until, self.tell.clone());
        let active = Active {
            offset,
            bytes: Bytes::new(),
            _task: rt::spawn("streams reader", task),
        };
        self.active.insert(number, active);
    }

    fn receive(&mut self, number: SegmentNumber, bytes: &Bytes) {
        self.current = Some(number);
        if let Some(active) = self.active.get_mut(&number) {
            if active.bytes.is_empty() {
                active.bytes = bytes.clone();
                return;
            }
            let mut joined = BytesMut::with_capacity(active.bytes.len() + bytes.len());
            joined.extend_from_slice(&active.bytes);
            joined.extend_from_slice(bytes);
            active.bytes = joined.freeze();
        }
    }

    fn take(&mut self) -> Result<Option<Event>, Error> {
        let Some(segment) = self.current else {
            return Ok(None);
        };
        let Some(active) = self.active.get_mut(&segment) else {
            return Ok(None);
        };
        let taken = events::take(&mut active.bytes);
        let too_long = active.bytes.len() >= HEADER_BYTES + EVENT_BYTES_MAX;
        match taken {
            Ok(Some(data)) => {
                let offset = active.offset;
                let bytes = i64::try_from(HEADER_BYTES + data.len());
                active.offset += bytes.expect("it is in memory");
                Ok(Some(Event {
                    segment,
                    offset,
                    data,
                }))
            }
            Ok(None) if !too_long => {
                self.current = None;
                Ok(None)
            }
            Ok(None) | Err(_) => {
                let offset = active.offset;
                self.active.remove(&segment);
                let why = format!("there is no event at {offset} of {segment}");
                Err(Error::Protocol(why))
            }
        }
    }

    async fn end(&mut self, number: SegmentNumber) -> Result<(), Error> {
        let mut patience = self.client.patience();
        let successors = loop {
            let controller = self.client.controller();
            match controller.successors(&self.stream, number).await {
                Ok(successors) => break successors,
                Err(why) => patience.wait(why).await?,
            }
        };
        let Some(active) = self.active.remove(&number) else {
            return Ok(());
        };
        if !active.bytes.is_empty() {
            let why = format!("segment {number} ends within an event");
            return Err(Error::Protocol(why));
        }
        self.over.insert(number, (active.offset, successors));
        let ready: Vec<_> = {
            let is_over = |it: &SegmentNumber| self.over.contains_key(it);
            let all = self.over.values().flat_map(|(_, successors)| successors);
            all.filter(|it| it.predecessors.iter().all(is_over))
                .map(|it| it.range.number)
                .collect()
        };
        for successor in ready {
            self.begin(successor, 0);
        }
        let begun = &self.begun;
        let is_begun = |it: &Successor| begun.contains(&it.range.number);
        self.over
            .retain(|_, (_, successors)| !successors.iter().all(is_begun));
        Ok(())
    }
}

/// Reads a segment, as long as anybody wants to know.
async fn follow(segment: Segment, offset: i64, until: Until, tell: mpsc::Sender<News>) {
    let number = segment.name().number;
    let mut reading = Reading {
        segment,
        offset,
        end: None,
    };
    let mut what = match until {
        Until::Sealed => Ok(None),
        Until::Tail => reading.find_end().await.map(|()| None),
    };
    loop {
        let news = match what {
            Ok(None) => None,
            Ok(Some(what)) => Some(what),
            Err(why) => Some(What::Failed(why)),
        };
        if let Some(what) = news {
            let is_last = matches!(what, What::Tail | What::End | What::Failed(_));
            let news = News {
                segment: number,
                what,
            };
            if tell.send(news).await.is_err() || is_last {
                return;
            }
        }
        what = reading.more().await;
    }
}

struct Reading {
    segment: Segment,
    offset: i64,
    /// Where to stop, if not at its end.
    end: Option<i64>,
}

impl Reading {
    async fn find_end(&mut self) -> Result<(), Error> {
        let info = self.segment.info().await?;
        self.end = (!info.is_sealed).then_some(info.length);
        Ok(())
    }

    async fn more(&mut self) -> Result<Option<What>, Error> {
        let left = self.end.map(|end| end - self.offset);
        if left.is_some_and(|left| left <= 0) {
            return Ok(Some(What::Tail));
        }
        let bytes_max = left.and_then(|left| i32::try_from(left).ok());
        let bytes_max = bytes_max.unwrap_or(READ_BYTES).min(READ_BYTES);
        let read = match self.segment.read(self.offset, bytes_max).await {
            Ok(read) => read,
            Err(Error::Truncated { start }) if start > self.offset => {
                self.offset = start;
                return Ok(Some(What::Truncated(start)));
            }
            Err(why) => return Err(why),
        };
        if read.data.is_empty() {
            return Ok(read.is_at_end.then_some(What::End));
        }
        self.offset += i64::try_from(read.data.len()).expect("it is in memory");
        Ok(Some(What::Bytes(read.data)))
    }
}
