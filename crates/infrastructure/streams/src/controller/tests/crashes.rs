//! A driver that ends in the middle of everything that it does, and the next one.

use std::collections::BTreeSet;
use std::sync::Arc;

use streams_control::{
    Config, Cut, Limits, Name, Range, Rate, Refusal, Request, Response, Scaling, StreamName, Unique,
};

use super::memory::{Memory, Stop};
use crate::controller::driver::{Desk, Driver};

/// More than there are.
const OPS_MAX: usize = 1_000;

async fn open(memory: &Arc<Memory>) -> Driver {
    let segments = Arc::clone(memory) as _;
    let opened = Driver::open(segments, Limits::default(), 10).await;
    opened.expect("its rows are read")
}

fn stream() -> StreamName {
    StreamName::new("lab", "video").expect("names")
}

fn config() -> Config {
    Config {
        scaling: Scaling {
            rate: Rate::Events(7),
            factor: 2,
            segments_min: 1,
        },
        retention: None,
        tags: BTreeSet::new(),
        timestamp_aggregation_timeout_ms: 0,
        rollover_size_bytes: 0,
    }
}

/// What happens to a stream. All of it can be asked for again, by who does not know how far it went.
async fn live(desk: &Desk, unique: u64) -> Result<(), Refusal> {
    let lab = Name::new("lab").expect("a name");
    let created = desk.request(Request::CreateScope(lab)).await;
    expect(created, |refusal| *refusal == Refusal::ScopeExists)?;
    let created = desk.request(Request::CreateStream(stream(), config()));
    expect(created.await, |refusal| *refusal == Refusal::StreamExists)?;
    let sealed = desk.ask(|control| control.is_sealed(&stream()))?;
    if !sealed {
        write(desk, unique).await?;
    }
    desk.request(Request::SealStream(stream())).await?;
    desk.request(Request::DeleteStream(stream())).await?;
    Ok(())
}

async fn write(desk: &Desk, unique: u64) -> Result<(), Refusal> {
    // It waits for all that was begun before.
    desk.request(Request::UpdateStream(stream(), config()))
        .await?;
    let begin = Request::CreateTxn {
        stream: stream(),
        lease_ms: 10_000,
        unique: Unique {
            high: 0,
            low: unique,
        },
    };
    let Response::TxnCreated { txn, .. } = desk.request(begin).await? else {
        panic!("another answer was expected");
    };
    let current = || {
        desk.ask(|control| {
            let current = control.current_segments(&stream())?;
            Ok(current.iter().map(|segment| segment.id).collect::<Vec<_>>())
        })
    };
    let all = Range::new(0.0, 1.0).expect("a range");
    let n_segments = if current()?.len() == 1 { 2 } else { 1 };
    let scale = Request::Scale {
        stream: stream(),
        sealed: current()?,
        ranges: all.split(n_segments).expect("it has keys enough"),
    };
    desk.request(scale).await?;
    let commit = Request::CommitTxn {
        stream: stream(),
        txn,
        writer: String::new(),
        timestamp: None,
    };
    desk.request(commit).await?;
    // And for all of this.
    desk.request(Request::UpdateStream(stream(), config()))
        .await?;
    let cut: Cut = current()?.into_iter().map(|id| (id, 0)).collect();
    desk.request(Request::TruncateStream(stream(), cut)).await?;
    Ok(())
}

fn expect(
    answer: Result<Response, Refusal>,
    is_fine: impl Fn(&Refusal) -> bool,
) -> Result<(), Refusal> {
    match answer {
        Err(refusal) if !is_fine(&refusal) => Err(refusal),
        _ => Ok(()),
    }
}

/// Whether it came to its end.
async fn live_until(memory: &Arc<Memory>, stop: Stop) -> bool {
    let driver = open(memory).await;
    memory.stop(Some(stop));
    let desk = driver.desk();
    let has_ended = tokio::select! {
        lived = live(&desk, 1) => {
            lived.expect("nothing is refused");
            true
        }
        () = memory.stopped() => false,
    };
    driver.close().await;
    memory.stop(None);
    has_ended
}

#[tokio::test]
async fn what_was_begun_is_finished_by_the_next_one() {
    for does_last in [false, true] {
        let mut n_crashes = 0;
        for after in 0..OPS_MAX {
            let memory = Arc::new(Memory::new());
            if live_until(&memory, Stop { after, does_last }).await {
                break;
            }
            n_crashes += 1;
            let driver = open(&memory).await;
            let lived = live(&driver.desk(), 2).await;
            assert_eq!(lived, Ok(()), "after {after} operations");
            assert_eq!(memory.n_segments(), 1, "after {after} operations");
            driver.close().await;
        }
        assert!((20..OPS_MAX).contains(&n_crashes), "{n_crashes}");
    }
}

#[tokio::test]
async fn who_is_not_answered_is_told_so() {
    let memory = Arc::new(Memory::new());
    let driver = open(&memory).await;
    let desk = driver.desk();
    memory.stop(Some(Stop {
        after: 0,
        does_last: false,
    }));
    let lab = Name::new("lab").expect("a name");
    let (answer, ()) = tokio::join!(desk.request(Request::CreateScope(lab.clone())), async {
        memory.stopped().await;
        driver.close().await;
    });
    assert_eq!(answer, Err(Refusal::Unavailable));
    let asked = desk.ask(|control| Ok(control.has_scope(&lab)));
    assert_eq!(asked, Err(Refusal::Unavailable));
    let answer = desk.request(Request::CreateScope(lab)).await;
    assert_eq!(answer, Err(Refusal::Unavailable));
}
