//! The one seam that every nondeterministic outcome of a rank passes: recorded in a reference run, replayed in another.
//!
//! Two kinds of outcome. *Wildcards*: which message a receive from any source got. It is known only when the receive completes, but must be
//! fixed when it is posted again, so wildcards are stored by the ordinal of the receive. *Outcomes* of calls that answer at once or with one
//! of several possible results, in program order.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// One outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Clock(u64),
    Random(Vec<u8>),
    Name(Vec<u8>),
    /// Which of the requests (by position) a `wait` consumed.
    Waited(Vec<u32>),
    /// Whether a `cancel` came in time.
    Cancelled(bool),
    /// What a `probe` found.
    Probed(Option<Matched>),
}

/// The envelope of the message that a wildcard got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Matched {
    pub source: u32,
    pub tag: i32,
}

/// What a recorded rank met, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Log {
    wildcards: Vec<Option<Matched>>,
    outcomes: VecDeque<Outcome>,
}

/// What a rank does with its outcomes. Part of its state: it moves with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Trace {
    Off,
    Record(Log),
    /// The outcomes not replayed yet, and all wildcards.
    Replay(Log),
}

/// The replayed run asked for something else than the recorded one.
#[derive(Debug, thiserror::Error)]
#[error("the replay leaves the recording: {0}")]
pub(crate) struct Diverged(String);

/// Outcomes and wildcards that a recording may hold; a rank that passes it is stopped rather than let grow without bound.
const RECORDS_MAX: usize = if cfg!(test) { 1 << 10 } else { 50_000_000 };

impl Trace {
    /// Passes one outcome: `live` computes it, unless it is replayed.
    pub(crate) fn outcome(&mut self, live: impl FnOnce() -> Outcome) -> Result<Outcome, Diverged> {
        match self {
            Self::Off => Ok(live()),
            Self::Record(log) => {
                let outcome = live();
                log.push(outcome.clone())?;
                Ok(outcome)
            }
            Self::Replay(log) => log.outcomes.pop_front().ok_or_else(past_end),
        }
    }

    /// Records an outcome that is known already.
    pub(crate) fn record(&mut self, outcome: impl FnOnce() -> Outcome) -> Result<(), Diverged> {
        if let Self::Record(log) = self {
            log.push(outcome())?;
        }
        Ok(())
    }

    /// The next outcome to replay, without passing it: for calls that may have to wait until it can come true. `None` unless replaying.
    pub(crate) fn peek(&self) -> Result<Option<&Outcome>, Diverged> {
        match self {
            Self::Replay(log) => log.outcomes.front().map(Some).ok_or_else(past_end),
            Self::Off | Self::Record(_) => Ok(None),
        }
    }

    /// Passes the outcome that [`peek`](Self::peek) showed.
    pub(crate) fn advance(&mut self) {
        if let Self::Replay(log) = self {
            log.outcomes.pop_front();
        }
    }

    /// Records what the `ordinal`-th receive from any source got.
    pub(crate) fn record_wildcard(
        &mut self,
        ordinal: u64,
        matched: Matched,
    ) -> Result<(), Diverged> {
        let Self::Record(log) = self else {
            return Ok(());
        };
        let ordinal = usize::try_from(ordinal).unwrap_or(usize::MAX);
        if ordinal >= RECORDS_MAX {
            return Err(Diverged("the recording is full".into()));
        }
        if log.wildcards.len() <= ordinal {
            log.wildcards.resize(ordinal + 1, None);
        }
        log.wildcards[ordinal] = Some(matched);
        Ok(())
    }

    /// What the `ordinal`-th receive from any source gets, when replaying; `None` for one that never completed.
    pub(crate) fn wildcard(&self, ordinal: u64) -> Option<Matched> {
        let Self::Replay(log) = self else { return None };
        let ordinal = usize::try_from(ordinal).ok()?;
        log.wildcards.get(ordinal).copied().flatten()
    }

    /// Whether the recorded run went on after this.
    pub(crate) fn has_rest(&self) -> bool {
        matches!(self, Self::Replay(log) if !log.outcomes.is_empty())
    }

    /// Turns a recording around.
    pub(crate) fn into_replay(self) -> Self {
        match self {
            Self::Record(log) => Self::Replay(log),
            other => other,
        }
    }
}

impl Log {
    fn push(&mut self, outcome: Outcome) -> Result<(), Diverged> {
        if self.outcomes.len() >= RECORDS_MAX {
            return Err(Diverged("the recording is full".into()));
        }
        self.outcomes.push_back(outcome);
        Ok(())
    }
}

fn past_end() -> Diverged {
    Diverged("it goes on where the recording ends".into())
}

/// An outcome of another kind than the call at hand gives.
pub(crate) fn mismatch(call: &str, outcome: &Outcome) -> Diverged {
    Diverged(format!("{call} meets {outcome:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_gives_what_was_recorded() {
        let mut trace = Trace::Record(Log::default());
        trace.outcome(|| Outcome::Clock(7)).expect("room");
        trace.record(|| Outcome::Waited(vec![1])).expect("room");
        trace
            .record_wildcard(1, Matched { source: 3, tag: 5 })
            .expect("room");
        let mut trace = trace.into_replay();
        assert_eq!(
            trace.outcome(|| unreachable!()).expect("recorded"),
            Outcome::Clock(7)
        );
        assert_eq!(
            trace.peek().expect("recorded"),
            Some(&Outcome::Waited(vec![1]))
        );
        trace.advance();
        trace.peek().expect_err("the recording is over");
        assert_eq!(trace.wildcard(0), None);
        assert_eq!(trace.wildcard(1), Some(Matched { source: 3, tag: 5 }));
    }

    #[test]
    fn a_recording_takes_so_much_and_stays_whole() {
        let matched = Matched { source: 3, tag: 5 };
        let mut trace = Trace::Record(Log::default());
        for ns in 0..RECORDS_MAX as u64 {
            trace.outcome(|| Outcome::Clock(ns)).expect("room");
        }
        let last = RECORDS_MAX as u64 - 1;
        trace.record_wildcard(last, matched).expect("room");
        let full = trace.clone();
        trace.outcome(|| Outcome::Clock(0)).expect_err("full");
        trace.record(|| Outcome::Cancelled(true)).expect_err("full");
        for ordinal in [last + 1, u64::MAX] {
            let refused = trace.record_wildcard(ordinal, matched);
            refused.expect_err("full");
        }
        assert_eq!(trace, full, "what was refused left something behind");

        let mut trace = trace.into_replay();
        assert_eq!(trace.wildcard(last), Some(matched));
        for ns in 0..RECORDS_MAX as u64 {
            let outcome = trace.outcome(|| unreachable!()).expect("recorded");
            assert_eq!(outcome, Outcome::Clock(ns));
        }
        assert!(!trace.has_rest());
    }
}
