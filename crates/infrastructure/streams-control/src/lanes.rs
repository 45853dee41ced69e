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
use crate::names::{Name, StreamName};
use crate::rows::{Key, Row, State};
use crate::state::Control;
use crate::step::{
    Action, Call, Change, Effects, Outcome, Plan, Request, Response, Ticket, Token, Version,
};
use crate::work::{Job, Next, Work};

/// A stream and that of its watermarks share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LaneKey {
    Scope(Name),
    Stream(StreamName),
    /// Of streams that are not there any more.
    Graves,
}

#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) jobs: Vec<Job>,
    queue: VecDeque<Job>,
    plan: Option<InFlight>,
    /// Plans in a row.
    n_failed: u32,
    /// In `Control::stalled`.
    is_stalled: bool,
}

#[derive(Debug)]
struct InFlight {
    token: Token,
    /// Empty if it is calls.
    rows: Vec<(Key, Option<Row>)>,
    n_calls: usize,
}

/// Streams whose ends are noted with one tick. After a long time they are all due.
const DUE_MAX: usize = 1_000;

/// Behind the second failure in a row. Each waits twice as long as the one before, and the first for the next tick only.
const RETRY_MS_MIN: u64 = 100;

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
        for (row_key, _) in &plan.rows {
            if let Key::Grave(name) = row_key {
                // It may have waited until that grave is let alone.
                self.woken.insert(LaneKey::Stream(name.base()));
            }
        }
        match outcome {
            Outcome::Written(versions) => self.written(&key, plan.rows, versions),
            Outcome::Called(replies) => {
                assert_eq!(replies.len(), plan.n_calls, "a reply for each call");
                self.called(&key, replies);
            }
            Outcome::Failed => self.stall(&key, &Refusal::Unavailable, &mut effects),
            Outcome::Refused(why) => self.give_up(&key, why, &mut effects),
            Outcome::Lost => {
                self.fence(&mut effects);
                return effects;
            }
        }
        self.run(&key, &mut effects);
        self.run_woken(&mut effects);
        effects
    }

    fn written(&mut self, key: &LaneKey, rows: Vec<(Key, Option<Row>)>, versions: Vec<Version>) {
        assert_eq!(versions.len(), rows.len(), "a version for each change");
        for ((row_key, row), version) in rows.into_iter().zip(versions) {
            match row {
                Some(row) => {
                    let is_put = self.put(&row_key, row);
                    is_put.expect("rows that are written belong together");
                    self.set_version(row_key, version);
                }
                None => {
                    self.remove(&row_key);
                    self.versions.remove(&row_key);
                }
            }
        }
        let job = self.succeeded(key);
        job.go_to(job.step + 1);
    }

    /// All of its step, or a part.
    fn called(&mut self, key: &LaneKey, replies: Vec<u64>) {
        let job = self.succeeded(key);
        job.calls.drain(..replies.len());
        job.replies.extend(replies);
        if job.calls.is_empty() {
            job.step += 1;
        }
    }

    /// Whose plan it was.
    fn succeeded(&mut self, key: &LaneKey) -> &mut Job {
        let lane = self.lanes.get_mut(key).expect("a lane with a plan is kept");
        lane.n_failed = 0;
        lane.jobs.last_mut().expect("a plan is that of a job")
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
        let now_ms = self.clock.counted_ms();
        self.retry(now_ms, &mut effects);
        if self.graves.len() > self.limits.graves_max {
            self.enqueue(Work::Fold, &mut effects);
        }
        let expired = self
            .leases
            .iter()
            .take_while(|(until, ..)| *until <= now_ms);
        let expired: BTreeSet<_> = expired.map(|(_, stream, _)| stream.clone()).collect();
        for stream in expired {
            self.enqueue(Work::Expire(stream), &mut effects);
        }
        let due = self.due.iter().take_while(|(at, _)| *at <= now_ms);
        let due: Vec<_> = due.take(DUE_MAX).cloned().collect();
        for (_, stream) in due {
            let next_ms = now_ms.saturating_add(self.limits.retention_period_ms);
            self.set_due(&stream, Some(next_ms));
            self.enqueue(Work::Retain(stream), &mut effects);
        }
        self.run_woken(&mut effects);
        effects
    }

    /// What has failed, if it has waited for long enough, and what scopes that are deleted wait for.
    fn retry(&mut self, now_ms: u64, effects: &mut Effects) {
        while let Some((until_ms, key)) = self.stalled.pop_first() {
            if until_ms > now_ms {
                self.stalled.insert((until_ms, key));
                break;
            }
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.is_stalled = false;
            }
            self.woken.insert(key);
        }
        // They are first in the order of keys.
        let is_scope = |key: &&LaneKey| matches!(key, LaneKey::Scope(_));
        let scopes = self.lanes.keys().take_while(is_scope);
        self.woken.extend(scopes.cloned());
        self.run_woken(effects);
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

    /// Until it waits for a plan, or for nothing.
    fn run(&mut self, key: &LaneKey, effects: &mut Effects) {
        loop {
            let lane = self.lanes.entry(key.clone()).or_default();
            if lane.plan.is_some() || lane.is_stalled || self.is_fenced {
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
            if !job.calls.is_empty() {
                let calls = job.calls.iter().take(self.limits.plan_max.max(1));
                let action = Action::Call(calls.cloned().collect());
                return self.plan(key, action, Vec::new(), effects);
            }
            match self.next(job) {
                Next::Park => return,
                Next::Write(rows) if !rows.is_empty() => {
                    let changes = self.changes(&rows);
                    // All that follows from an intent fits if it does.
                    let check = |change: &Change| self.check_row(change);
                    let is_new = job.is_undecided() && job.waiting.is_some();
                    if is_new && let Err(refusal) = changes.iter().try_for_each(check) {
                        self.turn(key, Next::Refuse(refusal), effects);
                        continue;
                    }
                    return self.plan(key, Action::Write(changes), rows, effects);
                }
                Next::Enqueue(works) => {
                    let next = job.step + 1;
                    self.turn(key, Next::Again(next), effects);
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
                job.go_to(job.step + 1);
            }
            Next::Again(step) => job.go_to(step),
            Next::First(work) => lane.jobs.push(Job::new(work, None)),
            Next::Become(work) => *job = Job::new(work, job.waiting.take()),
            Next::Abandon(refusal, work) => {
                answer(job, Err(refusal));
                *job = Job::new(work, None);
            }
            Next::Done(response) => {
                answer(job, Ok(response));
                lane.jobs.pop();
            }
            Next::Refuse(refusal) => {
                answer(job, Err(refusal));
                lane.jobs.pop();
            }
            Next::Call(calls) if !calls.is_empty() => {
                job.calls = calls.into();
                job.replies.clear();
            }
            // Nothing to write, nobody to call.
            Next::Write(_) | Next::Call(_) => job.go_to(job.step + 1),
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
        let n_calls = match &action {
            Action::Call(calls) => calls.len(),
            Action::Write(_) => 0,
        };
        let lane = self.lanes.get_mut(key).expect("it runs");
        lane.plan = Some(InFlight {
            token,
            rows,
            n_calls,
        });
        effects.plans.push(Plan { token, action });
    }

    fn changes(&self, rows: &[(Key, Option<Row>)]) -> Vec<Change> {
        let changes = rows.iter().map(|(key, row)| Change {
            key: key.encode(),
            expected: self.version(key),
            value: row.as_ref().map(Row::encode),
        });
        changes.collect()
    }

    fn check_row(&self, change: &Change) -> Result<(), Refusal> {
        let n_bytes = change.value.as_ref().map_or(0, Vec::len);
        let max = self.limits.row_bytes_max;
        self.limits.check("bytes of a row", n_bytes, max)
    }

    /// Somebody waits there for who is at work.
    pub(crate) fn has_queue(&self, key: &LaneKey) -> bool {
        self.lanes
            .get(key)
            .is_some_and(|lane| !lane.queue.is_empty())
    }

    /// May that row be another one than is known here?
    pub(crate) fn is_planned(&self, lane: &LaneKey, row: &Key) -> bool {
        let lane = self.lanes.get(lane);
        let plan = lane.and_then(|lane| lane.plan.as_ref());
        plan.is_some_and(|plan| plan.rows.iter().any(|(key, _)| key == row))
    }

    /// What has no durable intent is as if it had not been asked for, and who waits for it is told so. The rest goes on later, and is answered
    /// then.
    fn stall(&mut self, key: &LaneKey, refusal: &Refusal, effects: &mut Effects) {
        let lane = self.lanes.get_mut(key).expect("a lane with a plan is kept");
        while let Some(job) = lane.jobs.pop_if(|job| job.is_undecided()) {
            if let Some(ticket) = job.waiting {
                effects.answers.push((ticket, Err(refusal.clone())));
            }
        }
        let delay_ms = match lane.n_failed {
            0 => 0,
            n => RETRY_MS_MIN.saturating_mul(1 << (n - 1).min(20)),
        };
        lane.n_failed = lane.n_failed.saturating_add(1);
        lane.is_stalled = true;
        let delay_ms = delay_ms.min(self.limits.retry_ms_max);
        let until_ms = self.clock.counted_ms().saturating_add(delay_ms);
        self.stalled.insert((until_ms, key.clone()));
    }

    /// What will never succeed as it is.
    fn give_up(&mut self, key: &LaneKey, why: String, effects: &mut Effects) {
        let lane = &self.lanes[key];
        let job = lane.jobs.last().expect("a plan is that of a job");
        if let Some(next) = self.instead(job, &why) {
            self.turn(key, next, effects);
            return;
        }
        // All of it may be made again, perhaps with what was not there.
        if matches!(job.work, Work::Commit(_)) && job.step > 1 {
            self.turn(key, Next::Again(1), effects);
        }
        self.stall(key, &Refusal::Refused(why), effects);
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
            LaneKey::Graves => None,
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

    /// Transactions that are to end.
    fn ending(&self, base: &StreamName) -> Option<Job> {
        let both = || self.both(base).into_iter();
        if let Some((name, _)) = both().find(|(_, stream)| !stream.committing.is_empty()) {
            return Some(Job::new(Work::Commit(name), None));
        }
        let (name, _) = both().find(|(_, stream)| !stream.aborting.is_empty())?;
        Some(Job::new(Work::Abort(name), None))
    }

    /// More than one batch of them is not let wait for others.
    fn has_full_batch(&self, key: &LaneKey) -> bool {
        let LaneKey::Stream(base) = key else {
            return false;
        };
        let both = self.both(base);
        let mut both = both.iter().map(|(_, stream)| stream);
        both.any(|it| it.committing.len() + it.aborting.len() >= self.limits.txn_batch(it))
    }
}

/// For the calls of a job.
pub(crate) fn lengths(calls: impl Iterator<Item = String>) -> Next {
    Next::Call(calls.map(Call::Length).collect())
}
