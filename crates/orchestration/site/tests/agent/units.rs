//! What runs: as configured, through restarts, orphans and drivers that hang.

use std::sync::Arc;
use std::time::Duration;

use ids::{Epoch, UnitId};
use site::StopMode;
use workload::link::Down;
use workload::{Driver, Phase};

use super::drivers::Processes;
use super::{World, config, has_condition, name, spec, unit, wait};

#[test]
fn what_is_configured_runs_and_nothing_else() {
    let mut world = World::new();
    let orphan = spec(9, 1);
    world.driver.ensure(&orphan, &[].into()).expect("it starts");
    let site = world.running(&[(0, 1), (1, 1)]);
    assert!(
        !world.driver.state().units.contains_key(&orphan.id),
        "nobody has configured it"
    );
    world.controller.configure(config(2, &[(1, 1), (2, 3)]));
    world
        .controller
        .await_phases(2, &[(1, 1), (2, 3)], Phase::Running);
    world.controller.configure(config(3, &[(1, 2)]));
    world.controller.await_phases(3, &[(1, 2)], Phase::Running);
    let log = world.driver.state().log.clone();
    let count = |what: &str| log.iter().filter(|line| line.contains(what)).count();
    assert_eq!(count("decode/1 "), 2, "one start for each epoch: {log:?}");
    assert_eq!(count("stop"), 3, "{log:?}");
    site.stop(StopMode::StopUnits).expect("it stops them");
    assert!(world.driver.state().units.is_empty());
}

/// Real processes: they outlive the agent, are found again, and end when they shall.
#[test]
fn processes_outlive_the_agent_and_are_adopted() {
    let world = World::new();
    let folder = world.dir.path().join("processes");
    let driver = || Arc::new(Processes::new(folder.clone()));
    let start =
        |driver: &Arc<Processes>| world.start_with(vec![Arc::clone(driver) as Arc<dyn Driver>]);
    let first = driver();
    let site = start(&first);
    let units = [(0, 1), (1, 1)];
    world.controller.configure(config(1, &units));
    world.controller.await_phases(1, &units, Phase::Running);
    let pids = first.pids();
    assert_eq!(pids.len(), 2);
    drop(site);
    assert_eq!(first.pids(), pids, "they run without the agent");

    world.controller.heard().inventory = None;
    let second = driver();
    let site = start(&second);
    world.controller.await_phases(1, &units, Phase::Running);
    assert_eq!(second.pids(), pids, "nothing was started again");
    site.stop(StopMode::StopUnits).expect("it stops them");
    assert_eq!(second.pids(), [0; 0]);
}

#[test]
fn what_has_ended_stays_ended_over_restarts() {
    let mut world = World::new();
    let site = world.running(&[(0, 1), (1, 1)]);
    world
        .driver
        .state()
        .units
        .get_mut(&unit(0))
        .expect("it runs")
        .phase = Phase::Succeeded;
    world
        .controller
        .await_inventory("it has ended", |inventory| {
            inventory
                .units
                .iter()
                .any(|seen| seen.phase == Phase::Succeeded)
        });
    drop(site);
    world.controller.heard().inventory = None;
    let site = world.start();
    world
        .controller
        .await_inventory("both are reported", |inventory| inventory.units.len() == 2);
    world.controller.await_news();
    let log = world.driver.state().log.clone();
    assert_eq!(log.len(), 2, "two starts: {log:?}");
    drop(site);
}

/// A process that is stopped by a signal may make its driver hang; that is nobody else's business.
#[test]
fn a_call_that_hangs_keeps_nobody_else_waiting() {
    let mut world = World::new();
    let site = world.running(&[(0, 1), (1, 1)]);
    world.driver.state().hanging.push(unit(0));
    world
        .controller
        .configure(config(2, &[(0, 2), (1, 2), (2, 1)]));
    world
        .controller
        .await_inventory("others go on, and the one is named", |inventory| {
            let is = |replica, epoch, phase| {
                let found = inventory.units.iter().find(|seen| seen.id == unit(replica));
                found.is_some_and(|seen| (seen.epoch, seen.phase) == (Epoch(epoch), phase))
            };
            is(0, 1, Phase::Unresponsive) && is(1, 2, Phase::Running) && is(2, 1, Phase::Running)
        });
    // A log that hangs, and one that does not.
    for (request, unit) in [(1, unit(0)), (2, unit(1))] {
        let (offset, max) = (1, 3);
        world.controller.say(
            &Down::ReadLog {
                request,
                unit,
                offset,
                max,
            },
            &[],
        );
    }
    let logs = wait("the other log", || {
        let heard = world.controller.heard();
        (!heard.logs.is_empty()).then(|| heard.logs.clone())
    });
    assert_eq!(logs, [(2, 1, None, b"ell".to_vec())]);
    world.driver.release();
    world
        .controller
        .await_phases(2, &[(0, 2), (1, 2), (2, 1)], Phase::Running);
    drop(site);
}

#[test]
fn a_driver_that_is_blind_is_named_and_the_link_stays() {
    let mut world = World::new();
    let site = world.running(&[(0, 1)]);
    let n_hellos = world.controller.heard().hellos.len();
    world.driver.state().is_blind = true;
    world
        .controller
        .await_inventory("it is named", |inventory| {
            has_condition(inventory, "DriverHangs")
        });
    world.driver.release();
    world
        .controller
        .await_inventory("it sees again", |inventory| {
            !has_condition(inventory, "DriverHangs")
        });
    assert_eq!(world.controller.heard().hellos.len(), n_hellos);
    drop(site);
}

#[test]
fn offers_reach_the_driver_once_and_only_of_the_same_incarnation() {
    let mut world = World::new();
    let site = world.running(&[(0, 2)]);
    let offer = |epoch, text: &str| Down::Offers {
        unit: unit(0),
        epoch: Epoch(epoch),
        offers: [(name("cloud"), text.to_owned())].into(),
    };
    world.controller.say(&offer(2, "key"), &[]);
    world.controller.say(&offer(1, "old key"), &[]);
    wait("the driver has it", || {
        let state = world.driver.state();
        state.units[&unit(0)]
            .offers
            .values()
            .next()
            .filter(|text| *text == "key")
            .cloned()
    });
    drop(site);
    // It is known without a controller, too.
    world.controller.be_deaf(true);
    world.driver.state().units.clear();
    let site = world.start();
    wait("it starts with the offer", || {
        let state = world.driver.state();
        let running = state.units.get(&unit(0))?;
        (running.offers.len() == 1).then_some(())
    });
    drop(site);
}

#[test]
fn a_module_that_is_not_what_it_should_be_is_not_run() {
    let world = World::new();
    world.controller.heard().bad_module = Some(b"something else");
    let site = world.start();
    world.controller.configure(config(1, &[(0, 1)]));
    world
        .controller
        .await_inventory("it says why", |inventory| {
            let waits = |seen: &workload::Observed| {
                seen.phase == Phase::Pending && seen.reason.contains("another SHA-256")
            };
            inventory.units.iter().any(waits)
        });
    assert!(world.driver.state().units.is_empty());
    world.controller.heard().bad_module = None;
    world.controller.await_phases(1, &[(0, 1)], Phase::Running);
    let modules = world.dir().join(site::MODULES);
    let n_modules = || std::fs::read_dir(&modules).expect("a folder").count();
    assert_eq!(n_modules(), 1);
    drop(site);
}

#[test]
fn a_log_of_nothing_is_an_error() {
    let mut world = World::new();
    let site = world.running(&[(0, 1)]);
    let unit: UnitId = unit(7);
    let read = Down::ReadLog {
        request: 5,
        unit,
        offset: 0,
        max: u32::MAX,
    };
    world.controller.say(&read, &[]);
    let (request, _, error, bytes) = wait("an answer", || world.controller.heard().logs.pop());
    assert_eq!((request, bytes.len()), (5, 0));
    assert!(error.is_some_and(|error| error.contains("not at this site")));
    drop(site);
}

/// Nothing that happens to the agent takes long to show.
#[test]
fn a_configuration_is_in_force_soon() {
    let mut world = World::new();
    let site = world.running(&[(0, 1)]);
    let began = rt::now();
    world.controller.configure(config(2, &[(0, 1), (1, 1)]));
    world
        .controller
        .await_phases(2, &[(0, 1), (1, 1)], Phase::Running);
    // Far more than it takes even on a loaded machine, and less than any period.
    assert!(
        began.elapsed() < Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    drop(site);
}
