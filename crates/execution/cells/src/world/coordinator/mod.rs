//! The coordinator's loop, and what it keeps.
//!
//! `starting` brings hosts and ranks up, `moves` moves ranks, `placing` to where they shall be, `saving` takes checkpoints, `losing` deals
//! with dead hosts, `holding` with a full disk, `admitting` with hosts that others start, `requests` answers other processes.

mod admitting;
mod holding;
mod losing;
mod moves;
mod placing;
mod requests;
mod saving;
mod starting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::cell::clock::wall_now_ns;
use crate::disk::recording::Recording;
use crate::error::{Error, Kind};
use crate::host::RANKS_MAX;
use crate::wire::messages::{
    Command, Ended, Epoch, Event, FreezeReport, HostId, Location, Rank, StopPoint, WorldId,
};
use crate::world::admin::{self, Answer, MoveStatus, Status};
use crate::world::checkpoints::{Checkpoints, Partial};
use crate::world::hosts::{Host, Hosts};
use crate::world::out::Out;
use crate::world::output::{Output, Sinks};
use crate::world::report::Report;
use crate::world::{Input, Proof, Setting, World};

const INPUTS_MAX: usize = 256;
/// How often it is looked whether what is due can begin at last.
const BLOCKED_PERIOD: Duration = Duration::from_millis(100);
/// A module travels in one message.
const MODULE_BYTES_MAX: usize = 64 << 20;
/// Exit code of a world with a rank that trapped, as a shell shows an abort.
const TRAP_CODE: i32 = 134;

/// Runs a world to its end.
///
/// # Errors
/// When it cannot begin, or loses a rank without having a checkpoint.
pub fn run(world: World, sinks: Sinks<'_>) -> Result<Report, Error> {
    let id = rt::random_u64();
    let name = format!("{:012x}", id >> 16);
    let dir = admin::create_dir(&world.state_dir, &name)
        .map_err(|error| Error::io("create the world's directory", error))?;
    let out = Out::Streams(Output::default(), sinks);
    let (result, _) = run_in(world, Setting::temporary(name, dir.clone(), id), out);
    if let Err(error) = fs::remove_dir_all(&dir) {
        tracing::warn!(%error, dir = %dir.display(), "the world's directory was not removed");
    }
    result
}

/// Runs a world in a directory that is there, and says how it was in the end, if it ever began.
pub(super) fn run_in(
    world: World,
    setting: Setting,
    out: Out<'_>,
) -> (Result<Report, Error>, Option<Status>) {
    let mut coordinator = match check(&world).and_then(|()| Coordinator::new(world, setting, out)) {
        Ok(coordinator) => coordinator,
        Err(error) => return (Err(error), None),
    };
    let result = coordinator.run();
    let status = coordinator.status();
    coordinator.stop_hosts();
    (result, Some(status))
}

fn check(world: &World) -> Result<(), Error> {
    if world.n_ranks == 0 || world.n_ranks > RANKS_MAX || world.n_hosts == 0 {
        let range = format!("a world has 1 to {RANKS_MAX} ranks and at least one host");
        return Err(Error::new(Kind::Invalid, range));
    }
    if world.module.len() > MODULE_BYTES_MAX {
        let problem = format!("the program is larger than {MODULE_BYTES_MAX} bytes");
        return Err(Error::new(Kind::Invalid, problem));
    }
    Ok(())
}

struct Coordinator<'a> {
    world: World,
    id: WorldId,
    setting: Setting,
    starter: Hosts,
    input: Receiver<Input>,
    hosts: BTreeMap<HostId, Host>,
    ranks: Vec<RankState>,
    /// Grows with every attempt to move any rank, and in a world that is kept, across its processes.
    last_epoch: Epoch,
    moving: Option<Moving>,
    /// A source of a move has died, and the host that was started on its directory will say what its journal has.
    recovering: Option<Recovering>,
    target: Option<placing::Target>,
    checkpoints: Checkpoints,
    checkpoint: Option<(Partial, Instant)>,
    next_checkpoint: Option<Instant>,
    out: Out<'a>,
    /// The disk is full, and it is looked then whether there is room again.
    retry_output_at: Option<Instant>,
    began: Instant,
    report: Report,
    n_moves: u64,
    last_moves: VecDeque<MoveStatus>,
    /// What hosts said while they were started, to be heard once all run.
    early: Vec<(HostId, Event)>,
    /// All ranks have been told to go.
    is_running: bool,
    /// Moves that failed, one after the other.
    n_failed: u32,
    n_replacements: u32,
    /// Progress, to be written to standard error.
    lines: Vec<String>,
    /// Why the world ends early.
    verdict: Option<Result<i32, Error>>,
}

#[derive(Debug)]
struct RankState {
    host: HostId,
    /// The hosts that it is, was or may be on: they may have something to say of it.
    speakers: BTreeSet<HostId>,
    epoch: Epoch,
    ended: Option<Ended>,
    outputs: u64,
    /// What it recorded, and in which incarnation of the world.
    trace: (u32, Vec<u8>),
}

/// Who will say what the journal of a dead source has.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Recovering {
    Host(HostId),
    /// The next host of this label.
    Label(String),
}

/// The move that is being made.
#[derive(Debug)]
struct Moving {
    rank: Rank,
    epoch: Epoch,
    from: HostId,
    to: HostId,
    at: StopPoint,
    /// The source was told to begin.
    is_told: bool,
    /// The source has recorded it.
    committed: bool,
    report: Option<FreezeReport>,
    resumed_ns: Option<u64>,
    asked_by: Option<SyncSender<Answer>>,
}

impl<'a> Coordinator<'a> {
    fn new(world: World, setting: Setting, out: Out<'a>) -> Result<Self, Error> {
        let (sender, input) = sync_channel(INPUTS_MAX);
        admin::listen(&setting.dir, sender.clone())
            .map_err(|error| Error::io("listen for requests", error))?;
        let (program, log) = (world.host_program.clone(), world.log.clone());
        let id = setting.past.world();
        let starter = Hosts::new(program, log, setting.listen, id.id, sender)
            .map_err(|error| Error::io("listen for hosts", error))?;
        let checkpoints = Checkpoints::open(setting.dir.join("checkpoints"))
            .map_err(|error| Error::io("look for checkpoints", error))?;
        let report = Report {
            restarts: setting.past.restarts,
            ..Report::default()
        };
        let last_epoch = setting.past.last_epoch;
        Ok(Self {
            checkpoints,
            world,
            id,
            setting,
            starter,
            input,
            hosts: BTreeMap::new(),
            ranks: Vec::new(),
            last_epoch,
            moving: None,
            recovering: None,
            target: None,
            checkpoint: None,
            next_checkpoint: None,
            retry_output_at: out.held_bytes().map(|_| rt::now()),
            out,
            began: rt::now(),
            report,
            n_moves: 0,
            last_moves: VecDeque::new(),
            early: Vec::new(),
            is_running: false,
            n_failed: 0,
            n_replacements: 0,
            lines: Vec::new(),
            verdict: None,
        })
    }

    fn run(&mut self) -> Result<Report, Error> {
        self.begin()?;
        self.report.began_ns = wall_now_ns();
        while self.verdict.is_none() && !self.is_over() {
            let looked_at = rt::now();
            self.act()?;
            for (host, event) in std::mem::take(&mut self.early) {
                self.take(Input::Event(host, event))?;
            }
            match self.input.recv_timeout(self.patience(looked_at)) {
                Ok(input) => self.take(input)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the starter holds a sender"),
            }
            for line in self.lines.drain(..) {
                self.out
                    .say(&line)
                    .map_err(|error| Error::io("write output", error))?;
            }
        }
        self.report.duration = self.began.elapsed();
        self.finish_output()?;
        let mut report = std::mem::take(&mut self.report);
        // The status at the end says it, too.
        self.report.restarts = report.restarts;
        report.exit_code = self.verdict.take().unwrap_or(Ok(0))?;
        report.missing_moves = self.world.schedule.missing();
        if matches!(self.world.proof, Proof::Record) {
            let traces = self.ranks.iter_mut();
            let recording = Recording {
                module: wasm::engine::sha256(&self.world.module),
                args: self.world.args.clone(),
                traces: traces
                    .map(|rank| std::mem::take(&mut rank.trace.1))
                    .collect(),
            };
            report.recording = recording.encode();
        }
        Ok(report)
    }

    fn is_over(&self) -> bool {
        let mut ranks = (0..).zip(&self.ranks);
        let is_move_half_heard = |m: &Moving| m.resumed_ns.is_some() && !m.committed;
        !self.moving.as_ref().is_some_and(is_move_half_heard)
            && ranks
                .all(|(rank, state)| state.ended.is_some() && self.out.has_all(rank, state.outputs))
    }

    /// How long nothing needs to be done. What was due at `looked_at` already waits for something else, such as a host that does not answer.
    fn patience(&self, looked_at: Instant) -> Duration {
        let now = rt::now();
        let deadlines = if self.is_busy() {
            [self.checkpoint_deadline(), None, None, self.retry_output_at]
        } else {
            let next_move = self.world.schedule.next_at().map(|at| self.began + at);
            [
                self.next_checkpoint,
                next_move,
                self.next_placing(),
                self.retry_output_at,
            ]
        };
        deadlines
            .into_iter()
            .flatten()
            .map(|at| {
                if at <= looked_at {
                    BLOCKED_PERIOD
                } else {
                    at.saturating_duration_since(now)
                }
            })
            .min()
            .unwrap_or(Duration::from_secs(1))
    }

    /// Whether a move or a checkpoint is under way, or has to be cleared up.
    fn is_busy(&self) -> bool {
        self.moving.is_some() || self.recovering.is_some() || self.checkpoint.is_some()
    }

    /// Begins what is due: the end of a checkpoint that takes too long, the next checkpoint, the next move.
    fn act(&mut self) -> Result<(), Error> {
        let now = rt::now();
        if self.checkpoint_deadline().is_some_and(|at| now >= at) {
            tracing::warn!("a rank reaches no control point: the checkpoint is given up");
            self.end_checkpoint(false);
        }
        self.retry_output()?;
        self.give_up_unreachable()?;
        if self.is_busy() {
            return Ok(());
        }
        let all_answer = || self.hosts.values().all(|h| h.is_usable() || !h.has_joined);
        // One that is taken while the disk is full would not count.
        let has_room = self.out.held_bytes().is_none();
        if self.next_checkpoint.is_some_and(|at| now >= at) && has_room && all_answer() {
            self.begin_checkpoint();
        } else if !self.begin_placing() {
            self.begin_due_move();
        }
        Ok(())
    }

    fn take(&mut self, input: Input) -> Result<(), Error> {
        match input {
            // Who looks at hosts sees it.
            Input::Reached => Ok(()),
            Input::Request(request, answer) => {
                self.answer(request, answer);
                Ok(())
            }
            // A host that was given up has nothing more to say.
            Input::Event(from, _) if self.hosts.get(&from).is_none_or(|h| h.is_distrusted) => {
                Ok(())
            }
            Input::Event(from, event) => self.heard(from, event),
            Input::Speaks(from) => {
                if let Some(host) = self.hosts.get_mut(&from) {
                    host.n_speaking += 1;
                }
                Ok(())
            }
            Input::Silent(from) => {
                let Some(host) = self.hosts.get_mut(&from) else {
                    return Ok(());
                };
                host.n_speaking = host.n_speaking.saturating_sub(1);
                match host.status.clone() {
                    Some(status) if host.n_speaking == 0 => self.host_died(from, &status),
                    _ => Ok(()),
                }
            }
            // What it said before it died is heard first.
            Input::HostDied(id, status) => match self.hosts.get_mut(&id) {
                Some(host) if host.n_speaking > 0 => {
                    host.status = Some(status);
                    Ok(())
                }
                _ => self.host_died(id, &status),
            },
        }
    }

    fn heard(&mut self, from: HostId, event: Event) -> Result<(), Error> {
        if let Some(rank) = event.of_rank()
            && !self.may_speak_of(from, rank)
        {
            if let Some(host) = self.hosts.get_mut(&from) {
                host.distrust(&format!("it speaks of rank {rank}, which it never had"));
            }
            return Ok(());
        }
        match event {
            Event::Output {
                rank,
                seq,
                stderr,
                bytes,
            } => {
                return self.write_output(rank, seq, (stderr, bytes));
            }
            Event::Prepared { rank, epoch } => self.prepared(rank, epoch)?,
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
            } => self.running(rank, epoch, resumed_ns),
            Event::Piece { id, rank, bytes } => self.piece(id, rank, &bytes),
            Event::CheckpointFailed { id, reason } => {
                if self
                    .checkpoint
                    .as_ref()
                    .is_some_and(|(partial, _)| partial.id == id)
                {
                    tracing::warn!(id, reason, "the checkpoint is given up");
                    self.end_checkpoint(false);
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
            } => self.exited(rank, ended, outputs, hash),
            Event::Trace { rank, bytes } => self.recorded(rank, &bytes),
            other => self.host_changed(from, other)?,
        }
        Ok(())
    }

    fn may_speak_of(&self, host: HostId, rank: Rank) -> bool {
        let state = self.ranks.get(rank as usize);
        state.is_some_and(|state| state.speakers.contains(&host))
    }

    /// What a host says about itself.
    fn host_changed(&mut self, from: HostId, event: Event) -> Result<(), Error> {
        match event {
            Event::JoinFailed { reason } => self.host_died(from, &reason),
            Event::Ready { .. } => {
                self.prepare_host(from, event);
                self.invite(from)
            }
            Event::Joined => {
                self.prepare_host(from, event);
                // Much may have changed since it was told to join.
                for host in self.hosts.values().filter(|host| host.id != from) {
                    if let Some(address) = host.address {
                        let host = host.id;
                        self.tell(from, Command::Peer { host, address });
                    }
                }
                for (rank, state) in (0..).zip(&self.ranks) {
                    self.tell(from, Command::Located(state.location(rank)));
                }
                self.tell(from, Command::Go);
                Ok(())
            }
            Event::Broken { reason } => {
                let problem = format!("host {from} cannot go on: {reason}");
                self.verdict = Some(Err(Error::new(Kind::Internal, problem)));
                Ok(())
            }
            other => {
                self.prepare_host(from, other);
                Ok(())
            }
        }
    }

    fn exited(&mut self, rank: Rank, ended: Ended, outputs: u64, hash: Option<String>) {
        let state = self.ranks.get_mut(rank as usize);
        let Some(state) = state.filter(|state| state.ended.is_none()) else {
            return;
        };
        (state.ended, state.outputs) = (Some(ended.clone()), outputs);
        if let Some(hash) = hash {
            self.report.hashes.insert(rank, hash);
        }
        match ended {
            Ended::Exit(0) => {}
            Ended::Exit(code) | Ended::Abort(code) => self.verdict = Some(Ok(code)),
            Ended::Trap(reason) => {
                self.lines.push(format!("rank {rank}: {reason}\n"));
                self.verdict = Some(Ok(TRAP_CODE));
            }
        }
    }

    fn recorded(&mut self, rank: Rank, bytes: &[u8]) {
        let Some(state) = self.ranks.get_mut(rank as usize) else {
            return;
        };
        if state.trace.0 != self.id.incarnation {
            state.trace = (self.id.incarnation, Vec::new());
        }
        state.trace.1.extend_from_slice(bytes);
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

#[cfg(test)]
mod tests;
