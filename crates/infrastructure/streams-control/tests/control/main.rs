//! The control plane in a world that breaks it off anywhere.

mod bounds;
mod histories;
mod refused;
mod tables;
mod world;
