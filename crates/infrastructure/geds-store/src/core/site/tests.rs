//! A site in one thread: an owner, members, and messages that come late, not at all, and in any order among connections. What was acknowledged is
//! never contradicted by what anybody answers later.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

const MEMBERS: usize = 3;
const START_MS: u64 = 1_000_000;

/// What moves.
#[derive(Clone, Debug)]
enum Step {
    /// Time goes on by so much.
    Pass(u16),
    /// The owner commits a change of a name.
    Write,
    /// A member tries what it can do next, or hears what has come for it.
    Member(usize),
    /// The owner hears the next call of a member, if there is one.
    Hear(usize),
    /// The owner answers a call that it has heard.
    Answer(usize),
    /// The connection breaks: what is on its way is gone.
    Break(usize),
    /// A member does nothing for so long, and its clients wait.
    Pause(usize, u16),
    RestartMember(usize),
    /// What is not yet durable is gone, which is all that was not acknowledged.
    RestartOwner,
    Leave(usize),
}

/// A connection to one owner; messages on it are in order.
#[derive(Debug, Default)]
struct Line {
    /// Of an owner that has let it join on this connection.
    is_joined: bool,
    calls: VecDeque<Call>,
    /// Heard, and not yet answered.
    heard: Option<Call>,
    answers: VecDeque<Answered>,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    epoch: Epoch,
    applied: Revision,
    asked: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Answered {
    asked: Instant,
    /// `None`: it is fenced.
    granted: Option<(Revision, Option<Revision>)>,
}

#[derive(Debug, Default)]
struct Replica {
    epoch: Option<Epoch>,
    applied: Revision,
    lease: Lease,
    is_waiting: bool,
    paused_until: Option<Instant>,
}

#[derive(Debug)]
struct Site {
    now: Instant,
    base: Instant,
    leases: Leases,
    /// Of the owner.
    revision: Revision,
    epoch: Epoch,
    heard: BTreeMap<NodeId, Epoch>,
    acknowledged: Revision,
    replicas: Vec<Replica>,
    lines: Vec<Line>,
    n_answers: usize,
    lost: usize,
}

fn node(member: usize) -> NodeId {
    NodeId(u32::try_from(member).expect("few") + 2)
}

impl Site {
    fn new() -> Self {
        let base = rt::now();
        Self {
            now: base + Duration::from_millis(START_MS),
            base,
            leases: Leases::default(),
            revision: Revision(0),
            epoch: Epoch(0),
            heard: BTreeMap::new(),
            acknowledged: Revision(0),
            replicas: (0..MEMBERS).map(|_| Replica::default()).collect(),
            lines: (0..MEMBERS).map(|_| Line::default()).collect(),
            n_answers: 0,
            lost: 0,
        }
    }

    /// The clocks of the members run apart from the owner's, by up to a twentieth.
    fn clock(&self, member: usize) -> Instant {
        let passed = self.now.duration_since(self.base);
        let skewed = match member % 3 {
            0 => passed,
            1 => passed - passed / 20,
            _ => passed + passed / 20,
        };
        self.base + skewed
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Pass(ms) => self.now += Duration::from_millis(u64::from(ms)),
            Step::Write => self.revision = Revision(self.revision.0 + 1),
            Step::Member(member) => self.member(member),
            Step::Hear(member) => {
                let line = &mut self.lines[member];
                if line.heard.is_none()
                    && let Some(call) = line.calls.pop_front()
                {
                    line.heard = Some(call);
                    // One that is fenced hears it with the answer.
                    let called = self.leases.called(node(member), call.epoch, call.applied);
                    called.ok();
                }
            }
            Step::Answer(member) => self.answer(member),
            Step::Break(member) => {
                self.lines[member] = Line::default();
                self.replicas[member].is_waiting = false;
            }
            Step::Pause(member, ms) => {
                let until = self.clock(member) + Duration::from_millis(u64::from(ms));
                self.replicas[member].paused_until = Some(until);
            }
            Step::RestartMember(member) => {
                self.lines[member] = Line::default();
                self.replicas[member] = Replica::default();
            }
            Step::RestartOwner => {
                self.leases = Leases::default();
                for (node, epoch) in &self.heard {
                    self.leases.expect(*node, *epoch, self.now);
                }
                // What it commits has numbers that none of what is gone has had.
                self.revision = Revision(self.revision.0 + 1);
                for member in 0..MEMBERS {
                    self.step(Step::Break(member));
                }
            }
            Step::Leave(member) => {
                if let Some(epoch) = self.replicas[member].epoch.take() {
                    self.step(Step::RestartMember(member));
                    if self.leases.left(node(member), epoch) {
                        self.heard.remove(&node(member));
                    }
                }
            }
        }
        for (node, _) in self.leases.expired(self.now) {
            self.heard.remove(&node);
            self.lost += 1;
        }
        let seen = self.leases.seen().unwrap_or(self.revision);
        self.acknowledged = self.acknowledged.max(seen.min(self.revision));
        self.check();
    }

    fn member(&mut self, member: usize) {
        let now = self.clock(member);
        let replica = &mut self.replicas[member];
        if replica.paused_until.is_some_and(|until| now < until) {
            return;
        }
        let line = &mut self.lines[member];
        if let Some(answered) = line.answers.pop_front() {
            replica.is_waiting = false;
            match answered.granted {
                Some((applied, needed)) => {
                    replica.applied = applied;
                    replica.lease.granted(answered.asked, needed);
                }
                None => self.join(member),
            }
        } else if !replica.is_waiting {
            let Some(epoch) = replica.epoch.filter(|_| line.is_joined) else {
                return self.join(member);
            };
            replica.is_waiting = true;
            line.calls.push_back(Call {
                epoch,
                applied: replica.applied,
                asked: now,
            });
        }
    }

    /// A connection that is new, to whoever is the owner now.
    fn join(&mut self, member: usize) {
        self.lines[member] = Line::default();
        let former = self.replicas[member].epoch;
        let paused_until = self.replicas[member].paused_until;
        self.replicas[member] = Replica {
            epoch: former,
            paused_until,
            ..Replica::default()
        };
        if !self.leases.may_join(node(member), former) {
            return;
        }
        self.epoch = Epoch(self.epoch.0 + 1);
        self.revision = Revision(self.revision.0 + 1);
        self.leases.joined(node(member), self.epoch, self.now);
        self.heard.insert(node(member), self.epoch);
        self.lines[member].is_joined = true;
        self.replicas[member].epoch = Some(self.epoch);
        self.replicas[member].applied = self.revision;
    }

    fn answer(&mut self, member: usize) {
        let Some(call) = self.lines[member].heard.take() else {
            return;
        };
        let granted = self
            .leases
            .grant(node(member), call.epoch, call.applied, self.now);
        let granted = granted.ok().map(|grant| {
            // Not all that there is comes with it.
            let applied = Revision((call.applied.0 + 3).min(self.revision.0));
            (applied, grant.is_first.then_some(self.revision))
        });
        self.lines[member].answers.push_back(Answered {
            asked: call.asked,
            granted,
        });
    }

    /// Whoever would answer now knows of all that was acknowledged.
    fn check(&mut self) {
        for member in 0..MEMBERS {
            let replica = &self.replicas[member];
            if replica.lease.holds(replica.applied, self.clock(member)) {
                assert!(
                    replica.applied >= self.acknowledged,
                    "member {member} answers as of {}, but {} is acknowledged",
                    replica.applied,
                    self.acknowledged
                );
                self.n_answers += 1;
            }
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let member = || 0..MEMBERS;
    prop_oneof![
        6 => (0..2_000_u16).prop_map(Step::Pass),
        8 => Just(Step::Write),
        24 => member().prop_map(Step::Member),
        20 => member().prop_map(Step::Hear),
        20 => member().prop_map(Step::Answer),
        1 => member().prop_map(Step::Break),
        1 => (member(), 0..12_000_u16).prop_map(|(member, ms)| Step::Pause(member, ms)),
        1 => member().prop_map(Step::RestartMember),
        1 => Just(Step::RestartOwner),
        1 => member().prop_map(Step::Leave),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_was_acknowledged_is_not_contradicted(steps in prop::collection::vec(any_step(), 1..600)) {
        let mut site = Site::new();
        for step in steps {
            site.step(step);
        }
    }
}

/// The world above is one in which members answer, are lost, and keep others waiting.
#[test]
fn members_answer_and_hold_up_what_they_have_not_seen() {
    let mut site = Site::new();
    let round = |site: &mut Site, member| {
        for step in [
            Step::Member(member),
            Step::Hear(member),
            Step::Answer(member),
            Step::Member(member),
        ] {
            site.step(step);
        }
    };
    site.step(Step::Member(0));
    round(&mut site, 0);
    assert!(site.n_answers > 0);
    site.step(Step::Write);
    assert_eq!(site.acknowledged.0 + 1, site.revision.0);
    round(&mut site, 0);
    round(&mut site, 0);
    assert_eq!(site.acknowledged, site.revision);
    site.step(Step::Write);
    site.step(Step::Pause(0, 60_000));
    for _ in 0..5 {
        site.step(Step::Pass(1_000));
        assert!(site.acknowledged < site.revision);
    }
    site.step(Step::Pass(1_000));
    assert_eq!((site.acknowledged, site.lost), (site.revision, 1));
}

/// An owner that took a lease to be shorter than its member does would be found out.
#[test]
fn a_member_that_counts_from_the_answer_is_caught() {
    let mut site = Site::new();
    site.step(Step::Member(0));
    for step in [Step::Member(0), Step::Hear(0), Step::Answer(0)] {
        site.step(step);
    }
    let mut answered = site.lines[0].answers.pop_front().expect("it was answered");
    // The answer is on its way for long.
    site.step(Step::Write);
    site.step(Step::Pass(6_000));
    assert_eq!(site.acknowledged, site.revision);
    answered.asked = site.clock(0);
    let (applied, needed) = answered.granted.expect("it was granted");
    let replica = &mut site.replicas[0];
    replica.applied = applied;
    replica.lease.granted(answered.asked, needed);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| site.check()));
    caught.expect_err("it answers as of before the change");
}

#[test]
fn who_was_there_before_a_restart_is_waited_for_and_may_come_back_at_once() {
    let mut leases = Leases::default();
    let now = rt::now();
    leases.expect(NodeId(2), Epoch(7), now);
    assert_eq!(leases.seen(), Some(Revision(0)));
    assert!(!leases.may_join(NodeId(2), None));
    assert!(!leases.may_join(NodeId(2), Some(Epoch(6))));
    assert!(leases.may_join(NodeId(2), Some(Epoch(7))));
    assert!(leases.may_join(NodeId(3), None));
    assert_eq!(leases.expired(now + LEASE), []);
    assert_eq!(
        leases.expired(now + LEASE + MARGIN),
        [(NodeId(2), Epoch(7))]
    );
    assert_eq!(leases.seen(), None);
    assert_eq!(leases.called(NodeId(2), Epoch(7), Revision(1)), Err(Fenced));
}
