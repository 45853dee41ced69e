//! Records that are found by their numbers, which the client keeps with an attribute of the segment that says how long a record is.

use std::pin::pin;

use futures_util::StreamExt as _;
use pravega_client::index::reader::IndexReaderError;
use pravega_client::index::writer::IndexWriterError;
use pravega_client::index::{Fields, IndexReader};

use crate::lab::{Lab, Outcome, check, same, within};

const RECORD: u64 = 1024;

#[derive(Debug, PartialEq, PartialOrd)]
struct Numbers {
    id: u64,
    time: u64,
}

impl Fields for Numbers {
    fn get_field_values(&self) -> Vec<(&'static str, u64)> {
        vec![("id", self.id), ("time", self.time)]
    }

    fn get_record_size() -> usize {
        1024
    }
}

fn numbers(id: u64) -> Numbers {
    Numbers { id, time: 10 * id }
}

pub(crate) async fn run(lab: Lab) -> Outcome {
    let stream = lab.stream("stream", 1).await?;
    let mut writer = lab.client.create_index_writer(stream.clone()).await;
    for id in 0..20 {
        writer.append(numbers(id), text(id)).await?;
    }
    let out_of_order = writer.append(numbers(3), text(3)).await;
    let refused = matches!(out_of_order, Err(IndexWriterError::InvalidFields { .. }));
    check(refused, "numbers grow")?;
    writer
        .append_conditionally(numbers(20), numbers(19), text(20))
        .await?;
    writer.flush().await?;

    let reader = lab.client.create_index_reader(stream.clone()).await;
    same(&(21 * RECORD), &reader.tail_offset().await?, "tail")?;
    read(&reader, 0..21).await?;
    read(&reader, 5..8).await?;
    same(&text(0), &reader.first_record_data().await?, "first")?;
    same(&text(20), &reader.last_record_data().await?, "last")?;
    let place = reader.search_offset(("time", 111)).await?;
    same(&(12 * RECORD), &place, "place of what is at 111 or later")?;
    let absent = reader.search_offset(("id", 21)).await;
    let absent = matches!(absent, Err(IndexReaderError::FieldNotFound { .. }));
    check(absent, "what is not there is not found")?;

    writer.truncate(6 * RECORD).await?;
    same(&(6 * RECORD), &reader.head_offset().await?, "head")?;
    same(&text(6), &reader.first_record_data().await?, "first")?;
    // Another writer goes on behind what is there.
    let mut other = lab.client.create_index_writer(stream).await;
    other.append(numbers(21), text(21)).await?;
    other.flush().await?;
    read(&reader, 6..22).await
}

fn text(id: u64) -> Vec<u8> {
    format!("record {id}").into_bytes()
}

async fn read(reader: &IndexReader, ids: std::ops::Range<u64>) -> Outcome {
    within("records", async {
        let mut records = pin!(reader.read(ids.start * RECORD, ids.end * RECORD)?);
        for id in ids {
            let record = records.next().await.ok_or("there are fewer records")??;
            same(&text(id), &record, "record")?;
        }
        Ok(())
    })
    .await
}
