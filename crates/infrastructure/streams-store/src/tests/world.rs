//! A store's surroundings: a directory for its log, and one for what is behind it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ids::ByteSize;
use store::{Opened, Registry};
use tempfile::TempDir;

use crate::{Config, Store};

pub(super) struct World {
    dir: TempDir,
    pub(super) config: Config,
}

impl World {
    /// Little goes to long-term storage by itself.
    pub(super) fn new() -> Self {
        let mut config = Config::default();
        config.log.segment = ByteSize(1 << 20);
        config.log.slow_down = Duration::ZERO;
        config.log.reserve = ByteSize(0);
        config.containers = 2;
        let world = Self {
            dir: tempfile::tempdir().expect("a directory"),
            config,
        };
        fs::create_dir(world.behind()).expect("made");
        world
    }

    /// All goes there as soon as anybody looks, and checkpoints are frequent.
    pub(super) fn eager() -> Self {
        let mut world = Self::new();
        world.config.tiering.flush_bytes = ByteSize(1);
        world.config.tiering.flush_after = Duration::ZERO;
        world.config.log.checkpoint_after = ByteSize(1 << 20);
        world
    }

    pub(super) async fn open(&self) -> Store {
        let opened = Store::open(&self.dir(), &self.config, self.lts()).await;
        opened.expect("opened")
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(super) fn lts(&self) -> Opened {
        let url = format!("file://{}", self.behind().display());
        Registry::default().open(&url).expect("a store")
    }

    /// What this store calls itself.
    pub(super) fn store(&self) -> String {
        let text = fs::read(self.dir().join("store")).expect("it is there");
        let identity: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        identity["store"].as_str().expect("text").to_owned()
    }

    pub(super) fn behind(&self) -> PathBuf {
        self.dir.path().join("behind")
    }

    /// Long-term storage fails whatever it is asked.
    pub(super) fn take_away(&self) {
        fs::rename(self.behind(), self.dir.path().join("away")).expect("moved");
        fs::write(self.behind(), "no directory").expect("written");
    }

    pub(super) fn bring_back(&self) {
        fs::remove_file(self.behind()).expect("removed");
        fs::rename(self.dir.path().join("away"), self.behind()).expect("moved");
    }

    /// Objects in long-term storage that are not manifests.
    pub(super) fn n_chunks(&self) -> usize {
        let mut folders = vec![self.behind()];
        let mut n_chunks = 0;
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("listed") {
                let path = entry.expect("listed").path();
                match path.is_dir() {
                    true if path.ends_with("manifest") => {}
                    true => folders.push(path),
                    false => n_chunks += 1,
                }
            }
        }
        n_chunks
    }
}
