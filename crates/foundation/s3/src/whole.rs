//! What the object of an upload is, given its parts.

use s3s::crypto::{Checksum as _, Md5};

use crate::backend::Complete;
use crate::checksum::{Coverage, Hasher, ObjectChecksum};
use crate::names::{Etag, Upload};
use crate::object::{Part, Precondition, UploadChecksum};
use crate::text::hex;

impl Complete {
    /// `None`: a part has a checksum of another algorithm than the upload.
    #[must_use]
    pub fn new(
        upload: Upload,
        checksum: &UploadChecksum,
        parts: Vec<Part>,
        when: Precondition,
    ) -> Option<Self> {
        let is_other = |part: &Part| part.checksum.algorithm() != checksum.algorithm;
        if parts.iter().any(is_other) {
            return None;
        }
        Some(Self {
            upload,
            size: parts.iter().map(|part| part.size).sum(),
            etag: etag(&parts),
            checksum: self::checksum(checksum, &parts),
            parts,
            when,
        })
    }
}

/// As S3 clients know it: the MD5 of the parts' MD5s, and how many there are.
fn etag(parts: &[Part]) -> Etag {
    let mut hasher = Md5::new();
    for part in parts {
        hasher.update(&part.md5);
    }
    let text = format!("{}-{}", hex(&hasher.finalize()), parts.len());
    Etag::new(&text).expect("digits are graphic")
}

fn checksum(upload: &UploadChecksum, parts: &[Part]) -> Option<ObjectChecksum> {
    let mut sums = parts.iter().map(|part| (part.checksum, part.size));
    let value = match upload.coverage {
        Coverage::Whole => {
            let (first, _) = sums.next()?;
            sums.try_fold(first, |all, (sum, size)| all.followed_by(&sum, size))?
        }
        Coverage::Composite => {
            let bytes: Vec<u8> = sums.flat_map(|(sum, _)| sum.bytes().to_vec()).collect();
            Hasher::of(upload.algorithm, &bytes)
        }
    };
    Some(ObjectChecksum {
        value,
        coverage: upload.coverage,
    })
}
