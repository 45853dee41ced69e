//! Gives the control plane its rows, its clock and its hands: what it plans is carried out here, and told back to it.
//!
//! ```text
//!   request ─▶ Control ─▶ plans ─▶ (a bounded number under way: Rows::write, calls::make) ─▶ done ─▶ answers
//!     tick ──────┘  ▲                                                                      │
//!                   └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! One task does all of it, beside one that sweeps. When it ends, whoever waits is told so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rt::Task;
use streams_control::{
    Action, Control, Effects, Limits, Outcome, Plan, Refusal, Request, Response, SYSTEM_SCOPE,
    StreamName, Ticket, Token,
};
use tokio::sync::{Notify, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::Error;
use super::calls::{self, wall_ms};
use super::rows::Rows;
use super::segments::Segments;

/// How often the control plane is told the time: more often than it believes the clock to go.
const TICK: Duration = Duration::from_millis(500);

/// How often what stands for rows that went is swept away.
const SWEEP: Duration = Duration::from_secs(5);

/// Plans that are carried out at once.
const PLANS_MAX: usize = 64;

/// The tasks end when it is dropped.
#[derive(Debug)]
pub(super) struct Driver {
    desk: Arc<Desk>,
    tasks: [Task; 2],
}

/// Where requests and questions are put.
#[derive(Debug)]
pub(super) struct Desk {
    segments: Arc<dyn Segments>,
    rows: Rows,
    waiting_max: usize,
    state: Mutex<State>,
    /// There are more plans.
    planned: Notify,
}

type Answer = Result<Response, Refusal>;

#[derive(Debug)]
struct State {
    control: Control,
    waiting: BTreeMap<Ticket, oneshot::Sender<Answer>>,
    /// At most one of each stream and scope.
    plans: VecDeque<Plan>,
    has_ended: bool,
}

impl Driver {
    /// What was begun before goes on at once.
    pub(super) async fn open(
        segments: Arc<dyn Segments>,
        limits: Limits,
        waiting_max: usize,
    ) -> Result<Self, Error> {
        let rows = Rows::new(Arc::clone(&segments));
        let loaded = rows.load().await?;
        tracing::info!(
            n_rows = loaded.len(),
            "the rows of the controller are loaded"
        );
        let mut control = Control::load(limits, loaded, wall_ms())?;
        let plans = control.resume().into();
        let state = State {
            control,
            waiting: BTreeMap::new(),
            plans,
            has_ended: false,
        };
        let desk = Arc::new(Desk {
            segments,
            rows,
            waiting_max,
            state: Mutex::new(state),
            planned: Notify::new(),
        });
        let tasks = [
            rt::spawn("controller", carry_out_all(Arc::clone(&desk))),
            rt::spawn("controller rows", sweep(Arc::clone(&desk))),
        ];
        Ok(Self { desk, tasks })
    }

    pub(super) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }

    /// Nothing is under way here any more.
    pub(super) async fn close(self) {
        for task in self.tasks {
            task.cancel().await;
        }
    }
}

impl Desk {
    pub(super) async fn request(&self, request: Request) -> Answer {
        if stream_of(&request).is_some_and(|stream| stream.scope.as_str() == SYSTEM_SCOPE) {
            // Its segments have the rows of this, and the lists of chunks.
            return Err(Refusal::Invalid(
                "the scope `_system` is the platform's own",
            ));
        }
        let answer = {
            let mut state = self.state();
            if state.has_ended {
                return Err(Refusal::Unavailable);
            }
            if state.waiting.len() >= self.waiting_max {
                return Err(Refusal::Limit {
                    what: "requests that wait",
                    max: self.waiting_max,
                });
            }
            let (ticket, effects) = state.control.request(request, wall_ms());
            let (tell, answer) = oneshot::channel();
            state.waiting.insert(ticket, tell);
            state.take(effects);
            answer
        };
        self.planned.notify_one();
        answer.await.unwrap_or(Err(Refusal::Unavailable))
    }

    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&Control) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let state = self.state();
        if !state.is_served() {
            return Err(Refusal::Unavailable);
        }
        question(&state.control)
    }

    /// It answers, and nobody else has taken over.
    pub(super) fn is_served(&self) -> bool {
        self.state().is_served()
    }

    fn tick(&self) {
        let mut state = self.state();
        if state.is_served() {
            let effects = state.control.tick(wall_ms());
            state.take(effects);
        }
    }

    fn done(&self, token: Token, outcome: Outcome) {
        let mut state = self.state();
        if state.is_served() {
            let effects = state.control.done(token, outcome, wall_ms());
            state.take(effects);
        }
    }

    fn plans(&self, n_plans: usize) -> Vec<Plan> {
        let mut state = self.state();
        let n_plans = n_plans.min(state.plans.len());
        state.plans.drain(..n_plans).collect()
    }

    async fn carry_out(&self, plan: Plan) -> (Token, Outcome) {
        let outcome = match plan.action {
            Action::Write(changes) => calls::written(self.rows.write(changes).await),
            Action::Call(calls) => calls::make(&*self.segments, calls).await,
        };
        (plan.token, outcome)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            // Whoever has panicked may have left it in the middle of something.
            let mut state = poisoned.into_inner();
            state.has_ended = true;
            state
        })
    }
}

impl State {
    fn take(&mut self, effects: Effects) {
        for (ticket, answer) in effects.answers {
            let tell = self.waiting.remove(&ticket);
            if tell.is_some_and(|tell| tell.send(answer).is_err()) {
                tracing::debug!("nobody waits for the answer any more");
            }
        }
        self.plans.extend(effects.plans);
        if self.control.is_fenced() {
            self.plans.clear();
        }
    }

    fn is_served(&self) -> bool {
        !self.has_ended && !self.control.is_fenced()
    }
}

/// Until it is dropped.
async fn carry_out_all(desk: Arc<Desk>) {
    let _end = End(&desk);
    let mut under_way = FuturesUnordered::new();
    let mut clock = interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        for plan in desk.plans(PLANS_MAX - under_way.len()) {
            under_way.push(desk.carry_out(plan));
        }
        tokio::select! {
            _ = clock.tick() => desk.tick(),
            () = desk.planned.notified() => {}
            Some((token, outcome)) = under_way.next() => desk.done(token, outcome),
        }
    }
}

/// Until somebody else has taken over.
async fn sweep(desk: Arc<Desk>) {
    let mut clock = interval(SWEEP);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while desk.is_served() {
        clock.tick().await;
        if let Err(error) = desk.rows.sweep().await {
            tracing::warn!(%error, "rows that went leave something behind for now");
        }
    }
}

/// Nothing is carried out any more, for whatever reason.
struct End<'a>(&'a Desk);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.has_ended = true;
        state.waiting.clear();
    }
}

/// Which stream it would change.
fn stream_of(request: &Request) -> Option<&StreamName> {
    match request {
        Request::CreateScope(_) | Request::DeleteScope(_) | Request::DeleteScopeRecursive(_) => {
            None
        }
        Request::CreateStream(stream, _)
        | Request::UpdateStream(stream, _)
        | Request::TruncateStream(stream, _)
        | Request::SealStream(stream)
        | Request::DeleteStream(stream)
        | Request::AbortTxn(stream, _)
        | Request::CreateGroup(stream, _)
        | Request::UpdateGroup(stream, _)
        | Request::DeleteGroup(stream, _)
        | Request::Scale { stream, .. }
        | Request::CreateTxn { stream, .. }
        | Request::PingTxn { stream, .. }
        | Request::CommitTxn { stream, .. } => Some(stream),
    }
}
