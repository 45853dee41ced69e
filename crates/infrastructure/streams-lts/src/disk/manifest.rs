//! A manifest: who owns a container.

use ids::Epoch;
use serde::{Deserialize, Serialize};

use super::{decode as decode_version, encode as encode_version, seal, unseal};
use crate::fence::Owner;

/// Version, three numbers of at most 10 bytes, checksum.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 64;

#[derive(Serialize, Deserialize)]
struct ManifestV1 {
    epoch: u64,
    id: u64,
    /// Since 1970, for people.
    at_ms: u64,
}

pub(crate) fn encode(owner: Owner, at_ms: u64) -> Vec<u8> {
    seal(encode_version(&ManifestV1 {
        epoch: owner.epoch.0,
        id: owner.id,
        at_ms,
    }))
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Owner, &'static str> {
    let manifest: ManifestV1 = decode_version(unseal(bytes)?)?;
    Ok(Owner {
        epoch: Epoch(manifest.epoch),
        id: manifest.id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::hex;

    #[test]
    fn a_manifest_is_what_it_was_in_version_1() {
        let owner = Owner {
            epoch: Epoch(3),
            id: 0xAB,
        };
        let mut bytes = encode(owner, 1 << 40);
        assert_eq!(hex(&bytes), "0103ab01808080808020890a73b0");
        assert_eq!(decode(&bytes), Ok(owner));
        for end in 0..bytes.len() {
            decode(&bytes[..end]).expect_err("a part");
        }
        for at in 0..bytes.len() {
            bytes[at] ^= 0x10;
            decode(&bytes).expect_err("a changed one");
            bytes[at] ^= 0x10;
        }
    }

    #[test]
    fn a_manifest_fits_what_is_read_of_one() {
        let owner = Owner {
            epoch: Epoch(u64::MAX),
            id: u64::MAX,
        };
        let bytes = encode(owner, u64::MAX);
        assert!(bytes.len() as u64 <= MANIFEST_BYTES_MAX);
    }
}
