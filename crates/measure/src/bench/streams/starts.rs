//! How soon a server that was killed takes something again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::server::{Server, no_tiering};
use super::wire;
use crate::bench::process::cpu_time;
use crate::bench::{Cpu, Measured, Setting, data, median, tell};

const EVENT_BYTES: usize = 100;
const WINDOW: u64 = 4_096;

/// A million appends of which nothing is in long-term storage, with the settings that one has who has set nothing else: from the start of the process to
/// the first acknowledgement.
pub(super) fn recover_1m(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let n_ops = if setting.is_quick { 1_000 } else { 1_000_000 };
    let settings = json!({"segments": {"tiering": no_tiering()}});
    let found = restart(setting, (n_ops, 4), &settings, |server, segments| {
        let mut lane = wire::lane(&server.store(), segments, &[0; EVENT_BYTES], 1)?;
        lane.repeat(1, 1)?;
        Ok(())
    });
    Ok(vec![found?])
}

/// As many operations of one container as an upstream test replays, all of which the log has, and no checkpoint: until it is ready.
pub(super) fn replay_440k(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let n_ops = if setting.is_quick { 1_000 } else { 439_908 };
    let settings = json!({"segments": {
        "tiering": no_tiering(),
        "log": {"checkpoint_after": "1024Gi"},
    }});
    let found = restart(setting, (n_ops, 1), &settings, |_, _| Ok(()));
    Ok(vec![found?])
}

/// The peer is to read the files of the log, and nothing else. Of a few starts the one in the middle.
fn restart(
    setting: &Setting<'_>,
    (n_ops, n_segments): (u64, i32),
    settings: &Value,
    then: impl Fn(&Server, &[String]) -> anyhow::Result<()>,
) -> anyhow::Result<Measured> {
    let mut server = Server::start(&setting.dir.join("ours"), settings)?;
    let stream = server.door.stream(n_segments)?;
    let places = server.door.places(&stream)?.into_iter();
    let segments: Vec<_> = places.map(|place| place.segment).collect();
    let payload = data::random_bytes(EVENT_BYTES);
    let mut lane = wire::lane(&server.store(), &segments, &payload, 1)?;
    let filling = rt::now();
    lane.repeat(WINDOW, n_ops)?;
    let filled = filling.elapsed();
    drop(lane);
    let n_starts = if setting.is_quick { 1 } else { 5 };
    let (mut times, mut cpu, mut reads) = (Vec::new(), Duration::ZERO, Vec::new());
    let mut n_bytes = 0;
    for _ in 0..n_starts {
        let log = server.log_dir();
        let killed = server.kill()?;
        let start = rt::now();
        n_bytes = read(&log)?;
        reads.push(start.elapsed());
        let start = rt::now();
        server = killed.start()?;
        then(&server, &segments)?;
        times.push(start.elapsed());
        cpu += cpu_time(server.pid())?;
    }
    tell(&format!(
        "{n_ops} operations in {filled:.1?}, a log of {} MiB; starts took {times:.2?}",
        n_bytes >> 20
    ));
    let middle = |times: &[Duration]| median(times).as_secs_f64();
    Ok(Measured {
        value: middle(&times),
        peer_value: middle(&reads),
        runs: n_starts,
        cpu: Some(Cpu {
            us: cpu.as_secs_f64() * 1e6 / n_starts as f64,
            peer_us: 0.0,
        }),
    })
}

fn read(dir: &Path) -> anyhow::Result<u64> {
    let mut n_bytes = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        n_bytes += fs::read(entry?.path())?.len() as u64;
    }
    Ok(n_bytes)
}
