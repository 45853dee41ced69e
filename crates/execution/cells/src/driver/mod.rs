//! Cells as units of a platform: this site's parts of worlds, each in processes that outlive this one.
//!
//! At its home a unit is a world process with hosts as its children ([`home`]); at every other site it is one host process ([`remote`]).
//! A thread for each unit brings them closer to what is wanted ([`unit`]): callers only leave their wishes there, and read what it last saw.
//! So a process that is stopped costs its own unit and nobody's patience.
//!
//! ```text
//! DIR/units/UNIT/part.json     what is wanted, and in which epoch
//!                e7/           the processes of epoch 7: see `world/process.rs` and, at other sites, `host-INCARNATION/`
//!     code/                     compiled modules
//! ```
//! How a site joins: its part offers a public key. The home has it admitted and offers the certificate with the address of the coordinator.
//! The site starts a host with both. A key serves one process: when that has ended, the site offers another key, and that tells the home
//! that the process before it is dead.

mod client;
mod home;
mod offer;
mod part;
mod remote;
mod samples;
mod unit;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ids::{Digest, Name, UnitId};
use workload::link::Sample;
use workload::{Caps, CellSpec, Driver, DriverError, Kind, Observed, Offers, UnitSpec};

use crate::host::RANKS_MAX;
use part::Part;
use unit::Unit;

/// What a driver works with.
#[derive(Clone)]
pub struct Config {
    /// Its own directory.
    pub dir: PathBuf,
    pub site: Name,
    /// The program that answers to `cell world` and `cell host`.
    pub program: PathBuf,
    /// Log filter of its processes.
    pub log: String,
    /// Where they listen, for those of other sites.
    pub listen: IpAddr,
    pub modules: Modules,
    /// Directories that units may mount, and what lies below them; without links in their paths.
    pub mountable: Vec<PathBuf>,
}

impl Config {
    /// Where compiled code is, for all units.
    fn code_dir(&self) -> PathBuf {
        self.dir.join("code")
    }
}

/// Where a module is; `None`: not here yet.
pub type Modules = Arc<dyn Fn(&Digest) -> Option<PathBuf> + Send + Sync>;

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("dir", &self.dir)
            .field("site", &self.site)
            .finish_non_exhaustive()
    }
}

/// Runs units of kind `cell`.
#[derive(Debug)]
pub struct CellDriver {
    config: Arc<Config>,
    units: Mutex<BTreeMap<UnitId, Arc<Unit>>>,
}

/// How long the first look at all that was left may take.
const FIRST_LOOK: Duration = Duration::from_secs(1);

impl CellDriver {
    /// Finds what an earlier process has left. Nothing is started before it is asked for.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn new(config: Config) -> io::Result<Self> {
        let config = Arc::new(config);
        let mut units = BTreeMap::new();
        for (dir, part) in part::all(&config.dir)? {
            let unit = Unit::start(&config, dir, part)?;
            units.insert(unit.id.clone(), unit);
        }
        // What is observed first shall not be that nothing is known.
        let deadline = rt::now() + FIRST_LOOK;
        for unit in units.values() {
            unit.wait_for_look(deadline);
        }
        Ok(Self {
            config,
            units: Mutex::new(units),
        })
    }

    /// Those that are not gone.
    fn units(&self) -> MutexGuard<'_, BTreeMap<UnitId, Arc<Unit>>> {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        units.retain(|_, unit| !unit.is_gone());
        units
    }

    fn all(&self) -> Vec<Arc<Unit>> {
        self.units().values().cloned().collect()
    }

    fn check(&self, spec: &UnitSpec) -> Result<(), String> {
        let Kind::Cell(CellSpec { ranks, mounts, .. }) = &spec.kind;
        if *ranks == 0 || *ranks > RANKS_MAX || spec.placement.len() != *ranks as usize {
            return Err(format!(
                "a unit has 1 to {RANKS_MAX} ranks, and a place for each"
            ));
        }
        for mount in mounts {
            part::directory_of(&mount.source, &self.config.mountable)?;
        }
        Ok(())
    }
}

impl Driver for CellDriver {
    fn kind(&self) -> &'static str {
        "cell"
    }

    fn caps(&self) -> Caps {
        Caps {
            moves_live: true,
            checkpoints: true,
        }
    }

    fn ensure(&self, spec: &UnitSpec, offers: &Offers) -> Result<(), DriverError> {
        self.check(spec).map_err(DriverError::Invalid)?;
        let mut units = self.units();
        let wanted = Part::of(spec);
        let unit = match units.get(&spec.id) {
            Some(unit) => Arc::clone(unit),
            None => {
                let dir = part::dir_of(&self.config.dir, &spec.id);
                let unit = wanted
                    .save(&dir)
                    .and_then(|()| Unit::start(&self.config, dir, wanted.clone()));
                let unit = unit.map_err(|source| DriverError::Io {
                    context: format!("begin {}", spec.id),
                    source,
                })?;
                units.insert(spec.id.clone(), Arc::clone(&unit));
                unit
            }
        };
        drop(units);
        unit.want(wanted, offers)?;
        let Kind::Cell(CellSpec { module, .. }) = &spec.kind;
        if spec.home == self.config.site && (self.config.modules)(module).is_none() {
            return Err(DriverError::NotYet(format!("module {module} is not here")));
        }
        Ok(())
    }

    fn stop(&self, unit: &UnitId) -> Result<(), DriverError> {
        let known = self.units().get(unit).cloned();
        known.map_or(Ok(()), |unit| unit.stop())
    }

    fn observe(&self) -> Vec<Observed> {
        self.all().iter().map(|unit| unit.observed()).collect()
    }

    fn pids(&self) -> Vec<u32> {
        self.all().iter().flat_map(|unit| unit.pids()).collect()
    }

    fn read_log(
        &self,
        unit: &UnitId,
        offset: u64,
        max: usize,
    ) -> Result<(u64, Vec<u8>), DriverError> {
        let known = self.units().get(unit).cloned();
        match known {
            Some(unit) => unit.read_log(offset, max),
            None => Err(DriverError::NotYet(format!("{unit} is not here"))),
        }
    }

    fn sample(&self) -> Vec<Sample> {
        self.all().iter().flat_map(|unit| unit.sample()).collect()
    }
}
