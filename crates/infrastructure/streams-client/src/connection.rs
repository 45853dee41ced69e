//! One connection to a store.
//!
//! ```text
//!  call ──┐                          ┌─▶ writing ─▶ socket       of each call the reply with its request id;
//!  flow ──┴─▶ requests, a bounded ───┘                           of each flow all replies with its id, in order
//!  call, flow ◀── slots, by request id ◀── reading ◀── socket
//! ```
//!
//! When it ends, on whichever side, all that wait in a slot are told why; from then on nobody gets one.

use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rt::Task;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use streams_wire::Outgoing;
use streams_wire::frame::{Split, split};
use streams_wire::replies::Reply;
use streams_wire::requests::{Hello, KeepAlive, Request};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{interval, timeout};
use tokio_rustls::TlsConnector;

use crate::Error;
use crate::error::accept;

/// Waiting for their replies.
const CALLS_MAX: usize = 1024;
/// Waiting to be written. Each may be an append of a MiB.
const REQUESTS_MAX: usize = 16;
/// Written with one call of the system, if they are there.
const WRITE_BYTES: usize = 256 << 10;
const READ_BYTES_MIN: usize = 64 << 10;
const READ_BYTES_MAX: usize = 2 << 20;
const OPEN_MAX: Duration = Duration::from_secs(10);
/// Upstream's clients ask as often. A store that says nothing twice is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Where a store, or the controller, is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

#[derive(Debug)]
pub struct Connection {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
    calls: Semaphore,
    last_id: AtomicI64,
    _reading: Task,
}

#[derive(Debug, Default)]
struct Shared {
    slots: Mutex<Slots>,
    was_heard: AtomicBool,
}

#[derive(Debug, Default)]
struct Slots {
    open: HashMap<i64, Slot>,
    why_ended: Option<Error>,
}

#[derive(Debug)]
enum Slot {
    Call(oneshot::Sender<Result<Reply, Error>>),
    Flow(mpsc::Sender<Result<Reply, Error>>),
}

impl Connection {
    /// # Errors
    /// `Disconnected`; `Protocol`: there is something else, or a store that speaks no version in common.
    pub async fn open(to: &Endpoint, tls: Option<Arc<ClientConfig>>) -> Result<Self, Error> {
        let opening = async {
            let address = (to.host.as_str(), to.port);
            let stream = TcpStream::connect(address).await.map_err(disconnected)?;
            stream.set_nodelay(true).map_err(disconnected)?;
            let Some(tls) = tls else {
                let (input, output) = stream.into_split();
                return Self::start(input, output).await;
            };
            let stream = secure(stream, tls, &to.host).await?;
            let (input, output) = tokio::io::split(stream);
            Self::start(input, output).await
        };
        let opened = timeout(OPEN_MAX, opening).await;
        opened.unwrap_or_else(|_| Err(Error::Disconnected("nobody answers".to_owned())))
    }

    async fn start(
        mut input: impl AsyncRead + Unpin + Send + 'static,
        mut output: impl AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, Error> {
        let mut hello = Outgoing::default();
        let encoded = Request::from(Hello::OURS).encode(&mut hello);
        encoded.expect("it is short");
        output
            .write_all_buf(&mut hello)
            .await
            .map_err(disconnected)?;
        let mut received = BytesMut::new();
        match next(&mut input, &mut received, &AtomicBool::default()).await? {
            Reply::Hello(theirs) if Hello::OURS.meets(&theirs) => {}
            Reply::Hello(theirs) => {
                return Err(Error::Protocol(format!("the store speaks {theirs:?}")));
            }
            other => return Err(Error::unexpected(&other)),
        }
        let shared = Arc::new(Shared::default());
        let (requests, to_write) = mpsc::channel(REQUESTS_MAX);
        let reading = run(
            input,
            received,
            output,
            shared.clone(),
            requests.clone(),
            to_write,
        );
        Ok(Self {
            requests,
            shared,
            calls: Semaphore::new(CALLS_MAX),
            last_id: AtomicI64::new(0),
            _reading: rt::spawn("streams connection", reading),
        })
    }

    /// Asks, and waits for the answer. `request` is given the id that its request has to have. If the caller does not wait any more, the reply is
    /// dropped when it comes.
    ///
    /// # Errors
    /// What the store answers; `Disconnected`: nobody knows.
    pub async fn call(&self, request: impl FnOnce(i64) -> Request) -> Result<Reply, Error> {
        let permit = self.calls.acquire().await;
        let _permit = permit.expect("it is never closed");
        let id = self.next_id();
        let (told, reply) = oneshot::channel();
        let _slot = self.shared.open(id, Slot::Call(told))?;
        let sent = self.requests.send(request(id)).await;
        sent.map_err(|_| self.shared.why_ended())?;
        let reply = reply.await.map_err(|_| self.shared.why_ended())?;
        accept(reply?)
    }

    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.shared.lock().why_ended.is_some()
    }

    fn next_id(&self) -> i64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Requests of one writer, all with the same id, and the replies to them.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) id: i64,
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) replies: mpsc::Receiver<Result<Reply, Error>>,
    connection: Arc<Connection>,
}

impl Flow {
    /// A store that says more than `replies_max` before they are read is not waited for: that ends the connection.
    pub(crate) fn open(connection: Arc<Connection>, replies_max: usize) -> Result<Self, Error> {
        let id = connection.next_id();
        // One more, for why it has ended.
        let (told, replies) = mpsc::channel(replies_max + 1);
        connection.shared.open(id, Slot::Flow(told))?.keep();
        Ok(Self {
            id,
            requests: connection.requests.clone(),
            replies,
            connection,
        })
    }

    pub(crate) async fn call(&mut self, request: Request) -> Result<Reply, Error> {
        let sent = self.requests.send(request).await;
        sent.map_err(|_| self.why_ended())?;
        self.reply().await
    }

    /// Cancel-safe.
    pub(crate) async fn reply(&mut self) -> Result<Reply, Error> {
        let reply = self.replies.recv().await;
        accept(reply.unwrap_or_else(|| Err(self.why_ended()))?)
    }

    pub(crate) fn why_ended(&self) -> Error {
        self.connection.shared.why_ended()
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.connection.shared.close(self.id);
    }
}

/// Closes a slot when it is dropped.
struct Open<'a> {
    shared: Option<&'a Shared>,
    id: i64,
}

impl Open<'_> {
    fn keep(mut self) {
        self.shared = None;
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared {
            shared.close(self.id);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, id: i64, slot: Slot) -> Result<Open<'_>, Error> {
        let mut slots = self.lock();
        if let Some(why) = &slots.why_ended {
            return Err(why.clone());
        }
        slots.open.insert(id, slot);
        let shared = Some(self);
        Ok(Open { shared, id })
    }

    fn close(&self, id: i64) {
        self.lock().open.remove(&id);
    }

    fn why_ended(&self) -> Error {
        let why = self.lock().why_ended.clone();
        why.unwrap_or_else(|| Error::Disconnected("it is being closed".to_owned()))
    }

    /// What nobody waits for any more is dropped.
    fn tell(&self, reply: Reply) -> Result<(), Error> {
        let Some(id) = reply.request_id() else {
            return Ok(());
        };
        let mut slots = self.lock();
        match slots.open.remove(&id) {
            None => Ok(()),
            Some(Slot::Call(call)) => {
                // Else the caller does not wait any more.
                drop(call.send(Ok(reply)));
                Ok(())
            }
            Some(Slot::Flow(flow)) => {
                if flow.capacity() <= 1 {
                    let why = "the store answers more than was asked";
                    return Err(Error::Protocol(why.to_owned()));
                }
                drop(flow.try_send(Ok(reply)));
                slots.open.insert(id, Slot::Flow(flow));
                Ok(())
            }
        }
    }

    fn fail(&self, id: Option<i64>, why: Error) {
        let slot = id.and_then(|id| self.lock().open.remove(&id));
        if let Some(slot) = slot {
            slot.fail(why);
        }
    }

    fn end(&self, why: &Error) {
        let mut slots = self.lock();
        slots.why_ended = Some(why.clone());
        for (_, slot) in slots.open.drain() {
            slot.fail(why.clone());
        }
    }
}

impl Slot {
    /// There is nothing to do where nobody waits any more.
    fn fail(self, why: Error) {
        match self {
            Self::Call(call) => drop(call.send(Err(why))),
            Self::Flow(flow) => drop(flow.try_send(Err(why))),
        }
    }
}

/// Reads and writes until one of them cannot. When it returns, the receiver of the requests is dropped, so that nobody waits to send.
async fn run(
    input: impl AsyncRead + Unpin,
    received: BytesMut,
    output: impl AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    to_write: mpsc::Receiver<Request>,
) {
    let (failed, why_failed) = oneshot::channel();
    let _writing = rt::spawn("streams connection, writing", {
        let shared = shared.clone();
        async move {
            let why = write(output, to_write, &shared).await;
            // Else reading has ended, and knows why.
            drop(failed.send(why));
        }
    });
    let reading = pin!(read(input, received, &shared));
    let listening = pin!(listen(requests, &shared));
    let why = tokio::select! {
        why = reading => why,
        why = listening => why,
        Ok(why) = why_failed => why,
    };
    shared.end(&why);
}

async fn read(mut input: impl AsyncRead + Unpin, mut received: BytesMut, shared: &Shared) -> Error {
    loop {
        let reply = next(&mut input, &mut received, &shared.was_heard).await;
        if let Err(why) = reply.and_then(|reply| shared.tell(reply)) {
            return why;
        }
    }
}

async fn next(
    input: &mut (impl AsyncRead + Unpin),
    received: &mut BytesMut,
    was_heard: &AtomicBool,
) -> Result<Reply, Error> {
    loop {
        match split(received) {
            Ok(Split::Frame(frame)) => {
                return Reply::decode(frame).map_err(|why| Error::Protocol(why.to_string()));
            }
            Ok(Split::Missing(n_bytes)) => {
                received.reserve(n_bytes.clamp(READ_BYTES_MIN, READ_BYTES_MAX));
                if input.read_buf(received).await.map_err(disconnected)? == 0 {
                    return Err(Error::Disconnected("the store has ended it".to_owned()));
                }
                was_heard.store(true, Ordering::Relaxed);
            }
            Err(why) => return Err(Error::Protocol(why.to_string())),
        }
    }
}

/// What there is is written at once, and with it what comes until it is.
async fn write(
    mut output: impl AsyncWrite + Unpin,
    mut requests: mpsc::Receiver<Request>,
    shared: &Shared,
) -> Error {
    let mut out = Outgoing::default();
    while let Some(request) = requests.recv().await {
        encode(&request, &mut out, shared);
        while out.remaining() < WRITE_BYTES
            && let Ok(request) = requests.try_recv()
        {
            encode(&request, &mut out, shared);
        }
        let written = async {
            output.write_all_buf(&mut out).await?;
            output.flush().await
        };
        if let Err(why) = written.await {
            return disconnected(why);
        }
    }
    Error::Disconnected("nobody asks any more".to_owned())
}

fn encode(request: &Request, out: &mut Outgoing, shared: &Shared) {
    if let Err(why) = request.encode(out) {
        shared.fail(request.request_id(), Error::Refused(why.to_string()));
    }
}

/// Returns when the store says nothing any more.
async fn listen(requests: mpsc::Sender<Request>, shared: &Shared) -> Error {
    let mut ticks = interval(KEEP_ALIVE);
    let mut n_silent = 0;
    loop {
        ticks.tick().await;
        if shared.was_heard.swap(false, Ordering::Relaxed) {
            n_silent = 0;
        } else {
            n_silent += 1;
        }
        if n_silent > 2 {
            return Error::Disconnected("the store says nothing".to_owned());
        }
        // If there is no room, there is enough that the store has to answer.
        drop(requests.try_send(KeepAlive {}.into()));
    }
}

pub(crate) async fn secure(
    stream: TcpStream,
    tls: Arc<ClientConfig>,
    host: &str,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Error> {
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|why| Error::Refused(why.to_string()))?;
    let stream = TlsConnector::from(tls).connect(name, stream).await;
    stream.map_err(disconnected)
}

#[expect(clippy::needless_pass_by_value, reason = "it is for map_err")]
fn disconnected(why: io::Error) -> Error {
    Error::Disconnected(why.to_string())
}
