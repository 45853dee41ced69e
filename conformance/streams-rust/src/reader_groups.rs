//! Groups read a stream from its head, its tail and a cut, each all of it; a stream is truncated at a group's cut; groups list their readers and are deleted.

use pravega_client::event::ReaderGroup;
use pravega_client::event::reader_group::{
    ReaderGroupConfig, ReaderGroupConfigBuilder, StreamCutV1, StreamCutVersioned,
};
use pravega_client_shared::{Reader, ScopedSegment, ScopedStream, Segment, StreamCut};

use crate::lab::{Lab, Outcome, check, read_all, same};

const KEYS: usize = 6;

pub(crate) async fn run(lab: Lab) -> Outcome {
    let stream = lab.stream("stream", 3).await?;
    lab.write(&stream, 0..KEYS, 0..50).await?;
    let head = lab.group("head", &stream).await;
    let mut reader = head.create_reader("reader".to_owned()).await;
    read_all(&mut reader, 0..KEYS, 0..50).await?;
    same(
        &vec![Reader::from("reader".to_owned())],
        &head.list_readers().await,
        "readers",
    )?;
    reader.reader_offline().await?;
    same(&vec![], &head.list_readers().await, "readers")?;
    let cut = head.get_streamcut().await;
    same(&3, &cut.segment_offset_map.len(), "places of the cut")?;

    let tail = ReaderGroupConfigBuilder::default()
        .read_from_tail_of_stream(stream.clone())
        .build();
    let tail = group(&lab, "tail", tail).await;
    lab.write(&stream, 0..KEYS, 50..80).await?;
    let mut reader = tail.create_reader("reader".to_owned()).await;
    read_all(&mut reader, 0..KEYS, 50..80).await?;

    let from_cut = ReaderGroupConfigBuilder::default()
        .read_from_stream(stream.clone(), places(&stream, &cut))
        .build();
    let from_cut = group(&lab, "cut", from_cut).await;
    let mut reader = from_cut.create_reader("reader".to_owned()).await;
    read_all(&mut reader, 0..KEYS, 50..80).await?;

    let other = lab.group("other", &stream).await;
    let mut reader = other.create_reader("reader".to_owned()).await;
    read_all(&mut reader, 0..KEYS, 0..80).await?;

    let truncated = lab.controller().truncate_stream(&cut).await?;
    check(truncated, "the stream is truncated")?;
    let mut rest = lab.reader("rest", &stream).await;
    read_all(&mut rest, 0..KEYS, 50..80).await?;

    let scope = lab.scope.clone();
    lab.client
        .delete_reader_group(scope, "other".to_owned())
        .await?;
    check(
        reader.acquire_segment().await.is_err(),
        "who reads for a group that is deleted is refused",
    )
}

async fn group(lab: &Lab, name: &str, config: ReaderGroupConfig) -> ReaderGroup {
    lab.client
        .create_reader_group_with_config(lab.scope.clone(), name.to_owned(), config)
        .await
}

fn places(stream: &ScopedStream, cut: &StreamCut) -> StreamCutVersioned {
    let place = |(number, offset): (&i64, &i64)| {
        let segment = Segment::from(*number);
        let segment = ScopedSegment::new(stream.scope.clone(), stream.stream.clone(), segment);
        (segment, *offset)
    };
    let places = cut.segment_offset_map.iter().map(place).collect();
    StreamCutVersioned::V1(StreamCutV1::new(stream.clone(), places))
}
