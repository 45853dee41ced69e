//! Events of more than the eight mebibytes that fit a frame, between small ones: in order, and with the bytes that were written.
//!
//! The client makes none of 16 MiB or more.

use crate::lab::{Lab, Outcome, bytes, check, read, same};

const MIB: usize = 1 << 20;
const SIZES: [usize; 7] = [10, 9 * MIB, 10, 8 * MIB - 8, 8 * MIB, 16 * MIB - 16, 10];

pub(crate) async fn run(lab: Lab) -> Outcome {
    let stream = lab.stream("stream", 2).await?;
    let mut writer = lab.client.create_event_writer(stream.clone());
    for (seed, size) in (0..).zip(SIZES) {
        let sent = writer.write_event_by_routing_key("key".to_owned(), bytes(seed, size));
        sent.await.await??;
    }
    let mut reader = lab.reader("reader", &stream).await;
    let events = read(&mut reader, SIZES.len()).await?;
    for ((seed, size), event) in (0..).zip(SIZES).zip(events) {
        same(&size, &event.len(), &format!("bytes of event {seed}"))?;
        let what = format!("event {seed} is what was written");
        check(bytes(seed, size) == event, &what)?;
    }
    Ok(())
}
