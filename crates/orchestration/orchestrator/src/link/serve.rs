//! From a dial to the end of a connection.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth::{peer_is, peer_key};
use ids::{Digest, Generation, Labels, Name};
use prometheus::IntGauge;
use rt::Task;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use workload::MOVES_MAX;
use workload::link::{
    Down, HEADER_BYTES_MAX, Inventory, PAYLOAD_BYTES_MAX, PERIOD, Sample, Up, VERSION,
    site_certificate_name,
};

use super::connection::{Connection, Outbox};
use super::frames::{self, Frame};
use crate::controller::Inner;
use crate::controller::state::State;
use crate::core::inventory::{Facts, Report};
use crate::series;
use crate::{Error, ErrorKind, hexadecimal};

/// Sites that are connected, and callers that have not said yet who they are.
const SITES_MAX: usize = 4096;
const CALLERS_MAX: usize = 256;
/// For the handshake, and for the first message after it.
const GREETING_BYTES_MAX: usize = 64 << 10;
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// A site reports every period; one that says nothing for so long is gone.
const SILENCE_MAX: Duration = PERIOD.saturating_mul(15);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Modules that one site may wait for.
const WANTED_MAX: usize = 64;
const SAMPLES_MAX: usize = 20_000;
const LABELS_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 512;
const OFFER_BYTES_MAX: usize = 64 << 10;
const REASON_CHARS_MAX: usize = 1024;
const CONDITIONS_MAX: usize = 16;
const CPU_SHARE_MAX: f64 = 1e6;

/// What all connections share.
#[derive(Debug)]
struct Server {
    inner: Arc<Inner>,
    series: Arc<series::Store>,
    /// By number; each takes itself out at its end.
    tasks: Mutex<BTreeMap<u64, Task>>,
    places: Semaphore,
}

/// Accepts sites until the handle is dropped.
pub(crate) fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    inner: Arc<Inner>,
    series: Arc<series::Store>,
) -> Task {
    let failure = inner.failure.clone();
    let server = Open(Arc::new(Server {
        inner,
        series,
        tasks: Mutex::default(),
        places: Semaphore::new(SITES_MAX),
    }));
    let accepting = accept(listener, TlsAcceptor::from(tls), server);
    rt::spawn("link", failure.guarded("link", accepting))
}

/// Ends all connections when it is dropped: they hold the server, and the server holds them.
#[derive(Debug)]
struct Open(Arc<Server>);

impl Drop for Open {
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut *self.0.tasks());
        drop(tasks);
    }
}

impl Server {
    fn tasks(&self) -> MutexGuard<'_, BTreeMap<u64, Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, open: Open) {
    let server = &open.0;
    let callers = Arc::new(Semaphore::new(CALLERS_MAX));
    for number in 0.. {
        let caller = Arc::clone(&callers).acquire_owned().await;
        let caller = caller.expect("nobody closes the semaphore");
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Too few file descriptors, for instance: others will end.
                tracing::warn!(%error, "accept a site");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let life = one(Arc::clone(server), number, acceptor.clone(), socket, caller);
        // It takes itself out, but not before it is in.
        let mut tasks = server.tasks();
        tasks.insert(number, rt::spawn("site", life));
    }
}

async fn one(
    server: Arc<Server>,
    number: u64,
    acceptor: TlsAcceptor,
    socket: TcpStream,
    caller: OwnedSemaphorePermit,
) {
    if let Err(error) = greet(&server, acceptor, socket, caller).await {
        tracing::debug!(%error, "a connection of a site ended");
    }
    let this = server.tasks().remove(&number);
    drop(this);
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.map_err(io::Error::from)?
}

async fn greet(
    server: &Server,
    acceptor: TlsAcceptor,
    socket: TcpStream,
    caller: OwnedSemaphorePermit,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut stream = in_time(GREETING_TIMEOUT, acceptor.accept(socket)).await?;
    let (first, _) = in_time(
        GREETING_TIMEOUT,
        frames::read::<Up>(&mut stream, GREETING_BYTES_MAX),
    )
    .await?;
    let outcome = match first {
        Up::Join { version, .. } | Up::Hello { version, .. } if version != VERSION => Err(format!(
            "it speaks version {version} of the link, this controller {VERSION}"
        )),
        Up::Join {
            token,
            site,
            labels,
            public_key,
            ..
        } => match join(server, &token, &site, labels, &public_key).await {
            Ok(joined) => return reply(&mut stream, &joined).await,
            Err(reason) => Err(reason),
        },
        Up::Hello {
            site,
            labels,
            generation,
            cpu_share,
            cpu_share_by,
            ..
        } => {
            let certificates = stream.get_ref().1.peer_certificates();
            if peer_is(certificates, &site_certificate_name(&site)) {
                let full = |_| io::Error::other("there are too many sites");
                let _place = server.places.try_acquire().map_err(full)?;
                drop(caller);
                let peer = Peer {
                    key: hexadecimal::encode(&peer_key(certificates).unwrap_or_default()),
                    site,
                    generation,
                    facts: facts(labels, cpu_share, cpu_share_by),
                };
                match server.inner.admit(&peer.site, &peer.key).await {
                    Ok(()) => return live(server, stream, peer).await,
                    Err(error) if error.kind == ErrorKind::Precondition => Err(error.message),
                    Err(error) => return Err(io::Error::other(error)),
                }
            } else {
                Err(format!("its certificate is not that of site {site}"))
            }
        }
        _ => Err("a connection begins with Join or Hello".to_owned()),
    };
    let reason = outcome.unwrap_or_else(|reason: String| reason);
    server.inner.metrics.sites_refused.inc();
    tracing::warn!(reason, "a site is refused");
    reply(&mut stream, &Down::Refused { reason }).await
}

async fn reply(stream: &mut TlsStream<TcpStream>, message: &Down) -> io::Result<()> {
    let frame = frames::encode(message, &[]).ok_or_else(|| io::Error::other("it is too long"))?;
    let work = async {
        frames::write(stream, &frame).await?;
        // Whoever has not read everything before the socket closes may lose it.
        tokio::io::AsyncWriteExt::shutdown(stream).await
    };
    in_time(WRITE_TIMEOUT, work).await
}

async fn join(
    server: &Server,
    token: &str,
    site: &Name,
    labels: Labels,
    public_key: &str,
) -> Result<Down, String> {
    let labels = checked(labels);
    let joined = server.inner.join(token, site, labels, public_key).await;
    let certificate = joined.map_err(|error| error.to_string())?;
    tracing::info!(%site, "a site has joined");
    Ok(Down::Joined {
        authority: hexadecimal::encode(server.inner.authority.certificate()),
        certificate: hexadecimal::encode(&certificate),
    })
}

/// A site that has dialled.
#[derive(Debug)]
struct Peer {
    site: Name,
    /// The public key of its certificate.
    key: String,
    generation: Generation,
    facts: Facts,
}

/// What lasts of a greeting.
fn facts(labels: Labels, cpu_share: f64, cpu_share_by: String) -> Facts {
    let is_sound = cpu_share.is_finite() && (0.0..=CPU_SHARE_MAX).contains(&cpu_share);
    Facts {
        joined_ms: 0,
        labels: checked(labels),
        cpu_share: if is_sound { cpu_share } else { 0.0 },
        cpu_share_by: cut(cpu_share_by, 32),
        ahead: None,
        ahead_digest: None,
    }
}

fn checked(labels: Labels) -> Labels {
    let is_short = |(key, value): &(String, String)| key.len().max(value.len()) <= LABEL_BYTES_MAX;
    labels
        .into_iter()
        .filter(is_short)
        .take(LABELS_MAX)
        .collect()
}

fn cut(text: String, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}

async fn live(server: &Server, stream: TlsStream<TcpStream>, peer: Peer) -> io::Result<()> {
    let inner = &server.inner;
    let Peer {
        site,
        key,
        generation,
        facts,
    } = peer;
    let site = &site;
    let greeted = inner.greet(site, generation, facts).await;
    greeted.map_err(io::Error::other)?;
    let (connection, outbox) = inner.connections.open(site, generation);
    let _connected = Level::up(&inner.metrics.sites_connected);
    tracing::info!(%site, %generation, "a site is connected");
    {
        let mut state = inner.state();
        let units: Vec<_> = state.blueprint.site_units(site.as_str()).cloned().collect();
        state.dirty.offers.extend(units);
    }
    inner.signals.all();
    let (reader, writer) = tokio::io::split(stream);
    let (wanted, wants) = mpsc::channel(WANTED_MAX);
    let (bulk, pieces) = mpsc::channel(1);
    let end = tokio::select! {
        end = listen(server, (&connection, &key), reader, wanted) => end,
        end = talk(writer, outbox, pieces) => end,
        end = ship(inner, wants, bulk) => end,
        () = connection.end.notified() => {
            inner.metrics.sites_dropped.inc();
            Ok(())
        }
    };
    inner.connections.close(&connection);
    tracing::info!(%site, "a site is not connected any more");
    end
}

/// One of a gauge, for as long as it lives.
#[derive(Debug)]
struct Level(IntGauge);

impl Level {
    fn up(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn listen(
    server: &Server,
    (connection, key): (&Arc<Connection>, &str),
    reader: impl AsyncRead + Unpin,
    wanted: mpsc::Sender<Digest>,
) -> io::Result<()> {
    let inner = &server.inner;
    let mut reader = BufReader::new(reader);
    loop {
        let (message, payload) = in_time(
            SILENCE_MAX,
            frames::read::<Up>(&mut reader, HEADER_BYTES_MAX),
        )
        .await?;
        if !inner.state().has_site(&connection.site, key) {
            return Err(io::Error::other("the site was forgotten"));
        }
        match message {
            Up::Inventory(inventory) => {
                connection.has(inventory.generation);
                let taken = inner.report(connection, inventory).await;
                taken.map_err(io::Error::other)?;
            }
            Up::Samples { mut samples } => {
                samples.truncate(SAMPLES_MAX);
                let of_this = |sample: &mut Sample| {
                    let site = connection.site.to_string();
                    sample.labels.insert("site".to_owned(), site);
                };
                samples.iter_mut().for_each(of_this);
                server.series.append(&samples);
            }
            Up::WantModule { digest } => {
                let full = |_| io::Error::other("it waits for too many modules");
                wanted.try_send(digest).map_err(full)?;
            }
            Up::Log {
                request,
                offset,
                error,
            } => {
                let reply = error.map_or(Ok((offset, payload)), Err);
                connection.answer_log(request, reply);
            }
            Up::Join { .. } | Up::Hello { .. } => {
                return Err(io::Error::other("it greets twice"));
            }
        }
    }
}

async fn talk(
    mut writer: impl AsyncWrite + Unpin,
    Outbox {
        mut config,
        mut queue,
        offers,
    }: Outbox,
    mut pieces: mpsc::Receiver<Frame>,
) -> io::Result<()> {
    loop {
        let frame = tokio::select! {
            biased;
            changed = config.changed() => match changed {
                Ok(()) => config.borrow_and_update().1.clone(),
                Err(_) => return Ok(()),
            },
            message = queue.recv() => match message {
                Some(message) => Some(message),
                None => return Ok(()),
            },
            // Those that are too long for a frame are left out: the parts of that unit do not find each other, all others do.
            message = offers.next() => frames::encode(&message, &[]),
            Some(piece) = pieces.recv() => Some(piece),
        };
        if let Some(frame) = frame {
            in_time(WRITE_TIMEOUT, frames::write(&mut writer, &frame)).await?;
        }
    }
}

/// Sends modules, one after the other, as fast as the site takes them.
async fn ship(
    inner: &Inner,
    mut wants: mpsc::Receiver<Digest>,
    bulk: mpsc::Sender<Frame>,
) -> io::Result<()> {
    while let Some(digest) = wants.recv().await {
        let mut offset = 0;
        loop {
            let piece = inner.modules.read(&digest, offset, PAYLOAD_BYTES_MAX).await;
            let (piece, error) = match piece {
                Ok(piece) => (piece, None),
                Err(_) if inner.modules.has(&digest) => {
                    (Vec::new(), Some("it cannot be read now".to_owned()))
                }
                Err(_) => (Vec::new(), Some("there is no such module".to_owned())),
            };
            offset += u64::try_from(piece.len()).expect("a length fits");
            let is_last = piece.is_empty();
            let message = Down::Module {
                digest: digest.clone(),
                error,
            };
            let frame = frames::encode(&message, &piece).expect("a piece is short");
            if bulk.send(frame).await.is_err() {
                return Ok(());
            }
            if is_last {
                break;
            }
        }
    }
    Ok(())
}

impl Inner {
    /// A site that was let in has dialled.
    async fn greet(&self, site: &Name, generation: Generation, facts: Facts) -> Result<(), Error> {
        self.change_facts(site, |_, before| {
            before.labels.clone_from(&facts.labels);
            before.cpu_share = facts.cpu_share;
            before.cpu_share_by.clone_from(&facts.cpu_share_by);
        })
        .await?;
        self.compare(site, generation, None).await
    }

    /// A site that has a configuration which was never made for it is held, until an operator has looked.
    async fn compare(
        &self,
        site: &Name,
        generation: Generation,
        digest: Option<&Digest>,
    ) -> Result<(), Error> {
        let is_foreign = |state: &State| {
            let blueprint = &state.blueprint;
            blueprint.is_foreign(site.as_str(), generation, digest)
        };
        if !is_foreign(&self.state()) {
            return Ok(());
        }
        // Another controller may have made it.
        self.catch_up()?;
        self.change_facts(site, |state, facts| {
            if is_foreign(state) && facts.ahead.is_none_or(|ahead| generation > ahead) {
                let wanted = state.blueprint.site_generation(site.as_str());
                tracing::error!(%site, %generation, %wanted, "the site has a configuration that the store does not know");
                facts.ahead = Some(generation);
                facts.ahead_digest = digest.cloned();
            }
        })
        .await
    }

    async fn report(&self, connection: &Connection, inventory: Inventory) -> Result<(), Error> {
        let site = &connection.site;
        // What it has later on this link, it was told over this link.
        let is_first = !connection.is_compared();
        let digest = inventory.digest.as_ref().filter(|_| is_first);
        self.compare(site, inventory.generation, digest).await?;
        if is_first {
            connection.compared();
            self.signals.execute.notify_one();
        }
        let now = self.now();
        let report = report(inventory, now.mono_ms);
        let is_news = {
            let mut state = self.state();
            let was_fresh = state.sites.get(site).is_some_and(|site| site.is_fresh(now));
            state.report(site, Arc::clone(&report));
            // It may take what waits for a place, or have ended what is to end.
            let mut leaving = state.blueprint.leaving_from(site.as_str());
            !was_fresh || leaving.any(|id| !report.units.contains_key(id))
        };
        if is_news {
            self.signals.plan.notify_one();
        }
        self.signals.report();
        Ok(())
    }
}

/// What was said, cut to what is kept.
fn report(inventory: Inventory, at_ms: u64) -> Arc<Report> {
    let units = inventory.units.into_iter().map(|mut unit| {
        unit.reason = cut(unit.reason, REASON_CHARS_MAX);
        let n_surplus = unit.moves.len().saturating_sub(MOVES_MAX);
        unit.moves.drain(..n_surplus);
        unit.offer = unit.offer.filter(|offer| offer.len() <= OFFER_BYTES_MAX);
        (unit.id.clone(), unit)
    });
    let conditions = inventory.conditions.into_iter().take(CONDITIONS_MAX);
    let conditions = conditions.map(|condition| workload::link::Condition {
        kind: cut(condition.kind, 64),
        message: cut(condition.message, REASON_CHARS_MAX),
    });
    Arc::new(Report {
        at_ms,
        generation: inventory.generation,
        refused: inventory
            .refused
            .map(|reason| cut(reason, REASON_CHARS_MAX)),
        conditions: conditions.collect(),
        units: units.collect(),
    })
}
