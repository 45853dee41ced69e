//! The planner at a size, for `cloudskin bench` and the tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use ids::{Labels, Name, Selector};
use workload::{CellSpec, Kind, Limits};

use super::blueprint::Blueprint;
use super::inventory::{Facts, Now, Report, Site, Sites};
use super::plan::{self, Input};
use super::spec::{BlockPolicy, ServicePolicy};

/// Sites, all reporting, and services of one unit each, half of which wish for a label of their own group.
#[derive(Debug)]
pub struct PlanBench {
    sites: Sites,
    services: Vec<Arc<ServicePolicy>>,
}

impl PlanBench {
    #[must_use]
    pub fn new(n_sites: usize, n_services: usize) -> Self {
        let site = |idx: usize| {
            let labels = [("tier", idx % 2), ("zone", idx % 50), ("rack", idx % 499)];
            let labels = labels.map(|(key, n)| (key.to_owned(), n.to_string()));
            (
                name("site", idx),
                Arc::new(reporting(labels.into(), 1 + idx % 7)),
            )
        };
        let service = |idx: usize| {
            let wish = match idx % 4 {
                0 => vec![("tier", idx / 4 % 2), ("zone", idx / 4 % 50)],
                1 => vec![("rack", idx % 499)],
                2 => vec![("tier", 0)],
                _ => vec![],
            };
            let wish = wish
                .into_iter()
                .map(|(key, n)| (key.to_owned(), n.to_string()));
            Arc::new(one_block(&name("service", idx), wish.collect()))
        };
        let mut services: Vec<_> = (0..n_services).map(service).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            sites: (0..n_sites).map(site).collect(),
            services,
        }
    }

    /// Plans everything from nothing, and says how many units were placed.
    #[must_use]
    pub fn plan(&self) -> usize {
        let parent = Blueprint::default();
        let plan = plan::plan(self.input(&parent));
        parent.then(&plan.changes).units().len()
    }

    /// What planning costs at least without an index: looks at every site for every block, and sums the processors of those that match up.
    #[must_use]
    pub fn scan(&self) -> f64 {
        let mut cpu_share = 0.0;
        for block in self.services.iter().flat_map(|service| &service.blocks) {
            let labels = |site: &&Arc<Site>| block.selector.matches(&site.facts.labels);
            let matching = self.sites.values().filter(labels);
            cpu_share += matching.map(|site| site.facts.cpu_share).sum::<f64>();
        }
        cpu_share
    }

    pub(crate) fn input<'a>(&'a self, parent: &'a Blueprint) -> Input<'a> {
        Input {
            services: &self.services,
            sites: &self.sites,
            parent,
            migrations: &[],
            now: Now::default(),
        }
    }
}

fn name(kind: &str, idx: usize) -> Name {
    format!("{kind}-{idx}").parse().expect("it is a name")
}

pub(crate) fn reporting(labels: Labels, cpu_share: usize) -> Site {
    Site {
        facts: Facts {
            joined_ms: 0,
            labels,
            cpu_share: f64::from(u32::try_from(cpu_share).unwrap_or(u32::MAX)),
            cpu_share_by: "none".to_owned(),
            ahead: None,
            ahead_digest: None,
        },
        report: Some(Arc::new(Report {
            at_ms: 0,
            generation: ids::Generation(0),
            refused: None,
            conditions: Vec::new(),
            units: BTreeMap::new(),
        })),
    }
}

pub(crate) fn one_block(service: &Name, match_labels: Labels) -> ServicePolicy {
    let cell = CellSpec {
        module: "0".repeat(64).parse().expect("64 digits"),
        ranks: 4,
        args: Vec::new(),
        env: BTreeMap::new(),
        mounts: Vec::new(),
        iteration: None,
        checkpoint_every_ms: None,
        limits: Limits {
            memory_bytes_max: 1 << 30,
            log_bytes_max: 64 << 20,
        },
    };
    ServicePolicy {
        org: name("org", 0),
        name: service.clone(),
        blocks: vec![BlockPolicy {
            name: name("block", 0),
            replicas: 1,
            selector: Selector { match_labels },
            migrate_to: None,
            kind: Kind::Cell(cell),
        }],
    }
}
