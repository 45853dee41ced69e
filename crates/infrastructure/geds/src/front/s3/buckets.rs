//! Buckets, and their tags.

use s3::backend::Error;
use s3::names::{BucketName, Tenant};
use s3::object::{Bucket, Tags};

use super::meta::{BucketTags, Incarnation, time};
use super::{S3, places};
use crate::error::Kind;
use crate::index::{self, Class, Index, Op};
use crate::store::{Store, Terms};

/// Of a bucket that is there.
pub(super) fn find<'a>(
    index: &'a Index,
    bucket: &index::BucketName,
) -> Result<&'a index::Bucket, Error> {
    index.bucket(bucket).map_err(|_| Error::NoSuchBucket)
}

/// Of a bucket that was looked up before, and may have become another one since.
pub(super) fn check(
    index: &Index,
    bucket: &index::BucketName,
    of: &Incarnation,
) -> Result<(), Error> {
    if Incarnation::of(find(index, bucket)?) == *of {
        Ok(())
    } else {
        Err(Error::NoSuchBucket)
    }
}

impl S3 {
    pub(super) fn incarnation(&self, bucket: &index::BucketName) -> Result<Incarnation, Error> {
        let index = self.store.namespace();
        index.read(|index| Ok(Incarnation::of(find(index, bucket)?)))
    }

    pub(super) async fn create_bucket(
        &self,
        bucket: &BucketName,
        owner: &Tenant,
    ) -> Result<(), Error> {
        let (bucket, owner) = (places::bucket(bucket)?, places::from_s3(owner)?);
        let create = move |store: &Store| {
            let created = store.create_bucket(&owner, &bucket);
            created.map_err(|error| match error.kind {
                Kind::Conflict => Error::BucketExists,
                _ => error.into(),
            })
        };
        Ok(self.commits.run(create).await?.await?)
    }

    pub(super) async fn delete_bucket(&self, bucket: &BucketName) -> Result<(), Error> {
        let bucket = places::bucket(bucket)?;
        let of = self.incarnation(&bucket)?;
        let gone = bucket.clone();
        let delete = move |store: &Store| {
            let (_, ack) = store.change_with(|index| {
                check(index, &bucket, &of)?;
                let is_empty = index.names(&bucket).is_ok_and(|names| names.is_empty());
                if !is_empty {
                    return Err(Error::BucketNotEmpty);
                }
                Ok(Some(Op::DeleteBucket(bucket.clone())))
            })?;
            Ok(ack)
        };
        self.commits.run(delete).await?.await?;
        // What is left if this fails belongs to no bucket, and is not seen any more.
        self.let_go(self.left_of(&gone))
            .await
            .unwrap_or_else(|error| tracing::warn!(%error, "let go what was left of a bucket"));
        Ok(())
    }

    pub(super) fn bucket(&self, bucket: &BucketName) -> Result<Bucket, Error> {
        let place = places::bucket(bucket)?;
        self.store.namespace().read(|index| {
            let found = find(index, &place)?;
            Ok(self.told(index, bucket.clone(), &place, found))
        })
    }

    pub(super) fn buckets(
        &self,
        owner: &Tenant,
        prefix: &str,
        after: &str,
        buckets_max: usize,
    ) -> Vec<Bucket> {
        self.store.namespace().read(|index| {
            let asked = index.buckets().filter_map(|(place, bucket)| {
                let text = place.as_str();
                let is_own = bucket.owner.as_str() == owner.as_str();
                let is_asked = is_own && text.starts_with(prefix) && text > after;
                // One that a native user has called as S3 does not allow it.
                let name = BucketName::new(text).filter(|_| is_asked)?;
                Some(self.told(index, name, place, bucket))
            });
            asked.take(buckets_max).collect()
        })
    }

    fn told(
        &self,
        index: &Index,
        name: BucketName,
        place: &index::BucketName,
        bucket: &index::Bucket,
    ) -> Bucket {
        let tags = index.entry(&self.places.tags(place)).ok();
        let tags = tags.and_then(|entry| BucketTags::decode(&entry.metadata));
        let tags = tags.filter(|tags| tags.of == Incarnation::of(bucket));
        Bucket {
            name,
            owner: places::to_s3(&bucket.owner),
            created: time(bucket.created_at_ms),
            tags: tags.map(|tags| tags.tags).unwrap_or_default(),
        }
    }

    pub(super) async fn tag_bucket(&self, bucket: &BucketName, tags: Tags) -> Result<(), Error> {
        let bucket = places::bucket(bucket)?;
        let of = self.incarnation(&bucket)?;
        let place = self.places.tags(&bucket);
        if tags.as_slice().is_empty() {
            let untag = move |store: &Store| {
                let (_, ack) = store.change_with(|index| {
                    check(index, &bucket, &of)?;
                    let is_there = index.entry(&place).is_ok();
                    Ok::<_, Error>(is_there.then(|| Op::Delete(place.clone())))
                })?;
                Ok(ack)
            };
            return Ok(self.commits.run(untag).await?.await?);
        }
        let writer = self.store.writer(&of.owner)?;
        let unnamed = self.finish(Class::Durable, writer).await?;
        let tag = move |store: &Store| {
            let (_, ack) = store.seal_with(&place, unnamed, |index| {
                check(index, &bucket, &of)?;
                let metadata = BucketTags {
                    of: of.clone(),
                    tags: tags.clone(),
                };
                Ok::<_, Error>(Terms {
                    metadata: metadata.encode(),
                    ..Terms::default()
                })
            })?;
            Ok(ack)
        };
        Ok(self.commits.run(tag).await?.await?)
    }
}
