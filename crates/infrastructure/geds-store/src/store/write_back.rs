//! What is to be in S3 comes there when there is time. Nobody waits for it, so those who wait for something are disturbed as rarely as can be: what is
//! done for an object before and after it is sent is done for many of them at once.
//!
//! ```text
//!  dirty ──▶ choose: what it is, where it goes, and one wait for the log ──▶ PUT, each for itself ──▶ place: the index is told where
//!    ▲                    └───────────────────────── one turn, on one thread ─────────────────────────────────┘
//!    └── told again meanwhile, or failed
//! ```

use std::collections::BTreeSet;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};
use tokio::time::sleep;

use super::Store;
use super::persist::{AT_ONCE, Errand, FAILURES_MAX, PAUSE, PAUSE_MAX, Place, target};
use super::remote::{Requests, Wanted};
use crate::core::index::{InS3, Index, ObjectId};
use crate::error::{Error, Kind, Result};
use crate::tier2::pace::{Pace, TURN};

/// When so many have come there, the index is told. The others keep the line busy meanwhile.
const TOLD_AT_ONCE: usize = AT_ONCE / 2;
/// When more than this part of the room, in percent, has what is not in S3 yet, it is not asked any more what others feel of it.
const SHORT_PERCENT: u64 = 60;

/// One that is on its way. Nobody else changes what is there under its name.
pub(super) struct Chosen {
    wanted: Wanted,
    errand: Errand,
    first: Option<Place>,
    claim: Claim,
}

struct Claim {
    _alone: OwnedMutexGuard<()>,
    _permits: OwnedSemaphorePermit,
}

/// One that has come there.
pub(super) struct Delivered {
    wanted: Wanted,
    at: InS3,
    _claim: Claim,
}

/// What became of one in a turn.
pub(super) enum Taken {
    /// It need not be there, or is.
    Over,
    /// Somebody else is at it.
    Later,
    /// There is no room for it on the way, and so for none that comes after it.
    Full,
    Chosen(Box<Chosen>),
    Failed(Error),
}

/// What is done, and what has failed.
struct State {
    busy: BTreeSet<ObjectId>,
    failed: BTreeSet<ObjectId>,
    n_failed: usize,
    pause: Duration,
    /// When those that have failed are tried again.
    again: Option<Instant>,
    pace: Pace,
    turn_ends: Instant,
    may_send: bool,
}

impl Store {
    pub(super) async fn write_back(&self, requests: &Requests) {
        let mut state = State::new();
        let mut sending = FuturesUnordered::new();
        let mut delivered = Vec::new();
        loop {
            state.try_again(requests).await;
            let may_send = state.may_send(self, requests);
            let n_max = match may_send {
                true => AT_ONCE - sending.len() - delivered.len(),
                false => 0,
            };
            let wanted = state.next(requests, n_max);
            if may_send && wanted.is_empty() && delivered.is_empty() && sending.is_empty() {
                tokio::select! {
                    () = requests.dirty_told.notified() => {}
                    () = until(state.again) => {}
                }
                // Nothing was sent meanwhile.
                requests.take_answers();
                state.turn_ends = rt::now();
                continue;
            }
            if !wanted.is_empty() || !delivered.is_empty() {
                let store = self.clone();
                let delivered = std::mem::take(&mut delivered);
                let turn = rt::blocking(move || store.take_turn(delivered, wanted)).await;
                // Else the node ends.
                for (wanted, taken) in turn.unwrap_or_default() {
                    if let Some(chosen) = state.note(requests, wanted, taken) {
                        sending.push(self.send_chosen(requests, *chosen));
                    }
                }
            }
            let mut moment = pin!(sleep(TURN));
            while delivered.len() < TOLD_AT_ONCE {
                tokio::select! {
                    Some((wanted, sent)) = sending.next() => match sent {
                        Ok(one) => delivered.push(one),
                        Err(error) => state.fail(requests, wanted, error),
                    },
                    () = &mut moment => break,
                }
            }
        }
    }

    async fn send_chosen(
        &self,
        requests: &Requests,
        chosen: Chosen,
    ) -> (Wanted, Result<Delivered>) {
        let Chosen {
            wanted,
            errand,
            first,
            claim,
        } = chosen;
        // A panic over one object is not to be the end of all.
        let sent = AssertUnwindSafe(self.send(requests, wanted.id, &errand, first)).catch_unwind();
        let sent = sent.await.unwrap_or_else(|_| Err(panicked()));
        let delivered = sent.map(|at| Delivered {
            wanted,
            at,
            _claim: claim,
        });
        (wanted, delivered)
    }

    /// Says where those are that have come there, and chooses others.
    pub(super) fn take_turn(
        &self,
        delivered: Vec<Delivered>,
        wanted: Vec<Wanted>,
    ) -> Vec<(Wanted, Taken)> {
        let Some(requests) = &self.0.requests else {
            return Vec::new();
        };
        let mut turn = Vec::new();
        let are_some_there = !delivered.is_empty();
        for one in delivered {
            let placed = caught(|| self.place_persisted(one.wanted.id, &one.at));
            let taken = placed.map_or_else(Taken::Failed, |()| Taken::Over);
            turn.push((one.wanted, taken));
        }
        if are_some_there {
            self.keep_disk_room_or_say();
        }
        let n_placed = turn.len();
        let mut is_full = false;
        for one in wanted {
            let taken = match is_full {
                true => Taken::Full,
                false => caught(|| self.choose(requests, one)).unwrap_or_else(Taken::Failed),
            };
            is_full = matches!(taken, Taken::Full);
            turn.push((one, taken));
        }
        let chosen = turn[n_placed..].iter_mut().map(|(_, taken)| taken);
        let mut chosen = chosen.filter(|taken| matches!(taken, Taken::Chosen(_)));
        if let Some(first) = chosen.next() {
            // What is in S3 goes with what the index says: that comes first, also why something may be replaced.
            if let Err(error) = self.barrier().and_then(|ack| ack.wait()) {
                for taken in std::iter::once(first).chain(chosen) {
                    *taken = Taken::Failed(Error::new(error.kind, error.to_string()));
                }
            }
        }
        turn
    }

    /// Is there to be no rest, whatever others feel?
    fn is_short_of_room(&self, requests: &Requests) -> bool {
        let disk = self.0.disk.stats();
        let room = disk.limit_bytes.max(self.0.arena.limit_bytes());
        let (waiting_bytes, is_all_own) = requests.waiting(self.0.node);
        // How much room other nodes have is not known here; and what comes when the disk is full is waited for.
        disk.waiting > 0
            || !is_all_own
            || !requests.remote.writes_back
            || waiting_bytes > room / 100 * SHORT_PERCENT
    }

    fn choose(&self, requests: &Requests, wanted: Wanted) -> Result<Taken> {
        let id = wanted.id;
        let name = |index: &Index| target(requests, index, id, None);
        let Some(name) = self.0.namespace.read(name) else {
            self.doom_attempts(requests, id);
            return Ok(Taken::Over);
        };
        if !requests.is_checked(&name.bucket) {
            let what = format!("nothing comes to `{}` in S3 yet", name.bucket);
            return Err(Error::new(Kind::Invalid, what));
        }
        let Ok(alone) = requests.changing(&name).try_lock_owned() else {
            return Ok(Taken::Later);
        };
        let errand = self.errand(requests, id, None)?;
        let Some(errand) = errand.filter(|errand| errand.name == name) else {
            return Ok(Taken::Later);
        };
        let on_the_way = requests.on_the_way.clone();
        let weight = Requests::weight(errand.len());
        let Ok(permits) = on_the_way.try_acquire_many_owned(weight) else {
            return Ok(Taken::Full);
        };
        let first = self.first_place(requests, id, &name)?;
        Ok(Taken::Chosen(Box::new(Chosen {
            wanted,
            errand,
            first,
            claim: Claim {
                _alone: alone,
                _permits: permits,
            },
        })))
    }
}

impl State {
    fn new() -> Self {
        Self {
            busy: BTreeSet::new(),
            failed: BTreeSet::new(),
            n_failed: 0,
            pause: PAUSE,
            again: Some(rt::now()),
            pace: Pace::default(),
            turn_ends: rt::now(),
            may_send: true,
        }
    }

    /// Whether something may be sent in this turn.
    fn may_send(&mut self, store: &Store, requests: &Requests) -> bool {
        let now = rt::now();
        if now >= self.turn_ends {
            self.turn_ends = now + TURN;
            let is_short = store.is_short_of_room(requests);
            self.may_send = self.pace.turn(&requests.take_answers(), is_short);
        }
        self.may_send
    }

    /// Tries those again that have failed, if it is time for it.
    async fn try_again(&mut self, requests: &Requests) {
        if self.again.is_none_or(|at| at > rt::now()) {
            return;
        }
        let is_checked = check_buckets(requests).await;
        self.again = (!is_checked).then(|| rt::now() + PAUSE_MAX);
        self.failed.clear();
        self.n_failed = 0;
        requests.look_at_all_again();
    }

    /// The next ones to be brought there.
    fn next(&mut self, requests: &Requests, n_max: usize) -> Vec<Wanted> {
        let n_max = if self.n_failed < FAILURES_MAX {
            n_max
        } else {
            0
        };
        let wanted = requests.next_dirty(n_max, |id| {
            !self.busy.contains(&id) && !self.failed.contains(&id)
        });
        self.busy.extend(wanted.iter().map(|one| one.id));
        wanted
    }

    /// Gives it back if it is to be sent.
    fn note(&mut self, requests: &Requests, wanted: Wanted, taken: Taken) -> Option<Box<Chosen>> {
        match taken {
            Taken::Chosen(chosen) => return Some(chosen),
            Taken::Over => {
                self.busy.remove(&wanted.id);
                (self.pause, self.n_failed) = (PAUSE, 0);
                requests.set_brought(wanted);
            }
            Taken::Later | Taken::Full => {
                self.busy.remove(&wanted.id);
                requests.look_again(wanted.id);
            }
            Taken::Failed(error) => self.fail(requests, wanted, error),
        }
        None
    }

    fn fail(&mut self, requests: &Requests, wanted: Wanted, error: Error) {
        self.busy.remove(&wanted.id);
        requests.count_failure();
        self.n_failed += usize::from(error.kind == Kind::Unavailable);
        if self.failed.is_empty() {
            // The others until then are counted.
            let error = &error as &dyn std::error::Error;
            tracing::warn!(id = ?wanted.id, error, "bring objects to S3");
            self.again = Some(rt::now() + self.pause);
            self.pause = (2 * self.pause).min(PAUSE_MAX);
        }
        self.failed.insert(wanted.id);
    }
}

fn caught<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| Err(panicked()))
}

fn panicked() -> Error {
    Error::new(Kind::Internal, "bring it to S3")
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// Finds out of which buckets S3 knows conditions. `false`: of some it is not known, or it knows none.
async fn check_buckets(requests: &Requests) -> bool {
    let mut is_well = true;
    for bucket in requests.remote.buckets.keys() {
        if requests.is_checked(bucket) {
            continue;
        }
        match requests.remote.background.check(bucket).await {
            Ok(()) => requests.set_checked(bucket),
            Err(error) => {
                is_well = false;
                requests.count_failure();
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%bucket, error, "use a bucket of S3");
            }
        }
    }
    is_well
}
