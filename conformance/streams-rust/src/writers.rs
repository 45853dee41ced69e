//! Three writers at once, with keys and without: each event is there once, those of a key in order.

use crate::lab::{Lab, Outcome, parse, read, read_all, same};

const KEYS: usize = 10;
const EVENTS: usize = 300;

pub(crate) async fn run(lab: Lab) -> Outcome {
    let keyed = lab.stream("keyed", 3).await?;
    tokio::try_join!(
        lab.write(&keyed, 0..KEYS, 0..EVENTS),
        lab.write(&keyed, KEYS..2 * KEYS, 0..EVENTS),
        lab.write(&keyed, 2 * KEYS..3 * KEYS, 0..EVENTS),
    )?;
    let mut reader = lab.reader("keyed", &keyed).await;
    read_all(&mut reader, 0..3 * KEYS, 0..EVENTS).await?;

    let keyless = lab.stream("keyless", 3).await?;
    let mut writer = lab.client.create_event_writer(keyless.clone());
    for number in 0..EVENTS {
        let written = writer.write_event(crate::lab::event(0, number)).await;
        // Every tenth is waited for: others are on their way meanwhile.
        if number % 10 == 0 {
            written.await??;
        }
    }
    writer.flush().await?;
    let mut reader = lab.reader("keyless", &keyless).await;
    let mut numbers = Vec::new();
    for event in read(&mut reader, EVENTS).await? {
        numbers.push(parse(&event)?.1);
    }
    numbers.sort_unstable();
    same(&(0..EVENTS).collect(), &numbers, "events without a key")
}
