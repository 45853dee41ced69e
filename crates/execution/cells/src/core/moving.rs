//! The protocol that moves one rank, as two state machines: at most one copy of (rank, epoch) ever runs, whoever crashes when.
//!
//! ```text
//!            Source                                   Target
//!  Running ──Stopped──▶ Offering     Expecting ──Received──▶ Held      (answers "held")
//!     ▲                    │ Held → effect Record   Held ──Commit──▶ Running   (effect Run)
//!     │◀──Lost/Refused─────┤                        Expecting|Held ──Discard──▶ Gone
//!   (effect Resume)     Recorded (durable) → effect Commit
//!                          ▼
//!                       Committed
//! ```
//! The decision is the source's record: before it is durable only the source may run the rank,
//! afterwards only the target. So a source that loses the target before the record resumes. After the
//! record it never does, and tells the target both directly and through the coordinator, which
//! repeats it. A target that loses the source while it holds a copy keeps it and waits: it cannot
//! know the decision.

/// The side that the rank leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Running,
    Offering,
    /// The record is being written: whether it is durable is not known.
    Recording,
    /// The rank is gone for good.
    Committed,
    /// The record could not be written for sure: the rank runs neither here nor there until the journal is read again.
    InDoubt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SourceInput {
    /// The rank stands still and its state is about to be sent.
    Stopped,
    /// The target has all of it.
    Held,
    /// The target refused, or the connection to it broke.
    Lost,
    Recorded,
    RecordFailed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SourceEffect {
    None,
    /// Let the rank go on here.
    Resume,
    /// Make the commit record durable.
    Record,
    /// Tell the target, directly and through the coordinator.
    Commit,
}

impl Source {
    #[must_use]
    pub(crate) fn step(self, input: SourceInput) -> (Self, SourceEffect) {
        use SourceInput as In;
        match (self, input) {
            (Self::Running, In::Stopped) => (Self::Offering, SourceEffect::None),
            (Self::Offering, In::Held) => (Self::Recording, SourceEffect::Record),
            (Self::Offering, In::Lost) => (Self::Running, SourceEffect::Resume),
            (Self::Recording, In::Recorded) => (Self::Committed, SourceEffect::Commit),
            (Self::Recording, In::RecordFailed) => (Self::InDoubt, SourceEffect::None),
            (state, _) => (state, SourceEffect::None),
        }
    }
}

/// The side that the rank comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Expecting,
    Held,
    Running,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TargetInput {
    /// All of the rank's state has come and is intact.
    Received,
    Commit,
    /// The coordinator knows that the source has not recorded the move and never will.
    Discard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TargetEffect {
    None,
    Run,
    Drop,
}

impl Target {
    #[must_use]
    pub(crate) fn step(self, input: TargetInput) -> (Self, TargetEffect) {
        use TargetInput as In;
        match (self, input) {
            (Self::Expecting, In::Received) => (Self::Held, TargetEffect::None),
            (Self::Held, In::Commit) => (Self::Running, TargetEffect::Run),
            (Self::Expecting | Self::Held, In::Discard) => (Self::Gone, TargetEffect::Drop),
            (state, _) => (state, TargetEffect::None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The whole system: both sides, the journal, and what is on the wire. `None` is a crashed side.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    struct System {
        source: Option<Source>,
        target: Option<Target>,
        recorded: bool,
        source_came_back: bool,
        to_target: Vec<TargetInput>,
        to_source: Vec<SourceInput>,
        /// A canary: a source that resumes although it has recorded the move.
        broken: bool,
    }

    impl System {
        fn new(broken: bool) -> Self {
            Self {
                source: Some(Source::Running),
                target: Some(Target::Expecting),
                recorded: false,
                source_came_back: false,
                to_target: Vec::new(),
                to_source: Vec::new(),
                broken,
            }
        }

        fn n_running(&self) -> usize {
            usize::from(self.source == Some(Source::Running))
                + usize::from(self.target == Some(Target::Running))
        }

        fn feed_source(mut self, input: SourceInput) -> Vec<Self> {
            let Some(source) = self.source else {
                return vec![self];
            };
            let (mut next, effect) = source.step(input);
            if self.broken && input == SourceInput::Lost {
                next = Source::Running;
            }
            self.source = Some(next);
            match effect {
                SourceEffect::None | SourceEffect::Resume => vec![self],
                SourceEffect::Commit => {
                    self.to_target.push(TargetInput::Commit);
                    vec![self]
                }
                // The write succeeds, fails with or without the record on the disk, or the source dies before or after it.
                SourceEffect::Record => [
                    (true, Some(SourceInput::Recorded)),
                    (true, Some(SourceInput::RecordFailed)),
                    (false, Some(SourceInput::RecordFailed)),
                    (true, None),
                    (false, None),
                ]
                .into_iter()
                .flat_map(|(recorded, result)| {
                    let mut after = self.clone();
                    after.recorded = recorded;
                    match result {
                        Some(result) => after.feed_source(result),
                        None => {
                            after.source = None;
                            vec![after]
                        }
                    }
                })
                .collect(),
            }
        }

        fn feed_target(mut self, input: TargetInput) -> Self {
            if let Some(target) = self.target {
                self.target = Some(target.step(input).0);
                if input == TargetInput::Received {
                    self.to_source.push(SourceInput::Held);
                }
            }
            self
        }

        /// Everything that may happen next: a step, a delivery, a loss, a crash, a recovery.
        fn successors(&self) -> Vec<Self> {
            let mut next = Vec::new();
            if self.source == Some(Source::Running) && !self.source_came_back {
                let mut offered = self.clone();
                offered.to_target.push(TargetInput::Received);
                next.extend(offered.feed_source(SourceInput::Stopped));
            }
            for n in 0..self.to_target.len() {
                let mut state = self.clone();
                let input = state.to_target.remove(n);
                next.push(state.clone());
                next.push(state.feed_target(input));
            }
            for n in 0..self.to_source.len() {
                let mut state = self.clone();
                let input = state.to_source.remove(n);
                next.push(state.clone());
                next.extend(state.feed_source(input));
            }
            next.extend(self.clone().feed_source(SourceInput::Lost));
            next.push(Self {
                source: None,
                ..self.clone()
            });
            next.push(Self {
                target: None,
                ..self.clone()
            });
            if self.source.is_none() || self.source == Some(Source::InDoubt) {
                // The source's journal is read again, by it or for it; what it says is told to the target. The rank's state there is gone.
                let mut back = Self {
                    source: None,
                    source_came_back: true,
                    ..self.clone()
                };
                let told = if self.recorded {
                    TargetInput::Commit
                } else {
                    TargetInput::Discard
                };
                back.to_target.push(told);
                if back.to_target.len() < 4 {
                    next.push(back);
                }
            }
            next.retain(|state| state.to_source.len() < 4 && state.to_target.len() < 4);
            next
        }
    }

    fn explore(broken: bool) -> Result<usize, System> {
        let mut seen = HashSet::new();
        let mut open = vec![System::new(broken)];
        while let Some(state) = open.pop() {
            let early = state.target == Some(Target::Running) && !state.recorded;
            if state.n_running() > 1 || early {
                return Err(state);
            }
            if seen.insert(state.clone()) {
                open.extend(state.successors());
            }
        }
        Ok(seen.len())
    }

    #[test]
    fn never_two_copies_run_whatever_is_lost_and_whoever_crashes() {
        let n_states = explore(false).expect("no state with two running copies");
        assert!(
            n_states > 100,
            "the exploration reached only {n_states} states"
        );
    }

    #[test]
    fn the_exploration_catches_a_source_that_resumes_after_its_record() {
        explore(true).expect_err("two running copies");
    }
}
