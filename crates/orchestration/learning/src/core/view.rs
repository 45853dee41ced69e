//! What is known of a target at a moment, for conditions and for people.

use std::collections::BTreeMap;
use std::time::Duration;

use ids::Name;

use super::conformal::{LEVELS, MEDIAN};
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
    /// What is predicted for each other site where it may be.
    pub outlooks: Vec<Outlook>,
    /// Where it is.
    pub site: Option<Name>,
    pub inputs: BTreeMap<String, String>,
}

/// The series that stands for the block, and its newest point.
type Measured<'a> = Result<(&'a Forecaster, Point), String>;

impl View {
    pub(crate) fn of(watch: &Watch, moment: Moment, likes: &Likes) -> Self {
        let Moment { now, config, .. } = moment;
        let site = watch.here.as_ref().and_then(|here| here.site.clone());
        let measured = match &site {
            Some(site) => watch.slowest(site, now, config),
            None => Err(nowhere()),
        };
        let needed = watch.horizon(config);
        let forecast = match &measured {
            Ok((forecaster, _)) => forecaster.forecast(needed),
            Err(_) => None,
        };
        let outlooks = outlooks(watch, moment, likes);
        let facts = facts(
            watch,
            moment,
            site.as_ref(),
            &measured,
            forecast.as_ref(),
            &outlooks,
        );
        let ranking = measured.map(|(forecaster, _)| forecaster.ranking(needed));
        Self {
            inputs: inputs(&facts, needed, &ranking.unwrap_or_default()),
            facts,
            forecast,
            outlooks,
            site,
        }
    }
}

fn nowhere() -> String {
    "it is not known where it runs".to_owned()
}

fn outlooks(watch: &Watch, moment: Moment, likes: &Likes) -> Vec<Outlook> {
    let Some(here) = &watch.here else {
        return Vec::new();
    };
    let pause = here.moves.iter().map(|m| m.pause).max().unwrap_or_default();
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
    forecast: Option<&Forecast>,
    outlooks: &[Outlook],
) -> Facts {
    let current = measured
        .as_ref()
        .map(|(_, point)| *point)
        .map_err(Clone::clone);
    let predicted_qos = match (&current, forecast) {
        (Err(why), _) => Err(why.clone()),
        (Ok(_), None) => Err("there are too few scored forecasts yet at this horizon".to_owned()),
        (Ok(_), Some(forecast)) => Ok(forecast.quantiles),
    };
    let mut qos_at = BTreeMap::new();
    let mut free_cpu = BTreeMap::new();
    for outlook in outlooks {
        let predicted = outlook.predicted.ok_or_else(|| outlook.why.clone());
        qos_at.insert(outlook.site.to_string(), predicted);
        free_cpu.insert(outlook.site.to_string(), outlook.free.clone());
    }
    if let Some(site) = site {
        let staying = predicted_qos.clone().map(|quantiles| quantiles[MEDIAN]);
        qos_at.insert(site.to_string(), staying);
        free_cpu.insert(site.to_string(), moment.load(site).map(|load| load.free()));
    }
    let tier = |site: &Name| moment.sites.get(site)?.tier.clone();
    let cluster = site.map(|site| tier(site).unwrap_or_else(|| site.to_string()));
    Facts {
        site: site.map(Name::to_string).ok_or_else(nowhere),
        cluster: cluster.ok_or_else(nowhere),
        current_qos: current.clone().map(|point| point.value),
        qos_age: current.map(|point| moment.now.since(point.at).as_secs_f64()),
        call: Ok(predicted_qos.is_ok()),
        predicted_qos,
        kpi_max: watch
            .target
            .kpi_max
            .ok_or_else(|| "the block has no KPI".to_owned()),
        best_site: best(outlooks.iter())
            .map(|outlook| outlook.site.to_string())
            .ok_or_else(|| "no other site is known well enough, or has room".to_owned()),
        move_time: watch.move_time(moment.config).as_secs_f64(),
        qos_at,
        free_cpu,
    }
}

/// The site that is predicted best.
pub(crate) fn best<'a>(outlooks: impl Iterator<Item = &'a Outlook>) -> Option<&'a Outlook> {
    let known = outlooks.filter_map(|o| Some((o, o.predicted?)));
    known
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(o, _)| o)
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

/// The facts in words, for people.
fn inputs(facts: &Facts, needed: Duration, ranking: &[(&str, f64)]) -> BTreeMap<String, String> {
    let seconds = |value: &Result<f64, String>| match value {
        Ok(value) => format!("{value:.4} s"),
        Err(why) => format!("unknown: {why}"),
    };
    let text = |value: &Result<String, String>| match value {
        Ok(value) => value.clone(),
        Err(why) => format!("unknown: {why}"),
    };
    let mut current = seconds(&facts.current_qos);
    if let Ok(age) = &facts.qos_age {
        current = format!("{current}, {age:.1} s old");
    }
    let predicted = match &facts.predicted_qos {
        Ok(quantiles) => {
            let said =
                |(level, value): (f64, &f64)| format!("{value:.4} s at {:.0} %", 100.0 * level);
            let all: Vec<String> = LEVELS.into_iter().zip(quantiles).map(said).collect();
            all.join(", ")
        }
        Err(why) => format!("unknown: {why}"),
    };
    let models: Vec<String> = ranking
        .iter()
        .map(|(name, error)| format!("{name} {error:.4} s"))
        .collect();
    let inputs = [
        ("app_cluster", text(&facts.cluster)),
        ("site", text(&facts.site)),
        ("current_qos", current),
        ("predicted_qos", predicted),
        ("best_site", text(&facts.best_site)),
        ("kpi_max", seconds(&facts.kpi_max)),
        ("move_time", format!("{:.3} s", facts.move_time)),
        ("horizon", format!("at least {:.1} s", needed.as_secs_f64())),
        ("mean error of the models", models.join(", ")),
    ];
    let inputs = inputs
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text));
    inputs.collect()
}
