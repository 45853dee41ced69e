//! The whole continuum from outside: `up`, `site` and `ctl` as users call them, on real processes that are killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use it::{DEADLINE, Ended, Process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::programs::compiled;
use crate::s3::Client;
use crate::site::{Site, expect_same, open_gate};

/// A running platform.
struct Up {
    process: Option<Process>,
    dir: TempDir,
    /// What it said when it was ready.
    ready: Value,
}

impl Up {
    fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (process, ready) = up(dir.path())?;
        Ok(Self {
            process: Some(process),
            dir,
            ready,
        })
    }

    fn platform(&self) -> PathBuf {
        self.dir.path().join("platform")
    }

    fn ctl(&self, words: &str) -> Result<Ended> {
        let mut command = Command::new(it::cloudskin());
        command.arg("ctl").arg("--dir").arg(self.platform());
        command.args(words.split_whitespace());
        let ended = Process::start(&mut command)?.finish()?;
        Ok(ended)
    }

    fn ctl_well(&self, words: &str) -> Result<String> {
        let ended = self.ctl(words)?;
        ensure!(ended.code == Some(0), "ctl {words}: {ended:?}");
        Ok(ended.stdout)
    }

    fn ctl_json(&self, words: &str) -> Result<Vec<Value>> {
        let lines = self.ctl_well(&format!("{words} --json"))?;
        lines
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    /// Applies a service of one block `run` at the edge.
    fn apply(&self, name: &str, program: &Path, block: &Value) -> Result<()> {
        let mut whole = json!({
            "name": "run", "kind": "CellDeployment", "module": program,
            "ranks": 4, "placement": {"siteSelector": {"matchLabels": {"tier": "edge"}}},
        });
        let fields = whole.as_object_mut().context("an object")?;
        fields.extend(block.as_object().context("an object")?.clone());
        let service = json!({
            "apiVersion": "blocks/v1beta1", "kind": "Service",
            "metadata": {"name": name}, "spec": {"blocks": [whole]},
        });
        let path = self.dir.path().join(format!("{name}.yaml"));
        fs::write(&path, service.to_string())?;
        self.ctl_well(&format!("apply -f {}", path.display()))?;
        Ok(())
    }

    /// Runs `gated` as a service: it goes on until its gate is opened.
    fn run(&self, name: &str, more: Value) -> Result<()> {
        let gate = self.gate(name);
        fs::create_dir(&gate)?;
        let mount = json!({"path": "/gate", "source": format!("file://{}", gate.display())});
        let mut block = json!({"mounts": [mount]});
        let fields = block.as_object_mut().context("an object")?;
        fields.extend(more.as_object().context("an object")?.clone());
        self.apply(name, &compiled("gated")?, &block)?;
        self.wait_for(name, "at the edge", |unit| is_at(unit, "edge"))?;
        Ok(())
    }

    fn gate(&self, service: &str) -> PathBuf {
        self.dir.path().join(format!("gate-{service}"))
    }

    /// Lets the program end, and expects that it has written what it writes where nothing happens to it.
    fn finish(&self, service: &str) -> Result<()> {
        let so_far = self.ctl_well(&format!("logs {service}"))?;
        open_gate(&self.gate(service), so_far.lines().count().div_ceil(4))?;
        let log = self.ctl_well(&format!("logs --follow {service}"))?;
        let n_steps = log.lines().count() / 4;
        let still = Site::new()?.run_well("-n 4", &compiled("gated")?, &n_steps.to_string())?;
        let ended = Ended {
            code: Some(0),
            stdout: log,
            stderr: String::new(),
        };
        expect_same(&ended, &still.stdout)?;
        self.wait_for(service, "over", |unit| unit["phase"] == "Succeeded")?;
        Ok(())
    }

    fn unit(&self, service: &str) -> Result<Value> {
        let units = self.ctl_json(&format!("units {service}"))?;
        units.into_iter().next().context("a service has a unit")
    }

    /// Asks for the unit until it is as wanted.
    fn wait_for(&self, service: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let end = rt::now() + DEADLINE;
        loop {
            let unit = self.unit(service)?;
            if is_so(&unit) {
                return Ok(unit);
            }
            if rt::now() > end {
                bail!("{service} is never {what}: {unit}");
            }
        }
    }

    fn pid(&self, part: &str) -> Result<u64> {
        self.ready["pids"][part]
            .as_u64()
            .with_context(|| format!("the process of {part}"))
    }

    /// Ends it as Ctrl-C does, and expects that nothing of it is left.
    fn stop(mut self) -> Result<()> {
        let process = self.process.take().context("it runs")?;
        let mut of_cells = hosts(&self, "edge")?;
        of_cells.extend(hosts(&self, "cloud")?);
        it::signal(u64::from(process.id()), "INT")?;
        let ended = process.finish()?;
        of_cells.retain(|pid| it::is_alive(*pid));
        ensure!(of_cells.is_empty(), "cells run on: {of_cells:?}");
        ensure!(ended.code == Some(0), "{ended:?}");
        let left = processes_of(&self.platform())?;
        ensure!(left.is_empty(), "left behind: {left:?}\n{}", ended.stderr);
        Ok(())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            // A test has failed: its processes must not outlive it.
            it::signal(u64::from(process.id()), "INT").ok();
            process.finish().ok();
        }
    }
}

fn up(dir: &Path) -> Result<(Process, Value)> {
    let mut command = Command::new(it::cloudskin());
    command
        .args(["up", "--json", "--mountable"])
        .arg(dir)
        .arg("--dir")
        .arg(dir.join("platform"));
    command.env("XDG_RUNTIME_DIR", dir);
    let process = Process::start(&mut command)?;
    let said = process.wait_until("the platform", |output| output.stdout.ends_with('\n'))?;
    let ready = serde_json::from_str(&said.stdout).with_context(|| said.stdout.clone())?;
    Ok((process, ready))
}

/// The processes that have to do with a directory: number and command line.
fn processes_of(dir: &Path) -> Result<Vec<(u64, String)>> {
    let wanted = dir.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let pid = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        // It may end while it is looked at.
        let (Some(pid), Ok(line)) = (pid, fs::read(path.join("cmdline"))) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let works_there = fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        if line.contains("cloudskin") && (line.contains(&wanted) || works_there) {
            found.push((pid, line));
        }
    }
    Ok(found)
}

fn is_at(unit: &Value, site: &str) -> bool {
    let ranks = unit["ranks"].as_array().map_or(&[][..], Vec::as_slice);
    let has_arrived = |rank: &Value| rank["site"] == site && rank["state"] != "moving";
    !ranks.is_empty() && ranks.iter().all(has_arrived)
}

#[test]
fn a_service_moves_to_the_cloud_and_back_and_writes_the_same() -> Result<()> {
    let up = Up::start()?;
    let sites = up.ctl_json("sites")?;
    let is_ready = |site: &Value| site["status"]["phase"] == "Ready";
    ensure!(sites.len() == 2 && sites.iter().all(is_ready), "{sites:?}");
    up.run("moving", json!({}))?;
    up.ctl_well("migrate moving --to cloud")?;
    let unit = up.unit("moving")?;
    ensure!(is_at(&unit, "cloud") && unit["moves"] == 4, "{unit}");
    up.ctl_well("migrate moving --to edge")?;
    let unit = up.unit("moving")?;
    ensure!(is_at(&unit, "edge") && unit["moves"] == 8, "{unit}");
    up.finish("moving")?;
    up.ctl_well("delete moving")?;
    ensure!(up.ctl_json("get")?.is_empty(), "it is forgotten");
    up.stop()
}

#[test]
fn each_site_has_an_object_store_that_comes_back_where_it_was() -> Result<()> {
    let up = Up::start()?;
    let credentials = up.ready["credentials"].as_str().context("a path")?;
    let credentials = fs::read_to_string(credentials)?;
    for site in ["edge", "cloud"] {
        let node = &up.ready["geds"][site];
        let client = Client::new(node["s3"].as_str().context("a URL")?, &credentials)?;
        client.put("/data", b"")?.expect(200)?;
        client
            .put("/data/of-this-site", site.as_bytes())?
            .expect(200)?;
        let content = client.get("/data/of-this-site")?.expect(200)?.body;
        ensure!(content == site.as_bytes(), "{site}");
        it::kill(node["pid"].as_u64().context("a process")?)?;
        let end = rt::now() + DEADLINE;
        let content = loop {
            match client.get("/data/of-this-site") {
                Ok(found) => break found.expect(200)?.body,
                Err(error) => ensure!(rt::now() < end, "{site} stays away: {error:#}"),
            }
        };
        ensure!(content == site.as_bytes(), "{site}");
    }
    up.stop()
}

#[test]
fn agents_and_controllers_that_die_change_nothing() -> Result<()> {
    let up = Up::start()?;
    up.run("steady", json!({}))?;
    up.ctl_well("migrate steady --to cloud --no-wait")?;
    for part in ["edge", "controller", "cloud"] {
        it::kill(up.pid(part)?)?;
    }
    let unit = up.wait_for("steady", "in the cloud", |unit| is_at(unit, "cloud"))?;
    ensure!(unit["restarts"] == 0 && unit["moves"] == 4, "{unit}");
    up.finish("steady")?;
    up.stop()
}

/// The processes that hold cells of a site: each has left its number in its directory.
fn hosts(up: &Up, site: &str) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for (path, _) in files_below(&up.platform().join("sites").join(site))? {
        if !path.contains("/host-") || !path.ends_with("/process.json") {
            continue;
        }
        // The directory of a host that has ended may go meanwhile.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let process: Value = serde_json::from_str(&text).with_context(|| path.clone())?;
        let pid = process["pid"].as_u64().context("a process has a number")?;
        let is_cloudskin = fs::read_to_string(format!("/proc/{pid}/cmdline"));
        if is_cloudskin.is_ok_and(|line| line.contains("cell\0host")) {
            found.push(pid);
        }
    }
    Ok(found)
}

#[test]
fn a_cell_host_that_dies_is_lost_or_begins_again_from_its_checkpoint() -> Result<()> {
    let up = Up::start()?;
    up.run("fragile", json!({}))?;
    kill_all(hosts(&up, "edge")?)?;
    let unit = up.wait_for("fragile", "lost", |unit| unit["phase"] == "Lost")?;
    let reason = unit["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("rank"), "{unit}");
    up.run("careful", json!({"checkpoints": {"every": "200ms"}}))?;
    kill_all(hosts(&up, "edge")?)?;
    up.wait_for("careful", "started again", |unit| unit["restarts"] == 1)?;
    up.finish("careful")?;
    up.stop()
}

#[test]
fn what_a_dead_agent_has_left_ends_with_the_platform() -> Result<()> {
    let up = Up::start()?;
    up.run("left", json!({}))?;
    ensure!(!hosts(&up, "edge")?.is_empty(), "it runs");
    // Its guard shall start it again, and is told to stop instead.
    it::kill(up.pid("edge")?)?;
    up.stop()
}

fn kill_all(pids: Vec<u64>) -> Result<()> {
    ensure!(!pids.is_empty(), "there is no process");
    for pid in pids {
        it::kill(pid)?;
    }
    Ok(())
}

/// A site boots from its ledger before it dials, and its cells are back within this time, which is 2 s on a machine that other tests do not keep busy.
const BOOT_MAX: Duration = Duration::from_secs(10);

#[test]
fn a_site_that_begins_without_its_controller_runs_what_it_ran() -> Result<()> {
    let up = Up::start()?;
    up.run("booted", json!({"checkpoints": {"every": "200ms"}}))?;
    let site_dir = up.platform().join("sites/edge");
    // As if the machine had lost its power: everything dies at once, and only the site comes back. Who would start the others
    // again is stopped before, and dies last: its children would end in order when they see it die.
    let process = up.process.as_ref().context("it runs")?;
    it::signal(u64::from(process.id()), "STOP")?;
    let others = processes_of(&up.platform())?
        .into_iter()
        .map(|(pid, _)| pid);
    let others = others.filter(|pid| *pid != u64::from(process.id()));
    kill_all(others.chain(hosts(&up, "edge")?).collect())?;
    it::kill(u64::from(process.id()))?;
    let log_bytes = || -> Result<u64> {
        let logs = files_below(&site_dir)?.into_iter();
        Ok(logs
            .filter(|(path, _)| path.contains("log"))
            .map(|(_, bytes)| bytes)
            .sum())
    };
    let before = log_bytes()?;
    let mut command = Command::new(it::cloudskin());
    command.args(["site", "--name", "edge", "--mountable"]);
    command.arg(up.dir.path()).arg("--dir");
    let began = rt::now();
    let site = Process::start(command.arg(&site_dir))?;
    while hosts(&up, "edge")?.is_empty() || log_bytes()? <= before {
        ensure!(began.elapsed() < DEADLINE, "no cell runs on");
    }
    let took = began.elapsed();
    it::signal(u64::from(site.id()), "INT")?;
    let ended = site.finish()?;
    ensure!(ended.code == Some(0), "{ended:?}");
    ensure!(took < BOOT_MAX, "it took {took:?} until the cells ran on");
    Ok(())
}

/// The files below a directory, and how long they are. Files and directories come and go while cells run.
fn files_below(dir: &Path) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_below(&path)?);
        } else if let Ok(metadata) = path.metadata() {
            found.push((path.to_string_lossy().into_owned(), metadata.len()));
        }
    }
    Ok(found)
}

#[test]
fn wrong_wishes_are_refused_with_the_field_that_is_wrong() -> Result<()> {
    let up = Up::start()?;
    let program = compiled("gated")?;
    let apply = |fields| {
        up.apply("wrong", &program, &fields)
            .err()
            .context("it is refused")
    };
    let problem = format!("{:#}", apply(json!({"ranks": 0}))?);
    ensure!(problem.contains("/spec/blocks/0/ranks"), "{problem}");
    up.run("right", json!({}))?;
    let changed = up.apply("right", &program, &json!({"ranks": 2}));
    let problem = format!("{:#}", changed.err().context("it is immutable")?);
    ensure!(problem.contains("/spec/blocks/0/ranks"), "{problem}");
    for (words, wrong) in [
        ("migrate right --to nowhere", "nowhere"),
        ("units nothing", "nothing"),
    ] {
        let ended = up.ctl(words)?;
        ensure!(
            ended.code == Some(1) && ended.stderr.contains(wrong),
            "{ended:?}"
        );
    }
    up.finish("right")?;
    up.stop()
}
