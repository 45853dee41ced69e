//! Clients of a server that is killed, each with something else to do. What they were told is in the journal.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use streams_client::connection::Connection;
use streams_client::controller::{SegmentRange, TransactionState};
use streams_client::names::{SegmentName, SegmentNumber, StreamName};
use streams_client::reader::Until;
use streams_client::writer::{Receipt, Transaction};
use streams_client::{Client, Error, EventWriter, Segment, StreamReader, Table};
use streams_wire::replies::Reply;
use streams_wire::requests::{ConditionalAppend, SetupAppend};
use streams_wire::shapes::{DelegationToken, Event, TableEntry, TableKey, TableValue};

use super::history::{Call, Did, Found, Group, KEYS_OF_GROUP, Sent};
use super::journal::Journal;
use crate::prove::chance::Random;

/// Of a writer.
const KEYS: u64 = 4;
/// Of a writer, written and not acknowledged.
const WINDOW: usize = 64;
const EVENT_BYTES_MAX: u64 = 1_500;
/// After so many events at most there is another writer, and nobody waits for what the one before has written.
const EVENTS_OF_WRITER: u64 = 400;
const LEASE: Duration = Duration::from_secs(25);
/// So often something that fails and may pass is tried again.
const PAUSE: Duration = Duration::from_millis(10);
const TRIES: usize = 3_000;
/// Two that have the same value at any time.
const TABLE_KEYS: [&str; 2] = ["one", "other"];

/// Who does something, and by what chance.
#[derive(Clone, Debug)]
pub(super) struct Who {
    pub client: Client,
    pub journal: Journal,
    pub number: u64,
    pub seed: u64,
}

impl Who {
    fn random(&self) -> Random {
        Random(self.seed ^ (self.number << 32))
    }
}

/// Asks until there is an answer.
pub(super) async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut tries = 0;
    loop {
        match ask().await {
            Err(error) if error.is_passing() && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

fn event(name: &str, number: u64, random: &mut Random) -> Bytes {
    let padding = usize::try_from(random.below(EVENT_BYTES_MAX)).expect("it is short");
    format!("{name}:{number} {}", "x".repeat(padding)).into()
}

/// Writes events of some keys; from time to time the writer is dropped with what is under way.
pub(super) async fn write(who: Who, stream: StreamName) -> anyhow::Result<()> {
    let mut random = who.random();
    let mut generation = 0;
    while !who.journal.is_over() {
        generation += 1;
        let writer = EventWriter::open(&who.client, stream.clone()).await?;
        let n_events = 1 + random.below(EVENTS_OF_WRITER);
        let mut waiting = VecDeque::new();
        for _ in 0..n_events {
            let name = format!("w{}.{generation}.{}", who.number, random.below(KEYS));
            let number = sent(&who, &stream, &name);
            let receipt = writer
                .write(&name, event(&name, number, &mut random))
                .await?;
            waiting.push_back((name, receipt));
            if waiting.len() >= WINDOW {
                acknowledged(&who, &stream, &mut waiting).await?;
            }
            if who.journal.is_over() {
                break;
            }
        }
        // The last one waits for all: nobody would know otherwise when nothing more comes.
        if who.journal.is_over() || random.below(2) == 0 {
            while !waiting.is_empty() {
                acknowledged(&who, &stream, &mut waiting).await?;
            }
        }
    }
    Ok(())
}

fn sent(who: &Who, stream: &StreamName, name: &str) -> u64 {
    let mut state = who.journal.lock();
    let written = state.written.entry(stream.stream().to_owned()).or_default();
    let sent: &mut Sent = written.keys.entry(name.to_owned()).or_default();
    sent.n_sent += 1;
    sent.n_sent - 1
}

async fn acknowledged(
    who: &Who,
    stream: &StreamName,
    waiting: &mut VecDeque<(String, Receipt)>,
) -> anyhow::Result<()> {
    let (name, receipt) = waiting.pop_front().context("there is one")?;
    receipt.wait().await?;
    let mut state = who.journal.lock();
    let written = state.written.get_mut(stream.stream()).context("written")?;
    written
        .keys
        .get_mut(&name)
        .context("written")?
        .n_acknowledged += 1;
    drop(state);
    who.journal.told();
    Ok(())
}

/// Writes in transactions, which are committed, aborted, or left to themselves.
pub(super) async fn transact(who: Who, stream: StreamName) -> anyhow::Result<()> {
    let mut random = who.random();
    let mut serial = 0;
    while !who.journal.is_over() {
        serial += 1;
        let (n_events, plan) = (1 + random.below(8), random.below(8));
        let begun = patiently(|| Transaction::begin(&who.client, stream.clone(), LEASE));
        let mut transaction = begun.await?;
        let name = format!("t{}.{serial}", who.number);
        note(&who, &stream, &name, (n_events, false));
        for number in 0..n_events {
            let key = format!("{name} {}", number % KEYS_OF_GROUP);
            transaction
                .write(&key, event(&name, number, &mut random))
                .await?;
        }
        let id = transaction.id();
        let controller = who.client.controller();
        match plan {
            0 => continue,
            1 | 2 => patiently(|| controller.abort(&stream, id)).await?,
            _ => {
                transaction.flush().await?;
                patiently(|| controller.commit(&stream, id)).await?;
                note(&who, &stream, &name, (n_events, true));
            }
        }
        who.journal.told();
        if random.below(3) == 0 {
            settle(&who.client, &stream, id, plan > 2).await?;
        }
    }
    Ok(())
}

fn note(who: &Who, stream: &StreamName, name: &str, (n_events, is_committed): (u64, bool)) {
    let mut state = who.journal.lock();
    let written = state.written.entry(stream.stream().to_owned()).or_default();
    let group = Group {
        n_events,
        is_committed,
    };
    written.groups.insert(name.to_owned(), group);
}

/// Waits until a transaction is what it was told to become.
async fn settle(
    client: &Client,
    stream: &StreamName,
    id: u128,
    is_committed: bool,
) -> anyhow::Result<()> {
    for _ in 0..TRIES {
        let controller = client.controller();
        let state = patiently(|| controller.transaction_state(stream, id)).await?;
        match (state, is_committed) {
            (TransactionState::Committed, true) | (TransactionState::Aborted, false) => {
                return Ok(());
            }
            (TransactionState::Committing, true) | (TransactionState::Aborting, false) => {
                tokio::time::sleep(PAUSE).await;
            }
            other => bail!("transaction {id:032x} was told, and is {other:?}"),
        }
    }
    bail!("transaction {id:032x} does not end")
}

/// Replaces a value in a table by another one, if it is still what was read; and reads.
pub(super) async fn replace(who: Who, table: SegmentName) -> anyhow::Result<()> {
    let table = Table::new(&who.client, table);
    let mut random = who.random();
    let mut serial = 0;
    while !who.journal.is_over() {
        let from = rt::now();
        let (old, versions) = look(&table).await?;
        answered(&who, from, Did::Read(old), false);
        if random.below(3) == 0 {
            continue;
        }
        serial += 1;
        let new = who.number << 32 | serial;
        let entry = |(key, version): (&str, i64)| TableEntry {
            key: TableKey::new(Bytes::copy_from_slice(key.as_bytes()), version),
            value: TableValue(Bytes::copy_from_slice(&new.to_be_bytes())),
        };
        let entries = TABLE_KEYS.into_iter().zip(versions).map(entry);
        let entries: Vec<_> = entries.collect();
        who.journal.lock().table.parents.insert(new, old);
        let from = rt::now();
        let did = match table.put(&entries).await {
            Ok(_) => Did::Replaced(old, new),
            Err(Error::Condition(_)) => Did::Refused(old, new),
            Err(error) if error.is_passing() => Did::Lost,
            Err(error) => return Err(error.into()),
        };
        answered(&who, from, did, false);
    }
    Ok(())
}

/// What the table has now, and its versions.
pub(super) async fn look(table: &Table) -> anyhow::Result<(u64, [i64; 2])> {
    let keys = TABLE_KEYS.map(|key| Bytes::from_static(key.as_bytes()));
    let entries = table.get(&keys).await?;
    let values: Vec<_> = entries.iter().map(|entry| &entry.value.0).collect();
    let [one, other] = values[..] else {
        bail!("{} answers to two questions", values.len())
    };
    ensure!(
        one == other,
        "half of a change is there: {one:?}, {other:?}"
    );
    let value = match &one[..] {
        [] => 0,
        bytes => u64::from_be_bytes(bytes.try_into().context("a value")?),
    };
    let versions = [entries[0].key.version(), entries[1].key.version()];
    Ok((value, versions))
}

fn answered(who: &Who, from: std::time::Instant, did: Did, is_state: bool) {
    let to = rt::now();
    let mut state = who.journal.lock();
    let register = if is_state {
        &mut state.state
    } else {
        &mut state.table
    };
    register.calls.push(Call { from, to, did });
    drop(state);
    who.journal.told();
}

/// Appends to a segment on the condition that it is as long as it was, as those do who keep a state there.
pub(super) async fn append(who: Who, name: SegmentName) -> anyhow::Result<()> {
    let segment = Segment::new(&who.client, name.clone());
    let mut serial = 0;
    while !who.journal.is_over() {
        let endpoint = patiently(|| who.client.controller().locate(&name)).await?;
        let opened = patiently(|| Connection::open(&endpoint, None)).await?;
        let writer_id = u128::from(rt::random_u64());
        let request = |request_id| {
            let segment = name.to_string();
            let token = DelegationToken::default();
            SetupAppend {
                request_id,
                writer_id,
                segment,
                token,
            }
        };
        match opened.call(|id| request(id).into()).await {
            Ok(Reply::AppendSetup(_)) => {}
            Ok(other) => bail!("{other:?} is no answer to who wants to append"),
            Err(error) if error.is_passing() => continue,
            Err(error) => return Err(error.into()),
        }
        for event_number in 0.. {
            if who.journal.is_over() {
                break;
            }
            let length = segment.info().await?.length;
            serial += 1;
            let new = who.number << 32 | serial;
            let event = Event::new(&u64::to_be_bytes(new))?;
            let old = u64::try_from(length / STATE_BYTES)?;
            who.journal.lock().state.parents.insert(new, old);
            let from = rt::now();
            let appended = opened.call(|request_id| {
                let append = ConditionalAppend {
                    writer_id,
                    event_number,
                    expected_offset: length,
                    event,
                    request_id,
                };
                append.into()
            });
            let did = match appended.await {
                Ok(Reply::DataAppended(_)) => Did::Replaced(old, new),
                Ok(Reply::ConditionalCheckFailed(_)) => Did::Refused(old, new),
                Ok(other) => bail!("{other:?} is no answer to an append"),
                Err(error) if error.is_passing() => Did::Lost,
                Err(error) => return Err(error.into()),
            };
            answered(&who, from, did, true);
            if did == Did::Lost {
                break;
            }
        }
    }
    Ok(())
}

/// What such an event takes: a header, and a number.
pub(super) const STATE_BYTES: i64 = 16;

/// Splits and merges segments of a stream.
pub(super) async fn scale(who: Who, stream: StreamName) -> anyhow::Result<()> {
    let mut random = who.random();
    while !who.journal.is_over() {
        who.journal.pause(random.millis(400)).await;
        let controller = who.client.controller();
        let current = patiently(|| controller.current_segments(&stream)).await?;
        tiles(&current)?;
        let n_current = current.len() as u64;
        let idx = usize::try_from(random.below(n_current))?;
        let SegmentRange { number, low, high } = current[idx];
        let (sealed, ranges) = match current.get(idx + 1) {
            Some(next) if n_current > 3 || random.below(2) == 0 => {
                (vec![number, next.number], vec![(low, next.high)])
            }
            _ => {
                let middle = f64::midpoint(low, high);
                (vec![number], vec![(low, middle), (middle, high)])
            }
        };
        let scaled = patiently(|| controller.scale(&stream, &sealed, &ranges));
        let epoch = match scaled.await {
            Ok(epoch) => epoch,
            // It was done, and nobody heard of it; or a transaction has begun others.
            Err(Error::Condition(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let mut tries = 0;
        while !patiently(|| controller.has_scaled(&stream, epoch)).await? {
            tries += 1;
            ensure!(tries < TRIES, "a scale to epoch {epoch} does not end");
            tokio::time::sleep(PAUSE).await;
        }
        let mut state = who.journal.lock();
        let last = state.epochs.entry(stream.stream().to_owned()).or_default();
        *last = epoch.max(*last);
        drop(state);
        who.journal.told();
    }
    Ok(())
}

/// All keys from 0 to 1, each once.
pub(super) fn tiles(ranges: &[SegmentRange]) -> anyhow::Result<()> {
    let mut from = 0.0;
    for range in ranges {
        ensure!(
            range.low.to_bits() == f64::to_bits(from),
            "keys are not there once: {ranges:?}"
        );
        from = range.high;
    }
    ensure!(
        from.to_bits() == f64::to_bits(1.0),
        "keys are missing: {ranges:?}"
    );
    Ok(())
}

/// Reads a stream until it is sealed; if `gives_up`, what was read is truncated away from time to time.
pub(super) async fn read(
    client: Client,
    stream: StreamName,
    seed: Option<u64>,
) -> anyhow::Result<Found> {
    let mut gives_up = seed.map(Random);
    let mut reader = StreamReader::open(&client, &stream, Until::Sealed).await?;
    let mut found = Found::default();
    while let Some(event) = reader.next().await? {
        found.add(&event.data)?;
        if let Some(random) = &mut gives_up
            && random.below(200) == 0
        {
            let cut = reader.position();
            match patiently(|| client.controller().truncate_stream(&cut)).await {
                // It comes to its end.
                Err(Error::Sealed(_)) => gives_up = None,
                truncated => truncated?,
            }
        }
    }
    Ok(found)
}

/// The first segment of a stream.
pub(super) fn first(stream: &StreamName) -> SegmentName {
    stream.segment(SegmentNumber::new(0, 0))
}
