//! What is being fetched: each thing once, for however many want it.
//!
//! ```text
//!            board                     land
//!  nothing ────────▶ under way ────────────────▶ nothing     whoever boards meanwhile has the same flight
//!      └── Full: there are too many                          what came of it is not known here
//! ```
//!
//! What is fetched ahead, since it may be wanted, takes no more than its part.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
pub struct Flights<K, F> {
    under_way: HashMap<K, F>,
    max: usize,
    max_for_ahead: usize,
}

/// Who wants something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Somebody who waits for it.
    Now,
    /// Nobody yet.
    Ahead,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boarding<F> {
    /// It is under way already.
    Joined(F),
    /// It is for the caller to carry out, and to [land](Flights::land).
    Begun(F),
    Full,
}

impl<K: Eq + Hash, F: Clone> Flights<K, F> {
    /// At most `max`; nothing is begun ahead while there are `max_for_ahead`.
    pub fn new(max: usize, max_for_ahead: usize) -> Self {
        Self {
            under_way: HashMap::new(),
            max,
            max_for_ahead,
        }
    }

    pub fn board(&mut self, key: K, by: For, begin: impl FnOnce() -> F) -> Boarding<F> {
        if let Some(flight) = self.under_way.get(&key) {
            return Boarding::Joined(flight.clone());
        }
        let max = match by {
            For::Now => self.max,
            For::Ahead => self.max_for_ahead.min(self.max),
        };
        if self.under_way.len() >= max {
            return Boarding::Full;
        }
        let flight = begin();
        self.under_way.insert(key, flight.clone());
        Boarding::Begun(flight)
    }

    /// It is over. Who wants it from now on looks whether it is there, and begins anew if not.
    pub fn land(&mut self, key: &K) -> Option<F> {
        self.under_way.remove(key)
    }

    pub fn n_under_way(&self) -> usize {
        self.under_way.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Board(u8, bool),
        Land(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => (0_u8..8, any::<bool>()).prop_map(|(key, is_ahead)| Step::Board(key, is_ahead)),
            1 => (0_u8..8).prop_map(Step::Land),
        ];
        prop::collection::vec(step, 0..100)
    }

    proptest! {
        /// Against a list of what is under way.
        #[test]
        fn each_is_fetched_once_and_not_too_many_are(steps in steps(), max in 0_usize..6, ahead in 0_usize..6) {
            let mut flights = Flights::new(max, ahead);
            let mut model: Vec<(u8, usize)> = Vec::new();
            for (no, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Board(key, is_ahead) => {
                        let by = if is_ahead { For::Ahead } else { For::Now };
                        let most = if is_ahead { max.min(ahead) } else { max };
                        let there = model.iter().find(|(other, _)| *other == key);
                        let expected = match there {
                            Some((_, flight)) => Boarding::Joined(*flight),
                            None if model.len() >= most => Boarding::Full,
                            None => {
                                model.push((key, no));
                                Boarding::Begun(no)
                            }
                        };
                        prop_assert_eq!(flights.board(key, by, || no), expected);
                    }
                    Step::Land(key) => {
                        let at = model.iter().position(|(other, _)| *other == key);
                        let expected = at.map(|at| model.remove(at).1);
                        prop_assert_eq!(flights.land(&key), expected);
                    }
                }
                prop_assert_eq!(flights.n_under_way(), model.len());
            }
        }
    }
}
