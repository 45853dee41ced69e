//! What the site keeps: generations, booting without a controller, a full disk.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use ids::Generation;
use site::Site;
use workload::Phase;
use workload::link::Down;

use super::{World, config, has_condition, unit, wait};

#[test]
fn an_older_generation_is_refused_and_that_is_said() {
    let mut world = World::new();
    let site = world.running(&[(0, 1)]);
    world.controller.configure(config(5, &[(0, 1), (1, 1)]));
    world
        .controller
        .await_phases(5, &[(0, 1), (1, 1)], Phase::Running);
    for (older, why) in [(4, "older than 5"), (5, "another generation 5")] {
        let config = config(older, &[]);
        world.controller.say(&Down::Configure { config }, &[]);
        let inventory = world
            .controller
            .await_inventory("it is refused", |inventory| {
                inventory
                    .refused
                    .as_ref()
                    .is_some_and(|said| said.contains(why))
            });
        assert_eq!(inventory.generation, Generation(5));
    }
    assert_eq!(world.driver.state().units.len(), 2, "what runs goes on");
    drop(site);
    // It is not forgotten either.
    let site = world.start();
    wait("it says what it has", || {
        (world.controller.heard().hellos.last() == Some(&Generation(5))).then_some(())
    });
    world.controller.configure(config(6, &[(0, 1)]));
    let inventory = world
        .controller
        .await_inventory("the next one is taken", |inventory| {
            inventory.generation == Generation(6)
        });
    assert_eq!(inventory.refused, None);
    drop(site);
}

#[test]
fn a_cold_site_starts_its_units_without_a_controller() {
    let mut world = World::new();
    drop(world.running(&[(0, 1), (1, 1)]));
    world.controller.be_deaf(true);
    // The machine was off.
    world.driver.state().units.clear();
    let began = rt::now();
    let site = world.start();
    wait("both run", || {
        (world.driver.state().units.len() == 2).then_some(())
    });
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    wait("it knows that it has no link", || {
        let inventory = site.inventory();
        let runs = inventory
            .units
            .iter()
            .filter(|seen| seen.phase == Phase::Running);
        (runs.count() == 2 && has_condition(&inventory, "LinkLost")).then_some(())
    });
    drop(site);
}

/// With both copies gone nobody knows what is to run: then nothing is stopped.
#[test]
fn a_site_that_has_lost_its_ledger_stops_nothing() {
    let mut world = World::new();
    drop(world.running(&[(0, 1)]));
    for idx in 0..2 {
        fs::write(world.dir().join(format!("ledger-{idx}.json")), "x").expect("room");
    }
    world.controller.be_deaf(true);
    let site = world.start();
    wait("it says so, and what runs", || {
        let inventory = site.inventory();
        let is_damaged = has_condition(&inventory, "LedgerDamaged");
        (is_damaged && inventory.units.len() == 1).then_some(())
    });
    assert!(world.driver.state().units.contains_key(&unit(0)));
    world.controller.be_deaf(false);
    let inventory = world.controller.await_inventory("it heals", |inventory| {
        inventory.generation == Generation(1) && !has_condition(inventory, "LedgerDamaged")
    });
    assert_eq!(inventory.units[0].phase, Phase::Running);
    assert_eq!(world.driver.state().log.len(), 1, "nothing was restarted");
    drop(site);
}

/// Damages the copy of the ledger that has this generation, and cuts the link. What the controller has heard is forgotten.
fn damage(world: &World, generation: u64) {
    world.controller.be_deaf(true);
    world.controller.heard().inventory = None;
    let mut copies = (0..2).map(|idx| world.dir().join(format!("ledger-{idx}.json")));
    let has = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).expect("a copy");
        text.contains(&format!("\"generation\":{generation},"))
    };
    fs::write(copies.find(has).expect("it is there"), "x").expect("room");
}

fn await_damage(site: &Site, n_units: usize) {
    wait("it says so, and what runs", || {
        let inventory = site.inventory();
        let is_damaged = has_condition(&inventory, "LedgerDamaged");
        (is_damaged && inventory.units.len() == n_units).then_some(())
    });
}

/// What the older copy says was true once: units that are new since then go on, and those that were removed stay away.
#[test]
fn a_site_that_has_lost_its_newest_copy_waits_for_its_controller() {
    let mut world = World::new();
    let site = world.running(&[(0, 1)]);
    world.controller.configure(config(2, &[(1, 1)]));
    world.controller.await_phases(2, &[(1, 1)], Phase::Running);
    drop(site);
    let log = world.driver.state().log.clone();
    damage(&world, 2);
    let site = world.start();
    await_damage(&site, 1);
    assert_eq!(
        site.inventory().generation,
        Generation(0),
        "none is in force"
    );
    world.controller.be_deaf(false);
    world.controller.await_phases(2, &[(1, 1)], Phase::Running);
    let inventory = world.controller.await_news();
    assert!(!has_condition(&inventory, "LedgerDamaged"));
    assert_eq!(world.driver.state().log, log, "nothing was done");
    drop(site);
}

/// If the older copy is damaged, the site knows what to run, but does not know that it knows; its controller says the same again.
#[test]
fn a_site_that_has_lost_its_older_copy_is_confirmed_and_sure_again() {
    let mut world = World::new();
    let site = world.running(&[(0, 1)]);
    world.controller.configure(config(2, &[(1, 1)]));
    world.controller.await_phases(2, &[(1, 1)], Phase::Running);
    drop(site);
    damage(&world, 1);
    // The machine was off.
    world.driver.state().units.clear();
    let log = world.driver.state().log.clone();
    let site = world.start();
    await_damage(&site, 0);
    assert_eq!(world.driver.state().log, log, "nothing was started");
    world.controller.be_deaf(false);
    world.controller.await_phases(2, &[(1, 1)], Phase::Running);
    drop(site);
    // Both copies are whole again, and enough.
    world.controller.be_deaf(true);
    world.driver.state().units.clear();
    let site = world.start();
    wait("it runs", || {
        (world.driver.state().units.len() == 1).then_some(())
    });
    assert!(!has_condition(&site.inventory(), "LedgerDamaged"));
    drop(site);
}

/// The kernel itself says that there is no room: the files that the ledger writes are links to /dev/full.
#[test]
fn a_full_disk_is_named_keeps_what_runs_and_heals() {
    let mut world = World::new();
    let site = world.running(&[(0, 1)]);
    let partials = [0, 1].map(|idx| world.dir().join(format!("ledger-{idx}.partial")));
    for partial in &partials {
        symlink("/dev/full", partial).expect("a link");
    }
    world.controller.configure(config(2, &[(1, 1)]));
    let inventory = world
        .controller
        .await_inventory("it is named", |inventory| {
            has_condition(inventory, "DiskFull") && inventory.refused.is_some()
        });
    assert_eq!(
        inventory.generation,
        Generation(1),
        "what is not durable is not in force"
    );
    let inventory = world.controller.await_news();
    assert_eq!(inventory.generation, Generation(1));
    assert!(has_condition(&inventory, "DiskFull"));
    assert_eq!(
        world.driver.state().log.len(),
        1,
        "nothing was started or stopped"
    );
    for partial in &partials {
        fs::remove_file(partial).expect("it is there");
    }
    world.controller.await_phases(2, &[(1, 1)], Phase::Running);
    let inventory = world.controller.await_news();
    assert_eq!(
        (inventory.refused, inventory.conditions),
        (None, Vec::new())
    );
    drop(site);
}
