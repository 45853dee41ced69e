//! A violation is foreseen and prevented, and nothing is moved without a reason.
#![expect(clippy::print_stdout, reason = "the figures are for people too")]

use std::time::Duration;

use super::world::{KPI, Sim, at, name};
use crate::decision::{Mode, Outcome};

const SEEDS: u64 = 100;
/// The overload of the demo: another burner, as large as the program, so often.
const STEP_SECONDS: f64 = 8.0;

/// Runs with so many burners at each second. Returns when an iteration first took longer than the KPI allows, apart from noise.
fn run(sim: &mut Sim, seconds: f64, burners: impl Fn(f64) -> f64) -> Option<f64> {
    let mut violated = None;
    while sim.seconds() < seconds {
        sim.world.burn(burners(sim.seconds()));
        sim.tick();
        if sim.world.truth() > KPI && violated.is_none() {
            violated = Some(sim.seconds());
        }
    }
    violated
}

fn steps(seconds: f64) -> f64 {
    (seconds / STEP_SECONDS).floor().min(5.0)
}

#[test]
fn in_shadow_mode_the_violation_comes_after_it_was_foreseen_and_nothing_is_done() {
    let mut leads = Vec::new();
    for seed in 0..SEEDS {
        let mut sim = Sim::new(seed, Mode::Shadow, "");
        let violated = run(&mut sim, 48.0, steps).expect("the overload is real");
        assert!(sim.world.calls.is_empty(), "seed {seed}");
        let decisions = sim.move_decisions();
        let first = decisions.first().expect("it would move");
        assert_eq!(first.outcome, Outcome::Shadow, "seed {seed}");
        assert_eq!(first.action, "migrate_service to cloud", "seed {seed}");
        let told = first.violated_at.map(at).expect("it came true");
        assert!(told <= violated + 0.5, "seed {seed}: {told}");
        let forecast = first.forecast.as_ref().expect("it was foreseen");
        let (_, upper) = forecast.quantiles.last().expect("it has quantiles");
        assert!(*upper > KPI, "seed {seed}");
        assert!(
            at(forecast.target) <= violated,
            "seed {seed}: the future was not met"
        );
        leads.push(violated - at(first.at));
    }
    leads.sort_by(f64::total_cmp);
    let (least, median) = (leads[0], leads[leads.len() / 2]);
    println!("lead of the decision over {SEEDS} seeds: least {least} s, median {median} s");
    assert!(least >= 3.0 && median >= 6.0, "{leads:?}");
}

#[test]
fn in_active_mode_it_moves_once_and_nothing_is_violated() {
    for seed in 0..SEEDS {
        let mut sim = Sim::new(seed, Mode::Active, "");
        // The overload ends; the way back would be open.
        let violated = run(&mut sim, 400.0, |s| if s < 60.0 { steps(s) } else { 0.0 });
        assert_eq!(violated, None, "seed {seed}");
        assert_eq!(
            sim.world.moves.len(),
            1,
            "seed {seed}: {:?}",
            sim.world.moves
        );
        assert_eq!(sim.world.block_at, name("cloud"));
        let decisions = sim.move_decisions();
        assert_eq!(decisions.len(), 1, "seed {seed}");
        assert_eq!(decisions[0].outcome, Outcome::Done);
        let chosen = decisions[0]
            .alternatives
            .iter()
            .find(|a| a.site == name("cloud"));
        let chosen = chosen.expect("it is told");
        let predicted = chosen.predicted.expect("it was predicted");
        let ratio = predicted / sim.world.truth();
        assert!(
            (0.8..1.25).contains(&ratio),
            "seed {seed}: {predicted} {}",
            chosen.why
        );
    }
}

#[test]
fn a_forecast_reaches_beyond_a_move_that_begins_now_however_old_the_newest_measurement_is() {
    for late in [0, 400, 1000, 1900] {
        let mut sim = Sim::new(1, Mode::Shadow, "");
        sim.world.late = Duration::from_millis(late);
        let mut foreseen = 0;
        while sim.seconds() < 48.0 {
            sim.world.burn(steps(sim.seconds()));
            sim.tick();
            let newest = sim.decisions().swap_remove(0);
            if let Some(forecast) = newest.forecast {
                foreseen += 1;
                let reach = forecast.target.since(newest.at);
                // The move takes a second, and its effect is measured half a second later.
                assert!(reach >= Duration::from_millis(1500), "{late} ms: {reach:?}");
            }
        }
        assert!(foreseen > 40, "{late} ms: {foreseen}");
        assert_eq!(sim.move_decisions().len(), 1, "{late} ms");
    }
}

#[test]
fn other_shapes_of_overload_are_foreseen_too() {
    type Shape = (&'static str, fn(f64) -> f64);
    let shapes: [Shape; 4] = [
        ("ramp", |s| (s / 8.0).min(5.0)),
        ("steps of 6 s", |s| (s / 6.0).floor().min(5.0)),
        ("steps of 10 s", |s| (s / 10.0).floor().min(5.0)),
        ("late steps", |s| {
            ((s - 120.0) / 8.0).floor().clamp(0.0, 5.0)
        }),
    ];
    for (shape, burners) in shapes {
        let mut foreseen = 0;
        for seed in 0..SEEDS / 2 {
            let mut sim = Sim::new(seed, Mode::Shadow, "");
            sim.world.noise = 0.08;
            let violated = run(&mut sim, 180.0, burners).expect("the overload is real");
            let decisions = sim.move_decisions();
            let first = decisions.first().expect("it would move");
            foreseen += u32::from(violated - at(first.at) >= 1.5);
        }
        println!(
            "{shape}: {foreseen} of {} are foreseen by 1.5 s or more",
            SEEDS / 2
        );
        assert!(foreseen >= 48, "{shape}: {foreseen}");
    }
}

#[test]
fn without_an_overload_nothing_moves() {
    // What each run has instead.
    type Quirk = (&'static str, fn(&mut Sim));
    let quirks: [Quirk; 6] = [
        ("nothing", |_| {}),
        ("more noise", |sim| sim.world.noise = 0.15),
        ("a slow start", |sim| {
            sim.world.factor = if sim.seconds() < 1.5 { 8.0 } else { 1.0 };
        }),
        ("single spikes", |sim| {
            let is_alone = sim.seconds() % 2.0 == 0.0;
            let is_spike = is_alone && sim.world.random.unit() < 0.05;
            sim.world.factor = if is_spike { 6.0 } else { 1.0 };
        }),
        ("one neighbour for ever", |sim| {
            let burners = if sim.seconds() < 30.0 { 0.0 } else { 1.0 };
            sim.world.burn(burners);
        }),
        ("a neighbour now and then", |sim| {
            let burners = f64::from(u8::from(sim.seconds() % 20.0 < 7.0));
            sim.world.burn(burners);
        }),
    ];
    for (what, quirk) in quirks {
        for seed in 0..SEEDS {
            let mut sim = Sim::new(seed, Mode::Active, "");
            while sim.seconds() < 120.0 {
                quirk(&mut sim);
                sim.tick();
            }
            assert!(
                sim.world.calls.is_empty(),
                "{what}, seed {seed}: {:#?}",
                sim.move_decisions()
            );
        }
    }
}

#[test]
fn overloads_that_change_sides_do_not_make_it_go_back_and_forth() {
    for seed in 0..20 {
        let mut sim = Sim::new(seed, Mode::Active, "");
        while sim.seconds() < 1200.0 {
            let at_edge = sim.seconds() % 50.0 < 25.0;
            sim.world.burn(if at_edge { 6.0 } else { 0.0 });
            sim.world
                .sites
                .insert(name("cloud"), (4.0, if at_edge { 0.0 } else { 40.0 }));
            sim.tick();
        }
        let times: Vec<f64> = sim.world.moves.iter().map(|(time, _)| at(*time)).collect();
        assert!(!times.is_empty(), "seed {seed}");
        for pair in times.windows(2) {
            assert!(pair[1] - pair[0] >= 240.0, "seed {seed}: {times:?}");
        }
    }
}
