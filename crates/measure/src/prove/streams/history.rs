//! Whether what is in streams and tables is what clients were told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Context as _, ensure};

/// Of the events of one key, which are numbered from 0 on in the order in which one writer has written them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub n_sent: u64,
    pub n_acknowledged: u64,
}

/// Events that are to be there together, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub n_events: u64,
    /// Else it was aborted, or left to itself.
    pub is_committed: bool,
}

/// What was written to one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    pub keys: BTreeMap<String, Sent>,
    pub groups: BTreeMap<String, Group>,
}

/// What was read of one stream, by key or group, in the order in which it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found(BTreeMap<String, Vec<u64>>);

/// Events of a group of these numbers have one key: so they are in order.
pub(super) const KEYS_OF_GROUP: u64 = 3;

impl Found {
    /// An event is `name:number` and padding behind a blank.
    pub(super) fn add(&mut self, event: &[u8]) -> anyhow::Result<()> {
        let text = std::str::from_utf8(event).context("an event is text")?;
        let named = text
            .split_once(' ')
            .and_then(|(named, _)| named.split_once(':'));
        let (name, number) = named.with_context(|| format!("{text:?} was never written"))?;
        let numbers = self.0.entry(name.to_owned()).or_default();
        numbers.push(number.parse()?);
        Ok(())
    }

    /// The same events. Those of a group that have other keys are read in any order.
    pub(super) fn has_those_of(&self, other: &Self) -> bool {
        let sorted = |found: &Self| {
            let mut found = found.0.clone();
            found
                .values_mut()
                .for_each(|numbers| numbers.sort_unstable());
            found
        };
        sorted(self) == sorted(other)
    }

    pub(super) fn n_events(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Each event that was acknowledged is there, once, those of a key in order, and none that was not written; groups are whole.
    pub(super) fn check(&self, written: &Written) -> anyhow::Result<()> {
        for name in self.0.keys() {
            let is_known = written.keys.contains_key(name) || written.groups.contains_key(name);
            ensure!(is_known, "{name} was never written");
        }
        let of = |name: &String| self.0.get(name).map_or(&[][..], Vec::as_slice);
        for (name, sent) in &written.keys {
            let numbers = of(name);
            let in_order = (0..).zip(numbers).all(|(at, number)| at == *number);
            ensure!(in_order, "{name} is not in order: {}", strange(numbers));
            let n_found = numbers.len() as u64;
            ensure!(
                (sent.n_acknowledged..=sent.n_sent).contains(&n_found),
                "{n_found} of {name} are there: {sent:?}"
            );
        }
        for (name, group) in &written.groups {
            let numbers = of(name);
            let all: BTreeSet<_> = numbers.iter().copied().collect();
            let is_whole = numbers.len() as u64 == group.n_events
                && all == (0..group.n_events).collect::<BTreeSet<_>>();
            let is_as_told = match group.is_committed {
                true => is_whole,
                false => numbers.is_empty(),
            };
            ensure!(
                is_as_told,
                "of transaction {name} there is {numbers:?}: {group:?}"
            );
            for key in 0..KEYS_OF_GROUP {
                let of_key = numbers
                    .iter()
                    .filter(|number| **number % KEYS_OF_GROUP == key);
                ensure!(of_key.is_sorted(), "{name} is not in order: {numbers:?}");
            }
        }
        Ok(())
    }
}

/// Where numbers are not in order, and what is around.
fn strange(numbers: &[u64]) -> String {
    let at = (0..).zip(numbers).position(|(at, number)| at != *number);
    let at = at.unwrap_or_default();
    let around = &numbers[at.saturating_sub(2)..numbers.len().min(at + 5)];
    format!("{around:?} around {at} of {}", numbers.len())
}

/// What somebody did with a thing that has one value at a time, each of them once, and what was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    /// It has this value.
    Read(u64),
    /// The one is replaced by the other.
    Replaced(u64, u64),
    /// The value is not the first: so it is not replaced by the second.
    Refused(u64, u64),
    /// Nobody knows.
    Lost,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub from: Instant,
    pub to: Instant,
    pub did: Did,
}

/// All values a thing has had, the first of which is there from the beginning. `parents`: which value is to replace which.
pub(super) fn path_to(last: u64, parents: &BTreeMap<u64, u64>) -> Vec<u64> {
    let mut path = vec![last];
    let mut value = last;
    while let Some(parent) = parents.get(&value) {
        value = *parent;
        path.push(value);
        // Values that replace each other in a circle were not written.
        if path.len() > parents.len() + 1 {
            break;
        }
    }
    path.reverse();
    path
}

/// Whether there is one order of all calls in which each is answered as it was, and which has those after each other that were.
///
/// Places in that order are even for a value that begins, and odd for what happens while it is there.
pub(super) fn check_order(path: &[u64], calls: &[Call]) -> anyhow::Result<()> {
    let places: BTreeMap<u64, usize> = (0..).zip(path).map(|(at, value)| (*value, at)).collect();
    ensure!(places.len() == path.len(), "a value has come back");
    let place = |value: u64| {
        let place = places.get(&value).copied();
        place.with_context(|| format!("the value {value} is lost, or was replaced twice"))
    };
    // Of each call its first possible place, and its last.
    let mut bounds = Vec::new();
    for call in calls {
        let (first, last) = match call.did {
            Did::Read(value) => (2 * place(value)? + 1, 2 * place(value)? + 1),
            Did::Replaced(old, new) => {
                let (before, at) = (place(old)?, place(new)?);
                ensure!(
                    at == before + 1,
                    "{new} has replaced {old} and is elsewhere"
                );
                (2 * at, 2 * at)
            }
            Did::Refused(old, new) => {
                ensure!(
                    !places.contains_key(&new),
                    "{new} was refused, and is there"
                );
                (2 * place(old)? + 3, 2 * path.len() - 1)
            }
            Did::Lost => continue,
        };
        ensure!(first <= last, "{call:?}, and it was never replaced");
        bounds.push((call, first, last));
    }
    let mut ends: Vec<_> = bounds
        .iter()
        .map(|(call, first, _)| (call.to, *first))
        .collect();
    ends.sort_unstable();
    bounds.sort_unstable_by_key(|(call, ..)| call.from);
    let (mut ended, mut least) = (ends.into_iter().peekable(), 0);
    for (call, _, last) in bounds {
        while let Some((_, first)) = ended.next_if(|(to, _)| *to < call.from) {
            least = least.max(first);
        }
        let is_behind = least <= last;
        ensure!(
            is_behind,
            "{call:?} was answered after what is behind it: {least}, {last}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn found(events: &[&str]) -> Found {
        let mut found = Found::default();
        for event in events {
            let event = format!("{event} padding");
            found.add(event.as_bytes()).expect("it is one");
        }
        found
    }

    #[test]
    fn what_is_lost_or_twice_or_elsewhere_or_partial_is_seen() {
        let mut written = Written::default();
        let sent = Sent {
            n_sent: 3,
            n_acknowledged: 2,
        };
        written.keys.insert("a".to_owned(), sent);
        for (name, is_committed) in [("c", true), ("d", false)] {
            let group = Group {
                n_events: 2,
                is_committed,
            };
            written.groups.insert(name.to_owned(), group);
        }
        let is_well = |events: &[&str]| found(events).check(&written).is_ok();
        assert!(is_well(&["a:0", "c:1", "a:1", "c:0"]));
        assert!(is_well(&["a:0", "c:1", "a:1", "c:0", "a:2"]));
        for events in [
            &["a:0", "c:0", "c:1"][..],
            &["a:0", "a:1", "a:1", "c:0", "c:1"],
            &["a:1", "a:0", "c:0", "c:1"],
            &["a:0", "a:2", "c:0", "c:1"],
            &["a:0", "a:1", "a:2", "a:3", "c:0", "c:1"],
            &["a:0", "a:1", "c:0"],
            &["a:0", "a:1", "c:0", "c:1", "c:1"],
            &["a:0", "a:1", "c:0", "c:1", "d:0"],
            &["a:0", "a:1", "c:0", "c:1", "b:0"],
        ] {
            assert!(!is_well(events), "{events:?}");
        }
        Found::default().add(b"anything").expect_err("no event");
    }

    fn check(path: &[u64], calls: &[(u64, u64, Did)]) -> bool {
        let began = rt::now();
        let at = |ms| began + Duration::from_millis(ms);
        let calls = calls.iter().map(|(from, to, did)| Call {
            from: at(*from),
            to: at(*to),
            did: *did,
        });
        check_order(path, &calls.collect::<Vec<_>>()).is_ok()
    }

    #[test]
    fn an_order_that_is_none_is_seen() {
        use Did::{Lost, Read, Refused, Replaced};
        let path = [0, 1, 2];
        let both = [(0, 10, Replaced(0, 1)), (5, 20, Replaced(1, 2))];
        let with = |more: &[(u64, u64, Did)]| check(&path, &[&both, more].concat());
        assert!(with(&[(6, 7, Read(0)), (8, 9, Read(1)), (21, 22, Read(2))]));
        assert!(with(&[
            (1, 9, Refused(0, 7)),
            (30, 31, Refused(1, 8)),
            (0, 9, Lost)
        ]));
        // A read of what was replaced before, one after the other backwards, and of what is nowhere.
        assert!(!with(&[(21, 22, Read(1))]));
        assert!(!with(&[(6, 7, Read(1)), (8, 9, Read(0))]));
        assert!(!with(&[(6, 7, Read(3))]));
        // Read before it was written, refused though it was not replaced, refused and there.
        assert!(!with(&[(0, 1, Read(2))]));
        assert!(!check(&[0, 1], &[(0, 9, Refused(1, 7))]));
        assert!(!with(&[(0, 1, Refused(0, 1))]));
        // Two have replaced the same; the later replaced before the earlier.
        assert!(!with(&[(0, 9, Replaced(0, 3))]));
        assert!(!check(
            &path,
            &[(0, 1, Replaced(1, 2)), (2, 3, Replaced(0, 1))]
        ));
    }

    #[test]
    fn a_path_ends_even_if_it_is_a_circle() {
        let parents = BTreeMap::from([(1, 0), (2, 1), (3, 1)]);
        assert_eq!(path_to(2, &parents), [0, 1, 2]);
        assert_eq!(path_to(0, &parents), [0]);
        let circle = BTreeMap::from([(1, 2), (2, 1)]);
        assert!(path_to(1, &circle).len() > 2);
    }
}
