//! What the edge needs: memory, video that is read while it is written, and a far long-term storage that nobody feels.

use std::thread::park_timeout;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::Memory;
use super::load::{self, Lane};
use super::server::{Place, Server, no_tiering};
use super::tail::Tails;
use super::wire::{self, Batch};
use crate::bench::data::{self, KIB, MIB};
use crate::bench::node::{BUCKET, Served};
use crate::bench::process::{self, cpu_time, go_on, halt};
use crate::bench::proxy::{self, Proxy};
use crate::bench::stats::{self, AGAIN, OFF, ON};
use crate::bench::{Cpu, Measured, Setting, quantile, tell};

/// 20 MB/s: so many events at once, so often.
const N_EVENTS: usize = 20;
const EVERY: Duration = Duration::from_micros(1_024);

/// Of what is due in a turn, so much has come when it is over; the rest is on its way.
const DELIVERED_MIN: f64 = 0.95;

/// 20 MB/s for a minute, which one reader reads at the tail, with long-term storage on the same disk.
pub(super) fn rss(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let turn = Duration::from_secs(if setting.is_quick { 1 } else { 60 });
    let server = Server::start(&setting.dir.join("ours"), &json!({}))?;
    let place = server.door.place()?;
    let mut tails = Tails::new();
    stream_20_mb(&mut tails, &place)?;
    tails.read(&place, N_EVENTS)?;
    let before = cpu_time(server.pid())?;
    wait(turn);
    let cpu = cpu_time(server.pid())?.saturating_sub(before);
    let n_read = tails.taken().len();
    tails.end()?;
    let chunks = server.metric("streams_chunks")?;
    tell(&format!(
        "streams.rss: {n_read} appends were read, {chunks} chunks"
    ));
    let n_expected = turn.as_secs_f64() / EVERY.as_secs_f64();
    ensure!(
        n_read as f64 >= n_expected * DELIVERED_MIN,
        "of {n_expected} appends {n_read} were read"
    );
    let events = (n_read * N_EVENTS) as f64;
    Ok(vec![Measured {
        value: process::memory_peak(server.pid())? as f64 / MIB as f64,
        peer_value: 256.0,
        runs: n_read,
        cpu: Some(Cpu {
            us: cpu.as_secs_f64() * 1e6 / events,
            peer_us: 0.0,
        }),
    }])
}

/// Twenty events of 1 KiB every 1.024 ms, of which the first says when it was due.
pub(super) fn stream_20_mb(tails: &mut Tails, place: &Place) -> anyhow::Result<()> {
    let payload = data::random_bytes(KIB);
    tails.write(place, EVERY, |id| {
        Ok(vec![Batch::new(id, &payload, N_EVENTS)?])
    })
}

pub(super) fn wait(turn: Duration) {
    let end = rt::now() + turn;
    while let Some(left) = end
        .checked_duration_since(rt::now())
        .filter(|left| !left.is_zero())
    {
        park_timeout(left);
    }
}

/// A store that speaks S3, in memory, that servers of streams can use.
struct Far {
    served: Served,
    _memory: Memory,
}

impl Far {
    fn start(setting: &Setting<'_>) -> anyhow::Result<Self> {
        let memory = Memory::new(setting)?;
        let served = Served::start(&memory.path().join("far"), &["--memory", "2Gi"])?;
        rt::runtime()?.block_on(served.first_client())?;
        Ok(Self {
            served,
            _memory: memory,
        })
    }

    /// Settings of a server that uses it, by way of an address.
    fn lts(&self, at: std::net::SocketAddr, prefix: &str) -> Value {
        json!({
            "lts": format!("s3://{BUCKET}/{prefix}"),
            "s3": {
                "endpoint": format!("http://{at}"),
                "credentials": self.served.credentials,
            },
        })
    }
}

const FPS: u32 = 30;
const N_STREAMS: usize = 8;
const N_READERS: usize = 8;
/// Of 20 Mbit/s: frames of a second, of which the first is as large as eight of the others.
const P_FRAME_BYTES: usize = 20_000_000 / 8 / (8 + FPS as usize - 1);

/// Eight cameras, each with eight readers: as long as all is well, and while long-term storage stands still.
pub(super) fn kpi11(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let turns = match setting.is_quick {
        true => [Duration::from_secs(1); 2],
        false => [Duration::from_secs(30), Duration::from_mins(1)],
    };
    let far = Far::start(setting)?;
    let lts = far.lts(far.served.ready.s3, "video");
    let server = Server::start(&setting.dir.join("ours"), &lts)?;
    let mut tails = Tails::new();
    for camera in 0..N_STREAMS {
        let place = server.door.place()?;
        for _ in 0..N_READERS {
            tails.read(&place, 1)?;
        }
        let every = Duration::from_secs(1) / FPS;
        tails.write(&place, every, |id| frames(id, camera))?;
    }
    wait(turns[0] / 10);
    tails.taken();
    let mut rows = Vec::new();
    for (turn, is_stopped) in turns.into_iter().zip([false, true]) {
        if is_stopped {
            halt(far.served.pid())?;
        }
        let before = cpu_time(server.pid())?;
        wait(turn);
        let times = tails.taken();
        let cpu = cpu_time(server.pid())?.saturating_sub(before);
        let n_expected = turn.as_secs_f64() * f64::from(FPS) * (N_STREAMS * N_READERS) as f64;
        ensure!(
            times.len() as f64 >= n_expected * DELIVERED_MIN,
            "of {n_expected} frames {} were read",
            times.len()
        );
        tell(&format!(
            "streams.kpi11: {} frames, {:.1} % of a processor, the log has {} MiB",
            times.len(),
            cpu.as_secs_f64() * 100.0 / turn.as_secs_f64(),
            server.metric("streams_log_bytes")? >> 20
        ));
        let n_times = times.len();
        rows.extend([(0.5, 5.0), (0.99, 50.0)].map(|(part, limit)| Measured {
            value: quantile(&times, part).as_secs_f64() * 1e3,
            peer_value: limit,
            runs: n_times,
            cpu: Some(Cpu {
                us: cpu.as_secs_f64() * 1e6 / n_times as f64,
                peer_us: 0.0,
            }),
        }));
    }
    go_on(far.served.pid())?;
    tails.end()?;
    Ok(rows)
}

/// Two seconds of video, whose frames vary by a fifth, always in the same way.
fn frames(writer_id: u128, camera: usize) -> anyhow::Result<Vec<Batch>> {
    let content = data::random_bytes(2 * 8 * P_FRAME_BYTES);
    let frames = (0..2 * FPS as usize).map(|n| {
        let base = if n % FPS as usize == 0 { 8 } else { 1 } * P_FRAME_BYTES;
        let vary = data::pick(1 + 1_000 * camera + n, base * 2 / 5);
        Batch::new(writer_id, &content[..base * 4 / 5 + vary], 1)
    });
    frames.collect()
}

/// Whoever has something to do at once when there is as much to do as can be done, and so many are under way of each.
const N_LANES: usize = 4;
const WINDOW: u64 = 16;

/// Three servers have the same load one after the other, again and again, each time in another order: one brings what is written to a far store, over a
/// line with a limit; two do not. Those that have no load stand still.
pub(super) fn kpi8(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let (n_pairs, turn) = match setting.is_quick {
        true => (2, Duration::from_millis(100)),
        false => (20, Duration::from_secs(2)),
    };
    let mut stage = Stage::start(setting)?;
    for node in [ON, AGAIN, OFF] {
        stage.saturate(node, turn)?;
    }
    let rate = stage.saturate(OFF, turn)?;
    tell(&format!(
        "streams.kpi8: {rate:.0} events a second saturate it"
    ));
    // p50 and p99 at a quarter, and at half of it: what was found of each server.
    let mut found: [[Vec<f64>; 3]; 4] = Default::default();
    let before = stage.proxy.bytes();
    for pair in 0..n_pairs {
        for (n_load, load) in [0.25, 0.5].into_iter().enumerate() {
            for n in 0..3 {
                let node = (n + pair) % 3;
                let times = stage.open_loop(node, load * rate, turn)?;
                for (n_part, part) in [0.5, 0.99].into_iter().enumerate() {
                    let seconds = quantile(&times, part).as_secs_f64();
                    found[2 * n_load + n_part][node].push(seconds);
                }
            }
        }
    }
    let bytes = stage.proxy.bytes() - before;
    ensure!(bytes > 0, "nothing was brought to S3 while it was measured");
    tell(&format!("streams.kpi8: {bytes} bytes on the line to S3"));
    let rows = found.iter();
    Ok(rows
        .map(|found| stats::beside_noise("streams.kpi8", found))
        .collect())
}

struct Stage {
    /// Each with its lanes.
    servers: Vec<(Server, Vec<Lane>)>,
    /// What these write to.
    segments: Vec<Vec<String>>,
    proxy: Proxy,
    far: Far,
    // After what runs in it.
    _of_proxy: Runtime,
}

impl Stage {
    fn start(setting: &Setting<'_>) -> anyhow::Result<Self> {
        let far = Far::start(setting)?;
        process::lower_priority(far.served.pid())?;
        let of_proxy = proxy::of_far_away()?;
        let starting = Proxy::start(
            far.served.ready.s3,
            proxy::LINE_BYTES_PER_S,
            proxy::LINE_DELAY,
        );
        let proxy = of_proxy.block_on(starting)?;
        let on = far.lts(proxy.addr, "on");
        let off = json!({"segments": {"tiering": no_tiering()}});
        let payload = data::random_bytes(KIB);
        let (mut servers, mut segments) = (Vec::new(), Vec::new());
        for (name, settings) in [("on", &on), ("off", &off), ("again", &off)] {
            let server = Server::start(&setting.dir.join(name), settings)?;
            let places = (0..N_LANES).map(|_| server.door.place());
            let places = places.collect::<anyhow::Result<Vec<_>>>()?;
            let lane = |place: &Place| {
                let segment = std::slice::from_ref(&place.segment);
                wire::lane(&place.store, segment, &payload, 1)
            };
            let lanes = places.iter().map(lane).collect::<anyhow::Result<_>>()?;
            segments.push(places.into_iter().map(|place| place.segment).collect());
            halt(server.pid())?;
            servers.push((server, lanes));
        }
        halt(far.served.pid())?;
        Ok(Self {
            servers,
            segments,
            proxy,
            far,
            _of_proxy: of_proxy,
        })
    }

    /// As much as can be done: so many things in a second.
    fn saturate(&mut self, node: usize, turn: Duration) -> anyhow::Result<f64> {
        self.alone(node, |lanes| {
            let (lanes, done) = load::saturate(lanes, WINDOW, turn)?;
            Ok((lanes, done.per_second()))
        })
    }

    fn open_loop(
        &mut self,
        node: usize,
        per_second: f64,
        turn: Duration,
    ) -> anyhow::Result<Vec<Duration>> {
        self.alone(node, |lanes| load::open_loop(lanes, per_second, turn))
    }

    /// Nobody else runs meanwhile, but the far store if it is asked.
    fn alone<T>(
        &mut self,
        node: usize,
        work: impl FnOnce(Vec<Lane>) -> anyhow::Result<(Vec<Lane>, T)>,
    ) -> anyhow::Result<T> {
        let (server, lanes) = &mut self.servers[node];
        let pids = match node {
            ON => vec![self.far.served.pid(), server.pid()],
            _ => vec![server.pid()],
        };
        pids.iter().try_for_each(|pid| go_on(*pid))?;
        let (again, found) = work(std::mem::take(lanes))?;
        *lanes = again;
        if node != ON {
            // Its log gives room back, too, and is not made anew all the time.
            let store = server.store();
            let segments = self.segments[node].iter();
            segments
                .clone()
                .try_for_each(|it| wire::give_up(&store, it))?;
        }
        pids.iter().try_for_each(|pid| halt(*pid))?;
        Ok(found)
    }
}
