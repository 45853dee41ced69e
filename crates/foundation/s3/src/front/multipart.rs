//! Objects that are sent in parts.

use std::collections::BTreeMap;

use s3s::dto::*;
use s3s::{S3Request, S3Response};

use super::conditions::precondition;
use super::render::{self, checksums, set_checksum};
use super::write::{attributes_of, tags};
use super::{Front, PAGE_ITEMS_MAX, PART_BYTES_MIN, at, content, name, read, reply};
use crate::backend::{Complete, Error, NewUpload};
use crate::checksum::{Algorithm, Coverage, ObjectChecksum};
use crate::fault::Fault;
use crate::names::{Name, PART_NUMBER_MAX, PartNumber, Upload, UploadId};
use crate::object::{self, Object, UploadChecksum, Uploading};

pub(super) fn id(text: &str) -> Result<UploadId, Fault> {
    UploadId::new(text).ok_or(Fault::Backend(Error::NoSuchUpload))
}

pub(super) async fn create(
    front: &Front,
    request: S3Request<CreateMultipartUploadInput>,
) -> Result<S3Response<CreateMultipartUploadOutput>, Fault> {
    let input = &request.input;
    let checksum = upload_checksum(input)?;
    let new = NewUpload {
        name: name!(front, request),
        attributes: attributes_of!(input)?,
        tags: tags(input.tagging.as_deref())?,
        checksum,
    };
    let upload = front.backend.create_upload(new).await?;
    reply(CreateMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        checksum_algorithm: checksum
            .is_asked
            .then(|| render::algorithm(checksum.algorithm)),
        checksum_type: checksum
            .is_asked
            .then(|| render::coverage(checksum.coverage)),
        key: Some(input.key.clone()),
        upload_id: Some(upload.id.to_string()),
        ..CreateMultipartUploadOutput::default()
    })
}

fn upload_checksum(input: &CreateMultipartUploadInput) -> Result<UploadChecksum, Fault> {
    let Some(name) = &input.checksum_algorithm else {
        if input.checksum_type.is_some() {
            return Err(Fault::Invalid(
                "there is a checksum type without an algorithm",
            ));
        }
        return Ok(UploadChecksum::default());
    };
    let algorithm = Algorithm::from_name(name.as_str());
    let algorithm = algorithm.ok_or(Fault::Invalid("the checksum algorithm is not understood"))?;
    let coverage = match input.checksum_type.as_ref().map(ChecksumType::as_str) {
        None if algorithm == Algorithm::Crc64Nvme => Coverage::Whole,
        None | Some(ChecksumType::COMPOSITE) => Coverage::Composite,
        Some(ChecksumType::FULL_OBJECT) => Coverage::Whole,
        Some(_) => return Err(Fault::Invalid("the checksum type is not understood")),
    };
    let is_possible = match coverage {
        Coverage::Whole => algorithm.is_crc(),
        Coverage::Composite => algorithm != Algorithm::Crc64Nvme,
    };
    if !is_possible {
        return Err(Fault::Invalid("this checksum algorithm has no such type"));
    }
    Ok(UploadChecksum {
        algorithm,
        coverage,
        is_asked: true,
    })
}

pub(super) async fn put_part(
    front: &Front,
    request: S3Request<UploadPartInput>,
) -> Result<S3Response<UploadPartOutput>, Fault> {
    let input = &request.input;
    let number = PartNumber::new(input.part_number);
    let number = number.ok_or(Fault::InvalidArgument("part numbers are 1 to 10000"))?;
    let name = name!(front, request);
    let upload = Upload {
        name,
        id: id(&input.upload_id)?,
    };
    let uploading = front.backend.upload(&upload).await?;
    let kept = uploading.checksum.algorithm;
    let body = content(&request, Some(kept))?;
    if uploading.checksum.is_asked && body.algorithm().is_some_and(|sent| sent != kept) {
        return Err(Fault::Invalid("the upload has another checksum algorithm"));
    }
    let sent = body.checksum();
    let part = front.backend.put_part(&upload, number, body).await?;
    let mut output = UploadPartOutput {
        e_tag: Some(render::etag(&part.etag())),
        ..UploadPartOutput::default()
    };
    // What the client has sent is what it is told; of its own choice of an algorithm nothing is kept if the upload has none.
    let told = sent.or(uploading.checksum.is_asked.then_some(part.checksum));
    if let Some(told) = told {
        set_checksum!(output, told.algorithm(), told.to_text());
    }
    reply(output)
}

pub(super) async fn complete(
    front: &Front,
    request: S3Request<CompleteMultipartUploadInput>,
) -> Result<S3Response<CompleteMultipartUploadOutput>, Fault> {
    let input = &request.input;
    let name = name!(front, request);
    let upload = Upload {
        name,
        id: id(&input.upload_id)?,
    };
    let object = match complete_now(front, input, &upload).await {
        Err(Fault::Backend(Error::NoSuchUpload)) => completed_before(front, &upload).await?,
        other => other?,
    };
    let mut output = CompleteMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        e_tag: Some(render::etag(&object.etag)),
        key: Some(input.key.clone()),
        location: Some(format!(
            "/{}/{}",
            input.bucket,
            crate::text::percent(&input.key)
        )),
        ..CompleteMultipartUploadOutput::default()
    };
    if let Some(checksum) = &object.checksum {
        let text = render::checksum(checksum, object.parts.len());
        set_checksum!(output, checksum.value.algorithm(), text);
        output.checksum_type = Some(render::coverage(checksum.coverage));
    }
    Ok(S3Response::with_headers(output, read::class(&object)))
}

/// A client that has not heard the first answer asks again.
async fn completed_before(front: &Front, upload: &Upload) -> Result<Object, Fault> {
    match front.backend.head(&upload.name).await {
        Ok(object) if object.upload.as_ref() == Some(&upload.id) => Ok(object),
        Ok(_) | Err(Error::NoSuchKey) => Err(Fault::Backend(Error::NoSuchUpload)),
        Err(error) => Err(error.into()),
    }
}

async fn complete_now(
    front: &Front,
    input: &CompleteMultipartUploadInput,
    upload: &Upload,
) -> Result<Object, Fault> {
    let uploading = front.backend.upload(upload).await?;
    let there = front
        .backend
        .parts(upload, 0, PART_NUMBER_MAX.into())
        .await?;
    let there: BTreeMap<_, _> = there.into_iter().map(|part| (part.number, part)).collect();
    let asked = input.multipart_upload.as_ref();
    let asked = asked
        .and_then(|asked| asked.parts.as_deref())
        .unwrap_or(&[]);
    let parts = choose(asked, &there)?;
    let when = precondition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let complete = Complete::new(upload.clone(), &uploading.checksum, parts, when);
    let complete = complete.ok_or(Fault::InvalidPart)?;
    check_whole(input, complete.checksum.as_ref(), complete.parts.len())?;
    if input
        .mpu_object_size
        .is_some_and(|wanted| u64::try_from(wanted) != Ok(complete.size))
    {
        return Err(Fault::Invalid("the object has another size"));
    }
    match front.backend.complete(complete).await {
        // A part that was sent again is another part than the one that was meant.
        Err(Error::Changed) => Err(Fault::InvalidPart),
        other => Ok(other?),
    }
}

fn choose(
    asked: &[CompletedPart],
    there: &BTreeMap<PartNumber, object::Part>,
) -> Result<Vec<object::Part>, Fault> {
    if asked.is_empty() {
        return Err(Fault::MalformedXml);
    }
    let mut parts: Vec<object::Part> = Vec::with_capacity(asked.len());
    let is_same = |a: &CompletedPart, b: &CompletedPart| a.part_number == b.part_number;
    // A part that was sent twice may be told twice: the last one counts.
    for asked in asked.chunk_by(is_same).filter_map(<[_]>::last) {
        let number = asked
            .part_number
            .and_then(PartNumber::new)
            .ok_or(Fault::InvalidPart)?;
        if parts.last().is_some_and(|last| last.number > number) {
            return Err(Fault::InvalidPartOrder);
        }
        let part = there.get(&number).ok_or(Fault::InvalidPart)?;
        let is_meant = asked
            .e_tag
            .as_ref()
            .is_some_and(|tag| tag.value() == part.etag().as_str());
        let mut sums = checksums!(asked);
        let differs = |(algorithm, text): (Algorithm, &str)| {
            algorithm == part.checksum.algorithm() && text != part.checksum.to_text()
        };
        if !is_meant || sums.any(differs) {
            return Err(Fault::InvalidPart);
        }
        parts.push(part.clone());
    }
    let (_, others) = parts.split_last().expect("at least one was asked for");
    if others.iter().any(|part| part.size < PART_BYTES_MIN) {
        return Err(Fault::PartTooSmall);
    }
    Ok(parts)
}

/// What the client says of the whole.
fn check_whole(
    input: &CompleteMultipartUploadInput,
    found: Option<&ObjectChecksum>,
    n_parts: usize,
) -> Result<(), Fault> {
    let kind = input.checksum_type.as_ref().map(ChecksumType::as_str);
    if let (Some(kind), Some(found)) = (kind, found)
        && kind != render::coverage(found.coverage).as_str()
    {
        return Err(Fault::Invalid("the upload has another checksum type"));
    }
    for (algorithm, text) in checksums!(input) {
        let Some(found) = found.filter(|found| found.value.algorithm() == algorithm) else {
            return Err(Fault::Invalid("the upload has another checksum algorithm"));
        };
        if text != found.value.to_text() && text != render::checksum(found, n_parts) {
            return Err(Fault::WholeChecksum);
        }
    }
    Ok(())
}

pub(super) async fn abort(
    front: &Front,
    request: S3Request<AbortMultipartUploadInput>,
) -> Result<S3Response<AbortMultipartUploadOutput>, Fault> {
    let input = &request.input;
    let name = name!(front, request);
    let id = id(&input.upload_id)?;
    front.backend.abort(&Upload { name, id }).await?;
    reply(AbortMultipartUploadOutput::default())
}

pub(super) async fn list_parts(
    front: &Front,
    request: S3Request<ListPartsInput>,
) -> Result<S3Response<ListPartsOutput>, Fault> {
    let input = &request.input;
    let bucket = front
        .bucket(&request, at(&input.bucket, &input.expected_bucket_owner))
        .await?;
    let key = crate::names::Key::new(&input.key).ok_or(Fault::KeyTooLong)?;
    let upload = Upload {
        name: Name {
            bucket: bucket.name,
            key,
        },
        id: id(&input.upload_id)?,
    };
    let uploading = front.backend.upload(&upload).await?;
    let after = u16::try_from(input.part_number_marker.unwrap_or(0));
    let after = after.map_err(|_| Fault::InvalidArgument("part numbers are 1 to 10000"))?;
    let parts_max = render::page(input.max_parts)?;
    let mut parts = front.backend.parts(&upload, after, parts_max + 1).await?;
    let is_truncated = parts.len() > parts_max;
    parts.truncate(parts_max);
    let last = parts.last().map(|part| i32::from(part.number.get()));
    let is_asked = uploading.checksum.is_asked;
    let shown = parts.into_iter().map(|part| {
        let mut shown = Part {
            e_tag: Some(render::etag(&part.etag())),
            last_modified: Some(render::time(part.modified)),
            part_number: Some(part.number.get().into()),
            size: Some(render::size(part.size)),
            ..Part::default()
        };
        if is_asked {
            set_checksum!(shown, part.checksum.algorithm(), part.checksum.to_text());
        }
        shown
    });
    let owner = render::owner(&bucket.owner);
    reply(ListPartsOutput {
        bucket: Some(input.bucket.clone()),
        checksum_algorithm: is_asked.then(|| render::algorithm(uploading.checksum.algorithm)),
        checksum_type: is_asked.then(|| render::coverage(uploading.checksum.coverage)),
        initiator: Some(initiator(&owner)),
        is_truncated: Some(is_truncated),
        key: Some(input.key.clone()),
        max_parts: Some(render::number(parts_max)),
        next_part_number_marker: last,
        owner: Some(owner),
        part_number_marker: Some(after.into()),
        parts: Some(shown.collect()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        upload_id: Some(input.upload_id.clone()),
        ..ListPartsOutput::default()
    })
}

fn initiator(owner: &Owner) -> Initiator {
    Initiator {
        display_name: owner.display_name.clone(),
        id: owner.id.clone(),
    }
}

pub(super) async fn list(
    front: &Front,
    request: S3Request<ListMultipartUploadsInput>,
) -> Result<S3Response<ListMultipartUploadsOutput>, Fault> {
    let input = &request.input;
    let bucket = front
        .bucket(&request, at(&input.bucket, &input.expected_bucket_owner))
        .await?;
    let page = uploads(front, &bucket.name, input).await?;
    let owner = render::owner(&bucket.owner);
    let encode = super::list::encoder(input.encoding_type.as_ref())?;
    let shown = page.uploads.iter().map(|uploading| {
        let checksum = uploading.checksum;
        MultipartUpload {
            checksum_algorithm: checksum
                .is_asked
                .then(|| render::algorithm(checksum.algorithm)),
            checksum_type: checksum
                .is_asked
                .then(|| render::coverage(checksum.coverage)),
            initiated: Some(render::time(uploading.initiated)),
            initiator: Some(initiator(&owner)),
            key: Some(encode(uploading.upload.name.key.as_str())),
            owner: Some(owner.clone()),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            upload_id: Some(uploading.upload.id.to_string()),
        }
    });
    let prefixes = page.prefixes.iter().map(|prefix| CommonPrefix {
        prefix: Some(encode(prefix)),
    });
    let (next_key, next_id) = page.next.unzip();
    reply(ListMultipartUploadsOutput {
        bucket: Some(input.bucket.clone()),
        common_prefixes: Some(prefixes.collect()),
        delimiter: input.delimiter.as_deref().map(&encode),
        encoding_type: input.encoding_type.clone(),
        is_truncated: Some(next_key.is_some()),
        key_marker: Some(encode(input.key_marker.as_deref().unwrap_or(""))),
        max_uploads: Some(render::number(render::page(input.max_uploads)?)),
        next_key_marker: next_key.as_deref().map(&encode),
        next_upload_id_marker: next_id.flatten(),
        prefix: Some(encode(input.prefix.as_deref().unwrap_or(""))),
        upload_id_marker: input.upload_id_marker.clone(),
        uploads: Some(shown.collect()),
        ..ListMultipartUploadsOutput::default()
    })
}

#[derive(Default)]
struct Uploads {
    uploads: Vec<Uploading>,
    prefixes: Vec<String>,
    next: Option<(String, Option<String>)>,
}

async fn uploads(
    front: &Front,
    bucket: &crate::names::BucketName,
    input: &ListMultipartUploadsInput,
) -> Result<Uploads, Fault> {
    let prefix = input.prefix.as_deref().unwrap_or("");
    let delimiter = input.delimiter.as_deref().unwrap_or("");
    let uploads_max = render::page(input.max_uploads)?;
    let mut page = Uploads::default();
    let key = input.key_marker.clone().unwrap_or_default();
    let id = input.upload_id_marker.clone().filter(|id| !id.is_empty());
    let mut after = (key, id);
    if uploads_max == 0 {
        return Ok(page);
    }
    loop {
        let marker = (after.0.as_str(), after.1.as_deref());
        let found = front
            .backend
            .uploads(bucket, prefix, marker, PAGE_ITEMS_MAX)
            .await?;
        let is_last = found.len() < PAGE_ITEMS_MAX;
        for uploading in found {
            let key = uploading.upload.name.key.as_str().to_owned();
            let common = super::list::common_prefix(&key, prefix, delimiter).map(str::to_owned);
            let is_told = common.is_some() && common.as_ref() == page.prefixes.last();
            let is_before = common.as_ref().is_some_and(|common| {
                after.0.starts_with(common.as_str()) && page.prefixes.is_empty()
            });
            if !is_told && !is_before && page.uploads.len() + page.prefixes.len() == uploads_max {
                page.next = Some(after);
                return Ok(page);
            }
            after = (key, Some(uploading.upload.id.to_string()));
            match common {
                Some(common) if !is_told && !is_before => page.prefixes.push(common),
                Some(_) => {}
                None => page.uploads.push(uploading),
            }
        }
        if is_last {
            return Ok(page);
        }
    }
}
