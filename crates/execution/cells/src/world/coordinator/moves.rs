//! Moving ranks, one at a time.

use std::sync::mpsc::SyncSender;

use super::{Coordinator, Moving};
use crate::error::Error;
use crate::wire::messages::{Command, Epoch, FreezeReport, HostId, Location, Rank, StopPoint};
use crate::world::admin::{Answer, HostState, MoveStatus};
use crate::world::hosts::Host;
use crate::world::report::Move;

/// After so many failures in a row nothing more is moved by the schedule.
const FAILED_MAX: u32 = 100;
/// So many moves are told of in a world's status, and in its report at the end.
const LAST_MOVES: usize = 64;
const MOVES_MAX: usize = 1 << 16;

impl Coordinator<'_> {
    /// Begins the move that is due, if any.
    pub(super) fn begin_due_move(&mut self) {
        if self.n_failed >= FAILED_MAX {
            return;
        }
        let live: Vec<_> = (0..)
            .zip(&self.ranks)
            .filter(|(_, state)| state.ended.is_none())
            .map(|(rank, state)| (rank, state.host))
            .collect();
        let joined = self.hosts.values().filter(|host| host.is_usable());
        let hosts: Vec<_> = joined.map(|host| host.id).collect();
        let elapsed = self.began.elapsed();
        if let Some(due) = self.world.schedule.due(elapsed, &live, &hosts) {
            self.begin_move(due.rank, due.to, due.at, None);
        }
    }

    pub(super) fn begin_move(
        &mut self,
        rank: Rank,
        to: HostId,
        at: StopPoint,
        asked_by: Option<SyncSender<Answer>>,
    ) {
        self.last_epoch += 1;
        if self.last_epoch > self.setting.past.last_epoch
            && let Err(error) = self.note_incarnation(false)
        {
            self.verdict = Some(Err(error));
            return;
        }
        let epoch = self.last_epoch;
        let state = &mut self.ranks[rank as usize];
        let from = state.host;
        state.speakers.retain(|host| self.hosts.contains_key(host));
        state.speakers.insert(to);
        self.moving = Some(Moving {
            rank,
            epoch,
            from,
            to,
            at,
            is_told: false,
            committed: false,
            report: None,
            resumed_ns: None,
            asked_by,
        });
        self.tell(to, Command::Prepare { rank, epoch });
    }

    pub(super) fn moving_as(&mut self, rank: Rank, epoch: Epoch) -> Option<&mut Moving> {
        self.moving
            .as_mut()
            .filter(|moving| (moving.rank, moving.epoch) == (rank, epoch))
    }

    /// The target has made an instance: the source is told.
    pub(super) fn prepared(&mut self, rank: Rank, epoch: Epoch) -> Result<(), Error> {
        let Some(moving) = self.moving_as(rank, epoch) else {
            return Ok(());
        };
        let command = Command::Move {
            rank,
            epoch,
            to: moving.to,
            at: moving.at,
        };
        let source = moving.from;
        moving.is_told = true;
        self.tell(source, command);
        Ok(())
    }

    /// What can be given up is not waited for: a move that the source has not been told of, and a checkpoint.
    pub(super) fn give_up_unreachable(&mut self) -> Result<(), Error> {
        let state = |id| self.hosts.get(&id).map(Host::state);
        let is_away = |id| {
            let state = state(id);
            state.is_some_and(|state| state != HostState::Connected)
        };
        if let Some(moving) = self.moving.as_ref().filter(|moving| !moving.is_told)
            && let Some(away) = [moving.from, moving.to].into_iter().find(|id| is_away(*id))
        {
            let (rank, epoch) = (moving.rank, moving.epoch);
            self.move_failed(rank, epoch, format!("host {away} does not answer"))?;
            if let Some(target) = &mut self.target {
                target.interrupted();
            }
            return Ok(());
        }
        let mut hosts = self.hosts.values();
        if self.checkpoint.is_some() && hosts.any(|host| host.state() == HostState::Unreachable) {
            tracing::info!("a host cannot be reached: the checkpoint is given up");
            self.end_checkpoint(false);
        }
        Ok(())
    }

    /// The rank stays where it is.
    pub(super) fn move_failed(
        &mut self,
        rank: Rank,
        epoch: Epoch,
        reason: String,
    ) -> Result<(), Error> {
        let is_it = |m: &mut Moving| (m.rank, m.epoch) == (rank, epoch);
        let Some(moving) = self.moving.take_if(is_it) else {
            return Ok(());
        };
        tracing::info!(rank, reason, "a move failed");
        self.tell(moving.to, Command::Discard { rank, epoch });
        if let Some(asked_by) = moving.asked_by {
            // Whoever asked may be gone.
            asked_by.send(Answer::Failed(reason.clone())).ok();
        }
        self.n_failed += 1;
        if let Some(target) = &mut self.target {
            target.failed(format!("rank {rank}: {reason}"));
        }
        if self.report.failed_moves.len() < FAILED_MAX as usize {
            self.report.failed_moves.push(reason);
        }
        if !self.hosts.contains_key(&moving.from) {
            return self.lost(&[rank], moving.from, "in the middle of a move");
        }
        Ok(())
    }

    /// The source has recorded that the rank has left.
    pub(super) fn committed(
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
        self.complete_move();
        Ok(())
    }

    /// A rank runs (again). Everybody hears where, and sends what may have been lost meanwhile.
    pub(super) fn running(&mut self, rank: Rank, epoch: Epoch, resumed_ns: u64) {
        if let Some(moving) = self.moving_as(rank, epoch) {
            moving.resumed_ns = Some(resumed_ns);
            let location = Location {
                rank,
                host: moving.to,
                epoch,
            };
            self.tell_all(&Command::Located(location));
            self.complete_move();
        } else if let Some(state) = self
            .ranks
            .get(rank as usize)
            .filter(|state| state.epoch == epoch)
        {
            self.tell_all(&Command::Located(state.location(rank)));
        }
    }

    /// Ends a move when both sides have reported.
    fn complete_move(&mut self) {
        let is_complete = |moving: &mut Moving| moving.committed && moving.resumed_ns.is_some();
        let Some(moving) = self.moving.take_if(is_complete) else {
            return;
        };
        self.n_failed = 0;
        if let Some(target) = &mut self.target {
            target.moved();
        }
        self.world.schedule.made();
        let resumed_ns = moving.resumed_ns.unwrap_or_default();
        let (rank, from, to) = (moving.rank, moving.from, moving.to);
        let mut line = format!("rank={rank} host={from}->{to}, whose source died");
        self.n_moves += 1;
        if let Some(report) = moving.report {
            let label = |id| {
                self.hosts
                    .get(&id)
                    .map_or("", |host| &host.label)
                    .to_owned()
            };
            if self.last_moves.len() == LAST_MOVES {
                self.last_moves.pop_front();
            }
            self.last_moves.push_back(MoveStatus {
                rank,
                from: label(from),
                to: label(to),
                bytes: report.bytes,
                frozen_ns: report.frozen_ns,
                resumed_ns,
            });
            let made = Move::new(rank, from, to, report, resumed_ns);
            line = made.to_string();
            if self.report.moves.len() < MOVES_MAX {
                self.report.moves.push(made);
            }
        }
        if self.world.report_moves {
            let n = self.n_moves;
            self.lines.push(format!("move {n}: {line}\n"));
        }
        if let Some(asked_by) = moving.asked_by {
            // Whoever asked may be gone.
            asked_by.send(Answer::Done(line)).ok();
        }
    }

    pub(super) fn check_move(&self, rank: Rank, to: HostId) -> Result<(), String> {
        if !self.is_running {
            return Err("the world is starting: try again".into());
        }
        let state = self
            .ranks
            .get(rank as usize)
            .ok_or_else(|| format!("there is no rank {rank}"))?;
        if state.ended.is_some() {
            return Err(format!("rank {rank} has ended"));
        }
        match self.hosts.get(&to).map(Host::state) {
            None | Some(HostState::Starting) => return Err(format!("there is no host {to}")),
            Some(HostState::Unreachable | HostState::Unresponsive) => {
                return Err(format!("host {to} does not answer: try again"));
            }
            Some(HostState::Connected) => {}
        }
        if state.host == to {
            return Err(format!("rank {rank} is on host {to} already"));
        }
        if self.is_busy() {
            return Err("another move or a checkpoint is in progress: try again".into());
        }
        Ok(())
    }
}
