//! Memory that processes share: the only unsafe code of this crate.
//!
//! All of it lies in memfds. They are allocated in full when they are made, so a machine without memory is an error and no `SIGBUS`; and
//! they are sealed against shrinking, so nobody takes pages away from under somebody else. They are of huge pages, if the kernel has some: who
//! reads here and there waits for page tables less often then.
//!
//! There are three kinds of access:
//! - [`Pages`]: an extent that its owner alone may write, and may read as a slice if no other process can write it, and a [`Part`] of it;
//! - [`Window`]: bytes that another process has sealed;
//! - [`Words`]: numbers that processes tell each other, all of them atomics.
#![expect(
    unsafe_code,
    reason = "shared memory is pointers; each block says who keeps what it needs"
)]

use std::fmt::Debug;
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use geds_core::extents::{Extent, PAGE_BYTES, SegmentNo};
use geds_core::to_usize;

/// Of most processors.
const HUGE_PAGE_BYTES: u64 = 2 << 20;
/// Of Linux; the crate `libc` has them not everywhere.
const MADV_POPULATE_WRITE: libc::c_int = 23;
const MADV_COLLAPSE: libc::c_int = 25;

/// The kernel may look long for huge pages when it has none: so it is not asked again for so long.
const NO_HUGE_PAGES_FOR: Duration = Duration::from_secs(60);

/// Whether the kernel has huge pages.
#[derive(Debug, Default)]
pub(crate) struct HugePages {
    none_until: Mutex<Option<Instant>>,
}

impl HugePages {
    /// Has the kernel make huge pages of new memory, if it has some. Without them, it is what it would be otherwise.
    fn make(&self, fd: &OwnedFd, bytes: u64) {
        let mut none_until = super::lock(&self.none_until);
        let now = rt::now();
        if none_until.is_none_or(|until| until <= now) {
            let made = make_huge(fd, bytes);
            *none_until = made.is_err().then_some(now + NO_HUGE_PAGES_FOR);
        }
    }
}

/// A new memfd whose `bytes` are there, and stay.
pub(crate) fn create(bytes: u64, huge_pages: &HugePages) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(
        c"geds-arena",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    rustix::fs::ftruncate(&fd, bytes)?;
    huge_pages.make(&fd, bytes);
    rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, bytes)?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(fd)
}

/// The kernel does so when it is asked to, whatever the machine's setting for shared
/// memory says (`madvise(2)`, `MADV_COLLAPSE`, since Linux 6.1), but where there is nothing at all it makes none.
fn make_huge(fd: &OwnedFd, bytes: u64) -> io::Result<()> {
    let bytes = bytes - bytes % HUGE_PAGE_BYTES;
    if bytes == 0 {
        return Ok(());
    }
    for at in (0..bytes).step_by(to_usize(HUGE_PAGE_BYTES)) {
        rustix::fs::fallocate(fd, FallocateFlags::empty(), at, PAGE_BYTES)?;
    }
    let map = Map::new(fd, bytes, ProtFlags::READ | ProtFlags::WRITE)?;
    map.advise(MADV_COLLAPSE, 0, bytes)
}

/// From here on the memory is written only through mappings that there are already, whoever has its descriptor and whatever rights.
pub(crate) fn close_to_writers(fd: impl AsFd) -> io::Result<()> {
    rustix::fs::fcntl_add_seals(fd, SealFlags::FUTURE_WRITE | SealFlags::SEAL)?;
    Ok(())
}

/// A descriptor to give away. It is another opening of the memory, not another name of ours, so that [`alone`] can tell them apart.
pub(crate) fn reopen(fd: impl AsFd, access: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    Ok(rustix::fs::open(
        path,
        access | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Does nobody else have the memory open or mapped? Only then is it freed when we close it.
///
/// The kernel grants a write lease on a file that is open nowhere else. What [`create`] returned does not count as open, as long as it has
/// not been given away.
pub(crate) fn alone(fd: impl AsFd) -> bool {
    let Ok(again) = reopen(fd, OFlags::RDONLY) else {
        return false;
    };
    /// Of Linux; the crate `libc` has it not everywhere.
    const F_SETSIG: libc::c_int = 10;
    let fd = again.as_raw_fd();
    // SAFETY: the descriptor lives, and these commands take a number, not a pointer. The lease ends when `again` is closed. Were it
    // broken before, the signal would be one that does nothing.
    unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG) == 0
            && libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) == 0
    }
}

/// Does its maker promise that `bytes` of it are there and stay?
fn check(fd: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
    let is_long = u64::try_from(rustix::fs::fstat(fd)?.st_size).is_ok_and(|len| len >= bytes);
    if is_long && rustix::fs::fcntl_get_seals(fd)?.contains(SealFlags::SHRINK) {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Some memory in the address space of this process, as long as it lives. It begins at a multiple of [`HUGE_PAGE_BYTES`] if it has as many.
#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is a place, and gives out nothing but pointers; what is done with them is for who does it to justify.
unsafe impl Send for Map {}
// SAFETY: the same.
unsafe impl Sync for Map {}

impl Map {
    fn new(fd: impl AsFd, bytes: u64, protection: ProtFlags) -> io::Result<Self> {
        let huge = to_usize(HUGE_PAGE_BYTES);
        let len = to_usize(bytes).next_multiple_of(to_usize(PAGE_BYTES));
        let slack = if len < huge { 0 } else { huge };
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let none = ProtFlags::empty();
        // SAFETY: a new mapping where the kernel finds room replaces nothing.
        let all =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len + slack, none, flags) }?;
        let before = match slack {
            0 => 0,
            _ => all.addr().next_multiple_of(huge) - all.addr(),
        };
        // SAFETY: `before` is at most `slack`.
        let start = unsafe { all.cast::<u8>().add(before) };
        let start = NonNull::new(start).expect("the kernel maps nothing there");
        let end = start.as_ptr().wrapping_add(len).cast();
        // If that fails, some addresses are not used again.
        // SAFETY: these are the two parts of the mapping that nobody has been told of.
        unsafe {
            if before > 0 {
                rustix::mm::munmap(all, before).unwrap_or_default();
            }
            if before < slack {
                rustix::mm::munmap(end, slack - before).unwrap_or_default();
            }
        }
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // If that fails, there may be nothing any more, or already somebody else's: it is not unmapped then.
        // SAFETY: it replaces what was mapped above, all of which is ours, and has been given to nobody yet.
        unsafe { rustix::mm::mmap(start.as_ptr().cast(), len, protection, flags, fd, 0) }?;
        Ok(Self { start, len })
    }

    fn len(&self) -> usize {
        self.len
    }

    fn as_mut_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    fn advise(&self, advice: libc::c_int, offset: u64, bytes: u64) -> io::Result<()> {
        let at = self.at(offset, bytes);
        // SAFETY: the place is in the mapping, and none of what is asked for here changes what is there.
        match unsafe { libc::madvise(at.cast(), to_usize(bytes), advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Where `bytes` begin that lie in it.
    fn at(&self, offset: u64, bytes: u64) -> *mut u8 {
        let end = offset.checked_add(bytes).map(to_usize);
        assert!(
            end.is_some_and(|end| end <= self.len),
            "an extent lies in its segment"
        );
        // SAFETY: `offset` is inside of the mapping, or at its end.
        unsafe { self.start.as_ptr().add(to_usize(offset)) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // A process that has all mappings it may have cannot split one: it keeps this one then.
        // SAFETY: whoever has a pointer into it keeps it alive.
        unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) }.unwrap_or_default();
    }
}

/// One segment in the address space of this process.
#[derive(Debug)]
pub(crate) struct Memory {
    map: Map,
    /// Another process can write it too.
    is_foreign: bool,
}

impl Memory {
    /// To be written by this process, and by no other one.
    pub(crate) fn of_ours(fd: impl AsFd, bytes: u64) -> io::Result<Self> {
        check(fd.as_fd(), bytes)?;
        Ok(Self {
            map: Map::new(fd, bytes, ProtFlags::READ | ProtFlags::WRITE)?,
            is_foreign: false,
        })
    }

    /// To be written by another process.
    pub(crate) fn of_others(fd: impl AsFd, bytes: u64) -> io::Result<Self> {
        check(fd.as_fd(), bytes)?;
        Ok(Self {
            map: Map::new(fd, bytes, ProtFlags::READ)?,
            is_foreign: true,
        })
    }

    /// Has the kernel map pages now. Those that it does not are mapped one by one when they are first written.
    pub(crate) fn populate(&self, offset: u64, bytes: u64) {
        let populated = self.map.advise(MADV_POPULATE_WRITE, offset, bytes);
        populated.unwrap_or_default();
    }

    /// Where `bytes` begin that lie in it.
    fn at(&self, offset: u64, bytes: u64) -> *mut u8 {
        self.map.at(offset, bytes)
    }
}

/// Where pages come from, and where they go back to.
pub(crate) trait Home: Debug + Send + Sync {
    /// One piece of at least one page, and at most `pages`; that many, if there is such a piece or can be one.
    fn take(self: Arc<Self>, pages: u32) -> geds_core::Result<Pages>;
    /// Makes it longer by at most `pages`, if what follows it is free.
    fn grow(&self, extent: &mut Extent, pages: u32);
    fn give(&self, extent: Extent);
    /// A descriptor of the memory, for another process to read.
    fn for_reader(&self, segment: SegmentNo) -> geds_core::Result<OwnedFd>;
}

/// An extent, and the right to it. Its pages are free when it is dropped.
#[derive(Debug)]
pub(crate) struct Pages {
    memory: Arc<Memory>,
    /// Always there, but while it is taken apart.
    extent: Option<Extent>,
    home: Arc<dyn Home>,
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(extent) = self.extent.take() {
            self.home.give(extent);
        }
    }
}

impl Pages {
    pub(crate) fn new(memory: Arc<Memory>, extent: Extent, home: Arc<dyn Home>) -> Self {
        memory.at(extent.offset(), extent.bytes());
        Self {
            memory,
            extent: Some(extent),
            home,
        }
    }

    pub(crate) fn extent(&self) -> &Extent {
        self.extent.as_ref().expect("it is taken at the end only")
    }

    pub(crate) fn len(&self) -> u64 {
        self.extent().bytes()
    }

    pub(crate) fn home(&self) -> &Arc<dyn Home> {
        &self.home
    }

    pub(crate) fn is_foreign(&self) -> bool {
        self.memory.is_foreign
    }

    pub(crate) fn grow(&mut self, pages: u32) {
        if let Some(extent) = &mut self.extent {
            self.home.grow(extent, pages);
        }
    }

    /// Gives all but the first `pages` back.
    pub(crate) fn cut(&mut self, pages: u32) {
        if let Some(rest) = self.extent.as_mut().and_then(|extent| extent.cut(pages)) {
            self.home.give(rest);
        }
    }

    /// Hands the right to them on, to who does not need the memory.
    pub(crate) fn into_extent(mut self) -> Extent {
        self.extent.take().expect("it is taken at the end only")
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let (start, len) = self.own();
        // SAFETY: `own` says why nobody else writes here; we do not, because that takes `&mut self`.
        unsafe { slice::from_raw_parts(start, len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let (start, len) = self.own();
        // SAFETY: `own` says why nobody else is here. The memory is writable: only `of_others` maps it otherwise.
        unsafe { slice::from_raw_parts_mut(start, len) }
    }

    /// Our extent is handed out once: `Extent` is not `Copy`, `core::extents` makes each once, and whoever drops us gives it back. So no
    /// other `Pages` has these bytes. A [`Window`] onto them is made by other processes after they are sealed, when no `&mut` is made any
    /// more. No other process writes them: the agent has sealed its own segments against writers before it uses them, and writes to
    /// none that it has leased. The mapping lives as long as `memory`, and its pages cannot be taken away.
    fn own(&self) -> (*mut u8, usize) {
        assert!(!self.is_foreign(), "others may write here: copy it");
        let extent = self.extent();
        let start = self.memory.at(extent.offset(), extent.bytes());
        (start, to_usize(extent.bytes()))
    }

    /// Copies bytes that another process may be writing: they can be anything, and the copy is the only thing to look at.
    pub(crate) fn copy_out(&self, offset: u64, into: &mut [u8]) {
        let len = into.len() as u64;
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.len());
        assert!(fits, "what is copied lies in the extent");
        let from = self.memory.at(self.extent().offset() + offset, len);
        // SAFETY: the source is mapped as long as `memory` is, and `into` is elsewhere, since it is exclusive. Whatever another process
        // writes meanwhile, every value of a byte is a byte; no reference to the source is made.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) }
    }
}

/// A part of pages that are written to their end. Who looks at it need not look at them first: what says where they are may be in no cache.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pages: Arc<[Pages]>,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is a slice of what `pages` has, which can be shared and sent: see `deref`.
unsafe impl Send for Part {}
// SAFETY: the same.
unsafe impl Sync for Part {}

impl Part {
    /// Of the bytes of one of them; none if there is no such one.
    pub(crate) fn new(pages: &Arc<[Pages]>, idx: usize, range: Range<usize>) -> Self {
        let bytes = pages.get(idx).map(Pages::bytes).unwrap_or_default();
        let bytes = &bytes[range];
        Self {
            start: NonNull::from(bytes).cast(),
            len: bytes.len(),
            pages: Arc::clone(pages),
        }
    }

    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        let bytes = &self[range];
        Self {
            start: NonNull::from(bytes).cast(),
            len: bytes.len(),
            pages: Arc::clone(&self.pages),
        }
    }
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: it was a slice of `Pages::bytes`. That does not depend on where the `Pages` itself is, but on that it lives, which it does as long
        // as `pages` has it, and on that no `&mut` of it is made, which takes one that nobody shares: nothing here takes it out of there.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

/// Bytes that another process has sealed.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    memory: Arc<Memory>,
    offset: u64,
    len: u64,
}

impl Window {
    /// `None` if there is no such place in the segment.
    pub(crate) fn new(memory: Arc<Memory>, offset: u64, len: u64) -> Option<Self> {
        let end = offset.checked_add(len)?;
        (end <= memory.map.len() as u64).then_some(Self {
            memory,
            offset,
            len,
        })
    }
}

impl Deref for Window {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.memory.at(self.offset, self.len);
        // SAFETY: the pages are mapped as long as `memory` is, and cannot be taken away. They are not written: whoever has a window has
        // pinned the object, so the agent does not give its pages away, and its writer has sealed it, which for an honest one is the
        // end of writing. A process of the same domain that is not honest can change what it has written itself; then, as with any
        // mapped file, the bytes change under the reader, and nothing but bytes is read from them.
        unsafe { slice::from_raw_parts(start, to_usize(self.len)) }
    }
}

/// Numbers that processes tell each other.
#[derive(Debug)]
pub(crate) struct Words {
    map: Map,
    len: usize,
}

impl Words {
    pub(crate) fn create(len: usize) -> io::Result<(Self, OwnedFd)> {
        let fd = create(Self::bytes(len), &HugePages::default())?;
        // Nobody who gets them can close them to others.
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SEAL)?;
        Ok((Self::map(&fd, len)?, fd))
    }

    /// What so many take.
    pub(crate) fn bytes(len: usize) -> u64 {
        (len * size_of::<AtomicU64>()) as u64
    }

    pub(crate) fn map(fd: impl AsFd, len: usize) -> io::Result<Self> {
        let bytes = Self::bytes(len);
        check(fd.as_fd(), bytes)?;
        let map = Map::new(fd, bytes, ProtFlags::READ | ProtFlags::WRITE)?;
        Ok(Self { map, len })
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: a mapping begins at a page, so it is aligned; it has `len` words, which stay, and is never accessed otherwise in this
        // process. What other processes do to them is what other threads could do, or worse, but every value is one of a word.
        unsafe { slice::from_raw_parts(self.map.as_mut_ptr().cast(), self.len) }
    }
}
