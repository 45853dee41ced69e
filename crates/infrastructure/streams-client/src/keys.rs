//! Where routing keys lie among the keys of a stream, from 0 to 1.
//!
//! Every client has to find the same place, or the events of a key are not in order. It is the first half of `MurmurHash3` (x64, 128 bits) of the
//! key in UTF-16, little-endian, of which the upper 52 bits are a fraction. `HashHelper.java`, `hashToRange`.

/// `"EventRouter".hashCode()` in Java. `StreamSegments.java`.
const SEED: u64 = 1_741_865_571;

/// Where events of a routing key go.
#[must_use]
pub fn place_of(key: &str) -> f64 {
    let units: Vec<u8> = key.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fraction(murmur3(&units, SEED))
}

/// At least 0, and less than 1.
pub(crate) fn fraction(bits: u64) -> f64 {
    f64::from_bits(1.0_f64.to_bits() | bits >> 12) - 1.0
}

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// The first half.
fn murmur3(bytes: &[u8], seed: u64) -> u64 {
    let (mut h1, mut h2) = (seed, seed);
    let (blocks, tail) = bytes.as_chunks::<16>();
    for block in blocks {
        let (k1, k2) = halves(block);
        h1 = (h1 ^ mix1(k1)).rotate_left(27).wrapping_add(h2);
        h1 = h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ mix2(k2)).rotate_left(31).wrapping_add(h1);
        h2 = h2.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let mut last = [0; 16];
    last[..tail.len()].copy_from_slice(tail);
    let (k1, k2) = halves(&last);
    let length = bytes.len() as u64;
    h1 ^= mix1(k1) ^ length;
    h2 ^= mix2(k2) ^ length;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    finish(h1).wrapping_add(finish(h2))
}

fn halves(block: &[u8; 16]) -> (u64, u64) {
    let (halves, _) = block.as_chunks();
    (u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1]))
}

fn mix1(k: u64) -> u64 {
    k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn mix2(k: u64) -> u64 {
    k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

fn finish(mut h: u64) -> u64 {
    h = (h ^ h >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ h >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ h >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second is what upstream's client in Rust tests; the others are from the Python package `mmh3`, which gives the second one too.
    #[test]
    fn keys_are_where_other_clients_have_them() {
        for (key, place) in [
            ("", 0.241_178_427_916_235_23),
            ("hello", 0.658_716_230_571_337),
            ("a", 0.943_391_275_381_688_4),
            ("ab", 0.059_155_362_905_886_966),
            ("abc", 0.824_472_047_405_151_7),
            ("abcdefg", 0.450_860_780_955_258_06),
            ("abcdefgh", 0.684_254_494_177_612_5),
            ("abcdefghi", 0.771_621_296_684_147_8),
            ("key-17", 0.655_511_909_311_011_6),
            ("Zürich", 0.513_010_066_526_274_2),
            ("😀 routing", 0.611_487_606_986_939_5),
            ("scope/stream/0.#epoch.0", 0.678_850_672_670_199_9),
        ] {
            assert_eq!(place_of(key).to_bits(), f64::to_bits(place), "{key:?}");
        }
    }

    #[test]
    fn a_place_is_at_least_0_and_less_than_1() {
        assert_eq!(fraction(0).to_bits(), 0.0_f64.to_bits());
        assert!(fraction(u64::MAX) < 1.0);
    }
}
