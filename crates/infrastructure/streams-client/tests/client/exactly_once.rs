//! Each event is in the stream once, and those of a key are in order, whatever connections are cut and segments are split and merged meanwhile.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use streams_client::controller::SegmentRange;
use streams_client::names::StreamName;
use streams_client::reader::Until;
use streams_client::{Client, EventWriter, StreamReader};

use crate::proxy::Chance;
use crate::store::Store;
use crate::{World, create_stream};

const N_KEYS: u64 = 8;
const N_EVENTS: u64 = 1500;

/// Returns how many connections were cut.
async fn check(seed: u64, store: Store) -> Result<usize> {
    let mut chance = Chance(seed);
    let world = World::cutting(store, seed, 12_000).await?;
    let mut config = world.config();
    config.window.events = 200;
    config.window.appends = 1 + usize::try_from(chance.below(8))?;
    let client = Client::new(config)?;
    let stream = create_stream(&client, 2).await?;
    let writer = EventWriter::open(&client, stream.clone()).await?;
    let mut receipts = Vec::new();
    for number in 0..N_EVENTS {
        let key = format!("key {}", chance.below(N_KEYS));
        let data = Bytes::from(format!("{key}:{number}"));
        receipts.push(writer.write(&key, data).await?);
        if chance.below(100) == 0 {
            scale(&client, &stream, &mut chance).await?;
        }
        if chance.below(300) == 0 {
            writer.flush().await?;
        }
    }
    writer.flush().await?;
    for receipt in receipts {
        receipt.wait().await?;
    }
    check_read(&client, &stream).await?;
    let proxy = world.proxy.as_ref().context("there is one")?;
    Ok(proxy.n_cuts())
}

/// Splits a segment, or merges two.
async fn scale(client: &Client, stream: &StreamName, chance: &mut Chance) -> Result<()> {
    let current = client.controller().current_segments(stream).await?;
    let n_current = u64::try_from(current.len())?;
    let idx = usize::try_from(chance.below(n_current))?;
    let SegmentRange { number, low, high } = current[idx];
    let (sealed, ranges) = match current.get(idx + 1) {
        Some(next) if n_current > 3 || chance.below(2) == 0 => {
            (vec![number, next.number], vec![(low, next.high)])
        }
        _ => {
            let middle = f64::midpoint(low, high);
            (vec![number], vec![(low, middle), (middle, high)])
        }
    };
    let epoch = client.controller().scale(stream, &sealed, &ranges).await?;
    ensure!(client.controller().has_scaled(stream, epoch).await?);
    Ok(())
}

async fn check_read(client: &Client, stream: &StreamName) -> Result<()> {
    let mut reader = StreamReader::open(client, stream, Until::Tail).await?;
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut n_events = 0;
    while let Some(event) = reader.next().await? {
        let text = String::from_utf8(event.data.to_vec())?;
        let (key, number) = text.split_once(':').context("an event of another writer")?;
        let number = number.parse()?;
        if let Some(last) = last.insert(key.to_owned(), number)
            && last >= number
        {
            bail!("{key}: {number} after {last}");
        }
        n_events += 1;
    }
    ensure!(n_events == N_EVENTS, "{n_events} events");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_is_there_once_and_in_order() -> Result<()> {
    let mut n_cuts = 0;
    for seed in 0..8 {
        let checked = check(seed, Store::new()).await;
        n_cuts += checked.with_context(|| format!("seed {seed}"))?;
    }
    ensure!(n_cuts > 50, "{n_cuts} connections were cut");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_count_is_noticed() {
    assert!(check(0, Store::without_numbers()).await.is_err());
}
