//! Some value of each type, from a seed, so that a declaration is all that a command needs to be tested.

use bytes::Bytes;

pub(crate) trait Any {
    fn any(source: &mut Source) -> Self;
}

/// Numbers that follow from a seed (SplitMix64).
pub(crate) struct Source(pub(crate) u64);

impl Source {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("it fits");
        usize::try_from(self.next() % end).expect("it is less")
    }

    /// What is likely to be treated in a way of its own, or anything.
    fn bits(&mut self) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << 63,
            3 => self.next() % 300,
            _ => self.next(),
        }
    }
}

impl Any for u8 {
    fn any(source: &mut Source) -> Self {
        source.bits().to_le_bytes()[0]
    }
}

impl Any for i32 {
    fn any(source: &mut Source) -> Self {
        let [a, b, c, d, ..] = source.bits().to_le_bytes();
        Self::from_le_bytes([a, b, c, d])
    }
}

impl Any for i64 {
    fn any(source: &mut Source) -> Self {
        source.bits().cast_signed()
    }
}

impl Any for u128 {
    fn any(source: &mut Source) -> Self {
        Self::from(source.bits()) << 64 | Self::from(source.bits())
    }
}

impl Any for bool {
    fn any(source: &mut Source) -> Self {
        source.below(2) == 0
    }
}

impl Any for String {
    fn any(source: &mut Source) -> Self {
        let chars = [
            'a',
            '/',
            '\0',
            '\u{7f}',
            '\u{e9}',
            '\u{20ac}',
            '\u{ffff}',
            '\u{10000}',
            '\u{1F600}',
        ];
        (0..source.below(12))
            .map(|_| chars[source.below(chars.len())])
            .collect()
    }
}

impl Any for Bytes {
    fn any(source: &mut Source) -> Self {
        // Some are so long that they are sent from where they lie.
        let n_bytes = if source.below(16) == 0 {
            5000
        } else {
            source.below(20)
        };
        (0..n_bytes).map(|_| u8::any(source)).collect()
    }
}

impl<T: Any> Any for Vec<T> {
    fn any(source: &mut Source) -> Self {
        (0..source.below(4)).map(|_| T::any(source)).collect()
    }
}
