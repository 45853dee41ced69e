//! What is kept of a stream, by its age or size. Pure: from where it ended at some times, to where it may begin.

use crate::config::Retention;
use crate::cuts::Cut;
use crate::limits::Limits;
use crate::rows::{RetentionRow, Tail};

/// Where a stream may begin: the latest of its noted ends behind which as much is left as is to be kept at least. As long as nobody says what
/// they have read, nothing is known to be needed that is older, and so the upper bound does not say more.
#[must_use]
pub(crate) fn decide(policy: Retention, now_ms: u64, retention: &RetentionRow) -> Option<&Cut> {
    let size = retention.tails.last()?.size;
    let (min, is_kept): (u64, &dyn Fn(&Tail) -> u64) = match policy {
        Retention::Time { min_ms, .. } => {
            (min_ms, &|tail| now_ms.saturating_sub(tail.at.counted_ms))
        }
        Retention::Size { min_bytes, .. } => (min_bytes, &|tail| size - tail.size),
    };
    let tails = retention.tails.iter().rev();
    let tail = { tails }.find(|tail| is_kept(tail) >= min)?;
    Some(&tail.cut)
}

/// With so few that they fit: those go that are closest to their neighbours, but never the first or last.
#[must_use]
pub(crate) fn thinned(mut retention: RetentionRow, limits: &Limits) -> RetentionRow {
    let is_too_much = |tails: &[Tail]| {
        let n_offsets: usize = tails.iter().map(|tail| tail.cut.len()).sum();
        tails.len() > limits.retention_cuts_max || n_offsets > limits.retention_offsets_max
    };
    while retention.tails.len() > 2 && is_too_much(&retention.tails) {
        let gap = |idx: &usize| {
            let at = |idx: usize| retention.tails[idx].at.counted_ms;
            at(idx + 1) - at(idx - 1)
        };
        let closest = (1..retention.tails.len() - 1).min_by_key(gap);
        let closest = closest.expect("there are more than two");
        retention.tails.remove(closest);
    }
    retention
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::epochs::tests::id;

    /// Each hour ten more than in the hour before.
    fn day() -> RetentionRow {
        let hours = 0..24_u64;
        let tail = |hour| Tail {
            at: Stamp {
                counted_ms: hour * 60,
                wall_ms: 0,
            },
            size: hour * hour * 5,
            cut: [(id(0, 0), i64::try_from(hour).expect("small"))].into(),
        };
        RetentionRow {
            tails: hours.map(tail).collect(),
        }
    }

    #[test]
    fn the_latest_end_goes_that_leaves_enough() {
        let check = |policy, now_ms, expected: Option<i64>| {
            let day = day();
            let hour = decide(policy, now_ms, &day).map(|cut| cut[&id(0, 0)]);
            assert_eq!(hour, expected, "{policy:?} at {now_ms}");
        };
        let time = |min_ms| Retention::Time {
            min_ms,
            max_ms: u64::MAX,
        };
        check(time(0), 1_380, Some(23));
        check(time(60), 1_380, Some(22));
        check(time(61), 1_380, Some(21));
        check(time(1_380), 1_380, Some(0));
        check(time(1_381), 1_380, None);
        // A clock that lies keeps more.
        check(time(60), 0, None);
        let size = |min_bytes| Retention::Size {
            min_bytes,
            max_bytes: u64::MAX,
        };
        check(size(0), 0, Some(23));
        check(size(1), 0, Some(22));
        check(size(225), 0, Some(22));
        check(size(226), 0, Some(21));
        check(size(2_645), 0, Some(0));
        check(size(2_646), 0, None);
        assert_eq!(decide(size(0), 0, &RetentionRow::default()), None);
    }

    #[test]
    fn what_is_noted_fits() {
        let limits = Limits {
            retention_cuts_max: 5,
            ..Limits::default()
        };
        let thin = thinned(day(), &limits);
        assert_eq!(thin.tails.len(), 5);
        assert_eq!(thin.tails.first(), day().tails.first());
        assert_eq!(thin.tails.last(), day().tails.last());
        let limits = Limits {
            retention_offsets_max: 7,
            ..Limits::default()
        };
        assert_eq!(thinned(day(), &limits).tails.len(), 7);
    }
}
