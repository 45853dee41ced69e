//! S3 is away while clients write: the node takes as much as it has room for, and brings it there afterwards.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use geds::client::Client;
use geds::index::{BucketName, Class, Key, Name};
use geds::store::Terms;

use super::servers::{Server, Servers};
use super::{BUCKET, Found, content, wait};
use crate::bench::Scratch;

const RATE_BYTES_PER_S: u64 = 15_000_000;
const OBJECT_BYTES: u64 = 256 << 10;
/// Of the disk, whole numbers of which it takes.
const SEGMENT_BYTES: u64 = 4 << 20;
const MEMORY: &str = "64Mi";
/// Whoever writes waits so long for room.
const ROOM_WAIT: &str = "500ms";
/// So late the last write may be, as a part of the time and at least so much, or the rate was not kept.
const LATE_PART: u32 = 20;
const LATE_MIN: Duration = Duration::from_secs(1);
/// S3 is tried again within 10 s; then so much comes there in a second at least.
const DRAINED_BYTES_PER_S: u64 = 4 << 20;
const GOAL_PERCENT: u64 = 95;
const SEED: u64 = 1;

/// Says how much of its room a node took in while S3 was away, in percent.
pub(in crate::prove) fn outage(time: Duration) -> anyhow::Result<Found> {
    let scratch = Scratch::new()?;
    // It is full at about the end of the outage.
    let room = (RATE_BYTES_PER_S * time.as_secs() / SEGMENT_BYTES).max(2) * SEGMENT_BYTES;
    let config = serde_json::json!({
        "memory": {"limit": MEMORY, "room_wait": ROOM_WAIT},
        "disk": {"limit": format!("{}Ki", room >> 10), "segment": format!("{}Ki", SEGMENT_BYTES >> 10)},
    });
    let mut servers = Servers::start(&scratch.path, config)?;
    servers.kill_back()?;
    let written = servers.runtime.block_on(write(&servers.node, time))?;
    let percent = 100 * written.n * OBJECT_BYTES / room;
    let mut problem = None;
    if percent < GOAL_PERCENT {
        let Written { n, refused, .. } = &written;
        problem = Some(format!("{n} objects in {room} bytes; then: {refused:?}"));
    } else if written.late > LATE_MIN.max(time / LATE_PART) {
        problem = Some(format!(
            "it is {:?} behind {RATE_BYTES_PER_S} bytes/s",
            written.late
        ));
    }
    servers.start_back()?;
    let drained = drain(&servers, written.n);
    let problem = drained.err().map(|error| format!("{error:#}")).or(problem);
    servers.node.check_log()?;
    Ok(Found {
        value: usize::try_from(percent)?,
        runs: usize::try_from(written.n)?,
        problem,
        note: Some(format!(
            "{} objects of 256 KiB, the last {:?} behind its time",
            written.n, written.late
        )),
    })
}

struct Written {
    n: u64,
    /// How long after its time the last of them was.
    late: Duration,
    refused: Option<geds::client::Error>,
}

/// Until nothing more is taken, or the time is over.
async fn write(node: &Server, time: Duration) -> anyhow::Result<Written> {
    let client = node.client().await?;
    let began = rt::now();
    let (mut n, mut late) = (0, Duration::ZERO);
    loop {
        let due = Duration::from_secs_f64((n * OBJECT_BYTES) as f64 / RATE_BYTES_PER_S as f64);
        if due > time {
            return Ok(Written {
                n,
                late,
                refused: None,
            });
        }
        tokio::time::sleep_until((began + due).into()).await;
        match put(&client, n).await {
            Ok(()) => n += 1,
            Err(error) => {
                return Ok(Written {
                    n,
                    late,
                    refused: Some(error),
                });
            }
        }
        late = began.elapsed().saturating_sub(due);
    }
}

async fn put(client: &Client, n: u64) -> geds::client::Result<()> {
    let len = usize::try_from(OBJECT_BYTES).expect("it is short");
    let bytes = content::make(SEED, n, len);
    let (class, terms) = (Class::Durable, Terms::default());
    client.put(&name(n), bytes.into(), class, terms).await?;
    Ok(())
}

/// All that was written comes to S3, and is what was written, here and there.
fn drain(servers: &Servers, n: u64) -> anyhow::Result<()> {
    let patience = Duration::from_secs(60 + n * OBJECT_BYTES / DRAINED_BYTES_PER_S);
    let end: Instant = rt::now() + patience;
    loop {
        let waiting = servers.node.metric("geds_s3_waiting_objects")?;
        if waiting == 0 {
            break;
        }
        ensure!(
            rt::now() < end,
            "{waiting} objects wait for S3 after {patience:?}"
        );
        wait(Duration::from_millis(20));
    }
    servers.runtime.block_on(async {
        for server in [&servers.node, &servers.back] {
            let client = server.client().await?;
            for n in 0..n {
                let got = client.get(&name(n), 1 << 30).await;
                let (_, bytes) = got.with_context(|| format!("read {n}"))?;
                let found = content::read(SEED, &bytes).map_err(anyhow::Error::msg)?;
                ensure!(found == n, "{found} where {n} was written");
            }
        }
        put(&servers.node.client().await?, n)
            .await
            .context("write again")
    })
}

fn name(n: u64) -> Name {
    Name {
        bucket: BucketName::new(BUCKET).expect("a bucket"),
        key: Key::new(&format!("outage/{n}")).expect("a key"),
    }
}
