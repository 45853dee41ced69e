//! Scopes and streams: made, listed, tagged, changed, truncated, sealed, deleted; what cannot be is refused.

use std::collections::HashMap;
use std::pin::pin;

use futures_util::StreamExt as _;
use pravega_client_shared::{Retention, RetentionType, ScopedStream, StreamCut};
use pravega_controller_client::paginator::{list_scopes, list_streams, list_streams_for_tag};

use crate::lab::{Lab, Outcome, check, read_all, same};

pub(crate) async fn run(lab: Lab) -> Outcome {
    let controller = lab.controller();
    let scope = &lab.scope;
    check(!controller.create_scope(scope).await?, "the scope is there")?;
    check(controller.check_scope_exists(scope).await?, "it exists")?;
    let mut scopes = pin!(list_scopes(controller));
    let mut listed = false;
    while let Some(found) = scopes.next().await {
        listed |= found? == *scope;
    }
    check(listed, "the scope is listed")?;

    let mut made = Vec::new();
    for n in 0..30 {
        made.push(lab.stream(&format!("stream-{n}"), 1).await?);
    }
    let mut tagged = lab.configuration("tagged", 2);
    tagged.tags = Some(vec!["blue".to_owned(), "red".to_owned()]);
    let stream = tagged.scoped_stream.clone();
    check(controller.create_stream(&tagged).await?, "it is new")?;
    check(!controller.create_stream(&tagged).await?, "it is not new")?;
    made.push(stream.clone());
    check(controller.check_stream_exists(&stream).await?, "it exists")?;
    let found = controller.get_stream_configuration(&stream).await?;
    same(&tagged, &found, "configuration")?;
    same(&sorted(made), &list(&lab, None).await?, "streams")?;
    let red = list(&lab, Some("red")).await?;
    same(&vec![stream.clone()], &red, "streams with a tag")?;

    tagged.tags = Some(vec!["blue".to_owned(), "green".to_owned()]);
    tagged.retention = Retention {
        retention_type: RetentionType::Size,
        retention_param: 1 << 30,
    };
    check(controller.update_stream(&tagged).await?, "it is changed")?;
    let found = controller.get_stream_configuration(&stream).await?;
    same(&tagged, &found, "configuration")?;
    let tags = controller.get_stream_tags(&stream).await?;
    same(&tagged.tags, &tags, "tags")?;
    same(
        &vec![],
        &list(&lab, Some("red")).await?,
        "streams with a tag",
    )?;

    truncated(&lab).await?;

    let refused = controller.delete_stream(&stream).await.is_err();
    check(refused, "what is not sealed is not deleted")?;
    let refused = controller.delete_scope(scope).await.is_err();
    check(refused, "a scope with streams is not deleted")?;
    for stream in list(&lab, None).await? {
        check(controller.seal_stream(&stream).await?, "it is sealed")?;
        check(controller.delete_stream(&stream).await?, "it is deleted")?;
    }
    let exists = controller.check_stream_exists(&stream).await?;
    check(!exists, "the stream is gone")?;
    check(controller.delete_scope(scope).await?, "it is deleted")?;
    let exists = controller.check_scope_exists(scope).await?;
    check(!exists, "the scope is gone")
}

/// The streams that are ours: without those that the server keeps itself.
async fn list(lab: &Lab, tag: Option<&str>) -> Outcome<Vec<ScopedStream>> {
    let scope = lab.scope.clone();
    let mut streams = match tag {
        None => list_streams(scope, lab.controller()).boxed(),
        Some(tag) => list_streams_for_tag(scope, tag.to_owned(), lab.controller()).boxed(),
    };
    let mut found = Vec::new();
    while let Some(stream) = streams.next().await {
        let stream = stream?;
        if !stream.stream.name.starts_with('_') {
            found.push(stream);
        }
    }
    Ok(sorted(found))
}

fn sorted(mut streams: Vec<ScopedStream>) -> Vec<ScopedStream> {
    streams.sort_by(|a, b| a.stream.name.cmp(&b.stream.name));
    streams
}

async fn truncated(lab: &Lab) -> Outcome {
    let stream = lab.stream("truncated", 1).await?;
    lab.write(&stream, 0..1, 0..10).await?;
    let tail = lab.client.create_byte_reader(stream.clone()).await;
    let tail = i64::try_from(tail.current_tail().await?)?;
    lab.write(&stream, 0..1, 10..20).await?;
    let cut = StreamCut::new(stream.clone(), HashMap::from([(0, tail)]));
    check(
        lab.controller().truncate_stream(&cut).await?,
        "it is truncated",
    )?;
    let head = lab.controller().get_head_segments(&stream).await?;
    same(&vec![tail], &head.into_values().collect(), "head")?;
    let mut reader = lab.reader("rest", &stream).await;
    read_all(&mut reader, 0..1, 10..20).await
}
