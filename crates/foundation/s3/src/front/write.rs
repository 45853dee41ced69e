//! Writing objects at once, and deleting them.

use std::collections::BTreeMap;

use hyper::HeaderMap;
use hyper::header::HeaderValue;
use s3s::dto::*;
use s3s::{S3Request, S3Response};

use super::conditions::precondition;
use super::render::{self, set_checksum};
use super::{Front, at, check_version, content, name, read, reply};
use crate::backend::{Deletion, Put};
use crate::fault::Fault;
use crate::names::Key;
use crate::object::{Attributes, Class, Precondition, Tags, USER_METADATA_BYTES_MAX};

/// More are not deleted by one request.
const DELETIONS_MAX: usize = 1000;

/// What requests that write say of the object.
macro_rules! attributes {
    ($input:expr) => {
        $crate::front::write::attributes($crate::object::Attributes {
            content_type: $input.content_type.clone(),
            content_encoding: $input.content_encoding.clone(),
            content_language: $input.content_language.clone(),
            content_disposition: $input.content_disposition.clone(),
            cache_control: $input.cache_control.clone(),
            expires: $input
                .expires
                .clone()
                .map(|time| $crate::front::write::system_time(&time)),
            user: $input
                .metadata
                .iter()
                .flatten()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        })
    };
}

pub(super) use attributes as attributes_of;

pub(super) fn attributes(mut attributes: Attributes) -> Result<Attributes, Fault> {
    let is_of_transfer = |coding: &str| coding.eq_ignore_ascii_case("aws-chunked");
    attributes.content_encoding = attributes.content_encoding.and_then(|codings| {
        let codings = codings.split(',').map(str::trim);
        let codings: Vec<_> = codings
            .filter(|coding| !coding.is_empty() && !is_of_transfer(coding))
            .collect();
        (!codings.is_empty()).then(|| codings.join(", "))
    });
    let bytes = |user: &BTreeMap<String, String>| {
        user.iter()
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
    };
    if bytes(&attributes.user) > USER_METADATA_BYTES_MAX {
        return Err(Fault::MetadataTooLarge);
    }
    Ok(attributes)
}

/// To the second, as headers have it.
pub(super) fn system_time(time: &Timestamp) -> std::time::SystemTime {
    let mut text = Vec::new();
    let is_written = time.format(TimestampFormat::EpochSeconds, &mut text);
    let text = String::from_utf8(text).unwrap_or_default();
    let seconds = text
        .split('.')
        .next()
        .and_then(|seconds| seconds.parse().ok());
    let since = std::time::Duration::from_secs(seconds.filter(|_| is_written.is_ok()).unwrap_or(0));
    std::time::UNIX_EPOCH + since
}

pub(super) fn tags(header: Option<&str>) -> Result<Tags, Fault> {
    let tags = header.map_or(Some(Tags::default()), Tags::from_header);
    tags.ok_or(Fault::InvalidTag)
}

/// What the client wants to be told with the answer. Other stores do not read it, and do what is asked if nothing is.
pub(super) fn wanted_class(headers: &HeaderMap) -> Result<Class, Fault> {
    match headers.get(read::CLASS).map(HeaderValue::as_bytes) {
        None | Some(b"durable") => Ok(Class::Durable),
        Some(b"ephemeral") => Ok(Class::Ephemeral),
        Some(_) => Err(Fault::InvalidArgument(
            "an acknowledgement is durable or ephemeral",
        )),
    }
}

pub(super) async fn put(
    front: &Front,
    request: S3Request<PutObjectInput>,
) -> Result<S3Response<PutObjectOutput>, Fault> {
    let input = &request.input;
    let put = Put {
        name: name!(front, request),
        attributes: attributes_of!(input)?,
        tags: tags(input.tagging.as_deref())?,
        when: precondition(input.if_match.as_ref(), input.if_none_match.as_ref())?,
        class: wanted_class(&request.headers)?,
    };
    let body = content(&request, None)?;
    let object = front.backend.put(put, body).await?;
    let mut output = PutObjectOutput {
        e_tag: Some(render::etag(&object.etag)),
        ..PutObjectOutput::default()
    };
    if let Some(checksum) = &object.checksum {
        let text = render::checksum(checksum, object.parts.len());
        set_checksum!(output, checksum.value.algorithm(), text);
        output.checksum_type = Some(render::coverage(checksum.coverage));
    }
    Ok(S3Response::with_headers(output, read::class(&object)))
}

pub(super) async fn delete(
    front: &Front,
    request: S3Request<DeleteObjectInput>,
) -> Result<S3Response<DeleteObjectOutput>, Fault> {
    let input = &request.input;
    check_version(input.version_id.as_deref())?;
    let name = name!(front, request);
    let deletion = Deletion {
        key: name.key,
        when: precondition(input.if_match.as_ref(), None)?,
    };
    for result in front.backend.delete(&name.bucket, vec![deletion]).await {
        result?;
    }
    reply(DeleteObjectOutput::default())
}

pub(super) async fn delete_many(
    front: &Front,
    request: S3Request<DeleteObjectsInput>,
) -> Result<S3Response<DeleteObjectsOutput>, Fault> {
    let input = &request.input;
    let bucket = front
        .bucket(&request, at(&input.bucket, &input.expected_bucket_owner))
        .await?
        .name;
    let objects = &input.delete.objects;
    if objects.is_empty() || objects.len() > DELETIONS_MAX {
        return Err(Fault::MalformedXml);
    }
    let mut answer = DeleteObjectsOutput::default();
    let mut errors = Vec::new();
    let mut asked = Vec::new();
    let mut deletions = Vec::new();
    for object in objects {
        match deletion(object) {
            Ok(deletion) => {
                asked.push(object);
                deletions.push(deletion);
            }
            Err(fault) => errors.push(error(object, fault)),
        }
    }
    let results = front.backend.delete(&bucket, deletions).await;
    let mut deleted = Vec::new();
    for (object, result) in asked.into_iter().zip(results) {
        match result {
            Ok(()) => deleted.push(DeletedObject {
                key: Some(object.key.clone()),
                version_id: object.version_id.clone(),
                ..DeletedObject::default()
            }),
            Err(why) => errors.push(error(object, why.into())),
        }
    }
    if input.delete.quiet != Some(true) {
        answer.deleted = Some(deleted);
    }
    answer.errors = (!errors.is_empty()).then_some(errors);
    reply(answer)
}

fn deletion(object: &ObjectIdentifier) -> Result<Deletion, Fault> {
    check_version(object.version_id.as_deref())?;
    if object.size.is_some() || object.last_modified_time.is_some() {
        return Err(Fault::NotImplemented("conditions on size or time"));
    }
    let condition = object.e_tag.clone().map(ETagCondition::ETag);
    Ok(Deletion {
        key: Key::new(&object.key).ok_or(Fault::KeyTooLong)?,
        when: match &condition {
            None => Precondition::None,
            some => precondition(some.as_ref(), None)?,
        },
    })
}

fn error(object: &ObjectIdentifier, fault: Fault) -> Error {
    let fault = s3s::S3Error::from(fault);
    Error {
        code: Some(fault.code().as_str().to_owned()),
        key: Some(object.key.clone()),
        message: fault.message().map(str::to_owned),
        version_id: object.version_id.clone(),
    }
}
