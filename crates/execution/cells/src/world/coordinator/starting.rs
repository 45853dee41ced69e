//! Bringing hosts and ranks up, and ending them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Coordinator, RankState};
use crate::disk::recording::Recording;
use crate::error::{Error, Kind};
use crate::wire::messages::{Begin, Command, Epoch, Event, HostId, TraceMode, WorldSpec};
use crate::world::checkpoints;
use crate::world::hosts::{Host, Role};
use crate::world::process::Past;
use crate::world::{Input, Proof};

/// How long the hosts may take to begin, and to end.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a host that others have started may take to hear that it is over.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
const PIECE_BYTES: usize = 1 << 20;
/// So many moves are made until it is noted again how many there may have been.
const EPOCHS_AT_ONCE: Epoch = 1000;

impl Coordinator<'_> {
    /// Starts all hosts and then all ranks: from the beginning, or from the newest checkpoint.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        self.note_incarnation(false)?;
        let checkpoint = self.checkpoints.newest().map(PathBuf::from);
        let recorded = self.recorded_traces()?;
        for n in 0..self.world.n_hosts {
            let fail_point = self
                .world
                .fail_point
                .as_ref()
                .filter(|(host, _)| *host == n);
            let fail_point = fail_point
                .map(|(_, point)| point.clone())
                .filter(|_| self.id.incarnation == 0);
            self.start_host(format!("host-{}-{n}", self.id.incarnation), fail_point)?;
        }
        self.await_hosts("start", Host::is_ready)?;
        let hosts: Vec<HostId> = self.hosts.keys().copied().collect();
        self.last_epoch += 1;
        let epoch = self.last_epoch;
        for rank in 0..self.world.n_ranks {
            let host = hosts[rank as usize * hosts.len() / self.world.n_ranks as usize];
            match self.ranks.get_mut(rank as usize) {
                Some(state) => {
                    (state.host, state.epoch) = (host, epoch);
                    state.speakers = BTreeSet::from([host]);
                }
                None => self.ranks.push(RankState {
                    host,
                    speakers: BTreeSet::from([host]),
                    epoch,
                    ended: None,
                    outputs: 0,
                    trace: (0, Vec::new()),
                }),
            }
        }
        let spec = self.spec();
        for host in self.hosts.values_mut() {
            host.is_invited = true;
        }
        for host in self.hosts.values() {
            let mine = self
                .ranks
                .iter()
                .zip(0..)
                .filter(|(state, _)| state.host == host.id);
            let restore = checkpoint.is_some();
            let begin = mine.map(|(_, rank)| Begin {
                rank,
                epoch,
                restore,
            });
            host.tell(self.join_command(&spec, begin.collect()));
        }
        self.await_hosts("compile the module", |host| host.has_joined)?;
        self.provide(checkpoint.as_deref(), &recorded)?;
        self.note_incarnation(true)?;
        self.tell_all(&Command::Go);
        if self.report.restarts == self.setting.past.restarts {
            self.began = rt::now();
        }
        self.next_checkpoint = self.world.checkpoint_every.map(|every| rt::now() + every);
        self.is_running = true;
        // Not before all run, for it takes a processor from them.
        self.starter
            .keep_spare()
            .map_err(|error| Error::io("start a spare host", error))
    }

    /// What another process must know that takes over from this one.
    pub(super) fn note_incarnation(&mut self, has_run: bool) -> Result<(), Error> {
        if !self.setting.is_kept {
            return Ok(());
        }
        let past = &mut self.setting.past;
        past.incarnation = self.id.incarnation;
        past.has_run |= has_run;
        past.last_epoch = self.last_epoch.saturating_add(EPOCHS_AT_ONCE);
        let noted = Past {
            restarts: self.report.restarts,
            ..past.clone()
        };
        noted
            .save(&self.setting.dir)
            .map_err(|error| Error::io("note the incarnation", error))
    }

    /// Sends each rank what it begins with: its snapshot, or its recorded trace.
    fn provide(&self, checkpoint: Option<&Path>, recorded: &[Vec<u8>]) -> Result<(), Error> {
        for (state, rank) in self.ranks.iter().zip(0..) {
            let Some(host) = self.hosts.get(&state.host) else {
                continue;
            };
            let pass = |bytes| host.tell_patiently(Command::Piece { rank, bytes });
            if let Some(dir) = checkpoint {
                checkpoints::read(dir, rank, pass)
                    .map_err(|error| Error::io("read the checkpoint", error))?;
            } else if let Some(trace) = recorded.get(rank as usize) {
                let pieces = trace.chunks(PIECE_BYTES).map(<[u8]>::to_vec);
                pieces.chain([Vec::new()]).for_each(pass);
            }
        }
        Ok(())
    }

    pub(super) fn spec(&self) -> WorldSpec {
        let world = &self.world;
        WorldSpec {
            world: self.id,
            size: world.n_ranks,
            module: wasm::engine::sha256(&world.module),
            args: world.args.clone(),
            env: world.env.clone(),
            mounts: world
                .mounts
                .iter()
                .map(|(guest, path)| (guest.clone(), path.to_string_lossy().into_owned()))
                .collect(),
            memory_bytes_max: world.memory_bytes_max,
            hash_memory: world.hash_memory,
            marks: world.marks,
            trace: match world.proof {
                Proof::None => TraceMode::Off,
                Proof::Record => TraceMode::Record,
                Proof::Replay(_) => TraceMode::Replay,
            },
        }
    }

    fn recorded_traces(&self) -> Result<Vec<Vec<u8>>, Error> {
        let Proof::Replay(recording) = &self.world.proof else {
            return Ok(Vec::new());
        };
        let recording = Recording::decode(recording)
            .ok_or_else(|| Error::new(Kind::Invalid, "the file to replay is not a recording"))?;
        let n_ranks = recording.traces.len();
        let problem = if recording.module != wasm::engine::sha256(&self.world.module) {
            "the recording is of another program".to_owned()
        } else if recording.args != self.world.args {
            format!("the recording is of other arguments: {:?}", recording.args)
        } else if n_ranks != self.world.n_ranks as usize {
            format!("the recording is of {n_ranks} ranks: use -n {n_ranks}")
        } else {
            return Ok(recording.traces);
        };
        Err(Error::new(Kind::Invalid, problem))
    }

    pub(super) fn start_host(
        &mut self,
        dir: String,
        fail_point: Option<String>,
    ) -> Result<HostId, Error> {
        let role = Role {
            world: self.id,
            dir: &self.setting.dir.join(dir),
            label: &self.setting.label,
            code_dir: &self.world.code_dir,
            interpret: self.world.interpret,
            fail_point,
        };
        let host = self
            .starter
            .start(role)
            .map_err(|error| Error::io("start a host", error))?;
        let id = host.id;
        self.hosts.insert(id, host);
        Ok(id)
    }

    pub(super) fn join_command(&self, spec: &WorldSpec, begin: Vec<Begin>) -> Command {
        let peers = self
            .hosts
            .values()
            .filter_map(|host| Some((host.id, host.address?)))
            .collect();
        let locations = (0..)
            .zip(&self.ranks)
            .map(|(rank, state)| state.location(rank))
            .collect();
        Command::Join {
            spec: Box::new(spec.clone()),
            peers,
            locations,
            begin,
        }
    }

    /// Takes inputs until all hosts are as wanted.
    fn await_hosts(&mut self, doing: &str, is_so: impl Fn(&Host) -> bool) -> Result<(), Error> {
        let deadline = rt::now() + START_TIMEOUT;
        while !self.hosts.values().all(&is_so) {
            let left = deadline.saturating_duration_since(rt::now());
            let input = self.input.recv_timeout(left).map_err(|_| {
                let problem = format!("a host takes too long to {doing}");
                Error::new(Kind::Unavailable, problem)
            })?;
            match input {
                Input::Event(from, _) if !self.hosts.contains_key(&from) => {}
                Input::HostDied(host, status) if self.hosts.remove(&host).is_some() => {
                    let problem = format!("host {host} died while it was to {doing}: {status}");
                    return Err(Error::new(Kind::Unavailable, problem));
                }
                Input::Event(_, Event::JoinFailed { reason }) => {
                    return Err(Error::new(Kind::Invalid, reason));
                }
                Input::Request(request, answer) => self.answer(request, answer),
                Input::Event(host, event) => self.prepare_host(host, event),
                Input::Speaks(host) => {
                    if let Some(host) = self.hosts.get_mut(&host) {
                        host.n_speaking += 1;
                    }
                }
                Input::Silent(host) => {
                    if let Some(host) = self.hosts.get_mut(&host) {
                        host.n_speaking = host.n_speaking.saturating_sub(1);
                    }
                }
                Input::HostDied(..) | Input::Reached => {}
            }
        }
        Ok(())
    }

    /// What a host says before it takes part. All else is kept until then.
    pub(super) fn prepare_host(&mut self, from: HostId, event: Event) {
        let Some(host) = self.hosts.get_mut(&from) else {
            return;
        };
        match event {
            Event::Ready {
                address,
                metrics,
                pid,
                committed,
            } => {
                (host.address, host.metrics) = (Some(address), Some(metrics));
                host.pid = pid;
                host.committed = committed;
            }
            Event::ModuleWanted => host.tell(Command::Module(self.world.module.clone())),
            Event::Joined => host.has_joined = true,
            other => self.early.push((from, other)),
        }
    }

    /// Ends all hosts, and waits until they are gone.
    pub(super) fn stop_hosts(&mut self) {
        self.is_running = false;
        let mut alive = BTreeSet::new();
        let mut farewells = Vec::new();
        for host in std::mem::take(&mut self.hosts).into_values() {
            if let Some(session) = host.farewell() {
                farewells.push(session);
            } else if host.status.is_none() {
                alive.insert(host.id);
            }
        }
        for session in farewells {
            session.wait_for_end(FAREWELL_TIMEOUT);
        }
        let deadline = rt::now() + STOP_TIMEOUT;
        while !alive.is_empty() {
            let left = deadline.saturating_duration_since(rt::now());
            match self.input.recv_timeout(left) {
                Ok(Input::HostDied(id, _)) => drop(alive.remove(&id)),
                Ok(Input::Request(request, answer)) => self.answer(request, answer),
                Ok(_) => {}
                Err(_) => {
                    tracing::warn!(?alive, "hosts do not end although they were killed");
                    return;
                }
            }
        }
        self.early.clear();
    }
}
