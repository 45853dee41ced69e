//! Background tasks, one a file. None takes an input: each looks at the state, does what is to be done, and would do nothing if it ran again.
//! They run on a signal, for speed, and on a period, because signals can be missed and time passes.

mod execute;
mod offers;
mod plan;
mod project;
mod sweep;

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rt::Task;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use workload::link::PERIOD;

use super::{Controller, Inner};
use crate::Error;

pub(crate) use project::Shown;
pub(super) use project::finish;

const SWEEP_PERIOD: Duration = Duration::from_secs(10);
/// After a failure, so that a task whose signal stays does not spin.
const PAUSE: Duration = Duration::from_millis(100);

impl Controller {
    /// Starts them. They end when the handles are dropped.
    pub(crate) fn start_tasks(&self) -> Vec<Task> {
        let inner = self.inner();
        let start = |name, task: Pin<Box<dyn Future<Output = ()> + Send>>| {
            rt::spawn(name, inner.failure.guarded(name, task))
        };
        let inner = || Arc::clone(inner);
        let plan = on(inner(), "plan", PERIOD, |i| &i.signals.plan, plan::tick);
        let execute = on(
            inner(),
            "execute",
            PERIOD,
            |i| &i.signals.execute,
            |i| {
                execute::tick(&i);
                ready(Ok(()))
            },
        );
        let offers = on(
            inner(),
            "offers",
            PERIOD,
            |i| &i.signals.offers,
            |i| {
                offers::tick(&i);
                ready(Ok(()))
            },
        );
        let project = on(
            inner(),
            "project",
            PERIOD,
            |i| &i.signals.project,
            project::tick,
        );
        let sweep = on(
            inner(),
            "sweep",
            SWEEP_PERIOD,
            |i| &i.signals.sweep,
            sweep::tick,
        );
        vec![
            start("follow", Box::pin(follow(inner()))),
            start("plan", Box::pin(plan)),
            start("execute", Box::pin(execute)),
            start("offers", Box::pin(offers)),
            start("project", Box::pin(project)),
            start("sweep", Box::pin(sweep)),
        ]
    }
}

/// Follows what other controllers commit.
async fn follow(inner: Arc<Inner>) {
    let mut revision = inner.store.meta().revision();
    while revision.changed().await.is_ok() {
        revision.borrow_and_update();
        if let Err(error) = inner.catch_up() {
            failed(&inner, "follow", &error);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn on<Tick, Run>(
    inner: Arc<Inner>,
    name: &'static str,
    period: Duration,
    signal: fn(&Inner) -> &Notify,
    tick: Tick,
) where
    Tick: Fn(Arc<Inner>) -> Run,
    Run: Future<Output = Result<(), Error>>,
{
    let mut clock = interval(period);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = signal(&inner).notified() => {}
            _ = clock.tick() => {}
        }
        if let Err(error) = tick(Arc::clone(&inner)).await {
            failed(&inner, name, &error);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn failed(inner: &Inner, task: &str, error: &Error) {
    inner.metrics.task_failures.with_label_values(&[task]).inc();
    let source = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(task, %error, source, "a background task failed; it will be run again");
}
