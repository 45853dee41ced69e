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
        let point = |value| Some(Point { at: now, value });
        let site = |site: &str| SiteSample {
            site: name(site),
            tier: None,
            share: point(8.0),
            used: point(2.0),
            waiting: point(0.0),
        };
        let observation = Observation {
            sites: vec![site("edge"), site("cloud")],
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
    assert!((predicted - 0.05).abs() < 1e-9, "{predicted}");
    assert!(why.contains("a like program ran here"), "{why}");
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
