//! For tests, also of other crates: what every log must do, a disk that crashes, and logs in memory.

mod contract;
mod crash;
mod memory;

pub use self::contract::{Opened, contract};
pub use self::crash::{Call, Choices, CrashDisk};
pub use self::memory::{Memory, MemoryLog, MemoryWal};
