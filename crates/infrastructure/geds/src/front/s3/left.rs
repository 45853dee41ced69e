//! What is left in the store's own bucket of buckets and uploads that are over: the store has ended before it was let go, or a native user has
//! deleted the bucket. It is not seen, but takes room.

use s3::backend::Error;

use super::S3;
use super::meta::{BucketTags, Incarnation};
use super::places::Places;
use super::uploads::is_over;
use crate::error;
use crate::index::{BucketName, Folder, Index, Name, Op};
use crate::store::Store;

pub(super) enum Left {
    Tags(BucketName, Name),
    /// Nobody has the same id again.
    Upload(Folder),
}

impl Left {
    /// `None`: it has been let go, or there is a new one in its place.
    fn op(&self, index: &Index) -> Option<Op> {
        match self {
            Self::Upload(folder) => Some(Op::DeletePrefix(folder.clone())),
            Self::Tags(bucket, name) => {
                is_left(index, bucket, name).then(|| Op::Delete(name.clone()))
            }
        }
    }
}

/// Whether there are tags of a bucket that is not there any more.
fn is_left(index: &Index, bucket: &BucketName, tags: &Name) -> bool {
    let tags = index.entry(tags).ok();
    let tags = tags.and_then(|entry| BucketTags::decode(&entry.metadata));
    let of = index.bucket(bucket).ok().map(Incarnation::of);
    tags.is_some_and(|tags| of != Some(tags.of))
}

impl S3 {
    /// Of one bucket, which was deleted.
    pub(super) fn left_of(&self, bucket: &BucketName) -> Vec<Left> {
        let index = self.store.namespace();
        let mut left =
            index.read(|index| left_uploads(index, &self.places, &self.places.uploads(bucket)));
        left.push(Left::Tags(bucket.clone(), self.places.tags(bucket)));
        left
    }

    pub(super) async fn let_go(&self, left: Vec<Left>) -> Result<(), Error> {
        let let_go = move |store: &Store| {
            let let_go = |left: Left| {
                let (_, ack) = store.change_with(|index| Ok::<_, Error>(left.op(index)))?;
                Ok::<_, Error>(ack)
            };
            left.into_iter().map(let_go).collect::<Result<Vec<_>, _>>()
        };
        for ack in self.commits.run(let_go).await? {
            ack.await?;
        }
        Ok(())
    }

    /// Of all buckets. Waits for the disk.
    pub(super) fn sweep(&self) -> error::Result<()> {
        let left = self.store.namespace().read(|index| {
            let mut left = left_uploads(index, &self.places, &self.places.all_uploads());
            left.extend(left_tags(index, &self.places));
            left
        });
        for left in left {
            let (_, ack) = self
                .store
                .change_with(|index| Ok::<_, error::Error>(left.op(index)))?;
            ack.wait()?;
        }
        Ok(())
    }
}

fn left_uploads(index: &Index, places: &Places, folder: &Folder) -> Vec<Left> {
    let uploads = index.folder(folder).into_iter().flatten();
    let left = uploads.filter_map(|(key, entry)| {
        let (bucket, id) = Places::parse_upload(key)?;
        let is_left = is_over(index, &bucket, &id, entry)?;
        is_left.then(|| Left::Upload(places.whole_upload(&bucket, &id)))
    });
    left.collect()
}

fn left_tags(index: &Index, places: &Places) -> Vec<Left> {
    let folder = places.all_tags();
    let tags = index.folder(&folder).into_iter().flatten();
    let left = tags.filter_map(|(key, _)| {
        let bucket = Places::parse_tags(key)?;
        let name = places.tags(&bucket);
        is_left(index, &bucket, &name).then_some(Left::Tags(bucket, name))
    });
    left.collect()
}
