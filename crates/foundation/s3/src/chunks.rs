//! What is read of an object: pieces of memory, one after the other.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::backend::Error;

/// Bytes to be sent. They are sent from where they lie; a piece is dropped when all of it was taken by the connection.
pub struct Chunks(Kind);

enum Kind {
    Memory(VecDeque<Bytes>),
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>),
}

impl Chunks {
    pub fn memory(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Self(Kind::Memory(pieces.into_iter().collect()))
    }

    /// It is asked for a piece when the one before is on its way.
    pub fn stream(pieces: impl Stream<Item = Result<Bytes, Error>> + Send + 'static) -> Self {
        Self(Kind::Stream(Box::pin(pieces)))
    }

    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        match &mut self.0 {
            Kind::Memory(pieces) => Poll::Ready(pieces.pop_front().map(Ok)),
            Kind::Stream(pieces) => pieces.as_mut().poll_next(context),
        }
    }

    /// The next piece.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks").finish_non_exhaustive()
    }
}

/// The body of an answer, or of a copy. If the store gives less or more than there should be, the connection breaks: the client has a length.
pub(crate) struct Download {
    pieces: Chunks,
    left: u64,
}

impl Download {
    pub(crate) fn new(pieces: Chunks, length: u64) -> Self {
        Self {
            pieces,
            left: length,
        }
    }

    fn wrong(&self) -> Poll<Option<Result<Frame<Bytes>, s3s::StdError>>> {
        let error = Error::Internal {
            context: "read an object: its store gives another length than it has".to_owned(),
            source: None,
        };
        tracing::error!(%error, left = self.left, "read an object");
        Poll::Ready(Some(Err(error.into())))
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = s3s::StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, s3s::StdError>>> {
        match ready!(self.pieces.poll_next(context)) {
            Some(Ok(piece)) => match self.left.checked_sub(piece.len() as u64) {
                Some(left) => {
                    self.left = left;
                    Poll::Ready(Some(Ok(Frame::data(piece))))
                }
                None => self.wrong(),
            },
            Some(Err(error)) => {
                tracing::warn!(%error, left = self.left, "read an object");
                Poll::Ready(Some(Err(error.into())))
            }
            None if self.left > 0 => self.wrong(),
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}
