//! The face for processes of the same machine: they read and write the memory of their tenant where it is.
//!
//! ```text
//!  process ──▶ node protocol, where it proves who it is: Attach ──▶ a token ──▶ the arena's socket: admitted to its tenant's memory
//!          ──▶ open a name ──▶ Agent ──▶ Store: if it is in memory, pages are lent; else the process reads by the node protocol
//! ```
//!
//! What a process seals is copied once, to where no process can write. Reading copies nothing.
//!
//! What is on the disk or in S3 is not waited for here, nor is a seal durable: the arena has one thread for all processes.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ids::Name as Tenant;

use super::node::native;
use crate::arena::{self, Admission, ClientNo, Domain, Keeper, Object, Share};
use crate::error::{Error, Kind, Result};
use crate::index::Name;
use crate::store::{Store, Terms};
use crate::wire::{Attached, Found, Reply, SealedAs, Token, name_of};

/// Of a node, and of one tenant.
const PROCESSES_MAX: usize = 1024;
const PROCESSES_OF_TENANT_MAX: usize = 128;
/// So long a token is good for.
const TOKEN_TIME: Duration = Duration::from_secs(10);
/// Of a tenant that were not used yet. One more, and the first is none any more.
const TOKENS_MAX: usize = 64;
/// A process may hold this part of its tenant's memory by reading, and as much by writing.
const PART: u64 = 8;
/// An object of a process is not longer: it is copied when it is sealed, and nobody else is heard meanwhile.
const UNSEALED_BYTES_MAX: u64 = 64 << 20;

/// Shares a node's memory until it is stopped.
#[derive(Debug)]
pub struct Local {
    path: PathBuf,
    store: Store,
    tokens: Arc<Tokens>,
    share: Mutex<Option<Share>>,
}

#[derive(Debug, Default)]
struct Tokens(Mutex<BTreeMap<Tenant, VecDeque<(Token, Instant)>>>);

#[derive(Debug)]
struct Agent {
    store: Store,
    tokens: Arc<Tokens>,
    processes: Mutex<BTreeMap<ClientNo, Tenant>>,
}

impl Local {
    /// Listens at `path`, where nothing else of this node is.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn start(path: &Path, store: Store) -> Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(format!("remove {}", path.display()), error));
            }
            _ => {}
        }
        let tokens = Arc::<Tokens>::default();
        let agent = Agent {
            store: store.clone(),
            tokens: Arc::clone(&tokens),
            processes: Mutex::default(),
        };
        let share = Share::start(path, Arc::new(agent), PROCESSES_MAX)?;
        let full = fs::canonicalize(path);
        Ok(Self {
            store,
            path: full.map_err(|error| Error::io(format!("find {}", path.display()), error))?,
            tokens,
            share: Mutex::new(Some(share)),
        })
    }

    /// Hears no process any more. What they have sealed is there. Waits for that.
    pub(crate) fn stop(&self) {
        let share = lock(&self.share).take();
        drop(share);
    }

    /// Lets in a process of a tenant.
    ///
    /// # Errors
    /// `Unavailable`: where it is cannot be told.
    pub(crate) fn attach(&self, tenant: &Tenant) -> Result<Attached> {
        let path = self.path.to_str().ok_or_else(|| {
            let what = "the directory of the node has a name that is no text";
            Error::new(Kind::Unavailable, what)
        })?;
        Ok(Attached {
            path: path.to_owned(),
            token: self.tokens.give(tenant),
            object_bytes_max: object_bytes_max(&self.store.lend(tenant)?),
        })
    }
}

impl Tokens {
    fn give(&self, tenant: &Tenant) -> Token {
        let mut token = Token([0; 16]);
        rt::fill_random(&mut token.0);
        let now = rt::now();
        let mut all = lock(&self.0);
        let own = all.entry(tenant.clone()).or_default();
        own.retain(|(_, given)| now - *given < TOKEN_TIME);
        if own.len() >= TOKENS_MAX {
            own.pop_front();
        }
        own.push_back((token.clone(), now));
        token
    }

    /// Whose it is.
    fn take(&self, token: &[u8]) -> Option<Tenant> {
        let now = rt::now();
        let mut all = lock(&self.0);
        let found = all.iter_mut().find_map(|(tenant, own)| {
            own.retain(|(_, given)| now - *given < TOKEN_TIME);
            let at = own.iter().position(|(other, _)| other.0 == token)?;
            own.remove(at);
            Some(tenant.clone())
        });
        all.retain(|_, own| !own.is_empty());
        found
    }
}

impl Agent {
    fn tenant(&self, process: ClientNo) -> Result<Tenant> {
        let tenant = lock(&self.processes).get(&process).cloned();
        tenant.ok_or_else(|| Error::new(Kind::Denied, "a process that was not admitted"))
    }

    fn seal(
        &self,
        process: ClientNo,
        name: &[u8],
        terms: &[u8],
        object: Object,
    ) -> Result<Vec<u8>> {
        let (name, terms) = (name_of(name)?, Terms::parse(terms)?);
        let tenant = self.tenant(process)?;
        self.store.check_name(&tenant, &name)?;
        // So its pages are the process's again, which cannot alter it any more.
        object.settle()?;
        let (entry, ack) = self.store.seal_object(&tenant, &name, object, terms)?;
        // It is ephemeral: nobody waits for the name to be durable.
        ack.wait_seen()?;
        let sealed = SealedAs {
            lost_with: Some(self.store.identity()),
            entry: native(&entry),
        };
        Ok(sealed.encode())
    }

    fn look_up(&self, process: ClientNo, name: &Name) -> Result<arena::Found> {
        let tenant = self.tenant(process)?;
        let found = self.store.find_in_memory(&tenant, name)?;
        let (entry, object) = found.ok_or_else(elsewhere)?;
        let meta = Found(native(&entry)).encode();
        if meta.len() > arena::META_BYTES_MAX {
            return Err(elsewhere());
        }
        Ok(arena::Found { object, meta })
    }
}

/// What a process has written and not sealed, and so one object.
fn object_bytes_max(domain: &Domain) -> u64 {
    (domain.limit_bytes() / PART).min(UNSEALED_BYTES_MAX)
}

/// The process reads it by the node protocol.
fn elsewhere() -> Error {
    Error::new(Kind::Unavailable, "the object is not in memory")
}

impl Keeper for Agent {
    fn admit(&self, process: ClientNo, _uid: u32, token: &[u8]) -> arena::Result<Admission> {
        let denied = || Error::new(Kind::Denied, "the token is not good any more, or never was");
        let tenant = self.tokens.take(token).ok_or_else(denied)?;
        let domain = self.store.lend(&tenant)?;
        let mut processes = lock(&self.processes);
        let n_own = processes.values().filter(|own| **own == tenant).count();
        if n_own >= PROCESSES_OF_TENANT_MAX {
            let what = format!("a tenant has at most {PROCESSES_OF_TENANT_MAX} such processes");
            return Err(arena::Error::new(Kind::Exhausted, what));
        }
        processes.insert(process, tenant);
        Ok(Admission {
            quota_bytes: domain.limit_bytes() / PART,
            unsealed_bytes_max: object_bytes_max(&domain),
            domain,
        })
    }

    fn sealed(
        &self,
        process: ClientNo,
        name: &[u8],
        meta: &[u8],
        object: Object,
    ) -> arena::Result<Vec<u8>> {
        Ok(self.seal(process, name, meta, object)?)
    }

    fn find(&self, process: ClientNo, name: &[u8]) -> arena::Result<arena::Found> {
        Ok(self.look_up(process, &name_of(name)?)?)
    }

    fn ask(&self, _process: ClientNo, _question: &[u8]) -> arena::Result<Vec<u8>> {
        let what = "there is nothing to be asked here: see the node protocol";
        Err(arena::Error::new(Kind::Invalid, what))
    }

    fn left(&self, process: ClientNo) {
        lock(&self.processes).remove(&process);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
