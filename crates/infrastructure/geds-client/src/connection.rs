//! One connection, and what is under way on it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use geds_core::index::NodeId;
use geds_core::{Error, Kind, Result};
use ids::Epoch;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::Tls;
use crate::link::{self, Frame, Incoming, Outgoing};
use crate::wire::proof::{Binding, Meeting};
use crate::wire::{
    self, Challenge, Header, Hello, Op, Prove, Reply, Request, Watch, Watched, Welcome,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that wait to be sent.
const QUEUED_MAX: usize = 64;
/// Objects that are open or written, for each of which there is room to say that it is not any more.
const HANDLES_MAX: usize = 256;
/// So many are sent with one call, if there are so many.
const BATCH_MAX: usize = 16;

pub(super) struct Connection {
    pub node: (NodeId, Epoch),
    requests: mpsc::Sender<Frame>,
    /// What is said when something is dropped.
    ends: mpsc::Sender<Frame>,
    waiting: Arc<Mutex<Waiting>>,
    last_request: AtomicU64,
    last_handle: AtomicU32,
    /// They end with this.
    _tasks: [rt::Task; 2],
}

/// Who waits for answers, by the numbers of requests.
#[derive(Debug, Default)]
struct Waiting {
    askers: HashMap<u64, oneshot::Sender<Answer>>,
    /// Why there are no more answers.
    over: Option<String>,
}

type Answer = Result<(Bytes, Bytes)>;

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Connection");
        debug.field("node", &self.node).finish_non_exhaustive()
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable(doing: &str, error: io::Error) -> Error {
    Error::caused(Kind::Unavailable, doing, error)
}

/// The node says something that no node says.
fn odd(error: Error) -> Error {
    Error::caused(Kind::Unavailable, "understand the node", error)
}

impl Connection {
    pub(super) async fn open(
        addr: SocketAddr,
        user: (&str, &str),
        tls: Option<&Tls>,
    ) -> Result<Self> {
        let opening = async {
            let (mut incoming, mut outgoing, binding) = dial(addr, tls)
                .await
                .map_err(|error| unavailable(&format!("connect to the node at {addr}"), error))?;
            let node = meet(&mut incoming, &mut outgoing, user, binding).await?;
            Ok::<_, Error>((incoming, outgoing, node))
        };
        let opened = timeout(CONNECT_TIMEOUT, opening).await;
        let slow = || {
            let what = format!("the node at {addr} does not answer in time");
            Error::new(Kind::Unavailable, what)
        };
        let (incoming, outgoing, node) = opened.map_err(|_| slow())??;
        let waiting = Arc::default();
        let (requests, queue) = mpsc::channel(QUEUED_MAX);
        let (ends, last_words) = mpsc::channel(HANDLES_MAX);
        let sending = send(outgoing, queue, last_words, Arc::clone(&waiting));
        let receiving = receive(incoming, Arc::clone(&waiting));
        Ok(Self {
            node,
            requests,
            ends,
            waiting,
            last_request: AtomicU64::new(2),
            last_handle: AtomicU32::new(0),
            _tasks: [
                rt::spawn("geds client requests", sending),
                rt::spawn("geds client answers", receiving),
            ],
        })
    }

    /// A request, and its answer.
    pub(super) async fn ask<T: Reply>(&self, request: &Request) -> Result<(T, Bytes)> {
        self.send(request, Vec::new()).await?.answer().await
    }

    pub(super) fn is_over(&self) -> bool {
        lock(&self.waiting).over.is_some()
    }

    /// A request that is sent, and not yet answered.
    pub(super) async fn send(&self, request: &Request, data: Vec<Bytes>) -> Result<Asked> {
        let number = self.last_request.fetch_add(1, Ordering::Relaxed) + 1;
        let (op, body) = request.encode();
        let asked = self.expect(number)?;
        let frame = Frame::request(number, op, &body, data);
        if self.requests.send(frame).await.is_err() {
            return Err(over(&self.waiting));
        }
        Ok(asked)
    }

    fn expect(&self, number: u64) -> Result<Asked> {
        let (asker, answer) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        if waiting.over.is_some() {
            drop(waiting);
            return Err(over(&self.waiting));
        }
        waiting.askers.insert(number, asker);
        Ok(Asked {
            number,
            answer,
            waiting: Arc::clone(&self.waiting),
        })
    }

    /// If nobody waits for it any more, the node is told.
    pub(super) async fn watch(&self, watch: Watch) -> Result<Watched> {
        let mut ending = self.handle().await?;
        let asked = self.send(&Request::Watch(watch), Vec::new()).await?;
        ending.request = Some(Request::Cancel(asked.number));
        let (watched, _) = asked.answer().await?;
        ending.request = None;
        Ok(watched)
    }

    /// A number for something that is opened or begun, and room to say that it is over.
    pub(super) async fn handle(&self) -> Result<Ending> {
        let room = self.ends.clone().reserve_owned().await;
        let number = self.last_request.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Ending {
            handle: self.last_handle.fetch_add(1, Ordering::Relaxed),
            number,
            room: Some(room.map_err(|_| over(&self.waiting))?),
            request: None,
        })
    }
}

/// Says that something is over when it is dropped.
pub(super) struct Ending {
    pub handle: u32,
    number: u64,
    room: Option<mpsc::OwnedPermit<Frame>>,
    /// `None`: it need not be said.
    pub request: Option<Request>,
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ending").field(&self.handle).finish()
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let (Some(room), Some(request)) = (self.room.take(), &self.request) {
            let (op, body) = request.encode();
            // Nobody waits for the answer.
            room.send(Frame::request(self.number, op, &body, Vec::new()));
        }
    }
}

/// A request whose answer is waited for.
#[derive(Debug)]
pub struct Asked {
    number: u64,
    answer: oneshot::Receiver<Answer>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        lock(&self.waiting).askers.remove(&self.number);
    }
}

impl Asked {
    pub async fn answer<T: Reply>(mut self) -> Result<(T, Bytes)> {
        match (&mut self.answer).await {
            Ok(answer) => {
                let (body, data) = answer?;
                Ok((T::parse(&body).map_err(odd)?, data))
            }
            Err(_) => Err(over(&self.waiting)),
        }
    }
}

fn over(waiting: &Mutex<Waiting>) -> Error {
    let why = lock(waiting).over.clone();
    let why = why.unwrap_or_else(|| "it was closed here".to_owned());
    let what = format!("the connection to the node has ended: {why}");
    Error::new(Kind::Unavailable, what)
}

/// Nothing is answered any more.
fn end(waiting: &Mutex<Waiting>, why: String) {
    let mut waiting = lock(waiting);
    waiting.over.get_or_insert(why);
    // Those who wait find out by this.
    waiting.askers.clear();
}

async fn send(
    mut outgoing: Outgoing,
    mut requests: mpsc::Receiver<Frame>,
    mut ends: mpsc::Receiver<Frame>,
    waiting: Arc<Mutex<Waiting>>,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        // What ends something was said after what it ends was asked, and is sent after it.
        let first = tokio::select! {
            biased;
            first = requests.recv() => first,
            first = ends.recv() => first,
        };
        let Some(first) = first else {
            return;
        };
        batch.push(first);
        while batch.len() < BATCH_MAX
            && let Ok(frame) = requests.try_recv()
        {
            batch.push(frame);
        }
        if let Err(error) = outgoing.send(&batch).await {
            return end(&waiting, error.to_string());
        }
        batch.clear();
    }
}

async fn receive(mut incoming: Incoming, waiting: Arc<Mutex<Waiting>>) {
    let why = loop {
        match hear(&mut incoming, &waiting).await {
            Ok(true) => {}
            Ok(false) => break "the node has closed it".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    end(&waiting, why);
}

async fn hear(incoming: &mut Incoming, waiting: &Mutex<Waiting>) -> io::Result<bool> {
    if !incoming.wait().await? {
        return Ok(false);
    }
    let header = Header::parse(&incoming.header().await?).map_err(io::Error::other)?;
    let body = incoming.bytes(header.body_bytes).await?;
    if header.request == 0 || !header.is_reply {
        let error = wire::error(header.error.unwrap_or(Kind::Internal), &body);
        return Err(io::Error::other(error));
    }
    let asker = lock(waiting).askers.remove(&header.request);
    let Some(asker) = asker else {
        incoming.skip(header.data_bytes).await?;
        return Ok(true);
    };
    let data = incoming.bytes(header.data_bytes).await?;
    let answer = match header.error {
        None => Ok((body, data)),
        Some(kind) => Err(wire::error(kind, &body)),
    };
    // Whoever asked may have gone.
    asker.send(answer).ok();
    Ok(true)
}

async fn dial(addr: SocketAddr, tls: Option<&Tls>) -> io::Result<(Incoming, Outgoing, Binding)> {
    let socket = TcpStream::connect(addr).await?;
    let Some(tls) = tls else {
        let (incoming, outgoing) = link::plain(socket)?;
        return Ok((incoming, outgoing, Binding::default()));
    };
    let name = ServerName::try_from(tls.name.clone()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let stream = connector.connect(name, socket).await?;
    let binding = link::binding(stream.get_ref().1)?;
    let (incoming, outgoing) = link::secure(stream.into())?;
    Ok((incoming, outgoing, binding))
}

async fn meet(
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
    (access_key, secret): (&str, &str),
    binding: Binding,
) -> Result<(NodeId, Epoch)> {
    let mut client = [0; 32];
    rt::fill_random(&mut client);
    let hello = Hello {
        access_key: access_key.to_owned(),
        nonce: client,
    };
    let challenge: Challenge = say(incoming, outgoing, (1, Op::Hello), &hello).await?;
    let meeting = Meeting {
        client,
        node: challenge.nonce,
        binding,
    };
    let prove = Prove {
        proof: meeting.client_proves(secret),
    };
    let welcome: Welcome = say(incoming, outgoing, (2, Op::Prove), &prove).await?;
    meeting.check_node(secret, &welcome.proof)?;
    Ok((welcome.node, welcome.epoch))
}

/// Says something, and hears the answer, before anything else is said.
async fn say<T: Reply>(
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
    (number, op): (u64, Op),
    what: &impl Reply,
) -> Result<T> {
    let frame = Frame::request(number, op, &what.encode(), Vec::new());
    let failed = |error| unavailable("speak with the node", error);
    outgoing.send(&[frame]).await.map_err(failed)?;
    let header = Header::parse(&incoming.header().await.map_err(failed)?).map_err(odd)?;
    let body = incoming.bytes(header.body_bytes).await.map_err(failed)?;
    match header.error {
        None => T::parse(&body).map_err(odd),
        Some(kind) => Err(wire::error(kind, &body)),
    }
}
