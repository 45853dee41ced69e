//! Objects that are being written.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use geds_core::Result;
use geds_core::index::{Class, Entry, Name, NodeId};
use ids::Epoch;

use crate::connection::{Asked, Connection, Ending};
use crate::wire::{Request, Seal, SealedAs, Write, Written};
use crate::{Terms, WriterToken};

/// So much is sent in one frame, and so many frames before the first is answered.
const FRAME_BYTES: usize = 256 << 10;
const FRAMES_AHEAD: usize = 16;

/// Writes an object. What is written is seen by nobody until it is sealed, and gone if it is not, unless it was [detached](Self::detach).
pub struct Writer {
    connection: Arc<Connection>,
    ending: Ending,
    asked: VecDeque<Asked>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writer").field(&self.ending).finish()
    }
}

/// What a seal promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub entry: Arc<Entry>,
    /// The end of this incarnation of a node loses the object. `None`: it is durable, no end of a node does.
    pub lost_with: Option<(NodeId, Epoch)>,
}

impl Writer {
    pub(super) async fn begin(connection: &Arc<Connection>, reserve: u64) -> Result<Self> {
        let mut ending = connection.handle().await?;
        let writer = ending.handle;
        let begin = Request::Write(Write::Begin { writer, reserve });
        let asked = connection.send(&begin, Vec::new()).await?;
        ending.request = Some(Request::Write(Write::Abort { writer }));
        Ok(Self {
            connection: Arc::clone(connection),
            ending,
            asked: [asked].into(),
        })
    }

    pub(super) async fn attach(
        connection: &Arc<Connection>,
        token: WriterToken,
        epoch: Epoch,
    ) -> Result<(Self, u64)> {
        let mut ending = connection.handle().await?;
        let writer = ending.handle;
        let attach = Request::Write(Write::Attach {
            writer,
            token,
            epoch,
        });
        let asked = connection.send(&attach, Vec::new()).await?;
        ending.request = Some(Request::Write(Write::Abort { writer }));
        let (Written { len }, _) = asked.answer().await?;
        let writer = Self {
            connection: Arc::clone(connection),
            ending,
            asked: VecDeque::new(),
        };
        Ok((writer, len))
    }

    /// From now on the object outlives this writer and its connection: when both are gone, the node keeps what was written for ten minutes, for who
    /// comes with the token ([`Client::attach_writer`](crate::Client::attach_writer)). Until then this one may write on. The end of the node
    /// loses what is not sealed.
    ///
    /// # Errors
    /// What went wrong before; `Exhausted` when the tenant has too many of them. The object is given up then.
    pub async fn detach(&mut self) -> Result<WriterToken> {
        let writer = self.ending.handle;
        let detach = Request::Write(Write::Detach { writer });
        let asked = self.connection.send(&detach, Vec::new()).await?;
        for before in std::mem::take(&mut self.asked) {
            before.answer::<()>().await?;
        }
        let (token, _) = asked.answer().await?;
        Ok(token)
    }

    /// Writes behind all that there is. Waits while much is on its way.
    ///
    /// # Errors
    /// `Exhausted` when there is no room. It may be told by a later call, and nothing is sealed then.
    pub async fn append(&mut self, data: Bytes) -> Result<()> {
        self.write(None, data).await
    }

    /// Writes over what is there, and lengthens the object if `data` end behind its end. What lies between is zero.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    pub async fn write_at(&mut self, position: u64, data: Bytes) -> Result<()> {
        self.write(Some(position), data).await
    }

    /// Gives the object another length. What is added is zero.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    pub async fn truncate(&mut self, len: u64) -> Result<()> {
        let writer = self.ending.handle;
        self.send(Write::Truncate { writer, len }, Bytes::new())
            .await
    }

    async fn write(&mut self, mut position: Option<u64>, mut data: Bytes) -> Result<()> {
        let writer = self.ending.handle;
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(FRAME_BYTES));
            let n_bytes = piece.len() as u64;
            self.send(Write::Put { writer, position }, piece).await?;
            position = position.map(|position| position.saturating_add(n_bytes));
        }
        Ok(())
    }

    async fn send(&mut self, write: Write, data: Bytes) -> Result<()> {
        while self.asked.len() >= FRAMES_AHEAD
            && let Some(asked) = self.asked.pop_front()
        {
            asked.answer::<()>().await?;
        }
        let data = if data.is_empty() {
            Vec::new()
        } else {
            vec![data]
        };
        let asked = self.connection.send(&Request::Write(write), data).await?;
        self.asked.push_back(asked);
        Ok(())
    }

    /// Gives a name to what was written, all of which is there then.
    ///
    /// # Errors
    /// `Conflict` when the name is not as the terms say; what went wrong before. Nothing was changed then, and what was written is gone.
    pub async fn seal(mut self, name: &Name, class: Class, terms: Terms) -> Result<Acknowledged> {
        let seal = Seal {
            writer: self.ending.handle,
            name: name.clone(),
            class,
            terms,
        };
        let seal = Request::Write(Write::Seal(Box::new(seal)));
        let asked = self.connection.send(&seal, Vec::new()).await?;
        self.ending.request = None;
        // If one of these has failed, so does the seal; the first says why.
        for before in std::mem::take(&mut self.asked) {
            before.answer::<()>().await?;
        }
        let (SealedAs { entry, lost_with }, _) = asked.answer().await?;
        Ok(Acknowledged { entry, lost_with })
    }
}
