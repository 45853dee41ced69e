//! How much a server takes.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use streams_wire::replies::Reply;
use streams_wire::requests::CreateSegment;
use streams_wire::shapes::{DelegationToken, ScaleType};

use super::ack::writer_lane;
use super::disk::Room;
use super::load::{Done, Lane, saturate};
use super::peers::Peer;
use super::server::{Door, Server};
use super::wire::{self, Link};
use super::{Memory, optional, without_peer};
use crate::bench::data::{self, KIB};
use crate::bench::process::{cpu_time, go_on, halt};
use crate::bench::stats::median;
use crate::bench::{Cpu, Measured, Setting, tell};

/// What an event has beside its bytes.
const EVENT_HEADER_BYTES: usize = 8;

/// So many appends of so many events each.
#[derive(Clone, Copy)]
struct Load {
    event_bytes: usize,
    n_events: usize,
    window: u64,
}

const LOAD_1K: Load = Load {
    event_bytes: KIB,
    n_events: 64,
    window: 128,
};
const LOAD_100B: Load = Load {
    event_bytes: 100,
    n_events: 128,
    window: 64,
};

/// What one side has done, and taken of the processors.
#[derive(Default)]
struct Work {
    /// To the limit of the same round.
    ratios: Vec<f64>,
    n_events: u64,
    cpu: Duration,
}

impl Work {
    /// So many appends of so many events. In bytes a second, and how many bytes.
    fn turn(
        &mut self,
        (server, load): (&Server, Load),
        lanes: &mut Vec<Lane>,
        turn: Duration,
    ) -> anyhow::Result<(f64, u64)> {
        let before = cpu_time(server.pid())?;
        let (again, done) = saturate(std::mem::take(lanes), load.window, turn)?;
        *lanes = again;
        self.cpu += cpu_time(server.pid())?.saturating_sub(before);
        let n_events = done.n * load.n_events as u64;
        self.n_events += n_events;
        let bytes = n_events * (load.event_bytes + EVENT_HEADER_BYTES) as u64;
        Ok((bytes as f64 / done.took.as_secs_f64(), bytes))
    }

    fn row(self, limit: f64) -> Measured {
        Measured {
            value: median(self.ratios.clone()) * limit,
            peer_value: limit,
            runs: self.ratios.len(),
            cpu: Some(Cpu {
                us: self.cpu.as_secs_f64() * 1e6 / self.n_events as f64,
                peer_us: 0.0,
            }),
        }
    }
}

/// Events of 1 KiB, as many as the server takes: by the protocol, and by our client. The limit is what the disk of the log takes of pieces that are as
/// large as what the server syncs at a time, in turn with it. Long-term storage is in memory.
pub(super) fn ingest_1k(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let memory = Memory::new(setting)?;
    let server = Server::start(&setting.dir.join("ours"), &memory.lts()?)?;
    let (n_rounds, turn) = rounds(setting, 8);
    let mut ours = vec![lane(&server.door, LOAD_1K)?];
    let mut client = vec![writer_lane(&server.door, LOAD_1K.event_bytes)?];
    let of_client = Load {
        n_events: 1,
        window: LOAD_1K.window * LOAD_1K.n_events as u64,
        ..LOAD_1K
    };
    let (mut raw, mut by_client, mut limits) = (Work::default(), Work::default(), Vec::new());
    // In the first one the log makes its files.
    for round in 0..=n_rounds {
        if round == 1 {
            (raw, by_client, limits) = (Work::default(), Work::default(), Vec::new());
        }
        let before = syncs(&server)?;
        let (rate, bytes) = raw.turn((&server, LOAD_1K), &mut ours, turn)?;
        let piece = bytes / (syncs(&server)? - before).max(1);
        let (client_rate, _) = by_client.turn((&server, of_client), &mut client, turn)?;
        halt(server.pid())?;
        let limit = bandwidth(setting, usize::try_from(piece)?, turn)?;
        go_on(server.pid())?;
        tell(&format!(
            "streams.ingest_1k: {:.1} MB/s, {piece} bytes a sync; the disk {:.1} MB/s; \
             our client {:.1} MB/s",
            rate / 1e6,
            limit / 1e6,
            client_rate / 1e6
        ));
        raw.ratios.push(rate / limit);
        by_client.ratios.push(client_rate / limit);
        limits.push(limit / 1e6);
    }
    let limit = median(limits);
    Ok(vec![raw.row(limit), by_client.row(limit)])
}

fn rounds(setting: &Setting<'_>, n: usize) -> (usize, Duration) {
    match setting.is_quick {
        true => (1, Duration::from_millis(200)),
        false => (n, Duration::from_secs(2)),
    }
}

fn syncs(server: &Server) -> anyhow::Result<u64> {
    server.metric("streams_log_syncs_total")
}

/// Of the disk, in bytes a second.
fn bandwidth(setting: &Setting<'_>, piece: usize, turn: Duration) -> anyhow::Result<f64> {
    let mut room = Room::new(&setting.dir.join("room"), piece)?;
    let start = rt::now();
    let written = room.saturate(start + turn)?;
    Ok(written as f64 / start.elapsed().as_secs_f64())
}

fn lane(door: &Door, load: Load) -> anyhow::Result<Lane> {
    let place = door.place()?;
    let payload = data::random_bytes(load.event_bytes);
    wire::lane(&place.store, &[place.segment], &payload, load.n_events)
}

/// Events of 100 bytes: how many a server takes in a second on a processor. What the generator takes does not count.
pub(super) fn ingest_100b(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let server = Server::start(&setting.dir.join("ours"), &json!({}))?;
    let pid = Some(server.pid());
    let load = LOAD_100B;
    let per_event =
        |lane, n_events: usize, window, pid| events_per_cpu(setting, lane, n_events, window, pid);
    let ours = per_event(lane(&server.door, load)?, load.n_events, load.window, pid)?;
    let client = writer_lane(&server.door, load.event_bytes)?;
    let client = per_event(client, 1, load.window * load.n_events as u64, pid)?;
    let peer = |peer: anyhow::Result<Peer>| {
        let peer = peer?;
        let lane = peer.lane(load.event_bytes, load.n_events)?;
        per_event(lane, load.n_events, load.window, Some(peer.pid()))
    };
    let java = || {
        let peer = super::peer(setting)?;
        ensure!(peer.pid.is_some(), "say with --peer-pid whose time counts");
        let door = Door::of_peer(peer)?;
        per_event(lane(&door, load)?, load.n_events, load.window, door.pid)
    };
    let row = |value: f64, peer: f64| Measured {
        value,
        peer_value: peer,
        runs: rounds(setting, 5).0,
        cpu: Some(Cpu {
            us: 1e6 / value,
            peer_us: 1e6 / peer,
        }),
    };
    let beside = |id, found| match optional(id, found) {
        Some(peer) => row(ours, peer),
        None => without_peer(row(ours, ours)),
    };
    Ok(vec![
        beside("streams.ingest_100b", java()),
        beside("streams.ingest_100b.peer.redis", peer(Peer::redis(setting))),
        beside("streams.ingest_100b.peer.nats", peer(Peer::nats(setting))),
        row(client, ours),
    ])
}

fn events_per_cpu(
    setting: &Setting<'_>,
    lane: Lane,
    n_events: usize,
    window: u64,
    pid: Option<u32>,
) -> anyhow::Result<f64> {
    let (n_rounds, turn) = rounds(setting, 5);
    let cpu = || pid.map_or(Ok(Duration::ZERO), cpu_time);
    let mut lanes = vec![lane];
    let (mut rates, mut walls) = (Vec::new(), Vec::new());
    for _ in 0..n_rounds {
        let before = cpu()?;
        let (again, done) = saturate(lanes, window, turn)?;
        lanes = again;
        let took = cpu()?.saturating_sub(before);
        rates.push((done.n * n_events as u64) as f64 / took.as_secs_f64());
        walls.push(done.per_second() * n_events as f64);
    }
    tell(&format!(
        "streams.ingest_100b: {:.0} events a second, {:.0} in a second on a processor",
        median(walls),
        median(rates.clone())
    ));
    Ok(median(rates))
}

/// One hundred connections: to one segment, and in turn each to fifty of its own.
pub(super) fn many(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    const N_WRITERS: usize = 100;
    const N_EVENTS: usize = 8;
    const WINDOW: u64 = 16;
    let n_segments = if setting.is_quick { 2 } else { 50 };
    let memory = Memory::new(setting)?;
    let server = Server::start(&setting.dir.join("ours"), &memory.lts()?)?;
    let store = server.store();
    let payload = data::random_bytes(KIB);
    let names = segments(&store, N_WRITERS * n_segments)?;
    let of_many = names.chunks(n_segments);
    let of_many = of_many.map(|names| wire::lane(&store, names, &payload, N_EVENTS));
    let mut of_many = of_many.collect::<anyhow::Result<Vec<_>>>()?;
    let one = [server.door.place()?.segment];
    let of_one = (0..N_WRITERS).map(|_| wire::lane(&store, &one, &payload, N_EVENTS));
    let mut of_one = of_one.collect::<anyhow::Result<Vec<_>>>()?;
    let (n_rounds, turn) = match setting.is_quick {
        true => (1, Duration::from_millis(200)),
        false => (6, Duration::from_secs(5)),
    };
    let mb = |done: Done| done.per_second() * (N_EVENTS * (KIB + EVENT_HEADER_BYTES)) as f64 / 1e6;
    let (mut found, mut limits, mut n) = (Vec::new(), Vec::new(), [0; 2]);
    let mut cpu = [Duration::ZERO; 2];
    for round in 0..n_rounds {
        let mut before = cpu_time(server.pid())?;
        // In another order each time.
        for which in [round % 2, (round + 1) % 2] {
            let (lanes, values) = match which {
                0 => (&mut of_many, &mut found),
                _ => (&mut of_one, &mut limits),
            };
            let (again, done) = saturate(std::mem::take(lanes), WINDOW, turn)?;
            *lanes = again;
            values.push(mb(done));
            n[which] += done.n * N_EVENTS as u64;
            let after = cpu_time(server.pid())?;
            cpu[which] += after.saturating_sub(before);
            before = after;
        }
    }
    tell(&format!("streams.many: {found:.0?} and {limits:.0?} MB/s"));
    Ok(vec![Measured {
        value: median(found),
        peer_value: median(limits),
        runs: n_rounds,
        cpu: Some(Cpu {
            us: cpu[0].as_secs_f64() * 1e6 / n[0] as f64,
            peer_us: cpu[1].as_secs_f64() * 1e6 / n[1] as f64,
        }),
    }])
}

/// Makes them past the controller, many at once.
pub(super) fn segments(store: &str, n: usize) -> anyhow::Result<Vec<String>> {
    const AT_ONCE: usize = 64;
    let mut link = Link::open(store)?;
    let names: Vec<_> = (0..n).map(|n| format!("bench/many/{n}.#epoch.0")).collect();
    for names in names.chunks(AT_ONCE) {
        for name in names {
            link.send(CreateSegment {
                request_id: 0,
                segment: name.clone(),
                target_rate: 0,
                scale_type: ScaleType::NoScaling,
                token: DelegationToken::default(),
                rollover_size_bytes: 0,
            })?;
        }
        for _ in names {
            let reply = link.reply()?;
            ensure!(
                matches!(reply, Reply::SegmentCreated(_)),
                "a segment is made, and the store says {reply:?}"
            );
        }
    }
    Ok(names)
}
