//! Units that span sites: their processes are started by drivers in this process, which stand for the agents of two sites, and what they
//! offer each other is passed on here.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use auth::KeyRequest;
use cells::driver::{CellDriver, Config};
use cells::host::HostConfig;
use cells::world::admin::{self, Admission, Answer, Request};
use cells::world::process::{End, Outcome, WorldFile};
use ids::{Epoch, Name, UnitId};
use it::Ended;
use tempfile::TempDir;
use workload::{
    CellSpec, Driver as _, Kind, Limits, Mount, Observed, Offers, Phase, RankAt, UnitSpec, contract,
};

use crate::programs::compiled;
use crate::site::{Site, expect_same, open_gate};

const SITES: [&str; 2] = ["edge", "cloud"];

/// Two sites and a unit that is at home at the first.
struct Span {
    dir: TempDir,
    spec: UnitSpec,
    drivers: BTreeMap<Name, CellDriver>,
    /// Between the coordinator and the hosts of other sites, if it is to be cut.
    wire: Option<Wire>,
}

impl Span {
    fn new(program: &str, ranks: u32, wire: Option<Wire>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut spec = unit(program, ranks)?;
        let gate = dir.path().join("gate");
        fs::create_dir(&gate)?;
        let Kind::Cell(cell) = &mut spec.kind;
        cell.mounts.push(Mount {
            path: "/gate".into(),
            source: format!("file://{}", gate.display()),
        });
        let mut span = Self {
            dir,
            spec,
            drivers: BTreeMap::new(),
            wire,
        };
        for site in SITES {
            let driver = span.driver(site)?;
            span.drivers.insert(name(site), driver);
        }
        Ok(span)
    }

    fn driver(&self, site: &str) -> Result<CellDriver> {
        let Kind::Cell(CellSpec { module, .. }) = &self.spec.kind;
        driver(&self.dir.path().join(site), site, module.as_str())
    }

    /// What every agent does all the time: brings its part closer to the spec, with the offers of the others.
    fn pass(&self) -> Result<Vec<Observed>> {
        let observed: BTreeMap<_, _> = self
            .drivers
            .iter()
            .flat_map(|(site, driver)| Some((site, driver.observe().pop()?)))
            .collect();
        for (site, driver) in &self.drivers {
            // A site is kept until its last rank is known to have left it.
            let is_left = |seen: &Observed| {
                !seen.ranks.is_empty() && seen.ranks.iter().all(|rank| rank.site != *site)
            };
            if !self.spec.sites().any(|part| part == site) && observed.values().any(is_left) {
                // It is asked again.
                driver.stop(&self.spec.id).ok();
                continue;
            }
            let others = observed.iter().filter(|(other, _)| **other != site);
            let offers: Offers = others
                .filter_map(|(other, seen)| Some(((*other).clone(), seen.offer.clone()?)))
                .map(|(other, offer)| (other, self.through_wire(offer)))
                .collect();
            driver.ensure(&self.spec, &offers)?;
        }
        Ok(observed.into_values().collect())
    }

    /// Hosts of other sites reach the coordinator by the wire, if there is one.
    fn through_wire(&self, offer: String) -> String {
        let Ok(mut value) = serde_json::from_str::<serde_json::Value>(&offer) else {
            return offer;
        };
        let Some(wire) = &self.wire else { return offer };
        if let Some(coordinator) = value.pointer_mut("/home/coordinator") {
            if let Some(address) = coordinator.as_str().and_then(|at| at.parse().ok()) {
                wire.lead_to(address);
            }
            *coordinator = wire.address.to_string().into();
        }
        value.to_string()
    }

    /// Passes offers on until the home's part of the unit is as wanted.
    fn wait(&self, what: &str, is_so: impl Fn(&Observed) -> bool) -> Result<Observed> {
        let mut last = Vec::new();
        let began = rt::now();
        while began.elapsed() < it::DEADLINE {
            last = self.pass()?;
            if let Some(seen) = last.iter().find(|seen| seen.is_home && is_so(seen)) {
                return Ok(seen.clone());
            }
            if last
                .iter()
                .any(|seen| seen.is_home && seen.phase.is_final())
            {
                bail!("it ended before {what}: {last:?}");
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        bail!("nothing came of waiting for {what}: {last:?}")
    }

    /// Places all ranks at a site, and waits until they are there.
    fn move_to(&mut self, site: &str) -> Result<Observed> {
        self.spec.placement.fill(name(site));
        self.wait(site, |seen| is_at(site, seen))
    }

    /// From then on the world has something to begin again from.
    fn wait_for_checkpoint(&self) -> Result<()> {
        let units = self.dir.path().join(SITES[0]).join("units");
        let is_there = || {
            let unit = fs::read_dir(&units).ok()?.next()?.ok()?;
            let checkpoints = fs::read_dir(unit.path().join("e1/checkpoints")).ok()?;
            let mut names = checkpoints.flatten().map(|entry| entry.file_name());
            names.find(|name| {
                name.to_str()
                    .is_some_and(|name| name.parse::<u32>().is_ok())
            })
        };
        self.wait("a checkpoint", |_| is_there().is_some())?;
        Ok(())
    }

    /// Lets the program end, and expects that it has written what it writes where nothing moves.
    fn finish(&self) -> Result<()> {
        let ranks = self.spec.placement.len();
        let so_far = self.read_log()?;
        open_gate(
            &self.dir.path().join("gate"),
            so_far.lines().count().div_ceil(ranks),
        )?;
        let seen = self.wait("its end", |seen| seen.phase.is_final())?;
        let log = self.read_log()?;
        ensure!(seen.log_bytes == log.len() as u64, "{} bytes", log.len());
        let ended = Ended {
            code: seen.exit_code,
            stdout: log,
            stderr: format!("{seen:?}"),
        };
        let n_steps = ended.stdout.lines().count() / ranks;
        let options = format!("-n {ranks}");
        let still = Site::new()?.run_well(&options, &compiled("gated")?, &n_steps.to_string())?;
        expect_same(&ended, &still.stdout)
    }

    /// All that is written.
    fn read_log(&self) -> Result<String> {
        let home = &self.drivers[&self.spec.home];
        let mut log = Vec::new();
        loop {
            let (at, piece) = home.read_log(&self.spec.id, log.len() as u64, 1 << 20)?;
            ensure!(at == log.len() as u64, "the log has a gap at {at}");
            if piece.is_empty() {
                return Ok(String::from_utf8(log)?);
            }
            log.extend(piece);
        }
    }

    /// Expects that a site tells how long an iteration takes.
    fn expect_iterations(&self, site: &str) -> Result<()> {
        let driver = &self.drivers[&name(site)];
        let began = rt::now();
        while began.elapsed() < it::DEADLINE {
            let samples = driver.sample();
            let mut samples = samples.iter();
            if let Some(mean) = samples.find(|sample| sample.name == "cell_iteration_seconds") {
                let labels = (&*mean.labels["rank"], &*mean.labels["key"]);
                ensure!(labels == ("0", "MPI_Allreduce/world/-"), "{mean:?}");
                ensure!(mean.value > 0.0 && mean.value < 10.0, "{mean:?}");
                return Ok(());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        bail!("{site} tells of no iterations")
    }

    /// The processes at a site. The driver knows them when it has looked at them, which it does a few times a second.
    fn pids(&self, site: &str) -> Vec<u32> {
        let began = rt::now();
        loop {
            let pids = self.drivers[&name(site)].pids();
            if !pids.is_empty() || began.elapsed() > it::DEADLINE {
                return pids;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// As if the agents had been killed and started again.
    fn restart_agents(&mut self) -> Result<()> {
        for site in SITES {
            let driver = self.driver(site)?;
            let earlier = self.drivers.insert(name(site), driver);
            // A process that is killed tidies nothing up.
            std::mem::forget(earlier);
        }
        Ok(())
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let began = rt::now();
        let stop = |driver: &CellDriver| driver.stop(&self.spec.id).is_ok();
        while !self.drivers.values().all(stop) && began.elapsed() < it::DEADLINE {}
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn is_at(site: &str, seen: &Observed) -> bool {
    let is_there = |rank: &RankAt| {
        let has_arrived = rank.site.as_str() == site && rank.state != "moving";
        has_arrived || rank.state == "ended"
    };
    seen.phase == Phase::Running && !seen.ranks.is_empty() && seen.ranks.iter().all(is_there)
}

/// A unit whose module is called what its digest begins with: whoever starts it looks it up by name.
fn unit(program: &str, ranks: u32) -> Result<UnitSpec> {
    let module = format!("{program:-<64}").replace(|c: char| !c.is_ascii_hexdigit(), "0");
    MODULES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(module.clone(), compiled(program)?);
    Ok(UnitSpec {
        id: UnitId::new(&name("acme"), &name("span"), &name("block"), 0),
        epoch: Epoch(1),
        kind: Kind::Cell(CellSpec {
            module: module.parse()?,
            ranks,
            args: Vec::new(),
            env: BTreeMap::new(),
            mounts: Vec::new(),
            iteration: None,
            checkpoint_every_ms: None,
            limits: Limits {
                memory_bytes_max: 64 << 20,
                log_bytes_max: 64 << 20,
            },
        }),
        home: name(SITES[0]),
        placement: vec![name(SITES[0]); ranks as usize],
    })
}

static MODULES: Mutex<BTreeMap<String, std::path::PathBuf>> = Mutex::new(BTreeMap::new());

fn driver(dir: &Path, site: &str, module: &str) -> Result<CellDriver> {
    let modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    let path = modules.get(module).context("it was compiled")?.clone();
    let config = Config {
        dir: dir.to_owned(),
        site: name(site),
        program: it::cloudskin(),
        log: "warn".into(),
        listen: Ipv4Addr::LOCALHOST.into(),
        modules: Arc::new(move |_| Some(path.clone())),
        mountable: vec![fs::canonicalize(std::env::temp_dir())?],
    };
    Ok(CellDriver::new(config)?)
}

#[test]
fn a_unit_moves_to_another_site_and_back() -> Result<()> {
    let mut span = Span::new("gated", 4, None)?;
    span.wait("its beginning", |seen| {
        is_at(SITES[0], seen) && seen.log_bytes > 0
    })?;
    let there = span.move_to(SITES[1])?;
    ensure!(there.n_moves == 4 && there.moves.len() == 4, "{there:?}");
    let host = span.pids(SITES[1]);
    ensure!(host.len() == 1, "one process serves the unit: {host:?}");
    span.expect_iterations(SITES[1])?;
    // Agents die, and nothing else does.
    let before = span.pids(SITES[0]);
    span.restart_agents()?;
    let back = span.move_to(SITES[0])?;
    ensure!(back.n_moves == 8 && back.restarts == 0, "{back:?}");
    let after = span.pids(SITES[0]);
    ensure!(before == after, "{before:?} {after:?}");
    span.finish()
}

#[test]
fn a_link_that_is_cut_again_and_again_loses_nothing() -> Result<()> {
    let wire = Wire::new()?;
    let mut span = Span::new("gated", 3, Some(wire.clone()))?;
    span.move_to(SITES[1])?;
    for round in 0..6 {
        // Each connection lives for some kilobytes, cut wherever that is.
        let n_cuts = wire.n_cuts();
        wire.cut_after(30_011 + round * 7_001);
        span.wait("a cut", |_| wire.n_cuts() > n_cuts)?;
        span.spec.placement[0] = name(SITES[0]);
        span.wait("one rank at home", |seen| {
            seen.phase == Phase::Running && seen.ranks[0].site == name(SITES[0])
        })?;
        span.move_to(SITES[1])?;
    }
    wire.cut_after(u64::MAX);
    span.finish()
}

#[test]
fn a_site_that_cannot_be_reached_runs_on_and_nothing_is_restarted() -> Result<()> {
    let wire = Wire::new()?;
    let mut span = Span::new("gated", 2, Some(wire.clone()))?;
    span.move_to(SITES[1])?;
    wire.cut_after(0);
    span.wait("the cut", |seen| seen.phase == Phase::Unreachable)?;
    // Nothing can be moved now, and nobody is told so but by the status.
    span.spec.placement.fill(name(SITES[0]));
    span.pass()?;
    wire.cut_after(u64::MAX);
    let back = span.move_to(SITES[0])?;
    ensure!(back.restarts == 0, "{back:?}");
    span.finish()
}

#[test]
fn a_world_process_that_is_killed_goes_on_from_its_checkpoint() -> Result<()> {
    let mut span = Span::new("gated", 4, None)?;
    let Kind::Cell(cell) = &mut span.spec.kind;
    cell.checkpoint_every_ms = Some(100);
    span.move_to(SITES[1])?;
    span.wait_for_checkpoint()?;
    let world = span.pids(SITES[0])[0];
    it::kill(world.into())?;
    let again = span.wait("a restart", |seen| {
        seen.restarts == 1 && is_at(SITES[1], seen)
    })?;
    ensure!(again.n_moves > 0, "{again:?}");
    span.finish()
}

#[test]
fn ranks_that_die_with_their_site_begin_again_or_are_lost() -> Result<()> {
    for has_checkpoints in [true, false] {
        let mut span = Span::new("gated", 4, None)?;
        let Kind::Cell(cell) = &mut span.spec.kind;
        cell.checkpoint_every_ms = has_checkpoints.then_some(100);
        span.move_to(SITES[1])?;
        if has_checkpoints {
            span.wait_for_checkpoint()?;
        }
        it::kill(span.pids(SITES[1])[0].into())?;
        if has_checkpoints {
            span.wait("a restart", |seen| {
                seen.restarts == 1 && is_at(SITES[1], seen)
            })?;
            span.finish()?;
        } else {
            let seen = span.wait("the loss", |seen| seen.phase == Phase::Lost)?;
            ensure!(seen.reason.contains("died"), "{seen:?}");
        }
    }
    Ok(())
}

#[test]
fn a_site_that_was_left_can_be_used_again() -> Result<()> {
    let mut span = Span::new("gated", 2, None)?;
    span.move_to(SITES[1])?;
    // One rank keeps the site in the placement.
    span.spec.placement[0] = name(SITES[0]);
    span.wait("one rank", |seen| {
        seen.phase == Phase::Running && seen.ranks[0].site == name(SITES[0])
    })?;
    span.spec.placement[1] = name(SITES[0]);
    span.wait("the other", |seen| is_at(SITES[0], seen))?;
    let moved = span.move_to(SITES[1])?;
    ensure!(moved.restarts == 0, "{moved:?}");
    span.finish()
}

#[test]
fn a_process_that_is_stopped_is_said_not_to_answer_and_goes_on_later() -> Result<()> {
    let span = Span::new("endless", 1, None)?;
    span.wait("its beginning", |seen| is_at(SITES[0], seen))?;
    let pids = span.pids(SITES[0]);
    ensure!(pids.len() == 2, "a world and its host: {pids:?}");
    for pid in pids {
        it::signal(pid.into(), "STOP")?;
        span.wait("silence", |seen| seen.phase == Phase::Unresponsive)?;
        it::signal(pid.into(), "CONT")?;
        let seen = span.wait("an answer", |seen| is_at(SITES[0], seen))?;
        ensure!(seen.restarts == 0, "{seen:?}");
    }
    Ok(())
}

#[test]
fn the_driver_of_cells_keeps_its_contract() -> Result<()> {
    let endless = unit("endless", 1)?;
    let Kind::Cell(CellSpec { module, .. }) = &endless.kind;
    let dir = tempfile::tempdir()?;
    // Longer than an address of a socket may be.
    let deep = dir.path().join("a-long-name-of-a-directory".repeat(6));
    contract::check(&contract::Subject {
        start: &|| Box::new(driver(&deep, SITES[0], module.as_str()).expect("a driver")),
        endless: endless.clone(),
        patience: it::DEADLINE,
    });
    Ok(())
}

/// A world in a directory, to which this process is the only other site.
struct Alone {
    dir: TempDir,
    world: Child,
    hosts: Vec<Child>,
}

impl Alone {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let gate = dir.path().join("gate");
        fs::create_dir(&gate)?;
        let file = WorldFile {
            version: WorldFile::VERSION,
            name: "gated".into(),
            module: compiled("gated")?,
            ranks: 1,
            args: vec!["gated".into()],
            env: Vec::new(),
            mounts: vec![("/gate".into(), gate)],
            memory_bytes_max: 64 << 20,
            log_bytes_max: 1 << 20,
            code_dir: dir.path().join("code"),
            checkpoint_every_ms: None,
            label: SITES[0].into(),
            listen: Ipv4Addr::LOCALHOST.into(),
        };
        let world_dir = dir.path().join("world");
        fs::create_dir(&world_dir)?;
        file.save(&world_dir)?;
        let world = Command::new(it::cloudskin())
            .args(["cell", "world", "--dir"])
            .arg(&world_dir)
            .spawn()?;
        Ok(Self {
            dir,
            world,
            hosts: Vec::new(),
        })
    }

    fn ask(&self, request: &Request) -> Result<Answer> {
        Ok(admin::ask(self.dir.path(), "world", request)?)
    }

    /// Asks until the answer is as wanted.
    fn wait<T>(&self, request: &Request, mut wanted: impl FnMut(Answer) -> Option<T>) -> Result<T> {
        let began = rt::now();
        while began.elapsed() < it::DEADLINE {
            if let Some(found) = self.ask(request).ok().and_then(&mut wanted) {
                return Ok(found);
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        bail!(
            "nothing came of {request:?}: {:?}",
            self.ask(&Request::Status)
        )
    }

    fn admit(&self) -> Result<(KeyRequest, Admission)> {
        let key = KeyRequest::new()?;
        let request = Request::Admit {
            label: SITES[1].into(),
            public_key: key.public_key(),
        };
        let admission = self.wait(&request, |answer| match answer {
            Answer::Admitted(admission) => Some(admission),
            _ => None,
        })?;
        Ok((key, admission))
    }

    /// Starts a host that was admitted, always on the same directory.
    fn start_host(
        &mut self,
        (key, admission): (KeyRequest, Admission),
        fail_point: Option<&str>,
    ) -> Result<()> {
        let dir = self.dir.path().join("host");
        let listen = Ipv4Addr::LOCALHOST.into();
        let dirs = (dir, self.dir.path().join("code"));
        let mut config = HostConfig::admitted(&admission, key, dirs, listen, String::new())
            .mounting(vec![("/gate".into(), self.dir.path().join("gate"))]);
        if let Some(step) = fail_point {
            config = config.failing_at(step);
        }
        let mut host = Command::new(it::cloudskin())
            .args(["cell", "host"])
            .stdin(Stdio::piped())
            .spawn()?;
        config.write(&mut host.stdin.take().context("it was piped")?)?;
        self.hosts.push(host);
        Ok(())
    }

    fn place(&self, site: &str) -> Result<()> {
        let labels = vec![site.to_owned()];
        self.ask(&Request::Place { labels })?;
        Ok(())
    }

    fn wait_for_rank_at(&self, site: &str) -> Result<()> {
        self.wait(&Request::Status, |answer| match answer {
            Answer::Status(status) => {
                (status.ranks[0].label == site && status.unplaced.is_empty()).then_some(())
            }
            _ => None,
        })
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        for process in self.hosts.iter_mut().chain([&mut self.world]) {
            // It may have ended by itself.
            process.kill().ok();
            process.wait().ok();
        }
    }
}

#[test]
fn the_journal_of_a_dead_site_decides_about_a_move() -> Result<()> {
    for (step, arrives) in [
        ("source-frozen", false),
        ("source-recorded", true),
        ("source-committed", true),
    ] {
        let mut alone = Alone::new()?;
        let admitted = alone.admit()?;
        alone.start_host(admitted, Some(step))?;
        alone.place(SITES[1])?;
        alone.wait_for_rank_at(SITES[1])?;
        alone.place(SITES[0])?;
        ensure!(!alone.hosts[0].wait()?.success(), "it kills itself");
        let label = SITES[1].to_owned();
        alone.ask(&Request::Dead {
            label: label.clone(),
        })?;
        let admitted = alone.admit()?;
        if step != "source-committed" {
            // The rank's last site is not wanted any more, and yet only its next host knows where the rank is.
            let released = alone.ask(&Request::Release { label })?;
            ensure!(matches!(released, Answer::Failed(_)), "{released:?}");
        }
        alone.start_host(admitted, None)?;
        if arrives {
            alone.wait_for_rank_at(SITES[0]).context(step)?;
            fs::write(alone.dir.path().join("gate/open"), "")?;
        }
        alone.world.wait()?;
        let outcome = Outcome::read(&alone.dir.path().join("world"))?;
        let end = outcome.context("it has ended")?.end;
        let is_as_wanted = match &end {
            End::Exited(0) => arrives,
            End::Lost(reason) => !arrives && reason.contains("rank 0"),
            _ => false,
        };
        ensure!(is_as_wanted, "{step}: {end:?}");
    }
    Ok(())
}

/// A wire between a host and its coordinator that breaks when it is told to.
#[derive(Clone)]
struct Wire {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Where it leads to.
    to: Mutex<Option<SocketAddr>>,
    /// So many bytes pass on a connection until it breaks; with none, no connection comes about.
    cut_after: AtomicU64,
    n_cuts: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Wire {
    fn new() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        state.cut_after.store(u64::MAX, Ordering::SeqCst);
        let shared = Arc::clone(&state);
        rt::thread("wire".into(), 1 << 20, move || {
            for socket in listener.incoming().flatten() {
                // A side that is gone breaks it, too.
                shared.join(socket).ok();
            }
        })?;
        Ok(Self { address, state })
    }

    fn lead_to(&self, address: SocketAddr) {
        let to = self.state.to.lock();
        *to.unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    fn cut_after(&self, n_bytes: u64) {
        self.state.cut_after.store(n_bytes, Ordering::SeqCst);
        if n_bytes == 0 {
            let mut open = self
                .state
                .open
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for socket in open.drain(..) {
                // It may be closed already.
                socket.shutdown(Shutdown::Both).ok();
            }
        }
    }

    fn n_cuts(&self) -> u64 {
        self.state.n_cuts.load(Ordering::SeqCst)
    }
}

impl State {
    fn join(self: &Arc<Self>, near: TcpStream) -> io::Result<()> {
        let to = *self.to.lock().unwrap_or_else(PoisonError::into_inner);
        if self.cut_after.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let far = TcpStream::connect(to.ok_or(io::ErrorKind::NotConnected)?)?;
        let passed = Arc::new(AtomicU64::new(0));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in [&near, &far] {
            open.push(socket.try_clone()?);
        }
        for (from, to) in [
            (near.try_clone()?, far.try_clone()?),
            (far.try_clone()?, near.try_clone()?),
        ] {
            let (state, passed) = (Arc::clone(self), Arc::clone(&passed));
            rt::thread("wire".into(), 1 << 20, move || {
                // A side that is gone breaks it, too.
                state.pass(from, to, &passed).ok();
            })?;
        }
        Ok(())
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, passed: &AtomicU64) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let n = from.read(&mut buffer)?;
            let before = passed.fetch_add(n as u64, Ordering::SeqCst);
            let left = self.cut_after.load(Ordering::SeqCst).saturating_sub(before);
            let n_left = usize::try_from(left).unwrap_or(usize::MAX);
            if n == 0 || n_left < n {
                if n > 0 {
                    self.n_cuts.fetch_add(1, Ordering::SeqCst);
                    to.write_all(&buffer[..n_left])?;
                }
                from.shutdown(Shutdown::Both)?;
                return to.shutdown(Shutdown::Both);
            }
            to.write_all(&buffer[..n])?;
        }
    }
}
