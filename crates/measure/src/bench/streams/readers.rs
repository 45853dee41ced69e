//! What readers see: a commit, and what was written long ago beside what is written now.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use serde_json::json;
use streams_client::writer::Transaction;

use super::edge::{stream_20_mb, wait};
use super::load::{joined, thread};
use super::server::{Place, Server};
use super::tail::{Historic, Tails};
use super::wire::{self, PATIENCE, Reader};
use crate::bench::data::{self, KIB, MIB};
use crate::bench::process::cpu_time;
use crate::bench::side::Side;
use crate::bench::stats::{self, ON, median};
use crate::bench::{Cpu, Measured, Setting, quantile, tell};

/// Commits transactions of one event, one at a time: from before the call until a reader that waits at the tail has the event; and until the call
/// returns. The peer is an append of the same event to a segment of the same server, until it is acknowledged, in turn with it.
pub(super) fn commit(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let n_times = if setting.is_quick { 3 } else { 1_000 };
    let server = Server::start(&setting.dir.join("ours"), &json!({}))?;
    let (door, pid) = (&server.door, Some(server.pid()));
    let stream = door.stream(1)?;
    let place = door.places(&stream)?.pop().context("a segment")?;
    let (seen, sees) = sync_channel(1);
    let mut reader = Reader::open(&place.store, &place.segment)?;
    let reading = thread("bench reader", move || {
        for _ in 0..n_times {
            while reader.events()?.is_empty() {}
            seen.send(rt::now())?;
        }
        Ok(())
    })?;
    let payload = data::random_bytes(KIB);
    let place = door.place()?;
    let mut lane = wire::lane(&place.store, &[place.segment], &payload, 1)?;
    let (mut commits, mut calls, mut appends) = (Side::default(), Side::default(), Side::default());
    for _ in 0..n_times {
        let transaction = door.runtime.block_on(async {
            let lease = Duration::from_secs(10);
            let begun = Transaction::begin(&door.client, stream.clone(), lease).await;
            let mut transaction = begun?;
            let event = Bytes::from(payload.clone());
            transaction.write("key", event).await?.wait().await?;
            anyhow::Ok(transaction)
        })?;
        appends.turn_with(pid, 1, |_| lane.repeat(1, 1).map(drop))?;
        let id = transaction.id();
        let start = rt::now();
        let mut called = Duration::ZERO;
        commits.turn_with(pid, 1, |_| {
            let controller = door.client.controller();
            door.runtime.block_on(controller.commit(&stream, id))?;
            called = start.elapsed();
            sees.recv_timeout(PATIENCE).context("a commit is read")?;
            Ok(())
        })?;
        calls.times.push(called);
    }
    joined(reading)?;
    tell(&format!(
        "streams.commit: p99 {:.0?}, of an append {:.0?}",
        quantile(&commits.times, 0.99),
        quantile(&appends.times, 0.99)
    ));
    calls.cpu = commits.cpu;
    Ok(vec![commits.against(&appends), calls.against(&appends)])
}

/// 20 MB/s are written, and read at the tail; in turn with that, two readers read from the beginning what has long been in long-term storage.
pub(super) fn catchup(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    const N_EVENTS: usize = 64;
    const N_READERS: usize = 2;
    let (n_pairs, turn, bytes) = match setting.is_quick {
        true => (2, Duration::from_millis(200), 8 * MIB),
        false => (20, Duration::from_secs(2), 1 << 30),
    };
    let server = Server::start(&setting.dir.join("ours"), &json!({}))?;
    let old = server.door.place()?;
    let payload = data::random_bytes(KIB);
    let mut lane = wire::lane(
        &old.store,
        std::slice::from_ref(&old.segment),
        &payload,
        N_EVENTS,
    )?;
    let n_batches = bytes / (N_EVENTS * (KIB + 8));
    lane.repeat(128, n_batches as u64)?;
    let to = i64::try_from(n_batches * N_EVENTS * (KIB + 8))?;
    let new = server.door.place()?;
    let mut tails = Tails::new();
    stream_20_mb(&mut tails, &new)?;
    tails.read(&new, 20)?;
    let (mut found, mut rates, mut cpu): ([Vec<f64>; 3], _, _) =
        (Default::default(), Vec::new(), [Duration::ZERO; 2]);
    let places: Vec<Place> = (0..N_READERS).map(|_| old.clone()).collect();
    super::flush(&old.store)?;
    wait(turn);
    for pair in 0..n_pairs {
        for n in 0..3 {
            let which = (n + pair) % 3;
            tails.taken();
            let (before, start) = (cpu_time(server.pid())?, rt::now());
            let historic = match which {
                ON => Some(Historic::start(&places, to)?),
                _ => None,
            };
            wait(turn);
            let times = tails.taken();
            ensure!(!times.is_empty(), "nothing was read at the tail");
            found[which].push(quantile(&times, 0.99).as_secs_f64());
            let took = cpu_time(server.pid())?.saturating_sub(before);
            cpu[usize::from(which != ON)] += took;
            if let Some(historic) = historic {
                let n_bytes = historic.end()?;
                rates.push(n_bytes as f64 / start.elapsed().as_secs_f64() / 1e6);
            }
        }
    }
    tails.end()?;
    let each = |cpu: Duration, turns: usize| cpu.as_secs_f64() * 1e6 / turns as f64;
    Ok(vec![
        Measured {
            value: median(rates),
            peer_value: 20.0,
            runs: n_pairs,
            cpu: Some(Cpu {
                us: each(cpu[0], n_pairs),
                peer_us: each(cpu[1], 2 * n_pairs),
            }),
        },
        stats::beside_noise("streams.catchup", &found),
    ])
}
