//! Tags of objects and of buckets.

use s3s::dto::*;
use s3s::{S3Request, S3Response};

use super::{Front, at, check_version, name, reply};
use crate::fault::Fault;
use crate::object::{BUCKET_TAGS_MAX, OBJECT_TAGS_MAX, Tags};

fn parse(tags: &[Tag], tags_max: usize) -> Result<Tags, Fault> {
    let pair = |tag: &Tag| Some((tag.key.clone()?, tag.value.clone()?));
    let pairs = tags.iter().map(pair).collect::<Option<Vec<_>>>();
    Tags::new(pairs.ok_or(Fault::MalformedXml)?, tags_max).ok_or(Fault::InvalidTag)
}

fn render(tags: &Tags) -> Vec<Tag> {
    let render = |(name, value): &(String, String)| Tag {
        key: Some(name.clone()),
        value: Some(value.clone()),
    };
    tags.as_slice().iter().map(render).collect()
}

pub(super) async fn get(
    front: &Front,
    request: S3Request<GetObjectTaggingInput>,
) -> Result<S3Response<GetObjectTaggingOutput>, Fault> {
    let input = &request.input;
    check_version(input.version_id.as_deref())?;
    let name = name!(front, request);
    let object = front.backend.head(&name).await?;
    reply(GetObjectTaggingOutput {
        tag_set: render(&object.tags),
        version_id: None,
    })
}

pub(super) async fn put(
    front: &Front,
    request: S3Request<PutObjectTaggingInput>,
) -> Result<S3Response<PutObjectTaggingOutput>, Fault> {
    let input = &request.input;
    check_version(input.version_id.as_deref())?;
    let name = name!(front, request);
    let tags = parse(&input.tagging.tag_set, OBJECT_TAGS_MAX)?;
    front.backend.tag(&name, tags).await?;
    reply(PutObjectTaggingOutput::default())
}

pub(super) async fn delete(
    front: &Front,
    request: S3Request<DeleteObjectTaggingInput>,
) -> Result<S3Response<DeleteObjectTaggingOutput>, Fault> {
    let input = &request.input;
    check_version(input.version_id.as_deref())?;
    let name = name!(front, request);
    front.backend.tag(&name, Tags::default()).await?;
    reply(DeleteObjectTaggingOutput::default())
}

pub(super) async fn get_bucket(
    front: &Front,
    request: S3Request<GetBucketTaggingInput>,
) -> Result<S3Response<GetBucketTaggingOutput>, Fault> {
    let input = &request.input;
    let bucket = front
        .bucket(&request, at(&input.bucket, &input.expected_bucket_owner))
        .await?;
    if bucket.tags.as_slice().is_empty() {
        return Err(Fault::NoSuchTagSet);
    }
    reply(GetBucketTaggingOutput {
        tag_set: render(&bucket.tags),
    })
}

pub(super) async fn put_bucket(
    front: &Front,
    request: S3Request<PutBucketTaggingInput>,
) -> Result<S3Response<PutBucketTaggingOutput>, Fault> {
    let input = &request.input;
    let bucket = front
        .bucket(&request, at(&input.bucket, &input.expected_bucket_owner))
        .await?;
    let tags = parse(&input.tagging.tag_set, BUCKET_TAGS_MAX)?;
    front.backend.tag_bucket(&bucket.name, tags).await?;
    reply(PutBucketTaggingOutput::default())
}

pub(super) async fn delete_bucket(
    front: &Front,
    request: S3Request<DeleteBucketTaggingInput>,
) -> Result<S3Response<DeleteBucketTaggingOutput>, Fault> {
    let input = &request.input;
    let bucket = front
        .bucket(&request, at(&input.bucket, &input.expected_bucket_owner))
        .await?;
    front
        .backend
        .tag_bucket(&bucket.name, Tags::default())
        .await?;
    reply(DeleteBucketTaggingOutput::default())
}
