//! Two drivers: one simulated, one with real processes.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ids::{Epoch, UnitId};
use rustix::process::{Pid, Signal, kill_process};
use workload::link::Sample;
use workload::{Caps, Driver, DriverError, Kind, Observed, Offers, Phase, UnitSpec, contract};

use super::{PATIENCE, spec};

/// Units that run as long as this lives, whatever becomes of agents. A call for a unit that is said to hang does not return.
#[derive(Debug, Default)]
pub(super) struct Simulated {
    state: Mutex<World>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub units: BTreeMap<UnitId, Unit>,
    pub hanging: Vec<UnitId>,
    /// Observing hangs, too.
    pub is_blind: bool,
    /// Sampling hangs, too.
    pub is_mute: bool,
    /// Every change: what was started, and what was stopped.
    pub log: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub spec: UnitSpec,
    pub offers: Offers,
    pub phase: Phase,
}

impl Simulated {
    pub(super) fn state(&self) -> MutexGuard<'_, World> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that hang return.
    pub(super) fn release(&self) {
        let mut state = self.state();
        state.hanging.clear();
        state.is_blind = false;
        state.is_mute = false;
        self.changed.notify_all();
    }

    fn unless_hanging(&self, unit: &UnitId) -> MutexGuard<'_, World> {
        let hangs = |state: &mut World| state.hanging.contains(unit);
        let state = self.changed.wait_while(self.state(), hangs);
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

fn observed(spec: &UnitSpec, phase: Phase) -> Observed {
    Observed {
        id: spec.id.clone(),
        epoch: spec.epoch,
        is_home: true,
        phase,
        reason: String::new(),
        offer: Some("127.0.0.1".into()),
        ranks: Vec::new(),
        n_moves: 0,
        moves: Vec::new(),
        restarts: 0,
        exit_code: None,
        log_bytes: 0,
    }
}

fn fence(asked: &UnitSpec, known: Epoch) -> Result<(), DriverError> {
    if asked.epoch < known {
        let (unit, asked) = (asked.id.clone(), asked.epoch);
        return Err(DriverError::Fenced { unit, asked, known });
    }
    Ok(())
}

impl Driver for Simulated {
    fn kind(&self) -> &'static str {
        "cell"
    }

    fn caps(&self) -> Caps {
        Caps::default()
    }

    fn ensure(&self, spec: &UnitSpec, offers: &Offers) -> Result<(), DriverError> {
        let mut state = self.unless_hanging(&spec.id);
        let known = state.units.get(&spec.id).map(|unit| unit.spec.epoch);
        fence(spec, known.unwrap_or_default())?;
        if known != Some(spec.epoch) {
            state.log.push(format!("start {} {}", spec.id, spec.epoch));
        }
        let unit = Unit {
            spec: spec.clone(),
            offers: offers.clone(),
            phase: Phase::Running,
        };
        state.units.insert(spec.id.clone(), unit);
        Ok(())
    }

    fn stop(&self, unit: &UnitId) -> Result<(), DriverError> {
        let mut state = self.unless_hanging(unit);
        if state.units.remove(unit).is_some() {
            state.log.push(format!("stop {unit}"));
        }
        Ok(())
    }

    fn observe(&self) -> Vec<Observed> {
        let state = self
            .changed
            .wait_while(self.state(), |state| state.is_blind);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let units = state.units.values();
        units.map(|unit| observed(&unit.spec, unit.phase)).collect()
    }

    fn pids(&self) -> Vec<u32> {
        let state = self.state();
        if state.units.is_empty() {
            Vec::new()
        } else {
            vec![std::process::id()]
        }
    }

    fn read_log(
        &self,
        unit: &UnitId,
        offset: u64,
        max: usize,
    ) -> Result<(u64, Vec<u8>), DriverError> {
        let state = self.unless_hanging(unit);
        if !state.units.contains_key(unit) {
            return Err(DriverError::NotYet(format!("{unit} is not here")));
        }
        let text = b"hello\n";
        let from = usize::try_from(offset).map_or(text.len(), |from| from.min(text.len()));
        let to = text.len().min(from.saturating_add(max));
        Ok((from as u64, text[from..to].to_vec()))
    }

    fn sample(&self) -> Vec<Sample> {
        drop(self.changed.wait_while(self.state(), |state| state.is_mute));
        vec![Sample {
            name: "cell_iterations_total".into(),
            labels: [("org".to_owned(), "acme".to_owned())].into(),
            at_ms: 1,
            value: 7.0,
        }]
    }
}

/// Runs `args` of a unit as a process. What runs is in a file for each unit: process number, start time, and the spec.
#[derive(Debug)]
pub(super) struct Processes {
    folder: PathBuf,
    /// Those that were started here and must be waited for.
    children: Mutex<Vec<Child>>,
}

struct Running {
    pid: u32,
    started: String,
    spec: UnitSpec,
}

impl Processes {
    pub(super) fn new(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).expect("room");
        Self {
            folder,
            children: Mutex::default(),
        }
    }

    fn file(&self, unit: &UnitId) -> PathBuf {
        self.folder.join(unit.as_str().replace('/', "."))
    }

    fn known(&self) -> Vec<Running> {
        for child in self.children().iter_mut() {
            child.try_wait().expect("it is ours");
        }
        let entries = fs::read_dir(&self.folder).expect("a folder");
        let read = |path: PathBuf| {
            let text = fs::read_to_string(path).ok()?;
            let mut lines = text.lines();
            Some(Running {
                pid: lines.next()?.parse().ok()?,
                started: lines.next()?.to_owned(),
                spec: serde_json::from_str(lines.next()?).ok()?,
            })
        };
        entries
            .filter_map(|entry| read(entry.ok()?.path()))
            .collect()
    }

    fn find(&self, unit: &UnitId) -> Option<Running> {
        self.known()
            .into_iter()
            .find(|running| running.spec.id == *unit)
    }

    fn children(&self) -> MutexGuard<'_, Vec<Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The start time of a process that has not ended; a process number alone may mean another one by now.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    (!matches!(fields[0], "Z" | "X")).then(|| fields[19].to_owned())
}

impl Running {
    fn is_alive(&self) -> bool {
        start_time(self.pid).as_ref() == Some(&self.started)
    }
}

impl Driver for Processes {
    fn kind(&self) -> &'static str {
        "cell"
    }

    fn caps(&self) -> Caps {
        Caps::default()
    }

    fn ensure(&self, spec: &UnitSpec, _offers: &Offers) -> Result<(), DriverError> {
        if let Some(known) = self.find(&spec.id) {
            fence(spec, known.spec.epoch)?;
            if known.spec.epoch == spec.epoch {
                return Ok(());
            }
            self.stop(&spec.id)?;
        }
        let Kind::Cell(cell) = &spec.kind;
        let child = Command::new(&cell.args[0])
            .args(&cell.args[1..])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|source| DriverError::Io {
                context: format!("start {:?}", cell.args),
                source,
            })?;
        let started = start_time(child.id()).unwrap_or_default();
        let json = serde_json::to_string(spec).expect("JSON");
        let text = format!("{}\n{started}\n{json}\n", child.id());
        self.children().push(child);
        let partial = self.folder.join("partial");
        fs::write(&partial, text)
            .and_then(|()| fs::rename(&partial, self.file(&spec.id)))
            .map_err(|source| DriverError::Io {
                context: "remember the process".into(),
                source,
            })
    }

    fn stop(&self, unit: &UnitId) -> Result<(), DriverError> {
        let Some(known) = self.find(unit) else {
            return Ok(());
        };
        let began = rt::now();
        while known.is_alive() {
            let pid = i32::try_from(known.pid).ok().and_then(Pid::from_raw);
            kill_process(pid.expect("a process number"), Signal::KILL).ok();
            if began.elapsed() > PATIENCE {
                return Err(DriverError::NotYet(format!("{unit} does not end")));
            }
            self.known();
        }
        fs::remove_file(self.file(unit)).map_err(|source| DriverError::Io {
            context: "forget the process".into(),
            source,
        })
    }

    fn observe(&self) -> Vec<Observed> {
        let phase = |running: &Running| match running.is_alive() {
            true => Phase::Running,
            false => Phase::Failed,
        };
        let known = self.known();
        known
            .iter()
            .map(|running| observed(&running.spec, phase(running)))
            .collect()
    }

    fn pids(&self) -> Vec<u32> {
        let known = self.known().into_iter();
        known
            .filter(Running::is_alive)
            .map(|running| running.pid)
            .collect()
    }

    fn read_log(
        &self,
        unit: &UnitId,
        offset: u64,
        _max: usize,
    ) -> Result<(u64, Vec<u8>), DriverError> {
        match self.find(unit) {
            Some(_) => Ok((offset, Vec::new())),
            None => Err(DriverError::NotYet(format!("{unit} is not here"))),
        }
    }

    fn sample(&self) -> Vec<Sample> {
        Vec::new()
    }
}

/// Units outlive the drivers of both kinds; a simulated driver lives in one process, so another one is the same.
#[derive(Debug)]
struct Again(std::sync::Arc<Simulated>);

impl Driver for Again {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }
    fn caps(&self) -> Caps {
        self.0.caps()
    }
    fn ensure(&self, spec: &UnitSpec, offers: &Offers) -> Result<(), DriverError> {
        self.0.ensure(spec, offers)
    }
    fn stop(&self, unit: &UnitId) -> Result<(), DriverError> {
        self.0.stop(unit)
    }
    fn observe(&self) -> Vec<Observed> {
        self.0.observe()
    }
    fn pids(&self) -> Vec<u32> {
        self.0.pids()
    }
    fn read_log(&self, unit: &UnitId, at: u64, max: usize) -> Result<(u64, Vec<u8>), DriverError> {
        self.0.read_log(unit, at, max)
    }
    fn sample(&self) -> Vec<Sample> {
        self.0.sample()
    }
}

fn check(start: &dyn Fn() -> Box<dyn Driver>) {
    contract::check(&contract::Subject {
        start,
        endless: spec(0, 1),
        patience: Duration::from_secs(60),
    });
}

#[test]
fn simulated_units_keep_the_contract() {
    let simulated = std::sync::Arc::<Simulated>::default();
    check(&|| Box::new(Again(std::sync::Arc::clone(&simulated))));
}

#[test]
fn processes_keep_the_contract() {
    let dir = tempfile::tempdir().expect("a folder");
    check(&|| Box::new(Processes::new(dir.path().to_owned())));
}
