//! Tier 0: immutable objects in memory that the processes of one node share.
//!
//! A *segment* is a memfd, allocated in full. An *extent* is a run of its pages. An *object* is a list of extents: one, if possible. The
//! *agent* is the process that has the arena, and a *client* another one that shares it. A *domain* is who shares memory: a tenant under
//! one authorisation. A segment belongs to one domain, and has one owner, the agent or a client, as long as it lives.
//!
//! # What it guarantees
//! - What is sealed stays as it is until the agent lets it go, whatever becomes of its writer. The kernel knows of a seal before
//!   [`Client::seal`] returns, and whoever opens the name afterwards gets the object or a later one.
//! - Pages that somebody reads are not used for anything else. What a client has pinned counts against its quota; beyond it, it gets
//!   copies. What it has not pinned is taken back without asking it.
//! - What is not sealed is no object, and its pages are free when its writer is gone.
//! - The limit holds for all memory that the arena has had from the kernel: also for what nobody uses and a client does not unmap.
//! - Between domains there are only copies.
//!
//! # Who can alter an object
//! If it is *settled*, nobody: it lies in a segment of the agent, and the kernel lets no other process write there. A client's segment can
//! be written by that client, even where it has sealed, and by processes that it has let in before it sealed; by nobody else. That
//! cannot be closed while its mapping lives, and to copy at every seal would cost as much as to write. So it is noticed: the agent
//! reads only copies that it has checked against the checksums of the seal, and [`Object::open`] settles. A client that reads in
//! place what another one of its domain has written trusts that one as it would trust the writer of a file that it maps: the domain may
//! write the same names anyway. In such a segment it can also see what is not sealed, or not any more.
//!
//! # What it is not
//! It has no names of objects: the agent's [`Keeper`] has them. It keeps nothing beyond the process of the agent, and it moves nothing to a
//! disk: who has no room is told so, and it is the store that makes some.
//!
//! # Reading order
//! `memory.rs` (the only unsafe code), `segments.rs` and `pool.rs` (where memory comes from and goes back to), `writer.rs` and `object.rs`
//! (the life of an object), `domain.rs`; then `pins.rs` (when pages that another process reads may be used again), `wire.rs`, `share` (the
//! agent) and `client` (other processes).
#![deny(unsafe_code)]

mod budget;
mod client;
mod domain;
mod memory;
mod object;
mod pins;
mod pool;
mod segments;
mod share;
mod socket;
mod wire;
mod writer;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use geds_core::extents::PAGE_BYTES;
use serde::Deserialize;

pub use self::budget::Charge;
pub use self::client::Client;
pub use self::domain::Domain;
use self::object::Counts;
pub use self::object::{Object, ObjectNo, Opened, View};
use self::segments::Segments;
pub use self::share::{Admission, ClientNo, Found, Keeper, Share};
pub use self::wire::META_BYTES_MAX;
pub use self::writer::Writer;
pub use geds_core::{Error, Kind, Result};

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// All memory of the arena, and what it needs to know about it.
    pub limit_bytes: u64,
    /// A multiple of 4 KiB. The smaller, the less memory is lost to owners that do not fill theirs; the larger, the fewer descriptors.
    pub segment_bytes: u64,
    /// So many segments are kept ahead of need.
    pub spare_segments: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limit_bytes: 1 << 30,
            segment_bytes: 16 << 20,
            spare_segments: 2,
        }
    }
}

#[derive(Debug)]
pub struct Arena {
    segments: Arc<Segments>,
    counts: Arc<Counts>,
}

impl Arena {
    /// # Errors
    /// `Invalid`: the config makes no sense. `Unavailable`: there is no thread to be had.
    pub fn start(config: &Config) -> Result<Self> {
        let pages = u32::try_from(config.segment_bytes / PAGE_BYTES);
        let is_whole = config.segment_bytes.is_multiple_of(PAGE_BYTES);
        if !is_whole || pages.is_ok_and(|pages| pages == 0) || pages.is_err() {
            return Err(Error::new(
                Kind::Invalid,
                "a segment is some pages of 4 KiB",
            ));
        }
        let Config {
            limit_bytes,
            segment_bytes,
            spare_segments,
        } = *config;
        Ok(Self {
            segments: Arc::new(Segments::start(limit_bytes, segment_bytes, spare_segments)?),
            counts: Arc::default(),
        })
    }

    /// A new domain that may use as much as `limit_bytes`, if the arena has them.
    ///
    /// # Errors
    /// When the system has no memory.
    pub fn domain(&self, limit_bytes: u64) -> Result<Domain> {
        let (segments, counts) = (Arc::clone(&self.segments), Arc::clone(&self.counts));
        Domain::new(segments, counts, limit_bytes)
    }

    /// All memory that is in use or kept for it.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.segments.budget.used_bytes()
    }

    /// Bytes of objects that were copied by the arena, for whatever reason, since it was started.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.counts.copied_bytes.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.segments.segment_bytes
    }

    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.segments.budget.limit_bytes()
    }
}

/// Of a lock: what somebody has left in the midst of a change is not to be trusted.
const NO_PANIC: &str = "nobody panics with a lock";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect(NO_PANIC)
}

#[cfg(test)]
mod tests;
