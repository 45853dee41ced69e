//! What the controller hears of the site's load.

use std::collections::BTreeMap;

use super::{World, wait};

#[test]
fn the_kernels_counters_and_the_drivers_numbers_come_with_the_site() {
    let mut world = World::new();
    let site = world.running(&[(0, 1)]);
    let names = [
        "site_cpu_share",
        "site_cpu_used",
        "site_cpu_waiting",
        "site_memory_used_bytes",
        "cell_iterations_total",
    ];
    // The simulated unit is this process, and this is what it does.
    let samples = wait("all of them", || {
        let heard = world.controller.heard();
        let latest: BTreeMap<_, _> = heard
            .samples
            .iter()
            .map(|s| (s.name.clone(), s.clone()))
            .collect();
        let is_busy = latest
            .get("site_cpu_used")
            .is_some_and(|sample| sample.value > 0.01);
        (is_busy && names.iter().all(|name| latest.contains_key(*name))).then_some(latest)
    });
    assert!(
        samples
            .values()
            .all(|sample| sample.labels["site"] == "edge")
    );
    assert_eq!(samples["cell_iterations_total"].labels["org"], "acme");
    assert!(samples["site_memory_used_bytes"].value > 1e6);
    assert!(samples["site_cpu_share"].value >= 1.0);
    drop(site);
}

/// Units that are asked for their numbers may be slow to answer; the machine is measured all the same.
#[test]
fn a_driver_that_does_not_answer_keeps_no_other_samples_waiting() {
    let mut world = World::new();
    world.driver.state().is_mute = true;
    let site = world.running(&[(0, 1)]);
    let count = |name: &str| {
        let heard = world.controller.heard();
        heard.samples.iter().filter(|s| s.name == name).count()
    };
    wait("the kernel's counters", || {
        (count("site_cpu_used") >= 3).then_some(())
    });
    assert_eq!(count("cell_iterations_total"), 0);
    world.driver.release();
    wait("the driver's numbers", || {
        (count("cell_iterations_total") >= 1).then_some(())
    });
    drop(site);
}
