//! The agent from outside: a controller that speaks the real protocol over real sockets, drivers that are simulated or start real processes.

mod controller;
mod drivers;
mod joining;
mod ledgers;
mod links;
mod samples;
mod units;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ids::{Epoch, Generation, Labels, Name, UnitId};
use site::{Config, Share, Site, Wanted};
use workload::link::Inventory;
use workload::{CellSpec, Driver, Kind, Limits, Phase, SiteConfig, UnitSpec};

use controller::Controller;
use drivers::Simulated;

/// For everything that must happen; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The module that all units here have, and its SHA-256.
const MODULE: &[u8] = b"abc";
const MODULE_SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn unit(replica: u32) -> UnitId {
    UnitId::new(&name("acme"), &name("video"), &name("decode"), replica)
}

fn spec(replica: u32, epoch: u64) -> UnitSpec {
    UnitSpec {
        id: unit(replica),
        epoch: Epoch(epoch),
        kind: Kind::Cell(CellSpec {
            module: MODULE_SHA256.parse().expect("a digest"),
            ranks: 1,
            args: vec!["sleep".into(), "100000".into()],
            env: [].into(),
            mounts: Vec::new(),
            iteration: None,
            checkpoint_every_ms: None,
            limits: Limits {
                memory_bytes_max: 1 << 26,
                log_bytes_max: 1 << 20,
            },
        }),
        home: name("edge"),
        placement: vec![name("edge")],
    }
}

fn config(generation: u64, units: &[(u32, u64)]) -> SiteConfig {
    let units = units.iter().map(|(replica, epoch)| spec(*replica, *epoch));
    SiteConfig {
        generation: Generation(generation),
        units: units.collect(),
    }
}

/// Waits until there is something.
fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = rt::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "in time: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A site in a folder of its own, with a controller that it has joined.
struct World {
    dir: tempfile::TempDir,
    controller: Controller,
    driver: Arc<Simulated>,
}

impl World {
    fn new() -> Self {
        let world = Self::strange();
        world.join().expect("the token is good");
        world
    }

    /// It has not joined.
    fn strange() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a folder"),
            controller: Controller::start(),
            driver: Arc::default(),
        }
    }

    fn dir(&self) -> PathBuf {
        self.dir.path().join("site")
    }

    fn join(&self) -> Result<(), site::Error> {
        let labels: Labels = [("tier".to_owned(), "edge".to_owned())].into();
        let address = self.controller.address.to_string();
        let token = self.controller.token.to_string();
        site::join(&self.dir(), &address, &token, &name("edge"), &labels)
    }

    fn start(&self) -> Site {
        self.start_with(vec![Arc::clone(&self.driver) as Arc<dyn Driver>])
    }

    fn start_with(&self, drivers: Vec<Arc<dyn Driver>>) -> Site {
        start(&self.dir(), drivers, &telemetry::Metrics::new()).expect("it has joined")
    }

    /// An agent that runs these units, as its controller has seen.
    fn running(&mut self, units: &[(u32, u64)]) -> Site {
        let site = self.start();
        self.controller.configure(config(1, units));
        self.controller.await_phases(1, units, Phase::Running);
        site
    }
}

fn start(
    dir: &Path,
    drivers: Vec<Arc<dyn Driver>>,
    metrics: &telemetry::Metrics,
) -> Result<Site, site::Error> {
    let config = Config {
        dir: dir.to_owned(),
        site: name("edge"),
        share: Share::take(&Wanted::All, &name("edge"), dir),
    };
    site::start(config, drivers, metrics)
}

fn has_condition(inventory: &Inventory, kind: &str) -> bool {
    inventory
        .conditions
        .iter()
        .any(|condition| condition.kind == kind)
}
