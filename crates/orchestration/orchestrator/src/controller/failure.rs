//! What a controller cannot go on after: a store that promises nothing more, or a part that has panicked. It is said, and whoever started the
//! controller ends it; half of one, which answers and does nothing, is worse than none.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;

/// Clones share what has failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure(Arc<watch::Sender<Option<String>>>);

impl Failure {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// The first one counts.
    pub(crate) fn note(&self, what: &str) {
        let is_first = self.0.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert_with(|| what.to_owned());
            is_first
        });
        if is_first {
            tracing::error!(what, "the controller cannot go on");
        }
    }

    pub(crate) fn get(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// What has failed, once something has. Cancel-safe.
    pub(crate) async fn wait(&self) -> String {
        let mut failure = self.0.subscribe();
        let failed = failure.wait_for(Option::is_some).await;
        let failed = failed.ok().and_then(|failure| failure.clone());
        failed.expect("the sender is here, and it was waited for")
    }

    /// Notes a panic while it lives.
    pub(crate) fn guard(&self, part: &str) -> Guard {
        Guard {
            failure: self.clone(),
            part: part.to_owned(),
        }
    }

    /// The same, for a task.
    pub(crate) fn guarded<T: Future<Output = ()> + Send>(
        &self,
        part: &str,
        task: T,
    ) -> impl Future<Output = ()> + Send + use<T> {
        let guard = self.guard(part);
        async move {
            task.await;
            drop(guard);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Guard {
    failure: Failure,
    part: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = format!("{} has panicked: see the log", self.part);
            self.failure.note(&what);
        }
    }
}
