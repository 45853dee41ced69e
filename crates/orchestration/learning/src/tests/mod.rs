//! The Learning Plane in a simulated world, by the same code that runs in the service.

mod evidence;
mod faults;
mod foresight;
mod policies;
mod service;
pub(crate) mod world;
