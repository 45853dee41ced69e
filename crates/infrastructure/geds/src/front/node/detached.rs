//! Objects that are being written and outlive the connection that began them: a program that moves takes a token along, and writes on from where it
//! goes to.
//!
//! Who attaches last, with an epoch that is not lower than any before, has the object: all who had it before are fenced. So a program that was
//! thought dead writes nothing into what its successor goes on with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use geds_client::WriterToken;
use ids::{Epoch, Name as Tenant};

use crate::error::{Error, Kind, Result};

/// What nobody has come for within this time is given up.
pub(super) const LEFT_FOR: Duration = Duration::from_secs(600);
/// Of a tenant.
const OBJECTS_MAX: usize = 1_024;

/// By their tokens. `W` is what writes.
#[derive(Debug)]
pub(super) struct Detached<W>(Mutex<HashMap<WriterToken, Arc<Slot<W>>>>);

impl<W> Default for Detached<W> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[derive(Debug)]
struct Slot<W> {
    tenant: Tenant,
    /// Counts those who have had it. It changes with the state, and is read without waiting for who writes.
    turn: AtomicU64,
    state: Mutex<State<W>>,
}

#[derive(Debug)]
struct State<W> {
    /// `None`: it was sealed, or given up.
    writer: Option<W>,
    epoch: Epoch,
    /// Since when nobody has it.
    left_at: Option<Instant>,
}

/// What one who has attached has, until somebody else does.
#[derive(Debug)]
pub(super) struct Held<W> {
    token: WriterToken,
    slot: Arc<Slot<W>>,
    turn: u64,
}

impl<W> Detached<W> {
    /// # Errors
    /// `Exhausted`: the tenant has too many of them. What was written is gone.
    pub(super) fn detach(&self, tenant: &Tenant, writer: W) -> Result<Held<W>> {
        self.sweep(rt::now());
        let mut slots = lock(&self.0);
        let n_own = slots.values().filter(|slot| slot.tenant == *tenant).count();
        if n_own >= OBJECTS_MAX {
            let what = format!("a tenant has at most {OBJECTS_MAX} objects that are detached");
            return Err(Error::new(Kind::Exhausted, what));
        }
        let slot = Arc::new(Slot {
            tenant: tenant.clone(),
            turn: AtomicU64::new(0),
            state: Mutex::new(State {
                writer: Some(writer),
                epoch: Epoch(0),
                left_at: None,
            }),
        });
        let mut token = [0; 16];
        rt::fill_random(&mut token);
        let token = WriterToken(token);
        slots.insert(token, Arc::clone(&slot));
        let turn = 0;
        Ok(Held { token, slot, turn })
    }

    /// Takes it from whoever has it. May wait for what that one is doing.
    ///
    /// # Errors
    /// `NotFound`: it was sealed or given up, or never was. `Fenced`: somebody has attached with a higher epoch.
    pub(super) fn attach(
        &self,
        tenant: &Tenant,
        token: WriterToken,
        epoch: Epoch,
    ) -> Result<Held<W>> {
        let missing = || {
            let what = "no object is being written under that token: it was sealed or given up, or its node was started anew";
            Error::new(Kind::NotFound, what)
        };
        let found = lock(&self.0).get(&token).cloned();
        let slot = found.filter(|slot| slot.tenant == *tenant);
        let slot = slot.ok_or_else(missing)?;
        let turn = {
            let mut state = lock(&slot.state);
            if state.writer.is_none() {
                return Err(missing());
            }
            if epoch < state.epoch {
                let what = format!("epoch {} has the object, not {}", state.epoch.0, epoch.0);
                return Err(Error::new(Kind::Fenced, what));
            }
            state.epoch = epoch;
            state.left_at = None;
            slot.turn.fetch_add(1, Ordering::SeqCst) + 1
        };
        Ok(Held { token, slot, turn })
    }

    /// Gives up what was left for too long, and forgets what was sealed.
    pub(super) fn sweep(&self, now: Instant) {
        let mut gone = Vec::new();
        lock(&self.0).retain(|_, slot| {
            // Somebody is at it.
            let Ok(mut state) = slot.state.try_lock() else {
                return true;
            };
            let is_left = |at: Instant| now.saturating_duration_since(at) >= LEFT_FOR;
            if state.left_at.is_some_and(is_left) {
                // Somebody who has lost it may still hold the slot.
                gone.extend(state.writer.take());
            }
            state.writer.is_some()
        });
    }
}

impl<W> Held<W> {
    /// By which others attach.
    pub(super) fn token(&self) -> WriterToken {
        self.token
    }

    /// # Errors
    /// `Fenced`: somebody else has attached. What `write` says, and then it is as that has left it.
    pub(super) fn with<T>(&self, write: impl FnOnce(&mut W) -> Result<T>) -> Result<T> {
        write(self.own()?.writer.as_mut().expect("it is not sealed"))
    }

    /// Ends it.
    ///
    /// # Errors
    /// `Fenced`.
    pub(super) fn take(self) -> Result<W> {
        Ok(self.own()?.writer.take().expect("it is not sealed"))
    }

    fn has_it(&self) -> bool {
        self.slot.turn.load(Ordering::SeqCst) == self.turn
    }

    fn own(&self) -> Result<MutexGuard<'_, State<W>>> {
        let state = lock(&self.slot.state);
        if self.has_it() {
            return Ok(state);
        }
        let what = format!("the object is written on with epoch {}", state.epoch.0);
        Err(Error::new(Kind::Fenced, what))
    }
}

impl<W> Drop for Held<W> {
    fn drop(&mut self) {
        // Whoever has taken it may be long at it.
        if !self.has_it() {
            return;
        }
        let mut state = lock(&self.slot.state);
        if self.has_it() {
            state.left_at = Some(rt::now());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        name.parse().expect("a tenant")
    }

    fn put(held: &Held<Vec<u8>>, byte: u8) -> Result<usize> {
        held.with(|written| {
            written.push(byte);
            Ok(written.len())
        })
    }

    #[test]
    fn whoever_attaches_last_writes_on() {
        let detached = Detached::default();
        let acme = tenant("acme");
        let first = detached.detach(&acme, vec![1]).expect("there is room");
        let token = first.token();
        assert_eq!(put(&first, 2).expect("it has it"), 2);
        let second = detached
            .attach(&acme, token, Epoch(7))
            .expect("it is there");
        assert_eq!(put(&first, 9).expect_err("it had it").kind, Kind::Fenced);
        assert_eq!(put(&second, 3).expect("it has it"), 3);
        let older = detached.attach(&acme, token, Epoch(6));
        assert_eq!(older.expect_err("a zombie").kind, Kind::Fenced);
        // The same one, over another connection.
        let again = detached
            .attach(&acme, token, Epoch(7))
            .expect("it is the same");
        assert_eq!(put(&second, 9).expect_err("it had it").kind, Kind::Fenced);
        assert_eq!(second.take().expect_err("it had it").kind, Kind::Fenced);
        assert_eq!(again.take().expect("it has it"), [1, 2, 3]);
        let late = detached.attach(&acme, token, Epoch(8));
        assert_eq!(late.expect_err("it is sealed").kind, Kind::NotFound);
    }

    #[test]
    fn a_token_is_good_for_its_tenant_only() {
        let detached = Detached::default();
        let held = detached.detach(&tenant("acme"), ()).expect("there is room");
        let thief = detached.attach(&tenant("other"), held.token(), Epoch(1));
        assert_eq!(thief.expect_err("it is another's").kind, Kind::NotFound);
        held.with(|()| Ok(())).expect("nobody has taken it");
    }

    #[test]
    fn what_nobody_comes_for_is_given_up() {
        let detached = Detached::default();
        let acme = tenant("acme");
        let held = detached.detach(&acme, ()).expect("there is room");
        let gone = detached.detach(&acme, ()).expect("there is room");
        let (kept, left) = (held.token(), gone.token());
        drop(gone);
        let now = rt::now();
        detached.sweep(now);
        drop(detached.attach(&acme, left, Epoch(1)).expect("it is there"));
        detached.sweep(rt::now() + LEFT_FOR);
        let late = detached.attach(&acme, left, Epoch(2));
        assert_eq!(late.expect_err("it was left").kind, Kind::NotFound);
        held.with(|()| Ok(())).expect("it has it still");
        detached.attach(&acme, kept, Epoch(1)).expect("it is there");
    }

    #[test]
    fn a_tenant_has_so_many_at_most() {
        let detached = Detached::default();
        let acme = tenant("acme");
        let held: Vec<_> = (0..OBJECTS_MAX)
            .map(|_| detached.detach(&acme, ()).expect("there is room"))
            .collect();
        let more = detached.detach(&acme, ());
        assert_eq!(more.expect_err("there are many").kind, Kind::Exhausted);
        detached.detach(&tenant("other"), ()).expect("it has none");
        for held in held {
            held.take().expect("it has it");
        }
        detached.detach(&acme, ()).expect("they are sealed");
    }
}
