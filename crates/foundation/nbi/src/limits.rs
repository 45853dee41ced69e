//! How large what users write may be. The schemas and [`parse`](crate::parse()) say the same.

pub(crate) const BLOCKS_MAX: usize = 32;
pub(crate) const REPLICAS_MAX: u32 = 256;
pub(crate) const RANKS_MAX: u32 = 256;
pub(crate) const LABELS_MAX: usize = 32;
pub(crate) const LABEL_CHARS_MAX: usize = 128;
pub(crate) const ARGS_MAX: usize = 256;
/// Arguments, variables and paths, in characters.
pub(crate) const TEXT_CHARS_MAX: usize = 4096;
pub(crate) const ENV_MAX: usize = 256;
pub(crate) const MOUNTS_MAX: usize = 16;
pub(crate) const POLICY_CHARS_MAX: usize = 65_536;
/// Of a text in a policy.
pub(crate) const REQUEST_PATH_CHARS_MAX: usize = 200;
pub(crate) const REASON_CHARS_MAX: usize = 1024;
