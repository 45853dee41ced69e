//! What a controller is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Its store, modules and series.
    pub dir: PathBuf,
    /// Where sites dial. Port 0: any.
    pub link: SocketAddr,
    /// Where the north-bound interface answers. Port 0: any.
    pub nbi: SocketAddr,
}
