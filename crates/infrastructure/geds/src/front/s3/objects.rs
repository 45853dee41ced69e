//! Objects: written, read, copied, deleted.

use std::sync::Arc;

use s3::backend::{Content, Deletion, Error, Put};
use s3::body::Body;
use s3::checksum::{Coverage, ObjectChecksum};
use s3::names::{BucketName, Etag, Name};
use s3::object::{Object, Precondition, Tags};

use super::S3;
use super::buckets::{check, find};
use super::content::Opened;
use super::meta::{Head, Incarnation, all_of, class_of, etag_of, object_of};
use super::places;
use crate::error;
use crate::index::{self, Entry, Index, Op, Placement};
use crate::store::{Ack, Store, Terms, entry_of, now_ms};

/// What there is under a name of a bucket that is there.
pub(super) fn entry<'a>(index: &'a Index, name: &index::Name) -> Result<&'a Arc<Entry>, Error> {
    find(index, &name.bucket)?;
    index.entry(name).map_err(|_| Error::NoSuchKey)
}

/// The bucket of a name that is to be written was there before.
pub(super) fn check_precondition(
    index: &Index,
    name: &index::Name,
    when: &Precondition,
) -> Result<(), Error> {
    let present = index.entry(name).ok().map(|entry| etag_of(entry));
    when.check(present.as_ref())
}

fn check_is_there(index: &Index, name: &index::Name, entry: &Entry) -> Result<(), Error> {
    let object = index.object(entry.sealed.id);
    let object = object.map_err(error::Error::from)?;
    match object.placement() {
        Placement::At(_) => Ok(()),
        Placement::Lost(loss) => Err(Error::Lost(format!("`{}`: {loss:?}", name.key))),
    }
}

/// A copy that is to be made.
#[derive(Clone)]
struct Copying {
    from: index::Name,
    etag: Etag,
    to: index::Name,
    to_of: Incarnation,
    put: Put,
}

impl Copying {
    /// What the copy is to be, as things are.
    fn terms(&self, index: &Index) -> Result<Terms, Error> {
        let source = entry(index, &self.from)?;
        if etag_of(source) != self.etag {
            return Err(Error::Changed);
        }
        check_is_there(index, &self.from, source)?;
        check(index, &self.to.bucket, &self.to_of)?;
        check_precondition(index, &self.to, &self.put.when)?;
        let (mut head, parts) = all_of(source);
        head.attributes = self.put.attributes.clone();
        head.tags = self.put.tags.clone();
        head.upload = None;
        Ok(Terms {
            metadata: head.encode(&parts),
            etag: Some(source.sealed.etag.clone()),
            ..Terms::default()
        })
    }

    /// One more name for the data, if it may have another.
    fn link(&self, index: &Index) -> Result<Option<Op>, Error> {
        let terms = self.terms(index)?;
        let source = entry(index, &self.from)?;
        let object = index.object(source.sealed.id);
        let names = object.map_err(error::Error::from)?.names();
        let may_have_more = names.len() < index.limits().names_max || names.contains(&self.to);
        Ok(may_have_more.then(|| Op::Copy {
            from: self.from.clone(),
            to: self.to.clone(),
            modified_at_ms: now_ms(),
            metadata: Some(terms.metadata),
        }))
    }
}

impl S3 {
    pub(super) fn head(&self, name: &Name) -> Result<Object, Error> {
        let place = places::place(name)?;
        let namespace = self.store.namespace();
        let entry = namespace.read(|index| entry(index, &place).cloned())?;
        Ok(object_of(&entry))
    }

    pub(super) async fn open_content(
        &self,
        name: &Name,
    ) -> Result<(Object, Box<dyn Content>), Error> {
        let place = places::place(name)?;
        let of = self.incarnation(&place.bucket)?;
        let reader = self.store.open_anywhere(&of.owner, &place).await?;
        Ok((object_of(reader.entry()), Box::new(Opened(reader))))
    }

    pub(super) async fn put(&self, put: Put, body: Body) -> Result<Object, Error> {
        let class = class_of(put.class);
        let place = places::place(&put.name)?;
        let of = self.incarnation(&place.bucket)?;
        // It may be known already that all that comes comes in vain.
        let namespace = self.store.namespace();
        namespace.read(|index| check_precondition(index, &place, &put.when))?;
        let (writer, verified) = self.receive(&of.owner, body).await?;
        let head = Head {
            attributes: put.attributes,
            tags: put.tags,
            checksum: Some(ObjectChecksum {
                value: verified.checksum(),
                coverage: Coverage::Whole,
            }),
            ..Head::default()
        };
        let terms = Terms {
            metadata: head.encode(&[]),
            etag: Some(index::Etag::digest(verified.md5())),
            ..Terms::default()
        };
        let unnamed = self.finish(class, writer).await?;
        let seal = move |store: &Store| {
            store.seal_with(&place, unnamed, |index| {
                check(index, &place.bucket, &of)?;
                check_precondition(index, &place, &put.when)?;
                Ok(terms.clone())
            })
        };
        let (entry, ack) = self.commits.run(seal).await?;
        ack.await?;
        Ok(object_of(&entry))
    }

    pub(super) async fn copy(&self, from: &Name, etag: &Etag, put: Put) -> Result<Object, Error> {
        let (from, to) = (places::place(from)?, places::place(&put.name)?);
        let [from_of, to_of] = [&from, &to].map(|place| self.incarnation(&place.bucket));
        let (from_of, to_of) = (from_of?, to_of?);
        // Memory is not shared between tenants, and S3's clients see one.
        if from_of.owner != to_of.owner {
            return Err(Error::NoSuchBucket);
        }
        let copying = Copying {
            from,
            etag: etag.clone(),
            to,
            to_of,
            put,
        };
        let link = {
            let copying = copying.clone();
            move |store: &Store| {
                let (changes, ack) = store.change_with(|index| copying.link(index))?;
                let entry = match &*changes {
                    [] => None,
                    changes => Some(entry_of(changes, &copying.to)?),
                };
                Ok((entry, ack))
            }
        };
        let (entry, ack) = match self.commits.run(link).await? {
            (Some(entry), ack) => (entry, ack),
            (None, _) => self.copy_content(copying).await?,
        };
        ack.await?;
        Ok(object_of(&entry))
    }

    /// Makes other data of it: the data has as many names as it may have.
    async fn copy_content(&self, copying: Copying) -> Result<(Arc<Entry>, Ack), Error> {
        let owner = copying.to_of.owner.clone();
        let reader = self.store.open_anywhere(&owner, &copying.from).await?;
        if etag_of(reader.entry()) != copying.etag {
            return Err(Error::Changed);
        }
        let mut writer = self.store.writer(&owner)?;
        writer.expect(reader.len())?;
        // In one piece, if there is one.
        writer.try_reserve(reader.len()).ok();
        writer = self.append(writer, &reader).await?;
        let class = reader.entry().sealed.class;
        let unnamed = self.finish(class, writer).await?;
        let seal = move |store: &Store| {
            store.seal_with(&copying.to, unnamed, |index| copying.terms(index))
        };
        self.commits.run(seal).await
    }

    pub(super) async fn delete(
        &self,
        bucket: &BucketName,
        deletions: Vec<Deletion>,
    ) -> Vec<Result<(), Error>> {
        let Ok(bucket) = places::bucket(bucket) else {
            return deletions.iter().map(|_| Err(Error::NoSuchBucket)).collect();
        };
        let n_deletions = deletions.len();
        let delete = move |store: &Store| {
            let delete = |deletion: Deletion| {
                let name = index::Name {
                    bucket: bucket.clone(),
                    key: places::key(deletion.key.as_str()),
                };
                let (_, ack) = store.change_with(|index| {
                    find(index, &name.bucket)?;
                    check_precondition(index, &name, &deletion.when)?;
                    let is_there = index.entry(&name).is_ok();
                    Ok::<_, Error>(is_there.then(|| Op::Delete(name.clone())))
                })?;
                Ok::<_, Error>(ack)
            };
            Ok(deletions.into_iter().map(delete).collect::<Vec<_>>())
        };
        let acks = match self.commits.run(delete).await {
            Ok(acks) => acks,
            Err(error) => {
                let failed = || Error::Unavailable(error.to_string());
                return (0..n_deletions).map(|_| Err(failed())).collect();
            }
        };
        let mut results = Vec::with_capacity(n_deletions);
        for ack in acks {
            results.push(match ack {
                Ok(ack) => ack.await.map_err(Error::from),
                Err(error) => Err(error),
            });
        }
        results
    }

    pub(super) async fn tag(&self, name: &Name, tags: Tags) -> Result<(), Error> {
        let place = places::place(name)?;
        let tag = move |store: &Store| {
            let (_, ack) = store.change_with(|index| {
                let (mut head, parts) = all_of(entry(index, &place)?);
                head.tags = tags.clone();
                Ok::<_, Error>(Some(Op::SetMetadata(place.clone(), head.encode(&parts))))
            })?;
            Ok(ack)
        };
        Ok(self.commits.run(tag).await?.await?)
    }
}
