//! The sites as places for units: which may be taken, and how much of its processors each has for one rank more.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use ids::{Labels, Name, Selector};
use workload::UnitSpec;

use super::blueprint::{Blueprint, Changes};
use super::inventory::{Now, Sites, last_report};

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
    choices: BTreeMap<(&'a Labels, u32), Choice>,
}

#[derive(Debug)]
struct Place<'a> {
    name: &'a Name,
    labels: &'a Labels,
    cpu_share: f64,
    unfit: Option<&'static str>,
    /// How many ranks are planned here.
    n_ranks: u32,
}

impl Place<'_> {
    /// The processors for each rank once `n_ranks` more are here.
    fn share(&self, n_ranks: u32) -> f64 {
        self.cpu_share / f64::from(self.n_ranks + n_ranks.max(1))
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
            });
        }
        Self {
            places,
            by_name,
            by_label,
            choices: BTreeMap::new(),
        }
    }

    /// Counts the ranks of a blueprint, without those of units that go, or that are known to have ended.
    pub(crate) fn count(&mut self, blueprint: &Blueprint, changes: &Changes, sites: &Sites) {
        for (id, planned) in blueprint.units() {
            let spec = match changes.units.get(id) {
                None => &planned.spec,
                Some(Some(revised)) => &revised.spec,
                Some(None) => continue,
            };
            if !last_report(sites, spec).is_some_and(|unit| unit.phase.is_final()) {
                self.add(spec);
            }
        }
    }

    fn add(&mut self, spec: &UnitSpec) {
        for site in &spec.placement {
            if let Some(idx) = self.by_name.get(site) {
                self.places[*idx].n_ranks += 1;
            }
        }
    }

    /// Takes the best place for a unit of `n_ranks`, and says why it is; or why there is none.
    pub(crate) fn take(
        &mut self,
        selector: &'a Selector,
        n_ranks: u32,
    ) -> Result<(Name, Vec<String>), Vec<String>> {
        let key = (&selector.match_labels, n_ranks);
        if !self.choices.contains_key(&key) {
            if self.choices.len() >= CHOICES_MAX {
                self.choices.clear();
            }
            let choice = self.choice(selector, n_ranks);
            self.choices.insert(key, choice);
        }
        let choice = self.choices.get_mut(&key).expect("it was just made");
        let n_candidates = choice.candidates.len();
        let Some(best) = next_best(&mut choice.candidates, &self.places, n_ranks) else {
            return Err(self.why_none(selector));
        };
        choice.candidates.pop();
        let second = next_best(&mut choice.candidates, &self.places, n_ranks);
        choice.candidates.push(best);
        let n_unfit = choice.n_unfit;
        let reasons = self.why(selector, n_ranks, best, second, (n_candidates, n_unfit));
        self.places[best.place].n_ranks += n_ranks;
        Ok((self.places[best.place].name.clone(), reasons))
    }

    /// The best place for `n_ranks` of a unit that moves to where `is_wanted`; `avoid` only if there is no other.
    pub(crate) fn best_of(
        &self,
        selector: &Selector,
        n_ranks: u32,
        is_wanted: impl Fn(&Labels) -> bool,
        avoid: &Name,
    ) -> Option<&'a Name> {
        let fit = self.matching(selector).into_iter();
        let fit = fit.map(|idx| &self.places[idx]);
        let fit = fit.filter(|place| place.unfit.is_none() && is_wanted(place.labels));
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

    fn choice(&self, selector: &Selector, n_ranks: u32) -> Choice {
        let matching = self.matching(selector);
        let fit = matching
            .iter()
            .filter(|idx| self.places[**idx].unfit.is_none());
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
        n_ranks: u32,
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
            reasons.extend(others.map(|place| match why_not(place, selector) {
                Some(reason) => format!("{}: {reason}", place.name),
                None => {
                    let share = place.share(n_ranks);
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

    fn why_none(&self, selector: &Selector) -> Vec<String> {
        if self.places.is_empty() {
            return vec!["no site has joined yet".to_owned()];
        }
        if self.places.len() <= EXPLAINED_SITES_MAX {
            let reason = |place: &Place<'_>| {
                let why = why_not(place, selector).unwrap_or_default();
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
        let unfit =
            format!("{n_unfit} sites have the labels, but do not report or wait for an operator");
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
    n_ranks: u32,
) -> Option<Candidate> {
    loop {
        let mut top = candidates.peek_mut()?;
        let share = places[top.place].share(n_ranks);
        let noted = *top;
        if share.total_cmp(&noted.share).is_eq() {
            return Some(noted);
        }
        top.share = share;
    }
}

fn why_not(place: &Place<'_>, selector: &Selector) -> Option<String> {
    let has = |(key, value): &(&String, &String)| place.labels.get(*key) == Some(*value);
    let lacking = selector.match_labels.iter().find(|label| !has(label));
    match (lacking, place.unfit) {
        (Some((key, value)), _) => Some(format!("it does not have the label {key}={value}")),
        (None, unfit) => unfit.map(str::to_owned),
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
