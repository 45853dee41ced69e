//! GEDS: the tiered ephemeral object store: names and objects of the nodes of a site, in memory, on disks and in S3.
//!
//! Six crates are below this one:
//!
//! - [`index`], of geds-core: which names there are, what each stands for, and where that lies: a pure state machine over an ordered log.
//! - [`arena`], which is geds-arena: immutable objects in memory that processes of one node share without copying.
//! - [`tier1`], which is geds-disk: immutable objects on a disk of the node, small ones in the log.
//! - [`tier2`], which is geds-s3: objects in a store that speaks S3.
//! - [`client`], which is geds-client: who speaks the node protocol from other processes and nodes, and its bytes.
//! - geds-cache: which objects leave memory or the disk first, and what is known and fetched of what is elsewhere, purely.
//!
//! And here are:
//!
//! - [`namespace`]: the owner of the index, with the log and snapshots.
//! - [`store`]: names, memory, disk and S3 together: what a node offers to tenants; in `store/cached`, of buckets whose authority is S3.
//! - [`service`]: a node that runs: its directory, its faces, its upkeep, as an operator's [`Config`] says.
//! - [`front`]: its faces: S3, `ObjectStore`, and the node protocol.
//! - `site`: several nodes with one namespace.
//! - [`testing`]: a store on a disk that crashes.
//!
//! Read in this order: [`index`] and `namespace`; then the essays of the arena and of tier 1, and what they say to read; then `store`, and
//! `service`.
#![forbid(unsafe_code)]

mod behind;
pub mod config;
mod core;
mod disk;
mod error;
pub mod front;
mod metrics;
pub mod namespace;
pub mod service;
mod site;
pub mod store;
mod tasks;
pub mod testing;
pub mod users;

pub use geds_arena as arena;
pub use geds_client as client;
pub use geds_core::index;
pub use geds_disk as tier1;
pub use geds_s3 as tier2;

use geds_client::{link, wire};

pub use self::config::Config;
pub use self::error::{Error, Kind, Result};
pub use self::service::{Deps, Service, start};
