//! Appends, and who makes them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use streams_core::attributes::AttributeId;
use streams_core::op::{EventNumbers, Outcome};
use streams_core::{Op, Refusal, SegmentName};
use streams_store::Error;
use streams_wire::blocks::{Append, Pieces};
use streams_wire::replies::{
    AppendSetup, ConditionalCheckFailed, DataAppended, InvalidEventNumber,
};
use streams_wire::requests::SetupAppend;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Shared;
use super::allowed::Until;
use super::connection::Connection;
use super::outbox::Outbox;
use super::refusals::{Subject, refuse};
use crate::metrics::Counters;

/// Of one connection.
pub(super) struct Writers {
    by_id: HashMap<u128, Writer>,
    /// Bytes that may be under way.
    window: Arc<Semaphore>,
    /// No token of these ends before.
    expires: Until,
}

/// Who has set up appends.
struct Writer {
    segment: SegmentName,
    /// The number of the last event that was taken.
    last: i64,
    /// Something of it was refused: what it has sent behind that is refused, too.
    is_refused: bool,
    until: Until,
}

/// A connection that sets up more does not stay.
const WRITERS_MAX: usize = 100_000;

/// What is to be said of an append that was taken.
struct Told {
    outbox: Arc<Outbox>,
    segment: SegmentName,
    writer_id: u128,
    request_id: i64,
    previous: i64,
    last: i64,
    is_conditional: bool,
    n_bytes: u64,
    n_events: u64,
    began: Instant,
    counters: Counters,
    /// Until it is said.
    _room: [OwnedSemaphorePermit; 2],
}

impl Writers {
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            by_id: HashMap::new(),
            window: Arc::new(Semaphore::new(shared.limits.connection_window)),
            expires: None,
        }
    }

    /// It is set up, and may still append.
    pub(super) fn may_append(&self, writer_id: u128) -> bool {
        let writer = self.by_id.get(&writer_id);
        writer.is_some_and(|writer| writer.until.is_none_or(|until| until > rt::now()))
    }

    /// When to look whether they still may.
    pub(super) fn expires(&self) -> Until {
        self.expires
    }

    /// Whether one of them may not append any more. As upstream, its connection has to end then: clients set up a new one, with a new token.
    pub(super) fn expire(&mut self) -> bool {
        self.expires = self.by_id.values().filter_map(|writer| writer.until).min();
        self.expires.is_some_and(|expires| expires <= rt::now())
    }
}

impl Connection {
    /// What it answers is durable, and what was under way from an earlier connection of the writer has been appended then.
    pub(super) fn set_up(&mut self, setup: SetupAppend, until: Until) -> io::Result<()> {
        let SetupAppend {
            request_id,
            writer_id,
            segment: text,
            ..
        } = setup;
        let subject = Subject::new(request_id, &text);
        let Some(segment) = self.name(&subject) else {
            return Ok(());
        };
        if self.writers.by_id.len() >= WRITERS_MAX {
            return Err(io::Error::other("too many writers on one connection"));
        }
        let mut last = None;
        let outbox = Arc::clone(&self.outbox);
        self.shared.store.ask_then(
            &segment,
            |container| {
                let answer = container.attribute(&segment, AttributeId(writer_id))?;
                // From here on nothing of that writer comes in between.
                last = Some(answer.value);
                Ok(answer)
            },
            move |answer| match answer {
                Ok(last_event_number) => outbox.send(AppendSetup {
                    request_id,
                    segment: text,
                    writer_id,
                    last_event_number,
                }),
                Err(error) => refuse(&outbox, &subject, &error),
            },
        );
        match last {
            Some(last) => {
                let writer = Writer {
                    segment,
                    last,
                    is_refused: false,
                    until,
                };
                self.writers.expires = self.writers.expires.into_iter().chain(until).min();
                self.writers.by_id.insert(writer_id, writer);
            }
            None => {
                self.writers.by_id.remove(&writer_id);
            }
        }
        Ok(())
    }

    pub(super) async fn append(&mut self, append: Append) -> io::Result<()> {
        let began = rt::now();
        let room = room(&self.writers.window, &self.shared, append.data.len()).await;
        let Some(writer) = self.writers.by_id.get_mut(&append.writer_id) else {
            return Err(io::Error::other("an append of a writer that is not set up"));
        };
        // It may have waited.
        if writer.until.is_some_and(|until| until <= rt::now()) {
            return Err(io::Error::other("the token of a writer has expired"));
        }
        if writer.is_refused {
            return Ok(());
        }
        let previous = writer.last;
        let last = append.last_event_number;
        if last <= previous {
            self.outbox.send(InvalidEventNumber {
                writer_id: append.writer_id,
                request_id: append.request_id,
                server_stack_trace: String::new(),
                event_number: last,
            });
            self.outbox.end();
            return Ok(());
        }
        let numbers = EventNumbers {
            writer: AttributeId(append.writer_id),
            previous,
            last,
            n_events: append.n_events.into(),
        };
        let data = whole(&append.data);
        let mut op = streams_core::op::Append::events(writer.segment.clone(), data, numbers);
        let told = Told {
            outbox: Arc::clone(&self.outbox),
            segment: writer.segment.clone(),
            writer_id: append.writer_id,
            request_id: append.request_id,
            previous,
            last,
            is_conditional: append.expected_offset.is_some(),
            n_bytes: append.data.len() as u64,
            n_events: append.n_events.into(),
            began,
            counters: self.shared.counters.clone(),
            _room: room,
        };
        if let Some(offset) = append.expected_offset {
            match u64::try_from(offset) {
                Ok(offset) => op = op.at(offset),
                Err(_) => return Err(io::Error::other("an append at an offset below zero")),
            }
        }
        let is_conditional = told.is_conditional;
        let tell = move |outcome| told.tell(outcome);
        let (store, op) = (&self.shared.store, Op::Append(op));
        let is_taken = store.submit(&op, tell, &mut self.unwritten).await;
        if is_taken {
            writer.last = last;
        } else {
            // A condition that did not hold is answered, and the writer goes on.
            writer.is_refused = !is_conditional;
        }
        Ok(())
    }
}

/// Room for so many bytes, of this connection and of all.
async fn room(own: &Arc<Semaphore>, shared: &Shared, n_bytes: usize) -> [OwnedSemaphorePermit; 2] {
    let acquire = async |window: &Arc<Semaphore>, max: usize| {
        // What is larger than the window takes all of it.
        let n_permits = u32::try_from(n_bytes.clamp(1, max)).unwrap_or(u32::MAX);
        let permits = Arc::clone(window).acquire_many_owned(n_permits).await;
        permits.expect("nobody closes it")
    };
    let limits = shared.limits;
    let own = acquire(own, limits.connection_window).await;
    let of_all = acquire(&shared.window, limits.window).await;
    [own, of_all]
}

impl Told {
    fn tell(self, outcome: Result<Outcome, Error>) {
        let Self {
            outbox,
            writer_id,
            request_id,
            last: event_number,
            ..
        } = &self;
        let (writer_id, request_id, event_number) = (*writer_id, *request_id, *event_number);
        match outcome {
            Ok(Outcome::Appended { length }) => {
                let appended = DataAppended {
                    writer_id,
                    event_number,
                    previous_event_number: self.previous,
                    request_id,
                    current_segment_write_offset: length.cast_signed(),
                };
                if self.is_conditional {
                    outbox.send(appended);
                } else {
                    outbox.acknowledge(appended);
                }
                let took = rt::now().duration_since(self.began);
                self.counters.appended(self.n_bytes, self.n_events, took);
            }
            Err(Error::Refused(Refusal::BadOffset { .. })) if self.is_conditional => {
                outbox.send(ConditionalCheckFailed {
                    writer_id,
                    event_number,
                    request_id,
                });
            }
            Err(Error::Refused(Refusal::BadAttribute { .. })) => {
                outbox.send(InvalidEventNumber {
                    writer_id,
                    request_id,
                    server_stack_trace: String::new(),
                    event_number,
                });
                outbox.end();
            }
            Err(error) => {
                let mut subject = Subject::new(request_id, self.segment.as_str());
                subject.offset = event_number;
                refuse(outbox, &subject, &error);
                let is_said = matches!(
                    error,
                    Error::Refused(Refusal::Sealed(_) | Refusal::NoSuchSegment(_))
                );
                if !is_said {
                    // A new connection makes things clear again.
                    outbox.end();
                }
            }
            Ok(_) => unreachable!("an append is appended"),
        }
    }
}

fn whole(pieces: &Pieces) -> Bytes {
    let mut parts = pieces.iter();
    match (parts.next(), parts.next()) {
        (None, _) => Bytes::new(),
        (Some(only), None) => only.clone(),
        _ => {
            let mut whole = BytesMut::with_capacity(pieces.len());
            pieces
                .iter()
                .for_each(|piece| whole.extend_from_slice(piece));
            whole.freeze()
        }
    }
}
