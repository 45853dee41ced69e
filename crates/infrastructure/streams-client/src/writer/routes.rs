//! Which segment has which keys. Pure.

use std::iter;

use crate::Error;
use crate::controller::{SegmentRange, Successor};
use crate::names::SegmentNumber;

/// Ranges that tile all keys, in order. Until each of its predecessors is sealed, a segment that takes the place of several has only the keys of
/// those that are: what they have goes on in them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Routes(Vec<SegmentRange>);

impl Routes {
    /// # Errors
    /// `Protocol`: they do not tile all keys.
    pub(super) fn new(ranges: Vec<SegmentRange>) -> Result<Self, Error> {
        tiles(&ranges, 0.0, 1.0)?;
        Ok(Self(ranges))
    }

    /// `place` is at least 0, and less than 1.
    pub(super) fn at(&self, place: f64) -> SegmentNumber {
        let idx = self.0.partition_point(|range| range.high <= place);
        self.0[idx].number
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = SegmentNumber> {
        self.0.iter().map(|range| range.number)
    }

    /// Puts others in the place of a segment.
    ///
    /// # Errors
    /// `Protocol`: they do not have all of its keys.
    pub(super) fn replace(
        &mut self,
        sealed: SegmentNumber,
        successors: &[Successor],
    ) -> Result<(), Error> {
        let mut ranges = Vec::new();
        for range in &self.0 {
            if range.number != sealed {
                ranges.push(*range);
                continue;
            }
            for successor in successors {
                let SegmentRange { number, low, high } = successor.range;
                let (low, high) = (low.max(range.low), high.min(range.high));
                if low < high {
                    ranges.push(SegmentRange { number, low, high });
                }
            }
        }
        ranges.sort_by(|a, b| a.low.total_cmp(&b.low));
        *self = Self::new(ranges)?;
        Ok(())
    }
}

fn tiles(ranges: &[SegmentRange], low: f64, high: f64) -> Result<(), Error> {
    let ends = ranges.iter().map(|range| range.high);
    let begins = ranges.iter().map(|range| range.low);
    if iter::once(low)
        .chain(ends)
        .eq(begins.chain(iter::once(high)))
    {
        return Ok(());
    }
    Err(Error::Protocol(format!(
        "segments do not have all keys: {ranges:?}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(number: i64, low: f64, high: f64) -> SegmentRange {
        SegmentRange {
            number: SegmentNumber(number),
            low,
            high,
        }
    }

    fn successor(number: i64, low: f64, high: f64) -> Successor {
        Successor {
            range: range(number, low, high),
            predecessors: Vec::new(),
        }
    }

    #[test]
    fn keys_go_where_their_range_is() {
        let routes = Routes::new(vec![range(0, 0.0, 0.5), range(1, 0.5, 1.0)]);
        let mut routes = routes.expect("they tile");
        for (place, number) in [(0.0, 0), (0.499, 0), (0.5, 1), (0.999, 1)] {
            assert_eq!(routes.at(place), SegmentNumber(number));
        }
        let split = [successor(2, 0.5, 0.75), successor(3, 0.75, 1.0)];
        assert_eq!(routes.replace(SegmentNumber(1), &split), Ok(()));
        assert_eq!(routes.at(0.75), SegmentNumber(3));
        // Merged, of which one is not sealed yet.
        let merged = [successor(4, 0.0, 0.75)];
        assert_eq!(routes.replace(SegmentNumber(2), &merged), Ok(()));
        let of = |routes: &Routes| [0.1, 0.6, 0.8].map(|place| routes.at(place).0);
        assert_eq!(of(&routes), [0, 4, 3]);
        assert_eq!(routes.replace(SegmentNumber(0), &merged), Ok(()));
        assert_eq!(of(&routes), [4, 4, 3]);
    }

    #[test]
    fn what_leaves_a_gap_is_refused() {
        for ranges in [
            vec![],
            vec![range(0, 0.0, 0.5)],
            vec![range(0, 0.1, 1.0)],
            vec![range(0, 0.0, 0.5), range(1, 0.6, 1.0)],
            vec![range(0, 0.0, 0.5), range(1, 0.4, 1.0)],
            vec![range(0, 0.0, 1.0), range(1, 0.4, 1.0)],
        ] {
            assert!(Routes::new(ranges.clone()).is_err(), "{ranges:?}");
        }
        let mut routes = Routes::new(vec![range(0, 0.0, 1.0)]).expect("it tiles");
        let part = [successor(1, 0.0, 0.5)];
        assert!(routes.replace(SegmentNumber(0), &part).is_err());
        assert_eq!(routes.at(0.9), SegmentNumber(0));
    }
}
