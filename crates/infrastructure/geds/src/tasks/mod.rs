//! What goes on in the background, one file each.

mod upkeep;

pub(crate) use self::upkeep::{Tick, Upkeep};
