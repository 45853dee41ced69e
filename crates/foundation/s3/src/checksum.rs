//! What content is compared by: MD5, and the five checksums of S3.

use crc_fast::CrcAlgorithm;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};

use crate::text::{base64, from_base64};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// As S3 calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name))
    }

    /// The header, or trailer, that carries it.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    pub(crate) fn from_header(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.header().eq_ignore_ascii_case(name))
    }

    /// What the checksums of parts can be put together to.
    pub(crate) fn is_crc(self) -> bool {
        matches!(self, Self::Crc32 | Self::Crc32c | Self::Crc64Nvme)
    }
}

/// A value, and how it was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checksum {
    Crc32([u8; 4]),
    Crc32c([u8; 4]),
    Crc64Nvme([u8; 8]),
    Sha1([u8; 20]),
    Sha256([u8; 32]),
}

impl Checksum {
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Crc32(_) => Algorithm::Crc32,
            Self::Crc32c(_) => Algorithm::Crc32c,
            Self::Crc64Nvme(_) => Algorithm::Crc64Nvme,
            Self::Sha1(_) => Algorithm::Sha1,
            Self::Sha256(_) => Algorithm::Sha256,
        }
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Crc32(bytes) | Self::Crc32c(bytes) => bytes,
            Self::Crc64Nvme(bytes) => bytes,
            Self::Sha1(bytes) => bytes,
            Self::Sha256(bytes) => bytes,
        }
    }

    /// `None` if it has not the length of the algorithm.
    #[must_use]
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        Some(match algorithm {
            Algorithm::Crc32 => Self::Crc32(bytes.try_into().ok()?),
            Algorithm::Crc32c => Self::Crc32c(bytes.try_into().ok()?),
            Algorithm::Crc64Nvme => Self::Crc64Nvme(bytes.try_into().ok()?),
            Algorithm::Sha1 => Self::Sha1(bytes.try_into().ok()?),
            Algorithm::Sha256 => Self::Sha256(bytes.try_into().ok()?),
        })
    }

    /// As headers and documents have it.
    pub(crate) fn parse(algorithm: Algorithm, text: &str) -> Option<Self> {
        Some(match algorithm {
            Algorithm::Crc32 => Self::Crc32(from_base64(text)?),
            Algorithm::Crc32c => Self::Crc32c(from_base64(text)?),
            Algorithm::Crc64Nvme => Self::Crc64Nvme(from_base64(text)?),
            Algorithm::Sha1 => Self::Sha1(from_base64(text)?),
            Algorithm::Sha256 => Self::Sha256(from_base64(text)?),
        })
    }

    pub(crate) fn to_text(self) -> String {
        base64(self.bytes())
    }

    /// The checksum of what `self` is of, followed by `second_bytes` bytes that `second` is of. `None` where that cannot be known.
    pub(crate) fn followed_by(&self, second: &Self, second_bytes: u64) -> Option<Self> {
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let combine = |algorithm| {
            let (a, b) = (number(self.bytes()), number(second.bytes()));
            crc_fast::checksum_combine(algorithm, a, b, second_bytes).to_be_bytes()
        };
        let lower = |[_, _, _, _, a, b, c, d]: [u8; 8]| [a, b, c, d];
        match (self, second) {
            (Self::Crc32(_), Self::Crc32(_)) => {
                Some(Self::Crc32(lower(combine(CrcAlgorithm::Crc32IsoHdlc))))
            }
            (Self::Crc32c(_), Self::Crc32c(_)) => {
                Some(Self::Crc32c(lower(combine(CrcAlgorithm::Crc32Iscsi))))
            }
            (Self::Crc64Nvme(_), Self::Crc64Nvme(_)) => {
                Some(Self::Crc64Nvme(combine(CrcAlgorithm::Crc64Nvme)))
            }
            _ => None,
        }
    }
}

/// What a checksum of an object is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coverage {
    /// Of its content.
    Whole,
    /// Of the checksums of its parts, one after the other.
    Composite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectChecksum {
    pub value: Checksum,
    pub coverage: Coverage,
}

/// Computes one checksum.
pub(crate) enum Hasher {
    Crc32(Crc32),
    Crc32c(Crc32c),
    Crc64Nvme(Crc64Nvme),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Crc32 => Self::Crc32(Crc32::new()),
            Algorithm::Crc32c => Self::Crc32c(Crc32c::new()),
            Algorithm::Crc64Nvme => Self::Crc64Nvme(Crc64Nvme::new()),
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
        }
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        match self {
            Self::Crc32(hasher) => hasher.update(data),
            Self::Crc32c(hasher) => hasher.update(data),
            Self::Crc64Nvme(hasher) => hasher.update(data),
            Self::Sha1(hasher) => hasher.update(data),
            Self::Sha256(hasher) => hasher.update(data),
        }
    }

    pub(crate) fn finish(self) -> Checksum {
        match self {
            Self::Crc32(hasher) => Checksum::Crc32(hasher.finalize()),
            Self::Crc32c(hasher) => Checksum::Crc32c(hasher.finalize()),
            Self::Crc64Nvme(hasher) => Checksum::Crc64Nvme(hasher.finalize()),
            Self::Sha1(hasher) => Checksum::Sha1(hasher.finalize()),
            Self::Sha256(hasher) => Checksum::Sha256(hasher.finalize()),
        }
    }

    pub(crate) fn of(algorithm: Algorithm, data: &[u8]) -> Checksum {
        let mut hasher = Self::new(algorithm);
        hasher.update(data);
        hasher.finish()
    }
}

pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::checksum(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_s3() {
        let cases = [
            (Algorithm::Crc32, "y/Q5Jg=="),
            (Algorithm::Crc32c, "4waSgw=="),
            (Algorithm::Crc64Nvme, "rosUhgp5mIg="),
            (Algorithm::Sha1, "98O8HYCOBHMq32eZZczDTKeuNEE="),
            (
                Algorithm::Sha256,
                "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
            ),
        ];
        for (algorithm, wanted) in cases {
            let checksum = Hasher::of(algorithm, b"123456789");
            assert_eq!(checksum.to_text(), wanted, "{algorithm:?}");
            assert_eq!(Checksum::parse(algorithm, wanted), Some(checksum));
            assert_eq!(
                Checksum::from_bytes(algorithm, checksum.bytes()),
                Some(checksum)
            );
            assert_eq!(Checksum::parse(algorithm, &wanted[1..]), None);
            assert_eq!(checksum.algorithm(), algorithm);
        }
    }

    #[test]
    fn checksums_of_parts_are_put_together() {
        let text = b"The quick brown fox jumps over the lazy dog";
        for at in [0, 1, 20, text.len()] {
            let (first, second) = text.split_at(at);
            for algorithm in Algorithm::ALL {
                let of = |data| Hasher::of(algorithm, data);
                let together = of(first).followed_by(&of(second), second.len() as u64);
                let whole = algorithm.is_crc().then(|| of(text));
                assert_eq!(together, whole, "{algorithm:?} at {at}");
            }
        }
    }
}
