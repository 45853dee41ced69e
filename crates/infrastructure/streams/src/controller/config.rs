//! What a controller is told of itself.

use serde::{Deserialize, Serialize};

/// How much it lets in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Requests that are not answered yet, of all clients.
    pub requests_max: usize,
    /// Connections at once. Others wait until one ends.
    pub connections_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            requests_max: 10_000,
            connections_max: 10_000,
        }
    }
}

/// Where clients find something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name, or an address.
    pub host: String,
    pub port: u16,
}

/// What clients are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// All controllers.
    pub controllers: Vec<Endpoint>,
    /// The one store, which has every segment.
    pub store: Endpoint,
}
