//! What somebody else has said of names, and when he was asked.
//!
//! An answer is as old as its question. So what was asked before this node changed a name says nothing any more, whenever the answer comes.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Known<N, V> {
    facts: HashMap<N, Fact<V>>,
    facts_max: usize,
    /// All that was asked before is not taken any more: what was known then was forgotten.
    floor: Option<Instant>,
}

#[derive(Debug)]
struct Fact<V> {
    asked: Instant,
    /// `None`: it was changed then, and what it is now is not known.
    value: Option<V>,
}

impl<N: Eq + Hash, V: Clone> Known<N, V> {
    pub fn new(facts_max: usize) -> Self {
        Self {
            facts: HashMap::new(),
            facts_max,
            floor: None,
        }
    }

    /// What is known of a name, if it was asked for less than `within` ago.
    pub fn get<Q>(&self, name: &Q, now: Instant, within: Duration) -> Option<V>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let fact = self.facts.get(name)?;
        let is_fresh = now.saturating_duration_since(fact.asked) < within;
        fact.value.clone().filter(|_| is_fresh)
    }

    /// The answer to what was asked then.
    pub fn note(&mut self, name: N, asked: Instant, value: V) {
        self.put(name, asked, Some(value));
    }

    /// It was changed, or is seen to have changed.
    pub fn changed(&mut self, name: N, now: Instant) {
        self.put(name, now, None);
    }

    fn put(&mut self, name: N, asked: Instant, value: Option<V>) {
        let before = self.facts.get(&name).map(|fact| fact.asked);
        if before.max(self.floor).is_some_and(|before| asked <= before) {
            return;
        }
        if self.facts.len() >= self.facts_max && before.is_none() {
            let last = self.facts.values().map(|fact| fact.asked).max();
            self.floor = self.floor.max(last);
            self.facts.clear();
            if self.floor.is_some_and(|floor| asked <= floor) {
                return;
            }
        }
        self.facts.insert(name, Fact { asked, value });
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.facts.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);
    const NAMES: usize = 5;

    #[derive(Clone, Debug)]
    enum Step {
        /// Somebody else or this node gives a name another value.
        Theirs(usize),
        Ours(usize),
        Ask(usize),
        /// The answer to one of the questions comes.
        Answer(usize),
        Get(usize),
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let name = 0..NAMES;
        let step = prop_oneof![
            1 => name.clone().prop_map(Step::Theirs),
            1 => name.clone().prop_map(Step::Ours),
            2 => name.clone().prop_map(Step::Ask),
            2 => any::<usize>().prop_map(Step::Answer),
            2 => name.prop_map(Step::Get),
            1 => (1_u64..8).prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against all values that each name ever had: what is told was right less than `WITHIN` ago, and not before this node changed it.
        #[test]
        fn what_is_told_was_so_within_the_time(steps in steps(), facts_max in 1_usize..8) {
            let begin = Duration::ZERO;
            #[expect(clippy::disallowed_methods, reason = "any instant will do")]
            let origin = Instant::now();
            let mut known = Known::new(facts_max);
            let mut clock = begin;
            // Since when it has a value, and that of this node's last change.
            let mut history: Vec<Vec<(Duration, usize)>> = vec![vec![(begin, 0)]; NAMES];
            let mut ours = [begin; NAMES];
            let mut asked = Vec::new();
            for (no, step) in (1..).zip(steps) {
                clock += Duration::from_millis(1);
                match step {
                    Step::Theirs(name) => history[name].push((clock, no)),
                    Step::Ours(name) => {
                        history[name].push((clock, no));
                        ours[name] = clock;
                        known.changed(name, origin + clock);
                    }
                    Step::Ask(name) => asked.push((name, clock, history[name].last().expect("the first").1)),
                    Step::Answer(which) if !asked.is_empty() => {
                        let (name, at, value) = asked.remove(which % asked.len());
                        known.note(name, origin + at, value);
                    }
                    Step::Answer(_) => {}
                    Step::Get(name) => {
                        if let Some(value) = known.get(&name, origin + clock, WITHIN) {
                            let at = history[name].iter().position(|(_, other)| *other == value);
                            let until = history[name].get(at.expect("it had it") + 1);
                            let since = until.map_or(clock, |(until, _)| *until);
                            prop_assert!(since + WITHIN > clock, "{value} was replaced at {since:?}");
                            prop_assert!(since >= ours[name] || until.is_none());
                            prop_assert!(until.is_none_or(|(until, _)| *until > ours[name]));
                        }
                    }
                    Step::Pass(seconds) => clock += Duration::from_secs(seconds),
                }
                prop_assert!(known.len() <= facts_max);
            }
        }
    }
}
