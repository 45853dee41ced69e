//! Moving ranks, one at a time.

use std::sync::mpsc::SyncSender;

use super::{Coordinator, Moving};
use crate::error::Error;
use crate::wire::messages::{Command, Epoch, FreezeReport, HostId, Location, Rank, StopPoint};
use crate::world::admin::Answer;
use crate::world::report::Move;

/// After so many failures in a row nothing more is moved by the schedule.
const FAILED_MAX: u32 = 100;

impl Coordinator {
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
        let joined = self.hosts.values().filter(|host| host.has_joined);
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
        let epoch = self.last_epoch;
        let from = self.ranks[rank as usize].host;
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
        if !self.hosts.get(&to).is_some_and(|host| host.has_joined) {
            return Err(format!("there is no host {to}"));
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
