//! A server is killed, or stopped while another one takes its place, while clients work; and what they were told is judged.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use rustix::process::Signal;
use streams_client::controller::{Scaling, StreamConfig};
use streams_client::names::{SegmentName, SegmentNumber, StreamName};
use streams_client::{Client, Segment, Table};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::clients::{self, Who, patiently};
use super::history::{self, Call, Did, Found};
use super::journal::{Journal, Register};
use super::server::{Server, client};
use crate::bench::Scratch;
use crate::prove::Found as Report;
use crate::prove::chance::{Random, wait};
use crate::prove::proxy::Proxy;

/// Of one schedule.
pub(in crate::prove) const TIMES: u32 = 20;
/// Something is told within this time, whatever was killed.
const PATIENCE: Duration = Duration::from_secs(60);
/// After so many schedules everything is made anew.
const SEEDS_OF_STAGE: u64 = 16;

/// With transactions and scales; with scales and conditions; and one of which what was read is given up.
const STREAMS: [&str; 3] = ["scaled", "plain", "given-up"];

pub(in crate::prove) struct Stage {
    /// In one directory. One of them runs.
    servers: [Server; 2],
    current: usize,
    /// The way to the controller, wherever it is.
    proxy: Proxy,
    // After what runs in it.
    runtime: Runtime,
    n_played: u64,
    _scratch: Scratch,
}

/// What is done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::prove) enum Harm {
    Kill,
    /// It is stopped, and goes on after another one has taken over.
    Stop,
}

/// The streams of a schedule.
struct Scene {
    streams: [StreamName; 3],
    state: StreamName,
    table: SegmentName,
}

/// What a client does until all is over.
type Working = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;
type Reading = oneshot::Receiver<anyhow::Result<Found>>;

/// Who works, and who reads; these end when they are dropped.
struct Begun {
    working: Vec<rt::Task>,
    _reading: Vec<rt::Task>,
    readings: Vec<Reading>,
}

impl Stage {
    pub(in crate::prove) fn new() -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let config = serde_json::json!({
            "segments": {
                "containers": 3,
                "log": {"segment": "1Mi", "checkpoint_after": "256Ki", "limit": "256Mi"},
                "tiering": {"flush_bytes": "32Ki", "flush_after": "100ms"},
                "cache": {"recent": "1Mi", "blocks": "1Mi"},
            },
            "store": {"read_wait": "1s"},
        });
        let server = |name| Server::new(&scratch.path, (name, "streams"), &config);
        let mut servers = [server("first")?, server("second")?];
        servers[0].start()?;
        let runtime = rt::runtime()?;
        let proxy = runtime.block_on(Proxy::start())?;
        proxy.set_to(Some(servers[0].controller()?));
        Ok(Self {
            servers,
            current: 0,
            proxy,
            runtime,
            n_played: 0,
            _scratch: scratch,
        })
    }

    /// May it be used for the next seed?
    pub(in crate::prove) fn is_fresh(&self) -> bool {
        self.n_played < SEEDS_OF_STAGE
    }

    /// Plays the schedule of a seed; returns how often the server was harmed, and what is wrong.
    pub(in crate::prove) fn play(
        &mut self,
        seed: u64,
        (harm, n_times): (Harm, u32),
    ) -> anyhow::Result<Report> {
        self.n_played += 1;
        let began = rt::now();
        let journal = Journal::new();
        let scene = self.set(seed)?;
        let Begun {
            working,
            _reading,
            readings,
        } = self.begin(&scene, &journal, seed)?;
        let disturbed = self.disturb(seed, (harm, n_times), &journal);
        let lasted = began.elapsed();
        journal.end();
        self.runtime.block_on(async {
            for task in working {
                let ended = tokio::time::timeout(PATIENCE, task.ended()).await;
                ensure!(ended.is_ok(), "a client goes on for {PATIENCE:?}");
            }
            Ok(())
        })?;
        journal.check()?;
        disturbed?;
        let found = self.judge(&scene, &journal, readings)?;
        let n_told = journal.n_told();
        Ok(Report {
            value: usize::try_from(n_times)?,
            runs: 1,
            problem: None,
            note: Some(format!(
                "{n_told} acknowledgements, {found}, {:.1}/s",
                f64::from(n_times) / lasted.as_secs_f64()
            )),
        })
    }

    fn set(&self, seed: u64) -> anyhow::Result<Scene> {
        let client = self.client()?;
        let scope = format!("s{}-{seed}", self.n_played);
        let name = |stream: &str| StreamName::new(&scope, stream);
        let scene = Scene {
            streams: [name(STREAMS[0])?, name(STREAMS[1])?, name(STREAMS[2])?],
            state: name("state")?,
            table: name("table")?.segment(SegmentNumber::new(0, 0)),
        };
        self.runtime.block_on(async {
            let controller = client.controller();
            controller.create_scope(&scope).await?;
            for (stream, n_segments) in scene.streams.iter().chain([&scene.state]).zip([2, 2, 3, 1])
            {
                let config = StreamConfig {
                    scaling: Scaling::Fixed { n_segments },
                    ..StreamConfig::default()
                };
                controller.create_stream(stream, &config).await?;
            }
            Table::new(&client, scene.table.clone()).create(0).await?;
            anyhow::Ok(())
        })?;
        Ok(scene)
    }

    fn client(&self) -> anyhow::Result<Client> {
        let addr = self.proxy.addr;
        self.runtime.block_on(async { client(addr, PATIENCE) })
    }

    /// All clients, and who reads the streams while they are written.
    fn begin(&self, scene: &Scene, journal: &Journal, seed: u64) -> anyhow::Result<Begun> {
        let [scaled, plain, given_up] = &scene.streams;
        let mut tasks = Vec::new();
        let mut number = 0;
        let mut who = || {
            number += 1;
            anyhow::Ok(Who {
                client: self.client()?,
                journal: journal.clone(),
                number,
                seed,
            })
        };
        let mut spawn = |future| tasks.push(self.spawn(journal, future));
        for stream in [scaled, scaled, plain, given_up] {
            spawn(Box::pin(clients::write(who()?, stream.clone())) as Working);
        }
        for stream in [scaled, plain] {
            spawn(Box::pin(clients::transact(who()?, stream.clone())));
            spawn(Box::pin(clients::scale(who()?, stream.clone())));
        }
        for _ in 0..2 {
            spawn(Box::pin(clients::replace(who()?, scene.table.clone())));
            spawn(Box::pin(clients::append(
                who()?,
                clients::first(&scene.state),
            )));
        }
        let (mut reading_tasks, mut readings) = (Vec::new(), Vec::new());
        for (stream, gives_up) in scene.streams.iter().zip([None, None, Some(seed)]) {
            let (tell, told) = oneshot::channel();
            let reading = clients::read(self.client()?, stream.clone(), gives_up);
            let journal = journal.clone();
            let reading = async move {
                let read = reading.await;
                if let Err(error) = &read {
                    journal.fail(format!("a reader: {error:#}"));
                }
                tell.send(read).ok();
            };
            let task = self
                .runtime
                .block_on(async { rt::spawn("reader", reading) });
            reading_tasks.push(task);
            readings.push(told);
        }
        Ok(Begun {
            working: tasks,
            _reading: reading_tasks,
            readings,
        })
    }

    fn spawn(&self, journal: &Journal, work: Working) -> rt::Task {
        let journal = journal.clone();
        let work = async move {
            if let Err(error) = work.await {
                journal.fail(format!("{error:#}"));
            }
        };
        self.runtime.block_on(async { rt::spawn("client", work) })
    }

    fn disturb(
        &mut self,
        seed: u64,
        (harm, n_times): (Harm, u32),
        journal: &Journal,
    ) -> anyhow::Result<()> {
        let mut random = Random(seed);
        for _ in 0..n_times {
            let more = 1 + match random.below(8) {
                0 => 0,
                1 => random.below(3_000),
                _ => random.below(400),
            };
            let until = journal.until_told(journal.n_told() + more, PATIENCE);
            self.runtime.block_on(until)?;
            wait(Duration::from_micros(random.below(4_000)));
            match harm {
                Harm::Kill => self.kill(&mut random)?,
                Harm::Stop => self.stop(&mut random)?,
            }
        }
        let until = journal.until_told(journal.n_told() + 200, PATIENCE);
        self.runtime.block_on(until)
    }

    fn kill(&mut self, random: &mut Random) -> anyhow::Result<()> {
        let server = &mut self.servers[self.current];
        server.process.kill()?;
        server.process.check_log()?;
        // Sometimes it comes no further than a part of its start.
        while random.below(4) == 0 {
            server.start_and_kill(random.millis(80))?;
        }
        server.start()
    }

    /// The server stands still, another one takes over what it has, and then it goes on: it is to do nothing more.
    fn stop(&mut self, random: &mut Random) -> anyhow::Result<()> {
        let next = 1 - self.current;
        self.servers[self.current].process.signal(Signal::STOP)?;
        self.servers[next].start()?;
        self.proxy.set_to(Some(self.servers[next].controller()?));
        wait(random.millis(50));
        let process = &mut self.servers[self.current].process;
        process.signal(Signal::CONT)?;
        let code = process.until_ended(PATIENCE)?;
        let said = process.news()?;
        ensure!(
            code == Some(1) && !said.contains("panicked"),
            "it ends with {code:?}: {said}"
        );
        self.current = next;
        Ok(())
    }

    /// Says how much there is. All streams are sealed: so who reads them comes to an end.
    fn judge(
        &mut self,
        scene: &Scene,
        journal: &Journal,
        readings: Vec<Reading>,
    ) -> anyhow::Result<String> {
        let client = self.client()?;
        self.runtime.block_on(async {
            for stream in &scene.streams {
                let controller = client.controller();
                clients::tiles(&controller.current_segments(stream).await?)?;
                patiently(|| controller.seal_stream(stream)).await?;
            }
            anyhow::Ok(())
        })?;
        // Nobody writes any more.
        let state = std::mem::take(&mut *journal.lock());
        let (mut n_events, mut live) = (0, Vec::new());
        for (stream, reading) in scene.streams.iter().zip(readings) {
            let read = async { tokio::time::timeout(PATIENCE, reading).await };
            let read = self.runtime.block_on(read);
            let read = read.with_context(|| format!("{stream} is sealed, and has no end"))???;
            let written = &state.written[stream.stream()];
            read.check(written)
                .with_context(|| format!("read {stream} while it was written"))?;
            n_events += read.n_events();
            live.push(read);
        }
        // What was read is there after one more kill.
        self.kill(&mut Random(1))?;
        self.runtime.block_on(async {
            let mut n_epochs = 0;
            for (stream, live) in scene.streams.iter().zip(&live).take(2) {
                let read = clients::read(client.clone(), stream.clone(), None).await?;
                let is_same = read.has_those_of(live);
                ensure!(is_same, "{stream} has other events after the last kill");
                let epoch = epochs(&client, stream).await?;
                let told = state.epochs.get(stream.stream()).copied();
                ensure!(
                    Some(epoch) >= told,
                    "epoch {epoch} is the last, after {told:?}"
                );
                n_epochs += epoch + 1;
            }
            let (last, _) = clients::look(&Table::new(&client, scene.table.clone())).await?;
            let path = history::path_to(last, &state.table.parents);
            history::check_order(&path, &state.table.calls).context("the table")?;
            check_state(&client, &scene.state, &state.state)
                .await
                .context("conditional appends")?;
            Ok(format!(
                "{n_events} events, {} values of the table, {n_epochs} epochs",
                path.len() - 1
            ))
        })
    }
}

/// The last epoch. Each has all keys.
async fn epochs(client: &Client, stream: &StreamName) -> anyhow::Result<i32> {
    let controller = client.controller();
    let cut = patiently(|| controller.head(stream)).await?;
    ensure!(!cut.offsets.is_empty(), "{stream} has no head");
    let mut epoch = 0;
    loop {
        match patiently(|| controller.epoch_segments(stream, epoch)).await {
            Ok(segments) if !segments.is_empty() => clients::tiles(&segments)?,
            Ok(_) | Err(_) if epoch > 0 => return Ok(epoch - 1),
            Ok(_) => anyhow::bail!("{stream} has no epoch"),
            Err(error) => return Err(error.into()),
        }
        epoch += 1;
    }
}

/// What was appended on a condition is there, each where it was to be.
async fn check_state(
    client: &Client,
    stream: &StreamName,
    register: &Register,
) -> anyhow::Result<()> {
    let segment = Segment::new(client, clients::first(stream));
    let length = segment.info().await?.length;
    let mut path = vec![0];
    let mut bytes = Bytes::new();
    let mut offset = 0;
    while offset < length || !bytes.is_empty() {
        if bytes.len() < 16 {
            ensure!(offset < length, "{stream} ends within an event");
            let read = segment.read(offset, 1 << 20).await?;
            offset += i64::try_from(read.data.len())?;
            bytes = [bytes, read.data].concat().into();
            continue;
        }
        let event = streams_wire::events::take(&mut bytes)?.context("a whole event")?;
        let value = u64::from_be_bytes(event[..].try_into()?);
        let at = path.len() as u64 - 1;
        let wanted = register.parents.get(&value);
        ensure!(
            wanted == Some(&at),
            "{value} is at {at}, and was to be at {wanted:?}"
        );
        path.push(value);
    }
    let value = |at: u64| path.get(usize::try_from(at).unwrap_or(usize::MAX)).copied();
    let mut calls = Vec::new();
    for call in &register.calls {
        let seen = "a length that was seen is not reached";
        let did = match call.did {
            Did::Replaced(at, new) => Did::Replaced(value(at).context(seen)?, new),
            Did::Refused(at, new) => Did::Refused(value(at).context(seen)?, new),
            did => did,
        };
        calls.push(Call { did, ..*call });
    }
    history::check_order(&path, &calls)
}
