//! Who goes when. What changes the same stream, or the same scope, waits in one lane; lanes go on by themselves.
//!
//! A lane has a stack of jobs, of which the top one is worked on: a stream that is to be sealed has its transactions ended first. What a job
//! does next is decided from the rows and from how far it is (`work`), and nothing changes but when what it wrote is known to be written.
//!
//! ```text
//!   request ─▶ queue ─▶ job ──next──▶ Write / Call ──▶ plan ──▶ done: rows are put, one step further ─┐
//!                        ▲  │  ▲                                                                      │
//!              row says  │  │  └──────────────────────────────────────────────────────────────────────┘
//!              so (load) ┘  └─▶ Done / Refuse ─▶ answer; the next of the row, the queue, or nobody
//! ```

use std::collections::{BTreeSet, VecDeque};

use crate::error::Refusal;
use crate::names::{Name, StreamName, TxnId};
use crate::rows::{Key, Row, State, TxnState};
use crate::state::Control;
use crate::step::{Action, Call, Change, Effects, Outcome, Plan, Request, Response, Ticket, Token};
use crate::work::{Job, Next, Work};

/// A stream and that of its watermarks share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LaneKey {
    Scope(Name),
    Stream(StreamName),
}

#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) jobs: Vec<Job>,
    queue: VecDeque<Job>,
    plan: Option<InFlight>,
}

#[derive(Debug)]
struct InFlight {
    token: Token,
    /// Empty if it is calls.
    rows: Vec<(Key, Option<Row>)>,
}

impl Lane {
    pub(crate) fn is_doing(&self, is_it: impl Fn(&Work) -> bool) -> bool {
        self.jobs
            .iter()
            .chain(&self.queue)
            .any(|job| is_it(&job.work))
    }
}

impl Control {
    /// Begins what is asked for. The answer comes with these effects, or with those of some plan. Time is that of the clock on the wall, since 1970.
    pub fn request(&mut self, request: Request, now_ms: u64) -> (Ticket, Effects) {
        self.clock.advance(now_ms, &self.limits);
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let mut effects = Effects::default();
        if let Some(answer) = self.at_once(&request) {
            effects.answers.push((ticket, answer));
            return (ticket, effects);
        }
        let work = Work::from(request);
        let key = work.lane();
        let lane = self.lanes.entry(key.clone()).or_default();
        let max = self.limits.queue_max;
        if lane.queue.len() < max {
            lane.queue.push_back(Job::new(work, Some(ticket)));
        } else {
            let what = "requests that wait for one stream";
            let refusal = Refusal::Limit { what, max };
            effects.answers.push((ticket, Err(refusal)));
        }
        self.run(&key, &mut effects);
        self.run_woken(&mut effects);
        (ticket, effects)
    }

    /// What need not wait for its turn.
    fn at_once(&mut self, request: &Request) -> Option<Result<Response, Refusal>> {
        match request {
            _ if self.is_fenced => Some(Err(Refusal::Fenced)),
            Request::PingTxn {
                stream,
                txn,
                lease_ms,
            } => self.ping(stream, *txn, *lease_ms),
            _ => None,
        }
    }

    /// What became of a plan of this one, and so what is next. To be told once; those of earlier owners, and of a fenced one, are forgotten.
    ///
    /// # Panics
    /// The outcome is that of another plan.
    pub fn done(&mut self, token: Token, outcome: Outcome, now_ms: u64) -> Effects {
        self.clock.advance(now_ms, &self.limits);
        let mut effects = Effects::default();
        if self.is_fenced {
            return effects;
        }
        let Some(key) = self.in_flight.remove(&token) else {
            return effects;
        };
        let lane = self
            .lanes
            .get_mut(&key)
            .expect("a lane with a plan is kept");
        let plan = lane.plan.take().expect("it is that one");
        assert_eq!(plan.token, token, "a lane has one plan");
        match outcome {
            Outcome::Written(versions) => {
                assert_eq!(versions.len(), plan.rows.len(), "a version for each change");
                for ((row_key, row), version) in plan.rows.into_iter().zip(versions) {
                    match row {
                        Some(row) => {
                            let is_put = self.put(&row_key, row);
                            is_put.expect("rows that are written belong together");
                            self.versions.insert(row_key, version);
                        }
                        None => {
                            self.remove(&row_key);
                            self.versions.remove(&row_key);
                        }
                    }
                }
                self.go_on(&key, Vec::new());
            }
            Outcome::Called(replies) => {
                assert!(plan.rows.is_empty(), "rows were to be written");
                self.go_on(&key, replies);
            }
            Outcome::Failed => {
                self.stall(&key, &mut effects);
                return effects;
            }
            Outcome::Lost => {
                self.fence(&mut effects);
                return effects;
            }
        }
        self.run(&key, &mut effects);
        self.run_woken(&mut effects);
        effects
    }

    /// What earlier owners have begun. To be called once, before anything is asked for.
    pub fn resume(&mut self) -> Vec<Plan> {
        let mut keys = BTreeSet::new();
        for (name, scope) in &self.scopes {
            keys.insert(LaneKey::Scope(name.clone()));
            for stream in scope.streams.keys() {
                let stream = StreamName {
                    scope: name.clone(),
                    stream: stream.clone(),
                };
                keys.insert(LaneKey::Stream(stream.base()));
            }
        }
        let mut effects = Effects::default();
        for key in keys {
            self.run(&key, &mut effects);
        }
        self.run_woken(&mut effects);
        effects.plans
    }

    /// What time brings: transactions end, ends of streams are noted, and what has failed is tried again. To be called more often than
    /// [`crate::Limits::clock_step_ms_max`].
    pub fn tick(&mut self, now_ms: u64) -> Effects {
        self.clock.advance(now_ms, &self.limits);
        let mut effects = Effects::default();
        if self.is_fenced {
            return effects;
        }
        let is_scope = |key: &&LaneKey| matches!(key, LaneKey::Scope(_));
        let scopes: Vec<_> = self.lanes.keys().filter(is_scope).cloned().collect();
        for key in std::mem::take(&mut self.stalled).into_iter().chain(scopes) {
            self.run(&key, &mut effects);
        }
        let now_ms = self.clock.counted_ms();
        let expired = self
            .leases
            .iter()
            .take_while(|(until, ..)| *until <= now_ms);
        let expired: Vec<_> = expired.cloned().collect();
        for (_, stream, txn) in expired {
            self.enqueue(Work::ExpireTxn(stream, txn), &mut effects);
        }
        let due = self.due.iter().take_while(|(at, _)| *at <= now_ms);
        let due: Vec<_> = due.cloned().collect();
        for (_, stream) in due {
            let next_ms = now_ms.saturating_add(self.limits.retention_period_ms);
            self.set_due(&stream, Some(next_ms));
            self.enqueue(Work::Retain(stream), &mut effects);
        }
        self.run_woken(&mut effects);
        effects
    }

    /// Somebody else owns the rows: nothing is done here any more.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.is_fenced
    }

    /// Nobody waits for it. It is left out if there is no room, or if it waits already.
    fn enqueue(&mut self, work: Work, effects: &mut Effects) {
        let key = work.lane();
        let lane = self.lanes.entry(key.clone()).or_default();
        if lane.queue.len() < self.limits.queue_max && !lane.is_doing(|other| *other == work) {
            lane.queue.push_back(Job::new(work, None));
        }
        self.run(&key, effects);
    }

    /// Until each lane waits for a plan, or for nothing.
    fn run_woken(&mut self, effects: &mut Effects) {
        while let Some(key) = self.woken.pop_first() {
            self.run(&key, effects);
        }
    }

    /// A scope that is deleted waits until nothing is left in it.
    pub(crate) fn wake_deletion(&mut self, scope: &Name) {
        if self.scopes.get(scope).is_some_and(|it| it.row.is_deleted) {
            self.woken.insert(LaneKey::Scope(scope.clone()));
        }
    }

    fn go_on(&mut self, key: &LaneKey, replies: Vec<u64>) {
        let lane = self.lanes.get_mut(key).expect("a lane with a plan is kept");
        let job = lane.jobs.last_mut().expect("a plan is that of a job");
        job.step += 1;
        job.replies = replies;
    }

    /// Until it waits for a plan, or for nothing.
    fn run(&mut self, key: &LaneKey, effects: &mut Effects) {
        loop {
            let lane = self.lanes.entry(key.clone()).or_default();
            if lane.plan.is_some() || self.is_fenced {
                return;
            }
            if lane.jobs.is_empty() {
                let Some(job) = self.pick(key) else {
                    self.lanes.remove(key);
                    if let LaneKey::Stream(name) = key {
                        self.wake_deletion(&name.scope);
                    }
                    return;
                };
                let lane = self.lanes.entry(key.clone()).or_default();
                lane.jobs.push(job);
            }
            let lane = &self.lanes[key];
            let job = lane.jobs.last().expect("there is one now");
            match self.next(job) {
                Next::Park => return,
                Next::Write(rows) if !rows.is_empty() => {
                    let action = Action::Write(self.changes(&rows));
                    return self.plan(key, action, rows, effects);
                }
                Next::Call(calls) if !calls.is_empty() => {
                    return self.plan(key, Action::Call(calls), Vec::new(), effects);
                }
                Next::Enqueue(works) => {
                    self.go_on(key, Vec::new());
                    for work in works {
                        self.woken.insert(work.lane());
                        let lane = self.lanes.entry(work.lane()).or_default();
                        lane.queue.push_front(Job::new(work, None));
                    }
                }
                next => self.turn(key, next, effects),
            }
        }
    }

    /// What needs no plan.
    fn turn(&mut self, key: &LaneKey, next: Next, effects: &mut Effects) {
        let lane = self.lanes.get_mut(key).expect("it runs");
        let job = lane.jobs.last_mut().expect("it has said so");
        let mut answer = |job: &mut Job, answer| {
            if let Some(ticket) = job.waiting.take() {
                effects.answers.push((ticket, answer));
            }
        };
        match next {
            Next::Answer(response) => {
                answer(job, Ok(response));
                job.step += 1;
            }
            Next::Again(step) => job.step = step,
            Next::First(work) => lane.jobs.push(Job::new(work, None)),
            Next::Become(work) => *job = Job::new(work, job.waiting.take()),
            Next::Done(response) => {
                answer(job, Ok(response));
                lane.jobs.pop();
            }
            Next::Refuse(refusal) => {
                answer(job, Err(refusal));
                lane.jobs.pop();
            }
            // Nothing to write, nobody to call.
            Next::Write(_) | Next::Call(_) => {
                job.step += 1;
                job.replies.clear();
            }
            Next::Park | Next::Enqueue(_) => {}
        }
    }

    fn plan(
        &mut self,
        key: &LaneKey,
        action: Action,
        rows: Vec<(Key, Option<Row>)>,
        effects: &mut Effects,
    ) {
        self.last_token += 1;
        let token = Token(self.last_token);
        self.in_flight.insert(token, key.clone());
        let lane = self.lanes.get_mut(key).expect("it runs");
        lane.plan = Some(InFlight { token, rows });
        effects.plans.push(Plan { token, action });
    }

    fn changes(&self, rows: &[(Key, Option<Row>)]) -> Vec<Change> {
        let changes = rows.iter().map(|(key, row)| Change {
            key: key.encode(),
            expected: self.versions.get(key).copied(),
            value: row.as_ref().map(Row::encode),
        });
        changes.collect()
    }

    /// May the row of a transaction be another one than is known here?
    pub(crate) fn is_being_written(&self, name: &StreamName, id: TxnId) -> bool {
        let lane = self.lanes.get(&LaneKey::Stream(name.base()));
        let plan = lane.and_then(|lane| lane.plan.as_ref());
        let is_of =
            |key: &Key| matches!(key, Key::Txn(stream, txn) if stream == name && *txn == id);
        plan.is_some_and(|plan| plan.rows.iter().any(|(key, _)| is_of(key)))
    }

    /// Who waits is told, and what has a durable intent goes on with the next tick; the rest is as if it had not been asked for.
    fn stall(&mut self, key: &LaneKey, effects: &mut Effects) {
        let lane = self.lanes.get_mut(key).expect("a lane with a plan is kept");
        for job in &mut lane.jobs {
            if let Some(ticket) = job.waiting.take() {
                effects.answers.push((ticket, Err(Refusal::Unavailable)));
            }
        }
        while lane.jobs.last().is_some_and(|job| job.step == 0) {
            lane.jobs.pop();
        }
        self.stalled.insert(key.clone());
    }

    fn fence(&mut self, effects: &mut Effects) {
        self.is_fenced = true;
        self.in_flight.clear();
        for lane in std::mem::take(&mut self.lanes).into_values() {
            for job in lane.jobs.into_iter().chain(lane.queue) {
                if let Some(ticket) = job.waiting {
                    effects.answers.push((ticket, Err(Refusal::Fenced)));
                }
            }
        }
    }

    /// What a lane without a job does next: what its rows say, or else what was asked for.
    fn pick(&mut self, key: &LaneKey) -> Option<Job> {
        let of_rows = match key {
            LaneKey::Scope(name) => {
                let is_deleted = self.scopes.get(name).is_some_and(|it| it.row.is_deleted);
                is_deleted.then(|| Job::resumed(Work::DeleteScopeRecursive(name.clone())))
            }
            LaneKey::Stream(base) => {
                let mark = base.mark();
                let streams = [Some(base), mark.as_ref()];
                streams
                    .into_iter()
                    .flatten()
                    .find_map(|name| self.begun(name))
            }
        };
        if of_rows.is_some() {
            return of_rows;
        }
        let front = self
            .lanes
            .get_mut(key)
            .and_then(|lane| lane.queue.pop_front());
        if front.as_ref().is_some_and(|job| job.work.is_of_txn()) && !self.has_full_batch(key) {
            return front;
        }
        if let LaneKey::Stream(base) = key
            && let Some(job) = self.ending(base)
        {
            let lane = self.lanes.get_mut(key);
            if let (Some(lane), Some(front)) = (lane, front) {
                lane.queue.push_front(front);
            }
            return Some(job);
        }
        front
    }

    /// What a stream says that it was in the middle of.
    fn begun(&self, name: &StreamName) -> Option<Job> {
        let stream = self.stream(name)?;
        let name = name.clone();
        Some(Job::resumed(match &stream.row.state {
            State::Active | State::Sealed => return None,
            State::Creating => Work::Create(name, stream.row.config.clone()),
            State::Updating(config) => Work::Update(name, config.clone()),
            State::Scaling(_) => Work::Scale(name, Vec::new(), Vec::new()),
            State::Truncating(_) => return Some(Job::at(Work::Truncate(name, <_>::default()), 2)),
            State::Committing => return Some(Job::at(Work::Commit(name), 0)),
            State::Sealing => Work::Seal(name),
            State::Deleting => Work::Delete(name),
        }))
    }

    fn txns_in(&self, base: &StreamName, is_it: fn(&TxnState) -> bool) -> Option<StreamName> {
        let mark = base.mark();
        let streams = [Some(base), mark.as_ref()].into_iter().flatten();
        let mut streams = streams.filter(|name| {
            let stream = self.stream(name);
            stream.is_some_and(|it| it.txns.values().any(|txn| is_it(&txn.row.state)))
        });
        streams.next().cloned()
    }

    /// Transactions that are to end.
    fn ending(&self, base: &StreamName) -> Option<Job> {
        let is_committing = |state: &TxnState| matches!(state, TxnState::Committing(_));
        if let Some(name) = self.txns_in(base, is_committing) {
            return Some(Job::at(Work::Commit(name), 0));
        }
        let name = self.txns_in(base, |state| *state == TxnState::Aborting)?;
        Some(Job::at(Work::Abort(name), 0))
    }

    /// More than one batch of them is not let wait for others.
    fn has_full_batch(&self, key: &LaneKey) -> bool {
        let LaneKey::Stream(base) = key else {
            return false;
        };
        let mark = base.mark();
        let streams = [Some(base), mark.as_ref()].into_iter().flatten();
        let mut streams = streams.filter_map(|name| self.stream(name));
        streams.any(|stream| {
            let ending = stream.txns.values();
            let ending = ending.filter(|txn| txn.row.state != TxnState::Open);
            ending.count() >= self.limits.txn_batch_max
        })
    }
}

/// For the calls of a job.
pub(crate) fn lengths(calls: impl Iterator<Item = String>) -> Next {
    Next::Call(calls.map(Call::Length).collect())
}
