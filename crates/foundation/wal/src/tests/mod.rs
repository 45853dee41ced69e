//! Tests of the whole crate. `world` is an engine on a disk that crashes, and what must be found in it.

mod bits;
mod crashes;
mod faults;
mod files;
mod formats;
mod inspections;
mod threads;
mod world;
