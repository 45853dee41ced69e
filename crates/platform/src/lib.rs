//! A whole continuum on one machine: a controller, its sites, and for each a node of the object store and a server of streams, as child processes,
//! looked after until it is stopped.
//!
//! The processes are those of the program that calls this, which must be `cloudskin`: it is started again with the commands `controller`, `site`,
//! `geds serve` and `streams serve`. What a process says on standard output when it is ready is a type here, which those commands write and whoever
//! starts them reads: [`Ready`] is that of a controller, [`nodes::Ready`] that of a node, [`servers::Ready`] that of a server of streams.
//!
//! # What it is not
//! It is none of these processes: it knows their command lines, and the file of users of the object store. It does not place anything: the controller
//! does.
//!
//! # What it guarantees
//! - A part that dies is started again, where it was: at the same addresses, in the same directory.
//! - Stopping or dropping a [`Platform`] ends every process of it, and the units of its sites, and waits for that. The end of this process ends them, too.
//! - One platform lives in a directory at a time.
//!
//! Read in this order: [`Platform::start`], `Guarded`, then [`parts`](Part).
#![forbid(unsafe_code)]

pub mod nodes;
mod parts;
pub mod servers;

use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use auth::Secret;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

pub use self::parts::Part;

/// How long a part may take until it is ready, or until it has ended.
const PATIENCE: Duration = Duration::from_secs(30);
/// A child that dies is started again after this time, and after twice as long each time that it dies soon: so often that a part which
/// always dies takes few per cent of a processor, and that one which is killed again and again is missed for no more than a period.
const RESTART_AFTER: Duration = Duration::from_millis(50);
const RESTART_AFTER_MAX: Duration = workload::link::PERIOD;
/// A child that lives for so long does not die soon.
const LIVES_WELL: Duration = Duration::from_secs(5);
const ORG: &str = "local";

/// What `up` starts.
#[derive(Clone, Debug)]
pub struct Plan {
    pub dir: PathBuf,
    pub nbi: SocketAddr,
    pub link: SocketAddr,
    /// Directories that units may mount.
    pub mountable: Vec<PathBuf>,
    pub log: String,
}

/// How to reach a platform: `DIR/ctl.json`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Context {
    url: String,
    token: String,
    /// The authority's certificate, DER, hexadecimal.
    ca: String,
}

/// Without the token.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Context");
        debug.field("url", &self.url).finish_non_exhaustive()
    }
}

/// A running platform. Dropping it ends every process of it.
#[derive(Debug)]
pub struct Platform {
    pub controller: Ready,
    pub token: Secret,
    /// For one more site.
    pub join: String,
    /// The object store: a node for each site.
    pub nodes: Vec<Part<nodes::Ready>>,
    /// A server of streams for each site.
    pub streams: Vec<Part<servers::Ready>>,
    children: Vec<Guarded>,
    _lock: fs::File,
}

/// What a controller says when it is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    pub nbi: SocketAddr,
    pub link: SocketAddr,
    /// The authority's certificate, DER, hexadecimal.
    pub ca: String,
    pub metrics: SocketAddr,
}

/// What a controller is told over its standard input: whom to know. Nothing of it is new to a controller that was started before.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bootstrap {
    /// (organisation, its token, which is that of an operator)
    pub orgs: Vec<(ids::Name, auth::SecretHash)>,
    /// (organisation, its token, which is not)
    #[serde(default)]
    pub users: Vec<(ids::Name, auth::SecretHash)>,
    /// (the only site that may use it, the token)
    pub joins: Vec<(Option<ids::Name>, auth::SecretHash)>,
}

impl Platform {
    /// Starts all of it, and returns when both sites are ready.
    ///
    /// # Errors
    /// When a part does not come up, or a platform runs in the directory: nothing runs then.
    pub fn start(plan: &Plan) -> anyhow::Result<Self> {
        private_dir(&plan.dir)?;
        let lock = lock(&plan.dir)?;
        let token = match Context::read(&plan.dir) {
            Ok(context) => context.token.parse().map_err(anyhow::Error::msg)?,
            Err(_) => Secret::random(),
        };
        let secrets: Vec<(&str, Secret)> = ["edge", "cloud"]
            .into_iter()
            .map(|name| (name, Secret::random()))
            .collect();
        let spare = Secret::random();
        let mut joins = vec![(None, spare.hash())];
        for (name, secret) in &secrets {
            joins.push((Some(name.parse()?), secret.hash()));
        }
        let bootstrap = Bootstrap {
            orgs: vec![(ORG.parse()?, token.hash())],
            users: Vec::new(),
            joins,
        };
        let controller_args = Controller {
            plan: plan.clone(),
            bootstrap: serde_json::to_string(&bootstrap)?,
            bound: Arc::default(),
        };
        let (controller, child) = controller_args.spawn()?;
        let mut platform = Self {
            join: auth::JoinToken::new(&hex(&controller.ca)?, spare)?.to_string(),
            controller: controller.clone(),
            token,
            nodes: Vec::new(),
            streams: Vec::new(),
            children: vec![Guarded::new("controller", child, None, move || {
                controller_args.spawn().map(|(_, child)| child)
            })?],
            _lock: lock,
        };
        nodes::make_user(&plan.dir)?;
        for site in ["edge", "cloud"] {
            platform.nodes.push(nodes::start(plan, site)?);
            platform.streams.push(servers::start(plan, site)?);
        }
        let cpus = shares()?;
        for ((name, secret), cpus) in secrets.into_iter().zip(cpus) {
            let token = auth::JoinToken::new(&hex(&controller.ca)?, secret)?.to_string();
            let spawn = site(plan, name, (controller.link, token), cpus)?;
            let finish = finish(plan, name)?;
            let guarded = Guarded::new(name, spawn()?, Some(Box::new(finish)), spawn)?;
            platform.children.push(guarded);
        }
        Context {
            url: format!("https://{}", controller.nbi),
            token: platform.token.as_str().to_owned(),
            ca: controller.ca.clone(),
        }
        .write(&plan.dir)?;
        platform.await_sites()?;
        Ok(platform)
    }

    /// Removes the state of a platform.
    ///
    /// # Errors
    /// When it runs.
    pub fn remove(dir: &Path) -> anyhow::Result<()> {
        if dir.exists() {
            let _lock = lock(dir)?;
            fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        Ok(())
    }

    /// # Errors
    /// When what the controller has said names no controller.
    pub fn client(&self) -> anyhow::Result<nbi::Client> {
        let url = format!("https://{}", self.controller.nbi);
        let ca = hex(&self.controller.ca)?;
        Ok(nbi::Client::new(&url, self.token.as_str(), &ca)?)
    }

    fn await_sites(&self) -> anyhow::Result<()> {
        let client = self.client()?;
        let (began, pause) = (rt::now(), sync_channel::<()>(1).1);
        loop {
            let ready = client.sites()?;
            let is_ready = |name: &str| {
                let mut named = ready
                    .iter()
                    .filter(|site| site.metadata.name.as_str() == name);
                named.any(|site| site.status.phase == "Ready")
            };
            if is_ready("edge") && is_ready("cloud") {
                return Ok(());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "the sites are not ready after {PATIENCE:?}: see the lines above"
            );
            wait(&pause, Duration::from_millis(5));
        }
    }

    /// The process numbers of the controller and the sites, by name.
    pub fn pids(&self) -> Vec<(&'static str, u32)> {
        let pid = |child: &Guarded| (child.name, child.current().pid);
        self.children.iter().map(pid).collect()
    }

    /// Ends all of it: first the sites with what runs there, then streams and the object store, then the controller.
    ///
    /// # Errors
    /// When a part did not end in order; none of them runs all the same.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let mut children = std::mem::take(&mut self.children);
        let sites = children.split_off(children.len().min(1));
        for child in &sites {
            child.ask_to_end(Signal::INT);
        }
        let mut results: Vec<_> = sites.into_iter().map(Guarded::ended).collect();
        let streams = std::mem::take(&mut self.streams).into_iter();
        let nodes = std::mem::take(&mut self.nodes).into_iter();
        let streams = streams.map(|server| server.guarded);
        let nodes = nodes.map(|node| node.guarded);
        for child in streams.chain(nodes).chain(children) {
            child.ask_to_end(Signal::TERM);
            results.push(child.ended());
        }
        results.into_iter().collect()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "the platform did not end in order");
        }
    }
}

impl Context {
    /// # Errors
    /// When no platform was started there.
    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("ctl.json");
        let bytes = fs::read(&path).with_context(|| {
            format!("read {}: is `cloudskin up` running there?", path.display())
        })?;
        serde_json::from_slice(&bytes).with_context(|| format!("understand {}", path.display()))
    }

    /// # Errors
    /// When what was written there names no controller.
    pub fn client(&self) -> anyhow::Result<nbi::Client> {
        let ca = hex(&self.ca)?;
        Ok(nbi::Client::new(&self.url, &self.token, &ca)?)
    }

    fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let (path, partial) = (dir.join("ctl.json"), dir.join("ctl.json.partial"));
        let mut options = fs::OpenOptions::new();
        let options = options.create(true).truncate(true).write(true).mode(0o600);
        options
            .open(&partial)?
            .write_all(&serde_json::to_vec_pretty(self)?)?;
        fs::rename(&partial, &path).with_context(|| format!("write {}", path.display()))
    }
}

/// What a controller process is started with.
struct Controller {
    plan: Plan,
    bootstrap: String,
    /// Where it was when it was last ready: it comes back there.
    bound: Arc<Mutex<Option<Ready>>>,
}

impl Controller {
    fn spawn(&self) -> anyhow::Result<(Ready, Child)> {
        let bound = self.bound();
        let (nbi, link) = match &*bound {
            Some(ready) => (ready.nbi, ready.link),
            None => (self.plan.nbi, self.plan.link),
        };
        drop(bound);
        let mut child = Command::new(std::env::current_exe()?)
            .args(["controller", "--with-parent", "--log", &self.plan.log])
            .args(["--nbi", &nbi.to_string(), "--link", &link.to_string()])
            .arg("--dir")
            .arg(self.plan.dir.join("controller"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the controller")?;
        match self.introduce(&mut child) {
            Ok(ready) => {
                *self.bound() = Some(ready.clone());
                Ok((ready, child))
            }
            Err(error) => {
                // It may have ended by itself.
                child.kill().ok();
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Tells it whom to know, and is told where it is.
    fn introduce(&self, child: &mut Child) -> anyhow::Result<Ready> {
        let mut stdin = child.stdin.take().expect("it was piped");
        stdin.write_all(self.bootstrap.as_bytes())?;
        drop(stdin);
        let line = first_line(child, "the controller")?;
        serde_json::from_str(&line).context("the controller ended before it was ready: see above")
    }

    fn bound(&self) -> MutexGuard<'_, Option<Ready>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a child says first, on its standard output, which is piped.
///
/// # Errors
/// When it says nothing for too long, or its output cannot be read; it says an empty line if it ends before.
///
/// # Panics
/// If the output is not piped.
pub fn first_line(child: &mut Child, what: &str) -> anyhow::Result<String> {
    let stdout = child.stdout.take().expect("it was piped");
    let (told, says) = sync_channel(1);
    // Reading has no time limit of its own. The thread ends with the process.
    rt::thread(format!("{what} says"), 1 << 20, move || {
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        // Nobody may wait any more.
        told.send(read.map(|_| line)).ok();
    })?;
    let line = says.recv_timeout(PATIENCE);
    Ok(line.with_context(|| format!("wait for {what}"))??)
}

/// How the units of a site are ended when its agent could not do it.
fn finish(
    plan: &Plan,
    name: &'static str,
) -> anyhow::Result<impl Fn() -> anyhow::Result<Child> + use<>> {
    let program = std::env::current_exe()?;
    let dir = plan.dir.join("sites").join(name);
    let log = plan.log.clone();
    Ok(move || {
        let mut command = Command::new(&program);
        command.args([
            "site",
            "--stop-units",
            "--log",
            &log,
            "--name",
            name,
            "--dir",
        ]);
        command.arg(&dir).stdin(Stdio::null());
        command
            .spawn()
            .with_context(|| format!("end the units of the site {name}"))
    })
}

/// How the process of a site is started.
fn site(
    plan: &Plan,
    name: &'static str,
    (link, token): (SocketAddr, String),
    share: Share,
) -> anyhow::Result<impl Fn() -> anyhow::Result<Child> + Send + 'static + use<>> {
    let program = std::env::current_exe()?;
    let dir = plan.dir.join("sites").join(name);
    let log = plan.log.clone();
    let mountable = plan.mountable.clone();
    Ok(move || {
        let mut command = Command::new(&program);
        command
            .args(["site", "--with-parent", "--log", &log, "--name", name])
            .args(["--label", &format!("tier={name}")])
            .args(["--join", &link.to_string(), "--token", &token])
            .arg("--dir")
            .arg(&dir)
            .stdin(Stdio::null());
        for dir in &mountable {
            command.arg("--mountable").arg(dir);
        }
        match &share {
            Share::Processors(list) => command.args(["--cpus", list]),
            Share::Part(part) => command.args(["--cpu-share", part]),
        };
        command
            .spawn()
            .with_context(|| format!("start the site {name}"))
    })
}

/// What a site may use of the machine.
enum Share {
    Processors(String),
    Part(String),
}

/// The edge gets one processor, the cloud the others; of a single one, each gets half.
fn shares() -> anyhow::Result<[Share; 2]> {
    let mask = rustix::thread::sched_getaffinity(None)?;
    let mine: Vec<String> = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| mask.is_set(*cpu))
        .map(|cpu| cpu.to_string())
        .collect();
    Ok(match mine.split_first() {
        Some((first, others)) if !others.is_empty() => [
            Share::Processors(first.clone()),
            Share::Processors(others.join(",")),
        ],
        _ => [Share::Part("0.5".into()), Share::Part("0.5".into())],
    })
}

/// A child process that is started again when it dies.
struct Guarded {
    name: &'static str,
    current: Arc<Mutex<Current>>,
    stop: SyncSender<()>,
    /// How it ended, if it did so when it was asked to.
    guard: JoinHandle<Option<ExitStatus>>,
    finish: Option<Spawn>,
}

/// Starts a process.
type Spawn = Box<dyn Fn() -> anyhow::Result<Child> + Send>;

struct Current {
    pid: u32,
    pidfd: OwnedFd,
    /// By this signal it was asked to end.
    asked: Option<Signal>,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guarded({})", self.name)
    }
}

impl Guarded {
    /// `finish` starts what does the rest when the child does not end in order.
    fn new(
        name: &'static str,
        child: Child,
        finish: Option<Spawn>,
        spawn: impl Fn() -> anyhow::Result<Child> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let current = Arc::new(Mutex::new(Current::of(&child)?));
        let (stop, stopped) = sync_channel(1);
        let guarded = Arc::clone(&current);
        let guard = rt::thread(format!("guard {name}"), 1 << 20, move || {
            guard(name, child, &guarded, &stopped, spawn)
        })?;
        Ok(Self {
            name,
            current,
            stop,
            guard,
            finish,
        })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        lock_current(&self.current)
    }

    fn ask_to_end(&self, signal: Signal) {
        let mut current = self.current();
        current.asked = Some(signal);
        // It may have ended by itself, and then the guard waits for this.
        pidfd_send_signal(&current.pidfd, signal).ok();
        self.stop.try_send(()).ok();
    }

    /// Waits for its end; kills it if that takes too long. What it has left is done by another.
    fn ended(self) -> anyhow::Result<()> {
        let (began, pause) = (rt::now(), sync_channel::<()>(1).1);
        while !self.guard.is_finished() {
            if began.elapsed() > PATIENCE {
                pidfd_send_signal(&self.current().pidfd, Signal::KILL).ok();
            }
            wait(&pause, Duration::from_millis(5));
        }
        let status = self.guard.join().ok().flatten();
        if status.is_some_and(|status| status.success()) {
            return Ok(());
        }
        let Some(finish) = self.finish else {
            bail!("{} did not end in order: {status:?}", self.name);
        };
        let status = finish()?.wait()?;
        ensure!(
            status.success(),
            "units of {} still run: {status}",
            self.name
        );
        Ok(())
    }
}

impl Current {
    fn of(child: &Child) -> anyhow::Result<Self> {
        let raw = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let raw = raw.context("a process without a number")?;
        Ok(Self {
            pid: child.id(),
            pidfd: pidfd_open(raw, PidfdFlags::empty())?,
            asked: None,
        })
    }
}

fn lock_current(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the child, and starts it again until it is to stop.
fn guard(
    name: &str,
    mut child: Child,
    current: &Mutex<Current>,
    stopped: &Receiver<()>,
    spawn: impl Fn() -> anyhow::Result<Child>,
) -> Option<ExitStatus> {
    let mut delay = RESTART_AFTER;
    loop {
        let began = rt::now();
        let status = child.wait();
        if lock_current(current).asked.is_some() {
            return status.ok();
        }
        tracing::warn!(
            name,
            ?status,
            "a part of the platform died: it is started again"
        );
        if began.elapsed() > LIVES_WELL {
            delay = RESTART_AFTER;
        }
        child = loop {
            wait(stopped, delay);
            delay = (delay * 2).min(RESTART_AFTER_MAX);
            if lock_current(current).asked.is_some() {
                return None;
            }
            // Not under the lock: it may take long, and it may be to stop meanwhile.
            match spawn().and_then(|next| Ok((Current::of(&next)?, next))) {
                Ok((mut started, next)) => {
                    let mut current = lock_current(current);
                    started.asked = current.asked;
                    *current = started;
                    if let Some(signal) = current.asked {
                        // It may have ended by itself.
                        pidfd_send_signal(&current.pidfd, signal).ok();
                    }
                    break next;
                }
                Err(error) => tracing::error!(name, %error, "it could not be started again"),
            }
        };
    }
}

/// Waits for a signal, at most this long.
fn wait(signal: &Receiver<()>, at_most: Duration) {
    if let Err(RecvTimeoutError::Disconnected) = signal.recv_timeout(at_most) {
        // Nobody can signal any more: then it is the time alone that counts.
        let (_keep, never) = sync_channel::<()>(1);
        never.recv_timeout(at_most).ok();
    }
}

/// Makes a directory that only the owner may read, and those above it that are missing. When it returns, their names are on the disk: what is
/// synced in the directory is not lost with it when the machine crashes.
fn private_dir(dir: &Path) -> anyhow::Result<()> {
    durable::make_private_dir(dir).with_context(|| format!("create {}", dir.display()))
}

/// Only one platform lives in a directory.
fn lock(dir: &Path) -> anyhow::Result<fs::File> {
    let file = fs::File::create(dir.join("up.lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => bail!(
            "a platform runs in {} already: use another --dir, or end that one",
            dir.display()
        ),
        Err(fs::TryLockError::Error(error)) => Err(error).context("lock the directory"),
    }
}

/// Bytes from hexadecimal digits.
fn hex(text: &str) -> anyhow::Result<Vec<u8>> {
    ensure!(
        text.len().is_multiple_of(2) && text.is_ascii(),
        "not hexadecimal"
    );
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(io::Error::other))
        .collect::<io::Result<_>>()
        .context("not hexadecimal")
}
