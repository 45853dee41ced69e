//! S3 is away while clients write: the server takes as much as its log has room for, and brings it there afterwards.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use geds::index::BucketName;
use streams_client::controller::{Scaling, StreamConfig};
use streams_client::names::StreamName;
use streams_client::reader::Until;
use streams_client::writer::Receipt;
use streams_client::{Client, EventWriter, StreamReader};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::clients::patiently;
use super::server::Server;
use crate::bench::{self, Scratch};
use crate::prove::Found;
use crate::prove::chance::wait;
use crate::prove::geds::servers::Server as Node;
use crate::prove::proxy::Proxy;

const BUCKET: &str = "streams";
const RATE_BYTES_PER_S: u64 = 15_000_000;
const EVENT_BYTES: u64 = 10_000;
const KEYS: u64 = 64;
/// A tenth of what a log takes if nobody says otherwise.
const LOG_BYTES_MAX: u64 = 1 << 30;
/// Of the log there are so many, or smaller ones of the least size.
const PIECES: u64 = 64;
const PIECE_BYTES_MIN: u64 = 1 << 20;
/// Acknowledgements that nobody has looked at.
const RECEIPTS_MAX: usize = 10_000;
/// So late the last write may be when the log is three quarters full, as a part of the time and at least so much, or the rate was not kept.
const LATE_PART: u32 = 20;
const LATE_MIN: Duration = Duration::from_secs(1);
/// S3 is tried again within some seconds; then so much comes there in a second at least.
const DRAINED_BYTES_PER_S: u64 = 4 << 20;
/// What the log has at least, with nothing in it.
const LEFT_SEGMENTS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(60);
const GOAL_PERCENT: u64 = 95;

struct World {
    server: Server,
    back: Node,
    proxy: Proxy,
    stream: StreamName,
    limit: u64,
    /// The log gives room back in such.
    piece: u64,
    // After what runs in it.
    runtime: Runtime,
    _scratch: Scratch,
}

/// What was written until nothing more was taken, or the time was over.
struct Written {
    n_acknowledged: u64,
    late: Duration,
    is_full: bool,
}

/// Says how much of its log a server took in while S3 was away, in percent.
pub(in crate::prove) fn outage(time: Duration) -> anyhow::Result<Found> {
    let mut world = World::start(time)?;
    // So that there is something of each container behind it.
    let client = world.client()?;
    let stream = world.stream.clone();
    let writer = world.runtime.block_on(EventWriter::open(&client, stream))?;
    world.runtime.block_on(async {
        writer.write("first", event(0)).await?.wait().await?;
        anyhow::Ok(())
    })?;
    world.proxy.set_to(None);
    world.back.kill()?;
    let written = world.write(&client, writer)?;
    let percent = 100 * written.n_acknowledged * EVENT_BYTES / world.limit;
    let mut problem = None;
    if !written.is_full || percent < GOAL_PERCENT {
        problem = Some(format!("it took {percent} % and then no more"));
    } else if written.late > LATE_MIN.max(time / LATE_PART) {
        let late = written.late;
        problem = Some(format!(
            "it is behind {RATE_BYTES_PER_S} bytes/s by {late:.1?}"
        ));
    }
    let ready = world.back.start()?;
    world.proxy.set_to(Some(ready.s3));
    let began = rt::now();
    let drained = world.drain(&client, &written);
    let problem = drained.err().map(|error| format!("{error:#}")).or(problem);
    world.server.process.check_log()?;
    Ok(Found {
        value: usize::try_from(percent)?,
        runs: usize::try_from(written.n_acknowledged)?,
        problem,
        note: Some(format!(
            "{} MB, {:.1?} behind their time; all in S3 and read again {:.0?} later",
            written.n_acknowledged * EVENT_BYTES / 1_000_000,
            written.late,
            began.elapsed()
        )),
    })
}

impl World {
    fn start(time: Duration) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let runtime = rt::runtime()?;
        let mut back = Node::new(
            scratch.path.join("back"),
            &serde_json::json!({"memory": {"limit": "64Mi"}}),
        )?;
        let proxy = runtime.block_on(Proxy::start())?;
        proxy.set_to(Some(back.start()?.s3));
        runtime.block_on(async {
            let client = back.client().await?;
            client.create_bucket(&BucketName::new(BUCKET)?).await?;
            anyhow::Ok(())
        })?;
        let bytes = (RATE_BYTES_PER_S * time.as_secs()).min(LOG_BYTES_MAX);
        let piece = (bytes / PIECES).max(PIECE_BYTES_MIN);
        let limit = (bytes / piece).max(2) * piece;
        let (endpoint, credentials) = (format!("http://{}", proxy.addr), &back.credentials);
        let mut server = serve(&scratch.path, (&endpoint, credentials), (limit, piece))?;
        server.start()?;
        let stream = StreamName::new("lab", "outage")?;
        let client = runtime.block_on(async { server.client(PATIENCE) })?;
        runtime.block_on(async {
            client.controller().create_scope("lab").await?;
            let scaling = Scaling::Fixed { n_segments: 4 };
            let config = StreamConfig {
                scaling,
                ..StreamConfig::default()
            };
            client.controller().create_stream(&stream, &config).await
        })?;
        Ok(Self {
            server,
            back,
            proxy,
            stream,
            limit,
            piece,
            runtime,
            _scratch: scratch,
        })
    }

    fn client(&self) -> anyhow::Result<Client> {
        self.runtime
            .block_on(async { self.server.client(PATIENCE) })
    }

    /// At the rate, until the log is full. Meanwhile somebody reads what is written.
    fn write(&self, client: &Client, writer: EventWriter) -> anyhow::Result<Written> {
        let n_acknowledged = Arc::<AtomicU64>::default();
        let n_read = Arc::<AtomicU64>::default();
        let is_over = Arc::<AtomicBool>::default();
        let (tell, told) = mpsc::channel(RECEIPTS_MAX);
        let (counting, over) = (Arc::clone(&n_acknowledged), Arc::clone(&is_over));
        let reading = read(client.clone(), self.stream.clone(), Arc::clone(&n_read));
        let tasks = self.runtime.block_on(async {
            [
                rt::spawn("acknowledged", count(told, counting)),
                rt::spawn("reads", reading),
                rt::spawn("writes", send(writer, tell, over)),
            ]
        });
        let began = rt::now();
        let (mut late, mut is_full) = (Duration::ZERO, false);
        let end = began + PATIENCE + 2 * time_of(self.limit);
        while !is_full && rt::now() < end {
            wait(Duration::from_millis(50));
            is_full = self.server.metric("streams_log_is_full")? == 1;
            let n_bytes = n_acknowledged.load(Ordering::Relaxed) * EVENT_BYTES;
            if n_bytes * 4 < self.limit * 3 {
                late = began.elapsed().saturating_sub(time_of(n_bytes));
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let n_acknowledged = n_acknowledged.load(Ordering::Relaxed);
        // Who reads goes on, and so does who asks where it ends.
        let end = rt::now() + PATIENCE;
        while n_read.load(Ordering::Relaxed) <= n_acknowledged {
            let n_read = n_read.load(Ordering::Relaxed);
            ensure!(
                rt::now() < end,
                "{n_read} of {n_acknowledged} events are read"
            );
            wait(Duration::from_millis(20));
        }
        drop(tasks);
        Ok(Written {
            n_acknowledged,
            late,
            is_full,
        })
    }

    /// All that was acknowledged comes to S3, and is read from there after a kill, and more is taken.
    fn drain(&mut self, client: &Client, written: &Written) -> anyhow::Result<()> {
        let end = rt::now() + Duration::from_secs(60 + self.limit / DRAINED_BYTES_PER_S);
        let store = self.server.store()?.to_string();
        while let Err(error) = bench::flush(&store) {
            if rt::now() > end {
                return Err(error).context("bring all that is in the log to S3");
            }
            wait(Duration::from_secs(1));
        }
        let bytes = self.server.metric("streams_log_bytes")?;
        ensure!(
            bytes <= LEFT_SEGMENTS * self.piece,
            "{bytes} bytes are in the log when all is in S3"
        );
        self.server.process.kill()?;
        self.server.start()?;
        let stream = self.stream.clone();
        self.runtime.block_on(async {
            let writer = EventWriter::open(client, stream.clone()).await?;
            writer.write("last", event(u64::MAX)).await?.wait().await?;
            patiently(|| client.controller().seal_stream(&stream)).await?;
            let mut reader = StreamReader::open(client, &stream, Until::Sealed).await?;
            let mut next = vec![0; usize::try_from(KEYS)?];
            while let Some(event) = reader.next().await? {
                let number = event.data.first_chunk().context("an event has a number")?;
                match u64::from_be_bytes(*number) {
                    0 | u64::MAX => {}
                    number => {
                        // Those of a key are in order, and none is missing or there twice.
                        let next = &mut next[usize::try_from(number % KEYS)?];
                        let wanted = *next * KEYS + number % KEYS;
                        let begins = if number % KEYS == 0 { KEYS } else { 0 };
                        ensure!(
                            number == wanted + begins,
                            "{number} where {wanted} was written"
                        );
                        *next += 1;
                    }
                }
            }
            // They were acknowledged in order.
            let n_acknowledged = written.n_acknowledged;
            for (key, n_found) in (0..).zip(&next) {
                let n_wanted = (1..=n_acknowledged).filter(|n| n % KEYS == key).count() as u64;
                ensure!(
                    *n_found >= n_wanted,
                    "{n_found} of {n_wanted} events of key {key} are there"
                );
            }
            Ok(())
        })
    }
}

fn time_of(n_bytes: u64) -> Duration {
    Duration::from_secs_f64(n_bytes as f64 / RATE_BYTES_PER_S as f64)
}

fn serve(
    dir: &Path,
    (endpoint, credentials): (&str, &Path),
    (limit, piece): (u64, u64),
) -> anyhow::Result<Server> {
    let config = serde_json::json!({
        "lts": format!("s3://{BUCKET}/lab"),
        "s3": {"endpoint": endpoint, "credentials": credentials},
        "segments": {
            "log": {
                "segment": format!("{}Ki", piece >> 10),
                "limit": format!("{}Ki", limit >> 10),
                // As much of it as of a large one.
                "slow_down": format!("{}ms", 1 + 3_000 * limit / LOG_BYTES_MAX),
            },
        },
    });
    Server::new(dir, ("server", "streams"), &config)
}

/// Its number, and what fills it.
fn event(number: u64) -> Bytes {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(usize::try_from(EVENT_BYTES).expect("it is short"), 7);
    bytes.into()
}

/// From 1 on.
async fn send(writer: EventWriter, tell: mpsc::Sender<Receipt>, is_over: Arc<AtomicBool>) {
    let began = rt::now();
    for number in 1.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        tokio::time::sleep_until((began + time_of(number * EVENT_BYTES)).into()).await;
        let key = (number % KEYS).to_string();
        let Ok(receipt) = writer.write(&key, event(number)).await else {
            break;
        };
        if tell.send(receipt).await.is_err() {
            break;
        }
    }
}

async fn count(mut told: mpsc::Receiver<Receipt>, n_acknowledged: Arc<AtomicU64>) {
    while let Some(receipt) = told.recv().await {
        if receipt.wait().await.is_err() {
            return;
        }
        n_acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

async fn read(client: Client, stream: StreamName, n_read: Arc<AtomicU64>) {
    let Ok(mut reader) = StreamReader::open(&client, &stream, Until::Sealed).await else {
        return;
    };
    while let Ok(Some(_)) = reader.next().await {
        n_read.fetch_add(1, Ordering::Relaxed);
    }
}
