//! From S3's operations to the store's, one file for each kind of operation.

mod buckets;
mod conditions;
mod copy;
mod list;
mod multipart;
mod read;
mod render;
mod tags;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use s3s::auth::SecretKey;
use s3s::dto::*;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result};
use tracing::instrument::WithSubscriber as _;

use crate::backend::Backend;
use crate::body::Body;
use crate::checksum::Algorithm;
use crate::config::Config;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::names::{self, Key, Name, Tenant};
use crate::users::Users;

pub(crate) use self::list::common_prefix;

/// A part of an upload has at least this, unless it is the last one.
pub(crate) const PART_BYTES_MIN: u64 = 5 << 20;
/// A page has at most this many items, whatever was asked for.
const PAGE_ITEMS_MAX: usize = 1000;

pub(crate) struct Front {
    pub backend: Arc<dyn Backend>,
    pub users: Users,
    pub config: Config,
}

/// What a request names: a bucket, and who its client believes that it belongs to.
struct At<'a> {
    bucket: &'a str,
    owner: Option<&'a str>,
}

impl Front {
    /// Whoever signed the request.
    fn tenant<T>(&self, request: &S3Request<T>) -> Result<Tenant, Fault> {
        let credentials = request.credentials.as_ref().ok_or(Fault::AccessDenied)?;
        let tenant = self.users.tenant(&credentials.access_key);
        tenant.ok_or(Fault::AccessDenied)
    }

    /// The bucket, if it is there and belongs to who asks. Whether there is one of somebody else is no secret: names are for all.
    async fn bucket<T>(
        &self,
        request: &S3Request<T>,
        at: At<'_>,
    ) -> Result<crate::object::Bucket, Fault> {
        let tenant = self.tenant(request)?;
        let bucket = names::BucketName::new(at.bucket).ok_or(Fault::InvalidBucketName)?;
        let bucket = self.backend.bucket(&bucket).await?;
        let is_expected = at.owner.is_none_or(|owner| owner == bucket.owner.as_str());
        if bucket.owner != tenant || !is_expected {
            return Err(Fault::AccessDenied);
        }
        Ok(bucket)
    }

    async fn name<T>(&self, request: &S3Request<T>, at: At<'_>, key: &str) -> Result<Name, Fault> {
        let bucket = self.bucket(request, at).await?.name;
        let key = Key::new(key).ok_or(Fault::KeyTooLong)?;
        Ok(Name { bucket, key })
    }
}

/// The object that a request is about. What operations are asked has the same fields, and no type in common.
macro_rules! name {
    ($front:expr, $request:expr) => {{
        let input = &$request.input;
        let at = $crate::front::at(&input.bucket, &input.expected_bucket_owner);
        $front.name(&$request, at, &input.key).await?
    }};
}
use name;

fn at<'a>(bucket: &'a str, owner: &'a Option<String>) -> At<'a> {
    let owner = owner.as_deref();
    At { bucket, owner }
}

/// The content that comes with a request. `keep`: see [`Body::new`].
fn content<T>(request: &S3Request<T>, keep: Option<Algorithm>) -> Result<Body, Fault> {
    let exchange = request.extensions.get::<Exchange>();
    let exchange = exchange.expect("every request is given one");
    let credentials = request.credentials.as_ref();
    let secret: &SecretKey = &credentials.ok_or(Fault::AccessDenied)?.secret_key;
    exchange.content(&request.headers, secret, keep)
}

/// Nothing has more than one version, and that one is called `null`.
fn check_version(version: Option<&str>) -> Result<(), Fault> {
    match version {
        None | Some("" | "null") => Ok(()),
        Some(_) => Err(Fault::NoSuchVersion),
    }
}

fn reply<T>(output: T) -> Result<S3Response<T>, Fault> {
    Ok(S3Response::new(output))
}

/// The library is silenced (see `http`); what happens in here is heard again.
macro_rules! operations {
    ($($operation:ident($input:ident) -> $output:ident: $handler:path;)*) => {
        #[async_trait]
        impl S3 for Front {
            $(async fn $operation(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                let exchange = request.extensions.get::<Exchange>();
                let dispatch = exchange.expect("every request is given one").dispatch();
                let served = async move { $handler(self, request).await };
                served.with_subscriber(dispatch).await.map_err(S3Error::from)
            })*
        }
    };
}

operations! {
    list_buckets(ListBucketsInput) -> ListBucketsOutput: buckets::list;
    create_bucket(CreateBucketInput) -> CreateBucketOutput: buckets::create;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput: buckets::delete;
    head_bucket(HeadBucketInput) -> HeadBucketOutput: buckets::head;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput: buckets::location;
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput: buckets::versioning;
    list_objects(ListObjectsInput) -> ListObjectsOutput: list::first_version;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output: list::second_version;
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput: list::versions;
    get_object(GetObjectInput) -> GetObjectOutput: read::get;
    head_object(HeadObjectInput) -> HeadObjectOutput: read::head;
    get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput: read::attributes;
    put_object(PutObjectInput) -> PutObjectOutput: write::put;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput: write::delete;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput: write::delete_many;
    copy_object(CopyObjectInput) -> CopyObjectOutput: copy::object;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput: copy::part;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput: multipart::create;
    upload_part(UploadPartInput) -> UploadPartOutput: multipart::put_part;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput: multipart::complete;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput: multipart::abort;
    list_parts(ListPartsInput) -> ListPartsOutput: multipart::list_parts;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput: multipart::list;
    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput: tags::get;
    put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput: tags::put;
    delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput: tags::delete;
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput: tags::get_bucket;
    put_bucket_tagging(PutBucketTaggingInput) -> PutBucketTaggingOutput: tags::put_bucket;
    delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput: tags::delete_bucket;
}
