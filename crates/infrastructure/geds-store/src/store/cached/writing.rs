//! Changes: S3 makes them, under its conditions, and they are done when it says so.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::{self, Stream};
use ids::Name as Tenant;

use super::{Through, id_of, lock};
use crate::core::index::{Entry, Etag, InS3, Name, ObjectId, Precondition};
use crate::core::victims::Backing;
use crate::error::{Error, Kind, Result};
use crate::store::disk_reader::OnDisk;
use crate::store::{Class, Content, Reader, Store, Terms, Unnamed, now_ms};
use crate::tier2::Persist;

/// What is there is looked at so often before it is deleted: somebody else may change it each time.
const LOOKS_MAX: usize = 4;

/// What is to be written.
#[derive(Debug)]
pub struct Writing {
    pub size: u64,
    pub metadata: Box<[u8]>,
    pub when: Precondition,
}

impl Through<'_> {
    /// Writes what lies here. What its users expect of its future is not kept.
    ///
    /// # Errors
    /// `Conflict` when it is not as the terms say; `Unavailable`: whether it is there is not known; what else S3 says.
    pub async fn seal(
        &self,
        tenant: &Tenant,
        name: &Name,
        unnamed: Unnamed,
        terms: Terms,
    ) -> Result<Arc<Entry>> {
        let Unnamed {
            object,
            len: size,
            share,
            prepared,
        } = unnamed;
        let writing = Writing {
            size,
            metadata: terms.metadata,
            when: terms.when,
        };
        let Some(object) = object else {
            let pinned = prepared.and_then(|prepared| prepared.pin());
            let pinned = pinned.expect("what is not in memory is on the disk");
            let content = Content::Disk(OnDisk::unnamed(pinned));
            let reader = Reader::new(self.unnamed(name, size).into(), content);
            let pieces = reader.stream(0..size);
            return self.write(tenant, name, writing, pieces).await;
        };
        let opened = object.open()?;
        let pieces = opened.views().map(|view| Ok(Bytes::from(view)));
        let pieces = stream::iter(pieces.collect::<Vec<_>>());
        let entry = self.write(tenant, name, writing, pieces).await?;
        if (1..=self.cache.config.block_bytes).contains(&object.len()) {
            // It is the only block.
            let id = id_of(&at(name, &entry), 0);
            let residents = &self.store.0.residents;
            if let Err(error) = residents.insert(id, object, &share, Backing::Clean) {
                tracing::warn!(%error, "keep what was written to S3");
            }
        }
        Ok(entry)
    }

    /// Writes pieces, as many bytes as is said.
    ///
    /// # Errors
    /// Those of the pieces, and as [`seal`](Self::seal).
    pub async fn write(
        &self,
        tenant: &Tenant,
        name: &Name,
        writing: Writing,
        pieces: impl Stream<Item = Result<Bytes>> + Send,
    ) -> Result<Arc<Entry>> {
        self.check(tenant, &name.bucket)?;
        let Writing {
            size,
            metadata,
            when,
        } = writing;
        let config = &self.cache.config;
        let mut entry = Entry {
            modified_at_ms: now_ms(),
            metadata,
            ..self.unnamed(name, size)
        };
        let what = Persist {
            name: name.clone(),
            id: self.new_id(),
            size,
            attributes: (config.attributes)(&entry),
            when,
        };
        config.tier2.check_said(&what)?;
        if what.when != Precondition::None {
            self.check_conditions(name).await?;
        }
        let pieces = pieces.map_err(Into::into);
        let persisted = config.tier2.persist(&what, pieces).await;
        self.cache.forget(name);
        let persisted = persisted.map_err(|error| unsure("write", name, error.into()))?;
        self.store.0.counts.sealed(size);
        entry.sealed.id = id_of(&persisted, u64::MAX);
        entry.sealed.etag = persisted.etag;
        Ok(Arc::new(entry))
    }

    /// What is to be written.
    fn unnamed(&self, name: &Name, size: u64) -> Entry {
        self.cache.entry(name, Etag::digest([0; 16]), size)
    }

    /// Takes a name away, and what it stands for.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is not as `when` says; `Unavailable`: whether it is gone is not known; what else S3 says.
    pub async fn delete(&self, tenant: &Tenant, name: &Name, when: &Precondition) -> Result<()> {
        self.check(tenant, &name.bucket)?;
        for n_left in (0..LOOKS_MAX).rev() {
            let entry = self.ask(name).await?;
            check_precondition(when, &entry)?;
            let etag = &entry.sealed.etag;
            let deleted = self.cache.config.tier2.delete_if(name, etag).await;
            self.cache.forget(name);
            match deleted {
                Err(error) if error.kind == Kind::Conflict && n_left > 0 => {}
                Err(error) if error.kind == Kind::NotFound => return Ok(()),
                deleted => return deleted.map_err(|error| unsure("delete", name, error.into())),
            }
        }
        unreachable!("the last one returns")
    }

    /// Writes it under the other name, and then deletes it: who looks meanwhile sees both, and so it stays if this fails in between.
    ///
    /// # Errors
    /// `Invalid`: the other bucket is not S3's; as [`copy`](Store::copy_content) and [`delete`](Self::delete).
    pub async fn rename(
        &self,
        tenant: &Tenant,
        [from, to]: [&Name; 2],
        when: Precondition,
    ) -> Result<()> {
        if self.store.through(&to.bucket).is_none() {
            let what = "what is in S3 is not renamed to a bucket that is not: copy it";
            return Err(Error::new(Kind::Invalid, what));
        }
        self.cache.forget(from);
        if from == to {
            let status = self.status(tenant, from).await?;
            return check_precondition(&when, &status.entry);
        }
        let reader = self.open(tenant, from).await?;
        self.store
            .copy_content(tenant, (&reader, to), None, when)
            .await?;
        let same = Precondition::Etag(reader.entry().sealed.etag.clone());
        self.delete(tenant, from, &same).await
    }

    /// Without them, what others have put there could be replaced.
    async fn check_conditions(&self, name: &Name) -> Result<()> {
        if lock(&self.cache.checked).contains(&name.bucket) {
            return Ok(());
        }
        self.cache.config.tier2.check(&name.bucket).await?;
        lock(&self.cache.checked).insert(name.bucket.clone());
        Ok(())
    }

    /// By which it is found out what has become of it when an answer was lost.
    fn new_id(&self) -> ObjectId {
        let (node, epoch) = self.store.identity();
        ObjectId {
            node,
            epoch,
            serial: self.store.0.last_serial.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }
}

impl Store {
    /// Copies an object that is open, from or to a bucket of S3: the bytes come here. With metadata of its own, if there is some.
    ///
    /// # Errors
    /// `Conflict` when it is not as `when` says, or was changed meanwhile; what else S3 says.
    pub async fn copy_content(
        &self,
        tenant: &Tenant,
        (reader, to): (&Reader, &Name),
        metadata: Option<Box<[u8]>>,
        when: Precondition,
    ) -> Result<Arc<Entry>> {
        let size = reader.len();
        let metadata = metadata.unwrap_or_else(|| reader.entry().metadata.clone());
        if let Some(through) = self.through(&to.bucket) {
            let writing = Writing {
                size,
                metadata,
                when,
            };
            let pieces = reader.stream(0..size);
            return through.write(tenant, to, writing, pieces).await;
        }
        let (store, tenant, reader, to) =
            (self.clone(), tenant.clone(), reader.clone(), to.clone());
        let copied = rt::blocking(move || {
            let mut writer = store.writer(&tenant)?;
            writer.reserve(size)?;
            for piece in reader.pieces(0..size) {
                writer.append(&piece?)?;
            }
            let terms = Terms {
                when,
                metadata,
                etag: Some(reader.entry().sealed.etag.clone()),
                ..Terms::default()
            };
            store.seal(&tenant, &to, (Class::Durable, writer), terms)
        });
        let copied = copied.await;
        let (entry, ack) =
            copied.map_err(|error| Error::io("find a thread that may wait", error))??;
        ack.await?;
        Ok(entry)
    }
}

fn at(name: &Name, entry: &Entry) -> InS3 {
    InS3 {
        name: name.clone(),
        etag: entry.sealed.etag.clone(),
    }
}

fn check_precondition(when: &Precondition, entry: &Entry) -> Result<()> {
    let holds = match when {
        Precondition::None => true,
        Precondition::Absent => false,
        Precondition::Etag(etag) => entry.sealed.etag == *etag,
        Precondition::Generation(_) => {
            let what = "S3 knows no generations of the index";
            return Err(Error::new(Kind::Invalid, what));
        }
    };
    if holds {
        return Ok(());
    }
    let what = "what is in S3 is not as the precondition says";
    Err(Error::new(Kind::Conflict, what))
}

/// Who hears nothing does not know.
fn unsure(doing: &str, name: &Name, error: Error) -> Error {
    if error.kind != Kind::Unavailable {
        return error;
    }
    let what = format!(
        "{doing} `{}` in `{}` of S3, which has not answered: it may be done, or not",
        name.key, name.bucket
    );
    Error::caused(Kind::Unavailable, what, error)
}
