//! A writer goes on while its stream is divided and joined: who reads all epochs finds each event once, those of a key in order.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::lab::{Lab, Outcome, read_all, write};

const KEYS: usize = 10;
/// Of each key: on their way together.
const AT_ONCE: usize = 50;

pub(crate) async fn run(lab: Lab) -> Outcome {
    let stream = lab.stream("stream", 1).await?;
    let mut writer = lab.client.create_event_writer(stream.clone());
    let is_scaled = AtomicBool::new(false);
    let writing = async {
        let mut end = 0;
        let mut is_last = false;
        while !is_last {
            // Some more behind the last scale.
            is_last = is_scaled.load(Ordering::SeqCst);
            write(&mut writer, 0..KEYS, end..end + AT_ONCE).await?;
            end += AT_ONCE;
        }
        Outcome::Ok(end)
    };
    let scaling = async {
        lab.scale(&stream, 3).await?;
        lab.scale(&stream, 1).await?;
        lab.scale(&stream, 4).await?;
        is_scaled.store(true, Ordering::SeqCst);
        Outcome::Ok(())
    };
    let (end, ()) = tokio::try_join!(writing, scaling)?;
    let mut reader = lab.reader("reader", &stream).await;
    read_all(&mut reader, 0..KEYS, 0..end).await
}
