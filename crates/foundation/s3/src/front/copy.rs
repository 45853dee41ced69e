//! Objects and parts that are made of other objects.

use s3s::dto::*;
use s3s::{S3Request, S3Response};

use super::conditions::{Conditions, Selection, precondition};
use super::render::{self, set_checksum};
use super::write::{attributes_of, tags, wanted_class};
use super::{At, Front, check_version, multipart, name};
use crate::backend::{Content, Error, Put};
use crate::body::Body;
use crate::checksum::Algorithm;
use crate::fault::Fault;
use crate::names::{Key, Name, PartNumber, Upload};
use crate::object::{Object, Part};

/// So often a source may be changed while it is being copied.
const TRIES: usize = 5;

async fn source<T>(
    front: &Front,
    request: &S3Request<T>,
    source: &CopySource,
    owner: &Option<String>,
) -> Result<Name, Fault> {
    let CopySource::Bucket {
        bucket,
        key,
        version_id,
    } = source
    else {
        return Err(Fault::NotImplemented("access points"));
    };
    check_version(version_id.as_deref())?;
    let owner = owner.as_deref();
    let bucket = front.bucket(request, At { bucket, owner }).await?.name;
    let key = Key::new(key).ok_or(Fault::KeyTooLong)?;
    Ok(Name { bucket, key })
}

/// The conditions that the two copying requests share.
macro_rules! source_conditions {
    ($input:expr) => {
        Conditions {
            if_match: $input.copy_source_if_match.as_ref(),
            if_none_match: $input.copy_source_if_none_match.as_ref(),
            if_modified_since: $input.copy_source_if_modified_since.as_ref(),
            if_unmodified_since: $input.copy_source_if_unmodified_since.as_ref(),
        }
    };
}

pub(super) async fn object(
    front: &Front,
    request: S3Request<CopyObjectInput>,
) -> Result<S3Response<CopyObjectOutput>, Fault> {
    let input = &request.input;
    let to = name!(front, request);
    let from = source(
        front,
        &request,
        &input.copy_source,
        &input.expected_source_bucket_owner,
    )
    .await?;
    let directive = input.metadata_directive.as_ref();
    let replaces_metadata = replaces(directive.map(MetadataDirective::as_str))?;
    let directive = input.tagging_directive.as_ref();
    let replaces_tags = replaces(directive.map(TaggingDirective::as_str))?;
    if from == to && !replaces_metadata && !replaces_tags {
        return Err(Fault::Invalid(
            "an object is copied onto itself, and nothing of it would change",
        ));
    }
    let algorithm = wanted_algorithm(input)?;
    let mut tries = 0;
    let copied = loop {
        let found = front.backend.head(&from).await?;
        source_conditions!(input).check_source(&found)?;
        let put = Put {
            name: to.clone(),
            attributes: if replaces_metadata {
                attributes_of!(input)?
            } else {
                found.attributes.clone()
            },
            tags: if replaces_tags {
                tags(input.tagging.as_deref())?
            } else {
                found.tags.clone()
            },
            when: target_precondition(&request)?,
            class: wanted_class(&request.headers)?,
        };
        let has_algorithm = |checksum: crate::checksum::ObjectChecksum| {
            Some(checksum.value.algorithm()) == algorithm
        };
        let result = if algorithm.is_none() || found.checksum.is_some_and(has_algorithm) {
            front.backend.copy(&from, &found.etag, put).await
        } else {
            rewrite(front, &from, &found, put, algorithm).await
        };
        tries += 1;
        match result {
            Err(Error::Changed) if tries < TRIES => {}
            other => break other?,
        }
    };
    Ok(S3Response::with_headers(
        rendered(&copied),
        super::read::class(&copied),
    ))
}

fn replaces(directive: Option<&str>) -> Result<bool, Fault> {
    match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(Fault::InvalidArgument("a directive is COPY or REPLACE")),
    }
}

/// Of the checksum that the copy is to have, if not that of the source.
fn wanted_algorithm(input: &CopyObjectInput) -> Result<Option<Algorithm>, Fault> {
    let name = input.checksum_algorithm.as_ref();
    match name.map(|name| Algorithm::from_name(name.as_str())) {
        Some(None) => Err(Fault::Invalid("the checksum algorithm is not understood")),
        other => Ok(other.flatten()),
    }
}

/// Conditions on what is overwritten are in the plain headers, which the library does not read from this request.
fn target_precondition(
    request: &S3Request<CopyObjectInput>,
) -> Result<crate::object::Precondition, Fault> {
    let condition = |name| {
        let text = crate::payload::text(&request.headers, name)?;
        let condition = text.map(|text| ETagCondition::parse_http_header(text.as_bytes()));
        let condition = condition.transpose();
        condition.map_err(|_| Fault::Invalid("a condition is not understood"))
    };
    precondition(
        condition("if-match")?.as_ref(),
        condition("if-none-match")?.as_ref(),
    )
}

/// Reads all of it, for a checksum that is not known.
async fn rewrite(
    front: &Front,
    from: &Name,
    found: &Object,
    put: Put,
    keep: Option<Algorithm>,
) -> Result<Object, Error> {
    let (object, content) = front.backend.open(from).await?;
    if object.etag != found.etag {
        return Err(Error::Changed);
    }
    let body = inside(content, 0..object.size, keep);
    front.backend.put(put, body).await
}

/// Content of the store as content that comes in.
fn inside(content: Box<dyn Content>, range: std::ops::Range<u64>, keep: Option<Algorithm>) -> Body {
    let length = range.end - range.start;
    Body::inside(content.read(range), length, keep)
}

fn rendered(copied: &Object) -> CopyObjectOutput {
    let mut result = CopyObjectResult {
        e_tag: Some(render::etag(&copied.etag)),
        last_modified: Some(render::time(copied.modified)),
        ..CopyObjectResult::default()
    };
    if let Some(checksum) = &copied.checksum {
        let text = render::checksum(checksum, copied.parts.len());
        set_checksum!(result, checksum.value.algorithm(), text);
        result.checksum_type = Some(render::coverage(checksum.coverage));
    }
    CopyObjectOutput {
        copy_object_result: Some(result),
        ..CopyObjectOutput::default()
    }
}

pub(super) async fn part(
    front: &Front,
    request: S3Request<UploadPartCopyInput>,
) -> Result<S3Response<UploadPartCopyOutput>, Fault> {
    let input = &request.input;
    let number = PartNumber::new(input.part_number);
    let number = number.ok_or(Fault::InvalidArgument("part numbers are 1 to 10000"))?;
    let name = name!(front, request);
    let upload = Upload {
        name,
        id: multipart::id(&input.upload_id)?,
    };
    let uploading = front.backend.upload(&upload).await?;
    let from = source(
        front,
        &request,
        &input.copy_source,
        &input.expected_source_bucket_owner,
    )
    .await?;
    let (object, content) = front.backend.open(&from).await?;
    source_conditions!(input).check_source(&object)?;
    let range = match &input.copy_source_range {
        None => 0..object.size,
        Some(range) => source_range(range, &object)?,
    };
    if range.end - range.start > front.config.limits.content_bytes {
        return Err(Fault::Body(crate::body::BodyError::TooLarge {
            size_max: front.config.limits.content_bytes,
        }));
    }
    let body = inside(content, range, Some(uploading.checksum.algorithm));
    let part = front.backend.put_part(&upload, number, body).await?;
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(part_result(&part, uploading.checksum.is_asked)),
        ..UploadPartCopyOutput::default()
    }))
}

/// Both ends must be there, and within the source.
fn source_range(text: &str, object: &Object) -> Result<std::ops::Range<u64>, Fault> {
    const WRONG: Fault = Fault::InvalidArgument("x-amz-copy-source-range is bytes=FIRST-LAST");
    let range = Range::parse(text).map_err(|_| WRONG)?;
    let Range::Int {
        last: Some(last), ..
    } = range
    else {
        return Err(WRONG);
    };
    if last >= object.size {
        return Err(Fault::InvalidRange { size: object.size });
    }
    Ok(Selection::new(object, Some(&range), None)?.range)
}

fn part_result(part: &Part, with_checksum: bool) -> CopyPartResult {
    let mut result = CopyPartResult {
        e_tag: Some(render::etag(&part.etag())),
        last_modified: Some(render::time(part.modified)),
        ..CopyPartResult::default()
    };
    if with_checksum {
        set_checksum!(result, part.checksum.algorithm(), part.checksum.to_text());
    }
    result
}
