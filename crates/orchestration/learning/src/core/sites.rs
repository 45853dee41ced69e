//! What an iteration would take at another site.
//!
//! The iteration time of a program at a site is taken to be its *free time* there (when it has all the processors it can use) times
//! how much it is slowed by what it shares them with. Both come from measurements:
//! - Where it runs it is slowed by `(used + waiting) / share`, so each sample of its iteration time gives one of its free time. The samples from
//!   the calmest moments count: there is least to correct.
//! - Where it might run it is slowed by `c / f`, for the `c` cores it needs and the `f` cores that are free there. It needs no more
//!   than the whole site demanded while it ran there.
//! - The free time at a site is the program's own from when it ran there, or else that of a like program there, or else its own
//!   from elsewhere.
//!
//! What the move costs, the pause, is spread over the dwell. A site that lacks fresh measurements is unknown, and never chosen.

use std::collections::BTreeMap;
use std::time::Duration;

use ids::Name;

use crate::seam::{Point, SiteSample, Time};

/// Samples of the free time that are kept for each site, and from how many on they count.
const EVIDENCE_MAX: usize = 24;
const EVIDENCE_MIN: usize = 3;
/// A site with less than this part of its share free is full.
const FREE_MIN: f64 = 0.02;
/// Back to where it came from only after so many times the cooldown: the least that is between two moves.
const BACK_COOLDOWNS: u32 = 4;

/// How long measurements count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ages {
    pub fresh: Duration,
    pub evidence: Duration,
}

/// How contended a site is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Load {
    pub share: f64,
    pub used: f64,
    /// Used and waited for.
    pub demand: f64,
}

impl Load {
    /// The load that a sample tells, if it is fresh and makes sense.
    pub(crate) fn of(sample: &SiteSample, now: Time, fresh: Duration) -> Result<Self, String> {
        let read = |name: &str, point: Option<Point>| {
            let point = point.ok_or_else(|| format!("it reports no {name}"))?;
            let age = now.since(point.at);
            if age > fresh {
                let age = age.as_secs_f64();
                return Err(format!("its {name} is {age:.1} s old"));
            }
            if !point.value.is_finite() || point.value < 0.0 || point.at > now.plus(fresh) {
                return Err(format!("its {name} makes no sense"));
            }
            Ok(point.value)
        };
        let share = read("site_cpu_share", sample.share)?;
        let used = read("site_cpu_used", sample.used)?;
        let waiting = read("site_cpu_waiting", sample.waiting)?;
        if share <= 0.0 {
            return Err("it has no share of a processor".to_owned());
        }
        Ok(Self {
            share,
            used,
            demand: used + waiting,
        })
    }

    pub(crate) fn free(&self) -> f64 {
        (self.share - self.used).max(0.0)
    }

    /// How many times longer things take than if they were alone.
    fn slowing(&self) -> f64 {
        (self.demand / self.share).max(1.0)
    }
}

/// What a program has shown at one site.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// From the calmest moments, in no order.
    samples: Vec<Calm>,
}

#[derive(Clone, Copy, Debug)]
struct Calm {
    at: Time,
    slowing: f64,
    free_time: f64,
    demand: f64,
}

impl Evidence {
    pub(crate) fn learn(&mut self, point: Point, load: Load, ages: Ages) {
        let slowing = load.slowing();
        self.samples
            .retain(|s| point.at.since(s.at) <= ages.evidence);
        self.samples.push(Calm {
            at: point.at,
            slowing,
            free_time: point.value / slowing,
            demand: load.demand,
        });
        if self.samples.len() > EVIDENCE_MAX {
            let worst = |a: &Calm, b: &Calm| a.slowing.total_cmp(&b.slowing).then(b.at.cmp(&a.at));
            let indices = 0..self.samples.len();
            let drop = indices.max_by(|a, b| worst(&self.samples[*a], &self.samples[*b]));
            self.samples.swap_remove(drop.expect("it is not empty"));
        }
    }

    /// The free time, the cores needed, and when that was.
    pub(crate) fn summary(&self, now: Time, ages: Ages) -> Option<Summary> {
        let current = |s: &&Calm| now.since(s.at) <= ages.evidence;
        let mut samples: Vec<&Calm> = self.samples.iter().filter(current).collect();
        if samples.len() < EVIDENCE_MIN {
            return None;
        }
        // The calmest third: where there is least to correct.
        samples.sort_by(|a, b| a.slowing.total_cmp(&b.slowing));
        samples.truncate((samples.len() / 3).max(EVIDENCE_MIN));
        Some(Summary {
            free_time: median(samples.iter().map(|s| s.free_time)),
            cores: median(samples.iter().map(|s| s.demand)),
            at: samples.iter().map(|s| s.at).max()?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub free_time: f64,
    pub cores: f64,
    pub at: Time,
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What is asked about a program.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// Its own evidence, by site.
    pub own: &'a BTreeMap<Name, Evidence>,
    /// That of a like program at the site in question.
    pub like: Option<Summary>,
    pub cores_max: f64,
    /// The part of the time that is lost by moving: pause through dwell.
    pub moving: f64,
    /// How long ago the block left the site in question.
    pub left: Option<Duration>,
    pub now: Time,
    pub ages: Ages,
}

/// What is predicted for a site, and a sentence on how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outlook {
    pub site: Name,
    /// Seconds; `None`: unknown, or there is no room.
    pub predicted: Option<f64>,
    pub free: Result<f64, String>,
    pub why: String,
    /// How long ago the block left it.
    pub left: Option<Duration>,
}

impl Outlook {
    /// How long ago the block left it, if that is too short to go back.
    pub(crate) fn left_lately(&self, cooldown: Duration) -> Option<Duration> {
        let dwell = cooldown.saturating_mul(BACK_COOLDOWNS);
        self.left.filter(|ago| *ago < dwell)
    }
}

/// The site that is predicted best, of those that the block has not left lately.
pub(crate) fn best(outlooks: &[Outlook], cooldown: Duration) -> Result<&Outlook, String> {
    let mut open = outlooks
        .iter()
        .filter(|o| o.left_lately(cooldown).is_none())
        .peekable();
    let why = if outlooks.is_empty() {
        "there is no other site where it may be"
    } else if open.peek().is_none() {
        "it left every other site lately, and does not go back and forth"
    } else {
        "no other site is known well enough, or has room"
    };
    let known = open.filter_map(|o| Some((o, o.predicted?)));
    let best = known.min_by(|(_, a), (_, b)| a.total_cmp(b));
    best.map(|(o, _)| o).ok_or_else(|| why.to_owned())
}

/// What an iteration of the program would take at `site`.
pub(crate) fn outlook(site: &Name, load: Result<Load, String>, question: &Question) -> Outlook {
    let free = load.clone().map(|load| load.free());
    let (predicted, why) = match load.and_then(|load| predict(site, load, question)) {
        Ok((predicted, why)) => (Some(predicted), why),
        Err(why) => (None, format!("unknown: {why}")),
    };
    Outlook {
        site: site.clone(),
        predicted,
        free,
        why,
        left: question.left,
    }
}

fn predict(site: &Name, load: Load, question: &Question) -> Result<(f64, String), String> {
    let Question { now, ages, .. } = *question;
    let own = |evidence: &Evidence| evidence.summary(now, ages);
    let here = question.own.get(site).and_then(own);
    let elsewhere = question
        .own
        .iter()
        .filter_map(|(name, evidence)| Some((name, own(evidence)?)))
        .max_by_key(|(_, summary)| summary.at);
    let seconds_ago = |s: &Summary| now.since(s.at).as_secs();
    let (summary, source) = if let Some(summary) = here {
        (
            summary,
            format!("{} s ago it ran here", seconds_ago(&summary)),
        )
    } else if let Some(summary) = question.like {
        (
            summary,
            format!("{} s ago a like program ran here", seconds_ago(&summary)),
        )
    } else if let Some((name, summary)) = elsewhere {
        (
            summary,
            format!(
                "it never ran here lately; {} s ago it ran at {name}",
                seconds_ago(&summary)
            ),
        )
    } else {
        return Err("nothing is known yet of how long its iterations take".to_owned());
    };
    // Its own need, wherever it was seen, before that of another.
    let cores = elsewhere.map_or(summary.cores, |(_, own)| own.cores);
    let cores = cores.min(question.cores_max);
    let free = load.free();
    if free < FREE_MIN * load.share {
        return Err(format!(
            "{:.2} of its {:.2} cores are used",
            load.used, load.share
        ));
    }
    let slowing = (cores / free).max(1.0);
    let predicted = summary.free_time * slowing * (1.0 + question.moving);
    if !predicted.is_finite() {
        return Err("the measurements make no sense".to_owned());
    }
    let why = format!(
        "{source}, taking {:.3} s with all the cores it needs ({cores:.2}); {free:.2} of {:.2} are free here: x{slowing:.2}, and moving costs {:.1} %",
        summary.free_time,
        load.share,
        100.0 * question.moving,
    );
    Ok((predicted, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_000_000);
    const AGES: Ages = Ages {
        fresh: Duration::from_secs(2),
        evidence: Duration::from_secs(600),
    };

    fn site(share: f64, used: f64, waiting: f64, age_ms: u64) -> SiteSample {
        let point = |value| {
            Some(Point {
                at: Time(NOW.0 - age_ms),
                value,
            })
        };
        SiteSample {
            site: "cloud".parse().expect("a name"),
            tier: None,
            share: point(share),
            used: point(used),
            waiting: point(waiting),
        }
    }

    /// Evidence of a program that took `time` at a site with this load.
    fn evidence(time: f64, share: f64, used: f64, waiting: f64) -> Evidence {
        let mut evidence = Evidence::default();
        for i in 0..5 {
            let at = Time(NOW.0 - 1000 * i);
            let load = Load::of(&site(share, used, waiting, 0), NOW, AGES.fresh).expect("fresh");
            evidence.learn(Point { at, value: time }, load, AGES);
        }
        evidence
    }

    fn ask(own: &[(&str, Evidence)], like: Option<Summary>, at: &SiteSample) -> Outlook {
        let own: BTreeMap<Name, Evidence> = own
            .iter()
            .map(|(name, e)| (name.parse().expect("a name"), e.clone()))
            .collect();
        let question = Question {
            own: &own,
            like,
            cores_max: 4.0,
            moving: 0.01,
            left: None,
            now: NOW,
            ages: AGES,
        };
        outlook(&at.site, Load::of(at, NOW, AGES.fresh), &question)
    }

    #[track_caller]
    fn close(found: Option<f64>, expected: f64) {
        let found = found.expect("it is known");
        assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
    }

    #[test]
    fn contention_is_taken_out_here_and_put_in_there() {
        // 3 cores wanted of 1: slowed by 3, so 0.3 s here are 0.1 s in the free.
        let own = [("edge", evidence(0.3, 1.0, 1.0, 2.0))];
        close(ask(&own, None, &site(4.0, 0.0, 0.0, 0)).predicted, 0.101);
        close(ask(&own, None, &site(4.0, 1.0, 0.0, 0)).predicted, 0.101);
        close(ask(&own, None, &site(4.0, 2.5, 0.0, 0)).predicted, 0.202);
        close(ask(&own, None, &site(1.0, 0.0, 0.0, 0)).predicted, 0.303);
    }

    #[test]
    fn a_full_site_is_no_choice() {
        let own = [("edge", evidence(0.3, 1.0, 1.0, 2.0))];
        let found = ask(&own, None, &site(1.0, 0.99, 0.0, 0));
        assert_eq!(found.predicted, None);
        assert!(found.why.contains("0.99 of its 1.00 cores are used"));
    }

    #[test]
    fn what_it_did_there_counts_before_what_others_did_there_and_it_did_elsewhere() {
        let at = site(4.0, 0.0, 0.0, 0);
        let edge = ("edge", evidence(0.3, 1.0, 1.0, 2.0));
        let cloud = ("cloud", evidence(0.05, 4.0, 1.0, 0.0));
        let like = Some(Summary {
            free_time: 0.07,
            cores: 3.0,
            at: NOW,
        });
        let both = [edge.clone(), cloud];
        close(ask(&both, like, &at).predicted, 0.0505);
        assert!(ask(&both, like, &at).why.contains("it ran here"));
        let found = ask(&[edge], like, &at);
        close(found.predicted, 0.0707);
        assert!(found.why.contains("a like program"), "{}", found.why);
    }

    #[test]
    fn what_is_stale_missing_or_nonsense_is_unknown() {
        let own = [("edge", evidence(0.3, 1.0, 1.0, 2.0))];
        let unknown = |at: &SiteSample, words: &str| {
            let found = ask(&own, None, at);
            assert_eq!(found.predicted, None);
            assert!(found.why.contains(words), "{}", found.why);
        };
        unknown(&site(4.0, 0.0, 0.0, 2001), "2.0 s old");
        unknown(&site(f64::NAN, 0.0, 0.0, 0), "no sense");
        unknown(&site(4.0, f64::INFINITY, 0.0, 0), "no sense");
        unknown(&site(4.0, -1.0, 0.0, 0), "no sense");
        unknown(&site(0.0, 0.0, 0.0, 0), "no share");
        let mut missing = site(4.0, 0.0, 0.0, 0);
        missing.used = None;
        unknown(&missing, "no site_cpu_used");
        let found = ask(&[], None, &site(4.0, 0.0, 0.0, 0));
        assert_eq!(found.predicted, None);
    }

    #[test]
    fn calm_moments_are_remembered_and_old_ones_forgotten() {
        let mut evidence = evidence(0.1, 1.0, 0.9, 0.0);
        let busy = Load {
            share: 1.0,
            used: 1.0,
            demand: 8.0,
        };
        for i in 0..100 {
            let at = NOW.plus(Duration::from_secs(i));
            evidence.learn(Point { at, value: 2.0 }, busy, AGES);
        }
        assert_eq!(evidence.samples.len(), EVIDENCE_MAX);
        let calm = |e: &Evidence| e.samples.iter().filter(|s| s.slowing < 2.0).count();
        assert_eq!(calm(&evidence), 5);
        let later = NOW.plus(Duration::from_secs(700));
        assert_eq!(evidence.summary(later, AGES), None);
    }
}
