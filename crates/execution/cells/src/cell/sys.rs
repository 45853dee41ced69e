//! What needs the kernel's word on memory.

use std::ffi::c_void;

use rustix::mm::{Advice, madvise};

/// Gives `memory` its pages at once, large ones where the kernel has them. Its content stays. Only
/// a hint: without it pages come one by one.
pub(super) fn populate(memory: &mut [u8]) {
    const PAGE_BYTES: usize = 4096;
    let before = memory.as_ptr().align_offset(PAGE_BYTES);
    let Some(whole) = memory.get_mut(before..) else {
        return;
    };
    let len = whole.len() / PAGE_BYTES * PAGE_BYTES;
    let start = whole.as_mut_ptr().cast::<c_void>();
    for advice in [Advice::LinuxHugepage, Advice::LinuxPopulateWrite] {
        // SAFETY: the range is whole pages inside `memory`, which is borrowed mutably here; neither
        // advice changes content or access.
        if let Err(error) = unsafe { madvise(start, len, advice) } {
            tracing::debug!(%error, ?advice, "memory is not populated ahead");
        }
    }
}
