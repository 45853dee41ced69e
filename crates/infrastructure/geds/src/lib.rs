//! GEDS: the tiered ephemeral object store: names and objects of the nodes of a site, in memory, on disks and in S3.
//!
//! Seven crates are below this one:
//!
//! - [`index`], of geds-core: which names there are, what each stands for, and where that lies: a pure state machine over an ordered log.
//! - [`arena`], which is geds-arena: immutable objects in memory that processes of one node share without copying.
//! - [`tier1`], which is geds-disk: immutable objects on a disk of the node, small ones in the log.
//! - [`tier2`], which is geds-s3: objects in a store that speaks S3.
//! - [`client`], which is geds-client: who speaks the node protocol from other processes and nodes, and its bytes.
//! - geds-cache: which objects leave memory or the disk first, and what is known and fetched of what is elsewhere, purely.
//! - [`store`], of geds-store: names, memory, disk and S3 together: what a node offers to tenants, alone or as one of a site.
//!
//! And here is the node around it:
//!
//! - [`service`]: one that runs: its directory, its faces, its upkeep, as an operator's [`Config`] says.
//! - [`front`]: its faces: S3, `ObjectStore`, the node protocol, and memory that is shared with processes of the machine. What S3 knows beside content is
//!   written by `disk/s3`.
//! - [`users`]: who may come in.
//! - `behind`: S3 as the settings have it, for the store.
//! - `metrics`: what it tells about itself.
//!
//! # What it is not
//! It has no names and no bytes of its own, and decides nothing about where they are: faces ask the store, and render what it says. It is not a
//! program either: `cloudskin` reads its settings and starts it.
//!
//! # What it guarantees
//! - An answer of a face says no more than the store's acknowledgement: what is called durable is.
//! - Who is not known gets no further than the door, and who is known to what is its tenant's.
//! - Nothing on the thread of a caller waits for a disk. What a client can have the node hold is bounded.
//! - Two nodes never run in one directory. At its end a node takes nothing more, and ends what it serves, within a limit.
//!
//! Read in this order: the essay of geds-store, and what it says to read; then `service`, [`front`] from `front/s3` on, and what of the rest is needed.
#![forbid(unsafe_code)]

mod behind;
pub mod config;
mod disk;
pub mod front;
mod metrics;
pub mod service;
mod tasks;
pub mod users;

pub use geds_arena as arena;
pub use geds_client as client;
pub use geds_core::index;
pub use geds_disk as tier1;
pub use geds_s3 as tier2;
pub use geds_store::{store, testing};

use geds_client::{link, wire};
use geds_store::{error, namespace, site};

pub use self::config::Config;
pub use self::error::{Error, Kind, Result};
pub use self::service::{Deps, Service, start};
