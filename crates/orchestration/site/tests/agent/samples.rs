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
