//! What is written and read: random bytes, more of them than the processor keeps.

use std::fs;
use std::hint::black_box;

use super::Setting;

pub(super) const KIB: usize = 1 << 10;
pub(super) const MIB: usize = 1 << 20;

/// More than four times the last cache, in whole pieces of `piece` bytes; four of them if it is to be quick.
pub(super) fn working_set(setting: &Setting<'_>, piece: usize) -> usize {
    if setting.is_quick {
        return 4 * piece;
    }
    // At least twice, so that pieces take turns.
    (4 * cache_bytes() + 1)
        .next_multiple_of(piece)
        .max(2 * piece)
}

/// The largest cache of a processor. One that the system does not tell of is taken for a large one.
fn cache_bytes() -> usize {
    let size = |idx: usize| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{idx}/size");
        let text = fs::read_to_string(path).ok()?;
        text.trim().strip_suffix('K')?.parse::<usize>().ok()
    };
    (0..8)
        .filter_map(size)
        .max()
        .map_or(64 * MIB, |kib| kib * KIB)
}

pub(super) fn random_bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rt::fill_random(&mut bytes);
    bytes
}

/// A permutation of numbers, which orders nothing: what is read next is not what a processor expects.
pub(super) fn mix(n: usize) -> u64 {
    let mut mixed = n as u64;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// One of `len`, for the time `n`.
pub(super) fn pick(n: usize, len: usize) -> usize {
    usize::try_from(mix(n) % len as u64).expect("less than a usize")
}

/// Of all bytes, taken as words: `bytes` is a whole number of them.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let sum = words.fold(0_u64, |sum, word| {
        sum.wrapping_add(u64::from_le_bytes(word.try_into().expect("8 bytes")))
    });
    black_box(sum)
}

/// Copies, and sums what was copied, while the first cache has it: the least that writing with a checksum can be.
pub(super) fn copy_and_crc(source: &[u8], into: &mut [u8]) -> u32 {
    let mut all = 0;
    for (source, into) in source.chunks(64 * KIB).zip(into.chunks_mut(64 * KIB)) {
        let mut crc = 0;
        for (source, into) in source.chunks(8 * KIB).zip(into.chunks_mut(8 * KIB)) {
            into.copy_from_slice(source);
            crc = crc32c::crc32c_append(crc, into);
        }
        all ^= crc;
    }
    black_box(all)
}
