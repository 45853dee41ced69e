//! What it costs those who work with a node that it brings objects to S3 meanwhile.
//!
//! Three nodes of the same kind have the same load one after the other, again and again, each time in another order: one brings what is written to a far
//! store, two do not. Those that have no load stand still. The difference of the two that are the same is noise. The far store and the line to it are
//! on the same processors, which they have when nobody else wants them.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use geds::client::Client;
use geds::index::{Class, Name};
use geds::store::Terms;
use tokio::runtime::Runtime;
use tokio::time::sleep_until;

use super::data::{self, KIB};
use super::network::put;
use super::node::{self, BUCKET, Served, TENANT};
use super::process;
use super::proxy::{self, Proxy};
use super::stats::{self, AGAIN, OFF, ON};
use super::{Measured, Setting, quantile, tell};

const OBJECT_BYTES: usize = 64 * KIB;
const N_NAMES: usize = 1_024;
/// So many do something at once when there is as much to do as can be done.
const CLIENTS: usize = 4;
/// So many may be busy when less is to be done, so that who waits does not keep others from beginning in time.
const WORKERS: usize = 64;
/// Parts of what the node can do.
const LOADS: [f64; 2] = [0.25, 0.5];

/// How much worse it is, in percent: throughput when there is as much to do as can be done, and p99 at a quarter and at half of that.
pub(super) fn kpi8(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let (n_pairs, turn) = match setting.is_quick {
        true => (2, Duration::from_millis(100)),
        false => (20, Duration::from_secs(2)),
    };
    let stage = Stage::start(setting)?;
    for node in [ON, AGAIN, OFF] {
        stage.saturate(node, turn)?;
    }
    let rate = stage.saturate(OFF, turn)?;
    // Of each load: what was found of each node.
    let mut found: [[Vec<f64>; 3]; 3] = Default::default();
    let loads = [None, Some(LOADS[0] * rate), Some(LOADS[1] * rate)];
    let before = stage.proxy.bytes();
    for pair in 0..n_pairs {
        for (load, found) in loads.into_iter().zip(&mut found) {
            for n in 0..3 {
                let node = (n + pair) % 3;
                found[node].push(match load {
                    // The time for each: less is better, as with p99.
                    None => 1.0 / stage.saturate(node, turn)?,
                    Some(rate) => stage.p99(node, rate, turn)?,
                });
            }
        }
    }
    let bytes = stage.proxy.bytes() - before;
    ensure!(bytes > 0, "nothing was brought to S3 while it was measured");
    tell(&format!("geds.kpi8: {bytes} bytes on the line to S3"));
    Ok(found
        .iter()
        .map(|found| stats::beside_noise("geds.kpi8", found))
        .collect())
}

struct Stage {
    nodes: [Node; 3],
    proxy: Proxy,
    far: Served,
    names: Vec<Name>,
    // After what runs in them.
    runtime: Runtime,
    _of_proxy: Runtime,
}

struct Node {
    clients: Vec<Client>,
    served: Served,
}

impl Stage {
    fn start(setting: &Setting<'_>) -> anyhow::Result<Self> {
        let (runtime, of_proxy) = (rt::runtime()?, proxy::of_far_away()?);
        let far = Served::start(&setting.dir.join("far"), &["--memory", "1Gi"])?;
        process::lower_priority(far.pid())?;
        runtime.block_on(far.first_client())?;
        let starting = Proxy::start(far.ready.s3, proxy::LINE_BYTES_PER_S, proxy::LINE_DELAY);
        let proxy = of_proxy.block_on(starting)?;
        let names = node::names(N_NAMES)?;
        let start = |name: &str, tier2: serde_json::Value| {
            let settings = setting.dir.join(format!("{name}.json"));
            let text = serde_json::json!({"memory": {"limit": "512Mi"}, "tier2": tier2});
            fs::write(&settings, text.to_string())?;
            Node::start(&setting.dir.join(name), &settings, &runtime, &names)
        };
        let tier2 = serde_json::json!({
            "endpoint": format!("http://{}", proxy.addr),
            "credentials": far.credentials,
            "buckets": {BUCKET: TENANT},
        });
        let nodes = [
            start("on", tier2)?,
            start("off", serde_json::Value::Null)?,
            start("again", serde_json::Value::Null)?,
        ];
        process::halt(far.pid())?;
        Ok(Self {
            nodes,
            proxy,
            far,
            names,
            runtime,
            _of_proxy: of_proxy,
        })
    }

    /// As much as can be done: so many things in a second.
    fn saturate(&self, node: usize, turn: Duration) -> anyhow::Result<f64> {
        let times = self.work(node, CLIENTS, Duration::ZERO, turn)?;
        Ok(times.len() as f64 / turn.as_secs_f64())
    }

    /// So many things in a second: how long most of them take at most, in seconds.
    fn p99(&self, node: usize, rate: f64, turn: Duration) -> anyhow::Result<f64> {
        let every = Duration::from_secs_f64(1.0 / rate);
        let times = self.work(node, WORKERS, every, turn)?;
        Ok(quantile(&times, 0.99).as_secs_f64())
    }

    /// Nobody else runs meanwhile, but the far store if it is asked.
    fn work(
        &self,
        node: usize,
        n_workers: usize,
        every: Duration,
        turn: Duration,
    ) -> anyhow::Result<Vec<Duration>> {
        let on = &self.nodes[node];
        if node == ON {
            process::go_on(self.far.pid())?;
        }
        process::go_on(on.served.pid())?;
        let first = rt::now();
        let load = Arc::new(Load {
            names: self.names.clone(),
            content: data::random_bytes(OBJECT_BYTES),
            next: AtomicUsize::new(0),
            first,
            end: first + turn,
            every,
            times: Mutex::default(),
            failed: Mutex::default(),
        });
        self.runtime.block_on(async {
            let workers = (0..n_workers).map(|n| {
                let client = on.clients[n % CLIENTS].clone();
                let load = Arc::clone(&load);
                rt::spawn("bench worker", async move { load.work(&client).await })
            });
            for worker in workers.collect::<Vec<_>>() {
                worker.ended().await;
            }
        });
        process::halt(on.served.pid())?;
        if node == ON {
            process::halt(self.far.pid())?;
        }
        if let Some(error) = lock(&load.failed).take() {
            return Err(error).context("work with a node");
        }
        let times = std::mem::take(&mut *lock(&load.times));
        ensure!(!times.is_empty(), "nothing was done in time");
        Ok(times)
    }
}

impl Node {
    /// With all names, and at rest.
    fn start(
        dir: &Path,
        settings: &Path,
        runtime: &Runtime,
        names: &[Name],
    ) -> anyhow::Result<Self> {
        let settings = settings.to_str().context("write a path as text")?;
        let served = Served::start(dir, &["--config", settings])?;
        let mut clients = vec![runtime.block_on(served.first_client())?];
        for _ in 1..CLIENTS {
            clients.push(runtime.block_on(served.client())?);
        }
        let content = data::random_bytes(OBJECT_BYTES);
        for name in names {
            runtime.block_on(put(&clients[0], name, &content))?;
        }
        process::halt(served.pid())?;
        Ok(Self { clients, served })
    }
}

/// What workers do, and how long each thing took.
struct Load {
    names: Vec<Name>,
    content: Vec<u8>,
    next: AtomicUsize,
    first: Instant,
    end: Instant,
    /// One thing is due so often; zero: at once.
    every: Duration,
    times: Mutex<Vec<Duration>>,
    failed: Mutex<Option<anyhow::Error>>,
}

impl Load {
    async fn work(&self, client: &Client) {
        let mut times = Vec::new();
        if let Err(error) = self.work_until_end(client, &mut times).await {
            lock(&self.failed).get_or_insert(error);
        }
        lock(&self.times).extend(times);
    }

    async fn work_until_end(
        &self,
        client: &Client,
        times: &mut Vec<Duration>,
    ) -> anyhow::Result<()> {
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let due = self.first + self.every * u32::try_from(n)?;
            if due.max(rt::now()) >= self.end {
                return Ok(());
            }
            let began = if self.every.is_zero() {
                rt::now()
            } else if due > rt::now() {
                sleep_until(due.into()).await;
                // The timer wakes up late. That is nobody's fault.
                rt::now()
            } else {
                // All were busy: whoever asks has waited since.
                due
            };
            let name = &self.names[data::pick(n / 2, self.names.len())];
            if n.is_multiple_of(2) {
                let content = self.content.clone().into();
                let put = client.put(name, content, Class::Ephemeral, Terms::default());
                put.await?;
            } else {
                let (_, content) = client.get(name, OBJECT_BYTES).await?;
                data::sum(&content);
            }
            times.push(began.elapsed());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
