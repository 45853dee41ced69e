//! For tests, also of other crates: what every log must do, and a disk that crashes.

mod contract;
mod crash;

pub use self::contract::{Opened, contract};
pub use self::crash::{Call, Choices, CrashDisk};
