//! What the program takes from its environment: read once, here.

use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug)]
pub(crate) struct Config {
    /// `PATH`
    pub path: OsString,
    /// For what can be made again: `$XDG_CACHE_HOME/cloudskin`.
    pub cache_dir: PathBuf,
    /// For what shall stay: `$XDG_DATA_HOME/cloudskin`.
    pub data_dir: PathBuf,
    pub geds: Geds,
    /// For running worlds, private to the user: `$XDG_RUNTIME_DIR/cloudskin`.
    pub state_dir: PathBuf,
}

/// Which node's store is used, and by whom, if nothing else is said.
pub(crate) struct Geds {
    /// `CLOUDSKIN_GEDS`: HOST:PORT
    pub node: Option<String>,
    /// `GEDS_ACCESS_KEY`
    pub access_key: Option<String>,
    /// `GEDS_SECRET_KEY`
    pub secret_key: Option<String>,
}

/// Without the secret.
impl std::fmt::Debug for Geds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Geds");
        debug
            .field("node", &self.node)
            .field("access_key", &self.access_key);
        debug.finish_non_exhaustive()
    }
}

impl Config {
    /// For compiled programs.
    pub(crate) fn code_dir(&self) -> PathBuf {
        self.cache_dir.join("code")
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub(crate) fn from_environment() -> Self {
        let dir = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|dir| dir.is_absolute())
        };
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let temporary = std::env::temp_dir();
        let user = rt::user_id();
        let cache_dir = dir("XDG_CACHE_HOME")
            .or_else(|| dir("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(|| temporary.clone());
        let data_dir = dir("XDG_DATA_HOME")
            .or_else(|| dir("HOME").map(|home| home.join(".local/share")))
            .unwrap_or_else(|| temporary.clone());
        let state_dir = match dir("XDG_RUNTIME_DIR") {
            Some(dir) => dir.join("cloudskin"),
            None => temporary.join(format!("cloudskin-{user}")),
        };
        Self {
            path: std::env::var_os("PATH").unwrap_or_default(),
            cache_dir: cache_dir.join("cloudskin"),
            data_dir: data_dir.join("cloudskin"),
            geds: Geds {
                node: text("CLOUDSKIN_GEDS"),
                access_key: text("GEDS_ACCESS_KEY"),
                secret_key: text("GEDS_SECRET_KEY"),
            },
            state_dir,
        }
    }
}
