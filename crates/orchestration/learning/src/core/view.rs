//! What is known of a target at a moment, for conditions and for people.

use std::collections::BTreeMap;
use std::time::Duration;

use ids::Name;

use super::conformal::LEVELS;
use super::diary::Diary;
use super::policy::eval::Facts;
use super::policy::syntax::Options;
use super::score::{Forecast, Forecaster};
use super::sites::{self, Outlook, Question};
use super::watch::{Likes, Moment, Watch};
use crate::decision::Prediction;
use crate::seam::Point;

/// All that decisions are made from.
#[derive(Debug)]
pub(crate) struct View {
    pub facts: Facts,
    pub forecast: Option<Forecast>,
    /// Where it is.
    pub site: Option<Name>,
    /// How far ahead a forecast must reach.
    horizon: Duration,
    /// The models and their mean errors so far ahead, best first.
    ranking: Vec<(&'static str, f64)>,
}

/// The series that stands for the block, and its newest point.
type Measured<'a> = Result<(&'a Forecaster, Point), String>;

impl View {
    pub(crate) fn of(watch: &Watch, moment: Moment, likes: &Likes, diary: &Diary) -> Self {
        let Moment { now, config, .. } = moment;
        let site = watch.here.as_ref().and_then(|here| here.site.clone());
        let measured = match &site {
            Some(site) => watch.slowest(site, now, config),
            None => Err(nowhere()),
        };
        let horizon = watch.horizon(config);
        let until = now.plus(horizon);
        let forecast = match &measured {
            Ok((forecaster, _)) => forecaster.forecast(until),
            Err(why) => Err(why.clone()),
        };
        let others = outlooks(watch, moment, likes, diary);
        Self {
            facts: facts(watch, moment, site.as_ref(), &measured, &forecast, others),
            forecast: forecast.ok(),
            site,
            horizon,
            ranking: measured.map_or_else(|_| Vec::new(), |(f, _)| f.ranking(until)),
        }
    }

    /// The facts in words, for people, as a branch with these options sees them.
    pub(crate) fn inputs(&self, options: &Options) -> BTreeMap<String, String> {
        let facts = &self.facts;
        let mut current = said(&facts.current_qos, |value| format!("{value:.4} s"));
        if let Ok(age) = &facts.qos_age {
            current = format!("{current}, {age:.1} s old");
        }
        let predicted = said(&facts.predicted_qos, |quantiles| {
            let quantile =
                |(level, value): (f64, &f64)| format!("{value:.4} s at {:.0} %", 100.0 * level);
            let all: Vec<String> = LEVELS.into_iter().zip(quantiles).map(quantile).collect();
            all.join(", ")
        });
        let model = |(name, error): &(&str, f64)| format!("{name} {error:.4} s");
        let models: Vec<String> = self.ranking.iter().map(model).collect();
        let (move_time, horizon) = (facts.move_time.as_secs_f64(), self.horizon.as_secs_f64());
        let inputs = [
            ("app_cluster", said(&facts.cluster, String::clone)),
            ("site", said(&facts.site, String::clone)),
            ("current_qos", current),
            ("predicted_qos", predicted),
            (
                "best_site",
                said(&facts.best_site(options), |best| best.site.to_string()),
            ),
            (
                "kpi_max",
                said(&facts.kpi_max, |value| format!("{value:.4} s")),
            ),
            ("move_time", format!("{move_time:.3} s")),
            ("horizon", format!("at least {horizon:.1} s from now")),
            ("mean error of the models", models.join(", ")),
        ];
        let inputs = inputs
            .into_iter()
            .map(|(name, text)| (name.to_owned(), text));
        inputs.collect()
    }
}

fn said<T>(fact: &Result<T, String>, say: impl Fn(&T) -> String) -> String {
    match fact {
        Ok(value) => say(value),
        Err(why) => format!("unknown: {why}"),
    }
}

fn nowhere() -> String {
    "it is not known where it runs".to_owned()
}

fn outlooks(watch: &Watch, moment: Moment, likes: &Likes, diary: &Diary) -> Vec<Outlook> {
    let Some(here) = &watch.here else {
        return Vec::new();
    };
    let pause = watch.move_cost(moment.config).pause;
    let moving = pause.as_secs_f64() / Options::COOLDOWN.as_secs_f64();
    let others = here
        .candidates
        .iter()
        .filter(|site| here.site.as_ref() != Some(site));
    let outlook = |site: &Name| {
        let question = Question {
            own: &watch.evidence,
            like: likes.get(&watch.like_at(site)).copied(),
            cores_max: here.cores_max,
            moving,
            left: diary.left(site, moment.now),
            now: moment.now,
            ages: moment.ages(),
        };
        sites::outlook(site, moment.load(site), &question)
    };
    others.map(outlook).collect()
}

fn facts(
    watch: &Watch,
    moment: Moment,
    site: Option<&Name>,
    measured: &Measured,
    forecast: &Result<Forecast, String>,
    others: Vec<Outlook>,
) -> Facts {
    let current = measured.as_ref().map(|(_, point)| *point);
    let current = current.map_err(Clone::clone);
    let tier = |site: &Name| moment.sites.get(site)?.tier.clone();
    let cluster = site.map(|site| tier(site).unwrap_or_else(|| site.to_string()));
    let kpi_max = watch.target.kpi_max;
    Facts {
        site: site.map(Name::to_string).ok_or_else(nowhere),
        cluster: cluster.ok_or_else(nowhere),
        current_qos: current.clone().map(|point| point.value),
        qos_age: current.map(|point| moment.now.since(point.at).as_secs_f64()),
        predicted_qos: forecast.clone().map(|forecast| forecast.quantiles),
        kpi_max: kpi_max.ok_or_else(|| "the block has no KPI".to_owned()),
        move_time: watch.move_cost(moment.config).took,
        free_cpu: match site {
            Some(site) => moment.load(site).map(|load| load.free()),
            None => Err(nowhere()),
        },
        others,
        call: Ok(forecast.is_ok()),
    }
}

impl Forecast {
    pub(crate) fn told(&self) -> Prediction {
        Prediction {
            model: self.model_name().to_owned(),
            as_of: self.as_of,
            target: self.target,
            quantiles: LEVELS.into_iter().zip(self.quantiles).collect(),
        }
    }
}
