//! Nothing is written to a stream that is sealed; who reads finds what was there before, over all epochs.

use crate::lab::{Lab, Outcome, check, event, key, read_all, within, write};

const KEYS: usize = 10;

pub(crate) async fn run(lab: Lab) -> Outcome {
    let stream = lab.stream("stream", 2).await?;
    let mut writer = lab.client.create_event_writer(stream.clone());
    write(&mut writer, 0..KEYS, 0..50).await?;
    lab.scale(&stream, 3).await?;
    write(&mut writer, 0..KEYS, 50..100).await?;
    let mut early = lab.reader("early", &stream).await;
    read_all(&mut early, 0..KEYS, 0..100).await?;

    let metadata = lab.client.create_stream_meta_client(stream.clone()).await;
    check(!metadata.is_stream_sealed().await, "it is not sealed")?;
    let sealed = lab.controller().seal_stream(&stream).await?;
    check(sealed, "the stream is sealed")?;
    check(metadata.is_stream_sealed().await, "it is sealed")?;

    let late = within("an answer to who writes", async {
        let sent = writer.write_event_by_routing_key(key(0), event(0, 100));
        Ok(sent.await.await)
    })
    .await?;
    check(
        !matches!(late, Ok(Ok(()))),
        "nothing is written to what is sealed",
    )?;
    let mut reader = lab.reader("reader", &stream).await;
    read_all(&mut reader, 0..KEYS, 0..100).await
}
