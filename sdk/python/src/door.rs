//! Which node, who asks it, and the connection to it.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use geds_client::index::{BucketName, Class, Name};
use geds_client::{Client, Credentials};
use geds_client::{Error, Kind, Result};
use pyo3::prelude::*;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure;
use crate::runtime::{self, Own};

/// Objects that may be open or written at a time, of the 256 for which a connection has room.
const HANDLES_MAX: usize = 240;
/// Names that were written and are remembered one by one.
const WRITTEN_MAX: usize = 1 << 16;

pub(crate) struct Door {
    node: String,
    credentials: Credentials,
    pub(crate) class: Class,
    // Both are locked by who has the interpreter, and not while it is given away: see `runtime`.
    link: Mutex<Option<Own<Link>>>,
    written: Mutex<Written>,
}

/// A connection.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) client: Client,
    handles: Arc<Semaphore>,
}

/// What a process has sealed since it was asked for.
#[derive(Default)]
pub(crate) struct Written {
    pid: u32,
    pub(crate) names: BTreeSet<Name>,
    /// There were too many names: anything in these.
    pub(crate) buckets: BTreeSet<BucketName>,
}

impl Link {
    /// The right to open or write one more object.
    pub(crate) fn handle(&self) -> Result<OwnedSemaphorePermit> {
        let handle = Arc::clone(&self.handles).try_acquire_owned();
        handle.map_err(|_| {
            let what = format!("{HANDLES_MAX} objects are open here: close some");
            Error::new(Kind::Exhausted, what)
        })
    }
}

impl Door {
    pub(crate) fn new(node: String, credentials: Credentials, class: Class) -> Self {
        Self {
            node,
            credentials,
            class,
            link: Mutex::new(None),
            written: Mutex::default(),
        }
    }

    /// Connects if there is no connection of this process.
    pub(crate) fn link(&self, py: Python<'_>) -> PyResult<Link> {
        if let Some(link) = lock(&self.link).as_ref().and_then(Own::get) {
            return Ok(link.clone());
        }
        let link = runtime::attempt(py, self.connect())?;
        *lock(&self.link) = Some(Own::new(link.clone()));
        Ok(link)
    }

    /// The next call connects again. What is open stays so.
    pub(crate) fn forget_link(&self, _py: Python<'_>) {
        lock(&self.link).take();
    }

    /// At the first of the addresses that the node's name has where somebody answers.
    async fn connect(&self) -> Result<Link> {
        let node = self.node.clone();
        // Asking for the addresses of a name may take long.
        let found = rt::blocking(move || resolve(&node)).await;
        let found = found.map_err(|error| Error::new(Kind::Unavailable, error.to_string()))??;
        let mut failed = None;
        for addr in found {
            match Client::connect(addr, &self.credentials, None).await {
                Ok(client) => {
                    let handles = Arc::new(Semaphore::new(HANDLES_MAX));
                    return Ok(Link { client, handles });
                }
                Err(error) if error.kind == Kind::Unavailable => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failed.unwrap_or_else(|| no_node(&self.node, "it has no address")))
    }

    /// Asks something that changes nothing. If the connection has ended, once more over another.
    pub(crate) fn look<T: Send, F: Future<Output = Result<T>> + Send>(
        &self,
        py: Python<'_>,
        ask: impl Fn(Link) -> F,
    ) -> PyResult<T> {
        let first = runtime::wait(py, ask(self.link(py)?))?;
        match first {
            Err(error) if error.kind == Kind::Unavailable => {
                self.forget_link(py);
                runtime::attempt(py, ask(self.link(py)?))
            }
            first => first.map_err(|error| failure::raise(py, &error)),
        }
    }

    /// Has something done, once: nobody knows whether it was done when the connection ends meanwhile.
    pub(crate) fn change<T: Send, F: Future<Output = Result<T>> + Send>(
        &self,
        py: Python<'_>,
        ask: impl FnOnce(Link) -> F,
    ) -> PyResult<T> {
        let done = runtime::wait(py, ask(self.link(py)?))?;
        done.map_err(|error| {
            self.noticed(py, &error);
            failure::raise(py, &error)
        })
    }

    /// What is wrong may be the connection.
    pub(crate) fn noticed(&self, py: Python<'_>, error: &Error) {
        if error.kind == Kind::Unavailable {
            self.forget_link(py);
        }
    }

    pub(crate) fn wrote(&self, _py: Python<'_>, name: &Name) {
        let mut written = self.written();
        if !written.buckets.contains(&name.bucket) {
            written.names.insert(name.clone());
        }
        if written.names.len() > WRITTEN_MAX {
            let names = std::mem::take(&mut written.names);
            let buckets = names.into_iter().map(|name| name.bucket);
            written.buckets.extend(buckets);
        }
    }

    pub(crate) fn take_written(&self, _py: Python<'_>) -> Written {
        std::mem::take(&mut *self.written())
    }

    /// A child of a fork begins with nothing.
    fn written(&self) -> MutexGuard<'_, Written> {
        let mut written = lock(&self.written);
        let here = process::id();
        if written.pid != here {
            *written = Written::default();
            written.pid = here;
        }
        written
    }
}

fn resolve(node: &str) -> Result<Vec<SocketAddr>> {
    let found = node.to_socket_addrs();
    let found = found.map_err(|error| no_node(node, &error.to_string()))?;
    Ok(found.collect())
}

fn no_node(node: &str, why: &str) -> Error {
    let what = format!("find the node at `{node}`, HOST:PORT is wanted: {why}");
    Error::new(Kind::Invalid, what)
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
