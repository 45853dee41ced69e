//! Policies at work.

use std::time::Duration;

use super::world::{Sim, at, name, target_id};
use crate::core::policy::Policy;
use crate::decision::{Mode, Outcome, Target};
use crate::error::Error;
use crate::seam::{MoveCost, TargetId};

const LISTING_4: &str = include_str!("../core/policy/fixtures/listing4.policy");
const GO: &str = "THEN Call(NearbyOneActuator : migrate_service)";

#[test]
fn listing_4_runs_every_five_minutes() {
    let mut sim = Sim::new(1, Mode::Active, LISTING_4);
    // 250 ms at the edge; the next full five minutes are 100 s away.
    sim.world.burn(1.5);
    sim.run_for(99.0);
    assert!(sim.decisions().is_empty(), "{:?}", sim.decisions());
    sim.run_for(20.0);
    assert_eq!(sim.world.moves.len(), 1);
    assert!((100.0..103.0).contains(&at(sim.world.moves[0].0)));
    let mut decisions = sim.decisions();
    decisions.reverse();
    let told: Vec<_> = decisions
        .iter()
        .map(|d| (d.branch.as_str(), d.action.as_str(), d.outcome.to_string()))
        .collect();
    assert_eq!(
        told,
        [
            (
                "line 7: IF successful_call",
                "runWorkflow prediction-pipeline",
                "done".to_owned()
            ),
            (
                "line 14: IF app_cluster == \"edge\"",
                "migrate_service to cloud",
                "done".to_owned()
            ),
        ]
    );
    // At the cloud it takes 33 ms and the edge is free again, so the second branch looks back; the edge is not predicted to be better.
    sim.world.burn(0.0);
    sim.run_for(900.0);
    assert_eq!(sim.world.moves.len(), 1);
    let newest = &sim.decisions()[0];
    assert_eq!(newest.branch, "line 18: ELSEIF app_cluster == \"cloud\"");
    assert!(
        newest
            .outcome
            .to_string()
            .contains("not better than staying"),
        "{}",
        newest.outcome
    );
}

#[test]
fn a_request_is_decided_at_once() {
    let mut sim = Sim::new(1, Mode::Active, LISTING_4);
    sim.run_for(20.0);
    let decision = sim.request("/analyze_qos");
    assert_eq!(decision.action, "Nothing_to_do");
    sim.world.burn(1.5);
    sim.tick();
    let decision = sim.request("/analyze_qos");
    assert!(
        decision
            .outcome
            .to_string()
            .contains("held at 1 of the last 3"),
        "{}",
        decision.outcome
    );
    // Asking again is no further evidence.
    let decision = sim.request("/analyze_qos");
    assert!(
        decision
            .outcome
            .to_string()
            .contains("held at 1 of the last 3"),
        "{}",
        decision.outcome
    );
    sim.tick();
    let decision = sim.request("/analyze_qos");
    assert_eq!(decision.outcome, Outcome::Pending(String::new()));
    let decision = sim.request("/analyze_qos");
    assert_eq!(decision.outcome.to_string(), "held: a move is under way");
    sim.run_for(5.0);
    assert_eq!(sim.world.moves.len(), 1);
}

#[test]
fn all_that_is_asked_for_by_a_path_is_decided_in_order() {
    let policy = "apiRequest(\"/a\") IF site == \"cloud\" THEN Nothing_to_do \
                  apiRequest(\"/b\") IF site == \"edge\" THEN Nothing_to_do \
                  apiRequest(\"/a\") IF site == \"edge\" THEN Call(NearbyOneActuator : migrate_service, \"cloud\")";
    let mut sim = Sim::new(1, Mode::Shadow, policy);
    sim.run_for(20.0);
    let asked = sim.plane.request(sim.world.now, &target_id(), "/a");
    let (decisions, effects) = asked.expect("there are two");
    let told: Vec<_> = decisions.iter().map(|d| d.action.as_str()).collect();
    assert_eq!(told, ["Nothing_to_do", "migrate_service to cloud"]);
    assert!(decisions[0].branch.contains("no branch holds"));
    assert_eq!(decisions[1].outcome, Outcome::Shadow);
    assert_eq!(effects, []);
}

#[test]
fn requests_for_nothing_are_refused() {
    let mut sim = Sim::new(1, Mode::Active, LISTING_4);
    let now = sim.world.now;
    let error = sim
        .plane
        .request(now, &target_id(), "/other")
        .expect_err("no such rule");
    assert!(matches!(error, Error::NoSuchPath { .. }), "{error}");
    let other = TargetId {
        org: name("other"),
        ..target_id()
    };
    let error = sim
        .plane
        .request(now, &other, "/analyze_qos")
        .expect_err("not watched");
    assert!(matches!(error, Error::NotFound(_)), "{error}");
}

#[test]
fn targets_are_checked() {
    let mut sim = Sim::new(1, Mode::Active, "");
    let mut target = sim.target.clone();
    for kpi_max in [None, Some(0.0), Some(-1.0), Some(f64::NAN)] {
        target.kpi_max = kpi_max;
        let error = sim.plane.apply(target.clone()).expect_err("no KPI");
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
    target.kpi_max = None;
    target.policy = Policy::parse(LISTING_4).expect("a policy");
    sim.plane.apply(target).expect("it needs none");
}

/// Callers apply what they know whenever they have looked.
#[test]
fn to_apply_the_same_again_changes_nothing() {
    for text in [
        include_str!("../core/policy/fixtures/standard.policy"),
        LISTING_4,
    ] {
        let mut sim = Sim::new(1, Mode::Active, text);
        while sim.seconds() < 120.0 {
            sim.world.burn(if sim.seconds() < 20.0 { 0.0 } else { 6.0 });
            let again = Target {
                policy: Policy::parse(text).expect("a policy"),
                ..sim.target.clone()
            };
            sim.plane.apply(again).expect("it can be watched");
            sim.tick();
        }
        assert_eq!(sim.world.moves.len(), 1, "{text}");
    }
    let mut sim = Sim::new(1, Mode::Shadow, "");
    sim.run_for(20.0);
    sim.world.burn(6.0);
    sim.run_for(10.0);
    sim.target.mode = Mode::Active;
    let target = sim.target.clone();
    sim.plane.apply(target).expect("it can be watched");
    sim.tick();
    assert!(
        sim.world.calls.is_empty(),
        "its condition held when it was another one"
    );
    sim.run_for(5.0);
    assert_eq!(sim.world.moves.len(), 1);
}

#[test]
fn a_condition_speaks_of_the_site_that_the_action_goes_to() {
    // The best site is the cloud, which it has left by hand after 10 s, and may go back to after 80 s more. The next best takes 50 ms.
    let moved = |condition: &str, seconds: f64| {
        let policy = format!("IF current_qos > 50ms AND {condition} COOLDOWN 20s {GO}");
        let mut sim = Sim::new(1, Mode::Active, &policy);
        sim.world.sites.insert(name("third"), (2.0, 0.0));
        sim.world.block_at = name("cloud");
        sim.run_for(10.0);
        sim.world.block_at = name("edge");
        sim.run_for(seconds);
        let decision = sim.decisions().swap_remove(0);
        let to = sim.world.moves.first().map(|(_, to)| to.to_string());
        (to, decision.inputs["best_site"].clone())
    };
    let (cloud, third) = ("cloud".to_owned(), "third".to_owned());
    let fast = "qos_at(best_site) < 40ms";
    assert_eq!(moved(fast, 75.0), (None, third.clone()));
    assert_eq!(moved(fast, 85.0).0, Some(cloud));
    assert_eq!(moved("qos_at(best_site) < 60ms", 30.0).0, Some(third));
    assert_eq!(moved("best_site == \"cloud\"", 75.0).0, None);
}

#[test]
fn one_slow_move_is_told_of_and_forgotten_after_some_others() {
    let cost = |seconds| MoveCost {
        took: Duration::from_secs(seconds),
        pause: Duration::from_secs(1),
    };
    let mut sim = Sim::new(1, Mode::Shadow, "");
    sim.world.costs = vec![cost(1), cost(300), cost(1), cost(1), cost(1), cost(1)];
    sim.run_for(30.0);
    let newest = &sim.decisions()[0];
    assert_eq!(newest.forecast, None);
    assert_eq!(
        newest.outcome.to_string(),
        "held: the condition is unknown: no forecast reaches the end of a move: the longest is about 96 s after the newest measurement"
    );
    sim.world.costs.push(cost(2));
    sim.tick();
    let newest = &sim.decisions()[0];
    assert_eq!(newest.inputs["move_time"], "2.000 s");
    assert_eq!(newest.outcome, Outcome::Done, "nothing is to be done");
}

#[test]
fn options_hold_a_move_back() {
    // With 250 ms at the edge from the 20th second on. (options, when it moves)
    let check = |condition: &str, options: &str, expected: Option<f64>| {
        let mut sim = Sim::new(1, Mode::Active, &format!("IF {condition} {options} {GO}"));
        sim.run_for(20.0);
        sim.world.burn(1.5);
        sim.run_for(30.0);
        let decided = sim.move_decisions().first().map(|d| at(d.at));
        assert_eq!(
            decided,
            expected,
            "{options}: {}",
            sim.decisions()[0].outcome
        );
    };
    let slow = "current_qos > 200ms";
    check(slow, "", Some(21.0));
    check(slow, "FOR 1 OF 1", Some(20.5));
    check(slow, "FOR 5 OF 5", Some(22.5));
    // 33 ms are better by so much only than what is forecast a little later.
    check(slow, "FOR 1 OF 1 MARGIN 80%", Some(22.0));
    check(slow, "MARGIN 95%", None);
    check(slow, "MARGIN 240ms", None);
    check("current_qos > 200ms AND qos_at(best_site) < 20ms", "", None);
    check(
        "current_qos > 200ms AND free_cpu(best_site) > 3",
        "",
        Some(21.0),
    );
    check(
        "predicted_qos > 200ms",
        "FOR 1 OF 1 BUDGET 1 PER 1h",
        Some(23.0),
    );
}

#[test]
fn a_budget_is_kept() {
    let both = format!("IF current_qos > 200ms FOR 1 OF 1 COOLDOWN 100ms BUDGET 2 PER 1h {GO}");
    let mut sim = Sim::new(1, Mode::Active, &both);
    while sim.seconds() < 600.0 {
        let at_edge = sim.world.block_at == name("edge");
        sim.world.burn(if at_edge { 6.0 } else { 0.0 });
        sim.world
            .sites
            .insert(name("cloud"), (4.0, if at_edge { 0.0 } else { 60.0 }));
        sim.tick();
    }
    assert_eq!(sim.world.moves.len(), 2);
    assert_eq!(
        sim.decisions()[0].outcome.to_string(),
        "held: the budget of 2 moves in 3600 s is spent"
    );
}

#[test]
fn a_destination_can_be_said() {
    let go = |to: &str| {
        let policy =
            format!("IF current_qos > 200ms THEN Call(NearbyOneActuator : migrate_service, {to})");
        let mut sim = Sim::new(1, Mode::Active, &policy);
        sim.world.sites.insert(name("third"), (1.0, 0.5));
        sim.run_for(20.0);
        sim.world.burn(1.5);
        sim.run_for(10.0);
        let moved = sim.world.moves.first().map(|(_, to)| to.to_string());
        (moved, sim.decisions()[0].outcome.to_string())
    };
    assert_eq!(go("\"third\"").0.as_deref(), Some("third"));
    assert_eq!(go("best_site").0.as_deref(), Some("cloud"));
    assert_eq!(
        go("\"edge\""),
        (None, "held: it is at edge already".to_owned())
    );
    assert_eq!(
        go("\"mars\""),
        (
            None,
            "held: it may not be at mars, or there is no such site".to_owned()
        )
    );
}

#[test]
fn the_same_is_told_once() {
    let mut sim = Sim::new(1, Mode::Shadow, "");
    sim.run_for(60.0);
    let told: Vec<_> = sim
        .decisions()
        .iter()
        .map(|d| (d.outcome.kind(), d.times))
        .collect();
    // First the forecasts were not calibrated yet.
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told.iter().map(|(_, times)| times).sum::<u32>(), 120);
    sim.world.burn(6.0);
    sim.run_for(250.0);
    let told = sim.move_decisions();
    // One for each cooldown.
    assert_eq!(told.len(), 5, "{told:?}");
    for pair in told.windows(2) {
        assert!(at(pair[1].at) - at(pair[0].at) >= 60.0);
    }
}
