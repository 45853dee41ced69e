//! A second reader joins a group that reads all, is given some of it, and leaves: each event is read by one of them, those of a key in order.
//!
//! The client looks every ten seconds whether a reader has more than its share.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pravega_client::event::EventReader;
use tokio::time::sleep;

use crate::lab::{Lab, Outcome, check, parse, same};

const KEYS: usize = 12;

/// What all know of each other. `read` is in order: whoever gives up a segment has noted before what was read of it.
#[derive(Default)]
struct Progress {
    read: Mutex<Vec<Vec<u8>>>,
    has_left: AtomicBool,
    rounds: AtomicUsize,
    is_written: AtomicBool,
}

pub(crate) async fn run(lab: Lab) -> Outcome {
    let stream = lab.stream("stream", 4).await?;
    // Each has a state of the group of its own, as in two processes.
    let group = lab.group("group", &stream).await;
    let mut first = group.create_reader("first".to_owned()).await;
    let group = lab.group("group", &stream).await;
    let mut second = group.create_reader("second".to_owned()).await;
    let progress = Progress::default();
    let writing = async {
        let mut after = 0;
        while after < 5 {
            let round = progress.rounds.fetch_add(1, Ordering::SeqCst);
            lab.write(&stream, 0..KEYS, round..round + 1).await?;
            after += usize::from(progress.has_left.load(Ordering::SeqCst));
            sleep(Duration::from_millis(100)).await;
        }
        progress.is_written.store(true, Ordering::SeqCst);
        Ok(())
    };
    let leaving = leave(&mut second, &progress);
    let staying = stay(&mut first, &progress);
    let ((), of_second, of_first) = tokio::try_join!(writing, leaving, staying)?;
    check(of_second > 0, "the second reader is given something")?;
    check(of_first > 0, "the first reader keeps something")?;

    let mut next: HashMap<usize, usize> = (0..KEYS).map(|key| (key, 0)).collect();
    for event in progress.read.into_inner()? {
        let (key, number) = parse(&event)?;
        let next = next.get_mut(&key).ok_or(format!("no such key: {key}"))?;
        same(next, &number, &format!("next event of key {key}"))?;
        *next += 1;
    }
    let rounds = progress.rounds.into_inner();
    check(next.values().all(|n| *n == rounds), "all events are read")
}

/// Reads some events, and goes.
async fn leave(reader: &mut EventReader, progress: &Progress) -> Outcome<usize> {
    let mut n = 0;
    while n < 5 {
        n += take(reader, progress).await?;
    }
    reader.reader_offline().await?;
    progress.has_left.store(true, Ordering::SeqCst);
    Ok(n)
}

/// Reads until all is read.
async fn stay(reader: &mut EventReader, progress: &Progress) -> Outcome<usize> {
    let mut n = 0;
    loop {
        n += take(reader, progress).await?;
        let wanted = progress.rounds.load(Ordering::SeqCst) * KEYS;
        let found = progress.read.lock().map_err(|e| e.to_string())?.len();
        if progress.is_written.load(Ordering::SeqCst) && found >= wanted {
            return Ok(n);
        }
    }
}

async fn take(reader: &mut EventReader, progress: &Progress) -> Outcome<usize> {
    let Some(mut slice) = reader.acquire_segment().await? else {
        return Ok(0);
    };
    let events: Vec<Vec<u8>> = slice.by_ref().map(|event| event.value).collect();
    let n = events.len();
    progress
        .read
        .lock()
        .map_err(|e| e.to_string())?
        .extend(events);
    reader.release_segment(slice).await?;
    Ok(n)
}
