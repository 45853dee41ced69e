//! The memory of a node on the same machine.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use geds_arena::{Opened, View};
use geds_core::index::{Entry, Name};
use geds_core::{Error, Kind, Result};

use crate::Terms;
use crate::wire::{Attached, Found, Move, Reply as _, Request, SealedAs, local_name};
use crate::{Acknowledged, Client};

/// How often an object is written that has no room. In between the node waits until there is some, which others may take.
const TRIES: usize = 4;

/// Reads and writes the memory of a node on this machine, where it is. What is in memory is opened without asking the node, once it was opened before and
/// has not changed since.
#[derive(Clone, Debug)]
pub struct Local {
    memory: geds_arena::Client,
    node: Client,
    object_bytes_max: u64,
}

/// An object in the memory of a node. Its bytes stay where they are as long as this or a view of it lives, whatever its name stands for meanwhile.
#[derive(Clone, Debug)]
pub struct InPlace {
    opened: Opened,
    said: Arc<[u8]>,
}

impl Local {
    pub(super) async fn connect(node: &Client, attached: Attached) -> Result<Self> {
        let Attached {
            path,
            token,
            object_bytes_max,
        } = attached;
        let connecting =
            rt::blocking(move || geds_arena::Client::connect(Path::new(&path), &token.0));
        let connected = connecting.await;
        let connected = connected.map_err(|error| Error::io("wait for a thread", error))?;
        Ok(Self {
            memory: connected.map_err(|error| {
                Error::caused(Kind::Unavailable, "come to the memory of the node", error)
            })?,
            node: node.clone(),
            object_bytes_max,
        })
    }

    /// Opens an object that is in memory. `None`: it is not to be had here, and [`Client::open`] reads it or says why not.
    ///
    /// # Errors
    /// `NotFound`; `Lost`; `Corrupt`.
    pub fn open(&self, name: &Name) -> Result<Option<InPlace>> {
        match self.memory.open_in_place(&local_name(name)) {
            Ok(found) => Ok(found.map(|(opened, said)| InPlace { opened, said })),
            Err(error) if error.kind == Kind::Unavailable => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A longer object is not written here, but by [`Client::put`].
    #[must_use]
    pub fn object_bytes_max(&self) -> u64 {
        self.object_bytes_max
    }

    /// Begins an object. It is given up when it is dropped.
    #[must_use]
    pub fn writer(&self) -> geds_arena::Writer {
        self.memory.writer()
    }

    /// Gives a name to what was written here. The end of the node loses it, and that of this process does not.
    ///
    /// # Errors
    /// `Conflict` when the name is not as the terms say; `Invalid`, also when the metadata has more than some kilobytes. What was written is gone.
    pub fn seal(
        &self,
        writer: geds_arena::Writer,
        name: &Name,
        terms: &Terms,
    ) -> Result<Acknowledged> {
        let said = terms.encode();
        let answer = self
            .memory
            .seal_and_wait(writer, &local_name(name), &said)?;
        let SealedAs { entry, lost_with } = SealedAs::parse(&answer)?;
        Ok(Acknowledged { entry, lost_with })
    }

    /// Writes an object as a whole, and waits for room.
    ///
    /// # Errors
    /// Those of [`seal`](Self::seal); `Exhausted` when there is no room, or it is longer than it may be here.
    pub async fn put(&self, name: &Name, data: Bytes, terms: Terms) -> Result<Acknowledged> {
        let n_bytes = data.len() as u64;
        if n_bytes > self.object_bytes_max {
            let most = self.object_bytes_max;
            let what = format!("{n_bytes} bytes are written by the node: here are {most} at most");
            return Err(Error::new(Kind::Exhausted, what));
        }
        let mut n_left = TRIES;
        loop {
            let (local, name, data, terms) =
                (self.clone(), name.clone(), data.clone(), terms.clone());
            let put = rt::blocking(move || {
                let mut writer = local.writer();
                writer.reserve(n_bytes)?;
                writer.append(&data)?;
                local.seal(writer, &name, &terms)
            });
            let put = put.await;
            let put = put.map_err(|error| Error::io("wait for a thread", error))?;
            n_left -= 1;
            match put {
                Err(error) if error.kind == Kind::Exhausted && n_left > 0 => {
                    let room = Request::Move(Move::MakeRoom(n_bytes));
                    self.node.ask::<()>(room).await?;
                }
                result => return result,
            }
        }
    }
}

impl InPlace {
    /// What its name said when it was opened.
    ///
    /// # Errors
    /// `Invalid`: the node says something else.
    pub fn entry(&self) -> Result<Arc<Entry>> {
        let Found(entry) = Found::parse(&self.said)?;
        Ok(entry)
    }

    /// All of it, if it lies in one piece. Nothing is copied.
    #[must_use]
    pub fn view(&self) -> Option<View> {
        self.opened.view()
    }

    /// Its pieces, in order. Nothing is copied.
    pub fn views(&self) -> impl Iterator<Item = View> + '_ {
        self.opened.views()
    }

    /// Copies bytes from `position` on; gives their number, which is less than there is room for only at the end.
    pub fn read_at(&self, position: u64, into: &mut [u8]) -> usize {
        self.opened.read_at(position, into)
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        self.opened.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.opened.is_empty()
    }
}
