//! What all who read and write share: the controller, connections to stores, and what was learnt of both.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use streams_wire::replies::Reply;
use streams_wire::requests::Request;
use streams_wire::shapes::DelegationToken;

use crate::connection::{Connection, Endpoint};
use crate::controller::{Access, Address, Controller, Credentials};
use crate::cut::StreamCut;
use crate::names::{SegmentName, StreamName};
use crate::patience::Patience;
use crate::token::Token;
use crate::{Error, Segment, token};

/// Whom to ask, as whom, and how patiently.
#[derive(Clone, Debug)]
pub struct Config {
    pub controller: Address,
    /// For the controller and for stores, if the address says so.
    pub tls: Option<Arc<ClientConfig>>,
    /// None where nobody has to say who asks.
    pub credentials: Option<Credentials>,
    /// To each store.
    pub connections: usize,
    /// How long what fails is tried again, if nothing succeeds.
    pub patience: Duration,
    /// Of a writer, for each segment: what is not acknowledged yet.
    pub window: Window,
}

/// When a writer waits. One event is let in however large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub events: usize,
    pub bytes: usize,
    /// What comes while so many are under way is sent together.
    pub appends: usize,
}

impl Config {
    #[must_use]
    pub fn new(controller: Address) -> Self {
        Self {
            controller,
            tls: None,
            credentials: None,
            connections: 2,
            patience: Duration::from_mins(1),
            window: Window {
                events: 100_000,
                bytes: 16 << 20,
                appends: 16,
            },
        }
    }
}

/// Cheap to clone: all clones are the same one.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    controller: Controller,
    located: Cache<SegmentName, Endpoint>,
    tokens: Cache<(StreamName, Access), Token>,
    connections: Cache<Endpoint, Arc<Vec<Slot>>>,
    next_slot: AtomicUsize,
}

/// A connection, if there is one. Who needs it while it is opened waits.
type Slot = tokio::sync::Mutex<Option<Arc<Connection>>>;

impl Client {
    /// It connects when it has to.
    ///
    /// # Errors
    /// `Refused`: the configuration makes no sense.
    pub fn new(mut config: Config) -> Result<Self, Error> {
        if !config.controller.is_tls {
            config.tls = None;
        } else if config.tls.is_none() {
            let why = "for tls:// it has to be said whom to trust";
            return Err(Error::Refused(why.to_owned()));
        }
        let credentials = config.credentials.as_ref();
        let controller = Controller::new(&config.controller, config.tls.clone(), credentials)?;
        let shared = Shared {
            config,
            controller,
            located: Cache::default(),
            tokens: Cache::default(),
            connections: Cache::default(),
            next_slot: AtomicUsize::new(0),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    #[must_use]
    pub fn controller(&self) -> &Controller {
        &self.shared.controller
    }

    /// Where a stream ends now.
    ///
    /// # Errors
    /// `NotFound`; what the controller or a store says.
    pub async fn tail(&self, stream: &StreamName) -> Result<StreamCut, Error> {
        let mut offsets = BTreeMap::new();
        for range in self.controller().current_segments(stream).await? {
            let segment = Segment::new(self, stream.segment(range.number));
            offsets.insert(range.number, segment.info().await?.length);
        }
        let stream = stream.clone();
        Ok(StreamCut { stream, offsets })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience::new(self.shared.config.patience)
    }

    /// A connection to the store that has the segment.
    pub(crate) async fn connect(&self, segment: &SegmentName) -> Result<Arc<Connection>, Error> {
        let endpoint = match self.shared.located.get(segment) {
            Some(endpoint) => endpoint,
            None => {
                let endpoint = self.controller().locate(segment).await?;
                self.shared.located.put(segment.clone(), endpoint.clone());
                endpoint
            }
        };
        let connected = self.connection(&endpoint).await;
        if connected.is_err() {
            self.shared.located.forget(segment);
        }
        connected
    }

    async fn connection(&self, to: &Endpoint) -> Result<Arc<Connection>, Error> {
        let slots = self.shared.connections.get_or_put(to, || {
            let n_slots = self.config().connections.max(1);
            Arc::new((0..n_slots).map(|_| Slot::default()).collect())
        });
        let next = self.shared.next_slot.fetch_add(1, Ordering::Relaxed);
        let mut slot = slots[next % slots.len()].lock().await;
        if let Some(connection) = &*slot
            && !connection.has_ended()
        {
            return Ok(connection.clone());
        }
        let connection = Connection::open(to, self.config().tls.clone()).await?;
        Ok(slot.insert(Arc::new(connection)).clone())
    }

    /// What the store of a segment wants to see.
    pub(crate) async fn token(
        &self,
        stream: &StreamName,
        access: Access,
    ) -> Result<DelegationToken, Error> {
        if self.config().credentials.is_none() {
            return Ok(DelegationToken::default());
        }
        let key = (stream.clone(), access);
        if let Some(token) = self.shared.tokens.get(&key)
            && !token.is_ending(rt::wall())
        {
            return Ok(token.text);
        }
        let text = self.controller().token(stream, access).await?;
        let token = Token {
            ends: token::ends(&text.0),
            text: text.clone(),
        };
        self.shared.tokens.put(key, token);
        Ok(text)
    }

    /// What a failure says of what was learnt.
    pub(crate) fn learn(&self, segment: &SegmentName, why: &Error) {
        match why {
            Error::WrongHost { .. } | Error::Disconnected(_) => self.shared.located.forget(segment),
            Error::Auth { .. } => {
                for access in [Access::Read, Access::Write] {
                    self.shared.tokens.forget(&(segment.stream.clone(), access));
                }
            }
            _ => {}
        }
    }

    /// Asks what may be asked twice, until there is an answer.
    pub(crate) async fn ask(
        &self,
        segment: &SegmentName,
        access: Access,
        request: impl Fn(i64, DelegationToken) -> Request,
    ) -> Result<Reply, Error> {
        let mut patience = self.patience();
        loop {
            let asked = self.attempt(segment, access, &request).await;
            match asked.and_then(|answer| answer) {
                Ok(reply) => return Ok(reply),
                Err(why) => patience.wait(why).await?,
            }
        }
    }

    /// Asks what must not be done twice, until there is an answer, or a connection ends and nobody knows.
    pub(crate) async fn change(
        &self,
        segment: &SegmentName,
        access: Access,
        request: impl Fn(i64, DelegationToken) -> Request,
    ) -> Result<Reply, Error> {
        let mut patience = self.patience();
        loop {
            match self.attempt(segment, access, &request).await {
                Ok(Err(why)) if why.did_nothing() => patience.wait(why).await?,
                Ok(answer) => return answer,
                Err(why) => patience.wait(why).await?,
            }
        }
    }

    /// An error outside means that the store was not asked.
    async fn attempt(
        &self,
        segment: &SegmentName,
        access: Access,
        request: impl Fn(i64, DelegationToken) -> Request,
    ) -> Result<Result<Reply, Error>, Error> {
        let token = self.token(&segment.stream, access).await?;
        let connection = self.connect(segment).await?;
        let answer = connection.call(|id| request(id, token)).await;
        if let Err(why) = &answer {
            self.learn(segment, why);
        }
        Ok(answer)
    }
}

/// What can be learnt again. When it is full, all is forgotten.
#[derive(Debug)]
struct Cache<K, V>(Mutex<HashMap<K, V>>);

const CACHED_MAX: usize = 10_000;

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).cloned()
    }

    fn put(&self, key: K, value: V) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CACHED_MAX {
            known.clear();
        }
        known.insert(key, value);
    }

    fn get_or_put(&self, key: &K, make: impl FnOnce() -> V) -> V {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CACHED_MAX {
            known.clear();
        }
        known.entry(key.clone()).or_insert_with(make).clone()
    }

    fn forget(&self, key: &K) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(key);
    }
}
