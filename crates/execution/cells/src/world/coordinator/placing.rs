//! Moving ranks to where they shall be.

use std::time::{Duration, Instant};

use super::Coordinator;
use crate::wire::messages::{HostId, Rank, StopPoint};

const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Where the ranks shall be. It stands until another takes its place.
#[derive(Debug)]
pub(super) struct Target {
    labels: Vec<String>,
    n_failed: u32,
    not_before: Option<Instant>,
    why: String,
}

impl Target {
    pub(super) fn failed(&mut self, why: String) {
        let delay = RETRY_MIN
            .saturating_mul(1 << self.n_failed.min(10))
            .min(RETRY_MAX);
        self.n_failed += 1;
        self.not_before = Some(rt::now() + delay);
        self.why = why;
    }

    /// A move was given up for a host that does not answer: it is tried when that does.
    pub(super) fn interrupted(&mut self) {
        self.n_failed = 0;
        self.not_before = Some(rt::now() + RETRY_MIN);
    }

    pub(super) fn moved(&mut self) {
        (self.n_failed, self.not_before) = (0, None);
        self.why.clear();
    }
}

impl Coordinator<'_> {
    pub(super) fn place(&mut self, labels: Vec<String>) -> Result<(), String> {
        let (n_labels, n_ranks) = (labels.len(), self.world.n_ranks);
        if n_labels != n_ranks as usize {
            return Err(format!("{n_labels} places are not for {n_ranks} ranks"));
        }
        if self.placement() != labels {
            self.target = Some(Target {
                labels,
                n_failed: 0,
                not_before: None,
                why: String::new(),
            });
        }
        Ok(())
    }

    pub(super) fn placement(&self) -> &[String] {
        self.target.as_ref().map_or(&[], |target| &target.labels)
    }

    /// When a move is to be tried again.
    pub(super) fn next_placing(&self) -> Option<Instant> {
        self.target.as_ref()?.not_before
    }

    /// Begins a move towards the target, if one is left to be made and can be.
    pub(super) fn begin_placing(&mut self) -> bool {
        let Some(target) = &self.target else {
            return false;
        };
        if target.not_before.is_some_and(|at| rt::now() < at) {
            return false;
        }
        let next = self.misplaced().find_map(|(rank, label)| {
            let from = self.hosts.get(&self.ranks[rank as usize].host)?;
            let to = self.best_host(label)?;
            from.is_usable().then_some((rank, to))
        });
        let Some((rank, to)) = next else {
            return false;
        };
        self.begin_move(rank, to, StopPoint::NEXT, None);
        true
    }

    /// Ranks that are not where they shall be, and where that is. One that has ended stays.
    fn misplaced(&self) -> impl Iterator<Item = (Rank, &str)> {
        let wanted = (0..).zip(&self.ranks).zip(self.placement());
        wanted.filter_map(|((rank, state), label)| {
            let is_so = state.ended.is_some() || self.label_of(state.host) == label;
            (!is_so).then_some((rank, label.as_str()))
        })
    }

    /// The host of a site that has the fewest ranks.
    fn best_host(&self, label: &str) -> Option<HostId> {
        let n_ranks = |host: HostId| self.ranks.iter().filter(|rank| rank.host == host).count();
        let hosts = self.hosts.values();
        let mut of_site = hosts.filter(|host| host.label == label && host.is_usable());
        let first = of_site.next()?;
        let best = of_site.fold(first, |best, host| {
            if n_ranks(host.id) < n_ranks(best.id) {
                host
            } else {
                best
            }
        });
        Some(best.id)
    }

    /// Why the ranks are not where they shall be; empty: they are.
    pub(super) fn unplaced(&self) -> String {
        let Some((rank, label)) = self.misplaced().next() else {
            return String::new();
        };
        let from = self.ranks[rank as usize].host;
        if self.moving.as_ref().is_some_and(|m| m.is_told) && !self.both_ends_answer() {
            return "a move waits for a host that does not answer".into();
        }
        if self.best_host(label).is_none() {
            return format!("rank {rank} shall be at {label}, where no host answers");
        }
        if !self.hosts.get(&from).is_some_and(|host| host.is_usable()) {
            return format!("rank {rank} is on host {from}, which does not answer");
        }
        match self.target.as_ref().map_or("", |target| &target.why) {
            "" => format!("rank {rank} is still to move to {label}"),
            why => why.to_owned(),
        }
    }

    fn both_ends_answer(&self) -> bool {
        let ends = self.moving.iter().flat_map(|m| [m.from, m.to]);
        let mut hosts = ends.filter_map(|id| self.hosts.get(&id));
        hosts.all(|host| host.is_usable())
    }
}
