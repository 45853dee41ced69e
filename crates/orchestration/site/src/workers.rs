//! Threads for calls that may hang.
//!
//! There is at most one call for each unit, and a bounded number of log readings, so the queue is bounded. A thread is made when none is
//! free, and ends when it has had nothing to do for a while. A call that hangs keeps its thread; the others go on.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most calls at one time. If so many hang, new ones wait.
const THREADS_MAX: usize = 64;
/// Drivers start processes and dial; they do not compile.
const STACK_BYTES: usize = 512 << 10;
const IDLE: Duration = Duration::from_secs(2);

type Job = Box<dyn FnOnce() + Send>;

#[derive(Clone, Default)]
pub(crate) struct Workers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    n_threads: usize,
    n_idle: usize,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl Workers {
    /// Runs `job` soon. It must not panic: what may is caught inside it.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        state.jobs.push_back(Box::new(job));
        if state.jobs.len() <= state.n_idle || state.n_threads == THREADS_MAX {
            self.0.work.notify_one();
            return;
        }
        let workers = self.clone();
        match rt::thread("driver-call".into(), STACK_BYTES, move || workers.serve()) {
            Ok(_) => state.n_threads += 1,
            // The next free thread does it; without any, the next call tries again.
            Err(error) => tracing::warn!(%error, "no thread for a call of a driver"),
        }
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.lock();
                continue;
            }
            state.n_idle += 1;
            let waited = self.0.work.wait_timeout(state, IDLE);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.n_idle -= 1;
            if timeout.timed_out() && state.jobs.is_empty() {
                state.n_threads -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs run outside the lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn calls_that_hang_do_not_keep_others_waiting() {
        let workers = Workers::default();
        let (release, hang) = sync_channel::<()>(0);
        let hang = Arc::new(Mutex::new(hang));
        for _ in 1..THREADS_MAX {
            let hang = Arc::clone(&hang);
            workers.run(move || drop(hang.lock().map(|hang| hang.recv())));
        }
        let (done, results) = sync_channel(1_000);
        for number in 0..1_000 {
            let done = done.clone();
            workers.run(move || done.send(number).expect("the test waits"));
        }
        let mut numbers: Vec<i32> = results.iter().take(1_000).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
        assert!(workers.lock().n_threads <= THREADS_MAX);
        drop(release);
    }
}
