//! A unit at a site that is not its home: one host process.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use auth::KeyRequest;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use workload::Phase;

use super::home::Look;
use super::offer::{self, Offer, to_hex};
use super::part;
use super::unit::{Backoff, Children, STDERR, Seen};
use crate::disk::claim::{Claimed, Life};
use crate::host::{HostConfig, METRICS_FILE};
use crate::world::admin::Admission;

/// A host that runs for so long has joined.
const RUNS_WELL: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Remote {
    /// A key that no process has used. Only this process has it: another, after this one's end, takes another.
    key: Option<KeyRequest>,
    /// The key of the process that was started last.
    used: String,
    children: Children,
    backoff: Backoff,
}

/// What a host writes into its directory about itself.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    incarnation: u32,
    public_key: String,
}

/// The host process that was started last.
#[derive(Debug)]
struct Last {
    dir: PathBuf,
    process: Claimed,
    claim: Claim,
}

impl Remote {
    pub(super) fn tick(&mut self, look: &Look<'_>) -> io::Result<Seen> {
        fs::create_dir_all(look.dir)?;
        let home = offer::Home::of(look.offers, &look.part.spec.home);
        let last = last_host(look.dir)?;
        let mut seen = Seen::default();
        if let Some(last) = &last
            && last.process.life() != Life::Gone
        {
            let is_obsolete = home.as_ref().is_some_and(|home| {
                home.incarnation > last.claim.incarnation || home.ended.is_some()
            });
            if is_obsolete {
                last.process.signal(Signal::KILL)?;
            }
            self.backoff.forget_after(RUNS_WELL);
            seen.offer = Some(offer_of(&last.claim.public_key));
            seen.pids.extend(u32::try_from(last.process.pid));
            if last.process.life() == Life::Stopped {
                let reason = format!("process {} is stopped", last.process.pid);
                seen.say(Phase::Unresponsive, reason);
            } else {
                seen.say(Phase::Running, String::new());
                let metrics = fs::read_to_string(last.dir.join(METRICS_FILE));
                seen.metrics
                    .extend(metrics.ok().and_then(|at| at.parse::<SocketAddr>().ok()));
            }
            return Ok(seen);
        }
        if let Some(phase) = home.as_ref().and_then(|home| home.ended) {
            seen.say(phase, String::new());
            return Ok(seen);
        }
        if self.children.any_alive() {
            seen.offer = Some(offer_of(&self.used));
            seen.say(Phase::Starting, String::new());
            return Ok(seen);
        }
        let mounts = look.part.mounts(&look.config.mountable)?;
        let key = match self.key.take() {
            Some(key) => key,
            None => KeyRequest::new()?,
        };
        let public_key = to_hex(&key.public_key());
        seen.offer = Some(offer_of(&public_key));
        let admission = home.and_then(|home| home.admission(&look.config.site, &public_key));
        // An offer may be older than what has run here.
        let oldest = last.as_ref().map_or(0, |last| last.claim.incarnation);
        let admission =
            admission.filter(|admission| look.may_act && admission.incarnation >= oldest);
        let why = self.backoff.why(look.dir);
        match admission {
            Some(admission) if self.backoff.is_over() => {
                let key = (key, public_key);
                self.start(look, &admission, key, mounts)?;
                seen.say(Phase::Starting, why);
            }
            Some(_) => {
                self.key = Some(key);
                seen.say(Phase::Starting, why);
            }
            None => {
                self.key = Some(key);
                let reason = match &*why {
                    "" => "the unit's home has not let it take part yet",
                    why => why,
                };
                seen.say(Phase::Pending, reason.to_owned());
            }
        }
        Ok(seen)
    }

    fn start(
        &mut self,
        look: &Look<'_>,
        admission: &Admission,
        (key, public_key): (KeyRequest, String),
        mounts: Vec<(String, PathBuf)>,
    ) -> io::Result<()> {
        let incarnation = admission.incarnation;
        // The journal of an earlier host of the same incarnation may have to decide about a move.
        let dir = look.dir.join(format!("host-{incarnation}"));
        durable::make_dir(look.dir)?;
        for other in part::epoch_dirs(look.dir)? {
            if other != dir {
                fs::remove_dir_all(other)?;
            }
        }
        let claim = Claim {
            incarnation,
            public_key: public_key.clone(),
        };
        let claim = serde_json::to_string(&claim)?;
        let code_dir = look.config.code_dir();
        let config =
            HostConfig::admitted(admission, key, (dir, code_dir), look.config.listen, claim);
        let config = config.mounting(mounts);
        let mut child = Command::new(&look.config.program)
            .args(["cell", "host", "--log", &look.config.log])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(look.dir.join(STDERR))?)
            .spawn()?;
        self.backoff.started();
        let mut stdin = child.stdin.take().expect("it was piped");
        self.used = public_key;
        self.children.add(child)?;
        config.write(&mut stdin)
    }
}

fn offer_of(public_key: &str) -> String {
    let public_key = public_key.to_owned();
    Offer::Host(offer::Host { public_key }).text()
}

fn last_host(dir: &Path) -> io::Result<Option<Last>> {
    let mut newest: Option<Last> = None;
    for dir in part::epoch_dirs(dir)? {
        let Some(process) = Claimed::read(&dir)? else {
            continue;
        };
        let claim: Claim = serde_json::from_str(&process.text)?;
        let earlier = newest.as_ref().map(|last| last.claim.incarnation);
        if earlier.is_none_or(|earlier| earlier <= claim.incarnation) {
            newest = Some(Last {
                dir,
                process,
                claim,
            });
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use workload::{Kind, Mount, Offers};

    use super::*;
    use crate::driver::{Config, part};

    /// Its own site decides what a unit sees, whatever its home asks for.
    #[test]
    fn a_unit_of_another_site_mounts_only_what_this_one_allows() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = fs::canonicalize(dir.path()).expect("it is there");
        for name in ["open", "closed"] {
            fs::create_dir(dir.join(name)).expect("a directory");
        }
        let config = Config {
            dir: dir.join("units"),
            site: "edge".parse().expect("a name"),
            program: "/nowhere".into(),
            log: String::new(),
            listen: Ipv4Addr::LOCALHOST.into(),
            modules: Arc::new(|_| None),
            mountable: vec![dir.join("open")],
        };
        let tick = |name: &str| {
            let mut part = part::tests::sample();
            let Kind::Cell(cell) = &mut part.spec.kind;
            cell.mounts = vec![Mount {
                path: "/data".into(),
                source: format!("file://{}", dir.join(name).display()),
            }];
            Remote::default().tick(&Look {
                config: &config,
                dir: &dir.join("e7"),
                part: &part,
                offers: &Offers::new(),
                may_act: true,
            })
        };
        let seen = tick("open").expect("it is allowed");
        assert!(seen.phase == Phase::Pending && seen.offer.is_some());
        for (name, why) in [
            ("closed", "--mountable"),
            ("open/../closed", "--mountable"),
            ("missing", "No such file"),
        ] {
            let error = tick(name).expect_err("nothing is offered").to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
    }
}
