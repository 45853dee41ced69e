//! Buckets themselves.

use s3s::dto::*;
use s3s::{S3Request, S3Response};

use super::{Front, at, render, reply};
use crate::backend::Error;
use crate::fault::Fault;
use crate::names;

pub(super) async fn list(
    front: &Front,
    request: S3Request<ListBucketsInput>,
) -> Result<S3Response<ListBucketsOutput>, Fault> {
    let tenant = front.tenant(&request)?;
    let input = &request.input;
    let prefix = input.prefix.as_deref().unwrap_or("");
    let after = input.continuation_token.as_deref().unwrap_or("");
    // Without a limit, clients expect all.
    let buckets_max = match input.max_buckets {
        None => usize::MAX - 1,
        Some(asked) => usize::try_from(asked).unwrap_or(0).max(1),
    };
    let mut found = front
        .backend
        .buckets(&tenant, prefix, after, buckets_max + 1)
        .await?;
    let is_truncated = found.len() > buckets_max;
    found.truncate(buckets_max);
    let next = found
        .last()
        .filter(|_| is_truncated)
        .map(|bucket| bucket.name.to_string());
    let region = &front.config.region;
    let buckets = found.into_iter().map(|bucket| Bucket {
        bucket_region: input.max_buckets.map(|_| region.clone()),
        creation_date: Some(render::time(bucket.created)),
        name: Some(bucket.name.to_string()),
    });
    reply(ListBucketsOutput {
        buckets: Some(buckets.collect()),
        continuation_token: next,
        owner: Some(render::owner(&tenant)),
        prefix: input.prefix.clone(),
    })
}

pub(super) async fn create(
    front: &Front,
    request: S3Request<CreateBucketInput>,
) -> Result<S3Response<CreateBucketOutput>, Fault> {
    let tenant = front.tenant(&request)?;
    let input = &request.input;
    let bucket = names::BucketName::new(&input.bucket).ok_or(Fault::InvalidBucketName)?;
    let region = &front.config.region;
    let asked = input.create_bucket_configuration.as_ref();
    let asked = asked.and_then(|asked| asked.location_constraint.as_ref());
    if asked.is_some_and(|asked| !asked.as_str().is_empty() && asked.as_str() != region) {
        return Err(Fault::InvalidLocation(region.clone()));
    }
    match front.backend.create_bucket(&bucket, &tenant).await {
        // Clients that try again are told that it is done.
        Err(Error::BucketExists) if front.backend.bucket(&bucket).await?.owner == tenant => {}
        other => other?,
    }
    reply(CreateBucketOutput {
        location: Some(format!("/{bucket}")),
    })
}

pub(super) async fn delete(
    front: &Front,
    request: S3Request<DeleteBucketInput>,
) -> Result<S3Response<DeleteBucketOutput>, Fault> {
    let input = &request.input;
    let bucket = front
        .bucket(&request, at(&input.bucket, &input.expected_bucket_owner))
        .await?;
    front.backend.delete_bucket(&bucket.name).await?;
    reply(DeleteBucketOutput::default())
}

pub(super) async fn head(
    front: &Front,
    request: S3Request<HeadBucketInput>,
) -> Result<S3Response<HeadBucketOutput>, Fault> {
    let input = &request.input;
    front
        .bucket(&request, at(&input.bucket, &input.expected_bucket_owner))
        .await?;
    reply(HeadBucketOutput {
        bucket_region: Some(front.config.region.clone()),
        ..HeadBucketOutput::default()
    })
}

pub(super) async fn location(
    front: &Front,
    request: S3Request<GetBucketLocationInput>,
) -> Result<S3Response<GetBucketLocationOutput>, Fault> {
    let input = &request.input;
    front
        .bucket(&request, at(&input.bucket, &input.expected_bucket_owner))
        .await?;
    let region = &front.config.region;
    // The first region of S3 has no name here.
    let region = (region != "us-east-1").then(|| BucketLocationConstraint::from(region.clone()));
    reply(GetBucketLocationOutput {
        location_constraint: region,
    })
}

/// Nothing is versioned: that is what an empty answer says.
pub(super) async fn versioning(
    front: &Front,
    request: S3Request<GetBucketVersioningInput>,
) -> Result<S3Response<GetBucketVersioningOutput>, Fault> {
    let input = &request.input;
    front
        .bucket(&request, at(&input.bucket, &input.expected_bucket_owner))
        .await?;
    reply(GetBucketVersioningOutput::default())
}
