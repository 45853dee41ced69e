//! Reading objects, and what is known of them.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::*;
use s3s::{S3Request, S3Response};

use super::conditions::{Conditions, Selection};
use super::render::{self, set_checksum};
use super::{Front, check_version, name, reply};
use crate::checksum::ObjectChecksum;
use crate::chunks::Download;
use crate::fault::Fault;
use crate::object::{Class, Object};

/// Says that an object is not durable. There is none on those that are.
pub(super) const CLASS: HeaderName = HeaderName::from_static("x-cloudskin-acknowledgement");

/// The fields that the answers to GET and HEAD share.
macro_rules! describe {
    ($output:ident, $object:expr, $selection:expr, $with_checksum:expr) => {{
        let (object, selection) = ($object, $selection);
        let attributes = object.attributes.clone();
        let mut output = $output {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: attributes.cache_control,
            content_disposition: attributes.content_disposition,
            content_encoding: attributes.content_encoding,
            content_language: attributes.content_language,
            content_length: Some(render::size(selection.length())),
            content_range: selection.header(object),
            content_type: Some(render::content_type(object)),
            e_tag: Some(render::etag(&object.etag)),
            expires: attributes.expires.map(render::time),
            last_modified: Some(render::time(object.modified)),
            metadata: Some(attributes.user.into_iter().collect()),
            ..$output::default()
        };
        if $with_checksum
            && let Some(checksum) = &object.checksum
            && let Some(text) = selected_checksum(object, checksum, selection)
        {
            set_checksum!(output, checksum.value.algorithm(), text);
            output.checksum_type = Some(render::coverage(checksum.coverage));
        }
        output
    }};
}

pub(super) async fn get(
    front: &Front,
    request: S3Request<GetObjectInput>,
) -> Result<S3Response<GetObjectOutput>, Fault> {
    let input = &request.input;
    check_version(input.version_id.as_deref())?;
    let name = name!(front, request);
    let (object, content) = front.backend.open(&name).await?;
    let conditions = Conditions {
        if_match: input.if_match.as_ref(),
        if_none_match: input.if_none_match.as_ref(),
        if_modified_since: input.if_modified_since.as_ref(),
        if_unmodified_since: input.if_unmodified_since.as_ref(),
    };
    conditions.check(&object)?;
    let selection = Selection::new(&object, input.range.as_ref(), input.part_number)?;
    let with_checksum = is_enabled(input.checksum_mode.as_ref());
    let mut output = describe!(GetObjectOutput, &object, &selection, with_checksum);
    output.parts_count = parts_count(&object, input.part_number);
    let n_tags = object.tags.as_slice().len();
    output.tag_count = (n_tags > 0).then(|| render::number(n_tags));
    let length = selection.length();
    let download = Download::new(content.read(selection.range), length);
    let body = s3s::Body::http_body_unsync(download);
    output.body = Some(StreamingBlob::from(body));
    Ok(S3Response::with_headers(output, class(&object)))
}

pub(super) async fn head(
    front: &Front,
    request: S3Request<HeadObjectInput>,
) -> Result<S3Response<HeadObjectOutput>, Fault> {
    let input = &request.input;
    check_version(input.version_id.as_deref())?;
    let name = name!(front, request);
    let object = front.backend.head(&name).await?;
    let conditions = Conditions {
        if_match: input.if_match.as_ref(),
        if_none_match: input.if_none_match.as_ref(),
        if_modified_since: input.if_modified_since.as_ref(),
        if_unmodified_since: input.if_unmodified_since.as_ref(),
    };
    conditions.check(&object)?;
    let selection = Selection::new(&object, input.range.as_ref(), input.part_number)?;
    let with_checksum = is_enabled(input.checksum_mode.as_ref());
    let mut output = describe!(HeadObjectOutput, &object, &selection, with_checksum);
    output.parts_count = parts_count(&object, input.part_number);
    let mut response = S3Response::with_headers(output, class(&object));
    let n_tags = object.tags.as_slice().len();
    if n_tags > 0 {
        let count = HeaderValue::from(n_tags);
        response
            .headers
            .insert(HeaderName::from_static("x-amz-tagging-count"), count);
    }
    if response.output.content_range.is_some() {
        response.status = Some(hyper::StatusCode::PARTIAL_CONTENT);
    }
    Ok(response)
}

pub(super) fn class(object: &Object) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if object.class == Class::Ephemeral {
        headers.insert(CLASS, HeaderValue::from_static("ephemeral"));
    }
    headers
}

/// The checksum of what is read, if that is known: clients compare them.
fn selected_checksum(
    object: &Object,
    checksum: &ObjectChecksum,
    selection: &Selection,
) -> Option<String> {
    if let Some(number) = selection.part {
        let part = object.parts.iter().find(|part| part.number == number)?;
        return Some(part.checksum.to_text());
    }
    (!selection.is_partial).then(|| render::checksum(checksum, object.parts.len()))
}

fn is_enabled(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

fn parts_count(object: &Object, part: Option<i32>) -> Option<i32> {
    let is_told = part.is_some() && !object.parts.is_empty();
    is_told.then(|| render::number(object.parts.len()))
}

pub(super) async fn attributes(
    front: &Front,
    request: S3Request<GetObjectAttributesInput>,
) -> Result<S3Response<GetObjectAttributesOutput>, Fault> {
    let input = &request.input;
    check_version(input.version_id.as_deref())?;
    let name = name!(front, request);
    let object = front.backend.head(&name).await?;
    let is_asked = |attribute: &str| {
        // The library leaves a header with several of them as it is.
        let mut asked = input
            .object_attributes
            .iter()
            .flat_map(|asked| asked.as_str().split(','));
        asked.any(|asked| asked.trim() == attribute)
    };
    let mut output = GetObjectAttributesOutput {
        last_modified: Some(render::time(object.modified)),
        ..GetObjectAttributesOutput::default()
    };
    if is_asked(ObjectAttributes::ETAG) {
        output.e_tag = Some(render::etag(&object.etag));
    }
    if is_asked(ObjectAttributes::OBJECT_SIZE) {
        output.object_size = Some(render::size(object.size));
    }
    if is_asked(ObjectAttributes::STORAGE_CLASS) {
        output.storage_class = Some(StorageClass::from_static(StorageClass::STANDARD));
    }
    if is_asked(ObjectAttributes::CHECKSUM)
        && let Some(checksum) = &object.checksum
    {
        let mut answer = Checksum::default();
        let text = render::checksum(checksum, object.parts.len());
        set_checksum!(answer, checksum.value.algorithm(), text);
        answer.checksum_type = Some(render::coverage(checksum.coverage));
        output.checksum = Some(answer);
    }
    if is_asked(ObjectAttributes::OBJECT_PARTS) && !object.parts.is_empty() {
        output.object_parts = Some(parts(&object, input)?);
    }
    reply(output)
}

fn parts(
    object: &Object,
    input: &GetObjectAttributesInput,
) -> Result<GetObjectAttributesParts, Fault> {
    let after = input.part_number_marker.unwrap_or(0);
    let parts_max = render::page(input.max_parts)?;
    let rest = object
        .parts
        .iter()
        .filter(|part| i32::from(part.number.get()) > after);
    let rest: Vec<_> = rest.collect();
    let page = &rest[..parts_max.min(rest.len())];
    let shown = page.iter().map(|part| {
        let mut shown = ObjectPart {
            part_number: Some(part.number.get().into()),
            size: Some(render::size(part.size)),
            ..ObjectPart::default()
        };
        set_checksum!(shown, part.checksum.algorithm(), part.checksum.to_text());
        shown
    });
    let last = page.last().map(|part| i32::from(part.number.get()));
    Ok(GetObjectAttributesParts {
        is_truncated: Some(page.len() < rest.len()),
        max_parts: Some(render::number(parts_max)),
        next_part_number_marker: last,
        part_number_marker: Some(after),
        parts: Some(shown.collect()),
        total_parts_count: Some(render::number(object.parts.len())),
    })
}
