//! What every [`Driver`] must pass.

use std::time::Duration;

use ids::{Epoch, UnitId};

use crate::{Driver, DriverError, Observed, Offers, Phase, UnitSpec};

/// A driver to be checked.
pub struct Subject<'a> {
    /// Makes a driver over the same state each time, as an agent does that was killed and is started again.
    pub start: &'a dyn Fn() -> Box<dyn Driver>,
    /// A unit at home and only at this site, that runs until it is stopped.
    pub endless: UnitSpec,
    /// How long the driver may take for what goes on behind a call.
    pub patience: Duration,
}

impl std::fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").finish_non_exhaustive()
    }
}

/// Checks the contract of [`Driver`].
///
/// # Panics
/// When the driver breaks it.
pub fn check(subject: &Subject<'_>) {
    let spec = &subject.endless;
    let unit = &spec.id;
    let driver = (subject.start)();
    knows_nothing(&*driver, unit);

    driver.ensure(spec, &Offers::new()).expect("it starts");
    let first = subject.await_running(&*driver, spec.epoch);
    assert!(first.is_home, "the unit is at home here");
    driver
        .ensure(spec, &Offers::new())
        .expect("it runs already");
    subject.await_running(&*driver, spec.epoch);
    let pids = sorted_pids(&*driver);
    assert!(!pids.is_empty(), "a running unit has processes");
    driver
        .read_log(unit, 0, 1)
        .expect("a running unit has a log");

    // As if the agent had been killed: nothing of the first driver has a chance to tidy up.
    std::mem::forget(driver);
    let driver = (subject.start)();
    let found = subject.await_running(&*driver, spec.epoch);
    assert_eq!(found.restarts, first.restarts, "what runs is not restarted");
    driver
        .ensure(spec, &Offers::new())
        .expect("it runs already");
    subject.await_running(&*driver, spec.epoch);
    assert_eq!(sorted_pids(&*driver), pids, "no second one is started");

    let newer = UnitSpec {
        epoch: spec.epoch.next(),
        ..spec.clone()
    };
    driver
        .ensure(&newer, &Offers::new())
        .expect("it begins anew");
    subject.await_running(&*driver, newer.epoch);
    let refused = driver.ensure(spec, &Offers::new());
    assert!(
        matches!(&refused, Err(DriverError::Fenced { asked, known, .. })
            if *asked == spec.epoch && *known == newer.epoch),
        "an older epoch is refused: {refused:?}"
    );
    let seen = observed(&*driver, unit).map(|seen| (seen.epoch, seen.phase));
    let expected = Some((newer.epoch, Phase::Running));
    assert_eq!(seen, expected, "a refused call changes nothing");

    subject.stop(&*driver, unit);
    knows_nothing(&*driver, unit);
    std::mem::forget(driver);
    knows_nothing(&*(subject.start)(), unit);
}

fn knows_nothing(driver: &dyn Driver, unit: &UnitId) {
    driver
        .stop(unit)
        .expect("what is not known is stopped already");
    assert!(observed(driver, unit).is_none(), "{unit} is not known");
    assert_eq!(driver.pids(), [0; 0], "no processes without units");
    driver.read_log(unit, 0, 1).expect_err("it has no log");
}

fn observed(driver: &dyn Driver, unit: &UnitId) -> Option<Observed> {
    let mut found: Vec<_> = driver.observe();
    found.retain(|observed| observed.id == *unit);
    assert!(found.len() <= 1, "a unit is observed once: {found:?}");
    found.pop()
}

fn sorted_pids(driver: &dyn Driver) -> Vec<u32> {
    let mut pids = driver.pids();
    pids.sort_unstable();
    pids
}

impl Subject<'_> {
    fn await_running(&self, driver: &dyn Driver, epoch: Epoch) -> Observed {
        self.wait("it runs", || {
            observed(driver, &self.endless.id)
                .filter(|seen| seen.epoch == epoch && seen.phase == Phase::Running)
        })
    }

    /// A stop may have to be asked for again, until it is done.
    fn stop(&self, driver: &dyn Driver, unit: &UnitId) {
        self.wait("it stops", || {
            let stopped = driver.stop(unit);
            (stopped.is_ok() && observed(driver, unit).is_none() && driver.pids().is_empty())
                .then_some(())
        });
    }

    fn wait<T>(&self, what: &str, mut is_so: impl FnMut() -> Option<T>) -> T {
        let began = rt::now();
        loop {
            if let Some(value) = is_so() {
                return value;
            }
            assert!(began.elapsed() < self.patience, "in time, {what}");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}
