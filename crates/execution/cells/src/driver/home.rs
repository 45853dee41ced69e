//! A unit at its home: the world process, and what it is asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ids::Name;
use workload::{MoveReport, Offers, Phase, RankAt};

use super::Config;
use super::client::{self, Client, Reply};
use super::offer::{self, Admitted, Offer, from_hex, to_hex};
use super::part::Part;
use super::unit::{Backoff, Children, STDERR, Seen};
use crate::disk::claim::{Claimed, Life};
use crate::world::admin::{Admission, Answer, HostState, HostStatus, Request, Status};
use crate::world::process::{End, Outcome, WorldFile, log_bytes};

/// A world that does not answer for so long hangs.
const SILENCE_MAX: Duration = Duration::from_millis(800);
/// How often it is looked how much the unit has written.
const LOG_PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Home {
    client: Client,
    children: Children,
    backoff: Backoff,
    admitted: BTreeMap<Name, (Vec<u8>, Admission)>,
    log: Option<(Instant, u64)>,
    seen: Seen,
    /// How the unit ended: nothing of that changes any more.
    ended: Option<Seen>,
}

/// What a look at a unit works with.
#[derive(Debug)]
pub(super) struct Look<'a> {
    pub config: &'a Config,
    /// Of the epoch.
    pub dir: &'a Path,
    pub part: &'a Part,
    pub offers: &'a Offers,
    /// Something may be started or told: the unit is wanted now.
    pub may_act: bool,
}

impl Home {
    pub(super) fn tick(&mut self, look: &Look<'_>) -> io::Result<Seen> {
        if let Some(seen) = &self.ended {
            return Ok(seen.clone());
        }
        if let Some(outcome) = Outcome::read(look.dir)? {
            let mut seen = self.ended(look, outcome);
            seen.log_bytes = log_bytes(look.dir)?;
            return Ok(self.ended.insert(seen).clone());
        }
        self.count_log(look.dir)?;
        let claimed = Claimed::read(look.dir)?;
        let pid = claimed.as_ref().and_then(|c| u32::try_from(c.pid).ok());
        match claimed.map_or(Life::Gone, |claimed| claimed.life()) {
            Life::Gone => self.restart(look)?,
            Life::Stopped => {
                let reason = format!("process {} is stopped", pid.unwrap_or(0));
                self.seen.say(Phase::Unresponsive, reason);
            }
            Life::Runs => self.look_at_running(look, pid),
        }
        self.seen.log_bytes = self.log.map_or(0, |(_, bytes)| bytes);
        Ok(self.seen.clone())
    }

    fn look_at_running(&mut self, look: &Look<'_>, pid: Option<u32>) {
        match self.client.status(look.dir) {
            Reply::Status(status) => {
                if look.may_act && status.is_running {
                    self.converge(look, &status);
                }
                self.note(look, &status, pid);
            }
            Reply::Silence(silence) if silence > SILENCE_MAX => {
                let reason = format!("process {} does not answer", pid.unwrap_or(0));
                self.seen.say(Phase::Unresponsive, reason);
            }
            Reply::Silence(_) => {}
            Reply::Nobody => self.seen.say(Phase::Starting, String::new()),
        }
    }

    /// The world process is not there: it is started, for the first time or again.
    fn restart(&mut self, look: &Look<'_>) -> io::Result<()> {
        self.seen.pids.clear();
        self.seen.metrics.clear();
        if self.children.any_alive() {
            return Ok(());
        }
        let cell = look.part.cell();
        let Some(module) = (look.config.modules)(&cell.module) else {
            let reason = format!("module {} is not here", cell.module);
            self.seen.say(Phase::Pending, reason);
            return Ok(());
        };
        self.seen.say(Phase::Starting, self.backoff.why(look.dir));
        if !look.may_act || !self.backoff.is_over() {
            return Ok(());
        }
        self.backoff.started();
        durable::make_dir(look.dir)?;
        world_file(look, module)?.save(look.dir)?;
        let child = Command::new(&look.config.program)
            .args(["cell", "world", "--log", &look.config.log, "--dir"])
            .arg(look.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(look.dir.join(STDERR))?)
            .spawn()?;
        self.children.add(child)
    }

    /// Tells the world what is wanted of it.
    fn converge(&mut self, look: &Look<'_>, status: &Status) {
        self.backoff.forget();
        let spec = &look.part.spec;
        let labels: Vec<String> = spec.placement.iter().map(Name::to_string).collect();
        let mut requests = Vec::new();
        if status.placement != labels {
            requests.push(Request::Place { labels });
        }
        // A site is needed until the last rank has left it. A rank that is nowhere may come from any.
        let is_needed = |label: &str| {
            let is_there = |at: &str| at == label || at.is_empty();
            spec.sites().any(|site| site.as_str() == label)
                || status.ranks.iter().any(|rank| is_there(&rank.label))
        };
        for host in status.hosts.iter().filter(|host| is_admitted(host)) {
            if !is_needed(&host.label) {
                let label = host.label.clone();
                requests.push(Request::Release { label });
            }
        }
        for request in requests {
            tell(look.dir, &request);
        }
        self.admitted.retain(|site, (_, admission)| {
            admission.incarnation == status.incarnation && is_needed(site.as_str())
        });
        for site in look.offers.keys() {
            if *site == look.config.site || !is_needed(site.as_str()) {
                continue;
            }
            let offered = offer::Host::of(look.offers, site);
            let Some(key) = offered.and_then(|host| from_hex(&host.public_key)) else {
                continue;
            };
            self.admit(look.dir, status, site, key);
        }
    }

    fn admit(&mut self, dir: &Path, status: &Status, site: &Name, public_key: Vec<u8>) {
        let mut hosts = status.hosts.iter();
        let known = hosts.find(|host| is_admitted(host) && host.label == site.as_str());
        let is_known = known.is_some_and(|host| host.public_key == public_key);
        let has_admission = |(key, _): &(Vec<u8>, Admission)| *key == public_key;
        if is_known && self.admitted.get(site).is_some_and(has_admission) {
            return;
        }
        if known.is_some() && !is_known {
            // A site takes a new key only after it has seen its process end.
            tell(
                dir,
                &Request::Dead {
                    label: site.to_string(),
                },
            );
        }
        let request = Request::Admit {
            label: site.to_string(),
            public_key: public_key.clone(),
        };
        if let Some(Answer::Admitted(admission)) = tell(dir, &request) {
            self.admitted.insert(site.clone(), (public_key, admission));
        }
    }

    fn note(&mut self, look: &Look<'_>, status: &Status, pid: Option<u32>) {
        let (phase, reason) = state_of(status);
        self.seen = Seen {
            phase,
            reason,
            offer: self.offer(None),
            pids: pid.into_iter().collect(),
            ..seen_of(look, status)
        };
        for host in status.hosts.iter().filter(|host| !is_admitted(host)) {
            self.seen
                .pids
                .extend(Some(host.pid).filter(|pid| *pid != 0));
            let metrics = host.metrics.parse::<SocketAddr>();
            self.seen.metrics.extend(metrics);
        }
    }

    fn ended(&self, look: &Look<'_>, outcome: Outcome) -> Seen {
        let status = outcome.status.as_ref();
        let seen = status.map_or_else(Seen::default, |status| seen_of(look, status));
        let (phase, exit_code) = match &outcome.end {
            End::Exited(0) => (Phase::Succeeded, Some(0)),
            End::Exited(code) => (Phase::Failed, Some(*code)),
            End::Invalid(_) => (Phase::Failed, None),
            End::Lost(_) => (Phase::Lost, None),
        };
        Seen {
            phase,
            reason: match outcome.end {
                End::Exited(0) => String::new(),
                end => end.to_string(),
            },
            exit_code,
            offer: self.offer(Some(phase)),
            ..seen
        }
    }

    fn offer(&self, ended: Option<Phase>) -> Option<String> {
        let (_, first) = self.admitted.values().next()?;
        let hosts = self.admitted.iter().map(|(site, (key, admission))| {
            let admitted = Admitted {
                host: admission.host,
                public_key: to_hex(key),
                certificate: to_hex(&admission.certificate),
            };
            (site.clone(), admitted)
        });
        let home = offer::Home {
            world: first.world,
            incarnation: first.incarnation,
            coordinator: first.coordinator,
            authority: to_hex(&first.authority),
            hosts: hosts.collect(),
            interpret: first.interpret,
            ended,
        };
        Some(Offer::Home(home).text())
    }

    fn count_log(&mut self, dir: &Path) -> io::Result<()> {
        if self.log.is_none_or(|(at, _)| at.elapsed() >= LOG_PERIOD) {
            self.log = Some((rt::now(), log_bytes(dir)?));
        }
        Ok(())
    }
}

/// Asks, and says in the log why not.
fn tell(dir: &Path, request: &Request) -> Option<Answer> {
    match client::ask(dir, request) {
        Ok(Answer::Failed(reason)) => {
            tracing::debug!(reason, ?request, "a world refuses");
            None
        }
        Ok(answer) => Some(answer),
        Err(error) => {
            tracing::debug!(%error, ?request, "a world was not told");
            None
        }
    }
}

fn world_file(look: &Look<'_>, module: PathBuf) -> io::Result<WorldFile> {
    let (spec, cell) = (&look.part.spec, look.part.cell());
    Ok(WorldFile {
        version: WorldFile::VERSION,
        name: spec.id.to_string(),
        module,
        ranks: cell.ranks,
        args: [vec![spec.id.block().to_owned()], cell.args.clone()].concat(),
        env: cell.env.clone().into_iter().collect(),
        mounts: look.part.mounts(&look.config.mountable)?,
        memory_bytes_max: cell.limits.memory_bytes_max,
        log_bytes_max: cell.limits.log_bytes_max,
        code_dir: look.config.code_dir(),
        checkpoint_every_ms: cell.checkpoint_every_ms,
        label: look.config.site.to_string(),
        listen: look.config.listen,
    })
}

fn is_admitted(host: &HostStatus) -> bool {
    !host.public_key.is_empty()
}

/// How a running world is, and why; in every phase the disk may be full.
fn state_of(status: &Status) -> (Phase, String) {
    let (phase, mut reason) = phase_of(status);
    if let Some(held) = status.held_bytes {
        if !reason.is_empty() {
            reason.push_str("; ");
        }
        reason.push_str(&format!(
            "the disk is full: {held} bytes of output are held"
        ));
    }
    (phase, reason)
}

fn phase_of(status: &Status) -> (Phase, String) {
    if !status.is_running {
        return (Phase::Starting, String::new());
    }
    let is_needed = |host: &HostStatus| {
        let mut live = status.ranks.iter().filter(|rank| !rank.has_ended);
        live.any(|rank| {
            let wanted = status.placement.get(rank.rank as usize);
            rank.host == host.host || wanted.is_some_and(|label| *label == host.label)
        })
    };
    let in_state = |state| {
        let mut hosts = status.hosts.iter();
        hosts.find(|host| host.state == state && is_needed(host))
    };
    if let Some(host) = in_state(HostState::Unresponsive) {
        let reason = format!("process {} at {} does not answer", host.pid, host.label);
        (Phase::Unresponsive, reason)
    } else if let Some(host) = in_state(HostState::Unreachable) {
        let reason = format!("{} cannot be reached", host.label);
        (Phase::Unreachable, reason)
    } else if status.unplaced.is_empty() {
        (Phase::Running, String::new())
    } else {
        (Phase::Moving, status.unplaced.clone())
    }
}

fn seen_of(look: &Look<'_>, status: &Status) -> Seen {
    let name = |label: &str| label.parse().unwrap_or_else(|_| look.config.site.clone());
    let ranks = status.ranks.iter().map(|rank| RankAt {
        rank: rank.rank,
        site: name(&rank.label),
        state: match rank.state.as_str() {
            "running" | "moving" => rank.state.clone(),
            _ => "ended".into(),
        },
    });
    let moves = status.last_moves.iter().map(|made| MoveReport {
        rank: made.rank,
        from: name(&made.from),
        to: name(&made.to),
        bytes: made.bytes,
        pause_us: made.resumed_ns.saturating_sub(made.frozen_ns) / 1_000,
        resumed_ms: made.resumed_ns / 1_000_000,
    });
    Seen {
        ranks: ranks.collect(),
        n_moves: status.moves,
        moves: moves.collect(),
        restarts: status.restarts,
        ..Seen::default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::disk::log::Log;
    use crate::driver::part;

    #[test]
    fn a_full_disk_is_said_beside_all_else() {
        let check = |is_running: bool, unplaced: &str, held: Option<u64>, wanted: (Phase, &str)| {
            let status = serde_json::json!({
                "world": "w", "incarnation": 0, "pid": 1, "module": "m", "is_running": is_running, "seconds": 0.0,
                "moves": 0, "last_moves": [], "moving": null, "restarts": 0, "hosts": [], "ranks": [],
                "placement": [], "unplaced": unplaced, "held_bytes": held,
            });
            let status = serde_json::from_value(status).expect("a status");
            let (phase, reason) = state_of(&status);
            assert_eq!((phase, reason.as_str()), wanted);
        };
        let full = "the disk is full: 7 bytes of output are held";
        check(true, "", None, (Phase::Running, ""));
        check(true, "", Some(7), (Phase::Running, full));
        check(false, "", Some(7), (Phase::Starting, full));
        let both = format!("rank 0 waits; {full}");
        check(true, "rank 0 waits", Some(7), (Phase::Moving, &both));
    }

    /// A unit that has ended costs nothing but memory: its files may even be gone.
    #[test]
    fn a_unit_that_has_ended_is_read_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config {
            dir: dir.path().to_owned(),
            site: "cloud".parse().expect("a name"),
            program: PathBuf::from("/nowhere"),
            log: String::new(),
            listen: Ipv4Addr::LOCALHOST.into(),
            modules: Arc::new(|_| None),
            mountable: Vec::new(),
        };
        let look = Look {
            config: &config,
            dir: &dir.path().join("e7"),
            part: &part::tests::sample(),
            offers: &Offers::new(),
            may_act: true,
        };
        let mut home = Home::default();
        let before = home.tick(&look).expect("its module is missing");
        assert_eq!((before.phase, before.log_bytes), (Phase::Pending, 0));

        let mut log = Log::open(&look.dir.join("log"), 0).expect("a log");
        log.take(0, 0, false, b"text\n".into()).expect("taken");
        let outcome = br#"{"version":1,"end":{"exited":3},"status":null}"#;
        fs::write(look.dir.join("outcome.json"), outcome).expect("written");
        for _ in 0..2 {
            let seen = home.tick(&look).expect("it has ended");
            assert_eq!(
                (seen.phase, seen.exit_code, seen.log_bytes),
                (Phase::Failed, Some(3), 5)
            );
            fs::remove_dir_all(look.dir).ok();
        }
    }
}
