//! What was decided for one target: for people, and for what may be decided next.

use std::collections::VecDeque;
use std::time::Duration;

use ids::Name;

use crate::decision::{Decision, Outcome};
use crate::seam::Time;

/// Moves that are remembered.
const MOVES_MAX: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Diary {
    /// Newest first.
    decisions: VecDeque<Decision>,
    /// Newest first.
    moves: VecDeque<Moved>,
}

#[derive(Clone, Debug)]
struct Moved {
    from: Name,
    to: Name,
    at: Time,
}

impl Diary {
    pub(crate) fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter()
    }

    /// A move was asked for, or has been seen to have happened without that. The same one is noted once, with its latest time.
    pub(crate) fn note_move(&mut self, from: Name, to: Name, at: Time) {
        if let Some(last) = self.moves.front_mut()
            && last.from == from
            && last.to == to
        {
            last.at = last.at.max(at);
            return;
        }
        self.moves.push_front(Moved { from, to, at });
        self.moves.truncate(MOVES_MAX);
    }

    pub(crate) fn since_last_move(&self, now: Time) -> Option<Duration> {
        self.moves.front().map(|last| now.since(last.at))
    }

    pub(crate) fn moves_within(&self, period: Duration, now: Time) -> usize {
        let recent = self.moves.iter().filter(|m| now.since(m.at) < period);
        recent.count()
    }

    /// How long ago it left `site`.
    pub(crate) fn left(&self, site: &Name, now: Time) -> Option<Duration> {
        let left = self.moves.iter().find(|m| m.from == *site)?;
        Some(now.since(left.at))
    }

    /// Adds a decision. One that says the same as an earlier one, with no move in between, takes its place; in shadow mode
    /// the first one stays, for as long as it would have kept others from being made. Returns whether it is a new one.
    pub(crate) fn add(&mut self, mut decision: Decision, dwell: Duration, max: usize) -> bool {
        let same = self
            .decisions
            .iter()
            .take_while(|d| !is_move(d) || d.outcome == Outcome::Shadow)
            .position(|d| says_the_same(d, &decision));
        if let Some(idx) = same
            && !is_move(&decision)
        {
            if let Some(before) = self.decisions.remove(idx) {
                decision.times = before.times.saturating_add(1);
            }
            self.decisions.push_front(decision);
            return false;
        }
        if let Some(before) = same.and_then(|idx| self.decisions.get_mut(idx))
            && before.outcome == Outcome::Shadow
            && decision.at.since(before.at) < dwell
        {
            before.times = before.times.saturating_add(1);
            return false;
        }
        if self.decisions.len() >= max.max(1) {
            // Moves are what people ask about later.
            let idle = self.decisions.iter().rposition(|d| !is_move(d));
            let idx = idle.unwrap_or(self.decisions.len() - 1);
            self.decisions.remove(idx);
        }
        self.decisions.push_front(decision);
        true
    }

    pub(crate) fn find(&mut self, id: &str) -> Option<&mut Decision> {
        self.decisions.iter_mut().find(|d| d.id == id)
    }

    /// The KPI was violated: what the last decision to move foresaw has happened, or was not prevented.
    pub(crate) fn note_violation(&mut self, at: Time) {
        let last = self.decisions.iter_mut().find(|d| is_move(d));
        if let Some(last) = last
            && last.violated_at.is_none()
            && at >= last.at
        {
            last.violated_at = Some(at);
        }
    }
}

fn is_move(decision: &Decision) -> bool {
    decision.action.starts_with("migrate_service to ")
        && !matches!(decision.outcome, Outcome::Held(_))
}

fn says_the_same(a: &Decision, b: &Decision) -> bool {
    a.branch == b.branch && a.action == b.action && a.outcome.kind() == b.outcome.kind()
}
