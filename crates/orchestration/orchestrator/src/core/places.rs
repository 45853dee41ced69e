//! The sites as places for units: which may be taken, how much room each has, and how much of its processors for one rank more.

use std::cmp::Ordering;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::io;

use ids::{Labels, Name, Selector};
use workload::Kind;
use workload::link::HEADER_BYTES_MAX;

use super::blueprint::{Blueprint, Changes, Planned};
use super::inventory::{Now, Sites, last_report};

/// What a site takes: it refuses a configuration of more units, all of it, and a longer one does not fit into one message. Beyond it, whoever
/// comes last has to wait, and nobody else.
pub(crate) const SITE_UNITS_MAX: usize = 1024;
/// What may still grow in the units that are there (a longer key of iterations) has the last part of a message.
const SITE_BYTES_MAX: usize = HEADER_BYTES_MAX - (1 << 20);

/// With so many sites or fewer, each is explained; with more, they are counted.
const EXPLAINED_SITES_MAX: usize = 8;
/// So many kinds of wishes are remembered with their candidates at a time.
const CHOICES_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct Places<'a> {
    places: Vec<Place<'a>>,
    by_name: BTreeMap<&'a Name, usize>,
    /// Label to the places that have it, in order.
    by_label: BTreeMap<(&'a str, &'a str), Vec<usize>>,
    choices: BTreeMap<(&'a Labels, Size), Choice>,
}

/// What a unit takes of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size {
    n_ranks: u32,
    /// In a configuration, at most.
    n_bytes: usize,
}

impl Size {
    pub(crate) fn of(kind: &Kind) -> Self {
        /// Of a name in quotes, and of what else there is in a unit.
        const NAME_BYTES_MAX: usize = 66;
        const REST_BYTES_MAX: usize = 512;
        let Kind::Cell(cell) = kind;
        let mut counted = Counted(0);
        serde_json::to_writer(&mut counted, kind).expect("a kind has only keys that JSON can have");
        // Wherever it moves, it does not get longer.
        let n_places_bytes = (cell.ranks as usize + 1) * NAME_BYTES_MAX;
        Self {
            n_ranks: cell.ranks,
            n_bytes: counted.0 + n_places_bytes + REST_BYTES_MAX,
        }
    }
}

/// Counts what is written.
#[derive(Debug)]
struct Counted(usize);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Place<'a> {
    name: &'a Name,
    labels: &'a Labels,
    cpu_share: f64,
    unfit: Option<&'static str>,
    /// How many ranks are planned here.
    n_ranks: u32,
    /// The parts of units in its configuration, and their bytes.
    n_units: usize,
    n_bytes: usize,
}

impl Place<'_> {
    /// The processors for each rank once `n_ranks` more are here.
    fn share(&self, n_ranks: u32) -> f64 {
        self.cpu_share / f64::from(self.n_ranks + n_ranks.max(1))
    }

    /// Why so many parts more, of so many bytes, do not fit.
    fn full(&self, n_units: usize, n_bytes: usize) -> Option<String> {
        if self.n_units + n_units > SITE_UNITS_MAX {
            Some(format!(
                "it has {} units, of {SITE_UNITS_MAX} that a site takes",
                self.n_units
            ))
        } else if self.n_bytes.saturating_add(n_bytes) > SITE_BYTES_MAX {
            Some(format!(
                "its configuration has {} bytes, of {SITE_BYTES_MAX} that it may have",
                self.n_bytes
            ))
        } else {
            None
        }
    }
}

/// The places that match one wish.
#[derive(Debug)]
struct Choice {
    /// What is noted of a place may be too high, since more has come; never too low, since within a pass nothing goes.
    candidates: BinaryHeap<Candidate>,
    n_unfit: usize,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    share: f64,
    place: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let share = self.share.total_cmp(&other.share);
        // Of equals, the first by name.
        share.then(other.place.cmp(&self.place))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

impl<'a> Places<'a> {
    pub(crate) fn new(sites: &'a Sites, now: Now) -> Self {
        let mut by_label: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut by_name = BTreeMap::new();
        let mut places = Vec::new();
        for (idx, (name, site)) in sites.iter().enumerate() {
            for (key, value) in &site.facts.labels {
                by_label.entry((&**key, &**value)).or_default().push(idx);
            }
            by_name.insert(name, idx);
            places.push(Place {
                name,
                labels: &site.facts.labels,
                cpu_share: site.facts.cpu_share,
                unfit: site.unfit(now),
                n_ranks: 0,
                n_units: 0,
                n_bytes: 0,
            });
        }
        Self {
            places,
            by_name,
            by_label,
            choices: BTreeMap::new(),
        }
    }

    /// Counts what a blueprint has, with what changes. Units that have ended take no processors, but they are in the configurations.
    pub(crate) fn count(&mut self, blueprint: &Blueprint, changes: &Changes, sites: &Sites) {
        for (id, planned) in blueprint.units() {
            let planned = match changes.units.get(id) {
                None => planned,
                Some(Some(revised)) => revised,
                Some(None) => continue,
            };
            self.add(planned, sites);
        }
    }

    pub(crate) fn add(&mut self, planned: &Planned, sites: &Sites) {
        self.change(planned, sites, |count, by| *count += by);
    }

    pub(crate) fn remove(&mut self, planned: &Planned, sites: &Sites) {
        self.change(planned, sites, |count, by| *count -= by);
    }

    fn change(&mut self, planned: &Planned, sites: &Sites, change: impl Fn(&mut usize, usize)) {
        let spec = &planned.spec;
        let Size { n_bytes, .. } = Size::of(&spec.kind);
        let parts: BTreeSet<_> = planned.sites().collect();
        for site in parts {
            if let Some(idx) = self.by_name.get(site) {
                let place = &mut self.places[*idx];
                change(&mut place.n_units, 1);
                change(&mut place.n_bytes, n_bytes);
            }
        }
        if last_report(sites, spec).is_some_and(|unit| unit.phase.is_final()) {
            return;
        }
        for site in &spec.placement {
            if let Some(idx) = self.by_name.get(site) {
                let place = &mut self.places[*idx];
                let mut n_ranks = place.n_ranks as usize;
                change(&mut n_ranks, 1);
                place.n_ranks = u32::try_from(n_ranks).unwrap_or(u32::MAX);
            }
        }
    }

    /// Why a place does not take these units as well.
    pub(crate) fn no_room(&self, site: &Name, units: &[Size]) -> Option<String> {
        let Some(idx) = self.by_name.get(site) else {
            return Some("there is no such site any more".to_owned());
        };
        let place = &self.places[*idx];
        place.full(units.len(), units.iter().map(|size| size.n_bytes).sum())
    }

    /// Takes the best place for a unit, and says why it is; or why there is none.
    pub(crate) fn take(
        &mut self,
        selector: &'a Selector,
        size: Size,
    ) -> Result<(Name, Vec<String>), Vec<String>> {
        let Size { n_ranks, n_bytes } = size;
        let key = (&selector.match_labels, size);
        if !self.choices.contains_key(&key) {
            if self.choices.len() >= CHOICES_MAX {
                self.choices.clear();
            }
            let choice = self.choice(selector, size);
            self.choices.insert(key, choice);
        }
        let choice = self.choices.get_mut(&key).expect("it was just made");
        let n_candidates = choice.candidates.len();
        let Some(best) = next_best(&mut choice.candidates, &self.places, size) else {
            return Err(self.why_none(selector, size));
        };
        choice.candidates.pop();
        let second = next_best(&mut choice.candidates, &self.places, size);
        choice.candidates.push(best);
        let n_unfit = choice.n_unfit;
        let reasons = self.why(selector, size, best, second, (n_candidates, n_unfit));
        let place = &mut self.places[best.place];
        place.n_ranks += n_ranks;
        place.n_units += 1;
        place.n_bytes += n_bytes;
        Ok((self.places[best.place].name.clone(), reasons))
    }

    /// The best place for `n_ranks` of these units, which move to where `is_wanted`; `avoid` only if there is no other.
    pub(crate) fn best_of(
        &self,
        selector: &Selector,
        (n_ranks, units): (u32, &[Size]),
        is_wanted: impl Fn(&Labels) -> bool,
        avoid: &Name,
    ) -> Option<&'a Name> {
        let fit = self.matching(selector).into_iter();
        let fit = fit.map(|idx| &self.places[idx]);
        let n_bytes = units.iter().map(|size| size.n_bytes).sum();
        let fit = fit.filter(|place| {
            place.unfit.is_none()
                && is_wanted(place.labels)
                && place.full(units.len(), n_bytes).is_none()
        });
        let best = fit.max_by(|a, b| {
            let is_other = (a.name != avoid).cmp(&(b.name != avoid));
            let share = a.share(n_ranks).total_cmp(&b.share(n_ranks));
            is_other.then(share).then(b.name.cmp(a.name))
        });
        best.map(|place| place.name)
    }

    fn matching(&self, selector: &Selector) -> Vec<usize> {
        let labels = selector.match_labels.iter();
        let lists = labels.map(|(key, value)| self.by_label.get(&(&**key, &**value)));
        let Some(lists) = lists.collect::<Option<Vec<_>>>() else {
            return Vec::new();
        };
        let Some(shortest) = lists.iter().min_by_key(|list| list.len()) else {
            return (0..self.places.len()).collect();
        };
        let in_all = |idx: &&usize| lists.iter().all(|list| list.binary_search(idx).is_ok());
        shortest.iter().filter(in_all).copied().collect()
    }

    fn choice(&self, selector: &Selector, size: Size) -> Choice {
        let Size { n_ranks, n_bytes } = size;
        let matching = self.matching(selector);
        let fit = matching.iter().filter(|idx| {
            let place = &self.places[**idx];
            place.unfit.is_none() && place.full(1, n_bytes).is_none()
        });
        let candidates: BinaryHeap<_> = fit
            .map(|&place| Candidate {
                share: self.places[place].share(n_ranks),
                place,
            })
            .collect();
        Choice {
            n_unfit: matching.len() - candidates.len(),
            candidates,
        }
    }

    fn why(
        &self,
        selector: &Selector,
        size: Size,
        best: Candidate,
        second: Option<Candidate>,
        (n_candidates, n_unfit): (usize, usize),
    ) -> Vec<String> {
        let chosen = &self.places[best.place];
        let mut reasons = vec![format!(
            "{}: chosen, it has {:.2} processors for each rank, the most of {n_candidates}",
            chosen.name, best.share
        )];
        if self.places.len() <= EXPLAINED_SITES_MAX {
            let others = self.places.iter().filter(|place| place.name != chosen.name);
            reasons.extend(others.map(|place| match why_not(place, selector, size) {
                Some(reason) => format!("{}: {reason}", place.name),
                None => {
                    let share = place.share(size.n_ranks);
                    format!("{}: it has {share:.2} processors for each rank", place.name)
                }
            }));
            return reasons;
        }
        if let Some(second) = second {
            let name = self.places[second.place].name;
            let share = second.share;
            reasons.push(format!("{name}: second best, {share:.2} for each rank"));
        }
        reasons.extend(self.counts(selector, n_candidates + n_unfit, n_unfit));
        reasons
    }

    fn why_none(&self, selector: &Selector, size: Size) -> Vec<String> {
        if self.places.is_empty() {
            return vec!["no site has joined yet".to_owned()];
        }
        if self.places.len() <= EXPLAINED_SITES_MAX {
            let reason = |place: &Place<'_>| {
                let why = why_not(place, selector, size).unwrap_or_default();
                format!("{}: {why}", place.name)
            };
            return self.places.iter().map(reason).collect();
        }
        let matching = self.matching(selector);
        self.counts(selector, matching.len(), matching.len())
    }

    fn counts(&self, selector: &Selector, n_matching: usize, n_unfit: usize) -> Vec<String> {
        let n_others = self.places.len() - n_matching;
        let others = format!("{n_others} sites do not have the labels {}", text(selector));
        let unfit = format!(
            "{n_unfit} sites have the labels, but are full, do not report, or wait for an operator"
        );
        let sentences = [(n_others, others), (n_unfit, unfit)].into_iter();
        sentences
            .filter(|(n, _)| *n > 0)
            .map(|(_, sentence)| sentence)
            .collect()
    }
}

/// The candidate that is best as things stand now; it stays on top.
fn next_best(
    candidates: &mut BinaryHeap<Candidate>,
    places: &[Place<'_>],
    size: Size,
) -> Option<Candidate> {
    loop {
        let mut top = candidates.peek_mut()?;
        let place = &places[top.place];
        if place.full(1, size.n_bytes).is_some() {
            // Within a pass nothing goes: it stays full.
            PeekMut::pop(top);
            continue;
        }
        let share = place.share(size.n_ranks);
        let noted = *top;
        if share.total_cmp(&noted.share).is_eq() {
            return Some(noted);
        }
        top.share = share;
    }
}

fn why_not(place: &Place<'_>, selector: &Selector, size: Size) -> Option<String> {
    let has = |(key, value): &(&String, &String)| place.labels.get(*key) == Some(*value);
    let lacking = selector.match_labels.iter().find(|label| !has(label));
    match (lacking, place.unfit) {
        (Some((key, value)), _) => Some(format!("it does not have the label {key}={value}")),
        (None, Some(unfit)) => Some(unfit.to_owned()),
        (None, None) => place.full(1, size.n_bytes),
    }
}

/// At most three labels, to be read by people.
fn text(selector: &Selector) -> String {
    let labels = selector.match_labels.iter().take(3);
    let mut words: Vec<_> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if selector.match_labels.len() > words.len() {
        words.push("…".to_owned());
    }
    words.join(", ")
}
