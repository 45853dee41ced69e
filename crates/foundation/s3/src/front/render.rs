//! From what the store says to what S3 says, and some of it back.

use std::time::SystemTime;

use s3s::dto::{ChecksumAlgorithm, ChecksumType, ETag, Owner, Timestamp};

use crate::checksum::{Algorithm, Coverage, ObjectChecksum};
use crate::fault::Fault;
use crate::names::{Etag, Tenant};
use crate::object::Object;

/// Fills in the one of five fields that is meant.
macro_rules! set_checksum {
    ($output:expr, $algorithm:expr, $text:expr) => {{
        let text = Some($text);
        match $algorithm {
            $crate::checksum::Algorithm::Crc32 => $output.checksum_crc32 = text,
            $crate::checksum::Algorithm::Crc32c => $output.checksum_crc32c = text,
            $crate::checksum::Algorithm::Crc64Nvme => $output.checksum_crc64nvme = text,
            $crate::checksum::Algorithm::Sha1 => $output.checksum_sha1 = text,
            $crate::checksum::Algorithm::Sha256 => $output.checksum_sha256 = text,
        }
    }};
}

/// Those of five fields that are there, as pairs.
macro_rules! checksums {
    ($input:expr) => {
        [
            (
                $crate::checksum::Algorithm::Crc32,
                $input.checksum_crc32.as_deref(),
            ),
            (
                $crate::checksum::Algorithm::Crc32c,
                $input.checksum_crc32c.as_deref(),
            ),
            (
                $crate::checksum::Algorithm::Crc64Nvme,
                $input.checksum_crc64nvme.as_deref(),
            ),
            (
                $crate::checksum::Algorithm::Sha1,
                $input.checksum_sha1.as_deref(),
            ),
            (
                $crate::checksum::Algorithm::Sha256,
                $input.checksum_sha256.as_deref(),
            ),
        ]
        .into_iter()
        .filter_map(|(algorithm, text)| Some((algorithm, text?)))
    };
}

pub(super) use {checksums, set_checksum};

pub(super) fn etag(etag: &Etag) -> ETag {
    ETag::Strong(etag.as_str().to_owned())
}

pub(super) fn time(time: SystemTime) -> Timestamp {
    time.into()
}

pub(super) fn owner(tenant: &Tenant) -> Owner {
    Owner {
        display_name: Some(tenant.to_string()),
        id: Some(tenant.to_string()),
    }
}

pub(super) fn number(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

pub(super) fn size(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// How many items a page may have at most.
pub(super) fn page(asked: Option<i32>) -> Result<usize, Fault> {
    let asked = asked.map_or(Ok(super::PAGE_ITEMS_MAX), usize::try_from);
    let asked =
        asked.map_err(|_| Fault::InvalidArgument("a page cannot have less than nothing"))?;
    Ok(asked.min(super::PAGE_ITEMS_MAX))
}

pub(super) fn algorithm(algorithm: Algorithm) -> ChecksumAlgorithm {
    ChecksumAlgorithm::from_static(algorithm.as_str())
}

pub(super) fn coverage(coverage: Coverage) -> ChecksumType {
    ChecksumType::from_static(match coverage {
        Coverage::Whole => ChecksumType::FULL_OBJECT,
        Coverage::Composite => ChecksumType::COMPOSITE,
    })
}

/// Composite checksums say of how many parts they are.
pub(super) fn checksum(checksum: &ObjectChecksum, n_parts: usize) -> String {
    let text = checksum.value.to_text();
    match checksum.coverage {
        Coverage::Whole => text,
        Coverage::Composite => format!("{text}-{n_parts}"),
    }
}

pub(super) fn content_type(object: &Object) -> String {
    let given = object.attributes.content_type.clone();
    given.unwrap_or_else(|| "binary/octet-stream".to_owned())
}
