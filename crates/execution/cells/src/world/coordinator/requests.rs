//! Answers to other processes of the user.

use std::sync::mpsc::SyncSender;

use super::{Coordinator, RankState};
use crate::error::{Error, Kind};
use crate::wire::messages::{Ended, Rank, StopPoint};
use crate::world::admin::{Answer, HostStatus, RankStatus, Request, Status};

impl Coordinator {
    pub(super) fn answer(&mut self, request: Request, answer: SyncSender<Answer>) {
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
