//! The same for buckets whose authority is S3. Their uploads are kept here until they are completed; tags are not kept.

use futures_util::stream;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use s3::backend::{Complete, Content, Deletion, Error, ListFrom, ListPage, ListQuery, Put};
use s3::body::Body;
use s3::names::{BucketName, Etag, Name};
use s3::object::{Object, Precondition, Tags};

use super::content::Opened;
use super::list::{begin, item};
use super::meta::{Head, etag_of, head_of, object_of};
use super::places::Places;
use super::uploads::Completing;
use super::{S3, places};
use crate::error::{self, Kind};
use crate::front::pages::render;
use crate::index::{self, Class, Folder, Op, Prefix, Query};
use crate::store::{Store, Terms, Through, Writing};

/// So many are deleted at once.
const DELETIONS_AT_ONCE: usize = 16;

/// A bucket, and what its owner may.
pub(super) struct InS3<'a> {
    face: &'a S3,
    through: Through<'a>,
}

impl S3 {
    /// `None`: the authority is the index.
    pub(super) fn in_s3(&self, bucket: &BucketName) -> Option<InS3<'_>> {
        let through = self.store.through(&places::bucket(bucket).ok()?)?;
        Some(InS3 {
            face: self,
            through,
        })
    }

    /// Is one of two S3's?
    pub(super) fn is_one_in_s3(&self, names: [&Name; 2]) -> bool {
        names.iter().any(|name| self.in_s3(&name.bucket).is_some())
    }

    /// Copies what the bytes of have to come here for.
    pub(super) async fn copy_here(
        &self,
        from: &Name,
        etag: &Etag,
        put: Put,
    ) -> Result<Object, Error> {
        no_tags(&put.tags)?;
        let (source, to) = (places::place(from)?, places::place(&put.name)?);
        let [from_of, to_of] = [&source, &to].map(|place| self.incarnation(&place.bucket));
        let (from_of, owner) = (from_of?.owner, to_of?.owner);
        // Memory is not shared between tenants, and S3's clients see one.
        if from_of != owner {
            return Err(Error::NoSuchBucket);
        }
        let reader = self.store.open_anywhere(&owner, &source).await?;
        if etag_of(reader.entry()) != *etag {
            return Err(Error::Changed);
        }
        let when = match self.in_s3(&put.name.bucket) {
            Some(there) => there.precondition(&to, &put.when).await?,
            None => native(&put.when)?,
        };
        let head = Head {
            attributes: put.attributes,
            ..head_of(reader.entry())
        };
        let metadata = Head {
            upload: None,
            n_parts: 0,
            ..head
        }
        .encode(&[]);
        let copied = self
            .store
            .copy_content(&owner, (&reader, &to), Some(metadata), when);
        let entry = copied.await.map_err(|error| told(error, &put.when))?;
        Ok(object_of(&entry))
    }

    /// Whether an upload may be begun there.
    pub(super) fn check_upload(&self, bucket: &BucketName, tags: &Tags) -> Result<(), Error> {
        match self.in_s3(bucket) {
            Some(_) => no_tags(tags),
            None => Ok(()),
        }
    }
}

impl InS3<'_> {
    pub(super) fn refuse<T>(&self, what: &str) -> Result<T, Error> {
        Err(Error::Unsupported(format!(
            "the authority of this bucket is another S3, through which {what}"
        )))
    }

    pub(super) async fn head(&self, name: &Name) -> Result<Object, Error> {
        let place = places::place(name)?;
        let owner = self.face.incarnation(&place.bucket)?.owner;
        let status = self.through.status(&owner, &place).await;
        let status = status.map_err(|error| told(error, &Precondition::None))?;
        Ok(object_of(&status.entry))
    }

    pub(super) async fn open(&self, name: &Name) -> Result<(Object, Box<dyn Content>), Error> {
        let place = places::place(name)?;
        let owner = self.face.incarnation(&place.bucket)?.owner;
        let opened = self.through.open(&owner, &place).await;
        let reader = opened.map_err(|error| told(error, &Precondition::None))?;
        Ok((object_of(reader.entry()), Box::new(Opened(reader))))
    }

    pub(super) async fn list(
        &self,
        bucket: &BucketName,
        query: ListQuery<'_>,
    ) -> Result<ListPage, Error> {
        let bucket = places::bucket(bucket)?;
        let owner = self.face.incarnation(&bucket)?.owner;
        let from = match query.from {
            // What may be within is before this.
            ListFrom::AfterPrefix(prefix) => format!("{prefix}{}\0", char::MAX),
            from => match begin(from)? {
                Some((_, from)) => from,
                None => return Ok(ListPage::default()),
            },
        };
        let Ok(prefix) = Prefix::new(query.prefix) else {
            return Ok(ListPage::default());
        };
        let query = Query {
            folder: &Folder { bucket, prefix },
            delimiter: query.delimiter,
            items_max: query.items_max,
        };
        let page = self.through.list(&owner, &query, &from).await?;
        Ok(ListPage {
            items: page.items.into_iter().map(item).collect(),
            next: page.next.map(|cursor| render(&cursor)),
        })
    }

    pub(super) async fn put(&self, put: Put, body: Body) -> Result<Object, Error> {
        no_tags(&put.tags)?;
        let place = places::place(&put.name)?;
        let owner = self.face.incarnation(&place.bucket)?.owner;
        let when = self.precondition(&place, &put.when).await?;
        let (writer, _verified) = self.face.receive(&owner, body).await?;
        let head = Head {
            attributes: put.attributes,
            ..Head::default()
        };
        let terms = Terms {
            when,
            metadata: head.encode(&[]),
            ..Terms::default()
        };
        // It goes to S3 from memory.
        let unnamed = self.face.finish(Class::Ephemeral, writer).await?;
        let sealed = self.through.seal(&owner, &place, unnamed, terms).await;
        let entry = sealed.map_err(|error| told(error, &put.when))?;
        Ok(object_of(&entry))
    }

    pub(super) async fn delete(
        &self,
        bucket: &BucketName,
        deletions: Vec<Deletion>,
    ) -> Vec<Result<(), Error>> {
        let deletions = deletions.into_iter().map(|Deletion { key, when }| {
            let name = Name {
                bucket: bucket.clone(),
                key,
            };
            async move { self.delete_one(&name, &when).await }.boxed()
        });
        // Collected, since the compiler cannot tell of what makes them that it may move between threads.
        stream::iter(deletions.collect::<Vec<_>>())
            .buffered(DELETIONS_AT_ONCE)
            .collect()
            .await
    }

    async fn delete_one(&self, name: &Name, when: &Precondition) -> Result<(), Error> {
        let place = places::place(name)?;
        let owner = self.face.incarnation(&place.bucket)?.owner;
        let native = self.precondition(&place, when).await?;
        match self.through.delete(&owner, &place, &native).await {
            Err(error) if error.kind == Kind::NotFound => when.check(None),
            deleted => deleted.map_err(|error| told(error, when)),
        }
    }

    /// Sends its parts to S3, one after the other.
    pub(super) async fn complete(&self, complete: Complete) -> Result<Object, Error> {
        let face = self.face;
        let completing = Completing::new(complete, Places::new())?;
        let when = &completing.complete.when;
        let native = self.precondition(&completing.name, when).await?;
        let namespace = face.store.namespace();
        let (found, ids) = namespace.read(|index| completing.look_at_parts(index))?;
        let head = Head {
            attributes: found.meta.attributes.clone(),
            ..Head::default()
        };
        let writing = Writing {
            size: completing.complete.size,
            metadata: head.encode(&[]),
            when: native,
        };
        let mut parts = Vec::with_capacity(ids.len());
        for (part, id) in completing.complete.parts.iter().zip(&ids) {
            let opened = face.open_part(&completing, &found.bucket, (part, id));
            let reader = opened.await.map_err(|error| told(error, when))?;
            parts.push(Ok::<_, error::Error>(reader.stream(0..reader.len())));
        }
        let pieces = stream::iter(parts).try_flatten();
        let (owner, name) = (&found.meta.of.owner, &completing.name);
        let written = self.through.write(owner, name, writing, pieces).await;
        let entry = written.map_err(|error| told(error, when))?;
        let over = (completing.places).whole_upload(&found.bucket, &completing.complete.upload.id);
        let let_go = move |store: &Store| {
            store.change_with(|_| Ok::<_, Error>(Some(Op::DeletePrefix(over.clone()))))?;
            Ok(())
        };
        // If this fails, the object is there, and the upload too.
        if let Err(error) = face.commits.run(let_go).await {
            tracing::warn!(%error, "let go an upload that is completed");
        }
        Ok(object_of(&entry))
    }

    /// In words of the store. What is there is looked at, if need be, and has to stay so.
    async fn precondition(
        &self,
        place: &index::Name,
        when: &Precondition,
    ) -> Result<index::Precondition, Error> {
        if let Some(simple) = simple(when)? {
            return Ok(simple);
        }
        let owner = self.face.incarnation(&place.bucket)?.owner;
        let present = match self.through.status(&owner, place).await {
            Err(error) if error.kind == Kind::NotFound => None,
            status => Some(status?.entry),
        };
        when.check(present.as_deref().map(etag_of).as_ref())?;
        Ok(match present {
            Some(entry) => index::Precondition::Etag(entry.sealed.etag.clone()),
            None => index::Precondition::Absent,
        })
    }
}

/// `None`: what is there has to be looked at.
fn simple(when: &Precondition) -> Result<Option<index::Precondition>, Error> {
    Ok(match when {
        Precondition::None => Some(index::Precondition::None),
        Precondition::Absent => Some(index::Precondition::Absent),
        Precondition::Is(etag) => {
            let etag = index::Etag::new(etag.as_str()).map_err(|_| Error::Precondition)?;
            Some(index::Precondition::Etag(etag))
        }
        Precondition::Present | Precondition::IsNot(_) => None,
    })
}

/// For a bucket of the index.
fn native(when: &Precondition) -> Result<index::Precondition, Error> {
    let unknown = || Error::Unsupported("such a condition of a copy from another S3".to_owned());
    simple(when)?.ok_or_else(unknown)
}

/// What is refused, if `when` had to hold.
fn told(error: error::Error, when: &Precondition) -> Error {
    match error.kind {
        Kind::Conflict if *when != Precondition::None => Error::Precondition,
        Kind::Invalid => Error::Unsupported(error.to_string()),
        _ => error.into(),
    }
}

fn no_tags(tags: &Tags) -> Result<(), Error> {
    if tags.as_slice().is_empty() {
        return Ok(());
    }
    let what = "the authority of this bucket is another S3, through which objects have no tags";
    Err(Error::Unsupported(what.to_owned()))
}
