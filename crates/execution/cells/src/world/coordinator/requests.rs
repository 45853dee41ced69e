//! Answers to other processes of the user.

use std::sync::mpsc::SyncSender;

use super::{Coordinator, RankState};
use crate::error::{Error, Kind};
use crate::wire::messages::{Ended, Rank, StopPoint};
use crate::world::admin::{Answer, HostStatus, RankStatus, Request, Status};
use crate::world::hosts::{Host, Origin};

impl Coordinator<'_> {
    pub(super) fn answer(&mut self, request: Request, answer: SyncSender<Answer>) {
        let reply = match request {
            Request::Status => Answer::Status(Box::new(self.status())),
            Request::Stop => {
                self.verdict = Some(Err(Error::new(Kind::Lost, "stopped by request")));
                Answer::Done(format!("world {} stops", self.setting.name))
            }
            Request::Move { rank, to } => match self.check_move(rank, to) {
                Ok(()) => return self.begin_move(rank, to, StopPoint::NEXT, Some(answer)),
                Err(reason) => Answer::Failed(reason),
            },
            Request::Admit { label, public_key } => match self.admit(&label, public_key) {
                Ok(admission) => Answer::Admitted(admission),
                Err(reason) => Answer::Failed(reason),
            },
            Request::Dead { label } => self.declare_dead(&label),
            Request::Release { label } => self.release(&label),
            Request::Place { labels } => match self.place(labels) {
                Ok(()) => Answer::Done("the ranks move as soon as they can".into()),
                Err(reason) => Answer::Failed(reason),
            },
        };
        // Whoever asked may be gone.
        answer.send(reply).ok();
    }

    pub(super) fn status(&self) -> Status {
        let moving = self.moving.as_ref().map(|moving| moving.rank);
        let state_of = |rank: Rank, state: &RankState| match &state.ended {
            Some(Ended::Exit(code)) => format!("exited {code}"),
            Some(Ended::Abort(code)) => format!("aborted {code}"),
            Some(Ended::Trap(reason)) => format!("trapped: {reason}"),
            None if moving == Some(rank) => "moving".into(),
            None => "running".into(),
        };
        Status {
            world: self.setting.name.clone(),
            incarnation: self.id.incarnation,
            pid: std::process::id(),
            module: self.world.name.clone(),
            is_running: self.is_running,
            seconds: self.began.elapsed().as_secs_f64(),
            moves: self.n_moves,
            last_moves: self.last_moves.iter().cloned().collect(),
            moving: self.moving.as_ref().map(|moving| (moving.from, moving.to)),
            restarts: self.report.restarts,
            hosts: self.hosts.values().map(status_of).collect(),
            ranks: (0..)
                .zip(&self.ranks)
                .map(|(rank, state)| RankStatus {
                    rank,
                    host: state.host,
                    label: self.site_of(state.host).to_owned(),
                    epoch: state.epoch,
                    state: state_of(rank, state),
                    has_ended: state.ended.is_some(),
                })
                .collect(),
            placement: self.placement().to_vec(),
            unplaced: self.unplaced(),
            held_bytes: self.out.held_bytes(),
        }
    }
}

fn status_of(host: &Host) -> HostStatus {
    HostStatus {
        host: host.id,
        label: host.label.clone(),
        pid: host.pid,
        metrics: host.metrics.map_or_else(String::new, |at| at.to_string()),
        state: host.state(),
        public_key: match &host.origin {
            Origin::Child { .. } => Vec::new(),
            Origin::Admitted { public_key, .. } => public_key.clone(),
        },
    }
}
