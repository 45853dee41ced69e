//! The coordinator's loop.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::admin::{self, Answer, HostStatus, RankStatus, Request, Status};
use super::checkpoints::{self, Checkpoints, Partial};
use super::hosts::{Host, Hosts, Role};
use super::output::{Output, Sinks};
use super::report::{Move, Report};
use super::{Input, Proof, World};
use crate::cell::clock::wall_now_ns;
use crate::error::{Error, Kind};
use crate::host::RANKS_MAX;
use crate::wire::messages::{
    Begin, Command, Ended, Epoch, Event, FreezeReport, HostId, Location, Rank, StopPoint,
    TraceMode, WorldId, WorldSpec,
};

const INPUTS_MAX: usize = 256;
/// How long the hosts may take to begin.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the ranks may take to reach a control point; else the checkpoint is given up.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(30);
/// Exit code of a world with a rank that trapped, as a shell shows an abort.
const TRAP_CODE: i32 = 134;

/// Runs a world to its end.
///
/// # Errors
/// When it cannot begin, or loses a rank without having a checkpoint.
pub fn run(world: World, mut sinks: Sinks<'_>) -> Result<Report, Error> {
    if world.n_ranks == 0 || world.n_ranks > RANKS_MAX || world.n_hosts == 0 {
        let range = format!("a world has 1 to {RANKS_MAX} ranks and at least one host");
        return Err(Error::new(Kind::Invalid, range));
    }
    let id = rt::random_u64();
    let name = format!("{:012x}", id >> 16);
    let dir = admin::create_dir(&world.state_dir, &name)
        .map_err(|error| Error::io("create the world's directory", error))?;
    let result = Coordinator::new(world, WorldId { id, incarnation: 0 }, name, dir.clone())
        .and_then(|mut coordinator| {
            let result = coordinator.run(&mut sinks);
            coordinator.hosts.clear();
            result
        });
    if let Err(error) = fs::remove_dir_all(&dir) {
        tracing::warn!(%error, dir = %dir.display(), "the world's directory was not removed");
    }
    result
}

struct Coordinator {
    world: World,
    id: WorldId,
    name: String,
    dir: PathBuf,
    starter: Hosts,
    input: Receiver<Input>,
    hosts: BTreeMap<HostId, Host>,
    ranks: Vec<RankState>,
    /// Grows with every attempt to move any rank.
    last_epoch: Epoch,
    moving: Option<Moving>,
    /// A source of a move has died, and the host that was started on its directory will say what its journal has.
    recovering: Option<HostId>,
    checkpoints: Checkpoints,
    checkpoint: Option<(Partial, Instant)>,
    next_checkpoint: Option<Instant>,
    output: Output,
    began: Instant,
    report: Report,
    /// Why the world ends early.
    verdict: Option<Result<i32, Error>>,
}

#[derive(Debug)]
struct RankState {
    host: HostId,
    epoch: Epoch,
    ended: Option<Ended>,
    outputs: u64,
    trace: Vec<u8>,
}

/// The move that is being made.
#[derive(Debug)]
struct Moving {
    rank: Rank,
    epoch: Epoch,
    from: HostId,
    to: HostId,
    at: StopPoint,
    /// The source has recorded it.
    committed: bool,
    report: Option<FreezeReport>,
    resumed_ns: Option<u64>,
    asked_by: Option<SyncSender<Answer>>,
}

impl Coordinator {
    fn new(world: World, id: WorldId, name: String, dir: PathBuf) -> Result<Self, Error> {
        let (sender, input) = sync_channel(INPUTS_MAX);
        admin::listen(&dir, sender.clone())
            .map_err(|error| Error::io("listen for requests", error))?;
        let starter = Hosts::new(world.host_program.clone(), world.log.clone(), sender)
            .map_err(|error| Error::io("listen for hosts", error))?;
        Ok(Self {
            checkpoints: Checkpoints::new(dir.join("checkpoints")),
            world,
            id,
            name,
            dir,
            starter,
            input,
            hosts: BTreeMap::new(),
            ranks: Vec::new(),
            last_epoch: 0,
            moving: None,
            recovering: None,
            checkpoint: None,
            next_checkpoint: None,
            output: Output::default(),
            began: rt::now(),
            report: Report::default(),
            verdict: None,
        })
    }

    fn run(&mut self, sinks: &mut Sinks<'_>) -> Result<Report, Error> {
        self.begin()?;
        self.report.began_ns = wall_now_ns();
        while self.verdict.is_none() && !self.is_over() {
            self.act()?;
            match self.input.recv_timeout(self.patience()) {
                Ok(input) => self.take(input, sinks)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the starter holds a sender"),
            }
        }
        self.report.duration = self.began.elapsed();
        self.output
            .finish(sinks)
            .map_err(|error| Error::io("write output", error))?;
        let mut report = std::mem::take(&mut self.report);
        report.exit_code = self.verdict.take().unwrap_or(Ok(0))?;
        report.missing_moves = self.world.schedule.missing();
        if matches!(self.world.proof, Proof::Record) {
            let traces: Vec<_> = self
                .ranks
                .iter_mut()
                .map(|rank| std::mem::take(&mut rank.trace))
                .collect();
            report.recording = postcard::to_stdvec(&traces)
                .map_err(|error| Error::io("encode the recording", io::Error::other(error)))?;
        }
        Ok(report)
    }

    /// Starts all hosts and then all ranks: from the beginning, or from the newest checkpoint.
    fn begin(&mut self) -> Result<(), Error> {
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
        self.starter
            .keep_spare()
            .map_err(|error| Error::io("start a spare host", error))?;
        self.await_hosts("start", Host::is_connected)?;
        let hosts: Vec<HostId> = self.hosts.keys().copied().collect();
        self.last_epoch += 1;
        let epoch = self.last_epoch;
        for rank in 0..self.world.n_ranks {
            let host = hosts[rank as usize * hosts.len() / self.world.n_ranks as usize];
            match self.ranks.get_mut(rank as usize) {
                Some(state) => (state.host, state.epoch) = (host, epoch),
                None => self.ranks.push(RankState {
                    host,
                    epoch,
                    ended: None,
                    outputs: 0,
                    trace: Vec::new(),
                }),
            }
        }
        let spec = self.spec();
        for host in self.hosts.values() {
            let mine = self
                .ranks
                .iter()
                .zip(0..)
                .filter(|(state, _)| state.host == host.id);
            let begin = mine.map(|(_, rank)| Begin {
                rank,
                epoch,
                trace: recorded.get(rank as usize).cloned().unwrap_or_default(),
                restore: checkpoint.is_some(),
            });
            host.tell(self.join_command(&spec, begin.collect()));
        }
        self.await_hosts("compile the module", |host| host.has_joined)?;
        if let Some(dir) = &checkpoint {
            for (state, rank) in self.ranks.iter().zip(0..) {
                let Some(host) = self.hosts.get(&state.host) else {
                    continue;
                };
                checkpoints::read(dir, rank, |bytes| host.tell(Command::Piece { rank, bytes }))
                    .map_err(|error| Error::io("read the checkpoint", error))?;
            }
        }
        self.tell_all(&Command::Go);
        if self.id.incarnation == 0 {
            self.began = rt::now();
        }
        self.next_checkpoint = self.world.checkpoint_every.map(|every| rt::now() + every);
        Ok(())
    }

    fn spec(&self) -> WorldSpec {
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
        let traces: Vec<Vec<u8>> = postcard::from_bytes(recording)
            .map_err(|_| Error::new(Kind::Invalid, "the file to replay is not a recording"))?;
        if traces.len() != self.world.n_ranks as usize {
            let n = traces.len();
            return Err(Error::new(
                Kind::Invalid,
                format!("the recording is of {n} ranks: use -n {n}"),
            ));
        }
        Ok(traces)
    }

    fn start_host(&mut self, dir: String, fail_point: Option<String>) -> Result<HostId, Error> {
        let role = Role {
            world: self.id,
            dir: &self.dir.join(dir),
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

    fn join_command(&self, spec: &WorldSpec, begin: Vec<Begin>) -> Command {
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
                Error::new(
                    Kind::Unavailable,
                    format!("a host takes too long to {doing}"),
                )
            })?;
            match input {
                Input::HostDied(host, status) if self.hosts.contains_key(&host) => {
                    let problem = format!("host {host} died while it was to {doing}: {status}");
                    return Err(Error::new(Kind::Unavailable, problem));
                }
                Input::Event(_, Event::JoinFailed { reason }) => {
                    return Err(Error::new(Kind::Invalid, reason));
                }
                Input::Request(request, answer) => self.answer(request, answer),
                Input::Connected(host, stream) => self.connected(host, *stream)?,
                Input::Event(host, event) => self.prepare_host(host, event),
                Input::HostDied(..) => {}
            }
        }
        Ok(())
    }

    fn connected(&mut self, host: HostId, stream: crate::wire::Stream) -> Result<(), Error> {
        match self.hosts.get_mut(&host) {
            Some(host) => host
                .connect(stream)
                .map_err(|error| Error::io("serve a host", error)),
            None => Ok(()),
        }
    }

    /// What a host says before it takes part.
    fn prepare_host(&mut self, from: HostId, event: Event) {
        let Some(host) = self.hosts.get_mut(&from) else {
            return;
        };
        match event {
            Event::Ready {
                address, metrics, ..
            } => {
                (host.address, host.metrics) = (Some(address), Some(metrics));
            }
            Event::ModuleWanted => host.tell(Command::Module(self.world.module.clone())),
            Event::Joined => host.has_joined = true,
            other => tracing::debug!(?other, "an early event of a host"),
        }
    }

    fn is_over(&self) -> bool {
        let mut ranks = (0..).zip(&self.ranks);
        ranks.all(|(rank, state)| state.ended.is_some() && self.output.has_all(rank, state.outputs))
    }

    /// How long nothing needs to be done.
    fn patience(&self) -> Duration {
        let now = rt::now();
        let checkpoint = self
            .checkpoint
            .as_ref()
            .map(|(_, since)| *since + CHECKPOINT_TIMEOUT);
        let next_move = self.world.schedule.next_at().map(|at| self.began + at);
        [checkpoint, self.next_checkpoint, next_move]
            .into_iter()
            .flatten()
            .map(|at| at.saturating_duration_since(now))
            .min()
            .unwrap_or(Duration::from_secs(1))
            .max(Duration::from_micros(100))
    }

    /// Begins what is due: the end of a checkpoint that takes too long, the next checkpoint, the next move.
    fn act(&mut self) -> Result<(), Error> {
        let now = rt::now();
        if let Some((partial, since)) = &self.checkpoint {
            if now < *since + CHECKPOINT_TIMEOUT {
                return Ok(());
            }
            tracing::warn!(
                id = partial.id,
                "a rank reaches no control point: the checkpoint is given up"
            );
            self.end_checkpoint(false)?;
        }
        if self.moving.is_some() || self.recovering.is_some() {
            return Ok(());
        }
        if self.next_checkpoint.is_some_and(|at| now >= at) {
            return self.begin_checkpoint();
        }
        let live: Vec<_> = (0..)
            .zip(&self.ranks)
            .filter(|(_, state)| state.ended.is_none())
            .map(|(rank, state)| (rank, state.host))
            .collect();
        let hosts: Vec<_> = self
            .hosts
            .values()
            .filter(|host| host.has_joined)
            .map(|host| host.id)
            .collect();
        let elapsed = self.began.elapsed();
        if let Some(due) = self.world.schedule.due(elapsed, &live, &hosts) {
            self.begin_move(due.rank, due.to, due.at, None);
        }
        Ok(())
    }

    fn begin_move(
        &mut self,
        rank: Rank,
        to: HostId,
        at: StopPoint,
        asked_by: Option<SyncSender<Answer>>,
    ) {
        self.last_epoch += 1;
        let epoch = self.last_epoch;
        let from = self.ranks[rank as usize].host;
        self.moving = Some(Moving {
            rank,
            epoch,
            from,
            to,
            at,
            committed: false,
            report: None,
            resumed_ns: None,
            asked_by,
        });
        self.tell(to, Command::Prepare { rank, epoch });
    }

    fn tell(&self, host: HostId, command: Command) {
        if let Some(host) = self.hosts.get(&host) {
            host.tell(command);
        }
    }

    fn tell_all(&self, command: &Command) {
        for host in self.hosts.values().filter(|host| host.has_joined) {
            host.tell(command.clone());
        }
    }

    fn take(&mut self, input: Input, sinks: &mut Sinks<'_>) -> Result<(), Error> {
        match input {
            Input::Connected(host, stream) => self.connected(host, *stream),
            Input::HostDied(host, status) => self.host_died(host, &status),
            Input::Request(request, answer) => {
                self.answer(request, answer);
                Ok(())
            }
            // A host that was given up has nothing more to say.
            Input::Event(from, _) if !self.hosts.contains_key(&from) => Ok(()),
            Input::Event(from, event) => self.heard(from, event, sinks),
        }
    }

    fn heard(&mut self, from: HostId, event: Event, sinks: &mut Sinks<'_>) -> Result<(), Error> {
        match event {
            Event::Output {
                rank,
                seq,
                stderr,
                bytes,
            } => {
                let taken = self.output.take(rank, seq, (stderr, bytes), sinks);
                return taken.map_err(|error| Error::io("write output", error));
            }
            Event::Prepared { rank, epoch } => {
                if let Some(moving) = self.moving_as(rank, epoch) {
                    let command = Command::Move {
                        rank,
                        epoch,
                        to: moving.to,
                        at: moving.at,
                    };
                    let source = moving.from;
                    self.tell(source, command);
                }
            }
            Event::MoveFailed {
                rank,
                epoch,
                reason,
            } => self.move_failed(rank, epoch, reason)?,
            Event::Committed {
                rank,
                epoch,
                report,
            } => self.committed(rank, epoch, Some(report))?,
            Event::Running {
                rank,
                epoch,
                resumed_ns,
            } => self.running(rank, epoch, resumed_ns, sinks),
            Event::Piece { id, rank, bytes } => self.piece(id, rank, &bytes)?,
            Event::CheckpointFailed { id, reason } => {
                if self
                    .checkpoint
                    .as_ref()
                    .is_some_and(|(partial, _)| partial.id == id)
                {
                    tracing::warn!(id, reason, "the checkpoint is given up");
                    self.end_checkpoint(false)?;
                }
            }
            Event::Marks { rank, marks } => {
                self.report.marks.entry(rank).or_default().extend(marks)
            }
            Event::Exited {
                rank,
                ended,
                outputs,
                hash,
                trace,
            } => {
                self.exited(rank, ended, outputs, hash, trace, sinks)?;
            }
            other => self.host_changed(from, other)?,
        }
        Ok(())
    }

    /// What a host says about itself.
    fn host_changed(&mut self, from: HostId, event: Event) -> Result<(), Error> {
        match event {
            Event::JoinFailed { reason } => return self.host_died(from, &reason),
            Event::Ready { ref committed, .. } => {
                let committed = committed.clone();
                self.prepare_host(from, event);
                self.came_back(from, &committed)?;
            }
            Event::Joined => {
                self.prepare_host(from, event);
                self.tell(from, Command::Go);
            }
            Event::Broken { reason } => {
                let problem = format!("host {from} cannot go on: {reason}");
                self.verdict = Some(Err(Error::new(Kind::Internal, problem)));
            }
            other => self.prepare_host(from, other),
        }
        Ok(())
    }

    fn moving_as(&mut self, rank: Rank, epoch: Epoch) -> Option<&mut Moving> {
        self.moving
            .as_mut()
            .filter(|moving| (moving.rank, moving.epoch) == (rank, epoch))
    }

    /// The rank stays where it is.
    fn move_failed(&mut self, rank: Rank, epoch: Epoch, reason: String) -> Result<(), Error> {
        let Some(moving) = self.moving.take_if(|m| (m.rank, m.epoch) == (rank, epoch)) else {
            return Ok(());
        };
        tracing::info!(rank, reason, "a move failed");
        self.tell(moving.to, Command::Discard { rank, epoch });
        if let Some(asked_by) = moving.asked_by {
            // Whoever asked may be gone.
            asked_by.send(Answer::Failed(reason.clone())).ok();
        }
        self.report.failed_moves.push(reason);
        Ok(())
    }

    /// The source has recorded that the rank has left.
    fn committed(
        &mut self,
        rank: Rank,
        epoch: Epoch,
        report: Option<FreezeReport>,
    ) -> Result<(), Error> {
        let Some(moving) = self.moving_as(rank, epoch) else {
            return Ok(());
        };
        moving.committed = true;
        moving.report = report;
        let to = moving.to;
        let state = &mut self.ranks[rank as usize];
        (state.host, state.epoch) = (to, epoch);
        if !self.hosts.contains_key(&to) {
            return self.lost(&[rank], to, "it died with the rank that had just come");
        }
        self.tell(to, Command::Commit { rank, epoch });
        self.complete_move(None);
        Ok(())
    }

    /// A rank runs (again). Everybody hears where, and sends what may have been lost meanwhile.
    fn running(&mut self, rank: Rank, epoch: Epoch, resumed_ns: u64, sinks: &mut Sinks<'_>) {
        if let Some(moving) = self.moving_as(rank, epoch) {
            moving.resumed_ns = Some(resumed_ns);
            let location = Location {
                rank,
                host: moving.to,
                epoch,
            };
            self.tell_all(&Command::Located(location));
            self.complete_move(Some(sinks));
        } else if let Some(state) = self
            .ranks
            .get(rank as usize)
            .filter(|state| state.epoch == epoch)
        {
            self.tell_all(&Command::Located(state.location(rank)));
        }
    }

    /// Ends a move when both sides have reported.
    fn complete_move(&mut self, sinks: Option<&mut Sinks<'_>>) {
        let is_complete = |moving: &mut Moving| moving.committed && moving.resumed_ns.is_some();
        let Some(moving) = self.moving.take_if(is_complete) else {
            return;
        };
        self.world.schedule.made();
        let resumed_ns = moving.resumed_ns.unwrap_or_default();
        let (rank, from, to) = (moving.rank, moving.from, moving.to);
        let mut line = format!("rank={rank} host={from}->{to}, whose source died");
        if let Some(report) = moving.report {
            let made = Move::new(rank, from, to, report, resumed_ns);
            line = made.to_string();
            self.report.moves.push(made);
        }
        if self.world.report_moves {
            let n = self.report.moves.len();
            match sinks {
                // Losing a progress line must not end the program.
                Some(sinks) => sinks
                    .stderr
                    .write_all(format!("move {n}: {line}\n").as_bytes())
                    .ok(),
                None => None,
            };
        }
        if let Some(asked_by) = moving.asked_by {
            asked_by.send(Answer::Done(line)).ok();
        }
    }

    fn exited(
        &mut self,
        rank: Rank,
        ended: Ended,
        outputs: u64,
        hash: Option<String>,
        trace: Vec<u8>,
        sinks: &mut Sinks<'_>,
    ) -> Result<(), Error> {
        let Some(state) = self
            .ranks
            .get_mut(rank as usize)
            .filter(|state| state.ended.is_none())
        else {
            return Ok(());
        };
        (state.ended, state.outputs, state.trace) = (Some(ended.clone()), outputs, trace);
        if let Some(hash) = hash {
            self.report.hashes.insert(rank, hash);
        }
        match ended {
            Ended::Exit(0) => {}
            Ended::Exit(code) | Ended::Abort(code) => self.verdict = Some(Ok(code)),
            Ended::Trap(reason) => {
                sinks
                    .stderr
                    .write_all(format!("rank {rank}: {reason}\n").as_bytes())
                    .map_err(|error| Error::io("write output", error))?;
                self.verdict = Some(Ok(TRAP_CODE));
            }
        }
        Ok(())
    }

    fn begin_checkpoint(&mut self) -> Result<(), Error> {
        let partial = self
            .checkpoints
            .begin(self.world.n_ranks)
            .map_err(|error| Error::io("begin a checkpoint", error))?;
        self.tell_all(&Command::Checkpoint { id: partial.id });
        self.checkpoint = Some((partial, rt::now()));
        self.next_checkpoint = None;
        Ok(())
    }

    fn piece(&mut self, id: u32, rank: Rank, bytes: &[u8]) -> Result<(), Error> {
        let Some((partial, _)) = self
            .checkpoint
            .as_mut()
            .filter(|(partial, _)| partial.id == id)
        else {
            return Ok(());
        };
        match partial.take(rank, bytes) {
            Ok(false) => Ok(()),
            Ok(true) => self.end_checkpoint(true),
            Err(error) => {
                // A full disk costs the checkpoint, not the program.
                tracing::warn!(%error, "the checkpoint is given up");
                self.end_checkpoint(false)
            }
        }
    }

    fn end_checkpoint(&mut self, is_complete: bool) -> Result<(), Error> {
        let Some((partial, _)) = self.checkpoint.take() else {
            return Ok(());
        };
        let published = if is_complete {
            self.checkpoints.publish(&partial)
        } else {
            Ok(())
        };
        match published {
            Ok(()) if is_complete => self.report.checkpoints += 1,
            Ok(()) => self.checkpoints.discard(&partial),
            Err(error) => tracing::warn!(%error, "the checkpoint was not published"),
        }
        self.tell_all(&Command::Resume { id: partial.id });
        self.next_checkpoint = self.world.checkpoint_every.map(|every| rt::now() + every);
        Ok(())
    }

    fn host_died(&mut self, id: HostId, status: &str) -> Result<(), Error> {
        let Some(dead) = self.hosts.remove(&id) else {
            return Ok(());
        };
        tracing::warn!(host = id, status, "a host died");
        let is_undecided = |m: &Moving| m.from == id && !m.committed;
        let undecided = self
            .moving
            .as_ref()
            .filter(|m| is_undecided(m))
            .map(|m| m.rank);
        let lost: Vec<Rank> = (0..)
            .zip(&self.ranks)
            .filter(|(rank, state)| {
                state.host == id && state.ended.is_none() && Some(*rank) != undecided
            })
            .map(|(rank, _)| rank)
            .collect();
        if !lost.is_empty() || self.checkpoint.is_some() || self.recovering == Some(id) {
            let lost = if lost.is_empty() {
                undecided.into_iter().collect()
            } else {
                lost
            };
            return self.lost(&lost, id, status);
        }
        if let Some(moving) = self.moving.as_ref().filter(|m| m.to == id && !m.committed) {
            // If the source was told already, it will notice and say which way it went.
            let (rank, epoch) = (moving.rank, moving.epoch);
            if self.hosts.contains_key(&moving.from) {
                self.tell(moving.from, Command::Discard { rank, epoch });
            }
        }
        // Somebody takes its place; on its directory, for the journal in it may have to decide.
        let dir = dead
            .dir
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        drop(dead);
        let replacement = self.start_host(dir, None)?;
        self.starter
            .keep_spare()
            .map_err(|error| Error::io("start a spare host", error))?;
        if undecided.is_some() {
            self.recovering = Some(replacement);
        }
        Ok(())
    }

    /// A host is ready that takes the place of one that died.
    fn came_back(&mut self, id: HostId, committed: &[(Rank, Epoch)]) -> Result<(), Error> {
        if self.recovering.take_if(|host| *host == id).is_some()
            && let Some(moving) = &self.moving
        {
            let (rank, epoch, to) = (moving.rank, moving.epoch, moving.to);
            if committed.contains(&(rank, epoch)) {
                self.committed(rank, epoch, None)?;
            } else {
                self.tell(to, Command::Discard { rank, epoch });
                return self.lost(&[rank], moving.from, "before the move was recorded");
            }
        }
        let spec = self.spec();
        self.tell(id, self.join_command(&spec, Vec::new()));
        if let Some(address) = self.hosts.get(&id).and_then(|host| host.address) {
            self.tell_all(&Command::Peer { host: id, address });
        }
        Ok(())
    }

    /// Ranks are lost: the world begins again from its checkpoint, or ends.
    fn lost(&mut self, ranks: &[Rank], host: HostId, how: &str) -> Result<(), Error> {
        if self.checkpoints.newest().is_none() {
            let names = ranks
                .iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            let problem = format!(
                "host {host} died ({how}) with rank {names}, and there is no checkpoint to begin again from \
                 (see --checkpoint-every)"
            );
            self.verdict = Some(Err(Error::new(Kind::Lost, problem)));
            return Ok(());
        }
        tracing::warn!(host, "the world begins again from its last checkpoint");
        self.hosts.clear();
        self.recovering = None;
        if let Some(moving) = self.moving.take()
            && let Some(asked_by) = moving.asked_by
        {
            asked_by.send(Answer::Failed("a host died".into())).ok();
        }
        if let Some((partial, _)) = self.checkpoint.take() {
            self.checkpoints.discard(&partial);
        }
        for state in &mut self.ranks {
            state.ended = None;
        }
        self.id.incarnation += 1;
        self.report.restarts += 1;
        self.begin()
    }

    fn answer(&mut self, request: Request, answer: SyncSender<Answer>) {
        let reply = match request {
            Request::Status => Answer::Status(self.status()),
            Request::Stop => {
                self.verdict = Some(Err(Error::new(Kind::Lost, "stopped by request")));
                Answer::Done(format!("world {} stops", self.name))
            }
            Request::Move { rank, to } => match self.check_move(rank, to) {
                Ok(()) => return self.begin_move(rank, to, StopPoint::NEXT, Some(answer)),
                Err(reason) => Answer::Failed(reason),
            },
        };
        // Whoever asked may be gone.
        answer.send(reply).ok();
    }

    fn check_move(&self, rank: Rank, to: HostId) -> Result<(), String> {
        let state = self
            .ranks
            .get(rank as usize)
            .ok_or_else(|| format!("there is no rank {rank}"))?;
        if state.ended.is_some() {
            return Err(format!("rank {rank} has ended"));
        }
        if !self.hosts.get(&to).is_some_and(|host| host.has_joined) {
            return Err(format!("there is no host {to}"));
        }
        if state.host == to {
            return Err(format!("rank {rank} is on host {to} already"));
        }
        if self.moving.is_some() || self.checkpoint.is_some() || self.recovering.is_some() {
            return Err("another move or a checkpoint is in progress: try again".into());
        }
        Ok(())
    }

    fn status(&self) -> Status {
        let moving = self.moving.as_ref().map(|moving| moving.rank);
        let state_of = |rank: Rank, state: &RankState| match &state.ended {
            Some(Ended::Exit(code)) => format!("exited {code}"),
            Some(Ended::Abort(code)) => format!("aborted {code}"),
            Some(Ended::Trap(reason)) => format!("trapped: {reason}"),
            None if moving == Some(rank) => "moving".into(),
            None => "running".into(),
        };
        Status {
            world: self.name.clone(),
            pid: std::process::id(),
            module: self.world.name.clone(),
            seconds: self.began.elapsed().as_secs_f64(),
            moves: u32::try_from(self.report.moves.len()).unwrap_or(u32::MAX),
            hosts: self
                .hosts
                .values()
                .map(|host| HostStatus {
                    host: host.id,
                    pid: host.pid,
                    metrics: host.metrics.map_or_else(String::new, |at| at.to_string()),
                })
                .collect(),
            ranks: (0..)
                .zip(&self.ranks)
                .map(|(rank, state)| RankStatus {
                    rank,
                    host: state.host,
                    epoch: state.epoch,
                    state: state_of(rank, state),
                })
                .collect(),
        }
    }
}

impl RankState {
    fn location(&self, rank: Rank) -> Location {
        Location {
            rank,
            host: self.host,
            epoch: self.epoch,
        }
    }
}
