//! Threads that others go before.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

const STACK_BYTES: usize = 1 << 20;

/// How far others go before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// It has a processor only as far as nobody else wants it (Linux: `SCHED_IDLE`).
    Idle,
    /// It has about a tenth of what others have who want as much (Linux: niceness 10).
    Low,
}

/// From now on this thread has that priority, and so have those that it starts. It keeps the locks that it has when somebody else comes first: so let
/// it take few, and for a few instructions.
///
/// # Errors
/// When the system does not allow it.
pub fn lower_priority(priority: Priority) -> io::Result<()> {
    match priority {
        Priority::Idle => {
            let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            let lowered =
                set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
            lowered.map_err(io::Error::other)
        }
        Priority::Low => {
            let thread = rustix::thread::gettid();
            Ok(rustix::process::setpriority_process(Some(thread), 10)?)
        }
    }
}

/// A thread with tasks that others go before. It ends when this is dropped, which waits for that, unless one of the tasks drops it.
pub struct Background {
    runtime: Handle,
    /// There until it is dropped, as is the thread.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// # Errors
    /// There is no such thread to be had.
    pub fn start(name: &str, priority: Priority) -> io::Result<Self> {
        let (tell, told) = sync_channel(1);
        let (end, ended) = oneshot::channel::<()>();
        let work = move || {
            let runtime = lower_priority(priority)
                .and_then(|()| Builder::new_current_thread().enable_all().build());
            match runtime {
                Ok(runtime) => {
                    tell.send(Ok(runtime.handle().clone())).ok();
                    runtime.block_on(ended).ok();
                }
                Err(error) => {
                    tell.send(Err(error)).ok();
                }
            }
        };
        let thread = crate::thread(name.to_owned(), STACK_BYTES, work)?;
        let runtime = told.recv().map_err(io::Error::other)??;
        Ok(Self {
            runtime,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Does it there. Whoever does not wait any more ends it.
    ///
    /// # Errors
    /// It has panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        let (tell, told) = oneshot::channel();
        let _task = {
            let _there = self.runtime.enter();
            crate::spawn("background", async move {
                // Nobody may want to know any more.
                tell.send(work.await).ok();
            })
        };
        told.await.map_err(io::Error::other)
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Background")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("a background thread has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// See proc_pid_stat(5): fields are counted from one, and those behind the name begin with the third.
    async fn stat(priority: Priority, field: usize) -> String {
        let background = Background::start("background", priority).expect("a thread");
        let stat = async { std::fs::read_to_string("/proc/thread-self/stat").expect("one") };
        let stat = background.run(stat).await.expect("it is read");
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        fields.split(' ').nth(field - 3).expect("a field").into()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn others_go_before() {
        assert_eq!(stat(Priority::Idle, 41).await, "5", "SCHED_IDLE");
        assert_eq!(stat(Priority::Low, 19).await, "10", "a niceness");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_does_not_wait_any_more_ends_it() {
        let background = Background::start("background", Priority::Low).expect("a thread");
        let (held, dropped) = oneshot::channel::<()>();
        let (begin, begun) = oneshot::channel();
        let endless = background.run(async move {
            let _held = held;
            begin.send(()).expect("somebody waits");
            std::future::pending::<()>().await;
        });
        tokio::select! {
            _ = endless => panic!("it has no end"),
            begun = begun => begun.expect("it has begun"),
        }
        dropped.await.expect_err("nobody has it");
        let panicking = background.run(async { panic!("on purpose") });
        panicking.await.expect_err("an error");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_of_its_tasks_may_drop_it() {
        let background = Background::start("background", Priority::Low).expect("a thread");
        let (tell, told) = oneshot::channel();
        let runtime = background.runtime.clone();
        let _task = {
            let _there = runtime.enter();
            crate::spawn("background", async move {
                drop(background);
                tell.send(()).expect("somebody waits");
            })
        };
        told.await.expect("it goes on");
    }
}
