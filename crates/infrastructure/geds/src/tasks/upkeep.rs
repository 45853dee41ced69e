//! What is to be done from time to time: the store's own upkeep, and a look at who the users are.

use std::ops::ControlFlow;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use auth::Shown;
use telemetry::Health;
use tokio::sync::oneshot;

use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::users::Watched;

const PERIOD: Duration = Duration::from_secs(1);
/// A snapshot of the index is made here.
const STACK_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Tick {
    pub store: Store,
    pub users: Watched,
    pub shown: Option<Shown>,
    pub health: Health,
}

impl Tick {
    /// `Break`: the store has ended, and only a new one goes on.
    fn tick(&mut self) -> ControlFlow<String> {
        let stats = self.store.stats();
        if stats.log.has_ended || stats.disk.has_failed {
            return ControlFlow::Break("its disk has failed, or has another owner".to_owned());
        }
        match self.store.maintain() {
            Ok(()) => self.health.clear("store"),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "maintain the store"
                );
                self.health.block("store", &error.to_string());
            }
        }
        match self.users.refresh() {
            Ok(()) => {}
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the users stay as they were"
            ),
        }
        if let Some(Err(error)) = self.shown.as_mut().map(Shown::refresh) {
            tracing::warn!(%error, "the certificate stays as it was");
        }
        if let Some(peers) = self.store.peers() {
            peers.set_credentials(self.users.as_peer());
        }
        match self.store.live() {
            Ok(()) => self.health.clear("site"),
            Err(error) => self.health.block("site", &error.to_string()),
        }
        ControlFlow::Continue(())
    }
}

/// The thread that does it, on a period and when it is told to. It ends when this is dropped, which waits for that.
#[derive(Debug)]
pub(crate) struct Upkeep {
    /// There until it is dropped.
    told: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    over: oneshot::Receiver<String>,
}

impl Upkeep {
    pub(crate) fn start(mut tick: Tick) -> Result<Self> {
        let (told, tells) = sync_channel(1);
        let (end, over) = oneshot::channel();
        let work = move || {
            while let Ok(()) | Err(RecvTimeoutError::Timeout) = tells.recv_timeout(PERIOD) {
                if let ControlFlow::Break(why) = tick.tick() {
                    // Nobody may want to know.
                    end.send(why).ok();
                    return;
                }
            }
        };
        let thread = rt::thread("geds upkeep".to_owned(), STACK_BYTES, work)
            .map_err(|error| Error::caused(Kind::Unavailable, "start the upkeep", error))?;
        Ok(Self {
            told: Some(told),
            thread: Some(thread),
            over,
        })
    }

    /// Has it done soon.
    pub(crate) fn tell(&self) {
        if let Some(told) = &self.told {
            // If it was told already, that will do.
            told.try_send(()).ok();
        }
    }

    /// Waits until it cannot go on, and says why.
    pub(crate) async fn over(&mut self) -> String {
        let why = (&mut self.over).await;
        why.unwrap_or_else(|_| "the upkeep has ended".to_owned())
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.told = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the upkeep has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use wal::testing::{Call, CrashDisk};

    use super::*;
    use crate::index::{BucketName, NodeId};
    use crate::store::{Disks, tenant};

    #[test]
    fn a_node_whose_disk_fails_is_over_and_says_why() {
        let disk = CrashDisk::default();
        let mut config = crate::Config::default();
        config.disk.segment = ids::ByteSize(1 << 20);
        config.log.segment = config.disk.segment;
        let disks = Disks {
            log: Arc::new(disk.clone()),
            objects: Arc::new(disk.clone()),
        };
        let store = Store::open(&config.store(), NodeId(1), disks).expect("it opens");
        let dir = tempfile::tempdir().expect("a directory");
        let health = Health::starting("starting");
        let mut upkeep = Upkeep::start(Tick {
            store: store.clone(),
            users: Watched::open(dir.path().join("users"), None).expect("nobody"),
            shown: None,
            health,
        })
        .expect("a thread");
        disk.hook(|call| match call {
            Call::SyncFile => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        });
        let acme = tenant("acme").expect("a tenant");
        let bucket = BucketName::new("data").expect("a bucket");
        let ack = store.create_bucket(&acme, &bucket).expect("it is seen");
        ack.wait().expect_err("it is not kept");
        upkeep.tell();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let why = runtime.expect("a runtime").block_on(upkeep.over());
        assert!(why.contains("disk"), "{why}");
    }
}
