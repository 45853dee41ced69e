//! Pushes each connected site its configuration, if the site has an older one. The site decides whether it takes it.

use workload::link::Down;

use crate::controller::Inner;

pub(super) fn tick(inner: &Inner) {
    for connection in inner.connections.all() {
        let config = {
            let state = inner.state();
            let wanted = state.blueprint.site_generation(connection.site.as_str());
            let is_ahead = state
                .sites
                .get(&connection.site)
                .is_none_or(|site| site.facts.ahead.is_some());
            if is_ahead || !connection.is_compared() || !connection.wants(wanted) {
                continue;
            }
            state.blueprint.site_config(connection.site.as_str())
        };
        let generation = config.generation;
        if connection.configure(generation, &Down::Configure { config }) {
            inner.metrics.configurations.inc();
        }
    }
}
