//! The store of a node: names and objects of tenants, in memory, on its disk and in S3, alone or with other nodes that have the same names.
//!
//! - [`namespace`]: the owner of the index, with the log and snapshots.
//! - [`store`]: names, memory, disk and S3 together: what a node offers to tenants; in `store/cached`, of buckets whose authority is S3.
//! - [`site`]: several nodes with one namespace, decided in `core/site`.
//! - [`error`]: what can go wrong, for all of these and for the node above.
//! - [`testing`]: a store on a disk that crashes.
//!
//! # What it is not
//! It listens to nobody, reads no settings, and does what is to be done from time to time when it is told to: a node (the crate `geds`) has the
//! faces that speak to its users, makes a [`store::Config`] of what an operator says, and calls [`Store::maintain`](store::Store::maintain),
//! [`Store::run_requests`](store::Store::run_requests), and [`Member::run`](site::member::Member::run) or
//! [`Owner::watch_leases`](site::owner::Owner::watch_leases). What a face adds to an object is metadata here, which nobody looks into: how S3's
//! attributes come of it, the node says.
//!
//! # What it guarantees
//! - What is acknowledged as durable is there after a crash, with its bytes. What is seen before is lost only with all that came after it.
//! - What is sealed never changes, and who has it open reads it to its end.
//! - A tenant sees its own buckets, and its objects are in its own memory.
//! - A node that does not know whether it knows what names stand for answers nobody.
//! - What waits for a disk or for others says so. Nothing piles up without a limit.
//!
//! Read in this order: the index of geds-core and `namespace`; then the essays of the arena and of tier 1, and what they say to read; then
//! `store`; then `site` and `core/site`.
#![forbid(unsafe_code)]

pub mod namespace;

mod core;
pub mod error;
pub mod site;
pub mod store;
pub mod testing;

use geds_arena as arena;
use geds_client::{self as client, wire};
use geds_core::index;
use geds_disk as tier1;
use geds_s3 as tier2;
