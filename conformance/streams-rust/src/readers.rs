//! A reader stops within what it was given, goes back, leaves; another one goes on there, and waits for what is written meanwhile.

use pravega_client::event::EventReader;
use pravega_client::event::reader::SegmentSlice;

use crate::lab::{Lab, Outcome, event, read_all, same, take, within};

pub(crate) async fn run(lab: Lab) -> Outcome {
    let stream = lab.stream("stream", 1).await?;
    lab.write(&stream, 0..1, 0..100).await?;

    let mut first = lab.reader("first", &stream).await;
    let mut slice = acquire(&mut first).await?;
    next(&mut slice, 0, 30)?;
    first.release_segment(slice).await?;

    let mut slice = acquire(&mut first).await?;
    next(&mut slice, 30, 40)?;
    let place = slice.meta.read_offset;
    next(&mut slice, 40, 60)?;
    first.release_segment_at(slice, place).await?;

    let mut slice = acquire(&mut first).await?;
    next(&mut slice, 40, 50)?;
    first.release_segment(slice).await?;
    first.reader_offline().await?;

    let group = lab.group("first", &stream).await;
    let mut second = group.create_reader("second".to_owned()).await;
    read_all(&mut second, 0..1, 50..100).await?;
    let (read, written) = tokio::join!(
        within("what is written meanwhile", async {
            loop {
                let events = take(&mut second).await?;
                if !events.is_empty() {
                    return Ok(events);
                }
            }
        }),
        lab.write(&stream, 0..1, 100..101)
    );
    written?;
    same(&vec![event(0, 100)], &read?, "what is written meanwhile")
}

async fn acquire(reader: &mut EventReader) -> Outcome<SegmentSlice> {
    within("something to read", async {
        loop {
            if let Some(slice) = reader.acquire_segment().await? {
                return Ok(slice);
            }
        }
    })
    .await
}

fn next(slice: &mut SegmentSlice, first: usize, end: usize) -> Outcome {
    for number in first..end {
        let found = slice.next().map(|event| event.value);
        same(&Some(event(0, number)), &found, "next event")?;
    }
    Ok(())
}
