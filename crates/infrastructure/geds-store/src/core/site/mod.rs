//! Who of a site may answer from what it knows of the names, and since when everybody who may knows of a change.
//!
//! One node owns the index; the others are members, each with a replica. A member answers from its replica only while it has a lease, which the
//! owner grants with each answer to its calls:
//!
//! ```text
//!             joined              the first call            a call in time
//!  (unknown) ───────▶ Loading ───────────────────▶ Leased ◀───────────────┐
//!      ▲                 │ LOADING_MAX                │ ───────────────────┘
//!      └─────────────────┴────────────────────────────┘ its time is over, or it has left: the index says that it is lost
//! ```
//!
//! - A change is acknowledged when [`Leases::seen`] has reached it: all who have a lease have applied it then, and who gets one later has to reach a
//!   revision that it was committed before ([`Grant`]).
//! - The owner counts a lease from when it answers, and longer than it says; the member from when it has asked. So no member believes in one that the
//!   owner takes to be over, as long as clocks run about alike, whatever is delayed in between.
//! - An owner that begins anew waits for the leases that the one before may have granted ([`Leases::expect`]).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ids::Epoch;

use super::index::{NodeId, Revision};

/// How long a lease is for the member that has it.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// How much longer its owner takes it to be: clocks do not run apart by a tenth.
const MARGIN: Duration = Duration::from_millis(500);
/// A member that calls is answered at the latest after this, and so calls as often.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
/// So long one that has joined may take to get the names, with each piece of them anew.
const LOADING_MAX: Duration = Duration::from_secs(30);

/// What the owner knows of the members.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    members: BTreeMap<NodeId, Member>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    epoch: Epoch,
    state: State,
    /// When it is lost.
    until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Answers nobody yet.
    Loading,
    Leased {
        applied: Revision,
    },
}

/// The member is not known under that epoch: it is to join again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fenced;

/// A lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// It did not have one: it may answer when it has reached the revision that the index has now, after this was said.
    pub is_first: bool,
}

impl Leases {
    /// A node that is heard as the index says, and may have a lease of an owner before this one.
    pub(crate) fn expect(&mut self, node: NodeId, epoch: Epoch, now: Instant) {
        let state = State::Leased {
            applied: Revision(0),
        };
        let until = now + LEASE + MARGIN;
        self.members.insert(
            node,
            Member {
                epoch,
                state,
                until,
            },
        );
    }

    /// Whether a node may join, or when it may ask again. `former`: the epoch under which it has answered before, and does not any more.
    pub(crate) fn may_join(&self, node: NodeId, former: Option<Epoch>) -> bool {
        let known = self.members.get(&node);
        known.is_none_or(|member| member.state == State::Loading || former == Some(member.epoch))
    }

    /// The index says that it has joined.
    pub(crate) fn joined(&mut self, node: NodeId, epoch: Epoch, now: Instant) {
        let member = Member {
            epoch,
            state: State::Loading,
            until: now + LOADING_MAX,
        };
        self.members.insert(node, member);
    }

    /// It has got a part of the names.
    ///
    /// # Errors
    /// [`Fenced`].
    pub(crate) fn loads(&mut self, node: NodeId, epoch: Epoch, now: Instant) -> Result<(), Fenced> {
        let member = self.member(node, epoch)?;
        if member.state == State::Loading {
            member.until = now + LOADING_MAX;
        }
        Ok(())
    }

    /// It calls, and has applied so much. That alone prolongs nothing.
    ///
    /// # Errors
    /// [`Fenced`].
    pub(crate) fn called(
        &mut self,
        node: NodeId,
        epoch: Epoch,
        applied: Revision,
    ) -> Result<(), Fenced> {
        let member = self.member(node, epoch)?;
        if let State::Leased { applied: before } = &mut member.state {
            *before = applied.max(*before);
        }
        Ok(())
    }

    /// Its call is answered.
    ///
    /// # Errors
    /// [`Fenced`].
    pub(crate) fn grant(
        &mut self,
        node: NodeId,
        epoch: Epoch,
        applied: Revision,
        now: Instant,
    ) -> Result<Grant, Fenced> {
        let member = self.member(node, epoch)?;
        member.until = now + LEASE + MARGIN;
        let is_first = member.state == State::Loading;
        if is_first {
            member.state = State::Leased { applied };
        }
        Ok(Grant { is_first })
    }

    /// Those whose time is over, which are forgotten here.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<(NodeId, Epoch)> {
        let mut expired = Vec::new();
        self.members.retain(|node, member| {
            let is_over = member.until <= now;
            if is_over {
                expired.push((*node, member.epoch));
            }
            !is_over
        });
        expired
    }

    /// It answers nobody any more, as it says itself. `false`: it was not known.
    pub(crate) fn left(&mut self, node: NodeId, epoch: Epoch) -> bool {
        let is_known = self.member(node, epoch).is_ok();
        if is_known {
            self.members.remove(&node);
        }
        is_known
    }

    /// All who may answer know of the changes up to this one. `None`: of all.
    pub(crate) fn seen(&self) -> Option<Revision> {
        let applied = self
            .members
            .values()
            .filter_map(|member| match member.state {
                State::Leased { applied } => Some(applied),
                State::Loading => None,
            });
        applied.min()
    }

    /// Those that have a lease, what they have applied, and how long they have it yet.
    pub(crate) fn leased(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (NodeId, Revision, Duration)> + '_ {
        self.members.iter().filter_map(move |(node, member)| {
            let State::Leased { applied } = member.state else {
                return None;
            };
            Some((*node, applied, member.until.saturating_duration_since(now)))
        })
    }

    fn member(&mut self, node: NodeId, epoch: Epoch) -> Result<&mut Member, Fenced> {
        let member = self.members.get_mut(&node);
        member.filter(|member| member.epoch == epoch).ok_or(Fenced)
    }
}

/// The lease of a member, as it has it itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lease {
    until: Option<Instant>,
    /// What it has to have applied.
    needed: Revision,
}

impl Lease {
    /// The answer to what was asked then. `needed`: of a first one.
    pub(crate) fn granted(&mut self, asked: Instant, needed: Option<Revision>) {
        self.until = Some(asked + LEASE);
        if let Some(needed) = needed {
            self.needed = needed;
        }
    }

    /// May it answer?
    pub(crate) fn holds(&self, applied: Revision, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until) && applied >= self.needed
    }

    /// When it ends, if nothing is heard any more.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }
}
