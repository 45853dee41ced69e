//! What is to be sent on a connection.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Buf as _;
use streams_core::names::ConnectionId;
use streams_wire::Outgoing;
use streams_wire::replies::{DataAppended, Reply};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

/// While more is to be sent, nothing more is read of segments.
const FULL_BYTES: usize = 2 << 20;

/// So long who is told why a connection ends may take to hear it.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Replies, in order. Whoever has one puts it in, on any thread, without waiting; one task sends them.
#[derive(Debug)]
pub(super) struct Outbox {
    connection: ConnectionId,
    queue: Mutex<Queue>,
    /// There is something to send, or nothing will be any more.
    ready: Notify,
    room: Notify,
    /// The connection is to end.
    over: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    out: Outgoing,
    /// Behind it. What is acknowledged next may be said with it.
    acknowledged: Option<DataAppended>,
    /// Bytes that are being sent.
    sending: usize,
    is_over: bool,
}

impl Outbox {
    pub(super) fn new(connection: ConnectionId) -> Self {
        Self {
            connection,
            queue: Mutex::default(),
            ready: Notify::new(),
            room: Notify::new(),
            over: Notify::new(),
        }
    }

    pub(super) fn send(&self, reply: impl Into<Reply>) {
        let reply = reply.into();
        let request_id = reply.request_id();
        tracing::trace!(
            connection = self.connection.0,
            reply = reply.name(),
            request_id
        );
        let mut queue = self.queue();
        if queue.is_over {
            return;
        }
        queue.put_acknowledged();
        if let Err(error) = reply.encode(&mut queue.out) {
            // It is too long for any frame, and the client would wait for it.
            drop(queue);
            tracing::error!(%error, "a reply cannot be sent");
            return self.end();
        }
        drop(queue);
        self.ready.notify_one();
    }

    /// The same of an append. As long as they are not being sent, those of one writer in a row are one reply.
    pub(super) fn acknowledge(&self, appended: DataAppended) {
        let mut queue = self.queue();
        if queue.is_over {
            return;
        }
        let is_next = |before: &&mut DataAppended| {
            before.writer_id == appended.writer_id
                && before.event_number == appended.previous_event_number
        };
        match queue.acknowledged.as_mut().filter(is_next) {
            Some(before) => {
                let previous_event_number = before.previous_event_number;
                *before = DataAppended {
                    previous_event_number,
                    ..appended
                };
            }
            None => {
                queue.put_acknowledged();
                queue.acknowledged = Some(appended);
                drop(queue);
                self.ready.notify_one();
            }
        }
    }

    /// The connection ends when all that was put in is sent.
    pub(super) fn end(&self) {
        self.queue().is_over = true;
        self.ready.notify_one();
        self.over.notify_waiters();
    }

    /// Waits until the connection is to end.
    pub(super) async fn over(&self) {
        let over = self.over.notified();
        if !self.queue().is_over {
            over.await;
        }
    }

    /// Waits until it is to have ended: who does not take what is sent to it does not keep it.
    pub(super) async fn late(&self) {
        self.over().await;
        tokio::time::sleep(LAST_WORDS).await;
    }

    /// Waits until not too much is to be sent.
    pub(super) async fn room(&self) {
        loop {
            let room = self.room.notified();
            if self.queue().bytes() < FULL_BYTES {
                return;
            }
            room.await;
        }
    }

    /// Sends until the connection is to end.
    pub(super) async fn run(&self, mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
        loop {
            let (mut out, is_over) = self.queue().take();
            if !out.has_remaining() {
                if is_over {
                    return writer.shutdown().await;
                }
                self.ready.notified().await;
                continue;
            }
            writer.write_all_buf(&mut out).await?;
            writer.flush().await?;
            self.queue().sending = 0;
            self.room.notify_waiters();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn put_acknowledged(&mut self) {
        if let Some(appended) = self.acknowledged.take() {
            let put = Reply::from(appended).encode(&mut self.out);
            put.expect("it is shorter than any frame may be");
        }
    }

    /// What is to be sent next, and whether nothing comes behind it.
    fn take(&mut self) -> (Outgoing, bool) {
        self.put_acknowledged();
        self.sending = self.out.remaining();
        (std::mem::take(&mut self.out), self.is_over)
    }

    /// Not sent yet.
    fn bytes(&self) -> usize {
        self.sending + self.out.remaining()
    }
}

#[cfg(test)]
mod tests {
    use streams_wire::frame::{Split, split};
    use streams_wire::requests::KeepAlive;

    use super::*;

    fn appended(writer_id: u128, previous: i64, last: i64) -> DataAppended {
        DataAppended {
            writer_id,
            event_number: last,
            previous_event_number: previous,
            request_id: last,
            current_segment_write_offset: last * 10,
        }
    }

    #[tokio::test]
    async fn what_one_writer_is_told_in_a_row_is_told_at_once() {
        let outbox = Outbox::new(ConnectionId(0));
        for (writer, previous, last) in [(1, 0, 1), (1, 1, 4), (2, 0, 1), (1, 4, 5), (1, 5, 6)] {
            outbox.acknowledge(appended(writer, previous, last));
        }
        outbox.send(KeepAlive {});
        outbox.acknowledge(appended(1, 6, 7));
        // It was sent on its own, as the client may wait for just this.
        outbox.send(appended(1, 7, 8));
        outbox.acknowledge(appended(1, 8, 9));
        outbox.end();
        let mut sent = Vec::new();
        outbox.run(&mut sent).await.expect("sent");
        let mut sent = bytes::BytesMut::from(&sent[..]);
        let mut told = Vec::new();
        while let Split::Frame(frame) = split(&mut sent).expect("frames") {
            told.push(Reply::decode(frame).expect("a reply"));
        }
        let expected = [
            appended(1, 0, 4).into(),
            appended(2, 0, 1).into(),
            appended(1, 4, 6).into(),
            KeepAlive {}.into(),
            appended(1, 6, 7).into(),
            appended(1, 7, 8).into(),
            appended(1, 8, 9).into(),
        ];
        assert_eq!(told, expected);
    }
}
