//! Uploads in parts. See [`super::places`] for where they are.

use std::sync::Arc;

use ids::Name as Tenant;
use s3::backend::{Complete, Error, NewUpload};
use s3::body::Body;
use s3::names::{BucketName, Etag, Name, PartNumber, Upload, UploadId};
use s3::object::{Object, Part, Uploading};

use super::S3;
use super::buckets::{check, find};
use super::meta::{
    Head, Incarnation, PartMeta, UploadMeta, head_of, modified_of, object_of, part_of,
};
use super::objects::check_precondition;
use super::places::{self, Places};
use crate::error::{self, Kind};
use crate::front::pages::page;
use crate::index::{self, Class, Entry, Index, Item, ObjectId, Op, PAGE_ITEMS_MAX, Query};
use crate::store::{Reader, Store, Terms, Unnamed};

/// An upload that is going on, and where.
pub(super) struct Found {
    pub bucket: index::BucketName,
    pub meta: UploadMeta,
    entry: Arc<Entry>,
}

impl Places {
    fn find(&self, index: &Index, upload: &Upload) -> Result<Found, Error> {
        let bucket = places::bucket(&upload.name.bucket)?;
        find(index, &bucket)?;
        if !places::is_id(upload.id.as_str()) {
            return Err(Error::NoSuchUpload);
        }
        let entry = index.entry(&self.upload(&bucket, &upload.id));
        let entry = Arc::clone(entry.map_err(|_| Error::NoSuchUpload)?);
        let meta = UploadMeta::decode(&entry.metadata).ok_or(Error::NoSuchUpload)?;
        let is_over = is_over(index, &bucket, &upload.id, &entry).unwrap_or(true);
        if is_over || meta.key != upload.name.key {
            return Err(Error::NoSuchUpload);
        }
        Ok(Found {
            bucket,
            meta,
            entry,
        })
    }
}

/// Whether the bucket of an upload is gone, or its object is there: what is left of the upload is not to be seen. `None`: it is no upload.
pub(super) fn is_over(
    index: &Index,
    bucket: &index::BucketName,
    id: &UploadId,
    entry: &Entry,
) -> Option<bool> {
    let meta = UploadMeta::decode(&entry.metadata)?;
    let of = index.bucket(bucket).ok().map(Incarnation::of);
    let name = index::Name {
        bucket: bucket.clone(),
        key: places::key(meta.key.as_str()),
    };
    let object = index.entry(&name).ok().map(|entry| head_of(entry));
    let is_completed = object.is_some_and(|head| head.upload.as_ref() == Some(id));
    Some(of != Some(meta.of) || is_completed)
}

impl S3 {
    pub(super) async fn create_upload(&self, new: NewUpload) -> Result<Upload, Error> {
        let bucket = places::bucket(&new.name.bucket)?;
        let of = self.incarnation(&bucket)?;
        let id = places::new_id();
        let place = self.places.upload(&bucket, &id);
        let meta = UploadMeta {
            of: of.clone(),
            key: new.name.key.clone(),
            attributes: new.attributes,
            tags: new.tags,
            checksum: new.checksum,
        };
        let writer = self.store.writer(&of.owner)?;
        let unnamed = self.finish(Class::Durable, writer).await?;
        let begin = move |store: &Store| {
            store.seal_with(&place, unnamed, |index| {
                check(index, &bucket, &of)?;
                Ok(Terms {
                    metadata: meta.encode(),
                    ..Terms::default()
                })
            })
        };
        let (_, ack) = self.commits.run(begin).await?;
        ack.await?;
        Ok(Upload { name: new.name, id })
    }

    fn find(&self, upload: &Upload) -> Result<Found, Error> {
        let namespace = self.store.namespace();
        namespace.read(|index| self.places.find(index, upload))
    }

    pub(super) fn upload(&self, upload: &Upload) -> Result<Uploading, Error> {
        let found = self.find(upload)?;
        Ok(Uploading {
            upload: upload.clone(),
            initiated: modified_of(&found.entry),
            checksum: found.meta.checksum,
        })
    }

    /// Looks at all of the bucket: its uploads are where their ids are, not where their keys are, which would be too long.
    pub(super) fn uploads(
        &self,
        bucket: &BucketName,
        prefix: &str,
        after: (&str, Option<&str>),
        uploads_max: usize,
    ) -> Result<Vec<Uploading>, Error> {
        let place = places::bucket(bucket)?;
        let found = self.store.namespace().read(|index| {
            find(index, &place)?;
            self.going_on(index, &place)
        })?;
        let mut uploads: Vec<_> = found
            .into_iter()
            .filter_map(|(id, entry)| {
                let meta = UploadMeta::decode(&entry.metadata)?;
                let key = meta.key.as_str();
                let is_after = match after {
                    (last, None) => key > last,
                    (last, Some(last_id)) => (key, id.as_str()) > (last, last_id),
                };
                let name = Name {
                    bucket: bucket.clone(),
                    key: meta.key.clone(),
                };
                (is_after && key.starts_with(prefix)).then(|| Uploading {
                    upload: Upload { name, id },
                    initiated: modified_of(&entry),
                    checksum: meta.checksum,
                })
            })
            .collect();
        uploads.sort_unstable_by(|one, other| one.upload.cmp(&other.upload));
        uploads.truncate(uploads_max);
        Ok(uploads)
    }

    fn going_on(
        &self,
        index: &Index,
        bucket: &index::BucketName,
    ) -> Result<Vec<(UploadId, Arc<Entry>)>, Error> {
        let query = Query {
            folder: &self.places.uploads(bucket),
            // Parts are passed over, an upload's all at once.
            delimiter: "/",
            items_max: PAGE_ITEMS_MAX,
        };
        let mut found = Vec::new();
        let mut from = String::new();
        loop {
            let page = page(index, &query, (None, from))?;
            for item in page.items {
                if let Item::Object(key, entry) = item
                    && let Some((_, id)) = Places::parse_upload(&key)
                    && is_over(index, bucket, &id, &entry) == Some(false)
                {
                    found.push((id, entry));
                }
            }
            match page.next {
                Some(next) => from = next.from,
                None => return Ok(found),
            }
        }
    }

    pub(super) async fn put_part(
        &self,
        upload: &Upload,
        number: PartNumber,
        body: Body,
    ) -> Result<Part, Error> {
        let Found { bucket, meta, .. } = self.find(upload)?;
        let (writer, verified) = self.receive(&meta.of.owner, body).await?;
        let place = self.places.part(&bucket, &upload.id, number);
        let terms = Terms {
            metadata: PartMeta {
                checksum: verified.checksum(),
            }
            .encode(),
            etag: Some(index::Etag::digest(verified.md5())),
            ..Terms::default()
        };
        let (places, upload) = (Places::new(), upload.clone());
        let unnamed = self.finish(Class::Durable, writer).await?;
        let seal = move |store: &Store| {
            store.seal_with(&place, unnamed, |index| {
                places.find(index, &upload).map(|_| terms.clone())
            })
        };
        let (entry, ack) = self.commits.run(seal).await?;
        ack.await?;
        Ok(part_of(number, &entry).expect("it was made so"))
    }

    pub(super) fn parts(
        &self,
        upload: &Upload,
        after: u16,
        parts_max: usize,
    ) -> Result<Vec<Part>, Error> {
        let page = self.store.namespace().read(|index| {
            let found = self.places.find(index, upload)?;
            let folder = self.places.parts(&found.bucket, &upload.id);
            // Behind it in the order of texts, since all have five digits.
            let from = format!("{}{after:05}\0", folder.prefix);
            let query = Query {
                folder: &folder,
                delimiter: "",
                items_max: parts_max.min(PAGE_ITEMS_MAX),
            };
            Ok::<_, Error>(page(index, &query, (None, from))?)
        })?;
        let part = |item| match item {
            Item::Object(key, entry) => part_of(Places::parse_part(&key)?, &entry),
            Item::Folder(_) => None,
        };
        let parts = page.items.into_iter().filter_map(part);
        Ok(parts.take(parts_max).collect())
    }

    pub(super) async fn complete(&self, complete: Complete) -> Result<Object, Error> {
        let completing = Completing::new(complete, Places::new())?;
        let namespace = self.store.namespace();
        let (found, ids) = namespace.read(|index| completing.look(index))?;
        let owner = found.meta.of.owner;
        let mut writer = self.store.writer(&owner)?;
        let size = completing.complete.size;
        writer.expect(size)?;
        let joined = match writer.is_long() {
            true => self.join(&owner, &ids).await?,
            false => None,
        };
        let unnamed = match joined {
            Some(joined) => joined,
            None => {
                // In one piece, if there is one.
                writer.try_reserve(size).ok();
                for part in completing.complete.parts.iter().zip(&ids) {
                    let opened = self.open_part(&completing, &found.bucket, part);
                    writer = self.append(writer, &opened.await?).await?;
                }
                self.finish(Class::Durable, writer).await?
            }
        };
        let seal = move |store: &Store| {
            let Completing { complete, name, .. } = &completing;
            let sealed = store.seal_with(name, unnamed, |index| {
                let (found, now) = completing.look(index)?;
                if now != ids {
                    return Err(Error::Changed);
                }
                completing.terms(found.meta)
            })?;
            let over = completing
                .places
                .whole_upload(&found.bucket, &complete.upload.id);
            // If this fails, the object says that the upload is over.
            let over = Op::DeletePrefix(over);
            let let_go = store.change_with(|_| Ok::<_, Error>(Some(over.clone())));
            if let Err(error) = let_go {
                tracing::warn!(%error, "let go an upload that is completed");
            }
            Ok(sealed)
        };
        let (entry, ack) = self.commits.run(seal).await?;
        ack.await?;
        Ok(object_of(&entry))
    }

    async fn join(&self, owner: &Tenant, ids: &[ObjectId]) -> Result<Option<Unnamed>, Error> {
        let (store, owner, ids) = (self.store.clone(), owner.clone(), ids.to_vec());
        let joined = rt::blocking(move || store.join(&owner, &ids)).await;
        Ok(joined.map_err(|error| Error::Unavailable(error.to_string()))??)
    }

    /// # Errors
    /// `Conflict`: it is another one now.
    pub(super) async fn open_part(
        &self,
        completing: &Completing,
        bucket: &index::BucketName,
        (part, id): (&Part, &ObjectId),
    ) -> error::Result<Reader> {
        let place = completing.part(bucket, part);
        let changed = || error::Error::new(Kind::Conflict, "a part was sent again meanwhile");
        let opened = self.store.open_anywhere(&self.places.owner, &place).await;
        let reader = opened.map_err(|error| match error.kind {
            Kind::NotFound => changed(),
            _ => error,
        })?;
        match reader.entry().sealed.id == *id {
            true => Ok(reader),
            false => Err(changed()),
        }
    }

    pub(super) async fn abort(&self, upload: &Upload) -> Result<(), Error> {
        let (places, upload) = (Places::new(), upload.clone());
        let abort = move |store: &Store| {
            let (_, ack) = store.change_with(|index| {
                let found = places.find(index, &upload)?;
                let over = places.whole_upload(&found.bucket, &upload.id);
                Ok::<_, Error>(Some(Op::DeletePrefix(over)))
            })?;
            Ok(ack)
        };
        Ok(self.commits.run(abort).await?.await?)
    }
}

/// An object that is to be made of parts.
pub(super) struct Completing {
    pub complete: Complete,
    pub name: index::Name,
    pub places: Places,
}

impl Completing {
    pub(super) fn new(complete: Complete, places: Places) -> Result<Self, Error> {
        Ok(Self {
            name: places::place(&complete.upload.name)?,
            complete,
            places,
        })
    }

    fn part(&self, bucket: &index::BucketName, part: &Part) -> index::Name {
        let id = &self.complete.upload.id;
        self.places.part(bucket, id, part.number)
    }

    /// Whether it may be made, and of what.
    fn look(&self, index: &Index) -> Result<(Found, Vec<ObjectId>), Error> {
        let looked = self.look_at_parts(index)?;
        check_precondition(index, &self.name, &self.complete.when)?;
        Ok(looked)
    }

    /// The same, whatever is there under the name.
    pub(super) fn look_at_parts(&self, index: &Index) -> Result<(Found, Vec<ObjectId>), Error> {
        let Complete { upload, parts, .. } = &self.complete;
        let found = self.places.find(index, upload)?;
        let mut ids = Vec::with_capacity(parts.len());
        for part in parts {
            let entry = index.entry(&self.part(&found.bucket, part));
            let entry = entry.map_err(|_| Error::Changed)?;
            if part_of(part.number, entry).as_ref() != Some(part) {
                return Err(Error::Changed);
            }
            ids.push(entry.sealed.id);
        }
        Ok((found, ids))
    }

    fn terms(&self, upload: UploadMeta) -> Result<Terms, Error> {
        let Complete {
            parts,
            etag,
            checksum,
            ..
        } = &self.complete;
        let head = Head {
            attributes: upload.attributes,
            tags: upload.tags,
            checksum: *checksum,
            n_parts: u16::try_from(parts.len()).expect("at most 10,000"),
            upload: Some(self.complete.upload.id.clone()),
            native: Box::default(),
        };
        Ok(Terms {
            metadata: head.encode(parts),
            etag: Some(store_etag(etag)?),
            ..Terms::default()
        })
    }
}

fn store_etag(etag: &Etag) -> Result<index::Etag, Error> {
    let etag = index::Etag::new(etag.as_str());
    Ok(etag.map_err(error::Error::from)?)
}
