//! The control plane in a world that breaks it off anywhere.

mod histories;
mod tables;
mod world;
