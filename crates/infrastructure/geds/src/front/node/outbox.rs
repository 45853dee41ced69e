//! Answers on their way out.

use std::io;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use super::Limits;
use super::metrics::Counters;
use crate::error::{Error, Kind, Result};
use crate::link::{Frame, Outgoing};
use crate::wire::Reply;

/// Answers that wait, beside the data that they have.
const QUEUED_MAX: usize = 64;
/// So many are sent with one call, if there are so many.
const BATCH_MAX: usize = 16;

/// Where answers go. They are sent in any order.
#[derive(Clone)]
pub(super) struct Outbox {
    answers: mpsc::Sender<Answer>,
    counters: Counters,
}

pub(super) struct Answer {
    frame: Frame,
    /// Of the data in it, until it is sent.
    _room: Option<Room>,
}

/// So much data is held for a connection, and for its tenant.
pub(super) type Room = [OwnedSemaphorePermit; 2];

/// What is to be sent.
pub(super) struct Answers {
    answers: mpsc::Receiver<Answer>,
    outgoing: Outgoing,
    limits: Limits,
    counters: Counters,
}

impl Outbox {
    pub(super) fn new(outgoing: Outgoing, limits: Limits, counters: Counters) -> (Self, Answers) {
        let (sender, answers) = mpsc::channel(QUEUED_MAX);
        let answers = Answers {
            answers,
            outgoing,
            limits,
            counters: counters.clone(),
        };
        let outbox = Self {
            answers: sender,
            counters,
        };
        (outbox, answers)
    }

    /// A request that is to be answered.
    pub(super) fn asked(&self, request: u64, op: u8) -> Asked {
        Asked {
            outbox: self.clone(),
            request,
            op,
            since: rt::now(),
            is_answered: false,
        }
    }
}

impl Answers {
    /// Sends them until nobody can answer any more, or the client does not take them.
    pub(super) async fn send(mut self) -> io::Result<()> {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while self.answers.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let (frames, room): (Vec<_>, Vec<_>) = batch
                .drain(..)
                .map(|answer| (answer.frame, answer._room))
                .unzip();
            let n_bytes: usize = frames.iter().map(Frame::bytes).sum();
            let pace = self.limits.bytes_per_second.max(1);
            let time = Duration::from_secs(n_bytes as u64 / u64::from(pace));
            timeout(self.limits.patience + time, self.outgoing.send(&frames)).await??;
            self.counters.sent_bytes.inc_by(n_bytes as u64);
            drop(room);
        }
        self.outgoing.close().await
    }
}

/// It is answered in any case: if by nothing else, by being dropped.
pub(super) struct Asked {
    outbox: Outbox,
    request: u64,
    op: u8,
    since: Instant,
    is_answered: bool,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.is_answered {
            let error = Error::new(Kind::Unavailable, "the node has given up this request");
            let frame = Frame::refusal(self.request, self.op, &error);
            // Where there is no room, or nobody, a client that waits is one whose connection ends.
            self.outbox
                .answers
                .try_send(Answer { frame, _room: None })
                .ok();
        }
    }
}

impl Asked {
    /// When it was asked.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Its number.
    pub(super) fn request(&self) -> u64 {
        self.request
    }

    pub(super) async fn answer(self, result: Result<impl Reply>) {
        let frame = match result {
            Ok(reply) => Frame::reply(self.request, self.op, &reply, Vec::new()),
            Err(error) => {
                self.outbox.counters.count_error(error.kind);
                Frame::refusal(self.request, self.op, &error)
            }
        };
        self.send(frame, None).await;
    }

    /// With bytes of an object, for which there is room.
    pub(super) async fn answer_with(
        self,
        reply: impl Reply,
        data: Vec<bytes::Bytes>,
        room: Option<Room>,
    ) {
        let frame = Frame::reply(self.request, self.op, &reply, data);
        self.send(frame, room).await;
    }

    async fn send(mut self, frame: Frame, room: Option<Room>) {
        // The client may have gone.
        let answer = Answer { frame, _room: room };
        self.outbox.answers.send(answer).await.ok();
        self.is_answered = true;
    }
}
