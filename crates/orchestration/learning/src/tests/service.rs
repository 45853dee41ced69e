//! The service with its threads, and a sensor and an actuator that answer at once, or never.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ids::Name;

use super::world::{name, target_id};
use crate::config::Config;
use crate::core::policy::Policy;
use crate::decision::{Decision, Mode, Target};
use crate::error::Error;
use crate::seam::{
    ActError, Actuator, BlockSample, MoveStatus, Observation, Point, Sensor, Series, SiteSample,
    TargetId, Time,
};
use crate::service::Learning;

/// A block at the edge that takes a second for each iteration, and a cloud that is free.
#[derive(Debug, Default)]
struct Slow {
    samples: AtomicU64,
}

impl Sensor for Slow {
    fn sample(&self, targets: &[TargetId]) -> Observation {
        self.samples.fetch_add(1, Ordering::Relaxed);
        let at = Time::of(rt::wall());
        let point = |value| Some(Point { at, value });
        let site = |site: &str, used, waiting| SiteSample {
            site: name(site),
            tier: None,
            share: point(1.0),
            used: point(used),
            waiting: point(waiting),
        };
        let block = |target: &TargetId| BlockSample {
            target: target.clone(),
            site: Some(name("edge")),
            candidates: vec![name("edge"), name("cloud")],
            cores_max: 1.0,
            series: vec![Series {
                site: name("edge"),
                replica: 0,
                key: String::new(),
                points: vec![Point { at, value: 1.0 }],
            }],
            moves: Vec::new(),
        };
        Observation {
            sites: vec![site("edge", 1.0, 9.0), site("cloud", 0.0, 0.0)],
            blocks: targets.iter().map(block).collect(),
        }
    }
}

/// Accepts, after the test has let it.
#[derive(Debug)]
struct Gate {
    called: SyncSender<String>,
    open: Mutex<Receiver<()>>,
}

impl Actuator for Gate {
    fn migrate(&self, key: &str, _target: &TargetId, to: &Name) -> Result<(), ActError> {
        assert_eq!(*to, name("cloud"));
        self.called.send(key.to_owned()).expect("the test listens");
        let opened = self.open.lock().expect("one at a time").recv();
        opened.map_err(|_| ActError::Unclear("the test is over".to_owned()))
    }

    fn observe(&self, _key: &str) -> MoveStatus {
        MoveStatus::Done
    }
}

/// The service, its sensor, the keys that were called with, and what lets a call return.
type Started = (Learning, Arc<Slow>, Receiver<String>, SyncSender<()>);

fn start(dir: &std::path::Path) -> Result<Started, Error> {
    let (called, calls) = sync_channel(8);
    let (open, gate) = sync_channel(8);
    let config = Config {
        period: Duration::from_millis(1),
        ..Config::default()
    };
    let actuator = Gate {
        called,
        open: Mutex::new(gate),
    };
    let sensor = Arc::new(Slow::default());
    let metrics = telemetry::Metrics::new();
    let learning = Learning::start(
        config,
        dir,
        &metrics,
        Arc::clone(&sensor) as _,
        Arc::new(actuator),
    )?;
    learning.apply(Target {
        id: target_id(),
        kpi_max: None,
        policy: Policy::parse(
            "apiRequest(\"/now\") IF current_qos > 200ms THEN Nothing_to_do \
             IF current_qos > 200ms THEN Call(NearbyOneActuator : migrate_service)",
        )
        .expect("a policy"),
        mode: Mode::Active,
        like: String::new(),
    })?;
    Ok((learning, sensor, calls, open))
}

/// The decision with this id, once it has come to what is wanted.
fn wait_for(learning: &Learning, id: &str, wanted: &str) -> Decision {
    loop {
        let decisions = learning.explain(&target_id());
        if let Some(decision) = decisions.into_iter().find(|d| d.id == id)
            && decision.outcome.to_string() == wanted
        {
            return decision;
        }
        std::thread::yield_now();
    }
}

#[test]
fn it_samples_decides_acts_and_remembers() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (learning, sensor, calls, open) = start(dir.path()).expect("it starts");
    assert_eq!(learning.targets(), [target_id()]);
    let key = calls.recv().expect("it moves");
    // The actuator hangs; sampling and deciding go on.
    let before = sensor.samples.load(Ordering::Relaxed);
    while sensor.samples.load(Ordering::Relaxed) < before + 10 {
        std::thread::yield_now();
    }
    wait_for(&learning, &key, "pending");
    let now = learning
        .request(&target_id(), "/now")
        .expect("there is such a rule");
    let actions: Vec<_> = now.iter().map(|now| now.action.as_str()).collect();
    assert_eq!(actions, ["Nothing_to_do"]);
    open.send(()).expect("it waits");
    wait_for(&learning, &key, "done");
    drop((learning, open));
    let (learning, _, _, _open) = start(dir.path()).expect("it starts again");
    assert_eq!(
        wait_for(&learning, &key, "done").action,
        "migrate_service to cloud"
    );
    learning.remove(&target_id());
    assert!(learning.targets().is_empty());
}

#[test]
fn a_damaged_ledger_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (learning, _, calls, open) = start(dir.path()).expect("it starts");
    let key = calls.recv().expect("it moves");
    open.send(()).expect("it waits");
    wait_for(&learning, &key, "done");
    drop(learning);
    let path = dir.path().join("decisions.ledger");
    let mut bytes = std::fs::read(&path).expect("it is there");
    bytes[60] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let error = start(dir.path()).map(drop).expect_err("damaged");
    assert!(matches!(error, Error::Corrupt { at: 12, .. }), "{error}");
    assert!(error.to_string().contains("move it away"), "{error}");
}
