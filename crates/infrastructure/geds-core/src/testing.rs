//! For tests, also of other crates: bytes that were not written.

/// What is nearly those bytes: each byte another one, gone, or followed by the largest number.
pub fn nearly(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    const LARGEST: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    (0..bytes.len()).flat_map(move |at| {
        let byte = bytes[at];
        let others = [
            0,
            1,
            0x7f,
            0x80,
            0xff,
            byte ^ 1,
            byte ^ 0x80,
            byte.wrapping_add(1),
        ];
        let others = others.into_iter().map(move |other| vec![other]);
        let gone_or_more = [
            Vec::new(),
            LARGEST.to_vec(),
            [&[byte], &LARGEST[..]].concat(),
        ];
        others.chain(gone_or_more).map(move |with| {
            let mut nearly = bytes.to_vec();
            nearly.splice(at..=at, with);
            nearly
        })
    })
}
