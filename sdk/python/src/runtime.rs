//! The runtime on which a process speaks with its nodes, and what a fork does to it.
//!
//! A child of a fork has all of the memory and none of the threads. What the parent's runtime has begun never ends there, and its locks may be
//! held for ever. So a child makes a runtime of its own, and neither uses nor drops what belongs to the parent's.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::process;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::failure;

/// So often somebody who waits looks whether there is a signal for Python.
const SIGNALS_EACH: Duration = Duration::from_millis(100);
/// They move bytes between sockets and whoever waits for them.
const N_THREADS: usize = 2;

/// Of which process, and its runtime, which is never dropped: files are closed until the very end of the interpreter.
static RUNTIME: Mutex<Option<(u32, &'static Runtime)>> = Mutex::new(None);

/// Who asks has the interpreter, as has who forks: so no child finds it locked.
fn runtime(_py: Python<'_>) -> PyResult<&'static Runtime> {
    let mut found = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let here = process::id();
    if let Some((pid, runtime)) = *found
        && pid == here
    {
        return Ok(runtime);
    }
    let made = Builder::new_multi_thread()
        .worker_threads(N_THREADS)
        .thread_name("geds")
        .enable_all()
        .build();
    let made = made.map_err(|error| PyOSError::new_err(format!("start threads: {error}")))?;
    let runtime: &'static Runtime = Box::leak(Box::new(made));
    *found = Some((here, runtime));
    Ok(runtime)
}

/// Waits for something without the interpreter. If a signal comes whose handler raises, `future` is dropped.
pub(crate) fn wait<T: Send>(py: Python<'_>, future: impl Future<Output = T> + Send) -> PyResult<T> {
    let runtime = runtime(py)?;
    let mut future = pin!(future);
    loop {
        let step = async { timeout(SIGNALS_EACH, &mut future).await };
        match py.detach(|| runtime.block_on(step)) {
            Ok(done) => return Ok(done),
            Err(_) => check_signals(py)?,
        }
    }
}

thread_local! {
    /// Whether a handler of a signal runs that has interrupted somebody who waits.
    static INTERRUPTING: Cell<bool> = const { Cell::new(false) };
}

fn check_signals(py: Python<'_>) -> PyResult<()> {
    let before = INTERRUPTING.replace(true);
    let checked = py.check_signals();
    INTERRUPTING.set(before);
    checked
}

/// Would whoever calls this wait for what goes on only when it returns? To be asked before something is waited for that one call has at a time.
pub(crate) fn would_wait_for_itself<T>(mutex: &tokio::sync::Mutex<T>) -> bool {
    INTERRUPTING.get() && mutex.try_lock().is_err()
}

/// The same for what can fail.
pub(crate) fn attempt<T: Send>(
    py: Python<'_>,
    future: impl Future<Output = geds_client::Result<T>> + Send,
) -> PyResult<T> {
    wait(py, future)?.map_err(|error| failure::raise(py, &error))
}

/// Something of the process that made it.
pub(crate) struct Own<T> {
    pid: u32,
    value: Option<T>,
}

impl<T> Own<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            pid: process::id(),
            value: Some(value),
        }
    }

    /// `None`: it was made before this process was forked.
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.is_here())
    }

    fn is_here(&self) -> bool {
        self.pid == process::id()
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        if !self.is_here() {
            std::mem::forget(self.value.take());
        }
    }
}
