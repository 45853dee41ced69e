//! All events of a transaction are there when it is committed, none before or without; also over a scale.

use std::ops::Range;
use std::time::Duration;

use pravega_client::event::Transaction;
use pravega_client::event::transactional_writer::TransactionError;
use pravega_client_shared::{Timestamp, TransactionStatus, WriterId};
use tokio::time::sleep;

use crate::lab::{Lab, Outcome, check, event, key, read_all, same, take, within};

const KEYS: usize = 5;

pub(crate) async fn run(lab: Lab) -> Outcome {
    let stream = lab.stream("stream", 2).await?;
    let mut reader = lab.reader("reader", &stream).await;
    let mut writer = lab
        .client
        .create_transactional_event_writer(stream.clone(), WriterId(7))
        .await;

    let mut committed = writer.begin().await?;
    let status = committed.check_status().await?;
    same(&TransactionStatus::Open, &status, "status")?;
    fill(&mut committed, 0..50).await?;
    let none = take(&mut reader).await?;
    check(none.is_empty(), "nothing of an open transaction is read")?;
    committed.commit(Timestamp(1)).await?;
    ended(&committed, TransactionStatus::Committed).await?;
    read_all(&mut reader, 0..KEYS, 0..50).await?;

    let mut aborted = writer.begin().await?;
    fill(&mut aborted, 50..60).await?;
    // The client does not wait for these events when it aborts: they are to be there before.
    let none = take(&mut reader).await?;
    check(none.is_empty(), "nothing of an open transaction is read")?;
    aborted.abort().await?;
    ended(&aborted, TransactionStatus::Aborted).await?;
    let late = aborted.write_event(None, event(0, 60)).await;
    let is_refused = matches!(late, Err(TransactionError::TxnClosed { .. }));
    check(is_refused, "nothing is written to what is aborted")?;

    // Two that are open at once, the second committed first.
    let mut first = writer.begin().await?;
    let mut second = writer.begin().await?;
    fill(&mut first, 100..150).await?;
    fill(&mut second, 50..100).await?;
    let found = writer.get_txn(second.txn_id()).await?;
    second.commit(Timestamp(2)).await?;
    ended(&found, TransactionStatus::Committed).await?;
    first.commit(Timestamp(3)).await?;
    ended(&first, TransactionStatus::Committed).await?;
    read_all(&mut reader, 0..KEYS, 50..150).await?;

    let mut scaled = Vec::new();
    for i in 0..3 {
        let mut begun = writer.begin().await?;
        fill(&mut begun, 150 + 20 * i..160 + 20 * i).await?;
        scaled.push(begun);
    }
    lab.scale(&stream, 3).await?;
    for (i, begun) in scaled.iter_mut().enumerate() {
        fill(begun, 160 + 20 * i..170 + 20 * i).await?;
        begun.commit(Timestamp(4)).await?;
    }
    for begun in &scaled {
        ended(begun, TransactionStatus::Committed).await?;
    }
    lab.write(&stream, 0..KEYS, 210..220).await?;
    read_all(&mut reader, 0..KEYS, 150..220).await
}

async fn fill(transaction: &mut Transaction, numbers: Range<usize>) -> Outcome {
    for number in numbers {
        for k in 0..KEYS {
            transaction
                .write_event(Some(key(k)), event(k, number))
                .await?;
        }
    }
    Ok(())
}

async fn ended(transaction: &Transaction, status: TransactionStatus) -> Outcome {
    within(&format!("{status:?}"), async {
        while transaction.check_status().await? != status {
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    })
    .await
}
