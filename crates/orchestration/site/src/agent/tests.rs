//! What the agent does with logs that nobody takes from it.

use std::path::Path;

use ids::Epoch;
use workload::link::{PAYLOAD_BYTES_MAX, Sample};
use workload::{Caps, Observed, Offers, Phase, UnitSpec};

use super::*;
use crate::core::reconcile::tests::spec;
use crate::share::Wanted;

/// One unit, with a log that has no end, and that takes no notice of how much was asked for.
#[derive(Debug)]
struct Endless;

impl Driver for Endless {
    fn kind(&self) -> &'static str {
        "cell"
    }
    fn caps(&self) -> Caps {
        Caps::default()
    }
    fn ensure(&self, _: &UnitSpec, _: &Offers) -> Result<(), DriverError> {
        Ok(())
    }
    fn stop(&self, _: &UnitId) -> Result<(), DriverError> {
        Ok(())
    }
    fn observe(&self) -> Vec<Observed> {
        vec![Observed {
            id: spec(0, 1).id,
            epoch: Epoch(1),
            is_home: true,
            phase: Phase::Running,
            reason: String::new(),
            offer: None,
            ranks: Vec::new(),
            n_moves: 0,
            moves: Vec::new(),
            restarts: 0,
            exit_code: None,
            log_bytes: u64::MAX,
        }]
    }
    fn pids(&self) -> Vec<u32> {
        Vec::new()
    }
    fn read_log(&self, _: &UnitId, at: u64, _: usize) -> Result<(u64, Vec<u8>), DriverError> {
        Ok((at, vec![b'x'; PAYLOAD_BYTES_MAX + 1]))
    }
    fn sample(&self) -> Vec<Sample> {
        Vec::new()
    }
}

fn agent(dir: &Path) -> Agent {
    let site: Name = "edge".parse().expect("a name");
    let metrics = crate::metrics::Metrics::new(&telemetry::Metrics::new());
    let (ledger, damages) = Ledger::open(dir);
    let driver: Arc<dyn Driver> = Arc::new(Endless);
    let mut state = State::begin(&ledger, damages);
    let units = driver.observe().into_iter();
    let observation = Observation {
        at: Duration::ZERO,
        units: units.map(|seen| (seen.id.clone(), seen)).collect(),
    };
    state.observed.insert("cell", observation);
    let poke = Arc::default();
    Agent {
        hub: Arc::new(Hub::new(metrics).expect("an eventfd")),
        clock: Clock::start(),
        drivers: [("cell", Driven { driver, poke })].into(),
        modules: Modules::open(dir.join("modules")).expect("room"),
        share: Arc::new(Share::take(&Wanted::All, &site, dir)),
        site,
        ledger,
        state,
    }
}

#[test]
fn what_the_kernel_does_not_count_is_named_as_long_as_that_is_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut agent = agent(dir.path());
    let mut check = |uncounted: Option<Option<&str>>, is_named: bool| {
        let inbox = Inbox {
            uncounted: uncounted.map(|why| why.map(str::to_owned)),
            ..Inbox::default()
        };
        agent.take(inbox, Duration::ZERO);
        let conditions = agent.conditions(Duration::ZERO);
        let mut kinds = conditions.iter().map(|condition| &condition.kind);
        assert_eq!(kinds.any(|kind| kind == "CpuNotMeasured"), is_named);
    };
    check(None, false);
    check(Some(Some("it does not count")), true);
    check(None, true);
    check(Some(None), false);
}

#[test]
fn logs_that_are_not_sent_are_bounded_and_end_with_their_session() {
    let dir = tempfile::tempdir().expect("a folder");
    let agent = agent(dir.path());
    let unit = |replica: u32| spec(replica, 1).id;
    let ask = |request: u64, unit: UnitId| {
        agent.read_log(LogRead {
            request,
            unit,
            offset: request,
            max: PAYLOAD_BYTES_MAX,
            session: 0,
        });
    };
    let await_pieces = |n_pieces: usize| {
        let began = rt::now();
        while agent.hub.outbox().logs.len() < n_pieces {
            assert!(began.elapsed() < Duration::from_secs(60), "in time");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    };
    for request in 0..LOG_READS_MAX as u64 {
        ask(request, unit(0));
    }
    await_pieces(LOG_READS_MAX);
    // All have been read, and none was sent: others wait for that, and whoever does not listen is not told.
    for request in 100..200 {
        ask(request, unit(u32::from(request % 2 == 1)));
    }
    let pieces: Vec<_> = agent.hub.outbox().logs.drain(..).collect();
    assert_eq!(pieces.len(), 3 * LOG_READS_MAX);
    let read = pieces.iter().filter_map(|piece| piece.result.as_ref().ok());
    let lens: Vec<_> = read.map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(lens, [PAYLOAD_BYTES_MAX; LOG_READS_MAX]);
    drop(pieces);
    ask(200, unit(0));
    await_pieces(1);
    // The link is lost. What comes late belongs to nobody.
    let late = Arc::clone(&agent.state.log_places);
    agent.hub.end_session();
    assert_eq!(agent.hub.outbox().logs.len(), 0);
    agent.hub.answer(LogPiece {
        request: 1,
        session: 0,
        result: Ok((0, Vec::new())),
        place: Some(late),
    });
    assert_eq!(agent.hub.outbox().logs.len(), 0);
    assert_eq!(Arc::strong_count(&agent.state.log_places), 1, "all free");
}
