//! A store that is one container in memory: what is proposed is durable at once. It can be made to stop.

use std::future::pending;
use std::sync::{Mutex, PoisonError};

use ids::Epoch;
use streams_core::container::Info;
use streams_core::names::Position;
use streams_core::op::{Append, Op, Outcome, Refused};
use streams_core::table::{Bounds, Page, Pages};
use streams_core::{Container, Limits, Recovery, SegmentName};
use streams_store::Error;
use tokio::sync::Notify;

use crate::controller::segments::Segments;

#[derive(Debug)]
pub(crate) struct Memory {
    state: Mutex<State>,
    has_stopped: Notify,
}

#[derive(Debug)]
struct State {
    container: Container,
    stop: Option<Stop>,
}

/// A crash, as seen by who has asked for something: there is no answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    /// So many operations are answered.
    pub(super) after: usize,
    /// The one behind them is done, and not answered.
    pub(super) does_last: bool,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let opened = Recovery::new().open(Limits::default(), Epoch(1), 0);
        let (mut container, opened) = opened.expect("it is the first");
        container.durable(Position(opened.seq.0));
        let stop = None;
        Self {
            state: Mutex::new(State { container, stop }),
            has_stopped: Notify::new(),
        }
    }

    pub(super) fn stop(&self, stop: Option<Stop>) {
        self.with(|state| state.stop = stop);
    }

    pub(super) async fn stopped(&self) {
        self.has_stopped.notified().await;
    }

    pub(super) fn n_segments(&self) -> usize {
        self.with(|state| state.container.usage().n_segments)
    }

    pub(super) fn find(&self, segment: &str) -> Option<Info> {
        let name = SegmentName::new(segment).expect("a name");
        self.with(|state| Some(state.container.info(&name).ok()?.value))
    }

    /// As a writer does it.
    pub(super) fn append(&self, segment: &str, bytes: &'static str) {
        let append = Append {
            segment: SegmentName::new(segment).expect("a name"),
            data: bytes.into(),
            attributes: Vec::new(),
            expected_offset: None,
        };
        let appended = self.with(|state| state.execute(&Op::Append(append)));
        appended.expect("it is written");
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn execute(&mut self, op: &Op) -> Result<Outcome, Error> {
        let proposal = self.container.propose(op, 0).map_err(error)?;
        self.container.durable(Position(proposal.seq.0));
        Ok(proposal.outcome)
    }

    /// `None`: no answer comes.
    fn answer(&mut self, op: &Op) -> Option<Result<Outcome, Error>> {
        match &mut self.stop {
            Some(Stop {
                after: 0,
                does_last,
            }) => {
                if std::mem::take(does_last) {
                    self.execute(op).ok();
                }
                return None;
            }
            Some(stop) => stop.after -= 1,
            None => {}
        }
        Some(self.execute(op))
    }
}

fn error(refused: Refused) -> Error {
    Error::Refused(refused.why)
}

#[tonic::async_trait]
impl Segments for Memory {
    async fn execute(&self, op: Op) -> Result<Outcome, Error> {
        // Others go first, as with a store that is elsewhere.
        tokio::task::yield_now().await;
        match self.with(|state| state.answer(&op)) {
            Some(answer) => answer,
            None => {
                self.has_stopped.notify_one();
                pending().await
            }
        }
    }

    async fn info(&self, segment: &SegmentName) -> Result<Info, Error> {
        self.with(|state| {
            let info = state.container.info(segment).map_err(error)?;
            Ok(info.value)
        })
    }

    async fn entries(
        &self,
        table: &SegmentName,
        bounds: &Bounds,
        page: Page,
    ) -> Result<Pages, Error> {
        // Less than is asked for: there are several pages even of a few rows.
        let page = Page {
            items_max: 3,
            ..page
        };
        self.with(|state| {
            let pages = state
                .container
                .entries(table, bounds, page)
                .map_err(error)?;
            Ok(pages.value)
        })
    }
}
