//! A simulated site: speaks the real link over real sockets, and pretends to run what it is told.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use auth::{Fingerprint, Identity, KeyRequest, Tls};
use ids::{Digest, Generation, Labels, Name, UnitId};
use rt::Task;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::interval;
use tokio_rustls::TlsConnector;
use workload::link::{
    CONTROLLER_NAME, Down, Inventory, PERIOD, Up, VERSION, frame_head, parse_frame_head,
};
use workload::{Kind, MoveReport, Observed, Offers, Phase, RankAt, SiteConfig, UnitSpec};

/// What a site is told to do, and what has happened to it.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub config: SiteConfig,
    pub units: BTreeMap<UnitId, Observed>,
    /// Ranks stay where they are.
    pub is_stubborn: bool,
    /// It says nothing.
    pub is_silent: bool,
    pub offers: BTreeMap<UnitId, Offers>,
    pub modules: BTreeMap<Digest, Vec<u8>>,
    pub refused: Option<String>,
    pub n_configured: usize,
    /// Every generation that it was sent.
    pub generations: Vec<Generation>,
    pub n_connections: usize,
    /// How many connections have ended by themselves.
    pub n_ended: usize,
}

#[derive(Debug)]
pub(crate) struct Site {
    shared: Arc<Shared>,
    identity: Identity,
    task: Option<Task>,
}

#[derive(Debug)]
struct Shared {
    name: Name,
    labels: Labels,
    cpu_share: f64,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends one frame over a blocking connection and reads the answer.
pub(crate) fn ask(stream: &mut auth::Stream, message: &Up) -> io::Result<Down> {
    stream.write_all(&encode(message, &[]))?;
    stream.flush()?;
    let mut head = [0; 8];
    stream.read_exact(&mut head)?;
    let (header_len, _) = parse_frame_head(head).expect("short");
    let mut header = vec![0; header_len];
    stream.read_exact(&mut header)?;
    Ok(serde_json::from_slice(&header).expect("a message"))
}

fn encode(header: &impl Serialize, payload: &[u8]) -> Vec<u8> {
    let header = serde_json::to_vec(header).expect("encodes");
    let head = frame_head(header.len(), payload.len()).expect("short");
    [&head[..], &header, payload].concat()
}

/// Asks to join; the key is made before, so that it can ask again.
pub(crate) fn try_join(
    link: SocketAddr,
    authority: &Fingerprint,
    site: &str,
    token: &str,
    request: &KeyRequest,
) -> io::Result<Down> {
    let mut stream = Tls::connect_pinned(link, authority, CONTROLLER_NAME)?;
    ask(
        &mut stream,
        &Up::Join {
            version: VERSION,
            token: token.to_owned(),
            site: name(site),
            labels: Labels::new(),
            public_key: hexadecimal(&request.public_key()),
        },
    )
}

impl Site {
    pub(crate) fn new(site: &str, tier: &str, cpu_share: f64, identity: Identity) -> Self {
        let labels = [("tier".to_owned(), tier.to_owned())].into();
        Self {
            identity,
            shared: Arc::new(Shared {
                name: name(site),
                labels,
                cpu_share,
                state: Mutex::default(),
                changed: watch::Sender::new(0),
            }),
            task: None,
        }
    }

    /// Dials, and stays until [`stop`](Self::stop) or the end of the link.
    pub(crate) fn dial(&mut self, link: SocketAddr) {
        let tls = Tls::new(&self.identity).expect("an identity");
        let shared = Arc::clone(&self.shared);
        self.task = Some(rt::spawn("simulated site", async move {
            // The end of a link is part of the tests.
            live(&shared, &tls, link).await.ok();
            shared.state().n_ended += 1;
            shared.wake();
        }));
    }

    pub(crate) fn stop(&mut self) {
        self.task = None;
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Changes what it says, and makes it say it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.shared.wake();
    }

    /// Waits until something holds of it.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        let wait = async {
            while !holds(&self.state()) {
                changed.changed().await.expect("it is there");
            }
        };
        let waited = tokio::time::timeout(super::PATIENCE, wait).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.state());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    fn inventory(&self) -> Up {
        let state = self.state();
        Up::Inventory(Inventory {
            generation: state.config.generation,
            digest: Some(state.config.digest()),
            refused: None,
            units: state.units.values().cloned().collect(),
            conditions: Vec::new(),
        })
    }

    /// Takes a message, and gives what is to be answered.
    fn take(&self, message: Down, payload: Vec<u8>) -> Vec<Vec<u8>> {
        let mut state = self.state();
        let mut answers = Vec::new();
        match message {
            Down::Configure { config } => {
                state.n_configured += 1;
                state.generations.push(config.generation);
                assert!(config.generation > state.config.generation, "it went back");
                for spec in &config.units {
                    let Kind::Cell(cell) = &spec.kind;
                    if !state.modules.contains_key(&cell.module) {
                        state.modules.insert(cell.module.clone(), Vec::new());
                        let digest = cell.module.clone();
                        answers.push(encode(&Up::WantModule { digest }, &[]));
                    }
                }
                state.config = config;
            }
            Down::Offers { unit, offers, .. } => {
                state.offers.insert(unit, offers);
            }
            Down::Module { digest, error } => {
                assert_eq!(error, None);
                state.modules.entry(digest).or_default().extend(payload);
            }
            Down::ReadLog {
                request,
                offset,
                max,
                ..
            } => {
                let from = usize::try_from(offset).expect("small").min(LOG.len());
                let end = (from + max as usize).min(LOG.len());
                let log = Up::Log {
                    request,
                    offset,
                    error: None,
                };
                answers.push(encode(&log, &LOG[from..end]));
            }
            Down::Refused { reason } => state.refused = Some(reason),
            Down::Joined { .. } => panic!("it had joined"),
        }
        reconcile(&self.name, &mut state);
        answers
    }
}

impl State {
    /// Does what its configuration says.
    pub(crate) fn obey(&mut self) {
        let site = self.config.units.first().map(|spec| spec.home.clone());
        reconcile(&site.expect("it has a unit"), self);
    }
}

pub(crate) const LOG: &[u8] = b"iteration 1\niteration 2\n";

fn reconcile(site: &Name, state: &mut State) {
    let State {
        config,
        units,
        is_stubborn,
        ..
    } = state;
    units.retain(|id, unit| {
        let spec = config.units.iter().find(|spec| spec.id == *id);
        spec.is_some_and(|spec| spec.epoch == unit.epoch)
    });
    for spec in &config.units {
        let unit = units
            .entry(spec.id.clone())
            .or_insert_with(|| begin(site, spec));
        if spec.home == *site && !unit.phase.is_final() && !*is_stubborn {
            place(unit, spec);
        }
    }
}

fn begin(site: &Name, spec: &UnitSpec) -> Observed {
    let rank = |rank| RankAt {
        rank,
        site: spec.home.clone(),
        state: "running".to_owned(),
    };
    let is_home = spec.home == *site;
    let n_ranks = if is_home { spec.placement.len() } else { 0 };
    Observed {
        id: spec.id.clone(),
        epoch: spec.epoch,
        is_home,
        phase: Phase::Running,
        reason: String::new(),
        offer: Some(format!("{site} offers {}", spec.epoch)),
        ranks: (0..u32::try_from(n_ranks).expect("few"))
            .map(rank)
            .collect(),
        n_moves: 0,
        moves: Vec::new(),
        restarts: 0,
        exit_code: None,
        log_bytes: LOG.len() as u64,
    }
}

/// Moves every rank to where it shall be, at once.
fn place(unit: &mut Observed, spec: &UnitSpec) {
    for (at, wanted) in unit.ranks.iter_mut().zip(&spec.placement) {
        if at.site != *wanted {
            let wall = rt::wall().duration_since(std::time::SystemTime::UNIX_EPOCH);
            unit.moves.push(MoveReport {
                rank: at.rank,
                from: at.site.clone(),
                to: wanted.clone(),
                bytes: 1 << 20,
                pause_us: 1500,
                resumed_ms: u64::try_from(wall.expect("after 1970").as_millis()).expect("fits"),
            });
            unit.n_moves += 1;
            at.site = wanted.clone();
        }
    }
}

async fn live(shared: &Shared, tls: &Tls, link: SocketAddr) -> io::Result<()> {
    let socket = TcpStream::connect(link).await?;
    let controller = CONTROLLER_NAME.try_into().expect("a name");
    let stream = TlsConnector::from(tls.configs().0)
        .connect(controller, socket)
        .await?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let generation = shared.state().config.generation;
    let hello = Up::Hello {
        version: VERSION,
        site: shared.name.clone(),
        labels: shared.labels.clone(),
        generation,
        cpu_share: shared.cpu_share,
        cpu_share_by: "none".to_owned(),
    };
    send(&mut writer, &encode(&hello, &[])).await?;
    shared.state().n_connections += 1;
    shared.wake();
    let (answer, mut answers) = tokio::sync::mpsc::channel::<Vec<u8>>(64);
    let listen = async {
        loop {
            let (message, payload) = read(&mut reader).await?;
            for frame in shared.take(message, payload) {
                answer.send(frame).await.map_err(io::Error::other)?;
            }
            shared.wake();
        }
    };
    let talk = async {
        let mut changed = shared.changed.subscribe();
        changed.mark_changed();
        let mut clock = interval(PERIOD);
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                _ = changed.changed() => {}
                Some(frame) = answers.recv() => {
                    send(&mut writer, &frame).await?;
                    continue;
                }
            }
            if !shared.state().is_silent {
                send(&mut writer, &encode(&shared.inventory(), &[])).await?;
            }
        }
    };
    tokio::select! {
        end = listen => end,
        end = talk => end,
    }
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    writer.write_all(frame).await?;
    writer.flush().await
}

async fn read(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<(Down, Vec<u8>)> {
    let mut head = [0; 8];
    reader.read_exact(&mut head).await?;
    let (header_len, payload_len) = parse_frame_head(head).expect("short");
    let (mut header, mut payload) = (vec![0; header_len], vec![0; payload_len]);
    reader.read_exact(&mut header).await?;
    reader.read_exact(&mut payload).await?;
    Ok((serde_json::from_slice(&header).expect("a message"), payload))
}
