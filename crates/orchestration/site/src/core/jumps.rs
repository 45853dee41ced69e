//! Clocks that do not go on as they should: the machine slept, or somebody set the time.

use std::time::Duration;

/// What is noticed; less is the clocks' own drift, and the time between reading one and the next.
const JUMP_MIN: Duration = Duration::from_secs(1);

/// All three clocks, read one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Stands still while the machine sleeps.
    pub monotonic: Duration,
    /// Goes on while the machine sleeps.
    pub boot: Duration,
    /// Since 1970, as far as the machine knows.
    pub wall: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Jump {
    Slept(Duration),
    SetForward(Duration),
    SetBack(Duration),
}

/// What happened between two readings.
pub(crate) fn between(before: Reading, after: Reading) -> Vec<Jump> {
    let mut jumps = Vec::new();
    let passed = after.boot.saturating_sub(before.boot);
    let awake = after.monotonic.saturating_sub(before.monotonic);
    let slept = passed.saturating_sub(awake);
    if slept >= JUMP_MIN {
        jumps.push(Jump::Slept(slept));
    }
    let expected = before.wall + passed;
    let forward = after.wall.saturating_sub(expected);
    let back = expected.saturating_sub(after.wall);
    if forward >= JUMP_MIN {
        jumps.push(Jump::SetForward(forward));
    }
    if back >= JUMP_MIN {
        jumps.push(Jump::SetBack(back));
    }
    jumps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_and_a_new_time_are_told_apart() {
        let at = |monotonic, boot, wall| Reading {
            monotonic: Duration::from_millis(monotonic),
            boot: Duration::from_millis(boot),
            wall: Duration::from_millis(wall),
        };
        let check = |after, expected: &[Jump]| {
            assert_eq!(between(at(1_000, 5_000, 1_000_000), after), expected);
        };
        let secs = Duration::from_secs;
        check(at(2_000, 6_000, 1_001_000), &[]);
        check(at(2_000, 6_500, 1_002_400), &[]);
        check(at(2_000, 66_000, 1_061_000), &[Jump::Slept(secs(60))]);
        check(at(2_000, 6_000, 1_061_000), &[Jump::SetForward(secs(60))]);
        check(at(2_000, 6_000, 941_000), &[Jump::SetBack(secs(60))]);
        check(
            at(2_000, 66_000, 1_001_000),
            &[Jump::Slept(secs(60)), Jump::SetBack(secs(60))],
        );
    }
}
