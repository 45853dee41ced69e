//! The only door to clock, randomness, threads and tasks.
//!
//! Everything that makes two runs of the same code differ comes through here, so that a reader can find it and clippy can forbid it
//! elsewhere (see `clippy.toml`). Pure cores do not use this crate: they take `now` and random numbers as arguments.
//!
//! - [`now`], [`wall`]: the monotonic and the wall clock; [`thread_cpu_time`], [`process_cpu_time`]: what was spent on processors.
//! - [`fill_random`]: the kernel's entropy.
//! - [`thread`]: a named thread; [`lower_priority`]: one that others go before, and [`Background`]: one that has tasks; [`spawn`]: a named asynchronous task that ends when its handle is dropped; [`blocking`]: what may wait for a disk;
//!   [`runtime`]: where tasks of a program run that has few.
#![forbid(unsafe_code)]

use std::future::Future;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use rustix::time::ClockId;

mod background;

pub use background::{Background, Priority, lower_priority};

/// The monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock. It may jump; never measure with it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Fills `buffer` with the kernel's randomness.
///
/// # Panics
/// If the kernel has none to give, which Linux does not do after boot.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn fill_random(buffer: &mut [u8]) {
    getrandom::fill(buffer).expect("the kernel gives random bytes");
}

/// A random number, for names and seeds.
#[must_use]
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    fill_random(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Starts a named thread with a stack of `stack_bytes`.
///
/// # Errors
/// When the system refuses another thread.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn thread<T: Send + 'static>(
    name: String,
    stack_bytes: usize,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<std::thread::JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name)
        .stack_size(stack_bytes)
        .spawn(body)
}

/// A small asynchronous runtime: one worker.
///
/// # Errors
/// When the system refuses what it needs.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}

/// A running asynchronous task; dropping the handle ends it at its next await.
#[derive(Debug)]
#[must_use = "the task ends when its handle is dropped"]
pub struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Task {
    /// Ends the task at its next await, and waits until all that it has is dropped.
    pub async fn cancel(self) {
        self.0.abort();
        self.ended().await;
    }

    /// Waits until the task is over.
    pub async fn ended(mut self) {
        if let Err(error) = (&mut self.0).await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Starts an asynchronous task on the current runtime. `name` says in traces what it is.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn spawn(name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> Task {
    use tracing::Instrument as _;
    Task(tokio::spawn(
        future.instrument(tracing::debug_span!("task", name)),
    ))
}

/// Runs `work`, which may wait for a disk, on one of the runtime's threads for that, and waits for its end. `work` is run to its end even if
/// nobody waits for it any more. The runtime has at most 512 such threads, if it was not made otherwise; more waits for one of them.
///
/// # Errors
/// When the runtime is ending: `work` was not run.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// How long this thread has been on a processor.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    cpu_time(ClockId::ThreadCPUTime)
}

/// How long all threads of this process have been on a processor.
#[must_use]
pub fn process_cpu_time() -> Duration {
    cpu_time(ClockId::ProcessCPUTime)
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    let time = Duration::try_from(time);
    time.expect("nobody has used less than nothing")
}

/// The number of processors this process may run on.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The number of the user whom this process acts for.
#[must_use]
pub fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}
