//! When things are brought to S3, and when not, so that those who work with the node do not feel it.
//!
//! ```text
//!   sending ── 10 turns ──▶ resting ── 6, 12, … 384 turns ──▶ sending ──▶ …
//!      ▲ nobody else is there, or there is little room left: all the time
//! ```
//!
//! Nobody knows how long answers would take without it, so it is left alone now and then: what took longer while things were sent than just before
//! was felt, and the rests are twice as long from then on. If nothing was felt they are half as long. Both the slowest answers count and what most
//! of them take: of that, less is done in the same time.

use std::time::Duration;

use geds_core::to_usize;

/// So long is a turn.
pub const TURN: Duration = Duration::from_millis(50);
const SENDING_TURNS: u32 = 10;
const RESTING_TURNS_MIN: u32 = 6;
const LONGER_MAX: u32 = 6;
/// What was sent is on its way for so many turns yet, which are no rest. The first turn of sending is much like rest.
const DRAINING_TURNS: u32 = 4;
/// With fewer answers nothing can be said.
const ANSWERS_MIN: u64 = 100;
/// Of the slowest, a step more is felt; of what is in the middle, this part of it more.
const SLOW_PERCENT: u64 = 99;
const MIDDLE_PERCENT: u64 = 50;
const FELT_PART: u64 = 16;

/// Each power of two is so many steps, as a power of two: answers are told apart if one takes an eighth longer.
const STEPS_LOG: u32 = 3;
/// More than 18 minutes are as much as that.
pub const N_BUCKETS: usize = 40 << STEPS_LOG;

/// The bucket of answers that took so long.
#[must_use]
pub fn bucket(took: Duration) -> usize {
    let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    let ns = ns.max(1 << STEPS_LOG);
    let power = ns.ilog2() - STEPS_LOG;
    // The first of its digits says the power, those behind it the step.
    let steps = (u64::from(power) << STEPS_LOG) + (ns >> power) - (1 << STEPS_LOG);
    to_usize(steps).min(N_BUCKETS - 1)
}

/// How many answers took how long.
#[derive(Clone, Debug)]
pub struct Answers(pub [u32; N_BUCKETS]);

impl Default for Answers {
    fn default() -> Self {
        Self([0; N_BUCKETS])
    }
}

impl Answers {
    fn add(&mut self, more: &Self) {
        for (n, more) in self.0.iter_mut().zip(&more.0) {
            *n = n.saturating_add(*more);
        }
    }

    fn halve(&mut self) {
        for n in &mut self.0 {
            *n /= 2;
        }
    }

    fn len(&self) -> u64 {
        self.0.iter().map(|n| u64::from(*n)).sum()
    }

    /// The bucket of the one that so many percent come before, and how many answers of that bucket do, of all there. `None`: there are too few answers.
    fn find(&self, percent: u64) -> Option<(usize, u64, u64)> {
        let len = self.len();
        if len < ANSWERS_MIN {
            return None;
        }
        let mut before = len * percent / 100;
        for (bucket, n) in self.0.iter().enumerate() {
            let n = u64::from(*n);
            if n > before {
                return Some((bucket, before, n));
            }
            before -= n;
        }
        None
    }

    /// How long that one took, in nanoseconds: those of a bucket are taken as spread over it.
    fn quantile_ns(&self, percent: u64) -> Option<u64> {
        let (bucket, before, n) = self.find(percent)?;
        let [least, most] = [bucket, bucket + 1].map(least_ns);
        let part = u128::from(most - least) * u128::from(before) / u128::from(n);
        Some(least + u64::try_from(part).unwrap_or(0))
    }
}

/// The shortest time in a bucket.
fn least_ns(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let (power, step) = (bucket >> STEPS_LOG, bucket % (1 << STEPS_LOG));
    ((1 << STEPS_LOG) + step) << power
}

/// Decides it, turn by turn.
#[derive(Debug, Default)]
pub struct Pace {
    calm: Answers,
    loaded: Answers,
    /// Rests are as long as the shortest, times two to the power of this.
    longer: u32,
    phase: Phase,
}

/// With the number of turns that it has lasted.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Sending(u32),
    Resting(u32),
}

impl Default for Phase {
    fn default() -> Self {
        Self::Sending(0)
    }
}

impl Pace {
    /// A turn is over, in which others were answered. Are things sent in the next one?
    pub fn turn(&mut self, answers: &Answers, is_short_of_room: bool) -> bool {
        if is_short_of_room {
            self.phase = Phase::default();
            return true;
        }
        self.phase = match self.phase {
            Phase::Sending(turn) => {
                if turn > 0 {
                    self.loaded.add(answers);
                }
                match turn + 1 {
                    SENDING_TURNS if self.loaded.len() < ANSWERS_MIN => self.begin_anew(),
                    SENDING_TURNS => Phase::Resting(0),
                    turn => Phase::Sending(turn),
                }
            }
            Phase::Resting(turn) => {
                let turns = RESTING_TURNS_MIN << self.longer;
                // What there is to do changes: so what is compared is near each other.
                if turn >= DRAINING_TURNS && turn + SENDING_TURNS >= turns {
                    self.calm.add(answers);
                }
                if turn + 1 < turns {
                    Phase::Resting(turn + 1)
                } else {
                    self.judge();
                    Phase::default()
                }
            }
        };
        matches!(self.phase, Phase::Sending(_))
    }

    /// Nobody else is there.
    fn begin_anew(&mut self) -> Phase {
        *self = Self::default();
        self.phase
    }

    fn judge(&mut self) {
        let (loaded, calm) = (&self.loaded, &self.calm);
        let slow = |answers: &Answers| answers.find(SLOW_PERCENT).map(|(bucket, ..)| bucket);
        let middle = |answers: &Answers| answers.quantile_ns(MIDDLE_PERCENT);
        let are_slow_felt = matches!((slow(loaded), slow(calm)), (Some(l), Some(c)) if l > c);
        let is_felt = are_slow_felt
            || matches!((middle(loaded), middle(calm)), (Some(l), Some(c)) if l > c + c / FELT_PART);
        self.longer = match is_felt {
            true => (self.longer + 1).min(LONGER_MAX),
            false => self.longer.saturating_sub(1),
        };
        self.loaded.halve();
        self.calm.halve();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many answers in a turn, of which one in fifty takes `slow_us`.
    fn answers(n: u32, slow_us: u64) -> Answers {
        let mut answers = Answers::default();
        answers.0[bucket(Duration::from_micros(100))] = n;
        answers.0[bucket(Duration::from_micros(slow_us))] += n / 50;
        answers
    }

    /// What part of `n_turns` things are sent in when answers take as long as that.
    fn part(pace: &mut Pace, n_turns: u32, of: impl Fn(bool) -> Answers) -> f64 {
        let mut is_sending = true;
        let mut n_sending = 0;
        for _ in 0..n_turns {
            n_sending += u32::from(is_sending);
            is_sending = pace.turn(&of(is_sending), false);
        }
        f64::from(n_sending) / f64::from(n_turns)
    }

    #[test]
    fn who_is_alone_sends_all_the_time() {
        let mut pace = Pace::default();
        assert_eq!(part(&mut pace, 1_000, |_| Answers::default()), 1.0);
        assert_eq!(part(&mut pace, 1_000, |_| answers(5, 100)), 1.0);
    }

    #[test]
    fn what_is_not_felt_goes_on() {
        let sent = part(&mut Pace::default(), 2_000, |_| answers(200, 1_000));
        assert!((0.6..0.7).contains(&sent), "{sent}");
    }

    #[test]
    fn what_is_felt_is_rare_until_it_is_not_felt_any_more() {
        let mut pace = Pace::default();
        let felt = |is_sending| answers(200, if is_sending { 1_200 } else { 1_000 });
        part(&mut pace, 2_000, felt);
        let sent = part(&mut pace, 4_000, felt);
        assert!((0.01..0.05).contains(&sent), "{sent}");
        part(&mut pace, 2_000, |_| answers(200, 1_000));
        let sent = part(&mut pace, 2_000, |_| answers(200, 1_000));
        assert!(sent > 0.6, "{sent}");
    }

    #[test]
    fn what_makes_all_answers_a_little_slower_is_felt() {
        let mut pace = Pace::default();
        let all = |us| {
            let mut answers = Answers::default();
            answers.0[bucket(Duration::from_micros(us))] = 200;
            // The slowest are as slow as ever.
            answers.0[bucket(Duration::from_micros(1_000))] = 10;
            answers
        };
        let felt = |is_sending| all(if is_sending { 110 } else { 100 });
        part(&mut pace, 2_000, felt);
        let sent = part(&mut pace, 4_000, felt);
        assert!((0.01..0.05).contains(&sent), "{sent}");
    }

    #[test]
    fn who_is_short_of_room_does_not_rest() {
        let mut pace = Pace::default();
        let felt = |is_sending| answers(200, if is_sending { 1_200 } else { 1_000 });
        part(&mut pace, 2_000, felt);
        assert!((0..100).all(|_| pace.turn(&felt(true), true)));
    }

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = 0;
        for us in 1..100_000_u64 {
            let now = bucket(Duration::from_micros(us));
            let later = bucket(Duration::from_micros(us + us.div_ceil(7)));
            assert!(now >= last && later > now, "{us}");
            last = now;
        }
        for n in 0..N_BUCKETS {
            assert_eq!(bucket(Duration::from_nanos(least_ns(n))), n);
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), N_BUCKETS - 1);
    }
}
