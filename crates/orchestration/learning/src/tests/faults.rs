//! Measurements that are missing, stale or nonsense; actuators that fail; processes that die.

use std::collections::BTreeSet;

use super::world::{Fault, KPI, Sim, name, target_id};
use crate::core::plane::Effect;
use crate::decision::{Mode, Outcome};
use crate::seam::{BlockSample, MoveStatus, Observation, Point, Series, Time};

/// A block in trouble: far above its KPI, with a better site at hand.
fn trouble() -> Sim {
    let mut sim = Sim::new(1, Mode::Active, "");
    sim.run_for(20.0);
    sim.world.burn(6.0);
    sim
}

#[test]
fn trouble_is_left() {
    let mut sim = trouble();
    sim.run_for(10.0);
    assert_eq!(sim.world.moves.len(), 1);
}

#[test]
fn what_is_missing_or_stale_triggers_nothing() {
    type Blind = (&'static str, fn(&mut Sim), &'static str);
    let blinds: [Blind; 4] = [
        (
            "the block",
            |sim| sim.world.without_block = true,
            "not known where it runs",
        ),
        ("its series", |sim| sim.world.without_series = true, "s old"),
        ("new points", |sim| sim.world.frozen_series = true, "s old"),
        (
            "the sites",
            |sim| sim.world.without_sites = true,
            "no other site is known",
        ),
    ];
    for (what, blind, words) in blinds {
        let mut sim = trouble();
        // The trouble has been seen, at one sample.
        sim.tick();
        blind(&mut sim);
        sim.run_for(30.0);
        assert!(sim.world.calls.is_empty(), "without {what}");
        let newest = &sim.decisions()[0];
        let Outcome::Held(why) = &newest.outcome else {
            panic!("without {what}: {newest:?}");
        };
        assert!(why.contains(words), "without {what}: {why}");
    }
}

#[test]
fn a_gap_is_not_bridged_and_afterwards_it_goes_on() {
    let mut sim = trouble();
    sim.tick();
    sim.world.without_block = true;
    sim.run_for(30.0);
    sim.world.without_block = false;
    sim.tick();
    assert!(
        sim.world.calls.is_empty(),
        "one sample since the gap is not enough"
    );
    sim.run_for(5.0);
    assert_eq!(sim.world.moves.len(), 1);
}

#[test]
fn iterations_longer_than_the_limit_of_staleness_are_no_staleness() {
    let mut sim = trouble();
    // An iteration takes 3 s and then 6 s: points are that far apart.
    for seconds in [3.0, 6.0] {
        for _ in 0..6 {
            sim.world.factor = seconds / sim.world.truth();
            sim.world.frozen_series = true;
            sim.run_for(seconds - 0.5);
            sim.world.frozen_series = false;
            sim.tick();
        }
    }
    assert_eq!(sim.world.moves.len(), 1, "{:?}", sim.decisions()[0]);
}

#[test]
fn nonsense_is_rejected() {
    let mut sim = Sim::new(
        1,
        Mode::Active,
        "IF current_qos > 1ms FOR 1 OF 1 THEN Call(NearbyOneActuator : migrate_service)",
    );
    let now = sim.world.now;
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0];
    let mut points: Vec<Point> = values.map(|value| Point { at: now, value }).into();
    points.push(Point {
        at: Time(now.0 + 60_000),
        value: 1.0,
    });
    let n_points = points.len() as u64;
    let block = BlockSample {
        target: target_id(),
        site: Some(name("edge")),
        candidates: vec![name("cloud")],
        cores_max: f64::NAN,
        series: vec![Series {
            site: name("edge"),
            replica: 0,
            key: String::new(),
            points,
        }],
        moves: Vec::new(),
    };
    let effects = sim.plane.observe(
        now,
        Observation {
            sites: Vec::new(),
            blocks: vec![block],
        },
    );
    assert_eq!(effects, []);
    assert_eq!(sim.plane.tally.rejected, n_points);
    assert!(
        sim.decisions()[0]
            .outcome
            .to_string()
            .contains("no iteration has been measured")
    );
}

#[test]
fn an_actuator_that_fails_is_called_once_a_key_and_not_hammered() {
    // (fault, calls in 100 s, moves, what the first decision comes to)
    let cases = [
        (Fault::None, 1, 1, "done"),
        (Fault::Doubles, 1, 1, "done"),
        (Fault::LosesAnswers, 1, 1, "done"),
        (Fault::Refuses, 2, 0, "failed: refused: no"),
        (
            Fault::LosesRequests,
            2,
            0,
            "failed: it never reached the actuator",
        ),
        (Fault::FailsLater, 2, 0, "failed: no room"),
        (Fault::Hangs, 1, 0, "pending"),
        (Fault::DiskFull, 0, 0, "failed: no space"),
    ];
    for (fault, calls, moves, outcome) in cases {
        let mut sim = trouble();
        sim.world.fault = fault;
        sim.run_for(100.0);
        let found = (sim.world.calls.len(), sim.world.moves.len());
        assert_eq!(found, (calls, moves), "{fault:?}");
        let keys: BTreeSet<_> = sim.world.calls.iter().collect();
        assert_eq!(keys.len(), calls, "{fault:?}: a key is called twice");
        assert_eq!(
            sim.move_decisions()[0].outcome.to_string(),
            outcome,
            "{fault:?}"
        );
    }
}

#[test]
fn silence_is_shown() {
    let mut sim = trouble();
    sim.world.fault = Fault::Hangs;
    sim.run_for(150.0);
    let outcome = sim.move_decisions()[0].outcome.to_string();
    assert!(
        outcome.starts_with("pending: the actuator has not answered for 1"),
        "{outcome}"
    );
    // After a restart it is asked, has never heard of it, and the next try goes through.
    sim.world.fault = Fault::None;
    sim.restart();
    sim.run_for(100.0);
    assert_eq!((sim.world.calls.len(), sim.world.moves.len()), (2, 1));
}

#[test]
fn a_crash_at_any_step_neither_repeats_nor_loses_a_move() {
    let run = |crash_at| {
        let mut sim = trouble();
        sim.crashes.at = crash_at;
        sim.run_for(200.0);
        sim
    };
    let steps = run(None).crashes.steps;
    assert!(steps >= 6, "the move takes {steps} steps");
    for step in 1..=steps {
        let sim = run(Some(step));
        assert_eq!(sim.n_crashes, 1, "step {step}");
        let keys: BTreeSet<_> = sim.world.calls.iter().collect();
        assert_eq!(
            keys.len(),
            sim.world.calls.len(),
            "step {step}: a key is called twice"
        );
        assert_eq!(
            sim.world.moves.len(),
            1,
            "step {step}: {:?}",
            sim.world.moves
        );
        assert_eq!(sim.world.block_at, name("cloud"), "step {step}");
        assert!(sim.world.truth() < KPI, "step {step}");
        assert_eq!(sim.plane.n_open(), 0, "step {step}");
        for status in sim.world.known.values() {
            assert_eq!(*status, MoveStatus::Done, "step {step}");
        }
    }
}

#[test]
fn the_dwell_and_the_explanations_survive_a_restart() {
    let mut sim = trouble();
    sim.run_for(10.0);
    let before = sim.move_decisions();
    sim.restart();
    // All but the last bits of the figures.
    let after = sim.move_decisions();
    assert_eq!(format!("{after:.9?}"), format!("{before:.9?}"));
    // Now the other side is in trouble, and the way back would be open.
    sim.world.burn(0.0);
    sim.world.sites.insert(name("cloud"), (4.0, 60.0));
    sim.run_for(200.0);
    assert_eq!(sim.world.moves.len(), 1);
    assert!(
        sim.decisions()[0]
            .outcome
            .to_string()
            .contains("back and forth"),
        "{:?}",
        sim.decisions()[0]
    );
    sim.run_for(100.0);
    assert_eq!(sim.world.moves.len(), 2, "after the dwell it may go back");
}

#[test]
fn a_move_by_hand_starts_the_dwell_too() {
    let mut sim = trouble();
    sim.world.burn(0.0);
    sim.world.block_at = name("cloud");
    sim.world.sites.insert(name("cloud"), (4.0, 60.0));
    sim.run_for(100.0);
    assert!(sim.world.calls.is_empty());
    sim.run_for(200.0);
    assert_eq!(sim.world.moves.len(), 1);
}

#[test]
fn a_target_that_goes_leaves_its_move_to_be_followed_up() {
    let mut sim = trouble();
    while sim.world.calls.is_empty() {
        sim.tick();
    }
    sim.plane.remove(&target_id());
    assert_eq!(sim.plane.n_open(), 1);
    sim.run_for(5.0);
    assert_eq!(sim.plane.n_open(), 0);
    assert!(sim.decisions().is_empty());
    let effects = sim.plane.answer(
        sim.world.now,
        "learning-0-0",
        crate::core::plane::Answer::Called(Ok(())),
    );
    assert_eq!(effects, Vec::<Effect>::new(), "nobody waits for this");
}
