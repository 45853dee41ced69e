//! How long an acknowledgement takes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use streams_client::EventWriter;
use streams_client::writer::Receipt;

use super::disk::{Echo, Room, on_schedule};
use super::load::{Lane, Pace, asked, joined, thread, times};
use super::peers::{self, Peer};
use super::server::{Door, Server};
use super::wire;
use super::{missing, optional, without_peer};
use crate::bench::data::{self, KIB};
use crate::bench::process::cpu_time;
use crate::bench::{Cpu, Measured, Setting, quantile, tell};

const EVENT_BYTES: usize = KIB;
/// An event with what frames it, in a log; and with the frame of an append, on the wire.
const LOGGED_BYTES: usize = EVENT_BYTES + 8;
const ASKED_BYTES: usize = LOGGED_BYTES + 52;
const ANSWER_BYTES: usize = 56;
/// So often each of those is due that are measured beside each other.
const EVERY: Duration = Duration::from_millis(5);

/// The same, and what each took of the processors.
struct Found {
    times: Vec<Duration>,
    cpu: Duration,
}

/// Events of 1 KiB on an open schedule, each acknowledged for itself. The disk and the network are asked for the same in between, and so meet what
/// the server meets; clients and other servers follow, each alone, on the same schedule.
pub(super) fn ack_1k(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let (long, short) = match setting.is_quick {
        true => (Duration::from_millis(200), Duration::from_millis(200)),
        false => (Duration::from_secs(60), Duration::from_secs(20)),
    };
    let server = Server::start(&setting.dir.join("ours"), &serde_json::json!({}))?;
    let (ours, disk, network) = beside(setting, &server, long)?;
    let sums = disk.times.iter().zip(&network.times);
    let sums: Vec<_> = sums.map(|(disk, network)| *disk + *network).collect();
    let limit = |part: f64| Found {
        times: vec![quantile(&sums, part)],
        cpu: (disk.cpu + network.cpu) / u32::try_from(disk.times.len()).unwrap_or(u32::MAX),
    };
    let limits = [limit(0.5), limit(0.99)];
    for (part, limit) in [0.5, 0.99].into_iter().zip(&limits) {
        tell(&format!(
            "streams.ack_1k: quantile {part}: {:.0?}, the disk {:.0?}, the network {:.0?}, both {:.0?}",
            quantile(&ours.times, part),
            quantile(&disk.times, part),
            quantile(&network.times, part),
            limit.times[0],
        ));
    }
    let mut rows = rows(&ours, [&limits[0], &limits[1]]);
    let alone = |lane: Lane, pid| alone(lane, pid, short);
    let client = alone(writer_lane(&server.door, EVENT_BYTES)?, Some(server.pid()))?;
    rows.extend(self::rows(&client, [&limits[0], &limits[1]]));
    let python = || {
        let plan = (times(short, EVERY), EVERY.as_secs_f64());
        let seconds = peers::python(setting, &server.door, plan)?;
        let times = seconds.into_iter().map(Duration::try_from_secs_f64);
        anyhow::Ok(Found {
            times: times.collect::<Result<_, _>>()?,
            cpu: Duration::ZERO,
        })
    };
    match optional("streams.ack_1k.python", python()) {
        Some(python) => rows.extend(self::rows(&python, [&limits[0], &limits[1]])),
        None => rows.extend([missing(); 2]),
    }
    let peer = |peer: anyhow::Result<Peer>| {
        let peer = peer?;
        alone(peer.lane(EVENT_BYTES, 1)?, Some(peer.pid()))
    };
    let java = || {
        let door = Door::of_peer(super::peer(setting)?)?;
        alone(lane(&door)?, door.pid)
    };
    for (id, found) in [
        ("streams.ack_1k.peer.redis", peer(Peer::redis(setting))),
        ("streams.ack_1k.peer.nats", peer(Peer::nats(setting))),
        ("streams.ack_1k.peer.java", java()),
    ] {
        match optional(id, found) {
            Some(theirs) => rows.extend(self::rows(&ours, [&theirs, &theirs])),
            None => rows.extend(
                self::rows(&ours, [&ours, &ours])
                    .into_iter()
                    .map(without_peer),
            ),
        }
    }
    Ok(rows)
}

/// p50 and p99, in microseconds, each beside its own peer's.
fn rows(ours: &Found, peers: [&Found; 2]) -> Vec<Measured> {
    let us = |found: &Found, part| quantile(&found.times, part).as_secs_f64() * 1e6;
    let each = |found: &Found| found.cpu.as_secs_f64() * 1e6 / found.times.len() as f64;
    let parts = [0.5, 0.99].into_iter().zip(peers);
    let rows = parts.map(|(part, peer)| Measured {
        value: us(ours, part),
        peer_value: us(peer, part),
        runs: ours.times.len(),
        cpu: Some(Cpu {
            us: each(ours),
            peer_us: each(peer),
        }),
    });
    rows.collect()
}

/// The server, the disk and the network, in turn.
fn beside(
    setting: &Setting<'_>,
    server: &Server,
    turn: Duration,
) -> anyhow::Result<(Found, Found, Found)> {
    let mut room = Room::new(&setting.dir.join("room"), LOGGED_BYTES)?;
    let mut echo = Echo::start(ASKED_BYTES, ANSWER_BYTES)?;
    let mut lane = lane(&server.door)?;
    lane.repeat(1, 50)?;
    let before = cpu_time(server.pid())?;
    let pace = Pace {
        first: rt::now() + EVERY,
        every: EVERY,
    };
    let n_times = times(turn, EVERY);
    let disk = thread("bench disk", move || {
        on_schedule(n_times, pace.after(1.0 / 3.0), || room.write())
    })?;
    let network = thread("bench network", move || {
        let found = on_schedule(n_times, pace.after(2.0 / 3.0), || echo.ask())?;
        echo.end()?;
        Ok(found)
    })?;
    let (_lane, times) = lane.open_loop(n_times, pace)?;
    let ours = Found {
        times,
        cpu: cpu_time(server.pid())?.saturating_sub(before),
    };
    let [disk, network] = [disk, network].map(|found| {
        let (times, cpu) = joined(found)?;
        anyhow::Ok(Found { times, cpu })
    });
    Ok((ours, disk?, network?))
}

fn alone(mut lane: Lane, pid: Option<u32>, turn: Duration) -> anyhow::Result<Found> {
    lane.repeat(1, 50)?;
    let cpu = || pid.map_or(Ok(Duration::ZERO), cpu_time);
    let before = cpu()?;
    let pace = Pace {
        first: rt::now() + EVERY,
        every: EVERY,
    };
    let (_lane, times) = lane.open_loop(times(turn, EVERY), pace)?;
    Ok(Found {
        times,
        cpu: cpu()?.saturating_sub(before),
    })
}

/// One event at a time, by the protocol.
fn lane(door: &Door) -> anyhow::Result<Lane> {
    let place = door.place()?;
    let payload = data::random_bytes(EVENT_BYTES);
    wire::lane(&place.store, &[place.segment], &payload, 1)
}

/// One event at a time, by our client.
pub(super) fn writer_lane(door: &Door, event_bytes: usize) -> anyhow::Result<Lane> {
    let stream = door.stream(1)?;
    let handle = door.runtime.handle().clone();
    let writer = handle.block_on(EventWriter::open(&door.client, stream))?;
    let (writer, payload) = (
        Arc::new(writer),
        Bytes::from(data::random_bytes(event_bytes)),
    );
    let kept = Arc::clone(&writer);
    let waiting = handle.clone();
    Ok(asked(
        move |_| Ok(handle.block_on(writer.write("key", payload.clone()))?),
        move |receipt: Receipt| {
            // As long as there are receipts, there is their writer.
            let _writer = &kept;
            Ok(waiting.block_on(receipt.wait())?)
        },
    ))
}
