//! Tells each part of a unit what the other parts of the same incarnation offer, whenever that changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use ids::Name;
use workload::Offers;

use crate::controller::Inner;

pub(super) fn tick(inner: &Inner) {
    let dirty = std::mem::take(&mut inner.state().dirty.offers);
    for id in dirty {
        let (epoch, sites, offers) = {
            let state = inner.state();
            let Some(planned) = state.blueprint.units().get(&id) else {
                continue;
            };
            let epoch = planned.spec.epoch;
            let sites: BTreeSet<Name> = planned.sites().cloned().collect();
            let offer = |name: &Name| {
                let report = state.sites.get(name)?.report.as_ref()?;
                let part = report.units.get(&id).filter(|part| part.epoch == epoch)?;
                Some((name.clone(), part.offer.clone()?))
            };
            let offers: Offers = sites.iter().filter_map(offer).collect();
            (epoch, sites, offers)
        };
        for site in &sites {
            let Some(connection) = inner.connections.get(site) else {
                continue;
            };
            let others = offers.iter().filter(|(from, _)| *from != site);
            let offers: Offers = others
                .map(|(from, offer)| (from.clone(), offer.clone()))
                .collect();
            connection.offer(&id, epoch, offers);
        }
    }
    for connection in inner.connections.all() {
        let blueprint = Arc::clone(&inner.state().blueprint);
        let site = connection.site.as_str();
        connection.forget_offers(|id| blueprint.is_at(id, site));
    }
}
