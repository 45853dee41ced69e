//! Who speaks with a node from another process or machine, and what is said.
//!
//! ```text
//!  Client::put, get, list, …  ──▶ a numbered request ──▶ one task writes them │ one task reads answers ──▶ whoever asked
//! ```
//!
//! - [`Client`] is one connection, shared by its clones. Any number of calls may be under way; none waits for another one's data.
//! - When the connection ends, all that is under way is `Unavailable`, and what was not answered may or may not have been done. To connect
//!   again is up to the caller.
//! - What is received was asked for: nothing piles up here that nobody takes.
//! - [`Local`] is the memory of a node on the same machine.
//! - [`wire`] is the protocol as bytes, for both sides, and [`link`] a connection that carries them: the node's door uses them too.
#![forbid(unsafe_code)]

mod connection;
pub mod link;
mod local;
mod object;
mod site;
mod terms;
pub mod wire;
mod writer;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use geds_core::index::{
    BucketName, Class, ConsumerId, Cursor, Entry, Folder, Name, NodeId, Page, Precondition,
    Revision, Scope,
};
pub use geds_core::{Error, Kind, Result, index};
use ids::Epoch;
use rustls::ClientConfig;

pub use self::connection::Asked;
use self::connection::Connection;
pub use self::local::{InPlace, Local};
pub use self::object::{Object, Pieces};
pub use self::terms::{Condition, Status, Terms, WriterToken};
use self::wire::{Attached, Buckets, Change, Listed, Look, Move, Request, Statistics, Watch};
pub use self::wire::{DATA_BYTES_MAX, Event, METADATA_BYTES_MAX, Position, Watched};
pub use self::writer::{Acknowledged, Writer};

/// Who asks.
#[derive(Clone)]
pub struct Credentials {
    pub access_key: String,
    pub secret: String,
}

impl Credentials {
    #[must_use]
    pub fn new(access_key: String, secret: String) -> Self {
        Self { access_key, secret }
    }

    /// Those of a file: see [`store::Credentials::parse`].
    ///
    /// # Errors
    /// `Invalid`: there are none in it. The message has nothing of the text.
    pub fn parse(text: &str) -> Result<Self> {
        let parsed = store::Credentials::parse(text);
        let parsed =
            parsed.map_err(|error| Error::caused(Kind::Invalid, "read credentials", error))?;
        Ok(Self::new(
            parsed.access_key,
            parsed.secret.reveal().to_owned(),
        ))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials")
            .field(&self.access_key)
            .finish()
    }
}

/// How a node is known within TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    pub config: Arc<ClientConfig>,
    /// The name in its certificate.
    pub name: String,
}

/// A connection to a node. It ends when its last clone is dropped, and whatever was opened or begun with it.
#[derive(Clone, Debug)]
pub struct Client(Arc<Connection>);

impl Client {
    /// # Errors
    /// `Unavailable`: nobody answers as a node does. `Denied`: one side does not know the secret.
    pub async fn connect(
        addr: SocketAddr,
        credentials: &Credentials,
        tls: Option<&Tls>,
    ) -> Result<Self> {
        let Credentials { access_key, secret } = credentials;
        let connection = Connection::open(addr, (access_key, secret), tls).await?;
        Ok(Self(Arc::new(connection)))
    }

    /// Comes to the memory of a node on this machine, to read and write there without sending anything.
    ///
    /// # Errors
    /// `Unavailable`: the node is on another machine, or does not share its memory with this process.
    pub async fn attach(&self) -> Result<Local> {
        let attached = self.attached().await?;
        Local::connect(self, attached).await
    }

    /// How to come there, for once.
    pub async fn attached(&self) -> Result<Attached> {
        self.ask(Request::Look(Look::Attach)).await
    }

    /// Which node it is, and which incarnation of it.
    #[must_use]
    pub fn node(&self) -> (NodeId, Epoch) {
        self.0.node
    }

    /// # Errors
    /// `Conflict`: there is one of that name.
    pub async fn create_bucket(&self, bucket: &BucketName) -> Result<()> {
        self.change(Change::CreateBucket(bucket.clone())).await
    }

    /// # Errors
    /// `Conflict`: it is not empty.
    pub async fn delete_bucket(&self, bucket: &BucketName) -> Result<()> {
        self.change(Change::DeleteBucket(bucket.clone())).await
    }

    /// In order, with when they were created (since 1970, in ms).
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn buckets(&self) -> Result<Vec<(BucketName, u64)>> {
        let mut all = Vec::new();
        let mut from = String::new();
        loop {
            let look = Look::Buckets { from };
            let page: Buckets = self.ask(Request::Look(look)).await?;
            let last = page.buckets.last().map(|(name, _)| format!("{name}\0"));
            all.extend(page.buckets);
            match last {
                Some(next) if !page.are_all => from = next,
                _ => return Ok(all),
            }
        }
    }

    /// # Errors
    /// `NotFound`.
    pub async fn status(&self, name: &Name) -> Result<Status> {
        self.ask(Request::Look(Look::Status(name.clone()))).await
    }

    /// A page of names: at most `items_max`, perhaps fewer, as they were at one revision. `from` is where the page before says that the next
    /// begins. Names that have `delimiter` after the prefix are told as folders; an empty one is none.
    ///
    /// # Errors
    /// `NotFound` when there is no such bucket, or what was at the revision of `from` is not known any more: list again.
    pub async fn list(
        &self,
        folder: &Folder,
        delimiter: &str,
        items_max: usize,
        from: Option<&Cursor>,
    ) -> Result<(Page, Revision)> {
        let look = Look::List {
            folder: folder.clone(),
            delimiter: delimiter.to_owned(),
            items_max,
            from: from.cloned(),
            with_metadata: true,
        };
        let Listed { page, revision } = self.ask(Request::Look(look)).await?;
        Ok((page, revision))
    }

    /// Opens an object. Its bytes stay, whatever its name stands for meanwhile.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is not as `when` says; `Lost`; `Corrupt`; `Exhausted` when too many are open.
    pub async fn open(&self, name: &Name, when: Precondition) -> Result<Object> {
        Object::open(&self.0, name, when, 0..0).await
    }

    /// All of an object that is not longer than `bytes_max`.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); `Exhausted` when it is longer.
    pub async fn get(&self, name: &Name, bytes_max: usize) -> Result<(Arc<Entry>, Bytes)> {
        let first = (bytes_max as u64).min(object::PIECE_BYTES);
        let object = Object::open(&self.0, name, Precondition::None, 0..first).await?;
        let entry = Arc::clone(object.entry());
        if entry.sealed.size > bytes_max as u64 {
            let what = format!(
                "it has {} bytes, not {bytes_max} at most",
                entry.sealed.size
            );
            return Err(Error::new(Kind::Exhausted, what));
        }
        let bytes = object.read(0..entry.sealed.size).await?;
        Ok((entry, bytes))
    }

    /// Begins an object. `expected_bytes`: how long it will be, or 0.
    ///
    /// # Errors
    /// `Exhausted` when too many are being written.
    pub async fn writer(&self, expected_bytes: u64) -> Result<Writer> {
        Writer::begin(&self.0, expected_bytes).await
    }

    /// Goes on writing an object that [`Writer::detach`] has given a token for: at the same node, from whatever process. Who had it before is
    /// fenced. `epoch` counts the incarnations of the program that moves. Tells how long the object is.
    ///
    /// # Errors
    /// `NotFound`: it was sealed or given up, or the node was started anew. `Fenced`: one with a higher epoch has come.
    pub async fn attach_writer(&self, token: WriterToken, epoch: Epoch) -> Result<(Writer, u64)> {
        Writer::attach(&self.0, token, epoch).await
    }

    /// Writes an object as a whole.
    ///
    /// # Errors
    /// `Conflict` when the name is not as the terms say; `Exhausted` when there is no room.
    pub async fn put(
        &self,
        name: &Name,
        data: Bytes,
        class: Class,
        terms: Terms,
    ) -> Result<Acknowledged> {
        let mut writer = self.writer(data.len() as u64).await?;
        writer.append(data).await?;
        writer.seal(name, class, terms).await
    }

    /// One more name for the same data, with metadata of its own if there is some.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when `to` is not as `when` says.
    pub async fn copy(
        &self,
        [from, to]: [&Name; 2],
        metadata: Option<Box<[u8]>>,
        when: Precondition,
    ) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        let copy = Change::Copy {
            from,
            to,
            metadata,
            when,
        };
        self.change(copy).await
    }

    /// # Errors
    /// `NotFound`; `Conflict` when `to` is not as `when` says.
    pub async fn rename(&self, [from, to]: [&Name; 2], when: Precondition) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.change(Change::Rename { from, to, when }).await
    }

    /// All names that begin with one prefix begin with another, at once.
    ///
    /// # Errors
    /// `Conflict` when a name would be replaced and `when` is `Absent`; `Exhausted` when there are too many.
    pub async fn rename_prefix(&self, [from, to]: [&Folder; 2], when: Precondition) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.change(Change::RenamePrefix { from, to, when }).await
    }

    /// # Errors
    /// `NotFound`; `Conflict` when it is not as `when` says.
    pub async fn delete(&self, name: &Name, when: Precondition) -> Result<()> {
        let name = name.clone();
        self.change(Change::Delete { name, when }).await
    }

    /// # Errors
    /// `Exhausted` when there are too many at once.
    pub async fn delete_prefix(&self, folder: &Folder) -> Result<()> {
        self.change(Change::DeletePrefix(folder.clone())).await
    }

    /// # Errors
    /// `NotFound`; `Exhausted` when it is too long.
    pub async fn set_metadata(&self, name: &Name, metadata: Box<[u8]>) -> Result<()> {
        self.change(Change::SetMetadata(name.clone(), metadata))
            .await
    }

    /// Says that a consumer has read an object to its end. Said again, it changes nothing.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn consume(&self, name: &Name, consumer: ConsumerId) -> Result<()> {
        self.change(Change::Consume(name.clone(), consumer)).await
    }

    /// Has an object on the disk of the node: its end does not lose it any more. Returns when it is there.
    ///
    /// # Errors
    /// `NotFound`; `Lost`; `Exhausted` when there is no room on the disk.
    pub async fn relocate(&self, name: &Name) -> Result<()> {
        self.ask(Request::Move(Move::Relocate(name.clone()))).await
    }

    /// Has an object in S3 under its present name: no node is needed for it any more. Returns when it is there.
    ///
    /// # Errors
    /// `NotFound`; `Lost`; `Invalid` when its bucket is not in S3; `Conflict` when what is there is being read, or it was renamed meanwhile;
    /// `Unavailable` when S3 does not answer.
    pub async fn persist(&self, name: &Name) -> Result<()> {
        self.ask(Request::Move(Move::Persist(name.clone()))).await
    }

    /// Compares what is on the disk of an object with its checksums. What is damaged is written anew from memory, if it is there, and else read from
    /// S3 from now on, or lost.
    ///
    /// # Errors
    /// `NotFound`; `Exhausted` when there is no room to write it anew.
    pub async fn scrub(&self, name: &Name) -> Result<Condition> {
        self.ask(Request::Move(Move::Scrub(name.clone()))).await
    }

    /// What has happened in a folder or to a name since `from`; waits so long for something to happen. Without `from` it says at once where now
    /// is: who then lists, and watches from there, misses nothing.
    ///
    /// # Errors
    /// `NotFound` when there is no such bucket; `Denied` for all buckets.
    pub async fn watch(
        &self,
        scope: Scope,
        from: Option<Position>,
        wait: Duration,
    ) -> Result<Watched> {
        if scope == Scope::All {
            return Err(Error::new(Kind::Denied, "a tenant sees its own buckets"));
        }
        self.0.watch(Watch { scope, from, wait }).await
    }

    /// Numbers of the node, by name, with their units at the ends of the names.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn statistics(&self) -> Result<std::collections::BTreeMap<String, u64>> {
        let statistics: Statistics = self.ask(Request::Look(Look::Statistics)).await?;
        Ok(statistics.0)
    }

    async fn change(&self, change: Change) -> Result<()> {
        self.ask(Request::Change(change)).await
    }

    async fn ask<T: wire::Reply>(&self, request: Request) -> Result<T> {
        let (reply, _) = self.0.ask(&request).await?;
        Ok(reply)
    }
}
