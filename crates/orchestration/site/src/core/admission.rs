//! Which configurations a site takes.

use std::collections::BTreeSet;

use workload::{Kind, SiteConfig};

/// The most units at one site, and the most ranks of one unit.
const UNITS_MAX: usize = 1024;
const RANKS_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    /// It is in force already.
    Have,
    Refuse(String),
}

/// Whether `offered` follows `current`. A controller whose store went back in time, or a second one that lags, is refused.
pub(crate) fn judge(current: Option<&SiteConfig>, offered: &SiteConfig) -> Verdict {
    let generation = offered.generation;
    if let Some(current) = current {
        if generation < current.generation {
            return Verdict::Refuse(format!(
                "generation {generation} is older than {}, which is in force",
                current.generation
            ));
        }
        if generation == current.generation {
            return if offered == current {
                Verdict::Have
            } else {
                Verdict::Refuse(format!(
                    "there is another generation {generation}, and it is in force"
                ))
            };
        }
    }
    match objection(offered) {
        Some(why) => Verdict::Refuse(format!("generation {generation}: {why}")),
        None => Verdict::Take,
    }
}

fn objection(config: &SiteConfig) -> Option<String> {
    if config.units.len() > UNITS_MAX {
        return Some(format!("it has more than {UNITS_MAX} units"));
    }
    let mut ids = BTreeSet::new();
    for unit in &config.units {
        if !ids.insert(&unit.id) {
            return Some(format!("it has {} twice", unit.id));
        }
        let Kind::Cell(cell) = &unit.kind;
        let ranks = unit.placement.len();
        if ranks == 0 || ranks > RANKS_MAX || u32::try_from(ranks) != Ok(cell.ranks) {
            return Some(format!(
                "{} has {} ranks and places for {ranks}; both must be the same number from 1 to {RANKS_MAX}",
                unit.id, cell.ranks
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use ids::Generation;

    use super::*;
    use crate::core::reconcile::tests::spec;

    #[test]
    fn generations_go_forward_only() {
        let config = |generation, epochs: &[u64]| SiteConfig {
            generation: Generation(generation),
            units: (0..)
                .zip(epochs)
                .map(|(replica, epoch)| spec(replica, *epoch))
                .collect(),
        };
        let current = config(5, &[1]);
        let check = |offered: &SiteConfig, taken: bool| {
            let verdict = judge(Some(&current), offered);
            assert_eq!(verdict == Verdict::Take, taken, "{verdict:?}");
        };
        check(&config(6, &[2]), true);
        check(&config(6, &[]), true);
        check(&config(5, &[2]), false);
        check(&config(4, &[1]), false);
        assert_eq!(judge(Some(&current), &current), Verdict::Have);
        assert_eq!(judge(None, &config(0, &[])), Verdict::Take);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |units| {
            let config = SiteConfig {
                generation: Generation(1),
                units,
            };
            assert!(matches!(judge(None, &config), Verdict::Refuse(_)));
        };
        check(vec![spec(0, 1), spec(0, 2)]);
        let mut unplaced = spec(0, 1);
        unplaced.placement.clear();
        check(vec![unplaced]);
        check((0..1025).map(|replica| spec(replica, 1)).collect());
    }
}
