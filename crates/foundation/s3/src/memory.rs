//! A store in memory: for tests, and to show what a store is.

use std::collections::{BTreeMap, btree_map};
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::Chunks;
use crate::backend::{
    Backend, Complete, Content, Deletion, Error, ListFrom, ListItem, ListPage, ListQuery, Listed,
    NewUpload, Put,
};
use crate::body::{Body, Piece, Verified};
use crate::checksum::{Coverage, ObjectChecksum};
use crate::front::common_prefix;
use crate::names::{BucketName, Etag, Key, Name, PartNumber, Tenant, Upload, UploadId};
use crate::object::{Bucket, Class, Object, Part, Tags, Uploading};

/// Pieces of content are not larger. What comes in comes in smaller ones, of larger buffers: kept as they are, they would keep those.
const PIECE_BYTES: usize = 1 << 20;

/// Holds all in memory, and forgets it when it is dropped: its objects are ephemeral.
#[derive(Debug, Default)]
pub struct Memory {
    buckets: Mutex<BTreeMap<BucketName, Held>>,
}

#[derive(Debug)]
struct Held {
    bucket: Bucket,
    objects: BTreeMap<Key, Stored>,
    uploads: BTreeMap<(Key, UploadId), Begun>,
}

#[derive(Clone, Debug)]
struct Stored {
    object: Object,
    pieces: Arc<[Bytes]>,
}

#[derive(Debug)]
struct Begun {
    new: NewUpload,
    initiated: SystemTime,
    parts: BTreeMap<PartNumber, (Part, Vec<Bytes>)>,
}

impl Memory {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn buckets(&self) -> MutexGuard<'_, BTreeMap<BucketName, Held>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_bucket<T>(
        &self,
        bucket: &BucketName,
        act: impl FnOnce(&mut Held) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut buckets = self.buckets();
        act(buckets.get_mut(bucket).ok_or(Error::NoSuchBucket)?)
    }

    fn stored(&self, name: &Name) -> Result<Stored, Error> {
        self.in_bucket(&name.bucket, |held| {
            held.objects.get(&name.key).cloned().ok_or(Error::NoSuchKey)
        })
    }

    fn in_upload<T>(
        &self,
        upload: &Upload,
        act: impl FnOnce(&mut Begun) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.in_bucket(&upload.name.bucket, |held| {
            let key = (upload.name.key.clone(), upload.id.clone());
            act(held.uploads.get_mut(&key).ok_or(Error::NoSuchUpload)?)
        })
    }
}

async fn collect(mut body: Body) -> Result<(Vec<Bytes>, Verified), Error> {
    let mut pieces = Vec::new();
    let mut last = BytesMut::new();
    loop {
        match body.next().await? {
            Piece::Data(mut data) => {
                while !data.is_empty() {
                    if last.is_empty() {
                        let rest = body.length().unwrap_or(0).max(data.len() as u64);
                        let room =
                            usize::try_from(rest).map_or(PIECE_BYTES, |rest| rest.min(PIECE_BYTES));
                        last = BytesMut::with_capacity(room);
                    }
                    let n_bytes = data.len().min(PIECE_BYTES - last.len());
                    last.extend_from_slice(&data.split_to(n_bytes));
                    if last.len() == PIECE_BYTES {
                        pieces.push(std::mem::take(&mut last).freeze());
                    }
                }
            }
            Piece::End(verified) => {
                if !last.is_empty() {
                    pieces.push(last.freeze());
                }
                return Ok((pieces, verified));
            }
        }
    }
}

/// Opened content: the pieces are shared with the store, and outlive what it has under that name.
struct Opened(Arc<[Bytes]>);

impl Content for Opened {
    fn read(self: Box<Self>, range: Range<u64>) -> Chunks {
        let mut start = 0;
        let mut pieces = Vec::new();
        for piece in &*self.0 {
            let end = start + piece.len() as u64;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                let within =
                    |at: u64| usize::try_from(at - start).expect("it is less than a piece");
                pieces.push(piece.slice(within(from)..within(to)));
            }
            start = end;
        }
        Chunks::memory(pieces)
    }
}

#[async_trait]
impl Backend for Memory {
    async fn create_bucket(&self, bucket: &BucketName, owner: &Tenant) -> Result<(), Error> {
        match self.buckets().entry(bucket.clone()) {
            btree_map::Entry::Occupied(_) => Err(Error::BucketExists),
            btree_map::Entry::Vacant(place) => {
                place.insert(Held {
                    bucket: Bucket {
                        name: bucket.clone(),
                        owner: owner.clone(),
                        created: rt::wall(),
                        tags: Tags::default(),
                    },
                    objects: BTreeMap::new(),
                    uploads: BTreeMap::new(),
                });
                Ok(())
            }
        }
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<(), Error> {
        let mut buckets = self.buckets();
        let held = buckets.get(bucket).ok_or(Error::NoSuchBucket)?;
        if !held.objects.is_empty() {
            return Err(Error::BucketNotEmpty);
        }
        buckets.remove(bucket);
        Ok(())
    }

    async fn bucket(&self, bucket: &BucketName) -> Result<Bucket, Error> {
        self.in_bucket(bucket, |held| Ok(held.bucket.clone()))
    }

    async fn buckets(
        &self,
        owner: &Tenant,
        prefix: &str,
        after: &str,
        buckets_max: usize,
    ) -> Result<Vec<Bucket>, Error> {
        let buckets = self.buckets();
        let all = buckets.values().map(|held| &held.bucket);
        let is_asked = |bucket: &&Bucket| {
            let name = bucket.name.as_str();
            bucket.owner == *owner && name.starts_with(prefix) && name > after
        };
        Ok(all.filter(is_asked).take(buckets_max).cloned().collect())
    }

    async fn tag_bucket(&self, bucket: &BucketName, tags: Tags) -> Result<(), Error> {
        self.in_bucket(bucket, |held| {
            held.bucket.tags = tags;
            Ok(())
        })
    }

    async fn list(&self, bucket: &BucketName, query: ListQuery<'_>) -> Result<ListPage, Error> {
        self.in_bucket(bucket, |held| list(&held.objects, query))
    }

    async fn head(&self, name: &Name) -> Result<Object, Error> {
        Ok(self.stored(name)?.object)
    }

    async fn open(&self, name: &Name) -> Result<(Object, Box<dyn Content>), Error> {
        let stored = self.stored(name)?;
        Ok((stored.object, Box::new(Opened(stored.pieces))))
    }

    async fn put(&self, put: Put, body: Body) -> Result<Object, Error> {
        let (pieces, verified) = collect(body).await?;
        let object = Object {
            size: verified.size(),
            etag: verified.etag(),
            modified: rt::wall(),
            attributes: put.attributes,
            tags: put.tags,
            checksum: Some(ObjectChecksum {
                value: verified.checksum(),
                coverage: Coverage::Whole,
            }),
            parts: Arc::new([]),
            upload: None,
            class: Class::Ephemeral,
        };
        self.in_bucket(&put.name.bucket, |held| {
            let present = held.objects.get(&put.name.key);
            put.when.check(present.map(|stored| &stored.object.etag))?;
            let stored = Stored {
                object: object.clone(),
                pieces: pieces.into(),
            };
            held.objects.insert(put.name.key, stored);
            Ok(object)
        })
    }

    async fn copy(&self, from: &Name, etag: &Etag, put: Put) -> Result<Object, Error> {
        let mut stored = self.stored(from)?;
        if stored.object.etag != *etag {
            return Err(Error::Changed);
        }
        stored.object.attributes = put.attributes;
        stored.object.tags = put.tags;
        stored.object.modified = rt::wall();
        stored.object.upload = None;
        self.in_bucket(&put.name.bucket, |held| {
            let present = held.objects.get(&put.name.key);
            put.when.check(present.map(|stored| &stored.object.etag))?;
            let object = stored.object.clone();
            held.objects.insert(put.name.key, stored);
            Ok(object)
        })
    }

    async fn delete(
        &self,
        bucket: &BucketName,
        deletions: Vec<Deletion>,
    ) -> Vec<Result<(), Error>> {
        let delete = |deletion: Deletion| {
            self.in_bucket(bucket, |held| {
                let present = held.objects.get(&deletion.key);
                deletion
                    .when
                    .check(present.map(|stored| &stored.object.etag))?;
                held.objects.remove(&deletion.key);
                Ok(())
            })
        };
        deletions.into_iter().map(delete).collect()
    }

    async fn tag(&self, name: &Name, tags: Tags) -> Result<(), Error> {
        self.in_bucket(&name.bucket, |held| {
            let stored = held.objects.get_mut(&name.key).ok_or(Error::NoSuchKey)?;
            stored.object.tags = tags;
            Ok(())
        })
    }

    async fn create_upload(&self, new: NewUpload) -> Result<Upload, Error> {
        let id = format!("{:016x}{:016x}", rt::random_u64(), rt::random_u64());
        let id = UploadId::new(&id).expect("digits are graphic");
        let upload = Upload {
            name: new.name.clone(),
            id: id.clone(),
        };
        self.in_bucket(&upload.name.bucket, |held| {
            let begun = Begun {
                new,
                initiated: rt::wall(),
                parts: BTreeMap::new(),
            };
            held.uploads.insert((upload.name.key.clone(), id), begun);
            Ok(upload.clone())
        })
    }

    async fn upload(&self, upload: &Upload) -> Result<Uploading, Error> {
        self.in_upload(upload, |begun| Ok(begun.uploading(&upload.id)))
    }

    async fn uploads(
        &self,
        bucket: &BucketName,
        prefix: &str,
        after: (&str, Option<&str>),
        uploads_max: usize,
    ) -> Result<Vec<Uploading>, Error> {
        self.in_bucket(bucket, |held| {
            let is_after = |key: &Key, id: &UploadId| match after {
                (last, None) => key.as_str() > last,
                (last, Some(last_id)) => (key.as_str(), id.as_str()) > (last, last_id),
            };
            let all = held.uploads.iter();
            let asked =
                all.filter(|((key, id), _)| key.as_str().starts_with(prefix) && is_after(key, id));
            let uploads = asked
                .take(uploads_max)
                .map(|((_, id), begun)| begun.uploading(id));
            Ok(uploads.collect())
        })
    }

    async fn put_part(
        &self,
        upload: &Upload,
        number: PartNumber,
        body: Body,
    ) -> Result<Part, Error> {
        let (pieces, verified) = collect(body).await?;
        let part = Part {
            number,
            size: verified.size(),
            md5: verified.md5(),
            checksum: verified.checksum(),
            modified: rt::wall(),
        };
        self.in_upload(upload, |begun| {
            begun.parts.insert(number, (part.clone(), pieces));
            Ok(part)
        })
    }

    async fn parts(
        &self,
        upload: &Upload,
        after: u16,
        parts_max: usize,
    ) -> Result<Vec<Part>, Error> {
        self.in_upload(upload, |begun| {
            let rest = begun
                .parts
                .iter()
                .filter(|(number, _)| number.get() > after);
            Ok(rest
                .take(parts_max)
                .map(|(_, (part, _))| part.clone())
                .collect())
        })
    }

    async fn complete(&self, complete: Complete) -> Result<Object, Error> {
        let Upload { name, id } = &complete.upload;
        self.in_bucket(&name.bucket, |held| {
            let key = (name.key.clone(), id.clone());
            let begun = held.uploads.get_mut(&key).ok_or(Error::NoSuchUpload)?;
            let is_there = |part: &Part| {
                begun
                    .parts
                    .get(&part.number)
                    .is_some_and(|(there, _)| there == part)
            };
            if !complete.parts.iter().all(is_there) {
                return Err(Error::Changed);
            }
            let present = held.objects.get(&name.key);
            complete
                .when
                .check(present.map(|stored| &stored.object.etag))?;
            let mut pieces = Vec::new();
            for part in &complete.parts {
                let part = begun.parts.get(&part.number);
                pieces.extend_from_slice(&part.expect("all are there").1);
            }
            let object = Object {
                size: complete.size,
                etag: complete.etag.clone(),
                modified: rt::wall(),
                attributes: begun.new.attributes.clone(),
                tags: begun.new.tags.clone(),
                checksum: complete.checksum,
                parts: complete.parts.clone().into(),
                upload: Some(id.clone()),
                class: Class::Ephemeral,
            };
            let stored = Stored {
                object: object.clone(),
                pieces: pieces.into(),
            };
            held.uploads.remove(&key);
            held.objects.insert(name.key.clone(), stored);
            Ok(object)
        })
    }

    async fn abort(&self, upload: &Upload) -> Result<(), Error> {
        self.in_bucket(&upload.name.bucket, |held| {
            let key = (upload.name.key.clone(), upload.id.clone());
            held.uploads
                .remove(&key)
                .map(|_| ())
                .ok_or(Error::NoSuchUpload)
        })
    }
}

impl Begun {
    fn uploading(&self, id: &UploadId) -> Uploading {
        Uploading {
            upload: Upload {
                name: self.new.name.clone(),
                id: id.clone(),
            },
            initiated: self.initiated,
            checksum: self.new.checksum,
        }
    }
}

/// A cursor is the last item of the page before: `=` and a key, or `/` and what was told instead of keys.
fn list(objects: &BTreeMap<Key, Stored>, query: ListQuery<'_>) -> Result<ListPage, Error> {
    let (after, skipped) = match query.from {
        ListFrom::Start => ("", None),
        ListFrom::After(key) => (key, None),
        ListFrom::AfterPrefix(prefix) => (prefix, Some(prefix)),
        ListFrom::Cursor(cursor) => match (cursor.strip_prefix('='), cursor.strip_prefix('/')) {
            (Some(key), _) => (key, None),
            (_, Some(prefix)) => (prefix, Some(prefix)),
            (None, None) => return Err(Error::Cursor),
        },
    };
    let from = if after < query.prefix {
        Bound::Included(query.prefix)
    } else {
        Bound::Excluded(after)
    };
    let mut page = ListPage::default();
    let mut last = None;
    for (key, stored) in objects.range::<str, _>((from, Bound::Unbounded)) {
        let text = key.as_str();
        if !text.starts_with(query.prefix) {
            break;
        }
        if skipped.is_some_and(|prefix| text.starts_with(prefix)) {
            continue;
        }
        let common = common_prefix(text, query.prefix, query.delimiter);
        if let (Some(common), Some(ListItem::Prefix(told))) = (common, page.items.last())
            && common == told
        {
            continue;
        }
        if page.items.len() == query.items_max {
            page.next = last;
            break;
        }
        let object = &stored.object;
        let (item, cursor) = match common {
            Some(prefix) => (ListItem::Prefix(prefix.to_owned()), format!("/{prefix}")),
            None => (
                ListItem::Object(Listed {
                    key: key.clone(),
                    size: object.size,
                    etag: object.etag.clone(),
                    modified: object.modified,
                    checksum: object.checksum,
                }),
                format!("={text}"),
            ),
        };
        page.items.push(item);
        last = Some(cursor);
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_keeps_the_contract() {
        crate::contract(&Memory::new()).await;
    }
}
