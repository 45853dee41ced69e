//! Why a request is not served, and what S3 calls that.

use std::time::SystemTime;

use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};
use s3s::dto::{Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode};

use crate::backend::Error;
use crate::body::BodyError;
use crate::names::Etag;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("this user may not do that")]
    AccessDenied,
    #[error("there are headers that were not signed")]
    HeadersNotSigned,
    #[error("the header Authorization is not understood")]
    Authorization,
    #[error("the request was signed at another time than it is here")]
    TimeTooSkewed,
    #[error("{0}")]
    Expires(&'static str),
    #[error("{0}")]
    Invalid(&'static str),
    #[error("{0}")]
    InvalidArgument(&'static str),
    #[error("Content-MD5 is not one")]
    InvalidDigest,
    #[error("a checksum is not one")]
    BadChecksum,
    #[error("the length of the body is missing")]
    MissingContentLength,
    #[error("the name of the bucket is not valid")]
    InvalidBucketName,
    #[error("there are buckets in this place only: {0}")]
    InvalidLocation(String),
    #[error("the key has more than 1024 bytes")]
    KeyTooLong,
    #[error(
        "the metadata has more than {} bytes",
        crate::object::USER_METADATA_BYTES_MAX
    )]
    MetadataTooLarge,
    #[error("there are too many tags, or one of them is not valid")]
    InvalidTag,
    #[error("there are no tags")]
    NoSuchTagSet,
    #[error("there are no versions")]
    NoSuchVersion,
    #[error("the document is not as it should be")]
    MalformedXml,
    #[error("the object has {size} bytes")]
    InvalidRange { size: u64 },
    #[error("there is no such part in the object")]
    NoSuchPart,
    #[error("a part is not there, or is another")]
    InvalidPart,
    #[error("the parts are not in order")]
    InvalidPartOrder,
    #[error(
        "a part that is not the last one is smaller than {} bytes",
        crate::front::PART_BYTES_MIN
    )]
    PartTooSmall,
    #[error("it has not changed")]
    NotModified { etag: Etag, modified: SystemTime },
    #[error("what is there is not what the condition says")]
    Precondition,
    #[error("the checksum of the whole is another")]
    WholeChecksum,
    #[error("not implemented: {0}")]
    NotImplemented(&'static str),
    #[error(transparent)]
    Backend(#[from] Error),
    #[error(transparent)]
    Body(#[from] BodyError),
}

impl From<Fault> for S3Error {
    fn from(fault: Fault) -> Self {
        let mut error = Self::with_message(code(&fault), fault.to_string());
        match &fault {
            Fault::NotModified { etag, modified } => {
                error.set_headers(validators(etag, *modified));
            }
            Fault::InvalidRange { size } => {
                let mut headers = HeaderMap::new();
                let range = HeaderValue::from_str(&format!("bytes */{size}"));
                headers.insert(
                    header::CONTENT_RANGE,
                    range.expect("digits are a header's value"),
                );
                error.set_headers(headers);
            }
            Fault::Backend(Error::Lost(_)) => error.set_status_code(StatusCode::GONE),
            Fault::Backend(Error::Internal { .. }) => {
                // A person must look, and the client need not know why.
                tracing::error!(
                    error = &fault as &dyn std::error::Error,
                    "serve an S3 request"
                );
                error.set_message("the store is at fault");
            }
            Fault::Body(BodyError::Sha256) | Fault::Backend(Error::Body(BodyError::Sha256)) => {
                error.set_status_code(StatusCode::BAD_REQUEST);
            }
            _ => {}
        }
        error
    }
}

fn code(fault: &Fault) -> S3ErrorCode {
    match fault {
        Fault::AccessDenied | Fault::HeadersNotSigned => S3ErrorCode::AccessDenied,
        Fault::Authorization => S3ErrorCode::AuthorizationHeaderMalformed,
        Fault::TimeTooSkewed => S3ErrorCode::RequestTimeTooSkewed,
        Fault::Expires(_) => S3ErrorCode::AuthorizationQueryParametersError,
        Fault::Invalid(_) => S3ErrorCode::InvalidRequest,
        Fault::InvalidArgument(_) => S3ErrorCode::InvalidArgument,
        Fault::InvalidDigest => S3ErrorCode::InvalidDigest,
        Fault::MissingContentLength => S3ErrorCode::MissingContentLength,
        Fault::InvalidBucketName => S3ErrorCode::InvalidBucketName,
        Fault::InvalidLocation(_) => S3ErrorCode::InvalidLocationConstraint,
        Fault::KeyTooLong => S3ErrorCode::KeyTooLongError,
        Fault::MetadataTooLarge => S3ErrorCode::MetadataTooLarge,
        Fault::InvalidTag => S3ErrorCode::InvalidTag,
        Fault::NoSuchTagSet => S3ErrorCode::NoSuchTagSet,
        Fault::NoSuchVersion => S3ErrorCode::NoSuchVersion,
        Fault::MalformedXml => S3ErrorCode::MalformedXML,
        Fault::InvalidRange { .. } => S3ErrorCode::InvalidRange,
        Fault::NoSuchPart | Fault::InvalidPart => S3ErrorCode::InvalidPart,
        Fault::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
        Fault::PartTooSmall => S3ErrorCode::EntityTooSmall,
        Fault::NotModified { .. } => S3ErrorCode::NotModified,
        Fault::Precondition => S3ErrorCode::PreconditionFailed,
        Fault::WholeChecksum | Fault::BadChecksum => S3ErrorCode::BadDigest,
        Fault::NotImplemented(_) => S3ErrorCode::NotImplemented,
        Fault::Backend(error) => backend_code(error),
        Fault::Body(error) => body_code(error),
    }
}

fn backend_code(error: &Error) -> S3ErrorCode {
    match error {
        Error::NoSuchBucket => S3ErrorCode::NoSuchBucket,
        Error::BucketExists => S3ErrorCode::BucketAlreadyExists,
        Error::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
        Error::NoSuchKey => S3ErrorCode::NoSuchKey,
        Error::NoSuchUpload => S3ErrorCode::NoSuchUpload,
        Error::Precondition => S3ErrorCode::PreconditionFailed,
        Error::Changed => S3ErrorCode::OperationAborted,
        Error::Cursor => S3ErrorCode::InvalidArgument,
        Error::Body(error) => body_code(error),
        Error::Exhausted(_) => S3ErrorCode::SlowDown,
        Error::Unavailable(_) => S3ErrorCode::ServiceUnavailable,
        Error::Unsupported(_) => S3ErrorCode::NotImplemented,
        Error::Lost(_) => S3ErrorCode::Custom("ObjectLost".into()),
        Error::Internal { .. } => S3ErrorCode::InternalError,
    }
}

fn body_code(error: &BodyError) -> S3ErrorCode {
    match error {
        BodyError::Malformed(_) => S3ErrorCode::InvalidRequest,
        BodyError::TooLarge { .. } => S3ErrorCode::EntityTooLarge,
        BodyError::TooLong | BodyError::Incomplete => S3ErrorCode::IncompleteBody,
        BodyError::Slow => S3ErrorCode::RequestTimeout,
        BodyError::Signature => S3ErrorCode::SignatureDoesNotMatch,
        BodyError::Sha256 => S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
        BodyError::Md5 | BodyError::Checksum(_) => S3ErrorCode::BadDigest,
        BodyError::Source(error) => backend_code(error),
    }
}

fn validators(etag: &Etag, modified: SystemTime) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let etag = HeaderValue::from_str(&format!("\"{etag}\""));
    headers.insert(header::ETAG, etag.expect("an etag is graphic"));
    let mut date = Vec::new();
    let is_written = Timestamp::from(modified).format(TimestampFormat::HttpDate, &mut date);
    if is_written.is_ok()
        && let Ok(date) = HeaderValue::from_bytes(&date)
    {
        headers.insert(header::LAST_MODIFIED, date);
    }
    headers
}
