//! What a server of streams costs, beside what the disk and the network allow and what others take for the same.
//!
//! A generator of ours, which sends frames that were made before, shows what the server can do; clients show what their users have. Latency counts
//! from when something was due, whatever was not answered then. Peers sync as often as our server does: before each acknowledgement.

mod ack;
mod disk;
mod edge;
mod ingest;
mod load;
mod peers;
mod readers;
mod server;
mod starts;
mod tail;
mod wire;

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use streams_client::controller::Address;
use streams_wire::requests::FlushToStorage;
use streams_wire::shapes::DelegationToken;

use super::{Goal, Group, Measured, Scratch, Setting, benchmark, tell};

/// Of a server, beside the platform's own.
const N_CONTAINERS: i32 = 4;

const PROBE_AND_TRIP: &str =
    "the same bytes written to a file that has its room, and fdatasync; and a round trip on TCP";
const REDIS: &str = "Redis XADD, appendfsync always";
const NATS: &str = "NATS JetStream in files, sync_interval always";
const JAVA: &str = "Pravega's own server";
const DISK: &str =
    "pieces as large as the log's, written to a file that has its room, and fdatasync";
const GENERATOR: &str = "the generator, by the protocol";
const ONE: &str = "all to one segment";
const LIMIT: &str = "the limit";
const NOISE: &str = "the difference of two servers that do not";
const NOISE_OF_TURNS: &str = "the difference of two turns without these readers";
const READ: &str = "the files of the log read, and nothing else";
const APPEND: &str = "an append of the same event, acknowledged";
const INGEST: &str = "what is written meanwhile";

/// Percent.
const KPI8_P50: Option<Goal> = Some(Goal::ValueAtMostOrPeer(1.0));
const KPI8_P99: Option<Goal> = Some(Goal::ValueAtMostOrPeer(5.0));

const fn at_most(value: f64) -> Option<Goal> {
    Some(Goal::ValueAtMost(value))
}

const fn times_at_most(ratio: f64) -> Option<Goal> {
    Some(Goal::RatioAtMost(ratio))
}

const fn times_at_least(ratio: f64) -> Option<Goal> {
    Some(Goal::RatioAtLeast(ratio))
}

pub(super) const GROUPS: &[Group] = &[
    Group {
        benchmarks: &[
            benchmark("streams.ack_1k", "us", PROBE_AND_TRIP, times_at_most(1.3)),
            benchmark(
                "streams.ack_1k.p99",
                "us",
                PROBE_AND_TRIP,
                times_at_most(1.2),
            ),
            benchmark("streams.ack_1k.client", "us", PROBE_AND_TRIP, None),
            benchmark("streams.ack_1k.client.p99", "us", PROBE_AND_TRIP, None),
            benchmark("streams.ack_1k.python", "us", PROBE_AND_TRIP, None),
            benchmark("streams.ack_1k.python.p99", "us", PROBE_AND_TRIP, None),
            benchmark("streams.ack_1k.peer.redis", "us", REDIS, None),
            benchmark("streams.ack_1k.peer.redis.p99", "us", REDIS, None),
            benchmark("streams.ack_1k.peer.nats", "us", NATS, None),
            benchmark("streams.ack_1k.peer.nats.p99", "us", NATS, None),
            benchmark("streams.ack_1k.peer.java", "us", JAVA, None),
            benchmark("streams.ack_1k.peer.java.p99", "us", JAVA, None),
        ],
        measure: ack::ack_1k,
    },
    Group {
        benchmarks: &[
            benchmark("streams.ingest_1k", "MB/s", DISK, times_at_least(0.85)),
            benchmark("streams.ingest_1k.client", "MB/s", DISK, None),
        ],
        measure: ingest::ingest_1k,
    },
    Group {
        benchmarks: &[
            benchmark("streams.ingest_100b", "1/s", JAVA, times_at_least(5.0)),
            benchmark("streams.ingest_100b.peer.redis", "1/s", REDIS, None),
            benchmark("streams.ingest_100b.peer.nats", "1/s", NATS, None),
            benchmark("streams.ingest_100b.client", "1/s", GENERATOR, None),
        ],
        measure: ingest::ingest_100b,
    },
    Group {
        benchmarks: &[benchmark("streams.many", "MB/s", ONE, times_at_least(0.85))],
        measure: ingest::many,
    },
    Group {
        benchmarks: &[benchmark("streams.rss", "MiB", LIMIT, at_most(256.0))],
        measure: edge::rss,
    },
    Group {
        benchmarks: &[
            benchmark("streams.kpi8", "%", NOISE, KPI8_P50),
            benchmark("streams.kpi8.p99_25", "%", NOISE, KPI8_P99),
            benchmark("streams.kpi8.p50_50", "%", NOISE, KPI8_P50),
            benchmark("streams.kpi8.p99_50", "%", NOISE, KPI8_P99),
        ],
        measure: edge::kpi8,
    },
    Group {
        benchmarks: &[
            benchmark("streams.kpi11", "ms", LIMIT, at_most(5.0)),
            benchmark("streams.kpi11.p99", "ms", LIMIT, at_most(50.0)),
            benchmark("streams.kpi11.stopped", "ms", LIMIT, at_most(5.0)),
            benchmark("streams.kpi11.stopped.p99", "ms", LIMIT, at_most(50.0)),
        ],
        measure: edge::kpi11,
    },
    Group {
        benchmarks: &[benchmark("streams.recover_1m", "s", READ, at_most(2.0))],
        measure: starts::recover_1m,
    },
    Group {
        benchmarks: &[benchmark("streams.replay_440k", "s", READ, at_most(1.0))],
        measure: starts::replay_440k,
    },
    Group {
        benchmarks: &[
            benchmark("streams.commit", "us", APPEND, times_at_most(2.0)),
            benchmark("streams.commit.call", "us", APPEND, None),
        ],
        measure: readers::commit,
    },
    Group {
        benchmarks: &[
            benchmark("streams.catchup", "MB/s", INGEST, times_at_least(3.0)),
            benchmark(
                "streams.catchup.tail_p99",
                "%",
                NOISE_OF_TURNS,
                Some(Goal::ValueAtMostOrPeer(10.0)),
            ),
        ],
        measure: readers::catchup,
    },
];

/// Another server of streams that is running, to compare with.
#[derive(Debug, Default, Args)]
pub(super) struct PeerArgs {
    /// Where the controller of Pravega's own server is, for `streams`: `tcp://HOST:PORT`.
    #[arg(long, value_name = "URL")]
    peer_controller: Option<Address>,
    /// Its process, whose time on processors counts.
    #[arg(long, value_name = "PID", requires = "peer_controller")]
    peer_pid: Option<u32>,
}

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    controller: Address,
    pid: Option<u32>,
}

impl PeerArgs {
    pub(super) fn peer(&self) -> Option<Peer> {
        let controller = self.peer_controller.clone()?;
        let pid = self.peer_pid;
        Some(Peer { controller, pid })
    }
}

/// All that a server has taken is in long-term storage then, and its log is truncated.
pub(crate) fn flush(store: &str) -> anyhow::Result<()> {
    let mut link = wire::Link::open(store)?;
    for container_id in 0..=N_CONTAINERS {
        link.ask(FlushToStorage {
            container_id,
            request_id: container_id.into(),
            token: DelegationToken(String::new()),
        })?;
    }
    Ok(())
}

fn peer<'a>(setting: &Setting<'a>) -> anyhow::Result<&'a Peer> {
    setting
        .peer
        .context("Pravega's own server is missing: start one, and say with --peer-controller where")
}

/// What was found, or `None` if a peer is missing, which is said.
fn optional<T>(id: &str, found: anyhow::Result<T>) -> Option<T> {
    found
        .inspect_err(|error| tell(&format!("{id}: {error:#}")))
        .ok()
}

/// The same, without what it would be compared with.
fn without_peer(measured: Measured) -> Measured {
    Measured {
        peer_value: f64::NAN,
        cpu: None,
        ..measured
    }
}

/// Of a client that is missing.
fn missing() -> Measured {
    Measured {
        value: f64::NAN,
        peer_value: f64::NAN,
        runs: 0,
        cpu: None,
    }
}

/// A directory that is in memory, where the system has one: for what is not to be on the disk of a log.
struct Memory(Scratch);

impl Memory {
    fn new(setting: &Setting<'_>) -> anyhow::Result<Self> {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { memory } else { setting.dir };
        Ok(Self(Scratch::within(dir)?))
    }

    fn path(&self) -> &Path {
        &self.0.path
    }

    /// Settings of a server whose long-term storage is here.
    fn lts(&self) -> anyhow::Result<Value> {
        let url = url::Url::from_directory_path(self.path());
        let url = url.map_err(|()| anyhow::anyhow!("a scratch directory has a URL"))?;
        Ok(json!({"lts": url.as_str()}))
    }
}
