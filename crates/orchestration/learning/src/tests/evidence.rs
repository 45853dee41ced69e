//! What several replicas and several programs tell.

use std::time::Duration;

use super::world::{name, target_id};
use crate::config::Config;
use crate::core::ledger::Ledger;
use crate::core::plane::Plane;
use crate::core::policy::Policy;
use crate::decision::{Decision, Mode, Target};
use crate::seam::{BlockSample, Observation, Point, Series, SiteSample, TargetId, Time};

const START: Time = Time(1_700_000_000_000);

fn block(now: Time, id: &TargetId, site: &str, times: &[f64]) -> BlockSample {
    let series = times.iter().zip(0..).map(|(value, replica)| Series {
        site: name(site),
        replica,
        key: "MPI_Allreduce".to_owned(),
        points: vec![Point {
            at: now,
            value: *value,
        }],
    });
    BlockSample {
        target: id.clone(),
        site: Some(name(site)),
        candidates: vec![name("edge"), name("cloud")],
        cores_max: 2.0,
        series: series.collect(),
        moves: Vec::new(),
    }
}

fn sites(now: Time) -> Vec<SiteSample> {
    let point = |value| Some(Point { at: now, value });
    let site = |site: &str| SiteSample {
        site: name(site),
        tier: None,
        share: point(8.0),
        used: point(2.0),
        waiting: point(0.0),
    };
    vec![site("edge"), site("cloud")]
}

/// What is decided for a program with two replicas at the edge, after 20 s beside one that is `like` it at the cloud.
fn decide(org: &str, like: &str) -> Decision {
    let mut plane = Plane::new(Config::default(), Ledger::default(), START);
    let other = TargetId {
        org: name(org),
        service: name("other"),
        ..target_id()
    };
    for (id, like) in [(target_id(), "module/2"), (other.clone(), like)] {
        let policy = "IF current_qos > 250ms FOR 20 OF 20 THEN Call(NearbyOneActuator : migrate_service) ELSE Nothing_to_do";
        let target = Target {
            id,
            kpi_max: None,
            policy: Policy::parse(policy).expect("a policy"),
            mode: Mode::Shadow,
            like: like.to_owned(),
        };
        plane.apply(target).expect("it can be watched");
    }
    let mut now = START;
    for _ in 0..40 {
        now = now.plus(Duration::from_millis(500));
        let observation = Observation {
            sites: sites(now),
            blocks: vec![
                block(now, &target_id(), "edge", &[0.2, 0.3]),
                block(now, &other, "cloud", &[0.05]),
            ],
        };
        assert_eq!(
            plane.observe(now, observation),
            [],
            "nobody acts in shadow mode"
        );
    }
    plane.decisions(&target_id()).swap_remove(0)
}

fn at_cloud(decision: &Decision) -> (f64, &str) {
    let found = decision
        .alternatives
        .iter()
        .find(|a| a.site == name("cloud"));
    let found = found.expect("it is told");
    (found.predicted.expect("it is known"), &found.why)
}

#[test]
fn the_slowest_replica_speaks_and_a_like_program_tells_about_its_site() {
    let decision = decide("acme", "module/2");
    assert_eq!(decision.inputs["current_qos"], "0.3000 s, 0.0 s old");
    assert_eq!(decision.action, "migrate_service to cloud");
    let (predicted, why) = at_cloud(&decision);
    // No move has been measured: a pause of two seconds in the minute between two moves is assumed.
    assert!((predicted / 0.05 - 62.0 / 60.0).abs() < 1e-9, "{predicted}");
    assert!(why.contains("a like program ran here"), "{why}");
    assert!(why.ends_with("and moving costs 3.3 %"), "{why}");
}

#[test]
fn another_program_and_another_organisation_tell_nothing() {
    for decision in [decide("acme", "module/3"), decide("rival", "module/2")] {
        let (predicted, why) = at_cloud(&decision);
        assert!(predicted >= 0.2, "{predicted}");
        assert!(why.contains("it never ran here lately"), "{why}");
        assert!(
            decision
                .outcome
                .to_string()
                .starts_with("held: cloud is predicted"),
            "{}",
            decision.outcome
        );
    }
}

/// A program at the edge, whose iterations may have several keys.
struct Keyed {
    plane: Plane,
    now: Time,
    series: Vec<Series>,
}

impl Keyed {
    fn new() -> Self {
        let mut plane = Plane::new(Config::default(), Ledger::default(), START);
        let target = Target {
            id: target_id(),
            kpi_max: None,
            policy: Policy::parse("IF predicted_qos > 1h THEN Nothing_to_do").expect("a policy"),
            mode: Mode::Shadow,
            like: String::new(),
        };
        plane.apply(target).expect("it can be watched");
        Self {
            plane,
            now: START,
            series: Vec::new(),
        }
    }

    /// So many samples of this key, beside all that there was before. Returns what is decided last.
    fn run(&mut self, samples: u32, key: &str, value: f64) -> Decision {
        for _ in 0..samples {
            self.now = self.now.plus(Duration::from_millis(500));
            let is_known = self.series.iter().any(|series| series.key == key);
            if !is_known {
                self.series.push(Series {
                    site: name("edge"),
                    replica: 0,
                    key: key.to_owned(),
                    points: Vec::new(),
                });
            }
            for series in self.series.iter_mut().filter(|series| series.key == key) {
                series.points.push(Point {
                    at: self.now,
                    value,
                });
            }
            // Which one comes first says nothing.
            self.series.rotate_left(1);
            let mut block = block(self.now, &target_id(), "edge", &[]);
            block.series.clone_from(&self.series);
            for series in &mut block.series {
                // As much as is new, and a little more.
                series.points.drain(..series.points.len().saturating_sub(3));
            }
            let observation = Observation {
                sites: sites(self.now),
                blocks: vec![block],
            };
            assert_eq!(self.plane.observe(self.now, observation), []);
        }
        self.plane.decisions(&target_id()).swap_remove(0)
    }
}

#[test]
fn the_key_that_goes_on_counts_and_the_others_are_over() {
    let long = "k".repeat(300);
    let mut keyed = Keyed::new();
    for (samples, key, value) in [
        (40, "a", 0.1),
        (40, "b", 0.4),
        (40, &long, 0.2),
        (40, "a", 0.3),
    ] {
        // Nothing of the key before says anything of this one.
        let first = keyed.run(1, key, value);
        assert_eq!(
            first.inputs["current_qos"],
            format!("{value:.4} s, 0.0 s old"),
            "{key}"
        );
        assert_eq!(first.forecast, None, "{key}");
        assert_eq!(first.alternatives[1].predicted, None, "{key}");
        let last = keyed.run(samples, key, value);
        let (predicted, why) = at_cloud(&last);
        assert!(
            (predicted / value - 62.0 / 60.0).abs() < 1e-9,
            "{key}: {why}"
        );
        let forecast = last.forecast.expect("nothing began anew meanwhile");
        assert!(
            (forecast.quantiles[2].1 - value).abs() < 1e-3,
            "{key}: {forecast:?}"
        );
    }
}

#[test]
fn two_keys_at_once_do_not_take_turns() {
    let mut keyed = Keyed::new();
    keyed.run(40, "a", 0.1);
    // From now on each sample ends with the same moment in both.
    let other = keyed.series[0].clone();
    keyed.series.push(Series {
        key: "b".to_owned(),
        ..other
    });
    for _ in 0..20 {
        let at = keyed.now.plus(Duration::from_millis(500));
        for series in keyed.series.iter_mut().filter(|series| series.key == "b") {
            series.points.push(Point { at, value: 0.4 });
        }
        let decision = keyed.run(1, "a", 0.1);
        assert!(decision.forecast.is_some(), "{decision:?}");
        assert!(decision.inputs["current_qos"].starts_with("0.1000 s"));
    }
}
