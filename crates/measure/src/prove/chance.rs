//! What a seed decides, and pauses.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// Numbers that depend on a seed alone (SplitMix64).
#[derive(Debug)]
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn millis(&mut self, below: u64) -> Duration {
        Duration::from_millis(self.below(below))
    }
}

/// Nobody signals: this is a pause.
pub(super) fn wait(time: Duration) {
    let (_keep, never) = sync_channel::<()>(1);
    never.recv_timeout(time).ok();
}
