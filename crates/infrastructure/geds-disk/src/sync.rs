//! One sync for all who wait for one.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Syncs of one file, numbered. Who has written needs one that begins after that; who comes while one is under way waits for the next.
#[derive(Debug, Default)]
pub(crate) struct Together {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    ended: u64,
    /// The first failure is that of all later ones: the kernel may have dropped what it could not write.
    failure: Option<Arc<io::Error>>,
}

impl Together {
    /// Returns when everything is durable that was written before the call. Whoever finds no sync under way does it for all.
    pub(crate) fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> Result<(), Arc<io::Error>> {
        let mut state = self.lock();
        let wanted = state.begun + 1;
        loop {
            if let Some(failure) = &state.failure {
                return Err(Arc::clone(failure));
            }
            if state.ended >= wanted {
                return Ok(());
            }
            if state.begun == state.ended {
                break;
            }
            state = self
                .ended
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.begun += 1;
        drop(state);
        let result = sync();
        let mut state = self.lock();
        state.ended = state.begun;
        if let Err(error) = result {
            state.failure.get_or_insert(Arc::new(error));
        }
        let failure = state.failure.clone();
        drop(state);
        self.ended.notify_all();
        failure.map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
