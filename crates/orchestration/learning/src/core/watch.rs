//! One target: its series, and what is known of it at a moment.

use std::collections::BTreeMap;
use std::time::Duration;

use ids::Name;

use super::policy::eval::{self, Facts};
use super::policy::syntax::{Act, When};
use super::score::{Forecaster, patience};
use super::sites::{Ages, Evidence, Load, Summary};
use super::tally::Tally;
use crate::config::Config;
use crate::decision::Target;
use crate::seam::{BlockSample, MoveCost, Point, Series, SiteSample, Time};

/// Series that are followed for one target; of more, the oldest are forgotten.
const TRACKS_MAX: usize = 32;
/// Points of one series that are taken at a time; of more, the newest.
const POINTS_MAX: usize = 1024;
/// Sites that are considered for one target.
const CANDIDATES_MAX: usize = 64;
/// Moves that say what one costs; of more, the newest.
const MOVES_MAX: usize = 5;
/// The longest key of a series; of longer ones, the beginning.
const KEY_BYTES_MAX: usize = 200;
/// Clocks of machines differ a little; a point further in the future is not believed.
const AHEAD_MAX: Duration = Duration::from_secs(1);

pub(crate) type Sites = BTreeMap<Name, SiteSample>;
/// What like programs have shown at sites: by organisation, which see nothing of each other, likeness, and site.
pub(crate) type Likes = BTreeMap<(Name, String, Name), Summary>;

/// What is the same for all targets at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'a> {
    pub now: Time,
    pub sites: &'a Sites,
    pub config: &'a Config,
}

#[derive(Debug)]
pub(crate) struct Watch {
    pub target: Target,
    tracks: BTreeMap<(Name, u32), Track>,
    pub evidence: BTreeMap<Name, Evidence>,
    /// What was said of it last, if it was said in the newest observation.
    pub here: Option<Here>,
    /// Where it was seen last.
    last_site: Option<Name>,
    /// For each rule and branch, whether its condition held at the last samples, the newest in the lowest bit.
    held: Vec<Vec<u64>>,
    /// For each rule with an interval, in which one it was run last.
    slots: Vec<Option<u64>>,
    /// A sample has come since the conditions were looked at.
    has_news: bool,
    /// Up to when violations are counted.
    violated_until: Time,
}

#[derive(Debug)]
struct Track {
    key: String,
    forecaster: Forecaster,
}

#[derive(Clone, Debug)]
pub(crate) struct Here {
    pub site: Option<Name>,
    pub candidates: Vec<Name>,
    pub cores_max: f64,
    pub moves: Vec<MoveCost>,
}

/// What an observation has changed.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// It is seen at another site than before.
    pub moved: Option<(Name, Name)>,
    /// An iteration took longer than the KPI allows.
    pub violated_at: Option<Time>,
}

impl Moment<'_> {
    pub(crate) fn ages(&self) -> Ages {
        ages(self.config)
    }

    pub(crate) fn load(&self, site: &Name) -> Result<Load, String> {
        let sample = self.sites.get(site).ok_or("it is not measured")?;
        Load::of(sample, self.now, self.config.stale_after)
    }
}

impl Watch {
    pub(crate) fn new(target: Target) -> Self {
        let items = &target.policy.items;
        Self {
            tracks: BTreeMap::new(),
            evidence: BTreeMap::new(),
            here: None,
            last_site: None,
            held: items.iter().map(|i| vec![0; i.branches.len()]).collect(),
            slots: vec![None; items.len()],
            has_news: false,
            violated_until: Time::default(),
            target,
        }
    }

    /// The same block with other wishes: what was learned of it is kept, unless it is another program now.
    pub(crate) fn renew(self, target: Target) -> Self {
        let mut renewed = Self::new(target);
        if renewed.target.like == self.target.like {
            renewed.tracks = self.tracks;
            renewed.evidence = self.evidence;
            renewed.here = self.here;
            renewed.last_site = self.last_site;
            renewed.violated_until = self.violated_until;
        }
        renewed
    }

    /// Nothing was said of it.
    pub(crate) fn lost(&mut self) {
        self.here = None;
    }

    pub(crate) fn observe(
        &mut self,
        moment: Moment,
        sample: BlockSample,
        tally: &mut Tally,
    ) -> Change {
        let mut change = Change::default();
        if let Some(to) = &sample.site
            && self.last_site.as_ref() != Some(to)
        {
            let from = self.last_site.replace(to.clone());
            change.moved = from.map(|from| (from, to.clone()));
            self.held.iter_mut().flatten().for_each(|bits| *bits = 0);
        }
        let is_cores = |cores: f64| cores.is_finite() && cores > 0.0;
        let n_old_moves = sample.moves.len().saturating_sub(MOVES_MAX);
        self.here = Some(Here {
            site: sample.site.clone(),
            candidates: sample.candidates.into_iter().take(CANDIDATES_MAX).collect(),
            cores_max: if is_cores(sample.cores_max) {
                sample.cores_max
            } else {
                f64::INFINITY
            },
            moves: sample.moves.into_iter().skip(n_old_moves).collect(),
        });
        let needed = self.horizon(moment.config);
        for series in self.current(moment.now, sample.series) {
            let at_home = sample.site.as_ref() == Some(&series.site);
            let violated = self.follow(moment, series, at_home, needed, tally);
            change.violated_at = change.violated_at.or(violated);
        }
        change
    }

    /// Of the series of each replica at each site, the one that goes on: that with the newest point. Another key than before is
    /// another quantity, and takes over only with newer points.
    fn current(&self, now: Time, series: Vec<Series>) -> impl Iterator<Item = Series> + use<> {
        let mut current = BTreeMap::new();
        for mut series in series {
            let end = series.key.floor_char_boundary(KEY_BYTES_MAX);
            series.key.truncate(end);
            let id = (series.site.clone(), series.replica);
            let mut sane = series.points.iter().filter(|point| is_sane(**point, now));
            let newest = sane.next_back().map(|point| point.at);
            let track = self.tracks.get(&id);
            let is_other = track.is_some_and(|track| track.key != series.key);
            if is_other && newest <= track.and_then(Track::newest_at) {
                continue;
            }
            let rank = (newest, !is_other);
            if current.get(&id).is_none_or(|(best, _)| *best < rank) {
                current.insert(id, (rank, series));
            }
        }
        current.into_values().map(|(_, series)| series)
    }

    /// Takes the new points of a series. Returns when the KPI was first violated by one of them.
    fn follow(
        &mut self,
        moment: Moment,
        series: Series,
        at_home: bool,
        needed: Duration,
        tally: &mut Tally,
    ) -> Option<Time> {
        let Moment { now, config, .. } = moment;
        let ages = moment.ages();
        let id = (series.site.clone(), series.replica);
        if !self.tracks.contains_key(&id) && self.tracks.len() >= TRACKS_MAX {
            self.forget_oldest();
        }
        let track = self
            .tracks
            .entry(id)
            .or_insert_with(|| Track::new(&series.key, config));
        if track.key != series.key {
            // Another quantity: neither its values nor what they cost elsewhere compare.
            *track = Track::new(&series.key, config);
            self.evidence.remove(&series.site);
        }
        let mut violated_at = None;
        let skip = series.points.len().saturating_sub(POINTS_MAX);
        for point in series.points.into_iter().skip(skip) {
            let newest = track.forecaster.newest();
            if newest.is_some_and(|newest| point.at <= newest.at) {
                continue;
            }
            if !is_sane(point, now) {
                tally.rejected += 1;
                continue;
            }
            let follows = newest.filter(|newest| !track.forecaster.is_gap(*newest, point));
            for scored in track.forecaster.observe(point, needed) {
                tally.score(scored);
            }
            if !at_home {
                continue;
            }
            if let Ok(load) = moment.load(&series.site)
                && now.since(point.at) <= ages.fresh
            {
                let evidence = self.evidence.entry(series.site.clone()).or_default();
                evidence.learn(point, load, ages);
            }
            if follows.is_none() {
                // What held before a gap is no evidence for what holds after it.
                self.held.iter_mut().flatten().for_each(|bits| *bits = 0);
            }
            self.has_news = true;
            if self.target.kpi_max.is_some_and(|max| point.value > max) {
                violated_at = violated_at.or(Some(point.at));
                // Replicas violate it together.
                let from = follows.map_or(point.at, |before| before.at.max(self.violated_until));
                tally.violation_seconds += point.at.since(from).as_secs_f64();
            }
            self.violated_until = self.violated_until.max(point.at);
        }
        violated_at
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .tracks
            .iter()
            .min_by_key(|(_, track)| track.newest_at());
        if let Some(id) = oldest.map(|(id, _)| id.clone()) {
            self.tracks.remove(&id);
            if !self.tracks.keys().any(|(site, _)| *site == id.0) {
                self.evidence.remove(&id.0);
            }
        }
    }

    /// What a move costs: the most that one of the last ones did.
    pub(crate) fn move_cost(&self, config: &Config) -> MoveCost {
        let moves = self.here.iter().flat_map(|here| &here.moves).copied();
        let most = moves.reduce(|a, b| MoveCost {
            took: a.took.max(b.took),
            pause: a.pause.max(b.pause),
        });
        most.unwrap_or(MoveCost {
            took: config.move_time_assumed,
            pause: config.move_time_assumed,
        })
    }

    /// How far ahead of now a forecast must reach, for a move to be over by then.
    pub(crate) fn horizon(&self, config: &Config) -> Duration {
        self.move_cost(config).took + config.period
    }

    /// The series that stands for the block: the slowest of its replicas where it is.
    pub(crate) fn slowest(
        &self,
        site: &Name,
        now: Time,
        config: &Config,
    ) -> Result<(&Forecaster, Point), String> {
        let here = self.tracks.iter().filter(|((at, _), _)| at == site);
        let newest =
            here.filter_map(|(_, track)| Some((&track.forecaster, track.forecaster.newest()?)));
        let newest: Vec<_> = newest.collect();
        let Some(age) = newest.iter().map(|(_, point)| now.since(point.at)).min() else {
            return Err(format!("no iteration has been measured at {site}"));
        };
        newest
            .into_iter()
            .filter(|(_, point)| now.since(point.at) <= patience(config.stale_after, point.value))
            .max_by(|(_, a), (_, b)| a.value.total_cmp(&b.value))
            .ok_or_else(|| {
                format!(
                    "the newest iteration time is {:.1} s old",
                    age.as_secs_f64()
                )
            })
    }

    pub(crate) fn summaries(
        &self,
        now: Time,
        config: &Config,
    ) -> impl Iterator<Item = (&Name, Summary)> {
        let ages = ages(config);
        let summary = move |evidence: &Evidence| evidence.summary(now, ages);
        self.evidence
            .iter()
            .filter_map(move |(site, e)| Some((site, summary(e)?)))
    }

    pub(crate) fn like_at(&self, site: &Name) -> (Name, String, Name) {
        let Target { id, like, .. } = &self.target;
        (id.org.clone(), like.clone(), site.clone())
    }

    /// Whether the interval of a rule has begun anew since this was asked last. Intervals are counted from 1970, so that restarts
    /// do not shift them.
    pub(crate) fn is_due(&mut self, rule: usize, now: Time) -> bool {
        let When::Interval(every) = self.target.policy.items[rule].when else {
            return false;
        };
        let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
        let slot = now.0 / every;
        let before = self.slots[rule].replace(slot);
        before.is_some_and(|before| before != slot)
    }

    /// Notes whether conditions hold, if there is a new sample to look at.
    pub(crate) fn note_conditions(&mut self, facts: &Facts) {
        if !std::mem::take(&mut self.has_news) {
            return;
        }
        let policy = &self.target.policy;
        for (item, held) in policy.items.iter().zip(&mut self.held) {
            for (branch, bits) in item.branches.iter().zip(held) {
                if !matches!(branch.act, Act::Migrate(_)) {
                    continue;
                }
                let holds = eval::holds(branch, &policy.lets, facts) == Ok(true);
                *bits = *bits << 1 | u64::from(holds);
            }
        }
    }

    /// At how many of the last `n` samples the condition of a branch held.
    pub(crate) fn held(&self, rule: usize, branch: usize, n: u32) -> u32 {
        let mask = u64::MAX >> (64 - n.clamp(1, 64));
        (self.held[rule][branch] & mask).count_ones()
    }
}

impl Track {
    fn new(key: &str, config: &Config) -> Self {
        Self {
            key: key.to_owned(),
            forecaster: Forecaster::new(config.period, config.stale_after, config.horizon_min),
        }
    }

    fn newest_at(&self) -> Option<Time> {
        self.forecaster.newest().map(|point| point.at)
    }
}

fn is_sane(point: Point, now: Time) -> bool {
    point.value.is_finite() && point.value > 0.0 && point.at <= now.plus(AHEAD_MAX)
}

fn ages(config: &Config) -> Ages {
    Ages {
        fresh: config.stale_after,
        evidence: config.evidence_age_max,
    }
}
