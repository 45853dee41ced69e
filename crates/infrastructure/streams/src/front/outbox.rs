//! What is to be sent on a connection.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Buf as _;
use streams_core::names::ConnectionId;
use streams_wire::Outgoing;
use streams_wire::replies::Reply;
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
    /// Not sent yet, with what is being sent.
    bytes: usize,
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
        let before = queue.out.remaining();
        if let Err(error) = reply.encode(&mut queue.out) {
            // It is too long for any frame, and the client would wait for it.
            drop(queue);
            tracing::error!(%error, "a reply cannot be sent");
            return self.end();
        }
        queue.bytes += queue.out.remaining() - before;
        drop(queue);
        self.ready.notify_one();
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
            if self.queue().bytes < FULL_BYTES {
                return;
            }
            room.await;
        }
    }

    /// Sends until the connection is to end.
    pub(super) async fn run(&self, mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
        loop {
            let (mut out, is_over) = {
                let mut queue = self.queue();
                (std::mem::take(&mut queue.out), queue.is_over)
            };
            if !out.has_remaining() {
                if is_over {
                    return writer.shutdown().await;
                }
                self.ready.notified().await;
                continue;
            }
            let n_bytes = out.remaining();
            writer.write_all_buf(&mut out).await?;
            writer.flush().await?;
            self.queue().bytes -= n_bytes;
            self.room.notify_waiters();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
