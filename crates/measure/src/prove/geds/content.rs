//! Bytes that say who wrote them, and of which no part is like another: whatever is mixed up is seen.

use super::history::Version;

const MAGIC: [u8; 8] = *b"GEDS was";
/// Magic, seed, version and length.
pub(super) const HEAD_BYTES: usize = 32;

/// An object has at least its head, and something by which that is known to be whole.
const BYTES_MIN: usize = HEAD_BYTES + 8;

/// At least [`BYTES_MIN`], whatever is asked for.
pub(super) fn make(seed: u64, version: Version, len: usize) -> Vec<u8> {
    let len = len.max(BYTES_MIN);
    let mut bytes = MAGIC.to_vec();
    for number in [seed, version, len as u64] {
        bytes.extend(number.to_le_bytes());
    }
    let mut word = HEAD_BYTES as u64 / 8;
    while bytes.len() < len {
        bytes.extend(super::mix(super::mix(seed ^ version) ^ word).to_le_bytes());
        word += 1;
    }
    bytes.truncate(len);
    bytes
}

/// Who wrote this, all of which there is.
pub(super) fn read(seed: u64, bytes: &[u8]) -> Result<Version, String> {
    let (version, len) = read_head(seed, bytes)?;
    if len != bytes.len() || len < BYTES_MIN {
        return Err(format!(
            "{} bytes of {len} of version {version:x}",
            bytes.len()
        ));
    }
    same(&make(seed, version, len), bytes, version)?;
    Ok(version)
}

/// Version and length, from the first bytes.
pub(super) fn read_head(seed: u64, bytes: &[u8]) -> Result<(Version, usize), String> {
    let Some(head) = bytes.get(..HEAD_BYTES) else {
        return Err(format!(
            "{} bytes, of which nobody has written so few",
            bytes.len()
        ));
    };
    let number = |n: usize| {
        let bytes = head[8 * n..][..8].try_into();
        u64::from_le_bytes(bytes.expect("there are eight"))
    };
    if head[..8] != MAGIC || number(1) != seed {
        return Err(format!("a head that nobody has written: {head:02x?}"));
    }
    let len = usize::try_from(number(3)).map_err(|_| "a length that nobody has written")?;
    Ok((number(2), len))
}

/// Is this the part of a version that begins at `start`?
pub(super) fn check_part(
    seed: u64,
    (version, len): (Version, usize),
    start: usize,
    bytes: &[u8],
) -> Result<(), String> {
    let all = make(seed, version, len);
    let end = start + bytes.len();
    let part = all.get(start..end);
    same(part.unwrap_or_default(), bytes, version)
}

fn same(wanted: &[u8], found: &[u8], version: Version) -> Result<(), String> {
    if wanted == found {
        return Ok(());
    }
    let differs = wanted
        .iter()
        .zip(found)
        .position(|(one, other)| one != other);
    let at = differs.unwrap_or(wanted.len().min(found.len()));
    Err(format!("byte {at} of version {version:x} is another one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_known_and_whatever_is_altered_is_seen() {
        for len in [0, 100, 5_001] {
            let bytes = make(7, 0x1_0000_0002, len);
            assert_eq!(read(7, &bytes), Ok(0x1_0000_0002));
            read(8, &bytes).expect_err("of another seed");
            read(7, &bytes[..bytes.len() - 1]).expect_err("it is cut");
            for at in 0..bytes.len() {
                let mut altered = bytes.clone();
                altered[at] ^= 1;
                read(7, &altered).expect_err("it is altered");
            }
        }
        let bytes = make(7, 3, 5_000);
        check_part(7, (3, 5_000), 100, &bytes[100..200]).expect("it is that part");
        check_part(7, (3, 5_000), 101, &bytes[100..200]).expect_err("another part");
        check_part(7, (4, 5_000), 100, &bytes[100..200]).expect_err("another version");
    }
}
