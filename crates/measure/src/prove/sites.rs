//! Schedules of faults over a whole platform: its processes are killed, stopped and cut off from each other while a program moves between
//! the sites. The program must write what it writes where nothing happens, each rank once and in order.

use std::fs;
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ids::{Labels, Name, Selector};
use nbi::{
    Block, BlockKind, CellDeployment, Checkpoints, Client, Limits, Metadata, MigrationSpec, Mount,
    Placement, Service, ServiceSpec, Target, UnitStatus,
};
use platform::{Plan, Platform};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open, pidfd_send_signal,
};

use super::super::bench::{Scratch, Setting, programs};
use super::Found;
use super::chance::{Random, wait};
use crate::Config;

const RANKS: u32 = 4;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Everything is in order again so long after the last fault.
const CONVERGES_WITHIN: Duration = workload::link::PERIOD.saturating_mul(3);
/// What a process that was killed had written may still arrive.
const STEPS_ON_THE_WAY: usize = 5;
/// The program, which makes a step in more than a millisecond, does not make so many before it sees that it shall end.
const STEPS_TO_GO: usize = 200;
/// Between two cuts of a link that is cut for a while.
const CUT_AGAIN: Duration = Duration::from_millis(20);

/// A platform, and the program that is disturbed on it.
pub(super) struct Stage {
    platform: Option<Platform>,
    client: Client,
    scratch: Scratch,
    wasm: Vec<u8>,
    module: String,
    /// What each rank writes when nothing happens, as far as it was computed.
    reference: Vec<Vec<String>>,
}

/// What one schedule has done.
#[derive(Debug, Default)]
struct Done {
    /// In words.
    faults: Vec<String>,
    /// Processes that hold ranks were killed: the world may have begun again.
    is_killed: bool,
}

/// A fault, at some process.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    /// Stopped for a while.
    Stop(Duration),
    /// Every connection that it has is broken, again and again for a while.
    Cut(Duration),
}

impl Stage {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let setting = Setting {
            config,
            dir: &scratch.path,
            is_quick: false,
            peer: None,
        };
        let wasm = programs::compile_cell(&setting, "proofs/gated.c", &[])?;
        let any = ([127, 0, 0, 1], 0).into();
        let platform = Platform::start(&Plan {
            dir: scratch.path.join("platform"),
            nbi: any,
            link: any,
            mountable: vec![scratch.path.clone()],
            log: "error".into(),
        })?;
        let client = platform.client()?;
        Ok(Self {
            module: client.put_module(&wasm)?,
            platform: Some(platform),
            client,
            scratch,
            wasm,
            reference: Vec::new(),
        })
    }

    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.platform.take().map_or(Ok(()), Platform::stop)
    }

    /// Plays the schedule of a seed; returns its faults, and what is wrong.
    pub(super) fn play(&mut self, config: &Config, seed: u64) -> anyhow::Result<Found> {
        let name = format!("proof-{seed}");
        let mut random = Random(seed);
        let gate = self.scratch.path.join(&name);
        fs::create_dir(&gate)?;
        self.until("accepted", || {
            Ok(self.client.apply(&self.service(&name, &gate)?).is_ok())
        })?;
        self.until("running", || {
            Ok(self.unit(&name)?.is_some_and(|unit| is_at_one_site(&unit)))
        })?;
        let done = self.disturb(&name, &mut random)?;
        let healed = rt::now();
        let n_bytes = self.written(&name, 0)?.len() as u64;
        let is_in_order = || {
            let migrations = self.client.migrations()?;
            let mut ours = migrations
                .iter()
                .filter(|m| m.spec.service.as_str() == name);
            let is_final = |m: &nbi::Migration| {
                ["Succeeded", "RolledBack", "Failed"].contains(&m.status.phase.as_str())
            };
            let is_so =
                ours.all(is_final) && self.unit(&name)?.is_some_and(|unit| is_at_one_site(&unit));
            // What is reported may be older than the last fault. A world that began again is where it was when it writes more.
            let more = || anyhow::Ok(by_rank(&self.written(&name, n_bytes)?));
            Ok(is_so && more()?.iter().all(|lines| lines.len() > STEPS_ON_THE_WAY))
        };
        self.until("in order again", is_in_order)?;
        let took = healed.elapsed();
        let restarts = self.unit(&name)?.map_or(0, |unit| unit.restarts);
        let n_steps = self.open(&name, &gate)?;
        self.until("over", || {
            Ok(self
                .unit(&name)?
                .is_some_and(|unit| unit.phase == "Succeeded"))
        })?;
        // What was written wrongly is worse than what took long.
        let mut problem = self.compare(config, &name, n_steps)?;
        if restarts > 0 && !done.is_killed {
            problem = problem.or(Some(format!(
                "it began again {restarts} times, and nothing that holds ranks was killed"
            )));
        } else if took > CONVERGES_WITHIN {
            problem = problem.or(Some(format!("in order again only after {took:.1?}")));
        }
        let problem = problem.map(|problem| format!("{problem}; {}", done.faults.join(", ")));
        let deleted = self.client.delete(&name)?;
        self.until("deleted", || {
            Ok(self.client.operation(&deleted.id)?.done_at_ms.is_some())
        })?;
        Ok(Found {
            value: done.faults.len(),
            runs: 1,
            problem,
            note: None,
        })
    }

    /// Moves the program, and has faults happen before, while and after it moves.
    fn disturb(&self, name: &str, random: &mut Random) -> anyhow::Result<Done> {
        let mut done = Done::default();
        let mut stopped: Vec<(u32, Instant)> = Vec::new();
        let mut cut: Vec<(u32, Instant)> = Vec::new();
        let mut asking = Vec::new();
        for _ in 0..=random.below(3) {
            let to = ["edge", "cloud"][usize::from(random.below(3) > 0)];
            let spec = MigrationSpec {
                service: name.parse()?,
                block: None,
                to: Target::Site(to.parse()?),
                ranks: None,
                deadline: None,
                reason: None,
            };
            let client = self.client.clone();
            // Whoever is asked may be stopped, and goes on only if this does.
            asking.push(rt::thread("ask".into(), 1 << 20, move || {
                // It may be there already, or moving, or there is nobody to ask.
                client.migrate(&spec).ok();
            })?);
            for _ in 0..=random.below(3) {
                self.pause(random.millis(60), &mut stopped, &mut cut);
                let pids = self.processes(name);
                let Some((pid, what)) =
                    pids.get(usize::try_from(random.below(pids.len().max(1) as u64))?)
                else {
                    continue;
                };
                let for_a_while = match random.below(6) {
                    // Until everybody has noticed.
                    0 => Duration::from_millis(400) + random.millis(2_500),
                    _ => random.millis(400),
                };
                let fault = match random.below(3) {
                    0 => Fault::Kill,
                    1 => Fault::Stop(for_a_while),
                    _ => Fault::Cut(for_a_while),
                };
                match fault {
                    Fault::Kill => {
                        done.is_killed |= what.contains('/');
                        signal(*pid, Signal::KILL);
                    }
                    Fault::Stop(time) => {
                        signal(*pid, Signal::STOP);
                        stopped.push((*pid, rt::now() + time));
                    }
                    Fault::Cut(time) => cut.push((*pid, rt::now() + time)),
                }
                done.faults.push(format!("{fault:?} {what}"));
            }
        }
        while !stopped.is_empty() || !cut.is_empty() {
            self.pause(CUT_AGAIN, &mut stopped, &mut cut);
        }
        for asks in asking {
            asks.join().ok().context("ask for a move")?;
        }
        Ok(done)
    }

    /// Lets time pass. What is stopped goes on in time, and links are cut as long as they shall be.
    fn pause(
        &self,
        time: Duration,
        stopped: &mut Vec<(u32, Instant)>,
        cut: &mut Vec<(u32, Instant)>,
    ) {
        let end = rt::now() + time;
        loop {
            let now = rt::now();
            stopped.retain(|(pid, until)| {
                let is_over = *until <= now;
                if is_over {
                    signal(*pid, Signal::CONT);
                }
                !is_over
            });
            cut.retain(|(_, until)| *until > now);
            for (pid, _) in &*cut {
                // It may have ended.
                cut_off(*pid).ok();
            }
            let left = end.saturating_duration_since(now);
            if left.is_zero() {
                return;
            }
            wait(left.min(CUT_AGAIN));
        }
    }

    /// The processes of the platform, by name, and of the cells of a service, by their directory.
    fn processes(&self, service: &str) -> Vec<(u32, String)> {
        let parts = self.platform.iter().flat_map(Platform::pids);
        let mut found: Vec<_> = parts.map(|(name, pid)| (pid, name.to_owned())).collect();
        for site in ["edge", "cloud"] {
            let units = self
                .scratch
                .path
                .join("platform/sites")
                .join(site)
                .join("cells/units");
            let mut files = Vec::new();
            process_files(&units.join(format!("local.{service}.run.0")), &mut files);
            for file in files {
                let dir = file
                    .strip_prefix(&units)
                    .unwrap_or(&file)
                    .with_file_name("");
                // One that has ended may have left its file.
                if let Some(pid) = pid_of(&file).ok().filter(|pid| is_ours(*pid)) {
                    found.push((pid, format!("{site}:{}", dir.display())));
                }
            }
        }
        found
    }

    fn unit(&self, name: &str) -> anyhow::Result<Option<UnitStatus>> {
        Ok(self.client.units(name)?.into_iter().next())
    }

    /// Asks until it is so. Who cannot be asked is asked again.
    fn until(
        &self,
        what: &str,
        mut is_so: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let began = rt::now();
        let mut last = None;
        while began.elapsed() < PATIENCE {
            match is_so() {
                Ok(true) => return Ok(()),
                Ok(false) => last = None,
                Err(error) => last = Some(error),
            }
            wait(Duration::from_millis(10));
        }
        bail!("it is not {what} after {PATIENCE:?}: {last:?}")
    }

    fn service(&self, name: &str, gate: &Path) -> anyhow::Result<Service> {
        let cell = CellDeployment {
            module: self.module.clone(),
            ranks: RANKS,
            args: Vec::new(),
            env: Default::default(),
            mounts: vec![Mount {
                path: "/gate".into(),
                source: format!("file://{}", gate.display()),
            }],
            checkpoints: Some(Checkpoints {
                every: "100ms".into(),
            }),
            limits: Limits::default(),
        };
        let site_selector = Selector {
            match_labels: Labels::from([("tier".into(), "edge".into())]),
        };
        Ok(Service {
            api_version: nbi::API_VERSION.into(),
            kind: "Service".into(),
            metadata: Metadata {
                name: name.parse::<Name>()?,
                labels: Labels::new(),
                id: None,
                resource_version: None,
                generation: None,
                created_at: None,
            },
            spec: ServiceSpec {
                blocks: vec![Block {
                    name: "run".parse()?,
                    replicas: 1,
                    placement: Placement {
                        site_selector,
                        migrate_to: None,
                    },
                    kind: BlockKind::CellDeployment(cell),
                    kpi: None,
                    policy: None,
                }],
            },
            status: None,
        })
    }

    /// What the program has written from an offset on.
    fn written(&self, name: &str, offset: u64) -> anyhow::Result<String> {
        let mut log = String::new();
        self.until("to be read", || {
            let mut reader = self.client.logs(name, None, offset, false);
            log = std::io::read_to_string(&mut reader)?;
            Ok(true)
        })?;
        Ok(log)
    }

    /// Has the program end some steps from now: after as many steps as are returned, though it may still have to begin again.
    fn open(&self, name: &str, gate: &Path) -> anyhow::Result<usize> {
        let log = self.written(name, 0)?;
        let n_steps = by_rank(&log).iter().map(Vec::len).max().unwrap_or(0) + STEPS_TO_GO;
        fs::write(gate.join("partial"), n_steps.to_string())?;
        fs::rename(gate.join("partial"), gate.join("open"))?;
        Ok(n_steps)
    }

    /// Compares what each rank has written with what it writes where nothing happens.
    fn compare(
        &mut self,
        config: &Config,
        name: &str,
        n_steps: usize,
    ) -> anyhow::Result<Option<String>> {
        let log = std::io::read_to_string(self.client.logs(name, None, 0, true))?;
        let ranks = by_rank(&log);
        if self
            .reference
            .first()
            .is_none_or(|lines| lines.len() < n_steps)
        {
            self.reference = self.undisturbed(config, 2 * n_steps)?;
        }
        for (rank, (lines, wanted)) in ranks.iter().zip(&self.reference).enumerate() {
            if let Some((line, wanted)) = lines
                .iter()
                .zip(wanted)
                .find(|(line, wanted)| line != wanted)
            {
                return Ok(Some(format!("`{line}`, not `{wanted}`")));
            }
            if lines.len() != n_steps {
                return Ok(Some(format!(
                    "rank {rank} wrote {} lines, not {n_steps}",
                    lines.len()
                )));
            }
        }
        Ok(None)
    }

    fn undisturbed(&self, config: &Config, n_steps: usize) -> anyhow::Result<Vec<Vec<String>>> {
        let setting = Setting {
            config,
            dir: &self.scratch.path,
            is_quick: false,
            peer: None,
        };
        let world = programs::world(&setting, &self.wasm, vec![n_steps.to_string()])?;
        let (_, output) = programs::run_world(cells::world::World {
            n_ranks: RANKS,
            ..world
        })?;
        Ok(by_rank(&output))
    }
}

fn is_at_one_site(unit: &UnitStatus) -> bool {
    let first = unit.ranks.first().map(|rank| &rank.site);
    unit.phase == "Running"
        && unit.ranks.len() == RANKS as usize
        && unit.ranks.iter().all(|rank| Some(&rank.site) == first)
}

/// Each line names its rank: `rank 2 step …`.
fn by_rank(output: &str) -> Vec<Vec<String>> {
    let mut ranks = vec![Vec::new(); RANKS as usize];
    for line in output.lines() {
        let rank = line
            .split(' ')
            .nth(1)
            .and_then(|rank| rank.parse::<usize>().ok());
        if let Some(lines) = rank.and_then(|rank| ranks.get_mut(rank)) {
            lines.push(line.to_owned());
        }
    }
    ranks
}

fn process_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            process_files(&path, found);
        } else if path.ends_with("process.json") {
            found.push(path);
        }
    }
}

fn pid_of(file: &Path) -> anyhow::Result<u32> {
    let process: serde_json::Value = serde_json::from_slice(&fs::read(file)?)?;
    let pid = process["pid"].as_u64().context("a process has a number")?;
    Ok(pid.try_into()?)
}

/// Whether a process is of this program: numbers are used again.
fn is_ours(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains("\0cell\0")
}

fn pidfd(pid: u32) -> anyhow::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    Ok(pidfd_open(
        pid.context("a process has a number")?,
        PidfdFlags::empty(),
    )?)
}

fn signal(pid: u32, signal: Signal) {
    // It may have ended.
    if let Ok(process) = pidfd(pid) {
        pidfd_send_signal(process, signal).ok();
    }
}

/// Breaks every TCP connection that a process has.
fn cut_off(pid: u32) -> anyhow::Result<()> {
    let process = pidfd(pid)?;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        let is_socket =
            fs::read_link(&path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let (true, Some(number)) = (is_socket, number) else {
            continue;
        };
        // It may have been closed meanwhile.
        let Ok(socket) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        let socket = TcpStream::from(socket);
        // Listeners and sockets of other families have no such peer.
        if socket.peer_addr().is_ok() {
            socket.shutdown(Shutdown::Both).ok();
        }
    }
    Ok(())
}
